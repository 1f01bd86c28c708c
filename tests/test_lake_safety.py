"""Nothing written is lost and nothing is half there: writers at once, merges, kills, full disks, damaged files."""

import errno
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lake_tables import BARS_HERE, hours, make_articles, make_prices, make_scores, ts

from finsignal.errors import SourceError
from finsignal.lake import Lake, append, appending, as_of, open_lake, read_scores, reading, store
from finsignal.lake.contracts import KEPT

HERE = Path(__file__).parent
LATER = ts("2027-01-01")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "lake", create=True)


def all_prices(lake: Lake) -> pd.DataFrame:
    return as_of(lake, "prices", LATER, recorded_by=LATER, **BARS_HERE)


def folder_of(lake: Lake) -> Path:
    return lake.folder / "prices" / "market=bybit-linear" / "bar=1h" / "month=2026-11"


def write_days(lake: Lake, count: int, *, start: int = 0) -> None:
    """`count` appends of one symbol each, named in their order."""
    for number in range(start, start + count):
        row = make_prices(f"S{number:03d}", hours("2026-11-01", 2), [1 + number, 2 + number])
        append(lake, "prices", row, recorded=ts("2026-12-01"), **BARS_HERE)


# Writers at once


@pytest.mark.parametrize("writers", [2, 4])
def test_writers_at_once_store_every_row_exactly_once(tmp_path: Path, writers: int) -> None:
    names = [f"W{number}" for number in range(writers)]
    command = [sys.executable, str(HERE / "lake_writer.py"), str(tmp_path / "lake")]
    started = [subprocess.Popen([*command, name, "6"], stderr=subprocess.PIPE, text=True) for name in names]
    errors = [process.communicate()[1] for process in started]
    assert errors == [""] * writers
    lake = open_lake(tmp_path / "lake")
    rows = all_prices(lake)
    assert rows.groupby("symbol").size().to_dict() == dict.fromkeys([*names, "shared"], 6)
    # Not only read once but stored once, also what everybody wrote.
    paths = [part.path for part in store.list_parts(folder_of(lake))]
    assert pq.read_table(paths, partitioning=None).num_rows == 6 * (writers + 1)


def test_a_lake_that_another_process_makes_in_the_same_moment_is_opened_and_not_taken_for_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, looked, list_names = tmp_path / "lake", [], os.listdir
    folder.mkdir()

    def make_first(path: Path) -> list[str]:
        if not looked:
            looked.append(path)
            write_days(open_lake(folder, create=True), 1)
        return list_names(path)

    monkeypatch.setattr(store.os, "listdir", make_first)
    assert open_lake(folder, create=True) == Lake(folder)
    assert looked == [folder]


def test_a_reader_beside_a_writer_that_merges_sees_every_row_written_before_it(lake: Lake) -> None:
    command = [sys.executable, str(HERE / "lake_writer.py"), str(lake.folder), "W", "15"]
    writer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    seen = [0]
    while writer.poll() is None:
        times = all_prices(lake).query("symbol == 'W'")["time"]
        assert times.tolist() == hours("2026-11-01T01:00", len(times)).tolist()  # none missing in between
        seen.append(len(times))
    assert writer.communicate()[1] == ""
    assert seen == sorted(seen)
    assert len(all_prices(lake)) == 30
    assert len(store.list_parts(folder_of(lake))) <= 5


def test_a_listing_that_missed_a_merge_is_made_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    write_days(lake, 3)
    whole = sorted(os.listdir(folder_of(lake)))
    # What a listing may show while parts 1 to 3 become one: the last two deleted, the merged one not seen yet.
    answers = iter([whole[:1], ["part-00000001-00000003.parquet"], ["part-00000001-00000003.parquet"]])
    monkeypatch.setattr(store, "_names", lambda folder: next(answers))
    assert [(part.first, part.last) for part in store.list_parts(folder_of(lake))] == [(1, 3)]


