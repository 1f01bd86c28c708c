"""Perplexity on a general text: by hand, window for window, and of a base before and after it was tuned."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import ANSWERS, WORDS, write_bert, write_llama, write_words

from finsignal.errors import ModelError
from finsignal.sentiment.recipe import Head, Tuning
from finsignal.sentiment.tuning import forgetting as tuning_forgetting
from finsignal.sentiment.tuning.bases import load_base, load_words, quiet
from finsignal.sentiment.tuning.forgetting import measure_forgetting, perplexity, read_general_text
from finsignal.sentiment.tuning.heads import Classifier, make_classifier

torch = pytest.importorskip("torch", reason="needs torch, of the extra finsignal[train]")
pytest.importorskip("peft", reason="needs peft, of the extra finsignal[train]")

SHORT = "Acme on news today , acme rises : beta falls . " * 12 + "Weigh half a kilo of flour into the big bowl . " * 9
TEXT = " ".join(np.random.default_rng(3).choice(WORDS[4:], 90))
VOCABULARY = len(WORDS + ANSWERS)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer that puts <s> in front of a text."""
    folder = tmp_path_factory.mktemp("words")
    write_words(folder, pair=False)
    return load_words(folder, 16)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same, with nothing in front."""
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("bare")
    write_words(folder, pair=False)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return Tokenizer.from_str(json.dumps({**content, "post_processor": None}))


class Bigram:
    """A model whose next word hangs on the present one alone, so that no window can change its answers."""

    def __init__(self) -> None:
        self.table = torch.tensor(np.random.default_rng(4).normal(0, 2, (VOCABULARY, VOCABULARY)))
        self.seen: list[list[int]] = []

    def __call__(self, *, input_ids: Any, attention_mask: Any) -> SimpleNamespace:
        self.seen.append(input_ids[0].tolist())
        return SimpleNamespace(logits=self.table[input_ids])

    def perplexity(self, ids: list[int]) -> float:
        logs = torch.log_softmax(self.table, dim=1)
        return math.exp(-sum(float(logs[a, b]) for a, b in pairwise(ids)) / (len(ids) - 1))


# --- perplexity ------------------------------------------------------------------------------------------


def test_a_model_that_knows_nothing_is_as_perplexed_as_there_are_words(words: Any, bare: Any) -> None:
    def guess(*, input_ids: Any, attention_mask: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.zeros((*input_ids.shape, 50)))

    found = perplexity(guess, words, TEXT)
    assert found == {"perplexity": pytest.approx(50), "tokens": 90}  # <s> stands before the first
    assert perplexity(guess, bare, TEXT)["tokens"] == 89  # nothing does, so it cannot be foretold


@given(length=st.integers(3, 140))
def test_every_token_counts_once_whatever_the_windows(words: Any, bare: Any, length: int) -> None:
    model, ids = Bigram(), bare.encode(TEXT).ids
    found = perplexity(model, bare, TEXT, length=length)
    assert found == {"perplexity": pytest.approx(model.perplexity(ids)), "tokens": 89}
    assert max(map(len, model.seen)) <= length
    model = Bigram()
    found = perplexity(model, words, TEXT, length=length)
    assert all(window[0] == words.token_to_id("<s>") for window in model.seen)
    assert found["tokens"] == 90
    if length - length // 4 > 90:
        assert found["perplexity"] == pytest.approx(model.perplexity([words.token_to_id("<s>"), *ids]))


def test_a_window_begins_with_the_end_of_the_one_before(bare: Any) -> None:
    model, ids = Bigram(), bare.encode(TEXT).ids
    perplexity(model, bare, TEXT, length=40)  # 10 of context, 30 new ones
    assert model.seen == [ids[:30], ids[20:60], ids[50:90]]


def test_in_one_window_it_is_the_loss_that_transformers_computes(words: Any, bare: Any, tmp_path: Path) -> None:
    model = load_base(write_llama(tmp_path), kind="words")
    ids = torch.tensor([[words.token_to_id("<s>"), *bare.encode(TEXT).ids]])
    with torch.no_grad():
        expected = math.exp(float(model(input_ids=ids, labels=ids).loss))
    assert perplexity(model, words, TEXT, length=128)["perplexity"] == pytest.approx(expected, rel=1e-5)


def test_the_truncation_of_a_tokenizer_is_neither_used_nor_lost(words: Any) -> None:
    before = words.truncation
    assert before["max_length"] == 16
    assert perplexity(Bigram(), words, TEXT)["tokens"] == 90
    assert words.truncation == before


@pytest.mark.parametrize(("text", "length"), [("", 256), ("acme", 256), (TEXT, 1)])
def test_what_has_no_perplexity_is_refused(text: str, length: int, bare: Any, words: Any) -> None:
    with pytest.raises(ModelError, match=r"expected 2 or more"):
        perplexity(Bigram(), words if length == 1 else bare, text, length=length)


# --- before and after tuning -----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A short text in the place of the general one, some of whose words the tiny tokenizer knows."""
    if request.node.originalname != "test_the_text_is_general_english":
        monkeypatch.setattr(tuning_forgetting, "read_general_text", lambda: SHORT)


