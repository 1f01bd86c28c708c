"""Bybit's klines, funding rates and open interest: a forward pager over the ccxt client, in windows of exact ends.

ccxt's own `paginate` stops after ten calls and gives the tail of the period without a word, and its markets cost a call
for thousands of instruments; here each window is asked by start and end, under Bybit's own name of the symbol.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from finsignal.clock import to_bar
from finsignal.errors import ConfigError, SourceError, TableError, did_you_mean
from finsignal.sources.bybit_pages import CATEGORIES, Series, read_pages
from finsignal.tables import FUNDING, INSTANT, OPEN_INTEREST, PRICES

KLINES = {
    **{"1min": "1", "3min": "3", "5min": "5", "15min": "15", "30min": "30"},
    **{"1h": "60", "2h": "120", "4h": "240", "6h": "360", "12h": "720", "1d": "D"},
}
INTERVALS = {bar: bar for bar in ("5min", "15min", "30min", "1h", "4h", "1d")}
HOUR = 3_600_000  # milliseconds
# ccxt writes parameters into the address as they are, so a symbol must not be able to hold one.
_SYMBOL = re.compile(r"[A-Z0-9]{2,30}(-[A-Z0-9]{2,12}){0,2}")


@dataclass
class Queue:
    """Lets `burst` calls go at once, and then one in `interval` seconds; asked before each call."""

    sleep: Callable[[float], Any]
    clock: Callable[[], float] = time.monotonic
    burst: int = 100
    interval: float = 0.015
    free: float = 0.0  # when the burst will be whole again, in seconds of the clock

    def __call__(self, weight: float = 1) -> None:
        now = self.clock()
        self.free = max(self.free, now) + self.interval
        wait = self.free - now - self.burst * self.interval
        if wait > 0:
            self.sleep(wait)


def make_exchange(market: str, *, base_url: str | None = None) -> Any:
    """The ccxt client of one market: 'bybit-linear', 'bybit-inverse' or 'bybit-spot'; it asks nothing yet.

    It lets 100 calls go at once and then one in 15 ms, which is never more than 433 of the 600 calls in 5 s that Bybit
    allows an address. `base_url` takes the place of Bybit's own, for a server that replays answers. Raises ConfigError
    for another market.
    """
    _check_market(market)
    exchange = _load_client()({"enableRateLimit": True, "timeout": 20_000})
    # ccxt's own weighs a call for market data so that 0.1 s pass between two: 5 s for fifty symbols.
    exchange.throttle = Queue(sleep=lambda seconds: exchange.sleep(seconds * 1000))
    exchange.enableLastJsonResponse = True
    if base_url is not None:
        exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], base_url.rstrip("/"))
    return exchange


def _load_client() -> Any:
    """The class ccxt.bybit without the hundred exchanges that importing ccxt loads, a tenth of a pass's time."""
    spec = importlib.util.find_spec("ccxt") if "ccxt" not in sys.modules else None
    if spec is None:
        return importlib.import_module("ccxt").bybit
    package = types.ModuleType("ccxt")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["ccxt"] = package
    try:
        return importlib.import_module("ccxt.bybit").bybit
    finally:
        del sys.modules["ccxt"]  # whoever imports ccxt later gets the whole of it, with the same classes


def fetch_prices(
    symbol: str,
    *,
    market: str,
    bar: str,
    start: pd.Timestamp | str,
    end: pd.Timestamp | str,
    now: pd.Timestamp,
    exchange: Any,
) -> Iterator[pd.DataFrame]:
    """PRICES of the bars that open in [start, end) and had closed by `now`, in pages of at most 1,000, oldest first.

    A bar counts as closed by Bybit's clock too, so that a machine ahead of it stores no unfinished bar. Each page can
    be stored when it comes; to go on later, start from the last `time`. Windows without rows (before the listing, or
    while the exchange stood still) are passed over, and `grid.find_missing` names the bars that are missing.
    `volume` is in units of the base coin, on 'bybit-inverse' in US dollars.

    Raises ConfigError at once for a market, symbol, bar or period that cannot be meant; SourceError, while pages are
    read, for a symbol Bybit does not have, for answers that are not what was asked, and for no answer in several tries.
    """
    length = _to_length(market, bar, KLINES, "bars")
    series = Series(
        market=market,
        symbol=_check_symbol(symbol, market),
        what=f"{symbol} {bar}",
        exchange=exchange,
        ask=exchange.public_get_v5_market_kline,
        params={"interval": KLINES[bar]},
        bounds=("start", "end"),
        fields=tuple(range(7)),  # turnover too, though not kept: a row that lost a field is noticed
        size=1000,
        span=1000 * length,
        step=length,
        grid=length,
        delay=length,
    )
    return (_to_prices(series, page) for page in read_pages(series, start, end, now))


