"""From outside into the lake: prices, actions, funding, open interest and news, as fetched.

Each piece is written as it comes, so a fetch that was stopped goes on where it stood, and one that is repeated adds
nothing. The log of fetches says which windows were asked: a bar that a service never had is not asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from finsignal.clock import make_bars
from finsignal.config import Feed, RunFile, to_span
from finsignal.errors import ConfigError, SourceError, TableError
from finsignal.lake import FETCHES, Lake, append, as_of, read_articles
from finsignal.sources.capture import to_articles
from finsignal.sources.dividends import to_dividends
from finsignal.sources.news_files import read_news
from finsignal.sources.price_files import read_prices
from finsignal.study.inputs import beside, list_price_files, list_symbols, news_layout, price_layout
from finsignal.tables import PRICES, to_integers

OVERLAP = 3  # bars asked for again, so that a price corrected since is noticed
FLUSH = 1000  # rows written at a time: so many are asked for again after a kill
LONG = 100  # rows of a page of funding or open interest, that are not to be asked for again after a kill
GRACE = pd.Timedelta(
    1, unit="D"
)  # services give some bars late: from so long after its close on, one asked in vain is none
NOTHING = np.array([], dtype=np.int64)
POLLS_KEPT = pd.Timedelta(30, unit="D")  # a feed not polled for longer was not watched: what it brings is a backfill
EDIT = r"#[0-9a-f]{16}$"
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
    again: bool = False,
    progress: bool = False,
) -> list[Outcome]:
    """Closed bars of each symbol that open in [start, end), into the lake; what is there is not asked for again.

    Nor is what a source was asked for in vain a day after it closed; with `again` it is, for a source may have had it
    since, or a gap have been a fault. Where nothing is left to ask for, `missing` counts such bars.

    One symbol that fails does not stop the others: its outcome carries the error. Bars that were there and come with
    other values are kept beside the old ones, and told by an outcome of their own. Raises ConfigError for what no
    symbol could be asked for: a source without prices, a bar length that it lacks, a start that is not before the end.
    """
    if source not in ASKS:
        raise ConfigError(f"fetch: {source!r} has no prices; expected one of {sorted(ASKS)}.")
    bars = make_bars(market, bar, start=start, end=end, latency=pd.Timedelta(0))
    bars = bars[bars["close_time"] <= now].reset_index(drop=True)
    stored, windows = find_wanted(lake, source, symbols, bars, market=market, bar=bar, now=now, again=again)
    ask = ASKS[source](lake, market=market, bar=bar, now=now, url=url)
    store = _Store(lake, source, market, bar, now)

    def fetch(symbol: str) -> Outcome:
        wanted = windows[symbol]
        if wanted.empty:
            lacking = int((~np.isin(to_integers(bars["open_time"]), stored[symbol])).sum())
            note = f"{lacking} bars are missing, and were asked for before" if lacking else "everything was there"
            return Outcome(source, symbol, missing=lacking, notes=(note,))
        came, new, notes, held = [NOTHING], 0, list[str](), False
        for actions, page, said in ask(symbol, wanted):
            notes += said
            if page is None:
                held = True
                store.add(actions, PRICES.empty())
                continue
            came.append(to_integers(page["open_time"]))
            fresh = int((~np.isin(came[-1], stored[symbol])).sum())
            new, store.fresh = new + fresh, store.fresh + fresh
            store.add(actions, page)
        opens, grid = np.concatenate(came), to_integers(wanted["open_time"])
        if len(opens) and not len(stored[symbol]) and opens.min() > grid[0]:
            notes.append(
                f"the first bar is that of {wanted['open_time'].iloc[int(np.searchsorted(grid, opens.min()))]}"
            )
        missing = int((~np.isin(grid, opens)).sum())
        if held:  # not logged: it was no answer, and is to be asked for again however old the bars are
            return Outcome(source, symbol, missing=int((~np.isin(grid, stored[symbol])).sum()), notes=tuple(notes))
        window = (wanted["open_time"].iloc[0], wanted["close_time"].iloc[-1])
        store.log(symbol, window, rows=new, missing=missing, notes=notes)
        return Outcome(source, symbol, new=new, missing=missing, notes=tuple(notes))

    try:
        out = _each(source, symbols, fetch, progress=progress)
    finally:
        store.flush()  # what came is kept, also where the fetch is stopped
    corrected = store.count - store.fresh
    if corrected > 0:
        out.append(Outcome(source, "", new=corrected, notes=("bars that came with other values; both are kept",)))
    return out


@dataclass
class _Store:
    """Pages on their way into the lake, written together: a symbol a write would make a pass of fifty slow."""

    lake: Lake
    source: str
    market: str
    bar: str
    now: pd.Timestamp
    count: int = 0  # rows of prices that the lake did not have
    fresh: int = 0  # bars among them of which it had no version
    actions: list[pd.DataFrame] = field(default_factory=list)
    pages: list[pd.DataFrame] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, actions: pd.DataFrame | None, page: pd.DataFrame) -> None:
        if actions is not None:
            self.actions.append(actions)
        self.pages.append(page)
        if sum(map(len, self.pages)) >= FLUSH:
            self.flush()

    def log(
        self,
        symbol: str,
        window: tuple[pd.Timestamp, pd.Timestamp],
        *,
        rows: int,
        missing: int = 0,
        notes: Sequence[str] = (),
    ) -> None:
        self.windows.append(
            {
                **{"source": self.source, "market": self.market, "bar": self.bar, "symbol": symbol},
                **{"start": window[0], "end": window[1], "recorded": self.now},
                **{"rows": rows, "missing": missing, "note": " ".join(notes)},
            }
        )

    def find_logged(self, fetches: pd.DataFrame, symbol: str) -> pd.DataFrame:
        """The rows of FETCHES that are about this symbol, of this source, market and bar."""
        own = (fetches["source"] == self.source) & (fetches["market"] == self.market) & (fetches["bar"] == self.bar)
        return fetches[own & (fetches["symbol"] == symbol)]

    def flush(self) -> None:
        """Actions first, for they say on what basis prices are; the log last, for it says that all is there."""
        if any(map(len, self.actions)):
            actions = pd.concat(self.actions, ignore_index=True)
            append(self.lake, "actions", actions, recorded=self.now, market=self.market, in_order=True)
        if any(map(len, self.pages)):
            prices = pd.concat(self.pages, ignore_index=True)
            of: dict[str, Any] = {"market": self.market, "bar": self.bar}
            self.count += append(self.lake, "prices", prices, recorded=self.now, in_order=True, **of)
        if self.windows:
            append(self.lake, "fetches", FETCHES.to_table(pd.DataFrame(self.windows)), recorded=self.now, in_order=True)
        self.actions, self.pages, self.windows = [], [], []


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
    """Funding rates and open interest of Bybit from `start` to before `end`; each goes on from where the log ends.

    What was asked for from `start` on, one window after the other, says where: a start before them all begins anew.
    """
    from finsignal.sources import bybit

    exchange = bybit.make_exchange(market, base_url=url or None)
    walks = {"funding": bybit.fetch_funding, "open_interest": partial(bybit.fetch_open_interest, bar=bar)}
    asked = as_of(lake, "fetches", now, recorded_by=now, since=start)

    def fetch(symbol: str, table: str, store: _Store) -> Outcome:
        reach = _find_reach(store.find_logged(asked, symbol), start)
        kept: Any = {"market": market, "bar": store.bar}
        stored = as_of(lake, table, now, recorded_by=now, symbols=[symbol], since=start, **kept)["time"]
        last = min(end, now)
        first = stored[stored <= reach].max() if (stored <= reach).any() else start
        new, at, fresh = 0, first, 0  # the last two: from where on nothing is logged yet, and its new rows
        walk: Any = walks[table]
        if first < last:
            pages = walk(symbol, market=market, start=first, end=last, now=now, exchange=exchange)
            for page in pages:
                count = append(lake, table, page, recorded=now, in_order=True, **kept)
                new, fresh = new + count, fresh + count
                if len(page) >= LONG:
                    store.log(symbol, (at, page["time"].max()), rows=fresh)
                    store.flush()
                    at, fresh = page["time"].max(), 0
            store.log(symbol, (min(at, last), last), rows=fresh)
        return Outcome(store.source, symbol, new=new)

    out = []
    for table in tables:
        store = _Store(lake, f"bybit {table.replace('_', ' ')}", market, bar if table == "open_interest" else "", now)
        try:
            out += _each(store.source, symbols, partial(fetch, table=table, store=store), progress=progress)
        finally:
            store.flush()
    return out


def _find_reach(asked: pd.DataFrame, start: pd.Timestamp) -> pd.Timestamp:
    """The instant up to which all was asked for from `start` on; `start` where no window holds it."""
    reach = start
    for first, last in sorted(zip(asked["start"], asked["end"], strict=True)):
        if first <= reach < last:
            reach = last
    return reach


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

    def read(symbol: str) -> pd.DataFrame:
        return yahoo.fetch_news(symbol, now=now, session=session, cache=lake.folder / YAHOO_CACHE)

    options: Any = {"names": names, "latency": latency, "now": now, "progress": progress}
    return _capture(lake, "yahoo news", symbols, read, together=True, **options)


def fetch_feeds(
    lake: Lake,
    feeds: Mapping[str, Feed],
    *,
    names: Mapping[str, Sequence[str]],
    latency: pd.Timedelta,
    now: pd.Timestamp,
) -> list[Outcome]:
    """The items of each RSS or Atom feed, into the lake. The name of the feed stands for the symbol in its outcome."""
    from finsignal.sources.feeds import fetch_feed

    def read(name: str) -> pd.DataFrame:
        feed = feeds[name]
        return fetch_feed(feed.url, name=name, about=feed.about, tz=feed.tz, precision=feed.precision, now=now)

    return _capture(lake, "feed", list(feeds), read, names=names, latency=latency, now=now, together=False)


def _capture(
    lake: Lake,
    source: str,
    polls: Sequence[str],
    read: Callable[[str], pd.DataFrame],
    *,
    names: Mapping[str, Sequence[str]],
    latency: pd.Timedelta,
    now: pd.Timestamp,
    together: bool,
    progress: bool = False,
) -> list[Outcome]:
    """The items of each poll into the lake, as articles and links; the earlier poll of each tells what came late.

    Where the polls are of one and the same feed (`together`), those whose earlier one was at the same instant, as those
    of a job are, are captured together.
    """
    if not polls:
        return []
    # Of a poll that began later but was there first, and after a clock that went back, the log says more than now: then
    # all that is new came late, for it was not there a moment ago.
    ahead = now + POLLS_KEPT
    earlier = as_of(lake, "fetches", ahead, recorded_by=ahead, since=now - POLLS_KEPT)
    earlier = earlier[earlier["source"] == source].groupby("symbol")["recorded"].max().clip(upper=now)
    store, out = _Store(lake, source, "", "", now), list[Outcome]()
    groups: dict[tuple[pd.Timestamp | None, str], dict[str, pd.DataFrame]] = {}

    def ask(poll: str) -> Outcome:
        groups.setdefault((earlier.get(poll), "" if together else poll), {})[poll] = read(poll)
        return Outcome(source, poll)

    asked = {outcome.symbol: outcome for outcome in _each(source, polls, ask, progress=progress)}
    # The latest poll first, and those never polled last: an item that a watched poll did not bring then came late, also
    # where it stands in the first poll of another symbol, for which it would be a backfill.
    order = sorted(groups, key=lambda group: now - group[0] if group[0] is not None else POLLS_KEPT)
    for polled, tables in ((group[0], groups[group]) for group in order):
        items = pd.concat(tables.values(), ignore_index=True)
        known = read_articles(lake, items["id"].unique().tolist(), recorded_by=now)
        try:
            articles, links, counts = to_articles(
                items, now=now, polled=polled, known=known, latency=latency, names=names
            )
        except TableError as err:
            asked |= {poll: Outcome(source, poll, error=str(err)) for poll in tables}
            continue
        append(lake, "articles", articles, recorded=now, in_order=True)  # before its links: a link needs its article
        append(lake, "links", links, recorded=now, in_order=True)
        told = (*(f"{n} items left out: {reason}" for reason, n in counts.dropped.items() if n), *counts.notes)
        for poll, table in tables.items():
            new = int(articles["article_id"].str.replace(EDIT, "", regex=True).isin(table["id"]).sum())
            store.log(poll, (now, now), rows=new, notes=told if len(tables) == 1 else ())
            asked[poll] = Outcome(source, poll, new=new, notes=told if len(tables) == 1 else ())
        if len(tables) > 1 and told:
            out.append(Outcome(source, "", notes=told))
    store.flush()
    return [*asked.values(), *out]


def fetch_files(lake: Lake, run: RunFile, *, now: pd.Timestamp) -> list[Outcome]:
    """The price and news files of a run file, by its [prices] and [news], into the lake; a backfill of what they say.

    What a file holds of other symbols goes into the lake too. Raises as `read_prices` and `read_news`.
    """
    if not run.prices_path and not run.news_path:
        raise ConfigError(f"{run.path}: names no files. Pass --prices FILE or --news FILE, or set prices_path.")
    out = []
    if run.prices_path:
        bars = run.make_bars()
        prices, counts = read_prices(list_price_files(run), price_layout(run), bars=bars, now=now, limit=run.row_limit)
        new = append(lake, "prices", prices, recorded=now, market=run.market, bar=run.bar, in_order=True)
        if "dividend" in prices:
            append(lake, "actions", to_dividends(prices), recorded=now, market=run.market, in_order=True)
        store = _Store(lake, "files", run.market, run.bar, now)
        for symbol, rows in prices.groupby("symbol"):
            store.log(str(symbol), (rows["open_time"].min(), rows["time"].max()), rows=len(rows))
        store.flush()
        out.append(Outcome("files: prices", "", new=new, notes=(*_told(counts.dropped), *counts.notes)))
    if run.news_path:
        articles, links, counts = read_news(beside(run, run.news_path), news_layout(run), now=now, limit=run.row_limit)
        new = append(lake, "articles", articles, recorded=now, in_order=True)
        append(lake, "links", links, recorded=now, in_order=True)
        store = _Store(lake, "files: news", "", "", now)
        store.log("", (articles["time"].min(), articles["time"].max()), rows=new)
        store.flush()
        out.append(Outcome("files: news", "", new=new, notes=(*_told(counts.dropped), *counts.notes)))
    return out


def fetch_for(run: RunFile, lake: Lake, *, now: pd.Timestamp, progress: bool = False) -> list[Outcome]:
    """What a run file's [fetch] names, into the lake: prices and derivatives back to `back`, and news."""
    rules, out = run.fetch, []
    start = now - to_span(rules.back, f"{run.path}: fetch.back")
    window: dict[str, Any] = {"market": run.market, "bar": run.bar, "start": start, "end": now, "now": now}
    url = {"yahoo": rules.yahoo_url, "bybit": rules.bybit_url}
    if rules.prices:
        out += fetch_prices(lake, rules.prices, list_symbols(run), url=url[rules.prices], progress=progress, **window)
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
    lake: Lake,
    source: str,
    symbols: Sequence[str],
    bars: pd.DataFrame,
    *,
    market: str,
    bar: str,
    now: pd.Timestamp,
    again: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, pd.DataFrame]]:
    """For each symbol the opens stored (microseconds), and the bars to ask for.

    They run from a little before the first bar that is neither stored nor was asked for in vain GRACE after its close;
    with `again`, from before the first that is not stored.
    """
    if bars.empty:
        return dict.fromkeys(symbols, NOTHING), dict.fromkeys(symbols, bars)
    since = bars["open_time"].iloc[0]
    stored = as_of(lake, "prices", now, recorded_by=now, market=market, bar=bar, symbols=symbols, since=since)
    asked = as_of(lake, "fetches", now, recorded_by=now, since=since)
    asked = asked[(asked["source"] == source) & (asked["market"] == market) & (asked["bar"] == bar)]
    grid, closes = to_integers(bars["open_time"]), to_integers(bars["close_time"])
    grace = GRACE // pd.Timedelta(1, unit="us")
    there = {str(symbol): to_integers(opens) for symbol, opens in stored.groupby("symbol")["open_time"]}
    windows = {} if again else dict(list(asked.groupby("symbol")))
    out = {}
    for symbol in symbols:
        have = np.isin(grid, there.get(symbol, NOTHING))
        if symbol in windows and not have.all():
            starts, ends, at = (to_integers(windows[symbol][column]) for column in ("start", "end", "recorded"))
            for first, last, recorded in zip(starts, ends, at, strict=True):
                have |= (grid >= first) & (grid < last) & (closes + grace <= recorded)
        first = len(grid) if have.all() else max(int(have.argmin()) - OVERLAP, 0)
        out[symbol] = bars.iloc[first:].reset_index(drop=True)
    return {symbol: there.get(symbol, NOTHING) for symbol in symbols}, out


