"""When a position is left beside its holding period: stops by hand, the ends of sessions, and what no exit may be."""

import numpy as np
import pandas as pd
import pytest
from reference import NONE, make_prices
from signal_tables import HOUR, MINUTE, make_hours, make_signal_table

from finsignal.backtest import Costs, run_backtest
from finsignal.clock import make_bars
from finsignal.errors import ConfigError, TableError
from finsignal.signals import ExitRules, WeightRules, make_flat_state, to_weights
from finsignal.signals.exits import find_firsts, make_stops

LONG = WeightRules(slots=1, gross=1.0, holding=99)
BOTH = WeightRules(slots=1, gross=1.0, holding=99, short=True)
BEFORE = 3  # bars at 100 before the first decision, so that a close is known at it
FREE = Costs(0, 0, 0, 99)
Quote = float | tuple[float, ...]


def decide(letters: str, quotes: list[Quote], exits: ExitRules, rules: WeightRules = LONG) -> list[float]:
    """The target at each bar for signals as letters, and quotes that are one price, (open, close) or all four."""
    bars = make_hours(BEFORE + len(letters))
    prices = make_prices(bars, {"A": [100.0] * BEFORE + quotes})
    signals = make_signal_table(bars[BEFORE:].reset_index(drop=True), {"A": letters})
    weights, _ = to_weights(signals, prices, make_flat_state(["A"]), bars=bars, rules=rules, exits=exits)
    return weights["weight"].tolist()


