"""Closes inside a bar: stops and take profits that rest in the market, and the close of a session."""

from __future__ import annotations

import numpy as np

from finsignal.backtest.arrays import Market
from finsignal.backtest.book import NOTHING, SESSION_CLOSE, STOP_LOSS, TAKE_PROFIT, TRAILING_STOP, Book, Fills
from finsignal.backtest.opening import NOT_PRINTED, Batch, limit
from finsignal.backtest.pricing import Terms
from finsignal.signals import ExitRules


def trigger_stops(book: Book, market: Market, terms: Terms, exits: ExitRules, k: int) -> None:
    """Closes every position whose stop or take profit lay within bar k; the stop where both did.

    Of a bar only open, high and low are known, not which came first: a stop and a target in one bar are taken for the
    stop. A level that the bar opened beyond fills at the open, on the bar of the entry at the level.
    """
    at = np.flatnonzero((book.held != 0) & np.isfinite(market.opens[k]))
    if not len(at) or market.highs is None or market.lows is None:
        return
    side = np.sign(book.held[at])
    # A short is a long of the mirrored prices: its highs are the lows, and everything with the other sign.
    high, low = market.highs[k, at], market.lows[k, at]
    worst, most = np.where(side > 0, low, -high), np.where(side > 0, high, -low)
    first, anchor, best = side * market.opens[k, at], side * book.anchor[at], side * book.best[at]
    held_before = book.since[at] < k
    stop = anchor - np.abs(anchor) * exits.stop_loss if exits.stop_loss else np.full(len(at), -np.inf)
    trail = best - np.abs(best) * exits.trailing_stop if exits.trailing_stop else np.full(len(at), -np.inf)
    goal = anchor + np.abs(anchor) * exits.take_profit if exits.take_profit else np.full(len(at), np.inf)
    level = np.maximum(stop, trail)
    stopped = worst <= level
    won = ~stopped & (most >= goal)
    gone = stopped | won
    if gone.any():
        price = np.where(stopped, level, goal)
        gapped = np.where(stopped, np.minimum(first, level), np.maximum(first, goal))
        reference = side * np.where(held_before, gapped, price)
        why = np.where(won, TAKE_PROFIT, np.where(stop >= trail, STOP_LOSS, TRAILING_STOP))
        _close(book, market, terms, k, at[gone], reference[gone], why[gone])
    stay = at[~gone]
    up = book.held[stay] > 0
    high, low = market.highs[k, stay], market.lows[k, stay]
    book.best[stay] = np.where(up, np.maximum(book.best[stay], high), np.minimum(book.best[stay], low))


def close_session(book: Book, market: Market, terms: Terms, k: int) -> None:
    """Closes all positions at the close of bar k, the last of its session; every target then counts as 0."""
    at = np.flatnonzero(book.held != 0)
    book.before = np.zeros(len(book.held))
    book.sent[:] = 0.0
    book.waiting[:] = False
    if not len(at):
        return
    printed = np.isfinite(market.opens[k, at])
    book.closing[at] = np.where(book.closing[at] == 0, SESSION_CLOSE, book.closing[at])
    book.refuse(k, at[~printed], np.zeros(int((~printed).sum())), NOT_PRINTED)
    at = at[printed]
    none = np.zeros(len(at))
    batch = Batch(at, np.full(len(at), SESSION_CLOSE), none, -book.held[at], none.astype(bool))
    batch = limit(batch, book, market, terms, k)
    if not len(batch.symbol):
        return
    reference = market.closes[k, batch.symbol]
    slip = terms.slip(batch.quantity, batch.symbol, market, k)
    price = reference * (1 + np.sign(batch.quantity) * slip)
    _book(book, terms, k, batch.symbol, batch.quantity, price, reference, batch.reason, maker=False)
    flat = np.abs(book.held[batch.symbol]) <= NOTHING
    book.closing[batch.symbol[flat]] = 0


def _close(
    book: Book, market: Market, terms: Terms, k: int, at: np.ndarray, reference: np.ndarray, why: np.ndarray
) -> None:
    quantity = -book.held[at]
    won = why == TAKE_PROFIT
    slip = np.where(won, 0.0, terms.slip(quantity, at, market, k))
    price = reference * (1 + np.sign(quantity) * slip)
    _book(book, terms, k, at, quantity, price, reference, why, maker=won)
    book.sent[at] = 0.0
    book.waiting[at] = False
    book.closing[at] = 0


def _book(
    book: Book,
    terms: Terms,
    k: int,
    at: np.ndarray,
    quantity: np.ndarray,
    price: np.ndarray,
    reference: np.ndarray,
    why: np.ndarray,
    *,
    maker: bool | np.ndarray,
) -> None:
    """Fills that cash does not limit: a position that must be left is left."""
    fee = terms.fee_of(quantity, price, maker=maker)
    book.cash -= float((quantity * price + fee).sum())
    book.fill(Fills(k, at, quantity, price, reference, fee, np.zeros(len(at)), why))
