"""The sentiment of texts in one number a bar, and the texts that are behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finsignal.clock import bar_of
from finsignal.errors import ConfigError, TableError
from finsignal.features.grid import check_options, first_decision, to_features
from finsignal.tables import PROBABILITIES, to_integers

SENTIMENT_FEATURES = ("sent_negative", "sent_neutral", "sent_positive", "sent_score", "sent_confidence", "sent_count")
MOST_HALF_LIVES = 900  # beyond it 0.5**n leaves the normal doubles, and a mean of such weights is noise


def sentiment_lookback(max_age: int) -> int:
    """Grid bars before a decision that its aggregated sentiment may depend on.

    A text counts for `max_age` bars, whether it is a repeat depends on the `max_age` bars before it, and one bar more
    tells how old the oldest is.
    """
    return 2 * max_age + 1


def aggregate_sentiment(
    news: pd.DataFrame,
    sentiment: pd.DataFrame,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    *,
    half_life: float,
    max_age: int,
    min_relevance: float,
    source_weights: Mapping[str, float],
) -> pd.DataFrame:
    """FEATURES for every symbol and bar: the weighted mean of the probabilities of the texts known at the decision.

    sent_negative, sent_neutral, sent_positive: P = sum(w p) / sum(w); they sum to 1.
    sent_score: P_positive - P_negative. sent_confidence: the largest P.
    sent_count: texts that count; 0.0 where none does, and then the other columns are NaN.

    w = 0.5**(age / half_life) * relevance * weight of the source (1 where `source_weights` does not name it) * the
    text's largest probability. Age counts grid bars, from the first decision at which the text was known (0); beyond
    `max_age` it does not count. A text is known at the later of its news `time` and its sentiment `time`. Texts below
    `min_relevance`, of weight 0, or without a sentiment row are as if they did not exist.

    A story counts once: a text is a repeat if another of the same story and symbol was known before it (by time, then
    article_id) and at most `max_age` bars before it. A repeat hides the next as well. An empty story is no story.

    Raises ConfigError at options that cannot be meant, TableError where sentiment scores one text of a symbol twice.
    """
    names = check_options(symbols, max_age)
    texts = make_counted_texts(
        news,
        sentiment,
        bars,
        names,
        half_life=half_life,
        max_age=max_age,
        min_relevance=min_relevance,
        source_weights=source_weights,
    )
    size = len(bars)
    cell = texts["code"].to_numpy() * size + texts["first"].to_numpy()
    weight = texts["weight"].to_numpy()
    columns = [weight * texts[p].to_numpy() for p in PROBABILITIES] + [weight]
    # bincount adds in row order, which is the texts' order in time: a later text changes no earlier sum.
    fresh = np.stack(
        [np.bincount(cell, weights=c, minlength=len(names) * size) for c in columns]
        + [np.bincount(cell, minlength=len(names) * size).astype(float)]
    ).reshape(5, len(names), size)
    total = fresh.copy()
    for age in range(1, min(max_age, size - 1) + 1):
        total[:4, :, age:] += fresh[:4, :, :-age] * 0.5 ** (age / half_life)
        total[4, :, age:] += fresh[4, :, :-age]
    sums = total.reshape(5, len(names) * size)
    shares = np.full((3, len(names) * size), np.nan)
    np.divide(sums[:3], sums[3], out=shares, where=sums[3] > 0)
    values = [*shares, shares[2] - shares[0], shares.max(axis=0), sums[4]]
    return to_features(bars, names, dict(zip(SENTIMENT_FEATURES, values, strict=True)))


def texts_behind(
    news: pd.DataFrame,
    sentiment: pd.DataFrame,
    bars: pd.DataFrame,
    symbol: str,
    positions: int | Sequence[int],
    *,
    half_life: float,
    max_age: int,
    min_relevance: float,
    source_weights: Mapping[str, float],
) -> pd.DataFrame:
    """The texts that `aggregate_sentiment` counts for one symbol at each of the bars at `positions`, oldest first.

    The columns of NEWS, then p_negative, p_neutral, p_positive, known (instant), position (of the bar), age (grid bars)
    and share (fraction of the whole weight at that bar; sums to 1). Empty where no text counts. Options as in
    `aggregate_sentiment`.
    """
    names = check_options([symbol], max_age)
    texts = make_counted_texts(
        news,
        sentiment,
        bars,
        names,
        half_life=half_life,
        max_age=max_age,
        min_relevance=min_relevance,
        source_weights=source_weights,
    )
    columns = [*news.columns, *PROBABILITIES, "known", "position", "age", "share"]
    pieces = []
    for position in np.atleast_1d(positions):
        age = position - texts["first"]
        counted = texts[(age >= 0) & (age <= max_age)]
        counted = counted.assign(position=position, age=position - counted["first"])
        weight = counted["weight"] * 0.5 ** (counted["age"] / half_life)
        pieces.append(counted.assign(share=weight / weight.sum())[columns])
    return pd.concat(pieces, ignore_index=True)


def make_counted_texts(
    news: pd.DataFrame,
    sentiment: pd.DataFrame,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    *,
    half_life: float,
    max_age: int,
    min_relevance: float,
    source_weights: Mapping[str, float],
) -> pd.DataFrame:
    """The texts that count at some bar, with code (of the symbol), known, first (position of the bar) and weight.

    The weight is that at age 0. Left out are texts without a score, less relevant than `min_relevance`, without weight,
    known before the first decision or after the last, and repeats of a story. Sorted by symbol, known and article_id.
    """
    names = check_options(symbols, max_age)
    _check_weights(half_life, max_age, min_relevance, source_weights)
    scores = sentiment.loc[sentiment["symbol"].isin(names), ["article_id", "symbol", "time", *PROBABILITIES]]
    twice = scores.duplicated(["article_id", "symbol"]).to_numpy()
    if twice.any():
        row = scores.iloc[int(twice.argmax())]
        raise TableError(
            f"sentiment: article {row['article_id']} is scored more than once for {row['symbol']}; "
            "expected one row, keep the rows of one model."
        )
    texts = news[news["symbol"].isin(names)].merge(
        scores.rename(columns={"time": "scored"}), on=["article_id", "symbol"], how="inner"
    )
    weight = (
        texts["relevance"].to_numpy()
        * texts["source"].map(dict(source_weights)).astype(float).fillna(1.0).to_numpy()
        * texts[list(PROBABILITIES)].to_numpy().max(axis=1, initial=0.0)
    )
    texts["known"] = texts["time"].where(texts["time"] >= texts["scored"], texts["scored"])
    texts["weight"] = weight
    texts["code"] = pd.Categorical(texts["symbol"], categories=names).codes.astype(np.int64)
    texts = texts[(texts["relevance"] >= min_relevance) & (weight > 0)]
    texts = texts.sort_values(["code", "known", "article_id"], kind="stable").reset_index(drop=True)
    texts["first"] = bar_of(bars, texts["known"])
    # Before the first decision the age in bars is unknown; after the last the text waits for a bar that is not here.
    texts = texts[(to_integers(texts["known"]) >= first_decision(bars)) & (texts["first"] < len(bars)).to_numpy()]
    story = texts["story"].where(texts["story"] != "", "\0" + texts["article_id"])
    since = texts["first"] - texts.groupby(["code", story], sort=False)["first"].shift(1)
    return texts[~(since <= max_age).to_numpy()].reset_index(drop=True)


def _check_weights(half_life: float, max_age: int, min_relevance: float, source_weights: Mapping[str, float]) -> None:
    if not half_life > 0:
        raise ConfigError(f"features: half_life counts grid bars, expected more than 0, got {half_life}.")
    if max_age > MOST_HALF_LIVES * half_life:
        raise ConfigError(
            f"features: max_age {max_age} is more than {MOST_HALF_LIVES} half-lives of {half_life} bars, where weights "
            "are too small for a double; lower max_age."
        )
    if not 0 <= min_relevance <= 1:
        raise ConfigError(f"features: min_relevance is a fraction, expected 0 to 1, got {min_relevance}.")
    for source, weight in source_weights.items():
        if not (np.isfinite(weight) and weight >= 0):
            raise ConfigError(f"features: source_weights[{source!r}] is {weight}; expected a finite number, 0 or more.")
