"""What happens beside the packer, between any two of its steps: each row is there, and once."""

import asyncio

import psycopg
import pytest

from heliograph.model.records import Kind
from heliograph.model.retention import Retention
from heliograph.model.time import DAY, HOUR, MINUTE
from heliograph.packed import chunk as packing
from heliograph.packer import Packer
from heliograph.retention.runs import RetentionRuns
from heliograph.rollups.task import Rolling
from heliograph.store import chunks as chunks_module
from heliograph.store import open_store
from heliograph.store.chunks import ChangedMeanwhileError
from heliograph.store.engine import Batch
from heliograph.store.pages import GREATEST, LEAST
from heliograph.store.removal import Span
from packing_rows import pack_range
from rows import NOON, again, measurement

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
OLD = NOON - 12 * HOUR - 10 * DAY


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    for module in (packing, chunks_module):
        monkeypatch.setattr(module, "MAXIMUM_ROWS", 5)
    monkeypatch.setattr("heliograph.packed.pieces.MAXIMUM_ROWS", 5)


def rows_of(sensor, count, start=OLD, step=MINUTE):
    return [measurement(sensor, start + at * step, {"t": at}) for at in range(count)]


async def roll_up(store, moment=NOON):
    async def without_a_pause():
        pass

    rolling = Rolling(store, without_a_pause)
    await rolling.advance(moment)
    mark = await rolling.newest_mark()
    while await rolling.redo(mark):
        pass


async def whole_page(store, sensor):
    page = await store.measurements.page(sensor, key=LEAST, limit=1_000)
    return [(row.timestamp, row.id) for row in page]


async def read_in_pages(store, sensor, limit):
    found, cursor = [], None
    while page := await store.measurements.page(
        sensor, cursor=cursor, key=None if cursor else LEAST, direction="next", limit=limit
    ):
        found += [(row.timestamp, row.id) for row in page]
        cursor = (page[-1].timestamp, page[-1].fingerprint)
    return found


def keys(rows):
    return [(row[2], row[0]) for row in rows]


def before_each(monkeypatch, store, queries, act):
    """Have `act` done before each of these queries."""
    fetch = store.engine.fetch

    async def fetching(query, **parameters):
        if query in queries:
            await act()
        return await fetch(query, **parameters)

    monkeypatch.setattr(store.engine, "fetch", fetching)


# All that reads a part of a page.
PAGES = (
    *("measurements_packed", "measurements_after", "measurements_before"),
    *("measurements_after_packed", "measurements_before_packed"),
)


async def hot_rows(store, sensor):
    chunks = await store.packed_removal.count([Span(sensor, LEAST, GREATEST)])
    return 60 - chunks[sensor].rows


def packs_step_by_step(store, sensor):
    """Return what packs a few rows more each time that it is called, into chunks of five."""
    ends = iter(range(4, 100, 4))

    async def pack():
        if (end := next(ends, None)) is not None:
            await pack_range(store.chunks, sensor, LEAST, OLD + end * MINUTE)

    return pack


async def test_a_repeat_that_another_server_writes_while_its_original_is_packed(postgresql_url):
    """It waits for the packer's transaction, and then finds the chunk."""
    store, other = await open_store(postgresql_url), await open_store(postgresql_url)
    sensor = (await store.sensors.create(identifier="s", created_at=1)).number
    rows = rows_of(sensor, 12)
    await store.write(Batch(measurements=rows))
    replace, writing = chunks_module.replace, []

    async def crosswise(*arguments, **named):
        await replace(*arguments, **named)
        # All is written here, nothing is committed.
        repeats = Batch(measurements=[again(row) for row in rows])
        writing.append(asyncio.create_task(other.write(repeats)))
        async with await psycopg.AsyncConnection.connect(postgresql_url) as connection:
            while not (await (await connection.execute(WAITING)).fetchone())[0]:
                assert not writing[-1].done()
                await connection.rollback()

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunks_module, "replace", crosswise)
            prepared = await store.chunks.prepare(sensor, LEAST, NOON)
            await store.chunks.put([prepared])
        [written] = await asyncio.gather(*writing)
        assert sorted(written.duplicates.values()) == [row[0] for row in rows]
        assert await whole_page(other, sensor) == keys(rows)
    finally:
        await store.close()
        await other.close()


