"""The views that dashboards read, on both engines, by whoever may read nothing else."""

import sqlite3
from fractions import Fraction

import psycopg
import pytest

from heliograph.model.attributes import attributes_of
from heliograph.model.time import DAY, HOUR, now, to_rfc3339
from heliograph.rollups.task import Rolling
from heliograph.store import chunks as chunks_module
from heliograph.store.clock import Acceptance
from heliograph.store.engine import Batch
from heliograph.store.pages import GREATEST, LEAST
from packing_rows import pack_range
from rows import NOON, log, measurement

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

VALUES = [
    {"temperature": 22.5, "humidity": 65, "voltage": "low"},
    {"a": {"b": {"c": 1, "d.e": "x"}, "on": True}, "list": [1, {"k": 2}], "none": None},
    {"a[0]": 1, "a": [3], "\\": 2, 'quote"': 3, "empty": {}},
    7,
    "text",
    [1, 2],
    False,
]


@pytest.fixture
def query(database_url):
    def run(statement):
        if database_url.startswith("sqlite"):
            connection = sqlite3.connect(database_url.removeprefix("sqlite:///"))
            found = connection.execute(statement).fetchall()
            connection.close()
            return found
        with psycopg.connect(database_url) as connection:
            return connection.execute(statement).fetchall()

    return run


@pytest.fixture
async def sensor(store):
    found = await store.sensors.create(identifier="0" * 32, device_id="a", created_at=NOON)
    names = set().union(*(attributes_of(value) for value in VALUES))
    await store.write(
        Batch(
            measurements=[
                measurement(found.number, NOON + number, value)
                for number, value in enumerate(VALUES)
            ],
            logs=[log(found.number, details="why")],
            attributes=[(found.number, name) for name in sorted(names)],
        )
    )
    return found


async def test_a_row_a_measurement(sensor, query):
    found = query(
        "SELECT sensor_identifier, device_id, timestamp_us FROM v_measurement ORDER BY timestamp_us"
    )
    assert found == [("0" * 32, "a", NOON + number) for number in range(len(VALUES))]
    time = query("SELECT time FROM v_measurement ORDER BY timestamp_us LIMIT 2")[1][0]
    text = time if isinstance(time, str) else time.isoformat().replace("+00:00", "Z")
    assert text == "2026-01-15T12:00:00.000001Z"


async def test_times_before_1970_are_shown_to_the_microsecond(store, sensor, query):
    old = [-10_098_172_800_000_000, -1, -1_000_000, -1_500_001]
    await store.write(
        Batch(
            measurements=[measurement(sensor.number, moment, 1) for moment in old],
            logs=[log(sensor.number, moment) for moment in old],
        )
    )
    for view in ("v_measurement", "v_attribute", "v_log"):
        found = query(f"SELECT timestamp_us, time FROM {view} WHERE timestamp_us < 0")
        assert sorted(moment for moment, _ in found) == sorted(old)
        for moment, time in found:
            text = time if isinstance(time, str) else time.isoformat(timespec="microseconds")
            assert text.replace("+00:00", "Z") == to_rfc3339(moment)


async def test_a_row_an_attribute_named_as_everywhere_else(sensor, query):
    found = query("SELECT timestamp_us, attribute FROM v_attribute")
    assert len(found) == len(set(found))
    for number, value in enumerate(VALUES):
        names = {name for moment, name in found if moment == NOON + number}
        assert names == set(attributes_of(value)), value


async def test_numbers_and_texts(sensor, query):
    found = {
        name: (number, text)
        for name, number, text in query(
            f"SELECT attribute, number, text FROM v_attribute WHERE timestamp_us < {NOON + 2}"
        )
    }
    assert found["temperature"] == (22.5, "22.5")
    assert found["humidity"][0] == 65
    assert found["voltage"] == (None, "low")
    assert found["a.on"] == (1, "true")
    assert found["none"] == (None, None)
    assert found["list"][1].replace(" ", "") == '[1,{"k":2}]'


# Of 15 digits and more, of the ends of a float's range, and with names that are no plain paths.
NUMBERS = [
    *(0.1, 22.5, 100.0, 0.1 + 0.2, 1 / 3, 2 / 3 * 1e100, 123456789.12345679, 9007199254740993.0),
    *(5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e22, 1e-7, -0.1, 1e15, 1e16),
    *((1 << 63) - 1, -(1 << 63), (1 << 53) + 1, 0),
]
NAMES = ["t", "air.t", "a b", "ü", "with[0]", "$", "1", "'", "", 'qu"ote', "back\\slash"]


