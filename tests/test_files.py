"""Files of a user's own: what is read, what is counted by name, and what is refused with one sentence."""

import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finsignal.clock import make_bars
from finsignal.errors import ConfigError, SourceError, TableError
from finsignal.sources.files import (
    NewsLayout,
    PriceLayout,
    SentimentLayout,
    check_on_grid,
    join_news,
    read_news,
    read_prices,
    read_sentiment,
)
from finsignal.tables import ARTICLES, LINKS, PRICES, SENTIMENT

NOW = pd.Timestamp("2026-11-20T12:00Z")
MINUTE = pd.Timedelta(minutes=1)
DAY = make_bars("24x7", "1h", start="2024-03-01", end="2024-03-02", latency=MINUTE)
HEADER = "time,open,high,low,close,volume"
PLAIN = PriceLayout(time="time", stamp="open", tz="UTC")
ITEMS = NewsLayout(time="time", title="title", text="text", symbol="symbol", source_fixed="desk")


def write(folder: Path, lines: list[str], name: str = "AAPL.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def price_lines(n: int = 24) -> list[str]:
    return [f"2024-03-01 {hour:02d}:00,{100 + hour},{102 + hour},{99 + hour},{101 + hour},5" for hour in range(n)]


def read_aapl(path: Path, layout: PriceLayout = PLAIN, *, bars: pd.DataFrame = DAY, now=NOW, limit=1.0):
    return read_prices({"AAPL": path}, layout, bars=bars, now=now, limit=limit)


def news_lines(n: int = 20) -> list[str]:
    lines = ["time,symbol,title,text"]
    return lines + [f"2024-03-01T10:{i:02d}:30Z,AAPL,Title {i},Body of {i}" for i in range(n)]


# --- prices ---------------------------------------------------------------------------------------------------------


def test_a_plain_file_becomes_a_prices_table_that_opens_and_ends_with_the_grid(tmp_path):
    prices, counts = read_aapl(write(tmp_path, [HEADER, *price_lines()]))
    PRICES.check(prices)
    assert (counts.read, counts.kept, dict(counts.dropped)) == (24, 24, {})
    assert prices["open_time"].tolist() == DAY["open_time"].tolist()
    assert prices["time"].tolist() == DAY["close_time"].tolist()
    assert prices.loc[3, ["open", "high", "low", "close", "volume"]].tolist() == [103, 105, 102, 104, 5]


def test_the_last_bar_of_a_session_is_known_at_the_close_that_cuts_it(tmp_path):
    bars = make_bars("XNYS", "1h", start="2024-07-03", end="2024-07-06", latency=MINUTE)
    lines = ["2024-07-03 12:30:00-04:00,1,1,1,1,0", "2024-07-05 15:30:00-04:00,1,1,1,1,0"]
    prices, _ = read_aapl(write(tmp_path, [HEADER, *lines]), PriceLayout(time="time", stamp="open"), bars=bars)
    half_day, full_day = prices["time"]
    assert half_day == pd.Timestamp("2024-07-03T17:00Z")
    assert full_day == pd.Timestamp("2024-07-05T20:00Z")


def test_stamps_at_the_close_or_of_the_date_give_the_same_table_as_stamps_at_the_open(tmp_path):
    bars = make_bars("XNYS", "1d", start="2024-03-04", end="2024-03-06", latency=5 * MINUTE)
    tables = []
    for stamp, stamps in {
        "open": ["2024-03-04T14:30Z", "2024-03-05T14:30Z"],
        "close": ["2024-03-04T21:00Z", "2024-03-05T21:00Z"],
        "date": ["2024-03-04", "2024-03-05"],
    }.items():
        path = write(tmp_path, [HEADER, *(f"{s},2,3,1,2,9" for s in stamps)])
        tables.append(read_aapl(path, PriceLayout(time="time", stamp=stamp), bars=bars)[0])
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2024-03-01 23:00,1,2,1", "malformed row"),
        ("2024-03-01 23:00,1,2,1,1,5,6", "malformed row"),
        ('"2024-03-01" 23:00,1,2,1,1,5', "malformed row"),
        ("yesterday,1,2,1,1,5", "time cannot be read"),
        ("2024-03-01 23:00,,2,1,1,5", "price missing or not a number"),
        ("2024-03-01 23:00,inf,inf,1,1,5", "price missing or not a number"),
        ("2024-03-01 23:00,nan,2,1,1,5", "price missing or not a number"),
        ("2024-03-01 23:00,0,2,0,1,5", "price not above 0"),
        ("2024-03-01 23:00,1,2,-1,1,5", "price not above 0"),
        ("2024-03-01 23:00,2,1,3,2,5", "open or close outside low and high"),
        ("2024-03-01 23:00,1,2,1,1,-5", "volume missing or below 0"),
        ("2024-03-01 23:00,1,2,1,1,", "volume missing or below 0"),
        ("2024-03-01 22:30,1,2,1,1,5", "off the grid of bars"),
        ("2024-03-02 23:00,1,2,1,1,5", "outside the period of the bars"),
        ("2026-11-21 00:00,1,2,1,1,5", "stamp in the future"),
        ("2024-03-01 22:00,122,124,121,123,5", "repeated row"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_by_name_and_refused_over_the_limit(tmp_path, line, reason):
    path = write(tmp_path, [HEADER, *price_lines(23), line])
    prices, counts = read_aapl(path, limit=0.1)
    assert dict(counts.dropped) == {reason: 1}
    assert (counts.read, counts.kept, len(prices)) == (24, 23, 23)
    assert counts.first[reason] == ("AAPL.csv row 24",)
    if reason == "outside the period of the bars":
        return  # the period is the user's choice and no fault of the file
    with pytest.raises(TableError, match=rf"1 of 24 rows.*4\.2%.*4\.1%.*{reason} \(1 rows, first AAPL\.csv row 24\)"):
        read_aapl(path, limit=0.041)


def test_rows_that_contradict_each_other_are_all_dropped(tmp_path):
    path = write(tmp_path, [HEADER, *price_lines(23), "2024-03-01 22:00,122,124,121,123.5,5"])
    prices, counts = read_aapl(path)
    assert dict(counts.dropped) == {"rows that contradict each other": 2}
    assert prices["open_time"].max() == pd.Timestamp("2024-03-01T21:00Z")


def test_a_bar_that_ends_after_now_is_unfinished_and_so_is_the_last_row_where_the_layout_says_so(tmp_path):
    path = write(tmp_path, [HEADER, *price_lines()])
    prices, counts = read_aapl(path, now=pd.Timestamp("2024-03-01T23:30Z"), limit=0)
    assert dict(counts.dropped) == {"unfinished bar": 1}
    assert prices["time"].max() == pd.Timestamp("2024-03-01T23:00Z")
    prices, _ = read_aapl(path, now=pd.Timestamp("2024-03-02T00:00Z"))
    assert len(prices) == 24
    prices, counts = read_aapl(path, PriceLayout(time="time", stamp="open", tz="UTC", drop_last=True), limit=0)
    assert dict(counts.dropped) == {"unfinished bar": 1}
    assert len(prices) == 23


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(26)))
def test_the_order_of_rows_changes_nothing(tmp_path_factory, order):
    lines = [*price_lines(), "2024-03-01 22:00,122,124,121,123,5", "2024-03-01 21:00,122,124,121,123,5"]
    folder = tmp_path_factory.mktemp("order")
    expected, _ = read_aapl(write(folder, [HEADER, *lines]))
    found, counts = read_aapl(write(folder, [HEADER, *(lines[i] for i in order)]))
    pd.testing.assert_frame_equal(found, expected)
    assert dict(counts.dropped) == {"repeated row": 1, "rows that contradict each other": 2}


