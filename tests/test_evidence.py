"""The figures of an account worked by hand, and the verdict by its stated rule."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finsignal.clock import make_bars
from finsignal.evidence import compare, judge, measure, to_daily, to_none
from finsignal.tables import BacktestResult

BARS = make_bars("24x7", "12h", start="2026-03-02", end="2026-03-05", latency=pd.Timedelta(minutes=1))
OPENS = pd.DatetimeIndex(BARS["open_time"])


def make_result(
    equity: list[float], *, gross_end: float, orders: list[tuple[float, float]], trades: list[tuple[float, bool]]
) -> BacktestResult:
    """An account that began with 100. orders are (quantity, price), each at fee 0.3 and slippage 0.2; trades are
    (profit, closed), each at funding 0.1 and borrow 0.05."""
    values = pd.Series(equity, index=OPENS[: len(equity)])
    weights = np.zeros((len(equity), 1))
    weights[0] = 0.6  # held at one bar of all
    return BacktestResult(
        equity=values,
        gross=pd.Series([*equity[:-1], gross_end], index=values.index),
        returns=values / values.shift(1, fill_value=100.0) - 1,
        weights=pd.DataFrame(weights, index=values.index, columns=["AAA"]),
        orders=pd.DataFrame(orders, columns=["quantity", "price"], dtype="float64").assign(fee=0.3, slippage=0.2),
        rejected=pd.DataFrame({"reason": ["bar did not print"]}),
        trades=pd.DataFrame(trades, columns=["profit", "closed"])
        .astype({"profit": float, "closed": bool})
        .assign(funding=0.1, borrow=0.05),
        settings={"cash": 100.0},
    )


@pytest.fixture
def account() -> dict[str, Any]:
    """Three days of two bars. The days end at 110, 99 and 108.9: +10 %, -10 %, +10 %."""
    result = make_result(
        [105, 110, 99, 99, 108.9, 108.9],
        gross_end=112.0,
        orders=[(1, 50), (1, 60), (2, 45)],  # 50 + 60 + 90 = 200 traded
        trades=[(8.0, True), (-2.0, True), (2.9, False)],
    )
    return measure(result, BARS, market="24x7")


def test_days_count_from_close_to_close_and_the_first_from_the_cash() -> None:
    equity = pd.Series([105.0, 110, 99, 99, 108.9, 108.9], index=OPENS)
    daily = to_daily(equity, BARS, cash=100.0)
    assert daily.index.tolist() == ["2026-03-02", "2026-03-03", "2026-03-04"]
    assert daily.tolist() == pytest.approx([0.10, -0.10, 0.10])


def test_a_tiny_account_by_hand(account: dict[str, Any]) -> None:
    assert account["net_return"] == pytest.approx(0.089)
    assert account["gross_return"] == pytest.approx(0.12)
    assert account["annual_return"] == pytest.approx(1.089 ** (365 / 3) - 1)
    # mean 0.1/3, deviation (n - 1) 0.2/sqrt(3): their ratio is sqrt(3)/6
    assert account["annual_volatility"] == pytest.approx(0.2 / math.sqrt(3) * math.sqrt(365))
    assert account["sharpe"] == pytest.approx(math.sqrt(3) / 6 * math.sqrt(365))
    assert account["sharpe_detectable"] == pytest.approx(2.8016 * math.sqrt(365 / 3), rel=1e-4)
    # downside deviation: the root of 0.01 / 3
    assert account["sortino"] == pytest.approx((0.1 / 3) / (0.1 / math.sqrt(3)) * math.sqrt(365))
    assert account["max_drawdown"] == pytest.approx(-0.1)  # from 110 to 99
    assert account["calmar"] == pytest.approx((1.089 ** (365 / 3) - 1) / 0.1)
    assert account["exposure"] == pytest.approx(0.6 / 6)
    mean_equity = (105 + 110 + 99 + 99 + 108.9 + 108.9) / 6
    assert account["turnover"] == pytest.approx(200 / mean_equity * 365 / 3)
    assert account["break_even_cost"] == pytest.approx(12 / 200)  # 12 of gross profit over 200 traded
    assert account["costs_paid"] == pytest.approx(3 * 0.3 + 3 * 0.2 + 3 * 0.1 + 3 * 0.05)
    assert (account["trades"], account["open_at_end"], account["rejected"], account["days"]) == (2, 1, 1, 3)
    assert account["win_rate"] == pytest.approx(0.5)  # the open one is not counted
    assert account["profit_factor"] == pytest.approx(4.0)


def test_what_is_not_defined_is_none_and_never_nan() -> None:
    idle = measure(make_result([100.0] * 6, gross_end=100.0, orders=[], trades=[]), BARS, market="24x7")
    for name in ("sharpe", "sharpe_error", "sortino", "calmar", "win_rate", "profit_factor", "break_even_cost"):
        assert idle[name] is None, name
    assert (idle["net_return"], idle["trades"], idle["turnover"], idle["max_drawdown"]) == (0.0, 0, 0.0, 0.0)
    json.dumps(idle, allow_nan=False)


def test_a_ruined_account_has_lost_everything_once_and_the_verdict_says_so_first() -> None:
    ruined = make_result([105, 110, -50, 20, -80, -80], gross_end=-70.0, orders=[(1, 50)], trades=[(-180.0, True)])
    found = measure(ruined, BARS, market="24x7")
    # Ruined at noon of the second day; what is worth something again at its end is worth nothing all the same.
    assert to_daily(ruined.equity, BARS, cash=100.0).tolist() == pytest.approx([0.1, -1.0, 0.0])
    assert found["ruined"] == "2026-03-03"
    assert found["net_return"] == pytest.approx(-1.8)
    assert (found["annual_return"], found["max_drawdown"]) == (-1.0, -1.0)
    assert found["turnover"] == pytest.approx(50 / ((105 + 110 + 20) / 6) * 365 / 3)
    verdict = judge(found, hold=None)
    assert verdict["word"] == "not profitable after costs"
    assert verdict["reasons"][0] == (
        "The account was ruined on 2026-03-03: its value fell to 0 or below, and it trades no more."
    )


def test_turnover_of_an_account_that_never_was_worth_anything_is_not_defined() -> None:
    ruined = make_result([-5, -5, -5, -5, -5, -5], gross_end=0.0, orders=[(1, 50)], trades=[(-105.0, True)])
    assert measure(ruined, BARS, market="24x7")["turnover"] is None


def test_an_account_that_lives_was_not_ruined(account: dict[str, Any]) -> None:
    assert account["ruined"] is None


def test_one_day_is_too_few_for_a_ratio() -> None:
    figures = measure(make_result([105.0, 110], gross_end=110, orders=[], trades=[]), BARS, market="24x7")
    assert figures["days"] == 1
    assert figures["sharpe"] is None
    assert judge(figures, hold=None)["word"] == "cannot tell"


def test_stocks_have_a_year_of_252_days() -> None:
    result = make_result([105, 110, 99, 99, 108.9, 108.9], gross_end=112.0, orders=[], trades=[])
    assert measure(result, BARS, market="XNYS")["sharpe"] == pytest.approx(math.sqrt(3) / 6 * math.sqrt(252))


def figures(sharpe: float | None, error: float | None, trades: int, net: float | None = 0.05) -> dict[str, Any]:
    return {
        "sharpe": sharpe, "sharpe_error": error, "sharpe_detectable": 2.8, "trades": trades, "days": 252,
        "net_return": net,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sharpe", "error", "trades", "word"),
    [
        (2.0, 1.0, 30, "positive after costs in this sample"),  # 0.04 to 3.96
        (1.96, 1.0, 30, "cannot tell"),  # the interval touches 0
        (2.0, 1.0, 29, "cannot tell"),  # too few trades, whatever they earned
        (9.0, 1.0, 0, "cannot tell"),
        (-2.0, 1.0, 30, "not profitable after costs"),
        (-1.96, 1.0, 30, "cannot tell"),
        (-9.0, 1.0, 29, "cannot tell"),
        (0.5, 1.0, 500, "cannot tell"),
        (None, None, 500, "cannot tell"),
        (2.0, None, 500, "cannot tell"),
    ],
)
def test_the_verdict_by_its_rule(sharpe: float | None, error: float | None, trades: int, word: str) -> None:
    assert judge(figures(sharpe, error, trades), hold=None)["word"] == word


@pytest.mark.parametrize(
    ("better", "word"), [(1 / 101, "positive after costs in this sample"), (0.05, "positive"), (0.06, "cannot tell")]
)
def test_a_profit_that_random_entries_make_too_is_not_the_strategys(better: float, word: str) -> None:
    verdict = judge(figures(3.0, 1.0, 100), hold=None, better=better, draws=100)
    assert verdict["word"].startswith(word)
    assert f"{round(better * 101) - 1} made as much or more (p = {better:.2f})." in verdict["reasons"][-1]
    loss = judge(figures(-3.0, 1.0, 100), hold=None, better=1.0, draws=100)
    assert loss["word"] == "not profitable after costs"


def test_the_reasons_name_what_decided() -> None:
    few = " ".join(judge(figures(3.0, 1.0, 7), hold=None)["reasons"])
    assert "Only 7 trades were closed; below 30 nothing is judged." in few
    assert "95 % interval 1.04 to 4.96" in few
    none = judge(figures(None, None, 0), hold=None)["reasons"]
    assert none == [
        "No trade was closed.",
        "The Sharpe ratio is not defined: the account did not move, or there are too few days.",
    ]
    enough = " ".join(judge(figures(3.0, 1.0, 30), hold=None)["reasons"])
    assert "nothing is judged" not in enough


@pytest.mark.parametrize(("hold", "word"), [(0.04, "more"), (0.06, "less")])
def test_buy_and_hold_is_named_beside_it(hold: float, word: str) -> None:
    reasons = judge(figures(3.0, 1.0, 30, net=0.05), hold={"net_return": hold})["reasons"]
    assert reasons[-1] == f"It made 5.0% after costs, {word} than buy and hold on the same bars ({hold:.1%})."


def test_a_row_of_the_comparison_has_the_same_figures_for_all(account: dict[str, Any]) -> None:
    row = compare("mine", account)
    assert row["name"] == "mine"
    assert {name: account[name] for name in row if name != "name"} == {k: v for k, v in row.items() if k != "name"}


@pytest.mark.parametrize(
    ("value", "plain"), [(math.nan, None), (math.inf, None), (-math.inf, None), (0.0, 0.0), (3, 3), (None, None)]
)
def test_json_has_no_nan(value: float, plain: float | None) -> None:
    assert to_none(value) == plain
