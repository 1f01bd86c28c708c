"""A backtest in plain loops, written from the rules in words and from no code: what `run_backtest` must agree with.

Also the small tables that the tests of signals and backtests are made of.
"""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from finsignal.backtest import NO_RULES, Costs, OrderRules
from finsignal.signals.rules import NO_EXITS, ExitRules
from finsignal.tables import PRICES, WEIGHTS

EIGHT_HOURS = pd.Timedelta(hours=8)
FLOWS = ("funding", "dividends", "borrow", "interest")
NONE = float("nan")


def make_prices(
    bars: pd.DataFrame,
    quotes: Mapping[str, Sequence[tuple[float, ...] | float]],
    volumes: Mapping[str, Sequence[float]] | None = None,
) -> pd.DataFrame:
    """PRICES from the first bar of the grid on; NaN is a bar without row, and the volume is 1000 where none is given.

    A quote is (open, high, low, close), (open, close), or one price for all.
    """
    rows = []
    for symbol, values in quotes.items():
        for k, value in enumerate(values):
            given = value if isinstance(value, tuple) else (value, value)
            if np.isfinite(given[0]):
                volume = 1000.0 if volumes is None else volumes[symbol][k]
                ends = (given[0], max(given), min(given), given[-1])
                rows.append((bars["open_time"][k], bars["close_time"][k], symbol, *ends, volume))
    columns = ["open_time", "time", "symbol", "open", "high", "low", "close", "volume"]
    return PRICES.to_table(pd.DataFrame(rows, columns=columns))


def make_weights(bars: pd.DataFrame, targets: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """WEIGHTS of one target a bar for each symbol."""
    rows = [bars[["open_time", "time"]].assign(symbol=symbol, weight=w) for symbol, w in targets.items()]
    return WEIGHTS.to_table(pd.concat(rows))


class Fill(NamedTuple):
    """One fill of the account."""

    bar: int
    symbol: str
    quantity: float  # above 0 bought, below 0 sold
    price: float
    fee: float
    reason: str
    slippage: float  # cash lost to the price being worse than the open, the level or the close


@dataclass
class Account:
    """What the reference did: at each bar's close the account, and every fill, log line and flow of cash in order."""

    equity: list[float] = field(default_factory=list)
    gross: list[float] = field(default_factory=list)  # the same fills, before fees, slippage, funding and borrow
    fills: list[Fill] = field(default_factory=list)
    log: list[tuple[int, str, str]] = field(default_factory=list)  # bar, symbol, reason
    flows: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in FLOWS})  # + received, - paid


@dataclass
class Position:
    """What the account remembers of a symbol."""

    held: float = 0.0
    mark: float = NONE  # the newest close of the run, at which it counts
    before: float = 0.0  # the target of the bar before
    sent: float = 0.0  # the target that the position follows; NaN where only a part of its order has filled
    waiting: bool = False  # whether its target is still to be traded
    forced: str = ""  # why it is to be closed at the next open, whatever its target
    anchor: float = NONE  # price of the fill that opened it
    best: float = NONE  # the most favourable of the anchor and the highs (short: lows) of the bars before this one
    entry: int = -1  # bar of the fill that opened it


def simulate(
    prices: pd.DataFrame,
    weights: pd.DataFrame,
    bars: pd.DataFrame,
    costs: Costs,
    cash: float,
    funding: pd.DataFrame | None = None,
    *,
    orders: OrderRules = NO_RULES,
    exits: ExitRules = NO_EXITS,
    dividends: pd.DataFrame | None = None,
) -> Account:
    """The account that follows `weights`, bar by bar and order by order."""
    book = Book(prices, weights, bars, costs, cash, funding, orders, exits, dividends)
    for k in range(len(book.grid)):
        book.start_bar(k)
        value = book.value()
        book.pay_dividends()
        book.pay_funding(at_open=True)
        book.trade_at_the_open(value)
        book.mark_positions()
        if exits.resting:
            book.check_resting_orders()
        book.pay_funding(at_open=False)
        book.accrue(book.bar.open_time, book.bar.close_time)
        if exits.session_close and book.is_last_of_session():
            book.close_session()
        book.accrue(book.bar.close_time, book.next_open)
        book.end_bar()
    return book.account


