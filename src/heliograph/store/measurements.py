"""Measurements: pages, the newest value of each attribute, and who reads many of them at a time."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import msgspec

from heliograph.long_work import LongWork
from heliograph.model.attributes import MISSING, WHOLE, keys_of, member_text, value_at
from heliograph.model.records import Attribute, Measurement
from heliograph.model.time import now
from heliograph.store.chunks import Chunks
from heliograph.store.engine import Engine, Row, json_text
from heliograph.store.pages import (
    ANY_SIZE,
    CHUNK_SIZE,
    FEW,
    ROWS_AT_ONCE,
    Cursor,
    Hold,
    Page,
    Pages,
    Selection,
    hold_any,
    longest_of,
    position,
    row_chunks,
    row_position,
)

# Rows looked through, backwards from the newest, for attributes that it doesn't carry, and what
# their values come to in bytes; what is silent for longer is searched for by name.
LOOKED_THROUGH = 10_000
LOOKED_THROUGH_BYTES = 64 << 20
# What the rows beside the newest come to, in bytes, of which values are taken; what is silent for
# longer is then left out.
LARGEST_LATEST = 4 << 20
# Rows fetched at first when an attribute is searched for; nearly always it is in one of them.
CANDIDATES = 16
# Of so many sensors at once that many are looked at.
SENSORS_AT_ONCE = 64

# Which column of a page's rows tells whether there are packed ones too.
_CHUNK = 5

MAXIMUM_RAW_ROWS = 3_000_000
# From so many rows on a read is large: it waits for its turn, and those to come are counted, which
# takes about as long as reading so many.
LARGE_READ = 40_000
# To count a chunk takes as long as to count so many rows.
_ROWS_OF_CHUNK = 40
# Large reads that run at the same time: others need the connections too.
LARGE_READS_AT_ONCE = 2

T = TypeVar("T")

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder().encode
_Raw = msgspec.Raw


def measurements_of(rows: Sequence[Row]) -> list[Measurement]:
    """Return the measurements that a page's rows are."""
    return [
        Measurement(row_id, timestamp, fingerprint, receipt, revision, _Raw(value))
        for row_id, timestamp, fingerprint, receipt, revision, *_, value, _ in rows
    ]


def _sizes(rows: Sequence[Row]) -> list[int]:
    return [
        len(value) if value.isascii() else len(value.encode())
        for value in map(itemgetter(-2), rows)
    ]


def having(names: Sequence[str]) -> Selection[Measurement]:
    """Return what takes the measurements that have one of the attributes, and of each only those.

    Objects keep their shape. A value that is not an object has the attribute `value`.
    """
    wanted = [(keys, member_text(keys).encode()) for keys in map(keys_of, dict.fromkeys(names))]
    whole = any(keys == WHOLE for keys, _ in wanted)

    def select(row: Measurement) -> Measurement | None:
        text = bytes(row.value)
        if text[:1] != b"{":
            return row if whole else None
        likely = [keys for keys, member in wanted if member in text]
        if not likely:
            return None
        document = _decode(text)
        reduced: dict[str, Any] = {}
        for keys in likely:
            value = value_at(document, keys)
            if value is not MISSING:
                node = reduced
                for key in keys[:-1]:
                    node = node.setdefault(key, {})
                node[keys[-1]] = value
        return msgspec.structs.replace(row, value=_Raw(_encode(reduced))) if reduced else None

    return select


class SensorActivity(NamedTuple):
    """How many measurements a sensor has in each interval; those without any are left out."""

    identifier: str
    sensor_name: str | None
    buckets: list[int]
    counts: list[int]


