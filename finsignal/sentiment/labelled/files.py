"""Labelled files of your own, with columns of any name, in CSV, JSON lines or Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from finsignal.clock import to_instants
from finsignal.errors import SourceError, TableError, did_you_mean
from finsignal.sentiment.labelled.label_maps import map_labels
from finsignal.sentiment.labelled.rows import Counted, to_rows
from finsignal.tables import LABELLED

UNDATED = pd.Timestamp(0, tz="UTC")  # the time of rows that have none


def read_labelled(
    path: Path,
    *,
    text_column: str = "text",
    label_column: str = "label",
    target_column: str | None = None,
    source_column: str | None = None,
    time_column: str | None = None,
    label_map: Mapping[str, str] | None = None,
    cutoff: str | pd.Timestamp | None = None,
    source: str | None = None,
) -> Counted:
    """Rows of a CSV, JSON-lines or Parquet file of your own.

    `label_map` turns the file's labels into negative, neutral, positive; without one they must be these already, in
    any case. `time` is the time column (its stamps need a zone), or the end of the day `cutoff` for every row, or, with
    neither, 1970-01-01, which is right for evaluation only: training refuses a set without a cut-off. An empty cell in
    the target column is the text as a whole. Counts: `read` rows, and `empty` ones without a text, which are left out.

    Raises SourceError where the file cannot be read or lacks a column, TableError at an unknown label, or a stamp that
    is no time or has no zone.
    """
    path = Path(path)
    frame = read_columns(path, text_column, label_column, target_column, source_column, time_column)
    return to_labelled(
        frame,
        path,
        text_column=text_column,
        label_column=label_column,
        target_column=target_column,
        source_column=source_column,
        time_column=time_column,
        label_map=label_map,
        cutoff=cutoff,
        source=source,
    )


def read_columns(path: Path, *columns: str | None) -> pd.DataFrame:
    """The file as it stands, as objects: a CSV's 0 stays '0'; None where a field is empty.

    Raises SourceError for a file that is missing, empty, broken, not UTF-8 or of another format, and where one of
    `columns` is not in it.
    """
    try:
        frame = _read_frame(path)
    except FileNotFoundError as err:
        raise SourceError(f"{path}: could not be read: no such file.") from err
    except UnicodeDecodeError as err:
        raise SourceError(
            f"{path}: could not be read: byte {err.start} is not UTF-8. Save it as UTF-8 (iconv -f latin1 -t utf8)."
        ) from err
    except (OSError, ValueError) as err:
        raise _unreadable(path, str(err)) from err
    for column in filter(None, columns):
        if column not in frame.columns:
            raise SourceError(
                f"{path}: no column {column!r}.{did_you_mean(column, map(str, frame.columns))} "
                f"Columns are {[str(c) for c in frame.columns]}."
            )
    return frame


def to_labelled(
    frame: pd.DataFrame,
    path: Path,
    *,
    text_column: str,
    label_column: str,
    target_column: str | None = None,
    source_column: str | None = None,
    time_column: str | None = None,
    label_map: Mapping[str, str] | None = None,
    cutoff: str | pd.Timestamp | None = None,
    source: str | None = None,
) -> Counted:
    """As `read_labelled`, of a frame that was read from `path` already."""
    read = len(frame)
    # .loc, for without rows an empty list in brackets would choose no column.
    frame = frame.loc[[bool(text.strip()) for text in _to_texts(frame[text_column])]].reset_index(drop=True)
    table = to_rows(
        _to_texts(frame[text_column]),
        map_labels(frame[label_column], label_map, where=str(path)),
        cutoff=cutoff if cutoff is not None else UNDATED,
        source=source or path.stem,
        targets=_to_texts(frame[target_column]) if target_column else None,
    )
    if source_column is not None:
        table["source"] = pd.Series(_to_texts(frame[source_column]), dtype="str")
    if time_column is not None:
        table["time"] = _to_times(frame[time_column], path)
    return LABELLED.check(table), {"read": read, "empty": read - len(frame)}


def _to_texts(values: pd.Series) -> list[str]:
    # Half a character, which JSON can hold, is no text to any other program.
    texts = ["" if value is None or value != value else str(value) for value in values]
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]


def _to_times(stamps: pd.Series, path: Path) -> pd.Series:
    rows = pd.Series(stamps.to_list())
    instants = to_instants(rows, where=str(path), tz="UTC")
    unread = instants.isna().to_numpy()
    if unread.any():
        raise TableError(
            f"{path}: {rows[unread].iloc[0]!r} in column {stamps.name!r} is no time. Write for example "
            "2024-03-01T09:00Z."
        )
    try:
        return to_instants(rows, where=str(path), tz=None)
    except TableError as err:
        raise TableError(
            f"{path}: column {stamps.name!r} has stamps with no time zone. Write an offset with every stamp."
        ) from err


def _unreadable(path: Path, what: str) -> SourceError:
    return SourceError(f"{path}: could not be read as {path.suffix[1:]} ({' '.join(what.split())[:200]}).")


def _read_frame(path: Path) -> pd.DataFrame:
    kind = path.suffix.lower()
    if kind == ".parquet":
        return pd.read_parquet(path)
    if kind in (".jsonl", ".ndjson"):
        return _read_json_lines(path)
    if kind == ".csv":
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
        if not isinstance(frame.index, pd.RangeIndex):  # which is how pandas takes them
            raise _unreadable(path, "rows have more fields than the header; quote the commas in the texts")
        return frame
    raise SourceError(
        f"{path}: labelled text is read from .csv, .jsonl or .parquet, not {path.suffix or 'no suffix'!r}."
    )


def _read_json_lines(path: Path) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as err:
            raise _unreadable(path, f"line {number} is no JSON: {err}") from err
        if not isinstance(row, dict):
            raise _unreadable(path, f"line {number} is no JSON object")
        rows.append(row)
    if not rows:
        raise _unreadable(path, "it is empty")
    # As objects: pandas would make 1 into 1.0 where another row has none.
    names = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype="object") for name in names})
