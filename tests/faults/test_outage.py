"""PostgreSQL dies and comes back under load; the server goes on by itself.

HELIOGRAPH_OUTAGE_SECONDS is how long it stays away.
"""

import asyncio
import os
import time

import pytest

from faults.database import check_once, values
from faults.http_sender import HttpSender
from faults.process import condition
from faults.sender import Publication, Sender, timed, untimed

OUTAGE_SECONDS = float(os.environ.get("HELIOGRAPH_OUTAGE_SECONDS", "1"))
MESSAGES = int(os.environ.get("HELIOGRAPH_MESSAGES", "5000"))
LONG = {"OUTAGE_SECONDS": 3.0, "MESSAGES": 10_000}
IN_FLIGHT_BYTES = 2 << 20
SECONDS = 90


@pytest.fixture
async def server(make_server, stoppable_database):
    return await make_server(stoppable_database.url, MAX_IN_FLIGHT_BYTES=str(IN_FLIGHT_BYTES))


async def crash(cluster, senders, at):
    """Stop PostgreSQL as a crash would, once so much is acknowledged."""
    await condition(
        lambda: sum(len(sender.acknowledged) for sender in senders) >= at, what="progress"
    )
    await asyncio.to_thread(cluster.stop, immediate=True)


async def test_postgresql_crashes_under_load(server, stoppable_database):
    cluster, start = stoppable_database.cluster, time.time() - 3_600
    count = MESSAGES
    keys = {name: await server.device(name) for name in ("timed", "untimed")}
    senders = [
        Sender(server.mqtt_port, "timed", keys["timed"], timed("timed", count, start)),
        Sender(server.mqtt_port, "untimed", keys["untimed"], untimed("untimed", count)),
    ]  # fmt: skip
    poster = HttpSender(server.port, await server.device("posting"), count, idempotent=True)
    everyone = [*senders, poster]
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(sender.run()) for sender in everyone]
        await crash(cluster, everyone, count // 4)
        assert not all(task.done() for task in running), "the load is too small"
        await server.ready(status=503)
        # What was acknowledged before may still be on its way to the clients.
        await asyncio.sleep(0.2)
        acknowledged = [len(sender.acknowledged) for sender in everyone]

        async with server.client() as client:
            answer = await client.post(
                "/sensors/posting/measurements", json={"timestamp": start, "value": 1}
            )
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["code"] == "DATABASE_UNAVAILABLE"
        await asyncio.sleep(OUTAGE_SECONDS)
        assert acknowledged == [len(sender.acknowledged) for sender in everyone]

        await asyncio.to_thread(cluster.start)
        await server.ready()
        await asyncio.gather(*running)

    assert server.starts == 1
    assert server.is_running()
    assert [sender.connections for sender in senders] == [1, 1], "a connection was dropped"
    assert poster.statuses <= {201, 503}
    await server.stop()
    for sender in senders:
        check_once(values(stoppable_database, sender.device_id), sender.values)
    check_once(values(stoppable_database, "posting"), poster.values)


async def test_what_is_in_flight_is_bounded(server, stoppable_database):
    cluster, start = stoppable_database.cluster, time.time() - 3_600
    padding = b"x" * 2_000
    publications = [
        Publication(
            "measurements/flood",
            b'{"timestamp":%.3f,"value":{"n":%d,"x":"%b"}}' % (start + n / 1_000, n, padding),
            f'{{"n":{n},"x":"{padding.decode()}"}}',
        )
        for n in range(10_000)
    ]
    # Of a persistent session nothing is known without the database: its client comes later.
    sender = Sender(
        server.mqtt_port,
        "flood",
        await server.device("flood"),
        publications,
        window=9_000,
        clean=True,
    )
    await asyncio.to_thread(cluster.stop, immediate=True)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(sender.run())
        await server.ready(status=503)
        most = 0.0
        for _ in range(10):
            most = max(most, await server.metric("heliograph_ingest_bytes_in_flight"))
            await asyncio.sleep(0.05)
        # Full, and over it no more than what one read of the socket had brought.
        assert IN_FLIGHT_BYTES <= most < IN_FLIGHT_BYTES + (1 << 20)
        assert not sender.acknowledged
        await asyncio.to_thread(cluster.start)
    await server.stop()
    assert sender.connections == 1
    check_once(values(stoppable_database, "flood"), sender.values)
