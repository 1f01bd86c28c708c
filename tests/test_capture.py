"""What is new in a feed, since when it was known, whom it is about, and what of it is no news."""

import subprocess
import sys
import time
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finsignal.errors import ConfigError, TableError
from finsignal.sources.capture import to_articles, to_items, to_news
from finsignal.sources.plain_text import to_plain_text
from finsignal.sources.relevance import join_news, make_links, score_relevance
from finsignal.sources.rows import Counts
from finsignal.tables import ARTICLES, LINKS, NEWS

NOW = pd.Timestamp("2026-11-20T12:00Z")
POLLED = pd.Timestamp("2026-11-20T11:00Z")
MINUTE = pd.Timedelta(minutes=1)
NAMES = {"AAPL": ["Apple"], "MSFT": ["Microsoft"]}
BEFORE, BETWEEN = "2026-11-20T10:30:00Z", "2026-11-20T11:30:00Z"  # the last poll, and then now


def item(identifier: str = "1", published: str | None = BETWEEN, title: str = "Apple beats", **more: Any) -> dict:
    return {
        "id": identifier,
        "published": None if published is None else pd.Timestamp(published),
        "title": title,
    } | more


def capture(
    *rows: dict,
    polled: pd.Timestamp | None = POLLED,
    known: pd.DataFrame | None = None,
    now: pd.Timestamp = NOW,
    names: dict = NAMES,
    latency: pd.Timedelta = MINUTE,
) -> tuple[pd.DataFrame, pd.DataFrame, Counts]:
    stored = ARTICLES.empty() if known is None else known
    items = to_items(rows, feed="wire")
    return to_articles(items, now=now, polled=polled, known=stored, latency=latency, names=names)


def one(*rows: dict, **options: Any) -> pd.Series:
    articles, _, _ = capture(*rows, **options)
    assert len(articles) == 1
    return articles.iloc[0]


def test_the_first_poll_is_a_backfill_seen_by_nobody_and_known_when_its_stamp_says():
    row = one(item(published="2026-03-01T09:30:00Z"), polled=None)
    assert row["first_seen"] is pd.NaT
    assert row["time"] == pd.Timestamp("2026-03-01T09:31Z")
    assert (row["published"], row["recorded"]) == (pd.Timestamp("2026-03-01T09:30Z"), NOW)


def test_a_stamp_after_the_last_poll_is_believed():
    row = one(item(published=BETWEEN))
    assert (row["first_seen"], row["recorded"]) == (NOW, NOW)
    assert row["time"] == pd.Timestamp(BETWEEN) + MINUTE


@pytest.mark.parametrize("published", [BEFORE, "2026-11-20T11:00:00Z", "2026-03-01T09:30:00Z"])
def test_a_late_item_was_not_known_at_the_poll_that_did_not_bring_it(published):
    row = one(item(published=published))
    assert (row["first_seen"], row["time"]) == (NOW, NOW + MINUTE)
    assert row["published"] == pd.Timestamp(published)  # as the source says


def test_an_item_that_the_earlier_poll_brought_stays_as_it_was():
    first, _, _ = capture(item(published=BEFORE), now=POLLED, polled=None)
    articles, _, counts = capture(item(published=BEFORE), known=first)
    assert articles.empty
    assert counts.dropped == {"known already": 1}
    assert counts.faults == 0


def test_two_polls_with_a_late_item_a_new_one_and_a_known_one():
    first, _, _ = capture(item("1", BEFORE), now=POLLED, polled=None)
    second, _, _ = capture(item("1", BEFORE), item("2", BEFORE, "Late"), item("3", BETWEEN, "New"), known=first)
    assert dict(zip(second["article_id"], second["time"], strict=True)) == {
        "wire:2": NOW + MINUTE,
        "wire:3": pd.Timestamp(BETWEEN) + MINUTE,
    }


