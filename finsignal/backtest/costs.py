"""What trading costs, and what an order may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from finsignal.errors import ConfigError


@dataclass(frozen=True)
class Costs:
    """What trading costs. The first four decide every result and have no default; the rest is off unless stated."""

    fee: float  # fraction of the traded value, each side (taker: orders at the open take what is there)
    slippage: float  # fraction of the price by which a fill is worse than the open
    delisting_return: float  # return at which a name that never trades again is closed, from its last close
    delisted_after: int  # bars without a price at the end of the run after which a name counts as gone
    funding_rate: float = 0.0  # ASSUMED: fraction of the position that a long pays a short every 8 hours
    maker_fee: float | None = None  # fraction of the value of a resting take profit; None is as fee
    fee_per_share: float = 0.0  # cash for each unit traded, beside fee
    min_fee: float = 0.0  # cash, the least that an order pays
    slippage_volatility: float = 0.0  # slippage on top, in multiples of the volatility of a bar
    impact: float = 0.0  # slippage on top: impact * volatility of a bar * sqrt(quantity / mean volume of a bar)
    borrow: float = 0.0  # fraction of a short position's value paid a year
    borrow_by_symbol: Mapping[str, float] = field(default_factory=dict)  # in place of borrow
    interest: float = 0.0  # fraction a year, received on cash less the value of short positions
    loan_interest: float = 0.0  # fraction a year, paid on cash below 0
    maintenance: float = 0.0  # equity below this fraction of the positions' value closes them all; 0 is no such call

    def __post_init__(self) -> None:
        for name in ("fee", "slippage", "maker_fee"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"costs: {name} is {value}; expected a fraction from 0 to below 1.")
        if not -1 <= self.delisting_return <= 0:
            raise ConfigError(f"costs: delisting_return is {self.delisting_return}; expected -1 to 0.")
        if self.delisted_after < 1:
            raise ConfigError(f"costs: delisted_after is {self.delisted_after}; expected 1 bar or more.")
        if not abs(self.funding_rate) < 0.1:
            raise ConfigError(f"costs: funding_rate is {self.funding_rate} every 8 hours; expected a small fraction.")
        for name in ("fee_per_share", "min_fee", "slippage_volatility", "impact"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"costs: {name} is {getattr(self, name)}; expected a finite number, 0 or more.")
        rates = {"borrow": self.borrow, "interest": self.interest, "loan_interest": self.loan_interest}
        rates |= {f"borrow_by_symbol.{symbol}": rate for symbol, rate in self.borrow_by_symbol.items()}
        for name, rate in rates.items():
            if not 0 <= rate < 10:
                raise ConfigError(f"costs: {name} is {rate} a year; expected a fraction from 0 to below 10.")
        if not 0 <= self.maintenance < 1:
            raise ConfigError(f"costs: maintenance is {self.maintenance}; expected a fraction from 0 to below 1.")


@dataclass(frozen=True)
class OrderRules:
    """What an order may be. Off unless stated."""

    lot: float = 0.0  # quantities are whole multiples of it; 0 is any fraction
    lots: Mapping[str, float] = field(default_factory=dict)  # by symbol, in place of lot
    min_notional: float = 0.0  # cash; a smaller order that does not leave a position is not sent
    volume_share: float = 0.0  # largest order as a fraction of the mean volume of a bar; 0 is no limit

    def __post_init__(self) -> None:
        sizes = {"lot": self.lot, "min_notional": self.min_notional}
        sizes |= {f"lots.{symbol}": lot for symbol, lot in self.lots.items()}
        for name, value in sizes.items():
            if not 0 <= value < float("inf"):
                raise ConfigError(f"orders: {name} is {value}; expected a finite number, 0 or more.")
        if not 0 <= self.volume_share <= 1:
            raise ConfigError(f"orders: volume_share is {self.volume_share}; expected a fraction from 0 to 1.")


NO_RULES = OrderRules()
