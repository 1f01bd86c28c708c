"""The sentiment of texts in one number a bar, and the texts that are behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray

from finsignal.errors import ConfigError, TableError
from finsignal.features.grid import check_options, first_decision, rows_of, to_features
from finsignal.features.modes import NEUTRAL, check_mode, decay, likeliest, sum_window, to_votes
from finsignal.tables import INSTANT, PROBABILITIES, to_integers

SENTIMENT_FEATURES = (
    *("sent_negative", "sent_neutral", "sent_positive", "sent_score", "sent_confidence", "sent_count"),
    "sent_novelty",
)
MISSING = np.iinfo(np.int64).min
NO_ROWS = np.empty(0, dtype=np.int64)
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
    mode: str = "weighted",
) -> pd.DataFrame:
    """FEATURES for every symbol and bar: what the texts known at the decision say together, by one of MODES.

    sent_negative, sent_neutral, sent_positive: P = sum(w p) / sum(w); they sum to 1.
    sent_score: P_positive - P_negative. sent_confidence: the largest P.
    sent_count: texts that count; 0.0 where none does, and then the columns above are NaN.
    sent_novelty: sent_count over the texts that would count if repeats of a story did too: 1 where all is new, 0 where
    repeats alone are left of what was told before; NaN where nothing was said.

    'weighted': w = 0.5**(age / half_life) * relevance * weight of the source (1 where `source_weights` does not name
    it) * the text's largest probability.
    'majority': each text is for its likeliest label alone (p is 1 or 0), with the same w.
    'unanimous': as 'weighted' where all texts that count have the same likeliest label, else P_neutral is 1.
    'rolling': w = relevance * weight of the source, at any age and confidence; `half_life` has no part in it.
    Of two likeliest labels a text has neither: it is neutral.

    Age counts grid bars, from the first decision at which the text was known (0); beyond `max_age` it does not count. A
    text is known at the later of its news `time` and its sentiment `time`. Texts below `min_relevance`, of weight 0, or
    without a sentiment row are as if they did not exist.

    A story counts once: a text is a repeat if another of the same story and symbol was known before it (by time, then
    article_id) and at most `max_age` bars before it. A repeat hides the next as well. An empty story is no story.

    Raises ConfigError at options that cannot be meant, TableError where sentiment scores one text of a symbol twice.
    """
    names = check_options(symbols, max_age)
    _check_weights(half_life, max_age, min_relevance, source_weights)
    check_mode(mode)
    size = len(bars)
    out = np.full((len(SENTIMENT_FEATURES), len(names), size), np.nan)
    out[5] = 0.0
    probabilities = [sentiment[p].to_numpy() for p in PROBABILITIES]
    for texts in _count_texts(news, sentiment, bars, names, max_age, min_relevance, source_weights, mode):
        said = np.stack([p[texts.score] for p in probabilities])
        # bincount adds in row order, which is the texts' order in time: a later text changes no earlier sum.
        columns = [*(texts.weight * vote for vote in to_votes(said, mode)), texts.weight]
        fresh = np.stack([np.bincount(texts.first, weights=c, minlength=size) for c in columns])
        total = fresh.copy()
        for age in range(1, min(max_age, size - 1) + 1):
            total[:, age:] += fresh[:, :-age] * decay(age, half_life=half_life, mode=mode)
        shares = np.full((3, size), np.nan)
        np.divide(total[:3], total[3], out=shares, where=total[3] > 0)
        count, told = (sum_window(np.bincount(first, minlength=size), max_age) for first in (texts.first, texts.told))
        if mode == "unanimous":
            labels = np.stack([np.bincount(texts.first[likeliest(said) == n], minlength=size) for n in range(3)])
            divided = sum_window(labels, max_age).max(axis=0) < count
            shares[:, divided] = (np.arange(3) == NEUTRAL)[:, None]
        novelty = np.divide(count, told, out=np.full(size, np.nan), where=told > 0)
        out[:, texts.code] = [*shares, shares[2] - shares[0], shares.max(axis=0), count, novelty]
    return to_features(bars, names, dict(zip(SENTIMENT_FEATURES, out.reshape(len(out), -1), strict=True)))


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
    mode: str = "weighted",
) -> pd.DataFrame:
    """The texts that `aggregate_sentiment` counts for one symbol at each of the bars at `positions`, oldest first.

    The columns of NEWS, then p_negative, p_neutral, p_positive, known (instant), position (of the bar), age (grid bars)
    and share (fraction of the whole weight at that bar; sums to 1; by 'unanimous' also of texts that disagree). Empty
    where no text counts. Options as in `aggregate_sentiment`.
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
        mode=mode,
    )
    columns = [*news.columns, *PROBABILITIES, "known", "position", "age", "share"]
    pieces = []
    for position in np.atleast_1d(positions):
        age = position - texts["first"]
        counted = texts[(age >= 0) & (age <= max_age)]
        counted = counted.assign(position=position, age=position - counted["first"])
        weight = counted["weight"] * decay(counted["age"], half_life=half_life, mode=mode)
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
    mode: str = "weighted",
) -> pd.DataFrame:
    """The texts that count at some bar, with code (of the symbol), known, first (position of the bar) and weight.

    The weight is that at age 0. Left out are texts without a score, less relevant than `min_relevance`, without weight,
    known before the first decision or after the last, and repeats of a story. Sorted by symbol, known and article_id.
    """
    names = check_options(symbols, max_age)
    _check_weights(half_life, max_age, min_relevance, source_weights)
    check_mode(mode)
    found = list(_count_texts(news, sentiment, bars, names, max_age, min_relevance, source_weights, mode))
    none = np.empty(0, dtype=np.int64)
    row, score, known, first = (
        np.concatenate([none, *(getattr(t, name) for t in found)]) for name in ("row", "score", "known", "first")
    )
    texts = news.take(row).reset_index(drop=True)
    texts["scored"] = sentiment["time"].take(score).array
    for name in PROBABILITIES:
        texts[name] = sentiment[name].take(score).array
    texts["known"] = pd.Series(pd.to_datetime(known, unit="us", utc=True), dtype=INSTANT)
    texts["weight"] = np.concatenate([np.empty(0), *(t.weight for t in found)])
    texts["code"] = np.repeat(np.array([t.code for t in found], dtype=np.int64), [len(t.row) for t in found])
    texts["first"] = first
    return texts


