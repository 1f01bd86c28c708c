"""Several models on the same labelled rows, as one result that JSON can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError, TableError
from finsignal.metrics import to_codes
from finsignal.sentiment.evaluate.answering import answers_in_words, measure_answers
from finsignal.sentiment.evaluate.changing import measure_changes
from finsignal.sentiment.evaluate.comparing import compare_pair
from finsignal.sentiment.evaluate.curves import coverage_curve, list_thresholds, reliability_curve
from finsignal.sentiment.evaluate.figures import Classifier, evaluate_probabilities, is_target_aware, predict
from finsignal.sentiment.evaluate.floors import fit_majority, fit_tfidf
from finsignal.sentiment.evaluate.slicing import measure_slices
from finsignal.sentiment.prompt import clean, normalise
from finsignal.tables import LABELLED, LABELS

FORMAT = 1
UNTOLD = ", not told the target"
REPEATED = 0.01  # share of the rows, above which repeats are worth a word
FEW = 30  # rows, below which a bootstrap interval is too narrow to be read


@dataclass(frozen=True)
class Untold:
    """A model that is not told the target, whatever it knows of targets."""

    model: Classifier
    target_aware: bool = False

    @property
    def name(self) -> str:
        return self.model.name + UNTOLD

    def predict_proba(
        self, texts: Sequence[str], targets: Sequence[str] | None = None, *, progress: bool = False
    ) -> np.ndarray:
        """The model's probabilities of the texts as a whole."""
        return self.model.predict_proba(texts, progress=progress)


