"""The arithmetic of the link model, and that messages on their way die with their connection."""

import random

import pytest

from plantfed_lab.simulation.draws import stream
from plantfed_lab.simulation.links import PACKET_BYTES, Link, LinkQuality, Links
from plantfed_shared.bus.memory import MemoryBroker
from plantfed_shared.bus.port import PUBACK_BYTES, Received, SessionSettings, publish_bytes

MODEM = LinkQuality(uplink_bits_per_s=8000, downlink_bits_per_s=16000, latency_s=0.3)


def link(quality: LinkQuality) -> Link:
    return Link(quality, stream(0, "m", "losses"))


def test_a_message_takes_its_bits_and_the_latency() -> None:
    modem = link(MODEM)
    assert modem.up(500, 10.0) == pytest.approx(10.0 + 0.5 + 0.3)
    assert modem.down(500, 10.0) == pytest.approx(10.0 + 0.25 + 0.3)


def test_each_direction_carries_one_message_after_the_other() -> None:
    modem = link(MODEM)
    assert [modem.up(1000, 0.0) for _ in range(3)] == pytest.approx([1.3, 2.3, 3.3])
    assert modem.down(1000, 0.0) == pytest.approx(0.8)
    assert modem.up(1000, 9.0) == pytest.approx(10.3)


def test_a_broken_connection_frees_the_link() -> None:
    modem = link(MODEM)
    modem.up(100_000, 0.0)
    modem.broken(5.0)
    assert modem.up(1000, 5.0) == pytest.approx(6.3)


def test_bytes_and_messages_are_counted_with_their_acknowledgements() -> None:
    modem = link(MODEM)
    modem.up(500, 0.0)
    modem.up(500, 0.0)
    modem.down(300, 0.0)
    use = modem.use
    assert (use.bytes_up, use.bytes_down) == (1000 + PUBACK_BYTES, 300 + 2 * PUBACK_BYTES)
    assert (use.messages_up, use.messages_down, use.bytes_again) == (2, 1, 0)


def test_a_lost_packet_costs_a_timeout_and_its_time_again() -> None:
    quality = LinkQuality(uplink_bits_per_s=1e6, latency_s=0.1, loss=0.5)
    lossy, n_packets = link(quality), 2000
    arrival = lossy.up(n_packets * PACKET_BYTES, 0.0)
    lost = lossy.use.bytes_again / PACKET_BYTES
    # every packet is lost as often as tails come before heads: once on average
    assert lost == pytest.approx(n_packets, rel=0.15)
    packet_s = 8 * PACKET_BYTES / 1e6
    assert quality.timeout_s == pytest.approx(0.4)
    assert arrival == pytest.approx(n_packets * packet_s + lost * (packet_s + 0.4) + 0.1)


def test_no_limit_costs_only_the_latency() -> None:
    assert link(LinkQuality(latency_s=0.2)).up(10**6, 1.0) == pytest.approx(1.2)
    assert Links({}).up("stranger", 10**6, 1.0) == 1.0


def test_a_broker_delivers_when_both_links_are_crossed() -> None:
    broker = MemoryBroker(random.Random(0), transit=Links({"w": link(MODEM), "r": link(MODEM)}))
    broker.connect(SessionSettings("w", ()), 0.0)
    broker.connect(SessionSettings("r", ("a/b",)), 0.0)
    broker.due(0.0)
    broker.publish("w", "a/b", b"x" * 100, 0.0)
    n_bytes = publish_bytes("a/b", 100, mqtt5=True)
    at_broker = 8 * n_bytes / 8000 + 0.3
    assert broker.next_due() == pytest.approx(at_broker)
    assert broker.due(at_broker + 1e-9) == []
    arrival = broker.next_due()
    assert arrival == pytest.approx(at_broker + 8 * n_bytes / 16000 + 0.3)
    (delivery,) = broker.due(arrival or 0.0)
    assert isinstance(delivery.event, Received)
    assert delivery.event.payload == b"x" * 100


def test_what_is_still_on_its_way_up_dies_with_the_connection() -> None:
    broker = MemoryBroker(random.Random(0), transit=Links({"w": link(MODEM)}))
    broker.connect(SessionSettings("w", ()), 0.0)
    broker.connect(SessionSettings("r", ("a/b",)), 0.0)
    broker.due(0.0)
    broker.publish("w", "a/b", b"lost", 0.0)
    broker.cut("w", 0.1)
    broker.mend("w", 0.2)
    broker.publish("w", "a/b", b"kept", 0.2)
    payloads = [d.event.payload for d in broker.due(60.0) if isinstance(d.event, Received)]
    assert payloads == [b"kept"]
