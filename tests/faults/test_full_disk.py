"""A full disk: not ready, nothing acknowledged, nothing lost; once freed it goes on by itself.

PostgreSQL gets a table space on a small disk of its own; its log (WAL) stays where it is, for
without that it does not run at all, which is the same as its absence.
"""

import asyncio
import time

from faults.database import check_once, values
from faults.full_disk import fill
from faults.http_sender import HttpSender
from faults.sender import Sender, timed, untimed

MESSAGES = 4_000
SECONDS = 90


async def goes_on(server, database, folder):
    start = time.time() - 3_600
    senders = [
        Sender(server.mqtt_port, "timed", await server.device("timed"),
               timed("timed", MESSAGES, start), window=300),
        Sender(server.mqtt_port, "untimed", await server.device("untimed"),
               untimed("untimed", MESSAGES), window=300),
    ]  # fmt: skip
    poster = HttpSender(server.port, await server.device("posting"), 1_000, idempotent=True)
    ballast = fill(folder)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        for sender in (*senders, poster):
            tasks.create_task(sender.run())
        await server.ready(status=503)
        async with server.client() as client:
            answer = await client.post("/sensors/posting/measurements", json={"value": 1})
        assert answer.status_code == 503
        # What was acknowledged before the disk was full comes by and by: a log that is begun anew
        # has room for a batch more.
        before = None
        while before != (now := [len(sender.acknowledged) for sender in senders]):
            before = now
            await asyncio.sleep(1)
        assert sum(before) < MESSAGES, "the disk was not full"
        assert await server.readiness() == 503
        assert server.is_running()
        ballast.unlink()
        await server.ready()
    assert [sender.connections for sender in senders] == [1, 1], "a connection was dropped"
    assert server.starts == 1
    await server.stop()
    for sender in senders:
        check_once(values(database, sender.device_id), sender.values)
    check_once(values(database, "posting"), poster.values)


async def test_goes_on(make_server, database_on_small_disk, small_disk):
    server = await make_server(database_on_small_disk.url)
    await goes_on(server, database_on_small_disk, small_disk)
