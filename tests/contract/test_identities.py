"""Who may connect to a broker, and what about: passwords, certificates, permissions."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.brokers import HOST, TOPICS
from tests.contract.certificates import Certificates
from tests.contract.client import connected, on_loop, opened
from tests.contract.conftest import needs_mosquitto
from tests.contract.worlds import CENTRE, OTHER_PRESS, PRESS, asked_for, brokers, world_of

from plantfed_shared.bus.connection_state import TroubleKind
from plantfed_shared.bus.mqtt import MqttBus
from plantfed_shared.bus.port import (
    BrokerAddress,
)
from plantfed_shared.errors import ConfigError
from plantfed_shared.topics import Kind, Topics


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
