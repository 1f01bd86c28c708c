"""What a run folder was made of, so that it can be made again: settings, code, data, model and packages by digest."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.config import RunFile, to_dataclass
from finsignal.errors import ManifestError, TableError
from finsignal.sentiment.score import DEFAULT, Model
from finsignal.sources.files import longest_silences
from finsignal.study.inputs import Inputs
from finsignal.tables import to_integers

PACKAGE = Path(__file__).parents[1]
MANIFEST = "manifest.json"
FORMAT = 1
RUN_FOLDER_MARK = "summary.json"  # the file by which a folder shows to be one that a study wrote
LONGEST = 3  # stretches named of each symbol's gaps
PACKAGES = (  # whose versions decide a figure or a byte of the report
    *("numpy", "pandas", "pyarrow", "scipy", "numba", "vectorbt", "vectorbt-rust", "onnxruntime", "tokenizers"),
    *("exchange-calendars", "tzdata", "plotly", "arch", "statsmodels"),
)
RANDOM = "Every draw of the study has a fixed seed. A strategy file that draws its own must fix its seed itself."


@dataclass(frozen=True)
class Request:
    """All that a study was asked: with the same files, code and packages it gives the same run folder, bit by bit.

    now: the instant at which the files are read. model: a model folder, None for the model that ships. sentiment: a
    file of scores of one's own, None for the model's alone. evidence: whether the questions of evidence are asked too.
    """

    run: RunFile
    now: pd.Timestamp
    model: Path | None = None
    sentiment: Path | None = None
    evidence: bool = False

    def to_settings(self) -> dict[str, Any]:
        """Plain values for JSON from which `to_request` makes the same request, in whatever working folder."""
        run = {**self.run.to_settings(), "path": str(self.run.path.absolute()), "latency": self.run.latency}
        model, sentiment = (None if path is None else str(path.absolute()) for path in (self.model, self.sentiment))
        return {
            "run": run,
            "now": self.now.isoformat(),
            "model": model,
            "sentiment": sentiment,
            "evidence": self.evidence,
        }

    def find_files(self) -> list[Path]:
        """The files that it names, absolute: run file, strategies, prices, news and scores; not those of the model."""
        run = self.run
        prices = [name.partition("=")[2] if "=" in name else name for name in run.prices_path]
        named = [name for name in (run.strategy, run.baseline, *prices, run.news_path) if name]
        paths = [run.path, *(run.path.parent / name for name in named)]
        return [path.absolute() for path in (*paths, *([self.sentiment] if self.sentiment else []))]


def to_request(settings: Mapping[str, Any]) -> Request:
    """The request of which `settings` are the plain values. Raises ConfigError for a run that cannot be meant."""
    values = {**settings["run"], "path": Path(settings["run"]["path"])}
    model, sentiment = (None if settings[key] is None else Path(settings[key]) for key in ("model", "sentiment"))
    run = to_dataclass(RunFile, values, where=str(values["path"]))
    now = pd.Timestamp(settings["now"]).as_unit("us")
    return Request(run, now, model, sentiment, evidence=bool(settings.get("evidence", False)))


def make_manifest(
    run: RunFile,
    inputs: Inputs,
    sentiments: Mapping[str, pd.DataFrame],
    models: Mapping[str, Model],
    *,
    request: Request | None,
    files: Mapping[str, str | None],
) -> dict[str, Any]:
    """What a study is made of, for JSON; `write_manifest` adds what came out.

    Without a `request` the study got its tables in Python: they stand here by digest, but nothing can read them again.
    `files` are the digests of the files that the request names, taken before they were read. The working tree's commit
    and the processor are told, not compared; all else is.
    """
    parts = {part.name: getattr(inputs, part.name) for part in dataclasses.fields(inputs)}
    tables = {name: part for name, part in parts.items() if isinstance(part, pd.DataFrame)}
    return {
        "format": FORMAT,
        "settings": {"run": run.to_settings()} if request is None else request.to_settings(),
        "repeatable": request is not None,
        "code": {"version": find_version(), **digest_code(), "commit": _find_commit()},
        "packages": find_packages(),
        "platform": find_platform(),
        "data": {
            "files": dict(files),
            "tables": {name: digest_of_table(table) for name, table in tables.items()},
            "sentiment": {name: digest_of_table(table) for name, table in sentiments.items()},
        },
        "models": {name: digest_model(model) for name, model in models.items()},
        "seeds": {},
        "random": RANDOM,
        "gaps": find_gaps(run, inputs),
    }


def write_manifest(manifest: Mapping[str, Any], folder: Path) -> None:
    """manifest.json of a folder that holds everything else already: each of its files by digest, and its own."""
    found = {path.name: digest_of_file(path) for path in sorted(folder.iterdir())}
    content = {**manifest, "files": found}
    content["sha256"] = _digest_of_json(content)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder. Raises ManifestError for another folder, an older one, and an altered manifest."""
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such run folder.")
    if not (folder / RUN_FOLDER_MARK).is_file() and not (folder / MANIFEST).is_file():
        raise ManifestError(f"{folder}: is no run folder; it holds no {RUN_FOLDER_MARK}. Pass one that backtest wrote.")
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ManifestError(
            f"{folder}: has no {MANIFEST}; finsignal wrote none when this run was made, so nothing says what it was "
            "made of. Run the backtest again."
        ) from err
    except (OSError, ValueError) as err:
        raise ManifestError(f"{folder}: {MANIFEST} cannot be read ({err}). Run the backtest again.") from err
    stated = content.pop("sha256", None) if isinstance(content, dict) else None
    if stated is None or stated != _digest_of_json(content):
        raise ManifestError(f"{folder}: {MANIFEST} of the folder was altered, so it proves nothing. Run it again.")
    if content["format"] != FORMAT:
        raise ManifestError(f"{folder}: {MANIFEST} has format {content['format']}; this version reads {FORMAT}.")
    return content


