"""A run checked whole: every part of it asked in turn, the futures it must not know first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from finsignal.checking.alone import check_lookback, check_symbols, check_texts
from finsignal.checking.asker import Asker
from finsignal.checking.by_heart import check_by_heart
from finsignal.checking.cutting import FROM_FILES, check_cutting, make_settings
from finsignal.checking.fills import check_fills, check_known, tell_stated
from finsignal.checking.findings import Checked, Part
from finsignal.checking.foresight import check_foresight
from finsignal.checking.searching import check_choosing, list_chosen
from finsignal.checking.source_text import END, check_text
from finsignal.checking.stamps import check_stamps
from finsignal.checking.strategy_audit import audit_strategy, check_deeds
from finsignal.checking.worlds import World, pick_instants
from finsignal.errors import ConfigError
from finsignal.study.accounts import run_account
from finsignal.study.case import Case
from finsignal.study.request import Read

WHOLE = 13  # steps that need the whole run: decided and chosen once, and the questions below
FEWEST_BARS = 30  # below it there is no past and future to speak of


def check_run(
    read: Read, *, instants: int = 8, seed: int = 7, case: Case | None = None, progress: bool = False
) -> Checked:
    """What of a run looks ahead, and what was compared: the run of a request that was read, with its first scores.

    At `instants` spread over the grid the future is cut off or replaced by one that looks like it, and everything is
    decided again: texts scored, features made, the strategy asked, limits, weights, settings chosen. What was decided
    up to then must be the same. The strategy is questioned (other bars, twice, dates, rows known by heart, its text,
    what it opens), symbols, texts and lookback are tried alone, orders and trades are held against what was known, and
    stamps against what the market did. `seed` decides instants and noise. With `case`, what came out of the run, its
    settings are not chosen again in other futures: most of the work, where much is searched. progress: a bar on stderr.

    A part that fails has findings, the first of which names column, symbol and instant where it can. Cheats that left
    no trace in what was read, such as choosing the run file after seeing its result, cannot be found.

    Raises ConfigError where there are fewer than 30 bars or no instants.
    """
    from tqdm import tqdm

    run = read.request.run
    name, sentiment = next(iter(read.sentiments.items()))
    model, world, bars = read.models.get(name), World(read.inputs, sentiment), read.inputs.bars
    if instants < 1 or len(bars) < max(FEWEST_BARS, instants + 2):
        raise ConfigError(
            f"check: {instants} instants in {len(bars)} bars; expected 1 instant or more, and at least "
            f"{max(FEWEST_BARS, instants + 2)} bars. Let the run be longer."
        )
    asker, settings = Asker(run), make_settings(run, len(bars))
    text = check_text(asker.file, run.symbols)
    if any(finding.kind == END for finding in text.findings):
        return Checked(text.findings, (text,))  # asked, it could end this program as if nothing had been found
    stamps = pick_instants(bars, instants, np.random.default_rng(seed))
    futures = (
        instants + (FROM_FILES if run.prices_path and run.news_path else 0) + (2 if run.search and case is None else 0)
    )
    with tqdm(total=futures + WHOLE, desc="checking", unit="step", disable=not progress) as bar:
        parts, whole = check_cutting(
            run, world, stamps, asker, now=read.request.now, model=model, seed=seed, progress=bar.update
        )
        if case is None:
            choosing, parameters, decided = check_choosing(run, world, asker, seed=seed, progress=bar.update)
            parts.append(choosing)
        else:
            parameters, decided = case.parameters, case.decided
        # The chosen first: a strategy may look ahead with those settings alone that it will be judged by.
        chosen = list_chosen(parameters)
        settings = [*chosen, *(values for values in settings if values not in chosen)][: len(settings) + 1]
        features, values = whole[0].features, settings[0]
        result = run_account(run, read.inputs, decided.weights)
        rules = run.features
        steps: list[Callable[[], list[Part]]] = [
            lambda: [check_texts(run, world, model, stamps)],
            lambda: [check_symbols(run, world, features, values, asker, seed=seed)],
            lambda: [check_lookback(run, world, features, values, asker, seed=seed)],
            lambda: audit_strategy(features, settings, asker, seed=seed),
            lambda: list(check_by_heart(features, lambda rows: asker.ask(rows, values), seed=seed)),
            lambda: [text],
            lambda: check_deeds(asker),
            lambda: [check_fills(run, world, result), check_known(world)],
            lambda: [check_foresight(decided.signals, read.inputs.prices, bars)],
            lambda: list(check_stamps(read.inputs.news, sentiment, read.inputs.prices, bars, run.symbols, rules=rules)),
            lambda: [tell_stated(run, model)],
        ]
        for step in steps:
            parts += step()
            bar.update()
    return Checked(tuple(finding for part in parts for finding in part.findings), tuple(parts))
