"""What tuning leaves behind: adapter and head, or every weight, as safetensors; and the way back, merged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from finsignal.errors import ModelError, require
from finsignal.sentiment.recipe import Head
from finsignal.sentiment.tuning.bases import WORK, load_base, quiet, read_order
from finsignal.sentiment.tuning.heads import Classifier, make_head

WEIGHTS = "weights.safetensors"  # of a fully tuned model
ADAPTER, ADAPTER_CONFIG, HEAD = "adapter_model.safetensors", "adapter_config.json", "head.safetensors"


def is_adapted(classifier: Classifier) -> bool:
    """Whether peft wraps its base."""
    return hasattr(classifier.encoder, "peft_config")


def write_tuned(classifier: Classifier, folder: Path) -> None:
    """Writes what was tuned: the adapter in peft's layout and the head beside it, the head alone, or every weight."""
    tuned = classifier.trainable()
    if is_adapted(classifier) or all(name.startswith("head.") for name in tuned):
        write_adapter(classifier, folder)
    else:
        write_weights(classifier, folder)


def write_adapter(classifier: Classifier, folder: Path) -> None:
    """Writes the adapter in peft's own layout, and the head beside it, as float16 safetensors.

    float16 halves what ships, and costs nothing, for merging starts from these files: what ships is what was merged.
    """
    torch = require("torch", extra="train", work=WORK)
    peft = require("peft", extra="train", work=WORK)
    safetensors = require("safetensors.torch", extra="train", work=WORK)
    if classifier.head is not None:
        head = {name: value.detach().cpu().to(torch.float16) for name, value in classifier.head.state_dict().items()}
        safetensors.save_file(head, folder / HEAD)
    if not is_adapted(classifier):
        return
    with quiet():
        found = peft.get_peft_model_state_dict(classifier.encoder)
    half = {name: value.detach().cpu().to(torch.float16).clone().contiguous() for name, value in found.items()}
    safetensors.save_file(half, folder / ADAPTER)
    config = classifier.encoder.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(folder)
    config.inference_mode = False


def write_weights(classifier: Classifier, folder: Path) -> None:
    """Writes every tuned weight, float32, as safetensors."""
    safetensors = require("safetensors.torch", extra="train", work=WORK)
    weights = {name: value.detach().cpu().contiguous() for name, value in classifier.trainable().items()}
    safetensors.save_file(weights, folder / WEIGHTS)


def read_tuned(classifier: Classifier, folder: Path) -> None:
    """Puts what write_tuned left in the folder into the classifier. Raises ModelError where it does not fit."""
    (read_weights if (folder / WEIGHTS).is_file() else read_adapter)(classifier, folder)


def read_weights(classifier: Classifier, folder: Path) -> None:
    """Puts what write_weights left in the folder into the classifier. Raises ModelError where it does not fit."""
    torch = require("torch", extra="train", work=WORK)
    safetensors = require("safetensors.torch", extra="train", work=WORK)
    weights, tuned = safetensors.load_file(folder / WEIGHTS), classifier.trainable()
    if {name: value.shape for name, value in tuned.items()} != {name: value.shape for name, value in weights.items()}:
        raise ModelError(f"{folder / WEIGHTS}: the weights do not fit this base.")
    with torch.no_grad():
        for name, value in tuned.items():
            value.copy_(weights[name])


def read_adapter(classifier: Classifier, folder: Path, *, name: str = "default") -> None:
    """Puts what write_adapter left in the folder into the classifier, its adapter under peft's `name`.

    Raises ModelError where it does not fit.
    """
    peft = require("peft", extra="train", work=WORK)
    safetensors = require("safetensors.torch", extra="train", work=WORK)
    if is_adapted(classifier):
        values = {name: value.float() for name, value in safetensors.load_file(folder / ADAPTER).items()}
        with quiet():
            own = peft.get_peft_model_state_dict(classifier.encoder, adapter_name=name)
            if {name: value.shape for name, value in own.items()} != {n: v.shape for n, v in values.items()}:
                odd = sorted(set(own) ^ set(values)) or [n for n in own if own[n].shape != values[n].shape]
                raise ModelError(f"{folder}: the adapter does not fit this base; {len(odd)} tensors, first {odd[0]}.")
            peft.set_peft_model_state_dict(classifier.encoder, values, adapter_name=name)
    if classifier.head is not None:
        values = {name: value.float() for name, value in safetensors.load_file(folder / HEAD).items()}
        own = classifier.head.state_dict()
        if {name: value.shape for name, value in own.items()} != {n: v.shape for n, v in values.items()}:
            raise ModelError(f"{folder / HEAD}: the head does not fit this base.")
        classifier.head.load_state_dict(values)


def load_tuned(folder: Path, checkpoint: Path, *, head: Head | None = None, device: str = "cpu") -> Classifier:
    """The finished classifier, in full precision, dropout off: the base of `folder` with what write_tuned left in
    `checkpoint`, merged where the method can be merged, else (prefix, prompt) with its adapter.

    Raises ModelError where the two do not fit.
    """
    classifier = load_adapted(folder, checkpoint, head=head, device=device)
    if hasattr(classifier.encoder, "merge_and_unload"):
        classifier = replace(classifier, encoder=merge_into_base(classifier.encoder))
    classifier.train(False)
    return classifier


def load_adapted(folder: Path, checkpoint: Path, *, head: Head | None = None, device: str = "cpu") -> Classifier:
    """As load_tuned, with the adapter apart from the base, so that it can be switched off."""
    head = Head() if head is None else head
    peft = require("peft", extra="train", work=WORK)
    safetensors = require("safetensors.torch", extra="train", work=WORK)
    full = (checkpoint / WEIGHTS).is_file()
    module = load_base(folder, kind=head.kind, method="full" if full else "lora", device=device)
    hidden, pad = module.config.get_text_config().hidden_size, module.config.get_text_config().pad_token_id
    if full:  # all of it, or a frozen base's own head alone
        names = set(safetensors.load_file(checkpoint / WEIGHTS))
        for name, value in module.named_parameters():
            value.requires_grad_(f"encoder.{name}" in names)
    if (checkpoint / ADAPTER_CONFIG).is_file():
        with quiet():
            module = peft.get_peft_model(module, peft.PeftConfig.from_pretrained(str(checkpoint)))
    classifier = Classifier(
        module,
        make_head(hidden, head.kind).to(device) if head.kind in ("mean", "last") else None,
        kind=head.kind,
        order=read_order(str(folder), folder, head.label_map) if head.kind == "own" else (0, 1, 2),
        pad=pad or 0,
    )
    read_tuned(classifier, checkpoint)
    classifier.train(False)
    return classifier


def merge_into_base(wrapped: Any) -> Any:
    """The module of a peft model with its adapter added to its weights.

    Raises ModelError for a quantised base: merging would round the sum again, and merges garbage where NF4 weights were
    repacked; and for prefix and prompt, whose tokens stand in no weight of the base.
    """
    bitsandbytes = require("bitsandbytes", extra="train", work="QLoRA")
    quantised = (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt)
    if any(isinstance(part, quantised) for part in wrapped.modules()):
        raise ModelError("merge: the base is quantised; merge the adapter into the full-precision base instead.")
    if wrapped.peft_config["default"].is_prompt_learning:
        raise ModelError("merge: prefix and prompt tokens stand before the text, in no weight that could hold them.")
    with quiet():
        return wrapped.merge_and_unload()
