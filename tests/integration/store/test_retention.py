"""What is due, on both engines: which rows go, what stays, and what rollups still need."""

import asyncio
import os
import textwrap
import uuid

import pytest
from structlog.testing import capture_logs

import program
from aggregating import aggregates_of
from heliograph.model.retention import Horizon, Retention
from heliograph.model.time import DAY, HOUR, MINUTE
from heliograph.retention import runs as runs_module
from heliograph.retention.runs import RetentionRuns
from heliograph.rollups.task import Rolling
from heliograph.store import open_store
from heliograph.store import removal as removal_module
from heliograph.store.engine import Batch
from heliograph.store.pages import LEAST
from heliograph.store.removal import SAMPLE_OF, Counted, KeptKind, Span, row_bytes
from rows import NOON, heartbeat, log, measurement

FOR_EVER = Retention(0, 0, 0)


class Forgotten:
    """What is remembered of newest values."""

    def __init__(self):
        self.sensors = set()

    def forget(self, number):
        self.sensors.add(number)

    def forget_all(self):
        self.sensors.add("all")


def runs(store, retention=FOR_EVER, **options):
    return RetentionRuns(store, retention, clock=lambda: NOON, **options)


@pytest.fixture
def change(store, engine):
    """Return a function that runs SQL where the server would not."""

    async def change(sql, *arguments):
        if engine == "sqlite":
            await store.engine._run(
                lambda: store.engine._writer.open().execute(sql, arguments).fetchall()
            )
            return
        connection = await store.engine.writer.open()
        for at in range(len(arguments), 0, -1):
            sql = sql.replace("?", f"${len(arguments) - at + 1}", 1)
        await connection.execute(sql, *arguments)

    return change


@pytest.fixture
async def rolled_up(change):
    """Have everything until noon rolled up, as far as the tables tell."""
    await change("UPDATE rollup_state SET frontier = ?", NOON)


async def times(store, sensor, kind="measurements"):
    """Return how old the rows are that a sensor still has, in days, the newest last."""
    pages = getattr(store, kind)
    rows = await pages.page(sensor, key=None, direction="next", limit=10_000)
    return [(NOON - row.timestamp) / DAY for row in rows]


async def roll_up(store):
    """Work off all marks of late rows."""

    async def without_a_pause():
        pass

    rolling = Rolling(store, without_a_pause)
    until = await rolling.newest_mark()
    while await rolling.redo(until):
        pass


async def fill(store, sensor, ages):
    """Store rows of each kind that are so many days old, and roll up the measurements."""
    await store.write(
        Batch(
            measurements=[measurement(sensor, NOON - round(age * DAY)) for age in ages],
            logs=[log(sensor, NOON - round(age * DAY)) for age in ages],
            heartbeats=[heartbeat(sensor, NOON - round(age * DAY)) for age in ages],
        )
    )
    await roll_up(store)


async def test_nothing_is_due_by_default(store, sensor, rolled_up):
    await fill(store, sensor, [4_000, 1])
    sweeper = runs(store)
    await sweeper.sweep(NOON)
    assert await times(store, sensor) == [4_000, 1]
    assert not sweeper.state.removed_total


async def test_each_kind_has_a_time_of_its_own(store, sensor, rolled_up, engine):
    await fill(store, sensor, [40, 20, 5])
    newest = Forgotten()
    sweeper = runs(store, Retention(10, 0, 30), newest=newest)
    await sweeper.sweep(NOON)
    assert await times(store, sensor) == [5]
    assert await times(store, sensor, "logs") == [20, 5]
    assert await times(store, sensor, "heartbeats") == [20, 5]
    if engine == "sqlite":
        assert sweeper.state.removed_total == {"measurements": 2, "logs": 1, "heartbeats": 1}
        assert newest.sensors == {sensor}
    else:
        assert newest.sensors == {"all"}
    assert await store.removal.floors([sensor]) == {sensor: NOON - 10 * DAY}


async def test_a_sensor_goes_before_its_network_and_that_before_the_settings(
    store, register, rolled_up
):
    network = await store.networks.create(
        identifier=str(uuid.uuid4()), name="n", created_at=1, owner=None
    )
    plain = (await register()).number
    member = (await register(network_identifier=network.identifier)).number
    own = (await register(network_identifier=network.identifier)).number
    for each in (plain, member, own):
        await fill(store, each, [40, 20, 5])
    await store.retentions.set_network(network.identifier, raw_days=30)
    await store.retentions.set_sensor(own, raw_days=0, log_days=1)
    await runs(store, Retention(10, 0, 10)).sweep(NOON)
    assert await times(store, plain) == [5]
    assert await times(store, member) == [20, 5]
    assert await times(store, member, "logs") == [5]
    assert await times(store, own) == [40, 20, 5]
    assert await times(store, own, "logs") == []


