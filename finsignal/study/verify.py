"""Whether a run folder comes out again: what changed since is named; else it is repeated and compared bit by bit."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import ManifestError, ModelError
from finsignal.study.manifest import (
    MANIFEST,
    Request,
    digest_code,
    digest_files,
    digest_model,
    digest_of_file,
    find_packages,
    find_platform,
    find_version,
    read_manifest,
    to_request,
)
from finsignal.study.request import Read, read_request, run_read
from finsignal.study.run import Study, write_study

SHOWN = 12  # hex digits of a digest
# Compared in this order, each made from those before it, so that the first difference is nearest to its cause.
CAUSES = ("news", "sentiment", "parameters", "features", "signals", "weights", "targets", "orders", "equity", "trades")


@dataclass(frozen=True)
class Verified:
    """A run folder that came out again, bit by bit: its files, and what has changed since it was made all the same."""

    folder: Path
    files: tuple[str, ...]
    changed: tuple[str, ...]


def verify_run(folder: Path, *, anyway: bool = False, progress: bool = False) -> Verified:
    """The run of `folder` repeated at its own instant into a temporary folder, and every file found identical.

    Tables are compared by content, other files byte by byte. With `anyway` it is repeated although something changed,
    and compared with what the manifest has on record. progress: a bar on stderr while texts are scored.

    Raises ManifestError where something changed, naming all of it; where the repeat differs, naming the first file,
    row and column; and for a folder without a manifest.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    changed = find_changes(folder, manifest)
    _refuse(folder, changed, anyway)
    if not manifest["repeatable"]:
        raise ManifestError(
            f"{folder}: is as its manifest says, but was made from tables in Python, which nothing can read again. "
            "Make it with finsignal backtest, or with run_request."
        )
    read = read_request(to_request(manifest["settings"]), progress=progress)
    study = _ask_again(read, folder) if read.request.evidence else run_read(read)
    changed += find_table_changes(manifest, study.manifest, read)
    _refuse(folder, changed, anyway)
    with tempfile.TemporaryDirectory(prefix="finsignal-verify-") as work:
        _compare(folder, write_study(study, Path(work) / "repeat"), manifest, changed)
    return Verified(folder, tuple(sorted(manifest["files"])), tuple(changed))


def _ask_again(read: Read, folder: Path) -> Study:
    """The study of what was read with its evidence, over the trials that were counted when the folder was made."""
    from finsignal.study.questions import add_evidence

    return add_evidence(run_read(read), trials=pd.read_parquet(folder / "trials.parquet"), read=read)


