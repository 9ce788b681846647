"""The publisher on both engines, with a broker whose answers the test gives."""

import asyncio
import contextlib
import json

import pytest

from heliograph.configuration import publisher as publishing
from heliograph.configuration.publisher import Publisher
from heliograph.errors import StoreUnavailableError
from heliograph.model.time import now
from heliograph.mqtt.publications import PublicationRefusedError
from heliograph.store import open_store
from server import eventually

TOPIC = "configurations/"


class Broker:
    """Keeps what it is sent, as a broker keeps what is retained."""

    def __init__(self):
        self.connected = True
        self.connects = 1
        self.retained = {}
        self.log = []
        self.refuses = set()
        self.free = asyncio.Event()
        self.free.set()
        self.waiting = 0
        self.most = 0

    async def publish(self, topic, payload, *, retain=False):
        assert retain
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await self.free.wait()
        finally:
            self.waiting -= 1
        if topic in self.refuses:
            raise PublicationRefusedError("not authorized")
        self.log.append((topic, payload))
        self.retained[topic] = payload

    def revisions(self, name):
        return [json.loads(p)["revision"] for topic, p in self.log if topic == TOPIC + name]


class Subscribers:
    def __init__(self):
        self.shown = []

    async def configure(self, sensor, network_identifier, names, payload):
        self.shown.append((sensor, list(names), json.loads(payload)["revision"]))


@contextlib.asynccontextmanager
async def publishes(store, broker=None, subscribers=None):
    alone = store.engine.name == "sqlite"
    publisher = Publisher(store.publications, broker=broker, subscribers=subscribers, alone=alone)
    store.configurations.revised.add(lambda _revisions: publisher.wake())
    task = asyncio.create_task(publisher.run(), name="publisher")
    try:
        yield publisher
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await publisher.close()


async def states(store, sensor):
    page = await store.configurations.page(sensor, revision=None, direction=None, limit=1_000)
    return [each.state.value for each in page]


