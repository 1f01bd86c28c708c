"""Permutation tests of a run: the real world among worlds in which what the news said was dealt anew.

Each world is decided as the run is: the same features, strategy, settings, limits and weights. One statistic is
computed in the same way for all: the Sharpe ratio of the days of a linear account, before costs where stories are dealt
anew, and else at the run's flat costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finsignal.errors import ConfigError, did_you_mean
from finsignal.evidence.answers import Curve, Figure
from finsignal.evidence.worlds import to_p
from finsignal.features import SENTIMENT_FEATURES
from finsignal.signals.portfolio import VOLATILITY, Wishes, to_shares
from finsignal.signals.weights import weigh_worlds
from finsignal.signals.worlds import ask_worlds, worlds_at_once
from finsignal.study.case import Case
from finsignal.study.dealing import PLANS, Plan, Stand, make_stand

NAMES = {
    "shuffled": "News dealt anew among the symbols of a day",
    "shifted": "News shifted against prices",
    "flipped": "Good and bad news exchanged",
    "random_entries": "Entries at random",
}
KINDS = tuple(NAMES)
LEAST_DRAWS = 19  # fewer never have a p-value of 5 %
MOST_BYTES = 256_000_000  # of the worlds that are decided side by side
PHIPSON = "Phipson & Smyth 2010, doi:10.2202/1544-6115.1585"


@dataclass(frozen=True)
class Permutation:
    """One permutation test.

    own and drawn are annual Sharpe ratios of the linear account, in the real world and in those drawn, before costs of
    "shuffled" and "flipped"; a world without a trade has 0. Where the test is not applicable `drawn` is empty, and the
    figure says what it needs.
    """

    kind: str  # one of KINDS
    own: float
    drawn: np.ndarray
    figure: Figure
    curve: Curve | None


def run_permutations(
    case: Case, *, kinds: Sequence[str] = KINDS, draws: int = 199, seed: int = 7, progress: bool = False
) -> tuple[Permutation, ...]:
    """The tests of `kinds`, in their order: how often worlds without a signal do as well as the real one.

    shuffled: what stories said is dealt anew among the stories of one session, of all symbols. A story is one unit with
    its repeats. Not applicable to one symbol, nor where hardly a session has stories of two.
    shifted: the news is turned in a circle by whole sessions against the prices, all symbols together.
    flipped: good and bad are exchanged in stories drawn at random, so that each symbol has as many good stories as it
    had: exchanging every other one would call mostly good news in a rising market a signal.
    random_entries: the target weights are turned in a circle and dealt among the symbols.

    Only what is first known at a tested decision is dealt anew, and the settings stay. p = (1 + worlds at least as
    good) / (1 + worlds). The statistic is the annual Sharpe ratio of the daily returns, close to close, of an account
    that earns weight times return; lots and resting orders have no part in it. shifted and random_entries keep the
    order of what is traded, and so its costs: fee and slippage are paid for each change, in every world. shuffled and
    flipped do not: news that stays good or bad for a while is traded seldom, and dealt anew often, and such worlds
    would lose by costs alone. They are judged before costs, the real one too: they ask whether the news knew anything.
    None is judged on fewer than 20 sessions.
    progress: a bar on stderr. Raises ConfigError for an unknown kind and for fewer than 19 draws.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"evidence: kind {kind!r} is not one of {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    if draws < LEAST_DRAWS:
        raise ConfigError(f"evidence: {draws} draws cannot have a p-value of 5 %; state {LEAST_DRAWS} or more.")
    stand = make_stand(case)
    own = {costs: float(stand.judge(stand.weights[None], costs=costs)[0]) for costs in (False, True)}
    trades = bool(stand.weights.any())
    plans = {}
    for kind in kinds:
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        plans[kind] = (
            PLANS[kind](case, stand, draws, rng) if trades else Plan(0, "trades", needs="1 trade; there are 0")
        )
    drawn = _draw(case, stand, plans, progress=progress)
    return tuple(_tell(kind, own[plan.costs], drawn[kind], plan) for kind, plan in plans.items())


