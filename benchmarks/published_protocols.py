"""Our tuning under the protocols of published results: the Kaggle split of 585 rows, and PhraseBank in ten folds.

    python benchmarks/published_protocols.py kaggle --data ../shared/data --out benchmarks/results/kaggle
    python benchmarks/published_protocols.py phrasebank --data ../shared/data --out benchmarks/results/phrasebank

Each protocol is run from the bare base and, with --start FOLDER, from a model folder of `finsignal train` whose recipe
tunes every weight (its weights.safetensors): such a model has learned from other sets, never from these. All figures
are of the float32 model without temperature. These models are measured, never shipped: both sets forbid commercial use.

Kaggle: 514 sentences stand in the file twice, once negative and once neutral, and 94 of the 585 rows stand in the 5,257
too, 90 of them under the other label. Learned "as they stand" is learned from all 5,257 rows; "resolved" takes a
sentence of two labels within the 5,257 as the one that is not neutral, once. Measured as they stand; with the labels of
the 585 resolved by the same rule over the whole file; and on the rows that stand nowhere in the 5,257.

PhraseBank: ten folds of the 50 % level, by normalised text, so that no text stands on both sides; the all-agree figures
are those of the rows of each fold's test part that stand in the all-agree file.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from finsignal.metrics import to_codes
from finsignal.sentiment.calibrate import softmax
from finsignal.sentiment.evaluate import evaluate_probabilities, fit_tfidf
from finsignal.sentiment.labelled import read_instructions, read_phrasebank, stands_in
from finsignal.sentiment.prompt import normalise, to_input
from finsignal.sentiment.recipe import Tuning, read_recipe
from finsignal.sentiment.score import DEFAULT
from finsignal.sentiment.train import predict_logits, tune
from finsignal.sentiment.tuning import adapters, bases, heads
from finsignal.sentiment.tuning.lessons import encode

TUNING = Tuning(
    method="full",
    epochs=4,
    learning_rate=2.5e-4,
    head_rate=5.0,
    layer_decay=0.85,
    label_smoothing=0.05,
    average=0.99,
    batch_size=32,
    seed=20261121,
)
FOLDS = 10
SHOWN = ("accuracy", "macro_f1", "weighted_f1", "log_loss", "calibration_error")


def learn(train: pd.DataFrame, test: pd.DataFrame, start: Path | None, tuning: Tuning) -> np.ndarray:
    """Probabilities (n, 3) of the test rows by a model tuned on the training rows."""
    recipe = read_recipe(DEFAULT.parent / "recipes" / "default.toml")
    base = bases.find_base(recipe.base)
    tokenizer = bases.load_words(base, recipe.base.max_tokens)
    classifier = heads.make_classifier(base, tuning, base_name=recipe.base.model)
    if start is not None:
        adapters.read_weights(classifier, start)
    tune(classifier, tokenizer, train, tuning, progress=sys.stderr.isatty())
    return softmax(predict_logits(classifier, encode(tokenizer, test)))


def resolve(rows: pd.DataFrame, among: pd.DataFrame) -> pd.Series:
    """The label of each row; of a text that `among` has as neutral and otherwise, the one that is not neutral."""
    normal = among["text"].map(normalise)
    firm = among[among["label"] != "neutral"].groupby(normal)["label"].agg(lambda found: found.mode()[0])
    return rows["text"].map(normalise).map(firm).fillna(rows["label"]).astype("str")


def run_kaggle(data: Path, starts: dict[str, Path | None], tuning: Tuning, jobs: int) -> dict[str, Any]:
    train, _ = read_instructions(data / "kaggle5842" / "train_dataset.jsonl")
    test, _ = read_instructions(data / "kaggle5842" / "val_dataset.jsonl")
    whole = pd.concat([train, test], ignore_index=True)
    once = train.assign(label=resolve(train, train))
    once = once[~once["text"].map(normalise).duplicated().to_numpy()].reset_index(drop=True)
    apart = ~stands_in(test, train)
    measured = {
        "585 rows as they stand": (test["label"], np.ones(len(test), dtype=bool)),
        "585 rows, contradictions resolved": (resolve(test, whole), np.ones(len(test), dtype=bool)),
        f"{int(apart.sum())} rows that do not stand in train": (test["label"], apart),
    }
    out: dict[str, Any] = {}
    learned = {"as they stand": train, "resolved": once}
    for how, rows in learned.items():
        found = {"TF-IDF + LR": fit_tfidf(rows).predict_proba([to_input("", text) for text in test["text"]])}
        for name, start in starts.items():
            found[name] = learn(rows, test, start, tuning)
        for who, probabilities in found.items():
            out[f"{who}, learned {how} ({len(rows)} rows)"] = {
                title: evaluate_probabilities(probabilities[chosen], to_codes(labels.to_numpy())[chosen], seed=0)
                for title, (labels, chosen) in measured.items()
            }
    return out


def run_phrasebank(data: Path, starts: dict[str, Path | None], tuning: Tuning, jobs: int) -> dict[str, Any]:
    rows, _ = read_phrasebank(data / "phrasebank" / "Sentences_50Agree.txt")
    agreed, _ = read_phrasebank(data / "phrasebank" / "Sentences_AllAgree.txt")
    normal = rows["text"].map(normalise)
    texts = np.random.default_rng(TUNING.seed).permutation(sorted(set(normal)))
    fold = normal.map({text: number % FOLDS for number, text in enumerate(texts)}).to_numpy()
    found = {name: np.zeros((len(rows), 3)) for name in ["TF-IDF + LR", *starts]}
    parts = [tuple(rows[side].reset_index(drop=True) for side in (fold != k, fold == k)) for k in range(FOLDS)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for name, start in starts.items():
            tasks = [pool.submit(learn, train, test, start, tuning) for train, test in parts]
            for number, task in enumerate(tqdm(tasks, desc=f"folds {name}", unit="fold")):
                found[name][fold == number] = task.result()
    for number, (train, test) in enumerate(parts):
        inputs = [to_input("", text) for text in test["text"]]
        found["TF-IDF + LR"][fold == number] = fit_tfidf(train).predict_proba(inputs)
    codes, sure = to_codes(rows["label"].to_numpy()), stands_in(rows, agreed)
    return {
        who: {
            f"50 %, {FOLDS} folds by text": evaluate_probabilities(probabilities, codes, seed=0),
            "of these, all-agree": evaluate_probabilities(probabilities[sure], codes[sure], seed=0),
        }
        for who, probabilities in found.items()
    }


def to_text(results: dict[str, Any]) -> str:
    lines = ["value [95 % bootstrap interval]", ""]
    for who, sets in results.items():
        lines.append(who)
        for name, found in sets.items():
            cells = [
                f"{key} {found[key]['value']:.4f} [{found[key]['low']:.3f}, {found[key]['high']:.3f}]" for key in SHOWN
            ]
            lines.append(f"  {name} ({found['n']} rows)")
            lines.append("    " + "  ".join(cells))
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=["kaggle", "phrasebank"])
    parser.add_argument("--data", type=Path, required=True, help="folder with kaggle5842/ and phrasebank/")
    parser.add_argument("--start", type=Path, help="a model folder with weights.safetensors, to start from as well")
    parser.add_argument("--only-start", action="store_true", help="leave out the run from the bare base")
    parser.add_argument("--jobs", type=int, default=1, help="folds tuned side by side, each on one thread (default 1)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each tuning (default 4)")
    parser.add_argument("--out", type=Path, help="writes OUT.txt and OUT.json")
    arguments = parser.parse_args()
    starts: dict[str, Path | None] = {} if arguments.only_start else {"from the base": None}
    if arguments.start is not None:
        starts["from our model"] = arguments.start
    run = run_kaggle if arguments.protocol == "kaggle" else run_phrasebank
    results = run(arguments.data, starts, replace(TUNING, epochs=arguments.epochs), arguments.jobs)
    text = to_text(results)
    print(text)
    if arguments.out:
        arguments.out.with_suffix(".txt").write_text(text, encoding="utf-8")
        arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
