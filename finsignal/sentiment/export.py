"""What tuning left to a model folder: a merged INT8 graph, or adapter or weights for torch, calibrated, with a card."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import ModelError
from finsignal.metrics import to_codes
from finsignal.sentiment import hub
from finsignal.sentiment.calibrate import fit_temperature
from finsignal.sentiment.evaluate import evaluate_model
from finsignal.sentiment.graph import FUSED, compare, write_graph
from finsignal.sentiment.labelled import stands_in, to_cutoff
from finsignal.sentiment.prompt import to_input, to_pairs
from finsignal.sentiment.readme import to_readme
from finsignal.sentiment.recipe import Recipe
from finsignal.sentiment.score import CARD, GRAPH, TOKENIZER, Model, load_model, read_card
from finsignal.sentiment.tuning import adapters, bases
from finsignal.sentiment.tuning.lessons import read_data_set
from finsignal.tables import LABELS

AGREEMENT = 0.95  # share of held-out labels on which INT8 and full precision must agree, or nothing is written
COMPARED = 500  # about so many held-out texts, spread over all of them
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "onnxruntime", "tokenizers")
TRAINING = "training.json"


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a model was trained with: the rows learned from, those held out, and the folders of its sets."""

    train: pd.DataFrame
    held_out: pd.DataFrame
    folders: Sequence[Path]


