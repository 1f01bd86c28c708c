"""What a training run leaves on disk so that it can go on after it was stopped, to the same model."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finsignal.errors import ModelError, require
from finsignal.sentiment.tuning.adapters import is_adapted
from finsignal.sentiment.tuning.bases import WORK
from finsignal.sentiment.tuning.heads import Classifier

STATE, PROGRESS = "resume.safetensors", "resume.json"
IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # what AdaLoRA remembers of each tensor


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes its name when all is written, and is gone where something went wrong.

    Raises ModelError where the disk is full: what was whole before still is, and a new start goes on from there.
    """
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with tell_disk(folder):
        try:
            unfinished.mkdir()
            yield unfinished
            os.replace(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def tell_disk(folder: Path) -> Iterator[None]:
    """Raises ModelError, with what to do, where the disk fills up while `folder` is written."""
    safetensors = require("safetensors", extra="train", work=WORK)
    try:
        yield
    except (OSError, safetensors.SafetensorError) as err:
        if getattr(err, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(err):
            raise ModelError(
                f"{folder}: the disk is full, so it was not written ({err}). The checkpoints before it are whole: free "
                "some space and start the same command again, and it goes on from the last of them."
            ) from err
        raise


def write_state(
    folder: Path, classifier: Classifier, optimiser: Any, values: dict[str, Any], *, average: dict[str, Any], place: Any
) -> None:
    """Writes all that the next step depends on: values of what is tuned, their average, the optimiser's state, the
    random numbers, AdaLoRA's memory; and `place`, JSON-ready, that says how far the run is."""
    torch = require("torch", extra="train", work=WORK)
    safetensors = require("safetensors.torch", extra="train", work=WORK)
    tensors = {f"{name}|value": value for name, value in values.items()}
    tensors |= {f"{name}|average": value for name, value in average.items()}
    numbers: dict[str, Any] = {}
    for name, value in classifier.trainable().items():
        for key, part in optimiser.state[value].items():
            if torch.is_tensor(part):
                tensors[f"{name}|{key}"] = part
            else:
                numbers[f"{name}|{key}"] = part
    tensors["random|cpu"] = torch.get_rng_state()
    if classifier.device.type == "cuda":
        tensors["random|cuda"] = torch.cuda.get_rng_state(classifier.device)
    pattern = None
    if (allocator := find_allocator(classifier)) is not None:
        for key in IMPORTANCE:
            tensors |= {f"{name}|{key}": value for name, value in getattr(allocator, key).items()}
        pattern = classifier.encoder.peft_config["default"].rank_pattern
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    safetensors.save_file(copies, folder / STATE)
    content = {"place": place, "numbers": numbers, "rank_pattern": pattern}
    (folder / PROGRESS).write_text(json.dumps(content), encoding="utf-8")


def read_state(folder: Path, classifier: Classifier, optimiser: Any, average: dict[str, Any]) -> Any:
    """Puts everything back as write_state found it, and gives its `place`; the random numbers go on as they would have.

    Raises ModelError where the state does not belong to this classifier.
    """
    torch = require("torch", extra="train", work=WORK)
    safetensors = require("safetensors.torch", extra="train", work=WORK)
    tensors = safetensors.load_file(folder / STATE)
    content = json.loads((folder / PROGRESS).read_text("utf-8"))
    parameters = classifier.trainable()
    missing = [name for name in parameters if f"{name}|value" not in tensors]
    if missing:
        raise ModelError(f"{folder}: holds no {missing[0]}; it is the state of another training. Remove it.")
    for name in average:
        average[name] = tensors[f"{name}|average"].to(classifier.device)
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(tensors[f"{name}|value"])
            known = {*IMPORTANCE, "value", "average"}
            parts = {key: part for key, part in _of(name, tensors).items() if key not in known}
            # torch keeps the count of steps on the CPU unless it is fused, and bitsandbytes as a number.
            optimiser.state[value] = {
                **{key: part.to(value.device) for key, part in parts.items()},
                **_of(name, content["numbers"]),
            }
    torch.set_rng_state(tensors["random|cpu"])
    if "random|cuda" in tensors and classifier.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random|cuda"], classifier.device)
    if (allocator := find_allocator(classifier)) is not None:
        for key in IMPORTANCE:
            found = {name.rpartition("|")[0]: value for name, value in tensors.items() if name.endswith(f"|{key}")}
            setattr(allocator, key, {name: value.to(classifier.device) for name, value in found.items()})
        classifier.encoder.peft_config["default"].rank_pattern = content["rank_pattern"]
    return content["place"]


def _of(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return {key.rpartition("|")[2]: value for key, value in values.items() if key.rpartition("|")[0] == name}


def find_allocator(classifier: Classifier) -> Any:
    """AdaLoRA's, which shares the rank out among the layers; None for every other method."""
    return getattr(classifier.encoder.base_model, "rankallocator", None) if is_adapted(classifier) else None
