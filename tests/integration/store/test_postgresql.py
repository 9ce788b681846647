"""What only a server does: partitions, the two ways to store a batch, and going away."""

import asyncio
import contextlib
import os
import socket
import uuid

import psycopg
import pytest

from database_copies import migrated_postgresql
from heliograph.errors import RowError, StoreUnavailableError
from heliograph.model.retention import Cutoffs, Retention
from heliograph.model.time import OLDEST
from heliograph.packer import Packer
from heliograph.retention import runs as runs_module
from heliograph.retention.runs import RetentionRuns
from heliograph.rollups.task import Rolling
from heliograph.store import open_store, postgresql
from heliograph.store.engine import Batch, Drop
from heliograph.store.months import month_start
from heliograph.store.pages import LEAST
from heliograph.store.removal import Partition
from rows import NOON, again, heartbeat, log, measurement

DAY = 86_400_000_000
YEAR_2020 = 1_577_836_800_000_000


@pytest.fixture
async def store(postgresql_url, monkeypatch):
    store = await open_store(postgresql_url)
    writer = store.engine.writer
    writer.ways = []
    copy, stage = writer._copy, writer._stage

    async def copying(connection, loads, *args, **options):
        copied = await copy(connection, loads, *args, **options)
        writer.ways += ["copied"] * (copied and bool(loads))
        return copied

    async def staging(connection, loads, *args, **options):
        await stage(connection, loads, *args, **options)
        writer.ways += ["staged"] * bool(loads)

    monkeypatch.setattr(writer, "_copy", copying)
    monkeypatch.setattr(writer, "_stage", staging)
    yield store
    await store.close()


async def test_what_devices_send_does_not_wait_for_a_change(store):
    sensor = await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)
    async with store.engine.transaction() as transaction:
        await transaction.fetch("network_locked", identifier=sensor.network_identifier)
        written = await store.write(Batch(measurements=[measurement(sensor.number, NOON)]))
    assert written.duplicates == {}


