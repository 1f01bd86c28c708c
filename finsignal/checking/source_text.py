"""What the text of a strategy file gives away: ways past its rows, and data among its lines."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from finsignal.checking.findings import Finding, Part
from finsignal.checking.text_data import find_data

TEXT = "the strategy's text"
END = "end"  # the kind of a finding after which a strategy had better not be asked
DATA = "data"  # the kind of a block of data
PAST_ITS_ROWS = {
    **dict.fromkeys(("gc", "inspect", "builtins", "importlib", "ctypes", "cffi", "linecache"), "whoever calls it"),
    **dict.fromkeys(("socket", "urllib", "http", "requests", "httpx", "aiohttp", "yfinance", "ccxt"), "the net"),
    **dict.fromkeys(("duckdb", "mmap", "h5py", "fsspec", "subprocess"), "what no hook sees"),
}
HARMLESS = ("float_info", "maxsize", "version_info", "stdout", "stderr")  # of sys
RUNS_TEXT = ("eval", "exec", "compile", "__import__", "globals", "breakpoint")
BY_NAME = ("getattr", "setattr", "attrgetter", "methodcaller")  # reach what a text names
PUBLIC = ("finsignal", "finsignal.signals", "finsignal.errors", "finsignal.tables", "finsignal.metrics")
KILLS = ("_exit", "abort", "kill", "killpg", "raise_signal", "_exithandlers")  # of os and signal: no one can catch it
INSIDE = (
    *("__globals__", "__builtins__", "__subclasses__", "__code__", "__closure__", "__loader__", "__spec__"),
    *("__traceback__", "f_locals", "f_globals", "f_back", "gi_frame", "cr_frame", "tb_frame", "_getframe"),
    *("_current_frames", "__doc__", "__file__", "environ", "environb", "getenv", "argv"),
    *("__getattribute__", "_instances"),
)
CLOCK = {
    "time": ("time", "time_ns", "perf_counter", "monotonic", "localtime", "gmtime", "process_time"),
    **dict.fromkeys(("datetime", "date", "Timestamp"), ("now", "utcnow", "today")),
}
# With these a file can be read past the interpreter, as Arrow and others do.
READS = ("open", "load", "fromfile", "loadtxt", "genfromtxt", "memmap", "memory_map", "OSFile", "open_file", "urlopen")


def check_text(path: Path, symbols: Collection[str] = ()) -> Part:
    """One part: what the strategy file says that a function of its rows needs not say.

    Fails for modules and names by which code reaches past the rows it is given or ends the process, calls that read the
    clock or a file, and blocks of data: one constant of more than 500 characters, a list of more than 100
    constants, more than 200 numbers. The run's symbols, and names like theirs that are mapped to a few texts, are no
    data. What it opens while it runs is watched elsewhere. Text that is no Python is left to the loader, which
    refuses it.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as err:
        return Part(TEXT, "could not be checked", 0, f"{path.name}: {err}.")
    nodes = list(_walk(tree))
    ends = set(_find_ends(nodes))
    found = {*ends, *_find_reaching(nodes), *_find_inner(nodes), *_find_sys(nodes), *_find_clock(nodes)}
    data = set(find_data(nodes, frozenset(symbols)))
    kinds = {**dict.fromkeys(found, "text"), **dict.fromkeys(data, DATA), **dict.fromkeys(ends, END)}
    findings = [
        Finding(kinds[place], "check", "", "", None, f"{path.name} line {place[0]}: {place[1]}.")
        for place in sorted(kinds)
    ]
    state = "failed" if findings else "passed"
    said = findings[0].said if findings else f"{len(nodes):,} parts of {path.name} read; it asks for its rows alone"
    return Part(TEXT, state, len(nodes), said, tuple(findings))  # type: ignore[arg-type]


