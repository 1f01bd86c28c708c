"""A training recipe: one TOML file to frozen dataclasses, and from there to labelled rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finsignal.errors import ConfigError, did_you_mean
from finsignal.sentiment import labelled
from finsignal.tables import LABELS

METHODS = ("lora", "qlora", "lora_8bit", "adalora", "prefix", "prompt", "full", "frozen", "tfidf")
HEADS = ("mean", "last", "own", "words")
CHOICES: dict[str, tuple[str, ...]] = {
    "method": METHODS,
    "optimiser": ("adamw", "adamw_8bit", "paged_adamw_8bit"),
    "schedule": ("linear", "cosine"),
    "precision": ("", "float32", "bfloat16", "float16"),
    "loss": ("cross_entropy", "focal"),
    "class_weights": ("none", "sqrt", "balanced"),
}


@dataclass(frozen=True)
class Base:
    """The pretrained model: a folder, a hub id, or `package:` and the import name of a package that holds one.

    cutoff: the last day of what it can know. sha256: of its weights; refused when another is found. max_tokens: longer
    texts are cut there, in training and in scoring. about: its name and makers, for the card.
    """

    model: str
    cutoff: dt.date
    licence: str
    sha256: str = ""
    max_tokens: int = 128
    about: str = ""


@dataclass(frozen=True)
class Head:
    """How a label is read off the base.

    kind: "mean", a new linear layer over the mean of an encoder's last hidden states; "last", over that of the last
    token, for causal models; "own", the classification head that the base has, by label_map (published name or number
    to one of LABELS) where its labels are named otherwise; "words", a causal model's next word after a prompt.

    For words: instruction is what the model is told, in the base's own chat template where it has one and chat is true.
    answers: the word for each label, in the order of LABELS; their first tokens must differ.
    """

    kind: str = "mean"
    label_map: dict[str, str] = dataclasses.field(default_factory=dict)
    instruction: str = (
        "You are a financial sentiment analyst. Given the financial text, reply with exactly one word: negative, "
        "neutral or positive."
    )
    answers: tuple[str, ...] = ("negative", "neutral", "positive")
    chat: bool = True


@dataclass(frozen=True)
class Tuning:
    """How the base is tuned.

    method: lora (full-precision base), qlora (NF4 base, double quantisation), lora_8bit (INT8 base), adalora (rank
    shared out among the layers while training), prefix and prompt (tokens learned in front of each layer, or of the
    text alone), full (every weight), frozen (the head alone), tfidf (logistic regression on words, without any base).

    rank: of LoRA; 0 for the one that advice gives for the number of rows. alpha: LoRA's scale is alpha / rank.
    target_modules: the layers that get LoRA, by the end of their names; all linear layers without. virtual_tokens: of
    prefix and prompt. batch_size: rows of one forward and backward; accumulation: so many of them are one step of the
    optimiser, with the gradient of one batch of all their rows. group_by_length: rows of like length share a batch,
    which pads less, and pulls the model to and fro where length goes with label.

    schedule: what follows the warm-up, linearly or by a cosine to 0. warmup: share of all steps with a rising learning
    rate. clip: largest norm of the gradient. precision: of the arithmetic; "" is bfloat16 for full, qlora and on a GPU,
    float32 else. checkpointing: activations are computed again in the backward pass rather than kept. loss: focal is
    that of Lin et al. 2017 (arXiv:1708.02002) with focal_gamma. class_weights: of a label's rows in the loss, by its
    share or the square root of it. oversample: rows of the rarer labels are drawn several times, until all labels are
    as many.

    held_out: share of the cleaned texts kept from training, on which the epoch is chosen and the temperature fitted.
    patience: stop after so many epochs without a better held-out log-loss (0: never). checkpoint_steps: a resumable
    state is written every so many steps beside that of each epoch (0: never). head_rate: the head's learning rate as a
    multiple of the others'. layer_decay: the rate of each layer of the encoder as a multiple of that of the layer above
    it. label_smoothing: share of each label that is spread evenly over all three. average: decay a step of a running
    average of what is tuned; the average is then the model, and with 0 the last step is (Polyak and Juditsky 1992,
    doi:10.1137/0330046).
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
    target_modules: tuple[str, ...] = ()
    virtual_tokens: int = 20
    accumulation: int = 1
    group_by_length: bool = False
    optimiser: str = "adamw"
    schedule: str = "linear"
    precision: str = ""
    checkpointing: bool = False
    loss: str = "cross_entropy"
    focal_gamma: float = 2.0
    class_weights: str = "none"
    oversample: bool = False
    patience: int = 0
    checkpoint_steps: int = 0


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
    digest covers them too. source: the published document it follows. corrected: what was put right of it, and why.
    """

    name: str
    not_good_for: tuple[str, ...]
    base: Base
    tuning: Tuning
    data: tuple[DataSet, ...]
    report: tuple[DataSet, ...]
    digest: str
    mean_of: tuple[Recipe, ...] = ()
    head: Head = Head()
    source: str = ""
    corrected: tuple[str, ...] = ()


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: a path, or the name of one that ships, such as "qlora". Raises ConfigError at neither."""
    path, own = Path(name), Path(__file__).parent / "recipes" / f"{name}.toml"
    if path.is_file() or path.suffix == ".toml":
        return path
    if not own.is_file():
        known = recipe_names()
        raise ConfigError(f"{name}: no such file, and no recipe of that name.{did_you_mean(str(name), known)} {known}.")
    return own


