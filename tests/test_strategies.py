"""Every strategy file keeps one contract, and every run file is understood and fits its strategy."""

import ast
import inspect
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPO

from finsignal.config import RunFile, load_strategy, read_run
from finsignal.errors import ConfigError, TableError
from finsignal.sentiment.score import load_model
from finsignal.signals import (
    Strategy,
    make_features,
    make_signals,
    to_funding_thresholds,
    to_signal,
    to_volatility_threshold,
)
from finsignal.splits import make_splits
from finsignal.study import read_inputs
from finsignal.study.inputs import check_seen
from finsignal.tables import INSTANT, PARAMETERS, SENTIMENT, SIGNALS, SIGNALS_ALLOWED

FOLDER = REPO / "strategies"
CODE = sorted(FOLDER.glob("*.py"))
RUNS = sorted(FOLDER.glob("*.toml"))
ACROSS = ("cross_sectional",)  # may compare the symbols of one decision; no strategy may look across time
KEYS = ("open_time", "time", "symbol")


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


def load(name: str) -> Strategy:
    return load_strategy(FOLDER / f"{name}.py")


def same(left: pd.DataFrame, right: pd.DataFrame) -> bool:
    return left.reset_index(drop=True).equals(right.reset_index(drop=True))


def test_there_are_strategies_and_run_files_to_check() -> None:
    assert len(CODE) >= 6
    assert len(RUNS) >= 10
    assert {path.stem for path in CODE} - {read_run(path).strategy.removesuffix(".py") for path in RUNS} == {
        "price_features"  # the baseline of all the others
    }


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