def test_newest_first_is_sorted_and_noted(tmp_path):
    _, counts = read_aapl(write(tmp_path, [HEADER, *reversed(price_lines())]))
    assert counts.notes == ("AAPL.csv: 23 rows stand below a later one of their symbol; sorted.",)


def test_a_file_without_open_is_no_prices(tmp_path):
    path = write(tmp_path, ["time,close,volume", "2024-03-01 00:00,1,1"])
    with pytest.raises(TableError, match=r"no column 'open'.*no prices to trade on, which need open, high, low"):
        read_aapl(path)
    with pytest.raises(ConfigError, match="closes alone cannot be traded on"):
        PriceLayout(time="time", stamp="open", open="close", high="close", low="close")


def test_a_misspelt_column_is_refused_with_the_closest_name(tmp_path):
    with pytest.raises(TableError, match=r"no column 'Time'\. Did you mean 'time'"):
        read_aapl(write(tmp_path, [HEADER, *price_lines()]), PriceLayout(time="Time", stamp="open", tz="UTC"))


def test_stamps_without_zone_are_refused_until_the_layout_says_one(tmp_path):
    path = write(tmp_path, [HEADER, "one,malformed,row", *price_lines()])
    with pytest.raises(TableError, match=r"AAPL\.csv row 2: time '2024-03-01 00:00' has no time zone\. Set tz"):
        read_aapl(path, PriceLayout(time="time", stamp="open"))


def test_rows_of_another_bar_length_than_the_grid_are_refused(tmp_path):
    half_hours = make_bars("24x7", "30min", start="2024-03-01", end="2024-03-02", latency=MINUTE)
    path = write(tmp_path, [HEADER, *price_lines()])
    with pytest.raises(TableError, match="rows of AAPL are 2 bars apart"):
        read_aapl(path, bars=half_hours)
    halves = [line.replace(":00,", ":30,", 1) for line in price_lines()]
    with pytest.raises(TableError, match=r"24 of 48 rows.*off the grid of bars"):
        read_aapl(write(tmp_path, [HEADER, *price_lines(), *halves]), limit=0.01)
    assert len(read_aapl(write(tmp_path, [HEADER, *price_lines(), *halves]), bars=half_hours)[0]) == 48


def test_a_stretch_of_longer_bars_within_a_file_is_refused_and_missing_bars_are_not(tmp_path):
    bars = make_bars("24x7", "1h", start="2024-03-01", end="2024-04-01", latency=MINUTE)
    opens = bars["open_time"].dt.strftime("%Y-%m-%dT%H:%MZ").tolist()
    mixed = opens[:400] + opens[400:450:2]
    with pytest.raises(TableError, match="2 bars apart for long"):
        read_aapl(write(tmp_path, [HEADER, *(f"{o},1,1,1,1,1" for o in mixed)]), bars=bars)
    sparse = random.Random(3).sample(opens, 450)
    assert len(read_aapl(write(tmp_path, [HEADER, *(f"{o},1,1,1,1,1" for o in sparse)]), bars=bars)[0]) == 450


