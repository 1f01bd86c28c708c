"""What a check of a run finds: what gives a cheat away, and what was compared where nothing does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

GUARD = "check"  # the guard that every finding here is of, by its name in the table of guards
State = Literal["passed", "failed", "could not be checked", "told"]


@dataclass(frozen=True)
class Finding:
    """One thing that only knowledge of what was to come, or of what should not be known, explains.

    kind says what was done, such as "cut" or "noise"; guard which of the guards found it, here "check". column, symbol
    and instant say where it shows first; empty and None where it shows in no one place. said is one sentence for a
    human.
    """

    kind: str
    guard: str
    column: str
    symbol: str
    instant: pd.Timestamp | None
    said: str


@dataclass(frozen=True)
class Part:
    """One part of a check. compared counts what was looked at (said says of what); findings are why it failed.

    "told" is a fact that the reader must know and that accuses nobody.
    """

    name: str
    state: State
    compared: int
    said: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Checked:
    """What a check of a run found: all findings, in the order of its parts, and the parts."""

    findings: tuple[Finding, ...]
    parts: tuple[Part, ...]
