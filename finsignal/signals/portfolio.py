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
    """What signals ask for, each array (bars, symbols).

    share is the size of a new position over that of an equal one: NaN or 0 where it is not known, and such a symbol
    enters nothing. `old` is where data too old made the signal a HOLD.
    """

    side: np.ndarray  # 1 for BUY, -1 for SELL, 0 for HOLD
    score: np.ndarray
    confidence: np.ndarray
    share: np.ndarray
    old: np.ndarray

    def sort(self, row: int, names: np.ndarray) -> np.ndarray:
        """The symbols at `names`, in the order in which they are served: by |score|, confidence, then name."""
        return names[np.lexsort((names, -self.confidence[row, names], -np.abs(self.score[row, names])))]


def to_wishes(
    signals: pd.DataFrame, shape: tuple[int, int], rules: WeightRules, features: pd.DataFrame | None
) -> Wishes:
    """The wishes of signals that are sorted by symbol, then time; shape is (symbols, bars).

    Raises TableError where the sizing needs a volatility and `features` has none, or other rows than the signals.
    """

    def wide(values: np.ndarray) -> np.ndarray:
        return values.reshape(shape).T

    side = signals["signal"].map({"SELL": -1, "HOLD": 0, "BUY": 1}).to_numpy(dtype=np.int64)
    confidence = signals["confidence"].to_numpy()
    old = (signals["reason"] != "").to_numpy() if "reason" in signals else np.zeros(len(signals), dtype=bool)
    if rules.sizing == "equal":
        share = np.ones(shape).T
    elif rules.sizing == "confidence":
        share = wide(confidence)
    else:
        share = _by_volatility(wide(_volatility(signals, rules, features)), rules)
    return Wishes(wide(side), wide(signals["score"].to_numpy()), wide(confidence), share, wide(old))


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
    """The weights `new` with what signals enter, each for itself, as far as slots and limits allow."""
    share = wishes.share[row]
    names = np.flatnonzero(entering & (share > 0))
    free = rules.slots - int(np.count_nonzero(new))
    if not len(names) or free <= 0:
        return new
    order = wishes.sort(row, names)[:free]
    want = np.zeros(len(new))
    want[order] = wishes.side[row, order] * np.minimum(rules.unit * share[order], rules.max_weight)
    return fit(new, want, order, rules)


def rank(wishes: Wishes, row: int, rules: WeightRules, *, barred: np.ndarray, free: int) -> np.ndarray:
    """The side that a ranking gives each symbol: 1 long, -1 short, 0 neither; at most `free` of them.

    A score that is not known has no rank, and a symbol without a size or `barred` takes no place. Of the sides together
    those with the largest |score| come first; with `neutral` each has as many names as the other.
    """
    score, confidence = wishes.score[row], wishes.confidence[row]
    able = ~np.isnan(score) & (wishes.share[row] > 0) & ~barred
    # A tenth of 30 is 3: the product may come out a hair below a whole number.
    count = rules.rank or int(rules.quantile * np.count_nonzero(~np.isnan(score)) + 1e-9)
    picked = []
    for side in (1, -1) if rules.short else (1,):
        names = np.flatnonzero(able & (wishes.side[row] == side))
        picked.append(names[np.lexsort((names, -confidence[names], -side * score[names]))][:count])
    if rules.neutral:
        pairs = max(min(len(picked[0]), len(picked[1]), free // 2), 0)
        chosen = np.concatenate([names[:pairs] for names in picked])
    else:
        chosen = wishes.sort(row, np.concatenate(picked))[: max(free, 0)]
    out = np.zeros(len(score), dtype=np.int64)
    out[chosen] = wishes.side[row, chosen]
    return out


def size(side: np.ndarray, share: np.ndarray, rules: WeightRules, gross: float) -> np.ndarray:
    """Weights of the sides that a ranking gave, which share `gross` by their number of names.

    Within a side weights are proportional to `share` and sum to the side's part, but for what `max_weight` cuts off,
    and a volatility target never adds to a weight to fill its side. With `neutral` the larger side is scaled down.
    """
    out = np.zeros(len(side))
    total = int(np.count_nonzero(side))
    for one in (1, -1):
        names = np.flatnonzero(side == one)
        if not len(names):
            continue
        part, shares = gross * len(names) / total, share[names]
        whole = max(float(shares.sum()), len(names)) if rules.sizing == "target_volatility" else float(shares.sum())
        out[names] = one * np.minimum(part * shares / whole, rules.max_weight)
    long, short = float(out[out > 0].sum()), float(-out[out < 0].sum())
    if rules.neutral and total:
        out *= np.where(out > 0, min(1.0, short / long), min(1.0, long / short))
    return out


def fit(new: np.ndarray, want: np.ndarray, order: np.ndarray, rules: WeightRules, *, net: float = 1.0) -> np.ndarray:
    """The weights `new` taken to `want` in this order, each as far as gross, turnover and net leave room.

    Only growth is cut, never what is held. Orders of one bar may balance each other, so the net limit is applied to all
    of them, and cuts those that are served last.
    """
    start, new = new, new.copy()
    room = rules.gross - float(np.abs(new).sum())
    turnover = math.inf if rules.max_turnover is None else rules.max_turnover
    for s in order:
        more = min(abs(want[s]) - abs(new[s]), room, turnover)
        if more > LEAST:
            new[s] += math.copysign(more, want[s])
            room -= more
            turnover -= more
    excess = float(new.sum())
    heavy = math.copysign(1.0, excess)
    excess = abs(excess) - min(rules.max_net, net)
    for s in order[::-1]:
        if excess <= LEAST:
            break
        if want[s] * heavy > 0:
            back = min(excess, abs(new[s]) - abs(start[s]))
            new[s] = start[s] if back >= abs(new[s]) - abs(start[s]) - LEAST else new[s] - heavy * back
            excess -= back
    return new
