"""What is wrong with labelled sets: repeats, contradictions, and texts that two sets share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import TableError
from finsignal.sentiment.labelled.near_texts import NearTexts
from finsignal.sentiment.prompt import normalise
from finsignal.tables import LABELLED, LABELS

SHOWN = 5  # examples of each finding
Sets = dict[str, pd.DataFrame]  # of each set text, label, source, and normal and about: text and target normalised


def audit(tables: Mapping[str, pd.DataFrame], *, near: float = 0.8) -> dict[str, Any]:
    """What the sets hold and share, ready for JSON.

    tables: name -> table of tables.LABELLED, such as the parts of a split. near: two texts are near repeats where
    |A and B| / |A or B| of their normalised words is at least this (Jaccard; 1 is the same words in another order).

    `sets`, a dict each: rows; empty (texts without a letter or digit); with_target; labels and sources (counts); words
    of a text (min, median, p95, max; None without rows); repeated_rows (the normalised text and target stand before
    already, with the same label); near_repeats (distinct texts with a near one in the set); contradicting_texts (text
    and target under two labels), contradicting_rows, and the first few of them.

    `between_sets` for every two sets, in their order, and `between_sources` for every two sources of all rows where
    there are several: shared_texts (distinct), first_rows and second_rows that hold them, second_other_label (rows of
    the second whose text and target have another label in the first), near_texts (distinct texts of the second with a
    near one in the first, shared ones aside), and the first few of each.

    Raises TableError where `near` is not in (0, 1], or a table breaks its contract.
    """
    if not 0 < near <= 1:
        raise TableError(f"audit: near is {near}; expected above 0 and at most 1.")
    sets = {name: _to_set(LABELLED.check(table)) for name, table in tables.items()}
    everything = pd.concat(sets.values(), ignore_index=True) if sets else pd.DataFrame({"source": []})
    sources = {str(name): part for name, part in everything.groupby("source", sort=False)}
    partners = NearTexts([*sets.values(), *sources.values()], near=near)
    return {
        "near": near,
        "sets": {name: _describe(part, partners, number) for number, (name, part) in enumerate(sets.items())},
        "between_sets": _compare(sets, partners, offset=0),
        "between_sources": _compare(sources, partners, offset=len(sets)),
    }


def _to_set(table: pd.DataFrame) -> pd.DataFrame:
    return table[["text", "label", "source", "target"]].assign(
        normal=table["text"].map(normalise).astype("str"), about=table["target"].map(normalise).astype("str")
    )


def _describe(part: pd.DataFrame, partners: NearTexts, number: int) -> dict[str, Any]:
    words = np.array([len(text.split()) for text in part["text"]])
    real = part[(part["normal"] != "").to_numpy()]
    key = ["normal", "about"]
    split = real[(real.groupby(key)["label"].transform("nunique") > 1).to_numpy()]
    near_texts = partners.near_in(number, real["normal"])
    return {
        "rows": len(part),
        "empty": len(part) - len(real),
        "with_target": int((part["target"] != "").sum()),
        "labels": {label: int((part["label"] == label).sum()) for label in LABELS},
        "sources": {str(name): int(count) for name, count in part["source"].value_counts(sort=False).items()},
        "words": _lengths(words),
        "repeated_rows": int(real.duplicated([*key, "label"]).sum()),
        "near_repeats": len(near_texts),
        "near_examples": [[_original(real, text), partners.example(number, text)] for text in near_texts[:SHOWN]],
        "contradicting_texts": int(split.groupby(key).ngroups),
        "contradicting_rows": len(split),
        "contradictions": [
            {
                "text": group["text"].iloc[0],
                "target": group["target"].iloc[0],
                "labels": {label: int(count) for label, count in group["label"].value_counts().sort_index().items()},
            }
            for _, group in list(split.groupby(key, sort=False))[:SHOWN]
        ],
    }


def _lengths(words: np.ndarray) -> dict[str, int | None]:
    if not len(words):
        return dict.fromkeys(("min", "median", "p95", "max"))
    median, p95 = np.percentile(words, [50, 95], method="higher")
    return {"min": int(words.min()), "median": int(median), "p95": int(p95), "max": int(words.max())}


def _original(rows: pd.DataFrame, normal: str) -> str:
    return str(rows["text"].iloc[int((rows["normal"] == normal).to_numpy().argmax())])


def _compare(sets: Sets, partners: NearTexts, *, offset: int) -> list[dict[str, Any]]:
    out = []
    names = list(sets)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            pair = _compare_two(sets[first], sets[second], partners, offset + i)
            out.append({"first": first, "second": second, **pair})
    return out


def _compare_two(first: pd.DataFrame, second: pd.DataFrame, partners: NearTexts, number: int) -> dict[str, Any]:
    shared = (set(first["normal"]) & set(second["normal"])) - {""}
    here, there = first[first["normal"].isin(shared)], second[second["normal"].isin(shared)]
    labels: dict[tuple[str, str], set[str]] = defaultdict(set)
    for normal, about, label in zip(here["normal"], here["about"], here["label"], strict=True):
        labels[normal, about].add(label)
    keys = list(zip(there["normal"], there["about"], strict=True))
    other = [bool(labels.get(key, set()) - {label}) for key, label in zip(keys, there["label"], strict=True)]
    apart = second[~second["normal"].isin(shared).to_numpy()]
    near_texts = partners.near_in(number, apart["normal"])
    disputed = there.assign(first=[sorted(labels.get(key, ())) for key in keys])[other]
    return {
        "shared_texts": len(shared),
        "first_rows": len(here),
        "second_rows": len(there),
        "second_other_label": sum(other),
        "other_label_examples": [
            {"text": row["text"], "target": row["target"], "first": row["first"], "second": row["label"]}
            for row in disputed.head(SHOWN).to_dict("records")
        ],
        "near_texts": len(near_texts),
        "near_examples": [[partners.example(number, text), _original(apart, text)] for text in near_texts[:SHOWN]],
    }
