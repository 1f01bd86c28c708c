"""What must not matter: other symbols, rows older than the lookback, and the other texts that a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from finsignal.checking.asker import Asker
from finsignal.checking.cutting import find_difference
from finsignal.checking.findings import GUARD, Finding, Part
from finsignal.checking.worlds import World
from finsignal.clock import to_bar
from finsignal.config import ALWAYS, RunFile, to_parameters
from finsignal.errors import FinsignalError
from finsignal.features import make_counted_texts
from finsignal.job.facts import make_cut
from finsignal.sentiment.score import Model, score_news
from finsignal.signals import make_features, make_flat_state
from finsignal.study.deciding import decide_run, facts_beside
from finsignal.study.inputs import text_rules

ALONE, LOOKBACK, TEXTS = "each symbol alone", "rows older than the lookback", "each text alone"
SYMBOLS = 6  # asked alone, of a run with more
DECISIONS = 12  # made again from the rows of their lookback
AROUND = 6  # texts scored again before each instant: the latest that were known then


def check_symbols(
    run: RunFile, world: World, features: pd.DataFrame, values: Mapping[str, float], asker: Asker, *, seed: int
) -> Part:
    """Each symbol's features from its own rows alone; signals that need the others are told, for ranks are honest."""
    rng, inputs = np.random.default_rng(seed), world.inputs
    symbols = list(run.symbols)
    picked = sorted(rng.choice(symbols, min(SYMBOLS, len(symbols)), replace=False).tolist())
    findings, compared, together = [], 0, []
    signals = asker.ask(features, values)
    for symbol in picked:
        own = replace(inputs, prices=_of(inputs.prices, symbol), news=_of(inputs.news, symbol))
        own = replace(
            own,
            funding=None if own.funding is None else _of(own.funding, symbol),
            open_interest=None if own.open_interest is None else _of(own.open_interest, symbol),
        )
        sentiment = _of(world.sentiment, symbol)
        alone = make_features(
            own.news, own.prices, sentiment, own.bars, [symbol], rules=run.features, **facts_beside(own)
        )
        ours = _of(features, symbol)
        compared += len(alone)
        found = find_difference(ours, alone)
        if found is not None:
            said = f"Without the other symbols, {found.column} of {symbol} at {found.instant} is another."
            findings.append(Finding("other symbols", GUARD, found.column, symbol, found.instant, said))
        try:
            if len(symbols) > 1 and find_difference(_of(signals, symbol), asker.ask(alone, values)) is not None:
                together.append(symbol)
        except FinsignalError:  # a strategy that ranks may refuse to rank one
            together.append(symbol)
    said = f"{compared:,} rows of features of {len(picked)} symbols made again from their own rows"
    if findings:
        return Part(ALONE, "failed", compared, said, tuple(findings))
    if len(symbols) == 1:
        return Part(ALONE, "passed", compared, f"{said}; there is no other")
    if together:
        return Part(ALONE, "passed", compared, f"{said}; signals hang on the other symbols, as ranks do")
    return Part(ALONE, "passed", compared, said)


