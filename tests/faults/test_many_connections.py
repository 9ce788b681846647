"""Thousands that connect in the same moment, over MQTT and HTTP: none is lost or refused.

HELIOGRAPH_CONNECTED is how many there are over MQTT, HELIOGRAPH_POSTING how many over HTTP. Those
beyond what the server takes over HTTP at once are closed, and come again.
"""

import asyncio
import json
import os
import time

import pytest

from heliograph.http.connections import MAXIMUM_HTTP_CONNECTIONS
from heliograph.settings import Settings
from mqtt_client import connect, publish

pytestmark = pytest.mark.long

CONNECTED = int(os.environ.get("HELIOGRAPH_CONNECTED", "5000"))
POSTING = int(os.environ.get("HELIOGRAPH_POSTING", "5000"))
OF_A_DEVICE = Settings.model_fields["mqtt_max_connections_per_principal"].default
SECONDS = 300
# What one takes that is connected and has sent something, with its session.
CONNECTION_BYTES = 16 << 10


class Device(asyncio.Protocol):
    """Connects and publishes one message at QoS 1; it stays."""

    def __init__(self, name, number, key):
        loop = asyncio.get_running_loop()
        self.number = number
        self.connected, self.settled = loop.create_future(), loop.create_future()
        self.is_gone = False
        self._name, self._key, self._read = name, key, b""

    def connection_made(self, transport):
        self.transport = transport
        transport.write(connect(f"{self._name}-{self.number}", self._name, self._key))

    def data_received(self, data):
        self._read += data
        if not self.connected.done() and len(self._read) >= 4:
            self.connected.set_result(self._read[:4])
            payload = json.dumps({"value": self.number}).encode()
            self.transport.write(publish(f"measurements/{self._name}", payload))
        if len(self._read) >= 8:
            self.settled.set_result(self._read[4:])

    def connection_lost(self, exc):
        self.is_gone = True
        for future in (self.connected, self.settled):
            if not future.done():
                future.set_exception(exc or ConnectionResetError(self._name))


async def test_thousands_connect_at_once_over_mqtt(make_server, sqlite_database):
    server = await make_server(sqlite_database.url, LOG_LEVEL="info")
    names = [f"pump-{n}" for n in range(-(-CONNECTED // OF_A_DEVICE))]
    keys = [await server.device(name) for name in names]
    before = server.resident_bytes()
    loop, began = asyncio.get_running_loop(), time.monotonic()
    devices = [Device(names[n % len(names)], n, keys[n % len(names)]) for n in range(CONNECTED)]
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(
            *(loop.create_connection(lambda d=d: d, "127.0.0.1", server.mqtt_port) for d in devices)
        )
        answers = await asyncio.gather(*(device.connected for device in devices))
        connected = time.monotonic() - began
        settled = await asyncio.gather(*(device.settled for device in devices))
    all_settled = time.monotonic() - began
    growth = server.resident_bytes() - before
    print(
        f"mqtt: {CONNECTED} connected in {connected:.2f} s, settled in {all_settled:.2f} s,"
        f" {server.cpu_seconds():.2f} s of CPU, {growth >> 20} MiB more"
    )
    assert set(answers) == {b"\x20\x02\x00\x00"}
    assert set(settled) == {b"\x40\x02\x00\x01"}
    assert await server.metric("heliograph_mqtt_connections") == CONNECTED
    assert not any(device.is_gone for device in devices)
    stored = sqlite_database.column("SELECT value FROM measurement")
    assert sorted(map(int, stored)) == list(range(CONNECTED))
    # Beside what a server takes for its caches whoever is connected.
    assert growth <= (16 << 20) + CONNECTED * CONNECTION_BYTES
    for device in devices:
        device.transport.abort()
    await server.stop()
    assert "Traceback" not in server.said


async def posted(server, head, number):
    """Post over a connection that stays; return it, the status and how often it was closed."""
    body = json.dumps({"device_id": "pump", "n": number}).encode()
    closed = 0
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(head % len(body) + body)
            status = (await reader.readuntil(b"\r\n\r\n"))[9:12]
        except (asyncio.IncompleteReadError, OSError):
            closed += 1
            writer.close()
            await asyncio.sleep(0.05)  # as clients do that were refused
        else:
            return writer, status, closed


async def test_thousands_post_at_once_over_http(make_server, sqlite_database):
    server = await make_server(sqlite_database.url, LOG_LEVEL="info")
    key = await server.device("pump")
    head = (
        "POST /api/v1/ingest HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n"
        f"x-api-key: {key}\r\ncontent-length: %d\r\n\r\n"
    ).encode()
    before, began = server.resident_bytes(), time.monotonic()

    async def post(numbers):
        async with asyncio.timeout(SECONDS):
            found = await asyncio.gather(*(each(number) for number in numbers))
        return sum(closed for _, closed in found), {status for status, _ in found}

    held = []

    async def each(number):
        writer, status, closed = await posted(server, head, number)
        if number < room:
            held.append(writer)
        else:
            writer.close()
        return status, closed

    # Some are left for who asks whether it is ready.
    room = min(POSTING, MAXIMUM_HTTP_CONNECTIONS - 24)
    assert await post(range(room)) == (0, {b"201"})
    below = time.monotonic() - began
    most = server.resident_bytes()
    for writer in held:
        writer.close()
    closed, statuses = await post(range(room, room + POSTING))
    print(
        f"http: {room} in {below:.2f} s, {(most - before) >> 20} MiB more; {POSTING} more in"
        f" {time.monotonic() - began - below:.2f} s, closed {closed} times,"
        f" {server.cpu_seconds():.2f} s of CPU"
    )
    assert statuses == {b"201"}
    assert most - before <= (16 << 20) + room * (32 << 10)
    stored = sqlite_database.column("SELECT json_extract(value, '$.n') FROM measurement")
    assert sorted(map(int, stored)) == list(range(room + POSTING))
    await server.stop()
    assert "Traceback" not in server.said
