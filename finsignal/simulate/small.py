"""A market without texts, made in milliseconds: what a reader would say of them is drawn too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError
from finsignal.simulate.markets import LATENCY, check_shares, to_start
from finsignal.simulate.moving import Effect, Regimes, draw_noise, draw_stretches, make_prices
from finsignal.tables import INSTANT, NEWS, SENTIMENT, to_integers

SECOND = 1_000_000  # microseconds
KNOWN_AFTER = SECOND + LATENCY // pd.Timedelta(microseconds=1)  # the end of the published second, and the latency


@dataclass(frozen=True)
class SmallMarket:
    """The tables of a run: PRICES, NEWS whose titles only number the stories, and SENTIMENT of a reader who may err.

    truth: one row an article, as of NEWS: article_id, symbol, repeat, polarity, effect and start, as in `Market`.
    """

    prices: pd.DataFrame
    news: pd.DataFrame
    sentiment: pd.DataFrame
    truth: pd.DataFrame


def make_small_market(
    *,
    seed: int,
    symbols: Sequence[str],
    bars: pd.DataFrame,
    effect: float,
    effect_bars: int,
    news_per_day: float,
    volatility: float,
    routine: float = 0.25,
    repeats: float = 0.2,
    common: float = 0.3,
    delay: int = 0,
    half_life: float | None = None,
    true_share: float = 1.0,
    drift: float = 0.0,
    regimes: Regimes | None = None,
    reports: float = 0.0,
    stay: float = 0.5,
    skill: float = 3.0,
) -> SmallMarket:
    """A market of news as `make_market` has it, whose options it shares, with probabilities in place of words.

    reports: 0 to 1, how much the news only reports what prices did: the share of good and bad stories whose polarity is
    the sign of the noise of the newest bar that had closed. stay: 0.5 to 1, the chance that a good or bad story has the
    side of the one that its symbol had before, those that only report left aside; at 0.5 each is for itself. skill: how
    well the reader reads: it is sure by softmax of `skill` for the true label against noise of variance 1 in each. A
    repeat is read as the story.

    Raises ConfigError at options that cannot be meant.
    """
    planted = Effect(effect, effect_bars, delay, half_life, true_share)
    check_shares(volatility, news_per_day, repeats, common, routine)
    if not (0 <= reports <= 1 and 0.5 <= stay <= 1 and np.isfinite(skill)):
        raise ConfigError(
            "simulate: expected reports in 0 to 1, stay in 0.5 to 1 and a finite skill, got "
            f"{reports}, {stay} and {skill}."
        )
    if bars.empty or not symbols:
        raise ConfigError("simulate: expected one bar and one symbol at least.")
    rng, price_rng, state_rng, stay_rng = (np.random.default_rng([seed, stream]) for stream in range(4))
    stretches = draw_stretches(state_rng, regimes, drift, len(bars))
    noise = draw_noise(price_rng, len(symbols), bars, stretches, volatility, common)

    begin, end = to_integers(bars["open_time"])[0], to_integers(bars["close_time"])[-1]
    seconds = (end - begin) // SECOND
    counts = rng.poisson(news_per_day * seconds / 86_400, len(symbols))
    code, n = np.repeat(np.arange(len(symbols)), counts), int(counts.sum())
    published = begin + rng.integers(0, seconds, n) * SECOND
    decisions = to_integers(bars["time"])
    latest = np.maximum(np.searchsorted(to_integers(bars["close_time"]), published, side="right") - 1, 0)
    reported = np.sign(noise.gap + noise.inside)[code, latest].astype(np.int64)
    reporting, side, plain = rng.random(n) < reports, rng.choice((-1, 1), n), rng.random(n) < routine
    order = np.lexsort((published, code))
    order = order[~(reporting | plain)[order]]
    side[order] = _stay(stay_rng, side[order], code[order], stay)
    polarity = np.where(plain, 0, np.where(reporting, reported, side))
    p = _read(rng, polarity, skill)
    true = rng.random(n) < true_share
    later = published + (3600 + rng.exponential(6 * 3600, n).astype(np.int64)) * SECOND
    again = np.flatnonzero((rng.random(n) < repeats) & (later < end))

    story = np.r_[np.arange(n), again]
    published, repeat = np.r_[published, later[again]], np.arange(n + len(again)) >= n
    order = np.lexsort((story, published, code[story]))
    story, published, repeat = story[order], published[order], repeat[order]
    code, polarity = code[story], polarity[story]
    first = np.searchsorted(decisions, published + KNOWN_AFTER)
    size = np.where(true[story] & ~repeat, effect * polarity, 0.0)
    prices = make_prices(noise, list(symbols), bars, code, first, size, planted)

    ids = pd.Series([f"small-{seed}-{k:05d}" for k in range(len(story))], dtype="str")
    symbol = pd.Series(np.array(symbols, dtype=object)[code], dtype="str")
    missing = pd.Series(pd.NaT, index=ids.index, dtype=INSTANT)
    stories = pd.Series([f"story-{k:05d}" for k in story.tolist()], dtype="str")
    news = pd.DataFrame(
        {
            "article_id": ids,
            "published": _to_instants(published),
            "first_seen": missing,
            "recorded": missing,
            "time": _to_instants(published + KNOWN_AFTER),
            "title": symbol + " simulated " + stories,
            "text": pd.Series("", index=ids.index, dtype="str"),
            "source": pd.Series(np.where(repeat, "simulated herald", "simulated wire"), dtype="str"),
            "url": "https://simulated.invalid/" + ids,
            "story": stories,
            "symbol": symbol,
            "relevance": 1.0,
        }
    )
    sentiment = news[["article_id", "time", "symbol"]].assign(
        p_negative=p[story, 0], p_neutral=p[story, 1], p_positive=p[story, 2], model="reader"
    )
    truth = news[["article_id", "symbol"]].assign(
        repeat=repeat, polarity=polarity, effect=size, start=to_start(bars, first, size, delay)
    )
    return SmallMarket(prices, NEWS.to_table(news), SENTIMENT.to_table(sentiment), truth)


def _stay(rng: np.random.Generator, side: np.ndarray, code: np.ndarray, stay: float) -> np.ndarray:
    """The sides of stories in their order, each that of the one before of the same code with the chance `stay`."""
    own = rng.random(len(side)) >= 2 * stay - 1  # the others follow; of those that do not, half have the same side
    own |= np.diff(code, prepend=-1) != 0
    return side[np.maximum.accumulate(np.where(own, np.arange(len(side)), 0))]


def _read(rng: np.random.Generator, polarity: np.ndarray, skill: float) -> np.ndarray:
    """Probabilities (stories, 3) that sum to 1."""
    z = rng.standard_normal((len(polarity), 3))
    z[np.arange(len(z)), polarity + 1] += skill
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def _to_instants(microseconds: np.ndarray) -> pd.Series:
    return pd.Series(microseconds.astype("datetime64[us]")).dt.tz_localize("UTC").astype(INSTANT)
