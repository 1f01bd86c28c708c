"""Yahoo through the real yfinance, against a server that replays recorded and synthetic answers and their faults."""

import copy
import functools
import json
import logging
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from replay_server import Answer, Server, serve, to_answer
from yahoo_answers import CHART, Yahoo, make_chart, make_item, make_prices, read_recorded

from finsignal.clock import make_bars
from finsignal.errors import ConfigError, SourceError, TableError
from finsignal.sources.yahoo import Fetched, fetch_news, fetch_prices, make_session
from finsignal.tables import ACTIONS, PRICES

NOW = pd.Timestamp("2026-11-21T12:00Z").as_unit("us")  # a Saturday; Friday's session has closed
LATENCY = pd.Timedelta(minutes=1)
Fetch = Callable[..., Fetched]


@functools.cache
def grid(start: str, end: str, *, bar: str = "1d", market: str = "XNYS") -> pd.DataFrame:
    return make_bars(market, bar, start=start, end=end, latency=LATENCY)


@pytest.fixture
def yahoo() -> Yahoo:
    return Yahoo(prices={("AAPL", "1d"): make_prices(grid("2026-10-01", "2026-11-21"))})


@pytest.fixture
def server(yahoo: Yahoo) -> Iterator[Server]:
    with serve(yahoo) as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def fetch(server: Server, tmp_path: Path, waits: list[float]) -> Fetch:
    """fetch_prices of AAPL's days since October, or as told."""

    def fetched(symbol: str = "AAPL", *, bars: pd.DataFrame | None = None, bar: str = "1d", **given: Any) -> Fetched:
        grid_of_bars = grid("2026-10-01", "2026-11-21", bar=bar) if bars is None else bars
        options = {"now": NOW, "session": make_session(server.url), "cache": tmp_path, "sleep": waits.append, **given}
        return fetch_prices(symbol, bars=grid_of_bars, bar=bar, **options)

    return fetched


def read_quote(chart: dict[str, Any]) -> dict[str, Any]:
    return chart["chart"]["result"][0]["indicators"]["quote"][0]


# --- recorded answers ----------------------------------------------------------------------------------------


def test_the_recorded_split_of_apple(yahoo: Yahoo, fetch: Fetch, shared: Path) -> None:
    recorded = read_recorded(shared, "chart-AAPL-2020-08-31-to-2020-11-07")
    yahoo.charts = {"AAPL": recorded}
    bars = grid("2020-08-31", "2020-11-07")
    fetched = fetch(bars=bars)
    assert len(fetched.prices) == len(bars) == 49
    assert fetched.notes == ()
    assert fetched.missing.empty
    assert fetched.prices["close"].tolist() == read_quote(recorded)["close"]
    assert fetched.prices["volume"].tolist() == read_quote(recorded)["volume"]
    assert fetched.prices["open_time"].iloc[0] == pd.Timestamp("2020-08-31T13:30Z")
    assert fetched.prices["time"].iloc[0] == pd.Timestamp("2020-08-31T20:00Z")
    assert fetched.actions.to_dict("records") == [
        {"symbol": "AAPL", "time": pd.Timestamp("2020-08-31T13:30Z"), "kind": "split", "value": 4.0},
        {"symbol": "AAPL", "time": pd.Timestamp("2020-11-06T14:30Z"), "kind": "dividend", "value": 0.205},
    ]


def test_the_recorded_split_of_nvidia_and_dividends_of_microsoft(yahoo: Yahoo, fetch: Fetch, shared: Path) -> None:
    year = "2021-02-01-to-2022-01-31.csv"
    yahoo.charts = {
        "NVDA": read_recorded(shared, f"historical-via-chart-NVDA-split-{year}"),
        "MSFT": read_recorded(shared, f"historical-via-chart-MSFT-dividends-{year}"),
    }
    bars = grid("2021-02-01", "2022-01-29")
    nvidia, microsoft = fetch("NVDA", bars=bars), fetch("MSFT", bars=bars)
    assert len(nvidia.prices) == len(microsoft.prices) == len(bars) == 252
    assert nvidia.actions.loc[nvidia.actions["kind"] == "split", ["time", "value"]].to_numpy().tolist() == [
        [pd.Timestamp("2021-07-20T13:30Z"), 4.0]
    ]
    # ex-dates and cash a share as Microsoft's investor relations publish them
    assert microsoft.actions["time"].dt.strftime("%Y-%m-%d").tolist() == [
        *("2021-02-17", "2021-05-19", "2021-08-18", "2021-11-17")
    ]
    assert microsoft.actions["value"].tolist() == [0.56, 0.56, 0.56, 0.62]


def test_recorded_days_of_a_market_that_never_closes(yahoo: Yahoo, fetch: Fetch, shared: Path) -> None:
    yahoo.charts = {"BTC-USD": read_recorded(shared, "chart-BTC-USD-2020-01-01-to-2020-01-03")}
    fetched = fetch("BTC-USD", bars=grid("2020-01-01", "2020-01-04", market="24x7"))
    assert fetched.prices["close"].round(2).tolist() == [7200.17, 6985.47, 7344.88]
    assert fetched.prices["time"].tolist() == list(pd.date_range("2020-01-02", periods=3, tz="UTC"))
    assert fetched.actions.empty


