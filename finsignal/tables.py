"""The table contracts: columns, dtypes, keys and rules, each written here and nowhere else.

Tables are long pandas frames with plain columns and a RangeIndex, sorted by key (articles by time, then by id).
Instants are `datetime64[us, UTC]`, text is `str`, fractions are floats (0.01 is 1 %). In every table `time` is the
instant a row became known to the world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import LookaheadError, TableError, did_you_mean

LABELS = ("negative", "neutral", "positive")
PROBABILITIES = ("p_negative", "p_neutral", "p_positive")
SIGNALS_ALLOWED = ("SELL", "HOLD", "BUY")
ACTION_KINDS = ("split", "dividend")
FLOWS = ("funding", "dividends", "borrow", "interest")  # cash that moves without an order

INSTANT = "datetime64[us, UTC]"
TEXT = "str"
FLOAT = "float64"
BOOL = "bool"


@dataclass(frozen=True)
class Table:
    """One contract: `check` refuses a frame that breaks it, `empty` makes one that keeps it."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    may_miss: tuple[str, ...] = ()  # instants that may be NaT
    more_floats: bool = False  # further columns are allowed, if they are floats
    rule: Callable[[pd.DataFrame, str], None] | None = None
    sorted_by: tuple[str, ...] = ()  # where it is not the key

    @property
    def order(self) -> tuple[str, ...]:
        """The columns by which rows are sorted."""
        return self.sorted_by or self.key

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame itself, unchanged.

        Raises TableError at the first breach, naming the column, the row and the value.
        """
        if not isinstance(frame, pd.DataFrame):
            raise TableError(f"{self.name}: expected a DataFrame, got {type(frame).__name__}.")
        if not frame.columns.is_unique:
            repeated = frame.columns[frame.columns.duplicated()][0]
            raise TableError(f"{self.name}: column {str(repeated)!r} stands twice; rename or drop one.")
        for column, dtype in self.columns.items():
            if column not in frame.columns:
                raise TableError(
                    f"{self.name}: no column {column!r}.{did_you_mean(column, map(str, frame.columns))} "
                    f"Columns are {[str(c) for c in frame.columns]}."
                )
            self._check_dtype(frame, column, dtype)
        for column in frame.columns:
            if column in self.columns:
                continue
            if str(column).startswith("fwd_"):
                raise LookaheadError(
                    f"{self.name}: column {column!r} holds forward returns, which only training and evaluation may see."
                )
            if column in self.optional:
                self._check_dtype(frame, column, self.optional[column])
            elif self.more_floats:
                self._check_dtype(frame, column, FLOAT)
            else:
                raise TableError(
                    f"{self.name}: unknown column {column!r}."
                    f"{did_you_mean(str(column), [*self.columns, *self.optional])} "
                    f"Known columns are {[*self.columns, *self.optional]}."
                )
        for column, dtype in {**self.columns, **self.optional}.items():
            if column not in frame.columns or column in self.may_miss or dtype == FLOAT:
                continue
            missing = frame[column].isna().to_numpy()
            if missing.any():
                row = int(missing.argmax())
                raise TableError(f"{self.name}.{column}: row {row} is empty; every row needs a value.")
        self._check_key(frame)
        if self.rule is not None:
            self.rule(frame, self.name)
        return frame

    def _check_dtype(self, frame: pd.DataFrame, column: str, dtype: str) -> None:
        found = str(frame[column].dtype)
        if found != dtype:
            raise TableError(f"{self.name}.{column}: expected dtype {dtype}, got {found}.")

    def _check_key(self, frame: pd.DataFrame) -> None:
        if not self.key:
            return
        key = list(self.key)
        plain = isinstance(frame.index, pd.RangeIndex) and frame.index.start == 0 and frame.index.step == 1
        if plain and self.order == self.key and _is_sorted(frame, key, strictly=True):
            return  # and so no key stands twice
        repeated = frame.duplicated(key).to_numpy()
        if repeated.any():
            count, row = int(repeated.sum()), int(repeated.argmax())
            raise TableError(f"{self.name}: {count} rows repeat the key {self.key}, first at row {row}.")
        if not plain:
            raise TableError(f"{self.name}: expected a plain RangeIndex; use reset_index(drop=True).")
        if not _is_sorted(frame, list(self.order)):
            raise TableError(
                f"{self.name}: rows are not sorted by {self.order}; use {self.name}.sort_values({list(self.order)})."
            )

    def empty(self) -> pd.DataFrame:
        """A table of this contract without rows: truly nothing, not a failure."""
        return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in self.columns.items()})

    def to_table(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with the contract's columns first, in its dtypes, sorted by its order; then checked.

        Instants must be datetimes with a zone already (`clock.to_instants`): text would be read as UTC unasked. Raises
        TableError for what cannot be converted.
        """
        wanted = {**self.columns, **{c: d for c, d in self.optional.items() if c in frame.columns}}
        there = {c: d for c, d in wanted.items() if c in frame.columns}
        out = frame[[*there, *(c for c in frame.columns if c not in wanted)]].copy()
        if len(there) < len(wanted) or not out.columns.is_unique:
            return self.check(out)  # which says what is wrong
        for column, dtype in there.items():
            found = out.dtypes[column]
            if str(found) == dtype:
                continue
            if dtype == INSTANT and not isinstance(found, pd.DatetimeTZDtype):
                self._check_dtype(out, column, dtype)
            try:
                out[column] = out[column].astype(dtype)
            except (ValueError, TypeError) as err:
                raise TableError(f"{self.name}.{column}: cannot be read as {dtype}: {err}.") from err
        if self.key and not _is_sorted(out, list(self.order)):
            out = out.sort_values(list(self.order), kind="stable")
        return self.check(out.reset_index(drop=True))


