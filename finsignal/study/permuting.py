"""Permutation tests of a run: the real world among worlds in which what the news said was dealt anew.

Each world is decided as the run is: the same features, strategy, settings, limits and weights. One statistic is
computed in the same way for all: the Sharpe ratio of the days of a linear account at the run's flat costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.backtest.arrays import to_market
from finsignal.backtest.cashflows import to_dividends, to_rates
from finsignal.clock import days_per_year
from finsignal.errors import ConfigError, did_you_mean
from finsignal.evidence.answers import Curve, Figure
from finsignal.evidence.worlds import (
    deal_contents,
    deal_within,
    earn,
    flip_contents,
    make_gains,
    sharpe_ratios,
    to_p,
    turn,
    turn_weights,
)
from finsignal.features import SENTIMENT_FEATURES, make_counted_texts
from finsignal.features.worlds import aggregate_worlds
from finsignal.signals import Limits, to_limited
from finsignal.signals.portfolio import VOLATILITY, Wishes, to_shares
from finsignal.signals.weights import weigh_worlds
from finsignal.signals.worlds import ask_worlds, worlds_at_once
from finsignal.study.case import Case
from finsignal.study.inputs import text_rules
from finsignal.tables import FUNDING, PROBABILITIES

KINDS = ("shuffled", "shifted", "flipped", "random_entries")
NAMES = {
    "shuffled": "News dealt anew among the symbols of a day",
    "shifted": "News shifted against prices",
    "flipped": "Good and bad news exchanged",
    "random_entries": "Entries at random",
}
LEAST_SESSIONS = 20  # with fewer turns no p-value reaches 5 %
LEAST_STORIES = 10  # with fewer to deal or to flip chance has too few worlds
MOST_BYTES = 256_000_000  # of one stack of worlds
PHIPSON = "Phipson & Smyth 2010, doi:10.2202/1544-6115.1585"


@dataclass(frozen=True)
class Permutation:
    """One permutation test.

    own and drawn are annual Sharpe ratios of the linear account, in the real world and in those drawn; a world without
    a trade has 0. Where the test is not applicable `drawn` is empty and the figure says what it needs.
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
    its repeats. Not applicable to one symbol, nor where no session has stories of two.
    shifted: the news is turned in a circle by whole sessions against the prices, all symbols together.
    flipped: good and bad are exchanged in stories drawn at random, so that each symbol has as many good stories as it
    had: exchanging half of them would call a rising market with mostly good news a signal.
    random_entries: the target weights are turned in a circle and dealt among the symbols.

    Only what first counts in a tested bar is dealt anew, and the settings stay. p = (1 + worlds at least as good) /
    (1 + worlds). The statistic is the annual Sharpe ratio of the daily returns of an account that earns weight times
    return from open to open less fee and slippage for each change; lots and resting orders have no part in it.
    progress: a bar on stderr. Raises ConfigError for an unknown kind and for fewer than 19 draws.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"evidence: kind {kind!r} is not one of {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    if draws < 19:
        raise ConfigError(f"evidence: {draws} draws cannot reach a p-value of 5 %; state 19 or more.")
    stand = _make_stand(case)
    own = float(stand.judge(stand.weights[None])[0])
    plans: dict[str, _Plan] = {}
    needs: dict[str, str] = {}
    for kind in kinds:
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        plan = PLANS[kind](case, stand, draws, rng) if stand.weights.any() else "1 trade; there are 0"
        if isinstance(plan, str):
            needs[kind] = plan
        else:
            plans[kind] = plan
    drawn = _draw(case, stand, plans, progress=progress)
    out = []
    for kind in kinds:
        if kind in needs:
            figure = Figure(kind, NAMES[kind], "ratio", 0, _of(kind), needs=needs[kind], source=PHIPSON)
            out.append(Permutation(kind, own, np.empty(0), figure, None))
        else:
            out.append(_tell(kind, own, drawn[kind], plans[kind].n))
    return tuple(out)


def _of(kind: str) -> str:
    return "stories" if kind in ("shuffled", "flipped") else "days"


