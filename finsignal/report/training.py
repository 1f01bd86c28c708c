"""A training as one self-contained HTML page: its curves, its epochs, and what it changed; no script, no network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from finsignal.errors import ModelError
from finsignal.report import plots
from finsignal.report.sections import fold, plain, tile
from finsignal.report.text import NONE, Html, bdi, escape, is_none, items, number, plural, table
from finsignal.report.training_curves import clipped_share, curves_part, list_norms, to_points
from finsignal.tables import LABELS
from finsignal.writing import whole_file

JSON = "training.json"
CLIPPED = 0.5  # share of clipped steps, above which the clip and not the rate decides how far a step goes
# key, what a reader calls it, how it is written
CHANGED = (
    ("accuracy", "Accuracy", "percent"),
    ("macro_f1", "Macro F1", "points"),
    ("log_loss", "Log-loss", "points"),
    ("calibration_error", "Calibration error", "percent"),
    ("positive_of_neutral", "Neutral called positive", "percent"),
)


def write_training_page(folder: Path, name: str = JSON) -> Path:
    """The path of the page: the log `name` of a model folder drawn as an .html file of the same name beside it.

    Raises ModelError where there is no such log or it is not one of a training, SourceError where nothing can be
    written there.
    """
    path = Path(folder) / name
    try:
        log = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ModelError(f"{path}: no such file; only a model that was tuned here has a log of its training.") from err
    except (OSError, ValueError) as err:
        raise ModelError(f"{path}: cannot be read as the log of a training ({err}).") from err
    try:
        page = to_training_page(log, source=name)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as err:
        raise ModelError(f"{path}: is not the log of a training ({type(err).__name__}: {err}).") from err
    out = path.with_suffix(".html")
    with whole_file(out) as work:
        work.write_text(page, encoding="utf-8", newline="\n")
    return out


def to_training_page(log: Mapping[str, Any], *, source: str = JSON) -> str:
    """One self-contained HTML page of a training's log; every name in it is escaped. source: the log's own name.

    steps: one entry a step of the optimiser, with step, epoch, loss, learning_rate, and gradient_norm, which is absent
    where float16 overflowed and the step was left out. epochs: one an epoch, with epoch, train_loss, held_out_log_loss
    and held_out_accuracy. chosen_epoch. settings: of the tuning. Where known also recipe, plan, before and forgetting.
    """
    plan, epochs = log.get("plan") or {}, log["epochs"]
    name = str(log.get("recipe") or plan.get("name") or "the model")
    warned = plan.get("warnings") or ()
    parts = {
        "title": f"Training of {name}",
        "heading": f"How {name} was trained",
        "style": Html(_read_part("page.css")),
        "subtitle": _subtitle(log, plan),
        "notes": Html(f"<ul class='notes'>{items(warned)}</ul>") if warned else "",
        "findings": items(list_findings(log)),
        "tiles": _tiles(log, plan),
        "curves": curves_part(log),
        "epochs": _epochs(epochs, log["chosen_epoch"]),
        "before": _before(log.get("before")),
        "forgetting": _forgetting(log.get("forgetting")),
        "plan": _plan(plan, log["settings"]),
        "source": source,
    }
    # One pass, so that a recipe named "{{plan}}" stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: escape(parts[found[1]]), _read_part("page.training.html"))


def list_findings(log: Mapping[str, Any]) -> list[str]:
    """What the curves say, in sentences: the epoch, the clipping, what changed, what was forgotten."""
    epochs, chosen, steps = log["epochs"], log["chosen_epoch"], log.get("steps") or ()
    best, final = _entry(epochs, chosen), epochs[-1]
    found = [
        f"Epoch {chosen} of {len(epochs)} became the model, with a held-out log-loss of "
        f"{to_points(best['held_out_log_loss'])} and {number(best.get('held_out_accuracy'), 'percent')} right."
    ]
    planned = log["settings"].get("epochs", len(epochs))
    if chosen < len(epochs):
        found.append(
            f"Later epochs were no better there ({to_points(final['held_out_log_loss'])} in the last): they learned "
            "the rows by heart."
        )
    elif len(epochs) > 1:
        found.append("The held-out log-loss was least in the last epoch: more epochs may bring more.")
    if len(epochs) < planned:
        found.append(f"It stopped early, after {len(epochs)} of {planned} epochs.")
    norms, clip = list_norms(steps), log["settings"].get("clip")
    if norms and clip:
        share = clipped_share(norms, clip)
        more = "; a lower learning rate may serve better" if share > CLIPPED else ""
        found.append(
            f"The gradient was clipped to a norm of {number(clip)} in {number(share, 'percent')} of the steps{more}."
        )
    if lost := len(steps) - len(norms):
        found.append(f"{plural(lost, 'step')} had no finite gradient and changed nothing.")
    if before := log.get("before"):
        pair = [before[side] for side in ("base", "tuned")]
        first, second = (number(side["accuracy"], "percent") for side in pair)
        found.append(
            f"On {plural(before['rows'], 'held-out row')} the base was right in {first}, the tuned model in {second}."
        )
        if not is_none(pair[0].get("positive_of_neutral")):
            first, second = (number(side["positive_of_neutral"], "percent") for side in pair)
            found.append(f"Of the neutral rows the base called {first} positive, the tuned model {second}.")
    forgotten = log.get("forgetting") or {}
    if forgotten.get("base") and forgotten.get("tuned"):
        change = forgotten["tuned"] / forgotten["base"] - 1
        found.append(
            f"Its perplexity on a text of everyday English went from {to_points(forgotten['base'], 4)} to "
            f"{to_points(forgotten['tuned'], 4)} ({'+' if change >= 0 else ''}{number(change, 'percent')})."
        )
    return found


def _read_part(name: str) -> str:
    return resources.files("finsignal.report").joinpath(name).read_text(encoding="utf-8")


def _entry(epochs: Sequence[Mapping[str, Any]], chosen: int) -> Mapping[str, Any]:
    return {entry["epoch"]: entry for entry in epochs}[chosen]


def _subtitle(log: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    settings, told = log["settings"], []
    if settings.get("method"):
        base = f" on {plan['base']}" if plan.get("base") else ""
        head = f", head {plan['head']}" if plan.get("head") else ""
        told.append(f"{settings['method']}{base}{head}")
    if plan.get("rows"):
        told.append(plural(plan["rows"], "row"))
    told += [plural(len(log["epochs"]), "epoch"), plural(len(log.get("steps") or ()), "step")]
    return " · ".join(told)


def _tiles(log: Mapping[str, Any], plan: Mapping[str, Any]) -> Html:
    best = _entry(log["epochs"], log["chosen_epoch"])
    memory = (plan.get("memory") or {}).get("total")
    numbers = f"{number(plan.get('trainable'), 'count')} of {number(plan.get('total'), 'count')} numbers"
    share = plan.get("share")
    tiles = [
        tile("Held-out log-loss", to_points(best["held_out_log_loss"]), f"epoch {best['epoch']}, the least"),
        tile("Held-out accuracy", number(best.get("held_out_accuracy"), "percent"), "of the same epoch"),
    ]
    tiles += [] if is_none(share) else [tile("Tuned", number(share, "percent"), numbers)]
    tiles += [] if is_none(memory) else [tile("Memory of a step", to_size(memory), "estimated before it began")]
    return Html('<div class="tiles">' + "".join(tiles) + "</div>")


def to_size(value: Any) -> str:
    """Bytes for people, by thousands.

    >>> to_size(5_612_000_000), to_size(None)
    ('5.61\\xa0GB', '–')
    """
    if is_none(value):
        return NONE
    size, unit = next(((size, unit) for size, unit in ((1e9, "GB"), (1e6, "MB")) if value >= size), (1e3, "kB"))
    return f"{to_points(value / size)}\xa0{unit}"


def _epochs(epochs: Sequence[Mapping[str, Any]], chosen: int) -> Html:
    rows = [
        (
            Html(f"<b>{entry['epoch']:d}, chosen</b>") if entry["epoch"] == chosen else f"{entry['epoch']:d}",
            to_points(entry.get("train_loss"), 4),
            to_points(entry["held_out_log_loss"], 4),
            number(entry.get("held_out_accuracy"), "percent"),
        )
        for entry in epochs
    ]
    head = ("Epoch", "Training loss", "Held-out log-loss", "Held-out accuracy")
    return table(head, rows, style="epochs", numbers=(1, 2, 3))


def _before(before: Mapping[str, Any] | None) -> Html:
    if not before:
        return Html("")
    base, tuned = before["base"], before["tuned"]
    rows = [
        (
            title,
            *(
                number(side.get(key), "percent") if kind == "percent" else to_points(side.get(key))
                for side in (base, tuned)
            ),
        )
        for key, title, kind in CHANGED
    ]
    cards = "".join(
        f"<div><h3>{title}</h3>{plots.draw_confusion(side['confusion'], LABELS)}</div>"
        for title, side in (("The base", base), ("Tuned", tuned))
    )
    return Html(
        '\n<section id="before"><h2>Before and after</h2><p class="sub">The base and the tuned model on the same '
        f"{plural(before['rows'], 'held-out row')}, before any temperature. A base that calls many neutral rows "
        "positive is too optimistic. Rows of the tables are the true label, columns the predicted one; blue is right, "
        "orange is wrong.</p>"
        + table(("", "Base", "Tuned"), rows, style="changed", numbers=(1, 2))
        + f'<div class="cards">{cards}</div></section>'
    )


def _forgetting(forgotten: Mapping[str, Any] | None) -> Html:
    if not forgotten:
        return Html("")
    if "base" not in forgotten:
        told: str = escape(f"Not measured: {forgotten.get('reason', NONE)}.")
    else:
        cells = [("Perplexity", *(to_points(forgotten[side], 4) for side in ("base", "tuned")))]
        told = table(("", "Base", "Tuned"), cells, style="changed", numbers=(1, 2))
        told += f"<p class='sub'>Over {number(forgotten['tokens'], 'count')} tokens.</p>"
    return Html(
        '\n<section id="forgetting"><h2>What was forgotten</h2><p class="sub">Perplexity on a text of everyday English '
        "without any finance: between how many words, as it were, the model wavers at each. It rises where tuning "
        f"overwrote what the base knew of language.</p>{told}</section>"
    )


def _plan(plan: Mapping[str, Any], settings: Mapping[str, Any]) -> Html:
    advice, out = plan.get("advice") or {}, ""
    keys = [key for key in ("rank", "alpha", "learning_rate", "epochs") if key in advice]
    if keys:
        rows = [(key.replace("_", " "), number(settings.get(key)), number(advice[key])) for key in keys]
        out += table(("", "Here", "Advised"), rows, style="planned", numbers=(1, 2))
        out += f"<p class='sub'>{escape(advice.get('because') or '')}</p>"
    if memory := plan.get("memory"):
        parts = [(bdi(key.replace("_", " ")), to_size(value)) for key, value in memory.items()]
        out += "<h3>Memory of a step, estimated</h3>" + table(("", "Size"), parts, style="planned", numbers=(1,))
    everything = [(bdi(key.replace("_", " ")), plain(value)) for key, value in settings.items()]
    return Html(out + fold("All settings", table(("", ""), everything, style="facts"), not out))
