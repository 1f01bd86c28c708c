"""The rules of time. New York stands in local time in the comments: UTC is 5 hours later in winter, 4 in summer.

Clocks went forward on Sunday 10 March 2024 at 07:00 UTC (02:00 EST -> 03:00 EDT) and back on Sunday 3 November 2024 at
06:00 UTC (02:00 EDT -> 01:00 EST).
"""

import contextlib
import datetime
import subprocess
import sys
import warnings
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from finsignal.clock import (
    bar_of,
    bar_to_serve,
    days_per_year,
    default_latency,
    end_of_precision,
    is_always_open,
    known_time,
    latest_decision,
    make_bars,
    to_bar,
    to_instant,
    to_instants,
    zone_of,
)
from finsignal.errors import ConfigError, TableError
from finsignal.tables import BARS, INSTANT, to_integers

MINUTE, HOUR, DAY = pd.Timedelta(minutes=1), pd.Timedelta(hours=1), pd.Timedelta(days=1)
FIVE = pd.Timedelta(minutes=5)
ZONES = ("UTC", "America/New_York", "Europe/Dublin", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo")


def instants(*stamps: str | None) -> pd.Series:
    """Stamps already written in UTC, as INSTANT."""
    return pd.Series([pd.NaT if s is None else pd.Timestamp(s, tz="UTC") for s in stamps], dtype=INSTANT)


def shown(times: pd.Series) -> list[str]:
    return ["NaT" if pd.isna(t) else f"{t:%Y-%m-%d %H:%M}" for t in times]


def bars_of(market: str, bar: str, start: str, end: str, latency: pd.Timedelta = MINUTE) -> pd.DataFrame:
    return make_bars(market, bar, start=start, end=end, latency=latency)


def spans(bars: pd.DataFrame) -> list[str]:
    return [f"{o:%H:%M}-{c:%H:%M}" for o, c in zip(bars["open_time"], bars["close_time"], strict=True)]


# ---- the grid


@pytest.mark.parametrize(
    ("day", "first"),
    [
        ("2024-03-08", "14:30"),  # Friday, EST: 09:30 + 5 h
        ("2024-03-11", "13:30"),  # Monday, EDT: 09:30 + 4 h
        ("2024-11-01", "13:30"),  # Friday, EDT
        ("2024-11-04", "14:30"),  # Monday, EST
    ],
)
def test_new_york_opens_at_half_past_nine_on_both_sides_of_a_clock_change(day: str, first: str) -> None:
    bars = bars_of("XNYS", "1h", day, str(pd.Timestamp(day) + DAY)[:10])
    opens = [f"{t:%H:%M}" for t in bars["open_time"].dt.tz_convert("America/New_York")]
    assert f"{bars['open_time'].iloc[0]:%H:%M}" == first
    assert opens == ["09:30", "10:30", "11:30", "12:30", "13:30", "14:30", "15:30"]
    assert set(bars["session"]) == {day}


def test_the_last_bar_of_a_session_is_cut_at_the_close() -> None:
    # 09:30 to 16:00 in New York is 6.5 hours: six whole bars and 15:30-16:00. In March after the change, + 4 h.
    assert spans(bars_of("XNYS", "1h", "2024-03-11", "2024-03-12")) == [
        *("13:30-14:30", "14:30-15:30", "15:30-16:30", "16:30-17:30", "17:30-18:30", "18:30-19:30"),
        "19:30-20:00",
    ]


def test_the_last_bar_of_a_half_day_ends_at_one_in_new_york() -> None:
    # 3 July 2024 closed at 13:00 EDT = 17:00 UTC, so the 12:30 bar is half an hour: 16:30-17:00 UTC. 4 July: holiday.
    bars = bars_of("XNYS", "1h", "2024-07-03", "2024-07-06")
    assert spans(bars[bars["session"] == "2024-07-03"]) == ["13:30-14:30", "14:30-15:30", "15:30-16:30", "16:30-17:00"]
    assert sorted(set(bars["session"])) == ["2024-07-03", "2024-07-05"]
    assert len(bars) == 4 + 7


def test_a_daily_bar_is_the_session_and_is_decided_five_minutes_before_the_open() -> None:
    # Friday and Monday around 10 March, and the half day: open 09:30, close 16:00 (13:00), decision 09:25 in New York.
    around = bars_of("XNYS", "1d", "2024-03-08", "2024-03-12", FIVE)
    assert shown(around["open_time"]) == ["2024-03-08 14:30", "2024-03-11 13:30"]
    assert shown(around["close_time"]) == ["2024-03-08 21:00", "2024-03-11 20:00"]
    assert shown(around["time"]) == ["2024-03-08 14:25", "2024-03-11 13:25"]
    half = bars_of("XNYS", "1d", "2024-07-03", "2024-07-05", FIVE)
    assert shown(half["close_time"]) == ["2024-07-03 17:00"]


def test_hong_kong_steps_from_the_open_of_each_half_and_a_daily_bar_spans_the_lunch() -> None:
    # 09:30-12:00 and 13:00-16:00 at UTC+8, so 01:30-04:00 and 05:00-08:00 UTC. The morning is 2.5 hours.
    hourly = bars_of("XHKG", "1h", "2024-07-03", "2024-07-04")
    assert spans(hourly) == ["01:30-02:30", "02:30-03:30", "03:30-04:00", "05:00-06:00", "06:00-07:00", "07:00-08:00"]
    assert spans(bars_of("XHKG", "1d", "2024-07-03", "2024-07-04")) == ["01:30-08:00"]


def test_a_market_that_never_closes_steps_through_the_clock_change_and_the_weekend() -> None:
    bars = bars_of("24x7", "1h", "2024-03-10", "2024-03-11")
    assert shown(bars["open_time"]) == [f"2024-03-10 {h:02d}:00" for h in range(24)]
    assert (bars["close_time"] - bars["open_time"] == HOUR).all()
    assert set(bars["session"]) == {"2024-03-10"}


def test_a_period_holds_the_bars_that_open_in_it() -> None:
    # Half-open: the 14:30 bar is in, the 15:30 bar is not; the 13:30 bar opened before the start.
    assert spans(bars_of("XNYS", "1h", "2024-03-11T13:31", "2024-03-11T15:30")) == ["14:30-15:30"]
    assert spans(bars_of("24x7", "1h", "2024-03-11T13:31", "2024-03-11T15:00")) == ["14:00-15:00"]


def test_a_period_without_a_session_is_an_empty_grid() -> None:
    for market, start, end in [
        ("XNYS", "2024-07-04", "2024-07-05"),  # a holiday
        ("XNYS", "2024-03-09", "2024-03-11"),  # a weekend
        ("24x7", "2024-03-09T00:10", "2024-03-09T00:50"),
    ]:
        bars = bars_of(market, "1h", start, end)
        assert len(bars) == 0
        BARS.check(bars)


def test_the_grid_does_not_depend_on_the_day_it_is_asked_on() -> None:
    # The calendar's own bounds are 20 years before and one year after today: both days lie outside, now and for long.
    assert spans(bars_of("XNYS", "1d", "1995-01-03", "1995-01-04")) == ["14:30-21:00"]
    assert spans(bars_of("XNYS", "1d", "2060-01-05", "2060-01-06")) == ["14:30-21:00"]  # a Monday


def test_the_grid_is_the_same_whatever_was_asked_before() -> None:
    alone = bars_of("XNYS", "1h", "2024-03-08", "2024-03-12")
    bars_of("XNYS", "1h", "2010-01-01", "2010-02-01")
    assert_frame_equal(bars_of("XNYS", "1h", "2024-03-08", "2024-03-12"), alone)


def test_the_grid_can_be_made_where_every_warning_is_an_error() -> None:
    code = (
        "from finsignal.clock import make_bars; import pandas as pd;"
        "print(len(make_bars('XNYS', '1h', start='2024-03-08', end='2024-03-12', latency=pd.Timedelta('1min'))))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("14", 0), done.stderr


def test_only_the_one_named_warning_of_the_calendar_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    import exchange_calendars

    def warn(*args: object, **kwargs: object) -> None:
        warnings.warn("something new", DeprecationWarning, stacklevel=2)

    monkeypatch.setattr(exchange_calendars, "get_calendar", warn)
    with pytest.raises(DeprecationWarning, match="something new"):
        bars_of("XNYS", "1h", "2024-03-08", "2024-03-12")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bar": "7h"}, "divide a day"),
        ({"bar": "2d"}, "at most '1d'"),
        ({"bar": "0h"}, "above 0"),
        ({"bar": "1 fortnight"}, "is not a length of time"),
        ({"bar": "-1h"}, "is not a length of time"),
        ({"bar": "1H"}, "is not a length of time"),
        ({"market": "NYSE2"}, "'NYSE2' is neither an exchange code such as 'XNYS'"),
        ({"market": "XHKG", "start": "1950-01-01"}, "the calendar of XHKG does not cover 1950-01-01"),
        ({"start": "2024-03-12"}, "start 2024-03-12 00:00:00.* must be before end 2024-03-12"),
        ({"start": "2024-03-13"}, "must be before end"),
        ({"latency": -MINUTE}, "negative; a decision cannot come after its bar opened"),
        ({"start": "soon"}, "start: 'soon' is not a time"),
        ({"end": None}, "end: a time is needed"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(options: dict, message: str) -> None:
    asked = {"market": "XNYS", "bar": "1h", "start": "2024-03-08", "end": "2024-03-12", "latency": MINUTE, **options}
    with pytest.raises(ConfigError, match=message):
        make_bars(asked.pop("market"), asked.pop("bar"), **asked)


def test_lengths_of_bars_and_their_latency() -> None:
    assert to_bar("30min") == pd.Timedelta(minutes=30)
    assert to_bar("24h") == to_bar("1d") == DAY
    assert default_latency("1d") == FIVE
    assert default_latency("1h") == MINUTE
    assert (days_per_year("XNYS"), days_per_year("24x7"), days_per_year("bybit-linear")) == (252, 365, 365)
    assert is_always_open("24/7")
    assert not is_always_open("XNYS")


# ---- what is known at a decision


def newest_known(bars: pd.DataFrame, position: int) -> str:
    """The newest bar of the grid whose row is known at the decision of `position`; a row is known at its close."""
    known = bars[bars["close_time"] <= bars["time"].iloc[position]]
    return f"{known['open_time'].iloc[-1]:%a %H:%M}-{known['close_time'].iloc[-1]:%H:%M}"


def test_at_25_past_ten_the_newest_price_is_yesterdays_last_bar() -> None:
    # Tuesday 12 March, 10:30 EDT = 14:30 UTC; the decision at 10:25 is before 10:30, when the 09:30 bar closes. So the
    # newest row is Monday's 15:30-16:00 bar, 19:30-20:00 UTC.
    bars = bars_of("XNYS", "1h", "2024-03-11", "2024-03-13", FIVE)
    at = bars.index[bars["open_time"] == pd.Timestamp("2024-03-12T14:30Z")][0]
    assert shown(bars["time"])[at] == "2024-03-12 14:25"
    assert newest_known(bars, at) == "Mon 19:30-20:00"
    assert newest_known(bars, at + 1) == "Tue 13:30-14:30"


def test_at_0959_a_crypto_decision_sees_the_bar_from_eight_to_nine() -> None:
    # The 10:00 bar is decided at 09:59. 08:00-09:00 is known since 09:00; 09:00-10:00 only from 10:00.
    bars = bars_of("24x7", "1h", "2024-03-11", "2024-03-12")
    assert shown(bars["time"])[10] == "2024-03-11 09:59"
    assert newest_known(bars, 10) == "Mon 08:00-09:00"
    # Read the other way: the price row with time 10:00 serves the 11:00 bar first.
    assert bar_of(bars, instants("2024-03-11 09:00", "2024-03-11 10:00")).tolist() == [10, 11]


def test_without_latency_the_bar_that_just_closed_is_known() -> None:
    bars = bars_of("24x7", "1h", "2024-03-11", "2024-03-12", pd.Timedelta(0))
    assert newest_known(bars, 10) == "Mon 09:00-10:00"


@pytest.mark.parametrize("bar", ["1h", "1d"])
def test_news_after_fridays_close_and_on_the_weekend_counts_for_mondays_open(bar: str) -> None:
    # Friday 8 March closes at 16:00 EST = 21:00 UTC; Monday 11 March opens at 09:30 EDT = 13:30 UTC.
    bars = bars_of("XNYS", bar, "2024-03-08", "2024-03-12", default_latency(bar))
    news = instants("2024-03-08 21:05", "2024-03-09 12:00", "2024-03-10 07:30", "2024-03-11 13:25")
    assert shown(bars["open_time"].iloc[bar_of(bars, news)]) == ["2024-03-11 13:30"] * 4


def test_news_after_the_close_before_the_clocks_go_back_counts_for_mondays_open() -> None:
    # Friday 1 November closes at 16:00 EDT = 20:00 UTC; Monday 4 November opens at 09:30 EST = 14:30 UTC, not 13:30.
    bars = bars_of("XNYS", "1h", "2024-11-01", "2024-11-05")
    news = instants("2024-11-01 20:01", "2024-11-03 06:30", "2024-11-04 13:30")
    assert shown(bars["open_time"].iloc[bar_of(bars, news)]) == ["2024-11-04 14:30"] * 3


def test_news_after_the_close_of_the_half_day_waits_over_the_holiday() -> None:
    # 3 July closes at 17:00 UTC, 4 July is a holiday, Friday 5 July opens at 13:30 UTC.
    bars = bars_of("XNYS", "1h", "2024-07-03", "2024-07-06")
    assert shown(bars["open_time"].iloc[bar_of(bars, instants("2024-07-03 17:30"))]) == ["2024-07-05 13:30"]


def test_news_between_decision_and_open_waits_for_the_next_bar() -> None:
    # Bars of 10:00 and 11:00, decided at 09:59 and 10:59. At the decision still counts; a microsecond later not.
    bars = bars_of("24x7", "1h", "2024-03-11T10:00", "2024-03-11T12:00")
    news = instants("2024-03-11 09:59", "2024-03-11 09:59:00.000001", "2024-03-11 10:00", "2024-03-11 10:59")
    assert bar_of(bars, news).tolist() == [0, 1, 1, 1]


def test_what_is_known_after_the_last_decision_or_never_has_no_bar() -> None:
    bars = bars_of("24x7", "1h", "2024-03-11T10:00", "2024-03-11T12:00")
    assert bar_of(bars, instants("2024-03-11 10:59:01", None)).tolist() == [2, 2]
    assert bar_of(BARS.empty(), instants("2024-03-11 10:00")).tolist() == [0]


@pytest.mark.parametrize(
    ("now", "serves", "latest"),
    [
        ("2024-03-11T13:28:59Z", None, None),  # before the first decision
        ("2024-03-11T13:29:00Z", 0, 0),  # exactly at it
        ("2024-03-11T13:29:59Z", 0, 0),
        ("2024-03-11T13:30:00Z", None, 0),  # late: the bar has opened
        ("2024-03-11T13:30:40Z", None, 0),  # late, with the news of the last minute at hand: still nothing
        ("2024-03-11T14:29:10Z", 1, 1),
        ("2024-03-11T23:00:00Z", None, 6),  # after the close
        ("2024-03-11T09:29:30-04:00", 0, 0),  # another zone, the same instant
    ],
)
def test_a_pass_serves_only_a_bar_decided_and_not_yet_open(now: str, serves: int | None, latest: int | None) -> None:
    bars = bars_of("XNYS", "1h", "2024-03-11", "2024-03-12")
    assert bar_to_serve(bars, pd.Timestamp(now)) == serves
    assert latest_decision(bars, pd.Timestamp(now)) == latest


def test_without_latency_a_pass_serves_nothing() -> None:
    bars = bars_of("24x7", "1h", "2024-03-11", "2024-03-12", pd.Timedelta(0))
    assert bar_to_serve(bars, pd.Timestamp("2024-03-11T10:00Z")) is None


# ---- when a text is known


def test_a_date_counts_from_the_next_midnight_where_it_was_written() -> None:
    # New York midnights: 10 March 00:00 EST = 05:00 UTC, 11 March 00:00 EDT = 04:00 UTC: a day of 23 hours.
    # 3 November 00:00 EDT = 04:00 UTC, 4 November 00:00 EST = 05:00 UTC: a day of 25 hours.
    dates = to_instants(pd.Series(["2024-03-09", "2024-03-10", "2024-11-03"]), where="x", tz="America/New_York")
    assert shown(dates) == ["2024-03-09 05:00", "2024-03-10 05:00", "2024-11-03 04:00"]
    ends = end_of_precision(dates, precision="date", tz="America/New_York")
    assert shown(ends) == ["2024-03-10 05:00", "2024-03-11 04:00", "2024-11-04 05:00"]
    assert ((ends - dates) / HOUR).tolist() == [24, 23, 25]


def test_an_evening_in_new_york_belongs_to_its_own_date() -> None:
    # 02:00 UTC on 12 March is 22:00 EDT on 11 March, which ends at 04:00 UTC; in UTC the date ends at midnight.
    evening = instants("2024-03-12 02:00")
    assert shown(end_of_precision(evening, precision="date", tz="America/New_York")) == ["2024-03-12 04:00"]
    assert shown(end_of_precision(evening, precision="date")) == ["2024-03-13 00:00"]


def test_a_midnight_that_does_not_exist_ends_the_date_when_the_next_one_begins() -> None:
    # In Sao Paulo 4 November 2018 began at 01:00 (UTC-2) = 03:00 UTC, for 00:00 (UTC-3) was skipped.
    ends = end_of_precision(instants("2018-11-03 15:00"), precision="date", tz="America/Sao_Paulo")
    assert shown(ends) == ["2018-11-04 03:00"]


def test_a_minute_an_hour_and_a_second_count_at_their_end() -> None:
    stamp = instants("2024-03-11 14:25", "2024-03-11 14:25:30.5", None)
    assert shown(end_of_precision(stamp, precision="minute")) == ["2024-03-11 14:26", "2024-03-11 14:26", "NaT"]
    assert shown(end_of_precision(stamp, precision="hour")) == ["2024-03-11 15:00", "2024-03-11 15:00", "NaT"]
    seconds = end_of_precision(stamp, precision="second")
    assert seconds.tolist()[:2] == [pd.Timestamp("2024-03-11T14:25:01Z"), pd.Timestamp("2024-03-11T14:25:31Z")]
    # An hour in Kolkata (UTC+5:30) ends at half past in UTC: 14:25 UTC is 19:55 there, and 20:00 is 14:30 UTC.
    assert shown(end_of_precision(stamp, precision="hour", tz="Asia/Kolkata"))[0] == "2024-03-11 14:30"


def test_an_unknown_precision_or_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'week' is not one of second, minute, hour, date\."):
        end_of_precision(instants("2024-03-11"), precision="week")
    with pytest.raises(ConfigError, match="'Mars/Olympus' is not a time zone"):
        end_of_precision(instants("2024-03-11"), precision="date", tz="Mars/Olympus")


def test_a_text_is_known_at_the_later_of_publication_and_first_sight_plus_the_latency() -> None:
    published = instants("2024-03-11 14:00", "2024-03-11 14:00", "2024-03-11 14:00", None)
    first_seen = instants("2024-03-11 14:10", "2024-03-11 13:50", None, "2024-03-11 14:10")
    # Seen later: 14:10 + 1. Seen earlier, or not captured: 14:00 + 1. A text without a publication stays unknown.
    assert shown(known_time(published, latency=MINUTE, first_seen=first_seen)) == [
        *("2024-03-11 14:11", "2024-03-11 14:01", "2024-03-11 14:01"),
        "NaT",
    ]
    assert shown(known_time(published, latency=pd.Timedelta(0)))[0] == "2024-03-11 14:00"
    assert str(known_time(published, latency=MINUTE, first_seen=first_seen).dtype) == INSTANT


def test_a_negative_latency_of_a_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be known before it was published"):
        known_time(instants("2024-03-11"), latency=pd.Timedelta(seconds=-1))


# ---- reading stamps


def read(*stamps: object, tz: str | None = None, format: str | None = None) -> list[str]:
    return shown(to_instants(pd.Series(list(stamps)), where="news", tz=tz, format=format))


@pytest.mark.parametrize(
    ("stamp", "instant"),
    [
        ("2024-03-01T10:00Z", "2024-03-01 10:00"),
        ("2024-03-01T10:00z", "2024-03-01 10:00"),
        ("2024-03-01 10:00:00 UTC", "2024-03-01 10:00"),
        ("2024-03-01 10:00:00 GMT", "2024-03-01 10:00"),
        ("2024-03-01T10:00+02:00", "2024-03-01 08:00"),
        ("2024-03-01T10:00+0200", "2024-03-01 08:00"),
        ("2024-03-01 10:00+02", "2024-03-01 08:00"),  # as PostgreSQL writes it
        ("2024-03-01 10:00:00 -05:00", "2024-03-01 15:00"),
        ("2024-03-01T10-0500", "2024-03-01 15:00"),
        ("20240301T100000Z", "2024-03-01 10:00"),
        ("20240301T100000-0500", "2024-03-01 15:00"),
        ("2024-03-01T10:00:59.999999Z", "2024-03-01 10:00"),
        ("  2024-03-01T10:00Z ", "2024-03-01 10:00"),
    ],
)
def test_a_stamp_with_a_zone_is_read_by_it_whatever_tz_says(stamp: str, instant: str) -> None:
    assert read(stamp) == read(stamp, tz="Asia/Kolkata") == [instant]
    assert read("2024-03-02T00:00Z", stamp) == ["2024-03-02 00:00", instant]


@pytest.mark.parametrize(
    "stamp", ["2024-03-01 09:00", "2024-03-01T09:00", "2024-03-01T09", "2024-03-01", "20240301", "20240301T0900"]
)
def test_a_stamp_without_zone_is_refused_naming_the_row(stamp: str) -> None:
    with pytest.raises(TableError, match=f"news row 1: time '{stamp}' has no time zone"):
        read("2024-03-01T09:00Z", stamp)


def test_the_row_is_named_by_position_whatever_the_index() -> None:
    stamps = pd.Series(["2024-03-01T09:00Z", "2024-03-01 09:00"], index=["a", "a"])
    with pytest.raises(TableError, match="news row 1: time '2024-03-01 09:00'"):
        to_instants(stamps, where="news", tz=None)


def test_stamps_without_zone_are_read_in_the_zone_given() -> None:
    # New York: EST on 8 March (+ 5 h), EDT on 11 March (+ 4 h). The date alone is its first instant.
    assert read("2024-03-08 09:00", "2024-03-11 09:00", "2024-03-11", tz="America/New_York") == [
        *("2024-03-08 14:00", "2024-03-11 13:00"),
        "2024-03-11 04:00",
    ]


def test_zoned_and_local_stamps_and_offsets_mix_in_one_column() -> None:
    column = ["2024-03-11T10:00+02:00", "2024-03-11 09:00", "2024-03-11T10:00-05:00", "junk", "2024-03-11T10:00Z"]
    assert read(*column, tz="America/New_York") == [
        *("2024-03-11 08:00", "2024-03-11 13:00", "2024-03-11 15:00"),
        *("NaT", "2024-03-11 10:00"),
    ]


def test_an_ambiguous_local_time_is_the_later_instant() -> None:
    # 01:30 on 3 November came twice in New York: EDT 05:30 UTC, EST 06:30 UTC. Dublin's "DST" is in winter, Moscow's
    # change of 2014 was none at all; the later instant is meant there too: 01:30 UTC and 22:30 UTC the day before.
    assert read("2024-11-03 01:30", tz="America/New_York") == ["2024-11-03 06:30"]
    assert read("2024-10-27 01:30", tz="Europe/Dublin") == ["2024-10-27 01:30"]
    assert read("2014-10-26 01:30", tz="Europe/Moscow") == ["2014-10-25 22:30"]
    assert to_instant("2024-11-03 01:30", where="x", tz="America/New_York") == pd.Timestamp("2024-11-03T06:30Z")


def test_a_local_time_that_was_skipped_is_the_instant_after_the_gap() -> None:
    assert read("2024-03-10 02:30", tz="America/New_York") == ["2024-03-10 07:00"]
    assert to_instant("2024-03-10 02:30", where="x", tz="America/New_York") == pd.Timestamp("2024-03-10T07:00Z")


def test_columns_of_datetimes_are_read_too() -> None:
    naive = pd.Series(pd.to_datetime(["2024-11-03 01:30", "2024-03-10 02:30", None])).astype("datetime64[ns]")
    assert shown(to_instants(naive, where="x", tz="America/New_York")) == [
        "2024-11-03 06:30",
        "2024-03-10 07:00",
        "NaT",
    ]
    with pytest.raises(TableError, match="x row 0: time '2024-11-03 01:30:00' has no time zone"):
        to_instants(naive, where="x", tz=None)
    aware = naive.dt.tz_localize("Asia/Kolkata")  # 01:30 less 5:30
    assert shown(to_instants(aware, where="x", tz=None))[0] == "2024-11-02 20:00"
    assert read(datetime.date(2024, 3, 11), pd.Timestamp("2024-03-11 09:00", tz="America/New_York"), tz="UTC") == [
        "2024-03-11 00:00",
        "2024-03-11 13:00",
    ]


def test_a_format_of_day_month_year() -> None:
    day_first = "%d-%m-%Y %H:%M"
    assert read("05-07-2022 04:24", tz="UTC", format=day_first) == ["2022-07-05 04:24"]
    assert read("05-07-2022", tz="UTC", format="%d-%m-%Y") == ["2022-07-05 00:00"]
    for stamp, format in [("05-07-2022 04:24", day_first), ("05-07-2022", "%d-%m-%Y")]:
        with pytest.raises(TableError, match="has no time zone"):
            read(stamp, format=format)
    # ISO text does not fit the format: unparsable, never read the American way.
    assert read("2022-07-05 04:24", "32-07-2022 04:24", tz="UTC", format=day_first) == ["NaT", "NaT"]


def test_a_year_at_the_end_is_not_taken_for_an_offset() -> None:
    # '-2022' looks like 20 hours 22 minutes behind UTC. New York on 5 July: 04:24 + 4 h.
    time_first = "%H:%M %d-%m-%Y"
    assert read("04:24 05-07-2022", tz="America/New_York", format=time_first) == ["2022-07-05 08:24"]
    with pytest.raises(TableError, match="has no time zone"):
        read("04:24 05-07-2022", format=time_first)


def test_a_format_carries_a_zone_only_by_its_own_word() -> None:
    mail = "%a, %d %b %Y %H:%M:%S %z"
    assert read("Tue, 05 Jul 2022 04:24:00 +0200", "Tue, 05 Jul 2022 04:24:00", format=mail) == [
        "2022-07-05 02:24",
        "NaT",
    ]
    assert read("Tue, 05 Jul 2022 04:24:00 GMT", format="%a, %d %b %Y %H:%M:%S %Z") == ["2022-07-05 04:24"]
    with pytest.raises(ConfigError, match="time format 'mixed' is neither unix_s"):
        read("2024-03-01", tz="UTC", format="mixed")


def test_numbers_since_1970() -> None:
    # 1 709 287 200 s = 19 783 days + 36 000 s, and 19 783 days after 1 January 1970 is 1 March 2024: 10:00.
    assert read(1709287200000, None, format="unix_ms") == ["2024-03-01 10:00", "NaT"]
    assert read("1709287200", "x", "", format="unix_s") == ["2024-03-01 10:00", "NaT", "NaT"]
    assert read(1e30, float("inf"), format="unix_s") == ["NaT", "NaT"]
    assert read(1709287200, tz="UTC") == ["NaT"]  # a number is not guessed at


@pytest.mark.parametrize(
    "stamp",
    ["junk", "", None, "2024-13-01T10:00Z", "2024-02-30 10:00", "10:00", "05-07-2022", "2024-03", "2024/03", "2024"],
)
def test_what_cannot_be_read_is_missing(stamp: str | None) -> None:
    assert read(stamp, tz="UTC") == read(stamp) == ["NaT"]


@pytest.mark.parametrize("word", ["now", "today", "Today", " now "])
def test_no_stamp_reads_the_clock_of_the_machine(word: str) -> None:
    assert read(word, tz="UTC") == read(word, tz="UTC", format="%d-%m-%Y") == ["NaT"]
    with pytest.raises(ConfigError, match="is not a time"):
        to_instant(word, where="start")


@pytest.mark.parametrize("stamp", ["10:00", "March", "2024-03", 2024, 1.5, True])
def test_one_stamp_is_not_guessed_at(stamp: object) -> None:
    with pytest.raises(ConfigError, match=r"start: .* is not a time"):
        to_instant(stamp, where="start")


def test_one_stamp() -> None:
    noon = pd.Timestamp("2024-03-11T12:00Z")
    for stamp in (
        "2024-03-11T12:00",
        "2024-03-11T08:00-04:00",
        noon,
        noon.tz_convert("Asia/Tokyo"),
        noon.to_datetime64(),
    ):
        assert to_instant(stamp, where="x") == noon
    assert to_instant(datetime.date(2024, 3, 11), where="x", tz="America/New_York") == pd.Timestamp("2024-03-11T04:00Z")
    assert to_instant(noon, where="x").unit == "us"
    with pytest.raises(ConfigError, match="now: time '2024-03-11' has no zone"):
        to_instant("2024-03-11", where="now", tz=None)
    with pytest.raises(ConfigError, match="'Mars/Olympus' is not a time zone"):
        to_instant("2024-03-11", where="now", tz="Mars/Olympus")
    for nothing in (None, pd.NaT):
        with pytest.raises(ConfigError, match="now: a time is needed"):
            to_instant(nothing, where="now")


def test_reading_keeps_the_index_and_gives_instants() -> None:
    for stamps in (pd.Series(["2024-03-01", "x"], index=[7, 3]), pd.Series([], dtype="str"), pd.Series([None, 1.0])):
        out = to_instants(stamps, where="x", tz="UTC")
        assert str(out.dtype) == INSTANT
        assert out.index.equals(stamps.index)


# ---- properties

some_instant = st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2040, 1, 1))  # noqa: DTZ001
moments = some_instant.map(lambda t: pd.Timestamp(t, tz="UTC").as_unit("us"))
starts = st.integers(0, 366 * 4).map(lambda n: pd.Timestamp("2024-01-01T00:00Z") + n * pd.Timedelta("6h"))
nearby = st.integers(0, 90 * 24).map(lambda n: pd.Timestamp("2024-09-01T00:00Z") + n * HOUR)  # over 3 November
lengths = st.sampled_from(["15min", "1h", "4h", "1d"])
markets = st.sampled_from(["XNYS", "XHKG", "24x7"])
latencies = st.sampled_from([pd.Timedelta(0), MINUTE, FIVE])


@pytest.fixture(scope="module")
def grid() -> pd.DataFrame:
    return bars_of("XNYS", "1h", "2024-01-01", "2025-01-01")


@given(seconds=st.lists(st.integers(0, 366 * 86400 * 10**6), min_size=1, max_size=20))
def test_the_bar_of_an_instant_is_the_first_one_decided_at_it_or_later(grid: pd.DataFrame, seconds: list[int]) -> None:
    asked = pd.Series(pd.Timestamp("2024-01-01T00:00Z") + pd.to_timedelta(seconds, unit="us")).astype(INSTANT)
    for instant, position in zip(asked, bar_of(grid, asked), strict=True):
        assert position == len(grid) or grid["time"].iloc[position] >= instant
        assert position == 0 or grid["time"].iloc[position - 1] < instant


@settings(max_examples=20)
@given(markets, lengths, starts, st.integers(1, 40), latencies)
def test_a_bar_is_decided_before_it_opens_and_ends_before_the_next(
    market: str, bar: str, start: pd.Timestamp, days: int, latency: pd.Timedelta
) -> None:
    bars = make_bars(market, bar, start=start, end=start + days * DAY, latency=latency)
    assert (bars["open_time"] - bars["time"] == latency).all()
    assert (bars["open_time"] < bars["close_time"]).all()
    assert (bars["close_time"] - bars["open_time"] <= to_bar(bar)).all()
    assert (to_integers(bars["close_time"])[:-1] <= to_integers(bars["open_time"])[1:]).all()
    assert ((bars["open_time"] >= start) & (bars["open_time"] < start + days * DAY)).all()


@pytest.mark.slow
@settings(max_examples=20)
@given(markets, lengths, st.lists(nearby, min_size=3, max_size=3, unique=True))
def test_the_grid_of_two_halves_is_the_grid_of_the_whole(market: str, bar: str, times: list[pd.Timestamp]) -> None:
    a, b, c = sorted(times)
    halves = [make_bars(market, bar, start=s, end=e, latency=MINUTE) for s, e in ((a, b), (b, c))]
    whole = make_bars(market, bar, start=a, end=c, latency=MINUTE)
    assert_frame_equal(pd.concat(halves, ignore_index=True), whole)


@given(st.lists(moments, min_size=1, max_size=10), st.sampled_from(ZONES), st.booleans())
def test_iso_text_in_any_zone_reads_back_as_the_same_instant(times: list[pd.Timestamp], zone: str, z: bool) -> None:
    local = [t.to_pydatetime().astimezone(ZoneInfo(zone)).isoformat() for t in times]
    if z:
        local = [t.replace("+00:00", "Z") for t in local]
    out = to_instants(pd.Series(local), where="x", tz=None)
    assert out.tolist() == times


@given(moments, st.sampled_from(ZONES))
def test_local_text_is_read_as_the_true_instant_or_a_later_one(time: pd.Timestamp, zone: str) -> None:
    # Wall clock text that existed: never read as earlier than it was, and at most one repeated hour later.
    wall = time.to_pydatetime().astimezone(ZoneInfo(zone)).replace(tzinfo=None).isoformat()
    late = to_instants(pd.Series([wall]), where="x", tz=zone).iloc[0] - time
    assert pd.Timedelta(0) <= late <= HOUR


@given(
    st.lists(
        st.one_of(
            st.from_regex(
                r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ]?[0-9:.,]{0,8} ?([zZ]|UTC|[+-][0-9:]{1,5})?", fullmatch=True
            ),
            st.text("0123456789-+:/TZ ", max_size=20),
        ),
        max_size=5,
    )
)
def test_each_row_is_read_alone_and_nothing_but_missing_comes_of_junk(texts: list[str]) -> None:
    together = to_instants(pd.Series(texts, dtype="str"), where="x", tz="America/New_York")
    alone = [to_instants(pd.Series([t]), where="x", tz="America/New_York").iloc[0] for t in texts]
    assert together.isna().tolist() == [pd.isna(t) for t in alone]
    assert together.dropna().tolist() == [t for t in alone if not pd.isna(t)]
    with contextlib.suppress(TableError):  # the only error there may be
        to_instants(pd.Series(texts, dtype="str"), where="x", tz=None)


