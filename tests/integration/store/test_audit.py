"""The audit log: entered with the change or not at all, read in pages, deleted by age."""

import uuid

import pytest

from heliograph.errors import AlreadyExistsError, StoreUnavailableError
from heliograph.model.audit import Actor, ActorKind, AuditAction, AuditedChange
from heliograph.model.sensor import NewSensor
from heliograph.store import audit as audit_module
from heliograph.store import sensors as sensors_module
from heliograph.store.audit import enter
from heliograph.store.engine import Batch
from rows import NOON, measurement

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

ADA = Actor(ActorKind.USER, "ada", "2001:db8::1")


def told(entries):
    return [(entry.actor_name, entry.action) for entry in entries]


async def every(store, **filters):
    return await store.audit.list(limit=10_000, **filters)


async def fill(store, monkeypatch, moments, **members):
    """Enter one change at each of the moments."""
    for moment in moments:
        monkeypatch.setattr(audit_module, "now", lambda at=moment: at)
        await store.audit.enter(ADA, AuditedChange(AuditAction.NODE_CHANGE, **members))


async def test_an_entry_is_what_was_told(store):
    network = (await store.networks.default()).identifier
    sensor = await store.sensors.create(
        identifier=str(uuid.uuid4()), created_at=1, name="π 'x' \"", actor=ADA
    )
    (entry,) = await every(store)
    assert (entry.actor_kind, entry.actor_name, entry.address) == ("user", "ada", "2001:db8::1")
    assert (entry.action, entry.resource_kind) == ("sensor.create", "sensor")
    assert entry.resource_identifier == sensor.identifier
    assert entry.resource_name == "π 'x' \""
    assert entry.network_identifier == network
    assert bytes(entry.changes).decode() == '{"name":{"new":"π \'x\' \\""}}'