@pytest.mark.parametrize(
    ("symbol", "name", "market", "start", "end"),
    [
        ("WSU.DE", "chart-WSU.DE-2023-08-04-to-2023-08-09", "XETR", "2023-08-04", "2023-08-09"),
        ("OCDO.L", "chart-OCDO.L-2020-01-01-to-2020-01-03", "XLON", "2020-01-02", "2020-01-03"),
        ("ORSTED.CO", "chart-ORSTED.CO-2020-01-01-to-2020-01-03", "XCSE", "2020-01-02", "2020-01-03"),
        ("QQQ", "chart-QQQ-2020-01-01-to-2020-01-03", "XNYS", "2020-01-02", "2020-01-03"),
    ],
)
def test_recorded_days_of_other_exchanges(
    symbol: str, name: str, market: str, start: str, end: str, yahoo: Yahoo, fetch: Fetch, shared: Path
) -> None:
    yahoo.charts = {symbol: read_recorded(shared, name)}
    fetched = fetch(symbol, bars=grid(start, end, market=market))
    assert len(fetched.prices) > 0
    assert fetched.missing.empty
    assert fetched.notes == ()


def test_the_recorded_empty_window_without_timestamp_is_empty(yahoo: Yahoo, fetch: Fetch, shared: Path) -> None:
    recorded = read_recorded(shared, "chart-AAPL-2025-02-01-to-2025-02-02-includePrePost-false-interval-1m")
    recorded["chart"]["result"][0]["meta"]["dataGranularity"] = "1h"  # Yahoo's minutes are not fetched here
    yahoo.charts = {"AAPL": recorded}
    fetched = fetch(bar="1h", bars=grid("2026-11-20", "2026-11-21", bar="1h"))
    assert fetched.prices.empty
    assert len(fetched.missing) == 7
    assert fetched.notes == (
        "AAPL 1h: Yahoo has nothing in this window.",
        "AAPL 1h: closed bars not given: 7 of 7, from 2026-11-20T14:30Z to 2026-11-20T20:30Z.",
    )


def test_prices_without_timestamp_are_no_empty_window(yahoo: Yahoo, fetch: Fetch, shared: Path) -> None:
    yahoo.charts = {"AAPL": read_recorded(shared, "chart-notimestamp-weird-quote.fake")}
    with pytest.raises(SourceError, match="changed its shape: the answer has prices and no column 'timestamp'"):
        fetch()


# --- the grid: when a bar is known -----------------------------------------------------------------------------


def test_a_bar_stamped_at_its_open_is_never_known_before_its_close(yahoo: Yahoo, fetch: Fetch) -> None:
    for bar, interval in (("1d", "1d"), ("1h", "1h"), ("15min", "15m")):
        bars = grid("2026-11-18", "2026-11-21", bar=bar)
        yahoo.prices = {("AAPL", interval): make_prices(bars)}
        stamps = yahoo.prices["AAPL", interval]["open_time"]
        for now in pd.date_range("2026-11-18T14:00Z", "2026-11-20T22:00Z", freq="317min"):
            prices = fetch(bar=bar, bars=bars, now=now).prices
            assert (prices["time"] <= now).all()
            assert len(prices) == (bars["close_time"] <= now).sum() <= (stamps <= now).sum()
            assert prices["open_time"].tolist() == bars["open_time"].head(len(prices)).tolist()


def test_the_unfinished_day_is_left_out(yahoo: Yahoo, fetch: Fetch) -> None:
    # while the market is open Yahoo ends with a row of today, stamped at the last trade
    days = make_prices(grid("2026-11-16", "2026-11-20"))
    live = days.tail(1).assign(open_time=pd.Timestamp("2026-11-19T17:12:31Z"))
    chart = make_chart("AAPL", "1d", pd.concat([days.iloc[:-1], live]))
    yahoo.charts = {"AAPL": chart}
    bars = grid("2026-11-16", "2026-11-20")
    fetched = fetch(bars=bars, now=pd.Timestamp("2026-11-19T17:12:40Z"))
    assert fetched.prices["time"].max() == pd.Timestamp("2026-11-18T21:00Z")
    assert len(fetched.prices) == 3
    assert fetched.missing.empty
    assert fetched.notes == ("AAPL 1d: rows left out: 1 of 4, unfinished bar.",)
    # after the close that row is the day's, though it is stamped after the last bar's end
    live = live.assign(open_time=pd.Timestamp("2026-11-19T21:00:01Z"))
    yahoo.charts = {"AAPL": make_chart("AAPL", "1d", pd.concat([days.iloc[:-1], live]))}
    assert len(fetch(bars=bars, now=pd.Timestamp("2026-11-19T21:05Z")).prices) == 4


def test_half_days_and_the_end_of_summer_time(yahoo: Yahoo, fetch: Fetch) -> None:
    # New York leaves summer time on 2026-11-01; 2026-11-27 closes at 13:00, and Yahoo has no 12:30 bar that day
    now = pd.Timestamp("2026-11-30T22:00Z")
    bars = grid("2026-10-30", "2026-11-29", bar="1h")
    delivered = bars[bars["open_time"] != pd.Timestamp("2026-11-27T17:30Z")]
    yahoo.prices = {("AAPL", "1h"): make_prices(delivered)}
    fetched = fetch(bar="1h", bars=bars, now=now)
    assert fetched.missing["open_time"].tolist() == [pd.Timestamp("2026-11-27T17:30Z")]
    prices = fetched.prices.set_index("open_time")["time"]
    assert prices[pd.Timestamp("2026-10-30T13:30Z")] == pd.Timestamp("2026-10-30T14:30Z")  # 09:30 in summer
    assert prices[pd.Timestamp("2026-11-02T14:30Z")] == pd.Timestamp("2026-11-02T15:30Z")  # 09:30 in winter
    assert prices[pd.Timestamp("2026-11-02T20:30Z")] == pd.Timestamp("2026-11-02T21:00Z")  # 15:30, cut at the close
    assert fetched.notes == (
        f"AAPL 1h: closed bars not given: 1 of {len(bars)}, from 2026-11-27T17:30Z to 2026-11-27T17:30Z.",
    )


