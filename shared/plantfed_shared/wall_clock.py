"""Reading the clock on the wall: only for shells, which tell pure modules what they read."""

from collections.abc import Callable
from datetime import date
from time import localtime, time

from plantfed_shared.local_time import LocalTime

WallClock = Callable[[], LocalTime]


def local_time() -> LocalTime:
    """What the computer's clock says in its own time zone."""
    unix = time()
    hands = localtime(unix)
    day = date(hands.tm_year, hands.tm_mon, hands.tm_mday).toordinal()
    # a leap second counts as the one before it
    whole = 3600 * hands.tm_hour + 60 * hands.tm_min + min(hands.tm_sec, 59)
    return LocalTime(day, whole + unix % 1)
