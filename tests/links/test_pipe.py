"""The arithmetic of the emulated line."""

import pytest
from tests.links.pipe import LinkShape, Pipe


def pipe(**changes: float) -> Pipe:
    shape = {"bits_per_s": 8000.0, "rtt_s": 0.3, "queue_bytes": 3000, **changes}
    return Pipe(LinkShape(**shape), "up")  # type: ignore[arg-type]


def test_packets_leave_one_after_the_other_and_then_take_half_a_round_trip() -> None:
    line = pipe()
    assert [line.offer(1000, 0.0) for _ in range(3)] == pytest.approx([1.15, 2.15, 3.15])
    # the line has never been idle, although nobody looked in between
    assert line.offer(500, 2.5) == pytest.approx(3.65)
    assert (line.bytes_sent, line.busy_s) == (3500, pytest.approx(3.5))


def test_a_full_queue_drops_what_comes_last() -> None:
    line = pipe()
    arrivals = [line.offer(1000, 0.0) for _ in range(4)]
    assert [a is None for a in arrivals] == [False, False, False, True]
    assert line.offer(1000, 1.0) == pytest.approx(4.15)
    assert (line.dropped, line.lost) == (1, 0)


def test_losses_cost_the_line_its_time_and_come_again_with_the_seed() -> None:
    def losses(seed: int) -> list[bool]:
        line = pipe(bits_per_s=1e9, loss=0.05, seed=seed)
        return [line.offer(1000, float(n)) is None for n in range(2000)]

    assert losses(1) == losses(1) != losses(2)
    assert sum(losses(1)) == pytest.approx(100, rel=0.3)
    lost = pipe(loss=1.0)
    assert lost.offer(1000, 0.0) is None
    assert (lost.lost, lost.busy_s) == (1, 1.0)


def test_nothing_gets_into_a_cut_line() -> None:
    line = pipe()
    line.open = False
    assert line.offer(100, 0.0) is None
    line.open = True
    assert line.offer(100, 0.0) == pytest.approx(0.25)
