"""The optimiser, the learning rate of each tensor and step, and the batches of an epoch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from finsignal.errors import ConfigError, require
from finsignal.sentiment.recipe import Tuning
from finsignal.sentiment.tuning.bases import WORK

LAYER = re.compile(r"\.(?:layers?|h)\.(\d+)\.")  # the number of a base's layer, in the name of a tensor
WINDOW = 50  # steps whose rows are sorted together where rows are grouped by length


def make_optimiser(parameters: dict[str, Any], tuning: Tuning) -> Any:
    """AdamW over the tensors: torch's, or that of bitsandbytes with states of 8 bits, perhaps paged out to the CPU's
    memory. Matrices alone are decayed. Each group carries `share`, its multiple of the learning rate."""
    torch = require("torch", extra="train", work=WORK)
    rates = to_rates(list(parameters), tuning)
    groups = [
        {"params": [value], "share": rates[name], "weight_decay": tuning.weight_decay if value.ndim > 1 else 0.0}
        for name, value in parameters.items()
    ]
    if tuning.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=tuning.learning_rate, fused=True)
    optim = require("bitsandbytes", extra="train", work=f"the optimiser {tuning.optimiser}").optim
    on_gpu = all(value.device.type == "cuda" for value in parameters.values())  # the CPU has nowhere to page out to
    kind = optim.PagedAdamW8bit if tuning.optimiser == "paged_adamw_8bit" and on_gpu else optim.AdamW8bit
    return kind(groups, lr=tuning.learning_rate)


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


def learning_rate_share(step: int, *, steps: int, warmup: float, schedule: str = "linear") -> float:
    """Share of the full learning rate at a step (0 is the first): rising over warmup * steps, then to 0, linearly or
    by half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts)."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    left = max(0.0, (steps - step) / max(1, steps - rising))
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def check_warmup(*, steps: int, tuning: Tuning) -> None:
    """Raises ConfigError where the learning rate would still be rising at the last step."""
    rising = round(tuning.warmup * steps)
    if rising >= steps and tuning.warmup > 0:
        raise ConfigError(
            f"[tuning]: warmup {tuning.warmup:g} of {steps} steps is {rising} steps, so the learning rate never falls; "
            "lower it, or train for more steps."
        )


def count_steps(rows: int, tuning: Tuning) -> int:
    """Steps of the optimiser in an epoch of so many rows."""
    return math.ceil(rows / (tuning.batch_size * tuning.accumulation))


def make_batches(
    lengths: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    accumulation: int = 1,
    group_by_length: bool = False,
    small: bool = True,
) -> list[list[np.ndarray]]:
    """Row positions of one epoch: every row once; for each step of the optimiser the parts that are run one by one.

    A step's batch_size * accumulation rows are random. They are run in parts, the shorter rows first, so that little is
    padded: `accumulation` parts, and where small, as the CPU likes it, parts of about 16 rows. Steps of rows of like
    length (group_by_length) pad even less, but where length goes with source and label they pull the model to and fro.
    """
    draw = np.random.default_rng([seed, epoch])
    order, size = draw.permutation(len(lengths)), batch_size * accumulation
    if group_by_length:
        windows = [order[start : start + WINDOW * size] for start in range(0, len(order), WINDOW * size)]
        order = np.concatenate([window[np.argsort(lengths[window], kind="stable")] for window in windows])
    steps = [order[start : start + size] for start in range(0, len(order), size)]
    if group_by_length:
        steps = [steps[number] for number in draw.permutation(len(steps))]
    batches = []
    for rows in steps:
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        parts = max(2, len(rows) // 16) if small else 1
        batches.append([part for part in np.array_split(rows, max(parts, accumulation)) if len(part)])
    return batches
