"""The lake's contract: what is appended comes back as it was known, by every t and every instant of recording."""

from pathlib import Path

import pandas as pd
import pytest
from lake_tables import (
    BARS_HERE,
    hours,
    make_actions,
    make_articles,
    make_fetch,
    make_links,
    make_prices,
    make_scores,
    ts,
)

from finsignal.errors import ConfigError, FinsignalError, SourceError, TableError
from finsignal.lake import (
    FETCHES,
    Lake,
    append,
    as_of,
    open_lake,
    read_articles,
    read_links,
    read_scores,
    to_digest,
)
from finsignal.tables import ACTIONS, ARTICLES, LINKS, PRICES

LATER = ts("2027-01-01")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "lake", create=True)


def all_prices(lake: Lake, t: pd.Timestamp = LATER, recorded_by: pd.Timestamp = LATER, **more: object) -> pd.DataFrame:
    return PRICES.check(as_of(lake, "prices", t, recorded_by=recorded_by, **BARS_HERE, **more))  # type: ignore[arg-type]


def test_prices_come_back_as_they_went_in_over_months_and_symbols(lake: Lake) -> None:
    bars = PRICES.to_table(
        pd.concat([make_prices(s, hours("2026-09-29", 24 * 40), range(1, 961)) for s in ("BTCUSDT", "AAA")])
    )
    assert append(lake, "prices", bars, recorded=ts("2026-11-20"), **BARS_HERE) == len(bars)
    pd.testing.assert_frame_equal(all_prices(lake), bars)


def test_any_reader_of_parquet_finds_market_bar_and_month(lake: Lake) -> None:
    append(lake, "prices", make_prices("A", hours("2026-10-31T22:00", 3), [1, 2, 3]), recorded=LATER, **BARS_HERE)
    frame = pd.read_parquet(lake.folder / "prices")
    # The bar that opens at 23:00 closes, and is known, in November.
    assert frame["month"].astype(str).tolist() == ["2026-10", "2026-11", "2026-11"]
    assert set(frame["market"]) == {"bybit-linear"}
    assert set(frame["bar"]) == {"1h"}


def test_a_repeat_adds_nothing_and_a_change_is_a_version_of_its_own(lake: Lake) -> None:
    bars = make_prices("A", hours("2026-11-01", 3), [1, 2, 3])
    assert append(lake, "prices", bars, recorded=ts("2026-11-02"), **BARS_HERE) == 3
    assert append(lake, "prices", bars, recorded=ts("2026-11-02"), **BARS_HERE) == 0
    assert append(lake, "prices", bars, recorded=ts("2026-11-03"), **BARS_HERE) == 0
    changed = make_prices("A", hours("2026-11-01", 3), [1, 9, 3])
    assert append(lake, "prices", changed, recorded=ts("2026-11-04"), **BARS_HERE) == 1
    assert append(lake, "prices", bars, recorded=ts("2026-11-05"), **BARS_HERE) == 1  # back to the first value
    for day, close in (("2026-11-03", 2), ("2026-11-04", 9), ("2026-11-05", 2)):
        assert all_prices(lake, recorded_by=ts(day))["close"].tolist() == [1, close, 3]
    assert len(all_prices(lake, recorded_by=ts("2026-11-02") - pd.Timedelta("1us"))) == 0


def test_a_writer_that_comes_late_does_not_change_what_was_recorded_after_it(lake: Lake) -> None:
    bars = [make_prices("A", hours("2026-11-01", 1), [price]) for price in (1, 2, 3)]
    append(lake, "prices", bars[0], recorded=ts("2026-11-02"), **BARS_HERE)
    append(lake, "prices", bars[2], recorded=ts("2026-11-06"), **BARS_HERE)
    assert append(lake, "prices", bars[1], recorded=ts("2026-11-04"), **BARS_HERE) == 1
    seen = [all_prices(lake, recorded_by=ts(f"2026-11-0{day}"))["close"].item() for day in (2, 3, 4, 5, 6, 7)]
    assert seen == [1, 1, 2, 2, 3, 3]


def test_rows_are_known_from_their_time_on_and_since_is_not_included(lake: Lake) -> None:
    append(lake, "prices", make_prices("A", hours("2026-11-01", 5), range(1, 6)), recorded=LATER, **BARS_HERE)
    some = all_prices(lake, t=ts("2026-11-01T04:00"), since=ts("2026-11-01T02:00"))
    assert some["time"].tolist() == [ts("2026-11-01T03:00"), ts("2026-11-01T04:00")]


