"""What an answer is made of: figures with their number of observations, curves and tables, as plain values for JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from finsignal.errors import TableError

UNITS = ("percent", "ratio", "count", "bars", "p", "cash", "correlation")


@dataclass(frozen=True)
class Figure:
    """One figure, or what it needs to be one.

    value, low and high are in `unit`, fractions for percent (0.01 is 1 %); low and high are the ends of the 95 %
    interval. p is the p-value of the test behind it. None where there is none. n counts the observations, each a `of`.
    needs is empty, or says what the figure wants and has not; then there is no value. draws counts the random worlds of
    a permutation or a bootstrap. source is the paper of the formula.
    """

    key: str  # unique within the answer, such as "sharpe"
    name: str  # for people
    unit: str  # one of UNITS
    n: int
    of: str  # what n counts, in the plural: "days", "stories", "trades"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    draws: int = 0
    needs: str = ""
    said: str = ""  # what it means, one plain sentence
    source: str = ""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise TableError(f"figure {self.key}: unit {self.unit!r} is not one of {list(UNITS)}.")
        for name in ("value", "low", "high", "p"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise TableError(f"figure {self.key}: {name} is {value}; say what it needs and leave it out.")
        if bool(self.needs) == (self.value is not None):
            raise TableError(
                f"figure {self.key}: expected a value, or what it needs; got {self.value}, {self.needs!r}."
            )


@dataclass(frozen=True)
class Curve:
    """One line to draw: y over x, both of the same length, with the ends of 95 % intervals where there are some.

    labels name the places of x where x is not a number ("1 minute"). n counts the observations behind each point. marks
    are values of x to mark with their name. kind is "line", "bars" or "histogram": of values whose own is marked.
    """

    key: str
    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    x_name: str
    y_name: str
    unit: str  # of y, one of UNITS
    kind: str = "line"
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    n: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    marks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows to show as they are: of each column a name and a unit ("" for text)."""

    key: str
    name: str
    columns: tuple[str, ...]
    units: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Answer:
    """The answer to one question: one sentence, and what it rests on. notes say what was not applicable, and why."""

    key: str  # "luck", "news", "search", "tradable", "predicts", "lasts"
    question: str
    said: str
    figures: tuple[Figure, ...] = ()
    curves: tuple[Curve, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()

    def find(self, key: str) -> Figure | None:
        """The figure with this key, None where there is none."""
        return next((figure for figure in self.figures if figure.key == key), None)


def say_count(count: int, noun: str) -> str:
    """The count with its noun.

    >>> say_count(1, "bar"), say_count(2000, "bar")
    ('1 bar', '2,000 bars')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def to_plain(value: Any) -> Any:
    """An answer and its parts as dictionaries, lists and numbers for JSON."""
    if isinstance(value, Answer | Figure | Curve | Table):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value