def nothing_left(store):
    async def condition():
        return await store.publications.count() == 0

    return condition


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look for work oftener, and retry sooner."""
    monkeypatch.setattr(publishing, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(publishing, "FIRST_RETRY_SECONDS", 0)
    monkeypatch.setattr(publishing, "AWAY_SECONDS", 0)


async def test_a_configuration_is_published_under_each_name(store, register):
    sensor, broker = await register(device_id="pump"), Broker()
    async with publishes(store, broker):
        await store.configurations.add(sensor.number, '{"a":"é"}')
        await eventually(nothing_left(store))
    payload = '{"revision":0,"configuration":{"a":"é"}}'.encode()
    assert broker.retained == {TOPIC + "pump": payload, TOPIC + sensor.identifier: payload}
    assert await states(store, sensor.number) == ["published"]


async def test_a_call_for_nothing_does_not_ask_for_the_writer(store, monkeypatch):
    asked, due = asyncio.Event(), store.publications.due
    calls = []

    async def asking(moment):
        asked.set()
        return await due(moment)

    monkeypatch.setattr(store.publications, "due", asking)
    monkeypatch.setattr(store.publications, "claim", calls.append)
    async with publishes(store, Broker()) as publisher:
        await asked.wait()
        asked.clear()
        publisher.wake()
        await asked.wait()
    assert calls == []


async def test_what_was_left_is_published_after_a_start(store, register):
    sensor, broker = await register(), Broker()
    await store.configurations.add(sensor.number, "1")
    # As a process leaves it that was killed: on SQLite there is no other, elsewhere claims lapse.
    alone = store.engine.name == "sqlite"
    await store.publications.claim(1, now() if alone else now() - 3_600_000_000, 10)
    async with publishes(store, broker):
        await eventually(nothing_left(store))
    assert broker.revisions(sensor.identifier) == [0]


async def test_nothing_is_published_before_the_broker_has_it(store, register):
    sensor, broker = await register(), Broker()
    broker.free.clear()
    async with publishes(store, broker):
        await store.configurations.add(sensor.number, "1")
        await eventually(lambda: broker.waiting)
        assert await states(store, sensor.number) == ["pending"]
    async with publishes(store, broker):
        await eventually(lambda: broker.waiting)
        broker.free.set()
        await eventually(nothing_left(store))
    assert await states(store, sensor.number) == ["published"]


async def test_what_is_under_way_is_not_sent_a_second_time(store, register):
    sensor, broker = await register(), Broker()
    broker.free.clear()
    async with publishes(store, broker) as publisher:
        await store.configurations.add(sensor.number, "1")
        await eventually(lambda: broker.waiting)
        # As after an outage of the database that has lasted for longer than a claim.
        await store.publications.forget_claims()
        publisher.wake()

        async def claimed_again():
            return not await store.publications.due(now())

        await eventually(claimed_again)
        broker.free.set()
        await eventually(nothing_left(store))
    assert broker.revisions(sensor.identifier) == [0]


async def test_never_older_over_newer(store, register):
    sensor, broker = await register(device_id="pump"), Broker()
    async with publishes(store, broker) as publisher:
        for _ in range(20):
            await asyncio.gather(*(store.configurations.add(sensor.number, "1") for _ in range(5)))
            broker.free.clear() if broker.free.is_set() else broker.free.set()
        broker.free.set()
        await eventually(nothing_left(store))
        await eventually(lambda: not publisher._under_way)
    for name in ("pump", sensor.identifier):
        assert broker.revisions(name) == sorted(broker.revisions(name))
        assert broker.revisions(name)[-1] == 99


async def test_what_changes_between_the_claim_and_the_look_is_published_once(store, register):
    sensor, broker, subscribers = await register(device_id="pump"), Broker(), Subscribers()
    claim = store.publications.claim
    changed = []

    async def claiming(*arguments):
        claimed = await claim(*arguments)
        if claimed and not changed:
            changed.append(await store.configurations.add(sensor.number, "1"))
        return claimed

    store.publications.claim = claiming
    await store.configurations.add(sensor.number, "0")
    async with publishes(store, broker, subscribers):
        await eventually(nothing_left(store))
    assert broker.revisions("pump") == broker.revisions(sensor.identifier) == [1]
    assert [revision for *_, revision in subscribers.shown] == [1]
    assert await states(store, sensor.number) == ["superseded", "published"]


async def test_of_what_another_publishes_nothing_newer_is_shown(store, register):
    sensor, subscribers = await register(device_id="pump"), Subscribers()
    publisher = Publisher(store.publications, broker=None, subscribers=subscribers, alone=False)
    for revision in range(2):
        await store.configurations.add(sensor.number, str(revision))
        await publisher.show({"pump": 0, sensor.identifier: 0, "nobody": 0})
    assert [revision for *_, revision in subscribers.shown] == [0]
    await publisher.show({"pump": 1, sensor.identifier: 1})
    assert [revision for *_, revision in subscribers.shown] == [0, 1]


async def test_two_instances_never_publish_one_name_at_once(postgresql_url):
    """Their brokers are one; each name's last word is its newest revision."""
    stores = [await open_store(postgresql_url) for _ in range(2)]
    broker = Broker()
    try:
        store = stores[0]
        sensors = [
            await store.sensors.create(identifier=f"00000000-0000-4000-8000-{at:012}", created_at=1)
            for at in range(20)
        ]
        async with publishes(stores[0], broker), publishes(stores[1], broker):
            for _ in range(10):
                await asyncio.gather(
                    *(
                        stores[at % 2].configurations.add(sensor.number, "1")
                        for at, sensor in enumerate(sensors)
                    )
                )
            await eventually(nothing_left(store))
        for sensor in sensors:
            # One that comes while another is read for its name may be published twice.
            revisions = broker.revisions(sensor.identifier)
            assert revisions == sorted(revisions)
            assert revisions[-1] == 9
    finally:
        for each in stores:
            await each.close()


async def test_many_at_a_time_and_no_more_than_the_bound(store, register, monkeypatch):
    monkeypatch.setattr(publishing, "MAXIMUM_UNDER_WAY", 30)
    monkeypatch.setattr(publishing, "CLAIMED_AT_ONCE", 20)
    sensors, broker = [await register() for _ in range(100)], Broker()
    network = sensors[0].network_identifier
    broker.free.clear()
    async with publishes(store, broker):
        numbers = [sensor.number for sensor in sensors]
        await store.configurations.add_to_each(
            network, numbers, lambda targets: ["1"] * len(targets), author=None
        )
        await eventually(lambda: broker.waiting == 30)
        broker.free.set()
        await eventually(nothing_left(store))
    assert broker.most == 30
    assert len(broker.retained) == 100


async def test_bytes_under_way_are_bounded(store, register, monkeypatch):
    monkeypatch.setattr(publishing, "MAXIMUM_BYTES_UNDER_WAY", 3_000)
    sensors, broker = [await register() for _ in range(20)], Broker()
    broker.free.clear()
    network = sensors[0].network_identifier
    async with publishes(store, broker):
        text = json.dumps("x" * 1_000)
        await store.configurations.add_to_each(
            network, [s.number for s in sensors], lambda t: [text] * len(t), author=None
        )
        await eventually(lambda: broker.waiting)
        broker.free.set()
        await eventually(nothing_left(store))
    assert broker.most <= 6
    assert len(broker.retained) == 20


async def test_a_refused_one_is_retried_and_holds_up_no_other(store, register):
    sensor, other, broker = await register(device_id="pump"), await register(), Broker()
    broker.refuses = {TOPIC + "pump"}
    async with publishes(store, broker):
        await store.configurations.add(sensor.number, "1")
        await store.configurations.add(other.number, "1")

        async def only_one_left():
            return await store.publications.count() == 1

        await eventually(only_one_left)
        assert await states(store, other.number) == ["published"]
        assert await states(store, sensor.number) == ["pending"]
        broker.refuses = set()
        await eventually(nothing_left(store))
    assert await states(store, sensor.number) == ["published"]


