"""How long the response to news lasts: the bars after which half of it has come."""

from __future__ import annotations

import numpy as np

from finsignal.evidence.answers import Figure
from finsignal.evidence.clustered import Estimates
from finsignal.evidence.responses import Responses

DRAWS = 400
STEPS = 80  # half-lives tried
SOURCE = (
    "Exponential approach A (1 - 2**(-k / half-life)), least squares; interval: Kunsch 1989, doi:10.1214/aos/1176347265"
)


def to_half_life(found: Responses, scores: np.ndarray, drift: Estimates, *, there: bool, seed: int) -> Figure:
    """Bars after which half of the cumulated response has come, by a fit to `drift` over 1, 2, ... bars.

    Of A * (1 - 2**(-k / half_life)), by least squares on what each bar adds, for the noise of the bars is independent
    and that of their sums is not. The interval is that of a bootstrap of blocks of sessions; it is approximate, and
    where half of the response comes within a bar it is too narrow. Needs a response that is `there`, and seen to end.
    """
    size, name, n = found.after.shape[1], "Half-life of the response", int(drift.n.max(initial=0))
    usable = np.isfinite(drift.value)
    needs = ""
    if not there:
        needs = "an information coefficient that is told from 0"
    elif usable.sum() < 5:
        needs = "stories followed by 5 bars or more"
    if needs:
        return Figure("half_life", name, "bars", n, "stories", needs=needs, source=SOURCE)
    bars = np.arange(1, size + 1)[usable]
    tried = np.geomspace(0.25, 4 * size, STEPS)
    shapes = 1 - 2.0 ** (-bars[None, :] / tried[:, None])
    best = _fit(drift.value[None, usable], shapes)[0]
    if tried[best] > size / 2:
        needs = f"a longer window: after {size} bars the response still grows"
        return Figure("half_life", name, "bars", n, "stories", needs=needs, source=SOURCE)
    known = np.isfinite(found.after)
    weights = np.where(known, scores[:, None], 0.0)
    earned = found.sum_up(weights * np.where(known, found.after, 0.0))[:, usable]
    size_of = found.sum_up(np.abs(weights))[:, usable]
    block = int(found.lags[size - 1]) // 2 + 1
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, found.sessions, (DRAWS, -(-found.sessions // block)))
    drawn = ((starts[:, :, None] + np.arange(block)) % found.sessions).reshape(DRAWS, -1)[:, : found.sessions]
    counts = np.zeros((DRAWS, found.sessions))
    np.add.at(counts, (np.arange(DRAWS)[:, None], drawn), 1.0)
    total = counts @ size_of
    curves = np.divide(counts @ earned, total, out=np.zeros_like(total), where=total > 0)
    lives = tried[_fit(curves, shapes)]
    low, high = (float(np.quantile(lives, q)) for q in (0.025, 0.975))
    said = f"Half of the response comes within {tried[best]:.1f} bars of the first tradable open."
    value = float(tried[best])
    return Figure("half_life", name, "bars", n, "stories", value, low, high, draws=DRAWS, said=said, source=SOURCE)


def _fit(curves: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """For each curve the position of the shape that, times the best factor, leaves the least squares of the steps."""
    gained, expected = np.diff(curves, axis=1, prepend=0.0), np.diff(shapes, axis=1, prepend=0.0)
    explained = np.square(gained @ expected.T) / np.square(expected).sum(axis=1)
    return explained.argmax(axis=1)
