"""Target weights and prices to a BacktestResult. The only module that knows vectorbt."""

from finsignal.backtest.costs import NO_RULES, Costs, OrderRules
from finsignal.backtest.running import hold_weights, run_backtest

__all__ = ["NO_RULES", "Costs", "OrderRules", "hold_weights", "run_backtest"]
