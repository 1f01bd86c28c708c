"""Figures of probabilities against true labels, each with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from finsignal.errors import ModelError, TableError
from finsignal.metrics import (
    accuracy,
    brier_score,
    calibration_error,
    confusion,
    count_scores,
    log_loss,
    macro_f1,
    matthews,
    to_codes,
    weighted_f1,
)
from finsignal.sentiment.evaluate.curves import wilson
from finsignal.sentiment.prompt import to_input
from finsignal.tables import LABELLED, LABELS

FIGURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "log_loss": log_loss,
    "calibration_error": calibration_error,
}
SCALARS = {**FIGURES, "mcc": matthews, "brier": brier_score}
WHY_NOT = {
    "mcc": "all rows have one label, or all are predicted as one",
    "precision": "never predicted",
    "recall": "no row has this label",
    "f1": "no row has this label and none is predicted as it",
}
BINS = 15  # of the calibration error
CELLS = 2_000_000  # numbers of one block of resamples: 16 MB
SHARE_DEFINED = 0.9  # of the resamples must define a figure, else its interval would be of a chosen few


class Classifier(Protocol):
    """What evaluation asks of a model. name: tells its weights apart. Probabilities: (n, 3) in the order of LABELS."""

    @property
    def name(self) -> str: ...

    @property
    def target_aware(self) -> bool:
        """Whether `targets`, the company that each sentiment is about ("" none), change what it says."""

    def predict_proba(
        self, texts: Sequence[str], targets: Sequence[str] | None = None, *, progress: bool = False
    ) -> np.ndarray: ...


def is_target_aware(model: Classifier) -> bool:
    """Whether the model may be asked about one company; one that says nothing of it may not."""
    return bool(getattr(model, "target_aware", False))


def predict(model: Classifier, texts: Sequence[str], targets: Sequence[str], *, progress: bool = False) -> np.ndarray:
    """The model's probabilities, float64 (n, 3), of texts cleaned as in training; targets where it knows what they are.

    Raises ModelError where they are no probabilities: another shape, not finite, outside 0 to 1, or not summing to 1.
    """
    inputs = [to_input("", text) for text in texts]
    if is_target_aware(model):
        found = model.predict_proba(inputs, list(targets), progress=progress)
    else:
        found = model.predict_proba(inputs, progress=progress)
    found = np.asarray(found, dtype=float)
    if found.shape != (len(inputs), len(LABELS)):
        raise ModelError(f"{model.name}: gave probabilities of shape {found.shape}; expected ({len(inputs)}, 3).")
    if len(found) and not (np.abs(found.sum(axis=1) - 1).max() < 1e-4 and found.min() >= 0):  # false for NaN too
        row = int(np.argmax(~((np.abs(found.sum(axis=1) - 1) < 1e-4) & (found >= 0).all(axis=1))))
        raise ModelError(f"{model.name}: row {row} has {found[row].tolist()}; expected probabilities that sum to 1.")
    return found


def evaluate_model(
    model: Classifier, labelled: pd.DataFrame, *, bootstrap: int = 1000, seed: int, progress: bool = False
) -> dict[str, Any]:
    """The figures of `evaluate_probabilities` for a model on labelled rows, and the model's name."""
    LABELLED.check(labelled)
    texts, targets = (labelled[column].tolist() for column in ("text", "target"))
    figures = evaluate_probabilities(
        predict(model, texts, targets, progress=progress),
        to_codes(labelled["label"].to_numpy()),
        bootstrap=bootstrap,
        seed=seed,
    )
    return {"model": model.name, **figures}


def evaluate_probabilities(
    probabilities: np.ndarray, codes: np.ndarray, *, bootstrap: int = 1000, seed: int
) -> dict[str, Any]:
    """n, each of SCALARS with its 95 % interval, precision, recall and F1 by label, label counts, confusion counts.

    A figure is {"value", "low", "high"}: low and high are the 2.5 and 97.5 percentiles over `bootstrap` resamples of
    the rows (0: no interval, both None); those of precision and recall, which are shares of rows, are Wilson's. One
    that is not defined is None, and has a "reason". The calibration error of a resample is biased upwards, for noise
    within a bin adds to it: read its interval as a spread, not as a test.
    by_label: {label: {"rows", "precision", "recall", "f1"}}. confusion: one list a true label, of counts by predicted
    label, in the order of LABELS.

    Raises TableError without rows.
    """
    if len(codes) == 0:
        raise TableError("labelled: no rows to evaluate on.")
    table = confusion(codes, probabilities.argmax(axis=1))
    samples = resample_figures(probabilities, codes, bootstrap=bootstrap, seed=seed)
    out: dict[str, Any] = {"n": len(codes)}
    for name, figure in SCALARS.items():
        out[name] = to_figure(figure(codes, probabilities), samples[name], WHY_NOT.get(name, ""))
    counts, predicted = table.sum(axis=1).tolist(), probabilities.argmax(axis=1)
    out["by_label"] = {
        label: {
            "rows": counts[code],
            "precision": to_share(codes[predicted == code] == code, WHY_NOT["precision"]),
            "recall": to_share(predicted[codes == code] == code, WHY_NOT["recall"]),
            "f1": to_figure(
                float(count_scores(table)["f1"][code]), samples["f1"][:, code] if bootstrap else None, WHY_NOT["f1"]
            ),
        }
        for code, label in enumerate(LABELS)
    }
    out["labels"] = dict(zip(LABELS, counts, strict=True))
    out["confusion"] = table.tolist()
    return out


