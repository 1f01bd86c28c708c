"""The planted effect is there, of its size, from the first bar that could be traded on; where none is planted, none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finsignal import simulated_texts
from finsignal.clock import bar_of, make_bars
from finsignal.errors import ConfigError, TableError
from finsignal.simulate import (
    SAMPLE_SYMBOLS,
    Market,
    Regimes,
    SmallMarket,
    main,
    make_index,
    make_market,
    make_oracle_sentiment,
    make_sample,
    make_small_market,
)
from finsignal.sources.files import NewsLayout, PriceLayout, read_news, read_prices
from finsignal.tables import ARTICLES, LINKS, NEWS, PRICES, SENTIMENT, to_integers

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "sample"
MINUTE = pd.Timedelta(minutes=1)
NAMES = {"AAAA": "Ashmoor Tools", "BBBB": "Bellgrave Lines", "CCCC": "Cutterby Farms"}
PLAIN = {"effect": 0.02, "effect_bars": 12, "news_per_day": 1.0, "volatility": 0.005}


def hourly(days: int, market: str = "24x7") -> pd.DataFrame:
    start = pd.Timestamp("2024-03-01", tz="UTC")
    return make_bars(market, "1h", start=start, end=start + pd.Timedelta(days=days), latency=MINUTE)


@pytest.fixture(scope="module")
def market() -> Market:
    return make_market(seed=1, symbols=NAMES, bars=hourly(120), **PLAIN)


def joined(market: Market) -> pd.DataFrame:
    return market.truth.merge(market.articles, on="article_id").merge(market.links, on=["article_id", "symbol"])


def oracle_profits(market: Market, bars: pd.DataFrame, hold: int) -> np.ndarray:
    """Net return of every trade of one who knows each story's polarity: in at the next open, out after `hold` bars.

    0.1 % is paid on each side. Uses prices, known times and polarities, not the planted effects.
    """
    stories = joined(market).query("kind == 'news' and not `repeat`")
    first = bar_of(bars, stories["time"])
    wide = market.prices.pivot(index="open_time", columns="symbol", values="open")
    profits = []
    for symbol, polarity, at in zip(stories["symbol"], stories["polarity"], first, strict=True):
        if at + hold < len(bars):
            opens = wide[symbol].to_numpy()
            profits.append(polarity * (opens[at + hold] / opens[at] - 1) - 0.002)
    return np.array(profits)


def is_found(market: Market, bars: pd.DataFrame) -> bool:
    """Whether the oracle's mean profit is more than two standard errors above 0."""
    profits = oracle_profits(market, bars, 12)
    return bool(profits.mean() > 2 * profits.std(ddof=1) / np.sqrt(len(profits)))


# --- the effect ------------------------------------------------------------------------------------------------------


def test_without_noise_the_price_moves_by_the_effect_from_the_first_tradable_open() -> None:
    # One story of polarity p, effect 0.08 over 4 bars: each bar from j to j + 3 moves by exp(0.02 p) between its open
    # and its close, the four together by exp(0.08 p), and nothing moves before or after, nor between two bars.
    bars = hourly(10)
    options = {"effect": 0.08, "effect_bars": 4, "news_per_day": 0.2, "volatility": 0.0, "routine": 0.0, "other": 0.0}
    made = (
        make_market(seed=s, symbols={"AAAA": "Ashmoor Tools"}, bars=bars, repeats=0.0, **options) for s in range(99)
    )
    alone = next(m for m in made if len(m.articles) == 1 and m.truth["start"].notna().all())
    polarity = int(alone.truth["polarity"].iloc[0])
    published = alone.articles["published"].iloc[0]
    # Known a minute after the end of the published second; the decision is a minute before the open.
    tradable = bars["open_time"] >= published + pd.Timedelta(seconds=61) + MINUTE
    j = int(tradable.to_numpy().argmax())
    assert alone.truth["start"].iloc[0] == bars["open_time"].iloc[j]

    opens, closes = alone.prices["open"].to_numpy(), alone.prices["close"].to_numpy()
    inside = np.log(closes / opens)
    expected = np.zeros(len(bars))
    expected[j : j + 4] = 0.02 * polarity
    np.testing.assert_allclose(inside, expected, atol=1e-12)
    np.testing.assert_allclose(opens[1:], closes[:-1], rtol=1e-12)
    assert closes[j + 3] / opens[j] == pytest.approx(np.exp(0.08 * polarity))
    np.testing.assert_allclose(opens[: j + 1], opens[0], rtol=1e-12)


