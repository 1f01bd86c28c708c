"""What was known of prices at each decision, as arrays of bars and symbols."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from finsignal.clock import bar_of
from finsignal.errors import TableError
from finsignal.features.grid import rows_of
from finsignal.tables import to_integers


def bars_of_rows(prices: pd.DataFrame, bars: pd.DataFrame) -> np.ndarray:
    """The position in the grid of the bar of each price row, int64; -1 for a row that is no bar of the grid."""
    return pd.Index(to_integers(bars["open_time"])).get_indexer(to_integers(prices["open_time"]))


def known_closes(prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str]) -> np.ndarray:
    """The newest close known at each decision, (bars, symbols), NaN where there is none.

    It may be of a row before the grid began, or of one that is no bar of the grid.
    """
    out = np.full((len(bars), len(symbols)), np.nan)
    decisions, times, close = to_integers(bars["time"]), to_integers(prices["time"]), prices["close"].to_numpy()
    rows = rows_of(prices["symbol"], symbols)
    for column, symbol in enumerate(symbols):
        ours = rows.get(symbol, slice(0, 0))
        newest = np.searchsorted(times[ours], decisions, side="right") - 1
        out[newest >= 0, column] = close[ours][newest[newest >= 0]]
    return out


def put_on_grid(
    prices: pd.DataFrame, columns: Sequence[str], bars: pd.DataFrame, symbols: Sequence[str]
) -> list[np.ndarray]:
    """Each column of prices as (bars, symbols), NaN where a bar did not print. Rows are found by their open."""
    row, column = bars_of_rows(prices, bars), pd.Index(symbols).get_indexer(prices["symbol"])
    ours = (row >= 0) & (column >= 0)
    out = [np.full((len(bars), len(symbols)), np.nan) for _ in columns]
    for array, name in zip(out, columns, strict=True):
        array[row[ours], column[ours]] = prices[name].to_numpy()[ours]
    return out


def seen_to_trade(prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str]) -> np.ndarray:
    """Position of the first decision that knows that a bar could be traded, (bars, symbols); len(bars) where none.

    Raises TableError for a row that closed before its bar does: it is of shorter bars, and would be known too early.
    """
    out = np.full((len(bars), len(symbols)), len(bars))
    row = bars_of_rows(prices, bars)
    column = pd.Index(symbols).get_indexer(prices["symbol"])
    ours = (row >= 0) & (column >= 0)
    early = ours & (to_integers(prices["time"]) < to_integers(bars["close_time"])[row])
    if early.any():
        found, until = prices.iloc[int(early.argmax())], bars["close_time"].iloc[row[early.argmax()]]
        raise TableError(
            f"prices: the row of {found['symbol']} that opens at {found['open_time']} closes at {found['time']}, the "
            f"bar of the grid at {until}; give prices of the grid's bar length."
        )
    out[row[ours], column[ours]] = bar_of(bars, prices["time"])[ours]
    out[np.isnan(known_closes(prices, bars, symbols))] = len(bars)
    return out
