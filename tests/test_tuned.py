"""Model folders of kind torch: what was saved scores again, alone, beside others and merged; the wrong base is refused.

The folders are made here, from tiny random bases with peft itself, and expected logits come from plain transformers.
"""

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, normalizers, processors
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from finsignal.errors import ModelError
from finsignal.sentiment import tuned
from finsignal.sentiment.classifiers import load_classifier
from finsignal.sentiment.score import load_model, score_texts
from finsignal.sentiment.tuned import load_adapters, load_tuned_model, merge_tuned, to_batches
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
CONFIGS |= {"qlora": CONFIGS["lora"], "lora_8bit": CONFIGS["lora"]}  # on the full-precision base
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
    words.normalizer = normalizers.Replace("!", "")
    if not causal:
        words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    words.enable_padding(length=20)  # a tokenizer file may ask for padding; scoring must not follow it
    words.save(str(folder / "tokenizer.json"))
    # Without it transformers would make a BERT's tokenizer anew from the words, in lower case.
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8")


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
    folder: Path,
    bases: Bases,
    kind: str,
    method: str,
    *,
    causal: bool = False,
    seed: int = 1,
    ranks: bool = False,
    **changes: Any,
) -> Made:
    """ranks: AdaLoRA has taken some of the ranks away, of one layer all."""
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
    if ranks:
        take_ranks(module)
    if method in CONFIGS:
        with quiet():
            found = peft.get_peft_model_state_dict(module)
        half = {name: value.half().contiguous() for name, value in found.items()}
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


def take_ranks(module: Any) -> None:
    """As AdaLoRA's last step does: the values of what it takes away are 0, and its settings say what was left."""
    pattern = {}
    with torch.no_grad():
        for name, value in module.base_model.model.named_parameters():
            if "lora_E" in name:
                left = [[True, False, True, False], [False] * 4, [True, True, True, False]][len(pattern) % 3]
                value[[not kept for kept in left]] = 0
                pattern[name] = left
    module.peft_config["default"].rank_pattern = pattern


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
        "files": {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != "card.json"},
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


@pytest.mark.parametrize("kind", ["mean", "last"])
def test_adalora_scores_again_with_the_ranks_that_it_was_left(tmp_path: Path, bases: Bases, kind: str) -> None:
    made = make_folder(tmp_path / "m", bases, kind, "adalora", causal=kind == "last", ranks=True)
    expected = np.array([made.logits(text) for text in TEXTS])
    shapes = {value.shape[0] for name, value in read_tensors(made.folder).items() if name.endswith("lora_A")}
    assert shapes == {0, 2, 3}
    np.testing.assert_allclose(load_model(made.folder).predict_logits(TEXTS), expected, atol=2e-5)


@pytest.mark.parametrize(("method", "precision"), [("qlora", "nf4"), ("lora_8bit", "int8")])
def test_a_quantised_base_is_a_choice_that_the_name_tells(
    tmp_path: Path, bases: Bases, method: str, precision: str
) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra finsignal[train]")
    folder = make_folder(tmp_path / "m", bases, "last", method, causal=True).folder
    whole, quantised = load_tuned_model(folder), load_tuned_model(folder, quantised=True)
    assert (whole.precision, quantised.precision) == ("float32", precision)
    assert whole.name != quantised.name
    found = quantised.predict_logits(TEXTS)
    assert 0 < np.abs(found - whole.predict_logits(TEXTS)).max() < 0.5 * np.abs(found).max()
    np.testing.assert_array_equal(quantised.predict_logits(TEXTS), found)
    for row, text in enumerate(TEXTS):
        np.testing.assert_array_equal(quantised.predict_logits([text])[0], found[row])


def test_a_text_of_nothing_is_neutral_and_one_without_tokens_too(tmp_path: Path, bases: Bases) -> None:
    model = load_model(make_folder(tmp_path / "m", bases, "last", "lora", causal=True).folder)
    assert model.encode("!") == []
    found = model.predict_proba(["", "up", "!", "https://t.co/x"])
    np.testing.assert_array_equal(found[[0, 2, 3]], [[0, 1, 0]] * 3)
    assert found[1, 1] < 1
    assert np.isfinite(model.predict_logits(["!", "up"])).all()


