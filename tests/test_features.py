"""What features are: hand-worked values, vectorbt's indicators, and nothing from the future or the far past."""

import statistics

import numpy as np
import pandas as pd
import pytest
from feature_tables import HOUR, MINUTE, START, make_grid, make_texts, of, random_texts, truncated_equals
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_texts import plain_sums, plain_texts

from finsignal.errors import ConfigError, TableError
from finsignal.features import (
    BETA_LOOKBACK,
    FUNDING_LOOKBACK,
    LOOKBACK,
    OPEN_INTEREST_LOOKBACK,
    SENTIMENT_FEATURES,
    SESSION_LOOKBACK,
    aggregate_sentiment,
    make_counted_texts,
    make_funding_features,
    make_market_features,
    make_open_interest_features,
    make_price_features,
    sentiment_lookback,
    texts_behind,
)
from finsignal.features.technical import TECHNICAL_LOOKBACK
from finsignal.signals import NewsRules, make_features
from finsignal.tables import FEATURES, FUNDING, INSTANT, NEWS, OPEN_INTEREST, PRICES, SENTIMENT

PLAIN = {"half_life": 2.0, "max_age": 4, "min_relevance": 0.0, "source_weights": {}}


def make_prices(close: dict[str, np.ndarray], volume: dict[str, np.ndarray] | None = None) -> pd.DataFrame:
    """One price row at each hour from START, all four prices equal."""
    parts = []
    for symbol, values in close.items():
        opens = pd.date_range(START, periods=len(values), freq="1h")
        part = pd.DataFrame({"open_time": opens, "time": opens + HOUR, "symbol": symbol})
        for column in ("open", "high", "low", "close"):
            part[column] = np.asarray(values, dtype=float)
        part["volume"] = np.ones(len(values)) if volume is None else volume[symbol]
        parts.append(part)
    return PRICES.to_table(pd.concat(parts))


def random_close(seed: int, size: int) -> np.ndarray:
    return 100 * np.exp(np.random.default_rng(seed).normal(0, 0.01, size).cumsum())


def random_prices(sizes: dict[str, int], *, opens: pd.DatetimeIndex | None = None) -> pd.DataFrame:
    """So many random rows of each symbol, the four prices and the volume all different."""
    parts = []
    for symbol, size in sizes.items():
        rng = np.random.default_rng(ord(symbol))
        times = pd.date_range(START, periods=size, freq="1h") if opens is None else opens
        close = 100 * np.exp(rng.normal(0, 0.01, size).cumsum())
        open_ = close * np.exp(rng.normal(0, 0.01, size))
        part = pd.DataFrame({"open_time": times, "time": times + HOUR, "symbol": symbol, "open": open_, "close": close})
        part["high"] = np.maximum(open_, close) * (1 + rng.uniform(0, 0.01, size))
        part["low"] = np.minimum(open_, close) * (1 - rng.uniform(0, 0.01, size))
        parts.append(part.assign(volume=rng.uniform(1, 9, size)))
    return PRICES.to_table(pd.concat(parts))


# --- price features: values ------------------------------------------------------------------------------------------


def test_returns_by_hand_and_one_bar_late() -> None:
    # Closes 100, 110, 99 of the bars 00, 01, 02. The decision at 00:59 has seen none of them, for bar 00 closes at
    # 01:00; the one at 01:59 has seen only the first; at 02:59 110/100 - 1 = 0.1; at 03:59 99/110 - 1 = -0.1.
    out = make_price_features(make_prices({"A": [100, 110, 99]}), make_grid(5), ["A"], max_age=10)
    np.testing.assert_allclose(of(out, "ret_1"), [np.nan, np.nan, np.nan, 0.1, -0.1], rtol=1e-12)


def test_returns_over_5_and_20_rows_by_hand() -> None:
    close = np.ones(21)
    close[[0, 15, 20]] = 50.0, 80.0, 100.0  # 100/80 - 1 = 0.25 over 5 rows; 100/50 - 1 = 1 over 20
    out = make_price_features(make_prices({"A": close}), make_grid(23), ["A"], max_age=10)
    assert of(out, "ret_5")[22] == 0.25
    assert of(out, "ret_20")[22] == 1.0
    assert np.isnan(of(out, "ret_20")[21])  # 20 rows are one too few


def test_volatility_by_hand() -> None:
    # Returns +0.1 and -0.1 ten times each: mean 0, squares 20 * 0.01 = 0.2, sqrt(0.2 / 19) = 0.102598.
    close = 100 * np.cumprod(np.r_[1.0, np.tile([1.1, 0.9], 10)])
    out = make_price_features(make_prices({"A": close}), make_grid(23), ["A"], max_age=10)
    assert of(out, "vol_20")[22] == pytest.approx(0.102598, abs=1e-6)


def test_volume_ratio_by_hand() -> None:
    # Twenty rows of mean volume (10 * 1 + 10 * 3) / 20 = 2, then 5: the ratio is 5 / 2, for no row is in its own mean.
    volume = np.r_[np.tile([1.0, 3.0], 10), 5.0]
    out = make_price_features(make_prices({"A": np.ones(21)}, {"A": volume}), make_grid(23), ["A"], max_age=10)
    assert of(out, "volume_ratio_20")[22] == 2.5


def test_rsi_equals_the_published_first_value() -> None:
    # StockCharts ChartSchool, "Relative Strength Index (RSI)", the worked table of QQQQ: average gain 0.24, average
    # loss 0.10 over the first 14 changes, RSI 70.53.
    close = [
        *(44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245),
        *(45.8433, 46.0826, 45.8931, 46.0328, 45.6140, 46.2820, 46.2820),
    ]
    out = make_price_features(make_prices({"A": close}), make_grid(17), ["A"], max_age=10)
    assert of(out, "rsi_14")[16] == pytest.approx(70.53, abs=0.005)


def test_prices_that_never_move_have_no_rsi_and_no_volatility() -> None:
    out = make_price_features(make_prices({"A": np.full(25, 7.0)}), make_grid(26), ["A"], max_age=10)
    assert np.isnan(of(out, "rsi_14")).all()  # up and down are both 0: 0 / 0 is not known, as vectorbt has it
    assert of(out, "vol_20")[25] == 0.0


