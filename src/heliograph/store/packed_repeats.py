"""Repeats of what is packed: no index has the keys of rows in chunks, so they are looked for.

After the rows are in, in the same transaction: whoever looked first could miss an original that
is being packed. On PostgreSQL the insert waits for the packer's, and the chunk is seen then.

Few late rows have a time that a packed one has. So of a chunk only the times are read at first, and
they are kept: who sends what it has gathered needs the same chunks for each batch.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from heliograph.model.records import FINGERPRINT, ID, SENSOR, TIMESTAMP, MeasurementRow
from heliograph.model.time import HOUR
from heliograph.packed.chunk import PackedRows, read_times
from heliograph.packed.head import DamagedChunkError, read_head
from heliograph.packed.integers import Integers, StoredIntegers
from heliograph.store.chunks import read_together
from heliograph.store.engine import Row, Unsearched, Written, json_text

Fetch: TypeAlias = Callable[..., Awaitable[Sequence[Row]]]
_Wanted: TypeAlias = Mapping[int, Sequence[MeasurementRow]]

# What the times that are kept take, each with the rest of it: those of a day of ten thousand
# sensors that measure each minute.
_KEPT_BYTES: Final = 32 << 20
_KEPT_EACH: Final = 500


class _Chunk(NamedTuple):
    """A chunk that has rows around a time; `checksum` is of all that is in it."""

    id: int
    sensor: int
    first: int
    last: int
    checksum: bytes
    size: int


class PackedRepeats:
    """Looks for rows in chunks, and keeps the times of those that it looked into last.

    By their ids and checksums: a database that was put back may have another chunk of that id.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, bytes], StoredIntegers] = OrderedDict()
        self._size = 0

    async def drop(
        self,
        fetch: Fetch,
        rows: Sequence[MeasurementRow],
        late: Collection[tuple[int, int]],
        written: Written,
    ) -> bool:
        """Delete those of the rows that are packed, but known duplicates; return whether any are.

        Only in hours of sensors that are `late`, so rolled up, may anything be packed.

        They become duplicates, but for a row that is packed under its own id: it was committed, and
        is written again because nobody knew that.
        """
        hours = set(late)
        rows = [
            row
            for row in rows
            if (row[SENSOR], row[TIMESTAMP] - row[TIMESTAMP] % HOUR) in hours
            and row[ID] not in written.duplicates
        ]
        packed = await self.find(fetch, rows, written.unsearched)
        if packed:
            gone = [row[ID : FINGERPRINT + 1] for row in rows if row[ID] in packed]
            await fetch("packed_repeats_delete", rows=json_text(gone))
        repeats = {row_id: stored for row_id, stored in packed.items() if row_id != stored}
        written.duplicates |= repeats
        return bool(repeats)

    async def find(
        self,
        fetch: Fetch,
        rows: Sequence[MeasurementRow],
        unsearched: dict[int, Unsearched],
    ) -> dict[int, int]:
        """Return the ids under which rows of these keys are packed, by the ids of the rows."""
        found = await self.find_rows(fetch, rows, unsearched)
        return {row_id: packed[ID] for row_id, packed in found.items()}

    async def find_rows(
        self,
        fetch: Fetch,
        rows: Sequence[MeasurementRow],
        unsearched: dict[int, Unsearched],
    ) -> dict[int, MeasurementRow]:
        """Return the packed rows that have the keys of these, by the ids of these.

        Chunks in which they may be, which are damaged, are added to `unsearched`.
        """
        if not rows:
            return {}
        wanted: dict[int, list[MeasurementRow]] = {}
        for row in sorted(rows, key=itemgetter(TIMESTAMP)):
            wanted.setdefault(row[SENSOR], []).append(row)
        spans = json_text(_spans(wanted))
        found: dict[int, MeasurementRow] = {}
        searched: set[int] = set()
        while True:
            chunks = {row[0]: _Chunk(*row) for row in await fetch("chunks_to_search", spans=spans)}
            left = [chunk for number, chunk in chunks.items() if number not in searched]
            if not left:
                return found
            suspected = await self._suspected(fetch, left, wanted, searched)
            for ids in read_together(suspected):
                for number, _, head, body in await fetch("chunks_by_id", ids=json_text(ids)):
                    searched.add(number)
                    same = _within(chunks[number], wanted)
                    try:
                        packed = PackedRows(read_head(head), body)
                        times = packed.times_among([row[TIMESTAMP] for row in same])
                        same = [row for row in same if row[TIMESTAMP] in times]
                        found.update(_packed_in(packed, same))
                    except DamagedChunkError as error:
                        unsearched[number] = Unsearched(len(same), str(error))
            if searched.issuperset(chunk.id for chunk in left):
                return found
            # On PostgreSQL what has been packed anew since has another id: it is looked for again.

    async def _suspected(
        self, fetch: Fetch, chunks: Iterable[_Chunk], wanted: _Wanted, searched: set[int]
    ) -> list[tuple[int, int]]:
        """Return ids and sizes of the chunks with rows of the same times; others are `searched`.

        Those that are gone meanwhile are neither.
        """
        found: list[tuple[int, int]] = []

        def note(chunk: _Chunk, times: StoredIntegers) -> None:
            rows = _within(chunk, wanted)
            if Integers(times).among([row[TIMESTAMP] for row in rows]):
                found.append((chunk.id, chunk.size))
            else:
                searched.add(chunk.id)

        unknown: dict[int, _Chunk] = {}
        for chunk in chunks:
            key = chunk.id, chunk.checksum
            known = self._kept.get(key)
            if known is None:
                unknown[chunk.id] = chunk
            else:
                self._kept.move_to_end(key)
                note(chunk, known)
        for ids in read_together([(chunk.id, chunk.size) for chunk in unknown.values()]):
            for number, head, part in await fetch("chunk_times", ids=json_text(ids)):
                chunk = unknown[number]
                try:
                    times = read_times(head, part)
                except DamagedChunkError:
                    # Or its times are longer than what was read.
                    found.append((number, chunk.size))
                else:
                    self._keep(chunk, times)
                    note(chunk, times)
        return found

    def _keep(self, chunk: _Chunk, times: StoredIntegers) -> None:
        """Keep the times of a chunk, and forget those that were asked for longest ago."""
        key = chunk.id, chunk.checksum
        if key in self._kept:
            return  # by another who looked for them meanwhile
        self._kept[key] = times
        self._size += len(times.planes) + _KEPT_EACH
        while self._size > _KEPT_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._size -= len(dropped.planes) + _KEPT_EACH


