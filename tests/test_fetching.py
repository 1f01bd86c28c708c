"""From services and files into the lake: nothing twice, nothing lost, nothing overwritten, and every lack told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bybit_answers import Market, make_history, to_ms
from conftest import NOW, REPO
from feed_answers import to_feed_answer, to_rss, to_stamp
from replay_server import Answer, Request, Server, serve
from yahoo_answers import CHART, Yahoo, make_item, make_prices

from finsignal import fetching
from finsignal.clock import make_bars
from finsignal.config import Feed, RunFile, read_run
from finsignal.errors import ConfigError, SourceError, TableError
from finsignal.fetching import OVERLAP, Outcome, fetch_derivatives, fetch_feeds, fetch_files, fetch_prices
from finsignal.lake import Lake, append, as_of, open_lake, read_links
from finsignal.sentiment.score import Model, score_news
from finsignal.study import Inputs, Study, read_inputs, run_study
from finsignal.tables import FUNDING, OPEN_INTEREST, to_integers

HOUR = pd.Timedelta(hours=1)
MINUTE = pd.Timedelta(minutes=1)


def ts(stamp: str) -> pd.Timestamp:
    return pd.Timestamp(stamp, tz="UTC").as_unit("us")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "lake", create=True)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    import ccxt

    monkeypatch.setattr(ccxt.Exchange, "sleep", lambda self, milliseconds: None)  # between tries


# --- Yahoo -----------------------------------------------------------------------------------------------------------

DAYS = make_bars("XNYS", "1d", start="2026-06-01", end="2026-11-01", latency=MINUTE)
JULY = {"market": "XNYS", "bar": "1d", "start": ts("2026-07-01"), "end": ts("2026-11-01")}


@pytest.fixture
def yahoo() -> Yahoo:
    return Yahoo(prices={(s, "1d"): make_prices(DAYS, seed=n) for n, s in enumerate(("AAPL", "MSFT", "XOM"))})


@pytest.fixture
def server(yahoo: Yahoo) -> Iterator[Server]:
    with serve(yahoo) as running:
        yield running


@pytest.fixture
def fetch(lake: Lake, server: Server) -> Callable[..., list[Outcome]]:
    """Daily bars from July on of Yahoo's symbols, at an instant."""

    def fetched(now: str, *symbols: str, **changes: Any) -> list[Outcome]:
        server.requests.clear()
        options = {**JULY, "now": ts(now), "url": server.url, **changes}
        return fetch_prices(lake, "yahoo", symbols or ("AAPL",), **options)

    return fetched


Fetch = Callable[..., list[Outcome]]


def windows(server: Server) -> list[tuple[str, pd.Timestamp]]:
    """Symbol and start of each window of prices that was asked for."""
    asked = [r for r in server.requests if r.path.startswith(CHART) and "period1" in r.query]
    return [(r.path.removeprefix(CHART), pd.Timestamp(int(r.query["period1"]), unit="s", tz="UTC")) for r in asked]


def read(lake: Lake, t: str, *, recorded_by: str = "2027-01-01", **place: str) -> pd.DataFrame:
    where = place or {"market": "XNYS", "bar": "1d"}
    return as_of(lake, "prices", ts(t), recorded_by=ts(recorded_by), **where)


def test_one_call_brings_every_closed_bar_as_the_service_tells_it(fetch: Fetch, lake: Lake, yahoo: Yahoo) -> None:
    done = fetch("2026-08-14T12:00", "AAPL", "MSFT")  # a Friday morning: Thursday's bar is the last
    there = read(lake, "2026-08-14T12:00")
    for outcome in done:
        told = yahoo.prices[outcome.symbol, "1d"]
        told = told[(told["open_time"] >= ts("2026-07-01")) & (told["open_time"] < ts("2026-08-14"))]
        rows = there[there["symbol"] == outcome.symbol]
        assert (outcome.new, outcome.missing, outcome.error) == (len(told), 0, "")
        for column in ("open_time", "open", "close", "volume"):
            assert rows[column].tolist() == told[column].tolist()


def test_a_second_call_asks_for_nothing_and_a_later_one_for_a_few_bars(
    fetch: Fetch, lake: Lake, server: Server
) -> None:
    fetch("2026-08-14T12:00")
    again = fetch("2026-08-14T13:00")
    assert (again[0].new, windows(server)) == (0, [])
    later = fetch("2026-08-14T21:00")  # one day more has closed
    ((_, start),) = windows(server)
    asked = DAYS[(DAYS["open_time"] >= start) & (DAYS["open_time"] <= ts("2026-08-14T21:00"))]
    assert (later[0].new, len(asked)) == (1, OVERLAP + 1 + 1)  # yahoo's window of days begins a day early
    assert len(later) == 1
    assert not read(lake, "2026-09-01").duplicated(["symbol", "time"]).any()


