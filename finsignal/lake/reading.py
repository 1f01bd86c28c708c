"""Rows of the lake as they were known: the newest version of each key at or before an instant of recording."""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from finsignal.clock import to_bar
from finsignal.errors import ConfigError, SourceError
from finsignal.lake.contracts import Kept
from finsignal.lake.store import Lake, list_parts, list_values, to_folder

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

_TAKEN = 262_144  # rows taken at once
_TRIES = 100  # parts may be merged while they are read; each merge leaves fewer to be merged


@dataclass(frozen=True)
class Wanted:
    """Which rows to read; None asks for all. `until` and `recorded_by` are included, `since` is not."""

    since: pd.Timestamp | None = None
    until: pd.Timestamp | None = None
    recorded_by: pd.Timestamp | None = None
    among: tuple[str, Sequence[str]] | None = None  # a text column and the values it may have

    def to_filter(self, names: Sequence[str]) -> pc.Expression | None:
        """What spares reading: the conditions that leave out whole files or groups of rows. None for all rows."""
        tests = []
        if self.since is not None and "time" in names:
            tests.append(pc.field("time") > _scalar(self.since))
        if self.among is not None:
            column, values = self.among
            tests.append(pc.field(column).isin(pa.array(list(values), pa.large_string())))
        return functools.reduce(operator.and_, tests) if tests else None

    def cut(self, rows: pa.Table) -> pa.Table:
        """The rows known and recorded in time; the table itself, not copied, where all are."""
        for column, bound in (("time", self.until), ("recorded", self.recorded_by)):
            if bound is not None and column in rows.column_names and len(rows):
                fine = pc.less_equal(rows[column], _scalar(bound))
                if not pc.all(fine).as_py():
                    rows = rows.filter(fine)
        return rows


def _scalar(instant: pd.Timestamp) -> pa.Scalar:
    return pa.scalar(instant, pa.timestamp("us", "UTC"))


def to_root(lake: Lake, table: str, kept: Kept, *, market: str, bar: str) -> Path:
    """The folder under which the periods of a table lie.

    Raises ConfigError where a market or bar length is missing, or given for a table that is not kept by it.
    """
    for name, value in (("market", market), ("bar", bar)):
        if bool(value) != (name in kept.by):
            raise ConfigError(
                f"lake: {table} are {'not ' if value else ''}kept by {name}, got {name} {value!r}. "
                f"{'Leave it out' if value else 'Name one'}."
            )
    if bar:
        to_bar(bar)
    folder = lake.folder / table
    for key in kept.by:
        folder /= to_folder(key, {"market": market, "bar": bar}[key])
    return folder


def period_key(kept: Kept, bar: str) -> str:
    """`month`, or `year` for what has few rows in a month."""
    return "year" if kept.yearly or bar == "1d" else "month"


