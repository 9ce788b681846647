"""The newest values in memory are those of the store, whatever is committed."""

import asyncio
import random

import pytest

from heliograph.errors import StoreUnavailableError
from heliograph.ingest import latest_values as latest_module
from heliograph.model.records import Kind
from heliograph.store.engine import Batch
from ingest_core import NOON, running
from rows import measurement

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

# One of each shape, and one that the others lack.
SHAPES = [
    lambda n: {"a": n},
    lambda n: {"a": n, "b": {"c": n, "d.e": [n]}},
    lambda n: n,
    lambda n: {"a.b": n, "value": None},
    lambda n: {"b": n},
    lambda n: {},
]


@pytest.fixture
def asked(store, monkeypatch):
    """The sensors that the store was asked for."""
    numbers = []
    read = store.measurements.latest_of

    async def counted(wanted):
        numbers.extend(wanted)
        return await read(wanted)

    monkeypatch.setattr(store.measurements, "latest_of", counted)
    return numbers


@pytest.fixture
def values(core, monkeypatch):
    """The values of the core, as where no other process writes."""
    monkeypatch.setattr(core.pipeline.latest, "_fresh", float("inf"))
    return core.pipeline.latest


async def send(core, sensor, *elements):
    """Send (time, value) pairs and wait for their commit."""
    payload = [{"timestamp": NOON + at, "value": value} for at, value in elements]
    await core.post(sensor, payload, kind=Kind.MEASUREMENT)


