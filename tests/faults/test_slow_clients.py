"""Clients that are slow, or want to be in the way: the others do not notice."""

import asyncio
import socket
import time

import pytest

from faults.database import check_once, values
from faults.process import ADMIN_KEY
from faults.sender import Sender, timed
from mqtt_client import Client, connect, publish
from server import eventually

SLOW = 100
MIB = 1 << 20


@pytest.fixture
def database(sqlite_database):
    """One engine will do: nothing of this is about the store."""
    return sqlite_database


async def others_are_served(server, database, name):
    """Check that a device gets its messages acknowledged, and a post its answer."""
    sender = Sender(
        server.mqtt_port, name, await server.device(name), timed(name, 500, time.time() - 3_600)
    )
    async with asyncio.timeout(60):
        await sender.run()
    async with server.client() as client:
        answer = await client.post(
            f"/sensors/{name}/logs", json={"severity": "info", "subject": "x"}
        )
        assert answer.status_code == 201, answer.text
    assert await server.readiness() == 200
    check_once(values(database, name), sender.values)


async def test_http_heads_and_bodies_that_trickle(server, database):
    head = b"POST /ingest HTTP/1.1\r\nHost: x\r\nX-API-Key: " + ADMIN_KEY.encode()
    whole = head + b"\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
    before = server.resident_bytes()
    writers = []
    for at in range(2 * SLOW):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head[:40] if at % 2 else whole)
        writers.append(writer)
    for _ in range(20):
        for writer in writers:
            writer.write(b"x")
        await asyncio.sleep(0)
    await others_are_served(server, database, "quick")
    assert server.resident_bytes() - before < 16 * MIB
    for writer in writers:
        writer.close()


async def test_many_pipelined_requests_whose_answers_nobody_reads(server, database):
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    before = server.resident_bytes()
    writers = []
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=4_096)
        writer.transport.pause_reading()
        writer.write(request * 20_000)
        writers.append(writer)
    await others_are_served(server, database, "quick")
    assert server.resident_bytes() - before < 48 * MIB
    for writer in writers:
        writer.transport.abort()
    await others_are_served(server, database, "quicker")
    assert "Traceback" not in server.said
    assert "socket.send() raised" not in server.said


async def test_many_large_bodies_that_do_not_end(server, database):
    head = b"POST /ingest/batch HTTP/1.1\r\nHost: x\r\nX-API-Key: " + ADMIN_KEY.encode()
    head += b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (8 * MIB)
    before = server.resident_bytes()
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(30)]
    for _, writer in opened:
        writer.write(head + b" " * (7 * MIB))
    # What is put off is read and thrown away, so that all of them get rid of what they send.
    async with asyncio.timeout(60):
        await asyncio.gather(*(writer.drain() for _, writer in opened))
    answers = []
    for reader, _ in opened:
        try:
            answers.append(await asyncio.wait_for(reader.readline(), 0.2))
        except TimeoutError:
            answers.append(b"")
    assert answers.count(b"") == 4
    assert sum(b" 503 " in answer for answer in answers) == 26
    await others_are_served(server, database, "quick")
    assert server.resident_bytes() - before < 96 * MIB
    for _, writer in opened:
        writer.close()


async def test_http_connections_that_send_nothing(server, database):
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(1_100)]

    def refused():
        return sum(reader.at_eof() or reader.exception() is not None for reader, _ in opened)

    await eventually(lambda: refused() >= 1_100 - 1_024, 9)
    # The others have ten seconds to say something.
    async with asyncio.timeout(60):
        await asyncio.gather(*(reader.read(1) for reader, _ in opened), return_exceptions=True)
    await others_are_served(server, database, "quick")
    for _, writer in opened:
        writer.close()


async def test_an_mqtt_client_that_sends_byte_by_byte(server, database):
    key = await server.device("slow")
    client = await Client.open(server.mqtt_port)
    client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in connect("slow", "slow", key) + publish("measurements/slow", b'{"value":{"n":1}}'):
        client.send(bytes([byte]))
        await client.writer.drain()
        await asyncio.sleep(0.001)
    assert await client.packet() == b"\x20\x00\x00"
    assert await client.packet() == b"\x40\x00\x01"
    assert values(database, "slow") == {'{"n":1}': 1}


async def test_mqtt_clients_that_stop_within_a_packet(server, database):
    key = await server.device("slow")
    before = server.resident_bytes()
    clients = []
    for at in range(20):
        client = await Client.open(server.mqtt_port)
        hello = connect(f"slow-{at}", "slow", key)
        body = publish("measurements/slow", b"x" * 900_000)
        client.send(hello + body[: len(body) // 2] if at % 2 else hello[:-1])
        clients.append(client)
    await others_are_served(server, database, "quick")
    assert server.resident_bytes() - before < 32 * MIB
    for client in clients:
        await client.abort()
    assert not values(database, "slow")


async def test_an_mqtt_client_that_never_reads(server, database):
    key = await server.device("deaf")
    before = server.resident_bytes()
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    deaf.connect(("127.0.0.1", server.mqtt_port))
    deaf.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(deaf, connect("deaf", "deaf", key))
    await loop.sock_sendall(deaf, publish("measurements/deaf", b'{"value":{"n":1}}'))
    # Each is answered, with no database in between.
    piece = b"\xc0\x00" * 50_000
    sent = 0
    stopped = False
    while not stopped and sent < 64 * MIB:
        try:
            async with asyncio.timeout(3):
                await loop.sock_sendall(deaf, piece)
            sent += len(piece)
        except TimeoutError:
            stopped = True
    try:
        assert stopped, "the server reads on from a client that takes no answers"
        await others_are_served(server, database, "quick")
        assert server.resident_bytes() - before < 32 * MIB
    finally:
        deaf.close()
    assert values(database, "deaf") == {'{"n":1}': 1}
    assert server.is_running()
