"""Stops and take profits that rest in the market and fill inside a bar: one market worked by hand for each rule."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from reference import NONE, make_prices, make_weights

from finsignal.backtest import Costs, OrderRules, run_backtest
from finsignal.clock import make_bars
from finsignal.signals import ExitRules
from finsignal.tables import BacktestResult

FREE = Costs(fee=0.0, slippage=0.0, delisting_return=-0.5, delisted_after=1000)
STOP = ExitRules(stop_loss=0.1, resting=True)
TRAIL = ExitRules(trailing_stop=0.1, resting=True)
TAKE = ExitRules(take_profit=0.1, resting=True)
ALL = ExitRules(stop_loss=0.1, take_profit=0.1, trailing_stop=0.15, resting=True)

CALM = (100, 100, 100, 100)  # open, high, low, close


def run(after: list, exits: ExitRules, *, weight: float = 0.5, costs: Costs = FREE, **more) -> BacktestResult:
    """Two calm bars, then those given, with a target that stands from the third bar on."""
    quotes = [CALM, CALM, *after]
    first = pd.Timestamp("2024-03-04", tz="UTC")
    end = first + pd.Timedelta(hours=len(quotes))
    bars = make_bars("24x7", "1h", start=first, end=end, latency=pd.Timedelta(minutes=1))
    targets = more.pop("targets", [0, 0] + [weight] * len(after))
    prices, weights = make_prices(bars, {"A": quotes}), make_weights(bars, {"A": targets})
    return run_backtest(prices, weights, bars=bars, costs=costs, cash=10_000, exits=exits, **more)


def exits_of(result: BacktestResult) -> list[tuple]:
    """(bar, +-quantity, price, reason) of every fill but the entry at bar 2."""
    orders = result.orders.iloc[1:]
    bar = result.equity.index.get_indexer(orders["open_time"]).tolist()
    signed = orders["quantity"] * np.where(orders["side"] == "buy", 1, -1)
    return list(zip(bar, signed, orders["price"], orders["reason"], strict=True))


def test_a_stop_fills_at_its_level_inside_a_later_bar():
    result = run([CALM, (98, 99, 88, 95), CALM], STOP)
    assert exits_of(result) == [(3, -50, 90, "stop loss")]  # 100 less a tenth
    # Cash 10000 - 50 * 10 from the bar's own close on, whatever that close was.
    assert result.equity.tolist() == [10_000] * 3 + [9_500] * 2
    trade = result.trades.iloc[0]
    assert (trade["bars"], trade["closed"], trade["profit"]) == (1, True, -500)


def test_a_stop_is_checked_on_the_bar_of_the_entry_too():
    result = run([(100, 101, 85, 99), CALM], STOP)
    assert exits_of(result) == [(2, -50, 90, "stop loss")]
    assert result.trades[["bars", "closed"]].iloc[0].tolist() == [0, True]
    assert result.equity.tolist() == [10_000, 10_000, 9_500, 9_500]


def test_on_the_bar_of_the_entry_the_level_fills_at_itself_even_where_the_open_lay_beyond_it():
    # Bought at 100 * 1.2 = 120; the stop at 108 lies above the open, but the position was not there at the open: sold
    # at 108 * 0.8.
    result = run([CALM, CALM], STOP, costs=dataclasses.replace(FREE, slippage=0.2), weight=0.1)
    assert exits_of(result) == [(2, -10, pytest.approx(86.4), "stop loss")]


def test_a_bar_that_opens_below_the_stop_fills_at_its_open():
    assert exits_of(run([CALM, (80, 95, 75, 90)], STOP)) == [(3, -50, 80, "stop loss")]


def test_a_low_that_stays_above_the_stop_fills_nothing_and_one_that_meets_it_does():
    assert exits_of(run([CALM, (98, 99, 90.01, 95)], STOP)) == []
    assert exits_of(run([CALM, (98, 99, 90.0, 95)], STOP)) == [(3, -50, pytest.approx(90), "stop loss")]


def test_the_anchor_is_the_fill_with_its_slippage_and_the_stop_slips_too():
    costs = dataclasses.replace(FREE, slippage=0.01, fee=0.001)
    result = run([CALM, (98, 99, 88, 95)], STOP, costs=costs)
    # Bought at 101: the level is 90.9, filled at 90.9 * 0.99 = 89.991.
    assert exits_of(result) == [(3, -50, pytest.approx(89.991), "stop loss")]
    order = result.orders.iloc[1]
    assert order["slippage"] == pytest.approx(50 * 0.909)
    assert order["fee"] == pytest.approx(50 * 89.991 * 0.001)


def test_a_take_profit_fills_at_its_level_or_at_a_better_open_and_does_not_slip():
    costs = dataclasses.replace(FREE, slippage=0.01)
    assert exits_of(run([CALM, (102, 115, 101, 112)], TAKE)) == [(3, -50, pytest.approx(110), "take profit")]
    assert exits_of(run([CALM, (118, 120, 117, 119)], TAKE)) == [(3, -50, 118, "take profit")]
    slipped = exits_of(run([CALM, (102, 115, 101, 112)], TAKE, costs=costs))
    assert slipped == [(3, -50, pytest.approx(111.1), "take profit")]  # 101 and a tenth


def test_a_stop_and_a_take_profit_in_one_bar_are_taken_for_the_stop():
    assert exits_of(run([CALM, (100, 115, 85, 112)], ALL)) == [(3, -50, 90, "stop loss")]


def test_a_trailing_stop_follows_the_highs_of_the_bars_before_its_own():
    # The high of the entry bar counts from the next bar on: 120 * 0.9 = 108. The bar of 130 falls to 109, above 108,
    # though below 130 * 0.9 = 117; the bar after it opens at 116, below 117.
    result = run([(100, 120, 100, 118), (118, 130, 109, 125), (116, 118, 115, 116)], TRAIL)
    assert exits_of(result) == [(4, -50, 116, "trailing stop")]


def test_the_higher_of_stop_and_trail_counts_and_gives_the_reason():
    # From 104 the trail is 104 * 0.85 = 88.4, below the stop at 90; from 120 it is 102.
    assert exits_of(run([(100, 104, 100, 104), (104, 104, 80, 82)], ALL)) == [(3, -50, 90, "stop loss")]
    risen = [(100, 109, 100, 109), (109, 109.5, 93, 108), (93, 93.5, 92, 92)]
    # 109.5 * 0.85 = 93.075, of the bar before; it opens at 93, below.
    assert exits_of(run(risen, ALL)) == [(4, -50, 93, "trailing stop")]


@pytest.mark.parametrize(
    ("exits", "low", "bar", "price", "reason"),
    [
        (STOP, 90, (102, 115, 101, 112), 110, "stop loss"),
        (STOP, 90, (118, 120, 117, 119), 118, "stop loss"),  # opened beyond it
        (TAKE, 91, (98, 99, 85, 88), 90, "take profit"),
        (TAKE, 91, (85, 87, 84, 86), 85, "take profit"),
        (TRAIL, 90, (95, 105, 90, 104), 99, "trailing stop"),  # the low of the entry bar and a tenth
        (ALL, 92, (100, 115, 85, 88), 105.8, "trailing stop"),  # 92 * 1.15, below 110; 90 was reached in the same bar
    ],
)
def test_a_short_is_mirrored(exits, low, bar, price, reason):
    result = run([(100, 100, low, 95), bar], exits, weight=-0.5)
    assert exits_of(result) == [(3, 50, pytest.approx(price), reason)]
    assert result.trades["direction"].tolist() == ["short"]


def test_nothing_is_sent_after_a_stop_until_the_target_changes():
    after = [CALM, (98, 99, 85, 95), CALM, CALM, CALM, CALM]
    stands = run(after, STOP)
    assert len(stands.orders) == 2
    result = run(after, STOP, targets=[0, 0, 0.5, 0.5, 0.5, 0.4, 0, 0.5])
    # Stopped at 90: 9500. The next target is an order of its own, sized at the close of bar 3: 0.4 * 9500 / 95 = 40;
    # then its exit, and an entry again.
    assert [fill[:2] for fill in exits_of(result)] == [(3, -50), (5, 40), (6, -40), (7, 47.5)]


def test_an_exit_after_a_stop_has_nothing_to_do_and_nothing_to_wait_for():
    after = [CALM, (98, 99, 85, 95), (NONE,) * 4, CALM]
    result = run(after, STOP, targets=[0, 0, 0.5, 0.5, 0, 0])
    assert [fill[:2] for fill in exits_of(result)] == [(3, -50)]
    assert result.rejected.empty


def test_an_order_at_the_open_goes_before_the_stop_of_the_same_bar():
    after = [CALM, (80, 81, 70, 75)]
    sold = run(after, STOP, targets=[0, 0, 0.5, 0])
    assert exits_of(sold) == [(3, -50, 80, "target")]
    # Cut to half at 80 (the account counts 10000 at the last known close, 100: 25 are wanted), then the rest is stopped
    # at the open, for the position was held before it.
    halved = run(after, STOP, targets=[0, 0, 0.5, 0.25])
    assert exits_of(halved) == [(3, -25, 80, "target"), (3, -25, 80, "stop loss")]
    # Turned round at 80: a new position with a new anchor, whose stop at 88 the bar does not reach.
    turned = run(after, STOP, targets=[0, 0, 0.5, -0.5])
    assert exits_of(turned) == [(3, -100, 80, "target")]


def test_a_purchase_on_top_keeps_the_anchor_of_the_first_fill():
    # 50 at 100, 25 more at 120 (0.75 * 10000 / 100): the stop stays at 90.
    after = [CALM, (120, 120, 115, 118), (95, 96, 91, 92), (92, 92, 89, 90)]
    result = run(after, STOP, targets=[0, 0, 0.5, 0.75, 0.75, 0.75])
    assert [fill[0] for fill in exits_of(result)] == [3, 5]
    assert exits_of(result)[1] == (5, -75, 90, "stop loss")


def test_a_bar_that_did_not_print_triggers_nothing():
    result = run([CALM, (NONE,) * 4, (80, 82, 79, 80)], STOP)
    assert exits_of(result) == [(4, -50, 80, "stop loss")]
    assert result.rejected.empty


def test_no_volume_limits_a_stop():
    bars = 24
    first = pd.Timestamp("2024-03-04", tz="UTC")
    end = first + pd.Timedelta(hours=bars)
    grid = make_bars("24x7", "1h", start=first, end=end, latency=pd.Timedelta(minutes=1))
    quotes = [CALM] * 23 + [(95, 96, 80, 85)]
    prices, weights = make_prices(grid, {"A": quotes}), make_weights(grid, {"A": [0] * 21 + [0.5] * 3})
    rules = OrderRules(volume_share=0.03)  # 30 of 1000
    result = run_backtest(prices, weights, bars=grid, costs=FREE, cash=10_000, exits=STOP, orders=rules)
    # 30, the 20 that were left, and the stop of all 50 at once.
    assert result.orders["quantity"].tolist() == [30, pytest.approx(20), pytest.approx(50)]
    assert result.rejected["reason"].tolist() == ["cut to its share of the volume"]


def test_without_resting_the_account_knows_no_stop():
    judged = dataclasses.replace(STOP, resting=False)
    assert exits_of(run([CALM, (80, 81, 70, 75)], judged)) == []


def test_two_fills_of_one_bar_are_two_orders_and_the_curve_has_one_value_for_it():
    result = run([(100, 101, 85, 99), CALM], STOP)
    assert result.orders["open_time"].nunique() == 1
    assert result.orders["reason"].tolist() == ["target", "stop loss"]
    assert len(result.equity) == 4
    assert result.equity.index.is_unique
