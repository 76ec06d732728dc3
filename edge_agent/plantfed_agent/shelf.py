"""What is half here of one long content, through restarts of the agent: pure.

What has come is on disk before more is asked for, so that after a kill no more than a window is
fetched twice.  It is written half a window at a time, and one content at most.
"""

from dataclasses import dataclass

from plantfed_agent.desk import Desk
from plantfed_agent.events import DropPieces, HalfFetched, KeepPieces
from plantfed_agent.state import AgentState
from plantfed_shared.messages import Content, ModelStep, Range
from plantfed_shared.transfer import PART_BYTES, WINDOW_BYTES, Assembly, difference


@dataclass(slots=True)
class _OnDisk:
    content: Content
    ranges: list[Range]


class Shelf:
    """The agent's half-fetched content on disk.

    Args:
        desk: of the agent.
        half: what is there at the start.
    """

    def __init__(self, desk: Desk, half: HalfFetched | None) -> None:
        self._desk = desk
        self._unused = half if half is not None and _is_news(half, desk.state) else None
        self._on_disk: _OnDisk | None = None
        self._epoch = None if half is None else half.epoch
        if half is not None:
            ranges = [Range(offset, offset + len(piece)) for offset, piece in half.pieces]
            self._on_disk = _OnDisk(half.content, ranges)

    @property
    def has_model(self) -> bool:
        """Whether there is a half-fetched model from before the start."""
        return self._unused is not None and self._unused.step is not None

    def take_model(self) -> HalfFetched | None:
        """The model from before the start, once."""
        if not self.has_model:
            return None
        half, self._unused = self._unused, None
        return half

    def take(self, content: Content) -> HalfFetched | None:
        """What there is of a content from before the start, once."""
        half = self._unused
        if half is None or half.content != content:
            return None
        self._unused = None
        return half

    def keep(self, assembly: Assembly, step: ModelStep | None) -> None:
        """More is to be asked for: write down what has come since the last time."""
        content = assembly.content
        if content.size <= WINDOW_BYTES:
            return
        same = self._on_disk is not None and self._on_disk.content == content
        known = self._on_disk.ranges if self._on_disk is not None and same else []
        new = difference(assembly.here, known)
        if sum(stop - start for start, stop in new) < PART_BYTES:
            return
        self._on_disk = _OnDisk(content, [*known, *new])
        self._epoch, self._unused = self._desk.state.epoch, None
        pieces = tuple((start, assembly.piece(Range(start, stop))) for start, stop in new)
        self._desk.ask(KeepPieces(HalfFetched(self._epoch, content, step, pieces)))

    def tidy(self, fetched: list[Assembly]) -> None:
        """Drop what is of use no more, or was not right.

        Args:
            fetched: what is being fetched now.
        """
        if self._on_disk is None:
            return
        current = self._epoch == self._desk.state.epoch
        if not current or (self._unused is None and not any(map(self._is_part_of, fetched))):
            self._on_disk = self._unused = None
            self._desk.ask(DropPieces())

    def _is_part_of(self, assembly: Assembly) -> bool:
        """Whether all that is on disk is here; what turned out to be damaged begins anew."""
        kept = self._on_disk
        if kept is None or kept.content != assembly.content:
            return False
        return not difference(kept.ranges, assembly.here)


def _is_news(half: HalfFetched, state: AgentState) -> bool:
    """Whether it is no model that was completed right before the start."""
    here = state.model_name
    if half.step is None or here is None or here.epoch != half.epoch:
        return True
    return half.step.k > here.k
