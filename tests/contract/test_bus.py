"""The contract of the bus port, on every implementation and broker."""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager

import pytest
from tests.contract.brokers import TOPICS, World
from tests.contract.client import connected, kept_while_away, on_loop, opened

from plantfed_shared.bus.connection_state import TroubleKind
from plantfed_shared.bus.port import (
    MAX_MESSAGE_BYTES,
    PUBACK_BYTES,
    NotConnected,
    SessionSettings,
    Will,
    publish_bytes,
)
from plantfed_shared.topics import COORDINATOR, Kind

OpenWorld = AbstractAsyncContextManager[World]

PRESS = SessionSettings(
    "press-01", TOPICS.agent_subscriptions("press-01"), Will(TOPICS.status("press-01"), b"offline")
)
OTHER_PRESS = SessionSettings("press-02", TOPICS.agent_subscriptions("press-02"))
CENTRE = SessionSettings(COORDINATOR, TOPICS.coordinator_subscriptions(), persistent=True)

UPDATE = TOPICS.up("press-01", Kind.UPDATE)
STATE = TOPICS.down("press-01", Kind.STATE)
STATUS = TOPICS.status("press-01")


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@on_loop
async def test_a_message_goes_each_way(open_world: OpenWorld) -> None:
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        await press.send(UPDATE, b"up")
        up = await centre.received()
        await centre.send(STATE, b"\x00\xffdown")
        down = await press.received()
    assert (up.topic, up.payload, up.retained) == (UPDATE, b"up", False)
    assert (down.topic, down.payload, down.retained) == (STATE, b"\x00\xffdown", False)


@on_loop
async def test_one_publisher_on_one_topic_is_heard_in_order(open_world: OpenWorld) -> None:
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        for payload in numbers(300):
            press.bus.publish(UPDATE, payload)
        assert await centre.payloads(300) == numbers(300)


@on_loop
async def test_a_late_subscriber_gets_the_retained_message(open_world: OpenWorld) -> None:
    async with open_world as world, connected(world, PRESS) as press:
        await press.send(STATUS, b"old", b"new", retain=True)
        async with connected(world, CENTRE) as centre:
            status = await centre.received()
        assert (status.topic, status.payload, status.retained) == (STATUS, b"new", True)


@on_loop
async def test_a_death_publishes_the_will(open_world: OpenWorld) -> None:
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        await world.cut("press-01")
        will = await centre.received()
        await press.disconnected()
    assert (will.topic, will.payload) == (STATUS, b"offline")


@on_loop
async def test_closing_in_good_order_sends_everything_but_no_will(open_world: OpenWorld) -> None:
    async with open_world as world, connected(world, CENTRE) as centre:
        async with connected(world, PRESS) as press:
            for payload in numbers(50):
                press.bus.publish(UPDATE, payload)
        async with connected(world, OTHER_PRESS) as other:
            await other.send(TOPICS.up("press-02", Kind.HELLO), b"hello")
        assert await centre.payloads(51) == [*numbers(50), b"hello"]


@on_loop
async def test_a_persistent_session_keeps_messages_while_away(
    open_world: OpenWorld, variant: str
) -> None:
    async with open_world as world, connected(world, PRESS) as press:

        async def absence(_number: int) -> list[bytes]:
            async with connected(world, CENTRE):
                pass
            await press.send(UPDATE, *numbers(20))
            async with connected(world, CENTRE) as centre:
                return await centre.queued(20)

        await kept_while_away(absence, numbers(20), nats=variant == "nats")


@on_loop
async def test_what_was_not_acknowledged_comes_again(open_world: OpenWorld) -> None:
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        await press.send(UPDATE, *numbers(3))
        first = [await centre.received(acknowledge=False) for _ in range(3)]
        centre.bus.acknowledge(first[1].token)
        # Brokers answer in order: what comes back now was sent after the acknowledgement.
        await centre.send(STATE, b"")
        await press.received()
        await world.cut(COORDINATOR)
        await centre.disconnected()
        await world.mend(COORDINATOR)
        await centre.connected()
        # A token of the old connection means nothing now.
        centre.bus.acknowledge(first[2].token)
        assert await centre.payloads(2) == [b"0", b"2"]
        await press.send(UPDATE, b"3")
        assert await centre.payloads(1) == [b"3"]


@on_loop
async def test_without_persistence_nothing_comes_again(open_world: OpenWorld) -> None:
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        await centre.send(STATE, b"before")
        await press.received(acknowledge=False)
        await world.cut("press-01")
        await press.disconnected()
        await centre.send(STATE, b"while away")
        await world.mend("press-01")
        await press.connected()
        await centre.send(STATE, b"after")
        assert (await press.received()).payload == b"after"


@on_loop
async def test_everybody_hears_what_is_theirs(open_world: OpenWorld) -> None:
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
        connected(world, OTHER_PRESS) as other,
    ):
        expected = [
            UPDATE,
            TOPICS.up("press-01", Kind.CHUNK),
            STATUS,
            TOPICS.up("press-02", Kind.HELLO),
        ]
        for topic in expected[:3]:
            await press.send(topic, b"")
        await other.send(expected[3], b"")
        await centre.send(TOPICS.manifest, b"to all")
        await centre.send(TOPICS.down("press-02", Kind.WELCOME), b"to one")
        heard = [(await centre.received()).topic for _ in range(5)]
        assert sorted(heard) == sorted([*expected, TOPICS.manifest])
        assert await press.payloads(1) == [b"to all"]
        assert sorted(await other.payloads(2)) == [b"to all", b"to one"]


