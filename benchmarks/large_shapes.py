"""The published 3B and 8B shapes with random weights, in 4 bits on a GPU: peak memory and tokens a second.

    python benchmarks/large_shapes.py --out benchmarks/results/large_shapes.txt
    python benchmarks/large_shapes.py --shrink 16 --device cpu     # that the command works, on any machine

Random weights of the published shapes cost what the real ones cost, for neither time nor memory looks at their values.
Published for comparison: 5 to 6 GB for the 8B in 4 bits, when it scores; 17,500 tokens a second of training, of a 1B on
an A100. Needs about 17 GB of disk for the 8B, and a CUDA build of torch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from finsignal.sentiment.recipe import read_recipe
from finsignal.sentiment.tuning import bases, course, heads, memory

SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.2-3b": {
        **{"hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8},
        **{"head_dim": 128, "intermediate_size": 8192, "vocab_size": 128256, "tie_word_embeddings": True},
    },
    "llama-3.1-8b": {
        **{"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8},
        **{"head_dim": 128, "intermediate_size": 14336, "vocab_size": 128256, "tie_word_embeddings": False},
    },
}
SHARD = 2_000_000_000


def write_random(folder: Path, shape: dict[str, Any]) -> Any:
    """A folder of random bfloat16 weights of this shape, in files of about two gigabytes; its configuration."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(**shape, architectures=["LlamaForCausalLM"], pad_token_id=None, max_position_embeddings=8192)
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    draw, shards, held, size = torch.Generator().manual_seed(1), [], {}, 0
    for name, value in model.named_parameters():
        held[name] = (torch.randn(value.shape, generator=draw) * 0.02).to(torch.bfloat16)
        size += held[name].numel() * 2
        if size > SHARD:
            shards.append((f"model-{len(shards):05d}.safetensors", list(held)))
            save_file(held, folder / shards[-1][0], {"format": "pt"})
            held, size = {}, 0
    if held:
        shards.append((f"model-{len(shards):05d}.safetensors", list(held)))
        save_file(held, folder / shards[-1][0], {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, names in shards for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return config


def run_one(name: str, *, shrink: int, steps: int, device: str) -> str:
    """One line: what training and scoring of this recipe take."""
    import torch

    shape = dict(SHAPES[name])
    if shrink > 1:
        for key in ("hidden_size", "intermediate_size", "vocab_size"):
            shape[key] //= shrink
        shape |= {"num_hidden_layers": 2, "head_dim": shape["head_dim"] // shrink * 4}
    recipe = read_recipe(name)
    rows = recipe.tuning.batch_size * recipe.tuning.accumulation
    length, kind = recipe.base.max_tokens, recipe.head.kind
    tuning = replace(recipe.tuning, epochs=1)
    with tempfile.TemporaryDirectory() as place:
        config = write_random(Path(place), shape)
        classifier = heads.make_classifier(
            Path(place), tuning, base_name=name, head=recipe.head, steps=steps, device=device
        )
    estimate = memory.estimate_memory(
        config, tuning, kind=kind, max_tokens=length, rows_at_once=tuning.batch_size, device=device
    )
    draw = np.random.default_rng(1)
    count = rows * (steps + 2)
    ids = draw.integers(5, shape["vocab_size"], (count, length)).tolist()
    labels = np.eye(3, dtype=np.float32)[np.arange(count) % 3]
    said = [(row, [-100] * (length - 2) + row[-2:]) for row in ids] if kind == "words" else None
    made = course.make_course(
        replace(classifier, first_tokens=(1, 2, 3)), course.make_lessons(ids, labels, tuning, examples=said), tuning
    )
    parts = [
        np.array_split(np.arange(step * rows, (step + 1) * rows), tuning.accumulation) for step in range(steps + 2)
    ]
    for step in range(2):
        course.run_step(made, parts[step], step=step, epoch=1)
    wait(device)
    started = time.perf_counter()
    for step in range(2, steps + 2):
        course.run_step(made, parts[step], step=step, epoch=1)
    wait(device)
    speed = steps * rows * length / (time.perf_counter() - started)
    trained = peak(device)
    scoring = replace(classifier, first_tokens=(1, 2, 3))
    del made
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    course.predict_logits(scoring, ids[:1], batch_size=1)
    wait(device)
    started = time.perf_counter()
    course.predict_logits(scoring, ids[: 4 * rows], batch_size=rows)
    wait(device)
    scored = 4 * rows / (time.perf_counter() - started)
    return (
        f"{name}, {kind}, {rows} rows a step ({tuning.batch_size} at once) of {length} tokens: training at most "
        f"{trained} (estimated {estimate.total / 1e9:.1f} GB), {speed:,.0f} tokens/s; scoring at most {peak(device)}, "
        f"{scored:,.1f} texts/s"
    )


def wait(device: str) -> None:
    import torch

    if device != "cpu":
        torch.cuda.synchronize()


def peak(device: str) -> str:
    import torch

    return "- (not told on a CPU)" if device == "cpu" else f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="")
    parser.add_argument("--shrink", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    device = bases.to_device(options.device)
    if device == "cpu" and options.shrink == 1:
        raise SystemExit("no GPU here; --shrink 16 --device cpu shows that the command works")
    import torch

    where = "CPU" if device == "cpu" else torch.cuda.get_device_name()
    lines = [f"random weights, NF4 with double quantisation, on {where}"]
    for name in SHAPES:
        lines.append(run_one(name, shrink=options.shrink, steps=options.steps, device=device))
        if device != "cpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    text = "\n".join(lines) + "\n"
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
