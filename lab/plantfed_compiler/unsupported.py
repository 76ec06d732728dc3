"""Operators that cannot be trained through: named all at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from plantfed_shared.errors import ModelError
from plantfed_shared.wording import counted


@dataclass(frozen=True, slots=True)
class Problem:
    """A node that stands between parameters and loss.

    Attributes:
        node: its name.
        operator: its type, with the domain where that is not ``ai.onnx``.
        why: it has no gradient.
        advice: what to do.
    """

    node: str
    operator: str
    why: str
    advice: str


REPLACEMENTS = {
    "Attention": "Export with opset_version=22 or less: attention then is MatMul and Softmax",
    "Einsum": "Write it as MatMul and Transpose",
    "If": "Export the branch that is taken: no Python 'if' on tensors",
    "Loop": "Unroll the loop before the export",
    "Mish": "Use SiLU or GELU",
    "RNN": "Use GRU or LSTM",
    "Scan": "Unroll the loop before the export",
}


def advice_on(operator: str, domain: str) -> str:
    """What to do about an operator that has no rule."""
    if domain:
        return "Export without optimisations, so that only ai.onnx operators are in the file"
    return REPLACEMENTS.get(operator, "Use another operator, or make all parameters before frozen")


def unsupported(problems: Sequence[Problem], where: str) -> ModelError:
    """One error that lists every node that cannot be trained through.

    Args:
        problems: at least one.
        where: the model file.
    """
    said = "; ".join(
        f"{p.node} ({p.operator}): {p.why}" + (f" ({p.advice})" if p.advice else "")
        for p in problems
    )
    return ModelError(
        f"{counted(len(problems), 'node')} cannot be trained through: {said}",
        where=where,
        hint="docs/bring-your-model.md lists the operators that can",
    )
