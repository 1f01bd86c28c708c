"""Whether a strategy answers by its rows or by heart: asked about part of them, without the first, with others near."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from finsignal.checking.findings import Finding, Part
from finsignal.errors import FinsignalError
from finsignal.tables import to_integers

Ask = Callable[[pd.DataFrame], pd.DataFrame]  # features to signals, by a strategy loaded afresh

ENDS, NUMBERS, VALUES = "rows to come taken away", "the first rows taken away", "nearly the same rows"
KEYS = ("open_time", "time", "symbol")
PERIODS = ((840,), (60, 72, 84, 120, 168))  # bars: whoever counts to 5, 7 or 24 counts the same after one of them
LONGEST_COUNT = 100  # bars after which a rule that counts them may begin again
DRAWS = 3
NEXT_BARS = 4 * 86_400_000_000  # microseconds after an instant of which the grid stays: over a long weekend
NEARLY = 0.01  # of its value; what is kept for exact values is lost, what lies beyond a threshold mostly stays
FEWEST = 20  # BUY and SELL, to tell whether most of them changed


def check_by_heart(features: pd.DataFrame, ask: Ask, *, instants: int = 16, seed: int = 7) -> tuple[Part, ...]:
    """Three parts about the strategy alone, which is asked some thirty times.

    Rows to come taken away: the answers up to an instant are the same without what comes after it. Half of the instants
    are those before which a symbol moves most, so that who looks ahead on rare days alone is met there.
    The first rows taken away: answers that then change long after, though no other past changes them, go by row number.
    Whoever counts bars, every 22nd say, is told: taken away in whole counts of up to 100, the rows answer the same.
    Nearly the same rows: where most BUY and SELL are lost with the third digit of the features, they were kept for
    exact values.
    """
    rng = np.random.default_rng(seed)
    try:
        whole = ask(features)
    except FinsignalError as err:
        return (Part(ENDS, "could not be checked", 0, str(err)),)
    return (
        _check_ends(features, whole, ask, instants),
        _check_numbers(features, whole, ask, rng),
        _check_values(features, whole, ask, rng),
    )


def _check_ends(features: pd.DataFrame, whole: pd.DataFrame, ask: Ask, instants: int) -> Part:
    times = to_integers(features["time"])
    every = np.unique(times)
    compared, failed, half = 0, "", every[len(every) // 2]
    # The grid is known ahead: whoever looks at when the next bar opens, or a session ends, looks at a calendar.
    margin = min(NEXT_BARS, int(every[-1] - every[0]) // 10)
    filled = {name: np.nan if features[name].isna().any() else 0.0 for name in features.columns if name not in KEYS}
    for instant in _pick_instants(features, every, instants):
        past = times <= instant
        try:
            part = ask(_without_later(features, times, instant, margin, filled))
            part = part[(to_integers(part["time"]) <= instant)].reset_index(drop=True)
        except FinsignalError as err:
            failed = failed or str(err)
            if instant < half:
                continue  # too few rows may be too few for anyone
            when = pd.Timestamp(instant, unit="us", tz="UTC")
            said = f"Without the rows after {when} it does not answer at all, and with them it does: {err}"
            return Part(ENDS, "failed", compared, said, (Finding("cut", "check", "", "", when, said),))
        before = whole[past].reset_index(drop=True)
        compared += len(before)
        row, column = _first_difference(before, part)
        if row >= 0:
            at = before.iloc[row]
            found, usual = _show(part[column].iloc[row]), _show(at[column])
            said = (
                f"Without the rows after {pd.Timestamp(instant, unit='us', tz='UTC')}, signals.{column} of "
                f"{at['symbol']}, decided at {at['time']}, is {found} instead of {usual}."
            )
            return Part(
                ENDS, "failed", compared, said, (Finding("cut", "check", column, at["symbol"], at["time"], said),)
            )
    if not compared:
        return Part(ENDS, "could not be checked", 0, failed or "there are no rows")
    return Part(ENDS, "passed", compared, f"{compared:,} answers the same without the rows after them")


def _without_later(
    features: pd.DataFrame, times: np.ndarray, instant: int, margin: int, filled: dict[str, float]
) -> pd.DataFrame:
    """The rows up to an instant, and those of the next bars with nothing in them."""
    kept = times <= instant + margin
    later = (times > instant)[kept]
    out = features[kept].reset_index(drop=True)
    for name, value in filled.items():
        out[name] = out[name].mask(later, value)
    return out


def _pick_instants(features: pd.DataFrame, every: np.ndarray, count: int) -> list[int]:
    """Decisions spread over the grid, and those just before the largest moves of a symbol; the last is left out."""
    if len(every) < 2:
        return []
    spread = np.linspace(0, len(every) - 2, min(count, len(every) - 1)).astype(int)
    picked = set(every[spread[::2]].tolist())
    moves = features.get("ret_1")
    if moves is not None:
        order = np.argsort(-moves.abs().fillna(0.0).to_numpy(), kind="stable")
        for row in order:
            if len(picked) >= len(spread):
                break
            place = int(np.searchsorted(every, to_integers(features["time"].iloc[[row]])[0]))
            picked.add(int(every[max(place - 1, 0)]))
    return sorted(picked)


def _first_difference(before: pd.DataFrame, after: pd.DataFrame) -> tuple[int, str]:
    """The earliest row that differs, and its column; -1 where none does."""
    bad = _differing(before, after)
    rows = np.flatnonzero(bad.any(axis=1))
    if not len(rows):
        return -1, ""
    row = int(rows[np.argmin(to_integers(before["time"])[rows])])
    return row, ("signal", "score", "confidence")[int(bad[row].argmax())]


def _show(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _differing(before: pd.DataFrame, after: pd.DataFrame) -> np.ndarray:
    """Rows by columns signal, score, confidence: True where they are not the same but for the last digits."""
    columns = [(before["signal"] != after["signal"]).to_numpy()]
    for name in ("score", "confidence"):
        pair = before[name].to_numpy(dtype=float), after[name].to_numpy(dtype=float)
        columns.append(~np.isclose(*pair, rtol=1e-9, atol=1e-12, equal_nan=True))
    return np.column_stack(columns)


def _check_numbers(features: pd.DataFrame, whole: pd.DataFrame, ask: Ask, rng: np.random.Generator) -> Part:
    every = np.unique(to_integers(features["time"]))
    bars = len(every)
    periods = next((p for p in PERIODS if bars >= 2 * min(p)), None)
    if periods is None:
        needs = f"{2 * min(PERIODS[-1])} bars"
        return Part(NUMBERS, "could not be checked", 0, f"Needs {needs}; there are {bars}.")
    compared = 0
    changed: list[pd.Series] = []
    for period in [p for p in periods if bars >= 2 * p]:
        begin, late = every[period], every[(bars + period) // 2]
        try:
            found = _late_changes(features, whole, ask, begin, late)
            compared += int((to_integers(features["time"]) >= late).sum())
            if found is None:
                said = f"{compared:,} answers the same without the first {period} bars"
                return Part(NUMBERS, "passed", compared, said)
            others = [_late_changes(_other_past(features, begin, rng), whole, ask, None, late) for _ in range(DRAWS)]
        except FinsignalError as err:
            return Part(NUMBERS, "could not be checked", compared, str(err))
        if any(other is not None for other in others):
            said = "answers depend on rows long past, so they begin otherwise where a job's data begins"
            return Part(NUMBERS, "told", compared, said)
        changed.append(found)
    counted = _find_count(features, whole, ask, every)
    if counted:
        said = f"answers count to {counted} from the first bar, so they begin otherwise where a job's data begins"
        return Part(NUMBERS, "told", compared, said)
    row = changed[0]
    said = (
        f"Without the first {periods[0]} bars {row['symbol']} decided at {row['time']} is another answer, and no other "
        "past changes it: answers go by the number of the row, not by what is in it."
    )
    return Part(
        NUMBERS, "failed", compared, said, (Finding("by heart", "check", "signal", row["symbol"], row["time"], said),)
    )


def _find_count(features: pd.DataFrame, whole: pd.DataFrame, ask: Ask, every: np.ndarray) -> int:
    """The number of first bars without which the late answers stay as they are; 0 where there is none up to 100."""
    for count in range(2, min(LONGEST_COUNT, len(every) // 3) + 1):
        try:
            if _late_changes(features, whole, ask, every[count], every[(len(every) + count) // 2]) is None:
                return count
        except FinsignalError:
            continue
    return 0


def _late_changes(
    features: pd.DataFrame, whole: pd.DataFrame, ask: Ask, begin: int | None, late: int
) -> pd.Series | None:
    """The first answer from the instant `late` on that another beginning changes; None where there is none."""
    kept = np.ones(len(features), dtype=bool) if begin is None else to_integers(features["time"]) >= begin
    part, before = ask(features[kept].reset_index(drop=True)), whole[kept].reset_index(drop=True)
    bad = _differing(before, part).any(axis=1) & (to_integers(before["time"]) >= late)
    return before[bad].sort_values("time", kind="stable").iloc[0] if bad.any() else None


def _other_past(features: pd.DataFrame, until: int, rng: np.random.Generator) -> pd.DataFrame:
    """The same rows with other values before an instant: those of other rows, larger or smaller."""
    out = features.copy()
    past = np.flatnonzero(to_integers(features["time"]) < until)
    drawn = rng.permutation(past)
    for name in [name for name in features.columns if name not in KEYS]:
        values = features[name].to_numpy(copy=True)
        values[past] = values[drawn] * rng.uniform(0.3, 2)
        out[name] = values
    return out


def _check_values(features: pd.DataFrame, whole: pd.DataFrame, ask: Ask, rng: np.random.Generator) -> Part:
    out = features.copy()
    for name in [name for name in features.columns if name not in KEYS]:
        values = features[name].to_numpy()
        # A value of many rows is one that a text or a count has, and may lie on a threshold that was stated for it.
        alone = ~features[name].duplicated(keep=False).to_numpy()
        out[name] = np.where(alone, values * (1 + NEARLY * rng.standard_normal(len(values))), values)
    try:
        other = ask(out)
    except FinsignalError as err:
        return Part(VALUES, "could not be checked", 0, str(err))
    acted = ((whole["signal"] != "HOLD") | (other["signal"] != "HOLD")).to_numpy()
    size = int(acted.sum())
    if size < FEWEST:
        return Part(VALUES, "could not be checked", size, f"Needs {FEWEST} BUY or SELL; there are {size}.")
    changed = (whole["signal"] != other["signal"]).to_numpy() & acted
    share = float(changed.sum() / size)
    said = f"{share:.0%} of {size:,} BUY and SELL change where features change in their third digit"
    if share <= 0.5:
        return Part(VALUES, "passed", size, said)
    first = whole[changed].sort_values("time", kind="stable").iloc[0]
    said = f"{said}: they are kept for exact values, as of rows seen before."
    finding = Finding("by heart", "check", "signal", first["symbol"], first["time"], said)
    return Part(VALUES, "failed", size, said, (finding,))
