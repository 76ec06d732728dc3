"""The network in a model file: its input, output, parameters, statistics; made trainable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    numpy_helper,
    version_converter,
)

from plantfed_compiler.emitting import FLOAT, INT64
from plantfed_compiler.reading import STANDARD_DOMAINS, not_whole, opset_of
from plantfed_compiler.unsupported import Problem, advice_on, unsupported
from plantfed_shared.definition import MAX_PARAMETERS
from plantfed_shared.errors import ModelError
from plantfed_shared.parameters import Floats

WORKING_OPSETS = range(18, 22)
"""In these all operators that a step needs have the same form, and onnxruntime 1.20 knows them."""

NEVER_TRAINED = {
    ("BatchNormalization", 3),
    ("BatchNormalization", 4),
    ("Clip", 1),
    ("Clip", 2),
    ("Dropout", 1),
    ("OneHot", 2),
    ("Pad", 2),
    ("Pow", 1),
    ("Resize", 1),
    ("Resize", 2),
}
"""(operator, position) of inputs that are settings of the node and no weights."""


@dataclass
class Network:
    """A forward graph.

    Attributes:
        where: the file, for errors.
        opset: of its nodes.
        nodes: in order, each with a name.
        input: name of the data.
        input_dtype: "float32" or "int64".
        input_shape: without the batch.
        output: name of what the loss is taken of.
        parameters: what is trained, in the order of the file.
        statistics: of batch norm; what a step updates without a gradient.
        constants: all other tensors.
        untied: tensors that were equal to others and were in the file once, by those others.
        notes: what was decided, for the reader.
    """

    where: str
    opset: int
    nodes: list[NodeProto]
    input: str
    input_dtype: str
    input_shape: tuple[int, ...]
    output: str
    parameters: dict[str, Floats] = field(default_factory=dict)
    statistics: dict[str, Floats] = field(default_factory=dict)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    untied: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def network_of(
    model: ModelProto,
    where: str,
    *,
    sizes: Mapping[str, int],
    frozen: Sequence[str],
    output: str | None,
    frozen_statistics: bool,
) -> Network:
    """Take a model apart.

    Args:
        model: as it was read; not changed.
        where: its file.
        sizes: of its dynamic dimensions other than the batch, by name.
        frozen: shell patterns of parameters that are not trained.
        output: name of the output the loss is taken of; the first for None.
        frozen_statistics: keep the statistics of batch norm as they are.

    Raises:
        ModelError: it has several inputs, a dynamic dimension without a size, numbers that are
            not float32, nothing to train, or a pattern that matches nothing.
    """
    _refuse_foreign_nodes(model, where)
    model = _at_working_opset(model, where)
    try:
        initial = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    except (KeyError, TypeError, ValueError):
        raise not_whole(where) from None
    source = _input(model, set(initial), where)
    outputs = [o.name for o in model.graph.output]
    if output is not None and output not in outputs:
        raise ModelError(f"has no output {output!r}; there are: {', '.join(outputs)}", where=where)
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    network = Network(
        where=where,
        opset=opset_of(model),
        nodes=nodes,
        input=source.name,
        input_dtype=_dtype(source, where),
        input_shape=_input_shape(source, sizes, where),
        output=output or outputs[0],
        constants=initial,
    )
    _name_nodes(network)
    _switch_off_dropout(network)
    _untie(network)
    _choose_parameters(network, frozen, frozen_statistics=frozen_statistics)
    return network


def _refuse_foreign_nodes(model: ModelProto, where: str) -> None:
    problems = [
        Problem(
            node.name or f"number {number}",
            f"{node.domain}.{node.op_type}",
            "it is no operator of ai.onnx",
            advice_on(node.op_type, node.domain),
        )
        for number, node in enumerate(model.graph.node)
        if node.domain not in STANDARD_DOMAINS
    ]
    if problems:
        raise unsupported(problems, where)


def _at_working_opset(model: ModelProto, where: str) -> ModelProto:
    opset = opset_of(model)
    if opset in WORKING_OPSETS:
        return model
    wanted = min(max(opset, WORKING_OPSETS[0]), WORKING_OPSETS[-1])
    try:
        return version_converter.convert_version(model, wanted)
    except (RuntimeError, version_converter.ConvertError) as error:
        said = str(error).strip().splitlines()[0]
        raise ModelError(
            f"of opset {opset} cannot be converted to {wanted}: {said}",
            where=where,
            hint="Export it again with opset_version=20",
        ) from None


def _input(model: ModelProto, initial: set[str], where: str) -> ValueInfoProto:
    """The one input that is data; older files list weights as inputs too."""
    given = [i for i in model.graph.input if i.name not in initial]
    if len(given) != 1:
        names = ", ".join(i.name for i in given) or "none"
        raise ModelError(
            f"has {len(given)} inputs ({names}); exactly 1 can be used",
            where=where,
            hint="Export a module that takes one tensor",
        )
    return given[0]


def _dtype(source: ValueInfoProto, where: str) -> str:
    kinds = {FLOAT: "float32", INT64: "int64"}
    kind = source.type.tensor_type.elem_type
    if kind not in kinds:
        raise ModelError(
            f"has an input {source.name!r} of type {_type_name(kind)}, not float32 or int64",
            where=where,
            hint="Export the model in float32",
        )
    return kinds[kind]


def _type_name(kind: int) -> str:
    names: dict[int, str] = {number: name for name, number in TensorProto.DataType.items()}
    return names.get(kind, str(kind))


def _input_shape(source: ValueInfoProto, sizes: Mapping[str, int], where: str) -> tuple[int, ...]:
    dimensions = list(source.type.tensor_type.shape.dim)
    if not dimensions:
        raise ModelError(
            f"has an input {source.name!r} without a batch dimension",
            where=where,
            hint="Export it with an example of shape (batch, ...)",
        )
    shape: list[int] = []
    used = set()
    for axis, dimension in enumerate(dimensions[1:], start=1):
        name = dimension.dim_param or f"axis{axis}"
        used.add(name)
        size = dimension.dim_value or sizes.get(name, 0)
        if size <= 0:
            raise ModelError(
                f"has an input {source.name!r} whose dimension {axis} ({name!r}) is dynamic; only "
                "the batch may be",
                where=where,
                hint=f"Give it a size, as --size {name}=128",
            )
        shape.append(size)
    if unknown := sorted(set(sizes) - used):
        raise ModelError(f"has no dynamic dimension {unknown[0]!r}", where=where)
    return tuple(shape)


def _name_nodes(network: Network) -> None:
    """Each gets a name, for errors; what exporters note about where it is from goes."""
    for number, node in enumerate(network.nodes):
        node.name = node.name or f"{node.op_type}_{number}"
        node.ClearField("doc_string")
        node.ClearField("metadata_props")


def _switch_off_dropout(network: Network) -> None:
    off = [n for n in network.nodes if n.op_type == "Dropout"]
    for node in off:
        node.op_type = "Identity"
        del node.input[1:], node.output[1:], node.attribute[:]
    if off:
        network.notes.append(f"dropout is off in training: {', '.join(n.name for n in off)}")


def _untie(network: Network) -> None:
    """Exporters keep equal tensors once, with an Identity for each other name of theirs."""
    for node in list(network.nodes):
        if node.op_type == "Identity" and node.input[0] in network.constants:
            tensor = network.constants[node.input[0]]
            network.constants[node.output[0]] = tensor.copy()
            network.nodes.remove(node)
            network.untied[node.output[0]] = node.input[0]


def _choose_parameters(network: Network, frozen: Sequence[str], *, frozen_statistics: bool) -> None:
    trained_at, statistics = _uses(network)
    network.notes += _unusual(network, trained_at)
    candidates = [
        name
        for name, tensor in network.constants.items()
        if name in trained_at and np.issubdtype(tensor.dtype, np.floating) and tensor.ndim
    ]
    _refuse_unmatched(frozen, candidates, network.where)
    chosen = [n for n in candidates if not any(fnmatchcase(n, p) for p in frozen)]
    if not chosen:
        raise ModelError(
            "has no trainable parameter: no float32 tensor with dimensions is a weight of a node",
            where=network.where,
            hint="Export the model with its weights as initializers, and freeze fewer",
        )
    _refuse_other_floats(network, chosen)
    total = sum(network.constants[n].size for n in chosen)
    if total > MAX_PARAMETERS:
        raise ModelError(
            f"has {total:,} parameters; at most {MAX_PARAMETERS:,} can be trained",
            where=network.where,
            hint="Use a smaller network, or freeze some with --frozen",
        )
    network.parameters = {n: network.constants.pop(n) for n in chosen}
    untied = [f"{n} and {network.untied[n]}" for n in chosen if network.untied.get(n) in chosen]
    if untied:
        network.notes.append(f"once in the file, but trained apart: {', '.join(untied)}")
    if not frozen_statistics:
        network.statistics = {n: network.constants.pop(n) for n in statistics}


def _uses(network: Network) -> tuple[set[str], list[str]]:
    """Names that are weights of some node, and the statistics of batch norm in order."""
    weights, statistics = set(), []
    for node in network.nodes:
        for position, name in enumerate(node.input):
            if (node.op_type, position) not in NEVER_TRAINED:
                weights.add(name)
        if node.op_type == "BatchNormalization":
            missing = [n for n in node.input[3:5] if n not in network.constants]
            if missing:
                raise ModelError(
                    f"has a batch norm {node.name} whose statistics are computed",
                    where=network.where,
                    hint="Export it with do_constant_folding=False or optimize=False",
                )
            statistics += [n for n in node.input[3:5] if n not in statistics]
    return weights, statistics


def _unusual(network: Network, weights: set[str]) -> list[str]:
    made_up = [
        name
        for name in network.constants
        if name in weights
        and name.startswith(("onnx::", "val_"))
        and prod(network.constants[name].shape) > 1
        and network.constants[name].dtype == np.float32
    ]
    if not made_up:
        return []
    return [
        f"the exporter has renamed weights: {', '.join(made_up)}; to keep their names export with "
        "optimize=False (dynamo) or do_constant_folding=False (TorchScript)"
    ]


def _refuse_unmatched(patterns: Sequence[str], names: Sequence[str], where: str) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ModelError(
                f"pattern {pattern!r} matches no parameter; there are: {', '.join(names)}",
                where=where,
            )


def _refuse_other_floats(network: Network, names: Sequence[str]) -> None:
    for name in names:
        dtype = network.constants[name].dtype
        if dtype != np.float32:
            raise ModelError(
                f"has a parameter {name!r} of type {dtype}; only float32 is trained",
                where=network.where,
                hint="Export the model in float32 (model.float())",
            )


def training_batch_norms(network: Network) -> list[NodeProto]:
    """Batch norms that a step takes with the statistics of its own batch."""
    return [
        n
        for n in network.nodes
        if n.op_type == "BatchNormalization" and n.input[3] in network.statistics
    ]