def digest_files(request: Request) -> dict[str, str | None]:
    """SHA-256 of every file that the request names, by its path; None where it is not there."""
    return {str(path): digest_of_bytes(path) for path in request.find_files()}


def digest_of_bytes(path: Path) -> str | None:
    """SHA-256 of a file, 64 hex digits; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def digest_of_file(path: Path) -> str | None:
    """The digest of a file of a run folder: a Parquet table by its content, any other by its bytes; None unreadable."""
    import pyarrow.parquet

    if path.suffix != ".parquet":
        return digest_of_bytes(path)
    try:
        return _digest_of_arrow(pyarrow.parquet.read_table(path, partitioning=None))
    except (OSError, ValueError):  # what pyarrow raises for a file that is no Parquet is a ValueError
        return None


def digest_of_table(frame: pd.DataFrame) -> str:
    """SHA-256, 64 hex digits, of column names, types and values in their order; the index does not count.

    The same in every process and on both sides of a Parquet file: how a file is packed does not matter. NaN, NaT and
    None are the same nothing; 0.0 and -0.0 differ. Raises TableError for values that no column of one type can hold.
    """
    import pyarrow

    try:
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as err:
        raise TableError(f"digest: a column holds values of several types ({err}).") from err
    return _digest_of_arrow(table)


def _digest_of_arrow(table: Any) -> str:
    import pyarrow
    from pyarrow import compute, types

    whole = hashlib.sha256(f"{table.num_rows}".encode())
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if types.is_dictionary(kind):
            column = column.cast(kind.value_type)
            kind = kind.value_type
        is_text = types.is_string(kind) or types.is_large_string(kind)
        whole.update(f"\n{json.dumps(name)} {'text' if is_text else kind}\n".encode())
        if types.is_null(kind):
            continue
        if column.null_count:
            whole.update(np.packbits(column.is_null().to_numpy()).tobytes())
        if is_text:
            column = column.cast(pyarrow.large_string()).fill_null("")
            whole.update(compute.binary_length(column).to_numpy().astype("<i8").tobytes())
            for chunk in column.chunks:
                ends = np.frombuffer(chunk.buffers()[1], dtype=np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
                if len(chunk):
                    whole.update(memoryview(chunk.buffers()[2] or b"")[ends[0] : ends[-1]])
        elif types.is_boolean(kind):
            whole.update(column.cast(pyarrow.uint8()).fill_null(0).to_numpy().tobytes())
        elif types.is_primitive(kind):
            if types.is_temporal(kind):
                column = column.cast(pyarrow.int32() if kind.bit_width == 32 else pyarrow.int64())
            whole.update(column.fill_null(0).to_numpy().tobytes())
        else:
            raise TableError(f"digest: column {name!r} is {kind}; expected numbers, instants, text or truth values.")
    return whole.hexdigest()


def digest_model(model: Model) -> dict[str, Any]:
    """Name and digest of a model, the digest of its whole card, and its files as the card lists them."""
    card = model.card
    files = dict(card.get("files", {}))
    return {"name": model.name, "digest": model.digest, "card": _digest_of_json(card), "files": files}


@functools.cache  # once a process: code changed on disk later is not the code that runs
def digest_code() -> dict[str, Any]:
    """The SHA-256 of finsignal's own files but for the model, which has a digest of its own: of all, and of each."""
    paths = sorted(path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    own = [path for path in paths if DEFAULT not in path.parents]
    files = {path.relative_to(PACKAGE).as_posix(): digest_of_bytes(path) for path in own}
    return {"sha256": _digest_of_json(files), "files": files}


def find_version() -> str:
    """The version that finsignal states of itself."""
    return str(sys.modules["finsignal"].__version__)


def find_packages() -> dict[str, str | None]:
    """The versions of Python and of the packages that decide a result; None for one that is not installed."""
    return {"python": platform.python_version(), **{name: _find_release(name) for name in PACKAGES}}


def find_platform() -> dict[str, str]:
    """System, kind of machine, and the processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {"system": platform.system(), "machine": platform.machine(), "processor": cpu or platform.processor()}


def find_gaps(run: RunFile, inputs: Inputs) -> dict[str, Any]:
    """What the data lacks: bars of the grid without a price, and the longest silences of the news, per symbol."""
    opens, bars = to_integers(inputs.bars["open_time"]), {}
    for symbol in run.symbols:
        there = np.isin(opens, to_integers(inputs.prices.loc[inputs.prices["symbol"] == symbol, "open_time"]))
        edges = np.flatnonzero(np.diff(there, prepend=True, append=True)).reshape(-1, 2)  # [first, behind the last)
        longest = edges[np.argsort(edges[:, 0] - edges[:, 1], kind="stable")][:LONGEST].tolist()
        bars[symbol] = {
            "missing": int((~there).sum()),
            "longest": [
                {
                    "start": inputs.bars["open_time"].iloc[first].isoformat(),
                    "end": inputs.bars["close_time"].iloc[behind - 1].isoformat(),
                    "bars": behind - first,
                }
                for first, behind in longest
            ],
        }
    silences = longest_silences(inputs.news, inputs.bars, symbols=run.symbols, top=LONGEST)
    rows = [
        {"symbol": row.symbol, "start": row.start.isoformat(), "end": row.end.isoformat()}
        for row in silences.itertuples()
    ]
    return {"bars": bars, "silences": rows}


def _digest_of_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _find_release(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _find_commit() -> str | None:
    """The commit of the working tree that the package lies in; None where it is installed elsewhere."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
