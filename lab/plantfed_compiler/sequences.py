"""torch.split and chunk as torch's newer exporter writes them without optimisation: sequences.

SplitToSequence and SequenceAt become Split, whose gradient is known.
"""

import numpy as np
from onnx import NodeProto, helper

from plantfed_compiler.emitting import attributes_of
from plantfed_compiler.network import Network
from plantfed_shared.onnx_session import Arrays


def split_nodes(network: Network) -> list[NodeProto]:
    """Those that give sequences."""
    return [n for n in network.nodes if n.op_type == "SplitToSequence"]


def without_sequences(network: Network, run: Arrays, places: dict[str, int]) -> None:
    """Replace sequences that are only taken from at constant places.

    Args:
        network: changed.
        run: values of one run; a sequence is a list of arrays.
        places: constant integers by name.
    """
    for node in split_nodes(network):
        parts = run[node.output[0]]
        takers = [n for n in network.nodes if node.output[0] in n.input]
        attributes = attributes_of(node)
        constant = all(n.op_type == "SequenceAt" and n.input[1] in places for n in takers)
        if not constant or not attributes.get("keepdims", 1):
            continue
        axis = attributes.get("axis", 0)
        sizes, outputs = f"{node.name}_sizes", [f"{node.name}_part{n}" for n in range(len(parts))]
        network.constants[sizes] = np.array([p.shape[axis] for p in parts], np.int64)
        split = helper.make_node(
            "Split", [node.input[0], sizes], outputs, name=node.name, axis=axis
        )
        network.nodes[network.nodes.index(node)] = split
        for taker in takers:
            taken = outputs[places[taker.input[1]] % len(outputs)]
            taker.op_type = "Identity"
            del taker.input[:]
            taker.input.append(taken)
