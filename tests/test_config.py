"""A run file is understood whole or refused with the key named; nothing in it is guessed or passed over."""

import json
import math
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY_RUN

from finsignal.config import RunFile, load_strategy, read_run, to_dataclass
from finsignal.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(old: str, new: str) -> str:
    assert TINY_RUN.count(old) == 1, old
    return TINY_RUN.replace(old, new)


def test_every_value_arrives_in_its_type(tmp_path: Path) -> None:
    run = read_run(write(tmp_path, TINY_RUN))
    assert run.symbols == ("AAA", "BBB")
    assert run.cash == 100_000.0
    assert isinstance(run.cash, float)
    assert run.search == {"buy_threshold": (0.99, 0.2), "sell_threshold": (0.2,)}
    assert run.parameters == {"min_texts": 1.0}
    assert run.names == {"AAA": ("Alder",), "BBB": ("Birch",)}
    assert (run.features.half_life, run.features.max_age, run.features.min_relevance) == (3.0, 4, 0.5)
    assert (run.weights.slots, run.weights.holding, run.weights.short) == (2, 5, False)
    assert (run.costs.fee, run.costs.delisted_after, run.costs.funding_rate) == (0.001, 50, 0.0)
    assert (run.prices.stamp, run.news.precision, run.sentiment) == ("open", "second", None)
    assert run.decision_latency == pd.Timedelta(minutes=1)
    assert len(run.make_bars()) == 120


def test_a_date_of_toml_is_a_date(tmp_path: Path) -> None:
    run = read_run(write(tmp_path, changed('start = "2026-03-02"', "start = 2026-03-02")))
    assert run.start == "2026-03-02"
    run = read_run(write(tmp_path, changed('end = "2026-03-07"', "end = 2026-03-07T00:00:00Z")))
    assert len(run.make_bars()) == 120


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cash = 100_000", "cahs = 100_000", r"unknown key 'cahs'\. Did you mean 'cash'\?"),
        ("half_life = 3", "half_live = 3", r"features: unknown key 'half_live'\. Did you mean 'half_life'\?"),
        ("[split]", "[splits]", r"unknown key 'splits'\. Did you mean 'split'\?"),
        ("fee = 0.001", "", "costs: no key 'fee', which has no default"),
        ("cash = 100_000", "", "no key 'cash', which has no default"),
        ("cash = 100_000", 'cash = "much"', "cash: expected float, got 'much'"),
        ("cash = 100_000", "cash = true", "cash: expected float, got True"),
        ("cash = 100_000", "cash = 0", r"cash is 0\.0; expected more than 0"),
        ("cash = 100_000", "cash = inf", "cash: expected a finite number, got inf"),
        ("min_texts = 1", "min_texts = nan", r"parameters\.min_texts: expected a finite number"),
        ("slots = 2", "slots = 2.5", r"weights: slots: expected int, got 2\.5"),
        ("slots = 2", "slots = 0", r"expected slots \(1 or more\), got 0"),
        ("simulated = true", "simulated = 1", "simulated: expected bool, got 1"),
        ('symbols = ["AAA", "BBB"]', 'symbols = "AAA"', "symbols: expected a list, got 'AAA'"),
        ('symbols = ["AAA", "BBB"]', 'symbols = ["AAA", "AAA"]', "symbols must name each symbol once"),
        ('symbols = ["AAA", "BBB"]', "symbols = []", "symbols must name each symbol once"),
        ('AAA = ["Alder"]', 'AAB = ["Alder"]', r"\[names\] has 'AAB', which symbols does not\. Did you mean 'AAA'\?"),
        ("[costs]", "[orders.lots]\nAAB = 1.0\n[costs]", r"\[orders.lots\] has 'AAB', .* Did you mean 'AAA'\?"),
        ("[costs]", "[costs.borrow_by_symbol]\nAAB = 0.1\n[costs]", r"\[costs.borrow_by_symbol\] has 'AAB', which"),
        ('[split]\nvalidation_until = "2026-03-04T00:00Z"', "", r"\[search\] chooses on validation, so a \[split\]"),
        ('bar = "1h"', 'bar = "7min"', "divide a day"),
        ('bar = "1h"', 'bar = "1 hour"', "not a length of time"),
        ('latency = "1min"\nsymbols', 'latency = "-1min"\nsymbols', "not a length of time of 0 or more"),
        ('latency = "1min"\nsymbols', 'latency = "soon"\nsymbols', "'soon' is not a length of time"),
        ('name = "tiny"', 'name = "tiny"\npath = "x"', "unknown key 'path'"),
        ('stamp = "open"', 'stamp = "opne"', r"stamp 'opne' is not one of .* Did you mean 'open'\?"),
        ('name = "tiny"', 'name = "tiny"\nsentiment = 3', "sentiment: expected a table"),
        ('name = "tiny"', "name = ", "is not TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, changed(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        read_run(path).decision_latency  # noqa: B018  latency is read when asked for
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: no such run file"):
        read_run(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"bytes\.toml: cannot be read as text"):
        read_run(tmp_path / "bytes.toml")
    with pytest.raises(ConfigError, match="cannot be read as text"):
        read_run(tmp_path)


def test_the_command_line_replaces_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, TINY_RUN)
    run = read_run(path, news_path="other.csv", prices_path=None)
    assert run.news_path == "other.csv"
    assert run.prices_path == ("prices.csv",)


