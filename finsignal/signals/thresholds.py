"""Thresholds that ask for more where a market is wild or crowded, one value for each row of features."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError


def to_volatility_threshold(
    threshold: pd.Series | float,
    volatility: pd.Series,
    *,
    reference: pd.Series | float,
    lowest: float = 0.5,
    highest: float = 2.0,
) -> pd.Series:
    """The threshold of each row times volatility / reference: more where it is wild, less where it is calm.

    It stays between `lowest` and `highest` times what it was, and is what it was where volatility or reference is not
    known or the reference is 0. Both are of one kind, such as vol_20, a fraction per bar. Raises ConfigError for a
    lowest that is not above 0 and at most 1, a highest below 1, and a reference that is a number and not above 0.

    >>> to_volatility_threshold(0.5, pd.Series([0.01, 0.015, 0.09, float("nan")]), reference=0.01).tolist()
    [0.5, 0.75, 1.0, 0.5]
    """
    if not 0 < lowest <= 1:
        raise ConfigError(f"thresholds: lowest is {lowest}; expected a factor above 0, at most 1.")
    _check_factor(reference, highest)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = (volatility / reference).replace([np.inf, -np.inf], np.nan)
    return threshold * factor.clip(lowest, highest).fillna(1.0)


def to_funding_thresholds(
    buy_threshold: pd.Series | float,
    sell_threshold: pd.Series | float,
    funding: pd.Series,
    *,
    reference: float,
    highest: float = 2.0,
) -> tuple[pd.Series, pd.Series]:
    """The buy and sell threshold of each row: the side that pays the funding is crowded, and joining it needs more.

    Where longs pay (a rate above 0), the buy threshold is times 1 + rate / reference, at most `highest`; where shorts
    pay, the sell threshold likewise. The other side, and a rate that is not known, change nothing. `reference` is the
    rate that doubles a threshold, of the kind of `funding` (funding_rate or funding_3). Raises ConfigError for a
    reference that is not above 0 and a highest below 1.

    >>> buy, sell = to_funding_thresholds(0.5, 0.5, pd.Series([0.0, 0.0001, -0.0009]), reference=0.0002)
    >>> buy.tolist(), sell.tolist()
    ([0.5, 0.75, 0.5], [0.5, 0.5, 1.0])
    """
    _check_factor(reference, highest)
    paid = (funding / reference).fillna(0.0)
    longs, shorts = ((1 + share).clip(1.0, highest) for share in (paid, -paid))
    return buy_threshold * longs, sell_threshold * shorts


def _check_factor(reference: pd.Series | float, highest: float) -> None:
    if not isinstance(reference, pd.Series) and not reference > 0:
        raise ConfigError(f"thresholds: reference is {reference}; expected a number above 0.")
    if not highest >= 1:
        raise ConfigError(f"thresholds: highest is {highest}; expected a factor of 1 or more.")
