"""What of a flood the thread that reads turns away."""

from plantfed_coordinator.gate import MOST_NAMES, OVER, Gate
from plantfed_coordinator.guard import FREE_FROM_BYTES
from plantfed_coordinator.limits import Limits
from plantfed_shared.topics import Kind, Topics

TOPICS = Topics("toy")
LIMITS = Limits(messages_per_s=10.0, burst_messages=20)
WANT = TOPICS.up("a", Kind.WANT)


def admitted(gate: Gate, topic: str, times: int, now: float = 0.0, n_bytes: int = 100) -> int:
    return sum(gate.admits(topic, n_bytes, now) for _ in range(times))


def test_more_than_the_guard_puts_up_with_is_let_in_and_no_more() -> None:
    gate = Gate(TOPICS, LIMITS)
    assert admitted(gate, WANT, 1000) == OVER * LIMITS.burst_messages
    assert admitted(gate, TOPICS.up("a", Kind.HELLO), 1000) == 0  # of the same sender
    assert admitted(gate, TOPICS.status("a"), 1000) == 0
    assert admitted(gate, TOPICS.up("b", Kind.WANT), 10) == 10
    assert admitted(gate, WANT, 1000, now=1.0) == OVER * LIMITS.messages_per_s


def test_long_pieces_of_updates_and_what_is_for_all_are_let_in() -> None:
    gate = Gate(TOPICS, LIMITS)
    piece = TOPICS.up("a", Kind.CHUNK)
    assert admitted(gate, piece, 1000, n_bytes=FREE_FROM_BYTES) == 1000
    assert admitted(gate, TOPICS.manifest, 1000) == 1000
    assert admitted(gate, piece, 1000, n_bytes=FREE_FROM_BYTES - 1) == OVER * LIMITS.burst_messages
    assert admitted(gate, WANT, 10, n_bytes=FREE_FROM_BYTES) == 0


def test_names_that_are_made_up_take_no_memory() -> None:
    gate = Gate(TOPICS, LIMITS)
    admitted(gate, WANT, 1000)
    for number in range(3 * MOST_NAMES):
        gate.admits(TOPICS.up(f"x{number}", Kind.WANT), 100, number / MOST_NAMES)
    assert len(gate._of) <= MOST_NAMES
    assert gate.admits("no topic of ours", 100, 0.0)
