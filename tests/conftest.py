"""Fixtures that more than one test module uses."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from postgres import Postgres, find_programs, serve_postgres

from finsignal import cli
from finsignal.cli import shared as cli_shared
from finsignal.config import RunFile, read_run
from finsignal.sentiment import score
from finsignal.sentiment.score import Model, score_news
from finsignal.study import Inputs, Study, read_inputs, run_study

REPO = Path(__file__).resolve().parents[1]

# The same examples on every machine and day, and no failure because a machine was busy.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository; tests that need it skip where it is absent."""
    folder = REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data sets in ../shared/data, which are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """PostgreSQL: the one of FINSIGNAL_TEST_POSTGRES, or a private one; skips where there is neither."""
    pytest.importorskip("psycopg", reason="needs psycopg, of the extra finsignal[postgres]")
    if given_url := os.environ.get("FINSIGNAL_TEST_POSTGRES"):
        outside = Postgres(given_url)
        yield outside
        outside.drop_database()
        return
    programs = find_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL (initdb, pg_ctl), or the URL of a server in FINSIGNAL_TEST_POSTGRES")
    with serve_postgres(programs) as running:
        yield running


# --- a tiny market: two symbols that trade day and night for five days, and a text every hour or two --------

NOW = pd.Timestamp("2026-06-01", tz="UTC").as_unit("us")

TINY_RUN = f"""
name = "tiny"
simulated = true
strategy = '{REPO / "strategies" / "news_sentiment.py"}'
baseline = '{REPO / "strategies" / "price_features.py"}'
market = "24x7"
bar = "1h"
latency = "1min"
symbols = ["AAA", "BBB"]
start = "2026-03-02"
end = "2026-03-07"
random_entries = 4
cash = 100_000
prices_path = ["prices.csv"]
news_path = "news.csv"

[prices]
time = "time"
stamp = "open"
symbol = "symbol"

[news]
time = "published"
title = "title"
text = "text"
symbol = "symbol"
source = "source"
url = "url"
latency = "1min"

[names]
AAA = ["Alder"]
BBB = ["Birch"]

[features]
half_life = 3
max_age = 4
min_relevance = 0.5

[parameters]
min_texts = 1

[search]
buy_threshold = [0.99, 0.2]
sell_threshold = [0.2]

[split]
validation_until = "2026-03-04T00:00Z"

[weights]
slots = 2
gross = 0.98
holding = 5

[costs]
fee = 0.001
slippage = 0.001
delisting_return = -0.3
delisted_after = 50
"""

WORDS = {"soars": (0.02, 0.08, 0.90), "slumps": (0.90, 0.08, 0.02), "meets": (0.05, 0.90, 0.05)}


class WordModel(Model):
    """A model without a graph: each text has the probabilities of the first of WORDS in it, else it is neutral."""

    def _run(self, cleaned: list[str], *, progress: bool) -> np.ndarray:
        found = [next((p for word, p in WORDS.items() if word in text), (0.1, 0.8, 0.1)) for text in cleaned]
        return np.log(np.array(found, dtype=float)) * self.temperature


def make_model(*, trained_until: str = "2020-01-01", base_cutoff: str = "2019-01-01") -> WordModel:
    return WordModel(
        name="words@0",
        temperature=1.0,
        card={
            "data": [{"name": "a list of words"}],
            "trained_until": f"{trained_until}T00:00Z",
            "base": {"known_until": f"{base_cutoff}T00:00Z"},
        },
        order=(0, 1, 2),
        session=None,
        tokenizer=None,
    )


def make_tiny_prices() -> pd.DataFrame:
    """120 hourly rows of each symbol; opens differ from the closes before them."""
    rng = np.random.default_rng(7)
    times = pd.date_range("2026-03-02", periods=120, freq="h", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = []
    for symbol in ("AAA", "BBB"):
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, 120)))
        open_ = np.concatenate([[50.0], close[:-1]]) * np.exp(rng.normal(0, 0.002, 120))
        part = pd.DataFrame({"time": times, "symbol": symbol, "open": open_.round(4), "close": close.round(4)})
        part["high"] = part[["open", "close"]].max(axis=1) + 0.1
        part["low"] = part[["open", "close"]].min(axis=1) - 0.1
        parts.append(part.assign(volume=rng.integers(100, 1000, 120)))
    return pd.concat(parts, ignore_index=True)


def make_tiny_news() -> pd.DataFrame:
    """95 texts; every stamp has seconds, none is a midnight, and one in eight is about nobody."""
    rng = np.random.default_rng(8)
    at = pd.Timestamp("2026-03-02T00:10:05", tz="UTC")
    rows = []
    while at < pd.Timestamp("2026-03-06T23:00", tz="UTC"):
        number = len(rows)
        symbol = ("AAA", "BBB")[rng.integers(2)]
        name = {"AAA": "Alder", "BBB": "Birch"}[symbol] if number % 8 else "Somebody"
        word = list(WORDS)[rng.integers(3)]
        rows.append(
            {
                "published": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "symbol": symbol,
                "title": f"{name} {word} in report {number}",
                "text": f"Item {number}.",
                "source": ("wire", "desk")[number % 2],
                "url": f"https://news.invalid/{number}",
            }
        )
        at += pd.Timedelta(seconds=int(rng.integers(600, 8500)))
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with run.toml, prices.csv and news.csv. Read only: tests that change files use `tiny_copy`."""
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny_copy(tmp_path: Path) -> Path:
    """A folder of one's own with the three files of `tiny`."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    return write_tiny(folder)


def write_tiny(folder: Path) -> Path:
    (folder / "run.toml").write_text(TINY_RUN, encoding="utf-8")
    make_tiny_prices().to_csv(folder / "prices.csv", index=False)
    make_tiny_news().to_csv(folder / "news.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny: Path) -> RunFile:
    return read_run(tiny / "run.toml")


@pytest.fixture(scope="session")
def tiny_inputs(tiny_run: RunFile) -> Inputs:
    return read_inputs(tiny_run, now=NOW)


@pytest.fixture(scope="session")
def words() -> WordModel:
    return make_model()


@pytest.fixture(scope="session")
def tiny_sentiment(tiny_inputs: Inputs, words: WordModel) -> pd.DataFrame:
    return score_news(tiny_inputs.news, words)


@pytest.fixture(scope="session")
def tiny_study(tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, words: WordModel) -> Study:
    """The tiny run carried out once, beside a second set of scores that says the opposite."""
    swapped = {"p_negative": "p_positive", "p_positive": "p_negative"}
    opposite = tiny_sentiment.rename(columns=swapped)[list(tiny_sentiment.columns)]
    return run_study(tiny_run, tiny_inputs, {"words": tiny_sentiment, "opposite": opposite}, models={"words": words})


@pytest.fixture(scope="session")
def new_model() -> Callable[..., WordModel]:
    """make_model, for tests of models with other cut-offs."""
    return make_model


Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: WordModel) -> Cli:
    """finsignal in this process at a fixed instant, with a model of three words: (exit code, stdout, stderr)."""
    real = score.load_model
    monkeypatch.setattr(cli_shared, "read_clock", lambda: NOW)
    monkeypatch.setattr(score, "load_model", lambda folder=None: words if folder is None else real(folder))

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
