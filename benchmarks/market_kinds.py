"""The markets that `null_markets.py` judges, the strategies that look for something there, and what evidence says."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal import evidence
from finsignal.backtest import Costs
from finsignal.clock import days_per_year
from finsignal.config import RunFile, load_strategy
from finsignal.evidence.answers import Answer
from finsignal.evidence.luck import bootstrap_figures
from finsignal.evidence.predicting import answer_predicts
from finsignal.evidence.search import answer_search
from finsignal.evidence.stories import make_events
from finsignal.signals import NewsRules, WeightRules
from finsignal.simulate import Regimes, make_small_market
from finsignal.sources.files import Counts
from finsignal.splits import SplitRules, make_splits
from finsignal.study.accounts import run_account
from finsignal.study.case import Case, make_case
from finsignal.study.choosing import Choice, choose_settings, list_settings, to_chosen_parameters
from finsignal.study.inputs import Inputs
from finsignal.study.paired import to_days
from finsignal.study.questions import answer_luck
from finsignal.tables import TRIALS

REPO = Path(__file__).resolve().parents[1]
SYMBOLS = ("AAAA", "BBBB", "CCCC", "DDDD", "EEEE")
START, VALIDATED, END = "2023-01-01", "2023-05-01", "2024-01-11"  # 120 days to choose on, and some 250 to test on
DRAWS = 99  # worlds of each kind
TESTS = ("shuffled", "shifted", "flipped", "random_entries")
PREDICTS = ("ic", "event_drift", "quantile_spread")
EFFECT_BARS = 3


@dataclass(frozen=True)
class Kind:
    """One kind of market with nothing to find, and the strategy that looks for it there.

    fair: whether an account without costs is worth what it was on average, so that its true Sharpe ratio is 0.
    """

    market: Mapping[str, Any] = field(default_factory=dict)
    short: bool = True
    strategy: str = "news_sentiment.py"
    search: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: {"buy_threshold": (0.2, 0.5)})
    rank: int = 0
    fair: bool = True


KINDS = {
    "no drift": Kind(),
    "rising, long only": Kind({"drift": 0.001}, short=False, fair=False),
    "bull, bear, calm, stormy": Kind({"regimes": Regimes(40, 0.6, 1.8, 0.002, -0.002)}, fair=False),
    "half repeats, storms": Kind({"repeats": 0.5, "regimes": Regimes(40, 0.6, 1.8)}, short=False),
    "news reports moves": Kind({"reports": 0.6}),
    "by rank": Kind(strategy="cross_sectional.py", search={"min_symbols": (2.0, 3.0)}, rank=1),
    "sticky news": Kind({"stay": 0.9}),
}
BASE = RunFile(
    path=Path("null_markets.toml"),  # there is no such file: all is stated here
    name="null markets",
    market="24x7",
    bar="1d",
    latency="5min",
    symbols=SYMBOLS,
    start=START,
    end=END,
    strategy="",
    cash=100_000.0,
    features=NewsRules(half_life=2, max_age=3),
    weights=WeightRules(slots=5, gross=0.98, holding=EFFECT_BARS),
    costs=Costs(fee=0.0005, slippage=0.0005, delisting_return=-0.3, delisted_after=30),
    split=SplitRules(validation_until=VALIDATED),
    simulated=True,
    random_entries=0,
)
MARKET = {"effect_bars": EFFECT_BARS, "news_per_day": 0.5, "volatility": 0.02, "routine": 0.25, "skill": 3.0}


def make_run(kind: Kind) -> RunFile:
    """The run file of one kind of market."""
    weights = replace(BASE.weights, short=kind.short, rank=kind.rank)
    return replace(BASE, strategy=f"../strategies/{kind.strategy}", weights=weights, search=dict(kind.search))


@functools.cache
def make_grid() -> pd.DataFrame:
    """BARS of all markets."""
    return BASE.make_bars()


@functools.cache
def read_strategy(name: str) -> Any:
    """The function of one of the repository's strategies."""
    return load_strategy(REPO / "strategies" / name)


def make_market_case(name: str, effect: float, seed: int) -> Case:
    """One market of a kind, its settings chosen on validation and carried out on the test."""
    kind, bars = KINDS[name], make_grid()
    run = make_run(kind)
    market = make_small_market(seed=seed, symbols=SYMBOLS, bars=bars, effect=effect, **{**MARKET, **kind.market})
    read = Counts(read=len(market.news), kept=len(market.news))
    inputs = Inputs(bars, market.prices, market.news, price_counts=read, news_counts=read)
    strategy = read_strategy(kind.strategy)
    splits = make_splits(BASE.split, bars, holding=run.weights.holding, max_age=run.features.max_age)
    choices = choose_settings(run, inputs, market.sentiment, strategy, splits)
    parameters = to_chosen_parameters(run, choices)
    since = splits[0].test_start
    return make_case(run, inputs, market.sentiment, strategy, parameters, since=since, choices=choices)


