"""Exits beside the holding period and an opposite signal: stops on known bars, and where sessions and periods begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.errors import TableError
from finsignal.signals.known import put_on_grid
from finsignal.signals.rules import ExitRules


@dataclass(frozen=True)
class Stops:
    """Stop loss, trailing stop and take profit, and the bars that they are judged on, each (bars, symbols).

    `seen` is the first decision that knows of a bar; of a bar that did not print it lies after the last.
    """

    rules: ExitRules
    seen: np.ndarray
    opens: np.ndarray
    highs: np.ndarray
    lows: np.ndarray
    closes: np.ndarray

    def judge(self, weight: np.ndarray, filled: np.ndarray, fill: np.ndarray, k: int) -> np.ndarray:
        """For each symbol whether its position is to be left at the decision of bar k; in worlds each, as given.

        A position is anchored to the open of the bar at `fill`, and one that is not known to be filled has no anchor.
        Bars count from the fill on, as far as they are known at k. With `resting` every one of them may have touched a
        level; without, the newest known close must lie at a level or beyond. With no bar known nothing is left.
        """
        out = np.zeros(weight.size, dtype=bool)
        held = np.flatnonzero(filled & (weight != 0))
        if not len(held):
            return out.reshape(weight.shape)
        column, since = held % weight.shape[-1], fill.reshape(-1)[held]
        first = int(since.min())
        stretch = (slice(first, k), column)
        known = (self.seen[stretch] <= k) & (np.arange(first, k)[:, None] >= since)
        side = np.sign(weight.reshape(-1)[held])  # prices times the side rise with the profit, of shorts as of longs
        anchor = side * self.opens[since, column]
        target = anchor * (1 + side * self.rules.take_profit) if self.rules.take_profit else np.inf
        if self.rules.resting:
            high, low = side * self.highs[stretch], side * self.lows[stretch]
            best = np.maximum.accumulate(np.vstack([anchor, np.where(known, np.where(side > 0, high, low), -np.inf)]))
            worst, most = np.where(side > 0, low, high), np.where(side > 0, high, low)
            hit = (worst <= self._level(anchor, best[:-1], side)) | (most >= target)  # a bar's own best comes too late
            out[held] = (known & hit).any(axis=0)
        else:
            closes = np.where(known, side * self.closes[stretch], -np.inf)
            newest = closes[len(closes) - 1 - known[::-1].argmax(axis=0), np.arange(len(column))]
            best = np.maximum(closes.max(axis=0), anchor)
            out[held] = known.any(axis=0) & ((newest <= self._level(anchor, best, side)) | (newest >= target))
        return out.reshape(weight.shape)

    def _level(self, anchor: np.ndarray, best: np.ndarray, side: np.ndarray) -> np.ndarray:
        """The signed price at which a position is left with a loss: the nearer of stop loss and trailing stop."""
        level = np.full(best.shape, -np.inf)
        if self.rules.stop_loss:
            level = np.maximum(level, anchor * (1 - side * self.rules.stop_loss))
        if self.rules.trailing_stop:
            level = np.maximum(level, best * (1 - side * self.rules.trailing_stop))
        return level


def make_stops(
    rules: ExitRules, prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str], seen: np.ndarray
) -> Stops | None:
    """The stops that the rules state, or None where they state none."""
    if not rules.has_stops:
        return None
    return Stops(rules, seen, *put_on_grid(prices, ("open", "high", "low", "close"), bars, symbols))


def find_firsts(bars: pd.DataFrame, period: str) -> np.ndarray:
    """For each bar whether it is the first of its period, one of 'bar', 'session', 'week' (from Monday) and 'month'.

    Periods go by the session's date, so the Sunday evening of a market that trades overnight belongs to Monday. The
    first bar of the grid counts as the first of its period. Raises TableError for a session that is no date.
    """
    codes = np.arange(len(bars))
    if period != "bar":
        codes, names = pd.factorize(bars["session"])
    if period in ("week", "month"):
        try:
            days = np.array(names.tolist(), dtype="datetime64[D]")
        except ValueError as err:
            raise TableError(
                f"bars: a rebalance by {period} needs sessions that are dates such as 2024-03-04 ({err})."
            ) from err
        # 1970-01-01 was a Thursday, three days after a Monday.
        codes = ((days.astype(np.int64) + 3) // 7 if period == "week" else days.astype("datetime64[M]"))[codes]
    return np.concatenate([[True], codes[1:] != codes[:-1]])


def check_anchors(stops: Stops, state: pd.DataFrame, fill: np.ndarray, bars: pd.DataFrame) -> None:
    """Refuses a state whose held positions began before the bars or prices given, for a stop has no anchor there."""
    held = (state["filled"] & (state["weight"] != 0)).to_numpy()
    for s in np.flatnonzero(held):
        where = f"state: the fill of {state['symbol'].iloc[s]} at {state['fill'].iloc[s]}"
        if fill[s] < 0:
            raise TableError(
                f"{where} is before the first bar of the grid, {bars['open_time'].iloc[0]}, and a stop counts from it; "
                "let bars reach back to it."
            )
        if np.isnan(stops.opens[fill[s], s]):
            raise TableError(f"{where} has no row of prices, and a stop counts from its open; let prices hold it.")
