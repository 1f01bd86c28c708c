"""Intervals around what an account made: they cover what is true as often as they say, and say when they cannot."""

import math

import numpy as np
import pytest

from finsignal.errors import TableError
from finsignal.evidence.luck import bootstrap_difference

YEAR = 252


def make_days(days: int = 250, *, mean: float = 0.0, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.01, days)


def test_the_difference_of_two_accounts_is_their_paired_one() -> None:
    market = make_days(seed=2) * 5
    ours = market + make_days(mean=0.001)
    mean, low, high = bootstrap_difference(ours, market, days_per_year=YEAR)
    assert mean == pytest.approx((ours - market).mean() * YEAR)
    # The market's own noise, five times as large, is in neither end. The textbook's interval is 1.97 errors each way.
    error = (ours - market).std(ddof=1) / math.sqrt(250) * YEAR
    assert (high - low) / 2 == pytest.approx(1.97 * error, rel=0.1)
    assert (low + high) / 2 == pytest.approx(mean)
    assert bootstrap_difference(market, ours, days_per_year=YEAR)[0] == -mean


def test_days_that_follow_one_another_widen_the_interval() -> None:
    noise = np.random.default_rng(3).normal(0, 0.01, 402)
    smooth = (noise[:-2] + noise[1:-1] + noise[2:])[:400]  # each day is two thirds the last one
    _, low, high = bootstrap_difference(smooth, np.zeros(400), days_per_year=1)
    # The error of the mean of a sum of three is 3 times that of one, where its own spread says sqrt(3).
    assert 1.3 < (high - low) / (2 * 1.96 * smooth.std() / 20) < 2.1


def test_the_same_seed_gives_the_same_interval() -> None:
    ours, flat = make_days().cumsum(), np.zeros(250)  # of few blocks, whose errors have the wider tails
    first = bootstrap_difference(ours, flat, days_per_year=YEAR)
    assert bootstrap_difference(ours, flat, days_per_year=YEAR) == first
    assert bootstrap_difference(ours, flat, days_per_year=YEAR, seed=8)[1] != first[1]


@pytest.mark.parametrize(
    "difference",
    [make_days(59), np.zeros(250), np.full(250, 0.001), np.r_[make_days(19), np.zeros(231)]],
    ids=["59 days", "the same account", "a constant", "19 days that differ"],
)
def test_too_little_to_judge_has_no_interval(difference: np.ndarray) -> None:
    mean, low, high = bootstrap_difference(difference, np.zeros(len(difference)), days_per_year=YEAR)
    assert mean == pytest.approx(difference.mean() * YEAR)
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (make_days(250), make_days(249), "250 days of one account and 249 of the other"),
        (np.r_[make_days(249), np.nan], make_days(250), "1 daily returns are not finite"),
        (np.array([]), np.array([]), "expected one return a day"),
    ],
)
def test_accounts_that_cannot_be_paired_are_refused(a: np.ndarray, b: np.ndarray, said: str) -> None:
    with pytest.raises(TableError, match=said):
        bootstrap_difference(a, b, days_per_year=YEAR)
