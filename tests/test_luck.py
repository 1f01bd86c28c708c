"""Intervals around what an account made: they cover what is true as often as they say, and say when they cannot."""

import math
import time

import numpy as np
import pytest

from finsignal import metrics
from finsignal.errors import TableError
from finsignal.evidence import luck
from finsignal.evidence.answers import Figure
from finsignal.evidence.luck import bootstrap_difference, bootstrap_figures

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


def bootstrap(daily: np.ndarray, **rest: int) -> dict[str, Figure]:
    return {figure.key: figure for figure in bootstrap_figures(daily, days_per_year=YEAR, **rest)}


def test_the_figures_are_those_of_the_account() -> None:
    daily = make_days(mean=0.001)
    figures = bootstrap(daily, draws=200)
    assert list(figures) == ["net_return", "mean_return", "sharpe", "max_drawdown"]
    assert figures["net_return"].value == pytest.approx(np.prod(1 + daily) - 1)
    assert figures["mean_return"].value == pytest.approx(daily.mean() * YEAR)
    assert figures["sharpe"].value == metrics.sharpe_ratio(daily, days_per_year=YEAR)
    assert figures["max_drawdown"].value == metrics.max_drawdown(daily)
    for figure in figures.values():
        assert (figure.n, figure.of, figure.draws) == (250, "days", 200)
        assert figure.low < figure.value < figure.high
        assert "10.1080/01621459.1994.10476870" in figure.source
    assert figures["max_drawdown"].p is None


def test_the_mean_is_the_difference_from_an_account_that_does_nothing() -> None:
    daily = make_days(mean=0.001)
    mean = bootstrap(daily)["mean_return"]
    assert (mean.value, mean.low, mean.high) == bootstrap_difference(daily, np.zeros(250), days_per_year=YEAR)


def test_the_net_return_compounds_the_ends_of_the_mean_logarithm() -> None:
    daily = make_days(mean=0.002) * 5
    _, low, high = bootstrap_difference(np.log1p(daily), np.zeros(250), days_per_year=250)
    figure = bootstrap(daily)["net_return"]
    # The blocks are as long as those of the returns, which differ a little from those of their logarithms.
    assert figure.low == pytest.approx(math.expm1(low), rel=0.02)
    assert figure.high == pytest.approx(math.expm1(high), rel=0.02)


def test_the_drawn_error_is_the_one_that_the_paper_states() -> None:
    """Politis & Romano 1994, eq. 9, by a plain loop over lags, against the error and against the draws themselves."""
    daily, block = make_days(70).cumsum(), 7.0
    centred = daily - daily.mean()
    around = [np.mean(centred * np.roll(centred, -lag)) for lag in range(70)]
    variance = around[0] + 2 * sum((1 - lag / 70) * (1 - 1 / block) ** lag * around[lag] for lag in range(1, 70))
    assert luck._errors(daily[None], block)[0] == pytest.approx(math.sqrt(variance / 69), rel=1e-9)
    positions, found = luck._draw(daily, draws=4000, seed=1)
    expected = luck._errors(daily[None], found)[0] * math.sqrt(69 / 70)
    assert daily[positions].mean(axis=1).std() == pytest.approx(expected, rel=0.05)


def test_the_interval_holds_0_where_its_p_value_is_above_5_percent() -> None:
    found = set()
    for seed in range(40):
        for figure in bootstrap(make_days(mean=0.0012, seed=seed), draws=200).values():
            if figure.p is not None and abs(figure.p - 0.05) > 0.02:  # the draws give p in steps of 1 %
                assert (figure.low <= 0 <= figure.high) == (figure.p > 0.05), (seed, figure)
                found.add(figure.p > 0.05)
    assert found == {True, False}


def test_a_ruined_account_has_lost_all_and_no_interval_for_it() -> None:
    figures = bootstrap(np.r_[make_days(150), -1.0, np.zeros(99)])
    assert (figures["net_return"].value, figures["net_return"].low, figures["net_return"].high) == (-1.0, None, None)
    assert "ruined" in figures["net_return"].said
    assert figures["max_drawdown"].value == -1.0
    assert figures["max_drawdown"].low == -1.0
    assert figures["sharpe"].low < 0


