"""Chunks in the database: rows become chunks, and are read as rows again.

A row is a row of the table or in a chunk, never both: packing deletes exactly the rows that it
read, in the transaction that stores them as a chunk. What reads both does so in one statement.
"""

import asyncio
import contextlib
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from operator import itemgetter
from typing import Any, Final, NamedTuple, ParamSpec, Self, TypeVar, cast

import msgspec
import structlog

from heliograph.long_work import LongWork
from heliograph.model.attributes import (
    MISSING,
    WHOLE,
    attributes_of,
    keys_of,
    member_text,
    value_at,
)
from heliograph.model.records import FINGERPRINT, ID, TIMESTAMP, MeasurementRow, RowName
from heliograph.model.time import DAY, now
from heliograph.packed.chunk import (
    MAXIMUM_CHARACTERS,
    MAXIMUM_ROWS,
    NewChunk,
    PackedRows,
    fitting_rows,
    pack,
)
from heliograph.packed.head import DamagedChunkError, read_head
from heliograph.packed.pieces import chunk_sizes
from heliograph.store.engine import Engine, Row, Subject, Transaction, json_text, narrowed
from heliograph.store.pages import (
    ANY_SIZE,
    CHUNK_SIZE,
    GREATEST,
    LEAST,
    ROWS_AT_ONCE,
    Cursor,
    Fetch,
    row_chunks,
    row_position,
    text_size,
)

log = structlog.get_logger()

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# To the set that whoever reads has put here the ids of damaged chunks are added that are left out.
LEFT_OUT: Final[ContextVar[set[int] | None]] = ContextVar("left out", default=None)

# Chunks of which the columns that were decoded are kept: a page's next one is in the same chunk.
_KEPT: Final = 8
# What they come to before they are decoded, in bytes, unless it is one.
_KEPT_BYTES: Final = 2 << 20
# Chunks that are packed anew together, when rows have come that belong into them.
_REWRITTEN_AT_ONCE: Final = 4
_VERIFIED_AT_ONCE: Final = 16
# The body of a chunk that is small for other reasons than its values: a thousand rows of three
# two-place decimals take 6,000.
_SMALL_BYTES: Final = 128 << 10
_FAULTS: Final = 10
# As queries rely on, which would else look at all chunks that are later than a time.
LONGEST_CHUNK: Final = 31 * DAY
_DAMAGED_KNOWN: Final = 1_000
_KEYS_AT_ONCE: Final = 256
_HEADS_AT_ONCE: Final = 64
_FIRST_ROWS: Final = 64
# Chunks that are read at a time, and what they come to in bytes: each query of PostgreSQL costs as
# much as ten small chunks.
_READ_AT_ONCE: Final = 128
_READ_BYTES: Final = 2 << 20
# Newest rows that are looked at first for attributes that the newest of all lacks.
_FEW_ROWS: Final = 16
# Whether a row is still the newest of an attribute is looked at so often.
_LEFT_SECONDS: Final = 86_400.0
_LEFT_KNOWN: Final = 100_000


class ChangedMeanwhileError(Exception):
    """What was to be packed is not what was read any more."""


class StoredChunk(NamedTuple):
    """A chunk as the database has it: between which positions, its head and its body."""

    id: int
    first: Cursor
    last: Cursor
    head: bytes
    body: bytes

    @classmethod
    def of(cls, row: Row) -> Self:
        """Return the chunk that a query returns in the columns of a page's row."""
        chunk, first, first_fingerprint, last, last_fingerprint, head, body, *_ = row
        return cls(chunk, (first, first_fingerprint), (last, last_fingerprint), head, body)


class SmallChunk(NamedTuple):
    """A chunk of few rows: between which positions, and how many they are."""

    id: int
    first: Cursor
    last: Cursor
    rows: int


class PackedTotals(NamedTuple):
    """What chunks come to: how many, their rows, between which times, and their bytes."""

    chunks: int
    rows: int
    first: int | None
    last: int | None
    bytes: int


