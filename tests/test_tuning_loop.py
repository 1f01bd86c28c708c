"""The training loop: every method and head, accumulation, early stopping, a kill at any step, no disk and no memory."""

import datetime as dt
import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models

from finsignal.errors import ConfigError, ModelError
from finsignal.sentiment import train
from finsignal.sentiment.recipe import Base, DataSet, Head, Recipe, Tuning
from finsignal.sentiment.score import load_model
from finsignal.sentiment.train import fine_tune
from finsignal.sentiment.tuning import adapters, bases, checkpoints, course, heads
from finsignal.sentiment.tuning.optimise import check_warmup, learning_rate_share, make_batches

# The training packages deprecate one another's names; what they write is not about this repository.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

NOW = pd.Timestamp("2026-01-02", tz="UTC")
OWN = {0: "positive", 1: "negative", 2: "neutral"}  # FinBERT's order
QUESTIONS = ["Beta falls today 99", "Acme meets today 77", "Acme rises today 55"]
DATA = DataSet(
    "made",
    "file",
    "made.csv",
    "none",
    dt.date(2022, 12, 31),
    label_map={"up": "positive", "down": "negative", "flat": "neutral"},
)
RATES = {"full": 3e-3, "prompt": 1e-1, "prefix": 3e-2, "frozen": 3e-2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bert, own (a BERT with a head of its own labels), llama, and the labelled rows."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_models.write_bert(folder / "bert")
    tiny_models.write_bert(folder / "own", labels=OWN)
    tiny_models.write_llama(folder / "llama")
    return tiny_models.write_rows(folder)


BASES = {"mean": "bert", "own": "own", "last": "llama", "words": "llama"}


def make_recipe(folder: Path, method: str, kind: str = "mean", **more: Any) -> Recipe:
    settings = {"epochs": 3, "learning_rate": RATES.get(method, 1e-2), "seed": 3, "rank": 4, "alpha": 8}
    tuning = Tuning(**{**settings, "batch_size": 8, "held_out": 0.2, "virtual_tokens": 4, **more, "method": method})
    base = Base(str(folder / BASES[kind]), dt.date(2021, 8, 31), "none", max_tokens=64)
    return Recipe("tiny", ("anything",), base, tuning, (DATA,), (), "d" * 64, head=Head(kind=kind))


def make_course(folder: Path, tuning: Tuning, kind: str = "mean") -> tuple[course.Course, list[list[int]]]:
    """A course over a dozen rows of several lengths."""
    classifier = heads.make_classifier(
        folder / BASES[kind], tuning, base_name="tiny", head=Head(kind=kind), steps=12 * tuning.epochs
    )
    ids = [[2, *([4 + row % 8] * (1 + row % 5)), 3] for row in range(24)]
    labels = np.eye(3, dtype=np.float32)[np.arange(24) % 3]
    return course.make_course(classifier, course.make_lessons(ids, labels, tuning), tuning), ids


# --- every method and head --------------------------------------------------------------------------------------------

ALL = [
    *((method, "mean") for method in ("lora", "qlora", "lora_8bit", "adalora", "prefix", "prompt", "full", "frozen")),
    *((method, "last") for method in ("lora", "qlora", "lora_8bit", "adalora", "prefix", "prompt", "full", "frozen")),
    *((method, "own") for method in ("lora", "qlora", "lora_8bit", "full", "frozen")),
    *((method, "words") for method in ("lora", "qlora", "full")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "kind"), ALL)
def test_every_method_learns_and_its_folder_scores_what_was_trained(
    folder: Path, tmp_path: Path, method: str, kind: str
) -> None:
    """Reloaded equals saved: the finished folder's logits are those of the best checkpoint in full precision."""
    more = {"epochs": 12, "learning_rate": 5e-3} if method == "adalora" or kind == "words" else {}
    more |= {"epochs": 10} if kind == "own" else {}
    more |= {"epochs": 20, "learning_rate": 0.1} if (method, kind) == ("frozen", "own") else {}
    recipe = make_recipe(folder, method, kind, **more)
    kept: list[Path] = []
    real = train.run_tuning

    def keep(*args: Any, **options: Any) -> dict[str, Any]:
        found = real(*args, **options)
        kept.append(Path(shutil.copytree(found["checkpoint"], tmp_path / "best")))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "run_tuning", keep)
        model = load_model(fine_tune(recipe, data=folder, out=tmp_path / "model", now=NOW))
    run = model.card["runs"][0]
    losses = [entry["held_out_log_loss"] for entry in run["epochs"]]
    if (method, kind) != ("frozen", "own"):  # on a random base whose pooled states are all alike
        assert min(losses) < 0.9
    assert run["chosen_epoch"] == 1 + int(np.argmin(losses))
    assert ("model.onnx" in model.card["files"]) == (kind in ("mean", "own") and method not in ("prefix", "prompt"))

    saved = adapters.load_tuned(folder / BASES[kind], kept[0], head=recipe.head)
    reader = train.make_reader(folder / BASES[kind], recipe, saved)
    rows = pd.DataFrame({"text": QUESTIONS, "target": ""})
    expected = course.predict_logits(reader.classifier, reader.encode(rows))
    bound = 0.25 if "model.onnx" in model.card["files"] else 1e-4  # INT8, else the same arithmetic
    np.testing.assert_allclose(model.predict_logits(QUESTIONS), expected, atol=bound * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(("method", "kind"), [("lora", "mean"), ("lora", "own"), ("lora", "last"), ("adalora", "last")])
def test_merged_equals_adapter_within_a_hundred_thousandth(
    folder: Path, tmp_path: Path, method: str, kind: str
) -> None:
    tuning = make_recipe(folder, method, kind, lora_dropout=0.0, epochs=2).tuning
    made, ids = make_course(folder, tuning, kind)
    course.run_epoch(made, epoch=1)
    adapters.write_tuned(made.classifier, tmp_path)
    adapters.read_tuned(made.classifier, tmp_path)  # as rounded to float16 in the file
    with_adapter = course.predict_logits(made.classifier, ids)
    merged = adapters.load_tuned(folder / BASES[kind], tmp_path, head=Head(kind=kind))
    assert not hasattr(merged.encoder, "peft_config")
    found = course.predict_logits(merged, ids)
    assert np.abs(found).max() > 0.01
    np.testing.assert_allclose(found, with_adapter, atol=1e-5 * max(1.0, np.abs(found).max()))


def test_prefix_tokens_cannot_be_merged_and_quantised_bases_are_not(folder: Path) -> None:
    for method, message in (("prefix", "in no weight"), ("lora_8bit", "quantised"), ("qlora", "quantised")):
        tuning = make_recipe(folder, method).tuning
        classifier = heads.make_classifier(folder / "bert", tuning, base_name="tiny", steps=10)
        with pytest.raises(ModelError, match=message):
            adapters.merge_into_base(classifier.encoder)


# --- a step -----------------------------------------------------------------------------------------------------------


def test_batches_accumulated_are_one_batch_of_all_their_rows(folder: Path) -> None:
    """Also where the parts are of several sizes and lengths: a mean of means would not be."""
    found = []
    for size, accumulation in ((9, 1), (3, 3)):  # nine rows are run in parts of five and four, or of three
        tuning = make_recipe(folder, "full", precision="float32", batch_size=size, accumulation=accumulation).tuning
        tuning = replace(tuning, epochs=1, clip=1e9, head_dropout=0.0)
        made, _ = make_course(folder, tuning)
        for part in made.classifier.encoder.modules():
            if hasattr(part, "p"):
                part.p = 0.0
        course.run_epoch(made, epoch=1)
        found.append((made.log, {name: value.detach().clone() for name, value in made.parameters.items()}))
    (one_log, one), (four_log, four) = found
    assert len(one_log) == len(four_log) == 3  # of 9, 9 and 6 rows
    for each, other in zip(one_log, four_log, strict=True):
        assert each["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert each["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-4)
    assert all(np.allclose(one[name].numpy(), four[name].numpy(), atol=1e-4) for name in one)


def test_checkpointing_gives_the_same_gradients(folder: Path) -> None:
    found = []
    for on in (False, True):
        tuning = replace(
            make_recipe(folder, "lora").tuning, checkpointing=on, lora_dropout=0.0, head_dropout=0.0, epochs=1
        )
        made, _ = make_course(folder, tuning, "last")
        assert made.classifier.encoder.base_model.model.is_gradient_checkpointing == on
        course.run_epoch(made, epoch=1)
        found.append([row["gradient_norm"] for row in made.log])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_gradients_are_equal_before_and_after_an_evaluation(folder: Path) -> None:
    """Of every quantised base: an evaluation must leave nothing behind in its weights."""
    for method in ("qlora", "lora_8bit"):
        made, ids = make_course(
            folder, replace(make_recipe(folder, method).tuning, lora_dropout=0.0, head_dropout=0.0), "last"
        )
        made.classifier.train(True)

        def gradients(one: course.Course = made) -> dict[str, np.ndarray]:
            one.optimiser.zero_grad(set_to_none=True)
            course._loss(one, np.arange(8)).backward()
            return {name: value.grad.numpy().copy() for name, value in one.parameters.items()}

        before = gradients()
        course.predict_logits(made.classifier, ids)
        made.classifier.train(True)
        after = gradients()
        assert all(np.array_equal(before[name], after[name]) for name in before), method
        assert any(np.abs(value).max() > 0 for value in before.values())


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["adamw", "adamw_8bit", "paged_adamw_8bit"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_every_optimiser_and_precision_lowers_the_loss(folder: Path, optimiser: str, precision: str) -> None:
    tuning = replace(make_recipe(folder, "full").tuning, optimiser=optimiser, precision=precision, epochs=4)
    made, _ = make_course(folder, replace(tuning, schedule="cosine", learning_rate=1e-3))
    losses = [course.run_epoch(made, epoch=epoch) for epoch in range(1, 5)]
    assert losses[-1] < losses[0]
    kept = {
        str(part.dtype) for state in made.optimiser.state.values() for part in state.values() if hasattr(part, "dtype")
    }
    assert ("torch.uint8" in kept) == (optimiser != "adamw")


def test_a_base_without_a_pad_token_is_read_by_its_mask(folder: Path) -> None:
    """The last token is the last that is real, whatever stands behind it: a text alone is the text in a batch."""
    config = json.loads((folder / "llama" / "config.json").read_text())
    assert config.get("pad_token_id") is None
    classifier = heads.make_classifier(
        folder / "llama", make_recipe(folder, "lora", "last").tuning, base_name="tiny", head=Head(kind="last")
    )
    ids = [[16, 4, 8], [16, 5, 9, 7, 6, 4], [16]]
    alone = np.concatenate([course.predict_logits(classifier, [row]) for row in ids])
    np.testing.assert_allclose(course.predict_logits(classifier, ids), alone, atol=1e-5)


def test_rows_of_like_length_share_a_step_where_asked() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 1001)
    plain, grouped = (make_batches(lengths, batch_size=16, seed=1, epoch=1, group_by_length=on) for on in (False, True))
    assert sorted(np.concatenate([part for step in grouped for part in step]).tolist()) == list(range(1001))
    spread = [np.mean([np.ptp(lengths[np.concatenate(step)]) for step in steps]) for steps in (plain, grouped)]
    assert spread[1] < spread[0] / 10
    first = [lengths[np.concatenate(step)].mean() for step in grouped]
    assert abs(np.corrcoef(np.arange(len(first)), first)[0, 1]) < 0.5  # and the steps do not go by length


def test_a_cosine_is_half_way_down_in_its_middle_and_flat_at_both_ends() -> None:
    shares = [learning_rate_share(step, steps=110, warmup=10 / 110, schedule="cosine") for step in range(110)]
    assert shares[9] == 1.0
    assert shares[60] == pytest.approx(0.5, abs=0.01)
    assert shares[10] - shares[12] < 0.002
    assert shares[107] - shares[109] < 0.005


def test_a_warm_up_that_never_ends_is_refused() -> None:
    tuning = Tuning(epochs=1, learning_rate=1e-3, seed=1, warmup=0.9)
    check_warmup(steps=100, tuning=tuning)
    with pytest.raises(ConfigError, match=r"warmup 0\.9 of 3 steps is 3 steps"):
        check_warmup(steps=3, tuning=tuning)


# --- stopping, and going on -------------------------------------------------------------------------------------------


class KilledError(RuntimeError):
    pass


def kill_at(patch: pytest.MonkeyPatch, steps: int) -> None:
    """The run dies at the start of that step, once."""
    real, done = course.run_step, [0]

    def step(*args: Any, **options: Any) -> float:
        done[0] += 1
        if done[0] == steps:
            raise KilledError
        return real(*args, **options)

    patch.setattr(course, "run_step", step)


RESUMED = [
    ("lora", "mean", {}),
    ("adalora", "last", {"learning_rate": 5e-3}),
    ("prefix", "mean", {}),
    ("lora", "words", {"optimiser": "adamw_8bit"}),
    ("full", "mean", {"average": 0.9, "accumulation": 2, "group_by_length": True, "oversample": True}),
    ("full", "mean", {"precision": "float16", "optimiser": "paged_adamw_8bit"}),
]


@pytest.mark.slow
@pytest.mark.parametrize("at", [5, 11, 14])
@pytest.mark.parametrize(("method", "kind", "more"), RESUMED)
def test_a_run_killed_within_an_epoch_goes_on_to_the_same_model(
    folder: Path, tmp_path: Path, method: str, kind: str, more: dict[str, Any], at: int
) -> None:
    """A state is written every 2 steps and at each epoch; what is read back is dropout's random numbers too."""
    recipe = make_recipe(
        folder, method, kind, checkpoint_steps=2, batch_size=4 if "accumulation" in more else 8, **more
    )
    whole = fine_tune(recipe, data=folder, out=tmp_path / "whole", now=NOW)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, at)
        with pytest.raises(KilledError):
            fine_tune(recipe, data=folder, out=tmp_path / "model", now=NOW)
    assert not (tmp_path / "model").exists()
    again = fine_tune(recipe, data=folder, out=tmp_path / "model", now=NOW)
    assert json.loads((again / "training.json").read_text()) == json.loads((whole / "training.json").read_text())
    assert load_model(again).digest == load_model(whole).digest


