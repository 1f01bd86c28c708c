"""Labelled rows made ready to learn from: cleaned, split without shared texts, and written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.errors import TableError
from finsignal.sentiment.labelled.cleaning import clean_labelled, split_by_text, split_by_time
from finsignal.sentiment.labelled.files import UNDATED
from finsignal.sentiment.prompt import clean
from finsignal.tables import LABELLED, LABELS
from finsignal.writing import whole_folder

RECORD = "prepared.json"  # by which the folder shows to be one of these
INSTRUCTION = (
    "What is the sentiment of this financial text for an investor? Answer with one word: Positive, Negative or Neutral."
)
ABOUT = (
    "What is the sentiment of this financial text about {target} for an investor? "
    "Answer with one word: Positive, Negative or Neutral."
)


@dataclass(frozen=True)
class Prepared:
    """Two tables of tables.LABELLED that share no text, and how many rows came to be in neither, and why."""

    train: pd.DataFrame
    validation: pd.DataFrame
    counts: dict[str, int]


def prepare(labelled: pd.DataFrame, *, share: float = 0.1, seed: int = 0, at: pd.Timestamp | None = None) -> Prepared:
    """The rows cleaned and split: a random `share` of the texts for validation, or all that were known from `at` on.

    Cleaning takes URLs, control characters and surplus spaces out of texts and targets, and leaves case, numbers and
    tickers. Counts: those of `clean_labelled`, then `train`, `validation` and, of a split by time, `known_before`: rows
    after `at` whose text stood before it. A split by time cleans each side by itself.

    Raises TableError where fewer than two labels are left, where rows have no time to be split by, and where a label
    that there is would be missing on a side (of a split by time: in train, or all of validation).
    """
    rows = labelled.assign(
        text=labelled["text"].map(clean).astype("str"), target=labelled["target"].map(clean).astype("str")
    )
    if at is not None:
        return _prepare_by_time(rows, at=at)
    cleaned, counts = clean_labelled(rows)
    found = _check_labels(cleaned, counts)
    train, validation = split_by_text(cleaned, share=share, seed=seed)
    _check_sides(train, validation, found, cleaned, by_time=False)
    return Prepared(train, validation, {**counts, "train": len(train), "validation": len(validation)})


def _prepare_by_time(rows: pd.DataFrame, *, at: pd.Timestamp) -> Prepared:
    """Split first and cleaned side by side: what came later must not say which of the earlier rows are learned from."""
    if (rows["time"] == UNDATED).any():
        raise TableError(
            "labelled: rows without a time cannot be split by time. Name their time column, or split by share."
        )
    (train, first), (validation, second) = map(clean_labelled, split_by_time(rows, at=at))
    counts = {name: first[name] + second[name] for name in first}
    counts["read"], known_before = len(rows), len(rows) - counts["read"]
    cleaned = pd.concat([train, validation], ignore_index=True)
    found = _check_labels(cleaned, counts)
    _check_sides(train, validation, found, cleaned, by_time=True)
    sides = {"known_before": known_before, "train": len(train), "validation": len(validation)}
    return Prepared(train, validation, {**counts, **sides})


def _check_labels(cleaned: pd.DataFrame, counts: Mapping[str, int]) -> list[str]:
    """The labels that there are. Raises TableError where they are fewer than two."""
    found = [label for label in LABELS if (cleaned["label"] == label).any()]
    if len(found) < 2:
        left = f"only {found[0]!r}" if found else "none"
        raise TableError(
            f"labelled: {left} of the labels is left in {len(cleaned)} of {counts['read']} rows "
            f"({_tell(counts)}); expected two labels or three. Add rows of the others."
        )
    return found


def _tell(counts: Mapping[str, int]) -> str:
    gone = [f"{count} {name}" for name, count in counts.items() if name not in ("read", "kept") and count]
    return ", ".join(gone) or "none taken out"


def _check_sides(
    train: pd.DataFrame, validation: pd.DataFrame, found: list[str], cleaned: pd.DataFrame, *, by_time: bool
) -> None:
    if by_time and validation.empty | train.empty:
        raise TableError(
            f"labelled: all {len(cleaned)} rows are on one side of the time to split at; their times run from "
            f"{cleaned['time'].min()} to {cleaned['time'].max()}."
        )
    there_are = ", ".join(f"{count} {label}" for label, count in cleaned["label"].value_counts().sort_index().items())
    for side, table in {"train": train, "validation": validation}.items():
        missing = [label for label in found if not (table["label"] == label).any()]
        if missing and not (by_time and side == "validation"):
            raise TableError(
                f"labelled: {len(cleaned)} rows are too few to split so: no {' and no '.join(missing)} row in {side} "
                f"(there are {there_are}). "
                f"{'Split at another time' if by_time else 'Raise the share for validation'}, or add rows."
            )


def write_prepared(
    prepared: Prepared, out: Path, *, record: Mapping[str, Any], instruction: bool = False
) -> list[Path]:
    """The files of the folder `out`, which appears whole or not at all: train.jsonl, validation.jsonl, prepared.json.

    A line holds text, label, time (null where none is known), source and target. `instruction` writes both tables in
    the form instruction, input, output as well, and a target where any row has one. prepared.json holds the counts and
    `record`, which says what the rows came from. A folder written so before is replaced.

    Raises SourceError where `out` holds something else or cannot be written.
    """
    out = Path(out)
    files: dict[str, list[dict[str, Any]]] = {}
    for side, table in {"train": prepared.train, "validation": prepared.validation}.items():
        files[f"{side}.jsonl"] = to_lines(table)
        if instruction:
            files[f"{side}.instruction.jsonl"] = to_instructions(table)
    with whole_folder(out, mark=RECORD) as work:
        for name, lines in files.items():
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (work / name).write_text(text, encoding="utf-8")
        content = {**record, "counts": prepared.counts}
        (work / RECORD).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [out / name for name in (*files, RECORD)]


def to_lines(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One dict a row: text, label, time as ISO 8601 in UTC or None, source, target."""
    times = [None if time == UNDATED else time.isoformat() for time in table["time"]]
    rows = table[[name for name in LABELLED.columns if name != "time"]].to_dict("records")
    return [
        {name: {**row, "time": time}[name] for name in LABELLED.columns} for row, time in zip(rows, times, strict=True)
    ]


def to_instructions(table: pd.DataFrame) -> list[dict[str, str]]:
    """One dict a row: instruction, input, output; the instruction names the target of a row that has one."""
    with_target = bool((table["target"] != "").any())
    out = []
    for text, label, target in zip(table["text"], table["label"], table["target"], strict=True):
        row = {
            "instruction": ABOUT.format(target=target) if target else INSTRUCTION,
            "input": text,
            "output": label.capitalize(),
        }
        out.append({**row, "target": target} if with_target else row)
    return out
