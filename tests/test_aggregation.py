"""The modes by which texts become one opinion: each worked by hand, and none sees the future or another symbol."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from feature_tables import HOUR, START, make_grid, make_texts, of, random_texts, truncated_equals

from finsignal.config import read_run
from finsignal.errors import ConfigError
from finsignal.features import (
    MODES,
    SENTIMENT_FEATURES,
    aggregate_sentiment,
    make_counted_texts,
    sentiment_lookback,
    texts_behind,
)
from finsignal.signals import NewsRules, make_features
from finsignal.study import Inputs
from finsignal.study.deciding import texts_at_end
from finsignal.tables import NEWS, PRICES, SENTIMENT

PLAIN = {"half_life": 2.0, "max_age": 4, "min_relevance": 0.0, "source_weights": {}}

# At the decision 02:59 before bar 3: one text first known to bar 1 (age 2, half a half-life of weight), two to bar 3.
#   A  positive 0.6, neutral 0.3, negative 0.1, relevance 0.8, source weight 0.5
#   B  positive 0.1, neutral 0.2, negative 0.7
#   C  positive 0.5, neutral 0.4, negative 0.1
THREE = [
    {"at": 0.5, "p": [0.1, 0.3, 0.6], "relevance": 0.8, "source": "blog"},
    {"at": 13 / 6, "p": [0.7, 0.2, 0.1]},
    {"at": 14 / 6, "p": [0.1, 0.4, 0.5]},
]
BLOG = PLAIN | {"source_weights": {"blog": 0.5}}


def at_bar_3(mode: str, rows: list[dict] = THREE) -> dict[str, float]:
    """The opinion at bar 3 as negative, neutral, positive, score and confidence."""
    out = aggregate_sentiment(*make_texts(rows), make_grid(5), ["A"], **BLOG, mode=mode).iloc[3]
    return {name.removeprefix("sent_"): out[name] for name in SENTIMENT_FEATURES[:5]}


def test_weighted_is_the_mean_by_age_relevance_source_and_confidence() -> None:
    # w: A 0.5 * 0.8 * 0.5 * 0.6 = 0.12, B 0.7, C 0.5; together 1.32.
    expected = {
        "negative": (0.12 * 0.1 + 0.7 * 0.7 + 0.5 * 0.1) / 1.32,
        "neutral": (0.12 * 0.3 + 0.7 * 0.2 + 0.5 * 0.4) / 1.32,
        "positive": (0.12 * 0.6 + 0.7 * 0.1 + 0.5 * 0.5) / 1.32,
        "score": (0.392 - 0.552) / 1.32,  # positive 0.072 + 0.07 + 0.25, negative 0.012 + 0.49 + 0.05
        "confidence": 0.552 / 1.32,
    }
    assert at_bar_3("weighted") == pytest.approx(expected, rel=1e-12)


def test_weighted_is_what_is_done_where_no_mode_is_named() -> None:
    texts = make_texts(random_texts(1, 60, 20))
    named = aggregate_sentiment(*texts, make_grid(22), ["A", "B"], **BLOG, mode="weighted")
    assert named.equals(aggregate_sentiment(*texts, make_grid(22), ["A", "B"], **BLOG))
    assert NewsRules(half_life=2.0, max_age=4).mode == "weighted"


def test_by_majority_each_text_votes_for_its_likeliest_label_with_its_weight() -> None:
    # The same weights; A and C vote positive (0.12 + 0.5), B negative (0.7), nobody neutral.
    expected = {
        "negative": 0.7 / 1.32,
        "neutral": 0.0,
        "positive": 0.62 / 1.32,
        "score": -0.08 / 1.32,
        "confidence": 0.7 / 1.32,
    }
    assert at_bar_3("majority") == pytest.approx(expected, rel=1e-12)


def test_a_text_with_two_likeliest_labels_votes_for_neither() -> None:
    found = at_bar_3("majority", [{"at": 2.5, "p": [0.4, 0.2, 0.4]}])
    assert found == {"negative": 0.0, "neutral": 1.0, "positive": 0.0, "score": 0.0, "confidence": 1.0}
    rows = [{"at": 2.5, "p": [0.4, 0.2, 0.4]}, {"at": 2.6, "p": [0.1, 0.8, 0.1]}]
    assert at_bar_3("unanimous", rows) == at_bar_3("weighted", rows)  # both are neutral


def test_unanimous_texts_speak_as_weighted_and_divided_ones_are_neutral() -> None:
    assert at_bar_3("unanimous") == {"negative": 0, "neutral": 1, "positive": 0, "score": 0, "confidence": 1}
    both_positive = [THREE[0], THREE[2]]
    assert at_bar_3("unanimous", both_positive) == at_bar_3("weighted", both_positive)
    # w: A 0.12, C 0.5: positive (0.072 + 0.25) / 0.62, negative (0.012 + 0.05) / 0.62
    assert at_bar_3("unanimous", both_positive)["score"] == pytest.approx(0.26 / 0.62, rel=1e-12)


def test_texts_are_divided_for_as_long_as_both_count() -> None:
    # Good news at bar 1, bad news at bar 3, each for two bars more.
    rows = [{"at": 0.5, "p": [0, 0, 1]}, {"at": 2.5, "p": [1, 0, 0]}]
    out = aggregate_sentiment(*make_texts(rows), make_grid(7), ["A"], **(PLAIN | {"max_age": 2}), mode="unanimous")
    np.testing.assert_array_equal(of(out, "sent_score"), [np.nan, 1, 1, 0, -1, -1, np.nan])


def test_rolling_is_the_plain_mean_over_max_age_bars() -> None:
    # Without the blog's relevance and weight: (0.6 + 0.1 + 0.5) / 3 positive, (0.1 + 0.7 + 0.1) / 3 negative.
    plain = [{"at": row["at"], "p": row["p"]} for row in THREE]
    expected = {"negative": 0.3, "neutral": 0.3, "positive": 0.4, "score": 0.1, "confidence": 0.4}
    assert at_bar_3("rolling", plain) == pytest.approx(expected, rel=1e-12)
    # With them w is 0.4, 1, 1, whatever age and confidence: positive (0.24 + 0.1 + 0.5) / 2.4.
    assert at_bar_3("rolling")["positive"] == pytest.approx(0.84 / 2.4, rel=1e-12)


def test_by_rolling_a_text_speaks_as_loud_at_the_end_of_its_window_and_the_half_life_has_no_part() -> None:
    rows = [{"at": 0.5, "p": [0, 0, 1]}, {"at": 2.5, "p": [1, 0, 0]}]
    texts, options = make_texts(rows), {"max_age": 2, "min_relevance": 0.0, "source_weights": {}}
    out = aggregate_sentiment(*texts, make_grid(7), ["A"], half_life=1.0, **options, mode="rolling")
    np.testing.assert_array_equal(of(out, "sent_score"), [np.nan, 1, 1, 0, -1, -1, np.nan])
    assert out.equals(aggregate_sentiment(*texts, make_grid(7), ["A"], half_life=9.0, **options, mode="rolling"))


def test_what_a_text_may_be_asked_for_is_the_same_in_every_mode() -> None:
    # Irrelevant, of a source of weight 0, and without a score: none of them counts, in any mode.
    rows = [
        {"at": 0.1, "p": [1, 0, 0], "relevance": 0.2},
        {"at": 0.2, "p": [1, 0, 0], "source": "blog"},
        {"at": 0.3, "p": [1, 0, 0]},
        {"at": 0.4, "p": [0, 0, 1]},
    ]
    news, sentiment = make_texts(rows)
    scored = sentiment.drop(index=2).reset_index(drop=True)
    options = PLAIN | {"min_relevance": 0.5, "source_weights": {"blog": 0.0}}
    for mode in MODES:
        out = aggregate_sentiment(news, scored, make_grid(3), ["A"], **options, mode=mode)
        np.testing.assert_array_equal(of(out, "sent_score"), [np.nan, 1, 1])
        np.testing.assert_array_equal(of(out, "sent_count"), [0, 1, 1])


# --- novelty ---------------------------------------------------------------------------------------------------------


def test_novelty_is_the_share_of_what_was_told_that_was_no_repeat() -> None:
    # max_age 2. Bar 1: one story. Bar 2: its repeat and another story: 2 of 3 are new. Bar 4: the first is gone, its
    # repeat and the other are left: 1 of 2. Bar 5: nothing is left.
    rows = [
        {"at": 0.5, "p": [0, 0, 1], "story": "one"},
        {"at": 1.2, "p": [0, 0, 1], "story": "one"},
        {"at": 1.5, "p": [0, 0, 1], "story": "two"},
    ]
    out = aggregate_sentiment(*make_texts(rows), make_grid(6), ["A"], **(PLAIN | {"max_age": 2}))
    np.testing.assert_allclose(of(out, "sent_novelty"), [np.nan, 1, 2 / 3, 2 / 3, 1 / 2, np.nan], rtol=1e-15)


def test_where_only_repeats_are_left_nothing_is_new_and_nothing_is_said() -> None:
    rows = [{"at": h, "p": [0, 0, 1], "story": "same"} for h in (0.5, 2.5)]
    out = aggregate_sentiment(*make_texts(rows), make_grid(7), ["A"], **(PLAIN | {"max_age": 2}))
    np.testing.assert_array_equal(of(out, "sent_novelty"), [np.nan, 1, 1, 0.5, 0, 0, np.nan])
    np.testing.assert_array_equal(of(out, "sent_score"), [np.nan, 1, 1, 1, np.nan, np.nan, np.nan])


def test_another_symbols_repeats_and_texts_that_do_not_count_make_nothing_less_new() -> None:
    rows = [
        {"at": 0.5, "p": [0, 0, 1], "story": "same"},
        {"at": 0.6, "p": [0, 0, 1], "story": "same", "symbol": "B"},
        {"at": 0.7, "p": [0, 0, 1], "story": "same", "relevance": 0.1},
        {"at": 0.8, "p": [0, 0, 1], "story": ""},
    ]
    out = aggregate_sentiment(*make_texts(rows), make_grid(3), ["A", "B"], **(PLAIN | {"min_relevance": 0.5}))
    assert of(out, "sent_novelty")[1] == 1.0
    assert of(out, "sent_novelty", "B")[1] == 1.0


# --- the same proofs for each mode -----------------------------------------------------------------------------------


def plain_opinion(texts: pd.DataFrame, position: int, mode: str) -> list[float]:
    """Negative, neutral and positive of the texts that count, text by text."""
    sums, weights, labels = np.zeros(3), 0.0, set()
    for text in texts.to_dict("records"):
        age = position - text["first"]
        if not 0 <= age <= PLAIN["max_age"]:
            continue
        p = np.array([text["p_negative"], text["p_neutral"], text["p_positive"]])
        labels.add(int(p.argmax()))
        weight = text["relevance"] * {"wire": 1.0, "blog": 0.5}[text["source"]]
        if mode != "rolling":
            weight *= p.max() * 0.5 ** (age / PLAIN["half_life"])
        sums += weight * (np.eye(3)[p.argmax()] if mode == "majority" else p)
        weights += weight
    if not labels:
        return [np.nan] * 3
    return [0.0, 1.0, 0.0] if mode == "unanimous" and len(labels) > 1 else (sums / weights).tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(4))
def test_a_mode_equals_a_plain_loop_and_its_shares_are_its_weights(mode: str, seed: int) -> None:
    news, sentiment = make_texts(random_texts(seed, 40, 22))
    grid = make_grid(24)
    texts = make_counted_texts(news, sentiment, grid, ["A"], **BLOG, mode=mode)
    out = aggregate_sentiment(news, sentiment, grid, ["A"], **BLOG, mode=mode)
    for position in range(24):
        expected = plain_opinion(texts, position, mode)
        found = out.iloc[position][list(SENTIMENT_FEATURES[:3])].astype(float).tolist()
        assert found == pytest.approx(expected, rel=1e-12, nan_ok=True)
        behind = texts_behind(news, sentiment, grid, "A", position, **BLOG, mode=mode)
        assert len(behind) == out["sent_count"][position]
        if len(behind) and mode != "unanimous":
            assert behind["share"].sum() == pytest.approx(1)
            p = behind[["p_negative", "p_neutral", "p_positive"]].to_numpy()
            voted = np.eye(3)[p.argmax(axis=1)] if mode == "majority" else p
            assert (behind["share"].to_numpy() @ voted).tolist() == pytest.approx(found, rel=1e-12)
    assert out["sent_count"].max() > 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("hour", [0, 9, 20, 39])
def test_no_mode_sees_the_future(mode: str, hour: int) -> None:
    news, sentiment = make_texts(random_texts(5, 80, 40))
    both = news.merge(sentiment[["article_id", "symbol", "p_negative", "p_neutral", "p_positive", "model"]])

    def function(table: pd.DataFrame) -> pd.DataFrame:
        tables = table[list(NEWS.columns)], table[list(SENTIMENT.columns)]
        return aggregate_sentiment(*tables, make_grid(42), ["A", "B"], **BLOG, mode=mode)

    def other_texts(table: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
        out = table.copy()
        out.loc[where, ["p_negative", "p_neutral", "p_positive"]] = [1.0, 0.0, 0.0]
        out.loc[where, "story"] = "s1"
        return out

    assert truncated_equals(function, both, other_texts, START + hour * HOUR)


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_needs_more_than_its_lookback(mode: str) -> None:
    news, sentiment = make_texts(random_texts(6, 150, 40, ("A",)))
    grid, need = make_grid(40), sentiment_lookback(4)
    full = aggregate_sentiment(news, sentiment, grid, ["A"], **BLOG, mode=mode)
    for position in range(need, 40):
        recent = grid.iloc[position - need : position + 1].reset_index(drop=True)
        late = news[news["time"] > recent["time"][0]].reset_index(drop=True)
        again = aggregate_sentiment(late, sentiment, recent, ["A"], **BLOG, mode=mode)
        assert again.iloc[-1, 3:].equals(full.iloc[position, 3:])


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_lets_symbols_touch(mode: str) -> None:
    news, sentiment = make_texts(random_texts(7, 100, 40))
    together = aggregate_sentiment(news, sentiment, make_grid(41), ["B", "A"], **BLOG, mode=mode)
    for symbol in ("A", "B"):
        alone = aggregate_sentiment(news, sentiment, make_grid(41), [symbol], **BLOG, mode=mode)
        assert alone.equals(together[together["symbol"] == symbol].reset_index(drop=True))


# --- the mode of a run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "hint"), [("weigthed", "Did you mean 'weighted'?"), ("Majority", "Did you mean 'majority'?"), ("", "")]
)
def test_a_mode_that_is_none_is_refused(mode: str, hint: str) -> None:
    said = f"features: mode {mode!r} is not one of weighted, majority, unanimous, rolling.{' ' + hint if hint else ''}"
    with pytest.raises(ConfigError) as caught:
        NewsRules(half_life=2.0, max_age=4, mode=mode)
    assert str(caught.value) == said
    texts = make_texts(THREE)
    for function in (aggregate_sentiment, make_counted_texts):
        with pytest.raises(ConfigError, match="is not one of weighted"):
            function(*texts, make_grid(3), ["A"], **PLAIN, mode=mode)


def test_a_run_file_states_its_mode(tiny_copy) -> None:
    path = tiny_copy / "run.toml"
    path.write_text(path.read_text().replace("max_age = 4", 'max_age = 4\nmode = "majority"'))
    assert read_run(path).features.mode == "majority"
    path.write_text(path.read_text().replace("majority", "majorty"))
    with pytest.raises(ConfigError, match="Did you mean 'majority'"):
        read_run(path)


@pytest.mark.parametrize("mode", MODES)
def test_the_rules_of_a_run_reach_its_features(mode: str) -> None:
    news, sentiment = make_texts(random_texts(2, 60, 20))
    rules = NewsRules(**BLOG, mode=mode)
    found = make_features(news, PRICES.empty(), sentiment, make_grid(22), ["A", "B"], rules=rules)
    expected = aggregate_sentiment(news, sentiment, make_grid(22), ["A", "B"], **BLOG, mode=mode)
    pd.testing.assert_frame_equal(found[list(SENTIMENT_FEATURES)], expected[list(SENTIMENT_FEATURES)])


@pytest.mark.parametrize("mode", MODES)
def test_the_texts_told_with_a_signal_have_the_shares_of_its_mode(
    tiny_run, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, mode: str
) -> None:
    run = dataclasses.replace(tiny_run, features=dataclasses.replace(tiny_run.features, mode=mode, max_age=12))
    bars = tiny_inputs.bars.iloc[:60].reset_index(drop=True)
    known = dataclasses.replace(tiny_inputs, bars=bars)
    found = texts_at_end(run, known, tiny_sentiment)
    assert found["symbol"].nunique() == 2
    rules = run.features
    for symbol, texts in found.groupby("symbol"):
        behind = texts_behind(
            known.news,
            tiny_sentiment,
            bars,
            str(symbol),
            59,
            half_life=rules.half_life,
            max_age=rules.max_age,
            min_relevance=rules.min_relevance,
            source_weights=rules.source_weights,
            mode=mode,
        )
        shares = dict(zip(behind["article_id"], behind["share"], strict=True))
        assert dict(zip(texts["article_id"], texts["share"], strict=True)) == pytest.approx(shares)