async def test_what_is_said_can_be_taken_back(store, sensor):
    retentions = store.retentions
    assert await retentions.of_sensor(sensor) == Retention()
    assert await retentions.set_sensor(sensor, raw_days=3, log_days=0) == Retention(3, None, 0)
    assert await retentions.set_sensor(sensor, log_days=None) == Retention(3, None, None)
    assert await retentions.has_rules()
    assert await retentions.set_sensor(sensor, raw_days=None) == Retention()
    assert not await retentions.has_rules()
    assert await retentions.set_sensor(999, raw_days=1) is None
    assert await retentions.set_network(str(uuid.uuid4()), raw_days=1) is None


async def test_what_is_said_ends_with_whom_it_was_said_of(store, register, change):
    network = await store.networks.create(
        identifier=str(uuid.uuid4()), name="n", created_at=1, owner=None
    )
    sensor = (await register()).number
    await store.retentions.set_network(network.identifier, raw_days=3)
    await store.retentions.set_sensor(sensor, raw_days=3)
    await store.networks.delete(network.identifier)
    await store.sensors.delete(sensor, 1)
    assert await store.retentions.has_rules()
    await store.sensors.erase(sensor)
    assert not await store.retentions.has_rules()


async def test_raw_rows_stay_until_they_are_rolled_up(store, register, change):
    behind, marked, waiting, done = [(await register()).number for _ in range(4)]
    for each in (behind, marked, waiting, done):
        await fill(store, each, [40, 30, 20])
    await change("UPDATE rollup_state SET frontier = ?", NOON - 35 * DAY)
    sweeper = runs(store, Retention(10, 0, 0))
    await sweeper.sweep(NOON)
    assert await times(store, behind) == [30, 20]
    await change("UPDATE rollup_state SET frontier = ?", NOON)
    await change("INSERT INTO touched (sensor, hour) VALUES (?, ?)", marked, NOON - 30 * DAY)
    await change("INSERT INTO touched (sensor, hour) VALUES (?, ?)", marked, NOON - 20 * DAY)
    await change(
        "INSERT INTO rollup_backlog (sensor, range_start, range_end) VALUES (?, ?, ?)",
        waiting,
        NOON - 50 * DAY,
        NOON - 25 * DAY,
    )
    await sweeper.sweep(NOON)
    assert await times(store, behind) == await times(store, done) == []
    assert await times(store, marked) == [30, 20]
    assert await times(store, waiting) == [30, 20]
    # What lies before the floor is never rolled up again: a mark there is none to wait for.
    await change("DELETE FROM touched")
    await change("INSERT INTO touched (sensor, hour) VALUES (?, ?)", marked, NOON - 45 * DAY)
    await sweeper.sweep(NOON)
    assert await times(store, marked) == []


async def test_rows_before_1970_stay_until_they_are_rolled_up(store, sensor, rolled_up):
    """And then count from their rollups; before that nothing else of them is taken for done."""
    ages = [26_000, 25_000, 20_000]
    rows = [measurement(sensor, NOON - age * DAY, age) for age in ages]
    await store.write(Batch(measurements=rows[1:]))
    sweeper = runs(store, Retention(10, 0, 0))
    await sweeper.sweep(NOON)
    assert await times(store, sensor) == ages[1:]
    await roll_up(store)
    await sweeper.sweep(NOON)
    assert await times(store, sensor) == []
    assert sweeper.state.removed_total[KeptKind.MEASUREMENTS] == 2
    # What comes for an hour that has ended counts no more, and goes with the next run.
    await store.write(Batch(measurements=rows[:1]))
    await roll_up(store)
    await sweeper.sweep(NOON)
    assert await times(store, sensor) == []
    starts = [NOON - 30_000 * DAY, NOON]
    series = await aggregates_of(store).read(sensor, starts, None, start=starts[0], end=starts[1])
    assert series.rows == [2]
    assert series.attributes["value"][0].total == sum(ages[1:])


