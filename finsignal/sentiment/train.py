"""Fine-tuning: a recipe and labelled text to a model folder; resumable, the epoch chosen on a part cut from train."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError, ModelError, require
from finsignal.metrics import log_loss, to_codes
from finsignal.sentiment import encoder as enc
from finsignal.sentiment.calibrate import fit_temperature, softmax
from finsignal.sentiment.labelled import stands_in
from finsignal.sentiment.recipe import Recipe, Tuning, read_recipe
from finsignal.sentiment.tuning.lessons import encode, make_batches, read_data_set, read_parts, to_lessons

LAYER = re.compile(r"\.(?:layers?|h)\.(\d+)\.")  # the number of an encoder's layer, in the name of a tensor
RESUME = "resume.safetensors"


def fine_tune(
    recipe: Path, *, data: Path | Sequence[Path], out: Path, now: pd.Timestamp, progress: bool = False
) -> Path:
    """The finished model folder `out`: graph, tokenizer, adapter and card, ready for score.load_model.

    data: the folder that the recipe's paths are relative to, or several; the first that has a file counts. now: the
    date that the card states. progress: bars on stderr. Everything is cleaned together and split by normalised text;
    the epoch with the least log-loss on the held-out part, at its best temperature, is exported (merged into the full-
    precision base, INT8), and the temperature fitted there again on the exported graph.

    Work in progress lies in `out` + ".partial", one checkpoint an epoch. A run that was killed goes on from the last of
    them when it is started again, to the same model; `out` appears only when it is complete. Same recipe, data and
    machine: same model.

    Raises ConfigError where `out` exists already, or the work in progress belongs to another recipe or other data.
    """
    out = Path(out)
    if out.exists():
        raise ConfigError(f"{out}: exists already. Nothing was trained; choose another folder or remove it.")
    plan = read_recipe(recipe)
    folders = [data] if isinstance(data, str | os.PathLike) else list(data)
    base = enc.find_base(plan.base)
    train, held_out, counts, records = read_parts(plan, folders)
    for item in plan.report:  # now, and not after hours of training, when they are measured
        read_data_set(item, folders)
    work = out.with_name(out.name + ".partial")
    _claim(work, plan, records)

    tuned = [
        {
            "recipe": part.name,
            "settings": asdict(part.tuning),
            **_run_epochs(part, base, own, held, folder, progress=progress),
        }
        for part, own, held, folder in _to_runs(plan, train, held_out, folders, work)
    ]
    chosen = [run.pop("checkpoint") for run in tuned]
    from finsignal.sentiment.export import write_model_folder

    card: dict[str, Any] = {
        "made": str(now.date()),
        "recipe_sha256": plan.digest,
        "data": records,
        "cleaning": counts,
        "split": {"train": len(train), "held_out": len(held_out)},
        "runs": tuned,
    }
    finished = write_model_folder(
        plan, base=base, adapter=_to_mean(chosen, work / "mean"), held_out=held_out, train=train, data=folders,
        card=card, out=work / "model", progress=progress,
    )  # fmt: skip
    os.replace(finished, out)
    shutil.rmtree(work)
    return out


def _to_runs(
    plan: Recipe, train: pd.DataFrame, held_out: pd.DataFrame, folders: Sequence[Path], work: Path
) -> Iterator[tuple[Recipe, pd.DataFrame, pd.DataFrame, Path]]:
    """What is trained, each with its rows and its folder: the recipe itself, or the recipes that it is the mean of.

    Raises ConfigError where one of these would learn from a text that is held out.
    """
    if not plan.mean_of:
        yield plan, train, held_out, work
    for part in plan.mean_of:
        own, held, _, _ = read_parts(part, folders)
        if (seen := int(stands_in(held_out, own).sum())) or stands_in(held, train).any():
            raise ConfigError(
                f"{part.name}: learns from {seen} of the rows that {plan.name} holds out, or the other way round. Give "
                "both the same seed, share and sets."
            )
        (work / part.name).mkdir(exist_ok=True)
        yield part, own, held, work / part.name


def _to_mean(checkpoints: list[Path], folder: Path) -> Path:
    """The one checkpoint, or a new one in `folder` whose weights are the mean of those of several."""
    if len(checkpoints) == 1:
        return checkpoints[0]
    safetensors = require("safetensors.torch", extra="train", work=enc.WORK)
    weights = [safetensors.load_file(checkpoint / enc.WEIGHTS) for checkpoint in checkpoints]
    mean = {name: sum(each[name] for each in weights) / len(weights) for name in weights[0]}
    folder.mkdir(exist_ok=True)
    safetensors.save_file(mean, folder / enc.WEIGHTS)
    return folder


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
    train: pd.DataFrame,
    held_out: pd.DataFrame,
    work: Path,
    *,
    progress: bool,
) -> dict[str, Any]:
    """`epochs`, the log, one entry an epoch; `chosen_epoch`, from 1, and its `checkpoint`.

    What each epoch left lies in work/epoch-N, which appears when complete.
    """
    tuning = recipe.tuning
    tokenizer = enc.load_tokenizer(base / "tokenizer.json", recipe.base.max_tokens)
    classifier = enc.make_classifier(base, tuning, base_name=recipe.base.model)
    course = _make_course(classifier, tokenizer, train, tuning, {item.name: item.weight for item in recipe.data})
    parameters, average = course.parameters, course.average
    held_ids, held_codes = encode(tokenizer, held_out), to_codes(held_out["label"].to_numpy())

    log: list[dict[str, float]] = []
    for epoch in range(1, tuning.epochs + 1):
        checkpoint = work / f"epoch-{epoch}"
        if checkpoint.is_dir():
            log.append(json.loads((checkpoint / "log.json").read_text("utf-8")))
            if epoch < tuning.epochs and not (work / f"epoch-{epoch + 1}").is_dir():
                _load_checkpoint(checkpoint, course)
            continue
        loss = _run_epoch(course, epoch=epoch, progress=progress)
        last = {name: value.detach().clone() for name, value in parameters.items()} if average else {}
        _put(parameters, average)
        logits = predict_logits(classifier, held_ids)
        held = log_loss(held_codes, softmax(logits, fit_temperature(logits, held_codes)))  # as it would be exported
        log.append({"epoch": epoch, "train_loss": loss, "held_out_log_loss": held})
        _write_checkpoint(checkpoint, course, parameters | last, log[-1])
        (work / f"epoch-{epoch - 1}" / RESUME).unlink(missing_ok=True)
        _put(parameters, last)
    best = 1 + int(np.argmin([entry["held_out_log_loss"] for entry in log]))
    return {"epochs": log, "chosen_epoch": best, "checkpoint": work / f"epoch-{best}"}


def tune(
    classifier: enc.Classifier, tokenizer: Any, rows: pd.DataFrame, tuning: Tuning, *, progress: bool = False
) -> None:
    """Tunes the classifier on the rows in all epochs of `tuning`, without checkpoints or a held-out part: for trials.

    It is left as it would be exported, with the averaged weights where `tuning` has an average.
    """
    course = _make_course(classifier, tokenizer, rows, tuning, {})
    for epoch in range(1, tuning.epochs + 1):
        _run_epoch(course, epoch=epoch, progress=progress)
    _put(course.parameters, course.average)
    classifier.train(False)


@dataclass(frozen=True)
class _Course:
    """All that an epoch changes or reads: what is tuned, by name, its optimiser and running average; the lessons."""

    classifier: enc.Classifier
    parameters: dict[str, Any]
    optimiser: Any
    average: dict[str, Any]
    ids: list[list[int]]
    lessons: np.ndarray
    tuning: Tuning


def _make_course(
    classifier: enc.Classifier, tokenizer: Any, rows: pd.DataFrame, tuning: Tuning, weight: Mapping[str, float]
) -> _Course:
    torch = require("torch", extra="train", work=enc.WORK)
    parameters = classifier.trainable()
    rates = to_rates(list(parameters), tuning)
    groups = [
        {"params": [value], "share": rates[name], "weight_decay": tuning.weight_decay if value.ndim > 1 else 0.0}
        for name, value in parameters.items()
    ]
    return _Course(
        classifier,
        parameters,
        torch.optim.AdamW(groups, lr=tuning.learning_rate, fused=True),
        {name: value.detach().clone() for name, value in parameters.items()} if tuning.average else {},
        encode(tokenizer, rows),
        to_lessons(rows, weight, smoothing=tuning.label_smoothing),
        tuning,
    )


def _put(parameters: dict[str, Any], values: dict[str, Any]) -> None:
    torch = require("torch", extra="train", work=enc.WORK)
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)


def to_rates(names: Sequence[str], tuning: Tuning) -> dict[str, float]:
    """The learning rate of each tensor as a multiple: head_rate for the head, and layer_decay for each layer of the
    encoder below the uppermost; the embeddings count as the layer below the lowest."""
    layers = {name: int(found[1]) for name in names if (found := LAYER.search(name))}
    top = max(layers.values(), default=0)
    return {
        name: tuning.head_rate
        if name.startswith("head.")
        else tuning.layer_decay ** (top - layers[name] if name in layers else top + 1)
        for name in names
    }


def learning_rate_share(step: int, *, steps: int, warmup: float) -> float:
    """Share of the full learning rate at a step (0 is the first): rising over warmup * steps, then linearly to 0."""
    rising = max(1, round(warmup * steps))
    return (step + 1) / rising if step < rising else max(0.0, (steps - step) / max(1, steps - rising))


def _run_epoch(course: _Course, *, epoch: int, progress: bool) -> float:
    """The mean training loss of one pass; changes what is tuned, its optimiser and its average."""
    torch = require("torch", extra="train", work=enc.WORK)
    from tqdm import tqdm

    classifier, ids, tuning, trained = course.classifier, course.ids, course.tuning, course.parameters
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
        for group in course.optimiser.param_groups:
            group["lr"] = tuning.learning_rate * share * group["share"]
        course.optimiser.zero_grad(set_to_none=True)
        size, value = sum(len(rows) for rows in parts), 0.0
        for rows in parts:
            logits = classifier.logits(*enc.to_batch([ids[row] for row in rows]))
            loss = -(torch.from_numpy(course.lessons[rows]) * torch.log_softmax(logits, dim=1)).sum() / size
            loss.backward()
            value += float(loss.detach())
        if number == 0 and (lost := [name for name, tensor in trained.items() if tensor.grad is None]):
            raise ModelError(f"epoch {epoch}: no gradient reaches {len(lost)} tensors, first {lost[0]!r}.")
        if not np.isfinite(value):
            raise ModelError(f"epoch {epoch}, batch {number}: the loss is {value}; lower the learning rate.")
        torch.nn.utils.clip_grad_norm_(trained.values(), tuning.clip)
        course.optimiser.step()
        if course.average:
            done = (epoch - 1) * len(batches) + number + 1
            decay = min(tuning.average, done / (done + 10))  # the first steps hardly count
            with torch.no_grad():
                for name, tensor in trained.items():
                    course.average[name].lerp_(tensor, 1 - decay)
        total += value * size
        bar.set_postfix(loss=f"{total / (number + 1) / tuning.batch_size:.3f}", refresh=False)
    return total / len(ids)


def predict_logits(classifier: enc.Classifier, ids: list[list[int]], *, batch_size: int = 32) -> np.ndarray:
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


def _write_checkpoint(folder: Path, course: _Course, values: dict[str, Any], entry: dict[str, float]) -> None:
    """The classifier as it would be exported, and beside it what a resumed run needs: values of the last step, their
    optimiser's state, and the average."""
    safetensors = require("safetensors.torch", extra="train", work=enc.WORK)
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    (enc.write_weights if course.tuning.method == "full" else enc.write_adapter)(course.classifier, unfinished)
    tensors = {f"{name}|value": value.detach().contiguous() for name, value in values.items()}
    tensors |= {f"{name}|average": value for name, value in course.average.items()}
    for name, value in course.parameters.items():
        state = course.optimiser.state[value]
        tensors |= {f"{name}|{key}": part.detach().contiguous() for key, part in state.items()}
    safetensors.save_file(tensors, unfinished / RESUME)
    (unfinished / "log.json").write_text(json.dumps(entry), encoding="utf-8")
    os.replace(unfinished, folder)


def _load_checkpoint(folder: Path, course: _Course) -> None:
    torch = require("torch", extra="train", work=enc.WORK)
    safetensors = require("safetensors.torch", extra="train", work=enc.WORK)
    tensors = safetensors.load_file(folder / RESUME)
    for name in course.average:
        course.average[name] = tensors[f"{name}|average"]
    with torch.no_grad():
        for name, value in course.parameters.items():
            value.copy_(tensors[f"{name}|value"])
            course.optimiser.state[value] = {
                key.rpartition("|")[2]: part
                for key, part in tensors.items()
                if key.startswith(f"{name}|") and not key.endswith(("|value", "|average"))
            }