def _walk(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node, but for what runs only where the file is started as a program, which a check never does."""
    named = any(
        isinstance(n, ast.Name) and n.id == "__name__" and not isinstance(n.ctx, ast.Load) for n in ast.walk(tree)
    )
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        is_main = isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'" and not named
        waiting += node.orelse if is_main else ast.iter_child_nodes(node)  # type: ignore[attr-defined]


def _find_reaching(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    outer, own = _list_imported(nodes), _list_own(nodes)
    by_name = {name for name, of in outer.items() if of.split(".")[-1] in BY_NAME} | set(BY_NAME)
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _find_imports(node)
        if isinstance(node, ast.Name) and node.id in RUNS_TEXT:
            yield node.lineno, f"uses {node.id}, by which it may do what its text does not say"
        if isinstance(node, ast.Name) and node.id == "open" and "open" not in own:
            yield node.lineno, "reads data by open(), whose origin cannot be cut"
        if isinstance(node, ast.Attribute) and node.attr in INSIDE:
            yield node.lineno, f"uses {node.attr}, by which it reaches past its rows"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for name in set(node.value.split(".")) & set(INSIDE):
                yield node.lineno, f"names {name}, by which it reaches past its rows"
        if isinstance(node, ast.Subscript) and _is_names(node.value) and not isinstance(node.slice, ast.Constant):
            yield node.lineno, f"takes from {ast.unparse(node.value)} by a name that it makes up"
        if isinstance(node, ast.Call):
            called = node.func
            last = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            named = node.args[1:] if last in ("getattr", "setattr") else node.args
            if last in by_name and named and not isinstance(named[0], ast.Constant):
                yield node.lineno, f"calls {last} with a name that it makes up"
            yield from _find_calls(node, outer, own)


def _list_imported(nodes: list[ast.AST]) -> dict[str, str]:
    """Names in the file that an import gave, and what each stands for."""
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {
                alias.asname or alias.name.split(".")[0]: alias.name if alias.asname else alias.name.split(".")[0]
                for alias in node.names
            }
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def _list_own(nodes: list[ast.AST]) -> set[str]:
    """Names of functions, methods, variables and attributes that the file itself makes."""
    found = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    for node in nodes:
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.attr if isinstance(node, ast.Attribute) else node.id)
        if isinstance(node, ast.arg):
            found.add(node.arg)
    return found


def _is_of(node: ast.expr, imported: Collection[str]) -> bool:
    """Whether an expression such as a.b.c begins with a name that an import gave."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in imported


def _is_names(node: ast.expr) -> bool:
    """Whether an expression is the names that an object holds: vars(x), x.__dict__."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "vars"
    return isinstance(node, ast.Attribute) and node.attr == "__dict__"


def _find_ends(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    outer, own = _list_imported(nodes), _list_own(nodes)
    for node in nodes:
        named: list[object] = []
        if isinstance(node, ast.ImportFrom):
            named = [alias.name for alias in node.names]
        if isinstance(node, ast.Attribute) and (node.attr not in own or _is_of(node.value, outer)):
            named = [node.attr]
        if isinstance(node, ast.Call):  # a text is a name only where something is reached by it
            called = node.func
            last = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if last in BY_NAME or outer.get(last, "").split(".")[-1] in BY_NAME:
                named = [part.value for part in node.args if isinstance(part, ast.Constant)]
        if isinstance(node, ast.Subscript) and _is_names(node.value) and isinstance(node.slice, ast.Constant):
            named = [node.slice.value]
        for name in {part for text in named for part in str(text).split(".")} & set(KILLS):
            yield node.lineno, f"uses {name}, by which it may end whoever asks it"  # type: ignore[attr-defined]


def _find_imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[int, str]]:
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    names = [module] if module else [alias.name for alias in node.names]
    for name in names:
        top = name.split(".")[0]
        if top in PAST_ITS_ROWS:
            yield node.lineno, f"imports {name}, by which it reaches {PAST_ITS_ROWS[top]}"
    for alias in node.names if isinstance(node, ast.ImportFrom) else []:
        if module == "sys" and alias.name not in HARMLESS:
            yield node.lineno, f"imports sys.{alias.name}, by which it reaches past its rows"
        if alias.name in INSIDE:
            yield node.lineno, f"imports {alias.name}, by which it reaches past its rows"
        if alias.name in READS or alias.name.startswith(("read_", "scan_")):
            yield node.lineno, f"imports {alias.name}, which reads data, whose origin cannot be cut"


def _find_inner(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    """What is taken of finsignal beside its public names: there the tables of whoever asks may be found."""
    said, public = "by which it reaches whoever calls it", sys.modules["finsignal"].__all__
    whole = {name for name, of in _list_imported(nodes).items() if of == "finsignal"}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("finsignal.") and alias.name not in PUBLIC:
                    yield node.lineno, f"imports {alias.name}, {said}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "finsignal":
            for alias in node.names:
                inner = node.module == "finsignal" and alias.name not in public
                if node.module not in PUBLIC or (inner and f"finsignal.{alias.name}" not in PUBLIC):
                    yield node.lineno, f"imports {node.module}.{alias.name}, {said}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in whole:
            name = f"finsignal.{node.attr}"
            if node.attr not in public and name not in PUBLIC and node.attr != "__version__":
                yield node.lineno, f"uses {name}, {said}"


def _find_calls(node: ast.Call, outer: Collection[str], own: Collection[str]) -> Iterator[tuple[int, str]]:
    called = node.func
    if not isinstance(called, ast.Attribute) or (called.attr in own and not _is_of(called.value, outer)):
        return
    if called.attr in READS or called.attr.startswith(("read_", "scan_")):
        yield node.lineno, f"reads data by {ast.unparse(called)}(), whose origin cannot be cut"


def _find_sys(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    called = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "sys"
    }
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in called:
            if node.attr not in HARMLESS:
                yield node.lineno, f"uses sys.{node.attr}, by which it reaches past its rows"


def _find_clock(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    from_time = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name in CLOCK["time"]
    }
    modules = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "time"
    }
    for node in nodes:
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in from_time:
            yield called.lineno, f"reads the clock by {called.id}()"
        if isinstance(called, ast.Attribute):
            owner = called.value
            last = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            last = "time" if last in modules else "" if last == "time" else last
            if called.attr in CLOCK.get(last, ()):
                yield called.lineno, f"reads the clock by {ast.unparse(called)}()"