def test_an_edit_is_a_row_of_its_own_of_the_same_story_known_from_now():
    first, _, _ = capture(item(published=BEFORE), now=POLLED, polled=None)
    edit = one(item(published=BEFORE, title="Apple misses"), known=first)
    identifier, _, digest = edit["article_id"].partition("#")
    assert identifier == "wire:1"
    assert len(digest) == 16
    assert edit["story"] == first["story"].iloc[0]
    assert (edit["first_seen"], edit["time"]) == (NOW, NOW + MINUTE)
    assert one(item(published=BEFORE, text="Now with a summary."), known=first)["time"] == NOW + MINUTE
    # an edit with a later stamp is no exception, and neither is one found by a poll that is called the first
    assert one(item(published=BETWEEN, title="Apple misses"), known=first)["time"] == NOW + MINUTE
    assert one(item(published=BEFORE, title="Apple misses"), known=first, polled=None)["time"] == NOW + MINUTE


def test_an_edit_has_links_of_its_own():
    first, _, _ = capture(item(symbols=("AAPL",)), polled=None, names={})
    articles, links, _ = capture(item(title="Other words", symbols=("TSLA",)), known=first, names={})
    assert links.to_dict("list") == {
        "article_id": articles["article_id"].tolist(),
        "symbol": ["TSLA"],
        "relevance": [1.0],
    }


def test_an_identifier_that_ends_like_that_of_an_edit_is_its_own():
    rows = [item("x#0123456789abcdef"), item("x", title="Other")]
    stored, _, _ = capture(*rows, polled=None)
    assert sorted(stored["article_id"]) == ["wire:x", "wire:x#0123456789abcdef"]
    assert capture(*rows, known=stored)[2].dropped == {"known already": 2}


def test_an_edit_taken_back_or_found_again_is_nothing_new():
    first, _, _ = capture(item(), polled=None)
    second, _, _ = capture(item(title="Apple misses"), known=first)
    both = ARTICLES.to_table(pd.concat([first, second]))
    assert capture(item(), known=both)[0].empty
    assert capture(item(title="Apple misses"), known=both)[0].empty
    third = one(item(title="Apple splits"), known=both)
    assert third["story"] == first["story"].iloc[0]
    assert third["article_id"] not in set(both["article_id"])


def test_of_two_versions_in_one_batch_the_older_is_the_item_and_the_other_its_edit():
    articles, _, _ = capture(
        item(published=BETWEEN, title="Second"), item(published=BEFORE, title="First"), polled=None
    )
    assert articles.sort_values("time")["title"].tolist() == ["First", "Second"]
    assert articles["article_id"].str.len().min() == len("wire:1")
    assert articles["story"].nunique() == 1
    assert articles["time"].max() == NOW + MINUTE


def test_identifiers_with_a_number_sign_and_edits_of_them_are_known_again():
    rows = [item("http://n.test/a#1"), item("http://n.test/a#2", title="Other"), item("x", title="Third")]
    stored, _, _ = capture(*rows, polled=None)
    edit, _, _ = capture(item("http://n.test/a#1", title="Edited"), known=stored)
    assert len(edit) == 1
    both = ARTICLES.to_table(pd.concat([stored, edit]))
    assert capture(*rows, known=both)[2].dropped == {"known already": 3}


def test_repeats_in_a_batch_are_one_with_the_symbols_of_all():
    articles, links, counts = capture(item(symbols=("AAPL",)), item(symbols=("TSLA",)), item("2", title="Other"))
    assert len(articles) == 2
    assert links[links["article_id"] == "wire:1"]["symbol"].tolist() == ["AAPL", "TSLA"]
    assert counts.dropped == {"repeated in the batch": 1}
    assert (counts.read, counts.kept, counts.faults) == (3, 2, 0)


def test_a_known_item_under_another_symbol_gives_the_link_alone():
    first, _, _ = capture(item(symbols=("AAPL",)), polled=None)
    articles, links, _ = capture(item(symbols=("TSLA",)), known=first)
    assert articles.empty
    assert links.to_dict("list") == {"article_id": ["wire:1"], "symbol": ["TSLA"], "relevance": [1.0]}


def test_the_same_headline_of_two_sources_is_one_story_under_two_identifiers():
    items = [
        to_items([item(title=title)], feed=feed) for feed, title in (("wire", "Apple beats"), ("desk", "APPLE  Beats"))
    ]
    rows = [
        to_articles(i, now=NOW, polled=None, known=ARTICLES.empty(), latency=MINUTE, names={})[0].iloc[0] for i in items
    ]
    assert [row["article_id"] for row in rows] == ["wire:1", "desk:1"]
    assert rows[0]["story"] == rows[1]["story"]


