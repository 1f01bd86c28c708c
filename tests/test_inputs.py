"""What a run reads beside prices and news of its symbols: dividends, an index, and news of the market as a whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finsignal.clock import make_bars
from finsignal.config import RunFile, read_run
from finsignal.errors import ConfigError, TableError
from finsignal.fetching import fetch_files
from finsignal.job.facts import make_cut, make_reader
from finsignal.lake import append, as_of, open_lake, read_dividends
from finsignal.signals import make_flat_state
from finsignal.study import read_inputs
from finsignal.study.deciding import decide_run
from finsignal.tables import ACTIONS, PRICES, SENTIMENT

NOW = pd.Timestamp("2026-01-01T00:00Z").as_unit("us")
HOUR = pd.Timedelta(hours=1)
STRATEGIES = Path(__file__).resolve().parents[1] / "strategies"


def write_daily(folder: Path) -> RunFile:
    """Two shares and an index, ten sessions; AAA pays 2 % of its close on the sixth, SPX is not traded."""
    days = pd.bdate_range("2024-03-04", periods=10).strftime("%Y-%m-%d")
    parts = []
    for number, symbol in enumerate(("AAA", "BBB", "SPX", "ZZZ")):
        close = 100 + 10.0 * number + np.arange(10)
        rows = pd.DataFrame({"date": days, "symbol": symbol, "open": close, "close": close, "volume": 100.0})
        factor = np.where(np.arange(10) < 5, 0.98, 1.0) if symbol == "AAA" else 1.0
        parts.append(rows.assign(high=close + 1, low=close - 1, adj=close * factor))
    pd.concat(parts).to_parquet(folder / "daily.parquet", index=False)
    news = pd.DataFrame(
        {
            "at": pd.to_datetime([f"{day}T15:00:05Z" for day in days]),
            "about": ["AAA", "macro", "BBB", "macro", "AAA", "ZZZ", "macro", "BBB", "AAA", "macro"],
            "text": [f"$ aaa and others, item {n}" for n in range(10)],
        }
    )
    news.to_parquet(folder / "news.parquet", index=False)
    (folder / "run.toml").write_text(
        """
