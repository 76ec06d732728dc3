"""The first HELLO of an agent, as many tests and benchmarks need it."""

from typing import Any

from plantfed_shared.messages import Hello


def newcomer(software: str = "test", **claims: Any) -> Hello:
    """Of one that knows nothing yet, but for what is claimed."""
    fresh: dict[str, Any] = {
        "epoch": None,
        "incarnation": 0,
        "applied_seq": 0,
        "outstanding": None,
        "dual_checksum": 0,
        "newest": None,
        "proof": None,
    }
    return Hello(**{**fresh, "software": software, **claims})