def make(folder: Path, method: str, kind: str, **options: Any) -> Classifier:
    tuning = Tuning(epochs=1, learning_rate=1e-3, seed=1, method=method, rank=4, virtual_tokens=3, **options)
    return make_classifier(folder, tuning, base_name="tiny", head=Head(kind=kind), steps=100)


def shake(classifier: Classifier) -> None:
    """Moves everything that training would move."""
    torch.manual_seed(2)
    with torch.no_grad():
        for name, value in classifier.trainable().items():
            if not name.startswith("head."):
                value.add_(torch.randn_like(value) * 0.3)


def whole_base(folder: Path, *, length: int = 128) -> float:
    """Perplexity of the causal model as transformers loads it."""
    return perplexity(load_base(folder, kind="words"), load_words(folder, 8), SHORT, length=length)["perplexity"]


@pytest.mark.parametrize("kind", ["words", "last"])
@pytest.mark.parametrize("method", ["lora", "adalora", "prefix", "prompt", "full"])
def test_the_base_stays_what_it_was_and_the_tuned_model_moves(method: str, kind: str, tmp_path: Path) -> None:
    folder = write_llama(tmp_path)
    classifier = make(folder, method, kind)
    shake(classifier)
    classifier.train(True)
    found = measure_forgetting(classifier, folder)
    length = 125 if method in ("prefix", "prompt") else 128  # three of its positions are learned tokens
    room = 0.05 if method == "full" else 1e-5  # bfloat16 arithmetic
    assert found["base"] == pytest.approx(whole_base(folder, length=length), rel=room)
    assert abs(found["tuned"] / found["base"] - 1) > 0.05
    assert found["tokens"] == len(SHORT.split())
    assert measure_forgetting(classifier, folder)["tuned"] == found["tuned"]  # the adapter is on again


@pytest.mark.parametrize("kind", ["words", "last"])
def test_a_fresh_adapter_has_forgotten_nothing(kind: str, tmp_path: Path) -> None:
    folder = write_llama(tmp_path)
    found = measure_forgetting(make(folder, "lora", kind), folder)
    assert found["base"] == found["tuned"]
    found = measure_forgetting(make(folder, "frozen", kind), folder)
    assert found["base"] == found["tuned"] == pytest.approx(whole_base(folder), rel=1e-5)


def test_a_base_of_four_bits_is_measured_and_can_be_trained_on(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes, of the extra finsignal[train]")
    folder = write_llama(tmp_path)
    classifier = make(folder, "qlora", "last")
    shake(classifier)
    found = measure_forgetting(classifier, folder)
    assert found["base"] == pytest.approx(whole_base(folder), rel=0.1)  # 16 levels a weight
    assert found["base"] != found["tuned"]
    ids = torch.tensor([[5, 6, 7]])
    classifier.logits(ids, torch.ones_like(ids)).sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in classifier.trainable().values())


