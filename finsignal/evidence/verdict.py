"""One verdict in words, by a stated rule: real, not real, or cannot tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from finsignal.evidence.answers import Answer, Figure
from finsignal.evidence.figures import FEW_TRADES

REAL, NOT_REAL, CANNOT_TELL = "real", "not real", "cannot tell"
FEW_DAYS = 60
FEW_STORIES = 30
LEVEL = 0.05
SURE = 0.95  # the deflated Sharpe ratio from which a result survives its search
TOO_SMALL = 0.5  # annual Sharpe ratio: where even the top of the interval lies below, there is nothing to trade
WORLDS = ("shuffled", "shifted", "flipped", "random_entries")  # keys of the figures of `luck` that deal anew
FEW_WORLDS = 2  # kinds of worlds that a verdict needs

RULE = (
    "It is called real where all of this holds: nothing looked ahead; there are "
    f"{FEW_TRADES} closed trades, {FEW_DAYS} days and {FEW_STORIES} effective stories or more; the 95 % interval of "
    "the net Sharpe ratio lies above 0; in each kind of world with the news dealt anew (two or more apply) at most 5 % "
    "did as well; the Sharpe ratio deflated by every counted trial is 0.95 or more; and neither the model nor its "
    "base had seen the period. It is called not real where it looked ahead, was ruined, or where even the top of the "
    f"interval of the Sharpe ratio lies below {TOO_SMALL} a year. All else is: cannot tell."
)


def judge_evidence(
    answers: Sequence[Answer],
    *,
    trades: int,
    ruined: str | None = None,
    unseen: bool | None = None,
    looked_ahead: bool | None = None,
) -> dict[str, Any]:
    """The verdict for JSON: word, the three facts that decide it, the rule, and each test passed, failed or neither.

    answers: those to "luck" (figures sharpe and the kinds of worlds), "search" (deflated_sharpe) and "predicts"
    (effective_stories). trades are closed ones. unseen: whether the period begins after all that model and base have
    seen; None where nobody knows. looked_ahead: what `finsignal check` found, None where it was not asked or could not
    compare. What is None was not passed, and then nothing is called real.
    """
    figures = {answer.key: {figure.key: figure for figure in answer.figures} for answer in answers}
    luck, search, predicts = (figures.get(key, {}) for key in ("luck", "search", "predicts"))
    tests = [
        _test_looked_ahead(looked_ahead),
        _test_enough(trades, luck.get("sharpe"), predicts.get("effective_stories")),
        _test_luck(luck.get("sharpe")),
        _test_worlds([luck[key] for key in WORLDS if key in luck]),
        _test_search(search.get("deflated_sharpe"), search.get("trials")),
        _test_unseen(unseen),
    ]
    sharpe = luck.get("sharpe")
    small = sharpe is not None and sharpe.high is not None and sharpe.high < TOO_SMALL
    if ruined or looked_ahead:
        word = NOT_REAL
    elif all(test["passed"] for test in tests):
        word = REAL
    else:
        word = NOT_REAL if small else CANNOT_TELL
    return {"word": word, "facts": _pick_facts(tests, ruined, small), "rule": RULE, "tests": tests}


def _pick_facts(tests: Sequence[dict[str, Any]], ruined: str | None, small: bool) -> list[str]:
    """The three sentences that decide: what failed first, then what nobody knows, then what holds and says most."""
    first = []
    if ruined:
        first.append(f"The account was ruined on {ruined}: its value fell to 0 or below.")
    weight = ("luck", "worlds", "search", "enough", "unseen", "looked_ahead")  # what says most where it holds
    doubt = ("looked_ahead", "luck") if small else ("looked_ahead", "unseen", "enough", "luck")  # and where it does not
    held = sorted((t for t in tests if t["passed"]), key=lambda t: weight.index(t["key"]))
    lacking = sorted(
        (t for t in tests if not t["passed"]), key=lambda t: (t["passed"] is None, [*doubt, *weight].index(t["key"]))
    )
    return [*first, *(test["said"] for test in [*lacking, *held])][:3]


def _test(key: str, name: str, passed: bool | None, said: str) -> dict[str, Any]:
    return {"key": key, "name": name, "passed": passed, "said": said}


def _floor(value: float) -> str:
    """Rounded down, so that what falls short of a bound is never shown as the bound."""
    return f"{math.floor(10 * value) / 10:g}"


def _test_looked_ahead(looked_ahead: bool | None) -> dict[str, Any]:
    name = "nothing looked ahead"
    if looked_ahead is None:
        return _test("looked_ahead", name, None, "Whether it looks ahead was not checked.")
    said = "It looks ahead: finsignal check says where." if looked_ahead else "With the future cut off, the past stays."
    return _test("looked_ahead", name, not looked_ahead, said)


def _test_enough(trades: int, sharpe: Figure | None, stories: Figure | None) -> dict[str, Any]:
    days = 0 if sharpe is None else sharpe.n
    told = 0.0 if stories is None or stories.value is None else stories.value
    lacks = [
        f"{_floor(count)} {what}, of {least} that it takes"
        for count, what, least in (
            (trades, "closed trades", FEW_TRADES),
            (days, "days", FEW_DAYS),
            (told, "effective stories", FEW_STORIES),
        )
        if count < least
    ]
    said = f"There are {trades} closed trades, {days} days and {told:.0f} effective stories"
    said = f"Too little to judge by: {'; '.join(lacks)}." if lacks else f"{said}: enough to judge by."
    return _test("enough", "enough data", not lacks, said)


def _test_luck(sharpe: Figure | None) -> dict[str, Any]:
    name = "beyond luck"
    if sharpe is None or sharpe.low is None or sharpe.high is None:
        needs = "" if sharpe is None or not sharpe.needs else f": it needs {sharpe.needs}"
        return _test("luck", name, None, f"The Sharpe ratio has no interval{needs}.")
    said = f"Net Sharpe ratio {sharpe.value:.2f}, 95 % interval {sharpe.low:.2f} to {sharpe.high:.2f}"
    if sharpe.low > 0:
        said += f" over {sharpe.n} days: above 0."
    elif sharpe.high < TOO_SMALL:
        said += f" over {sharpe.n} days: even its top lies below {TOO_SMALL}."
    else:
        said += f" over {sharpe.n} days: luck alone could have made it."
    return _test("luck", name, sharpe.low > 0, said)


def _test_worlds(kinds: Sequence[Figure]) -> dict[str, Any]:
    name = "better than news dealt anew"
    asked = [(figure, figure.p) for figure in kinds if figure.p is not None]
    if len(asked) < FEW_WORLDS:
        said = f"Too few kinds of worlds with the news dealt anew apply: {len(asked)}; a verdict needs {FEW_WORLDS}."
        return _test("worlds", name, None, said)
    worst, p = max(asked, key=lambda item: item[1])
    hardest = f"{worst.name.lower()}, the hardest of {len(asked)} kinds"
    if p <= LEVEL:
        return _test(
            "worlds", name, True, f"With the news dealt anew, {p:.1%} of worlds do as well or better ({hardest})."
        )
    said = f"With the news dealt anew, {p:.1%} of worlds do as well ({hardest}); it takes 5% or fewer."
    return _test("worlds", name, False, said)


def _test_search(deflated: Figure | None, trials: Figure | None) -> dict[str, Any]:
    name = "survives the search"
    if deflated is None or deflated.value is None:
        return _test("search", name, None, "The Sharpe ratio could not be deflated by the trials.")
    count = 1 if trials is None or trials.value is None else round(trials.value)
    of = "0" if count <= 1 else f"the best that {count} trials without skill would show"
    said = (
        f"The chance that its true Sharpe ratio is above {of} is {_floor(100 * deflated.value)}%; it takes {SURE:.0%}."
    )
    return _test("search", name, deflated.value >= SURE, said)


def _test_unseen(unseen: bool | None) -> dict[str, Any]:
    said = {
        True: "The period begins after all that the model and its base have learned from.",
        False: "The period begins before the end of what the model or its base has learned from.",
        None: "What the scores have seen is not known: state scores_until, or use a model that says so.",
    }[unseen]
    return _test("unseen", "not seen before", unseen, said)
