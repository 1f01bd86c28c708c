"""The loop: one account through the bars of a run, with every fill, every flow of cash and its value at each close."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finsignal.backtest.arrays import Market
from finsignal.backtest.book import BORROW, DIVIDENDS, FUNDING, MARGIN_CALL, REASONS, RUIN, Book
from finsignal.backtest.opening import trade_open
from finsignal.backtest.pricing import Terms
from finsignal.backtest.stopping import close_session, trigger_stops
from finsignal.signals import ExitRules
from finsignal.tables import FLOWS

YEAR = 365 * 86_400 * 1e6  # microseconds
INTEREST = 3


@dataclass(frozen=True)
class Walked:
    """What the loop found."""

    book: Book  # as it is at the end
    equity: np.ndarray  # at each close
    flows: np.ndarray  # (4, bars): cash received, in the order of FLOWS


def walk_bars(
    market: Market,
    terms: Terms,
    exits: ExitRules,
    cash: float,
    *,
    rates: tuple[np.ndarray, np.ndarray] | None,
    dividends: np.ndarray | None,
) -> Walked:
    """The account of a run, bar by bar."""
    bars, count = market.target.shape
    carries = rates is not None or dividends is not None or terms.borrow is not None
    book = Book.start(cash, count, carries=carries)
    flows, equity = np.zeros((len(FLOWS), bars)), np.empty(bars)
    accrues = terms.borrow is not None or terms.costs.interest > 0 or terms.costs.loan_interest > 0
    for k in range(bars):
        mark = market.marks[k]
        cash_before = book.cash
        if dividends is not None:
            flows[DIVIDENDS, k] += _receive(book, DIVIDENDS, book.held * dividends[k])
        if rates is not None:
            price = np.where(np.isfinite(market.opens[k]), market.opens[k], mark)
            flows[FUNDING, k] += _receive(book, FUNDING, -book.held * price * rates[0][k])
        trade_open(book, market, terms, k, cash_before)
        if exits.resting:
            trigger_stops(book, market, terms, exits, k)
        if rates is not None:
            flows[FUNDING, k] += _receive(book, FUNDING, -book.held * mark * rates[1][k])
        if accrues:
            flows[:, k] += _accrue(book, terms, mark, market.end[k] - market.start[k])
        if exits.session_close and market.sessions[k]:
            close_session(book, market, terms, k)
        if accrues and k + 1 < bars:
            flows[:, k] += _accrue(book, terms, mark, market.start[k + 1] - market.end[k])
        equity[k] = book.cash + float(book.held @ mark)
        _watch(book, terms, mark, k, equity[k])
    return Walked(book, equity, flows)


def _receive(book: Book, row: int, received: np.ndarray) -> float:
    book.carry(row, received)
    return float(received.sum())


def _accrue(book: Book, terms: Terms, mark: np.ndarray, span: int) -> np.ndarray:
    """Borrow and interest over a span of time, on what is held and on the cash at its start, in the order of FLOWS."""
    out = np.zeros(len(FLOWS))
    if span <= 0:
        return out
    years = float(span) / YEAR
    short = np.minimum(book.held, 0.0) * mark  # below 0
    free, costs = book.cash + float(short.sum()), terms.costs
    if free > 0:
        out[INTEREST] += free * costs.interest * years
    if book.cash < 0:
        out[INTEREST] += book.cash * costs.loan_interest * years
    book.cash += out[INTEREST]
    if terms.borrow is not None:
        out[BORROW] = _receive(book, BORROW, short * terms.borrow * years)
    return out


def _watch(book: Book, terms: Terms, mark: np.ndarray, k: int, equity: float) -> None:
    """Ruin and margin calls: everything is closed at the next opens, and what was wanted so far is no longer sent."""
    if book.ruined:
        return
    reason = None
    if equity <= 0:
        book.ruined, reason = True, RUIN
    elif terms.costs.maintenance > 0 and equity < terms.costs.maintenance * float(np.abs(book.held) @ mark):
        reason = MARGIN_CALL
    if reason is None:
        return
    held = np.flatnonzero(book.held != 0)
    book.refuse(k, held, np.zeros(len(held)), REASONS[reason])
    book.closing[held] = reason
    book.sent[:] = 0.0
    book.waiting[:] = False
