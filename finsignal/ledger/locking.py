"""One pass of a strategy at a time, across processes."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finsignal.errors import LedgerError, LockedError
from finsignal.ledger.database import Ledger, leaks, to_error, to_key


@contextlib.contextmanager
def lock(ledger: Ledger, strategy: str) -> Iterator[None]:
    """Holds the strategy for one pass: across processes, and until the process ends, however it ends.

    Raises LockedError at once where another pass holds it; there is no waiting. SQLite: a lock on a file beside the
    database, which stays there; PostgreSQL: an advisory lock of a connection of its own.
    """
    with contextlib.ExitStack() as held:
        if ledger.file is not None:
            holder = _lock_file(ledger, ledger.file, strategy, held)
        else:
            holder = _lock_server(ledger, strategy, held)
        if holder is not None:
            raise LockedError(
                f"ledger {ledger.url_shown}: another pass of {strategy!r} is at work{holder}; nothing was done."
            )
        yield


def _lock_file(ledger: Ledger, path: Path, strategy: str, held: contextlib.ExitStack) -> str | None:
    """None where the lock is taken now; else who holds it."""
    try:
        import fcntl
    except ModuleNotFoundError as err:
        raise LedgerError("ledger: passes on an SQLite file need Linux or macOS; use a ledger in PostgreSQL.") from err
    name = f"{path.name}.{re.sub(r'[^A-Za-z0-9-]', '_', strategy)[:40]}-{to_key(strategy) & 0xFFFFFFFF:08x}.lock"
    try:
        handle = os.open(path.with_name(name), os.O_RDWR | os.O_CREAT, 0o644)
        held.callback(os.close, handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.read(handle, 20).decode("ascii", "replace")
            return f" (process {process})" if process.isdigit() else ""
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
    except OSError as err:
        raise LedgerError(
            f"ledger {ledger.url_shown}: the lock {name} cannot be taken ({err.strerror}). Make its folder writable."
        ) from err
    return None


def _lock_server(ledger: Ledger, strategy: str, held: contextlib.ExitStack) -> str | None:
    import sqlalchemy as sa

    key: dict[str, Any] = {"key": to_key("pass", strategy)}
    try:
        connection = ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        held.callback(connection.close)
        if not connection.execute(sa.text("SELECT pg_try_advisory_lock(:key)"), key).scalar_one():
            return ""
    except sa.exc.SQLAlchemyError as err:
        raise to_error(ledger, "lock it", err) from None if leaks(ledger, str(err)) else err

    def unlock() -> None:
        # A server that is gone has freed the lock already.
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), key)

    held.callback(unlock)
    return None
