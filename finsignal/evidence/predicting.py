"""Does the signal predict: do the scores of stories go with the returns that come after them, how much, how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pandas as pd

from finsignal.clock import is_always_open
from finsignal.errors import ConfigError
from finsignal.evidence.answers import Answer, Curve, Figure, Table, say_count
from finsignal.evidence.clustered import CLUSTERED, LEAST, Estimates, estimate, to_figure, to_plain_number
from finsignal.evidence.fading import to_half_life
from finsignal.evidence.quantiles import EVENT_STUDY, compare_quantiles
from finsignal.evidence.responses import Responses, make_responses
from finsignal.evidence.stories import count_effective

QUESTION = "Does the signal predict?"
HORIZONS = (1, 2, 3, 5, 8, 13, 21, 34, 55)  # bars
BEFORE, AFTER, DRIFT_BEFORE = 10, 20, 5  # bars around a story
COEFFICIENT = f"Qian, Hua & Sorensen 2007, Quantitative Equity Portfolio Management, ch. 4; {CLUSTERED}"


def answer_predicts(
    events: pd.DataFrame,
    prices: pd.DataFrame,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    *,
    holding: int,
    market: str,
    since: pd.Timestamp | None = None,
    index: pd.DataFrame | None = None,
    seed: int = 7,
) -> Answer:
    """What the scores of `events` (`stories.make_events`) say about returns from the open at which they are tradable.

    Figures: ic, the rank correlation of score and return over `holding` bars (Spearman); event_drift, the mean return
    over `holding` bars in the direction of the score, weighted by its size; pre_drift, the same over the 5 bars up to
    that open; quantile_spread, the mean return of the stories with the highest scores less that of the lowest, over
    `holding` bars; half_life, the bars after which half of the response has come; effective_stories. Returns are
    simple, of the price alone, and abnormal: less the index, less the run's other symbols, or with one symbol less its
    own mean. n counts stories that enter since `since`, the first open tested.

    Intervals and p-values take stories of one session, and of sessions whose windows overlap, together (`clustered`).
    A figure needs 30 stories (in each quantile), and enough sessions for windows to follow one another. Over null
    markets the intervals cover as tests/test_predicting.py says. `seed` is of the half-life's bootstrap.

    Raises ConfigError for a holding below 1.
    """
    if holding < 1:
        raise ConfigError(f"predicts: holding counts bars, expected 1 or more, got {holding}.")
    most = max(AFTER, holding, 2 * holding if holding < HORIZONS[-1] else holding)
    found = make_responses(events, prices, bars, symbols, since=since, index=index, after=most, before=BEFORE)
    scores = found.events["score"].to_numpy(dtype=float)
    horizons = np.array(sorted({h for h in HORIZONS if h <= most} | {holding}))
    coefficients = correlate_ranks(found, scores, horizons)
    at = int(np.flatnonzero(horizons == holding)[0])
    drift = found.mean(found.after, scores, found.lags[:most], found.base_after)
    earlier = found.mean(found.before, scores, found.lags[:BEFORE], found.base_before)
    lag = int(found.lags[holding - 1])
    name, days = f"Drift over {say_count(holding, 'bar')} in the direction of the score", found.sessions
    ic = to_figure(coefficients, at, lag, days, "ic", "Information coefficient", "correlation", source=COEFFICIENT)
    spread, quantiles, bars_of_quantiles = compare_quantiles(found, scores, holding=holding)
    figures = (
        ic,
        to_figure(drift, holding - 1, lag, days, "event_drift", name, "percent", source=EVENT_STUDY),
        to_figure(
            earlier,
            DRIFT_BEFORE - 1,
            int(found.lags[DRIFT_BEFORE - 1]),
            days,
            "pre_drift",
            f"Move over the {DRIFT_BEFORE} bars before",
            "percent",
            source=EVENT_STUDY,
            said="What the price had done in the direction of the score before one could trade: news reports moves.",
        ),
        spread,
        to_half_life(found, scores, drift, there=ic.p is not None and ic.p <= 0.05, seed=seed),
        count_effective(found.events, holding=holding),
    )
    return Answer(
        "predicts",
        QUESTION,
        _say(ic, holding),
        figures,
        (*_draw_horizons(coefficients, horizons), *_draw_events(found), *bars_of_quantiles),
        (_tabulate(coefficients, horizons), *quantiles),
        (_note_abnormal(symbols, index), _note_sessions(market)),
    )


def correlate_ranks(found: Responses, scores: np.ndarray, horizons: np.ndarray) -> Estimates:
    """Spearman's correlation of scores and the returns over each of `horizons`, with clustered errors.

    The moments are (u v - (u**2 + v**2) / 2 * correlation) / n, u and v the ranks of mean 0 and variance 1.
    """
    lags = found.lags[horizons - 1]
    moments, used = np.zeros((len(scores), len(horizons))), np.zeros((len(scores), len(horizons)), dtype=bool)
    leverage, value = moments.copy(), np.full(len(horizons), np.nan)
    for place, horizon in enumerate(horizons):
        known = np.isfinite(found.after[:, horizon - 1])
        u, v = _standard_ranks(scores[known]), _standard_ranks(found.after[known, horizon - 1])
        if u is not None and v is not None:
            value[place] = (u * v).mean()
            moments[known, place] = (u * v - (u * u + v * v) / 2 * value[place]) / len(u)
            leverage[known, place] = (1 + u * u) / len(u)
            used[:, place] = known
    n, clusters = np.isfinite(found.after[:, horizons - 1]).sum(axis=0), found.count_sessions(used)
    sums, pulls = found.sum_up(moments), found.sum_up(leverage)
    return estimate(value, sums, lags, clusters=clusters, leverage=pulls, n=n, correlation=True)


def _standard_ranks(values: np.ndarray) -> np.ndarray | None:
    """Mean ranks with mean 0 and variance 1, None where all are equal or there are fewer than 3 of them."""
    if len(values) < 3 or values.min() == values.max():
        return None
    ranks = pd.Series(values).rank().to_numpy()
    return (ranks - ranks.mean()) / ranks.std()


def _draw_horizons(coefficients: Estimates, horizons: np.ndarray) -> tuple[Curve, ...]:
    return (
        _to_curve(
            "ic_by_horizon",
            "Information coefficient by horizon",
            horizons,
            coefficients,
            "bars from the first tradable open",
            "rank correlation",
            "correlation",
        ),
    )


def _draw_events(found: Responses) -> tuple[Curve, ...]:
    """The abnormal return around stories that say good and bad, 0 at the open from which they are tradable."""
    curves = []
    label = found.events["label"].to_numpy()
    bars = np.arange(-BEFORE, AFTER + 1)
    for key, sign, word in (("event_positive", 1, "positive"), ("event_negative", -1, "negative")):
        weights = (label == sign).astype(float)
        if weights.sum() < LEAST:
            continue
        came = found.mean(-found.before[:, ::-1], weights, found.lags[:BEFORE][::-1], -found.base_before[:, ::-1])
        gone = found.mean(found.after[:, :AFTER], weights, found.lags[:AFTER], found.base_after[:, :AFTER])
        zero = np.zeros(1)
        open_ = Estimates(zero, zero, zero, zero, zero, np.zeros(1, dtype=np.int64), np.array([int(weights.sum())]))
        parts = (came, open_, gone)
        means = Estimates(
            *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Estimates))
        )
        curves.append(
            _to_curve(
                key,
                f"Return around {word} stories",
                bars,
                means,
                "bars from the first tradable open",
                "mean abnormal return",
                "percent",
            )
        )
    return tuple(curves)


def _to_curve(key: str, name: str, x: np.ndarray, means: Estimates, x_name: str, y_name: str, unit: str) -> Curve:
    """A curve with intervals; no point where fewer than 30 stories are behind it."""
    enough = means.n >= LEAST
    y, low, high = (np.where(enough, values, np.nan) for values in (means.value, means.low, means.high))
    return Curve(
        key,
        name,
        tuple(float(value) for value in x),
        tuple(to_plain_number(value) for value in y),
        x_name,
        y_name,
        unit,
        low=tuple(to_plain_number(value) for value in low),
        high=tuple(to_plain_number(value) for value in high),
        n=tuple(int(n) for n in means.n),
    )


def _tabulate(coefficients: Estimates, horizons: np.ndarray) -> Table:
    shown = [getattr(coefficients, name) for name in ("value", "low", "high", "t", "p")]
    columns = ("bars", "stories", "information coefficient", "low", "high", "t", "p")
    units = ("bars", "count", "correlation", "correlation", "correlation", "ratio", "p")
    rows = tuple(
        (int(h), int(coefficients.n[k]), *(to_plain_number(v[k]) for v in shown))
        for k, h in enumerate(horizons)
        if coefficients.n[k] >= LEAST
    )
    return Table("horizons", "Information coefficient by horizon", columns, units, rows)


def _say(ic: Figure, holding: int) -> str:
    if ic.value is None or ic.low is None or ic.high is None:
        return f"Whether the scores predict returns cannot be told: it needs {ic.needs}."
    told = "which is told from 0" if ic.low > 0 or ic.high < 0 else "which is not told from 0"
    wrong = " and has the wrong sign" if ic.high < 0 else ""
    return (
        f"Scores and the returns of the {say_count(holding, 'bar')} after them have a rank correlation of "
        f"{ic.value:.3f} ({ic.low:.3f} to {ic.high:.3f}) over {ic.n:,} stories, {told}{wrong}."
    )


def _note_abnormal(symbols: Sequence[str], index: pd.DataFrame | None) -> str:
    if index is not None and not index.empty:
        return "Returns are less those of the index over the same bars."
    if len(symbols) > 1:
        return "Returns are less the mean of the run's other symbols over the same bars."
    return "Returns are less the mean of all the symbol's returns over so many bars in the test."


def _note_sessions(market: str) -> str:
    sessions = "UTC days" if is_always_open(market) else f"trading days of {market}"
    return f"Intervals take together stories of one session, and of sessions whose windows overlap: {sessions}."
