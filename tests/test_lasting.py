"""What the account made in each part of the test, and that a day's state is known before the day."""

import numpy as np
import pandas as pd
import pytest

from finsignal.errors import TableError
from finsignal.evidence.answers import to_plain
from finsignal.evidence.lasting import answer_lasts, to_states
from finsignal.metrics import sharpe_error, sharpe_ratio


def to_series(returns: np.ndarray, start: str = "2023-01-02") -> pd.Series:
    days = pd.bdate_range(start, periods=len(returns)).strftime("%Y-%m-%d")
    return pd.Series(returns, index=days)


def ask(daily, benchmark, *, trained_until="2023-09-01", base_cutoff=None):
    cutoffs = (None if day is None else pd.Timestamp(day, tz="UTC") for day in (trained_until, base_cutoff))
    trained, base = cutoffs
    return answer_lasts(daily, benchmark, trained_until=trained, base_cutoff=base, days_per_year=252)


def make_days(size=500, seed=1):
    rng = np.random.default_rng(seed)
    market = rng.normal(0.0005, 0.01, size)
    return to_series(0.5 * market + rng.normal(0.0005, 0.005, size)), to_series(market)


# --- states ---------------------------------------------------------------------------------------------------------


def test_a_rising_market_is_bull_a_falling_one_bear_and_one_that_turns_sideways():
    wave = 0.01 * np.tile([1.0, -1.0], 40)
    returns = np.concatenate([0.004 + wave, -0.004 + wave, wave])
    trend = to_states(to_series(returns))["trend"].to_numpy()
    assert set(trend[:60]) == {""}
    assert set(trend[60:81]) == {"bull"}
    assert set(trend[145:161]) == {"bear"}
    assert set(trend[-15:]) == {"sideways"}


def test_a_market_that_moves_more_than_it_used_to_is_stormy():
    returns = np.tile([0.01, -0.01], 100)
    returns[120:160] *= 3
    storm = to_states(to_series(returns))["storm"].to_numpy()
    assert set(storm[:40]) == {""}
    assert storm[40] != ""
    assert set(storm[125:160]) == {"stormy"}
    assert storm[120] != "stormy" or storm[119] == "stormy"  # nothing of the day itself
    assert set(storm[185:]) == {"calm"}


def test_the_state_of_a_day_is_told_by_the_days_before_it_alone():
    _, market = make_days()
    whole = to_states(market)
    for day in (60, 61, 120, 300, 499):
        changed = market.copy()
        changed.iloc[day:] = np.random.default_rng(day).normal(0, 0.2, 500 - day)
        pd.testing.assert_frame_equal(to_states(changed).iloc[: day + 1], whole.iloc[: day + 1])
    assert set(whole["trend"]) == {"", "bull", "bear", "sideways"}


def test_a_market_that_stood_still_goes_sideways():
    states = to_states(to_series(np.zeros(100)))
    assert set(states["trend"][60:]) == {"sideways"}
    assert set(states["storm"][41:]) == {"calm"}


def test_a_market_that_lost_all_has_a_state():
    returns = np.r_[np.full(80, 0.001), -1.0, np.zeros(10)]
    assert to_states(to_series(returns))["trend"].iloc[-1] == "bear"


# --- parts ----------------------------------------------------------------------------------------------------------


def test_each_part_has_the_sharpe_ratio_of_its_days():
    daily, market = make_days()
    answer = ask(daily, market, base_cutoff="2023-03-01")
    states = to_states(market)
    chosen = {
        "bull": (states["trend"] == "bull").to_numpy(),
        "bear": (states["trend"] == "bear").to_numpy(),
        "stormy": (states["storm"] == "stormy").to_numpy(),
        "year_2024": daily.index.str.startswith("2024"),
        "before_model": daily.index <= "2023-09-01",
        "after_model": daily.index > "2023-09-01",
        "before_base": daily.index <= "2023-03-01",
        "after_base": daily.index > "2023-03-01",
    }
    for key, days in chosen.items():
        figure, part = answer.find(key), daily[days]
        assert figure.n == days.sum() >= 30
        assert figure.value == pytest.approx(sharpe_ratio(part, days_per_year=252))
        reach = figure.high - figure.value
        assert reach == pytest.approx(figure.value - figure.low)
        assert reach / sharpe_error(part, days_per_year=252) == pytest.approx(1.96, rel=0.06)
        assert (figure.p < 0.05) == (figure.low > 0 or figure.high < 0)
    rows = {row[0]: row for row in answer.tables[0].rows}
    assert rows["2024"][2] == pytest.approx(daily[chosen["year_2024"]].mean() * 252)
    assert rows["2024"][3] == pytest.approx(market[chosen["year_2024"]].mean() * 252)
    assert answer.curves[0].labels[0] == "Bull market"
    assert len(answer.curves[0].y) == len([figure for figure in answer.figures if figure.value is not None])


