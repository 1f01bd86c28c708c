"""Kills writers of a lake at random instants and looks for rows that were reported as written and are not there.

    python benchmarks/lake_kill.py [--kills 200] [--seed 0] > benchmarks/results/lake_kill.txt

Two processes append to one lake in a loop and say so when an append has returned; after a random time both get
SIGKILL. Then everything they reported must be read back, whole and once, and a new append must work; the lake is the
same throughout, so that merges, left-over files and earlier kills pile up.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np
import pandas as pd

from finsignal.lake import Lake, append, as_of, open_lake
from finsignal.lake.store import list_parts
from finsignal.tables import INSTANT, PRICES

PLACE = {"market": "bybit-linear", "bar": "1h"}
ROWS = 40  # an append; from the last days of a month, so that one append writes two parts
END = pd.Timestamp("2030-01-01", tz="UTC").as_unit("us")


def make_rows(symbol: str) -> pd.DataFrame:
    """ROWS hourly bars around the end of October, whose prices follow from the symbol."""
    opens = pd.Series(pd.date_range("2026-10-31T04:00Z", periods=ROWS, freq="h"), dtype=INSTANT)
    price = np.full(ROWS, float(1 + int(symbol.rpartition("-")[2])))
    columns = {c: price for c in ("open", "high", "low", "close", "volume")}
    frame = pd.DataFrame({"open_time": opens, "time": opens + pd.Timedelta("1h"), "symbol": symbol, **columns})
    return PRICES.to_table(frame.astype({"symbol": "str"}))


def write_forever(folder: Path, name: str, said: Connection) -> None:
    """Appends symbol after symbol; the name of each is sent once it is written."""
    lake = open_lake(folder)
    for number in range(10**9):
        symbol = f"{name}-{number}"
        append(lake, "prices", make_rows(symbol), recorded=END, **PLACE)
        said.send(symbol)


@dataclass
class Count:
    """What a series of kills showed."""

    kills: int = 0
    reported: int = 0
    unreported: int = 0  # there, though its append did not live to say so
    lost: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    left_over: int = 0  # temporary files and merged parts found after a kill


def kill_once(lake: Lake, names: Sequence[str], *, after: float) -> set[str]:
    """What writers of these names reported until they were killed, `after` seconds from the first report."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "pyarrow.dataset", "pyarrow.parquet"])
    pipes = [context.Pipe(duplex=False) for _ in names]
    writers = [
        context.Process(target=write_forever, args=(lake.folder, name, pipe[1]), daemon=True)
        for name, pipe in zip(names, pipes, strict=True)
    ]
    for writer, pipe in zip(writers, pipes, strict=True):
        writer.start()
        pipe[1].close()  # so that the other end closes with the writer
    wait([pipe for pipe, _ in pipes], timeout=60)
    time.sleep(after)
    for writer in writers:
        writer.kill()
    said: set[str] = set()
    for writer, (pipe, _) in zip(writers, pipes, strict=True):
        writer.join()
        with suppress(EOFError):
            while True:
                said.add(pipe.recv())
        pipe.close()
    return said


def check_lake(lake: Lake, reported: set[str], count: Count) -> None:
    """Adds to the count what is lost, half there or not as it was written."""
    rows = as_of(lake, "prices", END, recorded_by=END, **PLACE)
    PRICES.check(rows)
    sizes = rows.groupby("symbol").size()
    count.lost += sorted(reported - set(sizes.index))
    # What was never reported may be there in one month and not in the other; within a month it is whole.
    months = rows.groupby(["symbol", rows["time"].dt.month]).size().unstack(fill_value=0)
    whole = make_rows("any-0")["time"].dt.month.value_counts()
    for symbol, found in months.iterrows():
        expected = [whole[month] for month in months.columns]
        fine = (
            list(found) == expected
            if symbol in reported
            else all(n in (0, e) for n, e in zip(found, expected, strict=True))
        )
        if not fine:
            count.broken.append(str(symbol))
    number = rows["symbol"].str.rpartition("-")[2].astype("float64")
    count.broken += sorted(rows.loc[rows["close"] != number + 1, "symbol"].unique())
    count.unreported = len(set(sizes.index) - reported)


def count_left_over(lake: Lake) -> int:
    """Files in the folders of parts that are no parts that count."""
    folders = [path for path in lake.folder.rglob("month=*") if path.is_dir()]
    return sum(len(list(folder.iterdir())) - len(list_parts(folder)) for folder in folders)


def run_kills(folder: Path, *, kills: int, seed: int, longest: float) -> Count:
    """Kills two writers `kills` times, each after a random time of up to `longest` seconds of writing."""
    random = np.random.default_rng(seed)
    lake = open_lake(folder, create=True)
    count, reported = Count(), set()
    for kill in range(kills):
        said = kill_once(lake, (f"a{kill}", f"b{kill}"), after=float(random.uniform(0, longest)))
        reported |= said
        count.left_over += count_left_over(lake)
        check_lake(lake, reported, count)
        symbol = f"after{kill}-{kill}"
        append(lake, "prices", make_rows(symbol), recorded=END, **PLACE)
        reported.add(symbol)
        count.kills += 1
    check_lake(lake, reported, count)
    count.reported = len(reported)
    return count


def main() -> int:
    """Prints the counts; 1 where a row was lost or broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        count = run_kills(Path(folder) / "lake", kills=options.kills, seed=options.seed, longest=0.4)
    print(f"kills of two writers at once           {count.kills}")
    print(f"appends reported as written            {count.reported}")
    print(f"  of these lost                        {len(count.lost)}")
    print(f"  of these, or of others, half read    {len(count.broken)}")
    print(f"written, killed before it could report {count.unreported}")
    print(f"files left over by kills, then swept   {count.left_over}")
    return 1 if count.lost or count.broken else 0


if __name__ == "__main__":
    sys.exit(main())
