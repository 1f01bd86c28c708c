"""A model folder of kind "torch": what tuning changed of a base, put on that very base again, and scored.

A text's probabilities never depend on its neighbours: nothing is padded, for only texts of as many tokens share a
batch; and on the CPU each runs by itself, bit for bit the same. A GPU gets batches of one size, filled up by a row
again, so that the same kernels run whatever is asked beside a text.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finsignal.errors import ModelError, require
from finsignal.sentiment.folder import to_order
from finsignal.sentiment.joining import (
    PEFT,
    PRECISIONS,
    WORK,
    add_heads,
    fill,
    find_base_of,
    load_classifier_of,
    read_folder,
    read_peft,
    telling,
    to_prompt,
)
from finsignal.sentiment.score import Model, show_bar

if TYPE_CHECKING:
    from finsignal.sentiment.tuning.instruct import Prompt

ROWS = {"cpu": 1, "cuda": 16}  # of one forward pass
EMPTY = (-1e4, 0.0, -1e4)  # logits of a text of which the tokenizer leaves nothing: surely neutral
NOT_SCORING = ("README.md", "training.json")


@dataclass(frozen=True)
class TunedModel(Model):
    """A loaded folder of kind "torch"; `session` is its tuning.heads.Classifier, which several models may share.

    precision: of the base's weights, float32, bfloat16, nf4 or int8; `digest` and `name` tell them apart, for they do
    not give quite the same. prompt: what a head of words reads around a text, else None. adapter: peft's name for it on
    a shared base. lock: held while the base has this adapter on.
    """

    precision: str = "float32"
    prompt: Prompt | None = field(default=None, repr=False, compare=False)
    adapter: str = field(default="default", repr=False, compare=False)
    lock: Any = field(default_factory=threading.RLock, repr=False, compare=False)

    def encode(self, pair: str | tuple[str, str]) -> list[int]:
        """The token ids of a cleaned text, or of a text and its target: those of training."""
        if self.prompt is None:
            return list(self.tokenizer.encode(*([pair] if isinstance(pair, str) else pair)).ids)
        from finsignal.sentiment.tuning.instruct import encode_prompt

        text, target = (pair, "") if isinstance(pair, str) else pair
        return encode_prompt(self.tokenizer, self.prompt, text, target)

    def _run(self, pairs: list[str | tuple[str, str]], *, progress: bool) -> np.ndarray:
        torch = require("torch", extra="train", work=WORK)
        rows = [self.encode(pair) for pair in pairs]
        known = self.session.encoder.get_input_embeddings().weight.shape[0]
        largest = max((max(row) for row in rows if row), default=0)
        if largest >= known:
            raise ModelError(f"{self.name}: its tokenizer gives token {largest}, but the base knows {known} tokens.")
        out = np.tile(EMPTY, (len(rows), 1))
        device = self.session.device
        with show_bar(len(rows), progress) as bar, self.switched_on(), torch.inference_mode():
            for batch in to_batches([len(row) for row in rows], ROWS.get(device.type, ROWS["cuda"])):
                ids = torch.tensor([rows[row] for row in batch], device=device)
                if ids.shape[1]:
                    out[batch] = self.session.logits(ids, torch.ones_like(ids)).double().cpu().numpy()
                bar.update(len(set(batch)))
        if not np.isfinite(out).all():
            raise ModelError(f"{self.name}: it gives logits that are not finite; its weights or base are damaged.")
        return out[:, list(self.order)]

    @contextlib.contextmanager
    def switched_on(self) -> Iterator[None]:
        """While it lasts, the base has this model's adapter on, and no other model of that base runs."""
        with self.lock:
            encoder = self.session.encoder
            if hasattr(encoder, "peft_config") and encoder.active_adapter != self.adapter:
                encoder.set_adapter(self.adapter, inference_mode=True)
            yield


