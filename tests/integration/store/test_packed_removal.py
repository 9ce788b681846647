"""Removal of packed history: what is due goes, and nothing else, as from rows."""

import asyncio

import pytest

from heliograph.model.retention import Retention
from heliograph.model.time import DAY, HOUR
from heliograph.packed import chunk as packing
from heliograph.retention.plan import DueCounter
from heliograph.retention.runs import RetentionRuns
from heliograph.rollups.task import Rolling
from heliograph.store import chunks as chunks_module
from heliograph.store import packed_removal as packed_removal_module
from heliograph.store.chunks import ChangedMeanwhileError
from heliograph.store.engine import Batch
from heliograph.store.pages import GREATEST, LEAST
from heliograph.store.removal import KeptKind, Span
from packing_rows import pack_range
from rows import NOON, measurement

OLD = NOON - 20 * DAY


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    for module in (packing, chunks_module):
        monkeypatch.setattr(module, "MAXIMUM_ROWS", 7)
    monkeypatch.setattr("heliograph.packed.pieces.MAXIMUM_ROWS", 7)
    monkeypatch.setattr(packed_removal_module, "_REMOVED_AT_ONCE", 2)


async def roll_up(store):
    """Work off all marks of late rows, once all until noon counts as rolled up."""
    sql = f"UPDATE rollup_state SET frontier = {NOON}"
    if store.engine.name == "sqlite":
        await store.engine._run(lambda: store.engine._writer.open().execute(sql).fetchall())
    else:
        await (await store.engine.writer.open()).execute(sql)

    async def without_a_pause():
        pass

    rolling = Rolling(store, without_a_pause)
    until = await rolling.newest_mark()
    while await rolling.redo(until):
        pass


async def fill(store, sensors, count=40):
    """Store a row every half hour."""
    rows = [
        measurement(sensor, OLD + at * HOUR // 2, {"t": at}, fingerprint=at)
        for sensor in sensors
        for at in range(count)
    ]
    await store.write(Batch(measurements=rows))


async def chunks_of(store, sensor):
    place = {"sensor": sensor, "first_fingerprint": LEAST, "last_fingerprint": GREATEST}
    return await store.engine.fetch(
        "chunks_between", first=LEAST, last=GREATEST, limit=1_000, **place
    )


async def times(store, sensor):
    page = await store.measurements.page(sensor, key=LEAST, limit=1_000)
    return [(row.timestamp - OLD) / HOUR for row in page]


def runs(store, retention):
    return RetentionRuns(store, retention, clock=lambda: NOON)


async def test_what_is_packed_expires_as_rows_do(store, register):
    packed, plain = [(await register()).number for _ in range(2)]
    await fill(store, (packed, plain))
    await pack_range(store.chunks, packed, LEAST, OLD + 17 * HOUR)
    await roll_up(store)
    whole = len(await chunks_of(store, packed))
    # Chunks have 3.5 hours each: of what is due as a part, only what is from before midnight goes.
    for hours, first in ((2, 0), (9, 7), (13, 12), (18, 18)):
        moment = OLD + DAY + hours * HOUR
        keep = Retention(1, 0, 0)
        announced = await DueCounter(store, keep, moment).totals()
        sweeper = runs(store, keep)
        await sweeper.sweep(moment)
        assert await times(store, plain) == [at / 2 for at in range(2 * hours, 40)]
        assert await times(store, packed) == [at / 2 for at in range(2 * first, 40)]
        removed = sweeper.state.removed_total[KeptKind.MEASUREMENTS]
        assert announced[KeptKind.MEASUREMENTS].rows == removed > 0
        assert announced[KeptKind.MEASUREMENTS].bytes > 0
    assert whole == 5
    assert await chunks_of(store, packed) == []


async def test_packed_rows_that_are_not_rolled_up_stay(store, sensor):
    await fill(store, [sensor])
    await pack_range(store.chunks, sensor, LEAST, OLD + 17 * HOUR)
    counter = DueCounter(store, Retention(1, 0, 0), NOON)
    assert (await counter.totals())[KeptKind.MEASUREMENTS].rows == 0
    assert counter.not_rolled_up == 40
    await runs(store, Retention(1, 0, 0)).sweep(NOON)
    assert len(await times(store, sensor)) == 40


async def test_the_floor_is_raised_above_packed_rows(store, sensor):
    await fill(store, [sensor])
    await pack_range(store.chunks, sensor, LEAST, OLD + 17 * HOUR)
    await roll_up(store)
    await runs(store, Retention(1, 0, 0)).sweep(OLD + DAY + 4 * HOUR)
    assert (await store.removal.floors([sensor]))[sensor] == OLD + 4 * HOUR


async def test_a_chunk_that_is_made_anew_meanwhile_is_cut_later(store, sensor, monkeypatch):
    await fill(store, [sensor])
    await pack_range(store.chunks, sensor, LEAST, OLD + 17 * HOUR)
    midnight = OLD + 12 * HOUR
    span = [Span(sensor, midnight - 3 * HOUR // 2, midnight)]
    make = packed_removal_module.packed_rows
    loop = asyncio.get_running_loop()

    async def comes_late():
        await store.write(Batch(measurements=[measurement(sensor, midnight + 1, 1)]))
        await pack_range(store.chunks, sensor, midnight, midnight + HOUR)

    def slow(rows):
        asyncio.run_coroutine_threadsafe(comes_late(), loop).result(30)
        return make(rows)

    monkeypatch.setattr(packed_removal_module, "packed_rows", slow)
    assert [each async for each in store.packed_removal.remove(span)] == []
    assert len(await times(store, sensor)) == 41
    monkeypatch.setattr(packed_removal_module, "packed_rows", make)
    [(_, removed)] = [each async for each in store.packed_removal.remove(span)]
    assert removed.rows == 3
    assert (await times(store, sensor))[20:22] == [10, 12]


async def test_an_erased_sensor_leaves_nothing_packed(store, sensor, register):
    other = (await register()).number
    await fill(store, [sensor, other])
    for number in (sensor, other):
        await pack_range(store.chunks, number, LEAST, OLD + 17 * HOUR)
    await store.sensors.delete(sensor, NOON, erases=True)
    await store.sensors.erase(sensor)
    assert await chunks_of(store, sensor) == []
    assert await times(store, sensor) == []
    assert len(await times(store, other)) == 40


async def test_what_is_erased_while_it_is_packed_stays_erased(store, sensor, monkeypatch):
    await fill(store, [sensor])
    make = chunks_module.pack
    loop = asyncio.get_running_loop()

    async def erase():
        await store.sensors.delete(sensor, NOON, erases=True)
        await store.sensors.erase(sensor)

    def slow(rows):
        monkeypatch.setattr(chunks_module, "pack", make)
        asyncio.run_coroutine_threadsafe(erase(), loop).result(30)
        return make(rows)

    monkeypatch.setattr(chunks_module, "pack", slow)
    with pytest.raises(ChangedMeanwhileError):
        await pack_range(store.chunks, sensor, LEAST, OLD + 17 * HOUR)
    assert await chunks_of(store, sensor) == []
    assert await times(store, sensor) == []
