"""Scores of your own from a file, joined to the news they are about by stated keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError, did_you_mean
from finsignal.sources.news_files import to_clean_text
from finsignal.sources.rows import NO_ARTICLE, Counts, FileLayout, read_rows, to_numbers, to_stamps, to_text
from finsignal.tables import LABELS, PROBABILITIES, SENTIMENT

ROUNDING = 0.01  # probabilities written with two or three decimals may miss a sum of 1 by this; they are scaled to it


@dataclass(frozen=True, kw_only=True)
class SentimentLayout(FileLayout):
    """Where scores stand in a file, and by which keys each is joined to a text.

    Give either the three probabilities or a label. A symbol column, where named, is part of the key.
    """

    by: str
    """The key: "article_id" (as `read_news` gives it) or "text" (time and text or title, as the news file has them)."""
    article_id: str | None = None
    """Column of the article's id, for by = "article_id"."""
    time: str | None = None
    """Column of the time of publication, for by = "text"."""
    text: str | None = None
    """Column that equals the text of the news, for by = "text"."""
    title: str | None = None
    """Column that equals the title of the news, for by = "text"."""
    symbol: str | None = None
    """Column of the symbol; None where a text has one score for all its symbols."""
    p_negative: str | None = None
    """Column of the probability of negative, 0 to 1."""
    p_neutral: str | None = None
    """Column of the probability of neutral, 0 to 1."""
    p_positive: str | None = None
    """Column of the probability of positive, 0 to 1."""
    label: str | None = None
    """Column of a label, in place of probabilities: its probability is 1 and the others are 0."""
    label_map: Mapping[str, str] | None = None
    """Label in the file -> negative, neutral or positive; None where the file uses these words."""
    tz: str | None = None
    """Zone of stamps that carry none."""
    time_format: str | None = None
    """strptime format, "unix_s" or "unix_ms"; None for ISO 8601."""
    decimal: str = "."
    """Decimal mark in the probabilities."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by not in ("article_id", "text"):
            raise ConfigError(
                f"SentimentLayout: by {self.by!r} is not one of article_id, text."
                f"{did_you_mean(self.by, ('article_id', 'text'))}"
            )
        if self.by == "article_id" and self.article_id is None:
            raise ConfigError("SentimentLayout: by = 'article_id' needs article_id, the column of it.")
        if self.by == "text" and (self.time is None or (self.text is None and self.title is None)):
            raise ConfigError("SentimentLayout: by = 'text' needs time and at least one of text and title.")
        given = [getattr(self, name) is not None for name in PROBABILITIES]
        if any(given) == (self.label is not None) or any(given) != all(given):
            raise ConfigError("SentimentLayout: name either all of p_negative, p_neutral and p_positive, or label.")
        wrong = sorted(set((self.label_map or {}).values()) - set(LABELS))
        if wrong:
            raise ConfigError(f"SentimentLayout: label_map leads to {wrong}; expected {', '.join(LABELS)}.")


def read_sentiment(
    path: Path, layout: SentimentLayout, news: pd.DataFrame, *, limit: float = 0.01
) -> tuple[pd.DataFrame, Counts]:
    """`tables.SENTIMENT` of the news that the file scores, and the counts of the file's rows.

    `time` is that of the news: whoever made the file vouches that no score saw what came later. `model` is
    "file:<name>@<digest of the file>". A label becomes probability 1. Probabilities that miss a sum of 1 by up to 0.01
    are scaled to it. Rows for texts that are not in the news are left out and counted; a note says how much of the
    news has no score.

    An identifier of the news file names the earliest version of its item, so by = "article_id" scores that one; a later
    version goes by its own article_id, "<identifier>#<digest>", or by = "text". A file that scores several versions
    under the bare identifier contradicts itself, for it does not say which score came first.

    Raises SourceError for a file that cannot be read, TableError where a column is missing, no row matches any news, or
    more than `limit` (a fraction of the rows) are faults: malformed, unknown labels, no probabilities, repeats,
    contradictions.
    """
    path = Path(path)
    if layout.by == "article_id":
        named = {"article_id": layout.article_id, "symbol": layout.symbol}
    else:
        named = {"published": layout.time, "symbol": layout.symbol, "text": layout.text, "title": layout.title}
    keys = {part: column for part, column in named.items() if column is not None}
    scores = [layout.label] if layout.label else [getattr(layout, name) for name in PROBABILITIES]
    rows, counts = read_rows(path, layout, [*keys.values(), *scores])

    frame = pd.DataFrame({"file": rows["file"]})
    for part, column in keys.items():
        if part == "published":
            frame[part] = to_stamps(rows[column], path=path, tz=layout.tz, time_format=layout.time_format)
        else:
            texts = to_clean_text(rows[column]) if part in ("text", "title") else to_text(rows[column])
            frame[part] = pd.Series(texts, index=rows.index, dtype="str")
    frame[list(PROBABILITIES)] = _to_probabilities(rows, layout)
    if "published" in frame:
        frame, counts = counts.drop(frame, frame["published"].isna(), "time cannot be read")
    values = frame[list(PROBABILITIES)].to_numpy()
    reason = "unknown label" if layout.label else "probabilities not between 0 and 1 with sum 1"
    in_range = ((values >= 0) & (values <= 1)).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= ROUNDING)
    frame, counts = counts.drop(frame, ~in_range, reason)
    counts.check(limit, where=str(path))
    key = list(keys)
    frame, counts = counts.drop(frame, frame.duplicated([*key, *PROBABILITIES]), "repeated row")
    frame, counts = counts.drop(frame, frame.duplicated(key, keep=False), "rows that contradict each other")
    values = frame[list(PROBABILITIES)].to_numpy()
    frame[list(PROBABILITIES)] = values / values.sum(axis=1, keepdims=True)

    about = news[list(dict.fromkeys(["article_id", "symbol", "time", *key]))]
    frame, counts = counts.drop(frame, ~_keys(frame, key).isin(_keys(about, key)), NO_ARTICLE)
    counts.check(limit, where=str(path))
    joined = about.merge(frame[[*key, *PROBABILITIES]], on=key, how="inner")
    if len(joined) < len(news):
        counts = counts.note(f"{path.name}: {len(news) - len(joined)} of {len(news)} news rows have no score.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return SENTIMENT.to_table(joined.assign(model=f"file:{path.name}@{digest}")[list(SENTIMENT.columns)]), counts


def _keys(frame: pd.DataFrame, key: list[str]) -> pd.Index:
    return pd.MultiIndex.from_frame(frame[key]) if len(key) > 1 else pd.Index(frame[key[0]])


def _to_probabilities(rows: pd.DataFrame, layout: SentimentLayout) -> np.ndarray:
    """(rows, 3) floats in the order of LABELS; NaN where there is none."""
    if layout.label is None:
        columns = [to_numbers(rows[getattr(layout, name)], decimal=layout.decimal) for name in PROBABILITIES]
        return np.column_stack([column.to_numpy() for column in columns])
    known = layout.label_map if layout.label_map is not None else {label: label for label in LABELS}
    labels = np.array([known.get(label, "") for label in to_text(rows[layout.label])], dtype=object)
    one_hot = (labels[:, None] == np.array(LABELS, dtype=object)).astype(np.float64)
    return np.where((labels == "")[:, None], np.nan, one_hot)