def test_check_on_grid_counts_foreign_rows_of_any_prices_table(tmp_path):
    prices, _ = read_aapl(write(tmp_path, [HEADER, *price_lines()]))
    kept, counts = check_on_grid(prices, DAY)
    pd.testing.assert_frame_equal(kept, prices)
    assert not counts.dropped
    prices.loc[5, "open_time"] += 10 * MINUTE
    kept, counts = check_on_grid(prices, DAY, limit=0.05)
    assert len(kept) == 23
    assert dict(counts.dropped) == {"off the grid of bars": 1}
    with pytest.raises(TableError, match="1 of 24 rows"):
        check_on_grid(prices, DAY)


def test_a_symbol_comes_from_a_column_or_from_the_name_of_a_file_but_not_from_both(tmp_path):
    rows = [f"{line},{symbol}" for symbol in ("MSFT", "AAPL") for line in price_lines(3)]
    path = write(tmp_path, [f"{HEADER},symbol", *rows])
    layout = PriceLayout(time="time", stamp="open", tz="UTC", symbol="symbol")
    prices, _ = read_prices(path, layout, bars=DAY, now=NOW)
    assert prices["symbol"].tolist() == ["AAPL"] * 3 + ["MSFT"] * 3
    for paths, wrong in (({"AAPL": path}, layout), (path, PLAIN)):
        with pytest.raises(ConfigError, match="symbol must come from one place"):
            read_prices(paths, wrong, bars=DAY, now=NOW)


def test_files_that_overlap_add_up_without_repeats(tmp_path):
    layout = PriceLayout(time="time", stamp="open", tz="UTC", symbol="symbol")
    lines = [f"{line},AAPL" for line in price_lines()]
    first = write(tmp_path, [f"{HEADER},symbol", *lines[:14]], "a.csv")
    second = write(tmp_path, [f"{HEADER},symbol", *lines[10:]], "b.csv")
    prices, counts = read_prices([first, second], layout, bars=DAY, now=NOW, limit=0.2)
    assert len(prices) == 24
    assert (counts.read, counts.kept, dict(counts.dropped)) == (28, 24, {"repeated row": 4})


def test_csv_jsonl_and_parquet_give_the_same_prices(tmp_path):
    expected, _ = read_aapl(write(tmp_path, [HEADER, *price_lines()]))
    frame = pd.read_csv(tmp_path / "AAPL.csv")
    frame.to_json(tmp_path / "AAPL.jsonl", orient="records", lines=True)
    frame.set_index("time").to_parquet(tmp_path / "AAPL.parquet")
    for name in ("AAPL.jsonl", "AAPL.parquet"):
        pd.testing.assert_frame_equal(read_aapl(tmp_path / name)[0], expected)


def test_header_rows_separator_decimal_mark_and_unix_stamps_are_settings(tmp_path):
    expected, _ = read_aapl(write(tmp_path, [HEADER, *price_lines()]))
    stamps = [int(t.timestamp() * 1000) for t in DAY["open_time"]]
    rows = [
        f"{stamp};" + ";".join(f"{float(v):.2f}".replace(".", ",") for v in line.split(",")[1:])
        for stamp, line in zip(stamps, price_lines(), strict=True)
    ]
    path = write(tmp_path, ["made by hand", "\ufeff" + HEADER.replace(",", ";"), "a;b", *rows])
    layout = PriceLayout(
        time="\ufefftime",
        stamp="open",
        time_format="unix_ms",
        separator=";",
        decimal=",",
        skip_rows=1,
        header_rows=2,
    )
    pd.testing.assert_frame_equal(read_aapl(path, layout)[0], expected)
    numbered = PriceLayout(
        time="1", open="2", high="3", low="4", close="5", volume="6", stamp="open", tz="UTC", header_rows=0
    )
    pd.testing.assert_frame_equal(read_aapl(write(tmp_path, price_lines()), numbered)[0], expected)


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path):
    path = write(tmp_path, ["\ufeff" + HEADER, *price_lines()])
    assert len(read_aapl(path)[0]) == 24


