"""Could it be luck? Intervals around what an account made, from its own days drawn again in blocks."""

from __future__ import annotations

import math

import numpy as np

from finsignal.errors import TableError

LEAST_DAYS = 60  # below it the intervals were measured to cover too seldom
LEAST_MOVED = 20  # days on which the account moved: a handful of them drawn again says what they say, no more


def bootstrap_difference(
    a: np.ndarray, b: np.ndarray, *, days_per_year: float, draws: int = 1000, seed: int = 7
) -> tuple[float, float, float]:
    """Mean of a - b a year, and the ends of its 95 % interval: daily simple returns of the same days, fractions.

    The mean is the daily one times the year, not compounded. low and high are NaN below 60 days, and where a and b
    differ on fewer than 20 of them: two accounts that are all but one have no difference to judge. The interval is that
    of the mean return in `bootstrap_figures`. The same seed gives the same interval.

    Raises TableError where a and b differ in length, have no day, or a return is not finite.
    """
    a, b = check_daily(a), check_daily(b)
    if len(a) != len(b):
        raise TableError(f"luck: {len(a)} days of one account and {len(b)} of the other; expected the same days.")
    daily = a - b
    mean = float(daily.mean())
    if find_need(daily):
        return mean * days_per_year, float("nan"), float("nan")
    positions, block = _draw(daily, draws=draws, seed=seed)
    low, high, _ = _studentize(daily, daily[positions], block)
    return mean * days_per_year, low * days_per_year, high * days_per_year


def check_daily(daily: np.ndarray) -> np.ndarray:
    """The returns as floats. Raises TableError where there is none, or one is not finite."""
    daily = np.asarray(daily, dtype=float)
    if daily.ndim != 1 or not len(daily):
        raise TableError(f"luck: expected one return a day, got an array of shape {daily.shape}.")
    if not np.isfinite(daily).all():
        raise TableError(f"luck: {int((~np.isfinite(daily)).sum())} daily returns are not finite; expected none.")
    return daily


def find_need(daily: np.ndarray) -> str:
    """What the days want and have not, "" where an interval can be drawn."""
    if len(daily) < LEAST_DAYS:
        return f"{LEAST_DAYS} days; there are {len(daily)}"
    # The commonest value is what a day without a position gives: 0, or interest, or a constant.
    _, counts = np.unique(daily, return_counts=True)
    moved = len(daily) - (int(counts.max()) if counts.max() > 1 else 0)
    return f"{LEAST_MOVED} days on which the account moved; there are {moved}" if moved < LEAST_MOVED else ""


def _draw(daily: np.ndarray, *, draws: int, seed: int) -> tuple[np.ndarray, float]:
    """Positions of days drawn again, shape (draws, days), and the mean length of the blocks they were drawn in."""
    from arch.bootstrap import StationaryBootstrap, optimal_block_length

    # A tail of equal days divides 0 by 0 in the autocorrelation; the block is then of one day.
    with np.errstate(all="ignore"):
        found = float(optimal_block_length(daily)["stationary"].iloc[0])
    block = max(found, 1.0) if np.isfinite(found) else 1.0
    days = np.arange(len(daily))
    bootstrap = StationaryBootstrap(block, days, seed=np.random.default_rng(seed))
    return np.stack([drawn[0][0] for drawn in bootstrap.bootstrap(draws)]), block


def _studentize(own: np.ndarray, drawn: np.ndarray, block: float) -> tuple[float, float, float]:
    """Ends of the 95 % interval of the mean of `own`, and the p-value of its being 0, from `drawn`, (draws, days)."""
    return _to_interval(own.mean(), drawn.mean(axis=1), own[None], drawn, block)


def _to_interval(
    value: float, values: np.ndarray, parts: np.ndarray, drawn_parts: np.ndarray, block: float
) -> tuple[float, float, float]:
    """Ends of the 95 % interval of `value`, and the p-value of its being 0 (two sides).

    Each end is so many errors from the value as 97.5 % of the drawn `values` lie from it in theirs, on the other side;
    never less than so many as Student's t has, and the error never less than that of independent days: a sample's days
    seem to turn against one another more often than they do, and intervals that trust it cover too seldom. `parts` are
    what each day adds to the value, (1, days), whose mean has the value's error; `drawn_parts` those of the draws.
    """
    from scipy.stats import t

    days = parts.shape[1]
    error = max(float(_errors(parts, block)[0]), float(parts.std(ddof=1)) / math.sqrt(days))
    errors = _errors(drawn_parts, block)
    ratios = np.divide(values - value, errors, out=np.zeros(len(errors)), where=errors > 0)
    student = float(t.ppf(0.975, days - 1))
    low = value - max(float(np.quantile(ratios, 0.975)), student) * error
    high = value + max(-float(np.quantile(ratios, 0.025)), student) * error
    beyond = ratios >= value / error if value > 0 else ratios <= value / error
    p = 2 * max((1 + int(beyond.sum())) / (1 + len(ratios)), float(t.sf(abs(value) / error, days - 1)))
    return float(low), float(high), min(p, 1.0)


def _errors(values: np.ndarray, block: float) -> np.ndarray:
    """Standard error of the mean of each row, for days that depend on one another as far as blocks carry it.

    The exact variance of the stationary bootstrap's mean, Politis & Romano 1994, eq. 9: autocovariances around the
    circle, each times (1 - lag / days) * (1 - 1 / block) ** lag. Never negative.
    """
    days = values.shape[1]
    lag = np.arange(days)
    weight = (1 - lag / days) * (1 - 1 / block) ** lag
    weight[1:] += weight[:0:-1].copy()  # a lag forward is days - lag backward
    spectrum = np.abs(np.fft.rfft(values - values.mean(axis=1, keepdims=True))) ** 2
    twice = np.full(spectrum.shape[1], 2.0)  # each frequency of the real transform stands for its mirror as well
    twice[0] = 1.0
    if days % 2 == 0:
        twice[-1] = 1.0
    variance = spectrum @ (twice * np.fft.rfft(weight).real) / days**2 / (days - 1)
    return np.sqrt(np.maximum(variance, 0.0))
