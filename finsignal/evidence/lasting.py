"""Does it last: what the account made in rising, falling and still markets, in each year, and after the cut-offs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finsignal.errors import TableError
from finsignal.evidence.answers import Answer, Curve, Figure, Table
from finsignal.metrics import sharpe_error, sharpe_ratio

QUESTION = "Does it last?"
TREND, STORM = 60, 20  # days of the benchmark's past that a day's state is judged by
TURN = 0.5  # deviations of the trend from 0 within which the market goes sideways
LEAST_DAYS, LEAST_MOVED = 30, 20  # of a part, and of those on which the account moved
SHARPE_ERROR = "Lo 2002, doi:10.2469/faj.v58.n4.2453; Mertens 2002, for returns that are not normal"
RULE = (
    f"A day is bull or bear by the {TREND} days of the benchmark before it: bull where their summed log returns are "
    f"more than {TURN} of their standard deviation (of {TREND} independent days) above 0, bear where as far below, "
    f"else sideways. It is stormy where the deviation of the {STORM} days before it is above the median of all such "
    "deviations until then, else calm. Nothing of the day itself is used."
)
STATES = {
    "bull": "Bull market",
    "bear": "Bear market",
    "sideways": "Sideways market",
    "calm": "Calm",
    "stormy": "Stormy",
}
SIDES = {
    "before_model": "Until the model's training data end",
    "after_model": "After the model's training data end",
    "before_base": "Until the knowledge of its base ends",
    "after_base": "After the knowledge of its base ends",
}


def answer_lasts(
    daily: pd.Series,
    benchmark: pd.Series,
    *,
    trained_until: pd.Timestamp | None,
    base_cutoff: pd.Timestamp | None,
    days_per_year: int,
) -> Answer:
    """The annual Sharpe ratio of the account in each part of the test, with 95 % intervals.

    daily: simple net return of each tested session, indexed by its ISO date; benchmark: of the market likewise, from as
    long before as there is, for a day's state is judged by the days before it (`to_states`). Figures: bull, bear,
    sideways, calm, stormy; year_2024 and so on; before_model and after_model, before_base and after_base where the
    cut-off is not None: a day counts as after from the date that follows the cut-off's. Each is a Sharpe ratio over n
    days, p that of its being 0 (t with n - 1 degrees of freedom, `metrics.sharpe_error`), for independent days. A part
    needs 30 days, 20 on which the account moved. Table "parts" has the mean returns a year (simple, not compounded) of
    account and benchmark.

    Raises TableError where a tested day is not in the benchmark, days are not in order or stand twice, or a return is
    not finite.
    """
    _check(daily, benchmark)
    parts = _to_parts(daily, benchmark, trained_until, base_cutoff)
    market = benchmark.reindex(daily.index)
    figures = tuple(_to_figure(key, name, daily[chosen], days_per_year=days_per_year) for key, name, chosen in parts)
    rows = tuple(
        (
            name,
            figure.n,
            *(_per_year(returns[chosen], days_per_year) if figure.n else None for returns in (daily, market)),
            figure.value,
            figure.low,
            figure.high,
            figure.needs,
        )
        for (_, name, chosen), figure in zip(parts, figures, strict=True)
    )
    columns = ("part", "days", "mean return a year", "benchmark a year", "Sharpe ratio", "low", "high", "needs")
    units = ("", "count", "percent", "percent", "ratio", "ratio", "ratio", "")
    table = Table("parts", "The account by parts of the test", columns, units, rows)
    said, notes = _say(figures), [RULE, *_note_unjudged(daily, benchmark)]
    notes += [
        f"There is no date {what}: before and after it cannot be told apart."
        for what, cutoff in (("of the model's training data", trained_until), ("of its base's knowledge", base_cutoff))
        if cutoff is None
    ]
    return Answer("lasts", QUESTION, said, figures, _draw(figures), (table,), tuple(notes))


def to_states(benchmark: pd.Series) -> pd.DataFrame:
    """Of each day of the benchmark its trend ("bull", "bear", "sideways") and its storm ("calm", "stormy").

    Judged by the returns of the days before alone, by the rule in RULE: the day's own return and later ones change
    nothing. "" where fewer than 60 days, or 40 for storm, come before it.
    """
    log = np.log1p(benchmark.clip(lower=-1 + 1e-9).astype(float)).shift(1)
    rolled = log.rolling(TREND)
    pace = rolled.sum() / (rolled.std() * np.sqrt(TREND)).replace(0.0, np.nan)
    # A market that stood still has no deviation to measure its trend by.
    pace = pace.mask(pace.isna() & rolled.sum().notna(), np.sign(rolled.sum().round(12)))
    trend = np.select([pace > TURN, pace < -TURN, pace.notna()], ["bull", "bear", "sideways"], default="")
    deviation = log.rolling(STORM).std().round(12)  # a running sum leaves rounding behind
    usual = deviation.expanding(min_periods=STORM + 1).median()
    storm = np.select([deviation > usual, deviation <= usual], ["stormy", "calm"], default="")
    return pd.DataFrame({"trend": trend, "storm": storm}, index=benchmark.index)


def _to_parts(
    daily: pd.Series, benchmark: pd.Series, trained_until: pd.Timestamp | None, base_cutoff: pd.Timestamp | None
) -> list[tuple[str, str, np.ndarray]]:
    """Key, name and the tested days of each part."""
    states = to_states(benchmark).reindex(daily.index)
    parts = [
        (key, name, (states["trend"] == key).to_numpy() | (states["storm"] == key).to_numpy())
        for key, name in STATES.items()
    ]
    dates = np.array([str(day) for day in daily.index], dtype=object)
    years = np.array([day[:4] for day in dates], dtype=object)
    parts += [(f"year_{year}", str(year), years == year) for year in sorted(set(years))]
    for cutoff, who in ((trained_until, "model"), (base_cutoff, "base")):
        if cutoff is not None:
            after = np.array([day > cutoff.strftime("%Y-%m-%d") for day in dates], dtype=bool)
            parts += [
                (f"{side}_{who}", SIDES[f"{side}_{who}"], days) for side, days in (("before", ~after), ("after", after))
            ]
    return parts


def _to_figure(key: str, name: str, daily: pd.Series, *, days_per_year: int) -> Figure:
    from scipy.special import stdtr, stdtrit

    days, moved = len(daily), int((daily != 0).sum())
    ratio = sharpe_ratio(daily, days_per_year=days_per_year)
    error = sharpe_error(daily, days_per_year=days_per_year)
    needs = ""
    if days < LEAST_DAYS:
        needs = f"{LEAST_DAYS} days; there are {days}"
    elif moved < LEAST_MOVED:
        needs = f"{LEAST_MOVED} days on which the account moved; there are {moved}"
    elif not (np.isfinite(ratio) and error > 0):
        needs = "returns that differ from day to day"
    if needs:
        return Figure(key, name, "ratio", days, "days", needs=needs, source=SHARPE_ERROR)
    reach = float(stdtrit(days - 1, 0.975)) * error
    p = float(2 * stdtr(days - 1, -abs(ratio / error)))
    said = f"Mean return {_per_year(daily, days_per_year):.1%} a year, standard error of the Sharpe ratio {error:.2f}."
    return Figure(
        key, name, "ratio", days, "days", ratio, ratio - reach, ratio + reach, p, said=said, source=SHARPE_ERROR
    )


def _per_year(daily: pd.Series, days_per_year: int) -> float:
    return float(daily.mean()) * days_per_year


def _draw(figures: tuple[Figure, ...]) -> tuple[Curve, ...]:
    """The Sharpe ratios of all parts that have one."""
    shown = [figure for figure in figures if figure.value is not None]
    if not shown:
        return ()
    return (
        Curve(
            "parts",
            "Sharpe ratio by parts of the test",
            tuple(float(n) for n in range(len(shown))),
            tuple(figure.value for figure in shown),
            "part",
            "Sharpe ratio",
            "ratio",
            "bars",
            tuple(figure.low for figure in shown),
            tuple(figure.high for figure in shown),
            tuple(figure.n for figure in shown),
            tuple(figure.name for figure in shown),
        ),
    )


def _say(figures: tuple[Figure, ...]) -> str:
    shown = [figure for figure in figures if figure.value is not None]
    if not shown:
        return f"Whether it lasts cannot be told: no part of the test has what it needs ({figures[0].needs})."
    gained = sum(figure.value > 0 for figure in shown if figure.value is not None)
    worst = min(shown, key=lambda figure: figure.value or 0.0)
    said = (
        f"Of {len(shown)} parts of the test that can be judged the account gained in {gained}; the lowest Sharpe ratio "
        f"is {worst.value:.2f} ({worst.name[0].lower()}{worst.name[1:]}, {worst.n} days)."
    )
    after = next((figure for figure in figures if figure.key == "after_model"), None)
    if after is not None and after.value is not None:
        said += f" After the model's training data end it is {after.value:.2f} over {after.n} days."
    elif after is not None:
        said += f" Of the days after the model's training data end nothing can be told: it needs {after.needs}."
    return said


def _note_unjudged(daily: pd.Series, benchmark: pd.Series) -> list[str]:
    states = to_states(benchmark).reindex(daily.index)
    early = int(((states["trend"] == "") | (states["storm"] == "")).sum())
    return [f"{early} tested days have too few days of the benchmark before them to be judged."] if early else []


def _check(daily: pd.Series, benchmark: pd.Series) -> None:
    for name, series in (("daily returns", daily), ("benchmark", benchmark)):
        if not np.isfinite(series.to_numpy(dtype=float)).all():
            raise TableError(f"lasting: the {name} hold a value that is not finite; expected simple returns.")
        if not series.index.is_monotonic_increasing:
            raise TableError(f"lasting: the days of the {name} are not in order; sort them by date.")
        if not series.index.is_unique:
            raise TableError(f"lasting: the {name} name the day {series.index[series.index.duplicated()][0]} twice.")
    missing = daily.index.difference(benchmark.index)
    if len(missing):
        raise TableError(
            f"lasting: {len(missing)} of {len(daily)} days are not among the benchmark's, the first {missing[0]}; "
            "expected the market's return of every tested day."
        )