def recipe_names() -> list[str]:
    """The names of the recipes that ship."""
    return sorted(path.stem for path in (Path(__file__).parent / "recipes").glob("*.toml"))


def read_recipe(path: str | Path) -> Recipe:
    """The recipe of a TOML file, or of the name of one that ships.

    Raises ConfigError at a missing or unknown key, naming the closest known one, and at a value that cannot be meant.
    """
    path = find_recipe(path)
    try:
        raw = path.read_bytes()
        content = tomllib.loads(raw.decode("utf-8"))
    except (OSError, ValueError) as err:
        raise ConfigError(f"{path}: could not be read as a TOML recipe ({err}).") from err
    known = ["name", "not_good_for", "mean_of", "base", "head", "tuning", "data", "report", "source", "corrected"]
    _check_keys(content, known, ["name", "base", "tuning", "data"], f"{path}")
    _check_lists(content, f"{path}")
    parts = tuple(read_recipe(path.parent / name) for name in content.get("mean_of", ()))
    recipe = Recipe(
        name=str(content["name"]),
        not_good_for=tuple(str(item) for item in content.get("not_good_for", ())),
        base=_make(Base, content["base"], f"{path} [base]"),
        tuning=_make(Tuning, content["tuning"], f"{path} [tuning]"),
        data=tuple(_make(DataSet, item, f"{path} [[data]]") for item in content["data"]),
        report=tuple(_make(DataSet, item, f"{path} [[report]]") for item in content.get("report", ())),
        digest=hashlib.sha256(raw + b"".join(part.digest.encode() for part in parts)).hexdigest(),
        mean_of=parts,
        head=_make(Head, content.get("head", {}), f"{path} [head]"),
        source=str(content.get("source", "")),
        corrected=tuple(str(item) for item in content.get("corrected", ())),
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


def _check_lists(content: dict[str, Any], where: str) -> None:
    """Lists where lists are meant: a lone text would be read letter by letter."""
    for key, kind, expected in (
        *((key, str, "a list of texts") for key in ("not_good_for", "mean_of", "corrected")),
        *((key, dict, f"tables under [[{key}]]") for key in ("data", "report")),
    ):
        value = content.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
            raise ConfigError(f"{where}: {key} is {value!r}; expected {expected}.")


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
        "tuple[str, ...]": list,
    }
    for key, value in section.items():
        expected = types[str(fields[key].type)]
        odd = isinstance(value, bool) and expected is not bool
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        odd |= not all(isinstance(item, str) for item in inner)
        if not isinstance(value, expected) or odd or isinstance(value, dt.datetime):
            raise ConfigError(f"{where}: {key} is {value!r}; expected {fields[key].type.replace('dt.', 'a ')}.")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in section.items()})


