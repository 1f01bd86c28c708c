"""Features to signals, signals to target weights, and `decide`, which does both for the backtest and the job alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from finsignal.clock import bar_of
from finsignal.errors import USER_ERRORS, ConfigError, FinsignalError, TableError, did_you_mean
from finsignal.features import (
    FUNDING_LOOKBACK,
    OPEN_INTEREST_LOOKBACK,
    SENTIMENT_FEATURES,
    aggregate_sentiment,
    make_funding_features,
    make_open_interest_features,
    make_price_features,
    sentiment_lookback,
)
from finsignal.features.grid import rows_of
from finsignal.tables import FEATURES, INSTANT, PARAMETERS, SIGNALS, STATE, TEXT, WEIGHTS, to_integers

Strategy = Callable[..., pd.DataFrame]

NEVER, BEFORE = -2, -1  # in place of a bar's position: there was none; it lies before the grid given
OLD = np.iinfo(np.int64).max  # the age of what is not known, or was known before the grid given
TOLD = 24  # bars beyond a limit for which a reason still names what was newest; a bound, for a finite lookback


@dataclass(frozen=True)
class NewsRules:
    """How texts become features. Ages are counted in bars of the grid."""

    half_life: float  # bars after which a text weighs half
    max_age: int  # bars after which a text no longer counts
    min_relevance: float = 0.0  # texts below it do not count
    source_weights: Mapping[str, float] = field(default_factory=dict)  # a source not named weighs 1
    price_max_age: int = 10  # bars after which the last price row is too old to speak


@dataclass(frozen=True)
class WeightRules:
    """How signals become target weights. All weights are fractions of equity."""

    slots: int  # positions at once, each of gross / slots at most
    gross: float  # limit of the sum of absolute weights
    holding: int  # bars from the fill after which a position is left
    short: bool = False  # whether SELL goes short; else it leaves
    max_weight: float = 1.0  # limit of one position

    def __post_init__(self) -> None:
        for name, ok in {
            "slots (1 or more)": self.slots >= 1,
            "gross (above 0, at most 1: nothing here borrows)": 0 < self.gross <= 1,
            "holding (1 bar or more)": self.holding >= 1,
            "max_weight (above 0, at most 1)": 0 < self.max_weight <= 1,
        }.items():
            if not ok:
                raise ConfigError(f"weights: expected {name}, got {getattr(self, name.split(' ')[0])}.")

    @property
    def unit(self) -> float:
        """The absolute weight of a new position before the gross limit."""
        return min(self.max_weight, self.gross / self.slots)


@dataclass(frozen=True)
class Limits:
    """When a symbol's data is too old to decide on. Ages are counted in bars of the grid; None is no limit.

    A price row's age is the number of bars that have closed since its own: 0 where the newest bar expected at the
    decision is there. A text's age counts from the first decision at which it was known. What lies before the grid has
    no age and does not count, so the first bars of a grid are stale and silent: begin it `lookback` bars earlier.
    """

    stale_prices: int | None = None  # bars after which the newest price row is too old
    silent_news: int | None = None  # bars after which the newest text is too old, whatever its relevance

    def __post_init__(self) -> None:
        for name in ("stale_prices", "silent_news"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"limits: {name} counts grid bars, expected 0 or more, got {value}.")


def lookback(news_rules: NewsRules, weight_rules: WeightRules, limits: Limits = Limits()) -> int:
    """Grid bars before a bar that `decide` needs to decide it alone: news, sentiment and bars before them are not used.

    A fill that still counts lies within it, but for an order that waits for a halted symbol: let `bars` reach back over
    the fills of `state` too. Prices, funding and open interest are counted in rows, for a symbol may print few: keep
    all of them, or of each symbol the newest that the mappings of `features` state before the first of these bars.
    Holds for decision latencies of at most a bar.
    """
    needs = [sentiment_lookback(news_rules.max_age), news_rules.price_max_age + 1, weight_rules.holding + 1]
    # One bar more for the one that is open at the decision, one for what an age is counted from.
    needs += [limit + TOLD + 2 for limit in (limits.stale_prices, limits.silent_news) if limit is not None]
    return max(needs)


@dataclass(frozen=True)
class Decided:
    """What `decide` gives: features, signals and weights for each symbol and bar decided, and the state after them."""

    signals: pd.DataFrame
    weights: pd.DataFrame
    state: pd.DataFrame
    features: pd.DataFrame


def decide(
    news: pd.DataFrame,
    prices: pd.DataFrame,
    sentiment: pd.DataFrame,
    state: pd.DataFrame,
    *,
    strategy: Strategy,
    parameters: pd.DataFrame,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    news_rules: NewsRules,
    weight_rules: WeightRules,
    since: pd.Timestamp | None = None,
    limits: Limits = Limits(),
    funding: pd.DataFrame | None = None,
    open_interest: pd.DataFrame | None = None,
) -> Decided:
    """The stretch from features to weights: the one code path of backtest and job.

    Decides each bar of `bars` that opens at `since` or later (all of them by default), in order, starting from `state`.
    A decision uses only rows with time <= its own. `bars` must reach back `lookback` bars and over `state`'s fills;
    dropping what that function says is not used changes nothing. Deciding a stretch in two calls, the second from the
    state of the first, gives the same rows as one call. `limits` turn a symbol with old data to HOLD, with the reason.

    `parameters` holds the strategy's keyword arguments and the instant from which each value was known; the latest
    known at a decision counts. `funding` and `open_interest` bring features of their own. Raises TableError where the
    strategy's answer does not fit its features.
    """
    symbols = sorted(symbols)
    features = make_features(
        news, prices, sentiment, bars, symbols, rules=news_rules, funding=funding, open_interest=open_interest
    )
    if since is not None:
        features = features[features["open_time"] >= since].reset_index(drop=True)
    signals = make_signals(features, strategy=strategy, parameters=parameters)
    signals = to_limited(signals, prices, news, bars=bars, limits=limits)
    weights, state = to_weights(signals, prices, state, bars=bars, rules=weight_rules)
    return Decided(signals=signals, weights=weights, state=state, features=features)


def make_features(
    news: pd.DataFrame,
    prices: pd.DataFrame,
    sentiment: pd.DataFrame,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    *,
    rules: NewsRules,
    funding: pd.DataFrame | None = None,
    open_interest: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The features table of every symbol and bar: price features and aggregated sentiment as known at the decision.

    With FUNDING and OPEN_INTEREST their features too, NaN past the maximum age of prices; without, no such column.
    """
    features = make_price_features(prices, bars, symbols, max_age=rules.price_max_age)
    texts = aggregate_sentiment(
        news,
        sentiment,
        bars,
        symbols,
        half_life=rules.half_life,
        max_age=rules.max_age,
        min_relevance=rules.min_relevance,
        source_weights=rules.source_weights,
    )
    more = [texts[list(SENTIMENT_FEATURES)]]
    if funding is not None:
        rates = make_funding_features(funding, bars, symbols, max_age=rules.price_max_age)
        more.append(rates[list(FUNDING_LOOKBACK)])
    if open_interest is not None:
        changes = make_open_interest_features(open_interest, bars, symbols, max_age=rules.price_max_age)
        more.append(changes[list(OPEN_INTEREST_LOOKBACK)])
    return FEATURES.check(pd.concat([features, *more], axis=1))


