"""Published classifiers, tiny and random: the order of labels, the last token, lost heads, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finsignal.errors import ConfigError, ModelError, TableError
from finsignal.sentiment.classifiers import PublishedClassifier, load_classifier
from finsignal.sentiment.hub import read_meanings
from finsignal.sentiment.score import DEFAULT
from finsignal.sentiment.score import load_model as load_own
from finsignal.tables import LABELS

# The training packages deprecate one another's names; what they write is not about this repository.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "acme", "beta", "shares", "today", "rises", "falls", "meets", "on", "news"]
TEXTS = [
    "Acme shares rises today",
    "beta falls",
    "Beta meets news on Acme today shares rises falls meets today on news",
    "falls",
    "acme falls on news",
    "Acme shares falls today",
]
NAMES = ("Positive", "negative", "neutral")  # the order of ProsusAI/finbert, with letters as of others


def write_tokenizer(folder: Path, *, causal: bool = False, **settings: Any) -> None:
    """A tokenizer of whole words; for a causal model without marks at the ends, and padding on the left."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: code for code, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if not causal:
        tokenizer.enable_padding(length=20)  # a tokenizer file may ask for padding; scoring must not follow it
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    side = "left" if causal else "right"
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", padding_side=side, **settings)
    fast.save_pretrained(folder)


def to_config(kind: str, **changes: Any) -> Any:
    import transformers

    shape = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 24,
        "initializer_range": 0.5,  # far enough from 0 that texts differ in their probabilities
        "id2label": dict(enumerate(NAMES)),
        "label2id": {name: code for code, name in enumerate(NAMES)},
    }
    return getattr(transformers, f"{kind}Config")(**{**shape, **changes})


def write_model(folder: Path, kind: str = "Bert", head: str = "ForSequenceClassification", **changes: Any) -> Path:
    """A random model of transformers with its tokenizer."""
    import torch
    import transformers

    torch.manual_seed(1)
    getattr(transformers, f"{kind}{head}")(to_config(kind, **changes)).save_pretrained(folder)
    write_tokenizer(folder, causal=kind == "Llama")
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama", "Llama", pad_token_id=None)


