"""Tuning: a recipe and labelled text to a model folder; resumable, the epoch chosen on a part cut from train."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import ConfigError, require
from finsignal.metrics import to_codes
from finsignal.sentiment import export
from finsignal.sentiment.labelled import stands_in
from finsignal.sentiment.prompt import to_input
from finsignal.sentiment.recipe import Recipe, Tuning, read_recipe
from finsignal.sentiment.tuning import adapters, advice, bases, forgetting, instruct
from finsignal.sentiment.tuning.checkpoints import tell_disk
from finsignal.sentiment.tuning.course import (
    Lessons,
    make_course,
    make_lessons,
    predict_logits,
    put,
    run_course,
    run_epoch,
    tell_memory,
)
from finsignal.sentiment.tuning.heads import Classifier, make_classifier
from finsignal.sentiment.tuning.lessons import encode, read_data_set, read_parts, to_lessons
from finsignal.sentiment.tuning.losses import oversample
from finsignal.sentiment.tuning.optimise import count_steps
from finsignal.sentiment.tuning.tracking import make_trackers
from finsignal.writing import whole_file


def fine_tune(
    recipe: Path | str | Recipe,
    *,
    data: Path | Sequence[Path],
    out: Path,
    now: pd.Timestamp,
    device: str = "",
    report_to: Sequence[str] = (),
    progress: bool = False,
) -> Path:
    """The finished model folder `out`, ready for score.load_model.

    recipe: a file, the name of a recipe that ships, or a Recipe. data: the folder that the recipe's paths are relative
    to, or several; the first that has a file counts. now: the date that the card states. device: "cpu" or "cuda"; a GPU
    where there is one. report_to: services that get every step as well: wandb, mlflow, tensorboard. progress: bars and
    what is about to be done on stderr.

    Everything is cleaned together and split by normalised text; the epoch with the least log-loss on the held-out part,
    at its best temperature, is written, and the temperature fitted there again on what was written. A BERT whose
    tuning can be merged becomes an INT8 graph; every other model its adapter, or its weights, beside its base's name.

    Work in progress lies in `out` + ".partial", one checkpoint an epoch, and more where the recipe says so. A run that
    was killed goes on from the last of them when it is started again, to the same model; `out` appears only when it is
    complete. Same recipe, data and machine: same model.

    Raises ConfigError where `out` exists already, the work in progress belongs to another recipe or other data, or the
    warm-up would never end; ModelError where the base is not what the recipe needs, or memory or disk run out.
    """
    out = Path(out)
    if out.exists():
        raise ConfigError(f"{out}: exists already. Nothing was trained; choose another folder or remove it.")
    plan = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    folders = [data] if isinstance(data, str | os.PathLike) else list(data)
    if plan.tuning.method == "tfidf" and report_to:
        raise ConfigError(f"{plan.name}: tfidf is fitted at once and has no steps that {list(report_to)} could show.")
    base = None if plan.tuning.method == "tfidf" else bases.find_base(plan.base)
    train, held_out, counts, records = read_parts(plan, folders)
    if not len(train) or not len(held_out):
        raise ConfigError(
            f"{plan.name}: of its cleaned rows {len(train)} are left to learn from and {len(held_out)} are held out; "
            "expected some of each. Give it more rows, or another held_out in [tuning]."
        )
    for item in plan.report:  # now, and not after hours of training, when they are measured
        read_data_set(item, folders)
    described, where = {}, ""
    if base is not None:
        where = bases.to_device(device)
        plan = dataclasses.replace(plan, tuning=advice.with_rank(plan.tuning, len(train)))
        described = advice.describe(plan, count_drawn(train, plan.tuning), base, device=where)
        if progress:
            tell(advice.plan_text(described))
    work = out.with_name(out.name + ".partial")
    _claim(work, plan, records)

    card: dict[str, Any] = {
        "made": str(now.date()),
        "recipe_sha256": plan.digest,
        "data": records,
        "cleaning": counts,
        "split": {"train": len(train), "held_out": len(held_out)},
    }
    rows = export.Rows(train, held_out, folders)
    if base is None:
        finished = export.write_tfidf_folder(plan, rows, card=card, out=work / "model", progress=progress)
    else:
        tuned = []
        for part, own, held, folder in _to_runs(plan, train, held_out, folders, work):
            kept = work / "tracking"
            trackers = make_trackers(report_to, run_name=part.name, folder=kept, settings=asdict(part.tuning))
            with contextlib.ExitStack() as ends:
                for tracker in trackers:
                    ends.callback(tracker.finish)
                ends.enter_context(tell_memory(part.tuning))
                run = run_tuning(part, base, own, held, folder, device=where, trackers=trackers, progress=progress)
            if run["before"] and progress:
                tell(instruct.to_lines(run["before"]))
            tuned.append(run)
        chosen = [run.pop("checkpoint") for run in tuned]
        prompt = [run.pop("prompt") for run in tuned].pop()
        logs = [{"plan": described, **run} for run in tuned]
        for run in tuned:
            del run["steps"]
        with tell_disk(work / "model"):
            finished = export.write_model_folder(
                plan,
                rows,
                base=base,
                checkpoint=_to_mean(chosen, work / "mean"),
                prompt=prompt,
                logs=logs,
                card={**card, "runs": tuned},
                out=work / "model",
                device=where,
                progress=progress,
            )
    if (work / "tracking").is_dir():
        shutil.move(work / "tracking", out.with_name(out.name + ".tracking"))
    os.replace(finished, out)
    shutil.rmtree(work)
    return out


def tell(lines: Sequence[str]) -> None:
    """Writes the lines to stderr, above any bar."""
    import sys

    from tqdm import tqdm

    for line in lines:
        tqdm.write(line, file=sys.stderr)


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
    safetensors = require("safetensors.torch", extra="train", work=bases.WORK)
    weights = [safetensors.load_file(checkpoint / adapters.WEIGHTS) for checkpoint in checkpoints]
    mean = {name: sum(each[name] for each in weights) / len(weights) for name in weights[0]}
    folder.mkdir(exist_ok=True)
    safetensors.save_file(mean, folder / adapters.WEIGHTS)
    return folder


def _claim(work: Path, recipe: Recipe, records: list[dict[str, Any]]) -> None:
    """Makes the folder of the work in progress, or checks that the one that stands there is this run's."""
    chosen = {"tuning": asdict(recipe.tuning), "head": asdict(recipe.head), "base": recipe.base.model}
    settled = json.loads(json.dumps(chosen))  # as it is read back: a tuple is a list
    mine = {"recipe": recipe.digest, **settled, "data": [record["sha256"] for record in records]}
    settings = work / "settings.json"
    if settings.is_file():
        if json.loads(settings.read_text("utf-8")) != mine:
            raise ConfigError(
                f"{work}: holds a run of another recipe or other data. Remove it or choose another --out."
            )
        return
    work.mkdir(parents=True, exist_ok=True)
    with tell_disk(work), whole_file(settings) as unfinished:
        unfinished.write_text(json.dumps(mine), encoding="utf-8")