def test_a_corrected_bar_is_kept_as_a_new_version_and_told(fetch: Fetch, lake: Lake, yahoo: Yahoo) -> None:
    fetch("2026-08-14T12:00", "AAPL", "MSFT")
    frame = yahoo.prices["AAPL", "1d"]
    row = frame.index[frame["open_time"] == ts("2026-08-13T13:30")][0]
    before = frame.at[row, "volume"]
    frame.at[row, "volume"] = before + 7
    done = fetch("2026-08-14T21:00", "AAPL", "MSFT")
    assert [(o.symbol, o.new) for o in done] == [("AAPL", 1), ("MSFT", 1), ("", 1)]
    assert done[-1].notes == ("bars that came with other values; both are kept",)
    for recorded_by, volume in (("2026-08-14T12:00", before), ("2026-08-14T21:00", before + 7)):
        there = read(lake, "2026-08-14T21:00", recorded_by=recorded_by)
        bar = there[(there["symbol"] == "AAPL") & (there["open_time"] == ts("2026-08-13T13:30"))]
        assert bar["volume"].tolist() == [volume]


def test_a_split_found_by_a_later_fetch_puts_each_instant_on_its_own_basis(
    fetch: Fetch, lake: Lake, yahoo: Yahoo
) -> None:
    fetch("2026-08-14T12:00")
    old = read(lake, "2026-08-14T12:00")
    frame = yahoo.prices["AAPL", "1d"]
    adjusted = frame.assign(**{c: frame[c] / 4 for c in ("open", "high", "low", "close")}, volume=frame["volume"] * 4)
    yahoo.prices = {("AAPL", "1d"): adjusted}  # as Yahoo does: the whole history at once
    yahoo.options = {"AAPL": {"splits": {"2026-08-17": (4, 1)}}}
    fetch("2026-08-18T12:00")
    before = read(lake, "2026-08-17T13:29")
    both = before.merge(old, on="time", suffixes=("", "_old"))
    assert len(both) == len(old)
    assert both["close"].to_numpy() == pytest.approx(both["close_old"].to_numpy())
    after = read(lake, "2026-08-17T21:00")
    told = adjusted[adjusted["open_time"].isin(after["open_time"])]
    assert after["close"].to_numpy() == pytest.approx(told["close"].to_numpy())
    assert after["volume"].to_numpy() == pytest.approx(told["volume"].to_numpy())
    assert after["time"].max() == ts("2026-08-17T20:00")


def test_prices_that_yahoo_adjusts_before_a_split_takes_effect_are_no_crash(
    fetch: Fetch, lake: Lake, yahoo: Yahoo
) -> None:
    frame = yahoo.prices["AAPL", "1d"]
    new_shares = frame.assign(**{c: frame[c] / 4 for c in ("open", "high", "low", "close")}, volume=frame["volume"] * 4)
    fetch("2026-08-13T21:00")
    yahoo.prices = {("AAPL", "1d"): new_shares}  # on the morning of the ex-date already, with the split
    yahoo.options = {"AAPL": {"splits": {"2026-08-17": (4, 1)}}}
    early = fetch("2026-08-17T13:25")[0]
    assert (early.new, early.missing, early.error) == (0, 1, "")
    assert "a split of 4 for 1 takes effect at 2026-08-17T13:30Z: prices are asked for again" in early.notes[0]
    assert read(lake, "2026-08-17T13:25")["time"].max() == ts("2026-08-13T20:00")
    assert fetch("2026-08-17T21:00")[0].new == 2

    def closes(t: str) -> list[float]:
        return read(lake, t)["close"].tolist()

    def told(frame: pd.DataFrame, before: str) -> list[float]:
        return frame.loc[(frame["open_time"] >= JULY["start"]) & (frame["open_time"] < ts(before)), "close"].tolist()

    assert closes("2026-08-17T13:29") == pytest.approx(told(frame, "2026-08-15"))
    assert closes("2026-08-17T21:00") == pytest.approx(told(new_shares, "2026-08-18"))


def test_old_bars_first_asked_for_before_a_split_takes_effect_are_asked_for_again(
    fetch: Fetch, lake: Lake, yahoo: Yahoo
) -> None:
    yahoo.options = {"AAPL": {"splits": {"2026-08-17": (4, 1)}, "dividends": {"2026-07-15": 0.2}}}
    assert fetch("2026-08-17T13:25")[0].new == 0
    actions = as_of(lake, "actions", ts("2026-08-17T13:25"), recorded_by=ts("2026-08-17T13:25"), market="XNYS")
    assert actions["kind"].tolist() == ["dividend"]
    done = fetch("2026-08-17T21:00")[0]
    assert (done.new, done.missing) == (len(read(lake, "2026-08-17T21:00")), 0)


def test_bars_that_yahoo_never_had_are_told_and_after_a_day_not_asked_for_again(
    lake: Lake, yahoo: Yahoo, server: Server
) -> None:
    # The day after Thanksgiving ends at 13:00 New York time, and Yahoo has no bar for its last half hour.
    bars = make_bars("XNYS", "1h", start="2026-11-23", end="2026-12-01", latency=MINUTE)
    half, halt = ts("2026-11-27T17:30"), ts("2026-11-24T16:30")
    yahoo.prices = {("AAPL", "1h"): make_prices(bars[~bars["open_time"].isin([half, halt])])}
    options = {"market": "XNYS", "bar": "1h", "start": ts("2026-11-23"), "end": ts("2026-12-10"), "url": server.url}

    def fetched(now: str) -> Outcome:
        server.requests.clear()
        return fetch_prices(lake, "yahoo", ["AAPL"], now=ts(now), **options)[0]

    first = fetched("2026-11-28T20:00")
    assert first.missing == 2
    assert "closed bars not given: 2 of" in first.notes[0]
    assert "2026-11-24T16:30Z to 2026-11-27T17:30Z" in first.notes[0]
    later = fetched("2026-11-28T21:00")
    assert (later.missing, later.notes) == (2, ("2 bars are missing, and were asked for before",))
    assert windows(server) == []
    assert fetched("2026-11-30T15:31").new == 1  # Monday
    assert windows(server) == [("AAPL", ts("2026-11-27T15:30"))]  # three bars before it, the missing one among them


