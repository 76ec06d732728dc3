"""Shared parameters and head of one machine, put together."""

from plantfed_shared.parameters import Floats, Parameters, ParameterSpecification, unflatten


def whole_model(specification: ParameterSpecification, shared: Floats, head: Floats) -> Parameters:
    """All parameters, in the order of the specification, as views into the two vectors.

    Args:
        specification: of the federation.
        shared: float32 (shared,).
        head: float32 (personal,); (0,) where nothing is personal.

    Raises:
        ValueError: a vector has another number of elements.
    """
    personal = unflatten(head, specification.personal) if specification.personal else []
    return specification.merge(unflatten(shared, specification.shared), personal)
