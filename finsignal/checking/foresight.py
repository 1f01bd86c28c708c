"""Whether prices, scores or signals know what came next: correlations that no honest ones have."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd

from finsignal.checking.findings import Finding, Part
from finsignal.evidence.stories import to_opens
from finsignal.tables import to_integers

FEWEST_STORIES = 50
FEWEST_BARS = 100
KNOWING = 0.5  # a rank correlation with the next return above it: honest scores have 0.1
SURELY = 0.3  # what its interval must lie above as well
UNDONE = -0.5  # rank correlation of the move in a bar with the gap before it; real bars have -0.1 to 0.05
BACK = -0.75  # rank correlation of a gap with the moves before it; noise in closes alone gives -0.71 at most
BACK_BARS = 5  # moves over so many bars at most
LUCK = 1e-4  # of naming an honest symbol among all of a run
SAME = 0.9  # share of bars that open below the close before them, and at their lowest price
RIGHT = 0.9  # share of signals whose next bar went their way
SIGNAL = {"BUY": 1.0, "SELL": -1.0}


def check_foresight(signals: pd.DataFrame, prices: pd.DataFrame, bars: pd.DataFrame) -> Part:
    """Fails where the next bar goes the way of nearly all signals, which nobody can know: something is seen ahead.

    signals: SIGNALS of any bars. A bar's return is that from its open to the next. Bars without a move do not count.
    """
    names = sorted(set(signals["symbol"]))
    gain = to_gains(to_opens(prices, bars, names))
    side = signals["signal"].map(SIGNAL).fillna(0.0).to_numpy()
    row = pd.Index(names).get_indexer(signals["symbol"])
    at = np.searchsorted(to_integers(bars["open_time"]), to_integers(signals["open_time"]))
    got = gain[row, at] if len(signals) else np.empty(0)
    counted = (side != 0) & np.isfinite(got) & (got != 0)
    size = int(counted.sum())
    if size < FEWEST_STORIES:
        return short("foresight", size, f"{FEWEST_STORIES} signals with a move after them; there are {size}")
    share = float((np.sign(got[counted]) == side[counted]).mean())
    said = f"The next bar went the way of {share:.0%} of {size:,} signals."
    if share <= RIGHT:
        return Part("foresight", "passed", size, said)
    first = signals[counted].iloc[0]
    said += " Nobody knows that much: what they are made of holds the future."
    return failed("foresight", size, Finding("foresight", "check", "signal", first["symbol"], first["time"], said))


def check_opens(prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str]) -> Part:
    """Fails where opens and closes of a symbol do not belong to their bars.

    Where a gap takes back the moves before it, and the bar undoes the gap, the open is an older price than it says, or
    the close before it a later one: whoever buys there buys in the past. Gaps that hang on nothing before them, and are
    undone as well, are noise, as in thin names, and told. Or where nearly all bars that open below the close before
    them open at their low, and those above it at their high. Each symbol is looked at alone, with a bound for their
    number.
    """
    names = sorted(symbols)
    name = "opens and closes"
    opens, lows, highs, closes = (to_opens(prices, bars, names, column=c) for c in ("open", "low", "high", "close"))
    size = int(np.isfinite(opens).sum())
    looked, noisy = 0, (0.0, "")
    for row, symbol in enumerate(names):
        gap, move = opens[row, 1:] / closes[row, :-1] - 1, closes[row, 1:] / opens[row, 1:] - 1
        for column, edge, side in (("low", lows, gap < 0), ("high", highs, gap > 0)):
            moving = side & (highs[row, 1:] > lows[row, 1:])
            share = float((opens[row] == edge[row])[1:][moving].mean()) if moving.sum() >= FEWEST_BARS else 0.0
            if share > SAME:
                said = (
                    f"{share:.0%} of {int(moving.sum()):,} bars of {symbol} open at their {column}: no order fills at "
                    "the best price."
                )
                return failed(name, size, Finding("opens", "check", "open", symbol, bars["open_time"].iloc[0], said))
        good = np.isfinite(gap) & np.isfinite(move)
        if good.sum() < FEWEST_BARS or (gap[good] != 0).mean() < 0.5:
            continue
        looked += 1
        undone = _correlate(gap[good], move[good])
        if undone >= UNDONE:
            continue
        back, surely = _take_back(gap, closes[row], tests=len(names) * BACK_BARS)
        if surely < BACK:
            said = (
                f"What a bar of {symbol} does undoes the gap before it (rank correlation {undone:.2f}), and the gap "
                f"takes back the moves before it ({back:.2f}): opens are of an earlier bar than their closes, or "
                "closes of a later one."
            )
            return failed(name, size, Finding("opens", "check", "open", symbol, bars["open_time"].iloc[0], said))
        noisy = min(noisy, (undone, symbol))
    if noisy[1]:
        said = f"What a bar does undoes the gap before it (rank correlation {noisy[0]:.2f} of {noisy[1]}): opens are "
        return Part(
            name, "told", size, f"{said}noise, as where little is traded, or are of another time than they say."
        )
    if not looked and (np.isfinite(opens) & (highs > lows)).sum() < FEWEST_BARS:
        return short(name, size, f"{FEWEST_BARS} bars of a symbol; there are {size}")
    return Part(name, "passed", size, f"Opens follow from the closes before them ({size:,} bars).")


def _take_back(gap: np.ndarray, close: np.ndarray, *, tests: int) -> tuple[float, float]:
    """The lowest rank correlation of gaps with moves of one to five bars before them, and what it is at most."""
    found = (0.0, 0.0)
    reach = -NormalDist().inv_cdf(LUCK / tests)
    for length in range(1, BACK_BARS + 1):
        before = np.full(gap.shape, np.nan)
        before[length:] = close[length:-1] / close[: -1 - length] - 1
        good = np.isfinite(gap) & np.isfinite(before)
        if good.sum() < FEWEST_BARS:
            continue
        back = max(_correlate(gap[good], before[good]), -0.999999)
        found = min(found, (back, float(np.tanh(np.arctanh(back) + reach / np.sqrt(good.sum() - 3)))))
    return found


def check_scores(events: pd.DataFrame, prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str]) -> Part:
    """Fails where scores rank the returns of the bars after them as nobody can.

    events: `evidence.stories.make_events`. The return is that from the first open after the text to the next bar's.
    """
    names = sorted(symbols)
    name = "scores and returns"
    row = pd.Index(names).get_indexer(events["symbol"])
    gain = to_gains(to_opens(prices, bars, names))
    after = gain[row, events["entry"].to_numpy()] if len(events) else np.empty(0)
    score = events["score"].to_numpy()
    good = np.isfinite(after)
    size = int(good.sum())
    if size < FEWEST_STORIES or len(np.unique(score[good])) < 2 or len(np.unique(after[good])) < 2:
        return short(name, size, f"{FEWEST_STORIES} stories with different scores; there are {size}")
    found, _ = _know(row, events, score, after, good, tests=1)
    said = f"Scores and the next bar's return: rank correlation {found:.2f} over {size:,} stories."
    groups = [("", good), *((symbol, good & (row == place)) for place, symbol in enumerate(names))]
    for symbol, ours in groups:
        if ours.sum() < FEWEST_STORIES:
            continue
        found, low = _know(row, events, score, after, ours, tests=len(groups))
        if abs(found) > KNOWING and low > SURELY:
            of = f" of {symbol}" if symbol else ""
            said = (
                f"Scores{of} and the next bar's return: rank correlation {found:.2f} over {int(ours.sum()):,} stories. "
                "No honest score knows that much: they were made by someone who saw it, or their stamps are too early."
            )
            first = events.iloc[int(np.argmax(ours))]
            finding = Finding("scores", "check", "score", first["symbol"], first["known"], said)
            return failed(name, size, finding)
    return Part(name, "passed", size, said)


def _know(
    row: np.ndarray, events: pd.DataFrame, score: np.ndarray, after: np.ndarray, ours: np.ndarray, *, tests: int
) -> tuple[float, float]:
    """The rank correlation of some scores with returns, and how large it is at least, whichever its sign."""
    found = _correlate(score[ours], after[ours])
    # Fisher's interval, on the number of bars: stories of one bar have one return.
    bars = len(np.unique(np.stack([row, events["entry"]])[:, ours], axis=1).T)
    reach = -NormalDist().inv_cdf(0.025 / tests) / np.sqrt(max(bars - 3, 1))
    return found, float(np.tanh(np.arctanh(min(abs(found), 0.999999)) - reach))


def _correlate(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's rank correlation; 0 where one of both does not move."""
    ranks = [pd.Series(values).rank().to_numpy() for values in (left, right)]
    if min(rank.std() for rank in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def to_gains(opens: np.ndarray) -> np.ndarray:
    """Simple returns from each open to the next bar's, NaN where one of them did not print."""
    out = np.full(opens.shape, np.nan)
    out[:, :-1] = opens[:, 1:] / opens[:, :-1] - 1
    return out


def short(name: str, size: int, needs: str) -> Part:
    """A part that had too little to look at."""
    return Part(name, "could not be checked", size, f"Needs {needs}.")


def failed(name: str, size: int, finding: Finding) -> Part:
    """A part that found something."""
    return Part(name, "failed", size, finding.said, (finding,))
