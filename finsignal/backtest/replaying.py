"""The fills once more in vectorbt, which gives positions and value, and must find what the loop found."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from finsignal.backtest.arrays import Market
from finsignal.backtest.book import Fills
from finsignal.errors import TableError, require

AGREE = 1e-9  # of the cash


def join_fills(fills: list[Fills], count: int) -> dict[str, np.ndarray]:
    """All fills as one array for each field, by bar and symbol, those of one bar and symbol as they were done.

    `key` is bar * count + symbol, and `rank` counts the fills of the same bar and symbol before each.
    """
    names = ("symbol", "quantity", "price", "reference", "fee", "weight", "reason")
    empty: dict[str, np.ndarray] = {name: np.zeros(0) for name in names}
    empty |= {"symbol": np.zeros(0, dtype=np.int64), "reason": np.zeros(0, dtype=np.int64)}
    joined = {name: np.concatenate([empty[name], *(getattr(fill, name) for fill in fills)]) for name in names}
    bars = np.array([fill.bar for fill in fills], dtype=np.int64)
    joined["bar"] = np.repeat(bars, [len(fill.symbol) for fill in fills])
    joined["key"] = joined["bar"] * count + joined["symbol"]
    step = np.diff(joined["key"])
    if (step < 0).any():
        order = np.argsort(joined["key"], kind="stable")
        joined = {name: values[order] for name, values in joined.items()}
        step = np.diff(joined["key"])
    starts = np.flatnonzero(np.concatenate([[True], step != 0]))[: len(joined["key"])]
    sizes = np.diff(np.append(starts, len(joined["key"])))
    joined["rank"] = np.arange(len(joined["key"])) - np.repeat(starts, sizes)
    return joined


def simulate_fills(market: Market, fills: dict[str, np.ndarray], cash: float) -> tuple[Any, np.ndarray, float]:
    """The vectorbt portfolio, the row of each bar's close in it, and the cash it has more than the account.

    vectorbt holds one order a column and row, so a bar in which a symbol fills twice has two rows. Its cash knows no
    flows, and it fills a bar's orders column by column: more cash keeps it from cutting what the account has paid for.
    """
    vbt = require("vectorbt", extra="backtest", work="a backtest")
    bars, count = market.target.shape
    rows = np.ones(bars, dtype=np.int64)
    again = fills["rank"] > 0
    np.maximum.at(rows, fills["bar"][again], fills["rank"][again] + 1)
    last = rows.cumsum() - 1
    row = (last - rows + 1)[fills["bar"]] + fills["rank"]
    order = np.lexsort((fills["symbol"], row)) if again.any() else slice(None)
    spent = fills["quantity"] * fills["price"]
    more = cash + max(0.0, -float((-spent - fills["fee"])[order].cumsum().min(initial=0.0)))
    # vectorbt refuses a sale that brings less than its fee; such a fee is put in afterwards.
    fee = np.where(spent < 0, np.minimum(fills["fee"], -spent), fills["fee"])

    place = row * count + fills["symbol"]

    def wide(values: np.ndarray) -> pd.DataFrame:
        out = np.full((int(last[-1]) + 1) * count, np.nan)
        out[place] = values
        return pd.DataFrame(out.reshape(-1, count), copy=False)

    closes = np.where(market.marks > 0, market.marks, 1.0)  # before its first close a symbol needs some price
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vectorbt's own use of pandas and numba; nothing of ours runs in here
        portfolio = vbt.Portfolio.from_orders(
            close=pd.DataFrame(np.repeat(closes, rows, axis=0) if again.any() else closes, copy=False),
            size=wide(fills["quantity"]),
            size_type="amount",
            price=wide(fills["price"]),
            fixed_fees=wide(fee),
            init_cash=cash + more,
            cash_sharing=True,
            group_by=True,
            max_orders=max(len(spent), 1),
            freq=pd.Timedelta(hours=1),  # only labels durations, which are not read
        )
    if (fee != fills["fee"]).any() and len(portfolio.orders.records) == len(spent):
        records = portfolio.order_records.copy()
        records["fees"] = fills["fee"][order]
        portfolio = portfolio.replace(order_records=records)
    return portfolio, last, more


def check_replay(
    portfolio: Any,
    last: np.ndarray,
    more: float,
    equity: np.ndarray,
    flows: np.ndarray,
    cash: float,
    fills: dict[str, np.ndarray],
) -> None:
    """Raises TableError where the equity at some close by vectorbt is not that of the loop."""
    value = np.asarray(portfolio.value())[last] - more + flows.sum(axis=0).cumsum()
    allowed = AGREE * max(cash, float(np.abs(equity).max()))
    records = portfolio.orders.records
    if len(records) != len(fills["bar"]) or not np.abs(value - equity).max() <= allowed:
        raise TableError(
            f"backtest: vectorbt replays {len(records)} of {len(fills['bar'])} fills and differs by "
            f"{np.abs(value - equity).max():.3g} from the account; expected at most {allowed:.3g}. Check the prices "
            "for values far apart, and report the tables."
        )
