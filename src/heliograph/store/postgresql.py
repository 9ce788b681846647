"""The engine for PostgreSQL 13 and later: one connection that writes, a pool that reads."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import asyncpg

from heliograph.errors import AlreadyExistsError, StartError, StoreUnavailableError
from heliograph.model.batch import Batch, Written
from heliograph.store.engine import Drop, Engine, Row, Transaction
from heliograph.store.lateness import Lateness
from heliograph.store.lineage import Lineage
from heliograph.store.pool import Pool
from heliograph.store.postgresql_connection import (
    OLDEST_POSTGRESQL,
    READ_SECONDS,
    arguments,
    connect_reader,
    connect_writer,
    disconnect,
    taken_field,
    translate,
    unavailable,
)
from heliograph.store.postgresql_rollups import store_rollups
from heliograph.store.postgresql_writer import PostgresqlWriter
from heliograph.store.queries import Query, load_queries
from heliograph.store.rollup_change import RollupChange
from heliograph.store.url import DatabaseUrl

READERS = 5
PING_SECONDS = 2.0


async def open_postgresql(url: DatabaseUrl) -> Engine:
    """Connect to the database.

    Raises:
        StartError: it can't be used.
    """
    engine = PostgresqlEngine(url.dsn)
    try:
        version = await engine.start()
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = str(error) or type(error).__name__
        raise StartError(f"DATABASE_URL: can't connect to {url.public}: {reason}") from error
    if version < OLDEST_POSTGRESQL:
        await engine.close()
        raise StartError(f"PostgreSQL {version} is too old: {OLDEST_POSTGRESQL} is needed")
    return engine


class PostgresqlEngine:
    """A PostgreSQL database. Implements `Engine`."""

    name: Final = "postgresql"
    # Few enough that the next batch is decoded while one is copied; larger ones take turns
    # with the decoding.
    batch_rows: Final = 12_000

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._queries = load_queries(self.name)
        self._readers: Pool[Any] = Pool(
            READERS, lambda: connect_reader(dsn), disconnect, seconds=READ_SECONDS
        )
        self.lateness = Lateness(shared=True)
        self.lineage = Lineage()
        self.writer = PostgresqlWriter(dsn, self._queries, self.lateness)
        # Who holds it has the writer's connection.
        self._turn = asyncio.Lock()

    async def start(self) -> int:
        """Connect once and return the server's major version; errors are the driver's."""
        connection = await self._readers.take()
        self._readers.give(connection)
        version: int = connection.get_server_version().major
        return version

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query on a reading connection."""
        wanted = self._queries[query]
        try:
            connection = await self._readers.take()
            # One that the server closed since its last use is no reason to fail.
            while connection.is_closed():
                await self._readers.drop(connection)
                connection = await self._readers.take()
        except Exception as error:
            raise unavailable(error) from error
        try:
            rows: Sequence[Row] = await connection.fetch(wanted.sql, *arguments(wanted, parameters))
        except BaseException as error:
            await self._readers.drop(connection)
            if isinstance(error, Exception):
                raise translate(error) from error
            raise
        self._readers.give(connection)
        return rows

    async def follow(self) -> None:
        """Do nothing: a connection leads to the database of its name."""

    async def written_elsewhere(self) -> bool:
        """Return False: others may write, and nobody relies on that they do not."""
        return False

    async def renew(self) -> None:
        """Open all connections anew."""
        self._readers.renew()
        async with self._turn:
            await self.writer.renew()

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction on the writer."""
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        async with self._turn:
            try:
                # The same one to the end: a statement on another would be committed by itself.
                connection = await self.writer.open()
                await self.writer.begin(self.lineage.known)
                yield _Change(connection, self._queries)
                await connection.execute("COMMIT")
            except BaseException as error:
                known = await self.writer.abandon(error)
                if not isinstance(error, Exception):
                    raise
                if field := taken_field(error):
                    raise AlreadyExistsError(field) from error
                if known is error or not _of_driver(error):
                    raise
                raise known from error

    async def write(self, batch: Batch) -> Written:
        """Commit a batch."""
        async with self._turn:
            return await self.writer.write(batch, batch.change or self.lineage.known)

    async def find_deliveries(self, keys: Sequence[bytes], now: int) -> Sequence[Row]:
        """Return key, id and answer of the deliveries that are not expired."""
        async with self._turn:
            try:
                connection = await self.writer.open()
                sql = self._queries["deliveries_find"].sql
                found: Sequence[Row] = await connection.fetch(sql, list(keys), now)
            except BaseException as error:
                known = await self.writer.abandon(error)
                if isinstance(error, Exception):
                    raise known from error
                raise
        return found

    async def forget_deliveries(self, deliveries: Sequence[tuple[bytes, int]]) -> None:
        """Delete the deliveries with these keys and ids."""
        keys, ids = [key for key, _ in deliveries], [row_id for _, row_id in deliveries]
        async with self.transaction() as transaction:
            await transaction.fetch("deliveries_forget", keys=keys, ids=ids)

    async def take_marks(self, until: int, limit: int) -> Sequence[Row]:
        """Return the oldest marks."""
        return await self.fetch("rollup_marks", until=until, limit=limit)

    async def store_rollups(self, change: RollupChange) -> bool:
        """Commit a change of rollups."""
        async with self._turn:
            try:
                connection = await self.writer.open()
                await self.writer.begin(self.lineage.known)
                stored = await store_rollups(connection, self._queries, change)
                await connection.execute("COMMIT" if stored else "ROLLBACK")
            except BaseException as error:
                known = await self.writer.abandon(error)
                if isinstance(error, Exception):
                    raise known from error
                raise
        return stored

    async def drop_partition(
        self, table: str, month: int, *, moment: int, default_days: int
    ) -> Drop:
        """Drop it on a connection of its own: the writer goes on with the other months."""
        try:
            connection = await connect_writer(self._dsn)
        except Exception as error:
            raise unavailable(error) from error
        try:
            return await self.writer.partitions.drop(
                connection, table, month, moment=moment, default_days=default_days
            )
        except Exception as error:
            raise translate(error) from error
        finally:
            await disconnect(connection)

    async def used(self) -> int:
        """Count the database's files; the write-ahead log is the whole server's, and bounded."""
        rows = await self.fetch("disk_used")
        used: int = rows[0][0]
        return used

    async def empty_log(self) -> None:
        """Do nothing: the log is the whole server's."""

    async def ping(self) -> None:
        """Read a row."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self.fetch("registry_version")
        except TimeoutError as error:
            raise StoreUnavailableError("PostgreSQL: no answer in time") from error

    async def close(self) -> None:
        """Close all connections."""
        await self._readers.close()
        async with self._turn:
            await self.writer.close()


def _of_driver(error: Exception) -> bool:
    return isinstance(
        error,
        asyncpg.PostgresError | asyncpg.InterfaceError | OSError | OverflowError | UnicodeError,
    )


class _Change:
    """A transaction on the writer's connection. Implements `Transaction`."""

    def __init__(self, connection: Any, queries: dict[str, Query]) -> None:
        self._connection = connection
        self._queries = queries

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query and return its rows."""
        wanted = self._queries[query]
        rows: Sequence[Row] = await self._connection.fetch(
            wanted.sql, *arguments(wanted, parameters)
        )
        return rows
