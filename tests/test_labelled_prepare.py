"""Preparing labelled files: two sides that share no text, written whole or not at all, and refusals that say why."""

import json
from pathlib import Path

import pandas as pd
import pytest

from finsignal.cli import main
from finsignal.errors import SourceError, TableError
from finsignal.sentiment import labelled as lab
from finsignal.sentiment.prompt import normalise
from finsignal.tables import INSTANT, LABELLED

LABELS = ("negative", "neutral", "positive")


def make_rows(texts: list[str], labels: list[str], days: list[str] | None = None) -> pd.DataFrame:
    stamps = days or ["2023-01-01"] * len(texts)
    return LABELLED.to_table(
        pd.DataFrame(
            {
                "text": pd.Series(texts, dtype="str"),
                "label": pd.Series(labels, dtype="str"),
                "time": pd.Series([pd.Timestamp(stamp, tz="UTC") for stamp in stamps], dtype=INSTANT),
                "source": pd.Series(["made"] * len(texts), dtype="str"),
                "target": pd.Series([""] * len(texts), dtype="str"),
            }
        )
    )


def make_many(count: int = 60) -> pd.DataFrame:
    return make_rows([f"text {n}" for n in range(count)], [LABELS[n % 3] for n in range(count)])


def write_many(path: Path, *, count: int = 60) -> Path:
    make_many(count)[["text", "label"]].to_csv(path, index=False)
    return path


# --- the function -----------------------------------------------------------------------------------------------------


def test_texts_are_cleaned_lightly_and_every_row_is_accounted_for() -> None:
    rows = make_many()
    extra = make_rows(
        ["Profit  UP 3%\n https://t.co/x $ACME", "text 0", "TEXT 1!", "..."],
        ["positive", "positive", "neutral", "neutral"],
    )
    done = lab.prepare(pd.concat([rows, extra], ignore_index=True), share=0.2, seed=1)
    assert done.counts == {
        "read": 64, "empty": 1, "contradicting": 2, "repeated": 1, "kept": 60,
        "train": len(done.train), "validation": len(done.validation),
    }  # fmt: skip
    assert len(done.train) + len(done.validation) == 60
    texts = {*done.train["text"], *done.validation["text"]}
    assert "Profit UP 3% $ACME" in texts
    assert "text 0" not in texts  # negative there, positive in the extra rows


def test_rows_of_one_text_with_two_targets_stay_on_one_side() -> None:
    rows = pd.concat([make_many(), make_many()], ignore_index=True)
    rows["target"] = pd.Series(["Acme"] * 60 + ["Beta"] * 60, dtype="str")
    done = lab.prepare(rows, share=0.3, seed=2)
    assert done.counts["kept"] == 120
    assert not set(done.train["text"].map(normalise)) & set(done.validation["text"].map(normalise))


def test_a_split_by_time_holds_back_what_came_later_and_had_not_been_said_before() -> None:
    rows = make_rows(
        ["old up", "old down", "new up", "OLD down", "new down"],
        ["positive", "negative", "positive", "negative", "negative"],
        ["2023-01-01", "2023-01-02", "2023-06-01", "2023-06-02", "2023-06-03"],
    )
    train, later = lab.split_by_time(rows, at=pd.Timestamp("2023-06-01", tz="UTC"))
    assert train["text"].tolist() == ["old up", "old down"]
    assert later["text"].tolist() == ["new up", "new down"]


def test_what_comes_after_the_split_never_says_which_rows_before_it_are_learned_from() -> None:
    """A file with the newest row first: what was known before stays in train, though it is said again or denied."""
    rows = make_rows(
        ["Same news", "Denied", "Later", "Same news", "Denied", "Early"],
        ["positive", "negative", "neutral", "positive", "positive", "neutral"],
        ["2024-03-01", "2024-03-01", "2024-03-01", "2023-03-01", "2023-03-01", "2023-03-01"],
    )
    done = lab.prepare(rows, at=pd.Timestamp("2024-01-01", tz="UTC"))
    assert done.train["text"].tolist() == ["Same news", "Denied", "Early"]
    assert done.train["label"].tolist() == ["positive", "positive", "neutral"]
    assert done.validation["text"].tolist() == ["Later"]
    assert (done.counts["read"], done.counts["known_before"], done.counts["kept"]) == (6, 2, 4)


