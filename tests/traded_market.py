"""A market of two symbols that reacts to each text for one bar: what placebos, lags and costs are tried on."""

from pathlib import Path

import numpy as np
import pandas as pd

from finsignal.config import RunFile, read_run
from finsignal.sources.rows import Counts
from finsignal.study.case import Case, make_case
from finsignal.study.inputs import Inputs
from finsignal.tables import INSTANT, NEWS, PARAMETERS, PRICES, SENTIMENT

REPO = Path(__file__).resolve().parents[1]
STEP = 6  # hours of a bar
START = pd.Timestamp("2026-01-01", tz="UTC")
WORDS = {"soars": (0.02, 0.08, 0.90), "slumps": (0.90, 0.08, 0.02)}
COMPANIES = {"AAA": "Alder", "BBB": "Birch"}

RUN = f"""
name = "traded"
simulated = true
strategy = '{REPO / "strategies" / "news_sentiment.py"}'
market = "24x7"
bar = "6h"
latency = "1min"
symbols = ["AAA", "BBB"]
start = "2026-01-01"
end = "2026-03-22"
random_entries = 0
cash = 100_000

[names]
AAA = ["Alder"]
BBB = ["Birch"]

[features]
half_life = 1
max_age = 1

[parameters]
min_texts = 1
buy_threshold = 0.2
sell_threshold = 0.2

[weights]
slots = 2
gross = 0.9
holding = 1
short = true

[costs]
fee = 0.0005
slippage = 0.0005
delisting_return = -0.3
delisted_after = 50
"""


def write_run(folder: Path, **changes: str) -> RunFile:
    """The run file; `changes` replace text in it, before=after."""
    text = RUN
    for old, new in changes.items():
        if old not in text:
            raise ValueError(old)
        text = text.replace(old, new)
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return read_run(path)


def make_traded(
    run: RunFile, *, effect: float = 0.02, days: int = 80, volume: float = 50_000.0, seed: int = 3
) -> tuple[Inputs, pd.DataFrame]:
    """Inputs and sentiment. Of each symbol every third bar or so has a text, half of them known 5 minutes before the
    decision of a bar, half 40; from that bar's open to the next the price moves by `effect` as the text says.
    """
    rng = np.random.default_rng(seed)
    bars = run.make_bars().iloc[: days * 24 // STEP].reset_index(drop=True)
    count = len(bars)
    prices, news = [], []
    for symbol in run.symbols:
        told = np.where(rng.random(count) < 0.35, rng.choice([-1, 1], count), 0)
        told[:1] = 0
        moves = effect * told + (rng.normal(0, 0.002, count) if effect else 0.0)
        opens = 50.0 * np.cumprod(np.concatenate([[1.0], 1 + moves]))
        close = opens[1:]
        prices.append(
            pd.DataFrame(
                {
                    "open_time": bars["open_time"],
                    "time": bars["close_time"],
                    "symbol": symbol,
                    "open": opens[:-1],
                    "high": np.maximum(opens[:-1], close),
                    "low": np.minimum(opens[:-1], close),
                    "close": close,
                    "volume": volume,
                }
            )
        )
        at = np.flatnonzero(told)
        early = pd.to_timedelta(np.where(rng.random(len(at)) < 0.5, 5, 40), unit="min")
        known = (bars["time"].iloc[at].reset_index(drop=True) - early).astype(INSTANT)
        words = np.where(told[at] > 0, "soars", "slumps")
        news.append(
            pd.DataFrame(
                {
                    "article_id": [f"{symbol}-{n}" for n in at],
                    "published": known,
                    "first_seen": known,
                    "recorded": known,
                    "time": known,
                    "title": [f"{COMPANIES[symbol]} {word} in report {n}" for word, n in zip(words, at, strict=True)],
                    "text": "",
                    "source": "wire",
                    "url": "",
                    "story": "",
                    "symbol": symbol,
                    "relevance": 1.0,
                }
            )
        )
    table = NEWS.to_table(pd.concat(news, ignore_index=True).astype({"title": "str"}))
    values = np.array([WORDS[title.split()[1]] for title in table["title"]]).reshape(-1, 3)
    sentiment = table[["article_id", "time", "symbol"]].assign(
        p_negative=values[:, 0], p_neutral=values[:, 1], p_positive=values[:, 2], model="words@0"
    )
    counts = Counts(read=len(table), kept=len(table))
    rows = PRICES.to_table(pd.concat(prices, ignore_index=True))
    return Inputs(bars, rows, table, counts, counts), SENTIMENT.to_table(sentiment)


def make_parameters(run: RunFile) -> pd.DataFrame:
    from finsignal.config import ALWAYS, to_parameters

    return PARAMETERS.check(to_parameters(run.parameters, known=ALWAYS))


def make_traded_case(run: RunFile, since: pd.Timestamp | None = None, **market: float) -> Case:
    """The run carried out on its market."""
    inputs, sentiment = make_traded(run, **market)
    return make_case(run, inputs, sentiment, run.load_strategy(), make_parameters(run), since=since)
