"""A published model, by hub id or folder: its files, weights from safetensors alone, and what its config says."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from finsignal.errors import ModelError, did_you_mean, require
from finsignal.sentiment.score import LABELS

WORK = "a published classifier"
CONFIG, ADAPTER_CONFIG, ADAPTER = "config.json", "adapter_config.json", "adapter_model.safetensors"
WHOLE, SHARDS = "model.safetensors", "model.safetensors.index.json"
VOCABULARIES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
)
SETTINGS = (CONFIG, ADAPTER_CONFIG, "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
HUB_ID = re.compile(r"(?![.-])[\w.-]+(/(?![.-])[\w.-]+)?(@[\w./-]+)?$")  # the oldest have no ORG: roberta-base

# Suggested in an error, never assumed: a map that nobody confirmed is how labels get turned round.
USUAL = {"bearish": "negative", "bullish": "positive", "neg": "negative", "neu": "neutral", "pos": "positive"}
WHAT_WORKS = (
    "What works is a model tuned for sequence classification: its config names ...ForSequenceClassification, or its "
    "adapter has task type SEQ_CLS."
)


def find_model(name: str, *, revision: str | None = None) -> Path:
    """The folder of a model, with all of its top files but weights: enough to refuse it before gigabytes are sent.

    name: a folder, or a hub id, ORG/NAME or ORG/NAME@REVISION. Raises ModelError where it is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    if not HUB_ID.match(name):
        raise ModelError(f"{name}: no such model folder, and no hub id, ORG/NAME or ORG/NAME@REVISION, either.")
    repository, _, named = name.partition("@")
    return _download(repository, named or revision, ["*.json", "*.txt", "*.model"])


def fetch_weights(name: str, folder: Path) -> None:
    """Sends for the weights that find_model left out, of the very revision that it found."""
    if not Path(name).is_dir():
        _download(name.partition("@")[0], folder.name, [WHOLE, "model-*.safetensors", ADAPTER])


