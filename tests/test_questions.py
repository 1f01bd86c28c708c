"""The questions of evidence asked of whole runs: their answers, the verdict, and what too little data gives."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import WordModel

from finsignal.config import RunFile
from finsignal.evidence.answers import UNITS
from finsignal.study import Inputs, Study, run_study, verify_run, write_study
from finsignal.study.questions import add_evidence, is_unseen

KEYS = ["luck", "news", "search", "tradable", "predicts", "lasts"]


def judge(run: RunFile, inputs: Inputs, sentiment: pd.DataFrame, words: WordModel, **changes: Any) -> Study:
    """The run with its evidence, over its own trials, from few draws."""
    study = run_study(replace(run, random_entries=0, **changes), inputs, {"words": sentiment}, models={"words": words})
    return add_evidence(study, draws=19)


def list_figures(study: Study) -> dict[str, dict[str, Any]]:
    return {f"{a['key']}.{f['key']}": f for a in study.summary["evidence"]["answers"] for f in a["figures"]}


@pytest.fixture(scope="module")
def judged(tiny_run: RunFile, tiny_inputs: Inputs, tiny_sentiment: pd.DataFrame, words: WordModel) -> Study:
    return judge(tiny_run, tiny_inputs, tiny_sentiment, words)


def test_every_question_has_an_answer_and_every_figure_its_number_of_observations(judged: Study) -> None:
    answers = judged.summary["evidence"]["answers"]
    assert [answer["key"] for answer in answers] == KEYS
    for name, figure in list_figures(judged).items():
        assert figure["n"] >= 0, name
        assert figure["of"], name
        assert figure["unit"] in UNITS, name
        assert (figure["value"] is None) == bool(figure["needs"]), name
    assert all(answer["said"].endswith((".", "?")) for answer in answers)


def test_three_days_are_too_few_and_each_figure_says_what_it_needs(judged: Study) -> None:
    figures = list_figures(judged)
    for name in ("luck.sharpe", "luck.net_return", "luck.max_drawdown", "lasts.bull"):
        assert figures[name]["value"] is None, name
        assert "days" in figures[name]["needs"], name
    assert judged.summary["evidence"]["verdict"]["word"] == "cannot tell"
    assert "closed trades" in judged.summary["evidence"]["verdict"]["facts"][0]
    assert judged.summary["verdict"]["word"] == "cannot tell"


def test_the_evidence_is_plain_json_and_the_same_every_time(
    judged: Study, tiny_run, tiny_inputs, tiny_sentiment, words
):
    again = judge(tiny_run, tiny_inputs, tiny_sentiment, words)
    text = json.dumps(judged.summary["evidence"], allow_nan=False)
    assert json.dumps(again.summary["evidence"], allow_nan=False) == text


def test_no_trade_is_no_figure_and_no_error(tiny_run, tiny_inputs, tiny_sentiment, words):
    study = judge(tiny_run, tiny_inputs, tiny_sentiment, words, search={"buy_threshold": (0.999,)})
    assert study.summary["performance"]["trades"] == 0
    figures = list_figures(study)
    for name in ("luck.shifted", "luck.flipped", "luck.random_entries", "tradable.break_even_cost"):
        assert figures[name]["value"] is None, name
        assert figures[name]["needs"], name
    assert study.summary["evidence"]["verdict"]["word"] == "cannot tell"


def test_prices_that_never_move_are_no_error(tiny_run, tiny_inputs, tiny_sentiment, words):
    flat = tiny_inputs.prices.assign(open=100.0, high=100.0, low=100.0, close=100.0)
    study = judge(tiny_run, replace(tiny_inputs, prices=flat), tiny_sentiment, words)
    assert study.summary["evidence"]["verdict"]["word"] in ("cannot tell", "not real")
    assert list_figures(study)["predicts.ic"]["value"] is None


def test_one_symbol_has_no_news_of_others_to_be_given(tiny_run, tiny_inputs, tiny_sentiment, words):
    alone = replace(
        tiny_inputs,
        **{
            name: getattr(tiny_inputs, name).query("symbol == 'AAA'").reset_index(drop=True)
            for name in ("prices", "news")
        },
    )
    study = judge(tiny_run, alone, tiny_sentiment, words, symbols=("AAA",), names={})
    figure = list_figures(study)["luck.shuffled"]
    assert figure["value"] is None
    assert "symbols" in figure["needs"]


def test_whether_the_test_was_seen_is_asked_of_its_first_bar_and_not_of_the_run(
    judged: Study, new_model: Callable[..., WordModel]
) -> None:
    case = judged.case  # the run begins on 2 March, its test on 4 March
    assert is_unseen(case)
    assert is_unseen(replace(case, model=new_model(trained_until="2026-03-03")))
    assert not is_unseen(replace(case, model=new_model(trained_until="2026-03-06")))
    assert is_unseen(replace(case, model=None)) is None
    stated = replace(case.run, scores_until="2026-01-01")
    assert is_unseen(replace(case, model=None, run=stated))


@pytest.mark.slow
def test_a_run_folder_with_evidence_keeps_its_trials_and_comes_out_again(
    run_cli: Callable[..., tuple[int, str, str]], tiny_copy: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    code, out, err = run_cli("evidence", tiny_copy / "run.toml", "--out", folder)
    assert (code, out.count("tiny: CANNOT TELL")) == (0, 1), err
    assert len(pd.read_parquet(folder / "trials.parquet")) == 3
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert [answer["key"] for answer in summary["evidence"]["answers"]] == [*KEYS, "check"]
    assert [test["passed"] for test in summary["evidence"]["verdict"]["tests"] if test["key"] == "looked_ahead"] == [
        True
    ]
    run_cli(
        "backtest", tiny_copy / "run.toml", "--out", tmp_path / "later"
    )  # more trials do not change what was judged
    assert "trials.parquet" in verify_run(folder).files


def test_the_page_of_a_judged_run_asks_the_questions(judged: Study, tmp_path: Path) -> None:
    page = (write_study(judged, tmp_path / "run") / "report.html").read_text(encoding="utf-8")
    assert "Could it be luck?" in page
    assert "Does it last?" in page


@pytest.mark.slow
def test_a_strategy_that_knows_the_next_bar_is_not_real_and_the_page_says_where(
    run_cli: Callable[..., tuple[int, str, str]], tiny_copy: Path, tmp_path: Path
) -> None:
    (tiny_copy / "cheat.py").write_text(
        "from finsignal import to_signal\n\n\n"
        "def strategy(features, *, buy_threshold=0.2, sell_threshold=0.2, min_texts=1):\n"
        "    to_come = features.groupby('symbol')['ret_1'].shift(-2)\n"
        "    return to_signal((to_come * 50).clip(-1, 1), to_come.abs() * 0 + 1, buy_threshold=buy_threshold,\n"
        "                     sell_threshold=sell_threshold, confidence_threshold=0.0)\n",
        encoding="utf-8",
    )
    run = tiny_copy / "run.toml"
    text = run.read_text(encoding="utf-8")
    run.write_text(re.sub(r"^strategy = .*$", 'strategy = "cheat.py"', text, flags=re.MULTILINE), encoding="utf-8")
    code, out, err = run_cli("evidence", run, "--out", tmp_path / "run", "--json")
    assert code == 0, err
    found = json.loads(out)["evidence"]
    assert found["verdict"]["word"] == "not real"
    assert found["verdict"]["facts"][0] == "It looks ahead: finsignal check says where."
    assert "score" in found["answers"][-1]["said"]


def test_a_day_of_bars_is_too_little_for_every_question_and_no_error(
    run_cli: Callable[..., tuple[int, str, str]], tiny_copy: Path, tmp_path: Path
) -> None:
    run = tiny_copy / "run.toml"
    text = run.read_text(encoding="utf-8").replace('end = "2026-03-07"', 'end = "2026-03-03"')
    for section in ("search", "split"):
        text = re.sub(rf"\[{section}\]\n(?:.+\n)+", "", text)
    run.write_text(text, encoding="utf-8")
    code, out, err = run_cli("evidence", run, "--out", tmp_path / "run", "--json")
    assert code == 0, err
    found = json.loads(out)["evidence"]
    assert found["verdict"]["word"] == "cannot tell"
    assert found["answers"][-1]["figures"][0]["needs"] == "30 bars; there are 24"
    assert not any(f["value"] for a in found["answers"] for f in a["figures"] if f["unit"] in ("ratio", "p"))
