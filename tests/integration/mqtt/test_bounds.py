"""What one client may cost, and what happens when the server has to wait."""

import asyncio
import gc
import socket
import time
import tracemalloc

import pytest

from heliograph.mqtt.connection import MAXIMUM_CONTROL_BYTES
from mqtt_client import (
    PINGREQ,
    Client,
    connect,
    kept,
    packet,
    publish,
    published,
    subscribe,
    variable,
)
from server import ADMIN_KEY, eventually, running

pytestmark = pytest.mark.uncovered


def value(number):
    return b'{"value": %d, "timestamp": 1700000000.%06d}' % (number, number)


async def refused(server, version, *login):
    client = await Client.open(server.port, version)
    client.send(connect(*login, version=version))
    answer = await client.packet()
    return answer[2] if answer else None


async def test_connections_in_all(tmp_path, version):
    async with running(tmp_path, mqtt_max_connections=3) as server:
        clients = [await server.admin(f"c{n}", version=version) for n in range(3)]
        assert await refused(server, version, "d", "admin", ADMIN_KEY) is None
        await clients[0].close()
        await eventually(lambda: server.listener.connections == 2)
        await server.admin("d", version=version)


async def test_connections_of_an_address(tmp_path, version):
    async with running(tmp_path, mqtt_max_connections_per_address=2) as server:
        clients = [await server.admin(f"c{number}", version=version) for number in range(2)]
        assert await refused(server, version, "d", "admin", ADMIN_KEY) is None
        await eventually(lambda: server.listener.connections == len(clients))


async def test_connections_of_a_principal(tmp_path, version):
    """A take-over is always possible; a session that is only kept is no way around it."""
    async with running(tmp_path, mqtt_max_connections_per_principal=2) as server:
        device, other = await server.device(), await server.device("other")
        left = await server.connect(device, "left", version=version, **kept(version))
        await left.close()
        await eventually(lambda: server.listener.connections == 0)
        live = [await server.connect(device, name, version=version) for name in ("a", "b")]
        for client_id in ("c", "left", ""):
            code = await refused(server, version, client_id, device.device_id, device.key)
            assert code == (0x97 if version == 5 else 3)
        live.append(await server.connect(device, "a", version=version))
        live.append(await server.connect(other, "a", version=version))


async def test_the_time_to_connect(tmp_path):
    """Be it that not a byte comes, or one now and then."""
    async with running(tmp_path, mqtt_connect_timeout=0.5) as server:
        silent = await Client.open(server.port)
        slow = await Client.open(server.port)
        live = await server.admin()
        slow.send(b"\x10\xff\x7f")
        trickling = asyncio.create_task(trickle(slow), name="trickle")
        assert await silent.packet() == b""
        assert await slow.packet() == b""
        trickling.cancel()
        await live.quiet()


async def trickle(client):
    while True:
        client.send(b"\0")
        await asyncio.sleep(0.05)


async def test_a_connect_may_not_be_large(server, version):
    client = await Client.open(server.port, version)
    client.send(b"\x10" + variable(MAXIMUM_CONTROL_BYTES + 1) + b"\0" * 10)
    assert await client.packet() == b""


async def test_a_full_pipeline_stops_reading_and_goes_on(tmp_path, version, blocked):
    """MAX_IN_FLIGHT_BYTES over all connections; afterwards everything has been taken."""
    async with running(tmp_path, max_in_flight_bytes=1 << 20) as server:
        device = await server.device()
        client = await server.connect(device, version=version)
        count, text = 200, b"x" * 50_000
        async with blocked(server) as started:
            for number in range(count):
                payload = b'{"value": "%d %b"}' % (number, text)
                client.send(publish(device.topic, payload, packet_id=number + 1, version=version))
            await started.wait()
            await eventually(lambda: server.state.bytes_in_flight >= 1 << 20)
            await asyncio.sleep(0.1)
            assert server.state.bytes_in_flight < 2 << 20
            assert (await server.http.get("/readyz")).status_code in (200, 503)
        answers = [await client.packet() for _ in range(count)]
        assert [answer[1] << 8 | answer[2] for answer in answers] == [*range(1, count + 1)]
        assert len(await server.values(device)) == count
        assert server.state.bytes_in_flight == 0


async def test_one_connection_has_its_own_share(server, version, blocked, monkeypatch):
    monkeypatch.setattr("heliograph.mqtt.reading.IN_FLIGHT_BYTES", 100_000)
    monkeypatch.setattr("heliograph.mqtt.connection.IN_FLIGHT_BYTES", 100_000)
    device = await server.device()
    client = await server.connect(device, version=version)
    other = await server.admin(version=version)
    count = 100
    async with blocked(server) as started:
        for number in range(count):
            payload = b'{"value": "%d %b"}' % (number, b"x" * 20_000)
            client.send(publish(device.topic, payload, packet_id=number + 1, version=version))
        await started.wait()
        await other.quiet()
        assert server.state.bytes_in_flight < 1_000_000
        assert server.state.depth < count
    for _ in range(count):
        assert (await client.packet())[0] == 0x40
    assert len(await server.values(device)) == count


