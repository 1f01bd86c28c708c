"""Every strategy file keeps one contract, and every run file is understood and fits its strategy."""

import inspect
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPO

from finsignal.config import RunFile, load_strategy, read_run
from finsignal.sentiment.score import load_model
from finsignal.signals import Strategy, make_features
from finsignal.splits import make_splits
from finsignal.study import read_inputs
from finsignal.study.inputs import check_seen
from finsignal.tables import SENTIMENT, SIGNALS_ALLOWED

FOLDER = REPO / "strategies"
CODE = sorted(FOLDER.glob("*.py"))
RUNS = sorted(FOLDER.glob("*.toml"))


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    """Features of four months of the sample, its texts scored at random: what a strategy gets to see."""
    run = read_run(FOLDER / "news_sentiment.toml", end="2024-05-01")
    inputs = read_inputs(run, now=pd.Timestamp("2026-01-01", tz="UTC").as_unit("us"))
    rows = inputs.news[["article_id", "time", "symbol"]].copy()
    rows[["p_negative", "p_neutral", "p_positive"]] = np.random.default_rng(5).dirichlet([0.4, 0.4, 0.4], len(rows))
    sentiment = SENTIMENT.to_table(rows.assign(model=pd.Series(["random"] * len(rows), dtype="str")))
    return make_features(inputs.news, inputs.prices, sentiment, inputs.bars, run.symbols, rules=run.features)


@pytest.fixture(params=CODE, ids=[path.name for path in CODE])
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return load_strategy(request.param)


def same(left: pd.DataFrame, right: pd.DataFrame) -> bool:
    return left.reset_index(drop=True).equals(right.reset_index(drop=True))


def test_there_are_strategies_and_run_files_to_check() -> None:
    assert len(CODE) >= 2
    assert len(RUNS) >= 3


def test_it_answers_every_row_in_order(strategy: Strategy, features: pd.DataFrame) -> None:
    answer = strategy(features.copy())
    assert {"score", "confidence", "signal"} <= set(answer.columns)
    assert answer.index.equals(features.index)
    assert set(answer["signal"]) <= set(SIGNALS_ALLOWED)
    score, confidence = answer["score"].dropna(), answer["confidence"].dropna()
    assert score.between(-1, 1).all()
    assert confidence.between(0, 1).all()


def test_it_takes_features_and_keywords_that_have_defaults(strategy: Strategy) -> None:
    first, *rest = inspect.signature(strategy).parameters.values()
    assert (first.name, first.kind) == ("features", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for parameter in rest:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name
        assert isinstance(parameter.default, int | float), parameter.name
    assert strategy.__doc__


def test_it_leaves_its_input_alone(strategy: Strategy, features: pd.DataFrame) -> None:
    mine = features.copy()
    strategy(mine)
    assert mine.equals(features)


def test_it_says_buy_sell_and_hold_on_the_sample(strategy: Strategy, features: pd.DataFrame) -> None:
    counts = strategy(features.copy())["signal"].value_counts()
    assert set(counts.index) == set(SIGNALS_ALLOWED)
    assert counts.min() >= 10


def test_later_rows_change_no_answer(strategy: Strategy, features: pd.DataFrame) -> None:
    assert differing_past(strategy, features) == 0


def test_another_symbol_changes_no_answer(strategy: Strategy, features: pd.DataFrame) -> None:
    whole = strategy(features.copy())
    for symbol in features["symbol"].unique():
        ours = (features["symbol"] == symbol).to_numpy()
        assert same(strategy(features[ours].reset_index(drop=True)), whole[ours])


def test_nothing_known_is_hold(strategy: Strategy, features: pd.DataFrame) -> None:
    unknown = features.iloc[:3].copy()
    names = [name for name in unknown.columns if name not in ("open_time", "time", "symbol")]
    unknown[names] = np.nan
    unknown["sent_count"] = 0.0
    answer = strategy(unknown)
    assert answer["signal"].tolist() == ["HOLD"] * 3
    assert answer["score"].isna().all()


def differing_past(strategy: Strategy, features: pd.DataFrame) -> int:
    """Answers up to an instant that differ when the rows after it are cut off, over several instants."""
    whole, count = strategy(features.copy()), 0
    times = np.sort(features["time"].unique())
    for number in (0, 1, 25, len(times) // 3, len(times) // 2, len(times) - 2):
        past = (features["time"] <= times[number]).to_numpy()
        answer = strategy(features[past].reset_index(drop=True))
        before = whole[past].reset_index(drop=True)
        equal = (answer == before) | (answer.isna() & before.isna())
        count += int((~equal).any(axis=1).sum())
    return count


@pytest.mark.parametrize(
    "cheat",
    [
        lambda f: f["ret_1"].rank(pct=True),  # of the whole sample
        lambda f: f.groupby("symbol")["ret_1"].shift(-1),
        lambda f: (f["sent_score"] - f["sent_score"].mean()) / 2,
    ],
)
def test_the_check_of_later_rows_can_fail(cheat, features: pd.DataFrame) -> None:
    def strategy(features: pd.DataFrame) -> pd.DataFrame:
        score = cheat(features)
        return pd.DataFrame({"score": score, "confidence": score.abs(), "signal": "HOLD"})

    assert differing_past(strategy, features) > 0


def test_no_new_buy_while_the_market_is_wild(features: pd.DataFrame) -> None:
    strategy = load_strategy(FOLDER / "news_sentiment.py")
    calm, wild = strategy(features), strategy(features, max_volatility=features["vol_20"].median())
    blocked = (calm["signal"] == "BUY") & (features["vol_20"] > features["vol_20"].median())
    assert blocked.any()
    assert (wild.loc[blocked, "signal"] == "HOLD").all()
    assert same(wild[~blocked], calm[~blocked])  # SELL and a volatility not known yet are not blocked


def test_too_few_texts_are_hold(features: pd.DataFrame) -> None:
    strategy = load_strategy(FOLDER / "news_sentiment.py")
    picky = strategy(features, min_texts=3)
    few = features["sent_count"] < 3
    assert (picky.loc[few, "signal"] == "HOLD").all()
    assert picky.loc[few, "score"].isna().all()


# --- run files -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=RUNS, ids=[path.name for path in RUNS])
def run(request: pytest.FixtureRequest) -> RunFile:
    return read_run(request.param)


def test_a_run_file_is_read_and_its_strategies_take_its_parameters(run: RunFile, features: pd.DataFrame) -> None:
    strategy = run.load_strategy()
    for values in itertools.product(*run.search.values()):
        answer = strategy(features.copy(), **run.parameters, **dict(zip(run.search, values, strict=True)))
        assert len(answer) == len(features)
    baseline = run.load_baseline()
    assert baseline is not None
    assert set(run.names) == set(run.symbols)


def test_a_run_file_that_searches_leaves_bars_on_both_sides_of_its_split(run: RunFile) -> None:
    assert (run.split is None) is (not run.search)
    if run.split is None:
        return
    bars = run.make_bars()
    for split in make_splits(run.split, bars, holding=run.weights.holding, max_age=run.features.max_age):
        assert len(split.train(bars)) + len(split.validation(bars)) > 100
        assert len(split.test(bars)) > 20


def test_a_run_file_says_whether_the_model_that_ships_has_seen_its_period(run: RunFile) -> None:
    seen = bool(check_seen(run, load_model()))  # raises where it has and the file does not allow it
    assert run.allow_seen is seen


def test_a_run_file_is_found_by_its_name(run: RunFile) -> None:
    assert run.path == FOLDER / f"{run.name}.toml"
    assert Path(run.strategy).parent == Path(".")  # beside its run file