async def test_rows_of_others_are_due_though_some_before_1970_are_not_rolled_up(
    store, register, rolled_up
):
    one, two = (await register()).number, (await register()).number
    await store.write(Batch(measurements=[measurement(one, NOON - 25_000 * DAY)]))
    for number in (one, two):
        await store.write(Batch(measurements=[measurement(number, NOON - 20 * DAY)]))
    await runs(store, Retention(30, 0, 0)).sweep(NOON)
    assert await times(store, one) == [25_000, 20]
    await runs(store, Retention(30_000, 0, 0)).sweep(NOON)
    assert await times(store, one) == [25_000, 20]
    await roll_up(store)
    await runs(store, Retention(22_000, 0, 0)).sweep(NOON)
    assert await times(store, one) == [20]
    assert await times(store, two) == [20]


async def test_rows_before_1970_of_a_kind_that_is_kept_for_ever_stay(store, sensor, rolled_up):
    ages = [26_000, 40, 5]
    await fill(store, sensor, ages)
    await runs(store, Retention(10, 0, 0)).sweep(NOON)
    assert await times(store, sensor) == [5]
    assert await times(store, sensor, "logs") == await times(store, sensor, "heartbeats") == ages
    starts = [NOON - 30_000 * DAY, NOON]
    series = await aggregates_of(store).read(sensor, starts, None, start=starts[0], end=starts[1])
    assert series.rows == [3]


async def test_rollups_that_end_with_raw_rows_are_not_waited_for(store, sensor, change):
    await change("UPDATE rollup_state SET frontier = ?", NOON - 100 * DAY)
    await fill(store, sensor, [40, 5])
    await runs(store, Retention(10, 10, 0)).sweep(NOON)
    assert await times(store, sensor) == [5]


async def test_rollups_go_by_whole_days(store, sensor, change, rolled_up):
    midnight = NOON // DAY * DAY
    spans = [Span(sensor, 0, NOON)]
    for level, start in (
        (60, midnight - 10 * DAY - HOUR),
        (3_600, midnight - 11 * DAY),
        (60, midnight - 10 * DAY),
        (3_600, midnight - 10 * DAY),
    ):
        await change(
            "INSERT INTO rollup (sensor, level, start, packed) VALUES (?, ?, ?, ?)",
            sensor,
            level,
            start,
            b"x",
        )
    due = [Span(sensor, 0, midnight - 10 * DAY)]
    assert await store.removal.count(KeptKind.ROLLUPS, due, 10) == {sensor: Counted(2, True)}
    sweeper = runs(store, Retention(5, 10, 0))
    await sweeper.sweep(NOON)
    left = await store.removal.due(KeptKind.ROLLUPS, spans, 10)
    assert {row.time for row in left} == {midnight - 10 * DAY}
    assert len(left) == 2
    assert sweeper.state.removed_total == {"rollups": 2}


async def test_a_late_row_is_taken_and_goes_with_the_next_run(store, sensor, rolled_up):
    sweeper = runs(store, Retention(10, 0, 10))
    await fill(store, sensor, [40, 5])
    await sweeper.sweep(NOON)
    await fill(store, sensor, [40, 11])
    assert await times(store, sensor) == [40, 11, 5]
    await sweeper.sweep(NOON)
    assert await times(store, sensor) == [5]
    assert await times(store, sensor, "logs") == [5]


async def test_a_longer_retention_brings_nothing_more_to_an_end(store, sensor, rolled_up):
    await fill(store, sensor, [40, 5])
    await runs(store, Retention(10, 0, 10)).sweep(NOON)
    await fill(store, sensor, [40, 20])
    await runs(store, Retention(30, 0, 30)).sweep(NOON)
    assert await times(store, sensor) == [20, 5]