def _is_sorted(frame: pd.DataFrame, key: list[str], *, strictly: bool = False) -> bool:
    """Whether rows ascend by key, compared column by column from the most significant; `strictly`: none repeats it."""
    if len(frame) < 2:
        return True
    undecided: np.ndarray | None = None
    for column in key:
        values = frame[column]
        codes = to_integers(values) if str(values.dtype) == INSTANT else pd.factorize(values, sort=True)[0]
        before, after = codes[:-1], codes[1:]
        fell, same = after < before, after == before
        if (fell if undecided is None else fell & undecided).any():
            return False
        undecided = same if undecided is None else undecided & same
    return not strictly or undecided is None or not undecided.any()


def to_integers(instants: pd.Series | pd.DatetimeIndex) -> np.ndarray:
    """Microseconds since 1970 in UTC, int64; NaT is the smallest int64."""
    index = pd.DatetimeIndex(instants)
    return index.tz_convert(None).to_numpy().astype("datetime64[us]").astype(np.int64)


def _refuse(bad: pd.Series | np.ndarray, frame: pd.DataFrame, table: str, what: Callable[[pd.Series], str]) -> None:
    mask = np.asarray(bad)
    if mask.any():
        position = int(mask.argmax())
        raise TableError(f"{table}: row {position} {what(frame.iloc[position])}")


def _price_rules(frame: pd.DataFrame, table: str) -> None:
    values = {column: frame[column].to_numpy() for column in ("open", "high", "low", "close", "volume")}
    for column in ("open", "high", "low", "close"):
        _refuse(
            ~(np.isfinite(values[column]) & (values[column] > 0)),
            frame,
            table,
            lambda row, c=column: (  # type: ignore[misc]
                f"({row['symbol']} {row['time']}) has {c} {row[c]}; prices must be finite and above 0."
            ),
        )
    low, high = np.minimum(values["open"], values["close"]), np.maximum(values["open"], values["close"])
    _refuse(
        (values["low"] > low) | (values["high"] < high),
        frame,
        table,
        lambda row: (
            f"({row['symbol']} {row['time']}) has low {row['low']}, high {row['high']}, open {row['open']}, "
            f"close {row['close']}; expected low <= open, close <= high."
        ),
    )
    _refuse(
        ~(np.isfinite(values["volume"]) & (values["volume"] >= 0)),
        frame,
        table,
        lambda row: f"({row['symbol']} {row['time']}) has volume {row['volume']}; expected a finite number, 0 or more.",
    )
    _refuse(
        to_integers(frame["open_time"]) >= to_integers(frame["time"]),
        frame,
        table,
        lambda row: f"({row['symbol']}) opens at {row['open_time']} but closes at {row['time']}.",
    )


def _link_rules(frame: pd.DataFrame, table: str) -> None:
    _refuse(
        ~((frame["relevance"] >= 0) & (frame["relevance"] <= 1)),
        frame,
        table,
        lambda row: f"({row['article_id']}) has relevance {row['relevance']}; expected 0 to 1.",
    )


def _label_rules(frame: pd.DataFrame, table: str) -> None:
    _refuse(
        ~frame["label"].isin(LABELS),
        frame,
        table,
        lambda row: f"has label {row['label']!r}; expected one of {', '.join(LABELS)}. Pass a label map.",
    )


