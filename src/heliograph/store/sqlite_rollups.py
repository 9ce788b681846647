"""Marks of late rows and the storing of rollups, on the connection that writes to SQLite."""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec

from heliograph.store.queries import Query
from heliograph.store.rollup_change import RollupChange
from heliograph.store.sqlite_chunks import CHUNKS, chunks, rows_of

# Marks that are known to stand: more are forgotten, and made again.
REMEMBERED = 200_000

_MARK = {
    size: f"INSERT INTO touched (sensor, hour) VALUES {rows_of(2, size)}"  # noqa: S608 - placeholders
    for size in CHUNKS
}
_STORE = {
    size: (
        f"INSERT INTO rollup (sensor, level, start, packed) VALUES {rows_of(4, size)}"  # noqa: S608 - placeholders
        " ON CONFLICT (sensor, level, start) DO UPDATE SET packed = excluded.packed"
    )
    for size in CHUNKS
}
_DROP = {
    size: f"DELETE FROM rollup WHERE (sensor, level, start) IN (VALUES {rows_of(3, size)})"  # noqa: S608 - placeholders
    for size in CHUNKS
}

_encode = msgspec.json.Encoder().encode


class Marks:
    """The marks that stand, as far as they were made here.

    No other process writes measurements to the file: a mark that stands need not be made again.
    """

    def __init__(self) -> None:
        self._standing: set[tuple[int, int]] = set()

    def add(
        self, connection: sqlite3.Connection, hours: Sequence[tuple[int, int]]
    ) -> Sequence[tuple[int, int]]:
        """Mark in the open transaction what isn't; return what, for `added` after its commit."""
        new = [pair for pair in hours if pair not in self._standing]
        for chunk in chunks(new):
            connection.execute(_MARK[len(chunk)], list(chain.from_iterable(chunk)))
        return new

    def added(self, hours: Iterable[tuple[int, int]]) -> None:
        """Remember marks whose transaction was committed."""
        if len(self._standing) > REMEMBERED:
            self._standing.clear()
        self._standing.update(hours)

    def take(
        self, connection: sqlite3.Connection, query: Query, until: int, limit: int
    ) -> list[tuple[Any, ...]]:
        """Return id, sensor and hour of the oldest marks; rows that come later are marked anew."""
        rows = connection.execute(query.sql, {"until": until, "limit": limit}).fetchall()
        self._standing.difference_update([(sensor, hour) for _, sensor, hour in rows])
        return rows

    def forget(self) -> None:
        """Take none for standing."""
        self._standing.clear()


def store_rollups(
    connection: sqlite3.Connection, queries: dict[str, Query], change: RollupChange
) -> bool:
    """Store a change in the open transaction; False: it is out of date."""
    wanted = {"generation": change.generation, "frontier": change.frontier}
    if not connection.execute(queries["rollup_advance"].sql, wanted).fetchall():
        return False
    kept = [row for row in change.rollups if row[3] is not None]
    for chunk in chunks(kept):
        connection.execute(_STORE[len(chunk)], list(chain.from_iterable(chunk)))
    for chunk in chunks([row[:3] for row in change.rollups if row[3] is None]):
        connection.execute(_DROP[len(chunk)], list(chain.from_iterable(chunk)))
    if change.marks:
        ids = {"ids": _encode(change.marks).decode()}
        connection.execute(queries["touched_done"].sql, ids)
    if change.backlog:
        rows = {"rows": _encode(change.backlog).decode()}
        connection.execute(queries["rollup_backlog_shorten"].sql, rows)
        connection.execute(queries["rollup_backlog_forget"].sql)
    return True
