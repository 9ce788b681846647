"""What packing leaves in SQLite's file: rows without a key, which nobody sees and a sweep takes."""

import asyncio
import shutil
import sqlite3

import pytest

from heliograph.errors import RowError
from heliograph.model.time import DAY, HOUR, MINUTE
from heliograph.packer import Packer
from heliograph.store import open_store, sqlite
from heliograph.store.engine import Batch, json_text
from heliograph.store.messages import WantedMessages
from heliograph.store.migrations.running import run_migrations
from heliograph.store.pages import GREATEST, LEAST
from packing_rows import pack_range
from rows import NOON, again, measurement

OLD = NOON - 10 * DAY
EVERYTHING = 1 << 62


@pytest.fixture
def path(tmp_path, sqlite_template):
    shutil.copy(sqlite_template, tmp_path / "h.db")
    return tmp_path / "h.db"


@pytest.fixture
async def store(path):
    opened = await open_store(f"sqlite:///{path}")
    yield opened
    await opened.close()


async def filled(store, count=20, name="s"):
    """Return the number of a sensor, and its rows."""
    sensor = (await store.sensors.create(identifier=name, created_at=1)).number
    rows = [measurement(sensor, OLD + at * MINUTE, f"{name}-{at:05}") for at in range(count)]
    await store.write(Batch(measurements=rows))
    return sensor, rows


def pack(store, sensor, end=GREATEST):
    return pack_range(store.chunks, sensor, LEAST, end)


async def swept(store):
    """Sweep to the end; return in how many steps."""
    steps = 0
    while await store.engine.sweep():
        steps += 1
    return steps


def table(store, name):
    """Return the ids in a table, in order."""
    rows = store.engine._writer.open().execute(f"SELECT id FROM {name} ORDER BY id")
    return [row_id for (row_id,) in rows]


async def seen(store, sensor):
    """Return what is seen of the sensor: its page, and what was received in its order."""
    page = await store.measurements.page(sensor, key=LEAST, limit=1_000)
    received = await store.engine.fetch("replay_index", after=0, until=EVERYTHING, limit=1_000)
    messages = await store.messages.page(WantedMessages(0))
    return (
        [row.id for row in page],
        [row[1] for row in received],
        [each.id for each in messages.messages],
    )


async def test_what_is_packed_is_seen_nowhere_as_a_row_before_it_is_swept_and_after(store):
    sensor, rows = await filled(store)
    ids = [row[0] for row in rows]
    assert await pack(store, sensor) == 19
    for _ in range(2):
        page, received, messages = await seen(store, sensor)
        assert page == ids  # from chunks
        assert received == ids[-1:]
        assert messages == ids[::-1]
        assert await store.chunks.unpacked(100) == 1
        [row] = table(store, "v_measurement")
        assert row == ids[-1]
        before, steps = table(store, "measurement_row"), await swept(store)
    assert before == ids[-1:]
    assert table(store, "measurement_key") == ids[-1:]
    assert steps == 0


async def test_rows_are_swept_in_steps_in_the_order_of_their_receipt(store, monkeypatch):
    monkeypatch.setattr(sqlite, "SWEPT_AT_ONCE", 4)
    first, rows = await filled(store)
    other, kept = await filled(store, name="other")
    last, later = await filled(store, name="last")
    for sensor in (last, first):
        assert await pack(store, sensor) == 19
    assert len(table(store, "measurement_row")) == 60
    assert await store.engine.sweep()
    assert table(store, "measurement_row") == [row[0] for row in (*rows, *kept, *later)][5:]
    assert await swept(store) > 8
    left = [rows[-1], *kept, later[-1]]
    assert table(store, "measurement_row") == [row[0] for row in left]
    # What is packed of older ones later on is swept as well.
    assert await pack(store, other) == 19
    assert await swept(store)
    left = [rows[-1], kept[-1], later[-1]]
    assert table(store, "measurement_row") == [row[0] for row in left]
    assert await swept(store) == 0


@pytest.mark.parametrize("is_swept", [False, True])
async def test_what_is_written_again_after_it_was_packed_is_stored_once(store, is_swept):
    sensor, rows = await filled(store)
    assert await pack(store, sensor) == 19
    if is_swept:
        assert await swept(store)
    # An ambiguous commit: under the same ids; and what a device repeats.
    assert (await store.write(Batch(measurements=rows))).duplicates == {}
    repeats = [again(row) for row in rows]
    repeated = await store.write(Batch(measurements=repeats))
    assert repeated.duplicates == {new[0]: row[0] for new, row in zip(repeats, rows, strict=True)}
    assert (await seen(store, sensor))[0] == [row[0] for row in rows]
    await swept(store)
    assert table(store, "measurement_row") == [rows[-1][0]]
    assert table(store, "measurement_key") == [rows[-1][0]]


