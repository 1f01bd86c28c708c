"""A real PostgreSQL server for the tests: started in a folder of its own, stopped at the end, and no one else's."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

PASSWORD = "pass@word/with:all%of it"


def find_programs() -> Path | None:
    """The folder of initdb and pg_ctl: the newest of Debian's, or that of the PATH; None where there is none."""
    by_version = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if by_version:
        return by_version[-1].parent
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@dataclass(frozen=True)
class Postgres:
    """A server. `url` is that of its database for administration; a server given from outside cannot be stopped."""

    url: str
    programs: Path | None = None
    folder: Path | None = None

    def make_database(self) -> str:
        """The URL of an empty database: always the same one, for making many takes most of the tests' time."""
        import psycopg

        name = f"finsignal_tests_{os.getpid()}"
        url = urlsplit(self.url)._replace(path=f"/{name}").geturl()
        with psycopg.connect(self.url, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchall():
                connection.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return url

    def drop_database(self) -> None:
        """The end of the database that `make_database` made."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS finsignal_tests_{os.getpid()} WITH (FORCE)")

    def control(self, *words: str) -> None:
        """pg_ctl, as the user whose server it is."""
        run(self.programs / "pg_ctl", "--pgdata", self.folder / "data", "--wait", *words, cwd=self.folder)

    def start(self) -> None:
        port = urlsplit(self.url).port
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.control("--log", str(self.folder / "log"), "--options", options, "start")

    def stop(self) -> None:
        self.control("--mode", "immediate", "stop")


def run(*command: object, cwd: Path) -> None:
    # PostgreSQL refuses to run as root. No pipes: the server would keep them open.
    user = "postgres" if os.geteuid() == 0 else None
    words = [str(c) for c in command]
    with (cwd / "commands").open("ab") as said:
        subprocess.run(words, cwd=cwd, user=user, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=True)


@contextmanager
def serve_postgres(programs: Path) -> Iterator[Postgres]:
    """A server on a free port of 127.0.0.1, which asks for a password, for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="finsignal-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres")
        choices = ("--username=tester", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}")
        run(programs / "initdb", f"--pgdata={folder / 'data'}", "--encoding=UTF8", "--no-sync", *choices, cwd=folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        url = f"postgresql://tester:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        server = Postgres(url, programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
