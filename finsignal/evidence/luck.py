"""Could it be luck? Intervals around what an account made, from its own days drawn again in blocks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from finsignal.errors import TableError
from finsignal.evidence.answers import Figure
from finsignal.metrics import max_drawdown

LEAST_DAYS = 60  # below it the intervals were measured to cover too seldom
LEAST_MOVED = 20  # days on which the account moved: a handful of them drawn again says what they say, no more
LEAST_DRAWS = 40

NAMES = {
    "net_return": ("Net return", "percent"),
    "mean_return": ("Mean return a year", "percent"),
    "sharpe": ("Sharpe ratio", "ratio"),
    "max_drawdown": ("Deepest drawdown", "percent"),
}
SOURCE = "Politis & Romano 1994, doi:10.1080/01621459.1994.10476870"
FALL = "The interval is where the deepest fall of another stretch of so many such days would lie."


def bootstrap_figures(
    daily: np.ndarray, *, days_per_year: float, draws: int = 1000, seed: int = 7
) -> tuple[Figure, ...]:
    """Figures "net_return" (of the whole period), "mean_return" and "sharpe" (a year), and "max_drawdown".

    daily are the simple net returns of the account, one a day, fractions. The 95 % intervals come from the days drawn
    again in blocks of random length, so that days which follow one another in sign, or in the size of their moves, stay
    together: the stationary bootstrap of Politis & Romano 1994, doi:10.1080/01621459.1994.10476870, with the block
    length of Politis & White 2004, doi:10.1081/ETC-120028836, corrected 2009, doi:10.1080/07474930802459016.

    The intervals of the first three are for the true value, studentized, as Ledoit & Wolf 2008,
    doi:10.1016/j.jempfin.2008.03.002, do for Sharpe ratios; p is the p-value of its being 0. That of the net return is
    the one of the mean logarithm, for compounding. The interval of the drawdown is where the deepest fall of another
    stretch of so many such days would lie: of drawn ones, whose mean and deviation are moved as far as the sample's may
    be wrong.

    Without value below 60 days, and where the account moved on fewer than 20 of them. A ruined account, which once lost
    all, has a net return without interval. The same seed gives the same intervals.

    Raises TableError where there is no day, a return is not finite, or fewer than 40 draws are asked for.
    """
    daily = check_daily(daily)
    days = len(daily)
    need = find_need(daily)
    if need:
        return tuple(Figure(key, name, unit, days, "days", needs=need) for key, (name, unit) in NAMES.items())
    positions, block = _draw(daily, draws=draws, seed=seed)
    drawn = daily[positions]
    figures = [_to_net_return(daily, positions, block)]
    low, high, p = _studentize(daily, drawn, block)
    mean, year = float(daily.mean()), days_per_year
    figures.append(_to_figure("mean_return", mean * year, days, low=low * year, high=high * year, p=p))
    low, high, p = _to_interval(*_to_ratios(daily[None]), *_to_ratios(drawn), block)
    ratio, root = float(mean / daily.std(ddof=1)), math.sqrt(days_per_year)
    figures.append(_to_figure("sharpe", ratio * root, days, low=low * root, high=high * root, p=p))
    ends = np.quantile(_find_drawdowns(_blur(daily, drawn)), [0.025, 0.975])
    fall = max_drawdown(daily)
    figures.append(_to_figure("max_drawdown", fall, days, low=float(ends[0]), high=float(ends[1]), said=FALL))
    return tuple(replace(figure, draws=draws) for figure in figures)


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

    if draws < LEAST_DRAWS:
        raise TableError(f"luck: {draws} draws have no end at 2.5 %; expected {LEAST_DRAWS} or more.")
    # A tail of equal days divides 0 by 0 in the autocorrelation; the block is then of one day.
    with np.errstate(all="ignore"):
        both = np.column_stack([daily, np.abs(daily - daily.mean())])
        found = optimal_block_length(both)["stationary"].to_numpy()
    block = float(np.nanmax(np.append(found, 1.0)))
    days = np.arange(len(daily))
    bootstrap = StationaryBootstrap(block, days, seed=np.random.default_rng(seed))
    return np.stack([drawn[0][0] for drawn in bootstrap.bootstrap(draws)]), block


def _studentize(own: np.ndarray, drawn: np.ndarray, block: float) -> tuple[float, float, float]:
    """Ends of the 95 % interval of the mean of `own`, and the p-value of its being 0, from `drawn`, (draws, days)."""
    return _to_interval(own.mean(keepdims=True), own[None], drawn.mean(axis=1), drawn, block)


def _to_figure(key: str, value: float, days: int, **rest: Any) -> Figure:
    return Figure(key, *NAMES[key], days, "days", value=value, source=SOURCE, **rest)


def _to_net_return(daily: np.ndarray, positions: np.ndarray, block: float) -> Figure:
    days = len(daily)
    if daily.min() <= -1:
        return _to_figure("net_return", -1.0, days, said="The account was ruined: a day lost all that there was.")
    logs = np.log1p(daily)
    low, high, p = _studentize(logs, logs[positions], block)
    ends = {"low": math.expm1(low * days), "high": math.expm1(high * days)}
    return _to_figure("net_return", float(np.prod(1 + daily)) - 1, days, p=p, **ends)


def _blur(daily: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The draws with their mean and deviation moved as far as the sample's may be wrong.

    A draw has the sample's mean and deviation for its true ones; how far another draw's lie from those says how wrong
    they may be. Without it the deepest fall of days to come lies outside far more often than 1 in 20.
    """
    mean, deviation = daily.mean(), daily.std()
    wrong = drawn.mean(axis=1) - mean
    wrong *= max(1.0, deviation / math.sqrt(len(daily) - 1) / float(wrong.std()))  # as in `_to_interval`
    wider = deviation / np.maximum(drawn.std(axis=1), deviation / 3)
    return mean + (drawn - mean - np.roll(wrong, 1)[:, None]) * np.roll(wider, 1)[:, None]


