"""When things happen: the grid of expected bars, the decision before each bar, and the instant a text became known.

The grid comes from the exchange's calendar, or from the 24x7 market, and never from price rows: a decision exists for
every expected bar, printed or not. Nothing here reads the clock of the machine; `now` is always an argument.
"""

from __future__ import annotations

import datetime
import re
import warnings
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from pandas.errors import Pandas4Warning

from finsignal.errors import ConfigError, TableError
from finsignal.tables import BARS, INSTANT, to_integers

DAY = pd.Timedelta(days=1)
PRECISIONS = ("second", "minute", "hour", "date")
_SEVEN_DAYS_A_WEEK = ("24x7", "24/7", "bybit-linear", "bybit-inverse", "bybit-spot")
# A zone can only follow a time of day: '2024-03-01' and '05-07-2022' end like an offset and are none.
_ZONE = re.compile(r"\d[T ].*(?:[zZ]|[+-]\d{1,2}(?::?\d{2})?)$")
# 'now' and 'today' would read the clock of the machine; a bare year or month does not say on which day it ends.
_NOT_A_STAMP = re.compile(r"[a-zA-Z].*|\d{4}(?:\D?\d{1,2})?")


def is_always_open(market: str) -> bool:
    """Whether the market trades day and night without holidays (its sessions are UTC days)."""
    return market in _SEVEN_DAYS_A_WEEK


def days_per_year(market: str) -> int:
    """Trading days by which daily figures are annualised: 365 where the market never closes, else 252."""
    return 365 if is_always_open(market) else 252


def to_bar(bar: str) -> pd.Timedelta:
    """The length of a bar such as '1h', '30min' or '1d'.

    Raises ConfigError for a length that is not positive, is longer than a day, or does not divide a day.
    """
    match = re.fullmatch(r"(\d{1,4})(min|h|d)", bar)
    if match is None:
        raise ConfigError(f"bar: {bar!r} is not a length of time. Write for example '1h', '30min' or '1d'.")
    length = int(match[1]) * {"min": pd.Timedelta(minutes=1), "h": pd.Timedelta(hours=1), "d": DAY}[match[2]]
    if not pd.Timedelta(0) < length <= DAY or DAY % length != pd.Timedelta(0):
        raise ConfigError(f"bar: {bar!r} must be above 0, at most '1d', and divide a day, as '1h' and '15min' do.")
    return length


def default_latency(bar: str) -> pd.Timedelta:
    """Time between decision and open: 5 minutes for daily bars (the opening auction closes its book early), else 1."""
    return pd.Timedelta(minutes=5 if to_bar(bar) == DAY else 1)


def make_bars(
    market: str, bar: str, *, start: pd.Timestamp | str, end: pd.Timestamp | str, latency: pd.Timedelta
) -> pd.DataFrame:
    """The grid: one row a bar whose open_time lies in [start, end), as `tables.BARS`.

    `time` is the decision: open_time less `latency`. `session` is the exchange's date of the bar, as ISO text (the UTC
    date where the market never closes). Stock bars step from the open of each session, and of each part of it where
    there is a lunch break; the last is cut at the close, so on a half day the 12:30 bar in New York ends at 13:00.

    Raises ConfigError for an unknown market, a bad bar length, a negative latency, or a start not before the end.
    """
    length = to_bar(bar)
    first, last = to_instant(start, where="start"), to_instant(end, where="end")
    if first >= last:
        raise ConfigError(f"period: start {first} must be before end {last}.")
    if latency < pd.Timedelta(0):
        raise ConfigError(f"latency: {latency} is negative; a decision cannot come after its bar opened.")
    if is_always_open(market):
        opens = pd.date_range(first.ceil(length), last, freq=length, inclusive="left").as_unit("us")
        closes, sessions = opens + length, opens.strftime("%Y-%m-%d")
    else:
        opens, closes, sessions = _exchange_bars(market, length, first, last)
    frame = pd.DataFrame(
        {
            "open_time": pd.Series(opens, dtype=INSTANT),
            "close_time": pd.Series(closes, dtype=INSTANT),
            "time": pd.Series(opens - latency, dtype=INSTANT),
            "session": pd.Series(sessions, dtype="str"),
        }
    )
    return BARS.check(frame)


def _exchange_bars(
    market: str, length: pd.Timedelta, first: pd.Timestamp, last: pd.Timestamp
) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex, pd.Index]:
    schedule = _schedule(market, first, last)
    has_break = schedule["break_start"].notna()
    parts = [
        pd.DataFrame({"open": schedule["open"], "close": schedule["break_start"].fillna(schedule["close"])}),
        pd.DataFrame({"open": schedule.loc[has_break, "break_end"], "close": schedule.loc[has_break, "close"]}),
    ]
    part = pd.concat(parts).sort_values("open", kind="stable")
    if length == DAY:  # a daily bar is the whole session, lunch included
        part = schedule[["open", "close"]]
        counts = np.ones(len(part), dtype=np.int64)
    else:
        counts = np.ceil((part["close"] - part["open"]) / length).to_numpy().astype(np.int64)
    steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    opens = pd.DatetimeIndex(part["open"].repeat(counts)) + pd.TimedeltaIndex(steps * length)
    ends = pd.DatetimeIndex(part["close"].repeat(counts))
    closes = pd.to_datetime(np.minimum(to_integers(opens + length), to_integers(ends)), unit="us", utc=True)
    closes = ends if length == DAY else closes
    sessions = part.index.repeat(counts).strftime("%Y-%m-%d")
    wanted = (opens >= first) & (opens < last)
    return opens[wanted].as_unit("us"), closes[wanted].as_unit("us"), sessions[wanted]