@pytest.fixture(scope="module")
def llama_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What adapters are put on: a causal model as published, with two unnamed labels as transformers assumes."""
    names = {"id2label": None, "label2id": None}
    return write_model(tmp_path_factory.mktemp("models") / "base", "Llama", "ForCausalLM", pad_token_id=None, **names)


def write_adapter(
    folder: Path, base: Path, *, labels: int = 4, tokens: int | None = None, method: str = "Lora", **settings: Any
) -> np.ndarray:
    """A random adapter of four labels with its head on a base; its logits of TEXTS, one text at a time."""
    import peft
    import torch
    import transformers

    torch.manual_seed(2)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=labels, ignore_mismatched_sizes=True
    )
    if tokens:
        model.resize_token_embeddings(tokens, mean_resizing=False)
    usual = {"r": 4, "target_modules": "all-linear"} if method == "Lora" else {}
    config = getattr(peft, f"{method}Config")(**{"task_type": "SEQ_CLS", **usual, **settings})
    wrapped = peft.get_peft_model(model, config).eval()
    for value in wrapped.parameters():
        if value.requires_grad:  # as after training: most methods begin where they change nothing
            value.data = torch.randn(value.shape) * 0.3
    wrapped.save_pretrained(folder)
    return run_alone(wrapped, base)


def run_alone(model: Any, folder: Path) -> np.ndarray:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [model(**tokenizer([text], return_tensors="pt", padding=False)).logits[0].numpy() for text in TEXTS]
    return np.stack(rows).astype(np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def load(name: Path | str, **settings: Any) -> PublishedClassifier:
    found = load_classifier(name, **settings)
    assert isinstance(found, PublishedClassifier)
    return found


def change_json(path: Path, **changes: Any) -> None:
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Path]:
    def copy(source: Path, **config: Any) -> Path:
        folder = tmp_path / "copied"
        shutil.copytree(source, folder)
        change_json(folder / "config.json", **config)
        return folder

    return copy


# --- probabilities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_probabilities_are_those_of_transformers_in_the_order_of_our_labels(
    kind: str, request: pytest.FixtureRequest
) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = request.getfixturevalue(kind)
    expected = softmax(run_alone(AutoModelForSequenceClassification.from_pretrained(folder).eval(), folder))
    found = load(folder).predict_proba(TEXTS)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected[:, [1, 2, 0]], atol=1e-5)  # NAMES: positive, negative, neutral
    assert np.ptp(found, axis=0).max() > 0.2  # or every text would look alike, and the tests below prove nothing


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_text_alone_is_as_in_any_batch_and_in_any_order(kind: str, request: pytest.FixtureRequest) -> None:
    model = load(request.getfixturevalue(kind))
    alone = np.concatenate([model.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(model.predict_proba(TEXTS), alone, atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(TEXTS[::-1] * 40)[:6], alone[::-1], atol=1e-5)


def test_a_causal_model_reads_the_last_token_of_the_text(llama: Path) -> None:
    model = load(llama)
    found = model.predict_proba(["acme rises", "acme rises falls", "acme rises [PAD]"])
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert model.model.config.pad_token_id == -1  # neither config nor tokenizer names one, so no token is skipped
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_a_pad_token_is_that_of_the_config_or_else_of_the_tokenizer(
    llama: Path, copied: Callable[..., Path], tmp_path: Path
) -> None:
    named = copied(llama, pad_token_id=9)  # "falls": as in training, it does not count as the last token
    found = load(named).predict_proba(["acme rises", "acme rises falls"])
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    shutil.copytree(llama, tmp_path / "by-tokenizer")
    write_tokenizer(tmp_path / "by-tokenizer", causal=True, pad_token="[PAD]")
    assert load(tmp_path / "by-tokenizer").model.config.pad_token_id == 0


def test_a_text_without_anything_is_neutral_for_certain(bert: Path) -> None:
    found = load(bert).predict_proba(["", " \n", "https://t.co/x", "acme rises"])
    np.testing.assert_array_equal(found[:3], [[0.0, 1.0, 0.0]] * 3)
    assert found[3, 1] < 1
    assert load(bert).predict_proba([]).shape == (0, 3)


def test_targets_change_nothing_and_are_said_not_to(bert: Path) -> None:
    model = load(bert)
    np.testing.assert_array_equal(model.predict_proba(TEXTS), model.predict_proba(TEXTS, ["Acme"] * len(TEXTS)))
    assert model.target_aware is False
    with pytest.raises(TableError, match="targets: 1 for 6 texts"):
        model.predict_proba(TEXTS, ["Acme"])


def test_what_is_no_text_is_refused(bert: Path) -> None:
    with pytest.raises(TableError, match="row 1 is float"):
        load(bert).predict_proba(["acme", float("nan")])  # type: ignore[list-item]


def test_a_text_is_cut_at_what_the_model_can_read(bert: Path) -> None:
    model = load(bert)
    assert model.max_tokens == 24
    long = "acme " * 22
    np.testing.assert_array_equal(model.predict_proba([long]), model.predict_proba([long + "falls " * 50]))
    short = load(bert, max_tokens=4)  # [CLS], two words, [SEP]
    np.testing.assert_array_equal(short.predict_proba(["acme rises"]), short.predict_proba(["acme rises falls"]))
    for wrong in (0, 25):
        with pytest.raises(ConfigError, match="expected 1 to 24"):
            load(bert, max_tokens=wrong)


def test_positions_of_roberta_begin_after_its_pad_token(tmp_path: Path) -> None:
    model = load(write_model(tmp_path / "roberta", "Roberta", pad_token_id=1, max_position_embeddings=24))
    assert model.max_tokens == 22
    assert model.predict_proba(["acme " * 50]).shape == (1, 3)


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_another_order_of_outputs_does_not_move_the_columns(
    bert: Path, copied: Callable[..., Path], order: tuple[int, ...]
) -> None:
    import safetensors.torch

    names = [NAMES[place] for place in order]
    # Listed from the last to the first: it is the number that counts, not the place in the file.
    listed = {str(code): names[code] for code in (2, 1, 0)}
    folder = copied(bert, id2label=listed, label2id={name: code for code, name in enumerate(names)})
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    for key in ("classifier.weight", "classifier.bias"):
        weights[key] = weights[key][list(order)].contiguous()
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_allclose(load(folder).predict_proba(TEXTS), load(bert).predict_proba(TEXTS), atol=1e-6)


def test_the_label_order_found_is_told(bert: Path) -> None:
    found = load(bert).describe()
    assert found["labels"] == [
        {"id": 0, "published": "Positive", "label": "positive"},
        {"id": 1, "published": "negative", "label": "negative"},
        {"id": 2, "published": "neutral", "label": "neutral"},
    ]
    assert found["architecture"] == "BertForSequenceClassification"
    assert json.loads(json.dumps(found)) == found


def test_unnamed_labels_need_a_map_and_follow_it(bert: Path, copied: Callable[..., Path]) -> None:
    folder = copied(bert, id2label=None, label2id=None, num_labels=3)
    with pytest.raises(ModelError, match=r"output 0 is 'label_0'.*0=LABEL_0, 1=LABEL_1, 2=LABEL_2.*Pass a label map"):
        load(folder)
    by_name = load(folder, label_map={"LABEL_0": "positive", "LABEL_1": "negative", "LABEL_2": "neutral"})
    by_number = load(folder, label_map={"0": "positive", "1": "negative", "2": "neutral"})
    expected = load(bert).predict_proba(TEXTS)
    np.testing.assert_array_equal(by_name.predict_proba(TEXTS), expected)
    np.testing.assert_array_equal(by_number.predict_proba(TEXTS), expected)
    turned = load(folder, label_map={"0": "negative", "1": "positive", "2": "neutral"})
    assert turned.name != by_name.name  # rows that mean something else must never mix


def test_five_labels_become_three_by_adding_their_probabilities(tmp_path: Path) -> None:
    names = ("very negative", "negative", "neutral", "positive", "very positive")
    five: dict[str, Any] = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: code for code, name in enumerate(names)},
    }
    folder = write_model(tmp_path / "five", **five)
    with pytest.raises(ModelError, match="very negative"):
        load(folder)
    model = load(folder, label_map={"very negative": "negative", "very positive": "positive"})
    parts = softmax(run_alone(model.model, folder))
    expected = np.stack([parts[:, 0] + parts[:, 1], parts[:, 2], parts[:, 3] + parts[:, 4]], axis=1)
    np.testing.assert_allclose(model.predict_proba(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "label_map", "message"),
    [
        (("bearish", "neutral", "bullish"), {}, r"Pass a label map .*bearish=negative bullish=positive\."),
        (("negative", "neutral", "postive"), {}, "Did you mean 'positive'"),
        (("negative", "positive"), {}, "no output means neutral"),
        (("LABEL_0", "LABEL_1", "LABEL_2"), {"LABEL0": "negative"}, "output 0 is 'label_0'"),
        (LABELS, {"positive": "bullish"}, "output 2 is 'bullish'"),
        (LABELS, {"0": "neutral"}, "output 0 is named 'negative', and the label map makes it neutral"),
        (("a", "neutral", "positive"), {"a": "neutral"}, "no output means negative"),
    ],
)
def test_a_meaning_that_is_not_clear_is_refused(
    outputs: tuple[str, ...], label_map: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        read_meanings("m", outputs, label_map)


def test_one_map_serves_a_model_that_needs_it_and_one_that_does_not() -> None:
    label_map = {"LABEL_0": "neutral", "LABEL_1": "positive", "LABEL_2": "negative"}
    assert read_meanings("m", ("LABEL_0", "LABEL_1", "LABEL_2"), label_map) == ("neutral", "positive", "negative")
    assert read_meanings("m", NAMES, label_map) == ("positive", "negative", "neutral")


def test_a_config_that_says_two_orders_is_refused_until_a_map_by_number_decides(
    bert: Path, copied: Callable[..., Path]
) -> None:
    folder = copied(bert, label2id={"Positive": 2, "negative": 0, "neutral": 1})
    with pytest.raises(ModelError, match="output 0 is 'Positive', and that 'Positive' is output 2"):
        load(folder)
    decided = load(folder, label_map={"0": "positive", "1": "negative", "2": "neutral"})
    np.testing.assert_array_equal(decided.predict_proba(TEXTS), load(bert).predict_proba(TEXTS))


def test_numbers_of_labels_with_a_gap_are_refused(bert: Path, copied: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="numbered from 0 without a gap"):
        load(copied(bert, id2label={"1": "negative", "2": "neutral", "3": "positive"}))


# --- adapters ---------------------------------------------------------------------------------------------------------

FOUR = {"LABEL_0": "neutral", "LABEL_1": "positive", "LABEL_2": "negative", "3": "negative"}


def test_an_adapter_on_a_causal_base_comes_back_with_its_head(llama_base: Path, tmp_path: Path) -> None:
    expected = softmax(write_adapter(tmp_path / "lora", llama_base))
    with pytest.raises(ModelError, match="0=LABEL_0, 1=LABEL_1, 2=LABEL_2, 3=LABEL_3"):
        load(tmp_path / "lora")
    model = load(tmp_path / "lora", label_map=FOUR)
    found = model.predict_proba(TEXTS)
    np.testing.assert_allclose(found[:, 0], expected[:, 2] + expected[:, 3], atol=1e-5)
    np.testing.assert_allclose(found[:, [1, 2]], expected[:, [0, 1]], atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.1
    assert model.describe()["base"] == str(llama_base)
    assert model.describe()["architecture"] == "LlamaForSequenceClassification"


def test_the_names_of_a_base_are_not_those_of_a_head_trained_anew(bert: Path, tmp_path: Path) -> None:
    """The base has three named outputs, the adapter three of its own: the order may well be another."""
    write_adapter(tmp_path / "lora", bert, labels=3)
    with pytest.raises(ModelError, match="0=LABEL_0, 1=LABEL_1, 2=LABEL_2"):
        load(tmp_path / "lora")
    shutil.copy(bert / "config.json", tmp_path / "lora")  # where the adapter's own folder names them, they hold
    assert load(tmp_path / "lora").outputs == NAMES


def test_an_adapter_without_a_head_uses_the_head_of_its_base(bert: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path / "lora", bert, labels=3, task_type="FEATURE_EXTRACTION", target_modules=["query"])
    model = load(tmp_path / "lora")
    assert model.outputs == NAMES
    differ = np.abs(model.predict_proba(TEXTS) - load(bert).predict_proba(TEXTS)).max()
    assert differ > 1e-3


@pytest.mark.parametrize("task", ["SEQ_CLS", None])
def test_a_head_that_is_in_no_file_is_refused(llama_base: Path, tmp_path: Path, task: str | None) -> None:
    """peft gives a random one, with another answer each time, or stops with a KeyError."""
    import safetensors.torch

    write_adapter(tmp_path / "lora", llama_base, task_type=task)
    path = tmp_path / "lora" / "adapter_model.safetensors"
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file({key: value for key, value in weights.items() if "score" not in key}, path)
    with pytest.raises(ModelError, match="no classification head"):
        load(tmp_path / "lora", label_map=FOUR)


def test_a_base_that_lacks_what_an_adapter_stands_on_is_refused(tmp_path: Path) -> None:
    """A BERT saved as a language model has no pooler: in training it was random, and nobody kept it."""
    base = write_model(tmp_path / "masked", head="ForMaskedLM")
    write_adapter(tmp_path / "lora", base)
    with pytest.raises(ModelError, match=r"neither the adapter nor its base .* holds bert\.pooler\.dense\.bias"):
        load(tmp_path / "lora", label_map=FOUR)


def test_an_adapter_with_an_added_token_brings_its_embeddings(llama_base: Path, tmp_path: Path) -> None:
    expected = softmax(write_adapter(tmp_path / "lora", llama_base, tokens=14))
    found = load(tmp_path / "lora", label_map=FOUR).predict_proba(TEXTS)
    np.testing.assert_allclose(found[:, 1], expected[:, 0], atol=1e-5)


@pytest.mark.parametrize("method", ["AdaLora", "IA3", "PrefixTuning", "PromptTuning"])
def test_adapters_of_other_methods_come_back(llama_base: Path, tmp_path: Path, method: str) -> None:
    settings: dict[str, dict[str, Any]] = {
        "AdaLora": {"target_modules": ["q_proj"], "total_step": 10},
        "IA3": {"target_modules": ["q_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
        "PrefixTuning": {"num_virtual_tokens": 4},
        "PromptTuning": {"num_virtual_tokens": 4},
    }
    expected = softmax(write_adapter(tmp_path / "made", llama_base, method=method, **settings[method]))
    model = load(tmp_path / "made", label_map=FOUR)
    np.testing.assert_allclose(model.predict_proba(TEXTS)[:, 1], expected[:, 0], atol=1e-5)
    assert model.max_tokens == 24 - settings[method].get("num_virtual_tokens", 0)


def test_an_adapter_for_another_base_is_refused(llama_base: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path / "lora", llama_base)
    deeper = write_model(tmp_path / "deeper", "Llama", "ForCausalLM", num_hidden_layers=1)
    with pytest.raises(ModelError, match="does not fit"):
        load(tmp_path / "lora", label_map=FOUR, base=str(deeper))
    wider = write_model(tmp_path / "wider", "Llama", "ForCausalLM", hidden_size=64)
    with pytest.raises(ModelError, match="does not fit"):
        load(tmp_path / "lora", label_map=FOUR, base=str(wider))
    write_adapter(tmp_path / "every", llama_base, target_modules=["q_proj"])  # of every layer, however many
    more = write_model(tmp_path / "more", "Llama", "ForCausalLM", num_hidden_layers=3)
    with pytest.raises(ModelError, match="does not fit"):
        load(tmp_path / "every", label_map=FOUR, base=str(more))


def test_a_base_that_moved_is_named_by_hand(llama_base: Path, tmp_path: Path, offline: Path) -> None:
    expected = softmax(write_adapter(tmp_path / "lora", llama_base))
    change_json(tmp_path / "lora" / "adapter_config.json", base_model_name_or_path="/content/drive/llama")
    with pytest.raises(ModelError, match=r"its base cannot be had; /content/drive/llama: no such.*as base"):
        load(tmp_path / "lora", label_map=FOUR)
    model = load(tmp_path / "lora", label_map=FOUR, base=str(llama_base))
    np.testing.assert_allclose(model.predict_proba(TEXTS)[:, 1], expected[:, 0], atol=1e-5)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_model_that_writes_text_is_refused_with_what_would_work(llama_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"LlamaForCausalLM has no classification head.* task type SEQ_CLS"):
        load(llama_base)
    write_adapter(tmp_path / "lora", llama_base)
    change_json(tmp_path / "lora" / "adapter_config.json", task_type="CAUSAL_LM")
    with pytest.raises(ModelError, match="task type CAUSAL_LM gives no probabilities"):
        load(tmp_path / "lora", label_map=FOUR)


def test_a_head_missing_from_a_whole_model_is_refused(bert: Path, copied: Callable[..., Path]) -> None:
    import safetensors.torch

    folder = copied(bert)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"hold no classifier\.weight.*random"):
        load(folder)


def test_a_head_of_another_size_than_the_config_says_is_refused(bert: Path, copied: Callable[..., Path]) -> None:
    names = {str(code): name for code, name in enumerate((*NAMES, "mixed"))}
    with pytest.raises(ModelError, match=r"hold no classifier\.bias, or in another shape"):
        load(copied(bert, id2label=names, label2id=None), label_map={"mixed": "neutral"})


def test_pickled_weights_are_never_read(bert: Path, llama_base: Path, copied: Callable[..., Path]) -> None:
    folder = copied(bert)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"no model\.safetensors; pickled weights .* refs/pr/NUMBER".replace(" ", ".*")
    ):
        load(folder)
    write_adapter(folder / "lora", llama_base)
    (folder / "lora" / "adapter_model.safetensors").rename(folder / "lora" / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors; pickled"):
        load(folder / "lora", label_map=FOUR)


def test_damaged_weights_are_refused(bert: Path, copied: Callable[..., Path]) -> None:
    folder = copied(bert)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        load(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "fancy", "auto_map": {"AutoModel": "m.M"}}, "no model type 'fancy', and code of the hub"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "its weights are quantised"),
        ({"problem_type": "multi_label_classification"}, "not for one label of several"),
        ({"architectures": ["BertModel"]}, "BertModel has no classification head"),
        ({"model_type": None}, "no model type None"),
        ({"_attn_implementation": "some/kernel"}, "asks for _attn_implementation = some/kernel"),
        ({"text_config": {"_experts_implementation": "a/b"}}, "asks for _experts_implementation = a/b"),
    ],
)
def test_a_config_that_is_no_plain_classifier_is_refused(
    bert: Path, copied: Callable[..., Path], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load(copied(bert, **config))


def test_code_in_a_folder_is_not_run(bert: Path, copied: Callable[..., Path], tmp_path: Path) -> None:
    folder = copied(bert, auto_map={"AutoModelForSequenceClassification": "evil.Evil", "AutoConfig": "evil.Evil"})
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert load(folder).predict_proba(TEXTS).shape == (6, 3)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_that_is_missing_or_of_another_model_is_refused(bert: Path, copied: Callable[..., Path]) -> None:
    folder = copied(bert)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["bitcoin"] = 500
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="token 500, but the model knows 13 tokens"):
        load(folder).predict_proba(["bitcoin rises"])
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="no tokenizer beside the weights"):
        load(folder)


def test_logits_that_are_no_numbers_are_refused(bert: Path, copied: Callable[..., Path]) -> None:
    import safetensors.torch

    folder = copied(bert)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        load(folder).predict_proba(["acme rises"])


def test_weights_that_would_not_fit_into_memory_are_refused(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(ModelError, match="GB of memory as float32, and"):
        load(bert)


def test_an_empty_folder_and_a_base_for_a_whole_model_are_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json; expected a model of transformers"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="it is no adapter"):
        load(bert, base=str(bert))


# --- names, folders and the hub ---------------------------------------------------------------------------------------


def test_a_name_tells_weights_apart_and_stays_the_same(bert: Path, tmp_path: Path) -> None:
    import safetensors.torch

    folder = tmp_path / "copied"
    shutil.copytree(bert, folder)
    first = load(bert).name
    assert len(first) == len("bert@") + 12
    assert load(folder).name.removeprefix("copied") == first.removeprefix("bert")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["classifier.bias"] += 1e-3
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    names = {first[5:], load(folder).name[7:], load(bert, max_tokens=5).name[5:]}
    assert len(names) == 3


def test_weights_in_several_files_are_read(bert: Path, copied: Callable[..., Path]) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = copied(bert)
    (folder / "model.safetensors").unlink()
    AutoModelForSequenceClassification.from_pretrained(bert).save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    np.testing.assert_array_equal(load(folder).predict_proba(TEXTS), load(bert).predict_proba(TEXTS))
    shards[1].unlink()
    with pytest.raises(ModelError, match=f"no {shards[1].name}"):
        load(folder)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no way out."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def test_a_hub_id_is_read_from_the_cache_at_the_revision_that_was_named(bert: Path, offline: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    stored = offline / "models--Some--finbert"
    shutil.copytree(bert, stored / "snapshots" / commit)
    (stored / "refs" / "refs" / "pr").mkdir(parents=True)
    (stored / "refs" / "refs" / "pr" / "7").write_text(commit)
    model = load("Some/finbert@refs/pr/7")
    assert model.name.removeprefix("Some/finbert@") == load(bert).name.removeprefix("bert@")
    np.testing.assert_array_equal(model.predict_proba(TEXTS), load(bert).predict_proba(TEXTS))
    with pytest.raises(ModelError, match="'Some/finbert': neither a folder here, nor could the hub send it"):
        load("Some/finbert")


@pytest.mark.parametrize("name", ["Some/other", "Some/other@0123abc", "models/mine.bin", "roberta-base"])
def test_what_is_neither_folder_nor_on_the_hub_is_refused(name: str, offline: Path) -> None:
    with pytest.raises(ModelError, match="neither a folder here, nor could the hub send it"):
        load(name)


@pytest.mark.parametrize("name", ["/no/such/folder", "../models/mine", "./models", "no such/folder", "a/b/c"])
def test_what_cannot_be_a_hub_id_is_not_asked_for(name: str) -> None:
    with pytest.raises(ModelError, match="no such model folder, and no hub id"):
        load(name)


def test_the_model_that_ships_and_its_folder_are_loaded_as_ever() -> None:
    assert load_classifier("default") == load_own()
    assert load_classifier(DEFAULT) == load_own()
    with pytest.raises(ConfigError, match="max_tokens and base are for published classifiers"):
        load_classifier("default", max_tokens=5)


def test_where_a_folder_of_ours_is_needed_a_published_classifier_is_sent_to_evaluate(bert: Path) -> None:
    for name in ("ProsusAI/finbert", bert):
        with pytest.raises(ModelError, match="A published classifier, by hub id or folder, is for finsignal evaluate"):
            load_own(name)
