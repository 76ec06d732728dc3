"""Long contents that several agents want at once: every part is published once, for who listens.

Models, and the artefact of a compiled one.  Pure.  Wants of one content that come within
:data:`GATHER_S` make a *group*.  Its members listen to the lanes of the parts they have room for
and ask for them (PART).  A part goes out on its lane, **at most once ever**, when all who have
asked for a part shortly before it have asked for it too, or after a patience as long as the fastest
of them took: nobody is held up by more than that.

Who asks for what has been on its lane is late.  It goes on in another group, with others of its
pace or alone.  So nothing comes on a lane but what all who listen to it have asked for or are about
to, once, and there is never more for anyone in the broker than it has room for: its window.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from math import inf

from plantfed_coordinator.desk import Desk
from plantfed_shared.errors import PeerError
from plantfed_shared.messages import NO_GROUP, Chunk, Content, Group, ModelStep, Part, Range
from plantfed_shared.transfer import (
    PARTS_AT_ONCE,
    WINDOW_BYTES,
    Blob,
    chunks,
    part_range,
)

GATHER_S = 1.0
AT_LEAST = 3
"""Wants that make a group: fewer are served faster one by one."""
WAIT_S = 2.0
"""For a member's next PART, at least: a round trip to listen and one to ask, on a thin link."""
LONGEST_WAIT_S = 8.0
"""Well within the patience of who waits for a part (:mod:`plantfed_shared.patience`)."""
IDLE_AFTER_S = 600.0
MAX_GROUPS = 64


@dataclass(slots=True)
class _Asked:
    """A part that somebody has asked for.

    Attributes:
        since: when the first did, monotonic seconds.
        until: nobody is waited for any longer.
        by: who did.
        sent_at: when it was on its lane.
    """

    since: float
    until: float
    by: set[str] = field(default_factory=set)
    sent_at: float | None = None


@dataclass(slots=True)
class _Group:
    """Agents that fetch a content together.

    Attributes:
        number: of the group.
        content: of the model or the artefact.
        step: what the content is, where it is a model.
        heard_at: when somebody asked last.
        reached: the last part that each member has asked for, or the one before its first.
        parts: by number.
    """

    number: int
    content: Content
    step: ModelStep | None
    heard_at: float
    reached: dict[str, int] = field(default_factory=dict)
    parts: dict[int, _Asked] = field(default_factory=dict)

    def is_open(self, part: int) -> bool:
        """Whether a part has not been on its lane."""
        asked = self.parts.get(part)
        return asked is None or asked.sent_at is None

    def comes_to(self, part: int) -> bool:
        """Whether it is near a part, and neither that nor any behind it has been on its lane."""
        sent = (n for n, asked in self.parts.items() if asked.sent_at is not None)
        front = max(self.reached.values(), default=-1)
        return part > max(sent, default=-1) and part <= front + PARTS_AT_ONCE

    def ask(self, agent: str, part: int, now: float) -> None:
        """A member wants a part."""
        self.heard_at = now
        self.reached[agent] = max(part, self.reached.get(agent, part))
        asked = self.parts.get(part)
        if asked is None:
            before = self.parts.get(part - PARTS_AT_ONCE)
            took_s = 0.0 if before is None or before.sent_at is None else now - before.sent_at
            wait_s = min(max(took_s, WAIT_S), LONGEST_WAIT_S)
            asked = self.parts[part] = _Asked(now, now + wait_s)
        asked.by.add(agent)

    def due(self, part: int) -> float:
        """When a part that was asked for is to be sent, monotonic seconds."""
        asked = self.parts[part]
        soon = (
            agent
            for agent, reached in self.reached.items()
            if part - PARTS_AT_ONCE <= reached < part and agent not in asked.by
        )
        return asked.since if next(soon, None) is None else asked.until

    def forget(self, agent: str) -> None:
        """It is gone, or what was sent to it may be lost."""
        self.reached.pop(agent, None)
        for asked in self.parts.values():
            asked.by.discard(agent)


@dataclass(slots=True)
class _Gathering:
    blob: Blob
    until: float
    agents: set[str] = field(default_factory=set)


