"""Was it the search: the published worked figures, another implementation, and what a search of nothing shows."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from finsignal import metrics
from finsignal.errors import TableError
from finsignal.evidence.search import (
    answer_search,
    deflated_sharpe,
    expected_best_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
)
from finsignal.tables import TRIALS

NORMAL = {"skew": 0.0, "kurtosis": 3.0}
YEAR = 252


def make_trials(ratios: list[float], *, days: int | list[int] = 250, kind: str = "setting") -> pd.DataFrame:
    rows = {
        "trial": [f"{number:04x}" for number in range(len(ratios))],
        "kind": kind,
        "settings": "{}",
        "sharpe": ratios,
        "days": days,
        "first": pd.Timestamp("2026-01-05T12:00Z"),
    }
    return TRIALS.to_table(pd.DataFrame(rows).astype({"first": TRIALS.columns["first"], "days": "int64"}))


def make_days(ratio: float, *, days: int = 250, seed: int = 1) -> np.ndarray:
    """Days whose sample ratio is exactly this one."""
    noise = np.random.default_rng(seed).normal(size=days)
    return ((noise - noise.mean()) / noise.std(ddof=1) + ratio) * 0.01


# Bailey & Lopez de Prado 2012, "The Sharpe ratio efficient frontier": a fund of monthly ratio 0.458 over two years is
# above 0 with 0.982 if its months were normal, with 0.913 at their skewness -2.448 and kurtosis 10.164; after a third
# year with 0.953.
@pytest.mark.parametrize(
    ("months", "moments", "published"),
    [
        (24, NORMAL, 0.982),
        (24, {"skew": -2.448, "kurtosis": 10.164}, 0.913),
        (36, {"skew": -2.448, "kurtosis": 10.164}, 0.953),
    ],
)
def test_the_published_probabilistic_ratios(months: int, moments: dict[str, float], published: float) -> None:
    assert probabilistic_sharpe(0.458, days=months, **moments) == pytest.approx(published, abs=1e-3)


# The same paper: years until an annual ratio of 2 is above 1 with 95 %, of normal days, weeks and months, and of months
# with skewness -0.72 and kurtosis 5.78.
@pytest.mark.parametrize(
    ("a_year", "moments", "published"),
    [
        (252, NORMAL, 2.73),
        (52, NORMAL, 2.83),
        (12, NORMAL, 3.24),
        (12, {"skew": -0.72, "kurtosis": 5.78}, 4.99),
    ],
)
def test_the_published_track_records(a_year: int, moments: dict[str, float], published: float) -> None:
    root = math.sqrt(a_year)
    assert minimum_track_record(2 / root, benchmark=1 / root, **moments) / a_year == pytest.approx(published, abs=5e-3)


def test_after_the_minimum_track_record_the_confidence_is_there() -> None:
    moments = {"skew": -1.0, "kurtosis": 6.0}
    least = minimum_track_record(0.1, **moments)
    assert probabilistic_sharpe(0.1, days=math.ceil(least), **moments) >= 0.95
    assert probabilistic_sharpe(0.1, days=math.floor(least), **moments) < 0.95
    assert minimum_track_record(0.0, **moments) == math.inf


# Bailey & Lopez de Prado 2014: the best of 100 trials has an annual ratio of 2.5 over 1,250 days of skewness -3 and
# kurtosis 10; the trials' annual ratios have the variance 1/2. By luck 0.1132 a day would be expected, and the deflated
# ratio is 0.9004; had only 46 been tried, 0.9505.
def test_the_published_deflated_ratio() -> None:
    searched = {"variance": 0.5 / 250}
    best = {"days": 1250, "skew": -3.0, "kurtosis": 10.0}
    assert expected_best_sharpe(trials=100, **searched) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(2.5 / math.sqrt(250), trials=100, **best, **searched) == pytest.approx(0.9004, abs=5e-5)
    assert deflated_sharpe(2.5 / math.sqrt(250), trials=46, **best, **searched) == pytest.approx(0.9505, abs=5e-5)


def test_vectorbt_deflates_alike() -> None:
    pytest.importorskip("vectorbt")
    from vectorbt.returns.metrics import deflated_sharpe_ratio

    theirs = deflated_sharpe_ratio(
        **{"est_sharpe": np.array([0.08]), "var_sharpe": 0.003, "nb_trials": 37, "backtest_horizon": 400},
        **{"skew": np.array([-0.4]), "kurtosis": np.array([5.5])},
    )
    ours = deflated_sharpe(0.08, days=400, skew=-0.4, kurtosis=5.5, trials=37, variance=0.003)
    assert ours == pytest.approx(theirs[0], rel=1e-12)


def test_the_best_of_many_worthless_trials_shows_what_is_expected() -> None:
    drawn = np.random.default_rng(5).normal(0, 0.06, (20_000, 50)).max(axis=1).mean()
    assert expected_best_sharpe(trials=50, variance=0.06**2) == pytest.approx(
        drawn, rel=0.015
    )  # the formula is an approximation
    assert expected_best_sharpe(trials=1, variance=1.0) == 0.0


def test_an_answer_says_each_figure_with_what_it_rests_on() -> None:
    daily = make_days(0.1)
    trials = make_trials([0.02, -0.04, 0.1])
    answer = answer_search(daily, trials, days_per_year=YEAR)
    figures = {figure.key: figure for figure in answer.figures}
    assert figures["trials"].value == 3
    assert figures["trials"].said == "Settings tried on validation: 3. Runs judged on the test: 0."
    # The ratio over its own standard error, as metrics has them.
    z = metrics.sharpe_ratio(daily, days_per_year=YEAR) / metrics.sharpe_error(daily, days_per_year=YEAR)
    assert figures["probabilistic_sharpe"].value == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2)))
    variance = np.var([0.02, -0.04, 0.1], ddof=1)
    best = expected_best_sharpe(trials=3, variance=variance) * math.sqrt(YEAR)
    assert figures["expected_best"].value == pytest.approx(best)
    assert figures["deflated_sharpe"].value < figures["probabilistic_sharpe"].value
    assert figures["deflated_sharpe"].p == pytest.approx(1 - figures["deflated_sharpe"].value)
    own = {"skew": float(scipy_stats.skew(daily)), "kurtosis": float(scipy_stats.kurtosis(daily, fisher=False))}
    assert figures["minimum_track_record"].value == math.ceil(minimum_track_record(0.1, **own))
    assert {figure.n for figure in figures.values()} == {3, 250}
    assert all(figure.source for key, figure in figures.items() if key != "trials")
    (curve,) = answer.curves
    assert curve.marks == ((3.0, "counted"),)
    assert curve.y[curve.x.index(3.0)] == figures["deflated_sharpe"].value
    assert curve.y[0] == pytest.approx(figures["probabilistic_sharpe"].value)
    assert list(curve.y) == sorted(curve.y, reverse=True)


def test_a_count_between_the_points_of_the_curve_is_on_it() -> None:
    (curve,) = answer_search(make_days(0.1), make_trials([0.01] * 5 + [0.09] * 8), days_per_year=YEAR).curves
    assert 13.0 in curve.x
    assert list(curve.x) == sorted(set(curve.x))


def test_more_trials_leave_less() -> None:
    few, many = (
        answer_search(make_days(0.15), make_trials([0.1, -0.1] * pairs), days_per_year=YEAR) for pairs in (2, 50)
    )
    assert many.find("deflated_sharpe").value < few.find("deflated_sharpe").value
    assert many.find("probabilistic_sharpe").value == few.find("probabilistic_sharpe").value


def test_one_trial_has_nothing_to_deflate() -> None:
    for trials in (make_trials([0.1], kind="run"), make_trials([])):
        answer = answer_search(make_days(0.1), trials, days_per_year=YEAR)
        assert answer.find("trials").value == 1
        assert answer.find("expected_best").value == 0
        assert answer.find("deflated_sharpe").value == answer.find("probabilistic_sharpe").value
        assert "nothing is to be taken off" in answer.said


def test_an_account_that_did_not_move_is_a_trial_of_ratio_0() -> None:
    still = answer_search(make_days(0.1), make_trials([0.1, np.nan]), days_per_year=YEAR)
    zero = answer_search(make_days(0.1), make_trials([0.1, 0.0]), days_per_year=YEAR)
    assert still.figures == zero.figures
    assert any("did not move" in note for note in still.notes)


def test_a_ratio_over_few_days_is_no_wider_search() -> None:
    # Both pairs lie 2 of their own errors apart.
    long = answer_search(make_days(0.1), make_trials([0.1, -0.1], days=100), days_per_year=YEAR)
    short = answer_search(make_days(0.1), make_trials([0.2, -0.2], days=25), days_per_year=YEAR)
    assert short.find("expected_best").value == pytest.approx(long.find("expected_best").value)


def test_trials_without_ratios_are_as_far_apart_as_chance_puts_them() -> None:
    answer = answer_search(make_days(0.1), make_trials([np.nan] * 4, days=0), days_per_year=YEAR)
    expected = expected_best_sharpe(trials=4, variance=1 / 249) * math.sqrt(YEAR)
    assert answer.find("expected_best").value == pytest.approx(expected)
    assert any("Fewer than two ratios" in note for note in answer.notes)


@pytest.mark.parametrize(
    ("daily", "needs"),
    [
        (make_days(0.1, days=59), "60 days; there are 59"),
        (np.zeros(250), "20 days on which the account moved; there are 0"),
        (np.full(250, 0.001), "20 days on which the account moved; there are 0"),
        (np.r_[make_days(0.1, days=19), np.zeros(231)], "20 days on which the account moved; there are 19"),
    ],
)
def test_too_little_to_judge_says_what_it_needs(daily: np.ndarray, needs: str) -> None:
    answer = answer_search(daily, make_trials([0.1, 0.2]), days_per_year=YEAR)
    assert answer.find("trials").value == 2
    assert {figure.needs for figure in answer.figures if figure.key != "trials"} == {needs}
    assert needs in answer.said


def test_a_loss_has_no_track_record_to_reach() -> None:
    answer = answer_search(make_days(-0.1), make_trials([-0.1, 0.0]), days_per_year=YEAR)
    assert answer.find("minimum_track_record").needs == "a Sharpe ratio above 0; it is -1.59"
    assert answer.find("deflated_sharpe").value < 0.05


def test_moments_of_no_distribution_have_no_probability() -> None:
    assert math.isnan(probabilistic_sharpe(1.0, days=100, skew=3.0, kurtosis=1.0))
    assert math.isnan(probabilistic_sharpe(0.1, days=1, **NORMAL))


def test_bad_input_is_refused() -> None:
    with pytest.raises(TableError, match="0 trials of variance 1"):
        expected_best_sharpe(trials=0, variance=1.0)
    with pytest.raises(TableError, match="search: 1 trial of variance nan"):
        expected_best_sharpe(trials=1, variance=math.nan)
    with pytest.raises(TableError, match="expected 1 or more, and 0 or more"):
        expected_best_sharpe(trials=3, variance=math.nan)
    with pytest.raises(TableError, match="not finite"):
        answer_search(np.r_[make_days(0.1), np.inf], make_trials([0.1]), days_per_year=YEAR)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 20])
@pytest.mark.parametrize("alike", [0.0, 0.95])
def test_the_best_of_a_search_of_nothing_rarely_passes(count: int, alike: float) -> None:
    """The best of worthless accounts, correlated or not, passes 95 % deflated in at most 7 % of searches."""
    rng = np.random.default_rng(11)
    searches = 400
    plain = deflated = 0
    for _ in range(searches):
        accounts = math.sqrt(alike) * rng.normal(size=(1, 250)) + math.sqrt(1 - alike) * rng.normal(size=(count, 250))
        ratios = accounts.mean(axis=1) / accounts.std(axis=1, ddof=1)
        answer = answer_search(accounts[ratios.argmax()], make_trials(list(ratios)), days_per_year=YEAR)
        plain += answer.find("probabilistic_sharpe").value > 0.95
        deflated += answer.find("deflated_sharpe").value > 0.95
    assert deflated <= 0.07 * searches
    if (count, alike) == (20, 0.0):
        assert plain > 0.5 * searches  # 1 - 0.95**20 is 64 %
