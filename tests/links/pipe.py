"""One direction of a thin link, pure: when a packet arrives, or that it is lost."""

import random
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkShape:
    """What both directions of a link have in common.

    Attributes:
        bits_per_s: of the line, with all headers; None for no limit.
        rtt_s: half of it in each direction, besides what the line takes.
        loss: probability that a packet is lost, in each direction.
        queue_bytes: what waits for the line at most; a packet that finds no room is dropped.
        seed: of the losses; the same packets in the same order lose the same ones.
    """

    bits_per_s: float | None = 256_000.0
    rtt_s: float = 0.3
    loss: float = 0.0
    queue_bytes: int = 64 * 1024
    seed: int = 1


class Pipe:
    """A line with a tail-drop queue before it, then a delay, then chance.

    Time is an argument, and a packet that finds the line busy leaves when the one before has left,
    not when somebody wakes up: a busy machine delays packets but never makes the line thinner.

    Attributes:
        free_at: when the line will be idle.
        open: False while nothing gets in.
        bytes_sent: that crossed or were lost on the way.
        busy_s: how long the line was not idle.
        dropped: packets that found no room.
        lost: packets that chance took.
    """

    def __init__(self, shape: LinkShape, name: str) -> None:
        self._shape = shape
        self._rng = random.Random(f"{shape.seed} {name}")
        self._leaving: deque[tuple[float, int]] = deque()
        self._waiting_bytes = 0
        self.free_at = 0.0
        self.open = True
        self.bytes_sent = 0
        self.busy_s = 0.0
        self.dropped = 0
        self.lost = 0

    def offer(self, n_bytes: int, now: float) -> float | None:
        """When a packet that comes now has wholly arrived; None for never."""
        while self._leaving and self._leaving[0][0] <= now:
            self._waiting_bytes -= self._leaving.popleft()[1]
        if not self.open or self._waiting_bytes + n_bytes > self._shape.queue_bytes:
            self.dropped += 1
            return None
        rate = self._shape.bits_per_s
        takes_s = 8 * n_bytes / rate if rate else 0.0
        self.free_at = max(self.free_at, now) + takes_s
        self._leaving.append((self.free_at, n_bytes))
        self._waiting_bytes += n_bytes
        self.bytes_sent += n_bytes
        self.busy_s += takes_s
        if self._shape.loss and self._rng.random() < self._shape.loss:
            self.lost += 1
            return None
        return self.free_at + self._shape.rtt_s / 2
