"""What follows from a federation's definition alone, worked out once."""

from functools import cached_property, lru_cache

from plantfed_shared.definition import FederationDefinition
from plantfed_shared.digest import content_digest
from plantfed_shared.initial import initial_parameters
from plantfed_shared.lattice import Integers, Lattice
from plantfed_shared.messages import Content
from plantfed_shared.parameters import flatten


class Terms:
    """A definition with its consequences; made by :func:`terms_of`.

    Attributes:
        definition: of the federation.
        encoded: its canonical bytes.
        content: what they are fetched by.
        lattice: of the shared vector.

    Raises:
        ValueError: it is not a valid definition.
    """

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded
        self.definition = FederationDefinition.from_bytes(encoded)
        self.content = Content(content_digest(encoded), len(encoded))
        self.lattice: Lattice = self.definition.lattice()

    @property
    def digest(self) -> bytes:
        """The content digest of the definition."""
        return self.content.digest

    @cached_property
    def has_head(self) -> bool:
        """Whether any parameter is personal."""
        return bool(self.definition.parameter_specification().personal)

    @cached_property
    def initial_model(self) -> Integers:
        """U_0, lattice units, not writable."""
        specification = self.definition.parameter_specification()
        shared, _ = specification.split(initial_parameters(self.definition))
        model = self.lattice.released(self.lattice.from_floats(flatten(shared)))
        model.flags.writeable = False
        return model


@lru_cache(maxsize=4)
def terms_of(encoded: bytes) -> Terms:
    """The terms of a definition's canonical bytes.

    Raises:
        ValueError: it is not a valid definition.
    """
    return Terms(encoded)
