"""What a run reads: the grid, prices and news of its files, counted; and whether its model has seen the period."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.clock import to_instant
from finsignal.config import RunFile
from finsignal.errors import ConfigError, LookaheadError, TableError, did_you_mean
from finsignal.sentiment.score import Model
from finsignal.sources.files import Counts, join_news, make_links, read_news, read_prices, score_relevance

UNKNOWN_SCORES = (
    "Scores from elsewhere: what they have seen is not known, and each is assumed to have been known with its text."
)


@dataclass(frozen=True)
class Inputs:
    """What a run reads: grid, prices, news of its symbols with relevance, and how many rows were dropped and why."""

    bars: pd.DataFrame
    prices: pd.DataFrame
    news: pd.DataFrame
    price_counts: Counts
    news_counts: Counts


def read_inputs(run: RunFile, *, now: pd.Timestamp) -> Inputs:
    """The run's grid, prices and news from its files. Raises where a file cannot be used, or the two do not overlap."""
    if not run.prices_path:
        raise ConfigError(f"{run.path}: no prices. Pass --prices FILE, or set prices_path in the run file.")
    if not run.news_path:
        raise ConfigError(f"{run.path}: no news. Pass --news FILE, or set news_path in the run file.")
    bars = run.make_bars()
    if len(bars) < 2:
        raise ConfigError(
            f"{run.path}: {len(bars)} bars between {run.start} and {run.end}; a backtest needs 2 or more."
        )
    prices, price_counts = read_prices(_price_files(run), run.prices, bars=bars, now=now, limit=run.row_limit)
    prices = prices[prices["symbol"].isin(run.symbols)].reset_index(drop=True)
    for symbol in run.symbols:
        if not (prices["symbol"] == symbol).any():
            raise TableError(f"prices: no bar of {symbol} between {run.start} and {run.end}; check symbols and files.")
    articles, links, news_counts = read_news(_beside(run, run.news_path), run.news, now=now, limit=run.row_limit)
    if run.news.symbol is None and run.news.symbol_fixed is None:
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
    first, last = bars["time"].iloc[0], bars["time"].iloc[-1]
    if not news["time"].between(first, last).any():
        found = f"news runs {news['time'].min()} to {news['time'].max()}" if len(news) else "no news is about them"
        raise TableError(f"news: nothing known for {', '.join(run.symbols)} between {first} and {last}; {found}.")
    return Inputs(bars, prices, news, price_counts, news_counts)


def _beside(run: RunFile, path: str) -> Path:
    """A path of the run file, relative to it; one from the command line is absolute by then."""
    return run.path.parent / path


def _price_files(run: RunFile) -> dict[str, Path] | list[Path]:
    named = dict(p.split("=", 1) for p in run.prices_path if "=" in p)
    plain = [p for p in run.prices_path if "=" not in p]
    if run.prices.symbol is not None:
        if named:
            raise ConfigError(f"{run.path}: prices have a symbol column, so name files without SYMBOL=.")
        return [_beside(run, p) for p in plain]
    if plain and (named or len(plain) > 1 or len(run.symbols) > 1):
        raise ConfigError(f"{run.path}: several symbols without a symbol column; name files as SYMBOL=file, one each.")
    if plain:
        named = {run.symbols[0]: plain[0]}
    for symbol in named:
        if symbol not in run.symbols:
            hint = did_you_mean(symbol, run.symbols)
            raise ConfigError(f"{run.path}: a price file is named for {symbol!r}, which symbols does not have.{hint}")
    return {symbol: _beside(run, p) for symbol, p in named.items()}


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