def _tell(kind: str, own: float, drawn: np.ndarray, plan: Plan) -> Permutation:
    if plan.needs:
        figure = Figure(kind, NAMES[kind], "ratio", plan.n, plan.of, needs=plan.needs, source=PHIPSON)
        return Permutation(kind, own, drawn, figure, None)
    p = to_p(own, drawn)
    as_good = round(p * (1 + len(drawn))) - 1
    when = "after costs" if plan.costs else "before costs"
    said = f"{as_good} of {len(drawn)} such worlds had a Sharpe ratio of {own:.2f} or more {when} (p = {p:.3f})."
    shown: dict[str, Any] = {"value": own, "p": p, "draws": len(drawn), "said": said, "source": PHIPSON}
    figure = Figure(kind, NAMES[kind], "ratio", plan.n, plan.of, **shown)
    count, edges = np.histogram(drawn, bins=20)
    curve = Curve(
        key=kind,
        name=NAMES[kind],
        x=tuple(((edges[:-1] + edges[1:]) / 2).tolist()),
        y=tuple(count.astype(float).tolist()),
        x_name=f"annual Sharpe ratio {when}",
        y_name="worlds",
        unit="count",
        kind="histogram",
        marks=((own, "own"),),
    )
    return Permutation(kind, own, drawn, figure, curve)


def _draw(case: Case, stand: Stand, plans: dict[str, Plan], *, progress: bool) -> dict[str, np.ndarray]:
    """The statistic of every world of every plan. Worlds of several kinds are decided side by side."""
    from tqdm import tqdm

    out = {kind: np.empty(plan.draws) for kind, plan in plans.items()}
    at_once = worlds_at_once(case.decided.features, most=MOST_BYTES)
    stacks: list[list[tuple[str, slice]]] = [[]]
    room = at_once
    total = sum(plan.draws for plan in plans.values())
    with tqdm(total=total, desc="worlds", unit="world", delay=3, disable=not progress) as bar:
        for kind, plan in plans.items():
            done = 0
            while done < plan.draws:
                part = slice(done, min(done + (at_once if plan.weigh else room), plan.draws))
                done = part.stop
                if plan.weigh is not None:
                    out[kind][part] = stand.judge(plan.weigh(part), costs=plan.costs)
                    bar.update(part.stop - part.start)
                    continue
                stacks[-1].append((kind, part))
                room -= part.stop - part.start
                if not room:
                    stacks.append([])
                    room = at_once
        for stack in filter(None, stacks):
            said = [say(part) for kind, part in stack if (say := plans[kind].say) is not None]
            weights = _decide(case, stand, said)
            for kind, part in stack:
                ours, weights = np.split(weights, [part.stop - part.start])
                out[kind][part] = stand.judge(ours, costs=plans[kind].costs)
            bar.update(sum(part.stop - part.start for _, part in stack))
    return out


def _decide(case: Case, stand: Stand, said: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The target weights of the worlds, (worlds, bars, symbols), by the run's own rules."""
    run, features = case.run, case.decided.features
    worlds = [moved.shape[1] for moved, _ in said]
    columns = {
        name: np.concatenate(
            [
                moved[place] if place < len(moved) else np.broadcast_to(own, (count, *own.shape))
                for (moved, _), count in zip(said, worlds, strict=True)
            ]
        )
        for place, (name, own) in enumerate(zip(SENTIMENT_FEATURES, stand.sent, strict=True))
    }
    answer = ask_worlds(features, columns, strategy=case.strategy, parameters=case.parameters)
    old = stand.stale | stand.silent[np.concatenate([source for _, source in said])]
    side = np.where(old, 0, answer.side)
    side, score, confidence, old = (np.moveaxis(part, 0, 1) for part in (side, answer.score, answer.confidence, old))
    by_volatility = run.weights.by_volatility
    volatility = features[VOLATILITY].to_numpy().reshape(len(run.symbols), -1).T if by_volatility else None
    share = to_shares(confidence, volatility, run.weights)
    return weigh_worlds(
        Wishes(side, score, confidence, share, old),
        case.inputs.prices,
        sorted(run.symbols),
        bars=case.inputs.bars,
        rules=run.weights,
        exits=run.exits,
    )