def test_effects_add_up_and_nothing_else_moves_a_market_without_noise() -> None:
    bars = hourly(30)
    market = make_market(seed=4, symbols=NAMES, bars=bars, **(PLAIN | {"volatility": 0.0, "news_per_day": 3.0}))
    for symbol in NAMES:
        prices = market.prices[market.prices["symbol"] == symbol]
        expected = np.zeros(len(bars))
        for row in market.truth[market.truth["symbol"] == symbol].itertuples():
            if row.start is not pd.NaT:
                j = int((bars["open_time"] == row.start).to_numpy().argmax())
                expected[j : j + 12] += row.effect / 12
        np.testing.assert_allclose(np.log(prices["close"] / prices["open"]), expected, atol=1e-12)


def move_alone(**changes) -> tuple[np.ndarray, int]:
    """Log returns inside each bar of a market without noise that has one story, times its polarity; and its bar."""
    bars, symbols = hourly(10), {"AAAA": "Ashmoor Tools"}
    options = PLAIN | {"volatility": 0.0, "news_per_day": 0.2, "routine": 0.0, "other": 0.0, "repeats": 0.0} | changes
    made = (make_market(seed=s, symbols=symbols, bars=bars, **options) for s in range(99))
    alone = next(m for m in made if len(m.articles) == 1 and m.truth["start"].notna().all())
    inside = np.log(alone.prices["close"] / alone.prices["open"]).to_numpy() * int(alone.truth["polarity"].iloc[0])
    return inside, int((bars["open_time"] == alone.truth["start"].iloc[0]).to_numpy().argmax())


def test_an_effect_may_begin_later_and_fade() -> None:
    """0.07 over three bars with a half-life of one: 0.04, 0.02, 0.01; five bars late they are the same, later."""
    fading = {"effect": 0.07, "effect_bars": 3, "half_life": 1.0}
    at_once, j = move_alone(**fading)
    np.testing.assert_allclose(at_once[j : j + 4], [0.04, 0.02, 0.01, 0.0], atol=1e-12)
    late, k = move_alone(**fading, delay=5)
    assert k == j + 5
    np.testing.assert_allclose(late[k - 1 : k + 4], [0.0, 0.04, 0.02, 0.01, 0.0], atol=1e-12)


def test_news_that_is_not_true_moves_nothing_and_reads_the_same(market: Market) -> None:
    half = make_market(seed=1, symbols=NAMES, bars=hourly(120), true_share=0.5, **PLAIN)
    pd.testing.assert_frame_equal(half.articles, market.articles)
    stories = (market.truth["effect"] != 0).sum()
    assert (half.truth["effect"] != 0).sum() == pytest.approx(stories / 2, abs=3 * np.sqrt(stories / 4))
    moved = half.truth["effect"] != 0
    pd.testing.assert_series_equal(half.truth.loc[moved, "effect"], market.truth.loc[moved, "effect"])


def test_a_drift_is_what_every_bar_is_expected_to_bring() -> None:
    """Mean simple return inside a bar: 0.1 %, against a standard error of 1 % / sqrt(3 * 16,800) = 0.0045 %."""
    made = make_market(
        seed=2, symbols=NAMES, bars=hourly(700), drift=0.001, **(PLAIN | {"effect": 0.0, "volatility": 0.01})
    )
    assert (made.prices["close"] / made.prices["open"] - 1).mean() == pytest.approx(0.001, abs=0.0002)


def test_regimes_are_stretches_of_their_own_volatility_and_drift_that_all_have_together() -> None:
    bars = hourly(700)
    regimes = Regimes(bars=100, calm=0.5, stormy=2.0, bull=0.002, bear=-0.003)
    made = make_market(seed=2, symbols=NAMES, bars=bars, regimes=regimes, **(PLAIN | {"effect": 0.0}))
    inside = np.log(made.prices["close"] / made.prices["open"]).to_numpy().reshape(len(NAMES), len(bars))
    for storm, multiple in ((False, 0.5), (True, 2.0)):
        there = (made.stretches["storm"] == storm).to_numpy()
        noise = inside[:, there] - made.stretches.loc[there, "drift"].to_numpy()
        assert noise.std() == pytest.approx(0.005 * multiple, rel=0.03)
    # The mean over half of 16,800 bars and three symbols that share a part: error of some 0.0001.
    for bull, drift in ((True, 0.002), (False, -0.003)):
        there = (made.stretches["bull"] == bull).to_numpy()
        assert inside[:, there].mean() == pytest.approx(drift, abs=0.0003)
    turns = (made.stretches["storm"].diff().iloc[1:] != 0).sum()
    assert turns == pytest.approx(168, abs=3 * np.sqrt(168))


