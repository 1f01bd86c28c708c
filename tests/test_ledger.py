"""The ledger: written once, whole or not at all, read back exactly; the same on SQLite and on a real PostgreSQL."""

import contextlib
import itertools
import multiprocessing
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_workers import MINUTE, START, make_decisions, open_as_nobody, try_lock, write_on
from pandas.testing import assert_frame_equal
from postgres import PASSWORD, Postgres

from finsignal.errors import FinsignalError, LedgerError, LockedError, MissingExtraError, RefusedError, TableError
from finsignal.ledger import (
    Ledger,
    latest_pass,
    lock,
    measure_drift,
    open_ledger,
    read_decisions,
    read_news,
    read_passes,
    read_state,
    write_decisions,
    write_pass,
)
from finsignal.ledger.schema import make_schema
from finsignal.tables import INSTANT

PROCESSES = multiprocessing.get_context("forkserver")
# Loaded once for all of them; the workers' own module is not yet on the path then.
PROCESSES.set_forkserver_preload(["finsignal.ledger", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql"])
NAMES = (f"strategy {n}" for n in itertools.count())


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of one's own."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    return request.getfixturevalue("postgres_server").make_database()


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with closing(open_ledger(url)) as opened:
        yield opened


@pytest.fixture
def file_ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(open_ledger(tmp_path / "ledger.db")) as opened:
        yield opened


def count_rows(ledger: Ledger) -> dict[str, int]:
    schema = make_schema()
    with ledger.engine.connect() as connection:
        return {
            t.name: connection.execute(sa.select(sa.func.count()).select_from(t)).scalar_one()
            for t in (schema.passes, schema.decisions, schema.states, schema.news)
        }


# --- written and read back ------------------------------------------------------------------------------------------


def test_a_new_ledger_is_empty(ledger: Ledger) -> None:
    assert read_state(ledger, "news") is None
    assert latest_pass(ledger, "news") is None
    for read in (read_decisions, read_news, read_passes):
        assert read(ledger, "news").empty
    assert read_decisions(ledger, "news")["time"].dtype == INSTANT


def test_a_pass_is_read_back_as_written(ledger: Ledger) -> None:
    given = make_decisions()
    given["signals"]["reason"] = pd.Series(["", "no price since 2026-11-18"], dtype="str")
    given["pass_row"] |= {"seconds": 1.25, "news": 3, "scored": 2, "settings": "9a", "message": "fine"}
    assert write_decisions(ledger, "news", **given)
    read = read_decisions(ledger, "news")
    assert_frame_equal(read[[*given["signals"]]], given["signals"])
    assert read["weight"].tolist() == given["weights"]["weight"].tolist()
    assert read["model"].tolist() == ["words@1f2e"] * 2
    assert read["recorded"].tolist() == [START] * 2
    assert_frame_equal(read_state(ledger, "news"), given["state"])
    news = read_news(ledger, "news")
    assert news["time"].tolist() == [START] * 2
    assert_frame_equal(news[[*given["texts"]]], given["texts"])
    passes = read_passes(ledger, "news")
    assert len(passes) == 1
    assert passes.drop(columns="id").iloc[0].to_dict() == {
        **{"now": START, "time": START, "open_time": START + MINUTE, "outcome": "decided", "code": 0},
        **{"message": "fine", "model": "words@1f2e", "settings": "9a"},
        **{"seconds": 1.25, "news": 3, "scored": 2, "symbols": 2, "held": 1},
    }


def test_the_newest_state_is_the_current_one_and_the_older_ones_stay(ledger: Ledger) -> None:
    for number, weight in enumerate((0.1, 0.2, 0.3)):
        given = make_decisions(START + number * MINUTE)
        given["state"]["weight"] = weight
        write_decisions(ledger, "news", **given)
    weights = [
        read_state(ledger, "news", before=b)["weight"].iloc[0] for b in (None, START + 2 * MINUTE, START + MINUTE)
    ]
    assert weights == [0.3, 0.2, 0.1]
    assert read_state(ledger, "news", before=START) is None
    assert read_state(ledger, "another") is None


def test_a_stretch_holds_its_start_and_not_its_end(ledger: Ledger) -> None:
    for number in range(4):
        write_decisions(ledger, "news", **make_decisions(START + number * MINUTE, symbols=("AAPL",)))
    for read in (read_decisions, read_news):
        assert read(ledger, "news", START + MINUTE, START + 3 * MINUTE)["time"].tolist() == [
            START + MINUTE,
            START + 2 * MINUTE,
        ]


def test_an_empty_state_and_no_texts_are_kept_as_such(ledger: Ledger) -> None:
    given = make_decisions()
    given |= {"state": given["state"].iloc[:0], "texts": given["texts"].iloc[:0]}
    assert write_decisions(ledger, "news", **given)
    assert read_state(ledger, "news").empty
    assert not write_decisions(ledger, "news", **given)


FLOATS = st.floats(allow_nan=True, allow_infinity=False)
INSTANTS = st.datetimes(min_value=pd.Timestamp("1700-01-01"), max_value=pd.Timestamp("9000-01-01"))
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FLOATS, FLOATS.filter(np.isfinite), INSTANTS, INSTANTS, st.none() | INSTANTS, WORDS, WORDS.filter(len))
def test_numbers_instants_and_words_come_back_exactly(
    ledger: Ledger, score: float, weight: float, at: object, published: object, fill: object, title: str, symbol: str
) -> None:
    strategy = next(NAMES)
    given = make_decisions(pd.Timestamp(at, tz="UTC").as_unit("us"), symbols=(symbol,), score=0.0)
    given["signals"]["score"] = score
    given["weights"]["weight"] = weight
    given["texts"]["title"] = pd.Series([title], dtype="str")
    given["texts"]["published"] = pd.Series([pd.Timestamp(published, tz="UTC")]).astype(INSTANT)
    given["state"]["fill"] = pd.Series([fill and pd.Timestamp(fill, tz="UTC")], dtype=INSTANT)
    assert write_decisions(ledger, strategy, **given)
    read = read_decisions(ledger, strategy)
    # Bit for bit, but for the sign of a zero and the payload of a NaN.
    assert_frame_equal(read[[*given["signals"]]], given["signals"], check_exact=True)
    assert (np.array([weight + 0.0]).view("int64") == read["weight"].to_numpy().view("int64")).all()
    assert_frame_equal(read_state(ledger, strategy), given["state"], check_exact=True)
    assert_frame_equal(read_news(ledger, strategy)[[*given["texts"]]], given["texts"], check_exact=True)
    assert not write_decisions(ledger, strategy, **given)


def test_what_no_database_can_hold_in_a_title_is_marked(ledger: Ledger) -> None:
    given = make_decisions()
    given["texts"]["title"] = pd.Series(["a\0b", "up \ud83d"], dtype=object).astype(pd.StringDtype("python", np.nan))
    assert write_decisions(ledger, "news", **given)
    assert read_news(ledger, "news")["title"].tolist() == ["a�b", "up �"]


def test_instants_in_the_database_can_be_read_by_people(file_ledger: Ledger) -> None:
    write_decisions(file_ledger, "news", **make_decisions())
    with closing(sqlite3.connect(file_ledger.file)) as opened:
        assert opened.execute("SELECT DISTINCT time FROM decisions").fetchall() == [("2026-11-20T14:29:00.000000Z",)]


def test_passes_without_decisions_are_on_record_in_order(ledger: Ledger) -> None:
    for number, outcome in enumerate(("quiet", "missed", "source down")):
        write_pass(ledger, "news", {"now": START + number * MINUTE, "outcome": outcome, "code": 0})
    write_pass(ledger, "another", {"now": START, "outcome": "quiet", "code": 0})
    assert read_passes(ledger, "news")["outcome"].tolist() == ["quiet", "missed", "source down"]
    last = read_passes(ledger, "news", last=2)
    assert last["outcome"].tolist() == ["missed", "source down"]
    assert last["time"].isna().all()
    assert last["seconds"].isna().all()


def test_a_clock_that_jumped_back_is_seen_from_the_latest_pass(ledger: Ledger) -> None:
    for minutes, outcome in ((5, "quiet"), (1, "refused")):
        write_pass(ledger, "news", {"now": START + minutes * MINUTE, "outcome": outcome, "code": 4})
    latest = latest_pass(ledger, "news")
    assert (latest["now"], latest["outcome"]) == (START + 5 * MINUTE, "quiet")


def test_drift_compares_each_text_once_by_its_first_decision() -> None:
    # Before: scores 0.0, 0.2, 0.4, 0.6. Since: 0.4, 0.6, 0.8 (and the 0.2 again, which is not new).
    # Share at or below 0.2: 2/4 of the earlier and none of the recent; at 0.4 it is 3/4 and 1/3; at 0.6, 1 and 2/3.
    scores = [0.0, 0.2, 0.4, 0.6, 0.2, 0.4, 0.6, 0.8]
    news = pd.DataFrame(
        {
            **{"symbol": "AAPL", "article_id": ["a", "b", "c", "d", "b", "e", "f", "g"]},
            **{"time": [START] * 4 + [START + MINUTE] * 4, "p_negative": 0.0, "p_positive": scores},
        }
    )
    drift = measure_drift(news.iloc[::-1], since=START + MINUTE)
    assert (drift.earlier, drift.recent) == (4, 3)
    assert drift.distance == pytest.approx(1 / 2)
    assert (drift.mean_earlier, drift.mean_recent) == (pytest.approx(0.3), pytest.approx(0.6))
    assert drift.limit == pytest.approx(1.63 * (1 / 4 + 1 / 3) ** 0.5)
    nothing_new = measure_drift(news, since=START + 2 * MINUTE)
    assert (nothing_new.earlier, nothing_new.recent) == (7, 0)
    assert np.isnan([nothing_new.distance, nothing_new.mean_recent]).all()


# --- repeats and refusals -------------------------------------------------------------------------------------------


def test_a_repeat_writes_nothing_but_the_pass(ledger: Ledger) -> None:
    assert write_decisions(ledger, "news", **make_decisions())
    before = count_rows(ledger)
    again = make_decisions()
    again["pass_row"]["now"] = START + MINUTE / 2
    assert not write_decisions(ledger, "news", **again)
    assert count_rows(ledger) == {**before, "passes": 2}
    assert read_passes(ledger, "news")["outcome"].tolist() == ["decided", "repeated"]
    assert read_decisions(ledger, "news")["recorded"].tolist() == [START] * 2


def change(table: str, column: str, value: object) -> dict:
    given = make_decisions()
    given[table].loc[1, column] = value
    return given


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (change("signals", "signal", "HOLD"), "TSLA at 2026-11-20T14:29Z: signal was BUY, is HOLD"),
        (change("signals", "score", 0.5), "TSLA at 2026-11-20T14:29Z: score was 0.25, is 0.5"),
        (change("signals", "score", np.nan), "score was 0.25, is not known"),
        (change("signals", "score", np.nextafter(0.25, 1)), "score was 0.25, is 0.25000000000000006"),
        (change("signals", "confidence", 0.8), "confidence was 0.7, is 0.8"),
        (change("weights", "weight", -0.1), "weight was 0.1, is -0.1"),
        (change("state", "weight", 0.0), "state weight was 0.1, is 0.0"),
        (change("state", "filled", False), "state filled was True, is False"),
        (change("state", "fill", pd.NaT), "state fill was 2026-11-20T14:28Z, is not known"),
        ({**make_decisions(), "model": "words@ffff"}, "AAPL at 2026-11-20T14:29Z: model was words@1f2e, is words@ffff"),
        (make_decisions(symbols=("AAPL",)), "is on record for AAPL, TSLA; now it comes without TSLA"),
        (make_decisions(symbols=("AAPL", "MSFT", "TSLA")), "is on record for AAPL, TSLA; now it comes with MSFT"),
    ],
)
def test_a_changed_answer_is_refused_by_name(ledger: Ledger, again: dict, said: str) -> None:
    write_decisions(ledger, "news", **make_decisions())
    before = count_rows(ledger)
    with pytest.raises(RefusedError) as raised:
        write_decisions(ledger, "news", **again)
    assert said in str(raised.value)
    assert "news: " in str(raised.value)
    assert count_rows(ledger) == before


