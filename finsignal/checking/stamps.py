"""Whether stamps and prices can be what they are said to be: told from when the market moves, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from finsignal.checking.findings import Finding, Part, State
from finsignal.checking.foresight import check_opens, check_scores, failed, short, to_gains
from finsignal.evidence.stories import make_events, to_opens
from finsignal.signals import NewsRules
from finsignal.tables import to_integers

FEWEST_STORIES, FEWEST_SESSIONS = 50, 10
MOST_SOURCES = 20
CLEAR = 5.0  # standard errors: a dozen lags are looked at, in data that has heavy tails; more for many groups
STRONG = 0.5  # a reaction is plain where moves are half as large again as usual
BESIDE = 0.6  # of the reaction may stand at other lags before it, or the market moves around the news all the time
WHOLE = 0.99  # share of stamps without minutes or seconds that shows that none has any
OFTEN, MIDNIGHT = 0.5, 120  # share of texts at one time of day; seconds from midnight that are a date in disguise


@dataclass(frozen=True)
class _Moves:
    """Of each symbol and bar (symbols, bars): the return to the next open, and how unusual its size and volume are."""

    gain: np.ndarray
    signed: np.ndarray  # in units of the usual size
    unusual: dict[str, np.ndarray]  # by name, 0 where as usual, 1 where twice that
    session: np.ndarray  # of each bar


def check_stamps(
    news: pd.DataFrame,
    sentiment: pd.DataFrame,
    prices: pd.DataFrame,
    bars: pd.DataFrame,
    symbols: Sequence[str],
    *,
    rules: NewsRules,
) -> tuple[Part, ...]:
    """Four parts: the stamps of the news, their times of day, opens against closes, and scores against returns.

    Stamps fail where returns or volumes spike a constant number of bars after the texts were known and not before:
    where stamps are in a wrong zone, say when something was planned, or bars are stamped at their close and read as
    opens. That the market had moved with the texts before they came is told, and accuses nobody: news reports moves.
    Intervals are clustered by session (Cameron & Miller 2015, doi:10.3368/jhr.50.2.317). Where a part has too little
    to look at, or a market that shows no reaction anywhere, it says so: it could not be checked.
    """
    names = sorted(symbols)
    events = make_events(news, sentiment, prices, bars, names, rules=rules)
    moves = _make_moves(prices, bars, names)
    return (
        _check_reaction(news, events, moves, bars, names),
        _check_times_of_day(news),
        check_opens(prices, bars, names),
        check_scores(events, prices, bars, names),
    )


def _make_moves(prices: pd.DataFrame, bars: pd.DataFrame, names: list[str]) -> _Moves:
    session = pd.factorize(bars["session"])[0]
    place = pd.Series(session).groupby(session).cumcount().to_numpy()
    # The last bar of a session reaches over the night to the next open, and is a kind of its own.
    last = np.append(session[1:] != session[:-1], True)
    daily = bool((place == 0).all())
    slot = bars["open_time"].dt.day_of_week.to_numpy() if daily else np.where(last, -1, place)
    reach = 20 * max(round(len(bars) / (int(session.max()) + 1)), 1) + 1 if len(bars) else 1
    gain = to_gains(to_opens(prices, bars, names))
    volume = to_opens(prices, bars, names, column="volume")
    usual_move, usual_volume = (_to_usual(part, slot, reach) for part in (np.abs(gain), volume))
    with np.errstate(divide="ignore", invalid="ignore"):
        unusual = {
            "returns": np.minimum(np.abs(gain) / usual_move, 10) - 1,
            "volumes": np.minimum(volume / usual_volume, 10) - 1,
        }
        signed = np.clip(gain / usual_move, -5, 5)
    if len(names) > 3:
        signed = signed - np.nanmean(np.where(np.isfinite(signed).any(axis=0), signed, 0.0), axis=0)
    return _Moves(gain, signed, unusual, session)


def _to_usual(values: np.ndarray, slot: np.ndarray, reach: int) -> np.ndarray:
    """What is usual at that time of the session in the twenty sessions around: a check may look both ways."""
    out = np.full(values.shape, np.nan)
    for row, part in enumerate(values):
        series = pd.Series(part)
        by_slot = series.groupby(slot).transform("mean")
        level = (series / by_slot.where(by_slot > 0)).rolling(reach, center=True, min_periods=10).mean()
        out[row] = by_slot * level
    return np.where(out > 0, out, np.nan)


def _check_reaction(
    news: pd.DataFrame, events: pd.DataFrame, moves: _Moves, bars: pd.DataFrame, names: list[str]
) -> Part:
    name, size = "stamps of the news", len(events)
    # The bar from whose open to the next the text came: where an honest market reacts at once.
    at = np.searchsorted(to_integers(bars["open_time"]), to_integers(events["known"]), side="right") - 1
    row = pd.Index(names).get_indexer(events["symbol"])
    sessions = len(np.unique(moves.session[np.maximum(at, 0)])) if size else 0
    if size < FEWEST_STORIES or sessions < FEWEST_SESSIONS:
        needs = f"{FEWEST_STORIES} stories on {FEWEST_SESSIONS} days; there are {size} on {sessions}"
        return short(name, size, needs)
    day = len(bars) / (int(moves.session.max()) + 1)
    most = min(round(day) + 2 if day > 1.5 else 3, len(bars) // 4)
    lags = np.arange(-most, most + 1)
    source = events.merge(news[["article_id", "source"]].drop_duplicates("article_id"), on="article_id", how="left")
    # One source in a wrong zone, or the bars of one symbol, are outvoted by the others, so each is looked at alone.
    groups = [(np.ones(size, dtype=bool), "")]
    for column in ("source", "symbol"):
        for key, count in source[column].value_counts().items():
            if FEWEST_STORIES <= count < size and (column == "symbol" or len(groups) <= MOST_SOURCES):
                groups.append(((source[column] == key).to_numpy(), f" of {key or 'no source'}"))
    clear = -NormalDist().inv_cdf(NormalDist().cdf(-CLEAR) / len(groups))
    finding = None
    for ours, of in groups:
        finding = finding or _find_early(events, moves, row, at, lags, ours, of, clear)
    if finding is not None:
        return failed(name, size, finding)
    before, error = _measure(moves.signed, row, at, moves.session, [-3, -2, -1], events["score"].to_numpy())
    after, its_error = _measure(moves.signed, row, at, moves.session, [0, 1, 2], events["score"].to_numpy())
    around = [_measure(v, row, at, moves.session, [-1, 0, 1]) for v in moves.unusual.values()]
    state: State = "passed"
    told = [f"No move or volume stands a constant time after the texts ({size:,} stories)."]
    if before > 4 * error:
        state = "told"
        told.append("The market had moved with them before they came: they report moves, or come late.")
    if after > 4 * its_error:
        state = "told"
        told.append("It moved with them after they were known, as it would with news that tells, or stamps too early.")
    if state == "passed" and all(mean <= 2 * e for mean, e in [(after, its_error), *around]):
        state = "could not be checked"
        told = [f"No reaction to the texts is to be seen at any time ({size:,} stories), so none to be too late."]
    return Part(name, state, size, " ".join(told))


def _find_early(
    events: pd.DataFrame,
    moves: _Moves,
    row: np.ndarray,
    at: np.ndarray,
    lags: np.ndarray,
    ours: np.ndarray,
    of: str,
    clear: float,
) -> Finding | None:
    found = {what: _find_delay(v, row[ours], at[ours], moves.session, lags, clear) for what, v in moves.unusual.items()}
    # A bar later returns alone may spike because the news tells; volumes do so where the market hears it then.
    early = {what: lag for what, lag in found.items() if lag > 1 or (lag == 1 and set(found.values()) == {1})}
    for what, lag in early.items():
        first = events[ours].iloc[int(np.argmin(to_integers(events["known"])[ours]))]
        step = f"{lag} bar{'s' if lag > 1 else ''}"
        said = (
            f"The {what} of the market spike {step} after the texts{of} were known, and not when they came "
            f"({int(ours.sum()):,} stories): the stamps of the news are too early, or those of the bars too late, or "
            "the texts announce what comes then. Look at both zones, and at whether bars are stamped at their open."
        )
        return Finding("stamps", "check", "published", first["symbol"], first["known"], said)
    return None


def _find_delay(
    values: np.ndarray, row: np.ndarray, at: np.ndarray, session: np.ndarray, lags: np.ndarray, clear: float
) -> int:
    """The lag at which alone values spike after the texts; 0 where there is none."""
    means = np.array([_measure(values, row, at, session, [lag]) for lag in lags])
    later = np.flatnonzero(lags > 0)
    best = later[np.nanargmax(np.where(np.isfinite(means[later, 0]), means[later, 0], -np.inf))]
    mean, error = means[best]
    if not (mean >= STRONG and mean > clear * error):
        return 0
    if np.nanmax(means[lags <= 0, 0]) > BESIDE * mean:
        return 0
    lag = int(lags[best])
    difference, its_error = _measure(values, row, at, session, [lag], minus=0)
    return lag if difference > clear * its_error else 0


def _measure(
    values: np.ndarray,
    row: np.ndarray,
    at: np.ndarray,
    session: np.ndarray,
    lags: Sequence[int],
    weight: np.ndarray | None = None,
    *,
    minus: int | None = None,
) -> tuple[float, float]:
    """Mean over the stories of the sum over lags, and its standard error, clustered by session; NaN without any."""
    total = np.sum([_look(values, row, at + lag) for lag in lags], axis=0)
    if minus is not None:
        total = total - _look(values, row, at + minus)
    if weight is not None:
        total = total * (weight - weight.mean())
    good = np.isfinite(total)
    if not good.any():
        return np.nan, np.nan
    mean = float(total[good].mean())
    sums = np.bincount(session[at[good]], weights=total[good] - mean)
    clusters = len(np.unique(session[at[good]]))
    error = np.sqrt(np.square(sums).sum() * clusters / max(clusters - 1, 1)) / good.sum()
    return mean, float(error)


def _look(values: np.ndarray, row: np.ndarray, at: np.ndarray) -> np.ndarray:
    there = (at >= 0) & (at < values.shape[1])
    return np.where(there, values[row, np.clip(at, 0, values.shape[1] - 1)], np.nan)


def _check_times_of_day(news: pd.DataFrame) -> Part:
    name = "times of day"
    articles = news.drop_duplicates("article_id")
    stamps = articles["published"]
    days = int(stamps.dt.normalize().nunique())
    size = len(stamps)
    if size < FEWEST_STORIES or days < FEWEST_SESSIONS:
        needs = f"{FEWEST_STORIES} texts on {FEWEST_SESSIONS} days; there are {size} on {days}"
        return short(name, size, needs)
    second = to_integers(stamps) // 1_000_000 % 86_400
    values, counts = np.unique(second, return_counts=True)
    common, share = int(values[counts.argmax()]), float(counts.max() / size)
    shown = f"{common // 3600:02d}:{common // 60 % 60:02d}:{common % 60:02d} UTC"
    # A stamp that ends in :00 may have come at :59; it must not count before that.
    soonest = float((articles["time"] - stamps).min() / pd.Timedelta(seconds=1))
    for length, word in ((3600, "hour"), (60, "minute")):
        if (second % length == 0).mean() > WHOLE and soonest < length:
            said = f"All stamps are whole {word}s and count before they end: set precision to '{word}', if that is so."
            return Part(name, "told", size, said)
    if share < OFTEN:
        return Part(name, "passed", size, f"No time of day is common: {shown} has {share:.1%} of {size:,} texts.")
    said = f"{share:.0%} of {size:,} texts are stamped {shown}."
    if common > MIDNIGHT:
        return Part(
            name, "told", size, f"{said} If that is a date, set precision to 'date', or they are known too early."
        )
    said += " That is a date in disguise: set precision to 'date', for they came at any time of that day."
    first = articles[second == common].iloc[0]
    return failed(name, size, Finding("dates", "check", "published", first["symbol"], first["published"], said))