def to_batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Row numbers in batches of one length and of `size` rows each, the last row again where there are too few."""
    order = np.argsort(np.array(lengths, dtype=np.int64), kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(np.array(lengths)[order])) + 1):
        for start in range(0, len(part), size):
            batch = part[start : start + size].tolist()
            yield batch + batch[-1:] * (size - len(batch))


def load_tuned_model(
    folder: Path | str,
    *,
    label_map: Mapping[str, str] | None = None,
    base: Path | str | None = None,
    device: str = "",
    quantised: bool = False,
) -> TunedModel:
    """The model of a folder whose card has kind "torch", on its base, dropout off.

    The base is the card's (a folder, a hub id, or package: and a name), or `base` in its place, and must have the
    weights that the card names by SHA-256. device: "cpu", "cuda", or without one a GPU where there is one. The base is
    float32 on the CPU, bfloat16 on a GPU (float32 where all of its weights were tuned), or, where `quantised`, as it
    was in training (qlora: NF4, lora_8bit: INT8).

    Raises ModelError where the folder is no such model, a file is missing or altered, the base cannot be had or is
    another one, or the tensors do not fit it.
    """
    folder = Path(folder)
    card, words = read_folder(folder)
    below = find_base_of(folder, card, base)
    classifier = load_classifier_of(folder, card, below, words, device=device, quantised=quantised)
    return _to_model(folder, card, classifier, words, label_map, quantised=quantised)


def load_adapters(
    folders: Iterable[Path | str], *, base: Path | str | None = None, device: str = "", quantised: bool = False
) -> dict[str, TunedModel]:
    """The models of several folders by name, all on ONE base, which is loaded once; each scores as if loaded alone.

    Their calls may come in any order; one runs at a time. Arguments as for load_tuned_model. Raises ModelError as it
    does, and where the folders do not share base, kind of peft adapter and class of model, or one has no adapter.
    """
    from finsignal.sentiment.tuning.bases import quiet

    models: dict[str, TunedModel] = {}
    first: tuple[Path, dict[str, Any], TunedModel] | None = None
    for number, folder in enumerate(map(Path, folders)):
        card, words = read_folder(folder)
        if card["method"] not in PEFT:
            raise ModelError(f"{folder}: method {card['method']!r} leaves no adapter to swap; load it by itself.")
        if first is None:
            below = find_base_of(folder, card, base)
            shared = load_classifier_of(folder, card, below, words, device=device, quantised=quantised)
            model = _to_model(folder, card, shared, words, None, quantised=quantised)
            first = folder, card, model
        else:
            _check_sharing(folder, card, first[0], first[1], quantised=quantised)
            name = f"tuned{number}"  # AdaLoRA looks for an adapter's name as a part of other names
            own = add_heads(folder, card, first[2].session.encoder, below, words)
            with telling(folder), quiet():
                own.encoder.add_adapter(name, read_peft(folder, card))
                fill(own, folder, card, name=name)
            own.train(False)
            model = _to_model(folder, card, own, words, None, quantised=quantised)
            model = replace(model, adapter=name, lock=first[2].lock)
        models[model.name] = model
    return models


def merge_tuned(folder: Path | str, out: Path | str, *, base: Path | str | None = None) -> Path:
    """The folder `out` of plain transformers, with what was tuned in the weights: float32, safetensors, tokenizer.

    A head over the last token becomes the one that transformers has for such models, with the labels in the config; one
    over the mean, for which it has none, lies beside the weights as head.safetensors. Scores differ from those of the
    adapter by rounding alone.

    Raises ModelError as load_tuned_model does, where `out` exists, and for prefix and prompt, whose tokens stand in no
    weight.
    """
    from finsignal.sentiment import hub
    from finsignal.sentiment.tuning.adapters import HEAD, is_adapted, merge_into_base
    from finsignal.sentiment.tuning.bases import quiet

    safetensors = require("safetensors.torch", extra="train", work=WORK)
    folder, out = Path(folder), Path(out)
    if out.exists():
        raise ModelError(f"{out}: exists already. Nothing was merged; choose another folder or remove it.")
    card, words = read_folder(folder)
    below = find_base_of(folder, card, base)
    classifier = load_classifier_of(folder, card, below, words, device="cpu", quantised=False)
    module = merge_into_base(classifier.encoder) if is_adapted(classifier) else classifier.encoder
    whole = _to_whole(module, classifier.head, card["labels"]) if classifier.kind == "last" else None
    unfinished = out.with_name(out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with quiet():
        (module if whole is None else whole).save_pretrained(unfinished)
    if classifier.head is not None and whole is None:
        values = {name: value.detach().contiguous() for name, value in classifier.head.state_dict().items()}
        safetensors.save_file(values, unfinished / HEAD)
    for name in (*hub.VOCABULARIES, *hub.SETTINGS, "chat_template.jinja"):
        if name != hub.CONFIG and (below / name).is_file():
            shutil.copyfile(below / name, unfinished / name)
    unfinished.replace(out)
    return out


def _to_whole(module: Any, head: Any, labels: Sequence[str]) -> Any:
    """transformers' own classifier of a base module and a head over its last token; None where it has no such class."""
    torch = require("torch", extra="train", work=WORK)
    transformers = require("transformers", extra="train", work=WORK)
    config = type(module.config).from_dict(
        module.config.to_dict()
        | {"id2label": dict(enumerate(labels)), "label2id": {label: code for code, label in enumerate(labels)}}
    )
    try:
        with torch.device("meta"):
            whole = transformers.AutoModelForSequenceClassification.from_config(config)
    except ValueError:  # of this architecture there is none
        return None
    empty: Any = getattr(whole, "score", None)
    if type(empty) is not torch.nn.Linear or empty.bias is not None:
        return None
    setattr(whole, whole.base_model_prefix, module)
    whole.score = head
    return whole


