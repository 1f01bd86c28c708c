"""How much cash a run bears: the share of the volume that its orders take, and what their impact leaves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from finsignal.evidence.answers import Answer, Curve, Figure, Table
from finsignal.study.case import Case
from finsignal.study.paired import find_root, net_return, trade_at
from finsignal.tables import BacktestResult

SHARE = 0.01  # of a bar's volume, that an order may take before it moves the price by itself
MOST = 0.95  # of the orders, that must keep to it
IMPACT = 1.0  # of the square-root law where the run states none; measured coefficients are of order one
STEPS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)  # cash of the curve of capacity, multiples of the run's
LAW = "square-root law: Toth et al. 2011, doi:10.1103/PhysRevX.1.021006"


def grow_cash(case: Case) -> Answer:
    """Figures, curve, table and notes of capacity, as `tradable.answer_tradable` tells of them."""
    shares = to_shares(case.result, case.inputs.prices)
    count, cash = len(shares), case.run.cash
    share = Figure(
        *("volume_share", "Share of the bar's volume of an order, 95 % quantile", "percent", count, "orders", 0.0),
        said=f"Of the orders, {MOST:.0%} take at most this share of the volume of the bar that fills them.",
    )
    capacity = Figure(
        *("capacity_1pct", "Cash at which orders take 1 % of their bar", "cash", count, "orders", 0.0),
        said=f"With this cash {MOST:.0%} of the orders take at most {SHARE:.0%} of the volume of their bar.",
    )
    end = Figure(
        *("capacity_break_even", "Cash at which impact takes all", "cash", count, "orders", 0.0),
        said="The cash from which on the orders' own impact leaves no net return.",
        source=LAW,
    )
    most = float(np.quantile(shares, MOST, method="higher")) if count else math.inf
    if not math.isfinite(most) or most <= 0:
        needs = f"volume of the bars that fill; {int(np.isinf(shares).sum())} of {count} orders have none"
        figures = tuple(replace(figure, value=None, needs=needs) for figure in (share, capacity, end))
        return Answer("tradable", "", "", figures)
    stated = case.run.costs.impact > 0
    costs = case.run.costs if stated else replace(case.run.costs, impact=IMPACT)

    def net_with(power: float) -> float:
        return net_return(trade_at(case, costs, cash=cash * 10.0**power))

    powers = [math.log10(step) for step in STEPS]
    nets = [net_with(power) for power in powers]
    root = find_root(net_with, known=dict(zip(powers, nets, strict=True)), highest=12.0, grow=1.5)
    if nets[0] <= 0:
        end = replace(end, value=None, needs=f"a profit at the run's cash; with impact it makes {nets[0]:.1%}")
    elif root is None:
        end = replace(end, value=None, needs="a cash at which it loses; its orders move no price")
    else:
        end = replace(end, value=cash * 10.0**root)
    share, capacity = replace(share, value=most), replace(capacity, value=cash * SHARE / most)
    curve = Curve(
        *("capacity", "Net return by cash", tuple(cash * step for step in STEPS), tuple(nets)),
        *("cash at the start", "net return with impact", "percent"),
        n=(count,) * len(STEPS),
        marks=tuple((f.value, text) for f, text in ((capacity, "1 % of volume"), (end, "nothing left")) if f.value),
    )
    rows = [
        (f"{cash * step:,.0f}", float(np.quantile(shares, 0.5) * step), most * step, float(shares.max() * step), net)
        for step, net in zip(STEPS, nets, strict=True)
    ]
    table = Table(
        *("capacity", "Share of the bar's volume that orders take"),
        ("cash", "median order", "95 % of orders", "largest order", "net return with impact"),
        ("", "percent", "percent", "percent", "percent"),
        tuple(row if math.isfinite(row[3]) else (*row[:3], None, row[4]) for row in rows),
    )
    law = (
        f"Impact as the run states it, coefficient {costs.impact:g}."
        if stated
        else f"The run states no impact: slippage of {IMPACT:g} x volatility x sqrt(quantity / volume), both of a mean "
        "bar, is added for larger cash; measured coefficients are of order one."
    )
    whole = "Shares are of the volume of the whole bar; the open, where orders fill, trades a part of it."
    return Answer("tradable", "", "", (share, capacity, end), (curve,), (table,), (law, whole))


def to_shares(result: BacktestResult, prices: pd.DataFrame) -> np.ndarray:
    """Of each order that the market filled, its quantity over the volume of its bar; inf where the bar has none."""
    orders = result.orders[result.orders["reason"] != "delisted"]
    rows = orders[["open_time", "symbol", "quantity"]].merge(
        prices[["open_time", "symbol", "volume"]], on=["open_time", "symbol"], how="left"
    )
    volume = rows["volume"].fillna(0.0).to_numpy()
    shares = np.full(len(rows), np.inf)
    np.divide(rows["quantity"].to_numpy(), volume, out=shares, where=volume > 0)
    return shares
