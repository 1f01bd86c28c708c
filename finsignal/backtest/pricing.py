"""What a fill costs: slippage, fee, whole lots, and what cash can pay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finsignal.backtest.arrays import Market
from finsignal.backtest.costs import Costs, OrderRules

WORST_SALE = 0.99  # a sale never slips by all of its price
LOT_NOISE = 1e-9  # 0.3 is three lots of 0.1, though 0.3 / 0.1 is a little less than 3


@dataclass(frozen=True)
class Terms:
    """Costs and rules of a run, with one number for each symbol where they differ by symbol."""

    costs: Costs
    orders: OrderRules
    lots: np.ndarray | None  # None: any fraction
    borrow: np.ndarray | None  # a year; None: nothing is paid

    @classmethod
    def of(cls, costs: Costs, orders: OrderRules, symbols: list[str]) -> Terms:
        """The terms of these symbols."""
        lots = np.array([orders.lots.get(symbol, orders.lot) for symbol in symbols])
        borrow = np.array([costs.borrow_by_symbol.get(symbol, costs.borrow) for symbol in symbols])
        return cls(costs, orders, lots if lots.any() else None, borrow if borrow.any() else None)

    def truncate(self, quantity: np.ndarray, symbol: np.ndarray) -> np.ndarray:
        """The quantity towards zero to whole lots."""
        if self.lots is None:
            return quantity
        lot = self.lots[symbol]
        with np.errstate(divide="ignore", invalid="ignore"):
            whole = np.floor(np.abs(quantity) / lot + LOT_NOISE) * lot
        return np.where(lot > 0, np.sign(quantity) * whole, quantity)

    def fee_of(self, quantity: np.ndarray, price: np.ndarray, *, maker: bool | np.ndarray = False) -> np.ndarray:
        """Cash, of quantities other than 0."""
        size, costs = np.abs(quantity), self.costs
        rate = np.where(maker, costs.fee if costs.maker_fee is None else costs.maker_fee, costs.fee)
        fee = size * price * rate + size * costs.fee_per_share
        return np.maximum(fee, costs.min_fee)

    def slip(self, quantity: np.ndarray, symbol: np.ndarray, market: Market, k: int) -> np.ndarray:
        """Fraction of the price by which the fill is worse; a part of it that is not known counts as 0."""
        costs = self.costs
        total = np.full(len(quantity), costs.slippage)
        if market.volatility is not None:
            volatility = np.nan_to_num(market.volatility[k, symbol])
            total += costs.slippage_volatility * volatility
            if costs.impact > 0 and market.volume is not None:
                mean = market.volume[k, symbol]
                share = np.divide(np.abs(quantity), mean, out=np.zeros(len(quantity)), where=mean > 0)
                total += costs.impact * volatility * np.sqrt(share)
        return np.where(quantity < 0, np.minimum(total, WORST_SALE), total)

    def affordable(self, cash: float, price: float) -> float:
        """The quantity, in any fraction, that cash can buy with its fee; 0 where there is nothing left."""
        costs = self.costs
        quantity = cash / (price * (1 + costs.fee) + costs.fee_per_share)
        if quantity * price * costs.fee + quantity * costs.fee_per_share < costs.min_fee:
            quantity = (cash - costs.min_fee) / price
        return max(quantity, 0.0)
