"""Reading a sensor's values in order of time, a bounded number of bytes at a time.

A value may be a thousand times as large as most are: the database leaves out what would be too
much with all others of its chunk, and reading goes on from there with fewer.
"""

from collections.abc import AsyncIterator, Sequence

from heliograph.store.engine import Engine, Row
from heliograph.store.pages import LEAST

# What a chunk has at most, in characters; decoded it is some times as much.
CHUNK_SIZE = 32 << 20
# Larger values, in characters, are not read by queries for several spans or sensors.
LONGEST = 8 << 10
# So many rows are read whatever their size, which is 1 MiB at most.
FEW = 8
ANY_SIZE = (1 << 31) - 1


async def value_chunks(
    engine: Engine, sensor: int, start: int, end: int, most: int
) -> AsyncIterator[Sequence[Row]]:
    """Yield rows of (timestamp, fingerprint, value) from `start` to before `end`.

    Up to `most` at a time, and never none.
    """
    timestamp, fingerprint, limit = start, LEAST, most
    while True:
        rows = await engine.fetch(
            "measurements_values",
            sensor=sensor,
            timestamp=timestamp,
            fingerprint=fingerprint,
            until=end - 1,
            limit=limit,
            longest=CHUNK_SIZE // limit if limit > FEW else ANY_SIZE,
        )
        ends = len(rows) < limit
        values = [row[2] for row in rows]
        if None in values:
            rows, ends = rows[: values.index(None)], False
            limit = FEW
        elif limit < most and values:
            # As large ones are to take a part of it only: the next may be larger.
            average = sum(map(len, values)) // len(values) + 1
            limit = min(most, 4 * limit, max(FEW, CHUNK_SIZE // 8 // average))
        if rows:
            timestamp, fingerprint = rows[-1][0], rows[-1][1]
            yield rows
        if ends:
            return
