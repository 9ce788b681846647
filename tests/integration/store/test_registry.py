"""Sensors, networks and configurations, on both engines."""

import asyncio
import uuid

import pytest

from heliograph.errors import AlreadyExistsError, RowError
from heliograph.model.batch import Batch
from heliograph.model.identifiers import is_uuid
from heliograph.store import open_store
from rows import NOON


async def test_the_first_migration_makes_the_default_network(store):
    network = await store.networks.default()
    assert network.name == "default"
    assert is_uuid(network.identifier)
    assert network.identifier == network.identifier.lower()
    assert uuid.UUID(network.identifier).version == 4
    assert network.created_at > NOON
    assert await store.networks.find(network.identifier.upper()) == network
    assert await store.networks.find(str(uuid.uuid4())) is None


async def test_a_sensor_is_found_by_all_its_names(store):
    members = {
        "device_id": "esp-1",
        "key_hash": b"\x00" * 32,
        "name": "Roof",
        "sensor_name": "roof",
        "serial_number": "S1",
        "manufacturer": "ACME",
        "model": "X",
        "modality": "temperature",
        "created_at": 7,
    }
    identifier = str(uuid.uuid4())
    sensor = await store.sensors.create(identifier=identifier.upper(), **members)
    default = await store.networks.default()
    assert sensor.identifier == identifier
    assert sensor.network_identifier == default.identifier
    assert {name: getattr(sensor, name) for name in members} == members
    assert sensor.is_active is True
    assert sensor.last_seen_at is sensor.status is None
    sensors = store.sensors
    assert await sensors.find(identifier) == sensor
    assert await sensors.find(identifier.upper()) == sensor
    assert await sensors.find("esp-1") == sensor
    assert await sensors.find_number(sensor.number) == sensor
    assert await sensors.find_key(b"\x00" * 32) == sensor
    for unknown in ("esp-2", "ESP-1", str(uuid.uuid4()), "", "a b", "\ud800", "\0"):
        assert await sensors.find(unknown) is None
    assert await sensors.find_number(99) is None
    assert await sensors.find_key(b"") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device_id", "esp-1"),
        ("key_hash", b"k" * 32),
        ("serial_number", "S1"),
        ("sensor_name", "roof"),
    ],
)
async def test_names_are_unique(store, register, field, value):
    first = await register(**{field: value})
    with pytest.raises(AlreadyExistsError) as raised:
        await register(**{field: value})
    assert raised.value.field == field
    second = await register()
    with pytest.raises(AlreadyExistsError) as raised:
        await store.sensors.change(second.number, **{field: value})
    assert raised.value.field == field
    await store.sensors.change(first.number, **{field: None})
    assert getattr(await store.sensors.change(second.number, **{field: value}), field) == value


async def test_an_identifier_is_unique(store):
    identifier = str(uuid.uuid4())
    await store.sensors.create(identifier=identifier, created_at=1)
    with pytest.raises(AlreadyExistsError) as raised:
        await store.sensors.create(identifier=identifier.upper(), created_at=1)
    assert raised.value.field == "identifier"


async def test_an_unknown_network_is_refused(store):
    with pytest.raises(RowError):
        await store.sensors.create(
            identifier=str(uuid.uuid4()), network_identifier=str(uuid.uuid4()), created_at=1
        )


async def test_only_the_members_given_are_changed(store, register):
    sensor = await register(device_id="esp-1", name="Roof")
    changed = await store.sensors.change(sensor.number, name=None, is_active=False)
    assert (changed.device_id, changed.name, changed.is_active) == ("esp-1", None, False)
    assert await store.sensors.find_number(sensor.number) == changed
    assert await store.sensors.change(sensor.number) == changed
    assert await store.sensors.change(99, name="x") is None
    with pytest.raises(TypeError):
        await store.sensors.change(sensor.number, number=5)
    with pytest.raises(RowError):
        await store.sensors.change(sensor.number, name="\ud800")
    assert (await store.sensors.change(sensor.number, name="Cellar")).name == "Cellar"


async def test_every_change_of_the_registry_raises_its_version(store, register):
    sensors = store.sensors
    start = await sensors.version()
    first, second = await register(), await register()
    created = await sensors.version()
    assert created > start
    assert await sensors.changed_since(start) == [first, second]
    assert await sensors.changed_since(created) == []
    await sensors.change(first.number, name="x")
    changed = await sensors.version()
    assert changed > created
    assert [sensor.number for sensor in await sensors.changed_since(created)] == [first.number]


