"""Two servers on one PostgreSQL, of which one stands still for longer than its lease."""

import asyncio
import os
import signal

import psycopg
import pytest

from faults.process import ServerProcess, condition
from heliograph.model.identifiers import MAXIMUM_INSTANCE

# The program, whose lease is short enough for a test.
BRIEF = """
from heliograph.cli.main import run
from heliograph.ingest import instance
instance.LEASE_SECONDS = 0.5
run()
"""


@pytest.fixture
async def start(postgresql_database, tmp_path):
    """Return a function that starts one more server."""
    servers = []

    async def start(module="brief"):
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        (folder / "brief.py").write_text(BRIEF)
        server = ServerProcess(
            folder,
            postgresql_database.url,
            module=module,
            AUTO_MIGRATE="false",
            MQTT_LISTEN="",
        )
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        await server.stop()


async def instance(server):
    async with server.client() as client:
        return (await client.get("/readyz")).json()["instance"]


async def test_a_server_that_stood_still_longer_than_its_lease_makes_ids_of_its_own(
    start, postgresql_database
):
    stopped = await start()
    await stopped.device("pump")
    body = {"device_id": "pump", "t": 1}
    async with stopped.client() as client:
        os.kill(stopped.process.pid, signal.SIGSTOP)
        try:
            # What it reads when it goes on, before it knows of anything.
            posts = [
                asyncio.create_task(client.post("/ingest", json={**body, "t": at}))
                for at in range(20)
            ]

            async def is_free():
                query = (
                    "SELECT free_at < extract(epoch FROM clock_timestamp()) * 1000000 FROM instance"
                )
                async with await psycopg.AsyncConnection.connect(
                    postgresql_database.url
                ) as connection:
                    return (await (await connection.execute(query)).fetchone())[0]

            await condition(is_free)
            other = await start()
            assert (await instance(other))["number"] == 0
            async with other.client() as second:
                for at in range(20, 40):
                    assert (await second.post("/ingest", json={**body, "t": at})).status_code == 201
        finally:
            os.kill(stopped.process.pid, signal.SIGCONT)
        answers = await asyncio.gather(*posts)
        assert [answer.status_code for answer in answers] == [201] * 20
        stored = (await client.get("/devices/pump/history")).json()
    assert sorted(row["metrics"]["t"] for row in stored) == list(range(40))
    ids = {int(row["id"]) for row in stored}
    assert len(ids) == 40
    told = {int(answer.json()["id"]) for answer in answers}
    assert {row_id & MAXIMUM_INSTANCE for row_id in told} == {1}
    assert told <= ids
    assert (await instance(stopped))["number"] == 1


async def test_after_a_kill_a_server_starts_at_once_as_another_instance(start):
    server = await start(None)
    assert (await instance(server))["number"] == 0
    server.kill()
    await server.ended()
    await server.start()
    told = await instance(server)
    assert (told["number"], told["others"]) == (1, [])
