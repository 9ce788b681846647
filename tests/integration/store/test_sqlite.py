"""What only happens to a file: full disks, locks, deletion, collisions of ids."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import threading
import uuid

import pytest

from heliograph.errors import RowError, StoreUnavailableError
from heliograph.store import open_store, sqlite
from heliograph.store.engine import Batch
from heliograph.store.queries import Query
from heliograph.store.sqlite import fitting_cache
from rows import NOON, again, measurement, rejected
from server import eventually


@pytest.fixture
def path(sqlite_template, tmp_path):
    path = tmp_path / "heliograph.db"
    shutil.copy(sqlite_template, path)
    return path


@pytest.fixture
async def store(path):
    store = await open_store(f"sqlite:///{path}")
    yield store
    await store.close()


async def count(store):
    return len(await store.measurements.page(1, key=None, direction=None, limit=9_000))


def batch(start=0, size=10, value=1):
    return Batch(measurements=[measurement(1, NOON + start + at, value) for at in range(size)])


def pragma(store, name):
    return store.engine._writer.open().execute(f"PRAGMA {name}").fetchone()[0]


async def test_a_commit_is_on_the_disk_and_the_journal_is_bounded(store):
    assert pragma(store, "journal_mode") == "wal"
    assert pragma(store, "synchronous") == 2
    assert pragma(store, "journal_size_limit") == 64 << 20
    assert pragma(store, "foreign_keys") == 1


async def test_the_writers_cache_and_its_log_are_as_large_as_asked_for(path):
    store = await open_store(f"sqlite:///{path}", cache_bytes=48 << 20)
    assert pragma(store, "cache_size") == -48 << 10
    assert pragma(store, "journal_size_limit") == 192 << 20
    await store.close()


@pytest.mark.parametrize(
    ("memory", "cache"), [(128 << 20, 16 << 20), (512 << 20, 32 << 20), (8 << 30, 64 << 20)]
)
def test_a_cache_fits_the_memory(memory, cache):
    assert fitting_cache(memory) == cache


async def test_readers_cannot_write(store):
    await store.ping()
    reader = store.engine._readers._idle[-1].connection
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await reader.execute_fetchall("UPDATE registry SET version = 0")


async def test_the_writer_works_in_a_thread_of_its_own(store):
    await store.write(batch())
    names = [thread.name for thread in threading.enumerate()]
    assert [name for name in names if name.startswith("sqlite-writer")] == ["sqlite-writer_0"]


@pytest.mark.parametrize("size", [1, 40, 3_000])
async def test_another_row_under_a_known_id_is_not_lost_silently(store, size):
    rows = batch(size=size).measurements
    await store.write(Batch(measurements=rows))
    other = (rows[-1][0], 1, NOON - 5, *rows[-1][3:])
    fresh = batch(start=10_000, size=size).measurements
    with pytest.raises(RowError, match=str(other[0])):
        await store.write(Batch(measurements=[*fresh, other]))
    assert await count(store) == size


async def test_a_repeat_of_one_row_under_the_id_of_another_is_a_duplicate(store):
    first, second = batch(size=2).measurements
    await store.write(Batch(measurements=[first, second]))
    written = await store.write(Batch(measurements=[(second[0], *first[1:])]))
    assert written.duplicates == {second[0]: first[0]}


async def test_a_locked_database_is_unavailable_and_works_when_it_is_free(path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    store = await open_store(f"sqlite:///{path}")
    try:
        await store.write(batch())
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for attempt in (store.write(batch(100)), store.sensors.touch([(1, 1, 1)])):
            with pytest.raises(StoreUnavailableError, match="locked"):
                await attempt
        assert await count(store) == 10
        other.execute("ROLLBACK")
        other.close()
        await store.write(batch(100))
        assert await count(store) == 20
    finally:
        await store.close()


async def test_a_deleted_file_is_unavailable_until_it_is_back(store, path):
    await store.write(batch())
    assert await count(store) == 10
    away = path.with_suffix(".away")
    path.rename(away)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await store.ping()
        with pytest.raises(StoreUnavailableError):
            await store.write(batch(100))
        with pytest.raises(StoreUnavailableError):
            await store.configurations.add(1, "{}")
    assert not path.exists()
    away.rename(path)
    await store.ping()
    await store.write(batch(200))
    assert await count(store) >= 20


async def test_a_replaced_file_takes_no_more_rows_unnoticed(store, path, sqlite_template):
    await store.write(batch())
    assert await count(store) == 10
    shutil.copy(sqlite_template, path.with_suffix(".new"))
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    path.with_suffix(".new").rename(path)
    with pytest.raises(StoreUnavailableError, match="replaced"):
        await store.write(batch(100))
    await store.write(batch(200))
    assert await count(store) == 10


async def test_a_damaged_file_is_unavailable(store, path):
    await store.write(batch(size=5_000))
    await store.close()
    with path.open("r+b") as file:
        # The schema lies further in front.
        third = path.stat().st_size // 3
        file.seek(-third, os.SEEK_END)
        file.write(b"\xff" * third)
    damaged = await open_store(f"sqlite:///{path}")
    try:
        for attempt in (damaged.write(batch(9_000, 5_000)), count(damaged)):
            with pytest.raises(StoreUnavailableError, match="malformed"):
                await attempt
    finally:
        await damaged.close()


@contextlib.contextmanager
def small_disk(folder, size):
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(path):
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4_096)


async def test_a_full_disk_that_is_freed_needs_no_restart(sqlite_template, tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        shutil.copy(sqlite_template, disk / "heliograph.db")
        store = await open_store(f"sqlite:///{disk}/heliograph.db")
        try:
            await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)
            await store.write(batch())
            fill(disk / "other")
            kept = batch(100, 2_000, "x" * 100)
            for _ in range(3):
                with pytest.raises(StoreUnavailableError, match=r"full|disk"):
                    await store.write(kept)
            with pytest.raises(StoreUnavailableError):
                await store.configurations.add(1, '"' + "x" * 900_000 + '"')
            assert await count(store) == 10
            (disk / "other").unlink()
            assert (await store.write(kept)).duplicates == {}
            assert await count(store) == 2_010
        finally:
            await store.close()


ENDLESS = Query(
    "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n", ()
)


async def all_readers_in_use(store):
    async with asyncio.timeout(25):
        while len(store.engine._readers._generations) < sqlite.READERS:  # noqa: ASYNC110 - polled, with a deadline
            await asyncio.sleep(0)


async def test_what_cannot_be_read_in_time_is_unavailable_and_others_go_on(store, monkeypatch):
    store.engine._queries["endless"] = ENDLESS
    monkeypatch.setattr(sqlite, "READ_SECONDS", 0.05)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="interrupted"):
            await store.engine.fetch("endless")
    await store.ping()


async def test_whoever_gives_up_frees_the_connection(store):
    store.engine._queries["endless"] = ENDLESS
    tasks = [asyncio.create_task(store.engine.fetch("endless")) for _ in range(8)]
    await all_readers_in_use(store)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(25):
        await asyncio.gather(*(store.ping() for _ in range(8)))


async def test_a_connection_may_close_while_it_is_interrupted(store):
    """Else who gives up reading would keep it from the others for ever."""
    reader = await store.engine._readers.take()
    await reader.close()
    reader.interrupt()
    await store.engine._readers.drop(reader)


async def test_the_end_of_all_tasks_ends_those_that_close_connections(store):
    """As a second Ctrl-C does, while a command gives up what it reads."""
    store.engine._queries["endless"] = ENDLESS
    tasks = [asyncio.create_task(store.engine.fetch("endless")) for _ in range(sqlite.READERS)]
    await all_readers_in_use(store)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)  # they begin to close
    closing = [task for task in asyncio.all_tasks() if task.get_name().startswith("sqlite")]
    assert len(closing) == 2 * sqlite.READERS
    for task in closing:
        task.cancel()
    done, _ = await asyncio.wait(closing, timeout=25)
    assert len(done) == len(closing)
    await store.ping()


async def test_who_waits_too_long_for_a_connection_is_told(store, monkeypatch):
    store.engine._queries["endless"] = ENDLESS
    monkeypatch.setattr(store.engine._readers, "_seconds", 0.05)
    tasks = [asyncio.create_task(store.engine.fetch("endless")) for _ in range(sqlite.READERS)]
    await all_readers_in_use(store)
    with pytest.raises(StoreUnavailableError, match="in use"):
        await store.ping()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.ping()


async def test_a_cancelled_write_is_whole_or_absent(store):
    rows = batch(size=3_000)
    task = asyncio.create_task(store.write(rows))
    await asyncio.sleep(0.001)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await store.write(Batch(rejected=[rejected()]))
    assert await count(store) in (0, 3_000)
    assert (await store.write(rows)).duplicates == {}
    assert await count(store) == 3_000


async def test_a_change_goes_to_the_writers_thread_once(store, monkeypatch):
    """However many queries it has: others who write wait for it."""
    calls, run = [], store.engine._run

    async def counted(function, *arguments):
        calls.append(function.__name__)
        return await run(function, *arguments)

    monkeypatch.setattr(store.engine, "_run", counted)
    made = await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)
    await store.sensors.change(made.number, name="roof")
    await store.sensors.delete(made.number, NOON)
    assert calls == ["change"] * 3
    calls.clear()
    await store.sensors.erase(made.number)
    assert calls == ["change"]


async def test_a_change_that_waits_for_something_else_is_refused(store):
    """It would keep the writer's thread for as long as that takes."""

    async def waiting(transaction):
        await transaction.fetch("registry_lock")
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits for something other"):
        await store.engine.change(waiting)
    await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)


