"""An evaluation of sentiment models as one self-contained HTML page: no script, nothing from the network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from finsignal.report import plots
from finsignal.report.evaluation_parts import (
    answers_part,
    labels_part,
    method_part,
    robustness_part,
    slices_part,
    thresholds_part,
    to_cell,
    to_span,
    to_value,
    trading_part,
)
from finsignal.report.findings import LUCK, MEASURES, list_findings, short_names, to_p
from finsignal.report.sections import fold, tile
from finsignal.report.text import Html, bdi, escape, is_none, items, number, plural, signed, table
from finsignal.writing import whole_folder

JSON, PAGE = "evaluation.json", "evaluation.html"


def write_evaluation(folder: Path, evaluation: Mapping[str, Any]) -> Path:
    """The path of the page: a folder with evaluation.json and evaluation.html, written whole or not at all.

    Raises SourceError where the folder holds something else or cannot be written.
    """
    page = make_evaluation_page(evaluation)
    with whole_folder(folder, mark=JSON) as work:
        text = json.dumps(evaluation, indent=1, ensure_ascii=False, allow_nan=False)
        (work / JSON).write_text(text + "\n", encoding="utf-8", newline="\n")
        (work / PAGE).write_text(page, encoding="utf-8", newline="\n")
    return folder / PAGE


def make_evaluation_page(evaluation: Mapping[str, Any]) -> str:
    """One self-contained HTML page of what `run_evaluation` gives; model names, sources and texts are escaped."""
    models, data = evaluation["models"], evaluation["data"]
    shades, names = plots.colours(models), short_names([m["name"] for m in models])
    only = "" if len(models) == 1 else f" Bars are the 95 % intervals of {names[0]}."
    below = {
        "answers": answers_part(models, names, shades, list(data["labels"])),
        "slices": slices_part(models, names, shades),
        "robustness": robustness_part(models, names, shades),
        "trading": trading_part(models),
    }
    parts = {
        "title": f"{evaluation['name']}: {names[0]}",
        "heading": f"How good is {names[0]} on {evaluation['name']}?",
        "style": Html(_read_part("page.css")),
        "subtitle": _subtitle(data),
        "notes": Html("<ul class='notes'>" + items(evaluation["notes"]) + "</ul>") if evaluation["notes"] else "",
        "findings": items(list_findings(evaluation)),
        "tiles": _tiles(models[0]),
        "links": Html("".join(f'<a href="#{key}">{key.capitalize()}</a>' for key, part in below.items() if part)),
        "beside": _beside(models, shades),
        "pairs": _pairs(evaluation["pairs"], names=dict(zip((m["name"] for m in models), names, strict=True))),
        "legend": plots.legend(names, shades),
        "whose": only,
        "marks": f" Dots are thresholds of {names[0]}.",
        "reliability": plots.draw_reliability(models, shades),
        "coverage": plots.draw_coverage(models, shades),
        "thresholds": thresholds_part(models, names, shades),
        "confusion": labels_part(models, names),
        **below,
        "method": method_part(evaluation),
    }
    # One pass, so that a model named "{{method}}" stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: escape(parts[found[1]]), _read_part("page.evaluation.html"))


def _read_part(name: str) -> str:
    return resources.files("finsignal.report").joinpath(name).read_text(encoding="utf-8")


def _subtitle(data: Mapping[str, Any]) -> str:
    mix = ", ".join(f"{number(count, 'count')} {label}" for label, count in data["labels"].items())
    sources = list(data["sources"])
    shown = ", ".join(sources[:6]) + (f" and {len(sources) - 6} more" if len(sources) > 6 else "")
    return f"{plural(data['rows'], 'row')} · {mix} · {plural(len(sources), 'source')}: {shown}"


def _tiles(model: Mapping[str, Any]) -> Html:
    tiles = []
    for key in ("accuracy", "macro_f1", "log_loss", "calibration_error"):
        title = next(title for name, title, _, _ in MEASURES if name == key)
        tiles.append(tile(title, to_value(model[key], key), to_span(model[key], key, "95 % interval ")))
    return Html('<div class="tiles">' + "".join(tiles) + "</div>")


def _beside(models: Sequence[Mapping[str, Any]], shades: Sequence[str]) -> Html:
    best = {}
    for key, _, more, _ in MEASURES:
        values = [m[key]["value"] for m in models if not is_none(m[key]["value"])]
        best[key] = (max if more else min)(values) if len(models) > 1 and values else None
    rows = [
        (
            Html(f"{plots.dot(shade)}{bdi(model['name'])}"),
            *(to_cell(model[key], key, best=model[key]["value"] == best[key]) for key, *_ in MEASURES),
        )
        for model, shade in zip(models, shades, strict=True)
    ]
    head = ("", *(title for _, title, _, _ in MEASURES))
    meant = [(title, said, "more is better" if more else "less is better") for _, title, more, said in MEASURES]
    return Html(
        table(head, rows, style="beside", numbers=range(1, len(head)))
        + fold("What the figures mean", table(("Figure", "Meaning", ""), meant, style="facts"), False)
    )


def _pairs(pairs: Sequence[Mapping[str, Any]], *, names: Mapping[str, str]) -> Html:
    if not pairs:
        return Html("")
    ends = [pair["accuracy"][end] for pair in pairs for end in ("value", "low", "high")]
    reach = max([0.01, *(abs(end) for end in ends if not is_none(end))])
    scale = f"\u2212{number(reach, 'percent')} to {number(reach, 'percent')}"
    head = ("", "More accuracy", scale, "Only first right", "Only second right", "p-value", "More log-loss")
    rows = [_pair(pair, names, reach) for pair in pairs]
    first = sum(pair["first"] == pairs[0]["first"] for pair in pairs)
    tables = [table(head, part, style="pairs", numbers=range(1, 7)) for part in (rows[:first], rows[first:]) if part]
    several = f" Of {len(pairs)} pairs one in twenty would stand out by luck alone." if len(pairs) > 3 else ""
    return Html(
        "<h3>Is the difference more than luck?</h3><p class='sub'>McNemar's exact test looks at the rows on which just "
        "one of two is right: were both as good, they would part like throws of a coin. A p-value below 0.05 is taken "
        f"as more than luck.{several}</p>{tables[0]}"
        + "".join(fold("The other pairs", part, False) for part in tables[1:])
    )


def _pair(pair: Mapping[str, Any], names: Mapping[str, str], reach: float) -> tuple[Html | str, ...]:
    first, second = names[pair["first"]], names[pair["second"]]
    gain = pair["accuracy"]["value"]
    better = f"{first if gain > 0 else second} is right more often"
    word = better if pair["p_value"] < LUCK and gain else "may be luck"
    return (
        Html(f"{bdi(first)} <span class='soft'>against</span> {bdi(second)}<span class='sub'>{escape(word)}</span>"),
        signed(gain),
        plots.draw_difference(pair["accuracy"], reach),
        number(pair["first_only"], "count"),
        number(pair["second_only"], "count"),
        to_p(pair["p_value"]),
        f"{pair['log_loss']['value']:+.3f}".replace("-", "\u2212"),
    )
