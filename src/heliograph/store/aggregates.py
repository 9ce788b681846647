"""Aggregates of measurements, counted from the rows themselves.

Rows are read in chunks, each a short query, and decoded beside the event loop: SQLite's own
functions for JSON take two thirds of the time, but neither engine's tell what a key with a
quotation mark holds, or keep whole numbers of 64 bits whole.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import msgspec

from heliograph.model.aggregation import Aggregate, aggregate
from heliograph.store.attributes import column, columns, keys_of
from heliograph.store.engine import Engine, Row
from heliograph.store.pages import LEAST, Cursor

MAXIMUM_ROWS = 3_000_000
MAXIMUM_VALUES = 100_000

# Rows a query: decoding them holds the interpreter for a few milliseconds.
CHUNK = 4_000
# Fewer are counted faster than handed to a thread.
_AT_ONCE = 400
# Rows read before those to come are counted: so many are read as fast as counted.
_READ_FIRST = 10 * CHUNK
# Reads of many rows that run at the same time: others need the connections too.
_LARGE_READS = 2

_decode = msgspec.json.decode


class RangeTooLargeError(Exception):
    """What was asked for is more than one answer may take; the message says of what."""


class Series:
    """Aggregates by attribute and bucket, and how many rows each bucket has."""

    def __init__(self, starts: Sequence[int], names: Sequence[str] | None) -> None:
        """Count into buckets from `starts`, whose last is an end; without names all attributes."""
        self.rows = [0] * max(len(starts) - 1, 0)
        self.attributes: dict[str, dict[int, Aggregate]] = {name: {} for name in names or ()}
        self.values = 0
        self._starts = starts
        self._keys = None if names is None else {name: keys_of(name) for name in names}

    def count(self, rows: Sequence[Row]) -> None:
        """Count in rows of (timestamp, fingerprint, value), all later than those before.

        Raises:
            RangeTooLargeError: there are more than `MAXIMUM_VALUES`.
        """
        times = [row[0] for row in rows]
        documents = _decode("[" + ",".join([row[2] for row in rows]) + "]")
        first = 0
        while first < len(times):
            bucket = bisect_right(self._starts, times[first]) - 1
            last = bisect_left(times, self._starts[bucket + 1], first)
            self._count(bucket, documents[first:last])
            first = last

    def _count(self, bucket: int, documents: Sequence[object]) -> None:
        self.rows[bucket] += len(documents)
        if self._keys is None:
            found = columns(documents)
        else:
            found = {name: column(documents, keys) for name, keys in self._keys.items()}
        for name, values in found.items():
            more = aggregate(values)
            if more is None:
                continue
            buckets = self.attributes.setdefault(name, {})
            if bucket in buckets:
                buckets[bucket].add(more)
                continue
            buckets[bucket] = more
            self.values += 1
            if self.values > MAXIMUM_VALUES:
                raise RangeTooLargeError(
                    f"more than {MAXIMUM_VALUES:,} buckets of all attributes together:"
                    " name fewer attributes, or take longer buckets"
                )


class Aggregates:
    """What sensors measured, many rows in one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._large_reads = asyncio.Semaphore(_LARGE_READS)

    async def read(
        self,
        sensor: int,
        starts: Sequence[int],
        names: Sequence[str] | None,
        *,
        start: int,
        end: int,
    ) -> Series:
        """Return the aggregates of rows from `start` (inclusive) to `end` (exclusive).

        Buckets lie between `starts`, ascending, which cover the range.

        Raises:
            RangeTooLargeError: more than `MAXIMUM_ROWS` or `MAXIMUM_VALUES`.
        """
        series = Series(starts, names)
        if not series.rows:
            return series
        start, end = max(start, starts[0]), min(end, starts[-1])
        cursor = await self._chunk(sensor, series, (start, LEAST), end)
        if cursor is not None:
            async with self._large_reads:
                await self._rest(sensor, series, cursor, end)
        return series

    async def _rest(self, sensor: int, series: Series, cursor: Cursor, end: int) -> None:
        at: Cursor | None = cursor
        read = CHUNK
        while at is not None:
            if read == _READ_FIRST:
                await self._check(sensor, at[0], end)
            at = await self._chunk(sensor, series, at, end)
            read += CHUNK

    async def _check(self, sensor: int, start: int, end: int) -> None:
        # Those at `start` itself may have been read; at one time there are few.
        if await self._engine.fetch(
            "measurements_reach",
            sensor=sensor,
            start=start + 1,
            end=end,
            rows=MAXIMUM_ROWS - _READ_FIRST,
        ):
            raise RangeTooLargeError(
                f"more than {MAXIMUM_ROWS:,} measurements: take a shorter range"
            )

    async def _chunk(self, sensor: int, series: Series, at: Cursor, end: int) -> Cursor | None:
        """Count in the next rows; return the position of the last, None if there are no more."""
        rows = await self._engine.fetch(
            "measurements_values",
            sensor=sensor,
            timestamp=at[0],
            fingerprint=at[1],
            until=end - 1,
            limit=CHUNK,
        )
        if len(rows) > _AT_ONCE:
            await asyncio.to_thread(series.count, rows)
        else:
            series.count(rows)
        return (rows[-1][0], rows[-1][1]) if len(rows) == CHUNK else None
