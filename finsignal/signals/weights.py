"""Signals to target weights, with the state that goes from one decision to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.errors import TableError
from finsignal.signals.exits import Stops, check_anchors, find_firsts, make_stops
from finsignal.signals.known import seen_to_trade
from finsignal.signals.portfolio import LEAST, Wishes, enter, fit, rank, size, to_wishes
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

    A new position has a slot's weight times its size, and no size that it needs is no entry: confidence; the mean of
    1 / volatility over the symbols, inverted; or the target volatility over its own. Volatilities are the column
    vol_20 of `features`, which has the rows of `signals`, and is needed for these two sizings alone.

    By rank (`rules.rank` or `rules.quantile`) BUY and SELL only say who may stand on which side. At the first bar of
    each period the best are taken, and all else is left but what old data holds; between, signals enter nothing and
    renew nothing, and a signal against a position leaves it. Without `neutral` the sides share the gross weight by
    their number of names. What is kept is resized where its weight changes by more than `band`.

    `exits` leave a position whatever the signal says, and nothing is entered in its symbol at the same bar. Stops count
    from the open of the bar that filled it and are judged on the bars known at the decision. With `session_close` what
    a session held or ordered counts as left at the first bar of the next, whether that bar is decided or missed.

    A fill is known only from a price row whose close was known at the decision. Until then an order counts as filled
    at the first bar that has not been seen to pass without trading, so the holding period never waits for tomorrow. A
    bar at whose decision no close of the symbol was known cannot be traded: there is no price to take a quantity from.
    An order that was seen to wait over more than `holding` bars, from its own or from the newest signal of its
    direction, is given up, so that a name which is halted for good keeps no slot.

    Raises TableError where signals, features and bars do not fit, prices are of shorter bars than the grid's, not every
    bar has a signal for every symbol of the state, or `bars` begins after a fill that a holding period or a stop still
    counts from, or after an order that still waits.
    """
    SIGNALS.check(signals)
    STATE.check(state)
    symbols = state["symbol"].tolist()
    if signals.empty:
        return WEIGHTS.empty(), state
    grid = to_integers(bars["open_time"])
    at = _decided(signals, grid, symbols)
    wishes = to_wishes(signals, (len(symbols), len(at)), rules, features)
    course = make_course(prices, bars, symbols, rules=rules, exits=exits)
    book = _open_book(state, bars, grid)
    if course.stops is not None:
        check_anchors(course.stops, state, book.fill[0], bars)
    targets = _walk(book, wishes, course, at, rules)[:, 0]
    weights = signals[["open_time", "time", "symbol"]].copy()
    weights["weight"] = targets.T.ravel()
    after = pd.DataFrame(
        {
            "symbol": pd.Series(symbols, dtype="str"),
            "weight": book.weight[0],
            "filled": book.filled[0],
            "fill": _instants(bars, book.fill[0], state["fill"]),
            "renewed": _instants(bars, book.renewed[0], state["renewed"]),
        }
    )
    return WEIGHTS.check(weights), STATE.check(after)


def weigh_worlds(
    wishes: Wishes,
    prices: pd.DataFrame,
    symbols: Sequence[str],
    *,
    bars: pd.DataFrame,
    rules: WeightRules,
    exits: ExitRules,
) -> np.ndarray:
    """The target weights of many worlds side by side, (worlds, bars, symbols), each as `to_weights` has it alone.

    `wishes` are about the last bars of the grid; every world starts flat.
    """
    count, worlds = wishes.side.shape[:2]
    course = make_course(prices, bars, symbols, rules=rules, exits=exits)
    at = np.arange(len(bars) - count, len(bars))
    return np.moveaxis(_walk(_flat_book((worlds, len(symbols))), wishes, course, at, rules), 1, 0)


@dataclass(frozen=True)
class _Course:
    """What grid and prices say of each bar, whatever signals ask for: the same in every world."""

    seen: np.ndarray  # (bars, symbols), as `seen_to_trade` has it
    closed_by: np.ndarray  # how many bars have closed at the decision
    begins: np.ndarray  # whether a session begins before which all is left
    due: np.ndarray  # whether a ranking is rebalanced
    stops: Stops | None


