"""Curves of an answer as inline SVG: lines in the band of their intervals, bars, histograms with the own value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from finsignal.report.curves import to_powers, to_ticks
from finsignal.report.intervals import AGAINST, NET
from finsignal.report.text import MINUS, Html, escape, in_unit, is_none, number

WIDTH, HEIGHT = 400, 232  # pixels, small, so that the letters are still to be read on a telephone
NARROW = 270, 176  # of four beside each other
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 40
SHADES = (NET, "#d98324", "#2a9d7c", "#b07aa1", AGAINST)
AXIS, GRID, QUIET, INK = "#aab2ba", "#edf0f2", "#c3cbd3", "#1d2733"
LEVELS = {"deflated_by_trials": 0.95}  # by key of the curve: what it takes, where the scale is from 0 to 1
FACTORS = 60  # places that reach over so many times the first are drawn by factors
LETTER = 6.2  # pixels of one, about

Curve = Mapping[str, Any]
Place = Callable[[float], float]


def curves_part(curves: Sequence[Curve]) -> Html:
    """One chart a curve; lines over the same places that count the same share one."""
    groups = [list(group) for _, group in groupby(curves, key=_alike)]
    drawn = [group for group in groups if any(not is_none(value) for value in group[0]["y"])]
    if not drawn:
        return Html("")
    four = len(drawn) == 4 and all(group[0].get("kind") == "histogram" for group in drawn)
    columns = 4 if four else {1: 1, 2: 2, 4: 2}.get(len(drawn), 3)
    size = NARROW if four else (WIDTH, HEIGHT)
    figures = "".join(f"<figure>{_caption(group)}{draw_curves(group, size=size)}</figure>" for group in drawn)
    return Html(f'<div class="charts of-{columns}">{figures}</div>')


def draw_curves(curves: Sequence[Curve], *, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Html:
    """A chart of curves that count the same over the same places, with their marks; size: its width and height."""
    first, (width, height) = curves[0], size
    end = width - RIGHT
    labels, marks = list(first.get("labels") or ()), [mark for curve in curves for mark in curve.get("marks") or ()]
    slant = bool(labels) and sum(LETTER * len(label) + 12 for label in labels) > end - LEFT
    bottom = BOTTOM + (round(min(LETTER * 0.5 * max(map(len, labels)), 58)) if slant else 0)
    top = TOP + 15 * len(marks)  # their names stand above what is drawn
    height += bottom - BOTTOM + top - TOP
    x, span = _make_across(curves, marks, end)
    low, high = _find_levels(curves)
    y = _make_scale(low, high, height - bottom, top)
    ticks = to_ticks(low, high, most=6, whole=first["unit"] == "count" and high - low > 5)
    body = [_grid(y, ticks, first["unit"], end)]
    body.append(_places(first, x, span, labels, slant, height - bottom, end))
    if first["key"] in LEVELS:
        at = y(LEVELS[first["key"]])
        body.append(f'<line x1="{LEFT}" x2="{end}" y1="{at:.1f}" y2="{at:.1f}" stroke="{INK}" stroke-opacity=".6"/>')
    kind = first.get("kind", "line")
    for at, curve in enumerate(curves):
        if kind == "line":
            body.append(_line(curve, x, y, SHADES[at % len(SHADES)]))
        else:
            body.append(_bars(curve, x, y, own=[place for place, _ in marks] if kind == "histogram" else []))
    if low <= 0 <= high:
        body.append(f'<line x1="{LEFT}" x2="{end}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="#6b7682"/>')
    body += _marks(marks, x, height - bottom, end)
    across = f'x="{end}" y="{height - 4}" text-anchor="end" class="soft"'
    body.append(f"<text {across}>{escape(_cut(first['x_name']))}</text>")  # what goes up stands in the caption
    said = f"{first['name']}: {first['y_name']} over {first['x_name']}"
    box = f'viewBox="0 0 {width} {height}"'
    return Html(f'<svg class="answer" {box} role="img" aria-label="{escape(said)}">{"".join(body)}</svg>')


def draw_small(curve: Curve) -> Html:
    """A histogram as high as a line of a table: what was drawn in grey, the own value a rule, beyond it orange."""
    places, marks = [float(place) for place in curve["x"]], [float(place) for place, _ in curve.get("marks") or ()]
    half, most = _step(places) / 2, max((level or 0 for level in curve["y"]), default=0) or 1
    low, high = min([place - half for place in places] + marks), max([place + half for place in places] + marks)
    x = _make_scale(low, high, 8, 232)
    body = ['<line x1="0" x2="240" y1="25.5" y2="25.5" stroke="#c9d0d7"/>']
    for place, level in zip(places, curve["y"], strict=True):
        tall = 22 * (level or 0) / most
        shade = AGAINST if any(place + half > mark for mark in marks) else QUIET
        wide = max(x(place + half) - x(place - half) - 0.6, 0.6)
        size = f'width="{wide:.1f}" height="{tall:.1f}"'
        body.append(f'<rect x="{x(place - half):.1f}" y="{25 - tall:.1f}" {size} fill="{shade}"/>')
    body += [
        f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="1" y2="26" stroke="{INK}" stroke-width="1.8"/>'
        for mark in marks
    ]
    return Html(f'<svg class="interval" viewBox="0 0 240 26" aria-hidden="true">{"".join(body)}</svg>')


def _alike(curve: Curve) -> tuple[Any, ...]:
    """What curves in one chart have in common; bars and histograms stand alone."""
    own = "" if curve.get("kind", "line") == "line" else curve["key"]
    return own, tuple(curve["x"]), tuple(curve.get("labels") or ()), curve["x_name"], curve["y_name"], curve["unit"]


def _caption(curves: Sequence[Curve]) -> str:
    names = [
        f'<span><i class="dot" style="background:{SHADES[at % len(SHADES)]}"></i>{escape(curve["name"])}</span>'
        if len(curves) > 1
        else f"<span>{escape(curve['name'])}</span>"
        for at, curve in enumerate(curves)
    ]
    return f'<figcaption>{"".join(names)}<span class="sub">{escape(curves[0]["y_name"])}</span></figcaption>'


def _make_across(
    curves: Sequence[Curve], marks: Sequence[Sequence[Any]], end: float
) -> tuple[Place, tuple[float, float]]:
    """Where a value of x stands, and the first and the last of those shown."""
    first = curves[0]
    places = [float(value) for value in first["x"]]
    kind = first.get("kind", "line")
    if first.get("labels"):  # names stand side by side, whatever lies between them
        order = np.argsort(places, kind="stable")
        known, at = np.array(places)[order], np.arange(len(places))[order]
        room = 0.5 if kind != "line" else 0.18
        scale = _make_scale(-room, max(len(places) - 1, 0) + room, LEFT, end)
        return lambda value: scale(float(np.interp(value, known, at))), (0.0, len(places) - 1.0)
    everything = places + [float(place) for place, _ in marks]
    low, high = min(everything), max(everything)
    if kind == "line" and low > 0 and high / low >= FACTORS:
        scale = _make_scale(math.log(low), math.log(high), LEFT + 6, end - 6)
        return lambda value: scale(math.log(value)), (low, high)
    half = _step(places) / 2 if kind != "line" else 0.02 * (high - low)
    if high + half <= low - half:
        half = 0.5
    return _make_scale(low - half, high + half, LEFT, end), (low - half, high + half)


def _find_levels(curves: Sequence[Curve]) -> tuple[float, float]:
    if curves[0]["unit"] == "p" or curves[0]["key"] in LEVELS:
        return 0.0, 1.0
    shown = [value for curve in curves for name in ("y", "low", "high") for value in curve.get(name) or ()]
    levels = [0.0, *(float(value) for value in shown if not is_none(value))]
    low, high = min(levels), max(levels)
    room = 0.07 * (high - low) or 1.0
    return low - room * (low < 0), high + room * (high > 0 or low == high)


def _grid(y: Place, ticks: Sequence[float], unit: str, end: float) -> str:
    parts = []
    for value in ticks:
        at = y(value)
        parts.append(f'<line x1="{LEFT}" x2="{end}" y1="{at:.1f}" y2="{at:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_short(value, unit, ticks)}</text>')
    return "".join(parts)


def _short(value: float, unit: str, ticks: Sequence[float]) -> str:
    """A tick as short as it can be told from its neighbours."""
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else abs(value) or 1.0
    if unit == "percent" and value:
        digits = max(0, -math.floor(math.log10(step * 100) + 1e-9))
        return f"{value * 100:,.{digits}f}\xa0%".replace("-", MINUS)
    for least, size, sign in ((1e9, 1e9, "bn"), (1e6, 1e6, "m"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{number(value / size)}{sign}"
    return number(value, "count" if abs(value) >= 1000 else "number")


def _places(
    curve: Curve, x: Place, span: tuple[float, float], labels: Sequence[str], slant: bool, base: float, end: float
) -> str:
    if labels:
        shown = [(float(place), _cut(label, 22)) for place, label in zip(curve["x"], labels, strict=True)]
        every = math.ceil(len(shown) / 16)
        shown = shown[::every]
    else:
        powers = to_powers(*span) if span[0] > 0 and span[1] / span[0] >= FACTORS else []
        across = powers if len(powers) > 1 else to_ticks(*span, most=6 if end > 300 else 4)
        shown = [(value, _short(value, "", across)) for value in across]
    parts = [f'<line x1="{LEFT}" x2="{end}" y1="{base}" y2="{base}" stroke="{AXIS}"/>']
    for place, label in shown:
        at = x(place)
        turned = (
            f'text-anchor="end" transform="translate({at + 4:.1f} {base + 13}) rotate(-28)"'
            if slant
            else f'x="{at:.1f}" y="{base + 16}" text-anchor="middle"'
        )
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{base}" y2="{base + 4}" stroke="{AXIS}"/>')
        parts.append(f"<text {turned}>{escape(label)}</text>")
    return "".join(parts)


def _line(curve: Curve, x: Place, y: Place, shade: str) -> str:
    parts = [
        f'<polygon points="{_path(upper + lower[::-1])}" fill="{shade}" fill-opacity=".16"/>'
        for upper, lower in _bands(curve, x, y)
    ]
    points = [(float(a), b) for a, b in zip(curve["x"], curve["y"], strict=True)]
    for known, stretch in groupby(points, key=lambda point: not is_none(point[1])):
        if known:
            path = _path([(x(a), y(float(b))) for a, b in stretch])
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{shade}" stroke-width="2" stroke-linejoin="round"/>'
            )
    size = 3.4 if len(points) <= 40 else 1.6
    parts += [
        f'<circle cx="{x(a):.1f}" cy="{y(float(b)):.1f}" r="{size}" fill="{shade}"><title>{_tell(curve, at)}</title>'
        "</circle>"
        for at, (a, b) in enumerate(points)
        if b is not None and not is_none(b)
    ]
    return "".join(parts)


def _bands(curve: Curve, x: Place, y: Place) -> list[tuple[list[tuple[float, float]], list[tuple[float, float]]]]:
    """The upper and the lower edge of each stretch of places that have an interval."""
    ends = zip(curve["x"], curve.get("low") or (), curve.get("high") or (), strict=False)
    bands = []
    for known, group in groupby(ends, key=lambda place: not is_none(place[1]) and not is_none(place[2])):
        stretch = list(group)
        if known:
            bands.append(([(x(a), y(high)) for a, _, high in stretch], [(x(a), y(low)) for a, low, _ in stretch]))
    return bands


def _bars(curve: Curve, x: Place, y: Place, *, own: Sequence[float]) -> str:
    """Bars from zero; in a histogram those at the own value or beyond are orange: their share is the p-value."""
    places = [float(value) for value in curve["x"]]
    half = abs(x(places[0] + _step(places)) - x(places[0])) / 2 if not curve.get("labels") else _beside(places, x) / 2
    width = max(2 * half * (0.94 if curve.get("kind") == "histogram" else 0.62), 1.0)
    parts = []
    for at, (place, level) in enumerate(zip(places, curve["y"], strict=True)):
        if is_none(level):
            continue
        beyond = any(place + _step(places) / 2 > mark for mark in own)
        shade = AGAINST if beyond or (not own and level < 0) else QUIET if own else NET
        top, end = min(y(level), y(0)), max(y(level), y(0))
        depth = 0.75 if shade == AGAINST else 0.9
        parts.append(
            f'<rect x="{x(place) - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{end - top:.1f}" '
            f'fill="{shade}" fill-opacity="{depth}"><title>{_tell(curve, at)}</title></rect>'
        )
        low, high = ((curve.get(name) or [None] * len(places))[at] for name in ("low", "high"))
        if not is_none(low) and not is_none(high):
            middle = x(place)
            parts.append(
                f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="{INK}" '
                'stroke-width="1.4"/>'
            )
    return "".join(parts)


def _marks(marks: Sequence[Sequence[Any]], x: Place, base: float, end: float) -> list[str]:
    """A rule at each marked place with its name; names stand under one another, so that none hides another."""
    parts = []
    for row, (place, name) in enumerate(marks):
        at = x(float(place))
        right = at > (LEFT + end) / 2
        down = TOP + 6 + 15 * row
        where = f'x="{at + (-5 if right else 5):.1f}" y="{down}" text-anchor="{"end" if right else "start"}"'
        # White around the letters, so that what lies behind them stays behind.
        style = f"fill:{INK};stroke:#fff;stroke-width:3.5px;paint-order:stroke;font-weight:600"
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{down - 9}" y2="{base}" stroke="{INK}" stroke-width="1.4" '
            f'stroke-dasharray="4 3"/><text {where} style="{style}">{escape(_cut(str(name), 34))}</text>'
        )
    return parts


def _tell(curve: Curve, at: int) -> str:
    """What a point says where the pointer rests."""
    labels, counts = curve.get("labels") or (), curve.get("n") or ()
    place = labels[at] if labels else f"{curve['x_name']} {number(curve['x'][at])}"
    told = f"{place}: {in_unit(curve['y'][at], curve['unit'])}"
    low, high = ((curve.get(name) or [None] * (at + 1))[at] for name in ("low", "high"))
    if not is_none(low) and not is_none(high):
        told += f" ({in_unit(low, curve['unit'])} to {in_unit(high, curve['unit'])})"
    return escape(f"{told}, n = {number(counts[at], 'count')}" if counts else told)


def _make_scale(low: float, high: float, start: float, end: float) -> Place:
    reach = (high - low) or 1.0
    return lambda value: start + (end - start) * (value - low) / reach


def _step(places: Sequence[float]) -> float:
    return float(np.min(np.diff(np.sort(places)))) if len(set(places)) == len(places) > 1 else 1.0


def _beside(places: Sequence[float], x: Place) -> float:
    drawn = sorted(x(place) for place in places)
    return drawn[1] - drawn[0] if len(drawn) > 1 else 80.0


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "\u2026"
