"""A token bucket: bytes may cross at a rate, with a burst."""

BURST_S = 0.4
"""A full bucket holds what crosses in so long: with it no 10 s see more than 1.04 times the rate,
which leaves a hundredth for what cannot wait (acknowledgements, a connection's first packets)."""


class TokenBucket:
    """Counts how many bytes may cross now.

    Within any t seconds at most ``burst + rate * t`` bytes are taken, and what was forced.

    Args:
        bytes_per_s: refilled so fast.
        now: monotonic seconds; it is full then.
    """

    def __init__(self, bytes_per_s: float, now: float = 0.0) -> None:
        self.bytes_per_s = bytes_per_s
        self.burst_bytes = bytes_per_s * BURST_S
        self._tokens = self.burst_bytes
        self._at = now

    def available(self, now: float) -> float:
        """Bytes that may cross now; less than zero after a :meth:`force`."""
        self._refill(now)
        return self._tokens

    def take(self, n_bytes: float, now: float) -> bool:
        """Take so many bytes, or none and return False.

        More than a burst are never there at once: they are let go when the bucket is full.
        """
        self._refill(now)
        if self._tokens < min(n_bytes, self.burst_bytes):
            return False
        self._tokens -= n_bytes
        return True

    def force(self, n_bytes: float, now: float) -> None:
        """Take bytes that have crossed without asking; what comes next waits for them."""
        self._refill(now)
        self._tokens -= n_bytes

    def ready_at(self, n_bytes: float, now: float) -> float:
        """When so many bytes will be there if nothing else takes any, monotonic seconds."""
        self._refill(now)
        missing = min(n_bytes, self.burst_bytes) - self._tokens
        if missing <= 0:
            return now
        # a timer must not ring a rounding error too early, and again and again
        return now + missing / self.bytes_per_s + 1e-6

    def _refill(self, now: float) -> None:
        if now > self._at:
            grown = self._tokens + (now - self._at) * self.bytes_per_s
            self._tokens = min(self.burst_bytes, grown)
            self._at = now
