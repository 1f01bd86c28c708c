"""What a run reads: the grid, prices and news of its files, counted; and whether its model has seen the period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.clock import to_instant
from finsignal.config import RunFile
from finsignal.errors import ConfigError, LookaheadError, TableError, did_you_mean
from finsignal.lake import Lake, as_of, open_lake, read_dividends, read_links
from finsignal.sentiment.score import Model
from finsignal.signals import bars_of_rows
from finsignal.sources.capture import MARKET, to_news
from finsignal.sources.dividends import to_dividends
from finsignal.sources.files import (
    Counts,
    NewsLayout,
    PriceLayout,
    join_news,
    make_links,
    read_news,
    read_prices,
    score_relevance,
)
from finsignal.sources.renaming import to_rename
from finsignal.sources.rows import MARKET_WIDE
from finsignal.tables import LINKS

MOMENT = pd.Timedelta(microseconds=1)
UNKNOWN_SCORES = (
    "Scores from elsewhere: what they have seen is not known, and each is assumed to have been known with its text."
)


@dataclass(frozen=True)
class Inputs:
    """What a run reads: grid, prices, news of its symbols with relevance, and how many rows were dropped and why.

    funding and open_interest are None where the run has none. actions are the dividends that an account receives, on
    the basis of `prices`, whose splits are in them already; None where prices come from files that say nothing of them.
    index holds the prices of the symbol that stands for the market, whether it is traded or not; None where none is
    named.
    """

    bars: pd.DataFrame
    prices: pd.DataFrame
    news: pd.DataFrame
    price_counts: Counts
    news_counts: Counts
    funding: pd.DataFrame | None = None
    open_interest: pd.DataFrame | None = None
    actions: pd.DataFrame | None = None
    index: pd.DataFrame | None = None


def read_inputs(run: RunFile, *, now: pd.Timestamp, ahead: bool = False) -> Inputs:
    """The run's grid, prices and news, from its files or its lake.

    Bars that have not closed by `now` are left out, unless `ahead` keeps them for a signal on one of them.

    Raises where a file cannot be used, the lake holds nothing of a symbol, or prices and news do not overlap.
    """
    bars = run.make_bars()
    if not ahead:
        bars = bars[bars["close_time"] <= now].reset_index(drop=True)
    if len(bars) < 2:
        raise ConfigError(
            f"{run.path}: {len(bars)} bars between {run.start} and {run.end} have closed; a backtest needs 2 or more."
        )
    inputs = _read_lake(run, bars, now) if run.lake else _read_files(run, bars, now)
    for symbol in run.symbols:
        if not (inputs.prices["symbol"] == symbol).any():
            raise TableError(
                f"prices: no bar of {symbol} between {run.start} and {run.end}; check symbols and sources."
            )
    if inputs.index is not None and inputs.index.empty:
        raise TableError(f"prices: no bar of {run.index}, the run's index, between {run.start} and {run.end}.")
    news = inputs.news
    first, last = bars["time"].iloc[0], bars["time"].iloc[-1]
    if not news["time"].between(first, last).any():
        found = f"news runs {news['time'].min()} to {news['time'].max()}" if len(news) else "no news is about them"
        raise TableError(f"news: nothing known for {', '.join(run.symbols)} between {first} and {last}; {found}.")
    return inputs


def _read_files(run: RunFile, bars: pd.DataFrame, now: pd.Timestamp) -> Inputs:
    if not run.prices_path:
        raise ConfigError(f"{run.path}: no prices. Pass --prices FILE, or set prices_path or lake in the run file.")
    if not run.news_path:
        raise ConfigError(f"{run.path}: no news. Pass --news FILE, or set news_path or lake in the run file.")
    rules, layout = price_layout(run), news_layout(run)
    _check_renamed(run, rules.renamed, "prices")
    _check_renamed(run, layout.renamed, "news")
    prices, price_counts = read_prices(
        list_price_files(run), rules, bars=bars, now=now, limit=run.row_limit, symbols=list_symbols(run)
    )
    prices, index = _split_index(run, prices)
    articles, links, news_counts = read_news(beside(run, run.news_path), layout, now=now, limit=run.row_limit)
    dropped = {}
    if layout.symbol is None and layout.symbol_fixed is None:
        if not run.names:
            raise ConfigError(f"{run.path}: [news] has no symbol column; state symbol_fixed, or [names] to look for.")
        links = make_links(articles, run.names)
        dropped["names none of the run's symbols"] = len(articles) - links["article_id"].nunique()
        wide = LINKS.empty()
    else:
        whole = (links["symbol"] == MARKET).to_numpy()
        wide = _spread(run, links[whole])
        dropped[MARKET_WIDE] = int(whole.sum()) if wide.empty else 0
        ours = links["symbol"].isin(run.symbols).to_numpy()
        dropped["filed under other symbols"] = int((~ours & ~whole).sum())
        links = links[ours].reset_index(drop=True)
    links = pd.concat([wide, score_relevance(articles, links, run.names)], ignore_index=True)
    links = LINKS.to_table(
        links.drop_duplicates(["article_id", "symbol"])
    )  # market-wide news is relevant to its symbols
    news = join_news(articles, links)
    dropped = {reason: n for reason, n in dropped.items() if n}
    news_counts = replace(news_counts, dropped={**news_counts.dropped, **dropped})
    actions = to_dividends(prices) if rules.adj_close is not None else None
    return Inputs(bars, prices, news, price_counts, news_counts, actions=actions, index=index)


def list_symbols(run: RunFile) -> list[str]:
    """The symbols whose prices the run needs: those it trades, and its index."""
    return list(dict.fromkeys([*run.symbols, *([run.index] if run.index else [])]))


def _split_index(run: RunFile, prices: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The prices of the run's symbols, and those of its index."""
    if not run.index:
        return prices, None
    index = prices[prices["symbol"] == run.index].reset_index(drop=True)
    return prices[prices["symbol"].isin(run.symbols)].reset_index(drop=True), index


