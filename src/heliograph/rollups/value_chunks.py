"""Reading what a sensor measured in order of time, a bounded number of bytes at a time."""

from collections.abc import AsyncIterator, Sequence

from heliograph.store.engine import Engine, Row
from heliograph.store.pages import LEAST, Cursor, row_chunks

# What a chunk has at most, in characters; decoded it is some times as much.
CHUNK_SIZE = 32 << 20
# Larger values, in characters, are not read by queries for several spans or sensors.
LONGEST = 8 << 10


def value_chunks(
    engine: Engine, sensor: int, start: int, end: int, most: int
) -> AsyncIterator[Sequence[Row]]:
    """Yield rows of (timestamp, fingerprint, value, its length) from `start` to before `end`.

    Up to `most` at a time, and never none.
    """

    async def fetch(at: Cursor, limit: int, longest: int) -> Sequence[Row]:
        return await engine.fetch(
            "measurements_values",
            sensor=sensor,
            timestamp=at[0],
            fingerprint=at[1],
            until=end - 1,
            limit=limit,
            longest=longest,
        )

    return row_chunks(fetch, (start, LEAST), _position, size=CHUNK_SIZE, most=most)


def _position(row: Row) -> Cursor:
    return row[0], row[1]
