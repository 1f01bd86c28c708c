"""The control for every news strategy: the same rule, on price features alone.

The score is the last 20 bars' return in units of its own volatility, bounded by tanh; it reads no text.
"""

import numpy as np
import pandas as pd

from finsignal import to_signal


def strategy(features: pd.DataFrame, *, buy_threshold: float = 0.5, sell_threshold: float = 0.5) -> pd.DataFrame:
    """HOLD until 20 bars are known."""
    score = np.tanh(features["ret_20"] / (features["vol_20"] * np.sqrt(20)))
    return to_signal(
        score, score.abs(), buy_threshold=buy_threshold, sell_threshold=sell_threshold, confidence_threshold=0.0
    )
