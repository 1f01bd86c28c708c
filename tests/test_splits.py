"""Time splits, by hand: which bars choose, which report, and what lies unused between them."""

import itertools
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finsignal.clock import bar_of, make_bars
from finsignal.errors import ConfigError
from finsignal.splits import KINDS, Split, SplitRules, make_split, make_splits, make_walk_forward

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


def test_an_embargo_lies_on_top_of_the_purge(bars: pd.DataFrame) -> None:
    split = make_split(bars, validation_until=at(4), holding=1, max_age=2, embargo=2)
    assert (split.purge, split.embargo, split.gap) == (3, 2, 5)
    assert split.test(bars)["open_time"].tolist() == [at(9)]
    with pytest.raises(ConfigError, match=r"4 for validation and 3 purged .* and 3 of embargo leave none to test"):
        make_split(bars, validation_until=at(4), holding=1, max_age=2, embargo=3)


# --- windows that walk forward ---------------------------------------------------------------------------------------


def day(date: str) -> pd.Timestamp:
    return pd.Timestamp(date, tz="UTC")


def daily(market: str, start: str, end: str) -> pd.DataFrame:
    return make_bars(market, "1d", start=start, end=end, latency=pd.Timedelta(minutes=5))


WALK = {"train": "10d", "validation": "5d", "test": "5d", "holding": 2, "max_age": 1, "embargo": 1}


def spans(splits: tuple[Split, ...]) -> list[tuple[pd.Timestamp | None, ...]]:
    return [
        (s.train_start, s.train_end, s.validation_start, s.validation_end, s.test_start, s.test_end) for s in splits
    ]


def test_two_rolling_windows_by_hand() -> None:
    bars = daily("24x7", "2024-01-01", "2024-02-03")  # 33 days
    # Train 1 to 10 January; 11 to 14 left out (2 + 1 purged, 1 of embargo); validation 15 to 19; 20 to 23 left out;
    # test 24 to 28 January. All five days later: test 29 January to 2 February, which is the last day.
    splits = make_walk_forward(bars, kind="rolling", **WALK)
    assert spans(splits) == [
        tuple(map(day, ("2024-01-01", "2024-01-11", "2024-01-15", "2024-01-20", "2024-01-24", "2024-01-29"))),
        tuple(map(day, ("2024-01-06", "2024-01-16", "2024-01-20", "2024-01-25", "2024-01-29", "2024-02-03"))),
    ]
    assert [(s.purge, s.embargo) for s in splits] == [(3, 1), (3, 1)]
    assert [len(part(bars)) for s in splits for part in (s.train, s.validation, s.test)] == [10, 5, 5, 10, 5, 5]


def test_an_expanding_train_keeps_its_beginning() -> None:
    bars = daily("24x7", "2024-01-01", "2024-02-03")
    rolling, expanding = (make_walk_forward(bars, kind=kind, **WALK) for kind in ("rolling", "expanding"))
    assert spans(expanding)[0] == spans(rolling)[0]
    assert expanding[1].train_start == day("2024-01-01")
    assert spans(expanding)[1][1:] == spans(rolling)[1][1:]


def test_without_validation_the_train_ends_before_the_gap() -> None:
    bars = daily("24x7", "2024-01-01", "2024-01-21")
    # Train 1 to 10 January, 11 to 14 left out, test 15 to 19 January; the 20th is too short for a test of its own.
    (split,) = make_walk_forward(bars, kind="rolling", **{**WALK, "validation": ""})
    chosen_on = (day("2024-01-01"), day("2024-01-11"), None, None)
    assert spans((split,)) == [(*chosen_on, day("2024-01-15"), day("2024-01-21"))]
    assert len(split.validation(bars)) == 0


@pytest.mark.parametrize(
    ("end", "last"),
    [
        ("2024-01-31", ["2024-01-24"]),  # 2 days after the first test: less than half of 5, joined to it
        ("2024-02-01", ["2024-01-24", "2024-01-29"]),  # 3 days: more than half
        ("2024-01-26", ["2024-01-24"]),  # nothing to join to: a short test is better than none
    ],
)
def test_a_last_window_of_less_than_half_is_joined_to_the_one_before(end: str, last: list[str]) -> None:
    bars = daily("24x7", "2024-01-01", end)
    splits = make_walk_forward(bars, kind="rolling", **WALK)
    assert [s.test_start for s in splits] == list(map(day, last))
    assert splits[-1].test_end == day(end)


