"""Both real sets, from their own layouts to a run folder, by the command line."""

import json
from pathlib import Path

import pandas as pd
import pytest

from finsignal.cli import main

STRATEGIES = Path(__file__).resolve().parents[1] / "strategies"

pytestmark = pytest.mark.slow


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
    assert names[1:] == ["without the relevance filter", "price features alone", "buy and hold"]
    check_folder(summary)


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
    assert names[-2:] == ["price features alone", "buy and hold"]
    curves = pd.read_parquet(tmp_path / "run" / "equity.parquet")
    assert len(curves) == summary["period"]["bars"]