def test_markets_bar_lengths_and_symbols_do_not_touch(lake: Lake) -> None:
    for number, (market, bar) in enumerate([("bybit-linear", "1h"), ("bybit-spot", "1h"), ("bybit-linear", "2h")], 1):
        for symbol in ("A", "B"):
            rows = make_prices(symbol, hours("2026-11-01", 1), [number])
            append(lake, "prices", rows, recorded=LATER, market=market, bar=bar)
    one = as_of(lake, "prices", LATER, recorded_by=LATER, market="bybit-spot", bar="1h", symbols=["B"])
    assert one[["symbol", "close"]].to_numpy().tolist() == [["B", 2.0]]
    assert as_of(lake, "prices", LATER, recorded_by=LATER, market="XNYS", bar="1h").equals(PRICES.empty())


def test_optional_columns_are_there_where_a_row_has_them(lake: Lake) -> None:
    bars = make_prices("A", hours("2026-11-01", 2), [1, 2])
    append(lake, "prices", bars, recorded=LATER, **BARS_HERE)
    more = make_prices("A", hours("2026-11-02", 1), [3]).assign(dividend=0.5)
    append(lake, "prices", more, recorded=LATER, **BARS_HERE)
    assert list(all_prices(lake).columns) == [*PRICES.columns, "dividend"]
    assert list(all_prices(lake, t=ts("2026-11-01T12:00")).columns) == list(PRICES.columns)


# Splits. A 4:1 split holds from 2026-11-10 00:00: the bar that opens then is the first on the new basis.
SPLIT = make_actions([("A", "2026-11-10", "split", 4.0), ("A", "2026-11-10", "dividend", 0.5)])


def test_what_was_fetched_before_a_split_is_divided_from_the_split_on(lake: Lake) -> None:
    old = make_prices("A", hours("2026-11-09T21:00", 2), [400, 404])
    append(lake, "prices", old, recorded=ts("2026-11-09T23:30"), **BARS_HERE)
    append(lake, "actions", SPLIT, recorded=ts("2026-11-10T03:00"), market="bybit-linear")
    new = make_prices("A", hours("2026-11-10", 2), [102, 103])
    append(lake, "prices", new, recorded=ts("2026-11-10T03:00"), **BARS_HERE)
    assert all_prices(lake, t=ts("2026-11-10") - pd.Timedelta("1us"))["close"].tolist() == [400, 404]
    assert all_prices(lake, t=ts("2026-11-10"))["close"].tolist() == [100, 101]
    after = all_prices(lake)
    assert after["close"].tolist() == [100, 101, 102, 103]
    assert after["volume"].tolist() == [400, 400, 100, 100]


def test_what_was_fetched_after_a_split_is_multiplied_back_before_it(lake: Lake) -> None:
    append(lake, "actions", SPLIT, recorded=ts("2026-11-10T03:00"), market="bybit-linear")
    bars = make_prices("A", hours("2026-11-09T22:00", 3), [100, 101, 102])
    append(lake, "prices", bars, recorded=ts("2026-11-11"), **BARS_HERE)
    assert all_prices(lake, t=ts("2026-11-09T23:00"))["close"].tolist() == [400]
    assert all_prices(lake, t=ts("2026-11-09T23:00"))["volume"].tolist() == [25]
    assert all_prices(lake)["close"].tolist() == [100, 101, 102]


def test_a_split_that_was_not_recorded_yet_adjusts_nothing(lake: Lake) -> None:
    old = make_prices("A", hours("2026-11-09", 1), [400])
    append(lake, "prices", old, recorded=ts("2026-11-09T01:00"), **BARS_HERE)
    append(lake, "actions", SPLIT, recorded=ts("2026-11-10T03:00"), market="bybit-linear")
    assert all_prices(lake, recorded_by=ts("2026-11-10T02:59"))["close"].tolist() == [400]
    assert all_prices(lake, recorded_by=ts("2026-11-10T03:00"))["close"].tolist() == [100]


