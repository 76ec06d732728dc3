"""Writes the compiled network that the demo ships, with the onnx package.

    .venv/bin/python lab/make_cnn1d.py     # plantfed_lab/data/cnn1d.pfm anew

The demo needs the artefact only; this needs ``plantfed[compiler]``, and is not installed.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from onnx import ModelProto, numpy_helper, parser, save

from plantfed_compiler.compiling import Options, compile_model
from plantfed_lab.tennessee_eastman import CNN1D, WINDOW_ROWS
from plantfed_shared.artefact import Artefact
from plantfed_shared.model_manifest import LossOfModel

INPUTS, CHANNELS, CLASSES, WIDTH = 52, 32, 22, 5

TEXT = f"""<ir_version: 8, opset_import: ["" : 18]>
cnn1d (float[batch, {INPUTS}, {WINDOW_ROWS}] x) => (float[batch, {CLASSES}] logits) {{
    c1 = Conv <pads = [2, 2]> (x, conv1_weight, conv1_bias)
    r1 = Relu(c1)
    c2 = Conv <pads = [2, 2], strides = [2]> (r1, conv2_weight, conv2_bias)
    r2 = Relu(c2)
    pooled = GlobalAveragePool(r2)
    flat = Flatten(pooled)
    logits = Gemm <transB = 1> (flat, head_weight, head_bias)
}}"""


def cnn1d(seed: int = 0) -> ModelProto:
    """Two convolutions over a window, their mean over time, and a linear head.

    Args:
        seed: of the initial weights, uniform(-k, k) with k = 1/sqrt(inputs of a unit), as torch
            has them.
    """
    rng = np.random.RandomState(seed)
    shapes = {
        "conv1": (CHANNELS, INPUTS, WIDTH),
        "conv2": (CHANNELS, CHANNELS, WIDTH),
        "head": (CLASSES, CHANNELS),
    }
    model = parser.parse_model(TEXT)
    for name, shape in shapes.items():
        k = 1 / np.sqrt(np.prod(shape[1:]))
        for part, size in (("weight", shape), ("bias", shape[:1])):
            values = rng.uniform(-k, k, size).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(values, f"{name}_{part}"))
    return model


def compiled(model: ModelProto, personal: str) -> Artefact:
    """The artefact of a classifier.

    Args:
        model: in ONNX.
        personal: shell pattern of its head.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save(model, path)
        options = Options(loss=LossOfModel(kind="cross-entropy"), personal=(personal,))
        return compile_model(path, options).artefact


if __name__ == "__main__":
    CNN1D.write_bytes(compiled(cnn1d(), "head_*").to_bytes())
