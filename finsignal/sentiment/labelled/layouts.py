"""Files whose layout says what they are: instruction sets, the Sujet set, what `data prepare` wrote, and the rest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.errors import SourceError
from finsignal.sentiment.labelled import published
from finsignal.sentiment.labelled.files import UNDATED, read_columns, read_labelled, to_labelled
from finsignal.sentiment.labelled.label_maps import map_labels
from finsignal.sentiment.labelled.rows import Counted, to_rows
from finsignal.tables import LABELS

INSTRUCTION_COLUMNS = ("instruction", "input", "output")
SUJET_COLUMNS = ("inputs", "answer", "system_prompt", "user_prompt", "dataset", "task_type")
PREPARED_COLUMNS = ("text", "label", "time", "source", "target")

# Sujet takes its sets over with the labels they had.
_SUJET_LABELS = {**{name: name for name in LABELS}, "bearish": "negative", "bullish": "positive"}
_LEAD_IN = re.compile(r"[A-Za-z][A-Za-z ]{0,30}:")
_SHARED = 0.9  # share of a set's rows with the same lead-in from which it is the prompt's
_FEW = 20  # rows of a set below which nothing is said of a lead-in


def read_instructions(
    path: Path,
    *,
    label_map: Mapping[str, str] | None = None,
    cutoff: str | pd.Timestamp | None = None,
    source: str | None = None,
) -> Counted:
    """Rows of an instruction set (instruction, input, output): the input is the text, the output the label.

    A `target` beside them, as `data prepare` writes it, is read too. Arguments, counts and errors as of
    `read_labelled`.
    """
    path = Path(path)
    frame = read_columns(path, *INSTRUCTION_COLUMNS)
    return to_labelled(
        frame,
        path,
        text_column="input",
        label_column="output",
        target_column="target" if "target" in frame.columns else None,
        label_map=label_map,
        cutoff=cutoff,
        source=source,
    )


def read_sujet(path: Path, *, label_map: Mapping[str, str] | None = None) -> Counted:
    """The sentiment rows of Sujet-Finance-Instruct-177k: the user prompt is the text, the answer the label.

    Bearish is negative and bullish is positive, unless `label_map` says otherwise. `source` is sujet/ and the set the
    row came from. Where nearly all rows of one such set begin with the same words and a colon, these are the prompt's
    and go. Counts: `read` rows, `other_tasks` (their task type is not sentiment_analysis) and `empty`, both left out.

    Raises SourceError where the file cannot be read or lacks a column, TableError at an unknown label. The set is a
    union of published ones (PhraseBank, TFNS and others): `finsignal data audit` says what it shares with yours.
    """
    path = Path(path)
    frame = read_columns(path, *SUJET_COLUMNS)
    read = len(frame)
    frame = frame[(frame["task_type"] == "sentiment_analysis").to_numpy()]
    others = read - len(frame)
    frame = frame[frame["user_prompt"].notna().to_numpy()].reset_index(drop=True)
    origins = [str(name) for name in frame["dataset"]]
    texts = _without_lead_in([str(text) for text in frame["user_prompt"]], origins)
    kept = [bool(text.strip()) for text in texts]
    table = to_rows(
        [text for text, keep in zip(texts, kept, strict=True) if keep],
        map_labels(frame["answer"][kept], label_map or _SUJET_LABELS, where=str(path)),
        cutoff=published.CUTOFFS["sujet"],
        source="sujet",
    )
    names = [f"sujet/{name}" for name, keep in zip(origins, kept, strict=True) if keep]
    table["source"] = pd.Series(names, dtype="str")
    return table, {"read": read, "other_tasks": others, "empty": read - others - len(table)}


def _without_lead_in(texts: list[str], origins: list[str]) -> list[str]:
    rows = Counter(origins)
    found = [_LEAD_IN.match(text) for text in texts]
    common = Counter((name, match[0]) for name, match in zip(origins, found, strict=True) if match)
    prompts = {key for key, count in common.items() if rows[key[0]] >= _FEW and count >= _SHARED * rows[key[0]]}
    return [
        text[match.end() :].lstrip() if match and (name, match[0]) in prompts else text
        for text, name, match in zip(texts, origins, found, strict=True)
    ]


def read_prepared(
    path: Path, *, label_map: Mapping[str, str] | None = None, cutoff: str | pd.Timestamp | None = None
) -> Counted:
    """Rows of a file with the columns that `data prepare` writes, each row with its own source, target and time.

    A time of null is the time of rows that have none, 1970-01-01; `cutoff` goes before all times. Counts and errors as
    of `read_labelled`.
    """
    path = Path(path)
    frame = read_columns(path, *PREPARED_COLUMNS)
    undated = frame["time"].isna()
    dated = cutoff is None and not undated.all()
    return to_labelled(
        frame.assign(time=frame["time"].astype("object").mask(undated, UNDATED.isoformat())) if dated else frame,
        path,
        text_column="text",
        label_column="label",
        target_column="target",
        source_column="source",
        time_column="time" if dated else None,
        label_map=label_map,
        cutoff=cutoff,
    )


READERS: dict[str, Any] = {
    "tfns": published.read_tfns,
    "sentfin": published.read_sentfin,
    "sentfin_targets": published.read_sentfin_targets,
    "surge": published.read_surge,
    "phrasebank": published.read_phrasebank,
    "fiqa": published.read_fiqa,
    "kaggle": published.read_kaggle,
    "sujet": read_sujet,
    "instructions": read_instructions,
    "prepared": read_prepared,
    "file": read_labelled,
}


def read_any_labelled(
    path: Path,
    *,
    reader: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    target_column: str | None = None,
    time_column: str | None = None,
    label_map: Mapping[str, str] | None = None,
    cutoff: str | pd.Timestamp | None = None,
) -> Counted:
    """Rows of a labelled file, read by one of READERS, or, without `reader`, by what its columns say it is.

    A file with the five columns of a prepared one is read with them all; instruction sets, the Sujet set and the Kaggle
    set are known by theirs; anything else, and whatever a column is named for, is a file of your own.

    Raises SourceError for an unknown reader, and what the reader raises.
    """
    path = Path(path)
    if reader is not None and reader not in READERS:
        raise SourceError(f"{path}: no reader {reader!r}; readers are {sorted(READERS)}.")
    own = {"target_column": target_column, "time_column": time_column}
    if reader is None:
        named = text_column or label_column or target_column or time_column
        reader = "file" if named else _recognise(path)
    if reader == "prepared":
        return read_prepared(path, label_map=label_map, cutoff=cutoff)
    if reader == "file":
        return read_labelled(
            path,
            text_column=text_column or "text",
            label_column=label_column or "label",
            label_map=label_map,
            cutoff=cutoff,
            **own,
        )
    if reader == "instructions":
        return read_instructions(path, label_map=label_map, cutoff=cutoff)
    if reader == "sujet":
        return read_sujet(path, label_map=label_map)
    if reader == "kaggle":
        return published.read_kaggle(path, label_map=label_map)
    return READERS[reader](path)


def _recognise(path: Path) -> str:
    columns = set(read_columns(path).columns)
    layouts = {
        "prepared": PREPARED_COLUMNS,
        "instructions": INSTRUCTION_COLUMNS,
        "sujet": SUJET_COLUMNS,
        "kaggle": published.KAGGLE_COLUMNS,
    }
    return next((name for name, needed in layouts.items() if columns >= set(needed)), "file")
