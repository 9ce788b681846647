"""A database of one round."""

import contextlib
import dataclasses
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from bench.scale import Profile
from bench.starting_line import LoadError


@dataclasses.dataclass(frozen=True)
class Database:
    """A copy of a profile's rows, for one side, that is gone after the round.

    `url` is what that side opens; `address` the file or the PostgreSQL URL.
    """

    engine: str
    url: str
    address: str
    profile: Profile
    bare: bool

    def count(self, table: str) -> int:
        """Return the rows that another connection sees now, so what is committed."""
        return int(self._row(f"SELECT count(*) FROM {table}")[0])

    def total(self, table: str, column: str) -> int:
        """Return the sum of a column that is nowhere null."""
        return int(self._row(f"SELECT coalesce(sum({column}), 0) FROM {table}")[0])

    def times(self) -> tuple[int, int]:
        """Return the oldest and the newest timestamp of a measurement, in microseconds."""
        oldest, newest = self._row("SELECT min(timestamp), max(timestamp) FROM measurement")
        return int(oldest), int(newest)

    def text(self, query: str) -> str:
        """Return the one value that a query finds."""
        return str(self._row(query)[0])

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[str], tuple[Any, ...]]]:
        """Yield what finds one row, each time what is committed then, over one connection."""
        connection: Any
        if self.engine == "sqlite":
            connection = sqlite3.connect(self.address, timeout=30, isolation_level=None)
        else:
            connection = psycopg.connect(self.address, connect_timeout=10, autocommit=True)

        def row(query: str) -> tuple[Any, ...]:
            found = connection.execute(query).fetchone()
            if found is None:
                raise LoadError(f"no answer to {query}")
            return tuple(found)

        with contextlib.closing(connection):
            yield row

    def _row(self, query: str) -> tuple[Any, ...]:
        with self.reading() as row:
            return row(query)

    def expect(self, sent: int) -> None:
        """Raise unless exactly `sent` rows were added, and no message was rejected."""
        found = self.count("measurement") - self.profile.rows
        rejected = 0 if self.bare else self.count("rejected_message")
        if found != sent or rejected:
            raise LoadError(
                f"{sent} rows were acknowledged, {found} are stored and {rejected} rejected"
                f" ({self.engine}, {'bare' if self.bare else 'server'})"
            )
