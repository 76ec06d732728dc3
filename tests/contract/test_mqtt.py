"""What only MQTT over a network has: limits, versions, rivals, sockets."""

import asyncio
import os
import random
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.brokers import HOST, TOPICS, MqttWorld, free_port, mosquitto
from tests.contract.certificates import Certificates
from tests.contract.client import connected, on_loop, opened
from tests.contract.conftest import needs_mosquitto
from tests.contract.worlds import CENTRE, PRESS, asked_for, brokers, world_of

from plantfed_shared.bus.connection_state import TroubleKind
from plantfed_shared.bus.mqtt import MqttBus
from plantfed_shared.bus.port import BrokerAddress, NotConnected, NotSent, SessionSettings
from plantfed_shared.bus.reconnect import FLAPS, RIVAL_SHORTEST_S
from plantfed_shared.topics import COORDINATOR, Kind


@brokers("mosquitto", "nats")
@on_loop
async def test_what_is_turned_away_is_neither_told_nor_sent_again(
    kind: str, tmp_path: Path
) -> None:
    """More than a broker leaves unacknowledged: what comes behind it would never come."""
    turned_away: list[str] = []

    def admits(topic: str, n_bytes: int) -> bool:
        if topic.endswith("/up/want"):
            turned_away.append(topic)
        return not topic.endswith("/up/want")

    want, hello = TOPICS.up("press-01", Kind.WANT), TOPICS.up("press-01", Kind.HELLO)
    async with world_of(kind, tmp_path) as world, connected(world, PRESS) as press:
        lasting = replace(CENTRE, persistent=True)
        address = world.address(COORDINATOR)
        for number in range(2):
            bus = MqttBus(address, lasting, rng=random.Random(1), admits=admits)
            async with opened(bus) as centre:
                await centre.connected()
                if number == 0:
                    await press.send(want, *[b"flood"] * 300)
                await press.send(hello, b"here")
                assert (await centre.received()).payload == b"here"
    assert len(turned_away) == 300


@brokers("mosquitto", "nats")
@on_loop
async def test_what_is_committed_together_may_be_unacknowledged_at_once(
    kind: str, tmp_path: Path
) -> None:
    async with world_of(kind, tmp_path) as world, connected(world, PRESS) as press:
        lasting = replace(CENTRE, persistent=True)
        async with opened(world.bus(lasting, world.address(COORDINATOR))) as centre:
            await centre.connected()
            await press.send(TOPICS.up("press-01", Kind.HELLO), *[b"%d" % n for n in range(64)])
            for number in range(64):
                assert (await centre.received(acknowledge=False)).payload == b"%d" % number


@on_loop
@needs_mosquitto
async def test_listening_costs_what_is_counted(tmp_path: Path) -> None:
    """Both directions, within what the CONNACK was estimated to have."""
    async with world_of("mosquitto", tmp_path) as world, connected(world, PRESS) as press:
        before = replace(press.bus.traffic)
        for part in range(10):
            assert await press.listen(TOPICS.lane(4294967295, part))
            press.bus.stop_listening(TOPICS.lane(4294967295, part))
        after = press.bus.traffic
    lane_bytes = len(TOPICS.lane(4294967295, 0))
    assert after.session_bytes_out - before.session_bytes_out == 10 * (2 * lane_bytes + 15)
    assert after.session_bytes_in - before.session_bytes_in == 10 * (6 + 6)


@needs_mosquitto
@on_loop
async def test_a_small_broker_says_what_it_takes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = mosquitto(tmp_path, "max_packet_size 20000", "max_inflight_messages 2")
    async with (
        MqttWorld(process, free_port(tmp_path)).running() as world,
        opened(world.bus(CENTRE)) as centre,
        opened(world.bus(PRESS)) as press,
    ):
        await centre.connected()
        granted = (await press.connected()).max_payload_bytes
        assert granted == 20_000 - 1024
        # Who has not heard of the new limit yet asks again in pieces that fit.
        with pytest.raises(NotSent, match="at most 18976"):
            await press.bus.publish(TOPICS.up("press-01", Kind.CHUNK), bytes(granted + 1))
        press.bus.publish(TOPICS.up("press-01", Kind.CHUNK), bytes(granted + 1))
        assert [r.getMessage() for r in caplog.records if r.name == "plantfed.bus"] == [
            f"dropped 18977 bytes on '{TOPICS.up('press-01', Kind.CHUNK)}': "
            "the broker now takes at most 18976"
        ]
        sent = [bytes([n]) * granted for n in range(30)]
        futures = [press.bus.publish(TOPICS.up("press-01", Kind.CHUNK), one) for one in sent]
        assert await centre.payloads(30) == sent
        await asyncio.gather(*futures)


