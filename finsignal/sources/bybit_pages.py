"""Pages of one history at Bybit: windows of exact ends, asked one after another, each answer checked before its use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from finsignal.clock import to_instant
from finsignal.errors import ConfigError, SourceError
from finsignal.sources.service import PassingFaultError, redact, retry, to_wait
from finsignal.tables import to_integers

CATEGORIES = {"bybit-linear": "linear", "bybit-inverse": "inverse", "bybit-spot": "spot"}
PASSING = ("10000", "10016")  # server timeout, system error: Bybit says to try again
RATE_LIMITED = ("10006", "10018")
_STATUS = re.compile(r"bybit GET \S+ (\d{3})\b")


@dataclass(frozen=True)
class Series:
    """One history at Bybit: how it is asked for and read. Lengths are in milliseconds."""

    market: str
    symbol: str
    what: str  # for messages
    exchange: Any
    ask: Callable[[dict[str, Any]], Any]
    params: Mapping[str, Any]
    bounds: tuple[str, str]  # the parameters for the first and the last stamp wanted, both included
    fields: tuple[Any, ...]  # of a row: its stamp, then its numbers
    size: int  # most rows that Bybit gives in one answer
    span: int  # length of a window, which one answer can hold
    step: int  # shortest distance of two rows
    grid: int  # of which every stamp is a multiple
    delay: int  # from the stamp to the instant the row is known

    @property
    def where(self) -> str:
        return f"{self.market} {self.what}"

    @property
    def category(self) -> str:
        return CATEGORIES[self.market]


def read_pages(series: Series, start: Any, end: Any, now: pd.Timestamp) -> Iterator[np.ndarray]:
    """Rows stamped in [start, end) and known by `now`, window after window, in no order within one.

    Raises ConfigError for a period that cannot be meant, before the first page is read.
    """
    first, until = to_instant(start, where=f"{series.where}: start"), to_instant(end, where=f"{series.where}: end")
    if first > until:
        raise ConfigError(f"{series.where}: start {first} must be before end {until}.")
    known = to_instant(now, where=f"{series.where}: now")
    begin, stop, clock = (int(t) for t in to_integers(pd.DatetimeIndex([first, until, known])))
    grid = series.grid * 1000  # microseconds
    begin = -(-begin // grid) * series.grid
    last = min(stop - 1, clock - series.delay * 1000) // grid * series.grid
    return _pages(series, begin, last)


def _pages(series: Series, at: int, last: int) -> Iterator[np.ndarray]:
    while at <= last:
        rows = _window(series, at, min(at + series.span - series.grid, last))
        if len(rows):
            yield rows
        at += series.span
        if not len(rows):
            at = _next_window(series, at, last)


def _window(series: Series, low: int, high: int) -> np.ndarray:
    """The rows from stamp `low` to `high`, in no order.

    Where an answer leaves room for another row at an end, that end is asked again, until it comes empty: an answer cut
    short by a smaller limit, of which Bybit keeps the newest rows, would look like a gap.
    """
    parts = [np.empty((0, len(series.fields)))]
    open_ends = [(low, high)]
    while open_ends:
        begin, end = open_ends.pop()
        rows, clock = _ask(series, begin, end, series.size)
        if not len(rows):
            continue
        parts.append(rows[rows[:, 0] + series.delay <= clock])
        oldest, newest = int(rows[0, 0]), int(rows[-1, 0])
        if oldest - begin >= series.step:
            open_ends.append((begin, oldest - series.grid))
        if end - newest >= series.step:
            open_ends.append((newest + series.grid, end))
    return np.concatenate(parts)


def _next_window(series: Series, at: int, last: int) -> int:
    """Start of the first window from `at` on that holds a row, or beyond `last`: by halving, not window by window.

    Years before a listing cost a dozen calls for one row each, and an outage in the middle does not end the walk.
    """
    if at > last or not len(_ask(series, at, last, 1)[0]):
        return last + 1
    empty, full = -1, (last - at) // series.span  # window numbers: rows lie in windows 0 to `full`, none up to `empty`
    while full - empty > 1:
        middle = (empty + full) // 2
        if len(_ask(series, at, min(at + (middle + 1) * series.span - series.grid, last), 1)[0]):
            full = middle
        else:
            empty = middle
    return at + full * series.span


def _ask(series: Series, low: int, high: int, limit: int) -> tuple[np.ndarray, float]:
    """The rows of one answer, ascending, and Bybit's clock in it; refused where they are not what was asked for."""
    begin, end = series.bounds
    query = {"category": series.category, "symbol": series.symbol, **series.params, begin: low, end: high}
    where = f"{series.where} from {_show(low)}"
    answer = retry(
        lambda: _ask_once(series, {**query, "limit": limit}, where),
        source=series.market,
        subject=f"{series.what} from {_show(low)}",
        sleep=lambda seconds: series.exchange.sleep(seconds * 1000),
    )
    try:
        result, clock = answer["result"], float(answer["time"])
        names = {f"{result['category']} {name}" for name in _names(result)}
        found = [[float(row[key]) for key in series.fields] for row in result["list"]]
    except (LookupError, TypeError, ValueError, OverflowError) as err:
        raise SourceError(
            f"{where}: expected rows of {len(series.fields)} numbers, found another form "
            f"({type(err).__name__}: {err}); Bybit has changed its answers, look for a newer finsignal."
        ) from err
    rows = np.array(found, dtype=np.float64).reshape(-1, len(series.fields))
    others = sorted(names - {f"{series.category} {series.symbol}"})
    if others:
        raise SourceError(f"{where}: the answer is about {', '.join(others)}, which was not asked; try again later.")
    if not (np.isfinite(rows).all() and np.isfinite(clock)):
        raise SourceError(f"{where}: a row holds a number that is not finite; try again later.")
    rows = rows[np.argsort(rows[:, 0])]
    stamps = rows[:, 0]
    wrong = (stamps < low) | (stamps > high) | (stamps % series.grid != 0) | (np.diff(stamps, prepend=-1) == 0)
    if wrong.any() or len(rows) > limit:
        strange = f"the stamp {stamps[wrong.argmax()]:.0f}" if wrong.any() else f"{len(rows)} rows"
        raise SourceError(
            f"{where}: expected at most {limit} rows to {_show(high)}, each once and on the grid; found {strange}. "
            "Nothing of this window was taken; try again later."
        )
    return rows, clock


