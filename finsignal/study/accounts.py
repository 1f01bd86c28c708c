"""The accounts of a run: each follows its weights over the same prices, by the run's rules and at its costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from finsignal.backtest import run_backtest
from finsignal.config import RunFile
from finsignal.study.inputs import Inputs
from finsignal.tables import BacktestResult


def run_account(
    run: RunFile, inputs: Inputs, weights: pd.DataFrame, *, settings: Mapping[str, Any] | None = None
) -> BacktestResult:
    """The account that follows `weights` by the run's rules, costs and cash."""
    return run_backtest(
        inputs.prices,
        weights,
        bars=inputs.bars,
        costs=run.costs,
        cash=run.cash,
        orders=run.orders,
        exits=run.exits,
        gross=run.weights.gross,
        funding=inputs.funding,
        dividends=inputs.actions,
        settings=settings,
    )