@given(st.lists(moments, min_size=1, max_size=10), st.sampled_from(ZONES))
def test_the_end_of_a_precision_is_later_by_no_more_than_the_precision(times: list[pd.Timestamp], zone: str) -> None:
    stamps = pd.Series(times, dtype=INSTANT)
    for precision, length in [("second", "1s"), ("minute", "1min"), ("hour", "1h"), ("date", "25h")]:
        wait = end_of_precision(stamps, precision=precision, tz=zone) - stamps
        assert ((wait > pd.Timedelta(0)) & (wait <= pd.Timedelta(length))).all()


@given(moments, st.integers(0, 10**6), st.one_of(st.none(), moments))
def test_no_text_is_known_before_it_was_published_or_seen(
    published: pd.Timestamp, seconds: int, seen: pd.Timestamp | None
) -> None:
    latency = pd.Timedelta(seconds=seconds)
    first_seen = pd.Series([pd.NaT if seen is None else seen], dtype=INSTANT)
    known = known_time(pd.Series([published], dtype=INSTANT), latency=latency, first_seen=first_seen).iloc[0]
    assert known == (published if seen is None else max(published, seen)) + latency


@given(st.sampled_from(range(40)), st.integers(-7200, 7200))
def test_a_pass_serves_the_latest_decision_or_nothing(grid: pd.DataFrame, position: int, seconds: int) -> None:
    now = grid["open_time"].iloc[position] + pd.Timedelta(seconds=seconds)
    decided = np.flatnonzero((grid["time"] <= now).to_numpy())
    latest = latest_decision(grid, now)
    assert latest == (decided[-1] if len(decided) else None)
    served = bar_to_serve(grid, now)
    assert served in (None, latest)
    waiting = ((grid["time"] <= now) & (now < grid["open_time"])).to_numpy()
    assert (served is not None) == waiting.any()


def test_the_zone_is_the_exchange_s_own_and_utc_where_the_market_never_closes() -> None:
    at = pd.Timestamp("2024-03-01", tz="UTC")
    for market, zone in (("XNYS", "America/New_York"), ("XHKG", "Asia/Hong_Kong"), ("bybit-linear", "UTC")):
        assert str(zone_of(market, at=at)) == zone
    with pytest.raises(ConfigError, match="'NYSE!' is neither an exchange code"):
        zone_of("NYSE!", at=at)
