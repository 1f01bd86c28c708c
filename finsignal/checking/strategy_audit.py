"""A strategy questioned: what its answers hang on beside what was known at each decision."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from importlib.util import source_from_cache
from pathlib import Path

import numpy as np
import pandas as pd

from finsignal.checking.asker import Asker
from finsignal.checking.cutting import Difference, are_equal, find_difference
from finsignal.checking.findings import GUARD, Finding, Part
from finsignal.checking.source_text import DATA, END, check_text
from finsignal.errors import FinsignalError
from finsignal.tables import to_integers

BARS, TWICE, DATES, NAMES, OUTSIDE, CODE = (
    "the strategy and other bars",
    "the strategy asked twice",
    "the strategy and dates",
    "the strategy and names",
    "the strategy and what lies outside",
    "the strategy and the code around it",
)
ROUNDS = 6  # in which half of the instants get other features: each bar's neighbours are replaced in nearly all of them
SUFFIXES = 40  # bars after which all is replaced, where an answer hangs on other bars
MOVE = pd.Timedelta(days=10_227)  # 28 years: the same month, day and weekday, between 1901 and 2099
WEEKS = pd.Timedelta(days=9_863)  # 27 years and a day or two: the same weekday, another day of the year
KEYS = ["open_time", "time", "symbol"]

Settings = Sequence[Mapping[str, float]]


def audit_strategy(features: pd.DataFrame, settings: Settings, asker: Asker, *, seed: int) -> list[Part]:
    """Four parts: other bars, asked twice, dates, and names of symbols, which are told and accuse nobody."""
    rng = np.random.default_rng(seed)
    base = [asker.ask(features, values) for values in settings]
    return [
        _try(BARS, lambda: _check_bars(features, settings, base, asker, rng)),
        _try(TWICE, lambda: _check_twice(features, settings, base, asker, rng)),
        _try(DATES, lambda: _check_dates(features, settings, base, asker)),
        _try(NAMES, lambda: _check_names(features, settings[0], base[0], asker)),
    ]


def check_deeds(asker: Asker) -> list[Part]:
    """Two parts about all that the strategy did while it was asked: what lies outside, and the code around it."""
    return [_check_outside(asker), _check_code(asker)]


def _try(name: str, check: Callable[[], Part]) -> Part:
    try:
        return check()
    except FinsignalError as err:
        return Part(name, "could not be checked", 0, f"The strategy did not answer: {err}")


def _check_bars(
    features: pd.DataFrame, settings: Settings, base: list[pd.DataFrame], asker: Asker, rng: np.random.Generator
) -> Part:
    """An answer may hang on its own bar and on earlier ones. Other features elsewhere must not move it."""
    times = to_integers(features["time"])
    instants = np.unique(times)
    findings, compared, told, calls = [], 0, False, 0
    for values, answer in zip(settings, base, strict=True):
        moved: set[int] = set()
        for _ in range(ROUNDS):
            other = rng.random(len(instants)) < 0.5
            replaced = other[np.searchsorted(instants, times)]
            found = asker.ask(_replace_rows(features, replaced, rng), values)
            kept = ~replaced
            changed = _changed(answer, found) & kept
            moved |= set(times[changed].tolist())
            compared += int(kept.sum())
        if not moved:
            continue
        told = True
        picked = np.array(sorted(moved))
        if len(picked) > SUFFIXES:
            picked = np.sort(rng.choice(picked, SUFFIXES, replace=False))
        for instant in picked:
            later = times > instant
            found = asker.ask(_replace_rows(features, later, rng), values)
            compared += int((~later).sum())
            calls += 1
            difference = find_difference(answer[~later], found[~later])
            if difference is not None:
                said = _said(difference, f"With other features after {_to_instant(instant)}")
                findings.append(_finding("later bars", difference, said))
                break
    if findings:
        first = min(findings, key=lambda f: f.instant or pd.Timestamp.max)
        return Part(BARS, "failed", compared, f"{compared:,} answers compared", (first,))
    if told:
        said = (
            f"{compared:,} answers compared; they hang on earlier bars, and at none of {calls} instants on a later "
            "one. The scheduled job asks for one decision at a time, and would get another answer"
        )
        return Part(BARS, "passed", compared, said)
    said = f"{compared:,} answers compared; each hangs on its own instant alone"
    return Part(BARS, "passed", compared, said)


def _check_twice(
    features: pd.DataFrame, settings: Settings, base: list[pd.DataFrame], asker: Asker, rng: np.random.Generator
) -> Part:
    findings, compared = [], 0
    everything = np.ones(len(features), dtype=bool)
    for values, answer in zip(settings, base, strict=True):
        strategy = asker.load()
        first = asker.ask(features, values, strategy)
        asker.ask(_replace_rows(features, everything, rng), values, strategy)  # which it must not remember
        again_same = [asker.ask(features, values, strategy) for _ in range(2)]  # an odd and an even number of times
        for again in (first, *again_same, asker.ask(features, values)):
            compared += len(again)
            found = find_difference(answer, again)
            if found is not None:
                findings.append(_finding("not repeatable", found, _said(found, "Asked again about the same")))
                break
    state = "failed" if findings else "passed"
    return Part(TWICE, state, compared, f"{compared:,} answers compared", tuple(findings))  # type: ignore[arg-type]


def _check_dates(features: pd.DataFrame, settings: Settings, base: list[pd.DataFrame], asker: Asker) -> Part:
    findings, compared, hanging = [], 0, 0
    for values, answer in zip(settings, base, strict=True):
        found = find_difference(answer, _ask_moved(features, values, asker, MOVE))
        compared += len(answer)
        if found is not None:
            said = _said(found, "With the same features 28 years later, on the same month, day and weekday")
            findings.append(_finding("dates", found, f"{said} It knows dates."))
            break
        week = _ask_moved(features, values, asker, WEEKS)
        hanging += int(_changed(answer, week).sum())
    if findings:
        return Part(DATES, "failed", compared, f"{compared:,} answers compared", tuple(findings))
    said = f"{compared:,} answers compared with those 28 years later"
    if hanging:
        said += f"; {hanging:,} hang on the day of the year, and days picked by hand would look alike"
        return Part(DATES, "told", compared, said)
    return Part(DATES, "passed", compared, said)


def _check_names(features: pd.DataFrame, values: Mapping[str, float], answer: pd.DataFrame, asker: Asker) -> Part:
    names = sorted(set(features["symbol"]))
    others = {name: f"S{number:06d}" for number, name in enumerate(names)}  # in the same order
    found = asker.ask(features.assign(symbol=features["symbol"].map(others).astype("str")), values)
    hanging = int(_changed(answer, found).sum())
    said = f"{len(answer):,} answers compared with those for the same symbols by other names"
    if hanging:
        return Part(NAMES, "told", len(answer), f"{said}; {hanging:,} go by the name, and who chose it is not known")
    return Part(NAMES, "passed", len(answer), said)


def _check_outside(asker: Asker) -> Part:
    """Files, connections and other people's memory: what is in them cannot be cut off."""
    findings = [
        Finding("outside", GUARD, "", "", None, f"{asker.file.name} opened {found}; what is in it cannot be cut off.")
        for found in asker.opened
    ]
    if findings:
        return Part(OUTSIDE, "failed", len(asker.opened), f"{len(asker.opened)} things opened", tuple(findings))
    return Part(OUTSIDE, "passed", 1, "no file, connection or frame of a caller was opened while it was asked")