def test_files_that_cannot_be_read_say_why(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        read_aapl(tmp_path / "none.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(SourceError, match="the file is empty"):
        read_aapl(tmp_path / "empty.csv")
    with pytest.raises(SourceError, match="no rows below its header"):
        read_aapl(write(tmp_path, [HEADER]))
    with pytest.raises(SourceError, match=r"suffix '\.txt' says no format"):
        read_aapl(write(tmp_path, [HEADER], "prices.txt"))
    with pytest.raises(SourceError, match="not a readable Parquet file"):
        read_aapl(write(tmp_path, [HEADER], "prices.parquet"))
    (tmp_path / "latin.csv").write_bytes((HEADER + "\n").encode() + b"\xe9,1,1,1,1,1\n")
    with pytest.raises(SourceError, match="not utf-8"):
        read_aapl(tmp_path / "latin.csv")
    with pytest.raises(SourceError, match="quote in line 3 or below is never closed"):
        read_aapl(write(tmp_path, [HEADER, price_lines()[0], '"2024-03-01 01:00,1,1,1,1,1', *price_lines()[2:]]))
    with pytest.raises(TableError, match="'open' stands 2 times"):
        read_aapl(write(tmp_path, ["time,open,open,high,low,close,volume", "1,1,1,1,1,1,1"]))


@pytest.mark.parametrize("name", ["AAPL.csv", "AAPL.jsonl"])
def test_a_file_that_must_not_be_opened_is_one_sentence(tmp_path, monkeypatch, name):
    path = write(tmp_path, [HEADER, *price_lines()], name)

    def refuse(self, *args, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceError, match=rf"{name}: the file cannot be read \(Permission denied\)"):
        read_aapl(path)


def test_a_period_without_any_row_is_refused_and_not_an_empty_table(tmp_path):
    later = make_bars("24x7", "1h", start="2025-03-01", end="2025-03-02", latency=MINUTE)
    with pytest.raises(TableError, match=r"of 24 rows none is left \(most often: outside the period of the bars"):
        read_aapl(write(tmp_path, [HEADER, *price_lines()]), bars=later)


def test_layouts_refuse_what_cannot_be_meant():
    for wrong, match in (
        ({"stamp": "opn"}, "Did you mean 'open'"),
        ({"stamp": "open", "format": "xls"}, "not one of csv"),
        ({"stamp": "open", "separator": "||"}, "one character"),
        ({"stamp": "open", "encoding": "latin-99"}, "not known"),
        ({"stamp": "open", "header_rows": -1}, "negative"),
    ):
        with pytest.raises(ConfigError, match=match):
            PriceLayout(time="time", **wrong)


# --- news -----------------------------------------------------------------------------------------------------------


def test_a_text_is_known_at_the_end_of_its_precision_plus_the_latency(tmp_path):
    path = write(tmp_path, ["time,text", "2024-03-01 10:15,Apple beats"])
    known = {}
    for precision in ("second", "minute", "hour"):
        layout = NewsLayout(
            time="time", text="text", symbol_fixed="AAPL", tz="America/New_York", precision=precision, latency="90s"
        )
        articles, links, _ = read_news(path, layout, now=NOW)
        known[precision] = articles["time"].iloc[0].strftime("%H:%M:%S")
        assert articles["published"].tolist() == [pd.Timestamp("2024-03-01T15:15Z")]
        assert articles["recorded"].tolist() == [NOW]
        assert articles["first_seen"].isna().all()
        assert links["symbol"].tolist() == ["AAPL"]
    assert known == {"second": "15:16:31", "minute": "15:17:30", "hour": "16:01:30"}


def test_dates_must_be_declared_and_then_count_at_the_next_local_midnight(tmp_path):
    path = write(tmp_path, ["time,text", *(f"2024-03-{d:02d},News of {d}" for d in range(1, 20))])
    layout = {"time": "time", "text": "text", "symbol_fixed": "AAPL", "tz": "America/New_York"}
    with pytest.raises(TableError, match=r'100\.0% of the stamps are exact midnights in America/New_York.*"date"'):
        read_news(path, NewsLayout(**layout), now=NOW)
    articles, _, _ = read_news(path, NewsLayout(**layout, precision="date", latency="0s"), now=NOW)
    assert articles["time"].min() == pd.Timestamp("2024-03-02T05:00Z")
    one_in_twenty = ["2024-03-01T00:00:00Z,A", *(f"2024-03-01T09:00:{s:02d}Z,B{s}" for s in range(1, 20))]
    path = write(tmp_path, ["time,text", *one_in_twenty])
    read_news(path, NewsLayout(**layout), now=NOW)
    with pytest.raises(TableError, match="midnights in UTC"):
        read_news(write(tmp_path, ["time,text", *one_in_twenty[:-1]]), NewsLayout(**layout), now=NOW)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2024-03-01T11:00:00Z,AAPL,only a title", "malformed row"),
        ("2024-03-41T11:00:00Z,AAPL,a,b", "time cannot be read"),
        ("2026-11-20T12:00:01Z,AAPL,a,b", "stamp in the future"),
        ("2024-03-01T11:00:00Z,AAPL, ,\x07", "no text"),
        ("2024-03-01T11:00:00Z, ,a,b", "no symbol"),
        ("2024-03-01T10:00:30Z,AAPL,Title 0,Body of 0", "repeated row"),
    ],
)
def test_an_item_that_cannot_be_used_is_counted_by_name_and_refused_over_the_limit(tmp_path, line, reason):
    path = write(tmp_path, [*news_lines(), line])
    articles, links, counts = read_news(path, ITEMS, now=NOW, limit=0.05)
    assert dict(counts.dropped) == {reason: 1}
    assert (len(articles), len(links), counts.kept) == (20, 20, 20)
    with pytest.raises(TableError, match=f"1 of 21 rows.*{reason}"):
        read_news(path, ITEMS, now=NOW, limit=0.04)


