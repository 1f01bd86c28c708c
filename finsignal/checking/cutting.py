"""The future cut off or replaced by noise: whatever was decided before must come out the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from finsignal.checking.asker import Asker
from finsignal.checking.findings import GUARD, Finding, Part
from finsignal.checking.worlds import World, cut_world, noise_world
from finsignal.config import ALWAYS, RunFile, to_parameters
from finsignal.errors import ConfigError, FinsignalError
from finsignal.sentiment.score import Model, score_news
from finsignal.signals import Decided, make_flat_state
from finsignal.study.deciding import decide_run
from finsignal.study.inputs import read_inputs
from finsignal.tables import to_integers

SETTINGS = 3  # of [search] that a run is decided with: the first, the last, and one between
ROWS = 150_000  # decisions of all these settings together; a run of more is decided with fewer of them
LEAST = 1e-12
FROM_FILES = 2  # instants at most at which the files themselves are read again, as they were then
CUT, NOISE, FILES = "the future cut off", "the future replaced by noise", "the files as they were then"
TABLES = ("features", "signals", "weights")


@dataclass(frozen=True)
class Difference:
    """The earliest row up to an instant that differs between two tables of the same rows: where, and both values."""

    column: str
    symbol: str
    instant: pd.Timestamp
    before: object
    after: object


@dataclass(frozen=True)
class _Other:
    """What another future decided: features, and for each setting signals and weights; and how it was made."""

    kind: str
    instant: pd.Timestamp
    decided: tuple[Decided, ...]


def find_difference(before: pd.DataFrame, after: pd.DataFrame, until: pd.Timestamp | None = None) -> Difference | None:
    """The first difference in time, and of one instant the first column; None where the rows up to `until` are equal.

    Equal is as `are_equal` says. Rows that only one of the tables has are a difference in the column "time".
    """
    if until is not None:
        before, after = (table[(table["time"] <= until).to_numpy()] for table in (before, after))
    before, after = before.reset_index(drop=True), after.reset_index(drop=True)
    keys = ["time", "symbol"] if "symbol" in before else ["time", "name"]
    if not before[keys].equals(after[keys]):
        both = before.merge(after, on=keys, how="outer", indicator=True)
        row = both[both["_merge"] != "both"].sort_values(keys).iloc[0]
        return Difference("time", str(row[keys[1]]), row["time"], str(row["_merge"]), "")
    columns = [name for name in before.columns if name in after.columns]
    bad = np.stack([~are_equal(before[name], after[name]) for name in columns], axis=1)
    rows = np.flatnonzero(bad.any(axis=1))
    if not len(rows):
        return None
    row = int(rows[np.argmin(to_integers(before["time"])[rows])])
    column = columns[int(bad[row].argmax())]
    where = before.iloc[row]
    return Difference(column, str(where[keys[1]]), where["time"], where[column], after[column].iloc[row])


def are_equal(before: pd.Series, after: pd.Series) -> np.ndarray:
    """Where two columns of the same rows are the same; NaN equals NaN.

    Of score, confidence and weight a relative difference of `LEAST` is none: a strategy may sum in an order of its own.
    """
    same = (before == after) | (before.isna() & after.isna())
    if before.name in ("score", "confidence", "weight"):
        near = np.isclose(before.to_numpy(), after.to_numpy(), rtol=LEAST, atol=LEAST)
        return np.asarray(same.to_numpy() | near, dtype=bool)
    return np.asarray(same, dtype=bool)


def make_settings(run: RunFile, bars: int) -> list[Mapping[str, float]]:
    """The settings that a check decides so many bars with: what the run states, with a few of what it searches."""
    tried = [dict(zip(run.search, values, strict=True)) for values in itertools.product(*run.search.values())]
    if not tried:
        raise ConfigError(f"{run.path}: [search] holds a name without a value to try; state one, or leave it out.")
    count = min(max(ROWS // (bars * len(run.symbols)), 1), SETTINGS)
    places = sorted({len(tried) * number // max(count - 1, 1) for number in range(count)})
    places = sorted({min(place, len(tried) - 1) for place in places})
    return [{**run.parameters, **tried[place]} for place in places]


def decide_world(run: RunFile, world: World, settings: Sequence[Mapping[str, float]], asker: Asker) -> list[Decided]:
    """The one code path from the world's tables to weights, for each of the settings, by a strategy loaded afresh."""
    return [
        decide_run(
            run,
            world.inputs,
            world.sentiment,
            make_flat_state(run.symbols),
            strategy=asker.load(),
            parameters=to_parameters(values, known=ALWAYS),
        )
        for values in settings
    ]