def test_a_day_that_yahoo_leaves_out_is_missing_and_not_invented(yahoo: Yahoo, fetch: Fetch) -> None:
    yahoo.prices = {("AAPL", "1d"): yahoo.prices["AAPL", "1d"].drop(index=[5, 6])}
    fetched = fetch()
    assert fetched.missing["session"].tolist() == ["2026-10-08", "2026-10-09"]
    assert not fetched.prices["open_time"].isin(fetched.missing["open_time"]).any()
    assert "closed bars not given: 2 of 37" in fetched.notes[0]


def test_rows_without_prices_are_missing_bars_and_rows_without_volume_are_counted(yahoo: Yahoo, fetch: Fetch) -> None:
    prices = yahoo.prices["AAPL", "1d"].astype({"volume": "float64"})
    prices.loc[3, ["open", "high", "low", "close", "volume"]] = np.nan
    prices.loc[7, "volume"] = np.nan
    yahoo.prices = {("AAPL", "1d"): prices}
    fetched = fetch()
    assert fetched.missing["session"].tolist() == ["2026-10-06"]
    assert fetched.notes[:2] == (
        "AAPL 1d: rows left out: 1 of 37, no price.",
        "AAPL 1d: rows without volume, which is taken as 0: 1.",
    )
    assert fetched.prices["volume"].iloc[6] == 0


def test_prices_are_not_adjusted_for_dividends(yahoo: Yahoo, fetch: Fetch) -> None:
    assert fetch().prices["close"].tolist() == yahoo.prices["AAPL", "1d"]["close"].tolist()


def test_a_low_that_misses_the_close_by_rounding_is_kept(yahoo: Yahoo, fetch: Fetch) -> None:
    prices = yahoo.prices["AAPL", "1d"].copy()
    close = prices.loc[4, ["open", "close"]].min()
    prices.loc[4, "low"] = close * (1 + 1e-8)
    yahoo.prices = {("AAPL", "1d"): prices}
    assert fetch().prices["low"].iloc[4] == close


def test_rows_off_the_grid_are_counted_and_refused_past_the_limit(yahoo: Yahoo, fetch: Fetch) -> None:
    bars = grid("2026-11-16", "2026-11-21", bar="1h")
    prices = make_prices(bars)
    yahoo.prices = {
        ("AAPL", "1h"): prices.assign(
            open_time=prices["open_time"].where(prices.index != 9, prices["open_time"] + LATENCY)
        )
    }
    fetched = fetch(bar="1h", bars=bars)
    assert len(fetched.prices) == len(bars) - 1
    assert fetched.notes[0] == "AAPL 1h: rows left out: 1 of 35, off the grid of bars."
    yahoo.prices = {("AAPL", "1h"): prices.assign(open_time=prices["open_time"] + LATENCY)}
    with pytest.raises(SourceError, match=r"35 of 35 rows cannot be used .* off the grid .* AAPL 1h from 2026-11-16"):
        fetch(bar="1h", bars=bars)


def test_hours_of_a_market_that_never_closes(yahoo: Yahoo, fetch: Fetch) -> None:
    bars = grid("2026-11-18", "2026-11-21", bar="1h", market="24x7")
    yahoo.prices = {("BTC-USD", "1h"): make_prices(bars)}
    yahoo.options = {"BTC-USD": {"zone": "UTC", "regular": ("00:00", "23:59")}}
    fetched = fetch("BTC-USD", bar="1h", bars=bars, now=pd.Timestamp("2026-11-20T09:59Z"))
    assert len(fetched.prices) == 57
    assert fetched.prices["time"].max() == pd.Timestamp("2026-11-20T09:00Z")
    assert fetched.missing.empty


def test_a_symbol_on_another_market_is_refused(yahoo: Yahoo, fetch: Fetch) -> None:
    days = grid("2026-10-01", "2026-11-21", market="24x7")
    yahoo.charts = {"BTC-USD": make_chart("BTC-USD", "1d", make_prices(days), zone="UTC", regular=("00:00", "23:59"))}
    with pytest.raises(SourceError, match="Check that the market is the symbol's"):
        fetch("BTC-USD")


@pytest.mark.parametrize(("column", "value"), [("open", 0.0), ("low", -1.0), ("high", 1.0), ("volume", -5)])
def test_rows_that_cannot_be_are_refused_past_the_limit(column: str, value: float, yahoo: Yahoo, fetch: Fetch) -> None:
    prices = yahoo.prices["AAPL", "1d"].copy()
    prices.loc[4, column] = value
    yahoo.prices = {("AAPL", "1d"): prices}
    assert fetch().missing["session"].tolist() == ["2026-10-07"]
    prices.loc[4:8, column] = value
    with pytest.raises(SourceError, match="5 of 37 rows cannot be used"):
        fetch()
    assert len(fetch(limit=0.2).missing) == 5


def test_before_the_first_bar_has_closed_nothing_is_asked(fetch: Fetch, server: Server) -> None:
    fetched = fetch(now=pd.Timestamp("2026-10-01T15:00Z"))
    assert fetched.prices.empty
    assert fetched.notes == ("AAPL 1d: no bar had closed.",)
    assert server.requests == []


