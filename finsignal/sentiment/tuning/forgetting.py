"""What tuning cost the base of its general English: its perplexity before and after, on a text that is not finance.

The text, general_text.txt, was written for this repository and is CC0: it stands in no collection that a base was
trained on. Its perplexity is no measure of a model's worth, only of how far tuning moved it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finsignal.errors import ModelError, require
from finsignal.sentiment import hub
from finsignal.sentiment.tuning.bases import WORK, load_base, load_words, quiet
from finsignal.sentiment.tuning.heads import Classifier

CONTEXT = 64  # tokens of the window before that a window begins with, without counting them again
UNMEASURED = (ModelError, MemoryError, OSError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def read_general_text() -> str:
    """The general text: some 2,800 words of everyday English."""
    return (Path(__file__).parent / "general_text.txt").read_text(encoding="utf-8")


def perplexity(model: Any, words: Any, text: str, *, length: int = 256, device: Any = "cpu") -> dict[str, float]:
    """`perplexity`, exp of the mean negative log-likelihood a token, and `tokens`, the number that it is the mean over.

    model: a causal one with its dropout off, or what is called like it: `model(input_ids=, attention_mask=).logits`.
    words: its tokenizers.Tokenizer; a truncation that is set there is left alone and not applied. length: of a window.
    Each begins with the tokens that the tokenizer puts in front of a text, and with the last 64 of the window before
    (a quarter of it, where it is shorter than 256), so that only the text's own first token is not counted.
    Perplexities compare only where the tokenizer is the same. Raises ModelError where the text is below two tokens.
    """
    torch = require("torch", extra="train", work=WORK)
    front, ids = _encode(words, text)
    context = max(1, min(CONTEXT, length // 4))
    width = length - len(front) - context  # of new tokens in a window
    if len(ids) < 2 or width < 1:
        raise ModelError(f"perplexity: {len(ids)} tokens in windows of {length}; expected 2 or more, in wider ones.")
    total, counted = 0.0, 0
    for start in range(0, len(ids), width):
        before = min(context, start)
        window = torch.tensor([front + ids[start - before : start + width]], device=device)
        with torch.no_grad():
            logits = model(input_ids=window, attention_mask=torch.ones_like(window)).logits[0].float()
        logits = logits[-window.shape[1] :]  # without the virtual tokens of prompt tuning
        first = max(1, len(front) + before)  # the first token that is new, and has one before it
        losses = torch.nn.functional.cross_entropy(logits[first - 1 : -1], window[0, first:], reduction="sum")
        total, counted = total + float(losses), counted + window.shape[1] - first
    mean = total / counted
    return {"perplexity": math.exp(mean) if mean < 700 else math.inf, "tokens": counted}


def _encode(words: Any, text: str) -> tuple[list[int], list[int]]:
    """The special tokens that stand in front of a text, and the ids of the text without any."""
    cut = words.truncation
    words.no_truncation()
    try:
        marked, ids = words.encode(text), words.encode(text, add_special_tokens=False).ids
    finally:
        if cut:
            words.enable_truncation(**cut)
    plain = marked.special_tokens_mask.index(0) if 0 in marked.special_tokens_mask else 0
    return marked.ids[:plain], ids


def measure_forgetting(classifier: Classifier, folder: Path, untouched: Classifier | None = None) -> dict[str, Any]:
    """`base` and `tuned`, the perplexity of each on the general text, and `tokens`, what it was taken over.

    classifier: as tuned; its dropout is left off. folder: of its base. untouched: a classifier of the base alone, where
    every weight was tuned; without it the base is loaded again. An adapter is switched off and on. For a head of kind
    last the base's own layer of words is put over what was tuned. A perplexity that is not finite is None.

    Where it cannot be said, all three are absent, and `reason` tells why: an encoder predicts no next word, and a base
    with a classification head of its own has no layer of words. It never raises for what is only measured: what failed
    is the reason.
    """
    if classifier.kind in ("mean", "own"):
        why = (
            "an encoder predicts no next word"
            if classifier.kind == "mean"
            else "a base with a classification head of its own has no layer of words"
        )
        return {"reason": why}
    try:
        return _compare(classifier, folder, untouched)
    except UNMEASURED as err:
        return {"reason": f"it could not be measured ({type(err).__name__}: {err})"}


def _compare(classifier: Classifier, folder: Path, untouched: Classifier | None) -> dict[str, Any]:
    words, text = load_words(folder, 1), read_general_text()
    config = classifier.encoder.config.get_text_config()
    learned = getattr(getattr(classifier.encoder, "active_peft_config", None), "num_virtual_tokens", None) or 0
    length = min(256, (getattr(config, "max_position_embeddings", None) or 256) - learned)
    layer = _load_word_layer(folder) if classifier.kind == "last" else None

    def measure(each: Any) -> dict[str, float]:
        each.eval()
        model = each if layer is None else _with_words(each, layer, folder)
        with classifier.cast(), quiet():
            return perplexity(model, words, text, length=length, device=classifier.device)

    module = classifier.encoder
    tuned = measure(module)
    if learned:  # peft 0.21.2 cannot switch these off without a layer of words; the base inside is as it was
        base = measure(module.get_base_model())
    elif hasattr(module, "disable_adapter"):
        with module.disable_adapter():
            base = measure(module)
    elif not any(value.requires_grad for value in module.parameters()):
        base = tuned
    elif untouched is not None:
        base = measure(untouched.encoder)
    else:
        base = measure(load_base(folder, kind=classifier.kind, method="frozen", device=classifier.device.type))
    values = {name: found["perplexity"] for name, found in (("base", base), ("tuned", tuned))}
    known = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {**known, "tokens": tuned["tokens"]}


def _load_word_layer(folder: Path) -> dict[str, Any]:
    """The tensors of the base's layer of words by name; none where it is the embeddings, or there is none."""
    safetensors = require("safetensors", extra="train", work=WORK)
    found: dict[str, Any] = {}
    for path in hub.weight_files(str(folder), folder):
        with safetensors.safe_open(path, framework="pt") as opened:
            found |= {
                name: opened.get_tensor(name) for name in opened.keys() if name.startswith(("lm_head.", "embed_out."))
            }
    return found