def fetch_funding(
    symbol: str, *, market: str, start: pd.Timestamp | str, end: pd.Timestamp | str, now: pd.Timestamp, exchange: Any
) -> Iterator[pd.DataFrame]:
    """FUNDING rates settled in [start, end) and by `now`, oldest first: what a long paid a short, as a fraction.

    `time` is the settlement. Contracts settle every 8 hours or more often, and may change that. To go on later, start
    from the last `time`: that row comes once more. Raises as fetch_prices; spot has no funding.
    """
    if market == "bybit-spot":
        raise ConfigError("bybit-spot: spot has no funding; ask bybit-linear or bybit-inverse.")
    series = Series(
        market=market,
        symbol=_check_symbol(symbol, market),
        what=f"{symbol} funding",
        exchange=exchange,
        ask=exchange.public_get_v5_market_funding_history,
        params={},
        bounds=("startTime", "endTime"),
        fields=("fundingRateTimestamp", "fundingRate"),
        size=200,
        span=200 * 8 * HOUR,  # every 8 hours as a rule; where more often, the window takes several answers
        step=HOUR,
        grid=1,
        delay=0,
    )
    return (
        FUNDING.to_table(_frame(series, page, time=_instants(page[:, 0]), rate=page[:, 1]))
        for page in read_pages(series, start, end, now)
    )


def fetch_open_interest(
    symbol: str,
    *,
    market: str,
    bar: str,
    start: pd.Timestamp | str,
    end: pd.Timestamp | str,
    now: pd.Timestamp,
    exchange: Any,
) -> Iterator[pd.DataFrame]:
    """OPEN_INTEREST stamped in [start, end) every `bar` and known by `now`, oldest first, 200 rows a page at most.

    `time` is Bybit's stamp and one interval: Bybit does not say whether a stamp is the start or the end of its
    interval, and this is right for both. `contracts` is in units of the base coin, on 'bybit-inverse' in US dollars.
    To go on later, start from the last `time`. Raises as fetch_prices; spot has no open interest.
    """
    if market == "bybit-spot":
        raise ConfigError("bybit-spot: spot has no open interest; ask bybit-linear or bybit-inverse.")
    length = _to_length(market, bar, INTERVALS, "open interest")
    series = Series(
        market=market,
        symbol=_check_symbol(symbol, market),
        what=f"{symbol} open interest {bar}",
        exchange=exchange,
        ask=exchange.public_get_v5_market_open_interest,
        params={"intervalTime": INTERVALS[bar]},
        bounds=("startTime", "endTime"),
        fields=("timestamp", "openInterest"),
        size=200,
        span=200 * length,
        step=length,
        grid=length,
        delay=length,
    )
    return (
        OPEN_INTEREST.to_table(_frame(series, page, time=_instants(page[:, 0] + length), contracts=page[:, 1]))
        for page in read_pages(series, start, end, now)
    )


def _check_market(market: str) -> None:
    if market not in CATEGORIES:
        raise ConfigError(
            f"market: Bybit has no {market!r}.{did_you_mean(market, CATEGORIES)} There are {', '.join(CATEGORIES)}."
        )


def _to_length(market: str, bar: str, there: Mapping[str, str], what: str) -> int:
    if bar not in there:
        raise ConfigError(f"{market}: Bybit has no {what} of {bar!r}. There are {', '.join(there)}.")
    return int(to_bar(bar) / pd.Timedelta(milliseconds=1))


def _check_symbol(symbol: str, market: str) -> str:
    _check_market(market)
    if not _SYMBOL.fullmatch(symbol):
        raise ConfigError(
            f"{market}: {symbol!r} is no symbol of Bybit's; write it as Bybit does, for example 'BTCUSDT'."
        )
    return symbol


def _instants(stamps: np.ndarray) -> pd.Series:
    return pd.Series(pd.to_datetime(stamps.astype(np.int64), unit="ms", utc=True)).astype(INSTANT)


def _frame(series: Series, rows: np.ndarray, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"symbol": pd.Series([series.symbol] * len(rows), dtype="str"), **columns})


def _to_prices(series: Series, rows: np.ndarray) -> pd.DataFrame:
    opens, closes = _instants(rows[:, 0]), _instants(rows[:, 0] + series.step)
    numbers = dict(zip(("open", "high", "low", "close", "volume"), rows[:, 1:6].T, strict=True))
    try:
        return PRICES.to_table(_frame(series, rows, open_time=opens, time=closes, **numbers))
    except TableError as err:
        raise SourceError(f"{series.where}: Bybit's answer cannot be used: {err}") from err
