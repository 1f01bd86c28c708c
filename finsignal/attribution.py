"""Where a profit came from: by symbol, direction, source, hour of entry, and overnight against session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finsignal.clock import is_always_open, zone_of
from finsignal.errors import TableError
from finsignal.metrics import win_rate
from finsignal.signals import bars_of_rows
from finsignal.tables import BacktestResult, to_integers

COLUMNS = ("name", "trades", "open", "profit", "share", "win_rate")
NO_TEXT, NO_SOURCE, INTEREST = "no text", "source not named", "interest on cash"
OVERNIGHT, IN_SESSION, PAID, DIVIDENDS = "overnight", "within sessions", "costs", "dividends"
TOLERANCE = 1e-6  # of the account's largest value: sums of many trades lose digits, a wrong table loses far more


def attribute(
    result: BacktestResult, bars: pd.DataFrame, *, prices: pd.DataFrame, market: str, trade_news: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Tables 'symbol', 'direction', 'source', 'hour' and 'session', each of which sums to the whole net profit.

    Each has a row for a name: trades (closed ones), open (positions open at the end: they count as marked at the last
    close, and are no trades), profit (after all costs, in units of cash), share (of the profits' absolute sum, so that
    a loss is negative; NaN where nothing moved) and win_rate (of the closed trades with a profit above 0; NaN without).
    The largest profit comes first. Interest on cash belongs to no trade and has a row of its own where there is any.

    source: a trade's profit is split over the texts behind its entry (`trade_news`) by their share of the weight, so
    one trade counts in each of its sources; 'no text' where none stands behind it. hour: of the entry, by the clock of
    the exchange. session: what positions earned from the last close of one session to the first open of the next
    ('overnight', weekends and halts over a close included), what they earned otherwise at prices before slippage
    ('within sessions'), and costs and dividends in rows of their own. There, a trade counts overnight where it was held
    over a close, and has won where that part of it is above 0, at the prices of its fills. A market that never closes
    has sessions without a gap, and earns nothing overnight. `prices` are those of the backtest.

    Raises TableError where prices, bars or trade_news are not those of the result.
    """
    trades = result.trades
    interest = _flow(result, "interest")
    cash, end = float(result.settings["cash"]), float(result.equity.iloc[-1])
    limit = TOLERANCE * max(cash, float(result.equity.abs().max()))
    _agree("result: its trades and interest", float(trades["profit"].sum()) + interest, end - cash, limit)
    hours = trades["entry_time"].dt.tz_convert(zone_of(market, at=result.equity.index[0]))
    parts = pd.DataFrame({"profit": trades["profit"], "closed": trades["closed"], "won": trades["profit"] > 0})
    more = {INTEREST: interest} if interest else {}
    named = {
        "symbol": trades["symbol"],
        "direction": trades["direction"],
        "hour": hours.dt.strftime("%H:00 to %H:59").astype("str"),
    }
    tables = {by: _to_table(parts.assign(name=names), more) for by, names in named.items()}
    tables["source"] = _to_table(_by_source(parts.assign(trade=trades["trade"]), trade_news), more)
    tables["session"] = _by_session(result, bars, prices, parts, more, limit=limit, gaps=not is_always_open(market))
    return {by: tables[by] for by in ("symbol", "direction", "source", "hour", "session")}


def make_costs(result: BacktestResult) -> pd.DataFrame:
    """What was paid (below 0) and received by kind, in cash, and as a fraction of the value traded (NaN without)."""
    traded = float((result.orders["quantity"] * result.orders["price"]).sum())
    cash = {
        "fees": -float(result.orders["fee"].sum()),
        "slippage": -float(result.orders["slippage"].sum()),
        **{name: _flow(result, name) for name in ("funding", "borrow", "dividends", "interest")},
    }
    amounts = np.array(list(cash.values())) + 0.0  # -0.0 is 0
    of_traded = amounts / traded if traded > 0 else np.full(len(amounts), np.nan)
    return pd.DataFrame({"name": pd.Series(list(cash), dtype="str"), "cash": amounts, "of_traded": of_traded})


