"""The questions of evidence, asked of a study one by one, and the verdict that their answers give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from finsignal import evidence
from finsignal.backtest import hold_weights
from finsignal.checking import FEWEST_BARS, check_run
from finsignal.checking.cutting import CUT, NOISE
from finsignal.clock import days_per_year
from finsignal.evidence.answers import Answer, Figure, Table, to_plain
from finsignal.evidence.lasting import answer_lasts
from finsignal.evidence.luck import bootstrap_figures
from finsignal.evidence.predicting import answer_predicts
from finsignal.evidence.search import answer_search
from finsignal.evidence.stories import make_events
from finsignal.signals import NO_EXITS
from finsignal.study.accounts import run_account
from finsignal.study.case import Case
from finsignal.study.inputs import list_cutoffs
from finsignal.study.paired import to_days
from finsignal.study.permuting import run_permutations
from finsignal.study.placebo import answer_news
from finsignal.study.request import Read
from finsignal.study.run import Study
from finsignal.study.tradable import answer_tradable
from finsignal.study.trials import list_trials

FAILED = "Parts of the check that failed"
INSTANTS = 2  # at which the future is another: one cut, one of noise
DRAWS = 199  # worlds of each kind: with 199 a p-value of 5 % is exactly ten of two hundred


def add_evidence(
    study: Study,
    *,
    trials: pd.DataFrame | None = None,
    draws: int = DRAWS,
    read: Read | None = None,
    progress: bool = False,
) -> Study:
    """The study with summary["evidence"]: a verdict and the answers to all questions, as plain values for JSON.

    Its verdict takes the place of the one that the figures alone gave, which stays as summary["account"]. trials are
    those of the whole study, this one among them (`trials.count_trials`); without them this one's own are counted
    alone. With `read`, what the study was made of, the run is checked for cheating too (`checking.check_run`), at fewer
    instants than `finsignal check` takes and without choosing its settings again. progress: bars on stderr.
    """
    if trials is None:
        trials = list_trials(study, now=study.case.inputs.bars["close_time"].iloc[-1])
    answers, looked_ahead = ask_questions(study.case, trials=trials, draws=draws, progress=progress), None
    if read is not None:
        answer, looked_ahead = _ask_check(read, study.case, progress=progress)
        answers = (*answers, answer)
    performance = study.summary["performance"]
    verdict = evidence.judge_evidence(
        answers,
        trades=performance["trades"],
        ruined=performance["ruined"],
        unseen=is_unseen(study.case),
        looked_ahead=looked_ahead,
    )
    found = {"verdict": verdict, "answers": [to_plain(answer) for answer in answers]}
    judged = {"word": verdict["word"], "reasons": verdict["facts"]}
    before = study.summary["verdict"]
    summary = {**study.summary, "verdict": judged, "account": before, "evidence": found}
    return replace(study, summary=summary, trials=trials)


def is_unseen(case: Case) -> bool | None:
    """Whether the tested period begins after all that the model and its base have learned from; None if unknown."""
    cutoffs = list_cutoffs(case.run, case.model)
    first = case.tested["open_time"].iloc[0]
    return all(first >= end for end, _ in cutoffs) if cutoffs else None


def ask_questions(
    case: Case, *, trials: pd.DataFrame, draws: int = DRAWS, progress: bool = False
) -> tuple[Answer, ...]:
    """The answers in the order of the report: luck, news, search, tradable, predicts, lasts.

    progress: a bar on stderr, one step a question.
    """
    from tqdm import tqdm

    questions: dict[str, Callable[[], Answer]] = {
        "luck": lambda: answer_luck(case, draws=draws),
        "news": lambda: answer_news(case),
        "search": lambda: answer_search(to_days(case).to_numpy(), trials, days_per_year=days_per_year(case.run.market)),
        "tradable": lambda: answer_tradable(case),
        "predicts": lambda: _ask_predicts(case),
        "lasts": lambda: _ask_lasts(case),
    }
    answers = []
    with tqdm(total=len(questions), desc="evidence", unit="question", disable=not progress) as bar:
        for key, ask in questions.items():
            bar.set_postfix_str(key)
            answers.append(ask())
            bar.update()
    return tuple(answers)


def answer_luck(case: Case, *, draws: int = DRAWS) -> Answer:
    """Could it be luck? Intervals of the account's own figures, and its place among worlds with the news dealt anew."""
    figures = bootstrap_figures(to_days(case).to_numpy(), days_per_year=days_per_year(case.run.market))
    worlds = run_permutations(case, draws=draws)
    dealt = [world.figure for world in worlds]
    asked = [figure for figure in dealt if figure.p is not None]
    sharpe = next(figure for figure in figures if figure.key == "sharpe")
    said = sharpe.needs and f"The account's Sharpe ratio cannot be judged: it needs {sharpe.needs}."
    if not said and sharpe.low is not None:
        could = "luck alone could have made it" if sharpe.low <= 0 else "more than luck alone makes"
        said = f"Over {sharpe.n} days the net Sharpe ratio is {sharpe.value:.2f}: {could}."
    if asked:
        worst = max(asked, key=lambda figure: figure.p or 0.0)
        said += f" Of worlds with the news dealt anew, up to {worst.p:.0%} did as well ({worst.name.lower()})."
    return Answer(
        "luck",
        "Could it be luck?",
        said,
        (*figures, *dealt),
        tuple(world.curve for world in worlds if world.curve is not None),
    )


