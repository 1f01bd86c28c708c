"""Charts as plain Plotly figures (data and layout), thinned so that the page opens quickly."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from finsignal.tables import BacktestResult

POINTS = 4000  # per curve: more than a screen has pixels
COLUMNS = 1200  # of the position map
SYMBOLS = 40
CURVES = 8
NET, QUIET = "#1f5fa8", "#8b949e"
OTHERS = (
    "#d98324",
    "#2a9d7c",
    "#b07aa1",
    "#59a9d1",
    "#c44e52",
    "#7f7f2a",
    "#4c6a92",
)  # told apart by colour-blind eyes too
LONG_SHORT = [[0, "#b4531b"], [0.25, "#e9b48f"], [0.5, "#ffffff"], [0.75, "#9dc1e4"], [1, "#1f5fa8"]]

SHADES = (("validation", "rgba(138,100,0,.07)", 0), ("test", "rgba(31,95,168,.06)", -13))  # colour, pixels down

CUTOFFS = (("trained_until", "the model was trained until"), ("base_cutoff", "its base knows until"))
CUT = "#b4531b"

Drawing = dict[str, Any]


def draw_equity(
    result: BacktestResult,
    curves: pd.DataFrame,
    split: Mapping[str, Any] | None,
    cutoffs: Mapping[str, Any] | None = None,
    *,
    height: int = 520,
) -> tuple[Drawing | None, str]:
    """Account values over the drawdown, and what to say of their thinning; nothing to draw without bars.

    cutoffs: ISO instants of what the model knows, by the keys of CUTOFFS; a line at each that lies within the bars.
    """
    size = len(result.equity)
    if not size:
        return None, "The run has no bar."
    starts, ends = buckets(size, POINTS)
    times = to_stamps(result.equity.index[ends])
    values = result.equity.to_numpy(dtype=float)
    mode = "lines" if size > 1 else "markers"
    money = ",.3f" if np.nanmax(np.abs(values)) < 1000 else ",.0f"

    def curve(name: str, line: dict[str, Any], series: np.ndarray, **more: Any) -> Drawing:
        hover = f"%{{y:{money}}}<extra>{label(name)}</extra>"
        return {"type": "scatter", "mode": mode, "name": label(name), "x": times, "y": rounded(series), "line": line,
                "marker": {"color": line["color"]}, "hovertemplate": hover, **more}  # fmt: skip

    compared = curves.iloc[:, 1:].reindex(result.equity.index)
    data = []
    for position, name in enumerate(compared.columns):
        held = "buy and hold" in str(name).lower()
        line = {"color": QUIET if held else OTHERS[position % len(OTHERS)], "width": 1.6 if held else 1.1}
        shown = True if position < CURVES or held else "legendonly"
        series = compared.iloc[:, position].to_numpy(dtype=float)[ends]
        data.append(curve(str(name), line, series, visible=shown, legendrank=10 + position))
    gross = result.gross.to_numpy(dtype=float)[ends]
    own = str(curves.columns[0]) if len(curves.columns) else "this run"
    data.append(curve(f"{own}, before costs", {"color": NET, "width": 1, "dash": "dot"}, gross, legendrank=2))
    data.append(curve(own, {"color": NET, "width": 2.4}, values[ends], legendrank=1))
    fall = np.maximum(values / np.maximum.accumulate(values) - 1, -1.0)  # of a debt nothing more is lost
    deepest = np.minimum.reduceat(fall, starts)
    data.append({
        "type": "scatter", "mode": mode, "name": "drawdown", "x": times, "y": rounded(deepest), "yaxis": "y2",
        "fill": "tozeroy", "line": {"color": "#b4531b", "width": 1}, "marker": {"color": "#b4531b"},
        "fillcolor": "rgba(180,83,27,.18)", "hovertemplate": "%{y:.2%}<extra>drawdown</extra>", "showlegend": False,
    })  # fmt: skip
    layout = base_layout(height)
    layout["yaxis"] |= {
        "domain": [0.34, 1],
        "tickformat": money.replace(".3", ".2"),
    }
    layout["yaxis2"] = {**layout["yaxis"], "domain": [0, 0.28],
                        "tickformat": ".0%" if deepest.min() < -0.05 else ".1%", "rangemode": "tozero"}  # fmt: skip
    layout["xaxis"]["anchor"] = "y2"
    if deepest.min() == 0:
        layout["yaxis2"]["range"] = [-0.01, 0]
    widen_single(layout, result.equity.index)
    shade_split(layout, split)
    mark_cutoffs(layout, result.equity.index, cutoffs or {})
    step = math.ceil(size / POINTS)
    note = (
        f"Each point stands for {step} bars: the last value, and the deepest drawdown among them." if step > 1 else ""
    )
    hidden = len(compared.columns) - CURVES
    if hidden > 0:
        note += f" {hidden} more compared runs are hidden until clicked in the legend."
    return {"id": "equity", "data": data, "layout": layout}, note


def draw_positions(weights: pd.DataFrame) -> tuple[Drawing | None, str]:
    """Gross and net exposure over a map of target weights, and what to say of symbols left out."""
    if not len(weights) or not len(weights.columns):
        return None, "There is no position to draw."
    values = weights.to_numpy(dtype=float)
    mean = np.nan_to_num(np.abs(values)).mean(axis=0)
    order = np.argsort(-mean, kind="stable")[:SYMBOLS]
    shown = np.sort(order)
    _, ends = buckets(len(weights), COLUMNS)
    times = to_stamps(weights.index[ends])
    part = values[np.ix_(ends, shown)]
    largest = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0
    reach = largest or 1.0
    filled = np.nan_to_num(values)
    mode = "lines" if len(weights) > 1 else "markers"
    data: list[Drawing] = [
        {"type": "scatter", "mode": mode, "name": name, "x": times, "y": rounded(series[ends]), "yaxis": "y2",
         "line": {"color": color, "width": 1.4, "shape": "hv"}, "hovertemplate": "%{y:.1%}<extra>" + name + "</extra>"}
        for name, series, color in (
            ("gross exposure", np.abs(filled).sum(axis=1), QUIET),
            ("net exposure", filled.sum(axis=1), NET),
        )
    ]  # fmt: skip
    names = [label(str(weights.columns[position])) for position in shown]
    data.append({
        "type": "heatmap", "x": times, "y": names, "z": [rounded(row) for row in part.T], "zmin": -reach, "zmax": reach,
        "colorscale": LONG_SHORT, "ygap": 1, "hoverongaps": False,
        "hovertemplate": "%{x|%Y-%m-%d %H:%M}<br>%{y}: %{z:.1%}<extra></extra>",
        "colorbar": {"thickness": 8, "outlinewidth": 0, "tickformat": ".0%", "len": 0.6, "y": 0.3},
    })  # fmt: skip
    height = 190 + max(60, 20 * len(shown))
    top = 1 - 110 / (height - 70)
    layout = base_layout(height)
    layout["hovermode"] = "closest"
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "domain": [0, top - 0.04],
                        "tickfont": {"size": 11}, "showgrid": False, "ticks": ""}  # fmt: skip
    layout["yaxis"]["dtick"] = 1
    layout["yaxis2"] = {
        "domain": [top, 1],
        "tickformat": ".0%",
        "gridcolor": "#edf0f2",
        "zerolinecolor": "#c9d0d7",
        "nticks": 4,
    }
    layout["xaxis"]["anchor"] = "y"
    widen_single(layout, weights.index)
    notes = []
    if len(weights.columns) > SYMBOLS:
        notes.append(
            f"The {SYMBOLS} symbols with the largest mean weight of {len(weights.columns)}; exposure counts all."
        )
    if len(weights) > COLUMNS:
        notes.append(f"Each column is the last of {math.ceil(len(weights) / COLUMNS)} bars.")
    if largest == 0:
        notes.append("No position was taken.")
    return {"id": "positions", "data": data, "layout": layout}, " ".join(notes)


def base_layout(height: int) -> Drawing:
    """The look that the charts share."""
    return {
        "height": height,
        "margin": {"l": 12, "r": 14, "t": 30, "b": 30},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "font": {
            "family": "system-ui, Segoe UI, Roboto, Liberation Sans, Arial, sans-serif",
            "size": 12,
            "color": "#1d2733",
        },
        "hovermode": "x unified",
        "legend": {"orientation": "h", "x": 0, "y": -46 / (height - 100), "yanchor": "top"},
        "xaxis": {"type": "date", "gridcolor": "#edf0f2", "linecolor": "#c9d0d7"},
        "yaxis": {"gridcolor": "#edf0f2", "zerolinecolor": "#c9d0d7", "automargin": True},
    }


def widen_single(layout: Drawing, index: pd.Index) -> None:
    """Gives a lone bar a day to either side; Plotly would give it a microsecond."""
    if len(index) == 1:
        day = pd.Timedelta(days=1)
        layout["xaxis"]["range"] = to_stamps(pd.DatetimeIndex([index[0] - day, index[0] + day]))


def shade_split(layout: Drawing, split: Mapping[str, Any] | None) -> None:
    """Shades the validation and test periods of a single cut and names them; a line at each test that walks forward."""
    layout["shapes"], layout["annotations"] = [], []
    if split and not split.get("validation"):
        for window in split["windows"]:
            at = str(pd.Timestamp(window["test"][0]).tz_localize(None))
            layout["shapes"].append({
                "type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "layer": "below",
                "line": {"width": 1, "color": "#c9d0d7", "dash": "dot"},
            })  # fmt: skip
        return
    for name, color, drop in SHADES if split else ():
        first, last = (str(pd.Timestamp(moment).tz_localize(None)) for moment in split[name])  # type: ignore[index]
        layout["shapes"].append({
            "type": "rect", "xref": "x", "yref": "paper", "x0": first, "x1": last, "y0": 0, "y1": 1,
            "fillcolor": color, "line": {"width": 0}, "layer": "below",
        })  # fmt: skip
        layout["annotations"].append({
            "x": first, "xref": "x", "y": 1, "yref": "paper", "text": name, "showarrow": False, "yshift": drop,
            "xanchor": "left", "yanchor": "top", "font": {"size": 11, "color": "#5d6875"},
        })  # fmt: skip


def mark_cutoffs(layout: Drawing, index: pd.Index, cutoffs: Mapping[str, Any]) -> None:
    """A line where the knowledge of the model or of its base ends, named, if that is within the bars."""
    for row, (at, said) in enumerate(_list_cutoffs(index, cutoffs, within=True)):
        place = str(at.tz_localize(None))
        layout["shapes"].append({
            "type": "line", "xref": "x", "yref": "paper", "x0": place, "x1": place, "y0": 0, "y1": 1,
            "line": {"width": 1.5, "color": CUT, "dash": "dash"},
        })  # fmt: skip
        layout["annotations"].append({
            "x": place, "xref": "x", "y": 1, "yref": "paper", "text": said, "showarrow": False,
            "yshift": -28 - 14 * row, "xanchor": "right" if at > index[len(index) // 2] else "left",
            "yanchor": "top", "bgcolor": "rgba(255,255,255,.8)", "font": {"size": 11, "color": CUT},
        })  # fmt: skip


def tell_cutoffs(index: pd.Index, cutoffs: Mapping[str, Any]) -> str:
    """What lies outside the chart: cut-offs before the first bar, or after the last."""
    told = [
        f"{said} {at:%Y-%m-%d}, {'before these bars' if at < index[0] else 'after all of these bars'}"
        for at, said in _list_cutoffs(index, cutoffs, within=False)
    ]
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _list_cutoffs(index: pd.Index, cutoffs: Mapping[str, Any], *, within: bool) -> list[tuple[pd.Timestamp, str]]:
    found = []
    for key, said in CUTOFFS:
        if cutoffs.get(key) and len(index):
            at = pd.Timestamp(cutoffs[key])
            at = at.tz_localize("UTC") if at.tzinfo is None else at.tz_convert("UTC")
            if bool(index[0] <= at <= index[-1]) == within:
                found.append((at, said))
    return found


def buckets(size: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last positions of at most `limit` runs of neighbours that cover range(size)."""
    step = math.ceil(size / limit)
    starts = np.arange(0, size, step)
    return starts, np.minimum(starts + step, size) - 1


def to_stamps(index: pd.Index) -> list[str]:
    """UTC times as Plotly reads them: ISO text without zone."""
    return list(pd.DatetimeIndex(index).tz_convert("UTC").strftime("%Y-%m-%d %H:%M:%S"))


def rounded(values: np.ndarray) -> list[float | None]:
    """Seven significant digits, which no screen can show, with None where there is no number: half the bytes."""
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values.tolist()]


def label(text: str) -> str:
    """Text that Plotly shows as it is: it would read `<b>`, `<a href>` and `<br>` in names as markup."""
    text = text if len(text) <= 40 else text[:39] + "…"
    return html.escape(text, quote=False)
