"""What tuning left in a folder and the base that it belongs on, put together again for scoring.

What goes wrong in silence elsewhere is refused here: another base, tensors that are missing or left over, an adapter of
another kind than its card says, and settings by which peft would import or download something by itself.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finsignal.errors import FinsignalError, ModelError, did_you_mean, require
from finsignal.sentiment.folder import TOKENIZER, read_card, read_verified

if TYPE_CHECKING:
    from finsignal.sentiment.tuning.instruct import Prompt

WORK = "a tuned model of kind torch"
PEFT = {"lora": "LORA", "qlora": "LORA", "lora_8bit": "LORA", "adalora": "ADALORA"} | {
    "prefix": "PREFIX_TUNING",
    "prompt": "PROMPT_TUNING",
}
PRECISIONS = {"qlora": "nf4", "lora_8bit": "int8"}  # of a base loaded as it was in training
CANNOT_LOAD = (AttributeError, ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError)


def read_folder(folder: Path) -> tuple[dict[str, Any], Any]:
    """Card and tokenizer of a folder of kind torch, all of its files found unaltered."""
    from finsignal.sentiment.recipe import HEADS, METHODS
    from finsignal.sentiment.tuning.adapters import ADAPTER, ADAPTER_CONFIG, HEAD, WEIGHTS

    card = read_card(folder)
    if card.get("kind") != "torch":
        raise ModelError(f"{folder}: kind is {card.get('kind')!r}; expected 'torch'. Use load_model for any kind.")
    method, kind = card["method"], card["head"]["kind"]
    known = [name for name in METHODS if name != "tfidf"]
    for what, given, listed in (("method", method, known), ("head.kind", kind, list(HEADS))):
        if given not in listed:
            raise ModelError(f"{folder}: {what} is {given!r}.{did_you_mean(given, listed)} Expected one of {listed}.")
    if (card.get("prompt") is not None) != (kind == "words"):
        raise ModelError(f"{folder}: a card has a prompt where its head is of kind 'words', and only there.")
    head = [HEAD] if kind in ("mean", "last") else []
    frozen = head or [WEIGHTS]
    needed = {"full": [WEIGHTS], "frozen": frozen}.get(method, [ADAPTER, ADAPTER_CONFIG, *head])
    for name in needed:
        if name not in card["files"]:
            raise ModelError(f"{folder}: card.json lists no file {name!r}, which method {method!r} needs.")
    kept = read_verified(folder, card["files"], keep=(TOKENIZER,))
    tokenizers = require("tokenizers", extra="train", work=WORK)
    words = tokenizers.Tokenizer.from_buffer(kept[TOKENIZER])
    words.no_padding()
    words.enable_truncation(int(card["max_tokens"]))
    return card, words


def find_base_of(folder: Path, card: Mapping[str, Any], base: Path | str | None = None) -> Path:
    """The folder of the base that a model folder's card names, or of `base`, with the weights that the card names."""
    from finsignal.sentiment.recipe import Base
    from finsignal.sentiment.tuning.bases import digest_weights, find_base

    name = str(base) if base is not None else str(card["base"]["model"])
    known = dt.datetime.fromisoformat(card["base"]["known_until"]).date()
    try:
        below = find_base(Base(model=name, cutoff=known, licence=str(card["base"].get("licence", ""))))
    except ModelError as err:
        raise ModelError(f"{folder}: its base cannot be had; {err} Pass another folder or hub id as base.") from err
    found = digest_weights(below)
    if found != card["base"]["sha256"]:
        raise ModelError(
            f"{folder}: it was tuned on a base whose weights have SHA-256 {card['base']['sha256']}; those of {name} "
            f"have {found}. On another base it means nothing; pass the right one as base."
        )
    return below


