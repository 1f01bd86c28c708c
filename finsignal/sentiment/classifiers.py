"""A published transformers classifier, whole or a PEFT adapter, as a model that evaluation can use.

No code of a repository is run. What goes wrong elsewhere without a word is refused or avoided here: labels in another
order than expected; a head that is in no file and therefore random; the pad token of a causal model, by which
transformers finds the last token; and padding itself: only texts of equal length share a batch, so nothing is padded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from finsignal.errors import ConfigError, ModelError, TableError, require
from finsignal.sentiment import hub
from finsignal.sentiment.calibrate import softmax
from finsignal.sentiment.prompt import clean
from finsignal.sentiment.score import CARD, LABELS, NOTHING, Model, load_model
from finsignal.sentiment.tuning.bases import quiet

WORK = hub.WORK
LONGEST = 512  # tokens read where nobody says otherwise: news and posts are shorter, and time grows with the square
BATCH_TOKENS = 4096
HEAD = re.compile(r"\.(score|classifier|classifier\.out_proj|classification_head\.out_proj|logits_proj)\.weight$")
CANNOT_LOAD = (AttributeError, ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class PublishedClassifier:
    """A loaded torch classifier, float32 on the CPU.

    name: hub id or folder name, @, and the first 12 digits of `digest`, a SHA-256 over all that decides a probability
    (weights, configs, tokenizer, the meaning of each output, cut length). outputs: the published name of each output,
    in the order of the outputs; means: which of LABELS each was read as. base: what an adapter was put on, else None.
    """

    name: str
    outputs: tuple[str, ...]
    means: tuple[str, ...]
    max_tokens: int
    base: str | None
    digest: str = field(repr=False)
    model: Any = field(repr=False, compare=False)
    tokenizer: Any = field(repr=False, compare=False)
    target_aware: bool = False

    def describe(self) -> dict[str, Any]:
        """What was found, ready for JSON: name, architecture, base, size, cut length, and the label of each output."""
        outputs = zip(self.outputs, self.means, strict=True)
        return {
            "name": self.name,
            "digest": self.digest,
            "architecture": type(self.model if self.base is None else self.model.get_base_model()).__name__,
            "base": self.base,
            "parameters": sum(value.numel() for value in self.model.parameters()),
            "max_tokens": self.max_tokens,
            "labels": [{"id": code, "published": name, "label": mean} for code, (name, mean) in enumerate(outputs)],
        }

    def predict_proba(
        self, texts: Iterable[str], targets: Iterable[str] | None = None, *, progress: bool = False
    ) -> np.ndarray:
        """Probabilities, float64 (n, 3), rows sum to 1, columns in the order of LABELS; outputs of one label are added.

        As with score.Model, each text is cleaned and cut at max_tokens, and one with nothing left is neutral with
        probability 1. targets are ignored. A text's neighbours move its probabilities by rounding alone, below 1e-5.

        Raises TableError where an element is not text or the targets are not as many, ModelError where tokenizer and
        model do not belong together or a logit is not finite.
        """
        texts = list(texts)
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise TableError(
                    f"texts: row {row} is {type(text).__name__}; expected text. Fill missing text with ''."
                )
        asked = len(texts) if targets is None else len(list(targets))
        if asked != len(texts):
            raise TableError(f"targets: {asked} for {len(texts)} texts; expected one for each, '' for none.")
        cleaned = [clean(text) for text in texts]
        filled = [row for row, text in enumerate(cleaned) if text]
        out = np.tile(NOTHING, (len(texts), 1))
        if filled:
            logits = self._run([cleaned[row] for row in filled], progress=progress)
            meaning = np.array([[mean == label for label in LABELS] for mean in self.means], dtype=np.float64)
            read = np.isfinite(logits).all(axis=1)
            out[np.array(filled)[read]] = softmax(logits[read]) @ meaning
        return out

    def _run(self, texts: list[str], *, progress: bool) -> np.ndarray:
        """Logits (n, outputs), float64; NaN where the tokenizer leaves nothing of a text."""
        torch = require("torch", extra="train", work=WORK)
        from tqdm import tqdm

        out = np.full((len(texts), len(self.outputs)), np.nan)
        bar = tqdm(total=len(texts), desc="scoring", unit="text", disable=not progress)
        with bar, _silent(), torch.inference_mode():
            found = self.tokenizer(texts, truncation=True, max_length=self.max_tokens, padding=False)
            lengths = [len(row) for row in found["input_ids"]]
            largest = max((max(row) for row in found["input_ids"] if row), default=0)
            known = self.model.get_input_embeddings().weight.shape[0]
            if largest >= known:
                raise ModelError(
                    f"{self.name}: its tokenizer gives token {largest}, but the model knows {known} tokens; "
                    "they do not belong together."
                )
            for rows in _batches(lengths):
                if lengths[rows[0]]:
                    batch = {key: torch.tensor([found[key][row] for row in rows]) for key in found}
                    out[rows] = self.model(**batch).logits.double().numpy()
                    if not np.isfinite(out[rows]).all():
                        raise ModelError(f"{self.name}: the model gives logits that are not finite.")
                bar.update(len(rows))
        return out


def load_classifier(
    name: str | Path,
    *,
    label_map: Mapping[str, str] | None = None,
    max_tokens: int | None = None,
    base: str | None = None,
) -> Model | PublishedClassifier:
    """The classifier of that name: "default", a finsignal folder, or a published one by hub id or folder.

    A hub id may name a revision: ORG/NAME@REVISION. label_map gives the meaning (negative, neutral, positive) of
    outputs by published name or by number ("0"); needed where a name is none of the three in any case of letters, and
    never against one that is. Several outputs may mean one label (five labels to three). max_tokens: without it all
    that the model can read, at most 512. base: a hub id or folder to put an adapter on instead of the one that its
    config names.

    Raises ModelError where it is none, ConfigError where max_tokens or base cannot be meant, MissingExtraError without
    the extra train.
    """
    name = str(name)
    if name == "default" or (Path(name) / CARD).is_file():
        if max_tokens is not None or base is not None:
            raise ConfigError(f"{name}: max_tokens and base are for published classifiers; its card has both already.")
        return load_model(None if name == "default" else name, label_map=label_map)
    require("torch", extra="train", work=WORK)
    with _silent():
        folder = hub.find_model(name)
        if (folder / hub.ADAPTER_CONFIG).is_file():
            return _load_adapter(name, folder, base, label_map, max_tokens)
        if base is not None:
            raise ConfigError(f"{name}: a base was given, but it has no {hub.ADAPTER_CONFIG}: it is no adapter.")
        config = hub.read_json(name, folder / hub.CONFIG)
        hub.check_config(name, config)
        outputs = hub.read_outputs(name, config)
        means = hub.read_meanings(name, outputs, label_map, config.get("label2id"))
        model, missing = _load_whole(name, folder)
        if missing:
            raise ModelError(f"{name}: its weights hold no {missing[0]}, or in another shape; it would be random.")
        return _finish(name, model, [folder], outputs, means, max_tokens)


def _load_whole(name: str, folder: Path, outputs: tuple[str, ...] | None = None) -> tuple[Any, list[str]]:
    """A classification model in float32, and which of its parameters no file holds in that shape."""
    torch = require("torch", extra="train", work=WORK)
    transformers = require("transformers", extra="train", work=WORK)
    hub.fetch_weights(name, folder)
    hub.check_memory(name, hub.read_shapes(name, hub.weight_files(name, folder)))
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if outputs is not None:
        local |= {"id2label": dict(enumerate(outputs)), "label2id": {name: code for code, name in enumerate(outputs)}}
    try:
        model, found = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation="eager",
            ignore_mismatched_sizes=True,  # reported instead, as missing
            output_loading_info=True,
            **local,
        )
    except CANNOT_LOAD as err:
        raise ModelError(f"{name}: transformers cannot load it ({type(err).__name__}: {err}).") from err
    return model, sorted(found["missing_keys"] | {key for key, *_ in found["mismatched_keys"]})


def _load_adapter(
    name: str, folder: Path, base: str | None, label_map: Mapping[str, str] | None, max_tokens: int | None
) -> PublishedClassifier:
    peft = require("peft", extra="train", work=WORK)
    safetensors = require("safetensors.torch", extra="train", work=WORK)
    settings = hub.read_json(name, folder / hub.ADAPTER_CONFIG)
    if settings.get("task_type") not in (None, "SEQ_CLS", "FEATURE_EXTRACTION"):
        raise ModelError(
            f"{name}: an adapter of task type {settings['task_type']} gives no probabilities. {hub.WHAT_WORKS}"
        )
    hub.fetch_weights(name, folder)
    shapes = hub.read_shapes(name, hub.weight_files(name, folder, adapter=True))
    below = base or str(settings.get("base_model_name_or_path") or "an unnamed base")
    try:
        base_folder = hub.find_model(below, revision=None if base else settings.get("revision"))
    except ModelError as err:
        raise ModelError(f"{name}: its base cannot be had; {err} Pass another hub id or folder as base.") from err
    config = hub.read_json(below, base_folder / hub.CONFIG)
    head = next((shape[0] for key, shape in shapes.items() if HEAD.search(key)), None)
    hub.check_config(below, config, head=head is None)
    if head is not None:  # the base's names say nothing of a head that was trained anew
        config = hub.read_json(name, folder / hub.CONFIG) if (folder / hub.CONFIG).is_file() else {}
        config = config if len(config.get("id2label") or {}) == head else {"num_labels": head}
    outputs = hub.read_outputs(name, config)
    means = hub.read_meanings(name, outputs, label_map, config.get("label2id"))
    model, missing = _load_whole(below, base_folder, outputs)
    random = [key for key in missing if key not in hub.held_tensors(shapes)]
    if random:
        raise ModelError(f"{name}: neither the adapter nor its base {below} holds {random[0]}; it would be random.")
    _resize(model, shapes)
    try:
        settings = peft.PeftConfig.from_pretrained(str(folder))
        settings.inference_mode = True
        wrapped = peft.get_peft_model(model, settings)
        result = peft.set_peft_model_state_dict(wrapped, safetensors.load_file(folder / hub.ADAPTER))
    except CANNOT_LOAD as err:
        raise ModelError(f"{name}: the adapter does not fit {below} ({type(err).__name__}: {err}).") from err
    # peft writes a prompt under another name, and AdaLoRA's count of ranks not at all.
    elsewhere = re.compile(r"^prompt_encoder\.|\.ranknum\.")
    odd = [key for key in result.missing_keys if ".default" in key and not elsewhere.search(key)]
    odd += [key for key in result.unexpected_keys if key != "prompt_embeddings"]
    if odd:
        raise ModelError(f"{name}: the adapter does not fit {below}: {len(odd)} tensors differ, first {odd[0]}.")
    return _finish(name, wrapped, [folder, base_folder], outputs, means, max_tokens, base=below)


def _resize(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Gives the model as many token embeddings as the adapter holds, where a token was added, such as a pad token."""
    inner = model.get_input_embeddings()
    name = next(name for name, part in model.named_modules() if part is inner)
    for ending in ("weight", "base_layer.weight"):
        shape = shapes.get(f"base_model.model.{name}.{ending}")
        if shape is not None and shape[0] != inner.weight.shape[0]:
            model.resize_token_embeddings(shape[0], mean_resizing=False)