def test_a_volume_of_nothing_has_no_ratio() -> None:
    out = make_price_features(make_prices({"A": np.ones(22)}, {"A": np.zeros(22)}), make_grid(23), ["A"], max_age=10)
    assert np.isnan(of(out, "volume_ratio_20")).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_price_features_equal_the_indicators_of_vectorbt() -> None:
    vbt = pytest.importorskip("vectorbt", reason="needs the extra finsignal[backtest]")
    close = pd.Series(random_close(1, 300))
    volume = pd.Series(np.random.default_rng(2).uniform(1, 9, 300))
    returns = close.pct_change()
    expected = {
        "ret_1": close.vbt.pct_change(1),
        "ret_5": close.vbt.pct_change(5),
        "ret_20": close.vbt.pct_change(20),
        "vol_20": returns.vbt.rolling_std(20, ddof=1),
        "volume_ratio_20": volume / vbt.MA.run(volume, 20).ma.shift(1).to_numpy(),
        "rsi_14": vbt.RSI.run(close, 14, ewm=False).rsi,
    }
    high, low = close * 1.02, close * 0.97
    expected["bollinger_20"] = vbt.BBANDS.run(close, 20, alpha=2, ewm=False, ddof=0).percent_b
    expected["atr_ratio_14"] = vbt.ATR.run(high, low, close, 14, ewm=False).atr / close
    expected["atr_ratio_14"].iloc[13] = np.nan  # vectorbt takes the first row's range for a true one
    prices = make_prices({"A": close.to_numpy()}, {"A": volume.to_numpy()})
    prices = prices.assign(high=high.to_numpy(), low=low.to_numpy())
    out = make_price_features(prices, make_grid(301), ["A"], max_age=10)
    for name, values in expected.items():  # the row of bar n is known to the decision before bar n + 2
        np.testing.assert_allclose(of(out, name)[2:], values.to_numpy()[:299], rtol=1e-9, err_msg=name)


def plain_smooth(values: list[float], span: int) -> float:
    """Mean of the last 3 spans with weights 1, q, q * q ... from the newest back, q = 1 - 2 / (span + 1)."""
    weight, total, weights = 1.0, 0.0, 0.0
    for value in values[: -3 * span - 1 : -1]:
        total, weights, weight = total + weight * value, weights + weight, weight * (1 - 2 / (span + 1))
    return total / weights


def plain_technical(rows: pd.DataFrame) -> dict[str, float]:
    """The figures of the newest row, once more from their definitions, in plain Python."""
    o, h, low, c, v = (rows[name].tolist() for name in ("open", "high", "low", "close", "volume"))
    lines = [plain_smooth(c[:n], 12) - plain_smooth(c[:n], 26) for n in range(len(c) - 26, len(c) + 1)]
    mean, deviation = statistics.fmean(c[-20:]), statistics.pstdev(c[-20:])
    lower, upper = mean - 2 * deviation, mean + 2 * deviation
    ranges = [max(h[-n] - low[-n], abs(h[-n] - c[-n - 1]), abs(low[-n] - c[-n - 1])) for n in range(1, 15)]
    typical = [(h[-n] + low[-n] + c[-n]) / 3 for n in range(1, 21)]
    vwap = sum(t * v[-n] for n, t in enumerate(typical, 1)) / sum(v[-20:])
    return {
        "macd": lines[-1] / c[-1],
        "macd_histogram": (lines[-1] - plain_smooth(lines, 9)) / c[-1],
        "bollinger_20": (c[-1] - lower) / (upper - lower),
        "atr_ratio_14": statistics.fmean(ranges) / c[-1],
        "vwap_distance_20": c[-1] / vwap - 1,
        "gap": o[-1] / c[-2] - 1,
    }


@pytest.mark.parametrize("size", [104, 105, 140])
def test_technical_features_equal_their_definitions(size: int) -> None:
    prices = random_prices({"A": size, "B": 120})
    out = make_price_features(prices, make_grid(size + 2), ["A", "B"], max_age=10)
    expected = plain_technical(prices[prices["symbol"] == "A"])
    assert set(expected) == set(TECHNICAL_LOOKBACK)
    found = {name: of(out, name)[-1] for name in expected}
    assert found == pytest.approx(expected, rel=1e-9)


def test_macd_by_hand() -> None:
    # A close of 1 and, in the newest row, of 2: each smoothed close is 1 + the weight of the newest row. That weight is
    # a / (1 - q**(3 span)) with a = 2 / (span + 1), q = 1 - a: 0.154223 for 12, 0.074258 for 26, 0.200485 for 9.
    # macd = (0.154223 - 0.074258) / 2 = 0.039983; the line was 0 before, so smoothed it is 0.079965 * 0.200485.
    close = np.ones(104)
    close[-1] = 2.0
    out = make_price_features(make_prices({"A": close}), make_grid(106), ["A"], max_age=10)
    assert of(out, "macd")[-1] == pytest.approx(0.039983, abs=1e-6)
    assert of(out, "macd_histogram")[-1] == pytest.approx(0.079965 * (1 - 0.200485) / 2, abs=1e-6)


def test_bollinger_by_hand() -> None:
    # Ten closes of 9, nine of 11 and a newest of 11: mean 10, deviation 1, bands 8 and 12: (11 - 8) / 4 = 0.75.
    out = make_price_features(make_prices({"A": [9, 11] * 10}), make_grid(22), ["A"], max_age=10)
    assert of(out, "bollinger_20")[-1] == pytest.approx(0.75, rel=1e-12)


def test_true_ranges_reach_to_the_close_before() -> None:
    # 13 rows of high 102, low 98, close 100, then a row that opens with a gap: high 112, low 108, close 110. Its true
    # range is 112 - 100 = 12, the others' 4: (13 * 4 + 12) / 14 / 110.
    prices = make_prices({"A": [100.0] * 14 + [110.0]})
    prices = prices.assign(high=prices["close"] + 2, low=prices["close"] - 2)
    out = make_price_features(prices, make_grid(17), ["A"], max_age=10)
    assert of(out, "atr_ratio_14")[-1] == pytest.approx(64 / 14 / 110, rel=1e-12)


def test_vwap_distance_by_hand() -> None:
    # 19 rows at 10 with volume 1 and a newest at 20 with volume 19: VWAP (190 + 380) / 38 = 15; 20 / 15 - 1.
    prices = make_prices({"A": [10.0] * 19 + [20.0]}, {"A": np.array([1.0] * 19 + [19.0])})
    out = make_price_features(prices, make_grid(22), ["A"], max_age=10)
    assert of(out, "vwap_distance_20")[-1] == pytest.approx(1 / 3, rel=1e-12)


def test_prices_that_never_move_have_no_band_and_nothing_traded_no_vwap() -> None:
    out = make_price_features(
        make_prices({"A": np.full(30, 7.1)}, {"A": np.zeros(30)}), make_grid(32), ["A"], max_age=10
    )
    assert np.isnan(of(out, "bollinger_20")).all()
    assert np.isnan(of(out, "vwap_distance_20")).all()
    assert of(out, "atr_ratio_14")[-1] == 0.0


# --- price features: sessions ----------------------------------------------------------------------------------------


