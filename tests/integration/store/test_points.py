"""The rows of an attribute that a chart needs, on both engines."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregating import aggregates_of
from heliograph.model.attributes import keys_of, value_at
from heliograph.model.time import HOUR, MINUTE, SECOND
from heliograph.store import measurements as measurements_module
from heliograph.store import pages as pages_module
from heliograph.store import points as points_module
from heliograph.store import stretches as stretches_module
from heliograph.store.engine import Batch
from heliograph.store.measurements import RangeTooLargeError
from rows import NOON, measurement

numbers = st.one_of(st.integers(-(1 << 63), (1 << 64) - 1), st.floats(-1e300, 1e300))
others = st.one_of(st.booleans(), st.none(), st.text(max_size=2), st.lists(st.just(1), max_size=1))
KEYS = ["t", "air", "value", 'qu"ote', "dot.ted", "", "ü"]
NAMES = ["t", "air.t", "value", 'qu"ote', "dot\\.ted", "", "air.air.ü"]
values = st.recursive(
    numbers | others,
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=6,
)
# Series as sensors send them, and series of anything.
alike = st.sampled_from(
    [
        lambda number: {"t": number},
        lambda number: {"air": {"t": number}, "t": "warm"},
        lambda number: number,
    ]
).flatmap(lambda make: st.lists(st.tuples(st.integers(0, 40), numbers.map(make)), max_size=25))
series = st.one_of(alike, st.lists(st.tuples(st.integers(0, 40), values), max_size=25))


async def stored(store, sensor, readings):
    """Store the readings, given as (seconds from noon, value); return their keys and values."""
    rows = [measurement(sensor, NOON + at * SECOND, value) for at, value in readings]
    batch = Batch(measurements=list(rows))
    batch.sort()
    await store.write(batch)
    pairs = zip(rows, readings, strict=True)
    return {(row[2], row[3]): value for row, (_, value) in pairs}


def watched(store, monkeypatch):
    """Return the list of queries asked from now on, each with its limit."""
    asked = []
    fetch = store.engine.fetch

    async def fetching(query, **parameters):
        asked.append((query, parameters.get("limit")))
        return await fetch(query, **parameters)

    monkeypatch.setattr(store.engine, "fetch", fetching)
    return asked


def with_numbers(known, name, start, end):
    """Return the keys of the rows in the range whose attribute is a number, in order."""
    return sorted(
        key
        for key, value in known.items()
        if start <= key[0] < end and isinstance(value_at(value, keys_of(name)), int | float)
    )


async def test_picks_are_real_rows_of_the_range(store, register, monkeypatch):
    monkeypatch.setattr(points_module, "_FIRST_CHUNK", 3)
    monkeypatch.setattr(points_module, "CHUNK", 7)
    cases = []

    # Examples are drawn first: Hypothesis calls no coroutines.
    @settings(database=None, suppress_health_check=list(HealthCheck))
    @given(series, st.integers(-5, 45), st.integers(0, 50), st.integers(3, 12))
    def draw(readings, start, length, count):
        cases.append((readings, NOON + start * SECOND, length * SECOND, count))

    draw()
    for readings, start, length, count in cases:
        sensor = (await register()).number
        known = await stored(store, sensor, readings)
        for name in NAMES:
            rows = await store.points.pick(
                sensor, name, start=start, end=start + length, count=count
            )
            picked = [(row.timestamp, row.fingerprint) for row in rows]
            there = with_numbers(known, name, start, start + length)
            assert len(picked) == min(count, len(there))
            assert picked == sorted(set(picked))
            assert set(picked) <= set(there)
            assert picked[:1] + picked[-1:] == there[:1] + there[-1:]


async def test_rows_come_as_they_are_stored_with_the_attribute_alone(store, sensor):
    greatest = (1 << 63) - 1
    row = measurement(sensor, NOON, {"n": greatest, "x": [1, {"y": None}]})
    other = measurement(sensor, NOON, {"n": 1})
    await store.write(Batch(measurements=sorted([row, other], key=lambda row: row[2:4])))
    picked = await store.points.pick(sensor, "n", start=NOON, end=NOON + 1, count=3)
    page = await store.measurements.page(sensor, key=None, direction="next", limit=10)
    assert [bytes(row.value) for row in picked] == [
        b'{"n":%d}' % (greatest if each.id == row[0] else 1) for each in page
    ]
    assert [(row.id, row.timestamp, row.fingerprint) for row in picked] == [
        (row.id, row.timestamp, row.fingerprint) for row in page
    ]
    assert {picked[0].id, picked[1].id} == {row[0], other[0]}


async def test_more_rows_than_may_be_read_are_refused(store, sensor, monkeypatch):
    monkeypatch.setattr(points_module, "_FIRST_CHUNK", 2)
    monkeypatch.setattr(points_module, "CHUNK", 2)
    monkeypatch.setattr(measurements_module, "LARGE_READ", 4)
    monkeypatch.setattr(measurements_module, "MAXIMUM_RAW_ROWS", 9)
    await stored(store, sensor, [(at, {"n": at}) for at in range(10)])

    async def pick(seconds):
        end = NOON + seconds * SECOND
        return await store.points.pick(sensor, "n", start=NOON, end=end, count=5)

    assert len(await pick(9)) == 5
    asked = watched(store, monkeypatch)
    with pytest.raises(RangeTooLargeError, match="shorter range"):
        await pick(10)
    # The rest was counted before it was read.
    assert [query for query, _ in asked] == ["measurements_packed"] * 2 + ["measurements_reach"]


async def test_large_values_are_read_a_few_at_a_time(store, sensor, monkeypatch):
    monkeypatch.setattr(points_module, "_FIRST_CHUNK", 2)
    monkeypatch.setattr(points_module, "_CHUNK_BYTES", 10_000)
    text = "x" * 2_000
    await stored(store, sensor, [(at, {"n": at, "text": text}) for at in range(30)])
    asked = watched(store, monkeypatch)
    assert len(await store.points.pick(sensor, "n", start=NOON, end=NOON + MINUTE, count=9)) == 9
    assert [limit for query, limit in asked if query == "measurements_packed"][1:] == [4] * 8


async def test_large_values_after_many_small_ones_are_read_a_few_at_a_time(
    store, sensor, monkeypatch
):
    monkeypatch.setattr(points_module, "LARGEST_CHUNK", 20_000)
    monkeypatch.setattr(points_module, "FEW", 2)
    monkeypatch.setattr(pages_module, "FEW", 2)
    sizes = []
    fetch = store.engine.fetch

    async def watched(query, **parameters):
        rows = await fetch(query, **parameters)
        if query == "measurements_packed":
            sizes.append(len(rows[0][3] or ""))
        return rows

    monkeypatch.setattr(store.engine, "fetch", watched)
    readings = [
        (at, {"n": at, "text": "x" * (9_000 if at % 400 > 380 else 1)}) for at in range(900)
    ]
    known = await stored(store, sensor, readings)
    read = {"start": NOON, "end": NOON + HOUR}
    picked = await store.points.pick(sensor, "n", **read, count=1_000)
    assert [(row.timestamp, row.fingerprint) for row in picked] == sorted(known)
    # With the commas between.
    assert max(sizes) < 21_000


async def test_readers_at_the_same_time_get_the_same(store, sensor):
    await stored(store, sensor, [(at, {"n": at * 7 % 13}) for at in range(2_000)])
    charts = [
        store.points.pick(sensor, "n", start=NOON, end=NOON + 2_000 * SECOND, count=50)
        for _ in range(6)
    ]
    first, *rest = await asyncio.gather(*charts)
    assert len(first) == 50
    assert all(chart == first for chart in rest)


async def test_small_reads_go_past_large_ones(store, sensor, monkeypatch):
    monkeypatch.setattr(stretches_module, "ROWS", 500)
    await stored(store, sensor, [(at, {"n": at}) for at in range(1_000)])
    # Charts and aggregates from raw rows take the same turns.
    turns = store.points._raw_reads._turns
    for _ in range(measurements_module.LARGE_READS_AT_ONCE):
        await turns.acquire()
    read = {"start": NOON, "end": NOON + HOUR}

    async def pick():
        return len(await store.points.pick(sensor, "n", **read, count=5))

    async def aggregate():
        return (await aggregates_of(store).read(sensor, [NOON, NOON + HOUR], ["n"], **read)).rows

    assert await pick() == 5
    assert await aggregate() == [1_000]
    monkeypatch.setattr(measurements_module, "LARGE_READ", 100)
    large = [asyncio.create_task(pick()), asyncio.create_task(aggregate())]
    done, _ = await asyncio.wait(large, timeout=0.05)
    assert not done
    turns.release()
    # The first gives its turn back to the second, and so does that.
    assert await asyncio.gather(*large) == [5, [1_000]]
    assert await pick() == 5
