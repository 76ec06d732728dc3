"""Real brokers on a rendered folder."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.broker_config.running import (
    LATE,
    PRESS,
    TOPICS,
    Site,
    needs_mosquitto,
    on_each_broker,
    reload,
    with_each_variant,
)
from tests.contract.client import kept_while_away, on_loop, opened
from tests.free_ports import free_port

from plantfed_broker import embedded
from plantfed_broker.embedded import BrokerKind, EmbeddedBroker, resolve_broker
from plantfed_broker.folder import add_agent, remove_agent, render_federation
from plantfed_broker.settings import Variant
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES, Disconnected, Refused
from plantfed_shared.errors import BrokerError, ConfigError
from plantfed_shared.topics import COORDINATOR, DOWN, UP, Kind


@on_each_broker
@with_each_variant
@on_loop
async def test_everything_the_topic_table_allows_arrives(
    kind: BrokerKind, variant: Variant, tmp_path: Path
) -> None:
    site = Site.build(tmp_path, kind, variant)
    with site.broker:
        async with site.client(COORDINATOR) as centre, site.client(PRESS) as press:
            up = [*(TOPICS.up(PRESS, each) for each in UP), TOPICS.status(PRESS)]
            for topic in up:
                await press.send(topic, topic.encode())
                assert (await centre.received()).payload == topic.encode()
            for topic in [*(TOPICS.down(PRESS, each) for each in DOWN), TOPICS.manifest]:
                await centre.send(topic, topic.encode())
                assert (await press.received()).payload == topic.encode()
            assert await press.listen(TOPICS.lane(7, 0))
            await centre.send(TOPICS.lane(7, 0), b"a part")
            assert (await press.received()).payload == b"a part"


@on_each_broker
@with_each_variant
@on_loop
async def test_the_largest_messages_arrive_also_retained(
    kind: BrokerKind, variant: Variant, tmp_path: Path
) -> None:
    site = Site.build(tmp_path, kind, variant)
    largest = bytes(MAX_MESSAGE_BYTES)
    with site.broker:
        async with site.client(COORDINATOR) as centre:
            await centre.send(TOPICS.manifest, largest, retain=True)
            async with site.client(PRESS) as press:
                assert (await press.received()).payload == largest
                # 5 MB, as the upload of a model goes.
                assert (await centre.received()).topic == TOPICS.manifest
                chunk = TOPICS.up(PRESS, Kind.CHUNK)
                for _ in range(107):
                    await press.send(chunk, largest)
                assert await centre.payloads(107) == [largest] * 107


@on_each_broker
@with_each_variant
@on_loop
async def test_nothing_else_arrives(kind: BrokerKind, variant: Variant, tmp_path: Path) -> None:
    site = Site.build(tmp_path, kind, variant)
    add_agent(tmp_path, LATE)
    with site.broker:
        async with (
            site.client(COORDINATOR) as centre,
            site.client(PRESS) as press,
            site.client(LATE) as late,
        ):
            # Some brokers end the connection over it, others say nothing.
            press.bus.publish(TOPICS.up(LATE, Kind.UPDATE), b"forged")
            press.bus.publish(TOPICS.manifest, b"forged")
            assert await late.listen(TOPICS.lane(7, 0))
            press.bus.publish(TOPICS.lane(7, 0), b"forged")
            await centre.send(TOPICS.down(PRESS, Kind.STATE), b"secret")
            await late.send(TOPICS.up(LATE, Kind.HELLO), b"honest")
            while (message := await centre.received()).topic == TOPICS.status(PRESS):
                pass
            assert message.payload == b"honest"
            await centre.send(TOPICS.down(LATE, Kind.STATE), b"for the other")
            assert (await late.received()).payload == b"for the other"


@on_each_broker
@with_each_variant
@on_loop
async def test_an_agent_added_while_the_broker_runs_gets_in(
    kind: BrokerKind, variant: Variant, tmp_path: Path
) -> None:
    site = Site.build(tmp_path, kind, variant)
    with site.broker:
        async with site.client(COORDINATOR) as centre:
            add_agent(tmp_path, LATE)
            await reload(site.broker)
            if variant == "mtls":
                await centre.connected_again()
            async with opened(site.bus(LATE)) as late:
                # With passwords the signal may come after the first attempt.
                await late.connected_again()
                await late.send(TOPICS.up(LATE, Kind.HELLO), b"here I am")
                while (message := await centre.received()).topic != TOPICS.up(LATE, Kind.HELLO):
                    pass
                assert message.payload == b"here I am"


@on_each_broker
@with_each_variant
@on_loop
async def test_a_removed_agent_and_its_old_credentials_stay_out(
    kind: BrokerKind, variant: Variant, tmp_path: Path
) -> None:
    site = Site.build(tmp_path, kind, variant)
    removed, replaced = site.bus(PRESS), None
    with site.broker:
        remove_agent(tmp_path, PRESS)
        add_agent(tmp_path, LATE)
        await reload(site.broker)
        async with site.client(LATE), opened(removed) as press:
            assert isinstance(await press.bus.next_event(), Refused | Disconnected)
        add_agent(tmp_path, PRESS, replace=True)
        replaced = site.bus(PRESS)
        await reload(site.broker)
        async with opened(replaced) as press:
            await press.connected_again()


@needs_mosquitto
@with_each_variant
@on_loop
async def test_an_agent_cannot_end_the_coordinators_session(
    variant: Variant, tmp_path: Path
) -> None:
    site = Site.build(tmp_path, BrokerKind.MOSQUITTO, variant)
    with site.broker:
        async with (
            site.client(COORDINATOR) as centre,
            opened(site.bus(PRESS, client_id=COORDINATOR)) as thief,
        ):
            await thief.connected()
            await thief.send(TOPICS.up(PRESS, Kind.HELLO), b"as myself")
            # A connection that had been taken over would report that first.
            assert (await centre.received()).payload == b"as myself"


@on_each_broker
@on_loop
async def test_an_agent_cannot_read_what_waits_for_the_coordinator(
    kind: BrokerKind, tmp_path: Path
) -> None:
    async def absence(number: int) -> list[bytes]:
        folder = tmp_path / str(number)
        site = Site.build(folder, kind)
        add_agent(folder, LATE)
        with site.broker:
            async with opened(site.bus(COORDINATOR, persistent=True)) as centre:
                await centre.connected()
            async with site.client(PRESS) as press:
                await press.send(TOPICS.up(PRESS, Kind.UPDATE), b"private")
            thief = site.bus(LATE, client_id=COORDINATOR, persistent=True)
            async with opened(thief) as client:
                await client.connected()
                await client.send(TOPICS.up(LATE, Kind.BYE), b"")
            async with opened(site.bus(COORDINATOR, persistent=True)) as centre:
                await centre.connected()
                # The thief's own goodbye and will may be among what waits.
                return [each for each in await centre.queued(5) if each == b"private"]

    await kept_while_away(absence, [b"private"], nats=kind is BrokerKind.NATS)


@pytest.mark.parametrize(
    ("kind", "end_broker"),
    [
        pytest.param(BrokerKind.MOSQUITTO, EmbeddedBroker.stop, marks=needs_mosquitto),
        (BrokerKind.NATS, EmbeddedBroker.stop),
        (BrokerKind.NATS, EmbeddedBroker.kill),
    ],
    ids=["mosquitto", "nats", "nats-killed"],
)
@on_loop
async def test_the_coordinators_session_outlives_a_restart(
    kind: BrokerKind, end_broker: Callable[[EmbeddedBroker], None], tmp_path: Path
) -> None:
    async def absence(number: int) -> list[bytes]:
        site = Site.build(tmp_path / str(number), kind)
        with site.broker:
            async with opened(site.bus(COORDINATOR, persistent=True)) as centre:
                await centre.connected()
            async with site.client(PRESS) as press:
                await press.send(TOPICS.up(PRESS, Kind.UPDATE), b"1", b"2", b"3")
            end_broker(site.broker)
            site.broker.start()
            async with opened(site.bus(COORDINATOR, persistent=True)) as centre:
                await centre.connected()
                return await centre.queued(3)

    await kept_while_away(absence, [b"1", b"2", b"3"], nats=kind is BrokerKind.NATS)


@on_loop
async def test_nats_keeps_a_retained_message_when_killed(tmp_path: Path) -> None:
    async def absence(number: int) -> list[bytes]:
        site = Site.build(tmp_path / str(number), BrokerKind.NATS)
        with site.broker:
            async with site.client(COORDINATOR) as centre:
                await centre.send(TOPICS.manifest, b"model 7", retain=True)
            site.broker.kill()
            site.broker.start()
            async with site.client(PRESS) as press:
                return await press.queued(1)

    await kept_while_away(absence, [b"model 7"], nats=True)


@on_each_broker
def test_a_taken_port_is_one_clear_line(kind: BrokerKind, tmp_path: Path) -> None:
    site = Site.build(tmp_path, kind)
    port = int(site.broker.address.rpartition(":")[2])
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(
            BrokerError, match=rf"^port {port} is taken .* --broker .* --port$"
        ) as caught,
    ):
        site.broker.start()
    assert caught.value.exit_code == 69
    assert site.broker.pid is None


@on_each_broker
def test_a_broker_that_will_not_start_says_why(kind: BrokerKind, tmp_path: Path) -> None:
    site = Site.build(tmp_path, kind, "mtls")
    (tmp_path / "server.key").write_text("nonsense")
    with pytest.raises(
        BrokerError, match=rf"^{kind} ended: exit code \d+; .*(key|PEM).* Look into "
    ) as caught:
        site.broker.start()
    assert "\n" not in str(caught.value)
    assert site.broker.pid is None


@on_each_broker
def test_a_broker_that_ended_is_noticed(kind: BrokerKind, tmp_path: Path) -> None:
    with Site.build(tmp_path, kind).broker as broker:
        broker.check()
        end(broker, signal.SIGKILL)
        with pytest.raises(BrokerError, match=f"^{kind} ended: killed by SIGKILL; its log: "):
            broker.check()


def test_a_signal_without_a_name_has_its_number() -> None:
    assert embedded._how(-(signal.SIGRTMIN + 3)) == f"killed by signal {signal.SIGRTMIN + 3}"


@on_each_broker
def test_a_broker_that_ended_by_itself_names_its_exit_code(
    kind: BrokerKind, tmp_path: Path
) -> None:
    with Site.build(tmp_path, kind).broker as broker:
        end(broker, signal.SIGTERM)
        with pytest.raises(BrokerError, match=rf"^{kind} ended: exit code \d+; "):
            broker.check()


def test_only_the_log_of_this_run_is_quoted(tmp_path: Path) -> None:
    site = Site.build(tmp_path, BrokerKind.NATS)
    with site.broker:
        pass
    with site.broker.log_file.open("a") as log:
        log.write("[1] 2026/11/22 20:00:00.000000 [ERR] the trouble of yesterday\n")
    with site.broker as broker:
        end(broker, signal.SIGKILL)
        with pytest.raises(BrokerError) as caught:
            broker.check()
    assert "yesterday" not in str(caught.value)


def end(broker: EmbeddedBroker, number: int) -> None:
    """Send a signal and wait until it has ended the process, without taking its exit code."""
    assert broker.pid is not None
    os.kill(broker.pid, number)
    os.waitid(os.P_PID, broker.pid, os.WEXITED | os.WNOWAIT)


@on_each_broker
def test_stop_is_graceful_and_leaves_the_port_free(kind: BrokerKind, tmp_path: Path) -> None:
    broker = Site.build(tmp_path, kind).broker
    for _ in range(2):
        with broker:
            assert broker.kind is kind
        broker.stop()
    log = broker.log_file.read_text()
    assert "Saving in-memory database" in log or "Server Exiting" in log


def test_another_port_and_log_can_be_chosen(tmp_path: Path) -> None:
    render_federation(tmp_path, "hall-7")
    port, log = free_port(), tmp_path / "broker.log"
    with EmbeddedBroker(tmp_path, port=port, log_file=log) as broker:
        assert broker.address == f"mqtt://127.0.0.1:{port}"
        assert log.read_text()


def test_a_given_broker_is_used_and_not_ended(tmp_path: Path) -> None:
    render_federation(tmp_path, "hall-7")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        with EmbeddedBroker(tmp_path, url=url) as broker:
            assert (broker.kind, broker.address, broker.pid) == (BrokerKind.EXTERNAL, url, None)
            broker.reload()
    with pytest.raises(BrokerError, match=f"no broker answers at {url}"):
        EmbeddedBroker(tmp_path, url=url).start()
    with pytest.raises(ConfigError, match="not a broker address: 'http://x'"):
        resolve_broker("http://x")


def test_a_given_address_comes_first_then_mosquitto_then_pip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = {BrokerKind.MOSQUITTO, BrokerKind.NATS}
    monkeypatch.setattr(
        embedded, "_program", lambda kind: Path("/bin/true") if kind in installed else None
    )
    assert resolve_broker("mqtt://broker.plant") is BrokerKind.EXTERNAL
    assert resolve_broker(None) is BrokerKind.MOSQUITTO
    installed.discard(BrokerKind.MOSQUITTO)
    assert resolve_broker(None) is BrokerKind.NATS
    installed.clear()
    with pytest.raises(BrokerError, match=r"apt install mosquitto, or: pip install .*--broker"):
        resolve_broker(None)


def test_nats_does_not_keep_what_was_not_acknowledged_for_long(tmp_path: Path) -> None:
    site = Site.build(tmp_path, BrokerKind.NATS)
    with site.broker as broker:
        config = (broker.folder / "data" / "nats.conf").read_text()
    # It refuses to start with an option it doesn't know.
    assert '\n  ack_wait: "10s"\n' in config


def test_nats_without_a_password_list_says_how_to_get_it(tmp_path: Path) -> None:
    site = Site.build(tmp_path, BrokerKind.NATS)
    (tmp_path / "nats-passwords").unlink()
    with pytest.raises(ConfigError, match=r"no password of agent 'press-01'.*--replace"):
        site.broker.start()
