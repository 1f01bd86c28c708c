"""The usual figures of technical analysis, each of a finite number of price rows, and what the newest session did."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from finsignal.features.windows import lag_rows, smooth_rows, sum_rows
from finsignal.tables import to_integers

# Rows of a symbol's prices that a value is made of, the newest included.
TECHNICAL_LOOKBACK: Mapping[str, int] = {
    "macd": 3 * 26,
    "macd_histogram": 3 * 26 + 3 * 9 - 1,
    "bollinger_20": 20,
    "atr_ratio_14": 15,
    "vwap_distance_20": 20,
    "gap": 2,
}
# Rows at least: of the newest session all that it printed, and for the first the row before it.
SESSION_LOOKBACK: Mapping[str, int] = {"overnight_return": 2, "session_return": 1}


def to_technical(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """The features of TECHNICAL_LOOKBACK at each price row, also where a window reaches into the symbol before."""
    open_, high, low, close, volume = (rows[name].to_numpy() for name in ("open", "high", "low", "close", "volume"))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        before = lag_rows(close, 1)
        line = smooth_rows(close, 12) - smooth_rows(close, 26)
        # Distances from the newest close, so that a price which never moves has a deviation of exactly 0.
        mean = sum((lag_rows(close, lag) - close for lag in range(1, 20)), np.zeros(len(close))) / 20
        squares = mean**2
        for lag in range(1, 20):
            squares += (lag_rows(close, lag) - close - mean) ** 2
        deviation = np.sqrt(squares / 20)
        ranges = np.maximum(high, before) - np.minimum(low, before)
        traded = sum_rows(volume, 20)
        vwap = sum_rows((high + low + close) / 3 * volume, 20) / traded
        return {
            "macd": line / close,
            "macd_histogram": (line - smooth_rows(line, 9)) / close,
            "bollinger_20": np.where(deviation > 0, 0.5 - mean / (4 * deviation), np.nan),
            "atr_ratio_14": sum_rows(ranges, 14) / 14 / close,
            "vwap_distance_20": np.where(traded > 0, close / vwap - 1, np.nan),
            "gap": open_ / before - 1,
        }


def to_session_returns(rows: pd.DataFrame, bars: pd.DataFrame) -> dict[str, np.ndarray]:
    """The features of SESSION_LOOKBACK at each price row; NaN for rows of the grid's first session and before it.

    Whether the grid begins with that session or within it cannot be told.
    """
    codes = np.append(pd.factorize(bars["session"])[0], -1)  # the last is of what opened before the grid
    position = np.searchsorted(to_integers(bars["open_time"]), to_integers(rows["open_time"]), side="right") - 1
    session, symbol = codes[position], pd.factorize(rows["symbol"])[0]
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = (session[1:] != session[:-1]) | (symbol[1:] != symbol[:-1])
    first = np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))
    opened, close = rows["open"].to_numpy()[first], rows["close"].to_numpy()
    inside = session > 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        overnight = opened / lag_rows(close, 1)[first] - 1
        returned = close / opened - 1
    own = lag_rows(symbol.astype(float), 1)[first] == symbol
    return {
        "overnight_return": np.where(inside & own, overnight, np.nan),
        "session_return": np.where(inside, returned, np.nan),
    }
