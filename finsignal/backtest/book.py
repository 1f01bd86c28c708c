"""The account while a run goes through its bars: cash, positions, what was sent, every fill and line of the log."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

REASONS = (
    *("target", "delisted", "stop loss", "trailing stop", "take profit", "session close", "margin call", "ruin"),
)
TARGET, DELISTED, STOP_LOSS, TRAILING_STOP, TAKE_PROFIT, SESSION_CLOSE, MARGIN_CALL, RUIN = range(len(REASONS))

FUNDING, DIVIDENDS, BORROW = range(3)  # rows of `carried`
NOTHING = 1e-12  # a quantity that is none
DUST = 1e-9  # vectorbt takes what is left of a position for nothing below this fraction of it; so does the book


@dataclass
class Fills:
    """Fills of one stage of one bar, in the order in which they were done."""

    bar: int
    symbol: np.ndarray
    quantity: np.ndarray  # positive for a purchase
    price: np.ndarray
    reference: np.ndarray  # the price without slippage
    fee: np.ndarray
    weight: np.ndarray
    reason: np.ndarray  # positions in REASONS


@dataclass
class Refusal:
    """A line of the log for each symbol."""

    bar: int
    symbol: np.ndarray
    weight: np.ndarray
    reason: str


@dataclass
class Book:
    """Cash and one number for each symbol."""

    cash: float
    held: np.ndarray
    before: np.ndarray  # the target of the bar before
    sent: np.ndarray  # the target traded last; NaN after an order that was filled in part
    waiting: np.ndarray  # whether the standing target is still to be sent
    closing: np.ndarray  # reason for which the position is closed at the next open that can be traded, 0 is none
    carried: np.ndarray | None  # (3, symbols): cash received by the position that is open, None where nothing moves
    anchor: np.ndarray  # price of the fill that opened the position
    since: np.ndarray  # and its bar
    best: np.ndarray  # the most favourable of the anchor and the highs (lows of a short) since
    ruined: bool = False
    fills: list[Fills] = field(default_factory=list)
    log: list[Refusal] = field(default_factory=list)
    ended: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # symbols closed, and what they carried

    @classmethod
    def start(cls, cash: float, count: int, *, carries: bool) -> Book:
        """A flat account."""
        return cls(
            cash=float(cash),
            held=np.zeros(count),
            before=np.zeros(count),
            sent=np.zeros(count),
            waiting=np.zeros(count, dtype=bool),
            closing=np.zeros(count, dtype=np.int8),
            carried=np.zeros((3, count)) if carries else None,
            anchor=np.full(count, np.nan),
            since=np.full(count, -1),
            best=np.full(count, np.nan),
        )

    def refuse(self, bar: int, symbol: np.ndarray, weight: np.ndarray, reason: str) -> None:
        """Writes a line of the log for each symbol."""
        if len(symbol):
            self.log.append(Refusal(bar, symbol, weight, reason))

    def fill(self, fills: Fills) -> None:
        """Moves the positions; the cash is moved by who knows the order of the fills."""
        if not len(fills.symbol):
            return
        old = self.held[fills.symbol]
        new = old + fills.quantity
        new[np.abs(new) <= np.maximum(DUST * np.abs(old), NOTHING)] = 0.0
        self.held[fills.symbol] = new
        side, was = np.sign(new), np.sign(old)
        turned = side != was
        if turned.any():
            opened = turned & (side != 0)
            at = fills.symbol[opened]
            self.anchor[at] = self.best[at] = fills.price[opened]
            self.since[at] = fills.bar
            if self.carried is not None:
                ended = fills.symbol[turned & (was != 0)]
                self.ended.append((ended, self.carried[:, ended]))
                self.carried[:, ended] = 0.0
        self.fills.append(fills)

    def carry(self, row: int, received: np.ndarray) -> None:
        """Cash received (paid where negative) by every position."""
        if self.carried is not None:
            self.carried[row] += received
        self.cash += float(received.sum())
