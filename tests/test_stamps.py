"""Stamps and prices against what the market did: early ones are found, honest ones are told of and never accused."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPO, make_model

from finsignal.checking.findings import Part
from finsignal.checking.foresight import check_foresight, check_opens, check_scores
from finsignal.checking.stamps import check_stamps
from finsignal.clock import make_bars
from finsignal.config import RunFile, read_run
from finsignal.evidence.stories import make_events
from finsignal.sentiment.score import score_news
from finsignal.signals import NewsRules
from finsignal.study import Inputs, read_inputs
from finsignal.tables import INSTANT, NEWS, PRICES, PROBABILITIES, SENTIMENT, SIGNALS

NOW = pd.Timestamp("2026-11-20", tz="UTC").as_unit("us")
RULES = NewsRules(half_life=5, max_age=10)
HOUR = pd.Timedelta(hours=1)
STAMPS, TIMES, OPENS, SCORES = "stamps of the news", "times of day", "opens and closes", "scores and returns"


def make_market(
    *, days: int = 40, stories: int = 300, jump: float = 0.04, seed: int = 1, bar: str = "1h", market: str = "24x7"
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(news, sentiment, prices, bars): one symbol whose price jumps with each text in the bar in which it comes."""
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2026-01-05", tz="UTC")
    bars = make_bars(market, bar, start=start, end=start + pd.Timedelta(days=days), latency=pd.Timedelta(minutes=1))
    opens = bars["open_time"]
    stamps = start + pd.to_timedelta(np.sort(rng.integers(0, days * 86_400, stories)), unit="s")
    stamps = pd.Series(stamps).astype(INSTANT)
    side = rng.choice([-1.0, 1.0], stories)
    step, volume = rng.normal(0, 0.005, len(bars)), rng.lognormal(5, 0.2, len(bars))
    at = opens.searchsorted(stamps + pd.Timedelta(minutes=1), side="right") - 1
    np.add.at(step, at, side * jump)
    volume[at] *= 1 + 100 * jump
    close = 100 * np.exp(np.cumsum(step))
    first = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0, 0.0005, len(bars)))
    prices = pd.DataFrame({"open_time": opens, "time": bars["close_time"], "symbol": "AAA", "open": first})
    prices["close"], prices["volume"] = close, volume
    prices["high"], prices["low"] = np.maximum(first, close) * 1.001, np.minimum(first, close) * 0.999
    return *make_texts(stamps, side), PRICES.to_table(prices), bars


