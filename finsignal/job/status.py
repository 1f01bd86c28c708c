"""How a job has been doing: its last passes, the bars it decided, how long it took, whether its scores drift."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pandas as pd

from finsignal import evidence
from finsignal.config import RunFile
from finsignal.job.passing import ledger_of
from finsignal.ledger import open_ledger, read_decisions, read_news, read_passes

SERVED = ("decided", "partly")
RECENT_SHARE = 4  # the newest quarter of the scored texts is held against the rest
LEAST_TEXTS = 50  # on each side, below which a distance between distributions says nothing


def make_status(run: RunFile, *, now: pd.Timestamp, last: int) -> dict[str, Any]:
    """For JSON: the `last` passes, the share of bars decided, seconds a pass took, and the drift of its texts' scores.

    coverage counts bars decided and missed since the first. latency is None where nothing was decided. Drift is the
    two-sample Kolmogorov-Smirnov distance between the scores (p_positive - p_negative) of the newest quarter of the
    texts that decisions were made from and the others, with its asymptotic p-value (Smirnov 1948,
    doi:10.1214/aoms/1177730256); None, saying so, with fewer than 50 texts on a side. A text counts once, however many
    decisions it stood behind.

    Raises LedgerError where there is no ledger yet, or it cannot be read.
    """
    with closing(open_ledger(ledger_of(run), create=False)) as ledger:
        passes = read_passes(ledger, run.name)
        decisions = read_decisions(ledger, run.name)
        news = read_news(ledger, run.name)
    outcomes = passes["outcome"].value_counts().to_dict()
    done = passes[passes["outcome"].isin(SERVED)]
    served, missed = len(done), int(passes.loc[passes["outcome"] == "missed", "time"].nunique())
    seconds = done["seconds"].dropna()
    return {
        "name": run.name,
        "now": now.isoformat(),
        "passes": {str(name): int(n) for name, n in sorted(outcomes.items())},
        "coverage": {
            "decided": served,
            "missed": missed,
            "share": served / (served + missed) if served + missed else None,
            "held": int((decisions["reason"] != "").sum()),
            "decisions": len(decisions),
        },
        "latency": {
            "median": evidence.to_none(float(seconds.median())) if len(seconds) else None,
            "slowest": float(seconds.max()) if len(seconds) else None,
        },
        "signals": {str(k): int(v) for k, v in decisions["signal"].value_counts().sort_index().items()},
        "models": decisions["model"].drop_duplicates().tolist(),
        "drift": _to_drift(news),
        "last": [
            {
                "now": row.now.isoformat(),
                "bar": None if pd.isna(row.open_time) else row.open_time.isoformat(),
                "outcome": row.outcome,
                "code": int(row.code),
                "seconds": evidence.to_none(row.seconds),
                "news": int(row.news),
                "message": row.message,
            }
            for row in passes.tail(last).itertuples()
        ],
    }


def _to_drift(news: pd.DataFrame) -> dict[str, Any]:
    texts = news.drop_duplicates("article_id").sort_values(["known", "article_id"])
    scores = (texts["p_positive"] - texts["p_negative"]).to_numpy()
    recent = len(scores) // RECENT_SHARE
    old, new = scores[: len(scores) - recent], scores[len(scores) - recent :]
    figures: dict[str, Any] = {"texts": len(scores), "recent": len(new), "mean": None, "recent_mean": None}
    if min(len(old), len(new)) < LEAST_TEXTS:
        needs = LEAST_TEXTS * RECENT_SHARE
        return {**figures, "distance": None, "p": None, "note": f"needs {needs} texts, there are {len(scores)}"}
    distance = to_distance(old, new)
    size = len(old) * len(new) / (len(old) + len(new))
    return {
        **figures,
        "mean": float(old.mean()),
        "recent_mean": float(new.mean()),
        "distance": distance,
        "p": to_p_value(distance * np.sqrt(size)),
        "note": "",
    }


def to_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The largest distance between two empirical distribution functions, 0 to 1.

    >>> to_distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0]))
    0.5
    """
    both = np.sort(np.concatenate([one, other]))
    shares = [np.searchsorted(np.sort(values), both, side="right") / len(values) for values in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def to_p_value(statistic: float) -> float:
    """The probability of a larger sqrt(nm / (n + m)) * distance where both samples come from one distribution.

    Kolmogorov's series: 2 * sum over k of (-1)^(k-1) exp(-2 k^2 x^2); below 0.2 it is 1 to twelve digits.
    """
    if statistic < 0.2:
        return 1.0
    k = np.arange(1, 101)
    return float(min(1.0, 2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * k**2 * statistic**2))))


def to_text(status: dict[str, Any]) -> str:
    """The status for people."""
    cover, late, drift = status["coverage"], status["latency"], status["drift"]
    share = "-" if cover["share"] is None else f"{cover['share']:.1%}"
    lines = [
        f"{status['name']} at {status['now']}",
        f"  bars       {cover['decided']:,} decided, {cover['missed']:,} missed ({share} decided)",
        f"  decisions  {cover['decisions']:,}, {cover['held']:,} of them held back; "
        + ", ".join(f"{n:,} {signal}" for signal, n in status["signals"].items()),
    ]
    if late["median"] is not None:
        lines.append(f"  a pass     {late['median']:.2f} s (median), {late['slowest']:.2f} s (slowest)")
    if drift["distance"] is None:
        lines.append(f"  drift      {drift['note']}")
    else:
        lines.append(
            f"  drift      scores of the newest {drift['recent']:,} texts: mean {drift['recent_mean']:+.3f}, before "
            f"{drift['mean']:+.3f}; distance {drift['distance']:.3f}, p {drift['p']:.3g}"
        )
    lines += [f"  models     {', '.join(status['models']) or 'none yet'}", "  last passes"]
    for row in status["last"]:
        took = "" if row["seconds"] is None else f" {row['seconds']:.2f} s"
        lines.append(f"    {row['now']}  {row['outcome']:<11} {row['code']}{took}  {row['message']}")
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)