def make_sessions(days: int, hours: int) -> pd.DataFrame:
    """A grid of hourly sessions that begin at 14:00."""
    starts = pd.date_range(START + 14 * HOUR, periods=days, freq="1D")
    return make_grid(pd.DatetimeIndex([day + hour * HOUR for day in starts for hour in range(hours)]))


def rows_on(grid: pd.DataFrame, open_: list[float], close: list[float], symbol: str = "A") -> pd.DataFrame:
    """A price row at each bar of the grid, of the opens and closes given; NaN is a bar that did not print."""
    frame = pd.DataFrame({"open_time": grid["open_time"], "time": grid["close_time"], "symbol": symbol})
    frame["open"], frame["close"] = open_, close
    frame["high"], frame["low"] = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    return PRICES.to_table(frame.assign(volume=1.0).dropna())


def test_session_returns_by_hand() -> None:
    # Three sessions of three bars. The first is not known to begin where the grid does. The second opens at 110 after a
    # close of 100, overnight +10 %, and closes at 99, 121, 88: -10 %, +10 %, -20 % of 110. The third opens at 44, half
    # of 88, and closes at 66. A bar's close is known to the decision two bars later, across the night as well.
    grid = make_sessions(3, 3)
    opens = [90, 95, 99, 110, 100, 120, 44, 50, 50]
    closes = [91, 96, 100, 99, 121, 88, 66, 50, 50]
    out = make_price_features(rows_on(grid, opens, closes), grid, ["A"], max_age=5)
    overnight, session = of(out, "overnight_return"), of(out, "session_return")
    nan = np.nan
    np.testing.assert_allclose(overnight, [nan] * 5 + [0.1, 0.1, 0.1, -0.5], rtol=1e-12)
    np.testing.assert_allclose(session, [nan] * 5 + [-0.1, -0.2, -0.2, 0.5], rtol=1e-12)
    np.testing.assert_allclose(of(out, "gap")[5:], [0.1, 120 / 121 - 1, 120 / 121 - 1, -0.5], rtol=1e-12)


def test_of_daily_bars_the_overnight_return_is_the_gap() -> None:
    grid = make_sessions(12, 1)
    prices = random_prices({"A": 12}, opens=pd.DatetimeIndex(grid["open_time"]))
    out = make_price_features(prices, grid, ["A"], max_age=5)
    gap, overnight, session = (of(out, name) for name in ("gap", "overnight_return", "session_return"))
    np.testing.assert_array_equal(gap[2:], overnight[2:])  # of the grid's first session nothing is known
    assert np.isnan(overnight[:2]).all()
    np.testing.assert_allclose(session[2:], (prices["close"] / prices["open"] - 1).to_numpy()[1:-1], rtol=1e-12)


def test_a_session_begins_with_the_first_bar_that_printed() -> None:
    # The second session's first bar did not print: it begins at the second, and its night ends there.
    grid = make_sessions(2, 4)
    nan = np.nan
    opens, closes = [8, 8, 8, 8, nan, 12, 12, 12], [8, 8, 8, 10, nan, 18, 12, 12]
    out = make_price_features(rows_on(grid, opens, closes), grid, ["A"], max_age=5)
    np.testing.assert_allclose(of(out, "overnight_return")[7], 0.2, rtol=1e-12)
    np.testing.assert_allclose(of(out, "session_return")[7], 0.5, rtol=1e-12)


def test_the_night_before_a_symbols_first_row_is_not_known() -> None:
    grid = make_sessions(3, 2)
    nan = np.nan
    late = rows_on(grid, [nan, nan, 5, 5, 5, 5], [nan, nan, 6, 6, 6, 6], "B")  # A's rows stand before B's
    prices = PRICES.to_table(pd.concat([rows_on(grid, [1] * 6, [1] * 6), late]))
    out = make_price_features(prices, grid, ["A", "B"], max_age=5)
    assert np.isnan(of(out, "overnight_return", "B")[4])
    assert of(out, "session_return", "B")[4] == pytest.approx(0.2)


def test_session_returns_need_the_grid_back_to_the_session_and_no_bar_more() -> None:
    # 24 bars a session, no night. A row serves from 2 bars after its own, and for 3 more where no other comes, as
    # after the last of the second session; and a bar before its session is needed.
    grid = make_grid(120)
    prices = random_prices({"A": 120}).drop(index=[48, 49, 50, 77]).reset_index(drop=True)
    full = make_price_features(prices, grid, ["A"], max_age=3)
    names = list(SESSION_LOOKBACK)

    def differing(need: int) -> int:
        count = 0
        for k in range(need, 60):
            recent = grid.iloc[k - need : k + 1].reset_index(drop=True)
            again = make_price_features(prices, recent, ["A"], max_age=3)
            alone, whole = again.iloc[-1], full.iloc[k]
            count += not alone[names].equals(whole[names])
        return count

    assert full[names].notna().sum().min() > 30
    assert differing(3 + 2 + 24) == 0
    assert differing(3 + 2 + 24 - 1) > 0


# --- beta ------------------------------------------------------------------------------------------------------------


def make_index(prices: pd.DataFrame) -> pd.DataFrame:
    """Prices of an index M at the hours of A's rows, moving with A and by itself."""
    ours = prices[prices["symbol"] == "A"]
    own = np.exp(np.random.default_rng(8).normal(0, 0.01, len(ours)).cumsum())
    close = ours["close"].to_numpy() ** 0.5 * own
    out = ours.assign(symbol="M", open=close, high=close, low=close, close=close)
    return PRICES.to_table(out)


def test_beta_is_the_slope_of_the_returns_on_the_market() -> None:
    # numpy's covariance and variance of the last 60 returns, row by row.
    prices = random_prices({"A": 90, "B": 80})
    index = make_index(prices)
    out = make_market_features(prices, index, make_grid(92), ["A", "B"], max_age=5)
    ours, market = (t["close"].pct_change().to_numpy() for t in (prices[prices["symbol"] == "A"], index))
    for n in (60, 61, 89):
        cov = np.cov(ours[n - 59 : n + 1], market[n - 59 : n + 1])
        assert of(out, "beta_60")[n + 2] == pytest.approx(cov[0, 1] / cov[1, 1], rel=1e-9)
    assert np.isnan(of(out, "beta_60")[:62]).all()
    own = make_market_features(prices, index, make_grid(92), ["B"], max_age=5)
    assert own.equals(out[out["symbol"] == "B"].reset_index(drop=True))


def test_twice_the_market_has_a_beta_of_two() -> None:
    moves = np.random.default_rng(2).normal(0, 0.01, 61)
    prices = make_prices({"A": np.cumprod(1 + 2 * moves), "M": np.cumprod(1 + moves)})
    index = PRICES.to_table(prices[prices["symbol"] == "M"])
    out = make_market_features(prices, index, make_grid(63), ["A", "M"], max_age=5)
    assert of(out, "beta_60")[-1] == pytest.approx(2.0, rel=1e-9)
    assert of(out, "beta_60", "M")[-1] == pytest.approx(1.0, rel=1e-9)