def test_another_bar_for_the_same_decision_is_a_changed_answer(ledger: Ledger) -> None:
    write_decisions(ledger, "news", **make_decisions())
    again = make_decisions()
    for table in ("signals", "weights"):
        again[table]["open_time"] = START + 2 * MINUTE
    with pytest.raises(RefusedError, match="open_time was 2026-11-20T14:30Z, is 2026-11-20T14:31Z"):
        write_decisions(ledger, "news", **again)


def test_a_decision_before_the_newest_is_refused_unless_it_is_a_repeat(ledger: Ledger) -> None:
    for number in (0, 2):
        write_decisions(ledger, "news", **make_decisions(START + number * MINUTE))
    before = count_rows(ledger)
    with pytest.raises(RefusedError, match=r"at 2026-11-20T14:30Z would come before the one of 2026-11-20T14:31Z"):
        write_decisions(ledger, "news", **make_decisions(START + MINUTE))
    assert count_rows(ledger) == before
    assert not write_decisions(ledger, "news", **make_decisions(START))
    assert write_decisions(ledger, "another", **make_decisions(START + MINUTE))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"signals": make_decisions()["signals"].drop(columns="score")}, "no column 'score'"),
        ({"signals": make_decisions()["signals"].iloc[:0]}, "no rows"),
        ({"signals": make_decisions()["signals"].assign(time=[START, START - MINUTE])}, "more than one decision"),
        ({"weights": make_decisions(symbols=("AAPL", "MSFT"))["weights"]}, "are not those of signals"),
        ({"texts": make_decisions(symbols=("MSFT",))["texts"]}, "symbol 'MSFT' has no decision"),
        ({"state": make_decisions()["state"].assign(weight=1)}, "expected dtype float64"),
        ({"pass_row": {"now": START, "outcome": "decided"}}, "no 'code'"),
        ({"pass_row": {"now": START, "outcome": "decided", "code": 0, "secnds": 1.0}}, "Did you mean 'seconds'"),
        ({"pass_row": {"now": START, "outcome": "done", "code": 0}}, "outcome 'done' is not one of"),
        ({"pass_row": {"now": START.tz_convert(None), "outcome": "decided", "code": 0}}, "a time zone"),
        ({"pass_row": {"now": START, "outcome": "decided", "code": "x"}}, "code is 'x'; expected int64"),
    ],
)
def test_tables_that_do_not_fit_are_refused(file_ledger: Ledger, changes: dict, said: str) -> None:
    with pytest.raises(TableError) as raised:
        write_decisions(file_ledger, "news", **{**make_decisions(), **changes})
    assert said in str(raised.value)
    assert set(count_rows(file_ledger).values()) == {0}


