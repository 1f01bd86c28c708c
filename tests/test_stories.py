"""Each story counts once for each symbol, from the bar at which it could be traded."""

import numpy as np
import pandas as pd
import pytest

from finsignal.clock import make_bars
from finsignal.errors import ConfigError
from finsignal.evidence.stories import count_effective, make_events, number_stories, to_opens
from finsignal.signals import NewsRules
from finsignal.tables import NEWS, PRICES, SENTIMENT

BARS = make_bars("24x7", "1h", start="2026-03-02", end="2026-03-04", latency=pd.Timedelta("1min"))
RULES = NewsRules(half_life=3, max_age=4, min_relevance=0.5)
P = {"good": (0.1, 0.2, 0.7), "bad": (0.6, 0.3, 0.1), "even": (0.4, 0.2, 0.4)}


def make_texts(rows):
    """NEWS and SENTIMENT of (symbol, hour known after the grid's start, story, what it says, relevance)."""
    frame = pd.DataFrame(rows, columns=["symbol", "hour", "story", "said", "relevance"])
    frame["time"] = BARS["open_time"].iloc[0] + pd.to_timedelta(frame["hour"] * 3600, unit="s")
    missing = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[us, UTC]")
    frame["article_id"] = [f"text-{n:03d}" for n in range(len(frame))]
    news = frame.assign(published=frame["time"], first_seen=missing, recorded=missing, title="t", text="", source="w")
    p = np.array([P[said] for said in frame["said"]])
    scores = frame.assign(p_negative=p[:, 0], p_neutral=p[:, 1], p_positive=p[:, 2], model="m")
    return NEWS.to_table(news.assign(url="u")[list(NEWS.columns)]), SENTIMENT.to_table(scores[list(SENTIMENT.columns)])


def make_prices(symbols=("AAA", "BBB"), without=()):
    """Rows of every bar but those in `without`, as (symbol, position)."""
    rows = [
        {"symbol": s, "open_time": b.open_time, "time": b.close_time, "open": 100.0 + n, "close": 100.5 + n}
        for s in symbols
        for n, b in enumerate(BARS.itertuples())
        if (s, n) not in without
    ]
    frame = pd.DataFrame(rows)
    return PRICES.to_table(frame.assign(high=frame["close"], low=frame["open"], volume=1.0))


def events_of(rows, **options):
    news, sentiment = make_texts(rows)
    return make_events(news, sentiment, make_prices(**options), BARS, ("BBB", "AAA"), rules=RULES)


def test_a_story_is_one_row_for_each_symbol_however_often_it_is_repeated():
    events = events_of(
        [
            ("AAA", 1.5, "fire", "bad", 1.0),
            ("AAA", 2.5, "fire", "good", 1.0),  # a repeat
            ("AAA", 20.5, "fire", "good", 1.0),  # told again when the features count it anew: still the same story
            ("BBB", 1.5, "fire", "good", 1.0),
            ("AAA", 3.5, "", "good", 1.0),  # without a story each text is its own
            ("AAA", 4.5, "", "even", 1.0),
            ("AAA", 5.5, "far", "good", 0.4),  # not relevant enough
        ]
    )
    assert events["symbol"].tolist() == ["AAA", "AAA", "AAA", "BBB"]
    assert events["article_id"].tolist() == ["text-000", "text-004", "text-005", "text-003"]
    assert events["first"].tolist() == [2, 4, 5, 2]
    assert events["label"].tolist() == [-1, 1, 0, 1]
    np.testing.assert_allclose(events["score"], [-0.5, 0.6, 0.0, 0.6], atol=1e-12)
    np.testing.assert_allclose(events["confidence"], [0.6, 0.7, 0.4, 0.7])


def test_a_story_enters_at_the_first_bar_that_the_symbol_opens():
    halted = {("AAA", n) for n in (22, 23, 24, 25)} | {("BBB", n) for n in range(40, 48)}
    rows = [("AAA", 21.5, "a", "good", 1.0), ("BBB", 39.5, "b", "good", 1.0)]
    events = events_of(rows, without=halted)
    assert events[["symbol", "first", "entry", "session"]].values.tolist() == [["AAA", 22, 26, "2026-03-03"]]
    assert str(events["known"].iloc[0]) == "2026-03-02 21:30:00+00:00"


def test_without_texts_there_are_no_events():
    news, sentiment = make_texts([("CCC", 1.5, "a", "good", 1.0)])
    events = make_events(news, sentiment, make_prices(), BARS, ("AAA",), rules=RULES)
    assert events.empty
    assert str(events["known"].dtype) == "datetime64[us, UTC]"
    figure = count_effective(events, holding=5)
    assert figure.value is None
    assert figure.needs == "a story"


def test_opens_are_laid_on_the_grid():
    opens = to_opens(make_prices(without={("BBB", 1)}), BARS, ("BBB", "AAA"))
    assert opens.shape == (2, 48)
    assert opens[0, :3].tolist() == [100.0, 101.0, 102.0]
    assert np.isnan(opens[1, 1])
    assert opens[1, 2] == 102.0


def make_rows(rows):
    return pd.DataFrame(rows, columns=["symbol", "entry", "score"])


def test_effective_stories_are_fewer_where_windows_overlap():
    alone = make_rows([("AAA", 0, 0.5), ("AAA", 10, 0.5), ("BBB", 0, 0.5), ("BBB", 20, -0.5)])
    assert count_effective(alone, holding=5).value == pytest.approx(4)
    same_bar = make_rows([("AAA", 3, 0.5)] * 4)
    assert count_effective(same_bar, holding=5).value == pytest.approx(1)
    # Two windows of four bars share two: 2 / (1 + 2 * 1/2 * s * s / (2 * s * s)) = 4/3.
    half = make_rows([("AAA", 3, 0.5), ("AAA", 5, 0.5)])
    assert count_effective(half, holding=4).value == pytest.approx(4 / 3)
    against = make_rows([("AAA", 3, 0.5), ("AAA", 5, -0.5)])
    assert count_effective(against, holding=4).value == pytest.approx(2)


def test_effective_stories_are_those_of_the_formula_summed_pair_by_pair():
    rng = np.random.default_rng(3)
    events = make_rows(zip(rng.choice(["A", "B"], 60), rng.integers(0, 80, 60), rng.normal(0.3, 0.5, 60), strict=True))
    s, entry, symbol = (events[name].to_numpy() for name in ("score", "entry", "symbol"))
    share = np.maximum(0, 1 - np.abs(entry[:, None] - entry[None, :]) / 7) * (symbol[:, None] == symbol[None, :])
    expected = 60 * (s @ s) / (s @ share @ s)
    assert expected < 60
    assert count_effective(events, holding=7).value == pytest.approx(expected)


def test_effective_stories_need_a_score_and_a_holding():
    assert count_effective(make_rows([("A", 3, 0.0)]), holding=3).needs == "a story whose score is not 0"
    with pytest.raises(ConfigError, match="holding counts bars"):
        count_effective(make_rows([("A", 3, 0.5)]), holding=0)


def test_a_story_has_one_number_however_often_and_of_whom_it_was_told():
    texts = pd.DataFrame({"article_id": ["a", "b", "c", "s"], "story": ["s", "", "s", ""]})
    assert number_stories(texts).tolist() == [0, 1, 0, 2]  # the last is named as a story is
    assert number_stories(texts.assign(article_id=["a", "b", "c", "b"])).tolist() == [0, 1, 0, 1]  # one text of two
    assert number_stories(texts.iloc[:0]).tolist() == []