def write_model_folder(
    recipe: Recipe,
    rows: Rows,
    *,
    base: Path,
    checkpoint: Path,
    prompt: Mapping[str, Any] | None,
    logs: Sequence[Mapping[str, Any]],
    card: dict[str, Any],
    out: Path,
    device: str = "",
    progress: bool = False,
) -> Path:
    """The folder `out`: what scores, tokenizer, what was tuned, training.json, card.json and README.md; the card last.

    checkpoint: of training. prompt: of a head of words. logs: of each run, for its curves. card: what was recorded;
    measured figures are added. The temperature is fitted on the held-out rows with the logits of the very files that
    are written, and the recipe's report sets are measured, used for nothing else.

    Raises ModelError where INT8 and the merged full-precision model disagree on too many held-out labels.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    adapted = (adapters.ADAPTER, adapters.ADAPTER_CONFIG, adapters.HEAD)
    tuned = [name for name in adapted if (checkpoint / name).is_file()]
    full = [adapters.WEIGHTS] if (checkpoint / adapters.WEIGHTS).is_file() else []
    for name in [*tuned, *full]:
        shutil.copyfile(checkpoint / name, out / name)
    words = bases.load_words(base, recipe.base.max_tokens)
    words.save(str(out / TOKENIZER), pretty=False)
    logged = [TRAINING] if len(logs) == 1 else [f"training-{log['recipe']}.json" for log in logs]
    for name, log in zip(logged, logs, strict=True):
        (out / name).write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    as_graph = is_graph(recipe, base)
    merged = adapters.load_tuned(base, checkpoint, head=recipe.head) if as_graph else None
    if merged is not None:
        write_graph(merged, out / GRAPH)
        full = []  # beside the graph, to tune further; scoring does without, so no digest
    about = {
        "model": recipe.base.model.removeprefix(bases.PACKAGE) if as_graph else recipe.base.model,
        "about": recipe.base.about,
        "sha256": bases.digest_weights(base),
        "licence": recipe.base.licence,
        "known_until": to_cutoff(str(recipe.base.cutoff)).isoformat(),
    }
    files = [*([GRAPH] if as_graph else []), TOKENIZER, *tuned, *full, *logged]
    extra: dict[str, Any] = {"head": _to_head(recipe)}
    extra |= {} if as_graph else {"kind": "torch", "method": recipe.tuning.method}
    extra |= {} if prompt is None else {"prompt": dict(prompt)}
    card = _to_card(recipe, rows, {"base": about, **card, **extra}, files=files, out=out)

    uncalibrated = _load(out, device)
    texts, targets = [to_input("", text) for text in rows.held_out["text"]], rows.held_out["target"].tolist()
    logits = uncalibrated.predict_logits(texts, targets, progress=progress)
    if merged is not None:
        some = slice(None, None, max(1, len(texts) // COMPARED))
        card["parity"] = compare(merged, words, to_pairs(texts[some], targets[some]), logits[some])
        if card["parity"]["label_agreement"] < AGREEMENT:
            raise ModelError(
                f"{out}: INT8 and full precision agree on {card['parity']} of held-out texts; not written."
            )
    return _finish(recipe, rows, card, logits, out=out, device=device, progress=progress)


def _load(out: Path, device: str) -> Model:
    """The model of the folder, on the device that it was tuned on where it scores with torch."""
    if read_card(out).get("kind") != "torch":
        return load_model(out)
    from finsignal.sentiment.tuned import load_tuned_model

    return load_tuned_model(out, device=device)


def is_graph(recipe: Recipe, base: Path) -> bool:
    """Whether the model becomes an INT8 graph: a BERT, and a tuning that can be merged into it."""
    kind = hub.read_json(recipe.base.model, base / hub.CONFIG).get("model_type")
    return kind in FUSED and recipe.head.kind in ("mean", "own") and recipe.tuning.method not in ("prefix", "prompt")


def write_tfidf_folder(recipe: Recipe, rows: Rows, *, card: dict[str, Any], out: Path, progress: bool = False) -> Path:
    """The folder `out` of a logistic regression on TF-IDF, fitted here in seconds."""
    from finsignal.sentiment import tfidf

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    fitted = tfidf.fit(rows.train, recipe.tuning, weight={item.name: item.weight for item in recipe.data})
    files = tfidf.write_tfidf(fitted, out)
    latest = max(to_cutoff(str(item.cutoff)) for item in recipe.data).isoformat()
    base = {"model": "none", "about": "no base: words and pairs of words", "licence": "", "known_until": latest}
    run = {"recipe": recipe.name, "settings": dataclasses.asdict(recipe.tuning), "epochs": [], "chosen_epoch": 0}
    extra = {"kind": "tfidf", "method": "tfidf", "base": base, "runs": [run]}
    card = _to_card(recipe, rows, {**card, **extra}, files=files, out=out)
    logits = load_model(out).predict_logits([to_input("", text) for text in rows.held_out["text"]])
    return _finish(recipe, rows, card, logits, out=out, progress=progress)


def _to_head(recipe: Recipe) -> dict[str, Any]:
    head = dataclasses.asdict(recipe.head)
    return {key: value for key, value in head.items() if key in ("kind", "label_map")}


def _to_card(
    recipe: Recipe, rows: Rows, found: Mapping[str, Any], *, files: Sequence[str], out: Path
) -> dict[str, Any]:
    card = {
        "format": 1,
        "name": recipe.name,
        "labels": list(LABELS),
        "max_tokens": recipe.base.max_tokens,
        "target_aware": recipe.tuning.method != "tfidf" and bool((rows.train["target"] != "").any()),
        "temperature": 1.0,
        "trained_until": max(to_cutoff(str(item.cutoff)) for item in recipe.data).isoformat(),
        **found,
        "settings": dataclasses.asdict(recipe.tuning),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "not_good_for": list(recipe.not_good_for),
        "disclaimer": "Research software. Its output is not financial advice.",
        "files": {name: _digest(out / name) for name in files},
    }
    if recipe.source:
        card |= {"source": recipe.source, "corrected": list(recipe.corrected)}
    _write_card(card, out)
    return card


def _finish(
    recipe: Recipe, rows: Rows, card: dict[str, Any], logits: np.ndarray, *, out: Path, device: str = "", progress: bool
) -> Path:
    card["temperature"] = fit_temperature(logits, to_codes(rows.held_out["label"].to_numpy()))
    _write_card(card, out)
    card["metrics"] = measure(recipe, out, rows, device=device, progress=progress)
    (out / "README.md").write_text(to_readme(card), encoding="utf-8")
    card["files"]["README.md"] = _digest(out / "README.md")
    _write_card(card, out)
    _load(out, device)
    return out


def measure(recipe: Recipe, out: Path, rows: Rows, *, device: str = "", progress: bool) -> dict[str, Any]:
    """The figures of a model folder on the held-out rows and on each report set, also without rows learned from."""
    model = _load(out, device)
    seed = recipe.tuning.seed
    found = {"held out": evaluate_model(model, rows.held_out, seed=seed, progress=progress)}
    for name, (report, digests) in read_reports(recipe, rows.folders).items():
        seen = stands_in(report, pd.concat([rows.train, rows.held_out]))
        found[name] = evaluate_model(model, report, seed=seed, progress=progress) | {"sha256": digests}
        if seen.all():
            found[f"{name}, all of which stands in train"] = found.pop(name)
        elif seen.any():
            fresh = report[~seen].reset_index(drop=True)
            found[f"{name}, without {int(seen.sum())} rows that stand in train"] = evaluate_model(
                model, fresh, seed=seed
            )
    for figures in found.values():
        del figures["model"]  # named before the card was final
    return found


def read_reports(recipe: Recipe, data: Sequence[Path]) -> dict[str, tuple[pd.DataFrame, list[str]]]:
    """Rows and file digests of the recipe's report sets, by name; sets of one name are measured together."""
    read = [(item.name, *read_data_set(item, data)) for item in recipe.report]
    out = {}
    for name in dict.fromkeys(item.name for item in recipe.report):
        parts = [(rows, record["sha256"]) for other, rows, record in read if other == name]
        out[name] = pd.concat([rows for rows, _ in parts], ignore_index=True), [digest for _, digest in parts]
    return out


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_card(card: dict[str, Any], folder: Path) -> None:
    unfinished = folder / (CARD + ".unfinished")
    unfinished.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(folder / CARD)
