"""The stories that a test of prediction counts: each once for each symbol, when it was first told and tradable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError
from finsignal.evidence.answers import Figure
from finsignal.features import make_counted_texts
from finsignal.signals import NewsRules
from finsignal.tables import INSTANT, to_integers

NO_BAR = -1
KISH = "Kish 1965, Survey Sampling: the design effect, here of overlapping windows"


def make_events(
    news: pd.DataFrame,
    sentiment: pd.DataFrame,
    prices: pd.DataFrame,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    *,
    rules: NewsRules,
) -> pd.DataFrame:
    """One row for each story and symbol, when first told; sorted by symbol, known and article_id.

    symbol, article_id, story; known: instant at which it and its score were known; first: position in `bars` of the
    first decision at or after that; entry: of the first bar from there on that the symbol opened; session: of that bar;
    score: p_positive - p_negative; confidence: the largest probability; label: -1, 0 or 1 for the likeliest label, 0
    where two are as likely.

    The texts are those that `features.aggregate_sentiment` counts by `rules`, and of a story that was told again after
    max_age only the first. A text without a story is one of its own. Left out are those that no bar followed.
    """
    texts = make_counted_texts(
        news,
        sentiment,
        bars,
        symbols,
        half_life=rules.half_life,
        max_age=rules.max_age,
        min_relevance=rules.min_relevance,
        source_weights=rules.source_weights,
        mode=rules.mode,
    )
    code, first = texts["code"].to_numpy(), texts["first"].to_numpy()
    following = _next_open(to_opens(prices, bars, symbols))
    entry = following[code, first] if len(texts) else np.empty(0, dtype=np.int64)
    told = texts["story"].array != ""
    again = np.asarray(told) & texts.duplicated(["symbol", "story"]).to_numpy()
    p = texts[["p_negative", "p_neutral", "p_positive"]].to_numpy()
    largest = p.max(axis=1, initial=0.0)
    likeliest = np.where((p == largest[:, None]).sum(axis=1) == 1, p.argmax(axis=1) - 1, 0) if len(p) else entry
    frame = pd.DataFrame(
        {
            "symbol": texts["symbol"].astype("str"),
            "article_id": texts["article_id"].astype("str"),
            "story": texts["story"].astype("str"),
            "known": texts["known"].astype(INSTANT),
            "first": first,
            "entry": entry,
            "session": bars["session"].take(np.maximum(entry, 0)).array if len(bars) else pd.Series(dtype="str"),
            "score": p[:, 2] - p[:, 0],
            "confidence": largest,
            "label": likeliest,
        }
    )
    return frame[~again & (entry != NO_BAR)].reset_index(drop=True)


def number_stories(texts: pd.DataFrame) -> np.ndarray:
    """For each row of NEWS the number of its story, from 0 in the order of the rows.

    Of whichever symbols and however often: a story is one. A text without a story is one of its own.
    """
    unit, _ = pd.factorize(texts["story"].where(texts["story"] != "", " " + texts["article_id"]))
    return unit


def to_opens(prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str], *, column: str = "open") -> np.ndarray:
    """Prices at the bars, shape (symbols in alphabetical order, bars), NaN where a symbol printed none."""
    names = sorted(symbols)
    out = np.full((len(names), len(bars)), np.nan)
    if prices.empty or bars.empty:
        return out
    opens, printed = to_integers(bars["open_time"]), to_integers(prices["open_time"])
    row = pd.Index(names).get_indexer(prices["symbol"])
    at = np.minimum(np.searchsorted(opens, printed), len(opens) - 1)
    on_grid = (opens[at] == printed) & (row >= 0)
    out[row[on_grid], at[on_grid]] = prices[column].to_numpy()[on_grid]
    return out


def count_effective(events: pd.DataFrame, *, holding: int) -> Figure:
    """How many independent stories those of `events` are worth, for the sum of score times return over `holding` bars.

    n / (1 + sum over pairs i != j of o_ij * s_i * s_j / sum of s_i**2), at most n: s are the scores and o_ij the share
    of its `holding` bars from entry on that a story has in common with another of the same symbol, 0 for others.
    Returns of bars that do not overlap are taken as independent. Stories of one bar that say the same count as one;
    those that say the opposite of one another do not count less. Kish's design effect, with the correlation that the
    overlap and the scores give.

    Raises ConfigError for a holding below 1.
    """
    if holding < 1:
        raise ConfigError(f"effective stories: holding counts bars, expected 1 or more, got {holding}.")
    size, name = len(events), "Effective stories"
    score = events["score"].to_numpy(dtype=float)
    square = float(score @ score)
    if size == 0 or square == 0:
        needs = "a story" if size == 0 else "a story whose score is not 0"
        return Figure("effective_stories", name, "count", size, "stories", needs=needs, source=KISH)
    entry = events["entry"].to_numpy()
    code = pd.factorize(events["symbol"])[0]
    width = int(entry.max()) + holding + 1
    # Running sum of the scores whose window covers each bar: its square sums s_i * s_j over all pairs that meet there.
    step = np.bincount(code * width + entry, weights=score, minlength=(int(code.max()) + 1) * width)
    step = step + np.bincount(code * width + entry + holding, weights=-score, minlength=len(step))
    cover = np.cumsum(step.reshape(-1, width), axis=1)
    design = float(np.square(cover).sum()) / holding / square
    value = size / max(design, 1.0)
    said = f"The {size:,} stories are worth {value:,.0f} that share no bar of their {holding}."
    return Figure("effective_stories", name, "count", size, "stories", value=value, said=said, source=KISH)


def _next_open(opens: np.ndarray) -> np.ndarray:
    """For each symbol and bar the first bar from there on with an open, NO_BAR where there is none."""
    place = np.where(np.isnan(opens), opens.shape[1], np.arange(opens.shape[1]))
    following = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    return np.where(following == opens.shape[1], NO_BAR, following)
