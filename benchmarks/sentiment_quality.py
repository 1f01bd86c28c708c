"""How good the shipped sentiment model is, beside TF-IDF and the shares of the labels learned from the same rows.

    python benchmarks/sentiment_quality.py --data ../shared/data --data data --out benchmarks/results/sentiment_quality

Writes OUT.txt and OUT.json. The rows that the model was trained on are made again from its recipe. No row of a
reported set chose anything: the epoch and the temperature come from a part cut from the training sets. TFNS valid
stands here twice, for some of its texts are also in TFNS train as published. "Its own shares" is the best that a
constant can do: the shares of the labels of the measured rows themselves, which no model knows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from finsignal.metrics import to_codes
from finsignal.sentiment.evaluate import FIGURES, evaluate_probabilities, fit_majority, fit_tfidf
from finsignal.sentiment.export import read_reports
from finsignal.sentiment.labelled import stands_in
from finsignal.sentiment.prompt import to_input
from finsignal.sentiment.recipe import Recipe, read_recipe
from finsignal.sentiment.score import DEFAULT, load_model
from finsignal.sentiment.tuning.lessons import read_parts

RECIPE = DEFAULT.parent / "recipes" / "default.toml"
SEED = 20261120
BOOTSTRAP = 1000


def make_sets(recipe: Recipe, data: list[Path], train: pd.DataFrame, held_out: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows to measure on, by name; a set that shares texts with the training rows stands there without them too."""
    alone = held_out["target"] == ""
    sets = {"held out, whole texts": held_out[alone]}
    sets |= {f"held out: {name}": part for name, part in held_out[alone].groupby("source")}
    told = held_out[~alone]
    disagree = told.groupby("text")["label"].transform("nunique") > 1
    if len(told):
        sets |= {"held out, with targets": told, "held out, targets of one text that disagree": told[disagree]}
        sets["the same, the model not told the target"] = told[disagree].assign(target="")
    for name, (table, _) in read_reports(recipe, data).items():
        sets[name] = table
        if (table["target"] != "").any():
            sets[f"{name}, the model not told the target"] = table.assign(target="")
        seen = stands_in(table, pd.concat([train, held_out]))
        if seen.any():
            sets[f"{name}, without {int(seen.sum())} in train"] = table[~seen]
    return {name: table.reset_index(drop=True) for name, table in sets.items()}


def make_report(data: list[Path], folder: Path | None) -> dict[str, object]:
    model = load_model(folder)
    recipe = read_recipe(RECIPE)
    train, held_out, counts, _ = read_parts(recipe, data)
    whole = train[train["target"] == ""]  # the floors know no targets: two labels of one text would only harm them
    floors = {"TF-IDF + LR": fit_tfidf(whole), "majority": fit_majority(whole)}
    results = {}
    for name, table in make_sets(recipe, data, train, held_out).items():
        codes = to_codes(table["label"].to_numpy())
        texts = [to_input("", text) for text in table["text"]]
        found = {"model": model.predict_proba(texts, table["target"].tolist())}
        found |= {who: floor.predict_proba(texts) for who, floor in floors.items()}
        found["its own shares"] = fit_majority(table).predict_proba(texts)
        results[name] = {
            who: evaluate_probabilities(probabilities, codes, bootstrap=BOOTSTRAP, seed=SEED)
            for who, probabilities in found.items()
        }
        results[name]["margin"] = compare_pair(codes, found["model"], found["TF-IDF + LR"])
    return {
        "model": model.name,
        "trained_with_this_recipe": model.card["recipe_sha256"] == recipe.digest,
        "train_rows": len(train),
        "floor_rows": len(whole),
        "cleaning": counts,
        "results": results,
    }


def compare_pair(codes: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """The difference of the accuracies, first less second, on the same rows, with its 95 % bootstrap interval."""
    gain = (first.argmax(axis=1) == codes).astype(float) - (second.argmax(axis=1) == codes)
    draw = np.random.default_rng(SEED)
    means = [gain[draw.integers(0, len(gain), len(gain))].mean() for _ in range(BOOTSTRAP)]
    low, high = (float(value) for value in np.percentile(means, [2.5, 97.5]))
    return {"value": float(gain.mean()), "low": low, "high": high}


def to_text(report: dict) -> str:
    heads = ["accuracy", "macro-F1", "weighted F1", "log-loss", "calibration error"]
    lines = [
        f"model {report['model']}, trained on {report['train_rows']} rows; "
        f"the floors on those {report['floor_rows']} of them that have no target",
        f"by the committed recipe: {'yes' if report['trained_with_this_recipe'] else 'NO'}",
        "value [95 % bootstrap interval]",
        "",
    ]
    for name, found in report["results"].items():
        margin = found["margin"]
        labels = ", ".join(f"{count} {label}" for label, count in found["model"]["labels"].items())
        lines.append(f"{name}: {found['model']['n']} rows ({labels})")
        lines.append(" " * 17 + "".join(f"{head:<25}" for head in heads).rstrip())
        for who in ("model", "TF-IDF + LR", "majority", "its own shares"):
            cells = [
                f"{found[who][key]['value']:.3f} [{found[who][key]['low']:.3f}, {found[who][key]['high']:.3f}]"
                for key in FIGURES
            ]
            lines.append(f"  {who:<15}" + "".join(f"{cell:<25}" for cell in cells).rstrip())
        lines.append(
            f"  accuracy over TF-IDF + LR, paired: {margin['value']:+.3f} [{margin['low']:+.3f}, {margin['high']:+.3f}]"
        )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="folder with tfns/, sentfin/, ... or our labelled/"
    )
    parser.add_argument("--model", type=Path, help="a model folder; the one that ships where none is given")
    parser.add_argument("--out", type=Path, help="writes OUT.txt and OUT.json")
    arguments = parser.parse_args()
    report = make_report(arguments.data, arguments.model)
    text = to_text(report)
    print(text)
    if arguments.out:
        arguments.out.with_suffix(".txt").write_text(text, encoding="utf-8")
        arguments.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