class Groups:
    """The coordinator's side of GROUP and PART.

    Args:
        desk: of the federation.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._gatherings: dict[bytes, _Gathering] = {}
        self._groups: dict[int, _Group] = {}
        self._unsent: set[tuple[int, int]] = set()
        self._numbers: count[int] | None = None

    def gather(self, agent: str, blob: Blob, window_bytes: int, now: float) -> bool:
        """Whether a content is one to wait for others with; then it comes with the next settle.

        What fits a window needs no further request and is not worth a round trip.
        """
        if window_bytes < WINDOW_BYTES or not self._is_for_many(blob, now):
            return False
        group = self._open_group(blob.content, 0)
        if group is not None:
            self._invite(agent, group, 0, None)
            return True
        gathering = self._gatherings.get(blob.content.digest)
        if gathering is None:
            gathering = self._gatherings[blob.content.digest] = _Gathering(blob, now + GATHER_S)
        gathering.agents.add(agent)
        return True

    def take_part(self, agent: str, wanted: Part, blob: Blob, now: float) -> None:
        """A member listens to the lane of a part.

        Raises:
            PeerError: there is no such part.
        """
        number = wanted.part
        if part_range(number, blob.content.size).start >= blob.content.size:
            raise PeerError(f"asks for part {number} of {blob.content.size} bytes")
        group = self._groups.get(wanted.group)
        if wanted.group == NO_GROUP:
            self._admit(agent, blob, number, now)
        elif group is None or group.content != blob.content:
            self._regroup(agent, blob, number, now)
        elif group.is_open(number):
            group.ask(agent, number, now)
            self._unsent.add((group.number, number))
        elif agent not in group.parts[number].by:
            group.forget(agent)
            self._regroup(agent, blob, number, now)

    def _admit(self, agent: str, blob: Blob, part: int, now: float) -> None:
        """It would fetch this part and what follows with others; alone it is sent this part."""
        if not self._is_for_many(blob, now):
            self._serve_alone(agent, blob, part_range(part, blob.content.size))
        elif part == 0:
            self.gather(agent, blob, WINDOW_BYTES, now)
        else:
            self._regroup(agent, blob, part, now)

    def _is_for_many(self, blob: Blob, now: float) -> bool:
        return blob.content.size > WINDOW_BYTES and self._desk.live_members(now) >= AT_LEAST

    def settle(self, now: float) -> None:
        """Send what is due."""
        for digest, gathering in list(self._gatherings.items()):
            if now >= gathering.until:
                del self._gatherings[digest]
                self._serve(gathering, now)
        for key in sorted(self._unsent):
            group, part = self._groups[key[0]], key[1]
            if now >= group.due(part):
                self._unsent.discard(key)
                self._send_part(group, part, now)

    def next_timer(self) -> float:
        """When something is due by time alone; infinite for never."""
        gathered = (gathering.until for gathering in self._gatherings.values())
        parts = (self._groups[number].due(part) for number, part in self._unsent)
        return min(min(gathered, default=inf), min(parts, default=inf))

    def forget(self, agent: str | None = None) -> None:
        """It begins anew or has left, or, without a name, a new epoch has begun."""
        if agent is None:
            self._gatherings.clear()
            self._groups.clear()
            self._unsent.clear()
            return
        for gathering in self._gatherings.values():
            gathering.agents.discard(agent)
        for group in self._groups.values():
            group.forget(agent)

    def _serve(self, gathering: _Gathering, now: float) -> None:
        blob = gathering.blob
        if len(gathering.agents) >= AT_LEAST:
            group = self._new_group(blob, now)
            for agent in sorted(gathering.agents):
                self._invite(agent, group, 0, None)
            return
        # who wants an artefact has asked for a part, who wants a model for a window
        first = Range(0, WINDOW_BYTES) if blob.step else part_range(0, blob.content.size)
        for agent in sorted(gathering.agents):
            self._serve_alone(agent, blob, first)

    def _serve_alone(self, agent: str, blob: Blob, wanted: Range) -> None:
        for chunk, piece in self._chunks(blob, wanted):
            self._desk.send(agent, chunk, piece)

    def _regroup(self, agent: str, blob: Blob, missed: int, now: float) -> None:
        group = self._open_group(blob.content, missed) or self._new_group(blob, now)
        self._invite(agent, group, missed, missed)

    def _invite(self, agent: str, group: _Group, part: int, missed: int | None) -> None:
        group.reached.setdefault(agent, part - 1)
        self._desk.send(
            agent,
            Group(content=group.content, step=group.step, number=group.number, missed=missed),
        )

    def _open_group(self, content: Content, part: int) -> _Group | None:
        """A group that is about to come to a part."""
        for group in self._groups.values():
            if group.content == content and group.comes_to(part):
                return group
        return None

    def _new_group(self, blob: Blob, now: float) -> _Group:
        for number, group in list(self._groups.items()):
            if now >= group.heard_at + IDLE_AFTER_S:
                self._drop(number)
        while len(self._groups) >= MAX_GROUPS:
            # who still listens to it is moved to another when it asks for its next part
            self._drop(min(self._groups, key=lambda number: self._groups[number].heard_at))
        if self._numbers is None:
            # who listened to a lane before a restart must not hear of another content on it
            self._numbers = count(NO_GROUP + 1 + self._desk.new_bits() % 2**31)
        group = _Group(next(self._numbers), blob.content, blob.step, now)
        self._groups[group.number] = group
        return group

    def _drop(self, number: int) -> None:
        del self._groups[number]
        self._unsent = {key for key in self._unsent if key[0] != number}

    def _send_part(self, group: _Group, part: int, now: float) -> None:
        asked = group.parts[part]
        found = self._desk.contents.for_many(self._desk.state, group.content.digest, group.step)
        if found is None or not asked.by:
            for agent in sorted(asked.by):
                self._desk.reply(agent, None, offer=True)
            del group.parts[part]
            return
        lane = self._desk.topics.lane(group.number, part)
        for chunk, piece in self._chunks(found[1], part_range(part, group.content.size)):
            self._desk.publish(lane, chunk, piece, asked.by)
        asked.sent_at = now

    def _chunks(self, blob: Blob, piece: Range) -> Iterator[tuple[Chunk, bytes]]:
        return chunks(blob, [piece], self._desk.max_payload_bytes)
