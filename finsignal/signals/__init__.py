"""Features to signals, signals to target weights, and `decide`, which does both for the backtest and the job alike."""

from finsignal.signals.decisions import Decided, Strategy, decide, make_features, make_signals, to_signal
from finsignal.signals.known import bars_of_rows, known_closes
from finsignal.signals.limits import to_limited
from finsignal.signals.rules import NO_EXITS, NO_LIMITS, TOLD, ExitRules, Limits, NewsRules, WeightRules, lookback
from finsignal.signals.thresholds import to_funding_thresholds, to_volatility_threshold
from finsignal.signals.weights import make_flat_state, to_weights

__all__ = [
    "NO_EXITS",
    "NO_LIMITS",
    "TOLD",
    "Decided",
    "ExitRules",
    "Limits",
    "NewsRules",
    "Strategy",
    "WeightRules",
    "bars_of_rows",
    "decide",
    "known_closes",
    "lookback",
    "make_features",
    "make_flat_state",
    "make_signals",
    "to_funding_thresholds",
    "to_limited",
    "to_signal",
    "to_volatility_threshold",
    "to_weights",
]
