"""The packer: what is packed when, and that it ends anywhere without harm."""

import asyncio
import os
import textwrap
import uuid

import pytest
import structlog

import program
from heliograph import packer as packer_module
from heliograph.errors import StoreUnavailableError
from heliograph.model.identifiers import first_ingest_id
from heliograph.model.time import DAY, HOUR, MINUTE
from heliograph.packed.head import DamagedChunkError
from heliograph.packer import Packer
from heliograph.rollups.task import Rolling
from heliograph.store import chunks as chunks_module
from heliograph.store import open_store
from heliograph.store.engine import Batch
from heliograph.store.pages import GREATEST, LEAST
from packing_rows import pack_range
from rows import NOON, measurement

# A Thursday; a week of pieces begins at midnight.
MIDNIGHT = NOON - 12 * HOUR


async def run(store, sql):
    if store.engine.name == "sqlite":
        await store.engine._run(lambda: store.engine._writer.open().execute(sql).fetchall())
    else:
        await (await store.engine.writer.open()).execute(sql)


def packer(store):
    return Packer(store, 0, moment=lambda: NOON, rests=False)


async def roll_up(store):
    async def without_a_pause():
        pass

    rolling = Rolling(store, without_a_pause)
    await rolling.advance(NOON)
    mark = await rolling.newest_mark()
    while await rolling.redo(mark):
        pass
    while await rolling.fill():
        pass


async def fill(store, sensor, *, start, step, count):
    rows = [measurement(sensor, start + at * step, {"t": at}) for at in range(count)]
    await store.write(Batch(measurements=rows))


async def stored(store, sensor):
    place = {"sensor": sensor, "first_fingerprint": LEAST, "last_fingerprint": GREATEST}
    return await store.engine.fetch(
        "chunks_between", first=LEAST, last=GREATEST, limit=1_000, **place
    )


async def spans(store, sensor):
    """Return the first and the last time of each chunk, in hours since midnight."""
    rows = await stored(store, sensor)
    return [((row[1] - MIDNIGHT) / HOUR, (row[3] - MIDNIGHT) / HOUR) for row in rows]


