"""Model folders of kind torch: what was saved scores again, alone, beside others and merged; the wrong base is refused.

The folders are made here, from tiny random bases with peft itself, and expected logits come from plain transformers.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, processors
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from finsignal.sentiment.score import load_model
from finsignal.sentiment.tuning.bases import quiet
from finsignal.tables import LABELS

torch = pytest.importorskip("torch", reason="needs the extra finsignal[train]")
transformers = pytest.importorskip("transformers", reason="needs the extra finsignal[train]")
peft = pytest.importorskip("peft", reason="needs the extra finsignal[train]")
safetensors = pytest.importorskip("safetensors.torch", reason="needs the extra finsignal[train]")

WORDS = "[PAD] [UNK] [CLS] [SEP] negative neutral positive Text Sentiment : up down flat profit loss beats Acme".split()
TEXTS = ["Acme beats", "profit up up up down", "down", "loss flat Acme", "Acme loss", "up " * 30]
OWN = {0: "Positive", 1: "negative", 2: "NEUTRAL"}  # another order than LABELS
PROMPT = {
    "before": "Text : ",
    "after": " Sentiment :",
    "answers": [" negative", " neutral", " positive"],
    "end": "",
    "max_tokens": 16,
}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
LAYERS = ["query", "value", "q_proj", "v_proj"]
CONFIGS = {
    "lora": lambda task: peft.LoraConfig(r=4, lora_alpha=8, target_modules=LAYERS, task_type=task),
    "adalora": lambda task: peft.AdaLoraConfig(
        init_r=4, target_r=2, lora_alpha=8, target_modules=LAYERS, total_step=10, task_type=task
    ),
    "prefix": lambda task: peft.PrefixTuningConfig(num_virtual_tokens=3, task_type=task),
    "prompt": lambda task: peft.PromptTuningConfig(num_virtual_tokens=3, task_type=task),
}
TASKS = {"mean": "FEATURE_EXTRACTION", "last": "FEATURE_EXTRACTION", "own": "SEQ_CLS", "words": "CAUSAL_LM"}
CLASSES = {
    "mean": transformers.AutoModel,
    "last": transformers.AutoModel,
    "own": transformers.AutoModelForSequenceClassification,
    "words": transformers.AutoModelForCausalLM,
}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Bases:
    """Folders of random bases; bert and llama have no classification head, the two others one of the labels of OWN."""

    bert: Path
    bert_own: Path
    llama: Path
    llama_own: Path

    def of(self, kind: str, *, causal: bool) -> Path:
        return getattr(self, ("llama" if causal else "bert") + ("_own" if kind == "own" else ""))


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    folder = tmp_path_factory.mktemp("bases")
    bert = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, pad_token_id=0, **SIZES)
    llama = transformers.LlamaConfig(
        vocab_size=len(WORDS), max_position_embeddings=64, num_key_value_heads=2, pad_token_id=0, **SIZES
    )
    own = {"id2label": OWN, "label2id": {label: code for code, label in OWN.items()}}
    torch.manual_seed(4)
    made = {
        "bert": transformers.BertModel(bert),
        "llama": transformers.LlamaForCausalLM(llama),
        "bert_own": transformers.BertForSequenceClassification(transformers.BertConfig(**{**bert.to_dict(), **own})),
        "llama_own": transformers.LlamaForSequenceClassification(
            transformers.LlamaConfig(**{**llama.to_dict(), **own})
        ),
    }
    for name, module in made.items():
        with torch.no_grad():
            for value in module.parameters():
                value.mul_(3)  # random bases say nearly the same of every text
        with quiet():
            module.save_pretrained(folder / name)
        write_tokenizer(folder / name, causal=name.startswith("llama"))
    return Bases(**{name: folder / name for name in made})


def write_tokenizer(folder: Path, *, causal: bool) -> None:
    words = Tokenizer(WordLevel({word: code for code, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    if not causal:
        words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    words.enable_padding(length=20)  # a tokenizer file may ask for padding; scoring must not follow it
    words.save(str(folder / "tokenizer.json"))


@dataclass(frozen=True)
class Made:
    """A folder, and the very module and head that it was written from."""

    folder: Path
    module: Any
    head: Any
    kind: str

    def logits(self, text: str) -> np.ndarray:
        """In the order of LABELS, by plain transformers and peft."""
        words = text.split()
        if self.kind == "words":
            words = [*"Text :".split(), *words, *"Sentiment :".split()]
            words = words[:2] + words[2:-2][: PROMPT["max_tokens"] - 1 - 4] + words[-2:]
        ids = [WORDS.index(word) for word in words]
        if self.kind != "words":
            ids = [2, *ids[:14], 3] if "Bert" in type(inner(self.module)).__name__ else ids[:16]
        given = torch.tensor([ids])
        with torch.no_grad():
            found = self.module(input_ids=given, attention_mask=torch.ones_like(given))
            if self.kind == "own":
                return found.logits[0, [1, 2, 0]].numpy()
            if self.kind == "words":
                return found.logits[0, -1, [WORDS.index(label) for label in LABELS]].numpy()
            hidden = found.last_hidden_state[0, -len(ids) :]
            return self.head(hidden.mean(dim=0) if self.kind == "mean" else hidden[-1]).numpy()


def inner(module: Any) -> Any:
    return module.get_base_model() if hasattr(module, "peft_config") else module


def make_folder(
    folder: Path, bases: Bases, kind: str, method: str, *, causal: bool = False, seed: int = 1, **changes: Any
) -> Made:
    base = bases.of(kind, causal=causal)
    folder.mkdir()
    torch.manual_seed(seed)
    with quiet():
        module = CLASSES[kind].from_pretrained(base, dtype=torch.float32)
    if kind in ("mean", "last") and getattr(module, "pooler", None) is not None:
        module.pooler = None
    head = torch.nn.Linear(32, 3, bias=kind == "mean") if kind in ("mean", "last") else None
    tuned = {} if head is None else {f"head.{name}": value for name, value in head.named_parameters()}
    if method in CONFIGS:
        with quiet():
            module = peft.get_peft_model(module, CONFIGS[method](TASKS[kind]))
        tuned |= {f"encoder.{name}": value for name, value in module.named_parameters() if value.requires_grad}
    elif method == "full" or head is None:
        tuned |= {
            f"encoder.{name}": value
            for name, value in module.named_parameters()
            if method == "full" or name.startswith(("classifier.", "score."))
        }
    with torch.no_grad():
        for name, value in tuned.items():
            if "ranknum" not in name:
                value.add_(torch.randn_like(value) * 0.3)
                value.copy_(value.half().float())  # what is written has 16 bits
    module.eval()
    if method in CONFIGS:
        half = {name: value.half().contiguous() for name, value in peft.get_peft_model_state_dict(module).items()}
        safetensors.save_file(half, folder / "adapter_model.safetensors")
        module.peft_config["default"].inference_mode = True
        module.peft_config["default"].save_pretrained(folder)
    if head is not None and method != "full":
        half = {name: value.detach().half() for name, value in head.state_dict().items()}
        safetensors.save_file(half, folder / "head.safetensors")
    if method == "full" or (method == "frozen" and head is None):
        whole = {name: value.detach().contiguous() for name, value in tuned.items()}
        safetensors.save_file(whole, folder / "weights.safetensors")
    shutil.copyfile(base / "tokenizer.json", folder / "tokenizer.json")
    write_card(folder, base, kind, method, **changes)
    return Made(folder, module, head, kind)


def write_card(folder: Path, base: Path, kind: str, method: str, **changes: Any) -> None:
    card = {
        "name": "tiny",
        "kind": "torch",
        "method": method,
        "head": {"kind": kind, "label_map": {}},
        "labels": list(LABELS),
        "max_tokens": 16,
        "temperature": 1.0,
        "trained_until": "2023-01-01T00:00:00+00:00",
        "data": [{"name": "none"}],
        "base": {
            "model": str(base),
            "sha256": sha256(base / "model.safetensors"),
            "known_until": "2021-09-01T00:00:00+00:00",
        },
        **({"prompt": PROMPT} if kind == "words" else {}),
        "files": {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != "README.md"},
        **changes,
    }
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


CASES = [
    *(("mean", method, False) for method in ("lora", "adalora", "prefix", "prompt", "full", "frozen")),
    *(("own", method, False) for method in ("lora", "full", "frozen")),
    *(("last", method, True) for method in ("lora", "adalora", "prefix", "prompt", "full", "frozen")),
    *(("own", method, True) for method in ("lora", "frozen")),
    *(("words", method, True) for method in ("lora", "prefix", "prompt", "full")),
]


@pytest.mark.parametrize(("kind", "method", "causal"), CASES)
def test_what_was_saved_scores_as_before(tmp_path: Path, bases: Bases, kind: str, method: str, causal: bool) -> None:
    made = make_folder(tmp_path / "m", bases, kind, method, causal=causal)
    model = load_model(made.folder)
    expected = np.array([made.logits(text) for text in TEXTS])
    found = model.predict_logits(TEXTS)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(expected[0] - expected[1]).max() > 0.05, "the texts must differ, or the test shows nothing"
    np.testing.assert_allclose(model.predict_proba(TEXTS), softmax(expected), atol=1e-5)


@pytest.mark.parametrize(("kind", "method", "causal"), CASES)
def test_a_text_alone_is_bit_for_bit_the_same_and_equals_that_of_a_padded_batch(
    tmp_path: Path, bases: Bases, kind: str, method: str, causal: bool
) -> None:
    model = load_model(make_folder(tmp_path / "m", bases, kind, method, causal=causal).folder)
    found = model.predict_logits(TEXTS)
    for row, text in enumerate(TEXTS):
        np.testing.assert_array_equal(model.predict_logits([text])[0], found[row])
    np.testing.assert_array_equal(model.predict_logits(TEXTS[::-1])[::-1], found)
    ids, mask = model.session.to_batch([model.encode(text) for text in TEXTS])
    assert mask.sum(dim=1).unique().numel() > 2
    with torch.no_grad():
        np.testing.assert_allclose(model.session.logits(ids, mask).numpy(), found, atol=2e-5)
