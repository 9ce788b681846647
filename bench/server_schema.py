"""Stored rows in the server's own tables, in bulk."""

import asyncio
import sqlite3

import psycopg

from bench.stored_rows import StoredRows
from heliograph.model.batch import Batch
from heliograph.store import open_store

SENSOR = (
    "INSERT INTO sensor (number, identifier, device_id, key_hash, created_at, network_identifier)"
)
DEFAULT = "(SELECT identifier FROM network WHERE name = 'default')"
MEASUREMENT = (
    "INSERT INTO measurement (id, sensor, timestamp, fingerprint, receipt_timestamp, revision,"
    " device_timestamp, value)"
)
# What is stored and not rolled up yet.
BACKLOG = (
    "INSERT INTO rollup_backlog (sensor, range_start, range_end)"
    " SELECT sensor.number, {0} / 3600000000 * 3600000000, rollup_state.frontier"
    " FROM sensor CROSS JOIN rollup_state"
)


def fill_sqlite(database: sqlite3.Connection, rows: StoredRows) -> None:
    """Add the sensors and their rows."""
    database.executemany(f"{SENSOR} VALUES (?, ?, ?, ?, ?, {DEFAULT})", rows.sensors())
    database.executemany("INSERT INTO attribute VALUES (?, ?)", rows.attributes())
    if rows.profile.rows:
        database.execute(f"{MEASUREMENT} SELECT * FROM ({rows.select('sqlite', bare=False)})")
    if rows.profile.left:
        database.execute(BACKLOG.format(rows.start))


def add_silent_sensors(database: sqlite3.Connection, rows: StoredRows) -> None:
    """Add the sensors but for the first, which is there; none of them has rows."""
    database.executemany(f"{SENSOR} VALUES (?, ?, ?, ?, ?, {DEFAULT})", rows.sensors()[1:])


def fill_postgresql(connection: psycopg.Connection, rows: StoredRows) -> None:
    """Add the sensors and their rows; the partitions have to be there."""
    with connection.cursor() as cursor:
        cursor.executemany(
            f"{SENSOR} OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, %s, {DEFAULT})".encode(),
            rows.sensors(),
        )
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence('sensor', 'number'), max(number)) FROM sensor"
        )
        cursor.executemany("INSERT INTO attribute VALUES (%s, %s)", rows.attributes())
        if rows.profile.rows:
            made = rows.select("postgresql", bare=False)
            cursor.execute(f"{MEASUREMENT} {made}".encode())
        if rows.profile.left:
            cursor.execute(BACKLOG.format(rows.start).encode())


def make_partitions(url: str, rows: StoredRows) -> None:
    """Let the server's store make the months of the rows, by writing into the first and last."""

    async def write() -> None:
        store = await open_store(url)
        try:
            times = (rows.start, rows.end)
            await store.write(
                Batch([(n, 0, time, n, time, None, None, "0") for n, time in enumerate(times)])
            )
        finally:
            await store.close()

    asyncio.run(write())
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM measurement WHERE sensor = 0")
