"""What only MQTT over a network has: identities, permissions, versions, unreachable brokers."""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.brokers import HOST, TOPICS, MqttWorld, free_port, mosquitto, nats
from tests.contract.certificates import Certificates
from tests.contract.client import connected, on_loop, opened
from tests.contract.conftest import needs_mosquitto

from plantfed_shared.bus.connection_state import TroubleKind
from plantfed_shared.bus.mqtt import MqttBus
from plantfed_shared.bus.port import (
    BrokerAddress,
    Disconnected,
    NotConnected,
    NotSent,
    SessionSettings,
)
from plantfed_shared.bus.reconnect import FLAPS, RIVAL_SHORTEST_S
from plantfed_shared.errors import ConfigError
from plantfed_shared.topics import COORDINATOR, Kind, Topics

PRESS = SessionSettings("press-01", TOPICS.agent_subscriptions("press-01"))
OTHER_PRESS = SessionSettings("press-02", TOPICS.agent_subscriptions("press-02"))
CENTRE = SessionSettings(COORDINATOR, TOPICS.coordinator_subscriptions())


@asynccontextmanager
async def world_of(
    kind: str, folder: Path, certificates: Certificates | None = None
) -> AsyncIterator[MqttWorld]:
    process = nats(folder) if kind == "nats" else mosquitto(folder, certificates=certificates)
    async with MqttWorld(process, free_port(folder), certificates=certificates).running() as world:
        yield world


def brokers(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "kind",
        [k if k == "nats" else pytest.param(k, marks=needs_mosquitto) for k in kinds],
    )


def asked_for(kind: str, certificates: Certificates) -> Certificates | None:
    return certificates if kind == "mosquitto-tls" else None


@brokers("mosquitto", "nats")
@on_loop
async def test_a_wrong_password_is_refused(kind: str, tmp_path: Path) -> None:
    async with world_of(kind, tmp_path) as world:
        wrong = replace(world.address("press-01"), password="open sesame")
        async with opened(world.bus(PRESS, wrong)) as press:
            refused = await press.refused()
            # It goes on trying by itself.
            assert await press.refused() == refused
    assert "refused the user" in refused.reason or "not authorise" in refused.reason
    assert "sesame" not in refused.reason + repr(wrong)


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


@needs_mosquitto
@on_loop
async def test_without_a_client_certificate(tmp_path: Path, certificates: Certificates) -> None:
    async with world_of("mosquitto", tmp_path, certificates) as world:
        nobody = replace(world.address("press-01"), cert_file=None, key_file=None)
        async with opened(world.bus(PRESS, nobody)) as press:
            assert "wants a client certificate" in (await press.refused()).reason


@needs_mosquitto
@on_loop
async def test_with_a_stranger_s_certificate(tmp_path: Path, certificates: Certificates) -> None:
    strangers = Certificates(tmp_path)
    cert_file, key_file = strangers.identity("press-01")
    async with world_of("mosquitto", tmp_path, certificates) as world:
        stranger = replace(world.address("press-01"), cert_file=cert_file, key_file=key_file)
        async with opened(world.bus(PRESS, stranger)) as press:
            assert "certificate" in (await press.refused()).reason


@needs_mosquitto
@on_loop
async def test_a_broker_we_do_not_trust(tmp_path: Path, certificates: Certificates) -> None:
    async with world_of("mosquitto", tmp_path, certificates) as world:
        wary = replace(world.address("press-01"), ca_file=Certificates(tmp_path).ca_file)
        async with opened(world.bus(PRESS, wary)) as press:
            assert "is not trusted" in (await press.refused()).reason


@needs_mosquitto
@on_loop
async def test_tls_towards_a_broker_without(tmp_path: Path, certificates: Certificates) -> None:
    async with world_of("mosquitto", tmp_path) as world:
        hopeful = replace(world.address("press-01"), ca_file=certificates.ca_file)
        async with opened(world.bus(PRESS, hopeful)) as press:
            assert "no TLS with" in (await press.disconnected()).reason