def test_one_article_under_two_symbols_is_one_article_with_two_links(tmp_path):
    path = write(tmp_path, [*news_lines(1), news_lines(1)[1].replace("AAPL", "MSFT")])
    articles, links, counts = read_news(path, ITEMS, now=NOW)
    assert len(articles) == 1
    assert links["symbol"].tolist() == ["AAPL", "MSFT"]
    assert not counts.dropped
    assert len(join_news(articles, links)) == 2


def test_stories_repeat_titles_or_texts_and_nothing_else(tmp_path):
    lines = [
        "2024-03-01T10:00:30Z,AAPL,Apple  Beats,one",
        "2024-03-02T11:00:30Z,MSFT,apple beats,two",
        "2024-03-02T12:00:30Z,AAPL,Apple beats again,one",
    ]
    articles, links, _ = read_news(write(tmp_path, [news_lines()[0], *lines]), ITEMS, now=NOW)
    first, second, third = join_news(articles, links).sort_values("time")["story"]
    assert first == second != third


def test_long_texts_are_kept_whole_and_control_characters_become_spaces(tmp_path):
    path = write(tmp_path, [news_lines()[0], f"2024-03-01T10:00:30Z,AAPL,A\x00B\x1bC,{'long ' * 2000}end"])
    articles, _, counts = read_news(path, ITEMS, now=NOW)
    assert articles["title"].tolist() == ["A B C"]
    assert len(articles["text"].iloc[0]) == 10_003
    assert counts.notes == ("AAPL.csv: control characters in 1 of its titles became spaces.",)


def test_json_lines_keep_line_breaks_lists_of_symbols_and_survive_half_characters(tmp_path):
    items = [
        {"time": "2024-03-01T10:00:30Z", "symbol": ["MSFT", "AAPL"], "title": "Two\nlines", "text": "x"},
        {"time": "2024-03-01T10:00:31Z", "symbol": [], "title": "None", "text": "x"},
        {"time": "2024-03-01T10:00:32Z", "symbol": ["AAPL"], "title": "Half \ud83d", "text": None},
        ["no", "object"],
    ]
    path = write(tmp_path, [*(json.dumps(item) for item in items), '{"time": '], "news.jsonl")
    articles, links, counts = read_news(path, ITEMS, now=NOW, limit=1)
    assert dict(counts.dropped) == {"malformed row": 2, "no symbol": 1}
    assert sorted(articles["title"]) == ["Half ?", "Two\nlines"]
    assert sorted(links["symbol"]) == ["AAPL", "AAPL", "MSFT"]


def test_subjects_are_mapped_and_unmapped_ones_are_left_out_without_fault(tmp_path):
    lines = [line.replace("AAPL", subject) for line, subject in zip(news_lines(4)[1:], "abcd", strict=True)]
    layout = NewsLayout(time="time", title="title", symbol="symbol", symbol_map={"a": "BTC", "b": ["BTC", "ETH"]})
    path = write(tmp_path, [news_lines()[0], *lines])
    _, links, counts = read_news(path, layout, now=NOW, limit=0)
    assert sorted(links["symbol"]) == ["BTC", "BTC", "ETH"]
    assert dict(counts.dropped) == {"symbol not mapped": 2}
    with pytest.raises(TableError, match=r"none is left \(most often: symbol not mapped"):
        read_news(path, NewsLayout(time="time", title="title", symbol="symbol", symbol_map={"A": "BTC"}), now=NOW)


def test_the_source_is_the_host_of_an_address_where_the_layout_says_so(tmp_path):
    lines = ["time,text,link", "2024-03-01T10:00:30Z,a,https://www.fool.com/x", "2024-03-01T10:00:31Z,b,zacks.com/y"]
    layout = NewsLayout(time="time", text="text", symbol_fixed="AAPL", source="link", source_is_url=True)
    articles, _, _ = read_news(write(tmp_path, lines), layout, now=NOW)
    assert sorted(articles["source"]) == ["fool.com", "zacks.com"]
    assert sorted(articles["url"]) == ["https://www.fool.com/x", "zacks.com/y"]


VERSIONS = NewsLayout(time="time", title="title", symbol="symbol", id="id", latency="0s")


def read_versions(folder: Path, rows: list[tuple[int, str, str, str]]):
    """Articles with their links as news, and counts, of rows of minute, id, title and symbol."""
    lines = [f"2024-03-01T10:{minute:02d}:30Z,{own},{title},{symbol}" for minute, own, title, symbol in rows]
    articles, links, counts = read_news(write(folder, ["time,id,title,symbol", *lines]), VERSIONS, now=NOW, limit=1)
    return join_news(articles, links), counts


def test_an_edit_is_a_row_of_its_own_that_repeats_the_story(tmp_path):
    rows = [(0, "x1", "Apple beats", "AAPL"), (5, "x1", "Apple beats by far", "AAPL"), (6, "x2", "Other", "AAPL")]
    news, counts = read_versions(tmp_path, [rows[1], rows[0], rows[2]])
    first, edit, other = news.sort_values("time").itertuples()
    assert (first.article_id, first.title, first.published.minute) == ("x1", "Apple beats", 0)
    assert edit.article_id.startswith("x1#")
    assert (edit.title, edit.published.minute) == ("Apple beats by far", 5)
    assert first.story == edit.story != other.story
    assert not counts.dropped
    assert counts.notes == ("AAPL.csv: 1 later versions of items kept as rows of their own.",)


