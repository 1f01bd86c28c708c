"""How large positions are, which ones a ranking takes, the limits of all of them, and that no mode sees the future."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from reference import NONE, make_prices
from signal_tables import MINUTE, make_hours, make_signal_table

from finsignal.backtest import Costs, run_backtest
from finsignal.clock import make_bars
from finsignal.errors import ConfigError, TableError
from finsignal.job.facts import oldest_fill
from finsignal.signals import NO_EXITS, ExitRules, WeightRules, make_flat_state, to_weights
from finsignal.signals.portfolio import Wishes, fit, rank, to_wishes
from finsignal.tables import FEATURES, SIGNALS, to_integers

# Without shrinking: an example is a seed, and a smaller seed is no simpler.
FEW = settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
BEFORE = 3  # bars at 100 before the first decision, so that a close is known at it


def weigh(
    words: Mapping[str, str],
    rules: WeightRules,
    *,
    scores: Mapping[str, object] | None = None,
    confidence: object = 0.9,
    volatility: Mapping[str, object] | None = None,
    reasons: Mapping[str, list[str]] | None = None,
    held: Mapping[str, float] | None = None,
    bars: pd.DataFrame | None = None,
    quotes: Mapping[str, list[float]] | None = None,
    exits: ExitRules = NO_EXITS,
) -> tuple[dict[str, list[float]], pd.DataFrame]:
    """Weights by symbol, and the state, of signals as letters; `held` began before the first of them."""
    count = len(next(iter(words.values())))
    bars = make_hours(BEFORE + count) if bars is None else bars
    prices = make_prices(bars, {s: [100.0] * BEFORE + (quotes or {}).get(s, [100.0] * count) for s in words})
    signals = make_signal_table(bars[BEFORE:].reset_index(drop=True), words, scores, confidence)
    if reasons is not None:
        told = [text for symbol in sorted(words) for text in reasons.get(symbol, [""] * count)]
        signals = SIGNALS.to_table(signals.assign(reason=pd.Series(told, dtype="str")))
    features = None
    if volatility is not None:
        features = signals[["open_time", "time", "symbol"]].assign(vol_20=NONE)
        for symbol, value in volatility.items():
            features.loc[features["symbol"] == symbol, "vol_20"] = value
    state = make_flat_state(list(words))
    for symbol, weight in (held or {}).items():
        row = state["symbol"] == symbol
        state.loc[row, "weight"] = weight
        state.loc[row, ["fill", "renewed"]] = bars["open_time"][1]
    weights, after = to_weights(signals, prices, state, bars=bars, rules=rules, exits=exits, features=features)
    return {s: weights.loc[weights["symbol"] == s, "weight"].tolist() for s in words}, after


def weigh_once(letters: str, rules: WeightRules, **options: object) -> dict[str, float]:
    """Of one bar, the weights that are not 0; the letters are those of symbols A, B, C and so on."""
    words = {chr(ord("A") + n): letter for n, letter in enumerate(letters)}
    return {s: w for s, (w,) in weigh(words, rules, **options)[0].items() if w}


# ------------------------------------------------------------------------------------------ the size of a position


def test_capital_and_positions_as_in_the_literature() -> None:
    """100,000 of capital, at most 5 positions of 10 % each: the sixth signal finds no slot, and half stays cash."""
    rules = WeightRules(slots=5, gross=1.0, holding=9, max_weight=0.1)
    bars = make_hours(BEFORE + 2)
    words = dict.fromkeys("ABCDEF", "B.")
    prices = make_prices(bars, {s: [100.0] * len(bars) for s in words})
    scores = {"A": 0.9, "B": 0.8, "C": 0.7, "D": 0.6, "E": 0.5, "F": 0.4}
    signals = make_signal_table(bars[BEFORE:].reset_index(drop=True), words, scores)
    weights, _ = to_weights(signals, prices, make_flat_state(list(words)), bars=bars, rules=rules)
    result = run_backtest(prices, weights, bars=bars, costs=Costs(0, 0, 0, 99), cash=100_000)
    assert result.orders["symbol"].tolist() == list("ABCDE")
    # 10 % of 100,000 at a price of 100 is 100 pieces.
    assert result.orders["quantity"].tolist() == pytest.approx([100.0] * 5)
    assert (result.orders["quantity"] * result.orders["price"]).sum() == pytest.approx(50_000)


# Five slots of a gross weight of 1: an equal position is 0.2.
FIVE = WeightRules(slots=5, gross=1.0, holding=9)


def test_by_confidence_a_position_is_its_part_of_a_slot() -> None:
    rules = replace(FIVE, sizing="confidence")
    got = weigh_once("BBB", rules, confidence={"A": 1.0, "B": 0.5, "C": 0.0})
    assert got == {"A": 0.2, "B": 0.1}  # 0.2 * 1, 0.2 * 0.5; 0.2 * 0 is none


def test_by_inverse_volatility_the_mean_over_all_known_symbols_has_an_equal_position() -> None:
    rules = replace(FIVE, sizing="inverse_volatility")
    volatility = {"A": 0.01, "B": 0.02, "C": 0.04, "D": NONE}
    # 1 / volatility is 100, 50 and 25, their mean 175 / 3; so 0.2 * 100 * 3 / 175 = 12 / 35, 6 / 35 and 3 / 35.
    got = weigh_once("BBBB", rules, volatility=volatility)
    assert got == pytest.approx({"A": 12 / 35, "B": 6 / 35, "C": 3 / 35})
    # The mean is over the symbols, not over those that enter.
    assert weigh_once("B...", rules, volatility=volatility) == pytest.approx({"A": 12 / 35})
    assert weigh_once("BBBB", replace(rules, max_weight=0.19), volatility=volatility) == pytest.approx(
        {"A": 0.19, "B": 0.19 * 6 / 7, "C": 0.19 * 3 / 7}  # the slot is 0.19, and A's 0.19 * 12 / 7 is cut to it
    )


def test_the_mean_over_symbols_is_the_same_to_the_last_bit_in_any_order() -> None:
    rules = replace(FIVE, sizing="inverse_volatility")
    bars, count = make_hours(2), 300
    signals = make_signal_table(bars, {f"S{n:03d}": "BB" for n in range(count)})
    rng = np.random.default_rng(0)
    volatility = rng.uniform(0.001, 0.1, (count, 2))
    order = rng.permutation(count)

    def shares(values: np.ndarray) -> np.ndarray:
        features = signals[["open_time", "time", "symbol"]].assign(vol_20=values.ravel())
        return to_wishes(signals, (count, 2), rules, features).share[:, 0]

    np.testing.assert_array_equal(shares(volatility[order]), shares(volatility)[:, order])


def test_by_target_volatility_a_position_is_equal_where_its_volatility_is_the_target() -> None:
    rules = replace(FIVE, sizing="target_volatility", target_volatility=0.02)
    # 0.2 * 0.02 / 0.01 = 0.4; 0.2; 0.2 * 0.02 / 0.08 = 0.05.
    got = weigh_once("BBB", rules, volatility={"A": 0.01, "B": 0.02, "C": 0.08})
    assert got == pytest.approx({"A": 0.4, "B": 0.2, "C": 0.05})
    # 0.2 * 20 = 4 is cut to max_weight, and what is left of the gross limit goes to B.
    capped = replace(rules, max_weight=0.9)
    assert weigh_once("BB", capped, volatility={"A": 0.001, "B": 0.01}, scores={"A": 0.9}) == pytest.approx(
        {"A": 0.9, "B": 0.1}
    )


@pytest.mark.parametrize("unknown", [NONE, 0.0])
@pytest.mark.parametrize("sizing", ["inverse_volatility", "target_volatility"])
def test_an_unknown_volatility_enters_nothing_leaves_nothing_and_takes_no_slot(sizing: str, unknown: float) -> None:
    target = 0.02 if sizing == "target_volatility" else 0.0
    rules = WeightRules(slots=1, gross=0.5, holding=9, sizing=sizing, target_volatility=target)
    volatility = {"A": [0.02, unknown, unknown, unknown], "B": 0.02}
    got, _ = weigh({"A": "B.SB", "B": "...B"}, rules, scores={"A": 0.9, "B": 0.1}, volatility=volatility)
    assert got == {"A": [0.5, 0.5, 0, 0], "B": [0, 0, 0, 0.5]}


def test_a_confidence_that_is_not_known_enters_nothing() -> None:
    rules = WeightRules(slots=1, gross=0.5, holding=9, sizing="confidence")
    assert weigh_once("BB", rules, scores={"A": 0.9, "B": 0.1}, confidence={"A": NONE, "B": 1.0}) == {"B": 0.5}


# ------------------------------------------------------------------------------------------------ limits of them all

# Four slots of a gross weight of 1, long and short: a position is 0.25. A is served first, then B, C, D.
FOUR = WeightRules(slots=4, gross=1.0, holding=9, short=True)
FIRST = {"A": 0.9, "B": 0.8, "C": 0.7, "D": 0.6}


def sign(letters: str, scores: Mapping[str, float] = FIRST) -> dict[str, float]:
    """The scores with the sign of their letter."""
    return {s: -scores[s] if letter == "S" else scores[s] for s, letter in zip(scores, letters, strict=False)}


@pytest.mark.parametrize(
    ("letters", "max_net", "expected"),
    [
        # Three longs are 0.75. C goes first (0.25), then 0.2 of B: 0.25 + 0.05 = 0.3.
        ("BBB.", 0.3, {"A": 0.25, "B": 0.05}),
        ("SSS.", 0.3, {"A": -0.25, "B": -0.05}),
        ("BBS.", 0.3, {"A": 0.25, "B": 0.25, "C": -0.25}),  # the orders of one bar balance each other
        ("BBS.", 0.0, {"A": 0.25, "C": -0.25}),
        ("BBBS", 0.25, {"A": 0.25, "B": 0.25, "D": -0.25}),
        ("B...", 0.0, {}),
    ],
)
def test_the_net_limit_cuts_what_is_served_last(letters: str, max_net: float, expected: dict[str, float]) -> None:
    got = weigh_once(letters, replace(FOUR, max_net=max_net), scores=sign(letters))
    assert got == pytest.approx(expected)


def test_the_net_limit_never_cuts_what_is_held() -> None:
    rules = replace(FOUR, max_net=0.3)
    assert weigh_once(".B..", rules, held={"A": 0.5}) == {"A": 0.5}
    assert weigh_once(".S..", rules, held={"A": 0.5}) == {"A": 0.5, "B": -0.25}


def test_the_turnover_limit_is_of_what_one_bar_enters() -> None:
    rules = replace(FOUR, max_turnover=0.3)
    assert weigh_once("BSB.", rules, scores=sign("BSB.")) == pytest.approx({"A": 0.25, "B": -0.05})
    # Leaving is never held back, and a position that is turned round enters with its new side.
    assert weigh_once("SSS.", rules, scores=sign("SSS."), held={"A": 0.25, "B": 0.25}) == pytest.approx(
        {"A": -0.25, "B": -0.05}
    )
    got, _ = weigh({"A": "B..", "B": "BB.", "C": ".B."}, rules, scores=FIRST)
    assert got["C"] == pytest.approx([0, 0.25, 0.25])
    assert got["B"] == pytest.approx([0.05] * 3)  # held already: a limit's rest is not made up for


def test_long_and_short_may_hold_twice_the_equity() -> None:
    rules = WeightRules(slots=4, gross=2.0, holding=9, short=True)
    assert weigh_once("BBSS", rules) == {"A": 0.5, "B": 0.5, "C": -0.5, "D": -0.5}


@FEW
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0.2]), st.sampled_from([0.0, 0.3, 1.0]))
def test_limits_cut_growth_and_never_what_is_held(seed: int, max_turnover: float | None, max_net: float) -> None:
    rng = np.random.default_rng(seed)
    rules = WeightRules(9, 1.0, 9, short=True, max_net=max_net, max_turnover=max_turnover)
    for _ in range(200):
        new = np.where(rng.random(8) < 0.5, 0, rng.uniform(-0.4, 0.4, 8))
        want = np.where(new == 0, rng.uniform(-0.4, 0.4, 8), new * rng.uniform(1, 2, 8))
        order = rng.permutation(8)
        got = fit(new[None], want[None], order[None], rules, count=np.array([8]))[0]
        assert (np.abs(got) >= np.abs(new)).all()
        assert (np.abs(got) <= np.abs(want) + 1e-12).all()
        assert ((got == 0) | (np.sign(got) == np.sign(want))).all()
        assert np.abs(got).sum() <= max(1.0, np.abs(new).sum()) + 1e-9
        assert abs(got.sum()) <= max(max_net, abs(new.sum())) + 1e-9
        assert max_turnover is None or np.abs(got - new).sum() <= max_turnover + 1e-9


# ------------------------------------------------------------------------------------------------------- by rank


def test_the_highest_scores_are_long_and_the_lowest_short() -> None:
    scores = {"A": 0.1, "B": 0.9, "C": 0.5, "D": -0.2, "E": -0.7, "F": -0.6}
    rules = WeightRules(slots=9, gross=0.9, holding=9, short=True, rank=2)
    # Longs B and C, shorts E and F: four names share 0.9.
    assert weigh_once("BBBSSS", rules, scores=scores) == pytest.approx(
        {"B": 0.225, "C": 0.225, "E": -0.225, "F": -0.225}
    )
    # Without a short side SELL stands on neither, and the longs have all of it.
    assert weigh_once("BBBSSS", replace(rules, short=False), scores=scores) == pytest.approx({"B": 0.45, "C": 0.45})
    # A signal says who may stand on which side: B is the highest and says HOLD, C says SELL and is not low enough.
    assert weigh_once("B.SSSS", rules, scores=scores) == pytest.approx({"A": 0.3, "E": -0.3, "F": -0.3})


def test_equal_scores_go_by_confidence_and_then_by_name() -> None:
    rules = WeightRules(slots=9, gross=1.0, holding=9, rank=2)
    sure = {"A": 0.7, "B": 0.8, "C": 0.9, "D": 0.8}
    assert set(weigh_once("BBBB", rules, confidence=sure)) == {"B", "C"}
    assert set(weigh_once("BBBB", rules)) == {"A", "B"}


def test_a_score_that_is_not_known_has_no_rank() -> None:
    rules = WeightRules(slots=9, gross=1.0, holding=9, rank=3)
    assert weigh_once("BBB", rules, scores={"A": NONE, "B": 0.1, "C": 0.2}) == {"B": 0.5, "C": 0.5}
    held, _ = weigh({"A": "BB", "B": "BB"}, replace(rules, rank=1), scores={"A": [0.9, NONE], "B": 0.1})
    assert held == {"A": [1, 0], "B": [0, 1]}  # nor does it keep one


def test_a_quantile_is_of_the_symbols_with_a_known_score() -> None:
    rules = WeightRules(slots=99, gross=1.0, holding=9, quantile=0.25)
    scores = {letter: n / 10 for n, letter in enumerate("ABCDEFGH")}
    # A quarter of 8 is 2; of 7, the last not being known, 1.75, of which the whole part counts.
    assert weigh_once("BBBBBBBB", rules, scores=scores) == {"G": 0.5, "H": 0.5}
    assert weigh_once("BBBBBBBB", rules, scores=scores | {"H": NONE}) == {"G": 1.0}
    assert weigh_once("BBB", rules, scores=scores) == {}


def test_a_quantile_that_a_float_misses_by_a_hair_is_whole() -> None:
    assert 0.29 * 100 < 29
    ones = np.ones((1, 100))
    wishes = Wishes(*(array[None] for array in (ones.astype(int), np.linspace(-1, 1, 100)[None], ones, ones, ones < 0)))
    rules = WeightRules(slots=100, gross=1.0, holding=9, quantile=0.29)
    side = rank(wishes, 0, rules, barred=np.zeros((1, 100), dtype=bool), free=np.array([100]))[0]
    assert np.flatnonzero(side).tolist() == list(range(71, 100))


NEUTRAL = WeightRules(slots=9, gross=0.8, holding=9, short=True, rank=3, neutral=True)


def test_neutral_sides_have_the_same_number_of_names_and_half_the_gross_weight() -> None:
    scores = {"A": 0.9, "B": 0.5, "C": 0.1, "D": -0.9, "E": -0.1}
    assert weigh_once("BBBS.", NEUTRAL, scores=scores) == {"A": 0.4, "D": -0.4}
    assert weigh_once("BBBSS", NEUTRAL, scores=scores) == {"A": 0.2, "B": 0.2, "D": -0.2, "E": -0.2}
    assert weigh_once("BBB..", NEUTRAL, scores=scores) == {}
    # Three slots hold one pair.
    assert weigh_once("BBBSS", replace(NEUTRAL, slots=3), scores=scores) == {"A": 0.4, "D": -0.4}
    # Without neutral three slots go to the largest of either side.
    free = replace(NEUTRAL, neutral=False, slots=3)
    assert weigh_once("BBBSS", free, scores=scores) == pytest.approx(dict.fromkeys("AB", 0.8 / 3) | {"D": -0.8 / 3})


def test_neutral_sides_stay_equal_where_one_is_cut_by_the_limit_of_a_position() -> None:
    rules = replace(NEUTRAL, gross=1.0, sizing="inverse_volatility", max_weight=0.3)
    # Longs: 100 and 25 of 125 are 0.4 and 0.1 of a half, and 0.4 is cut to 0.3. Shorts: 0.25 each, which are 0.5 and
    # must be 0.4 too.
    got = weigh_once("BBSS", rules, scores=sign("BBSS"), volatility={"A": 0.01, "B": 0.04, "C": 0.02, "D": 0.02})
    assert got == pytest.approx({"A": 0.3, "B": 0.1, "C": -0.2, "D": -0.2})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sizing": "confidence"}, {"A": 0.6, "B": 0.3}),  # 0.8 and 0.4 of 1.2
        ({"sizing": "inverse_volatility"}, {"A": 0.3, "B": 0.6}),  # 50 and 100 of 150
        # 0.9 / 2 * 0.01 / 0.02 and 0.9 / 2 * 0.01 / 0.01 sum to less than 0.9, and stay.
        ({"sizing": "target_volatility", "target_volatility": 0.01}, {"A": 0.225, "B": 0.45}),
        # 0.9 / 2 * 2 and 0.9 / 2 * 4 sum to three times 0.9.
        ({"sizing": "target_volatility", "target_volatility": 0.04}, {"A": 0.3, "B": 0.6}),
    ],
)
def test_within_a_side_weights_follow_the_sizing(options: dict, expected: dict[str, float]) -> None:
    rules = WeightRules(slots=9, gross=0.9, holding=9, rank=2, **options)
    sure, volatility = {"A": 0.8, "B": 0.4, "C": 0.9}, {"A": 0.02, "B": 0.01, "C": NONE}
    got = weigh_once("BB.", rules, confidence=sure, volatility=volatility)
    assert got == pytest.approx(expected)


def test_a_name_without_a_size_takes_no_place() -> None:
    rules = WeightRules(slots=9, gross=0.9, holding=9, rank=1, sizing="inverse_volatility")
    assert weigh_once("BB", rules, scores=FIRST, volatility={"B": 0.02}) == {"B": 0.9}


DAYS = make_bars("XNYS", "1d", start="2024-02-28", end="2024-03-16", latency=MINUTE)  # three days and two weeks
WEEKLY = WeightRules(slots=9, gross=0.8, holding=99, short=True, rank=1, rebalance="week")


def test_between_rebalances_only_exits_act() -> None:
    # Letters from Monday 4 March on. In the first week A says BUY on Monday alone; B says it on Tuesday, too late.
    words = {"A": "B.... .....", "B": ".BBBB .....", "C": "..... B....", "D": "SS.B. ....."}
    words = {s: letters.replace(" ", "") for s, letters in words.items()}
    got, _ = weigh(words, WEEKLY, bars=DAYS, scores=FIRST | {"D": -0.9})
    assert got["A"] == [0.4] * 5 + [0] * 5  # what the second Monday does not pick is left
    assert got["B"] == [0] * 10
    assert got["C"] == [0] * 5 + [0.8] * 5
    assert got["D"] == [-0.4] * 3 + [0] * 7  # the BUY of Thursday leaves the short, and enters nothing


def test_between_rebalances_the_holding_period_ends_and_is_not_renewed() -> None:
    got, _ = weigh({"A": "BBBBBB...."}, replace(WEEKLY, holding=3), bars=DAYS)
    assert got["A"] == [0.8] * 3 + [0] * 2 + [0.8] * 3 + [0] * 2
    # A rebalance that picks it again renews it, also at the very end of its period.
    got, _ = weigh({"A": "B....B...."}, replace(WEEKLY, holding=5), bars=DAYS)
    assert got["A"] == [0.8] * 10


def test_by_session_and_by_month() -> None:
    bars = make_bars("XNYS", "1h", start="2024-02-27", end="2024-03-05", latency=MINUTE)
    words = {"A": "B" * (len(bars) - BEFORE)}  # hours from Tuesday 12:30 on, seven a session
    daily, monthly = (weigh(words, replace(WEEKLY, rebalance=p), bars=bars)[0]["A"] for p in ("session", "month"))
    assert daily == [0] * 4 + [0.8] * (len(daily) - 4)  # from Wednesday's open on
    assert monthly == [0] * 18 + [0.8] * (len(monthly) - 18)  # Friday is 1 March
    assert bars["session"].iloc[BEFORE + 18] == "2024-03-01"


def test_a_position_is_resized_where_its_weight_changes_by_more_than_the_band() -> None:
    rules = WeightRules(slots=9, gross=1.0, holding=99, rank=2, sizing="confidence")
    sure = {"A": [0.5, 0.6, 0.9], "B": [0.5, 0.4, 0.1]}
    loose, after = weigh({"A": "BBB", "B": "BBB"}, replace(rules, band=0.1), confidence=sure)
    assert loose == {"A": [0.5, 0.5, pytest.approx(0.9)], "B": [0.5, 0.5, pytest.approx(0.1)]}
    tight, _ = weigh({"A": "BBB", "B": "BBB"}, replace(rules, band=0.05), confidence=sure)
    assert tight["A"] == pytest.approx([0.5, 0.6, 0.9])
    assert tight["B"] == pytest.approx([0.5, 0.4, 0.1])
    # It is still the position that was filled at the first bar.
    hours = make_hours(6)["open_time"]
    assert after["fill"].tolist() == [hours[3], hours[3]]
    assert after["renewed"].tolist() == [hours[5], hours[5]]


def test_a_resized_position_keeps_the_anchor_of_its_stop() -> None:
    rules = WeightRules(slots=9, gross=1.0, holding=99, rank=2, sizing="confidence")
    # Filled at 100 and resized at bar 1 at 160: the stop stays at 75, which bar 2 closes at. The ranking picks it again
    # at the bar of the stop, and may not.
    got, _ = weigh(
        {"A": "BBBBBB", "B": "BBBBBB"},
        rules,
        confidence={"A": [0.5, 0.6, 0.6, 0.6, 0.6, 0.6], "B": [0.5, 0.4, 0.4, 0.4, 0.4, 0.4]},
        quotes={"A": [100, 160, 75, 75, 75, 75]},
        exits=ExitRules(stop_loss=0.25),
    )
    assert got["A"] == pytest.approx([0.5, 0.6, 0.6, 0.6, 0, 0.6])
    assert got["B"] == pytest.approx([0.5, 0.4, 0.4, 0.4, 1.0, 0.4])


def test_a_stopped_name_leaves_its_place_to_the_next() -> None:
    rules = WeightRules(slots=9, gross=1.0, holding=99, rank=1)
    got, _ = weigh(
        {"A": "BBBB", "B": "BBBB"},
        rules,
        scores=FIRST,
        quotes={"A": [75, 75, 75, 75]} | {"B": [100] * 4},
        exits=ExitRules(trailing_stop=0.25),
    )
    assert got == {"A": [1, 1, 1, 1], "B": [0, 0, 0, 0]}  # filled at 75: no loss
    got, _ = weigh(
        {"A": "BBBB", "B": "BBBB"},
        rules,
        scores=FIRST,
        quotes={"A": [100, 75, 75, 75]},
        exits=ExitRules(stop_loss=0.25),
    )
    assert got == {"A": [1, 1, 1, 0], "B": [0, 0, 0, 1]}


def test_what_old_data_holds_keeps_its_position_and_its_part_of_every_limit() -> None:
    rules = WeightRules(slots=2, gross=1.0, holding=99, rank=2)
    words = {"A": "B..", "B": "B.B", "C": ".BB"}
    reasons = {"A": ["", "prices stale", "prices stale"]}
    got, _ = weigh(words, rules, scores=FIRST, reasons=reasons)
    # A stays with its half; of the one slot left B has it at bar 2, for its score is larger than C's.
    assert got == {"A": [0.5, 0.5, 0.5], "B": [0.5, 0, 0.5], "C": [0, 0.5, 0]}
    without, _ = weigh(words, rules, scores=FIRST)
    assert without == {"A": [0.5, 0, 0], "B": [0.5, 0, 0.5], "C": [0, 1.0, 0.5]}
    # Its holding period still ends.
    ends, _ = weigh(words, replace(rules, holding=2), scores=FIRST, reasons=reasons)
    assert ends["A"] == [0.5, 0.5, 0]


def test_a_neutral_book_counts_what_old_data_holds() -> None:
    # A stays with 0.4, so 0.4 is left for a pair; the long of 0.2 would make the book long by 0.4 and goes.
    got, _ = weigh(
        {"A": "B.", "B": "SS", "C": ".B"},
        replace(NEUTRAL, rank=1),
        scores=FIRST | {"B": -0.8},
        reasons={"A": ["", "news silent"]},
    )
    assert got == {"A": [0.4, 0.4], "B": [-0.4, pytest.approx(-0.2)], "C": [0, 0]}


# -------------------------------------------------------------------------------------------- what cannot be meant


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gross": 1.5}, r"gross \(above 0, at most 1: nothing here borrows\), got 1.5"),
        ({"gross": 2.5, "short": True}, r"gross \(above 0, at most 2: 1 long and 1 short\), got 2.5"),
        ({"max_net": 1.5}, r"max_net \(0 to 1\), got 1.5"),
        ({"max_net": -0.1}, "max_net"),
        ({"max_net": NONE}, "max_net"),
        ({"max_turnover": 0.0}, r"max_turnover \(above 0\), got 0.0"),
        ({"max_turnover": NONE}, "max_turnover"),
        ({"sizing": "kelly"}, "sizing .one of equal, confidence, inverse_volatility, target_volatility., got kelly"),
        ({"sizing": "target_volatility"}, "target_volatility .above 0 with sizing = 'target_volatility', else not"),
        ({"sizing": "target_volatility", "target_volatility": np.inf}, "target_volatility .* got inf"),
        ({"sizing": "target_volatility", "target_volatility": NONE}, "target_volatility"),
        ({"target_volatility": 0.01}, "target_volatility .* got 0.01"),
        ({"target_volatility": -0.01}, "target_volatility .* got -0.01"),
        ({"target_volatility": NONE}, "target_volatility .* got nan"),
        ({"rank": -1}, r"rank \(0 or more\), got -1"),
        ({"quantile": 0.6}, r"quantile \(0 to 0.5, without rank\), got 0.6"),
        ({"quantile": -0.1}, "quantile"),
        ({"quantile": NONE}, "quantile"),
        ({"quantile": 0.2, "rank": 3}, r"quantile \(0 to 0.5, without rank\), got 0.2"),
        (
            {"rebalance": "week"},
            "rebalance .one of bar, session, week, month; 'bar' without rank or quantile., got week",
        ),
        ({"rebalance": "year", "rank": 1}, "rebalance .* got year"),
        ({"neutral": True}, r"neutral \(only by rank, with short\), got True"),
        ({"neutral": True, "rank": 1}, "neutral"),
        ({"neutral": True, "short": True}, "neutral"),
        ({"band": 0.1}, r"band \(0 or more, only by rank\), got 0.1"),
        ({"band": -0.1, "rank": 1}, "band"),
        ({"band": NONE, "rank": 1}, "band"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"weights: expected {sentence}"):
        WeightRules(**{"slots": 2, "gross": 1.0, "holding": 3, **options})


@pytest.mark.parametrize("sizing", ["inverse_volatility", "target_volatility"])
def test_a_sizing_by_volatility_needs_the_features_of_its_signals(sizing: str) -> None:
    target = 0.02 if sizing == "target_volatility" else 0.0
    rules = WeightRules(2, 1.0, 3, sizing=sizing, target_volatility=target)
    bars = make_hours(6)
    signals = make_signal_table(bars, {"A": "B.....", "B": "......"})
    prices = make_prices(bars, {s: [100.0] * 6 for s in "AB"})
    rows = FEATURES.to_table(signals[["open_time", "time", "symbol"]].assign(vol_20=0.01))

    def refusal(features: pd.DataFrame | None) -> str:
        with pytest.raises(TableError) as caught:
            to_weights(signals, prices, make_flat_state("AB"), bars=bars, rules=rules, features=features)
        return str(caught.value)

    assert f"sizing = '{sizing}' needs the column 'vol_20', got no features" in refusal(None)
    assert "got ['open_time', 'time', 'symbol', 'vol_2']" in refusal(rows.rename(columns={"vol_20": "vol_2"}))
    assert "expected the rows of the signals" in refusal(rows[1:])
    assert "expected the rows of the signals" in refusal(rows[::-1])
    shifted = make_signal_table(make_hours(7)[1:].reset_index(drop=True), {"A": "......", "B": "......"})
    assert "expected the rows of the signals" in refusal(shifted[["open_time", "time", "symbol"]].assign(vol_20=0.01))


# ------------------------------------------------------------------------------- every mode, on random markets

SYMBOLS = list("ABCDEF")
STOPS = ExitRules(stop_loss=0.02, take_profit=0.05, trailing_stop=0.03)
EVENTS = WeightRules(slots=3, gross=0.9, holding=4, short=True, max_weight=0.4, max_net=0.35, max_turnover=0.5)
RANKED = WeightRules(slots=5, gross=0.9, holding=9, short=True, rank=2, max_weight=0.3, max_net=0.4, max_turnover=0.6)
MODES: dict[str, tuple[WeightRules, ExitRules]] = {
    "equal": (EVENTS, NO_EXITS),
    "confidence": (replace(EVENTS, sizing="confidence"), NO_EXITS),
    "inverse volatility": (replace(EVENTS, sizing="inverse_volatility"), NO_EXITS),
    "target volatility": (replace(EVENTS, sizing="target_volatility", target_volatility=0.02), NO_EXITS),
    "stops": (EVENTS, STOPS),
    "resting stops": (EVENTS, replace(STOPS, resting=True)),
    "session close": (EVENTS, ExitRules(session_close=True)),
    "session close and stops": (EVENTS, replace(STOPS, session_close=True)),
    "rank by bar": (replace(RANKED, sizing="confidence", band=0.05), NO_EXITS),
    "rank by session": (replace(RANKED, rebalance="session", sizing="inverse_volatility", neutral=True), NO_EXITS),
    "quantile by week": (replace(RANKED, rank=0, quantile=0.4, rebalance="week"), NO_EXITS),
    "rank by month": (replace(RANKED, rebalance="month", holding=30, short=False, max_net=1.0), NO_EXITS),
    "rank by week with stops": (replace(RANKED, rebalance="week", neutral=True, max_turnover=None), STOPS),
    "rank with session close": (replace(RANKED, rebalance="session"), ExitRules(session_close=True)),
}
LENGTHS = {"hours": ("1h", "2024-03-14"), "days": ("1d", "2024-05-10")}  # 9 sessions of seven bars; 49 bars


@dataclass(frozen=True)
class World:
    bars: pd.DataFrame
    prices: pd.DataFrame
    signals: pd.DataFrame
    features: pd.DataFrame


@cache
def make_grid(length: str) -> pd.DataFrame:
    bar, end = LENGTHS[length]
    return make_bars("XNYS", bar, start="2024-03-01", end=end, latency=MINUTE)


@cache
def make_world(seed: int, length: str = "hours") -> World:
    """Random prices with holes and late rows, random signals, of which some are held for old data."""
    rng = np.random.default_rng(seed)
    bars = make_grid(length)
    count = len(bars)
    quotes = {}
    for symbol in SYMBOLS:
        ends = 100 * np.exp(np.cumsum(rng.normal(0, 0.015, (count, 2))).reshape(count, 2))
        ends[rng.random(count) < 0.15] = NONE
        reach = rng.uniform(1, 1.02, (count, 2))
        high, low = ends.max(axis=1) * reach[:, 0], ends.min(axis=1) / reach[:, 1]
        quotes[symbol] = list(map(tuple, np.column_stack([ends[:, 0], high, low, ends[:, 1]]).tolist()))
    prices = make_prices(bars, quotes)
    prices["time"] += pd.to_timedelta(rng.integers(0, 90, len(prices)) * (rng.random(len(prices)) < 0.3), unit="min")
    prices = prices.sort_values(["symbol", "time"], kind="stable", ignore_index=True)
    old = rng.random((len(SYMBOLS), count)) < 0.1
    words, scores, sure = {}, {}, {}
    for symbol, held in zip(SYMBOLS, old, strict=True):
        score = rng.uniform(-1, 1, count)
        words[symbol] = "".join(np.where(held | (np.abs(score) < 0.4), ".", np.where(score > 0, "B", "S")))
        scores[symbol] = np.where(rng.random(count) < 0.1, NONE, score)
        sure[symbol] = np.where(rng.random(count) < 0.05, NONE, rng.uniform(0, 1, count))
    signals = make_signal_table(bars, words, scores, sure)
    signals = SIGNALS.to_table(signals.assign(reason=pd.Series(np.where(old.ravel(), "old", ""), dtype="str")))
    volatility = np.where(rng.random(len(signals)) < 0.1, NONE, rng.uniform(0.005, 0.04, len(signals)))
    return World(bars, prices, signals, signals[["open_time", "time", "symbol"]].assign(vol_20=volatility))


def go(
    world: World, mode: str, state: pd.DataFrame | None = None, first: int = 0, last: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Weights and state of the bars first to before last, decided on all of the world's tables."""
    rules, exits = MODES[mode]
    opens = world.bars["open_time"][first:last]
    rows = world.signals["open_time"].isin(opens)
    return to_weights(
        world.signals[rows].reset_index(drop=True),
        world.prices,
        make_flat_state(SYMBOLS) if state is None else state,
        bars=world.bars,
        rules=rules,
        exits=exits,
        features=world.features[rows].reset_index(drop=True),
    )


