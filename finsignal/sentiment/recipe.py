"""A training recipe: one TOML file to frozen dataclasses, and from there to labelled rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.errors import ConfigError, did_you_mean
from finsignal.sentiment import labelled
from finsignal.tables import LABELS

METHODS = ("qlora", "lora", "full")
CASHTAG = re.compile(r"\$([A-Z]{1,6})\b")


@dataclass(frozen=True)
class Base:
    """The pretrained encoder: a folder, a hub id, or `package:` and the import name of a package that holds one.

    cutoff: the last day of what it can know. sha256: of its model.safetensors; refused when another is found.
    max_tokens: longer texts are cut there, in training and in scoring. about: its name and makers, for the card.
    """

    model: str
    cutoff: dt.date
    licence: str
    sha256: str = ""
    max_tokens: int = 128
    about: str = ""


@dataclass(frozen=True)
class Tuning:
    """How the encoder is tuned. method: qlora (NF4 base, double quantisation), lora (full-precision base), or full
    (every weight of the base, in bfloat16 arithmetic; there is no adapter then).

    warmup: share of all steps with a rising learning rate; it falls linearly to 0 afterwards. clip: largest norm of the
    gradient. held_out: share of the cleaned texts kept from training, on which the epoch is chosen and the temperature
    fitted. head_rate: the head's learning rate as a multiple of the others'. layer_decay: the rate of each layer of the
    encoder as a multiple of that of the layer above it. label_smoothing: share of each label that is spread evenly over
    all three. average: decay a step of a running average of what is tuned; the average is then the model, and with 0
    the last step is (Polyak and Juditsky 1992, doi:10.1137/0330046).
    """

    epochs: int
    learning_rate: float
    seed: int
    method: str = "qlora"
    rank: int = 16
    alpha: int = 32
    lora_dropout: float = 0.05
    head_dropout: float = 0.1
    batch_size: int = 32
    warmup: float = 0.06
    weight_decay: float = 0.01
    clip: float = 1.0
    held_out: float = 0.1
    head_rate: float = 1.0
    layer_decay: float = 1.0
    label_smoothing: float = 0.0
    average: float = 0.0


@dataclass(frozen=True)
class DataSet:
    """One labelled set. reader: one of labelled.READERS; `file` has columns and a label map.

    path is relative to a data folder. cutoff: the last day its rows can know; it must be stated for training.
    about: its full name and makers, for the card. weight: of each of its rows in the loss. rows: at most so many of its
    rows are learned from, drawn with the seed after cleaning (0: all). cashtags: a row whose text has one cashtag is
    also learned from as an answer about it.
    """

    name: str
    reader: str
    path: str
    licence: str
    cutoff: dt.date
    text_column: str = "text"
    label_column: str = "label"
    target_column: str = ""
    label_map: dict[str, str] = dataclasses.field(default_factory=dict)
    about: str = ""
    weight: float = 1.0
    rows: int = 0
    cashtags: bool = False


@dataclass(frozen=True)
class Recipe:
    """All that decides a model, besides its data: `digest` is the SHA-256 of the file it was read from.

    data: what is learned from. report: sets measured at the very end and used for nothing else; sets of one name are
    measured together. mean_of: recipes whose models' weights are averaged instead of training one: files beside this
    one, every weight tuned, with the same base, seed and held-out texts (Wortsman et al. 2022, arXiv:2203.05482). The
    digest covers them too.
    """

    name: str
    not_good_for: tuple[str, ...]
    base: Base
    tuning: Tuning
    data: tuple[DataSet, ...]
    report: tuple[DataSet, ...]
    digest: str
    mean_of: tuple[Recipe, ...] = ()


def read_recipe(path: Path) -> Recipe:
    """The recipe of a TOML file.

    Raises ConfigError at a missing or unknown key, naming the closest known one, and at a value that cannot be meant.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        content = tomllib.loads(raw.decode("utf-8"))
    except (OSError, ValueError) as err:
        raise ConfigError(f"{path}: could not be read as a TOML recipe ({err}).") from err
    known = ["name", "not_good_for", "mean_of", "base", "tuning", "data", "report"]
    _check_keys(content, known, ["name", "base", "tuning", "data"], f"{path}")
    parts = tuple(read_recipe(path.parent / str(name)) for name in content.get("mean_of", ()))
    recipe = Recipe(
        name=str(content["name"]),
        not_good_for=tuple(str(item) for item in content.get("not_good_for", ())),
        base=_make(Base, content["base"], f"{path} [base]"),
        tuning=_make(Tuning, content["tuning"], f"{path} [tuning]"),
        data=tuple(_make(DataSet, item, f"{path} [[data]]") for item in content["data"]),
        report=tuple(_make(DataSet, item, f"{path} [[report]]") for item in content.get("report", ())),
        digest=hashlib.sha256(raw + b"".join(part.digest.encode() for part in parts)).hexdigest(),
        mean_of=parts,
    )
    _check_values(recipe, path)
    return recipe


