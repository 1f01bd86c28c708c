"""A published labelled set into a data folder: fetched where it is published, checked by its digests, whole or not.

What breaks off stays in an unfinished file beside its place and is gone on with the next time. A file that stands at
its place is whole and has the published digest; what others put there is never replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import os
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from finsignal.errors import ConfigError, SourceError, did_you_mean
from finsignal.sentiment.labelled.places import PUBLISHED, Member, PublishedFile, PublishedSet
from finsignal.writing import sync, whole_file

__all__ = ["PUBLISHED", "Member", "PublishedFile", "PublishedSet", "find_set", "get_data_set"]

TRIES = 5
TIMEOUT = 60.0  # seconds without a byte
LONGEST_WAIT = 60.0  # seconds before one further try, whatever the service asks for
CHUNK = 65_536  # bytes read at once
BUSY = (408, 429, 500, 502, 503, 504)


class _BrokenError(Exception):
    """The answer did not come whole, for a reason that may be gone at the next try, `wait` seconds from now."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def find_set(name: str) -> PublishedSet:
    """The published set of that name. Raises ConfigError where there is none."""
    if name not in PUBLISHED:
        raise ConfigError(
            f"data: no published set {name!r}.{did_you_mean(name, PUBLISHED)} There are {sorted(PUBLISHED)}."
        )
    return PUBLISHED[name]


