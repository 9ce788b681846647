"""The bare table writes: nothing checked, nothing deduplicated, one transaction a batch.

A row is (sensor, timestamp, fingerprint, receipt, revision, value). Both engines keep the
columns that the server keeps of a measurement, and its unique key.
"""

import asyncio
import concurrent.futures
import itertools
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import msgspec

Row = Sequence[Any]

COLUMNS = ("sensor", "timestamp", "fingerprint", "receipt", "revision", "value")
# As the server has them: without, every insert into the standard load would be slower.
CACHE_KIBIBYTES = 32 << 10
CHECKPOINT_PAGES = 16_000
WRITE_TIMEOUT = 60.0

# A rowid table with a unique index takes more rows a second at the standard load than the
# clustered table; into an empty table of few sensors the clustered one takes more.
SQLITE_SCHEMA = {
    "rowid": (
        "CREATE TABLE measurement (id INTEGER PRIMARY KEY, sensor INTEGER, timestamp INTEGER,"
        " fingerprint INTEGER, receipt INTEGER, revision INTEGER, value TEXT,"
        " UNIQUE (sensor, timestamp, fingerprint))"
    ),
    "clustered": (
        "CREATE TABLE measurement (sensor INTEGER, timestamp INTEGER, fingerprint INTEGER,"
        " receipt INTEGER, revision INTEGER, value TEXT,"
        " PRIMARY KEY (sensor, timestamp, fingerprint)) WITHOUT ROWID"
    ),
}
POSTGRESQL_SCHEMA = (
    "CREATE TABLE measurement (sensor int8, timestamp int8, fingerprint int8, receipt int8,"
    " revision int8, value text, PRIMARY KEY (sensor, timestamp, fingerprint))"
)

_encode = msgspec.json.Encoder().encode
_FROM_JSON = (
    f"INSERT INTO measurement ({', '.join(COLUMNS)}) SELECT value->>0, value->>1, value->>2,"
    " value->>3, value->>4, value->>5 FROM json_each(?) WHERE true ON CONFLICT DO NOTHING"
)


CHUNKS = (2_048, 256, 32, 4, 1)
_INTO = f"INSERT INTO measurement ({', '.join(COLUMNS)}) VALUES "
_PLACES = "(" + ", ".join("?" * len(COLUMNS)) + ")"
_VALUES = {size: _INTO + ", ".join([_PLACES] * size) + " ON CONFLICT DO NOTHING" for size in CHUNKS}
INSERTS = ("json", "values")


class BareStore(Protocol):
    """Writes rows; what `write` has returned from is committed."""

    async def write(self, rows: list[Row]) -> None: ...

    async def close(self) -> None: ...


def sqlite_connection(path: Path | str) -> sqlite3.Connection:
    """Return a connection with the durability that the server has."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    return database


class Sqlite:
    """Few statements a batch, in a thread: `executemany` would starve beside a busy loop.

    `json`: one `INSERT … SELECT … FROM json_each(?)`; `values`: inserts of many rows each.
    """

    def __init__(self, path: str, insert: str = "json") -> None:
        self._database = sqlite_connection(path)
        self._insert = self._values if insert == "values" else self._json
        self._thread = concurrent.futures.ThreadPoolExecutor(1)

    def _write(self, rows: list[Row]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._insert(rows)
        self._database.execute("COMMIT")

    def _json(self, rows: list[Row]) -> None:
        self._database.execute(_FROM_JSON, (_encode(rows).decode(),))

    def _values(self, rows: list[Row]) -> None:
        at = 0
        for size in CHUNKS:
            while len(rows) - at >= size:
                columns = list(itertools.chain.from_iterable(rows[at : at + size]))
                self._database.execute(_VALUES[size], columns)
                at += size

    async def write(self, rows: list[Row]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, rows)

    async def close(self) -> None:
        self._thread.shutdown()
        self._database.close()


class Postgresql:
    """One `COPY` a batch."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def write(self, rows: list[Row]) -> None:
        await self._connection.copy_records_to_table(
            "measurement", records=rows, columns=COLUMNS, timeout=WRITE_TIMEOUT
        )

    async def close(self) -> None:
        await self._connection.close()


async def open_bare(url: str, insert: str = "json") -> BareStore:
    """Return the store for a PostgreSQL URL or the path of a SQLite file."""
    if url.startswith("postgresql://"):
        return Postgresql(await asyncpg.connect(url, timeout=10))
    return Sqlite(url, insert)
