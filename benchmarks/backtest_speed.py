"""How fast a backtest is and what memory it takes, beside bare vectorbt, backtesting.py and a plain loop.

    pip install -c constraints.txt backtesting
    python benchmarks/backtest_speed.py [--names 500] [--days 2520] > benchmarks/results/backtest_speed.txt

Simulated days of XNYS, random walks. Two books: `daily`, long and short in all names and resized every day, and
`news`, positions of five days in a tenth of them. Ours goes from the long tables to the result with orders, trades,
rejected orders and curves. Bare vectorbt gets the same prices as arrays that are ready, and gives value, orders and
positions. Both run in turn, so that a busy machine slows both; medians. The equity of vectorbt, of the plain loop and
ours is compared first. backtesting.py knows no portfolio: one account of cash / names for each symbol, same fills, fee
on each side; its figures are not the same account's. Memory is the peak of a process of its own, less what the
tables take before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from finsignal.backtest import Costs, run_backtest
from finsignal.clock import make_bars
from finsignal.tables import INSTANT, PRICES, WEIGHTS

os.environ["TQDM_DISABLE"] = "1"  # backtesting.py draws a bar for each account
CASH, FEE, SLIPPAGE = 1_000_000.0, 0.0005, 0.0005
COSTS = Costs(fee=FEE, slippage=SLIPPAGE, delisting_return=-0.3, delisted_after=10_000)
REPEATS = 5
BOOKS = ("daily", "news")


@dataclass(frozen=True)
class Market:
    """A simulated market and a book on it: long tables for us, arrays (days x names) for the others."""

    bars: pd.DataFrame
    prices: pd.DataFrame
    weights: pd.DataFrame
    opens: np.ndarray
    highs: np.ndarray
    lows: np.ndarray
    closes: np.ndarray
    target: np.ndarray


def make_case(names: int, days: int, book: str) -> Market:
    """Random walks of `names` symbols over `days` sessions, and the targets of one book."""
    grid = make_bars("XNYS", "1d", start="2010-01-01", end="2026-11-01", latency=pd.Timedelta("5min"))
    bars = grid.iloc[-days:].reset_index(drop=True)
    rng = np.random.default_rng(0)
    steps = rng.normal(0.0002, 0.01, (2 * days, names))
    path = 100 * np.exp(steps.cumsum(axis=0))
    opens, closes = path[0::2], path[1::2]
    highs, lows = np.maximum(opens, closes) * 1.001, np.minimum(opens, closes) * 0.999
    if book == "daily":
        side = np.where(np.arange(names) % 2 == 0, 1.0, -1.0)
        target = side * rng.uniform(0.5, 1.0, (days, names)) / names
    else:
        begins = rng.random((days, names)) < 0.02
        held = sum(np.roll(begins, shift, axis=0) & (np.arange(days) >= shift)[:, None] for shift in range(5)) > 0
        target = np.where(held, 0.9 / held.sum(axis=1).max(), 0.0)  # never more than cash pays
    target[0] = 0.0  # no close is known at the first decision
    symbols = [f"S{number:03d}" for number in range(names)]

    def long(values: dict[str, np.ndarray]) -> pd.DataFrame:
        columns = {name: pd.Series(np.tile(bars[name].array, names), dtype=INSTANT) for name in ("open_time", "time")}
        columns["symbol"] = pd.Series(np.repeat(symbols, days), dtype="str")
        return pd.DataFrame(columns | {name: value.T.ravel() for name, value in values.items()})

    quotes = {"open": opens, "high": highs, "low": lows, "close": closes, "volume": np.full(opens.shape, 1e6)}
    prices = long(quotes)
    prices["time"] = pd.Series(np.tile(bars["close_time"].array, names), dtype=INSTANT)
    weights = WEIGHTS.check(long({"weight": target}))
    return Market(bars, PRICES.check(prices), weights, opens, highs, lows, closes, target)


def run_ours(market: Market) -> np.ndarray:
    """Equity at each close by finsignal, from the long tables to the whole result."""
    return run_backtest(market.prices, market.weights, bars=market.bars, costs=COSTS, cash=CASH).equity.to_numpy()


def run_vectorbt(market: Market) -> np.ndarray:
    """Equity at each close by bare vectorbt, from arrays; orders, positions and value are asked for, as ours gives."""
    import vectorbt as vbt

    known = np.vstack([market.opens[:1], market.closes[:-1]])
    before = np.vstack([np.zeros((1, market.target.shape[1])), market.target[:-1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own use of pandas
        portfolio = vbt.Portfolio.from_orders(
            close=pd.DataFrame(market.closes),
            size=pd.DataFrame(np.where(market.target != before, market.target, np.nan)),
            size_type="targetpercent",
            price=pd.DataFrame(market.opens),
            val_price=pd.DataFrame(known),
            fees=FEE,
            slippage=SLIPPAGE,
            init_cash=CASH,
            cash_sharing=True,
            group_by=True,
            call_seq="auto",
            freq="1D",
        )
        value = portfolio.value().to_numpy()
        for records in (portfolio.orders.records, portfolio.positions.records):
            if not len(records):
                raise SystemExit("vectorbt made no order; nothing would be compared.")
    return np.asarray(value)


def run_loop(market: Market) -> np.ndarray:
    """Equity at each close by a plain loop over days and names."""
    days, names = market.target.shape
    target, opens, closes = market.target.tolist(), market.opens.tolist(), market.closes.tolist()
    cash, held, sent, equity = CASH, [0.0] * names, [0.0] * names, []
    for day in range(days):
        if day:
            value = cash + sum(h * c for h, c in zip(held, closes[day - 1], strict=True))
            orders = []
            for name in range(names):
                wanted = target[day][name]
                if wanted != sent[name]:
                    sent[name] = wanted
                    orders.append((wanted * value - held[name] * closes[day - 1][name], name))
            for change, name in sorted(orders):
                quantity = change / closes[day - 1][name]
                price = opens[day][name] * (1 + SLIPPAGE if quantity > 0 else 1 - SLIPPAGE)
                most = cash / (price * (1 + FEE))
                quantity = min(quantity, most)
                cash -= quantity * price + abs(quantity) * price * FEE
                held[name] += quantity
        equity.append(cash + sum(h * c for h, c in zip(held, closes[day], strict=True)))
    return np.array(equity)


def run_backtesting(market: Market) -> None:
    """backtesting.py: an account for each symbol, market orders at the next open."""
    from backtesting import Backtest, Strategy

    names = market.target.shape[1]

    class Follow(Strategy):  # type: ignore[misc]
        wanted = np.zeros(0)

        def init(self) -> None:
            self.held = 0.0

        def next(self) -> None:
            day = len(self.data)
            wanted = self.wanted[day] if day < len(self.wanted) else self.held
            if wanted != self.held:
                self.position.close()
                if wanted:
                    size = min(abs(wanted) * names, 0.99)
                    (self.buy if wanted > 0 else self.sell)(size=size)
                self.held = wanted

    index = pd.DatetimeIndex(market.bars["open_time"]).tz_localize(None)
    for name in range(names):
        quotes = {"Open": market.opens, "High": market.highs, "Low": market.lows, "Close": market.closes}
        data = pd.DataFrame({column: values[:, name] for column, values in quotes.items()}, index=index)
        data["Volume"] = 1e6
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            account = Backtest(data, Follow, cash=CASH, commission=FEE, spread=SLIPPAGE, finalize_trades=True)
            account.run(wanted=market.target[:, name])


RUNS: dict[str, Callable[[Market], object]] = {
    "finsignal": run_ours,
    "bare vectorbt": run_vectorbt,
    "plain loop": run_loop,
    "backtesting.py": run_backtesting,
}


def measure_memory(names: int, days: int, book: str, engine: str, answer: multiprocessing.Queue[float]) -> None:
    """Puts the peak memory of one run in MB into `answer`, beyond what the tables and the imports take."""
    small = make_case(5, 50, book)
    RUNS[engine](small)  # imports
    market = make_case(names, days, book)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here; a new process inherits its parent's
    before = read_memory("VmRSS")
    RUNS[engine](market)
    answer.put(read_memory("VmHWM") - before)


def read_memory(name: str) -> float:
    """A figure of this process in MB, from the kernel (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--names", type=int, default=500)
    arguments.add_argument("--days", type=int, default=2520)
    options = arguments.parse_args()
    names, days = options.names, options.days
    say = sys.stdout.write
    say(f"{names} names x {days} days, {platform.machine()}, Python {platform.python_version()}\n")
    spawn = multiprocessing.get_context("spawn")
    for book in BOOKS:
        market = make_case(names, days, book)
        run_ours(make_case(5, 50, book)), run_vectorbt(make_case(5, 50, book))
        equity = run_ours(market)
        apart = {n: float(np.abs(RUNS[n](market) - equity).max() / CASH) for n in ("bare vectorbt", "plain loop")}  # type: ignore[operator]
        changes = int((np.diff(market.target, axis=0) != 0).sum())
        say(f"\nbook '{book}': {changes:,} orders; equity ends at {equity[-1] / CASH:.4f} of the cash\n")
        say("  largest difference of equity from ours, of the cash: ")
        say(", ".join(f"{n} {d:.1e}" for n, d in apart.items()) + "\n")
        times: dict[str, list[float]] = {"finsignal": [], "bare vectorbt": []}
        for _ in range(REPEATS):
            for engine, taken in times.items():
                begun = time.perf_counter()
                RUNS[engine](market)
                taken.append(time.perf_counter() - begun)
        for engine in ("plain loop", "backtesting.py"):
            begun = time.perf_counter()
            RUNS[engine](market)
            times[engine] = [time.perf_counter() - begun]
        medians = {engine: statistics.median(taken) for engine, taken in times.items()}
        memory = {}
        for engine in ("finsignal", "bare vectorbt"):
            answer: multiprocessing.Queue[float] = spawn.Queue()
            process = spawn.Process(target=measure_memory, args=(names, days, book, engine, answer))
            process.start()
            memory[engine] = answer.get()
            process.join()
        for engine, seconds in medians.items():
            more = f", {memory[engine]:,.0f} MB at most" if engine in memory else ""
            say(f"  {engine:<15} {seconds:8.2f} s, {seconds / medians['finsignal']:7.2f} of finsignal{more}\n")
        ratio = medians["finsignal"] / medians["bare vectorbt"]
        say(f"  finsignal takes {ratio:.2f} times bare vectorbt\n")


if __name__ == "__main__":
    main()
