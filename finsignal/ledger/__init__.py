"""The ledger: decisions, the news behind them, states and passes, in an SQLite file or in PostgreSQL."""

from finsignal.ledger.database import Ledger, open_ledger
from finsignal.ledger.decisions import (
    latest_pass,
    read_decisions,
    read_news,
    read_passes,
    read_state,
    write_decisions,
    write_pass,
)
from finsignal.ledger.drift import Drift, measure_drift
from finsignal.ledger.locking import lock
from finsignal.ledger.schema import OUTCOMES, TEXTS

__all__ = [
    "OUTCOMES",
    "TEXTS",
    "Drift",
    "Ledger",
    "latest_pass",
    "lock",
    "measure_drift",
    "open_ledger",
    "read_decisions",
    "read_news",
    "read_passes",
    "read_state",
    "write_decisions",
    "write_pass",
]
