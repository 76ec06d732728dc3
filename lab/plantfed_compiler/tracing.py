"""What shapes and constants a network has, found by running it with batches of two sizes.

Shape inference stops at what it cannot follow; a network that is run tells all.  A dimension that
is the same for 2 and 3 rows is fixed, one that grows in proportion belongs to the batch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper, numpy_helper

from plantfed_compiler.emitting import BATCH, FLOAT, INT64, Dim, Known, inputs_that_count
from plantfed_compiler.network import Network
from plantfed_compiler.sequences import split_nodes, without_sequences
from plantfed_shared.errors import ModelError
from plantfed_shared.onnx_session import Arrays, OnnxSession

SIZES = (2, 3)
"""Rows of the two batches."""

SHAPE_ONLY = {"Shape", "Size"}
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
RANDOM |= {"RandomUniformLike"}


def trace(network: Network) -> dict[str, Known]:
    """Run a network; nodes that give constants are taken out of it.

    Returns:
        What is known of every value by name.

    Raises:
        ModelError: it doesn't run, or doesn't take batches of any size.
    """
    runs = _runs(network)
    if split_nodes(network):
        known_places = {**runs[0], **network.constants}
        places = {n: int(a) for n, a in known_places.items() if getattr(a, "size", 0) == 1}
        without_sequences(network, runs[0], places)
        runs = _runs(network)
    fixed = {**network.parameters, **network.statistics, **network.constants}
    known = {name: Known(a.dtype, tuple(a.shape)) for name, a in fixed.items()}
    known[network.input] = Known(np.dtype(network.input_dtype), (BATCH, *network.input_shape))
    settled = set(network.constants)
    for name in network.constants:
        known[name] = Known(known[name].dtype, known[name].shape, network.constants[name])
    for node in network.nodes:
        of_shapes = node.op_type in SHAPE_ONLY
        free = settled.issuperset(inputs_that_count(node)) and node.op_type not in RANDOM
        for name in filter(None, node.output):
            if of_shapes or free:
                settled.add(name)
            known[name] = _known([run.get(name) for run in runs], settled=name in settled)
    _fold(network, known)
    _refuse_fixed_batch(network, known)
    return known


def _runs(network: Network) -> list[Arrays]:
    names = [o for node in network.nodes for o in node.output if o]
    session = OnnxSession(_all_values(network, names).SerializeToString(), optimize=False)
    return [_run(session, network, rows) for rows in SIZES]


def _all_values(network: Network, names: Sequence[str]) -> ModelProto:
    """A model whose outputs are all values, types left open."""
    kind = FLOAT if network.input_dtype == "float32" else INT64
    shape = [BATCH, *network.input_shape]
    fixed = {**network.parameters, **network.statistics, **network.constants}
    graph = helper.make_graph(
        network.nodes,
        "trace",
        [helper.make_tensor_value_info(network.input, kind, shape)],
        [ValueInfoProto(name=name) for name in names],
        [numpy_helper.from_array(array, name) for name, array in fixed.items()],
    )
    return model_of(graph, network.opset)


def model_of(graph: Any, opset: int) -> ModelProto:
    """A model with the oldest IR version that knows its opset, as that runs everywhere."""
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(
        graph,
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
        producer_name="plantfed",
    )


def example_rows(network: Network, rows: int) -> NDArray[Any]:
    """(rows, *input shape): standard normal numbers, or the integers 0 and 1."""
    rng = np.random.RandomState(rows)
    shape = (rows, *network.input_shape)
    if network.input_dtype == "int64":
        return rng.randint(0, 2, shape).astype(np.int64)
    return rng.standard_normal(shape).astype(np.float32)


def _run(session: OnnxSession, network: Network, rows: int) -> Arrays:
    try:
        return session.run({network.input: example_rows(network, rows)})
    except ModelError as error:
        raise ModelError(
            f"cannot run with {rows} rows: {error.what}",
            where=network.where,
            hint="If a shape in it is fixed to the batch it was exported with, export it again "
            "with a dynamic first dimension (dynamic_shapes or dynamic_axes)",
        ) from None


def _known(found: Sequence[Any], *, settled: bool) -> Known:
    first, second = found
    if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray):
        return Known(np.dtype(object), None)
    same = settled and first.shape == second.shape and np.array_equal(first, second)
    return Known(first.dtype, _shape(first.shape, second.shape), first if same else None)


def _shape(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[Dim, ...] | None:
    if len(first) != len(second):
        return None
    shape: list[Dim] = []
    for few, more in zip(first, second, strict=True):
        if few == more:
            shape.append(few)
        elif few * SIZES[1] == more * SIZES[0]:
            times = few // SIZES[0]
            shape.append(BATCH if times == 1 else f"{BATCH}*{times}")
        else:
            return None
    return tuple(shape)


def _fold(network: Network, known: dict[str, Known]) -> None:
    kept = []
    for node in network.nodes:
        values = {o: known[o].constant for o in node.output if o}
        if values and all(value is not None for value in values.values()):
            network.constants.update({o: v for o, v in values.items() if v is not None})
        else:
            kept.append(node)
    network.nodes = kept


def _refuse_fixed_batch(network: Network, known: dict[str, Known]) -> None:
    shape = known[network.output].shape if network.output in known else None
    if shape is None or not shape or shape[0] != BATCH or BATCH in shape[1:]:
        said = "that depends on the data" if shape is None else f"({', '.join(map(str, shape))})"
        raise ModelError(
            f"has an output {network.output!r} of shape {said}, whose first dimension is not the "
            "batch",
            where=network.where,
            hint="Export it again with a dynamic first dimension (dynamic_shapes or dynamic_axes)",
        )