def test_calendar_windows_are_months_of_sessions() -> None:
    bars = daily("XNYS", "2024-01-01", "2024-05-12")
    rules = {"train": "month", "validation": "", "test": "month", "holding": 2, "max_age": 1, "embargo": 0}
    splits = make_walk_forward(bars, kind="calendar", **rules)
    # February cannot be tested: 29 to 31 January are purged, and a month up to Friday the 26th begins on 27 December,
    # before the run. Of March, 27 to 29 February are purged; the month up to the 26th begins on 27 January, a Saturday.
    # Of April, 26 to 28 March are purged (the 29th is Good Friday). 1 to 10 May, less than half a month, joins it.
    sessions = [(s.train(bars)["session"], s.test(bars)["session"]) for s in splits]
    assert [(a.iloc[0], a.iloc[-1], b.iloc[0], b.iloc[-1]) for a, b in sessions] == [
        ("2024-01-29", "2024-02-26", "2024-03-01", "2024-03-28"),
        ("2024-02-26", "2024-03-25", "2024-04-01", "2024-05-10"),
    ]


def test_calendar_windows_may_train_from_the_beginning() -> None:
    bars = daily("XNYS", "2024-01-01", "2024-05-12")
    rules = {"train": "expanding", "validation": "", "test": "month", "holding": 2, "max_age": 1, "embargo": 0}
    splits = make_walk_forward(bars, kind="calendar", **rules)
    assert [s.train(bars)["session"].iloc[0] for s in splits] == ["2024-01-02", "2024-01-02"]
    assert splits[0].test(bars)["session"].iloc[0] == "2024-03-01"  # a month to train on comes first


def test_no_clock_change_moves_a_window() -> None:
    # New York's clocks go forward on 10 March 2024: sessions open at 14:30 before it and at 13:30 after it.
    bars = make_bars("XNYS", "1h", start="2024-01-01", end="2024-04-20", latency=pd.Timedelta(minutes=1))
    rules = {"train": "28d", "validation": "14d", "test": "14d", "holding": 5, "max_age": 2, "embargo": 0}
    splits = make_walk_forward(bars, kind="rolling", **rules)
    assert {(s.test_start.hour, s.test_start.minute) for s in splits} == {(14, 30), (13, 30)}
    for split in splits:
        session = bars.loc[bars["open_time"] == split.test_start, "session"].iloc[0]
        assert split.test_start == bars.loc[bars["session"] == session, "open_time"].min()


