"""What the Bybit source gives: whole histories, closed bars only, and a sentence for each fault of the service."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bybit_answers import Market, make_history, refuse, to_ms
from replay_server import Answer, Request, Server, serve, to_answer

from finsignal.clock import make_bars
from finsignal.errors import ConfigError, SourceError
from finsignal.sources.bybit import Queue, fetch_funding, fetch_open_interest, fetch_prices, make_exchange
from finsignal.sources.grid import find_missing
from finsignal.tables import BARS, FUNDING, OPEN_INTEREST, PRICES

HOUR = pd.Timedelta(hours=1)
LINEAR = "bybit-linear"


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC").as_unit("us")


NOW = at("2026-08-15T19:03:57")  # of the recorded answers


@contextmanager
def ask(answer: Callable[[Request], Answer], market: str = LINEAR) -> Iterator[tuple[Any, Server]]:
    """The real client against a server that answers so; it neither waits between calls nor before another try."""
    with serve(answer) as server:
        exchange = make_exchange(market, base_url=server.url)
        exchange.rateLimit = 0
        exchange.waits = []
        exchange.sleep = lambda milliseconds: exchange.waits.append(milliseconds / 1000)
        yield exchange, server


def read(pages: Iterator[pd.DataFrame]) -> list[pd.DataFrame]:
    found = list(pages)
    for page in found:
        PRICES.check(page)
    return found


def prices(exchange: Any, start: str, end: str, now: pd.Timestamp = NOW, symbol: str = "BTCUSDT", bar: str = "1h"):
    return fetch_prices(symbol, market=LINEAR, bar=bar, start=start, end=end, now=now, exchange=exchange)


def same(pages: list[pd.DataFrame], wanted: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(pd.concat(pages, ignore_index=True), wanted.reset_index(drop=True))


# ----------------------------------------------------------------------------------------------- recorded answers


@pytest.fixture
def recorded(shared: Path) -> Callable[[str], Callable[[Request], Answer]]:
    def answer(name: str) -> Callable[[Request], Answer]:
        content = json.loads((shared / "bybit_payloads" / f"recorded_2026-08-15_{name}.json").read_text())
        return lambda request: to_answer(content)

    return answer


def test_recorded_klines_give_the_closed_bar_and_not_the_one_under_way(recorded):
    with ask(recorded("candles")) as (exchange, server):
        (page,) = read(prices(exchange, "2026-08-15T18:00", "2026-08-15T20:00", at("2026-08-15T20:00")))
    # The answer was given at 19:03:57, so its row of 19:00 is unfinished, though the machine's clock says 20:00.
    assert page.to_dict("records") == [
        {
            **{"open_time": at("2026-08-15T18:00"), "time": at("2026-08-15T19:00"), "symbol": "BTCUSDT"},
            **{"open": 63044.4, "high": 63089.6, "low": 63000.1, "close": 63027.8, "volume": 385.721},
        }
    ]
    assert server.requests[0].path == "/v5/market/kline"
    assert dict(server.requests[0].query) == {
        **{"category": "linear", "symbol": "BTCUSDT", "interval": "60", "limit": "1000"},
        **{"start": "1786816800000", "end": "1786820400000"},
    }


def test_recorded_funding_gives_the_settled_rates_oldest_first(recorded):
    with ask(recorded("funding")) as (exchange, server):
        period = {"start": "2026-08-15T08:00", "end": "2026-08-15T16:00:00.001", "now": NOW}
        (page,) = fetch_funding("BTCUSDT", market=LINEAR, exchange=exchange, **period)
    FUNDING.check(page)
    assert page["time"].tolist() == [at("2026-08-15T08:00"), at("2026-08-15T16:00")]
    assert page["rate"].tolist() == [0.00004737, 0.00004403]
    assert [request.path for request in server.requests] == ["/v5/market/funding/history"]


def test_recorded_open_interest_counts_as_known_one_interval_after_its_stamp(recorded):
    with ask(recorded("open_interest")) as (exchange, server):
        period = {"start": "2026-08-15T18:00", "end": "2026-08-15T20:00", "now": at("2026-08-15T21:00"), "bar": "1h"}
        (page,) = fetch_open_interest("BTCUSDT", market=LINEAR, exchange=exchange, **period)
    OPEN_INTEREST.check(page)
    # Stamped 18:00 and 19:00, the latter four minutes before the answer: if stamps are starts, it may still change.
    assert page.to_dict("records") == [{"symbol": "BTCUSDT", "time": at("2026-08-15T19:00"), "contracts": 65041.568}]
    assert [request.path for request in server.requests] == ["/v5/market/open-interest"]


# -------------------------------------------------------------------------------------------------- whole histories


def test_a_walk_beyond_the_10_000_rows_of_ccxt_comes_back_whole_in_pages_that_ascend():
    bars = make_history("BTCUSDT", start="2020-01-01", count=25_000)
    market = Market({"BTCUSDT": bars}, now=bars["time"].iloc[-1] + HOUR / 2)
    with ask(market) as (exchange, server):
        pages = read(prices(exchange, "2020-01-01", "2024-01-01", market.now))
    same(pages, bars)
    assert [len(page) for page in pages] == [1000] * 25
    assert len(server.requests) == 25


def test_a_walk_begun_again_at_the_last_time_asks_only_for_what_is_missing():
    bars = make_history("BTCUSDT", start="2024-01-01", count=3_500)
    market = Market({"BTCUSDT": bars}, now=bars["time"].iloc[-1])
    with ask(market) as (exchange, server):
        walk = prices(exchange, "2024-01-01", "2026-01-01", market.now)
        first = [next(walk), next(walk)]
        del walk  # killed
        assert len(server.requests) == 2  # a page is given before the next is asked
        rest = read(prices(exchange, first[-1]["time"].iloc[-1], "2026-01-01", market.now))
        assert len(server.requests) == 4
    same([*first, *rest], bars)


def test_every_length_of_bar_is_asked_by_the_name_bybit_has_for_it():
    for bar, name in [("1min", "1"), ("3min", "3"), ("30min", "30"), ("2h", "120"), ("12h", "720"), ("1d", "D")]:
        bars = make_history("BTCUSDT", start="2024-01-01", count=50, bar=bar)
        with ask(Market({"BTCUSDT": bars}, now=bars["time"].iloc[-1], bar=bar)) as (exchange, server):
            same(read(prices(exchange, "2024-01-01", "2025-01-01", NOW, bar=bar)), bars)
        assert server.requests[0].query["interval"] == name


@pytest.mark.parametrize(("market", "category"), [("bybit-inverse", "inverse"), ("bybit-spot", "spot")])
def test_each_market_is_asked_as_its_category(market, category):
    bars = make_history("BTCUSD", start="2024-01-01", count=10)
    with ask(Market({"BTCUSD": bars}, now=NOW, category=category), market) as (exchange, _):
        period = {"start": "2024-01-01", "end": "2024-02-01", "now": NOW, "bar": "1h"}
        same(read(fetch_prices("BTCUSD", market=market, exchange=exchange, **period)), bars)


def test_a_period_that_begins_off_the_grid_holds_the_bars_that_open_in_it():
    bars = make_history("BTCUSDT", start="2024-01-01", count=10)
    with ask(Market({"BTCUSDT": bars}, now=NOW)) as (exchange, _):
        same(read(prices(exchange, "2024-01-01T01:30", "2024-01-01T05:00")), bars[2:5])
        same(read(prices(exchange, "2024-01-01T01:30", "2024-01-01T05:00:01")), bars[2:6])
        assert read(prices(exchange, "2024-01-01T01:01", "2024-01-01T01:59")) == []
        assert read(prices(exchange, "2024-01-01T01:00", "2024-01-01T01:00")) == []


def test_only_bars_closed_by_now_and_by_the_clock_of_bybit_are_given():
    bars = make_history("BTCUSDT", start="2024-01-01", count=10)
    market = Market({"BTCUSDT": bars}, now=at("2024-01-01T06:30"))
    with ask(market) as (exchange, server):
        same(read(prices(exchange, "2024-01-01", "2024-01-02", at("2024-01-01T04:00"))), bars[:4])
        same(read(prices(exchange, "2024-01-01", "2024-01-02", at("2024-01-01T03:59:59"))), bars[:3])
        # A machine whose clock is ahead by hours: 06:00 has opened and not closed.
        same(read(prices(exchange, "2024-01-01", "2024-01-02", at("2024-01-01T12:00"))), bars[:6])
        before = len(server.requests)
        assert read(prices(exchange, "2024-01-01", "2024-01-02", at("2023-12-01"))) == []
        assert len(server.requests) == before  # nothing can have closed: nothing is asked


def test_years_before_the_listing_are_passed_over_in_a_few_calls_and_named_as_missing():
    bars = make_history("NEWUSDT", start="2024-03-05T07:00", count=2_500)
    market = Market({"NEWUSDT": bars}, now=bars["time"].iloc[-1])
    with ask(market) as (exchange, server):
        pages = read(prices(exchange, "2015-01-01", "2026-01-01", market.now, "NEWUSDT"))
    same(pages, bars)
    assert len(server.requests) < 20  # of 83 windows of a thousand hours
    grid = make_bars(LINEAR, "1h", start="2024-03-05", end="2024-03-06", latency=HOUR / 60)
    missing = find_missing(bars, grid, symbol="NEWUSDT", now=market.now)
    assert missing["open_time"].tolist() == grid["open_time"].tolist()[:7]


def test_an_outage_longer_than_a_page_does_not_end_the_walk_and_is_named_as_missing():
    whole = make_history("BTCUSDT", start="2024-01-01", count=9_000)
    out = slice(whole["open_time"][1_500], whole["open_time"][5_700])
    bars = whole[~whole["open_time"].between(out.start, out.stop)].reset_index(drop=True)
    market = Market({"BTCUSDT": bars}, now=bars["time"].iloc[-1])
    with ask(market) as (exchange, server):
        same(read(prices(exchange, "2024-01-01", "2026-01-01", market.now)), bars)
    assert len(server.requests) < 25
    grid = make_bars(LINEAR, "1h", start="2024-01-01", end="2026-01-01", latency=HOUR / 60)
    missing = find_missing(bars, grid, symbol="BTCUSDT", now=market.now)
    assert (missing["open_time"].iloc[[0, -1]].tolist(), len(missing)) == ([out.start, out.stop], 4_201)


def test_a_symbol_without_rows_in_the_period_gives_no_page():
    bars = make_history("BTCUSDT", start="2024-01-01", count=10)
    with ask(Market({"BTCUSDT": bars}, now=NOW)) as (exchange, server):
        assert read(prices(exchange, "2025-01-01", "2026-01-01")) == []
    assert len(server.requests) == 2  # one window, and whether any later one holds a row


@pytest.mark.parametrize("most", [1, 7, 200, 999])
def test_an_answer_cut_by_a_smaller_limit_is_asked_for_its_rest(most):
    bars = make_history("BTCUSDT", start="2024-01-01", count=40 if most < 100 else 2_000)
    market = Market({"BTCUSDT": bars}, now=bars["time"].iloc[-1], most=most)
    with ask(market) as (exchange, _):
        same(read(prices(exchange, "2023-12-31", "2026-01-01", market.now)), bars)


# ------------------------------------------------------------------------------------- funding and open interest


def make_funding(hours: list[int], start: str = "2024-01-01") -> pd.DataFrame:
    times = pd.Series([at(start) + hour * HOUR for hour in hours])
    rates = np.round(np.random.default_rng(1).normal(0, 1e-4, len(hours)), 8)
    return FUNDING.to_table(pd.DataFrame({"time": times, "rate": rates}).assign(symbol="BTCUSDT"))


@pytest.mark.parametrize("start", ["2024-01-01", "2023-12-31T19:30"])
def test_funding_is_whole_though_a_contract_settles_more_often_for_a_while(start):
    hours = [*range(0, 4_000, 8), *range(4_000, 5_003), *range(5_003, 9_000, 4)]
    funding = make_funding(hours)
    bars = {"BTCUSDT": make_history("BTCUSDT", start="2024-01-01", count=10)}
    market = Market(bars, now=funding["time"].iloc[-1], funding=funding)
    with ask(market) as (exchange, server):
        period = {"start": start, "end": "2026-01-01", "now": market.now}
        pages = list(fetch_funding("BTCUSDT", market=LINEAR, exchange=exchange, **period))
        again = list(fetch_funding("BTCUSDT", market=LINEAR, exchange=exchange, **{**period, "start": market.now}))
    same(pages, funding)
    same(again, funding[-1:])
    assert len(server.requests) < 60


def test_funding_that_settles_after_now_is_not_given():
    funding = make_funding([0, 8, 16])
    bars = {"BTCUSDT": make_history("BTCUSDT", start="2024-01-01", count=10)}
    with ask(Market(bars, now=NOW, funding=funding)) as (exchange, _):
        period = {"start": "2024-01-01", "end": "2024-01-01T16:00", "exchange": exchange}
        same(list(fetch_funding("BTCUSDT", market=LINEAR, now=NOW, **period)), funding[:2])  # the end is not included
        same(list(fetch_funding("BTCUSDT", market=LINEAR, now=at("2024-01-01T07:59:59.999999"), **period)), funding[:1])


def test_open_interest_is_whole_and_goes_on_from_the_last_time():
    times = pd.Series(pd.date_range("2024-01-01T01:00", periods=1_234, freq="h", tz="UTC").as_unit("us"))
    interest = OPEN_INTEREST.to_table(
        pd.DataFrame({"time": times, "contracts": np.arange(1_234.0)}).assign(symbol="BTCUSDT")
    )
    bars = {"BTCUSDT": make_history("BTCUSDT", start="2024-01-01", count=10)}
    market = Market(bars, now=times.iloc[-1], open_interest=interest)
    with ask(market) as (exchange, _):
        period = {"end": "2026-01-01", "now": market.now, "bar": "1h", "exchange": exchange, "market": LINEAR}
        same(list(fetch_open_interest("BTCUSDT", start="2023-12-01", **period)), interest)
        same(list(fetch_open_interest("BTCUSDT", start=times.iloc[1_000], **period)), interest[1_001:])


# ------------------------------------------------------------------------------------------------ faults of the service


def refusal(error: type[Exception], call: Callable[[], Any]) -> str:
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


BARS_OF_A_DAY = make_history("BTCUSDT", start="2024-01-01", count=24)
KLINE = to_answer({"retCode": 0, "retMsg": "OK", "result": {}, "time": to_ms(NOW)})


def day(exchange: Any) -> list[pd.DataFrame]:
    return read(prices(exchange, "2024-01-01", "2024-01-02"))


def failing(*faults: Answer) -> Callable[[Request], Answer]:
    """The market of one day, after these answers; the last of them without end where it is None."""
    market, left = Market({"BTCUSDT": BARS_OF_A_DAY}, now=NOW), list(faults)
    return lambda request: left.pop(0) if left else market(request)


WHOLE = Market({"BTCUSDT": BARS_OF_A_DAY}, now=NOW)(
    Request("/v5/market/kline", {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "limit": "1000",
            "start": str(to_ms(at("2024-01-01"))), "end": str(to_ms(at("2024-01-01T23:00")))}, {})
).body  # fmt: skip
HTML = b"<html>busy</html>"
BUSY = {
    "429": (Answer(HTML, 429, {"Retry-After": "7"}), 7.0, "rate limited (429)"),
    "429 of Bybit": (to_answer({"retCode": 10006, "retMsg": "Too many visits!"}, 429), 1.0, "rate limited (10006)"),
    "10006": (
        refuse(10006, "Too many visits!", 1_000_000, **{"X-Bapi-Limit-Reset-Timestamp": "1003500"}), 3.5,
        "rate limited (10006)",
    ),
    "10018": (
        refuse(10018, "Exceeded the IP Rate Limit.", 1_000_000, **{"X-Bapi-Limit-Reset-Timestamp": "1000000"}), 1.0,
        "rate limited (10018)",
    ),
    "10016": (refuse(10016, "System error. Please try again later.", 1), 1.0, "no answer (10016: System error."),
    "500": (Answer(HTML, 500), 1.0, "no answer (500)"),
    "503 of a proxy": (to_answer({"message": "maintenance"}, 503, **{"Retry-After": "3"}), 3.0, "no answer ("),
    "connection cut": (Answer(WHOLE, cut=200), 1.0, "no answer (NetworkError)"),
    "JSON cut": (Answer(WHOLE[:200], headers={"Content-Type": "application/json"}), 1.0, "no whole JSON"),
    "a list": (to_answer([1, 2]), 1.0, "no answer ("),
    "nothing": (Answer(b""), 1.0, "no whole JSON"),
    "a page": (Answer(HTML, headers={"Content-Type": "text/html"}), 1.0, "no whole JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", BUSY)
def test_a_fault_that_passes_is_waited_for_as_long_as_bybit_asks(name):
    fault, wait, _ = BUSY[name]
    with ask(failing(fault, fault)) as (exchange, server):
        same(day(exchange), BARS_OF_A_DAY)
        assert exchange.waits == [wait, wait if wait != 1.0 or "Limit" in str(fault.headers) else 2.0]
    assert len(server.requests) == 3


@pytest.mark.parametrize("name", BUSY)
def test_a_fault_that_stays_is_refused_in_a_sentence_after_five_tries(name):
    fault, _, reason = BUSY[name]
    with ask(lambda request: fault) as (exchange, server):
        said = refusal(SourceError, lambda: day(exchange))
    assert said.startswith("bybit-linear: ")
    assert reason in said
    assert "after 5 tries for BTCUSDT 1h from 2024-01-01T00:00:00Z" in said
    assert len(server.requests) == 5


def test_the_wait_that_one_fault_asked_for_is_not_that_of_the_next():
    with ask(failing(BUSY["429"][0], BUSY["connection cut"][0])) as (exchange, _):
        same(day(exchange), BARS_OF_A_DAY)
    assert exchange.waits == [7.0, 2.0]


def test_what_was_read_before_a_fault_has_been_given():
    bars = make_history("BTCUSDT", start="2024-01-01", count=2_000)
    market = Market({"BTCUSDT": bars}, now=NOW)
    first = str(to_ms(at("2024-01-01")))
    with ask(lambda r: market(r) if r.query["start"] == first else BUSY["500"][0]) as (exchange, _):
        walk = prices(exchange, "2024-01-01", "2026-01-01")
        same([next(walk)], bars[:1000])
        assert "for BTCUSDT 1h from 2024-02-11T16:00:00Z" in refusal(SourceError, lambda: next(walk))


def test_an_address_that_bybit_shuts_out_is_not_asked_again():
    with ask(lambda request: Answer(HTML, 403)) as (exchange, server):
        assert "Bybit refuses this address (403)" in refusal(SourceError, lambda: day(exchange))
    assert len(server.requests) == 1


def test_a_service_that_is_not_there_is_a_sentence():
    with ask(lambda request: KLINE) as (exchange, _):
        pass
    said = refusal(SourceError, lambda: day(exchange))
    assert said.startswith("bybit-linear: no answer (")


def change(part: Callable[[dict], None]) -> Answer:
    """The whole answer of a day, changed."""
    content = json.loads(WHOLE)
    part(content)
    return to_answer(content)


CHANGED = {
    "a field fewer": (lambda c: c["result"]["list"][5].pop(), "expected rows of 7"),
    "no number": (lambda c: c["result"]["list"][5].__setitem__(2, "n/a"), "expected rows of 7"),
    "nothing for a number": (lambda c: c["result"]["list"][5].__setitem__(2, None), "expected rows of 7"),
    "a list named otherwise": (lambda c: c["result"].update(rows=c["result"].pop("list")), "expected rows of 7"),
    "named fields": (lambda c: c["result"].update(list=[{"open": "1"}]), "expected rows of 7"),
    "no result": (lambda c: c.update(result=None), "expected rows of 7"),
    "no clock": (lambda c: c.pop("time"), "expected rows of 7"),
    "infinite": (lambda c: c["result"]["list"][5].__setitem__(2, "inf"), "not finite"),
    "a clock that is no number": (lambda c: c.update(time=float("nan")), "not finite"),
    "price of 0": (lambda c: c["result"]["list"][5].__setitem__(3, "0"), "prices must be finite and above 0"),
    "high below low": (lambda c: c["result"]["list"][5].__setitem__(2, "0.001"), "expected low <= open"),
    "another symbol": (lambda c: c["result"].update(symbol="ETHUSDT"), "the answer is about linear ETHUSDT,"),
    "another market": (lambda c: c["result"].update(category="spot"), "the answer is about spot BTCUSDT,"),
    "a row twice": (lambda c: c["result"]["list"].append(c["result"]["list"][3]), "each once and on the grid"),
    "off the grid": (lambda c: c["result"]["list"][5].__setitem__(0, "1704067200001"), "found the stamp 1704067200001"),
    "before the window": (lambda c: c["result"]["list"][23].__setitem__(0, "1704063600000"), "found the stamp 17"),
    "after the window": (lambda c: c["result"]["list"][0].__setitem__(0, "1704153600000"), "the stamp 1704153600000"),
    "seconds": (lambda c: c["result"]["list"][0].__setitem__(0, "1704063600"), "found the stamp 1704063600"),
    "beyond all time": (lambda c: c["result"]["list"][0].__setitem__(0, "1e300"), "found the stamp 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_an_answer_of_another_form_or_another_window_is_refused_and_gives_no_row(name):
    part, reason = CHANGED[name]
    with ask(lambda request: change(part)) as (exchange, server):
        said = refusal(SourceError, lambda: day(exchange))
    assert reason in said
    assert said.startswith("bybit-linear BTCUSDT 1h")
    assert len(server.requests) == 1


def test_rows_in_any_order_are_sorted():
    with ask(lambda request: change(lambda c: c["result"]["list"].sort())) as (exchange, _):
        same(day(exchange), BARS_OF_A_DAY)


def test_an_answer_that_keeps_the_oldest_rows_is_asked_for_its_rest_too():
    market = Market({"BTCUSDT": BARS_OF_A_DAY}, now=NOW)

    def oldest(request: Request) -> Answer:
        content = json.loads(market(request).body)
        content["result"]["list"] = content["result"]["list"][-5:]
        return to_answer(content)

    with ask(oldest) as (exchange, _):
        same(day(exchange), BARS_OF_A_DAY)


def test_more_rows_than_the_limit_are_refused():
    market = Market({"BTCUSDT": BARS_OF_A_DAY}, now=NOW)
    with ask(lambda r: market(Request(r.path, {**r.query, "limit": "1000"}, {}))) as (exchange, _):
        said = refusal(SourceError, lambda: read(prices(exchange, "2023-06-01", "2024-02-01")))
    assert "expected at most 1 rows to" in said
    assert "found 24 rows" in said


def test_rows_beyond_the_end_of_the_window_are_refused():
    bars = make_history("BTCUSDT", start="2024-01-01", count=30)
    market = Market({"BTCUSDT": bars}, now=NOW)
    with ask(lambda request: market(Request(request.path, {**request.query, "end": str(to_ms(NOW))}, {}))) as (
        exchange,
        _,
    ):
        assert "each once and on the grid" in refusal(SourceError, lambda: day(exchange))


# ------------------------------------------------------------------------------------------------------- bad input


def test_a_symbol_that_bybit_does_not_have_is_named():
    with ask(Market({"BTCUSDT": BARS_OF_A_DAY}, now=NOW)) as (exchange, server):
        said = refusal(SourceError, lambda: read(prices(exchange, "2024-01-01", "2024-01-02", symbol="BTCUSTD")))
    assert "Bybit has no symbol 'BTCUSTD' in this market (10001: params error: symbol invalid)" in said
    assert len(server.requests) == 1


def test_parameters_that_bybit_refuses_are_told_in_its_words():
    with ask(lambda request: refuse(10001, "Invalid period!", 1)) as (exchange, server):
        assert "Bybit refused the request: 10001: Invalid period!" in refusal(SourceError, lambda: day(exchange))
    assert len(server.requests) == 1


GOOD = {"market": LINEAR, "bar": "1h", "start": "2024-01-01", "end": "2024-01-02", "now": NOW}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"bar": "45min"}, "Bybit has no bars of '45min'. There are 1min, 3min, 5min, 15min, 30min, 1h, 2h, 4h,"),
        ({"bar": "60"}, "Bybit has no bars of '60'"),
        ({"market": "bybit-liner"}, "Bybit has no 'bybit-liner'. Did you mean 'bybit-linear'?"),
        ({"start": "2024-01-03"}, "start 2024-01-03 00:00:00+00:00 must be before end 2024-01-02"),
        ({"start": "yesterday"}, "'yesterday' is not a time"),
        ({"symbol": "btcusdt"}, "write it as Bybit does, for example 'BTCUSDT'"),
        ({"symbol": "BTC/USDT:USDT"}, "write it as Bybit does"),
        ({"symbol": "BTCUSDT&category=spot"}, "write it as Bybit does"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_meant_is_refused_before_anything_is_asked(wrong, sentence):
    with ask(failing()) as (exchange, server):
        wanted = {"symbol": "BTCUSDT", **GOOD, "exchange": exchange, **wrong}
        symbol = wanted.pop("symbol")
        assert sentence in refusal(ConfigError, lambda: fetch_prices(symbol, **wanted))
    assert server.requests == []


def test_spot_has_neither_funding_nor_open_interest():
    with ask(failing(), "bybit-spot") as (exchange, server):
        wanted = {**GOOD, "market": "bybit-spot", "exchange": exchange}
        assert "spot has no open interest" in refusal(ConfigError, lambda: fetch_open_interest("BTCUSDT", **wanted))
        wanted.pop("bar")
        assert "spot has no funding" in refusal(ConfigError, lambda: fetch_funding("BTCUSDT", **wanted))
    assert server.requests == []


def test_open_interest_comes_in_six_lengths():
    with ask(failing()) as (exchange, _):
        said = refusal(ConfigError, lambda: fetch_open_interest("BTCUSDT", **{**GOOD, "bar": "2h"}, exchange=exchange))
    assert "Bybit has no open interest of '2h'. There are 5min, 15min, 30min, 1h, 4h, 1d." in said


def test_a_client_of_another_market_is_a_config_error():
    assert "Bybit has no 'bybit-option'" in refusal(ConfigError, lambda: make_exchange("bybit-option"))


def test_the_client_asks_its_queue_before_each_call():
    with serve(Market({"BTCUSDT": BARS_OF_A_DAY}, now=NOW)) as server:
        exchange, weights = make_exchange(LINEAR, base_url=server.url), []
        assert isinstance(exchange.throttle, Queue)
        exchange.throttle = weights.append
        same(day(exchange), BARS_OF_A_DAY)
    assert exchange.enableRateLimit
    assert len(weights) == len(server.requests)


def test_the_client_alone_is_loaded_and_ccxt_is_whole_for_those_who_import_it():
    code = (
        "import sys; from finsignal.sources.bybit import make_exchange; e = make_exchange('bybit-linear');"
        "assert 'ccxt' not in sys.modules and 'ccxt.binance' not in sys.modules;"
        "import ccxt; assert isinstance(e, ccxt.bybit) and issubclass(ccxt.binance, ccxt.Exchange)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_queue_stays_below_the_limit_of_bybit_in_every_five_seconds():
    now, calls = [1000.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    queue = Queue(sleep=sleep, clock=lambda: now[0])
    for number in range(3000):
        queue()
        calls.append(now[0])
        now[0] += 0.2 if number % 700 == 699 else 0.001
    most = max(sum(start <= at < start + 5 for at in calls[n:]) for n, start in enumerate(calls))
    assert 400 < most <= 434 < 600
    assert calls[99] - calls[0] < 0.2  # the first hundred need not wait


# --------------------------------------------------------------------------------------------------- missing bars


def test_missing_are_the_bars_that_had_closed_and_have_no_row_of_the_symbol_itself():
    grid = make_bars(LINEAR, "1h", start="2024-01-01", end="2024-01-01T06:00", latency=HOUR / 60)
    mine, other = make_history("A", start="2024-01-01", count=6), make_history("B", start="2024-01-01", count=6)
    rows = PRICES.to_table(pd.concat([mine.drop(index=[1, 3]), other]))

    def hours(symbol: str, now: str, rows: pd.DataFrame = rows) -> list[int]:
        missing = BARS.check(find_missing(rows, grid, symbol=symbol, now=at(now)))
        return missing["open_time"].dt.hour.tolist()

    assert hours("A", "2024-01-02") == [1, 3]
    assert hours("A", "2024-01-01T04:00") == [1, 3]  # closed at 04:00 exactly
    assert hours("A", "2024-01-01T03:59") == [1]
    assert hours("B", "2024-01-02") == []
    assert hours("C", "2024-01-01T02:30") == [0, 1]
    assert hours("A", "2024-01-01T02:30", PRICES.empty()) == [0, 1]


# --------------------------------------------------------------------------------------------- the service itself


@pytest.mark.live
def test_the_real_service_still_answers_in_this_form():
    import ccxt

    exchange = make_exchange(LINEAR)
    try:
        exchange.public_get_v5_market_time()
    except ccxt.NetworkError as err:
        pytest.skip(f"needs Bybit, which cannot be reached from here: {type(err).__name__}")
    period = {"market": LINEAR, "start": "2024-01-01", "end": "2024-03-01", "now": NOW, "exchange": exchange}
    bars = pd.concat(read(fetch_prices("BTCUSDT", bar="1h", **period)))
    assert len(bars) == 60 * 24
    assert len(pd.concat(fetch_funding("BTCUSDT", **period))) == 60 * 3
    assert len(pd.concat(fetch_open_interest("BTCUSDT", bar="1h", **period))) == 60 * 24
    assert read(fetch_prices("BTCUSDT", bar="1d", **{**period, "start": "2015-01-01", "end": "2016-01-01"})) == []
    with pytest.raises(SourceError, match="has no symbol"):
        read(fetch_prices("NOSUCHUSDT", bar="1h", **period))
