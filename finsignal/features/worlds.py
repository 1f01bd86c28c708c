"""The sentiment of many worlds at once: the same texts, known at the same instants, that say something else in each."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finsignal.features.modes import NEUTRAL, decay, likeliest, sum_window, to_votes

SAID = 5  # the first columns of SENTIMENT_FEATURES: those that what was said moves


def aggregate_worlds(
    texts: pd.DataFrame,
    probabilities: np.ndarray,
    *,
    bars: int,
    symbols: int,
    half_life: float,
    max_age: int,
    mode: str,
) -> np.ndarray:
    """The first five columns of `aggregate_sentiment` for each world: (5, worlds, symbols, bars), NaN without a text.

    `texts` are the rows of `make_counted_texts` in its mode 'rolling', so that their weight is that before the
    confidence of what is said: code (of the symbol), first (position of the bar, 0 to bars - 1) and weight, sorted by
    both. `probabilities` is (worlds, 3, texts), in the order of LABELS. How many texts count, and how new they are, is
    the same in every world: that is sent_count and sent_novelty. Each world equals `aggregate_sentiment` bit for bit.
    """
    worlds, _, count = probabilities.shape
    size = symbols * bars
    code, first, weight = (texts[name].to_numpy() for name in ("code", "first", "weight"))
    said = np.moveaxis(probabilities, 1, 0)  # (3, worlds, texts)
    if mode != "rolling":
        weight = weight * np.maximum(np.maximum(said[0], said[1]), said[2])
    place = (np.arange(worlds)[:, None] * size + code * bars + first).ravel()
    weight = np.broadcast_to(weight, (worlds, count))
    votes = to_votes(said.reshape(3, -1), mode)

    def add(values: np.ndarray) -> np.ndarray:
        # In row order, as aggregate_sentiment adds them: sums of doubles depend on it.
        return np.bincount(place, weights=values, minlength=worlds * size).reshape(worlds, symbols, bars)

    fresh = np.stack([*(add(weight.ravel() * vote) for vote in votes), add(weight.ravel())])
    total = fresh.copy()
    for age in range(1, min(max_age, bars - 1) + 1):
        total[..., age:] += fresh[..., :-age] * decay(age, half_life=half_life, mode=mode)
    out = np.full((SAID, worlds, symbols, bars), np.nan)
    np.divide(total[:3], total[3], out=out[:3], where=total[3] > 0)
    if mode == "unanimous":
        label = likeliest(said.reshape(3, -1))
        labels = np.stack([add((label == n).astype(float)) for n in range(3)])
        labels = sum_window(labels, max_age)
        divided = labels.max(axis=0) < labels.sum(axis=0)
        out[:3, divided] = (np.arange(3) == NEUTRAL)[:, None]
    out[3], out[4] = out[2] - out[0], out[:3].max(axis=0)
    return out