async def test_removal_is_by_bounded_batches(store, register, monkeypatch, rolled_up):
    monkeypatch.setattr(removal_module, "FEWEST_ROWS", 7)
    monkeypatch.setattr(removal_module, "MOST_ROWS", 7)
    monkeypatch.setattr(runs_module, "SENSORS_AT_ONCE", 2)
    sensors = [(await register()).number for _ in range(5)]
    ages = [12 + at / 100 for at in range(30)] + [1]
    for each in sensors:
        await fill(store, each, ages)
        # Several at one time.
        await store.write(
            Batch(
                measurements=[
                    measurement(each, NOON - 11 * DAY, value, fingerprint=value)
                    for value in range(20)
                ]
            )
        )
    await roll_up(store)
    sizes = []
    remove = store.removal.remove

    async def watched(kind, rows):
        sizes.append(len(rows))
        return await remove(kind, rows)

    monkeypatch.setattr(store.removal, "remove", watched)
    sweeper = runs(store, Retention(10, 0, 10))
    await sweeper.sweep(NOON)
    for each in sensors:
        assert await times(store, each) == [1]
        assert await times(store, each, "heartbeats") == [1]
    assert max(sizes) == 7
    assert sweeper.state.removed_total == {"measurements": 250, "logs": 150, "heartbeats": 150}


async def test_a_run_that_ends_anywhere_has_removed_only_what_is_due(
    store, sensor, monkeypatch, rolled_up
):
    """Break off before each change of the store in turn; the last run goes to its end."""
    monkeypatch.setattr(removal_module, "FEWEST_ROWS", 2)
    monkeypatch.setattr(removal_module, "MOST_ROWS", 2)
    change = store.engine.change
    left = 0

    def dying(work):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return change(work)

    monkeypatch.setattr(store.engine, "change", dying)
    ages = [20, 19, 18, 17, 5, 4]
    left = 10
    await fill(store, sensor, ages)
    for until in range(20):
        left = until
        try:
            await runs(store, Retention(10, 0, 10)).sweep(NOON)
        except KeyboardInterrupt:
            found = await times(store, sensor)
            assert found[-2:] == [5, 4]
            floor = (await store.removal.floors([sensor]))[sensor]
            # What is gone is counted from rollups.
            assert len(found) == 6 or floor == NOON - 10 * DAY
        else:
            break
    assert await times(store, sensor) == await times(store, sensor, "logs") == [5, 4]


async def test_rows_are_counted_and_beyond_a_bound_estimated(store, sensor, rolled_up):
    await fill(store, sensor, [20 - at / 100 for at in range(1_000)] + [5])
    spans = [Span(sensor, 0, NOON - 10 * DAY)]
    for kind in (KeptKind.MEASUREMENTS, KeptKind.LOGS, KeptKind.HEARTBEATS):
        exact = (await store.removal.count(kind, spans, 5_000))[sensor]
        assert (exact.rows, exact.is_exact) == (1_000, True)
        about = (await store.removal.count(kind, spans, 100))[sensor]
        assert not about.is_exact
        assert 900 <= about.rows <= 1_100
    rollups = (await store.removal.count(KeptKind.ROLLUPS, spans, 5_000))[sensor]
    assert rollups.is_exact
    # Of ten days, by hours and by days.
    assert 245 <= rollups.rows <= 256
    sampled = await store.removal.sample(KeptKind.MEASUREMENTS, spans, SAMPLE_OF)
    assert len(sampled) == 1_000
    (size,) = {row_bytes(store.engine.name, KeptKind.MEASUREMENTS, row.content) for row in sampled}
    assert 50 < sum(size) < 250


async def test_what_is_used_grows_and_what_is_removed_is_not_counted(
    store, sensor, rolled_up, engine
):
    before = await store.removal.used()
    assert before > 0
    rows = [measurement(sensor, NOON - 20 * DAY + at, "x" * 1_000) for at in range(3_000)]
    await store.write(Batch(measurements=rows))
    await roll_up(store)
    grown = await store.removal.used()
    assert grown - before > 3_000_000
    await runs(store, Retention(10, 0, 10)).sweep(NOON)
    if engine == "sqlite":
        # Live pages alone: the log of writes keeps its size.
        (live,) = (await store.engine.fetch("disk_used"))[0]
        assert live < before + 1_000_000


class Time:
    """The time that a server's clocks tell, to be set."""

    def __init__(self):
        self.wall = NOON
        self.elapsed = 0

    def pass_by(self, microseconds):
        self.wall += microseconds
        self.elapsed += microseconds

    def started(self, store, retention):
        """Return the runs of a server that starts now."""
        return RetentionRuns(
            store, retention, clock=lambda: self.wall, elapsed=lambda: self.elapsed
        )


async def run_once(sweeper):
    """Do what a server does each hour."""
    await sweeper.sweep(await sweeper.horizon())


