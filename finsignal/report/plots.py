"""Small charts as inline SVG, for a page that needs no script: curves, dots with intervals, confusion tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from finsignal.report.drawings import NET, OTHERS, QUIET
from finsignal.report.text import Html, escape, is_none, number

COLOURS = (NET, *OTHERS)
LEFT, RIGHT, TOP, BOTTOM = 60, 22, 24, 44  # pixels around a chart of WIDTH by HEIGHT
WIDTH, HEIGHT = 520, 360
AXIS, GRID, SOFT = "#aab2ba", "#edf0f2", "#5d6875"
FEWEST = 20  # rows, below which a point of the coverage curve is noise


def colours(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """One colour a model, in their order; a majority floor is grey."""
    return [QUIET if m["name"] == "majority" else COLOURS[at % len(COLOURS)] for at, m in enumerate(models)]


def legend(names: Sequence[str], shades: Sequence[str]) -> Html:
    """The names beside dots of their colours."""
    parts = (f"<span>{dot(shade)}{escape(name)}</span>" for name, shade in zip(names, shades, strict=True))
    return Html(f'<p class="legend">{"".join(parts)}</p>')


def dot(shade: str) -> Html:
    return Html(f'<i class="dot" style="background:{shade}"></i>')


def draw_reliability(models: Sequence[Mapping[str, Any]], shades: Sequence[str]) -> Html:
    """Accuracy against confidence; on the dashed line confidence is true, below it the model is too sure of itself."""
    values = [p[key] for m in models for p in m["reliability"] for key in ("confidence", "accuracy")]
    start = np.floor(10 * min(values, default=0.3)) / 10
    x, y = _scale(start, 1, LEFT, WIDTH - RIGHT), _scale(start, 1, HEIGHT - BOTTOM, TOP)
    body = [_grid(x, y, start, start, across="confidence", up="accuracy")]
    body.append(_line([(start, start), (1, 1)], x, y, AXIS, width=1.5, dash="5 4"))
    for at, (model, shade) in reversed(list(enumerate(zip(models, shades, strict=True)))):
        points = model["reliability"]
        if at == 0:  # the intervals of all would hide one another
            body += [_whisker(p, "confidence", x, y, shade) for p in points]
        body.append(_line([(p["confidence"], p["accuracy"]) for p in points], x, y, shade))
        body += [
            _circle(
                x(p["confidence"]),
                y(p["accuracy"]),
                shade,
                f"{model['name']}: confidence {number(p['confidence'], 'percent')}, right on "
                f"{number(p['accuracy'], 'percent')} of {number(p['n'], 'count')} rows",
            )
            for p in points
        ]
    return _chart(body, "Accuracy against confidence")


def draw_coverage(models: Sequence[Mapping[str, Any]], shades: Sequence[str]) -> Html:
    """Accuracy of the share of rows that a confidence threshold keeps; dots are thresholds of the first model."""
    curves = [[p for p in m["coverage"] if p["n"] >= FEWEST] or m["coverage"][-1:] for m in models]
    start = np.floor(10 * min((p["accuracy"] for curve in curves for p in curve), default=0)) / 10
    start = min(start, 0.9)
    x, y = _scale(0, 1, LEFT, WIDTH - RIGHT), _scale(start, 1, HEIGHT - BOTTOM, TOP)
    body = [_grid(x, y, 0, start, across="share of rows kept, the surest first", up="accuracy of these")]
    for curve, shade in reversed(list(zip(curves, shades, strict=True))):
        body.append(_line([(p["coverage"], p["accuracy"]) for p in curve], x, y, shade))
        if len(curve) == 1:
            body.append(_circle(x(curve[0]["coverage"]), y(curve[0]["accuracy"]), shade, "all rows"))
    for point in models[0]["thresholds"]:
        if point["n"] < FEWEST:
            continue
        at, up = x(point["coverage"]), y(point["accuracy"])
        said = (
            f"confidence of {point['threshold']} or more: {number(point['coverage'], 'percent')} of the rows, "
            f"{number(point['accuracy'], 'percent')} right"
        )
        body.append(_circle(at, up, shades[0], said))
        body.append(f'<text x="{at:.1f}" y="{up - 9:.1f}" text-anchor="middle">{point["threshold"]:g}</text>')
    return _chart(body, "Accuracy at coverage")


def draw_strip(figures: Sequence[Mapping[str, Any]], shades: Sequence[str], low: float, high: float) -> Html:
    """One dot with its interval a model, under one another, on a scale from low to high."""
    height = 13 * len(figures) + 3
    x = _scale(low, high, 6, 194)
    body = [f'<rect x="6" y="0" width="188" height="{height}" fill="#f6f7f8" rx="3"/>']
    for at, (figure, shade) in enumerate(zip(figures, shades, strict=True)):
        middle = 8 + 13 * at
        if is_none(figure["value"]):
            body.append(f'<text x="9" y="{middle + 4}" style="font-size:10px">not defined</text>')
            continue
        if not is_none(figure["low"]):
            ends = f'x1="{x(figure["low"]):.1f}" x2="{x(figure["high"]):.1f}"'
            body.append(f'<line {ends} y1="{middle}" y2="{middle}" stroke="{shade}" stroke-width="2.2"/>')
        body.append(f'<circle cx="{x(figure["value"]):.1f}" cy="{middle}" r="4" fill="{shade}"/>')
    return Html(f'<svg class="strip" viewBox="0 0 200 {height}" aria-hidden="true">{"".join(body)}</svg>')


def draw_difference(figure: Mapping[str, Any], reach: float) -> Html:
    """A dot with its interval on a scale from -reach to reach, with a rule at zero."""
    x = _scale(-reach, reach, 6, 194)
    body = [f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="0" y2="18" stroke="{AXIS}"/>']
    if not is_none(figure["low"]):
        ends = f'x1="{x(figure["low"]):.1f}" x2="{x(figure["high"]):.1f}"'
        body.append(f'<line {ends} y1="9" y2="9" stroke="{NET}" stroke-width="2"/>')
    body.append(f'<circle cx="{x(figure["value"]):.1f}" cy="9" r="4.5" fill="{NET}"/>')
    return Html(f'<svg class="strip" viewBox="0 0 200 18" aria-hidden="true">{"".join(body)}</svg>')


def draw_confusion(table: Sequence[Sequence[int]], labels: Sequence[str]) -> Html:
    """True labels down, predicted across: counts, and the share of the true label's rows as depth of colour."""
    body = ['<text x="190" y="11" text-anchor="middle" class="soft">predicted</text>']
    body += [f'<text x="{106 + 84 * at}" y="27" text-anchor="middle">{label}</text>' for at, label in enumerate(labels)]
    for row, counts in enumerate(table):
        y = 34 + 54 * row
        body.append(f'<text x="58" y="{y + 31}" text-anchor="end">{labels[row]}</text>')
        for column, count in enumerate(counts):
            share = count / sum(counts) if sum(counts) else None
            shade = "31,95,168" if row == column else "180,83,27"
            depth = 0.04 if share is None else 0.04 + 0.86 * share
            ink = "#fff" if depth > 0.55 else "#1d2733"
            x = 65 + 84 * column
            said = f"{labels[row]} rows predicted {labels[column]}: {count:,}"
            body.append(
                f'<g><title>{said}</title><rect x="{x}" y="{y}" width="82" height="52" rx="4" '
                f'fill="rgba({shade},{depth:.2f})"/>'
                f'<text x="{x + 41}" y="{y + 24}" text-anchor="middle" style="fill:{ink};font-size:15px;'
                f'font-weight:600">{count:,}</text><text x="{x + 41}" y="{y + 41}" text-anchor="middle" '
                f'style="fill:{ink};font-size:11px">{number(share, "percent")}</text></g>'
            )
    return Html(f'<svg class="confusion" viewBox="0 0 320 200" role="img" aria-label="Confusion">{"".join(body)}</svg>')