def make_texts(stamps: pd.Series, side: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """NEWS known a minute after its stamps, and SENTIMENT that says which side."""
    known = stamps + pd.Timedelta(minutes=1)
    ids = [f"n{n:05d}" for n in range(len(stamps))]
    text = {name: "" for name in ("text", "source", "url")}
    news = pd.DataFrame({"article_id": ids, "published": stamps, "time": known, "title": ids, "story": ids, **text})
    news["first_seen"] = news["recorded"] = pd.Series(pd.NaT, index=news.index, dtype=INSTANT)
    news["symbol"], news["relevance"] = "AAA", 1.0
    scores = pd.DataFrame({"article_id": ids, "time": known, "symbol": "AAA", "model": "made@0"})
    scores[list(PROBABILITIES)] = np.where(side[:, None] > 0, [0.1, 0.1, 0.8], [0.8, 0.1, 0.1])
    return NEWS.to_table(news), SENTIMENT.to_table(scores)


def move(table: pd.DataFrame, by: pd.Timedelta, *columns: str) -> pd.DataFrame:
    return table.assign(**{name: table[name] + by for name in columns})


def check(
    news: pd.DataFrame, sentiment: pd.DataFrame, prices: pd.DataFrame, bars: pd.DataFrame, by: pd.Timedelta = 0 * HOUR
) -> dict[str, Part]:
    """The parts by name, after the news was moved."""
    news, sentiment = move(news, by, "published", "time"), move(sentiment, by, "time")
    parts = check_stamps(news, sentiment, prices, bars, ["AAA"], rules=RULES)
    return {part.name: part for part in parts}


# --- when the market moves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [2, 5, 9])
def test_news_that_is_early_by_hours_is_found_with_the_bars_it_is_early(hours: int) -> None:
    part = check(*make_market(), -hours * HOUR)[STAMPS]
    assert part.state == "failed"
    (finding,) = part.findings
    assert f"{hours} bars after the texts were known" in finding.said
    assert (finding.column, finding.symbol) == ("published", "AAA")
    assert finding.instant is not None


def test_news_on_time_and_news_that_is_late_are_not_accused() -> None:
    market = make_market()
    on_time = check(*market)[STAMPS]
    assert on_time.findings == ()
    late = check(*market, 3 * HOUR)[STAMPS]
    assert late.state == "told"  # which is how a report of what had happened looks
    assert "moved with them before they came" in late.said


def test_daily_news_a_day_early_is_found() -> None:
    market = make_market(days=400, stories=150, bar="1d")
    assert check(*market)[STAMPS].findings == ()
    assert "1 bar after" in check(*market, -24 * HOUR)[STAMPS].said


def test_bars_stamped_at_their_close_are_found() -> None:
    news, sentiment, prices, bars = make_market()
    later = move(prices, HOUR, "open_time", "time")
    part = check(news, sentiment, PRICES.to_table(later), bars)[STAMPS]
    assert part.state == "failed"
    assert "1 bar after" in part.said


def test_a_market_that_does_not_react_cannot_be_checked_and_says_so() -> None:
    for seed in range(4):
        part = check(*make_market(jump=0.0, seed=seed), -5 * HOUR)[STAMPS]
        assert part.findings == ()
    assert part.state == "could not be checked"
    assert "No reaction" in part.said


def test_an_effect_that_comes_slowly_after_the_news_is_no_early_stamp() -> None:
    rng = np.random.default_rng(2)
    news, sentiment, prices, bars = make_market(jump=0.0)
    side = np.where(sentiment["p_positive"] > 0.5, 1.0, -1.0)
    at = bars["open_time"].searchsorted(news["time"])
    step = rng.normal(0, 0.005, len(bars) + 10)
    for lag in range(8):
        np.add.at(step, at + lag, side * 0.002)
    close = 100 * np.exp(np.cumsum(step[: len(bars)]))
    first = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(first, close) * 1.001, np.minimum(first, close) * 0.999
    part = check(news, sentiment, prices.assign(open=first, close=close, high=high, low=low), bars)[STAMPS]
    assert (part.state, part.findings) == ("told", ())
    assert "after they were known" in part.said


def test_news_that_moves_the_next_bar_is_no_early_stamp() -> None:
    news, sentiment, prices, bars = make_market()
    quiet = prices.assign(volume=0.0)  # so that returns alone react
    part = check(news, sentiment, quiet, bars, -HOUR)[STAMPS]
    assert (part.state, part.findings) == ("told", ())
    assert check(news, sentiment, prices, bars, -HOUR)[STAMPS].state == "failed"
    assert check(news, sentiment, quiet, bars, -2 * HOUR)[STAMPS].state == "failed"


def test_few_stories_say_what_they_need() -> None:
    for part in check(*make_market(stories=20)).values():
        assert part.findings == ()
    part = check(*make_market(stories=20))[STAMPS]
    assert part.state == "could not be checked"
    assert part.said.startswith("Needs 50 stories on 10 days; there are 20 on")


def test_no_news_at_all_is_no_failure() -> None:
    news, sentiment, prices, bars = make_market(stories=1)
    parts = check(news.iloc[:0], sentiment.iloc[:0], prices, bars)
    assert {name: part.state for name, part in parts.items()} == {
        STAMPS: "could not be checked",
        TIMES: "could not be checked",
        OPENS: "passed",
        SCORES: "could not be checked",
    }


# --- times of day ----------------------------------------------------------------------------------------------------


def at_time_of_day(clock: str, share: float) -> Part:
    news, sentiment, prices, bars = make_market(jump=0.0)
    some = np.arange(len(news)) < share * len(news)
    day = news["published"].dt.normalize()
    stamps = news["published"].mask(some, day + pd.Timedelta(clock))
    return check(NEWS.to_table(news.assign(published=stamps)), sentiment, prices, bars)[TIMES]


def test_dates_a_second_past_midnight_are_dates_in_disguise() -> None:
    part = at_time_of_day("00:00:01", 0.8)
    assert part.state == "failed"
    assert "80% of 300 texts are stamped 00:00:01 UTC. That is a date in disguise" in part.findings[0].said


def test_a_daily_letter_is_told_of_and_not_accused() -> None:
    part = at_time_of_day("06:30:00", 0.8)
    assert (part.state, part.findings) == ("told", ())
    assert at_time_of_day("00:00:01", 0.3).state == "passed"


# --- prices, scores and signals that know ----------------------------------------------------------------------------


def test_opens_of_the_bar_before_and_closes_of_the_next_are_found() -> None:
    *_, prices, bars = make_market(jump=0.0)
    assert check_opens(prices, bars, ["AAA"]).state == "passed"
    old = prices["open"].shift(1).fillna(100.0)
    next_close = prices["close"].shift(-1).fillna(prices["close"])
    for changed in (prices.assign(open=old), prices.assign(close=next_close)):
        part = check_opens(changed, bars, ["AAA"])
        assert part.state == "failed"
        assert "undoes the gap before it" in part.findings[0].said
        assert (part.findings[0].symbol, part.findings[0].instant) == ("AAA", bars["open_time"].iloc[0])


@pytest.mark.parametrize("edge", ["low", "high"])
def test_opens_at_the_best_price_are_found(edge: str) -> None:
    *_, prices, bars = make_market(jump=0.0)
    part = check_opens(prices.assign(open=prices[edge]), bars, ["AAA"])
    assert part.state == "failed"
    assert f"open at their {edge}" in part.said


def make_two() -> tuple[pd.DataFrame, pd.DataFrame]:
    """(prices, bars) of two symbols, AAA and BBB, of which tests make the first one dishonest."""
    *_, prices, bars = make_market(jump=0.0)
    *_, other, _ = make_market(jump=0.0, seed=9)
    return PRICES.to_table(pd.concat([prices, other.assign(symbol="BBB")], ignore_index=True)), bars


@pytest.mark.parametrize("what", ["the close of the next bar", "the open of the bar before", "the low"])
def test_one_symbol_alone_is_found_and_named(what: str) -> None:
    prices, bars = make_two()
    ours, by_symbol = prices["symbol"] == "AAA", prices.groupby("symbol")
    changed = {
        "the close of the next bar": {"close": by_symbol["close"].shift(-1).fillna(prices["close"])},
        "the open of the bar before": {"open": by_symbol["open"].shift(1).fillna(prices["open"])},
        "the low": {"open": prices["low"]},
    }[what]
    cheat = prices.assign(**{name: column.where(ours, prices[name]) for name, column in changed.items()})
    assert check_opens(prices, bars, ["AAA", "BBB"]).state == "passed"
    part = check_opens(cheat, bars, ["AAA", "BBB"])
    assert (part.state, part.findings[0].symbol) == ("failed", "AAA")


@pytest.mark.parametrize("noise", [0.004, 0.006, 0.02])
def test_noisy_opens_or_closes_of_thin_names_are_told_and_not_accused(noise: float) -> None:
    *_, prices, bars = make_market(jump=0.0)
    off = np.exp(np.random.default_rng(6).normal(0, noise, len(prices)))
    for column in ("open", "close"):
        noisy = prices.assign(**{column: prices[column] * off})
        part = check_opens(noisy, bars, ["AAA"])
        assert part.findings == ()
    if noise > 0.005:
        part = check_opens(prices.assign(open=prices["open"] * off), bars, ["AAA"])
        assert part.state == "told"
        assert "opens are noise, as where little is traded" in part.said


def test_what_only_ever_rises_opens_at_its_low_and_is_not_accused() -> None:
    *_, prices, bars = make_market(jump=0.0)
    close = 100 * np.exp(np.cumsum(np.full(len(prices), 1e-5)))
    first = np.concatenate([[100.0], close[:-1]])
    rising = prices.assign(open=first, low=first, close=close, high=close)
    assert check_opens(rising, bars, ["AAA"]).findings == ()


def test_bars_of_one_symbol_that_are_late_are_found_among_others() -> None:
    markets = [make_market(seed=seed) for seed in (1, 2, 3)]
    bars, tables = markets[0][3], []
    for symbol, (news, sentiment, prices, _) in zip(("AAA", "BBB", "CCC"), markets, strict=True):
        ids = symbol + news["article_id"]
        news, sentiment = (part.assign(symbol=symbol, article_id=ids) for part in (news, sentiment))
        late = move(prices, 2 * HOUR, "open_time", "time") if symbol == "AAA" else prices
        tables.append((news.assign(story=ids), sentiment, late.assign(symbol=symbol)))
    news, sentiment, prices = (pd.concat(part, ignore_index=True) for part in zip(*tables, strict=True))
    news, sentiment = (t.sort_values(["symbol", "time", "article_id"], ignore_index=True) for t in (news, sentiment))
    part = check_stamps(news, sentiment, prices, bars, ["AAA", "BBB", "CCC"], rules=RULES)[0]
    assert part.state == "failed"
    assert "2 bars after the texts of AAA were known" in part.said
    assert "or the texts announce what comes then" in part.said  # it may be so, and the sentence must not deny it


def test_bars_that_open_where_the_last_closed_are_not_accused() -> None:
    *_, prices, bars = make_market(jump=0.0)
    first = prices["close"].shift(1).fillna(100.0)
    high, low = np.maximum(first, prices["close"]), np.minimum(first, prices["close"])
    assert check_opens(prices.assign(open=first, high=high, low=low), bars, ["AAA"]).state == "passed"


def with_scores(share: float) -> Part:
    """Scores of which a share is the sign of the next bar's return, and the rest is luck."""
    news, sentiment, prices, bars = make_market(jump=0.0, stories=400)
    events = make_events(news, sentiment, prices, bars, ["AAA"], rules=RULES)
    gain = prices["open"].shift(-1) / prices["open"] - 1
    rng = np.random.default_rng(4)
    side = np.where(
        rng.random(len(events)) < share, np.sign(gain.to_numpy()[events["entry"]]), rng.choice([-1, 1], len(events))
    )
    return check_scores(events.assign(score=side * rng.uniform(0.2, 0.9, len(events))), prices, bars, ["AAA"])


def test_scores_that_know_the_next_return_are_found_and_lucky_ones_are_not() -> None:
    knowing = with_scores(0.95)
    assert knowing.state == "failed"
    assert "No honest score knows that much" in knowing.said
    assert knowing.findings[0].instant is not None
    assert with_scores(0.0).state == "passed"
    assert with_scores(0.3).state == "passed"  # better than any that is known, and still not impossible


def test_scores_of_one_symbol_alone_that_know_are_found_and_named() -> None:
    prices, bars = make_two()
    rng, size = np.random.default_rng(4), 150
    entry = rng.choice(len(bars) - 2, 2 * size)
    gain = (prices["open"].shift(-1) / prices["open"] - 1).to_numpy()
    side = np.where(np.arange(2 * size) < size, np.sign(gain[entry]), rng.choice([-1, 1], 2 * size))
    events = pd.DataFrame({"symbol": np.repeat(["AAA", "BBB"], size), "entry": entry, "score": side})
    events["score"] *= rng.uniform(0.2, 0.9, 2 * size)
    events["known"] = bars["time"].iloc[entry].array
    part = check_scores(events, prices, bars, ["AAA", "BBB"])
    assert (part.state, part.findings[0].symbol) == ("failed", "AAA")
    assert "Scores of AAA" in part.said
    assert check_scores(events.assign(score=rng.permutation(side)), prices, bars, ["AAA", "BBB"]).state == "passed"


def make_signals(right: float) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    *_, prices, bars = make_market(jump=0.0)
    rng = np.random.default_rng(5)
    gain = (prices["open"].shift(-1) / prices["open"] - 1).to_numpy()
    rises = np.where(rng.random(len(bars)) < right, gain > 0, gain <= 0)
    signal = pd.Series(np.where(rises, "BUY", "SELL"), dtype="str")
    table = bars[["open_time", "time"]].assign(symbol="AAA", score=0.5, confidence=0.5, signal=signal)
    return SIGNALS.to_table(table), prices, bars


def test_signals_that_are_nearly_always_right_are_found() -> None:
    part = check_foresight(*make_signals(0.97))
    assert part.state == "failed"
    assert "97% of" in part.findings[0].said or "96% of" in part.findings[0].said
    for right in (0.5, 0.65, 0.03):
        assert check_foresight(*make_signals(right)).state == "passed"


def test_few_signals_or_none_say_what_they_need() -> None:
    signals, prices, bars = make_signals(1.0)
    for some in (
        signals.head(40),
        signals.assign(signal=pd.Series(["HOLD"] * len(signals), dtype="str")),
        signals.head(0),
    ):
        part = check_foresight(some, prices, bars)
        assert part.state == "could not be checked"
        assert part.said.startswith("Needs 50 signals")


# --- the real sets ---------------------------------------------------------------------------------------------------


def read_set(shared: Path, name: str) -> tuple[RunFile, Inputs]:
    files = {
        "news_sentiment": {},
        "apple_hourly": {
            "news_path": str(shared / "apple_hourly" / "massive_news_basic.csv"),
            "prices_path": [str(shared / "apple_hourly" / "AAPL_1h_ohlcv.csv")],
        },
        "crypto_hourly": {
            "news_path": str(shared / "crypto_hourly" / "cryptonews.csv"),
            "prices_path": [f"{s}={shared / 'crypto_hourly' / f'{s}_60_full.csv'}" for s in ("BTCUSDT", "ETHUSDT")],
        },
        "stocknet_daily": {
            "news_path": str(shared / "stocknet" / "tweets.parquet"),
            "prices_path": [str(shared / "stocknet" / "yahoo_daily.parquet")],
        },
    }[name]
    run = read_run(REPO / "strategies" / f"{name}.toml", **files)
    return run, read_inputs(run, now=NOW)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["news_sentiment", "apple_hourly", "crypto_hourly", "stocknet_daily"])
def test_the_sample_and_the_real_sets_are_not_accused(shared: Path, name: str) -> None:
    run, inputs = read_set(shared, name)
    # Words in place of the model: when the market moves does not depend on it, and scores need only be honest.
    scores = score_news(inputs.news, make_model(), names=run.names)
    parts = check_stamps(inputs.news, scores, inputs.prices, inputs.bars, run.symbols, rules=run.features)
    assert [part.name for part in parts] == [STAMPS, TIMES, OPENS, SCORES]
    assert list(itertools.chain.from_iterable(part.findings for part in parts)) == []
    assert {part.state for part in parts} <= {"passed", "told", "could not be checked"}
