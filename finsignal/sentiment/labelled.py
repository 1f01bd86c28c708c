"""Labelled text: published sets and users' files to one table, cleaned, counted, and split without shared texts.

Each reader gives the table of tables.LABELLED in file order and a dict of counts: what was read and what was left out,
and why. None of the published sets dates its rows, so every row carries its set's cut-off, the end of the year in
which the set was published; a file of your own may have a time column instead.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.clock import to_instants
from finsignal.errors import SourceError, TableError, did_you_mean
from finsignal.sentiment.prompt import normalise
from finsignal.tables import INSTANT, LABELLED, LABELS

CUTOFFS = {
    "tfns": "2022-12-31",
    "sentfin": "2022-12-31",
    "surge": "2022-12-31",
    "phrasebank": "2014-12-31",
    "fiqa": "2018-12-31",
}
Counted = tuple[pd.DataFrame, dict[str, int]]

_QUOTED_LABEL = re.compile(r":\s*'(negative|neutral|positive)'")


def to_cutoff(day: str | pd.Timestamp) -> pd.Timestamp:
    """The end of a day as an instant in UTC: the next midnight. An instant with a zone stays as it is."""
    instant = pd.Timestamp(day)
    if instant.tzinfo is not None:
        return instant.tz_convert("UTC").as_unit("us")
    return (instant.normalize() + pd.Timedelta(days=1)).tz_localize("UTC").as_unit("us")


def _to_table(texts: list[str], labels: list[str], *, cutoff: str | pd.Timestamp, source: str) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "text": pd.Series(texts, dtype="str"),
            "label": pd.Series(labels, dtype="str"),
            "time": pd.Series([to_cutoff(cutoff)] * len(texts), dtype=INSTANT),
            "source": pd.Series([source] * len(texts), dtype="str"),
            "target": pd.Series([""] * len(texts), dtype="str"),
        }
    )
    return LABELLED.check(frame)


def _read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as err:
        raise SourceError(f"{path}: could not be read as UTF-8 CSV ({err}).") from err
    for column in columns:
        if rows and column not in rows[0]:
            raise SourceError(
                f"{path}: no column {column!r}.{did_you_mean(column, rows[0])} Columns are {list(rows[0])}."
            )
    return rows


def read_tfns(path: Path) -> Counted:
    """Rows of Twitter Financial News Sentiment (text, label; 0 bearish, 1 bullish, 2 neutral)."""
    rows = _read_rows(path, ("text", "label"))
    names = {"0": "negative", "1": "positive", "2": "neutral"}
    unknown = {row["label"] for row in rows} - set(names)
    if unknown:
        raise SourceError(f"{path}: labels {sorted(unknown)} are unknown; expected 0, 1 and 2.")
    table = _to_table(
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
    rows = _read_rows(path, ("Title", "Decisions"))
    texts, labels = [], []
    counts = {"read": len(rows), "malformed": 0, "disagreeing": 0}
    for row in rows:
        try:
            found = set(ast.literal_eval(row["Decisions"]).values())
        except (SyntaxError, ValueError):
            counts["malformed"] += 1
            found = set(_QUOTED_LABEL.findall(row["Decisions"]))
        if len(found) != 1:
            counts["disagreeing"] += 1
            continue
        texts.append(row["Title"])
        labels.append(found.pop())
    return _to_table(texts, labels, cutoff=CUTOFFS["sentfin"], source="sentfin"), counts


def read_surge(path: Path) -> Counted:
    """Posts of Surge AI's stock or crypto set (positive and negative only: it has no neutral class)."""
    rows = _read_rows(path, ("Sentiment",))
    column = "Tweet Text" if rows and "Tweet Text" in rows[0] else "Comment Text"
    rows = _read_rows(path, ("Sentiment", column))
    table = _to_table(
        [row[column] for row in rows],
        [row["Sentiment"].lower() for row in rows],
        cutoff=CUTOFFS["surge"],
        source=path.parent.name or "surge",
    )
    return table, {"read": len(rows)}


