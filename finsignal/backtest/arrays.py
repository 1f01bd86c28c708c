"""Long tables to arrays of (bars, symbols) on the grid of one run. Rows are found by label, never by position."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from finsignal.backtest.costs import Costs, OrderRules
from finsignal.errors import TableError, did_you_mean
from finsignal.features.grid import rows_of
from finsignal.signals import ExitRules
from finsignal.tables import to_integers

WINDOW = 20  # rows of mean volume and of volatility


@dataclass(frozen=True)
class Market:
    """What a run knows of its market, (bars, symbols) where nothing else is said; arrays not in use are None."""

    index: pd.DatetimeIndex  # open_time of the bars
    symbols: list[str]
    start: np.ndarray  # microseconds of the bars' opens
    end: np.ndarray  # and of their closes
    sessions: np.ndarray  # the last bar of each session is True
    target: np.ndarray
    opens: np.ndarray  # NaN where a bar did not print
    closes: np.ndarray  # likewise
    marks: np.ndarray  # the last close up to and including the bar; 0 before the first
    known: np.ndarray  # the newest close known at the decision; NaN where there is none
    highs: np.ndarray | None
    lows: np.ndarray | None
    volume: np.ndarray | None  # mean of the newest rows known at the decision
    volatility: np.ndarray | None  # standard deviation of the newest returns known at the decision
    gone: np.ndarray  # for each symbol the bar at which it is closed for good, or -1


def to_market(
    prices: pd.DataFrame,
    weights: pd.DataFrame,
    bars: pd.DataFrame,
    *,
    costs: Costs,
    orders: OrderRules,
    exits: ExitRules,
) -> Market:
    """The arrays of one run. Raises TableError where weights, bars and prices do not fit."""
    symbols, first, target = _to_target(weights, bars)
    last = first + len(target)
    rows = rows_of(prices["symbol"], symbols)
    _check_priced(target, symbols, rows, prices)
    grid, ends = to_integers(bars["open_time"]), to_integers(bars["close_time"])
    decisions = to_integers(bars["time"])[first:last]
    opened, known_at = to_integers(prices["open_time"]), to_integers(prices["time"])
    shape = (len(target), len(symbols))

    read = ["open", "close"] + (["high", "low"] if exits.resting else [])
    values = {name: prices[name].to_numpy() for name in [*read, "volume"]}
    on_grid = {name: np.full((last, len(symbols)), np.nan) for name in read}
    known = np.full(shape, np.nan)
    needs_volume = orders.volume_share > 0 or costs.impact > 0
    needs_volatility = costs.slippage_volatility > 0 or costs.impact > 0
    volume = np.full(shape, np.nan) if needs_volume else None
    volatility = np.full(shape, np.nan) if needs_volatility else None

    places: tuple[np.ndarray, np.ndarray] | None = None
    on_any = False
    for s, symbol in enumerate(symbols):
        own = rows.get(symbol)
        if own is None:
            continue
        times = opened[own], known_at[own]
        # Most symbols print the same bars: the search of one then serves the next.
        if places is None or not (np.array_equal(times[0], places[0]) and np.array_equal(times[1], places[1])):
            places = times
            at, there = _find_bars(*times, grid, ends, symbol, bars)
            on_any |= bool(there.any())
            kept = there & (at < last)
            at, whole = at[kept], bool(kept.all())
            newest = np.searchsorted(times[1], decisions, side="right") - 1
            early = int(np.searchsorted(newest, 0))  # decisions ascend, so the first ones are those that know nothing
            newest = newest[early:]
        for name in read:
            column = values[name][own]
            on_grid[name][at, s] = column if whole else column[kept]
        known[early:, s] = values["close"][own][newest]
        if volume is not None:
            volume[early:, s] = _rolling_mean(values["volume"][own])[newest]
        if volatility is not None:
            volatility[early:, s] = _rolling_deviation(values["close"][own])[newest]
    if len(prices) and not on_any and rows:
        raise TableError(
            f"prices: no row opens at a bar of the grid ({bars['open_time'].iloc[0]} to {bars['open_time'].iloc[-1]}); "
            "check the market, the bar length and the period."
        )

    marks = _fill_forward(on_grid["close"])[first:]
    opens = on_grid["open"][first:]
    session = bars["session"].iloc[first:last].to_numpy()
    return Market(
        index=pd.DatetimeIndex(bars["open_time"])[first:last],
        symbols=symbols,
        start=grid[first:last],
        end=ends[first:last],
        sessions=np.append(session[1:] != session[:-1], True),
        target=target,
        opens=opens,
        closes=on_grid["close"][first:],
        marks=marks,
        known=known,
        highs=on_grid["high"][first:] if exits.resting else None,
        lows=on_grid["low"][first:] if exits.resting else None,
        volume=volume,
        volatility=volatility,
        gone=_find_gone(opens, costs.delisted_after),
    )


def _to_target(weights: pd.DataFrame, bars: pd.DataFrame) -> tuple[list[str], int, np.ndarray]:
    """The symbols, the position of the first bar in the grid, and the target weights as (bars, symbols)."""
    if weights.empty:
        raise TableError("weights: no rows; there is no bar to trade on.")
    broken = TableError("weights: expected one row for each symbol and each bar of one unbroken run of the grid.")
    symbols = list(rows_of(weights["symbol"], sorted(set(weights["symbol"].unique()))))
    count, left = divmod(len(weights), len(symbols))
    if left:
        raise broken
    opened = to_integers(weights["open_time"]).reshape(len(symbols), count)
    grid = to_integers(bars["open_time"])
    first = int(np.searchsorted(grid, opened[0, 0]))
    if not np.array_equal(grid[first : first + count], opened[0]) or (opened != opened[0]).any():
        raise broken
    target = weights["weight"].to_numpy().reshape(len(symbols), count)
    return symbols, first, np.ascontiguousarray(target.T)


def _check_priced(
    target: np.ndarray, symbols: list[str], rows: dict[str, slice | np.ndarray], prices: pd.DataFrame
) -> None:
    for s, symbol in enumerate(symbols):
        if symbol not in rows and (target[:, s] != 0).any():
            hint = did_you_mean(symbol, map(str, prices["symbol"].unique()))
            raise TableError(f"weights: symbol {symbol!r} has a weight but no row of prices.{hint}")


def _find_bars(
    opened: np.ndarray, closed: np.ndarray, grid: np.ndarray, ends: np.ndarray, symbol: str, bars: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """The bar of each row, and whether it has one. Refuses a row that lasts longer or shorter than its bar."""
    at = np.minimum(np.searchsorted(grid, opened), len(grid) - 1)
    there = grid[at] == opened
    wrong = there & (closed != ends[at])
    if wrong.any():
        row = int(wrong.argmax())
        bar = bars.iloc[at[row]]
        raise TableError(
            f"prices: {symbol} has a row from {bar['open_time']} to {pd.Timestamp(closed[row], unit='us', tz='UTC')}, "
            f"but the grid's bar ends at {bar['close_time']}; one run has one bar length."
        )
    return at, there


def _fill_forward(values: np.ndarray) -> np.ndarray:
    out = values.copy()
    for before, row in pairwise(out):
        np.copyto(row, before, where=np.isnan(row))
    return np.nan_to_num(out, copy=False)


def _find_gone(opens: np.ndarray, after: int) -> np.ndarray:
    printed = np.isfinite(opens)
    newest = len(opens) - 1 - printed[::-1].argmax(axis=0)
    gone = printed.any(axis=0) & (len(opens) - 1 - newest >= after)
    return np.where(gone, newest + 1, -1)


def _rolling_mean(values: np.ndarray) -> np.ndarray:
    out = np.full(len(values), np.nan)
    if len(values) >= WINDOW:
        out[WINDOW - 1 :] = np.lib.stride_tricks.sliding_window_view(values, WINDOW).mean(axis=1)
    return out


def _rolling_deviation(close: np.ndarray) -> np.ndarray:
    out = np.full(len(close), np.nan)
    if len(close) > WINDOW:
        returns = close[1:] / close[:-1] - 1
        out[WINDOW:] = np.lib.stride_tricks.sliding_window_view(returns, WINDOW).std(axis=1, ddof=1)
    return out
