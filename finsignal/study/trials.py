"""Every setting that was tried for a question, counted by itself: the trial registry of a study.

A study is a question, known by the name of its run file. Its registry is a file of lines that is only ever appended
to; each line holds the digest of all before it, and a seal beside it the number of lines and the last digest, so that a
line altered or taken out is found, at the end too. Whoever deletes the folder, or writes both files anew, is not found.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from finsignal import evidence
from finsignal.clock import days_per_year
from finsignal.errors import ConfigError, ManifestError, SourceError
from finsignal.study.choosing import list_settings
from finsignal.study.run import Study
from finsignal.tables import TRIALS
from finsignal.writing import whole_file

REGISTRY = "trials.jsonl"
SEAL = "trials.seal"
FORMAT = 1
# Of a run file, what changes no decision and no fill; and `search`, for a setting is the same whatever stood beside it.
NO_TRIAL = (
    *("path", "name", "search", "random_entries", "row_limit", "baseline", "simulated", "allow_seen", "job", "fetch"),
    *("prices_path", "news_path"),  # whatever they are called, the files count by their content
)


def list_trials(study: Study, *, now: pd.Timestamp) -> pd.DataFrame:
    """TRIALS of one study: every combination of its [search], as tried on validation, and the run itself on the test.

    A trial is known by the digest of all that decides it: settings, strategy and data files, model. The ratio of a
    combination is the mean over the windows of its net Sharpe ratios; days are those that it was tried on.
    """
    case, run = study.case, study.run
    settings = {key: value for key, value in run.to_settings().items() if key not in NO_TRIAL}
    settings["latency"] = str(run.decision_latency)
    made_of = {
        "settings": settings,
        "files": {
            Path(k).name: v for k, v in study.manifest["data"]["files"].items() if Path(k) != run.path.absolute()
        },
        "models": sorted(model["digest"] for model in study.manifest["models"].values()),
    }
    year = days_per_year(run.market)
    rows = []
    searched = [choice for choice in case.choices if choice.ratios]
    days = sum(_count_days(study, choice.split) for choice in searched)
    for number, setting in enumerate(list_settings(run) if searched else []):
        ratios = [choice.ratios[number] for choice in searched]
        known = [ratio for ratio in ratios if ratio is not None]
        sharpe = float(np.mean(known)) / year**0.5 if known else np.nan
        rows.append(_to_row("setting", setting, {**made_of, "setting": setting}, sharpe, days))
    daily = evidence.to_daily(case.result.equity, case.inputs.bars, cash=run.cash)
    judged = {**made_of, "search": {name: list(values) for name, values in run.search.items()}}
    own = study.summary["performance"]["sharpe"]
    rows.append(_to_row("run", dict(run.parameters), judged, np.nan if own is None else own / year**0.5, len(daily)))
    table = pd.DataFrame(rows)
    table["first"] = now
    return TRIALS.to_table(table.astype({"first": TRIALS.columns["first"]}))


def count_trials(folder: Path, name: str, trials: pd.DataFrame) -> pd.DataFrame:
    """TRIALS of the whole study `name`, after those of `trials` that are new to its registry were appended to it.

    A trial that is made again counts once. Processes may append at the same time. Raises ConfigError where the folder
    is the registry of another study, ManifestError where it was altered, SourceError where it cannot be written.
    """
    TRIALS.check(trials)
    with _open_locked(folder) as file:
        known, chains = _read_lines(folder, name, file.read(), _read_seal(folder))
        chain = chains[-1] if chains else ""
        new = trials[~trials["trial"].isin([row["trial"] for row in known])]
        lines = b""
        if not chain:
            chain, lines = _to_line({"format": FORMAT, "study": name}, "")
        for row in new.to_dict("records"):
            plain = {**row, "first": row["first"].isoformat(), "sharpe": evidence.to_none(row["sharpe"])}
            chain, line = _to_line(plain, chain)
            known.append(plain)
            lines += line
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
        with whole_file(folder / SEAL) as seal:  # after the lines: one that a kill left behind is older, never newer
            seal.write_text(json.dumps({"lines": len(known) + 1, "chain": chain}) + "\n", encoding="utf-8")
    return _to_trials(known)


def read_trials(folder: Path, name: str) -> pd.DataFrame:
    """TRIALS of a study's registry; empty where there is none. Raises as `count_trials` does."""
    seal = _read_seal(folder)  # first: a process that counts meanwhile writes it last
    try:
        content = (folder / REGISTRY).read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as err:
        raise SourceError(f"{folder}: is no trial registry ({err.strerror}). Pass --study a folder.") from err
    whole = content.rfind(b"\n") + 1  # another process may be in the middle of a line
    return _to_trials(_read_lines(folder, name, content[:whole], seal)[0])


