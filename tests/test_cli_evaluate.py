"""`finsignal evaluate`: models beside each other from files, with floors and runs; bad input is one sentence."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Cli

from finsignal.study import Study, write_study

ROWS = [("it soars", "positive"), ("it slumps", "negative"), ("it meets", "neutral")]


def write_rows(path: Path, rows: list[tuple[str, str]] = ROWS * 4, **columns: Any) -> Path:
    pd.DataFrame(rows, columns=["text", "label"]).assign(**columns).to_csv(path, index=False)
    return path


def evaluate(run_cli: Cli, *arguments: object) -> dict[str, Any]:
    code, out, err = run_cli("evaluate", *arguments, "--bootstrap", "20", "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_files_are_one_set_whose_sources_are_slices_and_floors_stand_beside(run_cli: Cli, tmp_path: Path) -> None:
    one, two = write_rows(tmp_path / "one.csv"), write_rows(tmp_path / "two.csv", ROWS[:1] * 3)
    floor = write_rows(tmp_path / "floor.csv", ROWS * 3)
    found = evaluate(run_cli, "default", "--data", one, "--data", two, "--floor", floor)
    assert [model["name"] for model in found["models"]] == ["words@0", "TF-IDF + LR", "majority"]
    assert found["name"] == "one, two"
    assert found["data"]["sources"] == {"one": 12, "two": 3}
    assert [(f["path"], f["counts"]["read"]) for f in found["files"]] == [("one.csv", 12), ("two.csv", 3)]
    assert all(len(file["sha256"]) == 64 for file in found["files"])
    assert found["floor_rows"] == 9
    by_source = {s["name"]: s["accuracy"]["value"] for s in found["models"][0]["slices"] if s["by"] == "source"}
    assert by_source == {"one": 1.0, "two": 1.0}


def test_targets_come_from_their_column(run_cli: Cli, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv", [(f"Acme, {text}", label) for text, label in ROWS], about="Acme")
    found = evaluate(run_cli, "default", "--data", path, "--target-column", "about")
    assert found["data"]["with_target"] == 3
    masked = next(c for c in found["models"][0]["robustness"] if c["name"] == "names masked")
    assert masked["example"] == ["Acme, it soars", "the company, it soars"]


def test_out_holds_the_page_and_the_figures_printed(run_cli: Cli, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv")
    out = tmp_path / "deep" / "out"
    found = evaluate(run_cli, "default", "--data", path, "--out", out, "--robustness", "0", "--name", "mine")
    assert json.loads((out / "evaluation.json").read_text("utf-8")) == found
    assert "How good is words on mine?" in (out / "evaluation.html").read_text("utf-8")
    assert found["models"][0]["robustness"] == []
    code, text, _ = run_cli("evaluate", "default", "--data", path, "--out", out)
    assert code == 0
    assert text.endswith(f"\n{out / 'evaluation.html'}\n")


def test_trading_figures_of_a_run_with_the_same_model_stand_beside(
    run_cli: Cli, tmp_path: Path, tiny_study: Study
) -> None:
    path, run = write_rows(tmp_path / "rows.csv"), write_study(tiny_study, tmp_path / "run")
    trading = evaluate(run_cli, "default", "--data", path, "--run", run)["models"][0]["trading"]
    assert trading["performance"] == json.loads((run / "summary.json").read_text("utf-8"))["performance"]
    assert trading["name"] == "tiny"
    assert trading["buy_and_hold"] is not None


def test_a_run_of_another_model_is_refused_and_so_is_an_altered_one(
    run_cli: Cli, tmp_path: Path, tiny_study: Study, monkeypatch: pytest.MonkeyPatch, new_model: Any
) -> None:
    path, run = write_rows(tmp_path / "rows.csv"), write_study(tiny_study, tmp_path / "run")
    code, _, err = run_cli("evaluate", "default", "--data", path, "--run", run, "--run", run)
    assert code == 1
    assert "a second run of words@0" in err

    from dataclasses import replace

    from finsignal.sentiment import score

    # The same name over other weights: the name alone would let it pass.
    other = replace(new_model(), digest="0" * 64)
    with monkeypatch.context() as patch:
        patch.setattr(score, "load_model", lambda folder=None: other)
        code, _, err = run_cli("evaluate", "default", "--data", path, "--run", run)
    assert code == 1
    assert "was made with words@0 (no digest); the models here are words@0" in err
    summary = (run / "summary.json").read_text("utf-8")
    (run / "summary.json").write_text(summary.replace('"net_return": ', '"net_return": 9'), encoding="utf-8")
    code, _, err = run_cli("evaluate", "default", "--data", path, "--run", run)
    assert code == 1
    assert "summary.json: was altered or is missing" in err


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        ([("it soars", "up")], (), "labels ['up'] are unknown"),
        ([], (), "no rows to evaluate on"),
        (ROWS, ("default",), "words@0 was given twice"),
        (ROWS, ("--run", "nowhere"), "nowhere: no such run folder"),
        (ROWS, ("--run", "."), "is no run folder"),
        (ROWS, ("--floor", "one.csv"), "the training rows have the labels ['positive'] alone"),
        (ROWS, ("--floor", "none.csv"), "none.csv: could not be read"),
        (ROWS, ("--bootstrap", "0"), "--bootstrap is 0; expected 1 or more"),
        (ROWS, ("--robustness", "-1"), "--robustness is -1; expected 0 or more"),
        (ROWS, ("--format", "tnfs"), "no reader 'tnfs'"),
        (ROWS, ("--target-column", "about"), "no column 'about'"),
        (ROWS, ("--model-label-map", "LABEL_0"), "--model-label-map: expected KEY=VALUE"),
        (ROWS, ("--out", "."), "was not written by this command"),
        (ROWS, ("./nothing",), "no such model folder"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    run_cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[tuple[str, str]],
    more: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.csv", rows)
    write_rows(tmp_path / "one.csv", ROWS[:1] * 3)
    before = sorted(path.name for path in tmp_path.iterdir())
    models = [name for name in more if not name.startswith("--")] if more and not more[0].startswith("--") else []
    options = [] if models else list(more)
    out = [] if "--out" in options else ["--out", "out"]
    code, stdout, err = run_cli("evaluate", "default", *models, "--data", "rows.csv", *options, *out)
    assert (code, stdout) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_folder_that_cannot_be_written_to_is_told_before_the_minutes_that_a_model_takes(
    run_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finsignal.sentiment import score

    def load(folder: Any = None) -> Any:
        raise AssertionError("the model was loaded first")

    monkeypatch.setattr(score, "load_model", load)
    (tmp_path / "letter.txt").write_text("dear")
    code, _, err = run_cli("evaluate", "default", "--data", write_rows(tmp_path / "rows.csv"), "--out", tmp_path)
    assert code == 1
    assert "was not written by this command" in err


def test_a_published_classifier_is_loaded_by_its_name_with_its_own_label_map(
    run_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Any
) -> None:
    from dataclasses import replace

    from finsignal.sentiment import classifiers

    asked: list[tuple[str, Any]] = []

    def load(name: str, *, label_map: Any = None) -> Any:
        asked.append((name, label_map))
        return replace(words, name=f"{name}@1")

    monkeypatch.setattr(classifiers, "load_classifier", load)
    monkeypatch.chdir(tmp_path)
    Path("bert").mkdir()
    Path("bert/config.json").write_text("{}")
    path = write_rows(tmp_path / "rows.csv")
    found = evaluate(run_cli, "default", "ORG/finbert", "bert", "--data", path, "--model-label-map", "LABEL_0=negative")
    assert asked == [("ORG/finbert", {"LABEL_0": "negative"}), ("bert", {"LABEL_0": "negative"})]
    assert [model["name"] for model in found["models"]] == ["words@0", "ORG/finbert@1", "bert@1"]


def test_a_format_is_that_of_the_data_and_the_floor_has_its_own(run_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "valid.csv").write_text("text,label\nAlder soars,1\nBirch slumps,0\nCedar meets,2\n")
    floor = write_rows(tmp_path / "floor.csv", ROWS * 3)
    by_option = evaluate(run_cli, "default", "--data", tmp_path / "valid.csv", "--format", "tfns", "--floor", floor)
    by_name = evaluate(run_cli, "default", "--data", f"tfns={tmp_path / 'valid.csv'}", "--floor", floor)
    assert by_option["models"] == by_name["models"]
    assert by_option["floor_rows"] == 9
    assert by_name["name"] == "valid"
