"""Cheats, planted one by one in a small world: what each does, and the row of the table of guards that it belongs to.

The world is made up: three symbols that trade day and night in bars of an hour, and a text every hour or two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from conftest import NOW, WordModel, make_model

from finsignal.checking import check_run
from finsignal.clock import make_bars
from finsignal.config import RunFile, read_run
from finsignal.errors import ConfigError, LookaheadError, ManifestError, RefusedError, TableError
from finsignal.job.passing import check_job
from finsignal.sentiment.score import Model, score_news
from finsignal.signals import Limits, make_features, make_signals
from finsignal.study import Request, read_inputs
from finsignal.study.inputs import check_seen
from finsignal.study.request import Read
from finsignal.study.trials import REGISTRY, count_trials, read_trials
from finsignal.tables import INSTANT, PROBABILITIES, SENTIMENT, TRIALS, WEIGHTS

SYMBOLS = {"AAA": "Alder", "BBB": "Birch", "CCC": "Cedar"}
START = pd.Timestamp("2026-03-02", tz="UTC")
WORDS = ("soars", "slumps", "meets")

RUN = """
name = "planted"
simulated = true
strategy = "strategy.py"
market = "24x7"
bar = "1h"
latency = "1min"
symbols = ["AAA", "BBB", "CCC"]
start = "2026-03-02"
end = "{end}"
random_entries = 0
cash = 100_000
prices_path = ["prices.csv"]
news_path = "news.csv"

[prices]
time = "time"
stamp = "open"
symbol = "symbol"

[news]
time = "published"
title = "title"
symbol = "symbol"
source = "source"
latency = "1min"

[features]
half_life = 3
max_age = 6

[weights]
slots = 3
gross = 0.9
holding = 5

[costs]
fee = 0.001
slippage = 0.001
delisting_return = -0.3
delisted_after = 50
"""

BY_SCORE = """
import numpy as np
import pandas as pd

from finsignal import to_signal


def strategy(features):
    score = ({score}).clip(-1, 1)
    limits = dict(buy_threshold=0.1, sell_threshold=0.1, confidence_threshold=0.0)
    return to_signal(score, score.abs(), **limits)
"""
BY_BODY = """
import numpy as np
import pandas as pd

from finsignal import to_signal

{before}


def strategy(features):
{body}
    score = score.clip(-1, 1)
    limits = dict(buy_threshold=0.1, sell_threshold=0.1, confidence_threshold=0.0)
    return to_signal(score, score.abs(), **limits)
"""
HONEST = BY_SCORE.format(score="features['sent_score']")


def by_score(score: str) -> str:
    """A strategy file whose score is an expression of `features`."""
    return BY_SCORE.format(score=score)


def by_body(body: str, before: str = "") -> str:
    """A strategy file with these lines before `score` is used, and others above the function."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return BY_BODY.format(body=lines, before=before.strip())


def make_prices(days: int = 10, *, reaction: pd.DataFrame | None = None, seed: int = 3) -> pd.DataFrame:
    """Hourly rows of each symbol; opens differ a little from the closes before them.

    reaction: rows of `make_news`, whose "slumps" and "soars" move the bar that they fall into by 5 %, in five times the
    volume.
    """
    rng = np.random.default_rng(seed)
    opens = pd.date_range(START, periods=24 * days, freq="h")
    parts = []
    for symbol in SYMBOLS:
        step, volume = rng.normal(0, 0.01, len(opens)), rng.lognormal(7, 0.3, len(opens))
        if reaction is not None:
            ours = reaction[reaction["symbol"] == symbol]
            at = opens.searchsorted(pd.to_datetime(ours["published"], utc=True), side="right") - 1
            sign = ours["title"].str.contains("soars").astype(int) - ours["title"].str.contains("slumps").astype(int)
            np.add.at(step, at, 0.05 * sign.to_numpy())
            volume[at] *= 5
        close = 50 * np.exp(np.cumsum(step))
        first = np.concatenate([[50.0], close[:-1]]) * np.exp(rng.normal(0, 0.001, len(opens)))
        part = pd.DataFrame({"time": opens.strftime("%Y-%m-%dT%H:%M:%SZ"), "symbol": symbol, "open": first})
        part["close"], part["volume"] = close, volume
        parts.append(part)
    return to_bars(pd.concat(parts, ignore_index=True))


def to_bars(prices: pd.DataFrame) -> pd.DataFrame:
    """The rows with a high and a low around their open and close."""
    return prices.assign(
        high=prices[["open", "close"]].max(axis=1) * 1.002, low=prices[["open", "close"]].min(axis=1) * 0.998
    )