def _tell(kind: str, own: float, drawn: np.ndarray, n: int) -> Permutation:
    p = to_p(own, drawn)
    as_good = round(p * (1 + len(drawn))) - 1
    figure = Figure(
        key=kind,
        name=NAMES[kind],
        unit="ratio",
        n=n,
        of=_of(kind),
        value=own,
        p=p,
        draws=len(drawn),
        said=f"{as_good} of {len(drawn)} such worlds had a Sharpe ratio of {own:.2f} or more (p = {p:.3f}).",
        source=PHIPSON,
    )
    edges = np.histogram_bin_edges(drawn, bins=20)
    count, edges = np.histogram(drawn, bins=edges)
    curve = Curve(
        key=kind,
        name=NAMES[kind],
        x=tuple(float(x) for x in (edges[:-1] + edges[1:]) / 2),
        y=tuple(float(c) for c in count),
        x_name="annual Sharpe ratio",
        y_name="worlds",
        unit="count",
        kind="histogram",
        marks=((own, "own"),),
    )
    return Permutation(kind, own, drawn, figure, curve)


@dataclass(frozen=True)
class _Stand:
    """The run's own world as arrays of the tested bars, and what judges weights."""

    weights: np.ndarray  # (bars, symbols)
    gains: np.ndarray
    printed: np.ndarray
    days: np.ndarray  # the first bar of each session
    flat: bool  # whether positions are left at the close of their session
    cost: float
    year: int
    start: int  # position in the grid of the first tested bar
    sent: np.ndarray  # the sentiment features, (7, symbols, bars)
    stale: np.ndarray  # (bars, symbols): prices too old
    silent: np.ndarray  # news too old

    def judge(self, weights: np.ndarray) -> np.ndarray:
        """The annual Sharpe ratio of each world's weights, (worlds, bars, symbols)."""
        daily = earn(weights, self.gains, printed=self.printed, cost=self.cost, days=self.days, flat=self.flat)
        return sharpe_ratios(daily, days_per_year=self.year)


def _make_stand(case: Case) -> _Stand:
    run, inputs, decided = case.run, case.inputs, case.decided
    market = to_market(inputs.prices, decided.weights, inputs.bars, costs=run.costs, orders=run.orders, exits=run.exits)
    funding = FUNDING.empty() if inputs.funding is None else inputs.funding
    gains = make_gains(
        market,
        delisting_return=run.costs.delisting_return,
        rates=to_rates(market, run.costs.funding_rate, funding),
        dividends=to_dividends(market, inputs.actions),
        session_close=run.exits.session_close,
    )
    bars, symbols = market.target.shape
    sent = decided.features[list(SENTIMENT_FEATURES)].to_numpy().T.reshape(-1, symbols, bars)
    return _Stand(
        weights=market.target,
        gains=gains,
        printed=np.isfinite(market.opens),
        days=np.flatnonzero(np.concatenate([[True], market.sessions[:-1]])),
        flat=run.exits.session_close,
        cost=run.costs.fee + run.costs.slippage,
        year=days_per_year(run.market),
        start=len(inputs.bars) - bars,
        sent=sent,
        stale=_find_old(case, Limits(stale_prices=run.limits.stale_prices)),
        silent=_find_old(case, Limits(silent_news=run.limits.silent_news)),
    )


def _find_old(case: Case, limits: Limits) -> np.ndarray:
    """Where a limit turns a signal to HOLD, (bars, symbols)."""
    inputs, signals = case.inputs, case.decided.signals
    limited = to_limited(
        signals.drop(columns="reason", errors="ignore"), inputs.prices, inputs.news, bars=inputs.bars, limits=limits
    )
    shape = (len(case.run.symbols), -1)
    if "reason" not in limited:
        return np.zeros(len(limited), dtype=bool).reshape(shape).T
    return (limited["reason"] != "").to_numpy(dtype=bool).reshape(shape).T


@dataclass(frozen=True)
class _Plan:
    """The worlds of one kind.

    `say` gives for a stretch of worlds the sentiment features that differ, (columns, worlds, symbols, bars), and the
    bars whose silence of the news counts in each, (worlds, bars); `weigh` gives weights outright, in its place.
    """

    draws: int
    n: int
    say: Callable[[slice], tuple[np.ndarray, np.ndarray]] | None = None
    weigh: Callable[[slice], np.ndarray] | None = None


def _plan_shifted(case: Case, stand: _Stand, draws: int, rng: np.random.Generator) -> _Plan | str:
    sessions, bars = len(stand.days), len(stand.weights)
    if sessions < LEAST_SESSIONS:
        return f"{LEAST_SESSIONS} sessions to turn; there are {sessions}"
    source = turn(stand.days, bars, draws, rng)

    def say(part: slice) -> tuple[np.ndarray, np.ndarray]:
        return np.moveaxis(stand.sent[:, :, source[part]], 2, 1), source[part]

    return _Plan(len(source), sessions, say=say)


