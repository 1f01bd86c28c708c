"""The texts that count, once more: all symbols at once by a merge on strings, a sort and a grouped shift.

Slow and large, but each rule is one line of pandas. The bits must be those of `finsignal.features`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finsignal.clock import bar_of
from finsignal.errors import TableError
from finsignal.tables import PROBABILITIES, to_integers


def plain_texts(
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
    names = sorted(symbols)
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
    texts = texts[
        (to_integers(texts["known"]) >= to_integers(bars["time"])[0]) & (texts["first"] < len(bars)).to_numpy()
    ]
    story = texts["story"].where(texts["story"] != "", "\0" + texts["article_id"])
    since = texts["first"] - texts.groupby(["code", story], sort=False)["first"].shift(1)
    return texts[~(since <= max_age).to_numpy()].reset_index(drop=True)


def plain_sums(texts: pd.DataFrame, size: int, names: int, *, half_life: float, max_age: int) -> np.ndarray:
    """The six features of `aggregate_sentiment` from the texts that count, (6, names * size)."""
    cell = texts["code"].to_numpy() * size + texts["first"].to_numpy()
    weight = texts["weight"].to_numpy()
    columns = [weight * texts[p].to_numpy() for p in PROBABILITIES] + [weight]
    # bincount adds in row order, which is the texts' order in time: a later text changes no earlier sum.
    fresh = np.stack(
        [np.bincount(cell, weights=c, minlength=names * size) for c in columns]
        + [np.bincount(cell, minlength=names * size).astype(float)]
    ).reshape(5, names, size)
    total = fresh.copy()
    for age in range(1, min(max_age, size - 1) + 1):
        total[:4, :, age:] += fresh[:4, :, :-age] * 0.5 ** (age / half_life)
        total[4, :, age:] += fresh[4, :, :-age]
    sums = total.reshape(5, names * size)
    shares = np.full((3, names * size), np.nan)
    np.divide(sums[:3], sums[3], out=shares, where=sums[3] > 0)
    values = [*shares, shares[2] - shares[0], shares.max(axis=0), sums[4]]
    return np.stack(values)
