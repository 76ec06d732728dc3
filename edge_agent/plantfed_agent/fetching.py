"""One blob at a time from the coordinator: what is asked for, and when it is asked for again."""

from dataclasses import dataclass, field
from enum import StrEnum

from plantfed_agent.budget import Pull
from plantfed_agent.events import HalfFetched
from plantfed_shared.codec import largest_model_bytes
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import Lattice
from plantfed_shared.messages import Chunk, Content, Epoch, Group, ModelName, ModelStep, Need, Want
from plantfed_shared.patience import Patience
from plantfed_shared.transfer import WINDOW_BYTES, Assembly


class Purpose(StrEnum):
    """Why a named content is fetched."""

    DEFINITION = "definition"
    DUAL = "dual"
    ARTEFACT = "artefact"


@dataclass(slots=True)
class Fetch:
    """The transfer of a content whose name is known.

    Attributes:
        purpose: why.
        content: what.
        patience: until it is asked for again.
        asked: whether an answer is awaited.
        assembly: what is here of it.
        step: None: it is no model.
    """

    purpose: Purpose
    content: Content
    patience: Patience
    asked: bool = True
    assembly: Assembly = field(init=False)
    step: None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.assembly = Assembly(self.content)

    def resume(self, half: HalfFetched) -> None:
        """Some of it was fetched before the start."""
        for offset, piece in half.pieces:
            self.assembly.accept(offset, piece)

    @property
    def missing_bytes(self) -> int:
        """Bytes not yet received."""
        return self.assembly.missing_bytes

    @property
    def bytes_on_their_way(self) -> int:
        """Bytes asked for and not yet received."""
        return self.assembly.bytes_on_their_way

    def wait(self, not_before: float) -> None:
        """Nothing is awaited, and nothing asked for before a time."""
        self.patience.due, self.asked = not_before, False

    def give_up(self) -> None:
        """What is on its way will not come; if it was awaited, be more patient with the next."""
        if self.asked:
            self.patience.lose()
        self.assembly.lost()

    def request(self, pull: Pull, now: float) -> Need:
        """What to ask for now, where less is on its way than the link allows."""
        self.patience.begin(now)
        self.asked = True
        return _next_need(self.assembly, pull)

    def accept(self, chunk: Chunk, piece: memoryview, now: float) -> bool:
        """Take in a chunk; returns whether it is time to ask for more.

        Raises:
            PeerError: it lies outside the content.
        """
        if chunk.content != self.content:
            return False
        return _accept(self.assembly, chunk, piece, self.patience if self.asked else None, now)

    def finished(self) -> bytes | None:
        """The whole content once it is there.

        Raises:
            PeerError: it is complete but damaged; it begins anew.
        """
        return self.assembly.finished()


