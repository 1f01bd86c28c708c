"""Why an account ended where it did: its profit by origin, its costs by kind, and what is left beside the market."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from finsignal import evidence
from finsignal.attribution import attribute, make_costs, to_shown
from finsignal.clock import days_per_year, is_always_open
from finsignal.config import RunFile
from finsignal.metrics import AlphaBeta, alpha_beta
from finsignal.signals import bars_of_rows
from finsignal.study.inputs import Inputs
from finsignal.tables import BacktestResult

SHOWN = 15  # rows of a table in summary and report; the file has all
HOURS = 25  # a day's, and the interest


@dataclass(frozen=True)
class Explained:
    """table: all rows of `attribution.attribute`, with `by`. attribution and alpha are for JSON, None: not defined."""

    table: pd.DataFrame
    attribution: dict[str, Any]
    alpha: dict[str, Any]


def explain(
    run: RunFile, inputs: Inputs, result: BacktestResult, *, hold: BacktestResult, trade_news: pd.DataFrame
) -> Explained:
    """Where the profit of `result` came from, and its alpha and beta.

    The market is the run's index where it names one, else `hold`, the account that buys the run's symbols and holds.
    """
    tables = attribute(result, inputs.bars, prices=inputs.prices, market=run.market, trade_news=trade_news)
    cash = float(result.settings["cash"])
    summary = {
        "cash": cash,
        "profit": float(result.equity.iloc[-1]) - cash,
        "open_at_end": int((~result.trades["closed"]).sum()),
        "always_open": is_always_open(run.market),
        "tables": {
            by: _to_rows(to_shown(table, rows=HOURS if by == "hour" else SHOWN)) for by, table in tables.items()
        },
        "costs": _to_rows(make_costs(result)),
        "rejected": {str(reason): int(n) for reason, n in result.rejected["reason"].value_counts().items()},
    }
    whole = pd.concat([table.assign(by=by) for by, table in tables.items()], ignore_index=True)
    whole = whole[["by", *(column for column in whole if column != "by")]].astype({"by": "str", "name": "str"})
    return Explained(whole, summary, _to_alpha(run, inputs, result, hold))


def to_index_equity(index: pd.DataFrame, bars: pd.DataFrame, opens: pd.DatetimeIndex) -> tuple[pd.Series, float]:
    """The index at each bar's close, carried on where it did not print, and what it stood at before the first bar.

    That is the open of the first bar, at which the account began as well; where it did not print, the last close
    before it. NaN until the index is known.
    """
    at = bars_of_rows(index, bars)
    open_, close = np.full((2, len(bars)), np.nan)
    open_[at[at >= 0]] = index["open"].to_numpy()[at >= 0]
    close[at[at >= 0]] = index["close"].to_numpy()[at >= 0]
    level = pd.Series(close, index=pd.DatetimeIndex(bars["open_time"])).ffill()
    first = int(level.index.get_indexer(opens[:1])[0])
    before = level.iloc[first - 1] if first else np.nan
    return level.iloc[first : first + len(opens)], float(open_[first] if np.isfinite(open_[first]) else before)


def _to_alpha(run: RunFile, inputs: Inputs, result: BacktestResult, hold: BacktestResult) -> dict[str, Any]:
    returns = evidence.to_daily(result.equity, inputs.bars, cash=float(result.settings["cash"]))
    if inputs.index is not None:
        level, before = to_index_equity(inputs.index, inputs.bars, pd.DatetimeIndex(result.equity.index))
        market, name = evidence.to_daily(level, inputs.bars, cash=before), run.index
    else:
        market = evidence.to_daily(hold.equity, inputs.bars, cash=float(hold.settings["cash"]))
        name = "buy and hold of the run's symbols"
    unknown = market.isna().to_numpy()
    returns, market = returns[~unknown], market[~unknown]
    found = alpha_beta(returns, market, days_per_year=days_per_year(run.market))
    notes = [f"{name} has no price at first; days left out: {unknown.sum()}."] if unknown.any() else []
    notes += _why_undefined(found, market, name)
    numbers = {key: evidence.to_none(value) for key, value in asdict(found).items()}
    return {"market": name, **numbers, "notes": notes}


def _why_undefined(found: AlphaBeta, market: pd.Series, name: str) -> list[str]:
    if np.isfinite(found.beta):
        return []
    if found.days < 3:
        return [f"Alpha and beta are not defined: days of returns: {found.days}, at least 3 are needed."]
    if market.nunique() == 1:
        return [f"Alpha and beta are not defined: {name} moved alike on all {found.days} days."]
    return ["Alpha and beta are not defined: an account was worth nothing on a day."]


def _to_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{key: evidence.to_none(value) for key, value in row.items()} for row in table.to_dict("records")]
