"""Curves over the steps of a training as inline SVG, for a page that needs no script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from finsignal.report.plots import AXIS, GRID
from finsignal.report.text import Html, escape, number

WIDTH, HEIGHT = 420, 270  # pixels, small, so that the letters are still to be read on a telephone
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 20, 38
MOST = 300  # points of a line; more would be thinner than a pixel
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Points to be joined, in data units; dots: each is marked, with what is said where the pointer rests."""

    points: Sequence[Point]
    shade: str
    width: float = 2.0
    dots: Sequence[str] = ()


@dataclass(frozen=True)
class Rule:
    """A straight line across the chart at a value, with a word on it; upright at a place, else level at a height."""

    at: float
    said: str = ""
    upright: bool = False
    shade: str = AXIS
    dash: str = "5 4"


def draw_curve(
    lines: Sequence[Line],
    *,
    across: str,
    up: str,
    said: str,
    rules: Sequence[Rule] = (),
    zero: bool = False,
    powers: bool = False,
) -> Html:
    """A chart of lines over whole numbers: steps, or epochs. across, up: what the axes count; said: the chart in words,
    for who cannot see it.

    zero: the vertical axis begins at 0. powers: it counts by factors, for values above 0.
    """
    levels = [y for line in lines for _, y in line.points] + [rule.at for rule in rules if not rule.upright]
    places = [x for line in lines for x, _ in line.points]
    low, high = _widen(min(levels), max(levels), zero=zero, powers=powers)
    first, last = (min(places), max(places)) if max(places) > min(places) else (places[0] - 0.5, places[0] + 0.5)
    x, y = _to_scale(first, last, LEFT, WIDTH - RIGHT), _to_scale(low, high, HEIGHT - BOTTOM, TOP, powers=powers)
    body = [_axes(x, y, (first, last), (low, high), powers=powers, across=across, up=up)]
    for line in lines:
        points = thin(line.points) if not line.dots else line.points
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        body.append(
            f'<polyline points="{path}" fill="none" stroke="{line.shade}" stroke-width="{line.width}" '
            'stroke-linejoin="round"/>'
        )
        for (a, b), told in zip(points, line.dots, strict=False):
            body.append(
                f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="4" fill="{line.shade}" stroke="#fff">'
                f"<title>{escape(told)}</title></circle>"
            )
    body += [_rule(rule, x, y) for rule in rules]
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    return Html(f'<svg class="curve" {size} role="img" aria-label="{escape(said)}">{"".join(body)}</svg>')


def thin(points: Sequence[Point]) -> list[Point]:
    """At most MOST points: the lowest and the highest of each stretch, so that no spike is lost, and the two ends.

    >>> thin([(1, 2.0), (2, 4.0)])
    [(1, 2.0), (2, 4.0)]
    """
    if len(points) <= MOST:
        return list(points)
    values, kept = np.array([value for _, value in points]), {0, len(points) - 1}
    for stretch in np.array_split(np.arange(len(points)), MOST // 2 - 1):
        kept |= {int(stretch[values[stretch].argmin()]), int(stretch[values[stretch].argmax()])}
    return [points[at] for at in sorted(kept)]


def smooth(points: Sequence[Point]) -> list[Point]:
    """Each point at the mean of its neighbourhood, about a twentieth of all points, half of it at either end.

    >>> smooth([(step, 9.0 if step == 20 else 0.0) for step in range(40)])[18:22]
    [(18, 0.0), (19, 3.0), (20, 3.0), (21, 3.0)]
    """
    half = len(points) // 40
    sums = np.concatenate([[0.0], np.cumsum([value for _, value in points])])
    out = []
    for at, (place, _) in enumerate(points):
        start, end = max(0, at - half), min(len(points), at + half + 1)
        out.append((place, float(sums[end] - sums[start]) / (end - start)))
    return out


def _widen(low: float, high: float, *, zero: bool, powers: bool) -> tuple[float, float]:
    if powers:
        return low / 1.15, high * 1.15
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return (0.0 if zero else low - room), high + room


def _to_scale(low: float, high: float, start: float, end: float, *, powers: bool = False) -> Callable[[float], float]:
    def place(value: float) -> float:
        if powers:  # the logarithm of a ratio overflows where one of them is next to nothing
            share = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        else:
            share = (value - low) / (high - low)
        return start + share * (end - start)

    return place


def _axes(
    x: Callable[[float], float],
    y: Callable[[float], float],
    ends: tuple[float, float],
    levels: tuple[float, float],
    *,
    powers: bool,
    across: str,
    up: str,
) -> str:
    parts = []
    heights = to_powers(*levels) if powers else []
    for value in heights if len(heights) > 1 else to_ticks(*levels, most=6):
        at = y(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number(value)}</text>')
    for value in to_ticks(*ends, most=6, whole=True):
        at, base = x(value), HEIGHT - BOTTOM
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{base}" y2="{base + 4}" stroke="{AXIS}"/>')
        parts.append(f'<text x="{at:.1f}" y="{base + 16}" text-anchor="middle">{number(value)}</text>')
    base = HEIGHT - BOTTOM
    parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}" stroke="{AXIS}"/>')
    parts.append(
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end" class="soft">{escape(across)}</text>'
        f'<text x="2" y="11" class="soft">{escape(up)}</text>'
    )
    return "".join(parts)


def _rule(rule: Rule, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    dash = f' stroke-dasharray="{rule.dash}"' if rule.dash else ""
    if rule.upright:
        at = x(rule.at)
        line = f'x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
        right = at > (LEFT + WIDTH - RIGHT) / 2
        where = f'x="{at + (-4 if right else 4):.1f}" y="{TOP + 9}" text-anchor="{"end" if right else "start"}"'
    else:
        at = y(rule.at)
        line = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"'
        where = f'x="{WIDTH - RIGHT - 2}" y="{at - 4:.1f}" text-anchor="end"'
    # White around the letters, so that a line behind them stays behind.
    style = f"fill:{rule.shade};stroke:#fff;stroke-width:3px;paint-order:stroke"
    word = f'<text {where} style="{style}">{escape(rule.said)}</text>' if rule.said else ""
    return f'<line {line} stroke="{rule.shade}" stroke-width="1.3"{dash}/>{word}'


def to_ticks(low: float, high: float, *, most: int, whole: bool = False) -> list[float]:
    """Round numbers from low to high, at most `most` of them, 1, 2 or 5 times a power of ten apart.

    >>> to_ticks(0.03, 1.1, most=6)
    [0.2, 0.4, 0.6, 0.8, 1.0]
    >>> to_ticks(0.5, 3.5, most=6, whole=True)
    [1.0, 2.0, 3.0]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (factor * (max(power, 1.0) if whole else power) for factor in (1, 2, 5, 10)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [round(at * step, 12) for at in range(first, last + 1)][:most]


def to_powers(low: float, high: float) -> list[float]:
    """Round numbers from low to high by factors: 1, 2 and 5 times the powers of ten, or these alone where many.

    >>> to_powers(0.3, 12)
    [0.5, 1.0, 2.0, 5.0, 10.0]
    """
    reach = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [float(f"{factor}e{power}") for power in reach for factor in (1, 2, 5)]
    kept = [value for value in found if low <= value <= high]
    return kept if len(kept) <= 7 else [value for value in kept if f"{value:e}".startswith("1.0")]
