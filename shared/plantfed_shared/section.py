"""What sections of settings and of manifests are made of.

Apart from the sections themselves, so that the training process of a compiled model need not load
them to read an artefact.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=200)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

LossKind = Literal["cross-entropy", "bce", "mse", "huber", "reconstruction"]

MAX_PARAMETERS = 2**25
"""Of the whole model: its bytes must stay well below what is transferred in chunks."""
MAX_ARTEFACT_BYTES = 256 * 2**20
"""Of a compiled model: all that a content on the bus may have."""


class Settings(BaseModel):
    """Base of every settings section: immutable, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