def _check_keys(section: dict[str, Any], known: list[str], needed: list[str], where: str) -> None:
    for key in section:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}.{did_you_mean(key, known)} Known keys are {known}.")
    for key in needed:
        if key not in section:
            raise ConfigError(f"{where}: no key {key!r}, which every recipe needs.")


def _make(kind: Any, section: Any, where: str) -> Any:
    if not isinstance(section, dict):
        raise ConfigError(f"{where}: expected a table of keys, got {type(section).__name__}.")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unset = (dataclasses.MISSING, dataclasses.MISSING)
    needed = [name for name, field in fields.items() if (field.default, field.default_factory) == unset]
    _check_keys(section, list(fields), needed, where)
    types: dict[str, Any] = {
        "str": str,
        "int": int,
        "float": (int, float),
        "dt.date": dt.date,
        "bool": bool,
        "dict[str, str]": dict,
    }
    for key, value in section.items():
        expected = types[str(fields[key].type)]
        odd = isinstance(value, bool) and expected is not bool
        if not isinstance(value, expected) or odd or isinstance(value, dt.datetime):
            raise ConfigError(f"{where}: {key} is {value!r}; expected {fields[key].type.replace('dt.', 'a ')}.")
    return kind(**section)


def _check_values(recipe: Recipe, path: Path) -> None:
    tuning = recipe.tuning
    rules = {
        "epochs": tuning.epochs >= 1,
        "learning_rate": tuning.learning_rate > 0,
        "rank": tuning.rank >= 1,
        "batch_size": tuning.batch_size >= 1,
        "warmup": 0 <= tuning.warmup < 1,
        "lora_dropout": 0 <= tuning.lora_dropout < 1,
        "head_dropout": 0 <= tuning.head_dropout < 1,
        "held_out": 0 < tuning.held_out < 0.5,
        "clip": tuning.clip > 0,
        "method": tuning.method in METHODS,
        "head_rate": tuning.head_rate > 0,
        "layer_decay": 0 < tuning.layer_decay <= 1,
        "label_smoothing": 0 <= tuning.label_smoothing < 1,
        "average": 0 <= tuning.average < 1,
        "seed": tuning.seed >= 0,
    }
    for key, holds in rules.items():
        if not holds:
            raise ConfigError(f"{path} [tuning]: {key} is {getattr(tuning, key)!r}, which cannot be meant.")
    for part in recipe.mean_of:
        if part.tuning.method != "full" or part.base != recipe.base or part.mean_of:
            raise ConfigError(
                f"{path}: mean_of names {part.name}, which tunes {part.tuning.method!r} on {part.base.model}; expected "
                "recipes that tune every weight (full) of this recipe's own base, and are no means themselves."
            )
        # The card tells of this recipe's sets alone, and trained_until is the latest of their cut-offs.
        told = {(item.path, item.reader, item.cutoff) for item in recipe.data}
        untold = [item.name for item in part.data if (item.path, item.reader, item.cutoff) not in told]
        if untold:
            raise ConfigError(
                f"{path}: {part.name} learns from {untold[0]!r}, which is not among the [[data]] here with the same "
                "path, reader and cut-off. List it, or the card would keep silent about it."
            )
    if not recipe.data:
        raise ConfigError(f"{path}: no [[data]] to learn from.")
    names = [item.name for item in recipe.data]
    for item in recipe.data:
        if names.count(item.name) > 1:  # a row knows its set, and so its weight, by the name alone
            raise ConfigError(f"{path}: two [[data]] have the name {item.name!r}; give each a name of its own.")
    for item in (*recipe.data, *recipe.report):
        if item.reader not in labelled.READERS:
            raise ConfigError(
                f"{path}: {item.name} has reader {item.reader!r}.{did_you_mean(item.reader, labelled.READERS)} "
                f"Readers are {sorted(labelled.READERS)}."
            )
        if item.weight <= 0 or item.rows < 0:
            raise ConfigError(
                f"{path}: {item.name} has weight {item.weight} and rows {item.rows}; expected above 0, and 0 or more."
            )
        if not set(item.label_map.values()) <= set(LABELS):
            raise ConfigError(f"{path}: {item.name} maps labels to {sorted(set(item.label_map.values()))}.")


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
