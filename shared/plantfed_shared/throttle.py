"""Log lines that would come in floods, cut to one a while."""


class Throttle:
    """Lets one line per key through in ``every_s`` and counts those it holds back.

    Args:
        every_s: seconds.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._said: dict[str, tuple[float, int]] = {}

    def left_out(self, key: str, now: float) -> int | None:
        """How many lines were held back since the last one, or None to hold this one back too.

        Args:
            key: whom the line is about; the caller bounds their number.
            now: monotonic seconds.
        """
        said_at, held_back = self._said.get(key, (-self._every_s, 0))
        if now < said_at + self._every_s:
            self._said[key] = said_at, held_back + 1
            return None
        self._said[key] = now, 0
        return held_back