def check_cutting(
    run: RunFile,
    world: World,
    instants: Sequence[pd.Timestamp],
    asker: Asker,
    *,
    now: pd.Timestamp,
    model: Model | None,
    seed: int,
    progress: Callable[[], object] = lambda: None,
) -> tuple[list[Part], list[Decided]]:
    """The parts for cutting, noise and files, and what the whole world decides, by each of the settings.

    Every other instant is cut, the others get noise. All other futures are decided before the whole one is, in the
    order of their instants, so that a strategy that remembers what it saw has seen nothing that it must not know yet.
    """
    rng, settings = np.random.default_rng(seed), make_settings(run, len(world.inputs.bars))
    others: list[_Other] = []
    failed: dict[str, list[str]] = {}
    asked = [(t, CUT if number % 2 == 0 else NOISE) for number, t in enumerate(instants)]
    if run.prices_path and run.news_path:
        # Late ones: a file may begin later than the run for one of its symbols, and could not be read before that.
        asked += [(t, FILES) for t in dict.fromkeys([instants[len(instants) // 2], instants[-1]])]
    for instant, kind in sorted(asked):
        try:
            if kind == FILES:
                other = _read_then(run, world, instant, now=now, model=model)
            else:
                other = cut_world(world, instant) if kind == CUT else noise_world(world, instant, rng)
            others.append(_Other(kind, instant, tuple(decide_world(run, other, settings, asker))))
        except FinsignalError as err:
            failed.setdefault(kind, []).append(f"{instant}: {err}")
        progress()
    whole = decide_world(run, world, settings, asker)
    progress()
    parts = [_to_part(kind, [other for other in others if other.kind == kind], whole, failed.get(kind, []))
             for kind in dict.fromkeys(kind for _, kind in asked)]  # fmt: skip
    return parts, whole


def _read_then(run: RunFile, world: World, instant: pd.Timestamp, *, now: pd.Timestamp, model: Model | None) -> World:
    """The world as the files give it at the instant: links, stories and relevance made from what they held by then.

    A share of rows from after the instant is what is asked for, so no limit on them holds. Of the model's scores those
    stand that it gave, but for texts whose words or names differ, which it reads again.
    """
    inputs = read_inputs(replace(run, row_limit=1.0), now=min(instant, now), ahead=True)
    inputs = cut_world(World(replace(inputs, bars=world.inputs.bars), world.sentiment), instant).inputs
    known = cut_world(world, instant)
    if model is None:
        return World(inputs, known.sentiment)
    key = ["symbol", "time", "article_id", "title", "text"]
    there = pd.MultiIndex.from_frame(known.inputs.news[key])
    new = inputs.news[~pd.MultiIndex.from_frame(inputs.news[key]).isin(there)].reset_index(drop=True)
    fresh = score_news(new, model, names=run.names)
    ours = pd.MultiIndex.from_frame(inputs.news[key[:3]])
    old = known.sentiment[pd.MultiIndex.from_frame(known.sentiment[key[:3]]).isin(ours)]
    old = old[~pd.MultiIndex.from_frame(old[key[:3]]).isin(pd.MultiIndex.from_frame(fresh[key[:3]]))]
    joined = pd.concat([old, fresh], ignore_index=True) if len(fresh) else old
    return World(inputs, joined.sort_values(key[:3], ignore_index=True))


def _to_part(kind: str, others: Sequence[_Other], whole: Sequence[Decided], failed: Sequence[str]) -> Part:
    found = [finding for other in others if (finding := _find(other, whole)) is not None]
    rows = sum(int((whole[0].signals["time"] <= other.instant).sum()) for other in others)
    compared = rows * len(whole)
    said = f"{len(others)} instants, {compared:,} decisions of {len(whole)} settings compared"
    if found:
        # The first table in the order of the path, then the earliest instant: all that comes after it only follows.
        found.sort(key=lambda item: (item[0], item[1].instant))
        return Part(kind, "failed", compared, said, tuple(finding for _, finding in found))
    if failed:
        return Part(kind, "could not be checked", compared, f"{said}; not at {failed[0]}")
    return Part(kind, "passed", compared, said)


def _find(other: _Other, whole: Sequence[Decided]) -> tuple[int, Finding] | None:
    for place, name in enumerate(TABLES):
        differences = _differences(name, other, whole)
        first = min(differences, key=lambda d: d.instant, default=None)
        if first is not None:
            said = (
                f"{to_how(other.kind, other.instant)}, {name}.{first.column} of {first.symbol}, decided at "
                f"{first.instant}, is {to_said(first.after)} instead of {to_said(first.before)}."
            )
            return place, Finding(to_word(other.kind), GUARD, first.column, first.symbol, first.instant, said)
    return None


def _differences(name: str, other: _Other, whole: Sequence[Decided]) -> Iterator[Difference]:
    for before, after in zip(whole, other.decided, strict=True):
        found = find_difference(getattr(before, name), getattr(after, name), other.instant)
        if found is not None:
            yield found


def to_said(value: object) -> str:
    """A value within a sentence."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def to_how(kind: str, instant: pd.Timestamp) -> str:
    """How another future was made, as a sentence begins."""
    return f"With the files as they were at {instant}" if kind == FILES else f"With {kind} after {instant}"


def to_word(kind: str) -> str:
    """The kind of a finding of that part."""
    return {CUT: "cut", NOISE: "noise", FILES: "files"}[kind]