async def test_texts_of_numbers_have_all_digits(store, query):
    other = await store.sensors.create(identifier="2" * 32, device_id="b", created_at=NOON)
    rows = [
        measurement(other.number, NOON + at, {**dict.fromkeys(NAMES, number), "in": {"t": number}})
        for at, number in enumerate(NUMBERS)
    ]
    rows.append(measurement(other.number, NOON + len(NUMBERS), 0.1 + 0.2))
    await store.write(Batch(measurements=rows, attributes=[(other.number, "t")]))
    found = query("SELECT timestamp_us, attribute, text FROM v_attribute WHERE device_id = 'b'")
    assert len(found) == len(NUMBERS) * (len(NAMES) + 1) + 1
    for moment, name, text in found:
        number = [*NUMBERS, 0.1 + 0.2][moment - NOON]
        # How it is written is the engines' own: 1e22, or 1 and 22 zeros. Where a name has to be
        # escaped, SQLite's printf writes it, which is a digit off at the ends of the range.
        escaped = not name or '"' in name or "\\" in name
        near = escaped and abs(Fraction(text) - Fraction(number)) <= abs(number) / 10**15
        assert near or type(number)(Fraction(text)) == number, text
    plain = query("SELECT text FROM v_attribute WHERE device_id = 'b' AND attribute = 'in.t'")
    assert {"0.1", "22.5", "100.0", "0.30000000000000004"} <= {text for (text,) in plain}
    ((newest,),) = query("SELECT text FROM v_latest WHERE device_id = 'b'")
    assert newest == "0"


async def test_the_newest_of_each_attribute(sensor, query, store):
    await store.write(Batch(measurements=[measurement(sensor.number, NOON - 1, {"humidity": 1})]))
    found = query("SELECT attribute, timestamp_us, text FROM v_latest")
    newest = {name: (moment - NOON, text) for name, moment, text in found}
    names = {attribute.name for attribute in await store.measurements.latest(sensor.number)}
    assert len(found) == len(newest)
    assert set(newest) == names
    assert newest["humidity"] == (0, "65")
    assert newest["value"] == (6, "false")
    assert newest["a"][0] == 2


async def test_what_is_packed_is_told_where_its_rows_are_missing(sensor, query, store):
    assert query("SELECT * FROM v_packed") == []
    await store.write(
        Batch(measurements=[measurement(sensor.number, -1_500_001 + at) for at in (0, 1)])
    )
    await store.write(
        Batch(measurements=[measurement(sensor.number, NOON + 7, dict.fromkeys(VALUES[0], 1))])
    )
    await pack_range(store.chunks, sensor.number, -DAY, NOON + 1)
    found = query(
        "SELECT sensor_identifier, device_id, first_us, last_us, rows"
        " FROM v_packed ORDER BY first_us"
    )
    # No chunk is longer than a month.
    spans = [(-1_500_001, -1_500_000, 2), (NOON, NOON, 1)]
    assert found == [("0" * 32, "a", *span) for span in spans]
    for name, moment in (("first", -1_500_001), ("last", -1_500_000)):
        [(time,)] = query(f"SELECT {name} FROM v_packed WHERE first_us < 0")
        text = time if isinstance(time, str) else time.isoformat(timespec="microseconds")
        assert text.replace("+00:00", "Z") == to_rfc3339(moment)
    left = query("SELECT timestamp_us FROM v_measurement ORDER BY timestamp_us")
    assert left == [(NOON + number,) for number in range(1, len(VALUES) + 1)]


