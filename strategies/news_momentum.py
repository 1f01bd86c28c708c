"""Buy good news that the price confirms, sell bad news that it confirms: news is followed by drift where prices agree.

Chan 2003, Stock price reaction to news and no-news, https://doi.org/10.1016/S0304-405X(03)00146-6: prices drift on
after news, above all bad news, and come back after moves that no news explains.
"""

import numpy as np
import pandas as pd

from finsignal import to_signal


def strategy(
    features: pd.DataFrame,
    *,
    buy_threshold: float = 0.3,
    sell_threshold: float = 0.3,
    confidence_threshold: float = 0.5,
    min_move: float = 0.5,
    min_texts: float = 1,
) -> pd.DataFrame:
    """The score is that of the news. BUY only where the last 5 bars rose by min_move, SELL only where they fell by it.

    A move counts in standard deviations of 5 bars (vol_20 times the root of 5). HOLD without enough texts, and while
    the move is not known.
    """
    enough = features["sent_count"] >= min_texts
    move = features["ret_5"] / (features["vol_20"] * np.sqrt(5))
    return to_signal(
        features["sent_score"].where(enough),
        features["sent_confidence"].where(enough),
        buy_threshold=buy_threshold,
        sell_threshold=sell_threshold,
        confidence_threshold=confidence_threshold,
        may_buy=move >= min_move,
        may_sell=move <= -min_move,
    )
