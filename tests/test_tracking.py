"""Trackers: what each service is told, with stand-ins that record it, and with the real packages where installed."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from finsignal.errors import ConfigError, MissingExtraError
from finsignal.sentiment.tuning.tracking import Tracker, flatten, make_trackers

SETTINGS = {"name": "small", "tuning": {"rank": 8, "target_modules": ("query", "value"), "average": None}}
Calls = list[tuple[Any, ...]]


class ServiceError(Exception):
    """What a service raises: of no kind that finsignal knows without it."""


class Writer:
    """TensorBoard's SummaryWriter as far as it is used."""

    def __init__(self, calls: Calls, folder: str) -> None:
        self.calls = calls
        calls.append(("tensorboard", "start", folder))

    def add_text(self, name: str, text: str) -> None:
        self.calls.append(("tensorboard", name, text))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.calls.append(("tensorboard", step, {name: value}))

    def close(self) -> None:
        self.calls.append(("tensorboard", "finish"))


class Client:
    """MLflow's client as far as it is used."""

    def __init__(self, calls: Calls, tracking_uri: str) -> None:
        self.calls = calls
        calls.append(("mlflow", "start", tracking_uri))

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str, **options: str) -> str:
        self.calls.append(("mlflow", "experiment", name, options))
        return "7"

    def create_run(self, experiment: str, run_name: str) -> SimpleNamespace:
        self.calls.append(("mlflow", "run", experiment, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="run-1"))

    def log_param(self, run: str, key: str, value: str) -> None:
        self.calls.append(("mlflow", "setting", key, value))

    def log_metric(self, run: str, key: str, value: float, *, step: int) -> None:
        self.calls.append(("mlflow", step, {key: value}))

    def set_terminated(self, run: str) -> None:
        self.calls.append(("mlflow", "finish"))


