"""The table: for each operator how a gradient goes back through it."""

from plantfed_compiler.rules import (
    activations,
    attention,
    convolution,
    dense,
    elementwise,
    normalisation,
    pooling,
    recurrent,
    reductions,
    shapes,
)
from plantfed_compiler.rules.site import Rule, Site

__all__ = ["RULES", "Rule", "Site"]

FAMILIES = (
    activations,
    attention,
    convolution,
    dense,
    elementwise,
    normalisation,
    pooling,
    recurrent,
    reductions,
    shapes,
)

RULES: dict[str, Rule] = {
    operator: rule for family in FAMILIES for operator, rule in family.RULES.items()
}
"""By the name of an operator of ``ai.onnx``."""
