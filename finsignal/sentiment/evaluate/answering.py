"""What a causal model answers when it writes freely, beside what its one pass says of the same rows.

A generated answer is compared, never used: it has no probabilities, takes several passes, and may be no label at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from finsignal.errors import require
from finsignal.sentiment.evaluate.figures import to_share
from finsignal.sentiment.prompt import to_input
from finsignal.sentiment.tuning.instruct import Prompt, encode_prompt, end_tokens, logits_at
from finsignal.tables import LABELS

WORK = "generating answers"
BATCH_TOKENS = 4096
NOTHING_ASKED = "no row was asked about"
EDGES = re.compile(r"^[\W_]+|[\W_]+$")


def answers_in_words(model: Any) -> bool:
    """Whether a model reads its labels off a causal model's next word, and so could write answers too."""
    return getattr(model, "prompt", None) is not None


def measure_answers(
    model: Any,
    texts: Sequence[str],
    targets: Sequence[str],
    codes: np.ndarray,
    probabilities: np.ndarray,
    *,
    progress: bool = False,
) -> dict[str, Any]:
    """`compare_generated` of a tuned.TunedModel that answers in words, on rows with true codes (n,) and probabilities
    (n, 3) of its one pass. A text with nothing to read is not asked about."""
    asked = [row for row, text in enumerate(texts) if to_input("", text)]
    with model.switched_on(), model.session.cast():
        answers = generate_answers(
            model.session.encoder,
            model.tokenizer,
            model.prompt,
            [texts[row] for row in asked],
            targets=[targets[row] if model.target_aware else "" for row in asked],
            progress=progress,
        )
    return compare_generated(codes[asked], answers, model.prompt, probabilities[asked])


def generate_answers(
    model: Any,
    words: Any,
    prompt: Prompt,
    texts: Sequence[str],
    *,
    targets: Sequence[str] | None = None,
    max_new_tokens: int = 8,
    progress: bool = False,
) -> list[str]:
    """What the model writes behind the prompt of each text, greedily, until it ends its turn or max_new_tokens are out.

    The prompt is that of training, byte by byte. Texts whose prompts are equally long share a batch, so that nothing is
    padded, and each new token is a whole pass: nothing of the base's own settings for generating (temperature, a
    penalty on repeats) comes in. model: a causal model of transformers, perhaps wrapped by peft; dropout is switched
    off meanwhile. targets: for each text the company that is asked about, "" for none.
    """
    torch = require("torch", extra="train", work=WORK)
    from tqdm import tqdm

    asked = [""] * len(texts) if targets is None else list(targets)
    rows = [encode_prompt(words, prompt, text, target) for text, target in zip(texts, asked, strict=True)]
    stops = {*end_tokens(words, prompt), *_stops(model)}
    written: list[list[int]] = [[] for _ in rows]
    device = model.get_input_embeddings().weight.device
    before = model.training
    model.eval()
    try:
        with torch.no_grad(), tqdm(total=len(rows), desc="generating", unit="text", disable=not progress) as bar:
            for batch in _batches([len(row) for row in rows]):
                active = batch
                for _ in range(max_new_tokens):
                    ids = torch.tensor([rows[row] + written[row] for row in active], device=device)
                    every = torch.arange(len(active), device=device)
                    last = torch.full_like(every, ids.shape[1] - 1)
                    chosen = logits_at(model, ids, torch.ones_like(ids), every, last).argmax(dim=1).tolist()
                    following = [(row, token) for row, token in zip(active, chosen, strict=True) if token not in stops]
                    for row, token in following:
                        written[row].append(token)
                    active = [row for row, _ in following]
                    if not active:
                        break
                bar.update(len(batch))
    finally:
        model.train(before)
    return [words.decode(tokens, skip_special_tokens=True).strip() for tokens in written]


def _stops(model: Any) -> list[int]:
    """The tokens at which the base itself says that its turn is over."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return [] if found is None else list(found) if isinstance(found, list | tuple) else [int(found)]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers in batches of one length."""
    order = np.argsort(np.array(lengths, dtype=int), kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(np.array(lengths, dtype=int)[order])) + 1):
        size = max(1, BATCH_TOKENS // lengths[part[0]]) if len(part) else 1
        yield from (part[start : start + size].tolist() for start in range(0, len(part), size))


def parse_answer(answer: str, prompt: Prompt) -> str | None:
    """The label of a generated answer, or None: its first word, in any case and without punctuation around it, must be
    one of the prompt's answers.

    Strict on purpose: "not positive" holds the word positive, and a search for it would be right by luck.
    """
    said = [EDGES.sub("", word).casefold() for word in answer.split()]
    for label, word in zip(LABELS, prompt.answers, strict=True):
        meant = [EDGES.sub("", part).casefold() for part in word.split()]
        if said[: len(meant)] == meant:
            return label
    return None


def compare_generated(
    codes: np.ndarray, answers: Sequence[str], prompt: Prompt, probabilities: np.ndarray
) -> dict[str, Any]:
    """Generated answers against true codes (n,) and against the one pass (n, 3), ready for JSON.

    unparsable: the share of answers that are no label. They are never taken for neutral: in `accuracy`, over all rows,
    they are wrong, and in `confusion` (a list a true label) they have a fourth column. accuracy_parsed: over the rest.
    one_pass: the accuracy of the largest probability. agreement: the share of the parsed on which both say the same.
    Each is a share with its interval. said: the commonest unparsable answers, with counts.
    """
    labels = [parse_answer(answer, prompt) for answer in answers]
    predicted = np.array([len(LABELS) if label is None else LABELS.index(label) for label in labels], dtype=int)
    parsed = predicted < len(LABELS)
    table = np.zeros((len(LABELS), len(LABELS) + 1), dtype=int)
    np.add.at(table, (codes, predicted), 1)
    chosen = probabilities.argmax(axis=1)
    odd = Counter(answer for answer, label in zip(answers, labels, strict=True) if label is None)
    return {
        "rows": len(codes),
        "unparsable": to_share(~parsed, NOTHING_ASKED),
        "accuracy": to_share(predicted == codes, NOTHING_ASKED),
        "accuracy_parsed": to_share((predicted == codes)[parsed], "no answer was a label"),
        "one_pass": to_share(chosen == codes, NOTHING_ASKED),
        "agreement": to_share((predicted == chosen)[parsed], "no answer was a label"),
        "confusion": table.tolist(),
        "said": [{"answer": answer, "rows": count} for answer, count in odd.most_common(5)],
    }
