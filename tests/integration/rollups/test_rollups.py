"""Aggregates through rollups equal those of the raw rows, whatever happens in between."""

import contextlib
import itertools
import random
import sqlite3
from datetime import UTC
from zoneinfo import ZoneInfo

import msgspec
import psycopg
import pytest
from hypothesis import settings

from aggregating import aggregates_of, pending
from heliograph.model.aggregation import value_of
from heliograph.model.buckets import bucket_starts, parse_bucket
from heliograph.model.retention import Cutoffs
from heliograph.model.time import DAY, HOUR, MINUTE, SECOND
from heliograph.rollups import aggregates as aggregates_module
from heliograph.rollups import task as task_module
from heliograph.rollups.rollup import HOURS, MINUTES
from heliograph.rollups.task import Rolling, SupersededError
from heliograph.store import open_store
from heliograph.store import pages as pages_module
from heliograph.store import stretches as stretches_module
from heliograph.store.engine import Batch, RollupChange, json_text
from heliograph.store.removal import KeptKind, Span
from integration.rollups.test_aggregates import check, expected
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
ZONES = ["UTC", "Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe"]
LENGTHS = ["100s", "1m", "150s", "7m", "30m", "1h", "90m", "9h", "1d", "1mo"]


def execute(url, statement):
    """Do what no part of the program does."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute(statement)
            connection.commit()
        return
    with psycopg.connect(url) as connection:
        connection.execute(statement)


class Chance:
    """Draws what happens, many times over: the same for a number every time."""

    def __init__(self, number):
        self.random = random.Random(number)
        # Few hours and minutes, so that something happens in them more than once.
        self.hours = self.random.sample(range(60), 4)
        self.edges = [0, 1, 59, 60, 61, 599, 600, 1_800, 3_599]

    def second(self):
        pick = self.random
        into = pick.choice(self.edges) if pick.random() < 0.5 else pick.randrange(3_600)
        return pick.choice(self.hours) * 3_600 + into

    def value(self):
        pick = self.random
        return pick.choice(
            [
                lambda: pick.randrange(-(1 << 63), 1 << 63),
                lambda: pick.uniform(-1e200, 1e200),
                lambda: pick.choice([1.7e308, -1.7e308, 0.1]),
                lambda: pick.choice([{}, "text", None, True, []]),
                lambda: {name: pick.randrange(-9, 9) for name in pick.sample(["t", "u", "d.t"], 2)},
                lambda: {"air": {"t": pick.uniform(-10, 10)}, "t": "x", "on": pick.random() < 0.5},
            ]
        )()

    def inner(self):
        pick = self.random
        if pick.random() < 0.3:
            if pick.random() < 0.2:
                return "erase", pick.randrange(2)
            # Mostly as far as everything is rolled up.
            return "expire", (pick.randrange(2), pick.choice([*self.hours, 60, 60, 60]) + 1)
        found = [
            (self.second(), pick.randrange(2), self.value()) for _ in range(pick.randint(1, 9))
        ]
        return "insert", found * pick.randint(1, 2)

    def step(self):
        pick = self.random
        # Mostly to the edges of what happens.
        steps = pick.choice([hour * 6 + at for hour in self.hours for at in (0, 3, 6)])
        return pick.choice(
            [
                self.inner,
                self.inner,
                lambda: ("advance", pick.randrange(361) if pick.random() < 0.3 else steps),
                lambda: ("redo", None),
                lambda: ("fill", None),
                lambda: ("restart", None),
                # What happens between the reading and the storing of the pieces that come next.
                lambda: ("within", [self.inner() for _ in range(pick.randint(1, 3))]),
            ]
        )()

    def query(self):
        pick = self.random
        start = pick.choice([-3_600, 0, self.second(), pick.randrange(0, 200_000, 600)])
        until = max(self.second() - start, 1)
        ends = start, pick.choice([1, 3_600, 86_400, 220_000, pick.randrange(1, 220_000), until])
        return pick.choice(LENGTHS), pick.choice(ZONES), ends


class Disturbed(Rolling):
    """Lets things happen between the reading of raw rows and the storing of rollups."""

    def __init__(self, store, happen):
        super().__init__(store, self._nothing)
        self._happen = happen

    async def _nothing(self):
        pass

    async def _counted(self, works):
        found = await super()._counted(works)
        await self._happen()
        return found


class Case:
    """A database, and in plain Python what is in it."""

    def __init__(self, store, sensors, midnight, register=None):
        self.store = store
        self.sensors = sensors
        self.midnight = midnight
        self.register = register
        self.rows = [{}, {}]
        # From when on each one's raw rows are counted, not its rollups alone.
        self.floors = [0, 0]
        self.erased = []
        self.within = []
        self.rolling = Disturbed(store, self.happen)
        self.frontier = 0

    async def begin(self):
        """Put the frontier where the case begins."""
        await self.put(self.midnight)

    async def put(self, frontier):
        """Put the frontier somewhere without rolling up what is before."""
        self.store.engine.lateness.raise_floor(frontier)
        generation = (await self.rolling.state()).generation
        assert await self.store.engine.store_rollups(RollupChange(generation, frontier=frontier))

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
            if row[2] >= self.floors[which]:
                self.rows[which][row[2:4]] = (row[2], row[3], value)
        batch = Batch(measurements=rows)
        batch.sort()
        await self.store.write(batch)

    async def expire(self, detail):
        """Remove raw rows as retention does, as far as their rollups are kept."""
        which, hour = detail
        sensor, removal = self.sensors[which], self.store.removal
        cutoff = Cutoffs(self.midnight + hour * HOUR, 0, 0)
        floor = (await removal.raise_floors({sensor: cutoff}))[sensor]
        self.floors[which] = max(floor, self.floors[which])
        spans = [Span(sensor, 0, self.floors[which])]
        if due := await removal.due(KeptKind.MEASUREMENTS, spans, 1_000):
            await removal.remove(KeptKind.MEASUREMENTS, due)

    async def erase(self, which):
        """Erase a sensor, and go on with a new one in its place."""
        number = self.sensors[which]
        await self.store.sensors.delete(number, 1)
        await self.store.sensors.erase(number)
        self.erased.append(number)
        self.sensors[which] = (await self.register()).number
        self.rows[which], self.floors[which] = {}, 0

    async def advance(self, steps):
        await self.rolling.advance(self.midnight + steps * 10 * MINUTE)

    async def redo(self, _):
        while await self.rolling.redo(await self.rolling.newest_mark()):
            pass

    async def fill(self, _):
        while await self.rolling.fill():
            pass

    async def restart(self, _):
        self.rolling = Disturbed(self.store, self.happen)

    async def check(self, length, zone, ends):
        start = self.midnight + ends[0] * SECOND
        end = start + ends[1] * SECOND
        where = UTC if zone == "UTC" else ZoneInfo(zone)
        starts = bucket_starts(parse_bucket(length), where, start, end)
        for which, sensor in enumerate(self.sensors):
            found, counts = expected(self.counted(which), starts, start, end)
            for names in (None, [*found, "not there"]):
                series = await aggregates_of(self.store).read(
                    sensor, starts, names, start=start, end=end
                )
                check(series, found, counts)
        for sensor in self.erased:
            series = await aggregates_of(self.store).read(
                sensor, starts, None, start=start, end=end
            )
            check(series, {}, [0] * (len(starts) - 1))

    def counted(self, which):
        """Return a sensor's rows; before the floor they count where their minute begins."""
        floor = self.floors[which]
        return [
            (at - at % MINUTE if at < floor else at, place, value)
            for place, (at, _, value) in enumerate(sorted(self.rows[which].values(), key=by_key))
        ]


