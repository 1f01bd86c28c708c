"""The signals of many worlds, from few calls of the strategy. Worlds differ in what news said, and in nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import FinsignalError
from finsignal.signals.decisions import Strategy, ask
from finsignal.tables import to_integers

WEEKS = 52 * 7 * 86_400_000_000  # microseconds: a world's instants lie so many whole weeks after the one before
SIDES = {"SELL": -1, "BUY": 1}  # all else is HOLD
LAST_YEAR = 9000  # instants of stacked worlds stay below it, for a Python date ends with the year 9999


@dataclass(frozen=True)
class WorldSignals:
    """Signals as arrays (worlds, bars, symbols): side (1 BUY, -1 SELL, 0 HOLD), score and confidence."""

    side: np.ndarray
    score: np.ndarray
    confidence: np.ndarray


def ask_worlds(
    features: pd.DataFrame, columns: Mapping[str, np.ndarray], *, strategy: Strategy, parameters: pd.DataFrame
) -> WorldSignals:
    """What the strategy answers in each world: `features` with `columns`, each (worlds, symbols, bars), in their place.

    Worlds are stacked into one table, each at instants of its own, so that the bars of one decision and the rows of
    one symbol belong together in one world alone. The first, the middle and the last world must have the answer that
    they have alone, else symbols get names of their own in each world, and where that fails too every world is asked
    for by itself: slow and right.
    Raises TableError as `make_signals` does.
    """
    worlds, symbols, bars = next(iter(columns.values())).shape
    changes = np.unique(to_integers(parameters["time"]))
    regime = np.searchsorted(changes, to_integers(features["time"])[:bars], side="right")
    out = WorldSignals(*(np.empty((worlds, bars, symbols), dtype) for dtype in (np.int64, np.float64, np.float64)))
    for number in np.unique(regime):
        places = np.flatnonzero(regime == number)
        known = parameters[to_integers(parameters["time"]) <= (changes[number - 1] if number else -(2**63))]
        values = {str(name): float(value) for name, value in zip(known["name"], known["value"], strict=True)}
        rows = features.take((np.arange(symbols)[:, None] * bars + places).ravel()).reset_index(drop=True)
        whole = len(places) == bars
        said = {name: array if whole else array[:, :, places] for name, array in columns.items()}
        answer = _Asker(rows, said, strategy, values).ask(np.arange(worlds))
        for part, array in zip((out.side, out.score, out.confidence), answer, strict=True):
            part[:, places] = array
    return out


@dataclass(frozen=True)
class _Asker:
    """Rows of features sorted by symbol and time, what worlds put in their place, and the strategy with its values."""

    rows: pd.DataFrame
    said: Mapping[str, np.ndarray]  # (worlds, symbols, bars)
    strategy: Strategy
    values: dict[str, float]

    def ask(self, worlds: np.ndarray) -> tuple[np.ndarray, ...]:
        if len(worlds) == 1:
            return self._call(worlds)
        tried = sorted({0, len(worlds) // 2, len(worlds) - 1})
        alone = [self._call(worlds[[k]]) for k in tried]
        for renamed in (False, True):
            found = self._try(worlds, renamed=renamed)
            if found is not None and all(
                np.array_equal(part[k], one[0], equal_nan=True)
                for k, answer in zip(tried, alone, strict=True)
                for part, one in zip(found, answer, strict=True)
            ):
                return found
        each = [self._call(worlds[[k]]) for k in range(len(worlds))]
        return tuple(np.concatenate(parts) for parts in zip(*each, strict=True))

    def _try(self, worlds: np.ndarray, *, renamed: bool) -> tuple[np.ndarray, ...] | None:
        """The answer for the stacked worlds, None where the strategy cannot be asked so."""
        try:
            return self._call(worlds, renamed=renamed)
        except FinsignalError:
            return None

    def _call(self, worlds: np.ndarray, *, renamed: bool = False) -> tuple[np.ndarray, ...]:
        symbols, bars = next(iter(self.said.values())).shape[1:]
        shape = (symbols, len(worlds), bars)
        frame = self._stack(worlds, shape, renamed=renamed)
        answer = ask(self.strategy, frame, self.values)
        side = np.zeros(len(frame), dtype=np.int64)
        for word, code in SIDES.items():
            side[(answer["signal"] == word).to_numpy(dtype=bool)] = code
        values = (side, *(answer[name].to_numpy(dtype=np.float64) for name in ("score", "confidence")))
        return tuple(np.moveaxis(v.reshape(shape), 0, 2) for v in values)

    def _stack(self, worlds: np.ndarray, shape: tuple[int, int, int], *, renamed: bool) -> pd.DataFrame:
        """The rows of every world, by symbol, world and bar: (symbols, worlds, bars)."""
        symbols, count, bars = shape

        def spread(values: np.ndarray) -> np.ndarray:
            return np.broadcast_to(values.reshape(symbols, 1, bars), shape)

        later = (np.arange(count) * _step(self.rows))[:, None]
        columns: dict[str, Any] = {}
        for name, values in self.rows.items():
            if name in self.said:
                columns[str(name)] = np.moveaxis(self.said[str(name)][worlds], 0, 1).ravel()
            elif name in ("open_time", "time"):
                moved = (spread(to_integers(values)) + later).ravel()
                columns[str(name)] = pd.DatetimeIndex(moved.astype("datetime64[us]")).tz_localize("UTC")
            elif name == "symbol":
                columns["symbol"] = values.take(spread(np.arange(len(values))).ravel()).reset_index(drop=True)
                if renamed:
                    number = pd.Series(np.broadcast_to(np.arange(count)[:, None], shape).ravel())
                    columns["symbol"] += number.astype("str").str.zfill(6)
            else:
                columns[str(name)] = spread(values.to_numpy()).ravel()
        return pd.DataFrame(columns, copy=False)


def worlds_at_once(features: pd.DataFrame, *, most: int) -> int:
    """How many worlds to ask for at once: the stacked table stays below `most` bytes and the year 9000."""
    years = (LAST_YEAR - 1970) * 365.25 * 86_400e6 - to_integers(features["time"]).max()
    rows = len(features) * len(features.columns) * 24  # eight bytes a value; the table, its copy and the answer
    return max(min(most // max(rows, 1), int(years // _step(features))), 1)


def _step(features: pd.DataFrame) -> int:
    """Microseconds by which a world's instants lie after those of the one before."""
    times = to_integers(features["time"])
    return -(-(int(times.max() - times.min()) + 1) // WEEKS) * WEEKS
