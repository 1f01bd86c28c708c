"""Time splits, by hand: which bars choose, which report, and what lies unused between them."""

import pandas as pd
import pytest

from finsignal.clock import bar_of, make_bars
from finsignal.errors import ConfigError
from finsignal.splits import make_split

HOUR = pd.Timedelta(hours=1)


def at(hour: int, minute: int = 0) -> pd.Timestamp:
    return pd.Timestamp(2026, 3, 2, hour, minute, tz="UTC")


@pytest.fixture
def bars() -> pd.DataFrame:
    """Ten hourly bars, 00:00 to 10:00, each decided a minute before it opens."""
    return make_bars("24x7", "1h", start=at(0), end=at(10), latency=pd.Timedelta(minutes=1))


def test_four_bars_choose_three_are_purged_three_report(bars: pd.DataFrame) -> None:
    split = make_split(bars, validation_until=at(4), holding=1, max_age=2)
    assert split.validation(bars)["open_time"].tolist() == [at(0), at(1), at(2), at(3)]
    assert split.purge == 3  # the bars of 04:00, 05:00 and 06:00
    assert split.test(bars)["open_time"].tolist() == [at(7), at(8), at(9)]
    assert (split.validation_start, split.validation_end) == (at(0), at(4))
    assert (split.test_start, split.test_end) == (at(7), at(10))  # half-open: the end of the last bar


def test_a_bar_that_opens_before_the_instant_chooses_even_if_it_ends_after(bars: pd.DataFrame) -> None:
    split = make_split(bars, validation_until=at(3, 30), holding=1, max_age=0)
    assert split.validation(bars)["open_time"].iloc[-1] == at(3)
    assert split.test_start == at(5)


def test_neither_a_text_nor_a_position_of_validation_reaches_the_test(bars: pd.DataFrame) -> None:
    holding, max_age = 2, 3
    split = make_split(bars, validation_until=at(4), holding=holding, max_age=max_age)
    opens = bars["open_time"].tolist()
    last, first_test = opens.index(at(3)), opens.index(split.test_start)
    # The newest text of validation is known at the decision of 03:00's bar; a position it opens is left 2 bars later.
    known = bar_of(bars, pd.Series([bars["time"].iloc[last]]))[0]
    assert first_test - known > max_age
    # Even a BUY at the last bar at which that text still counts is left before the first test bar.
    assert known + max_age + holding < first_test


def test_the_smallest_test_is_one_bar(bars: pd.DataFrame) -> None:
    split = make_split(bars, validation_until=at(4), holding=2, max_age=3)
    assert split.test(bars)["open_time"].tolist() == [at(9)]
    with pytest.raises(ConfigError, match=r"4 for validation and 6 purged .* leave none to test"):
        make_split(bars, validation_until=at(4), holding=3, max_age=3)


@pytest.mark.parametrize("until", [at(0), pd.Timestamp("2026-01-01", tz="UTC")])
def test_a_split_before_the_first_bar_is_refused(bars: pd.DataFrame, until: pd.Timestamp) -> None:
    with pytest.raises(ConfigError, match="no bar opens before"):
        make_split(bars, validation_until=until, holding=1, max_age=1)


def test_a_split_after_the_last_bar_is_refused(bars: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="leave none to test"):
        make_split(bars, validation_until=at(23), holding=1, max_age=0)