async def test_pieces_that_have_ended_are_packed(store, register):
    quick, slow = [(await register()).number for _ in range(2)]
    await fill(store, quick, start=MIDNIGHT, step=3 * HOUR // 1_000, count=1_100)
    await fill(store, slow, start=MIDNIGHT - 2 * DAY, step=MINUTE, count=2 * 1_440 + 90)
    await roll_up(store)
    received = {"received_before": NOON + DAY}
    # The day of the quick one has not ended: no hour has a thousand rows.
    assert await packer(store).pack(NOON, **received) == 2 * 1_440
    assert await spans(store, quick) == []
    assert await spans(store, slow) == [(-48, -24 - 1 / 60), (-24, -1 / 60)]
    assert await packer(store).pack(NOON, **received) == 0
    page = await store.measurements.page(slow, key=LEAST, limit=10_000)
    assert len(page) == 2 * 1_440 + 90


async def test_what_is_not_rolled_up_or_has_just_come_waits(store, sensor):
    await fill(store, sensor, start=MIDNIGHT - 2 * DAY, step=MINUTE, count=3 * 1_440)
    late = {"received_before": NOON + DAY}
    assert await packer(store).pack(NOON, **late) == 0
    await roll_up(store)
    assert await packer(store).pack(NOON, received_before=NOON - DAY) == 0
    assert await packer(store).pack(MIDNIGHT - HOUR, **late) == 1_440
    # A late row is a mark, until its hour is rolled up again.
    await store.write(Batch(measurements=[measurement(sensor, MIDNIGHT - 2 * DAY + 1, 1)]))
    assert await packer(store).pack(NOON, **late) == 0
    await roll_up(store)
    assert await packer(store).pack(NOON, **late) == 1_440 + 1
    assert len(await spans(store, sensor)) == 2


async def test_a_sensor_or_a_network_that_refuses_it_is_not_packed(store, register):
    roof = await store.networks.create(
        identifier=str(uuid.uuid4()), name="roof", created_at=1, owner=None
    )
    sensors = [await register(), await register()]
    sensors.append(await register(network_identifier=roof.identifier))
    for sensor in sensors:
        await fill(store, sensor.number, start=MIDNIGHT - DAY, step=MINUTE, count=1_441)
    await roll_up(store)
    await store.sensors.change(sensors[0].number, packing=False)
    await store.networks.change(roof.identifier, packing=False)
    assert await packer(store).pack(NOON, received_before=NOON + DAY) == 1_440
    assert [len(await spans(store, sensor.number)) for sensor in sensors] == [0, 1, 0]


async def test_what_the_settings_do_not_say_the_database_does(store, sensor, monkeypatch):
    """A new one packs what is 26 hours old, and earlier while many rows are left."""
    rows = [
        measurement(sensor, NOON - 9 * DAY + at * 3 * MINUTE, {"t": at}) for at in range(9 * 480)
    ]
    # Each came when it was measured.
    rows = [(first_ingest_id(row[2]) + at, *row[1:]) for at, row in enumerate(rows)]
    await store.write(Batch(measurements=rows))
    await roll_up(store)
    moment = NOON + DAY
    by = Packer(store, 0, moment=lambda: moment, rests=False)
    await by.pack_old()
    assert by.state.packed_total == 0
    by.after = None
    monkeypatch.setattr(packer_module, "FEWEST_ROWS", 10)
    monkeypatch.setattr("heliograph.packed.pieces.FEWEST_ROWS", 10)
    await by.pack_old()
    hours = [end for _, end in await spans(store, sensor)]
    assert 9 < hours[-1] < 10
    monkeypatch.setattr(packer_module, "MOST_UNPACKED", 10)
    moment = NOON + 6 * HOUR
    await by.pack_old()
    hours = [end for _, end in await spans(store, sensor)]
    assert 11.8 < hours[-1] < 12
    assert by.state.packed_total == len(rows) - 1


async def test_while_many_rows_are_left_pieces_need_not_have_ended(store, sensor, monkeypatch):
    """Of a sensor that sends each ten minutes a month is one, which may be days from its end."""
    rows = [
        measurement(sensor, MIDNIGHT + (at - 288) * 10 * MINUTE, {"t": at}) for at in range(360)
    ]
    rows = [(first_ingest_id(row[2]) + at, *row[1:]) for at, row in enumerate(rows)]
    await store.write(Batch(measurements=rows))
    await roll_up(store)
    by = Packer(store, None, moment=lambda: NOON, rests=False)
    await by.pack_old()
    assert await spans(store, sensor) == []
    monkeypatch.setattr(packer_module, "MOST_UNPACKED", 10)
    await by.pack_old()
    # What is 13 hours old; then too little is for six hours, and enough for two.
    assert await spans(store, sensor) == [
        (-48, pytest.approx(-1 - 1 / 6)),
        (-1, pytest.approx(10 - 1 / 6)),
    ]
    page = await store.measurements.page(sensor, cursor=None, direction="next", limit=400)
    assert [each.timestamp for each in page] == [row[2] for row in rows]
    await by.pack_old()
    assert by.state.packed_total == 48 * 6 + 10 * 6


async def test_a_database_that_was_in_use_is_packed_once_that_is_said(store, sensor):
    await fill(store, sensor, start=MIDNIGHT - 5 * DAY, step=MINUTE, count=2 * 1_440)
    await roll_up(store)
    await run(store, "UPDATE packing_state SET by_itself = false")
    by = Packer(store, None, moment=lambda: NOON + 3 * DAY, rests=False)
    with structlog.testing.capture_logs() as logs:
        await by.pack_old()
        await by.pack_old()
    assert by.state.packed_total == 0
    [said] = logs
    assert "PACK_AFTER=26h" in said["event"]
    await store.chunks.pack_by_itself()
    await by.pack_old()
    assert by.state.packed_total == 2 * 1_440 - 1


@pytest.fixture
def put_together(store, monkeypatch):
    """Of which sensors there were pieces in each transaction."""
    found = []
    put = store.chunks.put

    async def noting(prepared):
        found.append([each.sensor for each in prepared])
        await put(prepared)

    monkeypatch.setattr(store.chunks, "put", noting)
    return found


async def day_of_each(store, register, count):
    """Have sensors measure for a day and a minute, one after the other; return their numbers."""
    sensors = [(await register()).number for _ in range(count)]
    for sensor in reversed(sensors):
        await fill(store, sensor, start=MIDNIGHT - DAY, step=MINUTE, count=1_441)
    await roll_up(store)
    return sensors


@pytest.mark.parametrize("waiting", [False, True])
async def test_who_sends_in_turn_is_packed_together(store, register, put_together, waiting):
    """Their rows are in the same pages of a file, which are then written once."""
    first, second, third = await day_of_each(store, register, 3)
    by = Packer(store, 0, moment=lambda: NOON, rests=False, busy=lambda: waiting)
    assert await by.pack(NOON, received_before=NOON + DAY) == 3 * 1_440
    assert put_together == [[third, second, first]]


async def test_as_much_is_packed_together_as_is_soon_done(
    store, register, put_together, monkeypatch
):
    await day_of_each(store, register, 4)
    for name, number in (("_IDLE_ROWS", 1), ("_IDLE_SECONDS", 3_600.0), ("_ROWS_TOGETHER", 2_000)):
        monkeypatch.setattr(packer_module, name, number)
    # How long it takes shows with the first.
    assert await packer(store).pack(NOON, received_before=NOON + DAY) == 4 * 1_440
    assert [len(each) for each in put_together] == [1, 2, 1]


async def test_what_takes_long_is_packed_in_smaller_parts(
    store, register, put_together, monkeypatch
):
    await day_of_each(store, register, 3)
    monkeypatch.setattr(packer_module, "_IDLE_ROWS", 1)
    monkeypatch.setattr(packer_module, "_IDLE_SECONDS", 1e-9)
    assert await packer(store).pack(NOON, received_before=NOON + DAY) == 3 * 1_440
    assert [len(each) for each in put_together] == [1, 1, 1]


async def test_what_cannot_be_packed_is_left_and_told_once(store, register, monkeypatch):
    first, second = [(await register()).number for _ in range(2)]
    for sensor in (first, second):
        await fill(store, sensor, start=MIDNIGHT - DAY, step=MINUTE, count=1_500)
    await roll_up(store)
    pack = chunks_module.pack

    def fails(rows):
        if rows[0][1] == first:
            raise DamagedChunkError("t", "the checksum is another")
        return pack(rows)

    monkeypatch.setattr(chunks_module, "pack", fails)
    by = packer(store)
    for _ in range(2):
        await by.pack(NOON, received_before=NOON + DAY)
    assert by.state.failures_total == 1
    assert by.state.packed_total == 1_440
    assert await spans(store, first) == []


@pytest.mark.parametrize("calls", [0, 1, 2])
async def test_a_run_that_ends_anywhere_has_lost_nothing(store, sensor, monkeypatch, calls):
    await fill(store, sensor, start=MIDNIGHT - 3 * DAY, step=MINUTE, count=3 * 1_440 + 1)
    await roll_up(store)
    before = list(await store.measurements.page(sensor, key=LEAST, limit=10_000))
    left = [None] * calls
    replace = chunks_module.replace

    async def ends(*arguments, **named):
        await replace(*arguments, **named)
        if not left:
            raise StoreUnavailableError("it is gone")
        left.pop()

    monkeypatch.setattr(chunks_module, "replace", ends)
    with pytest.raises(StoreUnavailableError):
        await packer(store).pack(NOON, received_before=NOON + DAY)
    monkeypatch.setattr(chunks_module, "replace", replace)
    assert len(await spans(store, sensor)) == calls
    assert list(await store.measurements.page(sensor, key=LEAST, limit=10_000)) == before
    assert await packer(store).pack(NOON, received_before=NOON + DAY) == (3 - calls) * 1_440
    assert list(await store.measurements.page(sensor, key=LEAST, limit=10_000)) == before


# Ends the process as kill -9 would, after the statement of a transaction with the number given.
KILLED = textwrap.dedent(
    """
    import asyncio, os, signal, sys
    from heliograph.packer import Packer
    from heliograph.store import open_store, postgresql, sqlite
    from heliograph.store.engine import Transaction
    url, moment, left = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    async def pack():
        global left
        store = await open_store(url)
        def transaction(fetch, run):
            async def dying(query, **parameters):
                global left
                rows = await fetch(query, **parameters)
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                return rows
            return Transaction(dying, run)
        sqlite.Transaction = postgresql.Transaction = transaction
        packer = Packer(store, 0, moment=lambda: moment, rests=False)
        await packer.pack(moment, received_before=moment * 2)
        await store.close()
    asyncio.run(pack())
    """
)


async def packed_early(store, sensor):
    """Pack 72 rows at a time of what is sent each ten minutes; return all rows from the first on.

    Two weeks have 14 such chunks each, and one that has begun has one.
    """
    count = 14 * 144 + 73
    await fill(store, sensor, start=MIDNIGHT - 14 * DAY, step=10 * MINUTE, count=count)
    await roll_up(store)
    for half in range(1, 30):
        await packer(store).pack(
            MIDNIGHT - 14 * DAY + half * DAY // 2, received_before=NOON + DAY, early=True
        )
    assert len(await spans(store, sensor)) == 2 * 14 + 1
    page = await store.measurements.page(sensor, key=LEAST, limit=10_000)
    assert len(page) == count
    return list(page)


WEEKS = [pytest.approx(each) for each in ((-14 * 24, -7 * 24 - 1 / 6), (-7 * 24, -1 / 6))]


async def test_chunks_of_pieces_that_have_ended_are_merged(store, register):
    sensors = [(await register()).number for _ in range(2)]
    before = [await packed_early(store, sensor) for sensor in sensors]
    small = [await store.chunks.totals_of(sensor) for sensor in sensors]
    by = packer(store)
    # The first week ends a day later.
    assert await by.pack(MIDNIGHT - 8 * DAY, received_before=NOON + DAY) == 0
    assert by.state.merged_total == 0
    assert await by.pack(MIDNIGHT, received_before=NOON + DAY) == 0
    assert by.state.merged_total == 2 * 28
    for sensor, rows, were in zip(sensors, before, small, strict=True):
        assert (await spans(store, sensor))[:2] == WEEKS
        assert list(await store.measurements.page(sensor, key=LEAST, limit=10_000)) == rows
        totals = await store.chunks.totals_of(sensor)
        assert (totals.chunks, totals.rows, totals.first, totals.last) == (3, *were[1:4])
        assert totals.bytes < were.bytes / 2
    # What repeats them is found as before.
    sent = [measurement(sensors[0], row.timestamp, {"t": at}) for at, row in enumerate(before[0])]
    assert len((await store.write(Batch(measurements=sent))).duplicates) == len(sent)
    await by.pack(NOON, received_before=NOON + DAY)
    await packer(store).pack(NOON, received_before=NOON + DAY)
    assert by.state.merged_total == 2 * 28


async def test_a_run_merges_so_much_and_the_next_goes_on(store, register, monkeypatch):
    monkeypatch.setattr(packer_module, "_MERGED_AT_ONCE", 300)
    monkeypatch.setattr(packer_module, "_MERGED_A_RUN", 500)
    sensors = [(await register()).number for _ in range(2)]
    before = [await packed_early(store, sensor) for sensor in sensors]
    by = Packer(store, 0, moment=lambda: NOON, busy=lambda: False)
    merged = []
    while not merged or by.state.merged_total > merged[-1]:
        merged.append(by.state.merged_total)
        await by.pack(MIDNIGHT, received_before=NOON + DAY)
    # Four chunks make 288 rows: two transactions of two such groups each a run.
    assert len(merged) > 3
    assert merged[-1] == 2 * 28
    for sensor, rows in zip(sensors, before, strict=True):
        assert len(await spans(store, sensor)) == 2 * 4 + 1
        assert list(await store.measurements.page(sensor, key=LEAST, limit=10_000)) == rows


async def test_small_chunks_with_one_that_is_damaged_or_packed_meanwhile_among_them(
    store, sensor, monkeypatch
):
    before = await packed_early(store, sensor)
    put, between = store.chunks.put, measurement(sensor, MIDNIGHT - DAY // 2 - 1, {"t": 0.5})

    async def putting(prepared):
        monkeypatch.setattr(store.chunks, "put", put)
        await store.write(Batch(measurements=[between]))
        assert await pack_range(store.chunks, sensor, between[2], between[2] + 1) == 1
        await store.chunks.put(prepared)

    # The tenth of the first week.
    [(number,)] = [row[:1] for row in (await stored(store, sensor))[9:10]]
    await run(store, f"UPDATE chunk SET body = substr(body, 2) WHERE id = {number}")
    monkeypatch.setattr(store.chunks, "put", putting)
    by = packer(store)
    await by.pack(MIDNIGHT, received_before=NOON + DAY)
    # The second week, in whose midst another chunk has come to lie, is left for the next time.
    assert by.state.merged_total == 9 + 4
    assert len(await spans(store, sensor)) == 3 + 14 + 1 + 1
    by = packer(store)
    await by.pack(MIDNIGHT, received_before=NOON + DAY)
    assert by.state.merged_total == 14 + 1
    assert len(await spans(store, sensor)) == 3 + 1 + 1
    page = await store.measurements.page(sensor, key=LEAST, limit=10_000)
    lost = before[9 * 72 : 10 * 72]
    kept = [row for row in before if row not in lost]
    assert [row for row in page if row.id != between[0]] == kept
    assert len(page) == len(kept) + 1


# A chunk takes three: the sensor, the rows that go, the chunk.
STATEMENTS = (6, *(pytest.param(count, marks=pytest.mark.long) for count in (1, 2, 3, 4, 5, 7, 9)))


async def packs_until_it_is_killed(folder, database_url, moment, statements):
    (folder / "killed.py").write_text(KILLED)
    killed = await asyncio.to_thread(
        program.run,
        *(database_url, str(moment), str(statements)),
        module="killed",
        env=os.environ,
        cwd=folder,
        timeout=60,
    )
    assert killed.returncode == -9, killed.stderr


# The sensor, fourteen chunks that go, a look at what is between them, and the one that comes.
@pytest.mark.parametrize(
    "statements", [15, *(pytest.param(count, marks=pytest.mark.long) for count in (1, 2, 16, 17))]
)
async def test_what_is_killed_while_it_merges_has_each_row_once(
    store, sensor, database_url, statements, tmp_path
):
    before = await packed_early(store, sensor)
    await store.close()
    await packs_until_it_is_killed(tmp_path, database_url, MIDNIGHT, statements)
    again = await open_store(database_url)
    try:
        assert len(await spans(again, sensor)) == 29
        assert list(await again.measurements.page(sensor, key=LEAST, limit=10_000)) == before
        await packer(again).pack(MIDNIGHT, received_before=NOON + DAY)
        assert (await spans(again, sensor))[:2] == WEEKS
        assert list(await again.measurements.page(sensor, key=LEAST, limit=10_000)) == before
    finally:
        await again.close()


@pytest.mark.parametrize("statements", STATEMENTS)
async def test_what_is_killed_while_it_packs_has_each_row_once(
    store, sensor, database_url, statements, tmp_path
):
    await fill(store, sensor, start=MIDNIGHT - 3 * DAY, step=MINUTE, count=3 * 1_440 + 1)
    await roll_up(store)
    before = list(await store.measurements.page(sensor, key=LEAST, limit=10_000))
    await store.close()
    await packs_until_it_is_killed(tmp_path, database_url, NOON, statements)
    again = await open_store(database_url)
    try:
        whole = (statements - 1) // 3
        assert len(await spans(again, sensor)) == whole
        assert list(await again.measurements.page(sensor, key=LEAST, limit=10_000)) == before
        rest = await packer(again).pack(NOON, received_before=NOON + DAY)
        assert rest == (3 - whole) * 1_440
        assert list(await again.measurements.page(sensor, key=LEAST, limit=10_000)) == before
    finally:
        await again.close()


async def test_what_changes_while_others_are_packed_is_left_alone(store, register, monkeypatch):
    sensors = [(await register()).number for _ in range(3)]
    for sensor in sensors:
        await fill(store, sensor, start=MIDNIGHT - DAY, step=MINUTE, count=1_441)
    await roll_up(store)
    put = store.chunks.put

    async def comes_late(prepared):
        if len(prepared) > 1:
            late = measurement(sensors[1], MIDNIGHT - DAY + 1, 1)
            await store.write(Batch(measurements=[late]))
        await put(prepared)

    monkeypatch.setattr(store.chunks, "put", comes_late)
    assert await packer(store).pack(NOON, received_before=NOON + DAY) == 2 * 1_440
    assert [len(await spans(store, sensor)) for sensor in sensors] == [1, 0, 1]
    assert len(await store.measurements.page(sensors[1], key=LEAST, limit=10_000)) == 1_442
