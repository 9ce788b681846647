"""The bare store: nothing checked, nothing deduplicated, one transaction a batch.

A row is (sensor, timestamp, fingerprint, receipt, revision, value). Both engines keep the
columns that the server keeps of a measurement, and its unique key. Whatever has come in is
committed whenever the store is idle.
"""

import argparse
import asyncio
import concurrent.futures
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import msgspec

Row = Sequence[Any]

COLUMNS = ("sensor", "timestamp", "fingerprint", "receipt", "revision", "value")
# As the server has them: without, every insert into the standard load would be slower.
CACHE_KIBIBYTES = 64 << 10
CHECKPOINT_PAGES = 64_000
WRITE_TIMEOUT = 60.0

# A rowid table with a unique index takes more rows a second at the standard load than the
# clustered table; into an empty table of few sensors the clustered one takes more. Without any
# unique key nothing is written but the row, however much is stored.
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
    "appended": (
        "CREATE TABLE measurement (id INTEGER PRIMARY KEY, sensor INTEGER, timestamp INTEGER,"
        " fingerprint INTEGER, receipt INTEGER, revision INTEGER, value TEXT)"
    ),
}
POSTGRESQL_SCHEMA = (
    "CREATE TABLE measurement (sensor int8, timestamp int8, fingerprint int8, receipt int8,"
    " revision int8, value text, PRIMARY KEY (sensor, timestamp, fingerprint))"
)

encode = msgspec.json.Encoder().encode
_FROM_JSON = (
    f"INSERT INTO measurement ({', '.join(COLUMNS)}) SELECT value->>0, value->>1, value->>2,"
    " value->>3, value->>4, value->>5 FROM json_each(?) WHERE true ON CONFLICT DO NOTHING"
)


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
    """One statement a batch, in a thread: `executemany` would starve beside a busy loop."""

    def __init__(self, path: str) -> None:
        self.database = sqlite_connection(path)
        self._thread = concurrent.futures.ThreadPoolExecutor(1)

    def _execute(self, statement: str, rows: Sequence[Row]) -> None:
        self.database.execute("BEGIN IMMEDIATE")
        self.database.execute(statement, (encode(rows).decode(),))
        self.database.execute("COMMIT")

    async def execute(self, statement: str, rows: Sequence[Row]) -> None:
        """Execute a statement whose one parameter is a JSON array of the rows."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._execute, statement, rows)

    async def write(self, rows: list[Row]) -> None:
        await self.execute(_FROM_JSON, rows)

    async def close(self) -> None:
        self._thread.shutdown()
        self.database.close()


class Postgresql:
    """One `COPY` a batch."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def write(self, rows: list[Row]) -> None:
        await self.connection.copy_records_to_table(
            "measurement", records=rows, columns=COLUMNS, timeout=WRITE_TIMEOUT
        )

    async def close(self) -> None:
        await self.connection.close()


async def open_bare(url: str) -> BareStore:
    """Return the store for a PostgreSQL URL or the path of a SQLite file."""
    if url.startswith("postgresql://"):
        return Postgresql(await asyncpg.connect(url, timeout=10))
    return Sqlite(url)


class BareWriter:
    """Collects rows, and whom to answer after the commit that they are in."""

    def __init__(self, store: BareStore) -> None:
        self.rows: list[Row] = []
        self.due: list[Any] = []
        self.number = 0
        self.committed = 0
        self._store = store
        self._arrived = asyncio.Event()

    def wake(self) -> None:
        """Say that there are rows."""
        self._arrived.set()

    async def run(self, acknowledge: Callable[[list[Any]], None]) -> None:
        """Write for ever, handing those that are `due` to `acknowledge` after each commit."""
        while True:
            if not self.rows:
                self._arrived.clear()
                await self._arrived.wait()
            rows, self.rows = self.rows, []
            due, self.due = self.due, []
            await self._store.write(rows)
            self.committed += len(rows)
            acknowledge(due)


def options(*numbers: str) -> argparse.Namespace:
    """Return what a bare path is called with: a database, its own port, and more numbers."""
    # Beside a busy event loop the writer's thread would wait 5 ms for the interpreter each time.
    sys.setswitchinterval(0.0005)
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    for name in ("port", *numbers):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--reads", action="store_true")
    return parser.parse_args()
