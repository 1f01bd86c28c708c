"""Time splits: instants at which bars, news and labels are cut alike."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.clock import DAY, to_instant
from finsignal.errors import ConfigError, did_you_mean

KINDS = ("rolling", "expanding", "calendar")
CALENDAR = {"month": 1, "quarter": 3, "year": 12}  # months of what `calendar` tests on
GROWING = "expanding"  # in place of the length of `train`, where kind is calendar
_LENGTH = re.compile(r"(?:(\d{1,5}) ?)?(d|day|week|month|quarter|year)s?")


@dataclass(frozen=True)
class SplitRules:
    """One cut in time (`validation_until`), or windows that walk forward (`kind`), as `make_walk_forward` lays them."""

    validation_until: str = ""  # a date or instant: bars that open before it choose, later ones report
    kind: str = ""  # one of KINDS
    train: str = ""  # such as '180d', '6 months' or 'year'; with kind = 'calendar' also 'expanding'
    validation: str = ""  # likewise; '' chooses on train alone
    test: str = ""  # likewise; with kind = 'calendar' 'month', 'quarter' or 'year'
    embargo: int = 0  # bars left out before each test beyond the purge of holding + max_age

    def __post_init__(self) -> None:
        lengths = {"train": self.train, "validation": self.validation, "test": self.test}
        if bool(self.validation_until) == bool(self.kind):
            raise ConfigError("split: expected either validation_until or kind, got "
                              f"{'both' if self.kind else 'neither'}; state one of them.")  # fmt: skip
        if self.embargo < 0:
            raise ConfigError(f"split: embargo counts bars, expected 0 or more, got {self.embargo}.")
        if self.validation_until:
            stated = [name for name, length in lengths.items() if length]
            if stated:
                raise ConfigError(f"split: {stated[0]} belongs to windows; state kind, or leave it out.")
            return
        check_kind(self.kind)
        for name in ("train", "test"):
            if not lengths[name]:
                raise ConfigError(f"split: kind {self.kind!r} needs {name}, such as '180d' or 'quarter'.")
        for name, length in lengths.items():
            if length and not (name == "train" and self.kind == "calendar" and length == GROWING):
                to_length(length, where=f"split: {name}")
        if self.kind == "calendar" and self.test not in CALENDAR:
            hint = did_you_mean(self.test, CALENDAR)
            raise ConfigError(f"split: test {self.test!r} is not one of {list(CALENDAR)}, for kind 'calendar'.{hint}")


@dataclass(frozen=True)
class Split:
    """What one choice was made on, and what it is tested on: half-open instants, None for a stretch there is none of.

    Between a stretch and the next, `gap` bars are unused.
    """

    validation_start: pd.Timestamp | None
    validation_end: pd.Timestamp | None
    test_start: pd.Timestamp
    test_end: pd.Timestamp
    purge: int  # holding + max_age, in bars
    embargo: int = 0  # bars beyond it
    train_start: pd.Timestamp | None = None
    train_end: pd.Timestamp | None = None

    @property
    def gap(self) -> int:
        """Bars between the last that was chosen on and the first that is tested, and between train and validation."""
        return self.purge + self.embargo

    def train(self, bars: pd.DataFrame) -> pd.DataFrame:
        """The bars that open in the train period."""
        return _between(bars, self.train_start, self.train_end)

    def validation(self, bars: pd.DataFrame) -> pd.DataFrame:
        """The bars that open in the validation period."""
        return _between(bars, self.validation_start, self.validation_end)

    def test(self, bars: pd.DataFrame) -> pd.DataFrame:
        """The bars that open in the test period."""
        return _between(bars, self.test_start, self.test_end)


def make_splits(rules: SplitRules, bars: pd.DataFrame, *, holding: int, max_age: int) -> tuple[Split, ...]:
    """The windows that `rules` state, in order: one for `validation_until`, as many as fit for a kind."""
    if rules.validation_until:
        until = to_instant(rules.validation_until, where="split: validation_until")
        return (make_split(bars, validation_until=until, holding=holding, max_age=max_age, embargo=rules.embargo),)
    return make_walk_forward(
        bars,
        kind=rules.kind,
        train=rules.train,
        validation=rules.validation,
        test=rules.test,
        holding=holding,
        max_age=max_age,
        embargo=rules.embargo,
    )


def make_split(
    bars: pd.DataFrame, *, validation_until: pd.Timestamp, holding: int, max_age: int, embargo: int = 0
) -> Split:
    """One cut in time: bars that open before `validation_until` choose the settings, later ones report.

    Between the two, `holding + max_age` bars are left out: so long can a position or a text of the validation period
    reach. The first test bar thus shares neither with it. `embargo` bars more are left out on top.

    Raises ConfigError where either side is left without bars.
    """
    purge = holding + max_age
    opens = bars["open_time"]
    before = int((opens < validation_until).sum())
    if before == 0:
        raise ConfigError(f"split: no bar opens before {validation_until}; the run begins {opens.iloc[0]}.")
    if before + purge + embargo >= len(bars):
        kept = f" and {embargo} of embargo" if embargo else ""
        raise ConfigError(
            f"split: {len(bars)} bars less {before} for validation and {purge} purged (holding {holding} + max_age "
            f"{max_age}){kept} leave none to test. Let validation end earlier, or the run later."
        )
    return Split(
        validation_start=opens.iloc[0],
        validation_end=opens.iloc[before],
        test_start=opens.iloc[before + purge + embargo],
        test_end=bars["close_time"].iloc[-1],
        purge=purge,
        embargo=embargo,
    )


def make_walk_forward(
    bars: pd.DataFrame,
    *,
    kind: str,
    train: str,
    validation: str,
    test: str,
    holding: int,
    max_age: int,
    embargo: int,
) -> tuple[Split, ...]:
    """Windows that walk forward: each chooses on train and validation, and is tested on the bars that come after both.

    rolling: every train period is `train` long. expanding: it begins with the grid, the first is at least `train` long.
    calendar: test windows are calendar months, quarters or years of session dates (`test`); train is `train` long, or
    with 'expanding' from the beginning of the grid and at first at least as long as a test.

    The first test window begins at the first session (calendar: the first of a period) before which all that it chooses
    on fits. Each next begins where the one before ends, so they hold every bar from the first test on, each once. A
    last window of less than half its length is joined to the one before.

    Left out are `holding + max_age` bars (the purge: so long can a position or a text reach) and `embargo` more, before
    each test window and again between its train and its validation. Lengths are counted in dates of sessions, so no
    clock change moves a window: '180d', '6 months', 'quarter'. A stretch ends with the bar before those left out, and
    holds the sessions of so many dates up to its last bar's. '' as `validation` is none.

    Raises ConfigError for an unknown kind or length, where nothing is left to train, validate or test on, and where the
    decision latency is so long that a choice would be made from bars that close after the first test decision.
    """
    check_kind(kind)
    growing = kind == "calendar" and train == GROWING
    lengths = [to_length(text, where="split") for text in ((test if growing else train), validation, test) if text]
    if len(lengths) != 2 + bool(validation):
        raise ConfigError("split: expected lengths for train and test, such as '180d' or 'quarter'.")
    purge = holding + max_age
    grid = _Grid.of(bars, gap=purge + embargo, train=lengths[0], validation=lengths[1] if validation else None)
    starts = grid.first
    if kind == "calendar":
        if test not in CALENDAR:
            raise ConfigError(f"split: test {test!r} is not one of {list(CALENDAR)}.{did_you_mean(test, CALENDAR)}")
        period = (grid.days.year * 12 + grid.days.month - 1) // CALENDAR[test]
        starts = grid.first[1:][np.diff(period) != 0]
    place = bisect_left(starts, True, key=lambda start: grid.has_room(int(start)))
    if place == len(starts):
        chosen = f"train {train}" + f", validation {validation}" * bool(validation)
        raise ConfigError(
            f"split: {chosen} and {purge + embargo} bars left out before each (holding {holding} + max_age {max_age} + "
            f"embargo {embargo}) leave none of {len(bars)} bars, {grid.days[0].date()} to {grid.days[-1].date()}, to "
            f"test{f' from the first of a {test} on' * (kind == 'calendar')}. Let the run be longer, or these shorter."
        )
    if kind == "calendar":
        starts = starts[place:]
        begin = grid.days[grid.day[starts[-1]]]
        begin = pd.Timestamp(begin.year, begin.month - (begin.month - 1) % CALENDAR[test], 1)
    else:
        starts, begin = grid.step(int(starts[place]), lengths[-1])
    left, whole = grid.days[-1] + DAY - begin, begin + _offset(lengths[-1]) - begin
    if len(starts) > 1 and 2 * left < whole:
        starts = starts[:-1]
    opens, ends = bars["open_time"], [*starts[1:], None]
    splits = []
    for start, end in zip(starts, ends, strict=True):
        spans = grid.before(int(start), growing=growing or kind == "expanding")
        train_start, train_end, validation_start, validation_end = (
            None if position is None else opens.iloc[position] for position in spans
        )
        last = bars["close_time"].iloc[(spans[1] if spans[3] is None else spans[3]) - 1]
        if last > bars["time"].iloc[start]:
            raise ConfigError(
                f"split: the test of {opens.iloc[start]} is decided {bars['time'].iloc[start]}, before the last bar "
                f"that it chooses on has closed ({last}); raise embargo."
            )
        splits.append(
            Split(
                train_start=train_start,
                train_end=train_end,
                validation_start=validation_start,
                validation_end=validation_end,
                test_start=opens.iloc[start],
                test_end=bars["close_time"].iloc[-1] if end is None else opens.iloc[end],
                purge=purge,
                embargo=embargo,
            )
        )
    return tuple(splits)


def check_kind(kind: str) -> None:
    """Refuses what is no kind of walk."""
    if kind not in KINDS:
        raise ConfigError(f"split: kind {kind!r} is not one of {list(KINDS)}.{did_you_mean(kind, KINDS)}")


def to_length(text: str, *, where: str) -> tuple[int, int]:
    """A length in whole days and months: '180d', 'week', '6 months', 'quarter'. Raises ConfigError for another."""
    match = _LENGTH.fullmatch(text)
    count = int(match[1] or 1) if match else 0
    if match is None or count == 0:
        raise ConfigError(
            f"{where}: {text!r} is not a length of a day or more. Write for example '180d', '6 months', 'quarter'."
        )
    unit = match[2]
    return (0, count * CALENDAR[unit]) if unit in CALENDAR else (count * (7 if unit == "week" else 1), 0)


def _offset(length: tuple[int, int], times: int = 1) -> pd.DateOffset:
    return pd.DateOffset(days=times * length[0], months=times * length[1])


@dataclass(frozen=True)
class _Grid:
    """Positions of bars and the dates of their sessions, and what a test window chooses on."""

    days: pd.DatetimeIndex  # the date of each session
    first: np.ndarray  # position of the first bar of each session
    day: np.ndarray  # for each bar the position of its session
    gap: int
    train: tuple[int, int]
    validation: tuple[int, int] | None

    @classmethod
    def of(cls, bars: pd.DataFrame, *, gap: int, train: tuple[int, int], validation: tuple[int, int] | None) -> _Grid:
        sessions = bars["session"].to_numpy(dtype=object)
        new = np.append(True, sessions[1:] != sessions[:-1])
        days = pd.DatetimeIndex(pd.to_datetime(sessions[new], format="%Y-%m-%d"))
        return cls(days, np.flatnonzero(new), np.cumsum(new) - 1, gap, train, validation)

    def before(self, start: int, *, growing: bool) -> tuple[int, int, int | None, int | None]:
        """Start and end of train and of validation of the test that starts at the bar `start`."""
        end = start - self.gap
        if self.validation is None:
            return (0 if growing else self._back(end, self.train)[0]), end, None, None
        validation = self._back(end, self.validation)[0]
        train = validation - self.gap
        return (0 if growing else self._back(train, self.train)[0]), train, validation, end

    def has_room(self, start: int) -> bool:
        """Whether all that a test starting there chooses on lies in the grid."""
        end = start - self.gap
        if self.validation is not None and end > 0:
            end = self._back(end, self.validation)[0] - self.gap
        return end > 0 and self._back(end, self.train)[1]

    def step(self, start: int, length: tuple[int, int]) -> tuple[np.ndarray, pd.Timestamp]:
        """The first bars of test windows so long, from the first on, and the date at which the last of them begins."""
        date, dates = self.days[self.day[start]], list[pd.Timestamp]()
        while (begin := date + _offset(length, len(dates))) <= self.days[-1]:
            dates.append(begin)
        places = self.days.searchsorted(pd.DatetimeIndex(dates))
        empty = np.flatnonzero(np.diff(places) == 0)
        if len(empty):
            found = dates[int(empty[0])]
            raise ConfigError(
                f"split: a test from {found.date()} to before {dates[int(empty[0]) + 1].date()} holds none of "
                f"{len(self.day)} bars; let test be longer."
            )
        return self.first[places], dates[-1]

    def _back(self, end: int, length: tuple[int, int]) -> tuple[int, bool]:
        """The first bar of the stretch so long that ends before the bar `end`, and whether the grid holds all of it."""
        date = self.days[self.day[end - 1]] - _offset(length)
        place = int(self.days.searchsorted(date, side="right"))
        return int(self.first[place]), date + DAY >= self.days[0]


def _between(bars: pd.DataFrame, start: pd.Timestamp | None, end: pd.Timestamp | None) -> pd.DataFrame:
    if start is None or end is None:
        return bars.iloc[:0]
    inside = (bars["open_time"] >= start) & (bars["open_time"] < end)
    return bars[inside].reset_index(drop=True)