def run_tuning(
    recipe: Recipe,
    base: Path,
    train: pd.DataFrame,
    held_out: pd.DataFrame,
    work: Path,
    *,
    device: str = "cpu",
    trackers: Sequence[Any] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """What course.run_course gives, with the recipe's name, its settings, and what tuning changed about the base.

    `before`: the base's figures beside the tuned model's on the held-out rows, where the base can answer by itself.
    `forgetting`: perplexity of both on a general text, or why there is none.
    """
    tuning, weight = recipe.tuning, {item.name: item.weight for item in recipe.data}
    steps = count_steps(count_drawn(train, tuning), tuning) * tuning.epochs
    classifier = make_classifier(
        base, tuning, base_name=recipe.base.model, head=recipe.head, steps=steps, device=device
    )
    reader = make_reader(base, recipe, classifier)
    labels = to_lessons(train, weight, smoothing=tuning.label_smoothing, class_weights=tuning.class_weights)
    course = make_course(reader.classifier, reader.to_lessons(train, labels, tuning), tuning, trackers=trackers)
    codes = to_codes(held_out["label"].to_numpy())
    held_ids = reader.encode(held_out)
    found = run_course(course, held_ids, codes, work, progress=progress)
    found["prompt"] = None if reader.prompt is None else asdict(reader.prompt)
    del course  # and with it the optimiser's memory
    return {
        "recipe": recipe.name,
        "settings": asdict(tuning),
        **found,
        **_look_back(reader, recipe, base, found, held_ids, codes),
    }


def _look_back(
    reader: Reader, recipe: Recipe, base: Path, found: dict[str, Any], held_ids: list[list[int]], codes: np.ndarray
) -> dict[str, Any]:
    """What the best epoch changed about the base: its answers, where it gives any, and its general English."""
    if recipe.tuning.method == "adalora":  # whose ranks were other ones then, so that they do not fit those of now
        device, best = str(reader.classifier.device), found["checkpoint"]
        reader = make_reader(base, recipe, adapters.load_adapted(base, best, head=recipe.head, device=device))
    else:
        adapters.read_tuned(reader.classifier, found["checkpoint"])
    untouched = None
    if recipe.head.kind in ("own", "words") and not adapters.is_adapted(reader.classifier):
        plain = dataclasses.replace(recipe.tuning, method="frozen")
        untouched = make_reader(
            base,
            recipe,
            make_classifier(
                base, plain, base_name=recipe.base.model, head=recipe.head, device=str(reader.classifier.device)
            ),
        ).classifier
    size = recipe.tuning.batch_size
    return {
        "before": instruct.before_and_after(
            reader.classifier,
            codes,
            lambda classifier: predict_logits(classifier, held_ids, batch_size=size),
            base=untouched,
            seed=recipe.tuning.seed,
        ),
        "forgetting": forgetting.measure_forgetting(reader.classifier, base, untouched),
    }


def count_drawn(rows: pd.DataFrame, tuning: Tuning) -> int:
    """How many rows an epoch reads: more than there are where the rarer labels are drawn several times."""
    return len(oversample(to_codes(rows["label"].to_numpy()), tuning.seed)) if tuning.oversample else len(rows)


@dataclasses.dataclass(frozen=True)
class Reader:
    """A classifier with what turns rows into its tokens: its tokenizer, and its prompt where its head is of words."""

    classifier: Classifier
    words: Any
    prompt: Any = None

    def encode(self, rows: pd.DataFrame) -> list[list[int]]:
        """Token ids of each row, as in scoring."""
        if self.prompt is None:
            return encode(self.words, rows)
        texts = [to_input("", text) for text in rows["text"]]
        asked = zip(texts, rows["target"], strict=True)
        return [instruct.encode_prompt(self.words, self.prompt, *pair) for pair in asked]

    def to_lessons(self, rows: pd.DataFrame, labels: Any, tuning: Tuning) -> Lessons:
        """The rows as a course learns them."""
        examples = None
        if self.prompt is not None:
            texts = [to_input("", text) for text in rows["text"]]
            asked = zip(texts, rows["target"], rows["label"], strict=True)
            examples = [instruct.to_example(self.words, self.prompt, *row) for row in asked]
        return make_lessons(self.encode(rows), labels, tuning, examples=examples)


def make_reader(base: Path, recipe: Recipe, classifier: Classifier) -> Reader:
    """The reader of a fresh classifier; one with a head of words gets its prompt from the base's chat template."""
    words = bases.load_words(base, recipe.base.max_tokens)
    if recipe.head.kind != "words":
        return Reader(classifier, words)
    prompt = instruct.make_prompt(bases.load_chat_words(base), recipe.head, max_tokens=recipe.base.max_tokens)
    instruct.check_answers(words, prompt)
    first = instruct.first_tokens(words, prompt)
    return Reader(dataclasses.replace(classifier, first_tokens=first), words, prompt)


def tune(classifier: Classifier, words: Any, rows: pd.DataFrame, tuning: Tuning, *, progress: bool = False) -> None:
    """Tunes the classifier on the rows in all epochs of `tuning`, without checkpoints or a held-out part: for trials.

    It is left as it would be exported, with the averaged weights where `tuning` has an average.
    """
    labels = to_lessons(rows, {}, smoothing=tuning.label_smoothing, class_weights=tuning.class_weights)
    course = make_course(classifier, make_lessons(encode(words, rows), labels, tuning), tuning)
    for epoch in range(1, tuning.epochs + 1):
        run_epoch(course, epoch=epoch, progress=progress)
    put(course.parameters, course.average)
    classifier.train(False)
