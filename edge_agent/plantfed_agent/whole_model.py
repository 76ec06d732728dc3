"""Shared parameters and head of one machine, put together."""

from plantfed_shared.definition import FederationDefinition
from plantfed_shared.parameters import Floats, Parameters, ParameterSpecification, unflatten


def whole_model(specification: ParameterSpecification, shared: Floats, head: Floats) -> Parameters:
    """All parameters in the order of the specification, then statistics: views into two vectors.

    Args:
        specification: of the federation.
        shared: float32 (shared,).
        head: float32 (personal + statistics,); (0,) where there is nothing of either.

    Raises:
        ValueError: a vector has another number of elements.
    """
    personal = specification.personal
    own = unflatten(head, (*personal, *specification.statistics))
    parameters = specification.merge(unflatten(shared, specification.shared), own[: len(personal)])
    return [*parameters, *own[len(personal) :]]


def can_have_own_head(definition: FederationDefinition) -> bool:
    """Whether machines may keep a last layer of their own, see :mod:`plantfed_agent.own_head`.

    In mode ``auto``, and in a network whose last layer is known.
    """
    return definition.algorithm.mode == "auto" and definition.model.kind == "dense"
