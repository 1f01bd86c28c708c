"""New rows into the lake: checked, compared with what is there, written as a part, and merged when parts are many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from finsignal.clock import to_instant
from finsignal.errors import SourceError, TableError
from finsignal.lake.contracts import Kept, to_kept
from finsignal.lake.ordering import newest, order_by, take
from finsignal.lake.reading import (
    INSTANT_BEFORE,
    Wanted,
    period_key,
    read_folders,
    read_paths,
    read_rows,
    to_root,
)
from finsignal.lake.store import (
    Lake,
    Part,
    cannot_write,
    list_parts,
    locked,
    make_folders,
    sweep,
    to_folder,
    to_name,
    write_new,
)
from finsignal.tables import INSTANT, PRICES, to_integers

CLOCK = ".clock"  # beside the tables: the latest instant of recording that was given, in microseconds
MERGE_ABOVE = 32  # parts of a folder
_ROWS_A_GROUP = 16_384  # so that a few symbols of many are read without the rest


def append(
    lake: Lake,
    table: str,
    rows: pd.DataFrame,
    *,
    recorded: pd.Timestamp,
    market: str = "",
    bar: str = "",
    in_order: bool = False,
) -> int:
    """How many of these rows were new; all of them are on the disk when this returns, and history is kept.

    rows: the contract's table of that name (`tables`; FETCHES and SCORES in `lake`), in any order. recorded: when they
    were fetched, an instant with zone; it replaces a column `recorded`. A row that says what the lake knew at
    `recorded` already is left out, so a repeat adds nothing; another value for the same key becomes a version of its
    own. An article_id is stored once: edits come under ids of their own. A price that reads as before is still new
    where a split of its symbol lies between the two fetches, for it then means another price: append actions first.

    `in_order` is for fetches beside others, whose rows enter later than they began: rows are recorded no earlier than
    what was appended so before them, and after every instant that `seal` gave.

    Rows of several months are written month by month. If that fails half way, repeat it: what is there is not
    written twice. Raises TableError for rows that break their contract (nothing is written), ConfigError for a table,
    market or bar length that cannot be meant, SourceError where the lake cannot be read or written.
    """
    kept = to_kept(table)
    root = to_root(lake, table, kept, market=market, bar=bar)
    at = to_instant(recorded, where=f"lake: recorded of {table}", tz=None)
    checked = _check(rows, kept, at)
    if checked.empty:
        return 0
    with locked(lake):
        at = _stamp(lake, at) if in_order else at
        splits = read_splits(lake, market, checked["symbol"].unique()) if table == "prices" else None
        if splits is not None and splits.empty:
            splits = None
        key = period_key(kept, bar)
        dates = checked[kept.dated] if kept.dated in checked.columns else pd.Series(at, index=checked.index)
        periods = dates.dt.strftime("%Y-%m" if key == "month" else "%Y")
        everywhere = None if kept.dated in kept.contract.key else read_known(root, kept, checked, at, bar=bar)
        count = 0
        for period, group in checked.groupby(periods.to_numpy(), sort=True):
            folder = root / to_folder(key, str(period))
            known = read_known(folder, kept, group, at) if everywhere is None else everywhere
            fresh = group[~_is_known(group, known, kept, at, splits)]
            if len(fresh):
                _write(folder, fresh, kept, at)
                count += len(fresh)
    return count


def seal(lake: Lake, now: pd.Timestamp) -> pd.Timestamp:
    """An instant, `now` or little later, by which all is recorded that was ever appended in order, and nothing will be.

    A reader with recorded_by = this instant is given the same rows whenever it asks again.
    """
    at = to_instant(now, where="lake: now", tz=None)
    with locked(lake):
        sealed = max(at, _newest(lake)) + INSTANT_BEFORE
        _keep_newest(lake, sealed)
    return sealed


def _stamp(lake: Lake, at: pd.Timestamp) -> pd.Timestamp:
    newest = _newest(lake)
    stamp = at if at >= newest else newest + INSTANT_BEFORE
    if stamp > newest:
        _keep_newest(lake, stamp)  # before the rows: a writer killed in between leaves it too late, never too early
    return stamp


def _newest(lake: Lake) -> pd.Timestamp:
    """The latest instant given; while the lake is locked."""
    try:
        return pd.Timestamp(int((lake.folder / CLOCK).read_text(encoding="ascii")), unit="us", tz="UTC").as_unit("us")
    except FileNotFoundError:
        return pd.Timestamp(0, unit="us", tz="UTC").as_unit("us")
    except (OSError, ValueError) as err:
        raise SourceError(f"{lake.folder / CLOCK}: cannot be read ({err}). Remove it if it is damaged.") from err


def _keep_newest(lake: Lake, instant: pd.Timestamp) -> None:
    work = lake.folder / f"{CLOCK}.tmp"
    try:
        work.write_text(str(to_integers(pd.DatetimeIndex([instant]))[0]), encoding="ascii")
        os.replace(work, lake.folder / CLOCK)
    except OSError as err:
        raise cannot_write(lake.folder, err) from err


def _check(rows: pd.DataFrame, kept: Kept, at: pd.Timestamp) -> pd.DataFrame:
    contract = kept.contract
    if isinstance(rows, pd.DataFrame) and "recorded" in contract.columns:
        rows = rows.assign(recorded=pd.Series(at, index=rows.index, dtype=INSTANT))
    if not isinstance(rows, pd.DataFrame):
        return contract.check(rows)  # which says what is wrong
    checked = contract.to_table(rows)
    if contract is PRICES and (late := (checked["time"] > at).to_numpy()).any():
        row = checked.iloc[int(late.argmax())]
        raise TableError(
            f"prices: the bar of {row['symbol']} closes at {row['time']}, after it was recorded ({at}). "
            "Only closed bars are kept; is the clock right?"
        )
    return checked


def read_splits(lake: Lake, market: str, symbols: Sequence[str]) -> pd.DataFrame:
    """symbol, time and recorded of every version of the splits of these symbols."""
    kept = to_kept("actions")
    wanted = Wanted(among=("symbol", list(symbols)))
    found = read_rows(to_root(lake, "actions", kept, market=market, bar=""), kept, wanted).to_pandas()
    return found.loc[found["kind"] == "split", ["symbol", "time", "recorded"]]


def read_known(place: Path, kept: Kept, rows: pd.DataFrame, at: pd.Timestamp, *, bar: str = "") -> pd.DataFrame:
    """What the lake knew at `at` under the keys of these rows: key, values and `recorded` of the newest versions.

    Of a table that keeps each key once: the keys that are there, whenever recorded.
    """
    contract = kept.contract
    column = "input" if "input" in contract.key else contract.key[0]
    among = (column, list(rows[column].unique()))
    recorded_by = None if kept.first_wins else at
    # Not the other columns: the text of a million articles would be read to find a hundred ids.
    columns = [*contract.key, "recorded"] if kept.first_wins else None
    if kept.dated not in contract.key:
        found = read_rows(place, kept, Wanted(recorded_by=recorded_by, among=among), bar=bar, columns=columns)
    else:
        near = {}
        if kept.dated == "time":
            near = {"since": rows["time"].min() - INSTANT_BEFORE, "until": rows["time"].max()}
        found = read_folders([place], kept, Wanted(recorded_by=recorded_by, among=among, **near), columns=columns)
    return take(found, newest(found, contract.key)).to_pandas()


def _is_known(
    rows: pd.DataFrame, known: pd.DataFrame, kept: Kept, at: pd.Timestamp, splits: pd.DataFrame | None
) -> np.ndarray:
    """For each row whether the lake says the same already."""
    if known.empty:
        return np.zeros(len(rows), dtype=bool)
    key = list(kept.contract.key)
    # FETCHES has `recorded` in its key; elsewhere the instant of the known version is another column than that of rows.
    stamped = known.assign(known_at=known["recorded"], is_there=True)
    stamped = stamped if "recorded" in key else stamped.drop(columns="recorded")
    both = rows[key].merge(stamped, on=key, how="left")
    same = both["is_there"].notna().to_numpy(copy=True)
    if kept.first_wins:
        return same
    for column in kept.values:
        old = both[column]
        new = rows[column].reset_index(drop=True) if column in rows.columns else pd.Series(np.nan, index=old.index)
        same &= ((old == new) | (old.isna() & new.isna())).fillna(False).to_numpy(dtype=bool)
    if splits is not None and same.any():
        same &= ~_crosses_split(rows, both["known_at"], at, splits)
    return same


def _crosses_split(rows: pd.DataFrame, known_at: pd.Series, at: pd.Timestamp, splits: pd.DataFrame) -> np.ndarray:
    """Whether a split that concerns the bar came into force after the known fetch and by this one."""
    crosses = np.zeros(len(rows), dtype=bool)
    symbols = rows["symbol"].to_numpy()
    times, known = to_integers(rows["time"]), to_integers(known_at)
    now = to_integers(pd.DatetimeIndex([at]))[0]
    for symbol, split in zip(splits["symbol"], to_integers(splits["time"]), strict=True):
        crosses |= (symbols == symbol) & (times <= split) & (known < split) & (split <= now)
    return crosses


def _write(folder: Path, rows: pd.DataFrame, kept: Kept, at: pd.Timestamp) -> None:
    stamped = rows.assign(recorded=pd.Series(at, index=rows.index, dtype=INSTANT))
    for column in kept.contract.optional:
        if column not in stamped.columns:
            stamped[column] = np.nan
    data = pa.Table.from_pandas(stamped, schema=kept.schema, preserve_index=False)
    try:
        make_folders(folder)
        sweep(folder)
        parts = list_parts(folder)
        number = parts[-1].last + 1 if parts else 1
        write_new(folder / to_name(number, number), to_parquet(data))
    except OSError as err:
        raise cannot_write(folder, err) from err
    if len(parts) >= MERGE_ABOVE:
        # The rows are safe already. What keeps parts from being merged now, such as a full disk, may pass.
        with suppress(OSError, SourceError):
            merge(folder, kept)


def to_parquet(rows: pa.Table) -> pa.Buffer:
    """The rows as the bytes of a Parquet file, every page with its checksum."""
    import pyarrow.parquet

    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(
        rows.replace_schema_metadata(None),
        sink,
        compression="zstd",
        row_group_size=_ROWS_A_GROUP,
        write_page_checksum=True,
    )
    return sink.getvalue()


def merge(folder: Path, kept: Kept) -> None:
    """The newest parts of a folder become one; while the lake is locked. Not a row is lost, every version is kept."""
    run = _to_merge(list_parts(folder))
    if len(run) < 2:
        return
    rows = read_paths([part.path for part in run], kept, Wanted())
    order = order_by(rows, kept.contract.order)
    write_new(folder / to_name(run[0].first, run[-1].last), to_parquet(take(rows, order)))
    for part in run:
        part.path.unlink(missing_ok=True)


def _to_merge(parts: list[Part]) -> list[Part]:
    """The longest run of newest parts of which none is more than twice as large as all after it together.

    So a large part is not written anew for a few rows: each row is rewritten as often as its folder doubles.
    """
    run: list[Part] = []
    total = 0
    for part in reversed(parts):
        size = os.stat(part.path).st_size
        if run and size > 2 * total:
            break
        run.append(part)
        total += size
    return run[::-1]