@pytest.mark.slow
def test_a_planted_effect_is_found_and_an_absent_one_is_not() -> None:
    # 2 % over 12 bars against noise of 1.7 %, about 54 trades of 0.2 % cost a market, 40 markets each: found in 38 at
    # least where it is planted (power 95 %), in 2 at most where it is not (5 %).
    bars = hourly(30)
    found = {
        effect: sum(
            is_found(make_market(seed=seed, symbols=NAMES, bars=bars, **(PLAIN | {"effect": effect})), bars)
            for seed in range(40)
        )
        for effect in (0.02, 0.0)
    }
    assert found[0.02] >= 38
    assert found[0.0] <= 2


def test_no_effect_leaves_the_same_texts_and_the_same_noise(market: Market) -> None:
    null = make_market(seed=1, symbols=NAMES, bars=hourly(120), **(PLAIN | {"effect": 0.0}))
    pd.testing.assert_frame_equal(null.articles, market.articles)
    assert (null.truth["effect"] == 0).all()
    assert null.truth["start"].isna().all()
    for symbol in NAMES:
        gaps = [
            np.log(p["open"].to_numpy()[1:] / p["close"].to_numpy()[:-1])
            for p in (m.prices[m.prices["symbol"] == symbol] for m in (null, market))
        ]
        np.testing.assert_allclose(gaps[0], gaps[1], atol=1e-12)


def test_noise_has_its_stated_size_no_drift_and_gaps_over_the_night() -> None:
    bars = hourly(700, "XNYS")
    made = make_market(seed=2, symbols=NAMES, bars=bars, **(PLAIN | {"effect": 0.0, "volatility": 0.01}))
    wide = {c: made.prices.pivot(index="open_time", columns="symbol", values=c).to_numpy() for c in ("open", "close")}
    inside = wide["close"] / wide["open"] - 1
    assert inside.std() == pytest.approx(0.01, rel=0.05)
    assert abs(inside.mean()) < 3 * 0.01 / np.sqrt(len(bars))
    gap = np.log(wide["open"][1:] / wide["close"][:-1])
    night = to_integers(bars["open_time"])[1:] > to_integers(bars["close_time"])[:-1]
    assert gap[night].std() == pytest.approx(0.015, rel=0.1)
    assert gap[~night].std() == pytest.approx(0.001, rel=0.1)
    # 30 % of the variance is common, so two symbols correlate by 0.3.
    assert np.corrcoef(inside.T)[0, 1] == pytest.approx(0.3, abs=0.06)


# --- the tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", ["24x7", "XNYS"])
def test_tables_keep_their_contracts(grid: str) -> None:
    bars = hourly(60, grid)
    made = make_market(seed=3, symbols=NAMES, bars=bars, **PLAIN)
    PRICES.check(made.prices)
    ARTICLES.check(made.articles)
    LINKS.check(made.links)
    NEWS.check(made.news)
    SENTIMENT.check(make_oracle_sentiment(made, confidence=0.9))
    assert len(made.prices) == len(bars) * len(NAMES)
    assert set(made.truth["article_id"]) == set(made.articles["article_id"])


def test_the_same_seed_gives_the_same_market_and_another_seed_another(market: Market) -> None:
    same = make_market(seed=1, symbols=NAMES, bars=hourly(120), **PLAIN)
    other = make_market(seed=2, symbols=NAMES, bars=hourly(120), **PLAIN)
    for table in ("prices", "articles", "links", "truth"):
        pd.testing.assert_frame_equal(getattr(same, table), getattr(market, table), check_exact=True)
    assert not other.prices["close"].equals(market.prices["close"])
    assert set(other.articles["title"]) != set(market.articles["title"])


def test_repeats_say_the_same_later_elsewhere_and_move_nothing(market: Market) -> None:
    rows = joined(market)
    again = rows[rows["repeat"]].merge(rows[~rows["repeat"]], on="story", suffixes=("", "_first"))
    assert len(again) == rows["repeat"].sum() > 20
    assert (again["title"] == again["title_first"]).all()
    assert (again["published"] > again["published_first"]).all()
    assert (again["source"] != again["source_first"]).all()
    assert (again["effect"] == 0).all()


