"""What really is in a database, read past the server."""

import collections
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

from postgresql import Cluster


class SqliteFile:
    """A SQLite file."""

    engine = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def column(self, statement: str) -> list[str]:
        """Return the first column of a query as text."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=30)) as connection:
            return [str(row[0]) for row in connection.execute(statement)]

    @contextlib.asynccontextmanager
    async def held_up(self) -> AsyncIterator[None]:
        """Let nobody else write; who wants to, waits."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    def bytes(self) -> int:
        """Return how much of the disk it takes."""
        return sum(file.stat().st_size for file in self.path.parent.glob(f"{self.path.name}*"))


class PostgresqlDatabase:
    """A database of the tests' cluster."""

    engine = "postgresql"

    def __init__(self, cluster: Cluster, name: str, url: str | None = None) -> None:
        self.cluster = cluster
        self.name = name
        self.url = url or cluster.dsn(name)

    def column(self, statement: str) -> list[str]:
        """Return the first column of a query as text."""
        return self.cluster.execute(statement, self.name).splitlines()

    @contextlib.asynccontextmanager
    async def held_up(self) -> AsyncIterator[None]:
        """Let nobody else write measurements; who wants to, waits."""
        connection = await asyncpg.connect(self.cluster.dsn(self.name))
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE measurement IN SHARE ROW EXCLUSIVE MODE")
                yield
        finally:
            await connection.close()

    def bytes(self) -> int:
        """Return how much of the disk it takes."""
        return int(self.column("SELECT pg_database_size(current_database())")[0])


Database = SqliteFile | PostgresqlDatabase


def values(database: Database, device_id: str) -> "collections.Counter[str]":
    """Return how often each measured value of a device is there, as canonical text."""
    return collections.Counter(
        database.column(
            "SELECT m.value FROM measurement m JOIN sensor s ON s.number = m.sensor"
            f" WHERE s.device_id = '{device_id}'"
        )
    )


def check_once(stored: "collections.Counter[str]", expected: list[str]) -> None:
    """Check that each expected value is stored once, and nothing else is."""
    missing = [value for value in expected if not stored[value]]
    twice = {value: count for value, count in stored.items() if count > 1}
    strange = stored.keys() - set(expected)
    assert not missing, f"{len(missing)} acknowledged messages are lost: {missing[:5]}"
    assert not twice, f"{len(twice)} messages are there more than once: {list(twice.items())[:5]}"
    assert not strange, f"nobody sent {list(strange)[:5]}"