@pytest.fixture
def execute(postgresql_url):
    """Run a statement from outside and return its rows."""

    def execute(statement):
        with psycopg.connect(postgresql_url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    return execute


def partitions(execute, table="measurement"):
    rows = execute(
        f"SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{table}'::regclass"
    )
    return sorted(name.removeprefix(f"{table}_") for (name,) in rows)


async def count(store):
    return len(await store.measurements.page(1, key=None, direction=None, limit=9_000))


def batch(start=0, size=10):
    return Batch(measurements=[measurement(1, NOON + start + at) for at in range(size)])


async def test_partitions_are_made_when_rows_need_them(store, execute):
    assert partitions(execute) == partitions(execute, "log") == ["past"]
    await store.write(batch())
    assert partitions(execute) == ["2026_01", "past"]
    assert partitions(execute, "log") == ["past"]
    rows = [measurement(1, NOON - 400 * DAY), measurement(1, NOON + 30 * DAY)]
    await store.write(Batch(measurements=rows, logs=[log(1)]))
    assert partitions(execute) == ["2024_12", "2026_01", "2026_02", "past"]
    assert partitions(execute, "log") == ["2026_01", "past"]


async def test_no_timestamp_is_without_a_place(store, execute):
    times = [OLDEST, -1, 0, YEAR_2020 - 1, YEAR_2020, month_start(9999 * 12 + 11) - 1]
    rows = [measurement(1, time) for time in times]
    await store.write(Batch(measurements=rows))
    assert partitions(execute) == ["2020_01", "9999_11", "past"]
    assert execute("SELECT count(*) FROM measurement_past") == [(4,)]
    assert await count(store) == 6
    with pytest.raises(RowError):
        await store.write(Batch(measurements=[measurement(1, (1 << 63) - 1)]))


async def test_the_bounds_of_a_month_are_exact(store, execute):
    first, following = month_start(2026 * 12), month_start(2026 * 12 + 1)
    rows = [measurement(1, time) for time in (first, following - 1, following)]
    await store.write(Batch(measurements=rows))
    assert execute("SELECT count(*) FROM measurement_2026_01") == [(2,)]
    assert execute("SELECT count(*) FROM measurement_2026_02") == [(1,)]


async def test_partitions_have_the_indexes(store, execute):
    await store.write(batch())
    found = execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'measurement_2026_01'")
    assert len(found) == 2
    assert any("UNIQUE" in definition for (definition,) in found)


@pytest.mark.parametrize("way", ["DROP TABLE {}", "ALTER TABLE measurement DETACH PARTITION {}"])
async def test_a_partition_that_is_gone_is_made_again(store, execute, way):
    first = batch()
    await store.write(first)
    execute(way.format("measurement_2026_01"))
    await store.write(batch(100))
    assert partitions(execute) == ["2026_01", "past"]
    # A detached month comes back with what it held.
    assert await count(store) == (10 if "DROP" in way else 20)


async def test_instances_that_miss_the_same_month_do_not_hinder_each_other(
    store, postgresql_url, execute
):
    others = [await open_store(postgresql_url) for _ in range(3)]
    try:
        everyone = [store, *others]
        for month in range(5):
            start = month * 31 * DAY
            rows = [batch(start + at * 1_000) for at in range(4)]
            await asyncio.gather(*(each.write(rows[at]) for at, each in enumerate(everyone)))
    finally:
        for other in others:
            await other.close()
    assert partitions(execute) == [
        "2026_01", "2026_02", "2026_03", "2026_04", "2026_05", "past"
    ]  # fmt: skip
    assert await count(store) == 200


async def test_making_a_partition_does_not_wait_for_readers(store, postgresql_url):
    await store.write(batch())
    with psycopg.connect(postgresql_url) as reader:
        reader.execute("SELECT count(*) FROM measurement")
        async with asyncio.timeout(60):
            await store.write(batch(60 * DAY))
    assert await count(store) == 20


async def test_reading_a_page_touches_only_the_partitions_it_needs(store, postgresql_url):
    for month in range(6):
        await store.write(batch(month * 31 * DAY))
    query = store.engine._queries["measurements_before"]
    wanted = {"sensor": 1, "timestamp": NOON + 5, "fingerprint": 0, "since": NOON}
    wanted |= {"limit": 5, "longest": 99}
    values = ", ".join(str(wanted[name]) for name in query.parameters)
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        # Of a few rows that nobody has counted, the planner may as well read and sort all.
        for way in ("seqscan", "bitmapscan", "sort"):
            connection.execute(f"SET enable_{way} = off")
        connection.execute(f"PREPARE page AS {query.sql}")
        connection.commit()
        page = connection.execute(f"EXECUTE page({values})").fetchall()
        touched = dict(
            connection.execute(
                "SELECT relname, seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
                " WHERE relname LIKE 'measurement_%' AND seq_scan + idx_scan > 0"
            ).fetchall()
        )
    assert len(page) == 5
    assert touched.keys() == {"measurement_2026_01"}
    # No more rows than it gives: the index has them in order.
    assert touched["measurement_2026_01"] == 5


def ways(store):
    """Return how many batches were copied, and how many went through the staging tables."""
    ways = store.engine.writer.ways
    return ways.count("copied"), ways.count("staged")


async def test_rows_are_copied_until_a_repeat_comes(store):
    await store.write(batch())
    await store.write(batch(100))
    assert ways(store) == (2, 0)


async def test_a_repeat_that_is_remembered_is_not_tried_to_copy(store):
    store.engine.writer._watching_until = 1e12
    first = batch()
    await store.write(first)
    repeats = [again(row) for row in first.measurements]
    assert len((await store.write(Batch(measurements=repeats))).duplicates) == 10
    await store.write(batch(100))
    assert ways(store) == (2, 1)


async def test_where_nothing_comes_twice_nothing_is_remembered(store):
    first = batch()
    await store.write(first)
    recent = store.engine.writer._recent
    assert not recent._new
    repeats = [again(row) for row in first.measurements]
    assert len((await store.write(Batch(measurements=repeats))).duplicates) == 10
    store.engine.writer._staging_until = 0.0
    second = batch(100)
    await store.write(second)
    assert len(recent._new) == 10
    repeats = [again(row) for row in second.measurements]
    assert len((await store.write(Batch(measurements=repeats))).duplicates) == 10
    assert store.engine.writer._staging_until == 0.0
    assert ways(store) == (2, 2)


async def test_after_a_violation_rows_are_staged_for_a_while(store, postgresql_url, monkeypatch):
    first = batch()
    first.logs, first.heartbeats = [log(1, fingerprint=5)], [heartbeat(1, fingerprint=6)]
    other = await open_store(postgresql_url)
    await other.write(first)
    await other.close()
    repeat = Batch(
        measurements=[*batch(100).measurements, *map(again, first.measurements)],
        logs=[again(first.logs[0])],
        heartbeats=[again(first.heartbeats[0])],
    )
    assert len((await store.write(repeat)).duplicates) == 12
    assert ways(store) == (0, 1)
    await store.write(batch(200))
    assert ways(store) == (0, 2)
    store.engine.writer._staging_until = 0.0
    await store.write(batch(300))
    assert ways(store) == (1, 2)
    assert await count(store) == 40


async def test_staging_is_empty_after_each_commit(store, monkeypatch):
    monkeypatch.setattr(postgresql, "DEAD_ROWS", 15)
    first = batch()
    await store.write(first)
    connection = await store.engine.writer.open()
    for _ in range(4):
        repeats = [again(row) for row in first.measurements]
        assert len((await store.write(Batch(measurements=repeats))).duplicates) == 10
        assert await connection.fetchval("SELECT count(*) FROM measurement_staging") == 0
    assert ways(store) == (1, 4)


async def test_what_is_remembered_is_bounded(store, monkeypatch):
    monkeypatch.setattr("heliograph.store.postgresql.KEYS_A_GENERATION", 100)
    store.engine.writer._watching_until = 1e12
    for start in range(0, 2_000, 100):
        await store.write(batch(start, 100))
    recent = store.engine.writer._recent
    assert len(recent._new) + len(recent._old) <= 200


async def test_text_with_nul_is_the_rows_fault(store):
    row = (*measurement(1)[:7], '"\0"')
    for way in range(2):
        store.engine.writer._staging_until = 1e12 * way
        with pytest.raises(RowError):
            await store.write(Batch(measurements=[*batch().measurements, row]))
    with pytest.raises(RowError):
        await store.write(Batch(attributes=[(1, "a\0")]))
    await store.write(batch())
    assert await count(store) == 10


async def test_each_commit_is_on_the_disk(store, execute):
    execute("ALTER ROLE postgres SET synchronous_commit = off")
    try:
        store.engine.writer._connection.terminate() if store.engine.writer._connection else None
        connection = await store.engine.writer.open()
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        name = f"heliograph writer {os.getpid()}@{socket.gethostname()}"[:63]
        assert await connection.fetchval("SHOW application_name") == name
    finally:
        execute("ALTER ROLE postgres RESET synchronous_commit")


async def test_readers_cannot_write(store):
    with pytest.raises(StoreUnavailableError, match="read-only"):
        await store.engine.fetch("attributes_store", rows='[[1,"a"]]')


async def test_a_killed_connection_is_made_anew(store, execute):
    await store.write(batch())
    await store.ping()
    execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'heliograph%' AND datname = current_database()"
    )
    for start in (100, 200):
        rows = batch(start)
        with contextlib.suppress(StoreUnavailableError):
            await store.write(rows)
        with contextlib.suppress(StoreUnavailableError):
            await store.ping()
        await store.write(rows)
        await store.ping()
    assert await count(store) == 30


