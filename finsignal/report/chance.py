"""The strategy's account among those that enter at random, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finsignal.report.text import Html, escape, number, plural

WIDTH, HEIGHT, EDGE = 640, 34, 8


def chance_part(summary: Mapping[str, Any]) -> Html:
    """A thin line for the net return of each random account and a dot for the strategy's; nothing without any."""
    entries = summary.get("random_entries") or {}
    own = (summary.get("performance") or {}).get("net_return")
    returns = entries.get("net_returns") or []
    if not returns or own is None:
        return Html("")
    low, high = min(*returns, own, 0.0), max(*returns, own, 0.0)
    span = (high - low) or 1.0

    def at(value: float) -> str:
        return f"{EDGE + (WIDTH - 2 * EDGE) * (value - low) / span:.1f}"

    lines = "".join(
        f'<line x1="{at(r)}" x2="{at(r)}" y1="6" y2="28" stroke="#8b949e" stroke-opacity=".55"/>' for r in returns
    )
    said = (
        f"{plural(entries['accounts'], 'account')} with the strategy's exposure, lengths and costs, entered at random: "
        f"{entries['as_good']} made as much as the strategy or more (p = {entries['p_value']:.2f}). Net returns from "
        f"{number(low, 'percent')} to {number(high, 'percent')}; the dot is the strategy's {number(own, 'percent')}."
    )
    return Html(
        f'<h3>Against chance</h3><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" '
        f'aria-label="{escape(said)}"><line x1="{at(0.0)}" x2="{at(0.0)}" y1="0" y2="{HEIGHT}" stroke="#1a1f24"/>'
        f'{lines}<circle cx="{at(own)}" cy="17" r="6" fill="#1f5fa8"/></svg><p class="sub">{escape(said)}</p>'
    )
