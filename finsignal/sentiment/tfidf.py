"""Logistic regression on words: fitted with scikit-learn, kept as plain JSON, scored with numpy alone.

The least that a bought or tuned model must beat, in a folder that scores like any other: it needs no base, no torch,
no scikit-learn and no pickle to be read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finsignal.errors import ModelError, TableError, require
from finsignal.sentiment.folder import LABELS, TFIDF, read_card, read_verified, to_order
from finsignal.sentiment.prompt import to_input
from finsignal.sentiment.score import Model

if TYPE_CHECKING:
    import pandas as pd

    from finsignal.sentiment.recipe import Tuning

WORK = "fitting TF-IDF with logistic regression"
INVERSE_PENALTY = 10.0  # scikit-learn's C
TOKEN = re.compile(r"\b\w\w+\b")


@dataclass(frozen=True)
class Regression:
    """What was fitted. terms: column of each word and word pair. idf: (terms,). coefficients: (3, terms) and intercept:
    (3,), in the order of LABELS; all float64."""

    terms: Mapping[str, int] = field(repr=False)
    idf: np.ndarray = field(repr=False)
    coefficients: np.ndarray = field(repr=False)
    intercept: np.ndarray

    def logits(self, texts: Iterable[str]) -> np.ndarray:
        """Logits, float64 (n, 3), of cleaned texts; of a text without a known word those of no word at all.

        A word's weight is (1 + log of its count) times its idf, and each text's weights have length 1 together.
        """
        return np.array([self._read(text) for text in texts]).reshape(-1, len(LABELS))

    def _read(self, text: str) -> np.ndarray:
        words = TOKEN.findall(text.lower())
        counts = Counter(words + [f"{first} {second}" for first, second in pairwise(words)])
        known = {self.terms[term]: count for term, count in counts.items() if term in self.terms}
        if not known:
            return self.intercept
        columns = np.array(list(known))
        weights = (1 + np.log(np.array(list(known.values()), dtype=np.float64))) * self.idf[columns]
        return self.coefficients[:, columns] @ (weights / np.sqrt(weights @ weights)) + self.intercept


@dataclass(frozen=True)
class TfidfModel(Model):
    """A loaded folder of kind "tfidf"; `session` is its Regression. It reads a text as a whole, without its target."""

    def _run(self, pairs: list[Any], *, progress: bool) -> np.ndarray:
        return self.session.logits(pairs)[:, list(self.order)]


def fit(rows: pd.DataFrame, tuning: Tuning, *, weight: Mapping[str, float] | None = None) -> Regression:
    """Multinomial logistic regression on TF-IDF of words and word pairs that stand in two texts or more.

    rows: labelled, each text cleaned as for scoring; a row's target is not read. weight: of each source's rows, 1 where
    none is given. Of the tuning it heeds class_weights and oversample (with the seed).

    Raises TableError where a label has no row, or no word stands in two texts.
    """
    from finsignal.metrics import to_codes
    from finsignal.sentiment.tuning.losses import oversample, row_weights

    features = require("sklearn.feature_extraction.text", extra="train", work=WORK)
    linear = require("sklearn.linear_model", extra="train", work=WORK)
    absent = [label for label in LABELS if label not in set(rows["label"])]
    if absent:
        raise TableError(f"rows: none of {len(rows)} is {absent[0]}; expected rows of each of {list(LABELS)}.")
    codes = to_codes(rows["label"].to_numpy())
    sources = np.array([(weight or {}).get(source, 1.0) for source in rows["source"]])
    weights = row_weights(codes, sources, tuning.class_weights)
    vectoriser = features.TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    try:
        seen = vectoriser.fit_transform([to_input("", text) for text in rows["text"]])
    except ValueError as err:
        raise TableError(f"rows: none of {len(rows)} texts shares a word with another ({err}).") from err
    drawn = oversample(codes, tuning.seed) if tuning.oversample else np.arange(len(codes))
    fitted = linear.LogisticRegression(C=INVERSE_PENALTY, max_iter=2000)
    fitted.fit(seen[drawn], codes[drawn], sample_weight=weights[drawn])
    terms = {str(term): int(column) for term, column in vectoriser.vocabulary_.items()}
    return Regression(terms, vectoriser.idf_, fitted.coef_, fitted.intercept_)


def write_tfidf(regression: Regression, folder: Path) -> list[str]:
    """The names of the files written into a model folder, every number to the last bit; card.json is the caller's."""
    content = {
        "terms": sorted(regression.terms, key=lambda term: regression.terms[term]),
        "idf": regression.idf.tolist(),
        "coefficients": regression.coefficients.tolist(),
        "intercept": regression.intercept.tolist(),
    }
    (folder / TFIDF).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return [TFIDF]


def load_tfidf_model(folder: Path | str, *, label_map: Mapping[str, str] | None = None) -> TfidfModel:
    """The model of a folder whose card has kind "tfidf": tfidf.json, read once, verified, and those bytes parsed.

    Raises ModelError where the folder is no such model, was altered, or its numbers do not fit together.
    """
    folder = Path(folder)
    card = read_card(folder)
    if card.get("kind") != "tfidf":
        raise ModelError(f"{folder}: kind is {card.get('kind')!r}; expected 'tfidf'. Use load_model for any kind.")
    if card.get("target_aware", False):
        raise ModelError(f"{folder}: card.json says target_aware, which a model of kind tfidf cannot be.")
    order = to_order([str(name) for name in card["labels"]], label_map, folder)
    regression = _to_regression(read_verified(folder, card["files"], keep=(TFIDF,))[TFIDF], folder / TFIDF)
    settings = {
        "kind": card["kind"],
        "files": {TFIDF: card["files"][TFIDF]},
        "labels": list(card["labels"]),
        "temperature": card["temperature"],
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return TfidfModel(
        name=f"{card['name']}@{digest[:12]}",
        temperature=float(card["temperature"]),
        card=card,
        order=order,
        session=regression,
        tokenizer=None,
        digest=digest,
    )


def _to_regression(content: bytes, path: Path) -> Regression:
    try:
        found = json.loads(content)
        terms = {str(term): column for column, term in enumerate(found["terms"])}
        idf, coefficients, intercept = (
            np.array(found[key], dtype=np.float64) for key in ("idf", "coefficients", "intercept")
        )
    except (KeyError, TypeError, ValueError) as err:
        raise ModelError(f"{path}: it holds no terms, idf, coefficients and intercept ({err}).") from err
    shapes = {"idf": idf.shape, "coefficients": coefficients.shape, "intercept": intercept.shape}
    known = len(found["terms"])
    expected = {"idf": (known,), "coefficients": (len(LABELS), known), "intercept": (len(LABELS),)}
    if shapes != expected or len(terms) != known:
        raise ModelError(f"{path}: {len(terms)} distinct terms have {shapes}; expected {expected}.")
    if not all(np.isfinite(part).all() for part in (idf, coefficients, intercept)):
        raise ModelError(f"{path}: not all of its numbers are finite.")
    return Regression(terms, idf, coefficients, intercept)
