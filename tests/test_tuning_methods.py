"""What each method opens to training: the published counts without weights, and what peft would do in silence."""

from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from finsignal.errors import ConfigError, ModelError
from finsignal.sentiment.recipe import Base, Head, Recipe, Tuning
from finsignal.sentiment.tuning.methods import (
    add_adapter,
    after_step,
    count,
    count_recipe,
    empty_base,
    make_config,
    orthogonality,
)

pytest.importorskip("peft", reason="needs peft, of the extra finsignal[train]")
import torch
import transformers

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TUNING = Tuning(epochs=1, learning_rate=1e-3, seed=1, method="lora", rank=4, alpha=8)


def recipe(kind: str, **settings: Any) -> Recipe:
    tuning = Tuning(**{"epochs": 1, "learning_rate": 1e-4, "seed": 1, **settings})
    return Recipe("r", (), Base("b", date(2024, 1, 1), "none"), tuning, (), (), "", head=Head(kind=kind))


def bert(**settings: Any) -> Any:
    sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return transformers.BertConfig(**{**sizes, "intermediate_size": 48, "num_labels": 3, **settings})


def llama(**settings: Any) -> Any:
    sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return transformers.LlamaConfig(**{**sizes, "num_key_value_heads": 2, "intermediate_size": 48, **settings})


def real(config: Any, kind: str) -> Any:
    """A random base with weights; a pooler that nothing reads is taken off, as load_base does."""
    names = {"own": "AutoModelForSequenceClassification", "words": "AutoModelForCausalLM"}
    torch.manual_seed(0)
    module = getattr(transformers, names.get(kind, "AutoModel")).from_config(config)
    if kind == "mean":
        module.pooler = None
    return module


def forward(module: Any, rows: int = 2) -> Any:
    ids = torch.arange(3, 3 + 5 * rows).reshape(rows, 5)
    found = module(input_ids=ids, attention_mask=torch.ones_like(ids))
    return found.last_hidden_state if "last_hidden_state" in found else found.logits


# The configurations that the hub publishes of these bases, in numbers.
LLAMA_3_2_3B = transformers.LlamaConfig(
    vocab_size=128256, hidden_size=3072, num_hidden_layers=28, num_attention_heads=24, num_key_value_heads=8,
    head_dim=128, intermediate_size=8192, tie_word_embeddings=True,
)  # fmt: skip
QWEN3_0_6B = transformers.Qwen3Config(
    vocab_size=151936, hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
    head_dim=128, intermediate_size=3072, tie_word_embeddings=True,
)  # fmt: skip
LLAMA_3_1_8B = transformers.LlamaConfig(
    vocab_size=128256, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
    intermediate_size=14336, tie_word_embeddings=False,
)  # fmt: skip
FINBERT = transformers.BertConfig(num_labels=3)


@pytest.mark.parametrize(
    ("config", "given", "trainable", "total"),
    [
        (LLAMA_3_2_3B, recipe("words", method="qlora", rank=16, alpha=16, target_modules=SEVEN), 24_313_856, 3.237e9),
        (LLAMA_3_2_3B, recipe("words", method="qlora", rank=16, alpha=16), 24_313_856, 3.237e9),
        (QWEN3_0_6B, recipe("words", rank=8, alpha=32, target_modules=("q_proj", "v_proj")), 1_146_880, 0.597e9),
        (LLAMA_3_1_8B, recipe("last", method="qlora", rank=16, alpha=32, target_modules=SEVEN), 41_955_328, 7.547e9),
        (LLAMA_3_1_8B, recipe("last", method="qlora", rank=16, alpha=32), 41_955_328, 7.547e9),
        (FINBERT, recipe("own", method="lora", rank=8, alpha=16, target_modules=("query", "value")), 297_219, 0.1098e9),
    ],
)
def test_the_published_counts_of_what_is_tuned(config: Any, given: Recipe, trainable: int, total: float) -> None:
    found = count_recipe(given, config)
    assert found["trainable"] == trainable
    assert found["total"] == pytest.approx(total, rel=1e-3)
    assert found["share"] == found["trainable"] / found["total"]