def to_figure(value: float, samples: np.ndarray | None, reason: str = "") -> dict[str, Any]:
    """A value with its 95 % interval; None with the reason where the value, or too many of the samples, are NaN."""
    out: dict[str, Any] = {"value": None if np.isnan(value) else float(value), "low": None, "high": None}
    if out["value"] is None:
        return out | {"reason": reason}
    if samples is not None and len(samples):
        defined = samples[~np.isnan(samples)]
        if len(defined) >= SHARE_DEFINED * len(samples):
            out["low"], out["high"] = (float(edge) for edge in np.percentile(defined, [2.5, 97.5]))
        else:
            out["reason"] = f"no interval: not defined in {len(samples) - len(defined)} of {len(samples)} resamples"
    return out


def to_share(hits: np.ndarray, reason: str) -> dict[str, Any]:
    """The share of rows that hit (n,), with its 95 % interval by Wilson, which has a width even at 0 and at 1.

    None with the reason without rows. Wilson 1927, doi:10.2307/2276774.
    """
    if not len(hits):
        return {"value": None, "low": None, "high": None, "reason": reason}
    low, high = wilson(int(hits.sum()), len(hits))
    return {"value": float(hits.mean()), "low": low, "high": high}


def draw_weights(rows: int, *, bootstrap: int, seed: int) -> Iterator[np.ndarray]:
    """How often each row stands in each resample, (resamples, rows), in blocks that fit in memory.

    Equal seeds and rows give equal resamples, so that two models measured on the same rows are measured paired.
    """
    if not rows:
        return
    draw = np.random.default_rng(seed)
    step = max(1, CELLS // rows)
    for start in range(0, bootstrap, step):
        block = [np.bincount(draw.integers(0, rows, rows), minlength=rows) for _ in range(min(step, bootstrap - start))]
        yield np.array(block, dtype=float)


def resample_figures(
    probabilities: np.ndarray, codes: np.ndarray, *, bootstrap: int, seed: int
) -> dict[str, np.ndarray | Any]:
    """Each of SCALARS over the resamples, (bootstrap,), and the F1 by label, (bootstrap, 3); None without resamples.

    All are sums over rows, so that a block of resamples is one product of matrices, but for the calibration error.
    """
    rows, size = len(codes), len(LABELS)
    cells = np.eye(size * size)[codes * size + probabilities.argmax(axis=1)]
    losses = -np.log(np.clip(probabilities[np.arange(rows), codes], 1e-15, 1.0))
    squares = ((probabilities - np.eye(size)[codes]) ** 2).sum(axis=1)
    columns = np.column_stack([cells, losses, squares])
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*SCALARS, "f1")}
    for weights in draw_weights(rows, bootstrap=bootstrap, seed=seed):
        sums = weights @ columns
        found = count_scores(np.rint(sums[:, : size * size]).reshape(-1, size, size))
        found["log_loss"], found["brier"] = sums[:, -2] / rows, sums[:, -1] / rows
        found["calibration_error"] = _calibration_errors(probabilities, codes, weights)
        for name, values in parts.items():
            values.append(found[name])
    return {name: np.concatenate(values) if values else None for name, values in parts.items()}


def _calibration_errors(probabilities: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`metrics.calibration_error` of each resample, without sorting each: the order of confidence is always the same.

    Along the sorted rows, accuracy less confidence adds up to a line that is straight within a level of equal
    confidence; a bin's share is the line's rise between its edges, wherever in a level these fall.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    levels, starts = np.unique(confidence[order], return_index=True)
    right = (probabilities.argmax(axis=1) == codes)[order].astype(float)
    held = weights[:, order]
    gaps = held * (right - confidence[order])
    if len(levels) < len(order):
        held, gaps = np.add.reduceat(held, starts, axis=1), np.add.reduceat(gaps, starts, axis=1)
    count = np.pad(held.cumsum(axis=1), ((0, 0), (1, 0)))
    total = np.pad(gaps.cumsum(axis=1), ((0, 0), (1, 0)))
    sizes = [len(part) for part in np.array_split(np.arange(len(order)), BINS)]
    edges = np.r_[0, np.cumsum(sizes)]
    at = np.array([np.interp(edges, x, y) for x, y in zip(count, total, strict=True)])
    return np.abs(np.diff(at, axis=1)).sum(axis=1) / len(order)
