"""Operators and forms of them that have no gradient: all named at once, with what to do."""

import numpy as np
import pytest
from onnx import helper
from tests.compiler.networks import Net, model
from tests.compiler.refusals import refused, saved

from plantfed_compiler.compiling import Options, compile_model
from plantfed_shared.model_manifest import LossOfModel


def test_every_unsupported_node_is_named_at_once_with_what_to_do(tmp_path):
    nodes = "t = Mish(a) m = Gemm(t, v) p = CumSum(m, one) n = Sign(p) q = Add(n, p) r = Mish(q)"
    made = model(
        Net(f"{nodes} y = Gemm(r, u)", given={"v": (6, 4), "u": (4, 2), "one": np.array(1)})
    )
    names = ["xw", "a", "first", "gemm", "cum", "sign", "add", "second", "last"]
    for node, name in zip(made.graph.node, names, strict=True):
        node.name = name
    path = saved(tmp_path, made)
    said = refused(path)
    assert said == (
        "3 nodes cannot be trained through: "
        "first (Mish): it has no gradient here (Use SiLU or GELU); "
        "cum (CumSum): it has no gradient here "
        "(Use another operator, or make all parameters before frozen); "
        "second (Mish): it has no gradient here (Use SiLU or GELU). "
        "docs/bring-your-model.md lists the operators that can"
    )  # fmt: skip
    # with everything before frozen they are no obstacle
    kept = Options(loss=LossOfModel(kind="mse"), frozen=("w", "b", "v"))
    assert [p.name for p in compile_model(path, kept).artefact.manifest.parameters] == ["u"]


def test_operators_of_other_domains_are_named_at_once(tmp_path):
    made = model(Net("t = Tanh(a) y = Relu(t)"))
    for node, operator in zip(made.graph.node[2:], ("BiasGelu", "FusedGemm"), strict=True):
        node.op_type, node.domain, node.name = operator, "com.microsoft", operator.lower()
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    said = refused(saved(tmp_path, made))
    assert said.startswith("2 nodes cannot be trained through: biasgelu (com.microsoft.BiasGelu): ")
    assert "fusedgemm (com.microsoft.FusedGemm): it is no operator of ai.onnx" in said


@pytest.mark.parametrize(
    ("nodes", "given", "why"),
    [
        ("y = Pow(a, v)", {"v": (6,)}, "its exponent is no single number"),
        ('y = Einsum <equation = "bi->b"> (a)', {}, "axis 'i' is in one operand alone"),
        ('y = Einsum <equation = "...i,ij->...j"> (a, v)', {"v": (6, 2)}, "ellipsis"),
        ('y = Pad <mode = "reflect"> (a, p)', {"p": np.array([0, 1, 0, 1])}, "mode is 'reflect'"),
        ("y = MatMul(a, v)", {"v": (6,)}, "one of its inputs is a vector"),
        (
            "f = Slice(a, s, e) m = ReduceMean <keepdims = 1> (f, z) y = Add(a, m)",
            {"s": np.array([1]), "e": np.array([9]), "z": np.array([0])},
            "depend on the batch",
        ),
    ],
)
def test_forms_without_a_gradient_say_why(tmp_path, nodes, given, why):
    assert why in refused(saved(tmp_path, model(Net(nodes, given=given))))


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ('direction = "reverse", linear_before_reset = 1', "it is bidirectional or runs backwards"),
        ("", "it resets before the product"),
        ("clip = 3.0, linear_before_reset = 1", "it clips"),
    ],
)
def test_recurrent_forms_without_a_gradient_say_why(tmp_path, form, why):
    comma = ", " if form else ""
    nodes = (
        "s = Transpose <perm = [1, 0, 2]> (a)"
        f"h = GRU <hidden_size = 2{comma}{form}> (s, v, r)"
        "t = Squeeze(h, one) y = Transpose <perm = [1, 0, 2]> (t)"
    )
    given = {"v": (1, 6, 3), "r": (1, 6, 2), "one": np.array([1])}
    assert why in refused(saved(tmp_path, model(Net(nodes, (4, 3), given))))