@brokers("mosquitto-tls", "nats")
@on_loop
async def test_an_agent_cannot_speak_for_another(
    kind: str, tmp_path: Path, certificates: Certificates
) -> None:
    async with (
        world_of(kind, tmp_path, asked_for(kind, certificates)) as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        press.bus.publish(TOPICS.up("press-02", Kind.UPDATE), b"forged")
        press.bus.publish(TOPICS.status("press-02"), b"forged", retain=True)
        press.bus.publish(TOPICS.manifest, b"forged", retain=True)
        press.bus.publish(TOPICS.down("press-01", Kind.STATE), b"forged")
        assert await press.listen(TOPICS.lane(7, 0))
        press.bus.publish(TOPICS.lane(7, 0), b"forged")
        await press.bus.publish(TOPICS.up("press-01", Kind.UPDATE), b"mine")
        assert await centre.payloads(1) == [b"mine"]
        await centre.send(TOPICS.down("press-01", Kind.STATE), b"real")
        assert await press.payloads(1) == [b"real"]
        async with connected(world, OTHER_PRESS) as other:
            await centre.send(TOPICS.down("press-02", Kind.STATE), b"first")
            assert await other.payloads(1) == [b"first"]


@brokers("mosquitto-tls", "nats")
@on_loop
async def test_an_agent_cannot_listen_to_another(
    kind: str, tmp_path: Path, certificates: Certificates
) -> None:
    """Mosquitto grants the subscription and delivers nothing; NATS denies it."""
    theirs = TOPICS.agent_subscriptions("press-02")[0]
    curious = replace(PRESS, subscriptions=(*PRESS.subscriptions, theirs))
    async with (
        world_of(kind, tmp_path, asked_for(kind, certificates)) as world,
        connected(world, CENTRE) as centre,
        opened(world.bus(curious)) as press,
    ):
        if kind == "nats":
            assert theirs in (await press.refused()).reason
            return
        await press.connected()
        await centre.send(TOPICS.down("press-02", Kind.STATE), b"not for you")
        await centre.send(TOPICS.down("press-01", Kind.STATE), b"for you")
        assert await press.payloads(1) == [b"for you"]


@brokers("mosquitto-tls", "nats")
@on_loop
async def test_an_agent_cannot_listen_to_a_lane_of_another_federation(
    kind: str, tmp_path: Path, certificates: Certificates
) -> None:
    """Mosquitto says yes and delivers nothing; NATS says no, and the connection goes on."""
    theirs = Topics("hall-8").lane(7, 0)
    async with (
        world_of(kind, tmp_path, asked_for(kind, certificates)) as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        assert await press.listen(theirs) == (kind != "nats")
        await centre.send(TOPICS.down("press-01", Kind.STATE), b"for you")
        assert await press.payloads(1) == [b"for you"]


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


@on_loop
async def test_a_broker_that_takes_next_to_nothing_is_no_use_and_told_so() -> None:
    async def let_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        # CONNACK with a Maximum Packet Size (MQTT 5 section 3.2.2.3.6)
        writer.write(b"\x20\x08\0\0\x05\x27" + (1535).to_bytes(4, "big"))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(let_in, HOST, 0)
    async with server:
        address = BrokerAddress(HOST, server.sockets[0].getsockname()[1])
        async with opened(MqttBus(address, PRESS, rng=random.Random(1))) as press:
            assert (
                (await press.disconnected()).reason
                == "the broker takes packets of at most 1535 bytes: raise its limit to 1536 or more"
            )


@on_loop
async def test_nobody_listens(tmp_path: Path) -> None:
    address = BrokerAddress(HOST, free_port(tmp_path))
    async with opened(MqttBus(address, PRESS, rng=random.Random(1))) as press:
        for _ in range(2):
            assert (
                await press.disconnected()
            ).reason == f"nothing listens at {HOST}:{address.port}"


@on_loop
async def test_a_name_that_does_not_exist() -> None:
    address = BrokerAddress("broker.invalid", 1883)
    async with opened(MqttBus(address, PRESS, rng=random.Random(1))) as press:
        assert "cannot be resolved" in (await press.disconnected()).reason


@on_loop
async def test_something_that_is_no_broker() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(babble, HOST, 0)
    async with server:
        address = BrokerAddress(HOST, server.sockets[0].getsockname()[1])
        async with opened(MqttBus(address, PRESS, rng=random.Random(1))) as press:
            for _ in range(3):
                assert isinstance(await press.bus.next_event(), Disconnected)


@on_loop
async def test_closing_while_the_broker_keeps_silent() -> None:
    silence = asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        silence.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(keep_silent, HOST, 0)
    async with server:
        address = BrokerAddress(HOST, server.sockets[0].getsockname()[1])
        async with opened(MqttBus(address, PRESS, rng=random.Random(1))):
            await silence.wait()


@pytest.mark.parametrize(
    ("which", "wrong"),
    [
        *((which, "missing") for which in ("ca_file", "cert_file", "key_file")),
        *((which, "empty") for which in ("ca_file", "cert_file", "key_file")),
        ("key_file", "other key"),
    ],
)
@on_loop
async def test_a_certificate_file_that_cannot_be_used(
    which: str, wrong: str, tmp_path: Path, certificates: Certificates
) -> None:
    cert_file, key_file = certificates.identity("press-01")
    address = BrokerAddress(HOST, 8883, None, None, certificates.ca_file, cert_file, key_file)
    path = tmp_path / "file.pem"
    if wrong == "other key":
        path.write_bytes(Path(certificates.identity("press-02")[1]).read_bytes())
    elif wrong == "empty":
        path.touch()
    match which:
        case "ca_file":
            address = replace(address, ca_file=str(path))
        case "cert_file":
            address = replace(address, cert_file=str(path))
        case _:
            address = replace(address, key_file=str(path))
    with pytest.raises(ConfigError, match=r"file\.pem"):
        await MqttBus(address, PRESS, rng=random.Random(1)).open()


@on_loop
async def test_a_certificate_without_an_authority(certificates: Certificates) -> None:
    cert_file, key_file = certificates.identity("press-01")
    address = BrokerAddress(HOST, 8883, cert_file=cert_file, key_file=key_file)
    with pytest.raises(ConfigError, match="ca_file"):
        await MqttBus(address, PRESS, rng=random.Random(1)).open()


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


@needs_mosquitto
@on_loop
async def test_a_refused_identity_is_a_trouble_of_that_kind(tmp_path: Path) -> None:
    async with world_of("mosquitto", tmp_path) as world:
        wrong = replace(world.address("press-01"), password="open sesame")
        bus = world.bus(PRESS, wrong)
        async with opened(bus) as press:
            reason = (await press.refused()).reason
            trouble = bus.connection.trouble
            assert trouble is not None
            assert (trouble.text, trouble.kind) == (reason, TroubleKind.REFUSED)


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
