"""Is one model better than another on the same rows, or was it luck."""

from __future__ import annotations

from typing import Any

import numpy as np

from finsignal.sentiment.evaluate.figures import draw_weights, to_figure


def mcnemar(codes: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Rows that both, one or neither predicts right, and the exact p-value of McNemar's test, on two sides.

    first, second: probabilities (n, 3). p_value: how often a fair coin would part the rows on which just one is right
    as unevenly as this or more; 1 where there are none. McNemar 1947, doi:10.1007/BF02295996.
    """
    right = [probabilities.argmax(axis=1) == codes for probabilities in (first, second)]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return {
        "both_right": int((right[0] & right[1]).sum()),
        "first_only": only[0],
        "second_only": only[1],
        "neither": int((~right[0] & ~right[1]).sum()),
        "p_value": _coin(*only),
    }


def _coin(heads: int, tails: int) -> float:
    """P of at most the smaller count or at least the larger in heads + tails throws, in whole numbers, so exactly."""
    throws, total, ways = heads + tails, 0, 1
    for count in range(min(heads, tails) + 1):
        total += ways
        ways = ways * (throws - count) // (count + 1)
    return min(1.0, 2 * total / 2**throws)


def compare_pair(
    codes: np.ndarray, first: np.ndarray, second: np.ndarray, *, bootstrap: int = 1000, seed: int
) -> dict[str, Any]:
    """`mcnemar`, and first less second in accuracy and in log-loss with 95 % intervals over the same resamples.

    An accuracy above 0 and a log-loss below 0 say that the first is better.
    """
    rows = np.arange(len(codes))
    gains = (first.argmax(axis=1) == codes) * 1.0 - (second.argmax(axis=1) == codes)
    losses = [-np.log(np.clip(p[rows, codes], 1e-15, 1.0)) for p in (first, second)]
    columns = np.column_stack([gains, losses[0] - losses[1]])
    blocks = [weights @ columns for weights in draw_weights(len(codes), bootstrap=bootstrap, seed=seed)]
    samples = np.concatenate(blocks) / len(codes) if blocks else None
    means = columns.mean(axis=0)
    return mcnemar(codes, first, second) | {
        name: to_figure(float(means[at]), None if samples is None else samples[:, at])
        for at, name in enumerate(("accuracy", "log_loss"))
    }
