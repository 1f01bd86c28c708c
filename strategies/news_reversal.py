"""Fade an overreaction: sell what rose too far on good news, buy what fell too far on bad, above all on repeated news.

Tetlock 2011, All the news that's fit to reprint, https://doi.org/10.1093/rfs/hhq141: prices move on news that repeats
what was known, and come back.
"""

import numpy as np
import pandas as pd

from finsignal import to_signal


def strategy(
    features: pd.DataFrame,
    *,
    buy_threshold: float = 0.6,
    sell_threshold: float = 0.6,
    min_news: float = 0.1,
    max_novelty: float = 1.0,
    min_texts: float = 1,
) -> pd.DataFrame:
    """The score is against the move of the last 5 bars: its standard deviations (vol_20 times the root of 5), by tanh.

    SELL only where the news' score is above min_news, BUY only where it is below -min_news: the move went with the
    news. HOLD where more than max_novelty of what was told is new, and without enough texts.
    """
    told = (features["sent_count"] >= min_texts) & (features["sent_novelty"] <= max_novelty)
    score = -np.tanh(features["ret_5"] / (features["vol_20"] * np.sqrt(5)))
    return to_signal(
        score.where(told),
        score.abs().where(told),
        buy_threshold=buy_threshold,
        sell_threshold=sell_threshold,
        confidence_threshold=0.0,
        may_buy=features["sent_score"] <= -min_news,
        may_sell=features["sent_score"] >= min_news,
    )
