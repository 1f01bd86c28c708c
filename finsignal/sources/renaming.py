"""Symbols that changed their name: what a file calls a company, to what a run calls it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from finsignal.clock import to_instant
from finsignal.errors import ConfigError
from finsignal.sources.rows import OTHER_COMPANY, Counts


def to_rename(new: str, *, where: str) -> tuple[str, pd.Timestamp | None]:
    """("META", its first day) of "META@2022-06-09", ("META", None) of "META". Raises ConfigError for no such thing."""
    name, at, day = new.partition("@")
    if not name.strip():
        raise ConfigError(f"{where}: {new!r} names no symbol; write for example 'META' or 'META@2022-06-09'.")
    return name.strip(), to_instant(day.strip(), where=where) if at else None


def check_renamed(renamed: Mapping[str, str] | None, *, where: str) -> None:
    """Nothing where the map can be meant. Raises ConfigError for a new name that is none, or is itself renamed."""
    for old, new in (renamed or {}).items():
        name, _ = to_rename(new, where=f"{where}: renamed.{old}")
        if name in (renamed or {}):
            raise ConfigError(f"{where}: renamed.{old} leads to {name!r}, which is renamed too; name the last one.")


def rename(symbols: pd.Series, stamps: pd.Series, renamed: Mapping[str, str]) -> pd.Series:
    """The symbols as the run calls them, by the stamp of each row."""
    out = symbols.to_numpy(dtype=object).copy()
    for old, new in renamed.items():
        name, day = to_rename(new, where=f"renamed.{old}")
        mine = (symbols == old).to_numpy()
        out[mine if day is None else mine & (stamps < day).to_numpy()] = name
    return pd.Series(out, index=symbols.index, dtype="str")


def drop_other_company(
    rows: pd.DataFrame, counts: Counts, renamed: Mapping[str, str], path: Path
) -> tuple[pd.DataFrame, Counts]:
    """The rows (symbol, stamp) without those that bear a new name before it was given; to be called before `rename`.

    An old name of which there is no row is noted.
    """
    bad = np.zeros(len(rows), dtype=bool)
    for old, new in renamed.items():
        name, day = to_rename(new, where=f"renamed.{old}")
        if day is not None:
            bad |= ((rows["symbol"] == name) & (rows["stamp"] < day)).to_numpy()
        if not (rows["symbol"] == old).any():
            counts = counts.note(f"{Path(path).name}: no row of {old!r}, which the layout renames to {name!r}.")
    return counts.drop(rows, bad, OTHER_COMPANY)