class Book:
    """The cash, the positions, and the rules."""

    def __init__(
        self,
        prices: pd.DataFrame,
        weights: pd.DataFrame,
        bars: pd.DataFrame,
        costs: Costs,
        cash: float,
        funding: pd.DataFrame | None,
        rules: OrderRules,
        exits: ExitRules,
        dividends: pd.DataFrame | None,
    ) -> None:
        self.costs, self.cash, self.rules, self.exits = costs, cash, rules, exits
        self.account = Account()
        self.grid = list(bars[bars["open_time"].isin(weights["open_time"])].itertuples())
        self.symbols = {symbol: Position() for symbol in sorted(set(weights["symbol"]))}
        self.target = {(row.symbol, row.open_time): row.weight for row in weights.itertuples()}
        self.row_of = {(row.symbol, row.open_time): row for row in prices.itertuples()}
        self.later = {s: [row for row in prices.itertuples() if row.symbol == s] for s in self.symbols}
        self.known: dict[str, list[Any]] = {s: [] for s in self.symbols}  # rows known at the decision, oldest first
        self.ruined = False
        self.paid = 0.0  # fees, slippage, funding and borrow so far
        self.rates = {s: self._to_rates(s, funding) for s in self.symbols}
        self.dividends = [] if dividends is None else [r for r in dividends.itertuples() if r.kind == "dividend"]
        self.dies_at: dict[str, int] = {}
        for s in self.symbols:
            printed = [k for k, bar in enumerate(self.grid) if (s, bar.open_time) in self.row_of]
            if printed and len(self.grid) - 1 - printed[-1] >= costs.delisted_after:
                self.dies_at[s] = printed[-1] + 1

    def _to_rates(self, symbol: str, funding: pd.DataFrame | None) -> dict[pd.Timestamp, float]:
        """The rate at each settlement of the run: those told, and the assumed one before, after and without them."""
        told = {} if funding is None else {row.time: row.rate for row in funding.itertuples() if row.symbol == symbol}
        rates = dict(told)
        instant = self.grid[0].open_time.floor("8h")
        while instant < self.grid[-1].close_time:
            if not told or instant < min(told) or instant > max(told):
                rates[instant] = self.costs.funding_rate
            instant += EIGHT_HOURS
        return rates

    # --------------------------------------------------------------------------------------- what is known at a bar

    def start_bar(self, k: int) -> None:
        self.k, self.bar = k, self.grid[k]
        self.next_open = self.grid[k + 1].open_time if k + 1 < len(self.grid) else self.bar.close_time
        self.here = {s: self.row_of.get((s, self.bar.open_time)) for s in self.symbols}
        for s, later in self.later.items():
            while later and later[0].time <= self.bar.time:
                self.known[s].append(later.pop(0))
        for kind in FLOWS:
            self.account.flows[kind].append(0.0)

    def known_close(self, symbol: str) -> float:
        rows = self.known[symbol]
        return rows[-1].close if rows else NONE

    def mean_volume(self, symbol: str) -> float:
        newest = [row.volume for row in self.known[symbol][-20:]]
        return sum(newest) / 20 if len(newest) == 20 else NONE

    def volatility(self, symbol: str) -> float:
        closes = [row.close for row in self.known[symbol][-21:]]
        if len(closes) < 21:
            return NONE
        return statistics.stdev(after / before - 1 for before, after in itertools.pairwise(closes))

    def value(self) -> float:
        return self.cash + sum(own.held * self.known_close(s) for s, own in self.symbols.items() if own.held)

    # -------------------------------------------------------------------------------------------------- flows of cash

    def receive(self, kind: str, amount: float) -> None:
        self.cash += amount
        self.account.flows[kind][self.k] += amount
        if kind in ("funding", "borrow"):
            self.paid -= amount

    def pay_dividends(self) -> None:
        since = self.grid[self.k - 1].open_time if self.k else None
        for row in self.dividends:
            if row.symbol in self.symbols and since is not None and since < row.time <= self.bar.open_time:
                self.receive("dividends", self.symbols[row.symbol].held * row.value)

    def pay_funding(self, *, at_open: bool) -> None:
        for s, own in self.symbols.items():
            for instant, rate in self.rates[s].items():
                if at_open and instant == self.bar.open_time and own.held:
                    price = self.here[s].open if self.here[s] is not None else own.mark
                    self.receive("funding", -own.held * price * rate)
                if not at_open and self.bar.open_time < instant < self.next_open and own.held:
                    self.receive("funding", -own.held * own.mark * rate)

    def accrue(self, start: pd.Timestamp, end: pd.Timestamp) -> None:
        """Borrow and interest of a span of time, on the cash and positions at its start."""
        years = (end - start).total_seconds() / (365 * 86_400)
        shorts = {s: -own.held * own.mark for s, own in self.symbols.items() if own.held < 0}
        free = self.cash - sum(shorts.values())
        earned = max(free, 0.0) * self.costs.interest * years
        earned -= max(-self.cash, 0.0) * self.costs.loan_interest * years
        for s, worth in shorts.items():
            self.receive("borrow", -worth * self.costs.borrow_by_symbol.get(s, self.costs.borrow) * years)
        self.receive("interest", earned)

    # ----------------------------------------------------------------------------------------------- orders at the open

    def trade_at_the_open(self, value: float) -> None:
        orders = []
        for s, own in self.symbols.items():
            target = self.target[s, self.bar.open_time]
            dead = s in self.dies_at and self.k >= self.dies_at[s]
            if self.dies_at.get(s) == self.k:
                own.sent, own.forced = 0.0, ""
                if own.held:
                    orders.append((s, 0.0, "delisted"))
            if target != own.before:
                own.before = target
                own.waiting = target != own.sent
                if own.waiting and self.ruined:
                    self.log(s, "refused: ruined")
            if self.ruined:
                own.waiting = False
            if not own.waiting and not own.forced:
                continue
            held_up = own.waiting and own.forced == "margin call"
            if held_up:
                self.log(s, "margin call")  # a target that changed since the call waits until its symbol is closed
            if dead:
                self.log(s, "delisted")
            elif self.here[s] is None:
                self.log(s, "bar did not print")
            elif math.isnan(self.known_close(s)):
                self.log(s, "no close known yet")
            else:
                orders.append((s, target, "target") if own.waiting and not held_up else (s, 0.0, own.forced))

        def change(order: tuple[str, float, str]) -> float:
            s, wanted, _ = order
            held = self.symbols[s].held
            return wanted * value - (held * self.known_close(s) if held else 0.0)

        for s, wanted, reason in sorted(orders, key=change):
            if self.trade(s, wanted, reason, value):
                own = self.symbols[s]
                own.forced = ""
                if reason == "target":
                    own.sent, own.waiting = wanted, False

    def trade(self, s: str, wanted: float, reason: str, value: float) -> bool:
        """Whether the order is done with; False where it, or its rest, is tried again at the next bar."""
        own, known = self.symbols[s], self.known_close(s)
        quantity = (self.whole_lots(s, wanted * value / known) if wanted else 0.0) - own.held
        if abs(quantity) <= 1e-12:
            if wanted != 0 and self.lot_of(s):
                self.log(s, "less than one lot")
            return True
        if reason == "delisted":
            self.fill(s, quantity, own.mark * (1 + self.costs.delisting_return), self.costs.slippage, reason)
            return True
        if wanted != 0 and value <= 0:
            self.log(s, "refused: no cash")
            return True
        if wanted != 0 and abs(quantity) * known < self.rules.min_notional:
            self.log(s, "below the smallest order")
            return True
        unknown = self.unknown(s)
        if unknown:
            self.log(s, unknown)
            return False
        allowed = self.within_volume(s, quantity)
        whole = allowed == quantity
        if not whole:
            self.log(s, "cut to its share of the volume")
            if allowed == 0:
                return False
        slip = self.slip(s, allowed)
        cover = min(max(-own.held, 0.0), allowed)  # the part of a purchase that cash never limits
        if reason == "target" and allowed - cover > 1e-12:
            price = self.here[s].open * (1 + slip)
            if allowed * price + self.fee(allowed, price, self.costs.fee) > self.cash * (1 + 1e-9):
                allowed = cover + max(self.whole_lots(s, self.affordable(price) - cover), 0.0)
                self.log(s, "cut to the cash at hand" if allowed > 0 else "refused: no cash")
                if allowed <= 0:
                    return True
                whole = True  # counts as sent
        self.fill(s, allowed, self.here[s].open, slip, reason)
        if not whole and reason == "target":
            own.sent, own.forced = NONE, ""
        return whole

    def lot_of(self, symbol: str) -> float:
        return self.rules.lots.get(symbol, self.rules.lot)

    def whole_lots(self, symbol: str, quantity: float) -> float:
        lot = self.lot_of(symbol)
        return math.trunc(quantity / lot) * lot if lot else quantity

    def unknown(self, symbol: str) -> str:
        """What the order needs and nobody knows yet; '' where nothing is missing."""
        if (self.rules.volume_share or self.costs.impact) and not self.mean_volume(symbol) > 0:
            return "volume not known yet"
        if (self.costs.slippage_volatility or self.costs.impact) and math.isnan(self.volatility(symbol)):
            return "volatility not known yet"
        return ""

    def within_volume(self, symbol: str, quantity: float) -> float:
        """The quantity, or what a share of the volume leaves of it."""
        if not self.rules.volume_share:
            return quantity
        most = self.rules.volume_share * self.mean_volume(symbol)
        if abs(quantity) <= most:
            return quantity
        return math.copysign(self.whole_lots(symbol, most), quantity)

    def slip(self, symbol: str, quantity: float) -> float:
        """The fraction by which a fill at the open, a stop or the session's close is worse."""
        slip = self.costs.slippage
        if self.costs.slippage_volatility:
            slip += self.costs.slippage_volatility * self.volatility(symbol)
        if self.costs.impact and self.mean_volume(symbol) > 0:  # a stop does not wait for volume
            share = abs(quantity) / self.mean_volume(symbol)
            slip += self.costs.impact * self.volatility(symbol) * math.sqrt(share)
        return min(slip, 0.99) if quantity < 0 else slip

    def fee(self, quantity: float, price: float, rate: float) -> float:
        return max(self.costs.min_fee, abs(quantity) * price * rate + abs(quantity) * self.costs.fee_per_share)

    def affordable(self, price: float) -> float:
        quantity = self.cash / (price * (1 + self.costs.fee) + self.costs.fee_per_share)
        if quantity * price * self.costs.fee + quantity * self.costs.fee_per_share < self.costs.min_fee:
            quantity = (self.cash - self.costs.min_fee) / price
        return quantity

    def fill(
        self, symbol: str, quantity: float, ideal: float, slip: float, reason: str, rate: float | None = None
    ) -> None:
        price = ideal * (1 + slip if quantity > 0 else 1 - slip)
        fee = self.fee(quantity, price, self.costs.fee if rate is None else rate)
        lost = abs(price - ideal) * abs(quantity)
        self.account.fills.append(Fill(self.k, symbol, quantity, price, fee, reason, lost))
        self.cash -= quantity * price + fee
        if abs(self.cash) < 1e-9:
            self.cash = 0.0  # all of it was spent; the rest is rounding
        self.paid += fee + lost
        own = self.symbols[symbol]
        after = own.held + quantity
        if abs(after) <= 1e-12:
            after = 0.0
        if own.held == 0 or own.held * after < 0:
            own.anchor = own.best = price
            own.entry = self.k
        own.held = after

    def log(self, symbol: str, reason: str) -> None:
        self.account.log.append((self.k, symbol, reason))

    # -------------------------------------------------------------------------------------------------- inside the bar

    def mark_positions(self) -> None:
        for s, own in self.symbols.items():
            if self.here[s] is not None:
                own.mark = self.here[s].close

    def check_resting_orders(self) -> None:
        for s, own in self.symbols.items():
            row = self.here[s]
            if row is None or own.held == 0:
                continue
            long = own.held > 0
            self._check_symbol(s, own, row, long)
            own.best = max(own.best, row.high) if long else min(own.best, row.low)

    def _check_symbol(self, s: str, own: Position, row: Any, long: bool) -> None:
        rules = self.exits
        levels = []
        if rules.stop_loss:
            levels.append((own.anchor * (1 - rules.stop_loss if long else 1 + rules.stop_loss), "stop loss"))
        if rules.trailing_stop:
            levels.append((own.best * (1 - rules.trailing_stop if long else 1 + rules.trailing_stop), "trailing stop"))
        fresh = own.entry == self.k
        if levels:
            # The first of equals is the stop loss.
            level, reason = max(levels, key=lambda x: x[0]) if long else min(levels, key=lambda x: x[0])
            if (row.low <= level) if long else (row.high >= level):
                price = min(row.open, level) if long else max(row.open, level)
                self.close_inside(s, level if fresh else price, self.slip(s, -own.held), reason, self.costs.fee)
                return
        if rules.take_profit:
            level = own.anchor * (1 + rules.take_profit if long else 1 - rules.take_profit)
            if (row.high >= level) if long else (row.low <= level):
                price = max(row.open, level) if long else min(row.open, level)
                maker = self.costs.fee if self.costs.maker_fee is None else self.costs.maker_fee
                self.close_inside(s, level if fresh else price, 0.0, "take profit", maker)

    def close_inside(self, s: str, ideal: float, slip: float, reason: str, rate: float) -> None:
        own = self.symbols[s]
        self.fill(s, -own.held, ideal, slip, reason, rate)
        own.sent, own.waiting, own.forced = 0.0, False, ""

    # ----------------------------------------------------------------------------------------------- at the bar's close

    def is_last_of_session(self) -> bool:
        return self.k + 1 == len(self.grid) or self.grid[self.k + 1].session != self.bar.session

    def close_session(self) -> None:
        for s, own in self.symbols.items():
            if own.held:
                missing = "bar did not print" if self.here[s] is None else self.unknown(s)
                if missing:
                    self.log(s, missing)
                else:
                    quantity = self.within_volume(s, -own.held)
                    if quantity != -own.held:
                        self.log(s, "cut to its share of the volume")
                    if quantity:
                        self.fill(s, quantity, self.here[s].close, self.slip(s, quantity), "session close")
            own.before, own.sent, own.waiting = 0.0, 0.0, False
            own.forced = (own.forced or "session close") if own.held else ""

    def end_bar(self) -> None:
        worth = sum(abs(own.held) * own.mark for own in self.symbols.values() if own.held)
        equity = self.cash + sum(own.held * own.mark for own in self.symbols.values() if own.held)
        self.account.equity.append(equity)
        self.account.gross.append(equity + self.paid)
        if equity <= 0 and not self.ruined:
            self.ruined = True
            self.close_all("ruin")
        elif not self.ruined and equity < self.costs.maintenance * worth:
            self.close_all("margin call")

    def close_all(self, reason: str) -> None:
        for s, own in self.symbols.items():
            own.sent, own.waiting = 0.0, False
            if own.held:
                own.forced = reason
                self.log(s, reason)
