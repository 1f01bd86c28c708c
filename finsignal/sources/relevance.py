"""Whether a text is about the company it is filed under, and where news is silent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError, TableError
from finsignal.tables import INSTANT, LINKS, NEWS

IN_TITLE, IN_TEXT = 1.0, 0.5  # relevance of a mention


def score_relevance(articles: pd.DataFrame, links: pd.DataFrame, names: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The links with relevance: 1.0 if the title names the company, 0.5 if only the text does, 0.0 if neither does.

    A company is named by its cashtag ("$AAPL", "$ aapl") or by one of `names[symbol]`, as whole words; where an item
    has no title, its text stands for it. A name written in capitals alone ("JPM", "IBM") must stand in capitals, any
    other is found in any case. Symbols without names are not judged: relevance 1.0. Known with the article.

    Raises TableError for a link to an article that is not there, ConfigError for names that are no list of words.
    """
    for symbol, known in names.items():
        _check_names(symbol, known)
    texts = _texts_of(articles, links)
    relevance = np.ones(len(links))
    symbols = links["symbol"].to_numpy(dtype=object)
    for symbol in sorted(set(symbols) & set(names)):
        own = np.flatnonzero(symbols == symbol)
        relevance[own] = _judge(texts.iloc[own], _patterns(symbol, names[symbol]))
    return LINKS.to_table(links.assign(relevance=relevance))


def make_links(articles: pd.DataFrame, names: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Links of each article to each symbol that it names, for a feed that says no symbols; rules as score_relevance."""
    parts = [LINKS.empty()]
    for symbol, known in names.items():
        _check_names(symbol, known)
        relevance = _judge(articles[["title", "text"]], _patterns(symbol, known))
        found = pd.DataFrame({"article_id": articles["article_id"], "symbol": symbol, "relevance": relevance})
        parts.append(found[relevance > 0].astype(dict(LINKS.columns)))
    return LINKS.to_table(pd.concat(parts))


def count_relevance(links: pd.DataFrame, *, min_relevance: float) -> pd.DataFrame:
    """One row a symbol: symbol, read, kept (relevance at least `min_relevance`), dropped."""
    kept = links["relevance"] >= min_relevance
    table = kept.groupby(links["symbol"]).agg(read="size", kept="sum").astype("int64").reset_index()
    return table.assign(dropped=table["read"] - table["kept"])


def join_news(articles: pd.DataFrame, links: pd.DataFrame) -> pd.DataFrame:
    """`tables.NEWS`: one row for each link, with its article. Raises TableError for a link without article."""
    _texts_of(articles, links)
    return NEWS.to_table(links.merge(articles, on="article_id", how="inner")[list(NEWS.columns)])


def longest_silences(
    news: pd.DataFrame, bars: pd.DataFrame, *, symbols: Sequence[str] | None = None, top: int = 3
) -> pd.DataFrame:
    """The `top` longest stretches without a text per symbol, longest first: symbol, start, end, days.

    A stretch runs from one known time to the next, within the period from the first bar's open to the last bar's end.
    From the start to the first text and from the last text to the end count too, so a symbol of `symbols` (default:
    those in the news) without any text is silent throughout. A hole in a feed looks like this, and is not "no news".
    `days` are 24 hours, weekends included.
    """
    if bars.empty:
        raise TableError("silences: the grid of bars is empty, so there is no period to be silent in.")
    start, end = bars["open_time"].iloc[0], bars["close_time"].iloc[-1]
    rows = []
    for symbol in sorted(set(news["symbol"]) if symbols is None else set(symbols)):
        known = news.loc[news["symbol"] == symbol, "time"]
        known = known[(known >= start) & (known <= end)].sort_values()
        edges = pd.DatetimeIndex([start, *known, end]).as_unit("us")
        gaps = pd.DataFrame({"symbol": symbol, "start": edges[:-1], "end": edges[1:]})
        gaps["days"] = (gaps["end"] - gaps["start"]) / pd.Timedelta(days=1)
        rows.append(gaps[gaps["days"] > 0].sort_values(["days", "start"], ascending=[False, True]).head(top))
    dtypes = {"symbol": "str", "start": INSTANT, "end": INSTANT, "days": "float64"}
    if not rows:
        return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in dtypes.items()})
    return pd.concat(rows, ignore_index=True).astype(dtypes)


def _check_names(symbol: str, known: Sequence[str]) -> None:
    if isinstance(known, str) or not all(isinstance(name, str) and name.strip() for name in known):
        raise ConfigError(f"names.{symbol}: expected a list of names such as ['Apple', 'AAPL'], got {known!r}.")


def _texts_of(articles: pd.DataFrame, links: pd.DataFrame) -> pd.DataFrame:
    """Title and text of each link's article, in the order of the links."""
    at = pd.Index(articles["article_id"]).get_indexer(pd.Index(links["article_id"]))
    if (at < 0).any():
        missing = links["article_id"].iloc[int((at < 0).argmax())]
        raise TableError(f"links: {int((at < 0).sum())} rows point at articles that are not there, first {missing!r}.")
    return articles[["title", "text"]].iloc[at]


def _patterns(symbol: str, known: Sequence[str]) -> list[re.Pattern[str]]:
    exact = [name.strip() for name in known if name.isupper()]
    folded = [name.strip() for name in known if not name.isupper()]
    # "$BRK.B" is not BRK, while the full stop after "$AAPL." ends a sentence; tokenised tweets write "$ aapl"
    patterns = [re.compile(rf"(?<!\w)\$ ?{re.escape(symbol)}(?!\w|[.-]\w)", re.IGNORECASE)]
    for group, flags in ((exact, re.NOFLAG), (folded, re.IGNORECASE)):
        if group:
            words = "|".join(re.escape(name) for name in sorted(group, key=len, reverse=True))
            patterns.append(re.compile(rf"(?<!\w)(?:{words})(?!\w)", flags))
    return patterns


def _judge(texts: pd.DataFrame, patterns: Sequence[re.Pattern[str]]) -> np.ndarray:
    def named(text: str) -> bool:
        return any(pattern.search(text) for pattern in patterns)

    rows = zip(texts["title"].tolist(), texts["text"].tolist(), strict=True)
    return np.array(
        [IN_TITLE if named(title or text) else IN_TEXT if named(text) else 0.0 for title, text in rows],
        dtype=np.float64,
    )
