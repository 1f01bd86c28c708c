"""What the verbs share: the clock, KEY=VALUE options, and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finsignal.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


def read_clock() -> pd.Timestamp:
    """The present instant, UTC. The only place where finsignal reads the clock."""
    import pandas as pd

    return pd.Timestamp.now("UTC").as_unit("us")


def to_map(pairs: Iterable[str], where: str) -> dict[str, str]:
    """KEY=VALUE options as a dictionary. Raises ConfigError for another form, and for a key with two values."""
    out: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"{where}: expected KEY=VALUE, got {pair!r}.")
        if out.setdefault(key, value) != value:
            raise ConfigError(f"{where}: {key!r} is given two values, {out[key]!r} and {value!r}; give it one.")
    return out


def nest(flat: dict[str, str]) -> dict[str, Any]:
    """Keys with a dot as a table of their own: label_map.bullish = positive."""
    out: dict[str, Any] = {}
    for key, value in flat.items():
        outer, dot, inner = key.partition(".")
        if dot:
            out.setdefault(outer, {})[inner] = value
        else:
            out[key] = value
    return out


def printable(text: str) -> str:
    """The text on one line without characters that would steer a terminal, such as line breaks and overrides."""
    return "".join(c if c.isprintable() else " " for c in text)


def print_json(value: Any) -> None:
    """JSON on stdout; a figure that is not defined is null, never NaN."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def number(value: float | None) -> str:
    """Two decimals, or a dash."""
    return "-" if value is None else f"{value:.2f}"


def split_reader(given: str) -> tuple[str | None, Path]:
    """The reader and the file of READER=FILE; no reader where the part before an equals sign is none."""
    from finsignal.sentiment.labelled import READERS

    reader, equals, path = given.partition("=")
    return (reader, Path(path)) if equals and reader in READERS else (None, Path(given))
