"""The lake on disk: its mark, the lock of its writers, and parts that appear whole, durable and under a new name.

A part `part-00000004-00000009.parquet` holds what the writes 4 to 9 of its folder brought; a part whose range lies
within another's has been merged into it and is left over. Numbers of a folder only grow, so nothing is ever replaced.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from finsignal.errors import SourceError
from finsignal.writing import sync

MARK, FORMAT = "lake.json", 1
LOCK_WAIT = 120.0  # seconds a writer waits for the others before it gives up
_PART = re.compile(r"part-(\d{8,})-(\d{8,})\.parquet")
_LISTINGS = 1000  # a merge takes a fraction of a second, and a listing far less


@dataclass(frozen=True)
class Lake:
    """An append-only store of tables in `folder`."""

    folder: Path


@dataclass(frozen=True)
class Part:
    """One Parquet file: the writes `first` to `last` of its folder."""

    path: Path
    first: int
    last: int


def open_lake(folder: Path, *, create: bool = False) -> Lake:
    """The lake in `folder`; made there where `create` says so and nothing, or an empty folder, stands there.

    Raises SourceError where there is none, where the folder holds something else, or where a newer version wrote it.
    """
    mark = folder / MARK
    try:
        if create and not mark.exists():
            names = os.listdir(folder) if folder.exists() else []
            # Listed after the look for the mark: another process may have made the lake in between.
            if MARK not in names and any(name != ".lock" and not _is_left_over(name) for name in names):
                raise SourceError(f"{folder}: holds other files and is no lake (no {MARK}). Choose another folder.")
            make_folders(folder)
            with suppress(FileExistsError):  # another process made it at the same moment
                write_new(mark, json.dumps({"kind": "finsignal lake", "format": FORMAT}).encode())
        about = json.loads(mark.read_text(encoding="utf-8"))
        written = about["format"] if about["kind"] == "finsignal lake" else None
    except FileNotFoundError as err:
        raise SourceError(f"{folder}: there is no lake (no {MARK}). Fetch into it first, or name another.") from err
    except OSError as err:
        raise SourceError(f"{folder}: the lake cannot be opened ({err.strerror}).") from err
    except (ValueError, TypeError, KeyError) as err:
        raise SourceError(f"{mark}: is not the mark of a lake. Put back the file, or choose another folder.") from err
    if not isinstance(written, int) or written < 1:
        raise SourceError(f"{mark}: is not the mark of a lake. Put back the file, or choose another folder.")
    if written > FORMAT:
        raise SourceError(f"{folder}: a newer finsignal wrote format {written}, this one reads {FORMAT}. Update it.")
    return Lake(folder)


@contextmanager
def locked(lake: Lake) -> Iterator[None]:
    """The block runs while no other writer does, in this process or another; the kernel frees the lock of a killed one.

    Raises SourceError where the lake cannot be written to, or where another writer keeps it for longer than LOCK_WAIT.
    """
    import fcntl  # not on every system, and readers do without

    try:
        handle = os.open(lake.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as err:
        raise cannot_write(lake.folder, err) from err
    try:
        give_up = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as err:
                if time.monotonic() > give_up:
                    raise SourceError(
                        f"{lake.folder}: another process has been writing for {LOCK_WAIT:.0f} s. End it, or try later."
                    ) from err
                time.sleep(0.005)
        yield
    finally:
        os.close(handle)


def cannot_write(where: Path, err: OSError) -> SourceError:
    """The error of a write that failed, after which the lake reads as before."""
    return SourceError(
        f"{where}: cannot be written ({err.strerror or err}). The lake is as it was. Make room, then repeat."
    )


def write_new(path: Path, data: bytes | memoryview) -> None:
    """Writes a file that was not there: whole, on the disk and under its name when this returns, or not at all.

    The one way in which anything enters the lake. Raises FileExistsError where the name is taken, OSError where the
    disk refuses; then nothing is left but, after a kill, a hidden temporary file.
    """
    work = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    linked = False
    try:
        with open(work, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(work, path)  # as a rename would, but it never replaces
        linked = True
        work.unlink()
        sync(path.parent)
    except OSError:
        if linked:  # not known to be on the disk, so it must not be read either
            with suppress(OSError):
                path.unlink()
        raise
    finally:
        with suppress(OSError):
            work.unlink(missing_ok=True)


def make_folders(folder: Path) -> None:
    """The folder and those above it, each on the disk when this returns."""
    if not folder.is_dir():
        make_folders(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
        sync(folder.parent)


def _is_left_over(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def sweep(folder: Path) -> None:
    """Removes what killed writers left: temporary files, and parts that were merged. Only while the lake is locked."""
    kept = {part.path.name for part in list_parts(folder)}
    for name in _names(folder):
        if _is_left_over(name) or (_PART.fullmatch(name) and name not in kept):
            (folder / name).unlink(missing_ok=True)


def list_parts(folder: Path) -> list[Part]:
    """The parts of a folder in the order of their writes, without those that another has taken in; no folder, none."""
    before, names = None, _names(folder)
    for _ in range(_LISTINGS):
        if before == names:
            return _uncovered(folder, names)
        # While a merge goes on, one listing may show neither the merged part nor all that it took in. Of two that
        # agree, the second began after the first ended, and would show the merged one.
        before, names = names, _names(folder)
    raise SourceError(f"{folder}: its files never stop changing. Try again when fewer processes write.")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as err:
        raise SourceError(f"{folder}: cannot be read ({err.strerror}).") from err


def _uncovered(folder: Path, names: list[str]) -> list[Part]:
    found = [(int(m[1]), int(m[2]), m[0]) for m in map(_PART.fullmatch, names) if m]
    parts: list[Part] = []
    for first, last, name in sorted(found, key=lambda part: (part[0], -part[1])):
        if not parts or last > parts[-1].last:
            parts.append(Part(folder / name, first, last))
    return parts


def to_name(first: int, last: int) -> str:
    """The file name of a part that holds the writes `first` to `last`."""
    return f"part-{first:08d}-{last:08d}.parquet"


def to_folder(key: str, value: str) -> str:
    """`market=XNYS`, as Hive names folders and every reader of Parquet understands them."""
    return f"{key}={quote(value, safe=' ')}"


def list_values(folder: Path, key: str) -> list[str]:
    """The values v of the folders `key=v` in a folder, sorted."""
    return sorted(unquote(name.partition("=")[2]) for name in _names(folder) if name.startswith(f"{key}="))
