"""How yfinance is made to ask Yahoo: every answer is checked before yfinance can make an empty table of it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from finsignal.errors import ConfigError, SourceError
from finsignal.sources.service import TRIES, PassingFaultError, Result, check_status, retry

CHART, SEARCH = "/v8/finance/chart/", "/v1/finance/search"
COLUMNS = ("open", "high", "low", "close", "volume")
CONNECT, TIMEOUT = 5.0, 20.0  # seconds to connect, and for one request
LATEST = 10_000_000_000  # seconds since 1970: later is no time, or milliseconds
UNREADABLE = (AttributeError, LookupError, OverflowError, TypeError, ValueError)  # what yfinance stumbles with
_META = ("symbol", "instrumentType", "exchangeTimezoneName", "dataGranularity")
_SAME_LENGTH = {"60m": "1h"}


class AnswerError(Exception):
    """An answer that another try would not mend.

    `kind` is "symbol" (not known), "window" (out of reach), "nothing" (no rows in it), "schema" (not the shape it had)
    or "refused".
    """

    def __init__(self, reason: str, *, kind: str = "refused") -> None:
        super().__init__(reason)
        self.kind = kind


def make_session(base_url: str | None = None) -> Any:
    """A session of curl_cffi for yfinance; every request goes to `base_url` instead of Yahoo where one is given.

    Path and query are kept. A request to the chart or search service raises PassingFaultError where another try may
    mend it (429, 500, a cut connection, a cut answer) and AnswerError where none would; its `answer` is the latest
    for a window of prices that passed, None before. Raises ConfigError where `base_url` is no web address.
    """
    from curl_cffi import requests

    base = None if base_url is None else urlsplit(base_url)
    if base is not None and (base.scheme not in ("http", "https") or not base.hostname):
        # not shown: a password in what is no address would not be struck out
        raise ConfigError("yahoo: what is given is no web address. Write for example http://127.0.0.1:8080.")

    class YahooSession(requests.Session):
        answer: dict[str, Any] | None = None
        denied = False
        tries = TRIES

        def request(self, method: Any, url: str, **options: Any) -> Any:
            parts = urlsplit(url)
            if base is not None:
                url = urlunsplit((base.scheme, base.netloc, base.path.rstrip("/") + parts.path, parts.query, ""))
                options["allow_redirects"] = False
            if not parts.path.startswith((CHART, SEARCH)):  # cookies, without which the services answer as well
                return super().request(method, url, **{**options, "timeout": CONNECT})
            options["timeout"] = (CONNECT, TIMEOUT)
            try:
                response = super().request(method, url, **options)
            except requests.exceptions.Timeout as err:
                raise PassingFaultError(f"no connection in {CONNECT:g} s or no answer in {TIMEOUT:g} s") from err
            except requests.exceptions.RequestException as err:
                raise PassingFaultError(f"connection failed ({type(err).__name__})") from err
            if response.status_code in (401, 403) and not self.denied:
                self.denied = True
                return response  # yfinance asks once more, with another cookie
            self.denied = False
            asked = dict(options.get("params") or {})
            answer = _read_answer(
                parts.path, response.status_code, response.headers, response.content, asked.get("interval")
            )
            if "period1" in asked:  # else yfinance asked only for the zone of the exchange
                self.answer = answer
            return response

    # impersonate: Yahoo answers browsers, and little else
    return YahooSession(impersonate="chrome", trust_env=base is None)


def ask(call: Callable[[], Result], subject: str, session: Any, sleep: Callable[[float], None]) -> Result:
    """As `service.retry`; a session that has given up once tries once each time, until the service answers again.

    Else a pass over many symbols would wait for each of them while the service is away.
    """
    try:
        result = retry(call, source="yahoo", subject=subject, tries=session.tries, sleep=sleep)
    except SourceError:
        session.tries = 1
        raise
    session.tries = TRIES
    return result


@contextmanager
def asking(cache: Path) -> Iterator[Any]:
    """yfinance, set for the time of the block to raise on errors, to log nothing, and to keep its files in `cache`."""
    with warnings.catch_warnings():  # it uses what pandas 4 drops, and asks to have that told on every terminal
        import yfinance

        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"yfinance\b")
        with _set_up(yfinance, cache):
            yield yfinance


@contextmanager
def _set_up(yfinance: Any, cache: Path) -> Iterator[None]:
    from yfinance.data import YfData

    _keep_files_in(cache.absolute(), yfinance)
    debug, loggers = yfinance.config.debug, [logging.getLogger(name) for name in ("yfinance", "bs4")]
    hidden, levels = debug.hide_exceptions, [logger.level for logger in loggers]
    debug.hide_exceptions = False  # else yfinance answers an error with an empty frame
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    YfData.cache_get.cache_clear()  # it keeps answers of past windows, and history changes under it
    try:
        yield
    finally:
        debug.hide_exceptions = hidden
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _keep_files_in(cache: Path, yfinance: Any) -> None:
    """Has yfinance keep its zones and cookies in the folder, and not in the home directory."""
    try:
        from yfinance.cache import _CookieCacheManager, _CookieDBManager, _TzCacheManager, _TzDBManager
    except ImportError as err:
        raise SourceError(f"yahoo: where yfinance keeps its files is not known ({err}). Install 1.7.0.") from err
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise SourceError(f"yahoo: the folder {cache} for yfinance's files cannot be made ({err.strerror}).") from err
    if [Path(manager.get_location()) for manager in (_TzDBManager, _CookieDBManager)] != [cache, cache]:
        yfinance.set_tz_cache_location(str(cache))
        # without this it goes on writing to the folder that it opened first in this process
        _TzCacheManager._tz_cache = None
        _CookieCacheManager._Cookie_cache = None


def _read_answer(
    path: str, status: int, headers: Mapping[str, str], content: bytes, interval: str | None
) -> dict[str, Any]:
    """The answer of the chart or search service, which holds what yfinance reads of it. Raises as `make_session`."""
    check_status(status, headers)
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as err:
        if status >= 300:
            raise AnswerError(f"refused ({status})") from err
        raise PassingFaultError("an answer that is cut short or is no JSON") from err
    if not isinstance(answer, dict):
        raise AnswerError("the answer is no JSON object", kind="schema")
    error = next((part["error"] for part in answer.values() if isinstance(part, dict) and part.get("error")), None)
    if error is not None or status >= 300:
        raise _to_refusal(status, error)
    if path.startswith(CHART):
        try:
            _check_chart(answer, interval)
        except (AttributeError, LookupError, TypeError) as err:  # a list where an object was, or the like
            raise AnswerError(f"the answer is not built as a chart ({err})", kind="schema") from err
    elif not isinstance(answer.get("news"), list):
        raise AnswerError(f"the answer has no list 'news', only {list(answer)}", kind="schema")
    return answer


def _to_refusal(status: int, error: Any) -> AnswerError:
    said = error if isinstance(error, dict) else {}
    words = str(said.get("description") or said.get("code") or error or "no reason given")[:200]
    if "doesn't exist for startDate" in words:
        kind = "nothing"
    elif "must be within the last" in words or "not available for startTime" in words:
        kind = "window"
    else:
        kind = "symbol" if status == 404 or said.get("code") == "Not Found" else "refused"
    return AnswerError(f"refused ({status}: {words})", kind=kind)


def _check_chart(answer: dict[str, Any], interval: str | None) -> None:
    """Nothing where the answer has the shape of a chart, rows or none. Raises AnswerError naming what it lacks."""
    result = (answer.get("chart") or {}).get("result")
    if not isinstance(result, list) or not result or not isinstance(result[0], dict):
        raise AnswerError("the answer has no chart.result", kind="schema")
    meta = result[0].get("meta") or {}
    for name in _META:
        if not isinstance(meta.get(name), str):
            raise AnswerError(f"the answer has no meta.{name}", kind="schema")
    try:
        ZoneInfo(meta["exchangeTimezoneName"])
    except (LookupError, ValueError, OSError) as err:
        raise AnswerError(
            f"meta.exchangeTimezoneName {meta['exchangeTimezoneName']!r} is no zone", kind="schema"
        ) from err
    given = meta["dataGranularity"]
    if interval is not None and _SAME_LENGTH.get(given, given) != _SAME_LENGTH.get(interval, interval):
        raise AnswerError(f"asked for bars of {interval}, the answer has bars of {given}", kind="schema")
    stamps = result[0].get("timestamp") or []
    indicators = result[0].get("indicators") or {}
    quotes = indicators.get("quote")
    if not isinstance(quotes, list) or not quotes or not isinstance(quotes[0], dict):
        raise AnswerError("the answer has no indicators.quote", kind="schema")
    if not stamps:
        if any(quotes[0].values()):
            raise AnswerError("the answer has prices and no column 'timestamp'", kind="schema")
        return
    adjusted = (indicators.get("adjclose") or [{}])[0]
    columns = {"timestamp": stamps, **quotes[0], **({"adjclose": adjusted.get("adjclose")} if adjusted else {})}
    for name in ("timestamp", *COLUMNS, *(["adjclose"] if adjusted else [])):
        _check_column(name, columns, len(stamps))
    prices = [quotes[0][name] for name in COLUMNS[:4]]
    empty = [all(value is None for value in values) for values in prices]
    if any(empty) and not all(empty):
        raise AnswerError(f"column {COLUMNS[empty.index(True)]!r} holds no value, others do", kind="schema")
    if not all(_is_stamp(stamp) for stamp in stamps):
        raise AnswerError("column 'timestamp' holds what is no time in seconds", kind="schema")
    if "currency" not in meta:
        raise AnswerError("the answer has no meta.currency", kind="schema")
    if given != "1d" and not regular_periods(meta):
        raise AnswerError("the answer has no meta.tradingPeriods", kind="schema")
    if not all(_is_stamp(period["start"]) and _is_stamp(period["end"]) for period in regular_periods(meta)):
        raise AnswerError("meta.tradingPeriods holds what is no time in seconds", kind="schema")
    _check_events(result[0].get("events") or {})


def _check_column(name: str, columns: Mapping[str, Any], length: int) -> None:
    values = columns.get(name)
    if not isinstance(values, list):
        raise AnswerError(f"no column {name!r}; columns are {list(columns)}", kind="schema")
    if len(values) != length:
        raise AnswerError(f"column {name!r} has {len(values)} values for {length} stamps", kind="schema")
    if not all(value is None or isinstance(value, int | float) for value in values):
        raise AnswerError(f"column {name!r} holds what is no number", kind="schema")


def _check_events(events: Mapping[str, Any]) -> None:
    wanted = {"dividends": ("date", "amount"), "splits": ("date", "numerator", "denominator")}
    for kind, names in wanted.items():
        for event in (events.get(kind) or {}).values():
            for name in names:
                if not isinstance(event, dict) or not isinstance(event.get(name), int | float):
                    raise AnswerError(f"one of its {kind} has no {name!r}", kind="schema")
            if not _is_stamp(event["date"]):
                raise AnswerError(f"one of its {kind} has date {event['date']}", kind="schema")


def _is_stamp(value: Any) -> bool:
    return isinstance(value, int) and abs(value) < LATEST


def regular_periods(meta: Mapping[str, Any]) -> list[dict[str, int]]:
    """Start and end of the regular session of each day of an intraday answer, in seconds since 1970; else none."""
    periods = meta.get("tradingPeriods") or []
    days = periods["regular"] if isinstance(periods, dict) else periods
    return [period for day in days for period in day]


def to_error(err: Exception, subject: str) -> SourceError:
    """What to tell of a refusal or of yfinance's own error; `subject` is such as "AAPL 1h from 2023-01-01"."""
    said = {
        "symbol": f"symbol not known, {err}, for {subject}. Check how Yahoo writes it.",
        "window": f"window out of reach, {err}, for {subject}. Start later.",
        "schema": f"the answer has changed its shape: {err}, for {subject}. A newer yfinance may know it.",
        "refused": f"{err} for {subject}.",
        "nothing": f"{err} for {subject}.",
    }
    unread = f"yfinance cannot read the answer for {subject} ({type(err).__name__}: {err})."
    return SourceError(f"yahoo: {said[err.kind] if isinstance(err, AnswerError) else unread} Nothing was written.")
