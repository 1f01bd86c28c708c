"""The database under the ledger: opened, changed in transactions, its failures told in one sentence without secrets."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from finsignal.errors import FinsignalError, LedgerError, require
from finsignal.ledger.schema import SCHEMA, make_schema

if TYPE_CHECKING:
    import sqlalchemy

WAIT = 10  # seconds that a write waits for another program's write, and a connection for its server

# What a database says, and what to do about it.
ADVICE = {
    "file is not a database": "Choose another path",
    "malformed": "The file is damaged: put a copy back, or start a new ledger",
    "readonly": "Make the file and its folder writable",
    "unable to open database file": "Make sure that the file is there and its folder writable",
    "disk is full": "Make room; nothing of this was written",
    "disk i/o error": "Look at the disk; nothing of this was written",
    "database is locked": f"Another program has been writing for {WAIT} s; try again when it has ended",
    "password": "Check user and password, or put them in ~/.pgpass",
    "does not exist": "Make it, or correct the URL",
    "connection refused": "Start the server, or correct host and port of the URL",
    "resolve host": "Correct the host of the URL",
    "no space left": "Make room; nothing of this was written",
}


@dataclass(frozen=True)
class Ledger:
    """An open ledger. `url_shown` names it without secrets; `file` is None for a server. Close it when done."""

    url_shown: str
    engine: sqlalchemy.Engine = field(repr=False)
    file: Path | None = None
    inode: tuple[int, int] = (0, 0)  # of the file when it was opened
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def close(self) -> None:
        """Ends the connections; `contextlib.closing` calls it."""
        self.engine.dispose()


def open_ledger(url: str | Path, *, create: bool = True, durable: bool = True) -> Ledger:
    """The ledger at a path of an SQLite file or a URL of PostgreSQL; its tables are made where they are absent.

    `sqlite:///path` and `postgresql://user:password@host:port/database` are the URLs. Without `create`, a ledger
    that is not there is refused. Without `durable` a power cut may lose the last passes (a killed process loses none),
    which suits a replay: each pass then costs no wait for the disk.

    Raises LedgerError for a URL that cannot be read, a server out of reach or a password it refuses, a file that is no
    database or cannot be written, and tables of another program or of a newer finsignal; MissingExtraError where
    PostgreSQL is asked for without psycopg. No message holds a password.
    """
    text = str(url)
    if isinstance(url, Path) or "://" not in text:
        ledger = _open_file(Path(url), create=create, durable=durable)
    elif text.startswith("sqlite:"):
        path = text.removeprefix("sqlite:///")
        if path in (text, "", ":memory:") or path.startswith(":"):
            raise LedgerError("ledger: expected a file after 'sqlite:///'; a ledger in memory would forget its passes.")
        ledger = _open_file(Path(path), create=create, durable=durable)
    else:
        ledger = _open_server(text, durable=durable)
    try:
        _make_tables(ledger, create=create)
    except FinsignalError:
        ledger.close()
        raise
    return ledger


def _open_file(path: Path, *, create: bool, durable: bool) -> Ledger:
    import sqlalchemy as sa

    path = path.expanduser().absolute()
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(exist_ok=True)
        found = path.stat()
    except FileNotFoundError as err:
        raise LedgerError(f"ledger {path}: there is none; 'finsignal run' makes it.") from err
    except OSError as err:
        raise LedgerError(f"ledger {path}: cannot be opened ({err.strerror}). Choose another path.") from err

    def connect() -> sqlite3.Connection:
        # mode=rw: a file deleted in mid-pass must not come back as an empty one.
        opened = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=WAIT,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            opened.execute("PRAGMA foreign_keys=ON")
            _use_wal(opened)
            opened.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        except sqlite3.Error:
            opened.close()
            raise
        return opened

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool, hide_parameters=True)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        # A transaction that reads first and writes later is refused by SQLite, unwaited, where another wrote between.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return Ledger(str(path), engine, path, (found.st_dev, found.st_ino))


def _use_wal(opened: sqlite3.Connection) -> None:
    """Write-ahead logging, in which readers never wait. Tried again: SQLite itself does not wait for this change."""
    until = time.monotonic() + WAIT
    while True:
        try:
            opened.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as err:
            if "locked" not in str(err) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _open_server(text: str, *, durable: bool) -> Ledger:
    import sqlalchemy as sa

    expected = "'postgresql://user:password@host:port/database', its password with % for special characters, or a path"
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        # Such errors quote what they could not read, which may be the password.
        raise LedgerError(f"ledger: the URL cannot be read; expected {expected}.") from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise LedgerError(f"ledger: no database {url.drivername!r}; expected {expected}.")
    if "@" in (url.host or ""):  # of an unescaped @ in the password, whose end now stands in the host
        raise LedgerError(f"ledger: the URL has more than one @; expected {expected}.")
    require("psycopg", extra="postgres", work="a ledger in PostgreSQL")
    values = [v for given in url.query.values() for v in ([given] if isinstance(given, str) else given)]
    secrets = tuple(s for s in (url.password, quote(url.password or ""), *values) if s)
    shown = url.set(drivername="postgresql", query={}).render_as_string()  # with *** for the password
    options = f"-c synchronous_commit={'on' if durable else 'off'}"
    defaults = {"connect_timeout": WAIT, "application_name": "finsignal", "options": options}
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={k: v for k, v in defaults.items() if k not in url.query},
        pool_pre_ping=True,
        hide_parameters=True,
    )
    return Ledger(shown, engine, secrets=secrets)


def _make_tables(ledger: Ledger, *, create: bool) -> None:
    import sqlalchemy as sa

    schema = make_schema()
    with transaction(ledger, "open it") as connection:
        there = set(sa.inspect(connection).get_table_names())
    if schema.version.name not in there:
        if not create:
            raise LedgerError(f"ledger {ledger.url_shown}: holds no ledger; 'finsignal run' makes it.")
        with transaction(ledger, "make its tables", writes="tables") as connection:
            there = set(sa.inspect(connection).get_table_names())  # another process may have made them meanwhile
            if schema.version.name not in there:
                if taken := sorted(there & set(schema.metadata.tables)):
                    raise LedgerError(
                        f"ledger {ledger.url_shown}: holds a table {taken[0]!r} of another program. "
                        "Choose another file or database."
                    )
                schema.metadata.create_all(connection, checkfirst=False)
                connection.execute(schema.version.insert(), {"number": SCHEMA})
    with transaction(ledger, "open it") as connection:
        found = connection.execute(sa.select(schema.version.c.number)).scalars().all()
    if found != [SCHEMA]:
        raise LedgerError(
            f"ledger {ledger.url_shown}: has schema {', '.join(map(str, found)) or 'of no number'}, this finsignal "
            f"knows {SCHEMA}. Use the finsignal that wrote it, or a newer one."
        )


@contextlib.contextmanager
def transaction(ledger: Ledger, work: str, *, writes: str = "") -> Iterator[sqlalchemy.Connection]:
    """A connection whose changes are kept together when the block ends well, and not at all otherwise.

    `writes` names what is written; one process at a time writes what has the same name. Raises LedgerError for
    whatever the database reports.
    """
    import sqlalchemy as sa

    if ledger.file is not None:
        _check_same_file(ledger, ledger.file, work)
    try:
        with ledger.engine.connect().execution_options(writes=bool(writes)) as connection, connection.begin():
            if writes and ledger.file is None:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": to_key("write", writes)})
            yield connection
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as err:
        raise to_error(ledger, work, err) from None if leaks(ledger, str(err)) else err


def _check_same_file(ledger: Ledger, path: Path, work: str) -> None:
    # A connection to a deleted file goes on working, and what it writes is gone with it.
    try:
        found = path.stat()
    except OSError as err:
        raise LedgerError(f"ledger {ledger.url_shown}: could not {work}: the file is gone ({err.strerror}).") from err
    if (found.st_dev, found.st_ino) != ledger.inode:
        raise LedgerError(
            f"ledger {ledger.url_shown}: could not {work}: the file was replaced by another. Start the pass again."
        )


def leaks(ledger: Ledger, message: str) -> bool:
    return any(secret in message for secret in ledger.secrets)


def to_error(ledger: Ledger, work: str, err: Exception) -> LedgerError:
    reason = " ".join(str(getattr(err, "orig", None) or err).split())
    for secret in ledger.secrets:
        reason = reason.replace(secret, "***")
    advice = next((a for said, a in ADVICE.items() if said in reason.lower()), "Put that right and start again")
    return LedgerError(f"ledger {ledger.url_shown}: could not {work}: {reason[:300].rstrip('.?')}. {advice}.")


def to_key(*names: str) -> int:
    """A number for PostgreSQL's advisory locks."""
    return int.from_bytes(hashlib.sha256("\0".join(("finsignal", *names)).encode()).digest()[:8], signed=True)
