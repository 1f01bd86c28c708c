"""The torch half: a pretrained encoder, NF4 or full, with LoRA on every linear layer, mean pooling and a linear head.

bitsandbytes (0.49 to 0.50.2 at least) has two silent failures on CPUs with AVX512-BF16, both from one cause: a forward
without gradients repacks each NF4 weight in place and nothing undoes it. Training on after an evaluation then loses the
gradient through the base, and dequantising or merging gives garbage. `keep_unpacked` takes the cause away,
`check_unpacked` refuses to go on where it came back, and `merge` starts from the full-precision base.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finsignal.errors import ModelError, require
from finsignal.sentiment.recipe import Base, Tuning
from finsignal.tables import LABELS

WORK = "training a sentiment model"
PACKAGE = "package:"
WEIGHTS = "weights.safetensors"  # of a fully tuned model, in its checkpoints


@dataclass(frozen=True)
class Classifier:
    """An encoder (torch module, perhaps wrapped by peft) and its head (torch Linear, hidden size to 3)."""

    encoder: Any
    head: Any
    head_dropout: float = 0.0
    half: bool = False  # bfloat16 arithmetic on float32 weights

    def logits(self, ids: Any, mask: Any) -> Any:
        """Logits in the order of LABELS, float32 (batch, 3), from token ids and mask, int64 (batch, length)."""
        torch = require("torch", extra="train", work=WORK)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state  # (batch, length, hidden)
        hidden = hidden.float()
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        return self.head(torch.nn.functional.dropout(pooled, self.head_dropout, training=self.head.training))

    def train(self, on: bool) -> None:
        """Switches dropout of encoder and head on or off."""
        self.encoder.train(on)
        self.head.train(on)

    def trainable(self) -> dict[str, Any]:
        """The tensors that training changes, by name: LoRA of the encoder, weight and bias of the head."""
        found = {f"encoder.{name}": value for name, value in self.encoder.named_parameters() if value.requires_grad}
        return {**found, **{f"head.{name}": value for name, value in self.head.named_parameters()}}


def find_base(base: Base) -> Path:
    """The folder of the base model, its model.safetensors checked against the recipe's digest.

    Raises ModelError where files are missing or the digest differs, MissingExtraError where the package that holds
    the model is not installed. Weights are read from safetensors only, never from pickles.
    """
    if base.model.startswith(PACKAGE):
        module = require(base.model.removeprefix(PACKAGE), extra="train", work=f"the base model {base.model}")
        folder = Path(str(module.__file__)).parent / "model"
    elif Path(base.model).is_dir():
        folder = Path(base.model)
    else:
        hub = require("huggingface_hub", extra="train", work=WORK)
        try:
            folder = Path(hub.snapshot_download(base.model, allow_patterns=["*.json", "*.safetensors"]))
        except (OSError, ValueError, RuntimeError) as err:
            raise ModelError(f"base {base.model!r}: neither a folder, nor could the hub send it ({err}).") from err
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(f"base {base.model!r}: no file {name} in {folder}; pickled weights are never loaded.")
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if base.sha256 and found != base.sha256:
        raise ModelError(f"base {base.model!r}: model.safetensors has SHA-256 {found}; expected {base.sha256}.")
    return folder


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the progress bars and deprecations that the training packages write about one another."""
    logging = require("transformers.utils.logging", extra="train", work=WORK)
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def load_encoder(folder: Path, *, nf4: bool) -> Any:
    """The encoder of a base folder without its pooler: float32, or NF4, doubly quantised, computing in bfloat16."""
    torch = require("torch", extra="train", work=WORK)
    transformers = require("transformers", extra="train", work=WORK)
    options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    if nf4:
        require("bitsandbytes", extra="train", work="QLoRA")
        options |= {
            "device_map": "cpu",
            "quantization_config": transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            ),
        }
    else:
        options["attn_implementation"] = "eager"  # the only one that the ONNX exporter traces for any length
    with quiet():
        encoder = transformers.AutoModel.from_pretrained(folder, **options)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # mean pooling does not use it, and LoRA shall not tune what nothing reads
    if nf4:
        keep_unpacked(encoder)
        full = [name for name, part in encoder.named_modules() if type(part) is torch.nn.Linear]
        if full:
            raise ModelError(f"base {folder}: {len(full)} linear layers were left unquantised, first {full[0]!r}.")
    return encoder


def nf4_layers(encoder: Any) -> list[Any]:
    """The NF4 layers of an encoder, also inside peft's wrappers."""
    bitsandbytes = require("bitsandbytes", extra="train", work="QLoRA")
    return [part for part in encoder.modules() if isinstance(part, bitsandbytes.nn.Linear4bit)]


def keep_unpacked(encoder: Any) -> None:
    """Forbids every NF4 layer to repack its weight in a forward without gradients."""
    for layer in nf4_layers(encoder):
        layer.support_avx512bf16_for_cpu = False


def check_unpacked(encoder: Any) -> None:
    """Raises ModelError where an NF4 weight was repacked, for it can neither be trained on nor read any more."""
    for number, layer in enumerate(nf4_layers(encoder)):
        if getattr(layer.weight.quant_state, "packing_format_for_cpu", False):
            raise ModelError(
                f"NF4 layer {number}: its weight was repacked for inference, so gradients through it are lost. "
                "Call keep_unpacked before the first forward."
            )


