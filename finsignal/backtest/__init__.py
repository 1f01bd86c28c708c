"""Target weights and prices to a BacktestResult. The only folder that knows vectorbt.

What happens at a bar, in this order (`tests/reference.py` does the same in plain loops):

1. Value: cash and holdings at the last closes known at the decision. It sizes every order of the bar.
2. At the open, on what was held before: dividends, and funding that settles then.
3. Orders, sales first, the smaller purchase before the larger. Each is checked in turn: is it large enough, are volume
   and volatility known where they count, its share of the volume, its price, its fee, and what cash can pay. Cash cuts
   what a purchase adds to a long or opens, never what covers a short. What the volume cut is tried again at the next
   bar; what cash cut is not. A target that changes is a new order.
4. Stops and take profits that rest in the market, the entry bar included. Afterwards nothing is sent for the symbol
   until its target changes.
5. Funding inside the bar; borrow and interest to its close.
6. The close of the session, where positions are left there; then borrow and interest to the next open.
7. Equity. At or below 0 the account is ruined: all is closed at the next opens, later targets are refused. Below
   `maintenance` of the positions all is closed too; a target that changes meanwhile waits for it.

Covers and closes that are forced (margin call, ruin, session close) obey the share of the volume and never what cash
can pay, so cash may fall below 0 and pay `loan_interest`; a delisting and a stop obey neither. Whatever is not done is
a row of `rejected` with its reason.
"""

from finsignal.backtest.costs import NO_RULES, Costs, OrderRules
from finsignal.backtest.running import hold_weights, run_backtest

__all__ = ["NO_RULES", "Costs", "OrderRules", "hold_weights", "run_backtest"]