def test_a_symbol_twice_in_the_state_leaves_nothing_behind(ledger: Ledger) -> None:
    given = make_decisions()
    given["state"] = pd.concat([given["state"]] * 2, ignore_index=True)
    with pytest.raises(LedgerError, match="could not write the decisions"):
        write_decisions(ledger, "news", **given)
    assert set(count_rows(ledger).values()) == {0}


# --- many processes -------------------------------------------------------------------------------------------------


def test_of_ten_passes_at_once_one_gets_the_lock_and_the_others_are_told_at_once(url: str) -> None:
    together, done = PROCESSES.Barrier(10), PROCESSES.Event()
    ends = [PROCESSES.Pipe(duplex=False) for _ in range(10)]
    passes = [PROCESSES.Process(target=try_lock, args=(url, together, done, say)) for _, say in ends]
    for one in passes:
        one.start()
    answers = [hear.recv() if hear.poll(20) else "no answer" for hear, _ in ends]
    done.set()
    for one in passes:
        one.join()
    assert [one.exitcode for one in passes] == [0] * 10
    assert answers.count("got it") == 1
    told = [a for a in answers if a.startswith("LockedError") and "another pass of 'news' is at work" in a]
    assert len(told) == 9


def test_the_lock_is_free_after_the_pass_and_another_strategy_never_waits(ledger: Ledger) -> None:
    with lock(ledger, "news"):
        with pytest.raises(LockedError), lock(ledger, "news"):
            pytest.fail("both hold it")
        with lock(ledger, "another"):
            pass
    with pytest.raises(ZeroDivisionError), lock(ledger, "news"):
        _ = 1 / 0
    with lock(ledger, "news"):
        pass


