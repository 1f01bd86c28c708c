"""Labelled files of your own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from finsignal.clock import to_instants
from finsignal.errors import SourceError, TableError, did_you_mean
from finsignal.sentiment.labelled.rows import Counted, to_rows
from finsignal.tables import LABELLED, LABELS


def read_labelled(
    path: Path,
    *,
    text_column: str = "text",
    label_column: str = "label",
    label_map: Mapping[str, str] | None = None,
    cutoff: str | pd.Timestamp | None = None,
    time_column: str | None = None,
    source: str | None = None,
) -> Counted:
    """Rows of a CSV, JSON-lines or Parquet file of your own.

    `label_map` turns the file's labels into negative, neutral, positive; without one they must be these already.
    `time` is the time column (its stamps need a zone), or the end of the day `cutoff` for every row, or, with neither,
    1970-01-01, which is right for evaluation only: training refuses a set without a cut-off.

    Raises SourceError where the file cannot be read, TableError at an unknown label, an empty text, or a stamp
    that is no time or has no zone.
    """
    path = Path(path)
    frame = _read_frame(path)
    for column in filter(None, (text_column, label_column, time_column)):
        if column not in frame.columns:
            raise SourceError(
                f"{path}: no column {column!r}.{did_you_mean(column, map(str, frame.columns))} "
                f"Columns are {[str(c) for c in frame.columns]}."
            )
    empty = int(frame[text_column].isna().sum())
    frame = frame[frame[text_column].notna()]
    labels = [str(label) for label in frame[label_column]]
    known = dict(label_map) if label_map is not None else {name: name for name in LABELS}
    unknown = sorted(set(labels) - set(known))
    if unknown:
        raise TableError(
            f"{path}: labels {unknown[:5]} are unknown; expected {sorted(known)}. Pass a label map, such as "
            '{"bearish": "negative"}; on the command line: --label-map bearish=negative.'
        )
    texts = [str(text) for text in frame[text_column]]
    table = to_rows(
        texts,
        [known[label] for label in labels],
        cutoff=cutoff if cutoff is not None else pd.Timestamp(0, tz="UTC"),
        source=source or path.stem,
    )
    if time_column is not None:
        table["time"] = _to_times(frame[time_column], path)
    return LABELLED.check(table), {"read": len(frame) + empty, "empty": empty}


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


def _read_frame(path: Path) -> pd.DataFrame:
    """The file as it stands, labels as text (a CSV's 0 and 1 stay '0' and '1')."""
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix in (".jsonl", ".ndjson"):
            return pd.DataFrame([json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()])
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as err:
        raise SourceError(f"{path}: could not be read as {path.suffix[1:]} ({err}).") from err
    raise SourceError(
        f"{path}: labelled text is read from .csv, .jsonl or .parquet, not {path.suffix or 'no suffix'!r}."
    )
