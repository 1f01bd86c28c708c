"""Numbers about results: labels and probabilities to a number, returns to a number. numpy and pandas only."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from finsignal.errors import TableError
from finsignal.tables import LABELS

# --- labels -> number ----------------------------------------------------------------------------------------------


def to_codes(labels: np.ndarray) -> np.ndarray:
    """Positions in LABELS, int64, of an array of label names. Raises KeyError at an unknown name."""
    position = {name: code for code, name in enumerate(LABELS)}
    return np.array([position[str(label)] for label in labels], dtype=np.int64)


def confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts, shape (3, 3): row = true code, column = predicted code."""
    size = len(LABELS)
    return np.bincount(np.asarray(truth) * size + np.asarray(predicted), minlength=size * size).reshape(size, size)


def accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of rows whose largest probability is the true code, a fraction."""
    return float((probabilities.argmax(axis=1) == truth).mean())


def f1_by_label(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """F1 of each label, shape (3,); 0 where a label is neither present nor predicted."""
    return np.nan_to_num(count_scores(confusion(truth, probabilities.argmax(axis=1)))["f1"])


def macro_f1(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Unweighted mean of F1 over the labels that are present or predicted."""
    return float(count_scores(confusion(truth, probabilities.argmax(axis=1)))["macro_f1"])


def weighted_f1(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of F1 over the labels, weighted by how often each is true."""
    return float(count_scores(confusion(truth, probabilities.argmax(axis=1)))["weighted_f1"])


def matthews(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Matthews' correlation of true and predicted labels, -1 to 1; 0 is what guessing gives, whatever the balance.

    NaN where all rows have one label or all are predicted as one, for then nothing can vary together. Gorodkin 2004,
    doi:10.1016/j.compbiolchem.2004.09.006.
    """
    return float(count_scores(confusion(truth, probabilities.argmax(axis=1)))["mcc"])


def count_scores(table: np.ndarray) -> dict[str, np.ndarray]:
    """All that confusion counts (..., 3, 3) tell, by name: accuracy, macro_f1, weighted_f1 and mcc of shape (...);
    precision, recall and f1 by label, (..., 3). NaN where nothing is divided: the recall of a label that no row has,
    the precision of one never predicted, the F1 of one neither present nor predicted.
    """
    table = np.asarray(table, dtype=float)
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    true, predicted, rows = table.sum(axis=-1), table.sum(axis=-2), table.sum(axis=(-2, -1))
    f1 = _ratio(2 * hits, true + predicted)
    used = true + predicted > 0
    right = hits.sum(axis=-1)
    spread = np.sqrt((rows**2 - (predicted**2).sum(axis=-1)) * (rows**2 - (true**2).sum(axis=-1)))
    return {
        "accuracy": _ratio(right, rows),
        "macro_f1": _ratio(np.where(used, f1, 0.0).sum(axis=-1), used.sum(axis=-1)),
        "weighted_f1": _ratio((true * np.nan_to_num(f1)).sum(axis=-1), rows),
        "mcc": _ratio(right * rows - (true * predicted).sum(axis=-1), spread),
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, true),
        "f1": f1,
    }


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) > 0)


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of minus the natural logarithm of the true label's probability (uniform guessing: 1.0986).

    Probabilities are raised to 1e-15 at least, as scikit-learn does for doubles, so that one sure mistake is finite.
    """
    chosen = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(chosen, 1e-15, 1.0)).mean())


def brier_score(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the rows of the squared distance from the truth, summed over the labels: 0 to 2 (uniform: 2/3).

    Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, as published, over all classes.
    """
    return float(((probabilities - np.eye(len(LABELS))[truth]) ** 2).sum(axis=1).mean())