def test_the_classifier_of_the_untouched_base_is_used_where_it_is_given(tmp_path: Path) -> None:
    folder, other = write_llama(tmp_path / "a"), write_llama(tmp_path / "b")
    classifier, untouched = make(folder, "full", "words"), make(other, "frozen", "words")
    with torch.no_grad():
        untouched.encoder.get_input_embeddings().weight.mul_(3)
    found = measure_forgetting(classifier, folder, untouched)
    assert found["base"] > 1.2 * found["tuned"]


def write_causal(folder: Path, kind: str, *, tied: bool) -> Path:
    """A tiny causal model whose layer of words is, or is not, its embeddings."""
    from transformers import AutoConfig, AutoModelForCausalLM

    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    small: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    small |= {"intermediate_size": 32, "max_position_embeddings": 128}
    sizes: dict[str, Any] = {
        "llama": small,
        "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 128},
        "gpt_neox": small,
        "cohere": {**small, "num_key_value_heads": 2, "logit_scale": 7.0},
    }
    config = AutoConfig.for_model(kind, vocab_size=64, tie_word_embeddings=tied, **ends, **sizes[kind])
    torch.manual_seed(5)
    with quiet():
        model = AutoModelForCausalLM.from_config(config)
        model.get_output_embeddings().weight.data.normal_(0, 0.5)
        model.save_pretrained(folder)
    write_words(folder, pair=False)
    return folder


@pytest.mark.parametrize(
    ("kind", "tied"), [("llama", True), ("llama", False), ("gpt2", True), ("gpt_neox", False), ("cohere", True)]
)
def test_a_body_without_words_gets_those_of_its_base(kind: str, tied: bool, tmp_path: Path) -> None:
    # cohere scales what its layer of words gives, which only its own class knows
    folder = write_causal(tmp_path, kind, tied=tied)
    classifier = Classifier(load_base(folder, kind="last", method="frozen"), None, kind="last")
    classifier.encoder.requires_grad_(False)
    found = measure_forgetting(classifier, folder)
    assert found["base"] == found["tuned"] == pytest.approx(whole_base(folder), rel=1e-5)


# --- where it cannot be said -----------------------------------------------------------------------------


def test_an_encoder_and_a_classifier_say_why_there_is_none(tmp_path: Path) -> None:
    encoder = write_bert(tmp_path / "encoder")
    assert measure_forgetting(make(encoder, "lora", "mean"), encoder) == {"reason": "an encoder predicts no next word"}
    own = write_bert(tmp_path / "own", labels={0: "negative", 1: "neutral", 2: "positive"})
    assert "no layer of words" in measure_forgetting(make(own, "lora", "own"), own)["reason"]


def test_a_base_whose_files_hold_no_layer_of_words_is_no_failure(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_causal(tmp_path, "llama", tied=False)
    path = folder / "model.safetensors"
    tensors = {name: value for name, value in load_file(path).items() if not name.startswith("lm_head.")}
    save_file(tensors, path, metadata={"format": "pt"})
    classifier = Classifier(load_base(folder, kind="last", method="frozen"), None, kind="last")
    found = measure_forgetting(classifier, folder)
    assert set(found) == {"reason"}
    assert "its files hold no layer of words" in found["reason"]


def test_a_model_that_was_ruined_has_no_figure(tmp_path: Path) -> None:
    folder = write_llama(tmp_path)
    classifier = make(folder, "lora", "words")
    with torch.no_grad():
        next(iter(classifier.trainable().values())).fill_(float("nan"))
    found = measure_forgetting(classifier, folder)
    assert found["tuned"] is None
    assert found["base"] == pytest.approx(whole_base(folder), rel=1e-5)
    json.dumps(found, allow_nan=False)


# --- the text --------------------------------------------------------------------------------------------


def test_the_text_is_general_english() -> None:
    text = read_general_text()
    assert 2400 < len(text.split()) < 3000
    assert text.isascii()  # no token of it is an accident of an encoding
    finance = r"\b(bank|stock|share|price|market|profit|loss|dollar|dividend|earnings|bond|trad\w+|invest\w*|money)s?\b"
    assert re.findall(finance, text, flags=re.IGNORECASE) == []
    sentences = re.split(r"(?<=[.!?])\s+", text)
    assert len(set(sentences)) == len(sentences)
