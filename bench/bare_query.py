"""The bare SQL queries on the server's tables, through the drivers that its store uses."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import aiosqlite
import asyncpg

PAGE = (
    "SELECT timestamp, revision, value FROM measurement"
    " WHERE sensor = {0} AND timestamp > {1} ORDER BY timestamp, fingerprint LIMIT {2}"
)
LATEST = (
    "SELECT timestamp, revision, value FROM measurement"
    " WHERE sensor = {0} ORDER BY timestamp DESC, fingerprint DESC LIMIT 1"
)
QUERY_TIMEOUT = 10.0

Rows = Sequence[Any]


class BareQuery(Protocol):
    """Reads rows of one sensor: timestamp, revision, value."""

    async def page(self, sensor: int, key: int, limit: int) -> Rows: ...

    async def latest(self, sensor: int) -> Rows: ...

    async def close(self) -> None: ...


class Sqlite:
    """A reading connection in its own thread."""

    def __init__(self, database: aiosqlite.Connection) -> None:
        self._database = database

    async def _read(self, query: str, *values: int) -> Rows:
        statement = query.format(*"?" * len(values))
        async with asyncio.timeout(QUERY_TIMEOUT):
            return list(await self._database.execute_fetchall(statement, values))

    async def page(self, sensor: int, key: int, limit: int) -> Rows:
        return await self._read(PAGE, sensor, key, limit)

    async def latest(self, sensor: int) -> Rows:
        return await self._read(LATEST, sensor)

    async def close(self) -> None:
        await self._database.close()


class Postgresql:
    """A pooled connection a query."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def _read(self, query: str, *values: int) -> Rows:
        statement = query.format("$1", "$2", "$3")
        found: Rows = await self._pool.fetch(statement, *values, timeout=QUERY_TIMEOUT)
        return found

    async def page(self, sensor: int, key: int, limit: int) -> Rows:
        return await self._read(PAGE, sensor, key, limit)

    async def latest(self, sensor: int) -> Rows:
        return await self._read(LATEST, sensor)

    async def close(self) -> None:
        await self._pool.close()


async def open_query(url: str) -> BareQuery:
    """Return the queries on a PostgreSQL URL or the path of a SQLite file."""
    if url.startswith("postgresql://"):
        return Postgresql(await asyncpg.create_pool(url, min_size=2, max_size=4, timeout=10))
    return Sqlite(await aiosqlite.connect(url, isolation_level=None, timeout=QUERY_TIMEOUT))
