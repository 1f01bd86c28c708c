"""What an account earns in many worlds at once, and how the real one stands among them.

The account is a linear one: fast, fair, and the same for the real world and for every other.
"""

from __future__ import annotations

import numpy as np

from finsignal.backtest.arrays import Market
from finsignal.tables import PROBABILITIES

NEGATIVE, POSITIVE = PROBABILITIES.index("p_negative"), PROBABILITIES.index("p_positive")


def make_gains(
    market: Market,
    *,
    delisting_return: float,
    rates: tuple[np.ndarray, np.ndarray] | None = None,
    dividends: np.ndarray | None = None,
    session_close: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """What a long position of 1 at each bar's open earns up to its close, and from there to the next open.

    Both (bars, symbols), fractions of the open. Where a bar did not print its last known close stands for it, and
    before the first 0 is earned. Nothing is earned after the last bar, and with `session_close` after the last of each
    session. Dividends are received at the open that they are paid at, funding (`cashflows.to_rates`) is paid as it
    settles. A symbol that is gone for good earns its delisting return once, and then nothing.
    """
    close = market.marks.copy()
    before = np.vstack([np.zeros(close.shape[1]), close[:-1]])
    price = np.where(np.isfinite(market.opens), market.opens, before)
    for s in np.flatnonzero(market.gone >= 0):
        gone = int(market.gone[s])
        if gone < len(price):
            price[gone:, s] = close[gone:, s] = before[gone, s] * (1 + delisting_return)
    inside, after = close - price, np.vstack([price[1:], close[-1]]) - close
    if dividends is not None:
        after[:-1] += dividends[1:]  # the first bar's is paid to what was held before it: nothing
    if rates is not None:
        at_open, within = rates
        after[:-1] -= price[1:] * at_open[1:]
        inside -= close * within
    if session_close:
        after[market.sessions] = 0.0
    inside, after = (np.divide(v, price, out=np.zeros(price.shape), where=price > 0) for v in (inside, after))
    return inside, after


def earn(
    weights: np.ndarray,
    gains: tuple[np.ndarray, np.ndarray],
    *,
    printed: np.ndarray,
    cost: float,
    days: np.ndarray,
    flat: bool = False,
) -> np.ndarray:
    """The daily returns of each world's linear account, (worlds, days): of target weights (worlds, bars, symbols).

    A bar earns its weights times the gains (`make_gains`) within it, and those of the bar before times the gains since
    its close, less `cost` (a fraction of the value traded) for every change of a weight; the account begins flat, and
    nothing compounds. Where a bar did not print (`printed`, bars x symbols) an order waits. `days` is the first bar of
    each day; with `flat` all is left at the close of the one before.
    """
    rows = np.arange(len(printed))[:, None]
    newest = np.maximum.accumulate(np.where(printed, rows, -1), axis=0)
    if (newest != rows).any():
        weights = np.where(newest >= 0, weights[:, np.maximum(newest, 0), np.arange(printed.shape[1])], 0.0)
    inside, after = gains
    earned = np.einsum("kbs,bs->kb", weights, inside)
    earned[:, 1:] += np.einsum("kbs,bs->kb", weights[:, :-1], after[:-1])
    traded = np.abs(np.diff(weights, axis=1, prepend=0.0)).sum(axis=2)
    if flat:
        size = np.abs(weights).sum(axis=2)
        traded[:, days] = size[:, days]
        last = np.append(days[1:], len(inside)) - 1
        traded[:, last] += size[:, last]
    earned -= cost * traded
    return np.add.reduceat(earned, days, axis=1)


def sharpe_ratios(daily: np.ndarray, *, days_per_year: int) -> np.ndarray:
    """The annual Sharpe ratio of each row of daily returns; 0 where all its days are equal, and below 2 days."""
    if daily.shape[1] < 2:
        return np.zeros(len(daily))
    moved = daily.max(axis=1) > daily.min(axis=1)
    deviation = daily.std(axis=1, ddof=1)
    ratio = np.divide(daily.mean(axis=1), deviation, out=np.zeros(len(daily)), where=moved & (deviation > 0))
    return ratio * np.sqrt(days_per_year)


def to_p(own: float, drawn: np.ndarray) -> float:
    """The p-value of a permutation test, (1 + draws at least as good) / (1 + draws): ties count against us.

    Phipson & Smyth 2010, doi:10.2202/1544-6115.1585. What differs in the last digits alone is a tie.
    """
    close = 1e-9 * max(1.0, abs(own))
    return float((1 + np.count_nonzero(drawn >= own - close)) / (1 + len(drawn)))


def deal_within(groups: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """For each draw and unit the unit whose content it gets, (draws, units): dealt anew within each of `groups`."""
    order = np.argsort(groups, kind="stable")
    keys = rng.random((draws, len(groups)))
    dealt = np.lexsort((keys, np.broadcast_to(groups, keys.shape)), axis=-1)
    out = np.empty_like(dealt)
    out[:, order] = dealt
    return out


def turn(days: np.ndarray, bars: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """For each draw and bar the bar whose news it gets, (draws, bars): turned in a circle by whole days.

    A bar takes from its own place in another day, from that day's last bar where it is shorter. No two draws turn by as
    many days, and none by none; with fewer days than draws each turn is drawn once.
    """
    count = len(days)
    by = rng.permutation(np.arange(1, count))[:draws]
    lengths = np.diff(np.append(days, bars))
    day = np.repeat(np.arange(count), lengths)
    place = np.arange(bars) - days[day]
    other = (day - by[:, None]) % count
    return days[other] + np.minimum(place, lengths[other] - 1)


def deal_contents(probabilities: np.ndarray, unit: np.ndarray, dealt: np.ndarray) -> np.ndarray:
    """The probabilities of each world, (worlds, 3, texts), where unit u says what the unit dealt[world, u] said.

    `probabilities` is (3, texts) and `unit` the number of each text's. A unit of several texts hands them on in their
    order, again from the first where the other has more.
    """
    order = np.argsort(unit, kind="stable")
    counts = np.bincount(unit, minlength=dealt.shape[1])
    starts = np.cumsum(counts) - counts
    place = np.empty(len(unit), dtype=np.int64)
    place[order] = np.arange(len(unit)) - np.repeat(starts, counts)
    giver = dealt[:, unit]
    return np.moveaxis(probabilities[:, order[starts[giver] + place % counts[giver]]], 0, 1)


def flip_contents(probabilities: np.ndarray, unit: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """The probabilities of each world, (worlds, 3, texts), with good and bad exchanged where flipped[world, unit]."""
    out = np.repeat(probabilities[None], len(flipped), axis=0)
    exchanged = flipped[:, unit]
    out[:, NEGATIVE] = np.where(exchanged, probabilities[POSITIVE], probabilities[NEGATIVE])
    out[:, POSITIVE] = np.where(exchanged, probabilities[NEGATIVE], probabilities[POSITIVE])
    return out


def draw_entries(
    bars: int, symbols: int, draws: int, rng: np.random.Generator, *, days: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For each draw the bar whose weights each bar gets, (draws, bars), and the symbol whose each symbol gets.

    Bars are turned in a circle, by one or more; with `days`, the first bar of each, by whole days, and -1 stands for a
    place that the other day, being shorter, does not have. Symbols are dealt anew.
    """
    count = bars if days is None else len(days)
    source = turn_circle(bars, rng.integers(1, max(count, 2), draws), days=days)
    return source, np.argsort(rng.random((draws, symbols)), axis=1)


def turn_circle(bars: int, by: np.ndarray, *, days: np.ndarray | None = None) -> np.ndarray:
    """The bar whose content each bar gets, (len(by), bars), where all are turned in a circle by so many bars.

    With `days`, the first bar of each, by so many whole days: a bar gets that at its place in another day, -1 where
    that day is shorter.
    """
    if days is None:
        return (np.arange(bars) - by[:, None]) % bars
    lengths = np.diff(np.append(days, bars))
    day = np.repeat(np.arange(len(days)), lengths)
    place = np.arange(bars) - days[day]
    other = (day - by[:, None]) % len(days)
    return np.where(place < lengths[other], days[other] + place, -1)


def turn_weights(weights: np.ndarray, source: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The weights (bars, symbols) of each draw of `draw_entries`, (draws, bars, symbols)."""
    return np.where(source[:, :, None] >= 0, weights[source[:, :, None], column[:, None, :]], 0.0)
