"""What answers at an address and is no broker of ours, or answers nothing."""

import asyncio
import random
from pathlib import Path

from tests.contract.brokers import HOST, free_port
from tests.contract.client import on_loop, opened
from tests.contract.worlds import PRESS

from plantfed_shared.bus.mqtt import MqttBus
from plantfed_shared.bus.port import (
    BrokerAddress,
    Disconnected,
)


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
