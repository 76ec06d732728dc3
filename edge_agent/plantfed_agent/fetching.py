"""One blob at a time from the coordinator: what is asked for, and when it is asked for again."""

from dataclasses import dataclass, field
from enum import StrEnum

from plantfed_shared.codec import largest_encoding_bytes, peek_step
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import Lattice
from plantfed_shared.messages import Chunk, Content, Epoch, ModelName, ModelStep, Need, Want
from plantfed_shared.transfer import WINDOW_BYTES, Assembly

FIRST_PATIENCE_S = 15.0
LONGEST_PATIENCE_S = 120.0
STEP_BYTES = 64
"""More than a model's content has before its integers."""


@dataclass(slots=True)
class Patience:
    """When to ask again for what does not come.

    Attributes:
        due: monotonic seconds.
    """

    due: float
    _patience_s: float = FIRST_PATIENCE_S

    def begin(self, now: float) -> None:
        """Something was asked for, or has come."""
        self.due = now + self._patience_s

    def lose(self) -> None:
        """Nothing came: wait longer the next time."""
        self._patience_s = min(2 * self._patience_s, LONGEST_PATIENCE_S)

    def regain(self) -> None:
        """Half a window is complete."""
        # halved, not forgotten: where one chunk takes longer than the first patience, all that
        # is asked for twice would lie before it in the broker's queue, more and more of it
        self._patience_s = max(self._patience_s / 2, FIRST_PATIENCE_S)


class Purpose(StrEnum):
    """Why a named content is fetched."""

    DEFINITION = "definition"
    DUAL = "dual"


@dataclass(slots=True)
class Fetch:
    """The transfer of a content whose name is known.

    Attributes:
        purpose: why.
        content: what.
        patience: until it is asked for again.
    """

    purpose: Purpose
    content: Content
    patience: Patience
    window_bytes: int = WINDOW_BYTES
    _assembly: Assembly = field(init=False)

    def __post_init__(self) -> None:
        self._assembly = Assembly(self.content, self.window_bytes)

    def request(self, now: float) -> Need:
        """What to ask for now."""
        self.patience.begin(now)
        return self._assembly.next_need()

    def request_again(self, now: float) -> Need:
        """Nothing came for too long."""
        self.patience.lose()
        self._assembly.lost()
        return self.request(now)

    def accept(self, chunk: Chunk, piece: memoryview, now: float) -> bool:
        """Take in a chunk; returns whether it is time to ask for more.

        Raises:
            PeerError: it lies outside the content.
        """
        if chunk.content != self.content:
            return False
        self.patience.begin(now)
        more = self._assembly.accept(chunk.offset, piece)
        if more:
            self.patience.regain()
        return more

    def finished(self) -> bytes | None:
        """The whole content once it is there.

        Raises:
            PeerError: it is complete but damaged; it begins anew.
        """
        return self._assembly.finished()


@dataclass(slots=True)
class ModelFetch:
    """The transfer of the newest model, whichever that is when the coordinator answers.

    Attributes:
        epoch: that the model must be of.
        have: the model it may be the difference from.
        patience: until it is asked for again.
        ignored: the content that came last: late copies of it are not what is wanted now.
    """

    epoch: Epoch | None
    have: ModelName | None
    patience: Patience
    window_bytes: int = WINDOW_BYTES
    ignored: Content | None = None
    _assembly: Assembly | None = field(init=False, default=None)

    @property
    def has_begun(self) -> bool:
        """Whether some of it is here."""
        return self._assembly is not None

    @property
    def step(self) -> ModelStep | None:
        """Which model it is, once its beginning is here."""
        return None if self._assembly is None else peek_step(self._assembly.beginning(STEP_BYTES))

    def request(self, now: float) -> Want | Need:
        """What to ask for now."""
        self.patience.begin(now)
        if self._assembly is None:
            return Want(have=self.have, window=self.window_bytes)
        return self._assembly.next_need(self.step)

    def request_again(self, now: float) -> Want | Need:
        """Nothing came for too long."""
        self.patience.lose()
        if self._assembly is not None:
            self._assembly.lost()
        return self.request(now)

    def begin_anew(self) -> None:
        """The coordinator does not have the rest of it any more."""
        self._assembly = None

    def accept(self, chunk: Chunk, piece: memoryview, now: float, lattice: Lattice) -> bool:
        """Take in a chunk; returns whether it is time to ask for more.

        Raises:
            PeerError: it lies outside the content, or that is longer than any model.
        """
        if chunk.content == self.ignored:
            return False
        if self._assembly is None:
            limit = STEP_BYTES + largest_encoding_bytes(lattice)
            if chunk.content.size > limit:
                raise PeerError(f"a model of {chunk.content.size} bytes; it has at most {limit}")
            self._assembly = Assembly(chunk.content, self.window_bytes)
            self._assembly.opened()
        elif self._assembly.content != chunk.content:
            return False
        self.patience.begin(now)
        more = self._assembly.accept(chunk.offset, piece)
        if more:
            self.patience.regain()
        return more

    def finished(self) -> bytes | None:
        """The whole content once it is there.

        Raises:
            PeerError: it is complete but damaged; it begins anew.
        """
        if self._assembly is None:
            return None
        whole = self._assembly.finished()
        if whole is not None:
            self.ignored = self._assembly.content
        return whole
