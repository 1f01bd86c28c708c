"""Was it the search? The Sharpe ratio against what the best of so many trials would have shown by luck.

Ratios here are per day, not annual, but where a figure is shown. skew and kurtosis are those of the daily returns, the
kurtosis the plain one, 3 for a normal.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pandas as pd

from finsignal.errors import TableError
from finsignal.evidence.answers import Answer, Curve, Figure, say_count
from finsignal.evidence.luck import check_daily, find_need

CONFIDENCE = 0.95
NORMAL = NormalDist()
COUNTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)  # of trials, on the curve
BAILEY_2012 = "Bailey & Lopez de Prado 2012, doi:10.21314/JOR.2012.255"
BAILEY_2014 = "Bailey & Lopez de Prado 2014, doi:10.3905/jpm.2014.40.5.094"
QUESTION = "Was it the search?"
PROBABILISTIC = "The confidence that the true Sharpe ratio is above 0, had nothing else been tried."
DEFLATED = "The confidence that it is above what the best of the counted trials would show by luck."
OUTSIDE = "What was tried outside this study's registry is not counted: nothing can see it."
NAMES = {  # of the figures that the days must allow, with their units
    "probabilistic_sharpe": ("Probabilistic Sharpe ratio", "percent"),
    "expected_best": ("Best Sharpe ratio by luck", "ratio"),
    "deflated_sharpe": ("Deflated Sharpe ratio", "percent"),
    "minimum_track_record": ("Minimum track record, days", "count"),
}


def probabilistic_sharpe(sharpe: float, *, days: int, skew: float, kurtosis: float, benchmark: float = 0.0) -> float:
    """The confidence that the true ratio is above `benchmark`: a probability, above 0.95 where a test at 5 % rejects.

    The normal probability of (sharpe - benchmark) over the ratio's error. Days that follow one another in sign make it
    too sure. NaN below 2 days, and where the moments are those of no distribution. Bailey & Lopez de Prado 2012,
    doi:10.21314/JOR.2012.255.
    """
    spread = _to_spread(sharpe, skew, kurtosis)
    if days < 2 or not spread > 0:
        return math.nan
    return NORMAL.cdf((sharpe - benchmark) * math.sqrt((days - 1) / spread))


def expected_best_sharpe(*, trials: int, variance: float) -> float:
    """The ratio that the best of so many independent trials shows on average where none is worth anything.

    variance is that of the trials' ratios, per day; 0 for one trial, which is the best of nothing. The approximation of
    the expected largest of normal values in Bailey & Lopez de Prado 2014, doi:10.3905/jpm.2014.40.5.094.

    Raises TableError where there is no trial, or the variance is negative or not known.
    """
    if trials < 1 or not variance >= 0:
        raise TableError(
            f"search: {say_count(trials, 'trial')} of variance {variance}; expected 1 or more, and 0 or more."
        )
    if trials == 1:
        return 0.0
    largest = NORMAL.inv_cdf(1 - 1 / trials)
    larger = NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - np.euler_gamma) * largest + np.euler_gamma * larger)


def deflated_sharpe(sharpe: float, *, days: int, skew: float, kurtosis: float, trials: int, variance: float) -> float:
    """The confidence that the true ratio is above what the best of so many trials shows by luck: a probability.

    `probabilistic_sharpe` against `expected_best_sharpe`. Bailey & Lopez de Prado 2014, doi:10.3905/jpm.2014.40.5.094.
    """
    best = expected_best_sharpe(trials=trials, variance=variance)
    return probabilistic_sharpe(sharpe, days=days, skew=skew, kurtosis=kurtosis, benchmark=best)


def minimum_track_record(
    sharpe: float, *, skew: float, kurtosis: float, benchmark: float = 0.0, confidence: float = CONFIDENCE
) -> float:
    """Days, not rounded, after which such a ratio would be above `benchmark` with this confidence.

    Infinite where the ratio is not above it. Bailey & Lopez de Prado 2012, doi:10.21314/JOR.2012.255.
    """
    if not sharpe > benchmark:
        return math.inf
    return 1 + _to_spread(sharpe, skew, kurtosis) * (NORMAL.inv_cdf(confidence) / (sharpe - benchmark)) ** 2


def answer_search(daily: np.ndarray, trials: pd.DataFrame, *, days_per_year: float) -> Answer:
    """Figures "trials", "probabilistic_sharpe", "expected_best", "deflated_sharpe" and "minimum_track_record".

    daily are the simple net returns of the account, fractions; trials is TRIALS of its study. Every trial counts, the
    ones that were tried on validation and the runs that were judged; no row counts as one, the account itself. A trial
    whose account did not move counts with a ratio of 0. Ratios over other numbers of days than the account's are first
    brought to the error of its own, each times the root of its days over the account's, else a short validation would
    look like a wide search. Their variance is the sample's, even of two: where two agree by chance, the better of them
    is no luckier for having been chosen. With several trials and fewer than two ratios it is the ratio's own error.
    Below 60 days, or 20 on which the account moved, only the trials are counted.

    Raises TableError where a daily return is not finite.
    """
    daily = check_daily(daily)
    count = max(len(trials), 1)
    counted = Figure("trials", "Trials counted", "count", count, "trials", value=float(count), said=_say_kinds(trials))
    spread_out = daily.std() > 0
    sharpe = float(daily.mean() / daily.std(ddof=1)) if spread_out else 0.0
    z = (daily - daily.mean()) / daily.std() if spread_out else daily
    own = {"skew": float((z**3).mean()), "kurtosis": float((z**4).mean())}
    need = find_need(daily)
    if not need and not _to_spread(sharpe, **own) > 0:
        need = "returns of more than two kinds"
    if need:
        figures = [Figure(key, name, unit, len(daily), "days", needs=need) for key, (name, unit) in NAMES.items()]
        return Answer("search", QUESTION, f"{_say_count(count)}; to judge them needs {need}.", (counted, *figures))
    variance, notes = _find_variance(trials, len(daily))
    best = expected_best_sharpe(trials=count, variance=variance) * math.sqrt(days_per_year)
    sure = probabilistic_sharpe(sharpe, days=len(daily), **own)
    deflated = _deflate(sharpe, len(daily), own, variance, (count,))[0]
    annual = sharpe * math.sqrt(days_per_year)
    figures = [
        _to_figure("probabilistic_sharpe", len(daily), sure, p=1 - sure, said=PROBABILISTIC, source=BAILEY_2012),
        Figure(
            *("expected_best", *NAMES["expected_best"], count, "trials"),
            value=best,
            said="What the best of so many trials shows on average where none is worth anything, a year.",
            source=BAILEY_2014,
        ),
        _to_figure("deflated_sharpe", len(daily), deflated, p=1 - deflated, said=DEFLATED, source=BAILEY_2014),
        _to_track_record(sharpe, own, len(daily), annual),
    ]
    counts = tuple(sorted({*COUNTS, count}))
    curve = Curve(
        *("deflated_by_trials", "Deflated Sharpe ratio by number of trials", tuple(float(n) for n in counts)),
        _deflate(sharpe, len(daily), own, variance, counts),
        *("trials", "confidence that the ratio is not the luck of the best", "percent"),
        n=(len(daily),) * len(counts),
        marks=((float(count), "counted"),),
    )
    said = (
        f"{_say_count(count)}: a Sharpe ratio of {annual:.2f} is above 0 with {sure:.0%} confidence, and above the "
        f"{best:.2f} that the best of so many would show by luck with {deflated:.0%}."
    )
    if count == 1:
        said = (
            f"{_say_count(count)}: a Sharpe ratio of {annual:.2f} is above 0 with {sure:.0%} confidence, and nothing "
            "is to be taken off for a search."
        )
    return Answer("search", QUESTION, said, (counted, *figures), (curve,), notes=notes)


def _to_spread(sharpe: float, skew: float, kurtosis: float) -> float:
    """Variance of the ratio times days - 1, of days of any distribution: Mertens 2002."""
    return 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2


def _deflate(
    sharpe: float, days: int, own: dict[str, float], variance: float, counts: tuple[int, ...]
) -> tuple[float, ...]:
    return tuple(deflated_sharpe(sharpe, days=days, trials=n, variance=variance, **own) for n in counts)


def _find_variance(trials: pd.DataFrame, days: int) -> tuple[float, tuple[str, ...]]:
    """Variance of the trials' ratios at the account's days, and how it was found."""
    measured = trials[trials["days"] >= 2]
    still = int(measured["sharpe"].isna().sum())
    notes = [OUTSIDE]
    if still:
        notes.append(f"{_say_count(still)} whose account did not move, with a ratio of 0.")
    if len(measured) < 2:
        notes.append("Fewer than two ratios are known: their variance is taken for that of one ratio's own error.")
        return 1 / (days - 1), tuple(notes)
    ratios = measured["sharpe"].fillna(0.0).to_numpy() * np.sqrt(measured["days"].to_numpy() / days)
    return float(ratios.var(ddof=1)), tuple(notes)


def _to_figure(key: str, days: int, value: float, *, p: float, said: str, source: str) -> Figure:
    return Figure(key, *NAMES[key], days, "days", value=value, p=p, said=said, source=source)


def _to_track_record(sharpe: float, own: dict[str, float], days: int, annual: float) -> Figure:
    key = "minimum_track_record"
    least = minimum_track_record(sharpe, **own)
    if not math.isfinite(least):
        return Figure(key, *NAMES[key], days, "days", needs=f"a Sharpe ratio above 0; it is {annual:.2f}")
    return Figure(
        *(key, *NAMES[key], days, "days"),
        value=float(math.ceil(least)),
        said=f"Days after which such a ratio would be above 0 with 95 % confidence; there are {days}.",
        source=BAILEY_2012,
    )


def _say_count(count: int) -> str:
    return f"{say_count(count, 'trial')} {'were' if count != 1 else 'was'} counted"


def _say_kinds(trials: pd.DataFrame) -> str:
    if not len(trials):
        return "No registry of trials: the account itself counts as one."
    kinds = trials["kind"].value_counts()
    settings, runs = int(kinds.get("setting", 0)), int(kinds.get("run", 0))
    return f"Settings tried on validation: {settings}. Runs judged on the test: {runs}."