async def test_closing_leaves_one_file_and_no_thread(path):
    before = set(threading.enumerate())
    store = await open_store(f"sqlite:///{path}")
    await store.write(batch())
    await asyncio.gather(*(store.ping() for _ in range(8)))
    await store.close()
    started = [
        thread
        for thread in threading.enumerate()
        if thread not in before and not thread.name.startswith("uvloop_")
    ]
    for thread in started:  # one that has answered its close may be in its last lines still
        thread.join(10)
    assert not [thread for thread in started if thread.is_alive()]
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(StoreUnavailableError):
        await store.ping()


async def test_repeats_among_many_are_found_without_reading_the_table(store):
    rows = batch(size=9_000).measurements
    await store.write(Batch(measurements=rows))
    plan = store.engine._writer.open().execute(
        "EXPLAIN QUERY PLAN WITH wanted (sensor, timestamp, fingerprint) AS (VALUES (1, 2, 3))"
        " SELECT id FROM wanted CROSS JOIN measurement_key USING (sensor, timestamp, fingerprint)"
    )
    details = " ".join(row[3] for row in plan)
    assert "SEARCH measurement_key USING PRIMARY KEY (sensor=? AND timestamp=? AND" in details
    repeats = [again(row) for row in rows[::100]]
    assert len((await store.write(Batch(measurements=repeats))).duplicates) == 90


async def test_a_reader_whose_caller_leaves_while_it_is_opened_is_closed(store, monkeypatch):
    opening, go_on, opened = threading.Event(), threading.Event(), []

    def slow(path):
        opening.set()
        assert go_on.wait(60)
        opened.append(open_reader(path))
        return opened[0]

    open_reader = sqlite.open_reader
    await store.engine._readers.close()
    store.engine._readers._closed = False
    monkeypatch.setattr(sqlite, "open_reader", slow)
    caller = asyncio.create_task(store.engine.fetch("registry_version"))
    await asyncio.to_thread(opening.wait, 60)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await eventually(lambda: opened and is_closed(opened[0]))


def is_closed(connection):
    try:
        connection.total_changes  # noqa: B018 - raises if it is
    except sqlite3.ProgrammingError:
        return True
    return False
