"""What the coordinator sees of each agent besides the journal: presence and bytes."""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from plantfed_coordinator.desk import Presence
from plantfed_shared.bus.port import PUBACK_BYTES, publish_bytes
from plantfed_shared.day_ledger import DayLedger
from plantfed_shared.errors import PeerError
from plantfed_shared.local_time import LocalTime
from plantfed_shared.topics import Topics


@dataclass(slots=True)
class _Counters:
    bytes_up: int = 0
    bytes_down: int = 0
    messages_up: int = 0
    messages_down: int = 0
    days: DayLedger = field(default_factory=lambda: DayLedger({}, kept=2))


class LiveCounters:
    """Counts MQTT bytes from and to each agent: since the coordinator was started, and by day.

    The last two days on which something came or went are kept, also through a restart.

    Manifests are published once for all and therefore not counted here; nor is what comes under
    the name of somebody who is no member, so that made-up names cost no memory.

    Args:
        topics: of the federation.
        members: who they are now.
        wall_clock: local time.
        before: what :meth:`take_changes` gave for each agent before the start.
    """

    def __init__(
        self,
        topics: Topics,
        members: Callable[[], Container[str]],
        wall_clock: Callable[[], LocalTime],
        before: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._topics = topics
        self._members = members
        self._wall_clock = wall_clock
        self._before = before or {}
        self._counters: dict[str, _Counters] = {}
        self._written: dict[str, dict[str, Any]] = {}

    def received(self, topic: str, payload: bytes) -> None:
        """Count a message from an agent, with the PUBACK to it."""
        counters = self._of(topic)
        if counters is not None:
            self._count(counters, publish_bytes(topic, len(payload), mqtt5=True), PUBACK_BYTES)
            counters.messages_up += 1

    def sent(self, topic: str, payload: bytes, heard_by: Iterable[str] = ()) -> None:
        """Count a message to an agent, or to each of several, with the PUBACK from it."""
        n_bytes = publish_bytes(topic, len(payload), mqtt5=True)
        to = [self._of(topic), *(self._of_member(agent) for agent in heard_by)]
        for counters in to:
            if counters is not None:
                self._count(counters, PUBACK_BYTES, n_bytes)
                counters.messages_down += 1

    def take_changes(self, presence: dict[str, Presence], now: float) -> dict[str, dict[str, Any]]:
        """What differs from what was taken before, per agent, as JSON can hold it."""
        changes: dict[str, dict[str, Any]] = {}
        for agent, seen in presence.items():
            counters = self._counters.get(agent) or self._fresh(agent)
            fields = {
                "bytes_up": counters.bytes_up,
                "bytes_down": counters.bytes_down,
                "messages_up": counters.messages_up,
                "messages_down": counters.messages_down,
                "days": counters.days.counters(),
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
            return self._of_member(self._topics.parse(topic).agent)
        except PeerError:
            return None

    def _of_member(self, agent: str) -> _Counters | None:
        if agent not in self._members():
            return None
        counters = self._counters.get(agent)
        if counters is None:
            counters = self._counters[agent] = self._fresh(agent)
        return counters

    def _fresh(self, agent: str) -> _Counters:
        """Counters of an agent not heard of since the start."""
        counters = _Counters()
        counters.days.days.update(days_in(self._before.get(agent, {})).days)
        return counters

    def _count(self, counters: _Counters, up: int, down: int) -> None:
        counters.bytes_up += up
        counters.bytes_down += down
        counters.days.count(self._wall_clock(), up, down)


def days_in(fields: Mapping[str, Any]) -> DayLedger:
    """The bytes by day among what :meth:`LiveCounters.take_changes` gave for an agent."""
    return DayLedger.from_counters(fields.get("days", {}))
