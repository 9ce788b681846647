"""What a test gets is as no test has left it."""

import contextlib

import psycopg
import pytest

from database_copies import Copies
from heliograph.store import open_store
from heliograph.store.engine import Batch
from rows import NOON, log, measurement


@pytest.fixture
def copies(postgresql_cluster, postgresql_template):
    with contextlib.closing(Copies(postgresql_cluster, postgresql_template)) as copies:
        yield copies


def state(cluster, name):
    """Return all rows, tables and numbers."""
    with psycopg.connect(cluster.dsn(name)) as connection:
        tables = sorted(
            table
            for (table,) in connection.execute(
                "SELECT relname FROM pg_class"
                " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            )
        )
        rows = [connection.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables]
        numbers = connection.execute("SELECT * FROM pg_sequences ORDER BY sequencename").fetchall()
        return tables, rows, numbers


async def test_a_copy_that_comes_back_is_a_fresh_one(copies, postgresql_cluster):
    name = copies.take()
    fresh = state(postgresql_cluster, name)
    store = await open_store(postgresql_cluster.dsn(name))
    sensor = await store.sensors.create(identifier="0" * 32, created_at=1)
    await store.networks.create(identifier="1" * 32, name="other", created_at=1, owner=None)
    await store.write(Batch(measurements=[measurement(sensor.number, NOON)], logs=[log(1)]))
    assert state(postgresql_cluster, name) != fresh
    copies.give_back(name)  # with the store's connections, which it ends
    await store.close()
    assert copies.take() == name
    assert state(postgresql_cluster, name) == fresh


@pytest.mark.parametrize(
    "change",
    [
        "CREATE INDEX more ON sensor (name)",
        "DROP TABLE measurement_past",
        "ALTER TABLE sensor DISABLE TRIGGER ALL",
    ],
)
def test_a_copy_that_is_another_is_dropped(copies, postgresql_cluster, change):
    name = copies.take()
    postgresql_cluster.execute(change, name)
    copies.give_back(name)
    found = postgresql_cluster.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'")
    assert found == ""
