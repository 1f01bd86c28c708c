"""One pass: fetch what is new, score it, decide the bar that is due, put it on record."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.clock import bar_to_serve
from finsignal.config import RunFile
from finsignal.errors import ConfigError, FinsignalError, LedgerError, LookaheadError, RefusedError
from finsignal.fetching import Outcome, fetch_for
from finsignal.job.facts import make_job_bars, read_facts
from finsignal.job.replay import to_texts
from finsignal.lake import open_lake, seal
from finsignal.ledger import (
    Ledger,
    latest_pass,
    lock,
    open_ledger,
    read_decisions,
    read_passes,
    read_state,
    write_decisions,
    write_pass,
)
from finsignal.sentiment.score import Model
from finsignal.signals import make_flat_state
from finsignal.study.deciding import decide_run, read_parameters, texts_at_end, to_signal_rows
from finsignal.study.inputs import MOMENT, beside, check_seen
from finsignal.study.scoring import score_known

DONE, PARTLY, REFUSED, LOCKED, DOWN = 0, 3, 4, 5, 6  # exit codes; 1 and 2 are errors and wrong usage
RECENT = 200  # passes among which the last bar served is looked for first


@dataclass(frozen=True)
class Pass:
    """What a pass did. rows: for JSON, one dict a symbol; none where nothing was decided."""

    outcome: str
    code: int
    message: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    fetched: tuple[Outcome, ...] = ()


def run_pass(
    run: RunFile,
    clock: Callable[[], pd.Timestamp],
    load: Callable[[], Model],
    *,
    fetch: bool = True,
    progress: bool = False,
) -> Pass:
    """One pass at clock(): decides the bar with decision <= now < open, or says why there is nothing to do.

    Every pass is put on record, and every bar that none served as missed; nothing is ever dated back. The clock is read
    again before the decision is written: past the open it is too late. A pass for a bar that is decided already fetches
    nothing and works from what was recorded by then: the same answer is 'repeated', another is refused. `load` gives
    the model once it is needed; without `fetch` others fill the lake.

    Raises ConfigError for a run file that cannot be a job; LockedError where another pass is at work; RefusedError for
    a changed answer, a clock that went back and settings that no job may have; LookaheadError for a model that may have
    seen the period; LedgerError and SourceError where ledger or lake cannot be used.
    """
    check_job(run)
    begun, now = time.perf_counter(), clock()
    lake = open_lake(beside(run, run.lake), create=True)
    with closing(open_ledger(ledger_of(run))) as ledger, lock(ledger, run.name):
        last = latest_pass(ledger, run.name)
        if last is not None and last["now"] > now:
            raise RefusedError(
                f"{run.name}: it is {now}, but a pass at {last['now']} is on record. The clock went back; set it right."
            )
        state = _read_state(ledger, run)
        served = last_served(ledger, run.name)
        bars = make_job_bars(run, now, state, since=served)
        missed = note_missed(ledger, run, bars, now=now, served=served)
        position = bar_to_serve(bars, now)
        if position is None:
            ahead = bars[bars["time"] > now]
            wait = f"the next decision is at {ahead['time'].iloc[0]}" if len(ahead) else "no bar lies ahead"
            message = f"nothing to decide at {now}; {wait}{missed}"
            write_pass(ledger, run.name, {"now": now, "outcome": "quiet", "code": DONE, "message": message})
            return Pass("quiet", DONE, message)
        decision, opens = bars["time"].iloc[position], bars["open_time"].iloc[position]
        row: dict[str, Any] = {"now": now, "time": decision, "open_time": opens}
        try:
            made = read_decisions(ledger, run.name, decision, decision + MOMENT)
            with ThreadPoolExecutor(1) as pool:
                loading = pool.submit(load)  # while services are waited for
                fetched = tuple(fetch_for(run, lake, now=now, progress=progress)) if fetch and made.empty else ()
            if _is_down(run, fetched):
                message = f"no prices from {run.fetch.prices}: {fetched[0].error}"
                write_pass(ledger, run.name, {**row, "outcome": "source down", "code": DOWN, "message": message})
                return Pass("source down", DOWN, message, fetched=fetched)
            known_by = seal(lake, now) if made.empty else made["recorded"].iloc[0]
            before = state if made.empty else _read_state(ledger, run, before=decision)
            model = loading.result()
            notes = ["Simulated data: news and prices are made up."] if run.simulated else []
            notes += check_seen(run, model)
            facts = read_facts(run, lake, bars, position, recorded_by=known_by)
            sentiment, scored = score_known(lake, facts.news, model, now=now, names=run.names, progress=progress)
            strategy, parameters = run.load_strategy(), read_parameters(run, parameters_of(run))
            decided = decide_run(run, facts, sentiment, before, strategy=strategy, parameters=parameters, since=opens)
            texts = texts_at_end(run, facts, sentiment)
            late = clock()
            if late >= opens:
                message = f"the pass took until {late}, after the bar opened at {opens}; nothing was decided"
                write_pass(ledger, run.name, {**row, "outcome": "missed", "code": REFUSED, "message": message})
                return Pass("missed", REFUSED, message, fetched=fetched)
            told = [f"{o.source} {o.symbol}".strip() + f": {o.error}" for o in fetched if o.error]
            reasons = decided.signals["reason"] if "reason" in decided.signals else pd.Series([], dtype="str")
            held = decided.signals.loc[reasons[reasons != ""].index, "symbol"].tolist()
            told += [f"{len(held)} of {len(decided.signals)} symbols held: {', '.join(held)}"] if held else []
            outcome, code = ("partly", PARTLY) if told else ("decided", DONE)
            new = write_decisions(
                ledger,
                run.name,
                signals=decided.signals,
                weights=decided.weights,
                state=decided.state,
                texts=to_texts(texts),
                model=model.name,
                recorded=known_by,
                pass_row={
                    **row,
                    "outcome": outcome,
                    "code": code,
                    "message": "; ".join(told) + missed,
                    "settings": digest_of_settings(run),
                    "seconds": time.perf_counter() - begun,
                    "news": sum(o.new for o in fetched if o.source in ("yahoo news", "feed")),
                    "scored": scored,
                },
            )
        except FinsignalError as err:
            refused = isinstance(err, RefusedError | LookaheadError)
            failed = {"outcome": "refused", "code": REFUSED} if refused else {"outcome": "failed", "code": 1}
            with suppress(LedgerError):  # where the ledger is what failed, the error itself has to do
                write_pass(ledger, run.name, {**row, **failed, "message": str(err)})
            raise
    rows = to_signal_rows(decided, texts, model=model.name, parameters=parameters, notes=notes, exits=run.exits)
    if not new:
        return Pass("repeated", DONE, f"the bar of {opens} was decided before, with the same answer", rows)
    message = f"{len(rows)} symbols decided for the bar of {opens}"
    return Pass(outcome, code, "; ".join([message, *told]) + missed, rows, fetched)


def check_job(run: RunFile) -> None:
    """Refuses a run file that backtests and cannot be a job, saying what is missing."""
    if not run.lake:
        raise ConfigError(f"{run.path}: a job keeps what it fetches; set lake = 'FOLDER' in place of files.")
    if run.limits.stale_prices is None or run.limits.silent_news is None:
        raise ConfigError(
            f"{run.path}: a job needs to know when data is too old to decide on; state stale_prices and silent_news "
            "under [limits], in bars."
        )
    if run.decision_latency == pd.Timedelta(0):
        raise RefusedError(f"{run.path}: zero latency decides at the very open that it trades; no job can do that.")
    if run.exits.resting:
        raise RefusedError(
            f"{run.path}: exits that rest in the market fill inside a bar, of which a job sees nothing; set resting = "
            "false under [exits], and the same levels are judged at each decision."
        )
    if run.search and not run.job.parameters:
        raise RefusedError(
            f"{run.path}: the values of [search] are not fitted; set parameters under [job] to the parameters.parquet "
            "of a run folder, or state them under [parameters]."
        )


def ledger_of(run: RunFile) -> str:
    """The URL or path of a run's ledger; by default NAME.ledger.sqlite beside the lake."""
    named = run.job.ledger
    if "://" in named:
        return named
    lake = beside(run, run.lake)
    return str(beside(run, named)) if named else str(lake.parent / f"{run.name}.ledger.sqlite")


