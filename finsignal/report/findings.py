"""An evaluation in words: what a reader should take from it, and all of it as text for a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 100
BLOCK = 3  # models beside each other on a line
LUCK = 0.05
SMALLEST = 1e-4  # p-value that is written out
SURE = 0.7  # the confidence from which `score` calls a text's signal actionable

# key, what a reader calls it, whether more is better, what it means
MEASURES = (
    ("accuracy", "Accuracy", True, "share of rows whose most probable label is the true one"),
    ("macro_f1", "Macro F1", True, "F1 (of precision and recall) of each label, averaged as if all were as frequent"),
    ("weighted_f1", "Weighted F1", True, "the same, each label weighted by how often it is true"),
    ("mcc", "Matthews", True, "correlation of true and predicted labels: 1 perfect, 0 guessing, whatever the balance"),
    (
        "log_loss",
        "Log-loss",
        False,
        "what the true label's probability costs, -ln p: 0 perfect, 1.099 uniform guessing",
    ),
    ("brier", "Brier score", False, "squared distance of the probabilities from the truth: 0 perfect, 0.667 uniform"),
    ("calibration_error", "Calibration error", False, "mean gap of confidence and accuracy, 15 bins of equal mass"),
)


# of generated answers: key, what a reader calls it, what it means
ANSWERS = (
    ("one_pass", "Accuracy, one pass", "by the largest probability, as everywhere else"),
    ("accuracy", "Accuracy, written", "of all answers; those that are no label are wrong"),
    ("accuracy_parsed", "Of those that are labels", "leaves out the answers that are no label"),
    ("unparsable", "Unparsable", "answers whose first word is no label; never taken for neutral"),
    ("agreement", "Both say the same", "of the answers that are labels"),
)


def short_names(names: Sequence[str]) -> list[str]:
    """The names without their digests and organisations, where that still tells them apart.

    >>> short_names(["a@12", "org/b@34"]), short_names(["a@12", "a@34"])
    (['a', 'b'], ['a@12', 'a@34'])
    """
    whole = [re.sub(r"@\w+", "", name) for name in names]
    for short in ([name.rpartition("/")[2] for name in whole], whole):
        if len(set(short)) == len(names) and "" not in short:
            return short
    return list(names)


def list_findings(evaluation: Mapping[str, Any]) -> list[str]:
    """What the first model is worth, in sentences, each with the figures it rests on."""
    models = evaluation["models"]
    names = dict(zip((m["name"] for m in models), short_names([m["name"] for m in models]), strict=True))
    first, rows = models[0], evaluation["data"]["rows"]
    label, most = max(evaluation["data"]["labels"].items(), key=lambda item: item[1])
    out = [
        f"{names[first['name']]} gives the right label to {_percent(first['accuracy']['value'])} of {rows:,} "
        f"row{'' if rows == 1 else 's'}{_interval(first['accuracy'])}; calling all of them {label} would be right for "
        f"{_percent(most / rows)}."
    ]
    out += [_compare(pair, names) for pair in evaluation["pairs"] if pair["first"] == first["name"]]
    kept = next(t for t in first["thresholds"] if t["threshold"] == SURE)
    if kept["n"] and kept["n"] < rows:
        out.append(
            f"Where it is at least {_percent(SURE, 0)} sure, which is {_percent(kept['coverage'])} of the rows, it is "
            f"right for {_percent(kept['accuracy'])}."
        )
    gap = first["calibration_error"]
    sure = sum(p["confidence"] * p["n"] for p in first["reliability"]) / rows - first["accuracy"]["value"]
    lean = "too sure of itself" if sure > 0.01 else "too modest" if sure < -0.01 else "neither too sure nor too modest"
    out.append(f"Its confidence is off by {_percent(gap['value'])} on average; on the whole it is {lean}.")
    moved = [change for change in first["robustness"] if change["flipped"]["value"]]
    if moved:
        worst = max(moved, key=lambda change: float(change["flipped"]["value"]))
        out.append(
            f"Of five ways to write a text otherwise, “{worst['name']}” moves it most: "
            f"{_percent(worst['flipped']['value'])} of the labels change."
        )
    return out


def _compare(pair: Mapping[str, Any], names: Mapping[str, str]) -> str:
    gain, points = pair["accuracy"], 100 * pair["accuracy"]["value"]
    p = to_p(pair["p_value"])
    tested = f"McNemar p {p if p.startswith('<') else '= ' + p}"
    if pair["p_value"] < LUCK and points:
        return (
            f"It has {abs(points):.1f} points of accuracy {'more' if points > 0 else 'less'} than "
            f"{names[pair['second']]}{_interval(gain, points=True)}, beyond luck ({tested})."
        )
    return (
        f"From {names[pair['second']]} it differs by {points:+.1f} points of accuracy{_interval(gain, points=True)}, "
        f"which may be luck ({tested})."
    )


def to_p(value: float) -> str:
    """A p-value for people.

    >>> to_p(0.0312), to_p(1e-9), to_p(1.0)
    ('0.031', '< 0.0001', '1')
    """
    return f"< {SMALLEST:.4f}" if value < SMALLEST else f"{value:.2g}"


def to_terminal(evaluation: Mapping[str, Any]) -> str:
    """The evaluation on lines of at most a hundred characters, a dash where a figure is not defined."""
    data, models = evaluation["data"], evaluation["models"]
    mix = ", ".join(f"{count:,} {label}" for label, count in data["labels"].items())
    lines = [f"{evaluation['name']}: {data['rows']:,} row{'' if data['rows'] == 1 else 's'} ({mix})"]
    lines += [_wrap(note, "  ! ") for note in evaluation["notes"]]
    lines += [_wrap(said, "  ") for said in list_findings(evaluation)]
    for start in range(0, len(models), BLOCK):
        block = models[start : start + BLOCK]
        names = short_names([m["name"] for m in models])[start : start + BLOCK]
        lines += ["", f"  {'value [95 % interval]':<26}" + "".join(f"{name[:22]:<24}" for name in names).rstrip()]
        lines += [_line(title.lower(), [m[key] for m in block]) for key, title, _, _ in MEASURES]
        for label in data["labels"]:
            for key in ("precision", "recall"):
                lines.append(_line(f"{label} {key}", [m["by_label"][label][key] for m in block]))
        for at, part in enumerate(block[0]["slices"]):
            title = f"{part['name'][:17]} ({part['n']:,})"
            lines.append(_line(title, [m["slices"][at]["accuracy"] for m in block], head="accuracy" * (at == 0)))
        for at, change in enumerate(block[0]["robustness"]):
            flips = [m["robustness"][at]["flipped"] for m in block]
            lines.append(_line(change["name"], flips, head="labels that flip" * (at == 0)))
    for model in models:
        if model.get("answers"):
            lines += ["", *_answer_lines(model["name"], model["answers"], list(data["labels"]))]
    for model in models:
        if model.get("trading"):
            lines += ["", *_trading_lines(model["trading"])]
    return "\n".join(lines)


def _line(name: str, figures: Sequence[Mapping[str, Any]], *, head: str = "") -> str:
    cells = []
    for figure in figures:
        value = "-" if figure["value"] is None else f"{figure['value']:.3f}"
        low, high = figure["low"], figure["high"]
        cells.append(f"{value} [{low:.3f}, {high:.3f}]" if low is not None else value)
    line = f"  {name:<26}" + "".join(f"{cell:<24}" for cell in cells).rstrip()
    return f"  {head}\n{line}" if head else line


def _answer_lines(name: str, found: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    lines = [_wrap(f"{name}, let write its answers to {found['rows']:,} rows:", "  ")]
    lines += [_line(title.lower(), [found[key]]) for key, title, _ in ANSWERS]
    lines.append(f"  {'true by written':<26}" + "".join(f"{head:>12}" for head in (*labels, "unparsable")))
    for label, row in zip(labels, found["confusion"], strict=True):
        lines.append(f"    {label:<24}" + "".join(f"{count:>12,}" for count in row))
    for item in found["said"]:
        lines.append(_wrap(f"unparsable, {item['rows']:,} times: {item['answer'][:60]!r}", "  "))
    return lines


def _trading_lines(trading: Mapping[str, Any]) -> list[str]:
    figures = trading["performance"]

    def show(key: str, kind: str = ".1%") -> str:
        return "-" if figures.get(key) is None else format(figures[key], kind)

    return [
        _wrap(
            f"traded in {trading['name']} ({trading['folder']}), {trading['start'][:10]} to {trading['end'][:10]}: "
            f"{trading['verdict']}; net return {show('net_return')}, Sharpe {show('sharpe', '.2f')} +- "
            f"{show('sharpe_error', '.2f')}, drawdown {show('max_drawdown')}, {show('trades', ',d')} trades",
            "  ",
        )
    ]


def _wrap(text: str, head: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}\xa0%"


def _interval(figure: Mapping[str, Any], *, points: bool = False) -> str:
    if figure["low"] is None:
        return ""
    if points:
        return f" (95 % interval {100 * figure['low']:+.1f} to {100 * figure['high']:+.1f})"
    return f" (95 % interval {100 * figure['low']:.1f} to {_percent(figure['high'])})"
