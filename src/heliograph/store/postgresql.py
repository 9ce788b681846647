"""The engine for PostgreSQL 13 and later: one connection that writes, a pool that reads."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import asyncpg

from heliograph.errors import AlreadyExistsError, StartError
from heliograph.model.batch import Batch, Written
from heliograph.store.engine import Engine, Row, Transaction
from heliograph.store.postgresql_connection import (
    OLDEST_POSTGRESQL,
    READ_SECONDS,
    arguments,
    connect_readers,
    taken_field,
    translate,
)
from heliograph.store.postgresql_writer import PostgresqlWriter
from heliograph.store.queries import load_queries
from heliograph.store.url import DatabaseUrl

READERS = 5
PING_SECONDS = 2.0
CLOSE_SECONDS = 5.0


async def open_postgresql(url: DatabaseUrl) -> Engine:
    """Connect to the database.

    Raises:
        StartError: it can't be used.
    """
    try:
        readers = await connect_readers(url.dsn, READERS)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = str(error) or type(error).__name__
        raise StartError(f"DATABASE_URL: can't connect to {url.public}: {reason}") from error
    async with readers.acquire() as connection:
        version = connection.get_server_version().major
    if version < OLDEST_POSTGRESQL:
        await readers.close()
        raise StartError(f"PostgreSQL {version} is too old: {OLDEST_POSTGRESQL} is needed")
    return PostgresqlEngine(url.dsn, readers)


class PostgresqlEngine:
    """A PostgreSQL database. Implements `Engine`."""

    name: Final = "postgresql"

    def __init__(self, dsn: str, readers: Any) -> None:
        self._queries = load_queries(self.name)
        self._readers = readers
        self.writer = PostgresqlWriter(dsn, self._queries)
        # Who holds it has the writer's connection.
        self._turn = asyncio.Lock()

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query on a reading connection."""
        return await self._fetch(query, parameters, READ_SECONDS)

    async def _fetch(self, query: str, parameters: dict[str, Any], seconds: float) -> Sequence[Row]:
        wanted = self._queries[query]
        try:
            async with asyncio.timeout(seconds), self._readers.acquire() as connection:
                rows: Sequence[Row] = await connection.fetch(
                    wanted.sql, *arguments(wanted, parameters)
                )
        except Exception as error:
            raise translate(error) from error
        return rows

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction on the writer."""
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        async with self._turn:
            try:
                await self.writer.execute("BEGIN")
                yield _Change(self.writer)
                await self.writer.execute("COMMIT")
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
            return await self.writer.write(batch)

    async def find_deliveries(self, keys: Sequence[bytes], now: int) -> Sequence[Row]:
        """Return key, id and answer of the deliveries that are not expired."""
        async with self._turn:
            try:
                return await self.writer.fetch("deliveries_find", {"keys": list(keys), "now": now})
            except BaseException as error:
                known = await self.writer.abandon(error)
                if isinstance(error, Exception):
                    raise known from error
                raise

    async def ping(self) -> None:
        """Read a row."""
        await self._fetch("registry_version", {}, PING_SECONDS)

    async def close(self) -> None:
        """Close all connections."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._readers.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._readers.terminate()
        async with self._turn:
            await self.writer.close()


def _of_driver(error: Exception) -> bool:
    return isinstance(
        error,
        asyncpg.PostgresError | asyncpg.InterfaceError | OSError | OverflowError | UnicodeError,
    )


class _Change:
    """A transaction on the writer. Implements `Transaction`."""

    def __init__(self, writer: PostgresqlWriter) -> None:
        self._writer = writer

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query and return its rows."""
        return await self._writer.fetch(query, parameters)
