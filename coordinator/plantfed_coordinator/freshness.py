"""Whether a HELLO was said now, or is an old one that somebody has sent again: pure.

A HELLO that would take a member's update, or bring back one that has left, is believed only with a
number that was given in answer to another one.  The number is good for one incarnation, so nothing
need be remembered of who was given which.
"""

from collections.abc import Callable
from hashlib import blake2b


class Freshness:
    """Gives numbers that nobody can know beforehand.

    Args:
        new_bits: draws 64 random bits; asked once, when the first number is wanted.
    """

    def __init__(self, new_bits: Callable[[], int]) -> None:
        self._new_bits = new_bits
        self._secret: bytes | None = None

    def number(self, agent: str, incarnation: int) -> int:
        """Of an agent, until it is given another incarnation: 64 bits."""
        if self._secret is None:
            self._secret = self._new_bits().to_bytes(8, "little")
        text = f"{agent} {incarnation}".encode()
        digest = blake2b(text, key=self._secret, digest_size=8).digest()
        return int.from_bytes(digest, "little")
