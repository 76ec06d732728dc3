"""What of a flood is turned away before it costs the coordinator anything: pure.

The guard judges every message it is given, and tells about those over the rate: that takes several
times as long as reading one from the network.  So of what is far over it the thread that reads
drops the rest.  What is let in is still too much for the guard, which puts it down as ever.
"""

from plantfed_coordinator.allowance import Allowance
from plantfed_coordinator.guard import FREE_FROM_BYTES
from plantfed_coordinator.limits import Limits
from plantfed_shared.topics import EVERYBODY, Kind, Topics

OVER = 2
"""So many times what the guard puts up with is let in."""
MOST_NAMES = 4096
"""Anybody can make up ids where the broker lets him."""


class Gate:
    """Counts the messages of each sender.

    Args:
        topics: of the federation.
        limits: what the guard puts up with.
    """

    def __init__(self, topics: Topics, limits: Limits) -> None:
        self._prefix = topics.prefix
        self._limits = limits
        self._of: dict[str, Allowance] = {}

    def admits(self, topic: str, n_bytes: int, now: float) -> bool:
        """Whether a message is to be looked at.

        Args:
            topic: as it came.
            n_bytes: of its payload.
            now: monotonic seconds.
        """
        agent, _, rest = topic.removeprefix(self._prefix).partition("/")
        # long pieces of an update are asked for, and bounded by the window they are asked in
        is_piece = n_bytes >= FREE_FROM_BYTES and rest.endswith(Kind.CHUNK)
        if agent == EVERYBODY or is_piece:
            return True
        allowance = self._of.get(agent)
        if allowance is None:
            allowance = self._of[agent] = self._allowance(now)
        return allowance.take(now)

    def _allowance(self, now: float) -> Allowance:
        if len(self._of) >= MOST_NAMES:
            self._of = {name: a for name, a in self._of.items() if not a.is_full(now)}
        if len(self._of) >= MOST_NAMES:
            self._of.clear()
        rate = OVER * self._limits.messages_per_s
        return Allowance(OVER * self._limits.burst_messages, 1 / rate, now)