@on_loop
async def test_a_lane_is_heard_from_listening_on_until_it_is_left(open_world: OpenWorld) -> None:
    lane, other = TOPICS.lane(7, 0), TOPICS.lane(7, 1)
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
        connected(world, OTHER_PRESS) as other_press,
    ):
        await centre.send(lane, b"before")
        assert await press.listen(lane)
        assert await press.listen(other)
        await centre.send(lane, b"1", b"2")
        await centre.send(other, b"3")
        assert sorted(await press.payloads(3)) == [b"1", b"2", b"3"]
        press.bus.stop_listening(lane)
        assert await press.listen(TOPICS.lane(7, 2))  # brokers answer in order
        await centre.send(lane, b"after")
        await centre.send(other, b"4")
        assert await press.payloads(1) == [b"4"]
        await centre.send(TOPICS.manifest, b"to all")
        assert await other_press.payloads(1) == [b"to all"]


@on_loop
async def test_nobody_listens_any_more_on_the_next_connection(open_world: OpenWorld) -> None:
    lane = TOPICS.lane(7, 0)
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        assert await press.listen(lane)
        await world.cut("press-01")
        await press.disconnected()
        press.bus.listen(lane)  # nothing follows
        await world.mend("press-01")
        await press.connected()
        await centre.send(lane, b"lost")
        await centre.send(STATE, b"heard")
        assert await press.payloads(1) == [b"heard"]
        assert await press.listen(lane)
        await centre.send(lane, b"again")
        assert await press.payloads(1) == [b"again"]


@on_loop
async def test_five_megabytes_in_chunks(open_world: OpenWorld) -> None:
    chunks = [bytes([number]) * MAX_MESSAGE_BYTES for number in range(107)]
    chunk = TOPICS.down("press-01", Kind.CHUNK)
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        sent = [centre.bus.publish(chunk, payload) for payload in chunks]
        received = await press.payloads(len(chunks))
        await asyncio.gather(*sent)
    assert received == chunks


@on_loop
async def test_nothing_is_taken_while_there_is_no_connection(
    open_world: OpenWorld, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world as world, opened(world.bus(PRESS)) as press:
        await press.connected()
        await world.cut("press-01")
        await press.disconnected()
        with pytest.raises(NotConnected):
            await press.bus.publish(UPDATE, b"lost")
        press.bus.publish(UPDATE, b"lost, and nobody waits for the future")
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@on_loop
async def test_nothing_is_taken_before_the_first_connection(open_world: OpenWorld) -> None:
    async with open_world as world:
        await world.cut("press-01")
        async with opened(world.bus(PRESS)) as press:
            with pytest.raises(NotConnected):
                await press.bus.publish(UPDATE, b"too early")
            await world.mend("press-01")
            await press.connected()
            await press.send(UPDATE, b"")
        with pytest.raises(NotConnected):
            await press.bus.publish(UPDATE, b"too late")


@on_loop
async def test_the_state_of_the_connection_can_be_read(open_world: OpenWorld) -> None:
    async with open_world as world:
        bus = world.bus(PRESS)
        fresh = bus.connection
        assert (fresh.connected, fresh.trouble) == (False, None)
        async with opened(bus) as press:
            await press.connected()
            made = bus.connection
            assert (made.connected, made.trouble) == (True, None)
            assert made.since > fresh.since
            await world.cut("press-01")
            reason = (await press.disconnected()).reason
            cut = bus.connection
            assert not cut.connected
            assert cut.trouble is not None
            assert (cut.trouble.text, cut.trouble.kind) == (reason, TroubleKind.UNAVAILABLE)
            assert made.since < cut.since <= cut.trouble.at
            await world.mend("press-01")
            await press.connected()
            assert bus.connection.connected
            assert bus.connection.since > cut.since
            assert bus.connection.trouble is not None
        assert not bus.connection.connected


@on_loop
async def test_a_message_longer_than_the_limit_is_a_mistake(open_world: OpenWorld) -> None:
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        with pytest.raises(ValueError, match="at most 49152"):
            press.bus.publish(UPDATE, bytes(MAX_MESSAGE_BYTES + 1))
        await press.send(UPDATE, bytes(MAX_MESSAGE_BYTES))
        assert await centre.payloads(1) == [bytes(MAX_MESSAGE_BYTES)]


@on_loop
async def test_everybody_comes_back_after_the_broker_restarted(open_world: OpenWorld) -> None:
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        await world.restart()
        await press.connected()
        await centre.connected_again()
        await press.send(UPDATE, b"again")
        # A broker that remembers may tell of the press's death first.
        while (await centre.received()).payload != b"again":
            pass


@on_loop
async def test_both_ends_count_the_same_bytes(open_world: OpenWorld, variant: str) -> None:
    payloads = [b"", b"x" * 100, b"y" * 200, b"z" * 20_000]
    mqtt5 = variant in ("mosquitto", "mosquitto-tls")
    carried = sum(publish_bytes(UPDATE, len(payload), mqtt5=mqtt5) for payload in payloads)
    answered = PUBACK_BYTES * len(payloads)
    async with (
        open_world as world,
        connected(world, CENTRE) as centre,
        connected(world, PRESS) as press,
    ):
        await press.send(UPDATE, *payloads)
        assert await centre.payloads(4) == payloads
        sender, receiver = press.bus.traffic, centre.bus.traffic
        assert (sender.messages_out, receiver.messages_in) == (4, 4)
        assert (sender.messages_in, receiver.messages_out) == (0, 0)
        assert (sender.bytes_out, sender.bytes_in) == (carried, answered)
        assert (receiver.bytes_in, receiver.bytes_out) == (carried, answered)
