"""What training minimises, by hand-worked figures; what balancing does to the probabilities, and how it is undone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from finsignal.errors import ConfigError, TableError
from finsignal.metrics import calibration_error
from finsignal.sentiment.calibrate import softmax
from finsignal.sentiment.tuning.losses import loss_of, oversample, prior_logits, row_weights

torch = pytest.importorskip("torch", reason="needs torch, of the extra finsignal[train]")

CODES = np.array([1, 1, 1, 1, 0, 1, 2, 1, 1, 0])  # 2 negative, 7 neutral, 1 positive
ONES = np.ones(10)
ANY_CODES = arrays.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 2))


# --- weights ---------------------------------------------------------------------------------------------


def test_without_balancing_the_weights_are_those_of_the_sets_at_a_mean_of_one() -> None:
    assert (row_weights(CODES, ONES, "none") == 1).all()
    np.testing.assert_allclose(row_weights(np.array([0, 1, 1]), np.array([1.0, 2, 3]), "none"), [0.5, 1, 1.5])


def test_balanced_weights_by_hand() -> None:
    # 10 rows of 3 labels: each label shall weigh 10 / 3, so a row of it 10 / 3 over its count.
    weights = row_weights(CODES, ONES, "balanced")
    np.testing.assert_allclose(weights, 10 / 3 / np.array([2, 7, 1])[CODES])


def test_the_square_root_goes_half_the_way() -> None:
    balanced, root = row_weights(CODES, ONES, "balanced"), row_weights(CODES, ONES, "sqrt")
    np.testing.assert_allclose(root[6] / root[0], np.sqrt(balanced[6] / balanced[0]))
    np.testing.assert_allclose(root[4] / root[0], np.sqrt(7 / 2))  # a negative row beside a neutral one


@given(codes=ANY_CODES, seed=st.integers(0, 9))
def test_balanced_labels_weigh_the_same_whatever_the_sets_weigh(codes: np.ndarray, seed: int) -> None:
    sources = np.random.default_rng(seed).uniform(0.1, 5, len(codes))
    weights = row_weights(codes, sources, "balanced")
    sums = np.bincount(codes, weights=weights, minlength=3)[np.unique(codes)]
    np.testing.assert_allclose(sums, len(codes) / len(sums))
    assert weights.mean() == pytest.approx(1)
    for code in np.unique(codes):  # among the rows of one label the sets keep their proportions
        ratio = (weights / sources)[codes == code]
        np.testing.assert_allclose(ratio, ratio[0])


# --- oversampling ----------------------------------------------------------------------------------------


@given(codes=ANY_CODES, seed=st.integers(0, 9))
def test_every_label_that_occurs_is_drawn_as_often(codes: np.ndarray, seed: int) -> None:
    positions = oversample(codes, seed)
    assert (positions[: len(codes)] == np.arange(len(codes))).all()  # no row is lost
    counts = np.bincount(codes[positions], minlength=3)
    assert set(counts[np.unique(codes)]) == {np.bincount(codes).max()}
    times = np.bincount(positions, minlength=len(codes))
    for code in np.unique(codes):
        assert np.ptp(times[codes == code]) <= 1


def test_the_seed_decides_the_draw() -> None:
    codes = np.array([0] * 40 + [1] * 60)
    assert (oversample(codes, 3) == oversample(codes, 3)).all()
    assert (oversample(codes, 3) != oversample(codes, 4)).any()


# --- the loss --------------------------------------------------------------------------------------------


def loss(logits: list[list[float]], lessons: list[list[float]], kind: str, gamma: float = 2.0) -> float:
    return float(loss_of(torch.tensor(logits, dtype=torch.float64), torch.tensor(lessons).double(), kind, gamma))


def test_cross_entropy_by_hand_is_a_sum_over_rows() -> None:
    # Logits of log 6, log 3, log 1 are probabilities of 0.6, 0.3 and 0.1.
    row = np.log([6.0, 3.0, 1.0]).tolist()
    assert loss([row], [[0, 1, 0]], "cross_entropy") == pytest.approx(-np.log(0.3))
    assert loss([row, row], [[0, 1, 0], [2, 0, 0]], "cross_entropy") == pytest.approx(-np.log(0.3) - 2 * np.log(0.6))
    smooth = -0.1 * np.log(0.6) - 0.8 * np.log(0.3) - 0.1 * np.log(0.1)
    assert loss([row], [[0.1, 0.8, 0.1]], "cross_entropy") == pytest.approx(smooth)


def test_focal_loss_by_hand() -> None:
    row = np.log([6.0, 3.0, 1.0]).tolist()
    assert loss([row], [[1, 0, 0]], "focal", 2) == pytest.approx(-(0.4**2) * np.log(0.6))
    assert loss([row], [[0, 0, 3]], "focal", 2) == pytest.approx(-3 * 0.9**2 * np.log(0.1))  # the row weighs 3
    assert loss([row], [[0, 1, 0]], "focal", 0.5) == pytest.approx(-np.sqrt(0.7) * np.log(0.3))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_its_gradient_is_finite_where_the_model_is_sure(gamma: float) -> None:
    logits = torch.tensor([[90.0, 0.0, -90.0], [0.0, 0.0, 200.0], [0.0, 0.0, 200.0]], requires_grad=True)
    value = loss_of(logits, torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]]), "focal", gamma)
    value.backward()
    assert float(value.detach()) == pytest.approx(200)  # of the one row that it got wrong
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_focal_with_gamma_zero_is_cross_entropy_in_value_and_gradient() -> None:
    lessons = torch.tensor(np.random.default_rng(2).dirichlet([1, 1, 1], 8))
    found = []
    for kind in ("focal", "cross_entropy"):
        logits = torch.tensor(np.random.default_rng(1).normal(0, 3, (8, 3)), requires_grad=True)
        value = loss_of(logits, lessons, kind, 0.0)
        value.backward()
        assert logits.grad is not None
        found.append((value.detach(), logits.grad))
    torch.testing.assert_close(found[0], found[1])


# --- what balancing does to calibration ------------------------------------------------------------------


def make_skewed(rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Texts of five kinds, and labels of which nine in ten are neutral, so that the kind tells only a little."""
    draw = np.random.default_rng(5)
    kinds = draw.integers(0, 5, rows)
    chances = np.array([[6, 90, 4], [12, 84, 4], [4, 95, 1], [2, 92, 6], [8, 86, 6]]) / 100
    return kinds, (draw.random(rows)[:, None] > chances[kinds].cumsum(axis=1)).sum(axis=1)


