"""How long news rows take to become features at decisions, and how much memory: from 1.25 to 10 million rows.

    python benchmarks/mapping.py --out benchmarks/results/mapping.txt

500 symbols of the New York exchange, a year of hourly bars. Each size runs in a process of its own, which makes NEWS
and SENTIMENT tables in memory (not timed), sorted as their contracts want them, and then times `aggregate_sentiment`
and `bar_of` on the rows' instants. One news row in ten repeats an earlier story. The peak is that of the whole process,
the input tables and the making of them among it. Linear means: rows a second do not fall. CPU seconds say what
a busy machine took away.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from finsignal.clock import bar_of, make_bars
from finsignal.features import aggregate_sentiment
from finsignal.tables import INSTANT, PROBABILITIES

SIZES = (1_250_000, 2_500_000, 5_000_000, 10_000_000)
SYMBOLS = 500
MOST_SECONDS, MOST_BYTES = 10.0, 4 * 2**30
OPTIONS = {"half_life": 6.0, "max_age": 24, "min_relevance": 0.2, "source_weights": {"wire": 1.0, "blog": 0.5}}


def to_text(prefix: bytes, numbers: np.ndarray, digits: int) -> pd.Series:
    """Text such as n0001234, without a Python string for each."""
    width = len(prefix) + digits
    letters = np.empty((len(numbers), width), dtype=np.uint8)
    letters[:, : len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
    rest = numbers.astype(np.int64)
    for place in range(width - 1, len(prefix) - 1, -1):
        letters[:, place] = rest % 10 + ord("0")
        rest //= 10
    ends = pa.py_buffer(np.arange(len(numbers) + 1, dtype=np.int64) * width)
    array = pa.LargeStringArray.from_buffers(len(numbers), ends, pa.py_buffer(letters))
    return pd.Series(pd.array(array, dtype="str"))


def repeat_text(words: list[str], numbers: np.ndarray) -> pd.Series:
    """The word of each number."""
    array = pa.array(words, pa.large_string()).take(pa.array(numbers))
    return pd.Series(pd.array(array, dtype="str"))


def make_tables(rows: int, bars: pd.DataFrame, seed: int = 1) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """NEWS and SENTIMENT of so many rows."""
    rng = np.random.default_rng(seed)
    names = [f"S{n:03d}" for n in range(SYMBOLS)]
    each = rows // SYMBOLS
    code = np.repeat(np.arange(SYMBOLS, dtype=np.int32), each)
    low, high = (bars["time"].iloc[n].value // 10**9 for n in (0, -1))
    seconds = rng.integers(low, high, (SYMBOLS, each))
    seconds.sort(axis=1)
    # Built unit by unit: pandas would widen what it is given to nanoseconds first.
    known = pd.Series((seconds.ravel() * 10**6).view("datetime64[us]")).dt.tz_localize("UTC")
    del seconds
    number = np.arange(len(code))
    story = np.where(rng.random(len(code)) < 0.1, np.maximum(number - rng.integers(1, 40, len(code)), 0), number)
    titles = [f"Company {n} says something about its quarter" for n in range(1000)]
    never = pd.Series(pd.NaT, index=range(len(code)), dtype=INSTANT)
    news = pd.DataFrame(
        {
            "article_id": to_text(b"n", number, 9),
            "published": known,
            "first_seen": never,
            "recorded": known,
            "time": known,
            "title": repeat_text(titles, rng.integers(0, 1000, len(code), dtype=np.int32)),
            "text": repeat_text([""], np.zeros(len(code), dtype=np.int32)),
            "source": repeat_text(["wire", "blog", "paper"], rng.integers(0, 3, len(code), dtype=np.int32)),
            "url": repeat_text([""], np.zeros(len(code), dtype=np.int32)),
            "story": to_text(b"s", story, 9),
            "symbol": repeat_text(names, code),
            "relevance": rng.random(len(code)),
        },
        copy=False,
    )
    del story
    raw = rng.random((3, len(code)))
    raw /= raw.sum(axis=0)
    sentiment = pd.DataFrame(
        {
            "article_id": to_text(b"n", number, 9),
            "time": known,
            "symbol": repeat_text(names, code),
            **dict(zip(PROBABILITIES, raw, strict=True)),
            "model": repeat_text(["model"], np.zeros(len(code), dtype=np.int32)),
        },
        copy=False,
    )
    return news, sentiment, names


def measure(rows: int) -> str:
    """One row of the output."""
    bars = make_bars("XNYS", "1h", start="2024-01-01", end="2025-01-01", latency=pd.Timedelta(minutes=1))
    news, sentiment, names = make_tables(rows, bars)
    made = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start, busy = time.perf_counter(), time.process_time()
    features = aggregate_sentiment(news, sentiment, bars, names, **OPTIONS)
    positions = bar_of(bars, news["time"])
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if not features["sent_count"].max() > 0 or positions.max() >= len(bars):
        raise SystemExit("the rows made do not lie in the grid: nothing was measured")
    within = "yes" if seconds < MOST_SECONDS and peak < MOST_BYTES else "NO"
    return (
        f"{len(news):>12,}{seconds:>10.2f}{busy:>10.2f}{len(news) / seconds:>16,.0f}"
        f"{made / 2**30:>15.2f}{peak / 2**30:>11.2f}{within:>22}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=int, help="one size in this process, and print its line")
    args = parser.parse_args()
    if args.rows:
        sys.stdout.write(measure(args.rows) + "\n")
        return
    lines = [
        "python benchmarks/mapping.py --out benchmarks/results/mapping.txt",
        f"Python {platform.python_version()}, pandas {pd.__version__}, numpy {np.__version__}, {platform.machine()}",
        "",
        f"{'news rows':>12}{'seconds':>10}{'CPU s':>10}{'rows a second':>16}{'GiB of tables':>15}{'GiB peak':>11}"
        f"{'under 10 s and 4 GiB':>22}",
    ]
    for size in SIZES:
        command = [sys.executable, __file__, "--rows", str(size)]
        lines.append(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.rstrip("\n"))
        sys.stderr.write(lines[-1] + "\n")
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
