"""Signals of a symbol whose data is too old become HOLD, with the reason."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finsignal.features.grid import rows_of
from finsignal.signals.rules import NO_LIMITS, TOLD, Limits
from finsignal.tables import SIGNALS, TEXT, to_integers

OLD = np.iinfo(np.int64).max  # the age of what is not known, or was known before the grid given


def to_limited(
    signals: pd.DataFrame, prices: pd.DataFrame, news: pd.DataFrame, *, bars: pd.DataFrame, limits: Limits
) -> pd.DataFrame:
    """The signals with HOLD where the symbol's data is older than `limits`, and why in the column `reason`.

    Score and confidence stay those of the strategy. The reason is '' where the data is young enough, and stands too
    where the signal was HOLD anyway. Without limits the signals come back as they are, without that column. A HOLD
    still lets a holding period end. Instants are UTC; more than `TOLD` bars beyond a limit, nothing is named.
    """
    if limits == NO_LIMITS or signals.empty:
        return signals
    grid = to_integers(bars["time"])
    at = np.searchsorted(grid, to_integers(signals["time"]))
    reason = np.full(len(signals), "", dtype=object)
    places = signals.groupby("symbol", sort=False).indices
    for limit, table, what, unit in (
        (limits.stale_prices, prices, "prices stale", "bar"),
        (limits.silent_news, news, "news silent", "text"),
    ):
        if limit is None:
            continue
        known, shown = to_integers(table["time"]), to_integers(table["open_time" if unit == "bar" else "time"])
        rows = rows_of(table["symbol"], [str(name) for name in places])
        for symbol, place in places.items():
            ours = rows.get(str(symbol), slice(0, 0))
            # A row that came late is not the newest bar; texts are sorted by the instant shown.
            stamps = np.maximum.accumulate(shown[ours])
            newest = np.searchsorted(known[ours], grid[at[place]], side="right") - 1
            age = np.full(len(place), OLD)
            there = np.flatnonzero(newest >= 0)
            make_ages = _bar_ages if unit == "bar" else _text_ages
            age[there] = make_ages(stamps[newest[there]], bars, at[place][there])
            for row in np.flatnonzero(age > limit):
                found = f"no {unit} known in the last {limit + TOLD + 1} bars"
                if age[row] <= limit + TOLD:
                    stamp = pd.Timestamp(stamps[newest[row]], unit="us").strftime("%Y-%m-%d %H:%M")
                    found = f"newest {unit} {stamp}, {age[row]} bar{'' if age[row] == 1 else 's'} old"
                before = reason[place[row]]
                reason[place[row]] = f"{before}; {what}: {found}, limit {limit}".removeprefix("; ")
    out = signals.assign(reason=pd.Series(reason, index=signals.index, dtype=TEXT))
    out.loc[out["reason"] != "", "signal"] = "HOLD"
    return SIGNALS.check(out)


def _bar_ages(opens: np.ndarray, bars: pd.DataFrame, at: np.ndarray) -> np.ndarray:
    """Bars of the grid that have closed at the decisions at `at` since the bars that opened at `opens`."""
    closed = np.searchsorted(to_integers(bars["close_time"]), to_integers(bars["time"])[at], side="right")
    bar = np.searchsorted(to_integers(bars["open_time"]), opens, side="right") - 1
    return np.where(bar >= 0, np.maximum(closed - 1 - bar, 0), OLD)


def _text_ages(known: np.ndarray, bars: pd.DataFrame, at: np.ndarray) -> np.ndarray:
    """Bars from the first decision that knew of a text to the decisions at `at`."""
    decisions = to_integers(bars["time"])
    return np.where(known >= decisions[0], at - np.searchsorted(decisions, known), OLD)