async def test_what_is_rolled_back_was_never_entered(store, register):
    await register(device_id="a")
    before = await every(store)
    with pytest.raises(AlreadyExistsError):
        await store.sensors.create_all(
            [
                NewSensor(identifier=str(uuid.uuid4()), created_at=1, device_id="b"),
                NewSensor(identifier=str(uuid.uuid4()), created_at=1, device_id="a"),
            ],
            actor=ADA,
        )

    async def fail_after_entering():
        async with store.engine.transaction() as transaction:
            await enter(transaction, ADA, [AuditedChange(AuditAction.NODE_CHANGE)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_after_entering()
    assert await every(store) == before


async def test_without_its_entry_nothing_is_changed(store, register, monkeypatch):
    sensor = await register(device_id="a", name="before")

    async def fail(*_):
        raise StoreUnavailableError("the entry can't be written")

    monkeypatch.setattr(sensors_module, "enter", fail)
    with pytest.raises(StoreUnavailableError):
        await store.sensors.change(sensor.number, name="after")
    assert (await store.sensors.find("a")).name == "before"


async def test_entries_of_one_moment_are_read_once_each(store, monkeypatch):
    await fill(store, monkeypatch, [NOON] * 7 + [NOON + 1] * 3 + [NOON - 5])
    everything = await every(store)
    assert [entry.timestamp for entry in everything] == [NOON + 1] * 3 + [NOON] * 7 + [NOON - 5]
    found, cursor = [], None
    while page := await store.audit.list(limit=2, cursor=cursor):
        found += page
        cursor = (page[-1].timestamp, page[-1].id)
    assert found == everything
    assert [e.timestamp for e in await every(store, start=NOON - 5, end=NOON)] == [NOON - 5]
    assert len(await every(store, start=NOON, end=NOON + 1)) == 7
    # Beyond both, whichever comes first.
    assert len(await every(store, end=NOON, cursor=(NOON + 1, 0))) == 1
    assert len(await every(store, end=NOON + 2, cursor=(NOON, 0))) == 1


async def test_entries_of_networks_and_of_a_resource(store, monkeypatch):
    for network in ("one", "two", "three"):
        for name in ("a", "b"):
            await fill(
                store, monkeypatch, [NOON], identifier=name, name="x" + name, network=network
            )
    await fill(store, monkeypatch, [NOON], identifier="a")
    assert len(await every(store)) == 7
    for networks, expected in (([], 0), (["one"], 2), (["one", "two"], 4), (["no"], 0), (None, 7)):
        assert len(await every(store, networks=networks)) == expected
    assert len(await every(store, resource="a")) == 4
    assert len(await every(store, resource="xa", networks=["one", "two"])) == 2
    assert len(await every(store, resource="xa", networks=[])) == 0
    assert len(await every(store, resource="a", actor_name="bob")) == 0
    assert await store.audit.has_network("two")
    assert not await store.audit.has_network("four")


async def test_old_entries_are_deleted_in_pieces(store, monkeypatch):
    monkeypatch.setattr(audit_module, "PRUNED_AT_ONCE", 3)
    await fill(store, monkeypatch, range(NOON, NOON + 10))
    assert await store.audit.prune(NOON + 8) == 8
    assert [entry.timestamp for entry in await every(store)] == [NOON + 9, NOON + 8]
    assert await store.audit.prune(NOON + 8) == 0
    newest = (await every(store))[0].id
    await store.audit.prune(NOON + 100)
    await fill(store, monkeypatch, [NOON])
    # No id is given out twice.
    assert (await every(store))[0].id > newest


async def test_a_thousand_devices_are_a_thousand_entries(store):
    sensors = [
        NewSensor(identifier=str(uuid.uuid4()), created_at=1, device_id=f"d-{n}")
        for n in range(1_000)
    ]
    created = await store.sensors.create_all(sensors, actor=ADA)
    entries = await every(store, action="sensor.create", actor_name="ada")
    assert {e.resource_name for e in entries} == {s.device_id for s in created}
    network = (await store.networks.default()).identifier
    await store.configurations.add_to_each(
        network,
        [sensor.number for sensor in created],
        lambda targets: ['{"secret":1}'] * len(targets),
        author=None,
        actor=ADA,
    )
    entries = await every(store, action="sensor.configure", networks=[network])
    assert {bytes(e.changes) for e in entries} == {b'{"revision":{"new":0}}'}
    assert len(entries) == 1_000


async def test_erasing_is_entered_with_the_first_piece(store, register, monkeypatch):
    sensor = await register(device_id="a")
    await store.write(
        Batch(measurements=[measurement(sensor.number, NOON + n, n) for n in range(5)])
    )
    await store.sensors.delete(sensor.number, NOON, actor=ADA)
    assert told(await every(store))[:1] == [("ada", "sensor.delete")]
    # Again is no error, and changes nothing.
    assert await store.sensors.delete(sensor.number, NOON, actor=ADA)
    assert len(await every(store)) == 2

    await store.sensors.delete(sensor.number, NOON, erases=True, actor=ADA)
    assert told(await every(store))[:1] == [("ada", "sensor.erase")]
    assert not await store.measurements.page(sensor.number, key=None, direction=None, limit=9)
    # What ended halfway is begun anew.
    assert await store.sensors.delete(sensor.number, NOON, erases=True, actor=ADA)
    await store.sensors.erase(sensor.number)
    assert await store.sensors.find_number(sensor.number) is None
    assert len(await every(store, action="sensor.erase")) == 2
    # What is not there any more is not erased once more.
    assert not await store.sensors.delete(sensor.number, NOON, erases=True, actor=ADA)
    await store.sensors.erase(sensor.number)
    assert len(await every(store, action="sensor.erase")) == 2


async def test_a_sensor_is_deleted_and_erased_in_one_go(store, register):
    sensor = await register(device_id="a")
    await store.sensors.delete(sensor.number, NOON, erases=True, actor=ADA)
    assert {*told(await every(store))[:2]} == {("ada", "sensor.delete"), ("ada", "sensor.erase")}


async def test_what_was_brought_back_is_not_erased(store, register):
    sensor = await register(device_id="a")
    await store.sensors.delete(sensor.number, NOON, erases=True)
    await store.sensors.change(sensor.number, is_active=True)
    await store.write(Batch(measurements=[measurement(sensor.number)]))
    await store.sensors.erase(sensor.number)
    assert await store.measurements.page(sensor.number, key=None, direction=None, limit=9)
    assert await store.sensors.find_number(sensor.number) is not None


async def test_a_node_tells_how_many_sensors_it_leaves(store, register):
    node = await store.nodes.create(
        identifier=str(uuid.uuid4()),
        network_identifier=(await store.networks.default()).identifier,
        created_at=1,
        serial_number="1",
    )
    for _ in range(2):
        await register(node_identifier=node.identifier)
    await store.nodes.delete(node.identifier, actor=ADA)
    (entry, *_) = await every(store)
    assert (entry.action, entry.resource_name) == ("node.delete", "1")
    assert bytes(entry.changes) == b'{"sensors":{"old":2,"new":0}}'


async def test_telemetry_enters_nothing(store, sensor):
    before = await every(store)
    await store.write(Batch(measurements=[measurement(sensor)]))
    await store.sensors.touch([(sensor, NOON, NOON)])
    assert await every(store) == before
