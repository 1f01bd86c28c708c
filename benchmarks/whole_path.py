"""The whole path on recorded answers, without a network: fetch, lake, backtest, pass, status, verification.

    python benchmarks/whole_path.py [--data ../shared/data] > benchmarks/results/whole_path.txt

Servers on 127.0.0.1 answer the real clients as Yahoo, Bybit and a feed do. Each command is a process of its own; its
clock is set to the instant shown before it, for recorded answers belong to their day. The command fails, naming it,
where one of them ends with another exit code than is expected of it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests"))

from bybit_answers import Market, make_history  # noqa: E402
from feed_answers import to_feed_answer, to_rss, to_stamp  # noqa: E402
from replay_server import Answer, Request, Server, serve  # noqa: E402
from yahoo_answers import Yahoo, make_chart, make_item, make_prices, read_recorded  # noqa: E402

from finsignal.clock import make_bars  # noqa: E402
from finsignal.tables import FUNDING, INSTANT, OPEN_INTEREST, PRICES  # noqa: E402

START, LAST = pd.Timestamp("2026-06-20", tz="UTC"), pd.Timestamp("2026-08-15T18:00Z")  # first bar, and last closed one
ARCHIVED = pd.Timestamp("2026-08-14", tz="UTC")  # headlines before it come from a file, later ones from the feed
VERBS = (
    "soars as large funds report heavy buying",
    "slumps after an exchange reports heavy losses",
    "trades little changed before the meeting",
    "extends its rally to a new high",
    "falls as regulators announce an inquiry",
)
LINES = 26  # shown of what a command prints
PROGRESS = re.compile(r"\d+%\|")
# The real command line, at an instant that its first argument gives.
AT = """
import sys
import pandas as pd
from finsignal import cli
from finsignal.cli import shared
now = pd.Timestamp(sys.argv[1]).as_unit("us")
shared.read_clock = lambda: now
sys.exit(cli.main(sys.argv[2:]))
"""

ARCHIVE = """
name = "archive"
simulated = true
strategy = '{repo}/strategies/news_sentiment.py'
market = "bybit-linear"
bar = "1h"
symbols = ["BTCUSDT", "ETHUSDT"]
start = "2026-06-20"
end = "2026-09-01"
cash = 100_000
[news]
time = "published"
title = "title"
url = "url"
latency = "1min"
[names]
BTCUSDT = ["Bitcoin"]
ETHUSDT = ["Ether"]
[features]
half_life = 6
max_age = 24
min_relevance = 0.5
[weights]
slots = 2
gross = 0.98
holding = 12
[costs]
fee = 0.00055
slippage = 0.0002
delisting_return = -0.3
delisted_after = 72
"""
TOP = """lake = "lake"

[fetch]
prices = "bybit"
funding = true
open_interest = true
back = "60d"
bybit_url = "{url}"

[fetch.feeds.wire]
url = "{url}/wire.rss"

[limits]
stale_prices = 1
silent_news = 24

[parameters]
min_texts = 1
buy_threshold = 0.4
sell_threshold = 0.4
confidence_threshold = 0.5
"""


@dataclass
class Services:
    """Yahoo, Bybit and a feed at one address; what they tell moves on with `market.now`."""

    yahoo: Yahoo
    market: Market
    headlines: Sequence[dict[str, str]]

    def __call__(self, request: Request) -> Answer:
        if request.path == "/wire.rss":
            told = [row for row in self.headlines if ARCHIVED <= pd.Timestamp(row["published"]) <= self.market.now]
            return to_feed_answer(to_rss([{**row, "published": to_stamp(row["published"])} for row in told]))
        return self.market(request) if request.path.startswith("/v5/") else self.yahoo(request)


def make_yahoo(data: Path) -> tuple[Yahoo, str]:
    """Apple's days around its split of 2020, and its news: recorded where the folder is there."""
    if (data / "yahoo_payloads").is_dir():
        chart = read_recorded(data, "chart-AAPL-2020-08-31-to-2020-11-07")
        news = read_recorded(data, "search-AAPL")["news"]
        return Yahoo(charts={"AAPL": chart}, news={"AAPL": news}), "recorded answers of 2025"
    days = make_bars("XNYS", "1d", start="2020-08-31", end="2020-11-07", latency=pd.Timedelta(minutes=1))
    chart = make_chart("AAPL", "1d", make_prices(days), splits={"2020-08-31": (4, 1)})
    item = make_item(1, published=pd.Timestamp("2025-02-24T23:00Z"), title="Apple soars", symbols=["AAPL"])
    return Yahoo(charts={"AAPL": chart}, news={"AAPL": [item]}), "synthetic answers in the recorded shape"


