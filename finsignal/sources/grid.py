"""Whether price rows are the bars of the grid: each on an open of it, and none longer than its bars."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finsignal.errors import TableError
from finsignal.sources.rows import OUTSIDE, Counts
from finsignal.tables import BARS, PRICES, to_integers

OFF_GRID = "off the grid of bars"
LONG_RUN = 20  # rows in a row at one and the same distance above one bar: another bar length, not missing bars


def place(stamps: pd.Series, bars: pd.DataFrame, *, stamp: str) -> tuple[np.ndarray, np.ndarray]:
    """(position of each stamp's bar or -1 where it is no bar's, whether it lies outside the period of the bars).

    `stamp` says what stamps mark: "open" or "close" of a bar, or "date", its session as midnight UTC, which
    needs daily bars. Raises TableError for dates on a grid with several bars a session.
    """
    if stamp == "date":
        if bars["session"].duplicated().any():
            raise TableError("prices: rows are stamped with dates, which needs daily bars; set bar to '1d'.")
        grid = to_integers(pd.DatetimeIndex(bars["session"]).tz_localize("UTC"))
    else:
        grid = to_integers(bars["open_time" if stamp == "open" else "close_time"])
    at = to_integers(stamps)
    position = np.minimum(np.searchsorted(grid, at), len(grid) - 1)
    on_grid = grid[position] == at
    first, last = to_integers(bars["open_time"])[0], to_integers(bars["close_time"])[-1]
    outside = (at < grid[0]) | (at > grid[-1]) if stamp == "date" else (at < first) | (at > last)
    return np.where(on_grid, position, -1), outside | (~on_grid & ((at == first) | (at == last)))


def check_on_grid(prices: pd.DataFrame, bars: pd.DataFrame, *, limit: float = 0.01) -> tuple[pd.DataFrame, Counts]:
    """The rows of a `tables.PRICES` table that are bars of the grid, open and end, and the counts of the others.

    Rows outside the period of the bars are left out without fault. Raises TableError where more than `limit` (a
    fraction) of the rows are off the grid, none is left, or rows are longer apart than the bars of the grid.
    """
    if prices.empty:
        return PRICES.check(prices), Counts()
    if bars.empty:
        raise TableError("prices: the grid of bars is empty; rows cannot be placed on it.")
    counts = Counts(read=len(prices), kept=len(prices))
    frame = prices.assign(file="prices")
    opens, outside = place(frame["open_time"], bars, stamp="open")
    ends, _ = place(frame["time"], bars, stamp="close")
    frame, counts = counts.drop(frame.assign(bad=(opens < 0) | (opens != ends)), outside, OUTSIDE)
    frame, counts = counts.drop(frame, frame["bad"], OFF_GRID)
    counts.check(limit, where="prices")
    check_step(frame, bars, where="prices")
    return PRICES.to_table(frame.drop(columns=["file", "bad"])), counts


def check_step(prices: pd.DataFrame, bars: pd.DataFrame, *, where: str) -> None:
    """Raises TableError where rows of a symbol, all on the grid, are usually or for long several bars apart.

    Hourly rows on a grid of half hours are all on it, yet each is two of its bars long. Steps are taken within
    sessions, for those between sessions say nothing, except where a session is one bar.
    """
    position, _ = place(prices["open_time"], bars, stamp="open")
    ordered = pd.DataFrame({"symbol": prices["symbol"].to_numpy(), "position": position})
    ordered = ordered.sort_values(["symbol", "position"], kind="stable")
    codes = pd.factorize(bars["session"])[0][ordered["position"].to_numpy()]
    step = np.diff(ordered["position"].to_numpy())
    same = ordered["symbol"].to_numpy()[1:] == ordered["symbol"].to_numpy()[:-1]
    if bars["session"].duplicated().any():
        same &= codes[1:] == codes[:-1]
    symbols, steps = ordered["symbol"].to_numpy()[1:][same], step[same]
    for symbol in pd.unique(symbols):
        own = steps[symbols == symbol]
        starts = np.flatnonzero(np.diff(own, prepend=0))
        runs = np.diff(np.append(starts, len(own)))
        long = starts[(runs >= LONG_RUN) & (own[starts] > 1)]
        usual = int(own[long[0]]) if len(long) else int(np.median(own))
        if usual > 1:
            raise TableError(
                f"{where}: rows of {symbol} are {usual} bars apart {'for long' if len(long) else 'as a rule'}, so its "
                "bars are longer than those of the grid; set bar to the length of the rows."
            )


def find_missing(prices: pd.DataFrame, bars: pd.DataFrame, *, symbol: str, now: pd.Timestamp) -> pd.DataFrame:
    """The `tables.BARS` rows that had closed by `now` and of which `symbol` has no row of prices.

    A row is a bar's where it opens with it; rows before the symbol's first are missing too: the caller knows whether
    it was listed.
    """
    BARS.check(bars)
    own = prices.loc[prices["symbol"] == symbol, "open_time"]
    there = np.isin(to_integers(bars["open_time"]), to_integers(own))
    closed = (bars["close_time"] <= now).to_numpy()
    return bars[closed & ~there].reset_index(drop=True)