def _to_model(
    folder: Path,
    card: dict[str, Any],
    classifier: Any,
    words: Any,
    label_map: Mapping[str, str] | None,
    *,
    quantised: bool,
) -> TunedModel:
    prompt = to_prompt(folder, card) if card["head"]["kind"] == "words" else None
    whole = str(next(classifier.encoder.parameters()).dtype).removeprefix("torch.")
    precision = PRECISIONS[card["method"]] if quantised else whole
    settings = {
        "files": {name: digest for name, digest in card["files"].items() if name not in NOT_SCORING},
        "base": card["base"]["sha256"],
        "prompt": None if prompt is None else asdict(prompt),
        "target_aware": card.get("target_aware", False),
        "precision": precision,
        **{key: card[key] for key in ("kind", "method", "head", "labels", "max_tokens", "temperature")},
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return TunedModel(
        name=f"{card['name']}@{digest[:12]}",
        temperature=float(card["temperature"]),
        card=card,
        order=to_order([str(name) for name in card["labels"]], label_map, folder),
        session=classifier,
        tokenizer=words,
        digest=digest,
        precision=precision,
        prompt=prompt,
    )


def _check_sharing(
    folder: Path, card: Mapping[str, Any], other: Path, first: Mapping[str, Any], *, quantised: bool
) -> None:
    from finsignal.sentiment.tuning.bases import CLASSES

    def shared(card: Mapping[str, Any]) -> dict[str, str]:
        found = {
            "base": card["base"]["sha256"],
            "adapter": PEFT[card["method"]],
            "class": CLASSES[card["head"]["kind"]],
        }
        return found | ({"quantised as": PRECISIONS.get(card["method"], "not at all")} if quantised else {})

    for what, found in shared(card).items():
        if found != shared(first)[what]:
            raise ModelError(
                f"{folder}: its {what} is {found}; that of {other} is {shared(first)[what]}. They cannot share one "
                "loaded base; load them apart."
            )