def _check_code(asker: Asker) -> Part:
    findings = [
        Finding("replaced code", GUARD, name, "", None, f"{asker.file.name} replaced {name}, which was put back.")
        for name in asker.changed
    ]
    if findings:
        return Part(CODE, "failed", len(findings), f"{len(findings)} functions replaced", tuple(findings))
    beside = sorted({_to_source(name) for name in asker.imported})
    # A module that is shared reads files and more for others; what it does while it is asked is watched.
    said_of = [found for path in beside for found in check_text(path, asker.run.symbols).findings]
    findings = [found for found in said_of if found.kind in (DATA, END)]
    if findings:
        return Part(CODE, "failed", len(findings), f"{asker.file.name} loads {findings[0].said}", tuple(findings))
    if beside:
        names = ", ".join(map(str, beside))
        said = f"{asker.file.name} loaded code of its own, in whose text no data was found: {names}"
        return Part(CODE, "told", len(beside), said)
    return Part(CODE, "passed", 1, "no function of finsignal, pandas or numpy was replaced")


def _to_source(name: str) -> Path:
    """The file of Python code that was loaded, or that a compiled one was made of."""
    with contextlib.suppress(ValueError):
        return Path(source_from_cache(name))
    return Path(name)


def _replace_rows(features: pd.DataFrame, replaced: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Features of those rows from other rows of the same symbol, whole rows, a little louder or softer."""
    names = [name for name in features.columns if name not in KEYS]
    values = features[names].to_numpy(copy=True)
    drawn = values.copy()
    for rows in features.groupby("symbol").indices.values():
        drawn[rows] = values[rng.choice(rows, size=len(rows))]
    whole = drawn == np.round(drawn)  # counts stay counts
    drawn = np.where(whole, drawn, drawn * rng.uniform(0.9, 1.0, size=drawn.shape))
    values[replaced] = drawn[replaced]
    out = features.copy()
    out[names] = values
    return out


def _ask_moved(features: pd.DataFrame, values: Mapping[str, float], asker: Asker, by: pd.Timedelta) -> pd.DataFrame:
    moved = features.assign(open_time=features["open_time"] + by, time=features["time"] + by)
    answer = asker.ask(moved, values)
    return answer.assign(open_time=features["open_time"], time=features["time"])


def _changed(before: pd.DataFrame, after: pd.DataFrame) -> np.ndarray:
    return np.any([~are_equal(before[name], after[name]) for name in ("signal", "score", "confidence")], axis=0)


def _finding(kind: str, found: Difference, said: str) -> Finding:
    return Finding(kind, GUARD, found.column, found.symbol, found.instant, said)


def _said(found: Difference, how: str) -> str:
    before, after = (f"{v:.6g}" if isinstance(v, float) else str(v) for v in (found.before, found.after))
    return f"{how}, {found.column} of {found.symbol} at {found.instant} is {after} instead of {before}."


def _to_instant(microseconds: int) -> pd.Timestamp:
    return pd.Timestamp(microseconds, unit="us", tz="UTC").as_unit("us")
