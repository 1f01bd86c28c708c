"""Answers of a run that never happened, with every kind of figure, curve and table that an answer may hold."""

from typing import Any

import numpy as np

from finsignal.evidence.answers import Answer, Curve, Figure, Table, to_plain

BOOTSTRAP = "Politis and Romano 1994, doi:10.1080/01621459.1994.10476870"
PERMUTED = "Phipson and Smyth 2010, doi:10.2202/1544-6115.1585"
EFFECT = "MacKinlay 1997, Journal of Economic Literature 35(1)"


def make_evidence(word: str = "cannot tell") -> dict[str, Any]:
    """The verdict and the six answers as plain values, as a summary holds them."""
    answers = (luck(), news(), search(), tradable(), predicts(), lasts())
    tests = [
        ("looked_ahead", "nothing looked ahead", None, "Whether it looks ahead was not checked: run finsignal check."),
        ("enough", "enough data", True, "There are 64 closed trades, 437 days and 212 effective stories: enough."),
        ("luck", "beyond luck", True, "Net Sharpe ratio 1.62, 95 % interval 0.31 to 2.94 over 437 days: above 0."),
        ("worlds", "it is the news", True, "With the news dealt anew it seldom does as well: flipped p = 0.015."),
        ("search", "survives the search", False, "The chance that its true Sharpe ratio is above the best is 71 %."),
        ("unseen", "not seen before", True, "The period begins after all that the model has learned from."),
    ]
    return {
        "verdict": {
            "word": word,
            "facts": [
                "The chance that its true Sharpe ratio is above the best that 48 trials without skill would show is "
                "71 %; it takes 95 %.",
                "Net Sharpe ratio 1.62, 95 % interval 0.31 to 2.94 over 437 days: above 0.",
                "With the news dealt anew it seldom does as well: shifted p = 0.020, flipped p = 0.015, random "
                "entries p = 0.045.",
            ],
            "rule": "It is called real where all of this holds: nothing looked ahead; there are 30 closed trades, 60 "
            "days and 30 effective stories or more; and the interval of the net Sharpe ratio lies above 0.",
            "tests": [dict(zip(("key", "name", "passed", "said"), test, strict=True)) for test in tests],
        },
        "answers": to_plain(answers),
    }


def histogram(key: str, name: str, own: float, *, seed: int, centre: float = 0.0) -> Curve:
    drawn = np.random.default_rng(seed).normal(centre, 0.8, 199)
    counts, edges = np.histogram(drawn, bins=18)
    middles = (edges[1:] + edges[:-1]) / 2
    return Curve(
        key, name, tuple(middles.tolist()), tuple(float(count) for count in counts), "annual Sharpe ratio",
        "number of worlds", "count", kind="histogram", marks=((own, f"this run {own:.2f}"),),
    )  # fmt: skip


def luck() -> Answer:
    return Answer(
        "luck", "Could it be luck?",
        "The account made 14.6 % after costs; with days drawn anew in blocks it made between 2.1 % and 31.5 % in 95 of "
        "100 histories.",
        figures=(
            Figure("net_return", "Net return", "percent", 437, "days", 0.146, 0.021, 0.315, draws=1000,
                   said="whole period, after costs", source=BOOTSTRAP),
            Figure("sharpe", "Sharpe ratio", "ratio", 437, "days", 1.62, 0.31, 2.94, draws=1000,
                   said="annual, after costs", source=BOOTSTRAP),
            Figure("max_drawdown", "Maximum drawdown", "percent", 437, "days", -0.083, -0.171, -0.049, draws=1000,
                   said="the band shows how deep it is in such histories", source=BOOTSTRAP),
            Figure("shuffled", "Contents shuffled on the day", "ratio", 31, "days", needs="two or more symbols; "
                   "there is 1", said="stories of a day change symbols", source=PERMUTED),
            Figure("shifted", "Dates shifted", "ratio", 212, "stories", 1.41, p=0.02, draws=199, source=PERMUTED,
                   said="what was said, turned against prices in a circle"),
            Figure("flipped", "Labels flipped", "ratio", 212, "stories", 1.41, p=0.015, draws=199, source=PERMUTED,
                   said="good news and bad news exchanged by the toss of a coin"),
            Figure("random_entries", "Random entries", "ratio", 64, "trades", 1.41, p=0.145, draws=199,
                   said="the same positions at other times", source=PERMUTED),
        ),
        curves=(
            histogram("shifted", "Dates shifted", 1.41, seed=1),
            histogram("flipped", "Labels flipped", 1.41, seed=2, centre=-0.3),
            histogram("random_entries", "Random entries", 1.41, seed=3, centre=0.6),
        ),
        notes=("Contents shuffled on the day: not applicable, the run has one symbol.",),
    )  # fmt: skip


