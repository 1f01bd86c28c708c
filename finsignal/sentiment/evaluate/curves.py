"""Two curves of the confidence: is it true (reliability), and what does waiting for it buy (coverage)."""

from __future__ import annotations

from typing import Any

import numpy as np

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
Z = 1.959964  # of the 95 % interval


def reliability_curve(probabilities: np.ndarray, codes: np.ndarray, *, bins: int = 10) -> list[dict[str, Any]]:
    """Mean confidence against accuracy in bins of about equal mass, the least confident first.

    Each point: confidence, accuracy with its 95 % interval (low, high; Wilson 1927, doi:10.2307/2276774), and n. Rows
    of equal confidence are in one bin, that of their middle rank; a bin without rows is no point.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == codes
    levels, position, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = counts.cumsum() - counts / 2
    place = (middle * bins / len(codes)).astype(int)[position] if len(levels) else position
    out = []
    for number in np.unique(place):
        chosen = place == number
        low, high = wilson(int(right[chosen].sum()), int(chosen.sum()))
        out.append(
            {
                "confidence": float(confidence[chosen].mean()),
                "accuracy": float(right[chosen].mean()),
                "low": low,
                "high": high,
                "n": int(chosen.sum()),
            }
        )
    return out


def coverage_curve(probabilities: np.ndarray, codes: np.ndarray, *, points: int = 100) -> list[dict[str, Any]]:
    """Accuracy of the rows that a confidence threshold keeps, from the strictest on, at about `points` coverages.

    Each point: threshold, coverage (share of rows with at least that confidence), accuracy, n. The last keeps all.
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == codes).astype(float)
    levels, position = np.unique(-confidence, return_inverse=True)
    kept = np.bincount(position).cumsum()
    hits = np.bincount(position, right).cumsum()
    wanted = np.ceil(np.arange(1, points + 1) / points * len(codes))
    return [
        {
            "threshold": float(-levels[at]),
            "coverage": float(kept[at] / len(codes)),
            "accuracy": float(hits[at] / kept[at]),
            "n": int(kept[at]),
        }
        for at in np.unique(np.searchsorted(kept, wanted))
    ]


def list_thresholds(probabilities: np.ndarray, codes: np.ndarray) -> list[dict[str, Any]]:
    """What each of THRESHOLDS buys: coverage and n of the rows with at least that confidence, and their accuracy with
    its 95 % interval (Wilson); None where no row is left.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == codes
    out = []
    for threshold in THRESHOLDS:
        kept = confidence >= threshold
        low, high = wilson(int(right[kept].sum()), int(kept.sum()))
        value = float(right[kept].mean()) if kept.any() else None
        out.append(
            {
                "threshold": threshold,
                "coverage": float(kept.mean()),
                "n": int(kept.sum()),
                "accuracy": value,
                "low": low,
                "high": high,
            }
        )
    return out


def wilson(hits: float, rows: int) -> tuple[float | None, float | None]:
    """The 95 % interval of a share: hits of rows; None without rows. Wilson 1927, doi:10.2307/2276774."""
    if not rows:
        return None, None
    share, spread = hits / rows, Z**2 / rows
    middle = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * np.sqrt(share * (1 - share) / rows + spread / (4 * rows))
    # At the ends the sum is 0 or 1 but for the last digit.
    return (0.0 if not hits else float(middle - half)), (1.0 if hits == rows else float(middle + half))