# --- actions ---------------------------------------------------------------------------------------------------


def test_a_split_holds_from_the_same_instant_whatever_bars_and_window_it_came_with(yahoo: Yahoo, fetch: Fetch) -> None:
    # a window that begins in the afternoon of the ex-date must not make another split of it
    hours = grid("2026-11-16", "2026-11-21", bar="1h")
    yahoo.prices = {
        ("AAPL", "1h"): make_prices(hours),
        ("AAPL", "1d"): make_prices(grid("2026-11-16", "2026-11-21")),
    }
    yahoo.options = {"AAPL": {"splits": {"2026-11-18": (3, 2)}, "dividends": {"2026-11-18": 0.25}}}
    afternoon = hours[hours["open_time"] >= pd.Timestamp("2026-11-18T18:00Z")].reset_index(drop=True)
    tables = [
        fetch(bars=grid("2026-11-16", "2026-11-21")).actions,
        fetch(bar="1h", bars=hours).actions,
        fetch(bar="1h", bars=afternoon).actions,
    ]
    for table in tables:
        assert table[["kind", "value"]].to_numpy().tolist() == [["dividend", 0.25], ["split", 1.5]]
        assert (table["time"] == pd.Timestamp("2026-11-18T14:30Z")).all()


def test_actions_outside_the_grid_or_still_to_come_are_left_out(yahoo: Yahoo, fetch: Fetch) -> None:
    yahoo.options = {"AAPL": {"dividends": {"2026-09-30": 0.1, "2026-10-05": 0.2, "2026-11-20": 0.4}}}
    fetched = fetch(now=pd.Timestamp("2026-11-20T14:00Z"))
    assert fetched.actions["value"].tolist() == [0.2]
    assert fetch().actions["value"].tolist() == [0.2, 0.4]


@pytest.mark.parametrize(
    ("bar", "end", "now"),
    [
        ("1d", "2026-11-19", "2026-11-19T14:25Z"),  # five minutes before the open
        ("1d", "2026-11-21", "2026-11-19T14:25Z"),
        ("1d", "2026-11-19", "2026-11-19T15:30Z"),  # open, but no session of the grid yet
        ("1h", "2026-11-19", "2026-11-19T14:25Z"),
    ],
)
def test_no_price_is_taken_while_a_split_that_the_answer_holds_has_not_taken_effect(
    bar: str, end: str, now: str, yahoo: Yahoo, fetch: Fetch
) -> None:
    yahoo.prices = {("AAPL", bar): make_prices(grid("2026-11-09", "2026-11-21", bar=bar))}
    yahoo.options = {"AAPL": {"splits": {"2026-11-19": (4, 1)}, "dividends": {"2026-11-16": 0.2}}}
    bars = grid("2026-11-09", end, bar=bar)
    fetched = fetch(bar=bar, bars=bars, now=pd.Timestamp(now))
    assert (fetched.held, len(fetched.prices)) == (True, 0)
    assert fetched.missing["open_time"].tolist() == bars.loc[bars["close_time"] <= now, "open_time"].tolist()
    assert fetched.actions["kind"].tolist() == ["dividend"]
    told = f"AAPL {bar}: a split of 4 for 1 takes effect at 2026-11-19T14:30Z: prices are asked for again after it."
    assert fetched.notes == (told,)
    later = fetch(bar=bar, bars=grid("2026-11-09", "2026-11-20", bar=bar))
    assert (later.held, len(later.missing)) == (False, 0)
    assert later.actions["kind"].tolist() == ["dividend", "split"]


@pytest.mark.parametrize("bar", ["1d", "1h"])
def test_the_window_that_is_asked_for_holds_a_split_of_this_monday_but_old_ones_stay_short(
    bar: str, yahoo: Yahoo, fetch: Fetch, server: Server
) -> None:
    yahoo.prices = {("AAPL", bar): make_prices(grid("2026-11-09", "2026-11-21", bar=bar))}

    def asked_until(end: str) -> pd.Timestamp:
        server.requests.clear()
        fetch(bar=bar, bars=grid("2026-11-09", end, bar=bar), now=pd.Timestamp("2026-11-23T14:25Z"))
        (until,) = [r.query["period2"] for r in server.requests if "period2" in r.query]
        return pd.Timestamp(int(until), unit="s", tz="UTC")

    assert asked_until("2026-11-21") > pd.Timestamp("2026-11-23T14:30Z")
    assert asked_until("2026-11-14") < pd.Timestamp("2026-11-16T00:00Z")  # Yahoo gives the actions of the window alone


def test_a_dividend_ahead_holds_no_price_back(yahoo: Yahoo, fetch: Fetch) -> None:
    yahoo.options = {"AAPL": {"dividends": {"2026-11-20": 0.4}}}
    assert not fetch(now=pd.Timestamp("2026-11-20T14:00Z")).held


def test_actions_that_cannot_be_placed_are_told(yahoo: Yahoo, fetch: Fetch) -> None:
    yahoo.options = {"AAPL": {"dividends": {"2026-10-10": 0.1, "2026-10-12": 0.2}, "splits": {"2026-10-20": (1, 0)}}}
    fetched = fetch()
    assert fetched.actions.to_dict("records") == [
        {"symbol": "AAPL", "time": pd.Timestamp("2026-10-12T13:30Z"), "kind": "dividend", "value": pytest.approx(0.3)}
    ]
    assert "AAPL 1d: a dividend of 2026-10-10, which is no session, holds from 2026-10-12." in fetched.notes
    assert "AAPL 1d: a split of 2026-10-20 has value nan and is left out." in fetched.notes