def make_market(data: Path) -> tuple[Market, str]:
    """Eight weeks of two pairs; the last bar, funding rates and open interest of Bitcoin are recorded where there."""
    count = int((LAST - START) / pd.Timedelta(hours=1)) + 1
    bars = {symbol: make_history(symbol, start=str(START.date()), count=count) for symbol in ("BTCUSDT", "ETHUSDT")}
    settled = pd.date_range(START, LAST, freq="8h").as_unit("us")
    hours = pd.date_range(START, LAST + pd.Timedelta(hours=1), freq="h").as_unit("us")
    rng = np.random.default_rng(5)
    funding = {s: _series(s, settled, rate=rng.normal(1e-4, 5e-5, len(settled)).round(8)) for s in bars}
    interest = {s: _series(s, hours, contracts=65_000 + rng.normal(0, 50, len(hours)).cumsum().round(3)) for s in bars}
    said = "synthetic answers in the recorded shape"
    if (data / "bybit_payloads").is_dir():
        said += ", whose latest bar, funding rates and open interest of BTCUSDT are the recorded ones of 2026-08-15"
        closed = _recorded(data, "candles")[1]
        own = bars["BTCUSDT"]
        scale = float(closed[1]) / own["close"].iloc[-2]  # the walk before it ends where the recorded bar opens
        for column in ("open", "high", "low", "close"):
            own[column] = (own[column] * scale).round(1)
        own.loc[count - 1, ["open", "high", "low", "close", "volume"]] = [float(v) for v in closed[1:6]]
        bars["BTCUSDT"] = PRICES.check(own)
        rates = {int(row["fundingRateTimestamp"]): float(row["fundingRate"]) for row in _recorded(data, "funding")}
        funding["BTCUSDT"]["rate"] = _replaced(funding["BTCUSDT"], "rate", rates, pd.Timedelta(0))
        held = {int(row["timestamp"]): float(row["openInterest"]) for row in _recorded(data, "open_interest")}
        interest["BTCUSDT"]["contracts"] = _replaced(interest["BTCUSDT"], "contracts", held, pd.Timedelta(hours=1))
    tables = {
        "funding": FUNDING.to_table(pd.concat(funding.values())),
        "open_interest": OPEN_INTEREST.to_table(pd.concat(interest.values())),
    }
    return Market(bars, LAST, **tables), said


def _series(symbol: str, times: pd.DatetimeIndex, **values: Any) -> pd.DataFrame:
    name = pd.Series([symbol] * len(times), dtype="str")
    return pd.DataFrame({"symbol": name, "time": pd.Series(times, dtype=INSTANT), **values})


def _recorded(data: Path, name: str) -> list[Any]:
    path = data / "bybit_payloads" / f"recorded_2026-08-15_{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["result"]["list"]


def _replaced(table: pd.DataFrame, column: str, stamps: dict[int, float], delay: pd.Timedelta) -> pd.Series:
    known = {pd.Timestamp(stamp, unit="ms", tz="UTC") + delay: value for stamp, value in stamps.items()}
    return table["time"].map(known).fillna(table[column])


def make_headlines() -> list[dict[str, str]]:
    """A headline every 100 minutes, by turns about one and the other; what they say is made up."""
    times = pd.date_range(START, LAST + pd.Timedelta(hours=2), freq="100min") + pd.Timedelta(seconds=7)
    rng = np.random.default_rng(11)
    words = [VERBS[n] for n in rng.integers(0, len(VERBS), len(times))]
    return [
        {
            "id": f"item-{n}",
            "title": f"{('Bitcoin', 'Ether')[n % 2]} {word}, report {n}",
            "url": f"https://wire.test/{n}",
            "published": at.isoformat(),
        }
        for n, (at, word) in enumerate(zip(times, words, strict=True))
    ]


