"""Is it the news: what takes the place of the texts, and that a run is judged against it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import WordModel
from scipy import stats
from traded_market import make_traded_case, write_run

from finsignal.config import RunFile
from finsignal.evidence.answers import Answer, Figure
from finsignal.study import placebo
from finsignal.study.case import Case, make_case
from finsignal.study.masking import make_mask, measure_masked
from finsignal.study.paired import net_return
from finsignal.study.placebo import answer_news, find_moves
from finsignal.tables import PROBABILITIES, SENTIMENT

NAMES = {"AAA": ["Alder Group", "Alder", "McAlder's"], "BBB": ["Birch", "IBM"], "T": ["Telco"], "BRK-B": ["Berkshire"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFile:
    return write_run(tmp_path_factory.mktemp("placebo"))


@pytest.fixture(scope="module")
def case(run: RunFile) -> Case:
    return make_traded_case(run)


class NameModel(WordModel):
    """Reads words, but believes all good of Alder."""

    def _run(self, cleaned: list[str], *, progress: bool) -> np.ndarray:
        rows = super()._run(cleaned, progress=progress)
        liked = np.array(["Alder" in str(text) for text in cleaned], dtype=bool)
        rows[liked] = np.log([0.02, 0.08, 0.90]) * self.temperature
        return rows


@pytest.fixture(scope="module")
def liking() -> NameModel:
    return NameModel(name="likes@0", temperature=1.0, card={}, order=(0, 1, 2), session=None, tokenizer=None)


def find(answer: Answer, key: str) -> Figure:
    figure = answer.find(key)
    assert figure is not None, key
    return figure


def value_of(answer: Answer, key: str) -> float:
    figure = find(answer, key)
    assert figure.value is not None, figure.needs
    return figure.value


# --- prices and hours alone ------------------------------------------------------------------------------


def test_a_strategy_that_reads_the_news_beats_prices_and_hours_alone(case: Case) -> None:
    answer = answer_news(case)
    for key in ("price_only", "calendar_only"):
        figure = find(answer, key)
        assert figure.low is not None, key
        assert figure.low > 0, key
        assert (figure.n, figure.of) == (80, "days")
    assert answer.said.startswith("It did better than price alone")
    names, nets = zip(*((row[0], row[1]) for row in answer.tables[0].rows), strict=True)
    assert names == ("the run", "price alone, at the hours of the news", "the mere hours of the news")
    assert answer.tables[0].columns[-1] == "days"
    assert [row[-1] for row in answer.tables[0].rows] == [80, 80, 80]
    assert nets[0] == pytest.approx(net_return(case.result))


def test_a_strategy_that_reads_no_text_is_its_own_placebo(tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(
        "import pandas as pd\n\n\ndef strategy(features: pd.DataFrame, *, min_texts: float = 1) -> pd.DataFrame:\n"
        "    rises = features['ret_1'] > 0\n"
        "    signal = rises.map({True: 'BUY', False: 'HOLD'}).astype('str')\n"
        "    return pd.DataFrame({'score': 1.0, 'confidence': 1.0, 'signal': signal})\n"
    )
    deaf = write_run(
        tmp_path,
        **{str(placebo_strategy()): str(tmp_path / "deaf.py"), "buy_threshold = 0.2\nsell_threshold = 0.2\n": ""},
    )
    answer = answer_news(make_traded_case(deaf))
    for key in ("price_only", "calendar_only"):
        figure = find(answer, key)
        assert (figure.value, figure.low) == (0, None)
        assert "Both accounts are the same" in figure.said
    assert "cannot be told from" in answer.said


def placebo_strategy() -> Path:
    return Path(__file__).resolve().parents[1] / "strategies" / "news_sentiment.py"


def test_a_losing_strategy_is_told_to_do_worse(case: Case) -> None:
    swapped = {"p_negative": "p_positive", "p_positive": "p_negative"}
    opposite = case.sentiment.rename(columns=swapped)[list(case.sentiment.columns)]
    wrong = make_case(case.run, case.inputs, opposite, case.strategy, case.parameters)
    answer = answer_news(wrong)
    assert find(answer, "price_only").high is not None
    assert value_of(answer, "price_only") < 0
    assert "did worse than" in answer.said


def test_the_baseline_trades_with_its_own_settings(tmp_path: Path) -> None:
    strategy = f"strategy = '{placebo_strategy()}'"
    based = write_run(tmp_path, **{strategy: f"{strategy}\nbaseline = '{placebo_strategy().parent}/price_features.py'"})
    case = make_traded_case(based)
    answer = answer_news(case)
    baseline = based.load_baseline()
    assert baseline is not None
    stated = replace(based, parameters={})
    alone = make_case(stated, case.inputs, SENTIMENT.empty(), baseline, case.parameters.iloc[:0])
    row = next(row for row in answer.tables[0].rows if row[0] == "the baseline on prices")
    assert row[1] == pytest.approx(net_return(alone.result))
    assert find(answer, "price_baseline").n == 80


def test_price_only_deals_the_same_probabilities_by_what_prices_had_done(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealt = []
    monkeypatch.setattr(placebo, "_trade", lambda case, sentiment: dealt.append(sentiment) or case.result)
    answer_news(case)
    by_price, by_hours = (SENTIMENT.check(table) for table in dealt)
    moved = find_moves(case)
    known = np.isfinite(moved)
    assert known.mean() > 0.8
    score = (by_price["p_positive"] - by_price["p_negative"]).to_numpy()
    assert (np.diff(score[known][np.argsort(moved[known], kind="stable")]) >= 0).all()
    assert sorted(score[known]) == sorted((case.sentiment["p_positive"] - case.sentiment["p_negative"])[known])
    assert (by_price.loc[~known, "p_neutral"] == 1).all()
    assert len(by_hours[list(PROBABILITIES)].drop_duplicates()) == 1
    for table in (by_price, by_hours):
        assert table[["article_id", "time", "symbol"]].equals(case.sentiment[["article_id", "time", "symbol"]])


def test_what_prices_had_done_is_known_at_the_decision_that_reads_the_text(case: Case) -> None:
    moved = find_moves(case)
    row = int(np.flatnonzero(np.isfinite(moved))[10])
    text = case.sentiment.iloc[row]
    decision = case.inputs.bars.loc[case.inputs.bars["time"] >= text["time"], "time"].iloc[0]
    prices = case.inputs.prices[case.inputs.prices["symbol"] == text["symbol"]]
    closes = prices.loc[prices["time"] <= decision, "close"].to_numpy()
    returns = closes[-20:] / closes[-21:-1] - 1
    assert moved[row] == pytest.approx((closes[-1] / closes[-6] - 1) / returns.std(ddof=1))


def test_a_score_counts_from_when_its_text_is_known(case: Case) -> None:
    early = case.sentiment.assign(time=case.sentiment["time"].min())
    moved = find_moves(replace(case, sentiment=early))
    assert np.array_equal(moved, find_moves(case), equal_nan=True)


# --- names hidden ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Alder soars", "XYZ soars"),
        ("alder's profit, Alder Group says", "XYZ's profit, XYZ says"),
        ("Alders and Calder are others", "Alders and Calder are others"),
        ("Alder gains on Birch", "XYZ gains on QRS"),
        ("Alder Group (NYSE: AAA) up", "XYZ up"),
        ("Alder (AAA) up", "XYZ up"),
        ("$AAA, $ aaa and $BBB; AAA, not aaa", "XYZ, XYZ and QRS; XYZ, not aaa"),
        ("ibm is no IBM", "ibm is no QRS"),
        ("Plan T of Telco (NYSE: T), $T", "Plan T of QRS, QRS"),
        ("Berkshire, BRK.B and BRK-B", "QRS, QRS and QRS"),
        ("McAlder\N{RIGHT SINGLE QUOTATION MARK}s opens", "XYZ opens"),
        ("$AAA.X is another", "$AAA.X is another"),
        ("", ""),
    ],
)
def test_names_are_hidden(text: str, hidden: str) -> None:
    assert make_mask(list(NAMES), NAMES)(text, "AAA") == hidden


def test_symbols_without_names_are_hidden_by_symbol() -> None:
    assert make_mask(["AAA"], {})("Alder $AAA (AAA)", "AAA") == "Alder XYZ"


def make_fooled(case: Case, model: NameModel) -> Case:
    """The case with the scores of a model that believes all good of Alder."""
    liked = np.array(["Alder" in title for title in case.inputs.news["title"]])
    values = case.sentiment[list(PROBABILITIES)].to_numpy().copy()
    values[liked] = [0.02, 0.08, 0.90]
    scores = case.sentiment.assign(**dict(zip(PROBABILITIES, values.T, strict=True)))
    return make_case(case.run, case.inputs, scores, case.strategy, case.parameters, model=model)


def test_a_model_that_likes_a_name_is_found_out(case: Case, liking: NameModel) -> None:
    told = case.inputs.news["title"].tolist()
    liked = np.array(["Alder" in title for title in told])
    answer = answer_news(make_fooled(case, liking))
    bad = np.array(["slumps" in title for title in told])
    counted = len(told)
    assert find(answer, "masked_agreement").n == counted  # none tells a story of another
    assert value_of(answer, "masked_agreement") == pytest.approx(1 - (bad & liked).sum() / counted)
    assert value_of(answer, "masked_change") == pytest.approx(-1.76 * (bad & liked).sum() / counted)
    row = next(row for row in answer.tables[0].rows if row[0] == "the same with names hidden")
    assert row[1] == pytest.approx(net_return(case.result))  # what the words alone say
    assert value_of(answer, "masked") < 0
    assert "names hidden its return changes by +" in answer.said


def test_what_hiding_names_changes_is_counted_by_story(case: Case, liking: NameModel) -> None:
    # A bad text of Alder is told 20 times, under one story; hours apart, so that every telling counts.
    fooled, news = make_fooled(case, liking), case.inputs.news
    bad = news["symbol"].eq("AAA") & news["title"].str.contains("slumps")
    told = bad & (bad.cumsum() <= 20)
    assert told.sum() == 20
    inputs = replace(case.inputs, news=news.assign(story=news["story"].mask(told, "s1")))
    once, answer = answer_news(fooled), answer_news(replace(fooled, inputs=inputs))
    stories = len(news) - 19
    for key in ("masked_agreement", "masked_change"):
        assert (find(once, key).n, find(once, key).of) == (len(news), "stories")
        assert (find(answer, key).n, find(answer, key).of) == (stories, "stories")
    assert value_of(answer, "masked_agreement") == pytest.approx(1 - (bad.sum() - 19) / stories)
    assert value_of(answer, "masked_change") == pytest.approx(-1.76 * (bad.sum() - 19) / stories)


def test_the_intervals_are_those_of_stories_however_often_they_were_told() -> None:
    rng = np.random.default_rng(1)
    before, after = (rng.dirichlet([1, 1, 1], 40) for _ in range(2))
    once = measure_masked(before, after, np.arange(40))
    often = measure_masked(before.repeat(25, axis=0), after.repeat(25, axis=0), np.arange(40).repeat(25))
    for one, many in zip(once, often, strict=True):
        assert (one.n, many.n) == (40, 40)
        assert one.low is not None
        assert (many.value, many.low, many.high) == pytest.approx((one.value, one.low, one.high))
    moved = (after - before) @ [-1, 0, 1]
    low, high = stats.t.interval(0.95, 39, moved.mean(), stats.sem(moved))
    assert once[1].low == pytest.approx(low, abs=0.03)  # the fewer degrees of freedom make it a little wider
    assert once[1].low <= low
    assert once[1].high >= high
    kept = int((before.argmax(axis=1) == after.argmax(axis=1)).sum())
    wilson = stats.binomtest(kept, 40).proportion_ci(method="wilson")
    assert (once[0].low, once[0].high) == pytest.approx((wilson.low, wilson.high), abs=1e-6)


def test_few_stories_and_such_as_change_alike_have_a_mean_change_without_interval() -> None:
    rng = np.random.default_rng(2)
    before, after = (rng.dirichlet([1, 1, 1], 300) for _ in range(2))
    agreement, change = measure_masked(before, after, np.arange(300) % 29)
    assert change.value is not None
    assert (change.n, change.low, change.high) == (29, None, None)
    assert change.said.endswith("There is no interval below 30 stories.")
    assert agreement.low is not None
    agreement, change = measure_masked(before, before, np.arange(300))
    assert (change.value, change.low, change.high) == (0, None, None)
    assert change.said.endswith("All change alike, so there is no interval.")
    assert (agreement.value, agreement.high) == (1, 1)
    assert agreement.low == pytest.approx(300 / (300 + 1.959964**2))  # not sure even where all agree


@pytest.mark.slow
def test_the_interval_of_the_mean_change_covers_where_few_stories_carry_it() -> None:
    """Of 60 stories told up to 30 times each, one in ten moves: 95 % intervals hold the true mean 90 % of the time."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(500):
        story = np.arange(60).repeat(rng.integers(1, 31, 60))
        score = np.where(rng.random(60) < 0.1, rng.uniform(0.2, 0.8, 60), 0.0)[story]
        before = np.tile([0.1, 0.8, 0.1], (len(story), 1))
        change = measure_masked(before, before + np.outer(score, [0, -1, 1]), story)[1]
        held += change.low is None or change.high is None or change.low <= 0.05 <= change.high
    assert held >= 450