def make_signals(features: pd.DataFrame, *, strategy: Strategy, parameters: pd.DataFrame) -> pd.DataFrame:
    """The signals table: the strategy's answer for every row of features, with the parameters known at each decision.

    The strategy gets a copy of the rows that share one set of parameters, and must answer for each of them in order.
    Raises TableError naming what does not fit.
    """
    FEATURES.check(features)
    PARAMETERS.check(parameters)
    if features.empty:
        return SIGNALS.empty()
    changes = np.unique(to_integers(parameters["time"]))
    regime = np.searchsorted(changes, to_integers(features["time"]), side="right")
    pieces = []
    for number in np.unique(regime):
        rows = features[regime == number]
        known = parameters[to_integers(parameters["time"]) <= (changes[number - 1] if number else -(2**63))]
        values = {str(name): float(value) for name, value in zip(known["name"], known["value"], strict=True)}
        answer = _ask(strategy, rows.reset_index(drop=True).copy(), values)
        pieces.append(_check_answer(answer, len(rows)).set_axis(rows.index))
    answer = pd.concat(pieces).sort_index()
    signals = features[["open_time", "time", "symbol"]].copy()
    for column in ("score", "confidence", "signal"):
        signals[column] = answer[column]
    return SIGNALS.to_table(signals)


def _ask(strategy: Strategy, rows: pd.DataFrame, values: dict[str, float]) -> Any:
    """The strategy's answer; what it raises is told in one sentence, with what it was given."""
    try:
        return strategy(rows, **values)
    except FinsignalError:
        raise
    except USER_ERRORS as err:
        missing = str(err.args[0]) if isinstance(err, KeyError) and err.args else ""
        hint = did_you_mean(missing, map(str, rows.columns)) if missing else ""
        raise TableError(
            f"strategy: failed on {len(rows)} rows of features with {values or 'no parameters'}: "
            f"{type(err).__name__} {err}.{hint} Features are {list(rows.columns[3:])}."
        ) from err


def _check_answer(answer: Any, rows: int) -> pd.DataFrame:
    if not isinstance(answer, pd.DataFrame) or not {"score", "confidence", "signal"} <= set(answer.columns):
        raise TableError(
            "strategy: expected a DataFrame with columns score, confidence and signal, "
            f"got {list(answer.columns) if isinstance(answer, pd.DataFrame) else type(answer).__name__}."
        )
    if len(answer) != rows or not answer.index.equals(pd.RangeIndex(rows)):
        raise TableError(f"strategy: expected one row for each of {rows} rows of features, in their order.")
    if answer["signal"].isna().any():
        raise TableError("strategy: a signal is missing; no news is HOLD.")
    return answer


