"""What a run reads: the grid, prices and news of its files, counted; and whether its model has seen the period."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.clock import to_instant
from finsignal.config import RunFile
from finsignal.errors import ConfigError, LookaheadError, TableError, did_you_mean
from finsignal.lake import Lake, as_of, open_lake, read_links
from finsignal.sentiment.score import Model
from finsignal.signals import bars_of_rows
from finsignal.sources.capture import to_news
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

MOMENT = pd.Timedelta(microseconds=1)
UNKNOWN_SCORES = (
    "Scores from elsewhere: what they have seen is not known, and each is assumed to have been known with its text."
)


@dataclass(frozen=True)
class Inputs:
    """What a run reads: grid, prices, news of its symbols with relevance, and how many rows were dropped and why.

    funding and open_interest are None where the run has none.
    """

    bars: pd.DataFrame
    prices: pd.DataFrame
    news: pd.DataFrame
    price_counts: Counts
    news_counts: Counts
    funding: pd.DataFrame | None = None
    open_interest: pd.DataFrame | None = None


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
    files, rules = list_price_files(run), price_layout(run)
    prices, price_counts = read_prices(files, rules, bars=bars, now=now, limit=run.row_limit)
    prices = prices[prices["symbol"].isin(run.symbols)].reset_index(drop=True)
    layout = news_layout(run)
    articles, links, news_counts = read_news(beside(run, run.news_path), layout, now=now, limit=run.row_limit)
    if layout.symbol is None and layout.symbol_fixed is None:
        if not run.names:
            raise ConfigError(f"{run.path}: [news] has no symbol column; state symbol_fixed, or [names] to look for.")
        links = make_links(articles, run.names)
        reason, others = "names none of the run's symbols", len(articles) - links["article_id"].nunique()
    else:
        reason, others = "filed under other symbols", int((~links["symbol"].isin(run.symbols)).sum())
        links = links[links["symbol"].isin(run.symbols)].reset_index(drop=True)
    news = join_news(articles, score_relevance(articles, links, run.names))
    if others:
        news_counts = replace(news_counts, dropped={**news_counts.dropped, reason: others})
    return Inputs(bars, prices, news, price_counts, news_counts)


def _read_lake(run: RunFile, bars: pd.DataFrame, now: pd.Timestamp) -> Inputs:
    """All that the lake holds by now of the run's period; splits are adjusted to now."""
    lake, since = open_lake(beside(run, run.lake)), bars["time"].iloc[0] - MOMENT
    tables = {
        name: read_lake_rows(run, lake, name, now, bars=bars, since=since, recorded_by=now)
        for name in ("prices", "funding", "open_interest")
        if name == "prices" or getattr(run.fetch, name)
    }
    news, news_counts = read_lake_news(run, lake, now, since=since, recorded_by=now)
    kept = len(tables["prices"])
    return Inputs(bars, news=news, price_counts=Counts(read=kept, kept=kept), news_counts=news_counts, **tables)


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
    for symbol in named:
        if symbol not in run.symbols:
            hint = did_you_mean(symbol, run.symbols)
            raise ConfigError(f"{run.path}: a price file is named for {symbol!r}, which symbols does not have.{hint}")
    return {symbol: beside(run, p) for symbol, p in named.items()}


def check_seen(run: RunFile, model: Model | None) -> list[str]:
    """What must be said first of a model that may have seen the run's period. Raises LookaheadError unless allowed."""
    if model is None:
        return []
    start = to_instant(run.start, where=f"{run.path}: start")
    notes = []
    for end, what in (
        (model.trained_until, "the model's training data ends"),
        (model.base_cutoff, "the knowledge of the model's base ends"),
    ):
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
    }
