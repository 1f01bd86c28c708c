"""`decide`, the one code path of backtest and job, and its two steps from features to signals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import USER_ERRORS, ConfigError, FinsignalError, TableError, did_you_mean
from finsignal.features import (
    BETA_LOOKBACK,
    FUNDING_LOOKBACK,
    OPEN_INTEREST_LOOKBACK,
    SENTIMENT_FEATURES,
    aggregate_sentiment,
    make_funding_features,
    make_market_features,
    make_open_interest_features,
    make_price_features,
)
from finsignal.signals.limits import to_limited
from finsignal.signals.rules import NO_EXITS, NO_LIMITS, ExitRules, Limits, NewsRules, WeightRules
from finsignal.signals.weights import to_weights
from finsignal.tables import FEATURES, PARAMETERS, SIGNALS, SIGNALS_ALLOWED, to_integers

Strategy = Callable[..., pd.DataFrame]


@dataclass(frozen=True)
class Decided:
    """What `decide` gives: features, signals and weights for each symbol and bar decided, and the state after them."""

    signals: pd.DataFrame
    weights: pd.DataFrame
    state: pd.DataFrame
    features: pd.DataFrame


def decide(
    news: pd.DataFrame,
    prices: pd.DataFrame,
    sentiment: pd.DataFrame,
    state: pd.DataFrame,
    *,
    strategy: Strategy,
    parameters: pd.DataFrame,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    news_rules: NewsRules,
    weight_rules: WeightRules,
    since: pd.Timestamp | None = None,
    limits: Limits = NO_LIMITS,
    exits: ExitRules = NO_EXITS,
    funding: pd.DataFrame | None = None,
    open_interest: pd.DataFrame | None = None,
    index: pd.DataFrame | None = None,
) -> Decided:
    """The stretch from features to weights: the one code path of backtest and job.

    Decides each bar of `bars` that opens at `since` or later (all of them by default), in order, starting from `state`.
    A decision uses only rows with time <= its own. `bars` must reach back `lookback` bars and over `state`'s fills;
    dropping what that function says is not used changes nothing. Deciding a stretch in two calls, the second from the
    state of the first, gives the same rows as one call. `limits` turn a symbol with old data to HOLD, with the reason.

    `parameters` holds the strategy's keyword arguments and the instant from which each value was known; the latest
    known at a decision counts. `funding`, `open_interest` and `index` bring features of their own. Raises TableError
    where the strategy's answer does not fit its features.
    """
    symbols = sorted(symbols)
    features = make_features(
        news,
        prices,
        sentiment,
        bars,
        symbols,
        rules=news_rules,
        funding=funding,
        open_interest=open_interest,
        index=index,
    )
    if since is not None:
        features = features[features["open_time"] >= since].reset_index(drop=True)
    signals = make_signals(features, strategy=strategy, parameters=parameters)
    signals = to_limited(signals, prices, news, bars=bars, limits=limits)
    weights, state = to_weights(signals, prices, state, bars=bars, rules=weight_rules, exits=exits, features=features)
    return Decided(signals=signals, weights=weights, state=state, features=features)


def make_features(
    news: pd.DataFrame,
    prices: pd.DataFrame,
    sentiment: pd.DataFrame,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    *,
    rules: NewsRules,
    funding: pd.DataFrame | None = None,
    open_interest: pd.DataFrame | None = None,
    index: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The features table of every symbol and bar: price features and aggregated sentiment as known at the decision.

    With FUNDING, OPEN_INTEREST and the PRICES of an index their features too, NaN past the maximum age of prices;
    without, no such column.
    """
    features = make_price_features(prices, bars, symbols, max_age=rules.price_max_age)
    texts = aggregate_sentiment(
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
    more = [texts[list(SENTIMENT_FEATURES)]]
    if funding is not None:
        rates = make_funding_features(funding, bars, symbols, max_age=rules.price_max_age)
        more.append(rates[list(FUNDING_LOOKBACK)])
    if open_interest is not None:
        changes = make_open_interest_features(open_interest, bars, symbols, max_age=rules.price_max_age)
        more.append(changes[list(OPEN_INTEREST_LOOKBACK)])
    if index is not None:
        betas = make_market_features(prices, index, bars, symbols, max_age=rules.price_max_age)
        more.append(betas[list(BETA_LOOKBACK)])
    return FEATURES.check(pd.concat([features, *more], axis=1))


def make_signals(features: pd.DataFrame, *, strategy: Strategy, parameters: pd.DataFrame) -> pd.DataFrame:
    """The signals table: the strategy's answer for every row of features, with the parameters known at each decision.

    The strategy gets a copy of the rows that share one set of parameters, and must answer for each of them in order.
    Raises TableError naming what does not fit.
    """
    FEATURES.check(features)
    PARAMETERS.check(parameters)
    if features.empty:
        return SIGNALS.empty()
    changes = np.unique(to_integers(parameters["time"]))
    regime = np.searchsorted(changes, to_integers(features["time"]), side="right")
    pieces = []
    for number in np.unique(regime):
        rows = features[regime == number]
        known = parameters[to_integers(parameters["time"]) <= (changes[number - 1] if number else -(2**63))]
        values = {str(name): float(value) for name, value in zip(known["name"], known["value"], strict=True)}
        answer = ask(strategy, rows.reset_index(drop=True).copy(), values)
        pieces.append(answer.set_axis(rows.index))
    answer = pd.concat(pieces).sort_index()
    signals = features[["open_time", "time", "symbol"]].copy()
    for column in ("score", "confidence", "signal"):
        signals[column] = answer[column]
    return SIGNALS.to_table(signals)


def ask(strategy: Strategy, rows: pd.DataFrame, values: dict[str, float]) -> pd.DataFrame:
    """The strategy's answer for these rows: score, confidence and signal, one row for each of them in order.

    What the strategy raises is told in one sentence, with what it was given. Raises TableError for what does not fit.
    """
    count = len(rows)
    try:
        answer = strategy(rows, **values)
    except FinsignalError:
        raise
    except USER_ERRORS as err:
        missing = str(err.args[0]) if isinstance(err, KeyError) and err.args else ""
        hint = did_you_mean(missing, map(str, rows.columns)) if missing else ""
        raise TableError(
            f"strategy: failed on {len(rows)} rows of features with {values or 'no parameters'}: "
            f"{type(err).__name__} {err}.{hint} Features are {list(rows.columns[3:])}."
        ) from err
    return _check_answer(answer, count)


def _check_answer(answer: Any, rows: int) -> pd.DataFrame:
    if not isinstance(answer, pd.DataFrame) or not {"score", "confidence", "signal"} <= set(answer.columns):
        raise TableError(
            "strategy: expected a DataFrame with columns score, confidence and signal, "
            f"got {list(answer.columns) if isinstance(answer, pd.DataFrame) else type(answer).__name__}."
        )
    answer = answer[[name for name in answer.columns if name in ("score", "confidence", "signal")]]
    if len(answer.columns) > 3:
        raise TableError(f"strategy: expected score, confidence and signal once each, got {list(answer.columns)}.")
    if len(answer) != rows:
        raise TableError(
            f"strategy: expected one row for each of {rows} rows of features, got {len(answer)}; what is not traded is "
            "HOLD."
        )
    if not answer.index.equals(pd.RangeIndex(rows)):
        raise TableError(
            f"strategy: expected the rows of features in their order, index 0 to {rows - 1}, got an index that begins "
            f"{answer.index[:3].tolist()}; keep features.index."
        )
    for name in ("score", "confidence"):
        dtype = answer[name].dtype
        if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
            known = answer[name].dropna()
            example = f", such as {known.iloc[0]!r}" if len(known) else ""
            raise TableError(f"strategy: expected numbers as {name}, got {dtype}{example}.")
    if answer["signal"].isna().any():
        raise TableError("strategy: a signal is missing; no news is HOLD.")
    wrong = ~answer["signal"].isin(SIGNALS_ALLOWED).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise TableError(f"strategy: row {row} has signal {answer['signal'].iloc[row]!r}; expected SELL, HOLD or BUY.")
    unknown = (answer["signal"] != "HOLD").to_numpy() & answer[["score", "confidence"]].isna().any(axis=1).to_numpy()
    if unknown.any():
        row = int(unknown.argmax())
        raise TableError(
            f"strategy: row {row} is {answer['signal'].iloc[row]} with score {answer['score'].iloc[row]} and "
            f"confidence {answer['confidence'].iloc[row]}; what is not known is HOLD."
        )
    return answer


def _check_threshold(name: str, value: pd.Series | float, score: pd.Series) -> None:
    values = value.dropna() if isinstance(value, pd.Series) else pd.Series([value])
    if isinstance(value, pd.Series) and not value.index.equals(score.index):
        raise ConfigError(f"{name}: expected a value for each of the {len(score)} scores, and their index; keep it.")
    low = values[~(values > 0)]
    if len(low) and name != "confidence_threshold":
        raise ConfigError(f"{name}: {low.iloc[0]} must be above 0, or one score would mean BUY and SELL at once.")


def to_signal(
    score: pd.Series,
    confidence: pd.Series,
    *,
    buy_threshold: pd.Series | float,
    sell_threshold: pd.Series | float,
    confidence_threshold: pd.Series | float,
    may_buy: pd.Series | bool = True,
    may_sell: pd.Series | bool = True,
) -> pd.DataFrame:
    """BUY, HOLD or SELL with its score and confidence, one row for each score.

    BUY if score >= buy_threshold and confidence >= confidence_threshold and may_buy; SELL if score <= -sell_threshold,
    likewise; else HOLD. A score that is not known (NaN) is HOLD. A threshold is one number, or a Series with one for
    each score, such as those of `signals.thresholds`; where it is not known nothing passes it. Raises ConfigError for a
    buy or sell threshold that is not above 0, and for a Series with another index than the score's.

    >>> to_signal(pd.Series([0.5, -0.5, 0.1, float("nan")]), pd.Series([0.7, 0.7, 0.9, 0.9]), buy_threshold=0.3,
    ...           sell_threshold=0.3, confidence_threshold=0.6)["signal"].tolist()
    ['BUY', 'SELL', 'HOLD', 'HOLD']
    """
    for name, value in {
        "buy_threshold": buy_threshold,
        "sell_threshold": sell_threshold,
        "confidence_threshold": confidence_threshold,
    }.items():
        _check_threshold(name, value, score)
    sure = confidence >= confidence_threshold
    buy, sell = (score >= buy_threshold) & sure & may_buy, (score <= -sell_threshold) & sure & may_sell
    signal = np.where(buy, "BUY", np.where(sell, "SELL", "HOLD"))
    return pd.DataFrame(
        {"score": score, "confidence": confidence, "signal": pd.Series(signal, index=score.index, dtype="str")}
    )
