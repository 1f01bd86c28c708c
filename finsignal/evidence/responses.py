"""What prices did around each story, less what they did anyway: forward returns for evaluation alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.evidence.clustered import Estimates, estimate
from finsignal.evidence.stories import to_opens
from finsignal.tables import to_integers

DIGITS = 12  # of a return; beyond them is rounding, of which nothing must be left where returns are constant


@dataclass(frozen=True)
class Responses:
    """Abnormal simple returns of n stories from the open at which each could first be traded; NaN where not known.

    after: (n, bars), column k - 1 over k bars from that open to an open or, at the grid's end, the last close. before:
    (n, bars), column k - 1 over the k bars that end with it. session: (n,) number of the session of the entry, from 0
    for the first tested; sessions: how many are tested. lags: (bars,) how many sessions later the windows of so many
    bars still overlap. base_after, base_before: (sessions, bars) what the mean that is taken off every return owes to
    each session; 0 where no mean over time is taken off.
    """

    events: pd.DataFrame
    after: np.ndarray
    before: np.ndarray
    session: np.ndarray
    sessions: int
    lags: np.ndarray
    base_after: np.ndarray
    base_before: np.ndarray

    def sum_up(self, moments: np.ndarray) -> np.ndarray:
        """The sum over the stories of each session, (sessions, columns), of `moments` (n, columns)."""
        out = np.zeros((self.sessions, moments.shape[1]))
        if len(moments):
            order = np.argsort(self.session, kind="stable")
            held, starts = np.unique(self.session[order], return_index=True)
            out[held] = np.add.reduceat(moments[order], starts, axis=0)
        return out

    def mean(self, returns: np.ndarray, weights: np.ndarray, lags: np.ndarray, base: np.ndarray) -> Estimates:
        """The means of `returns` (n, columns) weighted by `weights` (n,) over sum of their sizes, with their errors.

        A negative weight turns the return: weighted by scores this is the return that the scores promised. `base` as
        base_after, of the same columns.
        """
        known = np.isfinite(returns)
        signed = np.where(known, weights[:, None], 0.0)
        size = np.abs(signed)
        total = size.sum(axis=0)
        total = np.where(total > 0, total, np.nan)
        value = (signed * np.where(known, returns, 0.0)).sum(axis=0) / total
        moments = (signed * np.where(known, returns, 0.0) - size * value) / total
        sums = self.sum_up(np.where(np.isfinite(moments), moments, 0.0))
        sums = sums - np.nan_to_num(signed.sum(axis=0) / total) * base
        used = known & (size > 0)
        leverage = self.sum_up(np.nan_to_num(size / total))
        clusters = self.count_sessions(used)
        return estimate(value, sums, lags, clusters=clusters, leverage=leverage, n=used.sum(axis=0))

    def count_sessions(self, used: np.ndarray) -> np.ndarray:
        """Of each column of `used` (n, columns) in how many sessions there is one."""
        return (self.sum_up(used.astype(float)) > 0).sum(axis=0)


def make_responses(
    events: pd.DataFrame,
    prices: pd.DataFrame,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    *,
    since: pd.Timestamp | None,
    index: pd.DataFrame | None,
    after: int,
    before: int,
) -> Responses:
    """The responses of the events that enter at or after `since`, up to `after` bars on and `before` bars back.

    A return is abnormal less that of the index over the same bars; without an index, less the mean of the run's other
    symbols; with one symbol alone, less the mean of all its returns over so many bars since `since` (the constant mean
    of MacKinlay 1997). A symbol that does not print keeps its last price.
    """
    opens = to_integers(bars["open_time"])
    start = 0 if since is None else int(np.searchsorted(opens, to_integers(pd.DatetimeIndex([since]))[0]))
    events = events[events["entry"] >= start].reset_index(drop=True)
    marks = _to_marks(prices, bars, symbols)
    market = None
    if index is not None and not index.empty:
        market = _to_marks(index, bars, sorted(index["symbol"].unique())[:1])
    number = pd.factorize(bars["session"])[0]
    row = np.searchsorted(np.array(sorted(symbols), dtype=object), events["symbol"].to_numpy(dtype=object))
    entry = events["entry"].to_numpy()
    sessions = int(number[-1] - number[start] + 1) if start < len(bars) else 0
    shape = (len(events), after), (len(events), before), (sessions, after), (sessions, before)
    gone, came, base_after, base_before = (np.zeros(size) for size in shape)
    lags = np.zeros(max(after, before), dtype=np.int64)
    for k in range(1, max(after, before) + 1):
        if start < len(bars):
            last = np.minimum(np.arange(start, len(bars)) + k - 1, len(bars) - 1)
            lags[k - 1] = int((number[last] - number[start:]).max())
        panel, owed = _abnormal(marks, market, k, start, number - number[start] if sessions else number, sessions)
        padded = np.full((len(marks), len(bars) + 1), np.nan)
        padded[:, : panel.shape[1]] = np.round(panel, DIGITS)
        if k <= after:
            gone[:, k - 1], base_after[:, k - 1] = padded[row, entry], owed
        if k <= before:
            came[:, k - 1] = np.where(entry >= k, padded[row, np.maximum(entry - k, 0)], np.nan)
            base_before[:, k - 1] = owed
    session = number[entry] - number[start] if len(events) else np.empty(0, dtype=np.int64)
    return Responses(events, gone, came, session, sessions, lags, base_after, base_before)


def _to_marks(prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str]) -> np.ndarray:
    """Prices at each bar's open and, last, at the grid's end, (symbols, bars + 1): the open, else the last close."""
    opens, closes = to_opens(prices, bars, symbols), to_opens(prices, bars, symbols, column="close")
    place = np.where(np.isnan(closes), -1, np.arange(closes.shape[1]))
    newest = np.maximum.accumulate(place, axis=1) if closes.shape[1] else place
    last = np.where(newest >= 0, np.take_along_axis(closes, np.maximum(newest, 0), axis=1), np.nan)
    marks = np.concatenate([np.full((len(opens), 1), np.nan), last], axis=1)
    marks[:, :-1] = np.where(np.isnan(opens), marks[:, :-1], opens)
    return marks


def _abnormal(
    marks: np.ndarray, market: np.ndarray | None, k: int, start: int, number: np.ndarray, sessions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Abnormal returns over k bars from each bar, and what the mean taken off owes to each session."""
    none = np.zeros(sessions)
    if k >= marks.shape[1]:
        return np.empty((len(marks), 0)), none
    returns = marks[:, k:] / marks[:, :-k] - 1
    if market is not None:
        return returns - (market[:, k:] / market[:, :-k] - 1), none
    if len(marks) > 1:
        known = np.isfinite(returns)
        total, count = np.where(known, returns, 0.0).sum(axis=0), known.sum(axis=0)
        others = np.where(known, count - 1, 0)
        mean = np.divide(total - returns, others, out=np.full(returns.shape, np.nan), where=others > 0)
        return returns - mean, none
    tested = returns[0, start:]
    known = np.isfinite(tested)
    if not known.any():
        return np.full(returns.shape, np.nan), none
    mean = tested[known].mean()
    moments = np.round(np.where(known, tested - mean, 0.0), DIGITS) / known.sum()
    owed = np.bincount(number[start : start + len(tested)], weights=moments, minlength=sessions)
    return returns - mean, owed
