"""A backtest in plain loops, written from the rules in words and from no code: what `run_backtest` must agree with.

Also the small tables that the tests of signals and backtests are made of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from finsignal.backtest import Costs
from finsignal.tables import PRICES, WEIGHTS

EIGHT_HOURS = pd.Timedelta(hours=8)
NONE = float("nan")


def make_prices(bars: pd.DataFrame, quotes: Mapping[str, Sequence[tuple[float, float] | float]]) -> pd.DataFrame:
    """PRICES of (open, close) or of one price for both, from the first bar of the grid on; NaN is a bar without row."""
    rows = []
    for symbol, values in quotes.items():
        for k, value in enumerate(values):
            first, last = value if isinstance(value, tuple) else (value, value)
            if np.isfinite(first):
                rows.append((bars["open_time"][k], bars["close_time"][k], symbol, first, last))
    frame = pd.DataFrame(rows, columns=["open_time", "time", "symbol", "open", "close"])
    high, low = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    return PRICES.to_table(frame.assign(high=high, low=low, volume=1000.0))


def make_weights(bars: pd.DataFrame, targets: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """WEIGHTS of one target a bar for each symbol."""
    rows = [bars[["open_time", "time"]].assign(symbol=symbol, weight=w) for symbol, w in targets.items()]
    return WEIGHTS.to_table(pd.concat(rows))


@dataclass
class Account:
    """What the reference did: the net equity at each bar's close, the funding paid in it, every fill and log line."""

    equity: list[float] = field(default_factory=list)
    funding: list[float] = field(default_factory=list)
    fills: list[tuple[int, str, float, float, float]] = field(
        default_factory=list
    )  # bar, symbol, +-quantity, price, fee
    log: list[tuple[int, str, str]] = field(default_factory=list)  # bar, symbol, reason


def simulate(
    prices: pd.DataFrame,
    weights: pd.DataFrame,
    bars: pd.DataFrame,
    costs: Costs,
    cash: float,
    funding: pd.DataFrame | None = None,
) -> Account:
    """The account that follows `weights`, bar by bar and order by order."""
    symbols = sorted(set(weights["symbol"]))
    grid = bars[bars["open_time"].isin(weights["open_time"])].reset_index(drop=True)
    target = {(row.symbol, row.open_time): row.weight for row in weights.itertuples()}
    row_of = {(row.symbol, row.open_time): row for row in prices.itertuples()}
    on_grid = set(bars["open_time"])

    settled: dict[tuple[str, pd.Timestamp], float] = {}  # the rate at each settlement
    for s in symbols:
        told = {} if funding is None else {row.time: row.rate for row in funding.itertuples() if row.symbol == s}
        instant = grid["open_time"][0].floor("8h")
        while instant < grid["close_time"].iloc[-1]:
            if not told or instant < min(told) or instant > max(told):
                settled[s, instant] = costs.funding_rate
            instant += EIGHT_HOURS
        settled |= {(s, instant): rate for instant, rate in told.items()}

    account = Account()
    held = dict.fromkeys(symbols, 0.0)
    sent = dict.fromkeys(symbols, 0.0)  # the target that was traded last
    before = dict.fromkeys(symbols, 0.0)  # the target of the bar before
    waiting = dict.fromkeys(symbols, False)
    mark: dict[str, float] = {}  # the price at which a position counts at a close
    dead_from: dict[str, int] = {}
    history: dict[str, list[tuple[pd.Timestamp, float]]] = {}
    for symbol in symbols:
        printed = [k for k, t in enumerate(grid["open_time"]) if (symbol, t) in row_of]
        if printed and len(grid) - 1 - printed[-1] >= costs.delisted_after:
            dead_from[symbol] = printed[-1] + 1
        history[symbol] = [(row.time, row.close) for row in prices.itertuples() if row.symbol == symbol]
        for row in prices[prices["symbol"] == symbol].itertuples():
            if row.open_time < grid["open_time"][0] and row.open_time in on_grid:
                mark[symbol] = row.close

    for k, bar in enumerate(grid.itertuples()):
        here = {s: row_of.get((s, bar.open_time)) for s in symbols}
        dies = [s for s in symbols if dead_from.get(s) == k]
        for s in dies:
            mark[s] *= 1 + costs.delisting_return
        open_price = {s: mark[s] if s in dies else (here[s].open if here[s] is not None else NONE) for s in symbols}

        paid = 0.0
        for s in symbols:
            if held[s]:
                price = open_price[s] if np.isfinite(open_price[s]) else mark[s]
                paid += held[s] * price * settled.get((s, bar.open_time), 0.0)

        known = {}
        for s in symbols:
            closes = [close for time, close in history[s] if time <= bar.time]
            known[s] = closes[-1] if closes else NONE
        value = cash + sum(held[s] * known[s] for s in symbols if held[s])

        orders = []
        for s in symbols:
            wanted = target[s, bar.open_time]
            if s in dies:
                sent[s] = 0.0
                if held[s]:
                    orders.append((s, 0.0))
            if wanted != before[s]:
                waiting[s] = wanted != sent[s]
                before[s] = wanted
            if not waiting[s]:
                continue
            if s in dead_from and k >= dead_from[s]:
                account.log.append((k, s, "delisted"))
            elif here[s] is None:
                account.log.append((k, s, "bar did not print"))
            elif not np.isfinite(known[s]):
                account.log.append((k, s, "no close known yet"))
            else:
                orders.append((s, wanted))
                sent[s], waiting[s] = wanted, False

        for s, wanted in sorted(orders, key=lambda order: order[1] * value - _worth(held, known, order[0])):
            if value <= 0:
                account.log.append((k, s, "refused: no cash"))
                continue
            quantity = wanted * value / known[s] - held[s]
            if abs(quantity) <= 1e-12:
                continue
            price = open_price[s] * (1 + costs.slippage * np.sign(quantity))
            if quantity > 0 and quantity * price * (1 + costs.fee) > cash * (1 + 1e-9):
                quantity = cash / (1 + costs.fee) / price
                account.log.append((k, s, "cut to the cash at hand" if quantity > 0 else "refused: no cash"))
                if quantity == 0:
                    continue
            fee = abs(quantity) * price * costs.fee
            cash -= quantity * price + fee
            if abs(cash) < 1e-9:
                cash = 0.0
            held[s] += quantity
            account.fills.append((k, s, quantity, price, fee))

        for s in symbols:
            if here[s] is not None:
                mark[s] = here[s].close
        until = grid["open_time"][k + 1] if k + 1 < len(grid) else bar.close_time
        for (s, instant), rate in settled.items():
            if bar.open_time < instant < until and held[s]:
                paid += held[s] * mark[s] * rate
        account.funding.append(paid)
        total = cash + sum(held[s] * mark[s] for s in symbols if held[s])
        account.equity.append(total - sum(account.funding))
    return account


def _worth(held: dict[str, float], known: dict[str, float], symbol: str) -> float:
    return held[symbol] * known[symbol] if held[symbol] else 0.0
