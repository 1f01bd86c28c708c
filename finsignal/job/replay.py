"""The past walked pass by pass, and the ledger that it leaves held against the decisions of the backtest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from finsignal.config import RunFile
from finsignal.errors import ConfigError
from finsignal.job.facts import make_cut, make_reader
from finsignal.ledger import TEXTS, Ledger, read_decisions, read_state, write_decisions
from finsignal.signals import Decided, make_flat_state
from finsignal.study.deciding import decide_run, texts_at_end
from finsignal.study.inputs import Inputs

COMPARED = ("signal", "score", "confidence", "weight", "reason")


@dataclass(frozen=True)
class Replay:
    """How the ledger of a replay compares with the backtest.

    differences counts decisions that are not the same to the last bit; `first` names the first of them and its cause,
    and is empty where there is none.
    """

    passes: int
    decisions: int
    orders: int  # changes of a target weight
    differences: int
    first: str


def run_replay(
    run: RunFile,
    inputs: Inputs,
    sentiment: pd.DataFrame,
    ledger: Ledger,
    *,
    parameters: pd.DataFrame,
    model: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
    now: pd.Timestamp,
    against: Decided | None = None,
    progress: bool = False,
) -> Replay:
    """Each bar that opens in [start, end) decided by a pass of its own, then held against the backtest's decisions.

    A pass knows the rows that its decision knew and no more, and its state from the ledger. The account starts flat.
    Of a run on a lake each pass reads the lake as a scheduled one does, for its own decision, but with all that was
    recorded by `now`, the instant at which the inputs were read: `proof.prove` is about what was recorded in time.
    `against` are the decisions of a run folder (`read_decided`); without, all bars are decided at once as the backtest
    does. The ledger must hold no decision of the strategy yet. Raises ConfigError where no bar of the run lies in the
    period, or the run folder's account began at another bar.
    """
    from tqdm import tqdm

    inside = (inputs.bars["open_time"] >= start) & (inputs.bars["open_time"] < end)
    positions = np.flatnonzero(inside)
    if not len(positions):
        raise ConfigError(f"{run.path}: no bar of the run opens from {start} to before {end}; choose another period.")
    strategy, flat = run.load_strategy(), make_flat_state(run.symbols)
    cut, scored = make_reader(run, inputs, now) if run.lake else make_cut(run, inputs), _by_article(sentiment)
    features = []
    for position in tqdm(positions, desc="replaying", unit="pass", disable=not progress):
        before = read_state(ledger, run.name)
        state = flat if before is None else before
        facts = cut(int(position), state)
        decision, opens = facts.bars["time"].iloc[-1], facts.bars["open_time"].iloc[-1]
        scores = scored(facts.news)
        decided = decide_run(run, facts, scores, state, strategy=strategy, parameters=parameters, since=opens)
        write_decisions(
            ledger,
            run.name,
            signals=decided.signals,
            weights=decided.weights,
            state=decided.state,
            texts=to_texts(texts_at_end(run, facts, scores)),
            model=model,
            pass_row={"now": decision, "outcome": "decided", "code": 0},
        )
        features.append(decided.features)
    if against is None:
        whole = replace(inputs, bars=inputs.bars.iloc[: int(positions[-1]) + 1])
        backtest = decide_run(run, whole, sentiment, flat, strategy=strategy, parameters=parameters, since=start)
    else:
        backtest = _cut(against, first=inputs.bars["open_time"].iloc[positions[0]], end=end)
    return compare(backtest, read_decisions(ledger, run.name), pd.concat(features, ignore_index=True), len(positions))


def read_decided(folder: Path) -> Decided:
    """The decisions that a study wrote into its run folder. Raises ConfigError where it holds none."""
    try:
        names = ("signals", "weights", "state", "features")
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}
    except (OSError, ValueError) as err:
        raise ConfigError(f"{folder}: no run folder with decisions ({err}). Name one that a backtest wrote.") from err
    return Decided(**tables)


def _cut(decided: Decided, *, first: pd.Timestamp, end: pd.Timestamp) -> Decided:
    began = decided.signals["open_time"].min()
    if began != first:
        raise ConfigError(
            f"replay: the account of the run folder began with the bar of {began}, the replay with {first}; let "
            "both begin at the same bar."
        )
    tables = {name: getattr(decided, name) for name in ("signals", "weights", "features")}
    return replace(decided, **{name: t[t["open_time"] < end].reset_index(drop=True) for name, t in tables.items()})


def to_texts(texts: pd.DataFrame) -> pd.DataFrame:
    """The texts behind decisions as the ledger keeps them; a text without a title is told by its own first words."""
    title = texts["title"].where(texts["title"] != "", texts["text"].str.slice(0, 200))
    return TEXTS.to_table(texts.assign(title=title)[list(TEXTS.columns)])


def _by_article(sentiment: pd.DataFrame) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """news -> the scores of its rows, in one look-up: a pass has the scores of what it knows."""
    keys = pd.MultiIndex.from_frame(sentiment[["article_id", "symbol"]])

    def scored(news: pd.DataFrame) -> pd.DataFrame:
        at = keys.get_indexer(pd.MultiIndex.from_frame(news[["article_id", "symbol"]]))
        return sentiment.iloc[at[at >= 0]].reset_index(drop=True)

    return scored


def compare(backtest: Decided, ledger: pd.DataFrame, features: pd.DataFrame, passes: int) -> Replay:
    """Decisions of the backtest against those of a ledger: every value must be the same."""
    key = ["symbol", "time"]
    expected = backtest.signals.assign(weight=backtest.weights["weight"])
    if "reason" not in expected.columns:
        expected["reason"] = ""
    found = ledger.sort_values(key, ignore_index=True)
    if not expected[key].equals(found[key]):
        raise ConfigError("replay: the ledger holds other decisions than those of the replay; give it an empty one.")
    differs = find_differing(expected, found)
    first = ""
    if differs.any():
        row = expected[differs].sort_values(["time", "symbol"]).index[0]
        first = _tell(backtest, expected.loc[row], found.loc[row], features)
    weights = backtest.weights.pivot(index="time", columns="symbol", values="weight").to_numpy()
    orders = int(np.count_nonzero(np.diff(weights, axis=0, prepend=0.0)))
    return Replay(passes, len(expected), orders, int(differs.sum()), first)


def find_differing(expected: pd.DataFrame, found: pd.DataFrame) -> np.ndarray:
    """For each row whether two tables of decisions, in the same order, differ in a value; NaN equals NaN."""
    differs = np.zeros(len(expected), dtype=bool)
    for column in COMPARED:
        old, new = expected[column], found[column]
        differs |= ~((old == new) | (old.isna() & new.isna())).to_numpy(dtype=bool)
    return differs


def find_column(expected: pd.Series, found: pd.Series) -> str:
    """The first column in which two differing decisions differ."""
    return next(c for c in COMPARED if expected[c] != found[c] and not (pd.isna(expected[c]) and pd.isna(found[c])))


def _tell(backtest: Decided, expected: pd.Series, found: pd.Series, features: pd.DataFrame) -> str:
    """The first difference in words, and what it comes from: a feature, the strategy's answer, or the state."""
    column = find_column(expected, found)
    where = f"{expected['symbol']} at {expected['time']}"
    what = f"{where}: {column} is {found[column]} in the ledger, {expected[column]} in the backtest"
    mine, theirs = (
        table[(table["symbol"] == expected["symbol"]) & (table["time"] == expected["time"])].iloc[0]
        for table in (features, backtest.features)
    )
    for name in backtest.features.columns[3:]:
        if mine[name] != theirs[name] and not (pd.isna(mine[name]) and pd.isna(theirs[name])):
            return f"{what}; cause: the pass saw {mine[name]} in the feature {name}, the backtest {theirs[name]}."
    if column == "weight":
        return f"{what}; cause: equal signals, so the states before them differ."
    return f"{what}; cause: equal features, so the strategy does not answer by them alone."
