"""A small world on 127.0.0.1: Bybit with two pairs and a feed of headlines, at an instant that tests move on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from bybit_answers import Market, make_history
from feed_answers import to_feed_answer, to_rss, to_stamp
from replay_server import Answer, Request, Server, serve

from finsignal.config import RunFile, read_run

REPO = Path(__file__).resolve().parents[1]
SYMBOLS = ("BTCUSDT", "ETHUSDT")
NAMES = {"BTCUSDT": "Bitcoin", "ETHUSDT": "Ether"}
WORDS = ("soars", "slumps", "meets")

RUN = """
name = "{name}"
simulated = true
strategy = '{repo}/strategies/news_sentiment.py'
market = "bybit-linear"
bar = "1h"
latency = "1min"
symbols = ["BTCUSDT", "ETHUSDT"]
start = "2026-03-01"
end = "2026-04-01"
cash = 100_000
lake = "lake"

[fetch]
prices = "bybit"
back = "5d"
bybit_url = "{url}"

[fetch.feeds.wire]
url = "{url}/wire.rss"

[names]
BTCUSDT = ["Bitcoin"]
ETHUSDT = ["Ether"]

[features]
half_life = 3
max_age = 4
min_relevance = 0.5

[limits]
stale_prices = 1
silent_news = 24

[parameters]
min_texts = 1
buy_threshold = 0.2
sell_threshold = 0.2

[weights]
slots = 2
gross = 0.98
holding = 5

[costs]
fee = 0.001
slippage = 0.001
delisting_return = -0.3
delisted_after = 50
"""


def make_headlines(start: str, count: int) -> list[dict[str, str]]:
    """One headline in 40 minutes, with its stamp."""
    times = pd.date_range(start, periods=count, freq="40min", tz="UTC") + pd.Timedelta(seconds=7)
    return [
        {
            "id": f"item-{n}",
            "title": f"{NAMES[SYMBOLS[(n // 3) % 2]]} {WORDS[(n * 5 + n // 7) % 3]} in report {n}",
            "url": f"https://wire.test/{n}",
            "published": at.isoformat(),
        }
        for n, at in enumerate(times)
    ]


@dataclass
class World:
    """What the services tell at `now`. `faults` are given first, by the beginning of the path that they are for."""

    folder: Path
    now: pd.Timestamp
    server: Server = field(default_factory=lambda: Server(""))
    market: Market | None = None
    headlines: Sequence[dict[str, str]] = ()
    faults: dict[str, list[Answer]] = field(default_factory=dict)
    down: tuple[str, ...] = ()  # symbols that the exchange answers with an error

    def __call__(self, request: Request) -> Answer:
        for start, answers in self.faults.items():
            if request.path.startswith(start) and answers:
                return answers.pop(0)
        if request.path == "/wire.rss":
            told = [row for row in self.headlines if pd.Timestamp(row["published"]) <= self.now][-30:]
            return to_feed_answer(to_rss([{**row, "published": to_stamp(row["published"])} for row in told]))
        if request.query.get("symbol") in self.down:
            return Answer(b"", 500)
        assert self.market is not None
        self.market.now = self.now
        return self.market(request)

    def clock(self) -> pd.Timestamp:
        return self.now

    def write_run(self, name: str = "world", **changes: str) -> RunFile:
        """A run file that names this world's services; `changes` replace text in it, before=after."""
        text = RUN.format(name=name, repo=REPO, url=self.server.url)
        for old, new in changes.items():
            text = text.replace(old, new)
        path = self.folder / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return read_run(path)


@contextmanager
def open_world(folder: Path, now: str) -> Iterator[World]:
    """A world whose prices begin on 20 February and whose headlines on 1 March 2026, and which ends on 12 March."""
    world = World(folder, pd.Timestamp(now).as_unit("us"))
    world.market = Market({s: make_history(s, start="2026-02-20", count=24 * 20) for s in SYMBOLS}, world.now)
    world.headlines = make_headlines("2026-03-01T00:10", 380)
    with serve(world) as server:
        world.server = server
        yield world