def read_phrasebank(path: Path) -> Counted:
    """Sentences of Financial PhraseBank, one agreement level a file (Malo et al. 2014, doi:10.1002/asi.23062).

    The all-agree file is UTF-8, the others Latin-1, where byte 0x85 stands inside sentences: str.splitlines would take
    it for a line end.
    """
    encoding = "utf-8" if "AllAgree" in path.name else "latin-1"
    try:
        lines = [line for line in path.read_bytes().decode(encoding).split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as err:
        raise SourceError(f"{path}: could not be read as {encoding} lines of sentence@label ({err}).") from err
    pairs = [line.rstrip("\r").rpartition("@") for line in lines]
    level = path.stem.removeprefix("Sentences_")
    table = _to_table(
        [sentence for sentence, _, _ in pairs],
        [label for _, _, label in pairs],
        cutoff=CUTOFFS["phrasebank"],
        source=f"phrasebank/{level}",
    )
    return table, {"read": len(lines)}


def read_fiqa(path: Path, *, cut: float = 0.1) -> Counted:
    """Sentences of FiQA-SA task 1, one row a target, the score in [-1, 1] cut to labels: neutral within +-cut."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise SourceError(f"{path}: could not be read as the JSON of FiQA task 1 ({err}).") from err
    rows = [(entry["sentence"], info) for entry in entries.values() for info in entry["info"]]
    scores = np.array([float(info["sentiment_score"]) for _, info in rows])
    labels = np.where(np.abs(scores) <= cut, "neutral", np.where(scores > 0, "positive", "negative"))
    source = "fiqa/" + path.stem.removeprefix("task1_")
    table = _to_table([text for text, _ in rows], labels.tolist(), cutoff=CUTOFFS["fiqa"], source=source)
    table["target"] = pd.Series([str(info["target"]) for _, info in rows], dtype="str")
    return LABELLED.check(table), {"read": len(rows)}


def read_labelled(
    path: Path,
    *,
    text_column: str = "text",
    label_column: str = "label",
    label_map: Mapping[str, str] | None = None,
    cutoff: str | pd.Timestamp | None = None,
    time_column: str | None = None,
    source: str | None = None,
) -> Counted:
    """Rows of a CSV, JSON-lines or Parquet file of your own.

    `label_map` turns the file's labels into negative, neutral, positive; without one they must be these already.
    `time` is the time column (its stamps need a zone), or the end of the day `cutoff` for every row, or, with neither,
    1970-01-01, which is right for evaluation only: training refuses a set without a cut-off.

    Raises SourceError where the file cannot be read, TableError at an unknown label, an empty text, or a stamp
    that is no time or has no zone.
    """
    path = Path(path)
    frame = _read_frame(path)
    for column in filter(None, (text_column, label_column, time_column)):
        if column not in frame.columns:
            raise SourceError(
                f"{path}: no column {column!r}.{did_you_mean(column, map(str, frame.columns))} "
                f"Columns are {[str(c) for c in frame.columns]}."
            )
    empty = int(frame[text_column].isna().sum())
    frame = frame[frame[text_column].notna()]
    labels = [str(label) for label in frame[label_column]]
    known = dict(label_map) if label_map is not None else {name: name for name in LABELS}
    unknown = sorted(set(labels) - set(known))
    if unknown:
        raise TableError(
            f"{path}: labels {unknown[:5]} are unknown; expected {sorted(known)}. Pass a label map, such as "
            '{"bearish": "negative"}; on the command line: --label-map bearish=negative.'
        )
    texts = [str(text) for text in frame[text_column]]
    table = _to_table(
        texts,
        [known[label] for label in labels],
        cutoff=cutoff if cutoff is not None else pd.Timestamp(0, tz="UTC"),
        source=source or path.stem,
    )
    if time_column is not None:
        table["time"] = _to_times(frame[time_column], path)
    return LABELLED.check(table), {"read": len(frame) + empty, "empty": empty}


def _to_times(stamps: pd.Series, path: Path) -> pd.Series:
    rows = pd.Series(stamps.to_list())
    instants = to_instants(rows, where=str(path), tz="UTC")
    unread = instants.isna().to_numpy()
    if unread.any():
        raise TableError(
            f"{path}: {rows[unread].iloc[0]!r} in column {stamps.name!r} is no time. Write for example "
            "2024-03-01T09:00Z."
        )
    try:
        return to_instants(rows, where=str(path), tz=None)
    except TableError as err:
        raise TableError(
            f"{path}: column {stamps.name!r} has stamps with no time zone. Write an offset with every stamp."
        ) from err


def _read_frame(path: Path) -> pd.DataFrame:
    """The file as it stands, labels as text (a CSV's 0 and 1 stay '0' and '1')."""
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix in (".jsonl", ".ndjson"):
            return pd.DataFrame([json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()])
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as err:
        raise SourceError(f"{path}: could not be read as {path.suffix[1:]} ({err}).") from err
    raise SourceError(
        f"{path}: labelled text is read from .csv, .jsonl or .parquet, not {path.suffix or 'no suffix'!r}."
    )


READERS: dict[str, Any] = {
    "tfns": read_tfns,
    "sentfin": read_sentfin,
    "surge": read_surge,
    "phrasebank": read_phrasebank,
    "fiqa": read_fiqa,
    "file": read_labelled,
}


def clean_labelled(labelled: pd.DataFrame) -> Counted:
    """The rows worth learning from, in their order, and counts of the rest.

    Counts: `empty` texts (no letter and no digit), `contradicting` rows (the same normalised text under two labels:
    all of them go, for none can be trusted), `repeated` rows (the first of a normalised text stays), `kept`.
    """
    normal = labelled["text"].map(normalise)
    empty = (normal == "").to_numpy()
    contradicting = ~empty & (labelled.groupby(normal)["label"].transform("nunique") > 1).to_numpy()
    repeated = ~empty & ~contradicting & normal.duplicated().to_numpy()
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
    normal = labelled["text"].map(normalise)
    first = labelled.loc[~normal.duplicated().to_numpy(), ["source", "label"]].assign(normal=normal)
    draw = np.random.default_rng(seed)
    chosen: set[str] = set()
    for _, group in first.groupby(["source", "label"], sort=True):
        texts = group["normal"].to_numpy()
        chosen.update(draw.permutation(texts)[: round(share * len(texts))].tolist())
    held = normal.isin(chosen).to_numpy()
    return labelled[~held].reset_index(drop=True), labelled[held].reset_index(drop=True)
