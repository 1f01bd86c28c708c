"""Could one trade it: the account at other costs, on later news and with more cash."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from finsignal import evidence
from finsignal.backtest import Costs
from finsignal.clock import DAY, days_per_year, to_bar
from finsignal.evidence.answers import Answer, Curve, Figure, Table
from finsignal.evidence.luck import bootstrap_difference
from finsignal.study.capacity import grow_cash
from finsignal.study.case import Case, carry_out
from finsignal.study.delaying import to_later
from finsignal.study.paired import SOURCE, find_root, net_return, to_days, to_difference, to_ends, trade_at

QUESTION = "Could one trade it?"
CENTS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # costs a side of the curve, hundredths of a percent
BASIS = 1e-4
HIGHEST_RATE = 0.99  # that `Costs` takes of a fee or slippage
HIGHEST_COST = 0.5  # of the traded value, a side: beyond it no break-even cost is looked for
PROFIT = "a profit before costs"
BY_ORDER = ("fee", "slippage", "fee_per_share", "min_fee", "slippage_volatility", "impact")


def answer_tradable(case: Case, *, progress: bool = False) -> Answer:
    """The answer to "tradable": break-even cost, what later news costs, and how much cash it bears.

    Every point is an account of its own by the run's rules, with the settings of the case. Costs: the same targets,
    with all that orders cost scaled alike (fees, slippage, impact; not funding, borrow and interest). Lags: every text
    and its score known that much later, and all decisions made again. Cash: the same targets, with the run's impact or
    else a square-root law whose coefficient is 1. Figures:

    break_even_cost (n trades): cost a side, fraction of the traded value, at which the net return is 0. charged_cost:
    what the account paid a side. lag_1min, lag_15min, lag_1bar, lag_1day (n days): the change of the mean daily return
    a year, with its interval; a bar of a day has no lag_1day of its own. volume_share (n orders): the share of its
    bar's volume that 95 % of the orders keep to. capacity_1pct: the cash at which that share is 1 %.
    capacity_break_even: the cash at which impact has taken all of the net return. A figure that cannot be says what it
    needs: trades, a profit, volume. progress: a bar on stderr.
    """
    from tqdm import tqdm

    if case.result.orders.empty:
        return _answer_untraded(case)
    parts = (_price_costs, _delay, grow_cash)
    figures: list[Figure] = []
    curves: list[Curve] = []
    tables: list[Table] = []
    notes: list[str] = []
    for part in tqdm(parts, desc="tradable", unit="part", delay=3, disable=not progress):
        answered = part(case)
        figures += answered.figures
        curves += answered.curves
        tables += answered.tables
        notes += answered.notes
    answer = Answer("tradable", QUESTION, "", tuple(figures), tuple(curves), tuple(tables), tuple(notes))
    return replace(answer, said=_say(answer))


def _answer_untraded(case: Case) -> Answer:
    needs = "an order; none was filled"
    listed = [
        ("break_even_cost", "Break-even cost a side", "percent", "trades"),
        *((f"lag_{key}", f"Return a year with {name} more delay", "percent", "days") for key, name in _lags(case)),
        ("capacity_1pct", "Cash at which orders take 1 % of their bar", "cash", "orders"),
    ]
    figures = tuple(Figure(key, name, unit, 0, of, needs=needs) for key, name, unit, of in listed)
    return Answer("tradable", QUESTION, "It never traded, so there is nothing to ask of costs, delay or cash.", figures)


def _say(answer: Answer) -> str:
    """One sentence of the figures that there are."""
    cost, charged, bar, capacity = (
        answer.find(key) for key in ("break_even_cost", "charged_cost", "lag_1bar", "capacity_1pct")
    )
    said = []
    if cost is not None and cost.value is not None:
        ends = ""
        if cost.low is not None and cost.high is not None:
            ends = f" (95 % interval {cost.low / BASIS:.1f} to {cost.high / BASIS:.1f})"
        paid = 0.0 if charged is None or charged.value is None else charged.value
        than = f"{cost.value / paid:.1f} times what it is charged" if paid else "and is charged nothing"
        said.append(f"it breaks even at costs of {cost.value / BASIS:.1f} bp a side{ends}, {than}")
    elif cost is not None:
        loses = cost.needs.startswith(PROFIT)
        said.append("it makes nothing even without costs" if loses else "no cost up to half the value takes its profit")
    if bar is not None and bar.value is not None:
        said.append(f"news one bar later changes its return by {bar.value:+.1%} a year{to_ends(bar)}")
    if capacity is not None and capacity.value is not None:
        said.append(f"95 % of its orders take at most 1 % of their bar's volume up to a cash of {capacity.value:,.0f}")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


# --- costs -----------------------------------------------------------------------------------------------


def _price_costs(case: Case) -> Answer:
    result, trades = case.result, int(case.result.trades["closed"].sum())
    value = float((result.orders["quantity"] * result.orders["price"]).sum())
    charged = float(result.orders[["fee", "slippage"]].to_numpy().sum()) / value

    def net_at(cost: float) -> float:
        return net_return(trade_at(case, scale_costs(case.run.costs, cost, charged)))

    free = net_at(0.0)
    round_ones = [cents * BASIS for cents in CENTS if abs(cents * BASIS - charged) > 0.01 * charged or not cents]
    costs = sorted({*round_ones, charged})
    nets = [free if c == 0 else net_return(result) if c == charged else net_at(c) for c in costs]
    figure = Figure(
        *("break_even_cost", "Break-even cost a side", "percent", trades, "trades", 0.0),
        said="Fee and slippage of each side, as a fraction of the traded value, at which nothing is left.",
    )
    simple = (float(result.gross.iloc[-1]) - case.run.cash) / value
    root = find_root(net_at, known=dict(zip(costs, nets, strict=True)), highest=HIGHEST_COST)
    if free <= 0:
        figure = replace(figure, value=None, needs=f"{PROFIT}; without any it makes {free:.1%}")
    elif root is None:
        figure = replace(figure, value=None, needs=f"a cost below {HIGHEST_COST:.0%} a side at which it loses")
    else:
        low, high = _spread(case, root, charged)
        figure = replace(figure, value=root, low=low, high=high, draws=1000 if low is not None else 0, source=SOURCE)
    paid = Figure(
        *("charged_cost", "Cost charged a side", "percent", len(result.orders), "orders", charged),
        said="Fees and slippage that the account paid, as a fraction of the traded value.",
    )
    gross = Figure(
        *("gross_per_value", "Profit before costs over value traded", "percent", len(result.orders), "orders", simple),
        said="The break-even cost by a plain division, without the compounding of the account.",
    )
    curve = Curve(
        *("costs", "Net return by cost", tuple(c / BASIS for c in costs), tuple(nets)),
        *("cost a side, bp", "net return", "percent"),
        n=(trades,) * len(costs),
        marks=((charged / BASIS, "charged"), *(((root / BASIS, "break-even"),) if root is not None else ())),
    )
    return Answer("tradable", QUESTION, "", (figure, paid, gross), (curve,))


def _spread(case: Case, root: float, charged: float) -> tuple[float | None, float | None]:
    """The 95 % interval of the break-even cost: that of the mean daily return at this cost, over the daily turnover."""
    at_root = trade_at(case, scale_costs(case.run.costs, root, charged))
    days = to_days(case, at_root).to_numpy()
    turnover = evidence.measure(at_root, case.inputs.bars, market=case.run.market)["turnover"]
    mean, low, high = bootstrap_difference(days, np.zeros(len(days)), days_per_year=days_per_year(case.run.market))
    if not (turnover and math.isfinite(low)):
        return None, None
    return root + (low - mean) / turnover, root + (high - mean) / turnover


def scale_costs(costs: Costs, cost: float, charged: float) -> Costs:
    """The costs with all that an order pays scaled so that `charged`, a side, becomes `cost`.

    Fractions of the traded value. Where nothing was charged, `cost` is a fee.
    """
    if charged <= 0:
        return replace(costs, fee=cost, maker_fee=None)
    times, rates = cost / charged, ("fee", "slippage")
    scaled = {name: getattr(costs, name) * times for name in BY_ORDER}
    scaled |= {name: min(scaled[name], HIGHEST_RATE) for name in rates}
    maker = None if costs.maker_fee is None else min(costs.maker_fee * times, HIGHEST_RATE)
    return replace(costs, **scaled, maker_fee=maker)


# --- delay -----------------------------------------------------------------------------------------------


def _lags(case: Case) -> list[tuple[str, str]]:
    """Key and name of each delay. A bar of a day is a day already."""
    daily = to_bar(case.run.bar) == DAY
    lags = [("1min", "1 minute"), ("15min", "15 minutes"), ("1bar", "1 bar (a day)" if daily else "1 bar")]
    return lags if daily else [*lags, ("1day", "1 day")]


def _delay(case: Case) -> Answer:
    figures, nets, names = [], [net_return(case.result)], ["as it is"]
    trades = [int(case.result.trades["closed"].sum())]
    for key, name in _lags(case):
        inputs, sentiment = to_later(case.inputs, case.sentiment, key)
        _, later = carry_out(case.run, inputs, sentiment, case.strategy, case.parameters, since=case.since)
        figures.append(
            to_difference(
                *(case, later, case.result),
                key=f"lag_{key}",
                name=f"Return a year with {name} more delay",
                said=f"Mean daily return a year, less that of the run, where news is known {name} later.",
            )
        )
        nets.append(net_return(later))
        trades.append(int(later.trades["closed"].sum()))
        names.append(name)
    curve = Curve(
        *("lags", "Net return by delay", tuple(float(n) for n in range(len(nets))), tuple(nets)),
        *("more delay of each text and its score", "net return", "percent"),
        n=tuple(trades),
        labels=tuple(names),
    )
    return Answer("tradable", QUESTION, "", tuple(figures), (curve,))
