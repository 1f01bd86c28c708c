"""Layouts and label maps: what a file's columns say it is, and labels that are read only by a meaning stated."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from finsignal.errors import SourceError, TableError
from finsignal.sentiment import labelled as lab


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path: Path, labels: list[str]) -> Path:
    pd.DataFrame({"text": [f"text {n}" for n in range(len(labels))], "label": labels}).to_csv(path, index=False)
    return path


# --- label maps -------------------------------------------------------------------------------------------------------


def test_case_and_spaces_of_labels_do_not_count(tmp_path: Path) -> None:
    table, _ = lab.read_labelled(write_csv(tmp_path / "a.csv", ["Positive", "NEUTRAL", " negative "]))
    assert table["label"].tolist() == ["positive", "neutral", "negative"]
    table, _ = lab.read_labelled(
        write_csv(tmp_path / "b.csv", ["BULLISH", "Bearish"]), label_map={"Bullish": "positive", "bearish": "negative"}
    )
    assert table["label"].tolist() == ["positive", "negative"]


@pytest.mark.parametrize("order", [("negative", "neutral", "positive"), ("neutral", "positive", "negative")])
def test_ids_in_any_order_mean_what_the_map_says(tmp_path: Path, order: tuple[str, ...]) -> None:
    label_map = {str(number): name for number, name in enumerate(order)}
    as_csv = write_csv(tmp_path / "a.csv", ["0", "1", "2"])
    as_lines = write_lines(tmp_path / "a.jsonl", [{"text": f"text {n}", "label": n} for n in range(3)])
    as_floats = tmp_path / "a.parquet"  # numbers beside a missing one, as pandas keeps them
    pd.DataFrame({"text": ["text 0", "text 1", "text 2"], "label": [0.0, 1.0, 2.0]}).to_parquet(as_floats)
    for path in (as_csv, as_lines, as_floats):
        assert lab.read_labelled(path, label_map=label_map)[0]["label"].tolist() == list(order)


def test_five_labels_become_three_by_the_map_that_the_error_shows(tmp_path: Path) -> None:
    names = ["Very Negative", "negative", "neutral", "positive", "very positive"]
    path = write_csv(tmp_path / "five.csv", names)
    with pytest.raises(TableError) as caught:
        lab.read_labelled(path)
    assert "labels ['Very Negative', 'very positive'] are unknown" in str(caught.value)
    assert "--label-map 'Very Negative=negative'" in str(caught.value)
    label_map = lab.guess_label_map(names)
    assert label_map is not None
    table, _ = lab.read_labelled(path, label_map=label_map)
    assert table["label"].tolist() == ["negative", "negative", "neutral", "positive", "positive"]


def test_numbers_and_names_without_a_plain_meaning_are_never_guessed(tmp_path: Path) -> None:
    assert lab.guess_label_map(["0", "1"]) is None
    assert lab.guess_label_map(["bullish", "mixed"]) is None
    assert lab.guess_label_map(["strong_buy", "Hold"]) == {"strong_buy": "positive", "Hold": "neutral"}
    with pytest.raises(TableError, match=r"labels \['0', '1'\] are unknown.*Labels found: \['0', '1'\]"):
        lab.read_labelled(write_csv(tmp_path / "ids.csv", ["0", "1"]))


def test_a_map_to_no_label_of_ours_or_with_two_meanings_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["up"])
    with pytest.raises(TableError, match="turns 'up' into 'good'; expected negative, neutral, positive"):
        lab.read_labelled(path, label_map={"up": "good"})
    with pytest.raises(TableError, match="gives 'UP' two meanings"):
        lab.read_labelled(path, label_map={"up": "positive", "UP": "negative"})
    with pytest.raises(TableError, match=r"labels \['up'\] are unknown; expected \['down'\]"):
        lab.read_labelled(path, label_map={"down": "negative"})


def test_a_row_without_a_label_is_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"text": "a", "label": "positive"}, {"text": "b"}])
    with pytest.raises(TableError, match="Row 1 has no label"):
        lab.read_labelled(path)


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_an_instruction_set_gives_its_inputs_and_outputs(tmp_path: Path) -> None:
    rows = [
        {"instruction": "One word.", "input": "Profit up", "output": "Positive"},
        {"instruction": "One word.", "input": "", "output": "Neutral"},
        {"instruction": "One word.", "input": "Profit down", "output": "Negative"},
    ]
    path = write_lines(tmp_path / "train.jsonl", rows)
    table, counts = lab.read_any_labelled(path, cutoff="2023-12-31")
    assert table[["text", "label", "target"]].to_numpy().tolist() == [
        ["Profit up", "positive", ""],
        ["Profit down", "negative", ""],
    ]
    assert counts == {"read": 3, "empty": 1}
    assert set(table["time"]) == {pd.Timestamp("2024-01-01", tz="UTC")}


def make_sujet(texts: list[str], answers: list[str], *, task: str = "sentiment_analysis") -> list[dict[str, Any]]:
    return [
        {
            "inputs": f"Answer in one word. {text}",
            "answer": answer,
            "system_prompt": "Answer in one word.",
            "user_prompt": text,
            "dataset": "some/set",
            "task_type": task,
        }
        for text, answer in zip(texts, answers, strict=True)
    ]


def test_the_sujet_set_gives_its_sentiment_rows_and_counts_the_rest(tmp_path: Path) -> None:
    rows = make_sujet(["Acme: up 3%", "Beta down", "Gamma", ""], ["bullish", "bearish", "Neutral", "neutral"])
    rows += make_sujet(["What is a bond?"], ["A loan."], task="qa")
    path = tmp_path / "sujet.parquet"
    pd.DataFrame(rows).to_parquet(path)
    table, counts = lab.read_any_labelled(path)
    assert counts == {"read": 5, "other_tasks": 1, "empty": 1}
    assert table["text"].tolist() == ["Acme: up 3%", "Beta down", "Gamma"]
    assert table["label"].tolist() == ["positive", "negative", "neutral"]
    assert set(table["source"]) == {"sujet/some/set"}
    with pytest.raises(TableError, match=r"labels \['Neutral'\] are unknown"):
        lab.read_sujet(path, label_map={"bullish": "positive", "bearish": "negative"})


def test_words_that_a_prompt_puts_before_every_text_are_not_the_texts(tmp_path: Path) -> None:
    texts = [f"Financial text: Acme: item {n}" for n in range(20)]
    path = write_lines(tmp_path / "sujet.jsonl", make_sujet(texts, ["neutral"] * 20))
    assert lab.read_sujet(path)[0]["text"].tolist() == [f"Acme: item {n}" for n in range(20)]
    write_lines(path, make_sujet([*texts[:15], *(f"Beta item {n}" for n in range(5))], ["neutral"] * 20))
    assert lab.read_sujet(path)[0]["text"].iloc[0] == texts[0]


def test_the_kaggle_set_is_known_by_its_columns(shared: Path) -> None:
    path = shared / "kaggle5842" / "data.csv"
    table, counts = lab.read_any_labelled(path)
    assert counts == {"read": 5842}
    assert table["label"].value_counts().to_dict() == {"neutral": 3130, "positive": 1852, "negative": 860}
    cleaned, counts = lab.clean_labelled(table)
    assert counts["contradicting"] == 1028
    assert len(cleaned) == counts["kept"]


def test_named_columns_and_readers_go_before_what_the_columns_seem_to_be(tmp_path: Path) -> None:
    rows = [{"instruction": "positive", "input": "a", "output": "negative", "about": "Acme"}]
    path = write_lines(tmp_path / "a.jsonl", rows)
    table, _ = lab.read_any_labelled(path, text_column="input", label_column="instruction", target_column="about")
    assert table[["text", "label", "target"]].to_numpy().tolist() == [["a", "positive", "Acme"]]
    with pytest.raises(SourceError, match="no column 'text'"):
        lab.read_any_labelled(path, reader="file")
    with pytest.raises(SourceError, match="no reader 'tfn'"):
        lab.read_any_labelled(path, reader="tfn")


# --- files that are not what they should be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("latin.csv", "text,label\nFran\xe7ais,positive\n".encode("latin-1"), "is not UTF-8"),
        ("latin.jsonl", '{"text": "Fran\xe7ais"}\n'.encode("latin-1"), "is not UTF-8"),
        ("empty.csv", b"", "could not be read as csv"),
        ("empty.jsonl", b"\n", "could not be read as jsonl .it is empty"),
        ("cut.jsonl", b'{"text": "a", "label": "positive"}\n{"text": "b", "la', "line 2 is no JSON"),
        ("list.jsonl", b'["a", "positive"]\n', "line 1 is no JSON object"),
        ("commas.csv", b"text,label\nup, a lot,positive\ndown,negative,\n", "more fields than the header"),
        ("wide.csv", b"text,label\nup,positive\nup,a,lot,positive\n", "could not be read as csv"),
        ("no.parquet", b"text,label\n", "could not be read as parquet"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        lab.read_any_labelled(path)
    assert "\n" not in str(caught.value)


def test_a_published_set_cut_short_or_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sentiment.csv"
    path.write_text("Tweet Text,Sentiment\nup,Positive\ndown\n", encoding="utf-8")
    with pytest.raises(SourceError, match="row 2 ends before column 'Sentiment'"):
        lab.read_surge(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(SourceError, match="no column 'text'"):
        lab.read_tfns(path)
    path.write_text('{"1": {"info": [{}]}}', encoding="utf-8")
    with pytest.raises(SourceError, match="could not be read as the JSON of FiQA"):
        lab.read_fiqa(path)


def test_half_a_character_in_a_file_does_not_stop_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "up \\ud83d now", "label": "positive"}\n', encoding="utf-8")
    assert lab.read_labelled(path)[0]["text"].tolist() == ["up ? now"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "text,label\nup,positive\n"), ("a.jsonl", '{"text": "up", "label": "positive"}\n')],
)
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8-sig")
    assert lab.read_labelled(path)[0]["text"].tolist() == ["up"]


@pytest.mark.parametrize("score", ["nan", "7"])
def test_a_fiqa_score_that_is_no_score_is_never_a_label(tmp_path: Path, score: str) -> None:
    path = tmp_path / "task1_post_ABSA_test.json"
    entry = {"sentence": "Acme up", "info": [{"target": "Acme", "sentiment_score": score}]}
    path.write_text(json.dumps({"1": entry}), encoding="utf-8")
    with pytest.raises(SourceError, match=f"ABSA_test.json: a sentiment_score is {score}; expected -1 to 1"):
        lab.read_fiqa(path)


def test_a_file_laid_out_like_the_kaggle_set_takes_a_label_map(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("Sentence,Sentiment\nAcme up,Bullish\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"own.csv: labels \['Bullish'\] are unknown.*--label-map Bullish=positive"):
        lab.read_any_labelled(path)
    rows, _ = lab.read_any_labelled(path, label_map={"bullish": "positive"})
    assert rows["label"].tolist() == ["positive"]


@pytest.mark.parametrize(
    ("reader", "name", "content"),
    [
        ("phrasebank", "Sentences_50Agree.txt", "Acme up@great\n"),
        ("surge", "sentiment.csv", "Tweet Text,Sentiment\nAcme up,great\n"),
    ],
)
def test_an_unknown_label_of_a_published_set_is_told_with_its_file(
    tmp_path: Path, reader: str, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(TableError, match=rf"{name}: labels \['great'\] are unknown"):
        lab.READERS[reader](tmp_path / name)