def test_routine_texts_and_other_companies_move_nothing(market: Market) -> None:
    rows = joined(market)
    quiet = rows[rows["kind"] != "news"]
    assert set(quiet["kind"]) == {"routine", "other"}
    assert (quiet["effect"] == 0).all()
    assert (rows.loc[rows["kind"] == "routine", "polarity"] == 0).all()
    assert (rows["relevance"] == rows["kind"].map({"news": 1.0, "routine": 1.0, "other": 0.1})).all()
    name = rows["symbol"].map(NAMES)
    for row, own in zip(rows.itertuples(), name, strict=True):
        assert own in row.text
        assert (own in row.title) == (row.kind != "other")


def test_texts_are_varied_invented_and_come_at_any_hour(market: Market) -> None:
    for label, templates in simulated_texts.TITLES.items():
        assert len(set(templates)) >= 40, label
    first = market.articles[
        ~market.truth.set_index("article_id")["repeat"].loc[market.articles["article_id"]].to_numpy()
    ]
    assert first["title"].is_unique  # else a reader takes two stories for one
    assert market.articles["title"].str.contains("(simulated", regex=False).all()
    assert market.articles["source"].str.contains("simulated", regex=False).all()
    assert not market.articles["text"].str.contains(r"[{}]", regex=True).any()
    assert set(market.articles["published"].dt.hour) == set(range(24))
    assert set(market.articles["published"].dt.day_of_week) == set(range(7))


def test_titles_stay_unique_when_the_words_run_out() -> None:
    options = PLAIN | {"news_per_day": 100.0, "effect": 0.0}
    made = make_market(seed=5, symbols={"AAAA": "Ashmoor Tools"}, bars=hourly(10), routine=1.0, other=0.0, **options)
    assert made.articles.loc[~made.truth["repeat"].to_numpy(), "title"].is_unique


def test_the_oracle_reads_every_text_right(market: Market) -> None:
    rows = make_oracle_sentiment(market, confidence=0.9).merge(market.truth, on=["article_id", "symbol"])
    found = rows[["p_negative", "p_neutral", "p_positive"]].to_numpy().argmax(axis=1) - 1
    np.testing.assert_array_equal(found, rows["polarity"])


@pytest.mark.parametrize(
    "change",
    [
        *({"effect_bars": 0}, {"volatility": -0.1}, {"news_per_day": -1.0}, {"routine": 0.9}, {"repeats": 2.0}),
        *({"delay": -1}, {"half_life": 0.0}, {"true_share": 1.5}, {"drift": -1.0}, {"effect": float("nan")}),
        *({"common": 2.0}, {"volatility": float("nan")}),
    ],
)
def test_options_that_cannot_be_meant_are_refused(change: dict) -> None:
    with pytest.raises(ConfigError, match="simulate"):
        make_market(seed=1, symbols=NAMES, bars=hourly(1), **(PLAIN | change))


@pytest.mark.parametrize("change", [{"bars": 0.5}, {"calm": 2.0}, {"calm": -1.0}, {"bull": float("inf")}])
def test_regimes_that_cannot_be_meant_are_refused(change: dict) -> None:
    with pytest.raises(ConfigError, match="simulate"):
        Regimes(**change)


# --- small markets ---------------------------------------------------------------------------------------------------

SMALL = PLAIN | {"symbols": list(NAMES), "news_per_day": 0.5}


def daily(days: int = 250) -> pd.DataFrame:
    start = pd.Timestamp("2024-01-01", tz="UTC")
    return make_bars("24x7", "1d", start=start, end=start + pd.Timedelta(days=days), latency=MINUTE)


def small(**changes) -> SmallMarket:
    return make_small_market(bars=daily(), **(SMALL | {"seed": 1} | changes))


def test_a_small_market_keeps_the_contracts_and_its_seed() -> None:
    made, same, other = small(), small(), small(seed=2)
    PRICES.check(made.prices)
    NEWS.check(made.news)
    SENTIMENT.check(made.sentiment)
    assert (made.truth["article_id"] == made.news["article_id"]).all()
    for table in ("prices", "news", "sentiment", "truth"):
        pd.testing.assert_frame_equal(getattr(made, table), getattr(same, table), check_exact=True)
    assert not other.prices["close"].equals(made.prices["close"])