def check_lookback(
    run: RunFile, world: World, features: pd.DataFrame, values: Mapping[str, float], asker: Asker, *, seed: int
) -> Part:
    """Decisions made again from the rows that the scheduled job would read; other signals are told, not accused."""
    if run.decision_latency > to_bar(run.bar):
        return Part(LOOKBACK, "could not be checked", 0, "the decision latency is longer than a bar, so none is stated")
    rng, inputs = np.random.default_rng(seed), world.inputs
    cut, flat = make_cut(run, inputs), make_flat_state(run.symbols)
    signals = asker.ask(features, values)
    places = np.sort(rng.choice(len(inputs.bars), min(DECISIONS, len(inputs.bars)), replace=False)).tolist()
    findings, compared, others, parameters = [], 0, 0, to_parameters(values, known=ALWAYS)
    for place in places:
        facts, bar = cut(place, flat), inputs.bars.iloc[place]
        keys = facts.news["article_id"]
        sentiment = world.sentiment[world.sentiment["article_id"].isin(keys).to_numpy()].reset_index(drop=True)
        since = bar["open_time"]
        alone = make_features(
            facts.news, facts.prices, sentiment, facts.bars, run.symbols, rules=run.features, **facts_beside(facts)
        )
        alone, ours = (table[(table["open_time"] == since).to_numpy()] for table in (alone, features))
        compared += len(alone)
        found = find_difference(ours, alone)
        if found is not None:
            said = f"Without rows older than the lookback, {found.column} of {found.symbol} at {since} is another."
            findings.append(Finding("older rows", GUARD, found.column, found.symbol, found.instant, said))
            continue
        try:
            decided = decide_run(run, facts, sentiment, flat, strategy=asker.load(), parameters=parameters, since=since)
            whole = signals[(signals["open_time"] == since).to_numpy()]
            shared = decided.signals[["open_time", "time", "symbol", "score", "confidence"]]
            others += find_difference(whole[list(shared.columns)], shared) is not None
        except FinsignalError:  # a strategy that cannot answer for one bar is told of below
            others += 1
    said = f"{compared:,} rows of features made again at {len(places)} decisions"
    if findings:
        return Part(LOOKBACK, "failed", compared, said, tuple(findings))
    if others:
        said += f"; at {others} the strategy scores otherwise without older bars, and so it would in the scheduled job"
        return Part(LOOKBACK, "told", compared, said)
    return Part(LOOKBACK, "passed", compared, said)


def check_texts(run: RunFile, world: World, model: Model | None, instants: Sequence[pd.Timestamp]) -> Part:
    """Texts scored again by the model, of each instant the latest known then, in one call that knows no later one."""
    if model is None:
        return Part(
            TEXTS,
            "could not be checked",
            0,
            "the scores come from a file: what they were made from is not known",
        )
    news, scored = world.inputs.news, world.sentiment.set_index(["symbol", "time", "article_id"])
    counted = make_counted_texts(news, world.sentiment, world.inputs.bars, run.symbols, **text_rules(run))
    counted = counted.sort_values(["time", "article_id"], ignore_index=True)[list(news.columns)]
    findings, compared, known = [], 0, scored[["p_negative", "p_neutral", "p_positive"]]
    for instant in instants:
        rows = counted[(counted["time"] <= instant).to_numpy()].tail(AROUND)
        rows = rows.sort_values(["symbol", "time", "article_id"], ignore_index=True)
        if rows.empty:
            continue
        again = score_news(rows, model, names=run.names).set_index(["symbol", "time", "article_id"])
        ours = known.loc[again.index]
        compared += len(ours)
        bad = (ours != again[list(ours.columns)]).to_numpy()
        if bad.any():
            row = int(bad.any(axis=1).argmax())
            symbol, time, article = again.index[row]
            column = str(ours.columns[int(bad[row].argmax())])
            said = (
                f"Scored among texts known by {instant} alone, {column} of article {article} about {symbol} is "
                f"{again[column].iloc[row]:.6g} instead of {ours[column].iloc[row]:.6g}: it hangs on other texts."
            )
            findings.append(Finding("other texts", GUARD, column, str(symbol), time, said))
    said = f"{compared} texts scored again among those known then"
    if findings:
        findings.sort(key=lambda f: f.instant)  # type: ignore[arg-type, return-value]
        return Part(TEXTS, "failed", compared, said, tuple(findings))
    if not compared:
        return Part(TEXTS, "could not be checked", 0, "no text counts before any of the instants")
    return Part(TEXTS, "passed", compared, said)


def _of(table: pd.DataFrame, symbol: str) -> pd.DataFrame:
    return table[(table["symbol"] == symbol).to_numpy()].reset_index(drop=True)
