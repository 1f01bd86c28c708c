"""Prices on one basis: each row is brought from the basis of its fetch to that of an instant, by the splits known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from finsignal.tables import to_integers

_PER_SHARE = ("open", "high", "low", "close", "dividend", "adj_close")


def to_basis(
    prices: pd.DataFrame, codes: Sequence[np.ndarray], fetched: np.ndarray, splits: pd.DataFrame, t: pd.Timestamp
) -> pd.DataFrame:
    """The prices as they are counted at `t`; the frame itself, changed, where a split concerns it.

    prices: sorted by symbol and time; codes: an integer a row for its symbol and one for its time, in microseconds;
    fetched: microseconds at which the row was fetched, whose basis it has. splits: symbol, time and value (new shares
    for an old one). A split concerns the bars that closed by its time: one that opens at it is on the new basis. It
    divides their prices where it came into force after the fetch and by `t`, and multiplies them where it did so by the
    fetch but after `t`; volumes inversely. What was fetched after the split and is asked for after it stays bit by bit.
    """
    if prices.empty or splits.empty:
        return prices
    symbol_codes, times = codes
    starts = np.flatnonzero(np.diff(symbol_codes, prepend=symbol_codes[0] - 1))
    ends = np.append(starts[1:], len(prices))
    rows_of = {
        symbol: slice(low, high)
        for symbol, low, high in zip(prices["symbol"].iloc[starts], starts.tolist(), ends.tolist(), strict=True)
    }
    down, up = np.ones(len(prices)), np.ones(len(prices))
    now = to_integers(pd.DatetimeIndex([t]))[0]
    for symbol, at, value in zip(splits["symbol"], to_integers(splits["time"]), splits["value"], strict=True):
        rows = rows_of.get(symbol, slice(0))
        closed = times[rows] <= at
        down[rows][closed & (fetched[rows] < at) & (at <= now)] *= value
        up[rows][closed & (fetched[rows] >= at) & (at > now)] *= value
    changed = (down != 1) | (up != 1)
    if changed.any():
        for column in prices.columns.intersection(_PER_SHARE):
            prices[column] = prices[column].to_numpy() * up / down
        prices["volume"] = prices["volume"].to_numpy() * down / up
    return prices