def test_targets_are_read_as_in_training(tmp_path: Path, bases: Bases) -> None:
    pairs = make_folder(tmp_path / "mean", bases, "mean", "lora", target_aware=True)
    words = make_folder(tmp_path / "words", bases, "words", "lora", causal=True, target_aware=True)
    model, asked = load_model(pairs.folder), load_model(words.folder)
    assert [WORDS[code] for code in model.encode(("up", "Acme"))] == ["[CLS]", "up", "[SEP]", "Acme", "[SEP]"]
    assert [WORDS[code] for code in asked.encode(("up", "Acme"))][:3] == ["Text", ":", "up"]
    assert "Acme" in [WORDS[code] for code in asked.encode(("up", "Acme"))]
    for each in (model, asked):
        assert np.abs(each.predict_proba(["up"], ["Acme"]) - each.predict_proba(["up"])).max() > 1e-3
        np.testing.assert_array_equal(
            score_texts(["up", "down", "up"], each, targets=["Acme", "", ""]).to_numpy(),
            each.predict_proba(["up", "down", "up"], ["Acme", "", ""]),
        )
    unaware = load_model(make_folder(tmp_path / "unaware", bases, "mean", "lora").folder)
    np.testing.assert_array_equal(unaware.predict_proba(["up"], ["Acme"]), unaware.predict_proba(["up"]))


def test_labels_of_the_card_and_temperature(tmp_path: Path, bases: Bases) -> None:
    made = make_folder(tmp_path / "m", bases, "own", "lora", temperature=2.0)
    model = load_model(made.folder)
    expected = np.array([made.logits(text) for text in TEXTS])
    np.testing.assert_allclose(model.predict_proba(TEXTS), softmax(expected / 2), atol=1e-5)
    write_card(made.folder, bases.bert_own, "own", "lora", labels=["good", "neutral", "negative"])
    with pytest.raises(ModelError, match="labels are"):
        load_model(made.folder)
    turned = load_model(made.folder, label_map={"good": "positive"})
    np.testing.assert_allclose(turned.predict_logits(TEXTS), expected[:, ::-1], atol=2e-5)


@pytest.mark.parametrize(
    ("size", "expected"), [(1, [[1], [3], [0], [2]]), (2, [[1, 3], [0, 2]]), (3, [[1, 3, 3], [0, 2, 2]])]
)
def test_batches_hold_one_length_and_always_as_many_rows(size: int, expected: list[list[int]]) -> None:
    assert list(to_batches([5, 2, 5, 2], size)) == expected
    assert list(to_batches([], size)) == []


def test_what_a_batch_is_filled_up_with_changes_nothing(
    tmp_path: Path, bases: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(make_folder(tmp_path / "m", bases, "last", "lora", causal=True).folder)
    alone = model.predict_logits(TEXTS)
    monkeypatch.setitem(tuned.ROWS, "cpu", 4)
    np.testing.assert_allclose(model.predict_logits([*TEXTS, *TEXTS]), np.tile(alone, (2, 1)), atol=1e-5)


# --- several adapters on one base -----------------------------------------------------------------------------


SHARED = [
    ("mean", "lora", False, {}),
    ("mean", "prefix", False, {}),
    ("mean", "prompt", False, {}),
    ("own", "lora", False, {}),
    ("last", "adalora", True, {"ranks": True}),
    ("words", "lora", True, {}),
]


@pytest.mark.parametrize(("kind", "method", "causal", "more"), SHARED)
def test_adapters_on_one_base_score_as_when_loaded_alone_in_any_order(
    tmp_path: Path, bases: Bases, kind: str, method: str, causal: bool, more: dict[str, Any]
) -> None:
    folders = [tmp_path / str(seed) for seed in range(3)]
    for seed, folder in enumerate(folders):
        make_folder(folder, bases, kind, method, causal=causal, seed=seed, name=f"tiny{seed}", **more)
    alone = {model.name: model.predict_logits(TEXTS) for model in map(load_tuned_model, folders)}
    models = load_adapters(folders)
    assert list(models) == list(alone)
    assert len({id(model.session.encoder) for model in models.values()}) == 1
    first, second, third = models
    for name in (first, second, first, third, third, second, first):
        np.testing.assert_array_equal(models[name].predict_logits(TEXTS), alone[name])
    assert min(np.abs(alone[first] - alone[name]).max() for name in (second, third)) > 1e-3


def test_adapters_of_like_methods_and_heads_share_a_base_and_calls_at_the_same_time_do_not_meet(
    tmp_path: Path, bases: Bases
) -> None:
    made = [
        make_folder(tmp_path / "a", bases, "mean", "lora", causal=True, name="a"),
        make_folder(tmp_path / "b", bases, "last", "qlora", causal=True, name="b", seed=2),
    ]
    models = list(load_adapters([each.folder for each in made]).values())
    alone = [load_tuned_model(each.folder).predict_logits(TEXTS) for each in made]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: models[number % 2].predict_logits(TEXTS), range(40)))
    for number, logits in enumerate(found):
        np.testing.assert_array_equal(logits, alone[number % 2])