def test_a_bar_that_comes_late_is_asked_for_again(lake: Lake, yahoo: Yahoo, server: Server) -> None:
    late = DAYS["open_time"] == ts("2026-08-13T13:30")
    whole = yahoo.prices["AAPL", "1d"]
    yahoo.prices = {("AAPL", "1d"): whole[~late]}
    options = {**JULY, "url": server.url}
    first = fetch_prices(lake, "yahoo", ["AAPL"], now=ts("2026-08-13T20:05"), **options)[0]
    yahoo.prices = {("AAPL", "1d"): whole}
    again = fetch_prices(lake, "yahoo", ["AAPL"], now=ts("2026-08-13T20:40"), **options)[0]
    assert (first.missing, again.new, again.missing) == (1, 1, 0)


def test_one_symbol_that_fails_does_not_stop_the_others(fetch: Fetch, lake: Lake) -> None:
    done = fetch("2026-08-14T12:00", "AAPL", "NOPE", "not a symbol", "MSFT")
    errors = {outcome.symbol: outcome.error for outcome in done if outcome.error}
    assert list(errors) == ["NOPE", "not a symbol"]
    assert "delisted" in errors["NOPE"]
    assert "no symbol of Yahoo's" in errors["not a symbol"]
    assert read(lake, "2026-08-14T12:00")["symbol"].unique().tolist() == ["AAPL", "MSFT"]


