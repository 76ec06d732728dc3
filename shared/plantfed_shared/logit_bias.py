"""Which parameter of a compiled network is the bias of its outputs.

A class prior is added to the logits.  To a network it is the same whether that is done behind its
last layer or within that layer's bias, so nothing in the graphs has to know of it.
"""

from collections.abc import Mapping

from plantfed_shared import step_names
from plantfed_shared.onnx_bytes import nodes_in


def logit_bias(graph: bytes, shapes: Mapping[str, tuple[int, ...]], n_classes: int) -> str | None:
    """The name of that parameter; None where there is none that could hold a prior.

    Args:
        graph: "predict" of the artefact, an ONNX file.
        shapes: of the network's parameters, by name.
        n_classes: outputs of the network.
    """
    nodes = list(nodes_in(graph))
    made_by = {output: node for node in nodes for output in node.outputs}
    last = made_by.get(step_names.OUTPUT)
    while last is not None and last.operator == "Identity":
        last = made_by.get(last.inputs[0])
    if last is None:
        return None
    if last.operator == "Gemm" and last.attributes.get("beta", 1.0) == 1:
        candidates = last.inputs[2:3]
    else:
        candidates = last.inputs if last.operator == "Add" else ()
    for name in candidates:
        used = sum(node.inputs.count(name) for node in nodes)
        # where another layer uses it too, a prior in it would change more than the logits
        if used == 1 and shapes.get(name) in ((n_classes,), (1, n_classes)):
            return name
    return None
