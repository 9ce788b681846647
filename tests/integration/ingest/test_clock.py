"""A clock that was ahead: for a while, and from the start on until somebody accepts it."""

import pytest

from heliograph.errors import ErrorCode, HeliographError
from heliograph.ingest.clock import ClockWatch
from heliograph.model.time import DAY, SECOND, now
from heliograph.store.clock import Acceptance
from ingest_core import clock_moved, running

LOGS = [{"severity": "info", "subject": "started"}]


def watch(core):
    return ClockWatch(core.store, core.clock, core.registry, core.pipeline.latest)


async def accept(store):
    """Do what `heliograph clock accept` does."""
    newest_id, newest_receipt = await store.newest()
    await store.clock.accept(Acceptance(now(), newest_id, newest_receipt))


async def latest(core, sensor):
    found = await core.pipeline.latest.read(sensor)
    assert found == await core.store.measurements.latest(sensor.number)
    return {attribute.name: attribute.value for attribute in found}


async def test_a_clock_that_was_ahead_for_seconds_does_not_stop_ingest(store):
    async with running(store) as core:
        sensor = await core.device("pump")
        await core.publish("measurements/pump", {"value": 1})
        with clock_moved(core.clock, 2 * DAY):
            await core.publish("measurements/pump", {"value": 2})
            assert not core.state.clock_behind
            assert core.clock.ahead
        await core.publish("measurements/pump", {"value": 3})
        await core.settled()
        assert not core.state.clock_behind
    async with running(store) as core:
        assert not core.state.clock_behind
        await core.publish("measurements/pump", {"value": 4})
        await core.settled()
        rows = await core.rows(sensor)
        assert await core.values(sensor) == [1, 2, 3, 4]
    assert all(abs(row.receipt_timestamp - now()) < 600 * SECOND for row in rows)
    assert rows[-1].receipt_timestamp <= now() + SECOND


async def stored_ahead(store, *, by):
    """Store messages of a sensor by a clock that is ahead, from the start on."""
    async with running(store, clock_ahead=by) as core:
        sensor = await core.device("pump")
        await core.publish("measurements/pump", {"value": {"t": 1, "old": 1}})
        await core.publish("measurements/pump", {"timestamp": now() / 1e6, "value": {"timed": 1}})
        await core.publish("logs/pump", LOGS)
        await core.publish("heartbeats/pump", {})
        await core.publish("status/pump", b"online")
        await core.settled()
        await core.registry.flush()
        return sensor


async def test_an_accepted_clock_goes_on_at_once_and_changes_nothing_stored(store, monkeypatch):
    sensor = await stored_ahead(store, by=2 * DAY)
    highest, _ = await store.newest()
    async with running(store) as core:
        before = await core.rows(sensor)
        assert core.state.clock_behind
        watching = watch(core)
        await watching.begin()
        await watching.look()
        with pytest.raises(HeliographError) as caught:
            await core.publish("measurements/pump", {"value": {"t": 2}})
        assert caught.value.code is ErrorCode.CLOCK_BEHIND
        assert "heliograph clock accept" in caught.value.detail
        await accept(store)
        await watching.look()
        assert not core.state.clock_behind
        # What was stored with a time of its own that is past counts.
        assert await latest(core, sensor) == {"timed": 1}
        await core.publish("measurements/pump", {"value": {"t": 2}})
        await core.publish("status/pump", b"offline")
        await core.settled()
        assert await latest(core, sensor) == {"t": 2, "timed": 1}
        rows = await core.rows(sensor)
        assert [row for row in rows if row.id <= highest] == before
        (new,) = [row for row in rows if row.id > highest]
        assert abs(new.receipt_timestamp - now()) < 600 * SECOND
        await core.registry.flush()
        known = await core.store.sensors.find("pump")
        assert known.last_seen_at <= now() + SECOND
        assert known.last_measurement_at <= now() + SECOND
        assert known.status == "offline"
        assert known.status_at <= now() + SECOND
    # And after a restart.
    async with running(store) as core:
        assert not core.state.clock_behind
        await watch(core).begin()
        assert core.pipeline.latest._lasts == 1.0
        await core.publish("measurements/pump", {"value": {"t": 3}})
        await core.settled()
        assert await latest(core, sensor) == {"t": 3, "timed": 1}
        newest, receipt = await store.newest()
        assert newest > new.id
        assert receipt <= now() + SECOND
    # Once its time has passed it counts like any other.
    later = now() + 4 * DAY
    monkeypatch.setattr("heliograph.store.measurements.now", lambda: later)
    found = await store.measurements.latest(sensor.number)
    assert {each.name: each.value for each in found} == {"t": 1, "old": 1, "timed": 1}


async def test_a_clock_that_was_years_ahead_is_accepted_twice(store):
    sensor = await stored_ahead(store, by=3 * 365 * DAY)
    for value in (1, 2):
        async with running(store) as core:
            assert core.state.clock_behind
        await accept(store)
        async with running(store) as core:
            await core.publish("measurements/pump", {"value": {"t": value}})
            await core.settled()
            assert await latest(core, sensor) == {"t": value, "timed": 1}
        if value == 1:
            async with running(store, clock_ahead=365 * DAY) as core:
                await core.publish("measurements/pump", {"value": {"t": 5}})
                await core.settled()
    ids = [
        row.id
        for row in await store.measurements.page(
            sensor.number, key=None, direction="next", limit=100
        )
    ]
    assert len(set(ids)) == len(ids) == 5


async def test_a_sensor_is_not_seen_in_the_future(store):
    """A time from beyond the accepted one gives way; others never move back."""
    sensor = await stored_ahead(store, by=2 * DAY)
    ahead = (await store.sensors.find("pump")).last_seen_at
    assert ahead > now() + DAY
    moment = now()
    await store.sensors.touch([(sensor.number, moment, None)])
    assert (await store.sensors.find("pump")).last_seen_at == ahead
    await accept(store)
    await store.sensors.touch([(sensor.number, moment, None)])
    found = await store.sensors.find("pump")
    assert (found.last_seen_at, found.last_measurement_at) == (moment, None)
    await store.sensors.touch([(sensor.number, moment - 1, moment - 1)])
    found = await store.sensors.find("pump")
    assert (found.last_seen_at, found.last_measurement_at) == (moment, moment - 1)
