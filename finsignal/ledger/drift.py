"""Whether the model has begun to say something else about the news than it used to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Drift:
    """Scores (p_positive - p_negative) of texts new since an instant against those before it; NaN where there are none.

    distance: the largest difference of their two distribution functions, 0 to 1; limit: what two samples of these sizes
    from one distribution exceed in about 1 % of cases.
    """

    earlier: int
    recent: int
    mean_earlier: float
    mean_recent: float
    distance: float
    limit: float


def measure_drift(news: pd.DataFrame, *, since: pd.Timestamp) -> Drift:
    """The drift between texts first behind a decision at `since` or later and those first behind an earlier one.

    `news` is what `read_news` gives; a text behind many decisions counts once for its symbol. The distance is that of
    Kolmogorov and Smirnov, its limit 1.63 sqrt(1/n + 1/m): N. Smirnov, Annals of Mathematical Statistics 19 (1948),
    279-281, doi:10.1214/aoms/1177730256.
    """
    first = news.sort_values("time", kind="stable").drop_duplicates(["symbol", "article_id"])
    scores = (first["p_positive"] - first["p_negative"]).to_numpy()
    is_recent = (first["time"] >= since).to_numpy()
    recent, earlier = np.sort(scores[is_recent]), np.sort(scores[~is_recent])
    n, m = len(earlier), len(recent)
    mean_earlier, mean_recent = (float(part.mean()) if len(part) else np.nan for part in (earlier, recent))
    if n == 0 or m == 0:
        return Drift(n, m, mean_earlier, mean_recent, distance=np.nan, limit=np.nan)
    below = [np.searchsorted(part, scores, side="right") / len(part) for part in (earlier, recent)]
    distance = float(np.abs(below[0] - below[1]).max())
    return Drift(n, m, mean_earlier, mean_recent, distance=distance, limit=1.63 * float(np.sqrt(1 / n + 1 / m)))
