"""The card of a model folder, and its files: what must stand there, checked before anything of it is used."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from finsignal.errors import ModelError, did_you_mean

# As tables.LABELS, which a test holds: without pandas, a process that scores a few headlines starts sooner.
LABELS = ("negative", "neutral", "positive")

GRAPH, TOKENIZER, CARD, TFIDF = "model.onnx", "tokenizer.json", "card.json", "tfidf.json"
# What every folder of a kind holds; the other files of kind "torch" depend on how it was tuned, see tuned.py.
KINDS: Mapping[str, tuple[str, ...]] = {"onnx": (GRAPH, TOKENIZER), "torch": (TOKENIZER,), "tfidf": (TFIDF,)}
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")
PUBLISHED = "A published classifier, by hub id or folder, is for finsignal evaluate alone."


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a model folder, its values checked. Raises ModelError, naming the key with expected and found."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder. {PUBLISHED}")
    pickles = sorted(path.name for path in folder.rglob("*") if path.suffix.lower() in PICKLES)
    if pickles:
        raise ModelError(f"{folder}: holds {pickles[0]}; pickled weights can run code and are never loaded. Remove it.")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ModelError(f"{folder}: no {CARD}; it is no model folder, or training was cut short. {PUBLISHED}") from err
    except OSError as err:
        raise ModelError(f"{folder}: {CARD} cannot be read ({err.strerror or err}).") from err
    except ValueError as err:
        raise ModelError(f"{folder}: {CARD} is not JSON ({err}).") from err
    _check_card(card, folder)
    kind = card.get("kind", "onnx")
    for name in KINDS[kind]:
        if name not in card["files"]:
            raise ModelError(f"{folder}: {CARD} lists no file {name!r}.")
    return card


def read_verified(folder: Path, files: Mapping[str, str], *, keep: Sequence[str]) -> dict[str, bytes]:
    """The bytes of the files `keep`, after each of `files` (name -> SHA-256) was read, once, and found unaltered."""
    kept = {}
    for name, expected in files.items():
        try:
            with (folder / name).open("rb") as file:
                if name in keep:
                    kept[name] = file.read()
                    found = hashlib.sha256(kept[name]).hexdigest()
                else:
                    found = hashlib.file_digest(file, "sha256").hexdigest()  # weights may be larger than the memory
        except (FileNotFoundError, NotADirectoryError) as err:
            raise ModelError(f"{folder}: file {name} is missing; expected SHA-256 {expected}.") from err
        except OSError as err:
            raise ModelError(f"{folder}: file {name} cannot be read ({err.strerror or err}).") from err
        if found != expected:
            raise ModelError(f"{folder}: file {name} was altered: expected SHA-256 {expected}, found {found}.")
    return kept


def _check_card(card: Any, folder: Path) -> None:
    if not isinstance(card, dict):
        raise ModelError(f"{folder}: {CARD} holds {_short(card)}; expected an object of keys and values.")
    kind = card.get("kind", "onnx")
    if not isinstance(kind, str) or kind not in KINDS:
        meant = did_you_mean(str(kind), KINDS)
        raise ModelError(f"{folder}: {CARD}: kind is {_short(kind)}.{meant} Expected one of {sorted(KINDS)}.")
    for key, (holds, expected) in {**CARD_KEYS, **(TORCH_KEYS if kind == "torch" else {})}.items():
        if key == "max_tokens" and kind == "tfidf":
            continue  # it reads the whole text
        value = card
        for part in key.split("."):
            if part not in value:
                raise ModelError(f"{folder}: {CARD} has no key {key!r}.")
            value = value[part]
        if not holds(value):
            raise ModelError(f"{folder}: {CARD}: {key} is {_short(value)}; expected {expected}.")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_above_zero(value: Any) -> bool:
    # true and false are integers to Python, and JSON as Python reads it may hold NaN and Infinity
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def _is_instant(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


INSTANT_WANTED = "an ISO 8601 time with a zone, such as 2023-01-01T00:00:00+00:00"
# What the card must hold: a mapping stands before the keys within it.
CARD_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_text, "a name"),
    "labels": (lambda v: isinstance(v, list) and all(map(_is_text, v)), "a list of names"),
    "max_tokens": (lambda v: isinstance(v, int) and _is_above_zero(v), "a whole number above 0"),
    "temperature": (_is_above_zero, "a finite number above 0"),
    "trained_until": (_is_instant, INSTANT_WANTED),
    "base": (lambda v: isinstance(v, dict), "an object"),
    "base.known_until": (_is_instant, INSTANT_WANTED),
    "data": (
        lambda v: isinstance(v, list) and all(isinstance(s, dict) and _is_text(s.get("name")) for s in v),
        "a list of data sets, each an object with a name",
    ),
    "files": (lambda v: isinstance(v, dict) and all(map(_is_text, v.values())), "an object of file names and SHA-256"),
}
TORCH_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "method": (_is_text, "the name of a method"),
    "head": (lambda v: isinstance(v, dict), "an object"),
    "head.kind": (_is_text, "the name of a kind of head"),
    "base.model": (_is_text, "a folder, a hub id, or package: and a name"),
    "base.sha256": (_is_text, "the SHA-256 of the base's weights"),
}


def to_order(names: list[str], label_map: Mapping[str, str] | None, folder: Path) -> tuple[int, ...]:
    """The column of a model's outputs `names` that holds each of LABELS. Raises ModelError where one is missing."""
    mapped = [str((label_map or {}).get(name, name)) for name in names]
    if sorted(mapped) != sorted(LABELS):
        odd = next((name for name in mapped if name not in LABELS), mapped[0] if mapped else "")
        raise ModelError(
            f"{folder}: labels are {names}; expected {list(LABELS)} in any order.{did_you_mean(odd, LABELS)} "
            "Pass a label map."
        )
    return tuple(mapped.index(name) for name in LABELS)
