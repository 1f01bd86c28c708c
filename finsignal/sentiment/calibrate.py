"""Temperature scaling: one number that makes the probabilities of a finished graph as sure as they should be."""

from __future__ import annotations

import numpy as np

from finsignal.errors import ModelError


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities, float64, rows summing to 1, of logits (n, labels) divided by the temperature."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(logits: np.ndarray, codes: np.ndarray) -> float:
    """The temperature in [0.05, 20] with the least log-loss on these rows; above 1 where the logits were too sure.

    Use rows that were not trained on, and the logits of the very graph that will be used (INT8, not its source). The
    log-loss is convex in 1 / temperature, so a golden-section search over that finds it. Guo et al. 2017,
    arXiv:1706.04599.

    Raises ModelError without rows or where a logit is not finite.
    """
    from finsignal.metrics import log_loss  # brings pandas, which scoring a few texts does without

    if len(logits) == 0 or not np.isfinite(logits).all():
        raise ModelError(f"temperature: {len(logits)} rows of logits, not all finite; expected at least one, finite.")
    low, high = 1 / 20, 1 / 0.05
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(80):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if log_loss(codes, softmax(logits, 1 / left)) <= log_loss(codes, softmax(logits, 1 / right)):
            high = right
        else:
            low = left
    return float(2 / (low + high))
