"""As of any instant the lake says what a plain replay of the log says, through edits, splits, backfills and kills.

The replay keeps a list of everything that was written and answers from the definitions, one row at a time.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lake_tables import BARS_HERE, make_actions, make_articles, make_links, make_prices, ts

from finsignal.lake import Lake, append, appending, as_of, open_lake, read_links

START = ts("2026-10-31T18:00")  # the sixth hour ends October, so that fetches write two months
HOURS = 14
MARKET = {"market": BARS_HERE["market"]}


def at(hour: float) -> pd.Timestamp:
    return START + pd.Timedelta(hour, unit="h")


class Killed(BaseException):
    """The process dies here."""


@dataclass(frozen=True)
class Version:
    """One row that was written: its table, key and values, when it was recorded, and the month it lies in."""

    table: str
    key: tuple[str, ...]
    hour: float  # of its time; 0 for links, which have none
    values: tuple[float, ...]
    recorded: float


class Log:
    """Everything that was written, in order, and the definitions of what was known."""

    def __init__(self) -> None:
        self.versions: list[Version] = []

    def newest(self, table: str, recorded_by: float) -> dict[tuple[Any, ...], Version]:
        """Of each key the version with the latest `recorded` up to then; of equal ones the one written last."""
        known: dict[tuple[Any, ...], Version] = {}
        for version in self.versions:
            key = (*version.key, version.hour) if table in ("prices", "actions") else version.key
            if version.table == table and version.recorded <= recorded_by:
                if key not in known or known[key].recorded <= version.recorded:
                    known[key] = version
        return known

    def is_new(self, row: Version) -> bool:
        if row.table == "articles":
            return not any(v.table == "articles" and v.key == row.key for v in self.versions)
        key = (*row.key, row.hour) if row.table in ("prices", "actions") else row.key
        known = self.newest(row.table, row.recorded).get(key)
        if known is None or known.values != row.values:
            return True
        return row.table == "prices" and any(
            v.table == "actions" and v.key == row.key and row.hour <= v.hour and known.recorded < v.hour <= row.recorded
            for v in self.versions
        )

    def write(self, rows: list[Version], *, parts: int | None) -> int:
        """Stores the new rows, of the first so many months with new ones where the writer was killed; their number."""
        new = [row for row in rows if self.is_new(row)]
        months = sorted({month_of(row) for row in new})
        kept = [row for row in new if month_of(row) in (months if parts is None else months[:parts])]
        self.versions += kept
        return len(kept)

    def prices(self, t: float, recorded_by: float) -> list[tuple[Any, ...]]:
        """symbol, hour, price and volume on the basis of `t`."""
        splits = list(self.newest("actions", recorded_by).values())
        rows = []
        for bar in self.newest("prices", recorded_by).values():
            if bar.hour > t:
                continue
            price, volume = bar.values
            for split in splits:
                if split.key != bar.key or bar.hour > split.hour:
                    continue
                if split.hour <= bar.recorded:  # the fetch was on the new basis: back to the old
                    price, volume = price * split.values[0], volume / split.values[0]
                if split.hour <= t:
                    price, volume = price / split.values[0], volume * split.values[0]
            rows.append((bar.key[0], bar.hour, price, volume))
        return sorted(rows)


def month_of(row: Version) -> str:
    return f"{at(row.recorded if row.table == 'links' else row.hour):%Y-%m}" if row.table != "actions" else "2026"


@contextmanager
def killed_at(link: int | None, *, after: bool) -> Iterator[list[str]]:
    """The process dies at the given naming of a file, before it or after; yields the names that were given."""
    names: list[str] = []
    real = os.link

    def give_name(work: Path, path: Path) -> None:
        number = len(names) + 1
        if number == link and not after:
            shutil.copy(work, work.with_name(f".{work.name}"))  # no clean-up would run
            raise Killed
        real(work, path)
        names.append(Path(path).name)
        if number == link:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", give_name)
        patch.setattr(appending, "MERGE_ABOVE", 2)
        yield names


def to_tables(rows: list[Version]) -> pd.DataFrame:
    table = rows[0].table
    if table == "prices":
        frames = [make_prices(r.key[0], [at(r.hour - 1)], [r.values[0]], volume=r.values[1]) for r in rows]
        return pd.concat(frames, ignore_index=True)
    if table == "actions":
        return make_actions([(r.key[0], str(at(r.hour)), "split", r.values[0]) for r in rows])
    if table == "links":
        return make_links([(*r.key, r.values[0]) for r in rows])  # type: ignore[misc]
    return make_articles([r.key[0] for r in rows], [at(r.hour) for r in rows])


symbols = st.sampled_from(["A", "B"])
hour = st.integers(1, HOURS)


@st.composite
def fetches(draw: st.DrawFn) -> list[Version]:
    """What one fetch brings: rows of one table with different keys, recorded at one instant."""
    table = draw(st.sampled_from(["prices", "prices", "prices", "actions", "articles", "links"]))
    recorded = draw(hour)
    rows = {}
    for _ in range(draw(st.integers(1, 5))):
        if table == "prices":
            row = Version(
                table,
                (draw(symbols),),
                draw(st.integers(1, recorded)),
                (draw(st.sampled_from([30.0, 60.0])), draw(st.sampled_from([6.0, 12.0]))),
                recorded,
            )
        elif table == "actions":
            row = Version(table, (draw(symbols),), draw(hour), (draw(st.sampled_from([2.0, 3.0, 0.5])),), recorded)
        elif table == "articles":
            row = Version(table, (draw(st.sampled_from("abcd")),), draw(hour), (), recorded)
        else:
            key = (draw(st.sampled_from("abcd")), draw(symbols))
            row = Version(table, key, 0, (draw(st.sampled_from([0.25, 0.75])),), recorded)
        rows[row.key, row.hour if table in ("prices", "actions") else 0] = row
    return list(rows.values())


kills = st.one_of(st.none(), st.none(), st.tuples(st.integers(1, 4), st.booleans()))
instants = st.lists(st.tuples(st.integers(0, HOURS + 1), st.integers(0, HOURS + 1)), min_size=2, max_size=4)


def check_known(lake: Lake, log: Log, t: int, recorded_by: int) -> None:
    options: dict[str, Any] = {"recorded_by": at(recorded_by)}
    expected = log.prices(t, recorded_by)
    known = as_of(lake, "prices", at(t), **options, **BARS_HERE)
    found = list(zip(known["symbol"], (known["time"] - START) / pd.Timedelta("1h"), strict=True))
    assert found == [(symbol, end) for symbol, end, _, _ in expected]
    for column in ("open", "high", "low", "close"):
        assert known[column].tolist() == pytest.approx([price for _, _, price, _ in expected], rel=1e-12)
    assert known["volume"].tolist() == pytest.approx([volume for _, _, _, volume in expected], rel=1e-12)
    some = as_of(lake, "prices", at(t), symbols=["B"], since=at(3), **options, **BARS_HERE)
    pd.testing.assert_frame_equal(
        some, known[(known["symbol"] == "B") & (known["time"] > at(3))].reset_index(drop=True)
    )
    splits = [v for v in log.newest("actions", recorded_by).values() if v.hour <= t]
    actions = as_of(lake, "actions", at(t), **options, **MARKET)
    assert actions["value"].tolist() == [v.values[0] for v in sorted(splits, key=lambda v: (v.key, v.hour))]
    articles = as_of(lake, "articles", at(t), **options)
    shown = zip(articles["article_id"], articles["time"], articles["recorded"], strict=True)
    ids = {v.key: v for v in log.newest("articles", recorded_by).values() if v.hour <= t}
    in_order = sorted(ids.items(), key=lambda item: (item[1].hour, item[0]))
    assert list(shown) == [(key[0], at(v.hour), at(v.recorded)) for key, v in in_order]
    links = read_links(lake, list("abc"), recorded_by=at(recorded_by))
    said = {v.key: v.values[0] for v in log.newest("links", recorded_by).values() if v.key[0] != "d"}
    assert links.to_numpy().tolist() == [[*key, value] for key, value in sorted(said.items())]


Steps = list[tuple[list[Version], tuple[int, bool] | None, bool]]
steps = st.lists(st.tuples(fetches(), kills, st.booleans()), min_size=1, max_size=10)
FEW = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow
@settings(FEW)
@given(steps, instants)
def test_the_lake_says_what_a_replay_of_the_log_says(steps: Steps, asked: list[tuple[int, int]]) -> None:
    check_steps(steps, asked)


@pytest.mark.slow
@settings(FEW, max_examples=150, derandomize=False)
@given(steps, instants)
def test_the_lake_says_so_in_many_more_cases(steps: Steps, asked: list[tuple[int, int]]) -> None:
    check_steps(steps, asked)


def check_steps(steps: Steps, asked: list[tuple[int, int]]) -> None:
    """Writes and asks, each step repeated and killed as it says, the lake beside the log."""
    log = Log()
    with tempfile.TemporaryDirectory() as folder:
        lake = open_lake(Path(folder) / "lake", create=True)
        for rows, kill, repeated in steps:
            table, recorded = rows[0].table, at(rows[0].recorded)
            place = BARS_HERE if table == "prices" else MARKET if table == "actions" else {}
            number, after = kill or (None, False)
            with killed_at(number, after=after) as names:
                try:
                    count = append(lake, table, to_tables(rows), recorded=recorded, **place)
                    assert count == log.write(rows, parts=None)
                except Killed:
                    written = [name for name in names if len(set(name.removesuffix(".parquet").split("-")[1:])) == 1]
                    log.write(rows, parts=len(written))
            if repeated:
                with killed_at(None, after=False):
                    count = append(lake, table, to_tables(rows), recorded=recorded, **place)
                    assert count == log.write(rows, parts=None)
        for t, recorded_by in asked:
            check_known(lake, log, t, recorded_by)
        check_known(lake, log, HOURS + 1, HOURS + 1)
