"""Prices, splits and dividends from Yahoo, through yfinance."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.clock import DAY, to_bar
from finsignal.errors import ConfigError, SourceError
from finsignal.sources.grid import OFF_GRID, find_missing, place
from finsignal.sources.rows import OUTSIDE, UNFINISHED, Counts, check_now
from finsignal.sources.yahoo_news import fetch_news
from finsignal.sources.yahoo_service import (
    UNREADABLE,
    AnswerError,
    ask,
    asking,
    make_session,
    regular_periods,
    to_error,
)
from finsignal.tables import ACTIONS, BARS, INSTANT, PRICES, to_integers

__all__ = ["Fetched", "fetch_news", "fetch_prices", "make_session"]

INTERVALS = {DAY: "1d", pd.Timedelta(hours=1): "1h", pd.Timedelta(minutes=15): "15m"}
REACH = {"1h": pd.Timedelta(days=730), "15m": pd.Timedelta(days=60)}  # how far back Yahoo gives bars of a length
ROUNDING = 1e-6  # by which Yahoo's low or high may miss its own open or close, as a fraction
RECENT = pd.Timedelta(days=7)  # weekends and holidays: bars that end so long ago may be the latest that there are
NO_PRICE = "no price"
LEFT_OUT = "before the open, after the close or repeated"
_NO_FAULTS = (OUTSIDE, UNFINISHED, NO_PRICE, LEFT_OUT)
_OHLCV = ("Open", "High", "Low", "Close", "Volume")  # as yfinance calls them
_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.=&^_-]{0,31}")


@dataclass(frozen=True)
class Fetched:
    """What a service gave for one symbol and window."""

    prices: pd.DataFrame
    """`tables.PRICES` as fetched, adjusted by Yahoo for the splits up to the fetch; closed bars only."""
    actions: pd.DataFrame
    """`tables.ACTIONS`: splits as new shares for an old one, dividends as cash a share, from the ex-date's open."""
    missing: pd.DataFrame
    """The `tables.BARS` that had closed, after the listing, and have no row."""
    notes: tuple[str, ...] = ()
    """Sentences about rows that were left out and bars that were not given."""
    held: bool = False
    """Whether prices were left out because a split takes effect after `now`: ask again for all of them after it."""


@dataclass(frozen=True)
class _Chart:
    """An answer of Yahoo, and what yfinance made of it."""

    frame: pd.DataFrame
    stamps: list[int] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    events: dict[str, Any] = field(default_factory=dict)
    unsized: int = 0
    note: str = ""