def test_the_days_before_the_test_judge_its_first_days():
    daily, market = make_days()
    tested = daily.iloc[100:]
    judged = [
        sum(ask(tested, past).find(key).n for key in ("bull", "bear", "sideways")) for past in (market, market[100:])
    ]
    assert judged == [400, 340]
    assert not any("too few days" in note for note in ask(tested, market).notes)
    assert "60 tested days have too few days" in " ".join(ask(tested, market.iloc[100:]).notes)


def test_an_account_that_earns_in_bull_markets_alone_is_told_so():
    _, market = make_days(seed=2)
    bull = (to_states(market)["trend"] == "bull").to_numpy()
    noise = np.random.default_rng(3).normal(0, 0.004, 500)
    answer = ask(to_series(np.where(bull, 0.002, -0.002) + noise), market)
    assert answer.find("bull").low > 0 > answer.find("bear").high
    assert "After the model's training data end it is" in answer.said


# --- bad input ------------------------------------------------------------------------------------------------------


def test_parts_without_enough_days_say_what_they_need():
    daily, market = make_days()
    answer = ask(daily.iloc[:25], market)
    assert answer.find("year_2023").needs == "30 days; there are 25"
    assert answer.find("after_model").needs == "30 days; there are 0"
    assert "cannot be told" in answer.said
    assert answer.curves == ()
    assert to_plain(answer)["tables"][0]["rows"][-1][2] is None


def test_an_account_that_hardly_moved_is_not_judged():
    daily, market = make_days()
    still = daily.where(np.arange(500) % 60 == 0, 0.0)
    assert ask(still, market).find("year_2023").needs == "20 days on which the account moved; there are 5"
    assert ask(daily * 0 + 0.001, market).find("year_2023").needs == "returns that differ from day to day"
    assert ask(daily * 0, market).find("year_2023").needs.startswith("20 days on which the account moved")


def test_without_cutoffs_their_parts_are_left_out_and_it_is_said():
    answer = ask(*make_days(), trained_until=None)
    assert answer.find("after_model") is None
    assert sum("cannot be told apart" in note for note in answer.notes) == 2


def test_days_of_another_market_are_refused():
    daily, market = make_days()
    with pytest.raises(TableError, match="10 of 500 days are not among the benchmark's, the first 2024-11-18"):
        ask(daily, market.iloc[:-10])
    with pytest.raises(TableError, match="not in order"):
        ask(daily, market.iloc[::-1])
    with pytest.raises(TableError, match="twice"):
        ask(daily, pd.concat([market, market]).sort_index())
    with pytest.raises(TableError, match="not finite"):
        ask(daily.mask(daily.index == "2023-05-05"), market)


def test_an_account_without_a_day_has_no_part():
    daily, market = make_days()
    answer = ask(daily.iloc[:0], market)
    assert all(figure.value is None and figure.n == 0 for figure in answer.figures)


def test_intervals_of_short_parts_cover():
    rng = np.random.default_rng(5)
    covered, markets = 0, 150
    _, market = make_days(60)
    for _ in range(markets):
        days = rng.standard_t(5, 40) * 0.01
        figure = ask(to_series(np.where(rng.random(40) < 0.4, 0.0, days)), market).find("year_2023")
        covered += figure.value is None or figure.low <= 0 <= figure.high
    assert 0.91 <= covered / markets <= 0.99
