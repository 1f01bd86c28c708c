"""News from files of your own, as articles and the symbols that the file links them to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from finsignal.clock import PRECISIONS, end_of_precision, known_time
from finsignal.errors import ConfigError, TableError, did_you_mean
from finsignal.sources.renaming import check_renamed, drop_other_company, rename
from finsignal.sources.rows import (
    NOT_MAPPED,
    OTHER_COMPANY,
    Counts,
    FileLayout,
    check_now,
    read_rows,
    to_stamps,
    to_text,
)
from finsignal.tables import ARTICLES, INSTANT, LINKS, to_integers

MIDNIGHT_LIMIT = 0.05  # share of stamps at exact midnight above which a source must say that it stamps dates
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, kw_only=True)
class NewsLayout(FileLayout):
    """Where the parts of a text stand in a file, whom it is about, and how exact its stamp is."""

    time: str
    """Column of the time of publication."""
    title: str | None = None
    """Column of the headline; title or text is needed."""
    text: str | None = None
    """Column of the body."""
    symbol: str | None = None
    """Column that says whom the item is about: a symbol, or a word that symbol_map turns into symbols."""
    symbol_fixed: str | None = None
    """The symbol of all items, where the file has no column of it; "*" is news of the market as a whole."""
    symbol_map: Mapping[str, str | Sequence[str]] | None = None
    """Value of the symbol column -> symbol or symbols, or "*" for news of the market as a whole. Items with no value in
    it are left out and counted."""
    renamed: Mapping[str, str] | None = None
    """Symbol of the file -> symbol of the run, as in the layout of prices; applied after symbol_map."""
    symbol_separator: str | None = None
    """What stands between several symbols in one field, such as ";"."""
    source: str | None = None
    """Column of the publisher."""
    source_fixed: str = ""
    """The publisher of all items, where the file has no column of it."""
    source_is_url: bool = False
    """Whether the source column holds addresses: the source is then the host's name without "www."."""
    url: str | None = None
    """Column of the item's address."""
    id: str | None = None
    """Column of the item's own identifier, one for all its versions; None makes one of source, time, title and text."""
    tz: str | None = None
    """Zone of stamps that carry none, such as "UTC"; also the zone of whole dates."""
    time_format: str | None = None
    """strptime format, "unix_s" or "unix_ms"; None for ISO 8601."""
    precision: str = "second"
    """What a stamp is exact to: "second", "minute", "hour" or "date". A text counts from the end of that."""
    latency: str = "1min"
    """Length of time from publication until the item could be had, such as "1min"; 0 or more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.title is None and self.text is None:
            raise ConfigError("NewsLayout: neither title nor text names a column; one of them is needed.")
        if self.symbol is not None and self.symbol_fixed is not None:
            raise ConfigError("NewsLayout: symbol and symbol_fixed exclude each other; keep one.")
        if self.symbol is None and (self.symbol_map is not None or self.symbol_separator is not None):
            raise ConfigError("NewsLayout: symbol_map and symbol_separator need symbol, the column they are about.")
        if self.symbol is None and self.renamed is not None:
            raise ConfigError("NewsLayout: renamed needs symbol, the column it is about.")
        check_renamed(self.renamed, where="NewsLayout")
        if self.source is None and self.source_is_url:
            raise ConfigError("NewsLayout: source_is_url needs source, the column of addresses.")
        if self.source is not None and self.source_fixed:
            raise ConfigError("NewsLayout: source and source_fixed exclude each other; keep one.")
        if self.precision not in PRECISIONS:
            hint = did_you_mean(self.precision, PRECISIONS)
            raise ConfigError(f"NewsLayout: precision {self.precision!r} is not one of {', '.join(PRECISIONS)}.{hint}")
        try:
            possible = pd.Timedelta(self.latency) >= pd.Timedelta(0)
        except ValueError as err:
            raise ConfigError(f"NewsLayout: latency {self.latency!r} is no length of time, such as '1min'.") from err
        if not possible:
            raise ConfigError(f"NewsLayout: latency {self.latency!r} is below 0; no text is known before publication.")


def read_news(
    path: Path, layout: NewsLayout, *, now: pd.Timestamp, limit: float = 0.02
) -> tuple[pd.DataFrame, pd.DataFrame, Counts]:
    """Articles as `tables.ARTICLES`, links as `tables.LINKS` (relevance 1.0, not judged yet), and the counts of rows.

    An article's `time` is the end of its stamp's precision plus the latency, `recorded` is `now`, `first_seen` is
    unknown. One article under several symbols is one row in articles and several in links. `story` is the same for
    equal titles (texts, where there is no title) up to case and spaces, addresses and a retweet's opening. Control
    characters become spaces and are noted. A file without symbols gives no links: see `relevance.make_links`.

    Rows of one identifier (layout.id) are versions of one item, told apart by their time. The earliest keeps the
    identifier as article_id. One published later, with other words or other symbols, is a row and links of its own,
    article_id "<identifier>#<digest>", with the story of the earliest, so that it counts as a repeat; these are noted.
    A later row that says the same is a repeated row. Versions of the same time that differ contradict each other, and
    all of that time go. So no later row changes what was known before it.

    Raises SourceError for a file that cannot be read, TableError where a column is missing, a stamp has no zone, more
    than 5 % of stamps are exact midnights and precision is not "date", no row is left, or more than `limit` (a fraction
    of the rows) are faults: malformed, unreadable or future stamps, no text, no symbol, repeats.
    """
    check_now(now)
    names = [layout.time, layout.title, layout.text, layout.symbol, layout.source, layout.url, layout.id]
    rows, counts = read_rows(path, layout, [name for name in names if name is not None])
    published = to_stamps(rows[layout.time], path=path, tz=layout.tz, time_format=layout.time_format)
    fields = {}
    for part, column in (("title", layout.title), ("text", layout.text)):
        texts = to_text(rows[column]) if column else [""] * len(rows)
        clean = to_clean_text(rows[column]) if column else texts
        changed = sum(a != b for a, b in zip(texts, clean, strict=True))
        if changed:
            counts = counts.note(f"{Path(path).name}: control characters in {changed} of its {part}s became spaces.")
        fields[part] = clean
    source = to_text(rows[layout.source]) if layout.source else [layout.source_fixed] * len(rows)
    url = to_text(rows[layout.url]) if layout.url else (source if layout.source_is_url else [""] * len(rows))
    source = [_host(address) for address in source] if layout.source_is_url else source
    symbols, unmapped = _to_symbols(rows, layout)
    own = to_text(rows[layout.id]) if layout.id else [""] * len(rows)
    frame = pd.DataFrame(
        {"file": rows["file"], "published": published, **fields, "source": source, "url": url, "id": own},
        index=rows.index,
    )
    frame["symbols"] = pd.Series(symbols, index=rows.index, dtype="object")
    frame["unmapped"] = unmapped

    frame, counts = counts.drop(frame, frame["published"].isna(), "time cannot be read")
    _check_midnights(frame["published"], layout, path)
    frame, counts = counts.drop(frame, frame["published"] > now, "stamp in the future")
    frame, counts = counts.drop(frame, (frame["title"] == "") & (frame["text"] == ""), "no text")
    frame, counts = counts.drop(frame, frame["unmapped"], NOT_MAPPED)
    if layout.renamed:
        frame, counts = _rename(frame, counts, layout.renamed, path)
    if layout.symbol is not None:
        frame, counts = counts.drop(frame, [not found for found in frame["symbols"]], "no symbol")
    if layout.id is not None:
        frame, counts = counts.drop(frame, frame["id"] == "", "no identifier")
    frame = frame.assign(article_id=_digests(frame))
    if layout.id is not None:
        frame, counts = _to_versions(frame, counts, path)
    else:
        frame, counts = counts.drop(frame, _repeats(frame, ["article_id", "symbols"]), "repeated row")
    counts.check(limit, where=str(path))
    if layout.precision == "second" and len(frame) >= 20 and not (frame["published"].dt.second != 0).any():
        counts = counts.note(f"{Path(path).name}: no stamp has seconds; if they are exact to the minute, say so.")

    links = frame[["article_id", "symbols"]].explode("symbols").dropna().rename(columns={"symbols": "symbol"})
    links = links.drop_duplicates(["article_id", "symbol"]).assign(relevance=1.0)
    articles = frame.sort_values(["published", "url"], ascending=[True, False]).drop_duplicates("article_id")
    known = end_of_precision(articles["published"], precision=layout.precision, tz=layout.tz or "UTC")
    contents = zip(articles["title"].tolist(), articles["text"].tolist(), strict=True)
    story = pd.Series([to_story(title, text) for title, text in contents], index=articles.index, dtype="str")
    articles = articles.assign(
        first_seen=pd.Series(pd.NaT, index=articles.index, dtype=INSTANT),
        recorded=pd.Series(now, index=articles.index).astype(INSTANT),
        time=known_time(known, latency=pd.Timedelta(layout.latency)),
        # sorted by time, the first of an identifier is its earliest version
        story=story if layout.id is None else story.groupby(articles["id"]).transform("first"),
    )
    return ARTICLES.to_table(articles[list(ARTICLES.columns)]), LINKS.to_table(links), counts


def to_clean_text(values: pd.Series) -> list[str]:
    """Each value as text without spaces around it, control characters (but tab and line break) as spaces."""
    return [_CONTROL.sub(" ", text).strip() for text in to_text(values)]


def _host(address: str) -> str:
    try:
        host = urlsplit(address if "//" in address else f"//{address}").hostname or ""
    except ValueError:  # such as an unclosed bracket
        host = ""
    return host.removeprefix("www.")


def _to_symbols(rows: pd.DataFrame, layout: NewsLayout) -> tuple[list[tuple[str, ...]], list[bool]]:
    """The symbols of each row, and whether it names something, but nothing that the map knows."""
    if layout.symbol is None:
        fixed = () if layout.symbol_fixed is None else (layout.symbol_fixed,)
        return [fixed] * len(rows), [False] * len(rows)
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    symbols, unmapped = [], []
    for cell in rows[layout.symbol].tolist():
        if isinstance(cell, list | tuple | np.ndarray):
            values = tuple(str(value) for value in cell)
        elif not isinstance(cell, str) and pd.isna(cell):
            values = ()
        else:
            values = tuple(str(cell).split(layout.symbol_separator)) if layout.symbol_separator else (str(cell),)
        if values not in found:
            found[values] = _map_symbols(values, layout.symbol_map)
        symbols.append(found[values])
        unmapped.append(not found[values] and any(value.strip() for value in values))
    return symbols, unmapped


def _rename(frame: pd.DataFrame, counts: Counts, renamed: Mapping[str, str], path: Path) -> tuple[pd.DataFrame, Counts]:
    """The items under the names of the run; one that bore only another company's name is left out."""
    single = frame[["file", "published", "symbols"]].explode("symbols")
    single = single.rename(columns={"symbols": "symbol", "published": "stamp"})
    kept, found = drop_other_company(single, Counts(), renamed, path)
    kept = kept.assign(symbol=rename(kept["symbol"], kept["stamp"], renamed))
    ours = kept.groupby(level=0)["symbol"].agg(lambda names: tuple(sorted(set(names.dropna()))))
    gone = ~frame.index.isin(kept.index)
    frame, counts = counts.drop(frame, gone, OTHER_COMPANY)
    symbols = pd.Series([ours[row] for row in frame.index], index=frame.index, dtype="object")
    return frame.assign(symbols=symbols), counts + Counts(notes=found.notes)