def test_an_item_without_stamp_is_published_now_where_it_was_seen_to_come():
    row = one(item(published=None))
    assert (row["published"], row["first_seen"], row["time"]) == (NOW, NOW, NOW + MINUTE)
    articles, _, counts = capture(item(published=None), polled=None)
    assert articles.empty
    assert counts.dropped == {"no time": 1}
    assert counts.faults == 1


@pytest.mark.parametrize(
    ("published", "reason"),
    [
        ("1970-01-01T00:00:00Z", "stamp before 1990"),
        ("0001-01-01T00:00:00Z", "stamp before 1990"),
        ("2026-11-20T12:00:01Z", "stamp in the future"),
        ("2999-01-01T00:00:00Z", "stamp in the future"),
    ],
)
def test_a_stamp_that_cannot_be_is_dropped_and_counted(published, reason):
    articles, links, counts = capture(item(published=published), item("2"))
    assert articles["article_id"].tolist() == ["wire:2"]
    assert set(links["article_id"]) == {"wire:2"}
    assert counts.dropped == {reason: 1}
    assert counts.first[reason] == ("wire row 1",)
    assert counts.faults == 1


def test_a_stamp_of_now_is_no_future():
    assert one(item(published="2026-11-20T12:00:00Z"))["time"] == NOW + MINUTE


def test_a_date_counts_from_its_end_or_from_now_where_the_day_is_not_over():
    yesterday = item(published="2026-11-19T00:00:00Z", until=pd.Timestamp("2026-11-20T00:00Z"))
    today = item(published="2026-11-20T00:00:00Z", until=pd.Timestamp("2026-11-21T00:00Z"))
    assert one(yesterday, polled=None)["time"] == pd.Timestamp("2026-11-20T00:01Z")
    assert one(today, polled=None)["time"] == NOW + MINUTE
    # it may have come after the poll of yesterday evening, but not after that of this morning
    assert one(yesterday, polled=pd.Timestamp("2026-11-19T20:00Z"))["time"] == pd.Timestamp("2026-11-20T00:01Z")
    assert one(yesterday)["time"] == NOW + MINUTE


def test_many_stamps_at_midnight_are_dates_and_refused():
    rows = [item(str(day), f"2026-10-{day:02d}T00:00:00Z") for day in range(1, 23)]
    with pytest.raises(TableError, match=r'wire: 100.0% of 22 stamps are exact midnights .* set precision to "date"'):
        capture(*rows)
    assert len(capture(*rows[:19])[0]) == 19
    told = [{**row, "until": row["published"] + pd.Timedelta(days=1)} for row in rows]
    assert len(capture(*told)[0]) == 22


def test_midnights_of_one_feed_are_noticed_among_the_many_stamps_of_another():
    dates = [item(str(day), f"2026-10-{day:02d}T00:00:00Z") for day in range(1, 23)]
    times = [item(str(n), f"2026-10-{1 + n % 28:02d}T09:{n // 28:02d}:07Z") for n in range(600)]
    both = pd.concat([to_items(times, feed="desk"), to_items(dates, feed="wire")], ignore_index=True)
    with pytest.raises(TableError, match=r"wire: 100.0% of 22 stamps are exact midnights"):
        to_articles(both, now=NOW, polled=None, known=ARTICLES.empty(), latency=MINUTE, names={})


def test_no_words_and_too_many_are_dropped_and_counted():
    articles, _, counts = capture(
        item("1", title=" <p> </p> "), item("2", text="x" * 1_000_000), item("3", title="", text="Apple")
    )
    assert articles["article_id"].tolist() == ["wire:3"]
    assert counts.dropped == {"more than 1000000 characters": 1, "no text": 1}


def test_a_clock_that_went_back_and_a_negative_latency_are_refused():
    with pytest.raises(ConfigError, match="The clock went back"):
        capture(item(), now=POLLED - MINUTE)
    with pytest.raises(ConfigError, match=r"latency: .* is negative"):
        capture(item(), latency=-MINUTE)
    with pytest.raises(ConfigError, match="no time zone"):
        capture(item(), now=pd.Timestamp("2026-11-20T12:00"))