def run_evaluation(
    models: Sequence[Classifier],
    labelled: pd.DataFrame,
    *,
    name: str = "",
    train: pd.DataFrame | None = None,
    untold: bool = False,
    bootstrap: int = 1000,
    changed_rows: int = 500,
    generate: bool = False,
    seed: int,
    progress: bool = False,
) -> dict[str, Any]:
    """What each model makes of the labelled rows, and which of them differ by more than luck; ready for JSON.

    models come first in `models`, in the order given; with `untold` each target-aware one is followed by itself as it
    reads when it is not told the target; then the two floors, fitted on `train` where it is given. Each
    has the figures of `evaluate_probabilities`, `reliability`, `coverage`, `thresholds`, `slices`, and `robustness`
    over at most `changed_rows` rows drawn at random, the same for all (0: none). With `generate` each model that
    answers in words has `answers` too, of `answering.measure_answers`: what it writes beside what its probabilities
    say. pairs: `compare_pair` of the first model with every other, then of the others. notes: what a reader must know
    first. A figure that is not defined is None and has its reason.

    Raises TableError without rows, ConfigError without a model, where one is given twice, or where none could generate.
    """
    LABELLED.check(labelled)
    if not len(labelled):
        raise TableError(f"{name or 'labelled'}: no rows to evaluate on.")
    floors = [] if train is None else [fit_tfidf(train), fit_majority(train)]
    told = [[model, Untold(model)] if untold and is_target_aware(model) else [model] for model in models]
    given: list[Classifier] = [model for both in told for model in both]
    classifiers: list[Classifier] = [*given, *floors]
    names = [model.name for model in classifiers]
    if not models:
        raise ConfigError("evaluate: no model was given; expected one or more.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"evaluate: {twice} was given twice; expected models that differ.")
    if generate and not any(answers_in_words(model) for model in models):
        raise ConfigError(
            f"evaluate: answers were to be generated, but {', '.join(model.name for model in models)} reads no words; "
            "expected a model that was tuned with a head of kind 'words'."
        )
    codes = to_codes(labelled["label"].to_numpy())
    texts, targets = labelled["text"].tolist(), labelled["target"].tolist()
    drawn = np.random.default_rng(seed).permutation(len(codes))[:changed_rows]
    drawn.sort()
    how = {"bootstrap": bootstrap, "seed": seed}
    found = [predict(model, texts, targets, progress=progress) for model in classifiers]
    rows = [
        {
            "name": model.name,
            "kind": "model" if at < len(given) else "floor",
            "target_aware": is_target_aware(model),
            **evaluate_probabilities(found[at], codes, **how),
            "reliability": reliability_curve(found[at], codes),
            "coverage": coverage_curve(found[at], codes),
            "thresholds": list_thresholds(found[at], codes),
            "slices": measure_slices(found[at], codes, labelled, **how),
            "robustness": measure_changes(
                model,
                found[at][drawn],
                codes[drawn],
                labelled.iloc[drawn].reset_index(drop=True),
                progress=progress,
                **how,
            )
            if len(drawn)
            else [],
        }
        for at, model in enumerate(classifiers)
    ]
    for at, model in enumerate(given if generate else ()):
        if answers_in_words(model):  # an Untold has no prompt
            rows[at]["answers"] = measure_answers(model, texts, targets, codes, found[at], progress=progress)
    pairs = [
        {"first": names[a], "second": names[b], **compare_pair(codes, found[a], found[b], **how)}
        for a, b in combinations(range(len(names)), 2)
    ]
    return {
        "format": FORMAT,
        "name": name,
        "data": {
            "rows": len(codes),
            "texts": int(labelled["text"].map(normalise).nunique()),
            "with_target": int((labelled["target"] != "").sum()),
            "labels": dict(zip(LABELS, np.bincount(codes, minlength=len(LABELS)).tolist(), strict=True)),
            "sources": labelled["source"].value_counts().to_dict(),
        },
        "notes": [*_list_notes(labelled, rows), *_list_floor_notes(labelled, train)],
        "models": rows,
        "pairs": pairs,
        "settings": {"bootstrap": bootstrap, "seed": seed, "changed_rows": len(drawn)},
    }


def _list_notes(labelled: pd.DataFrame, rows: Sequence[dict[str, Any]]) -> list[str]:
    size = len(labelled)
    notes = []
    if size < FEW:
        notes.append(f"{_rows(size)} alone: figures of so few rows say little, and their intervals are too narrow.")
    absent = [label for label, count in rows[0]["labels"].items() if not count]
    if absent:
        notes.append(
            f"No row is {' or '.join(absent)}: recall is not defined there, and the macro F1 is a mean over the labels "
            "that are present or predicted."
        )
    normal = labelled["text"].map(normalise)
    keys = pd.DataFrame({"text": normal, "target": labelled["target"].map(normalise), "label": labelled["label"]})
    filled = keys[normal != ""]
    labels = filled.groupby(["text", "target"])["label"].transform("nunique")
    if (labels > 1).any():
        notes.append(
            f"{_rows(int((labels > 1).sum()))} contradict another: the same text and target under two labels. No model "
            "can be right on all of them."
        )
    repeats = int(filled.duplicated().sum())
    if repeats > REPEATED * size:
        notes.append(f"{_rows(repeats, 'repeat')} another: each repeat counts again, and makes intervals too narrow.")
    empty = int((labelled["text"].map(clean) == "").sum())
    if empty:
        notes.append(f"{_rows(empty, 'hold')} nothing to read once links are gone; the label counts all the same.")
    aimed = (labelled["target"] != "").to_numpy()
    blind = [
        row["name"]
        for row in rows
        if not row["target_aware"] and row["kind"] == "model" and not row["name"].endswith(UNTOLD)
    ]
    if aimed.any() and blind:
        notes.append(
            f"{_rows(int(aimed.sum()), 'ask')} about one company of the text; {', '.join(blind)} cannot be told which."
        )
    return notes


def _list_floor_notes(labelled: pd.DataFrame, train: pd.DataFrame | None) -> list[str]:
    if train is None:
        return []
    normal = labelled["text"].map(normalise)
    seen = int((normal.isin(set(train["text"].map(normalise))) & (normal != "")).sum())
    if not seen:
        return []
    return [f"Of the texts measured, {seen:,} stand in the floors' training rows, which flatters TF-IDF."]


def _rows(count: int, verb: str = "") -> str:
    one = count == 1
    return f"{count:,} row{'' if one else 's'}" + (f" {verb}{'s' if one else ''}" if verb else "")