def test_the_lock_is_free_after_kill_9(url: str, ledger: Ledger) -> None:
    hear, say = PROCESSES.Pipe(duplex=False)
    together, done = PROCESSES.Barrier(1), PROCESSES.Event()
    other = PROCESSES.Process(target=try_lock, args=(url, together, done, say))
    other.start()
    assert hear.poll(20)
    assert hear.recv() == "got it"
    with pytest.raises(LockedError), lock(ledger, "news"):
        pytest.fail("both hold it")
    other.kill()
    other.join()
    until = time.monotonic() + 10
    while True:  # the server learns of the death from the closed connection, a moment later
        try:
            with lock(ledger, "news"):
                return
        except LockedError:
            assert ledger.file is None
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.mark.slow
def test_writers_of_different_strategies_do_not_disturb_each_other(url: str, ledger: Ledger) -> None:
    said = write_at_once(url, ["a", "b", "c", "d"], 10)
    assert said == [[(n, True) for n in range(10)]] * 4
    for strategy in "abcd":
        assert len(read_decisions(ledger, strategy)) == 20


def test_a_pass_waits_for_a_short_write_of_another_program(file_ledger: Ledger) -> None:
    with closing(sqlite3.connect(file_ledger.file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE ledger_schema SET number = 1")
        end = threading.Timer(0.2, other.execute, ["COMMIT"])
        end.start()
        assert write_decisions(file_ledger, "news", **make_decisions())
        end.join()


def test_the_same_decision_from_four_processes_is_new_once(url: str, ledger: Ledger) -> None:
    said = write_at_once(url, ["news"] * 4, 1)
    assert sorted(new for one in said for _, new in one) == [False, False, False, True]
    assert count_rows(ledger) == {"passes": 4, "decisions": 2, "states": 2, "decision_news": 2}


def write_at_once(url: str, strategies: list[str], count: int) -> list[list[tuple[int, bool]]]:
    ends = [PROCESSES.Pipe(duplex=False) for _ in strategies]
    writers = [
        PROCESSES.Process(target=write_on, args=(url, name, 0, count, say))
        for name, (_, say) in zip(strategies, ends, strict=True)
    ]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert [one.exitcode for one in writers] == [0] * len(writers)
    return [[hear.recv() for _ in range(count)] for hear, _ in ends]


@pytest.mark.slow
def test_a_writer_killed_at_any_instant_leaves_whole_passes_and_all_it_reported(url: str, ledger: Ledger) -> None:
    rng, next_one = random.Random(7), 0
    for _ in range(8):
        hear, say = PROCESSES.Pipe(duplex=False)
        writer = PROCESSES.Process(target=write_on, args=(url, "news", next_one, 10_000, say))
        writer.start()
        say.close()
        reported = hear.recv()[0]
        time.sleep(rng.uniform(0, 0.05))
        writer.kill()
        writer.join()
        with contextlib.suppress(EOFError):
            while True:
                reported = hear.recv()[0]
        wait_for_writes_to_end(ledger)
        instants = read_decisions(ledger, "news")["time"].nunique()
        assert instants in (reported + 1, reported + 2)  # the last may have been written and not yet reported
        rows = count_rows(ledger)
        assert rows == {
            "passes": instants,
            "decisions": 2 * instants,
            "states": 2 * instants,
            "decision_news": 2 * instants,
        }
        next_one = instants
    if ledger.file is not None:
        with closing(sqlite3.connect(ledger.file)) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def wait_for_writes_to_end(ledger: Ledger) -> None:
    """A server finishes what a killed client had sent."""
    if ledger.file is None:
        with ledger.engine.connect() as connection:
            others = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            give_up = time.monotonic() + 30
            while connection.exec_driver_sql(others).scalar_one():
                assert time.monotonic() < give_up, "a killed client's connection stays"
                connection.rollback()  # a transaction sees the activity as it was at its first look
                time.sleep(0.01)


# --- what can go wrong with a database ------------------------------------------------------------------------------


def test_sqlite_writes_ahead_and_holds_foreign_keys(file_ledger: Ledger) -> None:
    with file_ledger.engine.connect() as connection:
        values = [connection.exec_driver_sql(f"PRAGMA {p}").scalar_one() for p in ("journal_mode", "foreign_keys")]
    assert values == ["wal", 1]


def test_a_reader_sees_the_old_while_a_pass_writes(ledger: Ledger) -> None:
    write_decisions(ledger, "news", **make_decisions())
    with ledger.engine.connect().execution_options(writes=True) as writing:
        writing.execute(make_schema().states.delete())
        assert len(read_state(ledger, "news")) == 2
        writing.rollback()


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but notes of some length" * 100)
    with pytest.raises(
        LedgerError, match=r"notes.txt: could not open it: file is not a database. Choose another path."
    ):
        open_ledger(path)
    assert path.read_text().startswith("not a database")


def test_a_damaged_file_is_told_as_damaged(file_ledger: Ledger) -> None:
    for number in range(20):
        write_decisions(file_ledger, "news", **make_decisions(START + number * MINUTE))
    file_ledger.close()
    content = bytearray(file_ledger.file.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    file_ledger.file.write_bytes(content)
    with pytest.raises(LedgerError, match="malformed"), closing(open_ledger(file_ledger.file)) as opened:
        read_decisions(opened, "news")


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: (p.write_text("x"), p / "ledger.db")[1]])
def test_a_path_that_cannot_be_a_file_is_told(tmp_path: Path, make: object) -> None:
    path = make(tmp_path / "taken") or tmp_path / "taken"
    with pytest.raises(LedgerError, match=r"taken.*(cannot be opened|could not open it)"):
        open_ledger(path)


def test_a_ledger_that_others_may_only_read_is_told() -> None:
    folder = Path(tempfile.mkdtemp())  # below tmp_path another user may not go at all
    folder.chmod(0o755)
    hear, say = PROCESSES.Pipe(duplex=False)
    other = PROCESSES.Process(target=open_as_nobody, args=(str(folder / "ledger.db"), say))
    other.start()
    other.join()
    said = [hear.recv() for _ in range(3)]
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert all(s.startswith("LedgerError: ledger ") for s in said)
    assert "Permission denied" in said[0]
    assert "writable" in said[1]
    assert "Permission denied" in said[2]


def test_where_no_ledger_is_none_is_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is none; 'finsignal run' makes it"):
        open_ledger(tmp_path / "ledger.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_database_is_no_ledger_unless_one_is_to_be_made(url: str) -> None:
    if "://" not in url:
        sqlite3.connect(url).close()
        Path(url).touch()
    with pytest.raises(LedgerError, match="holds no ledger"):
        open_ledger(url, create=False)
    open_ledger(url).close()
    open_ledger(url, create=False).close()


def test_tables_of_another_program_are_left_alone(ledger: Ledger, url: str) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(make_schema().version.delete())
        connection.exec_driver_sql("DROP TABLE ledger_schema")
    with pytest.raises(LedgerError, match="holds a table 'decision_news' of another program"):
        open_ledger(url)


def test_a_ledger_of_a_newer_finsignal_is_refused(ledger: Ledger, url: str) -> None:
    with ledger.engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(make_schema().version.update().values(number=7))
    with pytest.raises(LedgerError, match="has schema 7, this finsignal knows 1"):
        open_ledger(url)


def test_a_file_deleted_in_mid_pass_is_told_and_not_written_anew(file_ledger: Ledger) -> None:
    with lock(file_ledger, "news"):
        file_ledger.file.unlink()
        with pytest.raises(LedgerError, match="could not write the decisions: the file is gone"):
            write_decisions(file_ledger, "news", **make_decisions())
    assert not file_ledger.file.exists()


def test_a_file_replaced_in_mid_pass_is_told(file_ledger: Ledger, tmp_path: Path) -> None:
    open_ledger(tmp_path / "other.db").close()
    (tmp_path / "other.db").replace(file_ledger.file)
    with pytest.raises(LedgerError, match="the file was replaced by another"):
        write_decisions(file_ledger, "news", **make_decisions())


def test_a_full_disk_leaves_the_ledger_as_it_was(file_ledger: Ledger) -> None:
    write_decisions(file_ledger, "news", **make_decisions())
    with file_ledger.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite's own: the size it has is all it gets
    before = count_rows(file_ledger)
    many = tuple(f"S{n:04d}" for n in range(500))
    with pytest.raises(LedgerError, match=r"disk is full\. Make room; nothing of this was written\."):
        write_decisions(file_ledger, "news", **make_decisions(START + MINUTE, symbols=many))
    assert count_rows(file_ledger) == before


def test_another_program_that_keeps_writing_is_told(file_ledger: Ledger) -> None:
    with file_ledger.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(file_ledger.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"database is locked\. Another program has been writing"):
            write_decisions(file_ledger, "news", **make_decisions())
        other.execute("ROLLBACK")
    assert write_decisions(file_ledger, "news", **make_decisions())


def test_a_server_that_stops_in_mid_pass_is_told_and_found_again(postgres_server: Postgres) -> None:
    if postgres_server.programs is None:
        pytest.skip("the server of FINSIGNAL_TEST_POSTGRES is not ours to stop")
    with closing(open_ledger(postgres_server.make_database())) as ledger:
        write_decisions(ledger, "news", **make_decisions())
        with lock(ledger, "news"):
            postgres_server.stop()
            try:
                with pytest.raises(LedgerError, match=r"could not write the decisions: .*Start the server") as raised:
                    write_decisions(ledger, "news", **make_decisions(START + MINUTE))
            finally:
                postgres_server.start()
        assert PASSWORD not in "".join(traceback.format_exception(raised.value))
        with lock(ledger, "news"):
            assert write_decisions(ledger, "news", **make_decisions(START + MINUTE))
        assert len(read_decisions(ledger, "news")) == 4


# --- URLs and their secrets -----------------------------------------------------------------------------------------


def hidden(url: str, secret: str) -> str:
    """The message of the error that opening the URL raises, once the secret is found nowhere in its traceback."""
    with pytest.raises(FinsignalError) as raised:
        open_ledger(url)
    assert secret not in "".join(traceback.format_exception(raised.value))
    return str(raised.value)


def test_an_open_server_shows_no_password(postgres_server: Postgres) -> None:
    url = f"{postgres_server.make_database()}?application_name=top-secret"
    with closing(open_ledger(url)) as ledger, lock(ledger, "news"):
        with pytest.raises(LockedError) as raised, lock(ledger, "news"):
            pytest.fail("both hold it")
        for text in (repr(ledger), str(ledger), ledger.url_shown, str(raised.value)):
            for secret in (PASSWORD, quote(PASSWORD, safe=""), "top-secret", "%"):
                assert secret not in text
    assert ledger.url_shown.startswith("postgresql://tester:***@127.0.0.1:")


def test_a_wrong_password_is_told_without_it(postgres_server: Postgres) -> None:
    url = urlsplit(postgres_server.url)
    wrong = url._replace(netloc=f"tester:hush-hush@127.0.0.1:{url.port}").geturl()
    message = hidden(wrong, "hush-hush")
    assert "password authentication failed" in message
    assert "Check user and password" in message


def test_a_missing_database_is_told(postgres_server: Postgres) -> None:
    missing = urlsplit(postgres_server.url)._replace(path="/no_such_database").geturl()
    assert 'database "no_such_database" does not exist' in hidden(missing, PASSWORD)


def test_a_server_out_of_reach_is_told() -> None:
    pytest.importorskip("psycopg", reason="needs psycopg, of the extra finsignal[postgres]")
    message = hidden("postgresql://tester:hush-hush@127.0.0.1:1/x", "hush-hush")
    assert message.startswith("ledger postgresql://tester:***@127.0.0.1:1/x: could not open it: ")
    assert message.endswith("Start the server, or correct host and port of the URL.")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://tester:hush-hush/or@host:5432/x", "URL"),
        ("postgresql://tester:hush@hush-hush@host:5432/x", "more than one @"),
        ("postgresql://tester:pw@host:hush-hush/x", "URL cannot be read"),
        ("postgresql://tester:pw@127.0.0.1:1/x?sslmode=hush-hush", "could not open it"),
        ("mysql://tester:hush-hush@host/x", "no database 'mysql'"),
        ("postgresql+psycopg2://tester:hush-hush@host/x", "no database 'postgresql+psycopg2'"),
        ("://hush-hush", "URL cannot be read"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_secrets(url: str, said: str) -> None:
    pytest.importorskip("psycopg", reason="needs psycopg, of the extra finsignal[postgres]")
    message = hidden(url, "hush-hush")
    assert said in message


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_a_ledger_in_memory_is_refused(url: str) -> None:
    with pytest.raises(LedgerError, match="a ledger in memory would forget its passes"):
        open_ledger(url)


def test_a_url_of_sqlite_is_its_path(tmp_path: Path) -> None:
    with closing(open_ledger(f"sqlite:///{tmp_path}/a folder?/50%.db")) as ledger:
        write_decisions(ledger, "news", **make_decisions())
    assert (tmp_path / "a folder?" / "50%.db").is_file()


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"finsignal\[postgres\]"):
        open_ledger("postgresql://tester@127.0.0.1:1/x")


def test_the_ledger_is_loaded_without_sqlalchemy_until_it_is_opened() -> None:
    code = "import sys, finsignal.ledger; print('sqlalchemy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
