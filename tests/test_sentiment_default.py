"""The model that ships: its folder, its answers, and that a text's neighbours never matter."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finsignal import tables
from finsignal.sentiment import score
from finsignal.sentiment.recipe import read_recipe
from finsignal.sentiment.score import DEFAULT, Model, load_model, score_texts

WORDS = (
    *("shares", "rise", "fall", "profit", "warning", "beats", "misses", "forecast", "$ACME", "Beta", "Corp", "Q3"),
    *("outlook", "cut", "raised", "to", "the", "of", "dividend", "lawsuit", "record", "loss", "holds", "meeting"),
    *("12%", "bank", "guidance", "strong", "weak", "unchanged", "CEO", "steps", "down", "buyback", "Fed", "rates"),
)
ODD = [
    *(
        "",
        " ",
        "\n\t",
        "🚀🚀🚀",
        "\x00\x07",
        "\ud800",
        "株価は大幅に下落した",
        "Die Aktie fällt deutlich",
        "a" * 10_000,
    ),
    *("profit " * 1500, "https://t.co/x", "$$$", "[CLS] [SEP] [PAD]", "é" * 300),
]


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model()


def make_texts(count: int) -> list[str]:
    """Headlines of 1 to 60 words drawn at random: every length, so that no two runs have the same neighbours."""
    draw = np.random.default_rng(11)
    return [" ".join(draw.choice(WORDS, size=1 + number % 60)) for number in range(count)]


def test_the_folder_is_complete_small_and_states_what_it_must(model: Model) -> None:
    card = model.card
    files = {path.name for path in DEFAULT.iterdir()}
    assert files == {*card["files"], "card.json"}
    assert files == {"model.onnx", "tokenizer.json", "README.md", "card.json"}
    assert sum(path.stat().st_size for path in DEFAULT.iterdir()) < 26_000_000
    assert model.trained_until == pd.Timestamp("2023-01-01", tz="UTC")
    assert model.base_cutoff == pd.Timestamp("2021-09-01", tz="UTC")
    licences = {item["name"]: item["licence"] for item in card["data"]}
    assert licences.pop("own") == "CC0-1.0"
    assert set(licences) == {"tfns", "sentfin", "sentfin targets", "surge_stock", "surge_crypto"}
    assert set(licences.values()) == {"MIT"}
    assert all(len(item["sha256"]) == 64 and item["cutoff"] == "2022-12-31" for item in card["data"])
    assert "not financial advice" in card["disclaimer"]
    assert card["not_good_for"]
    assert model.target_aware
    assert card["parity"]["label_agreement"] >= 0.95
    assert "TFNS valid" in card["metrics"]


def test_it_was_made_by_the_committed_recipe(model: Model) -> None:
    recipe = read_recipe(DEFAULT.parent / "recipes" / "default.toml")
    assert model.card["recipe_sha256"] == recipe.digest
    assert [run["recipe"] for run in model.card["runs"]] == [part.name for part in recipe.mean_of]
    for run in model.card["runs"]:
        assert run["chosen_epoch"] == 1 + int(np.argmin([entry["held_out_log_loss"] for entry in run["epochs"]]))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Acme beats estimates and raises its full-year forecast", "p_positive"),
        ("Acme shares plunge after profit warning", "p_negative"),
        ("Acme to hold its annual meeting on May 4", "p_neutral"),
    ],
)
def test_plain_headlines_get_the_plain_label(model: Model, text: str, label: str) -> None:
    assert score_texts([text], model).iloc[0].idxmax() == label


@pytest.mark.slow
def test_a_thousand_texts_in_three_batchings_differ_in_no_bit(model: Model) -> None:
    texts = make_texts(1000)
    together = model.predict_proba(texts)
    alone = np.concatenate([model.predict_proba([text]) for text in texts])
    order = np.random.default_rng(3).permutation(1000)
    shuffled = np.empty_like(together)
    for start in range(0, 1000, 37):
        rows = order[start : start + 37]
        shuffled[rows] = model.predict_proba([texts[row] for row in rows])
    assert (together != alone).any(axis=1).sum() == 0
    assert (together != shuffled).any(axis=1).sum() == 0


def test_odd_texts_get_finite_probabilities_twice_the_same(model: Model) -> None:
    found = model.predict_proba(ODD)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(found, load_model().predict_proba(ODD))
    np.testing.assert_array_equal(found[:3], [[0.0, 1.0, 0.0]] * 3)


def test_a_long_text_is_read_up_to_the_cards_last_token(model: Model) -> None:
    length = model.card["max_tokens"] - 2  # two special tokens stand around the text
    found = model.predict_proba([f"{'profit ' * length} loss loss", "profit " * length, "profit " * (length - 9)])
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[1] != found[2]).any()


def test_scoring_imports_no_training_package() -> None:
    """Neither of these nor pandas: a process that scores a few headlines shall start quickly."""
    code = (
        "import sys\n"
        "from finsignal.sentiment.score import load_model\n"
        "load_model().predict_proba(['Acme beats estimates'])\n"
        "heavy = {'torch', 'transformers', 'peft', 'bitsandbytes', 'sklearn', 'onnx', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_labels_are_those_of_the_tables() -> None:
    assert score.LABELS == tables.LABELS


def test_one_text_about_two_companies_gets_two_answers(model: Model) -> None:
    text = "Acme wins the order that Tosk had counted on; Tosk shares tumble"
    winner, loser, whole = model.predict_proba([text] * 3, ["Acme", "Tosk", ""])
    assert winner.argmax() == 2
    assert loser.argmax() == 0
    assert (whole != winner).any()


@pytest.mark.slow
def test_the_reported_accuracy_is_found_again(model: Model, shared: Path) -> None:
    from finsignal.sentiment.evaluate import evaluate_model
    from finsignal.sentiment.labelled import read_tfns

    rows, _ = read_tfns(shared / "tfns" / "sent_valid.csv")
    found = evaluate_model(model, rows, bootstrap=0, seed=1)
    # Another CPU may round INT8 sums otherwise: a few labels of 2,388 may move.
    assert found["accuracy"]["value"] == pytest.approx(
        model.card["metrics"]["TFNS valid"]["accuracy"]["value"], abs=0.005
    )
    assert found["accuracy"]["value"] > 0.847  # TF-IDF and logistic regression on TFNS train
