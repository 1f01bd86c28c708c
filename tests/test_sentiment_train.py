"""Fine-tuning a tiny random encoder: two silent failures of NF4 on CPUs, the merge, resuming, the finished folder."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finsignal.errors import ConfigError, ModelError
from finsignal.sentiment.export import Rows, measure
from finsignal.sentiment.readme import to_readme
from finsignal.sentiment.recipe import Base, Tuning, read_recipe
from finsignal.sentiment.score import load_model
from finsignal.sentiment.train import fine_tune
from finsignal.sentiment.tuning import adapters, bases, course, heads
from finsignal.sentiment.tuning.lessons import ask_by_cashtag, encode, find_file, read_parts, to_lessons
from finsignal.sentiment.tuning.optimise import learning_rate_share, make_batches, to_rates
from finsignal.tables import INSTANT, LABELLED

# The training packages deprecate one another's names; what they write is not about this repository.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

NOW = pd.Timestamp("2026-01-02", tz="UTC")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "acme", "beta", "shares", "today", "rises", "falls", "meets", "on", "news"]

RECIPE = """
name = "tiny"
not_good_for = ["anything"]
[base]
model = "{base}"
cutoff = 2021-08-31
licence = "none"
max_tokens = 16
[tuning]
method = "{method}"
rank = 4
alpha = 8
learning_rate = 2e-2
epochs = 3
batch_size = 8
held_out = 0.2
seed = 3
[[data]]
name = "made"
reader = "file"
path = "made.csv"
licence = "none"
cutoff = 2022-12-31
label_map = {{ up = "positive", down = "negative", flat = "neutral" }}
[[report]]
name = "report"
reader = "file"
path = "report.csv"
licence = "none"
cutoff = 2022-12-31
label_map = {{ up = "positive", down = "negative", flat = "neutral" }}
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer BERT of hidden size 64 and a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("base") / "tiny-bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=200,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=32,
    )
    with bases.quiet():
        BertModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: code for code, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 texts whose label is their verb, and 4 to report on, one of which is among the 60."""
    folder = tmp_path_factory.mktemp("data")
    verbs = [("rises", "up"), ("falls", "down"), ("meets", "flat")]
    rows = [(f"{('Acme', 'Beta')[n % 2]} {verb} today {n}", label) for n in range(20) for verb, label in verbs]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / "made.csv", index=False)
    report = [("Beta news: rises", "up"), ("Acme falls", "down"), ("beta meets", "flat"), (rows[0][0] + "!", "up")]
    pd.DataFrame(report, columns=["text", "label"]).to_csv(folder / "report.csv", index=False)
    return folder


def write_recipe(folder: Path, base: Path, method: str = "qlora", *, more: str = "") -> Path:
    """A recipe of the method; `more` are lines more of its [tuning]."""
    path = folder / f"{method}.toml"
    text = RECIPE.format(base=base, method=method).replace("seed = 3", f"seed = 3\n{more}")
    path.write_text(text, encoding="utf-8")
    return path


def make_classifier(base: Path, method: str = "qlora") -> heads.Classifier:
    tuning = Tuning(epochs=1, learning_rate=1e-3, seed=1, method=method, rank=4, alpha=8, lora_dropout=0.0)
    return heads.make_classifier(base, tuning, base_name="tiny")


def lora_gradients(classifier: heads.Classifier) -> dict[str, np.ndarray | None]:
    """Gradients of one batch; LoRA's B starts at 0, which would hide a lost path to A, so it is set first."""
    import torch

    draw = torch.Generator().manual_seed(1)
    for name, value in classifier.trainable().items():
        value.grad = None
        if "lora_B" in name:
            value.data = torch.randn(value.shape, generator=draw) * 0.1
    classifier.train(True)
    ids, mask = heads.to_batch([[2, 4, 8, 3], [2, 5, 9, 7, 3]])
    hidden = classifier.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    hidden.square().mean().backward()
    found = {name: value.grad for name, value in classifier.trainable().items() if name.startswith("encoder.")}
    return {name: None if value is None else value.numpy().copy() for name, value in found.items()}


def evaluate_once(classifier: heads.Classifier) -> Any:
    import torch

    classifier.train(False)
    for part in classifier.encoder.modules():  # dropout inside the encoder, or gradients would differ by chance
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    with torch.no_grad():
        return classifier.logits(*heads.to_batch([[2, 4, 8, 3]]))


