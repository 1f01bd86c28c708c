"""Many worlds side by side are each what they are alone: features, answers of a strategy, weights, and the account."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reference import NONE, make_prices
from signal_tables import MINUTE, START, make_hours

from finsignal.backtest import Costs
from finsignal.backtest.arrays import to_market
from finsignal.backtest.costs import NO_RULES
from finsignal.clock import make_bars
from finsignal.evidence import worlds
from finsignal.features import MODES, aggregate_sentiment, make_counted_texts
from finsignal.features.worlds import SAID, aggregate_worlds
from finsignal.signals import (
    NO_EXITS,
    ExitRules,
    WeightRules,
    make_flat_state,
    make_signals,
    to_signal,
    to_weights,
)
from finsignal.signals.portfolio import Wishes, to_shares
from finsignal.signals.weights import weigh_worlds
from finsignal.signals.worlds import ask_worlds, worlds_at_once
from finsignal.tables import FEATURES, NEWS, PARAMETERS, PROBABILITIES, SENTIMENT, SIGNALS, WEIGHTS

SYMBOLS = ["A", "B", "C"]
INSTANT = "datetime64[us, UTC]"


# ------------------------------------------------------------------------------------------------- what texts say


def make_texts(bars: pd.DataFrame, count: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """NEWS and SENTIMENT of texts at random instants; every third repeats the story of the one before."""
    time = pd.Series(START + np.sort(rng.integers(0, len(bars) * 3600, count)) * pd.Timedelta(seconds=1)).astype(
        INSTANT
    )
    ids = pd.Series([f"t{n:03d}" for n in range(count)], dtype="str")
    symbol = pd.Series(rng.choice(SYMBOLS, count), dtype="str")
    news = pd.DataFrame({"article_id": ids, "symbol": symbol, "time": time, "published": time})
    for name in ("first_seen", "recorded"):
        news[name] = pd.Series([pd.NaT] * count, dtype=INSTANT)
    for name in ("title", "text", "url"):
        news[name] = pd.Series([""] * count, dtype="str")
    news["source"] = pd.Series(rng.choice(["wire", "blog"], count), dtype="str")
    news["story"] = pd.Series([f"s{n - (n % 3 == 2)}" for n in range(count)], dtype="str")
    news["relevance"] = rng.uniform(0.3, 1.0, count)
    sentiment = news[["article_id", "time", "symbol"]].assign(model=pd.Series(["m"] * count, dtype="str"))
    sentiment[list(PROBABILITIES)] = rng.dirichlet([1, 1, 1], count)
    return NEWS.to_table(news), SENTIMENT.to_table(sentiment)


@pytest.mark.parametrize("mode", MODES)
def test_the_features_of_each_world_are_bit_for_bit_those_that_it_has_alone(mode: str) -> None:
    rng, bars = np.random.default_rng(3), make_hours(40)
    news, sentiment = make_texts(bars, 90, rng)
    rules: dict[str, Any] = {"half_life": 2.5, "max_age": 6, "min_relevance": 0.4, "source_weights": {"blog": 0.5}}
    texts = make_counted_texts(news, sentiment, bars, SYMBOLS, **rules, mode="rolling")
    drawn = rng.dirichlet([0.4] * 3, (4, len(texts))).round(2)  # some exactly even, as 'unanimous' may find them
    drawn[:, :, 2] = 1 - drawn[:, :, 0] - drawn[:, :, 1]
    said = np.moveaxis(np.clip(drawn, 0, 1), 2, 1)
    got = aggregate_worlds(
        texts, said, bars=len(bars), symbols=3, half_life=rules["half_life"], max_age=rules["max_age"], mode=mode
    )
    for k in range(4):
        own = texts[["article_id", "symbol"]].assign(**dict(zip(PROBABILITIES, said[k], strict=True)))
        scored = sentiment.drop(columns=list(PROBABILITIES)).merge(own, on=["article_id", "symbol"])
        scored = pd.concat([scored, sentiment[~sentiment["article_id"].isin(scored["article_id"])]])
        alone = aggregate_sentiment(news, SENTIMENT.to_table(scored), bars, SYMBOLS, **rules, mode=mode)
        expected = alone.iloc[:, 3 : 3 + SAID].to_numpy().T.reshape(SAID, 3, len(bars))
        assert np.array_equal(got[:, k], expected, equal_nan=True)


# ------------------------------------------------------------------------------------------------ what strategies say


def make_features(bars: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    table = pd.concat([bars[["open_time", "time"]].assign(symbol=symbol) for symbol in SYMBOLS])
    table = table.astype({"symbol": "str"}).reset_index(drop=True)
    return FEATURES.check(table.assign(vol_20=rng.uniform(0.01, 0.02, len(table)), sent_score=NONE))


def trade(score: pd.Series, threshold: float) -> pd.DataFrame:
    return to_signal(
        score, score.abs(), buy_threshold=threshold, sell_threshold=threshold, confidence_threshold=threshold
    )


def plain(features: pd.DataFrame, *, threshold: float = 0.3) -> pd.DataFrame:
    return trade(features["sent_score"], threshold)


def across_symbols(features: pd.DataFrame, *, threshold: float = 0.3) -> pd.DataFrame:
    score = features["sent_score"]
    return trade(score - score.groupby(features["time"]).transform("mean"), threshold)


def against_its_past(features: pd.DataFrame, *, threshold: float = 0.3) -> pd.DataFrame:
    score = features["sent_score"]
    past = score.groupby(features["symbol"]).transform(lambda s: s.rolling(5, min_periods=1).mean())
    return trade(score - past, threshold)


def by_the_calendar(features: pd.DataFrame, *, threshold: float = 0.3) -> pd.DataFrame:
    return trade(features["sent_score"].where(features["time"].dt.month == 3, 0.0), threshold)


def by_name(features: pd.DataFrame, *, threshold: float = 0.3) -> pd.DataFrame:
    return trade(features["sent_score"].where(features["symbol"] == "B", 0.0), threshold)


def by_name_and_past(features: pd.DataFrame, *, threshold: float = 0.3) -> pd.DataFrame:
    known = features["sent_score"].where(features["symbol"] != "B", -0.2)
    return against_its_past(features.assign(sent_score=known), threshold=threshold)


def over_all_rows(features: pd.DataFrame, *, threshold: float = 0.3) -> pd.DataFrame:
    return trade(features["sent_score"] - features["sent_score"].mean(), threshold)


@pytest.mark.parametrize(
    "strategy", [plain, across_symbols, against_its_past, by_the_calendar, by_name, by_name_and_past, over_all_rows]
)
def test_each_world_has_the_answer_that_it_has_alone(strategy: Callable[..., pd.DataFrame]) -> None:
    rng = np.random.default_rng(4)
    bars = make_bars("24x7", "1h", start="2024-03-31T12:00Z", end="2024-04-01T12:00Z", latency=MINUTE)
    features = make_features(bars, rng)
    scores = np.where(rng.random((5, 3, len(bars))) < 0.3, NONE, rng.uniform(-0.5, 0.5, (5, 3, len(bars))).round(2))
    half = bars["time"].iloc[12]
    parameters = PARAMETERS.to_table(
        pd.DataFrame({"time": [bars["time"].iloc[0], half], "name": ["threshold"] * 2, "value": [0.1, 0.3]}).astype(
            {"time": INSTANT, "name": "str"}
        )
    )
    got = ask_worlds(features, {"sent_score": scores}, strategy=strategy, parameters=parameters)
    for k, score in enumerate(scores):
        alone = make_signals(features.assign(sent_score=score.ravel()), strategy=strategy, parameters=parameters)
        side = alone["signal"].map({"SELL": -1, "HOLD": 0, "BUY": 1}).to_numpy()
        for name, expected in {"side": side, "score": alone["score"], "confidence": alone["confidence"]}.items():
            wide = np.asarray(expected, dtype=float).reshape(3, -1).T
            assert np.array_equal(getattr(got, name)[k].astype(float), wide, equal_nan=True), (k, name)


def test_a_plain_strategy_is_asked_once_for_all_and_one_that_mixes_worlds_once_for_each() -> None:
    rng, bars = np.random.default_rng(4), make_hours(20)
    columns = {"sent_score": rng.uniform(-0.5, 0.5, (9, 3, 20))}
    sizes: list[int] = []

    def counted(strategy: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
        def count(features: pd.DataFrame) -> pd.DataFrame:
            sizes.append(len(features) // 60)
            return strategy(features)

        return count

    features = make_features(bars, rng)
    ask_worlds(features, columns, strategy=counted(plain), parameters=PARAMETERS.empty())
    assert sizes == [1, 1, 1, 9]
    sizes.clear()
    ask_worlds(features, columns, strategy=counted(against_its_past), parameters=PARAMETERS.empty())
    assert sizes == [1, 1, 1, 9, 9]  # the second time each world's symbols have names of their own
    sizes.clear()
    ask_worlds(features, columns, strategy=counted(over_all_rows), parameters=PARAMETERS.empty())
    assert sizes == [1, 1, 1, 9, 9] + [1] * 9


def test_stacked_worlds_keep_to_the_memory_stated_and_to_the_years_that_dates_have() -> None:
    features = make_features(make_hours(100), np.random.default_rng(1))
    assert worlds_at_once(features, most=300 * 5 * 24 * 7) == 7
    assert worlds_at_once(features, most=1) == 1
    assert worlds_at_once(features, most=10**12) < 8000  # 364 days each


# -------------------------------------------------------------------------------------------------------------- weights

RULES = {
    "each signal for itself": (WeightRules(3, 1.0, 5), NO_EXITS),
    "few slots": (WeightRules(1, 0.9, 4, short=True), NO_EXITS),
    "limits": (WeightRules(3, 1.0, 6, short=True, max_net=0.2, max_turnover=0.4, sizing="confidence"), NO_EXITS),
    "by volatility": (WeightRules(2, 1.0, 6, short=True, sizing="inverse_volatility"), NO_EXITS),
    "by target": (WeightRules(3, 1.0, 6, sizing="target_volatility", target_volatility=0.012), NO_EXITS),
    "stops": (WeightRules(3, 1.0, 9, short=True), ExitRules(stop_loss=0.01, trailing_stop=0.02, take_profit=0.02)),
    "resting": (WeightRules(3, 1.0, 9, short=True), ExitRules(stop_loss=0.01, take_profit=0.02, resting=True)),
    "sessions": (WeightRules(3, 1.0, 9, short=True), ExitRules(session_close=True)),
    "by rank": (WeightRules(3, 1.0, 9, short=True, rank=1, neutral=True, rebalance="session"), NO_EXITS),
    "by quantile": (WeightRules(3, 0.9, 9, short=True, quantile=0.4, band=0.1, max_weight=0.4), NO_EXITS),
    "by rank and volatility": (
        WeightRules(3, 0.9, 9, short=True, rank=2, neutral=True, sizing="inverse_volatility", max_turnover=0.5),
        ExitRules(stop_loss=0.02),
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_the_weights_of_each_world_are_those_that_it_has_alone(name: str) -> None:
    rules, exits = RULES[name]
    rng, bars = np.random.default_rng(5), make_hours(60)
    start, shape = 7, (53, 6, 3)  # bars, worlds, symbols
    quotes = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (60, 3)), axis=0))
    quotes[rng.random((60, 3)) < 0.1] = NONE  # bars that did not print, so that orders wait
    quotes[0] = 100.0
    prices = make_prices(bars, dict(zip(SYMBOLS, quotes.T.tolist(), strict=True)))
    side = rng.choice([-1, 0, 0, 0, 1], shape)
    old = rng.random(shape) < 0.05
    side[old] = 0
    score, confidence = rng.uniform(-1, 1, shape).round(1), rng.uniform(0.5, 1, shape).round(1)
    score[(rng.random(shape) < 0.2) & (side == 0)] = NONE
    features = make_features(bars[start:].reset_index(drop=True), rng)
    volatility = features["vol_20"].to_numpy().reshape(3, -1).T if rules.by_volatility else None
    wishes = Wishes(side, score, confidence, to_shares(confidence, volatility, rules), old)
    got = weigh_worlds(wishes, prices, SYMBOLS, bars=bars, rules=rules, exits=exits)
    assert 0 < (got != 0).mean() < 1
    for k in range(shape[1]):
        signals = features[["open_time", "time", "symbol"]].assign(
            score=score[:, k].T.ravel(),
            confidence=confidence[:, k].T.ravel(),
            signal=pd.Series(np.array(["HOLD", "BUY", "SELL"])[side[:, k].T.ravel()], dtype="str"),
            reason=pd.Series(np.where(old[:, k].T.ravel(), "old", ""), dtype="str"),
        )
        alone, _ = to_weights(
            SIGNALS.check(signals),
            prices,
            make_flat_state(SYMBOLS),
            bars=bars,
            rules=rules,
            exits=exits,
            features=features,
        )
        assert np.array_equal(got[k].T.ravel(), alone["weight"].to_numpy()), k
    # Worlds do not mind each other: in another company a world stays what it was.
    fewer = Wishes(*(part[:, 2:4] for part in (side, score, confidence, wishes.share, old)))
    assert np.array_equal(weigh_worlds(fewer, prices, SYMBOLS, bars=bars, rules=rules, exits=exits), got[2:4])


# ---------------------------------------------------------------------------------------------------------- the account


def make_market(quotes: dict[str, list[float]], closes: dict[str, list[float]], *, after: int = 50) -> worlds.Market:
    """Hourly bars whose opens and closes are given; sessions are UTC days."""
    bars = make_hours(len(next(iter(quotes.values()))))
    prices = make_prices(bars, {s: list(zip(quotes[s], closes[s], strict=True)) for s in quotes})
    flat = pd.concat([bars[["open_time", "time"]].assign(symbol=s, weight=0.0) for s in sorted(quotes)])
    weights = WEIGHTS.to_table(flat.astype({"symbol": "str"}))
    costs = Costs(fee=0.0, slippage=0.0, delisting_return=-0.5, delisted_after=after)
    return to_market(prices, weights, bars, costs=costs, orders=NO_RULES, exits=NO_EXITS)


def test_a_gain_runs_from_open_to_close_and_on_to_the_next_open() -> None:
    inside, after = worlds.make_gains(make_market({"A": [100, 110, 99]}, {"A": [105, 99, 198]}), delisting_return=-0.5)
    assert inside.T.tolist() == [pytest.approx([0.05, -0.1, 1.0])]
    assert after.T.tolist() == [pytest.approx([0.05, 0.0, 0.0])]  # of the open: 110 less 105 is 5 of 100


def test_where_a_bar_did_not_print_its_last_close_stands_for_it() -> None:
    market = make_market({"A": [NONE, 100, NONE, 120]}, {"A": [NONE, 80, NONE, 120]})
    inside, after = worlds.make_gains(market, delisting_return=-0.5)
    assert inside.T.tolist() == [pytest.approx([0, -0.2, 0, 0])]
    assert after.T.tolist() == [pytest.approx([0, 0, 0.5, 0])]  # from 80, which stands for the missing bar, to 120


def test_a_symbol_that_is_gone_earns_its_delisting_return_once() -> None:
    market = make_market({"A": [100, 100, NONE, NONE, NONE]}, {"A": [100, 80, NONE, NONE, NONE]}, after=3)
    inside, after = worlds.make_gains(market, delisting_return=-0.5)
    assert inside.T.tolist() == [pytest.approx([0, -0.2, 0, 0, 0])]
    assert after.T.tolist() == [pytest.approx([0, -0.4, 0, 0, 0])]  # the close of 80 halves to 40, of an open of 100


def test_dividends_and_funding_go_to_what_was_held_before() -> None:
    market = make_market({"A": [100, 100, 100]}, {"A": [100, 100, 100]})
    paid = np.array([[7.0], [5.0], [0.0]])
    inside, after = worlds.make_gains(market, delisting_return=-0.5, dividends=paid)
    assert inside.tolist() == [[0], [0], [0]]
    assert after.T.tolist() == [pytest.approx([0.05, 0, 0])]  # that of the first bar goes to nobody
    rates = (np.array([[0.5], [0.02], [0.0]]), np.array([[0.01], [0.0], [0.03]]))
    inside, after = worlds.make_gains(market, delisting_return=-0.5, rates=rates)
    assert inside.T.tolist() == [pytest.approx([-0.01, 0, -0.03])]
    assert after.T.tolist() == [pytest.approx([-0.02, 0, 0])]


def test_with_a_close_of_sessions_the_night_is_not_earned() -> None:
    opens, closes = [100.0] * 26, [100.0] * 26
    closes[23], opens[24] = 90.0, 200.0  # the last bar of the first day, and the first of the next
    market = make_market({"A": opens}, {"A": closes})
    assert worlds.make_gains(market, delisting_return=-0.5)[1][23, 0] == pytest.approx(1.1)
    inside, after = worlds.make_gains(market, delisting_return=-0.5, session_close=True)
    assert (inside[23, 0], after[23, 0]) == pytest.approx((-0.1, 0.0))


def test_an_account_earns_its_weights_less_the_cost_of_their_changes() -> None:
    inside = np.array([[0.10, 0.0], [0.02, -0.04], [0.0, 0.0], [0.01, 0.01]])
    gains = (inside, np.zeros((4, 2)))
    weights = np.array([[[0.5, 0.0], [0.5, -0.5], [0.5, -0.5], [0.0, 0.0]], [[0.0, 0.0]] * 4])
    every = np.ones((4, 2), bool)
    daily = worlds.earn(weights, gains, printed=every, cost=0.01, days=np.array([0, 2]))
    # 0.05 - 0.005, 0.01 + 0.02 - 0.005; then 0, and 1 of value left at 0.01.
    assert daily.tolist() == [pytest.approx([0.07, -0.01]), [0, 0]]
    # What a bar earns after its close comes to the day of the next, with the weight of the bar itself.
    nights = (inside, np.array([[0.0, 0.0], [0.2, 0.1], [0.0, 0.0], [9.0, 9.0]]))
    daily = worlds.earn(weights, nights, printed=every, cost=0.01, days=np.array([0, 2]))
    assert daily[0].tolist() == pytest.approx([0.07, -0.01 + 0.1 - 0.05])
    # An order at a bar that did not print waits for the next: the short of bar 1 begins at bar 2.
    printed = every.copy()
    printed[1, 1] = False
    daily = worlds.earn(weights, gains, printed=printed, cost=0.01, days=np.array([0, 2]))
    assert daily[0].tolist() == pytest.approx([0.045 + 0.01, -0.015])
    # Left at the close of the first day, and entered again on the second: two times 1 more is traded.
    daily = worlds.earn(weights, gains, printed=every, cost=0.01, days=np.array([0, 2]), flat=True)
    assert daily[0].tolist() == pytest.approx([0.07 - 0.01, -0.01 - 0.01])


def test_a_world_whose_days_are_all_equal_has_a_ratio_of_zero() -> None:
    daily = np.array([[0.0, 0.0, 0.0], [0.1, 0.1, 0.1], [0.01, 0.02, 0.03]])
    assert worlds.sharpe_ratios(daily, days_per_year=252).tolist() == pytest.approx([0, 0, 2 * np.sqrt(252)])
    assert worlds.sharpe_ratios(daily[:, 2:], days_per_year=252).tolist() == [0, 0, 0]  # of one day, and no warning


def test_ties_count_against_the_own_world_and_no_p_value_is_zero() -> None:
    assert worlds.to_p(1.0, np.array([0.0] * 98 + [2.0])) == 0.02
    assert worlds.to_p(1.0, np.zeros(99)) == 0.01
    assert worlds.to_p(0.0, np.zeros(99)) == 1.0
    assert worlds.to_p(0.3, np.full(99, 0.1 + 0.2 - 1e-13)) == 1.0  # the same but for its last digits


# ---------------------------------------------------------------------------------------------------------- the dealing


def test_units_are_dealt_within_their_group_alone_and_every_way_as_often() -> None:
    groups = np.array([5, 2, 5, 5, 9])
    dealt = worlds.deal_within(groups, 6000, np.random.default_rng(1))
    assert (np.sort(dealt, axis=1) == np.arange(5)).all()
    assert (groups[dealt] == groups).all()
    ways = [int((dealt[:, [0, 2, 3]] == way).all(axis=1).sum()) for way in product([0, 2, 3], repeat=3)]
    assert sorted(ways)[-6] > 900  # six ways of three, 1000 each
    assert sum(sorted(ways)[-6:]) == 6000


def test_a_turn_keeps_each_bar_at_its_place_in_a_day_and_no_turn_comes_twice() -> None:
    days = np.array([0, 3, 5, 8])  # of 3, 2, 3 and 2 bars
    turned = worlds.turn(days, 10, 99, np.random.default_rng(1))
    # By three days, by two and by one, in some order; a shorter day lends its last bar.
    expected = {
        (8, 9, 9, 0, 1, 3, 4, 4, 5, 6),
        (5, 6, 7, 8, 9, 0, 1, 2, 3, 4),
        (3, 4, 4, 5, 6, 8, 9, 9, 0, 1),
    }
    assert len(turned) == 3
    assert {tuple(row) for row in turned.tolist()} == expected


def test_contents_go_with_their_story_and_exchange_good_and_bad() -> None:
    said = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 0.0], [0.9, 0.8, 0.7, 0.6]])
    unit = np.array([0, 1, 0, 2])  # the first and the third text are one story
    dealt = worlds.deal_contents(said, unit, np.array([[0, 1, 2], [1, 2, 0]]))
    assert np.array_equal(dealt[0], said)
    # Story 0 says twice what story 1 said, story 1 what story 2 said, and story 2 the first text of story 0.
    assert dealt[1, 0].tolist() == [0.2, 0.4, 0.2, 0.1]
    flipped = worlds.flip_contents(said, unit, np.array([[False] * 3, [True, False, False]]))
    assert np.array_equal(flipped[0], said)
    assert flipped[1, 0].tolist() == [0.9, 0.2, 0.7, 0.4]
    assert flipped[1, 2].tolist() == [0.1, 0.8, 0.3, 0.6]


def test_a_circle_is_turned_by_bars_or_by_whole_days() -> None:
    assert worlds.turn_circle(4, np.array([1, 2])).tolist() == [[3, 0, 1, 2], [2, 3, 0, 1]]
    days = np.array([0, 3, 5])  # of 3, 2 and 2 bars
    assert worlds.turn_circle(7, np.array([1, 2]), days=days).tolist() == [
        [5, 6, -1, 0, 1, 3, 4],
        [3, 4, -1, 5, 6, 0, 1],
    ]


def test_turned_weights_keep_every_exposure() -> None:
    rng = np.random.default_rng(2)
    own = np.where(rng.random((30, 3)) < 0.4, rng.uniform(-1, 1, (30, 3)), 0.0)
    drawn = worlds.turn_weights(own, *worlds.draw_entries(30, 3, 50, rng))
    assert np.allclose(np.sort(np.abs(drawn).sum(axis=2)), np.sort(np.abs(own).sum(axis=1)))
    assert not any(np.array_equal(world, own) for world in drawn)
    days = np.arange(0, 30, 3)
    place = np.where(np.arange(30) % 3 == 1, 1.0, 0.0)[:, None]  # held at the second bar of each day alone
    drawn = worlds.turn_weights(place, *worlds.draw_entries(30, 1, 5, rng, days=days))
    assert np.array_equal(drawn, np.repeat(place[None], 5, axis=0))
