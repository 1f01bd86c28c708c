"""A market with everything that a run reads, texts too, and the truth behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.clock import bar_of, end_of_precision, known_time
from finsignal.errors import ConfigError
from finsignal.simulate.moving import Effect, Regimes, draw_noise, draw_stretches, make_prices
from finsignal.simulate.wording import add_repeats, make_stories
from finsignal.tables import ARTICLES, INSTANT, LINKS, NEWS, SENTIMENT

LATENCY = pd.Timedelta(minutes=1)  # from publication to known, as file layouts have it by default
OTHER_RELEVANCE = 0.1  # of a text about another company that names this one


@dataclass(frozen=True)
class Market:
    """One simulated market.

    prices: PRICES at every bar. articles: ARTICLES. links: LINKS; relevance 1, or 0.1 where the text is about another
    company. truth: what no strategy may see, one row an article: article_id, symbol, kind ("news", "routine", "other"),
    repeat (of an earlier article's story), polarity (-1, 0 or 1, what the words say of the company they are about),
    effect (log return planted in the symbol's price by it; 0 for routine texts, other companies, repeats and what is
    not true) and start (the open from which the price moves; NaT where there is no effect, or no bar after the text).
    stretches: as little to be seen, one row a bar: storm, bull, volatility (a multiple) and drift (log return).
    """

    prices: pd.DataFrame
    articles: pd.DataFrame
    links: pd.DataFrame
    truth: pd.DataFrame
    stretches: pd.DataFrame

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
    delay: int = 0,
    half_life: float | None = None,
    true_share: float = 1.0,
    drift: float = 0.0,
    regimes: Regimes | None = None,
) -> Market:
    """A market in which news moves prices by `effect` after it could be traded on; none of that where it is 0.

    Let j be the first bar decided at or after a text is known, plus `delay`. The log price moves by effect * polarity
    inside the bars j to j + effect_bars - 1, between open and close, in equal parts or in parts that halve in
    `half_life` bars: with delay 0, whoever buys at the open of j gets all of it. All else is noise: the expected simple
    return of any strategy is `drift` (that of `regimes`) times what it holds, but for the planted effect.

    seed: of the only random generator; the same seed gives the same market, and the noise does not depend on `effect`.
    symbols: symbol -> name of an invented company. bars: BARS. news_per_day: mean number of stories a symbol has in a
    calendar day, at any hour of any day. volatility: standard deviation of the log return inside one bar; at a gap in
    the grid (night, weekend) the open jumps by 1.5 times that, between other bars by 0.1 times. routine, other: shares
    of stories that say nothing good or bad, and that are about another company; the rest is good and bad in equal
    parts. true_share: of the latter the share that moves prices. repeats: share of stories that a second source repeats
    later under the same title. common: share of the noise's variance that all symbols have together. drift: expected
    simple return of every symbol inside one bar, that of the benchmark too. regimes: None is one regime for all.

    Raises ConfigError at options that cannot be meant.
    """
    planted = Effect(effect, effect_bars, delay, half_life, true_share)
    check_shares(volatility, news_per_day, repeats, common, routine, other)
    if bars.empty or not symbols:
        raise ConfigError("simulate: expected one bar and one symbol at least.")
    text_rng, price_rng, state_rng, true_rng = (np.random.default_rng([seed, stream]) for stream in range(4))
    stories = make_stories(text_rng, symbols, bars, news_per_day, np.array([1 - routine - other, routine, other]))
    stories["true"] = true_rng.random(len(stories)) < true_share
    items = add_repeats(text_rng, stories, repeats, bars["close_time"].iloc[-1])
    items["time"] = known_time(end_of_precision(items["published"], precision="second"), latency=LATENCY)
    items = items.sort_values(["published", "symbol", "repeat"], kind="stable").reset_index(drop=True)
    items["article_id"] = [f"simulated-{seed}-{n:06d}" for n in range(len(items))]

    items["first"] = bar_of(bars, items["time"])
    moves = (items["kind"] == "news") & items["true"] & ~items["repeat"]
    items["effect"] = np.where(moves, effect * items["polarity"], 0.0)
    items["start"] = to_start(bars, items["first"].to_numpy(), items["effect"].to_numpy(), delay)
    stretches = draw_stretches(state_rng, regimes, drift, len(bars))
    noise = draw_noise(price_rng, len(symbols), bars, stretches, volatility, common)
    code, first = pd.Index(list(symbols)).get_indexer(items["symbol"]), items["first"].to_numpy()
    prices = make_prices(noise, list(symbols), bars, code, first, items["effect"].to_numpy(), planted)

    missing = pd.Series(pd.NaT, index=items.index, dtype=INSTANT)
    articles = items.assign(first_seen=missing, recorded=missing)[list(ARTICLES.columns)]
    links = items[["article_id", "symbol"]].assign(relevance=np.where(items["kind"] == "other", OTHER_RELEVANCE, 1.0))
    truth = items[["article_id", "symbol", "kind", "repeat", "polarity", "effect", "start"]]
    return Market(prices, ARTICLES.to_table(articles), LINKS.to_table(links), truth, stretches)


def check_shares(
    volatility: float, news_per_day: float, repeats: float, common: float, routine: float, other: float = 0.0
) -> None:
    """Nothing where a market of these can be made. Raises ConfigError where it cannot."""
    if not (volatility >= 0 and news_per_day >= 0 and 0 <= common <= 1 and 0 <= repeats <= 1):
        raise ConfigError(
            "simulate: expected volatility and news_per_day >= 0, common and repeats in 0 to 1; got "
            f"{volatility}, {news_per_day}, {common}, {repeats}."
        )
    if not (routine >= 0 and other >= 0 and routine + other <= 1):
        raise ConfigError(f"simulate: shares routine {routine} and other {other} must be >= 0 and sum to 1 at most.")


def to_start(bars: pd.DataFrame, first: np.ndarray, effect: np.ndarray, delay: int) -> pd.Series:
    """The open from which each story moves the price; NaT where it moves nothing, or no bar is left for it."""
    at = first + delay
    moved = (effect != 0) & (at < len(bars))
    opens = bars["open_time"].take(np.where(moved, at, 0)).reset_index(drop=True)
    return opens.where(moved).astype(INSTANT)


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
