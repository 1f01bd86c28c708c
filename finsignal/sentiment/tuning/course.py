"""The loop: epochs over the lessons, with checkpoints, early stopping, and a log of every step."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from finsignal.errors import ModelError, require
from finsignal.metrics import accuracy, log_loss
from finsignal.sentiment.calibrate import fit_temperature, softmax
from finsignal.sentiment.recipe import Tuning
from finsignal.sentiment.tuning import checkpoints, methods
from finsignal.sentiment.tuning.adapters import write_tuned
from finsignal.sentiment.tuning.bases import NF4, WORK, check_unpacked
from finsignal.sentiment.tuning.heads import Classifier
from finsignal.sentiment.tuning.instruct import completion_loss
from finsignal.sentiment.tuning.losses import loss_of, oversample
from finsignal.sentiment.tuning.optimise import (
    check_warmup,
    count_steps,
    learning_rate_share,
    make_batches,
    make_optimiser,
)

Example = tuple[list[int], list[int]]  # token ids, and what is to be said at each: -100 where nothing


@dataclass(frozen=True)
class Lessons:
    """What is learned: the token ids of each row; its label times its weight, float32 (n, 3); which rows an epoch
    reads, int (m,); and for a head of kind words the whole example of each row."""

    ids: list[list[int]]
    labels: np.ndarray
    positions: np.ndarray
    examples: list[Example] | None = None


def make_lessons(
    ids: list[list[int]], labels: np.ndarray, tuning: Tuning, *, examples: list[Example] | None = None
) -> Lessons:
    """The lessons of these rows, the rarer labels drawn several times where the tuning says so."""
    everything = np.arange(len(ids))
    drawn = oversample(labels.argmax(axis=1), tuning.seed) if tuning.oversample else everything
    return Lessons(ids, labels, drawn, examples)


@dataclass(frozen=True)
class Course:
    """All that a step changes or reads. features: the pooled states of all rows, where the base is frozen."""

    classifier: Classifier
    lessons: Lessons
    tuning: Tuning
    parameters: dict[str, Any]
    optimiser: Any
    average: dict[str, Any]
    scaler: Any
    features: Any
    steps: int
    log: list[dict[str, float]] = field(default_factory=list)
    trackers: Sequence[Any] = ()


def make_course(classifier: Classifier, lessons: Lessons, tuning: Tuning, *, trackers: Sequence[Any] = ()) -> Course:
    """A course before its first step. Raises ConfigError where the warm-up would never end."""
    torch = require("torch", extra="train", work=WORK)
    parameters = classifier.trainable()
    steps = count_steps(len(lessons.positions), tuning) * tuning.epochs
    check_warmup(steps=steps, tuning=tuning)
    frozen = tuning.method == "frozen" and classifier.head is not None
    return Course(
        classifier,
        lessons,
        tuning,
        parameters,
        make_optimiser(parameters, tuning),
        {name: value.detach().clone() for name, value in parameters.items()} if tuning.average else {},
        torch.amp.GradScaler(classifier.device.type, enabled=classifier.arithmetic == "float16"),
        pool_all(classifier, lessons.ids, batch_size=tuning.batch_size) if frozen else None,
        steps,
        trackers=trackers,
    )


def run_course(
    course: Course, held_ids: list[list[int]], held_codes: np.ndarray, work: Path, *, progress: bool = False
) -> dict[str, Any]:
    """`epochs`, the log, one entry an epoch; `steps`, one a step; `chosen_epoch`, from 1, and its `checkpoint`.

    The chosen epoch has the least log-loss on the held-out rows, at its best temperature, as it would be exported. What
    each epoch left lies in work/epoch-N, which appears when complete; a run that was stopped goes on from the last of
    them, or from a step written after it.

    Raises ModelError where memory or disk run out, a gradient is lost, or the loss is not finite.
    """
    tuning, entries = course.tuning, []
    for epoch in range(1, tuning.epochs + 1):
        checkpoint = work / f"epoch-{epoch}"
        if checkpoint.is_dir():
            entries.append(json.loads((checkpoint / "log.json").read_text("utf-8")))
            if not (work / f"epoch-{epoch + 1}").is_dir() and (checkpoint / checkpoints.STATE).is_file():
                course.log[:] = _load(checkpoint, course)["log"]
        else:
            with tell_memory(tuning):
                loss = run_epoch(course, epoch=epoch, work=work, progress=progress)
                last = {name: value.detach().clone() for name, value in course.parameters.items() if course.average}
                put(course.parameters, course.average)
                logits = predict_logits(course.classifier, held_ids, batch_size=tuning.batch_size)
            held = softmax(logits, fit_temperature(logits, held_codes))
            entry = {
                "epoch": epoch,
                "train_loss": loss,
                "held_out_log_loss": log_loss(held_codes, held),
                "held_out_accuracy": accuracy(held_codes, held),
            }
            entries.append(entry)
            with checkpoints.whole_folder(checkpoint) as folder:
                write_tuned(course.classifier, folder)
                _save(folder, course, course.parameters | last, {"epoch": epoch, "done": 0, "loss": 0.0})
                (folder / "log.json").write_text(json.dumps(entry), encoding="utf-8")
            (work / f"epoch-{epoch - 1}" / checkpoints.STATE).unlink(missing_ok=True)
            for old in work.glob("step-*"):
                shutil.rmtree(old)
            put(course.parameters, last)
            for tracker in course.trackers:
                tracker.log(len(course.log), {key: value for key, value in entry.items() if key != "epoch"})
        best = 1 + int(np.argmin([entry["held_out_log_loss"] for entry in entries]))
        if tuning.patience and epoch - best >= tuning.patience:
            break
    return {"epochs": entries, "steps": course.log, "chosen_epoch": best, "checkpoint": work / f"epoch-{best}"}


def run_epoch(course: Course, *, epoch: int, work: Path | None = None, progress: bool = False) -> float:
    """The mean training loss of one pass; changes what is tuned, its optimiser and its average."""
    torch = require("torch", extra="train", work=WORK)
    from tqdm import tqdm

    tuning, lessons = course.tuning, course.lessons
    # Seeded by epoch, so that dropout after a resumed start is what it would have been.
    torch.manual_seed(tuning.seed + epoch)
    lengths = np.array([len(ids) for ids in lessons.ids])[lessons.positions]
    batches = make_batches(
        lengths,
        batch_size=tuning.batch_size,
        seed=tuning.seed,
        epoch=epoch,
        accumulation=tuning.accumulation,
        group_by_length=tuning.group_by_length,
        small=course.classifier.device.type == "cpu",
    )
    done, total = 0, 0.0
    found = [folder for folder in sorted(work.glob("step-*[0-9]")) if _epoch_of(folder) == epoch] if work else []
    if found:
        place = _load(found[-1], course)
        course.log[:], done, total = place["log"], place["done"], place["loss"]
    if tuning.method in NF4:
        check_unpacked(course.classifier.encoder)
    course.classifier.train(True)
    bar = tqdm(
        batches[done:],
        desc=f"epoch {epoch}/{tuning.epochs}",
        disable=not progress,
        unit="step",
        initial=done,
        total=len(batches),
    )
    for number, parts in enumerate(bar, done):
        step = (epoch - 1) * len(batches) + number
        size = sum(len(part) for part in parts)
        loss = run_step(course, [lessons.positions[part] for part in parts], step=step, epoch=epoch)
        total += loss * size
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        if work and tuning.checkpoint_steps and (step + 1) % tuning.checkpoint_steps == 0 and number + 1 < len(batches):
            with checkpoints.whole_folder(work / f"step-{step + 1:09d}") as folder:
                _save(folder, course, course.parameters, {"epoch": epoch, "done": number + 1, "loss": total})
            for old in sorted(work.glob("step-*"))[:-1]:
                shutil.rmtree(old)
    return total / len(lessons.positions)


def run_step(course: Course, parts: list[np.ndarray], *, step: int, epoch: int) -> float:
    """The mean loss of the rows of one step, which changes what is tuned."""
    torch = require("torch", extra="train", work=WORK)
    classifier, tuning, tensors = course.classifier, course.tuning, course.parameters
    share = learning_rate_share(step, steps=course.steps, warmup=tuning.warmup, schedule=tuning.schedule)
    for group in course.optimiser.param_groups:
        group["lr"] = tuning.learning_rate * share * group["share"]
    course.optimiser.zero_grad(set_to_none=True)
    # The sum over all parts by the rows of all: a mean of means would weigh the rows of a short part more.
    size, value = sum(len(rows) for rows in parts), 0.0
    for number, rows in enumerate(parts):
        loss = _loss(course, rows) / size
        value += float(loss.detach())
        if tuning.method == "adalora" and number == 0:
            weight = classifier.encoder.peft_config["default"].orth_reg_weight
            loss = loss + weight * methods.orthogonality(classifier.encoder)
        course.scaler.scale(loss).backward()
    if step == 0 and (lost := [name for name, tensor in tensors.items() if tensor.grad is None]):
        raise ModelError(f"epoch {epoch}: no gradient reaches {len(lost)} tensors, first {lost[0]!r}.")
    if not np.isfinite(value):
        raise ModelError(f"epoch {epoch}, step {step + 1}: the loss is {value}; lower the learning rate.")
    course.scaler.unscale_(course.optimiser)
    norm = float(torch.nn.utils.clip_grad_norm_(tensors.values(), tuning.clip))
    course.scaler.step(course.optimiser)
    course.scaler.update()
    if np.isfinite(norm):  # else the scaler left the step out, and AdaLoRA would remember the overflow for good
        methods.after_step(classifier.encoder, tuning, step)
    if course.average:
        decay = min(tuning.average, (step + 1) / (step + 11))  # the first steps hardly count
        with torch.no_grad():
            for name, tensor in tensors.items():
                course.average[name].lerp_(tensor, 1 - decay)
    row = {"loss": value, "learning_rate": tuning.learning_rate * share}
    row |= {"gradient_norm": norm} if np.isfinite(norm) else {}  # float16 overflowed: the step was left out
    course.log.append({"step": step + 1, "epoch": epoch, **row})
    for tracker in course.trackers:
        tracker.log(step + 1, row)
    return value


def _loss(course: Course, rows: np.ndarray) -> Any:
    """The sum of the rows' losses, a torch scalar."""
    torch = require("torch", extra="train", work=WORK)
    classifier, lessons = course.classifier, course.lessons
    labels = torch.from_numpy(lessons.labels[rows]).to(classifier.device)
    if lessons.examples is not None:
        with classifier.cast():
            return completion_loss(classifier.encoder, [lessons.examples[row] for row in rows], labels.sum(dim=1))
    if course.features is not None:
        logits = classifier.read(course.features[rows])
    else:
        logits = classifier.logits(*classifier.to_batch([lessons.ids[row] for row in rows]))
    return loss_of(logits, labels, course.tuning.loss, course.tuning.focal_gamma)


