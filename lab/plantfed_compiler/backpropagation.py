"""Reverse-mode differentiation: from the gradient of an output to those of chosen tensors."""

from collections.abc import Collection, Mapping, Sequence

from onnx import NodeProto

from plantfed_compiler.emitting import Emitter, Refused, inputs_that_count
from plantfed_compiler.rules import RULES, Site
from plantfed_compiler.unsupported import Problem, advice_on, unsupported

WITHOUT_GRADIENT = {
    "And",
    "ArgMax",
    "ArgMin",
    "Ceil",
    "ConstantOfShape",
    "Equal",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "Range",
    "Round",
    "Shape",
    "Sign",
    "Size",
    "Xor",
}
"""Their outputs don't move with their inputs, but for jumps: nothing goes back through them."""


def backpropagate(
    graph: Emitter,
    nodes: Sequence[NodeProto],
    seeds: Mapping[str, str],
    wanted: Collection[str],
    where: str,
) -> dict[str, str]:
    """Add the backward pass to a graph.

    Only nodes between the wanted tensors and the seeds are gone through: with the head alone
    wanted, it stops at the head.

    Args:
        graph: grows by the backward pass.
        nodes: of the forward pass, in order; a node may get further outputs.
        seeds: values by name to the names of their gradients.
        wanted: names of the tensors.
        where: the model file, for errors.

    Returns:
        Names of the gradients by tensor; those the seeds do not depend on are missing.

    Raises:
        ModelError: some nodes have no gradient; it lists every one.
    """
    moving = _moved_by(nodes, wanted)
    reached: dict[str, list[str]] = {value: [gradient] for value, gradient in seeds.items()}
    problems: list[Problem] = []
    for node in reversed(nodes):
        if node.op_type in WITHOUT_GRADIENT or not any(o in reached for o in node.output if o):
            continue
        counting = inputs_that_count(node)
        needed = [name in counting and name in moving for name in node.input]
        if not any(needed):
            continue
        upstream = [_summed(graph, reached, name) for name in node.output]
        try:
            found = _through(Site(graph, node, upstream, needed))
        except Refused as refused:
            problems.append(Problem(node.name, node.op_type, refused.why, refused.advice))
            # on with any gradient: whatever else cannot be trained through is to be named too
            found = [upstream[0] or next(filter(None, upstream))] * len(needed)
        for name, gradient, need in zip(node.input, found, needed, strict=False):
            if need and gradient is not None:
                reached.setdefault(name, []).append(gradient)
    if problems:
        raise unsupported(problems[::-1], where)
    gradients = {name: _summed(graph, reached, name) for name in wanted}
    return {name: gradient for name, gradient in gradients.items() if gradient is not None}


def _through(site: Site) -> Sequence[str | None]:
    operator = site.node.op_type
    if operator not in RULES:
        raise Refused("it has no gradient here", advice_on(operator, ""))
    return RULES[operator](site)


def _moved_by(nodes: Sequence[NodeProto], wanted: Collection[str]) -> set[str]:
    """Every value that moves a little when one of the tensors does."""
    moving = set(wanted)
    for node in nodes:
        if node.op_type not in WITHOUT_GRADIENT and moving.intersection(inputs_that_count(node)):
            moving.update(name for name in node.output if name)
    return moving


def _summed(graph: Emitter, reached: dict[str, list[str]], name: str) -> str | None:
    """The gradient with respect to a value that is used in several places."""
    parts = reached.get(name)
    if not name or not parts:
        return None
    if len(parts) > 1:
        reached[name] = [graph.op("Sum", *parts)]
    return reached[name][0]
