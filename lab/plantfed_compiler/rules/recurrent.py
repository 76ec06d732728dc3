"""GRU and LSTM, by backpropagation through time.

Only what depends on the step before is done step by step, in a Scan; the gates of all steps are
worked out again in one product, and so are the gradients of the weights.  Letters are those of the
ONNX operators: H hidden size, z, r gates of GRU; i, o, f, c of LSTM; T steps, N batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnx import helper

from plantfed_compiler.emitting import FLOAT, Emitter, Refused
from plantfed_compiler.rules.site import Rule, Site

_Both = tuple[list[str], list[str]]
Step = Callable[[Emitter, Sequence[str], Sequence[str]], _Both]
"""(graph, states, this step's values) -> (states one step earlier, what is kept of this step)."""


@dataclass(frozen=True)
class Unrolled:
    """A recurrent node whose hidden states are known.

    Attributes:
        hidden: H.
        gates: 3 for GRU, 4 for LSTM.
        w: (gates * H, inputs).
        r: (gates * H, H).
        before: (T, N, H), the hidden state each step began with.
        of_x: (T, N, gates * H), x w' + bias.
        of_h: (T, N, gates * H), before r' + bias.
        zeros: (1, N, H).
        d_states: (T, N, H), what reaches the hidden state of each step from outside.
        d_last: (N, H), what reaches the last hidden state besides.
    """

    hidden: int
    gates: int
    w: str
    r: str
    before: str
    of_x: str
    of_h: str
    zeros: str
    d_states: str
    d_last: str


def _unrolled(site: Site, gates: int) -> Unrolled:
    graph, op = site.graph, site.graph.op
    hidden, first = site.attributes["hidden_size"], graph.integers(0)
    w, r = (op("Squeeze", site.input(n), first) for n in (1, 2))
    states = op("Squeeze", site.output(0), graph.integers(1))
    start = op("Slice", states, graph.integers(0), graph.integers(1), first)
    zeros = op("Mul", start, graph.number(0))
    earlier = op("Slice", states, graph.integers(0), graph.integers(-1), first)
    before = op("Concat", site.input(5) or zeros, earlier, axis=0)
    of_x, of_h = (
        op("MatMul", values, graph.swapped(weight, 2))
        for values, weight in ((site.x, w), (before, r))
    )
    if site.input(3):
        both = op("Squeeze", site.input(3), first)
        sizes = graph.integers(gates * hidden, gates * hidden)
        of_bias = graph.ops("Split", [both, sizes], 2)
        of_x, of_h = op("Add", of_x, of_bias[0]), op("Add", of_h, of_bias[1])
    upstream = [*site.upstream, None, None, None]
    d_states = (
        op("Squeeze", upstream[0], graph.integers(1))
        if upstream[0]
        else op("Mul", states, graph.number(0))
    )
    d_last = op("Squeeze", upstream[1] or zeros, first)
    return Unrolled(hidden, gates, w, r, before, of_x, of_h, zeros, d_states, d_last)


def _apart(graph: Emitter, values: str, hidden: int, parts: int, axis: int = 2) -> list[str]:
    return graph.ops("Split", [values, graph.integers(*[hidden] * parts)], parts, axis=axis)


def _slope(graph: Emitter, gate: str) -> str:
    """Of the logistic function, from its value."""
    return graph.op("Mul", gate, graph.op("Sub", graph.number(1), gate))


def _tanh_slope(graph: Emitter, value: str) -> str:
    return graph.op("Sub", graph.number(1), graph.op("Mul", value, value))


def _back_in_time(
    graph: Emitter, states: Sequence[str], values: Sequence[str], kept: int, step: Step
) -> list[str]:
    """Scan from the last time step to the first; the states at the end, then what is kept."""
    body = graph.nested()
    state_names, value_names = ([body.fresh("scan") for _ in given] for given in (states, values))
    found, keeping = step(body, state_names, value_names)
    outputs = [body.op("Identity", value) for value in (*found, *keeping)]
    infos = [
        [helper.make_tensor_value_info(name, FLOAT, None) for name in names]
        for names in ([*state_names, *value_names], outputs)
    ]
    inner = helper.make_graph(body.nodes, graph.fresh("time"), *infos)
    return graph.ops(
        "Scan",
        [*states, *values],
        len(states) + kept,
        body=inner,
        num_scan_inputs=len(values),
        scan_input_directions=[1] * len(values),
        scan_output_directions=[1] * kept,
    )


def _gradients(site: Site, time: Unrolled, d_x: str, d_h: str) -> list[str | None]:
    """Of x, w, r and the bias, given those of ``of_x`` and ``of_h``."""
    graph, op, first = site.graph, site.graph.op, site.graph.integers(0)
    wide = time.gates * time.hidden
    found: list[str | None] = [None] * len(site.node.input)

    def of_weight(d: str, values: str, n_in: int) -> str:
        rows = op("Reshape", d, graph.integers(-1, wide))
        columns = op("Reshape", values, graph.integers(-1, n_in))
        return op("Unsqueeze", op("Gemm", rows, columns, transA=1), first)

    if site.wants(0):
        found[0] = op("MatMul", d_x, time.w)
    if site.wants(1):
        found[1] = of_weight(d_x, site.x, graph.sizes(site.input(1))[2])
    if site.wants(2):
        found[2] = of_weight(d_h, time.before, time.hidden)
    if site.wants(3):
        parts = [graph.sum(d, [0, 1], keep=False) for d in (d_x, d_h)]
        found[3] = op("Unsqueeze", op("Concat", *parts, axis=0), first)
    return found


def _refuse_forms(site: Site, plain: str) -> None:
    attributes, activations = site.attributes, site.attributes.get("activations")
    usual = [b"Sigmoid", b"Tanh"] if site.node.op_type == "GRU" else [b"Sigmoid", b"Tanh", b"Tanh"]
    troubles = {
        "it is bidirectional or runs backwards": attributes.get("direction", "forward")
        != "forward",
        "its layout is batch first": attributes.get("layout", 0),
        "its activations are not the usual ones": activations not in (None, usual),
        "it clips": "clip" in attributes,
        "it has lengths of sequences": site.input(4),
        "it couples input and forget gate": attributes.get("input_forget", 0),
        "it has peepholes": site.node.op_type == "LSTM" and site.input(7),
    }
    for trouble, there in troubles.items():
        if there:
            raise Refused(trouble, f"Use {plain}")


def _gru(site: Site) -> list[str | None]:
    """One step: h = (1 - z) n + z h_before with n = tanh(x_n + r h_n)."""
    _refuse_forms(site, "a plain forward GRU")
    if not site.attributes.get("linear_before_reset", 0):
        raise Refused(
            "it resets before the product",
            "Use torch's nn.GRU, or Keras' GRU with reset_after=True",
        )
    graph, op, number = site.graph, site.graph.op, site.graph.number
    time = _unrolled(site, 3)
    x_z, x_r, x_n = _apart(graph, time.of_x, time.hidden, 3)
    h_z, h_r, h_n = _apart(graph, time.of_h, time.hidden, 3)
    z, r = op("Sigmoid", op("Add", x_z, h_z)), op("Sigmoid", op("Add", x_r, h_r))
    n = op("Tanh", op("Add", x_n, op("Mul", r, h_n)))
    by_z = op("Mul", op("Sub", time.before, n), _slope(graph, z))
    by_n = op("Mul", op("Sub", number(1), z), _tanh_slope(graph, n))
    by_r = op("Mul", op("Mul", by_n, h_n), _slope(graph, r))
    by_h = op("Concat", by_z, by_r, op("Mul", by_n, r), axis=2)

    def step(body: Emitter, states: Sequence[str], now: Sequence[str]) -> _Both:
        d_outside, h_slopes, keep = now
        d = body.op("Add", states[0], d_outside)
        spread = body.op("Mul", body.op("Concat", d, d, d, axis=1), h_slopes)
        through = body.op("Gemm", spread, time.r)
        return [body.op("Add", through, body.op("Mul", d, keep))], [d]

    d_first, d_states = _back_in_time(
        graph, [time.d_last], [time.d_states, by_h, z], kept=1, step=step
    )
    tripled = op("Concat", d_states, d_states, d_states, axis=2)
    d_h = op("Mul", tripled, by_h)
    d_x = op("Mul", tripled, op("Concat", by_z, by_r, by_n, axis=2))
    found = _gradients(site, time, d_x, d_h)
    if site.wants(5):
        found[5] = op("Unsqueeze", d_first, graph.integers(0))
    return found


def _cells(graph: Emitter, start: str, f: str, added: str) -> str:
    """(T, N, H): c = f c_before + added, which LSTM doesn't give for every step."""
    body = graph.nested()
    names = [body.fresh("scan") for _ in range(3)]
    cell = body.op("Add", body.op("Mul", names[1], names[0]), names[2])
    outputs = [body.op("Identity", cell) for _ in range(2)]
    infos = [
        [helper.make_tensor_value_info(name, FLOAT, None) for name in group]
        for group in (names, outputs)
    ]
    inner = helper.make_graph(body.nodes, graph.fresh("cells"), *infos)
    _, cells = graph.ops("Scan", [start, f, added], 2, body=inner, num_scan_inputs=2)
    return cells


def _lstm(site: Site) -> list[str | None]:
    """One step: c = f c_before + i g, h = o tanh(c)."""
    _refuse_forms(site, "a plain forward LSTM")
    graph, op = site.graph, site.graph.op
    time, first = _unrolled(site, 4), site.graph.integers(0)
    gates = _apart(graph, op("Add", time.of_x, time.of_h), time.hidden, 4)
    i, o, f = (op("Sigmoid", gate) for gate in gates[:3])
    g = op("Tanh", gates[3])
    start = op("Squeeze", site.input(6) or time.zeros, first)
    cells = _cells(graph, start, f, op("Mul", i, g))
    earlier = op("Slice", cells, graph.integers(0), graph.integers(-1), first)
    before = op("Concat", op("Unsqueeze", start, first), earlier, axis=0)
    tanh = op("Tanh", cells)
    by_o = op("Mul", tanh, _slope(graph, o))
    by_c = op("Mul", o, _tanh_slope(graph, tanh))
    of_cell = op(
        "Concat",
        op("Mul", g, _slope(graph, i)),
        op("Mul", before, _slope(graph, f)),
        op("Mul", i, _tanh_slope(graph, g)),
        axis=2,
    )
    upstream = [*site.upstream, None, None, None]
    d_last_cell = op("Squeeze", upstream[2] or time.zeros, first)

    def step(body: Emitter, states: Sequence[str], now: Sequence[str]) -> _Both:
        d_outside, c_slopes, o_slopes, cell_slopes, forget = now
        d = body.op("Add", states[0], d_outside)
        d_cell = body.op("Add", states[1], body.op("Mul", d, c_slopes))
        spread = body.op("Mul", body.op("Concat", d_cell, d_cell, d_cell, axis=1), cell_slopes)
        d_i, d_f, d_g = _apart(body, spread, time.hidden, 3, axis=1)
        d_gates = body.op("Concat", d_i, body.op("Mul", d, o_slopes), d_f, d_g, axis=1)
        return [body.op("Gemm", d_gates, time.r), body.op("Mul", d_cell, forget)], [d_gates]

    d_h, d_c, d_gates = _back_in_time(
        graph,
        [time.d_last, d_last_cell],
        [time.d_states, by_c, by_o, of_cell, f],
        kept=1,
        step=step,
    )
    found = _gradients(site, time, d_gates, d_gates)
    for position, gradient in ((5, d_h), (6, d_c)):
        if site.wants(position):
            found[position] = op("Unsqueeze", gradient, first)
    return found


RULES: dict[str, Rule] = {"GRU": _gru, "LSTM": _lstm}
