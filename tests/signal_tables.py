"""Small tables that the tests of signals, portfolios and exits are made of."""

from collections.abc import Mapping

import pandas as pd

from finsignal.clock import make_bars
from finsignal.tables import SIGNALS

MINUTE, HOUR = pd.Timedelta(minutes=1), pd.Timedelta(hours=1)
START = pd.Timestamp("2024-03-04", tz="UTC")
WORD = {"B": "BUY", "S": "SELL", ".": "HOLD"}


def make_hours(count: int) -> pd.DataFrame:
    """Hourly bars of a market that never closes."""
    return make_bars("24x7", "1h", start=START, end=START + count * HOUR, latency=MINUTE)


def make_signal_table(
    bars: pd.DataFrame, words: Mapping[str, str], scores: Mapping[str, object] | None = None, confidence: object = 0.9
) -> pd.DataFrame:
    """SIGNALS of one letter a bar for each symbol: B, S or a dot. Scores are 0.5 unless given."""
    parts = []
    for symbol, letters in words.items():
        part = bars[["open_time", "time"]].copy()
        part["symbol"], part["signal"] = symbol, [WORD[letter] for letter in letters.replace(" ", "")]
        part["score"] = (scores or {}).get(symbol, 0.5)
        part["confidence"] = confidence[symbol] if isinstance(confidence, Mapping) else confidence
        parts.append(part)
    return SIGNALS.to_table(pd.concat(parts))