async def test_a_change_on_a_lost_connection_does_not_go_on_with_another(store, execute):
    sensor = await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)

    async def interrupted_change():
        async with store.engine.transaction() as transaction:
            await transaction.fetch("sensor_locked", number=sensor.number)
            execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE starts_with(application_name, 'heliograph writer')"
                " AND datname = current_database()"
            )
            await transaction.fetch(
                "configuration_add",
                sensor=sensor.number,
                configuration="1",
                created_at=1,
                author=None,
            )

    with pytest.raises(StoreUnavailableError):
        await interrupted_change()
    assert await store.configurations.current(sensor.number) is None
    assert await store.configurations.add(sensor.number, "2") == 0


@pytest.fixture
async def stoppable_store(stoppable_cluster):
    name = stoppable_cluster.create_database(migrated_postgresql(stoppable_cluster))
    store = await open_store(stoppable_cluster.dsn(name))
    yield store
    await store.close()


async def test_a_server_that_went_away_and_came_back_needs_no_restart(
    stoppable_store, stoppable_cluster
):
    store = stoppable_store
    await store.write(batch())
    await asyncio.to_thread(stoppable_cluster.stop)
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                await store.write(batch(100))
            with pytest.raises(StoreUnavailableError):
                await store.ping()
            with pytest.raises(StoreUnavailableError):
                await store.configurations.add(1, "{}")
            with pytest.raises(StoreUnavailableError):
                await store.deliveries.find([b"k"])
    finally:
        await asyncio.to_thread(stoppable_cluster.start)
    await store.write(batch(200))
    await store.ping()
    assert await count(store) == 20


