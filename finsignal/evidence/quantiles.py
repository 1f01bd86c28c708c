"""The returns after stories by quantile of their score."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finsignal.evidence.answers import Curve, Figure, Table, say_count
from finsignal.evidence.clustered import CLUSTERED, LEAST, estimate, to_figure, to_plain_number
from finsignal.evidence.responses import Responses

QUANTILES = (5, 3)  # the first of which each quantile has LEAST stories
EVENT_STUDY = f"MacKinlay 1997, Event studies in economics and finance, JEL 35(1); {CLUSTERED}"


def compare_quantiles(
    found: Responses, scores: np.ndarray, *, holding: int
) -> tuple[Figure, tuple[Table, ...], tuple[Curve, ...]]:
    """The mean return of the stories with the highest scores less that of the lowest, and the returns of all quantiles.

    Five quantiles, or three where a fifth is fewer than 30 stories. Stories with the same score are in the same one.
    """
    lag, column = int(found.lags[holding - 1]), found.after[:, holding - 1 : holding]
    lags, base = np.array([lag]), np.zeros((found.sessions, 1))
    known = np.isfinite(column[:, 0])
    name = "Return of the highest less the lowest scores"
    share = pd.Series(scores[known]).rank(pct=True).to_numpy() - 0.5 / max(known.sum(), 1)
    for count in QUANTILES:
        group = np.full(len(scores), -1)
        group[known] = np.minimum((share * count).astype(int), count - 1)
        sizes = np.bincount(group[known], minlength=count)
        if sizes.min() >= LEAST:
            break
    else:
        smallest = f"the smallest of {count} has {sizes.min()}" if known.any() else "there are 0"
        needs = f"{LEAST} stories in each of {count} quantiles of the score; {smallest}"
        needed = Figure(
            "quantile_spread", name, "percent", int(known.sum()), "stories", needs=needs, source=EVENT_STUDY
        )
        return needed, (), ()
    each = [found.mean(column, (group == n).astype(float), lags, base) for n in range(count)]
    values = np.array([mean.value[0] for mean in each])
    top, bottom = group == count - 1, group == 0
    returns = np.where(known, column[:, 0], 0.0)
    moments = top * (returns - values[-1]) / sizes[-1] - bottom * (returns - values[0]) / sizes[0]
    clusters = found.count_sessions((top | bottom)[:, None])
    sums, n = found.sum_up(moments[:, None]), np.array([sizes[0] + sizes[-1]])
    pulls = found.sum_up(np.column_stack([top / sizes[-1], bottom / sizes[0]])).max(axis=1, keepdims=True)
    spread = estimate(values[-1:] - values[:1], sums, lags, clusters=clusters, leverage=pulls, n=n)
    figure = to_figure(spread, 0, lag, found.sessions, "quantile_spread", name, "percent", source=EVENT_STUDY)
    scored = [float(scores[group == n].mean()) for n in range(count)]
    low, high = (tuple(to_plain_number(getattr(mean, end)[0]) for mean in each) for end in ("low", "high"))
    rows = tuple(
        (f"{n + 1} of {count}", int(sizes[n]), scored[n], float(values[n]), low[n], high[n]) for n in range(count)
    )
    columns = ("quantile of the score", "stories", "mean score", "mean return", "low", "high")
    table = Table(
        "quantiles",
        f"Returns over {say_count(holding, 'bar')} by quantile of the score",
        columns,
        ("", "count", "ratio", "percent", "percent", "percent"),
        rows,
    )
    curve = Curve(
        "quantiles",
        f"Mean return over {say_count(holding, 'bar')} by quantile of the score",
        tuple(float(n + 1) for n in range(count)),
        tuple(float(v) for v in values),
        "quantile of the score, lowest first",
        "mean abnormal return",
        "percent",
        "bars",
        low,
        high,
        tuple(int(size) for size in sizes),
        tuple(f"{n + 1}" for n in range(count)),
    )
    return figure, (table,), (curve,)