def shown(attributes):
    return [(a.name, a.timestamp // 1_000_000 - NOON, a.value) for a in attributes]


async def test_whatever_is_committed_memory_says_what_the_store_says(core, store, values):
    sensor = await core.device("pump-1")
    chance = random.Random(7)
    for round_ in range(60):
        elements = [
            (chance.randrange(5), chance.choice(SHAPES)(chance.randrange(4)))
            for _ in range(chance.randrange(1, 4))
        ]
        await send(core, sensor, *elements)
        if round_ % 3 == 0:
            expected = await store.measurements.latest(sensor.number)
            assert await values.read(sensor) == expected


async def test_the_store_is_asked_once(core, values, asked):
    sensor, other = await core.device("pump-1"), await core.device("pump-2")
    await send(core, sensor, (0, {"a": 1}))
    assert shown(await values.read(sensor)) == [("a", 0, 1)]
    await send(core, sensor, (2, {"a": 2}), (2, {"b": 3}))
    await send(core, other, (3, {"a": 9}))
    assert shown(await values.read(sensor)) == [("a", 2, 2), ("b", 2, 3)]
    # What is late is newer only for what nothing newer is known of.
    await send(core, sensor, (1, {"a": 4, "c": 5}))
    assert shown(await values.read(sensor)) == [("a", 2, 2), ("b", 2, 3), ("c", 1, 5)]
    assert asked == [sensor.number]


async def test_of_rows_at_one_time_the_greatest_fingerprint_counts(core, store, values, asked):
    sensor = await core.device("pump-1")
    await values.read(sensor)
    for number in range(12):
        await send(core, sensor, (0, {"a": number}))
        found = shown(await values.read(sensor))
        assert found == shown(await store.measurements.latest(sensor.number))
    assert asked.count(sensor.number) == 13


async def test_what_is_dropped_as_a_repeat_changes_nothing(core, store, values, asked):
    """An element that comes again by its id may carry another time and another value."""
    sensor = await core.device("pump-1")
    await values.read(sensor)
    for at, value in ((0, 1), (5, 2)):
        payload = [{"id": "x", "timestamp": NOON + at, "value": {"a": value}}]
        await core.post(sensor, payload, kind=Kind.MEASUREMENT)
    assert shown(await values.read(sensor)) == [("a", 0, 1)]
    assert asked == [sensor.number]


async def test_what_is_committed_while_the_store_is_asked_is_not_missed(core, store, monkeypatch):
    sensor = await core.device("pump-1")
    values = core.pipeline.latest
    read = store.measurements.latest_of

    async def overtaken(numbers):
        found = await read(numbers)
        await send(core, sensor, (1, {"a": 2}))
        return found

    await send(core, sensor, (0, {"a": 1}))
    monkeypatch.setattr(store.measurements, "latest_of", overtaken)
    assert shown(await values.read(sensor)) == [("a", 1, 2)]


async def test_many_ask_at_once(core, values):
    sensor = await core.device("pump-1")
    await send(core, sensor, (0, {"a": 1}))
    found = await asyncio.gather(*(values.read(sensor) for _ in range(20)))
    assert {tuple(shown(each)) for each in found} == {(("a", 0, 1),)}
    await send(core, sensor, (1, {"a": 2}))
    assert shown(await values.read(sensor)) == [("a", 1, 2)]


async def test_nothing_is_held_of_whom_nobody_asks_about_or_who_sends_a_lot(
    core, values, asked, monkeypatch
):
    monkeypatch.setattr(latest_module, "MAXIMUM_PENDING_BYTES", 2_000)
    sensor = await core.device("pump-1")
    await send(core, sensor, (0, {"a": 1}))
    assert not values._held
    await values.read(sensor)
    await send(core, sensor, *((at, {"a": at}) for at in range(20)))
    assert not values._held
    assert (values._size, values._pending_bytes) == (0, 0)
    assert shown(await values.read(sensor)) == [("a", 19, 19)]
    assert asked == [sensor.number] * 2


@pytest.mark.parametrize(("limit", "bound"), [("MAXIMUM_SENSORS", 2), ("MAXIMUM_BYTES", 500)])
async def test_who_was_asked_about_longest_ago_is_forgotten(
    core, values, asked, monkeypatch, limit, bound
):
    monkeypatch.setattr(latest_module, limit, bound)
    sensors = [await core.device(f"pump-{number}") for number in range(3)]
    for sensor in sensors:
        await send(core, sensor, (0, {"a": "x" * 150}))
    for at in (0, 1, 0, 2):
        assert await values.read(sensors[at])
    assert list(values._held) == [sensors[0].number, sensors[2].number]
    assert values._size == sum(held.size for held in values._held.values()) > 300
    await values.read(sensors[1])
    assert asked == [sensors[at].number for at in (0, 1, 2, 1)]


async def test_rows_that_wait_are_bounded_for_all_together(core, values, monkeypatch):
    sensors = [await core.device(f"pump-{number}") for number in range(3)]
    for sensor in sensors:
        await values.read(sensor)
    monkeypatch.setattr(latest_module, "MAXIMUM_BYTES", 600)
    for sensor in sensors:
        await send(core, sensor, (0, {"a": 1}))
    assert not values._held
    assert values._pending_bytes == 0
    assert shown(await values.read(sensors[0])) == [("a", 0, 1)]


async def test_beyond_its_thousandth_name_a_sensor_has_no_attributes(core, store, values):
    sensor = await core.device("pump-1")
    await values.read(sensor)
    await send(core, sensor, (0, {f"a{number}": 1 for number in range(999)}))
    await send(core, sensor, (1, {"b": 1, "c": 2}))
    found = await values.read(sensor)
    assert found == await store.measurements.latest(sensor.number)
    assert len(found) <= 1_000


async def test_an_outage_leaves_nothing_behind(core, store, values, monkeypatch):
    sensor = await core.device("pump-1")

    async def away(_numbers):
        raise StoreUnavailableError("an outage to order")

    with monkeypatch.context() as patch:
        patch.setattr(store.measurements, "latest_of", away)
        with pytest.raises(StoreUnavailableError):
            await values.read(sensor)
    assert not values._held
    await send(core, sensor, (0, {"a": 1}))
    assert shown(await values.read(sensor)) == [("a", 0, 1)]


async def test_what_another_process_commits_is_seen_soon(core, store, engine, asked, monkeypatch):
    """On PostgreSQL; a SQLite file has one server."""
    sensor = await core.device("pump-1")
    values = core.pipeline.latest
    assert values._fresh == (1.0 if engine == "postgresql" else float("inf"))
    await send(core, sensor, (0, {"a": 1}))
    monkeypatch.setattr(values, "_fresh", 3_600)
    await values.read(sensor)
    rows = [measurement(sensor.number, (NOON + 9) * 1_000_000, {"a": 2})]
    await store.write(Batch(measurements=rows))
    assert shown(await values.read(sensor)) == [("a", 0, 1)]
    monkeypatch.setattr(values, "_fresh", 0)
    assert shown(await values.read(sensor)) == [("a", 9, 2)]


async def test_after_a_restart_it_is_as_before(core, store, values):
    sensor = await core.device("pump-1")
    await send(core, sensor, (3, {"a": 1}), (1, {"b": 2}))
    before = await values.read(sensor)
    async with running(store) as other:
        again = await other.registry.find(sensor.identifier)
        assert await other.pipeline.latest.read(again) == before
