"""TF-IDF with logistic regression as a model folder: numpy scores as scikit-learn does, damaged files are refused."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finsignal.errors import ModelError, TableError
from finsignal.sentiment.recipe import Tuning
from finsignal.sentiment.score import load_model, score_texts
from finsignal.sentiment.tfidf import Regression, fit, load_tfidf_model, write_tfidf
from finsignal.tables import LABELS

TUNING = Tuning(epochs=1, learning_rate=1.0, seed=3, method="tfidf")
WORDS = {
    "negative": "loss falls cut warning weak slumps probe".split(),
    "neutral": "meets board date report unchanged holds names".split(),
    "positive": "profit soars raises record strong beats wins".split(),
}


def make_rows(counts: tuple[int, int, int] = (40, 40, 40)) -> pd.DataFrame:
    """Texts of the words of their label and of a few others, with capitals, numbers, repeats, a URL and an accent."""
    rng = np.random.default_rng(5)
    every = [word for words in WORDS.values() for word in words]
    rows = []
    for label, count in zip(LABELS, counts, strict=True):
        for number in range(count):
            words = [*rng.choice(WORDS[label], 4), *rng.choice(every, 3), "Société", "a", f"{number % 7}0", "UP-date"]
            text = " ".join(map(str, rng.permutation(words))) + (" https://t.co/x" if number % 3 else "!")
            rows.append({"text": text, "label": label, "source": "a" if number % 2 else "b", "target": ""})
    return pd.DataFrame(rows).sample(frac=1, random_state=1, ignore_index=True)


def write_folder(folder: Path, regression: Regression, **changes: Any) -> Path:
    folder.mkdir()
    files = write_tfidf(regression, folder)
    card = {
        "name": "words",
        "kind": "tfidf",
        "labels": list(LABELS),
        "temperature": 1.0,
        "trained_until": "2023-01-01T00:00:00+00:00",
        "data": [{"name": "made"}],
        "base": {"model": "none", "known_until": "2023-01-01T00:00:00+00:00"},
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
        **changes,
    }
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def rewrite(folder: Path, **changes: Any) -> Path:
    """Other numbers in the folder, under their true digest."""
    path = folder / "tfidf.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card["files"]["tfidf.json"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


SMALL = Regression({"up": 0, "down": 1, "up up": 2}, np.array([1.0, 1.0, 2.0]), np.eye(3)[[1, 0, 2]] * 4.0, np.zeros(3))


def test_logits_are_those_worked_by_hand() -> None:
    # "up up": up twice, so 1 + log 2; the pair once, times its idf of 2. Both over the length of the two.
    up, pair = 1 + np.log(2), 2.0
    length = np.hypot(up, pair)
    expected = [[0, 4, 0], [4, 0, 0], [0, 4 * up / length, 4 * pair / length], [0, 0, 0]]
    np.testing.assert_allclose(SMALL.logits(["UP a", "Down.", "up up", "never seen"]), expected, atol=1e-15)
    assert SMALL.logits([]).shape == (0, 3)


def test_numpy_scores_as_scikit_learn_does(tmp_path: Path) -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text", reason="needs the extra finsignal[train]")
    linear = pytest.importorskip("sklearn.linear_model", reason="needs the extra finsignal[train]")
    rows = make_rows()
    model = load_model(write_folder(tmp_path / "m", fit(rows, TUNING)))

    vectoriser = text.TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    cleaned = [row.replace(" https://t.co/x", "") for row in rows["text"]]
    theirs = linear.LogisticRegression(C=10.0, max_iter=2000)
    theirs.fit(vectoriser.fit_transform(cleaned), [LABELS.index(label) for label in rows["label"]])
    asked = [*cleaned, "nothing known here", "profit profit PROFIT soars", "Société profit"]
    np.testing.assert_allclose(
        model.predict_proba(asked), theirs.predict_proba(vectoriser.transform(asked)), rtol=0, atol=1e-12
    )
    assert (model.predict_proba(cleaned).argmax(axis=1) == theirs.predict(vectoriser.transform(cleaned))).all()


def test_what_is_written_is_read_to_the_last_bit(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs the extra finsignal[train]")
    fitted = fit(make_rows(), TUNING)
    model = load_model(write_folder(tmp_path / "m", fitted))
    assert model.session.terms == fitted.terms
    for name in ("idf", "coefficients", "intercept"):
        np.testing.assert_array_equal(getattr(model.session, name), getattr(fitted, name))


def test_balanced_weights_and_oversampling_raise_the_rare_label() -> None:
    pytest.importorskip("sklearn", reason="needs the extra finsignal[train]")
    rows = make_rows((8, 90, 30))
    others = make_rows()["text"].tolist()
    plain, balanced, drawn = (
        fit(rows, Tuning(epochs=1, learning_rate=1.0, seed=3, method="tfidf", **changes)).logits(others)
        for changes in ({}, {"class_weights": "balanced"}, {"oversample": True})
    )
    for found in (balanced, drawn):
        assert (found[:, 0] - found[:, 1]).mean() > (plain[:, 0] - plain[:, 1]).mean() + 0.4
    assert not np.array_equal(balanced, drawn)


def test_the_weight_of_a_set_counts() -> None:
    pytest.importorskip("sklearn", reason="needs the extra finsignal[train]")
    rows = make_rows()
    rows["source"] = np.where(rows["label"] == "negative", "a", "b")
    heavy = fit(rows, TUNING, weight={"a": 8.0, "b": 1.0})
    assert heavy.intercept[0] > fit(rows, TUNING).intercept[0]


def test_the_temperature_divides_and_the_order_of_labels_in_the_card_does_not_move_the_columns(tmp_path: Path) -> None:
    plain = load_model(write_folder(tmp_path / "plain", SMALL))
    turned = Regression(SMALL.terms, SMALL.idf, SMALL.coefficients[[2, 0, 1]], SMALL.intercept)
    names = [LABELS[2], LABELS[0], LABELS[1]]
    shuffled = load_model(write_folder(tmp_path / "shuffled", turned, labels=names))
    warm = load_model(write_folder(tmp_path / "warm", SMALL, temperature=2.0))
    texts = ["up", "down", "up up down"]
    np.testing.assert_array_equal(plain.predict_proba(texts), shuffled.predict_proba(texts))
    np.testing.assert_allclose(warm.predict_logits(texts), plain.predict_logits(texts))
    np.testing.assert_allclose(warm.predict_proba(["up"])[0, 1], np.exp(2) / (np.exp(2) + 2))
    assert len({plain.name, shuffled.name, warm.name}) == 3


def test_a_text_alone_scores_as_among_others_and_an_empty_one_is_neutral(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path / "m", SMALL))
    texts = ["up", "", "https://t.co/x", "down up", "up up up"]
    found = model.predict_proba(texts)
    np.testing.assert_array_equal(found[1:3], [[0, 1, 0], [0, 1, 0]])
    for row, text in enumerate(texts):
        np.testing.assert_array_equal(model.predict_proba([text])[0], found[row])
    np.testing.assert_array_equal(score_texts(texts, model).to_numpy(), found)
    np.testing.assert_array_equal(model.predict_proba(["up"], ["Acme"]), model.predict_proba(["up"]))
    assert not model.target_aware


def test_it_loads_and_scores_without_torch_and_scikit_learn(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", SMALL)
    code = (
        "import sys\nfrom finsignal.sentiment.score import load_model\n"
        f"assert load_model({str(folder)!r}).predict_proba(['up'])[0, 1] > 0.9\n"
        "heavy = {'torch', 'sklearn', 'scipy', 'onnxruntime', 'transformers', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("rows", [make_rows((0, 5, 5)), make_rows((0, 0, 0))])
def test_fitting_without_a_row_of_each_label_is_refused(rows: pd.DataFrame) -> None:
    pytest.importorskip("sklearn", reason="needs the extra finsignal[train]")
    rows = rows if len(rows) else pd.DataFrame({"text": [], "label": [], "source": []})
    with pytest.raises(TableError, match="is negative; expected rows of each"):
        fit(rows, TUNING)


def test_fitting_texts_that_share_no_word_is_refused() -> None:
    pytest.importorskip("sklearn", reason="needs the extra finsignal[train]")
    rows = pd.DataFrame({"text": ["one", "two", "three"], "label": list(LABELS), "source": ["a"] * 3})
    with pytest.raises(TableError, match="shares a word"):
        fit(rows, TUNING)


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", SMALL)
    path = folder / "tfidf.json"
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace("4.0", "5.0"), encoding="utf-8")
    with pytest.raises(ModelError, match=r"tfidf\.json was altered: expected SHA-256"):
        load_model(folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"tfidf\.json is missing"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"idf": [1.0, 1.0]}, r"expected \{'idf': \(3,\)"),
        ({"terms": ["up", "up", "down"]}, "2 distinct terms"),
        ({"intercept": [0.0, 0.0]}, r"'intercept': \(3,\)"),
        ({"intercept": [0.0, 0.0, float("nan")]}, "not all of its numbers are finite"),
        ({"coefficients": "many"}, "holds no terms, idf, coefficients"),
        ({"terms": 3}, "holds no terms, idf, coefficients"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        load_model(rewrite(write_folder(tmp_path / "m", SMALL), **changes))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kind": "tf-idf"}, "kind is \"tf-idf\". Did you mean 'tfidf'"),
        ({"kind": ["tfidf"]}, "Expected one of"),
        ({"kind": "onnx", "max_tokens": 4}, "lists no file 'model.onnx'"),
        ({"files": {}}, "lists no file 'tfidf.json'"),
        ({"target_aware": True}, "says target_aware"),
        ({"labels": ["negative", "neutral", "good"]}, "labels are"),
    ],
)
def test_a_card_that_cannot_be_meant_is_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        load_model(write_folder(tmp_path / "m", SMALL, **changes))


def test_a_base_for_a_model_without_one_and_a_folder_of_another_kind_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", SMALL)
    with pytest.raises(ModelError, match="a base was given, but the model is of kind 'tfidf'"):
        load_model(folder, base="elsewhere")
    with pytest.raises(ModelError, match="kind is None; expected 'tfidf'"):
        load_tfidf_model(Path(sys.modules["finsignal.sentiment.score"].DEFAULT))
