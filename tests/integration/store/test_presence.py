"""Which sensors are connected, stored on both engines."""

import uuid

import pytest

from heliograph.model.presence import presence
from heliograph.store import open_store
from heliograph.store.engine import Batch
from heliograph.store.sensors import Connections

NOON = 1_768_478_400_000_000


@pytest.fixture
def register(store):
    async def register(**members):
        sensor = await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1, **members)
        return sensor.number

    return register


async def test_connections_are_noted_together_and_told_back(store, register):
    one, two = await register(device_id="one"), await register()
    version = (await store.sensors.newest_change()).version
    noted = await store.connections.note(
        [(one, True, NOON), (two, False, NOON + 1), (999, True, NOON)]
    )
    assert {s.number: (s.connection_open, s.connection_at) for s in noted} == {
        one: (True, NOON),
        two: (False, NOON + 1),
    }
    assert await store.sensors.find("one") in noted
    # Caches hold none of it.
    assert (await store.sensors.newest_change()).version == version


async def test_what_was_noted_by_another_is_confirmed(store, register):
    one, two = await register(), await register()
    await store.connections.note([(one, True, NOON), (two, False, NOON + 9)])
    await store.connections.confirm([(one, True, NOON + 5), (two, True, NOON + 5)])
    found = [await store.sensors.find_number(number) for number in (one, two)]
    assert [(s.connection_open, s.connection_at) for s in found] == [
        (True, NOON),
        (True, NOON + 5),
    ]


async def test_the_end_of_a_server_ends_what_hung_on_it(store, register):
    numbers = [await register() for _ in range(5)]
    live, gateway, brokers, over, _ = numbers
    await store.connections.note([(live, True, NOON), (over, False, NOON)])
    await store.write(
        Batch(
            statuses=[
                (live, NOON + 1, "online", False),
                (gateway, NOON + 99, "online", False),
                (brokers, NOON + 1, "online", True),
                (over, NOON - 1, "online", False),
            ]
        )
    )
    await store.connections.end(NOON + 50)
    found = [presence(await store.sensors.find_number(number)) for number in numbers]
    assert found == [
        (False, NOON + 50),
        (False, NOON + 99),  # not before it was said
        (True, NOON + 1),
        (False, NOON),
        (None, None),
    ]
    # Only what hung on it, and only once.
    await store.connections.end(NOON + 500)
    assert [presence(await store.sensors.find_number(number)) for number in numbers] == found


async def test_a_start_ends_no_connection_to_another_server(postgresql_url):
    store = await open_store(postgresql_url)
    try:
        sensors = [
            await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1) for _ in range(5)
        ]
        here, gone, older, gateway, moved = numbers = [sensor.number for sensor in sensors]
        connections = Connections(store.engine)
        await connections.note([(here, True, NOON), (moved, True, NOON)], "lives")
        await connections.note([(gone, True, NOON)], "killed")
        await store.connections.note([(older, True, NOON)])
        await store.write(Batch(statuses=[(gateway, NOON, "online", False)]))
        # The connection to the killed server ends after the one to this has begun.
        ended = [(moved, False, NOON + 5), (here, False, NOON + 5)]
        assert await connections.note(ended, "other") == []

        async def shown():
            return [presence(await store.sensors.find_number(number)) for number in numbers]

        await store.connections.end(NOON + 50, ["lives"])
        assert await shown() == [
            (True, NOON),
            (False, NOON + 50),
            (False, NOON + 50),
            (True, NOON),
            (True, NOON),
        ]
        await connections.note([(moved, False, NOON + 60)], "lives")
        # It stood still, and was taken for gone.
        await store.connections.end(NOON + 70)
        await connections.confirm([(here, True, NOON)], "lives")
        await store.connections.end(NOON + 80, ["lives"])
        assert await shown() == [
            (True, NOON),
            (False, NOON + 50),
            (False, NOON + 50),
            (False, NOON + 70),
            (False, NOON + 60),
        ]
    finally:
        await store.close()


async def test_since_when_a_status_is_what_it_is(store, register):
    number = await register()

    async def said(moment, status, by_broker):
        await store.write(Batch(statuses=[(number, moment, status, by_broker)]))
        found = await store.sensors.find_number(number)
        return found.status_at, found.status_since, found.status_by_broker

    assert await said(NOON, "online", False) == (NOON, NOON, False)
    assert await said(NOON + 1, "online", True) == (NOON + 1, NOON, True)
    assert await said(NOON + 2, "offline", True) == (NOON + 2, NOON + 2, True)
    assert await said(NOON + 1, "online", False) == (NOON + 2, NOON + 2, True)


async def test_a_status_that_was_cleared_is_none(store, register):
    number = await register()
    for moment, status in ((NOON, "online"), (NOON + 1, None), (NOON + 2, None)):
        await store.write(Batch(statuses=[(number, moment, status, True)]))
        sensor = await store.sensors.find_number(number)
        assert (sensor.status, presence(sensor).connected) == (status, status and True)
    await store.write(Batch(statuses=[(number, NOON + 1, "online", True)]))
    assert (await store.sensors.find_number(number)).status is None
    await store.write(Batch(statuses=[(number, NOON + 3, "offline", True)]))
    assert presence(await store.sensors.find_number(number)) == (False, NOON + 3)


async def test_out_of_service_what_was_said_is_forgotten(store, register):
    one, two = await register(), await register()
    for number in (one, two):
        await store.write(Batch(statuses=[(number, NOON, "online", True)]))
    await store.sensors.change(one, name="still in service")
    assert (await store.sensors.find_number(one)).status == "online"
    await store.sensors.change(one, is_active=False)
    await store.sensors.delete(two, NOON + 1)
    for number in (one, two):
        assert presence(await store.sensors.find_number(number)) == (None, None)
    await store.sensors.change(one, is_active=True)
    assert presence(await store.sensors.find_number(one)) == (None, None)
