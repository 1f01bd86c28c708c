"""A tuned BERT as an INT8 ONNX graph, and how far the graph is from the model that it was made of."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from finsignal.errors import require
from finsignal.sentiment.tuning.bases import WORK, quiet
from finsignal.sentiment.tuning.heads import Classifier, to_batch

OPSET = 17
FUSED = ("bert",)  # the model types whose graph is made and compared in the tests


def write_graph(classifier: Classifier, path: Path) -> None:
    """Writes the classifier as an INT8 ONNX graph: input_ids int64 (1, length) to logits float32 (1, 3).

    One text a run, without mask or padding: there is no batch whose other rows could matter. Weights are INT8 by output
    channel and of 7 bits (reduce_range), for the 16-bit sums of CPUs without VNNI overflow with 8. Attention is fused
    into one operator, which is faster to run and to load; normalisation is not, whose fused operator is slower.
    """
    torch = require("torch", extra="train", work=WORK)
    quantization = require("onnxruntime.quantization", extra="train", work="INT8 export")
    optimizer = require("onnxruntime.transformers.optimizer", extra="train", work="INT8 export")
    onnx = require("onnx", extra="train", work="INT8 export")

    class OneText(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = classifier.encoder, classifier.head  # for torch to find their weights

        def forward(self, input_ids: Any) -> Any:
            return classifier.logits(input_ids, torch.ones_like(input_ids))

    full = path.with_suffix(".full.onnx")
    module = OneText().eval()
    with quiet():
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


def compare(classifier: Classifier, tokenizer: Any, texts: list[Any], logits: np.ndarray) -> dict[str, Any]:
    """The full-precision torch classifier against a graph's logits (n, 3) of the same texts, or texts with targets.

    Gives the number of texts, the largest difference of a probability before the temperature, and the share of equal
    labels.
    """
    from finsignal.sentiment.calibrate import softmax

    torch = require("torch", extra="train", work=WORK)
    with torch.no_grad():
        full = np.concatenate(
            [
                classifier.logits(*to_batch([tokenizer.encode(*([t] if isinstance(t, str) else t)).ids])).numpy()
                for t in texts
            ]
        )
    return {
        "texts": len(texts),
        "largest_difference": float(np.abs(softmax(full) - softmax(logits)).max()),
        "label_agreement": float((full.argmax(axis=1) == logits.argmax(axis=1)).mean()),
    }