@pytest.mark.parametrize(
    ("kind", "method", "causal", "match"),
    [
        ("last", "prefix", True, "its adapter is PREFIX_TUNING; that of .* is LORA"),
        ("words", "lora", True, "its class is AutoModelForCausalLM; that of .* is AutoModel. They cannot share"),
        ("mean", "lora", False, "its base is [0-9a-f]{64}; that of"),
        ("last", "full", True, "method 'full' leaves no adapter to swap"),
    ],
)
def test_what_cannot_share_a_base_is_refused(
    tmp_path: Path, bases: Bases, kind: str, method: str, causal: bool, match: str
) -> None:
    first = make_folder(tmp_path / "first", bases, "last", "lora", causal=True)
    other = make_folder(tmp_path / "other", bases, kind, method, causal=causal)
    with pytest.raises(ModelError, match=match):
        load_adapters([first.folder, other.folder])


# --- merging --------------------------------------------------------------------------------------------------

BOUND = 2e-5  # of a logit, float32, on logits of about 1


@pytest.mark.parametrize(("kind", "method", "causal"), [case for case in CASES if case[1] not in ("prefix", "prompt")])
def test_merged_weights_score_as_the_adapter_does(
    tmp_path: Path, bases: Bases, kind: str, method: str, causal: bool
) -> None:
    more = {"ranks": True} if method == "adalora" else {}
    made = make_folder(tmp_path / "m", bases, kind, method, causal=causal, **more)
    expected = load_model(made.folder).predict_logits(TEXTS)
    out = merge_tuned(made.folder, tmp_path / "merged")
    with quiet():
        module = CLASSES[kind].from_pretrained(out, dtype=torch.float32).eval()
    head = None
    if kind == "mean":
        head = torch.nn.Linear(32, 3)
        head.load_state_dict(safetensors.load_file(out / "head.safetensors"))
    if kind == "last":
        with quiet():
            head = transformers.AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32).score
    merged = Made(out, module, head, kind)
    np.testing.assert_allclose([merged.logits(text) for text in TEXTS], expected, atol=BOUND)
    assert (out / "tokenizer.json").read_bytes() == (made.folder / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(("kind", "causal"), [("own", False), ("own", True), ("last", True)])
def test_a_merged_model_with_a_head_as_transformers_has_it_is_a_published_classifier(
    tmp_path: Path, bases: Bases, kind: str, causal: bool
) -> None:
    made = make_folder(tmp_path / "m", bases, kind, "lora", causal=causal)
    merged = load_classifier(merge_tuned(made.folder, tmp_path / "merged"), max_tokens=16)
    np.testing.assert_allclose(merged.predict_proba(TEXTS), load_model(made.folder).predict_proba(TEXTS), atol=1e-5)
    assert {output.lower() for output in merged.outputs} == set(LABELS)


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_learned_tokens_cannot_be_merged(tmp_path: Path, bases: Bases, method: str) -> None:
    folder = make_folder(tmp_path / "m", bases, "last", method, causal=True).folder
    with pytest.raises(ModelError, match="in no weight that could hold them"):
        merge_tuned(folder, tmp_path / "merged")
    assert not list(tmp_path.glob("merged*"))


def test_merging_overwrites_nothing(tmp_path: Path, bases: Bases) -> None:
    folder = make_folder(tmp_path / "m", bases, "mean", "lora").folder
    with pytest.raises(ModelError, match="exists already"):
        merge_tuned(folder, folder)


# --- what is refused ------------------------------------------------------------------------------------------


def read_tensors(folder: Path, name: str = "adapter_model.safetensors") -> dict[str, Any]:
    return safetensors.load_file(folder / name)


def change_card(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    files = {name: sha256(folder / name) for name in card["files"] if (folder / name).is_file()}
    (folder / "card.json").write_text(json.dumps({**card, "files": files, **changes}), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, bases: Bases) -> Path:
    return make_folder(tmp_path / "m", bases, "mean", "lora").folder


def test_a_folder_without_a_card_or_with_an_altered_file_is_refused(folder: Path) -> None:
    head = (folder / "head.safetensors").read_bytes()
    (folder / "head.safetensors").write_bytes(head[:-1] + bytes([head[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"head\.safetensors was altered: expected SHA-256"):
        load_model(folder)
    (folder / "head.safetensors").unlink()
    with pytest.raises(ModelError, match=r"head\.safetensors is missing"):
        load_model(folder)
    (folder / "card.json").unlink()
    with pytest.raises(ModelError, match=r"no card\.json"):
        load_model(folder)


def test_another_base_is_refused_with_both_digests_and_the_same_elsewhere_is_not(
    folder: Path, bases: Bases, tmp_path: Path
) -> None:
    expected = load_model(folder)
    with pytest.raises(ModelError, match="tuned on a base whose weights have SHA-256") as caught:
        load_model(folder, base=bases.llama)
    for base in (bases.bert, bases.llama):
        assert sha256(base / "model.safetensors") in str(caught.value)
    shutil.copytree(bases.bert, tmp_path / "moved")
    moved = load_model(folder, base=tmp_path / "moved")
    assert moved == expected
    np.testing.assert_array_equal(moved.predict_logits(TEXTS), expected.predict_logits(TEXTS))


def test_a_base_that_is_not_there_is_told_with_what_to_do(folder: Path, bases: Bases, tmp_path: Path) -> None:
    change_card(folder, base={"model": str(tmp_path / "gone"), "sha256": "0", "known_until": "2021-09-01T00:00Z"})
    with pytest.raises(ModelError, match=r"its base cannot be had; .*gone.* Pass another folder or hub id as base"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda tensors: tensors.popitem() and None, "does not fit this base; 1 tensors"),
        (lambda tensors: tensors.update(more=torch.zeros(2)), "does not fit this base; 1 tensors, first more"),
        (
            lambda tensors: tensors.update({next(iter(tensors)): torch.zeros(4, 31)}),
            "does not fit this base; 1 tensors",
        ),
    ],
    ids=["missing", "left over", "another shape"],
)
def test_tensors_that_do_not_fit_are_refused(folder: Path, change: Any, match: str) -> None:
    tensors = read_tensors(folder)
    change(tensors)
    safetensors.save_file(tensors, folder / "adapter_model.safetensors")
    change_card(folder)
    with pytest.raises(ModelError, match=match):
        load_model(folder)


def test_a_head_or_weights_that_do_not_fit_are_refused(folder: Path, bases: Bases, tmp_path: Path) -> None:
    safetensors.save_file({"weight": torch.zeros(3, 32)}, folder / "head.safetensors")
    change_card(folder)
    with pytest.raises(ModelError, match="the head does not fit"):
        load_model(folder)
    full = make_folder(tmp_path / "full", bases, "mean", "full").folder
    tensors = read_tensors(full, "weights.safetensors")
    tensors.popitem()
    safetensors.save_file(tensors, full / "weights.safetensors")
    change_card(full)
    with pytest.raises(ModelError, match="the weights do not fit"):
        load_model(full)


def test_a_file_that_is_no_safetensors_is_refused(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"12345678")
    change_card(folder)
    with pytest.raises(ModelError, match="cannot be put on its base"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"method": "loraa"}, "method is 'loraa'. Did you mean 'lora'"),
        ({"method": "tfidf"}, "method is 'tfidf'"),
        ({"method": "prefix"}, "its adapter is LORA for FEATURE_EXTRACTION; its card says PREFIX_TUNING"),
        ({"method": "full"}, r"lists no file 'weights\.safetensors', which method 'full' needs"),
        ({"head": {"kind": "meen"}}, r"head\.kind is 'meen'. Did you mean 'mean'"),
        ({"head": {"kind": "own"}}, "its adapter is LORA for FEATURE_EXTRACTION; its card says LORA for SEQ_CLS"),
        ({"head": {}}, r"no key 'head\.kind'"),
        ({"head": {"kind": "words"}}, "a card has a prompt where its head is of kind 'words'"),
        ({"prompt": PROMPT}, "a card has a prompt where its head is of kind 'words'"),
        ({"files": {}}, "lists no file 'tokenizer.json'"),
        ({"base": {"model": "x", "known_until": "2021-09-01T00:00Z"}}, r"no key 'base\.sha256'"),
    ],
)
def test_a_card_that_cannot_be_meant_is_refused(
    folder: Path, bases: Bases, changes: dict[str, Any], match: str
) -> None:
    if changes.get("head") == {"kind": "own"}:
        changes = {**changes, "base": {**base_of(bases.bert_own)}}
    change_card(folder, **changes)
    with pytest.raises(ModelError, match=match):
        load_model(folder)