def test_versions_of_one_time_that_differ_contradict_each_other_and_leave_the_others_alone(tmp_path):
    rows = [(0, "x1", "A", "AAPL"), (3, "x1", "B", "AAPL"), (3, "x1", "C", "AAPL"), (4, "x1", "D", "AAPL")]
    news, counts = read_versions(tmp_path, rows)
    assert news["title"].tolist() == ["A", "D"]
    assert dict(counts.dropped) == {"rows that contradict each other": 2}
    assert counts.first["rows that contradict each other"] == ("AAPL.csv row 2", "AAPL.csv row 3")


def test_of_rows_that_say_the_same_the_earliest_is_kept_wherever_it_stands(tmp_path):
    news, counts = read_versions(tmp_path, [(7, "x1", "A", "AAPL"), (2, "x1", "A", "AAPL"), (4, "x1", "A", "AAPL")])
    assert news[["article_id", "published"]].values.tolist() == [["x1", pd.Timestamp("2024-03-01T10:02:30Z")]]
    assert dict(counts.dropped) == {"repeated row": 2}


def test_a_symbol_that_a_later_version_adds_was_not_known_before(tmp_path):
    news, _ = read_versions(tmp_path, [(0, "x1", "A", "AAPL"), (5, "x1", "A", "MSFT")])
    assert news[["symbol", "article_id"]].values[0].tolist() == ["AAPL", "x1"]
    assert news["published"].dt.minute.tolist() == [0, 5]


VERSION_ROWS = st.tuples(
    st.integers(0, 5), st.sampled_from(["x", "y"]), st.sampled_from("ABC"), st.sampled_from(["AAPL", "MSFT"])
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(rows=st.lists(VERSION_ROWS, max_size=8))
def test_no_version_that_comes_later_changes_what_was_known_before(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("versions")
    rows = [(0, "kept", "Kept", "AAPL"), *rows]
    whole, _ = read_versions(folder, rows)
    for minute in range(6):
        then, _ = read_versions(folder, [row for row in rows if row[0] <= minute])
        known = whole[whole["published"].dt.minute <= minute].reset_index(drop=True)
        pd.testing.assert_frame_equal(then, known)
    backwards, _ = read_versions(folder, rows[::-1])
    pd.testing.assert_frame_equal(backwards, whole)


def test_a_score_by_identifier_is_of_the_earliest_version_and_an_edit_has_its_own(tmp_path):
    news, _ = read_versions(tmp_path, [(0, "x1", "A", "AAPL"), (5, "x1", "B", "AAPL")])
    by_id = SentimentLayout(by="article_id", article_id="id", label="label")
    for key, title in (("x1", "A"), (news["article_id"].iloc[1], "B")):
        path = write(tmp_path, ["id,label", f"{key},positive"], "scores.csv")
        sentiment, counts = read_sentiment(path, by_id, news)
        assert news.merge(sentiment, on=["article_id", "symbol", "time"])["title"].tolist() == [title]
        assert counts.notes == ("scores.csv: 1 of 2 news rows have no score.",)
    lines = ["time,title,label", "2024-03-01T10:00:30Z,A,negative", "2024-03-01T10:05:30Z,B,positive"]
    by_text = SentimentLayout(by="text", time="time", title="title", label="label")
    sentiment, _ = read_sentiment(write(tmp_path, lines, "scores.csv"), by_text, news)
    assert sentiment["p_positive"].tolist() == [0.0, 1.0]


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(7)))
def test_the_order_of_items_changes_nothing(tmp_path_factory, order):
    folder = tmp_path_factory.mktemp("order")
    header, *lines = news_lines(5)
    lines += [lines[0], lines[1].replace("AAPL", "MSFT")]
    expected = read_news(write(folder, [header, *lines]), ITEMS, now=NOW, limit=1)
    found = read_news(write(folder, [header, *(lines[i] for i in order)]), ITEMS, now=NOW, limit=1)
    for table, same in zip(found[:2], expected[:2], strict=True):
        pd.testing.assert_frame_equal(table, same)
    assert found[2].dropped == expected[2].dropped


