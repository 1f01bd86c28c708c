"""What other processes do to a ledger in tests/test_ledger.py, and the tables that they write."""

import os
from contextlib import closing
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.errors import FinsignalError
from finsignal.ledger import TEXTS, lock, open_ledger, write_decisions
from finsignal.tables import INSTANT, SIGNALS, STATE, WEIGHTS

START = pd.Timestamp("2026-11-20T14:29Z").as_unit("us")
MINUTE = pd.Timedelta("1min")


def make_decisions(
    time: pd.Timestamp = START, *, signal: str = "BUY", score: float = 0.25, symbols: tuple[str, ...] = ("AAPL", "TSLA")
) -> dict[str, Any]:
    """What a pass hands to `write_decisions`: every symbol gets the same, and one text behind it."""
    base = pd.DataFrame({"symbol": [*symbols], "time": time, "open_time": time + MINUTE})
    state = {
        "weight": 0.1,
        "filled": True,
        "fill": time - MINUTE,
        "renewed": pd.Series([None] * len(base), dtype=INSTANT),
    }
    text = {"share": 1.0, "p_negative": 0.1, "p_neutral": 0.2, "p_positive": 0.7, "title": "Up", "source": "wire"}
    return {
        "signals": SIGNALS.to_table(base.assign(score=score, confidence=0.7, signal=signal)),
        "weights": WEIGHTS.to_table(base.assign(weight=0.1)),
        "state": STATE.to_table(base[["symbol"]].assign(**state)),
        "texts": TEXTS.to_table(
            base[["symbol"]].assign(article_id="a1", url="https://x.invalid/1", published=time, known=time, **text)
        ),
        "model": "words@1f2e",
        "pass_row": {"now": time, "outcome": "decided", "code": 0},
    }


def try_lock(url: str, together: Barrier, done: Event, say: Connection) -> None:
    """Says 'got it' or the error; the one that got it holds the lock until it is told."""
    with closing(open_ledger(url)) as ledger:
        together.wait()
        try:
            with lock(ledger, "news"):
                say.send("got it")
                done.wait()
        except FinsignalError as err:
            say.send(f"{type(err).__name__}: {err}")


def write_on(url: str, strategy: str, first: int, count: int, say: Connection) -> None:
    """Writes the decisions of minute after minute, and says the number of each when it is written."""
    with closing(open_ledger(url, durable=False)) as ledger:
        for number in range(first, first + count):
            new = write_decisions(ledger, strategy, **make_decisions(START + number * MINUTE))
            say.send((number, new))


def open_as_nobody(path: str, say: Connection) -> None:
    """Says the error of opening a ledger that only its owner may write, and of one not yet there, beside it."""
    with closing(open_ledger(Path(path))):
        pass
    os.chmod(path, 0o444)
    os.chmod(Path(path).parent, 0o555)
    if os.geteuid() == 0:  # whom no permission stops
        os.setuid(65534)
    for name, create in ((path, True), (path, False), (path + "2", True)):
        try:
            with closing(open_ledger(name, create=create)):
                say.send("opened")
        except FinsignalError as err:
            say.send(f"{type(err).__name__}: {err}")
