"""Whom a text is about, and where a feed is silent."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finsignal.clock import make_bars
from finsignal.errors import ConfigError, TableError
from finsignal.sources.files import (
    NewsLayout,
    count_relevance,
    join_news,
    longest_silences,
    make_links,
    read_news,
    score_relevance,
)
from finsignal.tables import ARTICLES, INSTANT, LINKS, NEWS

START = pd.Timestamp("2024-03-01T00:00Z")
MARCH = make_bars("24x7", "1d", start="2024-03-01", end="2024-03-31", latency=pd.Timedelta(minutes=5))


def make_articles(texts: list[tuple[str, str]], hours: list[float] | None = None) -> pd.DataFrame:
    known = [START + pd.Timedelta(hours=h) for h in (range(len(texts)) if hours is None else hours)]
    times = pd.Series(known, dtype=INSTANT)
    blank = pd.Series([pd.NaT] * len(texts), dtype=INSTANT)
    frame = pd.DataFrame({"article_id": [f"a{i:03d}" for i in range(len(texts))], "published": times, "time": times})
    frame = frame.assign(first_seen=blank, recorded=blank, title=[t for t, _ in texts], text=[t for _, t in texts])
    return ARTICLES.to_table(frame.assign(source="desk", url="", story=frame["article_id"]))


def link_all(articles: pd.DataFrame, symbol: str) -> pd.DataFrame:
    return LINKS.to_table(pd.DataFrame({"article_id": articles["article_id"], "symbol": symbol, "relevance": 1.0}))


def judge(title: str, text: str, symbol: str, names: list[str]) -> float:
    articles = make_articles([(title, text)])
    return score_relevance(articles, link_all(articles, symbol), {symbol: names})["relevance"].iloc[0]


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        ("Apple beats estimates", "", 1.0),
        ("APPLE'S new phone", "", 1.0),
        ("Five stocks to watch", "Among them apple, as ever.", 0.5),
        ("Five stocks to watch", "Pineapple growers and Applebee's.", 0.0),
        ("", "A text of its own that names Apple.", 1.0),
        ("", "A text of its own.", 0.0),
        ("Why $AAPL fell", "", 1.0),
        ("why $ aapl fell", "", 1.0),
        ("It was $AAPL.", "", 1.0),
        ("$AAPLX is another", "", 0.0),
        ("AAPL (NASDAQ) rises", "", 1.0),
        ("an aapl in lower case", "", 0.0),
    ],
)
def test_a_company_is_named_by_whole_words_or_its_cashtag(title, text, expected):
    assert judge(title, text, "AAPL", ["Apple", "AAPL"]) == expected


def test_a_name_in_capitals_must_stand_in_capitals():
    assert judge("Cast a wide net", "", "NET", ["NET", "Cloudflare"]) == 0.0
    assert judge("NET rises", "", "NET", ["NET", "Cloudflare"]) == 1.0
    assert judge("CLOUDFLARE rises", "", "NET", ["NET", "Cloudflare"]) == 1.0


def test_names_may_hold_any_character_and_accents():
    assert judge("Yahoo! soars", "", "YHOO", ["Yahoo!"]) == 1.0
    assert judge("NESTLÉ cuts", "", "NESN", ["Nestlé"]) == 1.0
    assert judge("$AAPL.MX is listed elsewhere", "", "AAPL", ["Apple"]) == 0.0
    assert judge("AT and T", "", "T", ["AT.T"]) == 0.0


def test_a_symbol_without_names_is_not_judged_and_links_are_judged_each_for_its_own_symbol():
    articles = make_articles([("Apple and Microsoft", ""), ("Weather", "")])
    links = LINKS.to_table(pd.concat([link_all(articles, s) for s in ("AAPL", "JPM", "MSFT")]))
    scored = score_relevance(articles, links, {"AAPL": ["Apple"], "MSFT": ["Microsoft"]})
    assert scored.groupby("symbol")["relevance"].apply(list).to_dict() == {
        "AAPL": [1.0, 0.0],
        "JPM": [1.0, 1.0],
        "MSFT": [1.0, 0.0],
    }
    alone = score_relevance(articles, link_all(articles, "AAPL"), {"AAPL": ["Apple"]})
    pd.testing.assert_frame_equal(alone, scored[scored["symbol"] == "AAPL"].reset_index(drop=True))


def test_kept_and_dropped_are_counted_by_symbol():
    articles = make_articles([("Apple", ""), ("Other", "apple"), ("Other", "")])
    scored = score_relevance(articles, link_all(articles, "AAPL"), {"AAPL": ["Apple"]})
    assert count_relevance(scored, min_relevance=0.5).to_dict("records") == [
        {"symbol": "AAPL", "read": 3, "kept": 2, "dropped": 1}
    ]
    assert count_relevance(scored, min_relevance=1.0)["dropped"].tolist() == [2]


def test_a_feed_without_symbols_is_linked_by_names():
    articles = make_articles([("Apple sues Microsoft", ""), ("Weather", ""), ("Phones", "by Apple")])
    links = make_links(articles, {"AAPL": ["Apple"], "MSFT": ["Microsoft"], "JPM": ["JPMorgan"]})
    assert links.to_dict("list") == {
        "article_id": ["a000", "a000", "a002"],
        "symbol": ["AAPL", "MSFT", "AAPL"],
        "relevance": [1.0, 1.0, 0.5],
    }
    assert make_links(articles, {}).empty


def test_news_is_articles_joined_with_links_and_a_link_to_nothing_is_refused():
    articles = make_articles([("Apple", ""), ("Nobody", "")])
    links = link_all(articles, "AAPL").iloc[:1]
    news = join_news(articles, links)
    NEWS.check(news)
    assert news["title"].tolist() == ["Apple"]
    foreign = links.assign(article_id=pd.Series(["elsewhere"], dtype="str"))
    with pytest.raises(TableError, match="1 rows point at articles that are not there, first 'elsewhere'"):
        join_news(articles, foreign)


def test_names_must_be_lists():
    articles = make_articles([("Apple", "")])
    for wrong in ("Apple", [""], [3]):
        with pytest.raises(ConfigError, match=r"names\.AAPL: expected a list of names"):
            score_relevance(articles, link_all(articles, "AAPL"), {"AAPL": wrong})


def test_silences_count_the_edges_of_the_period_and_symbols_without_any_text():
    articles = make_articles([("x", "")] * 4, hours=[24, 30, 240, 264])
    news = join_news(articles, link_all(articles, "AAPL"))
    silences = longest_silences(news, MARCH, symbols=["AAPL", "MSFT"], top=2)
    # 30 days: 1 to the first text, 0.25, 8.75, 1, and 19 after the last
    assert silences["symbol"].tolist() == ["AAPL", "AAPL", "MSFT"]
    assert silences["days"].tolist() == [19.0, 8.75, 30.0]
    assert silences["start"].iloc[0] == START + pd.Timedelta(hours=264)
    assert silences["end"].iloc[0] == pd.Timestamp("2024-03-31T00:00Z")
    assert longest_silences(NEWS.empty(), MARCH).empty


@settings(max_examples=15, deadline=None)
@given(hours=st.lists(st.integers(-100, 900), max_size=12))
def test_all_silences_together_are_the_period(hours):
    articles = make_articles([("x", "")] * len(hours), hours=sorted(hours))
    news = join_news(articles, link_all(articles, "AAPL"))
    silences = longest_silences(news, MARCH, symbols=["AAPL"], top=100)
    assert silences["days"].sum() == pytest.approx(30)
    assert silences["days"].is_monotonic_decreasing


def test_about_a_third_of_the_apple_items_name_apple(shared):
    now = pd.Timestamp("2026-11-20T00:00Z")
    layout = NewsLayout(
        time="news_time", title="title", text="description", symbol="ticker", source_fixed="massive", latency="5min"
    )
    articles, links, _ = read_news(shared / "apple_hourly" / "massive_news_with_sentiment.csv", layout, now=now)
    names = {"AAPL": ["Apple", "AAPL"], "PLTR": ["Palantir", "PLTR"], "JPM": ["JPMorgan", "JP Morgan", "JPM"]}
    counts = count_relevance(score_relevance(articles, links, names), min_relevance=1.0).set_index("symbol")
    share = counts["kept"] / counts["read"]
    # the share of titles that name the company, as the folder's README counted it
    assert share[["AAPL", "PLTR", "JPM"]].tolist() == pytest.approx([0.26, 0.55, 0.16], abs=0.03)


def test_the_hole_in_the_crypto_feed_is_the_longest_silence_of_both_symbols(shared):
    layout = NewsLayout(
        time="date",
        title="title",
        symbol="subject",
        symbol_map={"bitcoin": "BTCUSDT", "ethereum": "ETHUSDT"},
        tz="UTC",
        time_format="%d-%m-%Y %H:%M",
        precision="minute",
        separator=";",
    )
    now = pd.Timestamp("2026-11-20T00:00Z")
    articles, links, _ = read_news(shared / "crypto_hourly" / "cryptonews.csv", layout, now=now)
    bars = make_bars("24x7", "1h", start="2021-11-06", end="2022-07-06", latency=pd.Timedelta(minutes=1))
    silences = longest_silences(join_news(articles, links), bars, top=1)
    assert silences["start"].dt.strftime("%Y-%m-%d").tolist() == ["2021-11-30", "2021-11-30"]
    assert (silences["days"] > 7).all()
