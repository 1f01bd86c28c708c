"""What each cost takes from an account, worked by hand, and what costs may never do."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import make_prices, make_weights

from finsignal.backtest import Costs, run_backtest
from finsignal.clock import make_bars
from finsignal.errors import ConfigError, TableError
from finsignal.signals import ExitRules
from finsignal.tables import ACTIONS, INSTANT, BacktestResult

MINUTE = pd.Timedelta(minutes=1)
FREE = Costs(fee=0.0, slippage=0.0, delisting_return=-0.5, delisted_after=1000)
YEAR = 365 * 24  # hours


def make_hours(count: int) -> pd.DataFrame:
    first = pd.Timestamp("2024-03-04", tz="UTC")
    return make_bars("24x7", "1h", start=first, end=first + pd.Timedelta(hours=count), latency=MINUTE)


def run(
    bars: pd.DataFrame, quotes: dict, targets: dict, costs: Costs, *, cash: float = 10_000, **more
) -> BacktestResult:
    volumes = more.pop("volumes", None)
    prices, weights = make_prices(bars, quotes, volumes), make_weights(bars, targets)
    return run_backtest(prices, weights, bars=bars, costs=costs, cash=cash, **more)


def make_dividends(rows: list[tuple[str, pd.Timestamp, float]], kind: str = "dividend") -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["symbol", "time", "value"]).assign(kind=kind)
    return ACTIONS.to_table(frame.astype({"symbol": "str", "kind": "str", "time": INSTANT, "value": float}))


# --------------------------------------------------------------------------------------------------------- fees


def test_an_order_pays_by_value_and_by_share():
    costs = dataclasses.replace(FREE, fee=0.001, fee_per_share=0.005)
    result = run(make_hours(5), {"A": [100, 100, 100, 120, 120]}, {"A": [0, 0, 0.5, 0, 0]}, costs)
    # 50 shares: 5000 * 0.001 + 50 * 0.005 = 5.25; sold at 120: 6 + 0.25.
    assert result.orders["fee"].tolist() == [pytest.approx(5.25), pytest.approx(6.25)]
    assert result.equity.iloc[-1] == pytest.approx(11_000 - 11.5)


def test_an_order_pays_at_least_the_smallest_fee_and_no_order_pays_none():
    costs = dataclasses.replace(FREE, fee=0.001, min_fee=8.0)
    result = run(make_hours(5), {"A": [100] * 5}, {"A": [0, 0, 0.5, 0.9, 0]}, costs)
    # 5000 is worth 5.0, less than 8. The account counts 10000 with the close known at 02:59 (00:00-03:00: 100), less
    # the 8 paid: 9992 * 0.9 / 100 = 89.928 shares, 39.928 more: 3.99, so 8 again. The exit, 8992.8, pays 8.9928.
    assert result.orders["fee"].tolist() == [8.0, 8.0, pytest.approx(8.9928)]


def test_a_take_profit_rests_and_pays_the_maker_fee_a_stop_the_taker_fee():
    costs = dataclasses.replace(FREE, fee=0.001, maker_fee=0.0002)
    exits = ExitRules(stop_loss=0.1, take_profit=0.1, resting=True)
    quotes = {"A": [100, 100, 100, (100, 115, 100, 112), 112], "B": [100, 100, 100, (100, 100, 85, 88), 88]}
    result = run(make_hours(5), quotes, {"A": [0, 0, 0.2, 0.2, 0.2], "B": [0, 0, 0.2, 0.2, 0.2]}, costs, exits=exits)
    left = result.orders[result.orders["side"] == "sell"].set_index("symbol")
    # 20 of each. A leaves at 110: 2200 * 0.0002; B at 90: 1800 * 0.001.
    assert left["reason"].tolist() == ["take profit", "stop loss"]
    assert left["fee"].tolist() == [pytest.approx(0.44), pytest.approx(1.8)]


# ----------------------------------------------------------------------------------------------------- slippage


def wavy(count: int) -> list[float]:
    """Closes that go up by a tenth and back."""
    return [100.0 if k % 2 else 110.0 for k in range(count)]


def test_slippage_by_volatility_and_impact_by_the_share_of_the_volume_worked_by_hand():
    bars, closes = make_hours(24), wavy(24)
    costs = dataclasses.replace(FREE, slippage=0.001, slippage_volatility=0.1, impact=0.2)
    volumes = {"A": [400.0] * 24}
    result = run(bars, {"A": closes}, {"A": [0.0] * 22 + [0.5, 0.5]}, costs, volumes=volumes)
    # Known at 21:59 are the bars up to 20:00-21:00 (k = 20), that is 21 rows and 20 returns: ten of +10 %, ten of
    # -1/11, mean m = (0.1 - 1/11) / 2. Each lies half their distance d = (0.1 + 1/11) / 2 from it:
    # volatility = sqrt(20 d^2 / 19). The close known is 110: 0.5 * 10000 / 110 = 45.4545 shares of a mean of 400.
    volatility = np.sqrt(20 / 19) * (0.1 + 1 / 11) / 2
    quantity = 5_000 / 110
    slip = 0.001 + 0.1 * volatility + 0.2 * volatility * np.sqrt(quantity / 400)
    order = result.orders.iloc[0]
    assert order["quantity"] == pytest.approx(quantity, rel=1e-12)
    assert order["price"] == pytest.approx(110 * (1 + slip), rel=1e-12)
    assert order["slippage"] == pytest.approx(quantity * 110 * slip, rel=1e-9)


def test_what_is_not_known_yet_waits_and_the_log_says_for_what():
    bars = make_hours(24)
    costs = dataclasses.replace(FREE, slippage_volatility=0.1)
    result = run(bars, {"A": [100.0] * 24}, {"A": [0.0] * 20 + [0.5] * 4}, costs)
    # 19:59 knows 20 rows (00:00 to 18:00-19:00 and one more closes at 20:00, too late): 19; at 21:59 there are 21.
    assert result.rejected["reason"].tolist() == ["volatility not known yet"] * 2
    assert result.orders["open_time"].tolist() == [bars["open_time"][22]]
    dry = dataclasses.replace(FREE, impact=0.1)
    nothing = run(bars, {"A": [100.0] * 24}, {"A": [0.0] * 22 + [0.5] * 2}, dry, volumes={"A": [0.0] * 24})
    assert nothing.rejected["reason"].tolist() == ["volume not known yet"] * 2
    assert nothing.orders.empty


def test_a_sale_never_slips_by_all_of_its_price():
    bars, closes = make_hours(26), wavy(26)
    costs = dataclasses.replace(FREE, slippage_volatility=50.0)
    result = run(bars, {"A": closes}, {"A": [0.0] * 23 + [-0.1] * 3}, costs)
    assert result.orders["price"].tolist() == [pytest.approx(closes[23] * 0.01)]


# -------------------------------------------------------------------------------------------- borrow and interest


def test_shorts_pay_borrow_by_symbol_for_the_time_that_passes():
    costs = dataclasses.replace(FREE, borrow=0.05, borrow_by_symbol={"B": 0.5})
    targets = {"A": [0, 0, -0.2, 0, 0], "B": [0, 0, -0.2, -0.2, -0.2], "C": [0, 0, 0.2, 0.2, 0.2]}
    result = run(make_hours(5), {symbol: [100] * 5 for symbol in "ABC"}, targets, costs)
    # 20 short of each at 100: A pays one hour, B three; C is long and pays nothing.
    hour_a, hour_b = 2_000 * 0.05 / YEAR, 2_000 * 0.5 / YEAR
    np.testing.assert_allclose(result.flows["borrow"], [0, 0, -hour_a - hour_b, -hour_b, -hour_b], rtol=1e-9)
    paid = dict(zip(result.trades["symbol"], result.trades["borrow"], strict=True))
    assert paid == {"A": pytest.approx(hour_a), "B": pytest.approx(3 * hour_b), "C": 0.0}
    assert result.trades["profit"].sum() == pytest.approx(result.equity.iloc[-1] - 10_000)
    assert result.gross.iloc[-1] == pytest.approx(10_000)


def test_borrow_runs_over_the_night_and_the_weekend():
    bars = make_bars("XNYS", "1d", start="2024-03-07", end="2024-03-12", latency=MINUTE)  # Thursday to Monday
    costs = dataclasses.replace(FREE, borrow=0.365)
    result = run(bars, {"A": [100] * 3}, {"A": [0, -0.5, -0.5]}, costs)
    # 5000 at 0.1 % a day. Friday 14:30 UTC to Monday 13:30 (summer time began): 2 days 23 hours; Monday 6.5 hours.
    expected = [0, -5 * 71 / 24, -5 * 6.5 / 24]
    np.testing.assert_allclose(result.flows["borrow"], expected, rtol=1e-9)


def test_free_cash_earns_interest_and_the_proceeds_of_a_short_do_not():
    costs = dataclasses.replace(FREE, interest=0.0876)  # 0.00001 an hour
    result = run(make_hours(3), {"A": [100, 100, (100, 120)]}, {"A": [0, 0, -0.5]}, costs)
    # Two hours of 10000: 0.10, then 0.100001 of 10000.10. At the close of the third, cash is what it was and the
    # proceeds of 0.5 * 10000.10 (known at 01:59: one hour's interest, and the second) less the short at 120.
    first, second = 10_000 * 1e-5, 10_000.1 * 1e-5
    np.testing.assert_allclose(result.flows["interest"][:2], [first, second], rtol=1e-12)
    before = 10_000 + first + second
    short = 0.5 * before / 100
    third = (before + short * 100 - short * 120) * 1e-5
    assert result.flows["interest"].iloc[2] == pytest.approx(third, rel=1e-9)
    assert result.equity.iloc[-1] == pytest.approx(before + third - short * 20, rel=1e-12)


def test_cash_below_zero_pays_for_its_loan():
    costs = dataclasses.replace(FREE, loan_interest=0.876)  # 0.0001 an hour
    quotes = {"A": [100, 100, 100, (180, 180), 180, 180], "B": [100] * 6}
    targets = {"A": [0, 0, -0.9, -0.9, 0, 0], "B": [0, 0, 0.9, 0.9, 0.9, 0.9]}
    exits = ExitRules(stop_loss=0.5, resting=True)
    result = run(make_hours(6), quotes, targets, costs, exits=exits)
    # 90 of each: cash 10000. The short is stopped at the open of bar 3, 180: cash 10000 - 16200 = -6200, an hour at
    # 0.62; the next hour at 6200.62 * 0.0001, and so on.
    np.testing.assert_allclose(result.flows["interest"][:5], [0, 0, 0, -0.62, -0.620062], rtol=1e-9)


# ------------------------------------------------------------------------------------------------------ dividends


def test_a_long_receives_a_dividend_and_a_short_pays_it_at_the_first_open_after_it():
    bars = make_hours(6)
    opened = bars["open_time"]
    dividends = make_dividends(
        [
            ("A", opened[2], 9.0),  # at the open at which A is bought: nothing was held before it
            ("A", opened[2] + MINUTE, 2.0),  # counts at the open of bar 3
            ("A", opened[4], 1.5),  # sold at this open, but held before it
            ("A", opened[5] + MINUTE, 7.0),  # after the last open
            ("B", opened[3], 1.0),
            ("Z", opened[3], 5.0),  # not traded
        ]
    )
    targets = {"A": [0, 0, 0.5, 0.5, 0, 0], "B": [0, 0, -0.2, -0.2, -0.2, -0.2]}
    result = run(bars, {"A": [100] * 6, "B": [100] * 6}, targets, FREE, dividends=dividends)
    # A: 50 * 2 = 100 at bar 3, 50 * 1.5 = 75 at bar 4. B: 20 short pay 20 at bar 3.
    np.testing.assert_allclose(result.flows["dividends"], [0, 0, 0, 80, 75, 0], rtol=1e-12)
    assert result.equity.iloc[-1] == pytest.approx(10_155)
    got = dict(zip(result.trades["symbol"], result.trades["dividends"], strict=True))
    assert got == {"A": pytest.approx(175), "B": pytest.approx(-20)}
    assert result.trades["profit"].sum() == pytest.approx(155)
    assert result.gross.iloc[-1] == pytest.approx(10_155)  # a dividend is no cost


def test_a_dividend_is_cash_that_sizes_later_orders():
    bars = make_hours(6)
    dividends = make_dividends([("A", bars["open_time"][3], 20.0)])
    targets = {"A": [0, 0, 0.5, 0.5, 0.5, 0.5], "B": [0, 0, 0, 0, 0.5, 0.5]}
    result = run(bars, {"A": [100] * 6, "B": [100] * 6}, targets, FREE, dividends=dividends)
    # 50 * 20 = 1000 received at bar 3: at bar 4 the account counts 11000, and B gets 55.
    assert result.orders["quantity"].tolist() == [50, pytest.approx(55)]


def test_splits_among_the_actions_move_nothing_and_a_strange_kind_or_dtype_is_refused():
    bars = make_hours(5)
    when = bars["open_time"][3]
    quotes, targets = {"A": [100] * 5}, {"A": [0, 0, 0.5, 0.5, 0.5]}
    split = make_dividends([("A", when, 2.0)], kind="split")
    assert run(bars, quotes, targets, FREE, dividends=split).equity.iloc[-1] == 10_000
    good = make_dividends([("A", when, 2.0)])
    for bad, told in (
        (good.assign(kind=pd.Series(["gift"], dtype="str")), "expected one of split, dividend"),
        (good.assign(value=[2]), "expected dtype float64"),
        (good.assign(value=[-2.0]), "above 0"),
        (good.assign(time=good["time"].dt.tz_localize(None)), "expected dtype datetime64"),
        (good.drop(columns="value"), "no column 'value'"),
    ):
        with pytest.raises(TableError, match=told):
            run(bars, quotes, targets, FREE, dividends=bad)


# -------------------------------------------------------------------------------------------------- what costs never do


@pytest.mark.slow
@settings(max_examples=20)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        ["fee", "slippage", "fee_per_share", "min_fee", "slippage_volatility", "impact", "borrow", "loan_interest"]
    ),
)
def test_higher_costs_never_help_one_symbol_whose_orders_cash_pays_for(seed, name):
    rng = np.random.default_rng(seed)
    bars = make_hours(60)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 60)))
    first = close * np.exp(rng.normal(0, 0.005, 60))
    levels = rng.choice([0.0, 0.4, -0.4], 60)
    levels[:22] = 0.0  # volatility is not known before
    targets = {"A": pd.Series(levels).mask(rng.random(60) < 0.5).ffill().fillna(0.0).tolist()}
    quotes = {"A": list(zip(first.tolist(), close.tolist(), strict=True))}
    highest = {"fee": 0.01, "slippage": 0.01, "fee_per_share": 0.5, "min_fee": 20.0, "slippage_volatility": 1.0}
    ends = []
    for part in (0.0, 0.3, 1.0):
        value = part * highest.get(name, 1.0)
        costs = dataclasses.replace(FREE, **{name: value})
        ends.append(run(bars, quotes, targets, costs).equity.iloc[-1])
    assert ends[0] >= ends[1] - 1e-9
    assert ends[1] >= ends[2] - 1e-9


@pytest.mark.parametrize(
    "name", ["fee_per_share", "min_fee", "slippage_volatility", "impact", "interest", "maintenance"]
)
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_costs_that_cannot_be_meant_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"costs: {name} is"):
        dataclasses.replace(FREE, **{name: value})