def test_returns_that_the_index_lacks_are_left_out_and_too_few_are_no_beta() -> None:
    moves = np.random.default_rng(2).normal(0, 0.01, 61)
    prices = make_prices({"A": np.cumprod(1 + 2 * moves), "M": np.cumprod(1 + moves)})
    index = PRICES.to_table(prices[prices["symbol"] == "M"])
    # Each missing row of the index takes two returns, the newest one: 60 less 15 * 2 are 30, and one more is too many.
    fifteen = 1 + 3 * np.arange(15)
    for missing, known in ((fifteen, True), ([*fifteen, 60], False)):
        some = PRICES.to_table(index[~np.isin(np.arange(61), missing)])
        beta = of(make_market_features(prices, some, make_grid(63), ["A"], max_age=5), "beta_60")[-1]
        assert beta == pytest.approx(2.0, rel=1e-9) if known else np.isnan(beta)
    still = make_prices({"M": np.ones(61)})
    assert np.isnan(of(make_market_features(prices, still, make_grid(63), ["A"], max_age=5), "beta_60")).all()
    none = make_market_features(prices, PRICES.empty(), make_grid(63), ["A"], max_age=5)
    assert np.isnan(of(none, "beta_60")).all()


def test_a_beta_is_known_when_the_index_is() -> None:
    prices = random_prices({"A": 70})
    index = make_index(prices)
    late = PRICES.to_table(index.assign(time=pd.Series(index["time"] + 3 * HOUR, dtype=INSTANT)))
    soon = of(make_market_features(prices, index, make_grid(75), ["A"], max_age=9), "beta_60")
    later = of(make_market_features(prices, late, make_grid(75), ["A"], max_age=9), "beta_60")
    np.testing.assert_array_equal(later[3:], soon[:-3])


@pytest.mark.parametrize("hour", [63, 70, 88])
def test_betas_do_not_see_the_future(hour: int) -> None:
    prices = random_prices({"A": 90, "B": 90})
    index, grid = make_index(prices), make_grid(92)
    both = pd.concat([prices, index], ignore_index=True)

    def function(table: pd.DataFrame) -> pd.DataFrame:
        market = table["symbol"] == "M"
        return make_market_features(
            PRICES.to_table(table[~market]), PRICES.to_table(table[market]), grid, ["A", "B"], max_age=5
        )

    assert function(both)["beta_60"].notna().any()
    assert truncated_equals(function, both, other_prices, START + hour * HOUR)


def test_a_beta_needs_its_lookback_and_no_row_more() -> None:
    prices = random_prices({"A": 90})
    index, grid = make_index(prices), make_grid(92)
    full = of(make_market_features(prices, index, grid, ["A"], max_age=5), "beta_60")[-1]
    least, late = BETA_LOOKBACK["beta_60"], grid.tail(7).reset_index(drop=True)
    ours, theirs = (t.tail(least).reset_index(drop=True) for t in (prices, index))
    assert of(make_market_features(ours, theirs, late, ["A"], max_age=5), "beta_60")[-1] == full
    few = ours.tail(least - 1).reset_index(drop=True)
    assert np.isnan(of(make_market_features(few, theirs, late, ["A"], max_age=5), "beta_60")[-1])


def test_betas_are_features_where_an_index_is_given() -> None:
    prices = random_prices({"A": 80, "B": 80})
    news, sentiment = make_texts([{"at": 70, "p": [0, 0, 1]}])
    tables, rules = (news, prices, sentiment, make_grid(82), ["B", "A"]), NewsRules(half_life=2.0, max_age=4)
    index = make_index(prices)
    betas = make_market_features(prices, index, make_grid(82), ["A", "B"], max_age=rules.price_max_age)["beta_60"]
    found = make_features(*tables, rules=rules, index=index)
    np.testing.assert_array_equal(found["beta_60"], betas)
    assert make_features(*tables, rules=rules).equals(found.drop(columns="beta_60"))


def test_an_index_of_two_symbols_is_refused() -> None:
    prices = random_prices({"A": 5, "B": 5})
    with pytest.raises(TableError, match=r"index: expected the prices of one symbol, got \['A', 'B'\]"):
        make_market_features(prices, prices, make_grid(5), ["A"], max_age=5)


# --- price features: time --------------------------------------------------------------------------------------------


def test_a_row_serves_max_age_bars_and_then_nothing_is_known() -> None:
    # The row of bar 01 is known at 02:00, first to the decision at 02:59 before bar 03. Two bars more, then NaN.
    out = make_price_features(make_prices({"A": [1, 2]}), make_grid(8), ["A"], max_age=2)
    np.testing.assert_array_equal(of(out, "ret_1"), [np.nan, np.nan, np.nan, 1, 1, 1, np.nan, np.nan])


def test_the_night_and_the_weekend_age_nothing() -> None:
    # Last bar on Friday at 20:00, next on Monday at 14:00: one grid bar apart.
    opens = pd.DatetimeIndex(["2024-03-08 19:00", "2024-03-08 20:00", "2024-03-11 14:00"], tz="UTC")
    grid = make_grid(opens)
    prices = make_prices({"A": [1, 2]}).assign(open_time=grid["open_time"][:2], time=grid["close_time"][:2])
    assert of(make_price_features(prices, grid, ["A"], max_age=0), "ret_1")[2] == 1.0
    news, sentiment = make_texts([{"at": 0, "p": [0, 0, 1]}])
    friday = pd.Series([pd.Timestamp("2024-03-08 20:30", tz="UTC")], dtype=INSTANT)
    out = aggregate_sentiment(news.assign(time=friday), sentiment.assign(time=friday), grid, ["A"], **PLAIN)
    np.testing.assert_array_equal(of(out, "sent_count"), [0, 0, 1])


