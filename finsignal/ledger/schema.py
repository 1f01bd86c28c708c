"""The tables of the ledger, and how a column is stored: the same in SQLite and PostgreSQL, to the last bit.

Instants are text such as 2026-11-20T14:29:00.000000Z: microseconds of UTC in fixed width, so that they sort as
instants, give back exactly what was written, and can be read by people. Numbers are double precision, and NaN is NULL.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from finsignal.errors import TableError, did_you_mean
from finsignal.tables import BOOL, FLOAT, INSTANT, SIGNALS_ALLOWED, STATE, TEXT, Table, to_integers

if TYPE_CHECKING:
    import sqlalchemy

SCHEMA = 1  # raised when the tables change; a ledger of another number is refused
INTEGER = "int64"

OUTCOMES = ("decided", "partly", "repeated", "missed", "quiet", "refused", "locked", "source down", "failed")

# The texts behind the decisions of one pass: known is when a text began to count, share its part in the score.
TEXTS = Table(
    "texts",
    ("symbol", "article_id"),
    {
        **{"symbol": TEXT, "article_id": TEXT, "share": FLOAT},
        **{"p_negative": FLOAT, "p_neutral": FLOAT, "p_positive": FLOAT},
        **{"title": TEXT, "source": TEXT, "url": TEXT, "published": INSTANT, "known": INSTANT},
    },
)
ANSWER = {"open_time": INSTANT, "signal": TEXT, "score": FLOAT, "confidence": FLOAT, "weight": FLOAT, "model": TEXT}
DECISION = {"symbol": TEXT, "time": INSTANT, **ANSWER, "reason": TEXT, "recorded": INSTANT}
NEWS_BEHIND = {"symbol": TEXT, "time": INSTANT, **{c: d for c, d in TEXTS.columns.items() if c != "symbol"}}
PASS = {
    **{"now": INSTANT, "time": INSTANT, "open_time": INSTANT},
    **{"outcome": TEXT, "code": INTEGER, "message": TEXT, "model": TEXT, "settings": TEXT},
    **{"seconds": FLOAT, "news": INTEGER, "scored": INTEGER, "symbols": INTEGER, "held": INTEGER},
}
PASS_NEEDS = ("now", "outcome", "code")
MAY_MISS = ("time", "open_time")  # of a pass that served no bar


@dataclass(frozen=True)
class Schema:
    """The tables as SQLAlchemy sees them."""

    metadata: sqlalchemy.MetaData
    version: sqlalchemy.Table
    passes: sqlalchemy.Table
    decisions: sqlalchemy.Table
    news: sqlalchemy.Table
    states: sqlalchemy.Table


@cache
def make_schema() -> Schema:
    """The tables of the ledger, made once: building them takes longer than a pass does in the database."""
    import sqlalchemy as sa

    metadata = sa.MetaData()
    types = {INSTANT: sa.Text, TEXT: sa.Text, FLOAT: sa.Double, BOOL: sa.Boolean, INTEGER: sa.BigInteger}

    def columns(
        kinds: Mapping[str, str], *, key: Sequence[str] = (), empty: Sequence[str] = ()
    ) -> list[sa.Column[Any]]:
        return [
            sa.Column(c, types[d], primary_key=c in key, nullable=c not in key and (d == FLOAT or c in empty))
            for c, d in kinds.items()
        ]

    def strategy(*, key: bool = True) -> sa.Column[Any]:
        return sa.Column("strategy", sa.Text, primary_key=key, nullable=False)

    def pass_id() -> sa.Column[Any]:
        return sa.Column("pass_id", sa.ForeignKey("passes.id"), nullable=False)

    by_decision = ("time", "symbol")
    passes = sa.Table(
        "passes",
        metadata,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        strategy(key=False),
        *columns(PASS, empty=MAY_MISS),
        sa.Index("passes_of_strategy", "strategy", "now"),
    )
    decisions = sa.Table(
        "decisions",
        metadata,
        strategy(),
        *columns({"time": INSTANT, "symbol": TEXT, **DECISION}, key=by_decision),
        pass_id(),
        sa.CheckConstraint(f"signal IN {SIGNALS_ALLOWED}", name="signal_allowed"),
        sqlite_with_rowid=False,
    )
    news = sa.Table(
        "decision_news",
        metadata,
        strategy(),
        *columns(
            {"time": INSTANT, "symbol": TEXT, "article_id": TEXT, **NEWS_BEHIND}, key=(*by_decision, "article_id")
        ),
        sa.ForeignKeyConstraint(
            ["strategy", "time", "symbol"], [f"decisions.{c}" for c in ("strategy", "time", "symbol")]
        ),
        sqlite_with_rowid=False,
    )
    states = sa.Table(
        "states",
        metadata,
        strategy(),
        *columns({"time": INSTANT, "symbol": TEXT, **STATE.columns}, key=by_decision, empty=STATE.may_miss),
        pass_id(),
        sqlite_with_rowid=False,
    )
    version = sa.Table(
        "ledger_schema", metadata, sa.Column("number", sa.Integer, primary_key=True, autoincrement=False)
    )
    return Schema(metadata, version, passes, decisions, news, states)


def to_stored(frame: pd.DataFrame, kinds: Mapping[str, str], **same: Any) -> list[dict[str, Any]]:
    """One dict a row as the database takes it, with the further columns `same`, which are stored already."""
    stored = {c: _to_stored(frame[c], d) for c, d in kinds.items() if c in frame.columns}
    return [{**same, **dict(zip(stored, row, strict=True))} for row in zip(*stored.values(), strict=True)]


def _to_stored(values: pd.Series, kind: str) -> list[Any]:
    if kind == INSTANT:
        instants = to_integers(values).astype("datetime64[us]")
        return [None if t == "NaT" else f"{t}Z" for t in np.datetime_as_string(instants, unit="us").tolist()]
    if kind == FLOAT:
        # Zero is added because SQLite does not keep the sign of a negative zero, and the two databases must agree.
        return [None if x != x else x + 0.0 for x in values.tolist()]
    return [to_stored_text(x) for x in values] if kind == TEXT else values.tolist()


def to_stored_text(text: str) -> str:
    """The text, with U+FFFD for what no database can hold: a NUL, half of a surrogate pair."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "�").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def to_stored_instant(instant: pd.Timestamp) -> str:
    """One instant as it is stored."""
    return f"{np.datetime_as_string(instant.tz_convert(None).as_unit('us').to_datetime64(), unit='us')}Z"