def test_a_small_market_without_noise_moves_by_its_stories_alone() -> None:
    made, bars = small(volatility=0.0, effect=0.07, effect_bars=3, half_life=1.0, delay=1), daily()
    first = bar_of(bars, made.news["time"])
    for symbol in NAMES:
        expected = np.zeros(len(bars) + 5)
        ours = (made.news["symbol"] == symbol).to_numpy()
        for at, row in zip(first[ours], made.truth[ours].itertuples(), strict=True):
            expected[at + 1 : at + 4] += row.polarity * (not row.repeat) * np.array([0.04, 0.02, 0.01])[: 250 - at + 1]
            if row.start is not pd.NaT:
                assert row.start == bars["open_time"].iloc[at + 1]
        prices = made.prices[made.prices["symbol"] == symbol]
        np.testing.assert_allclose(np.log(prices["close"] / prices["open"]), expected[:250], atol=1e-12)


def test_a_small_market_is_read_by_one_who_errs_and_repeats_are_read_alike() -> None:
    made = small(news_per_day=5.0, skill=3.0)
    p = made.sentiment[["p_negative", "p_neutral", "p_positive"]].to_numpy()
    right = (p.argmax(axis=1) - 1 == made.truth["polarity"]).mean()
    # The largest of three normals, one of them 3 above the others: right in 96.5 % (by integration).
    assert right == pytest.approx(0.965, abs=0.015)
    table = made.news.assign(p=p[:, 2])
    assert (table.groupby("story")["p"].nunique() == 1).all()
    assert (table.groupby("story").size() == 2).mean() == pytest.approx(0.2, abs=0.03)
    blind = small(news_per_day=5.0, skill=0.0)
    guess = blind.sentiment[["p_negative", "p_neutral", "p_positive"]].to_numpy().argmax(axis=1) - 1
    assert (guess == blind.truth["polarity"]).mean() == pytest.approx(1 / 3, abs=0.03)


def test_news_that_reports_knows_the_bar_before_it_and_not_the_one_after() -> None:
    made, bars = small(news_per_day=2.0, reports=1.0, effect=0.0, routine=0.0), daily()
    closed = np.searchsorted(to_integers(bars["close_time"]), to_integers(made.news["published"]), side="right") - 1
    first = bar_of(bars, made.news["time"])
    wide = made.prices.pivot(index="open_time", columns="symbol", values="close").pct_change()
    code = wide.columns.get_indexer(made.news["symbol"])
    past, polarity = wide.to_numpy()[np.maximum(closed, 0), code], made.truth["polarity"].to_numpy()
    inner = (closed > 0) & (first < len(bars)) & ~made.truth["repeat"].to_numpy()
    assert (np.sign(past) == polarity)[inner].all()
    after = np.sign(wide.to_numpy()[np.minimum(first, len(bars) - 1), code])
    assert (after == polarity)[inner].mean() == pytest.approx(0.5, abs=0.06)


def test_sticky_news_has_the_side_of_the_story_before_and_knows_no_prices() -> None:
    made, plain = (small(news_per_day=4.0, effect=0.0, stay=stay) for stay in (0.9, 0.5))
    for market, chance in ((made, 0.9), (plain, 0.5)):
        told = market.news.assign(side=market.truth["polarity"])[~market.truth["repeat"]]
        told = told[told["side"] != 0].sort_values(["symbol", "time"], kind="stable")
        same = told["side"] == told.groupby("symbol")["side"].shift()
        inner = told["symbol"] == told["symbol"].shift()
        # Some 1,500 pairs of either: an error of 0.013 at most.
        assert same[inner].mean() == pytest.approx(chance, abs=0.04)
        assert told["side"].mean() == pytest.approx(0, abs=0.25)
    pd.testing.assert_frame_equal(made.prices, plain.prices)
    assert (made.news["time"] == plain.news["time"]).all()


def test_the_expected_return_of_a_small_null_market_is_its_drift() -> None:
    """Mean over 40 markets of 750 bars: 0.05 %, against an error of 0.5 % / sqrt(30,000) = 0.003 %, twice as common."""
    inside = [
        (p["close"] / p["open"] - 1).mean() for p in (small(seed=s, effect=0.0, drift=5e-4).prices for s in range(40))
    ]
    assert np.mean(inside) == pytest.approx(5e-4, abs=2e-4)