def by_key(row):
    return row[:2]


@pytest.fixture
def small(monkeypatch):
    """Read and store in pieces that a few rows fill."""
    monkeypatch.setattr(stretches_module, "ROWS", 7)
    monkeypatch.setattr(aggregates_module, "_AT_ONCE", 3)
    monkeypatch.setattr(aggregates_module, "_FIRST_ROLLUPS", 2)
    monkeypatch.setattr(aggregates_module, "_SPANS", 3)
    monkeypatch.setattr(stretches_module, "_LONGEST", 20)
    monkeypatch.setattr(task_module, "LONGEST", 20)
    monkeypatch.setattr(pages_module, "FEW", 2)
    monkeypatch.setattr(stretches_module, "_CHUNK_SIZE", 100)
    monkeypatch.setattr(stretches_module, "FEW", 2)
    monkeypatch.setattr(task_module, "ROWS", 5)
    monkeypatch.setattr(task_module, "TOGETHER", 2)
    monkeypatch.setattr(task_module, "MARKS", 7)
    monkeypatch.setattr(task_module, "STORED_AT_ONCE", 3)


@pytest.mark.uncovered
async def test_aggregates_equal_the_recomputation(store, register, small, engine):
    examples = settings().max_examples
    share = examples // (10 if engine == "sqlite" else 20)
    for number in range(4 * share):
        chance = Chance(number)
        # Cases with one midnight share it, each beginning some days after the one before.
        midnight = MIDNIGHTS[number // share] + number % share * 4 * DAY
        sensors = [(await register()).number for _ in range(2)]
        case = Case(store, sensors, midnight, register)
        await case.begin()
        asked = [chance.query() for _ in range(4)]
        for step, detail in [chance.step() for _ in range(chance.random.randint(6, 20))]:
            if step == "within":
                case.within = list(detail)
                continue
            await case.do(step, detail)
            await case.check(*chance.query())
        await case.advance(360)
        await case.redo(None)
        assert sum(await pending(store)) == 0
        for query in asked:
            await case.check(*query)


async def rolled(store, sensor, rows, start, end):
    """Store rows and roll them up; return the case."""
    case = Case(store, [sensor, sensor + 1], start)
    await case.begin()
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
        assert query not in ("measurements_stretch", "measurements_stretches")
        return await fetch(query, **parameters)

    monkeypatch.setattr(store.engine, "fetch", fetching)


async def test_what_is_rolled_up_is_not_read_from_rows(store, sensor, monkeypatch):
    start = MIDNIGHTS[0]
    rows = [measurement(sensor, start + at * MINUTE, {"t": at}) for at in range(0, 3 * 1_440, 7)]
    await rolled(store, sensor, rows, start, start + 3 * DAY)
    await no_rows(store, monkeypatch)
    for length, zone in (("9h", UTC), ("1h", ZoneInfo("Asia/Kolkata")), ("5m", UTC), ("1m", UTC)):
        starts = bucket_starts(parse_bucket(length), zone, start, start + 3 * DAY)
        series = await aggregates_of(store).read(
            sensor, starts, None, start=starts[1], end=starts[-2]
        )
        kept = [(row[2], row[3], {"t": at * 7}) for at, row in enumerate(rows)]
        check(series, *expected(kept, starts, starts[1], starts[-2]))


async def read_spans(store, sensor, monkeypatch):
    """Return a list that takes the spans of raw rows that are read of the sensor."""
    spans = []
    fetch = store.engine.fetch

    async def fetching(query, **parameters):
        if query == "measurements_stretch" and parameters["sensor"] == sensor:
            spans.append((parameters["timestamp"], parameters["until"] + 1))
        if query == "measurements_stretches":
            asked = msgspec.json.decode(parameters["spans"])
            spans.extend((start, end) for number, start, end in asked if number == sensor)
        return await fetch(query, **parameters)

    monkeypatch.setattr(store.engine, "fetch", fetching)
    return spans


async def test_buckets_of_a_minute_read_rows_of_young_and_touched_minutes_alone(
    store, register, monkeypatch
):
    start = MIDNIGHTS[0]
    sensors = [(await register()).number for _ in range(2)]
    case = Case(store, sensors, start)
    await case.begin()
    times = range(0, 4 * 3_600, 23)
    await case.insert([(at, 0, {"t": at / 7, "n": at}) for at in times])
    await case.insert([(at, 1, at) for at in times])
    await case.advance(18)
    # Late within an hour that is rolled up.
    await case.insert([(3_700, 0, {"t": -1, "late": 1})])
    spans = await read_spans(store, sensors[0], monkeypatch)
    for zone in ("UTC", "Asia/Kathmandu"):
        spans.clear()
        await case.check("1m", zone, (10, 4 * 3_600))
        touched, young = (start + HOUR, start + 2 * HOUR), (start + 3 * HOUR, start + 4 * HOUR)
        edges = (start + 10 * SECOND, start + MINUTE)
        assert set(spans) == {edges, touched, (young[0], young[1] + 10 * SECOND)}
    await case.redo(None)
    spans.clear()
    await case.check("1m", "UTC", (0, 3 * 3_600))
    assert spans == []


async def test_history_is_rolled_up_from_the_backlog(store, sensor, small, database_url):
    start = MIDNIGHTS[0]
    # Written while the frontier was before them: nothing is marked.
    case = Case(store, [sensor, sensor + 1], start)
    await case.begin()
    await case.insert([(second * 977, 0, {"t": second}) for second in range(120)])
    frontier = start + 31 * HOUR
    await case.put(frontier)
    execute(database_url, f"INSERT INTO rollup_backlog VALUES ({sensor}, {start}, {frontier})")
    query = ("9h", "UTC", (0, 200_000))
    await case.check(*query)
    assert await case.rolling.fill() == 1
    assert (await pending(store)).ranges == 1
    await case.check(*query)
    await case.insert([(5, 0, {"t": 5_000})])
    await case.fill(None)
    assert (await pending(store)).ranges == 0
    await case.check(*query)


async def kept_before(store, sensor, moment):
    """Let retention count what is older from rollups alone; return from when on it does not."""
    floors = await store.removal.raise_floors({sensor: Cutoffs(moment, 0, 0)})
    return floors[sensor]


async def test_rollups_outlive_the_rows_that_retention_deletes(store, sensor, monkeypatch):
    start = MIDNIGHTS[0]
    rows = [measurement(sensor, start + at * MINUTE, {"t": at}) for at in range(0, 3 * 1_440, 7)]
    case = await rolled(store, sensor, rows, start, start + 3 * DAY)
    starts = bucket_starts(parse_bucket("7h"), ZoneInfo("Asia/Kolkata"), start, start + 3 * DAY)
    kept = [(row[2], row[3], {"t": at * 7}) for at, row in enumerate(rows)]
    found = expected(kept, starts, start, start + 3 * DAY)
    raw_from = await kept_before(store, sensor, start + 30 * HOUR)
    assert raw_from == start + 30 * HOUR
    read = {"start": start, "end": start + 3 * DAY}
    check(await aggregates_of(store).read(sensor, starts, None, **read), *found)
    async with store.engine.transaction() as transaction:
        gone = sum(row[2] < raw_from for row in rows)
        await transaction.fetch("measurements_erase", sensor=sensor, limit=gone)
    check(await aggregates_of(store).read(sensor, starts, None, **read), *found)
    # What comes later than that is not counted, and does not disturb what is.
    await store.write(Batch(measurements=[measurement(sensor, start + HOUR, {"t": 1e9})]))
    await case.redo(None)
    assert (await pending(store)).marks == 0
    check(await aggregates_of(store).read(sensor, starts, None, **read), *found)
    # Nothing is kept that is not rolled up yet, or not as it is now.
    await store.write(Batch(measurements=[measurement(sensor, start + 40 * HOUR, {"t": 1})]))
    assert await kept_before(store, sensor, start + 3 * DAY) == start + 40 * HOUR
    await case.redo(None)
    assert await kept_before(store, sensor, start + 9 * DAY) == start + 3 * DAY


async def test_sums_beyond_a_float_on_the_way_come_back_from_rollups(store, sensor, monkeypatch):
    start = MIDNIGHTS[0]
    # In one minute, in two of an hour, in two hours of a day, and in two days.
    numbers = [(at, 1e308) for at in (0, 1, 2, 61, 3_601, 7_201)]
    numbers += [(90_000 + at, -1e308) for at in range(5)]
    rows = [measurement(sensor, start + at * SECOND, {"t": each}) for at, each in numbers]
    await rolled(store, sensor, rows, start, start + 2 * DAY)
    raw_from = await kept_before(store, sensor, start + 2 * DAY)
    await no_rows(store, monkeypatch)
    starts = [start, start + 2 * DAY]
    series = await aggregates_of(store).read(sensor, starts, None, start=start, end=raw_from)
    (known,) = series.attributes["t"].values()
    assert (known.count, value_of(known, "sum")) == (11, 1e308)
    kept = [(row[2], row[3], {"t": each}) for row, (_, each) in zip(rows, numbers, strict=True)]
    for bucket in (DAY, HOUR, 2 * MINUTE):
        starts = list(range(start, start + 2 * DAY + 1, bucket))
        series = await aggregates_of(store).read(sensor, starts, None, start=start, end=raw_from)
        check(series, *expected(kept, starts, start, raw_from))


async def test_what_is_small_is_not_lost_beside_what_is_large(store, sensor, monkeypatch):
    start = MIDNIGHTS[0]
    numbers = [1e16, 1.0, -1e16, 0.25]
    rows = [measurement(sensor, start + at * HOUR, {"t": each}) for at, each in enumerate(numbers)]
    await rolled(store, sensor, rows, start, start + DAY)
    await no_rows(store, monkeypatch)
    starts = [start, start + DAY]
    series = await aggregates_of(store).read(sensor, starts, None, start=start, end=start + DAY)
    assert value_of(series.attributes["t"][0], "sum") == 1.25


@pytest.mark.parametrize("engine", ["postgresql"])  # only one process writes to a file
async def test_two_instances_do_not_disturb_each_other(store, database_url, register):
    other = await open_store(database_url)
    sensor = (await register()).number
    start = MIDNIGHTS[0]
    mine = Case(store, [sensor, sensor + 1], start)
    await mine.begin()
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
    assert (await pending(store)).marks == (1 if engine == "sqlite" else 3)
    await case.insert([(1, 0, 1)])
    assert (await pending(store)).marks == (1 if engine == "sqlite" else 3)
    taken = await store.engine.take_marks(await case.rolling.newest_mark(), 10)
    assert {row[1:] for row in map(tuple, taken)} == {(sensor, start)}
    await case.insert([(9, 0, 9)])
    assert (await pending(store)).marks == (2 if engine == "sqlite" else 4)
    await case.redo(None)
    assert (await pending(store)).marks == 0


async def test_what_is_erased_leaves_no_rollups(store, register, monkeypatch):
    sensor = await register()
    start = MIDNIGHTS[0]
    rows = [measurement(sensor.number, start + at * MINUTE, 1) for at in range(0, 3_000, 7)]
    case = await rolled(store, sensor.number, rows, start, start + DAY)
    await case.insert([(1, 0, 2)])
    await kept_before(store, sensor.number, start + 5 * HOUR)
    await store.sensors.delete(sensor.number, 1)
    await store.sensors.erase(sensor.number)
    assert sum(await pending(store)) == 0
    standing = await aggregates_of(store).standing(sensor.number)
    assert (list(standing.dirty), standing.raw_from) == ([], None)
    keys = [(sensor.number, HOURS, start), (sensor.number, MINUTES, start)]
    assert not await store.engine.fetch("rollups_find", keys=json_text(keys))


async def test_attributes_beyond_those_kept_are_counted_from_rows(store, sensor, monkeypatch):
    monkeypatch.setattr("heliograph.rollups.packing.MAXIMUM_ATTRIBUTES_OF_ROLLUP", 3)
    monkeypatch.setattr("heliograph.rollups.counting.MAXIMUM_ATTRIBUTES_OF_ROLLUP", 3)
    start = MIDNIGHTS[0]
    case = Case(store, [sensor, sensor + 1], start)
    await case.begin()
    for hour, names in itertools.product(range(3), ("abcd", "ab")):
        value = dict.fromkeys(names, hour)
        await case.insert([(hour * 36_000 + len(names) * 60, 0, value)])
    await case.advance(360)
    await case.redo(None)
    assert case.rolling.wide == 3
    for length in ("7m", "9h", "1d"):
        await case.check(length, "UTC", (0, 200_000))
    # Once the rows are gone it is the attributes that were kept, of as many rows; 70,000 s are
    # within a day and an hour, whose later hours still have their rows.
    raw_from = await kept_before(store, sensor, start + 12 * HOUR)
    assert raw_from == start + 12 * HOUR
    async with store.engine.transaction() as transaction:
        await transaction.fetch("measurements_erase", sensor=sensor, limit=4)
    kept = case.rows[0]
    for key in [key for key in kept if key[0] < raw_from]:
        value = {name: number for name, number in kept[key][2].items() if name in "abc"}
        kept[key] = (*kept[key][:2], value)
    for length in ("7m", "9h", "1d"):
        await case.check(length, "UTC", (0, 70_000))
        await case.check(length, "UTC", (0, 200_000))


async def test_a_day_of_many_attributes_is_counted_by_the_hour_when_its_rows_are_gone(
    store, sensor, monkeypatch
):
    monkeypatch.setattr("heliograph.rollups.packing.MAXIMUM_ATTRIBUTES_OF_ROLLUP", 3)
    start = MIDNIGHTS[0]
    rows = [
        measurement(sensor, start + hour * HOUR, {f"{hour}{name}": hour for name in "abc"})
        for hour in range(24)
    ]
    case = await rolled(store, sensor, rows, start, start + DAY)
    case.rows[0] = {row[2:4]: (row[2], row[3], msgspec.json.decode(row[7])) for row in rows}
    await kept_before(store, sensor, start + DAY)
    async with store.engine.transaction() as transaction:
        await transaction.fetch("measurements_erase", sensor=sensor, limit=24)
    for length in ("2h", "9h", "1d"):
        await case.check(length, "UTC", (0, 86_400))


async def test_an_hour_is_whole_when_its_last_rows_came_before_its_last_step(store, sensor):
    case = Case(store, [sensor, sensor + 1], MIDNIGHTS[0])
    await case.begin()
    await case.insert([(60, 0, 1), (700, 0, 2)])
    for steps in (1, 2, 6):
        await case.advance(steps)
        await case.check("1h", "UTC", (0, 3_600))
    await case.check("1d", "UTC", (0, 86_400))


async def test_the_last_of_a_bucket_is_not_of_the_edge_before_its_rollups(store, sensor):
    start = MIDNIGHTS[-1] + 3 * DAY
    # The edges of the range, within a minute each, are read together; the attribute ends before.
    rows = [
        measurement(sensor, start + 30 * SECOND, {"t": 1, "u": 1}),
        measurement(sensor, start + HOUR, {"t": 2}),
        measurement(sensor, start + 2 * HOUR + 10 * SECOND, {"u": 3}),
    ]
    await rolled(store, sensor, rows, start, start + DAY)
    first, last = start + 20 * SECOND, start + 2 * HOUR + 20 * SECOND
    for names in (None, ["t", "u"]):
        series = await aggregates_of(store).read(
            sensor, [start, start + DAY], names, start=first, end=last
        )
        assert series.attributes["t"][0].last == 2
        assert series.attributes["u"][0].last == 3


async def test_a_row_is_late_from_the_frontier_on(store, sensor, database_url):
    start = MIDNIGHTS[0]
    case = await rolled(store, sensor, [], start, start + DAY)
    await store.write(Batch(measurements=[measurement(sensor, start + DAY)]))
    assert (await pending(store)).marks == 0
    await store.write(Batch(measurements=[measurement(sensor, start + DAY - 1)]))
    assert (await pending(store)).marks == 1
    # A server that starts knows it from the database.
    again = await open_store(database_url)
    await again.write(Batch(measurements=[measurement(sensor, start + DAY + 1)]))
    await again.write(Batch(measurements=[measurement(sensor, start + 1)]))
    await again.close()
    assert (await pending(store)).marks == 2
    await case.redo(None)
    assert (await pending(store)).marks == 0
