"""How often a service says the same in its log: pure.

A link that comes and goes, or a round that fails again and again, would write thousands of lines a
day, on the disks of edge PCs, for months.
"""

from collections import OrderedDict
from dataclasses import dataclass

OF_ONE_TEXT = 5
"""Lines in a row."""
ONE_TEXT_AGAIN_AFTER_S = 2 * 86400.0
"""And then one of each, so that a lost and a made connection are a line a day."""
OF_ALL_TEXTS = 300
"""Lines in a row: whoever makes us say ever different things can't fill the disk with it."""
ALL_TEXTS_AGAIN_AFTER_S = 600.0
TEXTS_KEPT = 256


@dataclass(slots=True)
class _Bucket:
    """So many lines in a row, then one each time it has grown by one.

    Attributes:
        lines: that may be said now.
        at: of that, monotonic seconds.
        hushed: lines since the last that was said.
    """

    lines: float
    at: float
    hushed: int = 0

    def fill(self, most: int, one_after_s: float, now: float) -> None:
        self.lines = min(most, self.lines + (now - self.at) / one_after_s)
        self.at = now


class LogBudget:
    """Decides which lines are written."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, _Bucket] = OrderedDict()
        self._all = _Bucket(OF_ALL_TEXTS, 0.0)

    def admit(self, text: str, now: float) -> int | None:
        """Whether to write a line.

        Args:
            text: of it.
            now: monotonic seconds.

        Returns:
            How many like it were hushed since the last that was written; None to hush this one.
        """
        bucket = self._texts.pop(text, None) or _Bucket(OF_ONE_TEXT, now)
        self._texts[text] = bucket
        if len(self._texts) > TEXTS_KEPT:
            self._texts.popitem(last=False)
        bucket.fill(OF_ONE_TEXT, ONE_TEXT_AGAIN_AFTER_S, now)
        self._all.fill(OF_ALL_TEXTS, ALL_TEXTS_AGAIN_AFTER_S, now)
        if bucket.lines < 1 or self._all.lines < 1:
            bucket.hushed += 1
            return None
        bucket.lines -= 1
        self._all.lines -= 1
        hushed, bucket.hushed = bucket.hushed, 0
        return hushed