def _spread(run: RunFile, links: pd.DataFrame) -> pd.DataFrame:
    """Links to the market as links to the symbols that its news goes to, relevance 1.0."""
    goes_to = run.symbols if run.market_news == "every" else [s for s in (run.market_news,) if s]
    parts = [links.assign(symbol=symbol) for symbol in goes_to]
    return LINKS.to_table(pd.concat(parts).astype({"symbol": "str"})) if parts else LINKS.empty()


def _check_renamed(run: RunFile, renamed: Mapping[str, str] | None, section: str) -> None:
    known = list_symbols(run)
    for old, new in (renamed or {}).items():
        name, _ = to_rename(new, where=f"{run.path}: {section}.renamed.{old}")
        if name not in known:
            raise ConfigError(
                f"{run.path}: {section}.renamed.{old} leads to {name!r}, which the run does not have."
                f"{did_you_mean(name, known)}"
            )


def _read_lake(run: RunFile, bars: pd.DataFrame, now: pd.Timestamp) -> Inputs:
    """All that the lake holds by now of the run's period; splits and dividends are adjusted to now."""
    lake, since = open_lake(beside(run, run.lake)), bars["time"].iloc[0] - MOMENT
    tables = {
        name: read_lake_rows(run, lake, name, now, bars=bars, since=since, recorded_by=now)
        for name in ("prices", "funding", "open_interest")
        if name == "prices" or getattr(run.fetch, name)
    }
    news, news_counts = read_lake_news(run, lake, now, since=since, recorded_by=now)
    kept = len(tables["prices"])
    if run.index:
        tables["index"] = read_lake_index(run, lake, now, bars=bars, since=since, recorded_by=now)
    dividends = read_dividends(lake, now, recorded_by=now, market=run.market, symbols=run.symbols, since=since)
    return Inputs(
        bars,
        news=news,
        price_counts=Counts(read=kept, kept=kept),
        news_counts=news_counts,
        actions=dividends,
        **tables,
    )


def read_lake_index(
    run: RunFile,
    lake: Lake,
    t: pd.Timestamp,
    *,
    bars: pd.DataFrame,
    since: pd.Timestamp,
    recorded_by: pd.Timestamp,
) -> pd.DataFrame:
    """Prices of the run's index with since < time <= t, as the lake had them; rules as `read_lake_rows`."""
    alone = replace(run, symbols=(run.index,), names={}, market_news="")
    return read_lake_rows(alone, lake, "prices", t, bars=bars, since=since, recorded_by=recorded_by)


