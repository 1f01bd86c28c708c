"""The tables of a result, from the loop and from vectorbt's positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from finsignal.backtest.arrays import Market
from finsignal.backtest.book import BORROW, DIVIDENDS, FUNDING, REASONS, Book
from finsignal.errors import TableError


def to_orders(fills: dict[str, np.ndarray], market: Market) -> pd.DataFrame:
    """One row a fill, by bar and symbol; two of one bar and symbol in the order in which they were done."""
    size = np.abs(fills["quantity"])
    return pd.DataFrame(
        {
            "open_time": _instants(market, fills["bar"]),
            "symbol": _names(market, fills["symbol"]),
            "side": _words(("buy", "sell"), (fills["quantity"] < 0).astype(np.int64)),
            "quantity": size,
            "price": fills["price"],
            "fee": fills["fee"],
            "slippage": np.abs(fills["price"] - fills["reference"]) * size,
            "weight": fills["weight"],
            "reason": _words(REASONS, fills["reason"]),
        },
        copy=False,
    )


def to_rejected(book: Book, market: Market) -> pd.DataFrame:
    """One row a line of the log, by bar and symbol."""
    bar = np.repeat(np.array([line.bar for line in book.log], dtype=np.int64), [len(line.symbol) for line in book.log])
    symbol = np.concatenate([np.zeros(0, dtype=np.int64), *(line.symbol for line in book.log)])
    weight = np.concatenate([np.zeros(0), *(line.weight for line in book.log)])
    words = sorted({line.reason for line in book.log})
    place = {word: number for number, word in enumerate(words)}
    reason = np.repeat(
        np.array([place[line.reason] for line in book.log], dtype=np.int64), [len(line.symbol) for line in book.log]
    )
    order = np.lexsort((symbol, bar))
    return pd.DataFrame(
        {
            "open_time": _instants(market, bar[order]),
            "symbol": _names(market, symbol[order]),
            "weight": weight[order],
            "reason": _words(words, reason[order]),
        }
    )


def to_trades(portfolio: Any, last: np.ndarray, book: Book, market: Market) -> pd.DataFrame:
    """One row a position of vectorbt, by bar of entry and symbol, with the cash that it received and paid."""
    records = portfolio.positions.records
    carried = _carried(records["col"].to_numpy(), book)
    order = np.lexsort((records["col"].to_numpy(), records["entry_idx"].to_numpy()))
    record = {name: records[name].to_numpy()[order] for name in records.columns}
    carried = carried[:, order]
    entry, leave = np.searchsorted(last, record["entry_idx"]), np.searchsorted(last, record["exit_idx"])
    closed = record["status"] == 1
    profit = record["pnl"] + carried.sum(axis=0)
    return pd.DataFrame(
        {
            "trade": np.arange(len(order)),
            "symbol": _names(market, record["col"]),
            "direction": _words(("long", "short"), (record["direction"] != 0).astype(np.int64)),
            "entry_time": _instants(market, entry),
            "exit_time": _instants(market, leave).where(closed),
            "quantity": record["size"],
            "entry_price": record["entry_price"],
            "exit_price": record["exit_price"],
            "fees": record["entry_fees"] + record["exit_fees"],
            "funding": 0.0 - carried[FUNDING],
            "dividends": carried[DIVIDENDS],
            "borrow": 0.0 - carried[BORROW],
            "profit": profit,
            "return": profit / (record["size"] * record["entry_price"]),
            "bars": (leave - entry).astype(np.int64),
            "closed": closed,
        },
        copy=False,
    )


def _carried(columns: np.ndarray, book: Book) -> np.ndarray:
    """Cash received by each of vectorbt's positions, which are in the order of their columns."""
    if book.carried is None:
        return np.zeros((3, len(columns)))
    still = np.flatnonzero(book.held != 0)
    symbol = np.concatenate([*(ended[0] for ended in book.ended), still]).astype(np.int64)
    received = np.concatenate([*(ended[1] for ended in book.ended), book.carried[:, still]], axis=1)
    ours, theirs = np.argsort(symbol, kind="stable"), np.argsort(columns, kind="stable")
    if not np.array_equal(symbol[ours], columns[theirs]):
        raise TableError("backtest: vectorbt finds other positions than the account; please report the tables.")
    out = np.empty_like(received)
    out[:, theirs] = received[:, ours]
    return out


def _instants(market: Market, bar: np.ndarray) -> pd.Series:
    return pd.Series(market.index[bar], copy=False)


def _names(market: Market, symbol: np.ndarray) -> pd.Series:
    return _words(market.symbols, symbol)


def _words(words: list[str] | tuple[str, ...], code: np.ndarray) -> pd.Series:
    """Text by number; the words are looked up, not written out one by one."""
    return pd.Series(pd.array(list(words), dtype="str").take(code), copy=False)
