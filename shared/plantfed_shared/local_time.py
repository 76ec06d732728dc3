"""The time on the wall as pure modules are told it."""

from typing import NamedTuple

DAY_S = 86400.0


class LocalTime(NamedTuple):
    """A moment in local time.

    Attributes:
        day: its date, as proleptic Gregorian ordinal (``datetime.date.toordinal``).
        second: since local midnight by the clock's hands, 0 <= second < 86400.
    """

    day: int
    second: float

    @property
    def left_s(self) -> float:
        """Seconds until midnight; an hour off on the two days on which clocks are put."""
        return DAY_S - self.second