def widen(weights: pd.DataFrame) -> np.ndarray:
    return weights.pivot(index="open_time", columns="symbol", values="weight").to_numpy()


def check_same(whole: tuple[pd.DataFrame, pd.DataFrame], pieces: list[pd.DataFrame], state: pd.DataFrame) -> None:
    weights = pd.concat(pieces).sort_values(["symbol", "time"], ignore_index=True)
    pd.testing.assert_frame_equal(weights, whole[0], check_exact=True)
    pd.testing.assert_frame_equal(state, whole[1], check_exact=True)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("mode", MODES)
def test_a_stretch_decided_in_pieces_is_the_stretch_decided_at_once(mode: str, length: str) -> None:
    world = make_world(11, length)
    whole = go(world, mode)
    assert np.count_nonzero(widen(whole[0])) > 0
    count = len(world.bars)
    edges = [0, *sorted(np.random.default_rng(1).choice(np.arange(1, count), 5, replace=False).tolist()), count]
    state, pieces = make_flat_state(SYMBOLS), []
    for first, last in itertools.pairwise(edges):
        part, state = go(world, mode, state, first, last)
        pieces.append(part)
    check_same(whole, pieces, state)


@pytest.mark.parametrize("length", ["days", pytest.param("hours", marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", MODES)
def test_a_job_that_knows_only_what_is_recent_and_known_decides_the_same(mode: str, length: str) -> None:
    """Bar by bar, each with the bars that its lookback and the fills of its state ask for, and rows known by then."""
    world, (rules, _) = make_world(12, length), MODES[mode]
    grid, decisions = to_integers(world.bars["open_time"]), to_integers(world.bars["time"])
    times = to_integers(world.prices["time"])
    state, pieces = make_flat_state(SYMBOLS), []
    for k in range(len(world.bars)):
        fill, low = oldest_fill(state), max(k - rules.holding - 1, 0)
        if fill is not None:
            low = min(low, int(np.searchsorted(grid, to_integers(pd.DatetimeIndex([fill]))[0])))
        early = world.prices[times < decisions[low]].groupby("symbol").tail(1).index  # the newest of each symbol
        known = (times <= decisions[k]) & ((times >= decisions[low]) | world.prices.index.isin(early))
        near = replace(
            world,
            bars=world.bars[low : k + 1].reset_index(drop=True),
            prices=world.prices[known].reset_index(drop=True),
        )
        part, state = go(near, mode, state, first=k - low)
        pieces.append(part)
    check_same(go(world, mode), pieces, state)


@pytest.mark.parametrize("mode", MODES)
@FEW
@given(st.integers(0, 2**32 - 1), st.integers(20, 45), st.sampled_from(list(LENGTHS)))
def test_what_comes_later_changes_no_past_decision(mode: str, seed: int, bar: int, length: str) -> None:
    world, other = make_world(seed, length), make_world(seed + 1, length)
    at = world.bars["time"][bar]
    whole = go(world, mode)[0]
    whole = whole[whole["time"] <= at].reset_index(drop=True)
    known = world.prices["time"] <= at
    noise = world.prices.copy()
    noise.loc[~known, ["open", "high", "low", "close"]] *= 1.9
    changed = {
        name: table.where(table["time"] <= at, getattr(other, name))
        for name, table in (("signals", world.signals), ("features", world.features))
    }
    for future in (
        replace(world, prices=world.prices[known].reset_index(drop=True)),
        replace(world, prices=noise),
        replace(world, **changed),
        replace(world, bars=world.bars[: bar + 1]),
    ):
        again = go(future, mode, last=bar + 1)[0]
        pd.testing.assert_frame_equal(again, whole, check_exact=True)
        if len(future.bars) == len(world.bars):
            longer = go(future, mode)[0]
            longer = longer[longer["time"] <= at].reset_index(drop=True)
            pd.testing.assert_frame_equal(longer, whole, check_exact=True)


@pytest.mark.parametrize("mode", MODES)
def test_the_names_of_symbols_change_nothing(mode: str) -> None:
    """No two scores are equal here, so no name breaks a tie. Sums over symbols may differ in their last digits."""
    world = make_world(13)
    turned = dict(zip(SYMBOLS, reversed(SYMBOLS), strict=True))

    def rename(table: pd.DataFrame) -> pd.DataFrame:
        renamed = table.assign(symbol=table["symbol"].map(turned).astype("str"))
        return renamed.sort_values(["symbol", "time"], kind="stable", ignore_index=True)

    other = World(world.bars, *(rename(t) for t in (world.prices, world.signals, world.features)))
    mirrored = widen(go(other, mode)[0])[:, ::-1]
    np.testing.assert_allclose(mirrored, widen(go(world, mode)[0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@FEW
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(LENGTHS)))
def test_limits_hold_at_every_bar(mode: str, seed: int, length: str) -> None:
    rules, exits = MODES[mode]
    world = make_world(seed, length)
    new = widen(go(world, mode)[0])
    old = np.vstack([np.zeros(len(SYMBOLS)), new[:-1]])
    if exits.session_close:
        old[np.append(True, np.diff(pd.factorize(world.bars["session"])[0]) != 0)] = 0.0
    assert np.abs(new).sum(axis=1).max() <= rules.gross + 1e-9
    assert np.abs(new).max() <= rules.max_weight + 1e-12
    assert np.count_nonzero(new, axis=1).max() <= rules.slots
    # What is kept is the smaller of before and after on the same side; the rest of after is entered at this bar.
    kept = np.where(np.sign(old) == np.sign(new), np.sign(new) * np.minimum(np.abs(old), np.abs(new)), 0.0)
    entered = np.abs(new - kept).sum(axis=1)
    if rules.max_turnover is not None:
        assert entered.max() <= rules.max_turnover + 1e-9
    net, before = np.abs(new.sum(axis=1)), np.abs(kept.sum(axis=1))
    limit = 0.0 if rules.neutral else rules.max_net
    entering = entered > 1e-9
    assert (net[entering] <= np.maximum(limit, before[entering]) + 1e-9).all()
    assert rules.short or (new >= 0).all()
    if not rules.by_rank:  # held or left, and nothing between
        stays = (np.sign(old) == np.sign(new)) & (new != 0)
        np.testing.assert_array_equal(new[stays], old[stays])


@pytest.mark.parametrize(
    "mode", [m for m, (_, exits) in MODES.items() if exits != NO_EXITS and "with session" not in m]
)
def test_exits_leave_what_would_be_held_without_them(mode: str) -> None:
    world, (rules, _) = make_world(11), MODES[mode]
    flat = make_flat_state(SYMBOLS)
    free, _ = to_weights(world.signals, world.prices, flat, bars=world.bars, rules=rules, features=world.features)
    ours, theirs = widen(go(world, mode)[0]), widen(free)
    first = int((ours != theirs).any(axis=1).argmax())
    held = (theirs[first] != 0) & (theirs[first] == theirs[first - 1])
    assert (held & (ours[first] == 0)).any()


def test_a_state_without_bars_before_it_is_refused_by_every_mode() -> None:
    world = make_world(11, "days")
    late = replace(world, bars=world.bars[45:].reset_index(drop=True))
    refused = set()
    for mode in MODES:
        _, state = go(world, mode, last=40)
        if (state["weight"] != 0).any():
            with pytest.raises(TableError, match="let bars reach back to it"):
                go(late, mode, state, first=0, last=3)
            refused.add(mode)
    assert len(refused) > 9
