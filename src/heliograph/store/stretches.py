"""Stretches: what a sensor measured in a time, rows and chunks as of one moment.

Chunks come by their heads; as much of a body as is needed is read afterwards. A chunk never changes
under its id: where it is gone by then, because its rows have been packed anew or erased, the
stretch is read again.
"""

from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import attrgetter, itemgetter
from typing import Final, NamedTuple, TypeAlias

from heliograph.model.time import DAY
from heliograph.packed.chunk import PackedRows
from heliograph.packed.head import ChunkHead, DamagedChunkError, read_head
from heliograph.store.chunks import Chunks, place_of
from heliograph.store.engine import Engine, Row, json_text
from heliograph.store.pages import FEW, GREATEST, LEAST, Cursor, longest_of

# Rows and heads that a query returns at most, and what texts of its rows come to, in characters.
ROWS: Final = 4_000
HEADS: Final = 128
_CHUNK_SIZE: Final = 32 << 20
# Larger values, in characters, are not read by queries for several spans.
_LONGEST: Final = 8 << 10
_BODIES: Final = 8 << 20
# A span that is longer is read by itself: of all spans together the query would end in it.
_LONG_SPAN: Final = DAY

Span: TypeAlias = tuple[int, int]

_END: Final = GREATEST, GREATEST

_key = itemgetter(0, 1)


class HeadedChunk(NamedTuple):
    """A chunk without its body: between which positions it lies, and its head."""

    id: int
    first: Cursor
    last: Cursor
    head: ChunkHead


# Chunks that can't be read, and why.
Damaged: TypeAlias = list[tuple[HeadedChunk, DamagedChunkError]]


class Stretch(NamedTuple):
    """Rows of (timestamp, fingerprint, value, …) and chunks of some time, both in their order.

    Of the chunks those rows are of it that are behind `after`, up to `through`.
    """

    rows: Sequence[Row]
    chunks: Sequence[HeadedChunk]
    after: Cursor = (LEAST, LEAST)
    through: Cursor = _END

    def parts(self, opened: Mapping[int, PackedRows], damaged: Damaged) -> Iterator["Part"]:
        """Yield all of it in order, so that no part lies within another.

        `opened` are the chunks by their ids. One that is damaged is left out, and appended.
        """
        rows = self.rows
        done = 0
        for chunk in self.chunks:
            packed = opened[chunk.id]
            before = bisect_left(rows, chunk.first, done, key=_key)
            within = bisect_right(rows, chunk.last, before, key=_key)
            at, ends = 0, len(packed)
            try:
                if chunk.first <= self.after:
                    at = place_of(packed, self.after)
                if self.through < chunk.last:
                    ends = place_of(packed, self.through)
                places = [place_of(packed, _key(row)) for row in rows[before:within]]
            except DamagedChunkError as error:
                damaged.append((chunk, error))
                continue
            for row, place in enumerate([*places, ends], before):
                if place > at:
                    if row > done:
                        yield Part(rows[done:row])
                        done = row
                    yield Part((), chunk, packed, at, place)
                    at = place
        if done < len(rows):
            yield Part(rows[done:])

    def to(self, through: Cursor) -> "Stretch":
        """Return what of it is not behind a position."""
        if through >= self.through:
            return self
        return Stretch(
            self.rows[: bisect_right(self.rows, through, key=_key)],
            [chunk for chunk in self.chunks if chunk.first <= through],
            self.after,
            through,
        )

    def is_whole(self, chunk: HeadedChunk) -> bool:
        """Return whether all rows of a chunk are of the stretch, and no row is among them."""
        if chunk.first <= self.after or self.through < chunk.last:
            return False
        place = bisect_left(self.rows, chunk.first, key=_key)
        return place == len(self.rows) or _key(self.rows[place]) > chunk.last


class Part(NamedTuple):
    """Rows; or, of a chunk, the packed rows from one position to before another."""

    rows: Sequence[Row]
    chunk: HeadedChunk | None = None
    packed: PackedRows | None = None
    first: int = 0
    last: int = 0

    def through(self) -> Cursor:
        """Return its last row's position.

        Raises:
            DamagedChunkError: it can't be told.
        """
        if self.chunk is None or self.packed is None:
            timestamp, fingerprint, *_ = self.rows[-1]
            return timestamp, fingerprint
        if self.last == len(self.packed):
            return self.chunk.last
        [row] = self.packed.rows(self.last - 1, self.last)
        return row[2], row[3]


# How much of a chunk's body is needed, in bytes, of a stretch.
Needed: TypeAlias = Callable[[Stretch, HeadedChunk], int]
Opened: TypeAlias = tuple[Stretch, Mapping[int, PackedRows]]
OpenedOf: TypeAlias = tuple[Sequence[Span], Stretch, Mapping[int, PackedRows]]


