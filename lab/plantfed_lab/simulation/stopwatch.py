"""How long something has been so, in virtual seconds."""


class Stopwatch:
    """Adds up the time between starts and stops."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._since: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._since is not None

    def start(self, now: float) -> None:
        """Begin, if it isn't running."""
        self._since = now if self._since is None else self._since

    def stop(self, now: float) -> None:
        """Pause, if it is running."""
        self._seconds = self.seconds(now)
        self._since = None

    def seconds(self, now: float) -> float:
        """Added up so far."""
        return self._seconds + (0.0 if self._since is None else now - self._since)
