"""How often something may be done: a bucket of tokens, pure."""


class Allowance:
    """So many at once, and one more every so many seconds.

    Args:
        burst: it holds at most so many, and is full at first.
        every_s: one comes back in so long, seconds.
        now: monotonic seconds.
    """

    def __init__(self, burst: float, every_s: float, now: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._left = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one, or return False where none is left."""
        self._refill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """One was taken for what turned out to be free."""
        self._left = min(self._burst, self._left + 1)

    def ready_at(self, now: float) -> float:
        """When one is there, monotonic seconds."""
        self._refill(now)
        if self._left >= 1:
            return now
        # a timer must not ring a rounding error too early, and again and again
        return now + (1 - self._left) * self._every_s + 1e-6

    def is_full(self, now: float) -> bool:
        """Whether nothing need be remembered of it."""
        self._refill(now)
        return self._left >= self._burst

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._left = min(self._burst, self._left + (now - self._at) / self._every_s)
            self._at = now
