"""One blob at a time from the coordinator: what is asked for, and when it is asked for again."""

from dataclasses import dataclass, field
from enum import StrEnum

from plantfed_shared.messages import Chunk, Content, ModelName, Need
from plantfed_shared.transfer import WINDOW_BYTES, Assembly

FIRST_PATIENCE_S = 15.0
LONGEST_PATIENCE_S = 120.0


class Purpose(StrEnum):
    """Why a content is fetched."""

    DEFINITION = "definition"
    DUAL = "dual"
    MODEL = "model"


@dataclass(slots=True)
class Fetch:
    """A transfer in progress.

    Attributes:
        purpose: why.
        content: what.
        name: of the model, if it is one.
        due: when to ask again, monotonic seconds.
    """

    purpose: Purpose
    content: Content
    name: ModelName | None
    due: float
    _assembly: Assembly = field(init=False)
    _patience_s: float = FIRST_PATIENCE_S

    def __post_init__(self) -> None:
        self._assembly = Assembly(self.content)

    @property
    def missing_bytes(self) -> int:
        """Bytes not yet received."""
        return self._assembly.missing_bytes

    @property
    def asked(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._assembly.window)

    def need(self, now: float, window_bytes: int = WINDOW_BYTES, range_bytes: int = 0) -> Need:
        """What to ask for now; see :meth:`plantfed_shared.transfer.Assembly.next_need`."""
        self.due = now + self._patience_s
        return self._assembly.next_need(window_bytes, range_bytes)

    def wait(self, not_before: float) -> None:
        """Ask for nothing before a time."""
        self.due = not_before
        self._assembly.window = []

    def lose_patience(self) -> None:
        """Nothing came: wait longer the next time."""
        self._patience_s = min(2 * self._patience_s, LONGEST_PATIENCE_S)

    def accept(self, chunk: Chunk, piece: memoryview, now: float) -> bool:
        """Take in a chunk; returns whether it is time to ask for more.

        Raises:
            PeerError: it lies outside the content.
        """
        self.due = now + self._patience_s
        window_complete = self._assembly.accept(chunk.offset, piece)
        if window_complete:
            # halved, not forgotten: where one chunk takes longer than the first patience, all that
            # is asked for twice would lie before it in the broker's queue, more and more of it
            self._patience_s = max(self._patience_s / 2, FIRST_PATIENCE_S)
        return window_complete

    def finished(self) -> bytes | None:
        """The whole content once it is there.

        Raises:
            PeerError: it is complete but damaged; it begins anew.
        """
        return self._assembly.finished()
