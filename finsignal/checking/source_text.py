"""What the text of a strategy file gives away: ways past its rows, and tables of data among its lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from finsignal.checking.findings import Finding, Part

TEXT = "the strategy's text"
END = "end"  # the kind of a finding after which a strategy had better not be asked
LONGEST_TEXT = 500  # characters of one constant; more is data
MOST_IN_A_ROW = 100  # constants in one list, set or dict
MOST_NUMBERS = 200  # in the whole file
MOST_TEXT = 5000  # characters of all constants
MOST_DIGITS = 20  # of a number
PAST_ITS_ROWS = {
    **dict.fromkeys(("gc", "inspect", "builtins", "importlib", "ctypes", "cffi", "linecache"), "whoever calls it"),
    **dict.fromkeys(("socket", "urllib", "http", "requests", "httpx", "aiohttp", "yfinance", "ccxt"), "the net"),
    **dict.fromkeys(("duckdb", "mmap", "h5py", "fsspec", "subprocess"), "what no hook sees"),
}
HARMLESS = ("float_info", "maxsize", "version_info", "stdout", "stderr")  # of sys
RUNS_TEXT = ("eval", "exec", "compile", "__import__", "globals", "breakpoint")
KILLS = ("_exit", "abort", "kill", "killpg", "raise_signal", "_exithandlers")  # of os and signal: no one can catch it
INSIDE = (
    *("__globals__", "__builtins__", "__subclasses__", "__code__", "__closure__", "__loader__", "__spec__"),
    *("__traceback__", "f_locals", "f_globals", "f_back", "gi_frame", "cr_frame", "tb_frame", "_getframe"),
    *("_current_frames", "__doc__", "__file__", "environ", "getenv", "argv"),
)
CLOCK = {
    "time": ("time", "time_ns", "perf_counter", "monotonic", "localtime", "gmtime", "process_time"),
    **dict.fromkeys(("datetime", "date", "Timestamp"), ("now", "utcnow", "today")),
}
# With these a file can be read past the interpreter, as Arrow and others do.
READS = ("open", "load", "fromfile", "loadtxt", "genfromtxt", "memmap", "memory_map", "OSFile", "open_file", "urlopen")


def check_text(path: Path) -> Part:
    """One part: what the strategy file says that a function of its rows needs not say.

    Fails for modules and names by which code reaches past the rows it is given or ends the process, calls that read the
    clock or a file, and blocks of data: one constant of more than 500 characters, a list of more than 100
    constants, more than 200 numbers. What it opens while it runs is watched elsewhere. Text that is no Python is left
    to the loader, which refuses it.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as err:
        return Part(TEXT, "could not be checked", 0, f"{path.name}: {err}.")
    nodes = list(_walk(tree))
    ends = set(_find_ends(nodes))
    found = {*ends, *_find_reaching(nodes), *_find_sys(nodes), *_find_clock(nodes), *_find_data(nodes)}
    findings = [
        Finding(END if place in ends else "text", "check", "", "", None, f"{path.name} line {place[0]}: {place[1]}.")
        for place in sorted(found)
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
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _find_imports(node)
        if isinstance(node, ast.Name) and node.id in RUNS_TEXT:
            yield node.lineno, f"uses {node.id}, by which it may do what its text does not say"
        if isinstance(node, ast.Attribute) and node.attr in INSIDE:
            yield node.lineno, f"uses {node.attr}, by which it reaches past its rows"
        if isinstance(node, ast.Constant) and node.value in INSIDE:
            yield node.lineno, f"names {node.value}, by which it reaches past its rows"
        if isinstance(node, ast.Call):
            yield from _find_calls(node)


def _find_ends(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    for node in nodes:
        named = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        named += [node.attr] if isinstance(node, ast.Attribute) else []
        named += [str(node.value)] if isinstance(node, ast.Constant) else []
        for name in named:
            if name in KILLS:
                yield node.lineno, f"uses {name}, by which it may end whoever asks it"  # type: ignore[attr-defined]


def _find_imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[int, str]]:
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    names = [module] if module else [alias.name for alias in node.names]
    for name in names:
        top = name.split(".")[0]
        if top in PAST_ITS_ROWS:
            yield node.lineno, f"imports {name}, by which it reaches {PAST_ITS_ROWS[top]}"
    if module == "sys":
        for alias in node.names:
            if alias.name not in HARMLESS:
                yield node.lineno, f"imports sys.{alias.name}, by which it reaches past its rows"


def _find_calls(node: ast.Call) -> Iterator[tuple[int, str]]:
    called = node.func
    if isinstance(called, ast.Name) and called.id in ("getattr", "setattr") and len(node.args) > 1:
        if not isinstance(node.args[1], ast.Constant):
            yield node.lineno, f"calls {called.id} with a name that it makes up"
    name = called.attr if isinstance(called, ast.Attribute) else ""
    if isinstance(called, ast.Name) and called.id == "open":
        name = "open"
    if name in READS or name.startswith(("read_", "scan_")):
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


def _find_data(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    told = {id(text) for text in _docstrings(nodes)}
    constants = [(n.lineno, n.value) for n in nodes if isinstance(n, ast.Constant) and id(n) not in told]
    texts = [(line, len(value)) for line, value in constants if isinstance(value, str | bytes)]
    numbers = [
        (line, value) for line, value in constants if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    for line, length in texts:
        if length > LONGEST_TEXT:
            yield line, f"holds a block of {length:,} characters, whose origin cannot be cut"
    for node in nodes:
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            size = sum(isinstance(part, ast.Constant) for part in ast.walk(node))
            if size > MOST_IN_A_ROW:
                yield node.lineno, f"holds a table of {size:,} values, whose origin cannot be cut"
    for line, value in numbers:
        if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
            yield line, "holds a number so long that it is data, whose origin cannot be cut"
    if len(numbers) > MOST_NUMBERS:
        yield 1, f"holds {len(numbers):,} numbers, whose origin cannot be cut"
    characters = sum(length for _, length in texts)
    if characters > MOST_TEXT:
        yield 1, f"holds {characters:,} characters in constants, whose origin cannot be cut"


def _docstrings(nodes: list[ast.AST]) -> Iterator[ast.Constant]:
    for node in nodes:
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value
