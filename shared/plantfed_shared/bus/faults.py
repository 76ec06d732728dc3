"""What goes wrong on the way from the in-memory broker to a client, by chance: pure."""

import random
from dataclasses import dataclass

REORDER_HOLD_S = 2.0
"""A reordered message is held back for up to this long while later ones pass it."""

REPLAY_AFTER_S = (60.0, 600.0)
"""A replayed message comes again between these, whatever connection the client has then."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, each a probability per delivery to one subscriber.

    Attributes:
        drop: it is lost for good, although the broker acknowledged it.
        duplicate: it comes twice.
        reorder: later messages on its topic may pass it.
        corrupt: one bit is flipped or the end is cut off.
        replay: it comes again minutes later, also on another connection.
        delay_s: shortest and longest time on the way; uniform.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    replay: float = 0.0
    delay_s: tuple[float, float] = (0.0, 0.0)


def hits(rng: random.Random, probability: float) -> bool:
    """Whether chance strikes; it is not asked where it can't."""
    return probability > 0.0 and rng.random() < probability


def between(rng: random.Random, span: tuple[float, float]) -> float:
    """A time within a span, seconds."""
    return rng.uniform(*span) if span[1] > 0.0 else 0.0


def corrupted(rng: random.Random, payload: bytes) -> bytes:
    """The payload with one bit flipped, or its end cut off."""
    if not payload:
        return payload
    place = rng.randrange(len(payload))
    if rng.random() < 0.5:
        return payload[:place]
    return payload[:place] + bytes([payload[place] ^ 1 << rng.randrange(8)]) + payload[place + 1 :]
