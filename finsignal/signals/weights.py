"""Signals to target weights, with the state that goes from one decision to the next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from finsignal.clock import bar_of
from finsignal.errors import TableError
from finsignal.features.grid import rows_of
from finsignal.signals.rules import NO_EXITS, ExitRules, WeightRules
from finsignal.tables import INSTANT, SIGNALS, STATE, WEIGHTS, to_integers

NEVER, BEFORE = -2, -1  # in place of a bar's position: there was none; it lies before the grid given


def make_flat_state(symbols: Sequence[str]) -> pd.DataFrame:
    """The state that a backtest starts from: nothing held, nothing ordered."""
    never = pd.Series([pd.NaT] * len(symbols), dtype=INSTANT)
    return STATE.to_table(
        pd.DataFrame(
            {
                "symbol": pd.Series(sorted(symbols), dtype="str"),
                "weight": 0.0,
                "filled": True,
                "fill": never,
                "renewed": never,
            }
        )
    )


def to_weights(
    signals: pd.DataFrame,
    prices: pd.DataFrame,
    state: pd.DataFrame,
    *,
    bars: pd.DataFrame,
    rules: WeightRules,
    exits: ExitRules = NO_EXITS,
    features: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Target weights for every row of signals, and the state after the last bar.

    BUY goes to the buy weight, SELL to the sell weight (0, or short), HOLD keeps the target. A position is left when
    `holding` bars have passed since its fill, or since the newest signal of its own direction; such a signal at that
    same bar wins. Where more positions are wanted than slots are free, the largest |score| goes first, then the largest
    confidence, then the first symbol by name. Limits shrink new orders and never held positions.

    A fill is known only from a price row whose close was known at the decision. Until then an order counts as filled
    at the first bar that has not been seen to pass without trading, so the holding period never waits for tomorrow. A
    bar at whose decision no close of the symbol was known cannot be traded: there is no price to take a quantity from.

    Raises TableError where signals and bars do not fit, not every bar has a signal for every symbol of the state, or
    `bars` begins after a fill that a holding period still counts from.
    """
    SIGNALS.check(signals)
    STATE.check(state)
    symbols = state["symbol"].tolist()
    if signals.empty:
        return WEIGHTS.empty(), state
    grid = to_integers(bars["open_time"])
    decided = np.unique(to_integers(signals["open_time"]))
    at = np.searchsorted(grid, decided)
    if (at >= len(grid)).any() or (grid[np.minimum(at, len(grid) - 1)] != decided).any() or (np.diff(at) != 1).any():
        raise TableError("signals: expected a run of bars of the grid without holes.")
    if len(signals) != len(decided) * len(symbols) or sorted(signals["symbol"].unique()) != symbols:
        raise TableError(f"signals: expected one row for each of {len(decided)} bars and {len(symbols)} symbols.")

    shape = (len(symbols), len(decided))  # signals are sorted by symbol, then time
    wish = signals["signal"].map({"SELL": -1, "HOLD": 0, "BUY": 1}).to_numpy(dtype=np.int64).reshape(shape).T
    score = np.abs(signals["score"].to_numpy().reshape(shape).T)
    confidence = signals["confidence"].to_numpy().reshape(shape).T
    seen = _seen_to_trade(prices, bars, symbols)
    closed_by = np.searchsorted(to_integers(bars["close_time"]), to_integers(bars["time"]), side="right")

    weight = state["weight"].to_numpy(dtype=np.float64, copy=True)
    filled = state["filled"].to_numpy(dtype=bool, copy=True)
    fill, renewed = _positions(grid, state["fill"]), _positions(grid, state["renewed"])
    old = np.where(filled, (weight != 0) & (np.maximum(fill, renewed) < 0), fill < 0)
    if old.any():
        row, first = state.iloc[int(old.argmax())], bars["open_time"].iloc[0]
        raise TableError(
            f"state: the fill of {row['symbol']} at {row['fill']} is before the first bar of the grid, {first}; "
            "let bars reach back to it."
        )
    targets = np.empty((len(decided), len(symbols)))
    for row, k in enumerate(at):
        _settle(filled, fill, seen, closed=int(closed_by[k]), k=int(k))
        flat = filled & (weight == 0)
        fill[flat], renewed[flat] = NEVER, NEVER  # so that a name left long ago asks for no old bars
        wanted = wish[row]
        held = np.sign(weight).astype(np.int64)
        renew = (wanted != 0) & (wanted == held)
        renewed[renew] = k
        over = (held != 0) & (k - np.maximum(fill, renewed) >= rules.holding)
        leave = over | ((wanted != 0) & (wanted == -held))
        enter = (wanted != 0) & (wanted != held) & (rules.short | (wanted > 0))
        new = np.where(leave, 0.0, weight)
        if enter.any():
            free = rules.slots - int(np.count_nonzero(new))
            room = rules.gross - float(np.abs(new).sum())
            chosen = np.flatnonzero(enter)
            for s in chosen[np.lexsort((chosen, -confidence[row, chosen], -score[row, chosen]))][: max(free, 0)]:
                size = min(rules.unit, room)
                if size > 1e-12:
                    new[s] = wanted[s] * size
                    room -= size
        changed = new != weight
        weight = new
        filled[changed], fill[changed], renewed[changed] = False, k, k
        targets[row] = weight

    weights = signals[["open_time", "time", "symbol"]].copy()
    weights["weight"] = targets.T.ravel()
    after = pd.DataFrame(
        {
            "symbol": pd.Series(symbols, dtype="str"),
            "weight": weight,
            "filled": filled,
            "fill": _instants(bars, fill, state["fill"]),
            "renewed": _instants(bars, renewed, state["renewed"]),
        }
    )
    return WEIGHTS.check(weights), STATE.check(after)