def read_lake_rows(
    run: RunFile,
    lake: Lake,
    table: str,
    t: pd.Timestamp,
    *,
    bars: pd.DataFrame,
    since: pd.Timestamp,
    recorded_by: pd.Timestamp,
) -> pd.DataFrame:
    """prices, funding or open_interest of the run's symbols with since < time <= t, as the lake had them.

    Of prices only bars of the run's grid: where one stands off it, as another program may write, it is left out, and so
    is what opened before the run's start. Other rows before the first of `bars` are taken as they are.
    """
    bar = run.bar if table in ("prices", "open_interest") else ""
    rows = as_of(lake, table, t, recorded_by=recorded_by, market=run.market, bar=bar, symbols=run.symbols, since=since)
    if table != "prices":
        return rows
    start = to_instant(run.start, where=f"{run.path}: start")
    ours = (bars_of_rows(rows, bars) >= 0) | (rows["open_time"] < bars["open_time"].iloc[0]).to_numpy()
    ours &= (rows["open_time"] >= start).to_numpy()
    return rows if ours.all() else rows[ours].reset_index(drop=True)


def read_lake_news(
    run: RunFile, lake: Lake, t: pd.Timestamp, *, since: pd.Timestamp, recorded_by: pd.Timestamp
) -> tuple[pd.DataFrame, Counts]:
    """NEWS of the run's symbols with since < time <= t, as the lake had it by `recorded_by`, and what was left out."""
    articles = as_of(lake, "articles", t, recorded_by=recorded_by, since=since)
    links = read_links(lake, articles["article_id"], recorded_by=recorded_by, stamped=True)
    news, counts = to_news(articles, links, symbols=run.symbols, names=run.names, market_news=run.market_news)
    return news[news["time"] <= t].reset_index(drop=True), counts  # a link named late is known after its article


def price_layout(run: RunFile) -> PriceLayout:
    """The run's [prices]. Raises ConfigError where it has none."""
    if run.prices is None:
        raise ConfigError(f"{run.path}: no [prices] section, so price files cannot be read; say their columns there.")
    return run.prices


def news_layout(run: RunFile) -> NewsLayout:
    """The run's [news]. Raises ConfigError where it has none."""
    if run.news is None:
        raise ConfigError(f"{run.path}: no [news] section, so a news file cannot be read; say its columns there.")
    return run.news


def beside(run: RunFile, path: str) -> Path:
    """A path of the run file, relative to it; one from the command line is absolute by then."""
    return run.path.parent / path


def list_price_files(run: RunFile) -> dict[str, Path] | list[Path]:
    """The price files that the run names: by symbol, or in a list where their rows name it."""
    named = dict(p.split("=", 1) for p in run.prices_path if "=" in p)
    plain = [p for p in run.prices_path if "=" not in p]
    if price_layout(run).symbol is not None:
        if named:
            raise ConfigError(f"{run.path}: prices have a symbol column, so name files without SYMBOL=.")
        return [beside(run, p) for p in plain]
    if plain and (named or len(plain) > 1 or len(run.symbols) > 1):
        raise ConfigError(f"{run.path}: several symbols without a symbol column; name files as SYMBOL=file, one each.")
    if plain:
        named = {run.symbols[0]: plain[0]}
    known = list_symbols(run)
    for symbol in named:
        if symbol not in known:
            hint = did_you_mean(symbol, known)
            raise ConfigError(f"{run.path}: a price file is named for {symbol!r}, which symbols does not have.{hint}")
    return {symbol: beside(run, p) for symbol, p in named.items()}


def list_cutoffs(run: RunFile, model: Model | None) -> list[tuple[pd.Timestamp, str]]:
    """Until when what reads the texts has learned, and what it is. Empty where nobody knows: scores from elsewhere."""
    if model is not None:
        return [
            (model.trained_until, "the model's training data ends"),
            (model.base_cutoff, "the knowledge of the model's base ends"),
        ]
    if not run.scores_until:
        return []
    until = to_instant(run.scores_until, where=f"{run.path}: scores_until")
    return [(until, "what made the scores has learned, as the run file states")]


def check_seen(run: RunFile, model: Model | None) -> list[str]:
    """What must be said first of a model that may have seen the run's period. Raises LookaheadError unless allowed."""
    start = to_instant(run.start, where=f"{run.path}: start")
    notes = []
    for end, what in list_cutoffs(run, model):
        if start < end:
            notes.append(f"Seen data: the run begins {start.date()}, before {what} ({end.date()}).")
    if notes and not run.allow_seen:
        raise LookaheadError(
            f"{run.path}: {notes[0]} Start later, or set allow_seen = true, which the report says first."
        )
    return notes


def text_rules(run: RunFile) -> dict[str, Any]:
    rules = run.features
    return {
        "half_life": rules.half_life,
        "max_age": rules.max_age,
        "min_relevance": rules.min_relevance,
        "source_weights": rules.source_weights,
        "mode": rules.mode,
    }
