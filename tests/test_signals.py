"""What signals and weights are: tables of cases by hand, and one code path that never sees the future."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from reference import NONE, make_prices
from signal_tables import HOUR, MINUTE, START, WORD, make_hours, make_signal_table

from finsignal.backtest import Costs, run_backtest
from finsignal.clock import make_bars
from finsignal.errors import ConfigError, TableError
from finsignal.features import FUNDING_LOOKBACK, LOOKBACK, OPEN_INTEREST_LOOKBACK
from finsignal.signals import (
    NO_LIMITS,
    TOLD,
    Decided,
    Limits,
    NewsRules,
    WeightRules,
    decide,
    lookback,
    make_flat_state,
    make_signals,
    to_limited,
    to_signal,
    to_weights,
)
from finsignal.tables import (
    FEATURES,
    FUNDING,
    INSTANT,
    NEWS,
    OPEN_INTEREST,
    PARAMETERS,
    PRICES,
    SENTIMENT,
    SIGNALS,
    WEIGHTS,
)

# Without shrinking: an example is a seed, and a smaller seed is no simpler.
FEW = settings(max_examples=5, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
ONE = WeightRules(slots=1, gross=1.0, holding=3)


def make_parameters(rows: list[tuple[str, str, float]] | None = None) -> pd.DataFrame:
    frame = pd.DataFrame(rows or [], columns=["time", "name", "value"])
    return PARAMETERS.to_table(frame.assign(time=pd.to_datetime(frame["time"], utc=True, format="ISO8601")))


def targets(
    words: Mapping[str, str],
    rules: WeightRules = ONE,
    printed: Mapping[str, str] | None = None,
    bars: pd.DataFrame | None = None,
    **signal: object,
) -> dict[str, list[float]]:
    """The target weights of signals given as letters; `printed` marks bars without a price row with an x."""
    count = len(next(iter(words.values())).replace(" ", ""))
    bars = make_hours(count + 3) if bars is None else bars
    quotes = {s: [100.0] * len(bars) for s in words}
    for symbol, marks in (printed or {}).items():
        quotes[symbol][3:] = [NONE if mark == "x" else 100.0 for mark in marks]
    decided = bars[3:].reset_index(drop=True)
    signals = make_signal_table(decided, words, **signal)
    weights, _ = to_weights(signals, make_prices(bars, quotes), make_flat_state(list(words)), bars=bars, rules=rules)
    return {s: weights.loc[weights["symbol"] == s, "weight"].tolist() for s in words}


# ---------------------------------------------------------------------------------------------------- one signal


@pytest.mark.parametrize(
    ("score", "confidence", "signal"),
    [
        (0.3, 0.6, "BUY"),  # at the thresholds
        (np.nextafter(0.3, 0), 0.6, "HOLD"),
        (0.3, np.nextafter(0.6, 0), "HOLD"),
        (1.0, 1.0, "BUY"),
        (0.0, 1.0, "HOLD"),
        (-0.3, 1.0, "HOLD"),  # the sell threshold is 0.4
        (-0.4, 0.6, "SELL"),
        (np.nextafter(-0.4, 0), 0.6, "HOLD"),
        (-0.4, 0.59, "HOLD"),
        (NONE, 0.9, "HOLD"),
        (0.9, NONE, "HOLD"),
        (NONE, NONE, "HOLD"),
    ],
)
def test_a_signal_needs_score_and_confidence_at_their_thresholds(score, confidence, signal):
    got = to_signal(
        pd.Series([score]), pd.Series([confidence]), buy_threshold=0.3, sell_threshold=0.4, confidence_threshold=0.6
    )
    assert got["signal"].tolist() == [signal]
    np.testing.assert_array_equal(got[["score", "confidence"]], [[score, confidence]])


def test_signals_of_mirrored_scores_are_mirrored():
    score = pd.Series(np.linspace(-1, 1, 41))
    options = {"buy_threshold": 0.3, "sell_threshold": 0.3, "confidence_threshold": 0.5}
    there = to_signal(score, score.abs(), **options)["signal"]
    back = to_signal(-score, score.abs(), **options)["signal"]
    assert there.map({"BUY": "SELL", "SELL": "BUY", "HOLD": "HOLD"}).tolist() == back.tolist()
    assert set(there) == {"BUY", "SELL", "HOLD"}


def test_a_side_that_may_not_be_taken_is_hold():
    score = pd.Series([0.9, 0.9, -0.9, -0.9])
    may = pd.Series([True, False, True, False])
    got = to_signal(
        score, score.abs(), buy_threshold=0.3, sell_threshold=0.3, confidence_threshold=0, may_buy=may, may_sell=~may
    )
    assert got["signal"].tolist() == ["BUY", "HOLD", "HOLD", "SELL"]


@pytest.mark.parametrize(("buy", "sell"), [(0.0, 0.3), (0.3, 0.0), (-0.1, 0.3), (NONE, 0.3)])
def test_thresholds_that_would_mean_buy_and_sell_at_once_are_refused(buy, sell):
    with pytest.raises(ConfigError, match="must be above 0"):
        to_signal(pd.Series([0.1]), pd.Series([1.0]), buy_threshold=buy, sell_threshold=sell, confidence_threshold=0)


# --------------------------------------------------------------------------------------- the strategy and its answer


def make_feature_table(bars: pd.DataFrame, symbols: str = "AB") -> pd.DataFrame:
    rows = pd.concat([bars[["open_time", "time"]].assign(symbol=s) for s in symbols], ignore_index=True)
    return FEATURES.to_table(rows.assign(ret_1=np.linspace(-1, 1, len(rows)), sent_score=0.5))


def say(features: pd.DataFrame, score: object, signal: str = "HOLD") -> pd.DataFrame:
    frame = pd.DataFrame({"score": score, "confidence": 1.0}, index=features.index)
    return frame.assign(signal=pd.Series(signal, index=features.index, dtype="str"))


def test_a_decision_uses_the_parameters_known_at_it():
    features = make_feature_table(make_hours(4))  # decided at 23:59, 00:59, 01:59, 02:59
    parameters = make_parameters(
        [
            ("1970-01-01", "level", 0.1),
            ("1970-01-01", "other", 0.5),
            ("2024-03-04T00:59Z", "level", 0.2),  # known exactly at the decision
            ("2024-03-04T02:00Z", "level", 0.3),  # a minute too late for the bar of 02:00
            ("2024-03-04T09:00Z", "level", 0.9),
        ]
    )
    seen = []

    def strategy(rows, *, level, other):
        seen.append((len(rows), level, other))
        return say(rows, level)

    signals = make_signals(features, strategy=strategy, parameters=parameters)
    assert signals["score"].tolist() == [0.1, 0.2, 0.2, 0.3] * 2
    assert seen == [(2, 0.1, 0.5), (4, 0.2, 0.5), (2, 0.3, 0.5)]


@FEW
@given(st.lists(st.tuples(st.integers(0, 40), st.floats(-1, 1)), max_size=6, unique_by=lambda row: row[0]))
def test_parameters_join_backward(rows):
    features = make_feature_table(make_hours(6), "A")
    rows = [(START + (10 * at - 60) * MINUTE, value) for at, value in rows]
    parameters = make_parameters([(time.isoformat(), "level", value) for time, value in rows])
    signals = make_signals(features, strategy=lambda f, level=0.123: say(f, level), parameters=parameters)
    for time, score in zip(signals["time"], signals["score"], strict=True):
        known = [value for at, value in sorted(rows) if at <= time]
        assert score == (known[-1] if known else 0.123)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda f: say(f, 0.1)[:-1], "expected one row for each of 8 rows of features"),
        (lambda f: say(f, 0.1)[::-1], "in their order"),
        (lambda f: say(f, 0.1).set_index(f["open_time"]), "in their order"),
        (lambda f: say(f, 0.1).drop(columns="confidence"), "expected a DataFrame with columns score, confidence"),
        (lambda f: f["sent_score"], "got Series"),
        (lambda f: say(f, 0.1).assign(signal=pd.Series([None] * 8, dtype="str")), "a signal is missing"),
        (lambda f: say(f, 0.1, "buy"), "expected SELL, HOLD or BUY"),
        (lambda f: say(f, 1.5), "has score 1.5; expected -1 to 1"),
        (lambda f: say(f, np.inf), "has score inf; expected -1 to 1"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(answer, sentence):
    features = make_feature_table(make_hours(4))
    with pytest.raises(TableError, match=sentence):
        make_signals(features, strategy=answer, parameters=make_parameters())


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        (lambda f: f["sent_scores"], "KeyError 'sent_scores'. Did you mean 'sent_score'"),
        (lambda f, level: f, "missing 1 required"),
        (lambda f: f["sent_score"].iloc[999], "IndexError"),
        (lambda f: f["sent_score"].nonsense, "no attribute 'nonsense'"),
    ],
)
def test_a_strategy_that_fails_is_told_in_one_sentence(strategy, sentence):
    features = make_feature_table(make_hours(4))
    with pytest.raises(TableError, match="strategy: failed on 8 rows of features with no parameters") as caught:
        make_signals(features, strategy=strategy, parameters=make_parameters())
    assert sentence in str(caught.value)


def test_a_strategy_that_changes_its_input_does_not_change_the_features():
    features = make_feature_table(make_hours(4))
    before = features.copy(deep=True)

    def vandal(rows):
        rows["ret_1"] = 9.0
        rows.loc[:, "sent_score"] *= 2
        del rows["open_time"]
        return say(pd.DataFrame(index=range(8)), 0.0)

    make_signals(features, strategy=vandal, parameters=make_parameters())
    pd.testing.assert_frame_equal(features, before)


def test_features_without_rows_are_signals_without_rows():
    empty = make_signals(FEATURES.empty(), strategy=lambda f: say(f, 0.1), parameters=make_parameters())
    assert empty.empty
    weights, state = to_weights(empty, make_prices(make_hours(2), {"A": [1, 1]}), make_flat_state(["A"]),
                                bars=make_hours(2), rules=ONE)  # fmt: skip
    assert weights.empty
    assert state.equals(make_flat_state(["A"]))


# ----------------------------------------------------------------------------------------- from signals to weights

# Three bars of holding, one slot, a position of 1. A dot holds, an x marks a bar that did not print.
CASES = {
    "no news holds nothing": ("......", None, [0, 0, 0, 0, 0, 0]),
    "a BUY is left three bars after its fill": ("B.....", None, [1, 1, 1, 0, 0, 0]),
    "a SELL leaves": ("B.S...", None, [1, 1, 0, 0, 0, 0]),
    "a SELL of nothing is nothing": ("S.B...", None, [0, 0, 1, 1, 1, 0]),
    "a BUY restarts the holding period": ("B.B....", None, [1, 1, 1, 1, 1, 0, 0]),
    "a BUY at the end wins": ("B..B...", None, [1, 1, 1, 1, 1, 1, 0]),
    "a BUY after the end enters again": ("B...B...", None, [1, 1, 1, 0, 1, 1, 1, 0]),
    "a bar that did not print shifts the end by one": ("B......", "x......", [1, 1, 1, 1, 0, 0, 0]),
    "three that did not shift it by three": ("B........", "xxx......", [1, 1, 1, 1, 1, 1, 0, 0, 0]),
    "a hole while held counts like any bar": ("B......", ".x.....", [1, 1, 1, 0, 0, 0, 0]),
    "a BUY at a hole restarts nothing that a fill would not": ("B.B....", "..x....", [1, 1, 1, 1, 1, 0, 0]),
    "an order taken back": ("BS.B....", "x.......", [1, 0, 0, 1, 1, 1, 0, 0]),
}


@pytest.mark.parametrize("case", CASES)
def test_long_or_nothing(case):
    letters, holes, expected = CASES[case]
    assert targets({"A": letters}, printed={"A": holes} if holes else None)["A"] == expected


SHORT_CASES = {
    "a SELL goes short and is left after three bars": ("S.....", [-1, -1, -1, 0, 0, 0]),
    "a BUY turns a short round": ("SB.....", [-1, 1, 1, 1, 0, 0, 0]),
    "a SELL turns a long round, also at its end": ("B..S...", [1, 1, 1, -1, -1, -1, 0]),
    "a SELL restarts a short": ("S.S....", [-1, -1, -1, -1, -1, 0, 0]),
    "HOLD keeps a short": ("S..", [-1, -1, -1]),
}


@pytest.mark.parametrize("case", SHORT_CASES)
def test_long_and_short(case):
    letters, expected = SHORT_CASES[case]
    assert targets({"A": letters}, WeightRules(slots=1, gross=1.0, holding=3, short=True))["A"] == expected


def test_an_order_counts_as_filled_until_its_bar_is_known_to_have_passed_without_a_trade():
    # Holding is one bar. At the decision of the next bar the first has not closed, so it is left as if it had traded.
    assert targets({"A": "B..."}, WeightRules(1, 1.0, 1), printed={"A": "xxxx"})["A"] == [1, 0, 0, 0]
    # With two, the bar after shows that the first did not trade; the second has not closed and counts as the fill.
    assert targets({"A": "B....."}, WeightRules(1, 1.0, 2), printed={"A": "x....."})["A"] == [1, 1, 1, 0, 0, 0]


def test_an_order_before_any_close_is_known_is_not_filled():
    bars = make_hours(8)
    prices = make_prices(bars, {"A": [100.0] * 8})
    signals = make_signal_table(bars, {"A": "B......."})
    weights, state = to_weights(signals, prices, make_flat_state(["A"]), bars=bars, rules=ONE)
    # The backtest has no close to take a quantity from until the bar of 02:00; three bars from there.
    assert weights["weight"].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    result = run_backtest(prices, weights, bars=bars, costs=Costs(0, 0, 0, 99), cash=1000)
    assert result.trades["bars"].tolist() == [3]
    assert state["fill"].isna().all()  # nothing held, nothing to remember


def test_an_order_in_a_name_that_never_trades_again_gives_its_slot_back():
    """Bars 0 to 3 pass without a trade; of the last of them that is known at bar 5, which gives the order up."""
    bars = make_hours(9)[1:].reset_index(drop=True)
    first = make_prices(make_hours(9), {"A": [100.0], "B": [100.0] * 9})
    signals = make_signal_table(bars, {"A": "B.......", "B": ".B...B.."})

    def decide(first_bar: int, last: int, state: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        rows = signals[signals["open_time"].isin(bars["open_time"][first_bar:last])].reset_index(drop=True)
        return to_weights(rows, first, state, bars=bars, rules=ONE)

    weights, after = decide(0, 8, make_flat_state("AB"))
    assert weights["weight"].tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    state, pieces = make_flat_state("AB"), []
    for k in range(8):
        part, state = decide(k, k + 1, state)
        pieces.append(part)
    pieced = pd.concat(pieces).sort_values(["symbol", "time"], ignore_index=True)
    pd.testing.assert_frame_equal(pieced, weights, check_exact=True)
    pd.testing.assert_frame_equal(state, after, check_exact=True)


def test_a_signal_of_its_own_direction_lets_an_order_wait_longer():
    bars = make_hours(10)[1:].reset_index(drop=True)
    prices = make_prices(make_hours(10), {"A": [100.0]})
    signals = make_signal_table(bars, {"A": "B..B....."})
    weights, _ = to_weights(signals, prices, make_flat_state("A"), bars=bars, rules=ONE)
    assert weights["weight"].tolist() == [1] * 8 + [0]  # bars 3 to 6 passed it by, known at bar 8


def test_the_holding_period_counts_bars_over_nights_and_weekends():
    bars = make_bars("XNYS", "1h", start="2024-03-07", end="2024-03-13", latency=MINUTE)  # Thursday to Tuesday
    friday = bars[bars["session"] == "2024-03-08"].index
    letters = ["."] * (len(bars) - 3)
    letters[friday[-2] - 3] = "B"
    weights = targets({"A": "".join(letters)}, WeightRules(1, 1.0, 4), bars=bars)["A"]
    held = bars[3:][np.array(weights) > 0]["open_time"].dt.tz_convert("America/New_York")
    assert held.dt.strftime("%a %H:%M").tolist() == ["Fri 14:30", "Fri 15:30", "Mon 09:30", "Mon 10:30"]


def test_slots_go_to_the_largest_score_then_confidence_then_name():
    rules = WeightRules(slots=2, gross=1.0, holding=5, short=True)
    words = dict.fromkeys("ABCD", "B") | {"C": "S"}
    got = targets(words, rules, scores={"A": 0.5, "B": 0.6, "C": -0.9, "D": 0.6}, confidence=0.9)
    assert got == {"A": [0], "B": [0.5], "C": [-0.5], "D": [0]}
    sure = {"A": 0.9, "B": 0.8, "C": 0.7, "D": 0.9}
    got = targets(words, rules, scores={"A": 0.5, "B": 0.6, "C": -0.9, "D": 0.6}, confidence=sure)
    assert got == {"A": [0], "B": [0], "C": [-0.5], "D": [0.5]}
    assert targets(words, rules, scores=dict.fromkeys("ABD", 0.6) | {"C": NONE}) == {
        "A": [0.5], "B": [0.5], "C": [0], "D": [0],
    }  # fmt: skip


def test_a_slot_freed_at_a_bar_is_taken_at_it():
    got = targets({"A": "BS..", "B": ".B.."}, scores={"A": 0.9, "B": 0.1})
    assert got == {"A": [1, 0, 0, 0], "B": [0, 1, 1, 1]}


def test_a_held_position_keeps_its_slot_against_a_larger_score():
    got = targets({"A": "B.....", "B": ".B...."}, scores={"A": 0.1, "B": 0.9})
    assert got == {"A": [1, 1, 1, 0, 0, 0], "B": [0] * 6}


def test_limits_shrink_new_orders_and_never_what_is_held():
    bars = make_hours(6)
    prices = make_prices(bars, {s: [100.0] * 6 for s in "ABC"})
    state = make_flat_state("ABC").assign(
        weight=[0.7, 0.0, 0.0], fill=bars["open_time"][0], renewed=bars["open_time"][0]
    )
    signals = make_signal_table(bars[3:4], {"A": ".", "B": "B", "C": "B"}, scores={"B": 0.5, "C": 0.9})
    weights, _ = to_weights(signals, prices, state, bars=bars, rules=WeightRules(slots=4, gross=1.0, holding=9))
    assert weights["weight"].tolist() == [0.7, pytest.approx(0.05), 0.25]  # 1 - 0.7 - 0.25 is left for B
    narrow = WeightRules(slots=4, gross=0.5, holding=9, max_weight=0.1)
    assert to_weights(signals, prices, state, bars=bars, rules=narrow)[0]["weight"].tolist() == [0.7, 0, 0]


@pytest.mark.parametrize(
    ("options", "unit"),
    [
        ({"slots": 4, "gross": 1.0}, 0.25),
        ({"slots": 2, "gross": 0.6}, 0.3),
        ({"slots": 2, "gross": 1.0, "max_weight": 0.1}, 0.1),
    ],
)
def test_a_new_position_is_a_slot_of_the_gross_limit(options, unit):
    assert targets({"A": "B"}, WeightRules(holding=3, **options))["A"] == [unit]


@pytest.mark.parametrize(
    "options",
    [{"slots": 0}, {"gross": 0.0}, {"gross": 1.5}, {"gross": NONE}, {"holding": 0}, {"max_weight": 0.0},
     {"max_weight": 1.5}],
)  # fmt: skip
def test_rules_that_cannot_be_meant_are_refused(options):
    name = next(iter(options))
    with pytest.raises(ConfigError, match=f"weights: expected {name}"):
        WeightRules(**{"slots": 2, "gross": 1.0, "holding": 3, **options})


def test_signals_that_do_not_fit_the_bars_or_the_state_are_refused():
    bars = make_hours(6)
    prices = make_prices(bars, {"A": [100.0] * 6})
    flat = make_flat_state(["A", "B"])

    def refusal(words="B.....", symbols="AB", state=flat, grid=bars, drop=None):
        signals = make_signal_table(bars, dict.fromkeys(symbols, words))
        if drop is not None:
            signals = signals[signals["open_time"] != bars["open_time"][drop]].reset_index(drop=True)
        with pytest.raises(TableError) as caught:
            to_weights(signals, prices, state, bars=grid, rules=ONE)
        return str(caught.value)

    assert "a run of bars of the grid without holes" in refusal(drop=3)
    assert "a run of bars of the grid without holes" in refusal(grid=bars[:4])
    assert "one row for each of 6 bars and 2 symbols" in refusal(symbols="A")
    assert "one row for each of 6 bars and 2 symbols" in refusal(symbols="AC")
    unsorted = make_signal_table(bars, {"A": "B....."})[::-1].reset_index(drop=True)
    with pytest.raises(TableError, match="not sorted"):
        to_weights(unsorted, prices, make_flat_state(["A"]), bars=bars, rules=ONE)
    old = flat.assign(weight=[0.5, 0.0], fill=START - HOUR, renewed=START - HOUR)
    assert "the fill of A" in refusal(state=old)
    assert "let bars reach back to it" in refusal(state=old)
    off = flat.assign(weight=[0.5, 0.0], fill=START + 7 * MINUTE, renewed=START)
    assert "not the open of a bar" in refusal(state=off)


# ------------------------------------------------------------------------------------------- data too old to decide


def limited(
    limits: Limits, bars: pd.DataFrame, printed: Mapping[str, str], texts: Mapping[str, list[str]] | None = None
) -> dict[str, list[str]]:
    """The reasons of a BUY at every bar; prices as dots, an x where a bar did not print, texts at hours after START."""
    prices = make_prices(bars, {s: [NONE if m == "x" else 1.0 for m in marks] for s, marks in printed.items()})
    rows = [(s, START + pd.Timedelta(at)) for s, hours in (texts or {}).items() for at in hours]
    news = pd.DataFrame(rows, columns=["symbol", "time"]).astype({"symbol": "str", "time": INSTANT})
    signals = make_signal_table(bars, {s: "B" * len(bars) for s in printed})
    out = to_limited(signals, prices, news, bars=bars, limits=limits)
    np.testing.assert_array_equal(out["signal"], np.where(out["reason"] == "", "BUY", "HOLD"))
    assert out[["score", "confidence"]].equals(signals[["score", "confidence"]])
    return {s: out.loc[out["symbol"] == s, "reason"].tolist() for s in printed}


def test_stale_prices_are_hold_with_the_reason_and_only_for_their_symbol():
    # Decided a minute before each hour: at the bar of 02:00 the bar of 00:00 has closed. The bars of 01:00 to 03:00 of
    # A did not print, so at the bar of 03:00 one is missing, at 04:00 two and at 05:00 three; 04:00 is there at 06:00.
    got = limited(Limits(stale_prices=1), make_hours(8), {"A": ".xxx....", "B": "........"})
    none = "prices stale: no bar known in the last 26 bars, limit 1"
    assert got["A"] == [
        none, none, "", "",
        "prices stale: newest bar 2024-03-04 00:00, 2 bars old, limit 1",
        "prices stale: newest bar 2024-03-04 00:00, 3 bars old, limit 1",
        "", "",
    ]  # fmt: skip
    assert got["B"] == [none, none, *[""] * 6]


def test_with_a_limit_of_0_the_newest_bar_expected_must_be_there():
    # In New York the bar of 15:30 is the newest at 09:29 and at 10:29 of the next day, over a weekend as well.
    bars = make_bars("XNYS", "1h", start="2024-03-08", end="2024-03-13", latency=MINUTE)  # Friday to Tuesday
    marks = ["."] * len(bars)
    got = limited(Limits(stale_prices=0), bars, {"A": "".join(marks)})["A"]
    assert [r != "" for r in got] == [True, True] + [False] * (len(bars) - 2)
    monday_first = 7
    marks[monday_first] = "x"  # the bar of Monday 09:30 is missed at 11:29 and no later: 10:30 printed
    got = limited(Limits(stale_prices=0), bars, {"A": "".join(marks)})["A"]
    assert [n for n, r in enumerate(got) if r] == [0, 1, monday_first + 2]
    assert got[monday_first + 2] == "prices stale: newest bar 2024-03-08 20:30, 1 bar old, limit 0"


def test_a_row_that_comes_late_does_not_make_an_older_bar_the_newest():
    bars = make_hours(8)
    prices = make_prices(bars, {"A": [1.0] * 8})
    prices.loc[2, "time"] = prices.loc[4, "time"] + MINUTE  # the bar of 02:00 comes after that of 04:00
    prices = prices.sort_values("time", ignore_index=True)
    signals = make_signal_table(bars, {"A": "B" * 8})
    got = to_limited(signals, prices, NEWS.empty(), bars=bars, limits=Limits(stale_prices=0))
    assert got.loc[got["reason"] != "", "open_time"].dt.hour.tolist() == [0, 1, 4]


def test_silent_news_are_hold_with_the_reason():
    # Known at 00:30, so at the bar of 01:00 (age 0); the next at 04:59, the very decision of the bar of 05:00.
    texts = {"A": ["30min", "299min"], "B": ["-5min", "7h"]}
    got = limited(Limits(silent_news=2), make_hours(7), {"A": "." * 7, "B": "." * 7}, texts)
    none = "news silent: no text known in the last 27 bars, limit 2"
    assert got["A"] == [none, "", "", "", "news silent: newest text 2024-03-04 00:30, 3 bars old, limit 2", "", ""]
    assert got["B"] == [none] * 7  # before the grid there is no age, and at 06:59 that of 07:00 is not known


def test_both_limits_are_told_and_a_text_that_does_not_count_still_breaks_the_silence():
    world = make_world(3, holes=0.0)
    world["news"] = world["news"].assign(relevance=0.0)
    out = go(world, limits=Limits(stale_prices=0, silent_news=9)).signals
    assert out["reason"].str.count("limit").max() == 2
    assert out["reason"].str.contains("prices stale: .*, limit 0; news silent: .*, limit 9").any()
    assert (out["reason"].to_numpy()[out["open_time"] > world["bars"]["open_time"][40]] == "").all()


def test_more_than_a_day_of_bars_beyond_the_limit_nothing_is_named():
    reasons = limited(Limits(stale_prices=1), make_hours(40), {"A": "." + "x" * 39})["A"]
    assert reasons[3 + TOLD] == f"prices stale: newest bar 2024-03-04 00:00, {1 + TOLD} bars old, limit 1"
    assert reasons[4 + TOLD] == f"prices stale: no bar known in the last {2 + TOLD} bars, limit 1"


@pytest.mark.parametrize("limits", [Limits(stale_prices=1), Limits(silent_news=1)])
def test_a_reason_needs_its_lookback_and_no_bar_more(limits):
    bars = make_hours(45)
    prices = make_prices(bars, {"A": [NONE] * 9 + [1.0] + [NONE] * 35})
    news = pd.DataFrame({"symbol": ["A"], "time": [START + 10 * HOUR]}).astype({"symbol": "str", "time": INSTANT})
    signals = make_signal_table(bars, {"A": "B" * 45})
    full = to_limited(signals, prices, news, bars=bars, limits=limits)
    need = lookback(NewsRules(half_life=1, max_age=0, price_max_age=0), WeightRules(1, 1.0, 1), limits, bar="1d")

    def differing(need):
        out = []
        for k in range(need, 45):
            one, recent = (t.reset_index(drop=True) for t in (signals[k : k + 1], bars[k - need : k + 1]))
            alone = to_limited(one, prices, news, bars=recent, limits=limits)
            if alone["reason"][0] != full["reason"][k]:
                out.append(k)
        return out

    assert full["reason"][need:].nunique() > 5
    assert differing(need) == []
    assert differing(need - (1 if limits.silent_news is None else 2)) != []  # for prices the open bar is one more


def test_a_hold_for_old_data_still_lets_the_holding_period_end():
    bars = make_hours(12)
    prices = make_prices(bars, {"A": [100.0] * 6 + [NONE] * 6})
    signals = make_signal_table(bars, {"A": "...B..BBBBBB"})
    limits = Limits(stale_prices=0)
    held = to_limited(signals, prices, NEWS.empty(), bars=bars, limits=limits)
    assert "".join({w: k for k, w in WORD.items()}[s] for s in held["signal"]) == "...B..BB...."  # 06:00 is not there
    weights, _ = to_weights(held, prices, make_flat_state(["A"]), bars=bars, rules=ONE)
    assert weights["weight"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0]


def test_without_limits_the_signals_have_no_reason():
    world = make_world(1)
    assert "reason" not in go(world).signals
    with_reason = go(world, limits=Limits(stale_prices=10**6)).signals
    assert with_reason.drop(columns="reason")[200:].equals(go(world).signals[200:])


@pytest.mark.parametrize("name", ["stale_prices", "silent_news"])
def test_limits_below_0_are_refused(name):
    with pytest.raises(ConfigError, match=f"limits: {name} counts grid bars, expected 0 or more, got -1"):
        Limits(**{name: -1})


# ------------------------------------------------------------------------------------------------ one code path


def make_world(seed: int, count: int = 70, symbols: str = "ABC", holes: float = 0.15, lateness: int = 0) -> dict:
    """Random prices with holes, random news; all that `decide` needs but the state."""
    rng = np.random.default_rng(seed)
    bars = make_hours(count)
    quotes = {}
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, count)))
        close[rng.random(count) < holes] = np.nan
        quotes[symbol] = close.tolist()
    prices = make_prices(bars, quotes)
    prices["time"] += pd.to_timedelta(rng.integers(0, lateness + 1, len(prices)), unit="min")
    texts = pd.DataFrame(
        {
            "time": START + pd.to_timedelta(rng.integers(-60, 60 * count, 4 * count), unit="min"),
            "symbol": rng.choice(list(symbols), 4 * count),
            "story": rng.choice([f"s{n}" for n in range(3 * count)], 4 * count),
        }
    ).astype({"time": INSTANT, "symbol": "str"})
    texts["article_id"] = [f"t{n:04d}" for n in range(len(texts))]
    probabilities = rng.dirichlet([0.6, 0.6, 0.6], len(texts))
    never = pd.Series(pd.NaT, index=texts.index, dtype=INSTANT)
    news = texts.assign(
        published=texts["time"], first_seen=never, recorded=never, title="t", text="t", source="wire", url="",
        relevance=1.0,
    )  # fmt: skip
    sentiment = texts.drop(columns="story").assign(model="fake")
    sentiment[["p_negative", "p_neutral", "p_positive"]] = probabilities
    steps = pd.MultiIndex.from_product([list(symbols), bars["open_time"]], names=["symbol", "time"]).to_frame(
        index=False
    )
    steps = steps.astype({"symbol": "str"})
    rates = steps.iloc[::8].assign(rate=rng.normal(0, 1e-4, len(steps.iloc[::8])))
    return {
        "funding": FUNDING.to_table(rates),
        "open_interest": OPEN_INTEREST.to_table(steps.assign(contracts=rng.uniform(50, 100, len(steps)))),
        "news": NEWS.to_table(news),
        "prices": prices,
        "sentiment": SENTIMENT.to_table(sentiment),
        "bars": bars,
        "symbols": list(symbols),
        "parameters": make_parameters([("1970-01-01", "level", 0.2), ("2024-03-05T12:30Z", "level", 0.1)]),
    }


def honest(features: pd.DataFrame, *, level: float) -> pd.DataFrame:
    score = (features["sent_score"] + features["ret_1"].fillna(0.0) * 5).clip(-1, 1)
    return to_signal(
        score, features["sent_confidence"], buy_threshold=level, sell_threshold=level, confidence_threshold=0.4
    )


def cheat(features: pd.DataFrame, *, level: float) -> pd.DataFrame:
    """Centres scores by the mean of all rows it is given, the future among them."""
    score = (features["sent_score"] - features["sent_score"].mean()).clip(-1, 1)
    return to_signal(score, score.abs(), buy_threshold=level, sell_threshold=level, confidence_threshold=0)


RULES = WeightRules(slots=2, gross=0.9, holding=4, short=True)
NEWS_RULES = NewsRules(half_life=2.0, max_age=4)
STRICT = Limits(stale_prices=1, silent_news=2)


def go(
    world: dict, state: pd.DataFrame | None = None, *, strategy=honest, rules=RULES, since=None, limits=NO_LIMITS
) -> Decided:
    tables = {k: world[k] for k in ("news", "prices", "sentiment", "funding", "open_interest")}
    rest = {k: world[k] for k in ("bars", "symbols", "parameters")}
    state = make_flat_state(world["symbols"]) if state is None else state
    return decide(
        **tables, state=state, **rest, strategy=strategy, news_rules=NEWS_RULES, weight_rules=rules, since=since,
        limits=limits,
    )  # fmt: skip


def cut(world: dict, at: pd.Timestamp) -> dict:
    """The world without what was not known at `at`."""
    out = dict(world)
    for name in ("news", "prices", "sentiment", "parameters", "funding", "open_interest"):
        out[name] = world[name][world[name]["time"] <= at].reset_index(drop=True)
    return out


def scramble(world: dict, at: pd.Timestamp) -> dict:
    """The world with noise in place of what was not known at `at`."""
    noise, out = make_world(99, len(world["bars"]), "".join(world["symbols"])), dict(world)
    for name, table in (("news", NEWS), ("sentiment", SENTIMENT)):
        later = noise[name][noise[name]["time"] > at]
        later = later.assign(article_id="n" + later["article_id"])
        out[name] = table.to_table(pd.concat([world[name][world[name]["time"] <= at], later]))
    for name, column in (("funding", "rate"), ("open_interest", "contracts")):
        later = world[name]["time"] > at
        out[name] = world[name].assign(**{column: world[name][column].where(~later, 7.0)})
    later = world["prices"]["time"] > at
    out["prices"] = world["prices"].copy()
    out["prices"].loc[later, ["open", "high", "low", "close"]] *= 1.7
    return out


def past(table: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    return table[table["time"] <= at].reset_index(drop=True)


def check_past(world: dict, at: pd.Timestamp, *, strategy=honest, limits=NO_LIMITS) -> None:
    """Refuses a strategy whose signals, or weights, of the past change with the future."""
    whole = go(world, strategy=strategy, limits=limits)
    for other in (cut(world, at), scramble(world, at)):
        again = go(other, strategy=strategy, limits=limits)
        for name in ("features", "signals", "weights"):
            ours, theirs = past(getattr(whole, name), at), past(getattr(again, name), at)
            pd.testing.assert_frame_equal(ours, theirs, check_exact=True, obj=name)


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(25, 60), st.sampled_from([0, 90]), st.sampled_from([NO_LIMITS, STRICT]))
def test_what_comes_later_changes_no_past_decision(seed, bar, lateness, limits):
    world = make_world(seed, lateness=lateness)
    check_past(world, world["bars"]["time"][bar], limits=limits)


def test_the_check_of_the_past_catches_a_strategy_that_takes_a_mean_over_all_rows():
    world = make_world(1)
    with pytest.raises(AssertionError, match="signals"):
        check_past(world, world["bars"]["time"][50], strategy=cheat)


def test_funding_and_open_interest_add_their_features_and_change_nothing_else():
    world = make_world(6)
    both, neither = go(world), go({**world, "funding": None, "open_interest": None})
    added = [*FUNDING_LOOKBACK, *OPEN_INTEREST_LOOKBACK]
    assert both.features.columns[-3:].tolist() == added
    assert both.features[added].notna().any().all()
    pd.testing.assert_frame_equal(both.features.drop(columns=added), neither.features, check_exact=True)
    pd.testing.assert_frame_equal(both.weights, neither.weights, check_exact=True)
    assert "oi_change_24" not in go({**world, "open_interest": None}).features
    assert "funding_3" not in go({**world, "funding": None}).features


@FEW
@given(st.integers(0, 2**32 - 1), st.sets(st.integers(1, 69), max_size=4))
def test_a_stretch_decided_in_pieces_is_the_stretch_decided_at_once(seed, cuts):
    world = make_world(seed)
    whole = go(world)
    state, pieces = make_flat_state(world["symbols"]), []
    edges = [0, *sorted(cuts), 70]
    for start, stop in itertools.pairwise(edges):
        piece = go({**world, "bars": world["bars"][:stop]}, state, since=world["bars"]["open_time"][start])
        pieces.append(piece)
        state = piece.state
    check_same(whole, pieces)


def check_same(whole: Decided, pieces: list[Decided]) -> None:
    signals = SIGNALS.to_table(pd.concat([p.signals for p in pieces]))
    weights = WEIGHTS.to_table(pd.concat([p.weights for p in pieces]))
    pd.testing.assert_frame_equal(signals, whole.signals, check_exact=True)
    pd.testing.assert_frame_equal(weights, whole.weights, check_exact=True)
    pd.testing.assert_frame_equal(pieces[-1].state, whole.state, check_exact=True)
    assert (weights["weight"] != 0).any()


def test_the_job_that_sees_only_what_is_known_and_recent_decides_like_the_backtest():
    """Bar by bar, each from tables cut at its decision and without the rows and bars older than it needs."""
    world = make_world(5, count=45, lateness=90)
    whole = go(world)
    state, pieces = make_flat_state(world["symbols"]), []
    for k in range(45):
        known = cut(world, world["bars"]["time"][k])
        low = max(k - 20, 0)
        known["bars"] = world["bars"][low : k + 1].reset_index(drop=True)
        since = known["bars"]["open_time"][0] - HOUR
        for name in ("news", "prices", "sentiment"):
            known[name] = known[name][known[name]["time"] > since].reset_index(drop=True)
        piece = go(known, state, since=world["bars"]["open_time"][k])
        pieces.append(piece)
        state = piece.state
    check_same(whole, pieces)


@FEW
@given(st.integers(0, 2**32 - 1), st.sampled_from([NO_LIMITS, STRICT, Limits(stale_prices=0)]), st.integers(1, 30))
def test_a_bar_decided_alone_needs_its_lookback_and_nothing_older(seed, limits, rows):
    """The features, signals and weights of one bar, without the bars and texts that `lookback` says are not used."""
    rng = np.random.default_rng(seed)
    world = make_world(seed, count=90, lateness=45)
    if limits != NO_LIMITS:  # silences of all lengths, some longer than what a reason tells
        quiet = START + int(rng.integers(0, 60)) * HOUR
        for name in ("news", "sentiment", "prices"):
            times = world[name]["time"]
            gone = (world[name]["symbol"] == "A") & times.between(quiet, quiet + rows * HOUR)
            world[name] = world[name][~gone].reset_index(drop=True)
    whole = go(world, limits=limits)
    need = lookback(NEWS_RULES, RULES, limits, bar="1h")
    for k in sorted(rng.choice(np.arange(need, 90), 5, replace=False)):
        start = k - need
        recent = cut(world, world["bars"]["time"][k])
        recent["bars"] = world["bars"][start : k + 1].reset_index(drop=True)
        old = recent["bars"]["time"][0]
        for name in ("news", "sentiment"):
            recent[name] = recent[name][recent[name]["time"] > old].reset_index(drop=True)
        for name, table, rows_needed in (
            ("prices", PRICES, LOOKBACK),
            ("funding", FUNDING, FUNDING_LOOKBACK),
            ("open_interest", OPEN_INTEREST, OPEN_INTEREST_LOOKBACK),
        ):
            past_rows = recent[name][recent[name]["time"] <= old].groupby("symbol").tail(max(rows_needed.values()))
            recent[name] = table.to_table(pd.concat([past_rows, recent[name][recent[name]["time"] > old]]))
        alone = go(recent, since=world["bars"]["open_time"][k], limits=limits)
        for name in ("features", "signals"):
            table = getattr(whole, name)
            expected = table[table["open_time"] == world["bars"]["open_time"][k]].reset_index(drop=True)
            pd.testing.assert_frame_equal(getattr(alone, name), expected, check_exact=True, obj=name)


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([0.3, 0.9, 1.0]), st.booleans())
def test_absolute_weights_never_add_up_to_more_than_the_limits(seed, slots, gross, short):
    rng = np.random.default_rng(seed)
    bars = make_hours(60)
    symbols = list("ABCDEF")
    words = {s: "".join(rng.choice(list("BS.."), 60)) for s in symbols}
    prices = make_prices(bars, {s: np.where(rng.random(60) < 0.2, np.nan, 100.0).tolist() for s in symbols})
    signals = make_signal_table(bars, words, scores={s: rng.uniform(-1, 1, 60) for s in symbols})
    rules = WeightRules(slots=slots, gross=gross, holding=5, short=short, max_weight=0.4)
    weights, _ = to_weights(signals, prices, make_flat_state(symbols), bars=bars, rules=rules)
    by_bar = weights.assign(weight=weights["weight"].abs()).groupby("open_time")["weight"]
    assert by_bar.sum().max() <= gross * (1 + 1e-12)
    assert by_bar.max().max() <= 0.4
    assert (weights["weight"] != 0).groupby(weights["open_time"]).sum().max() == slots
    assert short or (weights["weight"] >= 0).all()


def test_the_order_in_which_symbols_are_named_changes_nothing():
    world = make_world(2)
    turned = {**world, "symbols": ["C", "A", "B"]}
    a, b = go(world), go(turned, make_flat_state(["B", "C", "A"]))
    pd.testing.assert_frame_equal(a.weights, b.weights, check_exact=True)
    pd.testing.assert_frame_equal(a.state, b.state, check_exact=True)


def test_symbols_do_not_touch_while_slots_are_free():
    world = make_world(4)
    rules = WeightRules(slots=4, gross=1.0, holding=4, short=True)
    together = go(world, rules=rules, limits=STRICT)
    assert together.signals["reason"].nunique() > 5
    for symbol in "ABC":
        alone = go({**world, "symbols": [symbol]}, rules=rules, limits=STRICT)
        for name in ("signals", "weights", "state"):
            both = getattr(together, name)
            both = both[both["symbol"] == symbol].reset_index(drop=True)
            pd.testing.assert_frame_equal(getattr(alone, name), both, check_exact=True, obj=name)


@FEW
@given(st.integers(0, 2**32 - 1))
def test_the_backtest_fills_where_the_holding_period_thinks_it_does(seed):
    """A position that nothing renewed is left `holding` bars after the fill that the backtest gave it."""
    rng = np.random.default_rng(seed)
    bars = make_hours(60)
    words = {s: "".join(rng.choice(list("B......"), 60)) for s in "AB"}
    prices = make_prices(bars, {s: np.where(rng.random(60) < 0.3, np.nan, 100.0).tolist() for s in "AB"})
    weights, _ = to_weights(
        make_signal_table(bars, words), prices, make_flat_state("AB"), bars=bars, rules=WeightRules(3, 0.9, 6)
    )
    result = run_backtest(prices, weights, bars=bars, costs=Costs(0, 0, 0, 99), cash=1000)
    place = dict(zip(bars["open_time"], range(60), strict=True))
    wide = weights.pivot(index="open_time", columns="symbol", values="weight")
    for trade in result.trades[result.trades["closed"]].itertuples():
        filled = place[trade.entry_time]
        held = wide[trade.symbol].to_numpy()
        left = filled + int(np.argmin(held[filled:] > 0))
        buys = [k for k in range(left) if words[trade.symbol][k] == "B"]
        assert left - max(filled, buys[-1]) == 6
