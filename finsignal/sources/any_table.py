"""Any file of rows, read with all its columns and written back in the format of its suffix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from finsignal.errors import SourceError, TableError, did_you_mean
from finsignal.sources.rows import SUFFIXES, to_whole
from finsignal.writing import whole_file


def read_any(path: Path, *, columns: Sequence[str]) -> pd.DataFrame:
    """All rows and columns of a CSV, JSONL or Parquet file, in order. CSV fields stay text, so nothing is re-written.

    Raises SourceError for a file that is missing, empty, of another format or broken, TableError where one of `columns`
    is missing.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise SourceError(f"{path}: the suffix {path.suffix!r} says no format; expected .csv, .jsonl or .parquet.")
    try:
        if kind == "csv":
            frame = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")
            if not isinstance(frame.index, pd.RangeIndex):
                raise SourceError(f"{path}: rows have more fields than the header; quote the separators in them.")
        elif kind == "jsonl":
            lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
            rows = [json.loads(line) for line in lines]
            if not all(isinstance(row, dict) for row in rows):
                raise SourceError(f"{path}: expected one JSON object a line; a line holds something else.")
            if not rows:
                raise pd.errors.EmptyDataError
            # As objects: pandas would make 7 into 7.0 where another row has none.
            names = dict.fromkeys(name for row in rows for name in row)
            frame = pd.DataFrame(
                {name: pd.Series([to_whole(row.get(name)) for row in rows], dtype="object") for name in names}
            )
        else:
            frame = pd.read_parquet(path)
    except FileNotFoundError as err:
        raise SourceError(f"{path}: no such file.") from err
    except pd.errors.EmptyDataError as err:
        raise SourceError(f"{path}: is empty; expected rows.") from err
    except (ValueError, OSError) as err:
        raise SourceError(f"{path}: could not be read as {kind} ({err!s:.200}).") from err
    for column in columns:
        if column not in frame.columns:
            raise TableError(
                f"{path}: no column {column!r}.{did_you_mean(column, map(str, frame.columns))} "
                f"Columns are {[str(c) for c in frame.columns]}."
            )
    return frame


def write_any(frame: pd.DataFrame, path: Path) -> None:
    """Writes rows whole or not at all, as the suffix of `path` says. Raises SourceError for another suffix."""
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise SourceError(f"{path}: the suffix {path.suffix!r} says no format; expected .csv, .jsonl or .parquet.")
    with whole_file(path) as work:
        if kind == "csv":
            frame.to_csv(work, index=False)
        elif kind == "jsonl":
            plain = frame.astype("object").where(frame.notna(), None)
            lines = [json.dumps(row, ensure_ascii=False, default=str) for row in plain.to_dict("records")]
            work.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        else:
            frame.to_parquet(work, index=False)