class Drawing(random.Random):
    """Draws the longest wait, notes it, and can break."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(1)
        self.longest: list[float] = []
        self._error = error

    def uniform(self, a: float, b: float) -> float:
        if self._error is not None:
            raise self._error
        self.longest.append(b)
        return b


class Hasty(random.Random):
    """Draws the shortest wait."""

    def uniform(self, a: float, b: float) -> float:
        return a


@on_loop
async def test_a_broker_that_tells_of_another_process_with_our_name() -> None:
    async def take_over(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        # CONNACK, then DISCONNECT with reason 0x8E (MQTT 5 section 3.14.2.1).
        writer.write(b"\x20\x03\0\0\0" + b"\xe0\x02\x8e\0")
        await reader.read()
        writer.close()

    rng = Drawing()
    server = await asyncio.start_server(take_over, HOST, 0)
    async with server:
        address = BrokerAddress(HOST, server.sockets[0].getsockname()[1])
        bus = MqttBus(address, SessionSettings("press-01", ()), rng=rng)
        async with opened(bus) as press:
            await press.connected()
            reason = (await press.disconnected()).reason
            assert reason.startswith("another process is connected to the broker as 'press-01'")
            trouble = bus.connection.trouble
            assert trouble is not None
            assert (trouble.text, trouble.kind) == (reason, TroubleKind.REFUSED)
            assert rng.longest == [RIVAL_SHORTEST_S]


@brokers("mosquitto", "mosquitto-tls", "nats")
@on_loop
async def test_two_processes_with_one_name_find_out(
    kind: str, tmp_path: Path, certificates: Certificates
) -> None:
    async with world_of(kind, tmp_path, asked_for(kind, certificates)) as world:
        address = world.address("press-01")
        one, other = (MqttBus(address, PRESS, rng=Hasty()) for _ in range(2))
        async with opened(one) as first, opened(other):
            while "another process" not in (reason := (await first.disconnected()).reason):
                pass
    assert "connected to the broker as 'press-01'" in reason


@brokers("mosquitto", "nats")
@on_loop
async def test_a_broker_killed_again_and_again_is_no_second_process(
    kind: str, tmp_path: Path
) -> None:
    async with world_of(kind, tmp_path) as world:
        directly = replace(world.address("press-01"), port=world.port)
        async with opened(world.bus(PRESS, directly)) as press:
            await press.connected()
            for _ in range(FLAPS + 1):
                await world.process.kill()
                assert "another process" not in (await press.disconnected()).reason
                await world.process.start()
                await press.connected()


@on_loop
async def test_a_mistake_in_the_keeping_of_connections_ends_the_bus(tmp_path: Path) -> None:
    address = BrokerAddress(HOST, free_port(tmp_path))
    bus = MqttBus(address, PRESS, rng=Drawing(ArithmeticError("a mistake")))
    async with opened(bus) as press:
        await press.disconnected()
        for _ in range(2):
            with pytest.raises(ArithmeticError, match="a mistake"):
                await bus.next_event()
        assert "a mistake" in repr(bus.connection.trouble)


@brokers("mosquitto", "nats")
@on_loop
async def test_a_mistake_with_a_message_ends_the_bus(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise ArithmeticError("a mistake")

    async with (
        world_of(kind, tmp_path) as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        with monkeypatch.context() as patch:
            patch.setattr("plantfed_shared.bus.connection.Receipts.note", stumble)
            await centre.send(TOPICS.down("press-01", Kind.STATE), b"")
            await press.received(acknowledge=False)
            with pytest.raises(ArithmeticError, match="a mistake"):
                await press.bus.next_event()
        assert not press.bus.connection.connected
        with pytest.raises(NotConnected):
            await press.bus.publish(TOPICS.up("press-01", Kind.HELLO), b"")


@brokers("mosquitto", "mosquitto-tls", "nats")
@on_loop
async def test_nothing_waits_for_nagles_algorithm(
    kind: str, tmp_path: Path, certificates: Certificates
) -> None:
    async with (
        world_of(kind, tmp_path, asked_for(kind, certificates)) as world,
        connected(world, PRESS),
    ):
        assert no_delay_towards(world.address("press-01").port) == [True]


def no_delay_towards(port: int) -> list[bool]:
    """Whether TCP_NODELAY is set, of each socket of this process that is connected to a port."""
    found = []
    sockets = [path for path in Path("/proc/self/fd").iterdir() if path.is_socket()]
    for path in sockets:
        # Some are not connected, and asyncio may close one meanwhile.
        with suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as one:
            if one.getpeername()[:2] == (HOST, port):
                found.append(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
    return found