async def test_the_newest_of_each_attribute_is_never_packed(store, sensor, query):
    newest = "SELECT attribute, timestamp_us, number, text FROM v_latest ORDER BY attribute"

    async def send(first, values):
        rows = [
            measurement(sensor.number, NOON + at, each) for at, each in enumerate(values, first)
        ]
        await store.write(Batch(measurements=rows))

    async def pack():
        known = query(newest)
        packed = await pack_range(store.chunks, sensor.number, LEAST, GREATEST)
        assert query(newest) == known
        return packed

    # Each has an attribute that no later one has, but for three of those that are no objects.
    assert await pack() == 3
    await send(10, [{"temperature": at} for at in range(40)])
    assert await pack() == 39
    assert await pack() == 0
    left = query("SELECT timestamp_us FROM v_measurement ORDER BY timestamp_us")
    assert [moment - NOON for (moment,) in left] == [0, 1, 2, 6, 49]
    rows = await store.measurements.page(sensor.number, key=LEAST, limit=100)
    assert [row.timestamp - NOON for row in rows] == [*range(len(VALUES)), *range(10, 50)]
    # One that speaks again, and was in a row by itself; one that was not.
    await send(50, [7, {"voltage": 3, "temperature": 1, "humidity": 1}])
    assert await pack() == 3
    # Nothing that was measured while the clock was ahead is the newest, whatever is packed.
    moment = now()
    ahead = moment + 2 * DAY
    await store.write(
        Batch(measurements=[measurement(sensor.number, ahead, {"temperature": 9}, receipt=ahead)])
    )
    highest, receipt = await store.newest()
    await store.clock.accept(Acceptance(moment, highest, receipt))
    assert await pack() == 0


async def test_chunks_are_made_once_where_a_row_stays(store, sensor, monkeypatch):
    rows = [measurement(sensor.number, NOON + 100 + at, {"temperature": at}) for at in range(40)]
    rows[7] = measurement(sensor.number, NOON + 107, {"once": 1})
    await store.write(Batch(measurements=rows, attributes=[(sensor.number, "once")]))
    make, made = chunks_module.packed_rows, []

    def counting(packed):
        made.append(len(packed))
        return make(packed)

    monkeypatch.setattr(chunks_module, "packed_rows", counting)
    assert await pack_range(store.chunks, sensor.number, NOON + 100, GREATEST) == 38
    assert made == [38]


async def test_numbers_by_the_hour_and_the_day(store, sensor, query):
    other = await store.sensors.create(identifier="3" * 32, device_id="c", created_at=NOON)
    midnight = NOON - 12 * HOUR
    sent = [
        (midnight + HOUR, {"t": 20.25, "on": True, "n": 1 << 62}),
        (midnight + 2 * HOUR, {"t": 1, "text": "x"}),
        (midnight + 2 * HOUR + 1, {"t": 4}),
        (midnight + 2 * HOUR + 2, {"t": 2.5, "n": 5}),
        (midnight - 1, {"t": -1, "a.b": {"c": 7}}),
    ]
    await store.write(Batch(measurements=[measurement(other.number, *each) for each in sent]))

    async def without_a_pause():
        pass

    rolling = Rolling(store, without_a_pause)
    await rolling.advance(NOON)
    await rolling.redo(await rolling.newest_mark())
    while await rolling.fill():
        pass
    columns = "attribute, timestamp_us, count, minimum, maximum, average, sum, last"
    of = f"device_id = 'c' AND timestamp_us >= {midnight}"
    t = [
        ("t", midnight + HOUR, 1, 20.25, 20.25, 20.25, 20.25, 20.25),
        ("t", midnight + 2 * HOUR, 3, 1, 4, 2.5, 7.5, 2.5),
    ]
    hours = f"SELECT {columns} FROM v_hourly WHERE attribute = 't' AND {of} ORDER BY timestamp_us"
    assert query(hours) == t
    await pack_range(store.chunks, other.number, LEAST, GREATEST)
    assert query(hours) == t
    days = query(f"SELECT {columns} FROM v_daily WHERE {of} ORDER BY attribute")
    assert [day[:5] + day[7:] for day in days] == [
        ("n", midnight, 2, 5, 1 << 62, 5),
        ("on", midnight, 1, 1, 1, 1),
        ("t", midnight, 4, 1, 20.25, 2.5),
    ]
    assert days[-1][5:7] == (6.9375, 27.75)
    for view, moment in (("v_hourly", midnight - HOUR), ("v_daily", midnight - DAY)):
        assert query(
            f"SELECT attribute, timestamp_us, last FROM {view}"
            f" WHERE device_id = 'c' AND timestamp_us < {midnight} ORDER BY attribute"
        ) == [("a\\.b.c", moment, 7), ("t", moment, -1)]
        [(time,)] = query(f"SELECT DISTINCT time FROM {view} WHERE timestamp_us = {moment}")
        text = time if isinstance(time, str) else time.isoformat(timespec="microseconds")
        assert text.replace("+00:00", "Z") == to_rfc3339(moment)


