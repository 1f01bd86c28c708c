"""Every recipe that ships: what it says, and each for real on a tiny random base of the same architecture."""

import dataclasses
import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_models

from finsignal.sentiment.recipe import DataSet, Recipe, find_recipe, read_recipe, recipe_names
from finsignal.sentiment.score import load_model
from finsignal.sentiment.tuned import TunedModel, merge_tuned
from finsignal.tables import LABELS

pytest.importorskip("peft", reason="needs peft, of the extra finsignal[train]")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

NOW = pd.Timestamp("2026-01-02", tz="UTC")
DATA = DataSet(
    "made",
    "file",
    "made.csv",
    "none",
    dt.date(2022, 12, 31),
    label_map={"up": "positive", "down": "negative", "flat": "neutral"},
)
OWN = {0: "positive", 1: "negative", 2: "neutral"}  # the order of ProsusAI/finbert
ARCHITECTURES = {
    "finbert-lora": "own",
    "fingpt": "llama",
    "llama-3.1-8b": "llama",
    "llama-3.2-3b": "llama",
    "qwen3-0.6b": "qwen3",
    "qlora": "bert",
    "default": "bert",
    "default_one": "bert",
    "default_two": "bert",
}
PUBLISHED = ("finbert-lora", "fingpt", "llama-3.1-8b", "llama-3.2-3b", "qwen3-0.6b")
MERGED = 1e-4  # the sum is rounded once more, to float32
TEXTS = ["Acme rises today", "beta falls on news", "Acme meets", "", "today today beta rises falls"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base of each architecture, and the labelled rows."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_models.write_bert(folder / "bert")
    tiny_models.write_bert(folder / "own", labels=OWN)
    tiny_models.write_llama(folder / "llama")
    tiny_models.write_llama(folder / "qwen3", kind="qwen3")
    return tiny_models.write_rows(folder)


def make_small(recipe: Recipe, folder: Path, name: str) -> Recipe:
    """The recipe with all its settings on a tiny base and 60 rows; its epochs are cut to 2."""
    base = dataclasses.replace(recipe.base, model=str(folder / ARCHITECTURES[name]), sha256="", max_tokens=64)
    tuning = dataclasses.replace(recipe.tuning, epochs=2, held_out=0.2)
    parts = tuple(make_small(part, folder, name) for part in recipe.mean_of)
    return dataclasses.replace(recipe, base=base, tuning=tuning, data=(DATA,), report=(), mean_of=parts)


def test_every_recipe_has_an_architecture_here() -> None:
    assert sorted(ARCHITECTURES) == recipe_names()


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_trains_saves_reloads_scores_and_merges(name: str, folder: Path, tmp_path: Path) -> None:
    from finsignal.sentiment.train import fine_tune

    recipe = make_small(read_recipe(name), folder, name)
    made = fine_tune(recipe, data=folder, out=tmp_path / "model", now=NOW, device="cpu")
    model = load_model(made)
    found = model.predict_proba(TEXTS)
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_array_equal(found[3], [0, 1, 0])  # nothing to read
    np.testing.assert_allclose(load_model(made).predict_proba(TEXTS), found, atol=1e-12)
    heads = {"mean": "mean pooling", "last": "last token", "own": "base's own head", "words": "next word"}
    assert heads[recipe.head.kind] in (made / "README.md").read_text(encoding="utf-8")
    logs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(made.glob("training*.json"))]
    rates = [part.tuning.learning_rate for part in recipe.mean_of or [recipe]]
    assert [log["settings"]["learning_rate"] for log in logs] == rates
    assert all(np.isfinite(step["loss"]) for log in logs for step in log["steps"])
    if not (made / "model.onnx").is_file():  # whose weights are merged already
        merged = merge_tuned(made, tmp_path / "merged")
        np.testing.assert_allclose(
            run_merged(merged, model, TEXTS[0]), model.predict_logits([TEXTS[0]])[0], atol=MERGED
        )


def run_merged(folder: Path, model: TunedModel, text: str) -> np.ndarray:
    """Logits of a merged folder by transformers alone, float64 (3,), in the order of LABELS."""
    import torch
    import transformers

    ids = torch.tensor([model.encode(text)])
    with torch.no_grad():
        if model.session.kind == "last":
            whole = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
            assert [whole.config.id2label[code] for code in range(3)] == list(LABELS)
            return whole(input_ids=ids).logits[0].double().numpy()
        whole = transformers.AutoModelForCausalLM.from_pretrained(folder)
        return whole(input_ids=ids).logits[0, -1, list(model.session.first_tokens)].double().numpy()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_says_what_it_follows_and_what_was_put_right(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.source
    assert len(recipe.corrected) >= 5
    assert all(line.endswith(".") for line in recipe.corrected)
    assert all(item.licence and item.about for item in recipe.data)
    assert recipe.base.licence
    assert {item.path for item in recipe.data}.isdisjoint(item.path for item in recipe.report)


def test_the_published_numbers() -> None:
    seven = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    numbers = {
        name: (
            (tuning := read_recipe(name).tuning).method,
            (tuning.rank, tuning.alpha, tuning.lora_dropout, tuning.target_modules),
            (tuning.batch_size * tuning.accumulation, tuning.learning_rate, tuning.schedule, tuning.optimiser),
            (read_recipe(name).head.kind, read_recipe(name).base.max_tokens),
        )
        for name in PUBLISHED
    }
    two = ("q_proj", "v_proj")
    assert numbers == {
        "llama-3.2-3b": ("qlora", (16, 16, 0.0, seven), (16, 1e-4, "cosine", "adamw"), ("words", 256)),
        "qwen3-0.6b": ("qlora", (8, 32, 0.05, two), (40, 2e-5, "linear", "adamw"), ("words", 256)),
        "llama-3.1-8b": ("qlora", (16, 32, 0.05, seven), (16, 2e-4, "cosine", "paged_adamw_8bit"), ("last", 128)),
        "finbert-lora": ("lora", (8, 16, 0.1, ("query", "value")), (16, 2e-4, "linear", "adamw"), ("own", 128)),
        "fingpt": ("lora_8bit", (8, 32, 0.1, ("q_proj", "k_proj", "v_proj")), (32, 1e-4, "linear", "adamw"),
                   ("words", 256)),
    }  # fmt: skip
    assert read_recipe("llama-3.2-3b").tuning.warmup == 0.03
    assert (read_recipe("qwen3-0.6b").tuning.batch_size, read_recipe("qwen3-0.6b").tuning.epochs) == (8, 10)


@pytest.mark.parametrize("name", recipe_names())
def test_the_answers_of_a_recipe_are_in_the_order_of_the_labels(name: str) -> None:
    assert tuple(word.lower() for word in read_recipe(name).head.answers) == tuple(LABELS)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_learns_from_sets_that_are_at_hand(name: str, shared: Path) -> None:
    from finsignal.sentiment.tuning.lessons import read_data_set

    recipe = read_recipe(name)
    for item in (*recipe.data, *recipe.report):
        if item.reader == "sujet":
            continue  # not among the sets at hand; its reader has tests of its own
        rows, record = read_data_set(item, [shared, find_recipe(name).parents[3] / "data"])
        assert len(rows) >= 100
        assert record["cutoff"] == str(item.cutoff)