async def test_a_lock_that_is_held_too_long_is_unavailable(store, postgresql_url, monkeypatch):
    settings = {**postgresql.connect_writer.__globals__["_WRITER_SETTINGS"]}
    settings["lock_timeout"] = "100"
    monkeypatch.setattr("heliograph.store.postgresql._WRITER_SETTINGS", settings)
    rows = batch()
    with psycopg.connect(postgresql_url) as other:
        other.execute("LOCK TABLE measurement IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailableError, match="lock timeout"):
            await store.write(rows)
    await store.write(rows)
    assert await count(store) == 10


class Link:
    """A proxy in front of the server that cuts the link at a COMMIT, before or after it."""

    def __init__(self, port):
        self.port = port
        self.cut = None
        self.commits = 0

    async def serve(self):
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def _connected(self, reader, writer):
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.port)
        lost = asyncio.Event()

        async def forward():
            while data := await reader.read(1 << 16):
                if b"COMMIT\0" in data:
                    self.commits += 1
                    cut, self.cut = self.cut, None
                    if cut == "before":
                        break
                    if cut == "after":
                        answering.cancel()
                        await asyncio.wait([answering])
                        server_writer.write(data)
                        await server_reader.read(1 << 16)
                        break
                server_writer.write(data)
            lost.set()

        async def answer():
            while data := await server_reader.read(1 << 16):
                writer.write(data)
            lost.set()

        answering = asyncio.create_task(answer())
        forwarding = asyncio.create_task(forward())
        await lost.wait()
        for task in (answering, forwarding):
            task.cancel()
        writer.transport.abort()
        server_writer.transport.abort()


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_link_cut_at_the_commit_leaves_a_batch_that_may_be_repeated(
    postgresql_url, postgresql_cluster, cut
):
    link = Link(postgresql_cluster.port)
    port = await link.serve()
    store = await open_store(postgresql_url.replace(str(postgresql_cluster.port), str(port)))
    try:
        await store.write(batch())
        rows = batch(100)
        rows.measurements.append(again(batch().measurements[0]))
        link.cut = cut
        with pytest.raises(StoreUnavailableError):
            await store.write(rows)
        assert await count(store) == (10 if cut == "before" else 20)
        written = await store.write(rows)
        assert list(written.duplicates) == [rows.measurements[-1][0]]
        assert await count(store) == 20
    finally:
        await store.close()
        link.server.close()


MONTH = 2026 * 12
DUE = {"moment": NOON + 400 * DAY, "default_days": 10}


async def rolled_up(store, *sensors):
    """Have nothing of these sensors' rollups need raw rows any more."""
    cutoffs = {number: Cutoffs(NOON + 300 * DAY, NOON + 300 * DAY, 0) for number in sensors}
    await store.removal.raise_floors(cutoffs)


async def test_a_partition_is_dropped_when_all_of_it_is_due(store, execute):
    one, other = [
        (await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)).number
        for _ in range(2)
    ]
    rows = [measurement(number, NOON + at) for at in range(3) for number in (one, other)]
    await store.write(Batch(measurements=rows, logs=[log(one), log(other)]))
    drop = store.engine.drop_partition
    # The rollups of one of them may still need its rows.
    await rolled_up(store, one)
    assert await drop("measurement", MONTH, **DUE) is Drop.KEPT
    await rolled_up(store, other)
    await store.retentions.set_sensor(other, raw_days=0, log_days=0)
    assert await drop("measurement", MONTH, **DUE) is Drop.KEPT
    assert await drop("log", MONTH, **DUE) is Drop.KEPT
    await store.retentions.set_sensor(other, raw_days=30, log_days=None)
    early = {**DUE, "moment": NOON + 30 * DAY}
    assert await drop("measurement", MONTH, **early) is Drop.KEPT
    assert await drop("measurement", MONTH, **DUE) is Drop.DROPPED
    assert await drop("log", MONTH, **DUE) is Drop.DROPPED
    assert await drop("log", MONTH, **DUE) is Drop.KEPT  # there is none any more
    assert partitions(execute) == partitions(execute, "log") == ["past"]
    # Rows of nobody who is known are nobody's to drop.
    await store.write(Batch(measurements=[measurement(999)]))
    assert await drop("measurement", MONTH, **DUE) is Drop.KEPT


