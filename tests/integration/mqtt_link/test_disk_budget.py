"""A disk budget that is used up: the broker keeps what it has, until there is room."""

import asyncio
import json

import pytest

from scripted_broker import message
from server import eventually, running

NOON = 1_768_478_400


@pytest.fixture
async def server(broker, tmp_path, monkeypatch):
    """Return a server with a budget, which is looked at more often than in earnest."""
    monkeypatch.setattr("heliograph.retention.disk_budget.CLOSE_SECONDS", 0.02)
    monkeypatch.setattr("heliograph.retention.disk_budget.WATCH_SECONDS", 0.02)
    options = {"mqtt_url": broker.url, "mqtt_listen": (), "disk_budget": 1 << 50}
    async with running(tmp_path, **options) as server:
        yield server


async def test_the_broker_is_told_of_nothing_and_keeps_it(broker, server, readiness):
    conversation = await broker.up()
    device = await server.device()
    disk = server.services.disk
    disk.budget, plenty = 1, disk.budget
    await eventually(lambda: disk.is_full)
    for number in range(1, 4):
        payload = json.dumps({"value": number, "timestamp": NOON + number}).encode()
        conversation.send(message(device.topic, payload, number))
    # Several tries to read on.
    await asyncio.sleep(0.2)
    assert conversation.unread == 0
    assert server.state.depth == 0
    assert await server.values(device) == []
    assert server.services.link.connected
    (reason,) = (await readiness(server))["reasons"]
    assert "disk budget" in reason
    disk.budget = plenty
    assert await conversation.acknowledged(3) == [1, 2, 3]
    assert await server.values(device) == ["1", "2", "3"]
    assert server.services.link.connects == 1