def _map_symbols(values: Sequence[str], symbol_map: Mapping[str, str | Sequence[str]] | None) -> tuple[str, ...]:
    named = [value.strip() for value in values if value.strip()]
    if symbol_map is not None:
        mapped = [symbol_map.get(value, ()) for value in named]
        named = [symbol for m in mapped for symbol in ([m] if isinstance(m, str) else m)]
    return tuple(sorted(set(named)))


def _check_midnights(published: pd.Series, layout: NewsLayout, path: Path) -> None:
    if layout.precision == "date" or published.empty:
        return
    for zone in dict.fromkeys(["UTC", layout.tz or "UTC"]):
        local = published.dt.tz_convert(zone)
        share = float((local == local.dt.normalize()).mean())
        if share > MIDNIGHT_LIMIT:
            raise TableError(
                f"{path}: {share:.1%} of the stamps are exact midnights in {zone} (at most {MIDNIGHT_LIMIT:.0%} are "
                'expected), so they are dates and not times; set precision to "date".'
            )


def _to_versions(frame: pd.DataFrame, counts: Counts, path: Path) -> tuple[pd.DataFrame, Counts]:
    """The rows with an article_id for each version of an item, from the digest that stands there.

    Whatever becomes of a row depends on rows of its own time and earlier ones alone.
    """
    differing = frame.groupby(["id", "published"])["article_id"].transform("nunique") > 1
    frame, counts = counts.drop(frame, differing, "rows that contradict each other")
    frame, counts = counts.drop(frame, _repeats(frame, ["id", "title", "text", "source", "symbols"]), "repeated row")
    earliest = frame["published"] == frame.groupby("id")["published"].transform("min")
    later = frame.loc[~earliest, "article_id"].nunique()
    if later:
        counts = counts.note(f"{Path(path).name}: {later} later versions of items kept as rows of their own.")
    return frame.assign(article_id=frame["id"].where(earliest, frame["id"] + "#" + frame["article_id"])), counts


