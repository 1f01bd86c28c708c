"""Could one trade it: what other costs, later news and more cash leave of a run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from traded_market import make_traded, make_traded_case, write_run

from finsignal import evidence
from finsignal.backtest import Costs
from finsignal.clock import make_bars
from finsignal.config import RunFile
from finsignal.evidence.answers import Answer
from finsignal.study.accounts import run_account
from finsignal.study.capacity import grow_cash, to_shares
from finsignal.study.case import Case, make_case
from finsignal.study.delaying import to_later
from finsignal.study.paired import find_root, net_return, to_days, to_difference, trade_at
from finsignal.study.tradable import answer_tradable, scale_costs
from finsignal.tables import INSTANT


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFile:
    return write_run(tmp_path_factory.mktemp("traded"))


@pytest.fixture(scope="module")
def case(run: RunFile) -> Case:
    return make_traded_case(run)


@pytest.fixture(scope="module")
def answer(case: Case) -> Answer:
    return answer_tradable(case)


def value_of(answer: Answer, key: str) -> float:
    figure = answer.find(key)
    assert figure is not None, key
    assert figure.value is not None, key
    return figure.value


def needs_of(answer: Answer, key: str) -> str:
    figure = answer.find(key)
    assert figure is not None, key
    assert figure.value is None, key
    return figure.needs


def test_the_days_of_an_account_begin_with_its_own_cash(case: Case) -> None:
    own, tenfold = to_days(case), to_days(case, trade_at(case, case.run.costs, cash=10 * case.run.cash))
    assert (1 + own).prod() - 1 == pytest.approx(net_return(case.result))
    assert np.allclose(own, tenfold)
    assert own.index[0] == "2026-01-01"
    assert len(own) == 80


def test_accounts_that_differ_on_a_day_have_a_difference_without_interval(case: Case) -> None:
    equity = case.result.equity.copy()
    equity.iloc[-1] *= 1.01
    other = replace(case.result, equity=equity)
    figure = to_difference(case, other, case.result, key="more", name="More", said="A difference.")
    assert figure.value is not None
    assert figure.value > 0
    assert (figure.low, figure.high, figure.n) == (None, None, 80)
    assert figure.said == "A difference. The accounts differ on 1 day: too few for an interval."


# --- costs -----------------------------------------------------------------------------------------------


def test_at_the_break_even_cost_an_account_of_its_own_keeps_nothing(case: Case, answer: Answer) -> None:
    half = value_of(answer, "break_even_cost") / 2
    costs = replace(case.run.costs, fee=half, slippage=half)
    alone = run_account(replace(case.run, costs=costs), case.inputs, case.decided.weights)
    assert abs(net_return(alone)) < 1e-3 < net_return(case.result)


def test_the_break_even_cost_lies_near_profit_over_value_traded_and_in_its_interval(case: Case, answer: Answer) -> None:
    figure = answer.find("break_even_cost")
    assert figure is not None
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    assert figure.n == int(case.result.trades["closed"].sum())
    assert 0 < figure.low < figure.value < figure.high
    plain = evidence.measure(case.result, case.inputs.bars, market=case.run.market)["break_even_cost"]
    assert value_of(answer, "gross_per_value") == pytest.approx(plain)
    assert figure.value == pytest.approx(plain, rel=0.02)


def test_the_curve_of_costs_falls_and_has_the_run_itself_at_what_it_is_charged(case: Case, answer: Answer) -> None:
    curve = next(c for c in answer.curves if c.key == "costs")
    nets = [y for y in curve.y if y is not None]
    assert nets == sorted(nets, reverse=True)
    assert curve.x[0] == 0
    assert curve.x[-1] == 100
    at = min(range(len(curve.x)), key=lambda n: abs(curve.x[n] - 10))
    assert curve.x[at] == pytest.approx(10, abs=1e-3)  # 5 bp of fee and 5 of slippage
    assert nets[at] == net_return(case.result)
    free = Costs(fee=0.0, slippage=0.0, delisting_return=-0.3, delisted_after=50)
    assert nets[0] == net_return(run_account(replace(case.run, costs=free), case.inputs, case.decided.weights))


def test_costs_are_scaled_alike_and_what_does_not_belong_to_an_order_stays() -> None:
    costs = Costs(fee=0.001, slippage=0.002, delisting_return=-0.3, delisted_after=9, maker_fee=0.0004, min_fee=1.0,
                  fee_per_share=0.01, impact=0.5, borrow=0.03, funding_rate=0.0001)  # fmt: skip
    double = scale_costs(costs, 0.006, 0.003)
    assert (double.fee, double.slippage, double.maker_fee) == pytest.approx((0.002, 0.004, 0.0008))
    assert (double.min_fee, double.fee_per_share, double.impact) == pytest.approx((2.0, 0.02, 1.0))
    assert (double.borrow, double.funding_rate, double.delisted_after) == (0.03, 0.0001, 9)


def test_where_nothing_is_charged_the_cost_is_a_fee() -> None:
    free = Costs(fee=0.0, slippage=0.0, delisting_return=-0.3, delisted_after=9, maker_fee=0.0)
    assert scale_costs(free, 0.002, 0.0) == replace(free, fee=0.002, maker_fee=None)


def test_a_run_at_no_costs_has_a_break_even_cost_too(tmp_path: Path, answer: Answer) -> None:
    free = make_traded_case(write_run(tmp_path, **{"fee = 0.0005": "fee = 0.0", "slippage = 0.0005": "slippage = 0.0"}))
    answered = answer_tradable(free)
    assert value_of(answered, "charged_cost") == 0
    assert value_of(answered, "break_even_cost") == pytest.approx(value_of(answer, "break_even_cost"), rel=0.01)
    assert "is charged nothing" in answered.said


def test_a_root_is_looked_for_beyond_the_places_known() -> None:
    known = {0.0: 5.0, 1.0: 4.0}
    assert find_root(lambda x: 5.0 - x, known=dict(known), highest=100.0) == pytest.approx(5.0, rel=1e-3)
    assert find_root(lambda x: 5.0 - x, known=dict(known), highest=3.0) is None
    assert find_root(lambda x: -1.0, known={0.0: -1.0, 1.0: -1.0}, highest=3.0) is None


# --- delay -----------------------------------------------------------------------------------------------


def test_later_news_costs_as_much_as_the_market_was_made_to_forget(case: Case, answer: Answer) -> None:
    """Texts are known 5 or 40 minutes before their decision, and prices react for one bar alone."""
    assert value_of(answer, "lag_1min") == 0
    quarter, bar = answer.find("lag_15min"), answer.find("lag_1bar")
    assert quarter is not None
    assert bar is not None
    assert quarter.value is not None
    assert bar.value is not None
    assert quarter.high is not None
    assert quarter.high < 0
    assert bar.high is not None
    assert bar.high < 0
    assert bar.value < 0.75 * quarter.value < 0
    assert bar.n == case.inputs.bars["session"].nunique() == 80
    curve = next(c for c in answer.curves if c.key == "lags")
    assert curve.labels == ("as it is", "1 minute", "15 minutes", "1 bar", "1 day")
    assert curve.y[0] == curve.y[1] == net_return(case.result)
    assert curve.y[3] is not None
    assert curve.y[2] is not None
    assert curve.y[3] < 0.2 < curve.y[2]


def test_a_lag_is_as_if_the_feed_itself_had_told_it_later(case: Case, answer: Answer) -> None:
    late = pd.Timedelta(minutes=15)
    news = case.inputs.news.assign(time=(case.inputs.news["time"] + late).astype(INSTANT))
    sentiment = case.sentiment.assign(time=(case.sentiment["time"] + late).astype(INSTANT))
    inputs = replace(case.inputs, news=news)
    alone = make_case(case.run, inputs, sentiment, case.strategy, case.parameters)
    curve = next(c for c in answer.curves if c.key == "lags")
    assert curve.y[2] == net_return(alone.result)


def make_told(run: RunFile, bars: pd.DataFrame, instants: list[str]) -> list[pd.Timestamp]:
    """When texts of these instants are known by lag, in the order of the texts."""
    inputs, sentiment = make_traded(run)
    news, scores = inputs.news.iloc[: len(instants)], sentiment.iloc[: len(instants)]
    times = pd.Series(pd.to_datetime(instants, utc=True), dtype=INSTANT)
    symbol = pd.Series(["AAA"] * len(instants), dtype="str")
    return [
        replace(inputs, bars=bars, news=news.assign(time=times, published=times, symbol=symbol)),
        scores.assign(time=times, symbol=symbol),
    ]


def test_by_bar_and_day_a_text_moves_on_the_grid_and_keeps_its_order(run: RunFile) -> None:
    bars = make_bars("XNYS", "1h", start="2024-03-01", end="2024-03-06", latency=pd.Timedelta("1min"))
    told = ["2024-03-01T15:00", "2024-03-01T21:30", "2024-03-02T12:00", "2024-03-04T15:00", "2024-03-05T20:00"]
    inputs, sentiment = make_told(run, bars, told)
    decisions = pd.DatetimeIndex(bars["time"])
    reached = {}
    for lag in ("1bar", "1day"):
        later, scores = to_later(inputs, sentiment, lag)
        assert later.news["time"].is_monotonic_increasing
        assert (later.news["time"] == scores["time"]).all()
        assert later.news["published"].equals(inputs.news["published"].iloc[: len(later.news)])
        reached[lag] = decisions[decisions.searchsorted(pd.DatetimeIndex(later.news["time"]))].strftime("%d %H:%M")
    # Friday 15:00 is decided at 15:29; Friday night and Saturday at Monday 14:29, the first bar of its session.
    # The text of Tuesday 20:00 comes after the last decision, and is dropped.
    assert reached["1bar"].tolist() == ["01 16:29", "04 15:29", "04 15:29", "04 16:29"]
    assert reached["1day"].tolist() == ["04 15:29", "05 14:29", "05 14:29", "05 15:29"]


def test_on_a_half_day_the_place_of_a_later_bar_is_the_last(run: RunFile) -> None:
    bars = make_bars("XNYS", "1h", start="2024-11-27", end="2024-12-03", latency=pd.Timedelta("1min"))
    inputs, sentiment = make_told(run, bars, ["2024-11-27T20:00"])  # decided at the last bar, 15:29 in New York
    later, _ = to_later(inputs, sentiment, "1day")
    after = bars.loc[bars["time"] >= later.news["time"].iloc[0], "time"].iloc[0]
    assert after == pd.Timestamp("2024-11-29T17:29", tz="UTC")  # the day after Thanksgiving closes at 13:00


def test_daily_bars_have_one_lag_for_bar_and_day(tmp_path: Path) -> None:
    daily = make_traded_case(write_run(tmp_path, **{'bar = "6h"': 'bar = "1d"'}))
    answered = answer_tradable(daily)
    assert answered.find("lag_1day") is None
    assert next(c for c in answered.curves if c.key == "lags").labels[-1] == "1 bar (a day)"


# --- cash ------------------------------------------------------------------------------------------------


def test_with_the_cash_of_capacity_95_of_100_orders_take_at_most_1_percent(case: Case, answer: Answer) -> None:
    cash = value_of(answer, "capacity_1pct")
    account = run_account(replace(case.run, cash=cash), case.inputs, case.decided.weights)
    volume = case.inputs.prices.set_index(["open_time", "symbol"])["volume"]
    orders = account.orders
    taken = [
        q / volume[t, s] for q, t, s in zip(orders["quantity"], orders["open_time"], orders["symbol"], strict=True)
    ]
    over = sum(share > 0.01 * (1 + 1e-9) for share in taken)
    assert over <= 0.05 * len(taken) < over + 2
    assert max(taken) > 0.01


def test_the_share_of_an_order_is_of_its_own_bar_and_a_delisting_takes_none(case: Case) -> None:
    orders = case.result.orders.iloc[:3].assign(reason=pd.Series(["target", "delisted", "target"], dtype="str"))
    prices = case.inputs.prices
    at = prices["open_time"].isin(orders["open_time"].iloc[[2]]) & (prices["symbol"] == orders["symbol"].iloc[2])
    shares = to_shares(replace(case.result, orders=orders), prices.assign(volume=np.where(at, 0.0, prices["volume"])))
    assert shares.tolist() == [orders["quantity"].iloc[0] / 50_000.0, np.inf]


def test_more_cash_earns_less_by_the_square_root_law_until_nothing_is_left(case: Case, answer: Answer) -> None:
    curve = next(c for c in answer.curves if c.key == "capacity")
    nets = [y for y in curve.y if y is not None]
    assert nets == sorted(nets, reverse=True)
    assert nets[0] > 0 > nets[-1]
    costs = replace(case.run.costs, impact=1.0)
    alone = run_account(replace(case.run, costs=costs, cash=1_000_000.0), case.inputs, case.decided.weights)
    assert curve.x[1] == 1_000_000.0
    assert nets[1] == net_return(alone)
    end = value_of(answer, "capacity_break_even")
    at_end = run_account(replace(case.run, costs=costs, cash=end), case.inputs, case.decided.weights)
    assert abs(net_return(at_end)) < 1e-3
    assert any("states no impact" in note for note in answer.notes)


def test_an_impact_that_the_run_states_is_its_own(case: Case) -> None:
    costs = replace(case.run.costs, impact=0.1)
    stated = grow_cash(replace(case, run=replace(case.run, costs=costs)))
    account = run_account(replace(case.run, costs=costs), case.inputs, case.decided.weights)
    assert stated.curves[0].y[0] == net_return(account)
    assert any("coefficient 0.1" in note for note in stated.notes)


# --- what cannot be answered -----------------------------------------------------------------------------


def test_no_trade_no_figure(tmp_path: Path) -> None:
    idle = make_traded_case(write_run(tmp_path, **{"buy_threshold = 0.2": "buy_threshold = 0.99",
                                                   "sell_threshold = 0.2": "sell_threshold = 0.99"}))  # fmt: skip
    answered = answer_tradable(idle)
    assert {figure.needs for figure in answered.figures} == {"an order; none was filled"}
    assert answered.find("lag_1bar") is not None
    assert answered.find("break_even_cost") is not None
    assert "never traded" in answered.said


def test_without_volume_capacity_needs_it(case: Case) -> None:
    prices = case.inputs.prices.assign(volume=0.0)
    answered = grow_cash(replace(case, inputs=replace(case.inputs, prices=prices)))
    for key in ("capacity_1pct", "capacity_break_even", "volume_share"):
        assert "volume" in needs_of(answered, key)


def test_at_constant_prices_there_is_no_profit_to_pay_costs_with(run: RunFile) -> None:
    flat = make_traded_case(run, effect=0.0)
    answered = answer_tradable(flat)
    assert needs_of(answered, "break_even_cost").startswith("a profit before costs")
    assert "a profit" in needs_of(answered, "capacity_break_even")
    assert value_of(answered, "lag_1bar") == pytest.approx(0, abs=0.05)
    assert "makes nothing even without costs" in answered.said


def test_an_account_of_few_days_has_no_lag_and_says_so(run: RunFile) -> None:
    answered = answer_tradable(make_traded_case(run, days=20))
    assert needs_of(answered, "lag_1bar") == "60 days; there are 20"
    figure = answered.find("break_even_cost")
    assert figure is not None
    assert figure.value is not None
    assert figure.low is None


def test_one_symbol_alone_is_answered_about_its_test(tmp_path: Path) -> None:
    one = write_run(tmp_path, **{'["AAA", "BBB"]': '["AAA"]', 'BBB = ["Birch"]\n': ""})
    answered = answer_tradable(make_traded_case(one, pd.Timestamp("2026-01-11", tz="UTC").as_unit("us")))
    assert value_of(answered, "break_even_cost") > 0
    assert value_of(answered, "capacity_1pct") > 0
    figure = answered.find("lag_1bar")
    assert figure is not None
    assert figure.n == 70