@pytest.fixture
def still_base(base: Path, tmp_path: Path) -> Path:
    """The same base without dropout, so that two gradients of one batch are equal."""
    folder = tmp_path / "still"
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def repacks_here() -> bool:
    from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16())


# --- the two silent failures ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_after_an_evaluation_has_the_same_gradients(still_base: Path) -> None:
    classifier = make_classifier(still_base)
    before = lora_gradients(classifier)
    evaluate_once(classifier)
    bases.check_unpacked(classifier.encoder)
    after = lora_gradients(classifier)
    assert len(before) == 2 * 12  # A and B of the 6 linear layers of 2 blocks
    for name, value in before.items():
        assert value is not None
        assert np.abs(value).max() > 0, name
        np.testing.assert_array_equal(value, after[name], err_msg=name)


def test_without_the_guard_both_failures_are_here_and_silent() -> None:
    """What the guard is for, on one layer: after a forward without gradients the gradient of the input is lost, and the
    weight reads as garbage. Should bitsandbytes mend this, here is where it shows."""
    if not repacks_here():
        pytest.skip("needs a CPU with AVX512-BF16, the only kind on which bitsandbytes repacks NF4 weights")
    import bitsandbytes
    import torch

    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    full = layer.weight.data.clone()
    layer.to("cpu")  # quantises

    def read_error() -> float:
        read = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        return float((read.reshape(64, 64) - full).norm() / full.norm())

    def input_gradient() -> Any:
        layer.train()
        row = torch.ones(2, 64, requires_grad=True)
        (layer(row).sum() + 0 * row.sum()).backward()
        return row.grad

    assert read_error() < 0.15
    assert input_gradient().abs().max() > 0
    layer.eval()
    with torch.no_grad():
        layer(torch.ones(2, 64))
    assert input_gradient().abs().max() == 0
    assert read_error() > 1
    with pytest.raises(ModelError, match="repacked"):
        bases.check_unpacked(torch.nn.Sequential(layer))


def test_an_unguarded_classifier_is_refused_after_an_evaluation(still_base: Path) -> None:
    if not repacks_here():
        pytest.skip("needs a CPU with AVX512-BF16, the only kind on which bitsandbytes repacks NF4 weights")
    classifier = make_classifier(still_base)
    for layer in bases.nf4_layers(classifier.encoder):
        layer.support_avx512bf16_for_cpu = True
    evaluate_once(classifier)
    with pytest.raises(ModelError, match="repacked"):
        bases.check_unpacked(classifier.encoder)


def test_a_repacked_weight_is_refused_on_any_cpu(still_base: Path) -> None:
    classifier = make_classifier(still_base)
    bases.check_unpacked(classifier.encoder)
    bases.nf4_layers(classifier.encoder)[3].weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(ModelError, match="NF4 layer 3"):
        bases.check_unpacked(classifier.encoder)


def test_an_adapter_is_never_merged_into_nf4(still_base: Path) -> None:
    classifier = make_classifier(still_base)
    evaluate_once(classifier)
    with pytest.raises(ModelError, match="merge the adapter into the full-precision base"):
        adapters.merge_into_base(classifier.encoder)


def test_the_merged_weights_are_the_full_base_plus_the_adapter(still_base: Path, tmp_path: Path) -> None:
    import safetensors.torch

    classifier = make_classifier(still_base)
    lora_gradients(classifier)  # gives B values other than 0
    evaluate_once(classifier)  # as after an epoch: what is merged must not depend on the NF4 weights at all
    adapters.write_adapter(classifier, tmp_path)
    merged = adapters.load_tuned(still_base, tmp_path)
    full = safetensors.torch.load_file(still_base / "model.safetensors")
    lora = safetensors.torch.load_file(tmp_path / "adapter_model.safetensors")
    layers = sorted(name.removesuffix(".lora_A.weight") for name in lora if name.endswith("lora_A.weight"))
    assert len(layers) == 12
    found = dict(merged.encoder.named_parameters())
    for layer in layers:
        name = layer.removeprefix("base_model.model.") + ".weight"
        change = 8 / 4 * lora[f"{layer}.lora_B.weight"].float() @ lora[f"{layer}.lora_A.weight"].float()
        assert change.abs().max() > 1e-3
        np.testing.assert_allclose(found[name].detach(), full[name] + change, atol=1e-6, err_msg=name)
    assert "tiny" in (tmp_path / "adapter_config.json").read_text()