Page = tuple[pd.DataFrame | None, pd.DataFrame | None, tuple[str, ...]]
"""ACTIONS and PRICES as fetched, with notes. PRICES are None where they were held back, to be asked for again."""
Ask = Callable[[str, pd.DataFrame], Iterator[Page]]
"""A symbol and the bars wanted of it -> its pages."""


def _ask_yahoo(lake: Lake, *, market: str, bar: str, now: pd.Timestamp, url: str) -> Ask:
    from finsignal.sources import yahoo

    session = yahoo.make_session(url or None)

    def ask(symbol: str, bars: pd.DataFrame) -> Iterator[Page]:
        got = yahoo.fetch_prices(symbol, bars=bars, bar=bar, now=now, session=session, cache=lake.folder / YAHOO_CACHE)
        yield got.actions, None if got.held else got.prices, got.notes

    return ask


def _ask_bybit(lake: Lake, *, market: str, bar: str, now: pd.Timestamp, url: str) -> Ask:
    from finsignal.sources import bybit

    exchange = bybit.make_exchange(market, base_url=url or None)

    def ask(symbol: str, bars: pd.DataFrame) -> Iterator[Page]:
        start, end = bars["open_time"].iloc[0], bars["close_time"].iloc[-1]
        for page in bybit.fetch_prices(
            symbol, market=market, bar=bar, start=start, end=end, now=now, exchange=exchange
        ):
            yield None, page, ()

    return ask


ASKS: Mapping[str, Callable[..., Ask]] = {"yahoo": _ask_yahoo, "bybit": _ask_bybit}


def _told(dropped: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{n} rows left out: {reason}" for reason, n in dropped.items() if n)


def _each(source: str, symbols: Sequence[str], fetch: Callable[[str], Outcome], *, progress: bool) -> list[Outcome]:
    """The outcome of each symbol or feed; where it fails, one that says why. What none can be asked for raises."""
    from tqdm import tqdm

    out, refused = list[Outcome](), list[ConfigError]()
    for symbol in tqdm(symbols, desc=source, unit="symbol", disable=not progress):
        try:
            out.append(fetch(symbol))
        except (SourceError, TableError, ConfigError) as err:
            out.append(Outcome(source, symbol, error=str(err)))
            refused += [err] if isinstance(err, ConfigError) else []
    if refused and len(refused) == len(symbols):
        raise refused[0]
    return out
