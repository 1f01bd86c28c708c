"""Rows of a file as they stand in it, and the count of every row that did not make it into a table."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from finsignal.clock import to_instants
from finsignal.errors import ConfigError, SourceError, TableError, did_you_mean

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
EXAMPLES = 3  # rows named for each reason

# Reasons that say nothing against the file, so they do not count towards the limit.
UNFINISHED = "unfinished bar"
OUTSIDE = "outside the period of the bars"
NOT_MAPPED = "symbol not mapped"
NO_ARTICLE = "matches no article"
KNOWN = "known already"
REPEATED = "repeated in the batch"
NOT_LINKED = "about no symbol of the run"
MARKET_WIDE = "market-wide, left out"
OTHER_SYMBOL = "of a symbol that is not in the run"
OTHER_COMPANY = "of another company that bore the name before"
EXPECTED = frozenset(
    {
        *(UNFINISHED, OUTSIDE, NOT_MAPPED, NO_ARTICLE, KNOWN, REPEATED, NOT_LINKED, MARKET_WIDE),
        *(OTHER_SYMBOL, OTHER_COMPANY),
    }
)


@dataclass(frozen=True)
class Counts:
    """How many rows were read and kept, and how many were dropped for each reason.

    `first` names up to three rows a reason, as "file row n": rows are counted from 1 below the header. `notes` are
    sentences about what was kept. Counts of several files add up with `+`.
    """

    read: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    first: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        reasons = list(dict.fromkeys([*self.dropped, *other.dropped]))
        return Counts(
            read=self.read + other.read,
            kept=self.kept + other.kept,
            dropped={r: self.dropped.get(r, 0) + other.dropped.get(r, 0) for r in reasons},
            notes=self.notes + other.notes,
            first={r: (self.first.get(r, ()) + other.first.get(r, ()))[:EXAMPLES] for r in reasons},
        )

    @property
    def faults(self) -> int:
        """Dropped rows that speak against the file: all but those the settings leave out on purpose."""
        return sum(n for reason, n in self.dropped.items() if reason not in EXPECTED)

    def without(self, n: int, reason: str, examples: Sequence[str] = ()) -> Counts:
        """The counts after `n` of the kept rows were dropped for a reason."""
        return self + Counts(kept=-n, dropped={reason: n}, first={reason: tuple(examples)}) if n else self

    def drop(self, frame: pd.DataFrame, bad: pd.Series | np.ndarray, reason: str) -> tuple[pd.DataFrame, Counts]:
        """The frame without its bad rows, and the counts after that. The frame has a column `file` and row numbers."""
        mask = np.asarray(bad, dtype=bool)
        if not mask.any():
            return frame, self
        some = frame[mask].head(EXAMPLES)
        examples = [f"{file} row {row}" for file, row in zip(some["file"], some.index, strict=True)]
        return frame[~mask], self.without(int(mask.sum()), reason, examples)

    def note(self, sentence: str) -> Counts:
        """The counts with one more note."""
        return self + Counts(notes=(sentence,))

    def check(self, limit: float, *, where: str) -> Counts:
        """The counts themselves.

        Raises TableError where more than `limit` (a fraction of the rows read) are faults, or no row is left.
        """
        share = self.faults / max(self.read, 1)
        if share > limit or not self.kept:
            reasons = {r: n for r, n in self.dropped.items() if share <= limit or r not in EXPECTED}
            biggest = max(reasons, key=lambda r: reasons[r]) if reasons else "there were none"
            examples = ", ".join(self.first.get(biggest, ()))
            most = f"most often: {biggest} ({reasons.get(biggest, 0)} rows{', first ' + examples if examples else ''})"
            if share > limit:
                raise TableError(
                    f"{where}: {self.faults} of {self.read} rows cannot be used ({share:.1%}, the limit is "
                    f"{limit:.1%}; {most}). Correct the file or its layout, or state a higher limit."
                )
            raise TableError(f"{where}: of {self.read} rows none is left ({most}). Correct the layout or the period.")
        return self


@dataclass(frozen=True, kw_only=True)
class FileLayout:
    """How rows stand in a file; what they mean is said by PriceLayout, NewsLayout and SentimentLayout."""

    format: str | None = None
    """"csv", "jsonl" or "parquet"; None goes by the file's suffix."""
    separator: str = ","
    """One character between the fields of a CSV."""
    quote: str = '"'
    """One character around CSV fields that hold a separator or line break; "" where the file quotes nothing."""
    encoding: str = "utf-8"
    """Of CSV and JSONL text."""
    skip_rows: int = 0
    """Lines above the header of a CSV."""
    header_rows: int = 1
    """Header records of a CSV: names stand in the first, the others are passed over. 0: columns are "1", "2", ..."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.format not in (None, "csv", "jsonl", "parquet"):
            raise ConfigError(f"{name}: format {self.format!r} is not one of csv, jsonl, parquet.")
        if len(self.separator) != 1 or len(self.quote) > 1:
            raise ConfigError(f"{name}: separator {self.separator!r} and quote {self.quote!r} must be one character.")
        try:
            codecs.lookup(self.encoding)
        except LookupError as err:
            raise ConfigError(f"{name}: encoding {self.encoding!r} is not known; write for example 'latin-1'.") from err
        if self.skip_rows < 0 or self.header_rows < 0:
            raise ConfigError(f"{name}: skip_rows and header_rows count rows; they cannot be negative.")


def read_rows(path: Path, layout: FileLayout, columns: Sequence[str]) -> tuple[pd.DataFrame, Counts]:
    """The named columns as they stand, indexed by row number from 1, plus a column `file`; and the counts.

    CSV fields are text, JSONL and Parquet values keep their types. CSV rows with a wrong number of fields, and lines
    that are no JSON object, are counted as malformed. Raises SourceError for a file that is missing, empty,
    not to be opened or of another format, TableError for a column that is missing or stands twice.
    """
    path = Path(path)
    kind = layout.format or SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise SourceError(f"{path}: the suffix {path.suffix!r} says no format; set format to csv, jsonl or parquet.")
    read = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}[kind]
    wanted = list(dict.fromkeys(columns))
    try:
        if not path.is_file():
            raise SourceError(f"{path}: there is no such file.")
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: the file is empty; expected rows.")
        values, numbers, malformed = read(path, layout, wanted)
    except UnicodeError as err:
        raise SourceError(f"{path}: the text is not {layout.encoding} ({err}); set encoding.") from err
    except OSError as err:
        raise SourceError(f"{path}: the file cannot be read ({err.strerror or err}).") from err
    total = len(numbers) + len(malformed)
    if total == 0:
        raise SourceError(f"{path}: the file has no rows below its header; expected some.")
    frame = pd.DataFrame(values, index=pd.Index(numbers, dtype="int64"), columns=wanted)
    frame["file"] = path.name
    examples = [f"{path.name} row {row}" for row in malformed[:EXAMPLES]]
    return frame, Counts(read=total, kept=total).without(len(malformed), "malformed row", examples)


_Rows = tuple[dict[str, pd.Series], np.ndarray, list[int]]  # values by column, row numbers, malformed row numbers


def _read_csv(path: Path, layout: FileLayout, columns: Sequence[str]) -> _Rows:
    with path.open(newline="", encoding=_encoding(layout)) as file:
        for _ in range(layout.skip_rows):
            file.readline()
        # strict: without it a stray quote swallows the following rows in silence
        reader = csv.reader(
            file,
            delimiter=layout.separator,
            quotechar=layout.quote or None,
            quoting=csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE,
            strict=True,
        )
        records = [record for record in _records(reader, path) if record != []]
    heads, body = records[: layout.header_rows], records[layout.header_rows :]
    if layout.header_rows and (not heads or heads[0] is None):
        raise SourceError(f"{path}: no header row could be read; check separator, quote and skip_rows.")
    width = next((len(r) for r in body if r is not None), 0)
    names = [n.strip() for n in heads[0] or []] if heads else [str(i + 1) for i in range(width)]
    positions = [_find(path, name, names) for name in columns]
    good = np.array([record is not None and len(record) == len(names) for record in body], dtype=bool)
    kept = [record for record, is_good in zip(body, good, strict=True) if is_good and record is not None]
    values = {
        name: pd.Series([record[i] for record in kept], index=np.flatnonzero(good) + 1, dtype="str")
        for name, i in zip(columns, positions, strict=True)
    }
    return values, np.flatnonzero(good) + 1, (np.flatnonzero(~good) + 1).tolist()


def _encoding(layout: FileLayout) -> str:
    # UTF-8 written by a spreadsheet begins with a mark that would become part of the first column's name.
    return "utf-8-sig" if codecs.lookup(layout.encoding).name == "utf-8" else layout.encoding


def _records(reader: Iterator[list[str]], path: Path) -> Iterator[list[str] | None]:
    """Each record, or None for one that breaks the quoting rules."""
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            if "unexpected end of data" in str(err):
                raise SourceError(
                    f"{path}: a quote in line {line} or below is never closed; mend it or set quote."
                ) from err
            yield None
        else:
            yield record


def _read_jsonl(path: Path, layout: FileLayout, columns: Sequence[str]) -> _Rows:
    rows: list[dict[str, object]] = []
    numbers: list[int] = []
    malformed: list[int] = []
    with path.open(encoding=_encoding(layout)) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                row = None
            if isinstance(row, dict):
                rows.append(row)
                numbers.append(number)
            else:
                malformed.append(number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in columns if rows else ():
        _find(path, name, names)
    values = {
        name: pd.Series([to_whole(row.get(name)) for row in rows], index=numbers, dtype="object") for name in columns
    }
    return values, np.array(numbers, dtype=np.int64), malformed


def to_whole(value: object) -> object:
    """The value; half of a surrogate pair, which JSON can write and UTF-8 cannot, becomes a question mark."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) and not value.isascii() else value


