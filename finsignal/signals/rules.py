"""What a run states of news, weights and limits, and how far back one decision looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from finsignal.errors import ConfigError
from finsignal.features import sentiment_lookback

TOLD = 24  # bars beyond a limit for which a reason still names what was newest; a bound, for a finite lookback


@dataclass(frozen=True)
class NewsRules:
    """How texts become features. Ages are counted in bars of the grid."""

    half_life: float  # bars after which a text weighs half
    max_age: int  # bars after which a text no longer counts
    min_relevance: float = 0.0  # texts below it do not count
    source_weights: Mapping[str, float] = field(default_factory=dict)  # a source not named weighs 1
    price_max_age: int = 10  # bars after which the last price row is too old to speak


@dataclass(frozen=True)
class WeightRules:
    """How signals become target weights. All weights are fractions of equity."""

    slots: int  # positions at once, each of gross / slots at most
    gross: float  # limit of the sum of absolute weights
    holding: int  # bars from the fill after which a position is left
    short: bool = False  # whether SELL goes short; else it leaves
    max_weight: float = 1.0  # limit of one position

    def __post_init__(self) -> None:
        for name, ok in {
            "slots (1 or more)": self.slots >= 1,
            "gross (above 0, at most 1: nothing here borrows)": 0 < self.gross <= 1,
            "holding (1 bar or more)": self.holding >= 1,
            "max_weight (above 0, at most 1)": 0 < self.max_weight <= 1,
        }.items():
            if not ok:
                raise ConfigError(f"weights: expected {name}, got {getattr(self, name.split(' ')[0])}.")

    @property
    def unit(self) -> float:
        """The absolute weight of a new position before the gross limit."""
        return min(self.max_weight, self.gross / self.slots)


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


def lookback(news_rules: NewsRules, weight_rules: WeightRules, limits: Limits = NO_LIMITS) -> int:
    """Grid bars before a bar that `decide` needs to decide it alone: news, sentiment and bars before them are not used.

    A fill that still counts lies within it, but for an order that waits for a halted symbol: let `bars` reach back over
    the fills of `state` too. Prices, funding and open interest are counted in rows, for a symbol may print few: keep
    all of them, or of each symbol the newest that the mappings of `features` state before the first of these bars.
    Holds for decision latencies of at most a bar.
    """
    needs = [sentiment_lookback(news_rules.max_age), news_rules.price_max_age + 1, weight_rules.holding + 1]
    # One bar more for the one that is open at the decision, one for what an age is counted from.
    needs += [limit + TOLD + 2 for limit in (limits.stale_prices, limits.silent_news) if limit is not None]
    return max(needs)
