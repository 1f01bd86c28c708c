"""Prices from files of your own, placed on the grid of bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError, SourceError, TableError, did_you_mean
from finsignal.sources.dividends import find_dividends
from finsignal.sources.grid import OFF_GRID, check_step, place
from finsignal.sources.renaming import check_renamed, drop_other_company, rename
from finsignal.sources.rows import (
    OTHER_SYMBOL,
    OUTSIDE,
    UNFINISHED,
    Counts,
    FileLayout,
    check_now,
    read_rows,
    to_numbers,
    to_stamps,
    to_text,
)
from finsignal.tables import PRICES

OHLCV = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, kw_only=True)
class PriceLayout(FileLayout):
    """Where the parts of a bar stand in a file, and what its stamp means."""

    time: str
    """Column of the stamp."""
    stamp: str
    """What the stamp marks: "open" or "close" of the bar, or "date", the session of a daily bar."""
    open: str = "open"
    """Column of the first price."""
    high: str = "high"
    """Column of the highest price."""
    low: str = "low"
    """Column of the lowest price."""
    close: str = "close"
    """Column of the last price."""
    volume: str = "volume"
    """Column of the units traded."""
    adj_close: str | None = None
    """Column of the last price adjusted for dividends, from which dividends are taken; it is not traded on."""
    smallest_dividend: float = 1e-5
    """Fraction of the close before: adj_close / close moves by less through rounding alone."""
    symbol: str | None = None
    """Column of the symbol; None where each file holds one, and paths map symbols to files."""
    renamed: Mapping[str, str] | None = None
    """Symbol of the file -> symbol of the run, for all rows, or "NEW@2022-06-09" for those before that day (UTC): rows
    that bear the new name before it are another company's and left out. Symbols that are not named stay."""
    tz: str | None = None
    """Zone of stamps that carry none, such as "America/New_York"."""
    time_format: str | None = None
    """strptime format, "unix_s" or "unix_ms"; None for ISO 8601."""
    decimal: str = "."
    """Decimal mark in the prices."""
    drop_last: bool = False
    """Whether the latest row of each symbol may be unfinished, and is left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stamp not in ("open", "close", "date"):
            hint = did_you_mean(self.stamp, ("open", "close", "date"))
            raise ConfigError(f"PriceLayout: stamp {self.stamp!r} is not one of open, close, date.{hint}")
        columns = [self.time, *(getattr(self, part) for part in OHLCV)]
        if len(set(columns)) < len(columns):
            raise ConfigError(
                f"PriceLayout: time, open, high, low, close and volume are columns {columns}; each needs its own. "
                "A file of closes alone cannot be traded on."
            )
        if self.adj_close in columns:
            raise ConfigError(f"PriceLayout: adj_close is column {self.adj_close!r}, which is another part of the bar.")
        if not 0 < self.smallest_dividend < 1:
            raise ConfigError(
                f"PriceLayout: smallest_dividend is {self.smallest_dividend}; expected a fraction above 0."
            )
        check_renamed(self.renamed, where="PriceLayout")


def read_prices(
    paths: Path | Mapping[str, Path] | Sequence[Path],
    layout: PriceLayout,
    *,
    bars: pd.DataFrame,
    now: pd.Timestamp,
    limit: float = 0.01,
    symbols: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, Counts]:
    """Prices as `tables.PRICES`, as they stand in the files, and the counts of rows.

    Each row is placed on the grid `bars` (`clock.make_bars`), from which both open_time and time, the bar's end, come;
    so a last bar of 15:30 that the close cuts at 16:00 is known at 16:00. Give a mapping symbol -> file where a
    file holds one symbol and no column of it. The order of rows does not matter. Rows outside the period of the bars,
    of symbols other than `symbols` (default: all are kept) and bars that end after `now` are left out; rows that are
    malformed, off the grid, stamped after `now`, repeated, contradicting one another, or without sensible prices are
    dropped as faults.

    With layout.adj_close a column `dividend`: the cash a unit that the step of adj_close / close says, paid at the open
    of its row to who held before (`dividends.find_dividends`), 0.0 where there is none. adj_close itself is not in the
    table: its level at a time is made of dividends after it.

    Raises SourceError for a file that cannot be read, TableError where a column is missing, a stamp has no
    zone, rows are longer apart than the bars of the grid, adj_close moves as no dividend makes it, no row is left, or
    more than `limit` (a fraction of the rows) are faults.
    """
    if bars.empty:
        raise TableError("prices: the grid of bars is empty; rows cannot be placed on it.")
    check_now(now)
    named = layout.symbol is not None
    read, parts, total = [], [], Counts()
    for symbol, path in _list_files(paths):
        if named == (symbol is not None):
            raise ConfigError(
                f"{path}: a symbol must come from one place, the layout's symbol column or a mapping symbol -> file; "
                f"here it comes from {'both' if named else 'none'}."
            )
        read.append((path, *_read_price_file(path, layout, symbol, now, symbols)))
    if layout.adj_close is not None:
        dividends, notes = find_dividends(pd.concat([rows for _, rows, _ in read]), smallest=layout.smallest_dividend)
        total += Counts(notes=notes)
        ends = np.cumsum([len(rows) for _, rows, _ in read])[:-1]
        paid = np.split(dividends.to_numpy(), ends)
        read = [
            (path, rows.assign(dividend=cash), counts) for (path, rows, counts), cash in zip(read, paid, strict=True)
        ]
    for path, rows, counts in read:
        part, counts = _place(path, rows, counts, layout, bars, now)
        counts.check(limit, where=str(path))
        parts.append(part)
        total += counts
    frame = pd.concat(parts)
    frame, total = _drop_repeats(frame, total)
    total.check(limit, where="prices")
    check_step(frame, bars, where="prices")
    if layout.adj_close is not None:
        total = total.note(
            f"dividends found in the steps of {layout.adj_close!r}: {int((frame['dividend'] > 0).sum()):,}."
        )
    return PRICES.to_table(frame.drop(columns=["file", "adj_close"], errors="ignore")), total


def _list_files(paths: Path | str | Mapping[str, Path | str] | Sequence[Path | str]) -> list[tuple[str | None, Path]]:
    """(symbol, path) of each file, the symbol None where no mapping names it. Raises SourceError for no file."""
    if isinstance(paths, Mapping):
        files: list[tuple[str | None, Path]] = [(str(symbol), Path(path)) for symbol, path in paths.items()]
    else:
        files = [(None, Path(path)) for path in ([paths] if isinstance(paths, Path | str) else paths)]
    if not files:
        raise SourceError("prices: no file is named; expected at least one.")
    return files


def _read_price_file(
    path: Path, layout: PriceLayout, symbol: str | None, now: pd.Timestamp, symbols: Sequence[str] | None
) -> tuple[pd.DataFrame, Counts]:
    """Rows with sensible prices, not yet on the grid: file, symbol, stamp, OHLCV and, if stated, adj_close."""
    columns = [layout.time, *(getattr(layout, part) for part in OHLCV), *([layout.symbol] if layout.symbol else [])]
    try:
        rows, counts = read_rows(path, layout, [*columns, *([layout.adj_close] if layout.adj_close else [])])
    except TableError as err:
        if any(f"no column {getattr(layout, part)!r}" in str(err) for part in ("open", "high", "low")):
            raise TableError(
                str(err)[:-1] + ": these are no prices to trade on, which need open, high, low, close and volume."
            ) from err
        raise
    rows["symbol"] = symbol if symbol is not None else to_text(rows[layout.symbol])
    rows["stamp"] = _to_stamps(rows[layout.time], layout, path)
    adjusted = to_numbers(rows[layout.adj_close], decimal=layout.decimal) if layout.adj_close else None
    rows = pd.concat([rows[["file", "symbol", "stamp"]], _to_ohlcv(rows, layout)], axis=1)
    if adjusted is not None:
        rows["adj_close"] = adjusted
    rows, counts = counts.drop(rows, rows["stamp"].isna(), "time cannot be read")
    rows, counts = counts.drop(rows, rows["symbol"] == "", "no symbol")
    if layout.renamed:
        rows, counts = drop_other_company(rows, counts, layout.renamed, path)
        rows["symbol"] = rename(rows["symbol"], rows["stamp"], layout.renamed)
    if symbols is not None:
        rows, counts = counts.drop(rows, ~rows["symbol"].isin(list(symbols)), OTHER_SYMBOL)
    if layout.drop_last:
        rows, counts = counts.drop(rows, rows["stamp"] == rows.groupby("symbol")["stamp"].transform("max"), UNFINISHED)
    prices = rows[["open", "high", "low", "close"]]
    rows, counts = counts.drop(rows, ~np.isfinite(prices).all(axis=1), "price missing or not a number")
    prices = prices.loc[rows.index]
    rows, counts = counts.drop(rows, (prices <= 0).any(axis=1), "price not above 0")
    within = rows[["open", "close"]]
    crossed = (rows["low"] > within.min(axis=1)) | (rows["high"] < within.max(axis=1))
    rows, counts = counts.drop(rows, crossed, "open or close outside low and high")
    bad_volume = ~(np.isfinite(rows["volume"]) & (rows["volume"] >= 0))
    rows, counts = counts.drop(rows, bad_volume, "volume missing or below 0")
    if adjusted is not None:
        unusable = ~(np.isfinite(rows["adj_close"]) & (rows["adj_close"] > 0))
        rows, counts = counts.drop(rows, unusable, "adj_close missing or not above 0")
    return counts.drop(rows, rows["stamp"] > now, "stamp in the future")


def _place(
    path: Path, rows: pd.DataFrame, counts: Counts, layout: PriceLayout, bars: pd.DataFrame, now: pd.Timestamp
) -> tuple[pd.DataFrame, Counts]:
    """The rows that are closed bars of the grid, each once, with open_time and time in place of their stamps."""
    position, outside = place(rows["stamp"], bars, stamp=layout.stamp)
    rows, counts = counts.drop(rows.assign(position=position), outside, OUTSIDE)
    rows, counts = counts.drop(rows, rows["position"] < 0, OFF_GRID)
    at = rows["position"].to_numpy()
    rows = rows.assign(open_time=bars["open_time"].array[at], time=bars["close_time"].array[at])
    rows, counts = counts.drop(rows.drop(columns=["position", "stamp"]), rows["time"] > now, UNFINISHED)
    rows, counts = _drop_repeats(rows, counts)
    behind = int((rows.groupby("symbol")["open_time"].diff() < pd.Timedelta(0)).sum())
    if behind:
        counts = counts.note(f"{path.name}: {behind} rows stand below a later one of their symbol; sorted.")
    return rows, counts


def _to_ohlcv(rows: pd.DataFrame, layout: PriceLayout) -> pd.DataFrame:
    return pd.DataFrame({part: to_numbers(rows[getattr(layout, part)], decimal=layout.decimal) for part in OHLCV})


def _drop_repeats(frame: pd.DataFrame, counts: Counts) -> tuple[pd.DataFrame, Counts]:
    """One row a bar; bars whose rows disagree are dropped whole, for no order of rows may decide which is right."""
    key = ["symbol", "open_time"]
    if not frame.duplicated(key).any():
        return frame, counts
    values = [column for column in (*OHLCV, "adj_close") if column in frame]
    frame, counts = counts.drop(frame, frame.duplicated(key + values), "repeated row")
    return counts.drop(frame, frame.duplicated(key, keep=False), "rows that contradict each other")


def _to_stamps(stamps: pd.Series, layout: PriceLayout, path: Path) -> pd.Series:
    """The stamps as UTC instants, dates as midnight UTC; NaT where one cannot be read."""
    dated = layout.stamp == "date"
    zone = layout.tz or ("UTC" if dated else None)
    out = to_stamps(stamps, path=path, tz=zone, time_format=layout.time_format)
    if not dated:
        return out
    local = out.dt.tz_convert(zone).dt.tz_localize(None)
    hours = (local.notna() & (local != local.dt.normalize())).to_numpy()
    if hours.any():
        raise TableError(
            f"{path}: row {stamps.index[hours.argmax()]} is stamped {stamps[hours].iloc[0]}, "
            f"which is no date in {zone}; set stamp to open or close, or tz to the zone of the dates."
        )
    return local.dt.tz_localize("UTC")
