"""What training minimises: cross-entropy or focal loss, the weight of each row, and what balancing does to the logits.

Balancing makes a model call the rarer labels more often, and too surely: it learns of a world in which they are as many
as the others. `prior_logits` is what that put into the logits, and subtracting it puts the shares of the data back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from finsignal.errors import ConfigError, TableError, did_you_mean, require
from finsignal.sentiment.recipe import CHOICES
from finsignal.tables import LABELS


def row_weights(codes: np.ndarray, sources: np.ndarray, class_weights: str) -> np.ndarray:
    """The weight of each row in the loss, float64 (n,), with a mean of 1, so that it leaves the learning rate alone.

    codes: of the labels, int (n,), positions in LABELS. sources: the weight of each row's set, above 0, (n,).
    class_weights: "none" leaves these as they are; "balanced" divides them by the share of the row's label, so that all
    labels that occur weigh the same in all; "sqrt" by the square root of it, which goes half the way. Shares count with
    the weights of the sets.

    Raises TableError without rows, at a code that is no label's, and at a weight that is not above 0 and finite;
    ConfigError at an unknown class_weights.
    """
    codes, sources = _check_rows(codes, sources)
    known = CHOICES["class_weights"]
    if class_weights not in known:
        raise ConfigError(
            f"class_weights: {class_weights!r}.{did_you_mean(class_weights, known)} Expected one of {known}."
        )
    power = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[class_weights]
    shares = np.bincount(codes, weights=sources, minlength=len(LABELS)) / sources.sum()
    weights = sources / shares[codes] ** power
    return weights / weights.mean()


def oversample(codes: np.ndarray, seed: int) -> np.ndarray:
    """Row positions, int64, with which every label that occurs is as many as the largest: all rows once, in order, and
    after them the rows of the rarer labels again.

    No row of a label comes up twice more often than another of it; which ones fill the last round is drawn by the seed.
    The temperature and every figure must be taken on rows that are not drawn this way. Raises TableError without rows
    and at a code that is no label's.
    """
    codes, _ = _check_rows(codes, np.ones(len(codes)))
    draw = np.random.default_rng(seed)
    counts = np.bincount(codes, minlength=len(LABELS))
    parts = [np.arange(len(codes))]
    for code in np.flatnonzero(counts):
        own = np.flatnonzero(codes == code)
        rounds, rest = divmod(counts.max() - len(own), len(own))
        parts += [np.tile(own, rounds), draw.permutation(own)[:rest]]
    return np.concatenate(parts)


def loss_of(logits: Any, lessons: Any, loss: str, gamma: float) -> Any:
    """The loss of a batch, a torch scalar: the SUM over its rows, to be divided by the rows of the whole step.

    logits: float (batch, 3). lessons: float (batch, 3), the smoothed label of each row times its weight. loss:
    "cross_entropy", or "focal": the term of each label times (1 - its probability) ** gamma, which makes little of what
    is learned already (Lin et al. 2017, arXiv:1708.02002, equation 4, there for unsmoothed labels). With gamma 0 it is
    cross-entropy. It is no proper score: its best probabilities are less sure than true (Charoenphakdee et al. 2021,
    arXiv:2011.09172), and a temperature puts only part of that right.

    Raises ConfigError at an unknown loss.
    """
    torch = require("torch", extra="train", work="training a sentiment model")
    if loss not in CHOICES["loss"]:
        raise ConfigError(f"loss: {loss!r}.{did_you_mean(loss, CHOICES['loss'])} Expected one of {CHOICES['loss']}.")
    logs = torch.log_softmax(logits, dim=1)
    if loss == "cross_entropy":
        return -(lessons * logs).sum()
    # 1 - p without cancellation; never 0, whose power has no gradient where gamma is below 1.
    missing = (-torch.expm1(logs)).clamp_min(torch.finfo(logs.dtype).tiny)
    return -(lessons * missing**gamma * logs).sum()


def prior_logits(codes: np.ndarray, weights: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
    """What balancing added to the logits, float64 (3,) with a mean of 0 over the labels that occur, 0 for the others.

    codes: of the rows as they were before balancing, int (n,). weights: how much each counted in training, 0 or more:
    `row_weights`; with `oversample` the sum over its draws, `np.bincount(positions, weights=..., minlength=n)`. own:
    the weight that each would have had without balancing, such as that of its set; 1 for all if not given.

    Logits less this are those of a model of the data's own shares. That holds for cross-entropy without label
    smoothing in a model that fits what it is given, for then a weight w of a label's rows adds log w to its logit and
    nothing else (Elkan 2001, "The foundations of cost-sensitive learning", IJCAI, theorem 2; King and Zeng 2001,
    doi:10.1093/oxfordjournals.pan.a004868, their prior correction). With smoothing, early stopping or a penalty it is a
    first approximation, and it is not meant for focal loss. Subtract before the temperature is fitted.

    Raises TableError as row_weights does, and where a label that occurs has no weight at all.
    """
    codes, own = _check_rows(codes, np.ones(len(codes)) if own is None else own)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != codes.shape or not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise TableError(f"weights: expected one of 0 or more for each of {len(codes)} rows, got {weights.shape}.")
    before, after = (np.bincount(codes, weights=each, minlength=len(LABELS)) for each in (own, weights))
    there = before > 0
    if (after[there] == 0).any():
        lost = [label for label, gone in zip(LABELS, there & (after == 0), strict=True) if gone]
        raise TableError(f"weights: all rows of {lost} weigh 0, so nothing was learned of it; leave the label out.")
    shift = np.zeros(len(LABELS))
    shift[there] = np.log(after[there] / before[there])
    shift[there] -= shift[there].mean()
    return shift


def _check_rows(codes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    codes, weights = np.asarray(codes), np.asarray(weights, dtype=np.float64)
    if codes.ndim != 1 or len(codes) == 0 or weights.shape != codes.shape:
        raise TableError(f"rows: expected labels and as many weights, got {codes.shape} and {weights.shape}.")
    if codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() >= len(LABELS):
        raise TableError(f"rows: expected codes 0 to {len(LABELS) - 1} of {LABELS}, got {np.unique(codes)[:8]}.")
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise TableError(f"rows: the least of their weights is {weights.min()}; expected all above 0 and finite.")
    return codes, weights