def test_nothing_gives_empty_tables():
    articles, links, counts = capture()
    ARTICLES.check(articles)
    LINKS.check(links)
    assert (len(articles), len(links), counts.read) == (0, 0, 0)


def test_items_get_the_feeds_name_and_an_identifier_in_every_case():
    rows = [item("1"), {"url": "http://n.test/a", "title": "A"}, {"title": "B"}, item("x" * 501), item("a\nb")]
    items = to_items(rows, feed="wire")
    assert items["id"].tolist()[:2] == ["wire:1", "wire:http://n.test/a"]
    assert items["id"].is_unique
    assert items["id"].str.fullmatch(r"wire:[0-9a-f]{16}").tolist() == [False, False, True, True, True]
    assert items["source"].unique().tolist() == ["wire"]
    for wrong in ("", "a:b"):
        with pytest.raises(ConfigError, match="is no name"):
            to_items(rows, feed=wrong)


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("AT&amp;T <b>be</b>ats", "AT&T beats"),
        ("<p>One</p><p>Two<br/>Three</p>", "One Two Three"),
        ("a<script>steal('</b>')</script>b", "a b"),
        ("a<SCRIPT src=x\n>steal()</ScRiPt >b", "a b"),
        ("a<script>never closed", "a"),
        ("a<style>p {}</style>b", "a b"),
        ("a<!-- <b> -->b<!-- open", "a b".replace(" ", "")),
        ("&lt;script&gt;steal()&lt;/script&gt;Apple", "Apple"),
        ("AT&amp;amp;T", "AT&T"),
        ("R&D, S&P 500 &notable", "R&D, S&P 500 &notable"),
        ("3 < 5 and 7 > 6", "3 < 5 and 7 > 6"),
        ("profit <b up", "profit <b up"),
        ("caf&eacute;&nbsp;&#8364;5&#x20ac;", "café €5€"),
        ("&#99999999999;", "&#99999999999;"),
        ("one\x00two\x1b[31mred\x9f\u202eevil", "one two [31mred evil"),
        ("tab\tand\nline", "tab and line"),
        ("half \ud83d of a pair", "half of a pair"),
        ("<![CDATA[ x", "<![CDATA[ x"),
    ],
)
def test_titles_become_plain_text(markup, expected):
    assert to_plain_text(markup) == expected


@pytest.mark.parametrize(
    "unit", ["<a ", "<", "<!--", "<![", "</a ", '<a b="', "&", "&#9", "<script>", "<b>", "<!-- -", "&lt;"]
)
def test_text_made_to_hurt_takes_no_time(unit):
    long = (unit * 1_000_000)[:1_000_000]
    start = time.perf_counter()
    to_plain_text(long)
    assert time.perf_counter() - start < 5  # seconds; what is quadratic takes hours


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.sampled_from([*"<>!-/&;# \"'ab\x00é", "script", "&lt;", "&amp;", "<!--"]), max_size=40))
def test_plain_text_is_one_line_without_control_characters_and_plain_text_stays(parts):
    markup = "".join(parts)
    plain = to_plain_text(markup)
    assert plain == " ".join(plain.split())
    assert "\x00" not in plain
    if "<" not in markup and "&" not in markup:
        assert plain == " ".join(markup.replace("\x00", " ").split())


def test_links_are_what_the_source_names_and_what_the_words_name():
    _, links, _ = capture(
        item("1", title="Apple sues", symbols=("TSLA",)),
        item("2", title="Five stocks", text="Among them Microsoft and $AAPL."),
        item("3", title="Markets fall", symbols=("*",)),
        item("4", title="Chipmaker (NASDAQ: AAPL) rises"),
        item("5", title="Weather"),
    )
    assert list(links.itertuples(index=False, name=None)) == [
        ("wire:1", "AAPL", 1.0),
        ("wire:1", "TSLA", 1.0),
        ("wire:2", "AAPL", 0.5),
        ("wire:2", "MSFT", 0.5),
        ("wire:3", "*", 1.0),
        ("wire:4", "AAPL", 1.0),
    ]