def make_trials(case: Case) -> pd.DataFrame:
    """TRIALS of one run: each setting that was tried, and the account of the test."""
    year, bars = days_per_year(case.run.market), case.inputs.bars
    choice: Choice = case.choices[0]
    days = to_days(case).to_numpy()
    own = float(days.mean() / days.std(ddof=1)) if days.std() > 0 else math.nan
    ratios = [math.nan if ratio is None else ratio / year**0.5 for ratio in choice.ratios]
    count = len(choice.split.validation(bars))
    rows = [
        *(("setting", str(s), r, count) for s, r in zip(list_settings(case.run), ratios, strict=True)),
        ("run", "", own, len(days)),
    ]
    table = pd.DataFrame(rows, columns=["kind", "settings", "sharpe", "days"])
    table = table.assign(trial=[f"{n:04d}" for n in range(len(table))], first=bars["close_time"].iloc[-1])
    return TRIALS.to_table(table)


def judge_market(job: tuple[str, float, int]) -> dict[str, Any]:
    """What the evidence says of one market, plain values for JSON; `job` is kind, effect and seed."""
    name, effect, seed = job
    started = time.perf_counter()
    case = make_market_case(name, effect, seed)
    run, inputs, year = case.run, case.inputs, days_per_year(case.run.market)
    luck = answer_luck(case, draws=DRAWS)
    search = answer_search(to_days(case).to_numpy(), make_trials(case), days_per_year=year)
    events = make_events(inputs.news, case.sentiment, inputs.prices, inputs.bars, run.symbols, rules=run.features)
    predicts = answer_predicts(
        *(events, inputs.prices, inputs.bars, run.symbols),
        holding=run.weights.holding,
        market=run.market,
        since=case.since,
    )
    figures = evidence.measure(case.result, inputs.bars, market=run.market)
    verdict = evidence.judge_evidence(
        (luck, search, predicts), trades=figures["trades"], ruined=figures["ruined"], unseen=True, looked_ahead=False
    )
    asked = ((luck, TESTS), (predicts, PREDICTS))
    return {
        "kind": name,
        "effect": effect,
        "seed": seed,
        "word": verdict["word"],
        "tests": {test["key"]: test["passed"] for test in verdict["tests"]},
        "p": {key: get_value(answer, key, "p") for answer, keys in asked for key in keys},
        "predicts": {key: get_interval(predicts, key) for key in PREDICTS},
        "probabilistic": get_value(search, "probabilistic_sharpe", "value"),
        "deflated": get_value(search, "deflated_sharpe", "value"),
        "track_record": get_value(search, "minimum_track_record", "value"),
        "days": luck.figures[0].n,
        "sharpe": figures["sharpe"],
        "trades": figures["trades"],
        "stories": get_value(predicts, "effective_stories", "value"),
        **(judge_gross(case) if effect == 0 and KINDS[name].fair else {}),
        "seconds": time.perf_counter() - started,
    }


def judge_gross(case: Case) -> dict[str, Any]:
    """What is said of the same account without costs, whose true Sharpe ratio is known where the market is fair: 0."""
    run, year = case.run, days_per_year(case.run.market)
    costs = replace(run.costs, fee=0.0, slippage=0.0)
    account = run_account(replace(run, costs=costs), case.inputs, case.decided.weights)
    daily = evidence.to_daily(account.equity, case.inputs.bars, cash=run.cash).to_numpy()
    figures = Answer("luck", "", "", bootstrap_figures(daily, days_per_year=year))
    search = answer_search(daily, TRIALS.empty(), days_per_year=year)
    return {
        "gross": {key: get_interval(figures, key) for key in ("net_return", "sharpe")},
        "probabilistic_gross": get_value(search, "probabilistic_sharpe", "value"),
    }


def get_value(answer: Answer, key: str, name: str) -> float | None:
    figure = answer.find(key)
    return None if figure is None else getattr(figure, name)


def get_interval(answer: Answer, key: str) -> list[float | None]:
    return [get_value(answer, key, "low"), get_value(answer, key, "high")]
