"""What was known at each decision: features of prices, and the sentiment of texts in one number a bar.

Every feature looks backward only and has a finite lookback: adding later rows, other symbols or rows older than the
lookback changes no bit of a row. So windows are summed term by term, newest first, never by a running total, whose
last digits would depend on where the data began.

What was known before the first decision of the grid has an unknown age in bars and does not count. Give a grid that
begins at least the lookback before the first row you need.
"""

from finsignal.features.market import BETA_LOOKBACK, make_market_features
from finsignal.features.modes import MODES, check_mode, decay
from finsignal.features.prices import (
    FUNDING_LOOKBACK,
    LOOKBACK,
    OPEN_INTEREST_LOOKBACK,
    make_funding_features,
    make_open_interest_features,
    make_price_features,
)
from finsignal.features.technical import SESSION_LOOKBACK
from finsignal.features.texts import (
    SENTIMENT_FEATURES,
    aggregate_sentiment,
    make_counted_texts,
    sentiment_lookback,
    texts_behind,
)

__all__ = [
    "BETA_LOOKBACK",
    "FUNDING_LOOKBACK",
    "LOOKBACK",
    "MODES",
    "OPEN_INTEREST_LOOKBACK",
    "SENTIMENT_FEATURES",
    "SESSION_LOOKBACK",
    "aggregate_sentiment",
    "check_mode",
    "decay",
    "make_counted_texts",
    "make_funding_features",
    "make_market_features",
    "make_open_interest_features",
    "make_price_features",
    "sentiment_lookback",
    "texts_behind",
]
