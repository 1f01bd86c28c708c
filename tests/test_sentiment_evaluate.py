"""Figures with intervals, curves, comparisons, slices, the two floors, and the temperature."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finsignal.errors import ConfigError, ModelError, TableError
from finsignal.metrics import log_loss, to_codes
from finsignal.sentiment.calibrate import fit_temperature, softmax
from finsignal.sentiment.evaluate import (
    SCALARS,
    compare_pair,
    coverage_curve,
    evaluate_model,
    evaluate_probabilities,
    fit_majority,
    fit_tfidf,
    list_thresholds,
    majority_floor,
    mcnemar,
    measure_slices,
    reliability_curve,
    run_evaluation,
    tfidf_floor,
)
from finsignal.tables import INSTANT, LABELLED


def make_rows(pairs: list[tuple[str, str]], *, source: str = "made", target: str = "") -> pd.DataFrame:
    when = pd.Series([pd.Timestamp("2022-12-31", tz="UTC")] * len(pairs), dtype=INSTANT)
    frame = pd.DataFrame({"text": [t for t, _ in pairs], "label": [label for _, label in pairs]})
    return LABELLED.to_table(frame.assign(time=when, source=source, target=target))


@dataclass
class WordsModel:
    """Positive at the word "rises", negative at "falls", else neutral; it keeps what it was asked."""

    name: str = "words@0"
    target_aware: bool = False
    asked: list[str] = field(default_factory=list)

    def predict_proba(
        self, texts: Sequence[str], targets: Sequence[str] | None = None, *, progress: bool = False
    ) -> np.ndarray:
        self.asked += texts
        sure = {"rises": [0.05, 0.15, 0.8], "falls": [0.7, 0.2, 0.1]}
        return np.array([next((p for w, p in sure.items() if w in text), [0.2, 0.6, 0.2]) for text in texts])


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


# --- what is not defined, and few rows ------------------------------------------------------------------------------


def test_the_interval_of_every_figure_is_that_of_resampling_row_by_row() -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 3, 60)
    probabilities = rng.dirichlet([1, 1, 1], 60).round(1)  # many rows of equal confidence
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = evaluate_probabilities(probabilities, codes, bootstrap=200, seed=9)
    draw = np.random.default_rng(9)
    picks = [draw.integers(0, 60, 60) for _ in range(200)]
    for name, figure in SCALARS.items():
        values = [figure(codes[pick], probabilities[pick]) for pick in picks]
        assert [found[name]["low"], found[name]["high"]] == pytest.approx(list(np.percentile(values, [2.5, 97.5])))


def test_a_label_that_no_row_has_gives_null_with_a_reason_and_no_zero() -> None:
    codes, probabilities = np.array([0, 0, 1]), np.eye(3)[[0, 1, 1]] * 0.7 + 0.1
    found = evaluate_probabilities(probabilities, codes, bootstrap=50, seed=1)
    absent = found["by_label"]["positive"]
    assert absent["rows"] == 0
    assert absent["recall"] == {"value": None, "low": None, "high": None, "reason": "no row has this label"}
    assert absent["precision"]["value"] is None
    assert absent["f1"]["value"] is None
    assert found["by_label"]["neutral"]["precision"]["value"] == 0.5
    # One row of one is no certainty: Wilson's interval of 1 of 1 is 0.2065 to 1.
    neutral = found["by_label"]["neutral"]["recall"]
    assert (neutral["low"], neutral["high"]) == pytest.approx((0.2065, 1.0), abs=1e-4)
    # 8 of 27 resamples of three rows hold no neutral row: an interval over the others alone would flatter.
    assert found["mcc"]["value"] == pytest.approx(0.5)
    assert found["mcc"]["low"] is None
    assert "not defined in" in found["mcc"]["reason"]


def test_one_label_alone_has_no_matthews_correlation() -> None:
    found = evaluate_probabilities(np.tile([0.1, 0.2, 0.7], (5, 1)), np.full(5, 2), bootstrap=20, seed=1)
    assert found["mcc"]["value"] is None
    assert "one label" in found["mcc"]["reason"]
    assert found["accuracy"]["value"] == 1.0
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# --- curves -----------------------------------------------------------------------------------------------------------


def test_coverage_by_hand() -> None:
    # By confidence 0.9 right, 0.8 wrong, 0.6 right and right (a tie), 0.5 wrong; 0.6 keeps both of the tie.
    confidence, right = [0.9, 0.8, 0.6, 0.6, 0.5], [1, 0, 1, 1, 0]
    probabilities = np.array([[c, 1 - c, 0.0] for c in confidence])
    codes = np.where(right, 0, 2)
    curve = coverage_curve(probabilities, codes)
    assert [(p["threshold"], p["n"]) for p in curve] == [(0.9, 1), (0.8, 2), (0.6, 4), (0.5, 5)]
    assert [p["accuracy"] for p in curve] == pytest.approx([1, 1 / 2, 3 / 4, 3 / 5])
    assert curve[-1]["coverage"] == 1.0
    kept = {p["threshold"]: (p["n"], p["accuracy"]) for p in list_thresholds(probabilities, codes)}
    assert kept[0.5] == (5, 0.6)
    assert kept[0.7] == (2, 0.5)
    assert kept[0.95] == (0, None)


def test_reliability_by_hand() -> None:
    # Two bins: 0.5 and 0.6, of which one is right; 0.8 and 0.9, both right. Wilson of 1 of 2: 0.0945 to 0.9055.
    probabilities = np.array([[c, 1 - c, 0.0] for c in (0.9, 0.5, 0.6, 0.8)])
    found = reliability_curve(probabilities, np.array([0, 0, 2, 0]), bins=2)
    assert [(p["n"], p["accuracy"]) for p in found] == [(2, 0.5), (2, 1.0)]
    assert [p["confidence"] for p in found] == pytest.approx([0.55, 0.85])
    assert (found[0]["low"], found[0]["high"]) == pytest.approx((0.0945, 0.9055), abs=1e-4)


def test_rows_of_one_confidence_are_one_point_of_each_curve() -> None:
    probabilities, codes = np.tile([0.2, 0.5, 0.3], (50, 1)), np.repeat([1, 0], [40, 10])
    assert [(p["n"], p["accuracy"]) for p in reliability_curve(probabilities, codes)] == [(50, 0.8)]
    assert [(p["n"], p["accuracy"]) for p in coverage_curve(probabilities, codes)] == [(50, 0.8)]


def test_rows_of_equal_confidence_stand_where_their_middle_does() -> None:
    # 0.5 once and 0.6 three times, in two bins: the middle of the three is in the upper half.
    probabilities = np.array([[c, 1 - c - 0.1, 0.1] for c in (0.5, 0.6, 0.6, 0.6)])
    found = reliability_curve(probabilities, np.array([0, 0, 0, 2]), bins=2)
    assert [(p["n"], p["accuracy"]) for p in found] == [(1, 1.0), (3, pytest.approx(2 / 3))]


@given(st.integers(1, 60), st.integers(0, 10_000), st.integers(1, 3))
def test_curves_keep_every_row_whatever_the_order(rows: int, seed: int, digits: int) -> None:
    draw = np.random.default_rng(seed)
    probabilities = draw.dirichlet([1, 1, 1], rows).round(digits)
    codes, shuffle = draw.integers(0, 3, rows), draw.permutation(rows)
    points = reliability_curve(probabilities, codes)
    assert sum(point["n"] for point in points) == rows
    right = sum(point["n"] * point["accuracy"] for point in points)
    assert right == pytest.approx((probabilities.argmax(axis=1) == codes).sum())
    for curve in (reliability_curve, coverage_curve, list_thresholds):
        again = curve(probabilities[shuffle], codes[shuffle])
        assert [p["n"] for p in again] == [p["n"] for p in curve(probabilities, codes)]
    assert coverage_curve(probabilities, codes)[-1]["n"] == rows


# --- two models -------------------------------------------------------------------------------------------------------


def predictions(right: Sequence[int]) -> np.ndarray:
    return np.eye(3)[np.where(right, 0, 1)] * 0.7 + 0.1


def test_mcnemar_by_hand() -> None:
    # 1 row that the first alone has right, 5 that the second alone has: 2 * (C(6,0) + C(6,1)) / 2**6 = 14 / 64.
    first, second = predictions([1, 0, 0, 0, 0, 0, 1, 0]), predictions([0, 1, 1, 1, 1, 1, 1, 0])
    found = mcnemar(np.zeros(8, dtype=int), first, second)
    assert found == {"both_right": 1, "first_only": 1, "second_only": 5, "neither": 1, "p_value": 14 / 64}
    assert mcnemar(np.zeros(8, dtype=int), first, first)["p_value"] == 1.0


def test_mcnemar_equals_the_binomial_test_of_scipy_and_stays_exact_far_out() -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs scipy, of the extra finsignal[backtest]")
    for a, b in product((0, 1, 7, 40), (0, 3, 40, 400)):
        first, second = predictions([1] * a + [0] * b), predictions([0] * a + [1] * b)
        expected = stats.binomtest(a, a + b).pvalue if a + b else 1.0
        found = mcnemar(np.zeros(a + b, dtype=int), first, second)["p_value"]
        assert found == pytest.approx(expected, rel=1e-9)


def test_a_difference_on_the_same_rows_is_told_closer_than_two_separate_figures() -> None:
    # Right on 80 % alike, and the second on 4 % more: paired, its interval leaves out 0; unpaired it would not.
    codes = np.zeros(500, dtype=int)
    first, second = predictions([1] * 400 + [0] * 100), predictions([1] * 420 + [0] * 80)
    found = compare_pair(codes, first, second, bootstrap=400, seed=1)
    assert found["accuracy"]["value"] == pytest.approx(-0.04)
    assert -0.07 < found["accuracy"]["low"] < found["accuracy"]["high"] < -0.01
    # Each of 20 rows costs ln 0.8 - ln 0.1 more: 0.04 * ln 8.
    assert found["log_loss"]["value"] == pytest.approx(0.04 * np.log(8))
    alone = evaluate_probabilities(first, codes, bootstrap=400, seed=1)["accuracy"]
    assert alone["high"] - alone["low"] > 1.5 * (found["accuracy"]["high"] - found["accuracy"]["low"])


# --- slices -----------------------------------------------------------------------------------------------------------


def test_slices_are_by_source_length_and_target_and_part_the_rows() -> None:
    one = make_rows([("a rises", "positive"), ("a b c falls", "negative")] * 4, source="one")
    two = make_rows([("a b c d e f", "positive")] * 4, source="two", target="a")
    rows = pd.concat([one, two], ignore_index=True)
    codes = to_codes(rows["label"].to_numpy())
    found = measure_slices(WordsModel().predict_proba(rows["text"].tolist()), codes, rows, bootstrap=20, seed=1)
    got = {(s["by"], s["name"]): (s["n"], s["accuracy"]["value"]) for s in found}
    assert got == {
        ("source", "one"): (8, 1.0),
        ("source", "two"): (4, 0.0),
        ("length", "2 words"): (4, 1.0),
        ("length", "4 words"): (4, 1.0),
        ("length", "6 words"): (4, 0.0),
        ("target", "with a target"): (4, 0.0),
        ("target", "without a target"): (8, 1.0),
    }


def test_lengths_are_cut_into_quarters() -> None:
    rows = make_rows([("word " * (1 + at % 4), "neutral") for at in range(12)])
    found = measure_slices(np.tile([0.2, 0.6, 0.2], (12, 1)), np.ones(12, dtype=int), rows, bootstrap=0, seed=1)
    assert [(s["name"], s["n"]) for s in found] == [("1 word", 3), ("2 words", 3), ("3 words", 3), ("4 words", 3)]
    # Wilson of 3 of 3: a small part is never certain.
    assert found[0]["accuracy"]["low"] == pytest.approx(0.4385, abs=1e-4)


def test_many_sources_are_not_a_slice_each() -> None:
    parts = [make_rows([("a rises", "positive")] * (30 - at), source=f"s{at:02}") for at in range(30)]
    rows = pd.concat(parts, ignore_index=True)
    codes = to_codes(rows["label"].to_numpy())
    found = measure_slices(np.tile([0.1, 0.2, 0.7], (len(rows), 1)), codes, rows, bootstrap=0, seed=1)
    assert [s["name"] for s in found][-1] == "10 smaller sources"
    assert len(found) == 21
    assert sum(s["n"] for s in found) == len(rows)


# --- several models in one result -------------------------------------------------------------------------------------


def test_an_evaluation_holds_every_model_the_floors_and_every_pair() -> None:
    rows = make_rows([("it rises", "positive"), ("it falls", "negative"), ("it is", "neutral")] * 5)
    train = make_rows([("rises now", "positive"), ("falls now", "negative")] * 3)
    found = run_evaluation([WordsModel(), WordsModel("other@1")], rows, name="mine", train=train, bootstrap=30, seed=1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [(m["name"], m["kind"]) for m in found["models"]] == [
        ("words@0", "model"),
        ("other@1", "model"),
        ("TF-IDF + LR", "floor"),
        ("majority", "floor"),
    ]
    assert found["models"][0]["accuracy"]["value"] == 1.0
    assert len(found["pairs"]) == 6
    assert found["pairs"][0]["p_value"] == 1.0
    assert found["data"]["rows"] == 15
    assert found["data"]["texts"] == 3
    assert any("12 rows repeat another" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([("it rises", "positive")] * 3, "3 rows alone"),
        ([("it rises", "positive")] * 3, "No row is negative or neutral"),
        ([("it rises", "positive"), ("It, rises!", "negative"), ("b", "neutral")], "2 rows contradict another"),
        ([("https://t.co/1", "positive"), ("it falls", "negative")], "1 row holds nothing to read"),
    ],
)
def test_odd_rows_are_measured_and_told(rows: list[tuple[str, str]], note: str) -> None:
    found = run_evaluation([WordsModel()], make_rows(rows), bootstrap=20, seed=1)
    assert any(note in said for said in found["notes"]), found["notes"]
    assert found["models"][0]["n"] == len(rows)
    json.dumps(found, allow_nan=False)


def test_targets_reach_a_model_that_knows_them_and_no_other() -> None:
    class Aimed(WordsModel):
        def predict_proba(
            self, texts: Sequence[str], targets: Sequence[str] | None = None, *, progress: bool = False
        ) -> np.ndarray:
            assert targets == ["Acme"] * len(texts) or targets == ["the company"] * len(texts)
            return super().predict_proba(texts)

    rows = make_rows([("Acme rises", "positive"), ("Acme falls", "negative")], target="Acme")
    aware = run_evaluation([Aimed(target_aware=True)], rows, bootstrap=0, seed=1)
    assert aware["models"][0]["accuracy"]["value"] == 1.0
    assert not any("cannot be told" in note for note in aware["notes"])
    blind = run_evaluation([WordsModel()], rows, bootstrap=0, seed=1)
    assert any("2 rows ask about one company of the text; words@0 cannot be told" in n for n in blind["notes"])


def test_what_a_target_gains_is_seen_beside_the_same_model_not_told_it() -> None:
    class Aimed(WordsModel):
        def predict_proba(
            self, texts: Sequence[str], targets: Sequence[str] | None = None, *, progress: bool = False
        ) -> np.ndarray:
            parts = [text.split("; ") for text in texts]
            named = [
                [p for p in part if target in p]
                for part, target in zip(parts, targets or [""] * len(texts), strict=True)
            ]
            return super().predict_proba([part[0] for part in named])

    text = "Acme rises; Bolt falls"
    rows = make_rows([(text, "positive")], target="Acme")
    rows = pd.concat([rows, make_rows([(text, "negative")], target="Bolt")], ignore_index=True)
    rows = pd.concat([rows, make_rows([("Corp rises", "positive")], target="Corp")], ignore_index=True)
    found = run_evaluation([Aimed(target_aware=True)], rows, untold=True, bootstrap=10, changed_rows=0, seed=1)
    told, untold = found["models"]
    assert [told["name"], untold["name"]] == ["words@0", "words@0, not told the target"]
    assert (told["accuracy"]["value"], untold["accuracy"]["value"]) == (1.0, pytest.approx(2 / 3))
    slices = {s["name"]: (s["n"], s["accuracy"]["value"]) for s in untold["slices"] if s["by"] == "target"}
    assert slices == {"labels that differ by target": (2, 0.5), "labels alike for all targets": (1, 1.0)}
    assert not any("cannot be told" in note or "contradict" in note for note in found["notes"])
    # A model that knows no targets is the same told or not, and stands there once.
    assert len(run_evaluation([WordsModel()], rows, untold=True, bootstrap=0, changed_rows=0, seed=1)["models"]) == 1


def test_what_cannot_be_evaluated_is_refused_in_one_sentence() -> None:
    rows = make_rows([("it rises", "positive")])
    with pytest.raises(TableError, match=r"l\.csv: no rows"):
        run_evaluation([WordsModel()], rows.iloc[:0], name="l.csv", seed=1)
    with pytest.raises(ConfigError, match="words@0 was given twice"):
        run_evaluation([WordsModel(), WordsModel()], rows, seed=1)
    with pytest.raises(ConfigError, match="no model"):
        run_evaluation([], rows, seed=1)

    class Broken(WordsModel):
        def __init__(self, answer: object) -> None:
            super().__init__()
            self.answer = answer

        def predict_proba(
            self, texts: Sequence[str], targets: Sequence[str] | None = None, *, progress: bool = False
        ) -> np.ndarray:
            return np.array(self.answer)

    for answer, message in (
        ([[0.5, 0.5]], "shape"),
        ([[0.5, np.nan, 0.5]], "row 0"),
        ([[0.5, 0.6, 0.5]], "sum to 1"),
        ([[-0.5, 0.5, 1.0]], "row 0"),
    ):
        with pytest.raises(ModelError, match=message):
            run_evaluation([Broken(answer)], rows, seed=1)


def test_floors_that_cannot_learn_say_why() -> None:
    with pytest.raises(TableError, match=r"labels \['positive'\] alone"):
        fit_tfidf(make_rows([("it rises", "positive")] * 3))
    with pytest.raises(TableError, match="none of 2 training texts shares a word"):
        fit_tfidf(make_rows([("rises", "positive"), ("falls", "negative")]))
    with pytest.raises(TableError, match="no rows to learn from"):
        fit_majority(make_rows([]))


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
