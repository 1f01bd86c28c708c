"""Is it real: the figures of a backtest, tests that try to prove them luck, and a verdict that may say "cannot tell".

Each question is one `Answer`, whose figures carry the number of observations that they rest on.
"""

from finsignal.evidence.answers import Answer, Curve, Figure, Table
from finsignal.evidence.figures import FEW_TRADES, compare, judge, measure, to_daily, to_none
from finsignal.evidence.verdict import judge_evidence

__all__ = [
    "FEW_TRADES",
    "Answer",
    "Curve",
    "Figure",
    "Table",
    "compare",
    "judge",
    "judge_evidence",
    "measure",
    "to_daily",
    "to_none",
]
