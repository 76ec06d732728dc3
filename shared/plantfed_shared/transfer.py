"""Moving a blob that is longer than one message: the receiver pulls it in ranges.

The receiver asks for at most one window at a time (NEED), the sender answers with CHUNKs.  Chunks
may be lost, doubled and reordered; what is missing is asked for again.  Ranges count bytes, not
chunks, so that a transfer goes on after a reconnect to a broker with another message limit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.definition import content_digest
from plantfed_shared.errors import PeerError
from plantfed_shared.messages import MAX_RANGES, Chunk, Content, Need, Range
from plantfed_shared.wire import CHUNK_ENVELOPE_BYTES

WINDOW_BYTES = 128 * 1024
"""Most bytes asked for at once: what lies in the broker's queue for one thin link."""


def chunks(
    content: bytes, digest: bytes, need: Need, max_payload_bytes: int = MAX_MESSAGE_BYTES
) -> Iterator[tuple[Chunk, bytes]]:
    """What answers a NEED: at most one window, ranges beyond the end are cut.

    Args:
        content: the whole blob.
        digest: of it.
        need: what is asked for.
        max_payload_bytes: what the broker grants; no chunk with its envelope is longer.
    """
    budget = WINDOW_BYTES
    piece_bytes = max(1, max_payload_bytes - CHUNK_ENVELOPE_BYTES)
    for start, stop in need.ranges:
        end = min(stop, len(content), start + budget)
        for offset in range(start, end, piece_bytes):
            piece = content[offset : min(offset + piece_bytes, end)]
            budget -= len(piece)
            yield Chunk(digest=digest, offset=offset), piece


@dataclass(slots=True)
class Assembly:
    """The receiving end of one transfer.

    Attributes:
        content: what is fetched.
        window: bytes asked for and not yet received.
    """

    content: Content
    window: list[Range] = field(default_factory=list)
    _buffer: bytearray = field(default_factory=bytearray)
    _missing: list[Range] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._buffer = bytearray(self.content.size)
        self._missing = [Range(0, self.content.size)]

    @property
    def missing_bytes(self) -> int:
        """Bytes not yet received."""
        return sum(stop - start for start, stop in self._missing)

    def next_need(self, window_bytes: int = WINDOW_BYTES, range_bytes: int = 0) -> Need:
        """Ask for the first missing bytes, at most one window of them.

        Args:
            window_bytes: of it; at least 1.
            range_bytes: what a further range costs, to be taken off the window.
        """
        budget, self.window = window_bytes, []
        for start, stop in self._missing[:MAX_RANGES]:
            if budget <= 0:
                break
            self.window.append(Range(start, min(stop, start + budget)))
            budget -= stop - start + range_bytes
        return Need(digest=self.content.digest, ranges=tuple(self.window))

    def accept(self, offset: int, piece: bytes | memoryview) -> bool:
        """Take in one chunk; returns whether the window that was asked for is now complete.

        Raises:
            PeerError: the chunk lies outside the content.
        """
        end = offset + len(piece)
        if end > self.content.size or not len(piece):
            raise PeerError(f"chunk {offset}..{end} is outside {self.content.size} bytes")
        self._buffer[offset:end] = piece
        self._missing = _without(self._missing, Range(offset, end))
        self.window = _without(self.window, Range(offset, end))
        return not self.window

    def finished(self) -> bytes | None:
        """The whole content once nothing is missing.

        Raises:
            PeerError: it is complete but not what its digest promised; everything is missing again.
        """
        if self._missing:
            return None
        whole = bytes(self._buffer)
        if content_digest(whole) != self.content.digest:
            self.__post_init__()
            raise PeerError("the transferred content does not fit its digest")
        return whole


def _without(ranges: list[Range], taken: Range) -> list[Range]:
    rest: list[Range] = []
    for start, stop in ranges:
        if stop <= taken.start or start >= taken.stop:
            rest.append(Range(start, stop))
            continue
        if start < taken.start:
            rest.append(Range(start, taken.start))
        if stop > taken.stop:
            rest.append(Range(taken.stop, stop))
    return rest