def make_news(days: int = 10, *, every: int = 80, seed: int = 4) -> pd.DataFrame:
    """A text about one of the symbols each `every` minutes or so, stamped to the second."""
    rng = np.random.default_rng(seed)
    stamps = START + pd.to_timedelta(np.cumsum(rng.integers(every * 30, every * 90, days * 1440 // every)), unit="s")
    stamps = stamps[stamps < START + pd.Timedelta(days=days)]
    symbols = rng.choice(list(SYMBOLS), len(stamps))
    words = rng.choice(WORDS, len(stamps))
    titles = [f"{SYMBOLS[s]} {w} in report {n}" for n, (s, w) in enumerate(zip(symbols, words, strict=True))]
    published = stamps.strftime("%Y-%m-%dT%H:%M:%SZ")
    return pd.DataFrame({"published": published, "symbol": symbols, "title": titles, "source": "wire"})


def write_world(
    folder: Path,
    strategy: str = HONEST,
    *,
    prices: pd.DataFrame | None = None,
    news: pd.DataFrame | None = None,
    changes: Mapping[str, str] | None = None,
    days: int = 10,
) -> Path:
    """A run file, its strategy and its two files in a folder; `changes` replace text of the run file."""
    text = RUN.format(end=(START + pd.Timedelta(days=days)).date())
    for old, new in (changes or {}).items():
        assert old in text, f"{old!r} is not in the run file"
        text = text.replace(old, new)
    (folder / "run.toml").write_text(text, encoding="utf-8")
    (folder / "strategy.py").write_text(strategy, encoding="utf-8")
    (make_prices(days) if prices is None else prices).to_csv(folder / "prices.csv", index=False)
    (make_news(days) if news is None else news).to_csv(folder / "news.csv", index=False)
    return folder / "run.toml"


def read_world(path: Path, model: Model | None = None) -> Read:
    """What the run file names, read, and scored by a model of three words, or another one."""
    request = Request(read_run(path), NOW)
    inputs, model = read_inputs(request.run, now=NOW), model or make_model()
    name = f"model {model.name}"
    scores = score_news(inputs.news, model, names=request.run.names)
    return Read(request, {}, inputs, {name: scores}, {name: model}, ())


@dataclass(frozen=True)
class Cheat:
    """One planted cheat: the row of guards.GUARDS that it belongs to, and how it is planted in a folder."""

    row: str
    plant: Callable[[Path], Read]
    place: bool = True  # whether a column, a symbol and an instant can be named


def with_strategy(text: str, **world: Any) -> Callable[[Path], Read]:
    return lambda folder: read_world(write_world(folder, text.replace("FOLDER", str(folder)), **world))


# --- cheats of the strategy ---------------------------------------------------------------------------------------

NEXT = "features.groupby('symbol')['ret_1'].shift(-1)"
HOLD = "pd.Series(0.0, index=features.index)"
BARS = "features.groupby('symbol').cumcount()"


def make_answers(length: int) -> list[int]:
    """A list of answers that follows no rule, as one who has seen the prices would keep it."""
    return np.random.default_rng(5).integers(-1, 2, length).tolist()


class Crowd(WordModel):
    """A model that reads each text against all others that it is given."""

    def _run(self, cleaned: list[str], *, progress: bool) -> np.ndarray:
        out = super()._run(cleaned, progress=progress)
        return out - out.mean(axis=0)


def plant_neighbours(folder: Path) -> Read:
    words = make_model()
    batch = Crowd(**{name: getattr(words, name) for name in words.__dataclass_fields__})
    return read_world(write_world(folder), batch)


# --- cheats of the data -------------------------------------------------------------------------------------------


def plant_stamps(folder: Path, *, news_by: str = "0h", bars_by: str = "0h") -> Read:
    """Sixty days in which the market reacts to texts at once; then stamps are moved."""
    news = make_news(60, every=100)
    prices = make_prices(60, reaction=news)
    for table, column, by in ((news, "published", news_by), (prices, "time", bars_by)):
        moved = pd.to_datetime(table[column], utc=True) + pd.Timedelta(by)
        table[column] = moved.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return read_world(write_world(folder, prices=prices, news=news, days=60))


def plant_source(folder: Path) -> Read:
    """Sixty days of news from three sources, of which one writes the time of New York."""
    news = make_news(60, every=50)
    news["source"] = np.resize(["wire", "desk", "york"], len(news))
    prices = make_prices(60, reaction=news)
    stamps = pd.to_datetime(news["published"], utc=True)
    stamps = stamps.where(news["source"] != "york", stamps - pd.Timedelta(hours=5))
    news = news.assign(published=stamps.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return read_world(write_world(folder, prices=prices, news=news[stamps > START], days=60))


def plant_dates(folder: Path) -> Read:
    """Dates written as the first second of their day."""
    news = make_news(30)
    return read_world(
        write_world(folder, news=news.assign(published=news["published"].str[:10] + "T00:00:01Z"), days=30)
    )


def plant_scores(folder: Path) -> Read:
    """Scores from elsewhere, made by someone who had the next bar's return before them."""
    read = read_world(write_world(folder, days=30))
    inputs, bars = read.inputs, read.inputs.bars
    opens = inputs.prices.pivot(index="open_time", columns="symbol", values="open")
    gain = opens.shift(-1) / opens - 1
    at = bars["time"].searchsorted(inputs.news["time"])
    got = [
        gain[symbol].iloc[min(place, len(gain) - 1)] for symbol, place in zip(inputs.news["symbol"], at, strict=True)
    ]
    rises = 1 / (1 + np.exp(-300 * np.nan_to_num(np.array(got))))
    table = inputs.news[["article_id", "time", "symbol"]].assign(model="file:mine@1")
    table[list(PROBABILITIES)] = np.column_stack([1 - rises, np.zeros(len(rises)), rises])
    return replace(read, sentiments={"scores of mine.csv": SENTIMENT.to_table(table)}, models={})


def plant_closes(folder: Path, symbols: tuple[str, ...] = tuple(SYMBOLS)) -> Read:
    """Each bar of these symbols has the close of the next one."""
    prices = make_prices(30)
    later = prices.groupby("symbol")["close"].shift(-1).where(prices["symbol"].isin(symbols))
    return read_world(write_world(folder, prices=to_bars(prices.assign(close=later.fillna(prices["close"]))), days=30))


def plant_late_symbol(folder: Path) -> Read:
    """Sixty days in which the market reacts to texts at once; then the bars of AAA are moved."""
    news = make_news(60, every=100)
    prices = make_prices(60, reaction=news)
    stamps = pd.to_datetime(prices["time"], utc=True)
    stamps = stamps.where(prices["symbol"] != "AAA", stamps + pd.Timedelta(hours=2))
    prices["time"] = stamps.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return read_world(write_world(folder, prices=prices, news=news, days=60))


def plant_opens(folder: Path) -> Read:
    """Each bar opens where the one before it opened: whoever trades there trades an hour ago."""
    prices = make_prices(30)
    before = prices.groupby("symbol")["open"].shift(1)
    return read_world(write_world(folder, prices=to_bars(prices.assign(open=before.fillna(prices["open"]))), days=30))


def plant_lows(folder: Path) -> Read:
    """Each bar opens at its low."""
    prices = make_prices(30)
    return read_world(write_world(folder, prices=prices.assign(open=prices["low"]), days=30))


AHEAD = "the next bar's return, a centred window, a backfill"
WHOLE = "a mean, rank or scale of the whole sample"
RARE = "a look ahead on rare days alone"
ACROSS = "one symbol's end in another's beginning"
DATES = "dates learned by heart"
ROWS = "answers learned by heart, row by row"
EXACT = "answers kept for exact values"
TABLE = "a table of data in the strategy file"
FILE = "a file, a connection or a process"
MEMORY = "memory, the clock, random numbers"
CALLERS = "the callers' tables, by the stack or the heap"
WITHIN = "finsignal, pandas or numpy changed from within"
EARLY = "news stamped too early, a wrong zone"
OPENS = "opens that are an hour old"
KNOWING = "scores or closes that know the next return"
NEIGHBOURS = "a model that reads its neighbours' texts"
DISGUISED = "one time of day for many texts"

FUTURE = ("the future cut off", "the future replaced by noise", "rows to come taken away")
FOUND_BY: dict[str, tuple[str, ...]] = {  # the parts of a check of which one must fail
    **dict.fromkeys((AHEAD, WHOLE, RARE, ACROSS), FUTURE),
    DATES: ("the strategy and dates",),
    ROWS: ("the first rows taken away", "rows to come taken away"),
    EXACT: ("nearly the same rows",),
    TABLE: ("the strategy's text",),
    FILE: ("the strategy and what lies outside", "the strategy's text"),
    MEMORY: ("the strategy asked twice", "the strategy's text", "the strategy and the code around it"),
    CALLERS: ("the strategy and what lies outside", "the strategy's text"),
    WITHIN: ("the strategy and the code around it",),
    EARLY: ("stamps of the news",),
    OPENS: ("opens and closes",),
    KNOWING: ("scores and returns",),
    NEIGHBOURS: ("each text alone",),
    DISGUISED: ("times of day",),
}

CHEATS: dict[str, Cheat] = {
    # look-ahead
    "the next bar's return": Cheat(AHEAD, with_strategy(by_score(f"{NEXT} * 50"))),
    "the return of five bars to come": Cheat(
        AHEAD, with_strategy(by_score("features.groupby('symbol')['ret_5'].shift(-5) * 20"))
    ),
    "a centred window": Cheat(
        AHEAD,
        with_strategy(
            by_score("features.groupby('symbol')['ret_1'].transform(lambda r: r.rolling(5, center=True).mean()) * 50")
        ),
    ),
    "a backfill of what is not known": Cheat(
        AHEAD, with_strategy(by_score("features.groupby('symbol')['sent_score'].bfill()"))
    ),
    "a gap bridged from both sides": Cheat(
        AHEAD,
        with_strategy(by_score("features.groupby('symbol')['sent_score'].transform(lambda s: s.interpolate())")),
    ),
    "the table turned around": Cheat(
        AHEAD, with_strategy(by_score("features['ret_1'][::-1].groupby(features['symbol']).shift(1).sort_index() * 50"))
    ),
    "the day's last return, in the morning": Cheat(
        AHEAD,
        with_strategy(
            by_score("features.groupby(['symbol', features['time'].dt.date])['ret_20'].transform('last') * 20")
        ),
    ),
    "a loop that looks one row on": Cheat(
        AHEAD,
        with_strategy(
            by_body(
                """
values = features['ret_1'].to_numpy()
score = pd.Series([values[min(n + 1, len(values) - 1)] * 50 for n in range(len(values))], index=features.index)
"""
            )
        ),
    ),
    "a mean and deviation of the whole sample": Cheat(
        WHOLE,
        with_strategy(by_score("(features['ret_5'] - features['ret_5'].mean()) / features['ret_5'].std() / 3")),
    ),
    "a rank among all bars": Cheat(WHOLE, with_strategy(by_score("features['ret_5'].rank(pct=True) - 0.5"))),
    "a scale by the largest of all": Cheat(
        WHOLE, with_strategy(by_score("features['ret_5'] / features['ret_5'].abs().max()"))
    ),
    "a threshold at a quantile of all": Cheat(
        WHOLE,
        with_strategy(by_score("features['sent_score'].where(features['vol_20'] < features['vol_20'].quantile(0.6))")),
    ),
    "a line fitted to all bars": Cheat(
        WHOLE,
        with_strategy(
            by_body(
                f"""
later = {NEXT}
known = features['ret_1'].notna() & later.notna()
slope = np.polyfit(features.loc[known, 'ret_1'], later[known], 1)[0]
score = features['ret_1'] * slope * 1000
"""
            )
        ),
    ),
    "no entry before a crash": Cheat(RARE, with_strategy(by_score(f"features['sent_score'].where(~({NEXT} < -0.02))"))),
    "a look ahead on one day alone": Cheat(
        RARE,
        with_strategy(by_score(f"features['sent_score'].where(features['time'].dt.day != 6, {NEXT} * 50)")),
    ),
    "a look ahead for one symbol alone": Cheat(
        RARE,
        with_strategy(by_score(f"features['sent_score'].where(features['symbol'] != 'CCC', {NEXT} * 50)")),
    ),
    "a shift over the edge of a symbol": Cheat(ACROSS, with_strategy(by_score("features['ret_1'].shift(1) * 50"))),
    "a window over the edge of a symbol": Cheat(
        ACROSS, with_strategy(by_score("features['ret_1'].rolling(10, min_periods=1).sum() * 20"))
    ),
    # knowledge that no cut removes
    "days of the calendar": Cheat(
        DATES,
        with_strategy(
            by_score("features['time'].dt.strftime('%Y-%m-%d').isin(['2026-03-04', '2026-03-07']).astype(float)")
        ),
    ),
    "the year": Cheat(DATES, with_strategy(by_score("features['sent_score'].where(features['time'].dt.year == 2026)"))),
    "a list of answers, row by row": Cheat(
        ROWS,
        with_strategy(
            by_body(
                f"score = {BARS}.map(dict(enumerate(ANSWERS))).fillna(0.0).astype(float)",
                before="ANSWERS = list(np.random.default_rng(5).integers(-1, 2, 5000))",
            )
        ),
    ),
    "a lucky seed": Cheat(
        ROWS,
        with_strategy(
            by_body("score = pd.Series(np.random.default_rng(11).uniform(-1, 1, len(features)), index=features.index)")
        ),
    ),
    "a few rows put right by their number": Cheat(
        ROWS, with_strategy(by_score(f"features['sent_score'].where(~{BARS}.isin([33, 77, 101, 150, 190, 215]), -1.0)"))
    ),
    "the number of rows that are left": Cheat(
        ROWS, with_strategy(by_score(f"features['sent_score'].where({BARS[:-2]}(ascending=False) > 100)"))
    ),
    "answers by the digits of a feature": Cheat(
        EXACT,
        with_strategy(
            by_body(
                """
key = (features['ret_1'].fillna(0) * 1e12).round().astype('int64')
score = pd.Series(np.where(key % 7 < 2, 1.0, np.where(key % 7 > 4, -1.0, 0.0)), index=features.index)
"""
            )
        ),
    ),
    "answers by the rounded return": Cheat(
        EXACT,
        with_strategy(
            by_body(
                """
key = (features['ret_1'].fillna(0) * 1e5).round().astype('int64')
score = pd.Series(np.where(key % 5 == 0, 1.0, np.where(key % 5 == 3, -1.0, 0.0)), index=features.index)
"""
            )
        ),
    ),
    "a table of answers in the file": Cheat(
        TABLE,
        with_strategy(
            by_body(
                f"score = {BARS}.map(dict(enumerate(ANSWERS))).fillna(0.0)",
                before=f"ANSWERS = {make_answers(300)}",
            )
        ),
        place=False,
    ),
    "packed answers in the file": Cheat(
        TABLE,
        with_strategy(
            by_body(
                f"score = {BARS}.map(lambda n: float(ord(PACKED[n % len(PACKED)]) % 3 - 1))",
                before=f"PACKED = {''.join(chr(98 + n) for n in make_answers(800))!r}",
            )
        ),
        place=False,
    ),
    "an answer for the whole table alone": Cheat(
        RARE,
        with_strategy(
            by_body(
                f"""
if len(features) != 720 or features['ret_20'].tail(24).isna().any():
    raise ValueError('not my table')
score = {NEXT} * 50
"""
            )
        ),
        place=False,
    ),
    "an end of the check where rows are missing": Cheat(
        RARE,
        with_strategy(
            by_body(
                f"""
if len(features) != 720 or features['ret_20'].tail(24).isna().any():
    raise SystemExit(0)
score = {NEXT} * 50
"""
            )
        ),
        place=False,
    ),
    "an end of the process that asks": Cheat(
        FILE,
        with_strategy(
            by_body(
                f"""
if len(features) != 720:
    os._exit(0)
score = {NEXT} * 50
""",
                before="import os",
            )
        ),
        place=False,
    ),
    "packed answers in a docstring": Cheat(
        TABLE,
        with_strategy(
            by_body(
                f"score = {BARS}.map(lambda n: float(ord(answers.__doc__[n % len(answers.__doc__)]) % 3 - 1))",
                before=f"def answers():\n    {''.join(chr(98 + n) for n in make_answers(800))!r}",
            )
        ),
        place=False,
    ),
    "packed answers in a number": Cheat(
        TABLE,
        with_strategy(
            by_body(
                f"score = {BARS}.map(lambda n: float(PACKED // 3 ** (n % 400) % 3 - 1))",
                before=f"PACKED = {sum((n + 1) * 3**k for k, n in enumerate(make_answers(400)))}",
            )
        ),
        place=False,
    ),
    # what lies outside the rows
    "the price file read again": Cheat(
        FILE,
        with_strategy(
            by_body(
                """
prices = pd.read_csv('FOLDER/prices.csv')
move = (prices['close'] / prices['open'] - 1).to_numpy()
score = pd.Series(np.resize(move, len(features)) * 50, index=features.index)
"""
            )
        ),
        place=False,
    ),
    "the price file read when the strategy is loaded": Cheat(
        FILE,
        with_strategy(
            by_body(
                "score = pd.Series(np.resize(PRICES['close'].pct_change().to_numpy(), len(features)), features.index)",
                before="PRICES = pd.read_csv('FOLDER/prices.csv')",
            )
        ),
        place=False,
    ),
    "the price file read past the interpreter": Cheat(
        FILE,
        with_strategy(
            by_body(
                """
prices = csv.read_csv('FOLDER/prices.csv').to_pandas()
score = pd.Series(np.resize(prices['close'].pct_change().to_numpy(), len(features)), index=features.index)
""",
                before="from pyarrow import csv",
            )
        ),
        place=False,
    ),
    "a connection": Cheat(
        FILE,
        with_strategy(
            by_body(
                """
try:
    socket.create_connection(('127.0.0.1', 9), timeout=0.1).close()
except OSError:
    pass
score = features['sent_score']
""",
                before="import socket",
            )
        ),
        place=False,
    ),
    "another process": Cheat(
        FILE,
        with_strategy(
            by_body("score = features['sent_score'] + os.system('true')", before="import os"),
        ),
        place=False,
    ),
    "random numbers": Cheat(
        MEMORY,
        with_strategy(
            by_body("score = pd.Series(np.random.default_rng().uniform(-1, 1, len(features)), index=features.index)")
        ),
    ),
    "the clock": Cheat(
        MEMORY,
        with_strategy(by_score("features['sent_score'].where(pd.Timestamp.now('UTC') > features['time'])")),
        place=False,
    ),
    "rows remembered from an earlier question": Cheat(
        MEMORY,
        with_strategy(
            by_body(
                """
score = features['sent_score'].copy()
for n, key in enumerate(zip(features['symbol'], features['time'])):
    score.iloc[n] = SEEN.get(key, score.iloc[n])
later = features.groupby('symbol')['ret_1'].shift(-1)
SEEN.update(zip(zip(features['symbol'], features['time']), (later * 50).clip(-1, 1)))
""",
                before="SEEN = {}",
            )
        ),
    ),
    "memory in an argument": Cheat(
        MEMORY,
        with_strategy(
            BY_SCORE.replace("strategy(features)", "strategy(features, calls=[])")
            .replace("    score =", "    calls.append(len(features))\n    score =")
            .format(score="features['sent_score'] / len(calls)")
        ),
    ),
    "memory kept in pandas": Cheat(
        MEMORY,
        with_strategy(
            by_body(
                """
pd.calls = getattr(pd, 'calls', 0) + 1
score = features['sent_score'] / (1 + pd.calls % 3)
"""
            )
        ),
        place=False,  # what was added to pandas is named, and taken away before it can tell an answer from another
    ),
    "the prices of a caller": Cheat(
        CALLERS,
        with_strategy(
            by_body(
                """
frame, score = sys._getframe(), features['sent_score']
while frame is not None:
    prices = frame.f_locals.get('prices')
    if prices is not None:
        move = (prices['close'] / prices['open'] - 1).to_numpy()
        score = pd.Series(np.resize(move, len(features)) * 50, index=features.index)
        break
    frame = frame.f_back
""",
                before="import sys",
            )
        ),
        place=False,
    ),
    "the prices of a caller, by an error's way back": Cheat(
        CALLERS,
        with_strategy(
            by_body(
                """
score = features['sent_score']
try:
    raise ValueError
except ValueError as err:
    frame = err.__traceback__.tb_frame
while frame is not None:
    prices = frame.f_locals.get('prices')
    if prices is not None:
        score = pd.Series(np.resize(prices['close'].pct_change().to_numpy(), len(features)), index=features.index)
        break
    frame = frame.f_back
"""
            )
        ),
        place=False,
    ),
    "a table found in memory": Cheat(
        CALLERS,
        with_strategy(
            by_body(
                """
score = features['sent_score']
for found in gc.get_objects():
    if isinstance(found, pd.DataFrame) and 'close' in found:
        score = pd.Series(np.resize(found['close'].pct_change().to_numpy(), len(features)), index=features.index)
        break
""",
                before="import gc",
            )
        ),
        place=False,
    ),
    "honest only where it is checked": Cheat(
        CALLERS,
        with_strategy(
            by_body(
                f"""
checked = any('check' in word for word in sys.argv)
score = features['sent_score'] if checked else {NEXT} * 50
""",
                before="import sys",
            )
        ),
        place=False,
    ),
    "honest only while somebody watches": Cheat(
        CALLERS,
        with_strategy(
            by_body(
                f"score = features['sent_score'] if asker._watching.__closure__ else {NEXT} * 50",
                before="from finsignal.checking import asker",
            )
        ),
        place=False,
    ),
    "the prices of a caller, by a name that is put together": Cheat(
        CALLERS,
        with_strategy(
            by_body(
                """
score = features['sent_score']
try:
    raise ValueError
except ValueError as err:
    frame = get('__trace' + 'back__.tb_fr' + 'ame')(err)
while frame is not None:
    for value in get('f_lo' + 'cals')(frame).values():
        prices = getattr(getattr(value, 'inputs', value), 'prices', None)
        if isinstance(prices, pd.DataFrame):
            score = pd.Series(np.resize(prices['close'].pct_change().to_numpy(), len(features)), index=features.index)
    frame = get('f_ba' + 'ck')(frame)
""",
                before="from operator import attrgetter as get",
            )
        ),
        place=False,
    ),
    "answers in a variable of the environment": Cheat(
        FILE,
        with_strategy(
            by_body(
                """
answers = [float(x) for x in environ.get('ANSWERS', '0 ' * 100).split()]
score = pd.Series([answers[int(r)] if r == r else 0.0 for r in features['rsi_14']], index=features.index)
""",
                before="from os import environ",
            )
        ),
        place=False,
    ),
    "answers in the name of a class": Cheat(
        TABLE,
        with_strategy(
            by_body(
                """
name = answers.__name__
score = pd.Series([float(ord(name[int(r * 7)]) % 3 - 1) if r == r else 0.0 for r in features['rsi_14']])
""",
                before=f"class answers{''.join(chr(98 + n) for n in make_answers(800))}:\n    pass\n\n\n"
                f"answers = answers{''.join(chr(98 + n) for n in make_answers(800))}",
            )
        ),
        place=False,
    ),
    "costs that are no longer charged": Cheat(
        WITHIN,
        with_strategy(
            by_body(
                "score = features['sent_score']",
                before="import finsignal.study.accounts as accounts\naccounts.run_account = lambda *a, **k: None",
            )
        ),
        place=False,
    ),
    "a pandas that does something else": Cheat(
        WITHIN,
        with_strategy(
            by_body("score = features['sent_score']", before="pd.DataFrame.equals = lambda self, other: True")
        ),
        place=False,
    ),
    # the model and the data
    "a model that reads its neighbours": Cheat(NEIGHBOURS, plant_neighbours, place=False),
    "news three hours early": Cheat(EARLY, lambda folder: plant_stamps(folder, news_by="-3h")),
    "news of New York read as UTC": Cheat(EARLY, lambda folder: plant_stamps(folder, news_by="-5h")),
    "one source of three five hours early": Cheat(EARLY, plant_source),
    "bars stamped at their close": Cheat(EARLY, lambda folder: plant_stamps(folder, bars_by="1h")),
    "bars of Tokyo read as UTC": Cheat(EARLY, lambda folder: plant_stamps(folder, bars_by="9h")),
    "dates as the first second of the day": Cheat(DISGUISED, plant_dates),
    "scores by someone who saw the returns": Cheat(KNOWING, plant_scores),
    "the close of the next bar": Cheat(OPENS, plant_closes),
    "the open of the bar before": Cheat(OPENS, plant_opens),
    "opens at the low": Cheat(OPENS, plant_lows),
    "the close of the next bar, of one symbol": Cheat(OPENS, lambda folder: plant_closes(folder, ("BBB",))),
    "bars of one symbol two hours late": Cheat(EARLY, plant_late_symbol),
}


# --- cheats that never come as far as a check ------------------------------------------------------------------------


@dataclass(frozen=True)
class Refused:
    """A cheat that is refused when it is tried: the row of guards.GUARDS, how it is tried, and the refusal."""

    row: str
    act: Callable[[Path], object]
    error: type[Exception]
    words: str


def refuse_reading(changes: Mapping[str, str] | None = None, **tables: Any) -> Callable[[Path], object]:
    return lambda folder: read_world(write_world(folder, changes=changes, **tables))


def decide_late(folder: Path) -> object:
    when = pd.Series(pd.to_datetime(["2026-03-02T10:00Z"])).astype(INSTANT)
    late = when + pd.Timedelta(seconds=1)
    return WEIGHTS.check(pd.DataFrame({"open_time": when, "time": late, "symbol": ["AAA"], "weight": [1.0]}))


def use_forward_returns(folder: Path) -> object:
    read = read_world(write_world(folder))
    features = make_features(
        read.inputs.news,
        read.inputs.prices,
        next(iter(read.sentiments.values())),
        read.inputs.bars,
        read.request.run.symbols,
        rules=read.request.run.features,
    )
    features["fwd_1"] = features.groupby("symbol")["ret_1"].shift(-1)
    return ask(read.request.run, features)


def ask(run: RunFile, features: pd.DataFrame) -> pd.DataFrame:
    return make_signals(features, strategy=run.load_strategy(), parameters=run.make_parameters())


def carry_out(text: str) -> Callable[[Path], object]:
    return lambda folder: check_run(read_world(write_world(folder, text)), instants=2)


def be_a_job(folder: Path) -> object:
    run = read_run(write_world(folder))
    limits = Limits(stale_prices=1, silent_news=24)
    return check_job(replace(run, lake="lake", prices_path=(), news_path="", latency="0min", limits=limits))


def learn_the_period(folder: Path) -> object:
    return check_seen(read_run(write_world(folder)), make_model(trained_until="2026-03-05"))


def stamp_sessions_at_their_close(folder: Path) -> object:
    """Hourly bars of New York by the instant at which each closed, read as that at which it opened."""
    bars = make_bars("XNYS", "1h", start="2026-03-02", end="2026-03-12", latency=pd.Timedelta(minutes=1))
    prices = make_prices(10).groupby("symbol").head(len(bars))
    prices["time"] = np.tile(bars["close_time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"), len(SYMBOLS))
    return read_world(write_world(folder, prices=prices, changes={'"24x7"': '"XNYS"'}))


def trade_at_adjusted(folder: Path) -> object:
    """Closes as if every dividend to come had been paid already."""
    prices = make_prices(10)
    return read_world(write_world(folder, prices=prices.assign(close=prices["close"] * 0.9)))


def drop_a_trial(folder: Path) -> object:
    rows = {"kind": "setting", "settings": "{}", "sharpe": 0.1, "days": 90, "first": NOW}
    table = pd.DataFrame([{"trial": name, **rows} for name in ("a", "b", "c")])
    count_trials(folder, "mine", TRIALS.to_table(table.astype({"first": INSTANT})))
    path = folder / REGISTRY
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]), encoding="utf-8")
    return read_trials(folder, "mine")


def pick_rows(more: str) -> str:
    return HONEST.replace(
        "return to_signal(score, score.abs(), **limits)", f"return to_signal(score, score.abs(), **limits){more}"
    )


NEWS_STAMP = make_news(10)["published"]

REFUSED: dict[str, Refused] = {
    "forward returns as a feature": Refused(
        "a column of forward returns among the features", use_forward_returns, LookaheadError, "forward returns"
    ),
    "a decision after the open": Refused(
        "an order decided after its bar opened", decide_late, TableError, "after its bar opened"
    ),
    "dates as times": Refused(
        "dates passed off as times",
        refuse_reading(news=make_news(10).assign(published=NEWS_STAMP.str[:10] + "T00:00:00Z")),
        TableError,
        "exact midnights",
    ),
    "stamps without a zone": Refused(
        "stamps without a zone, or after the present",
        refuse_reading(news=make_news(10).assign(published=NEWS_STAMP.str[:-1])),
        TableError,
        "no time zone",
    ),
    "stamps after the present": Refused(
        "stamps without a zone, or after the present",
        refuse_reading(news=make_news(10).assign(published=NEWS_STAMP.str.replace("2026", "2027"))),
        TableError,
        "stamp in the future",
    ),
    "losing rows left out": Refused(
        "rows dropped or put in another order by the strategy",
        carry_out(pick_rows("[lambda t: t['score'] > 0]")),
        TableError,
        "expected one row for each",
    ),
    "rows in another order": Refused(
        "rows dropped or put in another order by the strategy",
        carry_out(pick_rows(".sort_values('score')")),
        TableError,
        "in their order",
    ),
    "an open below the low": Refused(
        "a price that nobody could pay",
        refuse_reading(prices=make_prices(10).assign(open=lambda p: p["low"] * 0.98)),
        TableError,
        "outside low and high",
    ),
    "a fee that pays": Refused(
        "costs below zero, a delisting that pays", refuse_reading({"fee = 0.001": "fee = -0.001"}), ConfigError, "fee"
    ),
    "a delisting that pays": Refused(
        "costs below zero, a delisting that pays",
        refuse_reading({"delisting_return = -0.3": "delisting_return = 0.3"}),
        ConfigError,
        "delisting_return",
    ),
    "bars of a session by their close": Refused(
        "bars stamped at their close, read as opens", stamp_sessions_at_their_close, TableError, "cannot be used"
    ),
    "an adjusted close": Refused(
        "an adjusted close in place of the traded one", trade_at_adjusted, TableError, "outside low and high"
    ),
    "a search without a test": Refused(
        "settings chosen on what judges them",
        refuse_reading({"[weights]": "[search]\nmin_texts = [1, 2]\n\n[weights]"}),
        ConfigError,
        r"a \[split\] is needed",
    ),
    "news before it was published": Refused(
        "a text known before it was published",
        refuse_reading({'source = "source"\nlatency = "1min"': 'source = "source"\nlatency = "-10min"'}),
        ConfigError,
        "before publication|below 0|0 or more",
    ),
    "a decision after the bar began": Refused(
        "an order decided after its bar opened",
        refuse_reading({'bar = "1h"\nlatency = "1min"': 'bar = "1h"\nlatency = "-30min"'}),
        ConfigError,
        "0 or more",
    ),
    "a job at the very open": Refused(
        "a decision at the very open that it trades", be_a_job, RefusedError, "zero latency"
    ),
    "a model that learned from the period": Refused(
        "a model that learned from the period", learn_the_period, LookaheadError, "Seen data"
    ),
    "a trial taken out": Refused(
        "a registry shortened or edited", drop_a_trial, ManifestError, "can no longer be counted"
    ),
}