def base_of(base: Path) -> dict[str, str]:
    digest = sha256(base / "model.safetensors")
    return {"model": str(base), "sha256": digest, "known_until": "2021-09-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    "setting", [{"megatron_config": {"tensor_model_parallel_size": 1}}, {"init_lora_weights": "pissa"}]
)
def test_settings_by_which_peft_would_import_or_change_something_are_refused(
    folder: Path, setting: dict[str, Any]
) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **setting}), encoding="utf-8")
    change_card(folder)
    with pytest.raises(ModelError, match="sets megatron_config or init_lora_weights"):
        load_model(folder)


def test_a_prompt_never_starts_from_a_tokenizer_that_its_settings_name(tmp_path: Path, bases: Bases) -> None:
    made = make_folder(tmp_path / "m", bases, "last", "prompt", causal=True)
    path = made.folder / "adapter_config.json"
    start = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "up", "tokenizer_name_or_path": "nobody/nothing"}
    settings = {**json.loads(path.read_text(encoding="utf-8")), **start, "inference_mode": False}
    path.write_text(json.dumps(settings), encoding="utf-8")
    change_card(made.folder)
    np.testing.assert_allclose(load_model(made.folder).predict_logits(["up"])[0], made.logits("up"), atol=2e-5)


@pytest.mark.parametrize(("method", "most"), [("prompt", 61), ("prefix", 61), ("lora", 64)])
def test_more_tokens_than_the_base_has_places_for_are_refused(
    tmp_path: Path, bases: Bases, method: str, most: int
) -> None:
    folder = make_folder(tmp_path / "m", bases, "mean", method, max_tokens=most).folder
    assert np.isfinite(load_model(folder).predict_logits(["up " * 99])).all()
    change_card(folder, max_tokens=most + 1)
    with pytest.raises(ModelError, match=f"max_tokens is {most + 1}, and . learned tokens .* base reads 64 in all"):
        load_model(folder)


def test_a_prompt_with_other_keys_is_refused(tmp_path: Path, bases: Bases) -> None:
    folder = make_folder(tmp_path / "m", bases, "words", "lora", causal=True, prompt={**PROMPT, "behind": ""}).folder
    with pytest.raises(ModelError, match="prompt has not the keys of a prompt"):
        load_model(folder)


def test_a_tokenizer_that_knows_more_than_the_base_is_refused_where_it_matters(folder: Path) -> None:
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words.add_tokens(["surges"])
    words.save(str(folder / "tokenizer.json"))
    change_card(folder)
    model = load_model(folder)
    with pytest.raises(ModelError, match="gives token 17, but the base knows 17 tokens"):
        model.predict_proba(["surges"])


def test_pickles_quantised_where_it_was_not_and_a_device_that_is_not_there_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="method 'lora' was not tuned on a quantised base"):
        load_tuned_model(folder, quantised=True)
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="finds no CUDA"):
            load_tuned_model(folder, device="cuda")
    (folder / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="pickled weights can run code"):
        load_model(folder)
