"""From outside into the lake: prices, actions, funding, open interest and news, as fetched.

Each piece is written as it comes, so a fetch that was stopped goes on where it stood, and one that is repeated adds
nothing. The log of fetches says which windows were asked: a bar that a service never had is not asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from finsignal.clock import make_bars
from finsignal.config import Feed, RunFile, to_span
from finsignal.errors import ConfigError, SourceError, TableError
from finsignal.lake import FETCHES, Lake, append, as_of, read_articles
from finsignal.sources.capture import to_articles
from finsignal.sources.grid import find_missing
from finsignal.sources.news_files import read_news
from finsignal.sources.price_files import read_prices
from finsignal.study.inputs import beside, news_layout, price_files, price_layout
from finsignal.tables import to_integers

OVERLAP = 3  # bars asked for again, so that a price corrected since is noticed
YAHOO_CACHE = ".cache/yahoo"  # within the lake: yfinance would keep its cookies in the home directory


@dataclass(frozen=True)
class Outcome:
    """What one fetch did: rows that were new to the lake, expected bars that did not come, or why it failed."""

    source: str
    symbol: str
    new: int = 0
    missing: int = 0
    notes: tuple[str, ...] = ()
    error: str = ""


def fetch_prices(
    lake: Lake,
    source: str,
    symbols: Sequence[str],
    *,
    market: str,
    bar: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
    now: pd.Timestamp,
    url: str = "",
    progress: bool = False,
) -> list[Outcome]:
    """Closed bars of each symbol that open in [start, end), into the lake; what is there is not asked for again.

    One symbol that fails does not stop the others: its outcome carries the error. Raises ConfigError for what no symbol
    could be asked for: a source without prices, a bar length that it lacks, a start that is not before the end.
    """
    if source not in ASKS:
        raise ConfigError(f"fetch: {source!r} has no prices; expected one of {sorted(ASKS)}.")
    bars = make_bars(market, bar, start=start, end=end, latency=pd.Timedelta(0))
    bars = bars[bars["close_time"] <= now].reset_index(drop=True)
    windows = find_wanted(lake, source, symbols, bars, market=market, bar=bar, now=now)
    ask = ASKS[source](lake, market=market, bar=bar, now=now, url=url)

    def fetch(symbol: str) -> Outcome:
        wanted = windows[symbol]
        if wanted.empty:
            return Outcome(source, symbol, notes=("everything was there",))
        new, missing, notes = ask(symbol, wanted)
        window = (wanted["open_time"].iloc[0], wanted["close_time"].iloc[-1])
        _log(lake, source, symbol, window, now=now, rows=new, missing=missing, notes=notes, market=market, bar=bar)
        return Outcome(source, symbol, new=new, missing=missing, notes=notes)

    return _each(source, symbols, fetch, progress=progress)


def fetch_derivatives(
    lake: Lake,
    symbols: Sequence[str],
    tables: Sequence[str],
    *,
    market: str,
    bar: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
    now: pd.Timestamp,
    url: str = "",
    progress: bool = False,
) -> list[Outcome]:
    """Funding rates and open interest of Bybit from `start` to before `end`; each goes on from the last one stored."""
    from finsignal.sources import bybit

    exchange = bybit.make_exchange(market, base_url=url or None)
    walks = {"funding": bybit.fetch_funding, "open_interest": partial(bybit.fetch_open_interest, bar=bar)}

    def fetch(symbol: str, table: str) -> Outcome:
        stored = as_of(lake, table, now, recorded_by=now, market=market, symbols=[symbol], since=start)
        new, first = 0, stored["time"].max() if len(stored) else start
        walk: Any = walks[table]
        if first < min(end, now):
            for page in walk(symbol, market=market, start=first, end=min(end, now), now=now, exchange=exchange):
                new += append(lake, table, page, recorded=now, market=market)
        return Outcome(f"bybit {table.replace('_', ' ')}", symbol, new=new)

    out = []
    for table in tables:
        out += _each(f"bybit {table.replace('_', ' ')}", symbols, partial(fetch, table=table), progress=progress)
    return out


def fetch_yahoo_news(
    lake: Lake,
    symbols: Sequence[str],
    *,
    names: Mapping[str, Sequence[str]],
    latency: pd.Timedelta,
    now: pd.Timestamp,
    url: str = "",
    progress: bool = False,
) -> list[Outcome]:
    """Yahoo's news of each symbol, into the lake."""
    from finsignal.sources import yahoo

    session = yahoo.make_session(url or None)

    def fetch(symbol: str) -> Outcome:
        items = yahoo.fetch_news(symbol, now=now, session=session, cache=lake.folder / YAHOO_CACHE)
        return _capture(lake, items, "yahoo news", symbol, names=names, latency=latency, now=now)

    return _each("yahoo news", symbols, fetch, progress=progress)


