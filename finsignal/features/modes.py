"""How the texts of a window become one opinion: the modes by name, what age leaves of a weight, who votes for what."""

from __future__ import annotations

from typing import Any

import numpy as np

from finsignal.errors import ConfigError, did_you_mean

MODES = ("weighted", "majority", "unanimous", "rolling")
NEUTRAL = 1  # its place in LABELS


def check_mode(mode: str) -> str:
    """The mode itself. Raises ConfigError for one that is not in MODES."""
    if mode not in MODES:
        raise ConfigError(
            f"features: mode {mode!r} is not one of {', '.join(MODES)}.{did_you_mean(str(mode), list(MODES))}"
        )
    return mode


def decay(age: Any, *, half_life: float, mode: str) -> Any:
    """What is left of a weight after `age` bars (a number, or many): half after `half_life`, and by 'rolling' all."""
    return age * 0 + 1.0 if mode == "rolling" else 0.5 ** (age / half_life)


def to_votes(probabilities: np.ndarray, mode: str) -> np.ndarray:
    """What each text says, (3, texts) as `probabilities` are; by 'majority' all for its likeliest label."""
    if mode != "majority":
        return probabilities
    return (np.arange(3)[:, None] == likeliest(probabilities)).astype(float)


def likeliest(probabilities: np.ndarray) -> np.ndarray:
    """The place in LABELS of each text's likeliest label; neutral where two are likeliest."""
    largest = probabilities == probabilities.max(axis=0)
    return np.where(largest.sum(axis=0) > 1, NEUTRAL, largest.argmax(axis=0))


def sum_window(counts: np.ndarray, max_age: int) -> np.ndarray:
    """The sum of whole numbers over each bar and the `max_age` before it, along the last axis.

    A running total is exact here: of whole numbers no digit is lost.
    """
    total = counts.cumsum(axis=-1)
    total[..., max_age + 1 :] -= total[..., : -max_age - 1].copy()
    return total
