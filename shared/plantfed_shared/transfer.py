"""Moving a blob that may be longer than one message: the receiver pulls it in ranges.

The receiver asks for at most one window at a time (NEED), the sender answers with CHUNKs.  Chunks
may be lost, doubled and reordered; what is missing is asked for again.  Ranges count bytes, not
chunks, so that a transfer goes on after a reconnect to a broker with another message limit.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.digest import content_digest
from plantfed_shared.errors import PeerError
from plantfed_shared.messages import MAX_RANGES, Chunk, Content, ModelStep, Need, Range
from plantfed_shared.wire import CHUNK_ENVELOPE_BYTES

WINDOW_BYTES = 128 * 1024
"""Most bytes asked for at once: what lies in the broker's queue for one thin link."""

MAX_HOLES = 512
"""In what is here of a content: each costs a look with every chunk.  No more than the ranges of
some NEEDs can be lost at once."""
PARTS_AT_ONCE = 2
PART_BYTES = WINDOW_BYTES // PARTS_AT_ONCE
"""Of a content that several fetch together: one is on its way while the next is asked for."""


def part_range(part: int, size: int) -> Range:
    """The bytes of one part of a content; empty beyond its end."""
    return Range(min(part * PART_BYTES, size), min((part + 1) * PART_BYTES, size))


@dataclass(frozen=True, slots=True)
class Blob:
    """A content with its bytes.

    Attributes:
        content: name of the bytes.
        encoded: the bytes.
        step: what it is, where it is a model.
    """

    content: Content
    encoded: bytes
    step: ModelStep | None = None

    @classmethod
    def of(cls, encoded: bytes, step: ModelStep | None = None) -> "Blob":
        """These bytes and their name."""
        return cls(Content(content_digest(encoded), len(encoded)), encoded, step)


def chunks(
    blob: Blob, ranges: Iterable[Range], max_payload_bytes: int = MAX_MESSAGE_BYTES
) -> Iterator[tuple[Chunk, bytes]]:
    """What answers a NEED: at most one window, ranges beyond the end are cut.

    Args:
        blob: what is asked for.
        ranges: of its bytes.
        max_payload_bytes: what the broker grants; no chunk with its envelope is longer.
    """
    budget = WINDOW_BYTES
    piece_bytes = max(1, max_payload_bytes - CHUNK_ENVELOPE_BYTES)
    for start, stop in ranges:
        end = min(stop, blob.content.size, start + budget)
        for offset in range(start, end, piece_bytes):
            piece = blob.encoded[offset : min(offset + piece_bytes, end)]
            budget -= len(piece)
            yield Chunk(content=blob.content, offset=offset, step=blob.step), piece


