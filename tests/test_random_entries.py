"""Random entries of the same exposure: what a strategy's timing has to beat."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from finsignal.backtest import Costs
from finsignal.config import RunFile
from finsignal.study import Inputs
from finsignal.study.accounts import run_account
from finsignal.study.random_entries import run_random_entries, to_random

FREE = Costs(fee=0.0, slippage=0.0, delisting_return=-0.5, delisted_after=1000)


@pytest.fixture
def targets() -> pd.DataFrame:
    """Three symbols over eight bars: two positions that overlap, one short, one symbol never held."""
    index = pd.date_range("2026-03-02", periods=8, freq="1h", tz="UTC")
    values = {"A": [0, 0.4, 0.4, 0.4, 0, 0, 0, 0], "B": [0, 0, -0.3, -0.3, 0, 0, 0, 0], "C": [0.0] * 8}
    return pd.DataFrame(values, index=index, dtype="float64")


def test_a_draw_keeps_each_bars_weights_each_positions_length_and_what_overlaps(targets: pd.DataFrame) -> None:
    rows = sorted(sorted(row) for row in targets.to_numpy().tolist())
    paths = {tuple(sorted(targets[symbol])) for symbol in targets}
    for seed in range(30):
        drawn = to_random(targets, np.random.default_rng(seed))
        assert sorted(sorted(row) for row in drawn.to_numpy().tolist()) == rows
        assert {tuple(sorted(drawn[symbol])) for symbol in drawn} == paths
        assert drawn.index.equals(targets.index)
        assert list(drawn.columns) == ["A", "B", "C"]


def test_a_draw_is_never_the_targets_at_their_own_bars(targets: pd.DataFrame) -> None:
    alone = targets[["A"]]
    for seed in range(30):
        assert not to_random(alone, np.random.default_rng(seed)).equals(alone)


def test_many_draws_reach_every_bar_and_every_symbol(targets: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    held = sum((to_random(targets, rng) != 0).to_numpy().astype(int) for _ in range(200))
    assert (held > 0).all()


def test_positions_left_at_the_close_are_dealt_as_whole_sessions_and_never_lie_across_a_close() -> None:
    sessions = np.array(["a"] * 4 + ["b"] * 3 + ["c"] * 4)  # the second is a half day
    index = pd.date_range("2026-03-02", periods=11, freq="1h", tz="UTC")
    held = pd.DataFrame({"A": [0, 0, 0.5, 0.5, 0, 0, 0.3, 0, 0.2, 0.2, 0.2]}, index=index)
    paths = {(0, 0, 0.5, 0.5), (0, 0, 0.3), (0, 0.2, 0.2, 0.2)}
    seen = set()
    for seed in range(20):
        drawn = to_random(held, np.random.default_rng(seed), sessions=sessions)["A"]
        for session in "abc":
            path = tuple(drawn[sessions == session])
            seen.add(path)
            # a whole session, cut to a half day, or a half day in a whole one, whose last bar then holds nothing
            assert path in paths | {p[:3] for p in paths} | {(*p, 0) for p in paths if len(p) == 3}
    assert (0, 0, 0.3, 0) in seen


def perfect_targets(inputs: Inputs, symbols: list[str], *, ahead: int) -> pd.DataFrame:
    """Weights that know the return from this bar's open to the next (ahead = 1), or that of another bar."""
    bars = inputs.bars
    rows = []
    for symbol in symbols:
        own = inputs.prices[inputs.prices["symbol"] == symbol].set_index("open_time")["open"].reindex(bars["open_time"])
        rises = (own.shift(-1) > own).to_numpy()
        weight = np.where(np.roll(rises, 1 - ahead), 0.9 / len(symbols), 0.0)
        rows.append(bars[["open_time", "time"]].assign(symbol=symbol, weight=weight))
    return pd.concat(rows).astype({"symbol": "str"}).sort_values(["symbol", "time"], ignore_index=True)


def test_timing_that_knows_tomorrow_is_better_than_every_random_entry(tiny_run: RunFile, tiny_inputs: Inputs) -> None:
    run = replace(tiny_run, costs=FREE, random_entries=39)
    weights = perfect_targets(tiny_inputs, sorted(run.symbols), ahead=1)
    entries = run_random_entries(run, tiny_inputs, run_account(run, tiny_inputs, weights))
    assert entries.better == 1 / 40  # the smallest that 39 draws can show
    assert len(entries.figures) == 39


@pytest.mark.slow
def test_timing_of_no_worth_stands_among_the_random_entries(tiny_run: RunFile, tiny_inputs: Inputs) -> None:
    run = replace(tiny_run, costs=FREE, random_entries=19)
    shares = []
    for ahead in (-40, -30, -20, -10):
        weights = perfect_targets(tiny_inputs, sorted(run.symbols), ahead=ahead)
        shares.append(run_random_entries(run, tiny_inputs, run_account(run, tiny_inputs, weights)).better)
    assert max(shares) > 0.2


def test_random_entries_are_as_exposed_as_the_strategy_and_the_same_when_run_again(
    tiny_run: RunFile, tiny_inputs: Inputs
) -> None:
    weights = perfect_targets(tiny_inputs, sorted(tiny_run.symbols), ahead=-7)
    result = run_account(tiny_run, tiny_inputs, weights)
    entries = run_random_entries(tiny_run, tiny_inputs, result)
    exposure = float(result.weights.abs().sum(axis=1).mean())
    assert entries.figures["exposure"].to_numpy() == pytest.approx([exposure] * 4)
    pd.testing.assert_frame_equal(entries.figures, run_random_entries(tiny_run, tiny_inputs, result).figures)
    assert entries.median["net_return"] == pytest.approx(entries.figures["net_return"].median())