def _probability_rules(frame: pd.DataFrame, table: str) -> None:
    values = frame[list(PROBABILITIES)].to_numpy()
    _refuse(
        ~((values >= 0) & (values <= 1)).all(axis=1),
        frame,
        table,
        lambda row: (
            f"({row['article_id']}) has probabilities {[float(row[p]) for p in PROBABILITIES]}; expected 0 to 1."
        ),
    )
    total = values.sum(axis=1)
    _refuse(
        np.abs(total - 1) > 1e-6,
        frame,
        table,
        lambda row: (
            f"sums to {sum(row[p] for p in PROBABILITIES):.9g}; p_negative, p_neutral and p_positive must sum to 1."
        ),
    )


def _signal_rules(frame: pd.DataFrame, table: str) -> None:
    _refuse(
        ~frame["signal"].isin(SIGNALS_ALLOWED),
        frame,
        table,
        lambda row: f"({row['symbol']}) has signal {row['signal']!r}; expected SELL, HOLD or BUY.",
    )
    for column, low in (("score", -1), ("confidence", 0)):
        _refuse(
            frame[column].notna() & ~frame[column].between(low, 1),
            frame,
            table,
            lambda row, c=column, low=low: (  # type: ignore[misc]
                f"({row['symbol']} {row['time']}) has {c} {row[c]}; expected {low} to 1, or NaN where not known."
            ),
        )


def _action_rules(frame: pd.DataFrame, table: str) -> None:
    _refuse(
        ~frame["kind"].isin(ACTION_KINDS),
        frame,
        table,
        lambda row: f"({row['symbol']} {row['time']}) is a {row['kind']!r}; expected one of {', '.join(ACTION_KINDS)}.",
    )
    _refuse(
        ~(np.isfinite(frame["value"]) & (frame["value"] > 0)),
        frame,
        table,
        lambda row: f"({row['symbol']} {row['time']}) has value {row['value']}; expected a finite number above 0.",
    )


def _funding_rules(frame: pd.DataFrame, table: str) -> None:
    _refuse(
        ~np.isfinite(frame["rate"]),
        frame,
        table,
        lambda row: f"({row['symbol']} {row['time']}) has rate {row['rate']}; expected a finite number.",
    )


def _open_interest_rules(frame: pd.DataFrame, table: str) -> None:
    _refuse(
        ~(np.isfinite(frame["contracts"]) & (frame["contracts"] >= 0)),
        frame,
        table,
        lambda row: (
            f"({row['symbol']} {row['time']}) has contracts {row['contracts']}; expected a finite number, 0 or more."
        ),
    )


def _decision_rules(frame: pd.DataFrame, table: str) -> None:
    _refuse(
        frame["time"] > frame["open_time"],
        frame,
        table,
        lambda row: f"({row['symbol']}) decides at {row['time']}, after its bar opened at {row['open_time']}.",
    )


def _weights_rule(frame: pd.DataFrame, table: str) -> None:
    _decision_rules(frame, table)
    _refuse(
        ~np.isfinite(frame["weight"]),
        frame,
        table,
        lambda row: (
            f"({row['symbol']} {row['time']}) has weight {row['weight']}; expected a finite fraction of equity."
        ),
    )


def _signals_rule(frame: pd.DataFrame, table: str) -> None:
    _decision_rules(frame, table)
    _signal_rules(frame, table)


