"""File descriptors used up: one line in the log, and it goes on when there are some again."""

import asyncio
import contextlib
import resource
import socket
from pathlib import Path

from faults.process import condition
from mqtt_client import Client, publish

USED_UP = "file descriptors used up"


async def test_file_descriptors_used_up_are_told_once(make_server, sqlite_database):
    server = await make_server(sqlite_database.url, LOG_LEVEL="info")
    key = await server.device("pump-1")
    pid = server.process.pid
    limit = len(list(Path(f"/proc/{pid}/fd").iterdir())) + 8
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
    with contextlib.ExitStack() as connections:
        for port in (server.mqtt_port, server.port):
            for _ in range(40):
                connected = socket.create_connection(("127.0.0.1", port), 30)
                connections.enter_context(connected)
            # All of them have been taken, or closed.
            await condition(lambda: USED_UP in server.said, what="the line in the log")
    await condition(lambda: "file descriptors available again" in server.said)
    client = await Client.connected(server.mqtt_port, "pump-1", "pump-1", key)
    client.send(publish("measurements/pump-1", b'{"value": 1}'))
    assert await client.packet() == b"\x40\x00\x01"
    await client.close()
    async with server.client() as http, asyncio.timeout(60):
        sent = await http.post("/ingest", json={"device_id": "pump-1", "t": 1})
        assert sent.status_code == 201
    assert server.said.count(USED_UP) == 1
    assert "Traceback" not in server.said