def test_a_range_before_the_listing_begins_later_and_is_not_asked_for_again(
    fetch: Fetch, yahoo: Yahoo, server: Server
) -> None:
    listed = ts("2026-08-03T13:30")
    frame = yahoo.prices["AAPL", "1d"]
    yahoo.prices = {("AAPL", "1d"): frame[frame["open_time"] >= listed]}
    yahoo.options = {"AAPL": {"listed": listed}}
    done = fetch("2026-08-14T12:00")[0]
    assert "traded since 2026-08-03" in " ".join(done.notes)
    assert any(note.startswith("the first bar is that of 2026-08-03") for note in done.notes)
    fetch("2026-08-14T13:00")
    assert windows(server) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bar": "2h"}, "Yahoo has bars of 1d, 1h and 15min, not of '2h'"),
        ({"start": ts("2026-09-01"), "end": ts("2026-08-01")}, "start"),
        ({"market": "XNYX"}, "XNYX"),
    ],
    ids=["bar length", "start after end", "market"],
)
def test_what_no_symbol_can_be_asked_for_raises_before_anything_is_asked(
    fetch: Fetch, server: Server, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fetch("2026-10-01T12:00", "AAPL", "MSFT", **change)
    assert server.requests == []


def test_a_source_without_prices_is_refused(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="'wire' has no prices; expected one of"):
        fetch_prices(lake, "wire", ["AAPL"], now=NOW, **JULY)


# --- Bybit -----------------------------------------------------------------------------------------------------------

LINEAR: dict[str, Any] = {"market": "bybit-linear", "bar": "1h", "start": ts("2026-01-01"), "end": ts("2026-05-31")}
KEPT = {"market": "bybit-linear", "bar": "1h"}
BARS = (ts("2026-05-31") - ts("2026-01-01")) // HOUR


@pytest.fixture
def market() -> Market:
    history = {s: make_history(s, start="2026-01-01", count=BARS) for s in ("BTCUSDT", "ETHUSDT")}
    return Market(history, NOW)


def starts(server: Server, path: str = "kline", key: str = "start") -> list[pd.Timestamp]:
    asked = [r.query for r in server.requests if r.path.endswith(path)]
    return [pd.Timestamp(int(query[key]), unit="ms", tz="UTC") for query in asked]


def test_bybits_bars_are_all_there_after_one_call_and_asked_for_once(lake: Lake, market: Market) -> None:
    with serve(market) as server:
        done = fetch_prices(lake, "bybit", ["BTCUSDT", "ETHUSDT"], now=NOW, url=server.url, **LINEAR)
        assert [(o.new, o.missing) for o in done] == [(BARS, 0), (BARS, 0)]
        pd.testing.assert_frame_equal(
            read(lake, "2026-06-01", **KEPT), pd.concat(market.bars.values(), ignore_index=True), check_exact=True
        )
        server.requests.clear()
        done = fetch_prices(lake, "bybit", ["BTCUSDT", "ETHUSDT"], now=NOW + HOUR, url=server.url, **LINEAR)
        assert [o.new for o in done] == [0, 0]
        assert server.requests == []


def test_a_symbol_that_breaks_off_keeps_its_pages_and_is_not_told_as_corrected(lake: Lake, market: Market) -> None:
    def broken(request: Request) -> Answer:
        late = int(request.query.get("start", 0)) >= to_ms(ts("2026-03-01"))
        return Answer(b"", 500) if late and request.query["symbol"] == "BTCUSDT" else market(request)

    with serve(broken) as server:
        done = fetch_prices(lake, "bybit", ["BTCUSDT", "ETHUSDT"], now=NOW, url=server.url, **LINEAR)
    assert [(o.symbol, o.new, bool(o.error)) for o in done] == [("BTCUSDT", 0, True), ("ETHUSDT", BARS, False)]
    kept = read(lake, "2026-06-01", **KEPT).groupby("symbol").size().to_dict()
    assert 1000 <= kept["BTCUSDT"] < BARS == kept["ETHUSDT"]


def test_a_gap_that_was_asked_for_in_vain_is_told_and_filled_when_it_is_asked_for_again(
    lake: Lake, market: Market
) -> None:
    whole = market.bars["BTCUSDT"]
    gap = (whole["open_time"] >= ts("2026-03-01T10:00")) & (whole["open_time"] < ts("2026-03-01T20:00"))
    market.bars["BTCUSDT"] = whole[~gap].reset_index(drop=True)
    with serve(market) as server:
        options = {**LINEAR, "url": server.url}
        first = fetch_prices(lake, "bybit", ["BTCUSDT"], now=NOW, **options)[0]
        assert (first.new, first.missing) == (BARS - 10, 10)
    with serve(Market({"BTCUSDT": whole}, NOW)) as server:
        options = {**LINEAR, "url": server.url}
        told = fetch_prices(lake, "bybit", ["BTCUSDT"], now=NOW + HOUR, **options)
        assert told == [
            Outcome("bybit", "BTCUSDT", missing=10, notes=("10 bars are missing, and were asked for before",))
        ]
        assert server.requests == []
        filled = fetch_prices(lake, "bybit", ["BTCUSDT"], now=NOW + HOUR, again=True, **options)
        assert filled == [Outcome("bybit", "BTCUSDT", new=10)]
        done = fetch_prices(lake, "bybit", ["BTCUSDT"], now=NOW + 2 * HOUR, again=True, **options)
        assert done == [Outcome("bybit", "BTCUSDT", notes=("everything was there",))]
    pd.testing.assert_frame_equal(read(lake, "2026-06-02", **KEPT), whole, check_exact=True)


WALK = """
import sys, pandas as pd
from pathlib import Path
from finsignal.fetching import fetch_derivatives, fetch_prices
from finsignal.lake import open_lake
ts = lambda stamp: pd.Timestamp(stamp, tz="UTC").as_unit("us")
folder, url, what = sys.argv[1:]
window = dict(market="bybit-linear", bar="1h", start=ts("2026-01-01"), end=ts("2026-05-31"), now=ts("2026-06-01"))
lake = open_lake(Path(folder))
if what == "prices":
    fetch_prices(lake, "bybit", ["BTCUSDT"], url=url, **window)
else:
    fetch_derivatives(lake, ["BTCUSDT"], [what], url=url, **window)
"""


@contextmanager
def killed_walk(lake: Lake, answer: Callable[[Request], Answer], what: str, calls: int) -> Iterator[Server]:
    """A server whose client was killed with SIGKILL while it waited for the call after so many; it answers on."""
    state = {"server": None, "slow": True}

    def slow(request: Request) -> Answer:
        if state["slow"] and len(state["server"].requests) > calls:
            time.sleep(30)
        return answer(request)

    with serve(slow) as server:
        state["server"] = server
        process = subprocess.Popen([sys.executable, "-c", WALK, str(lake.folder), server.url, what], cwd=REPO)
        give_up = time.monotonic() + 60
        while len(server.requests) <= calls and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.01)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        state["slow"] = False
        server.requests.clear()
        yield server


def test_a_walk_that_was_killed_goes_on_where_it_stood(lake: Lake, market: Market) -> None:
    with killed_walk(lake, market, "prices", 2) as server:
        stored = read(lake, "2026-06-01", **KEPT)
        assert len(stored) == 2000
        done = fetch_prices(lake, "bybit", ["BTCUSDT"], now=NOW, url=server.url, **LINEAR)
        assert starts(server)[0] == stored["open_time"].max() - (OVERLAP - 1) * HOUR
    assert done == [Outcome("bybit", "BTCUSDT", new=BARS - 2000)]
    pd.testing.assert_frame_equal(read(lake, "2026-06-01", **KEPT), market.bars["BTCUSDT"], check_exact=True)


DERIVED = {"funding": {"market": "bybit-linear"}, "open_interest": KEPT}


def make_derivatives(market: Market) -> None:
    count = BARS // 8
    eight = pd.Series(pd.date_range("2026-01-01", periods=count, freq="8h", tz="UTC").as_unit("us"))
    rates = {"symbol": pd.Series(["BTCUSDT"] * count, dtype="str"), "time": eight, "rate": 1e-5 * (1 + eight.index)}
    market.funding = FUNDING.to_table(pd.DataFrame(rates))
    hours = market.bars["BTCUSDT"]["time"]
    held = {"symbol": market.bars["BTCUSDT"]["symbol"], "time": hours, "contracts": 1000.0 + hours.index}
    market.open_interest = OPEN_INTEREST.to_table(pd.DataFrame(held))


