"""A causal model that answers one word: the loss of its answers, the labels' logits, and what tuning changed.

prompting.py has the prompt and its tokens; their names are here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from finsignal import metrics
from finsignal.errors import ModelError, require
from finsignal.sentiment.calibrate import softmax
from finsignal.sentiment.tuning.heads import to_batch
from finsignal.sentiment.tuning.prompting import (
    IGNORED,
    WORK,
    Example,
    Prompt,
    check_answers,
    encode_prompt,
    end_tokens,
    first_tokens,
    make_prompt,
    to_example,
)
from finsignal.tables import LABELS

__all__ = [
    "Prompt",
    "before_and_after",
    "check_answers",
    "completion_loss",
    "encode_prompt",
    "end_tokens",
    "first_tokens",
    "logits_at",
    "make_prompt",
    "to_example",
    "to_figures",
    "to_lines",
    "word_logits",
]


def completion_loss(model: Any, examples: Sequence[Example], weights: Any) -> Any:
    """Sum over the examples of weight times the mean negative log-likelihood of the answer's tokens: a torch scalar.

    model: a causal model of transformers, perhaps wrapped by peft. weights: (n,). Rows are padded on the right, out of
    sight of a causal model. Only what predicts an answer goes through the last layer: over a vocabulary of 128,000
    the logits of a whole prompt would take more memory than all else.
    """
    torch = require("torch", extra="train", work=WORK)
    device = model.get_input_embeddings().weight.device
    ids, mask = (part.to(device) for part in to_batch([ids for ids, _ in examples]))
    rows, places, wanted, shares = [], [], [], []
    scale = torch.as_tensor(weights).tolist()  # at once: asked one by one, a GPU would be waited for at each
    for row, (_, labels) in enumerate(examples):
        learned = [place for place, label in enumerate(labels) if label != IGNORED]
        if not learned or learned[0] == 0:
            raise ModelError(f"example {row}: expected a prompt and an answer to learn behind it.")
        rows += [row] * len(learned)
        places += [place - 1 for place in learned]  # the logits at a place are of the token behind it
        wanted += [labels[place] for place in learned]
        shares += [scale[row] / len(learned)] * len(learned)
    logits = logits_at(model, ids, mask, torch.tensor(rows, device=device), torch.tensor(places, device=device))
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(wanted, device=device), reduction="none")
    return (losses * torch.tensor(shares, device=device)).sum()


def word_logits(model: Any, ids: Any, mask: Any, tokens: Sequence[int]) -> Any:
    """The logits of the answers' first tokens behind each row's prompt, float32 (batch, 3), in one forward pass.

    ids, mask: int64 (batch, length), padded on the right. tokens: `first_tokens` of the prompt. The softmax of a row is
    the share of each label among the three.

    Raises ModelError where a row is padded on the left, or has no token: another token would be read in silence.
    """
    torch = require("torch", extra="train", work=WORK)
    size = mask.sum(dim=1)
    if bool((mask[:, 1:] > mask[:, :-1]).any()) or not bool(size.all()):
        raise ModelError("scoring: expected rows of one token or more, padded on the right.")
    return logits_at(model, ids, mask, torch.arange(len(ids), device=ids.device), size - 1, tokens)


def logits_at(model: Any, ids: Any, mask: Any, rows: Any, places: Any, tokens: Sequence[int] | None = None) -> Any:
    """Logits at these places of these rows, float32 (places, vocabulary), or (places, tokens) of some tokens alone.

    Of some tokens they are computed in float32 from the hidden state, whatever the model computes in: bfloat16 has
    steps of an eighth at a logit of 20.
    """
    torch = require("torch", extra="train", work=WORK)
    head, length = model.get_output_embeddings(), ids.shape[1]
    plain = type(head) is torch.nn.Linear
    narrowed = False

    def narrow(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal narrowed
        narrowed = True
        # Learned tokens of prompt-tuning stand in front, so that the places count from the end.
        return (given[0][rows, places + given[0].shape[1] - length].unsqueeze(0), *given[1:])

    def exact(module: Any, given: tuple[Any, ...], out: Any) -> Any:
        with torch.autocast(out.device.type, enabled=False):
            bias = None if module.bias is None else module.bias[list(tokens or ())].float()
            return torch.nn.functional.linear(given[0].float(), module.weight[list(tokens or ())].float(), bias)

    hooks = [head.register_forward_pre_hook(narrow)] if head is not None else []
    if plain and tokens is not None:
        hooks.append(head.register_forward_hook(exact))
    try:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    logits = logits[0] if narrowed else logits[rows, places + logits.shape[1] - length]
    return (logits[:, list(tokens)] if tokens is not None and not (plain and narrowed) else logits).float()


def before_and_after(
    classifier: Any, codes: np.ndarray, predict: Callable[[Any], np.ndarray], *, base: Any = None, seed: int = 0
) -> dict[str, Any] | None:
    """What tuning changed, on the same rows and ready for JSON: rows, labels, `base`, `tuned` and their `difference`.

    None for a new head (kind mean or last), which says nothing before it is tuned. codes: true positions in LABELS
    (n,). predict: what gives the logits (n, 3) of a classifier on those rows. The base is the classifier with its
    adapter off, or another one, `base`, where the method leaves no adapter to turn off (full, frozen).

    base and tuned each have the figures of `to_figures`. difference: evaluate.compare_pair of tuned less base.
    """
    from finsignal.sentiment.evaluate.comparing import compare_pair

    if classifier.kind not in ("own", "words"):
        return None
    after = softmax(predict(classifier))
    if base is not None:
        before = softmax(predict(base))
    elif hasattr(classifier.encoder, "disable_adapter"):
        with classifier.encoder.disable_adapter():
            before = softmax(predict(classifier))
    else:
        raise ModelError("before and after: a model without an adapter needs its untouched base beside it.")
    return {
        "rows": len(codes),
        "labels": dict(zip(LABELS, np.bincount(codes, minlength=len(LABELS)).tolist(), strict=True)),
        "base": to_figures(before, codes),
        "tuned": to_figures(after, codes),
        "difference": compare_pair(codes, after, before, seed=seed),
    }


def to_figures(probabilities: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
    """accuracy, macro_f1, log_loss, calibration_error; confusion, counts of true by predicted in the order of LABELS;
    positive_of_neutral, the share of the neutral rows that are called positive: too optimistic? None without any."""
    table = metrics.confusion(codes, probabilities.argmax(axis=1))
    neutral, positive = LABELS.index("neutral"), LABELS.index("positive")
    rows = int(table[neutral].sum())
    return {
        "accuracy": metrics.accuracy(codes, probabilities),
        "macro_f1": metrics.macro_f1(codes, probabilities),
        "log_loss": metrics.log_loss(codes, probabilities),
        "calibration_error": metrics.calibration_error(codes, probabilities),
        "positive_of_neutral": int(table[neutral, positive]) / rows if rows else None,
        "confusion": table.tolist(),
    }


def to_lines(found: dict[str, Any]) -> list[str]:
    """The table of before_and_after for a terminal: figures side by side, and both confusions."""
    names = {
        "accuracy": "accuracy",
        "macro_f1": "macro F1",
        "log_loss": "log-loss",
        "calibration_error": "calibration error",
        "positive_of_neutral": "neutral called positive",
    }
    sides = ("base", "tuned")
    lines = [f"before and after tuning, {found['rows']:,} held-out rows", f"  {'':<26}{'base':>10}{'tuned':>10}"]
    for key, name in names.items():
        cells = ["-" if found[side][key] is None else f"{found[side][key]:.3f}" for side in sides]
        lines.append(f"  {name:<26}" + "".join(f"{cell:>10}" for cell in cells))
    for side in sides:
        lines.append(f"  {side + ': true by called':<26}" + "".join(f"{label:>10}" for label in LABELS))
        for label, row in zip(LABELS, found[side]["confusion"], strict=True):
            lines.append(f"    {label:<24}" + "".join(f"{count:>10,}" for count in row))
    return lines