def draw_bar(value: Any) -> Html:
    """A fraction from 0 to 1 as a bar."""
    if is_none(value):
        return Html("")
    width = 100 * max(0.0, min(1.0, value))
    return Html(
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect width="100" '
        f'height="8" fill="#edf0f2"/><rect width="{width:.1f}" height="8" fill="#b4531b"/></svg>'
    )


Scale = Callable[[float], float]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (min(max(value, low), high) - low) / (high - low) * (end - start)


def _grid(x: Scale, y: Scale, left: float, floor: float, *, across: str, up: str) -> str:
    parts = []
    for value in np.arange(np.ceil(10 * left), 10.5) / 10:
        if (1 - left) > 0.75 and round(10 * value) % 2:
            continue
        at = x(value)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{GRID}"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:.0%}</text>')
    for value in np.arange(np.ceil(10 * floor), 10.5) / 10:
        at = y(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{value:.0%}</text>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle" class="soft">{across}</text>'
        f'<text transform="translate(11 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle" '
        f'class="soft">{up}</text>'
    )
    return "".join(parts)


def _line(
    points: Iterable[tuple[float, float]], x: Scale, y: Scale, shade: str, *, width: float = 2, dash: str = ""
) -> str:
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    stroke = f'stroke="{shade}" stroke-width="{width}" stroke-linejoin="round"{dashed}'
    return f'<polyline points="{path}" fill="none" {stroke}/>'


def _whisker(point: Mapping[str, Any], key: str, x: Scale, y: Scale, shade: str) -> str:
    at = x(point[key])
    return (
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(point["low"]):.1f}" y2="{y(point["high"]):.1f}" stroke="{shade}" '
        'stroke-width="6" stroke-opacity=".18" stroke-linecap="round"/>'
    )


def _circle(at: float, up: float, shade: str, said: str) -> str:
    return (
        f'<circle cx="{at:.1f}" cy="{up:.1f}" r="4" fill="{shade}" stroke="#fff"><title>{escape(said)}</title></circle>'
    )


def _chart(body: Sequence[str], said: str) -> Html:
    return Html(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">{"".join(body)}</svg>'
    )
