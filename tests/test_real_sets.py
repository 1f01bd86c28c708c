"""The real sets, from their own layouts to a run folder, by the command line; and StockNet's prices and tweets."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finsignal.cli import main
from finsignal.clock import make_bars
from finsignal.config import RunFile, read_run
from finsignal.errors import LookaheadError
from finsignal.signals import make_flat_state
from finsignal.sources.files import read_prices
from finsignal.study import Inputs, read_inputs
from finsignal.study.accounts import run_account
from finsignal.study.deciding import decide_run
from finsignal.study.inputs import check_seen
from finsignal.tables import SENTIMENT

STRATEGIES = Path(__file__).resolve().parents[1] / "strategies"
NOW = pd.Timestamp("2026-01-01T00:00Z").as_unit("us")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def check_folder(summary: dict) -> None:
    folder = Path(summary["folder"])
    assert (folder / "report.html").stat().st_size > 1_000_000
    assert json.loads((folder / "settings.json").read_text())["costs"]["fee"] > 0
    trades = pd.read_parquet(folder / "trade_news.parquet")
    assert len(trades)
    assert (trades["title"] != "").all()
    assert (trades["published"] <= trades["known"]).all()
    assert (trades["known"] <= trades["decided"]).all()
    assert (trades["decided"] < trades["filled"]).all()


@pytest.mark.slow
def test_apple(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared / "apple_hourly"
    news = folder / "massive_news_basic.csv"
    prices = folder / "AAPL_1h_ohlcv.csv"
    summary = run(
        capsys,
        *("backtest", str(STRATEGIES / "apple_hourly.toml"), "--news", str(news), "--prices", str(prices)),
        *("--out", str(tmp_path / "run")),
    )
    assert summary["notes"] == []
    assert summary["texts"]["read"] == 8701
    assert summary["texts"]["dropped"]["no text"] == 102
    # Yahoo leaves out the 12:30 bar of four half days; the file's last bar was unfinished, and the run goes on after it
    assert summary["prices"]["used"] == 3298
    names = [row["name"] for row in summary["comparison"]]
    assert names[0].startswith("model finsignal")
    assert names[1:4] == ["without the relevance filter", "price features alone", "buy and hold"]
    check_folder(summary)


@pytest.mark.slow
def test_crypto_says_first_that_the_model_may_have_seen_the_period(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared / "crypto_hourly"
    summary = run(
        capsys,
        *("backtest", str(STRATEGIES / "crypto_hourly.toml"), "--news", str(folder / "cryptonews.csv")),
        *("--prices", f"BTCUSDT={folder / 'BTCUSDT_60_full.csv'}"),
        *("--prices", f"ETHUSDT={folder / 'ETHUSDT_60_full.csv'}", "--out", str(tmp_path / "run")),
    )
    assert summary["notes"][0].startswith("Seen data: the run begins 2021-10-12")
    assert any("ASSUMED funding rate" in said for said in summary["assumptions"])
    assert summary["texts"]["dropped"]["symbol not mapped"] == 3833
    assert {silence["symbol"] for silence in summary["texts"]["silences"]} == {"BTCUSDT", "ETHUSDT"}
    check_folder(summary)


@pytest.mark.slow
def test_own_scores_stand_beside_the_model_on_the_same_bars(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The crypto file carries another tool's labels: as a label column they replace the model in the run."""
    folder = shared / "crypto_hourly"
    rows = pd.read_csv(folder / "cryptonews.csv", sep=";", dtype="str")
    rows["label"] = rows["sentiment"].str.extract(r"'class': '(\w+)'", expand=False)
    scores = tmp_path / "textblob.csv"
    rows.drop_duplicates(["date", "title", "text", "subject"]).to_csv(scores, index=False)
    keys = {"by": "text", "time": "date", "time_format": "%d-%m-%Y %H:%M", "tz": "UTC", "text": "text"}
    keys |= {"title": "title", "label": "label"}
    summary = run(
        capsys,
        *("backtest", str(STRATEGIES / "crypto_hourly.toml"), "--news", str(folder / "cryptonews.csv")),
        *("--prices", f"BTCUSDT={folder / 'BTCUSDT_60_full.csv'}"),
        *("--prices", f"ETHUSDT={folder / 'ETHUSDT_60_full.csv'}", "--out", str(tmp_path / "run")),
        *("--sentiment", str(scores), *(part for k, v in keys.items() for part in ("--map", f"{k}={v}"))),
    )
    names = [row["name"] for row in summary["comparison"]]
    assert names[0] == "scores of textblob.csv"
    assert names[1].startswith("model finsignal")
    assert names[-3:-1] == ["price features alone", "buy and hold"]
    assert names[-1].startswith("random entries")
    curves = pd.read_parquet(tmp_path / "run" / "equity.parquet")
    assert len(curves) == summary["period"]["bars"]


