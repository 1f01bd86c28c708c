"""Parity: the past walked pass by pass leaves the ledger that the backtest's decisions are."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from finsignal.config import RunFile, read_run
from finsignal.errors import ConfigError, RefusedError
from finsignal.fetching import fetch_files
from finsignal.job import replay
from finsignal.job.replay import read_decided, run_replay
from finsignal.lake import open_lake
from finsignal.ledger import Ledger, open_ledger, read_decisions
from finsignal.sentiment.score import Model, load_model, score_news
from finsignal.signals import ExitRules, Limits, WeightRules
from finsignal.study import Inputs, Study, read_inputs, write_study
from finsignal.study.deciding import read_parameters

REPO = Path(__file__).resolve().parents[1]
SETTINGS = {"min_texts": 1, "buy_threshold": 0.2, "sell_threshold": 0.2}
NOW = pd.Timestamp("2026-06-01T00:00Z").as_unit("us")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(open_ledger(tmp_path / "replay.sqlite", durable=False)) as ledger:
        yield ledger


@pytest.mark.slow
def test_the_replay_of_the_test_period_is_the_study(
    tiny_run: RunFile,
    tiny_inputs: Inputs,
    tiny_sentiment: pd.DataFrame,
    tiny_study: Study,
    ledger: Ledger,
    tmp_path: Path,
) -> None:
    write_study(tiny_study, tmp_path / "run")
    weights = tiny_study.decided.weights
    start, end = weights["open_time"].min(), weights["open_time"].max() + pd.Timedelta(hours=1)
    done = run_replay(
        tiny_run,
        tiny_inputs,
        tiny_sentiment,
        ledger,
        parameters=tiny_study.parameters,
        model="words@0",
        start=start,
        end=end,
        now=NOW,
        against=read_decided(tmp_path / "run"),
    )
    assert (done.differences, done.first) == (0, "")
    assert (done.passes, done.decisions) == (len(weights) // 2, len(weights))
    assert done.orders > 5
    kept = read_decisions(ledger, tiny_run.name).sort_values(["symbol", "time"], ignore_index=True)
    signals = tiny_study.decided.signals
    for column in ("time", "symbol", "signal", "score", "confidence"):
        pd.testing.assert_series_equal(kept[column], signals[column], check_exact=True, check_index_type=False)
    pd.testing.assert_series_equal(kept["weight"], weights["weight"], check_exact=True)


def test_a_replay_that_begins_elsewhere_than_the_run_folder_is_refused(
    tiny_run: RunFile,
    tiny_inputs: Inputs,
    tiny_sentiment: pd.DataFrame,
    tiny_study: Study,
    ledger: Ledger,
    tmp_path: Path,
) -> None:
    write_study(tiny_study, tmp_path / "run")
    first = tiny_study.decided.signals["open_time"].min()
    options = {
        "parameters": tiny_study.parameters,
        "model": "words@0",
        "end": first + pd.Timedelta(hours=30),
        "now": NOW,
    }
    decided = read_decided(tmp_path / "run")
    with pytest.raises(ConfigError, match="let both begin at the same bar"):
        run_replay(
            tiny_run,
            tiny_inputs,
            tiny_sentiment,
            ledger,
            start=first + pd.Timedelta(hours=25),
            against=decided,
            **options,  # type: ignore[arg-type]
        )


def test_a_folder_without_decisions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run folder with decisions"):
        read_decided(tmp_path)


Walk = Callable[..., replay.Replay]


@pytest.fixture
def days(tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, ledger: Ledger) -> Walk:
    """The replay of two days of the tiny run, with changes to the run file."""

    def walk(**changes: object) -> replay.Replay:
        run = replace(tiny_run, **{"parameters": SETTINGS, **changes})  # type: ignore[arg-type]
        return run_replay(
            run,
            tiny_inputs,
            tiny_sentiment,
            ledger,
            parameters=run.make_parameters(),
            model="words@0",
            start=pd.Timestamp("2026-03-02T12:00Z"),
            end=pd.Timestamp("2026-03-04T12:00Z"),
            now=NOW,
        )

    return walk


@pytest.mark.slow
def test_limits_hold_back_the_same_symbols_in_both(days: Walk, ledger: Ledger) -> None:
    assert days(limits=Limits(stale_prices=0, silent_news=3)).differences == 0
    held = read_decisions(ledger, "tiny")["reason"] != ""
    assert 0 < held.sum() < len(held)


EVENTS = WeightRules(slots=2, gross=0.9, holding=5, short=True)
STOPS = ExitRules(stop_loss=0.01, take_profit=0.015, trailing_stop=0.012)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "exits"),
    [
        (EVENTS, STOPS),
        (EVENTS, replace(STOPS, session_close=True)),
        (EVENTS, ExitRules(session_close=True)),
        (replace(EVENTS, sizing="confidence", max_net=0.4, max_turnover=0.5), ExitRules()),
        (replace(EVENTS, sizing="inverse_volatility"), ExitRules()),
        (replace(EVENTS, sizing="target_volatility", target_volatility=0.01), STOPS),
        (replace(EVENTS, rank=1, rebalance="session"), ExitRules()),
        (replace(EVENTS, quantile=0.5, neutral=True, band=0.05, sizing="confidence"), STOPS),
    ],
    ids=[
        *("stops", "stops and session close", "session close", "confidence", "inverse volatility"),
        *("target volatility", "rank", "neutral quantile"),
    ],
)
def test_every_portfolio_and_exit_is_decided_alike(days: Walk, weights: WeightRules, exits: ExitRules) -> None:
    done = days(weights=weights, exits=exits)
    assert (done.differences, done.first) == (0, "")
    assert done.orders > 2


def test_a_pass_that_knows_too_little_is_named_with_its_cause(days: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finsignal.job.facts.reach_of", lambda run: 2)
    done = days()
    assert done.differences > 0
    assert "cause: the pass saw" in done.first
    assert "in the feature" in done.first


def test_a_pass_that_forgets_its_state_is_named_with_its_cause(days: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "read_state", lambda ledger, strategy: None)
    done = days()
    assert done.differences > 0
    assert "weight is" in done.first
    assert "so the states before them differ" in done.first


def test_a_pass_that_sees_the_future_is_found(
    tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, days: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour, cut, scored = pd.Timedelta(hours=1), replay.make_cut, replay._by_article
    early = replace(tiny_inputs, news=tiny_inputs.news.assign(time=tiny_inputs.news["time"] - hour))
    monkeypatch.setattr(replay, "make_cut", lambda run, inputs: cut(run, early))
    monkeypatch.setattr(replay, "_by_article", lambda table: scored(table.assign(time=table["time"] - hour)))
    assert days().differences > 0


@pytest.mark.slow
def test_a_ledger_that_holds_other_decisions_is_refused(days: Walk) -> None:
    assert days().orders > 5
    with pytest.raises(RefusedError, match=r"never back-dated|signal was|score was"):
        days(parameters={**SETTINGS, "buy_threshold": 0.99})


def test_a_period_without_bars_is_refused(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, ledger: Ledger
) -> None:
    with pytest.raises(ConfigError, match="no bar of the run opens"):
        run_replay(
            tiny_run,
            tiny_inputs,
            tiny_sentiment,
            ledger,
            parameters=read_parameters(tiny_run, None),
            model="words@0",
            start=NOW,
            end=NOW + pd.Timedelta(days=1),
            now=NOW,
        )


# --- what a pass reads from the lake is what a replay cuts -----------------------------------------------------------


@pytest.mark.slow
def test_passes_that_read_a_lake_decide_as_the_backtest_on_it(tiny_copy: Path, words: Model, ledger: Ledger) -> None:
    run = read_run(tiny_copy / "run.toml")
    fetch_files(open_lake(tiny_copy / "lake", create=True), run, now=NOW)
    run = replace(run, lake="lake", prices_path=(), news_path="", search={}, split=None, parameters=SETTINGS)
    inputs = read_inputs(run, now=NOW)
    done = run_replay(
        run,
        inputs,
        score_news(inputs.news, words),
        ledger,
        parameters=run.make_parameters(),
        model="words@0",
        start=inputs.bars["open_time"].iloc[0],
        end=inputs.bars["open_time"].iloc[70],
        now=NOW,
    )
    assert (done.passes, done.differences, done.first) == (70, 0, "")
    assert done.orders > 5


# --- the sample and the real sets ----------------------------------------------------------------------------------


def walk(run: RunFile, ledger: Ledger, start: str, end: str) -> replay.Replay:
    inputs = read_inputs(run, now=NOW)
    model = load_model()
    first, last = pd.Timestamp(start, tz="UTC"), pd.Timestamp(end, tz="UTC")
    near = inputs.news["time"].between(first - pd.Timedelta(days=40), last)
    inputs = replace(inputs, news=inputs.news[near].reset_index(drop=True))
    return run_replay(
        run,
        inputs,
        score_news(inputs.news, model, names=run.names),
        ledger,
        parameters=read_parameters(run, None),
        model=model.name,
        start=first,
        end=last,
        now=NOW,
    )


@pytest.mark.slow
def test_the_sample_is_decided_alike(ledger: Ledger) -> None:
    done = walk(read_run(REPO / "strategies" / "news_sentiment.toml"), ledger, "2024-06-03", "2024-07-01")
    assert (done.differences, done.first) == (0, "")
    assert done.orders > 5


@pytest.mark.slow
def test_apple_is_decided_alike(shared: Path, ledger: Ledger) -> None:
    folder = shared / "apple_hourly"
    run = read_run(
        REPO / "strategies" / "apple_hourly.toml",
        news_path=str(folder / "massive_news_basic.csv"),
        prices_path=[str(folder / "AAPL_1h_ohlcv.csv")],
    )
    done = walk(run, ledger, "2025-01-02", "2025-02-15")
    assert (done.differences, done.first) == (0, "")
    assert done.orders > 2


@pytest.mark.slow
def test_crypto_is_decided_alike(shared: Path, ledger: Ledger) -> None:
    folder = shared / "crypto_hourly"
    files = [f"{name}USDT={folder / f'{name}USDT_60_full.csv'}" for name in ("BTC", "ETH")]
    run = read_run(
        REPO / "strategies" / "crypto_hourly.toml",
        news_path=str(folder / "cryptonews.csv"),
        prices_path=files,
    )
    done = walk(run, ledger, "2022-03-01", "2022-03-09")
    assert (done.differences, done.first) == (0, "")
    assert done.orders > 2
