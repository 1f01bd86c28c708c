"""What a pass knows at its decision: a stretch of the grid, and the rows of each table that were known by then."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.clock import DAY, latest_decision, make_bars, to_bar, to_instant
from finsignal.config import RunFile
from finsignal.errors import ConfigError
from finsignal.features import BETA_LOOKBACK, FUNDING_LOOKBACK, LOOKBACK, OPEN_INTEREST_LOOKBACK
from finsignal.lake import Lake, open_lake
from finsignal.signals import lookback
from finsignal.study.inputs import MOMENT, Inputs, beside, read_lake_index, read_lake_news, read_lake_rows
from finsignal.tables import to_integers

DAYS_AHEAD = 12  # of the grid beyond now: over any holidays, so that the next decision can be named
DAYS_BACK = 12  # of prices before the grid: over any holidays, so that a close is known at its first decision
SPARE = 3  # times the reach that is read at first: windows run over the rows printed, and some bars print none
# Rows of a symbol that a feature is made of, however far back they lie.
ROWS = {
    "prices": max(*LOOKBACK.values(), *BETA_LOOKBACK.values()),
    "funding": max(FUNDING_LOOKBACK.values()),
    "open_interest": max(OPEN_INTEREST_LOOKBACK.values()),
}


@dataclass(frozen=True)
class Facts:
    """All that one decision may use: the grid up to its bar, which is the last, and rows known at its decision."""

    bars: pd.DataFrame
    prices: pd.DataFrame
    news: pd.DataFrame
    funding: pd.DataFrame | None = None
    open_interest: pd.DataFrame | None = None
    index: pd.DataFrame | None = None


def reach_of(run: RunFile) -> int:
    """Bars before the one decided that its decision may depend on, the fills of held positions apart."""
    return lookback(run.features, run.weights, run.limits, bar=run.bar)


def oldest_fill(state: pd.DataFrame) -> pd.Timestamp | None:
    """The bar from which on the grid is needed, for the holding period of what is held or ordered, and for stops."""
    held = state[(state["weight"] != 0) | ~state["filled"]]
    oldest = held[["fill", "renewed"]].min().min() if len(held) else pd.NaT
    return None if pd.isna(oldest) else oldest


def make_job_bars(
    run: RunFile, now: pd.Timestamp, state: pd.DataFrame, *, since: pd.Timestamp | None = None
) -> pd.DataFrame:
    """The grid around `now`, within the run's period: from `since` or before it, to a few days ahead.

    It reaches back far enough for features, and for the fills of `state`.

    Raises ConfigError where the run file's period is over, or does not begin for days.
    """
    first, last = (to_instant(stamp, where=f"{run.path}: period") for stamp in (run.start, run.end))
    if now >= last:
        raise ConfigError(f"{run.path}: its period ended at {last}; state a later end for the job to go on.")
    if now + DAYS_AHEAD * DAY <= first:
        raise ConfigError(f"{run.path}: its period begins at {first}, more than {DAYS_AHEAD} days after {now}.")
    needed, days = [now, *(t for t in (oldest_fill(state), since) if t is not None)], 16
    while True:
        start = max(first, min(now - days * DAY, *needed))
        end = min(last, now + DAYS_AHEAD * DAY)
        bars = make_bars(run.market, run.bar, start=start, end=end, latency=run.decision_latency)
        position = latest_decision(bars, now)
        if start <= first or (position is not None and position >= SPARE * reach_of(run)):
            return bars
        days *= 3


def read_facts(
    run: RunFile,
    lake: Lake,
    bars: pd.DataFrame,
    position: int,
    *,
    recorded_by: pd.Timestamp,
    first_bar: int = 0,
) -> Facts:
    """What the lake knew of the decision of the bar at `position`, from what was recorded by `recorded_by`.

    The grid begins at `first_bar`; rows are read over all of `bars`, for windows run over the rows printed. Of prices a
    row of each symbol that was known at the first decision of the grid is among them, where the run has one: whether
    the bar of an old fill could be traded hangs on it.
    """
    since = bars["time"].iloc[0] - MOMENT
    bars = bars.iloc[first_bar : position + 1].reset_index(drop=True)
    decision, known = bars["time"].iloc[-1], bars["time"].iloc[0] - MOMENT
    first = to_instant(run.start, where=f"{run.path}: start") - run.decision_latency - MOMENT  # as the backtest reads

    def read(name: str) -> pd.DataFrame:
        begin = max(since - DAYS_BACK * DAY, first) if name == "prices" else since
        rows = read_lake_rows(run, lake, name, decision, bars=bars, since=begin, recorded_by=recorded_by)
        count = rows.groupby("symbol").size().reindex(list(run.symbols), fill_value=0).min()
        early = rows.loc[rows["time"] <= bars["time"].iloc[0], "symbol"].nunique()
        # Of prices also a row before all that the newest session can hold: its night is between the two.
        needed = max(ROWS[name], DAY // to_bar(run.bar) + 1) if name == "prices" else ROWS[name]
        if begin <= first or (count >= needed and (name != "prices" or early == len(run.symbols))):
            return rows
        # A symbol that has hardly printed of late: the rows that its features are made of lie further back.
        return read_lake_rows(run, lake, name, decision, bars=bars, since=first, recorded_by=recorded_by)

    news, _ = read_lake_news(run, lake, decision, since=known, recorded_by=recorded_by)
    more = {name: read(name) for name in ("funding", "open_interest") if getattr(run.fetch, name)}
    prices = read("prices")
    if run.index:  # over all rows of prices, for a beta is of the bars that a symbol printed
        oldest = min(since, prices["open_time"].min()) if len(prices) else since
        more["index"] = read_lake_index(run, lake, decision, bars=bars, since=oldest, recorded_by=recorded_by)
    return Facts(bars, prices, news, **more)


def make_cut(run: RunFile, inputs: Inputs) -> Callable[[int, pd.DataFrame], Facts]:
    """(position of a bar, state before it) -> its Facts, cut out of tables that go on: `read_facts` for a replay.

    Nothing later than the decision and nothing older than the reach is handed on, so a decision that used either would
    differ from the backtest's.
    """
    reach, grid = reach_of(run), to_integers(inputs.bars["open_time"])
    decisions = to_integers(inputs.bars["time"])
    counted = {"prices": inputs.prices, "funding": inputs.funding, "open_interest": inputs.open_interest}
    by_rows = {name: (table, *_blocks(table)) for name, table in counted.items() if table is not None}
    news, news_times = inputs.news, to_integers(inputs.news["time"])
    index_times = None if inputs.index is None else to_integers(inputs.index["time"])

    def cut(position: int, state: pd.DataFrame) -> Facts:
        fill, first = oldest_fill(state), max(position - reach, 0)
        if fill is not None:
            first = min(first, int(np.searchsorted(grid, to_integers(pd.DatetimeIndex([fill]))[0])))
        since, until = decisions[first], decisions[position]
        out = {"news": news[(news_times >= since) & (news_times <= until)].reset_index(drop=True)}
        for name, (table, times, edges) in by_rows.items():
            parts = []
            for low, high in itertools.pairwise(edges):
                at, end = (
                    low + np.searchsorted(times[low:high], since),
                    low + np.searchsorted(times[low:high], until, "right"),
                )
                parts.append(np.arange(max(low, at - ROWS[name]), end))  # windows run over the rows printed
            out[name] = table.iloc[np.concatenate(parts)].reset_index(drop=True)
        if inputs.index is not None and index_times is not None:
            # Over all rows of prices, for a beta is of the bars that a symbol printed.
            oldest = min(since, to_integers(out["prices"]["time"]).min(initial=since))
            ours = (index_times >= oldest) & (index_times <= until)
            out["index"] = inputs.index[ours].reset_index(drop=True)
        return Facts(bars=inputs.bars.iloc[first : position + 1].reset_index(drop=True), **out)

    return cut


def make_reader(run: RunFile, inputs: Inputs, now: pd.Timestamp) -> Callable[[int, pd.DataFrame], Facts]:
    """(position of a bar, state before it) -> its Facts, read from the run's lake, as recorded by `now`."""
    lake, reach, grid = open_lake(beside(run, run.lake)), reach_of(run), to_integers(inputs.bars["open_time"])

    def read(position: int, state: pd.DataFrame) -> Facts:
        fill, first = oldest_fill(state), max(position - reach, 0)
        if fill is not None:
            first = min(first, int(np.searchsorted(grid, to_integers(pd.DatetimeIndex([fill]))[0])))
        begin = max(min(first, position - SPARE * ROWS["prices"]), 0)
        bars = inputs.bars.iloc[begin : position + 1].reset_index(drop=True)
        return read_facts(run, lake, bars, len(bars) - 1, recorded_by=now, first_bar=first - begin)

    return read


def _blocks(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The times of a table that is sorted by symbol and time, and where each symbol's rows begin and end."""
    symbols = table["symbol"].to_numpy(dtype=object)
    changes = np.flatnonzero(symbols[1:] != symbols[:-1]) + 1
    return to_integers(table["time"]), np.concatenate([[0], changes, [len(table)]])
