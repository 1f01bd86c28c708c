"""News from Yahoo's search, through yfinance."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.errors import ConfigError
from finsignal.sources.capture import to_items
from finsignal.sources.rows import check_now
from finsignal.sources.yahoo_service import UNREADABLE, AnswerError, ask, asking, to_error

FEED = "yahoo"
NEEDED = ("uuid", "title", "providerPublishTime")


def fetch_news(
    query: str,
    *,
    now: pd.Timestamp,
    session: Any,
    cache: Path,
    count: int = 20,
    sleep: Callable[[float], None] = time.sleep,
) -> pd.DataFrame:
    """Items of Yahoo's news search, as `capture.ITEMS` with an empty text; for `capture.to_articles`, which counts.

    `query` is a symbol or words, `count` the most items asked for; the search has no pages, so what came and went
    between two fetches is lost. `symbols` are those that Yahoo itself names, `published` is NaT where an item has no
    time. yfinance keeps its files in the folder `cache`.

    Raises SourceError where the service stays busy, away or cut off, and where items have come and none has an id, a
    title or a time; ConfigError for an empty query.
    """
    check_now(now)
    if not query.strip() or count < 1:
        raise ConfigError(f"news: {query!r} and count {count} ask for nothing. Write a symbol, and a count above 0.")
    subject = f"news of {query}"
    with asking(cache) as yfinance:

        def read_news() -> list[Any]:
            found = yfinance.Search(
                query, news_count=count, max_results=0, lists_count=0, include_cb=False, recommended=0, session=session
            )
            return list(found.news)

        try:
            news = ask(read_news, subject, session, sleep)
        except (AnswerError, yfinance.exceptions.YFException, *UNREADABLE) as err:
            raise to_error(err, subject) from err
    items = [item for item in news if isinstance(item, dict)]
    for name in NEEDED:
        if news and not any(item.get(name) for item in items):
            raise to_error(AnswerError(f"no item of news has {name!r}", kind="schema"), subject)
    return to_items([_to_row(item) for item in items], feed=FEED)


def _to_row(item: dict[str, Any]) -> dict[str, Any]:
    symbols = item.get("relatedTickers")
    return {
        "id": item.get("uuid"),
        "published": _to_stamp(item.get("providerPublishTime")),
        "title": item.get("title"),
        "source": item.get("publisher"),
        "url": item.get("link"),
        "symbols": symbols if isinstance(symbols, list) else (),
    }


def _to_stamp(seconds: Any) -> pd.Timestamp | None:
    """Seconds since 1970 as an instant; None for what is no number, or lies beyond the years of stamps."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e10:
        return None
    return pd.Timestamp(int(seconds), unit="s", tz="UTC").as_unit("us")