# Bars are hours, decided a minute before they open. So the close of bar n is known at the decision of bar n + 2, and an
# order of that decision fills at its open. BUY at bar 0 fills at the open of bar 0, the anchor: 100 unless stated.
CLOSES = {
    # 100 * (1 - 0.25) = 75: the close of bar 1 lies on it, is known at bar 3 and left there.
    "a loss of just the stop": ("B.....", [100, 75, 90, 90, 90, 90], {"stop_loss": 0.25}, [1, 1, 1, 0, 0, 0]),
    "a loss of a hair less": ("B.....", [100, 75.01, 90, 90, 90, 90], {"stop_loss": 0.25}, [1] * 6),
    # The order of bar 0 fills at 80, so the level is 60 and not 75.
    "the anchor is the open of the fill, not the close before it": (
        "B.....", [(80, 70), 61, 60, 90, 90, 90], {"stop_loss": 0.25}, [1, 1, 1, 1, 0, 0],
    ),
    "the close of the bar of the fill counts": ("B...", [(100, 75), 90, 90, 90], {"stop_loss": 0.25}, [1, 1, 0, 0]),
    # 100 * (1 + 0.5) = 150.
    "a profit of just the target": ("B.....", [100, 149, 150, 90, 90, 90], {"take_profit": 0.5}, [1, 1, 1, 1, 0, 0]),
    # The best close is 160, 160 * 0.75 = 120: 121 stays, 120 is left.
    "a trailing stop follows the best close": (
        "B.......", [100, 140, 160, 121, 120, 130, 130, 130], {"trailing_stop": 0.25}, [1] * 6 + [0, 0],
    ),
    # No close lies above the anchor of 100, so the level stays 75: 76 stays, 75 is left.
    "a trailing stop starts at the anchor": (
        "B......", [(100, 90), 80, 76, 75, 90, 90, 90], {"trailing_stop": 0.25}, [1] * 5 + [0, 0],
    ),
    # A stop loss at 50 lies below the trailing level of 120, which is met first.
    "of two stops the nearer": (
        "B.....", [100, 160, 120, 120, 120, 120], {"stop_loss": 0.5, "trailing_stop": 0.25}, [1, 1, 1, 1, 0, 0],
    ),
    "a stop leaves though the signal is BUY, and only a later one enters": (
        "B..BB.", [100, 75, 90, 90, 90, 90], {"stop_loss": 0.25}, [1, 1, 1, 0, 1, 1],
    ),
    # Entered again at bar 4 at 90: the level is now 67.5, and 70 stays.
    "what is entered again has an anchor of its own": (
        "B...B....", [100, 75, 90, 90, 90, 70, 70, 70, 70], {"stop_loss": 0.25}, [1, 1, 1, 0, 1, 1, 1, 1, 1],
    ),
    "a BUY meanwhile does not move the anchor": (
        "BB....", [100, 120, 76, 75, 90, 90], {"stop_loss": 0.25}, [1, 1, 1, 1, 1, 0],
    ),
    # The bar of the order did not print; bar 1 did, at 40, and bar 2 closes at 30 = 40 * 0.75.
    "an order that waited is anchored where it filled": (
        "B......", [NONE, 40, 30, 90, 90, 90, 90], {"stop_loss": 0.25}, [1, 1, 1, 1, 0, 0, 0],
    ),
    "an order that is not seen to be filled has no stop": ("B....", [NONE] * 5, {"stop_loss": 0.25}, [1] * 5),
    "a bar that did not print tells nothing": (
        "B.......", [100, NONE, NONE, 75, 90, 90, 90, 90], {"stop_loss": 0.25}, [1, 1, 1, 1, 1, 0, 0, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CLOSES)
def test_a_long_position_is_left_on_a_known_close(case: str) -> None:
    letters, quotes, exits, expected = CLOSES[case]
    assert decide(letters, quotes, ExitRules(**exits)) == expected


SHORT = {
    # 100 * (1 + 0.25) = 125.
    "a loss of just the stop": ("S.....", [100, 124, 125, 90, 90, 90], {"stop_loss": 0.25}, [-1, -1, -1, -1, 0, 0]),
    # 100 * (1 - 0.25) = 75.
    "a profit of just the target": ("S.....", [100, 76, 75, 90, 90, 90], {"take_profit": 0.25}, [-1, -1, -1, -1, 0, 0]),
    # The lowest close is 80, 80 * 1.25 = 100: 99 stays, 100 is left.
    "a trailing stop follows the lowest close": (
        "S.....", [100, 80, 99, 100, 90, 90], {"trailing_stop": 0.25}, [-1, -1, -1, -1, -1, 0],
    ),
    "a profit target of all the price is never met": ("S...", [100, 1, 1, 1], {"take_profit": 1.0}, [-1] * 4),
    "a stop leaves though the signal turns round": (
        "B..S..", [100, 75, 90, 90, 90, 90], {"stop_loss": 0.25}, [1, 1, 1, 0, 0, 0],
    ),
    # Turned round at bar 2, filled at its open of 120: the level of the short is 150.
    "a position that is turned round has an anchor of its own": (
        "B.S....", [100, 100, (120, 130), 149, 150, 90, 90], {"stop_loss": 0.25}, [1, 1, -1, -1, -1, -1, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SHORT)
def test_a_short_position_mirrors_it(case: str) -> None:
    letters, quotes, exits, expected = SHORT[case]
    assert decide(letters, quotes, ExitRules(**exits), BOTH) == expected


FLAT = (100.0, 100.0, 100.0, 100.0)
RESTING = {
    # open, high, low, close. The stop rests at 75 from the open of the fill on; known at bar 2 that bar 0 touched it.
    "the bar of the fill counts": ("B...", [(100, 100, 75, 90)] + [FLAT] * 3, {"stop_loss": 0.25}, [1, 1, 0, 0]),
    "a low that does not reach it": ("B...", [(100, 100, 75.01, 90)] + [FLAT] * 3, {"stop_loss": 0.25}, [1] * 4),
    "a high that reaches the target": ("B....", [FLAT, (100, 150, 99, 99)] + [FLAT] * 3, {"take_profit": 0.5},
                                       [1, 1, 1, 0, 0]),
    # Bar 1 rises to 160 and its low of 110 lies below 120, but which came first is not known: its own high comes too
    # late for it. From bar 2 on the level is 120, and a low of 121 stays.
    "a bar's own high does not trail its low": (
        "B......", [FLAT, (100, 160, 110, 150), (150, 150, 121, 150)] + [(150,) * 4] * 4, {"trailing_stop": 0.25},
        [1] * 7,
    ),
    "the highs before it do": (
        "B......", [FLAT, (100, 160, 110, 150), (150, 150, 120, 150)] + [(150,) * 4] * 4, {"trailing_stop": 0.25},
        [1, 1, 1, 1, 0, 0, 0],
    ),
    "what was touched once is left, whatever the newest close": (
        "B.....", [FLAT, NONE, (100, 100, 70, 100), FLAT, FLAT, FLAT], {"stop_loss": 0.25}, [1, 1, 1, 1, 0, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RESTING)
def test_a_resting_stop_is_judged_on_highs_and_lows(case: str) -> None:
    letters, quotes, exits, expected = RESTING[case]
    assert decide(letters, quotes, ExitRules(**exits, resting=True)) == expected


def test_a_resting_stop_of_a_short_mirrors_it() -> None:
    touched = [FLAT, (100, 125, 100, 100), FLAT, FLAT, FLAT]
    assert decide("S....", touched, ExitRules(stop_loss=0.25, resting=True), BOTH) == [-1, -1, -1, 0, 0]
    # The low of 80 of bar 1 trails from bar 2 on: 80 * 1.25 = 100.
    trailed = [FLAT, (90, 110, 80, 90), (90, 99, 90, 90), (90, 100, 90, 90), FLAT, FLAT]
    assert decide("S.....", trailed, ExitRules(trailing_stop=0.25, resting=True), BOTH) == [-1, -1, -1, -1, -1, 0]


def test_without_resting_highs_and_lows_mean_nothing() -> None:
    wild = [(100.0, 190.0, 10.0, 100.0)] * 6
    assert decide("B.....", wild, ExitRules(stop_loss=0.25, take_profit=0.5, trailing_stop=0.25)) == [1] * 6


def test_a_row_that_comes_late_is_not_the_newest_close_but_may_be_the_best() -> None:
    bars = make_hours(10)
    prices = make_prices(bars, {"A": [100.0, 100, 100, 100, 160, 130, 119, 119, 119, 119]})
    prices.loc[4, "time"] = prices.loc[6, "time"]  # the close of 160 is known no sooner than that of 119
    prices = prices.sort_values(["time", "open_time"], ignore_index=True)
    signals = make_signal_table(bars[3:].reset_index(drop=True), {"A": "B......"})
    exits = ExitRules(trailing_stop=0.25)
    weights, _ = to_weights(signals, prices, make_flat_state(["A"]), bars=bars, rules=LONG, exits=exits)
    # At bar 7 the best is 130 and 130 stays. At bar 8 it is 160, whose level of 120 the newest close of 119 is below.
    assert weights["weight"].tolist() == [1, 1, 1, 1, 1, 0, 0]


# ------------------------------------------------------------------------ the job and the backtest leave alike


def test_the_account_leaves_at_the_open_after_the_breach_was_known() -> None:
    bars = make_hours(10)
    quotes = [(100.0, 100.0)] * 4 + [(98.0, 74.0), (76.0, 80.0), (71.0, 70.0), (69.0, 69.0)] + [(69.0, 69.0)] * 2
    prices = make_prices(bars, {"A": quotes})
    signals = make_signal_table(bars[3:].reset_index(drop=True), {"A": "B......"})
    exits = ExitRules(stop_loss=0.25)
    weights, _ = to_weights(signals, prices, make_flat_state(["A"]), bars=bars, rules=LONG, exits=exits)
    orders = run_backtest(prices, weights, bars=bars, costs=FREE, cash=1000).orders
    # Bar 4 closes at 74 at 05:00. The decision of 04:59 for bar 5 cannot know it; that of 05:59 does, and bar 6 opens
    # at 71: that is what the stop gets, not the 75 of its level.
    assert orders["open_time"].tolist() == [bars["open_time"][3], bars["open_time"][6]]
    assert orders["price"].tolist() == [100.0, 71.0]


@pytest.mark.parametrize("seed", range(8))
def test_what_rests_in_the_market_is_left_by_the_account_first_and_by_the_decisions_once_known(seed: int) -> None:
    """Without slippage the fill is the anchor's open, so both judge the same levels: no sale is left to a decision."""
    rng = np.random.default_rng(seed)
    bars = make_hours(80)
    opens = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 81)))
    first, last = opens[:-1], opens[1:]
    high, low = np.maximum(first, last) * rng.uniform(1, 1.01, 80), np.minimum(first, last) / rng.uniform(1, 1.01, 80)
    prices = make_prices(bars, {"A": list(zip(first, high, low, last, strict=True))})
    letters = "".join(rng.choice(list("B.."), 77))
    exits = ExitRules(stop_loss=0.02, take_profit=0.03, trailing_stop=0.025, resting=True)
    signals = make_signal_table(bars[3:].reset_index(drop=True), {"A": letters})
    weights, _ = to_weights(signals, prices, make_flat_state(["A"]), bars=bars, rules=LONG, exits=exits)
    orders = run_backtest(prices, weights, bars=bars, costs=FREE, cash=1000, exits=exits).orders
    sold, target = orders[orders["side"] == "sell"], weights["weight"].to_numpy()
    assert len(sold) > 5
    assert set(sold["reason"]) <= {"stop loss", "trailing stop", "take profit"}
    at = np.searchsorted(weights["open_time"], sold["open_time"])
    left = np.flatnonzero((target[1:] == 0) & (target[:-1] == 1)) + 1
    # A bar that touched a level is known two decisions later; those of the last two bars are not known yet.
    assert left.tolist() == [k for k in (at + 2).tolist() if k < len(target)]


def test_the_account_is_flat_over_night_and_enters_again_where_the_decisions_do() -> None:
    bars = make_bars("XNYS", "1h", start="2024-03-04", end="2024-03-07", latency=MINUTE)
    prices = make_prices(bars, {"A": [float(100 + k) for k in range(len(bars))]})
    signals = make_signal_table(bars[7:].reset_index(drop=True), {"A": "..B.... B......"})
    exits = ExitRules(session_close=True)
    weights, _ = to_weights(signals, prices, make_flat_state(["A"]), bars=bars, rules=LONG, exits=exits)
    orders = run_backtest(prices, weights, bars=bars, costs=FREE, cash=1000, exits=exits).orders
    # Tuesday is bars 7 to 13, Wednesday 14 to 20; the weight is 1 from Tuesday's third bar to the end.
    assert orders["reason"].tolist() == ["target", "session close"] * 2
    assert orders["open_time"].tolist() == bars["open_time"][[9, 13, 14, 20]].tolist()


def test_a_pass_that_knows_no_more_than_its_decision_leaves_at_the_same_open() -> None:
    bars = make_hours(8)
    prices = make_prices(bars, {"A": [100.0, 100, 100, 100, 70, 70, 70, 70]})
    state = make_flat_state(["A"])
    made = []
    for k in range(3, 8):
        known = prices[prices["time"] <= bars["time"][k]].reset_index(drop=True)
        signals = make_signal_table(bars[k : k + 1], {"A": "B" if k == 3 else "."})
        weights, state = to_weights(
            signals, known, state, bars=bars[: k + 1], rules=LONG, exits=ExitRules(stop_loss=0.25)
        )
        made.append(weights["weight"].item())
    assert made == [1, 1, 1, 0, 0]


def test_bars_that_do_not_reach_back_to_the_fill_are_refused_where_a_stop_counts_from_it() -> None:
    bars = make_hours(8)
    prices = make_prices(bars, {"A": [100.0] * 8})
    # Filled at bar 1 and renewed at bar 5: the holding period counts from bar 5, a stop from bar 1.
    state = make_flat_state(["A"]).assign(weight=1.0, fill=bars["open_time"][1], renewed=bars["open_time"][5])
    late = bars[4:].reset_index(drop=True)
    signals = make_signal_table(bars[6:7], {"A": "."})
    stops = ExitRules(stop_loss=0.25)
    assert to_weights(signals, prices, state, bars=late, rules=LONG)[0]["weight"].item() == 1
    with pytest.raises(TableError, match="a stop counts from it; let bars reach back to it"):
        to_weights(signals, prices, state, bars=late, rules=LONG, exits=stops)
    assert to_weights(signals, prices, state, bars=bars, rules=LONG, exits=stops)[0]["weight"].item() == 1
    with pytest.raises(TableError, match=r"the fill of A at 2024-03-04 01:00.* has no row of prices"):
        to_weights(signals, prices[4:].reset_index(drop=True), state, bars=bars, rules=LONG, exits=stops)


@pytest.mark.parametrize("exits", [{"take_profit": 0.5}, {"stop_loss": 0.25}, {"trailing_stop": 0.25}])
def test_a_position_of_which_no_close_since_the_fill_is_known_is_not_left(exits: dict[str, float]) -> None:
    bars = make_hours(6)
    prices = make_prices(bars, {"A": [100.0] * 6})
    unseen = np.full((6, 1), len(bars))
    stops = make_stops(ExitRules(**exits), prices, bars, ["A"], unseen)
    assert stops is not None
    assert not stops.judge(np.array([1.0]), np.array([True]), np.array([1]), 4).any()


# --------------------------------------------------------------------------------------------- the close of a session


def over_sessions(
    letters: str, bar: str, rules: WeightRules = LONG, printed: str | None = None, **exits: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Weights and state of letters from Tuesday on; hourly bars in New York come seven a session."""
    bars = make_bars("XNYS", bar, start="2024-03-04", end="2024-03-15", latency=MINUTE)
    first = int((bars["session"] == "2024-03-05").to_numpy().argmax())
    marks = printed or "." * len(letters)
    quotes = [100.0] * first + [NONE if mark == "x" else 100.0 for mark in marks.replace(" ", "")]
    count = len(letters.replace(" ", ""))
    signals = make_signal_table(bars[first : first + count].reset_index(drop=True), {"A": letters})
    return to_weights(
        signals,
        make_prices(bars, {"A": quotes}),
        make_flat_state(["A"]),
        bars=bars,
        rules=rules,
        exits=ExitRules(session_close=True, **exits),
    )


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("..B.... .......", "0011111 0000000"),
        ("..B.... B......", "0011111 1111111"),  # a new position, of the same weight
        ("......B .B.....", "0000001 0111111"),  # for the last bar alone
        ("..B.S.. .......", "0011000 0000000"),
    ],
)
def test_what_a_session_held_counts_as_left_at_the_next(letters: str, expected: str) -> None:
    weights, _ = over_sessions(letters, "1h")
    assert weights["weight"].tolist() == [int(digit) for digit in expected.replace(" ", "")]


def test_daily_bars_are_sessions_of_one_bar() -> None:
    weights, state = over_sessions("B.BB.S", "1d", BOTH)
    assert weights["weight"].tolist() == [1, 0, 1, 1, 0, -1]
    assert state["fill"].tolist() == [weights["open_time"].iloc[-1]]


def test_after_the_close_nothing_is_remembered() -> None:
    _, state = over_sessions("B...... .......", "1h")
    pd.testing.assert_frame_equal(state, make_flat_state(["A"]))


@pytest.mark.parametrize("letter", ["B", "."])
@pytest.mark.parametrize("printed", [True, False])
def test_a_job_that_misses_the_first_bar_of_a_session_carries_nothing_over_from_the_last(
    letter: str, printed: bool
) -> None:
    bars = make_bars("XNYS", "1h", start="2024-03-04", end="2024-03-07", latency=MINUTE)
    prices = make_prices(bars, {"A": [100.0] * 12 + ([100.0] if printed else [NONE]) * 2 + [100.0] * 7})
    exits, state = ExitRules(session_close=True), make_flat_state(["A"])
    letters = ".....B. ..".replace(" ", "") + letter + "..."
    made = []
    for k, word in enumerate(letters, start=7):
        if k == 14:
            continue  # the first bar of Wednesday
        signals = make_signal_table(bars[k : k + 1], {"A": word})
        weights, state = to_weights(signals, prices, state, bars=bars, rules=LONG, exits=exits)
        made.append(weights["weight"].item())
    # Left at Tuesday's close; what Wednesday's third bar enters is new, and stays.
    new = int(letter == "B")
    assert made == [0] * 5 + [1, 1] + [0] + [new] * 4
    assert state["fill"].tolist() == ([bars["open_time"][16]] if new else [pd.NaT])


def test_an_order_that_never_filled_is_gone_with_its_session() -> None:
    # The last two bars did not print. Without the session's end the order would wait, and fill in the morning.
    weights, _ = over_sessions(".....B. .......", "1h", printed=".....xx .......")
    assert weights["weight"].tolist() == [0] * 5 + [1, 1] + [0] * 7


def test_the_holding_period_still_ends_within_a_session() -> None:
    weights, _ = over_sessions("B...... B......", "1h", WeightRules(1, 1.0, 3))
    assert weights["weight"].tolist() == [1, 1, 1, 0, 0, 0, 0] * 2


def test_a_stop_still_leaves_within_a_session() -> None:
    bars = make_bars("XNYS", "1h", start="2024-03-04", end="2024-03-07", latency=MINUTE)
    prices = make_prices(bars, {"A": [100.0] * 7 + [100.0, 75.0] + [75.0] * 12})
    signals = make_signal_table(bars[7:].reset_index(drop=True), {"A": "B...... B......"})
    exits = ExitRules(session_close=True, stop_loss=0.25)
    weights, _ = to_weights(signals, prices, make_flat_state(["A"]), bars=bars, rules=LONG, exits=exits)
    # Tuesday's second close is known at its fourth bar; Wednesday's position is anchored at 75 and stays.
    assert weights["weight"].tolist() == [1, 1, 1, 0, 0, 0, 0] + [1] * 7


# ------------------------------------------------------------------------------------------- where periods begin


def test_periods_begin_with_sessions_weeks_and_months() -> None:
    bars = make_bars("XNYS", "1d", start="2024-03-25", end="2024-04-10", latency=MINUTE)  # Good Friday is 29 March
    sessions = bars["session"].to_numpy(dtype=str)

    def first(period: str) -> list[str]:
        return sessions[find_firsts(bars, period)].tolist()

    assert first("week") == ["2024-03-25", "2024-04-01", "2024-04-08"]
    assert first("month") == ["2024-03-25", "2024-04-01"]
    assert find_firsts(bars, "session").all()
    assert find_firsts(bars, "bar").all()


def test_a_week_begins_on_tuesday_where_monday_is_a_holiday_and_over_the_year_end() -> None:
    bars = make_bars("XNYS", "1h", start="2023-12-28", end="2024-01-18", latency=MINUTE)
    begins = bars[find_firsts(bars, "week")]
    # New Year 2024 is a Monday, and so is Martin Luther King's day, 15 January.
    assert begins["session"].tolist() == ["2023-12-28", "2024-01-02", "2024-01-08", "2024-01-16"]
    assert begins["open_time"].dt.tz_convert("America/New_York").dt.hour.tolist() == [9, 9, 9, 9]
    assert find_firsts(bars, "session").sum() == bars["session"].nunique()


def test_a_market_that_never_closes_begins_its_week_on_monday() -> None:
    bars = make_bars("24x7", "1d", start="2024-03-01", end="2024-03-15", latency=MINUTE)  # from a Friday on
    assert bars["session"][find_firsts(bars, "week")].tolist() == ["2024-03-01", "2024-03-04", "2024-03-11"]


def test_weeks_and_months_need_sessions_that_are_dates() -> None:
    bars = make_hours(4).assign(session=pd.Series(["one"] * 4, dtype="str"))
    assert find_firsts(bars, "session").tolist() == [True, False, False, False]
    with pytest.raises(TableError, match="rebalance by week needs sessions that are dates"):
        find_firsts(bars, "week")


# ----------------------------------------------------------------------------------------- what cannot be meant


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stop_loss": -0.1}, "stop_loss is -0.1; expected a fraction from 0 to below 1"),
        ({"stop_loss": 1.0}, "stop_loss is 1.0; expected a fraction from 0 to below 1"),
        ({"stop_loss": NONE}, "stop_loss is nan"),
        ({"trailing_stop": 1.0}, "trailing_stop is 1.0"),
        ({"trailing_stop": 5.0}, "trailing_stop is 5.0"),  # in percent, perhaps
        ({"take_profit": -0.1}, "take_profit is -0.1; expected a fraction, 0 or more"),
        ({"take_profit": np.inf}, "take_profit is inf"),
        ({"take_profit": NONE}, "take_profit is nan"),
        ({"resting": True}, "resting needs a stop_loss, take_profit or trailing_stop"),
        ({"resting": True, "session_close": True}, "resting needs a stop_loss"),
    ],
)
def test_exits_that_cannot_be_meant_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"exits: {sentence}"):
        ExitRules(**options)


def test_prices_of_shorter_bars_than_the_grid_are_refused() -> None:
    bars = make_bars("24x7", "1d", start="2024-03-04", end="2024-03-10", latency=MINUTE)
    hours = make_hours(6 * 24)
    prices = make_prices(hours, {"A": [100.0] * len(hours)})
    signals = make_signal_table(bars, {"A": "B....."})
    with pytest.raises(
        TableError, match=r"A that opens at 2024-03-04 00:00:00.* closes at 2024-03-04 01:00.* bar length"
    ):
        to_weights(signals, prices, make_flat_state(["A"]), bars=bars, rules=LONG)
    # A row that comes late is known late, and is none of another length.
    late = make_prices(bars, {"A": [100.0] * 6}).assign(time=lambda rows: rows["time"] + 5 * HOUR)
    assert to_weights(signals, late, make_flat_state(["A"]), bars=bars, rules=LONG)[0]["weight"].sum() == 6
