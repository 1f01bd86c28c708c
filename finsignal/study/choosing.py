"""Settings chosen window by window, each from what lies before its test."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from finsignal import evidence, metrics
from finsignal.clock import days_per_year
from finsignal.config import ALWAYS, RunFile, to_parameters
from finsignal.errors import ConfigError
from finsignal.signals import Strategy, make_features, make_flat_state, make_signals, to_limited, to_weights
from finsignal.splits import Split
from finsignal.study.accounts import run_account
from finsignal.study.deciding import facts_beside
from finsignal.study.inputs import Inputs
from finsignal.tables import PARAMETERS, BacktestResult

MANY = 60  # accounts from which on a bar tells of the progress


@dataclass(frozen=True)
class Choice:
    """What one window chose from [search], and the net Sharpe ratios of that setting: None where there is none.

    known is the instant from which the values count. ratios are those of every setting tried, in the order in which
    [search] combines them: on validation, or on train where there is no validation.
    """

    split: Split
    known: pd.Timestamp
    values: Mapping[str, float] = field(default_factory=dict)
    tried: int = 1
    train: float | None = None
    validation: float | None = None
    ratios: tuple[float | None, ...] = ()

    @property
    def is_blind(self) -> bool:
        """Whether no setting had a ratio on each stretch, so that the one stated first stands unjudged."""
        stretches = ((self.split.train_start, self.train), (self.split.validation_start, self.validation))
        return any(start is not None and ratio is None for start, ratio in stretches)


def choose_settings(
    run: RunFile,
    inputs: Inputs,
    sentiment: pd.DataFrame,
    strategy: Strategy,
    splits: Sequence[Split],
    *,
    progress: bool = False,
) -> tuple[Choice, ...]:
    """For each window the combination of [search] whose worse net Sharpe ratio, of train and validation, is best.

    Where a window has but one of the two, that one counts. Each account starts flat at the beginning of its stretch and
    is marked at its end; its signals and weights are those of `decide` there, for features and signals are made once
    over the whole run, and a stretch takes its own rows. Equal ratios keep the combination stated first; one without a
    ratio (no trade) never wins over one that has it. Nothing that comes after a window's last stretch has a part in it.

    The values of walk-forward windows count from the decision of the first test bar on, those of a single cut from the
    close of the last bar that they were chosen on. progress: a bar on stderr where there are many accounts to run.
    """
    choices = [_unchosen(inputs.bars, split) for split in splits]
    if not run.search or not splits:
        return tuple(choices)
    settings = list_settings(run)
    if not settings:
        raise ConfigError(f"{run.path}: [search] holds no value to try.")
    ratios = _try_settings(run, inputs, sentiment, strategy, settings, splits, progress=progress)
    for window, choice in enumerate(choices):
        best = int(ratios[:, window].min(axis=1).argmax())
        train, validation = (float(r) if np.isfinite(r) else None for r in ratios[best, window])
        judged = ratios[:, window, 0 if choice.split.validation_start is None else 1].tolist()
        choices[window] = replace(
            choice,
            values=settings[best],
            tried=len(settings),
            train=train,
            validation=validation,
            ratios=tuple(r if np.isfinite(r) else None for r in judged),
        )
    return tuple(choices)


def list_settings(run: RunFile) -> list[dict[str, float]]:
    """Every combination of [search], in the order in which it is stated."""
    return [dict(zip(run.search, values, strict=True)) for values in itertools.product(*run.search.values())]


def _unchosen(bars: pd.DataFrame, split: Split) -> Choice:
    first = _position(bars, split.test_start)
    if split.train_start is None:
        return Choice(split, known=bars["close_time"].iloc[first - split.gap - 1])
    return Choice(split, known=bars["time"].iloc[first])


def _position(bars: pd.DataFrame, instant: pd.Timestamp) -> int:
    return int(bars["open_time"].searchsorted(instant))


def _try_settings(
    run: RunFile,
    inputs: Inputs,
    sentiment: pd.DataFrame,
    strategy: Strategy,
    settings: Sequence[Mapping[str, float]],
    splits: Sequence[Split],
    *,
    progress: bool,
) -> np.ndarray:
    """Net Sharpe ratios (settings, windows, train and validation): -inf for none, inf without such a stretch."""
    from tqdm import tqdm

    stretches = [
        (window, place, _position(inputs.bars, start), _position(inputs.bars, end))
        for window, split in enumerate(splits)
        for place, (start, end) in enumerate(
            [(split.train_start, split.train_end), (split.validation_start, split.validation_end)]
        )
        if start is not None and end is not None
    ]
    known = replace(inputs, bars=inputs.bars.iloc[: max(end for *_, end in stretches)])
    features = make_features(
        known.news,
        known.prices,
        sentiment,
        known.bars,
        run.symbols,
        rules=run.features,
        **facts_beside(known),
    )
    ratios = np.full((len(settings), len(splits), 2), np.inf)
    total = len(settings) * len(stretches)
    with tqdm(total=total, desc="choosing", unit="account", disable=not progress or total < MANY) as bar:
        for number, setting in enumerate(settings):
            parameters = to_parameters({**run.parameters, **setting}, known=ALWAYS)
            signals = make_signals(features, strategy=strategy, parameters=parameters)
            signals = to_limited(signals, known.prices, known.news, bars=known.bars, limits=run.limits)
            for window, place, start, end in stretches:
                ours = _rows_of(len(run.symbols), len(known.bars), start, end)
                result = _run_stretch(run, known, signals.take(ours), features.take(ours), end)
                sharpe = net_sharpe(result, known.bars, market=run.market)
                ratios[number, window, place] = -np.inf if sharpe is None else sharpe
                bar.update()
    return ratios


def _rows_of(symbols: int, bars: int, start: int, end: int) -> np.ndarray:
    """The rows of the bars from `start` to before `end` in a table of every symbol's bars, symbol after symbol."""
    return (np.arange(symbols)[:, None] * bars + np.arange(start, end)).ravel()