@dataclass(frozen=True)
class _Texts:
    """The texts of one symbol that count, in the order of known and article_id."""

    code: int  # of the symbol
    row: np.ndarray  # position in news
    score: np.ndarray  # position in sentiment
    known: np.ndarray  # microseconds
    first: np.ndarray  # position of the bar
    weight: np.ndarray  # at age 0
    told: np.ndarray  # positions of the bars of all that was told, repeats too


def _count_texts(
    news: pd.DataFrame,
    sentiment: pd.DataFrame,
    bars: pd.DataFrame,
    names: list[str],
    max_age: int,
    min_relevance: float,
    source_weights: Mapping[str, float],
    mode: str,
) -> Iterator[_Texts]:
    """The texts that count, symbol by symbol, so that no more than one symbol's rows are ever copied."""
    decisions, begin = to_integers(bars["time"]), first_decision(bars)
    ids, scored_ids, sources, stories = (
        column.array for column in (news["article_id"], sentiment["article_id"], news["source"], news["story"])
    )
    relevance = news["relevance"].to_numpy()
    probabilities = [sentiment[p].to_numpy() for p in PROBABILITIES]
    times, scored = _microseconds(news["time"]), _microseconds(sentiment["time"])
    ours, theirs = rows_of(news["symbol"], names), rows_of(sentiment["symbol"], names)
    for code, name in enumerate(names):
        row, score = ours.get(name, NO_ROWS), theirs.get(name, NO_ROWS)
        if len(pd.unique(scored_ids[score])) < len(scored_ids[score]):
            _refuse_twice(sentiment, names)
        match = _match(ids[row], scored_ids[score])
        if match is not None:
            row, score = _positions(row)[match >= 0], _positions(score)[match[match >= 0]]
        weight = relevance[row] * _weigh(sources[row], source_weights)
        sure = weight * np.maximum(np.maximum(*(p[score] for p in probabilities[:2])), probabilities[2][score])
        weight = weight if mode == "rolling" else sure
        # The later of the two; the smallest integer is an instant that is missing, which is never known.
        known = np.where(scored[score] == MISSING, MISSING, np.maximum(times[row], scored[score]))
        first = np.searchsorted(decisions, known)
        # Before the first decision the age in bars is unknown; after the last the text waits for a bar not here.
        good = (relevance[row] >= min_relevance) & (sure > 0) & (known >= begin) & (first < len(bars))
        kept = _order(np.flatnonzero(good), known, ids[row])
        told = first[kept]
        kept = kept[~_repeats(kept, stories[row], ids[row], first, max_age)]
        if len(kept):
            row, score = _positions(row)[kept], _positions(score)[kept]
            yield _Texts(code, row, score, known[kept], first[kept], weight[kept], told)


