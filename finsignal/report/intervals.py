"""Figures of an answer drawn as a dot in the band of its interval, with the value of no effect marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from finsignal.report.text import Html, escape, in_unit, is_none

NET, AGAINST, OPEN = "#1f5fa8", "#b4531b", "#7b8794"  # told from zero above, below, and not told from it
AXIS, GROUND = "#5d6875", "#f1f3f5"
WIDTH, HEIGHT, EDGE = 240, 26, 8
LUCK = 0.05
SURE = 0.95  # of a probability
PROBABILITIES = ("probabilistic_sharpe", "deflated_sharpe")  # figures that are one, whatever their unit

Figure = Mapping[str, Any]
Scale = tuple[float, float]


def to_scales(figures: Sequence[Figure], *, together: bool = False) -> dict[str, Scale]:
    """The ends of the scale of each figure that can be drawn, by key; 0 is always on it.

    Figures of one unit that are said to mean the same share a scale, so that their bands can be compared; so do three
    or more whose keys begin alike ("lag_1min", "lag_1bar", "lag_1day"). A probability goes from 0 to 1. A lone value
    without an interval has no scale: its own length would be all of it. together: all of one unit share one.
    """
    drawn = [figure for figure in figures if is_drawn(figure)]
    meant = Counter((figure["unit"], figure.get("said", "")) for figure in drawn)
    begun = Counter((figure["unit"], _begin(figure)) for figure in drawn)
    alike: dict[tuple[str, str], list[Figure]] = {}
    scales: dict[str, Scale] = {}
    for figure in drawn:
        said = figure.get("said", "")
        name = said if said and meant[figure["unit"], said] > 1 else figure["key"]
        name = _begin(figure) if begun[figure["unit"], _begin(figure)] > 2 else name
        if together:
            name = ""
        if is_probability(figure):
            scales[figure["key"]] = (0.0, 1.0)
        else:
            alike.setdefault((figure["unit"], name), []).append(figure)
    for group in alike.values():
        if len(group) == 1 and is_none(group[0].get("low")):
            continue
        ends = [end for figure in group for end in _ends(figure)]
        low, high = min(0.0, *ends), max(0.0, *ends)
        room = 0.04 * (high - low)
        low, high = low - room * (low < 0), high + room * (high > 0)
        scales |= {figure["key"]: (low, high if high > low else low + 1.0) for figure in group}
    return scales


def is_probability(figure: Figure) -> bool:
    return figure["unit"] == "p" or figure["key"] in PROBABILITIES


def is_drawn(figure: Figure) -> bool:
    """Whether a drawing tells more than the number: a count, a length or a sum without an interval has no zero."""
    if is_none(figure.get("value")):
        return False
    return not is_none(figure.get("low")) or figure["unit"] not in ("count", "bars", "cash")


def to_shade(figure: Figure) -> str:
    """Blue above zero, orange below, grey where the interval, or else the p-value, does not tell it from zero."""
    value, low, high, p = (figure.get(name) for name in ("value", "low", "high", "p"))
    if value is None or figure["unit"] in ("count", "bars", "cash"):
        return OPEN
    if is_probability(figure):
        return NET if value >= SURE else OPEN
    if low is not None and high is not None:
        return NET if low > 0 else AGAINST if high < 0 else OPEN
    if p is not None:
        return OPEN if p > LUCK else NET if value > 0 else AGAINST
    return OPEN


def draw_interval(figure: Figure, scale: Scale | None) -> Html:
    """The figure as a dot in the band of its 95 % interval, over a rule at zero (at 0.95 for a probability).

    Without an interval the dot stands at the end of a line from zero. Nothing without a value, or where a drawing
    would not tell more than the number.
    """
    if is_none(figure.get("value")) or scale is None:
        return Html("")
    middle = HEIGHT // 2
    body = [f'<rect x="0" y="{middle - 6}" width="{WIDTH}" height="12" rx="6" fill="{GROUND}"/>']
    low, high = scale

    def at(value: float) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * (value - low) / (high - low)

    shade = to_shade(figure)
    null = SURE if is_probability(figure) else 0.0
    value = float(figure["value"])
    said = f"{figure['name']}: {in_unit(value, figure['unit'])}"
    if is_none(figure.get("low")) or is_none(figure.get("high")):
        body.append(
            f'<line x1="{at(0.0):.1f}" x2="{at(value):.1f}" y1="{middle}" y2="{middle}" stroke="{shade}" '
            'stroke-width="3" stroke-opacity=".55" stroke-linecap="round"/>'
        )
    else:
        left, right = at(figure["low"]), at(figure["high"])
        said += f", 95 % interval {in_unit(figure['low'], figure['unit'])} to {in_unit(figure['high'], figure['unit'])}"
        body.append(
            f'<rect x="{left:.1f}" y="{middle - 6}" width="{max(right - left, 1):.1f}" height="12" rx="3" '
            f'fill="{shade}" fill-opacity=".3"/>'
        )
        body += [
            f'<line x1="{end:.1f}" x2="{end:.1f}" y1="{middle - 6}" y2="{middle + 6}" stroke="{shade}" '
            'stroke-width="1.6"/>'
            for end in (left, right)
        ]
    body.append(f'<line x1="{at(null):.1f}" x2="{at(null):.1f}" y1="1" y2="{HEIGHT - 1}" stroke="{AXIS}"/>')
    body.append(f'<circle cx="{at(value):.1f}" cy="{middle}" r="5" fill="{shade}" stroke="#fff" stroke-width="1.4"/>')
    return _svg(body, said)


def _begin(figure: Figure) -> str:
    return str(figure["key"]).partition("_")[0]


def _ends(figure: Figure) -> list[float]:
    values = (figure.get(name) for name in ("value", "low", "high"))
    return [float(value) for value in values if value is not None]


def _svg(body: Sequence[str], said: str) -> Html:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    return Html(f'<svg class="interval" {size} role="img" aria-label="{escape(said)}">{"".join(body)}</svg>')
