"""SIGTERM and SIGHUP while the database is away: one budget of time, and no 500."""

import asyncio
import contextlib
import os
import pty
import time

import asyncpg

from faults.database import PostgresqlDatabase, values
from faults.process import ServerProcess, condition
from mqtt_client import Client, publish

BUDGET_SECONDS = 3.0
# What else a process may take to go on a machine that others use too.
SLACK = 4


@contextlib.asynccontextmanager
async def away(database):
    """Let nothing be written to the database, nor be refused at once where it can hang."""
    if isinstance(database, PostgresqlDatabase):
        connection = await asyncpg.connect(database.cluster.dsn(database.name))
        try:
            await connection.execute("BEGIN")
            await connection.execute("LOCK TABLE measurement, configuration, sensor")
            yield
        finally:
            await connection.close()
        return
    elsewhere = database.path.with_name("elsewhere.db")
    database.path.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(database.path)


async def test_the_whole_end_has_one_budget_while_the_database_is_away(make_server, database):
    server = await make_server(database.url, SHUTDOWN_TIMEOUT=str(BUDGET_SECONDS))
    client = await Client.connected(
        server.mqtt_port, "pump-1", "pump-1", await server.device("pump-1")
    )
    async with away(database), server.client() as http:
        client.send(publish("measurements/pump-1", b'{"value": 1}'))
        if database.engine == "postgresql":
            body = {"configuration": {"a": 1}}
            posted = asyncio.create_task(http.post("/sensors/pump-1/configurations", json=body))
        else:
            posted = asyncio.create_task(http.get("/readyz"))
            await server.ready(status=503)
        ingested = asyncio.create_task(http.post("/ingest", json={"device_id": "pump-1", "t": 1}))

        async def is_taken():
            depth = await server.metric("heliograph_ingest_queue_depth")
            return ingested.done() or depth >= 2

        await condition(is_taken, what="the message and the request that wait, or are refused")
        began = time.monotonic()
        server.terminate()
        for answer in (await posted, await ingested):
            assert answer.status_code == 503
            assert answer.json().get("code") in ("SHUTTING_DOWN", "DATABASE_UNAVAILABLE", None)
        assert await server.ended() == 0, server.said[-2_000:]
        took = time.monotonic() - began
    assert took < SLACK * BUDGET_SECONDS
    assert "uncommitted messages left at the end" in server.said
    assert "Traceback" not in server.said


async def test_a_closed_terminal_drains_before_the_end(sqlite_database, tmp_path):
    """The kernel sends SIGHUP then, and nothing can be written to the log any more."""
    server = ServerProcess(tmp_path, sqlite_database.url, AUTO_MIGRATE="false", LOG_LEVEL="info")
    (tmp_path / "server.log").touch()
    ours, theirs = pty.openpty()
    try:
        await server.start_in(theirs)
        os.close(theirs)
        key = await server.device("pump-1")
        client = await Client.connected(server.mqtt_port, "pump-1", "pump-1", key)
        async with sqlite_database.held_up():
            client.send(publish("measurements/pump-1", b'{"value": 1}'))
            async with server.client() as http:
                await condition(lambda: waits(http), what="a message that waits")
            os.close(ours)
            await condition(lambda: is_refused(server.port), what="the end of HTTP")
        assert await client.packet() == b"\x40\x00\x01", "it is committed and acknowledged"
        assert await server.ended() == 0
    finally:
        await server.stop()
    assert values(sqlite_database, "pump-1") == {"1": 1}


async def waits(http):
    return (await http.get("/readyz")).json()["queue_depth"] > 0


async def is_refused(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False