def to_shown(table: pd.DataFrame, *, rows: int) -> pd.DataFrame:
    """At most `rows` of a table of `attribute`: those of the largest gains and losses, and one row of all others.

    The sums stay whole. In that last row a trade counts once for each name that it stands under.
    """
    if len(table) <= rows:
        return table
    kept = table["profit"].abs().sort_values(ascending=False, kind="stable").index[: rows - 1]
    rest = table.drop(index=kept)
    counts = rest["trades"].to_numpy()
    wins = float((rest["win_rate"].fillna(0.0) * counts).sum())
    others = {
        "name": f"{len(rest)} others",
        **{column: rest[column].sum() for column in ("trades", "open", "profit", "share")},
        "win_rate": wins / counts.sum() if counts.sum() else np.nan,
    }
    shown = pd.concat([table.loc[sorted(kept)], pd.DataFrame([others], columns=list(COLUMNS))], ignore_index=True)
    return shown.astype(table.dtypes.to_dict())


def _to_table(parts: pd.DataFrame, more: Mapping[str, float], *, names: Sequence[str] = ()) -> pd.DataFrame:
    """parts: one row a trade and name, with its profit there, closed, won. more: rows without a trade."""
    rows = []
    for name, group in parts.groupby("name", sort=True):
        closed = group["closed"].to_numpy(dtype=bool)
        rows.append((str(name), int(closed.sum()), int((~closed).sum()), group["profit"].sum(), _won(group[closed])))
    rows += [(name, 0, 0, 0.0, np.nan) for name in names if name not in {row[0] for row in rows}]
    rows += [(name, 0, 0, profit, np.nan) for name, profit in more.items()]
    table = pd.DataFrame(rows, columns=["name", "trades", "open", "profit", "win_rate"]).astype(
        {"name": "str", "trades": "int64", "open": "int64", "profit": "float64", "win_rate": "float64"}
    )
    return _ranked(table)


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    moved = float(table["profit"].abs().sum())
    table["share"] = table["profit"] / moved if moved > 0 else np.nan
    ranked = table.sort_values(["profit", "name"], ascending=[False, True], kind="stable", ignore_index=True)
    return ranked[list(COLUMNS)]


def _won(closed: pd.DataFrame) -> float:
    return win_rate(closed["won"].to_numpy(dtype=float))


def _by_source(parts: pd.DataFrame, trade_news: pd.DataFrame) -> pd.DataFrame:
    """parts, one row a trade and source, its profit in proportion to the share of the source's texts."""
    strange = set(trade_news["trade"]) - set(parts["trade"])
    if strange:
        raise TableError(f"trade_news: trade {min(strange)} is not among the result's {len(parts)} trades.")
    source = trade_news["source"].astype("str")
    texts = pd.DataFrame(
        {
            "trade": trade_news["trade"].astype("int64"),
            "name": source.where(source != "", NO_SOURCE),
            "share": trade_news["share"].astype("float64"),
        }
    )
    shares = texts[texts["share"] > 0].groupby(["trade", "name"], as_index=False)["share"].sum()
    # Shares sum to 1 but for the last digits, which would be missing from the whole.
    shares["share"] /= shares.groupby("trade")["share"].transform("sum")
    split = parts.merge(shares, on="trade", how="left")
    split["name"] = split["name"].fillna(NO_TEXT)
    split["profit"] *= split["share"].fillna(1.0)
    return split


def _by_session(
    result: BacktestResult,
    bars: pd.DataFrame,
    prices: pd.DataFrame,
    parts: pd.DataFrame,
    more: Mapping[str, float],
    *,
    limit: float,
    gaps: bool,
) -> pd.DataFrame:
    trades, orders = result.trades, result.orders
    overnight, crossed, price_profit = _split_nights(result, bars, prices, gaps=gaps)
    slippage, fees = float(orders["slippage"].sum()), float(orders["fee"].sum())
    dividends = trades["dividends"]
    costs = trades["fees"] + trades["funding"] + trades["borrow"]
    inside = trades["profit"] + costs - dividends - overnight  # at the fills' own prices: the slippage is in it
    _agree("prices: the fills and last closes", price_profit, float(inside.sum() + overnight.sum()) + slippage, limit)
    _agree("orders: their fees", fees, float(trades["fees"].sum()), limit)
    rows = pd.concat(
        [
            parts.assign(name=OVERNIGHT, profit=overnight, won=overnight > 0)[crossed],
            parts.assign(name=IN_SESSION, profit=inside, won=inside > 0),
        ]
    )
    lines = {PAID: -float(costs.sum()) - slippage, DIVIDENDS: float(dividends.sum())}
    table = _to_table(rows, {k: v for k, v in lines.items() if v} | dict(more), names=(OVERNIGHT, IN_SESSION))
    table.loc[table["name"] == IN_SESSION, "profit"] += slippage
    return _ranked(table)


