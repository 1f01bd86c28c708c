"""Two floors below which a model is worth nothing: the shares of the labels, and TF-IDF on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.errors import TableError, require
from finsignal.metrics import to_codes
from finsignal.sentiment.prompt import to_input
from finsignal.tables import LABELS


@dataclass(frozen=True)
class Floor:
    """A classifier that a few seconds give; it knows no targets."""

    name: str
    run: Callable[[Sequence[str]], np.ndarray]
    target_aware: bool = False

    def predict_proba(
        self, texts: Sequence[str], targets: Sequence[str] | None = None, *, progress: bool = False
    ) -> np.ndarray:
        """Probabilities, float64 (n, 3), in the order of LABELS."""
        return self.run(texts)


def fit_majority(train: pd.DataFrame) -> Floor:
    """The shares of the labels among the training rows, whatever the text. Raises TableError without rows."""
    if not len(train):
        raise TableError("floor: no rows to learn from.")
    share = np.bincount(to_codes(train["label"].to_numpy()), minlength=len(LABELS)) / len(train)
    return Floor("majority", lambda texts: np.tile(share, (len(texts), 1)))


def fit_tfidf(train: pd.DataFrame) -> Floor:
    """Logistic regression on TF-IDF of words and word pairs, trained on `train` alone, texts cleaned as for the model.

    Raises TableError where there is nothing to learn: one label alone, or no word that stands in two texts.
    """
    text = require("sklearn.feature_extraction.text", extra="train", work="the TF-IDF floor")
    linear = require("sklearn.linear_model", extra="train", work="the TF-IDF floor")
    found = sorted(set(train["label"]))
    if len(found) < 2:
        raise TableError(f"floor: the training rows have the labels {found} alone; expected two or three.")
    features = text.TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    classifier = linear.LogisticRegression(C=10.0, max_iter=2000)
    try:
        seen = features.fit_transform([to_input("", row) for row in train["text"]])
    except ValueError as err:
        raise TableError(f"floor: none of {len(train)} training texts shares a word with another ({err}).") from err
    classifier.fit(seen, to_codes(train["label"].to_numpy()))

    def run(texts: Sequence[str]) -> np.ndarray:
        out = np.zeros((len(texts), len(LABELS)))
        if len(texts):
            out[:, classifier.classes_] = classifier.predict_proba(features.transform(list(texts)))
        return out

    return Floor("TF-IDF + LR", run)


def majority_floor(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Probabilities (n, 3) of `fit_majority` for the test rows."""
    return fit_majority(train).predict_proba(test["text"].tolist())


def tfidf_floor(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Probabilities (n, 3) of `fit_tfidf` for the test rows."""
    return fit_tfidf(train).predict_proba([to_input("", row) for row in test["text"]])
