"""How good the probabilities are: figures with intervals, several models beside each other, slices, robustness."""

from finsignal.sentiment.evaluate.changing import CHANGES, measure_changes
from finsignal.sentiment.evaluate.comparing import compare_pair, mcnemar
from finsignal.sentiment.evaluate.curves import coverage_curve, list_thresholds, reliability_curve
from finsignal.sentiment.evaluate.figures import FIGURES, SCALARS, Classifier, evaluate_model, evaluate_probabilities
from finsignal.sentiment.evaluate.floors import fit_majority, fit_tfidf, majority_floor, tfidf_floor
from finsignal.sentiment.evaluate.running import run_evaluation
from finsignal.sentiment.evaluate.slicing import measure_slices

__all__ = [
    "CHANGES",
    "FIGURES",
    "SCALARS",
    "Classifier",
    "compare_pair",
    "coverage_curve",
    "evaluate_model",
    "evaluate_probabilities",
    "fit_majority",
    "fit_tfidf",
    "list_thresholds",
    "majority_floor",
    "mcnemar",
    "measure_changes",
    "measure_slices",
    "reliability_curve",
    "run_evaluation",
    "tfidf_floor",
]