name = "daily"
strategy = "none.py"
market = "XNYS"
bar = "1d"
symbols = ["AAA", "BBB"]
index = "SPX"
market_news = "every"
start = "2024-03-04"
end = "2024-03-16"
cash = 1000
prices_path = ["daily.parquet"]
news_path = "news.parquet"
[prices]
time = "date"
stamp = "date"
symbol = "symbol"
adj_close = "adj"
[news]
time = "at"
text = "text"
symbol = "about"
[news.symbol_map]
AAA = "AAA"
BBB = "BBB"
ZZZ = "ZZZ"
macro = "*"
[names]
AAA = ["Alder"]
BBB = ["Birch"]
[features]
half_life = 1
max_age = 2
[weights]
slots = 2
gross = 0.9
holding = 2
[costs]
fee = 0.0
slippage = 0.0
delisting_return = 0.0
delisted_after = 5
""",
        encoding="utf-8",
    )
    return read_run(folder / "run.toml")


@pytest.fixture
def run(tmp_path: Path) -> RunFile:
    return write_daily(tmp_path)


def test_dividends_of_the_file_are_actions_of_the_account(run):
    inputs = read_inputs(run, now=NOW)
    ACTIONS.check(inputs.actions)
    assert inputs.actions[["symbol", "kind"]].to_numpy().tolist() == [["AAA", "dividend"]]
    assert inputs.actions["value"].tolist() == pytest.approx([0.02 * 104])
    assert inputs.actions["time"].tolist() == [inputs.bars["open_time"].iloc[5]]


def test_a_file_that_says_nothing_of_dividends_gives_none(run):
    assert read_inputs(replace(run, prices=replace(run.prices, adj_close=None)), now=NOW).actions is None


def test_the_index_is_read_beside_the_symbols_and_not_among_them(run):
    inputs = read_inputs(run, now=NOW)
    PRICES.check(inputs.index)
    assert set(inputs.index["symbol"]) == {"SPX"}
    assert set(inputs.prices["symbol"]) == {"AAA", "BBB"}
    assert inputs.price_counts.dropped == {"of a symbol that is not in the run": 10}
    traded = read_inputs(replace(run, index="BBB"), now=NOW)
    assert traded.index.equals(traded.prices[traded.prices["symbol"] == "BBB"].reset_index(drop=True))
    assert read_inputs(replace(run, index=""), now=NOW).index is None


def test_an_index_without_prices_is_refused(run):
    with pytest.raises(TableError, match="no bar of SPY, the run's index, between 2024-03-04 and 2024-03-16"):
        read_inputs(replace(run, index="SPY"), now=NOW)


def test_the_index_may_stand_in_a_file_of_its_own(run, tmp_path):
    rows = pd.read_parquet(tmp_path / "daily.parquet")
    for symbol, part in rows.groupby("symbol"):
        part.to_parquet(tmp_path / f"{symbol}.parquet")
    paths = tuple(f"{symbol}={symbol}.parquet" for symbol in ("AAA", "BBB", "SPX"))
    apart = replace(run, prices=replace(run.prices, symbol=None), prices_path=paths)
    assert read_inputs(apart, now=NOW).index.equals(read_inputs(run, now=NOW).index)
    with pytest.raises(ConfigError, match=r"'SPY', which symbols does not have\. Did you mean 'SPX'"):
        read_inputs(replace(apart, prices_path=(*paths[:2], "SPY=SPX.parquet")), now=NOW)


def test_market_news_of_a_file_goes_where_the_run_says(run):
    every = read_inputs(run, now=NOW)
    wide = every.news[every.news["text"].str.endswith(("item 1", "item 3", "item 6", "item 9"))]
    assert wide.groupby("text")["symbol"].agg(list).tolist() == [["AAA", "BBB"]] * 4
    assert (wide["relevance"] == 1).all()  # though no text names BBB
    own = every.news[every.news["text"].str.endswith("item 2")]
    assert own[["symbol", "relevance"]].to_numpy().tolist() == [["BBB", 0.0]]
    assert every.news_counts.dropped == {"filed under other symbols": 1}

    one = read_inputs(replace(run, market_news="BBB"), now=NOW)
    assert one.news["symbol"].value_counts().to_dict() == {"BBB": 6, "AAA": 3}
    nowhere = read_inputs(replace(run, market_news=""), now=NOW)
    assert nowhere.news["symbol"].value_counts().to_dict() == {"AAA": 3, "BBB": 2}
    assert nowhere.news_counts.dropped == {"filed under other symbols": 1, "market-wide, left out": 4}


def test_a_file_of_market_news_alone_needs_no_column_of_symbols(run):
    layout = replace(run.news, symbol=None, symbol_map=None, symbol_fixed="*")
    inputs = read_inputs(replace(run, news=layout, market_news="AAA"), now=NOW)
    assert inputs.news["symbol"].tolist() == ["AAA"] * 10
    with pytest.raises(TableError, match="news: nothing known for AAA, BBB"):
        read_inputs(replace(run, news=layout, market_news=""), now=NOW)


def test_the_bundled_example_reads_all_news_as_news_of_the_index_that_it_trades():
    inputs = read_inputs(read_run(STRATEGIES / "index_news.toml"), now=NOW)
    assert inputs.news_counts.dropped == {}
    assert len(inputs.news) == inputs.news_counts.read
    assert set(inputs.news["symbol"]) == {"SIMX"}
    assert (inputs.news["relevance"] == 1).all()
    assert inputs.index.equals(inputs.prices)
    assert len(inputs.prices) == len(inputs.bars)


@pytest.mark.parametrize("section", ["prices", "news"])
def test_a_map_that_leads_to_a_symbol_unknown_to_the_run_is_refused(run, section):
    layout = replace(getattr(run, section), renamed={"AAB": "AAAA"})
    with pytest.raises(ConfigError, match=rf"{section}\.renamed\.AAB leads to 'AAAA'.*Did you mean 'AAA'"):
        read_inputs(replace(run, **{section: layout}), now=NOW)


# --- the same from a lake -----------------------------------------------------------------------------------------


def test_a_lake_filled_from_files_gives_the_same_dividends_and_index(run, tmp_path):
    lake = open_lake(tmp_path / "lake", create=True)
    fetch_files(lake, run, now=NOW)
    stored = replace(run, lake="lake", prices_path=(), news_path="")
    inputs, expected = (read_inputs(r, now=NOW + HOUR) for r in (stored, run))
    assert inputs.actions.equals(expected.actions)
    pd.testing.assert_frame_equal(inputs.index[list(PRICES.columns)], expected.index[list(PRICES.columns)])
    assert set(inputs.prices["symbol"]) == {"AAA", "BBB"}
    with pytest.raises(TableError, match="no bar of SPY, the run's index"):
        read_inputs(replace(stored, index="SPY"), now=NOW + HOUR)


def test_dividends_of_a_lake_are_on_the_basis_of_its_prices(tmp_path):
    """2.00 a share before a split of 4 is 0.50 a new share; what was stored after the split is for new shares already.

    Prices: 400 before the split, 100 on its basis. So the dividend stays half a percent of the close at any instant.
    """
    lake = open_lake(tmp_path / "lake", create=True)
    first, split, later = (pd.Timestamp(f"2024-03-{day}T14:30Z").as_unit("us") for day in ("04", "06", "08"))
    actions = pd.DataFrame({"symbol": "AAA", "time": [first], "kind": "dividend", "value": 2.0})
    append(lake, "actions", ACTIONS.to_table(actions), recorded=first + HOUR, market="XNYS")
    more = pd.DataFrame(
        {
            "symbol": "AAA",
            "time": [split, split, later],
            "kind": ["split", "dividend", "dividend"],
            "value": [4.0, 0.6, 0.7],
        }
    )
    append(lake, "actions", ACTIONS.to_table(more), recorded=later + HOUR, market="XNYS")

    def read(t: pd.Timestamp, recorded_by: pd.Timestamp) -> list[float]:
        return read_dividends(lake, t, recorded_by=recorded_by, market="XNYS", symbols=["AAA"])["value"].tolist()

    assert read(later + HOUR, later + HOUR) == [0.5, 0.6, 0.7]
    assert read(first + HOUR, first + HOUR) == [2.0]
    assert read(first + HOUR, later + HOUR) == [2.0]  # at that instant shares were old ones
    assert read(split - HOUR, later + HOUR) == [2.0]
    assert as_of(lake, "actions", later, recorded_by=later + HOUR, market="XNYS")["value"].tolist()[:1] == [2.0]


def test_a_dividend_stored_after_a_split_is_multiplied_back_before_it(tmp_path):
    lake = open_lake(tmp_path / "lake", create=True)
    first, split = (pd.Timestamp(f"2024-03-{day}T14:30Z").as_unit("us") for day in ("04", "06"))
    both = {"symbol": "AAA", "time": [first, split], "kind": ["dividend", "split"], "value": [0.5, 4.0]}
    append(lake, "actions", ACTIONS.to_table(pd.DataFrame(both)), recorded=split + HOUR, market="XNYS")
    for t, value in ((split, 0.5), (split - HOUR, 2.0)):
        found = read_dividends(lake, t, recorded_by=split + HOUR, market="XNYS")
        assert found["value"].tolist() == [value]


def test_a_dividend_announced_for_the_day_of_a_split_is_for_new_shares(tmp_path):
    lake = open_lake(tmp_path / "lake", create=True)
    split = pd.Timestamp("2024-03-06T14:30Z").as_unit("us")
    both = {"symbol": "AAA", "time": [split, split], "kind": ["dividend", "split"], "value": [0.6, 4.0]}
    append(lake, "actions", ACTIONS.to_table(pd.DataFrame(both)), recorded=split - HOUR, market="XNYS")
    assert read_dividends(lake, split, recorded_by=split, market="XNYS")["value"].tolist() == [0.6]


# --- the index in a decision ------------------------------------------------------------------------------------------


@pytest.fixture
def long_run(tmp_path: Path) -> RunFile:
    """Ninety sessions of two shares that move with an index; AAA prints on two days of three after the first ten."""
    run = write_daily(tmp_path)
    rng = np.random.default_rng(5)
    days = [*make_bars("XNYS", "1d", start="2024-03-04", end="2024-09-01", latency=HOUR)["session"]]
    market = rng.normal(0, 0.01, len(days))
    parts = []
    for number, symbol in enumerate(("AAA", "BBB", "SPX")):
        noise = 0.0 if symbol == "SPX" else rng.normal(0, 0.005, len(days))
        close = 100 * np.exp(np.cumsum((1 + number % 2) * market + noise))
        rows = pd.DataFrame({"date": days, "symbol": symbol, "open": close, "close": close, "volume": 100.0})
        rows = rows.assign(high=close + 1, low=close - 1, adj=close)
        parts.append(rows[(rows.index < 10) | (rows.index % 3 > 0)] if symbol == "AAA" else rows)
    pd.concat(parts).to_parquet(tmp_path / "daily.parquet", index=False)
    (tmp_path / "strategy.py").write_text(STRATEGY, encoding="utf-8")
    return replace(run, end="2024-09-01", strategy="strategy.py")


STRATEGY = """
from finsignal import to_signal

