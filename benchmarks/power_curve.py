"""The power curve of `null_markets.py` as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 820, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 56, 56
LINES = {  # key of a row -> what it is called, its colour and width
    "real": ('verdict "real"', "#0f172a", 3.0),
    "deflated": ("deflated Sharpe ratio", "#b45309", 1.6),
    "interval above 0": ("interval above 0", "#be185d", 1.6),
    "shuffled": ("shuffled", "#1d4ed8", 1.6),
    "shifted": ("shifted", "#0e7490", 1.6),
    "flipped": ("flipped", "#15803d", 1.6),
    "random_entries": ("random entries", "#7c3aed", 1.6),
    "ic": ("information coefficient", "#64748b", 1.6),
}


def to_svg(power: Sequence[Mapping[str, Any]], *, stated: float) -> str:
    """Share of markets found over the planted effect: a line for each test, and for the verdict with its intervals."""
    most = max(row["effect"] for row in power) or 1.0
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(effect: float) -> float:
        return round(LEFT + wide * effect / most, 1)

    def y(share: float) -> float:
        return round(TOP + high * (1 - share), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#334155">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="16" font-weight="600" fill="#0f172a">How large an effect is found</text>',
        f'<text x="{LEFT}" y="42">share of simulated markets, by what a true story is worth; 95 % intervals</text>',
    ]
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        dashes = ' stroke-dasharray="5 4"' if share == 0.8 else ""
        colour = "#94a3b8" if share == 0.8 else "#e2e8f0"
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(share)}" y2="{y(share)}" stroke="{colour}"{dashes}/>'
            f'<text x="{LEFT - 8}" y="{y(share) + 4}" text-anchor="end">{share:.0%}</text>'
        )
    for row in power:
        parts.append(
            f'<text x="{x(row["effect"])}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{row["effect"]:.1%}</text>'
        )
    parts.append(
        f'<line x1="{x(stated)}" x2="{x(stated)}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#94a3b8" '
        'stroke-dasharray="2 4"/>'
        f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 12}" text-anchor="middle">effect of a true story on the log price; '
        f"dotted: the stated effect, {stated:.1%}</text>"
    )
    for key, (_, colour, width) in reversed(LINES.items()):  # the verdict is drawn last, on top
        points = " ".join(f"{x(row['effect'])},{y(row[key])}" for row in power if row[key] is not None)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" '
            'stroke-linejoin="round"/>'
        )
    for row in power:
        if row["real"] is not None:
            at = x(row["effect"])
            parts.append(
                f'<line x1="{at}" x2="{at}" y1="{y(row["real_low"])}" y2="{y(row["real_high"])}" stroke="#0f172a"/>'
                f'<circle cx="{at}" cy="{y(row["real"])}" r="4" fill="#0f172a"/>'
            )
    for place, (name, colour, width) in enumerate(LINES.values()):
        at = TOP + 10 + 22 * place
        parts.append(
            f'<line x1="{WIDTH - RIGHT + 18}" x2="{WIDTH - RIGHT + 42}" y1="{at}" y2="{at}" stroke="{colour}" '
            f'stroke-width="{width}"/><text x="{WIDTH - RIGHT + 50}" y="{at + 4}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
