"""One blob at a time from the coordinator: what is asked for, and when it is asked for again."""

from dataclasses import dataclass, field
from enum import StrEnum

from plantfed_agent.budget import Pull
from plantfed_agent.events import HalfFetched
from plantfed_agent.lanes import Lanes
from plantfed_shared.codec import largest_model_bytes
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import Lattice
from plantfed_shared.messages import (
    NO_GROUP,
    Chunk,
    Content,
    Epoch,
    Group,
    ModelName,
    ModelStep,
    Need,
    Part,
    Want,
)
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
        lanes: what is to come together with others; of an artefact, which all want at once.
    """

    purpose: Purpose
    content: Content
    patience: Patience
    asked: bool = True
    assembly: Assembly = field(init=False)
    step: None = field(init=False, default=None)
    lanes: Lanes = field(init=False, default_factory=Lanes)
    _invited: bool = field(init=False, default=False)
    _part_meanwhile: int | None = field(init=False, default=None)

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
        self.patience.due, self.asked, self._invited = not_before, False, False

    def give_up(self) -> None:
        """What is on its way will not come; if it was awaited, be more patient with the next."""
        if self.asked:
            self.patience.lose()
        if self.asked and self.lanes.of_part:
            self.lanes.leave(self.assembly)
        self.lanes.of_part.clear()
        self._part_meanwhile = None
        self.assembly.lost()

    def request(self, pull: Pull, now: float) -> Need | Part:
        """What to ask for now, where less is on its way than the link allows."""
        self.patience.begin(now)
        self.asked = True
        part = self._part_to_share(pull)
        if part is not None:
            return Part(digest=self.content.digest, step=None, group=NO_GROUP, part=part)
        return _next_need(self.assembly, pull, one_part=self.lanes.group is not None)

    def _part_to_share(self, pull: Pull) -> int | None:
        """The next part, where it is worth asking once whether others want it too."""
        worth_it = self.purpose is Purpose.ARTEFACT and self.content.size > WINDOW_BYTES
        may_ask = not (self._invited or self.lanes.alone) and self.lanes.group is None
        if not worth_it or not may_ask or pull.window_bytes < WINDOW_BYTES:
            return None
        _adapt(self.assembly, pull)
        parts = self.assembly.next_parts()
        if not parts:
            return None
        for later in parts[1:]:
            self.assembly.part_is_lost(later)
        self._invited, self._part_meanwhile = True, parts[0]
        return parts[0]

    def takes_lanes(self, pull: Pull, now: float) -> bool:
        """Whether what comes next comes on lanes; their parts are then on their way."""
        _adapt(self.assembly, pull)
        parts = self.lanes.take(self.assembly)
        if parts:
            self.patience.begin(now)
            self.asked = True
        return parts is not None

    def join(self, group: Group) -> bool:
        """Several fetch it; returns whether it is time to ask for more."""
        if self.lanes.alone or self.content != group.content:
            return False
        if self._part_meanwhile is not None:
            self.assembly.part_is_lost(self._part_meanwhile)
            self._part_meanwhile = None
        self.lanes.join(group, self.assembly)
        return True

    def accept(self, chunk: Chunk, piece: memoryview, now: float) -> bool:
        """Take in a chunk; returns whether it is time to ask for more.

        Raises:
            PeerError: it lies outside the content.
        """
        if chunk.content != self.content:
            return False
        patience = self.patience if self.asked else None
        more = _accept(self.assembly, chunk, piece, patience, now)
        self.lanes.came(self.assembly)
        return more

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
        lanes: what is to come together with others.
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
    lanes: Lanes = field(init=False, default_factory=Lanes)
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
        if self.assembly is not None:
            if self.asked and self.lanes.of_part:
                self.lanes.leave(self.assembly)
            self.assembly.lost()
        self.lanes.of_part.clear()

    def request(self, pull: Pull, now: float) -> Want | Need:
        """What to ask for now, where less is on its way than the link allows."""
        self.patience.begin(now)
        self.asked = True
        if self.assembly is not None:
            grouped = self.lanes.group is not None
            return _next_need(self.assembly, pull, self.step, one_part=grouped)
        self.window_bytes, self.asks_ahead = pull.window_bytes, pull.asks_ahead
        return Want(have=self.have, window=pull.window_bytes, others=0)

    def begin_anew(self) -> None:
        """The coordinator does not have the rest of it any more."""
        self.assembly, self.lanes.group = None, None
        self.lanes.of_part.clear()

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
        self.lanes.came(self.assembly)
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
        if self.lanes.alone:
            return False
        if self.assembly is None:
            if not self._is_wanted(group.step):
                return False
            self._begin(group.content, group.step, lattice)
        elif self.assembly.content != group.content:
            return False
        assert self.assembly is not None
        self.lanes.join(group, self.assembly)
        return True

    def takes_lanes(self, pull: Pull, now: float) -> bool:
        """Whether what comes next comes on lanes; their parts are then on their way."""
        if self.assembly is None:
            return False
        _adapt(self.assembly, pull)
        parts = self.lanes.take(self.assembly)
        if parts:
            self.patience.begin(now)
            self.asked = True
        return parts is not None

    def _begin(self, content: Content, step: ModelStep | None, lattice: Lattice) -> Assembly:
        limit = largest_model_bytes(lattice)
        if content.size > limit:
            raise PeerError(f"a model of {content.size} bytes; it has at most {limit}")
        self.assembly = Assembly(content, self.window_bytes, self.asks_ahead)
        self.step = step
        return self.assembly

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
