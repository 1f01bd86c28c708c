"""Labelled rows cleaned, and split without shared texts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finsignal.errors import TableError
from finsignal.sentiment.labelled.rows import Counted
from finsignal.sentiment.prompt import normalise
from finsignal.tables import LABELLED


def clean_labelled(labelled: pd.DataFrame) -> Counted:
    """The rows worth learning from, in their order, and counts of the rest.

    A row's key is its normalised text with its normalised target: one text may have a label for each of several
    targets, and another as a whole. Counts: `empty` texts (no letter and no digit), `contradicting` rows (one key
    under two labels: all of them go, for none can be trusted), `repeated` rows (the first of a key stays), `kept`.
    """
    key = pd.DataFrame({"text": labelled["text"].map(normalise), "target": labelled["target"].map(normalise)})
    empty = (key["text"] == "").to_numpy()
    labels = labelled["label"].groupby([key["text"], key["target"]]).transform("nunique")
    contradicting = ~empty & (labels > 1).to_numpy()
    repeated = ~empty & ~contradicting & key.duplicated().to_numpy()
    kept = ~(empty | contradicting | repeated)
    counts = {
        "read": len(labelled),
        "empty": int(empty.sum()),
        "contradicting": int(contradicting.sum()),
        "repeated": int(repeated.sum()),
        "kept": int(kept.sum()),
    }
    return LABELLED.check(labelled[kept].reset_index(drop=True)), counts


def stands_in(labelled: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    """For each row of `labelled`, whether its normalised text stands in `other`; a text without a word never does."""
    normal = labelled["text"].map(normalise)
    return (normal.isin(set(other["text"].map(normalise))) & (normal != "")).to_numpy()


def split_by_text(labelled: pd.DataFrame, *, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows without, and the rows of, a random part of about `share`, each in their order.

    Stratified by source and label of a text's first row, and drawn by normalised text: rows of one text are always on
    the same side. The draw depends on the rows and the seed alone.
    """
    if not 0 < share < 1:
        raise TableError(f"labelled: share is {share}; expected between 0 and 1.")
    if seed < 0:
        raise TableError(f"labelled: seed is {seed}; expected 0 or more.")
    normal = labelled["text"].map(normalise)
    first = labelled.loc[~normal.duplicated().to_numpy(), ["source", "label"]].assign(normal=normal)
    draw = np.random.default_rng(seed)
    chosen: set[str] = set()
    for _, group in first.groupby(["source", "label"], sort=True):
        texts = group["normal"].to_numpy()
        chosen.update(draw.permutation(texts)[: round(share * len(texts))].tolist())
    held = normal.isin(chosen).to_numpy()
    return labelled[~held].reset_index(drop=True), labelled[held].reset_index(drop=True)


def split_by_time(labelled: pd.DataFrame, *, at: pd.Timestamp) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows known before `at`, and those known at or after it whose text did not stand before; each in their order.

    A text that comes again after `at` is on neither side: it would be a leak on the one and a look ahead on the other.
    Texts without a word, which are no one text, are never told apart so.
    """
    normal = labelled["text"].map(normalise)
    before = (labelled["time"] < at).to_numpy()
    fresh = ~before & ~normal.isin(set(normal[before]) - {""}).to_numpy()
    return labelled[before].reset_index(drop=True), labelled[fresh].reset_index(drop=True)
