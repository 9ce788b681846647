"""Aggregates of measurements: from rollups as far as they hold, from the rows themselves else.

Rows are read in chunks, each a short query, and decoded beside the event loop: SQLite's own
functions for JSON take two thirds of the time, but neither engine's tell what a key with a
quotation mark holds, or keep whole numbers of 64 bits whole.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from operator import itemgetter
from typing import ParamSpec, TypeVar

import msgspec

from heliograph.model.aggregation import Aggregate, aggregate
from heliograph.model.attributes import column, columns, keys_of
from heliograph.model.time import now
from heliograph.packed.chunk import PackedRows
from heliograph.packed.head import ChunkHead, DamagedChunkError
from heliograph.rollups.folding import PackedRollups, Segments
from heliograph.rollups.plan import Span, Standing, joined, plan
from heliograph.rollups.rollup import HOURS, MINUTES, SLOT, SPAN
from heliograph.store.chunks import Chunks
from heliograph.store.engine import Engine, Row
from heliograph.store.measurements import RangeTooLargeError, RawRead, RawReads
from heliograph.store.pages import GREATEST, LEAST
from heliograph.store.stretches import Damaged, HeadedChunk, Stretch, Stretches

MAXIMUM_VALUES = 100_000

# Fewer bytes are counted faster than handed to a thread.
_AT_ONCE = 16 << 10
# What a chunk comes to beside them.
_CHUNK_SIZE = 4 << 10
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
        self.starts = starts
        self.rows = [0] * max(len(starts) - 1, 0)
        self.attributes: dict[str, dict[int, Aggregate]] = {}
        self.values = 0
        self.names = names
        for name in names or ():
            self.attributes[name] = {}

    def count(self, rows: Sequence[Row], spans: Sequence[Span]) -> None:
        """Count in rows of (timestamp, fingerprint, value), in their order, of these spans.

        Raises:
            RangeTooLargeError: there are more than `MAXIMUM_VALUES`.
        """
        times = list(map(itemgetter(0), rows))
        documents = _decode(f"[{','.join(map(itemgetter(2), rows))}]")
        # Span by span: what lies between two of them is of neither's time.
        for first, last, bucket in self._cut(times, spans):
            self.rows[bucket] += last - first
            part = documents[first:last]
            if self.names is None:
                found = columns(part)
            else:
                found = {name: column(part, keys_of(name)) for name in self.names}
            for name, values in found.items():
                if (known := aggregate(values)) is not None:
                    known.at = times[last - 1]
                    self._add(name, [(bucket, known)])

    def count_stretch(
        self, stretch: Stretch, opened: Mapping[int, PackedRows], spans: Sequence[Span]
    ) -> Damaged:
        """Count in what of a stretch is of these spans; return chunks that are damaged.

        Raises:
            RangeTooLargeError: there are more than `MAXIMUM_VALUES`.
        """
        damaged: Damaged = []
        for part in stretch.parts(opened, damaged):
            if part.packed is None or part.chunk is None:
                self.count(part.rows, spans)
                continue
            try:
                self._count_packed(part.packed, part.first, part.last, spans)
            except DamagedChunkError as error:
                damaged.append((part.chunk, error))
        return damaged

    def _count_packed(
        self, packed: PackedRows, first: int, last: int, spans: Sequence[Span]
    ) -> None:
        """Count in the rows of a chunk from one position to before another."""
        moments, buckets = self._edges(packed.head, spans)
        places = packed.positions(moments) if moments else []
        cut: list[Span] = []
        in_order: list[int] = []
        # Which part of a bucket is the later is told by the bucket's end as well as by the time of
        # the last row, which would have to be read.
        ats: list[int] = []
        start, newest = first, packed.head.last
        for place, bucket, moment in zip(
            [*places, last], buckets, [*moments, newest + 1], strict=True
        ):
            end = min(max(place, first), last)
            if start < end and bucket >= 0:
                cut.append((start, end))
                in_order.append(bucket)
                self.rows[bucket] += end - start
                ats.append(moment - 1)
            start = max(start, end)
        if not cut:
            return
        if cut[-1][1] == last < len(packed):
            # A row that came late goes on in the bucket.
            ats[-1] = packed.times_at([last - 1])[0]
        for name, known in packed.aggregates(cut, self.names, ats).items():
            self._add(
                name,
                [
                    (bucket, each)
                    for bucket, each in zip(in_order, known, strict=True)
                    if each is not None
                ],
            )

    def is_in_one(self, head: ChunkHead, spans: Sequence[Span]) -> bool:
        """Return whether a chunk lies within one span and one bucket."""
        return not self._edges(head, spans)[0]

    def _edges(self, head: ChunkHead, spans: Sequence[Span]) -> tuple[Sequence[int], Sequence[int]]:
        """Return where in a chunk's time a span or a bucket begins or ends, ascending.

        And which bucket it is of before each of these moments, and behind the last: -1 is none.
        """
        starts = self.starts
        at = head.first
        place = bisect_right(spans, at, key=itemgetter(1)) if len(spans) > 1 else 0
        if place < len(spans) and spans[place][0] <= at and head.last < spans[place][1]:
            # As nearly always: all of it is asked for.
            inner = bisect_right(starts, at)
            until = bisect_left(starts, head.last + 1, inner)
            return starts[inner:until], range(inner - 1, until)
        moments: list[int] = []
        buckets: list[int] = []
        for start, end in spans[place:]:
            if start > head.last:
                break
            if start > at:
                moments.append(start)
                buckets.append(-1)
                at = start
            inner = bisect_right(starts, at)
            until = bisect_left(starts, min(end, head.last + 1), inner)
            moments += starts[inner:until]
            buckets += range(inner - 1, until)
            at = end
            if end > head.last:
                break
            moments.append(end)
        if len(buckets) == len(moments):
            buckets.append(-1)
        return moments, buckets

    def count_rollups(
        self,
        level: int,
        rollups: Sequence[Row],
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
        found = PackedRollups(SLOT[level], rollups, self.names, raw_from)
        lacking = [
            part
            for start in found.incomplete
            for part in _within(spans, start, start + SPAN[level])
        ]
        times = found.times
        if times:
            # Of many spans those alone that these rollups are of.
            spans = [span for span in spans if span[1] > times[0] and span[0] <= times[-1]]
        cut = self._cut(times, spans)
        if not cut:
            return lacking
        segments = Segments(cut)
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
        starts = self.starts
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

    def __init__(self, engine: Engine, raw_reads: RawReads, chunks: Chunks) -> None:
        self._engine = engine
        self._raw_reads = raw_reads
        self._chunks = chunks

    async def oldest(self, sensor: int) -> int | None:
        """Return a time before which there is nothing of the sensor; None: there is nothing."""
        rows = await self._engine.fetch("aggregates_oldest", sensor=sensor)
        oldest: int | None = rows[0][0]
        return oldest

    async def standing(self, sensor: int) -> Standing:
        """Return what of the sensor there is, and is rolled up, at this moment."""
        frontier, raw_from, newest, packed = 0, None, None, None
        dirty: list[Span] = []
        for what, first, last in await self._engine.fetch(
            "rollup_standing", sensor=sensor, now=now()
        ):
            if what == "frontier":
                frontier = first
            elif what == "floor":
                raw_from = first
            elif what == "newest":
                newest = first
            elif what == "packed":
                packed = None if first is None else (first, last)
            else:
                dirty.append((first, last))
        return Standing(frontier, dirty, raw_from, newest, packed)

    async def read(
        self,
        sensor: int,
        starts: Sequence[int],
        names: Sequence[str] | None,
        *,
        start: int,
        end: int,
        standing: Standing | None = None,
    ) -> Series:
        """Return the aggregates of rows from `start` (inclusive) to `end` (exclusive).

        Buckets lie between `starts`, ascending, which cover the range. `standing` is the sensor's
        where it is known already.

        Raises:
            RangeTooLargeError: more than `MAXIMUM_RAW_ROWS`, or `MAXIMUM_VALUES`.
        """
        series = Series(starts, names)
        if starts:
            start, end = max(start, starts[0]), min(end, starts[-1])
        if not series.rows or start >= end:
            return series
        standing = standing or await self.standing(sensor)
        raw, minutes, hours = plan(starts, start, end, standing)
        raw_from = LEAST if standing.raw_from is None else standing.raw_from
        if lacking := await self._count_rollups(sensor, series, HOURS, hours):
            # Where there are no rows any more an hour's own may still hold what its day's lacks.
            minutes = joined([*minutes, *_within(lacking, LEAST, raw_from)])
        lacking += await self._count_rollups(sensor, series, MINUTES, minutes, raw_from)
        if lacking:
            raw = joined([*raw, *_within(lacking, raw_from, GREATEST)])
        async with self._raw_reads.begin(sensor) as read:
            for at in range(0, len(raw), _SPANS):
                await self._count_rows(read, series, raw[at : at + _SPANS])
        series.finish()
        return series

    async def _count_rollups(
        self,
        sensor: int,
        series: Series,
        level: int,
        spans: Sequence[Span],
        raw_from: int = LEAST,
    ) -> list[Span]:
        """Count in what rollups of the level hold of the spans; return what they lack."""
        lacking: list[Span] = []
        length = SPAN[level]
        keys = [
            (sensor, level, start)
            for first, end in spans
            for start in range(first - first % length, end, length)
        ]
        keys = list(dict.fromkeys(keys))
        limit = _FIRST_ROLLUPS
        while keys:
            rows = await self._engine.fetch("rollups_find", keys=_encode(keys[:limit]).decode())
            keys = keys[limit:]
            limit = _MOST_ROLLUPS
            if rows:
                size = sum(map(len, map(itemgetter(1), rows)))
                limit = max(1, min(limit, _ROLLUP_BYTES * len(rows) // size))
                found = sorted(rows, key=itemgetter(0))
                lacking += await _run(size, series.count_rollups, level, found, spans, raw_from)
        return lacking

    async def _count_rows(self, read: RawRead, series: Series, spans: Sequence[Span]) -> None:
        """Count in rows and chunks."""

        def needed(stretch: Stretch, chunk: HeadedChunk) -> int:
            if not stretch.is_whole(chunk):
                # Fingerprints tell which of its rows come first.
                return chunk.head.length
            if series.is_in_one(chunk.head, spans):
                return chunk.head.needed_whole()
            return chunk.head.needed(series.names)

        stretches = Stretches(self._engine, self._chunks, read.sensor, needed)
        async with aclosing(stretches.of(spans)) as found:
            async for among, stretch, opened in found:
                rows = stretch.rows
                await read.note(len(rows), len(opened))
                size = sum(map(len, map(itemgetter(2), rows))) + len(opened) * _CHUNK_SIZE
                if not opened:
                    await _run(size, series.count, rows, among)
                elif damaged := await _run(size, series.count_stretch, stretch, opened, among):
                    stretches.tell(damaged)
                if rows and len(spans) == 1:
                    await read.check(rows[-1][0], spans[0][1])


async def _run(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run the function, on so many bytes, beside the event loop unless that costs more."""
    if size > _AT_ONCE:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


def _within(spans: Iterable[Span], start: int, end: int) -> list[Span]:
    """Return what of the spans is between the two."""
    return [
        (max(first, start), min(last, end)) for first, last in spans if first < end and start < last
    ]