@pytest.mark.parametrize(
    "change",
    [
        *({"reports": 1.5}, {"skill": float("inf")}, {"symbols": []}, {"repeats": -0.1}, {"effect_bars": 0}),
        *({"stay": 0.4}, {"stay": 1.1}, {"stay": float("nan")}),
    ],
)
def test_options_of_a_small_market_that_cannot_be_meant_are_refused(change: dict) -> None:
    with pytest.raises(ConfigError, match="simulate"):
        small(**change)


# --- the sample ------------------------------------------------------------------------------------------------------


def test_the_bundled_sample_is_what_its_command_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "sample")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'sample'}\n"
    for name in ("prices.csv", "index.csv", "news.csv"):
        assert (tmp_path / "sample" / name).read_bytes() == (SAMPLE / name).read_bytes(), name
    assert sum((SAMPLE / name).stat().st_size for name in ("prices.csv", "index.csv", "news.csv")) < 1_500_000


def test_an_index_is_what_it_costs_to_hold_all_from_the_first_open_on() -> None:
    """Shares at 10 and 40: the index holds ten to one of 100 / 2 / 10 = 5 and 1.25, and moves as that portfolio."""
    bars = hourly(1)[:3]
    one = pd.DataFrame({"open_time": bars["open_time"], "time": bars["close_time"], "volume": 7.0})
    first = one.assign(symbol="A", open=[10.0, 11.0, 12.0], close=[11.0, 12.0, 6.0])
    second = one.assign(symbol="B", open=[40.0, 40.0, 20.0], close=[40.0, 20.0, 80.0])
    prices = pd.concat([t.assign(high=t[["open", "close"]].max(axis=1) + 1) for t in (first, second)])
    prices = PRICES.to_table(prices.assign(low=prices[["open", "close"]].min(axis=1) - 1))
    index = make_index(prices, "X")
    assert index["open"].tolist() == pytest.approx([100, 105, 85])
    assert index["close"].tolist() == pytest.approx([105, 85, 130])
    assert index["high"].tolist() == pytest.approx([12 * 5 + 41 * 1.25, 13 * 5 + 41 * 1.25, 13 * 5 + 81 * 1.25])
    assert index["volume"].tolist() == [14, 14, 14]
    with pytest.raises(TableError, match="not every symbol has a row of every bar"):
        make_index(prices.iloc[:-1], "X")


def test_the_bundled_sample_read_as_files_is_the_simulated_market() -> None:
    market = make_sample()
    bars = make_bars("XNYS", "1h", start="2024-01-02", end="2025-01-01", latency=MINUTE)
    now = pd.Timestamp("2025-01-02", tz="UTC")
    columns = {"time": "time", "symbol": "symbol", "stamp": "open"}
    prices, _ = read_prices(SAMPLE / "prices.csv", PriceLayout(**columns), bars=bars, now=now)
    assert list(prices["symbol"].unique()) == sorted(SAMPLE_SYMBOLS)
    assert prices["time"].equals(market.prices["time"])
    np.testing.assert_allclose(prices["close"], market.prices["close"], atol=0.00005)
    layout = NewsLayout(time="published", symbol="symbol", title="title", text="text", source="source", url="url")
    articles, links, counts = read_news(SAMPLE / "news.csv", layout, now=now)
    assert counts.faults == 0
    assert len(links) == len(market.links)
    known = articles.set_index("url")["time"].sort_index()
    pd.testing.assert_series_equal(known, market.articles.set_index("url")["time"].sort_index())
    # The reader knows repeats by their titles: as many stories as were told.
    assert articles["story"].nunique() == market.articles["story"].nunique()


def test_the_sample_pays_one_who_reads_it_right_and_a_null_sample_does_not() -> None:
    bars = make_bars("XNYS", "1h", start="2024-01-02", end="2025-01-01", latency=MINUTE)
    # 1 % planted less 0.2 % of costs: 0.8 % a trade, and -0.2 % where nothing is planted. One trade's noise is 0.6 % a
    # bar over 14 bars and two nights, about 2.5 %; over some 300 trades 0.15 %.
    assert oracle_profits(make_sample(), bars, 14).mean() == pytest.approx(0.008, abs=0.003)
    assert oracle_profits(make_sample(effect=0.0), bars, 14).mean() == pytest.approx(-0.002, abs=0.003)