class Stretches:
    """Reads stretches of a sensor's measurements."""

    def __init__(
        self,
        engine: Engine,
        chunks: Chunks,
        sensor: int,
        needed: Needed,
        *,
        size: int | None = None,
        bodies: int | None = None,
    ) -> None:
        """Read those of a sensor.

        What is held at once are texts of rows of up to `size` characters (32 Mi unless told), and
        bodies of chunks of up to so many bytes (8 Mi), unless it is one.
        """
        self._size = _CHUNK_SIZE if size is None else size
        self._bodies = _BODIES if bodies is None else bodies
        self._engine = engine
        self._chunks = chunks
        self._sensor = sensor
        self._needed = needed

    async def between(self, at: Cursor, end: int) -> AsyncGenerator[Opened, None]:
        """Yield stretches from behind a position to before `end`, a bounded part at a time."""
        until = end - 1, GREATEST
        limit = ROWS
        while True:
            longest = longest_of(limit, self._size)
            found = await self._engine.fetch(
                "measurements_stretch",
                sensor=self._sensor,
                timestamp=at[0],
                fingerprint=at[1],
                until=end - 1,
                limit=limit,
                longest=longest,
                heads=HEADS,
            )
            rows, chunks, through = self._told_apart(found)
            large = next((place for place, row in enumerate(rows) if row[-1] > longest), None)
            if large is not None or len(rows) == limit:
                rows = rows[:large]
                through = min(through, _key(rows[-1]) if rows else at)
            through = min(through, until)
            if through == at:
                # The first row is too large to be read with so many others.
                limit = FEW
                continue
            stretch = Stretch(rows, chunks, at, _END).to(through)
            opened: Mapping[int, PackedRows] | None = {}
            if stretch.chunks:
                needed = self._needed_of(stretch)
                stretch = self._fitting(stretch, needed)
                opened = await self._opened(stretch, needed)
            if opened is None:
                continue
            yield stretch, opened
            if stretch.through == until:
                return
            at = stretch.through
            limit = min(ROWS, 4 * limit)

    async def of(self, spans: Sequence[Span]) -> AsyncGenerator[OpenedOf, None]:
        """Yield the same of several spans, with one query unless there is much in them.

        They ascend and are apart. Each time with those spans of which it has all rows: a chunk may
        have others too, which are read again with theirs.
        """
        if len(spans) == 1:
            ((start, end),) = spans
            async for found in self.between((start, LEAST), end):
                yield spans, *found
            return
        for at, (start, end) in enumerate(spans):
            if end - start > _LONG_SPAN:
                for some in (spans[:at], spans[at : at + 1], spans[at + 1 :]):
                    if some:
                        async for part in self.of(some):
                            yield part
                return
        wanted = json_text([(self._sensor, *span) for span in spans])
        opened: Mapping[int, PackedRows] | None = None
        while opened is None:
            rows, chunks, through = self._told_apart(
                await self._engine.fetch(
                    "measurements_stretches",
                    spans=wanted,
                    limit=ROWS,
                    longest=_LONGEST,
                    heads=HEADS,
                )
            )
            stretch = Stretch(rows, chunks)
            needed = self._needed_of(stretch) if chunks else {}
            if (
                len(rows) == ROWS
                or through != _END
                or None in map(itemgetter(2), rows)
                or (chunks and self._fitting(stretch, needed) != stretch)
            ):
                middle = len(spans) // 2
                for half in (spans[:middle], spans[middle:]):
                    async for part in self.of(half):
                        yield part
                return
            opened = await self._opened(stretch, needed) if chunks else {}
        yield spans, stretch, opened

    def tell(self, damaged: Damaged) -> None:
        """Say of chunks that they are damaged, once of each."""
        for chunk, error in damaged:
            self._chunks.tell_damaged(chunk.id, error)

    def _told_apart(self, found: Sequence[Row]) -> tuple[list[Row], list[HeadedChunk], Cursor]:
        """Return rows, and chunks whose heads are not damaged, both in their order.

        And up to where these are all chunks.
        """
        rows = [row for row in found if row[3] is None]
        chunks = []
        if len(rows) < len(found):
            for first, first_fingerprint, _, number, last, last_fingerprint, stored, _ in found:
                if number is None:
                    continue
                ends = (first, first_fingerprint), (last, last_fingerprint)
                try:
                    chunks.append(HeadedChunk(number, *ends, read_head(stored)))
                except DamagedChunkError as error:
                    self._chunks.tell_damaged(number, error)
            chunks.sort(key=attrgetter("first"))
        rows.sort(key=_key)
        if len(found) - len(rows) < HEADS:
            return rows, chunks, _END
        return rows, chunks, max((row[4], row[5]) for row in found if row[3] is not None)

    def _needed_of(self, stretch: Stretch) -> dict[int, int]:
        """Return how much of their bodies is needed, by the chunks' ids."""
        return {chunk.id: self._needed(stretch, chunk) for chunk in stretch.chunks}

    def _fitting(self, stretch: Stretch, needed: Mapping[int, int]) -> Stretch:
        """Return as much of the stretch as needs no more of bodies than is held at once."""
        size = 0
        for before, chunk in pairwise(stretch.chunks):
            size += needed[before.id]
            if size + needed[chunk.id] > self._bodies:
                return stretch.to(before.last)
        return stretch

    async def _opened(
        self, stretch: Stretch, needed: Mapping[int, int]
    ) -> dict[int, PackedRows] | None:
        """Return the stretch's chunks by their ids; None: one of them is gone."""
        wanted = [(chunk.id, needed[chunk.id]) for chunk in stretch.chunks if needed[chunk.id]]
        bodies: dict[int, bytes] = {}
        if wanted:
            rows = await self._engine.fetch("chunk_bodies", wanted=json_text(wanted))
            if len(rows) < len(wanted):
                return None
            bodies = {number: body for number, body in rows}  # noqa: C416 - rows are no pairs to mypy
        return {
            chunk.id: PackedRows(chunk.head, bodies.get(chunk.id, b"")) for chunk in stretch.chunks
        }
