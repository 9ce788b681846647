"""The rows of an attribute that a chart needs, out of as many as there are.

Rows are read in chunks, as for aggregates, but packed into one row by the database: that takes
half the time, and the interpreter is free meanwhile.
"""

import asyncio
import functools
from collections.abc import Sequence
from contextlib import aclosing
from operator import itemgetter
from typing import Any, TypeAlias

import msgspec

from heliograph.model.aggregation import NUMERIC
from heliograph.model.attributes import WHOLE, keys_of, value_at
from heliograph.model.canonical import canonical
from heliograph.model.records import Measurement
from heliograph.packed.chunk import PackedRows
from heliograph.store.chunks import ChangedMeanwhileError, Chunks, chosen_rows
from heliograph.store.downsampling import Curve, Point
from heliograph.store.engine import Engine, Row
from heliograph.store.measurements import (
    Measurements,
    RawRead,
    RawReads,
    having,
    measurements_of,
)
from heliograph.store.packed_points import PackedPoints
from heliograph.store.pages import FEW, GREATEST, LEAST, Cursor, longest_of
from heliograph.store.pages import position as key_of
from heliograph.store.stretches import Stretches

MOST_POINTS = 5_000
FEWEST_POINTS = 3

# Rows a query: decoding them holds the interpreter for a few milliseconds.
CHUNK = 8_000
_FIRST_CHUNK = 64
# What a chunk should come to: large values make for fewer rows.
_CHUNK_BYTES = 1 << 20
# What no chunk is larger than, in characters, but one of few rows.
LARGEST_CHUNK = 8 << 20

# A point, and its place among them all.
_Place: TypeAlias = tuple[int, Point]

_decode = msgspec.json.decode
_integers = msgspec.json.Decoder(list[int]).decode


