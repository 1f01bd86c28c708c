"""A request carried out: what it names read and scored, then judged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from finsignal.config import RunFile
from finsignal.errors import ConfigError
from finsignal.lake import open_lake
from finsignal.sentiment.score import Model
from finsignal.study.inputs import Inputs, beside, read_inputs
from finsignal.study.manifest import Request, digest_files
from finsignal.study.run import Study, run_study
from finsignal.study.scoring import score_known


@dataclass(frozen=True)
class Read:
    """What a request names, read: the inputs, its sentiment tables by name, the models behind them, and what to say."""

    request: Request
    files: Mapping[str, str | None]
    inputs: Inputs
    sentiments: Mapping[str, pd.DataFrame]
    models: Mapping[str, Model]
    notes: tuple[str, ...]


def read_request(request: Request, *, progress: bool = False) -> Read:
    """The request's inputs and scores. progress: a bar on stderr while texts are scored."""
    files = digest_files(request)  # first: of a file that changes while it is read, the manifest then names the change
    inputs = read_inputs(request.run, now=request.now)
    given, notes = read_given_scores(request.run, request.sentiment, inputs.news)
    scored, models = score_by_model(request.run, request.model, inputs.news, now=request.now, progress=progress)
    return Read(request, files, inputs, {**given, **scored}, models, tuple(notes))


def run_read(read: Read, *, progress: bool = False) -> Study:
    """The study of what was read; its manifest has all that repeats it. progress: a bar on stderr where it is long."""
    return run_study(
        read.request.run,
        read.inputs,
        read.sentiments,
        models=read.models,
        notes=read.notes,
        request=read.request,
        files=read.files,
        progress=progress,
    )


def run_request(request: Request, *, progress: bool = False) -> Study:
    """The request read and carried out. progress: a bar on stderr while texts are scored and settings are tried."""
    return run_read(read_request(request, progress=progress), progress=progress)


def read_given_scores(run: RunFile, path: Path | None, news: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The sentiment table of a file by its name, and what its reader notes; nothing where there is no file."""
    from finsignal.sources.files import read_sentiment

    if path is None:
        return {}, []
    if run.sentiment is None:
        raise ConfigError(
            f"{run.path}: --sentiment needs to know the file's columns. Write a [sentiment] section, or pass "
            "--map by=text --map time=COLUMN --map text=COLUMN --map label=COLUMN."
        )
    table, counts = read_sentiment(path, run.sentiment, news, limit=run.row_limit)
    dropped = [f"{path.name}: {n} rows dropped: {reason}." for reason, n in counts.dropped.items()]
    return {f"scores of {path.name}": table}, [*counts.notes, *dropped]


def score_by_model(
    run: RunFile, folder: Path | None, news: pd.DataFrame, *, now: pd.Timestamp, progress: bool = False
) -> tuple[dict[str, pd.DataFrame], dict[str, Model]]:
    """A model's sentiment table by the model's name, and the model by the same name; without a folder, the shipped.

    A run on a lake that can be written to finds there what was scored before, and leaves there what was not.
    """
    from finsignal.sentiment.score import load_model, score_news

    model = load_model(folder)
    name = f"model {model.name}"
    if run.lake and os.access(beside(run, run.lake), os.W_OK):
        table, _ = score_known(
            open_lake(beside(run, run.lake)), news, model, now=now, names=run.names, progress=progress
        )
    else:
        table = score_news(news, model, progress=progress, names=run.names)
    return {name: table}, {name: model}
