"""Rank the symbols by their news against each other, for a portfolio of the best against the worst.

What the whole market hears moves no rank. How many are held, and how often they change, is in [weights]: rank or
quantile, and rebalance.
"""

import pandas as pd

from finsignal import to_signal


def strategy(
    features: pd.DataFrame, *, min_symbols: float = 3, min_texts: float = 1, min_rank: float = 0.1
) -> pd.DataFrame:
    """The score is the rank of sent_score among the symbols with enough texts at the same decision, from -1 to 1.

    Equal scores share their mean rank. BUY from min_rank up, SELL from -min_rank down. HOLD without enough texts, and
    where fewer than min_symbols have them.
    """
    opinion = features["sent_score"].where(features["sent_count"] >= min_texts)
    by_time = opinion.groupby(features["time"])
    count = by_time.transform("count")
    rank = (by_time.rank() - 1) / (count - 1).where(count > 1)
    score = (2 * rank - 1).where(count >= min_symbols)
    return to_signal(
        score,
        features["sent_confidence"].where(score.notna()),
        buy_threshold=min_rank,
        sell_threshold=min_rank,
        confidence_threshold=0.0,
    )
