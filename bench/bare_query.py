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
RANGE = (
    "SELECT timestamp, revision, value FROM measurement"
    " WHERE sensor = {0} AND timestamp >= {1} AND timestamp < {2} ORDER BY timestamp, fingerprint"
)
ROLLUPS = (
    "SELECT start, packed FROM rollup"
    " WHERE sensor = {0} AND level = 3600 AND start >= {1} AND start < {2} ORDER BY start"
)
NEWEST = (
    "SELECT newest.timestamp, newest.revision, newest.value FROM sensor"
    " JOIN measurement AS newest ON newest.id = ("
    "SELECT id FROM measurement WHERE measurement.sensor = sensor.number"
    " ORDER BY timestamp DESC, fingerprint DESC LIMIT 1) ORDER BY sensor.number"
)
QUERY_TIMEOUT = 30.0

Rows = Sequence[Any]


class BareQuery(Protocol):
    """Reads rows of one sensor: timestamp, revision, value."""

    async def page(self, sensor: int, key: int, limit: int) -> Rows: ...

    async def latest(self, sensor: int) -> Rows: ...

    async def read(self, query: str, *values: int) -> Rows: ...

    async def close(self) -> None: ...


class Sqlite:
    """A reading connection in its own thread."""

    def __init__(self, database: aiosqlite.Connection) -> None:
        self._database = database

    async def read(self, query: str, *values: int) -> Rows:
        """Return what any of the queries above finds."""
        statement = query.format(*"?" * len(values))
        async with asyncio.timeout(QUERY_TIMEOUT):
            return list(await self._database.execute_fetchall(statement, values))

    async def page(self, sensor: int, key: int, limit: int) -> Rows:
        return await self.read(PAGE, sensor, key, limit)

    async def latest(self, sensor: int) -> Rows:
        return await self.read(LATEST, sensor)

    async def close(self) -> None:
        await self._database.close()


class Postgresql:
    """A pooled connection a query."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def read(self, query: str, *values: int) -> Rows:
        """Return what any of the queries above finds."""
        statement = query.format("$1", "$2", "$3")
        found: Rows = await self._pool.fetch(statement, *values, timeout=QUERY_TIMEOUT)
        return found

    async def page(self, sensor: int, key: int, limit: int) -> Rows:
        return await self.read(PAGE, sensor, key, limit)

    async def latest(self, sensor: int) -> Rows:
        return await self.read(LATEST, sensor)

    async def close(self) -> None:
        await self._pool.close()


async def open_query(url: str) -> BareQuery:
    """Return the queries on a PostgreSQL URL or the path of a SQLite file."""
    if url.startswith("postgresql://"):
        return Postgresql(await asyncpg.create_pool(url, min_size=2, max_size=4, timeout=10))
    return Sqlite(await aiosqlite.connect(url, isolation_level=None, timeout=QUERY_TIMEOUT))