@pytest.mark.parametrize(
    ("title", "symbols"),
    [
        ("A good day for ALL, and IT goes ON", []),
        ("(A) good day for all (it goes on)", []),
        ("Information technology (IT) spending", []),
        ("$A and $all rise", ["A", "ALL"]),
        ("Agilent (NYSE: A), Gartner (NYSE:IT)", ["A", "IT"]),
        ("Insurer (ALL) cuts", ["ALL"]),
        ("Chips (Nasdaq: ON; NYSE: ALL, A)", ["A", "ALL", "ON"]),
        ("Buffett (NYSE: BRK.B) and $BRK.B", ["BRK-B"]),
        ("$BRK-B", ["BRK-B"]),
        ("$BRK.B", ["BRK-B"]),
        ("(ALLY) and $ALLY", []),
        ("(NYSE: ALL unclosed", []),
    ],
)
def test_a_ticker_that_is_a_word_counts_as_cashtag_or_in_parentheses_alone(title, symbols):
    articles, _, _ = capture(item(title=title))
    links = make_links(articles, {symbol: [] for symbol in ("A", "ALL", "BRK-B", "IT", "ON")})
    assert links["symbol"].tolist() == symbols


WORDS = [
    "Apple",
    "apple",
    "Applebee's",
    "MICROSOFT",
    "Microſoft",
    "NET",
    "net",
    "$net",
    "$ AAPL",
    "(NYSE: NET)",
    "(AAPL)",
]
WORDS += [
    "Türkiye",
    "TÜRKİYE",
    "türkıye",
    "Yahoo!",
    "yahoo",
    "!!!",
    "Kelvin",
    "\u212aelvin",
    "Groß",
    "GROSS",
    "and",
    ".",
]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(titles=st.lists(st.lists(st.sampled_from(WORDS), max_size=4), min_size=1, max_size=5))
def test_the_quick_search_finds_what_each_symbol_alone_finds(titles):
    names = {"AAPL": ["Apple"], "MSFT": ["Microsoft"], "NET": ["NET"], "TUR": ["Türkiye"], "YHOO": ["Yahoo!", "!!!"]}
    names |= {"KEL": ["Kelvin"], "GRO": ["Groß"], "LONG": ["Microſoft"], "X": []}
    rows = [item(str(i), title=" ".join(words) or "-") for i, words in enumerate(titles)]
    articles, _, _ = capture(*rows)
    pairs = [(article, symbol, 1.0) for article in articles["article_id"] for symbol in names]
    judged = score_relevance(articles, LINKS.to_table(pd.DataFrame(pairs, columns=list(LINKS.columns))), names)
    expected = judged[judged["relevance"] > 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(make_links(articles, names), expected)


def stored_news() -> tuple[pd.DataFrame, pd.DataFrame]:
    articles, links, _ = capture(
        item("1", title="Apple sues Microsoft", symbols=("AAPL",)),
        item("2", title="Markets fall", symbols=("*",)),
        item("3", title="Rates", text="Apple is hit", symbols=("*", "MSFT", "SPY")),
        item("4", title="Weather", symbols=("TSLA",)),
        names={},
    )
    return articles, links


@pytest.mark.parametrize(
    ("market_news", "expected", "dropped"),
    [
        ("", [], {"market-wide, left out": 1, "about no symbol of the run": 1}),
        ("SPY", [("SPY", "2", 1.0)], {"about no symbol of the run": 1}),
        (
            "every",
            [("AAPL", "2", 1.0), ("AAPL", "3", 1.0), ("MSFT", "2", 1.0), ("MSFT", "3", 1.0), ("SPY", "2", 1.0)],
            {"about no symbol of the run": 1},
        ),
    ],
)
def test_market_wide_news_goes_where_the_run_says(market_news, expected, dropped):
    articles, links = stored_news()
    news, counts = to_news(articles, links, symbols=["AAPL", "MSFT", "SPY"], names=NAMES, market_news=market_news)
    NEWS.check(news)
    found = {
        (symbol, article.removeprefix("wire:")): relevance
        for symbol, article, relevance in news[["symbol", "article_id", "relevance"]].itertuples(index=False)
    }
    # SPY has no names, so its link is not judged; item 3 names no Microsoft, so that link says nothing
    own = {("AAPL", "1"): 1.0, ("MSFT", "1"): 1.0, ("AAPL", "3"): 0.5, ("MSFT", "3"): 0.0, ("SPY", "3"): 1.0}
    assert found == own | {(symbol, article): relevance for symbol, article, relevance in expected}
    assert counts.dropped == dropped
    assert counts.faults == 0
    assert counts.kept == 4 - sum(dropped.values())


def test_market_news_must_be_a_symbol_of_the_run_and_links_must_have_articles():
    articles, links = stored_news()
    with pytest.raises(ConfigError, match="market_news: 'QQQ' is neither"):
        to_news(articles, links, symbols=["AAPL"], names={}, market_news="QQQ")
    with pytest.raises(TableError, match="rows point at articles that are not there"):
        to_news(articles.iloc[:1], links, symbols=["AAPL"], names={}, market_news="every")


def test_a_symbol_that_the_source_named_later_was_not_known_with_its_article():
    rows = [item("1", title="Apple sues", symbols=("AAPL",)), item("2", title="Chips soar", symbols=("AAPL",))]
    articles, links, _ = capture(*rows, names={})
    later = NOW + pd.Timedelta(days=1)
    more = [("wire:1", "AAPL", 1.0), ("wire:1", "MSFT", 1.0), ("wire:2", "MSFT", 1.0), ("wire:2", "*", 1.0)]
    stamped = pd.concat(
        [
            links[links["article_id"] == "wire:2"].assign(recorded=NOW + pd.Timedelta(seconds=1)),  # of one poll
            pd.DataFrame(more, columns=list(LINKS.columns)).assign(recorded=later),
        ],
        ignore_index=True,
    )
    known = pd.Timestamp(BETWEEN) + MINUTE

    def times(links: pd.DataFrame, goes_to: str = "") -> dict[tuple[str, str], pd.Timestamp]:
        news, _ = to_news(articles, links, symbols=["AAPL", "MSFT", "SPY"], names=NAMES, market_news=goes_to)
        return {(row.symbol, row.article_id[-1]): row.time for row in NEWS.check(news).itertuples()}

    # The words of item 1 name Apple: that link was there, whenever the source said so too.
    assert times(stamped) == {("AAPL", "1"): known, ("AAPL", "2"): known, ("MSFT", "1"): later, ("MSFT", "2"): later}
    assert times(stamped, "SPY")["SPY", "2"] == later
    assert set(times(stamped.drop(columns="recorded")).values()) == {known}


def test_nothing_stored_is_no_news():
    for symbols in (["AAPL"], []):
        news, counts = to_news(ARTICLES.empty(), LINKS.empty(), symbols=symbols, names={}, market_news="every")
        assert news.empty
        assert counts.read == 0


def test_news_of_the_lake_is_what_the_judged_links_join_to():
    articles, links = stored_news()
    own = links[links["symbol"].isin(["AAPL", "MSFT"])].reset_index(drop=True)
    both = pd.concat([own, make_links(articles, NAMES)]).drop_duplicates(["article_id", "symbol"])
    expected = join_news(articles, score_relevance(articles, LINKS.to_table(both), NAMES))
    news, _ = to_news(articles, links, symbols=["AAPL", "MSFT"], names=NAMES, market_news="")
    pd.testing.assert_frame_equal(news, expected)


def test_a_symbol_of_the_run_alone_gets_the_same_news():
    articles, links = stored_news()
    together, _ = to_news(articles, links, symbols=["MSFT", "AAPL"], names=NAMES, market_news="every")
    alone, _ = to_news(articles, links, symbols=["AAPL"], names=NAMES, market_news="every")
    pd.testing.assert_frame_equal(alone, together[together["symbol"] == "AAPL"].reset_index(drop=True))


def test_capture_loads_no_package_of_the_sources():
    code = "import sys, finsignal.sources.capture; print(sorted({'feedparser', 'yfinance', 'ccxt'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
