"""What a run takes for granted, in sentences."""

from __future__ import annotations

import pandas as pd

from finsignal.clock import days_per_year
from finsignal.config import RunFile
from finsignal.study.inputs import Inputs


def _minutes(span: str | pd.Timedelta) -> str:
    minutes = pd.Timedelta(span) / pd.Timedelta(minutes=1)
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"


def _when_known(run: RunFile) -> str:
    if run.lake or run.news is None:
        return (
            f"A text counts {_minutes(run.fetch.latency)} after it was published, or first seen where that was later."
        )
    return f"A text counts {_minutes(run.news.latency)} after the end of its stamp's precision ({run.news.precision})."


def list_assumptions(run: RunFile, inputs: Inputs) -> list[str]:
    """What the run takes for granted, one sentence each, and last what it leaves out or only assumes."""
    costs, orders, exits = run.costs, run.orders, run.exits
    said = [
        f"Each order is decided {_minutes(run.decision_latency)} before its bar opens, from what was known then.",
        "It fills at that open, worse by the slippage; its quantity comes from the last close known.",
        _when_known(run),
        f"Fee {costs.fee:.4%} of the value and slippage {costs.slippage:.4%} of the price, on each side.",
    ]
    if run.features.mode != "weighted":
        said.append(f"Texts speak together by the mode {run.features.mode!r}.")
    if costs.fee_per_share or costs.min_fee:
        said.append(f"On top {costs.fee_per_share:g} for each unit; an order pays {costs.min_fee:g} at least.")
    if costs.slippage_volatility or costs.impact:
        said.append(
            f"Slippage grows by {costs.slippage_volatility:g} times the volatility of a bar, and by {costs.impact:g} "
            "times that volatility times the root of the order's share of a bar's mean volume."
        )
    if exits.resting:
        said.append("Stops and take profits rest in the market and fill inside bars: a model that no job carries out.")
    if orders.volume_share:
        said.append(
            f"An order fills at most {orders.volume_share:.2%} of a bar's mean volume; the rest is tried again."
        )
    left_out = [
        name
        for name, out in {
            "the size of orders beside the bar's volume": not orders.volume_share and not costs.impact,
            "the cost of borrowing shares": run.weights.short and not costs.borrow and not costs.borrow_by_symbol,
            "margin calls": run.weights.short and not costs.maintenance,
            "dividends": inputs.actions is None and days_per_year(run.market) < 365,
            "interest on cash": not costs.interest,
        }.items()
        if out
    ]
    if left_out:
        said.append(f"Not counted: {', '.join(left_out)}.")
    if not run.baseline:
        said.append("No account on price features alone is compared: the run file names no baseline.")
    if costs.funding_rate:
        said.append(
            f"ASSUMED funding rate {costs.funding_rate:.4%} every 8 hours, the same at all times; not a record."
        )
    return said
