"""Target weights and prices to a BacktestResult."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from finsignal.backtest.account import walk_bars
from finsignal.backtest.arrays import to_market
from finsignal.backtest.book import BORROW, FUNDING
from finsignal.backtest.cashflows import tell_funding, to_dividends, to_rates
from finsignal.backtest.costs import NO_RULES, Costs, OrderRules
from finsignal.backtest.pricing import Terms
from finsignal.backtest.replaying import check_replay, join_fills, simulate_fills
from finsignal.backtest.results import to_orders, to_rejected, to_trades
from finsignal.errors import ConfigError, TableError
from finsignal.metrics import to_returns
from finsignal.signals import NO_EXITS, ExitRules
from finsignal.tables import ACTIONS, BARS, FLOWS, PRICES, WEIGHTS, BacktestResult
from finsignal.tables import FUNDING as FUNDING_TABLE


def run_backtest(
    prices: pd.DataFrame,
    weights: pd.DataFrame,
    *,
    bars: pd.DataFrame,
    costs: Costs,
    cash: float,
    orders: OrderRules = NO_RULES,
    exits: ExitRules = NO_EXITS,
    gross: float | None = None,
    funding: pd.DataFrame | None = None,
    dividends: pd.DataFrame | None = None,
    settings: Mapping[str, Any] | None = None,
) -> BacktestResult:
    """One account, started flat with `cash`, that follows the target weights over their bars.

    An order for a bar fills at that bar's open, worse by the slippage. Its quantity comes from the account's value and
    the last close known at the decision, whatever the gap, in whole lots. An order is sent only where a target changes;
    a bar that did not print is logged in `rejected`, and the order is tried again while the target stands, as is what
    was cut to its share of the volume. The sales of a bar go before its purchases, and the smaller purchase before the
    larger. What cash cannot pay is cut and logged, but never the part that covers a short: cash then falls below 0 and
    pays `loan_interest`. An account worth nothing at the known closes only leaves positions. A name without a price for
    the last `delisted_after` bars is closed after its last bar at `delisting_return`. What is open at the end is marked
    at the last close and is not a closed trade.

    Cash moves without an order too, and what it then is sizes later orders. Funding falls on what was held over a
    settlement: a long pays rate * value where the rate is above 0, a short gets it. `funding` (`tables.FUNDING`) holds
    the rates that were really settled. From a symbol's first row in it to its last, these count and nothing else;
    before, after, and for symbols without rows, the rate that `costs` assumes settles at 00:00, 08:00 and 16:00 UTC. A
    settlement at a bar's open falls on what was held before it, at the open's price; one inside a bar on what the bar
    holds, at its close; one at the end of the last bar is not paid any more. `dividends` (`tables.ACTIONS`; its splits
    are not read, prices hold them) are cash per unit of `prices`, received by longs and paid by shorts at the first
    open at or after their time. Borrow of shorts and interest accrue by the time that passes, over nights too.

    Of `exits` the account carries out `resting`, stops and take profits that fill inside a bar (a stop before a take
    profit of the same bar, the open where the bar gapped over the level), and `session_close`. Equity at or below 0 is
    ruin: all is closed at the next opens, nothing is sent any more, and the return is -1 there and 0 from then on.
    Equity below `costs.maintenance` of the positions is a margin call: all is closed, and only targets that change
    later are followed.

    `gross` is the stated limit of the sum of absolute weights, checked where it is given. Raises TableError where it is
    passed, and where weights, bars and prices do not fit; ConfigError for cash that is not positive.
    """
    PRICES.check(prices)
    WEIGHTS.check(weights)
    BARS.check(bars)
    funding = FUNDING_TABLE.empty() if funding is None else FUNDING_TABLE.check(funding)
    if dividends is not None:
        ACTIONS.check(dividends)
    if not 0 < cash < float("inf"):
        raise ConfigError(f"cash: {cash} must be above 0.")
    market = to_market(prices, weights, bars, costs=costs, orders=orders, exits=exits)
    if gross is not None:
        _check_gross(market.target, gross, market.index)
    walked = walk_bars(
        market,
        Terms.of(costs, orders, market.symbols),
        exits,
        cash,
        rates=to_rates(market, costs.funding_rate, funding),
        dividends=to_dividends(market, dividends),
    )
    fills = join_fills(walked.book.fills, len(market.symbols))
    portfolio, last, more = simulate_fills(market, fills, cash)
    check_replay(portfolio, last, more, walked.equity, walked.flows, cash, fills)
    value = walked.equity  # vectorbt's has lost its last digits to the cash that lets every fill be replayed

    index = market.index
    paid = np.zeros(len(index))
    np.add.at(
        paid, fills["bar"], fills["fee"] + np.abs(fills["price"] - fills["reference"]) * np.abs(fills["quantity"])
    )
    paid -= walked.flows[FUNDING] + walked.flows[BORROW]
    told: dict[str, Any] = {"costs": asdict(costs), "cash": cash}
    if orders != NO_RULES:
        told["orders"] = asdict(orders)
    if exits != NO_EXITS:
        told["exits"] = asdict(exits)
    return BacktestResult(
        equity=pd.Series(value, index=index, name="equity"),
        gross=pd.Series(value + paid.cumsum(), index=index, name="gross"),
        returns=pd.Series(to_returns(value, cash=cash), index=index, name="returns"),
        weights=pd.DataFrame(market.target, index=index, columns=market.symbols),
        orders=to_orders(fills, market),
        rejected=to_rejected(walked.book, market),
        trades=to_trades(portfolio, last, walked.book, market),
        flows=pd.DataFrame(dict(zip(FLOWS, walked.flows, strict=True)), index=index),
        settings={**(settings or {}), **told, **tell_funding(funding, market.symbols)},
    )


def hold_weights(bars: pd.DataFrame, symbols: list[str], *, gross: float) -> pd.DataFrame:
    """Target weights of buy and hold: gross / number of symbols in each, from the first bar to the last."""
    rows = pd.concat([bars[["open_time", "time"]].assign(symbol=symbol) for symbol in sorted(symbols)])
    return WEIGHTS.to_table(rows.assign(weight=gross / len(symbols)).astype({"symbol": "str"}))


def _check_gross(target: np.ndarray, gross: float, index: pd.DatetimeIndex) -> None:
    total = np.abs(target).sum(axis=1)
    over = total > gross + 1e-9
    if over.any():
        bar = int(over.argmax())
        raise TableError(
            f"weights: the absolute weights of {index[bar]} sum to {total[bar]:.6g}, above the gross limit of {gross}; "
            "scale them, or state the limit that is meant."
        )