# --- StockNet ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slice_run(shared: Path) -> RunFile:
    """Six months of four shares, of which one begins in the middle."""
    return read_run(
        STRATEGIES / "stocknet_daily.toml",
        symbols=["AAPL", "BABA", "FB", "T"],
        names={"AAPL": ["Apple"], "BABA": ["Alibaba"], "FB": ["Facebook"]},
        start="2014-07-01",
        end="2015-01-01",
        search={},
        parameters={"min_texts": 2, "buy_threshold": 0.1},
        news_path=str(shared / "stocknet" / "tweets.parquet"),
        prices_path=[str(shared / "stocknet" / "yahoo_daily.parquet")],
    )


@pytest.fixture(scope="module")
def slice_inputs(slice_run: RunFile) -> Inputs:
    return read_inputs(slice_run, now=NOW)


def score_by_words(news: pd.DataFrame) -> pd.DataFrame:
    """A sentiment table without a model: a few words say up, a few say down, and most tweets say nothing."""
    up = news["text"].str.contains(r"\b(?:up|beat|beats|buy|bullish|high|long)\b").to_numpy()
    down = news["text"].str.contains(r"\b(?:down|miss|sell|bearish|low|short)\b").to_numpy()
    positive = np.select([up & ~down, down & ~up], [0.9, 0.05], 0.15)
    negative = np.select([up & ~down, down & ~up], [0.05, 0.9], 0.15)
    table = news[["article_id", "time", "symbol"]].assign(p_negative=negative, p_positive=positive, model="words@0")
    return SENTIMENT.to_table(table.assign(p_neutral=1 - positive - negative))


def test_stocknet_dividends_are_those_that_the_companies_paid(slice_inputs: Inputs) -> None:
    """Apple paid 0.47 after its split of 2014, AT&T 0.46 a quarter; Facebook and Alibaba paid nothing."""
    actions = slice_inputs.actions
    paid = [(row.symbol, f"{row.time:%Y-%m-%d}", round(row.value, 3)) for row in actions.itertuples()]
    assert paid == [
        ("AAPL", "2014-08-07", 0.47),
        ("AAPL", "2014-11-06", 0.47),
        ("T", "2014-07-08", 0.46),
        ("T", "2014-10-08", 0.46),
    ]


def test_stocknet_closes_and_dividends_return_what_the_adjusted_closes_do(shared: Path) -> None:
    path = shared / "stocknet" / "yahoo_daily.parquet"
    layout = read_run(STRATEGIES / "stocknet_daily.toml").prices
    assert layout is not None
    bars = make_bars("XNYS", "1d", start="2012-09-01", end="2017-10-01", latency=pd.Timedelta(minutes=5))
    prices, counts = read_prices(path, layout, bars=bars, now=NOW)
    assert counts.dropped == {"price missing or not a number": 3}
    assert counts.notes == ("dividends found in the steps of 'Adj Close': 1,306.",)
    before = prices.groupby("symbol")["close"].shift(1)
    grown = (prices["close"] / (before - prices["dividend"])).groupby(prices["symbol"]).prod()
    raw = pd.read_parquet(path).dropna().sort_values(["symbol", "Date"]).groupby("symbol")["Adj Close"]
    np.testing.assert_allclose(grown, raw.last() / raw.first(), rtol=2e-6)
    assert prices["symbol"].nunique() == 88