def _repeats(frame: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Whether a row says in these columns what an earlier one says; at one time the row with an address stays."""
    first = frame.sort_values(["published", "url"], ascending=[True, False], kind="stable")
    return first.duplicated(columns).reindex(frame.index)


def _digests(frame: pd.DataFrame) -> list[str]:
    stamps = to_integers(frame["published"]).tolist()
    # tolist: to walk over a text column itself is several times slower
    rows = zip(frame["source"].tolist(), stamps, frame["title"].tolist(), frame["text"].tolist(), strict=True)
    return [to_digest("\x1f".join((source, str(at), title, text))) for source, at, title, text in rows]


def to_digest(text: str) -> str:
    """Sixteen hexadecimal digits that are the same for the same text, and for no other."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def to_story(title: str, text: str) -> str:
    """A digest that is the same for repeats of one event: equal titles, or texts where there is no title.

    Case, spaces, web addresses and the opening of a retweet make no difference.

    >>> to_story("", "RT @desk: Apple  beats https://t.co/x") == to_story("apple beats", "Other words")
    True
    """
    words = (title or text).lower()
    if "http" in words:
        words = re.sub(r"https?://\S+", " ", words)
    if words.startswith("rt "):
        words = re.sub(r"^rt @?\w+:?", " ", words)
    return to_digest(" ".join(words.split()) or title or text)