@pytest.mark.parametrize(
    ("daily", "needs"),
    [
        (make_days(59), "60 days; there are 59"),
        (np.zeros(250), "20 days on which the account moved; there are 0"),
        (np.full(250, 0.0003), "20 days on which the account moved; there are 0"),
        (np.r_[make_days(19), np.zeros(231)], "20 days on which the account moved; there are 19"),
    ],
    ids=["few days", "no trades", "constant returns", "few that moved"],
)
def test_too_little_has_no_figure_but_what_it_needs(daily: np.ndarray, needs: str) -> None:
    for figure in bootstrap(daily).values():
        assert figure.value is None
        assert figure.needs == needs


def test_a_return_that_is_not_known_is_refused() -> None:
    with pytest.raises(TableError, match="1 daily returns are not finite"):
        bootstrap(np.r_[make_days(249), np.nan])


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(TableError, match="39 draws have no end"):
        bootstrap(make_days(), draws=39)


def test_an_interval_takes_no_longer_than_it_may_in_a_thousand_markets() -> None:
    bootstrap(make_days())
    start = time.process_time()
    bootstrap(make_days())
    assert time.process_time() - start < 0.3  # measured: 0.03


# --- as often as they say ------------------------------------------------------------------------------------------


def make_accounts(kind: str, *, days: int, count: int, ratio: float) -> np.ndarray:
    """Accounts, (count, days), whose true daily Sharpe ratio is `ratio`."""
    rng = np.random.default_rng(20261121)
    if kind == "normal":
        noise = rng.normal(size=(count, days))
    elif kind == "heavy tails":
        noise = rng.standard_t(4, size=(count, days)) / math.sqrt(2)
    elif kind == "in runs":
        noise = rng.normal(size=(count, days + 50))
        for day in range(1, days + 50):
            noise[:, day] += 0.1 * noise[:, day - 1]
        noise = noise[:, 50:] * math.sqrt(1 - 0.01)
    else:  # mostly flat: 40 % of the days with a position, in stretches of 3 on average
        held = np.empty((count, days), dtype=bool)
        now = rng.random(count) < 0.4
        for day in range(days):
            drawn = rng.random(count)
            now = np.where(now, drawn > 1 / 3, drawn < 2 / 9)
            held[:, day] = now
        drift = ratio * math.sqrt(0.4 / (0.16 - 0.24 * ratio**2))  # from mean 0.4 d, variance 0.4 + 0.24 d**2
        noise = np.where(held, rng.normal(size=(count, days)) + drift, 0.0)
        return noise * 0.01
    return (noise + ratio) * 0.01


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "in runs", "mostly flat"])
def test_the_intervals_cover_what_is_true(kind: str, ratio: float) -> None:
    count, days = 400, 150
    accounts = make_accounts(kind, days=days, count=count, ratio=ratio)
    # The true mean of each kind, from its definition; that of the logarithm from many more days of it.
    many = make_accounts(kind, days=250, count=2000, ratio=ratio)
    mean = ratio * 0.01 if kind != "mostly flat" else 0.4 * 0.01 * ratio * math.sqrt(0.4 / (0.16 - 0.24 * ratio**2))
    logs = (np.log1p(many) - many).mean() + mean
    truth = {
        "net_return": math.expm1(logs * days),
        "mean_return": mean * YEAR,
        "sharpe": ratio * math.sqrt(YEAR),
    }
    covered = dict.fromkeys([*truth, "max_drawdown"], 0)
    for number, daily in enumerate(accounts):
        figures = bootstrap(daily, draws=200, seed=number)
        # The next account is another stretch of such days.
        truth["max_drawdown"] = metrics.max_drawdown(accounts[(number + 1) % count])
        for key, true in truth.items():
            covered[key] += figures[key].low <= true <= figures[key].high
    # 93 to 97 %, and two standard errors of 400 accounts; of the drawdown 90 to 97 %.
    least = dict.fromkeys(truth, 0.905) | {"max_drawdown": 0.87}
    assert {key: n / count for key, n in covered.items() if not least[key] <= n / count <= 0.99} == {}


def test_without_a_drawn_mean_the_drawdown_would_be_too_sure() -> None:
    """The interval of the fall is wider than that of the days drawn again as they are, which hold the sample's mean."""
    daily = make_days()
    positions, _ = luck._draw(daily, draws=1000, seed=7)
    plain = np.quantile(luck._find_drawdowns(daily[positions]), [0.025, 0.975])
    figure = bootstrap(daily)["max_drawdown"]
    assert figure.low < plain[0]
    assert figure.high > plain[1]