def test_an_equal_price_fetched_after_a_split_means_another_and_is_kept(lake: Lake) -> None:
    bars = make_prices("A", hours("2026-11-08", 1), [400])
    append(lake, "prices", bars, recorded=ts("2026-11-09"), **BARS_HERE)
    append(lake, "actions", SPLIT, recorded=ts("2026-11-10T03:00"), market="bybit-linear")
    assert append(lake, "prices", bars, recorded=ts("2026-11-10T03:00"), **BARS_HERE) == 1
    assert append(lake, "prices", bars, recorded=ts("2026-11-10T04:00"), **BARS_HERE) == 0
    assert all_prices(lake)["close"].tolist() == [400]
    assert all_prices(lake, recorded_by=ts("2026-11-10T02:00"), t=LATER)["close"].tolist() == [400]


def test_the_split_of_one_symbol_leaves_the_others_bit_by_bit(lake: Lake) -> None:
    append(lake, "actions", SPLIT, recorded=ts("2026-11-10T03:00"), market="bybit-linear")
    third = 1 / 3
    for symbol in ("A", "B"):
        old = make_prices(symbol, hours("2026-11-08", 1), [third])
        append(lake, "prices", old, recorded=ts("2026-11-09"), **BARS_HERE)
    assert all_prices(lake)["close"].tolist() == [third / 4, third]


def test_actions_come_back_with_their_newest_value(lake: Lake) -> None:
    append(lake, "actions", SPLIT, recorded=ts("2026-11-10"), market="XNYS")
    put_right = make_actions([("A", "2026-11-10", "split", 5.0)])
    append(lake, "actions", put_right, recorded=ts("2026-11-11"), market="XNYS")
    known = ACTIONS.check(as_of(lake, "actions", LATER, recorded_by=LATER, market="XNYS"))
    assert known["value"].tolist() == [0.5, 5.0]
    assert as_of(lake, "actions", ts("2026-11-09"), recorded_by=LATER, market="XNYS").empty


def test_articles_are_stored_once_whatever_time_they_bear_later(lake: Lake) -> None:
    assert (
        append(lake, "articles", make_articles(["b", "a"], ["2026-10-31", "2026-11-01"]), recorded=ts("2026-11-02"))
        == 2
    )
    again = make_articles(["a", "c"], ["2026-12-01", "2026-12-01"], title="other words")
    assert append(lake, "articles", again, recorded=ts("2026-12-02")) == 1
    known = ARTICLES.check(as_of(lake, "articles", LATER, recorded_by=LATER))
    assert known["article_id"].tolist() == ["b", "a", "c"]
    assert known["title"].tolist() == ["a title", "a title", "other words"]
    assert known["recorded"].tolist() == [ts("2026-11-02"), ts("2026-11-02"), ts("2026-12-02")]


def test_a_backfill_keeps_its_published_time(lake: Lake) -> None:
    append(lake, "articles", make_articles(["old"], ["2020-03-01"]), recorded=ts("2026-11-02"))
    assert len(as_of(lake, "articles", ts("2020-03-02"), recorded_by=ts("2026-11-02"))) == 1
    assert len(as_of(lake, "articles", ts("2020-03-02"), recorded_by=ts("2020-03-02"))) == 0


def test_edits_of_an_article_are_found_by_its_id(lake: Lake) -> None:
    ids = ["https://x.invalid/a#top", "https://x.invalid/a#top#0a1b", "https://x.invalid/ab", "other"]
    append(lake, "articles", make_articles(ids, ["2026-11-01"] * 4), recorded=ts("2026-11-02"))
    found = read_articles(lake, ["https://x.invalid/a#top", "unknown"], recorded_by=LATER)
    assert found["article_id"].tolist() == ids[:2]
    assert read_articles(lake, ["other"], recorded_by=ts("2026-11-01")).empty


def test_links_grow_with_the_table_of_names(lake: Lake) -> None:
    append(lake, "links", make_links([("a", "A", 0.5), ("b", "A", 1.0)]), recorded=ts("2026-10-02"))
    append(lake, "links", make_links([("a", "A", 0.9), ("a", "B", 0.2)]), recorded=ts("2026-11-02"))
    before = LINKS.check(read_links(lake, ["a"], recorded_by=ts("2026-11-01")))
    assert before.to_numpy().tolist() == [["a", "A", 0.5]]
    articles = make_articles(["a"], ["2026-10-01"])
    assert read_links(lake, articles, recorded_by=LATER).to_numpy().tolist() == [["a", "A", 0.9], ["a", "B", 0.2]]
    assert len(read_links(lake, recorded_by=LATER)) == 3