def zone_of(market: str, *, at: pd.Timestamp) -> datetime.tzinfo:
    """The exchange's time zone at some instant; UTC where the market never closes.

    Raises ConfigError for an unknown market.
    """
    zone: datetime.tzinfo = datetime.UTC if is_always_open(market) else _calendar(market, at, at).tz
    return zone


def _schedule(market: str, first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
    """Opens, closes and breaks of the sessions from two days before `first` to two days after `last`, UTC."""
    # Two days more on each side cover every zone.
    low, high = (day.tz_localize(None).normalize() for day in (first - 2 * DAY, last + 2 * DAY))
    schedule = _calendar(market, first, last).schedule
    return schedule[(schedule.index >= low) & (schedule.index <= high)]


def _calendar(market: str, first: pd.Timestamp, last: pd.Timestamp) -> Any:
    """The exchange's calendar from two weeks before `first` to two weeks after `last`."""
    import exchange_calendars

    # Explicit bounds: without them the calendar's range depends on today. Two weeks hold at least one session, without
    # which the calendar refuses to be made.
    low = (first - 14 * DAY).tz_localize(None).normalize()
    high = (last + 14 * DAY).tz_localize(None).normalize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Pandas4Warning)  # the calendar library still uses what pandas 4 drops
        try:
            calendar = exchange_calendars.get_calendar(market, start=low, end=high)
        except exchange_calendars.errors.InvalidCalendarName as err:
            raise ConfigError(
                f"market: {market!r} is neither an exchange code such as 'XNYS' nor one of {_SEVEN_DAYS_A_WEEK}."
            ) from err
        except (ValueError, exchange_calendars.errors.NoSessionsError) as err:
            raise ConfigError(f"market: the calendar of {market} does not cover {first} to {last}: {err}") from err
    return calendar


def to_instant(stamp: Any, *, where: str, tz: str | None = "UTC") -> pd.Timestamp:
    """One stamp as a UTC instant; a stamp without zone is read in `tz`. Raises ConfigError where it is no stamp."""
    if stamp is None or stamp is pd.NaT:
        raise ConfigError(f"{where}: a time is needed, got nothing.")
    try:
        # Only what is itself a date, or ISO text: pandas reads '10:00' as today's, and 2024 as nanoseconds since 1970.
        instant = pd.Timestamp(stamp) if isinstance(stamp, datetime.date | np.datetime64) else _to_iso_stamp(stamp)
    except (ValueError, TypeError) as err:
        raise ConfigError(f"{where}: {stamp!r} is not a time. Write for example 2025-03-03T14:25Z.") from err
    if instant.tz is None:
        if tz is None:
            raise ConfigError(f"{where}: time {stamp!r} has no zone. Write 2025-03-03T14:25Z, or an offset.")
        check_zone(tz, where=where)
        instant = instant.tz_localize(tz, ambiguous=False, nonexistent="shift_forward")  # False is the later instant
    return instant.tz_convert("UTC").as_unit("us")


def _to_iso_stamp(stamp: Any) -> pd.Timestamp:
    if not isinstance(stamp, str) or _NOT_A_STAMP.fullmatch(stamp.strip()):
        raise ValueError("not ISO 8601 text")
    return pd.to_datetime(stamp.strip(), format="ISO8601")


def check_zone(tz: str, *, where: str) -> None:
    """Nothing where `tz` is a time zone. Raises ConfigError where it is none."""
    try:
        ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:
        raise ConfigError(f"{where}: tz {tz!r} is not a time zone. Write for example 'America/New_York'.") from err