async def test_a_partition_in_use_is_left_alone_and_holds_up_nobody(
    store, execute, postgresql_url, monkeypatch
):
    sensor = (await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)).number
    await store.write(Batch(measurements=[measurement(sensor, NOON - 5)]))
    await rolled_up(store, sensor)
    with psycopg.connect(postgresql_url) as reading:
        reading.execute("SELECT count(*) FROM measurement")
        became = await store.engine.drop_partition("measurement", MONTH, **DUE)
        assert became is Drop.BUSY
        await store.write(Batch(measurements=[measurement(sensor)]))
        monkeypatch.setattr(runs_module, "LOCK_RETRY_SECONDS", 0.0)
        monkeypatch.setattr(runs_module, "LOCK_ATTEMPTS", 2)
        runs = RetentionRuns(store, Retention(10, 10, 0), clock=lambda: DUE["moment"])
        await runs.sweep(DUE["moment"])
        # Nor are its rows removed one by one, which the next run drops.
        assert execute("SELECT count(*) FROM measurement") == [(2,)]
    await runs.sweep(DUE["moment"])
    assert runs.state.partitions_total == 1
    assert partitions(execute) == ["past"]


async def test_what_comes_while_its_partition_is_dropped_is_stored(store, execute):
    sensor = (await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)).number
    for attempt in range(5):
        await store.write(Batch(measurements=[measurement(sensor, NOON + attempt)]))
        await rolled_up(store, sensor)
        late = [measurement(sensor, NOON + 100 + at) for at in range(20)]
        became, *_ = await asyncio.gather(
            store.engine.drop_partition("measurement", MONTH, **DUE),
            *(store.write(Batch(measurements=[row])) for row in late),
        )
        assert became is not Drop.KEPT
        await store.write(Batch(measurements=[measurement(sensor, NOON + 1_000)]))
        assert partitions(execute) == ["2026_01", "past"]


async def packed_until_noon(store):
    async def at_once():
        pass

    rolling = Rolling(store, at_once)
    await rolling.advance(NOON)
    mark = await rolling.newest_mark()
    while await rolling.redo(mark):
        pass
    packer = Packer(store, 0, moment=lambda: NOON, rests=False)

    async def pack():
        await packer.pack(NOON, received_before=NOON + DAY)

    await pack()
    return pack


async def test_a_month_is_dropped_once_all_of_it_is_packed(store, execute, postgresql_url):
    sensor, silent = [
        (await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)).number
        for _ in range(2)
    ]
    november, december = NOON - 60 * DAY, NOON - 30 * DAY
    times = [*(december + at for at in range(80)), *(november + at for at in range(80)), NOON]
    rows = [measurement(sensor, time) for time in times]
    await store.write(Batch(measurements=[*rows, measurement(silent, november)]))
    with psycopg.connect(postgresql_url) as reading:
        reading.execute("SELECT count(*) FROM measurement")
        pack = await packed_until_noon(store)
        assert partitions(execute) == ["2025_11", "2025_12", "2026_01", "past"]
    # The newest row of who is silent is a row, and keeps its month.
    await pack()
    assert partitions(execute) == ["2025_11", "2026_01", "past"]
    # What comes late makes it again; repeats are found where they are.
    late = measurement(sensor, december + 100)
    repeat = again(rows[0])
    written = await store.write(Batch(measurements=[late, repeat]))
    assert written.duplicates == {repeat[0]: rows[0][0]}
    assert partitions(execute) == ["2025_11", "2025_12", "2026_01", "past"]
    page = await store.measurements.page(sensor, key=LEAST, limit=1_000)
    assert [row.timestamp for row in page] == sorted([*times, late[2]])


async def test_what_comes_while_its_emptied_month_is_dropped_is_stored(store, execute):
    sensor = (await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)).number
    partition = Partition("measurement_2026_01", MONTH, 0, 0)
    late = [measurement(sensor, NOON + at) for at in range(20)]
    await store.write(Batch(measurements=[measurement(sensor, NOON - DAY)]))
    assert await store.removal.drop_empty(partition) is Drop.KEPT
    execute("DELETE FROM measurement")
    await asyncio.gather(
        store.removal.drop_empty(partition),
        *(store.write(Batch(measurements=[row])) for row in late),
    )
    assert execute("SELECT count(*) FROM measurement") == [(20,)]