@pytest.mark.parametrize("table", ["funding", "open_interest"])
def test_funding_and_open_interest_go_on_after_a_kill_and_add_nothing_twice(
    lake: Lake, market: Market, table: str
) -> None:
    make_derivatives(market)
    expected = getattr(market, table)
    path = {"funding": "funding/history", "open_interest": "open-interest"}[table]
    with killed_walk(lake, market, table, 2) as server:
        stored = as_of(lake, table, NOW, recorded_by=NOW, **DERIVED[table])
        assert 0 < len(stored) < len(expected)
        done = fetch_derivatives(lake, ["BTCUSDT"], [table], now=NOW, url=server.url, **LINEAR)
        assert starts(server, path, "startTime")[0] >= stored["time"].max() - 2 * HOUR
        assert done[0].new == len(expected) - len(stored)
        again = fetch_derivatives(lake, ["BTCUSDT"], [table], now=NOW, url=server.url, **LINEAR)
        assert (again[0].new, again[0].error) == (0, "")
    there = as_of(lake, table, NOW, recorded_by=NOW, **DERIVED[table])
    pd.testing.assert_frame_equal(there[list(expected.columns)], expected, check_exact=True)


@pytest.mark.parametrize("table", ["funding", "open_interest"])
def test_older_derivatives_than_those_stored_are_asked_for_also_after_a_kill(
    lake: Lake, market: Market, table: str
) -> None:
    make_derivatives(market)
    expected = getattr(market, table)
    with serve(market) as server:
        late = {**LINEAR, "start": ts("2026-05-20")}
        fetch_derivatives(lake, ["BTCUSDT"], [table], now=NOW, url=server.url, **late)
    with killed_walk(lake, market, table, 2) as server:  # from January on, and what is stored already lies after it
        fetch_derivatives(lake, ["BTCUSDT"], [table], now=NOW + HOUR, url=server.url, **LINEAR)
        path = {"funding": "funding/history", "open_interest": "open-interest"}[table]
        assert starts(server, path, "startTime")[0] > ts("2026-01-02")  # it went on, and did not begin anew
    there = as_of(lake, table, NOW + HOUR, recorded_by=NOW + HOUR, **DERIVED[table])
    pd.testing.assert_frame_equal(there[list(expected.columns)], expected, check_exact=True)


def test_spot_has_no_funding_and_is_not_asked_for_any(lake: Lake, market: Market) -> None:
    with serve(market) as server, pytest.raises(ConfigError, match="spot has no funding"):
        fetch_derivatives(lake, ["BTCUSDT"], ["funding"], now=NOW, url=server.url, **{**LINEAR, "market": "bybit-spot"})


# --- news ------------------------------------------------------------------------------------------------------------


def row(number: int, published: str, title: str) -> dict[str, str]:
    return {
        "id": f"item-{number}",
        "title": title,
        "published": to_stamp(f"{published}Z"),
        "url": f"https://wire.test/{number}",
    }


def poll(lake: Lake, rows: list[dict[str, str]], now: str, *, about: str = "", latency: str = "1min") -> list[Outcome]:
    with serve(lambda _: to_feed_answer(to_rss(rows))) as server:
        feeds = {"wire": Feed(f"{server.url}/wire.rss", about=about)}
        names = {"AAA": ["Alder"], "BBB": ["Birch"]}
        return fetch_feeds(lake, feeds, names=names, latency=pd.Timedelta(latency), now=ts(now))


def articles(lake: Lake, t: str = "2026-12-31") -> pd.DataFrame:
    return as_of(lake, "articles", ts(t), recorded_by=ts(t)).set_index("article_id")


FIRST = [row(1, "2026-03-02T10:00", "Alder soars"), row(2, "2026-03-02T11:00", "Birch slumps")]


def test_the_first_poll_of_a_feed_is_a_backfill_known_as_its_stamps_say(lake: Lake) -> None:
    done = poll(lake, FIRST, "2026-03-02T12:00")
    there = articles(lake)
    assert [(o.source, o.symbol, o.new, o.error) for o in done] == [("feed", "wire", 2, "")]
    assert there["first_seen"].isna().all()
    assert there["time"].tolist() == [ts("2026-03-02T10:01"), ts("2026-03-02T11:01")]
    assert (there["recorded"] == ts("2026-03-02T12:00")).all()
    links = read_links(lake, there.index, recorded_by=ts("2026-03-02T12:00"))
    assert links["symbol"].tolist() == ["AAA", "BBB"]


def test_the_second_poll_is_live_and_late_items_and_edits_count_from_now(lake: Lake) -> None:
    poll(lake, FIRST, "2026-03-02T12:00")
    edited = {**FIRST[1], "title": "Birch slumps, then recovers"}
    new, late = row(3, "2026-03-02T12:20", "Alder meets"), row(4, "2026-03-02T09:00", "Birch soars")
    done = poll(lake, [FIRST[0], edited, new, late], "2026-03-02T12:30")
    there = articles(lake)
    assert done[0].new == 3
    live = there[there["recorded"] == ts("2026-03-02T12:30")]
    assert (live["first_seen"] == ts("2026-03-02T12:30")).all()
    assert live.loc["wire:item-3", "time"] == ts("2026-03-02T12:21")  # came between the polls, as its stamp says
    assert live.loc["wire:item-4", "time"] == ts("2026-03-02T12:31")  # the poll before did not bring it
    (edit,) = [name for name in live.index if name.startswith("wire:item-2#")]
    assert live.loc[edit, "time"] == ts("2026-03-02T12:31")
    assert live.loc[edit, "story"] == there.loc["wire:item-2", "story"]
    assert there.loc["wire:item-2", "title"] == "Birch slumps"  # as it stood
    assert poll(lake, [FIRST[0], edited, new, late], "2026-03-02T13:00")[0].new == 0


