"""Figures with intervals, the two floors, and the temperature."""

import numpy as np
import pandas as pd
import pytest

from finsignal.errors import ModelError, TableError
from finsignal.metrics import log_loss
from finsignal.sentiment.calibrate import fit_temperature, softmax
from finsignal.sentiment.evaluate import evaluate_model, evaluate_probabilities, majority_floor, tfidf_floor
from finsignal.tables import INSTANT, LABELLED


def make_rows(pairs: list[tuple[str, str]]) -> pd.DataFrame:
    when = pd.Series([pd.Timestamp("2022-12-31", tz="UTC")] * len(pairs), dtype=INSTANT)
    frame = pd.DataFrame({"text": [t for t, _ in pairs], "label": [label for _, label in pairs]})
    return LABELLED.to_table(frame.assign(time=when, source="made", target=""))


# Four rows: true negative, neutral, positive, positive; the third is taken for neutral.
CODES = np.array([0, 1, 2, 2])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])


def test_figures_are_those_worked_by_hand() -> None:
    found = evaluate_probabilities(PROBABILITIES, CODES, bootstrap=0, seed=1)
    assert found["n"] == 4
    assert found["accuracy"] == {"value": 0.75, "low": None, "high": None}
    # F1: negative 1, neutral 2*1/(1+2) = 2/3, positive 2*1/(2+1) = 2/3
    assert found["macro_f1"]["value"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert found["weighted_f1"]["value"] == pytest.approx(0.25 * 1 + 0.25 * 2 / 3 + 0.5 * 2 / 3)
    assert found["log_loss"]["value"] == pytest.approx(-np.log([0.8, 0.8, 0.3, 0.6]).mean())
    assert found["labels"] == {"negative": 1, "neutral": 1, "positive": 2}
    assert found["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_intervals_hold_the_value_shrink_with_rows_and_follow_the_seed() -> None:
    few = evaluate_probabilities(np.tile(PROBABILITIES, (10, 1)), np.tile(CODES, 10), bootstrap=300, seed=1)
    many = evaluate_probabilities(np.tile(PROBABILITIES, (400, 1)), np.tile(CODES, 400), bootstrap=300, seed=1)
    again = evaluate_probabilities(np.tile(PROBABILITIES, (400, 1)), np.tile(CODES, 400), bootstrap=300, seed=1)
    assert many == again
    for name in ("accuracy", "macro_f1", "weighted_f1", "log_loss"):
        assert few[name]["low"] < few[name]["value"] < few[name]["high"]
        assert few[name]["high"] - few[name]["low"] > 3 * (many[name]["high"] - many[name]["low"])
    # Accuracy of 40 rows at 0.75: normal approximation 1.96 * sqrt(.75 * .25 / 40) = 0.134 each side.
    assert few["accuracy"]["high"] - few["accuracy"]["low"] == pytest.approx(0.268, abs=0.05)


def test_no_rows_are_refused() -> None:
    with pytest.raises(TableError, match="no rows"):
        evaluate_probabilities(np.empty((0, 3)), np.array([], dtype=int), seed=1)


def test_a_model_is_measured_on_texts_cleaned_as_in_training() -> None:
    class Fake:
        name = "fake@0"

        def predict_proba(self, texts: list[str], *, progress: bool = False) -> np.ndarray:
            assert texts == ["a rises", "b falls"]
            return np.array([[0.0, 0.1, 0.9], [0.9, 0.1, 0.0]])

    rows = make_rows([("a  rises https://t.co/1", "positive"), ("b falls", "positive")])
    found = evaluate_model(Fake(), rows, bootstrap=0, seed=1)  # type: ignore[arg-type]
    assert found["model"] == "fake@0"
    assert found["accuracy"]["value"] == 0.5


def test_floors_learn_from_the_training_rows_alone() -> None:
    train = make_rows(
        [("profit rises", "positive"), ("profit falls", "negative")] * 20 + [("rises again", "positive")] * 10
    )
    test = make_rows([("it rises", "positive"), ("it falls", "negative"), ("unseen words", "neutral")])
    np.testing.assert_allclose(majority_floor(train, test), [[0.4, 0.0, 0.6]] * 3)
    found = tfidf_floor(train, test)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found.argmax(axis=1)[:2].tolist() == [2, 0]
    assert (found[:, 1] == 0).all()  # no training row is neutral


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_simulated_labels_is_found_again(true_temperature: float) -> None:
    draw = np.random.default_rng(5)
    logits = draw.normal(0, 3, (20_000, 3))
    share = softmax(logits, true_temperature).cumsum(axis=1)
    codes = (draw.random((20_000, 1)) > share).sum(axis=1)
    fitted = fit_temperature(logits, codes)
    assert fitted == pytest.approx(true_temperature, rel=0.05)
    best = log_loss(codes, softmax(logits, fitted))
    for other in (0.97 * fitted, 1.03 * fitted):
        assert best < log_loss(codes, softmax(logits, other))


def test_a_temperature_needs_finite_rows() -> None:
    with pytest.raises(ModelError, match="0 rows"):
        fit_temperature(np.empty((0, 3)), np.array([], dtype=int))
    with pytest.raises(ModelError, match="not all finite"):
        fit_temperature(np.array([[np.nan, 0, 0]]), np.array([0]))


def test_softmax_survives_huge_logits() -> None:
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0, -1e4]])), [[1.0, 0.0, 0.0]])
