"""What was decided, with the news behind it, the state after it and the passes: written once, read back exactly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from finsignal.errors import RefusedError, TableError
from finsignal.ledger.database import Ledger, transaction
from finsignal.ledger.schema import (
    ANSWER,
    DECISION,
    INTEGER,
    NEWS_BEHIND,
    PASS,
    TEXTS,
    from_stored,
    make_schema,
    to_pass,
    to_stored,
    to_stored_instant,
    to_stored_text,
)
from finsignal.tables import SIGNALS, STATE, WEIGHTS, Table

if TYPE_CHECKING:
    import sqlalchemy

STANDS = (
    "What was decided stands: find out what changed (data, model, strategy file or settings), "
    "or go on under another strategy name"
)


def write_decisions(
    ledger: Ledger,
    strategy: str,
    *,
    signals: pd.DataFrame,
    weights: pd.DataFrame,
    state: pd.DataFrame,
    texts: pd.DataFrame,
    model: str,
    pass_row: Mapping[str, Any],
    recorded: pd.Timestamp | None = None,
) -> bool:
    """Whether the decisions are new: then they, the texts behind them, the state and the pass are written, or nothing.

    Decisions on record with the same answer are a repeat: only the pass is written, with the outcome 'repeated'.
    `signals` are those of one decision instant, with a further column `reason` where HOLD was forced on some; `texts`
    has the columns of `schema.TEXTS`. `pass_row` gives `now`, `outcome`, `code` and whatever else of `schema.PASS` is
    known; its time, open_time, model, symbols and held come from the decisions. `recorded` is the instant by which
    what they were made from was recorded, by default the pass's now.

    Raises RefusedError, with nothing written, where the answer differs from the one on record (naming the symbol, the
    column, the old and the new value), where only some of its symbols are there, or where a later decision is; and
    TableError for tables that do not fit together.
    """
    strategy = to_stored_text(strategy)
    for contract, frame in ((SIGNALS, signals), (WEIGHTS, weights), (STATE, state), (TEXTS, texts)):
        _check_columns(frame, contract)
    first = _check_together(signals, weights, texts)
    decisions = signals.assign(weight=weights["weight"], model=model)
    if "reason" not in decisions:
        decisions["reason"] = ""
    row = to_pass(
        {
            **pass_row,
            **{"time": first["time"], "open_time": first["open_time"], "model": model},
            **{"symbols": len(decisions), "held": sum(reason != "" for reason in decisions["reason"].tolist())},
        }
    )
    by = row["now"] if recorded is None else to_stored_instant(recorded)
    stored = to_stored(decisions, DECISION, recorded=by)
    after = to_stored(state, STATE.columns, time=row["time"])
    behind = to_stored(texts, TEXTS.columns, strategy=strategy, time=row["time"])
    schema = make_schema()
    with transaction(ledger, "write the decisions", writes=f"decisions of {strategy}") as connection:
        if _is_repeat(connection, strategy, stored, after, where=f"ledger {ledger.url_shown}"):
            _insert_pass(connection, strategy, {**row, "outcome": "repeated"})
            return False
        mine = {"strategy": strategy, "pass_id": _insert_pass(connection, strategy, row)}
        for table, rows in ((schema.decisions, stored), (schema.states, after)):
            if rows:
                connection.execute(table.insert(), [{**mine, **r} for r in rows])
        if behind:
            connection.execute(schema.news.insert(), behind)
    return True


def _check_columns(frame: pd.DataFrame, table: Table) -> None:
    """Columns and dtypes alone: `decide` has checked its tables in full, and the database holds keys and signals."""
    for column, dtype in table.columns.items():
        if column not in frame.columns or frame[column].dtype != dtype:
            table.check(frame)  # which says what is wrong


def _check_together(signals: pd.DataFrame, weights: pd.DataFrame, texts: pd.DataFrame) -> dict[str, pd.Timestamp]:
    """The decision and its bar; refused where the tables are of several, or of different symbols."""
    if signals.empty:
        raise TableError("signals: no rows; a pass without decisions is written by write_pass.")
    keys = [
        list(zip(*(t[c].tolist() for c in ("symbol", "time", "open_time")), strict=True)) for t in (signals, weights)
    ]
    symbols = {symbol for symbol, *_ in keys[0]}
    first = keys[0][0]
    if any(k[1:] != first[1:] for k in keys[0]):
        raise TableError("signals: more than one decision instant; write each instant by itself.")
    if keys[0] != keys[1]:
        raise TableError("weights: symbols and times are not those of signals; expected one weight a signal.")
    if odd := sorted(set(texts["symbol"].tolist()) - symbols):
        raise TableError(f"texts: symbol {odd[0]!r} has no decision.")
    return {"time": first[1], "open_time": first[2]}


def _is_repeat(
    connection: sqlalchemy.Connection,
    strategy: str,
    decisions: list[dict[str, Any]],
    state: list[dict[str, Any]],
    *,
    where: str,
) -> bool:
    """Whether the same answer is on record; refuses another answer, and a decision before the newest on record."""
    import sqlalchemy as sa

    schema = make_schema()
    table, states = schema.decisions, schema.states
    instant = decisions[0]["time"]
    newest = connection.execute(sa.select(sa.func.max(table.c.time)).where(table.c.strategy == strategy)).scalar_one()
    if newest is None or newest < instant:
        return False
    old = _select(connection, table, ("symbol", *ANSWER), table.c.strategy == strategy, table.c.time == instant)
    if not old:
        raise RefusedError(
            f"{where}: {strategy}: a decision at {_show(instant)} would come before the one of {_show(newest)} on "
            "record; decisions are never back-dated. Use another ledger or strategy name to replay the past."
        )
    changed = _find_change(old, decisions, ANSWER, instant)
    if changed is None:
        kept = _select(connection, states, STATE.columns, states.c.strategy == strategy, states.c.time == instant)
        changed = _find_change(kept, state, [*STATE.columns][1:], instant, of="state ")
    if changed is not None:
        raise RefusedError(f"{where}: {strategy}: {changed}. {STANDS}.")
    return True


def _find_change(
    old: Sequence[Sequence[Any]], new: list[dict[str, Any]], columns: Iterable[str], instant: str, *, of: str = ""
) -> str | None:
    """The first difference in words, between rows of (symbol, *columns) on record and rows to be stored."""
    was = {symbol: values for symbol, *values in sorted(old, key=lambda row: row[0])}
    now = {row["symbol"]: row for row in new}
    if was.keys() != now.keys():
        gone, added = sorted(was.keys() - now.keys()), sorted(now.keys() - was.keys())
        words = [f"{n} {', '.join(s)}" for n, s in (("without", gone), ("with", added)) if s]
        return f"{of}at {_show(instant)} is on record for {', '.join(was)}; now it comes {' and '.join(words)}"
    for symbol, values in was.items():
        for column, value in zip(columns, values, strict=True):
            if value != now[symbol][column]:
                return f"{symbol} at {_show(instant)}: {of}{column} was {_show(value)}, is {_show(now[symbol][column])}"
    return None


def _show(value: Any) -> str:
    """A stored value for a message; an instant without the seconds it does not have."""
    if value is None:
        return "not known"
    return re.sub(r"(:00)?\.000000Z$", "Z", str(value))


def _insert_pass(connection: sqlalchemy.Connection, strategy: str, row: Mapping[str, Any]) -> int:
    done = connection.execute(make_schema().passes.insert(), {"strategy": to_stored_text(strategy), **row})
    return int(done.inserted_primary_key[0])  # type: ignore[index]


def write_pass(ledger: Ledger, strategy: str, pass_row: Mapping[str, Any]) -> int:
    """The number of the pass, now on record without decisions: missed, quiet, refused, source down and the like."""
    row = to_pass(pass_row)
    with transaction(ledger, "write the pass", writes=f"decisions of {strategy}") as connection:
        return _insert_pass(connection, strategy, row)


def _select(
    connection: sqlalchemy.Connection, table: sqlalchemy.Table, columns: Iterable[str], *conditions: Any
) -> Sequence[Sequence[Any]]:
    import sqlalchemy as sa

    return connection.execute(sa.select(*(table.c[c] for c in columns)).where(*conditions)).all()


def _read_between(
    ledger: Ledger,
    table: sqlalchemy.Table,
    kinds: Mapping[str, str],
    strategy: str,
    start: pd.Timestamp | None,
    end: pd.Timestamp | None,
) -> pd.DataFrame:
    conditions = [table.c.strategy == to_stored_text(strategy)]
    if start is not None:
        conditions.append(table.c.time >= to_stored_instant(start))
    if end is not None:
        conditions.append(table.c.time < to_stored_instant(end))
    with transaction(ledger, f"read {table.name}") as connection:
        rows = _select(connection, table, kinds, *conditions)
    # Sorted here: databases order text by their own rules.
    keys = [c for c in ("symbol", "time", "article_id") if c in kinds]
    return from_stored(rows, kinds).sort_values(keys, kind="stable", ignore_index=True)


def read_decisions(
    ledger: Ledger, strategy: str, start: pd.Timestamp | None = None, end: pd.Timestamp | None = None
) -> pd.DataFrame:
    """The decisions with start <= time < end, sorted by symbol and time.

    Columns are those of the signals table, then weight, reason, model, recorded (the `now` of the pass). NaN is a score
    that was not known.
    """
    kinds = {**SIGNALS.columns, **{c: DECISION[c] for c in ("weight", "reason", "model", "recorded")}}
    return _read_between(ledger, make_schema().decisions, kinds, strategy, start, end)


def read_news(
    ledger: Ledger, strategy: str, start: pd.Timestamp | None = None, end: pd.Timestamp | None = None
) -> pd.DataFrame:
    """The texts behind the decisions with start <= time < end: symbol, time (of the decision) and those of TEXTS."""
    return _read_between(ledger, make_schema().news, NEWS_BEHIND, strategy, start, end)


def read_state(ledger: Ledger, strategy: str, before: pd.Timestamp | None = None) -> pd.DataFrame | None:
    """The state table after the newest decision, or the newest with time < before; None where there is none."""
    import sqlalchemy as sa

    schema = make_schema()
    decided, states = schema.decisions.c, schema.states.c
    strategy = to_stored_text(strategy)
    conditions = [decided.strategy == strategy]
    if before is not None:
        conditions.append(decided.time < to_stored_instant(before))
    with transaction(ledger, "read the state") as connection:
        newest = connection.execute(sa.select(sa.func.max(decided.time)).where(*conditions)).scalar_one()
        if newest is None:
            return None
        rows = _select(connection, schema.states, STATE.columns, states.strategy == strategy, states.time == newest)
    return from_stored(rows, STATE.columns).sort_values("symbol", ignore_index=True)


def read_passes(ledger: Ledger, strategy: str, last: int | None = None) -> pd.DataFrame:
    """The last passes in the order written: id and the columns of `schema.PASS`. NaT: the pass served no bar."""
    import sqlalchemy as sa

    table = make_schema().passes
    kinds = {"id": INTEGER, **PASS}
    query = sa.select(*(table.c[c] for c in kinds)).where(table.c.strategy == to_stored_text(strategy))
    with transaction(ledger, "read the passes") as connection:
        rows = connection.execute(query.order_by(table.c.id.desc()).limit(last)).all()
    return from_stored(rows[::-1], kinds)


def latest_pass(ledger: Ledger, strategy: str) -> dict[str, Any] | None:
    """The pass with the latest `now`: by it a clock that jumped back is found. None before the first."""
    import sqlalchemy as sa

    table = make_schema().passes
    kinds = {"id": INTEGER, **PASS}
    query = sa.select(*(table.c[c] for c in kinds)).where(table.c.strategy == to_stored_text(strategy))
    with transaction(ledger, "read the passes") as connection:
        rows = connection.execute(query.order_by(table.c.now.desc(), table.c.id.desc()).limit(1)).all()
    found = from_stored(rows, kinds)
    return None if found.empty else {str(k): v for k, v in found.iloc[0].to_dict().items()}
