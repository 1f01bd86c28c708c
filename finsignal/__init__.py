"""finsignal: financial news to trading signals, and an honest answer whether they are worth anything.

The public names below load their modules on first use, so that importing finsignal is instant.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "FinsignalError": "errors",
    "BacktestResult": "tables",
    "make_bars": "clock",
    "read_prices": "sources.files",
    "read_news": "sources.files",
    "read_sentiment": "sources.files",
    "load_model": "sentiment.score",
    "score_texts": "sentiment.score",
    "score_news": "sentiment.score",
    "fine_tune": "sentiment.train",
    "evaluate_model": "sentiment.evaluate",
    "make_features": "signals",
    "to_signal": "signals",
    "to_volatility_threshold": "signals",
    "to_funding_thresholds": "signals",
    "to_weights": "signals",
    "decide": "signals",
    "run_backtest": "backtest",
    "read_run": "config",
    "read_inputs": "study",
    "run_study": "study",
    "write_study": "study",
    "add_evidence": "study.questions",
    "make_market": "simulate",
    "open_lake": "lake",
    "as_of": "lake",
    "run_pass": "job.passing",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'finsignal' has no attribute {name!r}")
    return getattr(importlib.import_module(f"finsignal.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