@st.composite
def walks(draw: st.DrawFn) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A grid that may lie over clock changes and holidays, and the rules of a walk on it."""
    market, bar = draw(st.sampled_from([("XNYS", "1d"), ("XNYS", "1h"), ("24x7", "1d"), ("24x7", "4h")]))
    start = pd.Timestamp("2023-10-01", tz="UTC") + pd.Timedelta(hours=draw(st.integers(0, 3000)))
    end = start + pd.Timedelta(hours=draw(st.integers(24 * 40, 24 * 300)))
    latency = pd.Timedelta(minutes=draw(st.sampled_from([0, 5, 60])))
    kind = draw(st.sampled_from(KINDS))
    lengths = st.sampled_from(["6d", "2 weeks", "month", "45d"])
    return make_bars(market, bar, start=start, end=end, latency=latency), {
        "kind": kind,
        "train": draw(st.one_of(lengths, st.just("expanding")) if kind == "calendar" else lengths),
        "validation": draw(st.one_of(lengths, st.just(""))),
        "test": draw(st.sampled_from(["month", "quarter"]) if kind == "calendar" else lengths),
        "holding": draw(st.integers(1, 8)),
        "max_age": draw(st.integers(0, 6)),
        "embargo": draw(st.integers(0, 5)),
    }


@pytest.mark.slow
@given(walks())
def test_every_walk_keeps_its_distances_and_tests_each_bar_once(walk: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    bars, rules = walk
    try:
        splits = make_walk_forward(bars, **rules)
    except ConfigError as err:
        if "to test" not in str(err):
            raise
        return  # too short for its windows
    position = dict(zip(bars["open_time"], range(len(bars)), strict=True))
    gap = rules["holding"] + rules["max_age"] + rules["embargo"]
    tested: list[int] = []
    for split in splits:
        train, validation, test = (
            [position[t] for t in part(bars)["open_time"]] for part in (split.train, split.validation, split.test)
        )
        assert len(train) > 0
        assert len(test) > 0
        assert (len(validation) > 0) is (rules["validation"] != "")
        assert test[0] - (validation or train)[-1] - 1 == gap
        if validation:
            assert validation[0] - train[-1] - 1 == gap
        for part in (train, validation, test):
            assert part == list(range(part[0], part[-1] + 1)) if part else True
        # What is chosen on has closed before the first test is decided.
        assert bars["close_time"].iloc[(validation or train)[-1]] <= bars["time"].iloc[test[0]]
        assert bars["session"].iloc[test[0]] != bars["session"].iloc[test[0] - 1]
        tested += test
    assert tested == list(range(tested[0], len(bars)))  # adjoining, disjoint, up to the end
    for one, other in itertools.pairwise(splits):
        assert one.test_end == other.test_start
        growing = "expanding" in (rules["kind"], rules["train"])
        assert (one.train_start == other.train_start == bars["open_time"].iloc[0]) or not growing
        assert one.train_end < other.train_end


# --- what cannot be meant --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "roling"}, r"kind 'roling' is not one of .*Did you mean 'rolling'\?"),
        (
            {"train": "20d"},
            r"train 20d, validation 5d and 4 bars left out before each \(holding 2 \+ max_age 1 \+ embargo 1\) leave "
            "none of 33 bars, 2024-01-01 to 2024-02-02, to test",
        ),
        ({"validation": "20d"}, "leave none of 33 bars"),
        ({"holding": 40}, "leave none of 33 bars"),
        ({"kind": "calendar", "test": "month", "train": "28d"}, "to test from the first of a month on"),
        ({"kind": "calendar"}, r"test '5d' is not one of \['month', 'quarter', 'year'\]"),
        ({"train": "0d"}, "'0d' is not a length of a day or more"),
        ({"test": "5h"}, "'5h' is not a length of a day or more"),
        ({"test": ""}, "expected lengths for train and test"),
    ],
)
def test_windows_that_leave_nothing_are_refused_with_the_numbers(changes: dict[str, Any], message: str) -> None:
    bars = daily("24x7", "2024-01-01", "2024-02-03")
    with pytest.raises(ConfigError, match=message):
        make_walk_forward(bars, **{"kind": "rolling", **WALK, **changes})


def test_a_test_without_a_session_is_refused() -> None:
    bars = daily("XNYS", "2024-01-01", "2024-03-01")
    with pytest.raises(ConfigError, match="a test from 2024-01-27 to before 2024-01-28 holds none of 41 bars"):
        make_walk_forward(bars, kind="rolling", **{**WALK, "validation": "", "test": "1d", "train": "16d"})


def test_a_choice_that_would_know_less_than_its_bars_is_refused() -> None:
    bars = make_bars("24x7", "1h", start="2024-01-01", end="2024-01-20", latency=pd.Timedelta(hours=3))
    rules = {**WALK, "holding": 1, "max_age": 0, "validation": ""}
    with pytest.raises(ConfigError, match="before the last bar that it chooses on has closed"):
        make_walk_forward(bars, kind="rolling", **{**rules, "embargo": 1})
    assert make_walk_forward(bars, kind="rolling", **{**rules, "embargo": 2})


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({}, "expected either validation_until or kind, got neither"),
        ({"validation_until": "2024-01-05", "kind": "rolling"}, "got both"),
        ({"validation_until": "2024-01-05", "test": "5d"}, "test belongs to windows"),
        ({"kind": "expandng", "train": "5d", "test": "5d"}, r"Did you mean 'expanding'\?"),
        ({"kind": "rolling", "test": "5d"}, "needs train"),
        ({"kind": "rolling", "train": "5d"}, "needs test"),
        ({"kind": "rolling", "train": "expanding", "test": "5d"}, "split: train: 'expanding' is not a length"),
        ({"kind": "rolling", "train": "5d", "test": "5d", "validation": "some"}, "split: validation: 'some' is not"),
        ({"kind": "calendar", "train": "5d", "test": "quater"}, "split: test: 'quater' is not a length"),
        ({"kind": "calendar", "train": "5d", "test": "2 months"}, "test '2 months' is not one of"),
        ({"validation_until": "2024-01-05", "embargo": -1}, "embargo counts bars"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(stated: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SplitRules(**stated)


def test_rules_make_the_split_that_they_state() -> None:
    bars = daily("24x7", "2024-01-01", "2024-02-03")
    counts = {"holding": 2, "max_age": 1}
    one = make_splits(SplitRules(validation_until="2024-01-15", embargo=1), bars, **counts)
    assert one == (make_split(bars, validation_until=day("2024-01-15"), embargo=1, **counts),)
    rules = SplitRules(kind="rolling", train="10d", validation="5d", test="5d", embargo=1)
    assert make_splits(rules, bars, **counts) == make_walk_forward(bars, kind="rolling", **WALK)
