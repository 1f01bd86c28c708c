"""Dividends out of adjusted closes, and symbols that changed their name: what a file of daily bars may say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finsignal.clock import make_bars
from finsignal.errors import ConfigError, SourceError, TableError
from finsignal.sources.dividends import to_dividends
from finsignal.sources.files import NewsLayout, PriceLayout, read_news, read_prices
from finsignal.tables import ACTIONS, PRICES

NOW = pd.Timestamp("2026-01-01T00:00Z")
BARS = make_bars("XNYS", "1d", start="2024-03-04", end="2024-03-16", latency=pd.Timedelta(minutes=5))
DAYS = BARS["session"].tolist()
LAYOUT = PriceLayout(time="date", stamp="date", symbol="symbol", adj_close="adj")


def make_rows(symbol: str = "AAPL", closes: list[float] | None = None, factors: list[float] | None = None):
    """Daily rows of one symbol: the open is a little under the close, adj is close * factor as a file has it."""
    closes = [100.0 + n for n in range(len(DAYS))] if closes is None else closes
    factors = [1.0] * len(closes) if factors is None else factors
    rows = pd.DataFrame({"date": DAYS[: len(closes)], "symbol": symbol, "close": closes, "volume": 1000.0})
    rows["open"], rows["high"], rows["low"] = rows["close"] - 0.5, rows["close"] + 1, rows["close"] - 1
    return rows.assign(adj=np.round(rows["close"] * factors, 6))


def read(folder: Path, rows: pd.DataFrame, layout: PriceLayout = LAYOUT, **options):
    path = folder / "daily.parquet"
    rows.to_parquet(path, index=False)
    return read_prices(path, layout, bars=options.pop("bars", BARS), now=NOW, **options)


# --- dividends --------------------------------------------------------------------------------------------------------


def test_a_dividend_is_the_step_of_the_factor_in_cash_at_the_open_of_its_session(tmp_path):
    """Yahoo multiplies all closes before the ex-date by 1 - dividend / close before: 2.06 on a close of 103 is 0.98."""
    prices, _ = read(tmp_path, make_rows(factors=[0.98] * 4 + [1.0] * 6))
    PRICES.check(prices)
    actions = to_dividends(prices)
    ACTIONS.check(actions)
    assert actions["time"].tolist() == [BARS["open_time"].iloc[4]]
    assert actions["kind"].tolist() == ["dividend"]
    assert actions["value"].iloc[0] == pytest.approx(0.02 * 103, abs=1e-5)
    assert prices["close"].tolist() == [100.0 + n for n in range(10)]  # traded as given, never at adj
    assert "adj_close" not in prices  # its level is made of dividends to come


def test_closes_and_dividends_give_the_return_of_the_adjusted_close(tmp_path):
    rng = np.random.default_rng(3)
    closes = (50 * np.exp(np.cumsum(rng.normal(0, 0.02, len(DAYS))))).round(6).tolist()
    factors = [0.95, 0.95, 0.96, 0.96, 0.96, 0.99, 0.99, 1.0, 1.0, 1.0]
    rows = make_rows(closes=closes, factors=factors)
    prices, _ = read(tmp_path, rows)
    grown = prices["close"] / (prices["close"].shift(1) - prices["dividend"])
    expected = rows["adj"] / rows["adj"].shift(1)
    np.testing.assert_allclose(grown.iloc[1:], expected.iloc[1:], rtol=1e-6)
    assert (prices["dividend"] > 0).sum() == 3


def test_rounding_of_the_file_is_no_dividend(tmp_path):
    rows = make_rows(factors=[0.9] * 10)
    prices, _ = read(tmp_path, rows.assign(adj=rows["adj"] * (1 + 4e-6 * np.where(np.arange(10) % 2, 1, -1))))
    assert (prices["dividend"] == 0).all()
    assert to_dividends(prices).empty


def test_the_dividend_of_the_first_bar_of_the_run_comes_from_the_row_before_it(tmp_path):
    prices, counts = read(tmp_path, make_rows(factors=[0.98] * 4 + [1.0] * 6), bars=BARS[4:].reset_index(drop=True))
    assert counts.dropped == {"outside the period of the bars": 4}
    assert prices["dividend"].iloc[0] == pytest.approx(2.06, abs=1e-5)


def test_a_dividend_between_two_files_is_found_and_rows_in_both_pay_once(tmp_path):
    rows = make_rows(factors=[0.98] * 4 + [1.0] * 6)
    for name, part in {"a.parquet": rows[:4], "b.parquet": rows[4:], "c.parquet": rows[3:6]}.items():
        part.to_parquet(tmp_path / name, index=False)
    paths = [tmp_path / name for name in ("b.parquet", "a.parquet", "c.parquet")]
    prices, counts = read_prices(paths, LAYOUT, bars=BARS, now=NOW, limit=0.5)
    assert counts.dropped == {"repeated row": 3}
    assert to_dividends(prices)["value"].tolist() == pytest.approx([2.06], abs=1e-5)


def test_symbols_do_not_pay_for_each_other(tmp_path):
    alone = make_rows(factors=[0.98] * 4 + [1.0] * 6)
    other = make_rows("MSFT", factors=[0.5] * 10)
    both, _ = read(tmp_path, pd.concat([other, alone]).sample(frac=1, random_state=1))
    one, _ = read(tmp_path, alone)
    assert to_dividends(both).equals(to_dividends(one))


def test_a_step_back_is_no_dividend_and_names_its_row(tmp_path):
    rows = make_rows(factors=[1.0] * 6 + [0.97] * 4)
    with pytest.raises(TableError, match=r"daily\.parquet row 7: .*AAPL falls by 3\.09% at 2024-03-12 .*no dividend"):
        read(tmp_path, rows)
    prices, _ = read(tmp_path, rows, PriceLayout(**{**vars(LAYOUT), "smallest_dividend": 0.05}))
    assert (prices["dividend"] == 0).all()


def test_a_split_in_prices_that_are_not_adjusted_for_it_is_refused(tmp_path):
    rows = make_rows(closes=[700.0] * 5 + [100.0] * 5, factors=[1 / 7] * 5 + [1.0] * 5)
    with pytest.raises(TableError, match=r"AAPL rises by 85\.71% at 2024-03-11 .*adjust the prices for splits"):
        read(tmp_path, rows)


def test_a_step_as_of_a_spin_off_is_paid_in_cash_and_noted(tmp_path):
    prices, counts = read(tmp_path, make_rows(factors=[0.8] * 4 + [1.0] * 6))
    assert prices["dividend"].sum() == pytest.approx(0.2 * 103, abs=1e-4)
    assert counts.notes == (
        "daily.parquet: AAPL pays 20.0% of its close at 2024-03-08, counted as a dividend; a spin-off would look the "
        "same.",
        "dividends found in the steps of 'adj': 1.",
    )


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf])
def test_a_row_without_an_adjusted_close_is_counted_and_its_dividend_waits_for_the_next(tmp_path, value):
    rows = make_rows(factors=[0.98] * 4 + [1.0] * 6)
    rows.loc[4, "adj"] = value
    prices, counts = read(tmp_path, rows, limit=0.1)
    assert counts.dropped == {"adj_close missing or not above 0": 1}
    assert to_dividends(prices)["time"].tolist() == [BARS["open_time"].iloc[5]]


def test_a_file_without_the_column_of_adjusted_closes_is_refused(tmp_path):
    with pytest.raises(TableError, match=r"no column 'adj'\. Did you mean 'adj_c'\?"):
        read(tmp_path, make_rows().rename(columns={"adj": "adj_c"}))


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    path = tmp_path / "daily.parquet"
    path.write_text("date,symbol,close\n2024-03-04,AAPL,1\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"daily\.parquet: not a readable Parquet file"):
        read_prices(path, LAYOUT, bars=BARS, now=NOW)
    with pytest.raises(SourceError, match=r"daily\.parquet: not a readable Parquet file"):
        read_news(path, NewsLayout(time="date", text="close", symbol="symbol"), now=NOW)


def test_weekly_rows_among_daily_ones_are_refused_in_one_sentence(tmp_path):
    bars = make_bars("XNYS", "1d", start="2023-01-03", end="2024-01-03", latency=pd.Timedelta(minutes=5))
    plain = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "adj": 1.0, "volume": 1.0, "symbol": "AAPL"}
    stamps = [*bars["session"][:120], *bars["session"][120::5]]
    with pytest.raises(TableError, match=r"rows of AAPL are 5 bars apart for long") as found:
        read(tmp_path, pd.DataFrame({"date": stamps, **plain}), bars=bars)
    assert str(found.value).count("\n") == 0


def test_hourly_stamps_among_dates_are_refused_in_one_sentence(tmp_path):
    rows = make_rows()
    rows.loc[5, "date"] = "2024-03-11 10:30"
    with pytest.raises(TableError, match=r"row 6 is stamped 2024-03-11 10:30, which is no date in UTC"):
        read(tmp_path, rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adj_close": "close"}, "adj_close is column 'close', which is another part of the bar"),
        ({"smallest_dividend": 0.0}, "smallest_dividend is 0.0; expected a fraction above 0"),
        ({"renamed": {"FB": " "}}, "' ' names no symbol"),
        ({"renamed": {"FB": "META@soon"}}, "'soon' is not a time"),
        ({"renamed": {"FB": "META", "META": "MVRS"}}, "renamed.FB leads to 'META', which is renamed too"),
    ],
)
def test_layouts_refuse_what_cannot_be_meant(change, said):
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        PriceLayout(**{**vars(LAYOUT), **change})


# --- symbols ----------------------------------------------------------------------------------------------------------


def test_rows_of_symbols_outside_the_run_are_left_out_and_counted_without_fault(tmp_path):
    rows = pd.concat([make_rows(), make_rows("GMRE")])
    prices, counts = read(tmp_path, rows, symbols=["AAPL"], limit=0)
    assert counts.dropped == {"of a symbol that is not in the run": 10}
    assert set(prices["symbol"]) == {"AAPL"}


def test_a_symbol_that_changed_its_name_is_one_series_and_the_dividend_across_the_change_is_found(tmp_path):
    rows = make_rows("FB", factors=[0.98] * 4 + [1.0] * 6)
    rows.loc[4:, "symbol"] = "META"
    layout = PriceLayout(**{**vars(LAYOUT), "renamed": {"FB": "META"}})
    prices, counts = read(tmp_path, rows, layout)
    assert counts.dropped == {}
    assert prices["symbol"].tolist() == ["META"] * 10
    assert to_dividends(prices)["value"].tolist() == pytest.approx([2.06], abs=1e-5)


def test_rows_of_the_company_that_bore_the_new_name_before_are_left_out(tmp_path):
    """Until the rename another company traded as META; its rows are not those of the company that was FB."""
    rows = make_rows("FB")
    rows.loc[4:, "symbol"] = "META"
    other = make_rows("META", closes=[5.0] * 4)
    layout = PriceLayout(**{**vars(LAYOUT), "renamed": {"FB": f"META@{DAYS[4]}"}})
    prices, counts = read(tmp_path, pd.concat([rows, other]), layout, limit=0)
    assert counts.dropped == {"of another company that bore the name before": 4}
    assert prices["close"].tolist() == [100.0 + n for n in range(10)]


def test_news_under_the_old_name_is_news_of_the_new_one(tmp_path):
    path = tmp_path / "news.parquet"
    stamps = pd.to_datetime([f"{day}T15:00:01Z" for day in DAYS[:6]])
    symbols = ["FB", "META", "FB", "AAPL", "META", "FB"]
    pd.DataFrame({"at": stamps, "about": symbols, "text": [f"words {n}" for n in range(6)]}).to_parquet(path)
    layout = NewsLayout(time="at", text="text", symbol="about", renamed={"FB": f"META@{DAYS[3]}"})
    articles, links, counts = read_news(path, layout, now=NOW, limit=0)
    by_text = links.merge(articles, on="article_id").set_index("text")["symbol"]
    assert by_text.to_dict() == {
        "words 0": "META",
        "words 2": "META",
        "words 3": "AAPL",
        "words 4": "META",
        "words 5": "FB",  # after the day of the rename: whoever took the old name
    }
    assert counts.dropped == {"of another company that bore the name before": 1}


def test_a_renamed_symbol_that_never_appears_is_noted(tmp_path):
    layout = PriceLayout(**{**vars(LAYOUT), "renamed": {"FBB": "AAPL"}})
    _, counts = read(tmp_path, make_rows(), layout)
    assert counts.notes[0] == "daily.parquet: no row of 'FBB', which the layout renames to 'AAPL'."