async def test_what_was_left_is_not_looked_at_again_soon(store, sensor):
    await store.write(Batch(measurements=[measurement(sensor.number, NOON + 10, {"t": 1})]))
    await pack_range(store.chunks, sensor.number, LEAST, GREATEST)
    assert await store.chunks.next_unpacked(sensor.number, LEAST, NOON + 10) is None
    await store.write(Batch(measurements=[measurement(sensor.number, NOON + 8, {"t": 1})]))
    found = await store.chunks.next_unpacked(sensor.number, LEAST, NOON + 10)
    assert found.timestamp == NOON + 8


async def test_logs(sensor, query):
    assert query("SELECT device_id, severity, subject, details, timestamp_us FROM v_log") == [
        ("a", "info", "started", "why", NOON)
    ]


async def test_the_tables_of_the_former_system(sensor, query, store):
    other = await store.sensors.create(identifier="1" * 32, name="x", created_at=NOON)
    await store.sensors.delete(other.number, NOON)
    assert query("SELECT id, device_id, name, is_active, last_seen_at FROM devices") == [
        ("0" * 32, "a", None, True, None)
    ]
    found = query(
        "SELECT device_id, temperature, humidity, voltage FROM readings ORDER BY timestamp"
    )
    assert found[0] == ("a", 22.5, 65, None)
    assert found[1] == ("a", None, None, None)


async def test_rights_on_the_views_are_enough(postgresql_url):
    # In a transaction that is not kept: roles belong to the whole cluster.
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("CREATE ROLE heliograph_views_reader")
        connection.execute("GRANT SELECT ON v_latest, v_log, devices TO heliograph_views_reader")
        connection.execute("SET LOCAL ROLE heliograph_views_reader")
        assert connection.execute("SELECT count(*) FROM v_latest").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT key_hash FROM sensor")
        connection.rollback()


async def test_the_index_finds_a_range_and_the_newest(postgresql_url, sqlite_url):
    with psycopg.connect(postgresql_url) as connection:
        # Whether that is worth it for the rows of another test is not asked: whether it can be.
        connection.execute("SET enable_seqscan = off")
        plan = str(
            connection.execute(
                "EXPLAIN SELECT * FROM v_attribute"
                " WHERE sensor = 1 AND timestamp_us BETWEEN 1500000000000000 AND 1500000000000001"
            ).fetchall()
        )
    assert "Index Cond: ((sensor = 1) AND" in plan
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    plan = str(connection.execute("EXPLAIN QUERY PLAN SELECT * FROM v_latest").fetchall())
    connection.close()
    assert "SEARCH measurement_key USING PRIMARY KEY (sensor=?)" in plan
    assert "SCAN measurement" not in plan
    assert "SCAN kept" not in plan
    assert "TEMP B-TREE" not in plan


async def test_what_was_stored_while_the_clock_was_ahead_is_not_the_newest(store, sensor, query):
    moment = now()
    ahead, soon = moment + 2 * DAY, moment + HOUR
    await store.write(
        Batch(
            measurements=[
                # A device's time of its own that is not yet past counts as before.
                measurement(sensor.number, soon, {"humidity": 12}, receipt=moment),
                measurement(sensor.number, ahead, {"temperature": 99, "beyond": 1}, receipt=ahead),
            ],
            attributes=[(sensor.number, "beyond")],
        )
    )
    await store.sensors.touch([(sensor.number, ahead, ahead)])
    newest = "SELECT attribute, number FROM v_latest"
    assert dict(query(newest))["temperature"] == 99
    highest, receipt = await store.newest()
    await store.clock.accept(Acceptance(moment, highest, receipt))
    found = dict(query(newest))
    assert (found["temperature"], found["humidity"]) == (22.5, 12)
    assert "beyond" not in found
    assert query("SELECT last_seen_at FROM devices") == [(None,)]
    seen = now()
    await store.sensors.touch([(sensor.number, seen, None)])
    ((text,),) = query("SELECT last_seen_at FROM devices")
    text = text if isinstance(text, str) else text.isoformat(timespec="microseconds")
    assert text.replace("+00:00", "Z") == to_rfc3339(seen)