@settings(max_examples=25, deadline=None)
@given(text=st.text(max_size=60), title=st.text(max_size=20))
def test_any_text_at_all_is_read_or_counted(tmp_path_factory, text, title):
    path = tmp_path_factory.mktemp("any") / "news.jsonl"
    rows = [{"time": "2024-03-01T10:00:30Z", "symbol": "AAPL", "title": title, "text": text}]
    rows += [{"time": "2024-03-01T10:00:31Z", "symbol": "AAPL", "title": "plain", "text": "plain"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    articles, links, counts = read_news(path, ITEMS, now=NOW, limit=1)
    ARTICLES.check(articles)
    LINKS.check(links)
    assert len(articles) == counts.kept == counts.read - sum(counts.dropped.values())


def test_minute_stamps_read_as_seconds_are_noted(tmp_path):
    lines = [line.replace(":30Z", ":00Z") for line in news_lines()]
    _, _, counts = read_news(write(tmp_path, lines), ITEMS, now=NOW)
    assert counts.notes == ("AAPL.csv: no stamp has seconds; if they are exact to the minute, say so.",)


def test_now_needs_a_zone(tmp_path):
    with pytest.raises(ConfigError, match=r"now: .* has no time zone"):
        read_news(write(tmp_path, news_lines()), ITEMS, now=pd.Timestamp("2026-11-20"))


def test_news_layouts_refuse_what_cannot_be_meant():
    for wrong, match in (
        ({}, "neither title nor text"),
        ({"text": "t", "symbol": "a", "symbol_fixed": "b"}, "exclude each other"),
        ({"text": "t", "symbol_map": {}}, "need symbol"),
        ({"text": "t", "precision": "minutes"}, "Did you mean 'minute'"),
        ({"text": "t", "latency": "soon"}, "no length of time"),
        ({"text": "t", "latency": "-1min"}, "below 0"),
        ({"text": "t", "source_is_url": True}, "needs source"),
    ):
        with pytest.raises(ConfigError, match=match):
            NewsLayout(time="time", **wrong)


# --- scores ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def news(tmp_path) -> pd.DataFrame:
    lines = [*news_lines(4), news_lines(1)[1].replace("AAPL", "MSFT")]
    articles, links, _ = read_news(write(tmp_path, lines), ITEMS, now=NOW)
    return join_news(articles, links)


PROBABILITY_COLUMNS = {name: name for name in ("p_negative", "p_neutral", "p_positive")}


def test_scores_join_by_id_and_reach_every_symbol_of_an_article(tmp_path, news):
    shared_id = news["article_id"][news["article_id"].duplicated()].iloc[0]
    path = write(tmp_path, ["id,p_negative,p_neutral,p_positive", f"{shared_id},0.333,0.333,0.333"], "scores.csv")
    layout = SentimentLayout(by="article_id", article_id="id", **PROBABILITY_COLUMNS)
    sentiment, counts = read_sentiment(path, layout, news)
    SENTIMENT.check(sentiment)
    assert sentiment["symbol"].tolist() == ["AAPL", "MSFT"]
    np.testing.assert_allclose(sentiment[["p_negative", "p_neutral", "p_positive"]], 1 / 3)
    assert sentiment["time"].tolist() == news.loc[news["article_id"] == shared_id, "time"].tolist()
    assert counts.notes == ("scores.csv: 3 of 5 news rows have no score.",)
    assert sentiment["model"].str.fullmatch(r"file:scores\.csv@[0-9a-f]{12}").all()


def test_labels_join_by_time_text_and_symbol_and_become_one_hot(tmp_path, news):
    lines = [
        "when,who,what,label",
        "2024-03-01T10:00:30Z,MSFT,Body of 0,Bullish",
        "2024-03-01T10:01:30Z,AAPL,?,Bullish",
    ]
    layout = SentimentLayout(
        by="text", time="when", symbol="who", text="what", label="label", label_map={"Bullish": "positive"}
    )
    sentiment, counts = read_sentiment(write(tmp_path, lines, "scores.csv"), layout, news)
    assert sentiment[["symbol", "p_negative", "p_neutral", "p_positive"]].values.tolist() == [["MSFT", 0.0, 0.0, 1.0]]
    assert dict(counts.dropped) == {"matches no article": 1}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["0.5,0.4,0.3"], "probabilities not between 0 and 1 with sum 1"),
        (["50,30,20"], "probabilities not between 0 and 1 with sum 1"),
        (["1.5,-0.5,0"], "probabilities not between 0 and 1 with sum 1"),
        ([",0.5,0.5"], "probabilities not between 0 and 1 with sum 1"),
        (["1,0,0", "0,0,1"], "rows that contradict each other"),
    ],
)
def test_scores_that_cannot_be_probabilities_or_contradict_are_refused(tmp_path, news, rows, reason):
    key = news["article_id"].iloc[0]
    path = write(tmp_path, ["id,p_negative,p_neutral,p_positive", *(f"{key},{row}" for row in rows)], "scores.csv")
    with pytest.raises(TableError, match=reason):
        read_sentiment(path, SentimentLayout(by="article_id", article_id="id", **PROBABILITY_COLUMNS), news)


def test_scores_of_other_news_are_refused(tmp_path, news):
    path = write(tmp_path, ["id,p_negative,p_neutral,p_positive", "elsewhere,1,0,0"], "scores.csv")
    with pytest.raises(TableError, match=r"none is left \(most often: matches no article"):
        read_sentiment(path, SentimentLayout(by="article_id", article_id="id", **PROBABILITY_COLUMNS), news)


def test_score_layouts_state_their_keys():
    for wrong, match in (
        ({"by": "txt", "label": "l"}, "Did you mean 'text'"),
        ({"by": "article_id", "label": "l"}, "needs article_id"),
        ({"by": "text", "time": "t", "label": "l"}, "needs time and at least one of text and title"),
        ({"by": "article_id", "article_id": "i"}, "either all of"),
        ({"by": "article_id", "article_id": "i", "p_neutral": "p"}, "either all of"),
        ({"by": "article_id", "article_id": "i", "label": "l", "label_map": {"1": "good"}}, "leads to"),
    ):
        with pytest.raises(ConfigError, match=match):
            SentimentLayout(**wrong)


