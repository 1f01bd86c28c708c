"""Our own labelled set, data/labelled: complete, plain, invented, and apart from every set that is measured on."""

import re
from pathlib import Path

import pandas as pd
import pytest

from finsignal.sentiment import labelled as lab

OWN = Path(__file__).parents[1] / "data" / "labelled"
KINDS = {
    *("shares", "results", "guidance", "crypto", "macro", "rates", "credit", "commodities"),
    *("deals", "regulation", "lawsuits", "products", "notice", "management"),
}
STYLES = {"plain", "terse", "hedged", "negated", "ironic", "numbers", "post", "mixed"}
YEAR = re.compile(r"(?<![\d.,])(20\d\d)(?![\d.,%]|\s?(?:%|mn|bn|crore|points|units))")


@pytest.fixture(scope="module")
def texts() -> pd.DataFrame:
    return pd.read_csv(OWN / "texts.csv", keep_default_na=False)


def test_it_reads_as_a_labelled_set_and_cleaning_leaves_every_row(texts: pd.DataFrame) -> None:
    rows, _ = lab.read_labelled(OWN / "texts.csv", target_column="target")
    _, cleaned = lab.clean_labelled(rows)
    assert len(rows) == cleaned["kept"] == len(texts) >= 2000
    assert rows["label"].value_counts(normalize=True).min() > 0.25


def test_every_kind_and_style_is_there_under_every_label_that_it_can_have(texts: pd.DataFrame) -> None:
    assert set(texts["kind"]) == KINDS
    assert set(texts["style"]) == STYLES
    counts = pd.crosstab(texts["kind"], texts["label"])
    assert (counts.drop(index="notice") >= 10).all(axis=None)  # a routine notice is neutral by its nature
    assert texts["writer"].nunique() >= 5


def test_a_target_stands_in_its_text_and_some_texts_have_two_labels(texts: pd.DataFrame) -> None:
    asked = texts[texts["target"] != ""]
    assert all(target.lower() in text.lower() for target, text in zip(asked["target"], asked["text"], strict=True))
    assert (asked.groupby("text")["label"].nunique() > 1).sum() >= 100


def test_no_text_speaks_of_a_year_after_2022(texts: pd.DataFrame) -> None:
    late = [text for text in texts["text"] if any(int(year) > 2022 for year in YEAR.findall(text))]
    assert late == []


def test_lines_labelled_again_are_lines_of_the_set(texts: pd.DataFrame) -> None:
    second = pd.read_csv(OWN / "second.csv", keep_default_na=False)
    both = second.merge(texts, on=["text", "target"], suffixes=("_second", ""), how="left")
    assert len(both) == len(second) >= 400
    assert both["label"].notna().all()
    assert not set(second["hand"]) & set(texts["writer"])


@pytest.mark.slow
def test_it_shares_no_text_with_any_set_and_comes_near_none(shared: Path) -> None:
    own, _ = lab.read_labelled(OWN / "texts.csv", target_column="target", source="own")
    sets = {
        "tfns": ["sent_train.csv", "sent_valid.csv"],
        "sentfin_targets": ["SEntFiN.csv"],
        "phrasebank": ["Sentences_50Agree.txt"],
        "kaggle": ["data.csv"],
        "surge": ["surge_crypto/sentiment.csv", "surge_stock/sentiment.csv"],
        "fiqa": [f"task1_{kind}_ABSA_{part}.json" for kind in ("headline", "post") for part in ("train", "test")],
    }
    folders = {"sentfin_targets": "sentfin", "kaggle": "kaggle5842", "surge": ""}
    for reader, files in sets.items():
        for file in files:
            other, _ = lab.READERS[reader](shared / folders.get(reader, reader) / file)
            (pair,) = lab.audit({"own": own, "other": other}, near=0.8)["between_sets"]
            assert (pair["shared_texts"], pair["near_texts"]) == (0, 0), file