async def test_a_row_that_comes_anew_once_its_chunk_is_removed_is_another(store):
    sensor, rows = await filled(store)
    assert await pack(store, sensor) == 19
    [(chunk, *_)] = await store.engine.fetch("chunks_newest", before=GREATEST, limit=1)
    assert await store.engine.run_alone("chunks_remove", ids=json_text([chunk]))
    anew = [again(row) for row in rows[:3]]
    assert (await store.write(Batch(measurements=anew))).duplicates == {}
    left = [rows[-1][0], *(row[0] for row in anew)]
    for _ in range(2):
        page, received, _ = await seen(store, sensor)
        assert sorted(page) == received == left
        await swept(store)
    assert table(store, "measurement_row") == left


async def test_an_id_of_a_row_without_a_key_is_nobody_elses(store):
    sensor, rows = await filled(store)
    assert await pack(store, sensor) == 19
    other = (rows[3][0], *measurement(sensor, NOON - HOUR, "another")[1:])
    with pytest.raises(RowError, match=f"another row is stored under the id {rows[3][0]}"):
        await store.write(Batch(measurements=[other]))
    assert table(store, "measurement_key") == [rows[-1][0]]


async def test_what_is_erased_is_not_left_in_the_file_where_it_lay_unswept(store, path):
    sensor, _ = await filled(store, name="secret")
    other, _ = await filled(store, name="other")
    for number in (sensor, other):
        assert await pack(store, number) == 19
    await store.engine.empty_log()
    assert b"secret-00003" in path.read_bytes()
    await store.sensors.delete(sensor, NOON, erases=True)
    await store.sensors.erase(sensor)
    await store.engine.empty_log()
    assert b"secret-0" not in path.read_bytes()
    assert len((await seen(store, other))[0]) == 20


async def test_what_is_removed_row_by_row_is_removed_with_its_key(store):
    sensor, rows = await filled(store)
    ids = json_text([row[:1] for row in rows[:5]])
    engine = store.engine
    removed = await engine.run_alone("measurements_remove", keys=ids, low=LEAST, high=rows[3][2])
    assert len(removed) == 4
    left = [row[0] for row in rows[4:]]
    assert table(store, "measurement_row") == table(store, "measurement_key") == left
    assert (await seen(store, sensor))[0] == left


async def test_a_packer_sweeps_what_a_run_has_left_that_was_killed(store):
    sensor, rows = await filled(store)
    assert await pack(store, sensor) == 19
    packer = Packer(store, 0, moment=lambda: NOON, rests=False)
    await packer.pack_old()
    assert table(store, "measurement_row") == [rows[-1][0]]


async def test_compacting_takes_what_is_unswept(store, path):
    sensor, _ = await filled(store, 2_000)
    assert await pack(store, sensor) == 1_999
    await store.engine.compact()
    assert len(table(store, "measurement_row")) == 1


async def test_an_older_file_with_rows_goes_there_and_back(tmp_path):
    path = tmp_path / "old.db"
    url = f"sqlite:///{path}"
    await asyncio.to_thread(run_migrations, url, "0034")
    rows = [measurement(1 + at % 3, OLD + at * MINUTE, f"v{at}") for at in range(3_000)]
    with sqlite3.connect(path) as connection:
        for number in (1, 2, 3):
            connection.execute(
                "INSERT INTO sensor (number, identifier, network_identifier, created_at)"
                f" SELECT {number}, 's{number}', identifier, 1 FROM network"
            )
        connection.executemany(
            "INSERT INTO measurement (id, sensor, timestamp, fingerprint, receipt_timestamp,"
            " revision, device_timestamp, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    await asyncio.to_thread(run_migrations, url)
    store = await open_store(url)
    wanted = {number: [row[0] for row in rows if row[1] == number] for number in (1, 2, 3)}
    for number, ids in wanted.items():
        page = await store.measurements.page(number, key=LEAST, limit=5_000)
        assert [row.id for row in page] == ids
    repeats = [again(row) for row in rows[:50]]
    assert len((await store.write(Batch(measurements=repeats))).duplicates) == 50
    # Some are packed, and not swept: these go for good.
    assert await pack(store, 2) == 999
    await store.close()
    await asyncio.to_thread(run_migrations, url, "0034", downgrade=True)
    with sqlite3.connect(path) as connection:
        left = [
            row_id for (row_id,) in connection.execute("SELECT id FROM measurement ORDER BY id")
        ]
        assert left == sorted([*wanted[1], wanted[2][-1], *wanted[3]])
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM measurement WHERE sensor = 1 AND timestamp = 2"
        ).fetchall()
        assert "COVERING INDEX measurement_key" in str(plan)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    await asyncio.to_thread(run_migrations, url)
    store = await open_store(url)
    for number, ids in wanted.items():
        page = await store.measurements.page(number, key=LEAST, limit=5_000)
        assert [row.id for row in page] == ids
    await store.close()
