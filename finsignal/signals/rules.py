"""What a run states of news, weights and limits, and how far back one decision looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from finsignal.clock import DAY, to_bar
from finsignal.errors import ConfigError
from finsignal.features import check_mode, sentiment_lookback

TOLD = 24  # bars beyond a limit for which a reason still names what was newest; a bound, for a finite lookback


@dataclass(frozen=True)
class NewsRules:
    """How texts become features. Ages are counted in bars of the grid."""

    half_life: float  # bars after which a text weighs half
    max_age: int  # bars after which a text no longer counts
    min_relevance: float = 0.0  # texts below it do not count
    source_weights: Mapping[str, float] = field(default_factory=dict)  # a source not named weighs 1
    price_max_age: int = 10  # bars after which the last price row is too old to speak
    mode: str = "weighted"  # how texts become one opinion, one of features.MODES

    def __post_init__(self) -> None:
        check_mode(self.mode)


SIZINGS = ("equal", "confidence", "inverse_volatility", "target_volatility")
REBALANCES = ("bar", "session", "week", "month")


@dataclass(frozen=True)
class WeightRules:
    """How signals become target weights. All weights are fractions of equity."""

    slots: int  # positions at once, each of gross / slots before its sizing
    gross: float  # limit of the sum of absolute weights
    holding: int  # bars from the fill after which a position is left
    short: bool = False  # whether SELL goes short; else it leaves
    max_weight: float = 1.0  # limit of one position
    max_net: float = 1.0  # limit of the absolute sum of weights
    max_turnover: float | None = None  # limit of the sum of absolute changes by which one bar enters; None is none
    sizing: str = "equal"  # one of SIZINGS
    target_volatility: float = 0.0  # per bar, a fraction: the volatility at which a position has its equal weight
    rank: int = 0  # by rank: so many of the highest scores long, of the lowest short; 0 is each signal for itself
    quantile: float = 0.0  # by rank: that fraction of the ranked symbols a side, in place of a number
    rebalance: str = "bar"  # by rank: at the first bar of each, one of REBALANCES
    neutral: bool = False  # by rank: both sides of the same weight, or none
    band: float = 0.0  # by rank: a position kept is resized where its weight changes by more than this

    def __post_init__(self) -> None:
        by_rank = self.by_rank
        most = 2 if self.short else 1
        for name, ok in {
            "slots (1 or more)": self.slots >= 1,
            f"gross (above 0, at most {most}: {'1 long and 1 short' if self.short else 'nothing here borrows'})": (
                0 < self.gross <= most
            ),
            "holding (1 bar or more)": self.holding >= 1,
            "max_weight (above 0, at most 1)": 0 < self.max_weight <= 1,
            "max_net (0 to 1)": 0 <= self.max_net <= 1,
            "max_turnover (above 0)": self.max_turnover is None or self.max_turnover > 0,
            f"sizing (one of {', '.join(SIZINGS)})": self.sizing in SIZINGS,
            "target_volatility (above 0 with sizing = 'target_volatility', else not stated)": (
                0 < self.target_volatility < float("inf")
                if self.sizing == "target_volatility"
                else self.target_volatility == 0
            ),
            "rank (0 or more)": self.rank >= 0,
            "quantile (0 to 0.5, without rank)": 0 <= self.quantile <= 0.5 and not (self.rank and self.quantile),
            f"rebalance (one of {', '.join(REBALANCES)}; 'bar' without rank or quantile)": (
                self.rebalance in REBALANCES and (by_rank or self.rebalance == "bar")
            ),
            "neutral (only by rank, with short)": not self.neutral or (by_rank and self.short),
            "band (0 or more, only by rank)": self.band >= 0 and (by_rank or self.band == 0),
        }.items():
            if not ok:
                raise ConfigError(f"weights: expected {name}, got {getattr(self, name.split(' ')[0])}.")

    @property
    def by_rank(self) -> bool:
        """Whether symbols are ranked against each other; else each signal counts for itself."""
        return self.rank > 0 or self.quantile > 0

    @property
    def by_volatility(self) -> bool:
        """Whether sizes go by volatility, so that the features of the signals are needed."""
        return self.sizing in ("inverse_volatility", "target_volatility")

    @property
    def unit(self) -> float:
        """The absolute weight of a new position before its sizing and the gross limit."""
        return min(self.max_weight, self.gross / self.slots)


@dataclass(frozen=True)
class ExitRules:
    """When a position is left beside its holding period and an opposite signal. Off unless stated.

    Losses and profits are fractions of the price at the fill. They are judged at each decision on the closes known
    then, and left at the next open, by backtest and job alike. `resting` is another model, of the backtest alone: such
    an order lies in the market and fills inside a bar.
    """

    stop_loss: float = 0.0  # left at a loss of this; 0 is none
    take_profit: float = 0.0  # left at a profit of this; 0 is none
    trailing_stop: float = 0.0  # left when this far from the best price since the fill; 0 is none
    session_close: bool = False  # left at the close of the session in which it was entered
    resting: bool = False  # stops and take profit rest in the market

    def __post_init__(self) -> None:
        for name in ("stop_loss", "trailing_stop"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"exits: {name} is {getattr(self, name)}; expected a fraction from 0 to below 1.")
        if not 0 <= self.take_profit < float("inf"):
            raise ConfigError(f"exits: take_profit is {self.take_profit}; expected a fraction, 0 or more.")
        if self.resting and not self.has_stops:
            raise ConfigError("exits: resting needs a stop_loss, take_profit or trailing_stop to rest.")

    @property
    def has_stops(self) -> bool:
        """Whether prices since the fill can end a position."""
        return bool(self.stop_loss or self.take_profit or self.trailing_stop)


NO_EXITS = ExitRules()


@dataclass(frozen=True)
class Limits:
    """When a symbol's data is too old to decide on. Ages are counted in bars of the grid; None is no limit.

    A price row's age is the number of bars that have closed since its own: 0 where the newest bar expected at the
    decision is there. A text's age counts from the first decision at which it was known. What lies before the grid has
    no age and does not count, so the first bars of a grid are stale and silent: begin it `lookback` bars earlier.
    """

    stale_prices: int | None = None  # bars after which the newest price row is too old
    silent_news: int | None = None  # bars after which the newest text is too old, whatever its relevance

    def __post_init__(self) -> None:
        for name in ("stale_prices", "silent_news"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"limits: {name} counts grid bars, expected 0 or more, got {value}.")


NO_LIMITS = Limits()


def lookback(news_rules: NewsRules, weight_rules: WeightRules, limits: Limits = NO_LIMITS, *, bar: str) -> int:
    """Grid bars before a bar that `decide` needs to decide it alone: news, sentiment and bars before them are not used.

    A fill that a holding period counts from lies within it, but for an order that waits for a halted symbol; one that a
    stop counts from may lie any number of bars back: let `bars` and prices reach back over the fills of `state` too,
    and over the `renewed` of what waits; prices with a row of each symbol that was known at the first of these bars,
    for without a known close a bar counts as not traded.
    Rebalancing looks one bar back, to tell where a period begins. Prices, funding and open interest are counted in
    rows, for a symbol may print few: keep all of them, or of each symbol the newest that the mappings of `features`
    state before the first of these bars.
    Holds for decision latencies of at most a bar. `bar` is its length, such as '1h': what the newest session has done
    is known where the grid reaches back over its first bar, and a session may last a day.
    """
    session = DAY // to_bar(bar)
    # The newest row opened up to 2 bars before it could serve, and a bar before its session tells where that begins.
    needs = [sentiment_lookback(news_rules.max_age), news_rules.price_max_age + 2 + session, weight_rules.holding + 1]
    # One bar more for the one that is open at the decision, one for what an age is counted from.
    needs += [limit + TOLD + 2 for limit in (limits.stale_prices, limits.silent_news) if limit is not None]
    return max(needs)