def _split_nights(
    result: BacktestResult, bars: pd.DataFrame, prices: pd.DataFrame, *, gaps: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """For each trade what it earned overnight and whether it was held over a close; and the profit at reference prices.

    A night's profit is what was held before it times the step from the last close printed to the open of the first bar
    that printed after it, where that is of another session.
    """
    opens_at = pd.DatetimeIndex(result.equity.index)
    first = int(np.searchsorted(to_integers(bars["open_time"]), to_integers(opens_at[:1])[0]))
    run = bars.iloc[first : first + len(opens_at)]
    if not np.array_equal(to_integers(run["open_time"]), to_integers(opens_at)):
        raise TableError("bars: not those of the result; pass the grid that the backtest ran on.")
    session = pd.factorize(run["session"])[0] if gaps else np.zeros(len(run), dtype=np.int64)
    index, size = pd.Index(to_integers(opens_at)), len(opens_at)
    trades = result.trades
    entry = index.get_indexer(to_integers(trades["entry_time"]))
    leave = index.get_indexer(to_integers(trades["exit_time"].fillna(opens_at[-1])))  # what is open is marked there
    overnight, total = np.zeros(len(trades)), 0.0
    at = bars_of_rows(prices, run)
    rows = pd.Series(np.arange(len(prices)))[at >= 0].groupby(prices["symbol"].to_numpy()[at >= 0])
    rows_of_symbol = {str(symbol): positions.to_numpy() for symbol, positions in rows}
    trades_of_symbol = trades.groupby("symbol").indices
    for symbol, fills in result.orders.groupby("symbol"):
        own = rows_of_symbol.get(str(symbol))
        if own is None:
            raise TableError(f"prices: no row of {symbol!r} at the bars of the result, which traded it.")
        open_, close = np.full((2, size), np.nan)
        open_[at[own]], close[at[own]] = prices["open"].to_numpy()[own], prices["close"].to_numpy()[own]
        side = np.where(fills["side"] == "buy", 1.0, -1.0)
        quantity = fills["quantity"].to_numpy()
        reference = fills["price"].to_numpy() - side * fills["slippage"].to_numpy() / quantity
        bar = index.get_indexer(to_integers(fills["open_time"]))
        # A bar that did not print and was traded all the same is a delisting: its price is the bar's open and close.
        silent = ~np.isfinite(open_[bar])
        open_[bar[silent]] = close[bar[silent]] = reference[silent]
        held = np.cumsum(np.bincount(bar, side * quantity, minlength=size))
        printed = np.flatnonzero(np.isfinite(open_))
        steps = np.zeros(size)
        steps[printed[1:]] = np.where(
            session[printed[1:]] != session[printed[:-1]],
            held[printed[1:] - 1] * (open_[printed[1:]] - close[printed[:-1]]),
            0.0,
        )
        earned = np.cumsum(steps)
        ours = trades_of_symbol.get(symbol, np.array([], dtype=np.int64))
        overnight[ours] = earned[leave[ours]] - earned[entry[ours]]
        total += float(held[-1] * close[printed[-1]] - (side * quantity * reference).sum())
    return overnight, session[leave] != session[entry], total


def _agree(what: str, found: float, expected: float, limit: float) -> None:
    if not abs(found - expected) <= limit:
        raise TableError(
            f"{what} sum to {found:,.6f}, and the account says {expected:,.6f}; pass the tables of one backtest."
        )


def _flow(result: BacktestResult, name: str) -> float:
    """Cash received (+) or paid (-) over the whole run."""
    return float(result.flows[name].sum())
