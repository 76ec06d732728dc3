"""Small networks in ONNX's own text form, one or more for every rule; made without torch.

Each begins with ``a = x * w + b`` with trained w and b of the shape of a sample, so that a gradient
has to come through the operator; what else it takes is trained too where it is float32.
"""

from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper, parser

Values = dict[str, NDArray[Any] | tuple[int, ...]]


@dataclass(frozen=True)
class Net:
    """A network.

    Attributes:
        nodes: in text; from a, giving y (batch, ...).
        sample: shape of one row of x.
        given: tensors by name: drawn from a normal distribution where only a shape is given.
        positive: a is positive.
        integers: x are row numbers below 5, and there is no a.
        opset: of ``ai.onnx``.
    """

    nodes: str
    sample: tuple[int, ...] = (6,)
    given: Values = field(default_factory=dict)
    positive: bool = False
    integers: bool = False
    opset: int = 18


def i64(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def model(net: Net) -> ModelProto:
    """As a file would have it; the same numbers always."""
    rng = np.random.RandomState(crc32(net.nodes.encode()) % 2**31)
    kind = "int64" if net.integers else "float"
    dims = ", ".join(["batch", *map(str, net.sample)])
    begin = "" if net.integers else "xw = Mul(x, w) a = Add(xw, b)"
    text = f"""<ir_version: 8, opset_import: ["" : {net.opset}]>
        net ({kind}[{dims}] x) => (float y) {{ {begin} {net.nodes} }}"""
    made = parser.parse_model(text)
    given: Values = dict(net.given)
    if not net.integers:
        low, high = (0.5, 1.5) if net.positive else (-1.5, 1.5)
        given["w"] = rng.uniform(low, high, net.sample).astype(np.float32)
        offset = 2.5 if net.positive else rng.standard_normal(net.sample) * 0.3
        given["b"] = np.full(net.sample, offset, np.float32)
    for name, value in given.items():
        drawn = value
        if isinstance(value, tuple):
            drawn = (rng.standard_normal(value) * 0.5).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(drawn), name))
    return made


GRU = """
    steps = Transpose <perm = [1, 0, 2]> (a)
    start = ReduceMean <keepdims = 0> (steps, first)
    h0 = Unsqueeze(start, first)
"""
SPATIAL = (3, 7)
IMAGE = (2, 7, 6)
RECURRENT: Values = {"first": i64(0), "second": i64(1)}