async def test_a_slow_subscriber_costs_little_and_slows_nobody(server, version):
    device = await server.device()
    client = await server.connect(device)
    subscribers = [await server.admin(f"slow-{qos}", version=version) for qos in (0, 1)]
    for qos, slow in enumerate(subscribers):
        slow.writer.transport.pause_reading()
        slow.send(subscribe("measurements/#", qos=qos, version=version))
    await eventually(lambda: server.listener.fanout._entries == 2)
    payload = b'{"value": "%b", "timestamp": 1700000000.%06d}'
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(400):
        client.send(publish(device.topic, payload % (b"x" * 50_000, number)))
        assert await client.packet() == b"\x40\0\x01"

    def grown():
        # What is held, not what the collector, which goes by the clock, has not come to yet.
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    # Of 20 MB for subscribers that do not read; on a busy machine the rest of the server may have
    # some of it for a moment.
    await eventually(lambda: grown() < 5 << 20, 20)
    tracemalloc.stop()
    sessions = [*server.listener.sessions._sessions.values()]
    assert sum(session.dropped for session in sessions) > 300


async def test_a_client_that_takes_no_answers_is_read_no_more(server):
    device = await server.device()
    client = await Client.narrow(server.port, 5)
    client.send(connect("c", device.device_id, device.key, version=5))
    assert (await client.packet())[0] == 0x20
    (connection,) = server.listener._connections
    # The kernel would hold megabytes.
    sending = connection.transport.get_extra_info("socket")
    sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    client.writer.transport.pause_reading()
    count = 200_000
    client.send(PINGREQ * count)
    await eventually(lambda: connection.congested, 30)
    size = connection.transport.get_write_buffer_size()
    await asyncio.sleep(0.1)
    assert connection.transport.get_write_buffer_size() <= size < 320 << 10
    client.writer.transport.resume_reading()
    async with asyncio.timeout(60):
        assert set(await client.reader.readexactly(2 * count)) == {0xD0, 0}
    await client.quiet()


async def test_a_clock_that_is_behind(server, version):
    """Nothing is taken or judged by it; it goes on by itself."""
    device = await server.device()
    client = await server.connect(device, version=version)
    clock = server.services.http_ingest.clock
    floor, clock.floor = clock.floor, time.time_ns() // 1_000 + 3_600_000_000
    for number in range(1, 4):
        client.send(publish(device.topic, value(number), packet_id=number, qos=1, version=version))
    client.send(publish(device.topic, value(4), packet_id=4, qos=2, version=version))
    ready = await server.http.get("/readyz")
    assert ready.status_code == 503
    assert "clock" in ready.text
    (connection,) = server.listener._connections
    await eventually(lambda: connection.pauses)
    assert server.state.depth == 0
    assert await server.values(device) == []
    clock.floor = floor
    assert [(await client.packet())[:1] for _ in range(4)] == [b"\x40"] * 3 + [b"\x50"]
    assert await server.values(device) == ["1", "2", "3", "4"]
    assert (await server.http.get("/readyz")).status_code == 200


async def test_an_oversize_message_under_a_clock_that_is_behind(server, version):
    device = await server.device()
    client = await server.connect(device, version=version, **kept(version))
    clock = server.services.http_ingest.clock
    floor, clock.floor = clock.floor, time.time_ns() // 1_000 + 3_600_000_000
    large = publish(device.topic, b"x" * (2 << 20), qos=2, version=version)
    client.send(large)
    assert (await client.packet())[:2] == (b"\xe0\x89" if version == 5 else b"")
    clock.floor = floor
    client = await server.connect(device, version=version, **kept(version))
    client.send(bytes([large[0] | 8]) + large[1:])
    assert (await client.packet())[:3] == b"\x50\0\x01"
    assert len(await server.rejected()) == 1


async def test_a_packet_in_many_small_pieces_is_cheap(server):
    """Each piece must not cost a copy of all that came before it."""
    device = await server.device()
    client = await server.connect(device)
    other = await server.connect(device, "other")
    payload = b'{"value": "' + b"x" * 1_000_000 + b'"}'
    data = publish(device.topic, payload)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for at in range(0, len(data), 100):
        client.send(data[at : at + 100])
        if at % 1_000 == 0:
            await asyncio.sleep(0)
    assert await client.packet() == b"\x40\0\x01"
    await other.quiet()
    assert loop.time() - started < 20


def test_variable_lengths():
    assert packet(0x30, b"")[1:] == variable(0)
    assert published(publish("a", b"b", qos=0)[:1] + b"\0\x01ab").payload == b"b"