async def test_while_the_broker_is_away_nothing_is_claimed(store, register):
    sensor, broker = await register(), Broker()
    broker.connected = False
    async with publishes(store, broker) as publisher:
        await store.configurations.add(sensor.number, "1")
        publisher.wake()
        await asyncio.sleep(0.1)  # nothing is to happen in it
        assert await store.publications.due(now())
        broker.connected, broker.connects = True, 2
        await eventually(nothing_left(store))
    assert broker.revisions(sensor.identifier) == [0]


async def test_a_broker_that_ends_connections_over_refusals_is_left_in_peace(
    store, register, monkeypatch
):
    monkeypatch.setattr(publishing, "FIRST_RETRY_SECONDS", 300)
    sensor, other, broker = await register(), await register(), Broker()
    broker.refuses = {TOPIC + sensor.identifier}
    async with publishes(store, broker) as publisher:
        await store.configurations.add(sensor.number, "1")

        async def put_off():
            return not await store.publications.due(now() + 60_000_000)

        await eventually(put_off)
        broker.connects = 2
        await asyncio.sleep(0.1)  # it learns of that at its next look
        await store.configurations.add(other.number, "1")
        publisher.wake()
        await asyncio.sleep(0.1)  # nothing is to happen in it
        assert broker.log == []


async def test_subscribers_are_told_once_while_the_broker_is_away(store, register):
    sensor, broker, subscribers = await register(device_id="pump"), Broker(), Subscribers()
    broker.connected = False
    async with publishes(store, broker, subscribers) as publisher:
        await store.configurations.add(sensor.number, "1")
        await eventually(lambda: subscribers.shown)
        publisher.wake()
        await store.configurations.add(sensor.number, "1")
        await eventually(lambda: len(subscribers.shown) == 2)
        assert await states(store, sensor.number) == ["superseded", "pending"]
        broker.connected, broker.connects = True, 2
        await eventually(nothing_left(store))
    names = ["pump", sensor.identifier]
    assert subscribers.shown == [(sensor.number, names, 0), (sensor.number, names, 1)]
    assert broker.revisions("pump") == [1]


async def test_without_any_mqtt_it_is_published_at_once(store, register):
    sensor = await register()
    async with publishes(store):
        await store.configurations.add(sensor.number, "1")
        await eventually(nothing_left(store))
    assert await states(store, sensor.number) == ["published"]


async def test_changed_and_deleted_names_are_cleared(store, register):
    sensor, broker = await register(device_id="old"), Broker()
    async with publishes(store, broker) as publisher:
        await store.configurations.add(sensor.number, "1")
        await eventually(nothing_left(store))
        await store.sensors.change(sensor.number, device_id="new")
        publisher.wake()
        await eventually(nothing_left(store))
        assert (broker.retained[TOPIC + "old"], broker.revisions("new")) == (b"", [0])
        await store.sensors.delete(sensor.number, 1)
        publisher.wake()
        await eventually(nothing_left(store))
    assert set(broker.retained.values()) == {b""}


async def test_a_name_that_another_has_taken_holds_what_is_the_others(store, register):
    first, second, broker = await register(device_id="pump"), await register(), Broker()
    third = await register(device_id="valve")
    for sensor, text in ((first, "1"), (second, "2"), (third, "3")):
        await store.configurations.add(sensor.number, text)
    async with publishes(store, broker):
        await eventually(nothing_left(store))
    bare = await register()
    await store.sensors.change(first.number, device_id="away")
    await store.sensors.change(second.number, device_id="pump")
    await store.sensors.change(third.number, device_id=None)
    await store.sensors.change(bare.number, device_id="valve")
    async with publishes(store, broker):
        await eventually(nothing_left(store))
    assert json.loads(broker.retained[TOPIC + "pump"]) == {"revision": 0, "configuration": 2}
    assert broker.retained[TOPIC + "valve"] == b""


async def test_an_outage_of_the_database_is_survived(store, register, monkeypatch):
    sensor, broker = await register(), Broker()
    monkeypatch.setattr(publishing, "RETRY_STORE_SECONDS", 0.01)
    outbox, away = store.publications, {"finish": 2, "claim": 2, "contents": 1, "postpone": 0}

    def troubled(name):
        method = getattr(outbox, name)

        async def call(*arguments):
            if away[name]:
                away[name] -= 1
                raise StoreUnavailableError("an outage to order")
            return await method(*arguments)

        return call

    for name in away:
        monkeypatch.setattr(outbox, name, troubled(name))
    async with publishes(store, broker):
        await store.configurations.add(sensor.number, "1")
        await eventually(nothing_left(store))
    assert not any(away.values())
    assert await states(store, sensor.number) == ["published"]
