"""How many members are live, without looking at all of them for every message."""

from collections.abc import Iterable
from math import inf


class LiveCount:
    """Counts recent times; the count holds until the oldest of them is not recent any more.

    Whoever adds, removes or revives a member calls :meth:`forget`; a live member that is heard of
    again changes nothing.
    """

    def __init__(self) -> None:
        self._live = 0
        self._oldest = -inf

    def forget(self) -> None:
        """Count anew the next time."""
        self._oldest = -inf

    def count(self, last_seen: Iterable[float], within_s: float, now: float) -> int:
        """How many are at most ``within_s`` old.

        Args:
            last_seen: monotonic seconds, one per member; looked at only if it must be counted.
            within_s: seconds; the same at every call, or :meth:`forget` comes between.
            now: monotonic seconds.
        """
        if not now - self._oldest <= within_s:
            recent = [seen for seen in last_seen if now - seen <= within_s]
            self._live, self._oldest = len(recent), min(recent, default=inf)
        return self._live
