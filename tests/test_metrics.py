"""Every number against a worked answer or another implementation, and what is not defined is NaN."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from finsignal import metrics
from finsignal.errors import TableError

# A year of 4 days keeps the arithmetic short: its root is 2.
YEAR = {"days_per_year": 4}
NAN = float("nan")
FLAT = np.zeros(3)
UP_DOWN = np.array([0.1, -0.1])
ONE_GOOD = np.array([0.04, 0.0, 0.0, 0.0])
ALL_LOSS = np.array([-0.5, -0.5])
NONE = np.array([])
ONE = np.array([-0.1])

# annual_return: 1.04**(4/4) - 1; 1.1 * 0.9 = 0.99, 0.99**(4/2) - 1 = -0.0199; 0.25**2 - 1 = -0.9375; 0.9**4 - 1
#   = -0.3439.
# annual_volatility: UP_DOWN: squares 0.01 + 0.01 over 1, root 0.1414214, times 2. ONE_GOOD: mean 0.01, squares
#   (9 + 1 + 1 + 1)e-4 over 3 = 4e-4, root 0.02, times 2.
# sharpe_ratio: ONE_GOOD 0.01 / 0.02 * 2 = 1. FLAT and ALL_LOSS have equal days: no deviation.
# sharpe_error: UP_DOWN: s = 0, so sqrt(1 / (2 - 1)) * 2. ONE_GOOD: s = 0.5; n-variance 3e-4; skewness
#   ((27 - 3) / 4)e-6 / 3e-4**1.5 = 1.1547005; kurtosis ((81 + 3) / 4)e-8 / 9e-8 = 7/3;
#   sqrt((1 - 0.57735 + (4/3) / 4 * 0.25) / 3) = sqrt(0.1686610) = 0.4106836, times 2.
# sortino_ratio: UP_DOWN mean 0. ALL_LOSS -0.5 / 0.5 * 2 = -2. FLAT and ONE_GOOD never lost.
# max_drawdown: UP_DOWN 1, 1.1, 0.99: 0.99 / 1.1 - 1. ONE and ALL_LOSS fall from the start.
# calmar_ratio: -0.0199 / 0.1; -0.9375 / 0.75; -0.3439 / 0.1.
WORKED = {
    "annual_return": [0.0, -0.0199, 0.04, -0.9375, NAN, -0.3439],
    "annual_volatility": [0.0, 0.2828427, 0.04, 0.0, NAN, NAN],
    "sharpe_ratio": [NAN, 0.0, 1.0, NAN, NAN, NAN],
    "sharpe_error": [NAN, 2.0, 0.8213672, NAN, NAN, NAN],
    "sortino_ratio": [NAN, 0.0, NAN, -2.0, NAN, NAN],
    "max_drawdown": [0.0, -0.1, 0.0, -0.75, NAN, -0.1],
    "calmar_ratio": [NAN, -0.199, NAN, -1.25, NAN, -3.439],
}
SERIES = {"FLAT": FLAT, "UP_DOWN": UP_DOWN, "ONE_GOOD": ONE_GOOD, "ALL_LOSS": ALL_LOSS, "NONE": NONE, "ONE": ONE}
WITHOUT_YEAR = ("max_drawdown",)


def compute(name: str, returns: np.ndarray | pd.Series) -> float:
    return getattr(metrics, name)(returns, **({} if name in WITHOUT_YEAR else YEAR))


@pytest.mark.parametrize("name", WORKED)
def test_returns_to_a_number_by_hand(name: str) -> None:
    for (label, returns), expected in zip(SERIES.items(), WORKED[name], strict=True):
        found = compute(name, returns)
        assert found == pytest.approx(expected, abs=1e-7, nan_ok=True), label
        assert isinstance(found, float)
        assert compute(name, pd.Series(returns)) == pytest.approx(found, nan_ok=True)


@pytest.mark.parametrize("name", WORKED)
def test_a_day_that_is_not_known_makes_the_number_not_known(name: str) -> None:
    assert math.isnan(compute(name, np.array([0.1, NAN, -0.1, 0.02])))


def test_equal_days_have_no_sharpe_ratio_though_rounding_gives_them_a_deviation() -> None:
    days = np.full(3, 0.1)
    assert days.std(ddof=1) > 0  # the trap: 1e-17, which would make a ratio of 1e16
    assert math.isnan(metrics.sharpe_ratio(days, **YEAR))


def test_a_lost_account_stays_lost_and_a_debt_has_no_annual_return() -> None:
    assert metrics.annual_return(np.array([-1.0, 0.5]), **YEAR) == -1.0
    assert metrics.max_drawdown(np.array([-1.0, 0.5])) == -1.0
    assert math.isnan(metrics.annual_return(np.array([-1.5]), **YEAR))


def test_the_year_is_the_market_s_own() -> None:
    # ONE_GOOD: daily ratio 0.5; 0.5 * sqrt(252) = 7.937254, 0.5 * sqrt(365) = 9.552487.
    assert metrics.sharpe_ratio(ONE_GOOD, days_per_year=252) == pytest.approx(7.937254, abs=1e-6)
    assert metrics.sharpe_ratio(ONE_GOOD, days_per_year=365) == pytest.approx(9.552487, abs=1e-6)


def test_the_sharpe_error_is_the_spread_of_the_ratio_over_many_samples() -> None:
    # Skewed days, 250 a sample: the stated error and the standard deviation over 4,000 samples agree within 5 %.
    days = 0.002 - 0.01 * (np.random.default_rng(0).exponential(size=(4000, 250)) - 1)
    ratios = [metrics.sharpe_ratio(sample, days_per_year=252) for sample in days]
    stated = [metrics.sharpe_error(sample, days_per_year=252) for sample in days[:500]]
    assert np.mean(stated) == pytest.approx(np.std(ratios), rel=0.05)


def test_smallest_detectable_sharpe_by_hand() -> None:
    # 1.959964 + 0.841621 = 2.801585; a year of days: itself; four years: half of it.
    assert metrics.smallest_detectable_sharpe(252, days_per_year=252) == pytest.approx(2.801585, abs=1e-6)
    assert metrics.smallest_detectable_sharpe(1460, days_per_year=365) == pytest.approx(1.400793, abs=1e-6)
    assert math.isnan(metrics.smallest_detectable_sharpe(0, days_per_year=252))


def test_trades_to_a_number_by_hand() -> None:
    profits = np.array([3.0, -1.0, 0.0, 1.0])  # 2 of 4 won; 4 over 1
    assert metrics.win_rate(profits) == 0.5
    assert metrics.profit_factor(profits) == 4.0
    assert metrics.profit_factor(np.array([-1.0])) == 0.0
    for nothing in (NONE, np.array([NAN, 1.0])):
        assert math.isnan(metrics.win_rate(nothing))
        assert math.isnan(metrics.profit_factor(nothing))
    assert math.isnan(metrics.profit_factor(np.array([1.0])))  # not infinity: no loss has been seen yet


def test_exposure_by_hand() -> None:
    weights = pd.DataFrame({"A": [0.5, -0.5, -0.5], "B": [0.0, 0.0, 0.5]})
    assert metrics.exposure(weights) == pytest.approx((0.5 + 0.5 + 1.0) / 3)
    assert math.isnan(metrics.exposure(weights.iloc[:0]))


days = hnp.arrays(float, st.integers(1, 30), elements=st.floats(-0.5, 0.5).map(lambda x: round(x, 6)))


@given(returns=days, more=st.floats(0, 0.5))
def test_a_higher_return_every_day_never_deepens_the_drawdown(returns: np.ndarray, more: float) -> None:
    assert metrics.max_drawdown(returns + more) >= metrics.max_drawdown(returns) - 1e-12


@given(returns=days, scale=st.floats(0.1, 10))
def test_the_sharpe_ratio_does_not_change_with_the_size_of_the_bet(returns: np.ndarray, scale: float) -> None:
    whole, scaled = (metrics.sharpe_ratio(r, days_per_year=252) for r in (returns, returns * scale))
    assert scaled == pytest.approx(whole, rel=1e-6, abs=1e-6, nan_ok=True)


@given(returns=days)
def test_ranges(returns: np.ndarray) -> None:
    assert -1 <= metrics.max_drawdown(returns) <= 0
    assert 0 <= metrics.win_rate(returns) <= 1
    assert np.prod(1 + returns) - 1 >= metrics.max_drawdown(returns) - 1e-12


def test_alpha_and_beta_by_hand() -> None:
    # Slope 4e-4 / 4e-4 = 1, intercept 0.01; what is left is 0.01, -0.01, 0.01, -0.01. floor(4 * 0.04 ** (2/9)) = 1 lag
    # of weight 1/2. Alpha: (4e-4 - 3e-4) / 4 ** 2 * 4/2 = 1.25e-5, root 0.00353553, times 4. Beta: the moments left
    # * market are -1, 1, 1, -1 e-4: (4e-8 - 1e-8) / 4e-4 ** 2 * 4/2 = 0.375, root 0.6123724.
    market = np.array([-0.01, -0.01, 0.01, 0.01])
    found = metrics.alpha_beta(np.array([0.01, -0.01, 0.03, 0.01]), market, **YEAR)
    assert (found.days, found.lags) == (4, 1)
    assert (found.alpha, found.beta) == (pytest.approx(0.04), pytest.approx(1.0))
    assert found.alpha_error == pytest.approx(0.0141421, abs=1e-7)
    assert found.beta_error == pytest.approx(0.6123724, abs=1e-7)


@pytest.mark.parametrize(("size", "lags"), [(3, 1), (30, 3), (250, 4), (2500, 8)])
def test_alpha_and_beta_equal_the_textbook_s_matrices(size: int, lags: int) -> None:
    rng = np.random.default_rng(size)
    market = rng.normal(3e-3, 0.01, size)
    days = 0.002 + 0.7 * market + rng.normal(0, 0.01, size)
    x = np.column_stack([np.ones(size), market])
    inverse = np.linalg.inv(x.T @ x)
    left = days - x @ (inverse @ x.T @ days)
    middle = np.zeros((2, 2))
    for a in range(size):
        for b in range(max(0, a - lags), min(size, a + lags + 1)):
            middle += (1 - abs(a - b) / (lags + 1)) * left[a] * left[b] * np.outer(x[a], x[b])
    errors = np.sqrt(np.diag(inverse @ middle @ inverse) * size / (size - 2))
    found = metrics.alpha_beta(pd.Series(days), pd.Series(market), days_per_year=252)
    intercept, slope = np.linalg.lstsq(x, days, rcond=None)[0]
    assert (found.alpha, found.beta) == (pytest.approx(intercept * 252), pytest.approx(slope))
    assert (found.alpha_error, found.beta_error) == (pytest.approx(errors[0] * 252), pytest.approx(errors[1]))
    assert found.lags == lags


def test_the_error_of_alpha_is_its_spread_over_many_samples_though_days_follow_one_another() -> None:
    # What is left beside the market goes on by 0.4 a day; with independent days the error would be 1.5 times too small.
    rng = np.random.default_rng(1)
    market = rng.normal(0, 0.01, (1500, 500))
    left = rng.normal(0, 0.01, (1500, 500))
    for day in range(1, 500):
        left[:, day] += 0.4 * left[:, day - 1]
    found = [metrics.alpha_beta(a + 0.5 * m, m, days_per_year=252) for a, m in zip(left, market, strict=True)]
    assert np.mean([f.alpha_error for f in found]) == pytest.approx(np.std([f.alpha for f in found]), rel=0.1)
    assert np.mean([f.beta_error for f in found]) == pytest.approx(np.std([f.beta for f in found]), rel=0.1)


def test_the_market_itself_has_no_alpha_and_an_idle_account_neither() -> None:
    market = np.array([0.01, -0.02, 0.03, 0.005])
    twice = metrics.alpha_beta(2 * market, market, **YEAR)
    assert (twice.alpha, twice.alpha_error, twice.beta_error) == (pytest.approx(0), pytest.approx(0), pytest.approx(0))
    assert twice.beta == pytest.approx(2)
    idle = metrics.alpha_beta(np.zeros(4), market, **YEAR)
    assert (idle.alpha, idle.alpha_error, idle.beta, idle.beta_error) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("days", "market"),
    [
        ([0.01, -0.01, 0.02], [0.0, 0.0, 0.0]),  # a market that stands still has no slope
        ([0.01, -0.01, 0.02], [0.1, 0.1, 0.1]),  # the computed deviation of these is 1e-17, not 0
        ([0.01, -0.01], [0.0, 0.01]),  # a line goes through any two days
        ([], []),
        ([0.01, NAN, 0.02], [0.0, 0.01, 0.02]),
        ([0.01, 0.01, 0.02], [0.0, NAN, 0.02]),
        ([0.01, 0.01, 0.02], [0.0, math.inf, 0.02]),
    ],
)
def test_alpha_and_beta_that_are_not_defined(days: list[float], market: list[float]) -> None:
    found = metrics.alpha_beta(np.array(days), np.array(market), **YEAR)
    assert all(math.isnan(x) for x in (found.alpha, found.alpha_error, found.beta, found.beta_error))
    assert found.days == len(days)


def test_alpha_refuses_a_market_of_other_days() -> None:
    with pytest.raises(TableError, match="3 days of returns and 4 of the market"):
        metrics.alpha_beta(FLAT, ONE_GOOD, **YEAR)


def test_label_numbers_equal_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="needs the extra finsignal[train]")
    rng = np.random.default_rng(3)
    truth, probabilities = rng.integers(0, 3, 500), rng.dirichlet([1, 1, 1], 500)
    predicted = probabilities.argmax(axis=1)
    np.testing.assert_array_equal(metrics.confusion(truth, predicted), sklearn.confusion_matrix(truth, predicted))
    assert metrics.accuracy(truth, probabilities) == pytest.approx(sklearn.accuracy_score(truth, predicted))
    np.testing.assert_allclose(
        metrics.f1_by_label(truth, probabilities), sklearn.f1_score(truth, predicted, average=None)
    )
    for name, average in ((metrics.macro_f1, "macro"), (metrics.weighted_f1, "weighted")):
        assert name(truth, probabilities) == pytest.approx(sklearn.f1_score(truth, predicted, average=average))
    assert metrics.log_loss(truth, probabilities) == pytest.approx(sklearn.log_loss(truth, probabilities))


def test_matthews_and_brier_equal_those_of_scikit_learn_and_the_arithmetic_by_hand() -> None:
    # Truth 0, 1, 2, 2 and predicted 0, 1, 1, 2: 3 right of 4. sum(true * predicted) = 1 + 2 + 2 = 5, so
    # (3 * 4 - 5) / sqrt((16 - 6) * (16 - 6)) = 0.7. Brier of (0.5, 0.3, 0.2) when 0 is true: .25 + .09 + .04 = 0.38.
    truth, probabilities = np.array([0, 1, 2, 2]), np.eye(3)[[0, 1, 1, 2]]
    assert metrics.matthews(truth, probabilities) == pytest.approx(0.7)
    assert metrics.brier_score(truth, probabilities) == pytest.approx(0.5)  # one row of four is wrong by 1 + 1
    assert metrics.brier_score(np.array([0]), np.array([[0.5, 0.3, 0.2]])) == pytest.approx(0.38)
    sklearn = pytest.importorskip("sklearn.metrics", reason="needs the extra finsignal[train]")
    rng = np.random.default_rng(4)
    truth, probabilities = rng.integers(0, 3, 300), rng.dirichlet([1, 1, 1], 300)
    predicted = probabilities.argmax(axis=1)
    assert metrics.matthews(truth, probabilities) == pytest.approx(sklearn.matthews_corrcoef(truth, predicted))
    expected = sklearn.brier_score_loss(truth, probabilities, labels=[0, 1, 2], scale_by_half=False)
    assert metrics.brier_score(truth, probabilities) == pytest.approx(expected)


def test_what_is_not_measured_is_nan_and_never_zero() -> None:
    # All rows are negative and one of two is called neutral: nothing is positive, neither in truth nor as predicted.
    truth, probabilities = np.array([0, 0]), np.eye(3)[[0, 1]]
    assert math.isnan(metrics.matthews(truth, probabilities))
    scores = metrics.count_scores(metrics.confusion(truth, probabilities.argmax(axis=1)))
    np.testing.assert_array_equal(scores["precision"], [1.0, 0.0, NAN])
    np.testing.assert_array_equal(scores["recall"], [0.5, NAN, NAN])
    np.testing.assert_array_equal(scores["f1"], [2 / 3, 0.0, NAN])


def test_scores_of_many_tables_at_once_are_those_of_each() -> None:
    tables = np.random.default_rng(5).integers(0, 9, (4, 6, 3, 3))
    many = metrics.count_scores(tables)
    for at in np.ndindex(4, 6):
        for name, values in metrics.count_scores(tables[at]).items():
            np.testing.assert_array_equal(many[name][at], values)


def test_a_label_that_is_absent_does_not_pull_the_mean_down() -> None:
    # Only codes 0 and 2 occur, all right: F1 is 1 for both, and label 1 is neither present nor predicted.
    truth = np.array([0, 2, 0])
    probabilities = np.eye(3)[truth]
    assert list(metrics.f1_by_label(truth, probabilities)) == [1.0, 0.0, 1.0]
    assert metrics.macro_f1(truth, probabilities) == 1.0
    assert metrics.weighted_f1(truth, probabilities) == 1.0


def test_label_names_to_codes() -> None:
    assert list(metrics.to_codes(np.array(["positive", "negative", "neutral"]))) == [2, 0, 1]
    with pytest.raises(KeyError, match="bullish"):
        metrics.to_codes(np.array(["bullish"]))


def test_calibration_error_does_not_depend_on_the_order_of_rows() -> None:
    """One confidence for all rows, 60 % right, sorted by truth: |0.6 - 0.5|, however the bins cut the ties."""
    probabilities = np.tile([0.5, 0.3, 0.2], (100, 1))
    truth = np.repeat([0, 1], [60, 40])
    assert metrics.calibration_error(truth, probabilities) == pytest.approx(0.1)
    assert metrics.calibration_error(truth[::-1], probabilities) == pytest.approx(0.1)


def test_calibration_error_by_hand() -> None:
    # Two bins of two by confidence. Low: 0.5 and 0.6, both right: |1 - 0.55| = 0.45. High: 0.8 and 0.9, one right:
    # |0.5 - 0.85| = 0.35. Mean 0.40.
    probabilities = np.array([[0.5, 0.3, 0.2], [0.6, 0.2, 0.2], [0.8, 0.1, 0.1], [0.9, 0.05, 0.05]])
    assert metrics.calibration_error(np.array([0, 0, 0, 1]), probabilities, bins=2) == pytest.approx(0.40)


def test_log_loss_by_hand() -> None:
    # -(ln 0.5 + ln 0.25) / 2 = (0.693147 + 1.386294) / 2; a sure mistake costs -ln 1e-15 = 34.538776, not infinity.
    probabilities = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
    assert metrics.log_loss(np.array([0, 1]), probabilities) == pytest.approx(1.039721, abs=1e-6)
    assert metrics.log_loss(np.array([1]), np.array([[1.0, 0.0, 0.0]])) == pytest.approx(34.538776, abs=1e-6)