def _run_stretch(
    run: RunFile, inputs: Inputs, signals: pd.DataFrame, features: pd.DataFrame, end: int
) -> BacktestResult:
    """The account of a stretch that ends before the bar `end`: from flat, as `decide` would hold it."""
    inputs = replace(inputs, bars=inputs.bars.iloc[:end])
    weights, _ = to_weights(
        signals.reset_index(drop=True),
        inputs.prices,
        make_flat_state(run.symbols),
        bars=inputs.bars,
        rules=run.weights,
        exits=run.exits,
        features=features.reset_index(drop=True),
    )
    return run_account(run, inputs, weights)


def net_sharpe(result: BacktestResult, bars: pd.DataFrame, *, market: str, split: Split | None = None) -> float | None:
    """The annual Sharpe ratio of daily net returns, as `evidence.measure`'s; of a window's test days where given."""
    daily = evidence.to_daily(result.equity, bars, cash=float(result.settings["cash"]))
    if split is not None:
        daily = daily[daily.index.isin(split.test(bars)["session"])]
    return evidence.to_none(metrics.sharpe_ratio(daily, days_per_year=days_per_year(market)))


def to_chosen_parameters(run: RunFile, choices: Sequence[Choice]) -> pd.DataFrame:
    """The parameters table of a run: what it states, known always, and each window's values from when they count.

    Before the first window stands the first value of each name searched.
    """
    chosen = [choice for choice in choices if choice.values]
    if not chosen:
        return run.make_parameters()
    first = {name: values[0] for name, values in run.search.items()}
    always = to_parameters({**run.parameters, **first}, known=ALWAYS)
    later = [to_parameters(choice.values, known=choice.known) for choice in chosen]
    return PARAMETERS.to_table(pd.concat([always, *later]))
