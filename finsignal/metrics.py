"""Numbers about results: labels and probabilities to a number, returns to a number. numpy and pandas only."""

from __future__ import annotations

import numpy as np

from finsignal.tables import LABELS

# --- labels -> number ----------------------------------------------------------------------------------------------


def to_codes(labels: np.ndarray) -> np.ndarray:
    """Positions in LABELS, int64, of an array of label names. Raises KeyError at an unknown name."""
    position = {name: code for code, name in enumerate(LABELS)}
    return np.array([position[str(label)] for label in labels], dtype=np.int64)


def confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts, shape (3, 3): row = true code, column = predicted code."""
    size = len(LABELS)
    return np.bincount(np.asarray(truth) * size + np.asarray(predicted), minlength=size * size).reshape(size, size)


def accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of rows whose largest probability is the true code, a fraction."""
    return float((probabilities.argmax(axis=1) == truth).mean())


def f1_by_label(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """F1 of each label, shape (3,); 0 where a label is neither present nor predicted."""
    table = confusion(truth, probabilities.argmax(axis=1))
    hits, rows = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    return np.where(rows > 0, 2 * hits / np.maximum(rows, 1), 0.0)


def macro_f1(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Unweighted mean of F1 over the labels that are present or predicted."""
    table = confusion(truth, probabilities.argmax(axis=1))
    used = (table.sum(axis=0) + table.sum(axis=1)) > 0
    return float(f1_by_label(truth, probabilities)[used].mean())


def weighted_f1(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of F1 over the labels, weighted by how often each is true."""
    share = np.bincount(truth, minlength=len(LABELS)) / len(truth)
    return float((share * f1_by_label(truth, probabilities)).sum())


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of minus the natural logarithm of the true label's probability (uniform guessing: 1.0986).

    Probabilities are raised to 1e-15 at least, as scikit-learn does for doubles, so that one sure mistake is finite.
    """
    chosen = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(chosen, 1e-15, 1.0)).mean())


def calibration_error(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the confidence, in bins of equal mass: mean |accuracy - confidence|, a fraction.

    Rows are sorted by their largest probability and cut into `bins` groups of as equal a size as can be; empty groups
    do not count. Guo et al. 2017, arXiv:1706.04599, with equal mass as in Nguyen and O'Connor 2015, arXiv:1508.05154.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    order = np.argsort(confidence, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    return float(sum(len(g) * abs(right[g].mean() - confidence[g].mean()) for g in groups) / len(truth))