def fit(kinds: np.ndarray, codes: np.ndarray, weights: np.ndarray, kind: str = "cross_entropy") -> np.ndarray:
    """Logits (n, 3) of a model with three free numbers for each kind of text, trained to the end."""
    table = torch.zeros((5, 3), dtype=torch.float64, requires_grad=True)
    lessons = torch.tensor(np.eye(3)[codes] * weights[:, None])
    optimiser = torch.optim.LBFGS([table], max_iter=300, tolerance_grad=1e-12, tolerance_change=1e-15)

    def step() -> float:
        optimiser.zero_grad()
        value = loss_of(table[torch.tensor(kinds)], lessons, kind, 2.0) / len(codes)
        value.backward()
        return float(value.detach())

    optimiser.step(step)
    return table.detach().numpy()[kinds]


def test_balancing_spoils_the_calibration_and_the_prior_puts_it_right() -> None:
    kinds, codes = make_skewed()
    plain = softmax(fit(kinds, codes, np.ones(len(codes))))
    ones, positions = np.ones(len(codes)), oversample(codes, 7)
    drawn = np.bincount(positions, minlength=len(codes)).astype(float)
    # Weights leave the very same model; which rows the draw took once more moves a drawn one a little.
    for weights, close in (
        (row_weights(codes, ones, "balanced"), 1e-4),
        (row_weights(codes, ones, "sqrt"), 1e-4),
        (drawn, 0.01),
    ):
        logits = fit(kinds, codes, weights)
        assert calibration_error(codes, softmax(logits)) > 0.1
        mended = softmax(logits - prior_logits(codes, weights))
        assert calibration_error(codes, mended) < 0.03
        np.testing.assert_allclose(mended, plain, atol=close)
        np.testing.assert_allclose(mended.mean(axis=0), np.bincount(codes) / len(codes), atol=close)


def test_focal_loss_is_less_sure_than_true() -> None:
    kinds, codes = make_skewed()
    focal = softmax(fit(kinds, codes, np.ones(len(codes)), "focal"))
    assert focal.max(axis=1).mean() < np.mean(codes == 1) - 0.1


def test_prior_by_hand() -> None:
    weights = row_weights(CODES, ONES, "balanced")
    expected = -np.log([2, 7, 1]) + np.log([2, 7, 1]).mean()
    np.testing.assert_allclose(prior_logits(CODES, weights), expected)
    assert (prior_logits(CODES, ONES) == 0).all()


def test_the_weights_of_the_sets_are_no_balancing() -> None:
    sources = np.where(np.arange(10) < 5, 2.0, 1.0)
    weights = row_weights(CODES, sources, "none")
    np.testing.assert_allclose(prior_logits(CODES, weights, sources), 0, atol=1e-12)
    assert (np.abs(prior_logits(CODES, weights)) > 0.01).any()  # but they do change the shares


def test_a_label_that_does_not_occur_is_left_alone() -> None:
    codes = np.array([0, 0, 0, 2])
    assert (row_weights(codes, np.ones(4), "balanced") == [2 / 3, 2 / 3, 2 / 3, 2]).all()
    np.testing.assert_allclose(
        prior_logits(codes, row_weights(codes, np.ones(4), "balanced")), [-np.log(3) / 2, 0, np.log(3) / 2]
    )


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "sources", "said"),
    [
        ([], [], "expected labels and as many weights"),
        ([0, 1], [1.0], "as many weights"),
        ([0, 3], [1.0, 1.0], "expected codes 0 to 2"),
        ([0, -1], [1.0, 1.0], "expected codes 0 to 2"),
        ([0.0, 1.0], [1.0, 1.0], "expected codes 0 to 2"),
        ([0, 1], [1.0, 0.0], "expected all above 0"),
        ([0, 1], [1.0, np.nan], "expected all above 0"),
        ([0, 1], [1.0, np.inf], "expected all above 0 and finite"),
    ],
)
def test_rows_that_cannot_be_weighed_are_refused(codes: list[float], sources: list[float], said: str) -> None:
    with pytest.raises(TableError, match=said):
        row_weights(np.array(codes), np.array(sources), "balanced")
    with pytest.raises(TableError, match=said):
        prior_logits(np.array(codes), np.ones(len(codes)), np.array(sources))


def test_weights_that_cannot_be_undone_are_refused() -> None:
    with pytest.raises(TableError, match=r"all rows of \['positive'\] weigh 0"):
        prior_logits(CODES, (CODES != 2).astype(float))
    with pytest.raises(TableError, match="one of 0 or more for each of 10 rows"):
        prior_logits(CODES, -ONES)


def test_a_word_that_is_unknown_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'balanced'"):
        row_weights(CODES, ONES, "balance")
    with pytest.raises(ConfigError, match="Did you mean 'focal'"):
        loss([[0.0, 0, 0]], [[1, 0, 0]], "vocal")