def _plan_random_entries(case: Case, stand: _Stand, draws: int, rng: np.random.Generator) -> _Plan | str:
    sessions = len(stand.days)
    if sessions < LEAST_SESSIONS:
        return f"{LEAST_SESSIONS} sessions to turn; there are {sessions}"
    days = stand.days if stand.flat else None

    def weigh(part: slice) -> np.ndarray:
        return turn_weights(stand.weights, part.stop - part.start, rng, days=days)

    return _Plan(draws, sessions, weigh=weigh)


@dataclass(frozen=True)
class _Told:
    """The texts that count in a tested bar or did shortly before; `free` are those dealt anew, of stories by number."""

    texts: pd.DataFrame  # with first counted from the grid's bar `begin`
    said: np.ndarray  # (3, texts)
    free: np.ndarray  # rows of texts
    unit: np.ndarray  # of each free row
    session: np.ndarray  # of each unit: that of its first bar
    code: np.ndarray  # of each unit: its first symbol
    begin: int


def _find_told(case: Case, stand: _Stand) -> _Told:
    rules = text_rules(case.run) | {"mode": "rolling"}
    texts = make_counted_texts(case.inputs.news, case.sentiment, case.inputs.bars, case.run.symbols, **rules)
    begin = max(stand.start - case.run.features.max_age, 0)
    texts = texts[texts["first"] >= begin].reset_index(drop=True)
    free = np.flatnonzero((texts["first"] >= stand.start).to_numpy())
    # By the instant first known, so that a unit is where its story was first told, and hands its texts on in order.
    order = texts.loc[free].sort_values(["known", "code", "article_id"], kind="stable").index.to_numpy()
    story = texts["story"].where(texts["story"] != "", "\x00" + texts["article_id"]).loc[order]
    unit, _ = pd.factorize(story)
    _, heads = np.unique(unit, return_index=True)
    place = np.empty(len(texts), dtype=np.int64)
    place[order] = unit
    bars = texts["first"].to_numpy()[order][heads] - stand.start
    session = np.searchsorted(stand.days, bars, side="right") - 1
    code = texts["code"].to_numpy()[order][heads]
    texts = texts.assign(first=texts["first"] - begin)
    said = np.stack([texts[name].to_numpy() for name in PROBABILITIES])
    return _Told(texts, said, order, place[order], session, code, begin)


def _plan_contents(
    case: Case, stand: _Stand, told: _Told, draws: int, n: int, deal: Callable[[slice], np.ndarray]
) -> _Plan:
    """Worlds in which the free texts say what `deal` gives, (worlds, 3, texts)."""
    rules, symbols = case.run.features, len(case.run.symbols)
    bars = len(case.inputs.bars)
    skip = stand.start - told.begin

    def say(part: slice) -> tuple[np.ndarray, np.ndarray]:
        worlds = part.stop - part.start
        said = np.repeat(told.said[None], worlds, axis=0)
        said[:, :, told.free] = deal(part)
        moved = aggregate_worlds(
            told.texts,
            said,
            bars=bars - told.begin,
            symbols=symbols,
            half_life=rules.half_life,
            max_age=rules.max_age,
            mode=rules.mode,
        )
        return moved[..., skip:], np.broadcast_to(np.arange(bars - stand.start), (worlds, bars - stand.start))

    return _Plan(draws, n, say=say)


def _plan_shuffled(case: Case, stand: _Stand, draws: int, rng: np.random.Generator) -> _Plan | str:
    if len(case.run.symbols) == 1:
        return "two symbols: among the stories of one there is nothing to deal"
    told = _find_told(case, stand)
    symbols = pd.Series(told.code).groupby(told.session).transform("nunique").to_numpy()
    dealt = symbols > 1
    if dealt.sum() < LEAST_STORIES:
        return f"{LEAST_STORIES} stories in sessions with stories of two symbols; there are {int(dealt.sum())}"
    groups = np.where(dealt, told.session, len(stand.days) + np.arange(len(dealt)))  # the others keep what they said
    givers = deal_within(groups, draws, rng)
    said = told.said[:, told.free]
    return _plan_contents(
        case, stand, told, draws, int(dealt.sum()), lambda part: deal_contents(said, told.unit, givers[part])
    )