async def test_a_clock_that_is_ahead_has_nothing_removed_while_ingest_runs(
    store, sensor, rolled_up
):
    time = Time()
    sweeper = time.started(store, Retention(30, 30, 30))
    await fill(store, sensor, [31, 29, 1, 0])
    await run_once(sweeper)
    assert await times(store, sensor) == [29, 1, 0]
    time.wall += 90 * DAY
    for hour in range(1, 24):
        time.pass_by(HOUR)
        # By its own clock, which is right.
        await fill(store, sensor, [-hour / 24])
        await run_once(sweeper)
        assert len(await times(store, sensor)) == 3 + hour
        assert await times(store, sensor) == await times(store, sensor, "logs")
    assert sweeper.state.horizon == (NOON + 23 * HOUR, NOON + 90 * DAY + 23 * HOUR, 22 * HOUR)
    time.wall -= 90 * DAY
    await run_once(sweeper)
    assert not sweeper.state.horizon.waits
    assert len(await times(store, sensor)) == 26
    # True time goes on, and so does what is due.
    for _ in range(2):
        time.pass_by(DAY)
        await run_once(sweeper)
    assert len(await times(store, sensor)) == 25


async def test_a_server_that_was_off_for_90_days_waits_for_a_day_or_for_somebody(
    store, sensor, rolled_up, change
):
    time = Time()
    keep = Retention(30, 30, 30)
    await fill(store, sensor, [29, 1, 0])
    await run_once(time.started(store, keep))
    time.wall += 90 * DAY
    sweeper = time.started(store, keep)
    with capture_logs() as logs:
        await run_once(sweeper)
        await sweeper._log_wait()
        for _ in range(23):
            time.pass_by(HOUR)
            await run_once(sweeper)
            await sweeper._log_wait()
    # The day that has passed; the rest waits.
    assert await times(store, sensor) == [29, 1, 0]
    (told,) = [each for each in logs if each["log_level"] == "warning"]
    assert "heliograph retention accept" in told["event"]
    assert {kind: told[kind] for kind in KeptKind} == {
        "measurements": 3,
        "logs": 3,
        "heartbeats": 3,
        "packets": 0,
        "rollups": 4,
    }
    time.pass_by(HOUR)
    await run_once(sweeper)
    assert await times(store, sensor) == []
    # Another stop, and somebody who says that the clock is right.
    await fill(store, sensor, [-92])
    time.wall += 90 * DAY
    again = time.started(store, keep)
    await run_once(again)
    assert len(await times(store, sensor)) == 1
    await store.clock.move_horizon(lambda _: Horizon(time.wall, time.wall, 0))
    time.pass_by(HOUR)
    await run_once(again)
    assert await times(store, sensor) == []


async def test_what_a_silent_network_sent_90_days_ago_expires(store, sensor, rolled_up):
    time = Time()
    sweeper = time.started(store, Retention(30, 30, 30))
    await fill(store, sensor, [1, 0])
    for _ in range(9):
        await run_once(sweeper)
        assert not sweeper.state.horizon.waits
        time.pass_by(10 * DAY)
    assert await times(store, sensor) == await times(store, sensor, "heartbeats") == []


async def test_a_shorter_retention_is_not_held_up_by_a_leap_of_the_clock(store, sensor, rolled_up):
    time = Time()
    await fill(store, sensor, [29, 11, 9, 0])
    await run_once(time.started(store, Retention(30, 30, 30)))
    time.wall += 90 * DAY
    await run_once(time.started(store, Retention(10, 10, 10)))
    assert await times(store, sensor) == await times(store, sensor, "logs") == [9, 0]


async def test_no_room_on_the_disk_lets_no_leap_through(store, sensor, rolled_up):
    time = Time()
    await fill(store, sensor, [29, 0])
    sweeper = time.started(store, Retention(30, 30, 30))
    await run_once(sweeper)
    time.wall += 90 * DAY
    sweeper.set_urgent(True)
    for _ in range(200):
        time.pass_by(MINUTE)
        await sweeper.horizon()
    await run_once(sweeper)
    assert await times(store, sensor) == [29, 0]


async def test_each_run_logs_what_it_removed(store, sensor, rolled_up):
    await fill(store, sensor, [12, 11.9, 1])
    sweeper = runs(store, Retention(10, 0, 10))
    with capture_logs() as logs:
        await run_once(sweeper)
        await run_once(sweeper)
    removed = [each for each in logs if each["event"] == "expired data removed"]
    assert [each["logs"] for each in removed] == [2, 0]
    assert [each["heartbeats"] for each in removed] == [2, 0]
    assert [each["measurements"] for each in removed] == [2, 0]
    assert {each["moment"] for each in removed} == {"2026-01-15T12:00:00.000000Z"}