def test_a_part_merged_between_listing_and_reading_is_read_from_its_successor(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_days(lake, 3)
    expected = all_prices(lake)
    listed = []

    def list_then_merge(folder: Path) -> list[store.Part]:
        parts = store.list_parts(folder)
        if not listed:
            appending.merge(folder, KEPT["prices"])
        listed.append(len(parts))
        return parts

    monkeypatch.setattr(reading, "list_parts", list_then_merge)
    pd.testing.assert_frame_equal(all_prices(lake), expected)
    assert listed == [3, 1]


# Merging


@pytest.fixture
def merging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are merged from four on instead of 32."""
    monkeypatch.setattr(appending, "MERGE_ABOVE", 4)


def test_many_small_writes_do_not_make_many_files_and_lose_nothing(lake: Lake, merging: None) -> None:
    write_days(lake, 20)
    assert len(list(folder_of(lake).iterdir())) <= 5
    assert all_prices(lake)["symbol"].nunique() == 20


def test_merging_keeps_every_version(lake: Lake, merging: None) -> None:
    for number in range(12):
        row = make_prices("A", hours("2026-11-01", 1), [1 + number])
        append(lake, "prices", row, recorded=ts("2026-11-02") + pd.Timedelta(number, unit="h"), **BARS_HERE)
    assert len(store.list_parts(folder_of(lake))) < 12
    for number in range(12):
        by = ts("2026-11-02") + pd.Timedelta(number, unit="h")
        known = as_of(lake, "prices", LATER, recorded_by=by, **BARS_HERE)
        assert known["close"].tolist() == [1 + number]


def test_of_versions_recorded_at_one_instant_the_later_write_holds_also_after_merging(
    lake: Lake, merging: None
) -> None:
    for number in range(12):
        row = make_prices("A", hours("2026-11-01", 1), [1 + number])
        append(lake, "prices", row, recorded=ts("2026-12-01"), **BARS_HERE)
        assert all_prices(lake)["close"].tolist() == [1 + number]


def test_a_large_part_is_not_written_anew_for_a_few_rows(lake: Lake, merging: None) -> None:
    noise = np.random.default_rng(0).uniform(1, 2, 600)
    append(lake, "prices", make_prices("BIG", hours("2026-11-01", 600), noise), recorded=LATER, **BARS_HERE)
    large = folder_of(lake) / store.to_name(1, 1)
    write_days(lake, 4)
    assert sorted(path.name for path in folder_of(lake).iterdir()) == [large.name, store.to_name(2, 5)]
    write_days(lake, 60, start=4)  # until the rest has grown
    assert not large.exists()


def test_a_merge_that_fails_takes_nothing_from_the_append(
    lake: Lake, merging: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, kept: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(appending, "merge", full)
    write_days(lake, 6)
    assert all_prices(lake)["symbol"].nunique() == 6


# Kills and disks that refuse


def test_what_killed_writers_left_is_ignored_and_swept_by_the_next(lake: Lake) -> None:
    write_days(lake, 2)
    expected = all_prices(lake)
    folder = folder_of(lake)
    half = folder / ".part-00000003-00000003.parquet-99-0a0a.tmp"
    half.write_bytes((folder / "part-00000001-00000001.parquet").read_bytes()[:100])
    # Killed after merging, before the merged parts were deleted.
    merged = pa.concat_tables([pq.read_table(folder / store.to_name(n, n), partitioning=None) for n in (1, 2)])
    pq.write_table(merged, folder / store.to_name(1, 2))
    pd.testing.assert_frame_equal(all_prices(lake), expected)
    write_days(lake, 1, start=2)
    assert sorted(os.listdir(folder)) == [store.to_name(1, 2), store.to_name(3, 3)]
    assert all_prices(lake)["symbol"].nunique() == 3


@contextmanager
def failing(name: str, *, at: int, error: BaseException) -> Iterator[list[int]]:
    """The call number `at` of a function of `os` fails; yields a list whose length is the number of calls."""
    calls: list[int] = []
    real = getattr(os, name)

    def fail(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == at:
            raise error
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, fail)
        yield calls


@pytest.mark.parametrize(("name", "refusals"), [("fsync", 4), ("link", 1), ("mkdir", 2)])
def test_a_disk_that_refuses_leaves_the_lake_as_it_was(tmp_path: Path, name: str, refusals: int) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    new = make_scores(["00", "01"], "m", 0.5)
    for at in range(1, refusals + 2):  # each call in turn; one more than there are
        lake = open_lake(tmp_path / str(at), create=True)
        with failing(name, at=at, error=full):
            if at > refusals:
                assert append(lake, "scores", new, recorded=LATER) == 2
                continue
            with pytest.raises(SourceError, match=r"cannot be written \(No space left on device\)"):
                append(lake, "scores", new, recorded=LATER)
        assert read_scores(lake, ["00", "01"], model="m").empty
        assert not [path for path in lake.folder.rglob("*") if path.suffix in (".tmp", ".parquet")]
        assert append(lake, "scores", new, recorded=LATER) == 2
        assert len(read_scores(lake, ["00", "01"], model="m")) == 2


def test_a_file_that_cannot_grow_leaves_the_lake_as_it_was(lake: Lake) -> None:
    write_days(lake, 1)
    expected = all_prices(lake)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(SourceError, match=r"cannot be written \(File too large\)"):
            write_days(lake, 1, start=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    pd.testing.assert_frame_equal(all_prices(lake), expected)
    write_days(lake, 1, start=1)
    assert all_prices(lake)["symbol"].nunique() == 2


def test_a_lake_that_may_not_be_written_to_is_read_all_the_same() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        lake = open_lake(Path(name) / "lake", create=True)
        write_days(lake, 1)
        with somebody_else(lake.folder):
            assert len(all_prices(lake)) == 2
            with pytest.raises(SourceError, match="cannot be written"):
                write_days(lake, 1, start=1)
            with pytest.raises(SourceError, match="cannot be opened"):
                open_lake(lake.folder / "other", create=True)
        write_days(lake, 1, start=1)
        assert all_prices(lake)["symbol"].nunique() == 2


@contextmanager
def somebody_else(folder: Path) -> Iterator[None]:
    """The block runs without the right to write below the folder: as another user where this one is root."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
        return
    paths = [folder, *folder.rglob("*")]
    modes = [path.stat().st_mode for path in paths]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)