def get_data_set(
    name: str,
    *,
    to: Path,
    accept_licence: bool,
    base_url: str = "",
    progress: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[Path, bool]:
    """Each file of a published set below the folder `to`: whether it came now (True) or was there (False).

    Below `to` the files stand where a recipe looks for them, such as tfns/sent_train.csv. Nothing is asked for where
    the right files are there. A file comes into its place by one move, when its SHA-256 is the recorded one; what an
    archive holds is taken from it after that check. A broken answer is gone on with, a busy service asked again, up to
    five times in all; `sleep` waits in between. `base_url` takes the place of the scheme and host of every address.

    Raises ConfigError for an unknown name and where the licence is not accepted; SourceError where a file cannot be
    had or written, is not the published one, or where another file stands at its place. Complete files stay then.
    """
    chosen = find_set(name)
    if not accept_licence:
        raise ConfigError(
            f"data: {name} comes under its own licence ({chosen.licence}; for {chosen.use}; see {chosen.page}). "
            "Accept it with --accept-licence."
        )
    to, got = Path(to), dict[Path, bool]()
    with _alone(to):
        missing = {file.path: _find_missing(file, to) for file in chosen.files}  # all, before the first is asked for
        for file in chosen.files:
            if missing[file.path] and not (to / file.path).exists():
                _fetch(file, to / file.path, base_url=base_url, progress=progress, sleep=sleep)
                got[to / file.path] = True
            if file.members and missing[file.path]:
                _unpack(file, to, got)
            for path in (file.path, *(member.path for member in file.members)):
                if (to / path).exists():
                    got.setdefault(to / path, False)
    return got


@contextlib.contextmanager
def _alone(to: Path) -> Iterator[None]:
    """Holds the folder, which is made where it is not: two that write one unfinished file would spoil it."""
    import fcntl

    try:
        to.mkdir(parents=True, exist_ok=True)
        handle = os.open(to, os.O_RDONLY)
    except OSError as err:
        raise SourceError(f"{to}: cannot be written ({err.strerror}). Choose another --to.") from err
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise SourceError(f"{to}: another finsignal is getting data into it; wait for it, then try again.") from err
        yield
    finally:
        os.close(handle)


def to_digest(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise SourceError(f"{path}: could not be read ({err.strerror}).") from err


def _find_missing(file: PublishedFile, to: Path) -> list[str]:
    """Paths that are to be written. Raises SourceError where something else stands at one of them."""
    archive = to / file.path
    there = _stands(archive, (file.sha256,))
    if not file.members:
        return [] if there else [file.path]
    inside = _read_members(file, archive) if there else {}
    missing = []
    for member in file.members:
        known = (*member.sha256, hashlib.sha256(inside[member.path]).hexdigest()) if there else member.sha256
        if not _stands(to / member.path, known):
            missing.append(member.path)
    return missing  # an archive whose members are all there is not missed


def _stands(path: Path, known: tuple[str, ...]) -> bool:
    """Whether a file with one of these digests stands there. Raises SourceError where any other does."""
    if not os.path.lexists(path):
        return False
    found = to_digest(path)
    if found not in known:
        raise SourceError(
            f"{path}: is not the published file (its SHA-256 is {found[:12]}..., expected {known[0][:12]}...), and is "
            "not replaced. Move it away, or choose another --to."
        )
    return True


def _unpack(file: PublishedFile, to: Path, got: dict[Path, bool]) -> None:
    for path, content in _read_members(file, to / file.path).items():
        if not (to / path).exists():
            with whole_file(to / path) as work:
                work.write_bytes(content)
            got[to / path] = True


def _read_members(file: PublishedFile, archive: Path) -> dict[str, bytes]:
    """What stands in a checked archive, by path in the data folder. Raises SourceError where a member does not."""
    try:
        with zipfile.ZipFile(archive) as inside:
            return {member.path: inside.read(member.name) for member in file.members}
    except KeyError as err:
        raise SourceError(f"{archive}: {err.args[0]}; it is not the set that is known here.") from err
    except (zipfile.BadZipFile, OSError) as err:
        raise SourceError(f"{archive}: could not be read as a zip ({err}).") from err


def _fetch(file: PublishedFile, path: Path, *, base_url: str, progress: bool, sleep: Callable[[float], None]) -> None:
    """The published file at its place; what came is kept beside it where it breaks, and removed where it is wrong."""
    url = base_url.rstrip("/") + urlsplit(file.url).path if base_url else file.url
    part = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            begun = part.exists()
            _download(url, part, file.size, name=file.path if progress else "", sleep=sleep)
            found = to_digest(part)
            if found == file.sha256:
                break
            size = part.stat().st_size
            part.unlink()
            if not begun:  # else the part may have been of another version: once more, from the start
                raise SourceError(
                    f"data: {url} is not the published file: its SHA-256 begins with {found[:12]} after {size:,} "
                    f"bytes, expected {file.sha256[:12]} and {file.size:,}. Nothing of it was kept; see what changed "
                    "there before you trust it."
                )
        if file.members:
            try:
                _read_members(file, part)
            except SourceError:
                part.unlink()
                raise
        sync(part)
        part.replace(path)
        sync(path.parent)
    except OSError as err:
        raise SourceError(f"{path}: cannot be written ({err.strerror}). Choose another --to.") from err


def _download(url: str, part: Path, size: int, *, name: str, sleep: Callable[[float], None]) -> None:
    """The bytes of the address in `part`, after those it holds: all that are offered, but no more than size + 1.

    `name` stands before the progress bar; without one there is none.
    """
    for done in range(1, TRIES + 1):
        try:
            return _go_on(url, part, size, name=name)
        except _BrokenError as err:
            if done == TRIES:
                kept = " What came is kept, and gone on with the next time." if part.exists() else ""
                raise SourceError(f"data: {url}: {err}, in {TRIES} tries.{kept}") from err
            sleep(min(2.0 ** (done - 1) if err.wait is None else err.wait, LONGEST_WAIT))
    return None


def _go_on(url: str, part: Path, size: int, *, name: str) -> None:
    start = part.stat().st_size if part.exists() else 0
    if start >= size:  # stopped between the last byte and the check
        return
    with _open(url, part, start) as answer:
        if answer.status != 206 or not (answer.headers["Content-Range"] or "").startswith(f"bytes {start}-"):
            start = 0  # the service gives it from the beginning only
        length = answer.headers["Content-Length"] or ""
        end = start + int(length) if length.isdigit() else size
        with part.open("ab" if start else "wb") as out:
            came = start + _copy(answer, out, size + 1 - start, name=name)
    if came < min(end, size):
        raise _BrokenError(f"the answer broke off after {came:,} of {min(end, size):,} bytes")


def _open(url: str, part: Path, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "finsignal", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
        return answer
    except urllib.error.HTTPError as err:
        with err:
            asked = err.headers["Retry-After"] or ""
        if err.code == 416:
            part.unlink(missing_ok=True)
            raise _BrokenError("there is nothing after the part that is here", wait=0.0) from err
        if err.code in BUSY:
            raise _BrokenError(f"server error ({err.code})", wait=float(asked) if asked.isdigit() else None) from err
        raise SourceError(f"data: {url} answered {err.code} ({err.reason}); nothing was written.") from err
    except (OSError, http.client.HTTPException) as err:
        reason = getattr(err, "reason", None) or err
        raise _BrokenError(f"no answer ({str(reason) or type(reason).__name__})") from err


def _copy(answer: http.client.HTTPResponse, out: io.BufferedIOBase, most: int, *, name: str) -> int:
    """Bytes copied, `most` of them at the most. A line that breaks raises, with what came before it written."""
    from tqdm import tqdm

    came = 0
    with tqdm(total=most - 1, desc=name, unit="B", unit_scale=True, leave=False, disable=not name) as bar:
        while came < most:
            try:
                chunk = answer.read(min(CHUNK, most - came))
            except (OSError, http.client.HTTPException) as err:
                raise _BrokenError(f"the line broke after {came:,} bytes") from err
            if not chunk:
                break
            out.write(chunk)
            came += len(chunk)
            bar.update(len(chunk))
    return came