def test_a_feed_not_polled_for_a_month_was_not_watched(lake: Lake) -> None:
    poll(lake, FIRST, "2026-03-02T12:00")
    poll(lake, [row(5, "2026-03-20T10:00", "Alder meets")], "2026-04-20T12:00")
    there = articles(lake)
    assert pd.isna(there.loc["wire:item-5", "first_seen"])
    assert there.loc["wire:item-5", "time"] == ts("2026-03-20T10:01")


def test_a_feed_that_fails_leaves_the_lake_and_the_next_poll_as_they_were(lake: Lake) -> None:
    poll(lake, FIRST, "2026-03-02T12:00")
    with serve(lambda _: Answer(b"<html>maintenance</html>")) as server:
        done = fetch_feeds(lake, {"wire": Feed(server.url)}, names={}, latency=MINUTE, now=ts("2026-03-02T12:30"))
    assert "not whole XML" in done[0].error or "XML of another kind" in done[0].error
    poll(lake, [row(3, "2026-03-02T12:20", "Alder meets")], "2026-03-02T13:00")
    # Live since the last poll that succeeded, at 12:00: what is stamped after it is believed.
    assert articles(lake).loc["wire:item-3", "time"] == ts("2026-03-02T12:21")


def test_a_feed_that_is_down_at_its_first_poll_is_no_poll(lake: Lake) -> None:
    with serve(lambda _: Answer(b"", 404)) as server:
        done = fetch_feeds(lake, {"wire": Feed(server.url)}, names={}, latency=MINUTE, now=ts("2026-03-02T09:00"))
    assert done[0].error
    poll(lake, FIRST, "2026-03-02T12:00")
    assert articles(lake)["first_seen"].isna().all()


def test_yahoos_news_of_several_symbols_is_one_article_with_the_links_of_all(
    lake: Lake, yahoo: Yahoo, server: Server
) -> None:
    both = make_item(1, published=ts("2026-03-02T10:00"), title="Apple and Microsoft meet", symbols=["AAPL", "MSFT"])
    one = make_item(2, published=ts("2026-03-02T11:00"), title="Microsoft soars", symbols=["MSFT"])
    yahoo.news = {"AAPL": [both], "MSFT": [both, one]}

    def fetched(now: str) -> list[Outcome]:
        names = {"AAPL": ["Apple"], "MSFT": ["Microsoft"]}
        return fetching.fetch_yahoo_news(
            lake, ["AAPL", "MSFT", "XOM"], names=names, latency=MINUTE, now=ts(now), url=server.url
        )

    done = fetched("2026-03-02T12:00")
    assert {o.symbol: o.new for o in done if o.symbol} == {"AAPL": 1, "MSFT": 2, "XOM": 0}
    there = articles(lake)
    assert sorted(there["title"]) == ["Apple and Microsoft meet", "Microsoft soars"]
    links = read_links(lake, there.index, recorded_by=ts("2026-03-02T12:00"))
    assert sorted(zip(links["article_id"].str[-1], links["symbol"], strict=True)) == [
        ("1", "AAPL"),
        ("1", "MSFT"),
        ("2", "MSFT"),
    ]
    assert all(o.new == 0 for o in fetched("2026-03-02T13:00"))


def test_a_feed_of_dates_fails_alone_and_by_name(lake: Lake) -> None:
    dates = [row(day, f"2026-03-{day:02d}T00:00", f"Alder on day {day}") for day in range(1, 25)]
    times = [row(n, f"2026-03-02T{n // 60:02d}:{n % 60:02d}", f"Birch by minute {n}") for n in range(1, 600)]

    def answer(request: Request) -> Answer:
        return to_feed_answer(to_rss(dates if request.path.endswith("dates.rss") else times))

    with serve(answer) as server:
        feeds = {name: Feed(f"{server.url}/{name}.rss") for name in ("times", "dates")}
        done = fetch_feeds(lake, feeds, names={}, latency=MINUTE, now=ts("2026-03-26T12:00"))
    assert [(o.symbol, o.new, o.error[:13]) for o in done] == [("times", 599, ""), ("dates", 0, "dates: 100.0%")]
    assert articles(lake).index.str.startswith("times:").all()