def test_a_base_without_weights_takes_no_memory() -> None:
    assert {value.device.type for value in empty_base(LLAMA_3_1_8B, "words").parameters()} == {"meta"}


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix", "prompt", "full", "frozen"])
@pytest.mark.parametrize(("config", "kind"), [(bert(), "mean"), (llama(), "last"), (llama(), "words")])
def test_gradients_reach_all_that_a_method_tunes_and_nothing_else(method: str, config: Any, kind: str) -> None:
    base = real(config, kind)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    tuned = add_adapter(base, replace(TUNING, method=method), kind=kind, steps=20, base_name="b")
    if method == "frozen":
        assert not any(value.requires_grad for value in tuned.parameters())
        return
    optimiser = torch.optim.SGD([value for value in tuned.parameters() if value.requires_grad], lr=0.1)
    for _ in range(2):  # LoRA's A has a gradient of 0 while its B is 0
        optimiser.zero_grad()
        forward(tuned).square().sum().backward()
        optimiser.step()
    lost = [name for name, value in tuned.named_parameters() if value.requires_grad and value.grad is None]
    assert lost == []
    assert any(value.grad.abs().max() > 0 for value in tuned.parameters() if value.requires_grad)
    after = {name.replace(".base_layer", ""): value for name, value in base.state_dict().items()}
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert bool(changed) == (method == "full")


@pytest.mark.parametrize("config", [bert(), transformers.RobertaConfig(vocab_size=100, hidden_size=32,
    num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, num_labels=3)])  # fmt: skip
def test_an_own_head_is_tuned_whole_and_never_by_lora(config: Any) -> None:
    tuned = add_adapter(real(config, "own"), TUNING, kind="own", steps=20, base_name="b")
    inside = [name for name, value in tuned.named_parameters() if ".classifier." in name and value.requires_grad]
    assert inside
    assert all("modules_to_save" in name and "lora" not in name for name in inside)
    layers = {name.partition(".lora_A")[0] for name, _ in tuned.named_parameters() if ".lora_A." in name}
    every = [name for name, part in real(config, "own").named_modules() if isinstance(part, torch.nn.Linear)]
    assert len(layers) == len([name for name in every if not name.startswith("classifier")]) > 0


def test_an_own_head_that_peft_would_not_save_is_refused() -> None:
    module = real(bert(), "own")
    module.readout, module.classifier = module.classifier, None
    with pytest.raises(ModelError, match="no head named score or classifier"):
        add_adapter(module, TUNING, kind="own", steps=20, base_name="b")


def test_a_frozen_base_with_its_own_head_tunes_the_head() -> None:
    tuned = add_adapter(real(bert(), "own"), replace(TUNING, method="frozen"), kind="own", steps=20, base_name="b")
    assert {name for name, value in tuned.named_parameters() if value.requires_grad} == {
        "classifier.weight",
        "classifier.bias",
    }


