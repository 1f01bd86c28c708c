"""Every trade with the texts behind its entry and their four instants; every target that could not be traded."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from finsignal.errors import LookaheadError, TableError
from finsignal.report.origins import bar
from finsignal.report.text import Html, bdi, escape, gap, instant, number, plural, signed, table
from finsignal.tables import PROBABILITIES, BacktestResult

NEWS_COLUMNS = (
    "trade", "symbol", "published", "known", "decided", "filled", "title", "source", "url", *PROBABILITIES, "share",
)  # fmt: skip
INSTANTS = ("published", "known", "decided", "filled")
COLUMNS = (
    "Trade", "Symbol", "Side", "Entry", "Exit", "Bars", "Quantity", "Entry price", "Exit price", "Fees", "Profit",
    "Return", "Texts",
)  # fmt: skip


def check_news(news: pd.DataFrame, trades: pd.DataFrame) -> None:
    """Refuses trade_news that lacks a column, names an unknown trade, or has its instants out of order."""
    missing = [column for column in NEWS_COLUMNS if column not in news.columns]
    if missing:
        raise TableError(f"trade_news: no column {missing[0]!r}; expected {list(NEWS_COLUMNS)}.")
    strangers = set(news["trade"]) - set(trades["trade"])
    if strangers:
        raise TableError(f"trade_news: trade {min(strangers)} is not among the result's {len(trades)} trades.")
    for earlier, later in (("known", "decided"), ("decided", "filled")):
        wrong = (news[earlier] > news[later]).to_numpy()
        if wrong.any():
            row = news.iloc[int(wrong.argmax())]
            raise LookaheadError(
                f"trade_news: trade {row['trade']} was {later} at {row[later]}, before its text was {earlier} at "
                f"{row[earlier]}; an entry may use only what was known at its decision."
            )


def trades_note(result: BacktestResult) -> str:
    """How many trades closed and how many are still open."""
    count = int(result.trades["closed"].sum())
    waiting = len(result.trades) - count
    note = f"{plural(count, 'closed trade')}, from {plural(len(result.orders), 'order')}."
    if waiting:
        note += f" {waiting:,} still open at the end: marked at the last close and not counted as trades."
    return note


def trades_part(result: BacktestResult, news: pd.DataFrame) -> Html:
    """The list of trades, each folded over its texts, then what was not traded."""
    if result.trades.empty:
        return Html("<p>No trade was made.</p>" + rejected_part(result.rejected))
    behind = {trade: rows.to_dict("records") for trade, rows in news.groupby("trade", sort=False)}
    rows = "".join(trade_row(trade, behind.get(trade["trade"], [])) for trade in result.trades.to_dict("records"))
    names = sorted(result.trades["symbol"].unique())
    options = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in names)
    head = "".join(f"<span>{name}</span>" for name in COLUMNS)
    return Html(
        '<div class="tools"><label>Symbol <select id="trade-symbol"><option value="">all</option>'
        f"{options}</select></label>"
        '<label>Order <select id="trade-order"><option value="time">as made</option><option value="gain">largest gain '
        'first</option><option value="loss">largest loss first</option></select></label>'
        '<button id="trade-open" type="button">Open or close all</button></div>'
        f'<div class="row" aria-hidden="true">{head}</div><div id="trade-list">{rows}</div>'
        + rejected_part(result.rejected)
    )


def trade_row(trade: dict[str, Any], texts: list[dict[str, Any]]) -> str:
    """One trade and, folded under it, its texts, the heaviest first."""
    cells = (
        str(trade["trade"]),
        bdi(trade["symbol"]),
        trade["direction"],
        instant(trade["entry_time"]),
        instant(trade["exit_time"]) if trade["closed"] else "still open",
        number(trade["bars"], "count"),
        number(trade["quantity"], "price"),
        number(trade["entry_price"], "price"),
        number(trade["exit_price"], "price"),
        number(trade["fees"], "ratio"),
        signed(trade["profit"], "ratio"),
        signed(trade["return"]),
        str(len(texts)),
    )
    line = "".join(f'<span data-l="{name}">{escape(cell)}</span>' for name, cell in zip(COLUMNS, cells, strict=True))
    texts = sorted(texts, key=lambda text: -text["share"])
    inside = "".join(map(text_block, texts)) or '<p class="sub">No text stands behind this entry.</p>'
    known = trade["return"] if trade["return"] == trade["return"] else 0
    return (
        f'<details class="trade" data-s="{escape(trade["symbol"])}" data-r="{known}"><summary>{line}</summary>'
        f'<div class="news">{inside}</div></details>'
    )


def text_block(text: dict[str, Any]) -> str:
    """One text: headline, source, link, probabilities, share of the weight, and its four instants."""
    mix = [text[p] for p in PROBABILITIES]
    bars = "".join(f'<i style="width:{100 * p:.1f}%"></i>' for p in mix)
    words = ", ".join(
        f"{p.removeprefix('p_')} {number(value, 'percent')}" for p, value in zip(PROBABILITIES, mix, strict=True)
    )
    times = ""
    for position, name in enumerate(INSTANTS):
        after = gap(text[INSTANTS[position - 1]], text[name]) if position else ""
        times += f'<div><b>{name}</b><br>{instant(text[name], seconds=True)}<br><span class="soft">{after}</span></div>'
    return (
        f'<div class="text"><div class="headline">{bdi(text["title"])}</div>'
        f'<div class="sub">{bdi(text["source"])} · {link(text["url"])} · '
        f"share of the weight {number(text['share'], 'percent')}"
        f'<br><span class="mix">{bars}</span> {words}</div><div class="instants">{times}</div></div>'
    )


def link(url: Any) -> Html:
    """A link that shows where it leads, for http and https; any other address stays plain text."""
    text = str(url)
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        host = None
    # Browsers drop tabs and line breaks inside an address, and with them what this check has seen.
    if not host or parts.scheme not in ("http", "https") or re.search(r"[\x00-\x20\\]", text):
        return bdi(text or "no address")
    return Html(f'<a href="{escape(text)}" rel="noopener noreferrer nofollow" target="_blank">{bdi(host)}</a>')


def rejected_part(rejected: pd.DataFrame) -> Html:
    """How often, and why, a target that stood could not be traded."""
    if rejected.empty:
        return Html("")
    groups = rejected.groupby("reason", sort=True)
    most = max(map(len, (group for _, group in groups)))
    rows = [
        (
            bdi(reason),
            number(len(group), "count"),
            bar(len(group), most, from_middle=False),
            instant(group["open_time"].min()),
            instant(group["open_time"].max()),
        )
        for reason, group in groups
    ]
    return Html(
        "<h3>Targets that could not be traded or were cut</h3>"
        + table(("Reason", "Bars", "", "First", "Last"), rows, numbers=(1,))
    )