@pytest.mark.parametrize("symbols", [("AAPL", "MSFT"), ("MSFT", "AAPL")], ids=["watched first", "new first"])
def test_a_late_item_is_late_also_where_the_first_poll_of_a_new_symbol_brings_it_too(
    lake: Lake, yahoo: Yahoo, server: Server, symbols: tuple[str, ...]
) -> None:
    options: dict[str, Any] = {"names": {}, "latency": MINUTE, "url": server.url}
    fetching.fetch_yahoo_news(lake, ["AAPL"], now=ts("2026-03-05T09:00"), **options)
    late = make_item(1, published=ts("2026-03-05T06:00"), title="Chips soar", symbols=["AAPL", "MSFT"])
    yahoo.news = {"AAPL": [late], "MSFT": [late]}
    fetching.fetch_yahoo_news(lake, symbols, now=ts("2026-03-05T10:00"), **options)
    (there,) = articles(lake).to_dict("records")
    assert (there["first_seen"], there["time"]) == (ts("2026-03-05T10:00"), ts("2026-03-05T10:01"))


def test_a_link_says_when_the_source_first_named_the_symbol_whatever_was_recorded_of_it_since(lake: Lake) -> None:
    poll(lake, [row(1, "2026-03-02T10:00", "Chips soar")], "2026-03-02T12:00", about="AAA")
    poll(lake, [row(1, "2026-03-02T10:00", "Chips soar")], "2026-03-03T12:00", about="BBB")
    first, later, last = ts("2026-03-02T12:00"), ts("2026-03-03T12:00"), ts("2026-03-04T12:00")
    links = read_links(lake, ["wire:item-1"], recorded_by=last, stamped=True)
    assert (links["symbol"].tolist(), links["recorded"].tolist()) == (["AAA", "BBB"], [first, later])
    append(lake, "links", links.drop(columns="recorded").assign(relevance=0.5), recorded=last)
    again = read_links(lake, ["wire:item-1"], recorded_by=last, stamped=True)
    assert (again["relevance"].tolist(), again["recorded"].tolist()) == ([0.5, 0.5], [first, later])
    assert "recorded" not in read_links(lake, ["wire:item-1"], recorded_by=last)
    none = read_links(lake, ["wire:item-9"], recorded_by=last, stamped=True)
    assert (len(none), none["recorded"].dtype) == (0, again["recorded"].dtype)


MARKET_RUN = """
name = "market"
strategy = "s.py"
market = "24x7"
bar = "1h"
symbols = ["AAA", "BBB", "CCC"]
start = "2026-03-02"
end = "2026-03-03"
cash = 1
lake = "lake"
market_news = "{goes_to}"
[names]
AAA = ["Alder"]
[features]
half_life = 3
max_age = 4
min_relevance = 0.5
[weights]
slots = 1
gross = 1.0
holding = 5
[costs]
fee = 0.001
slippage = 0.001
delisting_return = -0.3
delisted_after = 50
"""


@pytest.mark.parametrize(
    ("goes_to", "expected"),
    [("every", ["AAA", "BBB", "CCC"]), ("BBB", ["BBB"]), ("", [])],
    ids=["every", "one", "none"],
)
def test_market_wide_news_goes_where_the_run_file_says(
    lake: Lake, tmp_path: Path, goes_to: str, expected: list[str]
) -> None:
    from finsignal.study.inputs import read_lake_news

    poll(lake, [row(1, "2026-03-02T10:00", "Rates rise")], "2026-03-02T12:00", about="*")
    path = tmp_path / "run.toml"
    path.write_text(MARKET_RUN.format(goes_to=goes_to), encoding="utf-8")
    now = ts("2026-03-02T12:00")
    news, counts = read_lake_news(read_run(path), lake, now, since=ts("2026-03-01"), recorded_by=now)
    assert news["symbol"].tolist() == expected
    assert (news["relevance"] == 1).all()
    assert sum(counts.dropped.values()) == (0 if expected else 1)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def from_lake(tiny_copy: Path) -> RunFile:
    """The tiny run on a lake, into which its own files were fetched."""
    run = read_run(tiny_copy / "run.toml")
    fetch_files(open_lake(tiny_copy / "lake", create=True), run, now=NOW)
    return replace(run, lake="lake", prices_path=(), news_path="")


def test_files_in_the_lake_give_the_inputs_of_the_files(from_lake: RunFile, tiny_inputs: Inputs) -> None:
    inputs = read_inputs(from_lake, now=NOW)
    pd.testing.assert_frame_equal(inputs.bars, tiny_inputs.bars)
    pd.testing.assert_frame_equal(inputs.prices, tiny_inputs.prices, check_exact=True)
    pd.testing.assert_frame_equal(inputs.news, tiny_inputs.news, check_exact=True)


def test_a_study_on_the_lake_is_that_on_the_files(from_lake: RunFile, tiny_study: Study, words: Model) -> None:
    inputs = read_inputs(from_lake, now=NOW)
    study = run_study(from_lake, inputs, {"words": score_news(inputs.news, words)}, models={"words": words})
    pd.testing.assert_frame_equal(study.decided.signals, tiny_study.decided.signals, check_exact=True)
    pd.testing.assert_series_equal(study.result.equity, tiny_study.result.equity, check_exact=True)
    assert (study.decided.weights["weight"] != 0).any()


