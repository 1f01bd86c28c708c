"""Target weights and prices to a BacktestResult."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from finsignal.backtest.costs import Costs
from finsignal.errors import ConfigError, TableError, did_you_mean, require
from finsignal.signals import bars_of_rows, known_closes
from finsignal.tables import BARS, FUNDING, INSTANT, PRICES, WEIGHTS, BacktestResult, to_integers

FUNDING_PERIOD = 8 * 3_600_000_000  # microseconds: perpetuals settle at 00:00, 08:00 and 16:00 UTC


def run_backtest(
    prices: pd.DataFrame,
    weights: pd.DataFrame,
    *,
    bars: pd.DataFrame,
    costs: Costs,
    cash: float,
    funding: pd.DataFrame | None = None,
    settings: Mapping[str, Any] | None = None,
) -> BacktestResult:
    """One account, started flat with `cash`, that follows the target weights over their bars.

    An order for a bar fills at that bar's open, worse by the slippage. Its quantity comes from the account's value and
    the last close known at the decision, whatever the gap. An order is sent only where a target changes; a bar that
    did not print is logged in `rejected`, and the order is tried again while the target stands. The sales of a bar go
    before its purchases, and the smaller purchase before the larger. What cash cannot pay is cut and logged; an account
    worth nothing sends no order. A name without a price for the last `delisted_after` bars is closed after its last
    bar at `delisting_return`. What is open at the end is marked at the last close and is not a closed trade.

    Funding is paid on what was held over a settlement: a long pays rate * value where the rate is above 0, a short gets
    it. `funding` (`tables.FUNDING`) holds the rates that were really settled. From a symbol's first row in it to its
    last, these count and nothing else; before, after, and for symbols without rows, the rate that `costs` assumes
    settles at 00:00, 08:00 and 16:00 UTC. A settlement at a bar's open falls on what was held before it, at the open's
    price; one inside a bar on what the bar holds, at its close; one at the end of the last bar is not paid any more.
    Funding is taken from equity and from the trade, and does not change the quantities of later orders.

    Raises TableError where weights, bars and prices do not fit, ConfigError for cash that is not positive.
    """
    PRICES.check(prices)
    WEIGHTS.check(weights)
    BARS.check(bars)
    funding = FUNDING.empty() if funding is None else FUNDING.check(funding)
    if not cash > 0:
        raise ConfigError(f"cash: {cash} must be above 0.")
    symbols = sorted(weights["symbol"].unique())
    first, last = _span(weights, bars, symbols)
    _check_traded(prices, weights, bars)
    index = pd.DatetimeIndex(bars["open_time"])[first:last]
    target = _wide(weights, "weight", symbols)

    known_close = known_closes(prices, bars, symbols)[first:last]
    opens = _on_grid(prices, "open", bars, symbols)[first:last]
    printed = np.isfinite(opens)
    last_close = pd.DataFrame(_on_grid(prices, "close", bars, symbols)).ffill().to_numpy(copy=True)[first:last]

    gone = _delist(opens, last_close, printed, costs)
    size, rejected = _to_orders(target, printed, known_close, gone, index, symbols)
    net = _simulate(index, symbols, opens, last_close, known_close, size, costs.fee, costs.slippage, cash)
    gross = _simulate(index, symbols, opens, last_close, known_close, size, 0.0, 0.0, cash)

    ends = pd.DatetimeIndex(bars["close_time"])[first:last]
    held = net.assets().to_numpy()
    at_open, inside = _funding(_rates(index, ends, symbols, costs.funding_rate, funding), held, opens, last_close)
    paid = (at_open + inside).sum(axis=1).cumsum()
    equity = pd.Series(net.value().to_numpy() - paid, index=index, name="equity")
    gross_equity = pd.Series(gross.value().to_numpy(), index=index, name="gross")
    before = np.concatenate([[cash], equity.to_numpy()[:-1]])
    rejected = pd.concat([rejected, _cut_orders(net, index, symbols)]).sort_values(
        ["open_time", "symbol"], kind="stable", ignore_index=True
    )
    return BacktestResult(
        equity=equity,
        gross=gross_equity,
        returns=pd.Series(equity.to_numpy() / before - 1, index=index, name="returns"),
        weights=pd.DataFrame(target, index=index, columns=symbols),
        orders=_orders(net, index, symbols, opens, size),
        rejected=rejected,
        trades=_trades(net, index, symbols, at_open, inside),
        settings={**(settings or {}), "costs": asdict(costs), "cash": cash, **_told(funding, symbols)},
    )


def hold_weights(bars: pd.DataFrame, symbols: list[str], *, gross: float) -> pd.DataFrame:
    """Target weights of buy and hold: gross / number of symbols in each, from the first bar to the last."""
    rows = pd.concat([bars[["open_time", "time"]].assign(symbol=symbol) for symbol in sorted(symbols)])
    return WEIGHTS.to_table(rows.assign(weight=gross / len(symbols)).astype({"symbol": "str"}))


def _span(weights: pd.DataFrame, bars: pd.DataFrame, symbols: list[str]) -> tuple[int, int]:
    grid = to_integers(bars["open_time"])
    decided = np.unique(to_integers(weights["open_time"]))
    if not len(decided):
        raise TableError("weights: no rows; there is no bar to trade on.")
    first = int(np.searchsorted(grid, decided[0]))
    last = first + len(decided)
    if len(weights) != len(decided) * len(symbols) or not np.array_equal(grid[first:last], decided):
        raise TableError("weights: expected one row for each symbol and each bar of one unbroken run of the grid.")
    return first, last


def _check_traded(prices: pd.DataFrame, weights: pd.DataFrame, bars: pd.DataFrame) -> None:
    known = prices["symbol"].unique()
    strange = sorted(set(weights.loc[weights["weight"] != 0, "symbol"]) - set(known))
    if strange:
        hint = did_you_mean(strange[0], map(str, known))
        raise TableError(f"weights: symbol {strange[0]!r} has a weight but no row of prices.{hint}")
    if len(prices) and (bars_of_rows(prices, bars) < 0).all():
        raise TableError(
            f"prices: no row opens at a bar of the grid ({bars['open_time'].iloc[0]} to {bars['open_time'].iloc[-1]}); "
            "check the market, the bar length and the period."
        )


def _wide(table: pd.DataFrame, column: str, symbols: list[str]) -> np.ndarray:
    return table.pivot(index="open_time", columns="symbol", values=column)[symbols].to_numpy(dtype=np.float64)


def _on_grid(prices: pd.DataFrame, column: str, bars: pd.DataFrame, symbols: list[str]) -> np.ndarray:
    """A price column as (bars, symbols), NaN where a bar did not print. Rows are found by label, never by position."""
    out = np.full((len(bars), len(symbols)), np.nan)
    row = bars_of_rows(prices, bars)
    col = pd.Index(symbols).get_indexer(prices["symbol"])
    ours = (row >= 0) & (col >= 0)
    out[row[ours], col[ours]] = prices[column].to_numpy()[ours]
    return out


def _delist(opens: np.ndarray, last_close: np.ndarray, printed: np.ndarray, costs: Costs) -> np.ndarray:
    """For each symbol the bar at which it is closed for good, or -1; writes the closing price into that bar on."""
    gone = np.full(printed.shape[1], -1)
    for s in range(printed.shape[1]):
        seen = np.flatnonzero(printed[:, s])
        if len(seen) and len(printed) - 1 - seen[-1] >= costs.delisted_after:
            at = int(seen[-1]) + 1
            gone[s] = at
            # vectorbt refuses a price of 0, so a total loss leaves a millionth of a millionth.
            opens[at, s] = last_close[seen[-1], s] * max(1 + costs.delisting_return, 1e-12)
            last_close[at:, s] = opens[at, s]
    return gone


def _to_orders(
    target: np.ndarray,
    printed: np.ndarray,
    known_close: np.ndarray,
    gone: np.ndarray,
    index: pd.DatetimeIndex,
    symbols: list[str],
) -> tuple[np.ndarray, pd.DataFrame]:
    """The target to send at each bar and symbol (NaN: no order), and the bars at which a standing target waited."""
    size = np.full(target.shape, np.nan)
    waits: list[tuple[int, int, str]] = []
    total = len(target)
    for s in range(target.shape[1]):
        tradable = printed[:, s] & np.isfinite(known_close[:, s])
        changes = np.flatnonzero(np.diff(np.concatenate([[0.0], target[:, s]])) != 0)
        filled = 0.0
        for number, k in enumerate(changes):
            until = int(changes[number + 1]) if number + 1 < len(changes) else total
            if 0 <= gone[s] <= k:
                filled = 0.0  # the delisting has closed it
            if filled == target[k, s]:
                continue  # an order that never filled was taken back
            ready = np.flatnonzero(tradable[k:until])
            fill = k + int(ready[0]) if len(ready) else until
            for bar in range(k, fill):
                if printed[bar, s]:
                    reason = "no close known yet"
                else:
                    reason = "delisted" if 0 <= gone[s] <= bar else "bar did not print"
                waits.append((bar, s, reason))
            if fill < until:
                size[fill, s] = filled = target[k, s]
        if gone[s] >= 0 and np.nansum(np.abs(size[: gone[s], s])) > 0:
            size[gone[s], s] = 0.0
    rejected = pd.DataFrame(
        {
            "open_time": pd.Series(index[[w[0] for w in waits]], dtype=INSTANT),
            "symbol": pd.Series([symbols[w[1]] for w in waits], dtype="str"),
            "weight": pd.Series([target[w[0], w[1]] for w in waits], dtype="float64"),
            "reason": pd.Series([w[2] for w in waits], dtype="str"),
        }
    )
    return size, rejected


def _simulate(
    index: pd.DatetimeIndex,
    symbols: list[str],
    opens: np.ndarray,
    closes: np.ndarray,
    known_close: np.ndarray,
    size: np.ndarray,
    fee: float,
    slippage: float,
    cash: float,
) -> Any:
    """The vectorbt portfolio. Every frame is built here on one index and one order of columns; price is explicit."""
    vbt = require("vectorbt", extra="backtest", work="a backtest")

    def frame(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, index=index, columns=symbols)

    orders = np.isfinite(size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vectorbt's own use of pandas and numba; nothing of ours runs in here
        return vbt.Portfolio.from_orders(
            # Before its first bar a symbol has no close; 1.0 keeps 0 units * NaN out of the account's value.
            close=frame(np.where(np.isfinite(closes), closes, 1.0)),
            size=frame(size),
            size_type="targetpercent",
            price=frame(opens),
            val_price=frame(known_close),
            fees=fee,
            slippage=slippage,
            init_cash=cash,
            cash_sharing=True,
            group_by=True,
            call_seq="auto",
            log=frame(orders),
            max_logs=max(int(orders.sum()), 1),
            freq=pd.Timedelta(hours=1),  # only labels durations, which are not read
        )


def _cut_orders(portfolio: Any, index: pd.DatetimeIndex, symbols: list[str]) -> pd.DataFrame:
    """Orders that the account filled for less than their target, or refused."""
    log = portfolio.logs.records
    wanted = (log["req_size"] * log["value"] / log["val_price"] - log["position"]).abs()
    done = log["res_size"].fillna(0.0)
    short = wanted > np.maximum(done * (1 + 1e-9), 1e-12)
    rows = log[short]
    reason = np.where(done[short] > 0, "cut to the cash at hand", "refused: no cash")
    return pd.DataFrame(
        {
            "open_time": pd.Series(index[rows["idx"].to_numpy()], dtype=INSTANT),
            "symbol": pd.Series([symbols[c] for c in rows["col"]], dtype="str"),
            "weight": rows["req_size"].to_numpy(dtype=np.float64),
            "reason": pd.Series(reason, dtype="str"),
        }
    )


def _orders(
    portfolio: Any, index: pd.DatetimeIndex, symbols: list[str], opens: np.ndarray, size: np.ndarray
) -> pd.DataFrame:
    records = portfolio.orders.records.sort_values(["idx", "col"], kind="stable")
    idx, col = records["idx"].to_numpy(), records["col"].to_numpy()
    quantity, price = records["size"].to_numpy(), records["price"].to_numpy()
    return pd.DataFrame(
        {
            "open_time": pd.Series(index[idx], dtype=INSTANT),
            "symbol": pd.Series([symbols[c] for c in col], dtype="str"),
            "side": pd.Series(np.where(records["side"].to_numpy() == 0, "buy", "sell"), dtype="str"),
            "quantity": quantity,
            "price": price,
            "fee": records["fees"].to_numpy(),
            "slippage": np.abs(price - opens[idx, col]) * quantity,
            "weight": size[idx, col],
        }
    )


def _trades(
    portfolio: Any, index: pd.DatetimeIndex, symbols: list[str], at_open: np.ndarray, inside: np.ndarray
) -> pd.DataFrame:
    records = portfolio.positions.records.sort_values(["entry_idx", "col"], kind="stable")
    entry, leave, col = (records[c].to_numpy() for c in ("entry_idx", "exit_idx", "col"))
    closed = records["status"].to_numpy() == 1
    # A position pays inside every bar from its entry to before its exit, and at every open after its entry's.
    spans = zip(entry, leave, leave + ~closed, col, strict=True)
    paid = np.array(
        [at_open[a + 1 : b + 1, c].sum() + inside[a:end, c].sum() for a, b, end, c in spans], dtype=np.float64
    )
    value = records["size"].to_numpy() * records["entry_price"].to_numpy()
    profit = records["pnl"].to_numpy() - paid
    exits = pd.Series(index[leave], dtype=INSTANT).where(closed)
    return pd.DataFrame(
        {
            "trade": np.arange(len(records)),
            "symbol": pd.Series([symbols[c] for c in col], dtype="str"),
            "direction": pd.Series(np.where(records["direction"].to_numpy() == 0, "long", "short"), dtype="str"),
            "entry_time": pd.Series(index[entry], dtype=INSTANT),
            "exit_time": exits,
            "quantity": records["size"].to_numpy(),
            "entry_price": records["entry_price"].to_numpy(),
            "exit_price": records["exit_price"].to_numpy(),
            "fees": records["entry_fees"].to_numpy() + records["exit_fees"].to_numpy(),
            "funding": paid,
            "profit": profit,
            "return": profit / value,
            "bars": (leave - entry).astype(np.int64),
            "closed": closed,
        }
    )


def _told(funding: pd.DataFrame, symbols: list[str]) -> dict[str, Any]:
    """For the settings of a result: which symbols have settled rates, and from when to when."""
    own = funding[funding["symbol"].isin(symbols)].groupby("symbol")["time"]
    spans = {
        str(symbol): {"first": times.min().isoformat(), "last": times.max().isoformat(), "rows": len(times)}
        for symbol, times in own
    }
    return {"funding": spans} if spans else {}


def _rates(
    index: pd.DatetimeIndex, ends: pd.DatetimeIndex, symbols: list[str], assumed: float, funding: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the rates that settle at each bar's open, and between its open and the next, as (bars, symbols)."""
    start = to_integers(index)
    # Up to the next open, not the bar's end: a settlement while the market is closed counts too.
    stop = int(to_integers(ends)[-1])
    at_open, inside = np.zeros((2, len(start), len(symbols)))
    regular = np.arange(-(-int(start[0]) // FUNDING_PERIOD) * FUNDING_PERIOD, stop, FUNDING_PERIOD)
    for s, symbol in enumerate(symbols):
        own = funding[funding["symbol"] == symbol]
        times, rates = to_integers(own["time"]), own["rate"].to_numpy()
        free = regular[(regular < times[0]) | (regular > times[-1])] if len(times) else regular
        times = np.concatenate([times, free])
        rates = np.concatenate([rates, np.full(len(free), assumed)])
        held = (times >= start[0]) & (times < stop)
        bar = np.searchsorted(start, times[held], side="right") - 1
        opens = start[bar] == times[held]
        np.add.at(at_open[:, s], bar[opens], rates[held][opens])
        np.add.at(inside[:, s], bar[~opens], rates[held][~opens])
    return at_open, inside


def _funding(
    rates: tuple[np.ndarray, np.ndarray], held: np.ndarray, opens: np.ndarray, closes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cash paid by longs (minus: received by shorts) at each bar and symbol: at its open, and between open and end.

    What settles at the open itself falls on what was held before it, at the open's price; what settles inside a bar (a
    daily bar holds two more) falls on what the bar holds, at its close.
    """
    at_open, inside = rates
    before = np.vstack([np.zeros((1, held.shape[1])), held[:-1]])
    close = np.nan_to_num(closes)
    price = np.where(np.isfinite(opens), opens, close)
    return at_open * before * price, inside * held * close