def test_scores_are_found_by_input_and_model(lake: Lake) -> None:
    one, two = to_digest("profit rises"), to_digest("profit falls")
    assert append(lake, "scores", make_scores([one, two], "m1", 0.75), recorded=ts("2026-11-02")) == 2
    assert append(lake, "scores", make_scores([one], "m1", 0.75), recorded=ts("2026-12-02")) == 0
    append(lake, "scores", make_scores([one], "m2", 0.25), recorded=ts("2026-11-02"))
    found = read_scores(lake, [one, to_digest("never asked")], model="m1")
    assert found.to_numpy().tolist() == [[one, "m1", 0.25, 0.0, 0.75]]


def test_every_fetch_is_logged_also_where_it_says_the_same(lake: Lake) -> None:
    row = make_fetch("bybit", "BTCUSDT", "2026-11-01", "2026-11-02", rows=24)
    assert append(lake, "fetches", row, recorded=ts("2026-11-02")) == 1
    assert append(lake, "fetches", row, recorded=ts("2026-11-02")) == 0
    assert append(lake, "fetches", row, recorded=ts("2026-11-03")) == 1
    known = FETCHES.check(as_of(lake, "fetches", ts("2026-11-02"), recorded_by=LATER))
    assert known["recorded"].tolist() == [ts("2026-11-02")]
    assert len(as_of(lake, "fetches", LATER, recorded_by=LATER, since=ts("2026-11-02"))) == 1


def test_nothing_is_written_for_rows_that_break_their_contract(lake: Lake) -> None:
    good = make_prices("A", hours("2026-11-01", 2), [1, 2])
    bad = {
        "above 0": good.assign(low=-1.0),
        "no column 'close'": good.drop(columns="close"),
        "repeat the key": pd.concat([good, good]),
        "unknown column 'vwap'": good.assign(vwap=1.0),
        "expected a DataFrame": [1, 2],
    }
    for message, rows in bad.items():
        with pytest.raises(TableError, match=message):
            append(lake, "prices", rows, recorded=LATER, **BARS_HERE)  # type: ignore[arg-type]
    with pytest.raises(TableError, match=r"closes at .* after it was recorded"):  # a clock that jumped back
        append(lake, "prices", good, recorded=ts("2026-11-01T01:30"), **BARS_HERE)
    assert all_prices(lake).empty
    assert not (lake.folder / "prices").exists()


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("price", {}, "no table 'price'. Did you mean 'prices'"),
        ("prices", {"market": "XNYS"}, "kept by bar"),
        ("articles", {"market": "XNYS"}, "not kept by market"),
        ("prices", {"market": "XNYS", "bar": "hourly"}, "'hourly' is not a length of time"),
        ("articles", {"recorded": pd.Timestamp("2026-11-01")}, "has no zone"),
    ],
)
def test_what_cannot_be_meant_is_refused(lake: Lake, table: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        append(lake, table, make_articles(["a"], ["2026-11-01"]), **{"recorded": LATER, **options})  # type: ignore[arg-type]


def test_questions_that_a_table_cannot_answer_are_refused(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="use read_links"):
        as_of(lake, "links", LATER, recorded_by=LATER)
    with pytest.raises(ConfigError, match="articles have no symbol"):
        as_of(lake, "articles", LATER, recorded_by=LATER, symbols=["A"])
    with pytest.raises(ConfigError, match="has no zone"):
        as_of(lake, "articles", pd.Timestamp("2026-11-01"), recorded_by=LATER)


def test_a_folder_that_is_no_lake_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no lake"):
        open_lake(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SourceError, match="holds other files"):
        open_lake(tmp_path, create=True)
    for text in ("{", "[]", '{"kind": "finsignal lake", "format": "new"}', '{"kind": "shop", "format": 1}'):
        (tmp_path / "lake.json").write_text(text)
        with pytest.raises(FinsignalError, match="is not the mark of a lake"):
            open_lake(tmp_path)
    (tmp_path / "lake.json").write_text('{"kind": "finsignal lake", "format": 2}')
    with pytest.raises(SourceError, match="a newer finsignal wrote format 2"):
        open_lake(tmp_path)
