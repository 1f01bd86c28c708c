"""From rows with the instant at which they were known to one row for each symbol and bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finsignal.clock import bar_of
from finsignal.errors import ConfigError
from finsignal.tables import FEATURES, TEXT, to_integers


def at_decisions(
    lookback: Mapping[str, int],
    values: Mapping[str, np.ndarray],
    rows: pd.DataFrame,
    bars: pd.DataFrame,
    names: list[str],
    *,
    max_age: int,
) -> dict[str, np.ndarray]:
    """For each name of `lookback` the value of the newest row known at each decision, symbol after symbol.

    `rows` has symbol and time, sorted by both, and `values` one number for each. NaN where a symbol has printed fewer
    rows than the lookback, where the newest row is older than `max_age` bars, and where it was known before the grid.
    """
    count = rows.groupby("symbol", sort=False).cumcount().to_numpy() + 1
    stacked = np.stack([np.where(count >= least, values[name], np.nan) for name, least in lookback.items()])
    codes = pd.Categorical(rows["symbol"], categories=names).codes.astype(np.int64)
    known = to_integers(rows["time"])
    first = bar_of(bars, rows["time"])
    decisions = to_integers(bars["time"])
    size = len(bars)
    out = np.full((len(lookback), len(names) * size), np.nan)
    for code in range(len(names)):
        lo, hi = np.searchsorted(codes, [code, code + 1])
        newest = np.searchsorted(known[lo:hi], decisions, side="right") - 1 + lo
        at = np.flatnonzero(newest >= lo)
        row = newest[at]
        fresh = (at - first[row] <= max_age) & (known[row] >= first_decision(bars))
        out[:, code * size + at[fresh]] = stacked[:, row[fresh]]
    return dict(zip(lookback, out, strict=True))


def rows_of(symbols: pd.Series, names: Sequence[str]) -> dict[str, slice | np.ndarray]:
    """The rows of each name, in their order; names without rows are left out.

    Where every symbol's rows lie together, as in a sorted table, a string is only compared with its neighbour.
    """
    if symbols.empty:
        return {}
    values = symbols.array
    starts = np.flatnonzero(np.concatenate([[True], np.asarray(values[1:] != values[:-1], dtype=bool)]))
    heads = symbols.take(starts)
    if heads.is_unique:
        ends = np.append(starts[1:], len(symbols)).tolist()
        spans = {name: slice(lo, hi) for name, lo, hi in zip(heads, starts.tolist(), ends, strict=True)}
        return {name: spans[name] for name in names if name in spans}
    codes, unique = pd.factorize(symbols)
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(unique) + 1))
    places = {name: place for place, name in enumerate(unique)}
    return {name: order[edges[places[name]] : edges[places[name] + 1]] for name in names if name in places}


def first_decision(bars: pd.DataFrame) -> int:
    """The first decision of the grid in microseconds; later than anything where the grid is empty."""
    return int(to_integers(bars["time"])[0]) if len(bars) else int(np.iinfo(np.int64).max)


def check_options(symbols: Sequence[str], max_age: int) -> list[str]:
    names = sorted(symbols)
    if len(set(names)) < len(names):
        raise ConfigError(f"features: symbols {names} repeat a name; name each once.")
    if max_age < 0:
        raise ConfigError(f"features: max_age counts grid bars, expected 0 or more, got {max_age}.")
    return names


def to_features(bars: pd.DataFrame, names: list[str], values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """FEATURES of every name at every bar, from arrays that hold the bars of one name after another."""
    where = np.tile(np.arange(len(bars)), len(names))
    out = bars[["open_time", "time"]].take(where).reset_index(drop=True)
    out["symbol"] = pd.Series(np.repeat(np.array(names, dtype=object), len(bars)), dtype=TEXT)
    return FEATURES.check(out.assign(**values))