def _download(repository: str, revision: str | None, patterns: list[str]) -> Path:
    hub = require("huggingface_hub", extra="train", work=WORK)
    broken = require("huggingface_hub.utils", extra="train", work=WORK).httpx.HTTPError
    try:
        return Path(
            hub.snapshot_download(repository, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"])
        )
    except (OSError, ValueError, RuntimeError, broken) as err:
        raise ModelError(f"{repository!r}: neither a folder here, nor could the hub send it ({err}).") from err


def read_json(name: str, path: Path) -> dict[str, Any]:
    """The object in a JSON file of model `name`. Raises ModelError where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ModelError(
            f"{name}: no {path.name}; expected a model of transformers, an adapter of peft, or a folder of finsignal."
        ) from err
    except (OSError, ValueError) as err:
        raise ModelError(f"{name}: {path.name} cannot be read ({err}).") from err
    if not isinstance(found, dict):
        raise ModelError(f"{name}: {path.name} holds {type(found).__name__}; expected an object of keys and values.")
    return found


def weight_files(name: str, folder: Path, *, adapter: bool = False) -> list[Path]:
    """The safetensors files that hold the weights, as transformers would choose them.

    Raises ModelError where one is missing; pickled weights, which could run code when read, are named as not read.
    """
    files = [folder / ADAPTER] if adapter else [folder / WHOLE]
    if not adapter and not files[0].is_file() and (folder / SHARDS).is_file():
        shards = read_json(name, folder / SHARDS).get("weight_map")
        files = [folder / Path(str(shard)).name for shard in sorted(set((shards or {}).values()))]
    for path in files:
        if not path.is_file():
            raise ModelError(
                f"{name}: no {path.name}; pickled weights (.bin, .pt) can run code and are never loaded. Where the hub "
                "proposes a safetensors variant, under Community on the model's page, name it: "
                f"{name.partition('@')[0]}@refs/pr/NUMBER."
            )
    return files


def read_shapes(name: str, files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, by name, from the heads of safetensors files."""
    safetensors = require("safetensors", extra="train", work=WORK)
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        try:
            with safetensors.safe_open(path, framework="np") as opened:
                shapes |= {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}
        except (OSError, safetensors.SafetensorError) as err:
            raise ModelError(f"{name}: {path.name} is damaged or no safetensors file ({err}).") from err
    return shapes


def check_memory(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuses weights that would not fit into memory as float32: the system would end the process without a word."""
    free = require("psutil", extra="train", work=WORK).virtual_memory().available
    needed = 4 * sum(math.prod(shape) for shape in shapes.values())
    if needed > free:
        raise ModelError(
            f"{name}: its weights need {needed / 1e9:.1f} GB of memory as float32, and {free / 1e9:.1f} GB are free. "
            "Use a machine with more, or a smaller model."
        )


def digest_files(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """Name and SHA-256 of each file."""
    found = []
    for path in paths:
        with path.open("rb") as opened:
            found.append((path.name, hashlib.file_digest(opened, "sha256").hexdigest()))
    return found


def held_tensors(shapes: Iterable[str]) -> set[str]:
    """The names in a peft file as the base names them: without the wrapper's prefix."""
    return {re.sub(r"^base_model\.(model\.(?=.))?", "", key) for key in shapes}


def read_meanings(
    name: str, outputs: Sequence[str], label_map: Mapping[str, str] | None, label2id: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Which of LABELS each output of model `name` means, in the order of the outputs; label_map as in load_classifier.

    Keys of the map that name no output are passed over, for one map may serve several models. Raises ModelError where
    an output's meaning is not said, or said in two ways by its name, label2id or the map, and where one of LABELS has
    no output.
    """
    label_map = {str(key): value for key, value in (label_map or {}).items()}
    found = ", ".join(f"{code}={output}" for code, output in enumerate(outputs))
    means = []
    for code, output in enumerate(outputs):
        own, other = output.strip().lower(), (label2id or {}).get(output, code)
        doubtful = str(other) != str(code)
        if doubtful and str(code) not in label_map:
            raise ModelError(
                f"{name}: its config says that output {code} is {output!r}, and that {output!r} is output {other}. "
                f"Pass a label map by number, such as {code}=negative, for each output."
            )
        mean = label_map.get(str(code), label_map.get(output, own))
        if mean not in LABELS:
            usual = " ".join(f"{o}={USUAL.get(o.lower(), '?')}" for o in outputs if o.lower() not in LABELS)
            raise ModelError(
                f"{name}: output {code} is {mean!r}; expected {', '.join(LABELS)}.{did_you_mean(mean, LABELS)} "
                f"Outputs are {found}. Pass a label map after the model's own page: {usual or f'{code}=?'}."
            )
        if own in LABELS and mean != own and not doubtful:
            raise ModelError(
                f"{name}: output {code} is named {output!r}, and the label map makes it {mean}. "
                "Leave it out of the map; where the name is wrong, put it right in the config of a copy."
            )
        means.append(mean)
    for label in LABELS:
        if label not in means:
            raise ModelError(f"{name}: no output means {label}; outputs are {found}, and three labels are evaluated.")
    return tuple(means)


def read_outputs(name: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The published names of a config's outputs, by number, in whatever order the config lists them."""
    listed = config.get("id2label") or {code: f"LABEL_{code}" for code in range(config.get("num_labels") or 2)}
    try:
        by_code = {int(code): str(output) for code, output in listed.items()}
        return tuple(by_code[code] for code in range(len(by_code)))
    except (AttributeError, KeyError, ValueError) as err:
        raise ModelError(f"{name}: its id2label is {listed}; expected names numbered from 0 without a gap.") from err


def check_config(name: str, config: Mapping[str, Any], *, head: bool = True) -> None:
    """Refuses what is no classifier (where its head is needed), and what would not be loaded as published."""
    auto = require("transformers.models.auto.configuration_auto", extra="train", work=WORK)
    kind, built = config.get("model_type"), (config.get("architectures") or [""])[0]
    if kind not in auto.CONFIG_MAPPING:
        raise ModelError(f"{name}: transformers has no model type {kind!r}, and code of the hub is never run.")
    foreign = _foreign_code(config)
    if foreign:
        raise ModelError(
            f"{name}: its config asks for {foreign}, which would be code of the hub, and that is never run."
        )
    if config.get("quantization_config"):
        raise ModelError(f"{name}: its weights are quantised. Name the full-precision model that they were made from.")
    if head and built and not built.endswith("ForSequenceClassification"):
        raise ModelError(f"{name}: {built} has no classification head and gives no probabilities. {WHAT_WORKS}")
    if head and config.get("problem_type") in ("regression", "multi_label_classification"):
        raise ModelError(f"{name}: its outputs are made for {config['problem_type']}, not for one label of several.")


def _foreign_code(config: Mapping[str, Any]) -> str:
    """What a config asks transformers to run from the hub: kernels, which trust_remote_code=False does not forbid."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            inner = _foreign_code(value)
            if inner:
                return inner
        elif "implementation" in key and "/" in str(value):
            return f"{key} = {value}"
    return ""