def _count_days(study: Study, split: Any) -> int:
    bars = study.case.inputs.bars
    judged = split.train(bars) if split.validation_start is None else split.validation(bars)
    return int(judged["session"].nunique())


def _to_row(kind: str, setting: Mapping[str, float], made_of: Mapping[str, Any], sharpe: float, days: int) -> dict:
    text = json.dumps({"kind": kind, **made_of}, sort_keys=True, ensure_ascii=False, default=str)
    return {
        "trial": hashlib.sha256(text.encode()).hexdigest(),
        "kind": kind,
        "settings": json.dumps(setting, sort_keys=True),
        "sharpe": float(sharpe),
        "days": days,
    }


@contextlib.contextmanager
def _open_locked(folder: Path) -> Iterator[BinaryIO]:
    """The registry, held by this process alone, its end cut back to the last whole line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / REGISTRY, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as err:
        raise SourceError(
            f"{folder}: the trial registry cannot be written ({err.strerror}). Pass --study another folder."
        ) from err
    with os.fdopen(handle, "r+b") as file:
        with contextlib.suppress(ModuleNotFoundError):  # Windows has no fcntl; there one process must count at a time
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        whole = file.read().rfind(b"\n") + 1  # a process that was killed may have left half a line
        file.truncate(whole)
        file.seek(0)
        yield file


def _to_line(content: Mapping[str, Any], before: str) -> tuple[str, bytes]:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    chain = hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()
    return chain, (json.dumps({**content, "chain": chain}, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _read_lines(folder: Path, name: str, content: bytes, seal: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    """The trials, and the digest of each line, the first line's too."""
    rows: list[dict[str, Any]] = []
    chains: list[str] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        try:
            row = json.loads(line)
            stated = row.pop("chain")
        except (ValueError, KeyError, AttributeError, TypeError) as err:
            raise _altered(folder, f"line {number} is") from err
        chains.append(_to_line(row, chains[-1] if chains else "")[0])
        if stated != chains[-1] or (number > 1 and "trial" not in row):
            raise _altered(folder, f"line {number} is")
        rows.append(row)
    if rows and rows[0].get("study") != name:
        raise ConfigError(
            f"{folder}: holds the trials of the study {rows[0].get('study')!r}, not of {name!r}. Pass --study another "
            "folder, or the run file of that study."
        )
    _check_seal(folder, chains, seal)
    return rows[1:], chains


def _read_seal(folder: Path) -> str | None:
    try:
        return (folder / SEAL).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_seal(folder: Path, chains: list[str], seal: str | None) -> None:
    if seal is None:
        if len(chains) <= 1:
            return
        raise _altered(folder, f"{SEAL} is gone, so the end is")
    try:
        stated = json.loads(seal)
        lines, chain = int(stated["lines"]), stated["chain"]
    except (ValueError, KeyError, TypeError) as err:
        raise _altered(folder, f"{SEAL} cannot be read, so the end is") from err
    if len(chains) < lines or chains[lines - 1] != chain:
        raise _altered(folder, f"it has {len(chains)} lines where {lines} were sealed, so it is")


def _altered(folder: Path, what: str) -> ManifestError:
    return ManifestError(
        f"{folder / REGISTRY}: {what} not as it was written, and the trials can no longer be counted. Put the folder "
        "back as it was."
    )


def _to_trials(rows: list[dict[str, Any]]) -> pd.DataFrame:
    if not rows:
        return TRIALS.empty()
    table = pd.DataFrame(rows)
    table["first"] = pd.to_datetime(table["first"], utc=True).astype(TRIALS.columns["first"])
    table["sharpe"] = table["sharpe"].astype("float64")
    return TRIALS.to_table(table)