def fetch_feeds(
    lake: Lake,
    feeds: Mapping[str, Feed],
    *,
    names: Mapping[str, Sequence[str]],
    latency: pd.Timedelta,
    now: pd.Timestamp,
) -> list[Outcome]:
    """The items of each RSS or Atom feed, into the lake. An outcome's source is the feed's name."""
    from finsignal.sources.feeds import fetch_feed

    def fetch(name: str) -> Outcome:
        feed = feeds[name]
        items = fetch_feed(feed.url, name=name, about=feed.about, tz=feed.tz, now=now)
        return _capture(lake, items, f"feed {name}", "", names=names, latency=latency, now=now)

    return [_guard(f"feed {name}", "", partial(fetch, name)) for name in feeds]


def fetch_files(lake: Lake, run: RunFile, *, now: pd.Timestamp) -> list[Outcome]:
    """The price and news files of a run file, by its [prices] and [news], into the lake; a backfill of what they say.

    What a file holds of other symbols goes into the lake too. Raises as `read_prices` and `read_news`.
    """
    if not run.prices_path and not run.news_path:
        raise ConfigError(f"{run.path}: names no files. Pass --prices FILE or --news FILE, or set prices_path.")
    out = []
    if run.prices_path:
        bars = run.make_bars()
        prices, counts = read_prices(price_files(run), price_layout(run), bars=bars, now=now, limit=run.row_limit)
        new = append(lake, "prices", prices, recorded=now, market=run.market, bar=run.bar)
        for symbol, rows in prices.groupby("symbol"):
            window = (rows["open_time"].min(), rows["time"].max())
            _log(lake, "files", str(symbol), window, now=now, rows=len(rows), market=run.market, bar=run.bar)
        out.append(Outcome("files: prices", "", new=new, notes=(*_told(counts.dropped), *counts.notes)))
    if run.news_path:
        articles, links, counts = read_news(beside(run, run.news_path), news_layout(run), now=now, limit=run.row_limit)
        new = append(lake, "articles", articles, recorded=now)
        append(lake, "links", links, recorded=now)
        window = (articles["time"].min(), articles["time"].max())
        _log(lake, "files: news", "", window, now=now, rows=new)
        out.append(Outcome("files: news", "", new=new, notes=(*_told(counts.dropped), *counts.notes)))
    return out


def fetch_for(run: RunFile, lake: Lake, *, now: pd.Timestamp, progress: bool = False) -> list[Outcome]:
    """What a run file's [fetch] names, into the lake: prices and derivatives back to `back`, and news."""
    rules, out = run.fetch, []
    start = now - to_span(rules.back, f"{run.path}: fetch.back")
    window: dict[str, Any] = {"market": run.market, "bar": run.bar, "start": start, "end": now, "now": now}
    url = {"yahoo": rules.yahoo_url, "bybit": rules.bybit_url}
    if rules.prices:
        out += fetch_prices(lake, rules.prices, run.symbols, url=url[rules.prices], progress=progress, **window)
    tables = [table for table in ("funding", "open_interest") if getattr(rules, table)]
    if tables:
        out += fetch_derivatives(lake, run.symbols, tables, url=rules.bybit_url, progress=progress, **window)
    news: dict[str, Any] = {"names": _names_of(run), "latency": to_span(rules.latency, "fetch.latency"), "now": now}
    if rules.yahoo_news:
        out += fetch_yahoo_news(lake, run.symbols, url=rules.yahoo_url, progress=progress, **news)
    return out + fetch_feeds(lake, rules.feeds, **news)


def _names_of(run: RunFile) -> dict[str, Sequence[str]]:
    """The names of each symbol; one without any is still found by cashtag and ticker."""
    return {symbol: run.names.get(symbol, ()) for symbol in run.symbols}


def find_wanted(
    lake: Lake, source: str, symbols: Sequence[str], bars: pd.DataFrame, *, market: str, bar: str, now: pd.Timestamp
) -> dict[str, pd.DataFrame]:
    """For each symbol the bars to ask for: from a little before the first that is neither stored nor asked in vain."""
    if bars.empty:
        return dict.fromkeys(symbols, bars)
    since = bars["open_time"].iloc[0]
    stored = as_of(lake, "prices", now, recorded_by=now, market=market, bar=bar, symbols=symbols, since=since)
    asked = as_of(lake, "fetches", now, recorded_by=now, since=since)
    asked = asked[(asked["source"] == source) & (asked["market"] == market) & (asked["bar"] == bar)]
    grid, closes = to_integers(bars["open_time"]), to_integers(bars["close_time"])
    there = dict(list(stored.groupby("symbol")["open_time"]))
    windows = dict(list(asked.groupby("symbol")))
    out = {}
    for symbol in symbols:
        have = np.isin(grid, to_integers(there[symbol])) if symbol in there else np.zeros(len(grid), dtype=bool)
        for row in windows[symbol].itertuples() if symbol in windows else ():
            first, last, at = to_integers(pd.DatetimeIndex([row.start, row.end, row.recorded]))
            have |= (grid >= first) & (grid < last) & (closes <= at)
        first = len(grid) if have.all() else max(int(have.argmin()) - OVERLAP, 0)
        out[symbol] = bars.iloc[first:].reset_index(drop=True)
    return out