def test_a_slice_of_stocknet_trades_prices_as_given_and_receives_its_dividends(
    slice_run: RunFile, slice_inputs: Inputs
) -> None:
    assert slice_inputs.news_counts.dropped["filed under other symbols"] > 50_000
    assert slice_inputs.price_counts.dropped["of a symbol that is not in the run"] > 100_000
    decided = decide_run(
        slice_run,
        slice_inputs,
        score_by_words(slice_inputs.news),
        make_flat_state(slice_run.symbols),
        strategy=slice_run.load_strategy(),
        parameters=slice_run.make_parameters(),
    )
    result = run_account(slice_run, slice_inputs, decided.weights)
    orders = result.orders
    assert set(orders["symbol"]) == {"AAPL", "BABA", "FB", "T"}
    listed = slice_inputs.prices.loc[slice_inputs.prices["symbol"] == "BABA", "open_time"].min()
    assert listed == pd.Timestamp("2014-09-19T13:30Z")
    assert (orders.loc[orders["symbol"] == "BABA", "open_time"] >= listed).all()
    opens = slice_inputs.prices.set_index(["symbol", "open_time"])["open"]
    paid = [opens[row.symbol, row.open_time] for row in orders.itertuples()]
    np.testing.assert_allclose(orders["price"], paid, rtol=0.0005001)  # the slippage: never at an adjusted price

    held = orders.assign(signed=np.where(orders["side"] == "buy", 1, -1) * orders["quantity"])
    received = 0.0
    for action in slice_inputs.actions.itertuples():  # who held before the open of the ex-date
        before = (held["symbol"] == action.symbol) & (held["open_time"] < action.time)
        received += held.loc[before, "signed"].sum() * action.value
    assert received > 10
    assert result.flows["dividends"].sum() == pytest.approx(received)


def test_stocknet_lies_before_the_end_of_the_models_training_data_and_says_so(
    slice_run: RunFile, new_model: Callable
) -> None:
    model = new_model(trained_until="2023-01-01")
    assert check_seen(slice_run, model)[0].startswith("Seen data: the run begins 2014-07-01")
    with pytest.raises(LookaheadError, match="set allow_seen = true"):
        check_seen(replace(slice_run, allow_seen=False), model)


def test_tokenised_tweets_name_a_company_by_its_cashtag(slice_inputs: Inputs) -> None:
    news = slice_inputs.news
    assert (news.loc[news["symbol"] == "T", "relevance"] == 1).all()  # T has no names here, so nothing is judged
    apple = news[news["symbol"] == "AAPL"]
    assert apple.loc[apple["text"].str.contains(r"\$ aapl(?![\w.-])"), "relevance"].eq(1).all()
    assert apple.loc[~apple["text"].str.contains(r"\$ ?aapl\b|\bapple\b|\(aapl\)"), "relevance"].eq(0).all()
    assert 0.99 < apple["relevance"].mean() < 1


@pytest.mark.slow
def test_stocknet(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared / "stocknet"
    summary = run(
        capsys,
        *("backtest", str(STRATEGIES / "stocknet_daily.toml"), "--news", str(folder / "tweets.parquet")),
        *("--prices", str(folder / "yahoo_daily.parquet"), "--out", str(tmp_path / "run")),
    )
    assert summary["notes"][0].startswith("Seen data: the run begins 2014-01-02, before the model's training data ends")
    assert summary["texts"]["read"] == 106_338
    assert summary["texts"]["dropped"]["repeated row"] == 598
    assert summary["prices"]["dropped"]["of a symbol that is not in the run"] == 297
    assert "dividends found in the steps of 'Adj Close': 521." in summary["prices"]["notes"]
    assert len(summary["period"]["symbols"]) == 87
    windows = summary["period"]["split"]["windows"]
    assert [window["test"][0][:10] for window in windows] == [
        *("2014-10-01", "2015-01-02", "2015-04-01", "2015-07-01", "2015-10-01"),
    ]
    check_folder(summary)
