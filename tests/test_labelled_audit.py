"""The audit: what it counts on sets made for it, and that near repeats are all of them and no others."""

import itertools
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finsignal.cli import main
from finsignal.errors import TableError
from finsignal.sentiment import labelled as lab
from finsignal.sentiment.labelled.near_texts import near_pairs
from finsignal.tables import INSTANT, LABELLED

Row = tuple[str, str, str]  # text, target, label


def make_rows(rows: list[Row], source: str = "made") -> pd.DataFrame:
    return LABELLED.to_table(
        pd.DataFrame(
            {
                "text": pd.Series([text for text, _, _ in rows], dtype="str"),
                "label": pd.Series([label for _, _, label in rows], dtype="str"),
                "time": pd.Series([pd.Timestamp("2023-01-01", tz="UTC")] * len(rows), dtype=INSTANT),
                "source": pd.Series([source] * len(rows), dtype="str"),
                "target": pd.Series([target for _, target, _ in rows], dtype="str"),
            }
        )
    )


def test_the_published_split_of_the_kaggle_set_is_found_out(shared: Path) -> None:
    folder = shared / "kaggle5842"
    paths = [folder / name for name in ("data.csv", "train_dataset.jsonl", "val_dataset.jsonl")]
    found = lab.audit({path.stem: lab.read_any_labelled(path)[0] for path in paths})
    whole = found["sets"]["data"]
    assert (whole["contradicting_texts"], whole["contradicting_rows"]) == (514, 1028)
    assert whole["contradictions"][0]["labels"] == {"negative": 1, "neutral": 1}
    train, validation = found["sets"]["train_dataset"], found["sets"]["val_dataset"]
    assert (train["rows"], validation["rows"]) == (5257, 585)
    pair = found["between_sets"][2]
    assert (pair["first"], pair["second"]) == ("train_dataset", "val_dataset")
    assert (pair["shared_texts"], pair["second_rows"], pair["second_other_label"]) == (94, 94, 90)


def test_one_set_is_described() -> None:
    rows = [
        ("Acme up", "", "positive"),
        ("ACME up!", "", "positive"),  # the first again
        ("Beta flat today", "", "neutral"),
        ("Beta, flat today", "", "negative"),  # contradicts the row above
        ("Gamma beats Delta in a long text of ten words", "Gamma", "positive"),
        ("Gamma beats Delta in a long text of ten words", "Delta", "negative"),  # another target: no contradiction
        ("Gamma beats Delta in a long text of nine words", "Delta", "negative"),  # 9 of 11 words
        ("🚀", "", "neutral"),
    ]
    found = lab.audit({"mine": make_rows(rows)})["sets"]["mine"]
    assert found["rows"] == 8
    assert found["empty"] == 1
    assert found["with_target"] == 3
    assert found["labels"] == {"negative": 3, "neutral": 2, "positive": 3}
    assert found["sources"] == {"made": 8}
    assert found["words"] == {"min": 1, "median": 3, "p95": 10, "max": 10}
    assert found["repeated_rows"] == 1
    assert found["near_repeats"] == 2
    assert found["near_examples"][0] == [rows[4][0], rows[6][0]]
    assert (found["contradicting_texts"], found["contradicting_rows"]) == (1, 2)
    assert found["contradictions"] == [
        {"text": "Beta flat today", "target": "", "labels": {"negative": 1, "neutral": 1}}
    ]


def test_two_sets_are_compared_by_text_and_their_labels_by_target() -> None:
    train = make_rows(
        [
            ("Acme up", "", "positive"),
            ("Acme sues Beta", "Beta", "negative"),
            ("one two three", "", "neutral"),
            ("🚀", "", "positive"),  # two texts without a word are not one text
        ]
    )
    test = make_rows(
        [
            ("acme UP", "", "neutral"),  # the same text, another label
            ("Acme sues Beta", "Acme", "neutral"),  # the same text, about another company
            ("Acme sues Beta", "Beta", "negative"),
            ("one two three four", "", "neutral"),  # near at 0.75
            ("nothing alike", "", "neutral"),
            ("...", "", "neutral"),
        ],
        source="other",
    )
    found = lab.audit({"train": train, "test": test}, near=0.75)
    (pair,) = found["between_sets"]
    assert (pair["shared_texts"], pair["first_rows"], pair["second_rows"]) == (2, 2, 3)
    assert pair["second_other_label"] == 1
    assert pair["other_label_examples"] == [
        {"text": "acme UP", "target": "", "first": ["positive"], "second": "neutral"}
    ]
    assert pair["near_texts"] == 1
    assert pair["near_examples"] == [["one two three", "one two three four"]]
    (sources,) = found["between_sources"]
    assert (sources["first"], sources["second"]) == ("made", "other")
    assert sources["shared_texts"] == 2
    assert lab.audit({"train": train, "test": test}, near=0.76)["between_sets"][0]["near_texts"] == 0


def test_an_audit_is_json_also_of_nothing() -> None:
    found = lab.audit({"none": LABELLED.empty(), "one": make_rows([("a", "", "neutral")])})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["sets"]["none"]["words"] == {"min": None, "median": None, "p95": None, "max": None}
    assert lab.audit({})["sets"] == {}
    with pytest.raises(TableError, match="near is 0"):
        lab.audit({"none": LABELLED.empty()}, near=0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=7), max_size=25),
    st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_near_pairs_are_those_of_the_definition(texts: list[list[str]], near: float) -> None:
    def jaccard(one: int, other: int) -> float:
        a, b = set(texts[one]), set(texts[other])
        return len(a & b) / len(a | b)

    expected = {pair for pair in itertools.combinations(range(len(texts)), 2) if jaccard(*pair) >= near - 1e-9}
    found = [tuple(sorted(pair)) for pair in near_pairs(texts, near=near)]
    assert set(found) == expected
    assert len(found) == len(expected)


def test_the_verb_prints_a_page_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("text,label\nAcme up,bullish\nBeta down,bearish\nbeta down,bullish\n", encoding="utf-8")
    test.write_text("text,label\nACME up,bearish\n", encoding="utf-8")
    maps = ["--label-map", "bullish=positive", "--label-map", "bearish=negative"]
    assert main(["data", "audit", str(train), str(test), *maps]) == 0
    page = capsys.readouterr().out
    assert "3 rows: 1 negative, 0 neutral, 2 positive; 0 without a word" in page
    assert "contradictions: 1 texts, 2 rows\n    1 negative, 1 positive: Beta down" in page
    assert "1 texts stand in both: 1 rows of the first, 1 of the second, 1 of these with another label" in page
    assert main(["data", "audit", str(train), str(test), *maps, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["between_sets"][0]["second_other_label"] == 1


def test_the_verb_reads_a_published_set_by_its_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "Sentences_50Agree.txt"
    path.write_bytes(b"Sales rose .@positive\nSales fell .@negative\n")
    assert main(["data", "audit", f"phrasebank={path}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sets"][f"phrasebank={path}"]["rows"] == 2
    assert main(["data", "audit", str(path)]) == 1
    assert "labelled text is read from .csv, .jsonl or .parquet, not '.txt'" in capsys.readouterr().err
    assert main(["data", "audit", f"phrasebank={path}", f"phrasebank={path}"]) == 1
    assert "is given twice" in capsys.readouterr().err
