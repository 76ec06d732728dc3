"""Transfers in ranges: whatever is lost, doubled or reordered, the content arrives exactly."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.digest import content_digest
from plantfed_shared.errors import PeerError
from plantfed_shared.messages import MAX_RANGES, Chunk, Content, ModelStep, Need, Range
from plantfed_shared.transfer import PART_BYTES, WINDOW_BYTES, Assembly, Blob, chunks, part_range
from plantfed_shared.wire import encode

Piece = tuple[Chunk, bytes]
MOST_WINDOWS = 400


def content_of(blob: bytes) -> Content:
    return Content(content_digest(blob), len(blob))


def need_of(blob: bytes, *ranges: tuple[int, int]) -> Need:
    return Need(
        digest=content_digest(blob), ranges=tuple(Range(*pair) for pair in ranges), step=None
    )


def answer(blob: bytes, need: Need, max_payload_bytes: int = MAX_MESSAGE_BYTES) -> list[Piece]:
    return list(chunks(Blob.of(blob), need.ranges, max_payload_bytes))


def asked_bytes(need: Need) -> int:
    return sum(stop - start for start, stop in need.ranges)


class Link:
    """Loses, doubles and reorders; may deliver what it once delivered again, much later."""

    def __init__(self, seed: int, loss: float) -> None:
        self.rng = random.Random(seed)
        self.loss = loss
        self.old: list[Piece] = []

    def carry(self, sent: list[Piece]) -> list[Piece]:
        arrived = [piece for piece in sent if self.rng.random() >= self.loss]
        for pieces in (arrived, self.old):
            if pieces and self.rng.random() < 0.5:
                arrived = [*arrived, self.rng.choice(pieces)]
        if self.rng.random() < 0.7:
            self.rng.shuffle(arrived)
        self.old += arrived
        return arrived


class Receiver:
    """The receiving end, with the laws of the transfer checked on the way."""

    def __init__(self, blob: bytes) -> None:
        self.assembly = Assembly(content_of(blob))
        self.received = bytearray(len(blob))
        self.on_its_way = bytearray(len(blob))

    def ask(self) -> Need:
        need = self.assembly.next_need()
        assert asked_bytes(need) > 0
        for start, stop in need.ranges:
            assert not any(self.received[start:stop])
            assert not any(self.on_its_way[start:stop])
            self.on_its_way[start:stop] = b"\1" * (stop - start)
        assert self.on_its_way.count(1) <= WINDOW_BYTES
        return need

    def lose(self) -> None:
        self.assembly.lost()
        self.on_its_way = bytearray(len(self.received))

    def take(self, chunk: Chunk, piece: bytes) -> bool:
        more = self.assembly.accept(chunk.offset, memoryview(piece))
        end = chunk.offset + len(piece)
        self.received[chunk.offset : end] = b"\1" * len(piece)
        self.on_its_way[chunk.offset : end] = bytes(len(piece))
        missing, coming = self.received.count(0), self.on_its_way.count(1)
        assert self.assembly.missing_bytes == missing
        assert more == (2 * coming <= WINDOW_BYTES and missing > coming)
        return more


def fetch(blob: bytes, link: Link, limits: list[int]) -> bytes:
    """Both ends joined by function calls."""
    receiver = Receiver(blob)
    needs = [receiver.ask()]
    for number in range(MOST_WINDOWS):
        if not needs:
            receiver.lose()
            needs.append(receiver.ask())
        limit, need = limits[number % len(limits)], needs.pop(0)
        sent = answer(blob, need, limit)
        assert sum(len(piece) for _, piece in sent) == asked_bytes(need)
        assert all(len(encode(chunk, piece)) <= limit for chunk, piece in sent)
        for chunk, piece in link.carry(sent):
            if receiver.take(chunk, piece):
                needs.append(receiver.ask())
        whole = receiver.assembly.finished()
        assert (whole is None) == (0 in receiver.received)
        if whole is not None:
            return whole
    raise AssertionError(f"not finished after {MOST_WINDOWS} windows")


@given(
    st.integers(1, 2000) | st.sampled_from([WINDOW_BYTES - 1, WINDOW_BYTES, WINDOW_BYTES + 1]),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.data(),
)
@settings(max_examples=60)
@example(3 * WINDOW_BYTES + 1, 1, 0.5, None)
def test_a_content_arrives_exactly(size, seed, loss, data):
    smallest = 100 if size <= 2000 else 8192
    limit = st.integers(smallest, MAX_MESSAGE_BYTES) | st.just(MAX_MESSAGE_BYTES)
    limits = [8192, 30_000] if data is None else data.draw(st.lists(limit, min_size=1, max_size=4))
    blob = random.Random(seed).randbytes(size)
    assert fetch(blob, Link(seed, loss), limits) == blob


@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300))))
def test_a_need_is_answered_with_what_there_is(seed, asked):
    blob = random.Random(seed).randbytes(200)
    ranges = asked[:MAX_RANGES] or [(0, 1)]
    sent = answer(blob, need_of(blob, *ranges), max_payload_bytes=100)
    places = [
        place for chunk, piece in sent for place in range(chunk.offset, chunk.offset + len(piece))
    ]
    assert places == [place for start, stop in ranges for place in range(start, min(stop, 200))]
    assert all(piece == blob[chunk.offset :][: len(piece)] for chunk, piece in sent)
    assert all(chunk.content == content_of(blob) and piece for chunk, piece in sent)


@pytest.mark.parametrize(
    "ranges",
    [
        [(0, 2**32 - 1)],
        [(0, WINDOW_BYTES), (WINDOW_BYTES, 2 * WINDOW_BYTES)],
        [(5, 2**32 - 1)] * MAX_RANGES,
        [(i, i + WINDOW_BYTES // 2) for i in range(MAX_RANGES)],
    ],
)
def test_no_need_is_answered_with_more_than_a_window(ranges):
    blob = bytes(4 * WINDOW_BYTES)
    sent = answer(blob, need_of(blob, *ranges))
    assert sum(len(piece) for _, piece in sent) == WINDOW_BYTES


@pytest.mark.parametrize("asked", [(100, 200), (2**32 - 2, 2**32 - 1), (50, 50), (60, 50)])
def test_ranges_beyond_the_end_and_empty_ones_get_no_answer(asked):
    assert answer(bytes(100), need_of(bytes(100), asked)) == []


def test_many_gaps_are_asked_for_a_few_at_a_time():
    blob = random.Random(1).randbytes(200)
    assembly = Assembly(content_of(blob))
    for place in range(0, 200, 2):
        assembly.accept(place, blob[place : place + 1])
    windows = 0
    while assembly.finished() is None:
        need = assembly.next_need()
        if not windows:
            assert need.ranges == tuple(Range(i, i + 1) for i in range(1, 2 * MAX_RANGES, 2))
        for chunk, piece in answer(blob, need):
            assembly.accept(chunk.offset, piece)
        windows += 1
    assert (windows, assembly.finished()) == (4, blob)


@pytest.mark.parametrize(
    ("offset", "piece"),
    [(0, b""), (100, b"x"), (99, b"xx"), (2**32 - 1, b"x"), (0, bytes(101)), (100, b"")],
)
def test_a_chunk_outside_the_content_changes_nothing(offset, piece):
    blob = bytes(range(100))
    assembly = Assembly(content_of(blob))
    assembly.next_need()
    with pytest.raises(PeerError, match="outside 100 bytes"):
        assembly.accept(offset, piece)
    assert assembly.missing_bytes == 100
    assert not assembly.accept(0, blob)
    assert assembly.finished() == blob


@given(st.integers(0, 99), st.integers(1, 255))
def test_a_damaged_content_is_detected_and_fetched_anew(place, flipped):
    blob = bytes(range(100))
    damaged = bytearray(blob)
    damaged[place] ^= flipped
    assembly = Assembly(content_of(blob))
    assembly.next_need()
    assembly.accept(0, bytes(damaged))
    with pytest.raises(PeerError, match="digest"):
        assembly.finished()
    assert assembly.missing_bytes == 100
    assert assembly.next_need().ranges == (Range(0, 100),)
    assembly.accept(0, blob)
    assert assembly.finished() == blob


def test_more_is_asked_for_when_half_a_window_is_here_and_a_doubled_chunk_asks_for_nothing() -> (
    None
):
    blob = random.Random(1).randbytes(2 * WINDOW_BYTES)
    assembly = Assembly(content_of(blob))
    first = answer(blob, assembly.next_need())
    assert [assembly.accept(chunk.offset, piece) for chunk, piece in first[:2]] == [False, True]
    half = WINDOW_BYTES - 2 * len(first[0][1])
    assert assembly.next_need().ranges == (Range(WINDOW_BYTES, 2 * WINDOW_BYTES - half),)
    assert [assembly.accept(chunk.offset, piece) for chunk, piece in first[:2]] == [False] * 2


def test_a_small_window_is_kept_to() -> None:
    blob = random.Random(1).randbytes(100)
    assembly = Assembly(content_of(blob), window_bytes=20)
    assert assembly.next_need().ranges == (Range(0, 20),)
    assert not assembly.accept(0, blob[:9])
    assert assembly.accept(9, blob[9:10])
    assert assembly.next_need().ranges == (Range(20, 30),)


# ---------------------------------------------------------------- what was not asked for by name


@pytest.mark.parametrize(("size", "window"), [(100, 1024), (1024, 1024), (3000, 1024)])
def test_the_first_window_of_what_comes_unasked_is_as_if_it_was_asked_for(size, window):
    """WANT names no content: its answer is the first window of whatever is the newest model."""
    blob = random.Random(2).randbytes(size)
    assembly = Assembly(content_of(blob), window)
    assembly.opened()
    first = list(chunks(Blob.of(blob), [Range(0, window)], max_payload_bytes=576))
    more = [assembly.accept(chunk.offset, piece) for chunk, piece in first]
    # the first of them is half a window
    assert more == ([True, True] if size > window else [False] * len(first))
    assert assembly.missing_bytes == max(0, size - window)


def test_on_a_line_with_a_rate_limit_more_is_asked_for_when_nothing_is_on_its_way():
    blob = random.Random(1).randbytes(100)
    assembly = Assembly(content_of(blob), window_bytes=20, asks_ahead=False)
    assembly.next_need()
    assert [assembly.accept(start, blob[start : start + 5]) for start in (0, 5, 10, 15)] == [
        False,
        False,
        False,
        True,
    ]


def test_the_rest_is_asked_for_with_what_it_is():
    blob = random.Random(3).randbytes(100)
    assembly = Assembly(content_of(blob), 40)
    assembly.opened()
    assembly.accept(0, blob[:30])
    step = ModelStep(7, 5)
    assert assembly.next_need(step) == Need(
        digest=content_digest(blob), ranges=(Range(40, 70),), step=step
    )


@given(
    st.lists(st.integers(0, 59), max_size=40),
    st.integers(1, 4000),
    st.integers(0, 200),
)
def test_a_smaller_window_holds_what_its_ranges_cost(
    here: list[int], window_bytes: int, range_bytes: int
) -> None:
    assembly = Assembly(content_of(bytes(6000)), window_bytes)
    for piece in here:
        assembly.accept(100 * piece, bytes(50))
    need = assembly.next_need(range_bytes=range_bytes)
    assert asked_bytes(need) + range_bytes * (len(need.ranges) - 1) <= window_bytes
    first = next(i for i in range(6000) if i // 100 not in here or i % 100 >= 50)
    assert need.ranges[0].start == first


# ---------------------------------------------------------------- parts


def test_parts_cover_a_content_without_gaps() -> None:
    size = 3 * PART_BYTES + 5
    ranges = [part_range(part, size) for part in range(5)]
    assert [r.start for r in ranges[1:]] == [r.stop for r in ranges[:-1]]
    assert (ranges[0].start, ranges[3].stop) == (0, size)
    assert ranges[4] == Range(size, size)


def test_whole_parts_are_asked_for_as_long_as_the_window_has_room() -> None:
    size = 3 * PART_BYTES + 5
    assembly = Assembly(content_of(bytes(size)))
    assert assembly.next_parts() == [0, 1]
    assert assembly.next_parts() == []
    assert not assembly.accept(0, bytes(PART_BYTES - 1))
    assert assembly.next_parts() == []
    assert not assembly.part_is_here(0)
    assert assembly.accept(PART_BYTES - 1, b"\0")
    assert assembly.part_is_here(0)
    assert assembly.next_parts() == [2]
    assembly.part_is_lost(1)
    assert assembly.next_parts() == [1]
    for part in (1, 2):
        assembly.accept(part * PART_BYTES, bytes(PART_BYTES))
    assert assembly.next_parts() == [3]


def test_what_is_no_whole_part_is_asked_for_by_range_and_up_to_the_end_of_its_part() -> None:
    assembly = Assembly(content_of(bytes(3 * PART_BYTES)))
    assembly.accept(10, bytes(10))
    assembly.accept(PART_BYTES + 10, bytes(10))
    assert assembly.next_parts() is None
    need = assembly.next_need(one_part=True)
    assert need.ranges == (Range(0, 10), Range(20, PART_BYTES))
    assert assembly.next_parts() is None
    narrow = Assembly(content_of(bytes(3 * PART_BYTES)), window_bytes=PART_BYTES - 1)
    assert narrow.next_parts() is None
