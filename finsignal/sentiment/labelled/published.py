"""The published labelled sets, as they are distributed.

None of them dates its rows, so every row carries its set's cut-off, the end of the year in which the set was published.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from finsignal.errors import SourceError, did_you_mean
from finsignal.sentiment.labelled.label_maps import map_labels
from finsignal.sentiment.labelled.rows import Counted, to_rows

CUTOFFS = {
    "tfns": "2022-12-31",
    "sentfin": "2022-12-31",
    "surge": "2022-12-31",
    "phrasebank": "2014-12-31",
    "fiqa": "2018-12-31",
    "kaggle": "2022-12-31",
    "sujet": "2024-12-31",
}
KAGGLE_COLUMNS = ("Sentence", "Sentiment")

# A name that holds an apostrophe breaks the quotes of its dict; the quote that ends a name has a colon behind it.
_ENTITY = re.compile(r"'(.+?)'\s*:\s*'(negative|neutral|positive)'")


def _read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            found, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise SourceError(f"{path}: could not be read as UTF-8 CSV ({err}).") from err
    for column in columns:
        if column not in found:
            raise SourceError(f"{path}: no column {column!r}.{did_you_mean(column, found)} Columns are {found}.")
    for number, row in enumerate(rows, start=1):
        for column in columns:
            if row[column] is None:
                raise SourceError(f"{path}: row {number} ends before column {column!r}; the file seems cut short.")
    return rows


def read_tfns(path: Path) -> Counted:
    """Rows of Twitter Financial News Sentiment (text, label; 0 bearish, 1 bullish, 2 neutral)."""
    rows = _read_rows(path, ("text", "label"))
    names = {"0": "negative", "1": "positive", "2": "neutral"}
    unknown = {row["label"] for row in rows} - set(names)
    if unknown:
        raise SourceError(f"{path}: labels {sorted(unknown)} are unknown; expected 0, 1 and 2.")
    table = to_rows(
        [row["text"] for row in rows],
        [names[row["label"]] for row in rows],
        cutoff=CUTOFFS["tfns"],
        source=f"tfns/{path.stem}",
    )
    return table, {"read": len(rows)}


def read_sentfin(path: Path) -> Counted:
    """Headlines of SEntFiN 1.0 whose entities all have one sentiment.

    Counts: `malformed` entity dicts, whose labels are still plain to read (an apostrophe in a name breaks the quotes),
    and `disagreeing` headlines, left out because one headline has no one label. doi:10.1002/asi.24634.
    """
    headlines, malformed = _read_entities(path)
    agreed = [(title, entities[0][1]) for title, entities in headlines if len({label for _, label in entities}) == 1]
    table = to_rows(
        [title for title, _ in agreed], [label for _, label in agreed], cutoff=CUTOFFS["sentfin"], source="sentfin"
    )
    counts = {"read": len(headlines), "malformed": malformed, "disagreeing": len(headlines) - len(agreed)}
    return table, counts


def read_sentfin_targets(path: Path) -> Counted:
    """Every entity of SEntFiN 1.0 as a row: its headline, its name as the target, and the sentiment about it.

    Counts: `read` headlines, `malformed` entity dicts among them (read all the same), `nameless` headlines left out
    because their dict names no entity, and `entities`, the rows. doi:10.1002/asi.24634.
    """
    headlines, malformed = _read_entities(path)
    rows = [(title, name, label) for title, entities in headlines for name, label in entities]
    table = to_rows(
        [title for title, _, _ in rows],
        [label for _, _, label in rows],
        cutoff=CUTOFFS["sentfin"],
        source="sentfin",
        targets=[name for _, name, _ in rows],
    )
    nameless = sum(not entities for _, entities in headlines)
    return table, {"read": len(headlines), "malformed": malformed, "nameless": nameless, "entities": len(rows)}


def _read_entities(path: Path) -> tuple[list[tuple[str, list[tuple[str, str]]]], int]:
    """Each headline with its (name, label) pairs, and how many dicts were malformed."""
    headlines, malformed = [], 0
    for row in _read_rows(path, ("Title", "Decisions")):
        try:
            entities = list(ast.literal_eval(row["Decisions"]).items())
        except (SyntaxError, ValueError, AttributeError):
            malformed += 1
            entities = _ENTITY.findall(row["Decisions"])
        headlines.append((row["Title"], entities))
    return headlines, malformed


def read_surge(path: Path) -> Counted:
    """Posts of Surge AI's stock or crypto set (positive and negative only: it has no neutral class)."""
    rows = _read_rows(path, ("Sentiment",))
    column = "Tweet Text" if rows and "Tweet Text" in rows[0] else "Comment Text"
    rows = _read_rows(path, ("Sentiment", column))
    table = to_rows(
        [row[column] for row in rows],
        map_labels([row["Sentiment"] for row in rows], None, where=str(path)),
        cutoff=CUTOFFS["surge"],
        source=path.parent.name or "surge",
    )
    return table, {"read": len(rows)}


