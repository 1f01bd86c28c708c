"""The curves of a training: loss, held-out log-loss, learning rate, and the gradient with its clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finsignal.report.curves import Line, Point, Rule, draw_curve, smooth
from finsignal.report.plots import COLOURS
from finsignal.report.text import NONE, Html, escape, is_none, number

PALE, DARK, WARM = "#a9c4e2", COLOURS[0], COLOURS[1]
MANY = 40  # points, from which a line is drawn with its running mean


def to_points(value: Any, digits: int = 3) -> str:
    """A figure that is no share: three significant digits, none after the point from 1,000 on, or the dash.

    >>> to_points(0.41237), to_points(1143.14, 4), to_points(None)
    ('0.412', '1,143', '–')
    """
    return NONE if is_none(value) else number(float(f"{value:.{digits}g}"), "count" if abs(value) >= 1000 else "number")


def list_norms(steps: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Step and norm of the gradient before clipping, of the steps that had a finite one."""
    return [(row["step"], row["gradient_norm"]) for row in steps if not is_none(row.get("gradient_norm"))]


def clipped_share(norms: Sequence[Point], clip: float) -> float:
    """The share of the steps whose gradient was longer than the clip."""
    return sum(value > clip for _, value in norms) / len(norms)


def curves_part(log: Mapping[str, Any]) -> Html:
    """Training loss, held-out log-loss, learning rate and gradient norm; of the steps only where these were noted."""
    steps, epochs, chosen = log.get("steps") or (), log["epochs"], log["chosen_epoch"]
    out = []
    if steps:
        ends = {row["epoch"]: row["step"] for row in steps}  # the last step of each epoch
        best = [Rule(ends[chosen], f"end of epoch {chosen}", upright=True, shade=DARK)] if chosen in ends else []
        losses = [(row["step"], row["loss"]) for row in steps if not is_none(row["loss"])]
        drawn = [Line(losses, PALE, 1.2), Line(smooth(losses), DARK)] if len(losses) > MANY else [Line(losses, DARK)]
        above = ", pale, and its mean over a twentieth of them" if len(losses) > MANY else ""
        out.append(
            _part(
                "Training loss",
                f"Of each step{above}.",
                draw_curve(drawn, across="step", up="loss", said="Training loss by step", rules=best),
            )
        )
    held = [(entry["epoch"], entry["held_out_log_loss"]) for entry in epochs]
    told = [f"epoch {epoch}: {to_points(value)}" for epoch, value in held]
    marks = [Rule(chosen, "chosen", upright=True, shade=DARK)]
    out.append(
        _part(
            "Held-out log-loss",
            "Of rows that were kept from training: what is learned for good.",
            draw_curve(
                [Line(held, DARK, dots=told)],
                across="epoch",
                up="log-loss",
                said="Held-out log-loss by epoch",
                rules=marks,
            ),
        )
    )
    if steps:
        rates = [(row["step"], row["learning_rate"]) for row in steps]
        drawn_rate = draw_curve([Line(rates, DARK)], across="step", up="rate", said="Learning rate by step", zero=True)
        out.append(
            _part("Learning rate", "Of the body; the head and lower layers may have multiples of it.", drawn_rate)
        )
        out.append(_norm_part(list_norms(steps), log["settings"].get("clip")))
    return Html(f'<div class="curves">{"".join(out)}</div>')


def _part(title: str, said: str, drawn: Html) -> Html:
    return Html(f"<div><h3>{escape(title)}</h3><p class='sub'>{escape(said)}</p>{drawn}</div>")


def _norm_part(norms: Sequence[Point], clip: float | None) -> Html:
    if not norms:
        return _part("Gradient norm", "No step had a finite gradient.", Html(""))
    least, most = min(value for _, value in norms), max(value for _, value in norms)
    reached = clip is not None and most > clip / 3  # a line far above all would press them flat
    rules = [Rule(clip, "clip", shade=WARM)] if reached and clip is not None else []
    share = (
        f"{number(clipped_share(norms, clip), 'percent')} of the steps were clipped to {number(clip)}." if clip else ""
    )
    drawn = [Line(norms, PALE, 1.2), Line(smooth(norms), DARK)] if len(norms) > MANY else [Line(norms, DARK)]
    return _part(
        "Gradient norm",
        f"Before clipping. {share}",
        draw_curve(
            drawn,
            across="step",
            up="norm",
            said="Gradient norm by step",
            rules=rules,
            powers=least > 0 and most / least > 8,
            zero=True,
        ),
    )
