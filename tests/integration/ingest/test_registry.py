"""The cache of sensors: what it spares the store, and how it follows changes."""

import asyncio
import uuid

import pytest

from heliograph.access import registry as module
from heliograph.access.authenticator import ADMIN
from heliograph.access.registry import Registry
from heliograph.errors import StoreUnavailableError
from heliograph.model.credentials import hash_key
from heliograph.store import open_store
from ingest_core import NOON, running
from server import eventually


class CountingSensors:
    """The store's sensors; counts the calls, and holds back or fails the ones named."""

    def __init__(self, sensors):
        self._sensors = sensors
        self.calls = []
        self.held = {}
        self.failing = set()

    def __getattr__(self, name):
        method = getattr(self._sensors, name)

        async def call(*arguments, **members):
            self.calls.append(name)
            if name in self.failing:
                self.failing.discard(name)
                raise StoreUnavailableError("an outage to order")
            answer = await method(*arguments, **members)
            if gate := self.held.pop(name, None):
                await gate.wait()
            return answer

        return call


class CountingStore:
    def __init__(self, store):
        self.engine = store.engine
        self.networks = store.networks
        self.accounts = store.accounts
        self.lineage = store.lineage
        self.written_elsewhere = store.written_elsewhere
        self.sensors = CountingSensors(store.sensors)


def members(device_id=None, **others):
    key_hash = hash_key(device_id) if device_id else None
    return {
        "identifier": str(uuid.uuid4()),
        "device_id": device_id,
        "key_hash": key_hash,
        "created_at": 1,
        **others,
    }


@pytest.fixture
async def counting(sqlite_store):
    return CountingStore(sqlite_store)


@pytest.fixture
async def registry(counting):
    registry = Registry(counting)
    await registry.load()
    counting.sensors.calls.clear()
    return registry


async def test_a_sensor_is_found_by_all_its_names_and_its_key(registry, sqlite_store, counting):
    sensor = await sqlite_store.sensors.create(**members("pump"))
    known = await registry.find("pump")
    assert known.number == sensor.number
    counting.sensors.calls.clear()
    for name in (sensor.identifier, sensor.identifier.upper(), "pump"):
        assert await registry.find(name) is known
    assert await registry.find_key(hash_key("pump")) is known
    assert await registry.find_number(sensor.number) is known
    assert registry.cached("pump") is registry.number(sensor.number) is known
    assert counting.sensors.calls == []
    assert await registry.find("PUMP") is None


async def test_it_is_loaded_at_the_start(sqlite_store, counting):
    created = [await sqlite_store.sensors.create(**members(f"pump-{at}")) for at in range(5)]
    module_page, module.PAGE = module.PAGE, 2
    try:
        registry = Registry(counting)
        await registry.load()
    finally:
        module.PAGE = module_page
    assert all(registry.number(sensor.number) for sensor in created)
    assert registry.default_network == (await sqlite_store.networks.default()).identifier


@pytest.mark.parametrize("find", ["find", "find_key", "find_number"])
async def test_the_unknown_is_asked_for_once(registry, sqlite_store, counting, find):
    wanted = {"find": "pump", "find_key": hash_key("pump"), "find_number": 1}[find]
    for _ in range(3):
        assert await getattr(registry, find)(wanted) is None
    asked = counting.sensors.calls
    assert len(asked) == (3 if find == "find_number" else 1)
    await sqlite_store.sensors.create(**members("pump"))
    await registry.changed()
    assert await getattr(registry, find)(wanted) is not None


async def test_what_was_unknown_is_not_so_for_good(registry, sqlite_store, monkeypatch):
    monkeypatch.setattr(module, "MAXIMUM_CACHED", 1)
    assert await registry.find("pump") is None
    for name in ("pump", "fan"):  # the second one has the first one's place in memory
        await sqlite_store.sensors.create(**members(name))
        await registry.changed()
    assert registry.cached("pump") is None
    assert await registry.find("pump") is not None