def test_what_is_not_taken_of_the_actions_is_told(yahoo: Yahoo, fetch: Fetch) -> None:
    chart = make_chart("AAPL", "1d", yahoo.prices["AAPL", "1d"], dividends={"2026-10-05": 0.2})
    result = chart["chart"]["result"][0]
    next(iter(result["events"]["dividends"].values()))["currency"] = "EUR"
    result["events"]["capitalGains"] = {"1791207000": {"amount": 1.5, "date": 1791207000}}
    result["meta"]["firstTradeDate"] = None
    yahoo.charts = {"AAPL": chart}
    fetched = fetch()
    assert fetched.actions["value"].tolist() == [0.2]
    assert fetched.notes == (
        "AAPL 1d: dividends are in EUR, prices in USD.",
        "AAPL 1d: 1 distributions of capital gains are left out.",
    )


# --- windows, symbols and bar lengths that the service refuses ---------------------------------------------------


def test_bar_lengths_that_yahoo_lacks_are_refused(fetch: Fetch, server: Server) -> None:
    for bar in ("30min", "4h", "2h"):
        with pytest.raises(ConfigError, match=f"1d, 1h and 15min, not of '{bar}'"):
            fetch(bar=bar)
    with pytest.raises(ConfigError, match="is not a length of time"):
        fetch(bar="15m", bars=grid("2026-11-16", "2026-11-21"))
    assert server.requests == []


@pytest.mark.parametrize(("bar", "days", "earliest"), [("1h", 730, "2024-11-22"), ("15min", 60, "2026-09-23")])
def test_a_start_beyond_yahoos_reach_is_refused_and_not_cut(
    bar: str, days: int, earliest: str, yahoo: Yahoo, fetch: Fetch, server: Server
) -> None:
    bars = grid(f"{NOW - pd.Timedelta(days=days + 4):%Y-%m-%d}", "2026-11-21", bar=bar)
    with pytest.raises(SourceError, match=f"reach back {days} days, now to {earliest}.*Nothing was written"):
        fetch(bar=bar, bars=bars)
    assert server.requests == []
    within = grid(earliest, "2026-11-21", bar=bar)
    yahoo.prices = {("AAPL", {"1h": "1h", "15min": "15m"}[bar]): make_prices(within)}
    assert len(fetch(bar=bar, bars=within).prices) == len(within)


def test_a_window_that_yahoo_itself_refuses_is_an_error(yahoo: Yahoo, fetch: Fetch) -> None:
    words = "15m data not available for startTime=1 and endTime=2. The requested range must be within the last 60 days."
    refusal = {"chart": {"result": None, "error": {"code": "Unprocessable Entity", "description": words}}}
    yahoo.faults = [to_answer(refusal, 422)]
    with pytest.raises(SourceError, match=r"yahoo: window out of reach.*within the last 60 days"):
        fetch()


def test_an_unknown_symbol_is_an_error(fetch: Fetch, waits: list[float], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError) as raised:
        fetch("NOSUCH")
    assert str(raised.value) == (
        "yahoo: symbol not known, refused (404: No data found, symbol may be delisted), for NOSUCH 1d from 2026-10-01. "
        "Check how Yahoo writes it. Nothing was written."
    )
    assert waits == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("symbol", ["", "AAPL?x=1", "../AAPL", "AA PL", "https://host.test/AAPL", "A" * 40])
def test_what_is_no_symbol_is_never_asked_for(symbol: str, fetch: Fetch, server: Server) -> None:
    with pytest.raises(ConfigError, match="no symbol of Yahoo's"):
        fetch(symbol)
    assert server.requests == []


def test_start_after_end_and_a_now_without_zone_are_refused(fetch: Fetch) -> None:
    with pytest.raises(ConfigError, match="must be before end"):
        grid("2026-11-21", "2026-10-01")
    with pytest.raises(ConfigError, match="no time zone"):
        fetch(now=pd.Timestamp("2026-11-21"))
    with pytest.raises(TableError, match="bars"):
        fetch(bars=PRICES.empty())


def test_a_range_before_the_listing_begins_later_and_says_since_when(yahoo: Yahoo, fetch: Fetch) -> None:
    yahoo.prices = {("AAPL", "1d"): yahoo.prices["AAPL", "1d"].iloc[20:]}
    yahoo.options = {"AAPL": {"listed": pd.Timestamp("2026-10-29T13:30Z")}}
    fetched = fetch()
    assert fetched.prices["open_time"].min() == pd.Timestamp("2026-10-29T13:30Z")
    assert fetched.missing.empty
    assert fetched.notes == ("AAPL 1d: traded since 2026-10-29; bars of the grid before that: 20.",)


def test_a_window_in_which_yahoo_has_nothing_is_empty(yahoo: Yahoo, fetch: Fetch) -> None:
    words = "Data doesn't exist for startDate = 1, endDate = 2"
    yahoo.faults = [to_answer({"chart": {"result": None, "error": {"code": "Bad Request", "description": words}}}, 400)]
    fetched = fetch()
    assert fetched.prices.empty
    assert len(fetched.missing) == 37
    assert words in fetched.notes[0]