def other_prices(prices: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
    out = prices.copy()
    scale = np.random.default_rng(9).uniform(0.5, 2, len(out))
    for column in ("open", "high", "low", "close", "volume"):
        out.loc[where, column] = out.loc[where, column] * scale[where.to_numpy()]
    return out.assign(high=out[["open", "high", "close"]].max(axis=1), low=out[["open", "low", "close"]].min(axis=1))


@pytest.mark.parametrize("hour", [0, 1, 30, 31, 119, 129])
def test_price_features_do_not_see_the_future(hour: int) -> None:
    prices = random_prices({"A": 130, "B": 130})
    grid = make_grid(132)

    def function(table: pd.DataFrame) -> pd.DataFrame:
        return make_price_features(table, grid, ["A", "B"], max_age=3)

    assert truncated_equals(function, prices, other_prices, START + hour * HOUR)


def test_the_truncation_check_sees_a_global_z_score() -> None:
    prices = make_prices({"A": random_close(1, 60)})
    grid = make_grid(62)

    def leaking(table: pd.DataFrame) -> pd.DataFrame:
        out = make_price_features(table, grid, ["A"], max_age=3)
        return out.assign(ret_1=(out["ret_1"] - out["ret_1"].mean()) / out["ret_1"].std())

    assert not truncated_equals(leaking, prices, other_prices, START + 30 * HOUR)


@pytest.mark.parametrize("name", list(LOOKBACK))
def test_a_price_feature_needs_its_lookback_and_no_row_more(name: str) -> None:
    prices, grid = random_prices({"A": 130}), make_grid(132)
    full = of(make_price_features(prices, grid, ["A"], max_age=5), name)[131]
    assert np.isfinite(full)
    enough = prices.tail(LOOKBACK[name]).reset_index(drop=True)
    assert of(make_price_features(enough, grid.tail(7).reset_index(drop=True), ["A"], max_age=5), name)[-1] == full
    too_few = enough.tail(LOOKBACK[name] - 1).reset_index(drop=True)
    assert np.isnan(of(make_price_features(too_few, grid, ["A"], max_age=5), name)[-1])


def test_symbols_do_not_touch_in_prices() -> None:
    prices = random_prices({"A": 130, "B": 40, "C": 130})
    grid = make_grid(131)
    together = make_price_features(prices, grid, ["C", "B", "A"], max_age=3)
    for symbol in ("A", "B", "C"):
        alone = make_price_features(
            prices[prices["symbol"] == symbol].reset_index(drop=True), grid, [symbol], max_age=3
        )
        assert alone.equals(together[together["symbol"] == symbol].reset_index(drop=True))


def test_a_symbol_without_prices_has_rows_that_know_nothing() -> None:
    out = make_price_features(make_prices({"A": [1, 2]}), make_grid(4), ["A", "Z"], max_age=3)
    assert list(out["symbol"]) == ["A"] * 4 + ["Z"] * 4
    assert np.isnan(of(out, "ret_1", "Z")).all()


def test_a_row_known_before_the_grid_began_has_no_age_and_does_not_count() -> None:
    prices = make_prices({"A": random_close(1, 30)})
    late = make_grid(32).tail(5).reset_index(drop=True)
    out = make_price_features(prices, late, ["A"], max_age=50)
    assert np.isnan(of(out, "ret_1")[0])
    assert not np.isnan(of(out, "ret_1")[1:]).any()


# --- funding and open interest ---------------------------------------------------------------------------------------


def make_rates(rates: dict[str, list[float]]) -> pd.DataFrame:
    """One settlement every eight hours from START."""
    parts = [
        pd.DataFrame({"symbol": s, "time": pd.date_range(START, periods=len(r), freq="8h"), "rate": r})
        for s, r in rates.items()
    ]
    return FUNDING.to_table(pd.concat(parts))


def make_contracts(contracts: dict[str, np.ndarray]) -> pd.DataFrame:
    """Open interest at each hour from START."""
    parts = [
        pd.DataFrame({"symbol": s, "time": pd.date_range(START, periods=len(c), freq="1h"), "contracts": c})
        for s, c in contracts.items()
    ]
    return OPEN_INTEREST.to_table(pd.concat(parts).astype({"contracts": "float64"}))


# The table, its column of numbers, what makes features of it, their lookback, and random rows of A and B.
MORE = {
    "funding": (
        FUNDING,
        "rate",
        make_funding_features,
        FUNDING_LOOKBACK,
        make_rates({s: np.random.default_rng(n).normal(0, 1e-4, 12).tolist() for n, s in enumerate("AB")}),
    ),
    "open interest": (
        OPEN_INTEREST,
        "contracts",
        make_open_interest_features,
        OPEN_INTEREST_LOOKBACK,
        make_contracts({s: random_close(n, 90) for n, s in enumerate("AB")}),
    ),
}


def test_funding_by_hand() -> None:
    # Settled at 00:00, 08:00, 16:00 and 24:00. At 07:59, for the bar of 08:00, the rate of 08:00 is not known; at 08:59
    # it is. The sum of three is known from 16:59 on: 1 + 2 - 4 = -1, then 2 - 4 + 8 = 6.
    out = make_funding_features(make_rates({"A": [1.0, 2.0, -4.0, 8.0]}), make_grid(27), ["A"], max_age=8)
    rate, total = of(out, "funding_rate"), of(out, "funding_3")
    np.testing.assert_array_equal(rate, [np.nan, *[1.0] * 8, *[2.0] * 8, *[-4.0] * 8, 8.0, 8.0])
    np.testing.assert_array_equal(total, [*[np.nan] * 17, *[-1.0] * 8, 6.0, 6.0])


def test_open_interest_by_hand() -> None:
    contracts = np.array([200.0, 0.0, *[50.0] * 22, 300.0, 70.0])  # hours 0 to 25
    out = make_open_interest_features(make_contracts({"A": contracts}), make_grid(27), ["A"], max_age=5)
    # Hour 24 over hour 0, known at 24:59 for the bar of 25:00: 300 / 200 - 1. A day before hour 25 there was none.
    np.testing.assert_array_equal(of(out, "oi_change_24"), [*[np.nan] * 25, 0.5, np.nan])


@pytest.mark.parametrize("kind", MORE)
def test_what_is_older_than_max_age_is_not_known(kind: str) -> None:
    _, _, make, lookback, rows = MORE[kind]
    name = next(iter(lookback))
    last = rows["time"].max()
    grid = make_grid(120)
    out = of(make(rows, grid, ["A"], max_age=3), name)
    first = int((grid["time"] >= last).to_numpy().argmax())
    assert np.isnan(out[first : first + 4]).tolist() == [False] * 4
    assert np.isnan(out[first + 4 :]).all()


@pytest.mark.parametrize("kind", MORE)
@pytest.mark.parametrize("hour", [0, 23, 41, 60])
def test_funding_and_open_interest_do_not_see_the_future(kind: str, hour: int) -> None:
    _, column, make, _, rows = MORE[kind]

    def other(table: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
        return table.assign(**{column: table[column].where(~where, 7.0)})

    def function(table: pd.DataFrame) -> pd.DataFrame:
        return make(table, make_grid(95), ["A", "B"], max_age=9)

    assert truncated_equals(function, rows, other, START + hour * HOUR)


@pytest.mark.parametrize("kind", MORE)
def test_symbols_do_not_touch_in_funding_and_open_interest(kind: str) -> None:
    _, _, make, _, rows = MORE[kind]
    together = make(rows, make_grid(95), ["C", "B", "A"], max_age=9)
    for symbol in ("A", "B"):
        alone = make(rows[rows["symbol"] == symbol].reset_index(drop=True), make_grid(95), [symbol], max_age=9)
        assert alone.equals(together[together["symbol"] == symbol].reset_index(drop=True))
        assert alone.iloc[:, 3:].notna().any(axis=None)
    assert together.loc[together["symbol"] == "C"].iloc[:, 3:].isna().all(axis=None)


@pytest.mark.parametrize(("kind", "name"), [(k, name) for k in MORE for name in MORE[k][3]])
def test_funding_and_open_interest_need_their_lookback_and_no_row_more(kind: str, name: str) -> None:
    table, _, make, lookback, rows = MORE[kind]
    ours = rows[rows["symbol"] == "A"]
    late = make_grid(95).tail(12).reset_index(drop=True)
    full = of(make(rows, make_grid(95), ["A"], max_age=9), name)[90]
    enough = table.to_table(ours.tail(lookback[name]))
    assert of(make(enough, late, ["A"], max_age=9), name)[7] == full
    few = table.to_table(ours.tail(lookback[name] - 1))
    assert np.isnan(of(make(few, late, ["A"], max_age=9), name)[7])


@pytest.mark.parametrize("kind", MORE)
def test_no_rows_of_funding_or_open_interest_is_not_known(kind: str) -> None:
    table, _, make, lookback, _ = MORE[kind]
    out = make(table.empty(), make_grid(3), ["A"], max_age=9)
    assert list(out.columns[3:]) == list(lookback)
    assert out.iloc[:, 3:].isna().all(axis=None)
    with pytest.raises(ConfigError, match="max_age"):
        make(table.empty(), make_grid(3), ["A"], max_age=-1)


# --- sentiment: values -----------------------------------------------------------------------------------------------


def test_two_texts_by_hand() -> None:
    # At the decision 02:59: a text known at 00:30 (first decision 00:59, bar 1; age 2 at bar 3) and one known at 02:10
    # (bar 3, age 0). Half-life 2, so the first has 0.5 of its weight.
    # w1 = 0.5 * relevance 0.8 * source 0.5 * confidence 0.6 = 0.12; w2 = 1 * 1 * 1 * 0.7 = 0.7; together 0.82.
    # P_positive = (0.12 * 0.6 + 0.7 * 0.1) / 0.82 = 0.142 / 0.82; P_negative = (0.12 * 0.1 + 0.7 * 0.7) / 0.82
    # = 0.502 / 0.82; P_neutral = (0.12 * 0.3 + 0.7 * 0.2) / 0.82 = 0.176 / 0.82.
    news, sentiment = make_texts(
        [
            {"at": 0.5, "p": [0.1, 0.3, 0.6], "relevance": 0.8, "source": "blog"},
            {"at": 13 / 6, "p": [0.7, 0.2, 0.1]},
        ]
    )
    options = PLAIN | {"source_weights": {"blog": 0.5}}
    out = aggregate_sentiment(news, sentiment, make_grid(5), ["A"], **options).iloc[3]
    assert out["sent_positive"] == pytest.approx(0.142 / 0.82, rel=1e-12)
    assert out["sent_negative"] == pytest.approx(0.502 / 0.82, rel=1e-12)
    assert out["sent_neutral"] == pytest.approx(0.176 / 0.82, rel=1e-12)
    assert out["sent_score"] == pytest.approx(-0.36 / 0.82, rel=1e-12)
    assert out["sent_confidence"] == pytest.approx(0.502 / 0.82, rel=1e-12)
    assert out["sent_count"] == 2.0
    behind = texts_behind(news, sentiment, make_grid(5), "A", 3, **options)
    assert list(behind["age"]) == [2, 0]
    np.testing.assert_allclose(behind["share"], [0.12 / 0.82, 0.7 / 0.82], rtol=1e-12)


def test_a_text_counts_from_the_decision_at_which_it_is_known_for_max_age_bars() -> None:
    # Known at 01:59, the very decision before bar 2: it counts at bars 2, 3 and 4. One microsecond later: from bar 3.
    at = 1 + 59 / 60
    news, sentiment = make_texts([{"at": at, "p": [0, 0, 1]}])
    out = aggregate_sentiment(news, sentiment, make_grid(7), ["A"], **(PLAIN | {"max_age": 2}))
    np.testing.assert_array_equal(of(out, "sent_count"), [0, 0, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(of(out, "sent_score"), [np.nan, np.nan, 1, 1, 1, np.nan, np.nan])
    later = pd.Series(news["time"] + pd.Timedelta(microseconds=1), dtype=INSTANT)
    out = aggregate_sentiment(news.assign(time=later), sentiment, make_grid(7), ["A"], **(PLAIN | {"max_age": 2}))
    np.testing.assert_array_equal(of(out, "sent_count"), [0, 0, 0, 1, 1, 1, 0])


def test_a_text_scored_late_is_known_late() -> None:
    news, sentiment = make_texts([{"at": 0.5, "p": [0, 0, 1]}])
    late = pd.Series(sentiment["time"] + 2 * HOUR, dtype=INSTANT)
    out = aggregate_sentiment(news, sentiment.assign(time=late), make_grid(5), ["A"], **PLAIN)
    np.testing.assert_array_equal(of(out, "sent_count"), [0, 0, 0, 1, 1])


def test_a_story_counts_once_and_its_first_text_speaks() -> None:
    news, sentiment = make_texts(
        [
            {"at": 0.5, "p": [0, 0, 1], "story": "same"},
            {"at": 1.5, "p": [1, 0, 0], "story": "same"},
            {"at": 1.6, "p": [1, 0, 0], "story": "same", "symbol": "B"},
        ]
    )
    out = aggregate_sentiment(news, sentiment, make_grid(4), ["A", "B"], **PLAIN)
    np.testing.assert_array_equal(of(out, "sent_score"), [np.nan, 1, 1, 1])
    np.testing.assert_array_equal(of(out, "sent_count"), [0, 1, 1, 1])
    np.testing.assert_array_equal(of(out, "sent_count", "B"), [0, 0, 1, 1])  # another symbol's story is its own


def test_a_hidden_repeat_hides_the_next_until_the_story_rests_longer_than_max_age() -> None:
    # max_age 2; first bars 1, 3, 5, 8. Text 2 is 2 bars after text 1: hidden. Text 3 is 4 bars after text 1 but 2 after
    # the hidden one: hidden. Text 4 is 3 bars after text 3: news again.
    rows = [{"at": h, "p": [0, 0, 1], "story": "same"} for h in (0.5, 2.5, 4.5, 7.5)]
    out = aggregate_sentiment(*make_texts(rows), make_grid(10), ["A"], **(PLAIN | {"max_age": 2}))
    np.testing.assert_array_equal(of(out, "sent_count"), [0, 1, 1, 1, 0, 0, 0, 0, 1, 1])


def test_a_repeat_is_recognised_only_from_earlier_texts() -> None:
    first = {"at": 0.5, "p": [0, 0, 1], "story": "same"}
    again = {"at": 2.5, "p": [1, 0, 0], "story": "same"}
    alone = aggregate_sentiment(*make_texts([first]), make_grid(6), ["A"], **PLAIN)
    both = aggregate_sentiment(*make_texts([first, again]), make_grid(6), ["A"], **PLAIN)
    assert both.drop(columns="sent_novelty").equals(alone.drop(columns="sent_novelty"))
    np.testing.assert_array_equal(of(both, "sent_novelty"), [np.nan, 1, 1, 0.5, 0.5, 0.5])


def test_texts_without_a_story_are_not_repeats_of_each_other() -> None:
    rows = [{"at": 0.5, "p": [0, 0, 1], "story": ""}, {"at": 0.6, "p": [0, 0, 1], "story": ""}]
    assert of(aggregate_sentiment(*make_texts(rows), make_grid(2), ["A"], **PLAIN), "sent_count")[1] == 2.0


def test_what_does_not_count_is_as_if_it_did_not_exist() -> None:
    # An irrelevant text, one of a source of weight 0 and one without scores stand before a good one of the same story.
    rows = [
        {"at": 0.1, "p": [1, 0, 0], "relevance": 0.2, "story": "same"},
        {"at": 0.2, "p": [1, 0, 0], "source": "blog", "story": "same"},
        {"at": 0.3, "p": [1, 0, 0], "story": "same"},
        {"at": 0.4, "p": [0, 0, 1], "story": "same"},
    ]
    news, sentiment = make_texts(rows)
    scored = sentiment.drop(index=2).reset_index(drop=True)
    options = PLAIN | {"min_relevance": 0.5, "source_weights": {"blog": 0.0}}
    out = aggregate_sentiment(news, scored, make_grid(3), ["A"], **options)
    np.testing.assert_array_equal(of(out, "sent_score"), [np.nan, 1, 1])
    np.testing.assert_array_equal(of(out, "sent_count"), [0, 1, 1])


def test_no_texts_at_all() -> None:
    out = aggregate_sentiment(NEWS.empty(), SENTIMENT.empty(), make_grid(3), ["A"], **PLAIN)
    np.testing.assert_array_equal(of(out, "sent_count"), [0, 0, 0])
    assert out[["sent_score", "sent_confidence", "sent_positive"]].isna().all(axis=None)
    assert texts_behind(NEWS.empty(), SENTIMENT.empty(), make_grid(3), "A", 1, **PLAIN).empty


def test_a_text_known_before_the_grid_began_does_not_count() -> None:
    rows = [{"at": -5, "p": [0, 0, 1]}, {"at": -1 / 60, "p": [0, 0, 1]}]  # the second at the first decision itself
    out = aggregate_sentiment(*make_texts(rows), make_grid(3), ["A"], **PLAIN)
    np.testing.assert_array_equal(of(out, "sent_count"), [1, 1, 1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"half_life": 0.0}, "half_life"),
        ({"half_life": float("nan")}, "half_life"),
        ({"max_age": -1}, "max_age"),
        ({"half_life": 0.001}, "half-lives"),
        ({"min_relevance": 1.5}, "min_relevance"),
        ({"source_weights": {"blog": -1.0}}, "blog"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(change: dict, words: str) -> None:
    news, sentiment = make_texts([{"at": 0.5, "p": [0, 0, 1]}])
    with pytest.raises(ConfigError, match=words):
        aggregate_sentiment(news, sentiment, make_grid(2), ["A"], **(PLAIN | change))


def test_a_text_scored_by_two_models_is_refused() -> None:
    news, sentiment = make_texts([{"at": 0.5, "p": [0, 0, 1]}])
    later = sentiment.assign(time=pd.Series(sentiment["time"] + HOUR, dtype=INSTANT), model="other")
    with pytest.raises(TableError, match="t0000 is scored more than once for A"):
        aggregate_sentiment(news, SENTIMENT.to_table(pd.concat([sentiment, later])), make_grid(2), ["A"], **PLAIN)


# --- sentiment: time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hour", [0, 9, 20, 39])
def test_sentiment_does_not_see_the_future(hour: int) -> None:
    news, sentiment = make_texts(random_texts(5, 80, 40))
    both = news.merge(sentiment[["article_id", "symbol", "p_negative", "p_neutral", "p_positive", "model"]])
    grid = make_grid(42)

    def function(table: pd.DataFrame) -> pd.DataFrame:
        return aggregate_sentiment(table[list(NEWS.columns)], table[list(SENTIMENT.columns)], grid, ["A", "B"], **PLAIN)

    def other_texts(table: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
        out = table.copy()
        out.loc[where, ["p_negative", "p_neutral", "p_positive"]] = [1.0, 0.0, 0.0]
        out.loc[where, "story"] = "s1"
        return out

    assert truncated_equals(function, both, other_texts, START + hour * HOUR)


def test_sentiment_needs_its_lookback_and_no_bar_more() -> None:
    # One story in every bar: whether the text of bar k - max_age counts hangs on the one max_age bars before it.
    rows = random_texts(6, 300, 60, ("A",))
    news, sentiment = make_texts(rows)
    options = PLAIN | {"max_age": 5}
    grid = make_grid(60)
    full = aggregate_sentiment(news, sentiment, grid, ["A"], **options)
    for position in range(sentiment_lookback(5), 60):
        start = position - sentiment_lookback(5)
        cut_grid = grid.iloc[start:].reset_index(drop=True)
        cut_news = news[news["time"] > grid["time"][start]].reset_index(drop=True)
        again = aggregate_sentiment(cut_news, sentiment, cut_grid, ["A"], **options)
        assert again.iloc[position - start, 3:].equals(full.iloc[position, 3:])


def test_symbols_do_not_touch_in_sentiment() -> None:
    news, sentiment = make_texts(random_texts(7, 100, 40))
    together = aggregate_sentiment(news, sentiment, make_grid(41), ["B", "A"], **PLAIN)
    for symbol in ("A", "B"):
        alone = aggregate_sentiment(news, sentiment, make_grid(41), [symbol], **PLAIN)
        assert alone.equals(together[together["symbol"] == symbol].reset_index(drop=True))


def plain_loop(news: pd.DataFrame, sentiment: pd.DataFrame, bars: pd.DataFrame, position: int) -> dict[str, float]:
    """The rule once more, text by text, for symbol A and the options PLAIN."""
    scored = news.merge(sentiment.drop(columns=["time", "model"]), on=["article_id", "symbol"])
    scored = scored[scored["symbol"] == "A"].sort_values(["time", "article_id"])
    decisions = list(bars["time"])
    last_seen: dict[str, int] = {}
    sums, weights, count, told = np.zeros(3), 0.0, 0, 0
    for text in scored.to_dict("records"):
        if text["time"] < decisions[0] or text["time"] > decisions[position]:
            continue
        first = next(n for n, decision in enumerate(decisions) if decision >= text["time"])
        repeat = text["story"] in last_seen and first - last_seen[text["story"]] <= PLAIN["max_age"]
        last_seen[text["story"]] = first
        old = position - first > PLAIN["max_age"]
        told += not old
        if repeat or old:
            continue
        p = np.array([text["p_negative"], text["p_neutral"], text["p_positive"]])
        weight = 0.5 ** ((position - first) / PLAIN["half_life"]) * text["relevance"] * p.max()
        sums, weights, count = sums + weight * p, weights + weight, count + 1
    share = sums / weights if count else np.full(3, np.nan)
    values = [*share, share[2] - share[0], share.max(), float(count), count / told if told else np.nan]
    return dict(zip(SENTIMENT_FEATURES, values, strict=True))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 40))
def test_sentiment_equals_a_plain_loop_and_keeps_its_ranges(seed: int, size: int) -> None:
    news, sentiment = make_texts(random_texts(seed, size, 12))
    grid = make_grid(13)
    out = FEATURES.check(aggregate_sentiment(news, sentiment, grid, ["A"], **PLAIN))
    for position in (3, 8, 12):
        expected = plain_loop(news, sentiment, grid, position)
        found = out.iloc[position][list(SENTIMENT_FEATURES)].astype(float)
        np.testing.assert_allclose(found, list(expected.values()), rtol=1e-12)
        behind = texts_behind(news, sentiment, grid, "A", position, **PLAIN)
        assert len(behind) == expected["sent_count"]
        if len(behind):
            assert behind["share"].sum() == pytest.approx(1)
            assert (behind["share"] * behind["p_positive"]).sum() == pytest.approx(expected["sent_positive"])
    known = out[out["sent_count"] > 0]
    assert known["sent_score"].between(-1, 1).all()
    assert known["sent_confidence"].between(1 / 3 - 1e-12, 1).all()


# --- sentiment: one symbol at a time is all at once -----------------------------------------------------------------


def random_tables(seed: int, size: int, grid: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """News and sentiment as no contract would let them be: in any order, ids twice, scores, instants and texts missing.

    A third are as the contract wants them, sorted alike; a third are that but for scores that come late.
    """
    rng = np.random.default_rng(seed)
    minutes = rng.integers(-200, 60 * len(grid) + 60, size)
    news = pd.DataFrame(
        {
            "article_id": rng.permutation([f"t{n}" for n in range(size)]),
            "time": pd.Series(START + pd.to_timedelta(minutes // 20 * 20, unit="min"), dtype=INSTANT),
            "source": rng.choice(["wire", "blog", ""], size),
            "story": rng.choice(["", *(f"s{n}" for n in range(max(size // 3, 1)))], size),
            "symbol": rng.choice(["A", "B", "C", "Z"], size),
            "relevance": rng.choice([0.0, 0.3, 0.5, 0.7, 1.0], size),
        }
    ).astype({"article_id": "str", "source": "str", "story": "str", "symbol": "str"})
    news = news.sort_values(["symbol", "time", "article_id"], ignore_index=True)
    sentiment = news[["article_id", "symbol", "time"]].copy()
    sentiment[["p_negative", "p_neutral", "p_positive"]] = rng.dirichlet([0.5, 0.5, 0.5], size)
    kind = rng.integers(3)
    if kind == 1:
        late = pd.to_timedelta(rng.integers(-300, 300, size), unit="min")
        sentiment["time"] = pd.Series(sentiment["time"] + late, dtype=INSTANT)
    if kind == 2:
        again = news.iloc[rng.integers(0, size, size // 4)]
        times = pd.Series(again["time"] + 40 * MINUTE, dtype=INSTANT)
        news = pd.concat([news, again.assign(time=times)]).iloc[rng.permutation(size + size // 4)]
        news = news.reset_index(drop=True)
        sentiment = sentiment.iloc[rng.permutation(size)[: -(-size * 4 // 5)]].reset_index(drop=True)
        for table, column, share in (
            *((sentiment, "time", 0.1), (news, "time", 0.1), (sentiment, "p_neutral", 0.1)),
            *((news, "source", 0.1), (news, "story", 0.1)),
        ):
            table[column] = table[column].mask(rng.random(len(table)) < share)
    return news, sentiment


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 150),
    max_age=st.integers(0, 6),
    sources=st.sampled_from([{}, {"blog": 0.4}, {"wire": 0.0, "other": 2.0}]),
    min_relevance=st.sampled_from([0.0, 0.4]),
    symbols=st.sampled_from([["A", "B", "C", "D"], ["B"]]),
)
def test_symbol_by_symbol_gives_the_bits_of_all_at_once(
    seed: int, size: int, max_age: int, sources: dict, min_relevance: float, symbols: list[str]
) -> None:
    grid = make_grid(14)
    news, sentiment = random_tables(seed, size, grid)
    options = {"half_life": 1.7, "max_age": max_age, "min_relevance": min_relevance, "source_weights": sources}
    expected = plain_texts(news, sentiment, grid, symbols, **options)
    found = make_counted_texts(news, sentiment, grid, symbols, **options)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    out = aggregate_sentiment(news, sentiment, grid, symbols, **options)
    sums = plain_sums(expected, len(grid), len(symbols), half_life=1.7, max_age=max_age)
    np.testing.assert_array_equal(out[list(SENTIMENT_FEATURES[:6])].to_numpy().T, sums)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("known_to_news", [False, True])
def test_a_text_scored_twice_is_the_same_refusal(shuffled: bool, known_to_news: bool) -> None:
    news, sentiment = random_tables(0, 60, make_grid(14))
    twice = sentiment[sentiment["symbol"] == "B"].iloc[[3, 7]]
    later = pd.Series(twice["time"] + HOUR, dtype=INSTANT)
    sentiment = pd.concat([sentiment, twice.assign(time=later)]).sort_values(["symbol", "time"], ignore_index=True)
    if shuffled:
        sentiment = sentiment.sample(frac=1, random_state=3, ignore_index=True)
    if not known_to_news:
        news = news[news["symbol"] != "B"].reset_index(drop=True)
    said = []
    for function in (plain_texts, make_counted_texts, aggregate_sentiment):
        with pytest.raises(TableError, match="is scored more than once for B") as caught:
            function(news, sentiment, make_grid(14), ["A", "B"], **PLAIN)
        said.append(str(caught.value))
    assert len(set(said)) == 1
    make_counted_texts(news, sentiment, make_grid(14), ["A", "C"], **PLAIN)  # what is not asked for is not looked at