def test_work_in_progress_of_other_settings_is_not_gone_on_with(folder: Path, tmp_path: Path) -> None:
    """Also where the digest is the same, as of a Recipe changed in Python."""
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, 2)
        with pytest.raises(KilledError):
            fine_tune(make_recipe(folder, "lora"), data=folder, out=tmp_path / "model", now=NOW)
    with pytest.raises(ConfigError, match="another recipe or other data"):
        fine_tune(make_recipe(folder, "lora", rank=8), data=folder, out=tmp_path / "model", now=NOW)


def test_a_regression_has_no_steps_to_report(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tfidf is fitted at once and has no steps that \['wandb'\]"):
        fine_tune(make_recipe(folder, "tfidf"), data=folder, out=tmp_path / "m", now=NOW, report_to=["wandb"])
    assert not list(tmp_path.iterdir())


def test_training_stops_when_it_gets_no_better_and_keeps_the_best(folder: Path, tmp_path: Path) -> None:
    """Held-out losses as given here: the best is the second, and after two that are worse nothing more is run."""
    given = iter([0.9, 0.5, 0.6, 0.7, 0.1, 0.1])
    made, ids = make_course(folder, replace(make_recipe(folder, "lora").tuning, epochs=6, patience=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "log_loss", lambda *_: next(given))
        found = course.run_course(made, ids[:6], np.arange(6) % 3, tmp_path)
    assert [entry["held_out_log_loss"] for entry in found["epochs"]] == [0.9, 0.5, 0.6, 0.7]
    assert found["chosen_epoch"] == 2
    assert found["checkpoint"] == tmp_path / "epoch-2"
    assert [row["epoch"] for row in found["steps"]] == sorted([1, 2, 3, 4] * 3)


def test_a_full_disk_costs_the_checkpoint_and_no_other(folder: Path, tmp_path: Path) -> None:
    made, ids = make_course(folder, replace(make_recipe(folder, "lora").tuning, epochs=2))
    real, written = checkpoints.write_state, []

    def full_at_the_second(at: Path, *args: Any, **options: Any) -> None:
        real(at, *args, **options)
        written.append(at)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "write_state", full_at_the_second)
        with pytest.raises(ModelError, match=r"epoch-2: the disk is full.*start the same command again"):
            course.run_course(made, ids[:6], np.arange(6) % 3, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-1"]
    again, _ = make_course(folder, made.tuning)
    assert course.run_course(again, ids[:6], np.arange(6) % 3, tmp_path)["epochs"][1]["epoch"] == 2


def test_out_of_memory_says_what_to_lower(folder: Path, tmp_path: Path) -> None:
    import torch

    made, ids = make_course(folder, replace(make_recipe(folder, "full").tuning, batch_size=8))

    def no_memory(*_: Any, **__: Any) -> float:
        torch.empty(2**60)
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "run_step", no_memory)
        with pytest.raises(ModelError, match=r"out of memory.*batch_size = 4 with accumulation = 2.*checkpointing"):
            course.run_course(made, ids[:6], np.arange(6) % 3, tmp_path)


def test_what_is_tuned_of_a_bfloat16_base_is_tuned_in_float32(folder: Path) -> None:
    """As on a GPU, where the base is bfloat16: its own head is a copy, and the arithmetic stays the base's."""
    import torch

    real = heads.load_base
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "load_base", lambda *args, **options: real(*args, **options).to(torch.bfloat16))
        made, ids = make_course(folder, make_recipe(folder, "lora", "own").tuning, "own")
    assert {value.dtype for value in made.parameters.values()} == {torch.float32}
    assert made.classifier.arithmetic == "bfloat16"
    course.run_epoch(made, epoch=1)
    assert np.isfinite(course.predict_logits(made.classifier, ids)).all()


