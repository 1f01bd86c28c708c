"""The strategy of a run, loaded afresh for each question and watched while it answers."""

from __future__ import annotations

import ast
import builtins
import contextvars
import functools
import operator
import site
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.typing import DataFrameGroupBy, Expanding, Rolling, SeriesGroupBy

from finsignal.config import ALWAYS, RunFile, to_parameters
from finsignal.errors import TableError
from finsignal.signals import Strategy, make_signals

CODE = (".py", ".pyc")
READS_CODE = ("<frozen importlib", "<frozen zipimport", "linecache.py", "tokenize.py")  # what they open is no data
PACKAGE = str(Path(__file__).parents[1])
SYSTEM = ("/usr/share/zoneinfo/", "/usr/lib/zoneinfo/", "/sys/devices/system/")
# What libraries look up about the machine; no one who is not its master writes there.
DEVICES = ("/dev/null", "/dev/urandom", "/etc/localtime", "/etc/timezone", "/proc/cpuinfo", "/proc/meminfo")
ROOTS = (sys.prefix, sys.base_prefix, site.getusersitepackages())
REACHES_OUT = {
    "socket.connect": "a connection to",
    "socket.getaddrinfo": "the address of",
    "socket.sendto": "a message to",
    "urllib.Request": "a request to",
    "sqlite3.connect": "the database",
    "subprocess.Popen": "the program",
    "os.system": "the program",
    "os.exec": "the program",
    "os.posix_spawn": "the program",
    "mmap.__new__": "memory mapped from file",
}
LOOKS_AROUND = {
    "sys._getframe": "the frames of whoever called it",
    "sys._current_frames": "the frames of all that runs",
    "gc.get_objects": "all objects in memory",
    "gc.get_referrers": "objects of others",
    "gc.get_referents": "objects of others",
    "sys.settrace": "the work of others",
    "sys.setprofile": "the work of others",
}


@dataclass
class _Watch:
    """What happened while a strategy was at work."""

    file: str = ""  # of the strategy at work; "" while none is
    busy: bool = False
    seen: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)

    def note(self, event: str, arguments: tuple[Any, ...], by: types.FrameType) -> None:
        """Keeps what an event of the interpreter says about the strategy; `by` raised it."""
        if event == "open" and not isinstance(arguments[0], int):
            path = str(Path(str(_to_text(arguments[0]))).absolute())
            if not _is_installed(path):
                name = by.f_code.co_filename
                imported = path.endswith(CODE) and (name.startswith(READS_CODE) or name.endswith(READS_CODE))
                (self.imported if imported else self.seen).append(path if imported else f"the file {path}")
        elif event in REACHES_OUT:
            found = arguments[1] if event == "socket.connect" else arguments[0] if arguments else ""
            self.seen.append(f"{REACHES_OUT[event]} {_to_text(found)!s:.80}")
        elif event in LOOKS_AROUND and _is_asked_by(self.file, by):
            self.seen.append(LOOKS_AROUND[event])


def _make_watching() -> Callable[[str], AbstractContextManager[_Watch]]:
    """Watches what happens within a `with`. What it keeps is no name of the module, where a strategy could look."""
    now, installed = _Watch(), False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        watch = now
        if not watch.file or watch.busy:
            return
        watch.busy = True  # looking at the stack below raises an event of its own
        try:
            watch.note(event, arguments, sys._getframe(1))
        finally:
            watch.busy = False

    @contextmanager
    def watching(file: str) -> Iterator[_Watch]:
        nonlocal now, installed
        if not installed:  # it stays for good, as hooks of the interpreter do
            sys.addaudithook(hook)
            installed = True
        before, now = now, _Watch(file)
        try:
            yield now
        finally:
            now = before

    return watching


_watching = _make_watching()


def _to_text(value: object) -> object:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _is_installed(path: str) -> bool:
    """Whether it came with Python or an installed package, or tells of the machine: it does not know this run."""
    below = any(root not in ("/", "/usr") and path.startswith(f"{root}/") for root in ROOTS)
    library = path.startswith((f"{PACKAGE}/", f"{Path(ast.__file__).parent}/"))
    return below or library or path in DEVICES or path.startswith(SYSTEM)


def _is_asked_by(file: str, by: types.FrameType) -> bool:
    frame: types.FrameType | None = by
    while frame is not None and frame.f_code.co_filename.endswith("inspect.py"):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename == file