def _ask_once(series: Series, query: dict[str, Any], where: str) -> Any:
    """One call through ccxt, its errors told apart: PassingFaultError where another try may help, else SourceError."""
    from ccxt.base.errors import BaseError, OperationFailed

    exchange = series.exchange
    exchange.last_response_headers, exchange.last_json_response = {}, None  # of the call before, where this one fails
    try:
        answer = series.ask(query)
    except BaseError as err:
        said = exchange.last_json_response if isinstance(exchange.last_json_response, dict) else {}
        headers, status = exchange.last_response_headers or {}, _STATUS.match(str(err))
        code = str(said.get("retCode", status[1] if status else ""))
        reason = f"{code}: {said['retMsg']}" if "retMsg" in said else code or type(err).__name__
        if code == "403":
            raise SourceError(
                f"{where}: Bybit refuses this address (403), for too many calls or for where it is. "
                "Stop every program that asks Bybit from here for ten minutes, then try again."
            ) from err
        if code in (*RATE_LIMITED, "429"):
            raise PassingFaultError(f"rate limited ({code})", wait=_to_wait(headers, said)) from err
        # JSON without a code is not Bybit's own: a proxy's word on a fault, which ccxt takes for a refusal.
        foreign = "retCode" not in said and (
            isinstance(err, OperationFailed) or exchange.last_json_response is not None
        )
        if code in PASSING or foreign:
            raise PassingFaultError(f"no answer ({reason})", wait=to_wait(headers)) from err
        if "symbol" in str(said.get("retMsg", "")).lower():
            raise SourceError(
                f"{where}: Bybit has no symbol {series.symbol!r} in this market ({reason}); check its name and market."
            ) from err
        raise SourceError(f"{where}: Bybit refused the request: {redact(reason)}.") from err
    if not isinstance(answer, dict):
        raise PassingFaultError("answer that is no whole JSON")
    return answer


def _to_wait(headers: Mapping[str, str], said: Mapping[str, Any]) -> float | None:
    """Seconds a rate limit asks for: Retry-After, or until the reset by Bybit's own clock, at least its 1 s window."""
    try:
        until_reset = (float(headers["X-Bapi-Limit-Reset-Timestamp"]) - float(said["time"])) / 1000
    except (LookupError, ValueError, TypeError):
        return to_wait(headers)
    return to_wait(headers) or max(until_reset, 1.0)


def _names(result: Mapping[str, Any]) -> set[str]:
    """The symbols that an answer is about: named once, or in each row."""
    return {result["symbol"]} if "symbol" in result else {row["symbol"] for row in result["list"]}


def _show(stamp: int) -> str:
    return pd.Timestamp(stamp, unit="ms", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