def read_rows(
    root: Path, kept: Kept, wanted: Wanted, *, bar: str = "", columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows wanted, every version, in the order of their periods, then of their writes, then as they lie in a part.

    Raises SourceError for a part that cannot be read or holds other columns.
    """
    key = period_key(kept, bar)
    periods = list_values(root, key)
    if kept.dated == "time":
        if wanted.since is not None:
            periods = [p for p in periods if p >= to_period(wanted.since, key)]
        if wanted.until is not None:
            periods = [p for p in periods if p <= to_period(wanted.until, key)]
    elif wanted.recorded_by is not None:
        periods = [p for p in periods if p <= to_period(wanted.recorded_by, key)]
    return read_folders([root / to_folder(key, p) for p in periods], kept, wanted, columns=columns)


def to_period(instant: pd.Timestamp, key: str) -> str:
    """`2026-11` or `2026`, in UTC; text that sorts as the periods do."""
    return f"{instant:%Y-%m}" if key == "month" else f"{instant:%Y}"


def read_folders(
    folders: Sequence[Path], kept: Kept, wanted: Wanted, *, columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows wanted of these folders of parts; read again where a part was merged meanwhile."""
    for _ in range(_TRIES):
        paths = [part.path for folder in folders for part in list_parts(folder)]
        try:
            return read_paths(paths, kept, wanted, columns=columns)
        except FileNotFoundError:
            continue
    raise SourceError(f"{folders[0]}: its parts vanish while they are read. Is somebody deleting files of the lake?")


def read_paths(paths: Sequence[Path], kept: Kept, wanted: Wanted, *, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows wanted of these parts, in their order. Raises FileNotFoundError where one is gone."""
    schema = kept.schema
    names = schema.names if columns is None else list(columns)
    if not paths:
        return pa.schema([schema.field(name) for name in names]).empty_table()
    try:
        dataset = _open(paths, schema)
        return wanted.cut(dataset.to_table(columns=names, filter=wanted.to_filter(schema.names)))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as err:
        for path in paths:  # the error names no file
            _check_readable(path, schema)
        raise SourceError(f"{paths[0].parent}: cannot be read ({err}). Try again.") from err


def _open(paths: Sequence[Path], schema: pa.Schema) -> Dataset:
    import pyarrow.dataset
    from pyarrow.fs import LocalFileSystem

    scan = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=True)
    form = pyarrow.dataset.ParquetFileFormat(default_fragment_scan_options=scan)
    files = LocalFileSystem()
    fragments = [form.make_fragment(str(path), files) for path in paths]
    for path, fragment in zip(paths, fragments, strict=True):
        _check_columns(path, fragment.physical_schema, schema)
    return pyarrow.dataset.FileSystemDataset(fragments, schema, form, files)


def _check_columns(path: Path, found: pa.Schema, schema: pa.Schema) -> None:
    if not found.equals(schema):
        odd = [f.name for f in found if f not in schema] or [n for n in schema.names if n not in found.names]
        raise SourceError(f"{path}: holds or lacks {odd}, which no finsignal wrote so. Move the file out of the lake.")


def _check_readable(path: Path, schema: pa.Schema) -> None:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            file.read()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as err:
        raise SourceError(
            f"{path}: is damaged ({err}). Move it out of the lake, then fetch again what it held."
        ) from err


def to_codes(column: pa.ChunkedArray) -> np.ndarray:
    """Integers in the order of the column's values, equal where they are; without missing values."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_numpy()
    if not pa.types.is_large_string(column.type):
        return column.to_numpy()
    words = column.combine_chunks().dictionary_encode()
    codes = words.indices.to_numpy()
    rank = np.empty(len(words.dictionary), dtype=np.int16 if len(words.dictionary) < 2**15 else np.int64)
    rank[pc.sort_indices(words.dictionary).to_numpy()] = np.arange(len(rank))
    return rank[codes]


def newest(rows: pa.Table, key: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Positions of the newest version of each key, in the order of keys, and the keys' codes at these positions.

    Of versions recorded at the same instant the one written later is newer.
    """
    order, codes = order_by(rows, key)
    ordered = [c[order] for c in codes]
    repeats = np.ones(max(len(order) - 1, 0), dtype=bool)
    for c in ordered:
        repeats &= c[1:] == c[:-1]
    if not repeats.any():
        return order, ordered
    recorded = to_codes(rows["recorded"])
    if (np.diff(recorded[order])[repeats] < 0).any():
        order = np.lexsort((recorded, *reversed(codes)))
    last = np.append(~repeats, True)
    return order[last], [c[last] for c in ordered]


def order_by(rows: pa.Table, key: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Positions that sort the rows by key, equal keys as they stand, and the codes of the key's columns (unsorted)."""
    codes = [to_codes(rows[c]) for c in key]
    # Parts are sorted by key already: for prices of several months the symbols alone put them in order.
    order = np.argsort(codes[0], kind="stable")
    if len(codes) > 1 and not _ascends([c[order] for c in codes]):
        order = np.lexsort(tuple(reversed(codes)))
    return order, codes


def _ascends(codes: list[np.ndarray]) -> bool:
    undecided = np.ones(max(len(codes[0]) - 1, 0), dtype=bool)
    for c in codes:
        if ((c[1:] < c[:-1]) & undecided).any():
            return False
        undecided &= c[1:] == c[:-1]
    return True


def take(rows: pa.Table, positions: np.ndarray) -> pa.Table:
    """The rows at these positions, in this order."""
    if len(positions) == len(rows) and (np.diff(positions) == 1).all():
        return rows
    where = pa.array(positions)
    pieces = [where.slice(start, _TAKEN) for start in range(0, len(where), _TAKEN)]

    def gather(column: pa.ChunkedArray) -> pa.ChunkedArray:
        # Whole arrays are taken from many times faster than chunks are; but taken whole, half a gigabyte of text needs
        # its memory in one piece, which the system has to clear first.
        whole = column.combine_chunks()
        return pa.chunked_array([whole.take(piece) for piece in pieces], type=column.type)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The texts first: they take longest.
        columns = dict(zip(rows.column_names[::-1], pool.map(gather, rows.columns[::-1]), strict=True))
    return pa.table([columns[name] for name in rows.column_names], schema=rows.schema)


def to_frame(rows: pa.Table, kept: Kept) -> pd.DataFrame:
    """The contract's table of these rows; an optional column is there where any of the rows has a value in it."""
    contract = kept.contract
    names = list(contract.columns)
    names += [n for n in contract.optional if n in rows.column_names and rows[n].null_count < len(rows)]
    frame = rows.select(names).to_pandas(ignore_metadata=True)
    if not len(frame):
        return contract.empty()
    wrong = {n: d for n, d in {**contract.columns, **contract.optional}.items() if n in names and frame[n].dtype != d}
    return frame.astype(wrong) if wrong else frame