@dataclass
class Asker:
    """Loads a run's strategy and asks it, and keeps what it did meanwhile.

    opened: what it opened or looked at. imported: code beside its own file that it loaded. changed: code it replaced.
    What it replaced of finsignal, pandas, numpy or Python is put back, or no answer after it would count.
    """

    run: RunFile
    opened: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    _code: _Code | None = None

    @property
    def file(self) -> Path:
        """The strategy's file."""
        return self.run.path.parent / self.run.strategy

    def load(self) -> Strategy:
        """The strategy, loaded afresh: what it remembered is gone."""
        with self._guarded():
            function = _apart(self.run.load_strategy)

        @functools.wraps(function)
        def asked(rows: pd.DataFrame, **values: float) -> pd.DataFrame:
            with self._guarded():
                answer = _apart(function, rows, **values)
                if isinstance(answer, pd.DataFrame) and type(answer) is not pd.DataFrame:
                    # Methods of its own would run later, while nobody looks.
                    self.changed.append(f"the class of its answer ({type(answer).__name__})")
                    answer = pd.DataFrame({name: answer[name].array for name in answer.columns}, index=answer.index)
                return answer

        return asked

    def ask(
        self, features: pd.DataFrame, values: Mapping[str, float], strategy: Strategy | None = None
    ) -> pd.DataFrame:
        """SIGNALS of the features by these parameters, by the strategy loaded afresh where none is given."""
        parameters = to_parameters(values, known=ALWAYS)
        return make_signals(features, strategy=strategy or self.load(), parameters=parameters)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._code is None or not self._code.holds():
            self._code = _take_code()
        code, threads = self._code, set(threading.enumerate())
        with _watching(str(self.file)) as watch:
            try:
                yield
            except SystemExit as err:
                # It would end the check as if nothing had been found.
                watch.seen.append("the way out of whoever asked it")
                raise TableError("strategy: it ended the program that asked it; a question has an answer.") from err
            finally:
                if set(threading.enumerate()) - threads:
                    watch.seen.append("a thread that goes on after its answer")
                self.opened += [found for found in watch.seen if found not in self.opened]
                own = {str(self.file.absolute()), str(Path(cache_from_source(str(self.file.absolute()))))}
                self.imported += [name for name in watch.imported if name not in self.imported and name not in own]
                self.changed += [name for name in code.put_back() if name not in self.changed]


def _apart(function: Callable[..., Any], *values: Any, **named: Any) -> Any:
    """What the function gives, called where no frame above it holds the tables of whoever asks."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(contextvars.copy_context().run, function, *values, **named).result()


@dataclass
class _Code:
    """The names of the packages that an account is made with, and the code of their functions, as they stand."""

    modules: dict[str, types.ModuleType]
    names: list[tuple[str, Any, dict[str, Any]]]
    functions: list[tuple[str, types.FunctionType, types.CodeType]]

    def holds(self) -> bool:
        """Whether all is still as it was taken."""
        same = sum(map(_is_ours, sys.modules)) == len(self.modules)
        same = same and all(sys.modules.get(name) is module for name, module in self.modules.items())
        same = same and all(_are_same(vars(owner), before) for _, owner, before in self.names)
        return same and all(function.__code__ is code for _, function, code in self.functions)

    def put_back(self) -> list[str]:
        """What is another by now, or new, by name; each is again what it was."""
        changed = [name for name, module in self.modules.items() if sys.modules.get(name) is not module]
        sys.modules.update({name: self.modules[name] for name in changed})
        for name in [name for name in sys.modules if _is_ours(name) and name not in self.modules]:
            # Loaded by the strategy, it may hold what the strategy put there; whoever needs it loads it afresh.
            sys.modules.pop(name)
            parent, _, last = name.rpartition(".")
            if parent in self.modules:
                vars(self.modules[parent]).pop(last, None)
        for name, owner, before in self.names:
            now = vars(owner)
            if _are_same(now, before):
                continue
            for key in [key for key, value in before.items() if now.get(key) is not value]:
                changed.append(f"{name}.{key}")
                setattr(owner, key, before[key])
            # What a class inherits is hidden, not replaced, by a name of its own.
            for key in [key for key in now if key not in before and not _is_late(owner, key)]:
                changed.append(f"{name}.{key}")
                delattr(owner, key)
        for name, function, code in self.functions:
            if function.__code__ is not code:
                changed.append(name)
                function.__code__ = code
        return changed


def _are_same(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return len(now) == len(before) and all(map(operator.is_, now.values(), before.values()))


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "finsignal"


def _is_late(owner: Any, key: str) -> bool:
    """Whether a name may be new without harm: a module loaded late, an accessor that a package adds, Python's notes."""
    added = isinstance(vars(owner)[key], types.ModuleType) or key in getattr(owner, "_accessors", ())
    return added or key in ("__annotations__", "__warningregistry__")


def _take_code() -> _Code:
    modules = {name: sys.modules[name] for name in list(sys.modules) if _is_ours(name)}
    tables = (pd.DataFrame, pd.Series, pd.Index, pd.DatetimeIndex, DataFrameGroupBy, SeriesGroupBy, Rolling, Expanding)
    classes = {kind.__name__: kind for table in tables for kind in table.__mro__ if kind is not object}
    around: dict[str, Any] = {
        "numpy": np,
        "numpy.random": np.random,
        "numpy.linalg": np.linalg,
        "pandas": pd,
        **classes,
    }
    around["builtins"] = builtins
    names = [(name, owner, dict(vars(owner))) for name, owner in {**modules, **around}.items()]
    for module, _, held in names[: len(modules)]:
        own = [(key, value) for key, value in held.items() if isinstance(value, type)]
        names += [(f"{module}.{key}", kind, dict(vars(kind))) for key, kind in own if kind.__module__ == module]
    functions = [
        (f"{name}.{key}", value, value.__code__)
        for name, _, held in names
        for key, value in held.items()
        if isinstance(value, types.FunctionType)
    ]
    return _Code(modules, names, functions)
