"""The partitions of measurements and logs on PostgreSQL: calendar months in UTC."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import asyncpg

from heliograph.model.records import TIMESTAMP
from heliograph.store.engine import Drop
from heliograph.store.months import (
    FIRST_TIMESTAMP,
    LAST_TIMESTAMP,
    month_name,
    month_of,
    month_start,
    named_month,
)
from heliograph.store.queries import Query

# Any number, as long as it is always this one.
_ADVISORY_LOCK = 7_305_486_013

# For so long a partition's end may hold up who reads and writes; who has it in use goes first.
DROP_LOCK_MILLISECONDS = 200


class Partitions:
    """The months that exist, as far as is known here; makes those that are missing."""

    def __init__(self, queries: dict[str, Query]) -> None:
        self._queries = queries
        self._known: dict[str, set[int]] = {}

    def forget(self) -> None:
        """Look again before the next row: somebody has dropped a partition."""
        self._known.clear()

    async def ensure(self, connection: Any, table: str, rows: Sequence[Any]) -> None:
        """Make the partitions that the rows need, outside of any transaction."""
        if not rows:
            return
        timestamps = [row[TIMESTAMP] for row in rows]
        low, high = max(min(timestamps), FIRST_TIMESTAMP), max(timestamps)
        if high < FIRST_TIMESTAMP:
            return
        if high > LAST_TIMESTAMP:
            raise OverflowError("a timestamp is beyond the year 9999")
        known = self._known.get(table)
        if known is None:
            known = self._known[table] = await self._read(connection, table)
        if known.issuperset(range(month_of(low), month_of(high) + 1)):
            return
        needed = {month_of(stamp) for stamp in timestamps if stamp >= FIRST_TIMESTAMP}
        if missing := needed - known:
            await self._make(connection, table, missing)

    async def _read(self, connection: Any, table: str) -> set[int]:
        rows = await connection.fetch(self._queries["partitions_of"].sql, table)
        months = (named_month(table, name) for (name,) in rows)
        return {month for month in months if month is not None}

    async def _make(self, connection: Any, table: str, months: Iterable[int]) -> None:
        async with connection.transaction():
            await connection.execute(self._queries["partitions_lock"].sql, _ADVISORY_LOCK)
            known = await self._read(connection, table)
            for month in sorted(set(months) - known):
                name = f"{table}_{month_name(month)}"
                # Made by itself and then attached: that takes a lock which lets readers and
                # writers of the table go on, where PARTITION OF would wait for them all.
                await connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (LIKE {table})")
                await connection.execute(
                    f"ALTER TABLE {table} ATTACH PARTITION {name}"
                    f" FOR VALUES FROM ({month_start(month)}) TO ({month_start(month + 1)})"
                )
                known.add(month)
        self._known[table] = known

    async def drop(
        self,
        connection: Any,
        table: str,
        month: int,
        kept: Query,
        known: Mapping[str, int],
        *,
        hold: Callable[[], Awaitable[None]],
    ) -> Drop:
        """Drop the partition of a month, unless a query says to keep it; errors are the driver's.

        `known` are the query's parameters, but for where the month starts and ends. `hold` makes
        sure, within the transaction, that this server may.
        """
        name = f"{table}_{month_name(month)}"
        known = {"start": month_start(month), "end": month_start(month + 1), **known}
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {DROP_LOCK_MILLISECONDS}")
                await hold()
                # Nobody adds a row between the look and the end.
                await connection.execute(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")
                if await connection.fetch(kept.sql, *(known[p] for p in kept.parameters)):
                    return Drop.KEPT
                await connection.execute(f"DROP TABLE {name}")
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            return Drop.BUSY
        except asyncpg.UndefinedTableError:
            return Drop.KEPT  # another instance was first, or somebody by hand
        self._known.get(table, set()).discard(month)
        return Drop.DROPPED