def load_classifier_of(
    folder: Path, card: Mapping[str, Any], below: Path, words: Any, *, device: str, quantised: bool
) -> Any:
    """The tuning.heads.Classifier of a folder on the base in `below`, dropout off, nothing in it open to gradients."""
    from finsignal.sentiment.recipe import Tuning
    from finsignal.sentiment.tuning.bases import NF4, keep_unpacked, load_base, quiet, to_device
    from finsignal.sentiment.tuning.methods import add_adapter

    peft = require("peft", extra="train", work=WORK)
    method, kind = str(card["method"]), card["head"]["kind"]
    if quantised and method not in PRECISIONS:
        raise ModelError(f"{folder}: method {method!r} was not tuned on a quantised base; leave quantised out.")
    loaded = method if quantised or method == "full" else "lora"
    module = load_base(below, kind=kind, method=loaded, device=to_device(device))
    with telling(folder), quiet():
        if method in PEFT:
            module = peft.get_peft_model(module, read_peft(folder, card))
        else:
            plain = Tuning(epochs=1, learning_rate=1.0, seed=0, method=method)
            module = add_adapter(module, plain, kind=kind, steps=1, base_name=str(below))
        if loaded in NF4:
            keep_unpacked(module)
        classifier = add_heads(folder, card, module, below, words)
        fill(classifier, folder, card)
    most = getattr(classifier.encoder.config.get_text_config(), "max_position_embeddings", None)
    learned = getattr(classifier.encoder.active_peft_config, "num_virtual_tokens", None) or 0 if method in PEFT else 0
    if most and int(card["max_tokens"]) + learned > most:
        raise ModelError(
            f"{folder}: card.json: max_tokens is {card['max_tokens']}, and {learned} learned tokens stand in front; "
            f"its base reads {most} in all."
        )
    classifier.train(False)
    return classifier


def read_peft(folder: Path, card: Mapping[str, Any]) -> Any:
    """peft's own settings of an adapter, for scoring. Refuses those that would load other code or start elsewhere."""
    peft = require("peft", extra="train", work=WORK)
    from finsignal.sentiment.tuning.methods import TASKS

    with telling(folder):
        settings = peft.PeftConfig.from_pretrained(str(folder))
    method, task = PEFT[card["method"]], TASKS[card["head"]["kind"]]
    found = str(getattr(settings.peft_type, "value", settings.peft_type)), str(settings.task_type)
    if found != (method, task):
        raise ModelError(f"{folder}: its adapter is {found[0]} for {found[1]}; its card says {method} for {task}.")
    # A module to import by name, and starts that change the base's own weights.
    if getattr(settings, "megatron_config", None) or getattr(settings, "init_lora_weights", True) is not True:
        raise ModelError(f"{folder}: adapter_config.json sets megatron_config or init_lora_weights; leave them out.")
    settings.inference_mode = True  # without it a prompt may load a tokenizer of its own to start from
    return settings


def add_heads(folder: Path, card: Mapping[str, Any], module: Any, below: Path, words: Any) -> Any:
    """The classifier of a module, with what reads the label off it; a new head is not filled yet."""
    from finsignal.sentiment.tuning.bases import read_order
    from finsignal.sentiment.tuning.heads import Classifier, make_head
    from finsignal.sentiment.tuning.instruct import first_tokens

    kind, config = card["head"]["kind"], module.config.get_text_config()
    device = next(module.parameters()).device
    return Classifier(
        module,
        make_head(config.hidden_size, kind).to(device) if kind in ("mean", "last") else None,
        kind=kind,
        order=read_order(str(folder), below, card["head"].get("label_map") or {}) if kind == "own" else (0, 1, 2),
        first_tokens=first_tokens(words, to_prompt(folder, card)) if kind == "words" else (),
        pad=getattr(config, "pad_token_id", None) or 0,
    )


def fill(classifier: Any, folder: Path, card: Mapping[str, Any], *, name: str = "default") -> None:
    """Puts the folder's tensors into the classifier. Raises ModelError where they do not fit."""
    from finsignal.sentiment.tuning.adapters import WEIGHTS, read_adapter, read_weights

    if WEIGHTS in card["files"] and card["method"] not in PEFT:
        read_weights(classifier, folder)
    else:
        read_adapter(classifier, folder, name=name)
    for value in (*classifier.encoder.parameters(), *([] if classifier.head is None else classifier.head.parameters())):
        value.requires_grad_(False)


def to_prompt(folder: Path, card: Mapping[str, Any]) -> Prompt:
    """The prompt of a card whose head is of kind "words"."""
    from finsignal.sentiment.tuning.instruct import Prompt

    try:
        return Prompt(**card["prompt"])
    except TypeError as err:
        raise ModelError(f"{folder}: card.json: prompt has not the keys of a prompt ({err}).") from err


@contextlib.contextmanager
def telling(folder: Path) -> Iterator[None]:
    """What torch, peft or safetensors raise at tensors or settings that do not fit, told as an error of the folder."""
    damaged = require("safetensors", extra="train", work=WORK).SafetensorError
    try:
        yield
    except FinsignalError:
        raise
    except (*CANNOT_LOAD, damaged) as err:
        raise ModelError(f"{folder}: it cannot be put on its base ({type(err).__name__}: {err}).") from err