async def test_being_seen_does_not_raise_the_version(store, sensor):
    version = await store.sensors.version()
    await store.sensors.touch([(sensor, NOON, None)])
    await store.write(Batch(statuses=[(sensor, NOON, "online")], attributes=[(sensor, "a")]))
    assert await store.sensors.version() == version


async def test_a_refused_change_does_not_raise_the_version(store, register):
    await register(device_id="esp-1")
    version = await store.sensors.version()
    with pytest.raises(AlreadyExistsError):
        await register(device_id="esp-1")
    assert await store.sensors.version() == version


async def test_touching_never_moves_a_time_back(store, sensor, register):
    other = (await register()).number

    async def times(number):
        found = await store.sensors.find_number(number)
        return found.last_seen_at, found.last_measurement_at

    await store.sensors.touch([])
    await store.sensors.touch([(sensor, 100, None), (other, 50, 40), (999, 1, 1)])
    assert (await times(sensor), await times(other)) == ((100, None), (50, 40))
    await store.sensors.touch([(sensor, 90, 90), (other, 60, None)])
    assert (await times(sensor), await times(other)) == ((100, 90), (60, 40))
    await store.sensors.touch([(sensor, 110, 80)])
    assert await times(sensor) == (110, 90)


async def test_sensors_are_listed_in_the_order_of_their_creation(store, register):
    sensors = [await register(device_id=f"d{at}" if at % 2 else None) for at in range(6)]
    default = (await store.networks.default()).identifier

    async def listed(network=None, **arguments):
        page, total = await store.sensors.list(network_identifier=network, **arguments)
        return [sensor.number for sensor in page], total

    numbers = [sensor.number for sensor in sensors]
    assert await listed(offset=0, limit=10) == (numbers, 6)
    assert await listed(default, offset=2, limit=2) == (numbers[2:4], 6)
    assert await listed(offset=10, limit=2) == ([], 6)
    assert await listed(str(uuid.uuid4()), offset=0, limit=2) == ([], 0)
    assert await listed(offset=1, limit=9, only_devices=True) == (numbers[3::2], 3)
    assert await store.sensors.load(numbers[1], 2) == sensors[2:4]


async def test_attributes_are_kept_once(store, sensor, register):
    other = (await register()).number
    rows = [(sensor, "a"), (sensor, "b"), (sensor, "a"), (other, "\u00e9\\.x")]
    for _ in range(2):
        await store.write(Batch(attributes=rows))
    expected = {sensor: {"a", "b"}, other: {"\u00e9\\.x"}}
    assert await store.sensors.attributes([sensor, other, 999]) == expected
    assert await store.sensors.attributes([]) == {}


async def test_a_thousand_sensors_are_asked_for_their_attributes_at_once(store):
    await store.write(Batch(attributes=[(at, f"n{at}") for at in range(3_000)]))
    found = await store.sensors.attributes(list(range(3_000)))
    assert found == {at: {f"n{at}"} for at in range(3_000)}


async def test_revisions_count_from_zero(store, sensor, register):
    other = (await register()).number
    add, current = store.configurations.add, store.configurations.current
    assert await current(sensor) is None
    assert [await add(sensor, '{"a":1}'), await add(sensor, "null"), await add(other, "1")] == [
        (0),
        1,
        0,
    ]
    found = await current(sensor)
    assert (found.revision, bytes(found.configuration)) == (1, b"null")
    assert found.created_at > NOON
    pages = [await store.configurations.current_of_all(after, 1) for after in (0, sensor, other)]
    assert [[(number, row.revision) for number, row in page] for page in pages] == [
        [(sensor, 1)],
        [(other, 0)],
        [],
    ]
    with pytest.raises(RowError):
        await add(999, "{}")


async def test_fifty_revisions_at_once_have_no_gap(database_url, store, sensor):
    other = await open_store(database_url)
    try:
        stores = [store, other] * 25
        revisions = await asyncio.gather(
            *(each.configurations.add(sensor, str(at)) for at, each in enumerate(stores))
        )
    finally:
        await other.close()
    assert sorted(revisions) == list(range(50))
    assert (await store.configurations.current(sensor)).revision == 49


async def test_a_cancelled_change_leaves_nothing_behind(store, register):
    version = await store.sensors.version()
    tasks = [asyncio.create_task(register()) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    created = [result for result in results if not isinstance(result, BaseException)]
    assert len(created) >= 10
    _, total = await store.sensors.list(network_identifier=None, offset=0, limit=1)
    assert len(created) <= total <= 20
    assert await store.sensors.version() == version + total
    await register()
