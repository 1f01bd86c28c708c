"""The pretrained base: its folder, its digest, its tokenizer, and its torch module, whole or quantised.

bitsandbytes (0.49 to 0.50.2 at least) has two silent failures on CPUs with AVX512-BF16, both from one cause: a forward
without gradients repacks each NF4 weight in place and nothing undoes it. Training on after an evaluation then loses the
gradient through the base, and dequantising or merging gives garbage. `keep_unpacked` takes the cause away,
`check_unpacked` refuses to go on where it came back, and adapters.merge starts from the full-precision base.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finsignal.errors import ModelError, require
from finsignal.sentiment import hub
from finsignal.sentiment.recipe import Base
from finsignal.tables import LABELS

WORK = "training a sentiment model"
PACKAGE = "package:"
NF4, INT8 = ("qlora",), ("lora_8bit",)  # the methods whose base is quantised
HEAD_NAMES = ("classifier", "score")  # where transformers puts the head of a sequence classifier
CLASSES = {
    "mean": "AutoModel",
    "last": "AutoModel",
    "own": "AutoModelForSequenceClassification",
    "words": "AutoModelForCausalLM",
}


def find_base(base: Base) -> Path:
    """The folder of the base model, its weights checked against the recipe's digest.

    Raises ModelError where it cannot be found or its weights are not the expected ones; weights are read from
    safetensors only, never from pickles.
    """
    if base.model.startswith(PACKAGE):
        module = require(base.model.removeprefix(PACKAGE), extra="train", work=f"the base model {base.model}")
        folder = Path(str(module.__file__)).parent / "model"
    else:
        folder = hub.find_model(base.model)
    hub.check_config(base.model, hub.read_json(base.model, folder / hub.CONFIG), head=False)
    if not base.model.startswith(PACKAGE):
        hub.fetch_weights(base.model, folder)
    if not any((folder / name).is_file() for name in hub.VOCABULARIES):
        raise ModelError(f"base {base.model!r}: no tokenizer in {folder}; expected {', '.join(hub.VOCABULARIES)}.")
    hub.weight_files(base.model, folder)
    if base.sha256 and (found := digest_weights(folder)) != base.sha256:
        raise ModelError(f"base {base.model!r}: its weights have SHA-256 {found}; expected {base.sha256}.")
    return folder


def digest_weights(folder: Path) -> str:
    """SHA-256, 64 hex digits, of model.safetensors; of weights in several files that of their digests in name order."""
    digests = []
    for path in hub.weight_files(str(folder), folder):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the progress bars, deprecations and casts that the training packages write about one another."""
    bars = require("transformers.utils.logging", extra="train", work=WORK)
    enabled, noisy = bars.is_progress_bar_enabled(), logging.getLogger("bitsandbytes")
    bars.disable_progress_bar()
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        noisy.setLevel(level)
        if enabled:
            bars.enable_progress_bar()


def to_device(device: str) -> str:
    """The device itself, or without one "cuda" where there is one, else "cpu". Raises ModelError where it is not."""
    torch = require("torch", extra="train", work=WORK)
    if not device:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"(cpu|cuda)(:\d+)?", device):
        raise ModelError(f"device {device!r}: expected cpu or cuda, perhaps with a number as in cuda:0.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {device!r}: torch {torch.__version__} finds no CUDA here; leave it out for the CPU.")
    return device