def make_course(
    prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str], *, rules: WeightRules, exits: ExitRules
) -> _Course:
    no_bar = np.zeros(len(bars), dtype=bool)
    seen = seen_to_trade(prices, bars, symbols)
    return _Course(
        seen,
        np.searchsorted(to_integers(bars["close_time"]), to_integers(bars["time"]), side="right"),
        find_firsts(bars, "session") if exits.session_close else no_bar,
        find_firsts(bars, rules.rebalance) if rules.by_rank else no_bar,
        make_stops(exits, prices, bars, symbols, seen),
    )


@dataclass
class _Book:
    """Targets between two decisions, (worlds, symbols): weight, and the bars of the fill and of the newest signal."""

    weight: np.ndarray
    filled: np.ndarray  # whether the order was seen to be filled; else `fill` is where it may be
    fill: np.ndarray
    renewed: np.ndarray

    def clear(self, left: np.ndarray) -> None:
        """These symbols count as left."""
        self.weight[left], self.filled[left], self.fill[left], self.renewed[left] = 0.0, True, NEVER, NEVER

    def settle(self, seen: np.ndarray, *, closed: int, k: int) -> None:
        """Moves each open order to its fill: the first bar from its own on that traded, or whose close is not known.

        Bars before `closed` have closed at this decision. An order that no bar up to now has filled is tried again at
        k. A name left long ago is forgotten, so that it asks for no old bars.
        """
        fill, filled, symbols = self.fill.reshape(-1), self.filled.reshape(-1), seen.shape[1]
        waits = np.flatnonzero(~filled)
        while len(waits := waits[fill[waits] < k]):
            traded = seen[fill[waits], waits % symbols] <= k
            filled[waits[traded]] = True
            waits = waits[~traded & (fill[waits] < closed)]  # one that is not yet seen is presumed filled
            fill[waits] += 1
        flat = self.filled & (self.weight == 0)
        self.fill[flat], self.renewed[flat] = NEVER, NEVER

    def order(self, new: np.ndarray, k: int) -> None:
        """Makes `new` the targets from bar k on. A position that is only resized keeps its fill."""
        opened = (new != self.weight) & (np.sign(new) != np.sign(self.weight))
        self.filled[opened], self.fill[opened], self.renewed[opened] = False, k, k
        self.weight = new


def _walk(book: _Book, wishes: Wishes, course: _Course, at: np.ndarray, rules: WeightRules) -> np.ndarray:
    """The targets of the bars at these positions, one after the other, (bars, worlds, symbols); the book goes along."""
    if course.begins.any() and (begun := int(np.flatnonzero(course.begins[: at[0] + 1])[-1])) > 0:
        # The first bar of this session may have been missed. Where the grid begins, a session may have begun before it.
        book.clear(book.fill < begun)
    targets = np.empty(wishes.side.shape)
    wanted = np.logical_or.reduce(wishes.side != 0, axis=(1, 2)).tolist()
    for row, k in enumerate(at.tolist()):
        due = bool(course.due[k])
        if not wanted[row] and not due and not book.weight.any() and book.filled.all():
            targets[row] = 0.0  # nothing is held, ordered or wanted
            book.clear(book.filled)
            continue
        if course.begins[k]:
            book.clear(np.ones(book.weight.shape, dtype=bool))
        book.settle(course.seen, closed=int(course.closed_by[k]), k=k)
        book.order(_decide(book, wishes, row, k, rules, course.stops, due=due), k)
        targets[row] = book.weight
    return targets