async def test_a_run_of_another_process_moves_the_horizon_for_all(store, sensor):
    time = Time()
    here, there = (time.started(store, FOR_EVER) for _ in range(2))
    await here.horizon()
    for _ in range(3):
        time.pass_by(DAY)
        await there.horizon()
        here.follow((await store.clock.read()).horizon)
    time.pass_by(HOUR)
    await here.horizon()
    assert here.state.horizon == (NOON + 3 * DAY + HOUR, NOON + 3 * DAY + HOUR, 0)


# Ends the process as kill -9 would, before the commit with the number given.
KILLED = textwrap.dedent(
    """
    import asyncio, os, signal, sys
    from heliograph.model.retention import Retention
    from heliograph.retention import runs
    from heliograph.store import open_store, postgresql, removal, sqlite
    from heliograph.store.engine import Transaction
    url, moment, left = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    removal.FEWEST_ROWS = removal.MOST_ROWS = 3
    async def sweep():
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
        await runs.RetentionRuns(store, Retention(10, 0, 10), clock=lambda: moment).sweep(moment)
        await store.close()
    asyncio.run(sweep())
    """
)


@pytest.mark.parametrize("statements", [4, 6, 7])
async def test_a_run_that_is_killed_loses_nothing_that_is_not_due(
    store, sensor, rolled_up, database_url, statements, tmp_path
):
    ages = [13, 12.9, 12.8, 12.7, 12.6, 12.5, 12.4, 12.3, 5, 4]
    await fill(store, sensor, ages)
    await store.close()
    (tmp_path / "killed.py").write_text(KILLED)
    killed = await asyncio.to_thread(
        program.run,
        *(database_url, str(NOON), str(statements)),
        module="killed",
        env=os.environ,
        cwd=tmp_path,
        timeout=60,
    )
    assert killed.returncode == -9, killed.stderr
    again = await open_store(database_url)
    try:
        left = await times(again, sensor)
        assert left[-2:] == [5, 4]
        assert await times(again, sensor, "logs") == ages
        # What is gone has its floor; what was not committed is there.
        floor = (await again.removal.floors([sensor]))[sensor]
        assert (len(left), floor) == {
            4: (10, LEAST),
            6: (7, NOON - 10 * DAY),
            7: (4, NOON - 10 * DAY),
        }[statements]
        await runs(again, Retention(10, 0, 10)).sweep(NOON)
        assert await times(again, sensor) == await times(again, sensor, "logs") == [5, 4]
    finally:
        await again.close()


async def test_aggregates_are_the_same_when_raw_rows_are_gone(store, sensor, rolled_up):
    times = [NOON - round(age / 100 * DAY) for age in range(1_400, 900, -3)]
    values = [{"t": at % 17, "h": at / 7} for at in range(len(times))]
    rows = [measurement(sensor, *each) for each in zip(times, values, strict=True)]
    await store.write(Batch(measurements=rows))
    await roll_up(store)

    async def aggregates():
        starts = [NOON - 15 * DAY + hours * HOUR for hours in range(0, 7 * 24, 9)]
        end = starts[-1]
        found = await aggregates_of(store).read(sensor, starts, None, start=starts[0], end=end)
        return found.rows, found.attributes

    before = await aggregates()
    assert sum(before[0]) == len(rows)
    sweeper = runs(store, Retention(10, 0, 0))
    await sweeper.sweep(NOON)
    assert sweeper.state.removed_total[KeptKind.MEASUREMENTS] > 100
    after = await aggregates()
    assert after[0] == before[0]
    for name, buckets in before[1].items():
        for bucket, expected in buckets.items():
            found = after[1][name][bucket]
            assert (found.count, found.minimum, found.maximum, found.last) == (
                expected.count,
                expected.minimum,
                expected.maximum,
                expected.last,
            )
            assert found.total == pytest.approx(expected.total)
    # And still after the sensor has sent more, late and in time.
    late = [measurement(sensor, NOON - days * DAY, {"t": 1_000}) for days in (12, 1)]
    await store.write(Batch(measurements=late))
    await roll_up(store)
    await sweeper.sweep(NOON)
    assert (await aggregates())[0] == before[0]
