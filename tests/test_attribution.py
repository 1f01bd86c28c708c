"""Where a profit came from: by hand, by another way of counting, and whole to the last digit in every table."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vectorbt  # noqa: F401  (it draws random numbers as it loads, which hypothesis refuses inside a strategy)
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from finsignal import evidence, metrics
from finsignal.attribution import COLUMNS, attribute, make_costs, to_shown
from finsignal.backtest import Costs, run_backtest
from finsignal.clock import make_bars
from finsignal.config import RunFile
from finsignal.errors import TableError
from finsignal.report.terminal import to_text
from finsignal.signals import NO_EXITS, ExitRules
from finsignal.study import Inputs, Study, write_study
from finsignal.study.explaining import explain, to_index_equity
from finsignal.tables import ACTIONS, PRICES, WEIGHTS, BacktestResult

FREE = Costs(fee=0.0, slippage=0.0, delisting_return=-0.5, delisted_after=100)
CASH = 10_000.0
NO_NEWS = pd.DataFrame(
    {"trade": pd.Series(dtype="int64"), "source": pd.Series(dtype="str"), "share": pd.Series(dtype="float64")}
)
# Without shrinking: an example is a seed, and a smaller seed is no simpler.
FEW = settings(max_examples=10, phases=[Phase.explicit, Phase.generate])
Quotes = dict[str, list[tuple[float, float] | None]]


def make_hours(market: str, start: str, end: str) -> pd.DataFrame:
    """Decided at the very open, so that the close before it is known and the arithmetic is short."""
    return make_bars(market, "1h", start=start, end=end, latency=pd.Timedelta(0))


def make_prices(bars: pd.DataFrame, quotes: Quotes) -> pd.DataFrame:
    """(open, close) of each bar by symbol; None where it did not print."""
    parts = []
    for symbol, pairs in quotes.items():
        seen = [k for k, pair in enumerate(pairs) if pair is not None]
        values = np.array([pair for pair in pairs if pair is not None], dtype=float)
        part = bars.iloc[seen][["open_time"]].assign(time=bars["close_time"].iloc[seen], symbol=symbol)
        part[["open", "close"]] = values
        part["high"], part["low"], part["volume"] = values.max(axis=1) * 1.01, values.min(axis=1) * 0.99, 1e6
        parts.append(part)
    return PRICES.to_table(pd.concat(parts).astype({"symbol": "str"}))


def make_weights(bars: pd.DataFrame, targets: dict[str, list[float]]) -> pd.DataFrame:
    parts = [bars[["open_time", "time"]].assign(symbol=s, weight=np.array(w, float)) for s, w in targets.items()]
    return WEIGHTS.to_table(pd.concat(parts).astype({"symbol": "str"}))


def make_trade_news(rows: list[tuple[int, str, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["trade", "source", "share"]).astype({"source": "str"})


def to_profits(table: pd.DataFrame) -> dict[str, float]:
    return dict(zip(table["name"], table["profit"], strict=True))


def to_row(table: pd.DataFrame, name: str) -> tuple[int, int, float, float]:
    """(trades, open, profit, win_rate) of one row."""
    row = table[table["name"] == name].iloc[0]
    return int(row["trades"]), int(row["open"]), float(row["profit"]), float(row["win_rate"])


@dataclasses.dataclass(frozen=True)
class Account:
    bars: pd.DataFrame
    prices: pd.DataFrame
    result: BacktestResult
    market: str

    def attribute(self, trade_news: pd.DataFrame = NO_NEWS) -> dict[str, pd.DataFrame]:
        return attribute(self.result, self.bars, prices=self.prices, market=self.market, trade_news=trade_news)


def run(
    market: str, bars: pd.DataFrame, quotes: Quotes, targets: dict[str, list[float]], costs: Costs, **more: Any
) -> Account:
    prices = make_prices(bars, quotes)
    result = run_backtest(prices, make_weights(bars, targets), bars=bars, costs=costs, cash=CASH, **more)
    return Account(bars, prices, result, market)


def run_two_days(costs: Costs) -> Account:
    """Two New York sessions of seven bars around the change to summer time (Friday 8 and Monday 11 March 2024).

    A is bought at 10:30 on Friday and sold at 10:30 on Monday; B is sold short at 11:30 on Friday, covered at 12:30,
    bought at 15:30 and held to the end.
    """
    bars = make_hours("XNYS", "2024-03-08", "2024-03-12")
    a = [(100, 100), (100, 102), (102, 102), (102, 104), (104, 104), (104, 104), (104, 105), (110, 109), (108, 108)]
    b = [(50, 50), (50, 50), (50, 49), (48, 50), (50, 50), (50, 50), (50, 51), (50, 52), (52, 52)]
    quotes: Quotes = {"A": [*a, *[(108, 108)] * 5], "B": [*b, *[(52, 53)] * 5]}
    targets = {"A": [0, *[0.5] * 7, *[0] * 6], "B": [0, 0, -0.1, *[0] * 3, *[0.1] * 8]}
    return run("XNYS", bars, quotes, targets, costs)


# ------------------------------------------------------------------------------------------------- worked by hand


def test_two_days_by_hand() -> None:
    """Without costs. A: 0.5 * 10,000 / 100 = 50, bought at 100 and sold at 108: 400, of which the night from 105 to 110
    gave 250. B: 0.1 of 10,100 / 50 = 20.2 sold at 50 and covered at 48: 40.4; then 0.1 of 10,240.4 (cash 10,000 + 40.4
    - 5,000 and 50 at 104) / 50 = 20.4808 bought at 50, marked at 53: 61.4424, with -20.4808 overnight (51 to 50).
    """
    account = run_two_days(FREE)
    b_long = 20.4808 * 3
    found = account.attribute()
    assert to_row(found["symbol"], "A") == (1, 0, pytest.approx(400), 1.0)
    assert to_row(found["symbol"], "B") == (1, 1, pytest.approx(40.4 + b_long), 1.0)
    assert to_row(found["direction"], "long") == (1, 1, pytest.approx(400 + b_long), 1.0)
    assert to_row(found["direction"], "short") == (1, 0, pytest.approx(40.4), 1.0)
    # On Friday New York is 5 hours behind UTC: the entries at 15:30, 16:30 and 20:30 UTC.
    assert to_profits(found["hour"]) == {
        "10:00 to 10:59": pytest.approx(400),
        "11:00 to 11:59": pytest.approx(40.4),
        "15:00 to 15:59": pytest.approx(b_long),
    }
    assert to_row(found["session"], "overnight") == (1, 1, pytest.approx(250 - 20.4808), 1.0)
    assert to_row(found["session"], "within sessions") == (2, 1, pytest.approx(150 + 40.4 + 4 * 20.4808), 1.0)
    assert list(found["source"]["name"]) == ["no text"]
    whole = account.result.equity.iloc[-1] - CASH
    assert [table["profit"].sum() for table in found.values()] == [pytest.approx(whole)] * 5
    assert found["symbol"]["share"].tolist() == pytest.approx([400 / whole, (40.4 + b_long) / whole])


def test_what_a_session_earned_stands_before_costs_and_costs_in_a_line_of_their_own() -> None:
    """At the open of 100 the 50 of A cost 1 of slippage each and 0.01 of 5,050 of fees; sold at 108 * 0.99 = 106.92."""
    account = run_two_days(dataclasses.replace(FREE, fee=0.01, slippage=0.01))
    only_a = account.result.orders[account.result.orders["symbol"] == "A"]
    assert only_a["fee"].tolist() == pytest.approx([50.50, 53.46])
    assert only_a["slippage"].tolist() == pytest.approx([50.0, 54.0])
    found = to_profits(account.attribute()["session"])
    orders = account.result.orders
    assert found["costs"] == pytest.approx(-(orders["fee"].sum() + orders["slippage"].sum()))
    short, long_ = (orders.loc[orders["symbol"] == "B", "quantity"].iloc[k] for k in (0, 2))
    assert found["overnight"] == pytest.approx(50 * 5 - long_)
    assert found["within sessions"] == pytest.approx(50 * 3 + short * 2 + long_ * 4)
    assert sum(found.values()) == pytest.approx(account.result.equity.iloc[-1] - CASH, abs=1e-9 * CASH)


def test_the_hour_is_that_of_the_exchange_on_both_sides_of_a_clock_change() -> None:
    bars = make_hours("XNYS", "2024-03-08", "2024-03-12")
    bought = [0.0, 0.5, 0.5, 0, 0, 0, 0]
    account = run("XNYS", bars, {"A": [(100, 100)] * 14}, {"A": [*bought, *bought]}, FREE)
    assert account.result.trades["entry_time"].dt.hour.tolist() == [15, 14]
    assert account.attribute()["hour"][["name", "trades"]].to_numpy().tolist() == [["10:00 to 10:59", 2]]


def test_a_night_without_a_print_is_earned_where_the_next_bar_prints() -> None:
    """100 at 0.5 of 10,000, last seen at 101 on Friday; Monday opens late, at 11:30, at 99: the two are the night."""
    bars = make_hours("XNYS", "2024-03-08", "2024-03-12")
    quotes: Quotes = {"A": [*[(100, 100)] * 5, (100, 101), None, None, None, (99, 103), *[(103, 103)] * 4]}
    account = run("XNYS", bars, quotes, {"A": [0, *[0.5] * 13]}, FREE)
    assert to_profits(account.attribute()["session"]) == {
        "overnight": pytest.approx(50 * -2),
        "within sessions": pytest.approx(50 * 5),
    }


def test_a_name_that_never_trades_again_loses_at_its_delisting() -> None:
    """50 bought at 100 and last seen at 102 on Friday; half of that is lost on Monday: -51 each, overnight."""
    bars = make_hours("XNYS", "2024-03-08", "2024-03-12")
    quotes: Quotes = {"A": [*[(100, 100)] * 6, (100, 102), *[None] * 7], "B": [(10, 10)] * 14}
    costs = dataclasses.replace(FREE, delisted_after=3)
    account = run("XNYS", bars, quotes, {"A": [0, *[0.5] * 13], "B": [0.0] * 14}, costs)
    found = account.attribute()["session"]
    assert to_row(found, "overnight") == (1, 0, pytest.approx(50 * -51), 0.0)
    assert to_profits(found)["within sessions"] == pytest.approx(50 * 2)


def test_a_market_that_never_closes_earns_nothing_overnight() -> None:
    bars = make_hours("24x7", "2024-03-08", "2024-03-10")
    quotes: Quotes = {"A": [(100 + k, 101 + k) for k in range(48)]}
    found = run("24x7", bars, quotes, {"A": [0, *[0.5] * 47]}, FREE).attribute()
    assert to_row(found["session"], "overnight")[:3] == (0, 0, 0.0)
    assert to_row(found["session"], "within sessions")[:2] == (0, 1)
    assert list(found["hour"]["name"]) == ["01:00 to 01:59"]  # UTC


# -------------------------------------------------------------------------------------------------------- sources


def test_a_trade_s_profit_is_split_over_the_sources_of_its_texts() -> None:
    # A, trade 0, earns 400: a quarter and a half from wire, the rest from desk. B, trade 1, earns 40.4; 2 is open.
    account = run_two_days(FREE)
    news = make_trade_news([(0, "wire", 0.25), (0, "desk", 0.25), (0, "wire", 0.5), (1, "desk", 0.5), (1, "", 0.5)])
    found = account.attribute(news)["source"]
    assert to_row(found, "wire") == (1, 0, pytest.approx(300), 1.0)
    assert to_row(found, "desk") == (2, 0, pytest.approx(100 + 20.2), 1.0)
    assert to_row(found, "source not named") == (1, 0, pytest.approx(20.2), 1.0)
    assert to_row(found, "no text")[:3] == (0, 1, pytest.approx(3 * 20.4808))
    assert math.isnan(to_row(found, "no text")[3])  # an open position has neither won nor lost
    assert list(found["name"]) == ["wire", "desk", "no text", "source not named"]


def test_texts_of_no_weight_stand_behind_nothing_and_shares_need_not_sum_to_one() -> None:
    account = run_two_days(FREE)
    news = make_trade_news([(0, "wire", 0.0), (1, "wire", 0.2), (1, "desk", 0.2), (2, "desk", math.nan)])
    found = to_profits(account.attribute(news)["source"])
    assert found == {
        "no text": pytest.approx(400 + 3 * 20.4808), "wire": pytest.approx(20.2), "desk": pytest.approx(20.2)
    }  # fmt: skip


# -------------------------------------------------------------------------------------------------- random accounts


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    """Random walks with halts and a delisting, random targets, stops and costs, in New York or day and night."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    market = draw(st.sampled_from(["XNYS", "24x7"]))
    bars = make_hours(market, "2024-03-07", "2024-03-14" if market == "XNYS" else "2024-03-09")
    size = len(bars)
    quotes: Quotes = {}
    for symbol in "ABC":
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, size)))
        open_ = np.r_[100.0, close[:-1]] * np.exp(rng.normal(0, 0.02, size))
        seen = rng.random(size) > 0.15
        seen[0] = True
        quotes[symbol] = [(o, c) if s else None for o, c, s in zip(open_, close, seen, strict=True)]
    if draw(st.booleans()):
        quotes["C"][size // 2 :] = [None] * (size - size // 2)
    kept = rng.random((size, 3)) < 0.75
    weights = pd.DataFrame(np.where(kept, np.nan, rng.choice([0.0, 0.25, -0.25, 0.3], (size, 3)))).ffill().fillna(0.0)
    costs = Costs(
        fee=draw(st.sampled_from([0.0, 0.002])),
        slippage=draw(st.sampled_from([0.0, 0.003])),
        delisting_return=-0.4,
        delisted_after=4,
        funding_rate=draw(st.sampled_from([0.0, 0.0005])),
        borrow=draw(st.sampled_from([0.0, 0.5])),
        interest=draw(st.sampled_from([0.0, 0.9])),
        maintenance=draw(st.sampled_from([0.0, 0.95])),
    )
    exits = draw(
        st.sampled_from(
            [
                NO_EXITS,
                ExitRules(stop_loss=0.02, take_profit=0.03, resting=True),
                ExitRules(trailing_stop=0.02, session_close=True, resting=True),
                ExitRules(session_close=True),
            ]
        )
    )
    paid = [(s, bars["open_time"].iloc[k], "dividend", 0.7) for s, k in (("A", size // 2), ("B", size // 3))]
    dividends = ACTIONS.to_table(pd.DataFrame(paid, columns=["symbol", "time", "kind", "value"]))
    targets = dict(zip("ABC", weights.T.to_numpy().tolist(), strict=True))
    return run(market, bars, quotes, targets, costs, exits=exits, dividends=dividends)


@pytest.mark.slow
@FEW
@given(account=accounts(), seed=st.integers(0, 99))
def test_every_table_is_the_whole_net_profit(account: Account, seed: int) -> None:
    rng = np.random.default_rng(seed)
    trades = account.result.trades["trade"].to_numpy()
    behind = rng.choice(trades, size=2 * len(trades)) if len(trades) else trades
    news = make_trade_news([(int(t), str(rng.choice(["wire", "desk", ""])), float(rng.random())) for t in behind])
    whole = account.result.equity.iloc[-1] - CASH
    for by, table in account.attribute(news).items():
        assert table["profit"].sum() == pytest.approx(whole, abs=1e-9 * CASH), by
        assert to_shown(table, rows=2)["profit"].sum() == pytest.approx(whole, abs=1e-9 * CASH), by
        assert tuple(table.columns) == COLUMNS
        assert table["profit"].is_monotonic_decreasing


@pytest.mark.slow
@FEW
@given(account=accounts())
def test_the_night_and_the_session_by_marking_the_account_twice_a_bar(account: Account) -> None:
    """Another way of counting: at each bar the positions are worth so much at the open and so much at the close."""
    orders, bars = account.result.orders, account.bars
    wide = account.prices.pivot(index="open_time", columns="symbol", values=["open", "close"])
    wide = wide.reindex(pd.DatetimeIndex(bars["open_time"]))
    held, mark = dict.fromkeys("ABC", 0.0), dict.fromkeys("ABC", math.nan)
    seen = dict.fromkeys("ABC", "")
    night, inside = 0.0, 0.0
    for at, session in zip(pd.DatetimeIndex(bars["open_time"]), bars["session"], strict=True):
        for symbol in "ABC":
            fills = orders[(orders["open_time"] == at) & (orders["symbol"] == symbol)]
            side = np.where(fills["side"] == "buy", 1.0, -1.0)
            fair = fills["price"] - side * fills["slippage"] / fills["quantity"]
            open_, close = wide.loc[at, ("open", symbol)], wide.loc[at, ("close", symbol)]
            if np.isnan(open_) and len(fills):
                open_ = close = fair.iloc[0]
            if np.isnan(open_):
                continue
            step = held[symbol] * (open_ - mark[symbol]) if held[symbol] else 0.0
            if seen[symbol] != session and account.market == "XNYS":
                night += step
            else:
                inside += step
            inside += held[symbol] * (close - open_) + float((side * fills["quantity"] * (close - fair)).sum())
            held[symbol] += float((side * fills["quantity"]).sum())
            mark[symbol], seen[symbol] = close, session
    found = to_profits(account.attribute()["session"])
    assert found["overnight"] == pytest.approx(night, abs=1e-9 * CASH)
    assert found["within sessions"] == pytest.approx(inside, abs=1e-9 * CASH)


# --------------------------------------------------------------------------------------------- nothing, and nonsense


def test_an_account_without_a_trade_has_empty_tables_of_the_same_shape() -> None:
    bars = make_hours("XNYS", "2024-03-08", "2024-03-12")
    found = run("XNYS", bars, {"A": [(100, 101)] * 14}, {"A": [0.0] * 14}, FREE).attribute()
    for by in ("symbol", "direction", "source", "hour"):
        assert found[by].empty
        assert found[by].dtypes.to_dict() == run_two_days(FREE).attribute()[by].dtypes.to_dict()
    assert found["session"]["profit"].tolist() == [0.0, 0.0]
    assert found["session"]["share"].isna().all()


def test_one_trade_is_all_of_every_table() -> None:
    bars = make_hours("XNYS", "2024-03-08", "2024-03-12")
    quotes: Quotes = {"A": [(100, 100), (100, 98), *[(98, 98)] * 12]}
    account = run("XNYS", bars, quotes, {"A": [0, 0.5, *[0] * 12]}, FREE)
    found = account.attribute(make_trade_news([(0, "wire", 1.0)]))
    for by in ("symbol", "direction", "source", "hour"):
        assert len(found[by]) == 1
        assert found[by].iloc[0, 1:].tolist() == [1, 0, pytest.approx(-100), -1.0, 0.0]


def test_tables_of_another_backtest_are_refused() -> None:
    account = run_two_days(FREE)
    with pytest.raises(TableError, match="trade 7 is not among the result's 3 trades"):
        account.attribute(make_trade_news([(7, "wire", 1.0)]))
    dearer = account.prices.assign(**{c: account.prices[c] * 2 for c in ("open", "high", "low", "close")})
    with pytest.raises(TableError, match="prices: the fills and last closes sum to"):
        dataclasses.replace(account, prices=dearer).attribute()
    with pytest.raises(TableError, match="prices: no row of 'B'"):
        dataclasses.replace(account, prices=account.prices[account.prices["symbol"] == "A"]).attribute()
    with pytest.raises(TableError, match="bars: not those of the result"):
        dataclasses.replace(account, bars=account.bars.iloc[:5]).attribute()
    fewer = dataclasses.replace(account.result, trades=account.result.trades.iloc[1:])
    with pytest.raises(TableError, match="result: its trades and interest sum to"):
        dataclasses.replace(account, result=fewer).attribute()


# ---------------------------------------------------------------------------------------------------- shown, and costs


def test_a_table_cut_for_display_hides_nothing() -> None:
    table = pd.DataFrame(
        [
            ("A", 2, 0, 90.0, 0.45, 1.0),
            ("B", 1, 1, 20.0, 0.1, 0.0),
            ("C", 0, 1, 10.0, 0.05, math.nan),
            ("D", 3, 0, 0.0, 0.0, 1 / 3),
            ("E", 4, 0, -80.0, -0.4, 0.25),
        ],
        columns=list(COLUMNS),
    )
    shown = to_shown(table, rows=3)
    assert shown["name"].tolist() == ["A", "E", "3 others"]  # the largest gain and loss, not the two largest gains
    assert shown.iloc[2, 1:].tolist() == [4, 2, 30.0, pytest.approx(0.15), pytest.approx(0.25)]  # 1 of 4 won
    assert shown["profit"].sum() == table["profit"].sum()
    pd.testing.assert_frame_equal(to_shown(table, rows=5), table)


def test_costs_by_kind_in_cash_and_of_the_value_traded() -> None:
    result = run_two_days(dataclasses.replace(FREE, fee=0.01, slippage=0.01)).result
    costs = make_costs(result).set_index("name")
    traded = (result.orders["quantity"] * result.orders["price"]).sum()
    assert costs["cash"].to_dict() == {
        "fees": -result.orders["fee"].sum(), "slippage": -result.orders["slippage"].sum(),
        "funding": 0.0, "borrow": 0.0, "dividends": 0.0, "interest": 0.0,
    }  # fmt: skip
    assert costs.loc["fees", "of_traded"] == pytest.approx(-0.01)
    assert costs.loc["slippage", "of_traded"] == pytest.approx(-result.orders["slippage"].sum() / traded)


def test_funding_that_was_paid_is_below_zero() -> None:
    bars = make_hours("24x7", "2024-03-08", "2024-03-09")
    costs = dataclasses.replace(FREE, funding_rate=0.001)
    result = run("24x7", bars, {"A": [(100, 100)] * 24}, {"A": [0, *[0.5] * 23]}, costs).result
    # 50 held at 100 over 08:00 and 16:00
    assert make_costs(result).set_index("name").loc["funding", "cash"] == pytest.approx(-2 * 50 * 100 * 0.001)


def test_interest_and_dividends_have_rows_of_their_own() -> None:
    """50 of A bought at 100, which pays 2 each on Monday; 0.1 a year on 5,000, and on 5,100 from then on."""
    bars = make_hours("XNYS", "2024-03-08", "2024-03-12")
    costs = dataclasses.replace(FREE, interest=0.1)
    paid = ACTIONS.to_table(
        pd.DataFrame({"symbol": ["A"], "time": bars["open_time"][[7]], "kind": ["dividend"], "value": [2.0]})
    )
    account = run("XNYS", bars, {"A": [(100, 100)] * 14}, {"A": [0, *[0.5] * 13]}, costs, dividends=paid)
    found = account.attribute()
    interest, units = account.result.flows["interest"].sum(), account.result.orders["quantity"].iloc[0]
    assert units == pytest.approx(50, rel=1e-4)  # of the cash with an hour's interest
    assert interest == pytest.approx(5_000 * 0.1 * 3 / 365, rel=0.1)  # three days of the weekend, and a few hours
    assert to_profits(found["session"]) == {
        "dividends": 2 * units, "interest on cash": pytest.approx(interest), "overnight": 0.0, "within sessions": 0.0
    }  # fmt: skip
    assert to_profits(found["symbol"]) == {"A": pytest.approx(2 * units), "interest on cash": pytest.approx(interest)}
    costs_paid = make_costs(account.result).set_index("name")["cash"]
    assert (costs_paid["dividends"], costs_paid["interest"]) == (pytest.approx(2 * units), pytest.approx(interest))


def test_costs_of_an_account_without_an_order_have_no_value_to_be_a_share_of() -> None:
    bars = make_hours("24x7", "2024-03-08", "2024-03-09")
    result = run("24x7", bars, {"A": [(100, 100)] * 24}, {"A": [0.0] * 24}, FREE).result
    assert make_costs(result)["cash"].tolist() == [0.0] * 6
    assert make_costs(result)["of_traded"].isna().all()


# --------------------------------------------------------------------------------------------------------- in a study


def test_a_study_writes_all_rows_and_its_summary_adds_up(tiny_study: Study, tmp_path: Path) -> None:
    folder = write_study(tiny_study, tmp_path / "run")
    table, whole = pd.read_parquet(folder / "attribution.parquet"), tiny_study.result.equity.iloc[-1] - 100_000
    origins = tiny_study.summary["attribution"]
    assert origins["profit"] == pytest.approx(whole)
    assert set(table["by"]) == {"symbol", "direction", "source", "hour", "session"}
    for by, rows in table.groupby("by"):
        assert rows["profit"].sum() == pytest.approx(whole, abs=1e-4)
        assert sum(row["profit"] for row in origins["tables"][by]) == pytest.approx(whole, abs=1e-4)
    assert {"wire", "desk"} <= set(table.loc[table["by"] == "source", "name"])
    assert sum(origins["rejected"].values()) == len(tiny_study.result.rejected)
    paid = -sum(row["cash"] for row in origins["costs"])
    assert paid == pytest.approx(tiny_study.summary["performance"]["costs_paid"])


def test_alpha_is_against_holding_where_no_index_is_named(tiny_study: Study, tiny_inputs: Inputs) -> None:
    own, held = (
        evidence.to_daily(tiny_study.curves[name], tiny_inputs.bars, cash=100_000) for name in ("words", "buy and hold")
    )
    expected = metrics.alpha_beta(own, held, days_per_year=365)
    alpha = tiny_study.summary["alpha"]
    assert alpha["market"] == "buy and hold of the run's symbols"
    assert (alpha["alpha"], alpha["beta_error"]) == (pytest.approx(expected.alpha), pytest.approx(expected.beta_error))
    assert (alpha["days"], alpha["notes"]) == (len(own), [])
    text = to_text(tiny_study.summary)
    line = f"  alpha           {expected.alpha:.1%} +- {expected.alpha_error:.1%} a year (standard error), beta "
    assert line in text
    largest = max(tiny_study.summary["attribution"]["tables"]["symbol"], key=lambda row: abs(row["profit"]))
    assert f"largest by symbol {largest['name']} {largest['profit']:+,.0f}, " in text
    assert "overnight" not in text


def explain_with_index(run: RunFile, inputs: Inputs, study: Study, index: pd.DataFrame) -> dict[str, object]:
    named, read = dataclasses.replace(run, index="IDX"), dataclasses.replace(inputs, index=index)
    explained = explain(named, read, study.result, hold=study.result, trade_news=study.trade_news)
    return explained.alpha


def test_alpha_is_against_the_index_where_one_is_named(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_study: Study
) -> None:
    index = tiny_inputs.prices[tiny_inputs.prices["symbol"] == "AAA"].assign(symbol="IDX")
    bars = tiny_inputs.bars[tiny_inputs.bars["open_time"] >= tiny_study.result.equity.index[0]]
    level = index.set_index("open_time").reindex(pd.DatetimeIndex(bars["open_time"]))
    last = level["close"].groupby(bars["session"].to_numpy()).last().to_numpy()
    returns = last / np.r_[level["open"].iloc[0], last[:-1]] - 1  # the first day from its open, as the account's
    own = evidence.to_daily(tiny_study.result.equity, tiny_inputs.bars, cash=100_000)
    expected = metrics.alpha_beta(own, returns, days_per_year=365)
    alpha = explain_with_index(tiny_run, tiny_inputs, tiny_study, index)
    assert (alpha["market"], alpha["notes"]) == ("IDX", [])
    assert (alpha["alpha"], alpha["beta"]) == (pytest.approx(expected.alpha), pytest.approx(expected.beta))


def test_an_index_that_stands_still_or_is_not_known_yet_is_said(
    tiny_run: RunFile, tiny_inputs: Inputs, tiny_study: Study
) -> None:
    index = tiny_inputs.prices[tiny_inputs.prices["symbol"] == "AAA"].assign(symbol="IDX")
    still = explain_with_index(
        tiny_run, tiny_inputs, tiny_study, index.assign(open=50.0, high=50.0, low=50, close=50.0)
    )
    assert (still["alpha"], still["beta"], still["beta_error"]) == (None, None, None)
    assert still["notes"] == [f"Alpha and beta are not defined: IDX moved alike on all {still['days']} days."]
    late = index[index["open_time"] >= pd.Timestamp("2026-03-05T06:00Z")]
    alpha = explain_with_index(tiny_run, tiny_inputs, tiny_study, late)
    assert alpha["notes"][0] == "IDX has no price at first; days left out: 2."
    assert "days of returns: 1, at least 3 are needed" in alpha["notes"][1]


def test_the_index_begins_at_the_account_s_first_open_and_stands_where_it_did_not_print() -> None:
    bars = make_hours("24x7", "2024-03-08", "2024-03-09").iloc[:6]
    opens = pd.DatetimeIndex(bars["open_time"])
    index = make_prices(bars, {"IDX": [None, (10, 11), None, (12, 13), None, (14, 15)]})
    level, before = to_index_equity(index, bars, opens[3:])
    assert (level.tolist(), before) == ([13.0, 13.0, 15.0], 12.0)
    level, before = to_index_equity(index, bars, opens[2:4])
    assert (level.tolist(), before) == ([11.0, 13.0], 11.0)  # no open at 02:00: the last close before it
    level, before = to_index_equity(index, bars, opens)
    assert math.isnan(before)
    assert level.tolist()[1:] == [11.0, 11.0, 13.0, 13.0, 15.0]