def _decide(
    book: _Book, wishes: Wishes, row: int, k: int, rules: WeightRules, stops: Stops | None, *, due: bool
) -> np.ndarray:
    """The targets of bar k; `due` is whether a ranking is rebalanced at it."""
    wanted, held = wishes.side[row], np.sign(book.weight).astype(np.int64)
    stopped = np.zeros(held.shape, dtype=bool)
    if stops is not None:
        stopped = stops.judge(book.weight, book.filled, book.fill, k)
    if due:
        return _rebalance(book, wishes, row, k, rules, stopped)
    if not rules.by_rank:
        book.renewed[(wanted != 0) & (wanted == held)] = k
    leave = stopped | _over(book, k, rules) | ((wanted != 0) & (wanted == -held))
    new = np.where(leave, 0.0, book.weight)
    if rules.by_rank:
        return new
    entering = (wanted != 0) & (wanted != held) & (rules.short | (wanted > 0)) & ~stopped
    return enter(new, entering, wishes, row, rules) if entering.any() else new


def _rebalance(book: _Book, wishes: Wishes, row: int, k: int, rules: WeightRules, stopped: np.ndarray) -> np.ndarray:
    """The targets after a ranking: what it does not pick is left, but for what old data holds."""
    held = np.sign(book.weight).astype(np.int64)
    stays = wishes.old[row] & (held != 0) & ~stopped & ~_over(book, k, rules)
    side = rank(wishes, row, rules, barred=stopped | stays, free=rules.slots - stays.sum(axis=1))
    kept = (side != 0) & (side == held)
    book.renewed[kept] = k
    new = np.where(stays, book.weight, 0.0)
    want = size(side, wishes.share[row], rules, np.maximum(rules.gross - np.abs(new).sum(axis=1), 0.0))
    same = kept & (np.abs(want - book.weight) <= rules.band + LEAST)
    less = np.where(np.abs(want) < np.abs(book.weight), want, book.weight)
    new = np.where(kept, np.where(same, book.weight, less), new)
    served = (side != 0) & ~same
    return fit(new, want, wishes.sort(row, served), rules, count=served.sum(axis=1), net=0.0 if rules.neutral else 1.0)


def _over(book: _Book, k: int, rules: WeightRules) -> np.ndarray:
    """Where the holding period has ended, of a position, or of an order that more bars were seen to pass by."""
    held = k - np.maximum(book.fill, book.renewed) >= rules.holding
    waited = ~book.filled & (book.fill - book.renewed > rules.holding)
    return (book.weight != 0) & (held | waited)


def _flat_book(shape: tuple[int, int]) -> _Book:
    return _Book(np.zeros(shape), np.ones(shape, dtype=bool), np.full(shape, NEVER), np.full(shape, NEVER))


def _decided(signals: pd.DataFrame, grid: np.ndarray, symbols: Sequence[str]) -> np.ndarray:
    """The positions in the grid of the bars that the signals are about."""
    decided = np.unique(to_integers(signals["open_time"]))
    at = np.searchsorted(grid, decided)
    if (at >= len(grid)).any() or (grid[np.minimum(at, len(grid) - 1)] != decided).any() or (np.diff(at) != 1).any():
        raise TableError("signals: expected a run of bars of the grid without holes.")
    if len(signals) != len(decided) * len(symbols) or sorted(signals["symbol"].unique()) != symbols:
        raise TableError(f"signals: expected one row for each of {len(decided)} bars and {len(symbols)} symbols.")
    return at


def _open_book(state: pd.DataFrame, bars: pd.DataFrame, grid: np.ndarray) -> _Book:
    weight = state["weight"].to_numpy(dtype=np.float64, copy=True)
    filled = state["filled"].to_numpy(dtype=bool, copy=True)
    fill, renewed = _positions(grid, state["fill"]), _positions(grid, state["renewed"])
    waits = (fill < 0) | ((weight != 0) & (renewed < 0))
    old = np.where(filled, (weight != 0) & (np.maximum(fill, renewed) < 0), waits)
    if old.any():
        row, first = state.iloc[int(old.argmax())], bars["open_time"].iloc[0]
        raise TableError(
            f"state: the fill of {row['symbol']} at {row['fill']} is before the first bar of the grid, {first}; "
            "let bars reach back to it."
        )
    return _Book(weight[None], filled[None], fill[None], renewed[None])


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
