"""The figures of a training, sent on to TensorBoard, MLflow or Weights & Biases while it runs.

None of them is needed to see the curves: `finsignal train` draws them beside the model.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from finsignal.errors import ConfigError, did_you_mean, require

EXTRA, PROJECT = "tracking", "finsignal"
LONGEST = 500  # characters of a setting in MLflow, whose servers refuse more than 6,000, older ones more than 500


class Tracker(Protocol):
    """What a training tells its figures to."""

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        """Notes the figures of a step, counted from 1 and never falling; None is a figure that there is not."""

    def finish(self) -> None:
        """Writes out what is still held back. Nothing is logged after it."""


def make_trackers(names: Sequence[str], *, run_name: str, folder: Path, settings: Mapping[str, Any]) -> list[Tracker]:
    """One tracker for each of the names "tensorboard", "mlflow", "wandb"; a name that stands there twice counts once.

    All stay on this machine unless told otherwise by the variables of the services themselves:

    - tensorboard writes to `folder`/tensorboard/`run_name`; a resumed training goes on with the same curves.
    - mlflow writes to the database `folder`/mlflow.db, or to the server of MLFLOW_TRACKING_URI. The experiment is
      "finsignal", or that of MLFLOW_EXPERIMENT_NAME. A resumed training is a second run of the same name.
    - wandb writes to `folder`/wandb, to be sent by `wandb sync`. WANDB_MODE=online sends at once, with WANDB_API_KEY.
      The project is "finsignal", or that of WANDB_PROJECT. A resumed training is a second run of the same name.

    settings: of the training, nested dicts of plain values, shown beside the figures. A service that fails later does
    not end the training: it is told once in the log, and gets no more figures.

    Raises ConfigError at an unknown name, at a run_name that cannot be a file's, and where a service does not start;
    MissingExtraError where a package is not installed. No service is started before all packages are found.
    """
    known = list(MAKERS)
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in known:
            raise ConfigError(f"report_to: {name!r}.{did_you_mean(name, known)} Expected one of {known}.")
    if not run_name.strip(". ") or Path(run_name).name != run_name:
        raise ConfigError(f"report_to: the run is named {run_name!r}; expected a name without folders.")
    for name in names:
        for module in PACKAGES[name]:
            if module != "alembic" or "MLFLOW_TRACKING_URI" not in os.environ:
                require(module, extra=EXTRA, work=f"report_to {name!r}")
    with contextlib.ExitStack() as started:  # where one does not start, those before it are ended
        made: list[Tracker] = []
        for name in names:
            try:
                tracker = MAKERS[name](run_name, Path(folder), flatten(settings))
            except _failures(name) as err:
                raise ConfigError(
                    f"report_to {name!r}: could not start ({err}). Put it right, or leave it out."
                ) from err
            made.append(_Guarded(tracker, name))
            started.callback(made[-1].finish)
        started.pop_all()
    return made


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings as one level with dotted names: numbers, text and booleans as they are, all else as text.

    >>> flatten({"seed": 1, "tuning": {"rank": 8, "target_modules": ["query", "value"]}})
    {'seed': 1, 'tuning.rank': 8, 'tuning.target_modules': '["query", "value"]'}
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": each for inner, each in flatten(value).items()}
        elif isinstance(value, list | tuple):
            flat[str(name)] = json.dumps(value, default=str)
        else:
            flat[str(name)] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


class _Guarded:
    """A tracker whose failures are told once, and end neither the training nor its trackers beside it."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        self.tracker, self.name, self.lost = tracker, name, False

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        known = {key: float(value) for key, value in values.items() if value is not None and math.isfinite(value)}
        if not self.lost and known:
            self._try(lambda: self.tracker.log(step, known))

    def finish(self) -> None:
        self._try(self.tracker.finish)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except _failures(self.name) as err:
            if not self.lost:
                logging.getLogger(__name__).warning("report_to %r failed and gets no more figures: %s", self.name, err)
            self.lost = True


def _failures(name: str) -> tuple[type[Exception], ...]:
    """What a service raises where a network, a disk, an account or a setting fails it."""
    own: tuple[type[Exception], ...] = ()
    if name == "mlflow":
        own = (require("mlflow.exceptions", extra=EXTRA, work="report_to 'mlflow'").MlflowException,)
    if name == "wandb":
        own = (require("wandb.errors", extra=EXTRA, work="report_to 'wandb'").Error,)
    return (*own, OSError, RuntimeError, ValueError)


class _TensorBoard:
    def __init__(self, run_name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        tensorboard = require("torch.utils.tensorboard", extra=EXTRA, work="report_to 'tensorboard'")
        self.writer = tensorboard.SummaryWriter(str(folder / "tensorboard" / run_name))
        self.writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in settings.items()))

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self.writer.close()


class _MLflow:
    """Through a client of its own, so that a run which the caller has open in this process stays as it is."""

    def __init__(self, run_name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers of each use
        mlflow = require("mlflow", extra=EXTRA, work="report_to 'mlflow'")
        uri, options = os.environ.get("MLFLOW_TRACKING_URI"), {}
        if not uri:
            folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{(folder / 'mlflow.db').resolve().as_posix()}"
            options = {"artifact_location": (folder / "mlflow").resolve().as_uri()}
        with _quiet("mlflow", "alembic"):
            self.client = mlflow.MlflowClient(tracking_uri=uri)
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
            found = self.client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self.client.create_experiment(name, **options)
            self.run = self.client.create_run(experiment, run_name=run_name).info.run_id
            for key, value in settings.items():
                self.client.log_param(self.run, key, str(value)[:LONGEST])

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        for name, value in values.items():
            self.client.log_metric(self.run, name, value, step=step)

    def finish(self) -> None:
        self.client.set_terminated(self.run)


class _WeightsAndBiases:
    def __init__(self, run_name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        wandb = require("wandb", extra=EXTRA, work="report_to 'wandb'")
        folder.mkdir(parents=True, exist_ok=True)  # it would write to the folder for temporary files instead
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=run_name,
            dir=str(folder),
            config=dict(settings),
            mode=os.environ.get("WANDB_MODE") or "offline",
            reinit="create_new",  # leaves a run of the caller's alone
            # Neither the terminal's text nor the caller's code: figures and settings alone.
            settings=wandb.Settings(console="off", silent=True, save_code=False, disable_git=True),
        )

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        self.run.log(dict(values), step=step)

    def finish(self) -> None:
        self.run.finish()


MAKERS: dict[str, Callable[[str, Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _WeightsAndBiases,
}
# alembic: what mlflow-skinny makes its local database with, and does not bring along.
PACKAGES = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "alembic"), "wandb": ("wandb",)}


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