def _check_values(recipe: Recipe, path: Path) -> None:
    tuning = recipe.tuning
    for name in (recipe.name, *(item.name for item in (*recipe.data, *recipe.report))):
        if not name.strip():
            raise ConfigError(f"{path}: a name is {name!r}; expected one for the recipe and for each of its sets.")
    rules = {
        "epochs": tuning.epochs >= 1,
        "learning_rate": tuning.learning_rate > 0,
        "rank": tuning.rank >= 0,
        "alpha": tuning.alpha >= 1,
        "virtual_tokens": tuning.virtual_tokens >= 1,
        "accumulation": tuning.accumulation >= 1,
        "focal_gamma": tuning.focal_gamma >= 0,
        "patience": tuning.patience >= 0,
        "checkpoint_steps": tuning.checkpoint_steps >= 0,
        "batch_size": tuning.batch_size >= 1,
        "warmup": 0 <= tuning.warmup < 1,
        "lora_dropout": 0 <= tuning.lora_dropout < 1,
        "head_dropout": 0 <= tuning.head_dropout < 1,
        "held_out": 0 < tuning.held_out < 0.5,
        "clip": tuning.clip > 0,
        "head_rate": tuning.head_rate > 0,
        "layer_decay": 0 < tuning.layer_decay <= 1,
        "label_smoothing": 0 <= tuning.label_smoothing < 1,
        "average": 0 <= tuning.average < 1,
        "seed": tuning.seed >= 0,
        "weight_decay": tuning.weight_decay >= 0,
    }
    if recipe.base.max_tokens < 1:
        raise ConfigError(f"{path} [base]: max_tokens is {recipe.base.max_tokens}; expected 1 or more.")
    for key, holds in rules.items():
        if not holds:
            raise ConfigError(f"{path} [tuning]: {key} is {getattr(tuning, key)!r}, which cannot be meant.")
    for key, known in CHOICES.items():
        if getattr(tuning, key) not in known:
            given = getattr(tuning, key)
            raise ConfigError(
                f"{path} [tuning]: {key} is {given!r}.{did_you_mean(given, known)} Expected one of {known}."
            )
    _check_head(recipe, path)
    called = [part.name for part in recipe.mean_of]
    for part in recipe.mean_of:
        if called.count(part.name) > 1:  # the second would be taken for the first, already trained
            raise ConfigError(f"{path}: mean_of names two recipes called {part.name!r}; give each a name of its own.")
        if part.tuning.method != "full" or part.base != recipe.base or part.mean_of:
            raise ConfigError(
                f"{path}: mean_of names {part.name}, which tunes {part.tuning.method!r} on {part.base.model}; expected "
                "recipes that tune every weight (full) of this recipe's own base, and are no means themselves."
            )
        if part.head != recipe.head or tuning.method != "full":
            raise ConfigError(
                f"{path}: mean_of needs method 'full' and the [head] of {part.name} here too, for it is the mean that "
                "is written and scored."
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


def _check_head(recipe: Recipe, path: Path) -> None:
    """What cannot go together, told before anything is loaded."""
    head, tuning = recipe.head, recipe.tuning
    if head.kind not in HEADS:
        raise ConfigError(
            f"{path} [head]: kind is {head.kind!r}.{did_you_mean(head.kind, HEADS)} Expected one of {HEADS}."
        )
    if not set(head.label_map.values()) <= set(LABELS):
        found = sorted(set(head.label_map.values()))
        raise ConfigError(f"{path} [head]: label_map maps to {found}; expected labels of {LABELS}.")
    if len(head.answers) != len(LABELS) or not all(word.strip() for word in head.answers):
        raise ConfigError(f"{path} [head]: answers are {head.answers}; expected a word for each of {LABELS}.")
    refused = {
        "label_smoothing above 0": tuning.label_smoothing > 0,
        "loss = 'focal'": tuning.loss == "focal",
        "method = 'frozen'": tuning.method == "frozen",
    }
    for what, given in refused.items():
        if head.kind == "words" and given:
            raise ConfigError(f"{path}: {what} needs a linear head; with [head] kind = 'words' the loss is of a word.")
    if tuning.oversample and tuning.class_weights != "none":
        raise ConfigError(f"{path}: oversample and class_weights both balance the labels; leave one of them out.")
    if tuning.method in ("prefix", "prompt") and head.kind == "own":
        raise ConfigError(f"{path}: method {tuning.method!r} goes with a head of kind mean, last or words, not 'own'.")
    if tuning.method == "prefix" and tuning.checkpointing:
        raise ConfigError(f"{path}: checkpointing computes layers again without their prefixes; leave it out.")
    if tuning.method in ("prefix", "prompt", "tfidf") and recipe.mean_of:
        raise ConfigError(f"{path}: mean_of needs runs that tune every weight.")