def fetch_prices(
    symbol: str,
    *,
    bars: pd.DataFrame,
    bar: str,
    now: pd.Timestamp,
    session: Any,
    cache: Path,
    limit: float = 0.01,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """The bars of the grid `bars` (`clock.make_bars` of the symbol's market and `bar`) that had closed by `now`.

    Prices are not adjusted for dividends. Each row is placed on the grid by its session or its open, and known at its
    bar's close; unfinished bars are left out. Bars that Yahoo leaves out (the 12:30 bar of half days, halts) are in
    `missing` and never invented. yfinance keeps its files in the folder `cache`.

    Where the answer holds a split whose session has not opened by `now`, no prices are returned (`held`): Yahoo adjusts
    them some time before it, so nothing says whether they are for old shares or new ones.

    Raises ConfigError for a bar length that Yahoo lacks (it has 1d, 1h, 15min) or what is no symbol. Raises SourceError
    for a start beyond Yahoo's reach (1h: 730 days, 15min: 60), an unknown symbol, a service that stays busy, away or
    cut off, an answer whose shape has changed, and where more than `limit` (a fraction of the rows, one is always
    allowed) are off the grid or hold no sensible prices.
    """
    interval = _to_interval(bar)
    _check_symbol(symbol)
    check_now(now)
    closed = BARS.check(bars)[bars["close_time"] <= now]
    if closed.empty:
        return Fetched(PRICES.empty(), ACTIONS.empty(), BARS.empty(), (f"{symbol} {bar}: no bar had closed.",))
    first = closed["open_time"].iloc[0]
    subject = f"{symbol} {bar} from {first:%Y-%m-%d}"
    reach = REACH.get(interval)
    if reach is not None and first < now - reach:
        raise SourceError(
            f"yahoo: bars of {bar} reach back {reach.days} days, now to {(now - reach).ceil('D'):%Y-%m-%d}; asked for "
            f"{subject}. Start later. Nothing was written."
        )
    chart = _ask_chart(symbol, interval, _to_window(closed, interval, now), subject, session, cache, sleep)
    prices, counts = _to_prices(chart, symbol, interval, bars, now)
    _check_counts(counts, limit, subject)
    actions, remarks = _to_actions(chart, symbol, bars, now)
    ahead = _find_splits_ahead(chart, bars, now)
    if ahead:
        said = (f"{symbol} {bar}: {note}: prices are asked for again after it." for note in ahead)
        none = PRICES.empty()
        missing = find_missing(none, bars, symbol=symbol, now=now)
        return Fetched(none, actions, missing, tuple(said), held=True)
    since = chart.meta.get("firstTradeDate")
    listed = pd.Timestamp(since if isinstance(since, int) else 0, unit="s", tz="UTC")
    missing = find_missing(prices, bars, symbol=symbol, now=now)
    unlisted = missing["close_time"] <= listed
    missing = missing[~unlisted].reset_index(drop=True)
    dropped = {reason: n for reason, n in counts.dropped.items() if reason != OUTSIDE}
    notes = [f"rows left out: {n} of {counts.read}, {reason}." for reason, n in dropped.items()]
    notes += [*counts.notes, *remarks, *([chart.note] if chart.note else [])]
    if unlisted.any():
        notes.append(f"traded since {listed:%Y-%m-%d}; bars of the grid before that: {int(unlisted.sum())}.")
    if len(missing):
        ends = [f"{missing['open_time'].iloc[i]:%Y-%m-%dT%H:%MZ}" for i in (0, -1)]
        notes.append(f"closed bars not given: {len(missing)} of {len(closed)}, from {ends[0]} to {ends[1]}.")
    return Fetched(prices, actions, missing, tuple(f"{symbol} {bar}: {note}" for note in notes))


def _to_interval(bar: str) -> str:
    length = to_bar(bar)
    if length not in INTERVALS:
        raise ConfigError(f"bar: Yahoo has bars of 1d, 1h and 15min, not of {bar!r}. Choose one of them.")
    return INTERVALS[length]


def _check_symbol(symbol: str) -> None:
    if not _SYMBOL.fullmatch(symbol):
        raise ConfigError(f"symbol: {symbol!r} is no symbol of Yahoo's. Write for example 'AAPL' or 'BTC-USD'.")


def _to_window(closed: pd.DataFrame, interval: str, now: pd.Timestamp) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Start and end to ask for; daily rows are stamped anywhere in their day, and the latest at its last trade.

    With the latest bars the actions of today are asked for as well, for Yahoo gives those of the window alone.
    """
    first, last = closed["open_time"].iloc[0], closed["close_time"].iloc[-1]
    start, end = (first.floor("D") - DAY, last.ceil("D") + DAY) if interval == "1d" else (first, last)
    return start, max(end, now.ceil("D") + DAY) if now - last < RECENT else end


def _ask_chart(
    symbol: str,
    interval: str,
    window: tuple[pd.Timestamp, pd.Timestamp],
    subject: str,
    session: Any,
    cache: Path,
    sleep: Callable[[float], None],
) -> _Chart:
    with asking(cache) as yfinance:

        def read_history() -> pd.DataFrame:
            # keepna: else rows without prices are gone before they are counted
            return yfinance.Ticker(symbol, session=session).history(
                interval=interval,
                start=window[0].to_pydatetime(),
                end=window[1].to_pydatetime(),
                prepost=False,
                auto_adjust=False,
                actions=True,
                repair=False,
                keepna=True,
            )

        session.answer = None
        frame = pd.DataFrame()
        try:
            frame = ask(read_history, subject, session, sleep)
        except AnswerError as err:
            if err.kind == "nothing":
                return _Chart(frame, note=f"Yahoo has nothing in this window ({err}).")
            raise to_error(err, subject) from err
        except (yfinance.exceptions.YFException, *UNREADABLE) as err:
            # a window without rows as well: yfinance speaks of a delisted symbol, or stumbles over the lack of stamps
            if session.answer is None or session.answer["chart"]["result"][0].get("timestamp"):
                raise to_error(err, subject) from err
    result = session.answer["chart"]["result"][0]
    meta, stamps = result["meta"], result.get("timestamp") or []
    if str(meta["symbol"]).upper() != symbol.upper():
        raise SourceError(f"yahoo: asked for {subject}, the answer is about {meta['symbol']!r}. Nothing was written.")
    quote = result["indicators"]["quote"][0]
    sizes = zip(quote.get("volume", ()), quote.get("close", ()), strict=True)
    unsized = sum(volume is None and close is not None for volume, close in sizes)
    note = "" if stamps else "Yahoo has nothing in this window."
    return _Chart(frame, stamps, meta, result.get("events") or {}, unsized, note)


def _to_prices(
    chart: _Chart, symbol: str, interval: str, bars: pd.DataFrame, now: pd.Timestamp
) -> tuple[pd.DataFrame, Counts]:
    """`tables.PRICES` of the answer, and the counts of its rows. Plain arrays: this is asked for many symbols."""
    frame, read = chart.frame, len(chart.stamps)
    if frame.empty:
        return PRICES.empty(), Counts(read=read, kept=read)
    daily = interval == "1d"
    labels = frame.index.tz_localize(None).tz_localize("UTC") if daily else frame.index.tz_convert("UTC")
    position, outside = place(labels, bars, stamp="date" if daily else "open")
    opens, highs, lows, closes, volumes = (frame[part].to_numpy(dtype="float64") for part in _OHLCV)
    within = np.minimum(opens, closes), np.maximum(opens, closes)
    on_grid, counted = np.unique(position[position >= 0], return_counts=True)
    known = to_integers(bars["close_time"]) <= to_integers(pd.DatetimeIndex([now]))[0]
    prices = np.array([opens, highs, lows, closes])
    crossed = (lows > within[0] * (1 + ROUNDING)) | (highs < within[1] * (1 - ROUNDING))
    reasons = (
        (NO_PRICE, ~np.isfinite(prices).all(axis=0)),
        (OUTSIDE, outside),
        ("price not above 0", (prices <= 0).any(axis=0)),
        ("open or close outside low and high", crossed),
        ("volume below 0", volumes < 0),
        (OFF_GRID, position < 0),
        ("several rows of one bar", np.isin(position, on_grid[counted > 1])),
        (UNFINISHED, ~known[position]),
    )
    # yfinance adds rows without prices for actions outside the rows, so there may be more than were read
    counts = Counts(read=read, kept=max(read, len(frame))).without(max(read - len(frame), 0), LEFT_OUT)
    keep = np.ones(len(frame), dtype=bool)
    for reason, bad in reasons:
        counts = counts.without(int((keep & bad).sum()), reason)
        keep &= ~bad
    if chart.unsized:
        counts = counts.note(f"rows without volume, which is taken as 0: {chart.unsized}.")
    at = np.sort(position[keep])
    order = np.flatnonzero(keep)[np.argsort(position[keep])]
    table = {
        "open_time": bars["open_time"].array[at],
        "time": bars["close_time"].array[at],
        "symbol": pd.Series([symbol] * len(at), dtype="str"),
        "open": opens[order],
        "high": np.maximum(highs, within[1])[order],
        "low": np.minimum(lows, within[0])[order],
        "close": closes[order],
        "volume": volumes[order],
    }
    return PRICES.check(pd.DataFrame(table)), counts


def _check_counts(counts: Counts, limit: float, subject: str) -> None:
    faults = {reason: n for reason, n in counts.dropped.items() if reason not in _NO_FAULTS}
    total = sum(faults.values())
    if total > max(1, limit * counts.read) or (total and not counts.kept):
        worst = max(faults, key=lambda reason: faults[reason])
        raise SourceError(
            f"yahoo: {total} of {counts.read} rows cannot be used (at most {limit:.1%} are expected; most often: "
            f"{worst}) for {subject}. Check that the market is the symbol's. Nothing was written."
        )


def _to_actions(chart: _Chart, symbol: str, bars: pd.DataFrame, now: pd.Timestamp) -> tuple[pd.DataFrame, list[str]]:
    """`tables.ACTIONS` of the answer in the sessions of the grid that had opened, and remarks about them."""
    found = [("split", e["date"], _ratio(e)) for e in (chart.events.get("splits") or {}).values()]
    found += [("dividend", e["date"], float(e["amount"])) for e in (chart.events.get("dividends") or {}).values()]
    rows: list[tuple[str, pd.Timestamp, str, float]] = []
    remarks: list[str] = []
    opens = _session_opens(chart, bars) if found else pd.Series(dtype=INSTANT)
    for kind, stamp, value in found:
        date = f"{pd.Timestamp(stamp, unit='s', tz='UTC').tz_convert(chart.meta['exchangeTimezoneName']):%Y-%m-%d}"
        at = int(np.searchsorted(opens.index.to_numpy(dtype=object), date))
        if at == len(opens) or (at == 0 and opens.index[0] != date) or opens.iloc[at] > now:
            continue
        if opens.index[at] != date:
            remarks.append(f"a {kind} of {date}, which is no session, holds from {opens.index[at]}.")
        if not (np.isfinite(value) and value > 0):
            remarks.append(f"a {kind} of {date} has value {value} and is left out.")
            continue
        rows.append((symbol, opens.iloc[at], kind, value))
    currencies = {str(e.get("currency") or "") for e in (chart.events.get("dividends") or {}).values()} - {""}
    if currencies - {str(chart.meta.get("currency"))}:
        remarks.append(f"dividends are in {', '.join(sorted(currencies))}, prices in {chart.meta['currency']}.")
    if chart.events.get("capitalGains"):
        remarks.append(f"{len(chart.events['capitalGains'])} distributions of capital gains are left out.")
    if not rows:
        return ACTIONS.empty(), remarks
    table = pd.DataFrame(rows, columns=["symbol", "time", "kind", "value"])
    several = table.groupby(["symbol", "time", "kind"])["value"]
    table = table.assign(value=several.transform("sum").where(table["kind"] == "dividend", several.transform("prod")))
    return ACTIONS.to_table(table.drop_duplicates(["symbol", "time", "kind"])), remarks


def _find_splits_ahead(chart: _Chart, bars: pd.DataFrame, now: pd.Timestamp) -> list[str]:
    """The splits of the answer whose session had not opened; one of today counts so until the grid has its session."""
    splits = (chart.events.get("splits") or {}).values()
    if not splits:
        return []
    opens, zone = _session_opens(chart, bars), chart.meta["exchangeTimezoneName"]
    found = []
    for split in splits:
        at = pd.Timestamp(split["date"], unit="s", tz="UTC")
        later = opens[opens.index.to_numpy(dtype=object) >= f"{at.tz_convert(zone):%Y-%m-%d}"]
        if len(later):
            at, ahead = later.iloc[0], later.iloc[0] > now
        else:
            ahead = at.tz_convert(zone).date() >= now.tz_convert(zone).date()
        if ahead and np.isfinite(_ratio(split)) and _ratio(split) > 0:
            found.append(f"a split of {_ratio(split):g} for 1 takes effect at {at:%Y-%m-%dT%H:%MZ}")
    return found


def _ratio(split: dict[str, Any]) -> float:
    return split["numerator"] / split["denominator"] if split["denominator"] else float("nan")


def _session_opens(chart: _Chart, bars: pd.DataFrame) -> pd.Series:
    """The open of each session of the grid; of the first also where the grid begins after it.

    Else a split read with an afternoon would hold from another instant than the same split read with its day, and
    count twice.
    """
    opens = bars.groupby("session")["open_time"].first()
    starts = pd.to_datetime([p["start"] for p in regular_periods(chart.meta)], unit="s", utc=True).as_unit("us")
    local = starts.tz_convert(chart.meta.get("exchangeTimezoneName", "UTC")).strftime("%Y-%m-%d")
    same = starts[(local == opens.index[0]) & (starts < opens.iloc[0])]
    if len(same):
        opens.iloc[0] = same.min()
    return opens
