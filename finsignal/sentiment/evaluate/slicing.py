"""The same figures on parts of the rows: by source, by length, with and without a target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from finsignal.sentiment.evaluate.figures import evaluate_probabilities, to_share
from finsignal.sentiment.prompt import clean, normalise

SOURCES = 20  # the largest, each alone; the rest together
SHOWN = ("accuracy", "macro_f1", "log_loss", "calibration_error")


def measure_slices(
    probabilities: np.ndarray, codes: np.ndarray, labelled: pd.DataFrame, *, bootstrap: int = 1000, seed: int
) -> list[dict[str, Any]]:
    """Figures of each part of the rows: {"by", "name", "n", and SHOWN with their intervals}.

    by is "source", "length" (quarters by words) or "target"; a cut that leaves one part alone is left out. The interval
    of the accuracy is Wilson's, for a part may be small.
    """
    out = []
    for by, name, chosen in list_slices(labelled):
        found = evaluate_probabilities(probabilities[chosen], codes[chosen], bootstrap=bootstrap, seed=seed)
        right = probabilities[chosen].argmax(axis=1) == codes[chosen]
        shown = {key: found[key] for key in SHOWN} | {"accuracy": to_share(right, "")}
        out.append({"by": by, "name": name, "n": found["n"], **shown})
    return out


def list_slices(labelled: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """What each part is cut by, its name, and which rows are in it."""
    sources = labelled["source"].to_numpy()
    names = labelled["source"].value_counts(sort=True).index.tolist()
    if len(names) > 1:
        alone = names if len(names) <= SOURCES + 1 else names[:SOURCES]
        for name in alone:
            yield "source", str(name) or "(none named)", sources == name
        if len(alone) < len(names):
            yield "source", f"{len(names) - len(alone)} smaller sources", ~np.isin(sources, alone)
    words = np.array([len(clean(text).split()) for text in labelled["text"]])
    edges = np.unique(np.quantile(words, [0.25, 0.5, 0.75], method="inverted_cdf")) if len(words) else words
    part = np.searchsorted(edges, words)
    if len(np.unique(part)) > 1:
        for number in np.unique(part):
            held = words[part == number]
            span = f"{held.min()} to {held.max()} words" if held.min() < held.max() else f"{held.min()} words"
            span = "1 word" if held.max() == 1 else span
            yield "length", span, part == number
    aimed = (labelled["target"] != "").to_numpy()
    if aimed.any() and not aimed.all():
        yield "target", "with a target", aimed
        yield "target", "without a target", ~aimed
    labels = labelled["label"].groupby(labelled["text"].map(normalise)).transform("nunique")
    parted = aimed & (labels > 1).to_numpy()
    if parted.any():
        # Where no model that reads the text alone can be right on every row.
        yield "target", "labels that differ by target", parted
        if (aimed & ~parted).any():
            yield "target", "labels alike for all targets", aimed & ~parted