def test_an_overflow_of_float16_leaves_adalora_s_memory_alone(folder: Path) -> None:
    made, _ = make_course(folder, make_recipe(folder, "adalora").tuning)
    called: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course.methods, "after_step", lambda *args: called.append(1))
        patch.setattr("torch.nn.utils.clip_grad_norm_", lambda *_: float("inf"))
        course.run_step(made, [np.arange(8)], step=0, epoch=1)
        assert not called
        patch.setattr("torch.nn.utils.clip_grad_norm_", lambda *_: 1.0)
        course.run_step(made, [np.arange(8)], step=1, epoch=1)
    assert called == [1]
    assert ["gradient_norm" in row for row in made.log] == [False, True]


# --- bases ------------------------------------------------------------------------------------------------------------


def test_a_bases_own_head_is_read_by_its_names_in_any_order(folder: Path, tmp_path: Path) -> None:
    assert bases.read_order("tiny", folder / "own", {}) == (1, 2, 0)
    odd = tiny_models.write_bert(tmp_path / "odd", labels={0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"})
    with pytest.raises(ModelError, match="label map"):
        bases.read_order("odd", odd, {})
    assert bases.read_order("odd", odd, {"LABEL_0": "neutral", "LABEL_1": "positive", "LABEL_2": "negative"}) == (
        2,
        0,
        1,
    )
    many = tiny_models.write_bert(tmp_path / "many", labels={0: "negative", 1: "neutral", 2: "positive", 3: "mixed"})
    with pytest.raises(ModelError, match="mixed"):
        bases.read_order("many", many, {})
    twice = {"mixed": "neutral"}
    with pytest.raises(ModelError, match=r"4 outputs mean .* each of"):
        bases.read_order("many", many, twice)


def test_a_base_without_a_head_of_its_own_is_not_given_a_random_one(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"hold no classifier\.\w+; it would be random.*'mean' or 'last'"):
        bases.load_base(folder / "bert", kind="own")


def test_the_own_head_of_a_causal_base_needs_a_pad_token(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=64, hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        id2label=OWN, label2id={name: code for code, name in OWN.items()}, pad_token_id=None,
    )  # fmt: skip
    with bases.quiet():
        LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tuning = Tuning(epochs=1, learning_rate=1e-3, seed=1, method="lora")
    with pytest.raises(ModelError, match=r"names no pad token.*'last', which needs none"):
        heads.make_classifier(tmp_path, tuning, base_name="tiny", head=Head(kind="own"))


def test_weights_in_several_files_have_one_digest_that_any_change_moves(folder: Path, tmp_path: Path) -> None:
    import safetensors.torch

    whole = safetensors.torch.load_file(folder / "bert" / "model.safetensors")
    shutil.copytree(folder / "bert", tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    names = sorted(whole)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, held in parts.items():
        safetensors.torch.save_file({name: whole[name] for name in held}, tmp_path / "m" / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in parts.items() for name in held}}
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    base = Base(str(tmp_path / "m"), dt.date(2021, 8, 31), "none", sha256=bases.digest_weights(tmp_path / "m"))
    found = bases.load_base(bases.find_base(base), kind="mean")
    assert all((value == whole[name]).all() for name, value in found.named_parameters())
    safetensors.torch.save_file(
        {name: whole[name] + 1 for name in names[9:]},
        tmp_path / "m" / "model-00002-of-00002.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ModelError, match="its weights have SHA-256"):
        bases.find_base(base)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert bases.to_device("") == "cpu"
    with pytest.raises(ModelError, match="no CUDA here"):
        bases.to_device("cuda")


def test_words_and_pairs_heed_the_weight_of_a_set(folder: Path, tmp_path: Path) -> None:
    """Two sets that contradict each other: the heavier one decides."""
    rows = pd.read_csv(folder / "made.csv").assign(text=lambda rows: rows["text"] + " news")
    turned = {"up": "down", "down": "flat", "flat": "up"}
    rows.assign(label=rows["label"].map(turned)).to_csv(tmp_path / "turned.csv", index=False)
    found = {}
    for weight in (0.05, 20.0):
        recipe = make_recipe(folder, "tfidf")
        other = replace(DATA, name="turned", path="turned.csv", weight=weight)
        out = tmp_path / str(weight)
        fine_tune(replace(recipe, data=(DATA, other)), data=[folder, tmp_path], out=out, now=NOW)
        found[weight] = load_model(out).predict_logits(QUESTIONS).argmax(axis=1).tolist()
    assert found == {0.05: [0, 1, 2], 20.0: [1, 2, 0]}


def test_too_few_rows_and_a_device_that_is_none_are_told_at_once(folder: Path, tmp_path: Path) -> None:
    pd.read_csv(folder / "made.csv").head(3).to_csv(tmp_path / "made.csv", index=False)
    with pytest.raises(ConfigError, match="tiny: of its cleaned rows 3 are left to learn from and 0 are held out"):
        fine_tune(make_recipe(folder, "frozen"), data=tmp_path, out=tmp_path / "model", now=NOW, device="cpu")
    for name in ("gpu", "mps", "CUDA"):
        with pytest.raises(ModelError, match=f"device '{name}': expected cpu or cuda"):
            fine_tune(make_recipe(folder, "frozen"), data=folder, out=tmp_path / "model", now=NOW, device=name)
    assert not (tmp_path / "model.partial").exists()
