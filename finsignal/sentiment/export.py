"""A trained adapter to a model folder: merged into the full-precision base, ONNX, INT8, calibrated, with its card."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.metadata
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finsignal.errors import ModelError, require
from finsignal.metrics import to_codes
from finsignal.sentiment import encoder as enc
from finsignal.sentiment.calibrate import fit_temperature
from finsignal.sentiment.evaluate import evaluate_model
from finsignal.sentiment.labelled import stands_in, to_cutoff
from finsignal.sentiment.prompt import to_input, to_pairs
from finsignal.sentiment.recipe import Recipe
from finsignal.sentiment.score import CARD, GRAPH, TOKENIZER, load_model
from finsignal.sentiment.tuning.lessons import read_data_set
from finsignal.tables import LABELS

ADAPTER = ("adapter_model.safetensors", "adapter_config.json", "head.safetensors")
OPSET = 17
AGREEMENT = 0.95  # share of held-out labels on which INT8 and full precision must agree, or nothing is written
COMPARED = 500  # about so many held-out texts, spread over all of them
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "onnxruntime", "tokenizers")


def write_model_folder(
    recipe: Recipe,
    *,
    base: Path,
    adapter: Path,
    held_out: pd.DataFrame,
    train: pd.DataFrame,
    data: Sequence[Path],
    card: dict[str, Any],
    out: Path,
    progress: bool = False,
) -> Path:
    """The folder `out`: graph, tokenizer, adapter, card.json and README.md, the card written last.

    adapter: a checkpoint of training. card: what training recorded; measured figures are added. The
    temperature is fitted on the held-out rows with the logits of the very graph that is written, and the recipe's
    report sets are measured, used for nothing else.

    Raises ModelError where INT8 and the merged full-precision model disagree on too many held-out labels.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    adapted = [name for name in ADAPTER if (adapter / name).is_file()]  # none where every weight was tuned
    for name in adapted:
        shutil.copyfile(adapter / name, out / name)
    if (adapter / enc.WEIGHTS).is_file():
        shutil.copyfile(adapter / enc.WEIGHTS, out / enc.WEIGHTS)  # to tune further; scoring does without, so no digest
    tokenizer = enc.load_tokenizer(base / TOKENIZER, recipe.base.max_tokens)
    tokenizer.save(str(out / TOKENIZER), pretty=False)
    merged = enc.load_tuned(base, adapter)
    write_graph(merged, out / GRAPH)

    card = {
        "format": 1,
        "name": recipe.name,
        "labels": list(LABELS),
        "max_tokens": recipe.base.max_tokens,
        "target_aware": bool((train["target"] != "").any()),
        "temperature": 1.0,
        "trained_until": max(to_cutoff(str(item.cutoff)) for item in recipe.data).isoformat(),
        "base": {
            "model": recipe.base.model.removeprefix(enc.PACKAGE),
            "about": recipe.base.about,
            "sha256": hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest(),
            "licence": recipe.base.licence,
            "known_until": to_cutoff(str(recipe.base.cutoff)).isoformat(),
        },
        **card,
        "settings": dataclasses.asdict(recipe.tuning),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "not_good_for": list(recipe.not_good_for),
        "disclaimer": "Research software. Its output is not financial advice.",
        "files": {name: _digest(out / name) for name in (GRAPH, TOKENIZER, *adapted)},
    }
    _write_card(card, out)
    uncalibrated = load_model(out)
    texts, targets = [to_input("", text) for text in held_out["text"]], held_out["target"].tolist()
    logits = uncalibrated.predict_logits(texts, targets, progress=progress)
    some = slice(None, None, max(1, len(texts) // COMPARED))
    card["parity"] = compare(merged, tokenizer, to_pairs(texts[some], targets[some]), logits[some])
    if card["parity"]["label_agreement"] < AGREEMENT:
        raise ModelError(f"{out}: INT8 and full precision agree on {card['parity']} of held-out texts; not written.")
    card["temperature"] = fit_temperature(logits, to_codes(held_out["label"].to_numpy()))
    _write_card(card, out)
    card["metrics"] = _measure(recipe, out, held_out, train, data, progress=progress)
    (out / "README.md").write_text(to_readme(card), encoding="utf-8")
    card["files"]["README.md"] = _digest(out / "README.md")
    _write_card(card, out)
    load_model(out)
    return out


def write_graph(classifier: enc.Classifier, path: Path) -> None:
    """Writes the classifier as an INT8 ONNX graph: input_ids int64 (1, length) to logits float32 (1, 3).

    One text a run, without mask or padding: there is no batch whose other rows could matter. Weights are INT8 by output
    channel and of 7 bits (reduce_range), for the 16-bit sums of CPUs without VNNI overflow with 8. Attention is fused
    into one operator, which is faster to run and to load; normalisation is not, whose fused operator is slower.
    """
    torch = require("torch", extra="train", work=enc.WORK)
    quantization = require("onnxruntime.quantization", extra="train", work="INT8 export")
    optimizer = require("onnxruntime.transformers.optimizer", extra="train", work="INT8 export")
    onnx = require("onnx", extra="train", work="INT8 export")

    class OneText(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = classifier.encoder, classifier.head

        def forward(self, input_ids: Any) -> Any:
            return classifier.logits(input_ids, torch.ones_like(input_ids))

    full = path.with_suffix(".full.onnx")
    module = OneText().eval()
    with enc.quiet():
        torch.onnx.export(
            module,
            (torch.tensor([[2, 3, 4, 5, 6]]),),
            full,
            input_names=["input_ids"],
            output_names=["logits"],
            dynamic_axes={"input_ids": {1: "length"}},
            opset_version=OPSET,
            dynamo=False,
        )
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it asks for a pre-processing that changes nothing here
        try:
            config = classifier.encoder.config
            fusion = importlib.import_module("onnxruntime.transformers.fusion_options").FusionOptions("bert")
            fusion.enable_skip_layer_norm = fusion.enable_embed_layer_norm = False
            fused = optimizer.optimize_model(
                str(full),
                model_type="bert",
                num_heads=config.num_attention_heads,
                hidden_size=config.hidden_size,
                opt_level=0,
                optimization_options=fusion,
            )
            fused.save_model_to_file(str(full))
            quantization.quantize_dynamic(
                full,
                path,
                per_channel=True,
                reduce_range=True,
                weight_type=quantization.QuantType.QInt8,
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # of the fused operators' outputs
            )
        finally:
            root.setLevel(level)
    full.unlink()


def compare(classifier: enc.Classifier, tokenizer: Any, texts: list[Any], logits: np.ndarray) -> dict[str, Any]:
    """The full-precision torch classifier against a graph's logits (n, 3) of the same texts, or texts with targets.

    Gives the number of texts, the largest difference of a probability before the temperature, and the share of equal
    labels.
    """
    from finsignal.sentiment.calibrate import softmax

    torch = require("torch", extra="train", work=enc.WORK)
    with torch.no_grad():
        full = np.concatenate(
            [
                classifier.logits(*enc.to_batch([tokenizer.encode(*([t] if isinstance(t, str) else t)).ids])).numpy()
                for t in texts
            ]
        )
    return {
        "texts": len(texts),
        "largest_difference": float(np.abs(softmax(full) - softmax(logits)).max()),
        "label_agreement": float((full.argmax(axis=1) == logits.argmax(axis=1)).mean()),
    }


def _measure(
    recipe: Recipe, out: Path, held_out: pd.DataFrame, train: pd.DataFrame, data: Sequence[Path], *, progress: bool
) -> dict[str, Any]:
    model = load_model(out)
    seed = recipe.tuning.seed
    found = {"held out": evaluate_model(model, held_out, seed=seed, progress=progress)}
    for name, (rows, digests) in read_reports(recipe, data).items():
        seen = stands_in(rows, pd.concat([train, held_out]))
        found[name] = evaluate_model(model, rows, seed=seed, progress=progress) | {"sha256": digests}
        if seen.all():
            found[f"{name}, all of which stands in train"] = found.pop(name)
        elif seen.any():
            fresh = rows[~seen].reset_index(drop=True)
            found[f"{name}, without {int(seen.sum())} rows that stand in train"] = evaluate_model(
                model, fresh, seed=seed
            )
    for figures in found.values():
        del figures["model"]  # named before the card was final
    return found


def read_reports(recipe: Recipe, data: Sequence[Path]) -> dict[str, tuple[pd.DataFrame, list[str]]]:
    """Rows and file digests of the recipe's report sets, by name; sets of one name are measured together."""
    read = [(item.name, *read_data_set(item, data)) for item in recipe.report]
    out = {}
    for name in dict.fromkeys(item.name for item in recipe.report):
        parts = [(rows, record["sha256"]) for other, rows, record in read if other == name]
        out[name] = pd.concat([rows for rows, _ in parts], ignore_index=True), [digest for _, digest in parts]
    return out


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_card(card: dict[str, Any], folder: Path) -> None:
    unfinished = folder / (CARD + ".unfinished")
    unfinished.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(folder / CARD)


def _to_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _to_method(tuning: dict[str, Any]) -> str:
    if tuning["method"] == "full":
        return "every weight of the base (full)"
    return f"{tuning['method']}, rank {tuning['rank']} on all linear layers"


def _to_line(run: dict[str, Any]) -> str:
    tuning = run["settings"]
    return (
        f"- tuning ({run['recipe']}): {_to_method(tuning)}, mean pooling, learning rate {tuning['learning_rate']:g}, "
        f"{tuning['epochs']} epochs of which epoch {run['chosen_epoch']} has the least held-out log-loss, "
        f"seed {tuning['seed']}"
    )


def to_readme(card: dict[str, Any]) -> str:
    """The card in words and tables, Markdown."""
    base, split, parity = card["base"], card["split"], card["parity"]
    lines = [
        f"# {card['name']}",
        "",
        f"Probabilities of negative, neutral and positive for one English financial headline or post, up to "
        f"{card['max_tokens']} tokens. Made {card['made']}. {card['disclaimer']}",
        "",
        f"- base: {base['about']} ({base['model']}), {base['licence']}, knows nothing after {base['known_until']}, "
        f"SHA-256 {base['sha256']}",
        f"- trained until: {card['trained_until']} (no row is dated: this is the latest cut-off of its sets). A "
        "backtest that begins before must say so.",
        *(_to_line(run) for run in card["runs"]),
        *(["- the model is the mean of the weights of these runs"] if len(card["runs"]) > 1 else []),
        f"- rows: {split['train']} learned from, {split['held_out']} held out (the epoch was chosen and the "
        f"temperature {card['temperature']:.4f} fitted on them, so their figures flatter)",
        f"- cleaning, by normalised text: {_to_words(card['cleaning'])}",
        f"- INT8 against full precision, {parity['texts']} held-out texts: label agreement "
        f"{parity['label_agreement']:.3f}, largest difference of a probability {parity['largest_difference']:.3f}",
        "",
        "## Learned from",
        "",
        "| set | licence | cut-off | rows | SHA-256 |",
        "|---|---|---|---|---|",
        *(
            f"| {item['name']} ({item['path']}): {item['about']} | {item['licence']} | {item['cutoff']} "
            f"| {_to_words(item['counts'])} | {item['sha256']} |"
            for item in card["data"]
        ),
        "",
        "## Measured",
        "",
        "Of this INT8 graph, temperature applied, 95 % bootstrap intervals in brackets. Report sets were used for",
        "nothing else. The training sets are used as published: where a report set shares texts with them (compared in",
        "lower case, letters and digits only, without URLs and mentions), a second line leaves these rows out.",
        "",
        "| set | rows | accuracy | macro-F1 | log-loss | calibration error |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {found['n']} | "
            + " | ".join(
                f"{found[key]['value']:.3f} [{found[key]['low']:.3f}, {found[key]['high']:.3f}]"
                for key in ("accuracy", "macro_f1", "log_loss", "calibration_error")
            )
            + " |"
            for name, found in card["metrics"].items()
        ),
        "",
        "## Not good for",
        "",
        *(f"- {item}" for item in card["not_good_for"]),
    ]
    return "\n".join(lines) + "\n"
