"""What a lake holds: rows and spans by symbol, bars that are missing, silences of the news, and the last fetches."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd

from finsignal.clock import make_bars, to_instant
from finsignal.errors import ConfigError
from finsignal.lake.contracts import KEPT
from finsignal.lake.ordering import newest, take
from finsignal.lake.reading import Wanted, read_rows, to_root
from finsignal.lake.store import Lake, list_values, to_folder
from finsignal.tables import to_integers

CELLS = 40  # stretches from the first bar to the last, of which coverage tells the share that is there
LONGEST = 5  # gaps and silences that are told one by one
_MICROSECOND = pd.Timedelta(1, unit="us")


def make_lake_status(lake: Lake, *, now: pd.Timestamp) -> dict[str, Any]:
    """What the lake had recorded by `now`, as plain JSON: texts, numbers, lists and dicts; instants as ISO text in UTC.

    prices, actions, funding, open_interest: one entry a market (and bar length) and symbol with rows, first, last; for
    prices also missing, the bars that the market's calendar expects between first and last and the lake has not (null
    where it knows no such market), gaps, the LONGEST runs of them (start, end, bars), and coverage, the share of bars
    that are there in each of up to CELLS equal stretches of that grid. articles: one entry a source
    with rows, first, last, silent_hours (since the last; null where it lies after `now`) and silences, the LONGEST
    times without an article. links: rows, articles and symbols. scores: rows by model. fetches: for each source,
    market, bar and symbol when it was last asked, for what, and what came. size: files and bytes.

    Raises SourceError for a part that cannot be read, ConfigError for an instant without zone.
    """
    at = to_instant(now, where="lake status: now", tz=None)
    links, scores = (_read(lake, table, KEPT[table].contract.key, at) for table in ("links", "scores"))
    by_model = scores["model"].value_counts().sort_index()
    return {
        "folder": str(lake.folder),
        "now": at.isoformat(),
        **{table: _spans(lake, table, at) for table in ("prices", "actions", "funding", "open_interest")},
        "articles": _sources(_read(lake, "articles", ("article_id", "source", "time"), at), at),
        "links": {"rows": len(links), "articles": links["article_id"].nunique(), "symbols": links["symbol"].nunique()},
        "scores": [{"model": str(model), "rows": int(rows)} for model, rows in by_model.items()],
        "fetches": _last_fetches(_read(lake, "fetches", KEPT["fetches"].schema.names, at)),
        "size": _size(lake),
    }


def _read(lake: Lake, table: str, columns: tuple[str, ...] | list[str], at: pd.Timestamp, **place: str) -> pd.DataFrame:
    """These columns of the newest versions recorded by then; without the others, for the texts take long to read."""
    kept = KEPT[table]
    market, bar = place.get("market", ""), place.get("bar", "")
    names = list(dict.fromkeys([*kept.contract.key, *columns, "recorded"]))
    root = to_root(lake, table, kept, market=market, bar=bar)
    rows = read_rows(root, kept, Wanted(recorded_by=at), bar=bar, columns=names)
    return take(rows, newest(rows, kept.contract.key)).to_pandas()


def _spans(lake: Lake, table: str, at: pd.Timestamp) -> list[dict[str, Any]]:
    entries = []
    for place in _places(lake, table):
        if table != "prices":
            rows = _read(lake, table, ("symbol", "time"), at, **place)
            entries += [{**place, "symbol": s, "rows": len(g), **_span(g["time"])} for s, g in rows.groupby("symbol")]
            continue
        rows = _read(lake, table, ("symbol", "time", "open_time"), at, **place)
        grid = _to_grid(rows, **place) if len(rows) else None
        entries += [
            {**place, "symbol": s, "rows": len(g), **_span(g["time"]), **_find_gaps(g["open_time"], grid)}
            for s, g in rows.groupby("symbol")
        ]
    return entries


def _places(lake: Lake, table: str) -> list[dict[str, str]]:
    """The markets, and bar lengths, of which the lake keeps such rows."""
    folder = lake.folder / table
    markets = list_values(folder, "market")
    if "bar" not in KEPT[table].by:
        return [{"market": market} for market in markets]
    return [{"market": m, "bar": b} for m in markets for b in list_values(folder / to_folder("market", m), "bar")]


def _span(times: pd.Series) -> dict[str, str]:
    return {"first": times.min().isoformat(), "last": times.max().isoformat()}


def _to_grid(rows: pd.DataFrame, market: str, bar: str) -> pd.DataFrame | None:
    try:
        return make_bars(
            market,
            bar,
            start=rows["open_time"].min(),
            end=rows["open_time"].max() + _MICROSECOND,
            latency=pd.Timedelta(0),
        )
    except ConfigError:  # rows of a market that has no calendar were appended; they are there, only not to be judged
        return None


def _find_gaps(opens: pd.Series, grid: pd.DataFrame | None) -> dict[str, Any]:
    if grid is None:
        return {"missing": None, "gaps": [], "coverage": []}
    there = to_integers(opens)
    expected = to_integers(grid["open_time"])
    inside = np.flatnonzero((expected >= there.min()) & (expected <= there.max()))
    present = np.isin(expected[inside], there)
    absent = inside[~present]
    cells = np.array_split(present, min(CELLS, len(present))) if len(present) else []
    runs = np.split(absent, np.flatnonzero(np.diff(absent) > 1) + 1) if len(absent) else []
    longest = sorted(runs, key=lambda run: (-len(run), run[0]))[:LONGEST]
    gaps = [
        {
            "start": grid["open_time"].iloc[run[0]].isoformat(),
            "end": grid["close_time"].iloc[run[-1]].isoformat(),
            "bars": len(run),
        }
        for run in longest
    ]
    return {"missing": len(absent), "gaps": gaps, "coverage": [round(float(cell.mean()), 4) for cell in cells]}


def _sources(articles: pd.DataFrame, at: pd.Timestamp) -> list[dict[str, Any]]:
    return [
        {"source": source, "rows": len(group), **_span(group["time"]), **_find_silences(group["time"], at)}
        for source, group in articles.groupby("source", sort=True)
    ]


def _find_silences(times: pd.Series, at: pd.Timestamp) -> dict[str, Any]:
    known = times.sort_values()
    pauses = known.diff().dt.total_seconds().to_numpy() / 3600
    order = np.argsort(-np.nan_to_num(pauses), kind="stable")[:LONGEST]
    silences = [
        {
            "start": known.iloc[row - 1].isoformat(),
            "end": known.iloc[row].isoformat(),
            "hours": round(float(pauses[row]), 2),
        }
        for row in order.tolist()
        if row and pauses[row] > 0
    ]
    last = known.iloc[-1]
    return {
        "silent_hours": round((at - last) / pd.Timedelta(hours=1), 2) if last <= at else None,
        "silences": silences,
    }


def _last_fetches(fetches: pd.DataFrame) -> list[dict[str, Any]]:
    place = ["source", "market", "bar", "symbol"]
    last = fetches.sort_values([*place, "recorded", "end"]).drop_duplicates(place, keep="last")
    shown = last.assign(**{c: [stamp.isoformat() for stamp in last[c]] for c in ("start", "end", "recorded")})
    return shown[[*place, "recorded", "start", "end", "rows", "missing", "note"]].to_dict("records")


def _size(lake: Lake) -> dict[str, int]:
    sizes = []
    for folder, _, names in os.walk(lake.folder):
        for name in names:
            path = os.path.join(folder, name)
            sizes.append(os.path.getsize(path) if os.path.exists(path) else 0)
    return {"files": len(sizes), "bytes": sum(sizes)}
