"""Fine-tuning: a recipe and labelled text to a model folder; resumable, the epoch chosen on a part cut from train."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError, ModelError, require
from finsignal.metrics import log_loss, to_codes
from finsignal.sentiment import encoder as enc
from finsignal.sentiment.calibrate import softmax
from finsignal.sentiment.labelled import clean_labelled, split_by_text
from finsignal.sentiment.prompt import to_input
from finsignal.sentiment.recipe import Recipe, Tuning, read_data_set, read_recipe


def fine_tune(recipe: Path, *, data: Path, out: Path, now: pd.Timestamp, progress: bool = False) -> Path:
    """The finished model folder `out`: graph, tokenizer, adapter and card, ready for score.load_model.

    data: the folder that the recipe's paths are relative to. now: the date that the card states. progress: bars on
    stderr. Everything is cleaned together and split by normalised text; the epoch with the least log-loss on the held-
    out part is exported (merged into the full-precision base, INT8), and the temperature fitted there on the exported
    graph.

    Work in progress lies in `out` + ".partial", one checkpoint an epoch. A run that was killed goes on from the last of
    them when it is started again, to the same model; `out` appears only when it is complete. Same recipe, data and
    machine: same model.

    Raises ConfigError where `out` exists already, or the work in progress belongs to another recipe or other data.
    """
    out = Path(out)
    if out.exists():
        raise ConfigError(f"{out}: exists already. Nothing was trained; choose another folder or remove it.")
    plan = read_recipe(recipe)
    base = enc.find_base(plan.base)
    rows, records = read_rows(plan, data)
    cleaned, counts = clean_labelled(rows)
    train, held_out = split_by_text(cleaned, share=plan.tuning.held_out, seed=plan.tuning.seed)
    work = out.with_name(out.name + ".partial")
    _claim(work, plan, records)

    tokenizer = enc.load_tokenizer(base / "tokenizer.json", plan.base.max_tokens)
    log = _run_epochs(plan, base, tokenizer, train, held_out, work, progress=progress)
    from finsignal.sentiment.export import write_model_folder

    best = int(np.argmin([entry["held_out_log_loss"] for entry in log]))
    card: dict[str, Any] = {
        "made": str(now.date()),
        "recipe_sha256": plan.digest,
        "data": records,
        "cleaning": counts,
        "split": {"train": len(train), "held_out": len(held_out)},
        "epochs": log,
        "chosen_epoch": best + 1,
    }
    finished = write_model_folder(
        plan, base=base, adapter=work / f"epoch-{best + 1}", held_out=held_out, train=train, data=data, card=card,
        out=work / "model", progress=progress,
    )  # fmt: skip
    os.replace(finished, out)
    shutil.rmtree(work)
    return out


def read_rows(recipe: Recipe, data: Path) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """All rows of the recipe's training sets in one table, and one record a set for the card."""
    read = [read_data_set(item, Path(data)) for item in recipe.data]
    return pd.concat([rows for rows, _ in read], ignore_index=True), [record for _, record in read]


def _claim(work: Path, recipe: Recipe, records: list[dict[str, Any]]) -> None:
    """Makes the folder of the work in progress, or checks that the one that stands there is this run's."""
    mine = {"recipe": recipe.digest, "data": [record["sha256"] for record in records]}
    settings = work / "settings.json"
    if settings.is_file():
        if json.loads(settings.read_text("utf-8")) != mine:
            raise ConfigError(
                f"{work}: holds a run of another recipe or other data. Remove it or choose another --out."
            )
        return
    work.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(mine), encoding="utf-8")


def _run_epochs(
    recipe: Recipe,
    base: Path,
    tokenizer: Any,
    train: pd.DataFrame,
    held_out: pd.DataFrame,
    work: Path,
    *,
    progress: bool,
) -> list[dict[str, float]]:
    """One log entry an epoch; each epoch's adapter and optimiser lie in work/epoch-N, which appears when complete."""
    torch = require("torch", extra="train", work=enc.WORK)
    tuning = recipe.tuning
    classifier = enc.make_classifier(base, tuning, base_name=recipe.base.model)
    parameters = classifier.trainable()
    optimiser = torch.optim.AdamW(parameters.values(), lr=tuning.learning_rate, weight_decay=tuning.weight_decay)
    ids, codes = _encode(tokenizer, train), to_codes(train["label"].to_numpy())
    held_ids, held_codes = _encode(tokenizer, held_out), to_codes(held_out["label"].to_numpy())

    log: list[dict[str, float]] = []
    for epoch in range(1, tuning.epochs + 1):
        checkpoint = work / f"epoch-{epoch}"
        if checkpoint.is_dir():
            log.append(json.loads((checkpoint / "log.json").read_text("utf-8")))
            if not (work / f"epoch-{epoch + 1}").is_dir():
                _load_checkpoint(checkpoint, parameters, optimiser)
            continue
        loss = _run_epoch(classifier, optimiser, ids, codes, tuning, epoch=epoch, progress=progress)
        held = log_loss(held_codes, softmax(_predict(classifier, held_ids, tuning.batch_size)))
        log.append({"epoch": epoch, "train_loss": loss, "held_out_log_loss": held})
        _write_checkpoint(checkpoint, classifier, parameters, optimiser, log[-1])
    return log


