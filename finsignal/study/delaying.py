"""The same news and scores, known later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from finsignal.study.inputs import Inputs
from finsignal.tables import INSTANT, NEWS, SENTIMENT, to_integers


def to_later(inputs: Inputs, sentiment: pd.DataFrame, lag: str) -> tuple[Inputs, pd.DataFrame]:
    """News and scores known later: by "1min" or "15min" of the clock, by "1bar" of the grid, or by "1day".

    By a bar each text reaches the decision after the one that it reached, by a day the one at the same place of the
    next session. The clock alone would move nothing of what comes while the market is closed. What would be known after
    the last decision is left out; what was known before the first stays as it is, and counts for neither.
    """
    news, scores = inputs.news, sentiment
    if lag in ("1min", "15min"):
        later = pd.Timedelta(lag)
        news = news.assign(time=(news["time"] + later).astype(INSTANT))
        scores = scores.assign(time=(scores["time"] + later).astype(INSTANT))
    else:
        move = _to_next(inputs.bars, day=lag == "1day")
        news, scores = move(news), move(scores)
    return replace(inputs, news=NEWS.to_table(news)), SENTIMENT.to_table(scores)


def _to_next(bars: pd.DataFrame, *, day: bool) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The move of a table's `time` to a later decision of the grid."""
    decisions = to_integers(bars["time"])
    target = np.arange(len(bars)) + 1
    if day:
        session = bars["session"].to_numpy()
        starts = np.flatnonzero(np.append(True, session[1:] != session[:-1]))
        ends = np.append(starts[1:], len(bars))
        at = np.repeat(np.arange(len(starts)), ends - starts)
        place = np.arange(len(bars)) - starts[at]
        following = np.minimum(at + 1, len(starts) - 1)
        target = np.where(at + 1 < len(starts), np.minimum(starts[following] + place, ends[following] - 1), len(bars))

    def move(table: pd.DataFrame) -> pd.DataFrame:
        known = to_integers(table["time"])
        kept = known <= decisions[-1]
        late = kept & (known > decisions[0])
        first = np.searchsorted(decisions, known[late])
        aim = target[first]
        # Within the bar before its decision a text keeps its place, so that the order of the texts stays.
        part = (known[late] - decisions[first - 1]) / (decisions[first] - decisions[first - 1])
        there = np.minimum(aim, len(decisions) - 1)
        width = decisions[there] - decisions[there - 1]
        moved = known.copy()
        moved[late] = decisions[there - 1] + np.ceil(part * width).astype(np.int64)
        kept[late] = aim < len(decisions)
        out = table.assign(time=pd.Series(pd.to_datetime(moved, unit="us", utc=True), index=table.index, dtype=INSTANT))
        return out[kept].reset_index(drop=True)

    return move
