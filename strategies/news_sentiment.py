"""Buy on clearly good news, sell on clearly bad news, and stay out of the way when the market is wild."""

import pandas as pd

from finsignal import to_signal


def strategy(
    features: pd.DataFrame,
    *,
    buy_threshold: float = 0.3,
    sell_threshold: float = 0.3,
    confidence_threshold: float = 0.5,
    min_texts: float = 1,
    max_volatility: float = float("inf"),
) -> pd.DataFrame:
    """HOLD without enough texts; no new BUY while vol_20 (a fraction per bar) is above max_volatility.

    A volatility that is not known yet does not block.
    """
    enough = features["sent_count"] >= min_texts
    return to_signal(
        features["sent_score"].where(enough),
        features["sent_confidence"].where(enough),
        buy_threshold=buy_threshold,
        sell_threshold=sell_threshold,
        confidence_threshold=confidence_threshold,
        may_buy=~(features["vol_20"] > max_volatility),
    )