class Shape(NamedTuple):
    """How a query's rows are told from the chunk that comes with them, and what they are like."""

    head: int
    """The column that only the chunk has."""
    position: Callable[[Row], Cursor]
    chunk: Callable[[Row], StoredChunk]
    row: Callable[[MeasurementRow, int], Row]
    """Makes such a row, without a value that is longer."""


def _page_row(row: MeasurementRow, longest: int) -> Row:
    value = row[7]
    size = text_size(value)
    return (*row[:1], *row[2:6], value if size <= longest else None, size)


def _exported_row(row: MeasurementRow, longest: int) -> Row:
    _, _, timestamp, fingerprint, receipt, revision, device_timestamp, value, *element_id = row
    size = text_size(value)
    text = value if size <= longest else None
    return (
        *(timestamp, fingerprint, receipt, revision, device_timestamp),
        *(text, element_id[0] if element_id else None, None, None, size),
    )


def _chunk_of_exported(row: Row) -> StoredChunk:
    return StoredChunk(row[2], (LEAST, LEAST), (row[0], row[1]), row[7], row[8])


# (id, timestamp, fingerprint, receipt_timestamp, revision, …, value, length)
PAGE: Final = Shape(5, row_position, StoredChunk.of, _page_row)
# (timestamp, fingerprint, receipt_timestamp, revision, device_timestamp, value, element_id, …,
# length)
EXPORTED: Final = Shape(7, itemgetter(0, 1), _chunk_of_exported, _exported_row)


