"""How good the probabilities are: figures with bootstrap intervals, beside two floors trained on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import TableError, require
from finsignal.metrics import accuracy, calibration_error, confusion, log_loss, macro_f1, to_codes, weighted_f1
from finsignal.sentiment.prompt import to_input
from finsignal.sentiment.score import Model
from finsignal.tables import LABELLED, LABELS

FIGURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "log_loss": log_loss,
    "calibration_error": calibration_error,
}


def evaluate_model(
    model: Model, labelled: pd.DataFrame, *, bootstrap: int = 1000, seed: int, progress: bool = False
) -> dict[str, Any]:
    """The figures of `evaluate_probabilities` for a model on labelled rows, and the model's name."""
    LABELLED.check(labelled)
    probabilities = model.predict_proba([to_input("", text) for text in labelled["text"]], progress=progress)
    figures = evaluate_probabilities(
        probabilities, to_codes(labelled["label"].to_numpy()), bootstrap=bootstrap, seed=seed
    )
    return {"model": model.name, **figures}


def evaluate_probabilities(
    probabilities: np.ndarray, codes: np.ndarray, *, bootstrap: int = 1000, seed: int
) -> dict[str, Any]:
    """n, each figure with its 95 % interval, the count of each label, and the confusion counts.

    A figure is {"value", "low", "high"}: low and high are the 2.5 and 97.5 percentiles over `bootstrap` resamples of
    the rows (0: no interval, both None). The calibration error of a resample is biased upwards, for noise within a bin
    adds to it: read its interval as a spread, not as a test. confusion: one list a true label, of counts by predicted
    label, in the order of LABELS.

    Raises TableError without rows.
    """
    if len(codes) == 0:
        raise TableError("labelled: no rows to evaluate on.")
    draw = np.random.default_rng(seed)
    samples = [draw.integers(0, len(codes), len(codes)) for _ in range(bootstrap)]
    out: dict[str, Any] = {"n": len(codes)}
    for name, figure in FIGURES.items():
        low, high = None, None
        if samples:
            values = [figure(codes[rows], probabilities[rows]) for rows in samples]
            low, high = (float(value) for value in np.percentile(values, [2.5, 97.5]))
        out[name] = {"value": figure(codes, probabilities), "low": low, "high": high}
    out["labels"] = dict(zip(LABELS, np.bincount(codes, minlength=len(LABELS)).tolist(), strict=True))
    out["confusion"] = confusion(codes, probabilities.argmax(axis=1)).tolist()
    return out


def majority_floor(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Probabilities (n, 3) for the test rows: the shares of the labels among the training rows, whatever the text."""
    share = np.bincount(to_codes(train["label"].to_numpy()), minlength=len(LABELS)) / len(train)
    return np.tile(share, (len(test), 1))


def tfidf_floor(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Probabilities (n, 3) for the test rows by logistic regression on TF-IDF of words and word pairs.

    Trained on `train` alone, texts cleaned as for the model: what a few seconds without any pretraining give.
    """
    text = require("sklearn.feature_extraction.text", extra="train", work="the TF-IDF floor")
    linear = require("sklearn.linear_model", extra="train", work="the TF-IDF floor")
    features = text.TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    classifier = linear.LogisticRegression(C=10.0, max_iter=2000)
    seen = features.fit_transform([to_input("", row) for row in train["text"]])
    classifier.fit(seen, to_codes(train["label"].to_numpy()))
    out = np.zeros((len(test), len(LABELS)))
    out[:, classifier.classes_] = classifier.predict_proba(
        features.transform([to_input("", row) for row in test["text"]])
    )
    return out
