"""The orders at the open of a bar: who sends one, in which order they are done, and what they fill for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finsignal.backtest.arrays import Market
from finsignal.backtest.book import DELISTED, NOTHING, REASONS, SESSION_CLOSE, TARGET, Book, Fills
from finsignal.backtest.pricing import Terms

NO_CASH = "refused: no cash"
BELOW_ONE_LOT = "less than one lot"
CUT_TO_CASH = "cut to the cash at hand"
CUT_TO_VOLUME = "cut to its share of the volume"
NOT_PRINTED = "bar did not print"


@dataclass
class Batch:
    """Orders of one bar: an array each, one place an order."""

    symbol: np.ndarray
    reason: np.ndarray
    weight: np.ndarray
    quantity: np.ndarray
    cut: np.ndarray  # whether the volume cut it: the rest is tried again

    def take(self, which: np.ndarray) -> Batch:
        """Some of the orders, by mask or by position."""
        return Batch(self.symbol[which], self.reason[which], self.weight[which], self.quantity[which], self.cut[which])


def trade_open(book: Book, market: Market, terms: Terms, k: int, cash_before: float) -> None:
    """Sends and fills the orders of bar k. `cash_before` is the cash before anything of this bar."""
    _read_targets(book, market, k)
    symbol, reason = _collect(book, market, k)
    if not len(symbol):
        return
    known = market.known[k]
    holds = book.held != 0
    value = cash_before + float(book.held[holds] @ known[holds])
    weight = np.where(reason == TARGET, market.target[k, symbol], 0.0)
    held, close = book.held[symbol], known[symbol]
    wanted = np.where(weight == 0, 0.0, terms.truncate(weight * value / close, symbol))
    batch = Batch(symbol, reason, weight, wanted - held, np.zeros(len(symbol), dtype=bool))
    batch = _check(batch, book, market, terms, k, value)
    if len(batch.symbol):
        _fill(batch, book, market, terms, k, value)


def limit(batch: Batch, book: Book, market: Market, terms: Terms, k: int) -> Batch:
    """Those of the orders that volume and volatility allow, cut to what they allow; the log tells of the others."""
    if market.volume is not None:
        unknown = ~(market.volume[k, batch.symbol] > 0) & (batch.reason != DELISTED)
        batch = _wait(batch, unknown, book, k, "volume not known yet")
    if market.volatility is not None:
        unknown = np.isnan(market.volatility[k, batch.symbol]) & (batch.reason != DELISTED)
        batch = _wait(batch, unknown, book, k, "volatility not known yet")
    if terms.orders.volume_share > 0 and market.volume is not None:
        most = terms.orders.volume_share * market.volume[k, batch.symbol]
        over = (np.abs(batch.quantity) > most) & (batch.reason != DELISTED)
        if over.any():
            cut = terms.truncate(np.sign(batch.quantity) * np.where(over, most, 0.0), batch.symbol)
            batch.quantity = np.where(over, cut, batch.quantity)
            batch.cut = over
            book.refuse(k, batch.symbol[over], batch.weight[over], CUT_TO_VOLUME)
            batch = batch.take(np.abs(batch.quantity) > NOTHING)
    return batch


def _read_targets(book: Book, market: Market, k: int) -> None:
    """What is still to be sent after the targets of this bar were read."""
    target = market.target[k]
    dying = market.gone == k
    if dying.any():
        book.sent[dying] = 0.0
        book.closing[dying] = 0
    changed = target != book.before
    if changed.any():
        if book.ruined:
            new = np.flatnonzero(changed & (target != 0))
            book.refuse(k, new, target[new], "refused: ruined")
        else:
            np.copyto(book.waiting, target != book.sent, where=changed)
        book.before = target


def _collect(book: Book, market: Market, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols, ascending, that send an order at this open, and for what; the log tells which must wait."""
    target, printed = market.target[k], np.isfinite(market.opens[k])
    ready = book.waiting.copy()
    dying = (market.gone == k) & (book.held != 0)
    closing = book.closing != 0
    if closing.any():
        closing &= (book.closing != SESSION_CLOSE) | (target == 0)
        held_up = ready & closing
        for code in np.unique(book.closing[held_up]):
            which = np.flatnonzero(held_up & (book.closing == code))
            book.refuse(k, which, target[which], REASONS[code])
        ready &= ~closing
        waits = np.flatnonzero(closing & ~printed)
        book.refuse(k, waits, np.zeros(len(waits)), NOT_PRINTED)
        closing &= printed
    if ready.any():
        silent = ready & ~printed
        if silent.any():
            dead = (market.gone >= 0) & (market.gone <= k)
            for mask, why in ((silent & dead, "delisted"), (silent & ~dead, NOT_PRINTED)):
                which = np.flatnonzero(mask)
                book.refuse(k, which, target[which], why)
        blind = np.flatnonzero(ready & printed & np.isnan(market.known[k]))
        book.refuse(k, blind, target[blind], "no close known yet")
        ready &= printed & ~np.isnan(market.known[k])
    symbol = np.flatnonzero(ready | closing | dying)
    reason = np.where(ready[symbol], TARGET, np.where(dying[symbol], DELISTED, book.closing[symbol]))
    return symbol, reason