def test_lora_leaves_the_layer_that_gives_the_words_alone() -> None:
    tuned = add_adapter(real(llama(tie_word_embeddings=False), "words"), TUNING, kind="words", steps=9, base_name="b")
    assert not any("lm_head.lora" in name for name, _ in tuned.named_parameters())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("query", "valu"), r"'valu' is no linear layer of BertModel\. Did you mean 'value'\?"),
        (("LayerNorm",), "'LayerNorm' is no linear layer"),
        (("uery",), "'uery' is no linear layer"),  # the end of a name is a whole part of it
    ],
)
def test_a_target_that_is_not_there_is_refused_also_beside_one_that_is(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_config(replace(TUNING, target_modules=names), kind="mean", module=empty_base(bert(), "mean"), steps=9)


@pytest.mark.parametrize(("kind", "name"), [("own", "classifier"), ("words", "lm_head")])
def test_a_head_is_no_target(kind: str, name: str) -> None:
    module = real(bert() if kind == "own" else llama(), kind)
    with pytest.raises(ModelError, match="a head is tuned whole"):
        add_adapter(module, replace(TUNING, target_modules=(name,)), kind=kind, steps=9, base_name="b")


@pytest.mark.parametrize(
    ("settings", "steps", "message"),
    [
        ({"rank": 0}, 100, "rank is 0"),
        ({"method": "adalora"}, 9, "9 steps; expected 10 or more"),
        ({"method": "adalora", "average": 0.9}, 100, "average is 0.9"),
        ({"method": "tfidf"}, 100, "'tfidf' has no adapter"),
    ],
)
def test_what_a_method_cannot_do_is_refused(settings: dict[str, Any], steps: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(replace(TUNING, **settings), kind="mean", module=empty_base(bert(), "mean"), steps=steps)


def test_the_penalty_is_the_one_that_peft_adds_where_a_model_computes_its_own_loss() -> None:
    tuned = add_adapter(real(bert(), "own"), replace(TUNING, method="adalora"), kind="own", steps=20, base_name="b")
    tuned.eval()
    ids = torch.arange(3, 13).reshape(2, 5)
    found = tuned(input_ids=ids, labels=torch.tensor([0, 2]))
    plain = torch.nn.functional.cross_entropy(found.logits, torch.tensor([0, 2]))
    weight = tuned.peft_config["default"].orth_reg_weight
    assert weight * float(orthogonality(tuned)) == pytest.approx(float(found.loss - plain), rel=1e-5)
    assert float(orthogonality(tuned)) > 1  # random A and B are far from orthogonal
    orthogonality(tuned).backward()
    assert all(value.grad is not None for name, value in tuned.named_parameters() if ".lora_A." in name)


def run_adalora(steps: int) -> tuple[Any, dict[str, Any]]:
    """A tiny AdaLoRA training by plain gradient descent, and its tensors by name."""
    tuning = replace(TUNING, method="adalora", lora_dropout=0.0)
    torch.manual_seed(5)
    tuned = add_adapter(real(bert(), "mean"), tuning, kind="mean", steps=steps, base_name="b")
    open_to = [value for value in tuned.parameters() if value.requires_grad]
    for step in range(steps):
        for value in open_to:
            value.grad = None
        (forward(tuned).square().mean() + orthogonality(tuned)).backward()
        with torch.no_grad():
            for value in open_to:
                value -= 0.5 * value.grad
        after_step(tuned, tuning, step)
    return tuned, {name: value.detach() for name, value in tuned.named_parameters()}


def test_adalora_ends_at_its_rank_a_layer_on_average_and_never_tunes_its_divisor() -> None:
    tuned, values = run_adalora(20)
    kept = [int((value != 0).sum()) for name, value in values.items() if ".lora_E." in name]
    assert sum(kept) == TUNING.rank * len(kept)
    assert max(kept) > min(kept)
    assert {float(value) for name, value in values.items() if ".ranknum." in name} == {6.0}
    assert tuned.peft_config["default"].init_r == 6


def test_adaloras_divisor_is_not_tuned_on_another_device_than_the_cpu_either() -> None:
    """peft opens it to gradients when it moves it: on a GPU, and on the meta device."""
    tuning = replace(TUNING, method="adalora")
    tuned = add_adapter(empty_base(bert(), "mean"), tuning, kind="mean", steps=20, base_name="b")
    assert not any(value.requires_grad for name, value in tuned.named_parameters() if ".ranknum." in name)


@pytest.mark.parametrize("steps", [10, 11, 13])
def test_adalora_ends_at_its_rank_however_few_the_steps_are(steps: int) -> None:
    _, values = run_adalora(steps)
    kept = [int((value != 0).sum()) for name, value in values.items() if ".lora_E." in name]
    assert sum(kept) == TUNING.rank * len(kept)


def test_other_methods_have_nothing_to_do_after_a_step() -> None:
    tuned = add_adapter(real(bert(), "mean"), TUNING, kind="mean", steps=20, base_name="b")
    before = {name: value.clone() for name, value in tuned.state_dict().items()}
    after_step(tuned, TUNING, 1)
    assert all(torch.equal(value, before[name]) for name, value in tuned.state_dict().items())


def test_a_4_bit_weight_counts_as_the_numbers_it_stands_for(tmp_path: Any) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes, of the extra finsignal[train]")
    from finsignal.sentiment.tuning.bases import load_base

    config = bert(hidden_size=64, intermediate_size=128)
    real(config, "mean").save_pretrained(tmp_path)
    counts = []
    for method in ("qlora", "lora"):
        tuning = replace(TUNING, method=method)
        base = load_base(tmp_path, kind="mean", method=method)
        tuned = add_adapter(base, tuning, kind="mean", steps=9, base_name="b")
        counts.append(count(SimpleNamespace(encoder=tuned, head=torch.nn.Linear(64, 3))))
    assert counts[0] == counts[1]


def test_a_head_is_counted_once_although_peft_keeps_its_first_copy() -> None:
    base = real(bert(), "own")
    all_of_it = sum(value.numel() for value in base.parameters())
    found = count_recipe(replace(recipe("own"), tuning=TUNING), bert())
    lora = found["trainable"] - (32 * 3 + 3)
    assert found["total"] == all_of_it + lora


def test_the_name_of_the_base_is_in_the_adapters_own_file(tmp_path: Any) -> None:
    tuned = add_adapter(real(bert(), "mean"), TUNING, kind="mean", steps=9, base_name="maker/base")
    tuned.peft_config["default"].save_pretrained(tmp_path)
    assert '"base_model_name_or_path": "maker/base"' in (tmp_path / "adapter_config.json").read_text()
