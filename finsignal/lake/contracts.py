"""What the lake keeps: its tables, what parts them into folders, and the form of their Parquet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from finsignal.errors import ConfigError, TableError, did_you_mean
from finsignal.tables import (
    ACTIONS,
    ARTICLES,
    FLOAT,
    FUNDING,
    INSTANT,
    LINKS,
    OPEN_INTEREST,
    PRICES,
    PROBABILITIES,
    TEXT,
    Table,
)


def _fetch_rules(frame: pd.DataFrame, table: str) -> None:
    bad = ((frame["end"] < frame["start"]) | (frame["rows"] < 0) | (frame["missing"] < 0)).to_numpy()
    if bad.any():
        row = frame.iloc[int(bad.argmax())]
        raise TableError(
            f"{table}: {row['source']} {row['symbol']} from {row['start']} to {row['end']} with {row['rows']} rows, "
            f"{row['missing']} missing; expected start <= end and counts of 0 or more."
        )


def _score_rules(frame: pd.DataFrame, table: str) -> None:
    values = frame[list(PROBABILITIES)].to_numpy()
    bad = ~(((values >= 0) & (values <= 1)).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= 1e-6))
    if bad.any():
        row = frame.iloc[int(bad.argmax())]
        raise TableError(
            f"{table}: input {row['input']} has probabilities {[float(row[p]) for p in PROBABILITIES]}; "
            "expected three of 0 to 1 that sum to 1."
        )


# The log of fetches: one row each window asked of a source, also where it gave nothing.
FETCHES = Table(
    "fetches",
    ("source", "market", "bar", "symbol", "recorded", "start", "end"),
    {
        **dict.fromkeys(("source", "market", "bar", "symbol"), TEXT),
        **dict.fromkeys(("start", "end"), INSTANT),
        **dict.fromkeys(("rows", "missing"), "int64"),
        "note": TEXT,
        "recorded": INSTANT,
    },
    rule=_fetch_rules,
)
# What a model said of an input; `input` is the digest of the rendered text, `model` names the weights.
SCORES = Table(
    "scores",
    ("model", "input"),
    {"input": TEXT, "model": TEXT, **dict.fromkeys(PROBABILITIES, FLOAT)},
    rule=_score_rules,
)


@dataclass(frozen=True)
class Kept:
    """One table of the lake. `dated` is the column whose month (or year) names the folder of a row."""

    contract: Table
    by: tuple[str, ...] = ()  # of market and bar
    dated: str = "time"
    yearly: bool = False  # few rows a month: a folder a year
    first_wins: bool = False  # a key is stored once and for all

    @property
    def values(self) -> list[str]:
        """The columns besides the key that tell two versions apart."""
        columns = [*self.contract.columns, *self.contract.optional]
        return [c for c in columns if c not in (*self.contract.key, "recorded")]

    @property
    def schema(self) -> pa.Schema:
        """Columns of every part: the contract's, its optional ones and `recorded`."""
        columns = {**self.contract.columns, **self.contract.optional, "recorded": INSTANT}
        return pa.schema([(name, ARROW[dtype]) for name, dtype in columns.items()])


ARROW = {INSTANT: pa.timestamp("us", "UTC"), TEXT: pa.large_string(), FLOAT: pa.float64(), "int64": pa.int64()}
KEPT = {
    "prices": Kept(PRICES, ("market", "bar")),
    "actions": Kept(ACTIONS, ("market",), yearly=True),
    "funding": Kept(FUNDING, ("market",), yearly=True),
    "open_interest": Kept(OPEN_INTEREST, ("market", "bar")),
    "articles": Kept(ARTICLES, first_wins=True),
    # A link and a score have no time of their own: they lie where they were recorded, and are looked up everywhere.
    "links": Kept(LINKS, dated="recorded"),
    "scores": Kept(SCORES, dated="recorded"),
    "fetches": Kept(FETCHES, dated="recorded"),
}


def to_kept(table: str) -> Kept:
    """What the lake keeps under this name. Raises ConfigError for a name it does not know."""
    if table not in KEPT:
        raise ConfigError(f"lake: no table {table!r}.{did_you_mean(table, KEPT)} It keeps {', '.join(KEPT)}.")
    return KEPT[table]
