"""Einsum, which exporters write attention with; its other parts are plain operators."""

from plantfed_compiler.emitting import Refused
from plantfed_compiler.rules.site import Rule, Site


def _einsum(site: Site) -> list[str | None]:
    """The gradient of an operand is an Einsum of the upstream gradient and the other operands."""
    terms, result = _terms(site)
    found: list[str | None] = []
    for position, term in enumerate(terms):
        if not site.wants(position):
            found.append(None)
            continue
        others = [t for n, t in enumerate(terms) if n != position]
        there = set(result).union(*others)
        if set(term) - there:
            raise Refused(
                f"axis {sorted(set(term) - there)[0]!r} is in one operand alone and summed",
                "Sum over it before the Einsum",
            )
        equation = ",".join([result, *others]) + "->" + term
        names = [n for at, n in enumerate(site.node.input) if at != position]
        found.append(site.graph.op("Einsum", site.gradient, *names, equation=equation))
    return found


def _terms(site: Site) -> tuple[list[str], str]:
    """The axes of each operand and of the result."""
    equation = site.attributes["equation"].replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if not arrow or "." in equation or any(len(set(t)) < len(t) for t in [*terms, result]):
        raise Refused(
            f"equation {equation!r} has no '->', an ellipsis or a diagonal",
            "Write all axes, each once per operand",
        )
    return terms, result


RULES: dict[str, Rule] = {"Einsum": _einsum}