def _with_words(module: Any, layer: dict[str, Any], folder: Path) -> Callable[..., Any]:
    """The causal model that a body without its layer of words was made of, computing as its own class does.

    Its shell is made without weights; the body's states are handed to it, and only its layer of words is filled.
    """
    torch = require("torch", extra="train", work=WORK)
    transformers = require("transformers", extra="train", work=WORK)
    outputs = require("transformers.modeling_outputs", extra="train", work=WORK)
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"), quiet():
        shell = transformers.AutoModelForCausalLM.from_config(config)
    head, states = shell.get_output_embeddings(), SimpleNamespace(last=None)
    body = torch.nn.Module()
    body.forward = lambda *_, **__: outputs.BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=states.last)
    setattr(shell, shell.base_model_prefix, body)
    plain = module.get_base_model() if hasattr(module, "get_base_model") else module
    embeddings = plain.get_input_embeddings().weight
    values = {name.partition(".")[2]: value for name, value in layer.items()}
    if config.get_text_config().tie_word_embeddings:  # whatever else the files hold
        values = {"weight": embeddings}
    if "weight" not in values:
        raise ModelError(f"{folder}: its files hold no layer of words, and it does not share its embeddings.")
    for name, _ in list(head.named_parameters()):
        value = values[name].detach().to(device=embeddings.device, dtype=embeddings.dtype)
        setattr(head, name, torch.nn.Parameter(value, requires_grad=False))
    shell.eval()

    def predict(*, input_ids: Any, attention_mask: Any) -> Any:
        states.last = module(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        # A head in bfloat16 over states that autocast left in float32, or the other way round.
        states.last = states.last[:, -input_ids.shape[1] :].to(embeddings.dtype)
        return shell(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)

    return predict
