"""Aggregates of measurements: from rollups as far as they hold, from the rows themselves else.

Rows are read in chunks, each a short query, and decoded beside the event loop: SQLite's own
functions for JSON take two thirds of the time, but neither engine's tell what a key with a
quotation mark holds, or keep whole numbers of 64 bits whole.
"""

import asyncio
import importlib
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import msgspec

from heliograph.model.aggregation import Aggregate, aggregate
from heliograph.model.attributes import column, columns, keys_of
from heliograph.model.time import DAY, HOUR
from heliograph.rollups.plan import RollupPlan, Span, Standing, joined, plan
from heliograph.rollups.rollup import HOURS, MINUTES, SLOT, SPAN
from heliograph.rollups.value_chunks import LONGEST, value_chunks
from heliograph.store.engine import Engine, Row
from heliograph.store.measurements import RangeTooLargeError, RawRead, RawReads
from heliograph.store.pages import LEAST, Cursor

if TYPE_CHECKING:
    from heliograph.rollups.folding import PackedRollups

MAXIMUM_VALUES = 100_000
# Imported when it is needed: that takes some tenths of a second.
FOLDING = "heliograph.rollups.folding"

# Rows a query: decoding them holds the interpreter for a few milliseconds.
CHUNK = 4_000
# Fewer bytes are counted faster than handed to a thread.
_AT_ONCE = 16 << 10
# Spans of raw rows that are read by one query, if they hold less than a chunk.
_SPANS = 128
# Rollups a query: first so many, then as many as have about so many bytes.
_FIRST_ROLLUPS = 32
_MOST_ROLLUPS = 1_024
_ROLLUP_BYTES = 2 << 20

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder().encode

P = ParamSpec("P")
T = TypeVar("T")


class Series:
    """Aggregates by attribute and bucket, and how many rows each bucket has.

    Parts of the range may be counted in any order, as long as none lies within another.
    """

    def __init__(self, starts: Sequence[int], names: Sequence[str] | None) -> None:
        """Count into buckets from `starts`, whose last is an end; without names all attributes."""
        self.rows = [0] * max(len(starts) - 1, 0)
        self.attributes: dict[str, dict[int, Aggregate]] = {name: {} for name in names or ()}
        self.values = 0
        self._starts = starts
        self._keys = None if names is None else {name: keys_of(name) for name in names}

    def count(self, rows: Sequence[Row], spans: Sequence[Span]) -> None:
        """Count in rows of (timestamp, fingerprint, value), in their order, of these spans.

        Raises:
            RangeTooLargeError: there are more than `MAXIMUM_VALUES`.
        """
        times = [row[0] for row in rows]
        documents = _decode("[" + ",".join([row[2] for row in rows]) + "]")
        # Span by span: what lies between two of them is of neither's time.
        for first, last, bucket in self._cut(times, spans):
            self._count(bucket, documents[first:last], times[last - 1])

    def count_rollups(
        self,
        level: int,
        rollups: Sequence[tuple[int, bytes]],
        spans: Sequence[Span],
        raw_from: int = LEAST,
    ) -> list[Span]:
        """Count in what rollups (start, packed) of the level hold of these spans.

        Both ascend. Returns the parts of the spans whose rollups do not hold all that was asked
        for: of those nothing is counted, but for what is before `raw_from`, where there is
        nothing else.

        Raises:
            RangeTooLargeError: there are more than `MAXIMUM_VALUES`.
        """
        folding = importlib.import_module(FOLDING)
        found: PackedRollups = folding.PackedRollups(SLOT[level], rollups, self._keys, raw_from)
        lacking = [
            span
            for start in found.incomplete
            for span in _common(spans, (start, start + SPAN[level]))
        ]
        times = found.times
        if times:
            # Of many spans those alone that these rollups are of.
            spans = [span for span in spans if span[1] > times[0] and span[0] <= times[-1]]
        cut = self._cut(times, spans)
        if not cut:
            return lacking
        segments = folding.Segments(cut)
        for bucket, rows in zip(segments.buckets, found.rows(segments), strict=True):
            self.rows[bucket] += rows
        for name, known in found.attributes(segments, lambda own: self._cut(own, spans)):
            self._add(name, known)
        return lacking

    def finish(self) -> None:
        """Put the buckets in order."""
        for name, buckets in self.attributes.items():
            order = list(buckets)
            if any(map(int.__gt__, order, order[1:])):
                self.attributes[name] = {bucket: buckets[bucket] for bucket in sorted(order)}

    def _cut(self, times: Sequence[int], spans: Sequence[Span]) -> list[tuple[int, int, int]]:
        """Return which positions of `times` within the spans are of which bucket."""
        starts = self._starts
        cut: list[tuple[int, int, int]] = []
        first = 0
        for start, end in spans:
            first = bisect_left(times, start, first)
            after = bisect_left(times, end, first)
            while first < after:
                bucket = bisect_right(starts, times[first]) - 1
                last = bisect_left(times, starts[bucket + 1], first, after)
                cut.append((first, last, bucket))
                first = last
        return cut

    def _count(self, bucket: int, documents: Sequence[object], at: int) -> None:
        self.rows[bucket] += len(documents)
        if self._keys is None:
            found = columns(documents)
        else:
            found = {name: column(documents, keys) for name, keys in self._keys.items()}
        for name, values in found.items():
            more = aggregate(values)
            if more is not None:
                more.at = at
                self._add(name, [(bucket, more)])

    def _add(self, name: str, found: Iterable[tuple[int, Aggregate]]) -> None:
        """Count in what is known of buckets."""
        buckets = self.attributes.setdefault(name, {})
        before = len(buckets)
        for bucket, more in found:
            known = buckets.get(bucket)
            if known is None:
                buckets[bucket] = more
            else:
                known.add(more)
        self.values += len(buckets) - before
        if self.values > MAXIMUM_VALUES:
            raise RangeTooLargeError(
                f"more than {MAXIMUM_VALUES:,} buckets of all attributes together:"
                " name fewer attributes, or take longer buckets"
            )


