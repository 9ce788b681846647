"""What clients may hold on to: packets without an end, answers that they do not take."""

import asyncio
import socket

import pytest

from heliograph.mqtt.connection import MAXIMUM_CONTROL_BYTES, UNCOUNTED_BYTES
from mqtt_client import PINGREQ, Client, connect, packet, publish, string, variable
from server import eventually

HALF = b"\x30" + variable(1 << 20) + string("measurements/device-1") + b"x" * (512 << 10)
LARGE = b'{"value": "' + b"x" * 1_000_000 + b'"}'


async def test_unfinished_packets_are_bounded_in_all(server, version, monkeypatch):
    monkeypatch.setattr("heliograph.mqtt.connection.MAXIMUM_UNFINISHED_BYTES", 1 << 20)
    device = await server.device()
    clients = [await server.connect(device, f"c{n}", version=version) for n in range(4)]
    unfinished = server.listener.unfinished
    for client in clients[:2]:
        client.send(HALF)
    held = 2 * (len(HALF) - UNCOUNTED_BYTES)
    await eventually(lambda: unfinished.bytes == held)
    clients[2].send(HALF)
    assert (await clients[2].packet())[:2] == (b"\xe0\x97" if version == 5 else b"")
    await eventually(lambda: unfinished.bytes == held)
    clients[3].send(publish(device.topic, b"1", version=version))
    assert (await clients[3].packet())[:3] == b"\x40\0\x01"
    await clients[0].close()
    clients[1].send(b"x" * ((1 << 20) + 4 - len(HALF)))
    await eventually(lambda: unfinished.bytes == 0)
    clients[3].send(publish(device.topic, LARGE, packet_id=2, version=version))
    assert await clients[3].packet() == b"\x40\0\x02"
    assert unfinished.bytes == 0


async def test_oversize_packets_count_until_their_end(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    data = publish(device.topic, b"x" * (2 << 20), version=version)
    client.send(data[: 1 << 20])
    await eventually(lambda: server.listener.unfinished.bytes > 0)
    client.send(data[1 << 20 :])
    assert (await client.packet())[:3] == b"\x40\0\x01"
    assert server.listener.unfinished.bytes == 0


@pytest.mark.parametrize("begun", [HALF, b"\x30", b"\x30" + variable(8 << 20) + b"\0"])
async def test_a_packet_has_to_come_to_its_end(server, version, begun, monkeypatch):
    monkeypatch.setattr("heliograph.mqtt.connection.UNFINISHED_SECONDS", 0.3)
    monkeypatch.setattr("heliograph.mqtt.listener.SWEEP_SECONDS", 0.05)
    device = await server.device()
    live = await server.connect(device, "live", version=version)
    client = await Client.open(server.port, version)
    client.send(connect("c", device.device_id, device.key, version=version, keepalive=0))
    assert (await client.packet())[0] == 0x20
    client.send(begun)
    async with asyncio.timeout(30):
        assert (await client.packet())[:2] == (b"\xe0\x8d" if version == 5 else b"")
    await live.quiet()


async def test_packets_that_overlap_reads_are_not_late(server, monkeypatch):
    """A stream of packets of which there is always one unfinished."""
    monkeypatch.setattr("heliograph.mqtt.connection.UNFINISHED_SECONDS", 1.0)
    monkeypatch.setattr("heliograph.mqtt.listener.SWEEP_SECONDS", 0.05)
    device = await server.device()
    client = await server.connect(device)
    client.send(PINGREQ[:1])
    for _ in range(40):
        await asyncio.sleep(0.05)
        client.send(PINGREQ[1:] + PINGREQ[:1])
        assert await client.packet() == b"\xd0"


async def test_who_takes_nothing_is_ended(server, monkeypatch):
    monkeypatch.setattr("heliograph.mqtt.listener.CONGESTED_SECONDS", 0.5)
    monkeypatch.setattr("heliograph.mqtt.listener.SWEEP_SECONDS", 0.05)
    device = await server.device()
    client = await Client.narrow(server.port, 5)
    client.send(connect("c", device.device_id, device.key, version=5))
    assert (await client.packet())[0] == 0x20
    (connection,) = server.listener._connections
    sending = connection.transport.get_extra_info("socket")
    sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    client.writer.transport.pause_reading()
    client.send(PINGREQ * 200_000)
    await eventually(lambda: connection.congested, 30)
    await eventually(lambda: server.listener.connections == 0, 30)


async def test_a_large_control_packet_that_comes_whole_is_refused_too(server, version):
    """Its parts could come in one read, as they do over a fast network."""
    client = await server.admin(version=version)
    filters = b"".join(string(f"measurements/{n:06}") + b"\0" for n in range(9_000))
    data = packet(0x82, b"\0\x01" + b"\0" * (version == 5) + filters)
    assert len(data) > MAXIMUM_CONTROL_BYTES
    (connection,) = server.listener._connections
    connection.data_received(data)
    assert (await client.packet())[:2] == (b"\xe0\x95" if version == 5 else b"")