class Chunks(Subject):
    """The chunks of all sensors."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        # By their heads, which hold the checksums of all that is in them.
        self._open: OrderedDict[bytes, PackedRows] = OrderedDict()
        # Rows that were left by sensor, by their ids, and until when they need no other look.
        self._left: dict[int, dict[int, float]] = {}
        # What is wrong with those that are, by their ids.
        self.damaged: dict[int, str] = {}

    def open(self, chunk: StoredChunk) -> PackedRows:
        """Return the rows of a chunk.

        Raises:
            DamagedChunkError: its head is not as it was written.
        """
        found = self._open.pop(chunk.head, None)
        if found is None:
            found = PackedRows(read_head(chunk.head), chunk.body)
        self._open[chunk.head] = found
        size = sum(each.head.length for each in self._open.values())
        while len(self._open) > 1 and (len(self._open) > _KEPT or size > _KEPT_BYTES):
            _, dropped = self._open.popitem(last=False)
            size -= dropped.head.length
        return found

    async def merged(
        self,
        fetch: Fetch[Cursor],
        at: Cursor,
        bound: int,
        limit: int,
        longest: int,
        *,
        forward: bool = True,
        shape: Shape = PAGE,
    ) -> Sequence[Row]:
        """Return rows beyond a position, up to the limit and the time `bound`, packed or not.

        `fetch` returns rows and the nearest chunk. Values that are longer are left out, as `fetch`
        does.
        """
        head = shape.head
        found: list[Row] = []
        while True:
            rows = await fetch(at, limit, longest)
            nearest = [row for row in rows if row[head] is not None]
            if not nearest:
                return [*found, *rows] if found else rows
            chunk = shape.chunk(nearest[0])
            hot = [row for row in rows if row[head] is None]
            packed = [
                shape.row(row, longest)
                for row in self._beyond(chunk, at, bound, limit, forward=forward)
            ]
            both = sorted([*hot, *packed], key=shape.position, reverse=not forward)[:limit]
            # Beyond its end there may be another chunk, which has not been read.
            if forward:
                end, is_last = chunk.last, chunk.last[0] > bound
                known = bisect_right(both, end, key=shape.position)
            else:
                end, is_last = chunk.first, chunk.first[0] < bound
                known = sum(shape.position(row) >= end for row in both)
            found += both[:known]
            limit -= known
            if is_last or limit == 0:
                return found
            at = end

    def _beyond(
        self, chunk: StoredChunk, at: Cursor, bound: int, limit: int, *, forward: bool
    ) -> Sequence[MeasurementRow]:
        """Return rows of a chunk beyond a position, in the order of reading; none if damaged."""
        try:
            packed = self.open(chunk)
            if forward:
                first = place_of(packed, at, after=True)
                [ends] = packed.positions([bound + 1])
                return packed.rows(first, max(first, min(first + limit, ends)))
            last = place_of(packed, at, after=False)
            [begins] = packed.positions([bound])
            return packed.rows(min(max(last - limit, begins), last), last)[::-1]
        except DamagedChunkError as error:
            self.tell_damaged(chunk.id, error)
            return []

    async def at(self, sensor: int, keys: Collection[Cursor]) -> list[Row]:
        """Return the packed rows of these keys, as a page has them."""
        wanted = sorted(keys)
        found: list[Row] = []
        for first in range(0, len(wanted), _KEYS_AT_ONCE):
            part = wanted[first : first + _KEYS_AT_ONCE]
            found += await until_unchanged(self._at, sensor, part)
        return found

    async def _at(self, sensor: int, keys: Sequence[Cursor]) -> list[Row]:
        spans = json_text([(sensor, time, time) for time, _ in keys])
        found: list[Row] = []
        for number, _ in await self._engine.fetch("chunks_of_spans", spans=spans):
            packed = await self.opened(number)
            if packed is not None:
                found += [_page_row(row, ANY_SIZE) for row in _rows_at(packed, keys)]
        return found

    async def named(self, names: Collection[RowName]) -> list[MeasurementRow]:
        """Return the packed rows that go by these names."""
        return await until_unchanged(self._named, names)

    async def _named(self, names: Collection[RowName]) -> list[MeasurementRow]:
        spans = json_text([(sensor, time, time) for _, sensor, time in names])
        found: list[MeasurementRow] = []
        for number, _ in await self._engine.fetch("chunks_of_spans", spans=spans):
            packed = await self.opened(number)
            if packed is not None:
                times = {time for _, sensor, time in names if sensor == packed.head.sensor}
                positions = [
                    position
                    for time in sorted(times)
                    for position in range(*packed.positions((time, time + 1)))
                ]
                found += [row for row in packed.rows_at(positions) if row[:3] in names]
        return found

    async def chosen(
        self,
        wanted: Mapping[int, Sequence[T]],
        choose: Callable[[PackedRows, Sequence[T]], Sequence[R]],
    ) -> list[R]:
        """Return what is chosen of chunks, by their ids, given what is wanted of each.

        Raises:
            ChangedMeanwhileError: one of the chunks is gone.
        """
        found: list[R] = []
        lengths = await self._engine.fetch("chunk_lengths", ids=json_text(list(wanted)))
        if len(lengths) < len(wanted):
            raise ChangedMeanwhileError
        for part in read_together(lengths):
            rows = await self._engine.fetch("chunks_by_id", ids=json_text(part))
            if len(rows) < len(part):
                raise ChangedMeanwhileError
            found += await asyncio.to_thread(self._chosen, rows, wanted, choose)
        return found

    def _chosen(
        self,
        chunks: Sequence[Row],
        wanted: Mapping[int, Sequence[T]],
        choose: Callable[[PackedRows, Sequence[T]], Sequence[R]],
    ) -> list[R]:
        found: list[R] = []
        for number, _, head, body in chunks:
            try:
                found += choose(PackedRows(read_head(head), body), wanted[number])
            except DamagedChunkError as error:
                self.tell_damaged(number, error)
        return found

    async def newest_with(self, sensor: int, keys: tuple[str, ...], before: Cursor) -> list[Row]:
        """Return the newest packed row before a position that has the attribute, if there is one.

        As a page has it.
        """
        return await until_unchanged(self._newest_with, sensor, keys, before)

    async def _newest_with(self, sensor: int, keys: tuple[str, ...], before: Cursor) -> list[Row]:
        while True:
            heads = await self._engine.fetch(
                "chunk_heads_before",
                sensor=sensor,
                timestamp=before[0],
                fingerprint=before[1],
                limit=_HEADS_AT_ONCE,
            )
            for number, _, _, head in heads:
                packed = await self.opened(number) if _may_have(head, keys) else None
                if packed is not None:
                    last = place_of(packed, before, after=False)
                    for row in reversed(packed.rows(0, last)):
                        if value_at(msgspec.json.decode(row[7]), keys) is not MISSING:
                            return [_page_row(row, ANY_SIZE)]
            if len(heads) < _HEADS_AT_ONCE:
                return []
            before = heads[-1][1], heads[-1][2]

    async def rows_of(self, number: int) -> Sequence[MeasurementRow] | None:
        """Return a chunk's rows; None: it is gone by now, or damaged."""
        try:
            packed = await self.opened(number)
        except ChangedMeanwhileError:
            return None
        return None if packed is None else packed.rows()

    async def opened(self, number: int) -> PackedRows | None:
        """Return a chunk's rows; None: it is damaged.

        Raises:
            ChangedMeanwhileError: it is gone by now.
        """
        rows = await self._engine.fetch("chunks_by_id", ids=json_text([number]))
        if not rows:
            raise ChangedMeanwhileError
        [(_, _, head, body)] = rows
        chunk = StoredChunk(number, (LEAST, LEAST), (LEAST, LEAST), head, body)
        try:
            packed = self.open(chunk)
            packed.verify()
        except DamagedChunkError as error:
            self.tell_damaged(chunk.id, error)
            return None
        return packed

    async def faults(self, seconds: float) -> list[str]:
        """Return what is damaged among the newest chunks, looked through for so long; a few."""
        loop = asyncio.get_running_loop()
        until, before = loop.time() + seconds, GREATEST
        found: list[str] = []
        while loop.time() < until and len(found) < _FAULTS:
            rows = await self._engine.fetch("chunks_newest", before=before, limit=_VERIFIED_AT_ONCE)
            for number, sensor, head, body in rows:
                try:
                    PackedRows(read_head(head), body).verify()
                except DamagedChunkError as error:
                    found.append(f"chunk {number} of sensor {sensor}: {error}")
                before = number
            if len(rows) < _VERIFIED_AT_ONCE:
                break
        return found

    async def verify(self, sensor: int, start: int, end: int) -> None:
        """Tell what is damaged of the chunks that have rows from `start` to before `end`."""
        spans = json_text([(sensor, start, end - 1)])
        for part in read_together(await self._engine.fetch("chunks_of_spans", spans=spans)):
            # One that is gone by now was made anew of what was whole.
            chunks = await self._engine.fetch("chunks_by_id", ids=json_text(part))
            nothing: dict[int, Sequence[int]] = dict.fromkeys(part, ())
            await asyncio.to_thread(self._chosen, chunks, nothing, _verified)

    def tell_damaged(self, number: int, error: DamagedChunkError) -> None:
        """Say once of each chunk that it is damaged, and left out; note it for who reads it."""
        if (noted := LEFT_OUT.get()) is not None:
            noted.add(number)
        if number not in self.damaged and len(self.damaged) < _DAMAGED_KNOWN:
            self.damaged[number] = str(error)
            log.error("chunk damaged, left out", chunk=number, reason=str(error))

    async def prepare(
        self, sensor: int, start: int, end: int, *, before: int = GREATEST
    ) -> "Prepared | None":
        """Read the sensor's first rows from `start` to before `end`, and make chunks of them.

        Rows that belong into a chunk go there; it is made anew. The sensor's newest row is left,
        and so is each with which an attribute was measured last: views read rows alone.

        None: there are none, but perhaps those that are left.

        Raises:
            ChangedMeanwhileError: one has an ingest id of `before` or more, or rows have come or
                gone in between.
        """
        found = await self._engine.fetch(
            "measurements_newest", sensors=json_text([sensor]), now=now(), longest=ANY_SIZE
        )
        for _, names, *newest in found:
            end, known = min(end, newest[1]), msgspec.json.decode(names or "[]")
            while hot := await self._hot(sensor, start, end):
                if max(map(itemgetter(ID), hot)) >= before:
                    raise ChangedMeanwhileError
                overlapping = await self._overlapping(sensor, hot)
                if len(overlapping) > _REWRITTEN_AT_ONCE:
                    until = overlapping.pop().first
                    hot = [row for row in hot if _position(row) < until]
                start = hot[-1][TIMESTAMP] + 1
                left = await self._newest_among(sensor, hot, known, newest)
                if left:
                    self._note_left(sensor, left)
                    hot = [row for row in hot if row[ID] not in left]
                if hot:
                    return await self._prepared(sensor, hot, overlapping, left)
        return None

    async def _prepared(
        self,
        sensor: int,
        hot: Sequence[MeasurementRow],
        overlapping: Sequence[StoredChunk],
        left: Collection[int],
    ) -> "Prepared":
        """Make chunks of rows, and of what is packed among them."""
        first, last = _position(hot[0]), _position(hot[-1])
        among = [each for each in overlapping if each.last >= first and each.first <= last]
        packed = [row for chunk in among for row in self.open(chunk).rows()]
        rows = hot
        if packed:
            if not {row[ID] for row in packed}.isdisjoint(row[ID] for row in hot):
                # Another one has packed them between both statements.
                raise ChangedMeanwhileError
            rows = sorted([*hot, *packed], key=_position)
        new = await asyncio.to_thread(packed_rows, rows)
        return Prepared(sensor, hot, [each.id for each in among], new, left)

    async def _newest_among(
        self, sensor: int, hot: Sequence[MeasurementRow], known: Collection[str], newest: Row
    ) -> set[int]:
        """Return the ids of those rows with which an attribute was measured last.

        But for what is packed. `newest` is the sensor's newest row; `known` its attributes.
        """
        names = {*known} - attributes_of(msgspec.json.decode(newest[-2]))
        # Most often it has all.
        last = await _last_with({name: keys_of(name) for name in names}, hot)
        missing = {name: keys_of(name) for name in last}
        if not missing:
            return set()
        # One is looked for by the database; several in one pass.
        [text, *more] = [member_text(keys) for keys in missing.values()]

        async def fetch(at: Cursor, limit: int, longest: int) -> Sequence[Row]:
            return await self._engine.fetch(
                "measurements_containing",
                sensor=sensor,
                timestamp=at[0],
                fingerprint=at[1],
                text="" if more or WHOLE in missing.values() else text,
                limit=limit,
                longest=longest,
            )

        through = _position(hot[-1])
        chunks = row_chunks(
            fetch,
            row_position(newest),
            row_position,
            size=CHUNK_SIZE,
            most=ROWS_AT_ONCE,
            first=_FEW_ROWS,
        )
        work = LongWork()
        async with contextlib.aclosing(chunks):
            async for rows in chunks:
                for row in rows:
                    if not missing or row_position(row) <= through:
                        return {last[name] for name in missing}
                    document = msgspec.json.decode(row[-2])
                    for name in _measured(missing, document):
                        del missing[name]
                    await work.pause()
        return {last[name] for name in missing}

    def _note_left(self, sensor: int, rows: Collection[int]) -> None:
        if sum(map(len, self._left.values())) > _LEFT_KNOWN:
            self._left.clear()
        until = asyncio.get_running_loop().time() + _LEFT_SECONDS
        self._left.setdefault(sensor, {}).update(dict.fromkeys(rows, until))

    def _left_of(self, sensor: int) -> list[int]:
        """Return the ids of rows of the sensor that need not be looked at again yet."""
        moment = asyncio.get_running_loop().time()
        left = {row: until for row, until in self._left.pop(sensor, {}).items() if until > moment}
        if left:
            self._left[sensor] = left
        return list(left)

    async def _hot(self, sensor: int, start: int, end: int) -> list[MeasurementRow]:
        """Return the first rows in a time: as many as a chunk takes, one at least if there is."""

        async def fetch(limit: int, longest: int) -> Sequence[Row]:
            return await self._engine.fetch(
                "chunk_rows", sensor=sensor, start=start, end=end, limit=limit, longest=longest
            )

        rows: Sequence[Row] = ()
        # Values that are large are so from the first on, mostly: few are measured in vain.
        for limit in (min(_FIRST_ROWS, MAXIMUM_ROWS), MAXIMUM_ROWS):
            rows = await fetch(limit, MAXIMUM_CHARACTERS // MAXIMUM_ROWS)
            fitting = max(fitting_rows([row[-1] for row in rows]), 1)
            if fitting < len(rows) or any(row[7] is None for row in rows):
                rows = await fetch(fitting, ANY_SIZE)
            if fitting < limit:
                break
        # As a batch has them: without a name of the element if there is none.
        found = [row[:8] if row[8] is None else row[:9] for row in rows]
        return cast("list[MeasurementRow]", found)

    async def small(self, sensor: int, since: int, until: int, rows: int) -> list[SmallChunk]:
        """Return the sensor's chunks of fewer rows that end in a time, oldest first.

        But for those that are large for what their values are.
        """
        found = await self._engine.fetch(
            "chunks_small", sensor=sensor, since=since, until=until, rows=rows, bytes=_SMALL_BYTES
        )
        return [SmallChunk(row[0], (row[1], row[2]), (row[3], row[4]), row[5]) for row in found]

    async def merged_anew(self, sensor: int, small: Sequence[SmallChunk]) -> list["Prepared"]:
        """Make fewer chunks of those that follow one another, if that can be."""
        wanted = {each.id for each in small}
        rows = await self._engine.fetch(
            "chunks_between",
            sensor=sensor,
            **_ends(small[0].first, small[-1].last),
            limit=GREATEST,
        )
        runs: list[list[StoredChunk]] = [[]]
        for chunk in map(StoredChunk.of, rows):
            if chunk.id in wanted and self._is_whole(chunk):
                runs[-1].append(chunk)
            else:
                runs.append([])
        found: list[Prepared] = []
        for run in runs:
            if len(run) > 1:
                both = [row for chunk in run for row in self.open(chunk).rows()]
                new = await asyncio.to_thread(packed_rows, both)
                if len(new) < len(run):
                    found.append(Prepared(sensor, [], [chunk.id for chunk in run], new, ()))
        return found

    def _is_whole(self, chunk: StoredChunk) -> bool:
        """Return whether a chunk is as it was written; else it is told."""
        try:
            self.open(chunk).verify()
        except DamagedChunkError as error:
            self.tell_damaged(chunk.id, error)
            return False
        return True

    async def put(self, prepared: "Sequence[Prepared]") -> None:
        """Store what was prepared in one transaction: rows of several sensors often share pages.

        Raises:
            ChangedMeanwhileError: rows have come or gone in between, or a sensor is gone; nothing
                was packed.
        """

        async def work(transaction: Transaction) -> None:
            for each in prepared:
                await replace(*each[:4], transaction, each.left, engine=self._engine.name)

        await self._engine.change(work)

    async def packs_by_itself(self) -> bool:
        """Return whether what is old is packed where the settings say nothing."""
        [(packs,)] = await self._engine.fetch("packing_by_itself")
        return bool(packs)

    async def pack_by_itself(self) -> None:
        """Have it so from now on."""
        await self._engine.run_alone("packing_begin")

    async def totals(self, *, networks: Sequence[str] | None) -> PackedTotals:
        """Return what is packed of the networks; None: of all."""
        [row] = await self._engine.fetch("packed_totals", networks=narrowed(networks))
        return PackedTotals(*row)

    async def totals_of(self, sensor: int) -> PackedTotals:
        """Return what is packed of the sensor."""
        [row] = await self._engine.fetch("packed_totals_of", sensor=sensor)
        return PackedTotals(*row)

    async def unpacked(self, limit: int) -> int:
        """Return how many rows are not packed, up to the limit."""
        [(rows,)] = await self._engine.fetch("packing_hot", limit=limit)
        return int(rows)

    async def next_unpacked(self, sensor: int, start: int, until: int) -> "Unpacked | None":
        """Return the oldest row from `start` to before `until` that is not packed.

        Rows that were left lately for being the newest of an attribute are not looked at.
        """
        rows = await self._engine.fetch(
            "packing_next",
            sensor=sensor,
            start=start,
            until=until,
            numbers=json_text(self._left_of(sensor)),
        )
        return Unpacked(*rows[0]) if rows else None

    async def rows_between(self, sensor: int, start: int, end: int, limit: int) -> int:
        """Return how many rows there are, packed or not; beyond the limit not exactly."""
        [(rows,)] = await self._engine.fetch(
            "packing_rows", sensor=sensor, start=start, end=end, limit=limit
        )
        return int(rows)

    async def _overlapping(self, sensor: int, hot: Sequence[MeasurementRow]) -> list[StoredChunk]:
        first, last = _position(hot[0]), _position(hot[-1])
        rows = await self._engine.fetch(
            "chunks_between",
            sensor=sensor,
            **_ends(first, last),
            limit=_REWRITTEN_AT_ONCE + 1,
        )
        return [StoredChunk.of(row) for row in rows]


class Unpacked(NamedTuple):
    """A row that may be packed: its time and its ingest id."""

    timestamp: int
    id: int


class Prepared(NamedTuple):
    """Rows of a sensor, the ids of the chunks into which they belong, and what becomes of both."""

    sensor: int
    hot: Sequence[MeasurementRow]
    old: Sequence[int]
    new: Sequence[tuple[Sequence[MeasurementRow], NewChunk]]
    left: Collection[int]
    """The ids of rows among them that stay."""

    @property
    def characters(self) -> int:
        """What the rows' values come to."""
        return sum([len(row[7]) for rows, _ in self.new for row in rows])


async def replace(
    sensor: int,
    hot: Sequence[MeasurementRow],
    old: Sequence[int],
    new: Sequence[tuple[Sequence[MeasurementRow], NewChunk]],
    transaction: Transaction,
    left: Collection[int] = (),
    *,
    engine: str,
) -> None:
    """Put chunks in the place of rows and of older chunks (their ids), if all of these are there.

    The rows `left` (their ids) stay, wherever they are.

    Raises:
        ChangedMeanwhileError: they are not, or the sensor is not.
    """
    # So that who erases the sensor sees what is new here, whichever of both comes first.
    if not hot:
        if not await transaction.fetch("sensor_locked", number=sensor):
            raise ChangedMeanwhileError
    else:
        await _delete_rows(sensor, hot, left, transaction, engine)
    for chunk in old:
        if not await transaction.fetch("chunk_delete", id=chunk):
            raise ChangedMeanwhileError
    if len(old) > 1 and not hot:
        # What came late between two of them may have been packed.
        first, last = new[0][0][0], new[-1][0][-1]
        if await transaction.fetch(
            "chunks_between",
            sensor=sensor,
            **_ends(_position(first), _position(last)),
            limit=1,
        ):
            raise ChangedMeanwhileError
    for rows, made in new:
        ids = [row[ID] for row in rows]
        first, last = rows[0], rows[-1]
        await transaction.fetch(
            "chunk_insert",
            sensor=sensor,
            **_ends(_position(first), _position(last)),
            row_count=len(rows),
            first_id=min(ids),
            last_id=max(ids),
            head=made.head,
            body=made.body,
        )


async def _delete_rows(
    sensor: int,
    hot: Sequence[MeasurementRow],
    left: Collection[int],
    transaction: Transaction,
    engine: str,
) -> None:
    ids = sorted(map(itemgetter(ID), hot))
    ends = _ends(_position(hot[0]), _position(hot[-1]))
    which = {"sensor": sensor, **ends, "numbers": json_text(sorted(left))}
    if not await transaction.fetch(
        "packing_locked", number=sensor, first_id=ids[0], last_id=ids[-1]
    ):
        raise ChangedMeanwhileError
    found = await transaction.fetch("chunk_rows_taken", **which)
    if sorted([row_id for (row_id,) in found]) != ids:
        raise ChangedMeanwhileError
    if engine == "sqlite":
        # Nobody else writes in between; to be told by the statement what it deletes takes SQLite
        # three times as long.
        await transaction.fetch("chunk_rows_delete", **which)


async def until_unchanged(read: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what is read, once no chunk is made anew between its being found and its reading."""
    while True:
        with contextlib.suppress(ChangedMeanwhileError):
            return await read(*args, **kwargs)


def read_together(chunks: Sequence[Row]) -> Iterator[list[int]]:
    """Yield the ids of chunks that are read at once: so many bytes, unless it is one.

    `chunks` are of (id, bytes).
    """
    group: list[int] = []
    size = 0
    for number, length in chunks:
        if group and (size + length > _READ_BYTES or len(group) == _READ_AT_ONCE):
            yield group
            group, size = [], 0
        group.append(number)
        size += length
    if group:
        yield group


def packed_rows(rows: Sequence[MeasurementRow]) -> list[tuple[Sequence[MeasurementRow], NewChunk]]:
    """Return all rows as chunks, each with its rows."""
    found = []
    for size in chunk_sizes(len(rows)):
        left, rows = rows[:size], rows[size:]
        while left:
            latest = left[0][TIMESTAMP] + LONGEST_CHUNK
            chunk = pack(left[: bisect_right(left, latest, key=itemgetter(TIMESTAMP))])
            found.append((left[: chunk.rows], chunk))
            left = left[chunk.rows :]
    return found


def _rows_at(packed: PackedRows, keys: Sequence[Cursor]) -> list[MeasurementRow]:
    """Return the chunk's rows of these keys, which ascend."""
    times, wanted = packed.times, set(keys)
    found: list[MeasurementRow] = []
    for time in dict.fromkeys(time for time, _ in keys):
        first, last = bisect_left(times, time), bisect_right(times, time)
        found += [row for row in packed.rows(first, last) if _position(row) in wanted]
    return found


def _verified(packed: PackedRows, _: Sequence[int]) -> Sequence[Row]:
    packed.verify()
    return ()


def chosen_rows(packed: PackedRows, positions: Sequence[int]) -> list[Row]:
    """Return the rows at these positions, as a page has them."""
    return [_page_row(row, ANY_SIZE) for row in packed.rows_at(positions)]


def _measured(names: Mapping[str, tuple[str, ...]], document: Any) -> list[str]:
    """Return those of the attributes, of which the keys are given, that the document has."""
    return [name for name, keys in names.items() if value_at(document, keys) is not MISSING]


async def _last_with(
    names: Mapping[str, tuple[str, ...]], rows: Sequence[MeasurementRow]
) -> dict[str, int]:
    """Return the id of the last of the rows that has each attribute, if there is one."""
    missing, found = dict(names), dict[str, int]()
    work = LongWork()
    for row in reversed(rows):
        if not missing:
            break
        for name in _measured(missing, msgspec.json.decode(row[7])):
            del missing[name]
            found[name] = row[ID]
        await work.pause()
    return found


def _may_have(head: bytes, keys: tuple[str, ...]) -> bool:
    """Return whether a chunk may have the attribute, by its head; damaged ones are opened."""
    try:
        known = read_head(head)
    except DamagedChunkError:
        return True
    return not known.attributes or any(keys_of(name) == keys for name in known.attributes)


def place_of(packed: PackedRows, at: Cursor, *, after: bool = True) -> int:
    """Return how many rows are before a position, those at it too if `after`."""
    first, fingerprints = packed.fingerprints_at(at[0])
    return first + (bisect_right if after else bisect_left)(fingerprints, at[1])


def _ends(first: Cursor, last: Cursor) -> dict[str, int]:
    """Return two positions as queries have them."""
    return {
        "first": first[0],
        "first_fingerprint": first[1],
        "last": last[0],
        "last_fingerprint": last[1],
    }


def _position(row: MeasurementRow) -> Cursor:
    return row[TIMESTAMP], row[FINGERPRINT]