def test_an_answer_about_another_symbol_is_refused(yahoo: Yahoo, fetch: Fetch) -> None:
    yahoo.charts = {"FB": make_chart("META", "1d", yahoo.prices["AAPL", "1d"])}
    with pytest.raises(SourceError, match="asked for FB 1d from 2026-10-01, the answer is about 'META'"):
        fetch("FB")


# --- faults of the service -----------------------------------------------------------------------------------


BUSY = Answer(b"Too Many Requests\r\n", 429, {"Retry-After": "7"})
WHOLE = json.dumps(make_chart("AAPL", "1d", make_prices(grid("2026-10-01", "2026-11-21")))).encode()
PASSING = {
    "rate limited (429)": (BUSY, [7, 7, 7, 7]),
    "server error (500)": (Answer(b"oops", 500), [1, 2, 4, 8]),
    "server error (503)": (to_answer({"finance": {"error": {"code": "busy"}}}, 503), [1, 2, 4, 8]),
    "connection failed (IncompleteRead)": (Answer(WHOLE, cut=500), [1, 2, 4, 8]),
    "an answer that is cut short or is no JSON": (Answer(WHOLE[:500]), [1, 2, 4, 8]),
}


@pytest.mark.parametrize("reason", PASSING)
def test_a_fault_that_passes_is_waited_for(reason: str, yahoo: Yahoo, fetch: Fetch, waits: list[float]) -> None:
    fault, expected = PASSING[reason]
    yahoo.faults = [fault] * 4
    assert len(fetch().prices) == 37
    assert waits == expected


