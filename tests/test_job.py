"""The pass of the scheduled job: what it decides, when it refuses, and what it leaves on record."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from postgres import Postgres
from replay_server import Answer
from signal_tables import make_signal_table
from world import SYMBOLS, World, open_world

from finsignal.cli.job import to_lines
from finsignal.clock import make_bars
from finsignal.config import RunFile
from finsignal.errors import ConfigError, LedgerError, LockedError, LookaheadError, RefusedError, SourceError
from finsignal.features import make_price_features
from finsignal.job import facts
from finsignal.job.passing import DONE, DOWN, PARTLY, REFUSED, Pass, ledger_of, run_pass
from finsignal.job.proof import prove
from finsignal.job.status import make_status, to_text
from finsignal.lake import append, as_of, open_lake
from finsignal.ledger import lock, open_ledger, read_decisions, read_news, read_passes
from finsignal.sentiment.score import Model, score_news
from finsignal.signals import ExitRules, WeightRules, make_flat_state, to_weights
from finsignal.sources.capture import to_articles, to_items
from finsignal.study import read_inputs
from finsignal.study.deciding import decide_run
from finsignal.study.request import score_by_model
from finsignal.tables import ARTICLES, NEWS, PRICES

HOUR = pd.Timedelta(hours=1)
SEARCH = "[search]\nconfidence_threshold = [0.5]\n[split]\nvalidation_until = '2026-03-03'\n"
START = "2026-03-05T09:59:10Z"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    import ccxt

    monkeypatch.setattr(ccxt.Exchange, "sleep", lambda self, milliseconds: None)  # between tries
    with open_world(tmp_path, START) as world:
        yield world


@pytest.fixture
def go(world: World, words: Model) -> Callable[..., Pass]:
    """One pass in the world at its instant."""
    run = world.write_run()
    return lambda run=run, model=words, **options: run_pass(run, world.clock, lambda: model, **options)


def read_ledger(run: RunFile) -> dict[str, pd.DataFrame]:
    with closing(open_ledger(ledger_of(run), create=False)) as ledger:
        return {
            "decisions": read_decisions(ledger, run.name),
            "news": read_news(ledger, run.name),
            "passes": read_passes(ledger, run.name),
        }


def test_a_pass_decides_each_symbol_for_the_bar_that_opens_next(world: World, go: Callable[..., Pass]) -> None:
    made = go()
    assert (made.outcome, made.code) == ("decided", DONE)
    assert [row["symbol"] for row in made.rows] == list(SYMBOLS)
    assert {row["bar"] for row in made.rows} == {"2026-03-05T10:00:00+00:00"}
    assert {row["decided"] for row in made.rows} == {"2026-03-05T09:59:00+00:00"}
    kept = read_ledger(world.write_run())["decisions"]
    assert kept["signal"].tolist() == [row["signal"] for row in made.rows]
    assert kept["model"].unique().tolist() == ["words@0"]


def test_a_position_to_be_left_at_the_close_says_so(world: World, go: Callable[..., Pass]) -> None:
    assert all("leave" not in row for row in go().rows)
    run = world.write_run(**{"[weights]": "[exits]\nsession_close = true\n[weights]"})
    world.now += HOUR
    rows = []
    for _ in range(4):
        rows += go(run).rows
        world.now += HOUR
    assert all(row["leave"] == ("session close" if row["weight"] else "") for row in rows)
    assert {row["leave"] for row in rows} == {"session close", ""}
    told, table = to_lines(rows, "text"), to_lines(rows, "csv").splitlines()
    held = sum(row["weight"] != 0 for row in rows)
    assert told.count("leave: session close") == held
    assert table[0].endswith(",leave")
    assert sum(line.endswith(",session close") for line in table) == held


def test_the_news_behind_each_decision_is_on_record(world: World, go: Callable[..., Pass]) -> None:
    made = go()
    news = read_ledger(world.write_run())["news"]
    for row in made.rows:
        ours = news[news["symbol"] == row["symbol"]]
        assert sorted(ours["title"]) == sorted(text["title"] for text in row["news"])
        assert len(ours) == row["texts"] > 0
        assert ours["share"].sum() == pytest.approx(1)
    assert (news["known"] <= pd.Timestamp("2026-03-05T09:59Z")).all()


def test_headlines_stamped_after_the_decision_wait_for_the_next_bar(world: World, go: Callable[..., Pass]) -> None:
    late = {"id": "late", "title": "Bitcoin soars at last", "url": "https://wire.test/late"}
    world.headlines = [*world.headlines, {**late, "published": "2026-03-05T09:58:30+00:00"}]  # known from 09:59:30
    titles = [text["title"] for row in go().rows for text in row["news"]]
    assert "Bitcoin soars at last" not in titles
    world.now += HOUR
    titles = [text["title"] for row in go().rows for text in row["news"]]
    assert "Bitcoin soars at last" in titles


def test_the_bar_that_is_open_is_not_known(world: World, go: Callable[..., Pass]) -> None:
    go()
    lake = open_lake(world.folder / "lake")
    prices = as_of(lake, "prices", world.now, recorded_by=world.now, market="bybit-linear", bar="1h")
    assert prices["time"].max() == pd.Timestamp("2026-03-05T09:00Z")


def test_a_repeated_pass_changes_nothing(world: World, go: Callable[..., Pass]) -> None:
    first = go()
    asked = len(world.server.requests)
    again = go()
    assert (again.outcome, again.code, again.rows) == ("repeated", DONE, first.rows)
    assert len(world.server.requests) == asked  # it works from what was known then
    kept = read_ledger(world.write_run())
    assert len(kept["decisions"]) == 2
    assert kept["passes"]["outcome"].tolist() == ["decided", "repeated"]


def test_a_headline_that_came_meanwhile_does_not_change_a_repeated_pass(world: World, go: Callable[..., Pass]) -> None:
    go()
    early = {"id": "early", "title": "Bitcoin slumps", "url": "https://wire.test/e"}
    world.headlines = [*world.headlines, {**early, "published": "2026-03-05T09:30:00Z"}]
    world.now += pd.Timedelta(seconds=20)
    assert go().outcome == "repeated"


def test_a_changed_answer_is_refused_and_says_what_changed(world: World, go: Callable[..., Pass]) -> None:
    made = go()
    run = world.write_run(**{"buy_threshold = 0.2": "buy_threshold = 0.99"})
    with pytest.raises(RefusedError, match=r"ETHUSDT at 2026-03-05T09:59Z: signal was BUY, is HOLD"):
        go(run)
    kept = read_ledger(run)
    assert kept["decisions"]["signal"].tolist() == [row["signal"] for row in made.rows]
    assert kept["passes"]["outcome"].tolist() == ["decided", "refused"]


@pytest.mark.parametrize(
    ("now", "next_decision"),
    [("2026-03-05T09:58:59Z", "2026-03-05 09:59:00"), ("2026-03-05T10:00:00Z", "2026-03-05 10:59:00")],
    ids=["before the decision", "at the open"],
)
def test_only_from_decision_to_open_is_there_something_to_decide(
    world: World, go: Callable[..., Pass], now: str, next_decision: str
) -> None:
    world.now = pd.Timestamp(now).as_unit("us")
    made = go()
    assert (made.outcome, made.code, made.rows) == ("quiet", DONE, [])
    assert f"the next decision is at {next_decision}" in made.message
    assert world.server.requests == []


def test_bars_that_no_pass_served_are_missed_and_never_dated_back(world: World, go: Callable[..., Pass]) -> None:
    go()
    world.now += 3 * HOUR
    made = go()
    assert made.outcome == "decided"
    kept = read_ledger(world.write_run())
    missed = kept["passes"][kept["passes"]["outcome"] == "missed"]
    assert missed["open_time"].tolist() == [pd.Timestamp("2026-03-05T11:00Z"), pd.Timestamp("2026-03-05T12:00Z")]
    assert kept["decisions"]["open_time"].drop_duplicates().tolist() == [
        pd.Timestamp("2026-03-05T10:00Z"),
        pd.Timestamp("2026-03-05T13:00Z"),
    ]


def test_a_pass_that_takes_until_the_open_decides_nothing(world: World, words: Model) -> None:
    times = iter([world.now, world.now + pd.Timedelta(minutes=2)])
    made = run_pass(world.write_run(), lambda: next(times), lambda: words)
    assert (made.outcome, made.code, made.rows) == ("missed", REFUSED, [])
    kept = read_ledger(world.write_run())
    assert kept["decisions"].empty
    assert kept["passes"]["outcome"].tolist() == ["missed"]


def test_a_clock_that_jumps_back_is_refused(world: World, go: Callable[..., Pass]) -> None:
    go()
    world.now -= HOUR
    with pytest.raises(RefusedError, match="The clock went back"):
        go()


def test_one_symbol_without_new_prices_is_held_with_the_reason_and_the_others_are_not(
    world: World, go: Callable[..., Pass]
) -> None:
    go()
    world.down = ("BTCUSDT",)
    for _ in range(2):
        world.now += HOUR
        made = go()
    rows = {row["symbol"]: row for row in made.rows}
    assert (made.outcome, made.code) == ("partly", PARTLY)
    assert rows["BTCUSDT"]["signal"] == "HOLD"
    assert "prices stale" in rows["BTCUSDT"]["reason"]
    assert rows["ETHUSDT"]["reason"] == ""
    assert "BTCUSDT" in made.message


def test_a_silent_feed_is_a_reason_to_hold(world: World, go: Callable[..., Pass]) -> None:
    world.headlines = [row for row in world.headlines if row["published"] < "2026-03-04T02"]
    made = go()
    assert made.code == PARTLY
    assert all("silent" in row["reason"] and row["signal"] == "HOLD" for row in made.rows)


def test_no_prices_at_all_is_a_source_that_is_down_and_the_bar_may_be_tried_again(
    world: World, go: Callable[..., Pass]
) -> None:
    world.down = SYMBOLS
    made = go()
    assert (made.outcome, made.code, made.rows) == ("source down", DOWN, [])
    assert read_ledger(world.write_run())["decisions"].empty
    world.down = ()
    world.now += pd.Timedelta(seconds=10)
    assert go().outcome == "decided"


def test_a_feed_that_fails_is_told_and_the_rest_is_decided(world: World, go: Callable[..., Pass]) -> None:
    go()
    world.now += HOUR
    world.faults["/wire.rss"] = [Answer(b"<html>maintenance</html>")]
    made = go()
    assert (made.outcome, made.code) == ("partly", PARTLY)
    assert "feed wire" in made.message
    assert len(made.rows) == 2


def test_nothing_is_scored_twice(world: World, go: Callable[..., Pass], words: Model) -> None:
    read: list[str] = []

    class Listening(type(words)):  # type: ignore[misc]
        def _run(self, cleaned: list[str], *, progress: bool):  # type: ignore[no-untyped-def]
            read.extend(cleaned)
            return super()._run(cleaned, progress=progress)

    listening = Listening(**vars(words))
    go(model=listening)
    first = list(read)
    world.now += HOUR
    go(model=listening)
    assert len(first) > 0
    assert len(read) > len(first)
    assert len(set(read)) == len(read)


def test_another_model_is_asked_anew(world: World, go: Callable[..., Pass], new_model: Callable[..., Model]) -> None:
    go()
    world.now += HOUR
    other = new_model()
    object.__setattr__(other, "name", "words@1")
    go(model=other)
    lake = open_lake(world.folder / "lake")
    assert read_ledger(world.write_run())["decisions"]["model"].unique().tolist() == ["words@0", "words@1"]
    assert lake.folder.joinpath("scores").is_dir()


@pytest.mark.slow
def test_a_day_of_passes_decides_as_the_backtest_does(world: World, go: Callable[..., Pass], words: Model) -> None:
    run = world.write_run()
    for _ in range(24):
        assert go().outcome == "decided"
        world.now += HOUR
    inputs = read_inputs(run, now=world.now, ahead=True)
    first = pd.Timestamp("2026-03-05T10:00Z")
    backtest = decide_run(
        run,
        inputs,
        score_news(inputs.news, words),
        make_flat_state(run.symbols),
        strategy=run.load_strategy(),
        parameters=run.make_parameters(),
        since=first,
    )
    kept = read_ledger(run)["decisions"].sort_values(["symbol", "time"], ignore_index=True)
    expected = backtest.signals[backtest.signals["time"] <= kept["time"].max()].reset_index(drop=True)
    for column in ("time", "signal", "score", "confidence", "reason"):
        pd.testing.assert_series_equal(kept[column], expected[column], check_names=False, check_exact=True)
    weights = backtest.weights[backtest.weights["time"] <= kept["time"].max()].reset_index(drop=True)
    pd.testing.assert_series_equal(kept["weight"], weights["weight"], check_exact=True)
    assert kept["signal"].nunique() > 1
    assert (kept["weight"] != 0).any()


def test_a_ledger_in_postgresql_keeps_the_same_passes(
    world: World, go: Callable[..., Pass], words: Model, postgres_server: Postgres
) -> None:
    url = postgres_server.make_database()
    kept = world.write_run("kept", **{"[features]": f'[job]\nledger = "{url}"\n\n[features]'})
    plain = world.write_run("plain")
    for run in (kept, plain, kept):
        go(run)
    world.now += HOUR
    for run in (kept, plain):
        go(run)
    ledgers = read_ledger(kept), read_ledger(plain)
    for name in ("decisions", "news"):  # recorded: of two passes on one lake the second is sealed later
        one, other = (tables[name].drop(columns="recorded", errors="ignore") for tables in ledgers)
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert ledgers[0]["passes"]["outcome"].tolist() == ["decided", "repeated", "decided"]
    assert make_status(kept, now=world.now, last=3)["coverage"]["decided"] == 2
    assert prove(kept, lambda: words, now=world.now).differences == 0


@pytest.mark.slow
def test_every_decision_on_record_comes_out_again_though_the_lake_has_grown(
    world: World, go: Callable[..., Pass], words: Model
) -> None:
    run = world.write_run()
    for _ in range(5):
        go()
        world.now += HOUR
    late = {"id": "late", "title": "Bitcoin slumps", "url": "https://wire.test/late"}
    world.headlines = [*world.headlines, {**late, "published": "2026-03-05T10:20:00Z"}]  # no pass has seen it
    go()
    done = prove(run, lambda: words, now=world.now)
    assert (done.decisions, done.differences, done.other_model, done.first) == (12, 0, 0, "")


def test_what_a_slower_fetch_writes_afterwards_was_not_known_to_the_pass(
    world: World, go: Callable[..., Pass], words: Model
) -> None:
    go()
    began = world.now - pd.Timedelta(seconds=5)  # another job, on the same lake
    rows = [
        {"id": f"x{n}", "title": f"Bitcoin slumps, {n}", "url": "u", "published": pd.Timestamp("2026-03-05T09:50Z")}
        for n in range(9)
    ]
    lake = open_lake(world.folder / "lake")
    names, latency = {"BTCUSDT": ("Bitcoin",)}, pd.Timedelta(minutes=1)
    articles, links, _ = to_articles(
        to_items(rows, feed="other"), now=began, polled=None, known=ARTICLES.empty(), latency=latency, names=names
    )
    for name, table in (("articles", articles), ("links", links)):
        assert append(lake, name, table, recorded=began, in_order=True) == 9
    assert prove(world.write_run(), lambda: words, now=world.now).differences == 0
    world.now += pd.Timedelta(seconds=20)
    assert go().outcome == "repeated"
    world.now += HOUR
    assert any("slumps, 8" in text["title"] for row in go().rows for text in row["news"])


@pytest.mark.slow
def test_a_failed_poll_leaves_decisions_that_come_out_again(
    world: World, go: Callable[..., Pass], words: Model
) -> None:
    for hour in range(5):
        if hour == 2:
            world.faults["/wire.rss"] = [Answer(b"<html>maintenance</html>")]
        go()
        world.now += HOUR
    assert prove(world.write_run(), lambda: words, now=world.now).differences == 0


def test_a_symbol_that_hardly_trades_does_not_stop_the_others(world: World, go: Callable[..., Pass]) -> None:
    assert world.market is not None
    bars = world.market.bars["ETHUSDT"]  # type: ignore[index]
    rare = bars[np.random.default_rng(0).random(len(bars)) < 0.25].reset_index(drop=True)
    world.market.bars = {**world.market.bars, "ETHUSDT": rare}  # type: ignore[dict-item]
    rows = {row["symbol"]: row for row in go().rows}
    assert rows["BTCUSDT"]["reason"] == ""


def test_a_decision_that_does_not_come_out_again_is_named(world: World, go: Callable[..., Pass], words: Model) -> None:
    made = go()
    bold = world.write_run(**{"buy_threshold = 0.2": "buy_threshold = 0.99"})
    done = prove(bold, lambda: words, now=world.now)
    bought = [row["symbol"] for row in made.rows if row["signal"] == "BUY"]
    assert done.differences == len(bought) > 0
    assert done.first == f"{bought[0]} at 2026-03-05 09:59:00+00:00: signal was BUY, is HOLD"


# --- what no job may do --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({'latency = "1min"\nsymbols': 'latency = "0min"\nsymbols'}, RefusedError, "zero latency"),
        ({"[weights]": "[exits]\nstop_loss = 0.1\nresting = true\n[weights]"}, RefusedError, "set resting = false"),
        ({"stale_prices = 1": ""}, ConfigError, "state stale_prices and silent_news under"),
        ({'lake = "lake"': ""}, ConfigError, "set lake"),
        ({"[parameters]": f"{SEARCH}[parameters]"}, RefusedError, "not fitted"),
        ({'end = "2026-04-01"': 'end = "2026-03-05"'}, ConfigError, "its period ended"),
        ({'start = "2026-03-01"': 'start = "2026-03-30"'}, ConfigError, "its period begins"),
        ({'prices = "bybit"': 'prices = "bibit"'}, ConfigError, "Did you mean 'bybit'"),
        ({'wire]\nurl = "http': 'wire]\nurl = "file'}, ConfigError, "needs a url of http"),
    ],
    ids=[
        *("zero latency", "resting exits", "no limits", "no lake", "not fitted", "over", "not begun"),
        *("no such source", "feed of a file"),
    ],
)  # fmt: skip
def test_a_run_file_that_cannot_be_a_job_is_refused_before_anything_is_asked(
    world: World, go: Callable[..., Pass], change: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        go(world.write_run(**change))
    assert world.server.requests == []


def test_a_model_that_has_seen_the_period_is_refused(
    world: World, go: Callable[..., Pass], new_model: Callable[..., Model]
) -> None:
    with pytest.raises(LookaheadError, match="Seen data"):
        go(model=new_model(trained_until="2026-03-10"))
    assert read_ledger(world.write_run())["passes"]["outcome"].tolist() == ["refused"]


def test_a_run_file_with_other_symbols_does_not_inherit_positions(world: World, go: Callable[..., Pass]) -> None:
    go()
    world.now += HOUR
    one = {'symbols = ["BTCUSDT", "ETHUSDT"]': 'symbols = ["BTCUSDT"]', 'ETHUSDT = ["Ether"]': ""}
    with pytest.raises(RefusedError, match="give the changed run file another name"):
        go(world.write_run(**one))


def test_another_pass_at_work_is_locked_out_at_once(world: World, go: Callable[..., Pass]) -> None:
    run = world.write_run()
    with closing(open_ledger(ledger_of(run))) as ledger, lock(ledger, run.name), pytest.raises(LockedError):
        go()


def test_a_ledger_that_goes_away_in_mid_pass_is_one_sentence_and_nothing_is_decided(
    world: World, go: Callable[..., Pass], words: Model
) -> None:
    run = world.write_run()
    path = Path(ledger_of(run))

    def take_away() -> Model:
        for part in path.parent.glob(f"{path.name}*"):
            part.unlink()
        return words

    with pytest.raises(LedgerError):
        run_pass(run, world.clock, take_away)
    assert go().outcome == "decided"  # on a new ledger


def test_a_corrupt_lake_fails_the_pass_and_says_which_file(world: World, go: Callable[..., Pass]) -> None:
    go()
    world.now += HOUR
    part = sorted((world.folder / "lake" / "prices").rglob("*.parquet"))[-1]
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(SourceError, match=part.name):
        go()
    assert read_ledger(world.write_run())["passes"]["outcome"].tolist() == ["decided", "failed"]


def test_a_secret_in_a_feeds_address_is_nowhere(world: World, go: Callable[..., Pass]) -> None:
    secret = "hunter2-token"
    run = world.write_run(**{"/wire.rss": f"/gone.rss?token={secret}"})
    world.faults["/gone.rss"] = [Answer(b"", 404)]
    made = go(run)
    assert made.code == PARTLY
    assert secret not in made.message + repr(made)
    for path in world.folder.rglob("*"):
        if path.is_file() and path.suffix != ".toml":
            assert secret.encode() not in path.read_bytes(), path


# --- status --------------------------------------------------------------------------------------------------------


def test_status_tells_coverage_latency_and_the_last_passes(world: World, go: Callable[..., Pass]) -> None:
    go()
    world.now += 2 * HOUR
    go()
    status = make_status(world.write_run(), now=world.now, last=2)
    assert status["passes"] == {"decided": 2, "missed": 1}
    assert status["coverage"] == {"decided": 2, "missed": 1, "share": 2 / 3, "held": 0, "decisions": 4}
    assert status["latency"]["median"] > 0
    assert [row["outcome"] for row in status["last"]] == ["missed", "decided"]
    assert (status["drift"]["distance"], status["drift"]["drifts"]) == (None, None)
    json.dumps(status, allow_nan=False)
    assert "66.7% decided" in to_text(status)


def test_status_without_a_ledger_says_so(world: World) -> None:
    with pytest.raises(LedgerError):
        make_status(world.write_run(), now=world.now, last=5)


def test_a_backtest_on_the_lake_scores_nothing_that_a_pass_has_scored(
    world: World, go: Callable[..., Pass], words: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    go()
    run = world.write_run()
    news = read_inputs(run, now=world.now).news
    monkeypatch.setattr("finsignal.sentiment.score.load_model", lambda folder: words)
    plain = score_news(news, words)
    monkeypatch.setattr(type(words), "_run", lambda *_, **__: pytest.fail("a text was read again"))
    scored, _ = score_by_model(run, None, news, now=world.now)
    pd.testing.assert_frame_equal(scored["model words@0"], plain, check_exact=True)


def test_the_night_before_a_session_is_known_to_a_pass_though_hours_of_it_did_not_print(
    tiny_run: RunFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Bars of 5 minutes, 288 a session. The stretch that a decision reaches over holds all of the session, in which
    # enough rows printed for every window, but not the row before it: that came three hours earlier.
    rules = replace(tiny_run.features, price_max_age=2)
    run = replace(tiny_run, bar="5min", symbols=("AAA",), names={}, features=rules, search={}, split=None)
    bars = run.make_bars()
    position = 3 * 288 - 2
    close = 50 + np.sin(np.arange(len(bars)))
    rows = pd.DataFrame(
        {"open_time": bars["open_time"], "time": bars["close_time"], "symbol": "AAA", "open": close - 1}
    )
    rows = rows.assign(high=close + 1, low=close - 2, close=close, volume=1.0)
    prices = PRICES.to_table(rows.drop(index=range(2 * 288 - 36, 2 * 288)))

    def read_rows(run: RunFile, lake: object, table: str, t: pd.Timestamp, *, since: pd.Timestamp, **_: object):
        return prices[(prices["time"] > since) & (prices["time"] <= t)].reset_index(drop=True)

    monkeypatch.setattr(facts, "read_lake_rows", read_rows)
    monkeypatch.setattr(facts, "read_lake_news", lambda *_, **__: (NEWS.empty(), None))
    recent = bars.iloc[position - facts.reach_of(run) : position + 1].reset_index(drop=True)
    known = facts.read_facts(run, None, recent, len(recent) - 1, recorded_by=bars["time"].iloc[-1])  # type: ignore[arg-type]
    ours, whole = (
        make_price_features(p, b, ["AAA"], max_age=2).set_index("open_time").loc[bars["open_time"].iloc[position]]
        for p, b in ((known.prices, known.bars), (prices, bars))
    )
    assert whole["overnight_return"] == (close[2 * 288] - 1) / close[2 * 288 - 37] - 1
    assert ours.equals(whole)


def test_a_trailing_stop_older_than_the_reach_is_judged_alike_by_job_and_backtest(
    tiny_run: RunFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The bar of the fill closes at the best price of all. Whether it could be traded hangs on the close before it,
    # which no window of a feature asks for.
    run = replace(tiny_run, symbols=("AAA",), names={}, start="2026-01-01", end="2026-06-01", search={}, split=None)
    bars = make_bars("24x7", "1h", start="2026-01-01", end="2026-03-01", latency=pd.Timedelta(minutes=1))
    fill, last = 30, 30 + 24 * 45
    close = np.full(len(bars), 100.0)
    close[fill], close[fill + 1 :] = 130.0, 110.0
    close[last - 2 :] = 102.0  # below 130 * 0.8, above 110 * 0.8
    rows = pd.DataFrame({"open_time": bars["open_time"], "time": bars["close_time"], "symbol": "AAA", "open": 100.0})
    prices = PRICES.to_table(rows.assign(high=close + 40, low=90.0, close=close, volume=1.0))

    def read_rows(run: RunFile, lake: object, table: str, t: pd.Timestamp, *, since: pd.Timestamp, **_: object):
        return prices[(prices["time"] > since) & (prices["time"] <= t)].reset_index(drop=True)

    monkeypatch.setattr(facts, "read_lake_rows", read_rows)
    monkeypatch.setattr(facts, "read_lake_news", lambda *_, **__: (NEWS.empty(), None))
    rules, exits = WeightRules(slots=1, gross=1.0, holding=5), ExitRules(trailing_stop=0.2)
    letters = "B" * (last - fill + 1)
    signals = make_signal_table(bars[fill : last + 1].reset_index(drop=True), {"AAA": letters})
    flat = make_flat_state(["AAA"])
    whole, _ = to_weights(signals, prices, flat, bars=bars, rules=rules, exits=exits)
    before = signals[:-1]
    _, state = to_weights(before, prices, flat, bars=bars, rules=rules, exits=exits)
    now = bars["time"].iloc[last]
    grid = facts.make_job_bars(run, now, state)
    assert grid["open_time"].iloc[0] == bars["open_time"].iloc[fill]
    position = int(grid["open_time"].searchsorted(bars["open_time"].iloc[last]))
    known = facts.read_facts(run, None, grid, position, recorded_by=now)  # type: ignore[arg-type]
    newest = signals[-1:].reset_index(drop=True)
    alone, _ = to_weights(newest, known.prices, state, bars=known.bars, rules=rules, exits=exits)
    assert whole["weight"].tolist()[-2:] == [1, 0]
    assert alone["weight"].tolist() == [0]
