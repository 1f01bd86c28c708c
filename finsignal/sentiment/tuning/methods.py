"""From a method's name to what peft puts on a base, what of it is tuned, and how many numbers that is.

Everything is peft's own; here it is only told what to do, and what it did is looked at. Three things it does in silence
are refused or put right: a layer named in target_modules that is not there is left out, a head is missed where it has
another name than peft expects, and AdaLoRA's divisor `ranknum`, which is never saved, becomes tunable where the base is
on another device than the CPU.
"""

from __future__ import annotations

import copy
from typing import Any

from finsignal.errors import ConfigError, ModelError, did_you_mean, require
from finsignal.sentiment.recipe import Recipe, Tuning
from finsignal.sentiment.tuning.bases import CLASSES, WORK, quiet
from finsignal.sentiment.tuning.heads import Classifier, make_head

LORA = ("lora", "qlora", "lora_8bit")
PROMPTS = ("prefix", "prompt")
TASKS = {"mean": "FEATURE_EXTRACTION", "last": "FEATURE_EXTRACTION", "own": "SEQ_CLS", "words": "CAUSAL_LM"}
ADAPTER = "default"
# Shares of all steps before AdaLoRA begins to take ranks away, and after it has ended: about those of the runs on GLUE
# in the appendix of Zhang et al. 2023 (arXiv:2303.10512), 8 to 12 % and 44 to 58 %.
ADALORA_BEFORE, ADALORA_AFTER = 0.1, 0.5