@pytest.mark.parametrize("reason", PASSING)
def test_a_fault_that_stays_raises_and_is_no_empty_frame(
    reason: str, yahoo: Yahoo, fetch: Fetch, waits: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    yahoo.faults = [PASSING[reason][0]] * 20
    with pytest.raises(SourceError) as raised:
        fetch()
    assert str(raised.value) == (f"yahoo: {reason} after 5 tries for AAPL 1d from 2026-10-01. Nothing was written.")
    assert len(waits) == 4
    assert capfd.readouterr() == ("", "")


def test_a_service_that_stays_away_is_not_waited_for_at_every_symbol(
    yahoo: Yahoo, fetch: Fetch, server: Server, waits: list[float]
) -> None:
    session = make_session(server.url)
    yahoo.faults = [Answer(b"", 503)] * 7
    for tries in ("5 tries", "1 try", "1 try"):
        with pytest.raises(SourceError, match=f"after {tries} for AAPL"):
            fetch(session=session)
    assert waits == [1, 2, 4, 8]
    assert len(fetch(session=session).prices) == 37
    yahoo.faults = [Answer(b"", 503)] * 2
    assert len(fetch(session=session).prices) == 37


def test_a_server_that_is_not_there_raises(tmp_path: Path, waits: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://me:s3cret@127.0.0.1:{free.getsockname()[1]}?token=s3cret"
    with pytest.raises(SourceError, match=r"connection failed .* after 5 tries") as raised:
        fetch_prices(
            "AAPL",
            bars=grid("2026-10-01", "2026-11-21"),
            bar="1d",
            now=NOW,
            session=make_session(address),
            cache=tmp_path,
            sleep=waits.append,
        )
    assert "s3cret" not in str(raised.value)


def test_denied_access_is_told_as_such(yahoo: Yahoo, fetch: Fetch, waits: list[float]) -> None:
    # yfinance tries once with another cookie, and would then speak of a delisted symbol
    denied = {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}}
    yahoo.faults = [to_answer(denied, 401)]
    assert len(fetch().prices) == 37
    yahoo.faults = [to_answer(denied, 401)] * 9
    with pytest.raises(SourceError, match=r"yahoo: refused \(401: Invalid Crumb\) for AAPL"):
        fetch()
    yahoo.faults = [Answer(b"<html>Forbidden</html>", 403)] * 9
    with pytest.raises(SourceError, match=r"yahoo: refused \(403\) for AAPL"):
        fetch()
    assert waits == []


def break_chart(what: str) -> dict[str, Any]:
    chart = json.loads(WHOLE)
    result = chart["chart"]["result"][0]
    quote = result["indicators"]["quote"][0]
    if what == "no open":
        del quote["open"]
    elif what == "short close":
        quote["close"] = quote["close"][:-1]
    elif what == "empty high":
        quote["high"] = [None] * len(quote["high"])
    elif what == "text":
        quote["low"] = [str(v) for v in quote["low"]]
    elif what == "no quote":
        del result["indicators"]["quote"]
    elif what == "no meta":
        del result["meta"]
    elif what == "no zone":
        del result["meta"]["exchangeTimezoneName"]
    elif what == "other bars":
        result["meta"]["dataGranularity"] = "1wk"
    elif what == "adjclose":
        result["indicators"]["adjclose"] = [{"adjclose": [1.0]}]
    elif what == "stamps":
        result["timestamp"] = [f"{stamp}" for stamp in result["timestamp"]]
    elif what == "split":
        result["events"] = {"splits": {"1": {"date": 1, "numerator": 4}}}
    elif what == "no result":
        chart = {"chart": {"result": [], "error": None}}
    elif what == "other":
        chart = {"charts": chart["chart"]}
    return chart


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no open", "no column 'open'; columns are ['timestamp', 'high', 'low', 'close', 'volume', 'adjclose']"),
        ("short close", "column 'close' has 36 values for 37 stamps"),
        ("empty high", "column 'high' holds no value, others do"),
        ("text", "column 'low' holds what is no number"),
        ("no quote", "no indicators.quote"),
        ("no meta", "no meta.symbol"),
        ("no zone", "no meta.exchangeTimezoneName"),
        ("other bars", "asked for bars of 1d, the answer has bars of 1wk"),
        ("adjclose", "column 'adjclose' has 1 values for 37 stamps"),
        ("stamps", "column 'timestamp' holds what is no number"),
        ("split", "one of its splits has no 'denominator'"),
        ("no result", "no chart.result"),
        ("other", "no chart.result"),
    ],
)
def test_a_changed_schema_is_an_error_that_names_what_changed(
    what: str, told: str, yahoo: Yahoo, fetch: Fetch, waits: list[float]
) -> None:
    yahoo.faults = [to_answer(break_chart(what))]
    with pytest.raises(SourceError) as raised:
        fetch()
    assert "yahoo: the answer has changed its shape: " in str(raised.value)
    assert told in str(raised.value)
    assert "AAPL 1d from 2026-10-01" in str(raised.value)
    assert waits == []


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every object, list and value in JSON, but of no value of a list beyond its first."""
    yield path
    if isinstance(node, dict | list):
        for key, inner in node.items() if isinstance(node, dict) else enumerate(node[:1]):
            yield from places(inner, (*path, key))


@pytest.mark.slow
def test_whatever_changes_in_an_answer_the_prices_are_whole_or_the_error_is_ours(yahoo: Yahoo, fetch: Fetch) -> None:
    bars = grid("2026-11-19", "2026-11-21", bar="1h")
    options = {"splits": {"2026-11-19": (2, 1)}, "dividends": {"2026-11-20": 0.1}}
    whole = make_chart("AAPL", "1h", make_prices(bars), **options)
    told = 0
    for path in list(places(whole)):
        for junk in (None, "junk", 10**25, [], {"x": 1}):
            changed = copy.deepcopy({"answer": whole})
            inner: Any = changed
            for key in ("answer", *path)[:-1]:
                inner = inner[key]
            inner[("answer", *path)[-1]] = junk
            yahoo.faults = [to_answer(changed["answer"])] * 2
            try:
                fetched = fetch(bar="1h", bars=bars)
            except SourceError:
                told += 1
            else:
                PRICES.check(fetched.prices)
                ACTIONS.check(fetched.actions)
                assert len(fetched.prices) + len(fetched.missing) == len(bars)
    assert told > 100


def test_a_crumb_or_cookie_that_is_refused_does_not_matter(
    yahoo: Yahoo, fetch: Fetch, caplog: pytest.LogCaptureFixture
) -> None:
    from yfinance.data import SingletonMeta

    for crumb in (Answer(b"Too Many Requests", 429), Answer(b"", 500), Answer(b"cut", cut=1), Answer(b"<html>", 404)):
        SingletonMeta._instances.clear()  # which keeps the crumb of an earlier test
        yahoo.crumb = crumb
        assert len(fetch().prices) == 37
    SingletonMeta._instances.clear()
    assert caplog.records == []  # yfinance would warn on the terminal, and in its words


def test_an_address_that_is_none_is_refused_and_its_secret_not_told() -> None:
    for address in ("127.0.0.1:80", "ftp://me:s3cret@host.test", "me:s3cret@host.test", "http://"):
        with pytest.raises(ConfigError, match="no web address") as raised:
            make_session(address)
        assert "s3cret" not in str(raised.value)


def test_history_that_changed_is_read_anew(yahoo: Yahoo, fetch: Fetch) -> None:
    # yfinance keeps answers of past windows for the life of a process
    before = fetch().prices
    yahoo.prices = {("AAPL", "1d"): make_prices(grid("2026-10-01", "2026-11-21"), seed=1)}
    assert not np.allclose(fetch().prices["close"], before["close"])


# --- what yfinance does beside answering ---------------------------------------------------------------------


def test_the_home_folder_stays_untouched(server: Server, tmp_path: Path) -> None:
    home, cache = tmp_path / "home", tmp_path / "data" / "yfinance"
    home.mkdir()
    code = f"""