def news() -> Answer:
    return Answer(
        "news", "Is it the news?", "The same strategy fed with what prices said made less; with names masked, as much.",
        figures=(
            Figure("price_only", "Against prices alone", "percent", 437, "days", 0.064, -0.021, 0.148, p=0.13,
                   said="a year, own minus a strategy that saw only prices"),
            Figure("calendar_only", "Against the calendar alone", "percent", 437, "days", 0.112, 0.018, 0.203, p=0.02,
                   said="a year, own minus the same instants with every text alike"),
            Figure("masked", "With company names masked", "percent", 437, "days", 0.004, -0.031, 0.036, p=0.81,
                   source="Glasserman and Lin 2023, arXiv:2309.17322"),
            Figure("masked_agreement", "Labels that stay when masked", "percent", 750, "texts", 0.941, 0.921, 0.956),
        ),
        tables=(
            Table("accounts", "The accounts beside each other", ("Account", "Net return", "Sharpe", "Trades"),
                  ("", "percent", "ratio", "count"),
                  (("this run", 0.146, 1.62, 64), ("prices alone", 0.079, 0.88, 71),
                   ("calendar alone", 0.021, None, 58), ("names masked", 0.141, 1.55, 63))),
        ),
    )  # fmt: skip


def search() -> Answer:
    trials = (1, 2, 5, 10, 20, 48, 100, 200, 500, 1000)
    deflated = (0.985, 0.96, 0.91, 0.86, 0.8, 0.71, 0.63, 0.56, 0.46, 0.39)
    return Answer(
        "search", "Was it the search?", "48 settings were tried; the best of 48 without skill would show 1.21.",
        figures=(
            Figure("trials", "Counted trials", "count", 48, "trials", 48.0, said="settings and runs of this study"),
            Figure("probabilistic_sharpe", "Probabilistic Sharpe ratio", "p", 437, "days", 0.985,
                   said="chance that the true ratio is above 0",
                   source="Bailey and Lopez de Prado 2012, doi:10.21314/JOR.2012.255"),
            Figure("expected_best", "Best of so many without skill", "ratio", 48, "trials", 1.21,
                   source="Bailey and Lopez de Prado 2014, doi:10.3905/jpm.2014.40.5.094"),
            Figure("deflated_sharpe", "Deflated Sharpe ratio", "p", 437, "days", 0.71,
                   said="chance that it is above the best of so many",
                   source="Bailey and Lopez de Prado 2014, doi:10.3905/jpm.2014.40.5.094"),
            Figure("minimum_track_record", "Minimum track record", "count", 437, "days", 268.0, said="days it takes"),
        ),
        curves=(
            Curve("deflated", "Deflated Sharpe ratio by number of trials", tuple(map(float, trials)), deflated,
                  "number of trials", "chance that it is above the best", "p", marks=((48.0, "48 counted"),)),
        ),
    )  # fmt: skip


def tradable() -> Answer:
    lags = ("0", "1 minute", "15 minutes", "1 bar", "1 day")
    return Answer(
        "tradable", "Could one trade it?",
        "It stands costs of up to 21 basis points a side, of which 10 were charged; a day later half is lost.",
        figures=(
            Figure("break_even_cost", "Break-even cost", "percent", 64, "trades", 0.0021, said="of value traded"),
            Figure("lag_1min", "One minute later", "percent", 64, "trades", -0.002, said="change of the net return"),
            Figure("lag_1bar", "One bar later", "percent", 61, "trades", -0.041, said="change of the net return"),
            Figure("lag_1day", "One day later", "percent", 58, "trades", -0.083, said="change of the net return"),
            Figure("capacity_1pct", "Cash at 1 % of volume", "cash", 128, "orders", 2_450_000.0,
                   said="95 % of orders take at most 1 % of their bar",
                   source="Toth and others 2011, doi:10.1103/PhysRevX.1.021006"),
            Figure("slots", "Capacity in slots", "count", 0, "bars", needs="the volume of bars; prices have none"),
        ),
        curves=(
            Curve("cost", "Net return by costs", (0.0, 0.5, 1.0, 2.0, 4.0), (0.27, 0.21, 0.146, 0.04, -0.17),
                  "times the charged costs", "net return", "percent", n=(64,) * 5, marks=((1.0, "charged"),)),
            Curve("lag", "Net return by delay", (0.0, 1.0, 15.0, 60.0, 1440.0), (0.146, 0.144, 0.13, 0.105, 0.063),
                  "added to when a text is known", "net return", "percent", kind="bars", labels=lags,
                  low=(0.02, 0.02, 0.0, -0.02, None), high=(0.31, 0.3, 0.28, 0.25, None)),
            Curve("capacity", "Net return by cash", (1e5, 1e6, 1e7, 1e8), (0.146, 0.14, 0.09, -0.06),
                  "cash at the start", "net return with market impact", "percent"),
        ),
        notes=("Impact by the square-root law with a coefficient of 1: it was not fitted to this market.",),
    )  # fmt: skip