def strategy(features):
    return to_signal(features["beta_60"] - 1.2, features["beta_60"] * 0 + 1, buy_threshold=0.1, sell_threshold=0.1,
                     confidence_threshold=0.0)
"""


def decide_with(run: RunFile, known) -> pd.DataFrame:
    decided = decide_run(
        run,
        known,
        SENTIMENT.empty(),
        make_flat_state(run.symbols),
        strategy=run.load_strategy(),
        parameters=run.make_parameters(),
    )
    return decided.features.merge(decided.signals, on=["symbol", "open_time"])


@pytest.mark.parametrize("source", ["tables", "lake"])
def test_a_pass_knows_the_same_beta_as_the_backtest(long_run, tmp_path, source):
    run, inputs = long_run, read_inputs(long_run, now=NOW)
    whole = decide_with(run, inputs)
    if source == "lake":
        fetch_files(open_lake(tmp_path / "lake", create=True), run, now=NOW)
        run = replace(run, lake="lake", prices_path=(), news_path="")
        facts = make_reader(run, read_inputs(run, now=NOW + HOUR), NOW + HOUR)
    else:
        facts = make_cut(run, inputs)
    state = make_flat_state(run.symbols)
    for position in (40, 70, 100, len(inputs.bars) - 1):
        known = facts(position, state)
        assert known.index["time"].max() <= inputs.bars["time"].iloc[position]
        last = whole["open_time"] == inputs.bars["open_time"].iloc[position]
        found = decide_with(run, known)
        found = found[found["open_time"] == inputs.bars["open_time"].iloc[position]]
        pd.testing.assert_frame_equal(found.reset_index(drop=True), whole[last].reset_index(drop=True))
    assert found["beta_60"].notna().all()
    assert set(whole["signal"]) == {"BUY", "HOLD", "SELL"}
