"""Walk-forward, whole: each window chooses from what lies before it alone, one account goes through all tests, and the
job decides by the same table.

The market is made up: in the hour after a text its symbol moves its way, until the middle of the run; from then on it
moves against it. A strategy with one setting, the side on which it believes texts, must follow."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import NOW, TINY_RUN, make_model
from world import World, open_world

from finsignal.config import RunFile, read_run, to_dataclass
from finsignal.errors import ConfigError
from finsignal.evidence import to_daily
from finsignal.job.passing import run_pass
from finsignal.job.replay import read_decided, run_replay
from finsignal.ledger import open_ledger, read_decisions
from finsignal.metrics import sharpe_ratio
from finsignal.report import make_report
from finsignal.report.terminal import WIDTH, to_text
from finsignal.sentiment.score import Model, score_news
from finsignal.signals import Limits, make_flat_state
from finsignal.splits import SplitRules, make_splits
from finsignal.study import Inputs, Study, choosing, read_inputs, run_study, write_study
from finsignal.study.choosing import Choice, choose_settings, to_chosen_parameters
from finsignal.study.deciding import decide_run, read_parameters

START, DAYS = pd.Timestamp("2026-03-02", tz="UTC"), 24
TURN = START + pd.Timedelta(days=12)
HOUR = pd.Timedelta(hours=1)

STRATEGY = '''"""Believes texts on one side: 1 follows them, -1 goes against them."""

from finsignal import to_signal


def strategy(features, *, side):
    score = features["sent_score"] * side
    return to_signal(
        score, features["sent_confidence"], buy_threshold=0.3, sell_threshold=0.3, confidence_threshold=0.0
    )
'''
SPLIT = """kind = "rolling"
train = "3d"
validation = "3d"
test = "2d"
embargo = 2"""
CHANGES = {
    f"strategy = '{Path(__file__).resolve().parents[1] / 'strategies' / 'news_sentiment.py'}'": 'strategy = "side.py"',
    'end = "2026-03-07"': 'end = "2026-03-26"',
    "min_texts = 1": "",
    "buy_threshold = [0.99, 0.2]\nsell_threshold = [0.2]": "side = [1, -1]",
    'validation_until = "2026-03-04T00:00Z"': SPLIT,
    "max_age = 4": "max_age = 0",
    "half_life = 3": "half_life = 1",
    "holding = 5": "holding = 1\nshort = true",
    "fee = 0.001": "fee = 0.0001",
    "random_entries = 4": "random_entries = 0",
    "slippage = 0.001": "slippage = 0.0001",
}  # fmt: skip


def make_turning_market() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prices and news: a text of each symbol every two hours, and one percent its way, or against it, an hour later."""
    rng = np.random.default_rng(5)
    times = pd.date_range(START, periods=24 * DAYS, freq="h")
    prices, news = [], []
    for symbol, name in (("AAA", "Alder"), ("BBB", "Birch")):
        move = rng.normal(0, 0.002, len(times))
        for hour in range(1, len(times) - 1, 2):
            word = ("soars", "slumps")[rng.integers(2)]
            way = (1 if word == "soars" else -1) * (1 if times[hour] < TURN else -1)
            move[hour + 1] += 0.01 * way  # known before the hour opens
            news.append(
                {
                    "published": (times[hour] + pd.Timedelta(seconds=605)).strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "symbol": symbol,
                    "title": f"{name} {word} in report {len(news)}",
                    "text": f"Item {len(news)}.",
                    "source": "wire",
                    "url": f"https://news.invalid/{len(news)}",
                }
            )
        close = 50 * np.exp(np.cumsum(move))
        opens = np.concatenate([[50.0], close[:-1]])
        rows = pd.DataFrame({"time": times.strftime("%Y-%m-%dT%H:%M:%SZ"), "symbol": symbol, "open": opens})
        rows["high"], rows["low"] = np.maximum(opens, close) + 0.1, np.minimum(opens, close) - 0.1
        prices.append(rows.assign(close=close, volume=1000))
    return pd.concat(prices), pd.DataFrame(news).sort_values("published", kind="stable")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("turning")
    text = TINY_RUN
    for old, new in CHANGES.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "run.toml").write_text(text.replace("baseline = ", "# baseline = "), encoding="utf-8")
    (folder / "side.py").write_text(STRATEGY, encoding="utf-8")
    prices, news = make_turning_market()
    prices.to_csv(folder / "prices.csv", index=False)
    news.to_csv(folder / "news.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> RunFile:
    return read_run(folder / "run.toml")


@pytest.fixture(scope="module")
def inputs(run: RunFile) -> Inputs:
    return read_inputs(run, now=NOW)


@pytest.fixture(scope="module")
def sentiment(inputs: Inputs) -> pd.DataFrame:
    return score_news(inputs.news, make_model())


@pytest.fixture(scope="module")
def study(run: RunFile, inputs: Inputs, sentiment: pd.DataFrame) -> Study:
    return run_study(run, inputs, {"words": sentiment}, models={"words": make_model()})


def choose(run: RunFile, inputs: Inputs, sentiment: pd.DataFrame, *, first: int = 9) -> tuple[Choice, ...]:
    """What the first windows choose."""
    assert run.split is not None
    splits = make_splits(run.split, inputs.bars, holding=run.weights.holding, max_age=run.features.max_age)
    return choose_settings(run, inputs, sentiment, run.load_strategy(), splits[:first])


@pytest.fixture(scope="module")
def choices(run: RunFile, inputs: Inputs, sentiment: pd.DataFrame) -> tuple[Choice, ...]:
    return choose(run, inputs, sentiment)


# --- what is chosen --------------------------------------------------------------------------------------------------


def test_a_planted_setting_is_found_and_left_when_its_time_is_over(choices: tuple[Choice, ...]) -> None:
    # Train 2 to 4 March until 21:00, three hours left out, validation 5 to 7 March until 21:00, three left out, test.
    assert [c.split.test_start.day for c in choices] == [8, 10, 12, 14, 16, 18, 20, 22, 24]
    sides = [c.values["side"] for c in choices]
    before = [c for c in choices if c.split.validation_end <= TURN]  # type: ignore[operator]
    after = [c for c in choices if c.split.train_start >= TURN]  # type: ignore[operator]
    assert (len(before), len(after)) == (4, 3)
    assert sides[: len(before)] == [1.0] * len(before)
    assert sides[-len(after) :] == [-1.0] * len(after)
    for choice in [*before, *after]:
        assert min(choice.train, choice.validation) > 5  # type: ignore[type-var]
        assert choice.tried == 2


def test_the_setting_whose_worse_ratio_is_best_is_chosen(
    run: RunFile, inputs: Inputs, sentiment: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = replace(run, search={"side": (1.0, 2.0, 3.0, 4.0)})
    none, inf = -np.inf, np.inf
    for ratios, best in (
        ([[3.0, 0.1], [1.0, 0.9], [0.5, 2.0], [9.0, none]], 2.0),  # the worse of each: 0.1, 0.9, 0.5 and none
        ([[0.9, 1.0], [1.0, 0.9], [0.5, 2.0], [0.9, 0.9]], 1.0),  # equal: the one stated first
        ([[none, 1.0], [-3.0, -2.0], [none, none], [-2.5, -4.0]], 2.0),  # a loss is better than no ratio
        ([[none, 1.0], [1.0, none], [none, none], [none, 3.0]], 1.0),  # none has both: the one stated first
        ([[inf, 0.1], [inf, 0.9], [inf, 2.0], [inf, 1.0]], 3.0),  # no train: validation alone
        ([[3.0, inf], [1.0, inf], [0.5, inf], [2.0, inf]], 1.0),  # no validation: train alone
    ):
        table = np.array(ratios)[:, None, :]
        monkeypatch.setattr(choosing, "_try_settings", lambda *a, table=table, **k: np.repeat(table, 9, axis=1))
        chosen = choose(searched, inputs, sentiment)
        assert {c.values["side"] for c in chosen} == {best}
        told = [r if np.isfinite(r) else None for r in ratios[int(best) - 1]]
        assert [chosen[0].train, chosen[0].validation] == told
        assert {c.tried for c in chosen} == {4}


def test_the_accounts_that_choose_hold_what_decide_would(
    run: RunFile, inputs: Inputs, sentiment: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Inputs, pd.DataFrame]] = []
    real = choosing.run_account

    def keep(run: RunFile, inputs: Inputs, weights: pd.DataFrame) -> Any:
        asked.append((inputs, weights))
        return real(run, inputs, weights)

    monkeypatch.setattr(choosing, "run_account", keep)
    limited = replace(
        run,
        limits=Limits(stale_prices=1, silent_news=2),
        weights=replace(run.weights, holding=4),
        search={"side": (-1.0, 1.0)},
    )
    found = choose(limited, inputs, sentiment, first=3)
    stretches = [
        stretch
        for side in (-1.0, 1.0)
        for c in found
        for stretch in (
            (side, c.split.train_start, c.split.train_end),
            (side, c.split.validation_start, c.split.validation_end),
        )
    ]
    assert len(asked) == len(stretches) == 2 * 2 * len(found)
    grid = inputs.bars["open_time"]
    for (known, weights), (side, start, end) in zip(asked[::3], stretches[::3], strict=True):
        assert (weights["open_time"].min(), known.bars["open_time"].iloc[-1]) == (start, grid[grid < end].iloc[-1])
        again = decide_run(
            limited,
            replace(inputs, bars=inputs.bars[grid < end]),
            sentiment,
            make_flat_state(run.symbols),
            strategy=limited.load_strategy(),
            parameters=replace(limited, parameters={"side": side}).make_parameters(),
            since=start,
        )
        pd.testing.assert_frame_equal(weights, again.weights, check_exact=True)
        assert (weights["weight"] != 0).mean() > 0.2


def test_the_first_bars_of_a_stretch_know_what_came_before_it(run: RunFile, inputs: Inputs, sentiment: pd.DataFrame,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    seen: list[pd.DataFrame] = []
    real = choosing.to_weights

    def keep(signals: pd.DataFrame, *arguments: Any, features: pd.DataFrame, **options: Any) -> Any:
        seen.append(features)
        return real(signals, *arguments, features=features, **options)

    monkeypatch.setattr(choosing, "to_weights", keep)
    found = choose(run, inputs, sentiment, first=1)
    first = seen[1].groupby("symbol").first()  # of the first window's validation
    assert (first["open_time"] == found[0].split.validation_start).all()
    assert first["ret_20"].notna().all()
    assert seen[0].groupby("symbol").nth(0)["ret_20"].isna().all()  # of its train nothing comes before


def test_without_a_search_nothing_is_chosen_and_the_windows_stand(
    run: RunFile, inputs: Inputs, sentiment: pd.DataFrame
) -> None:
    stated = replace(run, search={}, parameters={"side": 1.0})
    found = choose(stated, inputs, sentiment)
    assert [(dict(c.values), c.tried, c.train) for c in found] == [({}, 1, None)] * 9
    pd.testing.assert_frame_equal(to_chosen_parameters(stated, found), stated.make_parameters())


# --- nothing of the future -------------------------------------------------------------------------------------------


def with_noise(inputs: Inputs, sentiment: pd.DataFrame, since: pd.Timestamp, seed: int) -> tuple[Inputs, pd.DataFrame]:
    """Other prices and probabilities from an instant on."""
    rng = np.random.default_rng(seed)
    prices, sentiment = inputs.prices.copy(), sentiment.copy()
    later = (prices["time"] > since).to_numpy()
    level = np.exp(np.cumsum(rng.normal(0, 0.03, int(later.sum()))))
    for column in ("open", "high", "low", "close"):
        prices.loc[later, column] *= level
    after = (sentiment["time"] > since).to_numpy()
    sentiment.loc[after, ["p_negative", "p_neutral", "p_positive"]] = rng.dirichlet([0.2, 0.2, 0.2], int(after.sum()))
    return replace(inputs, prices=prices), sentiment


@pytest.mark.slow
@pytest.mark.parametrize("window", [0, 3, 6])
def test_what_comes_after_a_choice_changes_neither_it_nor_an_earlier_decision(
    run: RunFile, inputs: Inputs, sentiment: pd.DataFrame, study: Study, choices: tuple[Choice, ...], window: int
) -> None:
    split = choices[window].split
    assert split.validation_end is not None
    other, scores = with_noise(inputs, sentiment, split.validation_end, seed=window)
    found = choose(run, other, scores, first=window + 2)
    assert found[:-1] == choices[: window + 1]
    assert found[-1] != choices[window + 1]  # the noise is another future
    again = decide_run(
        run,
        other,
        scores,
        make_flat_state(run.symbols),
        strategy=run.load_strategy(),
        parameters=to_chosen_parameters(run, found),
        since=choices[0].split.test_start,
    )
    before = study.decided.signals["time"] <= split.validation_end
    for was, now in ((study.decided.signals, again.signals), (study.decided.weights, again.weights)):
        pd.testing.assert_frame_equal(was[before], now[before], check_exact=True)
        assert not was.equals(now)


def test_a_choice_that_peeks_at_its_test_is_found_out(
    run: RunFile, inputs: Inputs, sentiment: pd.DataFrame, choices: tuple[Choice, ...]
) -> None:
    split = choices[0].split
    assert split.validation_end is not None
    peeking = replace(
        split, train_start=None, train_end=None, validation_start=split.test_start, validation_end=split.test_end
    )
    sides = set()
    for seed in range(4):
        other, scores = with_noise(inputs, sentiment, split.validation_end, seed)
        sides.add(choose_settings(run, other, scores, run.load_strategy(), [peeking])[0].values["side"])
    assert sides == {1.0, -1.0}


# --- one account and one table ---------------------------------------------------------------------------------------


def test_each_test_bar_is_decided_with_the_values_of_its_own_window(study: Study, choices: tuple[Choice, ...]) -> None:
    signals, features = study.decided.signals, study.decided.features
    sides = (signals["score"] / features["sent_score"]).round(9)
    for choice in choices:
        ours = signals["open_time"].between(choice.split.test_start, choice.split.test_end, inclusive="left")
        assert sides[ours].dropna().unique().tolist() == [choice.values["side"]]
    assert signals["open_time"].min() == choices[0].split.test_start


def test_the_table_has_a_row_for_each_window_known_at_its_first_decision(
    study: Study, inputs: Inputs, choices: tuple[Choice, ...]
) -> None:
    table = study.parameters
    assert table["name"].tolist() == ["side"] * 10
    assert table["value"].tolist() == [1.0, *(c.values["side"] for c in choices)]  # before all: the value stated first
    first = [inputs.bars.loc[inputs.bars["open_time"] == c.split.test_start, "time"].iloc[0] for c in choices]
    assert table["time"].tolist()[1:] == first
    assert table["time"].iloc[0] < inputs.bars["time"].iloc[0]


def test_one_account_goes_through_all_windows_and_nothing_is_closed_between_them(
    run: RunFile, inputs: Inputs, sentiment: pd.DataFrame
) -> None:
    # With one value to choose, windows must change nothing: the account is that of a run without them.
    longer = replace(run, search={"side": (1.0,)}, weights=replace(run.weights, holding=7))
    walked = run_study(longer, inputs, {"words": sentiment})
    first = walked.result.equity.index[0]
    alone = decide_run(
        longer,
        inputs,
        sentiment,
        make_flat_state(run.symbols),
        strategy=longer.load_strategy(),
        parameters=replace(longer, parameters={"side": 1.0}).make_parameters(),
        since=first,
    )
    pd.testing.assert_frame_equal(walked.decided.weights, alone.weights, check_exact=True)
    opens = inputs.bars["open_time"]
    assert walked.result.equity.index.equals(pd.DatetimeIndex(opens[opens >= first]))
    windows = walked.summary["period"]["split"]["windows"]
    spans = [
        int(((walked.result.trades["entry_time"] < b) & (walked.result.trades["exit_time"] > b)).sum())
        for b in (pd.Timestamp(window["test"][0]) for window in windows[1:])
    ]
    assert sum(spans) >= 2


# --- what is said of it ----------------------------------------------------------------------------------------------


def test_the_summary_tells_each_window(study: Study, run: RunFile, inputs: Inputs, choices: tuple[Choice, ...]) -> None:
    split = study.summary["period"]["split"]
    assert (split["kind"], split["purge_bars"], split["embargo_bars"], split["validation"]) == ("rolling", 1, 2, None)
    assert split["test"] == ["2026-03-08T00:00:00+00:00", "2026-03-26T00:00:00+00:00"]
    assert study.summary["settings_tried"] == 2 * 9
    assert study.summary["chosen"] == {"side": -1.0}
    daily = to_daily(study.result.equity, inputs.bars, cash=run.cash)
    for window, choice in zip(split["windows"], choices, strict=True):
        for name in ("train", "validation", "test"):
            edges = [getattr(choice.split, f"{name}_{edge}").isoformat() for edge in ("start", "end")]
            assert window[name] == edges
        assert (window["tried"], window["chosen"]) == (2, choice.values)
        assert (window["sharpe_train"], window["sharpe_validation"]) == (choice.train, choice.validation)
        days = daily[(daily.index >= window["test"][0][:10]) & (daily.index < window["test"][1][:10])]
        assert len(days) == 2
        assert window["sharpe_test"] == pytest.approx(sharpe_ratio(days, days_per_year=365))
    json.dumps(study.summary, allow_nan=False)


def test_the_terminal_has_a_line_for_each_window(study: Study) -> None:
    lines = to_text(study.summary).splitlines()
    assert max(map(len, lines)) <= WIDTH
    at = next(n for n, line in enumerate(lines) if line.startswith("  chosen"))
    assert lines[at].split(maxsplit=1)[1] == "9 windows, rolling; 18 settings tried, 1 bars purged and 2 of embargo"
    assert [line.split()[0] for line in lines[at + 2 : at + 11]] == [f"2026-03-{day:02}" for day in range(8, 25, 2)]
    assert lines[at + 2].endswith("side 1")
    assert lines[at + 10].endswith("side -1")


def test_the_report_draws_train_validation_and_test(study: Study) -> None:
    page = make_report(summary=study.summary, result=study.result, curves=study.curves, trade_news=study.trade_news)
    assert page.count('id="windows"') == page.count('id="figure-windows"') == page.count('href="#windows"') == 1
    drawings = json.loads(page.split('id="drawings">')[1].split("</script>")[0])
    drawing = next(d for d in drawings if d["id"] == "windows")
    assert [trace["name"] for trace in drawing["data"]] == ["train", "validation", "test"]
    for trace in drawing["data"]:
        assert trace["y"] == [place for n in range(1, 10) for place in (n, n, None)]
        edges = [edge for w in study.summary["period"]["split"]["windows"] for edge in w[trace["name"]]]
        assert [x for x in trace["x"] if x] == [edge.replace("T", " ").removesuffix("+00:00") for edge in edges]
    assert len(next(d for d in drawings if d["id"] == "equity")["layout"]["shapes"]) == 9  # a line at each new choice


def test_a_single_cut_has_no_timeline(tiny_study: Study) -> None:
    parts = {"result": tiny_study.result, "curves": tiny_study.curves, "trade_news": tiny_study.trade_news}
    page = make_report(summary=tiny_study.summary, **parts)
    assert 'href="#windows"' not in page
    assert 'id="figure-windows"' not in page
    split = tiny_study.summary["period"]["split"]
    assert (split["kind"], len(split["windows"]), split["windows"][0]["train"]) == ("single", 1, None)


def test_windows_too_short_to_judge_are_told_first(run: RunFile, inputs: Inputs, sentiment: pd.DataFrame) -> None:
    short = replace(run, split=SplitRules(kind="rolling", train="1d", validation="1d", test="22d"))
    notes = run_study(short, inputs, {"words": sentiment}).summary["notes"]
    assert "In 1 of 1 choices no setting had a Sharpe ratio: the one stated first stands." in notes


def test_long_choosing_shows_its_progress_on_stderr(
    run: RunFile,
    inputs: Inputs,
    sentiment: pd.DataFrame,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    splits = make_splits(SplitRules(kind="rolling", train="6d", test="4d"), inputs.bars, holding=1, max_age=0)
    tried = len(run.search["side"]) * len(splits)
    for most in (tried, tried + 1):
        monkeypatch.setattr(choosing, "MANY", most)
        choose_settings(run, inputs, sentiment, run.load_strategy(), splits, progress=True)
        out, err = capsys.readouterr()
        assert out == ""
        assert ("choosing" in err and f"{tried}/{tried}" in err) is (tried >= most)


def test_the_rules_of_the_split_are_in_the_settings_and_read_back(run: RunFile) -> None:
    settings = json.loads(json.dumps(run.to_settings()))
    assert settings["split"]["kind"] == "rolling"
    again = to_dataclass(RunFile, {**settings, "path": run.path}, where="settings.json")
    assert again.split == run.split


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "rolling"', 'kind = "roling"', r"Did you mean 'rolling'\?"),
        ('kind = "rolling"', "", "expected either validation_until or kind, got neither"),
        ("embargo = 2", "embargo = 2.5", r"split: embargo: expected int, got 2\.5"),
        ("embargo = 2", "embrago = 2", r"split: unknown key 'embrago'\. Did you mean 'embargo'\?"),
        ('test = "2d"', 'test = "2h"', "'2h' is not a length of a day or more"),
        ('train = "3d"', 'train = "22d"', r"train 22d, validation 3d and 3 bars left out .* leave none of 576 bars"),
    ],
)
def test_a_split_that_cannot_be_meant_is_refused_in_one_sentence(
    folder: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = (folder / "run.toml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    for name in ("side.py", "prices.csv", "news.csv"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "run.toml").write_text(text.replace(old, new), encoding="utf-8")

    def carry_out() -> None:
        stated = read_run(tmp_path / "run.toml")
        inputs = read_inputs(stated, now=NOW)
        run_study(stated, inputs, {"words": score_news(inputs.news, make_model())})

    with pytest.raises(ConfigError, match=message) as caught:
        carry_out()
    assert "\n" not in str(caught.value)


# --- the job ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_passes_across_a_new_choice_decide_what_the_backtest_decides(
    run: RunFile, inputs: Inputs, sentiment: pd.DataFrame, study: Study, choices: tuple[Choice, ...], tmp_path: Path
) -> None:
    fitted = write_study(study, tmp_path / "run") / "parameters.parquet"
    turn = next(n for n, choice in enumerate(choices) if choice.values["side"] == -1.0)
    begin = choices[0].split.test_start
    for number, start, end, against in (
        (1, begin, choices[1].split.test_start + 3 * HOUR, read_decided(tmp_path / "run")),
        (turn, choices[turn].split.test_start - 20 * HOUR, choices[turn].split.test_start + 20 * HOUR, None),
    ):
        with closing(open_ledger(tmp_path / f"{number}.sqlite", durable=False)) as ledger:
            done = run_replay(
                run,
                inputs,
                sentiment,
                ledger,
                parameters=read_parameters(run, fitted),
                model="words@0",
                start=start,
                end=end,
                now=NOW,
                against=against,
            )
            kept = read_decisions(ledger, run.name)
        assert (done.differences, done.first) == (0, "")
        assert done.orders > 10
        assert kept["time"].min() < choices[number].known < kept["time"].max()


def test_a_decision_knows_no_later_choice(
    run: RunFile, inputs: Inputs, sentiment: pd.DataFrame, study: Study, choices: tuple[Choice, ...]
) -> None:
    for at in (choices[0].known - HOUR, choices[2].known, choices[3].known - HOUR, choices[-1].known):
        table = study.parameters[study.parameters["time"] <= at].reset_index(drop=True)
        options = {"strategy": run.load_strategy(), "since": at + pd.Timedelta(minutes=1)}
        state = make_flat_state(run.symbols)
        until = replace(inputs, bars=inputs.bars[inputs.bars["time"] <= at])
        known, whole = (
            decide_run(run, until, sentiment, state, parameters=p, **options).signals  # type: ignore[arg-type]
            for p in (table, study.parameters)
        )
        assert len(known) == 2
        pd.testing.assert_frame_equal(known, whole, check_exact=True)


FITTED = "fitted.parquet"
JOB = {
    "buy_threshold = 0.2\n": "",
    "[weights]": f'[search]\nbuy_threshold = [0.99, 0.2]\n\n[split]\nkind = "rolling"\ntrain = "2d"\ntest = "1d"\n\n'
    f'[job]\nparameters = "{FITTED}"\n\n[weights]',
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    import ccxt

    monkeypatch.setattr(ccxt.Exchange, "sleep", lambda self, milliseconds: None)  # between tries
    with open_world(tmp_path, "2026-03-05T07:59:10Z") as world:
        yield world


@pytest.mark.slow
def test_a_scheduled_job_turns_to_the_new_values_at_their_first_decision(world: World, words: Model) -> None:
    run = world.write_run(**JOB)
    refit = pd.Timestamp("2026-03-05T10:59Z")
    table = run.make_parameters()
    rows = [(table["time"].iloc[0], 0.99), (refit, 0.2)]
    chosen = pd.DataFrame({"time": [t for t, _ in rows], "name": "buy_threshold", "value": [v for _, v in rows]})
    fitted = pd.concat([table, chosen.astype(table.dtypes.to_dict())]).sort_values(["time", "name"], ignore_index=True)
    fitted.to_parquet(world.folder / FITTED, index=False)
    told = []
    for _ in range(7):
        made = run_pass(run, world.clock, lambda: words)
        told += [
            (row["decided"], row["symbol"], row["signal"], row["parameters"]["buy_threshold"]) for row in made.rows
        ]
        world.now += HOUR
    assert {decided >= refit.isoformat() for decided, *_, value in told if value == 0.2} == {True}
    assert {decided < refit.isoformat() for decided, *_, value in told if value == 0.99} == {True}
    assert not [signal for decided, _, signal, value in told if value == 0.99 and signal == "BUY"]
    assert [signal for decided, _, signal, value in told if value == 0.2 and signal == "BUY"]
    inputs = read_inputs(run, now=world.now, ahead=True)
    backtest = decide_run(
        run,
        inputs,
        score_news(inputs.news, words),
        make_flat_state(run.symbols),
        strategy=run.load_strategy(),
        parameters=read_parameters(run, world.folder / FITTED),
        since=pd.Timestamp("2026-03-05T08:00Z"),
    )
    expected = backtest.signals[backtest.signals["time"] < world.now - HOUR]
    ours = sorted((decided, symbol, signal) for decided, symbol, signal, _ in told)
    theirs = zip(expected["time"].map(pd.Timestamp.isoformat), expected["symbol"], expected["signal"], strict=True)
    assert ours == sorted(theirs)
    assert len(ours) == 14