Ask = Callable[[str, pd.DataFrame], tuple[int, int, tuple[str, ...]]]  # symbol, bars -> rows new, missing, notes


def _ask_yahoo(lake: Lake, *, market: str, bar: str, now: pd.Timestamp, url: str) -> Ask:
    from finsignal.sources import yahoo

    session = yahoo.make_session(url or None)

    def ask(symbol: str, bars: pd.DataFrame) -> tuple[int, int, tuple[str, ...]]:
        got = yahoo.fetch_prices(symbol, bars=bars, bar=bar, now=now, session=session, cache=lake.folder / YAHOO_CACHE)
        append(lake, "actions", got.actions, recorded=now, market=market)  # first: they say on what basis prices are
        return append(lake, "prices", got.prices, recorded=now, market=market, bar=bar), len(got.missing), got.notes

    return ask


def _ask_bybit(lake: Lake, *, market: str, bar: str, now: pd.Timestamp, url: str) -> Ask:
    from finsignal.sources import bybit

    exchange = bybit.make_exchange(market, base_url=url or None)

    def ask(symbol: str, bars: pd.DataFrame) -> tuple[int, int, tuple[str, ...]]:
        new, pages = 0, []
        window = {"start": bars["open_time"].iloc[0], "end": bars["close_time"].iloc[-1]}
        for page in bybit.fetch_prices(symbol, market=market, bar=bar, now=now, exchange=exchange, **window):
            new += append(lake, "prices", page, recorded=now, market=market, bar=bar)
            pages.append(page)
        if not pages:
            return 0, len(bars), ("the service has no bar of this period",)
        missing = find_missing(pd.concat(pages), bars, symbol=symbol, now=now)
        return new, len(missing), ()

    return ask


ASKS: Mapping[str, Callable[..., Ask]] = {"yahoo": _ask_yahoo, "bybit": _ask_bybit}


def _capture(
    lake: Lake,
    items: pd.DataFrame,
    source: str,
    symbol: str,
    *,
    names: Mapping[str, Sequence[str]],
    latency: pd.Timedelta,
    now: pd.Timestamp,
) -> Outcome:
    """Items into the lake as articles and links; the earlier polls of the feed tell which of them came late."""
    polls = as_of(lake, "fetches", now, recorded_by=now)
    polls = polls.loc[(polls["source"] == source) & (polls["symbol"] == symbol), "recorded"]
    known = read_articles(lake, items["id"].tolist(), recorded_by=now)
    polled = polls.max() if len(polls) else None
    articles, links, counts = to_articles(items, now=now, polled=polled, known=known, latency=latency, names=names)
    new = append(lake, "articles", articles, recorded=now)  # before its links: a link needs its article
    append(lake, "links", links, recorded=now)
    _log(lake, source, symbol, (now, now), now=now, rows=new)
    return Outcome(source, symbol, new=new, notes=(*_told(counts.dropped), *counts.notes))


def _log(
    lake: Lake,
    source: str,
    symbol: str,
    window: tuple[pd.Timestamp, pd.Timestamp],
    *,
    now: pd.Timestamp,
    rows: int,
    missing: int = 0,
    notes: Sequence[str] = (),
    market: str = "",
    bar: str = "",
) -> None:
    row = {"source": source, "market": market, "bar": bar, "symbol": symbol, "start": window[0], "end": window[1]}
    frame = pd.DataFrame([{**row, "rows": rows, "missing": missing, "note": " ".join(notes), "recorded": now}])
    append(lake, "fetches", FETCHES.to_table(frame), recorded=now)


def _told(dropped: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{n} rows left out: {reason}" for reason, n in dropped.items() if n)


def _guard(source: str, symbol: str, fetch: Callable[[], Outcome]) -> Outcome:
    """The outcome; where a service fails for this symbol or feed, one that says why."""
    try:
        return fetch()
    except (SourceError, TableError) as err:
        return Outcome(source, symbol, error=str(err))


def _each(source: str, symbols: Sequence[str], fetch: Callable[[str], Outcome], *, progress: bool) -> list[Outcome]:
    from tqdm import tqdm

    return [
        _guard(source, symbol, partial(fetch, symbol))
        for symbol in tqdm(symbols, desc=source, unit="symbol", disable=not progress)
    ]
