"""A database put back under a running server: nothing of its later state is used."""

import asyncio
import sqlite3
import subprocess
import uuid
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from heliograph.errors import RolledBackError
from heliograph.model.credentials import hash_key
from heliograph.model.time import now
from heliograph.store import open_store
from heliograph.store.engine import Batch
from mqtt_client import publish
from postgresql import PROGRAMS
from rows import measurement
from server import blocked, eventually, running


def copy(path, other):
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(other)) as target:
        source.backup(target)


class Backup:
    """A copy of the database, and the way that a person would put it back while a server runs."""

    def __init__(self, database_url, folder):
        self.url = database_url
        self.file = folder / "backup"
        if database_url.startswith("sqlite"):
            copy(self._path, self.file)
        else:
            self._run("pg_dump", "--format=custom", "--file", str(self.file), self.url)

    @property
    def _path(self):
        return urlsplit(self.url).path

    def put_back(self):
        if self.url.startswith("sqlite"):
            copy(self.file, self._path)
        else:
            self._run(
                "pg_restore", "--clean", "--if-exists", "--single-transaction", "--exit-on-error",
                "--dbname", self.url, str(self.file),
            )  # fmt: skip

    def _run(self, program, *arguments):
        command = [PROGRAMS / program, *arguments]
        for _ in range(5):
            done = subprocess.run(
                command, stderr=subprocess.PIPE, text=True, timeout=60, check=False
            )
            # The server writes meanwhile: one of both gives way, and an operator tries again.
            if done.returncode == 0 or "deadlock detected" not in done.stderr:
                break
        assert done.returncode == 0, done.stderr


async def register(store, device_id, key="key"):
    return await store.sensors.create(
        identifier=str(uuid.uuid4()),
        network_identifier=None,
        device_id=device_id,
        key_hash=hash_key(key),
        created_at=now(),
    )


async def stored(store, number):
    return len(await store.measurements.page(number, key=None, direction="next", limit=10))


async def test_nothing_is_written_on_the_ground_of_a_later_state(store, database_url, tmp_path):
    await register(store, "before", "key-1")
    backup = Backup(database_url, tmp_path)
    sensor = await register(store, "after", "key-2")
    store.lineage.newest = later = await store.sensors.newest_change()
    await store.write(Batch(measurements=[measurement(sensor.number)]))

    await asyncio.to_thread(backup.put_back)
    other = await register_elsewhere(database_url, "another")

    # The same number of changes, and the same number of a sensor.
    newest = await store.sensors.newest_change()
    assert newest.version == later.version
    assert newest != later
    assert other.number == sensor.number
    for batch in (
        Batch(measurements=[measurement(sensor.number)]),
        Batch(statuses=[(sensor.number, now(), "online", False)]),
    ):
        with pytest.raises(RolledBackError):
            await store.write(batch)
    with pytest.raises(RolledBackError):
        await store.sensors.touch([(sensor.number, now(), None)])
    store.lineage.newest = newest
    assert await stored(store, other.number) == 0
    await store.write(Batch(measurements=[measurement(other.number)]))


async def register_elsewhere(database_url, device_id):
    elsewhere = await open_store(database_url)
    try:
        return await register(elsewhere, device_id, f"key of {device_id}")
    finally:
        await elsewhere.close()


async def test_what_was_found_before_is_not_written_after_it(store):
    store.lineage.newest = (await store.sensors.newest_change())._replace(token="another")
    with store.lineage.pinned():
        store.lineage.newest = await store.sensors.newest_change()
        with pytest.raises(RolledBackError):
            await register(store, "pump")
    await register(store, "pump")


async def test_a_database_put_back_drops_every_cache_session_and_connection(database_url, tmp_path):
    async with running(tmp_path, database_url=database_url) as server:
        kept = await server.device("kept")
        backup = Backup(database_url, tmp_path)
        later = await server.device("later")
        client = await server.connect(later, clean=False)
        client.send(publish(later.topic, b'{"value":1}', qos=1, packet_id=1))
        await client.packet()
        old = server.services.registry.cached("later")
        await server.services.latest.read(old)

        await asyncio.to_thread(backup.put_back)
        other = await register_elsewhere(database_url, "other")
        assert other.number == old.number
        client.send(publish(later.topic, b'{"value":2}', qos=1, packet_id=2))

        # Not acknowledged: the connection ends.
        assert await client.packet() == b""
        await eventually(lambda: server.services.registry.cached("other") is not None)
        registry = server.services.registry
        assert registry.cached("later") is None
        assert registry.number(old.number).device_id == "other"
        assert await server.services.latest.read(registry.cached("other")) == []
        assert await stored(server.store, other.number) == 0
        assert len(server.listener.sessions) == 0
        key = {"X-API-Key": later.key}
        response = await server.http.post("/ingest", json={"value": 3}, headers=key)
        assert response.status_code == 401
        response = await server.http.get("/devices/later/history")
        assert response.status_code == 404

        # What is in the backup goes on, and the new sensor is one of its own.
        key = {"X-API-Key": kept.key}
        response = await server.http.post("/ingest", json={"value": 4}, headers=key)
        assert response.status_code == 201, response.text
        key = {"X-API-Key": "key of other"}
        response = await server.http.post("/ingest", json={"value": 5}, headers=key)
        assert response.status_code == 201, response.text
        assert await stored(server.store, other.number) == 1
        assert (await server.http.get("/readyz")).status_code == 200


async def test_messages_that_are_dropped_for_it_are_counted(database_url, tmp_path):
    async with running(tmp_path, database_url=database_url) as server:
        await server.device("kept")
        backup = Backup(database_url, tmp_path)
        key = {"X-API-Key": (await server.device("later")).key}
        async with blocked(server) as started:
            sending = asyncio.create_task(
                server.http.post("/ingest", json={"value": 1}, headers=key), name="sending"
            )
            await started.wait()
            await asyncio.to_thread(backup.put_back)
        assert (await sending).status_code == 503
        metrics = (await server.http.get("/metrics")).text
        assert "heliograph_ingest_dropped_total 1.0\n" in metrics


async def test_what_no_sensor_sent_is_kept_after_it(core):
    store = core.store
    newest = store.lineage.newest
    store.lineage.newest = newest._replace(token="of a later state")
    async with core.blocked():  # with a message on a topic of no sensor in the writer
        store.lineage.newest = newest
    assert [message.source for message in await store.rejected.list(limit=9)] == ["nowhere/x"]
