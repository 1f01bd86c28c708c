"""The signal of each symbol at one instant, with the texts behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.clock import latest_decision
from finsignal.config import RunFile
from finsignal.errors import ConfigError
from finsignal.sentiment.score import Model
from finsignal.signals import lookback, make_flat_state
from finsignal.study.deciding import decide_run, read_parameters, texts_at_end, to_signal_rows
from finsignal.study.inputs import UNKNOWN_SCORES, Inputs, check_seen


def make_signal_rows(
    run: RunFile,
    inputs: Inputs,
    score: Callable[[pd.DataFrame], tuple[Mapping[str, pd.DataFrame], Mapping[str, Model]]],
    *,
    now: pd.Timestamp,
    parameters: Path | None = None,
) -> list[dict[str, Any]]:
    """For each symbol its signal at the latest decision at or before `now`, for JSON.

    The breakdown holds the weighted mean probability of each class, None without a text; news are the texts behind it,
    the heaviest first. `score` gets only the news that can still count. Thresholds are those of the run file, or of
    `parameters`, the table of a run folder. Raises ConfigError where no decision lies at or before `now`.
    """
    bars = inputs.bars
    position = latest_decision(bars, now)
    if position is None:
        raise ConfigError(f"{run.path}: the first decision is at {bars['time'].iloc[0]}, after {now}.")
    reach = lookback(run.features, run.weights, run.limits, bar=run.bar)
    bars = bars.iloc[max(position - reach, 0) : position + 1].reset_index(drop=True)
    decision, old = bars["time"].iloc[-1], bars["time"].iloc[0]
    news = inputs.news[(inputs.news["time"] <= decision) & (inputs.news["time"] > old)].reset_index(drop=True)
    sentiments, models = score(news)
    name, sentiment = next(iter(sentiments.items()))
    notes = ["Simulated data: news and prices are made up."] if run.simulated else []
    notes += check_seen(run, models.get(name))
    if name not in models and not run.scores_until:
        notes.append(UNKNOWN_SCORES)
    if now >= inputs.bars["close_time"].iloc[-1]:
        notes.append(f"Old: the run file's last bar ended {inputs.bars['close_time'].iloc[-1]}, before {now}.")
    strategy, table = run.load_strategy(), read_parameters(run, parameters)
    if run.search and parameters is None:
        first = ", ".join(f"{key} {values[0]:g}" for key, values in run.search.items())
        notes.append(
            f"Not fitted: the first values of [search] stand ({first}). Pass --parameters RUNFOLDER/parameters.parquet."
        )
    known_now = replace(inputs, bars=bars, news=news)
    state, since = make_flat_state(run.symbols), bars["open_time"].iloc[-1]
    decided = decide_run(run, known_now, sentiment, state, strategy=strategy, parameters=table, since=since)
    texts = texts_at_end(run, known_now, sentiment)
    return to_signal_rows(decided, texts, model=name, parameters=table, notes=notes, exits=run.exits)
