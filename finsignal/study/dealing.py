"""The worlds of a permutation test: what the news of a run might have said, had it known nothing of prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finsignal.backtest.arrays import to_market
from finsignal.backtest.cashflows import to_dividends, to_rates
from finsignal.clock import days_per_year
from finsignal.evidence.stories import number_stories
from finsignal.evidence.worlds import (
    deal_contents,
    deal_within,
    draw_entries,
    earn,
    flip_contents,
    make_gains,
    sharpe_ratios,
    turn,
    turn_weights,
)
from finsignal.features import SENTIMENT_FEATURES, make_counted_texts
from finsignal.features.worlds import aggregate_worlds
from finsignal.signals import Limits, to_limited
from finsignal.study.case import Case
from finsignal.study.inputs import text_rules
from finsignal.tables import FUNDING, PROBABILITIES

LEAST_SESSIONS = 20  # with fewer turns no p-value reaches 5 %, and with fewer days a Sharpe ratio says nothing
LEAST_STORIES = 10  # with fewer to deal or to flip chance has too few worlds


@dataclass(frozen=True)
class Stand:
    """The real world of a run as arrays of its tested bars, (bars, symbols), and what judges weights in any world."""

    weights: np.ndarray
    gains: tuple[np.ndarray, np.ndarray]  # as `make_gains` has them
    printed: np.ndarray
    days: np.ndarray  # the first bar of each session
    flat: bool  # whether positions are left at the close of their session
    cost: float  # fraction of the value traded
    year: int  # days
    start: int  # position in the grid of the first tested bar
    sent: np.ndarray  # the sentiment features, (columns, symbols, bars)
    stale: np.ndarray  # where prices are too old to decide on
    silent: np.ndarray  # where news is

    def judge(self, weights: np.ndarray, *, costs: bool) -> np.ndarray:
        """The annual Sharpe ratio of each world's weights, (worlds, bars, symbols), after costs or before them."""
        cost = self.cost if costs else 0.0
        daily = earn(weights, self.gains, printed=self.printed, cost=cost, days=self.days, flat=self.flat)
        return sharpe_ratios(daily, days_per_year=self.year)


def make_stand(case: Case) -> Stand:
    """The run's own world, from what was decided and the prices that followed."""
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
    return Stand(
        weights=market.target,
        gains=gains,
        printed=np.isfinite(market.opens),
        days=np.flatnonzero(np.concatenate([[True], market.sessions[:-1]])),
        flat=run.exits.session_close,
        cost=run.costs.fee + run.costs.slippage,
        year=days_per_year(run.market),
        start=len(inputs.bars) - bars,
        sent=decided.features[list(SENTIMENT_FEATURES)].to_numpy().T.reshape(-1, symbols, bars),
        stale=_find_old(case, Limits(stale_prices=run.limits.stale_prices)),
        silent=_find_old(case, Limits(silent_news=run.limits.silent_news)),
    )


def _find_old(case: Case, limits: Limits) -> np.ndarray:
    """Where a limit turns a signal to HOLD, (bars, symbols)."""
    inputs = case.inputs
    plain = case.decided.signals.drop(columns="reason", errors="ignore")
    limited = to_limited(plain, inputs.prices, inputs.news, bars=inputs.bars, limits=limits)
    old = (limited["reason"] != "").to_numpy(dtype=bool) if "reason" in limited else np.zeros(len(plain), dtype=bool)
    return old.reshape(len(case.run.symbols), -1).T


@dataclass(frozen=True)
class Plan:
    """The worlds of one test: `draws` of them, made a stretch at a time; or what the test needs and has not.

    `say` gives the first sentiment features of each world, (columns, worlds, symbols, bars), those that it does not
    give being the run's own, and the bar whose silence of the news counts at each bar, (worlds, bars). `weigh` gives
    weights (worlds, bars, symbols) outright, and no strategy is asked.

    costs: whether accounts pay the run's flat costs. Where what is traded keeps its order, they do. Where stories are
    dealt anew they do not, nor in the real world: news that stays good or bad for a while is traded seldom, and dealt
    anew often, and such worlds would lose by their costs alone.
    """

    n: int  # what can be dealt
    of: str = "days"  # what n counts
    draws: int = 0
    needs: str = ""
    costs: bool = True
    say: Callable[[slice], tuple[np.ndarray, np.ndarray]] | None = None
    weigh: Callable[[slice], np.ndarray] | None = None


def plan_shifted(case: Case, stand: Stand, draws: int, rng: np.random.Generator) -> Plan:
    """The news of all symbols turned in a circle by whole sessions; what is dealt is what features made of it."""
    sessions = len(stand.days)
    if sessions < LEAST_SESSIONS:
        return Plan(sessions, needs=f"{LEAST_SESSIONS} sessions to turn; there are {sessions}")
    source = turn(stand.days, len(stand.weights), draws, rng)

    def say(part: slice) -> tuple[np.ndarray, np.ndarray]:
        return np.moveaxis(stand.sent[:, :, source[part]], 2, 1), source[part]

    return Plan(sessions, draws=len(source), say=say)


def plan_random_entries(case: Case, stand: Stand, draws: int, rng: np.random.Generator) -> Plan:
    """The weights turned in a circle and dealt among the symbols, as `random_entries` does for whole accounts."""
    sessions = len(stand.days)
    if sessions < LEAST_SESSIONS:
        return Plan(sessions, needs=f"{LEAST_SESSIONS} sessions to turn; there are {sessions}")
    bars, symbols = stand.weights.shape
    source, column = draw_entries(bars, symbols, draws, rng, days=stand.days if stand.flat else None)

    def weigh(part: slice) -> np.ndarray:
        return turn_weights(stand.weights, source[part], column[part])

    return Plan(sessions, draws=draws, weigh=weigh)


