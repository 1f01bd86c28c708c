"""Whether prices, scores or signals know what came next: correlations that no honest ones have."""

from __future__ import annotations

from collections.abc import Sequence

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
SAME = 0.9  # share of bars that open at their lowest price
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
    """Fails where opens and closes do not belong to their bars.

    Where the move in a bar undoes the gap before it, the open is an older price than it says, or the close before it a
    later one: whoever buys there buys in the past. Or where nearly all bars open at their low or high.
    """
    names = sorted(symbols)
    name = "opens and closes"
    opens, lows, highs, closes = (to_opens(prices, bars, names, column=c) for c in ("open", "low", "high", "close"))
    size = int(np.isfinite(opens).sum())
    worst = (0.0, "")
    total = []
    for row, symbol in enumerate(names):
        gap, move = opens[row, 1:] / closes[row, :-1] - 1, closes[row, 1:] / opens[row, 1:] - 1
        good = np.isfinite(gap) & np.isfinite(move)
        if good.sum() < FEWEST_BARS or (gap[good] != 0).mean() < 0.5:
            continue
        total.append(_correlate(gap[good], move[good]))
        if total[-1] < worst[0]:
            worst = (total[-1], symbol)
    moving = np.isfinite(opens) & (highs > lows)
    for column, edge in (("low", lows), ("high", highs)):
        share = float((opens == edge)[moving].mean()) if moving.sum() >= FEWEST_BARS else 0.0
        if share > SAME:
            said = (
                f"{share:.0%} of {int(moving.sum()):,} bars open at their {column}: no order fills at the best price."
            )
            return failed(name, size, Finding("opens", "check", "open", names[0], bars["open_time"].iloc[0], said))
    if total and np.mean(total) < UNDONE:
        said = (
            f"What a bar does undoes the gap before it (rank correlation {np.mean(total):.2f}, {worst[0]:.2f} of "
            f"{worst[1]}): opens are of an earlier bar than their closes, or closes of a later one."
        )
        return failed(name, size, Finding("opens", "check", "open", worst[1], bars["open_time"].iloc[0], said))
    if not total and moving.sum() < FEWEST_BARS:
        return short(name, size, f"{FEWEST_BARS} bars of a symbol; there are {size}")
    return Part(name, "passed", size, f"Opens follow from the closes before them ({size:,} bars).")


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
    found = _correlate(score[good], after[good])
    # Fisher's interval, on the number of bars: stories of one bar have one return.
    reach = 1.96 / np.sqrt(max(len(np.unique(np.stack([row, events["entry"]])[:, good], axis=1).T) - 3, 1))
    low = float(np.tanh(np.arctanh(min(abs(found), 0.999999)) - reach))
    said = f"Scores and the next bar's return: rank correlation {found:.2f} over {size:,} stories."
    if abs(found) <= KNOWING or low <= SURELY:
        return Part(name, "passed", size, said)
    first = events.iloc[int(np.argmax(good))]
    said += " No honest score knows that much: they were made by someone who saw it, or their stamps are too early."
    return failed(name, size, Finding("scores", "check", "score", first["symbol"], first["known"], said))


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
