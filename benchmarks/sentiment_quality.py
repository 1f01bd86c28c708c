"""How good the shipped sentiment model is, beside the majority class and TF-IDF trained on exactly the same rows.

    python benchmarks/sentiment_quality.py --data ../shared/data --out benchmarks/results/sentiment_quality

Writes OUT.txt and OUT.json. The rows that the model was trained on are made again from its recipe. No row of a
reported set chose anything: the epoch and the temperature come from a part cut from the training sets. TFNS valid
stands here twice, for some of its texts are also in TFNS train as published.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from finsignal.metrics import to_codes
from finsignal.sentiment.evaluate import FIGURES, evaluate_probabilities, majority_floor, tfidf_floor
from finsignal.sentiment.export import read_reports
from finsignal.sentiment.labelled import clean_labelled, split_by_text, stands_in
from finsignal.sentiment.prompt import to_input
from finsignal.sentiment.recipe import read_recipe
from finsignal.sentiment.score import DEFAULT, load_model
from finsignal.sentiment.train import read_rows

RECIPE = DEFAULT.parent / "recipes" / "default.toml"
SEED = 20261120
BOOTSTRAP = 1000


def make_report(data: Path, folder: Path | None) -> dict[str, object]:
    model = load_model(folder)
    recipe = read_recipe(RECIPE)
    rows, _ = read_rows(recipe, data)
    cleaned, counts = clean_labelled(rows)
    train, held_out = split_by_text(cleaned, share=recipe.tuning.held_out, seed=recipe.tuning.seed)
    same_recipe = model.card["recipe_sha256"] == recipe.digest

    sets: dict[str, pd.DataFrame] = {"held out (chose epoch and temperature)": held_out}
    for name, (table, _) in read_reports(recipe, data).items():
        sets[name] = table
        seen = stands_in(table, rows)
        if seen.any():
            sets[f"{name}, without {int(seen.sum())} in train"] = table[~seen].reset_index(drop=True)

    results = {}
    for name, table in sets.items():
        codes = to_codes(table["label"].to_numpy())
        found = {
            "model": model.predict_proba([to_input("", text) for text in table["text"]]),
            "TF-IDF + LR": tfidf_floor(train, table),
            "majority": majority_floor(train, table),
        }
        results[name] = {
            who: evaluate_probabilities(probabilities, codes, bootstrap=BOOTSTRAP, seed=SEED)
            for who, probabilities in found.items()
        }
        right = [found[who].argmax(axis=1) == codes for who in ("model", "TF-IDF + LR")]
        draw = np.random.default_rng(SEED)
        margins = [
            float((right[0][pick] * 1.0 - right[1][pick]).mean())
            for pick in (draw.integers(0, len(codes), len(codes)) for _ in range(BOOTSTRAP))
        ]
        low, high = np.percentile(margins, [2.5, 97.5])
        results[name]["margin"] = {"value": float(right[0].mean() - right[1].mean()), "low": low, "high": high}
    return {
        "model": model.name,
        "trained_with_this_recipe": same_recipe,
        "train_rows": len(train),
        "cleaning": counts,
        "results": results,
    }


def to_text(report: dict) -> str:
    heads = ["accuracy", "macro-F1", "weighted F1", "log-loss", "calibration error"]
    lines = [
        f"model {report['model']}, trained on {report['train_rows']} rows (the floors on the same rows)",
        f"by the committed recipe: {'yes' if report['trained_with_this_recipe'] else 'NO'}",
        "value [95 % bootstrap interval]",
        "",
    ]
    for name, found in report["results"].items():
        margin = found["margin"]
        labels = ", ".join(f"{count} {label}" for label, count in found["model"]["labels"].items())
        lines.append(f"{name}: {found['model']['n']} rows ({labels})")
        lines.append(" " * 14 + "".join(f"{head:<25}" for head in heads).rstrip())
        for who in ("model", "TF-IDF + LR", "majority"):
            cells = [
                f"{found[who][key]['value']:.3f} [{found[who][key]['low']:.3f}, {found[who][key]['high']:.3f}]"
                for key in FIGURES
            ]
            lines.append(f"  {who:<12}" + "".join(f"{cell:<25}" for cell in cells).rstrip())
        lines.append(
            f"  accuracy over TF-IDF + LR, paired: {margin['value']:+.3f} [{margin['low']:+.3f}, {margin['high']:+.3f}]"
        )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with tfns/, sentfin/, phrasebank/, fiqa/ ...")
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
