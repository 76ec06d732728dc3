"""Which packet id acknowledges which received message, on one connection."""


class Receipts:
    """Tokens given out for messages the broker waits to hear about.

    NATS sends an unacknowledged message again on the same connection.  Then only the newest token
    acknowledges it: after that the broker may use the packet id for another message, which the
    older token must not settle.
    """

    def __init__(self) -> None:
        self._packet_ids: dict[int, int] = {}
        self._tokens: dict[int, int] = {}

    def note(self, token: int, packet_id: int) -> None:
        """Remember a received message; packet id 0 (QoS 0) needs no acknowledgement."""
        if packet_id:
            self._packet_ids.pop(self._tokens.get(packet_id, 0), None)
            self._tokens[packet_id] = token
            self._packet_ids[token] = packet_id

    def take(self, token: int) -> int:
        """Return the packet id to acknowledge, once; 0 for none."""
        packet_id = self._packet_ids.pop(token, 0)
        self._tokens.pop(packet_id, None)
        return packet_id

    def clear(self) -> None:
        """Forget all: the connection has ended."""
        self._packet_ids.clear()
        self._tokens.clear()