def _to_ratios(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over standard deviation of each row, per day, and what each day adds to it: its influence."""
    mean, spread = returns.mean(axis=1, keepdims=True), returns.std(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw of equal days has no ratio, and is passed over
        z = (returns - mean) / spread
        ratio = mean / spread
    days = returns.shape[1]
    return ratio[:, 0] * math.sqrt((days - 1) / days), z - ratio / 2 * (z**2 - 1)


def _find_drawdowns(returns: np.ndarray) -> np.ndarray:
    """Deepest fall of each row's account below its highest value, the start included; -1 where all was lost."""
    equity = np.cumprod(np.maximum(1 + returns, 0.0), axis=1)
    highest = np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)
    return np.minimum((equity / highest - 1).min(axis=1), 0.0)


def _to_interval(
    own: np.ndarray, parts: np.ndarray, drawn: np.ndarray, drawn_parts: np.ndarray, block: float
) -> tuple[float, float, float]:
    """Ends of the 95 % interval of the value `own`, (1,), and the p-value of its being 0 (two sides).

    Each end is so many errors from the value as 97.5 % of the `drawn` ones lie from it in theirs, on the other side;
    never less than so many as Student's t has, and the error never less than that of independent days: a sample's days
    seem to turn against one another more often than they do, and intervals that trust it cover too seldom. `parts` are
    what each day adds to the value, (1, days), whose mean has the value's error; `drawn_parts` those of the draws.
    """
    from scipy.stats import t

    value, days = float(own[0]), parts.shape[1]
    error = max(float(_errors(parts, block)[0]), float(parts.std(ddof=1)) / math.sqrt(days))
    errors = _errors(drawn_parts, block)
    ratios = np.divide(drawn - value, errors, out=np.zeros(len(errors)), where=errors > 0)
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
