"""How large new positions are, which ones a ranking picks, and the limits that they are fitted into."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.errors import TableError
from finsignal.signals.rules import WeightRules

LEAST = 1e-12  # a weight, or a change of one, that is no more than this is nothing
VOLATILITY = "vol_20"


@dataclass(frozen=True)
class Wishes:
    """What signals ask for, each array (bars, worlds, symbols). A run is one world, and no world minds another.

    share is the size of a new position over that of an equal one: NaN or 0 where it is not known, and such a symbol
    enters nothing. `old` is where data too old made the signal a HOLD.
    """

    side: np.ndarray  # 1 for BUY, -1 for SELL, 0 for HOLD
    score: np.ndarray
    confidence: np.ndarray
    share: np.ndarray
    old: np.ndarray

    def sort(self, row: int, names: np.ndarray) -> np.ndarray:
        """The places of `names` (worlds, symbols) in the order in which they are served: |score|, confidence, name."""
        return place(names, -np.abs(self.score[row]), -self.confidence[row])


def place(names: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """For each world the symbols by these keys, then by name, those of `names` before all others."""
    return np.lexsort((*keys[::-1], ~names), axis=-1)  # which is stable, so that equal keys stay in the order of names


def to_wishes(
    signals: pd.DataFrame, shape: tuple[int, int], rules: WeightRules, features: pd.DataFrame | None
) -> Wishes:
    """The wishes of signals that are sorted by symbol, then time; shape is (symbols, bars).

    Raises TableError where the sizing needs a volatility and `features` has none, or other rows than the signals.
    """

    def wide(values: np.ndarray) -> np.ndarray:
        return values.reshape(shape).T[:, None]

    side = signals["signal"].map({"SELL": -1, "HOLD": 0, "BUY": 1}).to_numpy(dtype=np.int64)
    confidence = wide(signals["confidence"].to_numpy())
    old = (signals["reason"] != "").to_numpy() if "reason" in signals else np.zeros(len(signals), dtype=bool)
    volatility = wide(_volatility(signals, rules, features))[:, 0] if rules.by_volatility else None
    share = to_shares(confidence, volatility, rules)
    return Wishes(wide(side), wide(signals["score"].to_numpy()), confidence, share, wide(old))


def to_shares(confidence: np.ndarray, volatility: np.ndarray | None, rules: WeightRules) -> np.ndarray:
    """Sizes over those of equal positions, in the shape of `confidence`; volatility is (bars, symbols) where needed."""
    if volatility is not None:
        return np.broadcast_to(_by_volatility(volatility, rules)[:, None], confidence.shape)
    return confidence if rules.sizing == "confidence" else np.ones(confidence.shape)


def _volatility(signals: pd.DataFrame, rules: WeightRules, features: pd.DataFrame | None) -> np.ndarray:
    if features is None or VOLATILITY not in features:
        raise TableError(
            f"features: sizing = {rules.sizing!r} needs the column {VOLATILITY!r}, got "
            f"{'no features' if features is None else list(features.columns)}; pass the features of the signals."
        )
    key = ["symbol", "open_time"]
    if len(features) != len(signals) or not features[key].reset_index(drop=True).equals(signals[key]):
        raise TableError("features: expected the rows of the signals, one for each of their symbols and bars.")
    return features[VOLATILITY].to_numpy()


def _by_volatility(volatility: np.ndarray, rules: WeightRules) -> np.ndarray:
    known = volatility > 0  # of a price that never moved nothing is known
    inverse = np.divide(1.0, volatility, out=np.full(volatility.shape, np.nan), where=known)
    if rules.sizing == "target_volatility":
        return rules.target_volatility * inverse
    # An exact sum, for a mean must not depend on the order of the symbols or on the bars beside it.
    mean = [math.fsum(row[here]) / max(int(here.sum()), 1) for row, here in zip(inverse, known, strict=True)]
    return np.divide(inverse, np.array(mean)[:, None], out=np.full(inverse.shape, np.nan), where=known)


def enter(new: np.ndarray, entering: np.ndarray, wishes: Wishes, row: int, rules: WeightRules) -> np.ndarray:
    """The weights `new` with what signals enter, each for itself, as far as slots and limits allow.

    Here and below arrays of one bar are (worlds, symbols).
    """
    names = entering & (wishes.share[row] > 0)
    free = rules.slots - (new != 0).sum(axis=1)
    able = names.any(axis=1) & (free > 0)
    if not able.any():
        return new
    ours = slice(None) if able.all() else np.flatnonzero(able)
    names, share, side = names[ours], wishes.share[row][ours], wishes.side[row][ours]
    order = place(names, -np.abs(wishes.score[row][ours]), -wishes.confidence[row][ours])
    count = np.minimum(names.sum(axis=1), free[ours])
    want = np.where(names, side * np.minimum(rules.unit * share, rules.max_weight), 0.0)
    out = new.copy()
    out[ours] = fit(new[ours], want, order, rules, count=count)
    return out


def rank(wishes: Wishes, row: int, rules: WeightRules, *, barred: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The side that a ranking gives each symbol: 1 long, -1 short, 0 neither; in each world at most `free` of them.

    A score that is not known has no rank, and a symbol without a size or `barred` takes no place. Of the sides together
    those with the largest |score| come first; with `neutral` each has as many names as the other.
    """
    score, confidence, side = wishes.score[row], wishes.confidence[row], wishes.side[row]
    known = ~np.isnan(score)
    able = known & (wishes.share[row] > 0) & ~barred
    # A tenth of 30 is 3: the product may come out a hair below a whole number.
    count = rules.rank or (rules.quantile * known.sum(axis=1) + 1e-9).astype(np.int64)[:, None]
    chosen, places, taken = np.zeros(score.shape, dtype=bool), [], []
    for one in (1, -1) if rules.short else (1,):
        names = able & (side == one)
        places.append(_invert(place(names, -one * score, -confidence)))
        taken.append(names & (places[-1] < count))
    if rules.neutral:
        sides = [names.sum(axis=1) for names in taken]
        pairs = np.maximum(np.minimum(np.minimum(*sides), free // 2), 0)[:, None]
        for names, at in zip(taken, places, strict=True):
            chosen |= names & (at < pairs)
    else:
        picked = taken[0] | taken[-1]
        chosen = picked & (_invert(wishes.sort(row, picked)) < np.maximum(free, 0)[:, None])
    return np.where(chosen, side, 0)


def _invert(order: np.ndarray) -> np.ndarray:
    """The place of each symbol in an order of them."""
    out = np.empty_like(order)
    out[np.arange(len(order))[:, None], order] = np.arange(order.shape[1])
    return out


def size(side: np.ndarray, share: np.ndarray, rules: WeightRules, gross: np.ndarray) -> np.ndarray:
    """Weights of the sides that a ranking gave, which share the `gross` of their world by their number of names.

    Within a side weights are proportional to `share` and sum to the side's part, but for what `max_weight` cuts off,
    and a volatility target never adds to a weight to fill its side. With `neutral` the larger side is scaled down.
    """
    out = np.zeros(side.shape)
    total = (side != 0).sum(axis=1)
    for one in (1, -1):
        names = side == one
        count = names.sum(axis=1)
        whole = _sum_over(share, names)
        if rules.sizing == "target_volatility":
            whole = np.maximum(whole, count)
        with np.errstate(divide="ignore", invalid="ignore"):  # of worlds with no name on the side, which have no part
            part = (gross * count / total)[:, None] * share / whole[:, None]
        out = np.where(names, one * np.minimum(part, rules.max_weight), out)
    if rules.neutral:
        long, short = _sum_over(out, out > 0), -_sum_over(out, out < 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            longs, shorts = np.minimum(1.0, short / long)[:, None], np.minimum(1.0, long / short)[:, None]
        out = np.where(out > 0, out * longs, np.where(out < 0, out * shorts, out))
    return out


def _sum_over(values: np.ndarray, names: np.ndarray) -> np.ndarray:
    """The sum over the names of each world. Zeros between them would change how a sum is split, and its last digit."""
    return np.array([float(row[here].sum()) for row, here in zip(values, names, strict=True)])


def fit(
    new: np.ndarray,
    want: np.ndarray,
    order: np.ndarray,
    rules: WeightRules,
    *,
    count: np.ndarray,
    net: float = 1.0,
) -> np.ndarray:
    """The weights `new` taken to `want` in this order, each as far as gross, turnover and net leave room.

    In each world the first `count` of `order` are served. Only growth is cut, never what is held. Orders of one bar may
    balance each other, so the net limit is applied to all of them, and cuts those that are served last.
    """
    if not (most := int(count.max(initial=0))):
        return new
    at = (np.arange(len(new))[:, None], order[:, :most])
    goal, start = want[at], new[at]
    served = np.arange(most) < count[:, None]
    more = np.where(served, np.abs(goal) - np.abs(start), 0.0)
    room = rules.gross - np.abs(new).sum(axis=1)
    left = np.minimum(room, np.inf if rules.max_turnover is None else rules.max_turnover)
    grown = np.zeros(goal.shape)
    for turn in range(most):
        step = np.minimum(more[:, turn], left)
        grown[:, turn] = np.where(step > LEAST, step, 0.0)
        left -= grown[:, turn]
    held, new = start + np.copysign(grown, goal), new.copy()
    new[at] = held
    excess = new.sum(axis=1)
    heavy = np.copysign(1.0, excess)
    excess = np.abs(excess) - min(rules.max_net, net)
    if not (excess > LEAST).any():
        return new
    for turn in reversed(range(most)):
        cut = served[:, turn] & (excess > LEAST) & (goal[:, turn] * heavy > 0)
        grew = np.abs(held[:, turn]) - np.abs(start[:, turn])
        back = np.where(cut, np.minimum(excess, grew), 0.0)
        less = np.where(back >= grew - LEAST, start[:, turn], held[:, turn] - heavy * back)
        held[:, turn] = np.where(cut, less, held[:, turn])
        excess -= back
    new[at] = held
    return new
