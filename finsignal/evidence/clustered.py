"""Standard errors of estimates over stories: those of one session, or with overlapping windows, belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finsignal.evidence.answers import Figure, say_count

LEAST = 30  # stories below which there is no figure
STRETCH = 3.0  # no cosine turns within fewer sessions than six times those that a window touches: it must look short
LEAST_COSINES = 4
SAME = 1e-12
MOST_LEVERAGE = 0.9
CLUSTERED = (
    "clustered errors: Cameron & Miller 2015, doi:10.3368/jhr.50.2.317; of overlapping windows: Lazarus, Lewis, Stock "
    "& Watson 2018, doi:10.1080/07350015.2018.1506926"
)


@dataclass(frozen=True)
class Estimates:
    """One estimate a column. low and high: ends of the 95 % interval; t and p: of the test that the true value is 0.

    freedom: of the t distribution, 0 where too few sessions are behind the value; then low, high, t and p are NaN.
    n: stories. Where every story says the same there is no error: low and high are the value and p is 0, or, where the
    value is 0 because nothing moved, NaN.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    t: np.ndarray
    p: np.ndarray
    freedom: np.ndarray
    n: np.ndarray


def estimate(
    value: np.ndarray,
    moments: np.ndarray,
    lags: np.ndarray,
    *,
    clusters: np.ndarray,
    leverage: np.ndarray,
    n: np.ndarray,
    correlation: bool = False,
) -> Estimates:
    """Estimates with the errors of their `moments`, as `to_errors` takes them.

    leverage: (sessions, columns), the share that each session's stories have in the estimate, which they pull towards
    themselves: moments are divided by 1 less it. Without overlap that is the jackknife, which leaves out a session at a
    time (MacKinnon, Nielsen & Webb 2023, doi:10.1002/jae.2945).

    A correlation has its interval and test on Fisher's scale, atanh(value) with error / (1 - value**2), on which the
    error does not depend on the value; without it samples with a large correlation by chance would be told from 0 too
    often.
    """
    from scipy.special import stdtr, stdtrit

    errors, freedom = to_errors(moments / (1 - np.minimum(leverage, MOST_LEVERAGE)), lags, clusters=clusters)
    known = np.where(freedom > 0, freedom, np.nan)
    middle = value
    if correlation:
        inner = np.where(np.abs(value) < 1 - SAME, value, np.nan)
        middle, errors = np.arctanh(inner), errors / (1 - np.square(inner))
    t = np.divide(middle, errors, out=np.full(len(errors), np.nan), where=errors > 0)
    reach = stdtrit(known, 0.975) * np.where(errors > 0, errors, np.nan)
    low, high = middle - reach, middle + reach
    if correlation:
        low, high = np.tanh(low), np.tanh(high)
    p = 2 * stdtr(known, -np.abs(t))
    sure = np.isnan(t) & (freedom > 0) & (np.abs(np.nan_to_num(value)) > SAME)
    low, high, p, t = (np.where(sure, end, was) for end, was in ((value, low), (value, high), (0.0, p), (np.inf, t)))
    return Estimates(value, low, high, t, p, freedom, n)


def to_errors(moments: np.ndarray, lags: np.ndarray, *, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the sums of `moments` (sessions, columns), each of mean 0, and the degrees of freedom of their t.

    lags: of each column, how many sessions later a window may still share bars with this session's. clusters: of each
    column, sessions with stories.

    Without overlap the error is that of clustering by session: sqrt((G - 1) / G * sum of squares), t with G - 1 degrees
    of freedom (Cameron & Miller 2015). With it the variance of the sum is T times the mean square of its first
    v cosine transforms, t with v degrees of freedom (Lazarus, Lewis, Stock & Watson 2018), v = T / (STRETCH * (lags +
    1)) and at most G - 1. NaN and 0 where that leaves fewer than 4 cosines, or 2 sessions with stories.

    Where few sessions carry the sum, its variance is known from those few alone. The degrees of freedom are then fewer,
    as Satterthwaite 1946 (doi:10.2307/3002019) has it: 1 / (1 / v + excess / 2), excess being what the moments' fourth
    powers over their squares squared have beyond a normal's 3 / G.
    """
    size, width = moments.shape
    slow = np.minimum(np.floor(size / (STRETCH * (lags + 1))), clusters - 1)
    freedom = np.where(lags == 0, clusters - 1, np.where(slow >= LEAST_COSINES, slow, 0))
    freedom = np.maximum(freedom, 0).astype(np.int64)
    errors = np.full(width, np.nan)
    once, many = (lags == 0) & (freedom > 0), np.flatnonzero((lags > 0) & (freedom > 0))
    errors[once] = np.sqrt(np.square(moments[:, once]).sum(axis=0) * (1 - 1 / clusters[once]))
    if len(many):
        used = freedom[many]
        steps = np.arange(1, used.max() + 1)
        cosines = np.sqrt(2 / size) * np.cos(np.pi * np.outer(steps, np.arange(size) + 0.5) / size)
        squares = np.cumsum(np.square(cosines @ moments[:, many]), axis=0)
        errors[many] = np.sqrt(squares[used - 1, np.arange(len(many))] / used * size)
    square, fourth = (np.power(moments, power).sum(axis=0) for power in (2, 4))
    good = (freedom > 0) & (square > 0)
    excess = np.maximum(fourth[good] / np.square(square[good]) - 3 / clusters[good], 0.0)
    freedom = freedom.astype(float)
    freedom[good] = 1 / (1 / freedom[good] + excess / 2)
    return errors, freedom


def count_needed(lag: int) -> int:
    """Sessions below which estimates have no error, where windows reach `lag` sessions on."""
    return int(np.ceil(LEAST_COSINES * STRETCH * (lag + 1))) if lag else 2


def to_figure(
    found: Estimates,
    place: int,
    lag: int,
    sessions: int,
    key: str,
    name: str,
    unit: str,
    *,
    source: str,
    said: str = "",
) -> Figure:
    """The estimate of one column as a figure, or what it needs; `lag` and `sessions` as in `to_errors`."""
    n = int(found.n[place])
    value, low, high, t, p = (float(each[place]) for each in (found.value, found.low, found.high, found.t, found.p))
    needs = ""
    if n < LEAST:
        needs = f"{LEAST} stories; there are {n}"
    elif sessions < count_needed(lag):
        reach = say_count(lag, "session")
        needs = f"{count_needed(lag)} sessions, for windows reach {reach} on; there are {sessions}"
    elif not np.isfinite(value):
        needs = "scores and returns that differ from story to story"
    elif found.freedom[place] == 0:
        needs = "stories in more sessions"
    elif not np.isfinite(p):
        needs = "returns that are not all the same"
    if needs:
        return Figure(key, name, unit, n, "stories", needs=needs, source=source)
    said = said or f"t = {t:.2f} with {found.freedom[place]:.0f} degrees of freedom."
    return Figure(key, name, unit, n, "stories", value, low, high, p, said=said, source=source)


def to_plain_number(value: float) -> float | None:
    """The value, None where it is not finite."""
    return float(value) if np.isfinite(value) else None
