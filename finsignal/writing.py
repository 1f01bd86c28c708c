"""Files and folders that appear whole or not at all: written under a temporary name beside, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finsignal.errors import SourceError


def sync(path: Path) -> None:
    """Has a file or folder on the disk when it returns; for a folder that is which names stand in it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well; a failure leaves an older file as it was.

    Raises SourceError where the folder of `path` cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays, for writers that go by it.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    except OSError as err:
        raise SourceError(f"{path}: cannot be written ({err.strerror}). Choose another --out.") from err
    os.close(handle)
    work = Path(name)
    try:
        yield work
        work.chmod(0o644)
        try:
            sync(work)
            work.replace(path)
            sync(path.parent)
        except OSError as err:  # such as a folder of that name
            raise SourceError(f"{path}: cannot be written ({err.strerror}). Choose another --out.") from err
    finally:
        work.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, mark: str) -> Iterator[Path]:
    """A folder to write into, which becomes `path` when the block ends well; a failure leaves an older one as it was.

    An older folder is replaced only where it is empty or holds the file `mark`, by which it shows to be of the same
    kind. Raises SourceError where it is anything else, or cannot be written.
    """
    check_replaceable(path, mark=mark)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    except OSError as err:
        raise SourceError(f"{path}: cannot be written ({err.strerror}). Choose another --out.") from err
    try:
        yield work
        work.chmod(0o755)
        old = work.with_name(f"{work.name}-old")
        if path.exists():
            path.replace(old)
        work.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_replaceable(path: Path, *, mark: str) -> None:
    """Refuses a folder to write to that holds something else: neither absent, nor empty, nor with the file `mark`."""
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (path / mark).is_file())):
        raise SourceError(f"{path}: exists and was not written by this command (no {mark}). Choose another --out.")
