"""Answers of Yahoo for tests: the recorded ones, and synthetic ones in the recorded shape."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from replay_server import Answer, Request, to_answer

CHART, SEARCH = "/v8/finance/chart/", "/v1/finance/search"
OHLCV = ("open", "high", "low", "close", "volume")
RANGES = ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"]
NOT_FOUND = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
LISTED = pd.Timestamp("1990-01-02T14:30Z")


def read_recorded(shared: Path, name: str) -> dict[str, Any]:
    """The JSON of one recorded answer, such as "chart-AAPL-2020-08-31-to-2020-11-07"."""
    path = shared / "yahoo_payloads" / "2025" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["response"]["bodyJson"]


def make_prices(bars: pd.DataFrame, *, seed: int = 0, start: float = 100.0) -> pd.DataFrame:
    """Synthetic open_time and OHLCV, one row a bar of the grid."""
    random = np.random.default_rng(seed)
    close = start * np.exp(np.cumsum(random.normal(0, 0.01, len(bars))))
    opens = np.concatenate([[start], close[:-1]]) * np.exp(random.normal(0, 0.002, len(bars)))
    spread = np.exp(np.abs(random.normal(0, 0.004, len(bars))))
    return pd.DataFrame(
        {
            "open_time": bars["open_time"],
            "open": opens,
            "high": np.maximum(opens, close) * spread,
            "low": np.minimum(opens, close) / spread,
            "close": close,
            "volume": random.integers(1_000, 1_000_000, len(bars)),
        }
    )


def make_chart(
    symbol: str,
    interval: str,
    prices: pd.DataFrame,
    *,
    zone: str = "America/New_York",
    regular: tuple[str, str] = ("09:30", "16:00"),
    dividends: Mapping[str, float] | None = None,
    splits: Mapping[str, tuple[int, int]] | None = None,
    listed: pd.Timestamp = LISTED,
) -> dict[str, Any]:
    """A synthetic answer of the chart service in the recorded shape, for open_time and OHLCV; NaN is null.

    Actions stand at the open of a date, as in the recorded answers; none of those is intraday but an empty one.
    """
    stamps = [int(t.timestamp()) for t in prices["open_time"]]

    def at_open(date: str) -> int:
        return int(pd.Timestamp(f"{date} {regular[0]}", tz=zone).timestamp())

    meta: dict[str, Any] = {
        "currency": "USD",
        "symbol": symbol,
        "exchangeName": "NMS",
        "fullExchangeName": "NasdaqGS",
        "instrumentType": "EQUITY",
        "firstTradeDate": int(listed.timestamp()),
        "regularMarketTime": stamps[-1] if stamps else int(listed.timestamp()),
        "hasPrePostMarketData": True,
        "exchangeTimezoneName": zone,
        "priceHint": 2,
        "dataGranularity": interval,
        "range": "",
        "validRanges": RANGES,
    }
    if interval != "1d":
        dates = sorted({f"{t:%Y-%m-%d}" for t in prices["open_time"].dt.tz_convert(zone)})
        ends = [int(pd.Timestamp(f"{date} {regular[1]}", tz=zone).timestamp()) for date in dates]
        meta["tradingPeriods"] = [
            [{"timezone": "X", "start": at_open(date), "end": end, "gmtoffset": 0}]
            for date, end in zip(dates, ends, strict=True)
        ]
    columns = {c: [None if pd.isna(v) else v for v in prices[c].tolist()] for c in OHLCV}
    result: dict[str, Any] = {"meta": meta}
    if stamps:
        result["timestamp"] = stamps
    events: dict[str, Any] = {}
    if dividends:
        events["dividends"] = {str(at_open(d)): {"amount": a, "date": at_open(d)} for d, a in dividends.items()}
    if splits:
        events["splits"] = {
            str(at_open(d)): {"date": at_open(d), "numerator": n, "denominator": m, "splitRatio": f"{n}:{m}"}
            for d, (n, m) in splits.items()
        }
    if events:
        result["events"] = events
    result["indicators"] = {"quote": [columns if stamps else {}]}
    if interval == "1d" and stamps:
        adjusted = [None if close is None else 0.9 * close for close in columns["close"]]
        result["indicators"]["adjclose"] = [{"adjclose": adjusted}]
    return {"chart": {"result": [result], "error": None}}


def make_item(number: int, *, published: pd.Timestamp, title: str, symbols: Sequence[str] = ()) -> dict[str, Any]:
    """A synthetic item of news in the recorded shape."""
    return {
        "uuid": f"00000000-0000-3000-8000-{number:012d}",
        "title": title,
        "publisher": "Synthetic Wire",
        "link": f"https://finance.test/news/{number}.html",
        "providerPublishTime": int(published.timestamp()),
        "type": "STORY",
        "relatedTickers": list(symbols),
    }


@dataclass
class Yahoo:
    """A stand-in for Yahoo, to be given to `replay_server.serve`: `Yahoo(prices={("AAPL", "1d"): frame})`.

    prices: open_time and OHLCV by symbol and interval, cut to the window that is asked for. news: items by query.
    charts: whole answers by symbol, given as they stand. options: further arguments of `make_chart`, by symbol.
    faults: answers given first, one after the other, to the requests for prices or news. crumb: what stands for the
    password that yfinance asks for once.
    """

    prices: Mapping[tuple[str, str], pd.DataFrame] = field(default_factory=dict)
    news: Mapping[str, list[Any]] = field(default_factory=dict)
    charts: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    faults: list[Answer] = field(default_factory=list)
    crumb: Answer = field(default_factory=lambda: Answer(b"crumb"))

    def __call__(self, request: Request) -> Answer:
        if request.path == "/v1/test/getcrumb":
            return self.crumb
        chart, search = request.path.startswith(CHART), request.path == SEARCH
        if not chart and not search:
            return Answer(b"", 404)  # the page whose cookie is wanted answers so
        is_window = search or "period1" in request.query  # the other request is for the zone of the exchange
        if self.faults and is_window:
            return self.faults.pop(0)
        if search:
            return to_answer({"explains": [], "quotes": [], "news": self.news.get(request.query["q"], [])})
        return self._answer_chart(request.path.removeprefix(CHART), request.query)

    def _answer_chart(self, symbol: str, query: Mapping[str, str]) -> Answer:
        if symbol in self.charts:
            content = self.charts[symbol]
            if "period1" not in query:  # the zone is asked for with daily bars, whatever the window
                content = {"chart": {"result": [{**content["chart"]["result"][0]}], "error": None}}
                result = content["chart"]["result"][0]
                result["meta"] = {**result["meta"], "dataGranularity": "1d"}
            return to_answer(content)
        interval = query["interval"]
        known = [frame for (name, _), frame in self.prices.items() if name == symbol]
        if not known:
            return to_answer({"chart": {"result": None, "error": NOT_FOUND}}, 404)
        frame = self.prices.get((symbol, interval), known[0].iloc[:0])
        if "period1" in query:
            low, high = (pd.Timestamp(int(query[p]), unit="s", tz="UTC") for p in ("period1", "period2"))
            frame = frame[(frame["open_time"] >= low) & (frame["open_time"] < high)]
        else:
            frame = frame.tail(1)
        return to_answer(make_chart(symbol, interval, frame, **self.options.get(symbol, {})))
