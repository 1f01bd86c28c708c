"""What is learned from: the rows of a recipe, their tokens, their smoothed and weighted labels, and their batches."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError
from finsignal.metrics import to_codes
from finsignal.sentiment import labelled
from finsignal.sentiment.labelled import clean_labelled, split_by_text
from finsignal.sentiment.prompt import to_input, to_pairs
from finsignal.sentiment.recipe import DataSet, Recipe
from finsignal.sentiment.tuning.losses import row_weights
from finsignal.tables import LABELS

CASHTAG = re.compile(r"\$([A-Z]{1,6})\b")


def ask_by_cashtag(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose text has one cashtag and no target, with that cashtag's symbol as the target.

    A text about one company says about it what it says as a whole. Without such rows a model knows questions about
    companies from the one set that has them, and answers all in its manner.
    """
    found = rows["text"].map(lambda text: sorted(set(CASHTAG.findall(text))))
    one = (found.map(len) == 1) & (rows["target"] == "")
    return rows[one].assign(target=found[one].map(lambda symbols: symbols[0]).astype("str"))


def find_file(item: DataSet, folders: Sequence[Path]) -> Path:
    """The file of a set in the first of the folders that has it. Raises ConfigError where none has."""
    for folder in folders:
        if (Path(folder) / item.path).is_file():
            return Path(folder) / item.path
    raise ConfigError(
        f"{item.name}: no file {item.path} in {', '.join(map(str, folders))}. Name the folder that it stands in with "
        "--data, which may be given more than once."
    )


def read_data_set(item: DataSet, folders: Sequence[Path]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The rows of one set as tables.LABELLED, `source` its name, `time` at the stated cut-off, and its record.

    The record, for the card: name, path, SHA-256 and licence of the file, cut-off, counts of the reader. Raises
    ConfigError where none of the folders holds the file.
    """
    path = find_file(item, folders)
    if item.reader == "file":
        rows, counts = labelled.read_labelled(
            path,
            text_column=item.text_column,
            label_column=item.label_column,
            target_column=item.target_column or None,
            label_map=item.label_map or None,
        )
    else:
        rows, counts = labelled.READERS[item.reader](path)
    if item.cashtags:
        asked = ask_by_cashtag(rows)
        rows, counts = pd.concat([rows, asked], ignore_index=True), counts | {"asked by cashtag": len(asked)}
    rows = rows.assign(
        time=pd.Series([labelled.to_cutoff(str(item.cutoff))] * len(rows), dtype=rows["time"].dtype),
        source=pd.Series([item.name] * len(rows), dtype="str"),
    )
    record = {
        "name": item.name,
        "about": item.about,
        "path": item.path,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": item.licence,
        "cutoff": str(item.cutoff),
        "counts": counts,
    }
    return rows, record


def read_parts(
    recipe: Recipe, folders: Sequence[Path]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int], list[dict[str, Any]]]:
    """The rows learned from, the rows held out, counts of the cleaning, and one record a set for the card.

    All sets are cleaned together, thinned to the `rows` of each, and split by normalised text. Of a set that is thinned
    the texts with several labels, one for each of their targets, all stay: there are few, and they teach the most.
    """
    read = [read_data_set(item, folders) for item in recipe.data]
    cleaned, counts = clean_labelled(pd.concat([rows for rows, _ in read], ignore_index=True))
    kept = np.ones(len(cleaned), dtype=bool)
    draw = np.random.default_rng(recipe.tuning.seed)
    for item in recipe.data:
        own = (cleaned["source"] == item.name).to_numpy()
        if item.rows and own.sum() > item.rows:
            mixed = cleaned[own].groupby("text")["label"].transform("nunique").to_numpy() > 1
            plain = draw.permutation(np.flatnonzero(own)[~mixed])
            kept[plain[max(0, item.rows - int(mixed.sum())) :]] = False
    if not kept.all():
        counts = {**counts, "thinned": int((~kept).sum())}
    rows = cleaned[kept].reset_index(drop=True)
    train, held_out = split_by_text(rows, share=recipe.tuning.held_out, seed=recipe.tuning.seed)
    return train, held_out, counts, [record for _, record in read]


def encode(tokenizer: Any, rows: pd.DataFrame) -> list[list[int]]:
    """Token ids of each row: its text as the model reads it, paired with its target where it has one."""
    pairs = to_pairs([to_input("", text) for text in rows["text"]], rows["target"].tolist())
    return [tokenizer.encode(*([pair] if isinstance(pair, str) else pair)).ids for pair in pairs]


def to_lessons(
    rows: pd.DataFrame, weight: Mapping[str, float], *, smoothing: float, class_weights: str = "none"
) -> np.ndarray:
    """What is to be learned of each row, float32 (n, 3): its smoothed label, times the weight of its source and label.

    The weights are scaled to a mean of 1 over the rows, so that they leave the learning rate alone.
    """
    codes = to_codes(rows["label"].to_numpy())
    weights = row_weights(codes, np.array([weight.get(source, 1.0) for source in rows["source"]]), class_weights)
    labels = np.eye(len(LABELS))[codes]
    labels = labels * (1 - smoothing) + smoothing / len(LABELS)
    return (labels * weights[:, None]).astype(np.float32)