@dataclass(slots=True)
class Assembly:
    """The receiving end of one transfer.

    More is asked for while the second half of the window is still on its way, so that a line with a
    long round trip is never idle; on a line with a rate limit, when nothing is on its way.

    Attributes:
        content: what is fetched.
        window_bytes: never more than so many are asked for and not yet here.
        asks_ahead: whether more is asked for before all that was asked for is here.
        on_their_way: asked for and not yet received.
    """

    content: Content
    window_bytes: int = WINDOW_BYTES
    asks_ahead: bool = True
    on_their_way: list[Range] = field(default_factory=list)
    _buffer: bytearray = field(init=False)
    _missing: list[Range] = field(init=False)

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._buffer = bytearray(self.content.size)
        self._missing = [Range(0, self.content.size)]
        self.on_their_way = []

    @property
    def here(self) -> list[Range]:
        """What has been received."""
        return difference([Range(0, self.content.size)], self._missing)

    def piece(self, part: Range) -> bytes:
        """Some bytes that have been received."""
        return bytes(memoryview(self._buffer)[part.start : part.stop])

    @property
    def missing_bytes(self) -> int:
        """Bytes not yet received."""
        return _length(self._missing)

    @property
    def bytes_on_their_way(self) -> int:
        """Bytes asked for and not yet received."""
        return _length(self.on_their_way)

    def opened(self) -> None:
        """The sender has been asked for the first window without a NEED."""
        self.on_their_way = [Range(0, min(self.window_bytes, self.content.size))]

    def lost(self) -> None:
        """What is on its way will not come."""
        self.on_their_way = []

    def next_need(
        self, step: ModelStep | None = None, range_bytes: int = 0, *, one_part: bool = False
    ) -> Need:
        """Ask for the first bytes that are missing and not on their way.

        Args:
            step: what the content is, where it is a model.
            range_bytes: what a further range costs, to be taken off the window.
            one_part: ask for no more than of the first part of which something is missing.
        """
        budget = self.window_bytes - self.bytes_on_their_way
        more: list[Range] = []
        rest = self._not_asked_for()
        if one_part and rest:
            part = part_range(rest[0].start // PART_BYTES, self.content.size)
            rest = [Range(a, min(b, part.stop)) for a, b in rest if a < part.stop]
        for start, stop in rest[:MAX_RANGES]:
            if budget <= 0:
                break
            more.append(Range(start, min(stop, start + budget)))
            budget -= stop - start + range_bytes
        self.on_their_way += more
        return Need(digest=self.content.digest, ranges=tuple(more), step=step)

    def next_parts(self) -> list[int] | None:
        """Ask for the next whole parts, as many as the window has room for.

        Returns:
            Their numbers, or None where the next bytes to ask for are not a whole part or a part
            is more than the window: then :meth:`next_need` asks for them.
        """
        parts: list[int] = []
        budget = self.window_bytes - self.bytes_on_their_way
        for start, stop in self._not_asked_for():
            for part in range(start // PART_BYTES, -(-stop // PART_BYTES)):
                whole = part_range(part, self.content.size)
                n_bytes = whole.stop - whole.start
                if whole.start < start or whole.stop > stop or n_bytes > self.window_bytes:
                    return parts or None
                budget -= n_bytes
                if budget < 0:
                    return parts
                parts.append(part)
                self.on_their_way.append(whole)
        return parts

    def is_new(self, piece: Range) -> bool:
        """Whether some of a piece is missing, or it is none of this content."""
        return piece.stop > self.content.size or difference([piece], self._missing) != [piece]

    def part_is_here(self, part: int) -> bool:
        """Whether nothing of a part is missing."""
        whole = part_range(part, self.content.size)
        return all(r.stop <= whole.start or r.start >= whole.stop for r in self._missing)

    def part_is_lost(self, part: int) -> None:
        """What is on its way of a part will not come."""
        whole = part_range(part, self.content.size)
        self.on_their_way = _without(self.on_their_way, whole)

    def accept(self, offset: int, piece: bytes | memoryview) -> bool:
        """Take in one chunk; returns whether it is time to ask for more.

        Raises:
            PeerError: the chunk lies outside the content, or leaves too many holes in it.
        """
        end = offset + len(piece)
        if end > self.content.size or not len(piece):
            raise PeerError(f"chunk {offset}..{end} is outside {self.content.size} bytes")
        missing = _without(self._missing, Range(offset, end))
        if len(missing) > MAX_HOLES:
            raise PeerError(f"chunk {offset}..{end} leaves more than {MAX_HOLES} holes")
        self._buffer[offset:end] = piece
        self._missing = missing
        self.on_their_way = _without(self.on_their_way, Range(offset, end))
        enough = self.window_bytes // 2 if self.asks_ahead else 0
        return self.bytes_on_their_way <= enough and bool(self._not_asked_for())

    def finished(self) -> bytes | None:
        """The whole content once nothing is missing.

        Raises:
            PeerError: it is complete but not what its digest promised; everything is missing again.
        """
        if self._missing:
            return None
        whole = bytes(self._buffer)
        if content_digest(whole) != self.content.digest:
            self._begin()
            raise PeerError("the transferred content does not fit its digest")
        return whole

    def _not_asked_for(self) -> list[Range]:
        return difference(self._missing, self.on_their_way)


def difference(ranges: list[Range], taken: list[Range]) -> list[Range]:
    """What some ranges cover and others don't."""
    for other in taken:
        ranges = _without(ranges, other)
    return ranges


def _length(ranges: list[Range]) -> int:
    return sum(stop - start for start, stop in ranges)


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
