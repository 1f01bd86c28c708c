"""Windows that walk forward: a timeline of what each chose on and was tested on, and a table of what it chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from finsignal.report.drawings import Drawing, base_layout
from finsignal.report.text import NONE, Html, bdi, day, number, plural, table

STRETCHES = (("train", "#8b949e"), ("validation", "#c79a1b"), ("test", "#1f5fa8"))


def list_windows(summary: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The windows of a run that walked forward; none for a single cut, or no split at all."""
    split = (summary.get("period") or {}).get("split") or {}
    return () if split.get("validation") else split.get("windows") or ()


def draw_windows(windows: Sequence[Mapping[str, Any]]) -> Drawing | None:
    """One row a window, the oldest on top: train, validation and test as bars over time; nothing without windows."""
    if not windows:
        return None
    data = []
    for name, color in STRETCHES:
        at: list[str | None] = []
        row: list[int | None] = []
        for place, window in enumerate(windows, start=1):
            if window.get(name):
                at += [*(str(pd.Timestamp(edge).tz_localize(None)) for edge in window[name]), None]
                row += [place, place, None]
        if at:
            data.append({
                "type": "scatter", "mode": "lines", "name": name, "x": at, "y": row,
                "line": {"color": color, "width": 9},
                "hovertemplate": "window %{y}: %{x|%Y-%m-%d %H:%M}<extra>" + name + "</extra>",
            })  # fmt: skip
    layout = base_layout(130 + min(18 * len(windows), 640))
    layout["hovermode"] = "closest"
    layout["yaxis"] |= {"range": [len(windows) + 0.7, 0.3], "showgrid": False, "zeroline": False, "nticks": 12,
                        "tickformat": "d"}  # fmt: skip
    return {"id": "windows", "data": data, "layout": layout}


def windows_part(summary: Mapping[str, Any]) -> Html:
    """The section of the page: timeline, what was left out, and a row for each window; empty without windows."""
    windows = list_windows(summary)
    if not windows:
        return Html("")
    split = summary["period"]["split"]
    more = f" and {plural(split['embargo_bars'], 'bar')} of embargo" if split.get("embargo_bars") else ""
    chosen = "Nothing was searched: the settings are those stated."
    if any(window["chosen"] for window in windows):
        on = "the worse of its Sharpe ratios on train and validation" if windows[0].get("validation") else "train alone"
        chosen = f"Each chose its settings by {on}, after costs, from accounts that start flat."
    rows = [
        (
            str(place),
            *(span(window.get(name)) for name, _ in STRETCHES),
            number(window.get("tried"), "count"),
            bdi(", ".join(f"{name} {number(value)}" for name, value in window["chosen"].items()) or "as stated"),
            *(number(window.get(f"sharpe_{name}"), "ratio") for name, _ in STRETCHES),
        )
        for place, window in enumerate(windows, start=1)
    ]
    head = ("", "Train", "Validation", "Test", "Tried", "Chosen", "Sharpe: train", "validation", "test")
    return Html(
        '<section id="windows"><h2>Train, validation and test</h2>'
        f'<p class="sub">{plural(len(windows), "window")}, {bdi(split.get("kind", NONE))}. {chosen} One account went '
        "through all tests, nothing closed between them. Left out before each test and each validation: "
        f"{plural(split.get('purge_bars'), 'bar')} purged{more}.</p>"
        '<div class="figure" id="figure-windows"></div>'
        + table(head, rows, style="windows", numbers=(4, 6, 7, 8))
        + "</section>"
    )


def span(edges: Sequence[str] | None) -> Html:
    """The dates of a stretch, half-open; the dash where there is none."""
    return Html(f"{day(edges[0])} to {day(edges[1])}") if edges else Html(NONE)
