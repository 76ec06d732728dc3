"""How long messages take on the links between clients and an in-memory broker."""

from typing import Protocol


class Transit(Protocol):
    """The links between clients and broker: when what is sent now has wholly crossed one."""

    def up(self, client_id: str, n_bytes: int, now: float) -> float:
        """When a PUBLISH of so many bytes from a client has reached the broker; not before now."""
        ...

    def down(self, client_id: str, n_bytes: int, now: float) -> float:
        """When a PUBLISH of so many bytes from the broker has reached a client."""
        ...

    def broken(self, client_id: str, now: float) -> None:
        """The connection is gone, and with it what was on its way."""
        ...
