"""What still waits for its commit when a sensor is erased is erased as well."""

import asyncio
import contextlib

import pytest

from heliograph.errors import HeliographError
from heliograph.ingest import pipeline
from heliograph.ingest.leftovers import Leftovers
from heliograph.model.time import now
from heliograph.store import open_store
from ingest_core import NOON, running
from server import eventually

READING = {"value": 1, "timestamp": NOON}


async def test_who_erases_waits_for_what_waits_of_the_sensor_alone(plain_core, monkeypatch):
    core = plain_core
    pump, fan = await core.device("pump"), await core.device("fan")
    async with core.blocked():
        await core.publish("measurements/pump", READING)
        waiting = asyncio.create_task(core.pipeline.passed((pump.number,)))
        await asyncio.sleep(0)
        await core.pipeline.passed((fan.number,))
        assert not waiting.done()
        monkeypatch.setattr(pipeline, "PASS_SECONDS", 0.01)
        with pytest.raises(HeliographError, match="takes too long"):
            await core.pipeline.passed((pump.number,))
    await waiting
    assert await core.values(pump) == [1]
    await core.pipeline.passed((pump.number,))


async def test_who_erases_waits_for_what_is_in_the_writer(plain_core):
    core = plain_core
    pump = await core.device("pump")
    core.store.free.clear()
    core.store.started.clear()
    await core.publish("measurements/pump", READING)
    await core.store.started.wait()
    waiting = asyncio.create_task(core.pipeline.passed((pump.number,)))
    await asyncio.sleep(0)
    assert not waiting.done()
    core.store.free.set()
    await waiting
    assert await core.values(pump) == [1]


async def test_what_another_server_commits_late_is_erased(postgresql_url):
    async with contextlib.AsyncExitStack() as stack:
        cores = []
        for _ in range(2):
            store = await open_store(postgresql_url)
            stack.push_async_callback(store.close)
            cores.append(await stack.enter_async_context(running(store, leased=True)))
        here, there = cores
        leftovers = Leftovers(there.store, there.pipeline)
        there.registry.erased_elsewhere.add(leftovers.erased)
        erasing = asyncio.create_task(leftovers.run())
        pump, fan = await here.device("pump"), await here.device("fan")
        await there.registry.changed()
        async with there.blocked():
            await there.publish("measurements/pump", READING)
            await there.publish("measurements/fan", READING)
            assert await here.store.sensors.delete(pump.number, now(), erases=True)
            await here.store.sensors.erase(pump.number)
            await there.registry.changed()
        await eventually(lambda: not leftovers._numbers)
        assert await here.values(pump) == []
        assert await here.values(fan) == [1]
        # It has sent nothing to the other one: nothing can be left there.
        await here.store.sensors.delete(fan.number, now(), erases=True)
        await here.store.sensors.erase(fan.number)
        await here.registry.changed()
        assert await here.values(fan) == []
        erasing.cancel()