def find_changes(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """All that is not as the manifest says: files of the folder, input files, model, packages, code, platform."""
    changed = []
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            changed.append(f"{name} of the folder is missing")
        elif digest_of_file(folder / name) != expected:
            changed.append(f"{name} of the folder was altered")
    if manifest["repeatable"]:
        request = to_request(manifest["settings"])
        changed += find_file_changes(manifest["data"]["files"], digest_files(request))
        changed += find_model_changes(manifest["models"], request)
    packages = find_packages()
    for name, version in manifest["packages"].items():
        if packages.get(name) != version:
            changed.append(f"package {name} was {version or 'not installed'}, is {packages.get(name) or 'missing'}")
    for key, now in find_platform().items():
        if key != "processor" and now != manifest["platform"].get(key):  # another processor may give the same bits
            changed.append(f"{key} was {manifest['platform'].get(key)}, is {now}")
    changed += find_code_changes(manifest["code"])
    return changed


def find_file_changes(before: Mapping[str, str | None], now: Mapping[str, str | None]) -> Iterator[str]:
    """A sentence for each input file that is another, or gone."""
    for path, expected in before.items():
        found = now.get(path)
        if found is None:
            yield f"{path} is missing or cannot be read"
        elif found != expected:
            yield f"{path} changed: its SHA-256 was {_short(expected)}, is {_short(found)}"


def find_model_changes(before: Mapping[str, Mapping[str, Any]], request: Request) -> Iterator[str]:
    """A sentence for each model that is another, naming the files that are; or why it cannot be loaded."""
    from finsignal.sentiment.score import load_model

    place = f"model {request.model or 'that ships'}"
    for expected in before.values():
        try:
            found = digest_model(load_model(request.model))
        except ModelError as err:
            yield f"{place} changed: {str(err).rstrip('.')}"
            continue
        if found == expected:
            continue
        names = sorted({*expected["files"], *found["files"]})
        files = [name for name in names if expected["files"].get(name) != found["files"].get(name)]
        what = ", ".join(files) or "its card"
        yield f"{place} changed: {what} (it was {expected['name']}, is {found['name']})"


def find_code_changes(before: Mapping[str, Any]) -> Iterator[str]:
    """One sentence with the files of finsignal that changed, came or went."""
    now = digest_code()["files"]
    files = sorted(name for name in {*before["files"], *now} if before["files"].get(name) != now.get(name))
    if files:
        version = "" if before["version"] == find_version() else f" (version {before['version']})"
        yield f"finsignal's code changed{version}: {', '.join(files)}"


def find_table_changes(manifest: Mapping[str, Any], now: Mapping[str, Any], read: Read) -> list[str]:
    """A sentence for each table that was read or scored otherwise, though all that was checked is the same."""
    changed = []
    for part in ("tables", "sentiment"):
        before, found = manifest["data"][part], now["data"][part]
        for name in {**before, **found}:
            if before.get(name) != found.get(name):
                was, source = _short(before.get(name)), read.request.run.lake or "the files"
                where = f"the {name} read from {source}" if part == "tables" else f"the table of {name!r}"
                changed.append(f"{where} changed: the digest was {was}, is {_short(found.get(name))}")
    return changed


def _refuse(folder: Path, changed: list[str], anyway: bool) -> None:
    if changed and not anyway:
        raise ManifestError(
            f"{folder}: not as its {MANIFEST} says: {'; '.join(changed)}. Put it back as it was, or pass --anyway to "
            "repeat the run in spite of it."
        )


def _compare(folder: Path, repeat: Path, manifest: Mapping[str, Any], changed: list[str]) -> None:
    """Raises ManifestError at the first file of the repeat that is not the one on record."""
    again = {path.name for path in repeat.iterdir()} - {MANIFEST}
    causes = {f"{name}.parquet": place for place, name in enumerate(CAUSES)}
    for name in sorted({*manifest["files"], *again}, key=lambda name: (causes.get(name, len(causes)), name)):
        expected = manifest["files"].get(name)
        if name in again and digest_of_file(repeat / name) == expected:
            continue
        if expected is None or name not in again:
            what = f"{name}: only the {'repeat' if expected is None else 'folder'} has it"
        elif digest_of_file(folder / name) != expected:
            what = f"{name}: the repeat is not what the manifest has on record, nor is the folder's file"
        else:
            what = find_difference(folder / name, repeat / name)
        processor = manifest["platform"].get("processor", ""), find_platform()["processor"]
        cause = f" (processor was {processor[0]}, is {processor[1]})" if processor[0] != processor[1] else ""
        since = f" Changed since: {'; '.join(changed)}." if changed else ""
        raise ManifestError(f"{folder}: the repeat differs: {what}{cause}.{since}")


def find_difference(before: Path, now: Path) -> str:
    """Where two files of one name first differ: file, row and column of a table, key of JSON, line of another."""
    name = before.name
    if before.suffix == ".parquet":
        return f"{name}{_find_cell(pd.read_parquet(before), pd.read_parquet(now))}"
    texts = [path.read_text(encoding="utf-8") for path in (before, now)]
    if before.suffix == ".json":
        found = next(_find_keys("", *(json.loads(text) for text in texts)), None)
        if found is not None:
            return f"{name}, {found}"
    lines = [text.split("\n") for text in texts]
    for number, (was, found) in enumerate(zip(*lines, strict=False), 1):
        if was != found:
            return f"{name}, line {number}"
    return f"{name}: {len(lines[0])} lines, now {len(lines[1])}"


def _find_cell(before: pd.DataFrame, now: pd.DataFrame) -> str:
    if list(before.columns) != list(now.columns):
        return f": columns were {list(before.columns)}, are {list(now.columns)}"
    for column in before.columns:
        if before[column].dtype != now[column].dtype:
            return f", column {column}: was {before[column].dtype}, is {now[column].dtype}"
    size = min(len(before), len(now))
    unequal = np.column_stack([_unequal(before[c].iloc[:size], now[c].iloc[:size]) for c in before.columns])
    rows = np.flatnonzero(unequal.any(axis=1))
    if not len(rows):
        return f": {len(before)} rows, now {len(now)}"
    row = int(rows[0])
    column = before.columns[int(unequal[row].argmax())]
    was, found = (table[column].iloc[[row]].tolist()[0] for table in (before, now))
    return f" row {row}, column {column}: was {was!r}, is {found!r}"


def _unequal(before: pd.Series, now: pd.Series) -> np.ndarray:
    """Whether each value is another bit pattern; nothing equals nothing, and 0.0 is not -0.0."""
    both = (before.isna() & now.isna()).to_numpy()
    if before.dtype == np.float64:
        other = before.to_numpy().view(np.int64) != now.to_numpy().view(np.int64)
    else:
        other = ~(before.astype(object) == now.astype(object)).to_numpy(dtype=bool)
    return other & ~both


def _find_keys(where: str, before: Any, now: Any) -> Iterator[str]:
    """The keys at which two JSON values differ, in the order of the first."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _find_keys(f"{where}.{key}" if where else str(key), before.get(key), now.get(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for position, (was, found) in enumerate(zip(before, now, strict=True)):
            yield from _find_keys(f"{where}[{position}]", was, found)
    elif before != now:
        yield f"{where}: was {before!r}, is {now!r}"


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:SHOWN]
