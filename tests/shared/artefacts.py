"""A small artefact, made without the compiler: its graphs are no steps, but whole ONNX files."""

import numpy as np

from plantfed_shared import artefact as a
from plantfed_shared.artefact import Artefact
from plantfed_shared.model_manifest import (
    Array,
    Graph,
    Manifest,
    Trained,
)

# Identity from x to y, of opset 18, as onnx writes it
GRAPH = bytes.fromhex("08083a150a100a017812017922084964656e7469747912016742040a001012")


def artefact(**changes):
    rng = np.random.RandomState(0)
    parameters = (
        Trained(name="body", shape=(2, 3), personal=False),
        Trained(name="head", shape=(3,), personal=True),
    )
    statistics = (Trained(name="mean", shape=(2,), personal=True),)
    initial = [rng.standard_normal(t.shape).astype("f4") for t in (*parameters, *statistics)]
    tests = {"x": rng.standard_normal((4, 2)).astype("f4"), "target": np.arange(4)}
    names = ("head_step", "body_step", "whole_step", "evaluate", "predict")
    members = {f"{name}.onnx": GRAPH for name in names}
    members |= {a.INITIAL: a.packed(initial), a.SELF_TEST: a.packed(list(tests.values()))}
    arrays = tuple(Array(name=n, dtype=v.dtype.name, shape=v.shape) for n, v in tests.items())
    fields = {
        "opset": 18,
        "loss": {"kind": "cross-entropy"},
        "input": {"name": "x", "shape": (2,)},
        "target": {"name": "target", "dtype": "int64", "shape": ()},
        "output": {"name": "y", "shape": (3,)},
        "parameters": parameters,
        "statistics": statistics,
        "graphs": {name: Graph(inputs=("x",), outputs=("y",)) for name in names},
        "members": {name: a.member_of(content) for name, content in members.items()},
        "self_test": {"loss": 1.0, "tolerance": 1e-3, "arrays": arrays},
        "made_with": {"plantfed": "0", "onnx": "1", "onnxruntime": "1", "source_sha256": "0" * 64},
    }
    return Artefact(Manifest.model_validate({**fields, **changes}), members), initial, tests
