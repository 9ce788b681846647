"""A full disk: not ready, nothing acknowledged, nothing lost; once freed it goes on by itself.

PostgreSQL gets a table space on a small disk of its own; its log (WAL) stays where it is, for
without that it does not run at all, which is the same as its absence.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from database_copies import migrated_database
from faults.database import PostgresqlDatabase, SqliteFile, check_once, values
from faults.http_sender import HttpSender
from faults.sender import Sender, timed, untimed

MESSAGES = 4_000
SECONDS = 90


@pytest.fixture
def small_disk():
    """A file system of 48 MiB, where PostgreSQL's user gets to as well."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder = Path(tempfile.mkdtemp(prefix="heliograph-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def fill(folder):
    """Leave no byte free, and return the ballast."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4_096)
        except OSError:
            pass
    return ballast


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


async def test_sqlite(make_server, small_disk):
    path = small_disk / "heliograph.db"
    shutil.copy(migrated_database(), path)
    database = SqliteFile(path)
    server = await make_server(database.url)
    await goes_on(server, database, small_disk)


async def test_postgresql(make_server, postgresql_cluster, postgresql_template, small_disk):
    cluster = postgresql_cluster
    space = small_disk / "space"
    space.mkdir()
    shutil.chown(space, "postgres")
    cluster.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
    name = f"small_{os.getpid()}"
    cluster.execute(f'CREATE DATABASE "{name}" TEMPLATE "{postgresql_template}" TABLESPACE small')
    try:
        database = PostgresqlDatabase(cluster, name)
        server = await make_server(database.url)
        await goes_on(server, database, small_disk)
        assert cluster.is_running()
    finally:
        cluster.drop_database(name)
        cluster.execute("DROP TABLESPACE small")
