"""Before a training begins: rank, alpha, rate and epochs for so many rows, what looks amiss, and the memory it needs.

Advice is a few stated rules, each with where it is from; none is a law, and the held-out log-loss has the last word.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from finsignal.errors import ConfigError, ModelError, require
from finsignal.sentiment import hub
from finsignal.sentiment.recipe import Base, Recipe, Tuning
from finsignal.sentiment.tuning.bases import PACKAGE, WORK, quiet
from finsignal.sentiment.tuning.memory import estimate_memory
from finsignal.sentiment.tuning.methods import LORA, PROMPTS, count, empty_base, tune_base
from finsignal.sentiment.tuning.optimise import check_warmup, count_steps

WITH_RANK = (*LORA, "adalora")
RANKS = ((1_000, 4), (5_000, 8), (50_000, 16))  # up to so many rows, that rank; 32 above
EPOCHS = ((2_000, 5), (10_000, 3))  # up to so many rows, so many epochs; 2 above
ALPHA = 32


@dataclass(frozen=True)
class Advice:
    """What to begin with. because: the rules and where they are from, in sentences."""

    rank: int
    alpha: int
    learning_rate: float
    epochs: int
    because: str


def suggest(rows: int, *, method: str, parameters: int, hidden: int) -> Advice:
    """Rank, alpha, learning rate and epochs to begin with, for so many rows to learn from.

    parameters: of the base. hidden: its hidden size. Rank and alpha are of the methods that have a rank. Raises
    ConfigError without rows.
    """
    if rows < 1:
        raise ConfigError(f"advice: {rows} rows to learn from; expected 1 or more.")
    rank = next((rank for most, rank in RANKS if rows <= most), 32)
    epochs = next((epochs for most, epochs in EPOCHS if rows <= most), 2)
    lora = 1e-4 if parameters > 20e9 else min(1e-3, max(2e-4, 0.32 / hidden))
    rate = {
        "full": lora / 10,
        "adalora": 5 * lora,
        "frozen": 2e-2,
        "prefix": 3e-2,
        "prompt": 3e-2,
    }.get(method, lora)
    why = [
        f"{epochs} epochs: a rule of thumb; with small bases the held-out log-loss was least after 2 epochs of 10,000 "
        "to 20,000 rows, and fewer rows take more."
    ]
    if method == "frozen":
        epochs, why = 30, ["30 epochs: a rule of thumb; each takes next to nothing, for the base runs once."]
    if method in WITH_RANK:
        why += [
            f"Rank {rank}: a rule of thumb by rows. A row of three labels tells at most 1.6 bits, so a small rank can "
            "hold them all (Schulman and Thinking Machines 2025, LoRA Without Regret), and ranks of 4 to 8 did as well "
            "as 64 (Hu et al. 2021, arXiv:2106.09685, section 7.2); more rows may use more (Biderman et al. 2024, "
            "arXiv:2405.09673).",
            f"Alpha {ALPHA}, whatever the rank: LoRA's scale is alpha / rank, and the best rate then hardly depends on "
            "the rank (LoRA Without Regret).",
        ]
    why.append(
        {
            "full": "Learning rate: a tenth of LoRA's (LoRA Without Regret).",
            "adalora": "Learning rate: five times LoRA's, a rule of thumb, between the rates of Zhang et al. 2023 "
            "(arXiv:2303.10512) and the one that a pilot of few steps with the embedded base liked best.",
            "frozen": "Learning rate: a rule of thumb; the head alone bears a high one.",
            "prefix": "Learning rate: a rule of thumb; what is learned is read by frozen layers only.",
            "prompt": "Learning rate: a rule of thumb; what is learned is read by frozen layers only.",
        }.get(
            method,
            "Learning rate: 0.32 / hidden size, between 2e-4 and 1e-3, and 1e-4 above 20 billion parameters: at 384 "
            "it is what worked with the embedded base, at 768 and 1,024 that of RoBERTa in Hu et al. 2021, above it "
            "that of QLoRA (Dettmers et al. 2023, arXiv:2305.14314).",
        )
    )
    return Advice(rank, ALPHA, rate, epochs, " ".join(why))


def with_rank(tuning: Tuning, rows: int) -> Tuning:
    """The tuning with the advised rank where it has a rank of 0."""
    if tuning.rank or tuning.method not in WITH_RANK:
        return tuning
    return replace(tuning, rank=suggest(rows, method=tuning.method, parameters=1, hidden=1).rank)


def to_warnings(tuning: Tuning, advice: Advice, *, rows: int, trainable: int) -> list[str]:
    """A sentence for each setting that is far from the advice or comes to nothing; none of them stops a training.

    rows: learned from. trainable: numbers that are tuned.
    """
    steps = count_steps(rows, tuning) * tuning.epochs
    found = []
    if tuning.method in WITH_RANK and tuning.rank > 2 * advice.rank:
        found.append(
            f"rank {tuning.rank} is high for {rows:,} rows ({trainable / rows:,.0f} tuned numbers a row): it learns "
            f"them by heart sooner; advised is {advice.rank}."
        )
    if not advice.learning_rate / 4 <= tuning.learning_rate <= advice.learning_rate * 4:
        far = "high: the loss may jump" if tuning.learning_rate > advice.learning_rate else "low: little is learned"
        found.append(
            f"learning_rate {tuning.learning_rate:.2g} is {far}; advised for {tuning.method} on this base is "
            f"{advice.learning_rate:.2g}."
        )
    if 0 < tuning.warmup * steps < 1:
        found.append(
            f"warmup {tuning.warmup:g} of {steps:,} steps is less than one step; there is none. Raise it to "
            f"{1.5 / steps:.2g} or leave it at 0."
        )
    if tuning.epochs > 2 * advice.epochs:
        more = "" if tuning.patience else " Set patience, and it stops where the held-out log-loss no longer falls."
        found.append(f"{tuning.epochs} epochs are many for {rows:,} rows; advised are {advice.epochs}.{more}")
    return found


def describe(plan: Recipe, train_rows: int, base_folder: Path, *, device: str = "cpu") -> dict[str, Any]:
    """What a training will do, before it begins, ready for JSON; `plan_text` says it in lines.

    train_rows: learned from, without the held-out ones. Only the base's config.json is read. Raises ConfigError where
    texts are longer than the base can read or the warm-up would never end, ModelError where its config cannot be read,
    and what add_adapter raises.
    """
    config = _read_config(base_folder)
    tuning = with_rank(plan.tuning, train_rows)
    text = config.get_text_config()
    tokens = plan.base.max_tokens + (tuning.virtual_tokens if tuning.method in PROMPTS else 0)
    if tokens > (most := getattr(text, "max_position_embeddings", tokens)):
        raise ConfigError(
            f"{plan.name}: {tokens} tokens (max_tokens, and virtual_tokens in front); the base reads {most}. Lower one."
        )
    at_once = count_at_once(tuning, small=device == "cpu")
    with quiet():
        base = empty_base(config, plan.head.kind)
        outline = tune_base(base, tuning, kind=plan.head.kind, steps=1000, base_name=plan.base.model)
        memory = estimate_memory(
            config, tuning, kind=plan.head.kind, max_tokens=plan.base.max_tokens, rows_at_once=at_once, device=device
        )
    numbers = count(outline)
    advice = suggest(train_rows, method=tuning.method, parameters=numbers["total"], hidden=text.hidden_size)
    steps = count_steps(train_rows, tuning)
    check_warmup(steps=steps * tuning.epochs, tuning=tuning)
    return {
        "name": plan.name,
        "base": plan.base.model,
        "method": tuning.method,
        "head": plan.head.kind,
        "device": device,
        "rows": train_rows,
        "rows_a_step": tuning.batch_size * tuning.accumulation,
        "rows_at_once": at_once,
        "max_tokens": plan.base.max_tokens,
        "steps_an_epoch": steps,
        "steps": steps * tuning.epochs,
        "warmup_steps": round(tuning.warmup * steps * tuning.epochs),
        "settings": {key: getattr(tuning, key) for key in ("rank", "alpha", "learning_rate", "epochs")},
        "advice": asdict(advice),
        "warnings": to_warnings(tuning, advice, rows=train_rows, trainable=numbers["trainable"]),
        **numbers,
        "memory": {**asdict(memory), "total": memory.total},
    }


def find_settings(base: Base) -> Path:
    """The folder with the config.json of a base, of which no weights are sent for. Errors: see bases.find_base."""
    if base.model.startswith(PACKAGE):
        module = require(base.model.removeprefix(PACKAGE), extra="train", work=f"the base model {base.model}")
        return Path(str(module.__file__)).parent / "model"
    folder = hub.find_model(base.model)
    hub.check_config(base.model, hub.read_json(base.model, folder / hub.CONFIG), head=False)
    return folder


def count_at_once(tuning: Tuning, *, small: bool) -> int:
    """Rows of one forward and backward: those of a batch, or where small, as on the CPU, parts of them."""
    size = tuning.batch_size * tuning.accumulation
    parts = max(max(2, size // 16) if small else 1, tuning.accumulation)
    return math.ceil(size / parts)


def plan_text(description: dict[str, Any]) -> list[str]:
    """The lines that say what `describe` found, for a terminal; of a model without a base its rows alone."""
    if "memory" not in description:
        return [f"{description['name']}: {description['method']}, without a base, {description['rows']:,} rows"]
    told, memory, advice = description, description["memory"], description["advice"]
    given = told["settings"]
    ranked = told["method"] in WITH_RANK
    keys = [key for key in given if ranked or key not in ("rank", "alpha")]
    parts = ", ".join(f"{name} {to_size(memory[name])}" for name in memory if name != "total")
    return [
        f"{told['name']}: {told['method']} on {told['base']}, head {told['head']}, {told['device']}",
        f"{told['rows']:,} rows to learn from, {told['rows_a_step']} a step ({told['rows_at_once']} at once): "
        f"{told['steps']:,} steps, {told['warmup_steps']:,} of them warm-up",
        f"tuned: {told['trainable']:,} of {told['total']:,} numbers ({100 * told['share']:.3g} %)",
        "settings: " + ", ".join(f"{key} {given[key]:g} (advised {advice[key]:.3g})" for key in keys),
        f"memory of a step at {told['max_tokens']} tokens: about {to_size(memory['total'])} ({parts})",
        *(f"warning: {line}" for line in told["warnings"]),
    ]


def to_size(number: int) -> str:
    """Bytes as a text of three digits: "5.61 GB", by thousands.

    >>> to_size(5_612_000_000)
    '5.61 GB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} B"


def _read_config(folder: Path) -> Any:
    transformers = require("transformers", extra="train", work=WORK)
    try:
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (KeyError, OSError, ValueError) as err:
        raise ModelError(f"{folder}: its config.json cannot be read ({type(err).__name__}: {err}).") from err
