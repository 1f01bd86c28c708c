"""A run's account beside another of the same days: what the one made more, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from finsignal.backtest import Costs
from finsignal.clock import days_per_year
from finsignal.evidence import to_daily
from finsignal.evidence.answers import Figure, say_count
from finsignal.evidence.luck import LEAST_DAYS, bootstrap_difference
from finsignal.study.accounts import run_account
from finsignal.study.case import Case
from finsignal.tables import BacktestResult

SOURCE = "stationary bootstrap of the paired days: Politis and Romano 1994, doi:10.1080/01621459.1994.10476870"


def to_days(case: Case, result: BacktestResult | None = None) -> pd.Series:
    """Net simple return of each tested session, a fraction, indexed by its ISO date.

    Of the case's own account, or of another over the same bars, which may have begun with other cash.
    """
    result = case.result if result is None else result
    return to_daily(result.equity, case.inputs.bars, cash=float(result.settings["cash"]))


def net_return(result: BacktestResult) -> float:
    """Net return of the whole period, a fraction."""
    return float(result.equity.iloc[-1]) / float(result.settings["cash"]) - 1


def to_difference(
    case: Case, one: BacktestResult, other: BacktestResult, *, key: str, name: str, said: str, source: str = ""
) -> Figure:
    """The mean daily net return of `one` less that of `other`, times the days of a year, a fraction.

    With the 95 % interval of the paired days; both accounts trade the same bars. Needs 60 days. Where the accounts
    differ on fewer than 20 days, there is no interval.
    """
    a, b = to_days(case, one).to_numpy(), to_days(case, other).to_numpy()
    cites = "; ".join(part for part in (source, SOURCE) if part)
    figure = Figure(key, name, "percent", len(a), "days", 0.0, said=said, source=cites)
    if len(a) < LEAST_DAYS:
        return to_needs(figure, f"{LEAST_DAYS} days; there are {len(a)}")
    mean, low, high = bootstrap_difference(a, b, days_per_year=days_per_year(case.run.market))
    if np.isfinite(low):
        return replace(figure, value=mean, low=low, high=high, draws=1000)
    differ = int((a != b).sum())
    why = "Both accounts are the same."
    if differ:
        why = f"The accounts differ on {say_count(differ, 'day')}: too few for an interval."
    return replace(figure, value=mean, said=f"{said} {why}")


def to_needs(figure: Figure, needs: str) -> Figure:
    """The figure without its value: what it would need."""
    return replace(figure, value=None, low=None, high=None, needs=needs)


def to_ends(figure: Figure) -> str:
    """The figure's interval in words, "" where there is none."""
    return (
        "" if figure.low is None or figure.high is None else f" (95 % interval {figure.low:.1%} to {figure.high:.1%})"
    )


def trade_at(case: Case, costs: Costs, *, cash: float | None = None) -> BacktestResult:
    """The account that follows the case's weights at other costs, and with other cash."""
    run = replace(case.run, costs=costs, cash=case.run.cash if cash is None else cash)
    return run_account(run, case.inputs, case.decided.weights)


def find_root(
    function: Callable[[float], float], *, known: dict[float, float], highest: float, grow: float = 2.0
) -> float | None:
    """Where the function falls through 0, from values known at some places; None where it does not up to `highest`."""
    from scipy.optimize import brentq

    places = sorted(known)
    below = next((place for place in places if known[place] <= 0), None)
    if below is None:
        below = places[-1]
        while known[below] > 0:
            if below >= highest:
                return None
            last, below = below, min(below * grow, highest)
            known[below] = function(below)
        above = last
    elif below == places[0]:
        return None
    else:
        above = places[places.index(below) - 1]
    values = {above: known[above], below: known[below]}
    return float(brentq(lambda x: values[x] if x in values else function(x), above, below, xtol=(below - above) * 1e-4))
