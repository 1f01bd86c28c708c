"""Bybit as its documentation and recorded answers show it, for a server on 127.0.0.1: `serve(Market(...))`."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from replay_server import Answer, Request, to_answer

from finsignal.clock import to_bar
from finsignal.tables import PRICES

CODES = {"1": "1min", "3": "3min", "5": "5min", "15": "15min", "30": "30min", "60": "1h", "120": "2h", "240": "4h"}
CODES = {**CODES, "360": "6h", "720": "12h", "D": "1d"}
MILLISECOND = pd.Timedelta(milliseconds=1)


def make_history(symbol: str, *, start: str, count: int, bar: str = "1h", seed: int = 0) -> pd.DataFrame:
    """PRICES of `count` bars of a market that never closes, from `start` on, with as few digits as a service gives."""
    rng = np.random.default_rng([seed, *symbol.encode()])
    opens = pd.date_range(start, periods=count, freq=to_bar(bar), tz="UTC").as_unit("us")
    close = (100 * np.exp(np.cumsum(rng.normal(0, 0.004, count)))).round(3)
    first = np.concatenate([[100.0], close[:-1]])
    frame = pd.DataFrame({"open_time": opens, "time": opens + to_bar(bar), "open": first, "close": close})
    frame["high"] = (frame[["open", "close"]].max(axis=1) * 1.001).round(3)
    frame["low"] = (frame[["open", "close"]].min(axis=1) * 0.999).round(3)
    frame["volume"] = rng.integers(0, 10**6, count) / 1000
    return PRICES.to_table(frame.assign(symbol=pd.Series([symbol] * count, dtype="str")))


@dataclass
class Market:
    """One market at the instant `now`, which may be moved on between requests.

    `bars` are PRICES of each symbol (or a function from symbol to them, None where there is no such symbol), all of the
    length `bar`; only what had opened by `now` is told, and a bar that has opened but not closed is told unfinished.
    `funding` and `open_interest` are tables of that contract, of any symbols; interest is stamped one `bar` before it
    is known. `most` cuts the answers of klines further than the service does.
    """

    bars: Mapping[str, pd.DataFrame] | Callable[[str], pd.DataFrame | None]
    now: pd.Timestamp
    bar: str = "1h"
    category: str = "linear"
    funding: pd.DataFrame | None = None
    open_interest: pd.DataFrame | None = None
    most: int = 1000
    _known: dict[str, tuple[np.ndarray, np.ndarray] | None] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Answer:
        query, path = request.query, request.path.removeprefix("/v5/market/")
        clock = to_ms(self.now)
        if path == "time":
            result: Any = {"timeSecond": str(clock // 1000), "timeNano": str(clock * 1_000_000)}
        elif query.get("category") != self.category:
            return refuse(10001, "params error: Category is invalid", clock)
        elif self._history(query["symbol"]) is None:
            return refuse(10001, "params error: symbol invalid", clock)
        elif path == "kline":
            if CODES.get(query["interval"]) != self.bar:
                return refuse(10001, "Invalid period!", clock)
            result = self._named(query) | {"list": self._klines(query, clock)}
        elif path == "funding/history":
            rows = self._others(query, self.funding, "rate", 0, clock)
            names = ("fundingRateTimestamp", "fundingRate")
            told = [{"symbol": query["symbol"], **dict(zip(names, row, strict=True))} for row in rows]
            result = {"category": self.category, "list": told}
        elif path == "open-interest":
            if query["intervalTime"] != self.bar:
                return refuse(10001, "Invalid intervalTime", clock)
            rows = self._others(query, self.open_interest, "contracts", int(to_bar(self.bar) / MILLISECOND), clock)
            told = [{"openInterest": value, "timestamp": stamp} for stamp, value in rows]
            result = self._named(query) | {"list": told, "nextPageCursor": ""}
        elif path == "instruments-info":
            history = self._history(query["symbol"])
            launch = str(history[0][0]) if history is not None else ""
            told = [{"symbol": query["symbol"], "contractType": "LinearPerpetual", "status": "Trading"}]
            result = {"category": self.category, "list": [{**told[0], "launchTime": launch}], "nextPageCursor": ""}
        else:
            return Answer(b"", 404)
        return to_answer({"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": clock})

    def _named(self, query: Mapping[str, str]) -> dict[str, Any]:
        return {"symbol": query["symbol"], "category": self.category}

    def _history(self, symbol: str) -> tuple[np.ndarray, np.ndarray] | None:
        """(stamps, rows of text), ascending; made once for each symbol."""
        with self._lock:
            if symbol not in self._known:
                frame = self.bars(symbol) if callable(self.bars) else self.bars.get(symbol)
                self._known[symbol] = None if frame is None else to_rows(frame)
            return self._known[symbol]

    def _klines(self, query: Mapping[str, str], clock: int) -> list[list[str]]:
        stamps, rows = self._history(query["symbol"]) or (np.array([], dtype=np.int64), np.empty((0, 7)))
        chosen = rows[choose(stamps, query, "start", "end", clock, self.most)].tolist()
        length = int(to_bar(self.bar) / MILLISECOND)
        forming = clock // length * length
        if len(stamps) and stamps[-1] == forming - length and int(query["end"]) >= forming >= int(query["start"]):
            close = rows[-1][4]  # the history ends with the last whole bar: another is under way
            chosen = [[str(forming), close, close, close, close, "0", "0"], *chosen][: int(query["limit"])]
        return chosen

    def _others(
        self, query: Mapping[str, str], table: pd.DataFrame | None, column: str, back: int, clock: int
    ) -> list[tuple[str, str]]:
        if table is None:
            return []
        own = table[table["symbol"] == query["symbol"]]
        stamps = to_stamps(own["time"]) - back
        chosen = choose(stamps, query, "startTime", "endTime", clock, 200)
        return [(str(stamps[k]), repr(float(own[column].iloc[k]))) for k in chosen]


def to_ms(instant: pd.Timestamp) -> int:
    return (instant - pd.Timestamp(0, tz="UTC")) // MILLISECOND


def to_stamps(instants: pd.Series) -> np.ndarray:
    return instants.dt.tz_convert(None).to_numpy().astype("datetime64[ms]").astype(np.int64)


def to_rows(prices: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    stamps = to_stamps(prices["open_time"])
    columns = [prices[name].map(repr) for name in ("open", "high", "low", "close", "volume")]
    return stamps, np.array([stamps.astype(str), *columns, ["0"] * len(stamps)], dtype=object).T


def choose(stamps: np.ndarray, query: Mapping[str, str], begin: str, end: str, clock: int, most: int) -> np.ndarray:
    """Positions of what was asked, newest first: at most `limit`, of which the newest are kept."""
    low, high = np.searchsorted(stamps, [int(query[begin]), min(int(query[end]), clock) + 1])
    return np.arange(low, high)[::-1][: min(int(query.get("limit", 200)), most)]


def refuse(code: int, message: str, clock: int, **headers: str) -> Answer:
    """An error as Bybit tells it: HTTP 200 with a code in the answer."""
    content = {"retCode": code, "retMsg": message, "result": {}, "retExtInfo": {}, "time": clock}
    return to_answer(content, 200, **headers)