@pytest.mark.parametrize("path", CODE, ids=[path.name for path in CODE])
def test_its_file_is_a_docstring_and_one_function(path: Path) -> None:
    docstring, *rest = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
    kinds = [type(node) for node in rest if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert kinds == [ast.FunctionDef]


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


def test_each_decision_alone_is_answered_as_among_the_others(strategy: Strategy, features: pd.DataFrame) -> None:
    # The job asks for one decision, the backtest for all of them.
    whole, times = strategy(features.copy()), features["time"].unique()
    said = 0
    for time in times[np.linspace(0, len(times) - 1, 40).astype(int)]:
        now = (features["time"] == time).to_numpy()
        assert same(strategy(features[now].reset_index(drop=True)), whole[now])
        said += int((whole.loc[now, "signal"] != "HOLD").sum())
    assert said > 5


def test_the_names_of_symbols_and_their_order_change_no_answer(strategy: Strategy, features: pd.DataFrame) -> None:
    symbols = sorted(features["symbol"].unique())
    renamed = features.assign(symbol=features["symbol"].map(dict(zip(symbols, symbols[::-1], strict=True))))
    turned = renamed.sort_values(["symbol", "time"], kind="stable")
    answer = strategy(turned.reset_index(drop=True)).set_axis(turned.index).sort_index()
    pd.testing.assert_frame_equal(answer, strategy(features.copy()), check_exact=True)


def test_no_rows_are_no_answers(strategy: Strategy, features: pd.DataFrame) -> None:
    answer = strategy(features.iloc[:0].copy())
    assert len(answer) == 0
    assert {"score", "confidence", "signal"} <= set(answer.columns)


def test_its_answers_are_signals(strategy: Strategy, features: pd.DataFrame) -> None:
    SIGNALS.check(make_signals(features, strategy=strategy, parameters=PARAMETERS.empty()))
    with_more = features.assign(funding_rate=0.0001, funding_3=0.0003, oi_change_24=0.1, beta_60=1.0)
    SIGNALS.check(make_signals(with_more, strategy=strategy, parameters=PARAMETERS.empty()))


@pytest.mark.parametrize("path", [path for path in CODE if path.stem not in ACROSS], ids=lambda path: path.name)
def test_another_symbol_changes_no_answer(path: Path, features: pd.DataFrame) -> None:
    strategy = load_strategy(path)
    whole = strategy(features.copy())
    for symbol in features["symbol"].unique():
        ours = (features["symbol"] == symbol).to_numpy()
        assert same(strategy(features[ours].reset_index(drop=True)), whole[ours])


def test_nothing_known_is_hold(strategy: Strategy, features: pd.DataFrame) -> None:
    names = [name for name in features.columns if name not in KEYS]
    for count in (0.0, np.nan):
        unknown = features.copy()
        unknown[names] = np.nan
        answer = strategy(unknown.assign(sent_count=count))
        assert set(answer["signal"]) == {"HOLD"}
        assert answer["score"].isna().all()


@pytest.mark.parametrize("name", ["ret_5", "vol_20", "sent_score", "sent_novelty", "sent_confidence"])
def test_a_feature_that_is_not_known_never_makes_a_signal(
    strategy: Strategy, features: pd.DataFrame, name: str
) -> None:
    # It may take one away, or lift a block that waits for it to be known; a side never turns.
    sides = {"SELL": -1, "HOLD": 0, "BUY": 1}
    known, unknown = (strategy(f)["signal"].map(sides) for f in (features.copy(), features.assign(**{name: np.nan})))
    assert (known * unknown >= 0).all()


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
    strategy = load("news_sentiment")
    calm, wild = strategy(features), strategy(features, max_volatility=features["vol_20"].median())
    blocked = (calm["signal"] == "BUY") & (features["vol_20"] > features["vol_20"].median())
    assert blocked.any()
    assert (wild.loc[blocked, "signal"] == "HOLD").all()
    assert same(wild[~blocked], calm[~blocked])  # SELL and a volatility not known yet are not blocked


def test_too_few_texts_are_hold(features: pd.DataFrame) -> None:
    strategy = load("news_sentiment")
    picky = strategy(features, min_texts=3)
    few = features["sent_count"] < 3
    assert (picky.loc[few, "signal"] == "HOLD").all()
    assert picky.loc[few, "score"].isna().all()


# --- what each of them means -----------------------------------------------------------------------------------------


def make_rows(**columns: list[float]) -> pd.DataFrame:
    """Rows of features at one decision, one symbol each; what is not given is as at an ordinary hour."""
    count = len(next(iter(columns.values())))
    usual = {"sent_score": 0.5, "sent_confidence": 0.8, "sent_count": 3.0, "sent_novelty": 1.0, "ret_5": 0.0}
    rows = pd.DataFrame(usual | {"vol_20": 0.01 / np.sqrt(5)} | columns, index=range(count))  # 5 bars deviate by 1 %
    return rows.assign(time=pd.Timestamp("2024-03-04T14:29Z"), symbol=[f"S{n}" for n in range(count)])


def test_momentum_buys_good_news_after_a_rise_and_sells_bad_news_after_a_fall() -> None:
    rows = make_rows(
        sent_score=[0.5, 0.5, 0.5, -0.5, -0.5, 0.2, 0.5], ret_5=[0.006, 0.004, -0.006, -0.006, 0.006, 0.02, np.nan]
    )
    answer = load("news_momentum")(rows)
    # 0.6 deviations are enough, 0.4 are not, the other direction is not, nor is news of 0.2 or an unknown move.
    assert answer["signal"].tolist() == ["BUY", "HOLD", "HOLD", "SELL", "HOLD", "HOLD", "HOLD"]
    assert answer["score"].tolist() == rows["sent_score"].tolist()


def test_reversal_sells_what_rose_on_good_news_and_buys_what_fell_on_bad_news() -> None:
    # tanh(1) = 0.76 is beyond 0.6, tanh(0.5) = 0.46 is not; a move against the news is no overreaction to it.
    rows = make_rows(sent_score=[0.5, 0.5, -0.5, -0.5, 0.05, 0.5], ret_5=[0.01, 0.005, -0.01, 0.01, 0.01, np.nan])
    strategy = load("news_reversal")
    answer = strategy(rows)
    assert answer["signal"].tolist() == ["SELL", "HOLD", "BUY", "HOLD", "HOLD", "HOLD"]
    assert answer["score"].iloc[0] == pytest.approx(-np.tanh(1))
    stale = make_rows(sent_novelty=[0.2, 0.6, np.nan], ret_5=[0.01] * 3)
    assert strategy(stale, max_novelty=0.5)["signal"].tolist() == ["SELL", "HOLD", "HOLD"]


def test_cross_sectional_ranks_the_symbols_of_one_decision() -> None:
    # Five opinions: ranks -1, -0.5, 0, 0.5, 1. The symbol without texts has none.
    rows = make_rows(sent_score=[0.9, -0.2, 0.1, 0.0, 0.3, np.nan], sent_count=[1.0] * 5 + [0.0])
    strategy = load("cross_sectional")
    answer = strategy(rows)
    assert answer["score"].tolist()[:5] == [1.0, -1.0, 0.0, -0.5, 0.5]
    assert answer["signal"].tolist() == ["BUY", "SELL", "HOLD", "SELL", "BUY", "HOLD"]
    assert np.isnan(answer[["score", "confidence"]].iloc[5]).all()
    # What all of them hear moves no rank; equal opinions share theirs; too few symbols have none.
    assert strategy(rows.assign(sent_score=rows["sent_score"] / 2 - 0.4)).equals(answer)
    assert strategy(make_rows(sent_score=[0.2, 0.2, 0.4]))["score"].tolist() == [-0.5, -0.5, 1.0]
    assert set(strategy(rows, min_symbols=6)["signal"]) == {"HOLD"}
    later = rows.assign(time=rows["time"] + pd.Timedelta(hours=1), sent_score=0.0)
    both = pd.concat([rows, later], ignore_index=True)
    assert strategy(both).iloc[:6].equals(answer)


def test_crypto_news_asks_for_more_of_the_crowded_side_and_in_wild_markets() -> None:
    # Thresholds 0.3. A score of 0.5 is enough until funding of 0.0003 doubles them, on the side that pays.
    rows = make_rows(
        sent_score=[0.5, 0.5, 0.5, -0.5, -0.5, 0.7, 0.5],
        funding_rate=[0.0, 0.0003, -0.0003, 0.0003, -0.0003, 0.1, np.nan],
        vol_20=[0.008] * 7,
    )
    strategy = load("crypto_news")
    assert strategy(rows)["signal"].tolist() == ["BUY", "HOLD", "BUY", "SELL", "HOLD", "BUY", "BUY"]
    assert strategy(rows.drop(columns="funding_rate"))["signal"].tolist() == [
        *["BUY"] * 3,
        "SELL",
        "SELL",
        "BUY",
        "BUY",
    ]
    # Volatility: at twice the usual 0.6 is needed, at half of it 0.15, beyond either no more; unknown changes nothing.
    rows = make_rows(sent_score=[0.5, 0.61, 0.61, 0.2, 0.1, 0.31], vol_20=[0.016, 0.016, 0.9, 0.004, 0.0, np.nan])
    assert strategy(rows)["signal"].tolist() == ["HOLD", "BUY", "BUY", "BUY", "HOLD", "BUY"]


# --- thresholds by row -----------------------------------------------------------------------------------------------


def test_a_threshold_may_differ_by_row_and_one_that_is_not_known_is_not_passed() -> None:
    score = pd.Series([0.5, 0.5, -0.5, -0.5, 0.5, 0.5])
    answer = to_signal(
        score,
        score.abs(),
        buy_threshold=pd.Series([0.4, 0.6, 0.1, 0.1, np.nan, 0.1]),
        sell_threshold=pd.Series([0.1, 0.1, 0.4, 0.6, 0.1, 0.1]),
        confidence_threshold=pd.Series([0.5, 0.0, 0.0, 0.0, 0.0, 0.6]),
    )
    assert answer["signal"].tolist() == ["BUY", "HOLD", "SELL", "HOLD", "HOLD", "HOLD"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"buy_threshold": pd.Series([0.1, 0.0])}, "buy_threshold: 0.0 must be above 0"),
        ({"sell_threshold": pd.Series([-0.2, 0.1])}, "sell_threshold: -0.2 must be above 0"),
        ({"buy_threshold": pd.Series([0.1])}, "buy_threshold: expected a value for each of the 2 scores"),
        ({"confidence_threshold": pd.Series([0.1, 0.1], index=[1, 0])}, "confidence_threshold: expected a value for"),
    ],
)
def test_a_threshold_by_row_that_does_not_fit_is_refused(change: dict, sentence: str) -> None:
    score = pd.Series([0.5, 0.5])
    options = {"buy_threshold": 0.1, "sell_threshold": 0.1, "confidence_threshold": 0.1} | change
    with pytest.raises(ConfigError, match=sentence):
        to_signal(score, score, **options)