def to_signal(
    score: pd.Series,
    confidence: pd.Series,
    *,
    buy_threshold: float,
    sell_threshold: float,
    confidence_threshold: float,
    may_buy: pd.Series | bool = True,
    may_sell: pd.Series | bool = True,
) -> pd.DataFrame:
    """BUY, HOLD or SELL with its score and confidence, one row for each score.

    BUY if score >= buy_threshold and confidence >= confidence_threshold and may_buy; SELL if score <= -sell_threshold,
    likewise; else HOLD. A score that is not known (NaN) is HOLD.

    >>> to_signal(pd.Series([0.5, -0.5, 0.1, float("nan")]), pd.Series([0.7, 0.7, 0.9, 0.9]), buy_threshold=0.3,
    ...           sell_threshold=0.3, confidence_threshold=0.6)["signal"].tolist()
    ['BUY', 'SELL', 'HOLD', 'HOLD']
    """
    for name, value in {"buy_threshold": buy_threshold, "sell_threshold": sell_threshold}.items():
        if not value > 0:
            raise ConfigError(f"{name}: {value} must be above 0, or one score would mean BUY and SELL at once.")
    sure = confidence >= confidence_threshold
    buy, sell = (score >= buy_threshold) & sure & may_buy, (score <= -sell_threshold) & sure & may_sell
    signal = np.where(buy, "BUY", np.where(sell, "SELL", "HOLD"))
    return pd.DataFrame(
        {"score": score, "confidence": confidence, "signal": pd.Series(signal, index=score.index, dtype="str")}
    )


def to_limited(
    signals: pd.DataFrame, prices: pd.DataFrame, news: pd.DataFrame, *, bars: pd.DataFrame, limits: Limits
) -> pd.DataFrame:
    """The signals with HOLD where the symbol's data is older than `limits`, and why in the column `reason`.

    Score and confidence stay those of the strategy. The reason is '' where the data is young enough, and stands too
    where the signal was HOLD anyway. Without limits the signals come back as they are, without that column. A HOLD
    still lets a holding period end. Instants are UTC; more than `TOLD` bars beyond a limit, nothing is named.
    """
    if limits == Limits() or signals.empty:
        return signals
    grid = to_integers(bars["time"])
    at = np.searchsorted(grid, to_integers(signals["time"]))
    reason = np.full(len(signals), "", dtype=object)
    places = signals.groupby("symbol", sort=False).indices
    for limit, table, what, unit in (
        (limits.stale_prices, prices, "prices stale", "bar"),
        (limits.silent_news, news, "news silent", "text"),
    ):
        if limit is None:
            continue
        known, shown = to_integers(table["time"]), to_integers(table["open_time" if unit == "bar" else "time"])
        rows = rows_of(table["symbol"], [str(name) for name in places])
        for symbol, place in places.items():
            ours = rows.get(str(symbol), slice(0, 0))
            # A row that came late is not the newest bar; texts are sorted by the instant shown.
            stamps = np.maximum.accumulate(shown[ours])
            newest = np.searchsorted(known[ours], grid[at[place]], side="right") - 1
            age = np.full(len(place), OLD)
            there = np.flatnonzero(newest >= 0)
            make_ages = _bar_ages if unit == "bar" else _text_ages
            age[there] = make_ages(stamps[newest[there]], bars, at[place][there])
            for row in np.flatnonzero(age > limit):
                found = f"no {unit} known in the last {limit + TOLD + 1} bars"
                if age[row] <= limit + TOLD:
                    stamp = pd.Timestamp(stamps[newest[row]], unit="us").strftime("%Y-%m-%d %H:%M")
                    found = f"newest {unit} {stamp}, {age[row]} bar{'' if age[row] == 1 else 's'} old"
                before = reason[place[row]]
                reason[place[row]] = f"{before}; {what}: {found}, limit {limit}".removeprefix("; ")
    out = signals.assign(reason=pd.Series(reason, index=signals.index, dtype=TEXT))
    out.loc[out["reason"] != "", "signal"] = "HOLD"
    return SIGNALS.check(out)


def _bar_ages(opens: np.ndarray, bars: pd.DataFrame, at: np.ndarray) -> np.ndarray:
    """Bars of the grid that have closed at the decisions at `at` since the bars that opened at `opens`."""
    closed = np.searchsorted(to_integers(bars["close_time"]), to_integers(bars["time"])[at], side="right")
    bar = np.searchsorted(to_integers(bars["open_time"]), opens, side="right") - 1
    return np.where(bar >= 0, np.maximum(closed - 1 - bar, 0), OLD)


def _text_ages(known: np.ndarray, bars: pd.DataFrame, at: np.ndarray) -> np.ndarray:
    """Bars from the first decision that knew of a text to the decisions at `at`."""
    decisions = to_integers(bars["time"])
    return np.where(known >= decisions[0], at - np.searchsorted(decisions, known), OLD)


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
    signals: pd.DataFrame, prices: pd.DataFrame, state: pd.DataFrame, *, bars: pd.DataFrame, rules: WeightRules
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