def test_a_lake_looks_for_symbols_in_texts_that_a_file_has_under_another(tiny_copy: Path) -> None:
    frame = pd.read_csv(tiny_copy / "news.csv")
    frame.loc[0, ["symbol", "title"]] = ["AAA", "Alder and Birch meet"]
    frame.to_csv(tiny_copy / "news.csv", index=False)
    run, lake = read_run(tiny_copy / "run.toml"), open_lake(tiny_copy / "lake", create=True)
    fetch_files(lake, run, now=NOW)
    from_lake = replace(run, lake="lake", prices_path=(), news_path="")
    of_file, of_lake = (
        news.loc[news["title"] == "Alder and Birch meet", "symbol"].tolist()
        for news in (read_inputs(made, now=NOW).news for made in (run, from_lake))
    )
    # The lake's texts come from anywhere, under the symbols of whoever filed them: words count there for every symbol.
    assert (of_file, of_lake) == (["AAA"], ["AAA", "BBB"])


def test_files_fetched_twice_add_nothing_and_are_no_live_capture(tiny_copy: Path) -> None:
    run, lake = read_run(tiny_copy / "run.toml"), open_lake(tiny_copy / "lake", create=True)
    first, again = (fetch_files(lake, run, now=NOW + n * HOUR) for n in range(2))
    assert [o.new for o in first] == [240, 94]
    assert [o.new for o in again] == [0, 0]
    assert articles(lake)["first_seen"].isna().all()


def test_a_run_file_without_files_is_one_sentence(lake: Lake, tiny_run: RunFile) -> None:
    with pytest.raises(ConfigError, match="names no files"):
        fetch_files(lake, replace(tiny_run, prices_path=(), news_path=""), now=NOW)


# --- a lake that cannot be written -----------------------------------------------------------------------------------


def test_a_full_disk_is_an_error_that_loses_nothing_and_a_repeat_brings_the_rest(
    lake: Lake, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finsignal.lake import appending

    write, written = appending.write_new, []

    def full(path: Path, data: bytes) -> None:
        if len(written) >= 3:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, data)

    with serve(market) as server:
        monkeypatch.setattr(appending, "write_new", full)
        with pytest.raises(SourceError, match="No space left on device"):
            fetch_prices(lake, "bybit", ["BTCUSDT"], now=NOW, url=server.url, **LINEAR)
        stored = read(lake, "2026-06-01", **KEPT)
        assert 0 < len(stored) < BARS
        monkeypatch.setattr(appending, "write_new", write)
        done = fetch_prices(lake, "bybit", ["BTCUSDT"], now=NOW, url=server.url, **LINEAR)
    assert done == [Outcome("bybit", "BTCUSDT", new=BARS - len(stored))]
    pd.testing.assert_frame_equal(read(lake, "2026-06-01", **KEPT), market.bars["BTCUSDT"], check_exact=True)


def test_a_fetch_that_is_stopped_keeps_what_came(lake: Lake, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(market) as server:
        window = {**LINEAR, "start": ts("2026-05-20")}
        asked = fetching.ASKS["bybit"]

        def ask_then_stop(*args: Any, **options: Any) -> Any:
            real = asked(*args, **options)

            def ask(symbol: str, bars: pd.DataFrame) -> Any:
                if symbol == "ETHUSDT":
                    raise KeyboardInterrupt
                return real(symbol, bars)

            return ask

        monkeypatch.setattr(fetching, "ASKS", {"bybit": ask_then_stop})
        with pytest.raises(KeyboardInterrupt):
            fetch_prices(lake, "bybit", ["BTCUSDT", "ETHUSDT"], now=NOW, url=server.url, **window)
    assert read(lake, "2026-06-01", **KEPT)["symbol"].unique().tolist() == ["BTCUSDT"]


def test_a_bar_recorded_before_it_closed_is_refused(lake: Lake, market: Market) -> None:
    early = market.bars["BTCUSDT"].head(2)
    with pytest.raises(TableError, match="after it was recorded"):
        append(lake, "prices", early, recorded=ts("2026-01-01T01:30"), **KEPT)
    assert to_integers(read(lake, "2026-06-01", **KEPT)["time"]).size == 0


def test_after_a_clock_that_went_back_nothing_old_is_believed_and_the_past_stays(tmp_path: Path) -> None:
    rows = [{"id": "one", "title": "Acme meets", "published": to_stamp("2026-03-05T06:00Z")}]
    early, late = (pd.Timestamp(t).as_unit("us") for t in ("2026-03-05T09:00Z", "2026-03-05T09:59Z"))
    lake = open_lake(tmp_path / "lake", create=True)
    options = {"names": {"ACME": ["Acme"]}, "latency": pd.Timedelta(minutes=1)}
    with serve(lambda request: to_feed_answer(to_rss(rows))) as server:
        feeds = {"wire": Feed(f"{server.url}/rss")}
        fetch_feeds(lake, feeds, now=late, **options)
        known = as_of(lake, "articles", late, recorded_by=late)
        rows.append({"id": "two", "title": "Acme soars", "published": to_stamp("2026-03-05T07:00Z")})
        fetch_feeds(lake, feeds, now=early, **options)
    pd.testing.assert_frame_equal(as_of(lake, "articles", late, recorded_by=late), known)
    after = late + pd.Timedelta(hours=1)
    new = as_of(lake, "articles", after, recorded_by=after).set_index("article_id").loc["wire:two"]
    assert new["time"] == early + pd.Timedelta(minutes=1)  # when it was seen, by the clock there was
    assert new["recorded"] > late
