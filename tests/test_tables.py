"""The table contracts: what each accepts, and each break with the message a user reads."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from finsignal import tables
from finsignal.errors import FinsignalError, LookaheadError, TableError
from finsignal.tables import INSTANT, BacktestResult, Table, to_integers

ALL = {name.lower(): t for name, t in vars(tables).items() if isinstance(t, Table)}
NAN, INF = float("nan"), float("inf")


def at(*hours: int | None) -> pd.Series:
    """Hours of 11 March 2024, UTC."""
    return pd.Series([pd.NaT if h is None else pd.Timestamp(2024, 3, 11, h, tz="UTC") for h in hours], dtype=INSTANT)


def text(*values: object) -> pd.Series:
    return pd.Series(list(values), dtype="str")


def make_good() -> dict[str, pd.DataFrame]:
    """Two rows or three of every table, as its contract wants them."""
    grid = {"open_time": at(10, 11, 10), "time": at(9, 10, 9), "symbol": text("A", "A", "B")}
    articles = {
        "article_id": text("a", "b"),
        "published": at(8, 9),
        "first_seen": at(None, 9),
        "recorded": at(None, 10),
        "time": at(8, 9),
        "title": text("Up", ""),
        "text": text("It rose.", "It fell."),
        "source": text("wire", "wire"),
        "url": text("", ""),
        "story": text("a", "b"),
    }
    links = {"article_id": text("a", "b"), "symbol": text("A", "A"), "relevance": [1.0, 0.0]}
    return {
        "prices": pd.DataFrame(
            {
                "open_time": at(9, 10, 9),
                "time": at(10, 11, 10),
                "symbol": text("A", "A", "B"),
                "open": [10.0, 11.0, 5.0],
                "high": [11.0, 11.0, 5.0],
                "low": [9.5, 10.0, 5.0],
                "close": [11.0, 10.5, 5.0],
                "volume": [100.0, 50.0, 0.0],
            }
        ),
        "articles": pd.DataFrame(articles),
        "links": pd.DataFrame(links),
        "news": pd.DataFrame({**articles, **links}),
        "actions": pd.DataFrame(
            {
                "symbol": text("A", "A", "B"),
                "time": at(9, 9, 8),
                "kind": text("dividend", "split", "split"),
                "value": [0.24, 4.0, 0.5],
            }
        ),
        "funding": pd.DataFrame({"symbol": text("A", "A", "B"), "time": at(0, 8, 0), "rate": [1e-4, -2e-4, 0.0]}),
        "open_interest": pd.DataFrame(
            {"symbol": text("A", "A", "B"), "time": at(9, 10, 9), "contracts": [10.5, 0.0, 3e9]}
        ),
        "labelled": pd.DataFrame(
            {
                "text": text("It rose.", "It fell.", "It is."),
                "label": text("positive", "negative", "neutral"),
                "time": at(9, 8, 8),
                "source": text("s", "s", "s"),
                "target": text("A", "", ""),
            }
        ),
        "sentiment": pd.DataFrame(
            {
                "article_id": text("a", "b"),
                "time": at(8, 9),
                "symbol": text("A", "A"),
                "p_negative": [0.2, 0.0],
                "p_neutral": [0.3, 0.0],
                "p_positive": [0.5, 1.0],
                "model": text("m", "m"),
            }
        ),
        "bars": pd.DataFrame(
            {
                "open_time": at(10, 11),
                "close_time": at(11, 12),
                "time": at(9, 10),
                "session": text("2024-03-11").repeat(2).reset_index(drop=True),
            }
        ),
        "features": pd.DataFrame({**grid, "ret_5": [0.01, NAN, -0.02]}),
        "signals": pd.DataFrame(
            {**grid, "score": [0.5, NAN, -1.0], "confidence": [0.6, NAN, 1.0], "signal": text("BUY", "HOLD", "SELL")}
        ),
        "weights": pd.DataFrame({**grid, "weight": [0.5, 0.5, -0.5]}),
        "state": pd.DataFrame(
            {
                "symbol": text("A", "B"),
                "weight": [0.5, 0.0],
                "filled": [True, False],
                "fill": at(10, None),
                "renewed": at(10, None),
            }
        ),
        "trials": pd.DataFrame(
            {
                "trial": text("b", "a", "c"),
                "kind": text("setting", "run", "run"),
                "settings": text("{}", "{}", "{}"),
                "sharpe": [0.05, np.nan, -0.01],
                "days": [90, 0, 250],
                "first": at(8, 9, 9),
            }
        ),
        "parameters": pd.DataFrame({"time": at(8, 8, 9), "name": text("a", "b", "a"), "value": [1.0, 2.0, 3.0]}),
    }


GOOD = make_good()


def with_value(column: str, value: object, row: int = 1) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def put(frame: pd.DataFrame) -> pd.DataFrame:
        frame[column] = frame[column].where(frame.index != row, value)
        return frame

    return put


def with_row_twice(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.iloc[[0, 0, 1]].reset_index(drop=True)


def with_probabilities(negative: float, neutral: float, positive: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda f: f.assign(p_negative=negative, p_neutral=neutral, p_positive=positive)


@pytest.mark.parametrize("name", ALL)
def test_a_good_table_passes_unchanged(name: str) -> None:
    frame = GOOD[name].copy()
    assert ALL[name].check(frame) is frame
    assert_frame_equal(frame, GOOD[name])


@pytest.mark.parametrize("name", ALL)
def test_an_empty_table_passes(name: str) -> None:
    empty = ALL[name].empty()
    assert len(ALL[name].check(empty)) == 0
    assert {c: str(d) for c, d in empty.dtypes.items()} == dict(ALL[name].columns)
    ALL[name].check(GOOD[name].iloc[:0])


def test_the_contracts_agree_on_what_is_shared() -> None:
    for table in ALL.values():
        assert set(table.key) <= set(table.columns)
        assert set(table.may_miss) <= set(table.columns)
        assert table.columns.get("time", INSTANT) == INSTANT
    assert set(tables.NEWS.columns) == set(tables.ARTICLES.columns) | set(tables.LINKS.columns)


BREAKS = {
    # Columns and dtypes, for any table.
    "column missing": ("prices", lambda f: f.drop(columns="close"), "prices: no column 'close'."),
    "column misspelt": (
        "prices",
        lambda f: f.rename(columns={"close": "Close"}),
        "prices: no column 'close'. Did you mean 'Close'? Columns are ['open_time', 'time', 'symbol', 'open', 'high', "
        "'low', 'Close', 'volume'].",
    ),
    "column unknown": (
        "weights",
        lambda f: f.assign(wieght=1.0),
        "weights: unknown column 'wieght'. Did you mean 'weight'? Known columns are ['open_time', 'time', 'symbol', "
        "'weight'].",
    ),
    "column twice": (
        "prices",
        lambda f: pd.concat([f, f[["close"]]], axis=1),
        "prices: column 'close' stands twice; rename or drop one.",
    ),
    "nanoseconds": (
        "prices",
        lambda f: f.assign(time=f["time"].dt.as_unit("ns")),
        "prices.time: expected dtype datetime64[us, UTC], got datetime64[ns, UTC].",
    ),
    "no zone": (
        "prices",
        lambda f: f.assign(time=f["time"].dt.tz_localize(None)),
        "prices.time: expected dtype datetime64[us, UTC], got datetime64[us].",
    ),
    "another zone": (
        "prices",
        lambda f: f.assign(time=f["time"].dt.tz_convert("America/New_York")),
        "prices.time: expected dtype datetime64[us, UTC], got datetime64[us, America/New_York].",
    ),
    "whole numbers": (
        "prices",
        lambda f: f.assign(volume=f["volume"].astype("int64")),
        "prices.volume: expected dtype float64, got int64.",
    ),
    "half precision": (
        "features",
        lambda f: f.assign(ret_5=f["ret_5"].astype("float32")),
        "features.ret_5: expected dtype float64, got float32.",
    ),
    "objects for text": (
        "prices",
        lambda f: f.assign(symbol=f["symbol"].astype("object")),
        "prices.symbol: expected dtype str, got object.",
    ),
    "optional of another dtype": (
        "prices",
        lambda f: f.assign(split=text("2:1", "2:1", "2:1")),
        "prices.split: expected dtype float64, got str.",
    ),
    "feature of text": (
        "features",
        lambda f: f.assign(mood=text("x", "y", "z")),
        "features.mood: expected dtype float64, got str.",
    ),
    "instant missing": (
        "prices",
        lambda f: f.assign(time=at(10, None, 10)),
        "prices.time: row 1 is empty; every row needs a value.",
    ),
    "text missing": (
        "labelled",
        lambda f: f.assign(text=text("x", "y", None)),
        "labelled.text: row 2 is empty; every row needs a value.",
    ),
    "publication missing": (
        "articles",
        lambda f: f.assign(published=at(None, 9)),
        "articles.published: row 0 is empty; every row needs a value.",
    ),
    "not a frame": ("prices", lambda f: f["close"], "prices: expected a DataFrame, got Series."),
    # Keys and order.
    "key twice": (
        "prices",
        with_row_twice,
        "prices: 1 rows repeat the key ('symbol', 'time'), first at row 1.",
    ),
    "article twice": (
        "articles",
        with_row_twice,
        "articles: 1 rows repeat the key ('article_id',), first at row 1.",
    ),
    "later first": (
        "prices",
        lambda f: f.iloc[[1, 0, 2]].reset_index(drop=True),
        "prices: rows are not sorted by ('symbol', 'time'); use prices.sort_values(['symbol', 'time']).",
    ),
    "sorted by time": ("prices", lambda f: f.iloc[[0, 2, 1]].reset_index(drop=True), "prices: rows are not sorted"),
    "rows cut out": (
        "prices",
        lambda f: f[f["symbol"] == "B"],
        "prices: expected a plain RangeIndex; use reset_index(drop=True).",
    ),
    "index of times": ("prices", lambda f: f.set_axis(pd.Index(f["time"])), "prices: expected a plain RangeIndex"),
    # Prices.
    "price missing": (
        "prices",
        with_value("close", NAN),
        "prices: row 1 (A 2024-03-11 11:00:00+00:00) has close nan; prices must be finite and above 0.",
    ),
    "price zero": ("prices", with_value("low", 0.0), "has low 0.0; prices must be finite and above 0."),
    "price negative": ("prices", with_value("open", -1.0), "has open -1.0; prices must be finite and above 0."),
    "price infinite": ("prices", with_value("high", INF), "has high inf; prices must be finite and above 0."),
    "high below low": (
        "prices",
        with_value("high", 9.0),
        "has low 10.0, high 9.0, open 11.0, close 10.5; expected low <= open, close <= high.",
    ),
    "close above high": ("prices", with_value("close", 12.0), "close 12.0; expected low <= open, close <= high."),
    "open below low": ("prices", with_value("open", 9.0), "open 9.0, close 10.5; expected low <= open, close <= high."),
    "volume negative": ("prices", with_value("volume", -1.0), "has volume -1.0; expected a finite number, 0 or more."),
    "volume missing": ("prices", with_value("volume", NAN), "has volume nan; expected a finite number, 0 or more."),
    "volume infinite": ("prices", with_value("volume", INF), "has volume inf; expected a finite number, 0 or more."),
    "closes as it opens": (
        "prices",
        lambda f: f.assign(open_time=at(9, 11, 9)),
        "prices: row 1 (A) opens at 2024-03-11 11:00:00+00:00 but closes at 2024-03-11 11:00:00+00:00.",
    ),
    "closes before it opens": (
        "prices",
        lambda f: f.assign(open_time=at(9, 12, 9)),
        "opens at 2024-03-11 12:00:00+00:00 but closes at 2024-03-11 11:00:00+00:00.",
    ),
    # Texts, labels and probabilities.
    "relevance above 1": (
        "links",
        with_value("relevance", 1.1),
        "links: row 1 (b) has relevance 1.1; expected 0 to 1.",
    ),
    "relevance below 0": (
        "news",
        with_value("relevance", -0.1),
        "news: row 1 (b) has relevance -0.1; expected 0 to 1.",
    ),
    "relevance missing": ("links", with_value("relevance", NAN), "has relevance nan; expected 0 to 1."),
    "label unknown": (
        "labelled",
        with_value("label", "bullish"),
        "labelled: row 1 has label 'bullish'; expected one of negative, neutral, positive. Pass a label map.",
    ),
    "label of another case": (
        "labelled",
        with_value("label", "Positive"),
        "row 1 has label 'Positive'; expected one of",
    ),
    "probabilities short of 1": (
        "sentiment",
        with_probabilities(0.2, 0.3, 0.37),
        "sentiment: row 0 sums to 0.87; p_negative, p_neutral and p_positive must sum to 1.",
    ),
    "probabilities above 1 in sum": (
        "sentiment",
        with_probabilities(0.5, 0.5, 0.000002),
        "sums to 1.000002; p_negative",
    ),
    "probability negative": (
        "sentiment",
        with_probabilities(-0.5, 0.5, 1.0),
        "sentiment: row 0 (a) has probabilities [-0.5, 0.5, 1.0]; expected 0 to 1.",
    ),
    "probability missing": (
        "sentiment",
        with_probabilities(0.5, 0.5, NAN),
        "probabilities [0.5, 0.5, nan]; expected 0",
    ),
    # Actions, funding and open interest.
    "action unknown": (
        "actions",
        with_value("kind", "merger"),
        "actions: row 1 (A 2024-03-11 09:00:00+00:00) is a 'merger'; expected one of split, dividend.",
    ),
    "split zero": ("actions", with_value("value", 0.0), "has value 0.0; expected a finite number above 0."),
    "dividend negative": (
        "actions",
        lambda f: f.assign(value=[-0.1, 4.0, 0.5]),
        "actions: row 0 (A 2024-03-11 09:00:00+00:00) has value -0.1; expected a finite number above 0.",
    ),
    "split infinite": ("actions", with_value("value", INF), "has value inf; expected a finite number above 0."),
    "split missing": ("actions", with_value("value", NAN), "has value nan; expected a finite number above 0."),
    "two splits at once": (
        "actions",
        lambda f: f.assign(kind=text("split", "split", "split")),
        "actions: 1 rows repeat the key ('symbol', 'time', 'kind'), first at row 1.",
    ),
    "funding missing": (
        "funding",
        with_value("rate", NAN),
        "funding: row 1 (A 2024-03-11 08:00:00+00:00) has rate nan; expected a finite number.",
    ),
    "funding infinite": ("funding", with_value("rate", INF), "has rate inf; expected a finite number."),
    "funding without an instant": ("funding", lambda f: f.assign(time=at(0, None, 0)), "funding.time: row 1 is empty"),
    "settled twice": (
        "funding",
        lambda f: f.assign(time=at(8, 8, 0)),
        "funding: 1 rows repeat the key ('symbol', 'time'), first at row 1.",
    ),
    "contracts missing": (
        "open_interest",
        with_value("contracts", NAN),
        "open_interest: row 1 (A 2024-03-11 10:00:00+00:00) has contracts nan; expected a finite number, 0 or more.",
    ),
    "contracts infinite": ("open_interest", with_value("contracts", -INF), "expected a finite number, 0 or more."),
    "contracts negative": ("open_interest", with_value("contracts", -1.0), "has contracts -1.0; expected a finite"),
    # Decisions.
    "signal unknown": (
        "signals",
        with_value("signal", "buy"),
        "signals: row 1 (A) has signal 'buy'; expected SELL, HOLD",
    ),
    "score out of range": (
        "signals",
        with_value("score", 1.5),
        "signals: row 1 (A 2024-03-11 10:00:00+00:00) has score 1.5; expected -1 to 1, or NaN where not known.",
    ),
    "score infinite": ("signals", with_value("score", -INF), "has score -inf; expected -1 to 1"),
    "confidence out of range": (
        "signals",
        with_value("confidence", -0.1),
        "has confidence -0.1; expected 0 to 1, or NaN",
    ),
    "reason missing": (
        "signals",
        lambda f: f.assign(reason=text("", None, "")),
        "signals.reason: row 1 is empty; every row needs a value.",
    ),
    "reason no text": ("signals", lambda f: f.assign(reason=1.0), "signals.reason: expected dtype str, got float64."),
    "weight missing": ("weights", with_value("weight", NAN), "has weight nan; expected a finite fraction of equity."),
    "weight infinite": ("weights", with_value("weight", INF), "has weight inf; expected a finite fraction of equity."),
    **{
        f"{name} decided after the open": (
            name,
            lambda f: f.assign(open_time=at(10, 9, 10)),
            f"{name}: row 1 (A) decides at 2024-03-11 10:00:00+00:00, after its bar opened at 2024-03-11 09:00:00",
        )
        for name in ("features", "signals", "weights")
    },
}


def broken(case: str) -> tuple[Table, pd.DataFrame, str]:
    name, change, message = BREAKS[case]
    return ALL[name], change(GOOD[name].copy()), message


@pytest.mark.parametrize("case", BREAKS)
def test_a_break_is_refused_with_its_message(case: str) -> None:
    table, frame, message = broken(case)
    with pytest.raises(TableError, match=re.escape(message)):
        table.check(frame)


@pytest.mark.parametrize("case", BREAKS)
def test_a_refusal_is_one_line_that_begins_with_the_table_and_ends_as_a_sentence(case: str) -> None:
    table, frame, _ = broken(case)
    with pytest.raises(FinsignalError) as refused:
        table.check(frame)
    assert re.fullmatch(rf"{table.name}[:.].+[.]", str(refused.value))


@pytest.mark.parametrize("name", ALL)
def test_forward_returns_are_refused_in_every_table(name: str) -> None:
    with pytest.raises(LookaheadError, match=f"{name}: column 'fwd_5' holds forward returns"):
        ALL[name].check(GOOD[name].assign(fwd_5=0.01))


@pytest.mark.parametrize("name", [name for name in ALL if name != "features"])
def test_only_features_may_have_more_columns(name: str) -> None:
    with pytest.raises(TableError, match=f"{name}: unknown column 'extra'"):
        ALL[name].check(GOOD[name].assign(extra=1.0))


def test_what_a_rule_allows_at_its_edge() -> None:
    tables.WEIGHTS.check(GOOD["weights"].assign(open_time=GOOD["weights"]["time"]))  # no latency: research only
    tables.FEATURES.check(GOOD["features"].drop(columns="ret_5"))
    tables.SIGNALS.check(GOOD["signals"].assign(reason=text("", "prices stale", "")))
    tables.FUNDING.check(GOOD["funding"].assign(rate=-0.5))
    tables.PRICES.check(GOOD["prices"].assign(split=NAN, dividend=0.1, adj_close=NAN))
    # Sums of 1 within 1e-6: half a millionth off passes, two millionths (above) do not.
    tables.SENTIMENT.check(with_probabilities(0.5, 0.4999995, 0.0)(GOOD["sentiment"].copy()))


@given(st.permutations(range(3)), st.sampled_from(sorted(ALL)))
def test_rows_in_any_order_become_a_table(order: list[int], name: str) -> None:
    good = GOOD[name]
    shuffled = good.iloc[[i for i in order if i < len(good)]][sorted(good.columns)]
    out = ALL[name].check(ALL[name].to_table(shuffled))
    assert list(out.columns)[: len(ALL[name].columns)] == list(ALL[name].columns)
    if ALL[name].key:
        assert_frame_equal(out, good[out.columns])
    else:  # rows of a table without a key keep their order
        assert out["text"].tolist() == shuffled["text"].tolist()


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3), st.integers(0, 5)),
        unique=True,
        max_size=12,
    )
)
def test_any_symbols_sort_into_a_table(keys: list[tuple[str, int]]) -> None:
    frame = pd.DataFrame({"time": at(*(h for _, h in keys)), "symbol": text(*(s for s, _ in keys))})
    frame = frame.assign(open_time=frame["time"], weight=1.0)
    out = tables.WEIGHTS.check(tables.WEIGHTS.to_table(frame))
    assert sorted(keys) == list(zip(out["symbol"], out["time"].dt.hour, strict=True))


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 4)), unique=True, min_size=2, max_size=10))
def test_rows_pass_only_where_they_ascend_by_key(keys: list[tuple[str, int]]) -> None:
    frame = pd.DataFrame({"time": at(*(h for _, h in keys)), "symbol": text(*(s for s, _ in keys))})
    frame = frame.assign(open_time=frame["time"], weight=1.0)
    if keys == sorted(keys):
        tables.WEIGHTS.check(frame)
    else:
        with pytest.raises(TableError, match="not sorted"):
            tables.WEIGHTS.check(frame)


def test_to_table_converts_numbers_and_units_but_never_guesses_a_zone() -> None:
    good = GOOD["prices"]
    loose = good.assign(volume=[100, 50, 0], time=good["time"].dt.as_unit("ns"), symbol=good["symbol"].astype("object"))
    assert_frame_equal(tables.PRICES.to_table(loose), good)
    for time in (good["time"].dt.tz_localize(None), text("2024-03-11 10:00", "2024-03-11 11:00", "2024-03-11 10:00")):
        with pytest.raises(TableError, match=r"prices\.time: expected dtype datetime64\[us, UTC\]"):
            tables.PRICES.to_table(good.assign(time=time))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="time"), "prices: no column 'time'"),
        (lambda f: f.assign(close=text("1", "x", "2")), "prices.close: cannot be read as float64"),
        (lambda f: pd.concat([f, f[["close"]]], axis=1), "prices: column 'close' stands twice"),
        (lambda f: f.assign(note=1.0), "prices: unknown column 'note'"),
    ],
)
def test_to_table_refuses_what_cannot_be_converted(change: Callable, message: str) -> None:
    with pytest.raises(TableError, match=re.escape(message)):
        tables.PRICES.to_table(change(GOOD["prices"].copy()))


def test_to_table_leaves_its_input_alone() -> None:
    frame = GOOD["prices"].iloc[::-1].assign(volume=1)
    before = frame.copy()
    tables.PRICES.to_table(frame)
    assert_frame_equal(frame, before)


def test_instants_as_whole_numbers_count_microseconds() -> None:
    # 11 March 2024 is 19 793 days after 1 January 1970; 10:00 is 36 000 s: 19 793 * 86 400 + 36 000 = 1 710 151 200 s.
    assert to_integers(at(10)).tolist() == [1_710_151_200_000_000]
    assert to_integers(at(10).dt.as_unit("ns")).tolist() == [1_710_151_200_000_000]
    assert to_integers(at(10).dt.tz_convert("Asia/Kolkata")).tolist() == [1_710_151_200_000_000]
    assert to_integers(at(None)).tolist() == [np.iinfo(np.int64).min]


def test_a_backtest_result_is_frozen_and_comes_back_from_parquet(tmp_path: Path) -> None:
    index = pd.DatetimeIndex(at(10, 11), name="open_time")
    curve = pd.Series([100.0, 101.0], index=index)
    rows = pd.DataFrame({"open_time": at(10), "symbol": text("A")})
    result = BacktestResult(
        equity=curve,
        gross=curve + 1,
        returns=curve * 0,
        weights=pd.DataFrame({"A": [0.5, 0.5]}, index=index),
        orders=rows,
        rejected=rows.iloc[:0],
        trades=rows,
        settings={},
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.equity = curve  # type: ignore[misc]
    result.write(tmp_path)
    equity = pd.read_parquet(tmp_path / "equity.parquet")
    assert equity.columns.tolist() == ["open_time", "equity", "gross", "returns"]
    assert equity["gross"].tolist() == [101.0, 102.0]
    assert pd.read_parquet(tmp_path / "targets.parquet")["A"].tolist() == [0.5, 0.5]
    assert_frame_equal(pd.read_parquet(tmp_path / "orders.parquet"), rows)
    assert len(pd.read_parquet(tmp_path / "rejected.parquet")) == 0