def _spans(wanted: _Wanted) -> list[list[int]]:
    """Return sensor, first and last time of the rows, by hours."""
    spans: list[list[int]] = []
    for sensor, rows in wanted.items():
        hour: int | None = None
        for row in rows:
            time = row[TIMESTAMP]
            if time // HOUR == hour:
                spans[-1][2] = time
            else:
                hour = time // HOUR
                spans.append([sensor, time, time])
    return spans


def _within(chunk: _Chunk, wanted: _Wanted) -> Sequence[MeasurementRow]:
    """Return the rows, in their order, that lie between the chunk's ends."""
    rows = wanted[chunk.sensor]
    if len(rows) == 1:
        return rows
    first = bisect_left(rows, chunk.first, key=itemgetter(TIMESTAMP))
    last = bisect_right(rows, chunk.last, first, key=itemgetter(TIMESTAMP))
    return rows[first:last]


def _packed_in(
    chunk: PackedRows, suspected: Sequence[MeasurementRow]
) -> Iterator[tuple[int, MeasurementRow]]:
    """Yield the ids of rows that are packed in a chunk, and the rows there; they are in order."""
    time: int | None = None
    packed: dict[int, MeasurementRow] = {}
    for row in suspected:
        if row[TIMESTAMP] != time:
            time = row[TIMESTAMP]
            same = chunk.rows(*chunk.positions((time, time + 1)))
            packed = {each[FINGERPRINT]: each for each in same}
        found = packed.get(row[FINGERPRINT])
        if found is not None:
            yield row[ID], found
