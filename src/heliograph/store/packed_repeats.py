"""Repeats of what is packed: no index has the keys of rows in chunks, so they are looked for.

After the rows are in, in the same transaction: whoever looked first could miss an original that
is being packed. On PostgreSQL the insert waits for the packer's, and the chunk is seen then.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from operator import itemgetter
from typing import TypeAlias

import structlog

from heliograph.model.records import FINGERPRINT, ID, SENSOR, TIMESTAMP, MeasurementRow
from heliograph.model.time import HOUR
from heliograph.packed.chunk import PackedRows
from heliograph.packed.head import DamagedChunkError, read_head
from heliograph.store.chunks import read_together
from heliograph.store.engine import Row, json_text

log = structlog.get_logger()

Fetch: TypeAlias = Callable[..., Awaitable[Sequence[Row]]]


async def drop_packed_repeats(
    fetch: Fetch, rows: Sequence[MeasurementRow], late: Collection[tuple[int, int]]
) -> dict[int, int]:
    """Delete those of the rows that are packed; return the ids of what they repeat, by theirs.

    Only in hours of sensors that are `late`, so rolled up, may anything be packed.

    Not among these is a row that is packed under its own id: it was committed, and is written again
    because nobody knew that.
    """
    hours = set(late)
    rows = [row for row in rows if (row[SENSOR], row[TIMESTAMP] - row[TIMESTAMP] % HOUR) in hours]
    packed = await find_packed(fetch, rows)
    if packed:
        gone = [row[ID : FINGERPRINT + 1] for row in rows if row[ID] in packed]
        await fetch("packed_repeats_delete", rows=json_text(gone))
    return {row_id: stored for row_id, stored in packed.items() if row_id != stored}


async def find_packed(fetch: Fetch, rows: Sequence[MeasurementRow]) -> dict[int, int]:
    """Return the ids under which rows of these keys are packed, by the ids of the rows."""
    found = await find_packed_rows(fetch, rows)
    return {row_id: packed[ID] for row_id, packed in found.items()}


async def find_packed_rows(
    fetch: Fetch, rows: Sequence[MeasurementRow]
) -> dict[int, MeasurementRow]:
    """Return the packed rows that have the keys of these, by the ids of these."""
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
                try:
                    found.update(_packed_in(PackedRows(read_head(head), body), wanted[sensor]))
                except DamagedChunkError as error:
                    log.warning(
                        "chunk damaged, not searched for repeats", chunk=number, reason=str(error)
                    )
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


def _packed_in(
    chunk: PackedRows, rows: Sequence[MeasurementRow]
) -> Iterator[tuple[int, MeasurementRow]]:
    """Yield the ids of rows that are packed in a chunk, and the rows there; they are in order."""
    first = bisect_left(rows, chunk.head.first, key=itemgetter(TIMESTAMP))
    last = bisect_right(rows, chunk.head.last, first, key=itemgetter(TIMESTAMP))
    # Few of them have a time that a packed one has.
    times = chunk.times_among([row[TIMESTAMP] for row in rows[first:last]])
    for row in rows[first:last] if times else ():
        if row[TIMESTAMP] not in times:
            continue
        first, fingerprints = chunk.fingerprints_at(row[TIMESTAMP])
        place = bisect_left(fingerprints, row[FINGERPRINT])
        if place < len(fingerprints) and fingerprints[place] == row[FINGERPRINT]:
            yield row[ID], chunk.rows(first + place, first + place + 1)[0]
