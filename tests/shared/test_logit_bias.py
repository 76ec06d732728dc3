"""Which parameter of a network is the bias of its outputs."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from plantfed_shared.logit_bias import logit_bias
from plantfed_shared.step_names import OUTPUT

SHAPES = {"w": (4, 3), "b": (3,), "row": (1, 3), "wide": (4,)}
X = np.zeros((1, 4), np.float32)

Nodes = list[tuple[str, list[str], str]]


def graph(nodes: Nodes, **attributes: float) -> bytes:
    made = [
        helper.make_node(operator, inputs, [output], **(attributes if operator == "Gemm" else {}))
        for operator, inputs, output in nodes
    ]
    floats = onnx.TensorProto.FLOAT
    whole = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", floats, [1, 4])],
        [helper.make_tensor_value_info(OUTPUT, floats, [1, 3])],
        [numpy_helper.from_array(X, "unused")],
    )
    encoded: bytes = helper.make_model(whole).SerializeToString()
    return encoded


@pytest.mark.parametrize(
    ("nodes", "bias"),
    [
        ([("Gemm", ["x", "w", "b"], OUTPUT)], "b"),
        ([("Gemm", ["x", "w", "b"], "y"), ("Identity", ["y"], OUTPUT)], "b"),
        ([("MatMul", ["x", "w"], "y"), ("Add", ["y", "b"], OUTPUT)], "b"),
        ([("MatMul", ["x", "w"], "y"), ("Add", ["row", "y"], OUTPUT)], "row"),
        ([("Gemm", ["x", "w"], OUTPUT)], None),
        ([("MatMul", ["x", "w"], OUTPUT)], None),
        ([("Gemm", ["x", "w", "b"], "y"), ("Relu", ["y"], OUTPUT)], None),
        ([("Gemm", ["x", "w", "b"], "y"), ("Add", ["y", "b"], OUTPUT)], None),
        ([("MatMul", ["x", "w"], "y"), ("Add", ["y", "wide"], OUTPUT)], None),
        ([("MatMul", ["x", "w"], "y"), ("Add", ["y", "constant"], OUTPUT)], None),
    ],
)
def test_it_is_what_is_added_to_the_outputs_and_to_nothing_else(
    nodes: Nodes, bias: str | None
) -> None:
    assert logit_bias(graph(nodes), SHAPES, 3) == bias


def test_a_bias_that_counts_half_is_none() -> None:
    nodes: Nodes = [("Gemm", ["x", "w", "b"], OUTPUT)]
    assert logit_bias(graph(nodes, beta=0.5), SHAPES, 3) is None
