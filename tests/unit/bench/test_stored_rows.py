import hashlib
import sqlite3

import pytest
from bench.packets import device_key, identifier
from bench.requests import device_id
from bench.scale import Profile
from bench.stored_rows import QUIET, StoredRows, middle

from heliograph.model.time import now

ROWS = StoredRows(Profile("small", 3, 4), 1_700_000_000_000_000)


@pytest.fixture
def made():
    database = sqlite3.connect(":memory:")
    yield lambda bare: database.execute(ROWS.select("sqlite", bare=bare)).fetchall()
    database.close()


def test_every_sensor_has_its_rows(made):
    sensors = [row[0] for row in made(True)]
    assert sorted(sensors) == [1] * 4 + [2] * 4 + [3] * 4


def test_the_servers_rows_have_increasing_ids_and_times(made):
    rows = made(False)
    ids, times = [row[0] for row in rows], [row[2] for row in rows]
    assert ids == sorted(set(ids))
    assert times == [ROWS.start + index * 50_000 for index in range(12)]
    assert [ingest_id >> 21 for ingest_id in ids] == [time // 1_000 for time in times]


def test_the_values_are_canonical_and_the_same_on_both_sides(made):
    values = [row[5] for row in made(True)]
    assert values == [row[7] for row in made(False)]
    assert values[0] == '{"humidity":0.43,"pressure":1013.2,"temperature":15.0}'


def test_sensors_carry_the_keys_that_the_loads_use():
    number, uuid, slug, key_hash, _ = ROWS.sensors()[1]
    assert (number, uuid, slug) == (2, identifier(2), device_id(2))
    assert key_hash == hashlib.sha256(device_key(2).encode()).digest()


def test_sensors_without_rows_have_no_attributes_yet():
    assert len(ROWS.attributes()) == 9
    assert StoredRows(Profile("none", 3, 0), 0).attributes() == []


def test_fresh_rows_end_well_before_the_loads_begin():
    rows = StoredRows.until_now(Profile("small", 3, 4))
    assert rows.end == rows.start + 12 * 50_000 <= now() - QUIET


def test_the_middle_leaves_a_quarter_on_each_side():
    assert middle(0, 8_000_000) == (2.0, 6.0)
