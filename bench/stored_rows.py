"""The rows that are stored before a round begins, for both engines and both sides.

Sensor n has the UUID that ends in n, the device_id `bench-n` and the number n. Row i belongs
to sensor i modulo the number of sensors and was received a `step` after row i - 1.
"""

import asyncio
import dataclasses
import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from bench.packed_rows import fill_chunks
from bench.packets import device_key, identifier
from bench.requests import device_id
from bench.scale import Profile
from bench.starting_line import LoadError
from heliograph import logs
from heliograph.model.time import HOUR, SECOND, now
from heliograph.packer import Packer
from heliograph.store import open_store
from heliograph.store.engine import Batch

# Raise it whenever what is generated changes: it is part of the cached files' names.
VERSION = 2
QUIET = 2 * 3_600 * 1_000_000
ATTRIBUTES = ("humidity", "pressure", "temperature")


@dataclasses.dataclass(frozen=True)
class StoredRows:
    """A profile's rows, the first received at `start` (microseconds)."""

    profile: Profile
    start: int

    @classmethod
    def until_now(cls, profile: Profile) -> "StoredRows":
        """Return rows that end two hours ago: loads are timed behind them."""
        newest = time.time_ns() // 1_000 - QUIET
        whole = HOUR if profile.packed else SECOND
        return cls(profile, newest // whole * whole - profile.span)

    @property
    def end(self) -> int:
        """When the row after the last would be received."""
        return self.start + self.profile.span

    def sensors(self) -> list[tuple[int, str, str | None, bytes, int]]:
        """Return number, UUID, device_id, hash of the key and creation time of every sensor."""
        return [
            (
                number,
                identifier(number),
                device_id(number) if self.profile.named else None,
                hashlib.sha256(device_key(number).encode()).digest(),
                self.start,
            )
            for number in range(1, self.profile.sensors + 1)
        ]

    def attributes(self) -> list[tuple[int, str]]:
        """Return the attributes that the sensors have reported, as (number, name)."""
        if not self.profile.rows:
            return []
        numbers = range(1, self.profile.sensors + 1)
        return [(number, name) for number in numbers for name in ATTRIBUTES]

    def select(self, engine: str, *, bare: bool) -> str:
        """Return the query that makes the rows.

        The server's: id, sensor, timestamp, fingerprint, receipt_timestamp, revision,
        device_timestamp, value. The bare table's: those without the id and device_timestamp.
        """
        if engine == "sqlite":
            source = (
                "WITH RECURSIVE counter (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM counter"
                f" WHERE i + 1 < {self.profile.rows})"
            )
            counter, fingerprint = "counter", "random()"
            temperature = "printf('%.1f', 15 + (i * 7919 % 200) / 10.0)"
        else:
            source = ""
            counter = f"generate_series(0::int8, {self.profile.rows - 1}) AS i"
            fingerprint = "hashint8extended(i, 7)"
            temperature = "to_char(15 + (i * 7919 % 200) / 10.0, 'FM90.0')"
        received = f"({self.start} + i * {self.profile.step})"
        value = (
            """'{"humidity":0.43,"pressure":1013.2,"temperature":' || """
            f"""{temperature} || '}}'"""
        )
        sensor = f"i % {self.profile.sensors} + 1"
        columns = [sensor, received, fingerprint, received, "1", value]
        if not bare:
            ingest_id = f"({received} / 1000) << 21"
            columns = [ingest_id, *columns[:5], "NULL", value]
        order = "" if engine == "sqlite" else " ORDER BY i"
        return f"{source} SELECT {', '.join(columns)} FROM {counter}{order}"


def middle(oldest: int, newest: int) -> tuple[float, float]:
    """Return the epoch seconds between which the middle half of the time lies."""
    span = newest - oldest
    return (oldest + span / 4) / 1e6, (oldest + span * 3 / 4) / 1e6


SENSOR = (
    "INSERT INTO sensor (number, identifier, device_id, key_hash, created_at, network_identifier)"
)
DEFAULT = "(SELECT identifier FROM network WHERE name = 'default')"
MEASUREMENT = (
    "INSERT INTO measurement (id, sensor, timestamp, fingerprint, receipt_timestamp, revision,"
    " device_timestamp, value)"
)
MEASUREMENT_ROW = MEASUREMENT.replace("measurement", "measurement_row")
KEYS = (
    "INSERT INTO measurement_key (sensor, timestamp, fingerprint, id)"
    " SELECT sensor, timestamp, fingerprint, id FROM measurement_row ORDER BY 1, 2, 3"
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
    if rows.profile.packed:
        fill_chunks(database, rows.profile, rows.start)
    elif rows.profile.rows:
        made = rows.select("sqlite", bare=False)
        database.execute(f"{MEASUREMENT_ROW} SELECT * FROM ({made})")
        database.execute(KEYS)
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
        if rows.profile.packed:
            fill_chunks(connection, rows.profile, rows.start)
        elif rows.profile.rows:
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


def pack_by_default(url: str) -> None:
    """Pack what a server packs that has no settings of packing, without its rests."""

    # Standard output belongs to the results.
    logs.configure("warning")

    async def pack() -> None:
        store = await open_store(url)
        try:
            await Packer(store, None, moment=now, rests=False).pack_old()
        finally:
            await store.close()

    asyncio.run(pack())


COMMAND = str(Path(sys.executable).with_name("heliograph"))
TIMEOUT = 120.0


def server_environment(**settings: str) -> dict[str, str]:
    """Return an environment with these settings and none of the caller's.

    Together with a working folder without `.env`, so that only the benchmark says what runs.
    """
    # PYTHONPATH: the sources that the benchmark itself runs on.
    names = ("PATH", "HOME", "LANG", "PYTHONPATH")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "APP_ENV": "development", "LOG_LEVEL": "warning", **settings}


def migrate(url: str, directory: Path) -> None:
    """Bring the database to the newest revision."""
    done = subprocess.run(
        [COMMAND, "migrate"],
        cwd=directory,
        env=server_environment(DATABASE_URL=url, DATA_DIRECTORY=str(directory)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise LoadError(f"heliograph migrate failed:\n{done.stdout}{done.stderr}")