def _finish(
    name: str,
    model: Any,
    folders: list[Path],
    outputs: tuple[str, ...],
    means: tuple[str, ...],
    max_tokens: int | None,
    *,
    base: str | None = None,
) -> PublishedClassifier:
    """The classifier, with the tokenizer of the first folder that has one, its pad token and its length settled."""
    transformers = require("transformers", extra="train", work=WORK)
    inner = model if base is None else model.get_base_model()
    words = next((folder for folder in folders if any((folder / file).is_file() for file in hub.VOCABULARIES)), None)
    if words is None:
        raise ModelError(f"{name}: no tokenizer beside the weights; expected one of {', '.join(hub.VOCABULARIES)}.")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            words, config=inner.config, local_files_only=True, trust_remote_code=False
        )
    except CANNOT_LOAD as err:
        raise ModelError(f"{name}: its tokenizer cannot be loaded ({type(err).__name__}: {err}).") from err
    text = inner.config.get_text_config()
    if text.pad_token_id is None:
        # transformers reads the last token that is not the pad token, and without one refuses a batch. No token is -1.
        text.pad_token_id = -1 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    model.eval()
    most = min(_positions(inner), tokenizer.model_max_length)
    if base is not None:
        most -= getattr(model.active_peft_config, "num_virtual_tokens", None) or 0
    if max_tokens is not None and not 0 < max_tokens <= most:
        raise ConfigError(f"{name}: max_tokens is {max_tokens}; expected 1 to {most}, all that it can read.")
    cut = min(most, LONGEST) if max_tokens is None else max_tokens
    files = hub.weight_files(name, folders[0], adapter=base is not None)
    files += hub.weight_files(name, folders[1]) if base is not None else []
    files += [folder / file for folder in folders for file in hub.SETTINGS if (folder / file).is_file()]
    files += [words / file for file in hub.VOCABULARIES if (words / file).is_file()]
    decided = [hub.digest_files(files), means, cut, text.pad_token_id]
    digest = hashlib.sha256(json.dumps(decided).encode()).hexdigest()
    shown = Path(name).resolve().name if Path(name).is_dir() else name.partition("@")[0]
    return PublishedClassifier(f"{shown}@{digest[:12]}", outputs, means, cut, base, digest, model, tokenizer)


def _positions(model: Any) -> int:
    """The longest text that the model has positions for. RoBERTa's count only begins after its pad token."""
    for name, part in model.named_modules():
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            return int(part.num_embeddings - part.padding_idx - 1)
    stated = getattr(model.config.get_text_config(), "max_position_embeddings", None) or -1
    return int(stated) if stated > 0 else 10**9  # XLNet says -1: any length


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers by length, the longest last, in batches of one length."""
    order = np.argsort(np.array(lengths), kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(np.array(lengths)[order])) + 1):
        size = max(1, BATCH_TOKENS // max(1, lengths[part[0]]))
        yield from (part[start : start + size].tolist() for start in range(0, len(part), size))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """As encoder.quiet, and without what is logged of random parameters, refused here, and of 4-bit kernels."""
    transformers = require("transformers.utils.logging", extra="train", work=WORK)
    quantiser = logging.getLogger("bitsandbytes")
    before = transformers.get_verbosity(), quantiser.level
    transformers.set_verbosity_error()
    quantiser.setLevel(logging.ERROR)
    try:
        with quiet():
            yield
    finally:
        transformers.set_verbosity(before[0])
        quantiser.setLevel(before[1])