def test_a_wild_market_needs_more_and_a_calm_one_less_within_bounds() -> None:
    volatility = pd.Series([0.01, 0.015, 0.09, 0.001, np.nan, 0.02])
    reference = pd.Series([0.01, 0.01, 0.01, 0.01, 0.01, 0.0])
    expected = [0.5, 0.75, 1.0, 0.25, 0.5, 0.5]
    assert to_volatility_threshold(0.5, volatility, reference=reference).tolist() == pytest.approx(expected)
    wide = to_volatility_threshold(0.5, volatility, reference=0.01, lowest=0.2, highest=3.0)
    assert wide.tolist() == pytest.approx([0.5, 0.75, 1.5, 0.1, 0.5, 1.0])
    by_row = to_volatility_threshold(pd.Series([0.1] * 5 + [0.2]), volatility, reference=0.02)
    assert by_row.tolist() == pytest.approx([0.05, 0.075, 0.2, 0.05, 0.1, 0.2])


def test_the_side_that_pays_the_funding_needs_more_up_to_a_bound() -> None:
    funding = pd.Series([0.0, 0.0001, 0.0009, -0.0001, -0.0009, np.nan])
    buy, sell = to_funding_thresholds(0.5, 0.4, funding, reference=0.0002)
    assert buy.tolist() == pytest.approx([0.5, 0.75, 1.0, 0.5, 0.5, 0.5])
    assert sell.tolist() == pytest.approx([0.4, 0.4, 0.4, 0.6, 0.8, 0.4])
    assert to_funding_thresholds(0.5, 0.4, funding, reference=0.0002, highest=6.0)[0][2] == pytest.approx(2.75)