def to_instants(stamps: pd.Series, *, where: str, tz: str | None, format: str | None = None) -> pd.Series:
    """Stamps as UTC instants, same index; what cannot be parsed is NaT, for the caller to count.

    Text is read as ISO 8601 with a day in it, or by `format` (as strptime has it; 'unix_s' and 'unix_ms' for numbers
    since 1970), which carries a zone only by %z or %Z. Each row is read alone. Local times that a clock change makes
    ambiguous are read as the later instant, those it skips as the first instant after the gap. Raises TableError for a
    stamp without zone where `tz` is None, ConfigError for an unknown zone or format.
    """
    if tz is not None:
        check_zone(tz, where=where)
    if format in ("unix_s", "unix_ms"):
        numbers = pd.to_numeric(stamps, errors="coerce")
        return pd.to_datetime(numbers, unit=format[5:], utc=True, errors="coerce").astype(INSTANT)
    if format is not None and "%" not in format:
        raise ConfigError(f"{where}: time format {format!r} is neither unix_s, unix_ms, nor such as '%d-%m-%Y %H:%M'.")
    if isinstance(stamps.dtype, pd.DatetimeTZDtype):
        return stamps.astype(INSTANT)
    if pd.api.types.is_datetime64_dtype(stamps.dtype):
        return _localise(stamps, where=where, tz=tz, shown=stamps)
    text = stamps.astype("str").str.strip()
    if format is not None:
        text = text.mask(text.str.lower().isin(["now", "today"]))  # pandas reads the machine's clock for these
        if "%z" in format or "%Z" in format:
            return pd.to_datetime(text, format=format, utc=True, errors="coerce").astype(INSTANT)
        return _localise(pd.to_datetime(text, format=format, errors="coerce"), where=where, tz=tz, shown=text)
    text = text.mask(text.str.fullmatch(_NOT_A_STAMP, na=False))
    text = text.str.replace(r"(?<=[\d ])(?:UTC|GMT|z)$", "Z", regex=True)  # zones of ISO's kind that pandas cannot read
    has_zone = text.str.contains(_ZONE, na=False)
    # Two columns, for pandas refuses to read stamps with and without zones in one.
    zoned = pd.to_datetime(text.where(has_zone), format="ISO8601", utc=True, errors="coerce").astype(INSTANT)
    naive = pd.to_datetime(text.mask(has_zone), format="ISO8601", errors="coerce")
    return zoned.where(has_zone, _localise(naive, where=where, tz=tz, shown=text))


def _localise(naive: pd.Series, *, where: str, tz: str | None, shown: pd.Series) -> pd.Series:
    known = naive.notna().to_numpy()
    if tz is None:
        if known.any():
            row = int(known.argmax())
            raise TableError(
                f"{where} row {row}: time {str(shown.iloc[row])!r} has no time zone. "
                "Set tz, for example tz = 'America/New_York', or write an offset."
            )
        return naive.astype("datetime64[us]").dt.tz_localize("UTC")
    later = np.zeros(len(naive), dtype=bool)
    local = naive.astype("datetime64[us]").dt.tz_localize(tz, ambiguous=later, nonexistent="shift_forward")
    return local.astype(INSTANT)


def end_of_precision(instants: pd.Series, *, precision: str, tz: str = "UTC") -> pd.Series:
    """The end of what each stamp says: a date ends at the next midnight in `tz`, a minute at the next minute.

    A text stamped '14:25' may have come at 14:25:59, so it counts from 14:26. Raises ConfigError for a precision that
    is not one of second, minute, hour, date.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}.")
    check_zone(tz, where="precision")
    local = instants.dt.tz_convert(tz).dt.tz_localize(None)
    if precision == "date":
        local_date = local.dt.normalize()
        later = np.zeros(len(instants), dtype=bool)
        midnight = (local_date + DAY).dt.tz_localize(tz, ambiguous=later, nonexistent="shift_forward")
        return midnight.astype(INSTANT)
    step = {"second": "s", "minute": "min", "hour": "h"}[precision]
    offset = local - instants.dt.tz_localize(None)  # an hour of Kolkata ends half past in UTC
    end = local.dt.floor(step) + pd.Timedelta(1, unit=step) - offset
    return end.dt.tz_localize("UTC").astype(INSTANT)


def known_time(published: pd.Series, *, latency: pd.Timedelta, first_seen: pd.Series | None = None) -> pd.Series:
    """When each text became known: published, or first_seen where that was captured and is later, plus the latency.

    `published` must stand at the end of its precision already. Raises ConfigError for a negative latency.
    """
    if latency < pd.Timedelta(0):
        raise ConfigError(f"latency: {latency} is negative; a text cannot be known before it was published.")
    seen = published if first_seen is None else published.where(~(first_seen > published), first_seen)
    return (seen + latency).astype(INSTANT)


def bar_of(bars: pd.DataFrame, instants: pd.Series) -> np.ndarray:
    """For each instant the position of the first bar decided at it or later, int64; len(bars) where there is none.

    Known means time <= decision: a text known exactly at the decision still counts for that bar. A missing instant is
    never known: len(bars).
    """
    position = np.searchsorted(to_integers(bars["time"]), to_integers(instants), side="left")
    return np.where(instants.isna(), len(bars), position)


def latest_decision(bars: pd.DataFrame, now: pd.Timestamp) -> int | None:
    """Position of the bar with the latest decision at or before `now`; None before the first."""
    position = int(np.searchsorted(to_integers(bars["time"]), to_integers(pd.DatetimeIndex([now]))[0], side="right"))
    return position - 1 if position else None


def bar_to_serve(bars: pd.DataFrame, now: pd.Timestamp) -> int | None:
    """Position of the bar that a pass at `now` may decide: decision <= now < open_time. None where there is none."""
    position = latest_decision(bars, now)
    if position is None or now >= bars["open_time"].iloc[position]:
        return None
    return position
