"""News on perpetual futures, with a higher threshold where the trade is crowded: where its side pays much funding."""

import numpy as np
import pandas as pd

from finsignal import to_funding_thresholds, to_signal, to_volatility_threshold


def strategy(
    features: pd.DataFrame,
    *,
    buy_threshold: float = 0.3,
    sell_threshold: float = 0.3,
    confidence_threshold: float = 0.5,
    crowded_funding: float = 0.0003,
    usual_volatility: float = 0.008,
    min_texts: float = 1,
) -> pd.DataFrame:
    """BUY and SELL by the score of the news; HOLD without enough texts.

    Both thresholds grow and shrink with vol_20 over usual_volatility (fractions per bar), from half to twice. That of
    the side which pays the funding grows with funding_rate, to twice at crowded_funding (a fraction per settlement).
    Without funding in the features, or where it is not known, none is crowded.
    """
    enough = features["sent_count"] >= min_texts
    funding = features.get("funding_rate", pd.Series(np.nan, index=features.index))
    wild = features["vol_20"]
    buy, sell = to_funding_thresholds(
        to_volatility_threshold(buy_threshold, wild, reference=usual_volatility),
        to_volatility_threshold(sell_threshold, wild, reference=usual_volatility),
        funding,
        reference=crowded_funding,
    )
    return to_signal(
        features["sent_score"].where(enough),
        features["sent_confidence"].where(enough),
        buy_threshold=buy,
        sell_threshold=sell,
        confidence_threshold=confidence_threshold,
    )
