"""The links of a simulation: how long a message takes between a client and the broker.

Each direction of a client's link carries one message after the other at its rate; then comes the
latency.  A message is cut into packets of at most :data:`PACKET_BYTES`.  A lost packet is sent
again after a retransmission timeout, as TCP does, and holds up what comes behind it; no message is
ever lost.  Bytes are those of MQTT, PUBACKs included, as everywhere in PlantFed; what TCP sends
again is counted apart.  A PUBACK takes no time.
"""

import random
from dataclasses import dataclass
from math import inf

from plantfed_lab.simulation.draws import uniform
from plantfed_shared.bus.port import PUBACK_BYTES

PACKET_BYTES = 1460
"""Payload of a TCP segment on Ethernet (RFC 879: 1500 less 40 bytes of headers)."""
SHORTEST_TIMEOUT_S = 0.2
"""Linux waits at least so long, and a round trip, before it takes a packet for lost."""


@dataclass(frozen=True, slots=True)
class LinkQuality:
    """One client's link.

    Attributes:
        uplink_bits_per_s: to the broker.
        downlink_bits_per_s: from the broker.
        latency_s: one way.
        loss: probability that a packet is lost.
    """

    uplink_bits_per_s: float = inf
    downlink_bits_per_s: float = inf
    latency_s: float = 0.0
    loss: float = 0.0

    @property
    def timeout_s(self) -> float:
        """After so long a packet without an answer is sent again."""
        return SHORTEST_TIMEOUT_S + 2 * self.latency_s


@dataclass(slots=True)
class LinkUse:
    """What has crossed a link.

    Attributes:
        bytes_up: to the broker, acknowledgements included.
        bytes_down: from the broker.
        messages_up: PUBLISH packets to the broker.
        messages_down: from the broker.
        bytes_again: sent again after a loss, both directions, in none of the above.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    messages_up: int = 0
    messages_down: int = 0
    bytes_again: int = 0


class Link:
    """One client's link with its state.

    Args:
        quality: of the link.
        losses: random numbers for its losses alone.

    Attributes:
        use: what has crossed it.
    """

    def __init__(self, quality: LinkQuality, losses: random.Random) -> None:
        self.quality = quality
        self.use = LinkUse()
        self._losses = losses
        self._up_free_at = 0.0
        self._down_free_at = 0.0

    def up(self, n_bytes: int, now: float) -> float:
        """Send so many bytes to the broker; when they have arrived, virtual seconds."""
        self.use.messages_up += 1
        self.use.bytes_up += n_bytes
        self.use.bytes_down += PUBACK_BYTES
        begin = max(now, self._up_free_at)
        self._up_free_at = begin + self._crossing_s(n_bytes, self.quality.uplink_bits_per_s)
        return self._up_free_at + self.quality.latency_s

    def down(self, n_bytes: int, now: float) -> float:
        """Send so many bytes from the broker; when they have arrived, virtual seconds."""
        self.use.messages_down += 1
        self.use.bytes_down += n_bytes
        self.use.bytes_up += PUBACK_BYTES
        begin = max(now, self._down_free_at)
        self._down_free_at = begin + self._crossing_s(n_bytes, self.quality.downlink_bits_per_s)
        return self._down_free_at + self.quality.latency_s

    def broken(self, now: float) -> None:
        """The connection is gone, and what waited in its buffers."""
        self._up_free_at = self._down_free_at = now

    def _crossing_s(self, n_bytes: int, bits_per_s: float) -> float:
        seconds = 8 * n_bytes / bits_per_s
        if self.quality.loss > 0:
            for first in range(0, n_bytes, PACKET_BYTES):
                packet_bytes = min(PACKET_BYTES, n_bytes - first)
                while uniform(self._losses) < self.quality.loss:
                    self.use.bytes_again += packet_bytes
                    seconds += self.quality.timeout_s + 8 * packet_bytes / bits_per_s
        return seconds


class Links:
    """The links of all clients, as a broker wants them; a client without one costs no time.

    Args:
        links: by client id.
    """

    def __init__(self, links: dict[str, Link]) -> None:
        self._links = links

    def up(self, client_id: str, n_bytes: int, now: float) -> float:
        """See :class:`plantfed_shared.bus.transit.Transit`."""
        link = self._links.get(client_id)
        return now if link is None else link.up(n_bytes, now)

    def down(self, client_id: str, n_bytes: int, now: float) -> float:
        """See :class:`plantfed_shared.bus.transit.Transit`."""
        link = self._links.get(client_id)
        return now if link is None else link.down(n_bytes, now)

    def broken(self, client_id: str, now: float) -> None:
        """See :class:`plantfed_shared.bus.transit.Transit`."""
        link = self._links.get(client_id)
        if link is not None:
            link.broken(now)
