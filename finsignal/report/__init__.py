"""BacktestResult and evidence as one self-contained HTML page that asks the network for nothing.

Every string that comes from outside (headlines, sources, symbols, names) is hostile until escaped. Three locks:
`escape` is applied by default wherever text meets HTML; JSON is written without a single `<`; and the page's own policy
lets the browser run only the scripts whose SHA-256 it names (https://www.w3.org/TR/CSP3/#grammardef-hash-source).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.errors import require
from finsignal.report import sections, trades
from finsignal.report.chance import chance_part
from finsignal.report.drawings import draw_equity, draw_positions, tell_cutoffs
from finsignal.report.evidence import account_part, evidence_part, links_part, questions_part
from finsignal.report.origins import origins_part, paid_part
from finsignal.report.text import Html, escape, items, to_json
from finsignal.report.windows import draw_windows, list_windows, windows_part
from finsignal.tables import BacktestResult


def make_report(
    *, summary: Mapping[str, Any], result: BacktestResult, curves: pd.DataFrame, trade_news: pd.DataFrame
) -> str:
    """One self-contained HTML page: verdict, key figures, charts, every trade with its news.

    summary is what is known of the run (fractions; None is "not defined"). Where it holds "evidence" (a verdict and
    answers as plain values), that verdict and its three facts come first, then the account with the cut-offs of its
    model, then one section a question. curves holds one column of account value per compared run, indexed by open_time,
    the run itself first. trade_news has one row per trade and text behind its entry, columns trades.NEWS_COLUMNS. Long
    charts are thinned, and the page says so; the list of trades never is.

    Raises TableError for a missing column or news of a trade that is not in the result, LookaheadError where a text is
    known after its decision, MissingExtraError without plotly.
    """
    trades.check_news(trade_news, result.trades)
    plotly = require("plotly.offline", extra="backtest", work="report").get_plotlyjs().replace("\r\n", "\n")
    script = _read_part("page.js")
    split = (summary.get("period") or {}).get("split")
    evidence = summary.get("evidence") or {}
    cutoffs = (summary.get("model") or {}) if evidence else {}
    equity, equity_note = draw_equity(result, curves, split, cutoffs, height=470 if evidence else 520)
    positions, positions_note = draw_positions(result.weights)
    windows = list_windows(summary)
    verdict = summary.get("verdict") or {}
    word = str(verdict.get("word", "no verdict"))
    tiles = sections.tiles_part(summary)
    first, questions = Html(sections.verdict_part(word, verdict.get("reasons", ())) + "\n" + tiles), Html("")
    if evidence:
        first = evidence_part(evidence)
        questions = Html(tiles + account_part(summary.get("account") or {}, evidence) + questions_part(evidence))
        word = str(evidence["verdict"]["word"])
        windows_note = "Each window of the test begins at a dotted upright line. " * bool(windows)
        equity_note = f"{equity_note} {windows_note}{tell_cutoffs(result.equity.index, cutoffs)}".strip()
    parts = {
        "hashes": Html(" ".join(f"'sha256-{_digest(text)}'" for text in (plotly, script))),
        "title": f"{summary.get('name', 'run')}: {word}",
        "name": summary.get("name", "run"),
        "subtitle": sections.subtitle_part(summary.get("period") or {}),
        "notes": Html("<ul class='notes'>" + items(summary["notes"]) + "</ul>") if summary.get("notes") else "",
        "first": first,
        "questions": questions,
        "question_links": links_part(evidence),
        "equity_note": equity_note,
        "positions_note": positions_note,
        "comparison": Html(sections.comparison_part(summary.get("comparison") or ()) + chance_part(summary)),
        "figures": sections.figures_part(summary),
        "trades_note": trades.trades_note(result),
        "trades": trades.trades_part(result, trade_news),
        "texts": sections.texts_part(summary.get("texts") or {}),
        "prices": sections.prices_part(summary.get("prices") or {}),
        "costs": Html(paid_part(summary) + sections.costs_part(summary)),
        "origins": origins_part(summary),
        "model": sections.model_part(summary.get("model")),
        "settings": sections.settings_part(summary, result.settings),
        "windows": windows_part(summary),
        "windows_link": Html('<a href="#windows">Windows</a>') if windows else "",
        "drawings": to_json([drawing for drawing in (equity, positions, draw_windows(windows)) if drawing]),
        "plotly": Html(plotly),
        "script": Html(script),
        "style": Html(_read_part("page.css") + (_read_part("page.evidence.css") if evidence else "")),
    }
    # One pass, so that a headline which says "{{script}}" stays what it says.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: escape(parts[found[1]]), _read_part("page.html"))


def write_report(
    path: Path | str,
    *,
    summary: Mapping[str, Any],
    result: BacktestResult,
    curves: pd.DataFrame,
    trade_news: pd.DataFrame,
) -> Path:
    """The path of the page of `make_report`, written whole or not at all: a failure leaves an older page as it was."""
    path = Path(path)
    page = make_report(summary=summary, result=result, curves=curves, trade_news=trade_news)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_text(page, encoding="utf-8", newline="\n")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _read_part(name: str) -> str:
    return resources.files("finsignal.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