def from_stored(rows: Iterable[Sequence[Any]], kinds: Mapping[str, str]) -> pd.DataFrame:
    """A table of the rows of a query that asked for the columns of `kinds` in their order."""
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return pd.DataFrame({c: _from_stored(v, d) for (c, d), v in zip(kinds.items(), columns, strict=True)})


def _from_stored(values: Sequence[Any], kind: str) -> Any:
    if kind == INSTANT:
        instants = np.array([t[:-1] if t else "NaT" for t in values], dtype="datetime64[us]")
        return pd.DatetimeIndex(instants).tz_localize("UTC")
    if kind == FLOAT:
        return np.array([np.nan if x is None else x for x in values], dtype="float64")
    return pd.array(list(values), dtype=kind)


def to_pass(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of `passes` as stored; what is not given is empty.

    Raises TableError for an unknown name, a missing `now`, `outcome` or `code`, or a value of the wrong kind.
    """
    for name in row:
        if name not in PASS:
            raise TableError(f"pass: no column {name!r}.{did_you_mean(name, PASS)} Columns are {[*PASS]}.")
    for name in PASS_NEEDS:
        if row.get(name) is None:
            raise TableError(f"pass: no {name!r}; every pass on record needs {', '.join(PASS_NEEDS)}.")
    if row["outcome"] not in OUTCOMES:
        raise TableError(f"pass: outcome {row['outcome']!r} is not one of {', '.join(OUTCOMES)}.")
    return {name: _to_stored_value(name, row.get(name), kind) for name, kind in PASS.items()}


def _to_stored_value(name: str, value: Any, kind: str) -> Any:
    """One value of a pass as stored."""
    if kind == INSTANT:
        if name in MAY_MISS and (value is None or value is pd.NaT):
            return None
        if not isinstance(value, pd.Timestamp) or value.tzinfo is None:
            raise TableError(f"pass: {name} is {value!r}; expected an instant with a time zone.")
        return to_stored_instant(value)
    if kind == TEXT:
        return to_stored_text("" if value is None else str(value))
    try:
        if kind == FLOAT:
            return None if value is None or value != value else float(value) + 0.0
        return int(operator.index(0 if value is None else value))
    except (TypeError, ValueError) as err:
        raise TableError(f"pass: {name} is {value!r}; expected {kind}.") from err