async def test_what_is_no_name_is_never_asked_for(registry, counting):
    for name in ("", "a/b", "+", "x" * 65, "é", "a b"):
        assert await registry.find(name) is None
    assert counting.sensors.calls == []


async def test_the_unknown_is_bounded(registry, monkeypatch):
    monkeypatch.setattr(module, "MAXIMUM_UNKNOWN", 3)
    for at in range(10):
        assert await registry.find(f"nobody-{at}") is None
    assert len(registry._unknown) <= 3


async def test_changes_of_another_process_are_followed(database_url, store):
    other = await open_store(database_url)
    told = []
    try:
        registry = Registry(store)
        await registry.load()
        registry.changes.add(lambda: told.append(registry.generation))
        assert await registry.find("pump") is None
        watching = asyncio.create_task(registry.watch(0.01))
        created = await other.sensors.create(**members("pump"))
        await eventually(lambda: told)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        known = await registry.find("pump")

        await other.sensors.change(created.number, key_hash=hash_key("new"))
        assert await registry.find_key(hash_key("pump")) is known
        await registry.changed()
        assert await registry.find_key(hash_key("pump")) is None
        assert await registry.find_key(hash_key("new")) is known

        await other.sensors.change(created.number, device_id="fan")
        await registry.changed()
        assert await registry.find("pump") is None
        assert await registry.find("fan") is await registry.find(created.identifier) is known

        await other.sensors.change(created.number, is_active=False)
        await registry.changed()
        assert known.is_active is False
        assert len(told) == len(set(told)) == 4
    finally:
        await other.close()


async def test_nothing_is_told_where_nothing_changed(registry, sqlite_store):
    told = []
    registry.changes.add(lambda: told.append(1))
    sensor = await sqlite_store.sensors.create(**members("pump"))
    await registry.changed()
    await registry.changed()
    await sqlite_store.sensors.touch([(sensor.number, 5, None)])
    await registry.changed()
    assert told == [1]
    assert registry.generation == 1


@pytest.mark.parametrize("call", ["newest_change", "changed_since", "attributes"])
async def test_a_change_that_could_not_be_read_is_not_missed(
    registry, sqlite_store, counting, call
):
    sensor = await sqlite_store.sensors.create(**members("pump"))
    await registry.changed()
    told = []
    registry.changes.add(lambda: told.append(1))
    await sqlite_store.sensors.change(sensor.number, is_active=False)
    await sqlite_store.sensors.create(**members("fan"))
    counting.sensors.failing.add(call)
    with pytest.raises(StoreUnavailableError):
        await registry.changed()
    await registry.changed()
    assert registry.number(sensor.number).is_active is False
    assert registry.cached("fan") is not None
    assert told == [1]


async def test_watching_goes_on_through_an_outage(registry, sqlite_store, counting):
    counting.sensors.failing.add("newest_change")
    watching = asyncio.create_task(registry.watch(0.001))
    await sqlite_store.sensors.create(**members("pump"))
    await eventually(lambda: registry.cached("pump"))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_look_up_overtaken_by_a_change_is_repeated(registry, sqlite_store, counting):
    sensor = await sqlite_store.sensors.create(**members("pump"))
    gate = counting.sensors.held["find"] = asyncio.Event()
    looking = asyncio.create_task(registry.find("pump"))
    await eventually(lambda: "find" not in counting.sensors.held)
    await sqlite_store.sensors.change(sensor.number, is_active=False)
    await registry.changed()
    gate.set()
    assert (await looking).is_active is False


async def test_an_unknown_name_that_is_registered_meanwhile_is_found(
    registry, sqlite_store, counting
):
    gate = counting.sensors.held["find"] = asyncio.Event()
    looking = asyncio.create_task(registry.find("pump"))
    await eventually(lambda: "find" not in counting.sensors.held)
    await sqlite_store.sensors.create(**members("pump"))
    await registry.changed()
    gate.set()
    assert await looking is registry.cached("pump") is not None