from pathlib import Path
import pandas as pd
from finsignal.clock import make_bars
from finsignal.sources.yahoo import fetch_news, fetch_prices, make_session
bars = make_bars("XNYS", "1d", start="2026-10-01", end="2026-11-21", latency=pd.Timedelta(minutes=1))
asked = {{"now": pd.Timestamp("{NOW}"), "session": make_session("{server.url}"), "cache": Path(r"{cache}")}}
fetch_news("AAPL", **asked)
print(len(fetch_prices("AAPL", bars=bars, bar="1d", **asked).prices))
"""
    environment = {**os.environ, "HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home)}
    environment = {name: value for name, value in environment.items() if not name.startswith("XDG_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout, done.stderr) == ("37\n", "")
    assert list(home.rglob("*")) == []
    assert [path.name for path in cache.glob("*.db")] != []


def test_another_folder_in_the_same_process_is_kept_to(fetch: Fetch, tmp_path: Path, server: Server) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    fetch(cache=first)
    asked = len(server.requests)
    fetch(cache=second)
    for folder in (first, second):
        assert (folder / "tkr-tz.db").is_file()
    zones = [r for r in server.requests[asked:] if r.path.startswith(CHART) and "period1" not in r.query]
    assert len(zones) == 1  # the second folder did not know the zone yet
    asked = len(server.requests)
    fetch(cache=second)
    assert [r.path for r in server.requests[asked:] if r.path.startswith(CHART)] == [f"{CHART}AAPL"]


def test_a_folder_that_cannot_be_made_is_an_error(fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SourceError, match="for yfinance's files cannot be made"):
        fetch(cache=tmp_path / "file" / "cache")


def test_a_yfinance_that_keeps_its_files_elsewhere_is_refused(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("yfinance.cache._CookieDBManager")
    with pytest.raises(SourceError, match="where yfinance keeps its files is not known"):
        fetch()


def test_the_settings_of_yfinance_are_given_back(yahoo: Yahoo, fetch: Fetch) -> None:
    import yfinance

    yahoo.faults = [Answer(b"", 500)] * 9
    filters, level = list(warnings.filters), logging.getLogger("yfinance").level
    with pytest.raises(SourceError):
        fetch()
    assert yfinance.config.debug.hide_exceptions is True
    assert logging.getLogger("yfinance").level == level
    assert list(warnings.filters) == filters


# --- news ----------------------------------------------------------------------------------------------------


def ask_news(server: Server, tmp_path: Path, query: str = "AAPL", **given: Any) -> pd.DataFrame:
    options = {"now": NOW, "session": make_session(server.url), "cache": tmp_path, "sleep": [].append, **given}
    return fetch_news(query, **options)


def test_the_recorded_news_of_apple(yahoo: Yahoo, server: Server, tmp_path: Path, shared: Path) -> None:
    yahoo.news = {"AAPL": read_recorded(shared, "search-AAPL")["news"]}
    items = ask_news(server, tmp_path, count=7)
    assert len(items) == 4
    assert items.loc[1].to_dict() == {
        "id": "yahoo:bfb8b663-081c-3c2b-84e3-df8fff2c37d8",
        "published": pd.Timestamp("2025-02-25T05:54:47Z"),
        "title": "Indonesia and Apple said to agree on terms to lift iPhone 16 ban",
        "text": "",
        "source": "Bloomberg",
        "url": "https://finance.yahoo.com/news/indonesia-apple-said-agree-terms-055447668.html",
        "symbols": ("AAPL",),
        "until": pd.NaT,
    }
    search = server.requests[-1]
    assert (search.path, search.query["q"], search.query["newsCount"]) == ("/v1/finance/search", "AAPL", "7")


def test_no_news_is_an_empty_table_and_no_failure(server: Server, tmp_path: Path) -> None:
    assert ask_news(server, tmp_path, "QUIET").empty


def test_an_item_without_time_is_kept_for_the_count_of_the_reader(yahoo: Yahoo, server: Server, tmp_path: Path) -> None:
    whole = make_item(1, published=NOW, title="Alder beats", symbols=["AAA", "BBB"])
    yahoo.news = {"AAPL": [whole, {"uuid": "2", "title": "x", "providerPublishTime": "soon"}, {"uuid": "3"}, "junk"]}
    items = ask_news(server, tmp_path)
    assert items["published"].isna().tolist() == [False, True, True]
    assert items["symbols"].tolist() == [("AAA", "BBB"), (), ()]


def test_news_in_another_shape_is_an_error(yahoo: Yahoo, server: Server, tmp_path: Path, shared: Path) -> None:
    yahoo.news = {"AAPL": read_recorded(shared, "search-badResult.fake")["news"]}
    with pytest.raises(SourceError, match="changed its shape: no item of news has 'uuid', for news of AAPL"):
        ask_news(server, tmp_path)
    yahoo.faults = [to_answer({"quotes": []})]
    with pytest.raises(SourceError, match="has no list 'news'"):
        ask_news(server, tmp_path)
    yahoo.faults = [to_answer({"quotes": 5, "news": []})]
    with pytest.raises(SourceError, match="yfinance cannot read the answer for news of AAPL"):
        ask_news(server, tmp_path)


@pytest.mark.parametrize("reason", PASSING)
def test_a_fault_of_the_search_raises(reason: str, yahoo: Yahoo, server: Server, tmp_path: Path) -> None:
    yahoo.faults = [PASSING[reason][0]] * 20
    with pytest.raises(SourceError) as raised:
        ask_news(server, tmp_path)
    assert str(raised.value) == f"yahoo: {reason} after 5 tries for news of AAPL. Nothing was written."


def test_an_empty_query_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ask for nothing"):
        ask_news(server, tmp_path, " ")


# --- the service itself --------------------------------------------------------------------------------------


@pytest.mark.live
def test_the_live_service_gives_days_hours_and_news(tmp_path: Path) -> None:
    try:
        socket.create_connection(("query2.finance.yahoo.com", 443), timeout=3).close()
    except OSError as err:
        pytest.skip(f"needs a connection to Yahoo ({err})")
    now = pd.Timestamp.now(tz="UTC").as_unit("us")
    session = make_session()
    for bar in ("1d", "1h", "15min"):
        bars = grid(f"{now - pd.Timedelta(days=20):%Y-%m-%d}", f"{now:%Y-%m-%d}", bar=bar)
        fetched = fetch_prices("AAPL", bars=bars, bar=bar, now=now, session=session, cache=tmp_path)
        assert len(fetched.prices) > 0.8 * len(bars)
        ACTIONS.check(fetched.actions)
    assert len(fetch_news("AAPL", now=now, session=session, cache=tmp_path)) > 0
    with pytest.raises(SourceError, match="not known"):
        fetch_prices("NOSUCHSYMBOL", bars=bars, bar="15min", now=now, session=session, cache=tmp_path)
