"""Accounts that hold as much and as long as the strategy's, and enter at random: what its timing is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from finsignal import evidence
from finsignal.config import RunFile
from finsignal.evidence.worlds import turn_circle
from finsignal.study.accounts import run_account
from finsignal.study.inputs import Inputs
from finsignal.tables import BacktestResult

SEED = 7  # of the draws, so that a run repeated gives the same figures


@dataclass(frozen=True)
class RandomEntries:
    """How the strategy's account stands among those that entered at random. None where a figure is not defined.

    figures: of each account, one row, as `evidence.measure` gives them. median: the median of each figure. better: the
    share of the accounts, the strategy's own counted among them, whose net return is at least the strategy's.
    """

    figures: pd.DataFrame
    median: dict[str, Any]
    better: float


def run_random_entries(
    run: RunFile, inputs: Inputs, result: BacktestResult, *, progress: bool = False
) -> RandomEntries:
    """As many accounts as the run states whose targets are those of `result` in another order of time and symbols.

    Each draw turns the whole table of targets in a circle by a random number of bars, and deals the symbols' paths to
    the symbols at random: every bar's exposure, every position's length and weight, and how they overlap stay as they
    were; only when and in what is left to chance. A position that crosses the seam is cut in two. Costs are the same.
    Where positions are left at the close of their session, whole sessions are turned, so that none comes to lie across
    a close; a bar that a shorter session does not have is left out.

    The share `better` is the p-value of a permutation test, (1 + accounts as good) / (1 + accounts) (Phipson & Smyth
    2010, doi:10.2202/1544-6115.1585). progress: a bar on stderr.
    """
    from tqdm import tqdm

    rng = np.random.default_rng(SEED)
    sessions = inputs.bars.set_index("open_time")["session"].reindex(result.weights.index).to_numpy()
    rows = []
    for _ in tqdm(range(run.random_entries), desc="random entries", unit="account", delay=3, disable=not progress):
        drawn = to_random(result.weights, rng, sessions=sessions if run.exits.session_close else None)
        account = run_account(run, inputs, _to_long(drawn, inputs.bars))
        rows.append(evidence.measure(account, inputs.bars, market=run.market))
    figures = pd.DataFrame(rows).drop(columns="ruined").astype("float64")  # a date, of which there is no median
    own = float(result.equity.iloc[-1]) / float(result.settings["cash"]) - 1
    as_good = int((figures["net_return"] >= own).sum())
    median: dict[str, Any] = {name: evidence.to_none(float(figures[name].median())) for name in figures}
    median |= {name: round(figures[name].median()) for name in ("trades", "rejected")}
    return RandomEntries(figures, median, (1 + as_good) / (1 + run.random_entries))


def to_random(weights: pd.DataFrame, rng: np.random.Generator, *, sessions: np.ndarray | None = None) -> pd.DataFrame:
    """The targets (bars x symbols) turned in a circle, by at least one bar, their columns dealt anew.

    With the session of each bar, by whole sessions: each bar takes the targets of the bar at its place in another one.
    """
    values = weights.to_numpy()
    days = None if sessions is None else np.flatnonzero(np.concatenate([[True], sessions[1:] != sessions[:-1]]))
    count = len(values) if days is None else len(days)
    source = turn_circle(len(values), rng.integers(1, max(count, 2), 1), days=days)[0]
    turned = np.where(source[:, None] >= 0, values[source], 0.0)
    return pd.DataFrame(turned[:, rng.permutation(values.shape[1])], index=weights.index, columns=weights.columns)


def _to_long(weights: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    decided = bars.loc[bars["open_time"].isin(weights.index), ["open_time", "time"]]
    symbols = sorted(weights.columns)
    rows = pd.concat([decided.assign(symbol=symbol, weight=weights[symbol].to_numpy()) for symbol in symbols])
    return rows.astype({"symbol": "str"}).reset_index(drop=True)
