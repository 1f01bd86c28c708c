"""How fast the lake gives back what was known, beside plain pandas.read_parquet of the same files.

    python benchmarks/lake_read.py [--rows 1000000] > benchmarks/results/lake_read.txt

A million hourly bars of 500 symbols and a million articles (title and text of made-up words) are appended to a new
lake, then read back by `as_of` and by pandas, in turn, so that a busy machine slows both; medians. Then the same after
a history: a tenth of the bars in a second version, 500 articles fetched hour by hour. Last, what one pass asks for.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.clock import make_bars
from finsignal.lake import KEPT, Lake, append, as_of, open_lake, read_articles, read_links
from finsignal.lake.reading import to_root
from finsignal.tables import ARTICLES, INSTANT, LINKS, PRICES

PLACE = {"market": "XNYS", "bar": "1h"}
SYMBOLS = [f"S{number:03d}" for number in range(500)]
END = pd.Timestamp("2026-11-01", tz="UTC").as_unit("us")
NOW = END + pd.Timedelta("1D")
REPEATS = 9


def make_prices(rows: int) -> pd.DataFrame:
    """Hourly bars of all symbols, the same number each, ending at END; random walks in cents."""
    each = rows // len(SYMBOLS)
    grid = make_bars("XNYS", "1h", start=END - pd.Timedelta(each // 4, unit="D"), end=END, latency=pd.Timedelta(0))
    grid = grid.iloc[-each:]
    random = np.random.default_rng(0)
    close = np.round(100 * np.exp(random.normal(0, 0.005, (len(SYMBOLS), each)).cumsum(axis=1)), 2).ravel()
    opened = np.round(close * (1 + random.normal(0, 0.002, len(close))), 2)
    return PRICES.to_table(
        pd.DataFrame(
            {
                "open_time": pd.Series(np.tile(grid["open_time"].array, len(SYMBOLS)), dtype=INSTANT),
                "time": pd.Series(np.tile(grid["close_time"].array, len(SYMBOLS)), dtype=INSTANT),
                "symbol": pd.Series(np.repeat(SYMBOLS, each), dtype="str"),
                "open": opened,
                "high": np.maximum(opened, close) + 0.05,
                "low": np.minimum(opened, close) * 0.999,
                "close": close,
                "volume": random.integers(1_000, 1_000_000, len(close)).astype("float64"),
            }
        )
    )


def make_articles(rows: int, *, seed: int, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Articles at random times, of about 9 words in the title and 40 in the text, common words more often."""
    random = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = np.array(
        ["".join(letters[(26 * random.random(n) ** 2).astype(int)]) for n in random.integers(2, 11, 20_000)]
    )
    picked = words[(len(words) * random.random((rows, 49)) ** 3).astype(int)]
    times = start + pd.to_timedelta(np.sort(random.integers(0, (end - start) // pd.Timedelta("1us"), rows)), unit="us")
    ids = [hashlib.sha256(f"{seed} {number}".encode()).hexdigest()[:32] for number in range(rows)]
    known = pd.Series(times, dtype=INSTANT)
    columns = {
        "article_id": ids,
        "title": [" ".join(row[:9]) for row in picked],
        "text": [" ".join(row[9:]) for row in picked],
        "source": np.array(["wire", "desk", "feed"])[random.integers(0, 3, rows)],
        "url": [f"https://news.invalid/{number}" for number in ids],
        "story": ids,
    }
    frame = pd.DataFrame({name: pd.Series(values, dtype="str") for name, values in columns.items()})
    nothing = pd.Series([pd.NaT] * rows, dtype=INSTANT)
    return ARTICLES.to_table(
        frame.assign(published=known, first_seen=nothing, recorded=nothing, time=known + pd.Timedelta("1min"))
    )


def measure(work: dict[str, Callable[[], Any]], *, repeats: int = REPEATS) -> dict[str, float]:
    """The median seconds of each, in turn; the first round does not count."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(repeats + 1):
        for name, do in work.items():
            begun = time.perf_counter()
            do()
            if number:
                taken[name].append(time.perf_counter() - begun)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def compare(lake: Lake, table: str, place: dict[str, str], what: str) -> None:
    """One line: as_of beside read_parquet of the folder of this table."""
    folder = to_root(lake, table, KEPT[table], market=place.get("market", ""), bar=place.get("bar", ""))
    files = len(list(folder.rglob("part-*.parquet")))
    rows = len(as_of(lake, table, NOW, recorded_by=NOW, **place))
    taken = measure(
        {
            "plain": lambda: pd.read_parquet(folder),
            "lake": lambda: as_of(lake, table, NOW, recorded_by=NOW, **place),
        }
    )
    print(
        f"{what:<44} {rows:>9,} {files:>6} {taken['plain']:>9.3f} {taken['lake']:>9.3f} "
        f"{taken['lake'] / taken['plain']:>6.2f}"
    )


def add_history(lake: Lake, prices: pd.DataFrame) -> None:
    """A tenth of the bars fetched anew with another volume, and 20 hourly fetches of 25 new articles."""
    changed = prices.iloc[::10].reset_index(drop=True)
    append(lake, "prices", changed.assign(volume=changed["volume"] + 1), recorded=NOW, **PLACE)
    for number in range(20):
        at = END - pd.Timedelta(20 - number, unit="h")
        news = make_articles(25, seed=100 + number, start=at - pd.Timedelta("1h"), end=at)
        append(lake, "articles", news, recorded=at)


def main() -> int:
    """Prints two comparisons before and after a history, then the latencies of one pass."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    prices = make_prices(rows)
    articles = make_articles(rows, seed=1, start=END - pd.Timedelta(730, unit="D"), end=END)
    links = LINKS.to_table(
        pd.DataFrame(
            {"article_id": articles["article_id"], "symbol": np.resize(SYMBOLS, rows), "relevance": 1.0}
        ).astype({"symbol": "str"})
    )
    print(f"{os.cpu_count()} cores, python {platform.python_version()}, pandas {pd.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        lake = open_lake(Path(folder) / "lake", create=True)
        for table, frame, place in (("prices", prices, PLACE), ("articles", articles, {}), ("links", links, {})):
            begun = time.perf_counter()
            append(lake, table, frame, recorded=END, **place)
            print(f"append {len(frame):,} {table}: {time.perf_counter() - begun:.1f} s")
        print(
            f"\n{'median of ' + str(REPEATS) + ' s':<44} {'rows':>9} {'files':>6} {'plain':>9} {'lake':>9} {'ratio':>6}"
        )
        compare(lake, "prices", PLACE, "prices, as appended")
        compare(lake, "articles", {}, "articles, as appended")
        add_history(lake, prices)
        compare(lake, "prices", PLACE, "prices, a tenth in two versions")
        compare(lake, "articles", {}, "articles, after 20 hourly fetches")

        some, month = SYMBOLS[::10], END - pd.Timedelta(28, unit="D")
        last = as_of(lake, "articles", NOW, recorded_by=NOW, since=END - pd.Timedelta("1D"))
        new = iter([make_articles(100, seed=200 + n, start=END, end=NOW) for n in range(REPEATS + 1)])
        taken = measure(
            {
                "prices of 50 symbols, the last 28 days": lambda: as_of(
                    lake, "prices", NOW, recorded_by=NOW, symbols=some, since=month, **PLACE
                ),
                "articles of the last day": lambda: as_of(
                    lake, "articles", NOW, recorded_by=NOW, since=END - pd.Timedelta("1D")
                ),
                "their links": lambda: read_links(lake, last, recorded_by=NOW),
                "100 articles looked up by id": lambda: read_articles(lake, last["article_id"][:100], recorded_by=NOW),
                "append of 100 new articles": lambda: append(lake, "articles", next(new), recorded=NOW),
            }
        )
        print("\none pass, median ms")
        for name, seconds in taken.items():
            print(f"{name:<44} {1000 * seconds:>9.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
