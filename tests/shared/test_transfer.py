"""Transfers in ranges: whatever is lost, doubled or reordered, the content arrives exactly."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.definition import content_digest
from plantfed_shared.errors import PeerError
from plantfed_shared.messages import MAX_RANGES, Chunk, Content, Need, Range
from plantfed_shared.transfer import WINDOW_BYTES, Assembly, chunks
from plantfed_shared.wire import encode

Piece = tuple[Chunk, bytes]
MOST_WINDOWS = 400


def content_of(blob: bytes) -> Content:
    return Content(content_digest(blob), len(blob))


def answer(blob: bytes, need: Need, max_payload_bytes: int = MAX_MESSAGE_BYTES) -> list[Piece]:
    return list(chunks(blob, content_digest(blob), need, max_payload_bytes))


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


def fetch(blob: bytes, link: Link, limits: list[int]) -> bytes:
    """Both ends joined by function calls, with the laws of the transfer checked on the way."""
    assembly = Assembly(content_of(blob))
    received = bytearray(len(blob))
    for number in range(MOST_WINDOWS):
        limit = limits[number % len(limits)]
        need = assembly.next_need()
        assert 0 < asked_bytes(need) <= WINDOW_BYTES
        assert not any(any(received[start:stop]) for start, stop in need.ranges)
        sent = answer(blob, need, limit)
        assert sum(len(piece) for _, piece in sent) == asked_bytes(need)
        assert all(len(encode(chunk, piece)) <= limit for chunk, piece in sent)
        for chunk, piece in link.carry(sent):
            complete = assembly.accept(chunk.offset, memoryview(piece))
            end = chunk.offset + len(piece)
            received[chunk.offset : end] = b"\1" * len(piece)
            assert complete == all(all(received[start:stop]) for start, stop in need.ranges)
            assert assembly.missing_bytes == received.count(0)
        whole = assembly.finished()
        assert (whole is None) == (0 in received)
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
    ranges = tuple(Range(*pair) for pair in asked[:MAX_RANGES]) or (Range(0, 1),)
    sent = answer(blob, Need(digest=content_digest(blob), ranges=ranges), max_payload_bytes=100)
    places = [
        place for chunk, piece in sent for place in range(chunk.offset, chunk.offset + len(piece))
    ]
    assert places == [place for start, stop in ranges for place in range(start, min(stop, 200))]
    assert all(piece == blob[chunk.offset :][: len(piece)] for chunk, piece in sent)
    assert all(chunk.digest == content_digest(blob) and piece for chunk, piece in sent)


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
    need = Need(digest=bytes(16), ranges=tuple(Range(*pair) for pair in ranges))
    assert sum(len(piece) for _, piece in answer(blob, need)) == WINDOW_BYTES


@pytest.mark.parametrize("asked", [(100, 200), (2**32 - 2, 2**32 - 1), (50, 50), (60, 50)])
def test_ranges_beyond_the_end_and_empty_ones_get_no_answer(asked):
    assert answer(bytes(100), Need(digest=bytes(16), ranges=(Range(*asked),))) == []


def test_many_gaps_are_asked_for_a_few_at_a_time():
    blob = random.Random(1).randbytes(200)
    assembly = Assembly(content_of(blob))
    for place in range(0, 200, 2):
        assembly.accept(place, blob[place : place + 1])
    need = assembly.next_need()
    assert need.ranges == tuple(Range(i, i + 1) for i in range(1, 2 * MAX_RANGES, 2))
    windows = 0
    while assembly.finished() is None:
        for chunk, piece in answer(blob, assembly.next_need()):
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
    assert assembly.accept(0, blob)
    assert assembly.finished() == blob


@given(st.integers(0, 99), st.integers(1, 255))
def test_a_damaged_content_is_detected_and_fetched_anew(place, flipped):
    blob = bytes(range(100))
    damaged = bytearray(blob)
    damaged[place] ^= flipped
    assembly = Assembly(content_of(blob))
    assembly.next_need()
    assert assembly.accept(0, bytes(damaged))
    with pytest.raises(PeerError, match="digest"):
        assembly.finished()
    assert assembly.missing_bytes == 100
    assert assembly.next_need().ranges == (Range(0, 100),)
    assert assembly.accept(0, blob)
    assert assembly.finished() == blob


def test_a_doubled_chunk_does_not_open_the_next_window():
    blob = random.Random(1).randbytes(WINDOW_BYTES + 10)
    assembly = Assembly(content_of(blob))
    first = answer(blob, assembly.next_need())
    assert [assembly.accept(chunk.offset, piece) for chunk, piece in first] == [False, False, True]
    assembly.next_need()
    assert [assembly.accept(chunk.offset, piece) for chunk, piece in first] == [False] * 3


@given(
    st.lists(st.integers(0, 59), max_size=40),
    st.integers(1, 4000),
    st.integers(0, 200),
)
def test_a_smaller_window_holds_what_its_ranges_cost(
    here: list[int], window_bytes: int, range_bytes: int
) -> None:
    assembly = Assembly(content_of(bytes(6000)))
    for piece in here:
        assembly.accept(100 * piece, bytes(50))
    need = assembly.next_need(window_bytes, range_bytes)
    assert asked_bytes(need) + range_bytes * (len(need.ranges) - 1) <= window_bytes
    first = next(i for i in range(6000) if i // 100 not in here or i % 100 >= 50)
    assert need.ranges[0].start == first
