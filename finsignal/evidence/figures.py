"""The figures of one account, and what they say by themselves."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from finsignal import metrics
from finsignal.clock import days_per_year
from finsignal.tables import BacktestResult

FEW_TRADES = 30  # below it no verdict: a handful of trades says little whatever they earned
NORMAL_95 = 1.96
LUCKY = 0.05  # share of accounts with random entries that made as much, above which a profit is not the strategy's


def to_daily(equity: pd.Series, bars: pd.DataFrame, *, cash: float) -> pd.Series:
    """Simple return of each session, indexed by its ISO date, from account values at bar closes.

    Sharpe and volatility come from days, because intraday bars are of unequal length (an overnight is none). The
    session in which the value first is 0 or less has -1, those after it 0, whatever debt is left.
    """
    session = bars.set_index(pd.DatetimeIndex(bars["open_time"]))["session"].reindex(equity.index)
    alive = pd.Series(metrics.stop_at_ruin(equity), index=equity.index, name=equity.name)
    last = alive.groupby(session.to_numpy()).last()
    return pd.Series(metrics.to_returns(last, cash=cash), index=last.index, name=equity.name)


def measure(result: BacktestResult, bars: pd.DataFrame, *, market: str) -> dict[str, Any]:
    """The figures of one account, fractions; None where a figure is not defined.

    ruined is the session, an ISO date, in which the value first was 0 or less, None where it never was; net_return
    counts the debt then left and may pass -1, the figures of daily returns end with a return of -1 on that day, and
    turnover counts such equity as 0. sharpe_detectable is the smallest annual Sharpe ratio that so many days could tell
    from zero. turnover is the traded value a year as a multiple of the mean equity. break_even_cost is the cost per
    side, as a fraction of the traded value, at which the gross profit would be spent: gross profit / value traded.
    """
    year = days_per_year(market)
    cash = float(result.settings["cash"])
    daily = to_daily(result.equity, bars, cash=cash)
    closed = result.trades[result.trades["closed"]]
    value = float((result.orders["quantity"] * result.orders["price"]).sum())
    gross_profit = float(result.gross.iloc[-1]) - cash
    mean_equity = float(result.equity.clip(lower=0).mean())
    figures = {
        "ruined": _find_ruin(result.equity, bars),
        "net_return": float(result.equity.iloc[-1]) / cash - 1,
        "gross_return": gross_profit / cash,
        "annual_return": metrics.annual_return(daily, days_per_year=year),
        "annual_volatility": metrics.annual_volatility(daily, days_per_year=year),
        "sharpe": metrics.sharpe_ratio(daily, days_per_year=year),
        "sharpe_error": metrics.sharpe_error(daily, days_per_year=year),
        "sharpe_detectable": metrics.smallest_detectable_sharpe(len(daily), days_per_year=year),
        "sortino": metrics.sortino_ratio(daily, days_per_year=year),
        "calmar": metrics.calmar_ratio(daily, days_per_year=year),
        "max_drawdown": metrics.max_drawdown(daily),
        "exposure": metrics.exposure(result.weights),
        "turnover": value / mean_equity * year / len(daily) if mean_equity > 0 else math.nan,
        "trades": len(closed),
        "open_at_end": len(result.trades) - len(closed),
        "win_rate": metrics.win_rate(closed["profit"]),
        "profit_factor": metrics.profit_factor(closed["profit"]),
        "break_even_cost": gross_profit / value if value > 0 else math.nan,
        "costs_paid": float(
            result.orders[["fee", "slippage"]].to_numpy().sum() + result.trades[["funding", "borrow"]].to_numpy().sum()
        ),
        "rejected": len(result.rejected),
        "days": len(daily),
    }
    return {name: to_none(value) for name, value in figures.items()}


def judge(
    figures: dict[str, Any], *, hold: dict[str, Any] | None, better: float | None = None, draws: int = 0
) -> dict[str, Any]:
    """The verdict in words and its reasons, by a stated rule.

    "not profitable after costs", and first of all why, where the account was ruined. Else "cannot tell" where fewer
    than 30 trades were closed, or where 0 lies within 1.96 standard errors of the Sharpe ratio. Else "not profitable
    after costs" where the ratio is negative. Where it is positive, "positive after costs in this sample", which is not
    proof; but "cannot tell" where `better`, the share of the `draws` accounts with random entries of the same exposure
    that made as much, is above 5 %: then chance and the market explain it.
    """
    sharpe, error = figures["sharpe"], figures["sharpe_error"]
    trades, days = figures["trades"], figures["days"]
    reasons = []
    ruined = figures.get("ruined")
    if ruined:
        reasons.append(f"The account was ruined on {ruined}: its value fell to 0 or below, and it trades no more.")
    if trades == 0:
        reasons.append("No trade was closed.")
    elif trades < FEW_TRADES:
        reasons.append(f"Only {trades} trades were closed; below {FEW_TRADES} nothing is judged.")
    if sharpe is None or error is None:
        reasons.append("The Sharpe ratio is not defined: the account did not move, or there are too few days.")
        word = "cannot tell"
    else:
        low, high = sharpe - NORMAL_95 * error, sharpe + NORMAL_95 * error
        reasons.append(
            f"Sharpe ratio {sharpe:.2f} after costs, 95 % interval {low:.2f} to {high:.2f}, over {days} days."
        )
        reasons.append(
            f"With so few days only a true ratio of {figures['sharpe_detectable']:.2f} or more would be told from zero "
            "four times in five."
        )
        lucky = low > 0 and better is not None and better > LUCKY
        if trades < FEW_TRADES or low <= 0 <= high or lucky:
            word = "cannot tell"
        else:
            word = "positive after costs in this sample" if low > 0 else "not profitable after costs"
    if ruined:
        word = "not profitable after costs"
    if hold is not None and figures["net_return"] is not None and hold["net_return"] is not None:
        more = figures["net_return"] >= hold["net_return"]
        reasons.append(
            f"It made {figures['net_return']:.1%} after costs, {'more' if more else 'less'} than buy and hold on the "
            f"same bars ({hold['net_return']:.1%})."
        )
    if better is not None:
        reasons.append(
            f"Of {draws} accounts that hold as much and as long but enter at random, {round(better * (draws + 1)) - 1} "
            f"made as much or more (p = {better:.2f})."
        )
    return {"word": word, "reasons": reasons}


def _find_ruin(equity: pd.Series, bars: pd.DataFrame) -> str | None:
    ruined = (equity <= 0).to_numpy()
    if not ruined.any():
        return None
    opened = equity.index[int(ruined.argmax())]
    return str(bars["session"].to_numpy()[int((bars["open_time"] == opened).to_numpy().argmax())])


def compare(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """One row of the side-by-side table: the figures that every run has."""
    columns = ("net_return", "gross_return", "sharpe", "sharpe_error", "max_drawdown", "trades", "turnover", "exposure")
    return {"name": name, **{column: figures[column] for column in columns}}


def to_none(value: Any) -> Any:
    """The value, or None where it is not finite: JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
