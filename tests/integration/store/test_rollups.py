"""Aggregates through rollups equal those of the raw rows, whatever happens in between."""

import itertools
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heliograph.model.batch import Batch
from heliograph.model.buckets import bucket_starts, parse_bucket
from heliograph.model.time import DAY, HOUR, MINUTE, SECOND
from heliograph.store import aggregates as aggregates_module
from heliograph.store import open_store
from heliograph.store import rolling as rolling_module
from heliograph.store.rolling import Rolling, SupersededError
from heliograph.store.rollup_change import RollupChange
from heliograph.store.rollups import changed
from integration.store.test_aggregates import check, expected
from rows import measurement

# Midnights (UTC) before the clocks change in Berlin, each later than the one before: the
# frontier does not move back. They lie ahead, so that on PostgreSQL too rows are late by the
# frontier and not by the clock.
MIDNIGHTS = [
    1_805_932_800 * SECOND,  # 2027-03-25
    1_824_595_200 * SECOND,  # 2027-10-27
    1_837_468_800 * SECOND,  # 2028-03-24
    1_856_217_600 * SECOND,  # 2028-10-27
]
LENGTH = 60 * HOUR

values = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(-1e200, 1e200, allow_nan=False),
    st.sampled_from([{}, "text", None, True]),
    st.dictionaries(st.sampled_from(["t", "u", "d.t"]), st.integers(-9, 9) | st.booleans()),
    st.builds(lambda number: {"air": {"t": number}, "t": "x"}, st.floats(-10, 10)),
)
# Few hours, so that something happens in them more than once.
seconds = st.builds(
    lambda hour, second: hour * 3_600 + second,
    st.sampled_from([0, 1, 2, 23, 24, 30, 47, 48, 59]),
    st.sampled_from([0, 1, 59, 60, 61, 600, 1_800, 3_599]) | st.integers(0, 3_599),
)
readings = st.lists(st.tuples(seconds, st.integers(0, 1), values), min_size=1, max_size=12)
inserts = st.tuples(st.just("insert"), readings)
deletes = st.tuples(st.just("delete"), st.tuples(seconds, st.integers(0, 1)))
inner = st.one_of(inserts, deletes)
actions = st.one_of(
    inserts,
    inserts,
    deletes,
    st.tuples(st.just("advance"), st.integers(0, 360)),
    st.tuples(st.just("advance"), st.integers(0, 60).map(lambda hour: hour * 6)),
    st.tuples(st.just("redo"), st.none()),
    st.tuples(st.just("fill"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    # What happens between reading and storing of the pieces that come next.
    st.tuples(st.just("within"), st.lists(inner, max_size=3)),
)
zones = st.sampled_from(["UTC", "Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe"])
lengths = st.sampled_from(["100s", "150s", "7m", "30m", "1h", "90m", "9h", "1d", "1mo"])
queries = st.tuples(
    lengths, zones, st.tuples(st.integers(-3_600, 220_000), st.integers(1, 220_000))
)


class Disturbed(Rolling):
    """Lets things happen between the reading of raw rows and the storing of rollups."""

    def __init__(self, engine, happen):
        super().__init__(engine, self._nothing)
        self._happen = happen

    async def _nothing(self):
        pass

    async def _counted(self, works):
        found = await super()._counted(works)
        await self._happen()
        return found


class Case:
    """A database, and in plain Python what is in it."""

    def __init__(self, store, sensors, midnight):
        self.store = store
        self.sensors = sensors
        self.midnight = midnight
        self.rows = [{}, {}]
        self.within = []
        self.rolling = Disturbed(store.engine, self.happen)
        self.frontier = 0

    async def begin(self, backlog):
        """Put the frontier where the case begins; with a backlog, before it is known."""
        state = await self.rolling.state()
        change = RollupChange(state.generation, frontier=self.midnight + 20 * HOUR)
        if not backlog:
            change.frontier = self.midnight
            self.store.engine.lateness.rise(self.midnight)
        assert await self.store.engine.store_rollups(change)

    async def happen(self):
        if self.within:
            await self.do(*self.within.pop(0))

    async def do(self, action, detail):
        await getattr(self, action)(detail)

    async def insert(self, found):
        rows = []
        for second, which, value in found:
            row = measurement(self.sensors[which], self.midnight + second * SECOND, value)
            rows.append(row)
            self.rows[which][row[2:4]] = (row[2], row[3], value)
        batch = Batch(measurements=rows)
        batch.sort()
        await self.store.write(batch)

    async def delete(self, detail):
        second, which = detail
        last = self.midnight + second * SECOND
        sensor = self.sensors[which]
        mine = self.rows[which]
        oldest = sorted(key for key in mine if key[0] <= last)
        async with self.store.engine.transaction() as transaction:
            if oldest:
                await changed(transaction, sensor, oldest[0][0], last + 1)
            # The oldest, one by one, are those up to this time.
            await transaction.fetch("measurements_erase", sensor=sensor, limit=len(oldest))
        for key in oldest:
            del mine[key]

    async def advance(self, steps):
        with_patience = self.rolling.advance(self.midnight + steps * 10 * MINUTE)
        await with_patience

    async def redo(self, _):
        while await self.rolling.redo(await self.rolling.newest_mark()):
            pass

    async def fill(self, _):
        while await self.rolling.fill():
            pass

    async def restart(self, _):
        self.rolling = Disturbed(self.store.engine, self.happen)

    async def within_next(self, _):
        pass

    async def check(self, length, zone, ends):
        start = self.midnight + ends[0] * SECOND
        end = start + ends[1] * SECOND
        where = UTC if zone == "UTC" else ZoneInfo(zone)
        starts = bucket_starts(parse_bucket(length), where, start, end)
        for which, sensor in enumerate(self.sensors):
            found, counts = expected(self.rows[which].values(), starts, start, end)
            for names in (None, [*found, "not there"]):
                series = await self.store.aggregates.read(
                    sensor, starts, names, start=start, end=end
                )
                check(series, found, counts)


@pytest.fixture
def small(monkeypatch):
    """Read and store in pieces that a few rows fill."""
    monkeypatch.setattr(aggregates_module, "CHUNK", 7)
    monkeypatch.setattr(aggregates_module, "_AT_ONCE", 3)
    monkeypatch.setattr(aggregates_module, "_FIRST_ROLLUPS", 2)
    monkeypatch.setattr(aggregates_module, "_SPANS", 3)
    monkeypatch.setattr(rolling_module, "ROWS", 5)
    monkeypatch.setattr(rolling_module, "HOURS_AT_ONCE", 2)
    monkeypatch.setattr(rolling_module, "MARKS", 7)
    monkeypatch.setattr(rolling_module, "STORED_AT_ONCE", 3)


async def test_aggregates_equal_the_recomputation(store, register, small, engine):
    cases = []

    # Examples are drawn first: Hypothesis calls no coroutines.
    @settings(
        max_examples=30 if engine == "sqlite" else 10,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        steps=st.lists(actions, min_size=3, max_size=14),
        asked=st.lists(queries, min_size=2, max_size=4),
    )
    def draw(steps, asked):
        cases.append((steps, asked))

    draw()
    share = -(-len(cases) // len(MIDNIGHTS))
    for number, (steps, asked) in enumerate(cases):
        # Cases with one midnight share it, each beginning a few days after the one before.
        midnight = MIDNIGHTS[number // share] + number % share * 7 * DAY
        sensors = [(await register()).number for _ in range(2)]
        case = Case(store, sensors, midnight)
        await case.begin(backlog=False)
        for step, detail in steps:
            if step == "within":
                case.within = list(detail)
                continue
            await case.do(step, detail)
            await case.check(*asked[0])
        for query in asked:
            await case.check(*query)
        await case.advance(360)
        await case.redo(None)
        assert sum(await store.rollups.pending()) == 0
        for query in asked:
            await case.check(*query)


async def rolled(store, sensor, rows, start, end):
    """Store rows and roll them up; return the case."""
    case = Case(store, [sensor, sensor + 1], start)
    await case.begin(backlog=False)
    batch = Batch(measurements=rows)
    batch.sort()
    await store.write(batch)
    await case.rolling.advance(end)
    await case.redo(None)
    return case


async def no_rows(store, monkeypatch):
    """Have reading of raw rows fail."""
    fetch = store.engine.fetch

    async def fetching(query, **parameters):
        assert query not in ("measurements_values", "measurements_spans")
        return await fetch(query, **parameters)

    monkeypatch.setattr(store.engine, "fetch", fetching)


async def test_what_is_rolled_up_is_not_read_from_rows(store, sensor, monkeypatch):
    start = MIDNIGHTS[0]
    rows = [measurement(sensor, start + at * MINUTE, {"t": at}) for at in range(0, 3 * 1_440, 7)]
    await rolled(store, sensor, rows, start, start + 3 * DAY)
    await no_rows(store, monkeypatch)
    for length, zone in (("9h", UTC), ("1h", ZoneInfo("Asia/Kolkata")), ("5m", UTC)):
        starts = bucket_starts(parse_bucket(length), zone, start, start + 3 * DAY)
        series = await store.aggregates.read(sensor, starts, None, start=starts[1], end=starts[-2])
        kept = [(row[2], row[3], {"t": at * 7}) for at, row in enumerate(rows)]
        check(series, *expected(kept, starts, starts[1], starts[-2]))


async def test_history_is_rolled_up_from_the_backlog(store, sensor, small, database_url):
    start = MIDNIGHTS[0]
    # Written while the frontier was before them: nothing is marked.
    case = Case(store, [sensor, sensor + 1], start)
    await case.begin(backlog=False)
    await case.insert([(second * 977, 0, {"t": second}) for second in range(120)])
    # As the migration does it, of what it finds.
    state = await case.rolling.state()
    frontier = start + 31 * HOUR
    await store.engine.store_rollups(RollupChange(state.generation, frontier=frontier))
    store.engine.lateness.rise(frontier)
    async with store.engine.transaction() as transaction:
        await transaction.fetch(
            "rollup_backlog_add", sensor=sensor, range_start=start, range_end=frontier
        )
    query = ("9h", "UTC", (0, 200_000))
    await case.check(*query)
    assert await case.rolling.fill() == 1
    assert (await store.rollups.pending()).ranges == 1
    await case.check(*query)
    await case.insert([(5, 0, {"t": 5_000})])
    await case.fill(None)
    assert (await store.rollups.pending()).ranges == 0
    await case.check(*query)


async def test_rollups_outlive_the_rows_that_retention_deletes(store, sensor, monkeypatch):
    start = MIDNIGHTS[0]
    rows = [measurement(sensor, start + at * MINUTE, {"t": at}) for at in range(0, 3 * 1_440, 7)]
    case = await rolled(store, sensor, rows, start, start + 3 * DAY)
    starts = bucket_starts(parse_bucket("7h"), ZoneInfo("Asia/Kolkata"), start, start + 3 * DAY)
    kept = [(row[2], row[3], {"t": at * 7}) for at, row in enumerate(rows)]
    found = expected(kept, starts, start, start + 3 * DAY)
    raw_from = await store.rollups.keep(sensor, start + 30 * HOUR + 5 * MINUTE)
    assert raw_from == start + 30 * HOUR
    read = {"start": start, "end": start + 3 * DAY}
    check(await store.aggregates.read(sensor, starts, None, **read), *found)
    async with store.engine.transaction() as transaction:
        gone = sum(row[2] < raw_from for row in rows)
        await transaction.fetch("measurements_erase", sensor=sensor, limit=gone)
    check(await store.aggregates.read(sensor, starts, None, **read), *found)
    # What comes later than that is not counted, and does not disturb what is.
    await store.write(Batch(measurements=[measurement(sensor, start + HOUR, {"t": 1e9})]))
    await case.redo(None)
    assert (await store.rollups.pending()).marks == 0
    check(await store.aggregates.read(sensor, starts, None, **read), *found)
    # Nothing is kept that is not rolled up yet, or not as it is now.
    await store.write(Batch(measurements=[measurement(sensor, start + 40 * HOUR, {"t": 1})]))
    assert await store.rollups.keep(sensor, start + 3 * DAY) == start + 40 * HOUR
    await case.redo(None)
    assert await store.rollups.keep(sensor, start + 9 * DAY) == start + 3 * DAY


async def test_two_instances_do_not_disturb_each_other(store, database_url, register, engine):
    if engine == "sqlite":
        pytest.skip("one process a file")
    other = await open_store(database_url)
    sensor = (await register()).number
    start = MIDNIGHTS[0]
    mine = Case(store, [sensor, sensor + 1], start)
    await mine.begin(backlog=False)
    await mine.insert([(second * 977, 0, {"t": second}) for second in range(90)])
    theirs = Case(other, [sensor, sensor + 1], start)

    async def overtake():
        mine.rolling._happen = mine.happen
        await theirs.advance(30)

    mine.rolling._happen = overtake
    with pytest.raises(SupersededError):
        await mine.advance(100)
    await mine.check("1h", "UTC", (0, 100_000))
    await mine.advance(100)
    # What comes late at one instance is known by the frontier that another has moved.
    await theirs.insert([(100, 0, {"t": 7})])
    mine.rows = [{**mine.rows[0], **theirs.rows[0]}, {}]
    await mine.check("1h", "UTC", (0, 100_000))
    await mine.redo(None)
    await mine.check("1h", "UTC", (0, 100_000))
    await other.close()


async def test_a_mark_is_made_once_until_it_is_taken(store, sensor, engine):
    start = MIDNIGHTS[0]
    case = await rolled(store, sensor, [], start, start + DAY)
    for second in range(3):
        await case.insert([(second, 0, second)])
    # On PostgreSQL other instances may have taken it.
    assert (await store.rollups.pending()).marks == (1 if engine == "sqlite" else 3)
    await case.insert([(1, 0, 1)])
    assert (await store.rollups.pending()).marks == (1 if engine == "sqlite" else 3)
    taken = await store.engine.take_marks(await case.rolling.newest_mark(), 10)
    assert {row[1:] for row in map(tuple, taken)} == {(sensor, start)}
    await case.insert([(9, 0, 9)])
    assert (await store.rollups.pending()).marks == (2 if engine == "sqlite" else 4)
    await case.redo(None)
    assert (await store.rollups.pending()).marks == 0


async def test_what_is_erased_leaves_no_rollups(store, register, monkeypatch):
    sensor = await register()
    start = MIDNIGHTS[0]
    rows = [measurement(sensor.number, start + at * MINUTE, 1) for at in range(0, 3_000, 7)]
    case = await rolled(store, sensor.number, rows, start, start + DAY)
    await case.insert([(1, 0, 2)])
    await store.rollups.keep(sensor.number, start + 5 * HOUR)
    await store.sensors.delete(sensor.number, 1)
    await store.sensors.erase(sensor.number)
    assert sum(await store.rollups.pending()) == 0
    standing = await store.rollups.standing(sensor.number)
    assert (list(standing.dirty), standing.raw_from) == ([], None)
    found = await store.engine.fetch(
        "rollup_days", sensor=sensor.number, start=0, end=start + 9 * DAY, limit=9
    )
    assert list(found) == []


async def test_attributes_beyond_those_kept_are_counted_from_rows(store, sensor, monkeypatch):
    monkeypatch.setattr("heliograph.model.rollup.MAXIMUM_ATTRIBUTES", 3)
    monkeypatch.setattr("heliograph.store.rollup_counting.MAXIMUM_ATTRIBUTES", 3)
    start = MIDNIGHTS[0]
    case = Case(store, [sensor, sensor + 1], start)
    await case.begin(backlog=False)
    for hour, names in itertools.product(range(3), ("abcd", "ab")):
        value = dict.fromkeys(names, hour)
        await case.insert([(hour * 36_000 + len(names) * 60, 0, value)])
    await case.advance(360)
    await case.redo(None)
    assert case.rolling.wide == 3
    for length in ("7m", "9h", "1d"):
        await case.check(length, "UTC", (0, 200_000))