def _ask_check(read: Read, case: Case, *, progress: bool) -> tuple[Answer, bool | None]:
    """Does it look ahead? What the check says, and whether it does: None where the futures could not be compared."""
    question, bars = "Does it look ahead?", len(case.inputs.bars)
    if bars < FEWEST_BARS:
        figure = Figure("failed", FAILED, "count", bars, "bars", needs=f"{FEWEST_BARS} bars; there are {bars}")
        return Answer("check", question, f"It cannot be checked: it needs {figure.needs}.", (figure,)), None
    checked = check_run(read, instants=INSTANTS, case=case, progress=progress)
    failed = [part for part in checked.parts if part.state == "failed"]
    skipped = sum(part.state == "could not be checked" for part in checked.parts)
    said = f"No part of {len(checked.parts)} says that it does"
    said += f"; {skipped} could not be checked." if skipped else "."
    if failed:
        said = f"Yes, by {len(failed)} of {len(checked.parts)} parts. {checked.findings[0].said}"
    figure = Figure("failed", FAILED, "count", len(checked.parts), "parts", value=float(len(failed)))
    rows = tuple((part.name, part.state, part.said) for part in checked.parts)
    table = Table("parts", "What was looked at", ("Part", "Result", "What was found"), ("", "", ""), rows)
    futures = [part.state == "passed" for part in checked.parts if part.name in (CUT, NOISE)]
    looked_ahead = True if failed else False if futures and all(futures) else None
    return Answer("check", question, said, (figure,), tables=(table,)), looked_ahead


def _ask_predicts(case: Case) -> Answer:
    run, inputs = case.run, case.inputs
    events = make_events(inputs.news, case.sentiment, inputs.prices, inputs.bars, run.symbols, rules=run.features)
    return answer_predicts(
        events,
        inputs.prices,
        inputs.bars,
        run.symbols,
        holding=run.weights.holding,
        market=run.market,
        since=case.since,
        index=inputs.index,
    )


def _ask_lasts(case: Case) -> Answer:
    run, inputs = case.run, case.inputs
    held = hold_weights(inputs.bars, list(run.symbols), gross=min(run.weights.gross, 1.0))
    market = run_account(replace(run, exits=NO_EXITS), inputs, held)
    cutoffs = [end for end, _ in list_cutoffs(run, case.model)]
    return answer_lasts(
        to_days(case),
        to_days(case, market),
        trained_until=cutoffs[0] if cutoffs else None,
        base_cutoff=cutoffs[1] if len(cutoffs) > 1 else None,
        days_per_year=days_per_year(run.market),
    )
