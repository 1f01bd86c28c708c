"""What was known at each decision: features of prices, and the sentiment of texts in one number a bar.

Every feature looks backward only and has a finite lookback: adding later rows, other symbols or rows older than the
lookback changes no bit of a row. So windows are summed term by term, newest first, never by a running total, whose
last digits would depend on where the data began.

What was known before the first decision of the grid has an unknown age in bars and does not count. Give a grid that
begins at least the lookback before the first row you need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finsignal.clock import bar_of
from finsignal.errors import ConfigError, TableError
from finsignal.tables import FEATURES, PROBABILITIES, TEXT, to_integers

# Rows of a symbol's prices that a value is made of, the newest included.
LOOKBACK: Mapping[str, int] = {
    "ret_1": 2,
    "ret_5": 6,
    "ret_20": 21,
    "vol_20": 21,
    "volume_ratio_20": 21,
    "rsi_14": 15,
}
SENTIMENT_FEATURES = ("sent_negative", "sent_neutral", "sent_positive", "sent_score", "sent_confidence", "sent_count")
MOST_HALF_LIVES = 900  # beyond it 0.5**n leaves the normal doubles, and a mean of such weights is noise


def sentiment_lookback(max_age: int) -> int:
    """Grid bars before a decision that its aggregated sentiment may depend on.

    A text counts for `max_age` bars, whether it is a repeat depends on the `max_age` bars before it, and one bar more
    tells how old the oldest is.
    """
    return 2 * max_age + 1


def make_price_features(
    prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str], *, max_age: int
) -> pd.DataFrame:
    """FEATURES for every symbol and bar: what the newest price row known at the decision says.

    A price row is known at its `time`, the close. It serves the first decision at or after that and the next `max_age`
    grid bars, unless a newer row takes its place; then all columns are NaN. Windows run over the rows a symbol printed.

    ret_1, ret_5, ret_20: close over the close so many rows before, less 1; simple return, a fraction.
    vol_20: standard deviation (n - 1) of the last 20 one-row returns; a fraction per bar, not annualised.
    volume_ratio_20: volume over the mean volume of the 20 rows before it; NaN where that mean is 0.
    rsi_14: relative strength index, 0 to 100, of the last 14 changes of the close, with plain means (Cutler's form).
        Wilder's smoothing never forgets, so it has no finite lookback. NaN where no change is other than 0.

    NaN where a symbol has fewer rows than LOOKBACK. `prices` keeps the PRICES contract, adjusted for splits.
    Raises ConfigError at a negative `max_age` or a repeated symbol. RSI: Wilder 1978, New Concepts in Technical Trading
    Systems, whose first value of a series is the plain mean.
    """
    names = _check_options(symbols, max_age)
    rows = prices.loc[prices["symbol"].isin(names), ["symbol", "time", "close", "volume"]]
    values = _price_values(rows)

    codes = pd.Categorical(rows["symbol"], categories=names).codes.astype(np.int64)
    known = to_integers(rows["time"])
    first = bar_of(bars, rows["time"])
    decisions = to_integers(bars["time"])
    size = len(bars)
    out = np.full((len(LOOKBACK), len(names) * size), np.nan)
    for code in range(len(names)):
        lo, hi = np.searchsorted(codes, [code, code + 1])
        newest = np.searchsorted(known[lo:hi], decisions, side="right") - 1 + lo
        at = np.flatnonzero(newest >= lo)
        row = newest[at]
        fresh = (at - first[row] <= max_age) & (known[row] >= _first_decision(bars))
        out[:, code * size + at[fresh]] = values[:, row[fresh]]
    return _to_features(bars, names, dict(zip(LOOKBACK, out, strict=True)))


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
    names = _check_options(symbols, max_age)
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
    return _to_features(bars, names, dict(zip(SENTIMENT_FEATURES, values, strict=True)))


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
    names = _check_options([symbol], max_age)
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


def _price_values(rows: pd.DataFrame) -> np.ndarray:
    """The features of each price row, shape (len(LOOKBACK), rows); NaN where the symbol has too few rows.

    Symbols lie one after another. Windows that reach into the symbol before are computed too, then set to NaN.
    """
    close, volume = rows["close"].to_numpy(), rows["volume"].to_numpy()
    count = rows.groupby("symbol", sort=False).cumcount().to_numpy() + 1
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ret_1 = close / _lag(close, 1) - 1
        mean = _window_sum(ret_1, 20) / 20
        squares = np.zeros(len(rows))
        for lag in range(20):
            squares += (_lag(ret_1, lag) - mean) ** 2
        before = _window_sum(_lag(volume, 1), 20) / 20
        change = close - _lag(close, 1)
        up, down = _window_sum(np.maximum(change, 0), 14), _window_sum(np.maximum(-change, 0), 14)
        values = {
            "ret_1": ret_1,
            "ret_5": close / _lag(close, 5) - 1,
            "ret_20": close / _lag(close, 20) - 1,
            "vol_20": np.sqrt(squares / 19),
            "volume_ratio_20": np.where(before > 0, volume / before, np.nan),
            "rsi_14": 100 * (up / (up + down)),
        }
    return np.stack([np.where(count >= LOOKBACK[name], values[name], np.nan) for name in LOOKBACK])


def _lag(values: np.ndarray, lag: int) -> np.ndarray:
    """The value `lag` rows before, NaN where there is none."""
    out = np.full(len(values), np.nan)
    out[lag:] = values[: max(len(values) - lag, 0)]
    return out


def _window_sum(values: np.ndarray, window: int) -> np.ndarray:
    """The sum of the last `window` values at each row, added newest first."""
    total = values.copy()
    for lag in range(1, window):
        total += _lag(values, lag)
    return total


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
    names = _check_options(symbols, max_age)
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
    texts = texts[(to_integers(texts["known"]) >= _first_decision(bars)) & (texts["first"] < len(bars)).to_numpy()]
    story = texts["story"].where(texts["story"] != "", "\0" + texts["article_id"])
    since = texts["first"] - texts.groupby(["code", story], sort=False)["first"].shift(1)
    return texts[~(since <= max_age).to_numpy()].reset_index(drop=True)


def _first_decision(bars: pd.DataFrame) -> int:
    """The first decision of the grid in microseconds; later than anything where the grid is empty."""
    return int(to_integers(bars["time"])[0]) if len(bars) else int(np.iinfo(np.int64).max)


def _check_options(symbols: Sequence[str], max_age: int) -> list[str]:
    names = sorted(symbols)
    if len(set(names)) < len(names):
        raise ConfigError(f"features: symbols {names} repeat a name; name each once.")
    if max_age < 0:
        raise ConfigError(f"features: max_age counts grid bars, expected 0 or more, got {max_age}.")
    return names


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


def _to_features(bars: pd.DataFrame, names: list[str], values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """FEATURES of every name at every bar, from arrays that hold the bars of one name after another."""
    where = np.tile(np.arange(len(bars)), len(names))
    out = bars[["open_time", "time"]].take(where).reset_index(drop=True)
    out["symbol"] = pd.Series(np.repeat(np.array(names, dtype=object), len(bars)), dtype=TEXT)
    return FEATURES.check(out.assign(**values))
