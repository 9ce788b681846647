"""Repeats of what is packed: no index has the keys of rows in chunks, so they are looked for.

After the rows are in, in the same transaction: whoever looked first could miss an original that
is being packed. On PostgreSQL the insert waits for the packer's, and the chunk is seen then.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from operator import itemgetter
from typing import TypeAlias

from heliograph.model.records import FINGERPRINT, ID, SENSOR, TIMESTAMP, MeasurementRow
from heliograph.model.time import HOUR
from heliograph.packed.chunk import PackedRows
from heliograph.packed.head import DamagedChunkError, read_head
from heliograph.store.chunks import read_together
from heliograph.store.engine import Row, Unsearched, Written, json_text

Fetch: TypeAlias = Callable[..., Awaitable[Sequence[Row]]]


async def drop_packed_repeats(
    fetch: Fetch,
    rows: Sequence[MeasurementRow],
    late: Collection[tuple[int, int]],
    written: Written,
) -> bool:
    """Delete those of the rows that are packed, but for known duplicates; return whether any are.

    Only in hours of sensors that are `late`, so rolled up, may anything be packed.

    They become duplicates, but for a row that is packed under its own id: it was committed, and is
    written again because nobody knew that.
    """
    hours = set(late)
    rows = [
        row
        for row in rows
        if (row[SENSOR], row[TIMESTAMP] - row[TIMESTAMP] % HOUR) in hours
        and row[ID] not in written.duplicates
    ]
    packed = await find_packed(fetch, rows, written.unsearched)
    if packed:
        gone = [row[ID : FINGERPRINT + 1] for row in rows if row[ID] in packed]
        await fetch("packed_repeats_delete", rows=json_text(gone))
    repeats = {row_id: stored for row_id, stored in packed.items() if row_id != stored}
    written.duplicates |= repeats
    return bool(repeats)


async def find_packed(
    fetch: Fetch, rows: Sequence[MeasurementRow], unsearched: dict[int, Unsearched]
) -> dict[int, int]:
    """Return the ids under which rows of these keys are packed, by the ids of the rows."""
    found = await find_packed_rows(fetch, rows, unsearched)
    return {row_id: packed[ID] for row_id, packed in found.items()}


async def find_packed_rows(
    fetch: Fetch, rows: Sequence[MeasurementRow], unsearched: dict[int, Unsearched]
) -> dict[int, MeasurementRow]:
    """Return the packed rows that have the keys of these, by the ids of these.

    Chunks in which they may be, which are damaged, are added to `unsearched`.
    """
    if not rows:
        return {}
    wanted: dict[int, list[MeasurementRow]] = {}
    for row in sorted(rows, key=itemgetter(TIMESTAMP)):
        wanted.setdefault(row[SENSOR], []).append(row)
    found: dict[int, MeasurementRow] = {}
    searched: set[int] = set()
    while True:
        chunks = await fetch("chunks_of_spans", spans=json_text(_spans(rows)))
        left = [chunk for chunk in chunks if chunk[0] not in searched]
        if not left:
            return found
        for ids in read_together(left):
            for number, sensor, head, body in await fetch("chunks_by_id", ids=json_text(ids)):
                searched.add(number)
                suspected: Sequence[MeasurementRow] = wanted[sensor]
                try:
                    chunk = PackedRows(read_head(head), body)
                    suspected = _within(chunk, suspected)
                    suspected = _suspected(chunk, suspected)
                    found.update(_packed_in(chunk, suspected))
                except DamagedChunkError as error:
                    unsearched[number] = Unsearched(len(suspected), str(error))
        if searched.issuperset(number for number, _ in left):
            return found
        # On PostgreSQL what has been packed anew since has another id: it is looked for again.


def _spans(rows: Sequence[MeasurementRow]) -> list[tuple[int, int, int]]:
    """Return sensor, first and last time of the rows, by hours."""
    times: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        time = row[TIMESTAMP]
        times.setdefault((row[SENSOR], time // HOUR), []).append(time)
    return [(sensor, min(found), max(found)) for (sensor, _), found in times.items()]


def _within(chunk: PackedRows, rows: Sequence[MeasurementRow]) -> Sequence[MeasurementRow]:
    """Return those of the rows, which are in order, that lie between the chunk's ends."""
    first = bisect_left(rows, chunk.head.first, key=itemgetter(TIMESTAMP))
    last = bisect_right(rows, chunk.head.last, first, key=itemgetter(TIMESTAMP))
    return rows[first:last]


def _suspected(chunk: PackedRows, rows: Sequence[MeasurementRow]) -> Sequence[MeasurementRow]:
    """Return those of the rows, which are in order, that have a packed one's time: few."""
    times = chunk.times_among([row[TIMESTAMP] for row in rows])
    return [row for row in rows if row[TIMESTAMP] in times] if times else ()


def _packed_in(
    chunk: PackedRows, suspected: Sequence[MeasurementRow]
) -> Iterator[tuple[int, MeasurementRow]]:
    """Yield the ids of rows that are packed in a chunk, and the rows there."""
    for row in suspected:
        first, fingerprints = chunk.fingerprints_at(row[TIMESTAMP])
        place = bisect_left(fingerprints, row[FINGERPRINT])
        if place < len(fingerprints) and fingerprints[place] == row[FINGERPRINT]:
            yield row[ID], chunk.rows(first + place, first + place + 1)[0]
