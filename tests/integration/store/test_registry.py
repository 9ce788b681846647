"""Sensors, networks and configurations, on both engines."""

import asyncio
import json
import uuid
from itertools import product

import pytest

from heliograph.errors import AlreadyExistsError, RowError
from heliograph.model.identifiers import is_uuid
from heliograph.model.sensor import NewSensor
from heliograph.store import open_store
from heliograph.store.channels import ChannelDefinition
from heliograph.store.engine import Batch
from heliograph.store.sensors import TakenError
from rows import NOON, heartbeat, log, measurement, rejected

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered


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


async def test_of_several_names_that_are_taken_both_engines_tell_the_same(store, register):
    network = (await store.networks.default()).identifier
    identifier = str(uuid.uuid4())
    names = {"device_id": "d-1", "sensor_name": "roof", "serial_number": "S1"}
    of_network = {"network_identifier": network, "created_at": 1}
    rule = {"document": {"name": "x", "enabled": True}, **of_network}
    channel = ChannelDefinition("x", "email", True, "{}", None)
    for make in (
        lambda: store.sensors.create(identifier=identifier, created_at=1, **names),
        lambda: store.nodes.create(identifier=identifier, serial_number="S1", **of_network),
        lambda: store.networks.create(identifier=identifier, name="roof", created_at=1, owner=None),
        lambda: store.rules.create(identifier=identifier, **rule),
        lambda: store.channels.create(
            identifier=identifier, network=network, channel=channel, created_at=1
        ),
    ):
        await make()
        with pytest.raises(AlreadyExistsError) as raised:
            await make()
        assert raised.value.field == "identifier"
    second = await register()
    for left in ("device_id", "sensor_name", "serial_number"):
        with pytest.raises(AlreadyExistsError) as raised:
            await store.sensors.change(second.number, **names)
        assert raised.value.field == left
        del names[left]


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
    start = (await sensors.newest_change()).version
    first, second = await register(), await register()
    created = (await sensors.newest_change()).version
    assert created > start
    assert await sensors.changed_since(start) == [first, second]
    assert await sensors.changed_since(created) == []
    await sensors.change(first.number, name="x")
    changed = (await sensors.newest_change()).version
    assert changed > created
    assert [sensor.number for sensor in await sensors.changed_since(created)] == [first.number]


async def test_being_seen_does_not_raise_the_version(store, sensor):
    version = (await store.sensors.newest_change()).version
    await store.sensors.touch([(sensor, NOON, None)])
    await store.write(Batch(statuses=[(sensor, NOON, "online", False)], attributes=[(sensor, "a")]))
    assert (await store.sensors.newest_change()).version == version