@pytest.mark.parametrize(("bar", "minutes"), [("1d", 5), ("1h", 1)])
def test_latency_has_a_default_by_bar_and_may_be_zero_only_if_stated(tmp_path: Path, bar: str, minutes: int) -> None:
    text = changed('latency = "1min"\nsymbols', "symbols").replace('bar = "1h"', f'bar = "{bar}"')
    assert read_run(write(tmp_path, text)).decision_latency == pd.Timedelta(minutes=minutes)
    zero = read_run(write(tmp_path, text.replace("symbols =", 'latency = "0min"\nsymbols =')))
    assert zero.decision_latency == pd.Timedelta(0)


def test_the_settings_written_are_plain_and_read_back_to_the_same_run(tmp_path: Path) -> None:
    run = read_run(write(tmp_path, TINY_RUN))
    settings = json.loads(json.dumps(run.to_settings(), allow_nan=False))
    again = to_dataclass(RunFile, {**settings, "path": run.path}, where="settings.json")
    assert again.to_settings() == settings
    assert again.decision_latency == run.decision_latency
    assert settings["path"] == "run.toml"  # names no folder of this machine


# --- the strategy's file ---------------------------------------------------------------------------------------------


def with_strategy(folder: Path, code: str) -> RunFile:
    (folder / "own.py").write_text(code, encoding="utf-8")
    run = read_run(write(folder, TINY_RUN))
    text = TINY_RUN.replace(f"'{run.strategy}'", "'own.py'")
    return read_run(write(folder, text))


GOOD = "def strategy(features, *, buy_threshold, sell_threshold=0.2, min_texts=1):\n    return features\n"


def test_a_strategy_stands_beside_its_run_file_and_leaves_no_bytecode(tmp_path: Path) -> None:
    run = with_strategy(tmp_path, GOOD)
    assert run.load_strategy()(3, buy_threshold=0.1) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.py", "run.toml"]
    assert not any(name.startswith("finsignal_strategy") for name in sys.modules)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            GOOD.replace("buy_threshold", "buy_treshold"),
            r"no parameter 'buy_threshold'\. Did you mean 'buy_treshold'\?",
        ),
        (GOOD.replace("sell_threshold=0.2", "sell_threshold=0.2, span"), r"the strategy needs 'span'"),
        (GOOD.replace("strategy(", "stratgy("), "expected a function named 'strategy'"),
        ("strategy = 3\n", "expected a function named 'strategy'"),
        ("def strategy(:\n", r"own\.py: does not import"),
        (
            "import no_such_package\n",
            r"own\.py: does not import: ModuleNotFoundError No module named 'no_such_package'",
        ),
        ("ratio = 1 / 0\n", r"own\.py: does not import: ZeroDivisionError"),
        ("strategy = undefined\n", r"own\.py: does not import"),
    ],
)
def test_a_strategy_that_does_not_fit_is_refused_before_anything_runs(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_strategy(tmp_path, code).load_strategy()


def test_a_missing_strategy_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.py: no such strategy file"):
        load_strategy(tmp_path / "none.py")


def test_a_baseline_gets_no_parameters_so_it_may_need_none(tmp_path: Path) -> None:
    run = with_strategy(tmp_path, GOOD)
    text = run.path.read_text(encoding="utf-8").replace(f"baseline = '{run.baseline}'", "baseline = 'own.py'")
    with pytest.raises(ConfigError, match="baseline: the strategy needs 'buy_threshold'"):
        read_run(write(tmp_path, text)).load_baseline()
    assert math.isclose(run.make_parameters()["value"].iloc[0], 1.0)
    assert read_run(write(tmp_path, text.replace("baseline = 'own.py'", ""))).load_baseline() is None


def test_secrets_in_addresses_do_not_reach_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    text = TINY_RUN + '\n[fetch.feeds.wire]\nurl = "https://me:hunter2@host.test/rss?token=abc1"\n'
    path.write_text(text + '\n[job]\nledger = "postgresql://me:hunter3@host.test/db"\n', encoding="utf-8")
    run = read_run(path)
    assert run.fetch.feeds["wire"].url.startswith("https://me:hunter2@")
    shown = json.dumps(run.to_settings())
    assert "host.test" in shown
    assert not any(secret in shown for secret in ("hunter2", "hunter3", "abc1"))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ('market_news = "evry"', "Did you mean 'every'"),
        ('lake = "lake"', "lake and files"),
        ("[fetch]\nprices = 'yahooo'", "Did you mean 'yahoo'"),
        ("[fetch]\nprices = 'yahoo'\nfunding = true", "come from bybit"),
        ("[fetch]\nback = 'long'", "is not a length of time"),
        ("[fetch.feeds.wire]\nurl = 'rss'", "needs a url of http or https"),
        ("[fetch.feeds.'a:b']\nurl = 'https://host.test'", "without a colon"),
        ("[limits]\nstale_prices = -1", "expected 0 or more"),
    ],
)
def test_what_a_job_cannot_mean_is_refused(tmp_path: Path, section: str, message: str) -> None:
    path = tmp_path / "run.toml"
    head, body = ("", section) if section.startswith("[") else (section, "")
    path.write_text(f"{head}\n{TINY_RUN}\n{body}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_run(path)
