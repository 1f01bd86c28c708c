"""What a backtest is: hand-worked accounts, books that balance at every bar, orders that wait, and what is refused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from reference import NONE, make_prices, make_weights

from finsignal.backtest import Costs, hold_weights, run_backtest
from finsignal.clock import make_bars
from finsignal.errors import ConfigError, TableError
from finsignal.tables import FUNDING, INSTANT, WEIGHTS, BacktestResult

MINUTE = pd.Timedelta(minutes=1)
FREE = Costs(fee=0.0, slippage=0.0, delisting_return=-0.5, delisted_after=100)
TAXED = dataclasses.replace(FREE, fee=0.001, slippage=0.002)
# Without shrinking: an example is a seed, and a smaller seed is no simpler.
FEW = settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])


def make_hours(count: int, start: str = "2024-03-04", latency: pd.Timedelta = MINUTE) -> pd.DataFrame:
    """Hourly bars of a market that never closes."""
    first = pd.Timestamp(start, tz="UTC")
    return make_bars("24x7", "1h", start=first, end=first + pd.Timedelta(hours=count), latency=latency)


def run(bars: pd.DataFrame, quotes: dict, targets: dict, costs: Costs = FREE, cash: float = 10_000.0) -> BacktestResult:
    return run_backtest(make_prices(bars, quotes), make_weights(bars, targets), bars=bars, costs=costs, cash=cash)


def bar_numbers(bars: pd.DataFrame, instants: pd.Series) -> list[int]:
    return pd.Index(bars["open_time"]).get_indexer(instants).tolist()


def fills(bars: pd.DataFrame, result: BacktestResult) -> list[tuple]:
    """(bar, symbol, +-quantity, price, fee) of every order."""
    orders = result.orders
    sign = np.where(orders["side"] == "buy", 1.0, -1.0)
    columns = (orders["symbol"], orders["quantity"] * sign, orders["price"], orders["fee"])
    return list(zip(bar_numbers(bars, orders["open_time"]), *columns, strict=True))


def log(bars: pd.DataFrame, result: BacktestResult) -> list[tuple]:
    """(bar, symbol, reason) of every line of the log."""
    columns = (result.rejected["symbol"], result.rejected["reason"])
    return list(zip(bar_numbers(bars, result.rejected["open_time"]), *columns, strict=True))


# ------------------------------------------------------------------------------------------------- worked by hand


def test_a_long_trade_worked_by_hand():
    bars = make_hours(7)
    quotes = {"A": [(100, 100), (102, 101), (101, 103), (104, 108), (110, 109), (108, 111), (120, 125)]}
    result = run(bars, quotes, {"A": [0, 0, 0.5, 0.5, 0.5, 0, 0]}, TAXED)

    # The order for the bar of 02:00 is decided at 01:59. The newest close known then is that of 00:00-01:00: 100.
    # quantity 0.5 * 10000 / 100 = 50; open 101, fill 101 * 1.002 = 101.202; value 5060.10; fee 5.0601;
    # slippage 50 * 0.202 = 10.10; cash 10000 - 5060.10 - 5.0601 = 4934.8399.
    # The exit at 05:00 fills at 108 * 0.998 = 107.784; value 5389.20; fee 5.3892; slippage 50 * 0.216 = 10.80;
    # cash 4934.8399 + 5389.20 - 5.3892 = 10318.6507.
    expected = pd.DataFrame(
        {
            "open_time": bars["open_time"][[2, 5]].reset_index(drop=True),
            "symbol": pd.Series(["A", "A"], dtype="str"),
            "side": pd.Series(["buy", "sell"], dtype="str"),
            "quantity": [50.0, 50.0],
            "price": [101.202, 107.784],
            "fee": [5.0601, 5.3892],
            "slippage": [10.10, 10.80],
            "weight": [0.5, 0.0],
            "reason": pd.Series(["target", "target"], dtype="str"),
        }
    )
    pd.testing.assert_frame_equal(result.orders, expected, rtol=1e-12)
    # At the closes: 4934.8399 + 50 * 103, 108, 109; then cash alone.
    equity = [10_000, 10_000, 10_084.8399, 10_334.8399, 10_384.8399, 10_318.6507, 10_318.6507]
    np.testing.assert_allclose(result.equity, equity, rtol=1e-12)
    np.testing.assert_allclose(result.returns, np.diff(equity, prepend=10_000) / ([10_000, *equity[:-1]]), atol=1e-12)
    # Without costs: 50 bought at 101 leave 4950; the closes add 5150, 5400, 5450; sold at 108: 4950 + 5400.
    np.testing.assert_allclose(result.gross, [10_000, 10_000, 10_100, 10_350, 10_400, 10_350, 10_350], rtol=1e-12)
    assert result.equity.index.equals(pd.DatetimeIndex(bars["open_time"]))

    trade = result.trades.iloc[0]
    assert len(result.trades) == 1
    assert (trade["direction"], trade["bars"], trade["closed"]) == ("long", 3, True)
    assert (trade["entry_time"], trade["exit_time"]) == (bars["open_time"][2], bars["open_time"][5])
    # fees 5.0601 + 5.3892; profit 10318.6507 - 10000; return of what was paid for the shares, 5060.10.
    assert trade["fees"] == pytest.approx(10.4493, rel=1e-12)
    assert trade["profit"] == pytest.approx(318.6507, rel=1e-9)
    assert trade["return"] == pytest.approx(318.6507 / 5060.10, rel=1e-9)
    assert result.rejected.empty


def test_a_short_trade_worked_by_hand():
    bars = make_hours(6)
    quotes = {"A": [(50, 50), (50, 50), (40, 45), (44, 42), (40, 41), (40, 30)]}
    result = run(bars, quotes, {"A": [0, 0, -0.25, -0.25, 0, 0]}, TAXED)
    # Known at 01:59: the close 50. Short 0.25 * 10000 / 50 = 50, filled at 40 * 0.998 = 39.92, however far the gap;
    # value 1996, fee 1.996, cash 11994.004. At the closes less 50 * 45 = 2250 and 50 * 42 = 2100.
    # Bought back at 40 * 1.002 = 40.08: value 2004, fee 2.004; cash 11994.004 - 2006.004 = 9988.
    np.testing.assert_allclose(result.equity, [10_000, 10_000, 9_744.004, 9_894.004, 9_988, 9_988], rtol=1e-12)
    # Without costs: 12000 less 2250, 2100; bought back at 40, as it was sold.
    np.testing.assert_allclose(result.gross, [10_000, 10_000, 9_750, 9_900, 10_000, 10_000], rtol=1e-12)
    trade = result.trades.iloc[0]
    assert trade["direction"] == "short"
    assert trade["profit"] == pytest.approx(-12.0, rel=1e-9)
    assert trade["return"] == pytest.approx(-12.0 / 1996, rel=1e-9)


def test_a_reversal_worked_by_hand_is_one_order_and_two_trades():
    bars = make_hours(6)
    quotes = {"A": [100, 100, 100, (100, 110), (110, 120), (120, 120)]}
    result = run(bars, quotes, {"A": [0, 0, 0.5, 0.5, -0.5, -0.5]}, dataclasses.replace(FREE, fee=0.001))
    # 50 at 100, fee 5: cash 4995. At 03:59 the newest close known is that of 02:00-03:00: 100, so the account counts
    # 4995 + 5000 = 9995 and the target is -0.5 * 9995 / 100 = -49.975 shares: 99.975 sold at 110, value 10997.25,
    # fee 10.99725, cash 4995 + 10997.25 - 10.99725 = 15981.25275. At the closes less 49.975 * 120 = 5997.
    np.testing.assert_allclose(result.equity, [10_000, 10_000, 9_995, 10_495, 9_984.25275, 9_984.25275], rtol=1e-12)
    assert fills(bars, result)[1][:3] == (4, "A", pytest.approx(-99.975, rel=1e-12))
    assert result.trades["direction"].tolist() == ["long", "short"]
    assert result.trades["closed"].tolist() == [True, False]
    # Long: 50 * 10 less 5 and the fee of the 50 sold, 5.5. Short: 49.975 * (110 - 120) less its share of the fee.
    np.testing.assert_allclose(result.trades["profit"], [489.5, -499.75 - 49.975 * 110 * 0.001], rtol=1e-9)


def test_the_known_close_of_a_stock_bar_is_that_of_the_day_before():
    bars = make_bars("XNYS", "1h", start="2024-03-04", end="2024-03-06", latency=MINUTE)
    quotes = [100.0] * 6 + [80.0] + [125.0] * 7  # Monday 09:30 to 15:30, then Tuesday
    assert bars["open_time"][8] == pd.Timestamp("2024-03-05T10:30", tz="America/New_York")
    result = run(bars, {"A": quotes}, {"A": [0] * 8 + [0.5] * 6})
    # At 10:29 the bar of 09:30 has not closed; Monday's 15:30 bar closed at 80: 0.5 * 10000 / 80 = 62.5 shares at 125.
    assert fills(bars, result) == [(8, "A", 62.5, 125.0, 0.0)]


def test_funding_worked_by_hand_on_hourly_bars():
    bars = make_hours(6, start="2024-03-04T05:00")  # 05:00 to 10:00; the third hour settles at 08:00
    quotes = {"A": [100, 100, (100, 105), (106, 104), (104, 104), (104, 104)]}
    costs = dataclasses.replace(FREE, funding_rate=0.001)
    long = run(bars, quotes, {"A": [0, 0, 0.5, 0.5, 0, 0]}, costs)
    # 50 held from 07:00 over 08:00, whose open is 106: 50 * 106 * 0.001 = 5.30 paid. Sold at 104: 10000 + 200 - 5.30.
    np.testing.assert_allclose(long.equity, [10_000, 10_000, 10_250, 10_194.7, 10_194.7, 10_194.7], rtol=1e-12)
    assert long.trades["funding"].tolist() == [pytest.approx(5.3)]
    assert long.trades["profit"].tolist() == [pytest.approx(194.7)]
    assert long.gross.iloc[-1] == 10_200
    # The short gets it.
    short = run(bars, quotes, {"A": [0, 0, -0.5, -0.5, 0, 0]}, costs)
    assert short.equity.iloc[-1] == pytest.approx(10_000 - 200 + 5.3, rel=1e-12)
    # Bought at 08:00 itself, or sold at it: what was held before the instant pays.
    bought = run(bars, quotes, {"A": [0, 0, 0, 0.5, 0, 0]}, costs)
    sold = run(bars, quotes, {"A": [0, 0, 0.5, 0, 0, 0]}, costs)
    assert bought.trades["funding"].tolist() == [0.0]
    assert sold.trades["funding"].tolist() == [pytest.approx(5.3)]


def test_funding_worked_by_hand_on_daily_bars():
    bars = make_bars("24x7", "1d", start="2024-03-04", end="2024-03-08", latency=5 * MINUTE)
    quotes = {"A": [100, 100, (100, 110), (112, 120)]}
    costs = dataclasses.replace(FREE, funding_rate=0.001)
    result = run(bars, quotes, {"A": [0, 0, 0.5, 0.5]}, costs)
    # Bought at midnight: 08:00 and 16:00 of the first day at its close, 2 * 50 * 110 * 0.001 = 11; the midnight after
    # at the open, 50 * 112 * 0.001 = 5.6; the last day's two at 120: 12.
    np.testing.assert_allclose(result.equity, [10_000, 10_000, 10_500 - 11, 11_000 - 11 - 5.6 - 12], rtol=1e-12)
    assert result.trades["funding"].tolist() == [pytest.approx(28.6)]
    # Turned round at the last midnight: the long pays up to that midnight, the short is paid after it.
    # The last known close is 100, so the account counts 10000 less the 11 paid on the day before, and goes short
    # 0.5 * 9989 / 100 = 49.945: two settlements at 120 are 2 * 49.945 * 0.12 = 11.9868.
    turned = run(bars, quotes, {"A": [0, 0, 0.5, -0.5]}, costs)
    np.testing.assert_allclose(turned.trades["funding"], [16.6, -11.9868], rtol=1e-12)
    one_day = make_prices(bars, quotes), make_weights(bars[2:3].reset_index(drop=True), {"A": [0.5]})
    assert run_backtest(*one_day, bars=bars, costs=costs, cash=10_000).equity.tolist() == [pytest.approx(10_489)]


def make_funding(rows: list[tuple[str, str, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["symbol", "time", "rate"])
    return FUNDING.to_table(frame.assign(time=pd.to_datetime(frame["time"], utc=True, format="ISO8601")))


def test_settled_rates_worked_by_hand():
    bars = make_hours(8, start="2024-03-04T05:00")  # 05:00 to 12:00
    quotes = {"A": [100, 100, (100, 105), (106, 104), (103, 102), (101, 100), (100, 100), (100, 100)]}
    funding = make_funding(
        [
            ("A", "2024-03-04T06:00", 0.5),  # nothing is held yet
            ("A", "2024-03-04T08:00", 0.002),  # 50 held over it, open 106: 10.60 paid
            ("A", "2024-03-04T08:30", -0.001),  # inside the bar of 08:00, which closes at 104: 5.20 got
            ("A", "2024-03-04T09:00", 0.003),  # open 103: 15.45 paid
            ("A", "2024-03-04T10:00", 0.5),  # sold at 09:00
            ("B", "2024-03-04T08:00", 0.5),  # never traded
        ]
    )
    targets = {"A": [0, 0, 0.5, 0.5, 0, 0, 0, 0]}
    prices, weights = make_prices(bars, quotes), make_weights(bars, targets)
    # The rate that is assumed would settle at 08:00, between the first and the last of A's: it does not count.
    costs = dataclasses.replace(FREE, funding_rate=0.01)
    long = run_backtest(prices, weights, bars=bars, costs=costs, cash=10_000, funding=funding)
    # At the closes 50 * 105, 50 * 104 beside 5000 in cash, then 5000 + 50 * 103.
    equity = [10_000, 10_000, 10_250, 10_200 - 10.6 + 5.2, 10_150 - 10.6 + 5.2 - 15.45]
    np.testing.assert_allclose(long.equity, [*equity, *equity[-1:] * 3], rtol=1e-12)
    assert long.trades["funding"].tolist() == [pytest.approx(20.85)]
    assert long.trades["profit"].tolist() == [pytest.approx(150 - 20.85)]
    assert long.gross.iloc[-1] == 10_150
    short = make_weights(bars, {"A": [0, 0, -0.5, -0.5, 0, 0, 0, 0]})
    got = run_backtest(prices, short, bars=bars, costs=costs, cash=10_000, funding=funding)
    assert got.trades["funding"].tolist() == [pytest.approx(-20.85)]


def test_the_assumed_rate_stands_before_and_after_the_settled_ones_and_for_other_symbols():
    bars = make_hours(40)  # 8 h, 16 h, 24 h and 32 h after the first open settle at the assumed rate
    prices = make_prices(bars, {"A": [100] * 40, "B": [100] * 40})
    weights = make_weights(bars, {"A": [0, 0, *[0.4] * 38], "B": [0, 0, *[-0.2] * 38]})
    funding = make_funding([("A", "2024-03-04T16:00", 0.0), ("A", "2024-03-05T00:00", 0.02), ("Z", "2024-03-04", 1.0)])
    costs = dataclasses.replace(FREE, funding_rate=0.001)
    result = run_backtest(prices, weights, bars=bars, costs=costs, cash=10_000, funding=funding)
    paid = dict(zip(result.trades["symbol"], result.trades["funding"], strict=True))
    assert paid["A"] == pytest.approx(4_000 * (0.001 + 0.0 + 0.02 + 0.001))
    assert paid["B"] == pytest.approx(-2_000 * 4 * 0.001)
    alone = run_backtest(prices, weights, bars=bars, costs=FREE, cash=10_000, funding=funding)
    assert alone.trades["funding"].tolist() == [pytest.approx(80.0), 0.0]  # no rate is assumed: B pays nothing
    assert alone.settings["funding"] == {
        "A": {"first": "2024-03-04T16:00:00+00:00", "last": "2024-03-05T00:00:00+00:00", "rows": 2}
    }


def test_settled_rates_on_stock_bars_count_while_the_market_is_closed_at_the_close_before():
    bars = make_bars("XNYS", "1d", start="2024-03-04", end="2024-03-07", latency=MINUTE)  # opens at 14:30 UTC
    prices = make_prices(bars, {"A": [100, (100, 110), (120, 120)]})
    funding = make_funding([("A", "2024-03-06T02:00", 0.01), ("A", "2024-03-06T21:00", 0.5)])  # the latter: run's end
    weights = make_weights(bars, {"A": [0, 0.5, 0.5]})
    result = run_backtest(prices, weights, bars=bars, costs=FREE, cash=10_000, funding=funding)
    assert result.trades["funding"].tolist() == [pytest.approx(50 * 110 * 0.01)]


# ------------------------------------------------------------------------------------------- the books balance


SHAPES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "symbols": st.integers(1, 3),
        "count": st.integers(8, 30),
        "lead": st.integers(0, 3),  # bars of prices before the first target
        "bar": st.sampled_from(["1h", "1d"]),
        "latency": st.sampled_from([0, 1]),
        "holes": st.sampled_from([0.0, 0.2]),
        "dies": st.booleans(),
        "gross": st.sampled_from([0.6, 1.0, 1.5]),
        "short": st.booleans(),
        "fee": st.sampled_from([0.0, 0.001, 0.02]),
        "slippage": st.sampled_from([0.0, 0.0005, 0.01]),
        "delisting_return": st.sampled_from([0.0, -0.3, -1.0]),
        "funding_rate": st.sampled_from([0.0, 0.0005, -0.001]),
        "settled": st.sampled_from([0, 4, 30]),  # real rates of a symbol
    }
)


def make_market(*, seed: int, symbols: int, count: int, lead: int, bar: str, latency: int, **shape: float) -> tuple:
    """Random prices with gaps and holes, random targets; (prices, weights, bars, costs)."""
    rng = np.random.default_rng(seed)
    first = pd.Timestamp("2024-03-04T03:00" if bar == "1h" else "2024-03-04", tz="UTC")
    length = pd.Timedelta(hours=1) if bar == "1h" else pd.Timedelta(days=1)
    bars = make_bars("24x7", bar, start=first, end=first + count * length, latency=latency * MINUTE)
    quotes, targets = {"Z": [50.0] * count}, {}  # Z is priced and never traded
    for symbol in "ABC"[:symbols]:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, count)))
        first_open = close * np.exp(rng.normal(0, 0.02, count))
        gone = rng.random(count) < shape["holes"]
        gone[: int(rng.integers(0, 3))] = True
        if shape["dies"] and rng.random() < 0.5:
            gone[int(rng.integers(3, count)) :] = True
        first_open[gone] = np.nan
        quotes[symbol] = list(zip(first_open.tolist(), close.tolist(), strict=True))
        levels = rng.choice([0.0, 0.5, 1.0, -1.0 if shape["short"] else 0.0], count) * shape["gross"] / symbols
        targets[symbol] = pd.Series(levels).mask(rng.random(count) < 0.6).ffill().fillna(0.0).to_numpy()[lead:]
        targets[symbol] = targets[symbol] * (not gone.all())  # a name without any price is refused
    costs = Costs(delisted_after=4, **{k: shape[k] for k in ("fee", "slippage", "delisting_return", "funding_rate")})
    return make_prices(bars, quotes), make_weights(bars[lead:], targets), bars, costs


def make_rates(bars: pd.DataFrame, *, seed: int, settled: int) -> pd.DataFrame:
    """Random rates of A, C (often not traded) and Z (never), at opens and half hours, some outside of the period."""
    rng = np.random.default_rng(seed)
    halves = int((bars["close_time"].iloc[-1] - bars["open_time"][0]) / (30 * MINUTE))
    rows = []
    for symbol in "ACZ":
        steps = rng.choice(np.arange(-10, halves + 10), min(settled, halves), replace=False)
        times = [bars["open_time"][0] + int(step) * 30 * MINUTE for step in steps]
        rows += [(symbol, time, rate) for time, rate in zip(times, rng.normal(0, 0.001, len(times)), strict=True)]
    return FUNDING.to_table(
        pd.DataFrame(rows, columns=["symbol", "time", "rate"]).astype({"symbol": "str", "time": INSTANT, "rate": float})
    )


@settings(FEW, max_examples=25)
@given(SHAPES)
def test_the_books_balance_at_every_bar_of_random_markets(shape):
    """The second engine, which every fill and line of the log is compared with, is in test_two_engines.py."""
    prices, weights, bars, costs = make_market(**shape)
    cash = 10_000.0
    funding = make_rates(bars, seed=shape["seed"], settled=shape["settled"]) if shape["settled"] else None
    result = run_backtest(prices, weights, bars=bars, costs=costs, cash=cash, funding=funding)
    run_bars = bars[bars["open_time"].isin(weights["open_time"])].reset_index(drop=True)
    check_books(result, prices, run_bars, costs, cash)


def check_books(
    result: BacktestResult,
    prices: pd.DataFrame,
    bars: pd.DataFrame,
    costs: Costs,
    cash: float,
) -> None:
    """Cash + positions - funding = equity at every close, and trades add up to the account."""
    funding = -result.flows["funding"].to_numpy()
    orders = result.orders
    np.testing.assert_allclose(orders["fee"], orders["quantity"] * orders["price"] * costs.fee, rtol=1e-9)
    place = pd.Index(bars["open_time"])
    signed = orders["quantity"] * np.where(orders["side"] == "buy", 1.0, -1.0)
    flow = np.zeros(len(bars))
    np.add.at(flow, place.get_indexer(orders["open_time"]), -signed * orders["price"] - orders["fee"])
    money = cash + flow.cumsum() - funding.cumsum()
    spent = np.zeros(len(bars))
    np.add.at(spent, place.get_indexer(orders["open_time"]), orders["fee"] + orders["slippage"])
    for symbol, done in orders.groupby("symbol"):
        held = np.zeros(len(bars))
        np.add.at(held, place.get_indexer(done["open_time"]), signed[done.index])
        closes = prices[prices["symbol"] == symbol].set_index("open_time")["close"]
        marks = closes.reindex(closes.index.union(place)).ffill().reindex(place).to_numpy()
        money += np.nan_to_num(held.cumsum().round(12) * marks)
    np.testing.assert_allclose(result.equity, money, rtol=0, atol=1e-9 * cash)
    np.testing.assert_allclose(result.gross, money + (spent + funding).cumsum(), rtol=0, atol=1e-9 * cash)
    assert result.trades["profit"].sum() == pytest.approx(result.equity.iloc[-1] - cash, abs=1e-8 * cash)
    assert result.trades["funding"].sum() == pytest.approx(funding.sum(), abs=1e-9 * cash)
    np.testing.assert_allclose(np.cumprod(1 + result.returns) * cash, result.equity, atol=1e-8 * cash)


def test_a_cost_comes_out_of_equity_and_nothing_else():
    """Equity is what the same fills at the opens would be worth, less fees, slippage and funding."""
    prices, weights, bars, costs = make_market(
        seed=7, symbols=3, count=30, lead=0, bar="1h", latency=1, holes=0.2, dies=False, gross=0.6, short=True,
        fee=0.001, slippage=0.01, delisting_return=0.0, funding_rate=0.0005,
    )  # fmt: skip
    result = run_backtest(prices, weights, bars=bars, costs=costs, cash=10_000.0)
    funding = -result.flows["funding"].sum()
    orders = result.orders.merge(prices[["open_time", "symbol", "open"]], on=["open_time", "symbol"])
    last = prices.groupby("symbol")["close"].last()
    sign = np.where(orders["side"] == "buy", 1.0, -1.0)
    ideal = 10_000 + (sign * orders["quantity"] * (orders["symbol"].map(last) - orders["open"])).sum()
    spent = orders["fee"].sum() + orders["slippage"].sum() + funding
    assert len(orders) > 10
    assert result.equity.iloc[-1] == pytest.approx(ideal - spent, abs=1e-6)


@FEW
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_higher_costs_never_help_where_one_symbol_is_traded_and_cash_pays_for_all(seed, short):
    """With more symbols, or where cash cuts an order, a cost may shrink a position that then loses: it can help."""
    rng = np.random.default_rng(seed)
    bars = make_hours(40)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, 40)))
    quotes = {"A": list(zip((close * np.exp(rng.normal(0, 0.01, 40))).tolist(), close.tolist(), strict=True))}
    targets = {"A": rng.choice([0.0, 0.4, 0.8, -0.5 if short else 0.2], 40)}
    ends = [
        run(bars, quotes, targets, dataclasses.replace(FREE, fee=fee, slippage=slip)).equity.iloc[-1]
        for fee, slip in [(0.0, 0.0), (0.001, 0.0), (0.005, 0.002)]
    ]
    assert ends == sorted(ends, reverse=True)
    assert ends[0] > ends[-1]


# ------------------------------------------------------------------------------------------- orders, waits and ends


def test_trap_1_and_2_no_fill_before_its_decision_nor_at_a_close_of_its_own_bar_or_the_bar_before():
    bars = make_hours(6)
    quotes = {"A": [(k + 100, k + 100.5) for k in range(6)]}
    result = run(bars, quotes, {"A": [0, 0, 0.5, 0, -0.5, 0]})
    assert [(bar, price) for bar, _, _, price, _ in fills(bars, result)] == [(2, 102), (3, 103), (4, 104), (5, 105)]
    decided = bars.set_index("open_time")["time"]
    assert (result.orders["open_time"] > result.orders["open_time"].map(decided)).all()


def test_the_future_changes_no_past_fill():
    prices, weights, bars, costs = make_market(
        seed=3, symbols=3, count=30, lead=0, bar="1h", latency=1, holes=0.2, dies=False, gross=1.0, short=True,
        fee=0.001, slippage=0.01, delisting_return=0.0, funding_rate=0.0,
    )  # fmt: skip
    whole = run_backtest(prices, weights, bars=bars, costs=costs, cash=10_000.0)
    costs = dataclasses.replace(costs, delisted_after=100)
    cut_bars = bars[:20]
    cut = run_backtest(
        prices[prices["open_time"] < bars["open_time"][20]].reset_index(drop=True),
        WEIGHTS.to_table(weights[weights["open_time"] < bars["open_time"][20]]),
        bars=cut_bars, costs=costs, cash=10_000.0,
    )  # fmt: skip
    pd.testing.assert_series_equal(cut.equity, whole.equity[:20], check_freq=False)
    pd.testing.assert_frame_equal(cut.orders, whole.orders[: len(cut.orders)])


def test_trap_3_an_order_at_a_bar_that_did_not_print_waits_and_the_log_says_so():
    bars = make_hours(7)
    quotes = {"A": [100, 100, NONE, NONE, 110, 100, 100]}
    result = run(bars, quotes, {"A": [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5]})
    assert fills(bars, result) == [(4, "A", 50.0, 110.0, 0.0)]  # 0.5 * 10000 / 100, the newest close known
    assert log(bars, result) == [(2, "A", "bar did not print"), (3, "A", "bar did not print")]
    assert result.rejected["weight"].tolist() == [0.5, 0.5]


def test_trap_3_an_exit_at_a_bar_that_did_not_print_leaves_at_the_next_that_does():
    bars = make_hours(6)
    result = run(bars, {"A": [100, 100, 100, NONE, 90, 100]}, {"A": [0, 0, 0.5, 0, 0, 0]})
    assert fills(bars, result) == [(2, "A", 50.0, 100.0, 0.0), (4, "A", -50.0, 90.0, 0.0)]
    assert result.equity.iloc[-1] == 9_500
    assert log(bars, result) == [(3, "A", "bar did not print")]


def test_an_order_taken_back_before_it_filled_leaves_no_trace_but_the_log():
    bars = make_hours(6)
    result = run(bars, {"A": [100, 100, NONE, 90, 80, 70]}, {"A": [0, 0, 0.5, 0, 0, 0]})
    assert result.orders.empty
    assert result.trades.empty
    assert (result.equity == 10_000).all()
    assert log(bars, result) == [(2, "A", "bar did not print")]


def test_an_exit_taken_back_before_it_filled_sends_nothing():
    bars = make_hours(6)
    result = run(bars, {"A": [100, 100, 100, NONE, 90, 80]}, {"A": [0, 0, 0.5, 0, 0.5, 0.5]})
    assert [bar for bar, *_ in fills(bars, result)] == [2]


def test_a_target_that_stands_sends_nothing_however_far_the_position_drifts():
    bars = make_hours(8)
    result = run(bars, {"A": [100, 100, 100, 200, 400, 300, 50, 100]}, {"A": [0, 0, *[0.5] * 6]})
    assert [bar for bar, *_ in fills(bars, result)] == [2]


def test_a_bar_at_whose_decision_no_close_was_known_is_logged_and_the_next_is_tried():
    bars = make_hours(5)
    result = run(bars, {"A": [100, 101, 102, 103, 104]}, {"A": [0.5] * 5})
    # At 00:59 the bar of 00:00 has not closed yet.
    assert log(bars, result) == [(0, "A", "no close known yet"), (1, "A", "no close known yet")]
    assert fills(bars, result) == [(2, "A", 50.0, 102.0, 0.0)]


def test_a_close_from_before_the_grid_is_known():
    bars = make_hours(5)
    prices = make_prices(bars, {"A": [100, 125, 102, 103, 104]})
    late = bars[3:].reset_index(drop=True)
    result = run_backtest(prices, make_weights(late, {"A": [0.5, 0.5]}), bars=late, costs=FREE, cash=10_000)
    assert fills(bars, result) == [(3, "A", 40.0, 103.0, 0.0)]  # 0.5 * 10000 / 125
    assert result.rejected.empty


@pytest.mark.parametrize(("back", "end"), [(0.0, 10_500), (-0.3, 8_850), (-1.0, 5_000)])
def test_trap_4_a_name_that_never_trades_again_is_closed_at_the_stated_return(back, end):
    bars = make_hours(8)
    costs = dataclasses.replace(FREE, delisting_return=back, delisted_after=3)
    quotes = {"A": [100, 100, 100, 100, (100, 110), NONE, NONE, NONE], "B": [10] * 8}
    result = run(bars, quotes, {"A": [0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0.5], "B": [0] * 8}, costs)
    # 50 shares, last seen at 110, are worth 5500 * (1 + back) from the bar after their last.
    np.testing.assert_allclose(result.equity, [10_000] * 4 + [10_500] + [end] * 3, rtol=1e-9)
    assert [(bar, quantity) for bar, _, quantity, *_ in fills(bars, result)] == [(2, 50), (5, -50)]
    assert result.trades["closed"].tolist() == [True]
    assert log(bars, result) == [(7, "A", "delisted")]  # the exit at 6 has nothing left to do


def test_a_name_silent_for_less_than_the_stated_bars_is_not_gone():
    bars = make_hours(8)
    costs = dataclasses.replace(FREE, delisted_after=4)
    result = run(bars, {"A": [100] * 5 + [NONE] * 3, "B": [10] * 8}, {"A": [0, 0, *[0.5] * 6], "B": [0] * 8}, costs)
    assert result.equity.iloc[-1] == 10_000
    assert result.trades["closed"].tolist() == [False]


def test_what_is_open_at_the_end_is_marked_and_not_closed():
    bars = make_hours(4)
    result = run(bars, {"A": [100, 100, 100, (110, 120)]}, {"A": [0, 0, 0.5, 0.5]}, TAXED)
    trade = result.trades.iloc[0]
    assert not trade["closed"]
    assert pd.isna(trade["exit_time"])
    assert trade["exit_price"] == 120
    assert trade["profit"] == pytest.approx(50 * (120 - 100.2) - 50 * 100.2 * 0.001)  # no fee for a sale that was not
    assert len(result.orders) == 1


def test_trap_7_a_rotation_sells_before_it_buys():
    bars = make_hours(6)
    targets = {"A": [0, 0, 0, 0, 0.9, 0.9], "B": [0] * 6, "C": [0, 0, 0.9, 0.9, 0, 0]}
    result = run(bars, {"A": [100] * 6, "B": [NONE] * 3 + [100] * 3, "C": [100] * 6}, targets)
    assert fills(bars, result) == [(2, "C", 90, 100, 0), (4, "A", 90, 100, 0), (4, "C", -90, 100, 0)]
    assert result.rejected.empty


def test_trap_8_what_cash_cannot_pay_is_cut_and_logged_the_larger_purchase_last():
    bars = make_hours(4)
    costs = dataclasses.replace(FREE, fee=0.01)
    result = run(bars, {"A": [100] * 4, "B": [100] * 4}, {"A": [0, 0, 0.6, 0.6], "B": [0, 0, 0.4, 0.4]}, costs)
    # B: 40 for 4000 and a fee of 40. A gets the other 5960: 5960 / 1.01 / 100 = 59.00990099.
    assert fills(bars, result) == [
        (2, "A", pytest.approx(5960 / 101), 100, pytest.approx(5960 / 101)),
        (2, "B", 40, 100, pytest.approx(40)),
    ]
    assert log(bars, result) == [(2, "A", "cut to the cash at hand")]


def test_trap_9_an_account_worth_nothing_sends_no_order():
    bars = make_hours(7)
    targets = {"A": [0, 0, -1, -1, -1, 0, 0], "B": [0, 0, 0, 0, 0, 0.5, 0.5]}
    result = run(bars, {"A": [100, 100, 100, 250, 250, 250, 250], "B": [10] * 7}, targets)
    assert result.equity.tolist() == [10_000] * 3 + [-5_000] * 4
    # 20000 in cash less 25000 at the close of bar 3: ruin. The short is bought back at the next open for cash that is
    # not there, the exit at bar 5 has nothing to do, and B is refused once.
    assert fills(bars, result) == [(2, "A", -100, 100, 0), (4, "A", 100, 250, 0)]
    assert result.orders["reason"].tolist() == ["target", "ruin"]
    assert log(bars, result) == [(3, "A", "ruin"), (5, "B", "refused: ruined")]


def test_the_return_of_ruin_is_everything_and_a_debt_that_grows_is_no_gain():
    bars = make_hours(7)
    quotes = {"A": [100, 100, 100, (100, 210), (250, 300), 300, 300]}
    result = run(bars, quotes, {"A": [0, 0, -1, -1, -1, -1, -1]})
    assert result.equity.tolist() == [10_000] * 3 + [-1_000] + [-5_000] * 3
    assert result.returns.tolist() == [0, 0, 0, -1, 0, 0, 0]


def test_trap_17_columns_are_matched_by_name_never_by_position():
    bars = make_hours(5)
    prices = make_prices(bars, {"AAA": [1.0] * 5, "B": [100] * 5, "C": [10.0] * 5, "ZZZ": [7.0] * 5})
    result = run_backtest(
        prices, make_weights(bars, {"C": [0, 0, 0.5, 0.5, 0.5], "B": [0, 0, 0, 0.2, 0.2]}), bars=bars, costs=FREE,
        cash=10_000,
    )  # fmt: skip
    assert fills(bars, result) == [(2, "C", 500, 10, 0), (3, "B", 20, 100, 0)]
    assert result.weights.columns.tolist() == ["B", "C"]
    assert result.weights["C"].tolist() == [0, 0, 0.5, 0.5, 0.5]


def test_buy_and_hold_holds_equal_parts_from_the_first_bar():
    bars = make_hours(3)
    weights = hold_weights(bars, ["B", "A"], gross=0.8)
    assert weights["symbol"].tolist() == ["A"] * 3 + ["B"] * 3
    assert (weights["weight"] == 0.4).all()


# --------------------------------------------------------------------------------------------------- what is refused


def refusal(error: type[Exception], call) -> str:
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def test_tables_that_do_not_fit_are_refused_in_a_sentence():
    bars = make_hours(4)
    prices = make_prices(bars, {"AAPL": [100] * 4})
    weights = make_weights(bars, {"AAPL": [0, 0, 0.5, 0.5]})

    def go(prices=prices, weights=weights, bars=bars):
        return lambda: run_backtest(prices, weights, bars=bars, costs=FREE, cash=10_000)

    assert "not sorted" in refusal(TableError, go(weights=weights[::-1].reset_index(drop=True)))
    hole = weights.drop(index=2).reset_index(drop=True)
    assert "one unbroken run of the grid" in refusal(TableError, go(weights=hole))
    assert "one unbroken run of the grid" in refusal(TableError, go(bars=bars[1:].reset_index(drop=True)))
    assert "no rows" in refusal(TableError, go(weights=WEIGHTS.empty()))
    wrong = make_weights(bars, {"AAPPL": [0, 0, 0.5, 0.5]})
    assert refusal(TableError, go(weights=wrong)) == (
        "weights: symbol 'AAPPL' has a weight but no row of prices. Did you mean 'AAPL'?"
    )
    shifted = prices.assign(open_time=prices["open_time"] - 30 * MINUTE)
    assert "no row opens at a bar of the grid" in refusal(TableError, go(prices=shifted))
    assert "no column 'close'" in refusal(TableError, go(prices=prices.drop(columns="close")))
    unsorted = make_funding([("A", "2024-03-04", 0.1), ("B", "2024-03-04", 0.1)])[::-1].reset_index(drop=True)
    with pytest.raises(TableError, match="funding: rows are not sorted"):
        run_backtest(prices, weights, bars=bars, costs=FREE, cash=10_000, funding=unsorted)
    nan = weights.assign(weight=np.nan)
    assert "expected a finite fraction" in refusal(TableError, go(weights=nan))


@pytest.mark.parametrize("cash", [0.0, -1.0, NONE])
def test_cash_that_is_not_positive_is_refused(cash):
    bars = make_hours(2)
    assert "must be above 0" in refusal(ConfigError, lambda: run(bars, {"A": [1, 1]}, {"A": [0, 0]}, cash=cash))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fee", -1.0), ("fee", 1.0), ("fee", NONE), ("slippage", -0.1), ("slippage", 1.0), ("delisting_return", 0.1),
        ("delisting_return", -1.1), ("delisted_after", 0), ("funding_rate", 0.5),
    ],
)  # fmt: skip
def test_costs_that_cannot_be_meant_are_refused(name, value):
    assert refusal(ConfigError, lambda: dataclasses.replace(FREE, **{name: value})).startswith(f"costs: {name} is")


def test_a_result_is_written_as_parquet_that_reads_back_the_same(tmp_path):
    bars = make_hours(7)
    quotes = {"A": [100, 100, NONE, 101, 102, 103, 104]}
    result = run(bars, quotes, {"A": [0, 0, 0.5, 0.5, 0, 0.5, 0.5]}, TAXED)
    result.write(tmp_path)
    for name in ("orders", "rejected", "trades"):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.parquet"), getattr(result, name))
    curve = pd.read_parquet(tmp_path / "equity.parquet").set_index("open_time")
    pd.testing.assert_series_equal(curve["equity"], result.equity, check_freq=False)
    pd.testing.assert_series_equal(curve["gross"], result.gross, check_freq=False)
    flows = pd.read_parquet(tmp_path / "flows.parquet").set_index("open_time")
    pd.testing.assert_frame_equal(flows, result.flows, check_freq=False)
    targets = pd.read_parquet(tmp_path / "targets.parquet").set_index("open_time")
    pd.testing.assert_frame_equal(targets, result.weights, check_freq=False)
    assert result.settings == {"costs": dataclasses.asdict(TAXED), "cash": 10_000.0}