PRICES = Table(
    "prices",
    ("symbol", "time"),
    {
        "open_time": INSTANT,
        "time": INSTANT,
        "symbol": TEXT,
        "open": FLOAT,
        "high": FLOAT,
        "low": FLOAT,
        "close": FLOAT,
        "volume": FLOAT,
    },
    optional={"split": FLOAT, "dividend": FLOAT, "adj_close": FLOAT},
    rule=_price_rules,
)
ARTICLES = Table(
    "articles",
    ("article_id",),
    {
        "article_id": TEXT,
        "published": INSTANT,
        "first_seen": INSTANT,
        "recorded": INSTANT,
        "time": INSTANT,
        "title": TEXT,
        "text": TEXT,
        "source": TEXT,
        "url": TEXT,
        "story": TEXT,
    },
    may_miss=("first_seen", "recorded"),
    sorted_by=("time", "article_id"),  # as they come: those of years need not be shuffled to be read
)
LINKS = Table(
    "links",
    ("article_id", "symbol"),
    {"article_id": TEXT, "symbol": TEXT, "relevance": FLOAT},
    rule=_link_rules,
)
NEWS = Table(
    "news",
    ("symbol", "time", "article_id"),
    {**ARTICLES.columns, **LINKS.columns},
    may_miss=("first_seen", "recorded"),
    rule=_link_rules,
)
ACTIONS = Table(
    "actions",
    ("symbol", "time", "kind"),
    {"symbol": TEXT, "time": INSTANT, "kind": TEXT, "value": FLOAT},
    rule=_action_rules,
)
FUNDING = Table("funding", ("symbol", "time"), {"symbol": TEXT, "time": INSTANT, "rate": FLOAT}, rule=_funding_rules)
OPEN_INTEREST = Table(
    "open_interest",
    ("symbol", "time"),
    {"symbol": TEXT, "time": INSTANT, "contracts": FLOAT},
    rule=_open_interest_rules,
)
LABELLED = Table(
    "labelled",
    (),
    {"text": TEXT, "label": TEXT, "time": INSTANT, "source": TEXT, "target": TEXT},
    rule=_label_rules,
)
SENTIMENT = Table(
    "sentiment",
    ("symbol", "time", "article_id"),
    {
        "article_id": TEXT,
        "time": INSTANT,
        "symbol": TEXT,
        "p_negative": FLOAT,
        "p_neutral": FLOAT,
        "p_positive": FLOAT,
        "model": TEXT,
    },
    rule=_probability_rules,
)
BARS = Table(
    "bars",
    ("open_time",),
    {"open_time": INSTANT, "close_time": INSTANT, "time": INSTANT, "session": TEXT},
)
FEATURES = Table(
    "features",
    ("symbol", "time"),
    {"open_time": INSTANT, "time": INSTANT, "symbol": TEXT},
    more_floats=True,
    rule=_decision_rules,
)
SIGNALS = Table(
    "signals",
    ("symbol", "time"),
    {"open_time": INSTANT, "time": INSTANT, "symbol": TEXT, "score": FLOAT, "confidence": FLOAT, "signal": TEXT},
    optional={"reason": TEXT},  # why data too old made it a HOLD; '' where it did not
    rule=_signals_rule,
)
WEIGHTS = Table(
    "weights",
    ("symbol", "time"),
    {"open_time": INSTANT, "time": INSTANT, "symbol": TEXT, "weight": FLOAT},
    rule=_weights_rule,
)
STATE = Table(
    "state",
    ("symbol",),
    {"symbol": TEXT, "weight": FLOAT, "filled": BOOL, "fill": INSTANT, "renewed": INSTANT},
    may_miss=("fill", "renewed"),
)
PARAMETERS = Table("parameters", ("time", "name"), {"time": INSTANT, "name": TEXT, "value": FLOAT})
TRIALS = Table(
    "trials",
    ("trial",),
    # kind is "setting" (tried on validation) or "run" (judged on the test); sharpe is per day and NaN where there is
    # none; first is the instant at which it was first tried.
    {"trial": TEXT, "kind": TEXT, "settings": TEXT, "sharpe": FLOAT, "days": "int64", "first": INSTANT},
    sorted_by=("first", "trial"),
)


@dataclass(frozen=True)
class BacktestResult:
    """What a backtest did, as plain tables. Times are bar opens in UTC, money is in units of the starting cash.

    equity: net account value at each bar's close, indexed by the bar's open_time; gross: equity and all that was paid
    up to then in fees, slippage, funding and borrow, so the same fills before costs.
    returns: net simple return per bar. weights: the target that stood at each bar (open_time x symbol).
    orders: one row a fill (open_time, symbol, side, quantity, price, fee, slippage, weight, reason); slippage is cash
    lost against the open, the level of a stop, or the close at which a session or a delisted name is closed.
    rejected: one row a bar at which a standing target could not be traded or was cut, with the reason.
    trades: one row an entry to its exit, or to the mark at the end (closed is False): it is not counted as a trade.
    profit holds fees and slippage, funding and borrow paid, and dividends received.
    flows: cash received (paid where negative) in each bar as funding, dividends, borrow and interest.
    settings: all that is needed to run it again.
    """

    equity: pd.Series
    gross: pd.Series
    returns: pd.Series
    weights: pd.DataFrame
    orders: pd.DataFrame
    rejected: pd.DataFrame
    trades: pd.DataFrame
    settings: dict[str, Any]
    flows: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(FLOWS), dtype=FLOAT))

    def write(self, folder: Path) -> None:
        """Writes equity, flows, weights, orders, rejected and trades as Parquet into an existing folder."""
        curve = pd.DataFrame({"equity": self.equity, "gross": self.gross, "returns": self.returns})
        curve.rename_axis("open_time").reset_index().to_parquet(folder / "equity.parquet", index=False)
        self.weights.rename_axis("open_time").reset_index().to_parquet(folder / "targets.parquet", index=False)
        self.flows.rename_axis("open_time").reset_index().to_parquet(folder / "flows.parquet", index=False)
        for name in ("orders", "rejected", "trades"):
            getattr(self, name).to_parquet(folder / f"{name}.parquet", index=False)
