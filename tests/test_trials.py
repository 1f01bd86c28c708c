"""The trial registry: every setting tried for a question is counted, by itself, and once."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finsignal.config import read_run
from finsignal.errors import ConfigError, ManifestError, SourceError
from finsignal.study import Request, run_request
from finsignal.study.trials import REGISTRY, SEAL, count_trials, list_trials, read_trials
from finsignal.tables import TRIALS

NOW = pd.Timestamp("2026-11-20", tz="UTC").as_unit("us")
SAMPLE = Path(__file__).resolve().parents[1] / "strategies" / "news_sentiment.toml"


def make_trials(*names, sharpe=0.05):
    rows = [
        {"trial": n, "kind": "setting", "settings": "{}", "sharpe": sharpe, "days": 90, "first": NOW} for n in names
    ]
    return TRIALS.to_table(pd.DataFrame(rows).astype({"first": TRIALS.columns["first"]}))


def test_a_trial_counts_once_however_often_it_is_made(tmp_path):
    assert len(count_trials(tmp_path, "apple", make_trials("a", "b"))) == 2
    every = count_trials(tmp_path, "apple", make_trials("b", "c"))
    assert sorted(every["trial"]) == ["a", "b", "c"]
    pd.testing.assert_frame_equal(read_trials(tmp_path, "apple"), every)


def test_a_trial_without_a_ratio_is_counted_all_the_same(tmp_path):
    assert np.isnan(count_trials(tmp_path, "apple", make_trials("a", sharpe=np.nan))["sharpe"].iloc[0])


def test_the_folder_of_another_study_is_refused_by_name(tmp_path):
    count_trials(tmp_path, "apple", make_trials("a"))
    with pytest.raises(ConfigError, match=r"trials of the study 'apple', not of 'crypto'\. Pass --study"):
        count_trials(tmp_path, "crypto", make_trials("b"))
    with pytest.raises(ConfigError, match="not of 'crypto'"):
        read_trials(tmp_path, "crypto")


@pytest.mark.parametrize("change", ["drop", "edit", "swap", "head", "end", "all but one", "list"])
def test_a_registry_that_was_altered_is_refused(tmp_path, change):
    count_trials(tmp_path, "apple", make_trials("a", "b", "c"))
    path = tmp_path / REGISTRY
    lines = path.read_text().splitlines()
    if change == "drop":
        del lines[2]
    elif change == "edit":
        lines[2] = json.dumps({**json.loads(lines[2]), "sharpe": 9.0}, sort_keys=True)
    elif change == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    elif change == "end":
        del lines[-1]
    elif change == "all but one":
        del lines[2:]
    elif change == "list":
        lines[1] = "[1]"
    else:
        del lines[0]
    path.write_text("\n".join(lines) + "\n")
    for touch in (lambda: count_trials(tmp_path, "apple", make_trials("d")), lambda: read_trials(tmp_path, "apple")):
        with pytest.raises(
            ManifestError, match=r"(line \d is|lines where 4 were sealed, so it is) not as it was written"
        ):
            touch()


@pytest.mark.parametrize("seal", [None, "", "{}"])
def test_a_registry_without_its_seal_is_refused(tmp_path, seal):
    count_trials(tmp_path, "apple", make_trials("a", "b", "c"))
    if seal is None:
        (tmp_path / SEAL).unlink()
    else:
        (tmp_path / SEAL).write_text(seal)
    with pytest.raises(ManifestError, match=r"trials\.seal (is gone|cannot be read), so the end is not as it was"):
        read_trials(tmp_path, "apple")


def test_a_kill_between_the_lines_and_their_seal_loses_nothing(tmp_path):
    count_trials(tmp_path, "apple", make_trials("a"))
    older = (tmp_path / SEAL).read_text()
    count_trials(tmp_path, "apple", make_trials("b"))
    (tmp_path / SEAL).write_text(older)
    assert sorted(count_trials(tmp_path, "apple", make_trials("c"))["trial"]) == ["a", "b", "c"]


def test_half_a_line_of_a_process_that_was_killed_is_no_trial(tmp_path):
    count_trials(tmp_path, "apple", make_trials("a"))
    path = tmp_path / REGISTRY
    path.write_bytes(path.read_bytes() + b'{"trial": "b", "ki')
    assert read_trials(tmp_path, "apple")["trial"].tolist() == ["a"]
    assert sorted(count_trials(tmp_path, "apple", make_trials("c"))["trial"]) == ["a", "c"]


def test_processes_that_count_at_once_lose_nothing(tmp_path):
    def count(number):
        count_trials(tmp_path, "apple", make_trials(*(f"{number}-{n}" for n in range(5))))

    threads = [threading.Thread(target=count, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_trials(tmp_path, "apple")) == 40


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="trial registry cannot be written"):
        count_trials(tmp_path / "file", "apple", make_trials("a"))
    with pytest.raises(SourceError, match="is no trial registry"):
        read_trials(tmp_path / "file", "apple")


@pytest.fixture(scope="module")
def study():
    return run_request(Request(replace(read_run(SAMPLE), random_entries=0), now=NOW))


@pytest.mark.slow
def test_every_combination_of_search_and_the_run_itself_are_trials(study):
    trials = list_trials(study, now=NOW)
    combinations = int(np.prod([len(values) for values in study.run.search.values()]))
    assert combinations > 1
    assert trials["kind"].value_counts().to_dict() == {"setting": combinations, "run": 1}
    own = trials.loc[trials["kind"] == "run"].iloc[0]
    assert own["sharpe"] * 252**0.5 == pytest.approx(study.summary["performance"]["sharpe"])
    assert own["days"] == study.summary["performance"]["days"]
    best = max(study.case.choices[0].ratios)
    assert trials.loc[trials["kind"] == "setting", "sharpe"].max() * 252**0.5 == pytest.approx(best)


@pytest.mark.slow
def test_what_changes_no_result_makes_no_new_trial_and_a_threshold_does(study):
    def digests(**changes):
        return set(list_trials(replace(study, run=replace(study.run, **changes)), now=NOW)["trial"])

    assert digests(random_entries=50, name="other") == digests()
    assert not digests(cash=5_000.0) & digests()
    assert not digests(parameters={**study.run.parameters, "min_texts": 2.0}) & digests()
    assert not digests(start="2024-01-03") & digests()
