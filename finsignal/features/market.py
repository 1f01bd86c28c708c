"""How a symbol moves with the market: its beta to an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finsignal.errors import TableError
from finsignal.features.grid import at_decisions, check_options, to_features
from finsignal.features.windows import lag_rows, sum_rows
from finsignal.tables import INSTANT, to_integers

BETA_LOOKBACK: Mapping[str, int] = {"beta_60": 61}  # rows of the symbol's prices, and those of the index that match
ENOUGH = 30  # of the 60 returns that the index must have


def make_market_features(
    prices: pd.DataFrame, index: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str], *, max_age: int
) -> pd.DataFrame:
    """FEATURES for every symbol and bar: beta_60, how a symbol moved with the index, as known at the decision.

    beta_60: the slope of the least squares line of the symbol's last 60 one-row returns on the index' returns over the
    same rows, those that open at the same instants. Returns that the index lacks are left out; NaN where it has fewer
    than 30 of them, where it did not move, and where the symbol has fewer than 61 rows.

    `index` is PRICES of one symbol, which need not be among `symbols`. A beta is known once both newest rows are, and
    serves as a price row does in `make_price_features`. Raises TableError where the index holds two symbols,
    ConfigError at a negative `max_age` or a repeated symbol.
    """
    names = check_options(symbols, max_age)
    if index["symbol"].nunique() > 1:
        raise TableError(f"index: expected the prices of one symbol, got {sorted(index['symbol'].unique())}; keep one.")
    rows = prices.loc[prices["symbol"].isin(names), ["symbol", "open_time", "time", "close"]]
    place, there = _match(rows["open_time"], index["open_time"])
    market = np.full(len(rows), np.nan)
    market[there] = index["close"].to_numpy()[place]
    known = to_integers(rows["time"])
    known[there] = np.maximum(known[there], to_integers(index["time"])[place])
    rows["time"] = pd.Series(pd.to_datetime(known, unit="us", utc=True), index=rows.index, dtype=INSTANT)
    values = {"beta_60": _to_beta(rows["close"].to_numpy(), market)}
    return to_features(bars, names, at_decisions(BETA_LOOKBACK, values, rows, bars, names, max_age=max_age))


def _match(ours: pd.Series, theirs: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Positions among theirs, which ascend, of those of ours that are there; and whether each of ours is."""
    wanted, given = to_integers(ours), to_integers(theirs)
    place = np.searchsorted(given, wanted)
    there = np.append(given, np.iinfo(np.int64).min)[place] == wanted
    return place[there], there


def _to_beta(close: np.ndarray, market: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ours, theirs = close / lag_rows(close, 1) - 1, market / lag_rows(market, 1) - 1
        both = np.isfinite(ours) & np.isfinite(theirs)
        ours, theirs = np.where(both, ours, 0.0), np.where(both, theirs, 0.0)
        count = sum_rows(both.astype(float), 60)
        mean, market_mean = sum_rows(ours, 60) / count, sum_rows(theirs, 60) / count
        together, alone = np.zeros(len(close)), np.zeros(len(close))
        for lag in range(60):
            counted = lag_rows(both.astype(float), lag)
            moved = (lag_rows(theirs, lag) - market_mean) * counted
            together += (lag_rows(ours, lag) - mean) * moved
            alone += moved**2
        return np.where((count >= ENOUGH) & (alone > 0), together / alone, np.nan)
