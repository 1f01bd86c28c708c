"""What our own labelled set holds, how far its hands agree, and what it shares with the sets that are measured on.

python benchmarks/labelled_set.py --data ../shared/data --out benchmarks/results/labelled_set.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from finsignal.sentiment import labelled as lab

OWN = Path(__file__).parents[1] / "data" / "labelled"
NEAR = 0.8
MEASURED = {
    "tfns train": ("tfns", "tfns/sent_train.csv"),
    "tfns valid": ("tfns", "tfns/sent_valid.csv"),
    "sentfin": ("sentfin_targets", "sentfin/SEntFiN.csv"),
    "surge stock": ("surge", "surge_stock/sentiment.csv"),
    "surge crypto": ("surge", "surge_crypto/sentiment.csv"),
    "phrasebank": ("phrasebank", "phrasebank/Sentences_50Agree.txt"),
    "fiqa headlines": ("fiqa", "fiqa/task1_headline_ABSA_train.json"),
    "fiqa posts": ("fiqa", "fiqa/task1_post_ABSA_train.json"),
    "fiqa headlines, test": ("fiqa", "fiqa/task1_headline_ABSA_test.json"),
    "fiqa posts, test": ("fiqa", "fiqa/task1_post_ABSA_test.json"),
    "kaggle": ("kaggle", "kaggle5842/data.csv"),
}


def to_agreement(texts: pd.DataFrame, second: pd.DataFrame) -> tuple[int, float, float]:
    """Lines labelled twice, the share with the same label, and Cohen's kappa (doi:10.1177/001316446002000104)."""
    both = second.merge(texts, on=["text", "target"], suffixes=("_second", ""))
    same = float((both["label"] == both["label_second"]).mean())
    first_share = both["label"].value_counts(normalize=True)
    second_share = both["label_second"].value_counts(normalize=True)
    chance = float(first_share.mul(second_share, fill_value=0).sum())
    return len(both), same, (same - chance) / (1 - chance)


def make_report(data: Path) -> str:
    texts = pd.read_csv(OWN / "texts.csv", keep_default_na=False)
    second = pd.read_csv(OWN / "second.csv", keep_default_na=False)
    lines = [
        f"{len(texts):,} labels of {texts['text'].nunique():,} texts, {(texts['target'] != '').sum()} with a target",
        "",
    ]
    for column in ("label", "kind", "style", "writer"):
        counts = pd.crosstab(texts[column], texts["label"]) if column != "label" else texts[column].value_counts()
        lines += [counts.to_string(), ""]
    labels = texts[texts["target"] != ""].groupby("text")["label"].nunique()
    lines += [f"texts with two labels, one for each of two targets: {(labels > 1).sum()}", ""]
    many, same, kappa = to_agreement(texts, second)
    lines += [
        f"labelled again, blind, by two other hands: {many} lines; same label {same:.4f}, Cohen's kappa {kappa:.4f}",
        "",
    ]
    own, _ = lab.read_labelled(OWN / "texts.csv", target_column="target", source="own")
    lines.append(f"texts shared with other sets, and near them (token Jaccard {NEAR} or more):")
    for name, (reader, path) in MEASURED.items():
        other, _ = lab.READERS[reader](data / path)
        (pair,) = lab.audit({"own": own, name: other}, near=NEAR)["between_sets"]
        lines.append(f"  {name:<22}{pair['shared_texts']:>4} shared {pair['near_texts']:>4} near")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with tfns/, sentfin/, phrasebank/, fiqa/ ...")
    parser.add_argument("--out", type=Path, help="also writes the report here")
    arguments = parser.parse_args()
    text = make_report(arguments.data)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