def _read_parquet(path: Path, layout: FileLayout, columns: Sequence[str]) -> _Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(path).names
        for name in columns:
            _find(path, name, names)
        frame = pyarrow.parquet.read_table(path, columns=list(columns)).to_pandas(ignore_metadata=True)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, OSError) as err:
        raise SourceError(f"{path}: not a readable Parquet file ({str(err).splitlines()[0]}).") from err
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return {str(name): frame[name] for name in columns}, np.arange(1, len(frame) + 1), []


def _find(path: Path, column: str, names: Sequence[str]) -> int:
    count = list(names).count(column)
    if count == 0:
        raise TableError(f"{path}: no column {column!r}.{did_you_mean(column, names)} Columns are {list(names)}.")
    if count > 1:
        raise TableError(f"{path}: column {column!r} stands {count} times; name columns so that each is one.")
    return list(names).index(column)


def to_text(values: pd.Series) -> list[str]:
    """Each value as text without spaces around it; a missing one is empty."""
    missing = values.isna().to_numpy()
    return ["" if gone else str(value).strip() for value, gone in zip(values.tolist(), missing, strict=True)]


def to_stamps(stamps: pd.Series, *, path: Path, tz: str | None, time_format: str | None) -> pd.Series:
    """The stamps of `read_rows` as UTC instants, NaT where one cannot be read. Raises as `clock.to_instants`."""
    if stamps.dtype == object:
        stamps = pd.Series(to_text(stamps), index=stamps.index, dtype="str")
    # to_instants names the position of a stamp: one that stands at its row number is found in the file
    by_number = stamps.reindex(range(int(stamps.index.max()) + 1)) if len(stamps) else stamps
    return to_instants(by_number, where=str(path), tz=tz, format=time_format).loc[stamps.index]


def to_numbers(values: pd.Series, *, decimal: str = ".") -> pd.Series:
    """Each value as a float64; NaN where it is not a number."""
    if values.dtype == object:
        values = values.where([not isinstance(v, bool | list | dict) for v in values], None)
    elif decimal != "." and pd.api.types.is_string_dtype(values.dtype):
        values = values.str.replace(decimal, ".", regex=False)
    return pd.to_numeric(values, errors="coerce").astype("float64")


def check_now(now: pd.Timestamp) -> pd.Timestamp:
    """The instant itself. Raises ConfigError where it has no zone."""
    if now.tzinfo is None:
        raise ConfigError(f"now: {now} has no time zone; pass an instant, such as 2026-01-05T14:00Z.")
    return now
