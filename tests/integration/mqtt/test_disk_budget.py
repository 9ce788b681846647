"""A disk budget that is used up: nothing is acknowledged, nothing is lost, all else goes on."""

import pytest

from heliograph.model.time import DAY, now
from heliograph.store.engine import Batch
from mqtt_client import publish, published, subscribe
from rows import measurement
from server import eventually, running

PLENTY = 1 << 50


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look at the budget, and try to read on, more often."""
    for name in (
        "retention.disk_budget.CLOSE_SECONDS",
        "retention.disk_budget.WATCH_SECONDS",
        "mqtt.listener.SWEEP_SECONDS",
    ):
        monkeypatch.setattr(f"heliograph.{name}", 0.02)


async def use_up(server):
    disk = server.services.disk
    disk.budget = 1
    await eventually(lambda: disk.is_full)


async def ingest(server, device):
    headers = {"X-API-Key": device.key}
    return await server.http.post("/ingest", json={"t": 1}, headers=headers)


async def test_nothing_is_taken_and_all_comes_once_there_is_room(tmp_path, database_url):
    async with running(tmp_path, database_url=database_url, disk_budget=PLENTY) as server:
        device = await server.device()
        client = await server.connect(device)
        assert (await ingest(server, device)).status_code == 201
        await use_up(server)
        refused = await ingest(server, device)
        assert refused.status_code == 503
        assert refused.json()["code"] == "DISK_BUDGET_USED_UP"
        assert int(refused.headers["Retry-After"]) > 0
        for number, name in enumerate(("measurements", "logs", "heartbeats"), 1):
            body = {"severity": "info", "subject": "x"} if name == "logs" else {"value": number}
            sent = await server.http.post(f"/sensors/{device.device_id}/{name}", json=body)
            assert sent.status_code == 503
            payload = b'{"value": %d, "timestamp": 1700000000}' % number
            client.send(publish(device.topic, payload, packet_id=number))
        # What is no measurement would be kept as well.
        client.send(publish(device.topic, b"{", packet_id=4))
        (connection,) = server.listener._connections
        await eventually(lambda: connection.pauses)
        ready = await server.http.get("/readyz")
        assert ready.status_code == 503
        assert "disk budget" in ready.json()["reasons"][0]
        assert len(await server.values(device)) == 1
        assert server.state.depth == 0
        server.services.disk.budget = PLENTY
        answers = [await client.packet() for _ in range(4)]
        assert answers == [b"\x40\0%c" % number for number in range(1, 5)]
        assert sorted(await server.values(device)) == ["1", "2", "3", '{"t":1}']
        assert len(await server.rejected()) == 1
        assert (await ingest(server, device)).status_code == 201
        assert (await server.http.get("/readyz")).status_code == 200


async def test_reading_the_registry_and_configurations_go_on(tmp_path):
    async with running(tmp_path, disk_budget=PLENTY) as server:
        device = await server.device()
        await ingest(server, device)
        await use_up(server)
        other = await server.device("device-2")
        sensor = f"/sensors/{other.device_id}"
        posted = await server.http.post(f"{sensor}/configurations", json={"configuration": 1})
        assert posted.status_code == 201
        client = await server.connect(other)
        client.send(subscribe(f"configurations/{other.device_id}"))
        assert (await client.packet())[0] == 0x90
        assert b'"configuration":1' in published(await client.packet()).payload
        # A status takes no room.
        client.send(publish(f"status/{other.device_id}", b"online", packet_id=9))
        while (answer := await client.packet())[0] != 0x40:
            pass
        assert answer[2] == 9
        assert (await server.http.get(sensor)).json()["connected"]
        assert len(await server.measurements(device)) == 1
        assert (await server.http.patch(sensor, json={"name": "x"})).status_code == 200


async def test_a_server_that_starts_without_room_takes_nothing(tmp_path):
    async with running(tmp_path) as server:
        device = await server.device()
        assert server.services.disk.used > 0
    async with running(tmp_path, disk_budget=1) as server:
        assert (await ingest(server, device)).status_code == 503
        plan = (await server.http.get("/retention")).json()
        assert plan["disk"]["budget"] == 1


async def test_retention_makes_room(tmp_path, database_url, monkeypatch):
    """Once the owner lets go of what is old, without a restart."""
    monkeypatch.setattr("heliograph.retention.runs.SOON_SECONDS", 0.05)
    async with running(tmp_path, database_url=database_url, disk_budget=PLENTY) as server:
        device = await server.device()
        sensor = await server.store.sensors.find(device.device_id)
        old = now() - 200 * DAY
        rows = [measurement(sensor.number, old + at, "x" * 1_000) for at in range(10_000)]
        await server.store.write(Batch(measurements=rows))
        disk = server.services.disk
        await eventually(lambda: disk.used > 10_000_000)
        await server.store.removal.empty_log()
        disk.budget = await server.store.removal.used()
        await eventually(lambda: disk.is_full)
        client = await server.connect(device)
        client.send(publish(device.topic, b'{"value": 1}'))
        (connection,) = server.listener._connections
        await eventually(lambda: connection.pauses)
        said = {"raw_days": 30, "rollup_days": 30}
        network = server.services.registry.default_network
        changed = await server.http.put(f"/networks/{network}/retention", json=said)
        assert changed.status_code == 200
        assert await client.packet(30) == b"\x40\0\x01"
        values = await server.values(device)
        assert values[-1] == "1"
        # On PostgreSQL a whole month is dropped.
        dropped = server.services.retention.state.partitions_total
        assert dropped == (0 if database_url.startswith("sqlite") else 1)
