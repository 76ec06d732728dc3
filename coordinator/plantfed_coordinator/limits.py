"""What the coordinator puts up with: ``[limits]`` of ``coordinator.toml``."""

from typing import Annotated

from pydantic import Field

from plantfed_shared.definition import Settings

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Limits(Settings):
    """Bounds for each agent, and for the audit log.

    Attributes:
        messages_per_s: looked at of one agent in the long run; chunks that were asked for are free.
        burst_messages: and so many at once.
        offences: of an agent that are put up with; at the next one it is quarantined.
        forgive_one_after_s: one of them is forgiven after so long.
        audit_entries: kept at most; the oldest tenth goes when there are more.
    """

    messages_per_s: Positive = 50.0
    burst_messages: Annotated[int, Field(ge=1)] = 1000
    offences: Annotated[int, Field(ge=1)] = 10
    forgive_one_after_s: Positive = 600.0
    audit_entries: Annotated[int, Field(ge=1000)] = 100_000
