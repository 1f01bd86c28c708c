"""A base with what reads the label off it: a new linear layer, its own head, or its next word."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finsignal.errors import ModelError, require
from finsignal.sentiment.recipe import Head, Tuning
from finsignal.sentiment.tuning.bases import NF4, WORK, keep_unpacked, load_base, quiet, read_order
from finsignal.tables import LABELS


@dataclass(frozen=True)
class Classifier:
    """A base (torch module, perhaps wrapped by peft) and its head (torch Linear, hidden size to 3, or None).

    kind: as in recipe.Head. order: the base's own output for each of LABELS. first_tokens: of the answers, in that
    order. pad: what shorter rows are filled with, always masked. arithmetic: torch dtype of the forward, "" for that of
    the weights.
    """

    encoder: Any
    head: Any
    head_dropout: float = 0.0
    kind: str = "mean"
    order: tuple[int, int, int] = (0, 1, 2)
    first_tokens: tuple[int, ...] = ()
    pad: int = 0
    arithmetic: str = ""

    @property
    def device(self) -> Any:
        """Where its tensors are."""
        return next(self.encoder.parameters()).device

    def cast(self) -> Any:
        """The context in which a forward computes in `arithmetic`."""
        torch = require("torch", extra="train", work=WORK)
        dtype = getattr(torch, self.arithmetic or "bfloat16")
        return torch.autocast(self.device.type, dtype, enabled=bool(self.arithmetic))

    def logits(self, ids: Any, mask: Any) -> Any:
        """Logits in the order of LABELS, float32 (batch, 3), from token ids and mask, int64 (batch, length)."""
        if self.kind == "own":
            with self.cast():
                found = self.encoder(input_ids=ids, attention_mask=mask).logits
            return found.float()[:, list(self.order)]
        if self.kind == "words":
            from finsignal.sentiment.tuning.instruct import word_logits

            with self.cast():
                return word_logits(self.encoder, ids, mask, self.first_tokens).float()
        return self.read(self.pool(ids, mask))

    def pool(self, ids: Any, mask: Any) -> Any:
        """What a new head reads, float32 (batch, hidden): the mean over the tokens, or the last token's state."""
        torch = require("torch", extra="train", work=WORK)
        with self.cast():
            hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        hidden = hidden[:, hidden.shape[1] - ids.shape[1] :].float()  # without the tokens that prompt tuning prepends
        if self.kind == "last":
            return hidden[torch.arange(len(ids), device=hidden.device), mask.sum(dim=1) - 1]
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1)

    def read(self, pooled: Any) -> Any:
        """Logits, float32 (batch, 3), of pooled states (batch, hidden)."""
        torch = require("torch", extra="train", work=WORK)
        return self.head(torch.nn.functional.dropout(pooled, self.head_dropout, training=self.head.training))

    def train(self, on: bool) -> None:
        """Switches dropout of base and head on or off."""
        self.encoder.train(on)
        if self.head is not None:
            self.head.train(on)

    def trainable(self) -> dict[str, Any]:
        """The tensors that training changes, by name: those of the base that ask for it, and those of the head."""
        found = {f"encoder.{name}": value for name, value in self.encoder.named_parameters() if value.requires_grad}
        head = {} if self.head is None else dict(self.head.named_parameters())
        return {**found, **{f"head.{name}": value for name, value in head.items()}}

    def to_batch(self, ids: list[list[int]]) -> tuple[Any, Any]:
        """Token ids padded on the right to the longest row, and their mask, int64 (batch, length), on its device."""
        padded, mask = to_batch(ids, pad=self.pad)
        return padded.to(self.device), mask.to(self.device)


def make_head(hidden: int, kind: str) -> Any:
    """A new linear head; without bias over a last token, as transformers has it."""
    torch = require("torch", extra="train", work=WORK)
    return torch.nn.Linear(hidden, len(LABELS), bias=kind == "mean")


def make_classifier(
    folder: Path, tuning: Tuning, *, base_name: str, head: Head | None = None, steps: int = 1, device: str = "cpu"
) -> Classifier:
    """A fresh classifier of the seed: the base, with what the method adds to it or allows to change, and its head.

    steps: of the optimiser in the whole training, which adalora needs to know.
    """
    torch = require("torch", extra="train", work=WORK)
    from finsignal.sentiment.tuning.methods import add_adapter

    head = Head() if head is None else head
    module = load_base(folder, kind=head.kind, method=tuning.method, device=device, precision=tuning.precision)
    config = module.config.get_text_config()
    hidden, pad = config.hidden_size, getattr(config, "pad_token_id", None)
    if head.kind == "own" and pad is None:
        raise ModelError(
            f"{base_name}: its config names no pad token, by which its own head finds the end of a text. Use a head of "
            "kind 'last', which needs none, or name one (pad_token_id) in the config of a copy."
        )
    if tuning.checkpointing:
        module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        module.config.use_cache = False
    torch.manual_seed(tuning.seed)
    with quiet():
        module = add_adapter(module, tuning, kind=head.kind, steps=steps, base_name=base_name)
    arithmetic = to_arithmetic(tuning)
    # An own head copied from a bfloat16 base (on a GPU) would be tuned in bfloat16, which rounds small updates away.
    for value in module.parameters():
        if value.requires_grad and value.dtype in (torch.bfloat16, torch.float16):
            arithmetic = arithmetic or str(value.dtype).removeprefix("torch.")
            value.data = value.data.float()
    if tuning.method in NF4:
        keep_unpacked(module)
    return Classifier(
        module,
        make_head(hidden, head.kind).to(device) if head.kind in ("mean", "last") else None,
        tuning.head_dropout,
        head.kind,
        read_order(base_name, folder, head.label_map) if head.kind == "own" else (0, 1, 2),
        pad=pad or 0,
        arithmetic=arithmetic,
    )


def to_arithmetic(tuning: Tuning) -> str:
    """The dtype of the forward pass by name, "" where it is that of the weights."""
    if not tuning.precision:
        return "bfloat16" if tuning.method == "full" else ""
    return "" if tuning.precision == "float32" else tuning.precision


def to_batch(ids: list[list[int]], *, pad: int = 0) -> tuple[Any, Any]:
    """Token ids padded with `pad` on the right to the longest row, and their mask, int64 tensors (batch, length)."""
    torch = require("torch", extra="train", work=WORK)
    length = max(len(row) for row in ids)
    padded = np.full((len(ids), length), pad, dtype=np.int64)
    mask = np.zeros((len(ids), length), dtype=np.int64)
    for number, row in enumerate(ids):
        padded[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return torch.from_numpy(padded), torch.from_numpy(mask)