@pytest.mark.parametrize("change", [{"reference": 0.0}, {"reference": float("nan")}, {"highest": 0.9}])
def test_adjustments_that_cannot_be_meant_are_refused(change: dict) -> None:
    some = pd.Series([0.1])
    with pytest.raises(ConfigError, match=f"thresholds: {next(iter(change))} is"):
        to_volatility_threshold(0.5, some, **({"reference": 0.1} | change))
    with pytest.raises(ConfigError, match=f"thresholds: {next(iter(change))} is"):
        to_funding_thresholds(0.5, 0.5, some, **({"reference": 0.1} | change))
    for lowest in (0.0, 1.1):
        with pytest.raises(ConfigError, match=f"thresholds: lowest is {lowest}"):
            to_volatility_threshold(0.5, some, reference=0.1, lowest=lowest)


# --- answers that break the contract ---------------------------------------------------------------------------------


def answer_for(features: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"score": 0.5, "confidence": 0.5, "signal": "BUY"}, index=features.index)


BREACHES = {
    "too short": (lambda f: answer_for(f)[1:], "expected one row for each of 20 rows of features, got 19"),
    "too long": (lambda f: pd.concat([answer_for(f)] * 2), "expected one row for each of 20 rows of features, got 40"),
    "permuted": (lambda f: answer_for(f).sample(frac=1, random_state=1), "in their order, index 0 to 19"),
    "another index": (lambda f: answer_for(f).set_axis(f["symbol"]), "in their order, index 0 to 19"),
    "score as text": (lambda f: answer_for(f).assign(score="0.5"), "expected numbers as score, got str, such as '0.5'"),
    "confidence as truth": (
        lambda f: answer_for(f).assign(confidence=True),
        "expected numbers as confidence, got bool",
    ),
    "signal as number": (
        lambda f: answer_for(f).assign(signal=1),
        "row 0 has signal .*1.*; expected SELL, HOLD or BUY",
    ),
    "signal misspelt": (lambda f: answer_for(f).assign(signal="Buy"), "row 0 has signal 'Buy'; expected SELL, HOLD or"),
    "no signal": (lambda f: answer_for(f).assign(signal=None), "a signal is missing; no news is HOLD"),
    "BUY of an unknown score": (
        lambda f: answer_for(f).assign(score=np.nan, signal="BUY"),
        "row 0 is BUY with score nan and confidence 0.5; what is not known is HOLD",
    ),
    "SELL of an unknown confidence": (
        lambda f: answer_for(f).assign(confidence=np.nan, signal="SELL"),
        "confidence nan; what is not known is HOLD",
    ),
    "signal NaN": (lambda f: answer_for(f).assign(signal=np.nan), "a signal is missing; no news is HOLD"),
    "confidence above 1": (lambda f: answer_for(f).assign(confidence=1.01), "has confidence 1.01; expected 0 to 1"),
    "confidence below 0": (lambda f: answer_for(f).assign(confidence=-0.1), "has confidence -0.1; expected 0 to 1"),
    "score beyond -1": (lambda f: answer_for(f).assign(score=-1.2), "has score -1.2; expected -1 to 1"),
    "a column twice": (
        lambda f: pd.concat([answer_for(f), answer_for(f)[["score"]]], axis=1),
        "expected score, confidence and signal once each",
    ),
    "no table": (lambda f: None, "expected a DataFrame with columns score, confidence and signal, got NoneType"),
    "an exception": (lambda f: answer_for(f[f["sent_scor"] > 0]), "KeyError 'sent_scor'. Did you mean 'sent_score'"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_an_answer_that_breaks_the_contract_is_refused_in_one_sentence(breach: str, features: pd.DataFrame) -> None:
    answer, sentence = BREACHES[breach]
    with pytest.raises(TableError, match=sentence) as caught:
        make_signals(features.iloc[:20], strategy=answer, parameters=PARAMETERS.empty())
    assert str(caught.value).startswith(("strategy: ", "signals: row 0 "))
    assert "\n" not in str(caught.value)


def vandal(features: pd.DataFrame) -> pd.DataFrame:
    answer = answer_for(features)
    features["sent_score"] = -1.0
    features.loc[:, "ret_1"] = 0.0
    del features["vol_20"]
    return answer


def test_a_strategy_that_changes_its_input_changes_a_copy(features: pd.DataFrame) -> None:
    ours = features.iloc[:20].reset_index(drop=True)
    before = ours.copy()
    signals = make_signals(ours, strategy=vandal, parameters=PARAMETERS.empty())
    pd.testing.assert_frame_equal(ours, before, check_exact=True)
    assert signals["signal"].tolist() == ["BUY"] * 20


def test_a_strategy_that_changes_its_input_changes_nothing_for_later_parameters(features: pd.DataFrame) -> None:
    # Two stretches of parameters are two questions: what the first did to its rows, the second never sees.
    times = features["time"].sort_values().unique()
    rows = [(times[0], "level", 0.1), (times[len(times) // 2], "level", 0.2)]
    parameters = PARAMETERS.to_table(pd.DataFrame(rows, columns=["time", "name", "value"]).astype({"time": INSTANT}))
    seen = []

    def strategy(features: pd.DataFrame, *, level: float) -> pd.DataFrame:
        seen.append(features.copy())
        return vandal(features)

    make_signals(features, strategy=strategy, parameters=parameters)
    assert len(seen) == 2
    both = pd.concat(seen).sort_values(["symbol", "time"], ignore_index=True)
    pd.testing.assert_frame_equal(both, features, check_exact=True)


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
    assert set(run.names) in (set(run.symbols), set())  # without names, what is filed under a symbol is about it


def test_a_run_file_by_rank_has_a_strategy_that_ranks(run: RunFile) -> None:
    if run.strategy.removesuffix(".py") in ACROSS:
        assert run.weights.by_rank


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
