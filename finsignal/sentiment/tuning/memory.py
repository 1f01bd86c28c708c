"""The memory that a training step takes, before anything is loaded: weights counted, activations run without data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finsignal.errors import require
from finsignal.sentiment.recipe import Tuning
from finsignal.sentiment.tuning.bases import INT8, NF4, WORK
from finsignal.sentiment.tuning.heads import Classifier, to_arithmetic
from finsignal.sentiment.tuning.methods import count, empty_base, find_own_head, linear_layers, tune_base

NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # a weight; a scale of 8 bits for 64, and of 32 bits for 256 of those
SMALL = 4096  # numbers from which bitsandbytes keeps a tensor's state in 8 bits
ANSWER = 4  # tokens of an answer, whose logits over all words are kept


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the peak of a training step, without the program itself (torch and, on a GPU, its context)."""

    weights: int
    gradients: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        """All of it, bytes."""
        return self.weights + self.gradients + self.optimiser + self.activations


def estimate_memory(
    config: Any, tuning: Tuning, *, kind: str, max_tokens: int, rows_at_once: int, device: str = "cpu"
) -> MemoryEstimate:
    """The memory that a training step takes, before anything is loaded.

    config: of transformers. kind: of the head. rows_at_once: of one forward and backward, each of max_tokens tokens.

    weights: 4 bytes a number on the CPU and where all are tuned, else 2; of a linear layer's weights in NF4 4.127 bits
    (QLoRA, arXiv:2305.14314, section 3), in INT8 one byte; what an adapter adds 4 bytes. gradients: 4 bytes a tuned
    number. optimiser: 8 bytes a tuned number, 2 with 8-bit states but for tensors of fewer than 4,096 numbers; 4 for an
    average; 12 for AdaLoRA's memory. activations: all that autograd keeps of a forward for its backward, counted on the
    meta device with the whole matrix of attention, which fused kernels need not keep; for words the logits of the
    answer three times; with checkpointing the input of each layer and all of one; with a frozen base one layer.

    Rows shorter than max_tokens take less. On the CPU the process may hold twice the activations, where the C library
    keeps freed blocks (MALLOC_MMAP_THRESHOLD_=65536 in glibc ends that).
    """
    torch = require("torch", extra="train", work=WORK)
    whole = device == "cpu" or tuning.method == "full"
    half = to_arithmetic(tuning)
    size = 4 if whole else 2
    base = empty_base(config, kind, dtype="float32" if whole and not half else "bfloat16")
    numbers = sum(value.numel() for value in base.parameters())  # before peft adds to it
    weights = _count_weights(base, tuning, kind, size)
    if half and whole and tuning.method not in NF4 + INT8:
        weights += 2 * numbers  # autocast keeps a copy of what it multiplies by
    outline = tune_base(base, tuning, kind=kind, steps=1000, base_name="")
    trainable = list(outline.trainable().values())
    own = count(outline)
    added = own["total"] - numbers
    eight = tuning.optimiser != "adamw"
    state = sum(value.numel() * (2 if eight and value.numel() >= SMALL else 8) for value in trainable)
    state += own["trainable"] * (4 * bool(tuning.average) + 12 * (tuning.method == "adalora"))
    layers = getattr(config.get_text_config(), "num_hidden_layers", 1)
    hidden, words = config.get_text_config().hidden_size, config.get_text_config().vocab_size
    with _open_to_gradients(outline, tuning):
        kept = count_kept(outline, rows=rows_at_once, tokens=max_tokens)
    if tuning.method == "frozen":
        kept //= layers
    elif tuning.checkpointing:
        kept = kept // layers + layers * rows_at_once * max_tokens * hidden * torch.finfo(base.dtype).bits // 8
    if kind == "words":
        kept += 3 * rows_at_once * ANSWER * words * 4
    return MemoryEstimate(int(weights) + 4 * added, 4 * own["trainable"], state, kept)


def count_kept(outline: Classifier, *, rows: int, tokens: int) -> int:
    """Bytes that autograd keeps of a forward over rows of tokens for its backward, besides the weights."""
    torch = require("torch", extra="train", work=WORK)
    weights = {value.untyped_storage()._cdata for value in outline.encoder.parameters()}
    kept: dict[int, Any] = {}

    def keep(value: Any) -> Any:
        storage = value.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage  # held, or its place would be given to another
        return value

    ids = torch.zeros((rows, tokens), dtype=torch.int64, device=outline.device)
    options = {"logits_to_keep": 1} if outline.kind == "words" else {}
    outline.encoder.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        outline.encoder(input_ids=ids, **options)
    return sum(storage.nbytes() for storage in kept.values())


def _count_weights(base: Any, tuning: Tuning, kind: str, size: int) -> float:
    """Bytes of a base's weights as they are loaded, `size` bytes a number that is not quantised."""
    layers = set(linear_layers(base)) if tuning.method in NF4 + INT8 else set()
    head = find_own_head(base) if kind == "own" else None
    output = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    total = 0.0
    for name, value in base.named_parameters():
        layer, _, last = name.rpartition(".")
        plain = layer.split(".")[0] == head or (output is not None and value is output.weight)
        if layer not in layers or plain or last != "weight":
            total += value.numel() * size
        elif tuning.method in NF4:
            total += value.numel() * NF4_BITS / 8
        else:
            total += value.numel() + 4 * value.shape[0]
    return total


@contextlib.contextmanager
def _open_to_gradients(outline: Classifier, tuning: Tuning) -> Iterator[None]:
    """Of a frozen base, which keeps nothing for a backward, what one that is tuned would keep; others as they are."""
    if tuning.method == "frozen":
        outline.encoder.requires_grad_(True)
    yield
    if tuning.method == "frozen":
        outline.encoder.requires_grad_(False)
