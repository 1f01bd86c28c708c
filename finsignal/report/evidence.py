"""The evidence on the page: the verdict with its three facts and tests, and one section a question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from finsignal.report.answer_curves import curves_part, draw_small
from finsignal.report.intervals import LUCK, draw_interval, to_scales, to_shade
from finsignal.report.sections import fold, plain
from finsignal.report.text import NONE, Html, bdi, escape, in_unit, is_none, items, noun_for, number, plural, table

SHORT = {  # what the contents call a question
    "luck": "Luck",
    "news": "News",
    "search": "Search",
    "tradable": "Tradable",
    "predicts": "Predicts",
    "lasts": "Lasts",
    "check": "Check",
}
TONES = {"real": "good", "not real": "bad"}
STATES = {True: ("passed", "\u2713"), False: ("failed", "\u2715"), None: ("open", "\u2013")}
SAID = {True: "passed", False: "failed", None: "not judged"}
BESIDE = ("lasts",)  # questions whose figures are the same one of several parts
ROWS = 6  # of a table that is shown without a click

Answer = Mapping[str, Any]


def evidence_part(evidence: Mapping[str, Any]) -> Html:
    """The first screen: the verdict in a word, the three facts that decide it, and a mark for each test."""
    verdict = evidence["verdict"]
    word, tests = str(verdict["word"]), verdict.get("tests") or ()
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in verdict.get("facts") or ())
    marks = "".join(f"<li>{_mark(test['passed'])}<span>{bdi(test['name'])}</span></li>" for test in tests)
    told = [(_mark(test["passed"]), bdi(test["name"]), bdi(test.get("said", ""))) for test in tests]
    rule = Html(
        f"<p>{escape(verdict.get('rule', ''))}</p>" + (table(("", "", ""), told, style="tests") if told else "")
    )
    return Html(
        f'<section id="verdict" class="verdict whole {TONES.get(word, "open")}">'
        f'<div class="asked"><span>Is it real?</span> <span class="word">{escape(word)}</span></div>'
        f'<ol class="facts-of">{facts}</ol>'
        + (f'<ul class="marks">{marks}</ul>' if marks else "")
        + fold("The rule behind this verdict, and what each test says", rule, False)
        + "</section>"
    )


def account_part(verdict: Mapping[str, Any], evidence: Mapping[str, Any]) -> Html:
    """What the account says by itself, which the evidence overrules: a fold below the key figures.

    Nothing where the summary's verdict is that of the evidence.
    """
    reasons = verdict.get("reasons") or ()
    if not reasons or list(reasons) == list(evidence["verdict"].get("facts") or ()):
        return Html("")
    word = str(verdict.get("word", NONE))
    return Html(
        '<section class="account">'
        + fold(f"By its account alone: {word}", Html(f"<ul>{items(reasons)}</ul>"), False)
        + "</section>"
    )


def links_part(evidence: Mapping[str, Any]) -> Html:
    """A link of the contents for each question."""
    answers = evidence.get("answers") or ()
    return Html("".join(f'<a href="#{_anchor(a, at)}">{escape(_short(a))}</a>' for at, a in enumerate(answers)))


def questions_part(evidence: Mapping[str, Any]) -> Html:
    """One section a question: its sentence, figures, curves, tables, notes and sources."""
    answers = evidence.get("answers") or ()
    return Html("".join(_question(answer, at, len(answers)) for at, answer in enumerate(answers)))


def _question(answer: Answer, at: int, count: int) -> str:
    legend = (
        '<p class="sub">The dot is the figure, the band its 95 % interval, the upright rule zero (for a probability: '
        "0.95). Blue lies above it, orange below; grey is not told from it by this much data.</p>"
        if at == 0
        else ""
    )
    notes = answer.get("notes") or ()
    return (
        f'<section id="{_anchor(answer, at)}" class="question"><p class="sub over">Question {at + 1} of {count} · '
        f"{escape(_short(answer))}</p><h2>{escape(answer['question'])}</h2>"
        f'<p class="answer-said">{escape(answer["said"])}</p>'
        + figures_table(answer.get("figures") or (), answer.get("curves") or (), together=answer["key"] in BESIDE)
        + legend
        + curves_part(answer.get("curves") or ())
        + "".join(_table(part) for part in answer.get("tables") or ())
        + (f'<ul class="asides">{items(notes)}</ul>' if notes else "")
        + _sources(answer.get("figures") or ())
        + "</section>"
    )


def figures_table(
    figures: Sequence[Mapping[str, Any]], curves: Sequence[Mapping[str, Any]] = (), *, together: bool = False
) -> Html:
    """A row a figure: name, value with its interval, the interval drawn, p-value and number of observations.

    A figure with a histogram of its own key among the curves shows that in small. together: those of one unit are
    drawn to one scale.
    """
    if not figures:
        return Html("")
    dealt = {curve["key"]: curve for curve in curves if curve.get("kind") == "histogram"}
    scales = to_scales([figure for figure in figures if figure["key"] not in dealt], together=together)
    rows = "".join(
        _figure(
            figure,
            draw_small(dealt[figure["key"]])
            if figure["key"] in dealt
            else draw_interval(figure, scales.get(figure["key"])),
        )
        for figure in figures
    )
    head = "<tr><th></th><th class='n'>Figure</th><th></th><th class='n'>p</th><th class='n'>Rests on</th></tr>"
    return Html(f'<table class="evidence"><thead>{head}</thead><tbody>{rows}</tbody></table>')


def _figure(figure: Mapping[str, Any], drawn: Html) -> str:
    said = f'<span class="sub">{escape(figure["said"])}</span>' if figure.get("said") else ""
    name = f'<td class="name"><b>{escape(figure["name"])}</b>{said}</td>'
    draws = f'<span class="sub">{plural(figure["draws"], "draw")}</span>' if figure.get("draws") else ""
    of = bdi(noun_for(figure["n"], str(figure["of"])))
    count = f'<td class="n of">{number(figure["n"], "count")} {of}{draws}</td>'
    if is_none(figure.get("value")):
        needs = f'<td class="needs" colspan="3"><span>needs {escape(figure.get("needs") or "more data")}</span></td>'
        return f"<tr class='lacks'>{name}{needs}{count}</tr>"
    unit = figure["unit"]
    value = f'<b style="color:{_ink(figure)}">{in_unit(figure["value"], unit)}</b>'
    if not is_none(figure.get("low")) and not is_none(figure.get("high")):
        value += f'<span class="sub">{in_unit(figure["low"], unit)} to {in_unit(figure["high"], unit)}</span>'
    p = ""
    if not is_none(figure.get("p")):
        p = f"<b>{in_unit(figure['p'], 'p')}</b>" if figure["p"] <= LUCK else in_unit(figure["p"], "p")
    sign = "p " if p and figure["p"] < 0.001 else "p = "  # seen where columns have no heads
    worth = f'<td class="n p" data-l="{sign}">{p}</td>' if p else '<td class="n p"></td>'
    return f'<tr>{name}<td class="n value">{value}</td><td class="drawn">{drawn}</td>{worth}{count}</tr>'


def _ink(figure: Mapping[str, Any]) -> str:
    """Grey is for bands: a number that is not told from zero is as black as any other."""
    shade = to_shade(figure)
    return shade if shade in ("#1f5fa8", "#b4531b") else "inherit"


def _table(part: Mapping[str, Any]) -> str:
    units = part["units"]
    rows = [[_cell(value, unit) for value, unit in zip(row, units, strict=True)] for row in part["rows"]]
    numbers = [at for at, unit in enumerate(units) if unit]
    shown = table([str(name) for name in part["columns"]], rows, style="answers-table", numbers=numbers)
    if len(rows) > ROWS:
        return fold(f"{part['name']}: {plural(len(rows), 'row')}", shown, False)
    return f"<h3>{escape(part['name'])}</h3>{shown}"


def _cell(value: Any, unit: str) -> Html | str:
    if unit and (value is None or isinstance(value, (int, float))) and not isinstance(value, bool):
        return in_unit(value, unit)
    return plain(value)


def _sources(figures: Sequence[Mapping[str, Any]]) -> str:
    """Each paper once, with the figures that are computed by it."""
    named: dict[str, list[str]] = {}
    for figure in figures:
        if figure.get("source"):
            named.setdefault(str(figure["source"]), []).append(str(figure["name"]))
    if not named:
        return ""
    rows = [
        Html(f"{escape(source)} <span class='sub'>({escape(', '.join(names))})</span>")
        for source, names in named.items()
    ]
    return fold(plural(len(rows), "source"), Html(f"<ul class='sources'>{items(rows)}</ul>"), False)


def _mark(passed: bool | None) -> Html:
    state, sign = STATES[passed]
    return Html(f'<i class="mark {state}" title="{SAID[passed]}" aria-label="{SAID[passed]}" role="img">{sign}</i>')


def _anchor(answer: Answer, at: int) -> str:
    key = str(answer["key"])
    return f"q-{key}" if re.fullmatch("[a-z_]{1,30}", key) else f"q-{at}"


def _short(answer: Answer) -> str:
    return SHORT.get(str(answer["key"]), str(answer["key"]).replace("_", " "))