# --- bases and recipes ------------------------------------------------------------------------------------------------


def test_nf4_is_doubly_quantised_and_holds_every_linear_layer(base: Path) -> None:
    encoder = bases.load_base(base, method="qlora")
    layers = bases.nf4_layers(encoder)
    assert len(layers) == 12
    assert encoder.pooler is None
    for layer in layers:
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested


def test_a_base_with_another_digest_or_without_safetensors_is_refused(base: Path, tmp_path: Path) -> None:
    cutoff = pd.Timestamp("2021-08-31").date()
    with pytest.raises(ModelError, match=r"SHA-256 \w{64}; expected 0000"):
        bases.find_base(Base(model=str(base), cutoff=cutoff, licence="", sha256="0000"))
    digest = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    assert bases.find_base(Base(model=str(base), cutoff=cutoff, licence="", sha256=digest)) == base
    shutil.copytree(base, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        bases.find_base(Base(model=str(tmp_path / "pickled"), cutoff=cutoff, licence=""))


def test_the_embedded_base_is_the_one_the_default_recipe_names() -> None:
    plan = read_recipe("default")
    folder = bases.find_base(plan.base)
    assert (folder / "tokenizer.json").is_file()
    assert plan.base.sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert all(item.path != "tfns/sent_valid.csv" for item in plan.data)
    assert {item.licence for item in plan.data} == {"MIT", "CC0-1.0"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate", "learning_rte", r"unknown key 'learning_rte'\. Did you mean 'learning_rate'"),
        ('name = "tiny"', 'nme = "tiny"', r"unknown key 'nme'"),
        ("seed = 3", "", "no key 'seed'"),
        ("epochs = 3", "epochs = 0", "epochs is 0"),
        ("epochs = 3", 'epochs = "3"', "epochs is '3'; expected int"),
        ("held_out = 0.2", "held_out = 0.7", "held_out is 0.7"),
        ('method = "qlora"', 'method = "half"', "method is 'half'\\. Expected one of"),
        ('reader = "file"', 'reader = "fil"', "reader 'fil'. Did you mean 'file'"),
        ('up = "positive"', 'up = "bullish"', "maps labels to"),
        ("[tuning]", "[tuning", "TOML"),
        ("seed = 3", "seed = -3", "seed is -3"),
        (
            "[[report]]",
            '[[data]]\nname = "made"\nreader = "tfns"\npath = "t.csv"\nlicence = ""\ncutoff = 2022-12-31\n[[report]]',
            r"two \[\[data\]\] have the name 'made'",
        ),
        ('["anything"]', '"prices"', "not_good_for is 'prices'; expected a list of texts"),
        ('["anything"]', "[1]", "not_good_for is .1.; expected a list of texts"),
        ('name = "tiny"', 'name = "tiny"\nmean_of = "one.toml"', "mean_of is 'one.toml'; expected a list"),
        ("[[report]]", "[report]", r"expected tables under \[\[report\]\]"),
        ('name = "tiny"', 'name = ""', "a name is ''"),
        ('name = "made"', 'name = " "', "a name is ' '"),
        ("max_tokens = 16", "max_tokens = 0", r"\[base\]: max_tokens is 0; expected 1 or more"),
        ("seed = 3", "seed = 3\nweight_decay = -0.1", "weight_decay is -0.1, which cannot be meant"),
        ('up = "positive"', "up = 1", "label_map is .*; expected dict"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_recipe(tmp_path, tmp_path)
    path.write_text(path.read_text().replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_recipe(path)


def test_every_row_stands_in_one_random_batch_whose_halves_go_by_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 1001)
    batches = make_batches(lengths, batch_size=16, seed=1, epoch=1)
    rows = np.concatenate([part for batch in batches for part in batch])
    assert sorted(rows.tolist()) == list(range(1001))
    assert [sum(len(part) for part in batch) for batch in batches] == [16] * 62 + [9]
    assert all(lengths[short].max() <= lengths[long].min() for short, long in batches)
    # A random batch's mean length strays from the mean of all by its standard error, not by the spread of lengths.
    means = [lengths[np.concatenate(batch)].mean() for batch in batches[:-1]]
    assert np.std(means) < 1.5 * lengths.std() / 4
    other = make_batches(lengths, batch_size=16, seed=1, epoch=2)
    assert batches[0][0].tolist() != other[0][0].tolist()


def test_the_learning_rate_rises_over_the_warmup_and_falls_to_nothing() -> None:
    shares = [learning_rate_share(step, steps=100, warmup=0.1) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == shares[10] == 1.0
    assert shares[55] == pytest.approx(0.5)
    assert shares[99] == pytest.approx(1 / 90)
    assert all(0 < share <= 1 for share in shares)


# --- the whole way ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    return fine_tune(write_recipe(folder, base), data=data, out=folder / "model", now=NOW)


@pytest.mark.slow
def test_a_recipe_becomes_a_model_that_has_learned(finished: Path) -> None:
    model = load_model(finished)
    found = model.predict_proba(["Beta falls today 99", "Acme meets today 77", "Acme rises today 55"])
    assert found.argmax(axis=1).tolist() == [0, 1, 2]
    assert model.trained_until == pd.Timestamp("2023-01-01", tz="UTC")
    card = model.card
    assert card["made"] == "2026-01-02"
    assert card["split"] == {"train": 48, "held_out": 12}
    (run,) = card["runs"]
    assert len(run["epochs"]) == 3
    assert run["chosen_epoch"] == 1 + int(np.argmin([entry["held_out_log_loss"] for entry in run["epochs"]]))
    assert card["parity"]["label_agreement"] >= 0.95
    assert card["metrics"]["held out"]["n"] == 12
    assert card["metrics"]["report"]["n"] == 4
    assert card["metrics"]["report, without 1 rows that stand in train"]["n"] == 3
    assert sorted(path.name for path in finished.iterdir()) == sorted([*card["files"], "card.json"])
    assert not finished.with_name("model.partial").exists()


@pytest.mark.slow
def test_label_order_in_a_trained_card_does_not_move_the_columns(finished: Path, tmp_path: Path) -> None:
    """The outputs of the graph are renamed by the card alone: naming them in another order permutes the columns."""
    texts = ["Beta falls today 99", "Acme rises today"]
    plain = load_model(finished).predict_proba(texts)
    shutil.copytree(finished, tmp_path / "m")
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    card["labels"] = ["positive", "negative", "neutral"]
    (tmp_path / "m" / "card.json").write_text(json.dumps(card))
    np.testing.assert_array_equal(load_model(tmp_path / "m").predict_proba(texts), plain[:, [1, 2, 0]])


EVERYTHING = "average = 0.9\nlabel_smoothing = 0.1\nlayer_decay = 0.8\nhead_rate = 2.0"


@pytest.mark.slow
@pytest.mark.parametrize(("method", "more"), [("qlora", ""), ("qlora", EVERYTHING), ("full", EVERYTHING)])
def test_a_killed_run_goes_on_to_the_same_model(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, more: str
) -> None:
    class KilledError(RuntimeError):
        pass

    real = course.run_epoch
    ran: list[int] = []

    def killed_in_the_second(*args: Any, epoch: int, **options: Any) -> float:
        ran.append(epoch)
        if epoch == 2 and ran.count(2) == 1:
            raise KilledError
        return real(*args, epoch=epoch, **options)

    recipe = write_recipe(tmp_path, base, method, more=more)
    finished = fine_tune(recipe, data=data, out=tmp_path / "whole", now=NOW)
    monkeypatch.setattr(course, "run_epoch", killed_in_the_second)
    with pytest.raises(KilledError):
        fine_tune(recipe, data=data, out=tmp_path / "model", now=NOW)
    assert not (tmp_path / "model").exists()
    fine_tune(recipe, data=data, out=tmp_path / "model", now=NOW)
    assert ran == [1, 2, 2, 3]
    assert load_model(tmp_path / "model").name == load_model(finished).name
    assert (tmp_path / "model" / "card.json").read_text() == (finished / "card.json").read_text()


@pytest.mark.slow
def test_full_tuning_learns_and_ships_no_adapter(base: Path, data: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, base, "full", more="average = 0.5\nhead_rate = 5.0")
    recipe.write_text(recipe.read_text().replace("2e-2", "5e-3"))
    folder = fine_tune(recipe, data=data, out=tmp_path / "model", now=NOW)
    found = load_model(folder).predict_proba(["Beta falls today 99", "Acme meets today 77", "Acme rises today 55"])
    assert found.argmax(axis=1).tolist() == [0, 1, 2]
    assert set(load_model(folder).card["files"]) == {"model.onnx", "tokenizer.json", "training.json", "README.md"}
    assert not list(folder.glob("adapter*"))
    (folder / "weights.safetensors").unlink()  # for tuning further; scoring does without
    np.testing.assert_array_equal(load_model(folder).predict_proba(["Beta falls today 99"]), found[:1])


@pytest.mark.slow
def test_the_average_and_not_the_last_step_is_the_model(base: Path, data: Path, tmp_path: Path) -> None:
    found = []
    for name, more in (("last", ""), ("average", "average = 0.99")):
        (tmp_path / name).mkdir()
        recipe = write_recipe(tmp_path / name, base, "lora", more=more)
        card = load_model(fine_tune(recipe, data=data, out=tmp_path / name / "model", now=NOW)).card
        found.append([(entry["train_loss"], entry["held_out_log_loss"]) for entry in card["runs"][0]["epochs"]])
    (last_train, last_held), (mean_train, mean_held) = (zip(*log, strict=True) for log in found)
    assert mean_train == last_train  # the steps are the same
    assert all(one != other for one, other in zip(mean_held, last_held, strict=True))


# --- what is learned from ---------------------------------------------------------------------------------------------


def make_rows(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    """(text, label, source, target)"""
    frame = pd.DataFrame(rows, columns=["text", "label", "source", "target"])
    return LABELLED.check(
        frame.assign(time=NOW)[["text", "label", "time", "source", "target"]].astype({"time": INSTANT})
    )


def test_a_lesson_is_the_smoothed_label_times_the_weight_of_its_source() -> None:
    rows = make_rows([("a", "positive", "one", ""), ("b", "negative", "two", "")])
    found = to_lessons(
        rows, {"one": 1.0, "two": 3.0}, smoothing=0.3
    )  # weights 1 and 3, scaled to a mean of 1: 1/2, 3/2
    np.testing.assert_allclose(found, [[0.05, 0.05, 0.4], [1.2, 0.15, 0.15]], atol=1e-6)


def test_rates_fall_from_the_head_to_the_embeddings() -> None:
    tuning = Tuning(epochs=1, learning_rate=1.0, seed=1, layer_decay=0.5, head_rate=5.0)
    names = [
        "head.weight",
        "encoder.encoder.layer.2.output.dense.weight",
        "encoder.encoder.layer.0.output.dense.weight",
    ]
    found = to_rates([*names, "encoder.embeddings.word_embeddings.weight"], tuning)
    assert list(found.values()) == [5.0, 1.0, 0.25, 0.125]


def test_a_text_is_read_with_its_target_as_a_pair(base: Path) -> None:
    tokenizer = bases.load_words(base, 16)
    rows = make_rows([("Acme rises", "positive", "s", ""), ("Acme rises", "negative", "s", "Beta")])
    assert encode(tokenizer, rows) == [[2, 4, 8, 3], [2, 4, 8, 3, 5, 3]]


@pytest.mark.slow
def test_a_model_trained_with_targets_is_target_aware_and_one_without_is_not(
    base: Path, data: Path, finished: Path, tmp_path: Path
) -> None:
    made = pd.read_csv(data / "made.csv")
    asked = made.assign(target=["Acme", "Beta"] * 30)
    asked.to_csv(tmp_path / "made.csv", index=False)
    recipe = write_recipe(tmp_path, base)
    recipe.write_text(recipe.read_text().replace('path = "made.csv"', 'path = "made.csv"\ntarget_column = "target"'))
    model = load_model(fine_tune(recipe, data=[tmp_path, data], out=tmp_path / "model", now=NOW))
    assert model.target_aware
    one, other = model.predict_proba(["Acme rises"] * 2, ["Acme", "Beta"])
    assert (one != other).any()
    assert not load_model(finished).target_aware


def test_a_thinned_set_keeps_the_texts_whose_targets_disagree(tmp_path: Path) -> None:
    """40 headlines of one company and 2 of two companies that disagree: 4 rows of these stay, and 6 others."""
    rows = [(f"Company {n} rises", "{'Company': 'positive'}") for n in range(40)]
    rows += [(f"Acme beats Tosk {n}", "{'Acme': 'positive', 'Tosk': 'negative'}") for n in range(2)]
    pd.DataFrame(rows, columns=["Title", "Decisions"]).to_csv(tmp_path / "s.csv", index=False)
    recipe = read_recipe(write_recipe(tmp_path, tmp_path))
    item = replace(recipe.data[0], name="s", reader="sentfin_targets", path="s.csv", rows=10)
    train, held_out, counts, _ = read_parts(replace(recipe, data=(item,)), [tmp_path])
    kept = pd.concat([train, held_out])
    assert len(kept) == 10
    assert counts["thinned"] == 34
    assert kept["text"].str.startswith("Acme").sum() == 4


def test_a_text_with_one_cashtag_is_also_an_answer_about_it() -> None:
    texts = ["$ACME rises, $ACME!", "$ACME beats $TOSK", "Acme pays $5 in $usd", "$TOSK.L falls"]
    rows = make_rows([(text, "positive", "s", "") for text in texts] + [("$ACME up", "positive", "s", "Beta")])
    asked = ask_by_cashtag(rows)
    assert asked[["text", "target"]].to_numpy().tolist() == [["$ACME rises, $ACME!", "ACME"], ["$TOSK.L falls", "TOSK"]]
    LABELLED.check(asked.reset_index(drop=True))


def test_the_first_folder_that_has_the_file_counts_and_none_is_an_error(tmp_path: Path) -> None:
    item = read_recipe(write_recipe(tmp_path, tmp_path)).data[0]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "made.csv").write_text("text,label\n")
    assert find_file(item, [tmp_path / "a", tmp_path / "b"]) == tmp_path / "b" / "made.csv"
    with pytest.raises(ConfigError, match=r"made: no file made.csv in .*a\. Name the folder"):
        find_file(item, [tmp_path / "a"])


def test_a_report_set_that_is_missing_is_told_before_anything_is_trained(
    base: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "made.csv").write_bytes((data / "made.csv").read_bytes())
    with pytest.raises(ConfigError, match=r"report: no file report\.csv"):
        fine_tune(write_recipe(tmp_path, base), data=tmp_path, out=tmp_path / "model", now=NOW)
    assert not (tmp_path / "model.partial").exists()


@pytest.mark.slow
def test_a_report_set_that_stands_in_train_as_a_whole_is_measured_and_says_so(
    finished: Path, base: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "report.csv").write_bytes((data / "made.csv").read_bytes())
    recipe = read_recipe(write_recipe(tmp_path, base))
    train, held_out, _, _ = read_parts(recipe, [data])
    found = measure(recipe, finished, Rows(train, held_out, [tmp_path]), progress=False)
    assert list(found) == ["held out", "report, all of which stands in train"]
    assert found["report, all of which stands in train"]["n"] == 60


@pytest.mark.slow
def test_the_card_of_a_fully_tuned_model_names_no_rank(finished: Path) -> None:
    card = load_model(finished).card
    assert "- tuning (tiny): qlora, rank 4 on all linear layers" in to_readme(card)
    (run,) = card["runs"]
    full = to_readme({**card, "runs": [{**run, "settings": {**run["settings"], "method": "full"}}]})
    assert "- tuning (tiny): every weight of the base (full), mean pooling" in full
    assert "rank" not in full


@pytest.mark.slow
def test_full_precision_lora_trains_too(base: Path, data: Path, tmp_path: Path) -> None:
    folder = fine_tune(write_recipe(tmp_path, base, "lora"), data=data, out=tmp_path / "model", now=NOW)
    assert load_model(folder).predict_proba(["Beta falls today"]).argmax() == 0


@pytest.mark.slow
def test_a_mean_of_two_runs_has_the_mean_of_their_weights(base: Path, data: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    for name, epochs in (("one", 2), ("two", 3)):
        recipe = write_recipe(tmp_path, base, "full")
        text = recipe.read_text().replace('"tiny"', f'"{name}"').replace("2e-2", "5e-3")
        (tmp_path / f"{name}.toml").write_text(text.replace("epochs = 3", f"epochs = {epochs}"))
    mean = tmp_path / "mean.toml"
    mean.write_text(
        'mean_of = ["one.toml", "two.toml"]\n' + (tmp_path / "two.toml").read_text().replace('"two"', '"mean"')
    )
    folders = [tmp_path / "out" / name for name in ("one", "two", "mean")]
    for folder in folders:
        fine_tune(tmp_path / f"{folder.name}.toml", data=data, out=folder, now=NOW)
    one, two, found = (load_file(folder / "weights.safetensors") for folder in folders)
    assert all(np.allclose(found[name], (one[name] + two[name]) / 2, atol=1e-7) for name in found)
    assert [run["recipe"] for run in load_model(folders[2]).card["runs"]] == ["one", "two"]
    text = (tmp_path / "two.toml").read_text()
    (tmp_path / "two.toml").write_text(text.replace("seed = 3", "seed = 4"))
    with pytest.raises(ConfigError, match=r"two: learns from .* of the rows that mean holds out"):
        fine_tune(mean, data=data, out=tmp_path / "other", now=NOW)
    (tmp_path / "two.toml").write_text(text.replace('path = "made.csv"', 'path = "later.csv"'))
    with pytest.raises(ConfigError, match="two learns from 'made', which is not among"):
        read_recipe(mean)
    (tmp_path / "two.toml").write_text(text.replace("2022-12-31", "2025-12-31"))
    with pytest.raises(ConfigError, match="two learns from 'made', which is not among"):
        read_recipe(mean)
    (tmp_path / "two.toml").write_text(text.replace('"full"', '"qlora"'))
    with pytest.raises(ConfigError, match="mean_of names two, which tunes 'qlora'"):
        read_recipe(mean)


def test_a_mean_is_of_different_runs_with_its_own_head_and_of_whole_weights(tmp_path: Path) -> None:
    text = write_recipe(tmp_path, tmp_path, "full").read_text()
    (tmp_path / "one.toml").write_text(text)
    (tmp_path / "two.toml").write_text(text.replace("epochs = 3", "epochs = 2"))
    mean = tmp_path / "mean.toml"
    mean.write_text('mean_of = ["one.toml", "two.toml"]\n' + text)
    with pytest.raises(ConfigError, match="mean_of names two recipes called 'tiny'"):
        read_recipe(mean)
    (tmp_path / "two.toml").write_text(text.replace('"tiny"', '"two"') + '[head]\nkind = "own"\n')
    with pytest.raises(ConfigError, match=r"the \[head\] of two here too"):
        read_recipe(mean)
    (tmp_path / "two.toml").write_text(text.replace('"tiny"', '"two"'))
    assert [part.name for part in read_recipe(mean).mean_of] == ["tiny", "two"]
    mean.write_text(mean.read_text().replace('"full"', '"lora"'))
    with pytest.raises(ConfigError, match="mean_of needs method 'full'"):
        read_recipe(mean)


def test_a_perplexity_beyond_all_bounds_is_said_in_words() -> None:
    run = {"settings": {"method": "tfidf"}, "recipe": "tiny", "forgetting": {"base": 12.5, "tuned": None, "tokens": 9}}
    card = dict.fromkeys(("name", "made", "disclaimer", "max_tokens", "trained_until", "base_model"), "x")
    base = dict.fromkeys(("about", "model", "licence", "known_until"), "x")
    split: dict[str, Any] = {"split": {"train": 1, "held_out": 1}, "temperature": 1.0, "cleaning": {}}
    lists: dict[str, Any] = {"runs": [run], "data": [], "metrics": {}, "not_good_for": []}
    told = to_readme({**card, "base": base, **split, **lists})
    assert "of 9 tokens: 12.50 before, beyond all bounds after" in told


def test_neither_a_finished_folder_nor_another_run_is_overwritten(base: Path, data: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, base)
    (tmp_path / "done").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        fine_tune(recipe, data=data, out=tmp_path / "done", now=NOW)
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "settings.json").write_text('{"recipe": "other", "data": []}')
    with pytest.raises(ConfigError, match="another recipe or other data"):
        fine_tune(recipe, data=data, out=tmp_path / "model", now=NOW)