async def test_two_looks_for_changes_follow_one_another(registry, sqlite_store, counting):
    sensor = await sqlite_store.sensors.create(**members("pump"))
    gate = counting.sensors.held["changed_since"] = asyncio.Event()
    first = asyncio.create_task(registry.changed())
    await eventually(lambda: "changed_since" not in counting.sensors.held)
    await sqlite_store.sensors.change(sensor.number, is_active=False)
    second = asyncio.create_task(registry.changed())
    # Let out of order, the second would come in first; in order, it waits for the first.
    await asyncio.wait({second}, timeout=0.05)
    gate.set()
    await asyncio.gather(first, second)
    assert registry.number(sensor.number).is_active is False


async def test_a_database_put_back_that_has_gone_further_since_is_read_anew(
    registry, sqlite_store, counting, monkeypatch
):
    counting.renew = sqlite_store.renew
    told, had = [], sqlite_store.sensors.has_had
    registry.rollbacks.add(lambda: told.append(1))
    sensor = await sqlite_store.sensors.create(**members("pump"))
    await registry.changed()
    period = registry.number(sensor.number).reading
    await sqlite_store.sensors.create(**members("fan"))

    async def never(_):
        return False

    monkeypatch.setattr(sqlite_store.sensors, "has_had", never)
    await registry.changed()
    assert (told, period.is_over) == ([1], True)
    monkeypatch.setattr(sqlite_store.sensors, "has_had", had)
    await registry.changed()
    assert registry.cached("fan") is not None
    assert told == [1]


async def test_who_becomes_known_during_a_look_stays_known(sqlite_store, counting):
    counting.accounts = sqlite_store.accounts
    registry = Registry(counting)
    await registry.load()
    identifier = str(uuid.uuid4())
    await sqlite_store.accounts.create(
        identifier=identifier, username="ada", password_hash="x", created_at=1
    )
    gate = counting.sensors.held["changed_since"] = asyncio.Event()
    await sqlite_store.sensors.create(**members("pump"))
    looking = asyncio.create_task(registry.changed())
    await eventually(lambda: "changed_since" not in counting.sensors.held)
    assert await registry.find_account(identifier) is not None
    gate.set()
    await looking
    assert identifier in registry.grants.accounts


async def test_all_who_wait_for_a_look_share_the_next_one(registry, sqlite_store, counting):
    counting.sensors.held["newest_change"] = gate = asyncio.Event()
    first = asyncio.create_task(registry.changed(), name="first")
    await eventually(lambda: counting.sensors.calls)
    # It has read what there was: what is made now takes another look.
    await sqlite_store.sensors.create(**members("pump"))
    others = [asyncio.create_task(registry.changed(), name="another") for _ in range(5)]
    counting.sensors.failing.add("changed_since")
    gate.set()
    await first
    ended = await asyncio.gather(*others, return_exceptions=True)
    # Who looks for all of them and fails has told none of them anything.
    assert [type(each) for each in ended] == [StoreUnavailableError] + [type(None)] * 4
    assert registry.cached("pump") is not None
    assert counting.sensors.calls.count("newest_change") == 3


async def test_sensors_are_evicted_and_found_again(registry, sqlite_store, monkeypatch):
    monkeypatch.setattr(module, "MAXIMUM_CACHED", 2)
    created = [await sqlite_store.sensors.create(**members(f"pump-{at}")) for at in range(3)]
    generation = registry.generation
    known = [await registry.find(sensor.identifier) for sensor in created]
    assert [registry.number(sensor.number) for sensor in created] == [None, *known[1:]]
    assert registry.cached("pump-0") is None
    assert registry.cached(created[0].identifier) is None
    assert registry.generation > generation
    assert (await registry.find_key(hash_key("pump-0"))).number == created[0].number
    assert registry.cached("pump-1") is None


async def test_a_device_that_was_evicted_may_still_publish(sqlite_store, monkeypatch):
    async with running(sqlite_store) as core:
        monkeypatch.setattr(module, "MAXIMUM_CACHED", 1)
        sensor = await core.device("pump")
        principal = await core.authenticator.login("pump", b"pump")
        await core.device("fan")
        assert core.registry.number(sensor.number) is None
        await core.publish("measurements/pump", {"value": 1}, principal=principal)
        await core.settled()
        assert await core.values(sensor) == [1]


