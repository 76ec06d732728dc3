"""Reading the clock on the wall: only for shells, which tell pure modules what they read."""

from collections.abc import Callable
from datetime import datetime

from plantfed_shared.local_time import LocalTime

WallClock = Callable[[], LocalTime]


def local_time() -> LocalTime:
    """What the computer's clock says in its own time zone."""
    now = datetime.now().astimezone()
    seconds = 3600 * now.hour + 60 * now.minute + now.second + now.microsecond / 1e6
    return LocalTime(now.toordinal(), seconds)