NETS = {
    # ---- elementwise
    "abs": Net("y = Abs(a)"),
    "add": Net("y = Add(a, v)", given={"v": (1, 6)}),
    "add-broadcast": Net("y = Add(a, v)", (3, 4), {"v": (3, 1)}),
    "cast": Net("y = Cast <to = 1> (a)"),
    "cast-like": Net("y = CastLike(a, x)"),
    "cos": Net("y = Cos(a)"),
    "div": Net("y = Div(a, v)", given={"v": np.array([1.5, -2, 3, 0.7, 2, 4], np.float32)}),
    "erf": Net("y = Erf(a)"),
    "exp": Net("y = Exp(a)"),
    "identity": Net("i = Identity(a) y = Tanh(i)"),
    "log": Net("y = Log(a)", positive=True),
    "max": Net("y = Max(a, v, u)", given={"v": (6,), "u": (1, 6)}),
    "min": Net("y = Min(a, v)", given={"v": (1, 6)}),
    "mul": Net("y = Mul(a, v)", (3, 4), {"v": (4,)}),
    "neg": Net("y = Neg(a)"),
    "pow-2": Net("y = Pow(a, two)", given={"two": np.array(2, np.float32)}),
    "pow": Net("y = Pow(a, p)", given={"p": np.array(1.7, np.float32)}, positive=True),
    "reciprocal": Net("y = Reciprocal(a)", positive=True),
    "sin": Net("y = Sin(a)"),
    "sqrt": Net("y = Sqrt(a)", positive=True),
    "sub": Net("y = Sub(v, a)", given={"v": (1, 6)}),
    "sum": Net("y = Sum(a, v, a)", given={"v": (6,)}),
    "where": Net(
        "c = Greater(x, zero) y = Where(c, a, v)",
        given={"zero": np.array(0, np.float32), "v": (6,)},
    ),
    "used-twice": Net("t = Tanh(a) s = Sigmoid(a) y = Mul(t, s)"),
    # ---- activations
    "clip": Net(
        "y = Clip(a, low, high)",
        given={"low": np.array(-0.5, np.float32), "high": np.array(0.6, np.float32)},
    ),
    "elu": Net("y = Elu <alpha = 1.3> (a)"),
    "gelu": Net("y = Gelu(a)", opset=20),
    "gelu-tanh": Net('y = Gelu <approximate = "tanh"> (a)', opset=20),
    "hard-sigmoid": Net("y = HardSigmoid <alpha = 0.4, beta = 0.5> (a)"),
    "hard-swish": Net(
        "t = Mul(a, three) y = HardSwish(t)", given={"three": np.array(3, np.float32)}
    ),
    "leaky-relu": Net("y = LeakyRelu <alpha = 0.2> (a)"),
    "log-softmax": Net("y = LogSoftmax <axis = 1> (a)", (3, 4)),
    "p-relu": Net("y = PRelu(a, slope)", (3, 4), {"slope": (3, 1)}),
    "relu": Net("y = Relu(a)"),
    "selu": Net("y = Selu(a)"),
    "sigmoid": Net("y = Sigmoid(a)"),
    "softmax": Net("y = Softmax <axis = -1> (a)", (3, 4)),
    "softplus": Net("y = Softplus(a)"),
    "softsign": Net("y = Softsign(a)"),
    "tanh": Net("y = Tanh(a)"),
    # ---- dense
    "gemm": Net("y = Gemm(a, v, c)", given={"v": (6, 3), "c": (3,)}),
    "gemm-turned": Net(
        "t = Transpose <perm = [1, 0]> (a)"
        "y = Gemm <transA = 1, transB = 1, alpha = 0.7, beta = 1.4> (t, v, c)",
        given={"v": (3, 6), "c": (1, 3)},
    ),
    "matmul": Net("y = MatMul(a, v)", given={"v": (6, 3)}),
    "matmul-rows": Net("y = MatMul(a, v)", (3, 4), {"v": (4, 5)}),
    "matmul-batch": Net(
        "t = Transpose <perm = [0, 2, 1]> (a) u = Tanh(a) y = MatMul(u, t)", (3, 4)
    ),
    "matmul-broadcast": Net("y = MatMul(v, a)", (3, 4), {"v": (1, 5, 3)}),
    # ---- attention
    "einsum": Net('y = Einsum <equation = "bqd,dk->bqk"> (a, v)', (3, 4), {"v": (4, 5)}),
    "einsum-batch": Net('u = Tanh(a) y = Einsum <equation = "bqd,bkd->bqk"> (a, u)', (3, 4)),
    # ---- convolution
    "conv-1d": Net("y = Conv <pads = [2, 1]> (a, k, c)", SPATIAL, {"k": (4, 3, 3), "c": (4,)}),
    "conv-1d-valid": Net('y = Conv <auto_pad = "VALID"> (a, k)', SPATIAL, {"k": (4, 3, 2)}),
    "conv-1d-same": Net(
        'y = Conv <auto_pad = "SAME_UPPER", strides = [2]> (a, k)', (3, 8), {"k": (4, 3, 3)}
    ),
    "conv-1d-same-lower": Net(
        'y = Conv <auto_pad = "SAME_LOWER"> (a, k)', SPATIAL, {"k": (2, 3, 2)}
    ),
    "conv-2d": Net(
        "y = Conv <pads = [1, 0, 1, 2], strides = [2, 1], dilations = [1, 2]> (a, k, c)",
        IMAGE,
        {"k": (3, 2, 3, 2), "c": (3,)},
    ),
    "conv-2d-stride": Net("y = Conv <strides = [3, 2]> (a, k)", IMAGE, {"k": (3, 2, 2, 3)}),
    "conv-groups": Net("y = Conv <group = 2, pads = [1, 1]> (a, k)", (4, 6), {"k": (6, 2, 3)}),
    "conv-depthwise": Net(
        "y = Conv <group = 3, strides = [2], dilations = [2]> (a, k)", SPATIAL, {"k": (6, 1, 2)}
    ),
    "conv-3d": Net("y = Conv(a, k)", (1, 3, 3, 4), {"k": (2, 1, 2, 2, 2)}),
    "conv-transpose": Net(
        "y = ConvTranspose <strides = [2], pads = [1, 0], output_padding = [1]> (a, k, c)",
        (3, 5),
        {"k": (3, 2, 3), "c": (2,)},
    ),
    "conv-transpose-groups": Net(
        "y = ConvTranspose <strides = [2, 1], group = 2, dilations = [1, 2]> (a, k)",
        (2, 3, 4),
        {"k": (2, 2, 2, 2)},
    ),
    # ---- pooling
    "average-pool": Net(
        "y = AveragePool <kernel_shape = [3, 2], strides = [2, 2], pads = [1, 0, 1, 0]> (a)", IMAGE
    ),
    "average-pool-with-pads": Net(
        "y = AveragePool <kernel_shape = [3], strides = [2], pads = [1, 1],"
        " count_include_pad = 1> (a)",
        SPATIAL,
    ),
    "average-pool-leaves-some": Net(
        "y = AveragePool <kernel_shape = [2], strides = [3]> (a)", SPATIAL
    ),
    "global-average-pool": Net("y = GlobalAveragePool(a)", IMAGE),
    "global-max-pool": Net("y = GlobalMaxPool(a)", IMAGE),
    "max-pool": Net("y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)", IMAGE),
    "max-pool-1d": Net("y = MaxPool <kernel_shape = [2], strides = [2]> (a)", SPATIAL),
    "max-pool-tiles": Net("y = MaxPool <kernel_shape = [2, 3], strides = [2, 3]> (a)", (2, 4, 6)),
    "max-pool-overlap": Net(
        "y = MaxPool <kernel_shape = [3, 3], strides = [2, 1], pads = [1, 1, 1, 1]> (a)", IMAGE
    ),
    "max-pool-dilated": Net(
        "y = MaxPool <kernel_shape = [2], strides = [2], dilations = [3]> (a)", SPATIAL
    ),
    "max-pool-ceil": Net(
        "y = MaxPool <kernel_shape = [2], strides = [2], ceil_mode = 1> (a)", SPATIAL
    ),
    # ---- normalisation
    "batch-norm": Net(
        "y = BatchNormalization(a, g, c, m, s)",
        SPATIAL,
        {"g": (3,), "c": (3,), "m": (3,), "s": np.array([1, 2, 0.5], np.float32)},
    ),
    "batch-norm-flat": Net(
        "t = Tanh(a) y = BatchNormalization <epsilon = 0.1> (t, g, c, m, s)",
        (3,),
        {"g": (3,), "c": (3,), "m": (3,), "s": np.array([1, 2, 0.5], np.float32)},
    ),
    "instance-norm": Net("y = InstanceNormalization(a, g, c)", SPATIAL, {"g": (3,), "c": (3,)}),
    "layer-norm": Net(
        "y = LayerNormalization <axis = -1> (a, g, c)", (3, 5), {"g": (5,), "c": (5,)}
    ),
    "layer-norm-two-axes": Net(
        "y = LayerNormalization <axis = 1, epsilon = 0.01> (a, g)", (3, 5), {"g": (3, 5)}
    ),
    "group-norm": Net(
        "y = GroupNormalization <num_groups = 2> (a, g, c)",
        (4, 5),
        {"g": (4,), "c": (4,)},
        opset=21,
    ),
    # ---- recurrent
    "gru": Net(
        GRU
        + "h, last = GRU <hidden_size = 4, linear_before_reset = 1> (steps, v, r, c, , h0)"
        "both = Concat <axis = 0> (flat, last) y = Transpose <perm = [1, 0, 2]> (both)".replace(
            "flat", "hs"
        ).replace("both = ", "hs = Squeeze(h, second) both = "),
        (5, 4),
        {"v": (1, 12, 4), "r": (1, 12, 4), "c": (1, 24), **RECURRENT},
    ),
    "gru-last": Net(
        "steps = Transpose <perm = [1, 0, 2]> (a)"
        ", last = GRU <hidden_size = 3, linear_before_reset = 1> (steps, v, r)"
        "y = Squeeze(last, first)",
        (5, 4),
        {"v": (1, 9, 4), "r": (1, 9, 3), "first": i64(0)},
    ),
    "lstm": Net(
        GRU + "c0 = Tanh(h0)"
        "h, last, cell = LSTM <hidden_size = 4> (steps, v, r, c, , h0, c0)"
        "hs = Squeeze(h, second) both = Concat <axis = 0> (hs, last, cell)"
        "y = Transpose <perm = [1, 0, 2]> (both)",
        (5, 4),
        {"v": (1, 16, 4), "r": (1, 16, 4), "c": (1, 32), **RECURRENT},
    ),
    "lstm-all": Net(
        "steps = Transpose <perm = [1, 0, 2]> (a)"
        "h = LSTM <hidden_size = 3> (steps, v, r)"
        "hs = Squeeze(h, second) y = Transpose <perm = [1, 0, 2]> (hs)",
        (5, 4),
        {"v": (1, 12, 4), "r": (1, 12, 3), "second": i64(1)},
    ),
    # ---- reductions
    "reduce-l1": Net("y = ReduceL1 <keepdims = 0> (a, axes)", (3, 4), {"axes": i64(2)}),
    "reduce-l2": Net("y = ReduceL2 <keepdims = 1> (a, axes)", (3, 4), {"axes": i64(-1)}),
    "reduce-log-sum-exp": Net(
        "y = ReduceLogSumExp <keepdims = 0> (a, axes)", (3, 4), {"axes": i64(1)}
    ),
    "reduce-max": Net("y = ReduceMax <keepdims = 0> (a, axes)", (3, 4), {"axes": i64(1)}),
    "reduce-mean": Net("y = ReduceMean <keepdims = 0> (a, axes)", (3, 4), {"axes": i64(1, 2)}),
    "reduce-mean-batch": Net(
        "t = Tanh(a) m = ReduceMean <keepdims = 1> (t, axes) y = Sub(t, m)",
        (3, 4),
        {"axes": i64(0)},
    ),
    "reduce-min": Net("y = ReduceMin <keepdims = 1> (a, axes)", (3, 4), {"axes": i64(2)}),
    "reduce-sum": Net("y = ReduceSum <keepdims = 0> (a, axes)", (3, 4), {"axes": i64(2)}),
    "reduce-sum-square": Net(
        "y = ReduceSumSquare <keepdims = 0> (a, axes)", (3, 4), {"axes": i64(1)}
    ),
    # ---- shapes
    "concat": Net("t = Tanh(a) y = Concat <axis = -1> (a, t, a)", (3, 4)),
    "concat-one": Net("y = Concat <axis = 1> (a)", (3, 4)),
    "expand": Net(
        "t = Unsqueeze(a, axes) y = Expand(t, shape)", (4,), {"axes": i64(1), "shape": i64(1, 3, 4)}
    ),
    "flatten": Net("y = Flatten(a)", (3, 4)),
    "gather": Net("y = Gather <axis = 2> (a, at)", (3, 4), {"at": i64(3, 0, 1)}),
    "gather-again": Net(
        "y = Gather <axis = 1> (a, at)", (3, 4), {"at": np.array([[2, 0], [0, -1]], np.int64)}
    ),
    "gather-one": Net("y = Gather <axis = 1> (a, at)", (3, 4), {"at": np.array(-1, np.int64)}),
    "gather-rows": Net("y = Gather(table, x)", (3,), {"table": (5, 4)}, integers=True),
    "gather-nd": Net(
        "t = Transpose <perm = [1, 0, 2]> (a) y0 = GatherND(t, at)"
        " y = Transpose <perm = [1, 0, 2]> (y0)",
        (3, 4),
        {"at": np.array([[2], [0], [2]], np.int64)},
    ),
    "pad": Net("y = Pad(a, pads)", (3, 4), {"pads": i64(0, 1, 0, 0, 2, 1)}),
    "pad-axes": Net("y = Pad(a, pads, , axes)", (3, 4), {"pads": i64(1, 2), "axes": i64(-1)}),
    "reshape": Net("y = Reshape(a, shape)", (3, 4), {"shape": i64(0, 2, 6)}),
    "resize": Net(
        'y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",'
        ' nearest_mode = "floor"> (a, , scales)',
        (2, 3, 2),
        {"scales": np.array([1, 1, 2, 3], np.float32)},
    ),
    "resize-half-pixel": Net(
        'y = Resize <mode = "nearest"> (a, , scales)',
        (2, 3),
        {"scales": np.array([1, 1, 2], np.float32)},
    ),
    "slice": Net(
        "y = Slice(a, starts, ends, axes)",
        (5, 4),
        {"starts": i64(1, -3), "ends": i64(4, 9), "axes": i64(1, 2)},
    ),
    "slice-steps": Net(
        "y = Slice(a, starts, ends, axes, steps)",
        (5, 4),
        {"starts": i64(0, -1), "ends": i64(5, -9), "axes": i64(1, 2), "steps": i64(2, -1)},
    ),
    "sequence": Net(
        "q = SplitToSequence <axis = 1> (a, sizes) p = SequenceAt(q, one) y = Tanh(p)",
        (5, 4),
        {"sizes": i64(2, 3), "one": np.array(1, np.int64)},
    ),
    "split": Net(
        "p, q = Split <axis = 1> (a, sizes) t = Tanh(q) y = Concat <axis = 1> (t, p)",
        (5, 4),
        {"sizes": i64(2, 3)},
    ),
    "split-unused": Net("p, q = Split <axis = -1, num_outputs = 2> (a) y = Tanh(q)", (5, 4)),
    "squeeze": Net("y = Squeeze(a, axes)", (1, 4), {"axes": i64(1)}),
    "tile": Net("y = Tile(a, repeats)", (3, 4), {"repeats": i64(1, 2, 3)}),
    "transpose": Net("y = Transpose <perm = [0, 3, 1, 2]> (a)", (2, 3, 4)),
    "unsqueeze": Net("y = Unsqueeze(a, axes)", (3, 4), {"axes": i64(1, -1)}),
}
