"""Tables of data among the lines of a strategy file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

LONGEST_TEXT = 500  # characters of one constant; more is data
MOST_IN_A_ROW = 100  # constants in one list, set or dict
MOST_NUMBERS = 200  # in the whole file
MOST_TEXT = 5000  # characters of all constants
MOST_DIGITS = 20  # of a number
MOST_KINDS = 40  # different texts that names of symbols are mapped to, as sectors; more is a table
LONGEST_NAME = 100  # characters of a name in the code
SYMBOL = re.compile(r"(?=.*[A-Z])(?!.*\d{5})[A-Z0-9][A-Z0-9.=^/-]{0,11}")


def find_data(nodes: list[ast.AST], symbols: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and words of each block of data: texts, tables, numbers and names that a rule has no need of."""
    told = {id(text) for text in _docstrings(nodes)}
    mapped = _list_mapped(nodes)
    told |= mapped
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
            size = _count_data(node, mapped, symbols)
            if size > MOST_IN_A_ROW:
                yield node.lineno, f"holds a table of {size:,} values, whose origin cannot be cut"
    for node in nodes:
        for name in (getattr(node, part, None) for part in ("id", "name", "attr", "arg")):
            if isinstance(name, str) and len(name) > LONGEST_NAME:
                yield getattr(node, "lineno", 1), f"holds a name of {len(name):,} characters, which is data"
    for line, value in numbers:
        if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
            yield line, "holds a number so long that it is data, whose origin cannot be cut"
    if len(numbers) > MOST_NUMBERS:
        yield 1, f"holds {len(numbers):,} numbers, whose origin cannot be cut"
    characters = sum(length for _, length in texts)
    if characters > MOST_TEXT:
        yield 1, f"holds {characters:,} characters in constants, whose origin cannot be cut"


def _list_mapped(nodes: list[ast.AST]) -> set[int]:
    """Constants that say of symbols what they are: names like theirs as keys, and the few texts they are mapped to.

    Who maps names to sectors or venues holds no answers; a name with digits like a date is none, and many different
    texts, or numbers, count.
    """
    found: set[int] = set()
    for node in nodes:
        if not isinstance(node, ast.Dict):
            continue
        pairs = [
            (key, value)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(key.value, str) and SYMBOL.fullmatch(key.value)
        ]
        found |= {id(key) for key, _ in pairs}
        kinds = [value for _, value in pairs if isinstance(value, ast.Constant) and isinstance(value.value, str)]
        if len({kind.value for kind in kinds}) <= MOST_KINDS:
            found |= {id(value) for value in kinds}
    return found


def _count_data(table: ast.AST, mapped: set[int], symbols: frozenset[str]) -> int:
    """The constants in a list, set or dict, but for what symbols are said to be and the run's symbols, each once."""
    constants = [part for part in ast.walk(table) if isinstance(part, ast.Constant) and id(part) not in mapped]
    return len(constants) - len({part.value for part in constants} & symbols)


def _docstrings(nodes: list[ast.AST]) -> Iterator[ast.Constant]:
    for node in nodes:
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value