@contextlib.contextmanager
def tell_memory(tuning: Tuning) -> Iterator[None]:
    """Raises ModelError where memory runs out, with what to lower, in the order in which it helps."""
    torch = require("torch", extra="train", work=WORK)
    try:
        yield
    except (MemoryError, RuntimeError) as err:
        told = ("out of memory", "not enough memory", "can't allocate memory")
        if not isinstance(err, MemoryError | torch.OutOfMemoryError) and not any(each in str(err) for each in told):
            raise
        halves = max(1, tuning.batch_size // 2)
        ways = [f"batch_size = {halves} with accumulation = {tuning.accumulation * 2}, which learns the same"]
        ways += [] if tuning.checkpointing or tuning.method == "prefix" else ["checkpointing = true"]
        ways += ["a smaller max_tokens in [base]"]
        ways += [] if tuning.method in ("qlora", "prompt", "prefix") else ["method = 'qlora'"]
        ways += [] if "8bit" in tuning.optimiser else ["optimiser = 'paged_adamw_8bit'"]
        first = str(err).strip().partition("\n")[0]
        raise ModelError(f"training ran out of memory ({first}). Lower it by {'; '.join(ways)}.") from err


def predict_logits(classifier: Classifier, ids: list[list[int]], *, batch_size: int = 32) -> np.ndarray:
    """Logits in row order, float64 (n, 3), dropout off."""
    return np.asarray(_run_all(classifier, ids, classifier.logits, batch_size).cpu().numpy(), dtype=np.float64)


def pool_all(classifier: Classifier, ids: list[list[int]], *, batch_size: int = 32) -> Any:
    """The pooled states in row order, float32 (n, hidden), dropout off: what a frozen base says of each text."""
    return _run_all(classifier, ids, classifier.pool, batch_size)


def _run_all(classifier: Classifier, ids: list[list[int]], run: Any, batch_size: int) -> Any:
    torch = require("torch", extra="train", work=WORK)
    classifier.train(False)
    order, found = np.argsort([len(row) for row in ids], kind="stable"), []
    with torch.no_grad():
        for start in range(0, len(ids), batch_size):
            found.append(run(*classifier.to_batch([ids[row] for row in order[start : start + batch_size]])))
    return torch.cat(found)[torch.from_numpy(np.argsort(order, kind="stable")).to(classifier.device)]


def put(parameters: dict[str, Any], values: dict[str, Any]) -> None:
    """Writes the values into the parameters of the same names."""
    torch = require("torch", extra="train", work=WORK)
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)


def _save(folder: Path, course: Course, values: dict[str, Any], place: dict[str, Any]) -> None:
    checkpoints.write_state(
        folder,
        course.classifier,
        course.optimiser,
        values,
        average=course.average,
        place={**place, "log": course.log, "scaler": course.scaler.state_dict()},
    )


def _epoch_of(folder: Path) -> int:
    return int(json.loads((folder / checkpoints.PROGRESS).read_text("utf-8"))["place"]["epoch"])


def _load(folder: Path, course: Course) -> dict[str, Any]:
    place: dict[str, Any] = checkpoints.read_state(folder, course.classifier, course.optimiser, course.average)
    if place["scaler"]:
        course.scaler.load_state_dict(place["scaler"])
    return place