def _plan_flipped(case: Case, stand: _Stand, draws: int, rng: np.random.Generator) -> _Plan | str:
    told = _find_told(case, stand)
    said = told.said[:, told.free]
    score = np.bincount(told.unit, weights=said[2] - said[0]) if len(told.unit) else np.empty(0)
    sign = np.sign(score)
    both = int(min((sign > 0).sum(), (sign < 0).sum()))
    if both < LEAST_STORIES:
        return f"{LEAST_STORIES} good and {LEAST_STORIES} bad stories; the fewer of the two are {both}"
    opinion = sign != 0
    groups = np.where(opinion, told.code, len(case.run.symbols) + np.arange(len(sign)))
    flipped = sign[deal_within(groups, draws, rng)] != sign
    return _plan_contents(
        case, stand, told, draws, int(opinion.sum()), lambda part: flip_contents(said, told.unit, flipped[part])
    )


PLANS: dict[str, Callable[[Case, _Stand, int, np.random.Generator], _Plan | str]] = {
    "shuffled": _plan_shuffled,
    "shifted": _plan_shifted,
    "flipped": _plan_flipped,
    "random_entries": _plan_random_entries,
}


def _draw(case: Case, stand: _Stand, plans: dict[str, _Plan], *, progress: bool) -> dict[str, np.ndarray]:
    """The statistic of every world of every plan; worlds of several kinds are decided side by side."""
    from tqdm import tqdm

    out = {kind: np.empty(plan.draws) for kind, plan in plans.items()}
    at_once = worlds_at_once(case.decided.features, most=MOST_BYTES)
    bar = tqdm(total=sum(p.draws for p in plans.values()), desc="worlds", unit="world", delay=3, disable=not progress)
    pieces: list[tuple[str, slice]] = []
    for kind, plan in plans.items():
        for lo in range(0, plan.draws, at_once):
            part = slice(lo, min(lo + at_once, plan.draws))
            if plan.weigh is not None:
                out[kind][part] = stand.judge(plan.weigh(part))
                bar.update(part.stop - part.start)
            else:
                pieces.append((kind, part))
    stacks: list[list[tuple[str, slice]]] = []
    room = 0
    for kind, part in pieces:
        if part.stop - part.start > room:
            stacks.append([])
            room = at_once
        stacks[-1].append((kind, part))
        room -= part.stop - part.start
    for stack in stacks:
        ratios = stand.judge(_decide(case, stand, [_say(plans[kind], part) for kind, part in stack]))
        at = 0
        for kind, part in stack:
            count = part.stop - part.start
            out[kind][part] = ratios[at : at + count]
            at += count
        bar.update(at)
    bar.close()
    return out


def _say(plan: _Plan, part: slice) -> tuple[np.ndarray, np.ndarray]:
    if plan.say is None:
        raise ConfigError("evidence: a plan that gives weights has nothing to say.")
    return plan.say(part)


def _decide(case: Case, stand: _Stand, said: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The target weights of the worlds, (worlds, bars, symbols), by the run's own rules."""
    run = case.run
    columns = {}
    for place, name in enumerate(SENTIMENT_FEATURES):
        parts = [
            moved[place]
            if place < len(moved)
            else np.broadcast_to(stand.sent[place], (moved.shape[1], *stand.sent.shape[1:]))
            for moved, _ in said
        ]
        columns[name] = np.concatenate(parts)
    answer = ask_worlds(case.decided.features, columns, strategy=case.strategy, parameters=case.parameters)
    source = np.concatenate([bars for _, bars in said])
    old = stand.stale | stand.silent[source]
    old = np.moveaxis(old, 0, 1)
    side, score, confidence = (np.moveaxis(part, 0, 1) for part in (answer.side, answer.score, answer.confidence))
    volatility = None
    if run.weights.by_volatility:
        volatility = case.decided.features[VOLATILITY].to_numpy().reshape(len(run.symbols), -1).T
    share = to_shares(confidence, volatility, run.weights)
    wishes = Wishes(np.where(old, 0, side), score, confidence, share, old)
    return weigh_worlds(
        wishes, case.inputs.prices, sorted(run.symbols), bars=case.inputs.bars, rules=run.weights, exits=run.exits
    )
