"""The embedded engine: a SQLite file in WAL mode, one writer, a few readers."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import aiosqlite
import msgspec

from heliograph.errors import AlreadyExistsError, StartError, StoreUnavailableError
from heliograph.model.batch import Batch, Written
from heliograph.store.engine import Engine, Row, Transaction
from heliograph.store.queries import Query, load_queries
from heliograph.store.sqlite_connection import (
    BUSY_SECONDS,
    OLDEST_SQLITE,
    address,
    taken_field,
    translate,
)
from heliograph.store.sqlite_writer import SqliteWriter

READERS = 4
READ_SECONDS = 30.0
PING_SECONDS = 2.0

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


async def open_sqlite(path: Path) -> Engine:
    """Open the file, making it (empty) where there is none.

    Raises:
        StartError: it can't be used.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise StartError(f"SQLite {sqlite3.sqlite_version} is too old: {needed} is needed")
    engine = SqliteEngine(path)
    try:
        await engine.start()
    except (OSError, sqlite3.Error) as error:
        await engine.close()
        raise StartError(f"DATABASE_URL: can't open {path}: {error}") from error
    return engine


class SqliteEngine:
    """A SQLite file. Implements `Engine`."""

    name: Final = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queries = load_queries(self.name)
        self._writer = SqliteWriter(path, self._queries)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        # Who holds it has the thread: nothing else waits in the executor's boundless queue,
        # and nothing comes between the statements of a transaction.
        self._turn = asyncio.Lock()
        self._readers = _Readers(path)
        self._closed = False

    async def start(self) -> None:
        """Make and open the file; errors are the driver's."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        await self._run(lambda: self._writer.open(create=True))

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query on a reading connection."""
        return await self._readers.fetch(self._queries[query], parameters)

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction on the writer."""
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        async with self._turn:
            try:
                await self._run(self._writer.begin)
                yield _Change(self._run, self._writer)
                await self._run(self._writer.commit)
            except BaseException as error:
                # Cancelled or not: the thread does this after what it is doing now.
                cause = error
                known = await self._run(lambda: self._writer.abandon(cause))
                if not isinstance(error, Exception):
                    raise
                if field := taken_field(error):
                    raise AlreadyExistsError(field) from error
                if isinstance(error, StoreUnavailableError):
                    self._readers.renew()
                elif isinstance(error, sqlite3.Error | OverflowError | UnicodeError):
                    raise known from error
                raise

    async def write(self, batch: Batch) -> Written:
        """Commit a batch."""
        async with self._turn:
            try:
                return await self._run(lambda: self._writer.write(batch))
            except StoreUnavailableError:
                self._readers.renew()
                raise

    async def find_deliveries(self, keys: Sequence[bytes], now: int) -> Sequence[Row]:
        """Return key, id and answer of the deliveries that are not expired."""
        async with self._turn:
            return await self._run(lambda: self._writer.find_deliveries(keys, now))

    async def ping(self) -> None:
        """Read a row of the file at its path."""
        if not await asyncio.to_thread(self._path.is_file):
            raise StoreUnavailableError("SQLite: the database file is gone")
        await self._readers.fetch(self._queries["registry_version"], {}, PING_SECONDS)

    async def close(self) -> None:
        """Close all connections."""
        await self._readers.close()
        async with self._turn:
            if not self._closed:
                await self._run(self._writer.close)
                self._closed = True
                self._thread.shutdown()

    async def _run(self, function: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailableError("SQLite: the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


class _Change:
    """A transaction on the writer. Implements `Transaction`."""

    def __init__(self, run: Callable[[Callable[[], Any]], Any], writer: SqliteWriter) -> None:
        self._run = run
        self._writer = writer

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query and return its rows."""
        rows: Sequence[Row] = await self._run(lambda: self._writer.fetch(query, parameters))
        return rows


class _Reader:
    """A place for a reading connection."""

    def __init__(self) -> None:
        self.connection: aiosqlite.Connection | None = None
        self.generation = 0


class _Readers:
    """A few connections that can't write, opened when first needed, and anew after an error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closed = False
        self._generation = 0
        # The last one used comes first, so that a quiet server has but one open.
        self._idle: asyncio.LifoQueue[_Reader] = asyncio.LifoQueue(READERS)
        for _ in range(READERS):
            self._idle.put_nowait(_Reader())

    async def fetch(
        self, query: Query, parameters: dict[str, Any], seconds: float = READ_SECONDS
    ) -> Sequence[Row]:
        for name, value in parameters.items():
            if type(value) is list:
                parameters[name] = _encode(value).decode()
        try:
            async with asyncio.timeout(seconds):
                return await self._fetch(query.sql, parameters)
        except TimeoutError as error:
            raise StoreUnavailableError(f"SQLite: no answer in {seconds:.0f} seconds") from error

    def renew(self) -> None:
        """Have each connection opened anew: the file may be another one now."""
        self._generation += 1

    async def _fetch(self, sql: str, parameters: dict[str, Any]) -> Sequence[Row]:
        reader = await self._idle.get()
        try:
            if reader.connection is None or reader.generation != self._generation:
                await self._open(reader)
            assert reader.connection is not None  # noqa: S101 - for the type checker
            return cast("Sequence[Row]", await reader.connection.execute_fetchall(sql, parameters))
        except asyncio.CancelledError:
            if reader.connection is not None:
                await reader.connection.interrupt()
            raise
        except Exception as error:
            if isinstance(error, sqlite3.DatabaseError):
                await _close(reader)
            raise translate(error) from error
        finally:
            self._idle.put_nowait(reader)

    async def _open(self, reader: _Reader) -> None:
        await _close(reader)
        if self._closed:
            raise StoreUnavailableError("SQLite: the store is closed")
        connection = await aiosqlite.connect(
            address(self._path, "ro"), uri=True, isolation_level=None, timeout=BUSY_SECONDS
        )
        reader.connection, reader.generation = connection, self._generation
        await connection.execute_fetchall("PRAGMA query_only = ON")

    async def close(self) -> None:
        self._closed = True
        readers = [await self._idle.get() for _ in range(READERS)]
        for reader in readers:
            await _close(reader)
            self._idle.put_nowait(reader)


async def _close(reader: _Reader) -> None:
    connection, reader.connection = reader.connection, None
    if connection is not None:
        await connection.close()
