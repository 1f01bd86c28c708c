"""The parts of the page that come from the summary: verdict, figures, comparison, texts, costs, model, settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from finsignal.report.text import MINUS, NONE, Html, bdi, day, escape, is_none, items, number, plural, signed, table

# key, what a reader calls it, how it is written, what it means
FIGURES = (
    ("ruined", "Ruined", "date", "first session in which the value fell to 0 or below; nothing is traded afterwards"),
    ("net_return", "Net return", "percent", "whole period, after fees, slippage and funding"),
    ("gross_return", "Gross return", "percent", "the same fills before costs"),
    ("annual_return", "Annual return", "percent", "net, compounded to a year"),
    ("annual_volatility", "Annual volatility", "percent", "of daily net returns"),
    ("sharpe", "Sharpe ratio", "ratio", "mean over deviation of daily net returns, annualised"),
    ("sharpe_error", "Its standard error", "ratio", "how far chance alone moves the Sharpe ratio of this much data"),
    (
        "sharpe_detectable",
        "Smallest detectable Sharpe",
        "ratio",
        "a smaller one could not be told from zero with this much data",
    ),
    ("sortino", "Sortino ratio", "ratio", "only the losses count as risk"),
    ("calmar", "Calmar ratio", "ratio", "annual return over maximum drawdown"),
    ("max_drawdown", "Maximum drawdown", "percent", "deepest fall from a highest value"),
    ("exposure", "Exposure", "percent", "mean of the sum of absolute weights"),
    ("turnover", "Turnover", "times", "value traded a year over mean equity"),
    ("trades", "Closed trades", "count", "a position open at the end is marked, not counted"),
    ("win_rate", "Win rate", "percent", "closed trades that gained after fees"),
    ("profit_factor", "Profit factor", "ratio", "sum of gains over sum of losses"),
    ("break_even_cost", "Break-even cost", "cost", "cost per value traded at which the net return is zero"),
    ("open_at_end", "Open at the end", "count", "positions marked at the last close"),
    ("costs_paid", "Costs paid", "count", "fees, slippage and funding, in cash"),
    ("rejected", "Orders that waited or were cut", "count", "a bar did not print, or cash did not reach; listed below"),
    ("days", "Days of returns", "count", "what the Sharpe ratio rests on"),
)


ALWAYS_SAID = ("fee", "slippage", "delisting_return", "delisted_after")
NO_RATES = ("fee_per_share", "min_fee", "slippage_volatility", "impact")  # in cash, or multiples


def subtitle_part(period: Mapping[str, Any]) -> str:
    symbols = [str(symbol) for symbol in period.get("symbols", ())]
    shown = ", ".join(symbols[:8]) + (f" and {len(symbols) - 8} more" if len(symbols) > 8 else "")
    return (
        f"{day(period.get('start'))} to {day(period.get('end'))} · {plural(period.get('bars'), 'bar')} of "
        f"{period.get('bar', NONE)} in {plural(period.get('sessions'), 'session')} · "
        f"{period.get('market', NONE)} · {plural(len(symbols), 'symbol')}: {shown}"
    )


def verdict_part(word: str, reasons: Iterable[Any]) -> Html:
    tone = "good" if word.startswith("positive") else "bad" if word.startswith("not") else "open"
    return Html(
        f'<section id="verdict" class="verdict {tone}"><p class="sub">Verdict</p>'
        f'<div class="word">{escape(word)}</div><ul>{items(reasons)}</ul></section>'
    )


def tiles_part(summary: Mapping[str, Any]) -> Html:
    figures = summary.get("performance") or {}
    held: Mapping[str, Any] = next(
        (row for row in summary.get("comparison") or () if "buy and hold" in str(row["name"]).lower()), {}
    )
    costs = summary.get("costs") or {}
    charged = sum(float(costs.get(name) or 0) for name in ("fee", "slippage"))

    def show(key: str, kind: str) -> str:
        return number(figures.get(key), kind)

    sharpe = show("sharpe", "ratio") + (
        "" if is_none(figures.get("sharpe_error")) else f" ± {show('sharpe_error', 'ratio')}"
    )
    tiles = (
        (
            "Net return",
            show("net_return", "percent"),
            f"gross {show('gross_return', 'percent')}, {show('annual_return', 'percent')} a year",
        ),
        (
            "Buy and hold, same bars",
            number(held.get("net_return"), "percent"),
            f"Sharpe {number(held.get('sharpe'), 'ratio')}",
        ),
        (
            "Sharpe ± standard error",
            sharpe,
            f"smallest that this data could tell from zero: {show('sharpe_detectable', 'ratio')}",
        ),
        (
            "Maximum drawdown",
            show("max_drawdown", "percent"),
            f"Calmar {show('calmar', 'ratio')}, Sortino {show('sortino', 'ratio')}",
        ),
        (
            "Closed trades",
            show("trades", "count"),
            f"win rate {show('win_rate', 'percent')}, profit factor {show('profit_factor', 'ratio')}",
        ),
        ("Exposure", show("exposure", "percent"), f"turnover {show('turnover', 'times')}"),
        (
            "Break-even cost",
            show("break_even_cost", "percent"),
            f"charged {number(charged, 'percent')} of value traded",
        ),
        (
            "Settings tried",
            number(summary.get("settings_tried"), "count"),
            f"on {show('days', 'count')} days of returns",
        ),
    )
    return Html('<div class="tiles">' + "".join(tile(*facts) for facts in tiles) + "</div>")


def tile(name: str, value: str, below: str) -> str:
    shown = (
        f'<div class="value none">{NONE} not defined</div>'
        if value == NONE
        else f'<div class="value">{escape(value)}</div>'
    )
    return (
        f'<div class="tile"><div class="name">{escape(name)}</div>{shown}<div class="sub">{escape(below)}</div></div>'
    )


def comparison_part(rows: Sequence[Mapping[str, Any]]) -> Html:
    """One row a compared run, the run itself first, with its Sharpe ratio drawn."""
    if not rows:
        return Html("<p>Nothing was compared.</p>")
    reach = [0.5]
    for row in rows:
        if not is_none(row.get("sharpe")):
            reach.append(abs(row["sharpe"]) + 2 * (0 if is_none(row.get("sharpe_error")) else row["sharpe_error"]))
    scale = f"Sharpe from {MINUS}{max(reach):.1f} to {max(reach):.1f}"
    head = ("", "Net return", "Gross return", "Sharpe", "± error", scale,
            "Max drawdown", "Trades", "Turnover")  # fmt: skip
    cells = [
        (
            bdi(row.get("name", NONE)),
            signed(row.get("net_return")),
            signed(row.get("gross_return")),
            number(row.get("sharpe"), "ratio"),
            number(row.get("sharpe_error"), "ratio"),
            whisker(row.get("sharpe"), row.get("sharpe_error"), max(reach)),
            number(row.get("max_drawdown"), "percent"),
            number(row.get("trades"), "count"),
            number(row.get("turnover"), "times"),
        )
        for row in rows
    ]
    return table(head, cells, style="compare", numbers=range(1, len(head)))


def whisker(value: Any, error: Any, reach: float) -> Html:
    """A dot at the value and a line of two standard errors to either side, on a scale from -reach to reach."""
    if is_none(value):
        return Html("")
    half = 0.0 if is_none(error) else 2 * error

    def at(x: float) -> str:
        return f"{100 + 94 * max(-1.0, min(1.0, x / reach)):.1f}"

    return Html(
        f'<svg class="whisker" viewBox="0 0 200 20" role="img" aria-label="Sharpe {number(value, "ratio")}">'
        '<line x1="100" x2="100" y1="0" y2="20" stroke="#aab2ba"/>'
        f'<line x1="{at(value - half)}" x2="{at(value + half)}" y1="10" y2="10" stroke="#1f5fa8" stroke-width="2"/>'
        f'<circle cx="{at(value)}" cy="10" r="4.5" fill="#1f5fa8"/></svg>'
    )


def figures_part(summary: Mapping[str, Any]) -> Html:
    """Every performance figure with its meaning; figures this page does not know stand last, under their own names."""
    performance = summary.get("performance") or {}
    rows = [(label, _show(performance.get(key), kind), meaning) for key, label, kind, meaning in FIGURES]
    known = {key for key, *_ in FIGURES}
    rows += [(bdi(key), plain(value), "") for key, value in performance.items() if key not in known]
    period = summary.get("period") or {}
    split = period.get("split")
    if split:
        for name in ("validation", "test"):
            if split.get(name):
                first, last = split[name]
                rows.append((f"{name.capitalize()} period", f"{day(first)} to {day(last)}", "half-open, in UTC"))
        rows.append(("Purge", f"{split.get('purge_bars', NONE)} bars", "left out before what is tested"))
        if split.get("embargo_bars"):
            rows.append(("Embargo", f"{split['embargo_bars']} bars", "left out beyond the purge"))
    return table(("Figure", "Value", "Meaning"), rows, style="figures", numbers=(1,))


def _show(value: Any, kind: str) -> str:
    if kind == "date":
        return "no" if is_none(value) else day(value)
    return number(value, kind)


def texts_part(texts: Mapping[str, Any]) -> Html:
    """Texts read, used and dropped with the reasons, and the silences."""
    dropped = texts.get("dropped") or {}
    rows = [
        ("Read", number(texts.get("read"), "count")),
        ("Used, validation included", number(texts.get("used"), "count")),
        ("Used in the period", number(texts.get("used_in_test"), "count")),
    ]
    rows += [(Html(f"Dropped: {bdi(reason)}"), number(count, "count")) for reason, count in dropped.items()]
    notes = items(texts.get("notes") or ())
    out = table(("", "Texts"), rows, style="facts", numbers=(1,))
    judged = [
        (bdi(row["symbol"]), *(number(row[name], "count") for name in ("read", "kept", "dropped")))
        for row in texts.get("relevance") or ()
    ]
    if judged:
        out = Html(out + "<h3>Relevance</h3>" + table(("Symbol", "Read", "Kept", "Dropped"), judged, numbers=(1, 2, 3)))
    out = Html(out + (f"<ul>{notes}</ul>" if notes else ""))
    silences = texts.get("silences") or ()
    if not silences:
        return Html(out + '<p class="sub">No silence long enough to be named.</p>')
    silent = [
        (bdi(gap["symbol"]), day(gap["start"]), day(gap["end"]), number(gap["days"], "number"))
        for gap in sorted(silences, key=lambda gap: -float(gap["days"]))
    ]
    return Html(
        f"{out}<h3>Silences</h3><p class='sub'>Stretches without a text: HOLD, or a missing feed.</p>"
        + fold(
            f"{plural(len(silent), 'silence')}, the longest first",
            table(("Symbol", "From", "To", "Days"), silent, numbers=(3,)),
            len(silent) <= 8,
        )
    )


def prices_part(prices: Mapping[str, Any]) -> Html:
    """Price rows read, used and dropped with the reasons, and bars of the grid that did not print."""
    rows = [
        ("Read", number(prices.get("read"), "count")),
        ("Used", number(prices.get("used"), "count")),
        ("Bars of the grid without a price", number(prices.get("bars_missing"), "count")),
    ]
    dropped = prices.get("dropped") or {}
    rows += [(Html(f"Dropped: {bdi(reason)}"), number(count, "count")) for reason, count in dropped.items()]
    notes = items(prices.get("notes") or ())
    out = table(("", "Prices"), rows, style="facts", numbers=(1,))
    return Html(out + (f"<ul>{notes}</ul>" if notes else ""))


def costs_part(summary: Mapping[str, Any]) -> Html:
    """What was charged, without the costs that were off, and what the run takes for granted."""
    rows = []
    for name, value in (summary.get("costs") or {}).items():
        if not value and name not in ALWAYS_SAID:
            continue
        if isinstance(value, Mapping):
            value = [f"{key} {number(rate, 'percent')}" for key, rate in value.items()]
        is_rate = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1
        is_rate = is_rate and name not in NO_RATES
        rows.append((bdi(str(name).replace("_", " ")), number(value, "cost") if is_rate else plain(value)))
    out = table(("", ""), rows, style="facts") if rows else Html("<p>No cost is stated.</p>")
    assumed = summary.get("assumptions") or ()
    return Html(out + (f"<h3>Assumptions</h3><ul>{items(assumed)}</ul>" if assumed else ""))


def model_part(model: Mapping[str, Any] | None) -> Html:
    """What scored the texts, what it was trained on and until when."""
    if not model:
        return Html("<p>No model took part in this run.</p>")
    rows = [
        ("Name", plain(model.get("name"))),
        ("Trained on", plain(model.get("trained_on"))),
        ("Trained until", day(model["trained_until"]) if model.get("trained_until") else NONE),
        ("Knowledge of its base ends", day(model["base_cutoff"]) if model.get("base_cutoff") else NONE),
    ]
    rows += [
        (bdi(key), plain(value))
        for key, value in model.items()
        if key not in ("name", "trained_on", "trained_until", "base_cutoff")
    ]
    return table(("", ""), rows, style="facts")


def settings_part(summary: Mapping[str, Any], settings: Mapping[str, Any]) -> Html:
    """The values chosen, how many were tried, and all that is needed to run it again."""
    chosen = summary.get("chosen") or {}
    rows = [("Settings tried", number(summary.get("settings_tried"), "count"))]
    rows += [(bdi(name), plain(value)) for name, value in chosen.items()]
    text = json.dumps(settings, indent=2, default=str, ensure_ascii=False)
    return Html(
        table(("", ""), rows, style="facts")
        + fold("All that is needed to run it again", Html(f"<pre>{escape(text)}</pre>"), False)
    )


def plain(value: Any) -> Html | str:
    """Any JSON value in a cell: numbers as numbers, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, (list, tuple)):
        return bdi(", ".join(map(str, value))) if value else NONE
    return bdi(value)


def fold(title: str, body: Html, is_open: bool) -> Html:
    """A part that opens on a click."""
    return Html(f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{body}</details>")
