"""Reading, cleaning and splitting labelled text; the counts of the published sets are the published ones."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finsignal.errors import SourceError, TableError
from finsignal.sentiment import labelled as lab
from finsignal.sentiment.prompt import normalise
from finsignal.tables import INSTANT, LABELLED


def make_rows(pairs: list[tuple[str, str]], source: str = "made") -> pd.DataFrame:
    return LABELLED.to_table(
        pd.DataFrame(
            {
                "text": [text for text, _ in pairs],
                "label": [label for _, label in pairs],
                "time": pd.Series([pd.Timestamp("2022-12-31", tz="UTC")] * len(pairs), dtype=INSTANT),
                "source": source,
                "target": "",
            }
        )
    )


# --- the published sets -----------------------------------------------------------------------------------------------


def counts_of(table: pd.DataFrame) -> dict[str, int]:
    return table["label"].value_counts().to_dict()


def test_tfns_has_its_published_rows_and_labels(shared: Path) -> None:
    train, counts = lab.read_tfns(shared / "tfns" / "sent_train.csv")
    valid, _ = lab.read_tfns(shared / "tfns" / "sent_valid.csv")
    assert (len(train), len(valid), counts) == (9543, 2388, {"read": 9543})
    assert counts_of(valid) == {"neutral": 1566, "positive": 475, "negative": 347}
    assert train["time"].iloc[0] == pd.Timestamp("2023-01-01", tz="UTC")
    assert lab.stands_in(valid, train).sum() == 51


def test_sentfin_gives_the_headlines_whose_entities_agree(shared: Path) -> None:
    table, counts = lab.read_sentfin(shared / "sentfin" / "SEntFiN.csv")
    assert counts == {"read": 10753, "malformed": 13, "disagreeing": 1233}
    assert counts_of(table) == {"neutral": 3446, "positive": 3363, "negative": 2711}


def test_sentfin_targets_gives_every_entity_a_row_with_its_name(shared: Path) -> None:
    table, counts = lab.read_sentfin_targets(shared / "sentfin" / "SEntFiN.csv")
    assert counts == {"read": 10753, "malformed": 13, "nameless": 0, "entities": 14405}
    assert (table["target"].str.strip() != "").all()
    whole, _ = lab.read_sentfin(shared / "sentfin" / "SEntFiN.csv")
    assert set(whole["text"]) < set(table["text"])
    assert table.loc[
        table["text"].str.startswith("IOC, BPCL, HPCL slipped"), ["target", "label"]
    ].to_numpy().tolist() == [["IOC", "negative"], ["BPCL", "negative"], ["HPCL", "negative"], ["Moody's", "neutral"]]


@pytest.mark.parametrize(("name", "rows"), [("surge_stock", 500), ("surge_crypto", 562)])
def test_surge_has_no_neutral(shared: Path, name: str, rows: int) -> None:
    table, _ = lab.read_surge(shared / name / "sentiment.csv")
    assert len(table) == rows
    assert set(table["label"]) == {"positive", "negative"}


@pytest.mark.parametrize(
    ("level", "rows"), [("50Agree", 4846), ("66Agree", 4217), ("75Agree", 3453), ("AllAgree", 2264)]
)
def test_phrasebank_has_its_published_rows(shared: Path, level: str, rows: int) -> None:
    table, _ = lab.read_phrasebank(shared / "phrasebank" / f"Sentences_{level}.txt")
    assert len(table) == rows


def test_fiqa_cut_gives_the_published_classes_over_all_four_files(shared: Path) -> None:
    files = sorted((shared / "fiqa").glob("task1_*.json"))
    table = pd.concat([lab.read_fiqa(path)[0] for path in files])
    assert len(files) == 4
    assert len(table) == 1173
    assert counts_of(table) == {"positive": 717, "negative": 363, "neutral": 93}


# --- the traps, in miniature ------------------------------------------------------------------------------------------


def test_phrasebank_sentence_with_byte_0x85_stays_one_row(tmp_path: Path) -> None:
    path = tmp_path / "Sentences_50Agree.txt"
    path.write_bytes(b"Sales rose \x85 again .@positive\nmail@acme.com fell .@negative\n")
    table, _ = lab.read_phrasebank(path)
    assert table["text"].tolist() == ["Sales rose \x85 again .", "mail@acme.com fell ."]
    assert table["label"].tolist() == ["positive", "negative"]


def test_sentfin_dict_broken_by_an_apostrophe_is_read_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(
        "S No.,Title,Decisions,Words\n"
        "1,Both up,\"{'Sun': 'positive', 'Dr Reddy's': 'positive'}\",2\n"
        "2,One up,\"{'Sun': 'positive', 'Moon': 'neutral'}\",2\n",
        encoding="utf-8",
    )
    table, counts = lab.read_sentfin(path)
    assert counts == {"read": 2, "malformed": 1, "disagreeing": 1}
    assert table["text"].tolist() == ["Both up"]
    targets, counts = lab.read_sentfin_targets(path)
    assert counts == {"read": 2, "malformed": 1, "nameless": 0, "entities": 4}
    assert targets[["target", "label"]].to_numpy().tolist() == [
        ["Sun", "positive"],
        ["Dr Reddy's", "positive"],
        ["Sun", "positive"],
        ["Moon", "neutral"],
    ]


def test_fiqa_cut_includes_its_edges(tmp_path: Path) -> None:
    path = tmp_path / "task1_x.json"
    scores = ["0.1", "-0.1", "0.101", "-0.101", "0"]
    entry = {"sentence": "s", "info": [{"sentiment_score": score, "target": "T"} for score in scores]}
    path.write_text(json.dumps({"1": entry}), encoding="utf-8")
    table, _ = lab.read_fiqa(path)
    assert table["label"].tolist() == ["neutral", "neutral", "positive", "negative", "neutral"]
    assert set(table["target"]) == {"T"}


# --- files of your own ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_of_your_own_reads_alike_in_three_formats(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"headline": ["up, a lot", "down"], "tone": ["1", "0"]})
    path = tmp_path / f"mine{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")), encoding="utf-8")
    else:
        frame.to_parquet(path)
    table, counts = lab.read_labelled(
        path,
        text_column="headline",
        label_column="tone",
        label_map={"1": "positive", "0": "negative"},
        cutoff="2024-06-30",
    )
    assert counts == {"read": 2, "empty": 0}
    assert table["text"].tolist() == ["up, a lot", "down"]
    assert table["label"].tolist() == ["positive", "negative"]
    assert set(table["time"]) == {pd.Timestamp("2024-07-01", tz="UTC")}


def test_unknown_labels_and_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("text,label\nup,bullish\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"\['bullish'\] are unknown.*Pass a label map.*--label-map bullish=positive"):
        lab.read_labelled(path)
    with pytest.raises(SourceError, match=r"no column 'txt'\. Did you mean 'text'"):
        lab.read_labelled(path, text_column="txt")
    with pytest.raises(SourceError, match=r"not '\.xlsx'"):
        lab.read_labelled(tmp_path / "mine.xlsx")
    with pytest.raises(SourceError, match="could not be read"):
        lab.read_labelled(tmp_path / "absent.csv")


def test_stamps_without_zone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("text,label,when\nup,positive,2024-01-02 10:00\n", encoding="utf-8")
    with pytest.raises(TableError, match="no time zone"):
        lab.read_labelled(path, time_column="when")
    stamps = ["2024-01-02 10:00+02:00", "2024-07-02 10:00+03:00"]  # winter and summer of one zone
    path.write_text("text,label,when\n" + "".join(f"up,positive,{at}\n" for at in stamps), encoding="utf-8")
    table, _ = lab.read_labelled(path, time_column="when")
    assert table["time"].tolist() == [pd.Timestamp("2024-01-02T08:00Z"), pd.Timestamp("2024-07-02T07:00Z")]


@pytest.mark.parametrize("stamp", ["yesterday", "2024-13-45T00:00Z", ""])
def test_a_stamp_that_is_no_time_is_refused_in_one_sentence(tmp_path: Path, stamp: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"text,label,when\nup,positive,2024-01-02T10:00Z\ndown,negative,{stamp}\n", encoding="utf-8")
    shown = repr(stamp) if stamp else "nan"
    with pytest.raises(TableError, match=rf"mine\.csv: {shown} in column 'when' is no time"):
        lab.read_labelled(path, time_column="when")


# --- cleaning and splitting -------------------------------------------------------------------------------------------


def test_cleaning_drops_what_is_empty_contradicting_or_repeated_and_counts_it() -> None:
    rows = make_rows(
        [
            ("Acme up", "positive"),
            ("acme UP! https://t.co/1", "positive"),  # the first again
            ("Beta flat", "neutral"),
            ("beta flat", "positive"),  # contradicts the row above: both go
            ("https://t.co/2", "neutral"),  # no word
            ("🚀", "positive"),  # no word
            ("Gamma down", "negative"),
        ]
    )
    cleaned, counts = lab.clean_labelled(rows)
    assert cleaned["text"].tolist() == ["Acme up", "Gamma down"]
    assert counts == {"read": 7, "empty": 2, "contradicting": 2, "repeated": 1, "kept": 2}


def test_a_text_may_have_a_label_for_each_target_and_one_as_a_whole() -> None:
    rows = make_rows(
        [("Acme beats Beta", label) for label in ("neutral", "positive", "negative", "positive", "positive")]
    )
    rows["target"] = pd.Series(["", "Acme", "Beta", "ACME", "Beta"], dtype="str")
    cleaned, counts = lab.clean_labelled(rows)
    assert cleaned[["target", "label"]].to_numpy().tolist() == [["", "neutral"], ["Acme", "positive"]]
    assert counts == {"read": 5, "empty": 0, "contradicting": 2, "repeated": 1, "kept": 2}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "A!", "b", "c", "d", "e", "f"]), st.sampled_from(["neutral", "positive"]))
    ),
    st.integers(0, 5),
)
def test_no_text_stands_on_both_sides_of_a_split(pairs: list[tuple[str, str]], seed: int) -> None:
    rows = make_rows(pairs) if pairs else LABELLED.empty()
    left, right = lab.split_by_text(rows, share=0.4, seed=seed)
    assert not set(left["text"].map(normalise)) & set(right["text"].map(normalise))
    assert len(left) + len(right) == len(rows)


def test_a_split_is_stratified_and_depends_on_rows_and_seed_alone() -> None:
    rows = make_rows([(f"text {n}", ("negative", "neutral", "positive")[n % 3]) for n in range(300)])
    left, right = lab.split_by_text(rows, share=0.1, seed=7)
    assert right["label"].value_counts().to_dict() == {"negative": 10, "neutral": 10, "positive": 10}
    again = lab.split_by_text(rows, share=0.1, seed=7)
    pd.testing.assert_frame_equal(right, again[1])
    assert not right.equals(lab.split_by_text(rows, share=0.1, seed=8)[1])
    np.testing.assert_array_equal(lab.stands_in(right, left), False)
    with pytest.raises(TableError, match="share is 0"):
        lab.split_by_text(rows, share=0, seed=1)