@dataclass(slots=True)
class ModelFetch:
    """The transfer of the newest model, whichever that is when the coordinator answers.

    Attributes:
        epoch: that the model must be of.
        have: the model it may be the difference from.
        patience: until it is asked for again.
        window_bytes: how much of it was asked for at first, if it was asked for.
        asks_ahead: whether more is asked for before all of that is here.
        stands_until: before, it is not asked for again: others go first.
        asked: whether an answer is awaited.
        group: in which it is fetched together with others, if it is.
        lanes: the group of each part that is to come on a lane.
        assembly: what is here of it, if something is.
        step: what its content is, once that is known.
    """

    epoch: Epoch | None
    have: ModelName | None
    patience: Patience
    window_bytes: int = WINDOW_BYTES
    asks_ahead: bool = True
    stands_until: float = 0.0
    asked: bool = True
    group: int | None = field(init=False, default=None)
    lanes: dict[int, int] = field(init=False, default_factory=dict)
    _alone: bool = field(init=False, default=False)
    assembly: Assembly | None = field(init=False, default=None)
    step: ModelStep | None = field(init=False, default=None)

    @property
    def has_begun(self) -> bool:
        """Whether some of it is here."""
        return self.assembly is not None

    @property
    def missing_bytes(self) -> int:
        """Bytes not yet received; of a model that has not begun, a window."""
        return WINDOW_BYTES if self.assembly is None else self.assembly.missing_bytes

    @property
    def bytes_on_their_way(self) -> int:
        """Bytes asked for and not yet received; 0 before the beginning."""
        return 0 if self.assembly is None else self.assembly.bytes_on_their_way

    def wait(self, not_before: float) -> None:
        """Nothing is awaited, and nothing asked for before a time."""
        self.patience.due, self.asked = not_before, False

    def give_up(self) -> None:
        """What is on its way will not come; if it was awaited, be more patient with the next."""
        if self.asked:
            self.patience.lose()
        if self.asked and self.lanes:
            self.leave_group()
        self.lanes.clear()
        if self.assembly is not None:
            self.assembly.lost()

    def leave_group(self) -> None:
        """Nothing comes on lanes: the rest is asked for alone."""
        self.group, self._alone = None, True
        for part in self.lanes:
            self._part_is_lost(part)
        self.lanes.clear()

    def request(self, pull: Pull, now: float) -> Want | Need:
        """What to ask for now, where less is on its way than the link allows."""
        self.patience.begin(now)
        self.asked = True
        if self.assembly is not None:
            return _next_need(self.assembly, pull, self.step, one_part=self.group is not None)
        self.window_bytes, self.asks_ahead = pull.window_bytes, pull.asks_ahead
        return Want(have=self.have, window=pull.window_bytes, others=0)

    def begin_anew(self) -> None:
        """The coordinator does not have the rest of it any more."""
        self.assembly, self.group = None, None
        self.lanes.clear()

    def accept(self, chunk: Chunk, piece: memoryview, now: float, lattice: Lattice) -> bool:
        """Take in a chunk; returns whether it is time to ask for more.

        Raises:
            PeerError: it lies outside the content, or that is longer than any model.
        """
        if self.assembly is None:
            if not self._is_wanted(chunk.step):
                return False
            self._begin(chunk.content, chunk.step, lattice).opened()
        elif self.assembly.content != chunk.content:
            return False
        assert self.assembly is not None
        patience = self.patience if self.asked else None
        more = _accept(self.assembly, chunk, piece, patience, now)
        for part in [part for part in self.lanes if self.assembly.part_is_here(part)]:
            del self.lanes[part]
        return more

    def resume(self, half: HalfFetched) -> None:
        """Some of a model was fetched before the start; nothing happens if it is of no use now."""
        if self.epoch != half.epoch or not self._is_wanted(half.step):
            return
        self.assembly = Assembly(half.content, self.window_bytes, self.asks_ahead)
        self.step = half.step
        for offset, piece in half.pieces:
            self.assembly.accept(offset, piece)

    def join(self, group: Group, lattice: Lattice) -> bool:
        """Several fetch this model; returns whether it is time to ask for more.

        Raises:
            PeerError: it is longer than any model.
        """
        if self._alone:
            return False
        if self.assembly is None:
            if not self._is_wanted(group.step):
                return False
            self._begin(group.content, group.step, lattice)
        elif self.assembly.content != group.content:
            return False
        self.group = group.number
        if group.missed is not None and self.lanes.get(group.missed) not in (None, group.number):
            # what was on that lane is either here by now or will not come
            self._part_is_lost(group.missed)
            del self.lanes[group.missed]
        return True

    def takes_lanes(self, pull: Pull, now: float) -> bool:
        """Whether what comes next comes on lanes; their parts are then on their way."""
        if self.assembly is None or self.group is None:
            return False
        _adapt(self.assembly, pull)
        parts = self.assembly.next_parts()
        if parts is None:
            return False
        self.lanes |= dict.fromkeys(parts, self.group)
        if parts:
            self.patience.begin(now)
            self.asked = True
        return True

    def _begin(self, content: Content, step: ModelStep | None, lattice: Lattice) -> Assembly:
        limit = largest_model_bytes(lattice)
        if content.size > limit:
            raise PeerError(f"a model of {content.size} bytes; it has at most {limit}")
        self.assembly = Assembly(content, self.window_bytes, self.asks_ahead)
        self.step = step
        return self.assembly

    def _part_is_lost(self, part: int) -> None:
        if self.assembly is not None:
            self.assembly.part_is_lost(part)

    def finished(self) -> bytes | None:
        """The whole content once it is there.

        Raises:
            PeerError: it is complete but damaged; it begins anew.
        """
        return None if self.assembly is None else self.assembly.finished()

    def _is_wanted(self, step: ModelStep | None) -> bool:
        """Whether it leads from what is here to a newer model; late copies of others don't."""
        if step is None:
            return False
        if self.have is None:
            return step.base_k is None
        return step.k > self.have.k and step.base_k in (None, self.have.k)


def _next_need(
    assembly: Assembly, pull: Pull, step: ModelStep | None = None, *, one_part: bool = False
) -> Need:
    _adapt(assembly, pull)
    return assembly.next_need(step, pull.range_bytes, one_part=one_part)


def _adapt(assembly: Assembly, pull: Pull) -> None:
    assembly.window_bytes, assembly.asks_ahead = pull.window_bytes, pull.asks_ahead


def _accept(
    assembly: Assembly, chunk: Chunk, piece: memoryview, patience: Patience | None, now: float
) -> bool:
    """Take in a chunk; ``patience`` is None while nothing may be asked for anyway."""
    if patience is not None:
        patience.begin(now)
    more = assembly.accept(chunk.offset, piece)
    if more and patience is not None:
        patience.regain()
    return more
