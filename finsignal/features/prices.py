"""Features of prices, of funding rates and of open interest, as known at each decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from finsignal.features.grid import at_decisions, check_options, to_features
from finsignal.features.technical import SESSION_LOOKBACK, TECHNICAL_LOOKBACK, to_session_returns, to_technical
from finsignal.features.windows import lag_rows, sum_rows

# Rows of a symbol's prices that a value is made of, the newest included.
LOOKBACK: Mapping[str, int] = {
    "ret_1": 2,
    "ret_5": 6,
    "ret_20": 21,
    "vol_20": 21,
    "volume_ratio_20": 21,
    "rsi_14": 15,
    **TECHNICAL_LOOKBACK,
}
FUNDING_LOOKBACK: Mapping[str, int] = {"funding_rate": 1, "funding_3": 3}  # rows of FUNDING
OPEN_INTEREST_LOOKBACK: Mapping[str, int] = {"oi_change_24": 25}  # rows of OPEN_INTEREST


def make_price_features(
    prices: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str], *, max_age: int
) -> pd.DataFrame:
    """FEATURES for every symbol and bar: what the newest price row known at the decision says.

    A price row is known at its `time`, the close. It serves the first decision at or after that and the next `max_age`
    grid bars, unless a newer row takes its place; then all columns are NaN. Windows run over the rows a symbol printed.

    ret_1, ret_5, ret_20: close over the close so many rows before, less 1; simple return, a fraction.
    vol_20: standard deviation (n - 1) of the last 20 one-row returns; a fraction per bar, not annualised.
    volume_ratio_20: volume over the mean volume of the 20 rows before it; NaN where that mean is 0.
    rsi_14: relative strength index, 0 to 100, of the last 14 changes of the close, with plain means (Cutler's form).
        Wilder's smoothing never forgets, so it has no finite lookback. NaN where no change is other than 0.
    macd: the smoothed close of span 12 less that of span 26, over the close; a fraction, so that symbols compare.
        A smoothed close is the mean of the last 3 spans of rows with weights (1 - 2 / (span + 1))**lag that sum to 1:
        the usual smoothing never forgets either, and what it keeps of older rows is 0.25 %.
    macd_histogram: that difference less itself smoothed with span 9, over the close.
    bollinger_20: where the close lies between the bands 2 standard deviations (n) around the mean of 20 closes: 0 at
        the lower, 1 at the upper, beyond them outside (%b). NaN where the 20 closes are one.
    atr_ratio_14: the mean of the last 14 true ranges over the close; a fraction. Plain, as rsi_14 is.
    vwap_distance_20: close over the mean of the last 20 typical prices ((high + low + close) / 3) weighted by volume,
        less 1. NaN where nothing was traded.
    gap: open over the close of the row before, less 1: within a session too, where bars are shorter than one.
    overnight_return: of the newest session of which a row is known, its first open over the close of the row before
        it, less 1. For daily bars the gap.
    session_return: the newest close over that first open, less 1. For daily bars open to close. Both are NaN in the
        first session of the grid, whose beginning may lie before it; a session is what `bars` says.

    NaN where a symbol has fewer rows than LOOKBACK and SESSION_LOOKBACK say. `prices` keeps the PRICES contract,
    adjusted for splits. Raises ConfigError at a negative `max_age` or a repeated symbol.

    RSI, ATR: Wilder 1978, New Concepts in Technical Trading Systems, whose first value of a series is the plain mean.
    MACD: Appel 2005, Technical Analysis: Power Tools for Active Investors. %b: Bollinger 2001, Bollinger on Bollinger
    Bands. VWAP: Berkowitz, Logue and Noser 1988, https://doi.org/10.1111/j.1540-6261.1988.tb02591.x.
    """
    names = check_options(symbols, max_age)
    columns = ["symbol", "open_time", "time", "open", "high", "low", "close", "volume"]
    rows = prices.loc[prices["symbol"].isin(names), columns]
    values = {**_price_values(rows), **to_technical(rows), **to_session_returns(rows, bars)}
    lookback = {**LOOKBACK, **SESSION_LOOKBACK}
    return to_features(bars, names, at_decisions(lookback, values, rows, bars, names, max_age=max_age))


def make_funding_features(
    funding: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str], *, max_age: int
) -> pd.DataFrame:
    """FEATURES for every symbol and bar: what the newest funding settled by the decision says.

    funding_rate: that rate, the fraction of the position's value that longs pay to shorts at the settlement.
    funding_3: the sum of the last three rates, a day where it settles every eight hours.

    A rate is known at its `time`, the settlement, and serves as a price row does in `make_price_features`: give a
    `max_age` of at least the bars from one settlement to the next. NaN where a symbol has fewer rows than
    FUNDING_LOOKBACK. Raises ConfigError at a negative `max_age` or a repeated symbol.
    """
    names = check_options(symbols, max_age)
    rows = funding.loc[funding["symbol"].isin(names), ["symbol", "time", "rate"]]
    rate = rows["rate"].to_numpy()
    values = {"funding_rate": rate, "funding_3": sum_rows(rate, 3)}
    return to_features(bars, names, at_decisions(FUNDING_LOOKBACK, values, rows, bars, names, max_age=max_age))


def make_open_interest_features(
    open_interest: pd.DataFrame, bars: pd.DataFrame, symbols: Sequence[str], *, max_age: int
) -> pd.DataFrame:
    """FEATURES for every symbol and bar: what the newest open interest known at the decision says.

    oi_change_24: open interest over that 24 rows before, less 1; a fraction. A day where rows are hourly. NaN where
    that was 0, and where a symbol has fewer rows than OPEN_INTEREST_LOOKBACK.

    A row is known at its `time` and serves as a price row does in `make_price_features`. Raises ConfigError at a
    negative `max_age` or a repeated symbol.
    """
    names = check_options(symbols, max_age)
    rows = open_interest.loc[open_interest["symbol"].isin(names), ["symbol", "time", "contracts"]]
    contracts = rows["contracts"].to_numpy()
    before = lag_rows(contracts, 24)
    change = np.divide(contracts, before, out=np.full(len(rows), np.nan), where=before > 0) - 1
    values = {"oi_change_24": change}
    return to_features(bars, names, at_decisions(OPEN_INTEREST_LOOKBACK, values, rows, bars, names, max_age=max_age))


def _price_values(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """The features of each price row, also where a window reaches into the rows of the symbol before."""
    close, volume = rows["close"].to_numpy(), rows["volume"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ret_1 = close / lag_rows(close, 1) - 1
        mean = sum_rows(ret_1, 20) / 20
        squares = np.zeros(len(rows))
        for lag in range(20):
            squares += (lag_rows(ret_1, lag) - mean) ** 2
        before = sum_rows(lag_rows(volume, 1), 20) / 20
        change = close - lag_rows(close, 1)
        up, down = sum_rows(np.maximum(change, 0), 14), sum_rows(np.maximum(-change, 0), 14)
        values = {
            "ret_1": ret_1,
            "ret_5": close / lag_rows(close, 5) - 1,
            "ret_20": close / lag_rows(close, 20) - 1,
            "vol_20": np.sqrt(squares / 19),
            "volume_ratio_20": np.where(before > 0, volume / before, np.nan),
            "rsi_14": 100 * (up / (up + down)),
        }
    return values
