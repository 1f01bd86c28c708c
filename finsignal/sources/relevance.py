"""Whether a text is about the company it is filed under, and where news is silent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError, TableError
from finsignal.tables import INSTANT, LINKS, NEWS

IN_TITLE, IN_TEXT = 1.0, 0.5  # relevance of a mention
SHORTEST_BARE = 3  # letters of a ticker that "(AAPL)" names without an exchange: "(IT)" and "(A)" are mostly words
_WORD = re.compile(r"\w+")
_PARENTHESES = re.compile(r"\(([^()]{1,100})\)")


def score_relevance(articles: pd.DataFrame, links: pd.DataFrame, names: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The links with relevance: 1.0 if the title names the company, 0.5 if only the text does, 0.0 if neither does.

    A company is named by its cashtag ("$AAPL", "$ aapl"), by its ticker in parentheses with an exchange or, from three
    letters on, without ("(NYSE: IT)", "(AAPL)", but not "(IT)"), or by one of `names[symbol]`, as whole words. A ticker
    that stands elsewhere is no name unless it is listed as one, for A, ALL and ON are words. Where an item has no
    title, its text stands for it. A name written in capitals alone ("JPM", "IBM") must stand in capitals, any other is
    found in any case. Symbols without names are not judged: relevance 1.0. Known with the article.

    Raises TableError for a link to an article that is not there, ConfigError for names that are no list of words.
    """
    for symbol, known in names.items():
        _check_names(symbol, known)
    texts = _texts_of(articles, links)
    relevance = np.ones(len(links))
    symbols = links["symbol"].to_numpy(dtype=object)
    for symbol in sorted(set(symbols) & set(names)):
        own = np.flatnonzero(symbols == symbol)
        rows = zip(texts["title"].iloc[own].tolist(), texts["text"].iloc[own].tolist(), strict=True)
        named = _matcher(symbol, names[symbol])
        relevance[own] = [_judge(title, text, named) for title, text in rows]
    return LINKS.to_table(links.assign(relevance=relevance))


def make_links(articles: pd.DataFrame, names: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Links of each article to each symbol that it names, for a feed that says no symbols; rules as score_relevance."""
    for symbol, known in names.items():
        _check_names(symbol, known)
    named = {symbol: _matcher(symbol, known) for symbol, known in names.items()}
    candidates = _candidates(names)
    found: list[tuple[str, str, float]] = []
    for article, title, text in zip(*(articles[c].tolist() for c in ("article_id", "title", "text")), strict=True):
        for symbol in candidates(f"{title} {text}"):
            relevance = _judge(title, text, named[symbol])
            if relevance > 0:
                found.append((article, symbol, relevance))
    return LINKS.to_table(pd.DataFrame(found, columns=list(LINKS.columns)).astype(dict(LINKS.columns)))


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


def _matcher(symbol: str, known: Sequence[str]) -> Callable[[str], bool]:
    """Whether a text names the symbol."""
    exact = [name.strip() for name in known if name.isupper()]
    folded = [name.strip() for name in known if not name.isupper()]
    # "$BRK.B" is not BRK, while the full stop after "$AAPL." ends a sentence; tokenised tweets write "$ aapl"
    ticker = re.escape(symbol).replace(r"\-", "[-.]")
    patterns = [re.compile(rf"(?<!\w)\$ ?{ticker}(?!\w|[.-]\w)", re.IGNORECASE)]
    for group, flags in ((exact, re.NOFLAG), (folded, re.IGNORECASE)):
        if group:
            words = "|".join(re.escape(name) for name in sorted(group, key=len, reverse=True))
            patterns.append(re.compile(rf"(?<!\w)(?:{words})(?!\w)", flags))
    listed = _to_ticker(symbol)
    return lambda text: (
        any(pattern.search(text) for pattern in patterns) or ("(" in text and listed in _tickers_in_parentheses(text))
    )


def _tickers_in_parentheses(text: str) -> set[str]:
    """Tickers as in "(AAPL)", "(NASDAQ: AAPL)" and "(NYSE: T, VZ; Nasdaq: AAPL)"."""
    found = set()
    for inside in _PARENTHESES.findall(text):
        exchange = False
        for part in re.split("[,;]", inside):
            before, _, ticker = part.rpartition(":")
            exchange = exchange or before.strip()[:1].isupper()
            if exchange or len(ticker.strip()) >= SHORTEST_BARE:
                found.add(_to_ticker(ticker.strip()))
    return found


def _to_ticker(symbol: str) -> str:
    return symbol.replace(".", "-").replace("/", "-")  # BRK.B and BRK-B are one


def _candidates(names: Mapping[str, Sequence[str]]) -> Callable[[str], list[str]]:
    """A quick guess at the symbols that a text may name, never one too few: those with a first word in it."""
    order = {symbol: position for position, symbol in enumerate(names)}
    by_name: dict[str, set[str]] = {}
    by_ticker: dict[str, set[str]] = {}
    always: set[str] = set()  # names that begin with no word, or with letters that have several small forms
    for symbol, known in names.items():
        for name, words in [(symbol, by_ticker), *((name, by_name) for name in known)]:
            first = _WORD.search(name)
            if first is None or _has_odd_case(name):
                always.add(symbol)
            else:
                words.setdefault(first[0].lower(), set()).add(symbol)

    def find(text: str) -> list[str]:
        if not text.isascii() and _has_odd_case(text):
            return list(order)
        words = set(_WORD.findall(text.lower()))
        found = set(always)
        for word in words & by_name.keys():
            found |= by_name[word]
        if "$" in text or "(" in text:
            for word in words & by_ticker.keys():
                found |= by_ticker[word]
        return sorted(found, key=order.__getitem__)

    return find


def _has_odd_case(text: str) -> bool:
    """Whether a letter equals another in any case, though their small letters differ, as those of "ſ" and "s" do."""
    return text.lower() != text.casefold() or "ı" in text or "İ" in text


def _judge(title: str, text: str, named: Callable[[str], bool]) -> float:
    return IN_TITLE if named(title or text) else IN_TEXT if named(text) else 0.0