class Aggregates:
    """What sensors measured, many rows in one."""

    def __init__(self, engine: Engine, raw_reads: RawReads) -> None:
        self._engine = engine
        self._raw_reads = raw_reads

    async def oldest(self, sensor: int) -> int | None:
        """Return a time before which there is nothing of the sensor; None: there is nothing."""
        rows = await self._engine.fetch("aggregates_oldest", sensor=sensor)
        oldest: int | None = rows[0][0]
        return oldest

    async def standing(self, sensor: int) -> Standing:
        """Return what of the sensor is rolled up at this moment."""
        return _standing(await self._engine.fetch("rollup_standing", sensor=sensor))

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
            RangeTooLargeError: more than `MAXIMUM_RAW_ROWS`, or `MAXIMUM_VALUES`.
        """
        series = Series(starts, names)
        if not series.rows:
            return series
        start, end = max(start, starts[0]), min(end, starts[-1])
        if start >= end:
            return series
        standing = await self.standing(sensor)
        planned = plan(starts, start, end, standing)
        if planned.hours or planned.minutes:
            raw = await self._count_rollups(sensor, series, planned, standing)
        else:
            raw = planned.raw
        async with self._raw_reads.begin(sensor) as read:
            await _Rows(self._engine, read, series).count(raw)
        series.finish()
        return series

    async def _count_rollups(
        self, sensor: int, series: Series, planned: RollupPlan, standing: Standing
    ) -> list[Span]:
        """Count in what rollups hold; return what is to be counted from rows."""
        if FOLDING not in sys.modules:
            await asyncio.to_thread(importlib.import_module, FOLDING)
        raw_from = LEAST if standing.raw_from is None else standing.raw_from
        lacking = await self._count_days(sensor, series, planned.hours)
        # Where there are no rows any more an hour's own rollup may still hold what its day's lacks.
        gone = [(first, min(last, raw_from)) for first, last in lacking if first < raw_from]
        minutes = joined([*planned.minutes, *gone])
        lacking += await self._count_hours(sensor, series, minutes, raw_from)
        if not lacking:
            return planned.raw
        again = [(max(first, raw_from), last) for first, last in lacking if last > raw_from]
        return joined([*planned.raw, *again])

    async def _count_days(self, sensor: int, series: Series, spans: Sequence[Span]) -> list[Span]:
        """Count in what days hold by the hour; return what they lack."""
        lacking: list[Span] = []
        size = _FIRST_ROLLUPS
        at, end = (spans[0][0] - spans[0][0] % DAY, spans[-1][1]) if spans else (0, 0)
        while at < end:
            rows = await self._engine.fetch(
                "rollup_days", sensor=sensor, start=at, end=end, limit=size
            )
            if rows:
                days = [(row[0], row[1]) for row in rows]
                lacking += await _beside(_size(days, 1), series.count_rollups, HOURS, days, spans)
            if len(rows) < size:
                break
            at = rows[-1][0] + DAY
            size = _next_size(rows)
        return lacking

    async def _count_hours(
        self, sensor: int, series: Series, spans: Sequence[Span], raw_from: int
    ) -> list[Span]:
        """Count in what hours hold by the minute; return what they lack from `raw_from` on."""
        lacking: list[Span] = []
        hours = [hour for first, last in spans for hour in range(first - first % HOUR, last, HOUR)]
        hours = list(dict.fromkeys(hours))
        size = _FIRST_ROLLUPS
        while hours:
            keys = [(sensor, MINUTES, hour) for hour in hours[:size]]
            rows = await self._engine.fetch("rollups_find", keys=_encode(keys).decode())
            found = sorted((row[2], row[3]) for row in rows)
            lacking += await _beside(
                _size(found, 1), series.count_rollups, MINUTES, found, spans, raw_from
            )
            hours = hours[size:]
            size = _next_size(found)
        return lacking


class _Rows:
    """Counts in raw rows of spans of time."""

    def __init__(self, engine: Engine, read: RawRead, series: Series) -> None:
        self._engine = engine
        self._read = read
        self._series = series

    async def count(self, spans: Sequence[Span]) -> None:
        """Count in the rows of the spans, ascending."""
        if len(spans) > 1:
            await self._count_together(spans)
        elif spans:
            await self._count_one(spans[0])

    async def _count_one(self, span: Span) -> None:
        async for rows in value_chunks(self._engine, self._read.sensor, *span, CHUNK):
            await self._read.note(len(rows))
            await self._add(rows, [(rows[0][0], span[1])])
            await self._read.check(rows[-1][0], span[1])

    async def _count_together(self, spans: Sequence[Span]) -> None:
        """Read several spans by one query as long as they hold less than a chunk."""
        for at in range(0, len(spans), _SPANS):
            group = spans[at : at + _SPANS]
            wanted = [(self._read.sensor, start, end) for start, end in group]
            rows = await self._engine.fetch(
                "measurements_spans",
                spans=_encode(wanted).decode(),
                limit=CHUNK,
                longest=LONGEST,
            )
            if len(rows) < CHUNK and all(row[2] is not None for row in rows):
                await self._read.note(len(rows))
                await self._add(sorted(rows, key=_position), group)
            elif len(group) == 1:
                await self._count_one(group[0])
            else:
                middle = len(group) // 2
                await self._count_together(group[:middle])
                await self._count_together(group[middle:])

    async def _add(self, rows: Sequence[Row], spans: Sequence[Span]) -> None:
        await _beside(_size(rows, 2), self._series.count, rows, spans)


def _standing(rows: Sequence[Row]) -> Standing:
    """Return what the rows say of a sensor."""
    frontier, raw_from = 0, None
    dirty: list[Span] = []
    for what, first, last in rows:
        if what == "frontier":
            frontier = first
        elif what == "floor":
            raw_from = first
        else:
            dirty.append((first, last))
    return Standing(frontier, joined(dirty), raw_from)


def _position(row: Row) -> Cursor:
    return row[0], row[1]


def _next_size(rollups: Sequence[Row]) -> int:
    """Return how many rollups to read next, by the size of these."""
    size = _size(rollups, -1) // max(len(rollups), 1)
    return max(1, min(_ROLLUP_BYTES // max(size, 1), _MOST_ROLLUPS))


def _size(rows: Sequence[Row], member: int) -> int:
    """Return how large this member of all rows is together, by far the largest of theirs."""
    return sum([len(row[member]) for row in rows])


async def _beside(size: int, function: Callable[P, T], *arguments: P.args, **others: P.kwargs) -> T:
    """Run the function, on so many bytes, beside the event loop unless that costs more."""
    if size > _AT_ONCE:
        return await asyncio.to_thread(function, *arguments, **others)
    return function(*arguments, **others)


def _common(spans: Sequence[Span], other: Span) -> list[Span]:
    """Return what of the spans, apart, is in another."""
    return [
        (max(start, other[0]), min(end, other[1]))
        for start, end in spans
        if start < other[1] and other[0] < end
    ]
