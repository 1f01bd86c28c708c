"""What the text of a strategy file gives away: ways past its rows, and tables of data among its lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from finsignal.checking.findings import Finding, Part

TEXT = "the strategy's text"
LONGEST_TEXT = 500  # characters of one constant; more is data
MOST_IN_A_ROW = 100  # constants in one list, set or dict
MOST_NUMBERS = 200  # in the whole file
PAST_ITS_ROWS = {
    **dict.fromkeys(("sys", "gc", "inspect", "builtins", "importlib", "ctypes", "cffi", "traceback"), "its callers"),
    **dict.fromkeys(("subprocess", "multiprocessing", "threading", "concurrent", "asyncio", "signal"), "other work"),
    **dict.fromkeys(("socket", "ssl", "urllib", "http", "requests", "httpx", "aiohttp", "yfinance", "ccxt"), "the net"),
    # They open files in a way that no hook of the interpreter sees.
    **dict.fromkeys(("pyarrow", "polars", "duckdb", "mmap", "h5py", "tables", "fsspec"), "files, unseen"),
}
RUNS_TEXT = ("eval", "exec", "compile", "__import__", "globals", "breakpoint")
INSIDE = (
    *("__globals__", "__builtins__", "__subclasses__", "__code__", "__closure__", "__loader__", "__spec__"),
    *("f_locals", "f_globals", "f_back", "gi_frame", "cr_frame", "tb_frame", "_getframe", "_current_frames"),
)
CLOCK = (
    "now",
    "utcnow",
    "today",
    "time",
    "time_ns",
    "perf_counter",
    "monotonic",
    "localtime",
    "gmtime",
    "process_time",
)
CLOCK_OWNERS = ("time", "datetime", "date", "Timestamp", "dt")


def check_text(path: Path) -> Part:
    """One part: what the strategy file says that a function of its rows needs not say.

    Fails for modules and names by which code reaches past the rows it is given, calls that read the clock, and blocks
    of data: one constant of more than 500 characters, a list of more than 100 constants, more than 200 numbers. What it
    opens while it runs is watched elsewhere. Text that is no Python is left to the loader, which refuses it.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as err:
        return Part(TEXT, "could not be checked", 0, f"{path.name}: {err}.")
    nodes = list(ast.walk(tree))
    findings = [
        Finding("text", "check", "", "", None, f"{path.name} line {line}: {said}.")
        for line, said in sorted({*_find_reaching(nodes), *_find_clock(nodes), *_find_data(tree, nodes)})
    ]
    state = "failed" if findings else "passed"
    said = findings[0].said if findings else f"{len(nodes):,} parts of {path.name} read; it asks for its rows alone"
    return Part(TEXT, state, len(nodes), said, tuple(findings))  # type: ignore[arg-type]


def _find_reaching(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            top = name.split(".")[0]
            if top in PAST_ITS_ROWS:
                yield node.lineno, f"imports {name}, by which it reaches {PAST_ITS_ROWS[top]}"  # type: ignore[attr-defined]
        if isinstance(node, ast.Name) and node.id in RUNS_TEXT:
            yield node.lineno, f"uses {node.id}, by which it may do what its text does not say"
        if isinstance(node, ast.Attribute) and node.attr in INSIDE:
            yield node.lineno, f"uses {node.attr}, by which it reaches its callers"
        if isinstance(node, ast.Constant) and node.value in INSIDE:
            yield node.lineno, f"names {node.value}, by which it reaches its callers"


def _find_clock(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    from_time = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name in CLOCK
    }
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in from_time:
            yield node.lineno, f"reads the clock by {called.id}()"
        if isinstance(called, ast.Attribute) and called.attr in CLOCK:
            owner = called.value
            last = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            if last in CLOCK_OWNERS and not (last == "dt" and isinstance(owner, ast.Attribute)):
                yield node.lineno, f"reads the clock by {last}.{called.attr}()"


def _find_data(tree: ast.Module, nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    told = {id(text) for text in _docstrings(nodes)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in told:
            if len(node.value) > LONGEST_TEXT:
                yield node.lineno, f"holds a block of {len(node.value):,} characters, whose origin cannot be cut"
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            size = sum(isinstance(part, ast.Constant) for part in ast.walk(node))
            if size > MOST_IN_A_ROW:
                yield node.lineno, f"holds a table of {size:,} values, whose origin cannot be cut"
    numbers = sum(
        isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)
        for node in nodes
    )
    if numbers > MOST_NUMBERS:
        yield 1, f"holds {numbers:,} numbers, whose origin cannot be cut"


def _docstrings(nodes: list[ast.AST]) -> Iterator[ast.Constant]:
    for node in nodes:
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value