def calibration_error(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the confidence, in bins of equal mass: mean |accuracy - confidence|, a fraction.

    Rows are sorted by their largest probability and cut into `bins` groups of as equal a size as can be; empty groups
    do not count. Rows of equal confidence share their mean accuracy, so that the order of the rows never matters, not
    even where a bin's edge falls between them. Guo et al. 2017, arXiv:1706.04599, with equal mass as in Nguyen and
    O'Connor 2015, arXiv:1508.05154.
    """
    confidence = probabilities.max(axis=1)
    _, level = np.unique(confidence, return_inverse=True)
    right = (np.bincount(level, probabilities.argmax(axis=1) == truth) / np.bincount(level))[level]
    order = np.argsort(confidence, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    return float(sum(len(g) * abs(right[g].mean() - confidence[g].mean()) for g in groups) / len(truth))


# --- returns -> number ---------------------------------------------------------------------------------------------
#
# `returns` are daily simple net returns, fractions, one a trading day: hourly bars are unequal, so volatility is never
# taken from them. `days_per_year` is the market's own year (252 stocks, 365 crypto). The riskless rate is 0. NaN means
# not defined, never zero; a NaN among the returns makes every number NaN.


def to_returns(equity: np.ndarray | pd.Series, *, cash: float) -> np.ndarray:
    """Simple return of each step of an account that began with `cash`: -1 where its value first is 0 or less, then 0.

    A ratio of values at or below 0 says nothing: an account that falls from -1 to -2 has not doubled. NaN values stay.
    """
    alive = stop_at_ruin(equity)
    before = np.concatenate([[cash], alive[:-1]])
    return np.divide(alive, before, out=np.ones(len(alive)), where=before != 0) - 1


def stop_at_ruin(equity: np.ndarray | pd.Series) -> np.ndarray:
    """The values of an account, 0 from the first one at or below 0 on."""
    e = _floats(equity)
    return np.where(np.logical_or.accumulate(e <= 0), 0.0, e)


def annual_return(returns: np.ndarray | pd.Series, *, days_per_year: int) -> float:
    """Growth per year less 1, compounded, a fraction. NaN without days, or where the account fell below 0."""
    r = _floats(returns)
    growth = np.prod(1 + r)
    return float(growth ** (days_per_year / len(r)) - 1) if len(r) and growth >= 0 else float("nan")


def annual_volatility(returns: np.ndarray | pd.Series, *, days_per_year: int) -> float:
    """Standard deviation (n - 1) of the daily returns times the root of the year, a fraction. NaN below 2 days."""
    r = _floats(returns)
    return float(r.std(ddof=1) * np.sqrt(days_per_year)) if len(r) > 1 else float("nan")


def sharpe_ratio(returns: np.ndarray | pd.Series, *, days_per_year: int) -> float:
    """Mean over standard deviation (n - 1) of the daily returns, times the root of the year.

    NaN below 2 days, and where all days are equal, for there is no risk to divide by.
    """
    return _daily_sharpe(returns) * float(np.sqrt(days_per_year))


def sharpe_error(returns: np.ndarray | pd.Series, *, days_per_year: int) -> float:
    """Standard error of `sharpe_ratio`, in the same annual units, for independent days of any distribution.

    sqrt((1 - skew * s + (kurtosis - 1) / 4 * s**2) / (n - 1)) with the daily ratio s and the sample's own skewness and
    kurtosis (3 for a normal), times the root of the year. Days that follow one another in sign make it too small.
    NaN as the ratio is. Lo 2002, doi:10.2469/faj.v58.n4.2453, for normal returns; Mertens 2002, "Comments on variance
    of the IID estimator in Lo (2002)", for others; the form of Bailey and Lopez de Prado 2012, "The Sharpe ratio
    efficient frontier", Journal of Risk 15(2).
    """
    s = _daily_sharpe(returns)
    if np.isnan(s):
        return float("nan")
    r = _floats(returns)
    z = (r - r.mean()) / r.std()
    variance = (1 - (z**3).mean() * s + ((z**4).mean() - 1) / 4 * s**2) / (len(r) - 1)
    # Never below 0 by Pearson's inequality (kurtosis >= 1 + skewness**2), but for the last digit.
    return float(np.sqrt(max(variance, 0.0) * days_per_year))


def smallest_detectable_sharpe(days: int, *, days_per_year: int) -> float:
    """The annual Sharpe ratio that so many days could tell from 0: in a test at 5 % on two sides, 80 % of the time.

    (1.960 + 0.842) * sqrt(days_per_year / days): the error of a small ratio is about sqrt(days_per_year / days). A
    year gives 2.8, ten years 0.9. NaN without days.
    """
    z = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
    return float(z * np.sqrt(days_per_year / days)) if days > 0 else float("nan")


def sortino_ratio(returns: np.ndarray | pd.Series, *, days_per_year: int) -> float:
    """Mean over downside deviation, times the root of the year.

    The downside deviation is the root mean square of min(return, 0) over all days, the winning ones included. NaN
    below 2 days, and where no day lost. Sortino and Price 1994, doi:10.3905/joi.3.3.59.
    """
    r = _floats(returns)
    if len(r) < 2:
        return float("nan")
    downside = np.sqrt((np.minimum(r, 0) ** 2).mean())
    return float(r.mean() / downside * np.sqrt(days_per_year)) if downside != 0 else float("nan")


def max_drawdown(returns: np.ndarray | pd.Series) -> float:
    """Deepest fall of equity below its highest value so far, the start included: a fraction <= 0. NaN without days."""
    r = _floats(returns)
    equity = np.cumprod(np.r_[1.0, 1 + r])
    return float((equity / np.maximum.accumulate(equity) - 1).min()) if len(r) else float("nan")


def calmar_ratio(returns: np.ndarray | pd.Series, *, days_per_year: int) -> float:
    """Annual return over the depth of the deepest drawdown. NaN without days, and where equity never fell."""
    depth = -max_drawdown(returns)
    return annual_return(returns, days_per_year=days_per_year) / depth if depth != 0 else float("nan")


def win_rate(profits: np.ndarray | pd.Series) -> float:
    """Share of closed trades with a profit above 0, net of fees; a trade at exactly 0 is no win. NaN without trades."""
    p = _floats(profits)
    return float((p > 0).mean()) if len(p) and not np.isnan(p).any() else float("nan")


def profit_factor(profits: np.ndarray | pd.Series) -> float:
    """Profits of the winning closed trades over the losses of the others, net of fees. NaN where no trade lost."""
    p = _floats(profits)
    lost = -np.minimum(p, 0).sum()
    return float(np.maximum(p, 0).sum() / lost) if lost != 0 else float("nan")


def exposure(weights: np.ndarray | pd.DataFrame) -> float:
    """Mean over the bars of the sum of absolute weights (bars, symbols): a fraction of equity. NaN without bars."""
    w = _floats(weights)
    return float(np.abs(w).sum(axis=1).mean()) if len(w) else float("nan")


@dataclass(frozen=True)
class AlphaBeta:
    """The line of least squares through an account's daily returns against a market's.

    alpha: its intercept as a fraction a year (daily times the days of a year, not compounded), what was earned beside
    the market; beta: its slope, the account's move for a move of the market by 1. Their standard errors hold where days
    follow one another up to `lags` days and differ in spread. days: of both series. NaN means not defined.
    """

    alpha: float
    alpha_error: float
    beta: float
    beta_error: float
    days: int
    lags: int


def alpha_beta(
    returns: np.ndarray | pd.Series, market_returns: np.ndarray | pd.Series, *, days_per_year: int
) -> AlphaBeta:
    """Alpha a year and beta of daily returns against the market's of the same days, with standard errors.

    Errors by Newey & West 1987, doi:10.2307/1913610, with Bartlett weights 1 - j / (lags + 1), times n / (n - 2) for
    the two fitted values; lags = floor(4 * (n / 100) ** (2 / 9)), the rule of thumb for these weights after Newey &
    West 1994, doi:10.2307/2297912. All four numbers are NaN below 3 days, where the market's days are all equal (no
    slope can be fitted), and where any return is NaN or infinite.

    Raises TableError where the two differ in length.
    """
    r, m = _floats(returns), _floats(market_returns)
    if r.shape != m.shape:
        raise TableError(
            f"alpha: {len(r)} days of returns and {len(m)} of the market; expected one of each for the same days."
        )
    size = len(r)
    lags = min(int(4 * (size / 100) ** (2 / 9)), max(size - 1, 0))
    known = np.isfinite(r).all() and np.isfinite(m).all()
    if size < 3 or not known or m.min() == m.max():
        nan = float("nan")
        return AlphaBeta(nan, nan, nan, nan, size, lags)
    x = np.column_stack([np.ones(size), m - m.mean()])  # about its mean: the two columns are then at right angles
    slope = float(x[:, 1] @ r / (x[:, 1] @ x[:, 1]))
    intercept = float(r.mean() - slope * m.mean())
    moments = x * (r - intercept - slope * m)[:, None]
    spread = moments.T @ moments
    for lag in range(1, lags + 1):
        shifted = moments[lag:].T @ moments[:-lag]
        spread += (1 - lag / (lags + 1)) * (shifted + shifted.T)
    inverse = np.diag(1 / (x * x).sum(axis=0))
    of_mean = np.array([1.0, -m.mean()])  # intercept = value at the mean - slope * mean
    covariance = inverse @ spread @ inverse * size / (size - 2)
    # Never below 0 with these weights, but for the last digit.
    alpha_error = float(np.sqrt(max(of_mean @ covariance @ of_mean, 0.0)))
    beta_error = float(np.sqrt(max(covariance[1, 1], 0.0)))
    return AlphaBeta(intercept * days_per_year, alpha_error * days_per_year, slope, beta_error, size, lags)


def _floats(values: np.ndarray | pd.Series | pd.DataFrame) -> np.ndarray:
    return np.asarray(values, dtype=float)


def _daily_sharpe(returns: np.ndarray | pd.Series) -> float:
    r = _floats(returns)
    # Equal days are compared as they are: their computed deviation may be 1e-18 instead of 0.
    return float(r.mean() / r.std(ddof=1)) if len(r) > 1 and r.min() != r.max() else float("nan")