def _settle(filled: np.ndarray, fill: np.ndarray, seen: np.ndarray, *, closed: int, k: int) -> None:
    """Moves each open order to its fill: the first bar from its own on that traded, or whose close is not known yet.

    Bars before `closed` have closed at this decision. An order that no bar up to now has filled is tried again at k.
    """
    for s in np.flatnonzero(~filled):
        while fill[s] < k:
            if seen[fill[s], s] <= k:
                filled[s] = True
                break
            if fill[s] >= closed:
                break  # not yet seen: presumed filled
            fill[s] += 1


def _seen_to_trade(prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str]) -> np.ndarray:
    """Position of the first decision that knows that a bar could be traded, (bars, symbols); len(bars) where none."""
    out = np.full((len(bars), len(symbols)), len(bars))
    row = bars_of_rows(prices, bars)
    column = pd.Index(symbols).get_indexer(prices["symbol"])
    ours = (row >= 0) & (column >= 0)
    out[row[ours], column[ours]] = bar_of(bars, prices["time"])[ours]
    out[np.isnan(known_closes(prices, bars, symbols))] = len(bars)
    return out


def bars_of_rows(prices: pd.DataFrame, bars: pd.DataFrame) -> np.ndarray:
    """The position in the grid of the bar of each price row, int64; -1 for a row that is no bar of the grid."""
    return pd.Index(to_integers(bars["open_time"])).get_indexer(to_integers(prices["open_time"]))


def known_closes(prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str]) -> np.ndarray:
    """The newest close known at each decision, (bars, symbols), NaN where there is none.

    It may be of a row before the grid began, or of one that is no bar of the grid.
    """
    out = np.full((len(bars), len(symbols)), np.nan)
    decisions, times, close = to_integers(bars["time"]), to_integers(prices["time"]), prices["close"].to_numpy()
    rows = rows_of(prices["symbol"], symbols)
    for column, symbol in enumerate(symbols):
        ours = rows.get(symbol, slice(0, 0))
        newest = np.searchsorted(times[ours], decisions, side="right") - 1
        out[newest >= 0, column] = close[ours][newest[newest >= 0]]
    return out


def _positions(grid: np.ndarray, instants: pd.Series) -> np.ndarray:
    """Positions of bar opens in the grid; NEVER where there is none, BEFORE for an instant before the grid.

    Raises TableError for an instant within the grid that is not the open of a bar.
    """
    values = to_integers(instants)
    position = np.searchsorted(grid, values).astype(np.int64)
    known = instants.notna().to_numpy()
    before = values < grid[0]
    bad = known & ~before & ((position >= len(grid)) | (grid[np.minimum(position, len(grid) - 1)] != values))
    if bad.any():
        found = instants.iloc[int(bad.argmax())]
        raise TableError(f"state: {found} is not the open of a bar of the grid given; use the grid it was made on.")
    return np.where(known, np.where(before, BEFORE, position), NEVER)


def _instants(bars: pd.DataFrame, positions: np.ndarray, old: pd.Series) -> pd.Series:
    """Bar opens at these positions: NaT for NEVER, the old instant for BEFORE."""
    opens = bars["open_time"].reindex(positions).reset_index(drop=True).astype(INSTANT)
    return opens.where(positions != BEFORE, old.reset_index(drop=True))