def test_a_seed_below_zero_is_refused() -> None:
    with pytest.raises(TableError, match="seed is -1; expected 0 or more"):
        lab.prepare(make_many(), seed=-1)


def test_a_label_given_two_meanings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_many(tmp_path / "many.csv")
    maps = ["--label-map", "negative=negative", "--label-map", "negative=positive"]
    assert main(["data", "prepare", str(path), *maps, "--out", str(tmp_path / "out")]) == 1
    assert "'negative' is given two values, 'negative' and 'positive'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rows_that_say_again_what_was_known_are_counted() -> None:
    rows = make_rows(["old up", "old down", "OLD down", "new"], ["positive", "negative", "neutral", "neutral"],
                     ["2023-01-01", "2023-01-02", "2023-06-02", "2023-06-03"])  # fmt: skip
    rows["target"] = pd.Series(["", "", "Acme", ""], dtype="str")
    with pytest.raises(TableError, match="no neutral row in train"):
        lab.prepare(rows, at=pd.Timestamp("2023-03-01", tz="UTC"))
    rows.loc[[2, 3], "label"] = ["negative", "positive"]
    done = lab.prepare(rows, at=pd.Timestamp("2023-03-01", tz="UTC"))
    assert (len(done.train), len(done.validation), done.counts["known_before"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (make_rows(["a", "b", "c"], ["positive"] * 3), "only 'positive' of the labels is left in 3 of 3 rows"),
        (make_rows(["a", "b", "A"], ["positive", "negative", "neutral"]), r"only 'negative'.*\(2 contradicting\)"),
        (make_rows(["a", "b", "c"], list(LABELS)), "3 rows are too few to split so: no negative and no neutral"),
        (make_rows(["...", ""], ["positive", "negative"]), r"none of the labels is left in 0 of 2 rows \(2 empty\)"),
        (LABELLED.empty(), "none of the labels is left in 0 of 0 rows"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(rows: pd.DataFrame, message: str) -> None:
    with pytest.raises(TableError, match=message):
        lab.prepare(rows, share=0.1)


def test_a_time_that_splits_nothing_off_is_refused_with_the_times_there_are() -> None:
    rows = make_many()
    with pytest.raises(TableError, match=r"on one side of the time.*run from 2023-01-01 .* to 2023-01-01"):
        lab.prepare(rows, at=pd.Timestamp("2024-01-01", tz="UTC"))
    rows["time"] = pd.Series([pd.Timestamp(0, tz="UTC")] * len(rows), dtype=INSTANT)
    with pytest.raises(TableError, match="rows without a time cannot be split by time"):
        lab.prepare(rows, at=pd.Timestamp("2024-01-01", tz="UTC"))


# --- the files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cutoff", [None, "2023-06-30"])
def test_what_is_written_reads_back_the_same(tmp_path: Path, cutoff: str | None) -> None:
    rows = lab.read_labelled(write_many(tmp_path / "mine.csv"), cutoff=cutoff)[0]
    rows.loc[rows.index[:5], "target"] = "Acme"
    done = lab.prepare(rows, share=0.2, seed=3)
    lab.write_prepared(done, tmp_path / "out", record={}, instruction=True)
    for side, table in {"train": done.train, "validation": done.validation}.items():
        back, counts = lab.read_any_labelled(tmp_path / "out" / f"{side}.jsonl")
        pd.testing.assert_frame_equal(back, table)
        assert counts == {"read": len(table), "empty": 0}
        told, _ = lab.read_any_labelled(tmp_path / "out" / f"{side}.instruction.jsonl")
        columns = ["text", "label", "target"]
        pd.testing.assert_frame_equal(told[columns], table[columns])
    lines = (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert list(json.loads(lines[0])) == ["text", "label", "time", "source", "target"]
    assert json.loads(lines[0])["time"] == (None if cutoff is None else "2023-07-01T00:00:00+00:00")


def test_a_prepared_file_may_hold_dated_and_undated_rows(tmp_path: Path) -> None:
    rows = make_many()
    rows.loc[rows.index[::2], "time"] = pd.Timestamp(0, tz="UTC")
    done = lab.prepare(rows, share=0.2)
    lab.write_prepared(done, tmp_path / "out", record={})
    back, _ = lab.read_prepared(tmp_path / "out" / "train.jsonl")
    pd.testing.assert_frame_equal(back, done.train)
    later, _ = lab.read_prepared(tmp_path / "out" / "train.jsonl", cutoff="2024-06-30")
    assert set(later["time"]) == {pd.Timestamp("2024-07-01", tz="UTC")}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    done = lab.prepare(make_many(), share=0.2)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(SourceError, match=r"no prepared\.json"):
        lab.write_prepared(done, tmp_path, record={})
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_the_verb_writes_both_sides_and_says_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_many(tmp_path / "mine.csv"), tmp_path / "out"
    with path.open("a", encoding="utf-8") as file:
        file.write("TEXT 1,neutral\ntext 2,neutral\n")
    assert main(["data", "prepare", str(path), "--out", str(out), "--share", "0.2", "--seed", "4"]) == 0
    page = capsys.readouterr().out
    assert "62 read, 0 empty" in page
    assert "62 read, 0 empty, 2 contradicting, 1 repeated, 59 kept, 47 train, 12 validation" in page
    assert sorted(child.name for child in out.iterdir()) == ["prepared.json", "train.jsonl", "validation.jsonl"]
    record = json.loads((out / "prepared.json").read_text(encoding="utf-8"))
    assert record["split"] == {"share": 0.2, "seed": 4}
    assert main(["data", "prepare", str(path), "--out", str(out), "--instruction", "--json"]) == 0  # replaces its own
    assert json.loads(capsys.readouterr().out)["counts"]["kept"] == 59
    assert len(list(out.iterdir())) == 5


def test_the_verb_splits_by_time_with_zones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.csv"
    rows = [f"text {n},{LABELS[n % 3]},2023-01-{n // 3 + 1:02}T00:00+02:00" for n in range(30)]
    path.write_text("text,label,posted\n" + "\n".join(rows) + "\n", encoding="utf-8")
    command = ["data", "prepare", str(path), "--time-column", "posted", "--out", str(tmp_path / "out"), "--json"]
    assert main([*command, "--at", "2023-01-09T22:00Z"]) == 0
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert (counts["train"], counts["validation"]) == (27, 3)
    assert main([*command, "--at", "2023-01-09"]) == 1
    assert "has no zone" in capsys.readouterr().err
    assert main([*command, "--at", "2023-01-09T22:00Z", "--share", "0.2"]) == 1
    assert "--at splits by time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,label\na,positive\nb,positive\nc,positive\n", "only 'positive' of the labels"),
        (b"text,label\na,positive\nb,negative\nc,neutral\n", "too few to split"),
        (b"text,label\na,bullish\nb,bearish\n", "--label-map bearish=negative --label-map bullish=positive"),
        (b"text,label\nFran\xe7ais,positive\n", "is not UTF-8"),
        (b"headline,label\na,positive\n", "no column 'text'"),
        (b"text,label\n,positive\n,negative\n", "none of the labels is left"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    assert main(["data", "prepare", str(path), "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert [child.name for child in tmp_path.iterdir()] == ["mine.csv"]