async def test_what_could_not_be_flushed_is_flushed_later(registry, sqlite_store, counting):
    sensor = await sqlite_store.sensors.create(**members("pump"))
    known = await registry.find("pump")
    known.seen_at = 5
    registry.touched.add(known)
    counting.sensors.failing.add("touch")
    with pytest.raises(StoreUnavailableError):
        await registry.flush()
    await registry.flush()
    assert (await sqlite_store.sensors.find_number(sensor.number)).last_seen_at == 5


async def test_devices_are_registered_on_first_sight(store):
    async with running(store, auto_provision=True) as core:
        payload = {"value": 1, "timestamp": NOON}
        routes = await asyncio.gather(
            *(core.mqtt.route(ADMIN, "measurements/new") for _ in range(5))
        )
        assert len({route.sensor for route in routes}) == 1
        assert routes[0].sensor is not None
        await core.publish("measurements/new", payload)
        await core.settled()
        assert await core.values(routes[0].sensor) == [1]
        shared = await core.authenticator.login("another", b"a-shared-key-for-tests-only")
        await core.publish("measurements/another", payload, principal=shared)
        for topic in (f"measurements/{uuid.uuid4()}", "measurements/a b"):
            await core.publish(topic, payload)
        await core.settled()
        assert await core.reasons() == ["UNKNOWN_SENSOR"] * 2
        _, total = await core.store.sensors.list(networks=None, offset=0, limit=10)
        assert total == 2


async def test_nobody_is_registered_unasked(plain_core):
    core = plain_core
    await core.publish("measurements/new", {"value": 1})
    await core.settled()
    assert await core.reasons() == ["UNKNOWN_SENSOR"]
    assert await core.store.sensors.find("new") is None


async def test_devices_and_viewers_register_nobody(sqlite_store):
    options = {"auto_provision": True, "anonymous_role": "viewer"}
    async with running(sqlite_store, **options) as core:
        await core.device("pump")
        for principal in (await core.authenticator.key("pump"), core.authenticator.anonymous()):
            await core.publish("measurements/new", {"value": 1}, principal=principal)
        await core.settled()
        assert await core.reasons() == ["FORBIDDEN_TOPIC", "UNKNOWN_SENSOR"]
        assert await core.store.sensors.find("new") is None


async def test_a_deactivated_sensor_takes_nothing(plain_core):
    core = plain_core
    sensor = await core.device("pump")
    await core.store.sensors.change(sensor.number, is_active=False)
    await core.registry.changed()
    await core.publish("measurements/pump", {"value": 1})
    await core.settled()
    assert await core.reasons() == ["DEACTIVATED_SENSOR"]
    assert await core.values(sensor) == []


async def test_a_sensor_that_another_process_has_erased_is_none_any_more(
    database_url, store, monkeypatch
):
    sensors = [await store.sensors.create(**members(name)) for name in ("pump", "fan", "lamp")]
    # Devices may be connected whose sensors have no room in memory.
    monkeypatch.setattr(module, "PRELOADED", 1)
    monkeypatch.setattr(module, "PAGE", 1)
    registry = Registry(store)
    await registry.load()
    known = await registry.find("pump")
    other = await open_store(database_url)
    try:
        for sensor in sensors[:2]:
            await other.sensors.delete(sensor.number, 2)
            await other.sensors.erase(sensor.number)
        heir = await other.sensors.create(**members("pump"))
    finally:
        await other.close()
    await registry.changed()
    assert (known.is_active, known.key_hash) == (False, None)
    assert await registry.find(sensors[0].identifier) is None
    assert await registry.find("fan") is None
    assert (await registry.find("pump")).number == heir.number
    assert (await registry.find_key(hash_key("pump"))).number == heir.number
    assert registry.number(sensors[1].number).is_active is False
    assert registry.number(sensors[2].number) is None
    assert (await registry.find("lamp")).is_active is True
