"""Updates too long for one message: what was offered is pulled, some at a time, within bounds.

Pure.  An agent has one upload at most, and buffers are made for so many and so long that a thousand
agents that come at once take turns.  An upload of which nothing comes for ten minutes is asked for
no more and makes room where others wait; if nobody does, it goes on with the agent's next OFFER:
its link may have a budget that lasts until midnight.
"""

from dataclasses import dataclass, field
from math import inf

from plantfed_coordinator.desk import Desk
from plantfed_shared import wire
from plantfed_shared.messages import Chunk, Content, Range
from plantfed_shared.patience import Patience
from plantfed_shared.transfer import Assembly

AT_ONCE = 64
BYTES_AT_ONCE = 64 * 2**20
IDLE_AFTER_S = 600.0
FORGOTTEN_AFTER_S = 2 * 86400.0


@dataclass(slots=True)
class _Upload:
    assembly: Assembly
    heard_at: float
    patience: Patience = field(default_factory=lambda: Patience(inf))

    def is_idle(self, now: float) -> bool:
        """Whether so long nothing has come that it may make room."""
        return now >= self.heard_at + IDLE_AFTER_S


class Uploads:
    """The coordinator's side of OFFER, and of the NEED and CHUNK after it.

    Args:
        desk: of the federation.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._uploads: dict[str, _Upload] = {}
        self._waiting: dict[str, Content] = {}
        self._applied: dict[str, tuple[Content, wire.Envelope]] = {}

    def was_applied(self, agent: str, content: Content, envelope: wire.Envelope) -> None:
        """An update that was pulled is applied: offered again, it is not pulled again."""
        header = wire.Envelope(envelope.message, memoryview(b""), envelope.digest)
        self._applied[agent] = content, header

    def applied(self, agent: str, content: Content) -> wire.Envelope | None:
        """The UPDATE that an agent offers again, without its change; None where it is not known."""
        known, header = self._applied.get(agent, (None, None))
        return header if known == content else None

    def take_offer(self, agent: str, content: Content, now: float) -> None:
        """Ask for an update, now or when there is room for it.

        Args:
            agent: a member.
            content: not longer than an update can be; the caller has looked.
            now: monotonic seconds.
        """
        upload = self._uploads.get(agent)
        if upload is None or upload.assembly.content != content:
            self.forget(agent)
            self._waiting[agent] = content
        else:
            upload.heard_at = now
            self._ask_again(agent, upload, now)
        self.settle(now)

    def waits_for(self, agent: str, chunk: Chunk, n_bytes: int) -> bool:
        """Whether a piece has something of what is missing."""
        upload = self._uploads.get(agent)
        if upload is None or upload.assembly.content != chunk.content:
            return False
        return upload.assembly.is_new(Range(chunk.offset, chunk.offset + n_bytes))

    def take_chunk(self, agent: str, chunk: Chunk, piece: memoryview, now: float) -> bytes | None:
        """A piece of an update; returns the whole once it is here.

        Raises:
            PeerError: it doesn't fit, or the whole is not what was offered.
        """
        upload = self._uploads.get(agent)
        if upload is None or upload.assembly.content != chunk.content:
            return None
        upload.heard_at = now
        upload.patience.begin(now)
        more = upload.assembly.accept(chunk.offset, piece)
        whole = upload.assembly.finished()
        if whole is not None:
            del self._uploads[agent]
        elif more:
            upload.patience.regain()
            self._desk.send(agent, upload.assembly.next_need())
        return whole

    def next_timer(self) -> float:
        """When something has to be asked for again, or given up; infinite for never."""
        due = min((upload.patience.due for upload in self._uploads.values()), default=inf)
        if not self._waiting:
            return due
        idle = (u.heard_at + IDLE_AFTER_S for u in self._uploads.values())
        return min(due, min(idle, default=inf))

    def settle(self, now: float) -> None:
        """Ask again for what has not come, and begin with those for which there is room."""
        for agent, upload in list(self._uploads.items()):
            if now < upload.patience.due:
                continue
            if now >= upload.heard_at + FORGOTTEN_AFTER_S:
                del self._uploads[agent]
            elif upload.is_idle(now):
                upload.patience = Patience(upload.heard_at + FORGOTTEN_AFTER_S)
            else:
                upload.patience.lose()
                self._ask_again(agent, upload, now)
        for agent, content in list(self._waiting.items()):
            if not self._has_room(content.size, now):
                break  # in the order in which they came
            del self._waiting[agent]
            upload = self._uploads[agent] = _Upload(Assembly(content), now)
            self._ask_again(agent, upload, now)

    def forget(self, agent: str | None = None) -> None:
        """It has left, or, without a name, a new epoch has begun."""
        if agent is None:
            self._uploads.clear()
            self._waiting.clear()
            self._applied.clear()
        else:
            self._uploads.pop(agent, None)
            self._waiting.pop(agent, None)
            self._applied.pop(agent, None)

    def _ask_again(self, agent: str, upload: _Upload, now: float) -> None:
        upload.assembly.lost()
        upload.patience.begin(now)
        self._desk.send(agent, upload.assembly.next_need())

    def _has_room(self, size: int, now: float) -> bool:
        """Whether there is room, where idle uploads are given up for it: the longest idle first."""
        idle = sorted(
            (upload.heard_at, agent)
            for agent, upload in self._uploads.items()
            if upload.is_idle(now)
        )
        while not self._fits(size) and idle:
            del self._uploads[idle.pop(0)[1]]
        return self._fits(size)

    def _fits(self, size: int) -> bool:
        """One always fits, however long it is."""
        held = sum(upload.assembly.content.size for upload in self._uploads.values())
        fits = len(self._uploads) < AT_ONCE and held + size <= BYTES_AT_ONCE
        return fits or not self._uploads