def test_a_writer_that_waits_too_long_gives_up(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_WAIT", 0.02)
    with store.locked(lake), pytest.raises(SourceError, match="another process has been writing"):
        write_days(lake, 1)
    write_days(lake, 1)


# Damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[60:64] = b"\xff\x00\xff\x00"  # in a page of values
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def add_column(path: Path) -> None:
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.append_column("vwap", pa.array([1.0] * len(rows))), path)


def drop_column(path: Path) -> None:
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["recorded"]), path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut, "is damaged"),
        (scribble, "is damaged"),
        (empty, "is damaged"),
        (add_column, r"\['vwap'\]"),
        (drop_column, r"\['recorded'\]"),
    ],
)
def test_a_part_that_is_not_as_it_was_written_is_named(lake: Lake, harm: Callable[[Path], None], message: str) -> None:
    write_days(lake, 3)
    path = folder_of(lake) / store.to_name(2, 2)
    harm(path)
    for work in (lambda: all_prices(lake), lambda: write_days(lake, 1, start=1)):
        with pytest.raises(SourceError, match=message) as caught:
            work()
        assert str(path) in str(caught.value)
        assert "Move" in str(caught.value)
    path.unlink()  # as told
    assert all_prices(lake)["symbol"].tolist() == ["S000", "S000", "S002", "S002"]
    write_days(lake, 1, start=1)
    assert all_prices(lake)["symbol"].nunique() == 3


@pytest.mark.slow
def test_a_flipped_bit_is_found_or_changes_nothing(lake: Lake) -> None:
    noise = np.random.default_rng(0).uniform(1, 2, 50)
    append(lake, "prices", make_prices("A", hours("2026-11-01", 50), noise), recorded=LATER, **BARS_HERE)
    expected = all_prices(lake)
    path = folder_of(lake) / store.to_name(1, 1)
    data = path.read_bytes()
    values = len(data) - int.from_bytes(data[-8:-4], "little") - 8  # up to the footer
    found = 0
    for position in range(4, values, 9):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        try:
            pd.testing.assert_frame_equal(all_prices(lake), expected)
        except SourceError:
            found += 1
    assert found > 50


def test_files_of_others_among_the_parts_are_left_alone(lake: Lake) -> None:
    write_days(lake, 1)
    (folder_of(lake) / "notes.parquet").write_text("mine")
    write_days(lake, 1, start=1)
    assert len(all_prices(lake)) == 4
    assert (folder_of(lake) / "notes.parquet").read_text() == "mine"


def test_a_year_of_articles_is_written_month_by_month_and_a_repeat_completes_it(lake: Lake) -> None:
    articles = make_articles(list("abc"), ["2026-01-15", "2026-02-15", "2026-03-15"])
    with failing("link", at=2, error=OSError(errno.ENOSPC, "No space left on device")), pytest.raises(SourceError):
        append(lake, "articles", articles, recorded=LATER)
    assert as_of(lake, "articles", LATER, recorded_by=LATER)["article_id"].tolist() == ["a"]
    assert append(lake, "articles", articles, recorded=LATER) == 2
    assert as_of(lake, "articles", LATER, recorded_by=LATER)["article_id"].tolist() == ["a", "b", "c"]


@pytest.mark.slow
def test_twenty_kills_at_random_instants_lose_nothing() -> None:
    command = [sys.executable, str(HERE.parent / "benchmarks" / "lake_kill.py"), "--kills", "20", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills of two writers at once           20" in done.stdout