def load_base(
    folder: Path, *, kind: str = "mean", method: str = "lora", device: str = "cpu", precision: str = ""
) -> Any:
    """The base as a torch module: of the class that the kind of head needs, quantised as the method says.

    float32 on the CPU, and on a GPU too where its own weights are tuned; else bfloat16 or `precision`. qlora: NF4,
    doubly quantised, computing in bfloat16 or in `precision`; lora_8bit: INT8. Raises ModelError where a kind "own"
    finds no head in the files, which would be random, and where a linear layer was left unquantised.
    """
    torch = require("torch", extra="train", work=WORK)
    transformers = require("transformers", extra="train", work=WORK)
    config = hub.read_json(str(folder), folder / hub.CONFIG)
    whole = device == "cpu" or method == "full"
    options: dict[str, Any] = {
        "dtype": torch.float32 if whole else getattr(torch, precision or "bfloat16"),
        "use_safetensors": True,
        "local_files_only": True,
        "trust_remote_code": False,
        "output_loading_info": True,
    }
    if device != "cpu" or method in NF4 + INT8:
        options["device_map"] = {"": device}
    if method in NF4 + INT8:
        require("bitsandbytes", extra="train", work=method)
        kept = {"llm_int8_skip_modules": list(HEAD_NAMES)} if kind == "own" else {}  # a head that is tuned itself
        options["quantization_config"] = (
            transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=getattr(torch, precision or "bfloat16"),
                **kept,
            )
            if method in NF4
            else transformers.BitsAndBytesConfig(load_in_8bit=True, **kept)
        )
        logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_no_cast)
    elif config.get("model_type") == "bert":
        options["attn_implementation"] = "eager"  # the only one that the ONNX exporter traces for any length
    try:
        with quiet():
            module, found = getattr(transformers, CLASSES[kind]).from_pretrained(folder, **options)
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as err:
        raise ModelError(f"base {folder}: transformers cannot load it ({type(err).__name__}: {err}).") from err
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    if missing:
        tip = " Use a head of kind 'mean' or 'last', which is new by intention." if kind == "own" else ""
        raise ModelError(f"base {folder}: its files hold no {missing[0]}; it would be random.{tip}")
    if kind in ("mean", "last") and getattr(module, "pooler", None) is not None:
        module.pooler = None  # mean pooling does not use it, and LoRA shall not tune what nothing reads
    if method in NF4:
        keep_unpacked(module)
    if method in NF4 + INT8:
        own = set(_head_names(module)) if kind in ("own", "words") else set()
        full = [name for name, part in module.named_modules() if type(part) is torch.nn.Linear and name not in own]
        if full:
            raise ModelError(f"base {folder}: {len(full)} linear layers were left unquantised, first {full[0]!r}.")
    return module


def _is_no_cast(record: logging.LogRecord) -> bool:
    """Not the warning that INT8 layers give at every forward in float32, and no other way to have."""
    return not record.getMessage().startswith("MatMul8bitLt: inputs will be cast")


def _head_names(module: Any) -> list[str]:
    """The linear layers outside the base model proper: a classification head, or the layer that gives the words."""
    prefix = f"{module.base_model_prefix}."
    return [name for name, _ in module.named_modules() if name and not name.startswith(prefix)]


def read_order(name: str, folder: Path, label_map: Mapping[str, str]) -> tuple[int, int, int]:
    """Which output of a base's own classification head is negative, neutral and positive.

    Raises ModelError where the labels are others, in number or name, or two outputs mean the same.
    """
    config = hub.read_json(name, folder / hub.CONFIG)
    outputs = hub.read_outputs(name, config)
    means = hub.read_meanings(name, outputs, label_map or None, config.get("label2id"))
    if sorted(means) != sorted(LABELS):
        raise ModelError(
            f"{name}: its {len(outputs)} outputs mean {list(means)}; expected each of {list(LABELS)} once."
        )
    first, second, third = (means.index(label) for label in LABELS)
    return first, second, third


def nf4_layers(module: Any) -> list[Any]:
    """The NF4 layers of a module, also inside peft's wrappers."""
    bitsandbytes = require("bitsandbytes", extra="train", work="QLoRA")
    return [part for part in module.modules() if isinstance(part, bitsandbytes.nn.Linear4bit)]


def keep_unpacked(module: Any) -> None:
    """Forbids every NF4 layer to repack its weight in a forward without gradients."""
    for layer in nf4_layers(module):
        layer.support_avx512bf16_for_cpu = False


def check_unpacked(module: Any) -> None:
    """Raises ModelError where an NF4 weight was repacked, for it can neither be trained on nor read any more."""
    for number, layer in enumerate(nf4_layers(module)):
        if getattr(layer.weight.quant_state, "packing_format_for_cpu", False):
            raise ModelError(
                f"NF4 layer {number}: its weight was repacked for inference, so gradients through it are lost. "
                "Call keep_unpacked before the first forward."
            )


def load_words(folder: Path, max_tokens: int) -> Any:
    """The tokenizer of a base or model folder, cutting at max_tokens and padding nothing.

    From its tokenizer.json, or from the vocabulary files by way of transformers. Raises ModelError where neither works.
    """
    tokenizers = require("tokenizers", extra="train", work=WORK)
    if (folder / "tokenizer.json").is_file():
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    else:
        tokenizer = getattr(load_chat_words(folder), "backend_tokenizer", None)
        if tokenizer is None:
            raise ModelError(f"{folder}: transformers makes no fast tokenizer of its vocabulary; add tokenizer.json.")
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def load_chat_words(folder: Path) -> Any:
    """The tokenizer of transformers, which knows the chat template."""
    transformers = require("transformers", extra="train", work=WORK)
    try:
        with quiet():
            return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (AttributeError, ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError) as err:
        raise ModelError(f"{folder}: its tokenizer cannot be loaded ({type(err).__name__}: {err}).") from err