def predicts() -> Answer:
    around = tuple(float(bar) for bar in range(-10, 21))
    rise = tuple(0.0002 * bar if bar < 0 else 0.004 * (1 - 0.8**bar) for bar in around)
    fall = tuple(-0.7 * value for value in rise)

    def band(values: tuple[float, ...], side: float) -> tuple[float, ...]:
        return tuple(value + side * (0.0008 + 0.0001 * abs(bar)) for value, bar in zip(values, around, strict=True))

    return Answer(
        "predicts", "Does the signal predict?", "Stories with higher scores are followed by higher returns for 7 bars.",
        figures=(
            Figure("effective_stories", "Effective stories", "count", 1738, "texts", 212.0,
                   said="repeats and stories of one bar count less", source="Kish 1965"),
            Figure("ic", "Information coefficient", "correlation", 212, "stories", 0.061, 0.012, 0.11, p=0.014,
                   said="rank correlation of score and return over 7 bars", source="Grinold and Kahn 1999"),
            Figure("half_life", "Half-life of the effect", "bars", 212, "stories", 3.4, 1.9, 6.2),
            Figure("quantile_spread", "Top minus bottom fifth", "percent", 84, "stories", 0.0041, -0.0006, 0.0089,
                   p=0.09),
            Figure("event_drift", "Drift after the news", "percent", 212, "stories", 0.0031, 0.0011, 0.0052, p=0.003,
                   said="signed by the score, over 7 bars", source=EFFECT),
            Figure("pre_drift", "Drift before the news", "percent", 212, "stories", -0.0004, -0.0011, -0.0001, p=0.03,
                   source=EFFECT),
        ),
        curves=(
            Curve("event_positive", "positive texts", around, rise, "bars from the news", "mean abnormal return",
                  "percent", low=band(rise, -1), high=band(rise, 1), n=(131,) * 31),
            Curve("event_negative", "negative texts", around, fall, "bars from the news", "mean abnormal return",
                  "percent", low=band(fall, -1), high=band(fall, 1), n=(81,) * 31),
            Curve("ic_by_horizon", "Information coefficient by horizon", (1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0),
                  (0.03, 0.045, 0.052, 0.06, 0.06, 0.04, None), "bars ahead", "rank correlation", "correlation",
                  low=(-0.02, -0.005, 0.004, 0.012, 0.01, -0.02, None),
                  high=(0.08, 0.095, 0.1, 0.11, 0.11, 0.1, None), n=(212,) * 7, marks=((7.0, "holding"),)),
            Curve("quantiles", "Return by fifth of the score", (1.0, 2.0, 3.0, 4.0, 5.0),
                  (-0.0019, -0.0004, 0.0001, 0.0009, 0.0022), "fifth of the score", "mean return", "percent",
                  kind="bars", labels=("lowest", "2", "3", "4", "highest"),
                  low=(-0.005, -0.003, -0.003, -0.002, -0.001),
                  high=(0.001, 0.002, 0.003, 0.004, 0.005), n=(42,) * 5),
        ),
        tables=(
            Table("quantiles", "Returns by fifth of the score", ("Fifth", "Stories", "Mean return", "Mean score"),
                  ("", "count", "percent", "ratio"),
                  (("lowest", 42, -0.0019, -0.61), ("2", 43, -0.0004, -0.12), ("3", 42, 0.0001, 0.08),
                   ("4", 43, 0.0009, 0.31), ("highest", 42, 0.0022, 0.72))),
        ),
    )  # fmt: skip


def lasts() -> Answer:
    def part(key: str, name: str, days: int, value: float, half: float) -> Figure:
        return Figure(key, name, "ratio", days, "days", value, value - half, value + half, said="annual Sharpe ratio")

    years = tuple((str(year), 21 + year % 7, 0.01 * (year % 5), 0.3 * (year % 4), 1.1) for year in range(2010, 2025))
    return Answer(
        "lasts", "Does it last?", "It earned in calm and in rising markets; in falling ones nothing can be told.",
        figures=(
            part("bull", "Rising market", 201, 1.9, 1.4), part("bear", "Falling market", 88, -0.4, 2.4),
            part("sideways", "Sideways market", 148, 1.2, 1.7), part("calm", "Calm market", 260, 2.1, 1.3),
            part("stormy", "Stormy market", 177, -1.6, 1.5),
            Figure("before_base", "Before the base's cut-off", "ratio", 12, "days", needs="30 days; there are 12"),
        ),
        tables=(
            Table("parts", "All parts", ("Part", "Days", "Return a year", "Sharpe", "Its error"),
                  ("", "count", "percent", "ratio", "ratio"), years),
        ),
        notes=("A market rises where its past 60 days did: known at the day, never afterwards.",),
    )  # fmt: skip