# --- the real sets: every number was counted in the files with other tools -------------------------------------------

YAHOO = {"open": "Open", "high": "High", "low": "Low", "close": "Close", "volume": "Volume", "stamp": "open"}


def test_hourly_apple_bars_lack_the_last_bar_of_half_days_and_end_unfinished(shared):
    bars = make_bars("XNYS", "1h", start="2024-01-01", end="2025-12-01", latency=MINUTE)
    path = shared / "apple_hourly" / "AAPL_1h_ohlcv.csv"
    layout = PriceLayout(time="Price", header_rows=3, drop_last=True, **YAHOO)
    prices, counts = read_prices({"AAPL": path}, layout, bars=bars, now=NOW)
    assert (counts.read, counts.kept, dict(counts.dropped)) == (3299, 3298, {"unfinished bar": 1})
    assert prices["open_time"].iloc[-1] == pd.Timestamp("2025-11-19T16:30Z")
    in_file = bars[bars["open_time"] <= prices["open_time"].iloc[-1]]
    missing = in_file[~in_file["open_time"].isin(prices["open_time"])]
    assert missing["session"].tolist() == ["2024-07-03", "2024-11-29", "2024-12-24", "2025-07-03"]


def test_hourly_palantir_bars_carry_offsets_of_summer_and_winter(shared):
    bars = make_bars("XNYS", "1h", start="2023-01-01", end="2024-10-01", latency=MINUTE)
    path = shared / "apple_hourly" / "PLTR_1h_ohlcv_to_2024_09.csv"
    prices, counts = read_prices({"PLTR": path}, PriceLayout(time="Datetime", **YAHOO), bars=bars, now=NOW)
    assert (counts.read, counts.kept, dict(counts.dropped)) == (3040, 3040, {})
    assert prices["open_time"].iloc[0] == pd.Timestamp("2023-01-03T14:30Z")
    assert prices["time"].iloc[-1] == pd.Timestamp("2024-09-26T20:00Z")


def test_closes_alone_are_refused_as_prices(shared):
    layout = PriceLayout(time="timestamp", stamp="open", symbol="ticker", tz="America/New_York")
    with pytest.raises(TableError, match=r"hourly_close_6tickers\.csv: no column 'open'.*no prices to trade on"):
        read_prices(shared / "apple_hourly" / "hourly_close_6tickers.csv", layout, bars=DAY, now=NOW)


def test_bitcoin_bars_have_no_gap(shared, tmp_path):
    lines = (shared / "crypto_hourly" / "BTCUSDT_60_full.csv").read_text().splitlines()
    path = write(tmp_path, [lines[0], *lines[-3000:]])
    bars = make_bars("bybit-linear", "1h", start="2024-12-01", end="2025-05-04", latency=MINUTE)
    layout = PriceLayout(time="timestamp", tz="UTC", **YAHOO)
    prices, counts = read_prices({"BTCUSDT": path}, layout, bars=bars, now=NOW)
    assert counts.kept == counts.read == 3000
    assert prices["open_time"].diff().iloc[1:].eq(pd.Timedelta(hours=1)).all()


def test_daily_bars_stamped_with_a_date_open_and_close_with_the_session(shared):
    bars = make_bars("XNYS", "1d", start="2014-01-01", end="2016-01-01", latency=5 * MINUTE)
    layout = PriceLayout(time="Date", symbol="symbol", **{**YAHOO, "stamp": "date"})
    prices, counts = read_prices(shared / "stocknet" / "yahoo_daily.parquet", layout, bars=bars, now=NOW)
    assert set(counts.dropped) == {"outside the period of the bars", "price missing or not a number"}
    assert counts.dropped["price missing or not a number"] == 3
    assert len(prices[prices["symbol"] == "AAPL"]) == len(bars) == 504


def test_apple_news_names_its_publishers_by_address(shared):
    layout = NewsLayout(time="news_time", text="description", symbol="ticker", source="source", source_is_url=True)
    articles, links, counts = read_news(shared / "apple_hourly" / "massive_news_basic.csv", layout, now=NOW)
    assert (counts.read, counts.kept, dict(counts.dropped)) == (8701, 8599, {"no text": 102})
    assert len(links) == 8599
    assert articles["source"].value_counts().index[:3].tolist() == ["fool.com", "zacks.com", "benzinga.com"]


def test_crypto_news_is_mapped_from_subjects(shared):
    layout = NewsLayout(
        time="date",
        title="title",
        text="text",
        symbol="subject",
        symbol_map={"bitcoin": "BTCUSDT", "ethereum": "ETHUSDT"},
        source="source",
        url="url",
        tz="UTC",
        time_format="%d-%m-%Y %H:%M",
        precision="minute",
        separator=";",
    )
    articles, links, counts = read_news(shared / "crypto_hourly" / "cryptonews.csv", layout, now=NOW)
    assert (counts.read, counts.kept) == (7524, 3690)
    assert dict(counts.dropped) == {"symbol not mapped": 3833, "repeated row": 1}
    assert links["symbol"].value_counts().to_dict() == {"BTCUSDT": 3034, "ETHUSDT": 656}
    assert articles["published"].max() == pd.Timestamp("2022-07-05T04:24Z")
