"""Permutation tests of a run: each world is what the exact path decides in it, effects are found, and luck is not."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finsignal.config import ALWAYS, RunFile, load_strategy, to_dataclass, to_parameters
from finsignal.errors import ConfigError
from finsignal.signals import make_flat_state, make_signals, to_limited, to_weights
from finsignal.sources.files import Counts
from finsignal.study import dealing, permuting
from finsignal.study.case import Case, carry_out, make_case
from finsignal.study.inputs import Inputs
from finsignal.study.permuting import KINDS, Permutation, run_permutations
from finsignal.tables import NEWS, PRICES, PROBABILITIES, SENTIMENT

STRATEGIES = Path(__file__).resolve().parents[1] / "strategies"
INSTANT = "datetime64[us, UTC]"
RUN: dict[str, Any] = {
    "name": "worlds",
    "simulated": True,
    "strategy": "news_sentiment.py",
    "market": "XNYS",
    "bar": "1d",
    "start": "2024-01-02",
    "end": "2024-09-01",
    "cash": 100_000,
    "features": {"half_life": 2, "max_age": 3},
    "weights": {"slots": 4, "gross": 0.98, "holding": 4},
    "costs": {"fee": 0.0005, "slippage": 0.0005, "delisting_return": -0.3, "delisted_after": 50},
}


def make_run(symbols: int, changes: Mapping[str, Any]) -> RunFile:
    content = {**RUN, "symbols": [f"S{n}" for n in range(symbols)], "path": STRATEGIES / "worlds.toml"}
    for name, value in changes.items():
        content[name] = {**content.get(name, {}), **value} if isinstance(value, Mapping) else value
    return to_dataclass(RunFile, content, where="worlds")


@cache
def make_grid(market: str, bar: str, start: str, end: str) -> pd.DataFrame:
    return make_run(1, {"market": market, "bar": bar, "start": start, "end": end}).make_bars()


def make_tables(
    run: RunFile, seed: int, *, stories: int, effect: float, drift: float, good: float, stay: float | None
) -> tuple[Inputs, pd.DataFrame]:
    """A market by random numbers: each story moves its symbol by `effect` over the three bars after it was known.

    stay: the chance that a symbol's next story has the side of the one before; None draws each for itself.
    """
    rng = np.random.default_rng(seed)
    bars = make_grid(run.market, run.bar, run.start, run.end)
    size, names = len(bars), np.array(run.symbols)
    at, code = rng.integers(0, size - 1, stories), rng.integers(0, len(names), stories)
    positive = rng.random(stories) < good
    if stay is not None:
        order = np.lexsort((at, code))
        turns = rng.random(stories) < np.where(np.diff(code[order], prepend=-1) != 0, 0.5, 1 - stay)
        positive[order] = turns.cumsum() % 2 == 0
    sure = rng.choice([0.9, 0.7, 0.45], stories)
    said = np.stack([np.where(positive, 0.05, sure), 0.95 - sure, np.where(positive, sure, 0.05)])
    returns = drift + rng.normal(0, 0.008, (size, 1)) + rng.normal(0, 0.012, (size, len(names)))
    for after in range(1, 4):
        here = at + after < size
        np.add.at(returns, (at[here] + after, code[here]), np.where(positive[here], 1, -1) * effect / 3)
    close = 100 * np.exp(np.cumsum(returns, axis=0))
    opens = np.vstack([np.full(len(names), 100.0), close[:-1]]) * np.exp(rng.normal(0, 0.001, close.shape))
    prices = pd.concat(
        [
            bars[["open_time"]].assign(
                time=bars["close_time"], symbol=name, open=opens[:, s], close=close[:, s], volume=1e6
            )
            for s, name in enumerate(names)
        ]
    )
    prices["high"] = prices[["open", "close"]].max(axis=1)
    prices["low"] = prices[["open", "close"]].min(axis=1)

    known = bars["time"].iloc[at].reset_index(drop=True) - pd.to_timedelta(rng.integers(3600, 7200, stories), unit="s")
    told = pd.DataFrame({"time": known.astype(INSTANT), "symbol": names[code], "source": "wire", "relevance": 1.0})
    told["article_id"] = told["story"] = [f"a{n:04d}" for n in range(stories)]
    told[list(PROBABILITIES)] = said.T
    again = told[rng.random(stories) < 0.2].copy()  # a day later, and of the same story
    again["article_id"] = "b" + again["article_id"]
    again["time"] = again["time"] + pd.Timedelta(days=1)
    told = pd.concat([told, again], ignore_index=True).astype({"time": INSTANT})
    told = told.assign(published=told["time"], title="", text="", url="", model="m", first_seen=None, recorded=None)
    texts = ["article_id", "symbol", "source", "story", "title", "text", "url", "model"]
    told = told.astype(dict.fromkeys(texts, "str") | dict.fromkeys(["first_seen", "recorded"], INSTANT))
    news = NEWS.to_table(told[list(NEWS.columns)])
    inputs = Inputs(bars, PRICES.to_table(prices.astype({"symbol": "str"})), news, Counts(), Counts())
    return inputs, SENTIMENT.to_table(told[list(SENTIMENT.columns)])


def make_world(
    seed: int = 1,
    *,
    symbols: int = 4,
    stories: int = 300,
    effect: float = 0.0,
    drift: float = 0.0,
    good: float = 0.5,
    stay: float | None = None,
    since: int | None = None,
    parameters: Mapping[str, float] | None = None,
    **changes: Any,
) -> Case:
    run = make_run(symbols, changes)
    inputs, sentiment = make_tables(run, seed, stories=stories, effect=effect, drift=drift, good=good, stay=stay)
    first = None if since is None else inputs.bars["open_time"].iloc[since]
    table = to_parameters(parameters or {}, known=ALWAYS)
    return make_case(run, inputs, sentiment, load_strategy(STRATEGIES / run.strategy), table, since=first)


def to_ps(case: Case, **options: Any) -> dict[str, float]:
    tests = run_permutations(case, **options)
    return {test.kind: test.figure.p for test in tests if test.figure.p is not None}


# ----------------------------------------------------------------------------------------------------------- exactness

RULES: dict[str, dict[str, Any]] = {
    "each signal for itself": {},
    "few slots, short": {"weights": {"slots": 2, "short": True, "sizing": "confidence"}},
    "limits": {"limits": {"stale_prices": 1, "silent_news": 2}},
    "majority": {"features": {"mode": "majority"}},
    "unanimous": {"features": {"mode": "unanimous"}},
    "rolling": {"features": {"mode": "rolling"}},
    "across symbols, by rank": {
        "strategy": "cross_sectional.py",
        "weights": {"rank": 1, "short": True, "neutral": True, "rebalance": "week", "sizing": "inverse_volatility"},
        "parameters": {},
    },
    "stops": {"exits": {"stop_loss": 0.01, "trailing_stop": 0.02}, "weights": {"short": True, "holding": 9}},
    "sessions": {"bar": "1h", "end": "2024-03-01", "exits": {"session_close": True}},
}


@pytest.mark.parametrize("name", RULES)
def test_each_world_earns_what_the_exact_path_decides_in_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_world(2, stories=200, since=40, **RULES[name])
    stand = dealing.make_stand(case)
    worlds: list[tuple[pd.DataFrame, np.ndarray]] = []
    turns: list[np.ndarray] = []
    aggregate, turn = dealing.aggregate_worlds, dealing.turn

    def spy_texts(texts: pd.DataFrame, said: np.ndarray, **options: Any) -> np.ndarray:
        worlds.append((texts, said))
        return aggregate(texts, said, **options)

    def spy_turn(*options: Any) -> np.ndarray:
        turns.append(turn(*options))
        return turns[-1]

    monkeypatch.setattr(dealing, "aggregate_worlds", spy_texts)
    monkeypatch.setattr(dealing, "turn", spy_turn)
    for kind in ("shuffled", "flipped"):
        (test,) = run_permutations(case, kinds=(kind,), draws=19)
        texts, said = worlds.pop()
        for k in (0, 7, 18):
            table = case.sentiment.set_index(["article_id", "symbol"])
            places = pd.MultiIndex.from_frame(texts[["article_id", "symbol"]])
            for number, column in enumerate(PROBABILITIES):
                table.loc[places, column] = said[k, number]
            sentiment = SENTIMENT.to_table(table.reset_index())
            decided, _ = carry_out(case.run, case.inputs, sentiment, case.strategy, case.parameters, since=case.since)
            weights = decided.weights["weight"].to_numpy().reshape(len(case.run.symbols), -1).T
            assert test.drawn[k] == pytest.approx(stand.judge(weights[None], costs=False)[0], abs=1e-12)
        assert len(np.unique(test.drawn)) > 10
    (test,) = run_permutations(case, kinds=("shifted",), draws=19)
    run, inputs, own = case.run, case.inputs, case.decided.features
    for k in (0, 7, 18):
        source = (np.arange(len(run.symbols))[:, None] * turns[0].shape[1] + turns[0][k]).ravel()
        sent = [column for column in own if column.startswith("sent_")]
        features = own.assign(**{column: own[column].to_numpy()[source] for column in sent})
        signals = make_signals(features, strategy=case.strategy, parameters=case.parameters)
        old = to_limited(case.decided.signals.drop(columns="reason", errors="ignore"), inputs.prices, inputs.news,
                         bars=inputs.bars, limits=replace(run.limits, stale_prices=None))  # fmt: skip
        if "reason" in old:  # silence goes with the news; here no price is stale
            signals["reason"] = old["reason"].to_numpy()[source]
            signals["reason"] = signals["reason"].astype("str")
            signals.loc[signals["reason"] != "", "signal"] = "HOLD"
        weights, _ = to_weights(signals, inputs.prices, make_flat_state(run.symbols), bars=inputs.bars,
                                rules=run.weights, exits=run.exits, features=features)  # fmt: skip
        wide = weights["weight"].to_numpy().reshape(len(run.symbols), -1).T
        assert test.drawn[k] == pytest.approx(stand.judge(wide[None], costs=True)[0], abs=1e-12)


def test_worlds_are_the_same_however_many_are_decided_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_world(3)
    whole = run_permutations(case, draws=29)
    monkeypatch.setattr(permuting, "MOST_BYTES", 1_200_000)
    for one, other in zip(whole, run_permutations(case, draws=29), strict=True):
        assert np.array_equal(one.drawn, other.drawn), one.kind


def test_a_seed_gives_the_same_worlds_again_and_a_kind_does_not_mind_the_others() -> None:
    case = make_world(3)
    every, again = run_permutations(case, draws=29), run_permutations(case, draws=29, kinds=KINDS[::-1])
    for one in every:
        (other,) = (test for test in again if test.kind == one.kind)
        assert np.array_equal(one.drawn, other.drawn)
        assert not np.array_equal(one.drawn, run_permutations(case, draws=29, kinds=(one.kind,), seed=8)[0].drawn)


def test_only_what_is_known_at_tested_decisions_is_dealt_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_world(2, since=60)
    seen: list[tuple[pd.DataFrame, np.ndarray]] = []
    aggregate = dealing.aggregate_worlds

    def spy(texts: pd.DataFrame, said: np.ndarray, **options: Any) -> np.ndarray:
        seen.append((texts, said))
        return aggregate(texts, said, **options)

    monkeypatch.setattr(dealing, "aggregate_worlds", spy)
    run_permutations(case, kinds=("shuffled", "flipped"), draws=99)
    for texts, said in seen:
        own = np.stack([texts[name].to_numpy() for name in PROBABILITIES])
        moved = (said != own).any(axis=(0, 1))
        tested = (texts["known"] > case.inputs.bars["time"].iloc[59]).to_numpy()
        assert (~tested).sum() > 0
        assert not moved[~tested].any()
        assert moved[tested].mean() > 0.5


def test_flipping_leaves_each_symbol_as_many_good_stories_as_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_world(2, good=0.7, features={"max_age": 0})  # so that a story told again a day later counts again
    seen: list[tuple[pd.DataFrame, np.ndarray]] = []
    aggregate = dealing.aggregate_worlds

    def spy(texts: pd.DataFrame, said: np.ndarray, **options: Any) -> np.ndarray:
        seen.append((texts, said))
        return aggregate(texts, said, **options)

    monkeypatch.setattr(dealing, "aggregate_worlds", spy)
    run_permutations(case, kinds=("flipped",), draws=39)
    ((texts, said),) = seen
    own = (texts["p_positive"] > texts["p_negative"]).to_numpy()
    good = said[:, 2] > said[:, 0]
    first = ~texts["story"].duplicated().to_numpy()
    for code in range(4):
        ours = first & (texts["code"] == code).to_numpy()
        assert (good[:, ours].sum(axis=1) == own[ours].sum()).all()
        assert (good[:, ours] != own[ours]).any()
    # A story's repeats go with it, and how sure a text is stays.
    again = texts.loc[~first, "story"].map(texts.loc[first].reset_index().set_index("story")["index"]).to_numpy()
    assert len(again) > 20
    assert np.array_equal(good[:, again], good[:, ~first])
    assert np.array_equal(said.max(axis=1), np.broadcast_to(texts[list(PROBABILITIES)].max(axis=1), said[:, 0].shape))


# ------------------------------------------------------------------------------------------- what is found and what not


def test_a_planted_effect_is_found_by_every_test() -> None:
    case = make_world(4, effect=0.03)
    tests = run_permutations(case, draws=99)
    assert [test.kind for test in tests] == list(KINDS)
    for test in tests:
        assert test.figure.p == 0.01
        assert test.own > test.drawn.max()
        assert test.figure.value == test.own
        assert test.figure.draws == len(test.drawn) == 99
        assert test.figure.n > 100
        assert test.curve is not None
        assert sum(y for y in test.curve.y if y is not None) == 99


def test_the_own_ratio_is_near_that_of_the_exact_account() -> None:
    from finsignal import evidence

    case = make_world(4, effect=0.03)
    exact = evidence.measure(case.result, case.inputs.bars, market="XNYS")["sharpe"]
    (test,) = run_permutations(case, kinds=("shifted",), draws=19)
    assert test.own == pytest.approx(exact, rel=0.03)  # compounding and whole fills are the difference


def test_no_effect_is_not_found() -> None:
    found = [p for seed in range(10, 18) for p in to_ps(make_world(seed), draws=39).values()]
    assert len(found) == 32
    assert min(found) > 0.01
    assert 0.3 < np.mean(found) < 0.7


def test_mostly_good_news_in_a_rising_market_is_no_signal() -> None:
    # Exchanging every other story would halve the exposure, and with it what the market gave.
    ps = [to_ps(make_world(seed, good=0.9, drift=0.004), draws=99)["flipped"] for seed in range(20, 26)]
    assert min(ps) > 0.05


def test_stories_dealt_anew_are_judged_before_costs_and_what_keeps_its_order_after_them() -> None:
    free, dear = ({"costs": {"fee": cost, "slippage": cost}} for cost in (0.0, 0.01))
    without, paid = (
        {test.kind: test for test in run_permutations(make_world(3, **costs), draws=19)} for costs in (free, dear)
    )
    for kind in ("shuffled", "flipped"):
        assert without[kind].own == paid[kind].own
        assert np.array_equal(without[kind].drawn, paid[kind].drawn)
        assert f"a Sharpe ratio of {paid[kind].own:.2f} or more before costs (p = " in paid[kind].figure.said
    for kind in ("shifted", "random_entries"):
        assert without[kind].own > paid[kind].own + 1
        assert without[kind].drawn.mean() > paid[kind].drawn.mean() + 1
        assert f"a Sharpe ratio of {paid[kind].own:.2f} or more after costs (p = " in paid[kind].figure.said


@pytest.mark.slow
def test_news_that_stays_good_or_bad_for_a_while_passes_as_often_as_luck() -> None:
    """Dealt anew it is traded more: after costs of 0.2 % far more than 5 % of such markets would pass."""
    market = {"stay": 0.95, "weights": {"short": True}, "costs": {"fee": 0.001, "slippage": 0.001}}
    found = pd.DataFrame([to_ps(make_world(seed, **market), draws=39) for seed in range(2000, 2200)])
    # Of 200 at 5 %, fewer than 2 or more than 20 come once in about a thousand tries.
    for kind, count in (found <= 0.05).sum().items():
        assert 2 <= count <= 20, kind


@pytest.mark.slow
@pytest.mark.parametrize(
    "market", [{}, {"drift": 0.001, "good": 0.7, "weights": {"slots": 2}}, {"weights": {"short": True}, "good": 0.4}]
)
def test_at_five_percent_luck_passes_about_as_often(market: dict[str, Any]) -> None:
    found = pd.DataFrame([to_ps(make_world(seed, **market), draws=39) for seed in range(1000, 1300)])
    # Of 300 at 5 %, fewer than 5 or more than 27 come once in about a thousand tries.
    for kind, count in (found <= 0.05).sum().items():
        assert 5 <= count <= 27, kind


# ------------------------------------------------------------------------------------------------------------ bad input


def needs(case: Case, kind: str) -> str:
    (test,) = run_permutations(case, kinds=(kind,), draws=19)
    assert isinstance(test, Permutation)
    assert test.figure.value is None
    assert test.figure.p is None
    assert test.curve is None
    assert not len(test.drawn)
    return test.figure.needs


def test_one_symbol_has_nothing_to_shuffle() -> None:
    case = make_world(5, symbols=1)
    assert needs(case, "shuffled") == "two symbols: among the stories of one there is nothing to deal"
    assert list(to_ps(case, draws=19)) == list(KINDS[1:])


def test_symbols_that_are_never_told_of_on_one_day_have_nothing_to_shuffle() -> None:
    case = make_world(5, symbols=2)
    day = case.inputs.news["time"].dt.day % 2
    keep = (day == (case.inputs.news["symbol"] == "S1")).to_numpy()
    inputs = replace(case.inputs, news=case.inputs.news[keep].reset_index(drop=True))
    case = make_case(case.run, inputs, case.sentiment, case.strategy, case.parameters)
    assert needs(case, "shuffled") == "10 stories in sessions with stories of two symbols; there are 0"


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_trade_there_is_nothing_to_compare(kind: str) -> None:
    case = make_world(6, parameters={"buy_threshold": 0.99})
    assert needs(case, kind) == "1 trade; there are 0"


def test_a_test_says_what_it_needs() -> None:
    short = make_world(7, end="2024-01-25")
    for kind in ("shifted", "random_entries"):
        assert needs(short, kind) == "20 sessions to turn; there are 16"
    for kind in ("shuffled", "flipped"):
        assert needs(short, kind) == "20 sessions; there are 16"
    assert needs(make_world(7, good=1.0), "flipped") == "10 good and 10 bad stories; of the fewer there are 0"


def test_one_day_is_no_sharpe_ratio_and_no_warning() -> None:
    case = make_world(7, bar="1h", end="2024-01-03", stories=60)
    tests = run_permutations(case, draws=19)
    assert [test.figure.needs != "" for test in tests] == [True] * 4
    assert tests[0].own == 0.0


def test_with_fewer_turns_than_draws_each_comes_once() -> None:
    (test,) = run_permutations(make_world(7, end="2024-02-15"), kinds=("shifted",), draws=99)
    assert test.figure.draws == 30
    assert test.figure.n == 31


def test_kinds_and_draws_that_cannot_be_meant_are_refused() -> None:
    case = make_world(7, end="2024-02-15")
    with pytest.raises(ConfigError, match=r"'shiftd' is not one of shuffled, shifted.* Did you mean 'shifted'"):
        run_permutations(case, kinds=("shiftd",))
    with pytest.raises(ConfigError, match="18 draws cannot have a p-value of 5 %; state 19 or more"):
        run_permutations(case, draws=18)