def test_a_model_that_reads_words_alone_does_not_change(case: Case, words: WordModel) -> None:
    answer = answer_news(replace(case, model=words))
    assert value_of(answer, "masked_agreement") == 1
    assert value_of(answer, "masked_change") == pytest.approx(0, abs=1e-9)
    assert value_of(answer, "masked") == pytest.approx(0, abs=1e-9)


def test_only_texts_that_count_in_the_test_are_read_again(
    run: RunFile, words: WordModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = pd.Timestamp("2026-01-11", tz="UTC").as_unit("us")
    asked: list[str] = []
    score = placebo.score_texts

    def listen(texts: list[str], *rest: object, **more: object) -> pd.DataFrame:
        asked.extend(texts)
        return score(texts, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(placebo, "score_texts", listen)
    late = replace(make_traded_case(run, since), model=words)
    answer_news(late)
    numbers = [int(text.split()[-1]) for text in asked]
    first = int((late.inputs.bars["open_time"] < since).sum())
    assert min(numbers) >= first - run.features.max_age
    assert len(asked) == (late.inputs.news["title"].str.split().str[-1].astype(int) >= first - 1).sum()


# --- what cannot be answered -----------------------------------------------------------------------------


def test_scores_from_elsewhere_cannot_be_masked(case: Case) -> None:
    answer = answer_news(case)
    for key in ("masked", "masked_agreement", "masked_change"):
        assert find(answer, key).needs.startswith("a model; these scores come from elsewhere")


def test_texts_that_name_no_one_cannot_be_masked(case: Case, words: WordModel) -> None:
    nameless = replace(case.run, names={})
    answer = answer_news(replace(case, run=nameless, model=words))
    assert "names a company" in find(answer, "masked").needs


def test_few_days_have_no_figure(run: RunFile) -> None:
    answer = answer_news(make_traded_case(run, days=20))
    assert find(answer, "price_only").needs == find(answer, "calendar_only").needs == "60 days; there are 20"
    assert [row[0] for row in answer.tables[0].rows][1:] != []  # made, but not to be judged
    assert answer.said == "No placebo can be judged, so nothing says that it is the news."


def test_what_a_placebo_knows_of_the_whole_period_is_told_of_both(case: Case) -> None:
    note = answer_news(case).notes[0]
    assert "ranks over the whole period" in note
    assert "the mere hours say its commoner side" in note
    assert "makes both harder to beat" in note


def test_without_a_text_no_placebo_is_made(case: Case) -> None:
    inputs = replace(case.inputs, news=case.inputs.news.iloc[:0])
    silent = make_case(case.run, inputs, SENTIMENT.empty(), case.strategy, case.parameters)
    answer = answer_news(silent)
    assert all(figure.needs for figure in answer.figures)


def test_neutral_texts_have_no_hours_to_trade_and_no_trade_is_no_difference(
    case: Case, new_model: Callable[..., WordModel]
) -> None:
    dull = case.sentiment.assign(p_negative=0.1, p_neutral=0.8, p_positive=0.1)
    answer = answer_news(make_case(case.run, case.inputs, dull, case.strategy, case.parameters, model=new_model()))
    assert find(answer, "calendar_only").needs == "a text that is not neutral; there is none"
    assert find(answer, "price_only").needs == "an order; neither account filled one"
    assert find(answer, "price_only").n == 0


def test_constant_prices_are_answered(run: RunFile) -> None:
    flat = make_traded_case(run, effect=0.0)
    answer = answer_news(flat)
    assert "first 21 bars of prices" in find(answer, "price_only").needs  # what never moved has no volatility
    assert value_of(answer, "calendar_only") == pytest.approx(0, abs=0.5)