async def test_what_came_twenty_hours_ahead_and_is_repeated_once_packed(store, sensor):
    moment = NOON + 3 * DAY
    rows = [*rows_of(sensor, 30, NOON + 20 * HOUR), *rows_of(sensor, 30, NOON)]
    batch = Batch(measurements=list(rows))
    batch.sort()
    await store.write(batch)
    await roll_up(store, NOON)
    packer = Packer(store, 0, moment=lambda: moment, rests=False)
    # Neither is old enough yet, nor rolled up.
    assert await packer.pack(NOON, received_before=GREATEST) == 0
    await store.write(Batch(measurements=rows_of(sensor, 1, moment)))
    await roll_up(store, moment)
    await pack_range(store.chunks, sensor, LEAST, moment)
    repeats = Batch(measurements=[again(row) for row in rows])
    repeats.sort()
    assert len((await store.write(repeats)).duplicates) == 60
    assert (await whole_page(store, sensor))[:-1] == sorted(keys(rows))


@pytest.mark.parametrize("limit", [3, 40])
async def test_pages_go_on_across_each_commit_of_the_packer(store, sensor, monkeypatch, limit):
    """One is packed between any two of a reader's statements, and made anew with more."""
    rows = rows_of(sensor, 60)
    await store.write(Batch(measurements=rows))
    before_each(monkeypatch, store, PAGES, packs_step_by_step(store, sensor))
    assert await read_in_pages(store, sensor, limit) == keys(rows)
    assert await hot_rows(store, sensor) == 1


@pytest.mark.parametrize("limit", [3, 40])
async def test_pages_go_on_across_merging(store, sensor, monkeypatch, limit):
    """Two chunks, here and there, become one between any two of a reader's statements."""
    rows = rows_of(sensor, 60)
    await store.write(Batch(measurements=rows))
    for at in range(0, 58, 2):
        await pack_range(store.chunks, sensor, LEAST, OLD + (at + 2) * MINUTE)
    turns = iter(range(3, 1_000, 5))

    async def merge():
        small = await store.chunks.small(sensor, LEAST, GREATEST, 3)
        place = next(turns) % max(len(small) - 1, 1)
        for prepared in await store.chunks.merged_anew(sensor, small[place : place + 2]):
            await store.chunks.put([prepared])

    before_each(monkeypatch, store, PAGES, merge)
    for _ in range(3):
        assert await read_in_pages(store, sensor, limit) == keys(rows)
    assert (await store.chunks.totals_of(sensor)).chunks < 29


async def test_history_goes_on_across_each_commit_of_the_packer(store, sensor, monkeypatch):
    rows = rows_of(sensor, 60)
    await store.write(Batch(measurements=rows))
    before_each(monkeypatch, store, PAGES, packs_step_by_step(store, sensor))
    found, end = [], NOON
    while page := await store.measurements.history(sensor, start=OLD, end=end, limit=7):
        found += [(row.timestamp, row.id) for row in page]
        end = page[-1].timestamp
    assert found[::-1] == keys(rows)
    assert await hot_rows(store, sensor) == 1


async def test_an_export_goes_on_across_each_commit_of_the_packer(store, sensor, monkeypatch):
    rows = rows_of(sensor, 60)
    await store.write(Batch(measurements=rows))
    before_each(monkeypatch, store, ("exports_measurement",), packs_step_by_step(store, sensor))
    found, at = [], (OLD - 1, GREATEST)
    while page := await store.exports.page(
        Kind.MEASUREMENT, sensor, at, until=NOON, limit=3, longest=1_000
    ):
        found += page
        at = page[-1][:2]
    assert [row[0] for row in found] == [row[2] for row in rows]
    assert await hot_rows(store, sensor) == 1


async def test_what_retention_removes_while_it_is_packed_stays_removed(store, sensor, monkeypatch):
    rows = rows_of(sensor, 60, step=HOUR)
    await store.write(Batch(measurements=[*rows, *rows_of(sensor, 1, NOON)]))
    await roll_up(store)
    runs = RetentionRuns(store, Retention(1, 0, 0), clock=lambda: NOON)
    prepared = await store.chunks.prepare(sensor, LEAST, NOON)
    await runs.sweep(OLD + DAY + 3 * HOUR)
    with pytest.raises(ChangedMeanwhileError):
        await store.chunks.put([prepared])
    assert (await whole_page(store, sensor))[:-1] == keys(rows)[3:]
    # And the other way round: what is packed meanwhile goes as well.
    prepared = [await store.chunks.prepare(sensor, LEAST, NOON)]
    remove = store.removal.remove

    async def after_packing(*arguments, **options):
        if prepared:
            await store.chunks.put([prepared.pop()])
        return await remove(*arguments, **options)

    monkeypatch.setattr(store.removal, "remove", after_packing)
    await runs.sweep(OLD + DAY + 40 * HOUR)
    assert (await whole_page(store, sensor))[:-1] == keys(rows)[40:]
