"""The job's own past, decided again: every decision on record from what the lake had recorded when it was made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import pandas as pd

from finsignal.config import RunFile
from finsignal.job.facts import make_job_bars, read_facts
from finsignal.job.passing import ledger_of, parameters_of
from finsignal.job.replay import find_column, find_differing
from finsignal.lake import open_lake
from finsignal.ledger import open_ledger, read_decisions, read_state
from finsignal.sentiment.score import Model
from finsignal.signals import make_flat_state
from finsignal.study.deciding import decide_run, read_parameters
from finsignal.study.inputs import beside
from finsignal.study.scoring import score_known


@dataclass(frozen=True)
class Proof:
    """How many decisions on record come out again to the last bit, and the first that does not, in words.

    other_model counts those of another model than the one given, which cannot be decided again with it.
    """

    decisions: int
    differences: int
    other_model: int
    first: str


def prove(run: RunFile, load: Callable[[], Model], *, now: pd.Timestamp, progress: bool = False) -> Proof:
    """Each bar on record decided again from its state before and from what the lake had recorded by its pass.

    A difference means that run file, strategy, lake or code are not what they were. Raises as `run_pass` where ledger
    or lake cannot be read.
    """
    from tqdm import tqdm

    lake, model = open_lake(beside(run, run.lake)), load()
    strategy, parameters = run.load_strategy(), read_parameters(run, parameters_of(run))
    with closing(open_ledger(ledger_of(run), create=False)) as ledger:
        made = read_decisions(ledger, run.name)
        mine = made[made["model"] == model.name].sort_values(["time", "symbol"], ignore_index=True)
        again = []
        for time, old in tqdm(mine.groupby("time"), desc="proving", unit="bar", disable=not progress):
            before, recorded, opens = (
                read_state(ledger, run.name, time),
                old["recorded"].iloc[0],
                old["open_time"].iloc[0],
            )
            state = make_flat_state(run.symbols) if before is None else before
            bars = make_job_bars(run, recorded, state)
            position = int(bars["open_time"].searchsorted(opens))
            facts = read_facts(run, lake, bars, position, recorded_by=recorded)
            scores, _ = score_known(lake, facts.news, model, now=now, names=run.names)
            decided = decide_run(run, facts, scores, state, strategy=strategy, parameters=parameters, since=opens)
            new = decided.signals.assign(weight=decided.weights["weight"])
            again.append(new if "reason" in new.columns else new.assign(reason=""))
    if not again:
        return Proof(0, 0, len(made), "")
    found = pd.concat(again, ignore_index=True)
    differs = find_differing(mine, found)
    first = ""
    if differs.any():
        was, now_is = (table[differs].iloc[0] for table in (mine, found))
        column = find_column(was, now_is)
        first = f"{was['symbol']} at {was['time']}: {column} was {was[column]}, is {now_is[column]}"
    return Proof(len(mine), int(differs.sum()), len(made) - len(mine), first)
