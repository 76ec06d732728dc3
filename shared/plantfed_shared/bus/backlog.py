"""How much has been received and not yet taken: bounds what a flood can pile up in memory.

A broker stops at some messages of QoS 1 that are not acknowledged.  Nothing stops it at QoS 0, in
which anybody may publish who may publish at all.  So whoever reads from the network waits here,
and TCP makes the broker wait.
"""

import threading

BACKLOG_BYTES = 8 * 2**20
MESSAGE_BYTES = 1024
"""What a received message takes besides its payload, about."""


class Backlog:
    """Bytes of messages between the thread that reads and the loop that takes them.

    Args:
        most_bytes: the reader waits while there are more.
    """

    def __init__(self, most_bytes: int = BACKLOG_BYTES) -> None:
        self._most = most_bytes
        self._held = 0
        self._ended = False
        self._changed = threading.Condition()

    def add(self, payload_bytes: int) -> None:
        """One more has come."""
        with self._changed:
            self._held += MESSAGE_BYTES + payload_bytes

    def taken(self, payload_bytes: int) -> None:
        """One is dealt with, or given up."""
        with self._changed:
            self._held -= MESSAGE_BYTES + payload_bytes
            self._changed.notify_all()

    def wait_for_room(self) -> bool:
        """Wait, on the reader's thread; returns False where nobody will take anything any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._held <= self._most)
            return not self._ended

    def end(self) -> None:
        """Nobody takes anything any more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
