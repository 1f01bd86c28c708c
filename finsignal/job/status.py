"""How a job has been doing: its last passes, the bars it decided, how long it took, whether its scores drift."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import Any

import pandas as pd

from finsignal import evidence
from finsignal.config import RunFile
from finsignal.job.passing import ledger_of
from finsignal.ledger import measure_drift, open_ledger, read_decisions, read_news, read_passes

SERVED = ("decided", "partly")
RECENT = pd.Timedelta(7, unit="D")
LEAST_TEXTS = 50  # on each side, below which a distance between distributions says nothing


def make_status(run: RunFile, *, now: pd.Timestamp, last: int) -> dict[str, Any]:
    """For JSON: the `last` passes, the share of bars decided, seconds a pass took, and the drift of its texts' scores.

    coverage counts bars decided and missed since the first. latency is None where nothing was decided. Drift holds the
    scores of texts new in the last 7 days against those before, as `ledger.measure_drift`; its distance is None with
    fewer than 50 texts on a side.

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
        "drift": _to_drift(news, since=now - RECENT),
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


def _to_drift(news: pd.DataFrame, *, since: pd.Timestamp) -> dict[str, Any]:
    drift = measure_drift(news, since=since)
    figures = {name: evidence.to_none(value) for name, value in dataclasses.asdict(drift).items()}
    enough = min(drift.earlier, drift.recent) >= LEAST_TEXTS
    if not enough:
        figures |= {"distance": None, "limit": None}
    return {"since": since.isoformat(), **figures, "drifts": drift.distance > drift.limit if enough else None}


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
        lines.append(
            f"  drift      needs {LEAST_TEXTS} texts new in the last week and as many before; there are "
            f"{drift['recent']:,} and {drift['earlier']:,}"
        )
    else:
        lines.append(
            f"  drift      {'YES' if drift['drifts'] else 'no'}: mean score this week {drift['mean_recent']:+.3f}, "
            f"before {drift['mean_earlier']:+.3f}; distance {drift['distance']:.3f}, limit {drift['limit']:.3f}"
        )
    lines += [f"  models     {', '.join(status['models']) or 'none yet'}", "  last passes"]
    for row in status["last"]:
        took = "" if row["seconds"] is None else f" {row['seconds']:.2f} s"
        lines.append(f"    {row['now']}  {row['outcome']:<11} {row['code']}{took}  {row['message']}")
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)