def _encode(tokenizer: Any, rows: pd.DataFrame) -> list[list[int]]:
    return [tokenizer.encode(to_input("", text)).ids for text in rows["text"]]


def make_batches(lengths: np.ndarray, *, batch_size: int, seed: int, epoch: int) -> list[list[np.ndarray]]:
    """Row positions of one epoch: every row once, in random batches, each batch as its shorter and its longer half.

    A batch is run in two parts so that little is padded. Batches of rows of like length would pad even less, but
    length goes with source and label here, and such batches pull the model to and fro.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches.append([part for part in np.array_split(rows, 2) if len(part)])
    return batches


def learning_rate_share(step: int, *, steps: int, warmup: float) -> float:
    """Share of the full learning rate at a step (0 is the first): rising over warmup * steps, then linearly to 0."""
    rising = max(1, round(warmup * steps))
    return (step + 1) / rising if step < rising else max(0.0, (steps - step) / max(1, steps - rising))


def _run_epoch(
    classifier: enc.Classifier,
    optimiser: Any,
    ids: list[list[int]],
    codes: np.ndarray,
    tuning: Tuning,
    *,
    epoch: int,
    progress: bool,
) -> float:
    """The mean training loss of one pass; changes the classifier and the optimiser."""
    torch = require("torch", extra="train", work=enc.WORK)
    from tqdm import tqdm

    # Seeded by epoch, so that dropout after a resumed start is what it would have been.
    torch.manual_seed(tuning.seed + epoch)
    batches = make_batches(
        np.array([len(row) for row in ids]), batch_size=tuning.batch_size, seed=tuning.seed, epoch=epoch
    )
    steps = len(batches) * tuning.epochs
    if tuning.method == "qlora":
        enc.check_unpacked(classifier.encoder)
    classifier.train(True)
    total = 0.0
    bar = tqdm(batches, desc=f"epoch {epoch}/{tuning.epochs}", disable=not progress, unit="batch")
    for number, parts in enumerate(bar):
        share = learning_rate_share((epoch - 1) * len(batches) + number, steps=steps, warmup=tuning.warmup)
        for group in optimiser.param_groups:
            group["lr"] = tuning.learning_rate * share
        optimiser.zero_grad(set_to_none=True)
        size, value = sum(len(rows) for rows in parts), 0.0
        for rows in parts:
            logits = classifier.logits(*enc.to_batch([ids[row] for row in rows]))
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(codes[rows]), reduction="sum") / size
            loss.backward()
            value += float(loss.detach())
        trained = classifier.trainable()
        if number == 0 and (lost := [name for name, tensor in trained.items() if tensor.grad is None]):
            raise ModelError(f"epoch {epoch}: no gradient reaches {len(lost)} tensors, first {lost[0]!r}.")
        if not np.isfinite(value):
            raise ModelError(f"epoch {epoch}, batch {number}: the loss is {value}; lower the learning rate.")
        torch.nn.utils.clip_grad_norm_(trained.values(), tuning.clip)
        optimiser.step()
        total += value * size
        bar.set_postfix(loss=f"{total / (number + 1) / tuning.batch_size:.3f}", refresh=False)
    return total / len(ids)


def _predict(classifier: enc.Classifier, ids: list[list[int]], batch_size: int) -> np.ndarray:
    """Logits in row order, float64 (n, 3), dropout off."""
    torch = require("torch", extra="train", work=enc.WORK)
    classifier.train(False)
    order = np.argsort([len(row) for row in ids], kind="stable")
    out = np.empty((len(ids), 3))
    with torch.no_grad():
        for start in range(0, len(ids), batch_size):
            rows = order[start : start + batch_size]
            out[rows] = classifier.logits(*enc.to_batch([ids[row] for row in rows])).numpy()
    return out


def _write_checkpoint(
    folder: Path, classifier: enc.Classifier, parameters: dict[str, Any], optimiser: Any, entry: dict[str, float]
) -> None:
    safetensors = require("safetensors.torch", extra="train", work=enc.WORK)
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    enc.write_adapter(classifier, unfinished)
    tensors = {f"{name}|value": value.detach().contiguous() for name, value in parameters.items()}
    for name, value in parameters.items():
        tensors |= {f"{name}|{key}": part.detach().contiguous() for key, part in optimiser.state[value].items()}
    safetensors.save_file(tensors, unfinished / "resume.safetensors")
    (unfinished / "log.json").write_text(json.dumps(entry), encoding="utf-8")
    os.replace(unfinished, folder)


def _load_checkpoint(folder: Path, parameters: dict[str, Any], optimiser: Any) -> None:
    torch = require("torch", extra="train", work=enc.WORK)
    safetensors = require("safetensors.torch", extra="train", work=enc.WORK)
    tensors = safetensors.load_file(folder / "resume.safetensors")
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(tensors[f"{name}|value"])
            optimiser.state[value] = {
                key.rpartition("|")[2]: part
                for key, part in tensors.items()
                if key.startswith(f"{name}|") and not key.endswith("|value")
            }
