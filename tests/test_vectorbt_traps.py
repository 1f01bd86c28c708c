"""Traps of bare vectorbt, one test each: that it is still there as installed, and that nobody falls into it here.

The first half of a test fails where another version of vectorbt mends (or moves) a trap: then look whether the guard is
still needed. Prices are given in cash, the account begins with 10,000 unless said.
"""

import dataclasses
import gc
import inspect
import warnings
from collections.abc import Callable
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reference import NONE, make_prices, make_weights

from finsignal import metrics
from finsignal.backtest import Costs, run_backtest
from finsignal.clock import make_bars
from finsignal.errors import TableError
from finsignal.evidence import measure
from finsignal.signals.rules import ExitRules
from finsignal.tables import ACTIONS, INSTANT, WEIGHTS, BacktestResult

FREE = Costs(fee=0.0, slippage=0.0, delisting_return=-0.5, delisted_after=100)
MINUTE = pd.Timedelta(minutes=1)
DAYS = pd.date_range("2024-01-01", periods=6, freq="D")


@pytest.fixture(scope="module")
def vbt() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import vectorbt
    return vectorbt


def bare(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """vectorbt without its warnings, which are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*arguments, **options)


def series(*values: float) -> pd.Series:
    return pd.Series(values, index=DAYS[: len(values)], dtype=float)


def mask(*values: int) -> pd.Series:
    return pd.Series(values, index=DAYS[: len(values)], dtype=bool)


NEVER = mask(0, 0, 0, 0, 0, 0)
CLOSE = series(10, 11, 12, 13, 14, 15)
SECOND = mask(0, 1, 0, 0, 0, 0)


def done(portfolio: Any) -> list[tuple[int, float, str]]:
    """(row, price, side) of every order of vectorbt."""
    records = portfolio.orders.records
    return [(int(i), float(p), "sell" if s else "buy") for i, p, s in records[["idx", "price", "side"]].to_numpy()]


def make_hours(count: int) -> pd.DataFrame:
    """Hourly bars of a market that never closes. The newest close known at a decision is that of two bars before."""
    first = pd.Timestamp("2024-03-04", tz="UTC")
    return make_bars("24x7", "1h", start=first, end=first + pd.Timedelta(hours=count), latency=MINUTE)


def run(quotes: dict, targets: dict, *, costs: Costs = FREE, cash: float = 10_000, **options: Any) -> BacktestResult:
    bars = make_hours(len(next(iter(quotes.values()))))
    return run_backtest(
        make_prices(bars, quotes), make_weights(bars, targets), bars=bars, costs=costs, cash=cash, **options
    )


def filled(result: BacktestResult) -> list[tuple[int, str, float, float]]:
    """(hour, symbol, +-quantity, price) of every fill."""
    sign = np.where(result.orders["side"] == "buy", 1.0, -1.0)
    hours = result.orders["open_time"].dt.hour
    columns = (hours, result.orders["symbol"], sign * result.orders["quantity"], result.orders["price"])
    return [tuple(row) for row in zip(*columns, strict=True)]


def test_trap_1_orders_fill_at_the_close_of_the_bar_that_gave_the_signal(vbt):
    portfolio = bare(vbt.Portfolio.from_signals, CLOSE, SECOND, NEVER, init_cash=100)
    assert done(portfolio) == [(1, 11.0, "buy")]

    result = run({"A": [(k + 100, k + 100.5) for k in range(6)]}, {"A": [0, 0, 0.5, 0.5, 0, 0]})
    assert [(hour, price) for hour, _, _, price in filled(result)] == [(2, 102), (4, 104)]  # opens, decided before them
    bars = make_hours(6).set_index("open_time")
    assert (result.orders["open_time"] > result.orders["open_time"].map(bars["time"])).all()


def test_trap_2_a_price_of_minus_infinity_fills_at_the_close_before(vbt):
    before = partial(bare, vbt.Portfolio.from_orders, CLOSE, series(0, 1, 0, 0, 0, 0), init_cash=100)
    assert done(before(price=-np.inf)) == [(1, 10.0, "buy")]

    # The open lies below all closes and above them; the fill is at the open, and the close before only sizes it.
    for first in (50.0, 150.0):
        result = run({"A": [100, 100, (first, 100), 100]}, {"A": [0, 0, 0.5, 0.5]})
        assert filled(result) == [(2, "A", 50.0, first)]


def test_trap_3_an_order_at_a_bar_without_price_is_dropped_and_not_tried_again(vbt):
    price = CLOSE.copy()
    price.iloc[3] = NONE
    leave = mask(0, 0, 0, 1, 0, 0)
    portfolio = bare(vbt.Portfolio.from_signals, CLOSE, SECOND, leave, price=price, init_cash=100)
    assert [side for _, _, side in done(portfolio)] == ["buy"]

    result = run({"A": [100, 100, 100, NONE, NONE, 90]}, {"A": [0, 0, 0.5, 0, 0, 0]})
    assert filled(result) == [(2, "A", 50.0, 100.0), (5, "A", -50.0, 90.0)]
    assert result.rejected["reason"].tolist() == ["bar did not print"] * 2


def test_trap_4_a_name_that_is_gone_counts_at_its_last_price_for_ever(vbt):
    close = series(10, 12, 13, NONE, NONE, NONE)
    portfolio = bare(vbt.Portfolio.from_orders, close, series(10, NONE, NONE, NONE, NONE, NONE), init_cash=100)
    assert portfolio.value().tolist() == [100, 120, 130, 130, 130, 130]
    assert portfolio.trades.records["status"].tolist() == [0]  # open

    costs = dataclasses.replace(FREE, delisting_return=-0.3, delisted_after=3)
    quotes = {"A": [100, 100, 100, 120, NONE, NONE, NONE], "B": [1] * 7}
    result = run(quotes, {"A": [0, 0, *[0.5] * 5], "B": [0] * 7}, costs=costs)
    # 50 shares, last seen at 120: 11000, then 50 * 84 + 5000.
    assert result.equity.tolist() == pytest.approx([10_000] * 3 + [11_000] + [9_200] * 3)
    assert result.trades["closed"].tolist() == [True]


def test_trap_5_signals_take_no_target_weight(vbt):
    with pytest.raises(vbt.portfolio.enums.RejectedOrderError, match=r"Only SizeType\.Amount"):
        bare(vbt.Portfolio.from_signals, CLOSE, SECOND, NEVER, size=0.5, size_type="targetpercent")

    # A target is a fraction of the account, also where a position is resized: 0.5, then 0.25 of what it is worth then.
    result = run({"A": [100, 100, 100, 120, 120, 120]}, {"A": [0, 0, 0.5, 0.5, 0.5, 0.25]})
    assert filled(result) == [(2, "A", 50.0, 100.0), (5, "A", 0.25 * 11_000 / 120 - 50, 120.0)]


def test_trap_6_the_first_of_several_symbols_takes_all_the_cash(vbt):
    prices = pd.DataFrame({"A": [10.0] * 6, "B": [10.0] * 6}, index=DAYS)
    both = pd.DataFrame({"A": SECOND, "B": SECOND})
    portfolio = bare(
        vbt.Portfolio.from_signals, prices, both, False, cash_sharing=True, group_by=True, init_cash=100
    )  # fmt: skip
    assert portfolio.orders.records[["col", "size"]].to_numpy().tolist() == [[0, 10]]

    result = run({"A": [10] * 4, "B": [20] * 4}, {"A": [0, 0, 0.5, 0.5], "B": [0, 0, 0.5, 0.5]})
    assert filled(result) == [(2, "A", 500.0, 10.0), (2, "B", 250.0, 20.0)]


def test_trap_7_a_rotation_ends_flat_because_the_purchase_comes_before_the_sale(vbt):
    prices = pd.DataFrame({"A": [10.0] * 2, "B": [10.0] * 2}, index=DAYS[:2])
    weights = pd.DataFrame({"A": [0.0, 1.0], "B": [1.0, 0.0]}, index=DAYS[:2])
    shared = {"size_type": "targetpercent", "cash_sharing": True, "group_by": True, "init_cash": 100}
    portfolio = bare(vbt.Portfolio.from_orders, prices, weights, **shared)
    assert portfolio.assets().to_numpy().tolist() == [[0, 10], [0, 0]]

    result = run({"A": [10] * 5, "B": [10] * 5}, {"A": [0, 0, 0, 1, 1], "B": [0, 0, 1, 0, 0]})
    assert filled(result) == [(2, "B", 1000, 10), (3, "A", 1000, 10), (3, "B", -1000, 10)]
    assert result.rejected.empty


def test_trap_8_costs_of_a_full_book_starve_its_last_symbol_without_a_word(vbt):
    prices = pd.DataFrame({"A": [10.0], "B": [10.0]}, index=DAYS[:1])
    half = pd.DataFrame({"A": [0.5], "B": [0.5]}, index=DAYS[:1])
    shared = {"size_type": "targetpercent", "cash_sharing": True, "group_by": True, "call_seq": "auto", "fees": 0.02}
    portfolio = bare(vbt.Portfolio.from_orders, prices, half, **shared, init_cash=1_000)
    assert portfolio.asset_value(group_by=False).to_numpy()[0].tolist() == [500, pytest.approx(490 / 1.02)]

    quotes, targets = {"A": [10] * 4, "B": [10] * 4}, {"A": [0, 0, 0.5, 0.5], "B": [0, 0, 0.5, 0.5]}
    costs = dataclasses.replace(FREE, fee=0.02)
    result = run(quotes, targets, costs=costs, cash=1_000)
    assert result.orders["quantity"].tolist() == [50, pytest.approx(49 / 1.02)]
    assert result.rejected[["symbol", "reason"]].to_numpy().tolist() == [["B", "cut to the cash at hand"]]
    left_room = {symbol: [0.98 * w for w in weights] for symbol, weights in targets.items()}
    roomy = run(quotes, left_room, costs=costs, cash=1_000)
    assert roomy.orders["quantity"].tolist() == [49, 49]
    assert roomy.rejected.empty


def test_trap_9_a_short_of_three_times_the_account_runs_on_below_nothing(vbt):
    short = series(-3, NONE, NONE, NONE, NONE, NONE)
    prices = series(10, 10, 20, 30, 40, 50)
    portfolio = bare(vbt.Portfolio.from_orders, prices, short, size_type="targetpercent", init_cash=100)
    assert portfolio.value().tolist() == [100, 100, -200, -500, -800, -1100]

    quotes = {"A": [10, 10, 10, 20, 30, 40, 50, 60]}
    ruined = run(quotes, {"A": [0, 0, -3, -3, -3, -3, -2, -2]}, cash=100)
    # 30 short; at 20 the account is worth -200, so all is bought back at the next open, and nothing is sold again.
    assert ruined.equity.tolist() == [100, 100, 100, -200, -500, -500, -500, -500]
    assert ruined.orders["reason"].tolist() == ["target", "ruin"]
    assert ruined.rejected["reason"].tolist() == ["ruin", "refused: ruined"]
    costs = dataclasses.replace(FREE, maintenance=0.3)
    called = run({"A": [10, 10, 10, (10, 10.5), 10.5, 20]}, {"A": [0, 0, *[-3] * 4]}, costs=costs, cash=100)
    assert called.orders["reason"].tolist() == ["target", "margin call"]  # 85 left is below 0.3 * 315
    assert called.equity.iloc[-1] == pytest.approx(85)
    with pytest.raises(TableError, match="above the gross limit of 1"):
        run(quotes, {"A": [0, 0, *[-3] * 6]}, gross=1.0)


def test_trap_10_nothing_but_orders_moves_cash(vbt):
    options = inspect.signature(vbt.Portfolio.from_orders).parameters
    assert [name for name in options if any(w in name for w in ("borrow", "fund", "divid", "interest", "margin"))] == []

    bars = make_hours(6)
    actions = pd.DataFrame({"symbol": ["A"], "time": bars["open_time"][[4]], "kind": ["dividend"], "value": [2.0]})
    dividends = ACTIONS.to_table(actions.astype({"symbol": "str", "time": INSTANT, "kind": "str"}))
    costs = dataclasses.replace(FREE, funding_rate=0.001, borrow=0.876, interest=0.0876)
    quotes = {"A": [100] * 10}
    result = run(quotes, {"A": [0, 0, *[-0.5] * 8]}, costs=costs, dividends=dividends)
    worth = 50 * 100 * (1 + 2e-5)  # two hours of interest at 0.00001 an hour, on 10000
    assert result.flows["dividends"].tolist() == pytest.approx([0, 0, 0, 0, -worth * 0.02, 0, 0, 0, 0, 0], rel=1e-6)
    assert result.flows["funding"].tolist() == pytest.approx([0] * 8 + [worth * 0.001, 0], rel=1e-6)
    assert result.flows["borrow"].tolist() == pytest.approx([0, 0, *[-worth * 0.0001] * 8], rel=1e-6)
    assert (result.flows["interest"] > 0).all()
    assert result.equity.iloc[-1] == pytest.approx(10_000 + result.flows.to_numpy().sum(), rel=1e-12)


def test_trap_11_the_sharpe_ratio_of_stocks_is_annualised_by_365_days(vbt):
    rng = np.random.default_rng(0)
    returns = pd.Series(rng.normal(0.001, 0.01, 300), index=pd.date_range("2020-01-01", periods=300, freq="D"))
    ratio = bare(lambda: returns.vbt.returns(freq="1D").sharpe_ratio())
    assert ratio / metrics.sharpe_ratio(returns, days_per_year=252) == pytest.approx((365 / 252) ** 0.5)

    # Ours takes days, also of hourly bars, and the year of the market.
    bars = make_bars("XNYS", "1h", start="2024-03-04", end="2024-03-16", latency=MINUTE)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(bars))))
    result = run_backtest(
        make_prices(bars, {"A": closes.tolist()}), make_weights(bars, {"A": [0] * 2 + [0.9] * (len(bars) - 2)}),
        bars=bars, costs=FREE, cash=10_000,
    )  # fmt: skip
    days = result.equity.groupby(bars["session"].to_numpy()).last().to_numpy()
    daily = days / np.r_[10_000, days[:-1]] - 1
    assert len(daily) == 10
    for market, year in {"XNYS": 252, "24x7": 365}.items():
        figure = measure(result, bars, market=market)["sharpe"]
        assert figure == pytest.approx(daily.mean() / daily.std(ddof=1) * year**0.5)


def test_trap_12_days_with_a_weekend_between_have_no_frequency(vbt):
    business = pd.bdate_range("2024-01-04", periods=4)  # Thursday to Tuesday
    holiday = pd.DatetimeIndex(["2024-01-04", "2024-01-05", "2024-01-08", "2024-01-10"])
    for days, complaint in [(holiday, "frequency is None"), (business, "non-fixed frequency")]:
        portfolio = bare(vbt.Portfolio.from_orders, pd.Series([10.0, 11, 12, 13], index=days), 1, init_cash=100)
        with pytest.raises(ValueError, match=complaint):
            bare(portfolio.sharpe_ratio)

    bars = make_bars("XNYS", "1d", start="2024-01-02", end="2024-01-17", latency=MINUTE)  # weekends and a holiday
    assert bars["open_time"].diff().nunique() == 3
    result = run_backtest(
        make_prices(bars, {"A": [100.0 + k % 3 for k in range(10)]}), make_weights(bars, {"A": [0.9] * 10}), bars=bars,
        costs=FREE, cash=10_000,
    )  # fmt: skip
    assert np.isfinite(measure(result, bars, market="XNYS")["sharpe"])


OPEN, HIGH, LOW, LAST = (
    series(10, 10, 10, 10),
    series(10.5, 11.2, 11, 11),
    series(9.9, 9.9, 10.3, 9),
    series(10, 11, 10.6, 9.5),
)
FLAT = mask(0, 0, 0, 0)
STOP = ExitRules(stop_loss=0.05, resting=True)


def test_trap_13_a_stop_hangs_on_the_close_of_the_entry_bar_not_on_the_fill(vbt):
    at_open = {"price": OPEN, "open": OPEN, "high": HIGH, "low": LOW, "sl_stop": 0.05, "init_cash": 100}
    portfolio = bare(vbt.Portfolio.from_signals, LAST, SECOND[:4], FLAT, **at_open)
    assert done(portfolio)[1][0] == 2  # 11 * 0.95 = 10.45, above the low of 10.3
    at_fill = bare(vbt.Portfolio.from_signals, LAST, SECOND[:4], FLAT, **at_open, stop_entry_price="fillprice")
    assert done(at_fill)[1] == (3, 9.5, "sell")

    quotes = {"A": [10, 10, (10, 11.2, 9.9, 11), (10.9, 11, 10.3, 10.6), (10, 11, 9, 9.5), 9.5]}
    result = run(quotes, {"A": [0, 0, 0.5, 0.5, 0.5, 0.5]}, exits=STOP)
    assert filled(result) == [(2, "A", 500, 10), (4, "A", -500, 9.5)]


def test_trap_14_a_stop_is_blind_on_the_bar_of_its_entry(vbt):
    low = series(9.9, 5, 10.3, 10.2)
    at_fill = {"price": OPEN, "open": OPEN, "high": HIGH, "low": low, "sl_stop": 0.05, "stop_entry_price": "fillprice"}
    portfolio = bare(vbt.Portfolio.from_signals, LAST, SECOND[:4], FLAT, **at_fill, init_cash=100)
    assert done(portfolio) == [(1, 10.0, "buy")]

    result = run({"A": [10, 10, (10, 11, 5, 11), 11, 11]}, {"A": [0, 0, 0.5, 0.5, 0.5]}, exits=STOP)
    assert filled(result) == [(2, "A", 500, 10), (2, "A", -500, 9.5)]
    assert result.trades["bars"].tolist() == [0]
    assert result.equity.iloc[-1] == 9_750


def test_trap_15_a_stop_inside_the_bar_goes_before_an_exit_at_its_open(vbt):
    leave, low = mask(0, 0, 1, 0), series(9.9, 9.9, 9, 9)
    at_fill = {"price": OPEN, "open": OPEN, "high": HIGH, "low": low, "sl_stop": 0.05, "stop_entry_price": "fillprice"}
    portfolio = bare(vbt.Portfolio.from_signals, LAST, SECOND[:4], leave, **at_fill, init_cash=100)
    assert done(portfolio)[1] == (2, 9.5, "sell")  # the exit at the open of 10 came first

    result = run({"A": [10, 10, 10, (10, 11, 9, 10), 10]}, {"A": [0, 0, 0.5, 0, 0]}, exits=STOP)
    assert filled(result) == [(2, "A", 500, 10), (3, "A", -500, 10)]
    assert result.orders["reason"].tolist() == ["target", "target"]


def test_trap_16_an_entry_and_an_exit_at_one_bar_cancel_to_nothing(vbt):
    portfolio = bare(vbt.Portfolio.from_signals, CLOSE, SECOND, SECOND, init_cash=100)
    assert done(portfolio) == []

    # Weights cannot say two things of one bar, and a reversal is one order.
    weights = make_weights(make_hours(3), {"A": [0, 0, 0.5]})
    twice = pd.concat([weights, weights.tail(1).assign(weight=0.0)], ignore_index=True)
    with pytest.raises(TableError, match="repeat the key"):
        WEIGHTS.check(twice)
    result = run({"A": [10] * 5}, {"A": [0, 0, 0.5, -0.5, -0.5]})
    assert filled(result) == [(2, "A", 500, 10), (3, "A", -1000, 10)]
    assert result.trades["direction"].tolist() == ["long", "short"]


def test_trap_17_columns_are_matched_by_position_and_not_by_name(vbt):
    prices = pd.DataFrame({"A": [1.0] * 6, "B": [100.0] * 6}, index=DAYS)
    swapped = pd.DataFrame({"B": SECOND, "A": NEVER})
    portfolio = bare(vbt.Portfolio.from_signals, prices, swapped, False, init_cash=100)
    assert portfolio.orders.records["price"].tolist() == [1.0]  # a signal for B, traded at the price of A

    result = run({"B": [100.0] * 4, "A": [1.0] * 4, "C": [7.0] * 4}, {"C": [0] * 4, "B": [0, 0, 0.5, 0.5]})
    assert filled(result) == [(2, "B", 50, 100)]
    with pytest.raises(TableError, match=r"symbol 'BB' has a weight but no row of prices\. Did you mean 'B'"):
        run({"B": [100.0] * 4}, {"BB": [0, 0, 0.5, 0.5]})


def test_trap_17b_bare_arrays_are_matched_by_position_whatever_their_times(vbt):
    late = SECOND.set_axis(SECOND.index + pd.Timedelta(days=1))
    with pytest.raises(ValueError, match="index_from=strict"):
        bare(vbt.Portfolio.from_signals, CLOSE, late, NEVER)
    with pytest.raises(ValueError, match="index_from=strict"):
        bare(vbt.Portfolio.from_signals, CLOSE, SECOND.tz_localize("UTC"), NEVER)
    portfolio = bare(vbt.Portfolio.from_signals, CLOSE, late.to_numpy(), NEVER.to_numpy(), init_cash=100)
    assert done(portfolio) == [(1, 11.0, "buy")]  # meant for the day after

    bars = make_hours(4)
    prices, weights = make_prices(bars, {"A": [10.0] * 4}), make_weights(bars, {"A": [0, 0, 0.5, 0.5]})
    go = partial(run_backtest, bars=bars, costs=FREE, cash=10_000)
    half = pd.Timedelta(minutes=30)
    with pytest.raises(TableError, match="one unbroken run of the grid"):
        go(prices, weights.assign(open_time=weights["open_time"] + half))
    with pytest.raises(TableError, match="opens at a bar of the grid"):
        go(prices.assign(open_time=prices["open_time"] - half), weights)
    with pytest.raises(TableError, match=r"weights\.open_time: expected dtype"):
        go(prices, weights.assign(open_time=weights["open_time"].dt.tz_localize(None)))
    with pytest.raises(TableError, match="expected a DataFrame, got ndarray"):
        go(prices, weights[["weight"]].to_numpy())


def test_trap_18_the_kurtosis_in_the_error_of_a_sharpe_ratio_is_that_of_which_a_normal_has_3(vbt):
    """vectorbt took 0 for a normal up to 1.1 in its deflated Sharpe ratio; 1.2 is right, and is held to it here.

    There is no deflated Sharpe ratio in finsignal yet. What has the same formula under the root is the standard error.
    """
    values = np.tile([0.03, -0.01], 50)  # skewness 0 and kurtosis 1, the least there is
    returns = pd.Series(values, index=pd.date_range("2024-01-01", periods=100, freq="D"))
    daily = values.mean() / values.std(ddof=1)
    deflated = bare(lambda: returns.vbt.returns(freq="1D").deflated_sharpe_ratio(var_sharpe=36.5, nb_trials=10))
    normal, gamma = NormalDist(), np.euler_gamma
    luck = np.sqrt(36.5 / 365) * (
        (1 - gamma) * normal.inv_cdf(1 - 1 / 10) + gamma * normal.inv_cdf(1 - 1 / (10 * np.e))
    )
    assert deflated == pytest.approx(normal.cdf((daily - luck) * np.sqrt(99)))  # the root is sqrt(1 - 0 + 0)

    # sqrt((1 - 0 * s + (1 - 1) / 4 * s ** 2) / 99), a year of 252 days; with a kurtosis of -2 it would be 0.903 of it.
    assert metrics.sharpe_error(values, days_per_year=252) == pytest.approx(np.sqrt(252 / 99))


def test_trap_19_the_riskless_rate_is_one_of_a_day_though_it_looks_like_one_of_a_year(vbt):
    rng = np.random.default_rng(0)
    returns = pd.Series(rng.normal(0.001, 0.01, 300), index=pd.date_range("2020-01-01", periods=300, freq="D"))
    ratio = partial(bare, lambda rate: returns.vbt.returns(freq="1D").sharpe_ratio(risk_free=rate))
    assert ratio(0.02) < -30  # two percent a day
    assert ratio(0.02 / 365) == pytest.approx(ratio(0.0), abs=0.2)

    # Ours is against 0 and takes no such rate; what cash earns is `costs.interest`, a year.
    assert metrics.sharpe_ratio(returns, days_per_year=365) == pytest.approx(ratio(0.0))
    assert not [name for name in inspect.signature(metrics.sharpe_ratio).parameters if "risk" in name]
    paid = run({"A": [100] * 24}, {"A": [0] * 24}, costs=dataclasses.replace(FREE, interest=0.02))
    assert paid.equity.iloc[-1] == pytest.approx(10_000 * (1 + 0.02 / 365), rel=1e-7)


def test_trap_20_what_a_short_sale_brings_buys_more_than_the_account_has(vbt):
    prices = pd.DataFrame({"A": [10.0] * 2, "B": [10.0] * 2}, index=DAYS[:2])
    sizes = pd.DataFrame({"A": [-100, NONE], "B": [NONE, 200]}, index=DAYS[:2])
    portfolio = bare(vbt.Portfolio.from_orders, prices, sizes, cash_sharing=True, group_by=True, init_cash=1_000)
    exposure = portfolio.asset_value(group_by=False).abs().sum(axis=1) / portfolio.value()
    assert exposure.tolist() == [1, 3]  # three times the account, without a word

    quotes = {"A": [10] * 4, "B": [10] * 4}
    book = {"A": [0, 0, -1, -1], "B": [0, 0, 2, 2]}
    with pytest.raises(TableError, match=r"sum to 3, above the gross limit of 1"):
        run(quotes, book, gross=1.0)
    # Where the limit is one that was meant, the proceeds earn no interest and the short pays its borrow.
    costs = dataclasses.replace(FREE, interest=0.5, borrow=0.0876)
    result = run(quotes, book, gross=3.0, costs=costs)
    assert result.flows["interest"].iloc[2] == 0
    assert result.flows["borrow"].iloc[2] == pytest.approx(-0.1, rel=1e-3)  # 10000 * 0.0876 / 8760


def test_trap_21_a_buffer_of_orders_is_as_large_as_the_whole_grid_or_too_small(vbt, monkeypatch):
    prices = pd.DataFrame({"A": [10.0] * 6, "B": [10.0] * 6}, index=DAYS)
    portfolio = bare(vbt.Portfolio.from_orders, prices, 1.0, init_cash=1_000, log=True)
    assert portfolio.orders.records_arr.dtype.itemsize == 56  # bytes, by default times rows times columns
    assert portfolio.logs.records_arr.dtype.itemsize == 280
    with pytest.raises(IndexError, match="max_orders"):
        bare(vbt.Portfolio.from_orders, prices, 1.0, init_cash=1_000, max_orders=2)

    asked = []
    real = vbt.Portfolio.from_orders

    def spy(*arguments: Any, **options: Any) -> Any:
        asked.append((options["max_orders"], options.get("log", False)))
        return real(*arguments, **options)

    monkeypatch.setattr(vbt.Portfolio, "from_orders", spy)
    few = run({"A": [10] * 20, "B": [10] * 20}, {"A": [0, 0, *[0.5] * 18], "B": [0] * 20})
    many = run({"A": [10] * 20, "B": [10] * 20}, {"A": [0, 0, *[0.1, 0.5] * 9], "B": [0, 0, *[0.4, 0.2] * 9]})
    assert [len(few.orders), len(many.orders)] == [1, 36]
    assert asked == [(1, False), (36, False)]  # as many as there are fills, and no log


@pytest.mark.slow
def test_trap_22_what_was_computed_once_stays_in_memory(vbt):
    portfolio = bare(vbt.Portfolio.from_orders, CLOSE, 1.0, init_cash=1_000)
    assert bare(portfolio.value) is bare(portfolio.value)  # kept as long as the portfolio
    del portfolio

    def alive() -> int:
        gc.collect()
        return sum(type(thing) is vbt.Portfolio for thing in gc.get_objects())

    before = alive()
    result = run({"A": [10] * 20}, {"A": [0, 0, *[0.1, 0.5] * 9]})
    assert len(result.orders) == 18
    assert alive() == before
    homes = {type(value).__module__.split(".")[0] for value in vars(result).values()}
    assert homes == {"pandas", "builtins"}  # nothing of vectorbt hangs on a result
