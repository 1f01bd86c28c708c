"""Where the profit came from and what was paid, with bars: people look rather than read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finsignal.report.sections import tile
from finsignal.report.text import NONE, Html, bdi, escape, is_none, number, plural, signed, table

# key, title, what the first column holds
TABLES = (
    ("symbol", "By symbol", "Symbol"),
    ("source", "By source of the texts", "Source"),
    ("session", "Overnight and within sessions", ""),
    ("direction", "By direction", "Side"),
    ("hour", "By hour of entry, the exchange's time", "Hour"),
)


def origins_part(summary: Mapping[str, Any]) -> Html:
    """Alpha and beta as tiles, then a table with bars for each origin; a sentence where nothing was traced."""
    origins = summary.get("attribution") or {}
    alpha = alpha_part(summary.get("alpha") or {})
    if not origins:
        return Html(alpha + "<p>The profit was not traced.</p>")
    waiting = origins.get("open_at_end", 0)
    note = f"Each table adds up to the whole profit after costs, {number(origins['profit'])}."
    if waiting:
        note += f" {plural(waiting, 'position')} open at the end: marked at the last close, and not counted as trades."
    if origins.get("always_open"):
        note += " This market never closes, so nothing is overnight; hours are UTC."
    parts = [
        f"<div><h3>{escape(title)}</h3>{origin_table(head, rows, by_name=by == 'hour')}</div>"
        for by, title, head in TABLES
        if (rows := origins["tables"].get(by)) and not (by == "session" and origins.get("always_open"))
    ]
    return Html(f'{alpha}<p class="sub">{escape(note)}</p><div class="origins">{"".join(parts)}</div>')


def alpha_part(alpha: Mapping[str, Any]) -> Html:
    """Alpha and beta with their standard errors, against what; what must be said of them; nothing without any."""
    if not alpha:
        return Html("")

    def show(name: str, kind: str) -> str:
        if is_none(alpha.get(name)):
            return NONE
        return f"{number(alpha[name], kind)} ± {number(alpha.get(f'{name}_error'), kind)}"

    how = f"{plural(alpha.get('days'), 'day')}; errors by Newey-West, {plural(alpha.get('lags'), 'lag')}"
    tiles = (
        tile("Alpha a year ± standard error", show("alpha", "percent"), "earned beside the market's moves"),
        tile("Beta ± standard error", show("beta", "ratio"), f"against {alpha.get('market', NONE)}, {how}"),
    )
    notes = "".join(f'<p class="sub">{escape(note)}</p>' for note in alpha.get("notes") or ())
    return Html(f'<div class="tiles pair">{"".join(tiles)}</div>{notes}')


def origin_table(head: str, rows: Sequence[Mapping[str, Any]], *, by_name: bool) -> Html:
    """One row a name, with its profit as a bar; hours stand in their order, all else as it comes."""
    reach = max(abs(row["profit"]) for row in rows)
    shown = sorted(rows, key=lambda row: str(row["name"])) if by_name else rows
    cells = [
        (
            bdi(row["name"]),
            count_trades(row),
            number(row["win_rate"], "percent"),
            signed(row["profit"], "money"),
            bar(row["profit"], reach),
        )
        for row in shown
    ]
    return table((head, "Trades", "Won", "Profit", ""), cells, numbers=(1, 2, 3))


def count_trades(row: Mapping[str, Any]) -> str:
    """Closed trades and open positions; the dash for a line that belongs to none, such as costs."""
    if not row["trades"] and not row["open"]:
        return NONE
    return number(row["trades"], "count") + (f" + {row['open']} open" if row["open"] else "")


def paid_part(summary: Mapping[str, Any]) -> Html:
    """Cash paid and received by kind, fees and slippage always, the rest where there was any; empty without any."""
    rows = [
        row
        for row in (summary.get("attribution") or {}).get("costs") or ()
        if row["cash"] or row["name"] in ("fees", "slippage")
    ]
    if not rows:
        return Html("")
    reach = max(abs(row["cash"]) for row in rows)
    cells = [
        (bdi(row["name"]), signed(row["cash"], "money"), number(row["of_traded"], "cost"), bar(row["cash"], reach))
        for row in rows
    ]
    head = ("", "Received or paid", "Of the value traded", "")
    return Html(table(head, cells, style="paid", numbers=(1, 2)) + "<h3>As stated</h3>")


def bar(value: float, reach: float, *, from_middle: bool = True) -> Html:
    """A bar to the right for a gain and to the left for a loss, where `reach` fills its side; or all to the right."""
    zero, side = (60.0, 58.0) if from_middle else (1.0, 117.0)
    long = side * min(abs(value) / reach, 1.0) if reach else 0.0
    left, color = (zero, "#1f5fa8") if value >= 0 else (zero - long, "#b4531b")
    return Html(
        '<svg class="bar" viewBox="0 0 120 12" aria-hidden="true">'
        f'<rect x="{left:.1f}" y="2" width="{long:.1f}" height="8" fill="{color}"/>'
        f'<line x1="{zero:g}" x2="{zero:g}" y1="0" y2="12" stroke="#aab2ba"/></svg>'
    )
