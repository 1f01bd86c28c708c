"""Every planted cheat is caught by the guard that the table names, and no honest strategy is accused."""

import json
from pathlib import Path

import pandas as pd
import pytest
from cheats import CHEATS, FOUND_BY, REFUSED, read_world, write_world
from conftest import NOW, REPO
from honest import HONEST

from finsignal.checking import check_run
from finsignal.checking.guards import GUARDS, KINDS, NOTHING, to_text
from finsignal.config import read_run
from finsignal.errors import ManifestError
from finsignal.sentiment import labelled as lab
from finsignal.study import Request, Study, verify_run, write_study
from finsignal.study.manifest import digest_files
from finsignal.study.trials import list_trials
from finsignal.study.verify import find_file_changes
from finsignal.tables import INSTANT, LABELLED

ROWS = {row.cheat: row for row in GUARDS}
# Some at every start of the tests, each a few seconds; all of them in the slow ones.
SOON = (
    *("the next bar's return", "an end of the process that asks", "the price file read again"),
    "rows remembered from an earlier question",
)
SOON_HONEST = ("the return's rank at its instant",)
ELSEWHERE = {  # cheats that are planted below, or in the tests of another part
    "a result altered after the run",
    "data, strategy or model changed after the run",
    "a manifest written by hand",
    "tries that are kept quiet",
    "texts of the validation set in training",
}


def mark(names: dict, soon: tuple[str, ...]) -> list:
    return [name if name in soon else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", mark(CHEATS, SOON))
def test_a_planted_cheat_is_found_and_its_place_named(tmp_path: Path, name: str) -> None:
    cheat = CHEATS[name]
    assert ROWS[cheat.row].guard == "check"
    found = check_run(cheat.plant(tmp_path), instants=4)
    assert found.findings, "not found"
    first = found.findings[0]
    assert first.said
    if cheat.place:
        assert first.column
        assert first.symbol in ("AAA", "BBB", "CCC")
        assert first.instant is not None
    assert {part.name for part in found.parts if part.state == "failed"} & set(FOUND_BY[cheat.row])


@pytest.mark.parametrize("name", mark(HONEST, SOON_HONEST))
def test_an_honest_strategy_is_not_accused(tmp_path: Path, name: str) -> None:
    found = check_run(HONEST[name](tmp_path), instants=4)
    assert found.findings == ()
    assert "failed" not in {part.state for part in found.parts}


@pytest.mark.parametrize("name", REFUSED)
def test_a_planted_cheat_is_refused(tmp_path: Path, name: str) -> None:
    cheat = REFUSED[name]
    assert ROWS[cheat.row].guard in ("contract", "clock", "trial registry")
    with pytest.raises(cheat.error, match=cheat.words):
        cheat.act(tmp_path)


def test_an_altered_result_and_its_manifest_are_found_out(tmp_path: Path, tiny_study: Study) -> None:
    folder = write_study(tiny_study, tmp_path / "run")
    curve = pd.read_parquet(folder / "equity.parquet")
    curve.assign(equity=curve["equity"] * 2).to_parquet(folder / "equity.parquet", index=False)
    with pytest.raises(ManifestError, match=r"equity\.parquet of the folder was altered"):
        verify_run(folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["equity.parquet"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ManifestError, match="was altered, so it proves nothing"):
        verify_run(folder)


def test_another_strategy_or_other_data_after_the_run_is_named(tmp_path: Path) -> None:
    request = Request(read_run(write_world(tmp_path)), NOW)
    before = digest_files(request)
    for name in ("strategy.py", "prices.csv"):
        path = tmp_path / name
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        (sentence,) = find_file_changes(before, digest_files(request))
        assert f"{name} changed" in sentence
        before = digest_files(request)


def test_every_setting_that_was_tried_is_counted(tiny_study: Study) -> None:
    trials = list_trials(tiny_study, now=NOW)
    assert sorted(trials["kind"]) == ["run", "setting", "setting"]  # two thresholds, though one was chosen


def test_validation_texts_in_training_are_named() -> None:
    time = pd.Series([pd.Timestamp("2020-01-01", tz="UTC")] * 3).astype(INSTANT)
    texts = pd.Series(["Alder soars", "Birch slumps", "Cedar meets"], dtype="str")
    labels = pd.Series(["positive", "negative", "neutral"], dtype="str")
    table = LABELLED.to_table(pd.DataFrame({"text": texts, "label": labels, "time": time, "source": "a", "target": ""}))
    found = lab.audit({"train": table, "validation": table.iloc[[1]].reset_index(drop=True)})
    assert found["between_sets"][0]["shared_texts"] == 1


# --- the table -------------------------------------------------------------------------------------------------------


def test_every_row_of_the_table_has_a_cheat_that_it_caught() -> None:
    planted = {cheat.row for cheat in CHEATS.values()} | {cheat.row for cheat in REFUSED.values()} | ELSEWHERE
    assert planted == {row.cheat for row in GUARDS if row.guard != NOTHING}


def test_there_are_enough_cheats_of_enough_kinds() -> None:
    assert len(CHEATS) + len(REFUSED) >= 20
    assert len({cheat.row for cheat in CHEATS.values()}) >= 10
    assert len(HONEST) >= 20


def test_the_table_names_every_guard_and_what_none_catches() -> None:
    assert {row.guard for row in GUARDS} == set(KINDS)
    assert len(ROWS) == len(GUARDS) >= 25
    lines = to_text().splitlines()
    assert lines[2].startswith("| a column of forward returns among the features | contract |")
    assert len(lines) == len(GUARDS) + 2
    assert sum(f"| {NOTHING} |" in line for line in lines) >= 5


def test_the_readme_has_the_table() -> None:
    assert to_text() in (REPO / "README.md").read_text(encoding="utf-8")


def test_the_world_itself_is_honest(tmp_path: Path) -> None:
    # If the world that cheats are planted in were accused, every cheat would seem to be found.
    assert check_run(read_world(write_world(tmp_path)), instants=4).findings == ()