def read_kaggle(path: Path, *, label_map: Mapping[str, str] | None = None) -> Counted:
    """Sentences of the Kaggle set of 5,842 (Sentence, Sentiment), a union of PhraseBank and FiQA.

    514 of its sentences stand there as negative and again as neutral; `clean_labelled` drops both.
    label_map: for a file of that layout with labels of its own.
    """
    rows = _read_rows(path, KAGGLE_COLUMNS)
    table = to_rows(
        [row["Sentence"] for row in rows],
        map_labels([row["Sentiment"] for row in rows], label_map, where=str(path)),
        cutoff=CUTOFFS["kaggle"],
        source="kaggle5842",
    )
    return table, {"read": len(rows)}


def read_phrasebank(path: Path) -> Counted:
    """Sentences of Financial PhraseBank, one agreement level a file (Malo et al. 2014, doi:10.1002/asi.23062).

    Published they are Latin-1, and a common copy of the all-agree file is UTF-8: both are read. Byte 0x85 stands inside
    sentences, where str.splitlines would take it for a line end.
    """
    try:
        content = path.read_bytes()
    except OSError as err:
        raise SourceError(f"{path}: could not be read as lines of sentence@label ({err}).") from err
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [line for line in text.split("\n") if line.strip()]
    pairs = [line.rstrip("\r").rpartition("@") for line in lines]
    level = path.stem.removeprefix("Sentences_")
    table = to_rows(
        [sentence for sentence, _, _ in pairs],
        map_labels([label for _, _, label in pairs], None, where=str(path)),
        cutoff=CUTOFFS["phrasebank"],
        source=f"phrasebank/{level}",
    )
    return table, {"read": len(lines)}


def read_fiqa(path: Path, *, cut: float = 0.1) -> Counted:
    """Sentences of FiQA-SA task 1, one row a target, the score in [-1, 1] cut to labels: neutral within +-cut."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        rows = [(entry["sentence"], info) for entry in entries.values() for info in entry["info"]]
        scores = np.array([float(info["sentiment_score"]) for _, info in rows])
        targets = [str(info["target"]) for _, info in rows]
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as err:
        raise SourceError(f"{path}: could not be read as the JSON of FiQA task 1 ({err}).") from err
    odd = scores[~(np.abs(scores) <= 1)]  # NaN too, which would compare as negative
    if len(odd):
        raise SourceError(f"{path}: a sentiment_score is {odd[0]:g}; expected -1 to 1.")
    labels = np.where(np.abs(scores) <= cut, "neutral", np.where(scores > 0, "positive", "negative"))
    source = "fiqa/" + path.stem.removeprefix("task1_")
    table = to_rows(
        [text for text, _ in rows],
        labels.tolist(),
        cutoff=CUTOFFS["fiqa"],
        source=source,
        targets=targets,
    )
    return table, {"read": len(rows)}
