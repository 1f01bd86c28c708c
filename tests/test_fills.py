"""Orders that do not fill as they were meant: lots, volume, cash, halts, session ends, margin, ruin; and bad tables."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import NONE, make_prices, make_weights

from finsignal.backtest import Costs, OrderRules, run_backtest
from finsignal.clock import make_bars
from finsignal.errors import ConfigError, TableError
from finsignal.signals import ExitRules
from finsignal.tables import ACTIONS, INSTANT, PRICES, BacktestResult

MINUTE = pd.Timedelta(minutes=1)
FREE = Costs(fee=0.0, slippage=0.0, delisting_return=-0.5, delisted_after=1000)


def make_hours(count: int, start: str = "2024-03-04") -> pd.DataFrame:
    first = pd.Timestamp(start, tz="UTC")
    return make_bars("24x7", "1h", start=first, end=first + pd.Timedelta(hours=count), latency=MINUTE)


def run(bars: pd.DataFrame, quotes: dict, targets: dict, costs: Costs = FREE, **more) -> BacktestResult:
    prices, weights = make_prices(bars, quotes, more.pop("volumes", None)), make_weights(bars, targets)
    return run_backtest(prices, weights, bars=bars, costs=costs, cash=10_000, **more)


def fills(result: BacktestResult) -> list[tuple]:
    """(bar, symbol, +-quantity, price, reason) of every order."""
    orders = result.orders
    signed = orders["quantity"] * np.where(orders["side"] == "buy", 1.0, -1.0)
    bar = result.equity.index.get_indexer(orders["open_time"]).tolist()
    return list(zip(bar, orders["symbol"], signed, orders["price"], orders["reason"], strict=True))


def log(result: BacktestResult) -> list[tuple]:
    """(bar, symbol, reason) of every line of the log."""
    bar = result.equity.index.get_indexer(result.rejected["open_time"]).tolist()
    return list(zip(bar, result.rejected["symbol"], result.rejected["reason"], strict=True))


# ---------------------------------------------------------------------------------------- lots and the smallest order


def test_a_position_is_whole_lots_towards_zero_and_an_exit_leaves_none():
    rules = OrderRules(lot=1.0, lots={"B": 0.1, "C": 0.0})
    targets = {"A": [0, 0, 0.3, 0], "B": [0, 0, -0.3, 0], "C": [0, 0, 0.3, 0]}
    result = run(make_hours(4), {"A": [97] * 4, "B": [97] * 4, "C": [97] * 4}, targets, orders=rules)
    # 3000 / 97 = 30.9278
    expected = {"A": 30, "B": -30.9, "C": 3_000 / 97}
    for bar, sign in ((2, 1), (3, -1)):
        got = {symbol: quantity for k, symbol, quantity, *_ in fills(result) if k == bar}
        assert got == {symbol: pytest.approx(sign * size) for symbol, size in expected.items()}


def test_a_lot_is_not_lost_to_the_rounding_of_a_division():
    # 0.3 / 0.1 is 2.9999999999999996, and three lots all the same.
    result = run(make_hours(4), {"A": [1_000] * 4}, {"A": [0, 0, 0.03, 0]}, orders=OrderRules(lot=0.1))
    assert result.orders["quantity"].tolist() == [pytest.approx(0.3)] * 2


def test_a_target_below_one_lot_buys_nothing_and_one_that_falls_below_it_leaves():
    rules = OrderRules(lot=10.0)
    result = run(make_hours(5), {"A": [100] * 5}, {"A": [0, 0, 0.05, 0.25, 0.05]}, orders=rules)
    # 5 shares are none; 25 are 20; 5 are none again, which is an order of 20.
    assert [fill[:3] for fill in fills(result)] == [(3, "A", 20), (4, "A", -20)]
    assert log(result) == [(2, "A", "less than one lot")]


def test_an_order_below_the_smallest_counts_as_sent_and_an_exit_is_never_too_small():
    rules = OrderRules(min_notional=600.0)
    result = run(make_hours(7), {"A": [100] * 7}, {"A": [0, 0, 0.05, 0.05, 0.07, 0.1, 0]}, orders=rules)
    # 500 is too small and not tried again; 700 is not; 300 more is; the exit of 700 goes.
    assert [fill[:3] for fill in fills(result)] == [(4, "A", pytest.approx(7)), (6, "A", pytest.approx(-7))]
    assert log(result) == [(2, "A", "below the smallest order"), (5, "A", "below the smallest order")]
    small = run(make_hours(6), {"A": [100, 100, 100, 50, 50, 50]}, {"A": [0, 0, 0.07, 0.07, 0.07, 0]}, orders=rules)
    assert fills(small)[-1][:3] == (5, "A", pytest.approx(-7))  # 350


# -------------------------------------------------------------------------------------------------- share of volume


def test_a_large_order_takes_several_bars_and_is_sized_anew_at_each():
    bars = make_hours(27)
    quotes = [100.0] * 21 + [100, 100, 125, 125, 125, 125]
    rules = OrderRules(volume_share=0.02, lot=1.0)  # 20 of a mean volume of 1000
    result = run(bars, {"A": quotes}, {"A": [0] * 21 + [0.5] * 6}, orders=rules)
    # 50 are wanted: 20 at bar 21, 20 at bar 22. At bar 23 the known close is still 100, the account 10000: the last 10,
    # at an open of 125. Then it is done, whatever the price.
    assert [fill[:4] for fill in fills(result)] == [(21, "A", 20, 100), (22, "A", 20, 100), (23, "A", 10, 125)]
    assert log(result) == [(k, "A", "cut to its share of the volume") for k in (21, 22)]


def test_what_is_left_of_a_cut_order_goes_when_the_target_goes():
    bars = make_hours(26)
    rules = OrderRules(volume_share=0.02)
    result = run(bars, {"A": [100.0] * 26}, {"A": [0] * 21 + [0.5, 0, 0, 0, 0]}, orders=rules)
    assert [fill[:3] for fill in fills(result)] == [(21, "A", 20), (22, "A", -20)]  # not the other 30


def test_a_volume_below_one_lot_fills_nothing_and_an_unknown_one_waits():
    bars = make_hours(24)
    rules = OrderRules(volume_share=0.02, lot=30.0)
    result = run(bars, {"A": [100.0] * 24}, {"A": [0] * 20 + [0.5] * 4}, orders=rules)
    # At 19:59 the bars up to 18:00-19:00 are known: 19 rows. Then 20 a bar are no lot of 30.
    assert result.orders.empty
    cut = "cut to its share of the volume"
    assert log(result) == [(20, "A", "volume not known yet"), *((k, "A", cut) for k in (21, 22, 23))]


# ------------------------------------------------------------------------------------------------------------- cash


def test_a_purchase_is_cut_to_what_cash_pays_in_whole_lots_with_its_fee():
    costs = dataclasses.replace(FREE, fee=0.01, fee_per_share=0.5)
    result = run(make_hours(4), {"A": [100] * 4}, {"A": [0, 0, 1, 1]}, costs, orders=OrderRules(lot=1.0))
    # 10000 / (100 * 1.01 + 0.5) = 98.52
    assert [fill[:3] for fill in fills(result)] == [(2, "A", 98)]
    assert log(result) == [(2, "A", "cut to the cash at hand")]
    least = run(make_hours(4), {"A": [100] * 4}, {"A": [0, 0, 1, 1]}, dataclasses.replace(costs, min_fee=250.0))
    # The fee by value would be 147.78: (10000 - 250) / 100.
    assert [fill[:3] for fill in fills(least)] == [(2, "A", pytest.approx(97.5))]
    assert least.equity.iloc[-1] == pytest.approx(9_750)


def test_a_gap_between_the_known_close_and_the_open_is_paid_from_cash_or_cut():
    result = run(
        make_hours(4), {"A": [100, 100, 160, 160], "B": [100] * 4}, {"A": [0, 0, 0.5, 0.5], "B": [0, 0, 0.5, 0]}
    )
    # 50 of each are wanted; A opens at 160. Both are of 5000, and A stands first: 8000, which leaves 2000 for B.
    assert [fill[:4] for fill in fills(result)][:2] == [(2, "A", 50, 160), (2, "B", 20, 100)]
    assert log(result) == [(2, "B", "cut to the cash at hand")]


def test_a_purchase_after_the_last_cash_is_refused_and_not_tried_again():
    targets = {"A": [0, 0, 1, 1, 1], "B": [0, 0, 0, 0.3, 0.3]}
    result = run(make_hours(5), {"A": [100] * 5, "B": [10] * 5}, targets)
    assert [fill[:3] for fill in fills(result)] == [(2, "A", 100)]
    assert log(result) == [(3, "B", "refused: no cash")]


def test_an_account_that_counts_nothing_at_the_known_closes_sends_no_order():
    quotes = {"A": [100, 100, 20, 20, 20], "B": [100] * 5}
    result = run(make_hours(5), quotes, {"A": [0, 0, -1.5, -1.5, -1.5], "B": [0, 0, 0, 0.5, 0.5]})
    # 150 short at 20. At 02:59 the close known is still 100: 13000 - 15000 < 0, though the account is worth 10000.
    assert [fill[:3] for fill in fills(result)] == [(2, "A", -150)]
    assert log(result) == [(3, "B", "refused: no cash")]


def test_a_short_is_covered_by_its_exit_even_where_the_account_counts_nothing_at_the_known_closes():
    quotes = {"A": [100, 100, 20, 20, 20]}
    result = run(make_hours(5), quotes, {"A": [0, 0, -1.5, 0, 0]})
    # 13000 - 15000 < 0 at the close known: an exit needs no value to be sized by.
    assert [fill[:3] for fill in fills(result)] == [(2, "A", -150), (3, "A", 150)]
    assert result.rejected.empty


# ------------------------------------------------------------------------------------------------- the end of a session


def test_hourly_positions_end_with_their_session_and_the_same_weight_is_a_new_order():
    bars = make_bars("XNYS", "1h", start="2024-03-04", end="2024-03-06", latency=MINUTE)  # 7 bars a day
    result = run(bars, {"A": [100] * 14}, {"A": [0, 0] + [0.5] * 12}, exits=ExitRules(session_close=True))
    assert [(bar, quantity, reason) for bar, _, quantity, _, reason in fills(result)] == [
        (2, 50, "target"), (6, -50, "session close"), (7, 50, "target"), (13, -50, "session close"),
    ]  # fmt: skip
    assert result.trades["closed"].all()
    assert result.trades["bars"].tolist() == [4, 6]


def test_daily_positions_end_at_the_close_of_the_day_of_their_entry():
    bars = make_bars("XNYS", "1d", start="2024-03-04", end="2024-03-08", latency=MINUTE)
    costs = dataclasses.replace(FREE, slippage=0.01, fee=0.001)
    quotes = [(100, 100), (100, 110), (100, 104), (100, 100)]
    result = run(bars, {"A": quotes}, {"A": [0, 0.5, 0.5, 0]}, costs, exits=ExitRules(session_close=True))
    # 50 at 101, sold at 110 * 0.99 = 108.9; the fees 5.05 and 5.445. Then 0.5 of what the account counts, at the close
    # known, 110.
    first = 10_000 + 50 * (108.9 - 101) - 5.05 - 5.445
    assert fills(result)[:2] == [(1, "A", 50, 101, "target"), (1, "A", -50, pytest.approx(108.9), "session close")]
    assert result.equity.iloc[1] == pytest.approx(first)
    assert fills(result)[2][:3] == (2, "A", pytest.approx(0.5 * first / 110))
    assert result.trades["bars"].tolist() == [0, 0]


def test_a_halt_at_the_end_of_a_session_is_logged_and_left_at_the_next_open_that_can_be_traded():
    bars = make_hours(8, start="2024-03-04T20:00")  # the session ends with bar 3
    quotes = {"A": [100, 100, 100, NONE, NONE, 90, 90, 90]}
    result = run(bars, quotes, {"A": [0, 0, 0.5, 0.5, 0, 0, 0, 0]}, exits=ExitRules(session_close=True))
    assert fills(result) == [(2, "A", 50, 100, "target"), (5, "A", -50, 90, "session close")]
    assert log(result) == [(3, "A", "bar did not print"), (4, "A", "bar did not print")]
    assert result.rejected["weight"].tolist() == [0, 0]
    # A target that stands there takes the place of the exit.
    kept = run(bars, quotes, {"A": [0, 0, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]}, exits=ExitRules(session_close=True))
    assert [(bar, reason) for bar, *_, reason in fills(kept)] == [(2, "target"), (5, "target"), (7, "session close")]


# ---------------------------------------------------------------------------------------------- margin, ruin, the end


def test_a_margin_call_closes_all_and_the_account_goes_on_with_targets_that_change_later():
    costs = dataclasses.replace(FREE, maintenance=0.3)
    quotes = {"A": [100, 100, 100, 180, 150, 150, 150, 150], "B": [100] * 8}
    targets = {"A": [0, 0, -0.9, -0.9, -0.9, -0.9, -0.5, -0.5], "B": [0, 0, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05]}
    result = run(make_hours(8), quotes, targets, costs)
    # 90 short at 100, 5 long. At 180: 10000 - 7200 = 2800, below 0.3 * (16200 + 500) = 5010. Closed at the next open,
    # 150: 10000 - 4500. The short of bar 6 counts from that: 0.5 * 5500 / 150. B's target stands and is not sent again.
    assert fills(result)[2:] == [
        (4, "A", 90, 150, "margin call"),
        (4, "B", -5, 100, "margin call"),
        (6, "A", pytest.approx(-2_750 / 150), 150, "target"),
    ]
    assert log(result) == [(3, "A", "margin call"), (3, "B", "margin call")]
    assert result.equity.iloc[3:].tolist() == [2_800, *[pytest.approx(5_500)] * 4]


def test_a_ruined_account_is_closed_and_sends_nothing_any_more():
    quotes = {"A": [100, 100, 100, 300, NONE, 250, 250, 250], "B": [100] * 8}
    targets = {"A": [0, 0, -0.9, -0.9, -0.9, -0.9, 0, 0], "B": [0, 0, 0, 0, 0, 0.5, 0.5, 0.2]}
    result = run(make_hours(8), quotes, targets)
    # At 300: 10000 - 90 * 200 < 0. Bought back when it prints again, with cash that is not there: 10000 - 90 * 150.
    assert fills(result) == [(2, "A", -90, 100, "target"), (5, "A", 90, 250, "ruin")]
    assert log(result) == [
        (3, "A", "ruin"),
        (4, "A", "bar did not print"),
        (5, "B", "refused: ruined"),
        (7, "B", "refused: ruined"),
    ]
    assert result.equity.iloc[-1] == -3_500


def test_a_short_in_a_name_that_is_gone_is_covered_whatever_the_cash_and_only_slips_plainly():
    costs = dataclasses.replace(FREE, delisted_after=2, delisting_return=0.0, slippage=0.01, slippage_volatility=5.0)
    closes = [100.0 + k % 2 for k in range(24)]
    quotes = {"A": [*closes, NONE, NONE], "B": [100 + k % 2 for k in range(26)]}
    targets = {"A": [0] * 22 + [-0.5] * 4, "B": [0] * 22 + [0.5] * 4}
    rules = OrderRules(volume_share=0.01, min_notional=100.0)  # 10 a bar
    result = run(make_hours(26), quotes, targets, costs, orders=rules)
    closing = result.orders[result.orders["reason"] == "delisted"].iloc[0]
    # Sold 10 and 10; covered whole at the last close, 101, and 1 % of slippage alone.
    assert (closing["quantity"], closing["price"]) == (pytest.approx(20), pytest.approx(101 * 1.01))


# ------------------------------------------------------------------------------------------------------ conservation


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_cash_and_positions_less_costs_are_the_equity_at_every_bar_with_everything_switched_on(seed):
    rng = np.random.default_rng(seed)
    count, symbols = 40, ["A", "B", "C"]
    bars = make_bars("XNYS", "1h", start="2024-03-04", end="2024-03-14", latency=MINUTE)[:count].reset_index(drop=True)
    quotes, targets, volumes = {}, {}, {}
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, count)))
        first = close * np.exp(rng.normal(0, 0.02, count))
        top, bottom = np.maximum(first, close) * 1.02, np.minimum(first, close) * 0.98
        first[rng.random(count) < 0.1] = np.nan
        quotes[symbol] = list(zip(first.tolist(), top.tolist(), bottom.tolist(), close.tolist(), strict=True))
        levels = rng.choice([0.0, 0.3, -0.5], count)
        targets[symbol] = pd.Series(levels).mask(rng.random(count) < 0.6).ffill().fillna(0.0).tolist()
        volumes[symbol] = rng.uniform(50, 500, count).tolist()
    costs = Costs(
        fee=0.001, slippage=0.001, delisting_return=-0.3, delisted_after=5, funding_rate=0.0005, maker_fee=0.0002,
        fee_per_share=0.01, min_fee=1.0, slippage_volatility=0.05, impact=0.05, borrow=0.3, interest=0.05,
        loan_interest=0.2, maintenance=0.25,
    )  # fmt: skip
    exits = ExitRules(stop_loss=0.08, take_profit=0.1, trailing_stop=0.12, resting=True, session_close=seed % 2 == 0)
    dividends = pd.DataFrame(
        {
            "symbol": pd.Series(symbols, dtype="str"),
            "time": pd.Series(bars["open_time"].iloc[[30, 30, 33]].array, dtype=INSTANT),
            "kind": pd.Series(["dividend"] * 3, dtype="str"),
            "value": [1.0, 2.0, 3.0],
        }
    )
    rules = OrderRules(lot=0.5, min_notional=50.0, volume_share=0.2)
    result = run(
        bars, quotes, targets, costs, orders=rules, exits=exits, dividends=ACTIONS.check(dividends), volumes=volumes
    )
    place = pd.Index(bars["open_time"])
    orders = result.orders
    signed = orders["quantity"] * np.where(orders["side"] == "buy", 1.0, -1.0)
    money = 10_000 + result.flows.sum(axis=1).to_numpy().cumsum()
    spent = np.zeros(count)
    np.add.at(spent, place.get_indexer(orders["open_time"]), signed * orders["price"] + orders["fee"])
    money -= spent.cumsum()
    for symbol in symbols:
        own = orders["symbol"] == symbol
        held = np.zeros(count)
        np.add.at(held, place.get_indexer(orders["open_time"][own]), signed[own])
        closes = pd.Series([np.nan if np.isnan(quote[0]) else quote[3] for quote in quotes[symbol]])
        money += np.nan_to_num(held.cumsum() * closes.ffill().to_numpy())
    np.testing.assert_allclose(result.equity, money, rtol=0, atol=1e-9 * 10_000)
    assert len(orders) > 0
    earned = result.trades["profit"].sum() + result.flows["interest"].sum()
    assert earned == pytest.approx(result.equity.iloc[-1] - 10_000, abs=1e-5)
    paid = np.zeros(count)
    np.add.at(paid, place.get_indexer(orders["open_time"]), orders["fee"] + orders["slippage"])
    paid -= result.flows["funding"].to_numpy() + result.flows["borrow"].to_numpy()
    np.testing.assert_allclose(result.gross, result.equity + paid.cumsum(), rtol=0, atol=1e-6)


# ----------------------------------------------------------------------------------------------------------- bad input


def test_weights_above_the_stated_gross_limit_are_refused():
    bars = make_hours(4)
    targets = {"A": [0, 0, 0.6, 0.6], "B": [0, 0, 0, -0.5]}
    quotes = {"A": [100] * 4, "B": [100] * 4}
    assert len(run(bars, quotes, targets, gross=1.1).orders) == 2
    with pytest.raises(TableError, match=r"weights of 2024-03-04 03:00.* sum to 1.1, above the gross limit of 1.0"):
        run(bars, quotes, targets, gross=1.0)


def test_prices_of_two_bar_lengths_are_refused():
    bars = make_hours(4)
    prices, weights = make_prices(bars, {"A": [100] * 4}), make_weights(bars, {"A": [0, 0, 0.5, 0.5]})
    half = make_bars("24x7", "30min", start="2024-03-04", end="2024-03-04T04:00", latency=MINUTE)
    halves = make_prices(half, {"B": [50] * 8})
    mixed = PRICES.to_table(pd.concat([prices, halves]))
    both = make_weights(bars, {"A": [0, 0, 0.5, 0.5], "B": [0, 0, 0.5, 0.5]})
    run_backtest(mixed, weights, bars=bars, costs=FREE, cash=10_000)  # B is not traded
    with pytest.raises(TableError, match=r"B has a row from .* one run has one bar length"):
        run_backtest(mixed, both, bars=bars, costs=FREE, cash=10_000)


def test_weights_of_a_wrong_length_order_dtype_or_without_a_number_are_refused():
    bars = make_hours(4)
    prices, weights = make_prices(bars, {"A": [100] * 4}), make_weights(bars, {"A": [0, 0, 0.5, 0.5]})
    for bad, told in (
        (weights[:0], "no rows"),
        (weights.drop(index=1).reset_index(drop=True), "one unbroken run"),
        (weights[::-1].reset_index(drop=True), "not sorted"),
        (weights.assign(weight=[0, 0, 1, 1]), "expected dtype float64"),
        (weights.assign(weight=[0.0, 0.0, np.nan, 0.5]), "expected a finite fraction"),
        (weights.assign(weight=[0.0, 0.0, np.inf, 0.5]), "expected a finite fraction"),
        (weights.assign(symbol=pd.Series(["Z"] * 4, dtype="str")), "'Z' has a weight but no row of prices"),
    ):
        with pytest.raises(TableError, match=told):
            run_backtest(prices, bad, bars=bars, costs=FREE, cash=10_000)


def test_a_run_changes_none_of_its_tables():
    bars = make_hours(6)
    prices = make_prices(bars, {"A": [100, 100, 100, 90, 80, NONE]})
    weights = make_weights(bars, {"A": [0, 0, 0.5, 0.5, 0.5, 0.5]})
    before = prices.copy(), weights.copy(), bars.copy()
    costs = dataclasses.replace(FREE, delisted_after=1, fee=0.01)
    run_backtest(prices, weights, bars=bars, costs=costs, cash=10_000)
    for now, then in zip((prices, weights, bars), before, strict=True):
        pd.testing.assert_frame_equal(now, then)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lot", -1.0), ("lot", NONE), ("min_notional", -1.0), ("volume_share", 1.1), ("lots", {"A": -1.0})],
)
def test_order_rules_that_cannot_be_meant_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"orders: {name}"):
        OrderRules(**{name: value})