def plan_shuffled(case: Case, stand: Stand, draws: int, rng: np.random.Generator) -> Plan:
    """What stories said dealt anew among those of one session, where they are about two symbols or more."""
    if len(case.run.symbols) == 1:
        return Plan(0, "stories", needs="two symbols: among the stories of one there is nothing to deal")
    if len(stand.days) < LEAST_SESSIONS:
        return _plan_none(stand)
    told = _find_told(case, stand)
    dealt = pd.Series(told.code).groupby(told.session).transform("nunique").to_numpy() > 1
    count = int(dealt.sum())
    if count < LEAST_STORIES:
        needs = f"{LEAST_STORIES} stories in sessions with stories of two symbols; there are {count}"
        return Plan(count, "stories", needs=needs)
    groups = np.where(dealt, told.session, len(stand.days) + np.arange(len(dealt)))  # the others keep what they said
    givers = deal_within(groups, draws, rng)
    return _plan_contents(
        case, stand, told, draws, count, lambda part: deal_contents(told.free_said, told.unit, givers[part])
    )


def plan_flipped(case: Case, stand: Stand, draws: int, rng: np.random.Generator) -> Plan:
    """Good and bad exchanged in stories drawn at random, of each symbol as many each way."""
    if len(stand.days) < LEAST_SESSIONS:
        return _plan_none(stand)
    told = _find_told(case, stand)
    sign = np.sign(np.bincount(told.unit, weights=told.free_said[2] - told.free_said[0]))
    both = int(min((sign > 0).sum(), (sign < 0).sum()))
    if both < LEAST_STORIES:
        needs = f"{LEAST_STORIES} good and {LEAST_STORIES} bad stories; of the fewer there are {both}"
        return Plan(both, "stories", needs=needs)
    opinion = sign != 0
    groups = np.where(opinion, told.code, len(case.run.symbols) + np.arange(len(sign)))
    flipped = sign[deal_within(groups, draws, rng)] != sign
    return _plan_contents(
        case,
        stand,
        told,
        draws,
        int(opinion.sum()),
        lambda part: flip_contents(told.free_said, told.unit, flipped[part]),
    )


def _plan_none(stand: Stand) -> Plan:
    """Too few sessions for a Sharpe ratio, however many stories they have."""
    return Plan(len(stand.days), needs=f"{LEAST_SESSIONS} sessions; there are {len(stand.days)}")


PLANS: dict[str, Callable[[Case, Stand, int, np.random.Generator], Plan]] = {
    "shuffled": plan_shuffled,
    "shifted": plan_shifted,
    "flipped": plan_flipped,
    "random_entries": plan_random_entries,
}


@dataclass(frozen=True)
class _Told:
    """The texts that count in a tested bar, and which of them are dealt anew: those first known at a tested decision.

    A unit is a story, whatever symbols it is about; a text without one is its own.
    """

    texts: pd.DataFrame  # as `make_counted_texts`, but `first` counts from the bar `begin` of the grid
    said: np.ndarray  # probabilities, (3, texts)
    free: np.ndarray  # rows of texts, in the order in which they were known
    unit: np.ndarray  # the number of each free row's unit
    session: np.ndarray  # of each unit, where it was first told
    code: np.ndarray  # of each unit, the symbol that it was first told of
    begin: int

    @property
    def free_said(self) -> np.ndarray:
        return self.said[:, self.free]


def _find_told(case: Case, stand: Stand) -> _Told:
    rules = text_rules(case.run) | {"mode": "rolling"}  # whose weight is that before what is said
    texts = make_counted_texts(case.inputs.news, case.sentiment, case.inputs.bars, case.run.symbols, **rules)
    begin = max(stand.start - case.run.features.max_age, 0)
    texts = texts[texts["first"] >= begin].reset_index(drop=True)
    free = texts[texts["first"] >= stand.start].sort_values(["known", "code", "article_id"], kind="stable")
    unit = number_stories(free)
    _, heads = np.unique(unit, return_index=True)
    session = np.searchsorted(stand.days, free["first"].to_numpy()[heads] - stand.start, side="right") - 1
    return _Told(
        texts=texts.assign(first=texts["first"] - begin),
        said=np.stack([texts[name].to_numpy() for name in PROBABILITIES]),
        free=free.index.to_numpy(),
        unit=unit,
        session=session,
        code=free["code"].to_numpy()[heads],
        begin=begin,
    )


def _plan_contents(
    case: Case, stand: Stand, told: _Told, draws: int, n: int, deal: Callable[[slice], np.ndarray]
) -> Plan:
    """Worlds in which the free texts say what `deal` gives, (worlds, 3, texts), and all that follows, before costs."""
    rules = case.run.features
    symbols, bars = stand.sent.shape[1:]

    def say(part: slice) -> tuple[np.ndarray, np.ndarray]:
        worlds = part.stop - part.start
        said = np.repeat(told.said[None], worlds, axis=0)
        said[:, :, told.free] = deal(part)
        moved = aggregate_worlds(
            told.texts,
            said,
            bars=bars + stand.start - told.begin,
            symbols=symbols,
            half_life=rules.half_life,
            max_age=rules.max_age,
            mode=rules.mode,
        )
        return moved[..., stand.start - told.begin :], np.broadcast_to(np.arange(bars), (worlds, bars))

    return Plan(n, "stories", draws, costs=False, say=say)