def _microseconds(instants: pd.Series) -> np.ndarray:
    """As `to_integers`, without a copy where the instants are stored as such."""
    index = pd.DatetimeIndex(instants)
    return index.asi8 if index.unit == "us" else to_integers(index)


def _positions(rows: slice | np.ndarray) -> np.ndarray:
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def _match(ours: ExtensionArray, theirs: ExtensionArray) -> np.ndarray | None:
    """For each of our ids the position among theirs, -1 where it is not there; None where both are the same."""
    if len(ours) == len(theirs) and np.asarray(ours == theirs, dtype=bool).all():
        return None
    codes, unique = pd.factorize(pd.concat([pd.Series(theirs), pd.Series(ours)], ignore_index=True))
    place = np.full(len(unique), -1)
    place[codes[: len(theirs)]] = np.arange(len(theirs))
    return place[codes[len(theirs) :]]


def _refuse_twice(sentiment: pd.DataFrame, names: list[str]) -> None:
    keys = sentiment.loc[sentiment["symbol"].isin(names), ["article_id", "symbol"]]
    row = keys.iloc[int(keys.duplicated().to_numpy().argmax())]
    raise TableError(
        f"sentiment: article {row['article_id']} is scored more than once for {row['symbol']}; "
        "expected one row, keep the rows of one model."
    )


def _weigh(sources: ExtensionArray, weights: Mapping[str, float]) -> np.ndarray | float:
    """The weight of each source, 1 for one that is not named."""
    if not weights:
        return 1.0
    codes, unique = pd.factorize(sources)
    return np.array([*(float(weights.get(name, 1.0)) for name in unique), 1.0])[codes]  # a missing one is the last


def _order(kept: np.ndarray, known: np.ndarray, ids: ExtensionArray) -> np.ndarray:
    """The rows kept, by known, then id: as they are, where the tables are sorted and each text was scored in time."""
    if (np.diff(known[kept]) < 0).any():
        kept = kept[np.argsort(known[kept], kind="stable")]
    tied = np.flatnonzero(np.diff(known[kept]) == 0)
    if np.asarray(ids[kept[tied]] <= ids[kept[tied + 1]], dtype=bool).all():
        return kept
    return kept[np.lexsort((pd.factorize(ids[kept], sort=True)[0], known[kept]))]


def _repeats(
    kept: np.ndarray, stories: ExtensionArray, ids: ExtensionArray, first: np.ndarray, max_age: int
) -> np.ndarray:
    """Whether each row kept, in the order in which they were known, repeats a story at most `max_age` bars old."""
    codes, unique = pd.factorize(stories)
    alone = np.asarray(stories == "", dtype=bool)
    if alone.any():  # no story is no repeat, but for a text that stands twice
        codes = np.where(alone, len(unique) + pd.factorize(ids)[0], codes)
    codes = codes[kept]
    told = np.bincount(codes + 1, minlength=2)[codes + 1]
    again = np.flatnonzero((told > 1) & (codes >= 0))
    again = again[np.argsort(codes[again], kind="stable")]
    again_soon = (np.diff(codes[again]) == 0) & (np.diff(first[kept[again]]) <= max_age)
    out = np.zeros(len(kept), dtype=bool)
    out[again[1:][again_soon]] = True
    return out


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