def parameters_of(run: RunFile) -> Path | None:
    """The file of fitted parameters that [job] names, or None."""
    return beside(run, run.job.parameters) if run.job.parameters else None


def digest_of_settings(run: RunFile) -> str:
    """16 hex digits over all that the run file states and its strategy's code, but not over where things lie."""
    settings = {k: v for k, v in run.to_settings().items() if k not in ("path", "job", "lake", "fetch", "end")}
    code = (run.path.parent / run.strategy).read_bytes()
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + code).hexdigest()[:16]


def last_served(ledger: Ledger, strategy: str) -> pd.Timestamp | None:
    """The decision of the newest bar on record, decided or missed; None before the first."""
    for last in (RECENT, None):
        passes = read_passes(ledger, strategy, last)
        times = passes.loc[passes["outcome"].isin(["decided", "partly", "missed"]), "time"]
        if times.notna().any():
            return times.max()
    return None


def note_missed(
    ledger: Ledger, run: RunFile, bars: pd.DataFrame, *, now: pd.Timestamp, served: pd.Timestamp | None
) -> str:
    """Puts the bars that opened since the last one on record as missed; they are never decided afterwards."""
    if served is None:
        return ""  # the first pass: nothing was promised before it
    gone = bars[(bars["time"] > served) & (bars["open_time"] <= now)]
    for bar in gone.itertuples():
        row = {"now": now, "time": bar.time, "open_time": bar.open_time, "outcome": "missed", "code": DONE}
        write_pass(ledger, run.name, {**row, "message": f"no pass decided the bar of {bar.open_time}"})
    return f"; {len(gone)} bars missed since {served}" if len(gone) else ""


def _read_state(ledger: Ledger, run: RunFile, before: pd.Timestamp | None = None) -> pd.DataFrame:
    state = read_state(ledger, run.name, before)
    if state is None:
        return make_flat_state(run.symbols)
    if state["symbol"].tolist() != sorted(run.symbols):
        raise RefusedError(
            f"{run.name}: the ledger holds {state['symbol'].tolist()}, the run file {sorted(run.symbols)}. A position "
            "would be forgotten, or come from nowhere; give the changed run file another name."
        )
    return state


def _is_down(run: RunFile, fetched: tuple[Outcome, ...]) -> bool:
    prices = [outcome for outcome in fetched if outcome.source == run.fetch.prices]
    return bool(prices) and all(outcome.error for outcome in prices)