def make_config(tuning: Tuning, *, kind: str, module: Any, steps: int) -> Any:
    """peft's own configuration of a method for a base module; None for the methods without an adapter (full, frozen).

    kind: of the head. module: the base as transformers makes it, on any device, also "meta". steps: of the optimiser,
    in the whole training; AdaLoRA shares its ranks out over them.

    LoRA without target_modules goes on every linear layer but an own head and the layer that turns hidden states into
    words. A base with its own head has that tuned whole beside the adapter (peft's modules_to_save). AdaLoRA starts at
    half as many ranks again as `rank` and ends at `rank` a layer on average.

    Raises ModelError where a named layer is not there or not linear, or an own head is not where peft looks for it;
    ConfigError at a rank of 0, at fewer steps than AdaLoRA needs, and where it is averaged.
    """
    if tuning.method in ("full", "frozen"):
        return None
    peft = require("peft", extra="train", work=WORK)
    task = TASKS[kind]
    if tuning.method in PROMPTS:
        if tuning.method == "prefix":
            return peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=tuning.virtual_tokens)
        # From words of the base: random ones are 50 times as large as its embeddings, and a small base never gets over
        # it (Lester et al. 2021, arXiv:2104.08691, section 3.2, on what to start from).
        start = "RANDOM" if _is_meta(module) else "SAMPLE_VOCAB"
        return peft.PromptTuningConfig(
            task_type=task, num_virtual_tokens=tuning.virtual_tokens, prompt_tuning_init=start
        )
    if tuning.method not in (*LORA, "adalora"):
        raise ConfigError(f"tuning: the method {tuning.method!r} has no adapter.")
    if tuning.rank < 1:
        raise ConfigError(f"tuning: rank is {tuning.rank}; expected 1 or more, or what advice.suggest gives.")
    check_targets(module, tuning.target_modules, kind=kind)
    options: dict[str, Any] = {
        "task_type": task,
        "lora_alpha": tuning.alpha,
        "lora_dropout": tuning.lora_dropout,
        "target_modules": list(tuning.target_modules) or "all-linear",
        "bias": "none",
    }
    if tuning.method != "adalora":
        return peft.LoraConfig(r=tuning.rank, **options)
    if steps < 10:
        raise ConfigError(f"adalora: {steps} steps; expected 10 or more, over which ranks can be shared out.")
    if tuning.average:
        raise ConfigError(
            f"adalora: average is {tuning.average}; an average of the steps brings back what ranks were taken from. "
            "Leave it out."
        )
    return peft.AdaLoraConfig(
        target_r=tuning.rank,
        init_r=max(tuning.rank + 1, tuning.rank * 3 // 2),
        total_step=steps,
        tinit=int(steps * ADALORA_BEFORE),
        tfinal=int(steps * ADALORA_AFTER),
        deltaT=1,  # so that what is masked and what is saved agree after every step
        **options,
    )


def add_adapter(module: Any, tuning: Tuning, *, kind: str, steps: int, base_name: str) -> Any:
    """The base module with what the method tunes, and only that, open to gradients; peft's wrapper where it has one.

    full: every weight. frozen: nothing, but the own head where kind is "own". Random starts are drawn from torch's
    global generator, which the caller seeds. base_name: of the base, for the adapter's own file. Errors: see
    make_config; ModelError also where peft left a linear layer out, which it must not without target_modules.
    """
    torch = require("torch", extra="train", work=WORK)
    settings = make_config(tuning, kind=kind, module=module, steps=steps)
    if settings is None:
        module.requires_grad_(tuning.method == "full")
        if kind == "own" and tuning.method == "frozen":
            module.get_submodule(find_own_head(module)).requires_grad_(True)
        return module
    expected = set(to_targets(module, tuning.target_modules, kind=kind))
    peft = require("peft", extra="train", work=WORK)
    with quiet():
        wrapped = peft.get_peft_model(module, settings)
    wrapped.peft_config[ADAPTER].base_model_name_or_path = base_name
    if tuning.method in PROMPTS:
        return wrapped
    layers = (name for name, part in wrapped.base_model.model.named_modules() if hasattr(part, "lora_A"))
    if (found := set(layers)) != expected:
        left, more = sorted(expected - found), sorted(found - expected)
        raise ModelError(
            f"{tuning.method}: of {len(expected)} linear layers {len(left)} were left out (first {left[:1]}), and "
            f"{len(more)} were taken that are none of them (first {more[:1]}); name them in target_modules."
        )
    if kind == "own":
        head = wrapped.base_model.model.get_submodule(find_own_head(wrapped.base_model.model))
        if not any(value.requires_grad for value in head.parameters()):
            raise ModelError("own head: peft did not open it to gradients; use [head] kind = 'mean' or 'last'.")
    with torch.no_grad():
        for name, value in wrapped.named_parameters():
            if ".ranknum." in name:
                value.requires_grad_(False)
    return wrapped


def find_own_head(module: Any) -> str:
    """The name of a sequence classifier's head, one of those that peft knows and saves. Raises ModelError at none."""
    peft = require("peft.utils.constants", extra="train", work=WORK)
    torch = require("torch", extra="train", work=WORK)
    for name in peft.SEQ_CLS_HEAD_NAMES:
        if isinstance(getattr(module, name, None), torch.nn.Module):
            return str(name)
    raise ModelError(
        f"{type(module).__name__}: no head named {' or '.join(peft.SEQ_CLS_HEAD_NAMES)}, so peft would not save it; "
        "use [head] kind = 'mean' or 'last', a new head on the same base."
    )


def linear_layers(module: Any) -> list[str]:
    """The names of all linear layers of a module, quantised ones too, in the module's order."""
    torch = require("torch", extra="train", work=WORK)
    transformers = require("transformers.pytorch_utils", extra="train", work=WORK)
    kinds = (torch.nn.Linear, transformers.Conv1D)
    return [name for name, part in module.named_modules() if isinstance(part, kinds)]


def to_targets(module: Any, names: tuple[str, ...], *, kind: str) -> list[str]:
    """The full names of the layers that get LoRA: those that end in one of `names`, or all linear ones without.

    Never those of an own head, nor the one that turns hidden states into words.
    """
    head = find_own_head(module) if kind == "own" else None
    output = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    found = [
        name
        for name in linear_layers(module)
        if (head is None or name.split(".")[0] != head) and (output is None or module.get_submodule(name) is not output)
    ]
    return [name for name in found if not names or _ends_in(name, names)]


def check_targets(module: Any, names: tuple[str, ...], *, kind: str) -> None:
    """Raises ModelError naming a target that is no linear layer which could be tuned, and those that are."""
    possible = to_targets(module, (), kind=kind)
    if not possible:
        raise ModelError(f"{type(module).__name__}: has no linear layer that LoRA could be put on.")
    known = sorted({name.split(".")[-1] for name in possible})
    for name in names:
        if not any(_ends_in(layer, (name,)) for layer in possible):
            raise ModelError(
                f"target_modules: {name!r} is no linear layer of {type(module).__name__}."
                f"{did_you_mean(name, known)} There are {known}; a head is tuned whole, not by LoRA."
            )


def orthogonality(module: Any) -> Any:
    """How far AdaLoRA's P and Q are from orthogonal, a torch scalar; the loss has it times peft's orth_reg_weight.

    The distance of each is the Frobenius norm of P'P - I and QQ' - I, averaged over all matrices, as in the authors'
    own code and in peft, which adds it only where the model computes a loss itself; equation 4 of Zhang et al. 2023
    (arXiv:2303.10512) has the sum of the squares.
    """
    torch = require("torch", extra="train", work=WORK)
    distances = []
    for name, value in module.named_parameters():
        if f"lora_A.{ADAPTER}" in name or f"lora_B.{ADAPTER}" in name:
            square = value @ value.T if "lora_A" in name else value.T @ value
            distances.append(torch.linalg.norm(square - torch.eye(len(square), device=square.device)))
    return torch.stack(distances).mean()


def after_step(module: Any, tuning: Tuning, step: int) -> None:
    """AdaLoRA's bookkeeping after a step of the optimiser (0 is the first) and before its gradients are dropped: which
    ranks matter, and which are taken away. Nothing with other methods."""
    if tuning.method == "adalora":
        module.base_model.update_and_allocate(step)


def count(classifier: Any) -> dict[str, Any]:
    """`trainable` and `total` numbers of a classifier (encoder and, where it has one, head), and their `share`.

    A 4-bit weight counts as the numbers it stands for. The untouched copy that peft keeps of a head is not counted.
    """
    trainable = total = 0
    for part in (classifier.encoder, classifier.head):
        for name, value in part.named_parameters() if part is not None else ():
            if ".original_module." in name or ".ranknum." in name:
                continue
            state = getattr(value, "quant_state", None)
            size = state.shape.numel() if state is not None else value.numel()
            total += size
            trainable += size if value.requires_grad else 0
    return {"trainable": trainable, "total": total, "share": trainable / total}


def empty_base(config: Any, kind: str, *, dtype: str = "float32") -> Any:
    """The base of a transformers configuration without weights, on the meta device, as a head of `kind` needs it."""
    torch = require("torch", extra="train", work=WORK)
    transformers = require("transformers", extra="train", work=WORK)
    own = copy.deepcopy(config)  # from_config writes the dtype into the one it is given
    with torch.device("meta"):
        module = getattr(transformers, CLASSES[kind]).from_config(own, dtype=getattr(torch, dtype))
    if kind in ("mean", "last") and getattr(module, "pooler", None) is not None:
        module.pooler = None  # nothing reads it, so it is neither tuned nor counted
    return module


def tune_base(module: Any, tuning: Tuning, *, kind: str, steps: int, base_name: str) -> Classifier:
    """The classifier of a base on the meta device. Raises what add_adapter raises, before anything is loaded."""
    torch = require("torch", extra="train", work=WORK)
    hidden = module.config.get_text_config().hidden_size
    wrapped = add_adapter(module, tuning, kind=kind, steps=steps, base_name=base_name)
    with torch.device("meta"):
        return Classifier(wrapped, make_head(hidden, kind) if kind in ("mean", "last") else None, kind=kind)


def count_recipe(recipe: Recipe, config: Any) -> dict[str, Any]:
    """What `count` gives for a recipe on the base of a transformers configuration, without any weights."""
    kind, base = recipe.head.kind, recipe.base.model
    return count(tune_base(empty_base(config, kind), recipe.tuning, kind=kind, steps=1000, base_name=base))


def _ends_in(name: str, ends: tuple[str, ...]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def _is_meta(module: Any) -> bool:
    return next(iter(module.parameters())).device.type == "meta"