class Run:
    """A run of Weights & Biases as far as it is used."""

    def __init__(self, calls: Calls, options: dict[str, Any]) -> None:
        self.calls = calls
        calls.append(("wandb", "start", options))

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.calls.append(("wandb", step, values))

    def finish(self) -> None:
        self.calls.append(("wandb", "finish"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What the three services are asked, in order, with stand-ins in the place of their packages."""
    found: Calls = []
    parts: dict[str, dict[str, Any]] = {
        "tensorboard": {},
        "torch.utils.tensorboard": {"SummaryWriter": lambda folder: Writer(found, folder)},
        "alembic": {},
        "mlflow": {"MlflowClient": lambda tracking_uri: Client(found, tracking_uri)},
        "mlflow.exceptions": {"MlflowException": ServiceError},
        "wandb": {"init": lambda **options: Run(found, options), "Settings": lambda **options: options},
        "wandb.errors": {"Error": ServiceError},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")  # so that the test leaves it as it was
    return found


def start(names: list[str], folder: Path) -> list[Tracker]:
    return make_trackers(names, run_name="small-1", folder=folder, settings=SETTINGS)


def of(calls: Calls, service: str, what: Any) -> list[Any]:
    return [call[2:] for call in calls if call[:2] == (service, what)]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_each_service_is_told_the_figures_of_each_step(name: str, calls: Calls, tmp_path: Path) -> None:
    (tracker,) = start([name], tmp_path)
    tracker.log(1, {"loss": 1.25, "learning_rate": 0.001})
    tracker.log(2, {"loss": 1, "held_out_log_loss": None, "gradient_norm": float("nan")})  # not measured, not a number
    tracker.log(3, {"loss": None})
    tracker.finish()
    told: dict[int, dict[str, float]] = {}
    for call in calls:
        if isinstance(call[1], int):
            told.setdefault(call[1], {}).update(call[2])
    assert told == {1: {"loss": 1.25, "learning_rate": 0.001}, 2: {"loss": 1.0}}
    assert calls[-1] == (name, "finish")


def test_all_stays_on_this_machine_unless_told_otherwise(calls: Calls, tmp_path: Path) -> None:
    start(["tensorboard", "mlflow", "wandb"], tmp_path)
    assert of(calls, "tensorboard", "start") == [(str(tmp_path / "tensorboard" / "small-1"),)]
    assert of(calls, "mlflow", "start") == [(f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}",)]
    ((_, options),) = of(calls, "mlflow", "experiment")
    assert options["artifact_location"].startswith(tmp_path.as_uri())
    ((options,),) = of(calls, "wandb", "start")
    assert (options["mode"], options["dir"]) == ("offline", str(tmp_path))
    # What the terminal shows and what else lies in the folder is nobody's business.
    assert options["settings"] == {"console": "off", "silent": True, "save_code": False, "disable_git": True}


def test_the_variables_of_the_services_are_respected(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.invalid")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setitem(sys.modules, "alembic", None)  # only a database of one's own needs it
    start(["mlflow", "wandb"], tmp_path)
    assert of(calls, "mlflow", "start") == [("https://mlflow.invalid",)]
    assert of(calls, "mlflow", "experiment") == [("other", {})]
    ((options,),) = of(calls, "wandb", "start")
    assert (options["mode"], options["project"]) == ("online", "theirs")


def test_the_settings_stand_beside_the_figures(calls: Calls, tmp_path: Path) -> None:
    start(["tensorboard", "mlflow", "wandb"], tmp_path)
    flat = {"name": "small", "tuning.rank": 8, "tuning.target_modules": '["query", "value"]', "tuning.average": "None"}
    assert flatten(SETTINGS) == flat
    assert of(calls, "mlflow", "setting") == [(key, str(value)) for key, value in flat.items()]
    assert of(calls, "wandb", "start")[0][0]["config"] == flat
    assert "    tuning.rank: 8\n" in of(calls, "tensorboard", "settings")[0][0]


def test_a_service_named_twice_is_told_once(calls: Calls, tmp_path: Path) -> None:
    assert len(start(["wandb", "wandb"], tmp_path)) == 1


def test_a_service_that_fails_later_ends_neither_the_training_nor_the_others(
    calls: Calls, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ServiceError("the account is closed")

    trackers = start(["wandb", "tensorboard"], tmp_path)
    monkeypatch.setattr(Run, "log", fail)
    monkeypatch.setattr(Run, "finish", lambda run: (run.calls.append(("wandb", "finish")), fail()))
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3):
            for tracker in trackers:
                tracker.log(step, {"loss": 1.0})
    assert [call[1] for call in calls if call[0] == "tensorboard"][2:] == [1, 2, 3]
    with caplog.at_level(logging.WARNING):
        for tracker in trackers:
            tracker.finish()
    assert ("wandb", "finish") in calls
    assert [record.getMessage() for record in caplog.records] == [
        "report_to 'wandb' failed and gets no more figures: the account is closed"
    ]


def test_a_mistake_of_the_caller_is_not_taken_for_a_failing_service(calls: Calls, tmp_path: Path) -> None:
    (tracker,) = start(["wandb"], tmp_path)
    with pytest.raises(TypeError):
        tracker.log(1, {"loss": "high"})  # type: ignore[dict-item]


def test_a_service_that_does_not_start_is_told_and_those_before_it_are_ended(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise ServiceError("no API key configured")

    monkeypatch.setattr(sys.modules["wandb"], "init", fail)
    with pytest.raises(ConfigError, match=r"could not start \(no API key configured\)\. Put it right"):
        start(["tensorboard", "wandb"], tmp_path)
    assert calls[-1] == ("tensorboard", "finish")


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "tensorboard"), ("mlflow", "alembic"), ("wandb", "wandb")]
)
def test_a_missing_package_is_named_before_anything_starts(
    name: str, package: str, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    other = "tensorboard" if name != "tensorboard" else "wandb"
    with pytest.raises(MissingExtraError, match=rf"report_to '{name}' needs {package}.*finsignal\[tracking\]"):
        start([other, name], tmp_path)
    assert calls == []


@pytest.mark.parametrize(
    ("names", "run_name", "said"),
    [
        (["tensorbord"], "a", "Did you mean 'tensorboard'"),
        (["tensorboard", ""], "a", "Expected one of"),
        (["tensorboard"], "a/b", "a name without folders"),
        (["tensorboard"], "..", "a name without folders"),
        (["tensorboard"], "", "a name without folders"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    names: list[str], run_name: str, said: str, calls: Calls, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        make_trackers(names, run_name=run_name, folder=tmp_path, settings={})
    assert calls == []


# --- the real packages -----------------------------------------------------------------------------------


def read_tensorboard(folder: Path) -> list[tuple[int, float]]:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = events.EventAccumulator(str(folder / "tensorboard" / "small-1"))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars("loss")]


def read_mlflow(folder: Path) -> list[tuple[int, float]]:
    client = pytest.importorskip("mlflow").MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("finsignal").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params["tuning.rank"]) == ("small-1", "FINISHED", "8")
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")]


def read_wandb(folder: Path) -> list[tuple[int, float]]:
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    content = path.read_bytes()
    assert b"loss" in content
    return [(step, value) for step, value in ((1, 0.8125), (2, 0.3125)) if str(value).encode() in content]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # theirs
@pytest.mark.parametrize(
    ("name", "read"), [("tensorboard", read_tensorboard), ("mlflow", read_mlflow), ("wandb", read_wandb)]
)
def test_the_real_service_has_the_figures_on_disk(
    name: str, read: Callable[[Path], list[tuple[int, float]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name, reason="needs the extra finsignal[tracking]")
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    (tracker,) = start([name], tmp_path / "a folder")
    tracker.log(1, {"loss": 0.8125})
    tracker.log(2, {"loss": 0.3125})
    tracker.finish()
    assert read(tmp_path / "a folder") == [(1, 0.8125), (2, 0.3125)]
    assert [path.name for path in tmp_path.iterdir()] == ["a folder"]  # nothing beside it