class Points:
    """What sensors measured, in as many points as a chart shows."""

    def __init__(
        self, engine: Engine, raw_reads: RawReads, measurements: Measurements, chunks: Chunks
    ) -> None:
        self._engine = engine
        self._chunks = chunks
        self._raw_reads = raw_reads
        self._measurements = measurements

    async def pick(
        self, sensor: int, name: str, *, start: int, end: int, count: int
    ) -> list[Measurement]:
        """Return up to `count` of the rows where the attribute is a number, oldest first.

        Each with that attribute alone.

        From `start` (inclusive) to `end` (exclusive), the first and the last among them, and
        between them those that show the shape best. `count` is at least `FEWEST_POINTS`.

        Raises:
            RangeTooLargeError: more than `MAXIMUM_RAW_ROWS`.
        """
        if end <= start:
            return []
        while True:
            try:
                points = await self._picked(sensor, name, start, end, count)
                keys = [(point.timestamp, point.fingerprint) for point in points if not point.chunk]
                rows = await self._measurements.named(sensor, keys, having([name]))
                if len(keys) == len(points):
                    return rows
                packed: dict[int, list[_Place]] = {}
                places: dict[Cursor, int] = {}
                for place, point in enumerate(points):
                    if point.chunk:
                        packed.setdefault(point.chunk, []).append((place, point))
                    else:
                        places[point.timestamp, point.fingerprint] = place
                found = await self._chunks.chosen(packed, _Chosen(name).of)
            except ChangedMeanwhileError:
                # They have been packed anew since: elsewhere by now.
                continue
            found += [(places[key_of(row)], row) for row in rows]
            return [row for _, row in sorted(found, key=itemgetter(0))]

    async def _picked(
        self, sensor: int, name: str, start: int, end: int, count: int
    ) -> list[Point]:
        """Return the points that show the shape best, as `Curve.pick` does."""
        curve, attribute = Curve(), _Attribute(name)
        at: Cursor = start, LEAST
        async with self._raw_reads.begin(sensor) as read:
            while at[0] < end - 1 or at[1] < GREATEST:
                behind = await self._read_into(curve, attribute, read, at, end)
                if behind is None:
                    break
                packed = PackedPoints(curve, name, attribute.add_rows)
                at = await self._read_packed_into(packed, read, behind, end, count)
        return await asyncio.to_thread(curve.pick, count)

    async def _read_into(
        self, curve: Curve, attribute: "_Attribute", read: RawRead, at: Cursor, end: int
    ) -> Cursor | None:
        """Read rows into the curve: a chunk is found while the one before is decoded.

        Return the position behind which rows are packed; None: there are none.
        """
        loop = asyncio.get_running_loop()
        limit = _FIRST_CHUNK
        limit, chunk = await self._chunk(read.sensor, at, end, limit)
        while chunk[0] or chunk[5]:
            if chunk[5]:
                return at
            decoding = loop.run_in_executor(None, attribute.add, curve, chunk)
            try:
                if chunk[0] < limit:
                    return None
                at = _last(chunk[1]), _last(chunk[2])
                await read.note(chunk[0])
                await read.check(at[0], end)
                limit = max(1, min(CHUNK, limit * 4, _CHUNK_BYTES * chunk[0] // len(chunk[3])))
                limit, chunk = await self._chunk(read.sensor, at, end, limit)
            finally:
                await decoding
        return None

    async def _read_packed_into(
        self, points: PackedPoints, read: RawRead, at: Cursor, end: int, count: int
    ) -> Cursor:
        """Read chunks, and rows among them, into the curve; return the position behind them."""
        [(chunks, rows, last)] = await self._engine.fetch(
            "chunk_totals",
            sensor=read.sensor,
            timestamp=at[0],
            fingerprint=at[1],
            until=end - 1,
        )
        if not chunks:
            return at
        points.thin(chunks, rows, count)
        stretches = Stretches(self._engine, self._chunks, read.sensor, points.needed)
        between = stretches.between(at, min(last + 1, end))
        async with aclosing(between):
            async for stretch, opened in between:
                await read.note(len(stretch.rows), len(opened))
                stretches.tell(await asyncio.to_thread(points.add, stretch, opened))
                at = stretch.through
        if points.unread is not None:
            whole = await self._chunks.opened(points.unread)
            if whole is not None:
                await asyncio.to_thread(points.add_last, points.unread, whole)
        return at

    async def _chunk(self, sensor: int, at: Cursor, end: int, limit: int) -> tuple[int, Row]:
        """Return how many rows follow of how many, their timestamps, fingerprints and values.

        Of fewer than `limit` if one is too large to be read with so many others.
        """
        while True:
            longest = longest_of(limit, LARGEST_CHUNK)
            rows = await self._engine.fetch(
                "measurements_packed",
                sensor=sensor,
                timestamp=at[0],
                fingerprint=at[1],
                until=end - 1,
                limit=limit,
                longest=longest,
            )
            if (rows[0][4] or 0) <= longest:
                return limit, rows[0]
            limit = max(FEW, limit // 16)


class _Chosen:
    """Makes measurements of points in chunks, each with the attribute alone."""

    def __init__(self, name: str) -> None:
        self._select = having([name])
        self._is_whole = keys_of(name) == WHOLE
        self._before = b"".join([b"{%b:" % canonical(key) for key in keys_of(name)])
        self._after = b"}" * len(keys_of(name))

    def of(self, packed: PackedRows, points: Sequence[_Place]) -> list[tuple[int, Measurement]]:
        """Return those of a chunk, by their places among all points.

        Their fingerprints are left 0, as no chart shows them: they would have to be made of all
        attributes' values.
        """
        places, chosen = zip(*points, strict=True)
        positions = [point.fingerprint for point in chosen]
        if packed.is_columns_alone and all(point.number is not None for point in chosen):
            times = [point.timestamp for point in chosen]
            rows = [
                Measurement(row_id, time, 0, receipt, revision, self._value(packed, point))
                for (row_id, time, receipt, revision), point in zip(
                    packed.frames_at(positions, times), chosen, strict=True
                )
            ]
            return list(zip(places, rows, strict=True))
        rows = measurements_of(chosen_rows(packed, positions))
        return [
            (place, kept)
            for place, row in zip(places, rows, strict=True)
            if (kept := self._select(row)) is not None
        ]

    def _value(self, packed: PackedRows, point: Point) -> msgspec.Raw:
        text = canonical(point.number)
        if self._is_whole and packed.is_bare(point.fingerprint):
            return msgspec.Raw(text)
        return msgspec.Raw(self._before + text + self._after)


class _Attribute:
    """An attribute's numbers in packed rows."""

    def __init__(self, name: str) -> None:
        self._keys = keys_of(name)
        self._decoder = _decoder(self._keys)

    def add(self, curve: Curve, chunk: Row) -> None:
        """Add the numbers of a chunk to the curve."""
        _, timestamps, fingerprints, values, *_ = chunk
        curve.add(
            _integers(f"[{timestamps}]"),
            _integers(f"[{fingerprints}]"),
            self._numbers(f"[{values}]"),
        )

    def add_rows(self, curve: Curve, rows: Sequence[Row]) -> None:
        """Add the numbers of rows of (timestamp, fingerprint, value, …)."""
        timestamps, fingerprints, values = zip(*[row[:3] for row in rows], strict=True)
        curve.add(timestamps, fingerprints, self._numbers(f"[{','.join(values)}]"))

    def _numbers(self, text: str) -> Sequence[float | None]:
        if self._decoder is not None:
            try:
                found = self._decoder.decode(text)
            except msgspec.ValidationError:
                # Some of them are no numbers, or no objects.
                pass
            else:
                for _ in self._keys:
                    found = [None if row is None else row.member for row in found]
                return found
        return [_number(value_at(document, self._keys)) for document in _decode(text)]


def _number(value: Any) -> float | None:
    return float(value) if type(value) in NUMERIC else None


@functools.lru_cache(maxsize=256)
def _decoder(keys: tuple[str, ...]) -> msgspec.json.Decoder[list[Any]] | None:
    """Return what decodes that attribute alone, where all values have it as a number or not."""
    if keys == WHOLE:
        return None
    kind: Any = float | None
    try:
        for key in reversed(keys):
            kind = msgspec.defstruct(
                "Value", [("member", kind, None)], rename={"member": key}, gc=False
            )
            kind = kind | None
    except ValueError:
        # A key with a quotation mark, a backslash or a control character.
        return None
    return msgspec.json.Decoder(list[kind])


def _last(packed: str) -> int:
    return int(packed[packed.rfind(",") + 1 :])
