"""How long the receiving end of a transfer waits before it asks again: pure."""

from dataclasses import dataclass

FIRST_PATIENCE_S = 15.0
LONGEST_PATIENCE_S = 120.0
ANSWERED_FOR_S = 10.0
"""Less than the first patience: what is asked word for word again within it was doubled or held up
on its way, and its answer is still on its own."""


@dataclass(slots=True)
class Patience:
    """When to ask again for what does not come.

    Attributes:
        due: monotonic seconds.
    """

    due: float
    _patience_s: float = FIRST_PATIENCE_S

    def begin(self, now: float) -> None:
        """Something was asked for, or has come."""
        self.due = now + self._patience_s

    def lose(self) -> None:
        """Nothing came: wait longer the next time."""
        self._patience_s = min(2 * self._patience_s, LONGEST_PATIENCE_S)

    def regain(self) -> None:
        """Half a window is complete."""
        # halved, not forgotten: where one chunk takes longer than the first patience, all that
        # is asked for twice would lie before it in the broker's queue, more and more of it
        self._patience_s = max(self._patience_s / 2, FIRST_PATIENCE_S)


class Answered:
    """The requests that were answered last, of each peer: a copy is not answered again."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}

    def is_copy(self, peer: str, digest: int, now: float) -> bool:
        """Whether a request is the same as the one before; if not, it is remembered.

        Args:
            peer: who asks.
            digest: of the request.
            now: monotonic seconds.
        """
        last, until = self._last.get(peer, (None, 0.0))
        if last == digest and now < until:
            return True
        self._last[peer] = digest, now + ANSWERED_FOR_S
        return False

    def forget(self, peer: str | None = None) -> None:
        """It begins anew, or, without a name, all do: what was sent to it may be lost."""
        if peer is None:
            self._last.clear()
        else:
            self._last.pop(peer, None)
