"""Rows of the lake as they were known: the newest version of each key at or before an instant of recording."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from finsignal.clock import to_bar
from finsignal.errors import ConfigError, SourceError
from finsignal.lake.contracts import Kept
from finsignal.lake.store import Lake, list_parts, list_values, to_folder

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

_CODED = pa.dictionary(pa.int32(), pa.string())  # what the reader of Parquet makes of a text column
INSTANT_BEFORE = pd.Timedelta(1, unit="us")
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
            if self.until is not None:  # without `since` most rows are wanted, and `cut` is quicker
                tests.append(pc.field("time") <= _scalar(self.until))
        if self.among is not None:
            column, values = self.among
            tests.append(pc.field(column).isin(pa.array(list(values), pa.large_string())))
        return functools.reduce(operator.and_, tests) if tests else None

    def cut(self, rows: pa.Table) -> pa.Table:
        """The rows known and recorded in time; the table itself, not copied, where all are."""
        for column, bound in (("time", self.until), ("recorded", self.recorded_by)):
            if bound is not None and column in rows.column_names and len(rows):
                limit = _scalar(bound)
                if pc.greater(pc.max(rows[column]), limit).as_py():
                    rows = rows.filter(pc.less_equal(rows[column], limit))
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
    root: Path,
    kept: Kept,
    wanted: Wanted,
    *,
    bar: str = "",
    columns: Sequence[str] | None = None,
    lean: bool = False,
) -> pa.Table:
    """The rows wanted, every version, in the order of their periods, then of their writes, then as they lie in a part.

    lean: symbols come as codes and a dictionary, and an optional column that holds no value does not come.
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
    return read_folders([root / to_folder(key, p) for p in periods], kept, wanted, columns=columns, lean=lean)


def to_period(instant: pd.Timestamp, key: str) -> str:
    """`2026-11` or `2026`, in UTC; text that sorts as the periods do."""
    return f"{instant:%Y-%m}" if key == "month" else f"{instant:%Y}"


def read_folders(
    folders: Sequence[Path],
    kept: Kept,
    wanted: Wanted,
    *,
    columns: Sequence[str] | None = None,
    lean: bool = False,
) -> pa.Table:
    """The rows wanted of these folders of parts; read again where a part was merged meanwhile."""
    for _ in range(_TRIES):
        paths = [part.path for folder in folders for part in list_parts(folder)]
        try:
            return read_paths(paths, kept, wanted, columns=columns, lean=lean)
        except FileNotFoundError:
            continue
    raise SourceError(f"{folders[0]}: its parts vanish while they are read. Is somebody deleting files of the lake?")


def read_paths(
    paths: Sequence[Path],
    kept: Kept,
    wanted: Wanted,
    *,
    columns: Sequence[str] | None = None,
    lean: bool = False,
) -> pa.Table:
    """The rows wanted of these parts, in their order. Raises FileNotFoundError where one is gone."""
    schema = kept.schema
    if lean and "symbol" in schema.names:
        schema = schema.set(schema.get_field_index("symbol"), pa.field("symbol", _CODED))
    names = schema.names if columns is None else list(columns)
    if not paths:
        return pa.schema([schema.field(name) for name in names]).empty_table()
    try:
        dataset = _open(paths, schema)
        if lean:
            idle = _list_idle(dataset, kept)
            names = [name for name in names if name not in idle]
        return wanted.cut(dataset.to_table(columns=names, filter=wanted.to_filter(schema.names)).unify_dictionaries())
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as err:
        for path in paths:  # the error names no file
            _check_readable(path)
        raise SourceError(f"{paths[0].parent}: cannot be read ({err}). Try again.") from err


def _open(paths: Sequence[Path], schema: pa.Schema) -> Dataset:
    import pyarrow.dataset
    from pyarrow.fs import LocalFileSystem

    scan = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=True)
    coded = pyarrow.dataset.ParquetReadOptions(dictionary_columns={f.name for f in schema if f.type == _CODED})
    form = pyarrow.dataset.ParquetFileFormat(read_options=coded, default_fragment_scan_options=scan)
    files = LocalFileSystem()
    fragments = [form.make_fragment(str(path), files) for path in paths]
    for path, fragment in zip(paths, fragments, strict=True):
        _check_columns(path, fragment.physical_schema, schema)
    return pyarrow.dataset.FileSystemDataset(fragments, schema, form, files)


def _list_idle(dataset: Dataset, kept: Kept) -> list[str]:
    """The optional columns that hold no value, as the parts say of themselves."""
    groups = [f.metadata.row_group(n) for f in dataset.get_fragments() for n in range(f.metadata.num_row_groups)]

    def is_idle(name: str) -> bool:
        at = kept.schema.get_field_index(name)
        said = ((group.column(at).statistics, group.num_rows) for group in groups)
        return all(s is not None and s.has_null_count and s.null_count == rows for s, rows in said)

    return [name for name in kept.contract.optional if is_idle(name)]


def _check_columns(path: Path, found: pa.Schema, schema: pa.Schema) -> None:
    if not found.equals(schema):
        odd = [f.name for f in found if f not in schema] or [n for n in schema.names if n not in found.names]
        raise SourceError(f"{path}: holds or lacks {odd}, which no finsignal wrote so. Move the file out of the lake.")


def _check_readable(path: Path) -> None:
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
