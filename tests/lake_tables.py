"""Small tables for the tests of the lake."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from finsignal.lake import SCORES
from finsignal.tables import ACTIONS, ARTICLES, INSTANT, LINKS, PRICES

BARS_HERE: dict[str, Any] = {"market": "bybit-linear", "bar": "1h"}


def ts(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC").as_unit("us")


def instants(stamps: Sequence[Any]) -> pd.Series:
    return pd.Series(pd.to_datetime(list(stamps), utc=True), dtype=INSTANT)


def make_prices(symbol: str, opens: Sequence[Any], prices: Sequence[float], volume: float = 100.0) -> pd.DataFrame:
    """Hourly bars that open, stay and close at the given prices."""
    opened = instants(opens)
    flat = {c: pd.Series(prices, dtype="float64") for c in ("open", "high", "low", "close")}
    return PRICES.to_table(
        pd.DataFrame(
            {
                "open_time": opened,
                "time": opened + pd.Timedelta("1h"),
                "symbol": pd.Series([symbol] * len(opened), dtype="str"),
                **flat,
                "volume": pd.Series([volume] * len(opened), dtype="float64"),
            }
        )
    )


def hours(start: str, count: int) -> pd.DatetimeIndex:
    return pd.date_range(start, periods=count, freq="h", tz="UTC")


def make_actions(rows: Sequence[tuple[str, str, str, float]]) -> pd.DataFrame:
    """(symbol, time, kind, value) each."""
    symbol, time, kind, value = zip(*rows, strict=True)
    return ACTIONS.to_table(
        pd.DataFrame({"symbol": list(symbol), "time": instants(time), "kind": list(kind), "value": list(value)})
    )


def make_articles(ids: Sequence[str], times: Sequence[Any], title: str = "a title") -> pd.DataFrame:
    known = instants(times)
    text = {c: pd.Series([title] * len(ids), dtype="str") for c in ("title", "text", "source", "url")}
    nothing = instants([None] * len(ids))
    return ARTICLES.to_table(
        pd.DataFrame(
            {
                "article_id": pd.Series(list(ids), dtype="str"),
                "published": known,
                "first_seen": nothing,
                "recorded": nothing,
                "time": known,
                **text,
                "story": pd.Series(list(ids), dtype="str"),
            }
        )
    )


def make_links(rows: Sequence[tuple[str, str, float]]) -> pd.DataFrame:
    """(article_id, symbol, relevance) each."""
    return LINKS.to_table(pd.DataFrame(rows, columns=["article_id", "symbol", "relevance"]))


def make_scores(inputs: Sequence[str], model: str, p_positive: float) -> pd.DataFrame:
    share = pd.Series([p_positive] * len(inputs), dtype="float64")
    frame = pd.DataFrame({"input": pd.Series(list(inputs), dtype="str"), "model": model})
    return SCORES.to_table(frame.assign(p_negative=1 - share, p_neutral=0.0, p_positive=share))


def make_fetch(source: str, symbol: str, start: str, end: str, *, rows: int, missing: int = 0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **{"source": [source], "market": ["bybit-linear"], "bar": ["1h"], "symbol": [symbol]},
            **{"start": instants([start]), "end": instants([end]), "rows": [rows], "missing": [missing], "note": [""]},
        }
    )