async def test_a_refused_change_does_not_raise_the_version(store, register):
    await register(device_id="esp-1")
    version = (await store.sensors.newest_change()).version
    with pytest.raises(AlreadyExistsError):
        await register(device_id="esp-1")
    assert (await store.sensors.newest_change()).version == version


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
        page, total = await store.sensors.list(
            networks=None if network is None else [network], **arguments
        )
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
    retained = store.configurations.retained
    pages = [await retained(None, after, 1) for after in (0, sensor, other)]
    assert [[(row.number, row.revision, row.size) for row in page] for page in pages] == [
        [(sensor, 1, 4)],
        [(other, 0, 1)],
        [],
    ]
    places = [[row.network_identifier] for row in await retained(None, 0, 1)]
    assert [len(await retained(place, 0, 9)) for place in (places[0], ["elsewhere"], [])] == [
        2,
        0,
        0,
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
    version = (await store.sensors.newest_change()).version
    tasks = [asyncio.create_task(register()) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    created = [result for result in results if not isinstance(result, BaseException)]
    assert len(created) >= 10
    _, total = await store.sensors.list(networks=None, offset=0, limit=1)
    assert len(created) <= total <= 20
    assert (await store.sensors.newest_change()).version == version + total
    await register()


async def test_several_are_registered_or_none(store, register):
    await register(device_id="d-0", serial_number="s-0", sensor_name="n-0")

    def new(**members):
        return NewSensor(identifier=str(uuid.uuid4()), created_at=1, **members)

    created = await store.sensors.create_all([new(device_id=f"d-{at}") for at in (1, 2)])
    assert [sensor.device_id for sensor in created] == ["d-1", "d-2"]
    version = (await store.sensors.newest_change()).version
    wanted = [
        new(device_id="d-3"),
        new(device_id="d-2"),
        new(device_id="d-4", serial_number="s-0", sensor_name="n-0"),
        new(device_id="d-3", sensor_name="twice"),
        new(sensor_name="twice"),
        new(),
        new(),
    ]
    with pytest.raises(TakenError) as raised:
        await store.sensors.create_all(wanted)
    assert raised.value.taken == [
        (1, "device_id"),
        (2, "sensor_name"),
        (2, "serial_number"),
        (3, "device_id"),
        (4, "sensor_name"),
    ]
    assert (await store.sensors.newest_change()).version == version
    assert await store.sensors.create_all([]) == []


async def test_names_are_unique_in_each_network_by_itself(store, register):
    roof = await store.networks.create(
        identifier=str(uuid.uuid4()), name="roof", created_at=1, owner=None
    )
    for network in (None, roof.identifier):
        await register(network_identifier=network, serial_number="1", sensor_name="a")
    mover = await register(serial_number="2", sensor_name="b")
    changed = await store.sensors.change(mover.number, network_identifier=roof.identifier)
    assert changed.network_identifier == roof.identifier
    with pytest.raises(AlreadyExistsError):
        await store.sensors.change(mover.number, serial_number="1")


async def test_a_change_and_its_revision_are_one(store, register):
    await register(sensor_name="taken")
    sensor = await register(configuration='{"a":1}', author="user:ann")
    assert (await store.configurations.current(sensor.number)).revision == 0
    changed, revision = await store.sensors.configure(
        sensor.number, "null", author="admin", name="x"
    )
    assert (changed.name, revision) == ("x", 1)
    with pytest.raises(AlreadyExistsError):
        await store.sensors.configure(sensor.number, "2", author=None, sensor_name="taken")
    page = await store.configurations.page(sensor.number, revision=None, direction=None, limit=9)
    assert [(each.revision, each.author) for each in page] == [(0, "user:ann"), (1, "admin")]
    assert await store.sensors.configure(999, "2", author=None) is None
    unconfigured = await register()
    numbers = [sensor.number, unconfigured.number, 999]
    assert await store.sensors.revisions(numbers) == {sensor.number: (1, "pending")}
    assert await store.sensors.revisions([]) == {}


async def test_sensors_are_listed_by_their_inventory(store, register):
    default = (await store.networks.default()).identifier
    node = await store.nodes.create(
        identifier=str(uuid.uuid4()), network_identifier=default, created_at=1
    )
    sensors = [
        await register(manufacturer="A", model="X", modality="light"),
        await register(manufacturer="A", model="Y", node_identifier=node.identifier),
        await register(),
    ]

    async def listed(**which):
        page, total = await store.sensors.list(networks=None, offset=0, limit=9, **which)
        assert total == len(page)
        return [sensors.index(sensor) for sensor in page]

    assert await listed() == [0, 1, 2]
    assert await listed(manufacturer="A") == [0, 1]
    assert await listed(manufacturer="A", model="Y") == [1]
    assert await listed(modality="light") == [0]
    assert await listed(node_identifier=node.identifier) == [1]
    assert await listed(manufacturer="a") == []


async def test_a_deleted_sensor_keeps_its_record_and_its_names_until_they_are_wanted(
    store, register
):
    names = {"device_id": "d-1", "sensor_name": "a", "serial_number": "1"}
    sensor = await register(**names, key_hash=b"k" * 32)
    version = (await store.sensors.newest_change()).version
    assert await store.sensors.delete(sensor.number, 5)
    assert await store.sensors.delete(sensor.number, 6)
    assert not await store.sensors.delete(999, 5)
    assert [each.number for each in await store.sensors.changed_since(version)] == [sensor.number]
    gone = await store.sensors.find("d-1")
    assert (gone.number, gone.deleted_at, gone.is_active, gone.key_hash) == (
        sensor.number,
        5,
        False,
        None,
    )
    assert await store.sensors.list(networks=None, offset=0, limit=9) == ([], 0)
    assert await store.sensors.change(sensor.number, name="x") is None
    assert await store.sensors.configure(sensor.number, "1", author=None) is None
    heir = await register(**names)
    assert (await store.sensors.find("d-1")).number == heir.number
    gone = await store.sensors.find(sensor.identifier)
    assert gone.device_id is gone.sensor_name is gone.serial_number is None
    with pytest.raises(AlreadyExistsError):
        await store.sensors.create(identifier=sensor.identifier, created_at=1)


async def test_a_renamed_sensor_takes_a_deleted_ones_names(store, register):
    gone = await register(device_id="d-1", sensor_name="a")
    await store.sensors.delete(gone.number, 5)
    other = await register()
    changed = await store.sensors.change(other.number, device_id="d-1")
    assert changed.device_id == "d-1"
    gone = await store.sensors.find(gone.identifier)
    assert (gone.device_id, gone.sensor_name) == (None, "a")


async def test_a_deleted_sensor_can_be_brought_back(store, register):
    sensor = await register(device_id="d-1")
    await store.sensors.delete(sensor.number, 5)
    back = await store.sensors.change(sensor.number, is_active=True)
    assert (back.device_id, back.deleted_at, back.is_active) == ("d-1", None, True)
    assert await store.sensors.list(networks=None, offset=0, limit=9) == ([back], 1)


async def test_erasing_finds_the_actions_of_every_rule_and_place(store, register, monkeypatch):
    monkeypatch.setattr("heliograph.store.sensors.ERASED_AT_ONCE", 3)
    erased, kept = [(await register()).number for _ in range(2)]
    done = [
        [rule, place, sensor, NOON, 1, None, None, "sse", "{}", 1, 1, "done", 1, None]
        for rule in ("", "a", "b")
        for place in (0, 1, 3)
        for sensor in (erased, kept, 0)
    ]
    async with store.engine.transaction() as transaction:
        await transaction.fetch("rule_actions_store", rows=json.dumps(done))
    seen = [
        (rule, sensor, NOON, at, at, NOON, "log", None, "{}", NOON, True)
        for at, (rule, sensor) in enumerate(product("ab", (erased, kept)), 1)
    ]
    logs = [(row[4], *row[1:4], NOON, None, None, "info", "", None) for row in seen]
    await store.write(Batch(logs=logs, observations=seen))
    await store.sensors.delete(erased, 5)
    await store.sensors.erase(erased)
    left = await store.actions.page(networks=None, offset=0, limit=100)
    assert len(left[0]) == left[1] == 18
    assert {each.sensor for each in left[0]} == {kept, 0}
    pending = await store.engine.fetch(
        "messages_unprocessed", names=json.dumps([[at] for at in range(1, 5)])
    )
    assert sorted(pending) == [(2,), (4,)]


async def test_erasing_leaves_nothing_of_the_one_and_all_of_the_other(store, register, monkeypatch):
    monkeypatch.setattr("heliograph.store.sensors.ERASED_AT_ONCE", 3)
    numbers = [(await register(configuration="1")).number for _ in range(2)]

    def data(sensor):
        # Seven at one time: a piece ends between two of them.
        measured = [measurement(sensor, NOON, at, fingerprint=at) for at in range(7)]
        return Batch(
            measurements=[*measured, measurement(sensor, NOON - 1), measurement(sensor, NOON + 1)],
            logs=[log(sensor, NOON + at) for at in range(4)],
            heartbeats=[heartbeat(sensor, NOON + at) for at in range(4)],
            rejected=[rejected(sensor=sensor) for _ in range(4)],
            attributes=[(sensor, f"n{at}") for at in range(4)],
        )

    async def counts(sensor):
        rejected_ones = await store.rejected.list(limit=100)
        return (
            len(await store.measurements.page(sensor, key=None, direction=None, limit=100)),
            len(await store.logs.page(sensor, key=None, direction=None, limit=100)),
            len(await store.heartbeats.page(sensor, key=None, direction=None, limit=100)),
            sum(each.sensor == sensor for each in rejected_ones),
            len((await store.sensors.attributes([sensor])).get(sensor, ())),
            len(await store.sensors.revisions([sensor])),
        )

    for number in numbers:
        await store.write(data(number))
    whole = await counts(numbers[0])
    assert whole == (9, 4, 4, 4, 4, 1)
    await store.sensors.delete(numbers[0], 5)
    version = (await store.sensors.newest_change()).version
    await store.sensors.erase(numbers[0])
    assert await counts(numbers[0]) == (0, 0, 0, 0, 0, 0)
    assert await counts(numbers[1]) == whole
    assert await store.sensors.find_number(numbers[0]) is None
    assert (await store.sensors.newest_change()).version > version
    assert (await register()).number > max(numbers)


async def test_what_is_not_deleted_is_not_erased(store, sensor):
    await store.sensors.erase(sensor)
    assert await store.sensors.find_number(sensor) is not None
