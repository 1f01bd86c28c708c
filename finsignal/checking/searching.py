"""Settings chosen again in other futures: what is known of them before must be the same."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from finsignal.checking.asker import Asker
from finsignal.checking.cutting import CUT, NOISE, TABLES, find_difference, to_how, to_said, to_word
from finsignal.checking.findings import GUARD, Finding, Part
from finsignal.checking.worlds import World, cut_world, noise_world
from finsignal.config import RunFile
from finsignal.signals import Decided, make_flat_state
from finsignal.splits import Split, make_splits
from finsignal.study.choosing import choose_settings, to_chosen_parameters
from finsignal.study.deciding import decide_run

CHOOSING = "settings chosen"
LONG = 1_000_000  # decisions of all settings tried, beyond which choosing takes minutes


def check_choosing(
    run: RunFile,
    world: World,
    asker: Asker,
    *,
    seed: int,
    progress: Callable[[], object] = lambda: None,
) -> tuple[Part, pd.DataFrame, Decided]:
    """The part for the choice of settings and what it decides; and the run's own parameters and decisions by them.

    One future is cut off and one is noise, within the test, and settings are chosen anew in both; where choosing is
    long, in that with noise alone.
    """
    splits = make_splits_of(run, world.inputs.bars)
    since = splits[0].test_start if splits else None
    others = []
    if splits and run.search:
        rng, bars = np.random.default_rng(seed + 1), world.inputs.bars
        first = int(bars["open_time"].searchsorted(splits[0].test_start))
        tried = math.prod(len(values) for values in run.search.values())
        long = tried * len(bars) * len(run.symbols) > LONG
        for share, kind in ((1 / 3, CUT), (2 / 3, NOISE))[int(long) :]:
            instant = bars["time"].iloc[first + int((len(bars) - 1 - first) * share * rng.uniform(0.8, 1.2))]
            other = cut_world(world, instant) if kind == CUT else noise_world(world, instant, rng)
            others.append((kind, instant, _choose(run, other, splits, since, asker)))
            progress()
    parameters, decided = _choose(run, world, splits, since, asker)
    progress()
    if not others:
        said = "Nothing is searched: the stated settings stand, and who found them, and on what, is not known."
        return Part(CHOOSING, "told", 0, said), parameters, decided
    findings, compared = [], 0
    for kind, instant, (values, then) in others:
        found = find_difference(parameters, values, instant)
        named = ("value", f"{found.symbol} {to_said(found.before)}, {to_said(found.after)}") if found else None
        if found is None:
            for name in TABLES:
                found = find_difference(getattr(decided, name), getattr(then, name), instant)
                if found is not None:
                    named = (found.column, f"{name}.{found.column} {to_said(found.before)}, {to_said(found.after)}")
                    break
        if found is not None and named is not None:
            said = f"{to_how(kind, instant)}, {found.instant} has another choice: {named[1]}."
            findings.append(Finding(to_word(kind), GUARD, named[0], found.symbol, found.instant, said))
        compared += int((decided.signals["time"] <= instant).sum())
    state = "failed" if findings else "passed"
    said = f"chosen again at {len(others)} instants, {compared:,} decisions by what was chosen compared"
    return Part(CHOOSING, state, compared, said, tuple(findings)), parameters, decided  # type: ignore[arg-type]


def list_chosen(parameters: pd.DataFrame) -> list[dict[str, float]]:
    """The settings that a table of parameters holds, the latest first, each once."""
    found: list[dict[str, float]] = []
    for instant in sorted(set(parameters["time"]), reverse=True):
        known = parameters[(parameters["time"] <= instant).to_numpy()]
        values = {str(name): float(value) for name, value in zip(known["name"], known["value"], strict=True)}
        if values not in found:
            found.append(values)
    return found


def make_splits_of(run: RunFile, bars: pd.DataFrame) -> tuple[Split, ...]:
    """The windows that the run states, none where it states no [split]."""
    if run.split is None:
        return ()
    return make_splits(run.split, bars, holding=run.weights.holding, max_age=run.features.max_age)


def _choose(
    run: RunFile, world: World, splits: tuple[Split, ...], since: pd.Timestamp | None, asker: Asker
) -> tuple[pd.DataFrame, Decided]:
    strategy = (
        asker.load()
    )  # one for choosing and deciding, as in a study: what it remembers of the one is in the other
    choices = choose_settings(run, world.inputs, world.sentiment, strategy, splits)
    parameters = to_chosen_parameters(run, choices)
    state = make_flat_state(run.symbols)
    decided = decide_run(
        run, world.inputs, world.sentiment, state, strategy=strategy, parameters=parameters, since=since
    )
    return parameters, decided
