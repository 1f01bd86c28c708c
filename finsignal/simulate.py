"""A market of companies that do not exist, with a news effect of known size planted in it, or with none.

The proof that the rest of the library can find what is there, and does not find what is not. Run as a module it writes
the bundled sample: `python -m finsignal.simulate --out data/sample`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from finsignal import simulated_texts as words
from finsignal.clock import bar_of, end_of_precision, known_time, make_bars
from finsignal.errors import ConfigError, TableError
from finsignal.tables import ARTICLES, INSTANT, LABELS, LINKS, NEWS, PRICES, SENTIMENT, to_integers

LATENCY = pd.Timedelta(minutes=1)  # from publication to known, as file layouts have it by default
KINDS = ("news", "routine", "other")
OTHER_RELEVANCE = 0.1  # of a text about another company that names this one
SOURCES = ("simulated wire", "simulated herald", "simulated market desk")

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


@dataclass(frozen=True)
class Market:
    """One simulated market.

    prices: PRICES at every bar. articles: ARTICLES. links: LINKS; relevance 1, or 0.1 where the text is about another
    company. truth: what no strategy may see, one row an article: article_id, symbol, kind ("news", "routine", "other"),
    repeat (of an earlier article's story), polarity (-1, 0 or 1, what the words say of the company they are about),
    effect (log return planted in the symbol's price by it; 0 for routine texts, other companies and repeats) and start
    (the open from which the price moves; NaT where there is no effect, or no bar after the text).
    """

    prices: pd.DataFrame
    articles: pd.DataFrame
    links: pd.DataFrame
    truth: pd.DataFrame

    @property
    def news(self) -> pd.DataFrame:
        """Articles joined with links, as NEWS."""
        return NEWS.to_table(self.articles.merge(self.links, on="article_id", validate="one_to_many"))


def make_market(
    *,
    seed: int,
    symbols: Mapping[str, str],
    bars: pd.DataFrame,
    effect: float,
    effect_bars: int,
    news_per_day: float,
    volatility: float,
    routine: float = 0.25,
    other: float = 0.15,
    repeats: float = 0.2,
    common: float = 0.3,
) -> Market:
    """A market in which news moves prices by `effect` after it could be traded on; none of that where it is 0.

    Let j be the first bar decided at or after a text is known. The log price moves by effect * polarity in equal parts
    inside the bars j to j + effect_bars - 1, between open and close: whoever buys at the open of j gets all of it. All
    else is noise without drift: the expected simple return of any strategy is 0 but for the planted effect.

    seed: of the only random generator; the same seed gives the same market, and the noise does not depend on `effect`.
    symbols: symbol -> name of an invented company. bars: BARS. news_per_day: mean number of stories a symbol has in a
    calendar day, at any hour of any day. volatility: standard deviation of the log return inside one bar; at a gap in
    the grid (night, weekend) the open jumps by 1.5 times that, between other bars by 0.1 times. routine, other: shares
    of stories that say nothing good or bad, and that are about another company; the rest is good and bad in equal
    parts. repeats: share of stories that a second source repeats later under the same title. common: share of the
    noise's variance that all symbols have together.

    Raises ConfigError at options that cannot be meant.
    """
    if effect_bars < 1 or volatility < 0 or news_per_day < 0 or not 0 <= common <= 1 or not 0 <= repeats <= 1:
        raise ConfigError(
            "simulate: expected effect_bars >= 1, volatility and news_per_day >= 0, common and repeats in 0 to 1; got "
            f"{effect_bars}, {volatility}, {news_per_day}, {common}, {repeats}."
        )
    if routine < 0 or other < 0 or routine + other > 1:
        raise ConfigError(f"simulate: shares routine {routine} and other {other} must be >= 0 and sum to 1 at most.")
    if bars.empty or not symbols:
        raise ConfigError("simulate: expected one bar and one symbol at least.")
    text_rng, price_rng = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    stories = _make_stories(text_rng, symbols, bars, news_per_day, np.array([1 - routine - other, routine, other]))
    items = _add_repeats(text_rng, stories, repeats, bars["close_time"].iloc[-1])
    items["time"] = known_time(end_of_precision(items["published"], precision="second"), latency=LATENCY)
    items = items.sort_values(["published", "symbol", "repeat"], kind="stable").reset_index(drop=True)
    items["article_id"] = [f"simulated-{seed}-{n:06d}" for n in range(len(items))]

    items["first"] = bar_of(bars, items["time"])
    moves = (items["kind"] == "news") & ~items["repeat"]
    items["effect"] = np.where(moves, effect * items["polarity"], 0.0)
    started = items["first"].where((items["effect"] != 0) & (items["first"] < len(bars)))
    items["start"] = started.map(bars["open_time"]).astype(INSTANT)
    prices = _make_prices(price_rng, list(symbols), bars, items, effect_bars, volatility, common)

    missing = pd.Series(pd.NaT, index=items.index, dtype=INSTANT)
    articles = items.assign(first_seen=missing, recorded=missing)[list(ARTICLES.columns)]
    links = items[["article_id", "symbol"]].assign(relevance=np.where(items["kind"] == "other", OTHER_RELEVANCE, 1.0))
    truth = items[["article_id", "symbol", "kind", "repeat", "polarity", "effect", "start"]]
    return Market(prices, ARTICLES.to_table(articles), LINKS.to_table(links), truth)


def make_oracle_sentiment(market: Market, *, confidence: float) -> pd.DataFrame:
    """SENTIMENT of a reader who is never wrong: `confidence` for the true label of each text, the rest in equal parts.

    Raises ConfigError where `confidence` is not in 0 to 1.
    """
    if not 0 <= confidence <= 1:
        raise ConfigError(f"simulate: confidence is a probability, expected 0 to 1, got {confidence}.")
    p = np.full((len(market.truth), 3), (1 - confidence) / 2)
    p[np.arange(len(p)), market.truth["polarity"].to_numpy() + 1] = confidence
    frame = market.truth[["article_id", "symbol"]].merge(market.articles[["article_id", "time"]], on="article_id")
    frame = frame.assign(p_negative=p[:, 0], p_neutral=p[:, 1], p_positive=p[:, 2], model="oracle")
    return SENTIMENT.to_table(frame)


def _make_stories(
    rng: np.random.Generator, symbols: Mapping[str, str], bars: pd.DataFrame, news_per_day: float, shares: np.ndarray
) -> pd.DataFrame:
    """One row a story: published, symbol, kind, polarity, title, text, source, url, story. No title comes twice."""
    first, last = bars["open_time"].iloc[0], bars["close_time"].iloc[-1]
    seconds = int((last - first).total_seconds())
    rows: list[dict[str, object]] = []
    used: set[str] = set()
    for symbol, name in symbols.items():
        count = rng.poisson(news_per_day * seconds / 86_400)
        for second in np.sort(rng.integers(0, seconds, count)):
            kind = KINDS[rng.choice(len(KINDS), p=shares)]
            polarity = 0 if kind == "routine" else (-1, 1)[rng.integers(2)]
            about = _pick(rng, words.OTHER_COMPANIES) if kind == "other" else name
            tag = f"{about} (simulated)" if kind == "other" else f"{name} (simulated: {symbol})"
            published = first + pd.Timedelta(seconds=int(second))
            title, text = _write_text(rng, tag, about, polarity, words.QUARTERS[published.quarter - 1], used)
            if kind == "other":
                text = f"{text} {_pick(rng, words.MENTIONS).format(s=name)}"
            rows.append(
                {
                    "published": published,
                    "symbol": symbol,
                    "kind": kind,
                    "polarity": polarity,
                    "title": title,
                    "text": text,
                    "source": _pick(rng, SOURCES),
                    "story": f"story-{len(rows):06d}",
                }
            )
    columns = ["published", "symbol", "kind", "polarity", "title", "text", "source", "story"]
    frame = pd.DataFrame(rows, columns=columns).astype({"published": INSTANT, "polarity": "int64"})
    frame["url"] = "https://simulated.invalid/" + frame["story"].astype("str")
    return frame.assign(repeat=False)


def _write_text(
    rng: np.random.Generator, tag: str, name: str, polarity: int, quarter: str, used: set[str]
) -> tuple[str, str]:
    """A title that is not in `used` (and is added to it), and a text of three sentences that says the same."""
    label = LABELS[polarity + 1]
    tries = 0
    while True:
        fields = {
            "n": int(rng.integers(3, 29)),
            "m": f"${int(rng.integers(2, 90)) * 5} million",
            "q": quarter,
            "k": f"{int(rng.integers(12, 990)) * 10:,}",
            "x": _pick(rng, words.PRODUCTS),
            "t": _pick(rng, words.TOWNS),
            "o": _pick(rng, words.OTHERS),
        }
        template = _pick(rng, words.TITLES[label])
        title = template.format(c=tag, s=name, **fields)
        if tries >= 20:  # templates without a field to vary run out in a long market
            title = f"{title} (notice {len(used) + 1})"
        if title not in used:
            break
        tries += 1
    used.add(title)
    details = [words.DETAILS[label][n] for n in rng.permutation(len(words.DETAILS[label]))[:2]]
    sentences = [template.format(c=name, s=name, **fields) + ".", *(d.format(**fields) for d in details)]
    return title, " ".join(sentences)


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _add_repeats(rng: np.random.Generator, stories: pd.DataFrame, share: float, end: pd.Timestamp) -> pd.DataFrame:
    """The stories and, for a share of them, one repeat by another source some hours later, if before `end`."""
    chosen = rng.random(len(stories)) < share
    delay = pd.to_timedelta(60 + rng.exponential(6 * 3600, len(stories)).astype(np.int64), unit="s")
    step = rng.integers(1, len(SOURCES), len(stories))
    source = [SOURCES[(SOURCES.index(s) + k) % len(SOURCES)] for s, k in zip(stories["source"], step, strict=True)]
    again = stories.assign(
        published=(stories["published"] + delay).astype(INSTANT),
        source=pd.Series(source, index=stories.index, dtype="str"),
        text="As reported before: " + stories["text"].astype("str"),
        url=stories["url"].astype("str") + "/again",
        repeat=True,
    )
    return pd.concat([stories, again[chosen & (again["published"] < end)]], ignore_index=True)


def _make_prices(
    rng: np.random.Generator,
    names: list[str],
    bars: pd.DataFrame,
    items: pd.DataFrame,
    effect_bars: int,
    volatility: float,
    common: float,
) -> pd.DataFrame:
    shape = (len(names), len(bars))
    opens, closes = to_integers(bars["open_time"]), to_integers(bars["close_time"])
    jump = np.r_[0.0, np.where(opens[1:] > closes[:-1], 1.5, 0.1)] * volatility

    def noise(scale: np.ndarray | float) -> np.ndarray:
        """Log returns of mean simple return 0: half the variance is taken off."""
        z = np.sqrt(common) * rng.standard_normal(shape[1]) + np.sqrt(1 - common) * rng.standard_normal(shape)
        return scale * z - np.square(scale) / 2

    gap, inside = noise(jump), noise(volatility)
    # Each effect adds its share to the first bar and takes it off after the last: the running sum is the drift a bar.
    step = np.zeros((shape[0], shape[1] + 1))
    row = pd.Index(names).get_indexer(items["symbol"])
    first = items["first"].to_numpy()
    np.add.at(step, (row, first), items["effect"] / effect_bars)
    np.add.at(step, (row, np.minimum(first + effect_bars, shape[1])), -items["effect"] / effect_bars)
    inside = inside + step.cumsum(axis=1)[:, :-1]

    start = np.log(rng.uniform(40, 160, (shape[0], 1)))
    close = start + (gap + inside).cumsum(axis=1)
    open_ = close - inside
    wick = volatility * np.abs(rng.standard_normal((2, *shape))) / 2
    frame = pd.DataFrame(
        {
            "open_time": np.tile(opens, shape[0]).astype("datetime64[us]"),
            "time": np.tile(closes, shape[0]).astype("datetime64[us]"),
            "symbol": np.repeat(np.array(names, dtype=object), shape[1]),
            "open": np.exp(open_).ravel(),
            "high": np.exp(np.maximum(open_, close) + wick[0]).ravel(),
            "low": np.exp(np.minimum(open_, close) - wick[1]).ravel(),
            "close": np.exp(close).ravel(),
            "volume": np.floor(np.exp(rng.normal(11, 0.5, shape))).ravel(),
        }
    )
    for column in ("open_time", "time"):
        frame[column] = frame[column].dt.tz_localize("UTC")
    return PRICES.to_table(frame)


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


if __name__ == "__main__":
    sys.exit(main())
