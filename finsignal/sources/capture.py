"""What a feed brought, as articles and links: what is new in it, and since when it was known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from finsignal.clock import known_time
from finsignal.errors import ConfigError, TableError
from finsignal.sources.news_files import MIDNIGHT_LIMIT, to_digest, to_story
from finsignal.sources.plain_text import to_plain_text
from finsignal.sources.relevance import make_links
from finsignal.sources.rows import KNOWN, MARKET_WIDE, NOT_LINKED, REPEATED, Counts, check_now, to_whole
from finsignal.tables import ARTICLES, INSTANT, LINKS, NEWS, TEXT, Table, to_integers

ITEMS = Table(
    "items",
    (),
    {
        "id": TEXT,
        "published": INSTANT,
        "title": TEXT,
        "text": TEXT,
        "source": TEXT,
        "url": TEXT,
        "symbols": "object",
        "until": INSTANT,
    },
    may_miss=("published", "until"),
)
MARKET = "*"  # the symbol of a link that is about the market as a whole
OLDEST = pd.Timestamp("1990-01-01T00:00Z")  # an earlier stamp is a fault of the feed: 0 seconds since 1970, year 1
TEXT_LIMIT = 1_000_000  # characters of title and text
LONGEST_ID = 500  # characters
MIDNIGHT_ROWS = 20  # from so many stamps on, their share at midnight says something
TOGETHER = 1_000_000  # microseconds: what is recorded within them is of one poll
_VERSION = re.compile(r"#[0-9a-f]{16}$")


def to_items(rows: Iterable[Mapping[str, Any]], *, feed: str) -> pd.DataFrame:
    """`ITEMS`: one row for each item of a feed, in its order; what a source's reader hands to `to_articles`.

    A row may have id (the feed's own identifier; else its url, else a digest of its words), published (an instant;
    missing where the feed gives none), title, text (both may hold HTML), source (else `feed`), url, symbols (those
    that the feed itself names; ("*",) for what is about the market as a whole), and until: where the stamp is not
    exact to the second, the instant at which what it says ends. The table's id begins with the name of the feed, so
    that two feeds never share one: "yahoo:1234".

    Raises ConfigError for a feed without a name, or one with a colon in it.
    """
    if not feed.strip() or ":" in feed:
        raise ConfigError(f"feed: {feed!r} is no name; it stands before the items' identifiers, without a colon.")
    given: list[dict[str, Any]] = [{key: to_whole(value) for key, value in row.items()} for row in rows]
    texts = {key: [str(row.get(key) or "").strip() for row in given] for key in ("id", "url", "source")}
    words = {key: [str(row.get(key) or "") for row in given] for key in ("title", "text")}
    own = [
        _to_own(identifier or url, f"{title}\x1f{text}")
        for identifier, url, title, text in zip(texts["id"], texts["url"], words["title"], words["text"], strict=True)
    ]
    symbols = [tuple(str(symbol).strip() for symbol in row.get("symbols") or ()) for row in given]
    frame = pd.DataFrame(
        {
            "id": pd.Series([f"{feed}:{identifier}" for identifier in own], dtype=TEXT),
            "published": _instants(row.get("published") for row in given),
            **{key: pd.Series(values, dtype=TEXT) for key, values in words.items()},
            "source": pd.Series([source or feed for source in texts["source"]], dtype=TEXT),
            "url": pd.Series(texts["url"], dtype=TEXT),
            "symbols": pd.Series([tuple(sorted({s for s in some if s})) for some in symbols], dtype="object"),
            "until": _instants(row.get("until") for row in given),
        }
    )
    return ITEMS.check(frame)


def to_articles(
    items: pd.DataFrame,
    *,
    now: pd.Timestamp,
    polled: pd.Timestamp | None,
    known: pd.DataFrame,
    latency: pd.Timedelta,
    names: Mapping[str, Sequence[str]],
) -> tuple[pd.DataFrame, pd.DataFrame, Counts]:
    """What of `items` (`to_items`) is new, as `tables.ARTICLES`; its links, as `tables.LINKS`; the counts of items.

    `polled` is when this feed was last fetched with success, None where it never was. `known` holds the articles that
    the store has of these items, all versions; more do no harm. `latency` is the time from publication
    until an item could be had. `recorded` is `now` in every row.

    When an item counts as known is what `time` says, and a stamp alone does not prove it, for feeds stamp late items
    with the time of an event, or of a draft:

    - Never polled: everything is a backfill. No poll saw it come, so `first_seen` is missing, and there is nothing to
      hold against its stamp: `time` is published + latency.
    - Polled, and the stamp lies after that poll: the item came between the two polls, as it says. It is believed:
      `first_seen` is now, `time` is published + latency.
    - Polled, and the stamp lies at or before that poll, which did not bring the item: whatever its stamp says, it was
      not known then. `first_seen` is now, `time` is now + latency. Else a backtest would read it before the job could.
    - An edit, that is an item of a known identifier with other words: a row "<id>#<digest>" of the same story, so that
      it counts as a repeat. `first_seen` is now, `time` is now + latency. The row before it stays as it is. Words that
      any version had before give no row.

    A stamp that is not exact to the second counts from its end (`until`), at the latest from now: the item is there.
    An item without a stamp counts as published now, where polled is given; else it is dropped, for nothing says when.

    Titles and texts become plain text (`to_plain_text`). Items with the same identifier and words are one, with the
    symbols of all. Links: the symbols that the source names, "*" among them, with relevance 1.0 (whether the words
    name them is judged on reading), and those of `names` that the words name, as `relevance.make_links`; a symbol with
    no names ([]) is found by cashtag and ticker. A known item has no row in the articles, but its links are given
    again: another feed, or another day, may have named another symbol.

    Dropped and counted: a stamp after now or before 1990, no stamp, no words, more than a million characters. Raises
    TableError where of one feed more than 5 % of 20 stamps or more are exact midnights, so that they are dates;
    ConfigError for a negative latency and for `polled` after `now`: the clock went back.
    """
    check_now(now)
    if polled is not None and polled > now:
        raise ConfigError(
            f"capture: now is {now}, but this feed was last polled at {polled}. The clock went back; set it right."
        )
    frame, counts = _usable(ITEMS.check(items), now=now, polled=polled)
    _check_midnights(frame)
    rows: list[dict[str, Any]] = []
    symbols: dict[str, set[str]] = {}
    versions = _versions_of(known, set(frame["id"]))
    stored = {version for some in versions.values() for version in some}
    repeats = {KNOWN: 0, REPEATED: 0}
    # oldest first: of several versions in one batch the oldest is the item, and the others are its edits
    for item in frame.sort_values("published", kind="stable").to_dict("records"):
        words = (item["title"], item["text"])
        there = versions.setdefault(item["id"], {})
        same = next((v for v in there if v[1:3] == words), None)
        if same is not None:
            repeats[KNOWN if same in stored else REPEATED] += 1
        else:
            same = _to_version(item["id"], words, there)
            there[same] = None
            rows.append({**item, "article_id": same[0], "story": same[3], "edit": len(there) > 1})
        symbols.setdefault(same[0], set()).update(item["symbols"])
    for reason, n in repeats.items():
        counts = counts.without(n, reason)
    articles = _to_table(rows, now=now, polled=polled, latency=latency)
    return articles, _to_links(articles, symbols, names), counts


def to_news(
    articles: pd.DataFrame,
    links: pd.DataFrame,
    *,
    symbols: Sequence[str],
    names: Mapping[str, Sequence[str]],
    market_news: str,
) -> tuple[pd.DataFrame, Counts]:
    """`tables.NEWS` of the run's `symbols` out of stored articles and links, and the counts of articles.

    An article is linked to a symbol by `links`, or because its words name it (`names`, cashtags and tickers, as
    `relevance.make_links`), so that a longer table of names finds more in old articles too. Its relevance is judged by
    the words, as `relevance.score_relevance`: 1.0 for a symbol that `names` does not have.

    Where `links` have a column `recorded`, a link recorded more than a second after its article, because a source named
    the symbol later, was not known before: the news of that symbol have it as their `time`, which may lie after the
    `time` of all articles. Symbols that the words name are not concerned, for the words were there.

    What is linked to "*" is about the market as a whole. It goes, with relevance 1.0, to every symbol (`market_news` =
    "every"), to one of them (its name, such as that of an index), or nowhere ("").

    Dropped and counted, though no fault: articles about none of the symbols, and market-wide ones that go nowhere.
    Raises ConfigError for another `market_news`, TableError for a link to an article that is not there.
    """
    if market_news not in ("", "every", *symbols):
        raise ConfigError(f"market_news: {market_news!r} is neither 'every', nor '', nor one of {list(symbols)}.")
    place = {symbol: position for position, symbol in enumerate(dict.fromkeys(symbols))}
    rows = pd.Index(articles["article_id"])
    found = make_links(articles, {symbol: names.get(symbol, ()) for symbol in place})
    market = (links["symbol"] == MARKET).to_numpy()
    whole = _positions(rows, links[market])
    own = links[links["symbol"].isin(place.keys()).to_numpy()]
    given = (~own["symbol"].isin(names.keys())).to_numpy().astype(np.float64)  # 0 until the words say more
    goes_to = list(place.values()) if market_news == "every" else [place[s] for s in (market_news,) if s]
    named, said = _positions(rows, own), _positions(rows, found)
    since = np.repeat(_known_since(articles, whole, links[market]), len(goes_to))
    parts = [
        (np.repeat(whole, len(goes_to)), np.tile(goes_to, len(whole)), np.ones(len(since)), since),
        (named, own["symbol"].map(place).to_numpy(np.int64), given, _known_since(articles, named, own)),
        (said, found["symbol"].map(place).to_numpy(np.int64), found["relevance"], _known_since(articles, said, found)),
    ]
    article, symbol, relevance, known = (np.concatenate(column) for column in zip(*parts, strict=True))
    pairs, group = np.unique(article.astype(np.int64) * len(place) + symbol.astype(np.int64), return_inverse=True)
    best, first = np.zeros(len(pairs)), np.full(len(pairs), np.iinfo(np.int64).max)
    np.maximum.at(best, group, relevance)
    np.minimum.at(first, group, known)
    at, which = np.divmod(pairs, max(len(place), 1))
    news = articles.take(at).assign(
        symbol=pd.array(list(place), dtype=TEXT).take(which),
        relevance=best,
        time=pd.DatetimeIndex(first.view("datetime64[us]"), tz="UTC"),
    )

    counts = Counts(read=len(articles), kept=len(articles))
    left = np.ones(len(articles), dtype=bool)
    left[at] = False
    market_wide = np.zeros(len(articles), dtype=bool)
    market_wide[whole] = True
    counts = counts.without(int((left & market_wide).sum()), MARKET_WIDE)
    return NEWS.to_table(news[list(NEWS.columns)]), counts.without(int((left & ~market_wide).sum()), NOT_LINKED)


def _positions(rows: pd.Index, links: pd.DataFrame) -> np.ndarray:
    """Where the article of each link stands."""
    at = rows.get_indexer(pd.Index(links["article_id"]))
    if (at < 0).any():
        missing = links["article_id"].iloc[int((at < 0).argmax())]
        raise TableError(f"links: {int((at < 0).sum())} rows point at articles that are not there, first {missing!r}.")
    return at


def _known_since(articles: pd.DataFrame, at: np.ndarray, links: pd.DataFrame) -> np.ndarray:
    """Since when each link to the articles at these positions was known, in microseconds; never before its article."""
    known = to_integers(articles["time"])[at]
    if "recorded" not in links:
        return known
    link, article = to_integers(links["recorded"]), to_integers(articles["recorded"])[at]
    return np.where(link - article > TOGETHER, np.maximum(known, link), known)


def _to_own(identifier: str, words: str) -> str:
    # one that fills a page, or holds line breaks, would be told in errors and logs
    return (
        identifier if 0 < len(identifier) <= LONGEST_ID and identifier.isprintable() else to_digest(identifier or words)
    )


_Version = tuple[str, str, str, str]  # article_id, title, text, story


def _versions_of(known: pd.DataFrame, ids: set[str]) -> dict[str, dict[_Version, None]]:
    """The stored versions of each item, the first of them first."""
    found: dict[str, dict[_Version, None]] = {}
    rows = known.sort_values("recorded", kind="stable")[["article_id", "title", "text", "story"]]
    for version in rows.itertuples(index=False, name=None):
        whole = version[0]
        base = whole if whole in ids else _VERSION.sub("", whole)
        if base in ids:
            found.setdefault(base, {})[version] = None
    return found


def _to_version(identifier: str, words: tuple[str, str], there: Mapping[_Version, None]) -> _Version:
    if not there:
        return (identifier, *words, to_story(*words))
    digest = to_digest("\x1f".join(words))
    return (f"{identifier}#{digest}", *words, next(iter(there))[3])


def _usable(items: pd.DataFrame, *, now: pd.Timestamp, polled: pd.Timestamp | None) -> tuple[pd.DataFrame, Counts]:
    """The items that can become articles, in plain words, and the counts of the others."""
    frame = items.set_axis(range(1, len(items) + 1), axis=0)
    frame["file"] = [identifier.partition(":")[0] for identifier in frame["id"].tolist()]
    counts = Counts(read=len(frame), kept=len(frame), notes=tuple(items.attrs.get("notes", ())))
    too_long = frame["title"].str.len() + frame["text"].str.len() > TEXT_LIMIT
    frame, counts = counts.drop(frame, too_long, f"more than {TEXT_LIMIT} characters")
    for column in ("title", "text"):
        frame[column] = pd.Series([to_plain_text(t) for t in frame[column].tolist()], index=frame.index, dtype=TEXT)
    frame, counts = counts.drop(frame, (frame["title"] == "") & (frame["text"] == ""), "no text")
    frame, counts = counts.drop(frame, frame["published"] < OLDEST, "stamp before 1990")
    frame, counts = counts.drop(frame, frame["published"] > now, "stamp in the future")
    if polled is None:
        frame, counts = counts.drop(frame, frame["published"].isna(), "no time")
    return frame, counts


def _check_midnights(frame: pd.DataFrame) -> None:
    # Each feed by itself: among the many of another, those of a feed of dates would not be noticed.
    exact = frame[frame["published"].notna() & frame["until"].isna()]
    for feed, stamps in exact.groupby("file")["published"]:
        share = float((stamps == stamps.dt.normalize()).mean()) if len(stamps) >= MIDNIGHT_ROWS else 0.0
        if share > MIDNIGHT_LIMIT:
            raise TableError(
                f"{feed}: {share:.1%} of {len(stamps)} stamps are exact midnights in UTC (at most "
                f'{MIDNIGHT_LIMIT:.0%} are expected), so they are dates and not times; set precision to "date".'
            )


def _to_table(
    rows: list[dict[str, Any]], *, now: pd.Timestamp, polled: pd.Timestamp | None, latency: pd.Timedelta
) -> pd.DataFrame:
    """The new rows as articles; when each was known is decided here."""
    frame = pd.DataFrame(rows, columns=[*ITEMS.columns, "article_id", "story", "edit"])
    stamp = _instants(frame["published"]).fillna(now)
    said = _instants(frame["until"]).fillna(stamp)
    said = said.mask(said > now, now)
    edit = frame["edit"].astype("bool")
    # Without an earlier poll nothing was seen to come; an edit is, for its earlier words are in the store.
    live = edit if polled is None else pd.Series(True, index=frame.index)
    late = edit if polled is None else edit | (said <= polled)
    seen = _instants([now] * len(frame))
    frame = frame.assign(
        published=stamp,
        first_seen=seen.where(live),
        recorded=seen,
        time=known_time(said, latency=latency, first_seen=seen.where(late)),
    )
    return ARTICLES.to_table(frame[list(ARTICLES.columns)])


def _to_links(
    articles: pd.DataFrame, symbols: Mapping[str, set[str]], names: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    pairs = [(article, symbol, 1.0) for article, some in symbols.items() for symbol in sorted(some)]
    said = pd.DataFrame(pairs, columns=list(LINKS.columns)).astype(dict(LINKS.columns))
    links = pd.concat([said, make_links(articles, names)], ignore_index=True)
    return LINKS.to_table(links.drop_duplicates(["article_id", "symbol"]))


def _instants(values: Iterable[Any]) -> pd.Series:
    return pd.Series([pd.NaT if value is None else value for value in values], dtype=INSTANT)
