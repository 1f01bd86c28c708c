"""The bundled sample, and the command that writes it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from finsignal.clock import make_bars
from finsignal.errors import TableError
from finsignal.simulate.markets import LATENCY, Market, make_market
from finsignal.tables import PRICES

SAMPLE_SEED = 20240102
SAMPLE_INDEX = "SIMX"
SAMPLE_SYMBOLS = {
    "OSTV": "Ostervale Robotics",
    "QLMF": "Quillmere Foods",
    "BRKE": "Brackenford Energy",
    "TSMH": "Tessamarin Health",
    "HVFR": "Halvorn Freight",
}
SAMPLE_EFFECT, SAMPLE_EFFECT_BARS = 0.01, 14  # 1 % over two sessions
SAMPLE_NEWS_PER_DAY, SAMPLE_VOLATILITY = 0.3, 0.006


def make_sample(*, effect: float = SAMPLE_EFFECT) -> Market:
    """The market of the bundled sample: five companies, hourly bars of New York's calendar in 2024.

    `effect=0.0` gives its twin with the same texts and noise in which news moves nothing.
    """
    return make_market(
        seed=SAMPLE_SEED,
        symbols=SAMPLE_SYMBOLS,
        bars=make_bars("XNYS", "1h", start="2024-01-02", end="2025-01-01", latency=LATENCY),
        effect=effect,
        effect_bars=SAMPLE_EFFECT_BARS,
        news_per_day=SAMPLE_NEWS_PER_DAY,
        volatility=SAMPLE_VOLATILITY,
    )


def make_index(prices: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """PRICES of an index that holds every symbol of `prices`, of each the same value at the first open, which is 100.

    It holds them unchanged. Its high is the mean of their highs, which they need not have reached together, so the
    index itself stayed at or below it; likewise its low. Its volume is the sum of theirs. Every symbol must have
    every bar. Raises TableError where one has not.
    """
    counts = prices.groupby("open_time").size()
    if counts.nunique() != 1:
        raise TableError("index: not every symbol has a row of every bar; an index needs them all.")
    first = prices.groupby("symbol")["open"].transform("first")
    levels = prices.assign(**{column: 100 * prices[column] / first for column in ("open", "high", "low", "close")})
    means = levels.groupby(["open_time", "time"], as_index=False)[["open", "high", "low", "close"]].mean()
    volume = prices.groupby(["open_time", "time"])["volume"].sum().to_numpy()
    return PRICES.to_table(means.assign(symbol=symbol, volume=volume))


def write_sample(folder: Path) -> None:
    """Writes prices.csv, index.csv and news.csv of the bundled sample; the same bytes every time.

    prices.csv: time (the bar's open, UTC), symbol, open, high, low, close, volume. index.csv: the same of an index of
    the five companies (`make_index`). news.csv: published (UTC), symbol, title, text, source, url.
    """
    stamp = "%Y-%m-%dT%H:%M:%SZ"
    market = make_sample()
    tables = {}
    for name, table in (("prices.csv", market.prices), ("index.csv", make_index(market.prices, SAMPLE_INDEX))):
        prices = table.drop(columns="time").rename(columns={"open_time": "time"})
        prices["time"] = prices["time"].dt.strftime(stamp)
        for column in ("open", "high", "low", "close"):
            prices[column] = prices[column].map("{:.4f}".format)
        tables[name] = prices.assign(volume=prices["volume"].astype("int64"))
    news = market.news.sort_values(["published", "article_id"])
    news["published"] = news["published"].dt.strftime(stamp)
    folder.mkdir(parents=True, exist_ok=True)
    news = news[["published", "symbol", "title", "text", "source", "url"]]
    for name, table in {**tables, "news.csv": news}.items():
        (folder / name).write_bytes(table.to_csv(index=False, lineterminator="\n").encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the bundled sample and says where; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m finsignal.simulate", description="Write the bundled sample.")
    parser.add_argument("--out", type=Path, required=True, help="folder for prices.csv, index.csv and news.csv")
    out = parser.parse_args(arguments).out
    write_sample(out)
    sys.stdout.write(f"{out}\n")
    return 0
