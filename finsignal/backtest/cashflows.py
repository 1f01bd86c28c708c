"""Cash that moves without an order: funding and dividends, placed on the bars of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from finsignal.backtest.arrays import Market
from finsignal.features.grid import rows_of
from finsignal.tables import to_integers

FUNDING_PERIOD = 8 * 3_600_000_000  # microseconds: perpetuals settle at 00:00, 08:00 and 16:00 UTC


def to_rates(market: Market, assumed: float, funding: pd.DataFrame) -> tuple[np.ndarray, np.ndarray] | None:
    """Sums of the rates that settle at each bar's open, and between its open and the next; None where there are none.

    From a symbol's first row in `funding` to its last, its rows count and nothing else; elsewhere the assumed rate.
    """
    if not assumed and not funding["symbol"].isin(market.symbols).any():
        return None
    start = market.start
    # Up to the next open, not the bar's end: a settlement while the market is closed counts too.
    stop = int(market.end[-1])
    at_open, inside = np.zeros((2, *market.target.shape))
    regular = np.arange(-(-int(start[0]) // FUNDING_PERIOD) * FUNDING_PERIOD, stop, FUNDING_PERIOD)
    settled, rate_of = to_integers(funding["time"]), funding["rate"].to_numpy()
    rows = rows_of(funding["symbol"], market.symbols)
    for s, symbol in enumerate(market.symbols):
        own = rows.get(symbol, slice(0, 0))
        times, rates = settled[own], rate_of[own]
        free = regular[(regular < times[0]) | (regular > times[-1])] if len(times) else regular
        times = np.concatenate([times, free])
        rates = np.concatenate([rates, np.full(len(free), assumed)])
        held = (times >= start[0]) & (times < stop)
        bar = np.searchsorted(start, times[held], side="right") - 1
        opens = start[bar] == times[held]
        np.add.at(at_open[:, s], bar[opens], rates[held][opens])
        np.add.at(inside[:, s], bar[~opens], rates[held][~opens])
    return at_open, inside


def to_dividends(market: Market, actions: pd.DataFrame | None) -> np.ndarray | None:
    """Cash per unit paid at each bar's open: the first open at or after the action; None where there is none."""
    if actions is None:
        return None
    place = {symbol: s for s, symbol in enumerate(market.symbols)}
    ours = actions[(actions["kind"] == "dividend") & actions["symbol"].isin(place)]
    bar = np.searchsorted(market.start, to_integers(ours["time"]))
    late = bar < len(market.start)
    if not late.any():
        return None
    paid = np.zeros(market.target.shape)
    column = np.array([place[symbol] for symbol in ours["symbol"]])
    np.add.at(paid, (bar[late], column[late]), ours["value"].to_numpy()[late])
    return paid


def tell_funding(funding: pd.DataFrame, symbols: list[str]) -> dict[str, Any]:
    """For the settings of a result: which symbols have settled rates, and from when to when."""
    own = funding[funding["symbol"].isin(symbols)].groupby("symbol")["time"]
    spans = {
        str(symbol): {"first": times.min().isoformat(), "last": times.max().isoformat(), "rows": len(times)}
        for symbol, times in own
    }
    return {"funding": spans} if spans else {}