class Measurements(Pages[Measurement]):
    """What sensors measured."""

    def __init__(self, engine: Engine, chunks: Chunks) -> None:
        super().__init__(engine, "measurements", measurements_of, _sizes)
        self._chunks = chunks

    async def _fetch(
        self, sensor: int, forward: bool, bound: int, at: Cursor, limit: int, longest: int
    ) -> Sequence[Row]:
        rows = await super()._fetch(sensor, forward, bound, at, limit, longest)
        if rows and rows[0][_CHUNK] is None:
            return rows

        async def fetch(at: Cursor, limit: int, longest: int) -> Sequence[Row]:
            return await self._engine.fetch(
                "measurements_after_packed" if forward else "measurements_before_packed",
                sensor=sensor,
                timestamp=at[0],
                fingerprint=at[1],
                limit=limit,
                longest=longest,
                **{"until" if forward else "since": bound},
            )

        # What has become packed since is read anew: rows and chunks are as of one moment.
        return await self._chunks.merged(fetch, at, bound, limit, longest, forward=forward)

    async def history(
        self,
        sensor: int,
        *,
        start: int,
        end: int,
        limit: int,
        cursor: Cursor | None = None,
        newer: bool = False,
        select: Selection[Measurement] | None = None,
        hold: Hold = hold_any,
    ) -> Page[Measurement]:
        """Return the newest first, `start` inclusive, `end` exclusive, from the cursor on."""
        page = await self.between(
            sensor,
            start=start,
            end=end,
            cursor=cursor,
            forward=newer,
            limit=limit,
            select=select,
            hold=hold,
        )
        if newer:
            page.reverse()
        return page

    async def named(
        self, sensor: int, keys: Sequence[Cursor], select: Selection[Measurement]
    ) -> list[Measurement]:
        """Return what is taken of those with these keys, oldest first; some may be gone by now."""
        found: list[Measurement] = []
        seen: set[Cursor] = set()
        work = LongWork()

        async def fetch(wanted: Sequence[Cursor], longest: int) -> Sequence[Row]:
            text = json_text(wanted)
            return await self._engine.fetch(
                "measurements_named", sensor=sensor, keys=text, longest=longest
            )

        async for rows in _in_parts(keys, fetch, row_position):
            for row in measurements_of(rows):
                seen.add(position(row))
                kept = select(row)
                if kept is not None:
                    found.append(kept)
                await work.pause()
        missing = set(keys).difference(seen)
        for row in measurements_of(await self._chunks.at(sensor, missing)) if missing else ():
            kept = select(row)
            if kept is not None:
                found.append(kept)
        return sorted(found, key=position)

    async def latest(self, sensor: int) -> list[Attribute]:
        """Return the newest value of each attribute that the sensor has ever measured, by name.

        Usually the newest row carries them all, and one query does it.
        """
        return (await self.latest_of([sensor])).get(sensor, [])

    async def latest_of(self, sensors: Sequence[int]) -> dict[int, Page[Attribute]]:
        """Return the same for each of the sensors that has measured anything.

        A page is `truncated` if further values would be too much.
        """
        searches: dict[int, _Search] = {}
        lacking: dict[int, Cursor] = {}
        async for sensor, names, newest in self._newest_of(sensors):
            searches[sensor] = search = _Search(names)
            search.look(newest)
            if search.missing:
                lacking[sensor] = position(newest)
        if len(lacking) > 1:
            await self._look_at_few({sensor: searches[sensor] for sensor in lacking})
        for sensor, cursor in lacking.items():
            if searches[sensor].missing:
                await self._look_further(sensor, searches[sensor], cursor)
        return {
            sensor: Page(
                sorted(search.found, key=lambda attribute: attribute.name),
                truncated=search.is_full,
            )
            for sensor, search in searches.items()
        }

    async def _newest_of(
        self, sensors: Sequence[int]
    ) -> AsyncGenerator[tuple[int, list[str], Measurement], None]:
        """Yield each sensor with the names of its attributes and its newest row, if it has one."""

        async def fetch(wanted: Sequence[int], longest: int) -> Sequence[Row]:
            text = json_text(wanted)
            return await self._engine.fetch(
                "measurements_newest", sensors=text, now=now(), longest=longest
            )

        async for rows in _in_parts(sensors, fetch, lambda row: row[0]):
            for sensor, names, *row in rows:
                yield sensor, _decode(names) if names else [], measurements_of([row])[0]

    async def _look_at_few(self, searches: "dict[int, _Search]") -> None:
        """Search a few of each sensor's newest rows, of many sensors at once."""
        work = LongWork()
        sensors = list(searches)
        for at in range(0, len(sensors), SENSORS_AT_ONCE):
            part = sensors[at : at + SENSORS_AT_ONCE]
            longest = longest_of(len(part) * CANDIDATES, CHUNK_SIZE)
            rows = await self._engine.fetch(
                "measurements_newest_few",
                sensors=json_text(part),
                now=now(),
                count=CANDIDATES,
                longest=longest,
            )
            # What is too large to be read here ends the search: older rows come after it.
            ended: set[int] = set()
            for sensor, *row in rows:
                if row[-1] > longest:
                    ended.add(sensor)
                elif sensor not in ended and searches[sensor].missing:
                    searches[sensor].look_closer(measurements_of([row])[0])
                    await work.pause()

    async def _look_further(self, sensor: int, search: "_Search", cursor: Cursor) -> None:
        """Search for what is missing in the rows before the cursor."""
        looked_at = size = 0
        work = LongWork()
        # Most often a device sends one part of its attributes and then the other.
        chunks = self.rows(sensor, cursor, forward=False, limit=LOOKED_THROUGH, first=CANDIDATES)
        async with aclosing(chunks):
            async for rows, sizes in chunks:
                for row in rows:
                    search.look_closer(row)
                    await work.pause()
                cursor = position(rows[-1])
                looked_at += len(rows)
                size += sum(sizes)
                if not search.missing or search.is_full:
                    return
                if size > LOOKED_THROUGH_BYTES:
                    break
            else:
                if looked_at < LOOKED_THROUGH:
                    return
        for keys in list(search.missing.values()):
            found = await self._newest_with(sensor, keys, cursor)
            if found is not None:
                search.look(found)
            if search.is_full:
                return

    async def _newest_with(
        self, sensor: int, keys: tuple[str, ...], cursor: Cursor
    ) -> Measurement | None:
        candidates = [await self._newest_containing(sensor, keys, cursor)]
        if keys == WHOLE:
            rows = await self._engine.fetch(
                "measurements_without_members",
                sensor=sensor,
                timestamp=cursor[0],
                fingerprint=cursor[1],
                limit=1,
                longest=ANY_SIZE,
            )
            candidates += measurements_of(rows)
        candidates += measurements_of(await self._chunks.newest_with(sensor, keys, cursor))
        return max((row for row in candidates if row), key=position, default=None)

    async def _newest_containing(
        self, sensor: int, keys: tuple[str, ...], cursor: Cursor
    ) -> Measurement | None:
        async def fetch(at: Cursor, limit: int, longest: int) -> Sequence[Row]:
            return await self._engine.fetch(
                "measurements_containing",
                sensor=sensor,
                timestamp=at[0],
                fingerprint=at[1],
                text=member_text(keys),
                limit=limit,
                longest=longest,
            )

        work = LongWork()
        chunks = row_chunks(
            fetch, cursor, row_position, size=CHUNK_SIZE, most=ROWS_AT_ONCE, first=CANDIDATES
        )
        async with aclosing(chunks):
            async for rows in chunks:
                for row in measurements_of(rows):
                    if value_at(_decode(row.value), keys) is not MISSING:
                        return row
                    await work.pause()
        return None

    async def activity(
        self, network: str, *, since: int, until: int, width: int, limit: int
    ) -> list[SensorActivity]:
        """Return how much a network's first `limit` sensors measured; times in microseconds.

        A bucket is named by its beginning, a multiple of `width`; `since` has to be one too.
        """
        sensors = await self._engine.fetch("activity_sensors", network=network, limit=limit)
        if not sensors:
            return []
        found = {
            number: SensorActivity(identifier, name, [], []) for number, identifier, name in sensors
        }
        rows = await self._engine.fetch(
            "activity_counts",
            network=network,
            first=sensors[0][0],
            last=sensors[-1][0],
            since=since,
            until=until,
            width=width,
        )
        counts: Counter[tuple[int, int]] = Counter()
        for sensor, begins, ends, count in rows:
            if ends is None:
                counts[sensor, begins] += count
                continue
            buckets = range(max(begins, since) // width, min(ends, until - 1) // width + 1)
            for bucket, spread in _spread(begins, ends, count, width, buckets):
                counts[sensor, bucket] += spread
        for (sensor, bucket), count in sorted(counts.items()):
            activity = found.get(sensor)
            if activity is not None and count:
                activity.buckets.append(bucket * width)
                activity.counts.append(count)
        return list(found.values())


def _spread(
    first: int, last: int, rows: int, width: int, buckets: range
) -> Iterator[tuple[int, int]]:
    """Yield about how many of a chunk's rows each of the buckets has: as if they were even."""
    span = max(last - first, 1)

    def before(moment: int) -> int:
        return min(max(moment - first, 0), span) * rows // span

    for bucket in buckets:
        yield bucket, before((bucket + 1) * width) - before(bucket * width)


async def _in_parts(
    wanted: Sequence[T],
    fetch: Callable[[Sequence[T], int], Awaitable[Sequence[Row]]],
    name: Callable[[Row], T],
) -> AsyncGenerator[Sequence[Row], None]:
    """Yield the rows that are wanted, in no order: large ones, left out at first, a few at a time.

    `name` tells which of those that are wanted a row is.
    """
    for at in range(0, len(wanted), ROWS_AT_ONCE):
        part = wanted[at : at + ROWS_AT_ONCE]
        longest = longest_of(len(part), CHUNK_SIZE)
        rows = await fetch(part, longest)
        large = [name(row) for row in rows if row[-1] > longest]
        yield [row for row in rows if row[-1] <= longest] if large else rows
        for place in range(0, len(large), FEW):
            yield await fetch(large[place : place + FEW], ANY_SIZE)


class _Search:
    """Which attributes are still looked for, and what was found of the others."""

    def __init__(self, names: list[str]) -> None:
        self.missing = {name: keys_of(name) for name in names}
        self.found: list[Attribute] = []
        self._size = 0
        self._texts: dict[str, bytes] = {}

    @property
    def is_full(self) -> bool:
        """Whether more would be too much of one sensor, and there is more."""
        return bool(self.missing) and self._size > LARGEST_LATEST

    def look(self, row: Measurement) -> None:
        """Take from the row what is still missing; rows come newest first."""
        document = _decode(row.value)
        missing: dict[str, tuple[str, ...]] = {}
        for name, keys in self.missing.items():
            value = value_at(document, keys)
            if value is MISSING:
                missing[name] = keys
            else:
                self.found.append(Attribute(name, row.timestamp, value, row.fingerprint))
        if len(missing) < len(self.missing):
            self._size += len(bytes(row.value))
        self.missing = missing

    def look_closer(self, row: Measurement) -> None:
        """Do the same, decoding only what may hold something missing."""
        if not self._texts:
            self._texts = {name: member_text(at).encode() for name, at in self.missing.items()}
        text = bytes(row.value)
        if any(
            self._texts[name] in text or (keys == WHOLE and text[:1] != b"{")
            for name, keys in self.missing.items()
        ):
            self.look(row)


class RangeTooLargeError(Exception):
    """What was asked for is more than one answer may take; the message says of what."""


class RawReads:
    """The reads of a database's raw rows; whatever they are for, the large ones take turns."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turns = asyncio.Semaphore(LARGE_READS_AT_ONCE)

    @asynccontextmanager
    async def begin(self, sensor: int) -> AsyncIterator["RawRead"]:
        """Begin to read rows of the sensor; a turn that was taken is given back at the end."""
        async with AsyncExitStack() as turn:
            yield RawRead(self._engine, sensor, self._turns, turn)


@dataclasses.dataclass(slots=True)
class RawRead:
    """One read: of one span of time or several, one after the other."""

    engine: Engine
    sensor: int
    turns: asyncio.Semaphore
    turn: AsyncExitStack
    rows: int = 0
    chunks: int = 0
    is_large: bool = False
    # The end of the span whose rest was counted.
    counted: int | None = None

    async def note(self, rows: int, chunks: int = 0) -> None:
        """Note that so many more were read; return when it is this read's turn to go on.

        Chunks take turns as rows do, but however many they are it is not too much.

        Raises:
            RangeTooLargeError: more than `MAXIMUM_RAW_ROWS`.
        """
        self.rows += rows
        self.chunks += chunks
        if self.rows > MAXIMUM_RAW_ROWS:
            raise _too_many()
        if self.rows + self.chunks * _ROWS_OF_CHUNK >= LARGE_READ and not self.is_large:
            await self.turn.enter_async_context(self.turns)
            self.is_large = True

    async def check(self, start: int, end: int) -> None:
        """See, once the read is large, that the rest of a span is not too much.

        Raises:
            RangeTooLargeError: it would come to more than `MAXIMUM_RAW_ROWS`.
        """
        if not self.is_large or self.counted == end:
            return
        # Those at `start` itself may have been read; at one time there are few.
        if await self.engine.fetch(
            "measurements_reach",
            sensor=self.sensor,
            start=start + 1,
            end=end,
            rows=MAXIMUM_RAW_ROWS - self.rows,
        ):
            raise _too_many()
        self.counted = end


def _too_many() -> RangeTooLargeError:
    return RangeTooLargeError(f"more than {MAXIMUM_RAW_ROWS:,} measurements: take a shorter range")
