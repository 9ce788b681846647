"""What the database holds of revisions, read while it is written."""

import sqlite3
from typing import Any, Protocol

import psycopg

from bench.database import Database

CONNECT_SECONDS = 10


class Revisions(Protocol):
    """Reads on a connection of its own, so only what is committed."""

    def acknowledged(self, revision: int) -> int:
        """Return how many sensors have acknowledged it."""
        ...

    def is_acknowledged(self, sensor: int, revision: int) -> bool:
        """Tell whether this sensor has."""
        ...

    def close(self) -> None: ...


class SqliteRevisions:
    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, timeout=30, isolation_level=None)

    def _found(self, query: str, values: tuple[int, ...]) -> Any:
        return self._database.execute(query.replace("%s", "?"), values).fetchone()

    def acknowledged(self, revision: int) -> int:
        return int(self._found(COUNT, (revision,))[0])

    def is_acknowledged(self, sensor: int, revision: int) -> bool:
        return self._found(ONE, (sensor, revision)) is not None

    def close(self) -> None:
        self._database.close()


class PostgresqlRevisions:
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, connect_timeout=CONNECT_SECONDS, autocommit=True)

    def _found(self, query: str, values: tuple[int, ...]) -> Any:
        return self._connection.execute(query.encode(), values).fetchone()

    def acknowledged(self, revision: int) -> int:
        return int(self._found(COUNT, (revision,))[0])

    def is_acknowledged(self, sensor: int, revision: int) -> bool:
        return self._found(ONE, (sensor, revision)) is not None

    def close(self) -> None:
        self._connection.close()


COUNT = "SELECT count(*) FROM configuration WHERE revision = %s AND success"
ONE = "SELECT 1 FROM configuration WHERE sensor = %s AND revision = %s AND success"


def open_revisions(engine: str, address: str) -> Revisions:
    """Return the reader of an engine's database, by its file or URL."""
    return SqliteRevisions(address) if engine == "sqlite" else PostgresqlRevisions(address)


def outstanding(database: Database) -> int:
    """Return the topics that the server has yet to bring up to date."""
    return database.count("publication")
