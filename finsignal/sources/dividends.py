"""Dividends out of a column of adjusted closes, so that an account can trade unadjusted prices and be paid in cash."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finsignal.errors import TableError
from finsignal.tables import ACTIONS

NOTED = 0.1  # of the close before: a step of more is noted, for it may be a spin-off
REFUSED = 0.5  # of the close before: a step of more is a split in prices that are not adjusted for it


def find_dividends(rows: pd.DataFrame, *, smallest: float) -> tuple[pd.Series, tuple[str, ...]]:
    """The dividend of each row, in cash a unit, 0.0 where there is none; and sentences about large ones.

    `rows` have file, symbol, stamp, close and adj_close, and are indexed by row number. With the factor
    f = adj_close / close, a row pays close_before * (1 - f_before / f), as Yahoo and others make it: the close before
    less the dividend is what the day began from, so close / (close_before - dividend) is the step of adj_close, to the
    last digits. It is paid to who held at the close before. The first row of a symbol pays nothing, for nothing stands
    before it. Steps of less than `smallest` (a fraction of the close before) either way are rounding, and no dividend.

    Raises TableError for a step back beyond that, which no dividend makes, and for one of more than half the close.
    """
    key = ["symbol", "stamp"]
    # Of repeats one, of rows that contradict each other none: the same that are dropped later, with their reasons.
    ordered = rows.assign(row=rows.index).reset_index(drop=True)
    once = ordered.drop_duplicates([*key, "close", "adj_close"])
    once = once[~once.duplicated(key, keep=False)].sort_values(key, kind="stable")
    factor = once["adj_close"] / once["close"]
    by_symbol = once["symbol"].to_numpy(dtype=object)
    first = np.concatenate([[True], by_symbol[1:] != by_symbol[:-1]])
    step = (1 - factor.shift(1) / factor).mask(first, 0.0).fillna(0.0)  # of the close before
    cash = (once["close"].shift(1) * step).where(step >= smallest, 0.0)
    _refuse(
        once, step, step < -smallest, "falls", "raise smallest_dividend if that is rounding, else leave adj_close out"
    )
    _refuse(once, step, step > REFUSED, "rises", "adjust the prices for splits, or leave adj_close out")
    notes = [
        f"{row.file}: {row.symbol} pays {share:.1%} of its close at {row.stamp:%Y-%m-%d}, counted as a dividend; a "
        "spin-off would look the same."
        for row, share in zip(once[step > NOTED].itertuples(), step[step > NOTED], strict=True)
    ]
    paid = pd.merge(ordered[key], once[key].assign(dividend=cash), on=key, how="left")["dividend"]
    return pd.Series(paid.fillna(0.0).to_numpy(), index=rows.index, dtype="float64"), tuple(notes)


def _refuse(rows: pd.DataFrame, step: pd.Series, bad: pd.Series, moves: str, correct: str) -> None:
    if bad.any():
        worst = (step.abs().where(bad)).idxmax()
        row = rows.loc[worst]
        day, share = f"{row['stamp']:%Y-%m-%d}", f"{abs(step[worst]):.2%}"
        raise TableError(
            f"{row['file']} row {row['row']}: adj_close / close of {row['symbol']} {moves} by {share} at {day} "
            f"({int(bad.sum())} such steps in all), which is no dividend; {correct}."
        )


def to_dividends(prices: pd.DataFrame) -> pd.DataFrame:
    """`tables.ACTIONS` of the column `dividend` of prices: cash a unit, on the basis of the row, at the bar's open."""
    paid = prices[prices["dividend"] > 0]
    if paid.empty:
        return ACTIONS.empty()
    rows = paid[["symbol", "open_time", "dividend"]].rename(columns={"open_time": "time", "dividend": "value"})
    return ACTIONS.to_table(rows.assign(kind="dividend"))
