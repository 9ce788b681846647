"""The end of the server: what it has read is committed and acknowledged."""

import asyncio
import contextlib

from mqtt_client import Client, connect, kept, publish
from server import eventually, running


async def test_what_was_read_is_committed_and_acknowledged(tmp_path, version, blocked):
    count = 500
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(tmp_path))
        device = await server.device()
        client = await server.connect(device, version=version)
        await stack.enter_async_context(blocked(server))
        for number in range(count):
            payload = b'{"value": %d, "timestamp": 1700000000.%06d}' % (number, number)
            client.send(publish(device.topic, payload, packet_id=number + 1, version=version))
        await eventually(lambda: server.state.depth == count)
    answers = []
    while answer := await client.packet():
        answers.append(answer)
    acknowledged = [answer[1] << 8 | answer[2] for answer in answers if answer[0] == 0x40]
    assert acknowledged == [*range(1, count + 1)]
    assert answers[count:] == ([b"\xe0\x8b"] if version == 5 else [])  # [MQTT-3.1.4-3]
    async with running(tmp_path) as server:
        assert len(await server.values(device)) == count


async def test_stopping_under_load_loses_nothing_acknowledged(tmp_path, version):
    async with running(tmp_path) as server:
        device = await server.device()
        client = await server.connect(device, version=version)
        sending = asyncio.create_task(load(client, device.topic), name="load")
        acknowledged = 0
        while acknowledged < 500:
            acknowledged += (await client.packet())[0] == 0x40
    while answer := await client.packet():
        acknowledged += answer[0] == 0x40
    sending.cancel()
    async with running(tmp_path) as server:
        stored = len(await server.values(device))
        assert stored >= acknowledged


async def load(client, topic):
    number = 0
    while not client.writer.is_closing():
        number += 1
        payload = b'{"value": %d, "timestamp": 1700000000.%06d}' % (number, number)
        client.send(publish(topic, payload, packet_id=number % 60_000 + 1, version=client.version))
        if number % 50 == 0:
            await client.writer.drain()
            await asyncio.sleep(0)


async def test_nobody_gets_in_while_it_stops(tmp_path, version, blocked):
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(tmp_path))
        port, device = server.port, await server.device()
        client = await server.connect(device, version=version, **kept(version))
        unblock = contextlib.AsyncExitStack()
        started = await unblock.enter_async_context(blocked(server))
        client.send(publish(device.topic, b'{"value": 1}', version=version))
        await started.wait()
        stopping = asyncio.create_task(stack.aclose(), name="stop")
        await eventually(lambda: server.listener._closing)
        try:
            late = await Client.open(port, version)
            late.send(connect("late", device.device_id, device.key, version=version))
            assert await late.packet() == b""
        except ConnectionError:
            pass
        client.send(publish(device.topic, b'{"value": 2}', packet_id=2, version=version))
        await unblock.aclose()
        await stopping
    answers = []
    while answer := await client.packet():
        answers.append(answer)
    assert answers == [b"\x40\0\x01"] + [b"\xe0\x8b"] * (version == 5)