def _check(batch: Batch, book: Book, market: Market, terms: Terms, k: int, value: float) -> Batch:
    """The orders that are done; the log tells why others are not."""
    nothing = np.abs(batch.quantity) <= NOTHING
    if nothing.any():
        if terms.lots is not None:
            lost = nothing & (batch.weight != 0) & (terms.lots[batch.symbol] > 0)
            book.refuse(k, batch.symbol[lost], batch.weight[lost], BELOW_ONE_LOT)
        _settle(batch.take(nothing), book)
        batch = batch.take(~nothing)
    sized = batch.weight != 0  # an exit needs no value to be sized by
    if value <= 0 and sized.any():
        refused = batch.take(sized)
        book.refuse(k, refused.symbol, refused.weight, NO_CASH)
        _settle(refused, book)
        batch = batch.take(~sized)
    if terms.orders.min_notional > 0:
        notional = np.abs(batch.quantity) * market.known[k, batch.symbol]
        small = (batch.weight != 0) & (notional < terms.orders.min_notional)
        book.refuse(k, batch.symbol[small], batch.weight[small], "below the smallest order")
        _settle(batch.take(small), book)
        batch = batch.take(~small)
    return limit(batch, book, market, terms, k)


def _wait(batch: Batch, unknown: np.ndarray, book: Book, k: int, reason: str) -> Batch:
    if not unknown.any():
        return batch
    book.refuse(k, batch.symbol[unknown], batch.weight[unknown], reason)
    return batch.take(~unknown)


def _settle(batch: Batch, book: Book) -> None:
    """These orders are not tried again."""
    symbol, of_target = batch.symbol, batch.reason == TARGET
    book.closing[symbol] = 0
    book.sent[symbol[of_target]] = batch.weight[of_target]
    book.waiting[symbol[of_target]] = False


def _fill(batch: Batch, book: Book, market: Market, terms: Terms, k: int, value: float) -> None:
    costs = terms.costs
    reference = market.opens[k, batch.symbol]
    slip = terms.slip(batch.quantity, batch.symbol, market, k)
    delisted = batch.reason == DELISTED
    if delisted.any():
        # A price of 0 is none for vectorbt, so a total loss leaves a millionth of a millionth.
        last = market.marks[k, batch.symbol] * max(1 + costs.delisting_return, 1e-12)
        reference, slip = np.where(delisted, last, reference), np.where(delisted, costs.slippage, slip)
    price = reference * (1 + np.sign(batch.quantity) * slip)
    fee = terms.fee_of(batch.quantity, price)
    quantity, fee = _pay(batch, price, fee, book, market, terms, k, value)
    done = quantity != 0
    poor = quantity != batch.quantity
    book.fill(Fills(k, *(v[done] for v in (batch.symbol, quantity, price, reference, fee, batch.weight, batch.reason))))
    rest = batch.cut & ~poor
    if rest.any():
        of_target = batch.symbol[rest & (batch.reason == TARGET)]
        book.sent[of_target] = np.nan
        book.closing[of_target] = 0
        _settle(batch.take(~rest), book)
    else:
        _settle(batch, book)


def _pay(
    batch: Batch, price: np.ndarray, fee: np.ndarray, book: Book, market: Market, terms: Terms, k: int, value: float
) -> tuple[np.ndarray, np.ndarray]:
    """Quantities and fees after cash has set its limit; moves the cash.

    Sales first, then purchases from the smallest: by the change of value that each was meant to make. What covers a
    short is bought whatever the cash: a cover that is cut counts as sent, and the rest of the short would stay.
    """
    cover = np.minimum(np.maximum(-book.held[batch.symbol], 0.0), np.maximum(batch.quantity, 0.0))
    limited = (batch.reason == TARGET) & (batch.quantity - cover > NOTHING)
    spent = batch.quantity * price + fee
    snap = NOTHING * abs(value)  # cash below it is rounding
    if spent[spent > 0].sum() < book.cash - snap:  # all can be paid, in whatever order
        book.cash -= float(spent.sum())
        return batch.quantity, fee
    known = market.known[k, batch.symbol]
    order = np.argsort(batch.weight * value - book.held[batch.symbol] * known, kind="stable")
    running = np.subtract.accumulate(np.concatenate([[book.cash], spent[order]]))
    hard = (limited[order] & (spent[order] > running[:-1] * (1 + 1e-9))) | (np.abs(running[1:]) <= snap)
    if not hard.any():
        book.cash = float(running[-1])
        return batch.quantity, fee
    quantity, fee = batch.quantity.copy(), fee.copy()
    first = int(hard.argmax())
    cash = float(running[first])
    for place in order[first:]:
        if limited[place] and spent[place] > cash * (1 + 1e-9):
            where = batch.symbol[place : place + 1], batch.weight[place : place + 1]
            beyond = max(terms.affordable(cash, float(price[place])) - cover[place], 0.0)
            most = cover[place] + terms.truncate(np.array([beyond]), where[0])[0]
            if most <= NOTHING:
                quantity[place] = fee[place] = 0.0
                book.refuse(k, *where, NO_CASH)
                continue
            quantity[place] = most
            fee[place] = terms.fee_of(quantity[place : place + 1], price[place : place + 1])[0]
            book.refuse(k, *where, CUT_TO_CASH)
        cash -= float(quantity[place] * price[place] + fee[place])
        if abs(cash) <= snap:
            cash = 0.0
    book.cash = cash
    return quantity, fee
