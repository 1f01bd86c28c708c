"""A run carried out, as evidence asks about it: what it read, how it decided, and the same with one thing changed."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from finsignal.config import RunFile
from finsignal.sentiment.score import Model
from finsignal.signals import Decided, Strategy, make_flat_state
from finsignal.study.accounts import run_account
from finsignal.study.choosing import Choice
from finsignal.study.deciding import decide_run
from finsignal.study.inputs import Inputs
from finsignal.tables import BacktestResult


@dataclass(frozen=True)
class Case:
    """One run with its own sentiment. Settings are chosen already: every question asks what these would have done.

    since: the first open of the test, None where all bars are tested. model is None for scores from elsewhere.
    """

    run: RunFile
    inputs: Inputs
    sentiment: pd.DataFrame
    strategy: Strategy
    parameters: pd.DataFrame
    since: pd.Timestamp | None
    decided: Decided
    result: BacktestResult
    choices: tuple[Choice, ...] = ()
    model: Model | None = None

    @property
    def tested(self) -> pd.DataFrame:
        """The bars that are tested, as BARS."""
        bars = self.inputs.bars
        return bars if self.since is None else bars[bars["open_time"] >= self.since].reset_index(drop=True)


def make_case(
    run: RunFile,
    inputs: Inputs,
    sentiment: pd.DataFrame,
    strategy: Strategy,
    parameters: pd.DataFrame,
    *,
    since: pd.Timestamp | None = None,
    choices: tuple[Choice, ...] = (),
    model: Model | None = None,
) -> Case:
    """The run decided from a flat state and traded by its rules and at its costs."""
    decided, result = carry_out(run, inputs, sentiment, strategy, parameters, since=since)
    return Case(run, inputs, sentiment, strategy, parameters, since, decided, result, choices, model)


def carry_out(
    run: RunFile,
    inputs: Inputs,
    sentiment: pd.DataFrame,
    strategy: Strategy,
    parameters: pd.DataFrame,
    *,
    since: pd.Timestamp | None,
) -> tuple[Decided, BacktestResult]:
    """The decisions of the one code path, and the account that follows them."""
    state = make_flat_state(run.symbols)
    decided = decide_run(run, inputs, sentiment, state, strategy=strategy, parameters=parameters, since=since)
    return decided, run_account(run, inputs, decided.weights, settings=run.to_settings())