def write_files(folder: Path, url: str, headlines: Sequence[dict[str, str]]) -> None:
    """A job, an archive of headlines, and the run file that says how to read it."""
    archive = ARCHIVE.format(repo=REPO)
    (folder / "archive.toml").write_text(archive, encoding="utf-8")
    before, _, rest = archive.partition("[news]")
    job = before.replace('"archive"', '"job"') + TOP.format(url=url) + "[names]" + rest.partition("[names]")[2]
    (folder / "job.toml").write_text(job, encoding="utf-8")
    old = [row for row in headlines if pd.Timestamp(row["published"]) < ARCHIVED]
    pd.DataFrame(old)[["published", "title", "url"]].to_csv(folder / "headlines.csv", index=False)


@contextmanager
def open_services(data: Path, folder: Path) -> Iterator[tuple[Services, Server]]:
    """The servers for the time of the block, and the files of a user beside; says what the answers are."""
    (yahoo, about_yahoo), (market, about_bybit) = make_yahoo(data), make_market(data)
    services = Services(yahoo, market, make_headlines())
    print(f"yahoo: {about_yahoo}\nbybit: {about_bybit}\nfeed and file: headlines that are made up\n")
    with serve(services) as server:
        write_files(folder, server.url, services.headlines)
        yield services, server


def list_steps(url: str) -> list[tuple[str, int, list[str]]]:
    """The instant, the exit code expected, and the arguments of each command."""
    recorded, fetched, decided = "2025-02-25T06:00:00Z", "2026-08-15T19:03:58Z", "2026-08-15T19:59:10Z"
    bybit = "fetch bybit BTCUSDT ETHUSDT --bar 1h --start 2026-06-20 --funding --open-interest"
    days = "--bar 1d --start 2020-08-31 --end 2020-11-07 --news"
    steps = [
        (recorded, 0, f"fetch yahoo AAPL {days} --base-url {url} --lake shares"),
        (recorded, 6, f"fetch yahoo MSFT --base-url {url} --lake shares"),
        (recorded, 0, "lake status --lake shares"),
        (fetched, 0, f"{bybit} --base-url {url} --lake lake"),
        (fetched, 0, "fetch files archive.toml --news headlines.csv --lake lake"),
        (fetched, 0, f"fetch feed {url}/wire.rss --name wire --run job.toml --lake lake"),
        (fetched, 0, f"{bybit} --base-url {url} --lake lake"),
        (fetched, 0, "lake status --lake lake"),
        (fetched, 0, "backtest job.toml --out runs/job"),
        (fetched, 0, "run job.toml"),
        (decided, 0, "run job.toml --now 2026-08-15T19:59:10Z --out decisions.jsonl"),
        (decided, 0, "run job.toml --now 2026-08-15T19:59:10Z"),
        (decided, 4, "run job.toml --now 2026-08-15T18:59:10Z"),
        (decided, 0, "run job.toml --replay 2026-08-08 2026-08-15"),
        (decided, 0, "status job.toml"),
        (decided, 0, "verify-run runs/job"),
    ]
    return [(now, code, line.split()) for now, code, line in steps]


def run_step(now: str, arguments: list[str], folder: Path) -> tuple[int, list[str]]:
    """The exit code, and what was printed on stdout and then stderr, without progress bars."""
    command = [sys.executable, "-c", AT, now, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if line.strip() and not PROGRESS.search(line)]
    return done.returncode, [*done.stdout.splitlines(), *said]


def main() -> int:
    """Prints each command and its output; 1 where an exit code is not the expected one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REPO.parent / "shared" / "data", help="folder of recorded answers")
    options = parser.parse_args()
    print("$ python benchmarks/whole_path.py > benchmarks/results/whole_path.txt")
    wrong = []
    with tempfile.TemporaryDirectory() as name, open_services(options.data, Path(name)) as (services, server):
        for now, expected, arguments in list_steps(server.url):
            services.market.now = pd.Timestamp(now).as_unit("us")
            code, lines = run_step(now, arguments, Path(name))
            shown = [*lines[:LINES], f"... {len(lines) - LINES} lines more"] if len(lines) > LINES else lines
            text = "\n".join([f"[{now}] $ finsignal {' '.join(arguments)}", *shown, f"exit code {code}", ""])
            print(text.replace(str(Path(name).resolve()), "FOLDER").replace(name, "FOLDER").replace(server.url, "URL"))
            if code != expected:
                wrong.append(f"finsignal {' '.join(arguments)}: exit code {code}, expected {expected}")
    print("\n".join(wrong) if wrong else "every command ended as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
