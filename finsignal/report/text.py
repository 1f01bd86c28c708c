"""Values as HTML text: escaping, numbers and instants for people, plain tables."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

NONE = "\u2013"  # the dash of what is not defined
MINUS = "\u2212"


class Html(str):
    """Text that is already HTML. Everything else is escaped where it is put into the page."""


def escape(value: Any) -> str:
    """The value as HTML text. Control characters and lone surrogates, which no page may hold, become U+FFFD."""
    if isinstance(value, Html):
        return value
    text = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", str(value))
    return html.escape(text, quote=True)


def bdi(value: Any) -> Html:
    """Foreign text fenced off, so that right-to-left marks in it cannot turn round the figures beside it."""
    return Html(f"<bdi>{escape(value)}</bdi>")


def to_json(value: Any) -> Html:
    """JSON that can stand in a script element: no `<` that could close it, no NaN that JSON does not know."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Html(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def is_none(value: Any) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value))


def number(value: Any, kind: str = "number") -> str:
    """A number for people: percent of a fraction, a ratio, a count, money; the dash where it is not defined.

    >>> number(0.0123, "percent"), number(-1.5, "ratio"), number(None), number(1234, "count")
    ('1.23\\xa0%', '−1.50', '–', '1,234')
    """
    if value is not None and not isinstance(value, str) and value == math.inf:
        return "∞"
    if is_none(value):
        return NONE
    value = float(value)
    if kind in ("percent", "cost"):
        hundredths = value * 100
        size = abs(hundredths)
        digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 3
        text = f"{hundredths:,.{digits}f}\xa0%"
        if kind == "cost":
            text += f" ({value * 1e4:,.1f}\xa0bp)"
    elif kind == "count" or (kind == "money" and abs(value) >= 1000):
        text = f"{value:,.0f}"
    elif kind in ("ratio", "times", "money"):
        text = f"{value:,.2f}" + ("\xa0\u00d7" if kind == "times" else "")
    elif kind == "price":
        size = abs(value)
        text = f"{value:,.2f}" if size >= 10 else f"{value:.4f}" if size >= 1 else f"{value:.4g}"
    else:
        text = f"{value:,.2f}" if abs(value) >= 1000 else f"{value:,.6g}"
    return re.sub(r"^-(?=[0.,]*\D*$)", "", text).replace("-", MINUS)


def in_unit(value: Any, unit: str) -> str:
    """A figure of an answer in its unit: percent, ratio, count, bars, p, cash or correlation; the dash where none.

    A p-value keeps three digits and is never written as 0 or 1; so do ratios near 0.

    >>> in_unit(0.0004, "p"), in_unit(3.26, "bars"), in_unit(-0.0312, "correlation")
    ('< 0.001', '3.3\\xa0bars', '−0.031')
    """
    if is_none(value):
        return NONE
    if unit == "p":
        return "< 0.001" if value < 0.001 else "> 0.999" if value > 0.999 else f"{value:.3f}"
    if unit == "correlation" or (unit == "ratio" and abs(value) < 0.1):
        return re.sub(r"^-(?=[0.]*$)", "", f"{value:.3f}").replace("-", MINUS)
    if unit == "bars":
        text = f"{value:,.1f}".removesuffix(".0").replace("-", MINUS)
        return f"{text}\xa0bar{'' if text == '1' else 's'}"
    return number(value, {"cash": "money"}.get(unit, unit))


def plural(count: Any, noun: str) -> str:
    """The count with its noun.

    >>> plural(1, "bar"), plural(2000, "bar")
    ('1 bar', '2,000 bars')
    """
    return f"{number(count, 'count')} {noun}{'' if count == 1 else 's'}"


def noun_for(count: Any, of: str) -> str:
    """What is counted, given in the plural, as it reads behind the count.

    >>> noun_for(1, "days"), noun_for(1, "stories"), noun_for(2, "days"), noun_for(0, "stories")
    ('day', 'story', 'days', 'stories')
    """
    if count != 1:
        return of
    return f"{of.removesuffix('ies')}y" if of.endswith("ies") else of.removesuffix("s")


def signed(value: Any, kind: str = "percent") -> Html:
    """The number, coloured by its sign."""
    text = escape(number(value, kind))
    if is_none(value) or value == 0:
        return Html(text if value == 0 else f'<span class="none" title="not defined">{text}</span>')
    return Html(f'<span class="{"up" if value > 0 else "down"}">{text}</span>')


def instant(value: Any, *, seconds: bool = False) -> str:
    """An instant as UTC text; the dash where there is none."""
    if value is None or pd.isna(value):
        return NONE
    stamp = pd.Timestamp(value)
    stamp = stamp.tz_convert("UTC") if stamp.tzinfo else stamp
    return stamp.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def day(value: Any) -> str:
    """The date of ISO text; text that is none stays as it is."""
    try:
        return pd.Timestamp(value).strftime("%Y-%m-%d")
    except (ValueError, TypeError):
        return str(value)


def gap(earlier: Any, later: Any) -> str:
    """The time from one instant to the next, in days, hours, minutes and seconds; nothing where one is missing."""
    if pd.isna(earlier) or pd.isna(later):
        return ""
    hours, rest = divmod(round((later - earlier).total_seconds()), 3600)
    days, hours = divmod(hours, 24)
    minutes, seconds = divmod(rest, 60)
    units = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    return "+" + (" ".join(f"{n} {unit}" for n, unit in units if n) or "0 s")


def items(values: Iterable[Any]) -> Html:
    return Html("".join(f"<li>{escape(value)}</li>" for value in values))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, style: str = "", numbers: Sequence[int] = ()) -> Html:
    """A table of escaped cells; `numbers` are the columns set to the right."""
    sides = [' class="n"' if column in numbers else "" for column in range(len(head))]
    top = "".join(f"<th{side}>{escape(name)}</th>" for name, side in zip(head, sides, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{side}>{escape(cell)}</td>" for cell, side in zip(row, sides, strict=True)) + "</tr>"
        for row in rows
    )
    header = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return Html(f'<div class="scroll"><table class="{style}">{header}<tbody>{body}</tbody></table></div>')