def make_classifier(folder: Path, tuning: Tuning, *, base_name: str) -> Classifier:
    """A fresh classifier of the seed: LoRA on every linear layer of the base, or, by the method "full", every weight of
    it to be tuned; a random head in full precision."""
    torch = require("torch", extra="train", work=WORK)
    if tuning.method == "full":
        encoder = load_encoder(folder, nf4=False)
        torch.manual_seed(tuning.seed)
        head = torch.nn.Linear(encoder.config.hidden_size, len(LABELS))
        return Classifier(encoder, head, tuning.head_dropout, half=True)
    peft = require("peft", extra="train", work=WORK)
    encoder = load_encoder(folder, nf4=tuning.method == "qlora")
    linear = sum(isinstance(part, torch.nn.Linear) for part in encoder.modules())
    torch.manual_seed(tuning.seed)
    settings = peft.LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=tuning.lora_dropout,
        target_modules="all-linear",
        bias="none",
        task_type="FEATURE_EXTRACTION",
    )
    with quiet():
        wrapped = peft.get_peft_model(encoder, settings)
    wrapped.peft_config["default"].base_model_name_or_path = base_name
    tuned = sum(name.endswith("lora_A.default.weight") for name, _ in wrapped.named_parameters())
    if tuned != linear:
        raise ModelError(f"LoRA: {tuned} of {linear} linear layers were found; all of them must be tuned.")
    if tuning.method == "qlora":
        keep_unpacked(wrapped)
    head = torch.nn.Linear(encoder.config.hidden_size, len(LABELS))
    return Classifier(wrapped, head, tuning.head_dropout)


def write_adapter(classifier: Classifier, folder: Path) -> None:
    """Writes the LoRA in peft's own layout, and the head beside it, as float16 safetensors.

    float16 halves what ships, and costs nothing, for merging starts from these files: what ships is what was merged.
    """
    torch = require("torch", extra="train", work=WORK)
    peft = require("peft", extra="train", work=WORK)
    safetensors = require("safetensors.torch", extra="train", work=WORK)
    lora = peft.get_peft_model_state_dict(classifier.encoder)
    half = {name: value.detach().to(torch.float16).contiguous() for name, value in lora.items()}
    safetensors.save_file(half, folder / "adapter_model.safetensors")
    head = {name: value.detach().to(torch.float16) for name, value in classifier.head.state_dict().items()}
    safetensors.save_file(head, folder / "head.safetensors")
    config = classifier.encoder.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(folder)
    config.inference_mode = False


def write_weights(classifier: Classifier, folder: Path) -> None:
    """Writes every weight of a fully tuned classifier, float32, as safetensors."""
    safetensors = require("safetensors.torch", extra="train", work=WORK)
    weights = {name: value.detach().contiguous() for name, value in classifier.trainable().items()}
    safetensors.save_file(weights, folder / WEIGHTS)


def load_tuned(folder: Path, checkpoint: Path) -> Classifier:
    """The finished classifier, float32, dropout off: the base of `folder` with what write_weights or write_adapter
    left in `checkpoint`."""
    if not (checkpoint / WEIGHTS).is_file():
        return merge(folder, checkpoint)
    torch = require("torch", extra="train", work=WORK)
    encoder = load_encoder(folder, nf4=False)
    classifier = Classifier(encoder, torch.nn.Linear(encoder.config.hidden_size, len(LABELS)))
    read_weights(classifier, checkpoint)
    classifier.train(False)
    return classifier


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


def merge(folder: Path, adapter: Path) -> Classifier:
    """The full-precision base of `folder` with the adapter written by write_adapter merged in, float32, dropout off."""
    torch = require("torch", extra="train", work=WORK)
    peft = require("peft", extra="train", work=WORK)
    safetensors = require("safetensors.torch", extra="train", work=WORK)
    encoder = load_encoder(folder, nf4=False)
    with quiet():
        wrapped = peft.get_peft_model(encoder, peft.LoraConfig.from_pretrained(adapter))
        lora = safetensors.load_file(adapter / "adapter_model.safetensors")
        result = peft.set_peft_model_state_dict(wrapped, {name: value.float() for name, value in lora.items()})
    if result.unexpected_keys or len(lora) != len(peft.get_peft_model_state_dict(wrapped)):
        raise ModelError(f"{adapter}: the adapter does not fit the base in {folder}.")
    merged = merge_into_base(wrapped)
    values = {name: value.float() for name, value in safetensors.load_file(adapter / "head.safetensors").items()}
    head = torch.nn.Linear(values["weight"].shape[1], values["weight"].shape[0])
    head.load_state_dict(values)
    classifier = Classifier(merged, head)
    classifier.train(False)
    return classifier


def merge_into_base(wrapped: Any) -> Any:
    """The encoder of a peft model with LoRA added to its weights.

    Raises ModelError for an NF4 base: merging would round the sum to 16 levels again, and merges garbage where the
    weights were repacked.
    """
    bitsandbytes = require("bitsandbytes", extra="train", work="QLoRA")
    if any(isinstance(part, bitsandbytes.nn.Linear4bit) for part in wrapped.modules()):
        raise ModelError("merge: the base is NF4; merge the adapter into the full-precision base instead.")
    with quiet():
        return wrapped.merge_and_unload()


def load_tokenizer(path: Path, max_tokens: int) -> Any:
    """The tokenizer of a tokenizer.json, cutting at max_tokens and padding nothing."""
    tokenizers = require("tokenizers", extra="train", work=WORK)
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def to_batch(ids: list[list[int]]) -> tuple[Any, Any]:
    """Token ids padded with 0 to the longest row, and their mask, int64 tensors (batch, length)."""
    torch = require("torch", extra="train", work=WORK)
    length = max(len(row) for row in ids)
    padded = np.zeros((len(ids), length), dtype=np.int64)
    mask = np.zeros((len(ids), length), dtype=np.int64)
    for number, row in enumerate(ids):
        padded[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return torch.from_numpy(padded), torch.from_numpy(mask)
