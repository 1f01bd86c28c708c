"""Files and folders appear whole or not at all, and nothing that another wrote is replaced."""

from pathlib import Path

import pytest

from finsignal.errors import SourceError
from finsignal.writing import check_replaceable, whole_file, whole_folder


class Stop(Exception):
    """A failure in the middle of writing."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.csv"
    with whole_file(path) as work:
        assert work.suffix == ".csv"
        work.write_text("a")
        assert not path.exists()
    assert path.read_text() == "a"
    assert names(path.parent) == ["rows.csv"]


def test_a_failure_leaves_the_older_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("old")

    def write() -> None:
        with whole_file(path) as work:
            work.write_text("half")
            raise Stop

    with pytest.raises(Stop):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["rows.csv"]


def test_a_folder_where_a_file_should_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").mkdir()

    def write() -> None:
        with whole_file(tmp_path / "rows.csv") as work:
            work.write_text("a")

    with pytest.raises(SourceError, match=r"rows\.csv: cannot be written"):
        write()
    assert names(tmp_path) == ["rows.csv"]


@pytest.mark.parametrize("write", [whole_file, lambda path: whole_folder(path, mark="m")])
def test_a_file_where_the_parent_should_be_is_one_sentence(tmp_path: Path, write) -> None:
    (tmp_path / "taken").write_text("a file")

    def run() -> None:
        with write(tmp_path / "taken" / "below"):
            pass

    with pytest.raises(SourceError, match="cannot be written"):
        run()
    assert names(tmp_path) == ["taken"]


def test_a_folder_appears_whole_and_replaces_an_older_one_of_its_kind(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    for content in ("first", "second"):
        with whole_folder(folder, mark="summary.json") as work:
            (work / "summary.json").write_text(content)
            (work / content).write_text("")
            assert not (folder / content).exists()
    assert names(folder) == ["second", "summary.json"]
    assert names(tmp_path / "runs") == ["one"]


def test_a_failure_leaves_the_older_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    with whole_folder(folder, mark="summary.json") as work:
        (work / "summary.json").write_text("old")

    def write() -> None:
        with whole_folder(folder, mark="summary.json") as work:
            (work / "summary.json").write_text("half")
            raise Stop

    with pytest.raises(Stop):
        write()
    assert (folder / "summary.json").read_text() == "old"
    assert names(tmp_path) == ["one"]


def test_a_folder_or_file_of_another_kind_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    (tmp_path / "file").write_text("text")

    def write(path: Path) -> None:
        with whole_folder(path, mark="summary.json"):
            pytest.fail("nothing may be computed for a folder that cannot be written")

    for name in ("photos", "file"):
        with pytest.raises(SourceError, match=r"was not written by this command \(no summary.json\)"):
            write(tmp_path / name)
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "cat"
    assert names(tmp_path) == ["file", "photos"]


def test_an_empty_or_absent_folder_may_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        check_replaceable(tmp_path / name, mark="summary.json")
        with whole_folder(tmp_path / name, mark="summary.json") as work:
            (work / "summary.json").write_text("{}")
        assert names(tmp_path / name) == ["summary.json"]
