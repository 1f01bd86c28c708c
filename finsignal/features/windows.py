"""Windows over the rows of a column, summed term by term, newest first; they may reach into the symbol before."""

from __future__ import annotations

import numpy as np


def lag_rows(values: np.ndarray, lag: int) -> np.ndarray:
    """The value `lag` rows before, NaN where there is none."""
    out = np.full(len(values), np.nan)
    out[lag:] = values[: max(len(values) - lag, 0)]
    return out


def sum_rows(values: np.ndarray, window: int) -> np.ndarray:
    """The sum of the last `window` values at each row, added newest first."""
    total = values.copy()
    for lag in range(1, window):
        total += lag_rows(values, lag)
    return total


def smooth_rows(values: np.ndarray, span: int) -> np.ndarray:
    """The exponentially weighted mean of the last 3 `span` values: weights (1 - 2 / (span + 1))**lag that sum to 1.

    Without an end the weights of a span never do; what lies beyond three spans is a quarter of a percent of them.
    """
    weights = (1 - 2 / (span + 1)) ** np.arange(3 * span)
    weights /= weights.sum()
    total = values * weights[0]
    for lag in range(1, 3 * span):
        total[lag:] += values[: max(len(values) - lag, 0)] * weights[lag]
    total[: 3 * span - 1] = np.nan
    return total
