"""What the coordinator sees of each agent besides the journal: presence and bytes."""

from collections.abc import Callable, Container
from dataclasses import asdict, dataclass
from typing import Any

from plantfed_coordinator.desk import Presence
from plantfed_shared.bus.port import PUBACK_BYTES, publish_bytes
from plantfed_shared.errors import PeerError
from plantfed_shared.topics import Topics


@dataclass(slots=True)
class _Counters:
    bytes_up: int = 0
    bytes_down: int = 0
    messages_up: int = 0
    messages_down: int = 0


class LiveCounters:
    """Counts MQTT bytes from and to each agent since the coordinator was started.

    Manifests are published once for all and therefore not counted here; nor is what comes under
    the name of somebody who is no member, so that made-up names cost no memory.
    """

    def __init__(self, topics: Topics, members: Callable[[], Container[str]]) -> None:
        self._topics = topics
        self._members = members
        self._counters: dict[str, _Counters] = {}
        self._written: dict[str, dict[str, Any]] = {}

    def received(self, topic: str, payload: bytes) -> None:
        """Count a message from an agent, with the PUBACK to it."""
        counters = self._of(topic)
        if counters is not None:
            counters.bytes_up += publish_bytes(topic, len(payload), mqtt5=True)
            counters.bytes_down += PUBACK_BYTES
            counters.messages_up += 1

    def sent(self, topic: str, payload: bytes) -> None:
        """Count a message to an agent, with the PUBACK from it."""
        counters = self._of(topic)
        if counters is not None:
            counters.bytes_down += publish_bytes(topic, len(payload), mqtt5=True)
            counters.bytes_up += PUBACK_BYTES
            counters.messages_down += 1

    def take_changes(self, presence: dict[str, Presence], now: float) -> dict[str, dict[str, Any]]:
        """What differs from what was taken before, per agent, as JSON can hold it."""
        changes: dict[str, dict[str, Any]] = {}
        for agent, seen in presence.items():
            fields = {
                **asdict(self._counters.get(agent, _Counters())),
                "online": seen.online,
                "software": seen.software,
                "rejected": seen.rejected,
            }
            if fields != self._written.get(agent):
                self._written[agent] = fields
                changes[agent] = {**fields, "seconds_since_seen": now - seen.last_seen}
        return changes

    def _of(self, topic: str) -> _Counters | None:
        try:
            agent = self._topics.parse(topic).agent
        except PeerError:
            return None
        if agent not in self._members():
            return None
        return self._counters.setdefault(agent, _Counters())
