"""Measurements as columns, for tables of some attributes."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import msgspec

from heliograph.model.attributes import keys_of, values_at
from heliograph.packed.chunk import PackedRows
from heliograph.packed.head import DamagedChunkError
from heliograph.store.chunks import Chunks
from heliograph.store.engine import Engine, Row, Subject
from heliograph.store.pages import Cursor
from heliograph.store.stretches import Damaged, HeadedChunk, Part, Stretch, Stretches

# What is held at once: the texts of rows, in characters, and bodies of chunks.
_SIZE: Final = 2 << 20
_BODIES: Final = 1 << 20

_decode = msgspec.json.decode


class MeasuredColumns(NamedTuple):
    """Measurements as columns: times (microseconds), and of each attribute the rows' values.

    A value is None where a row has none. `through` is the position of the last row.
    """

    times: Sequence[int]
    values: Sequence[list[Any]]
    through: Cursor


class ColumnPages(Subject):
    """Reads attributes of measurements, packed or not."""

    def __init__(self, engine: Engine, chunks: Chunks) -> None:
        super().__init__(engine)
        self._chunks = chunks

    async def of(
        self, sensor: int, after: Cursor, end: int, names: Sequence[str]
    ) -> AsyncGenerator[MeasuredColumns, None]:
        """Yield a sensor's attributes of these names, from behind a position to before `end`.

        Of packed rows only the columns are read that are needed.
        """
        keys = [keys_of(name) for name in names]

        def needed(stretch: Stretch, chunk: HeadedChunk) -> int:
            # Fingerprints tell which of its rows come first.
            return chunk.head.needed(names) if stretch.is_whole(chunk) else chunk.head.length

        stretches = Stretches(
            self._engine, self._chunks, sensor, needed, size=_SIZE, bodies=_BODIES
        )
        async with aclosing(stretches.between(after, end)) as found:
            async for stretch, opened in found:
                damaged: Damaged = []
                for part in stretch.parts(opened, damaged):
                    columns = None
                    if part.chunk is None or part.packed is None:
                        columns = _columns_of(part.rows, keys)
                    else:
                        try:
                            columns = _columns_of_packed(part, part.packed, names)
                        except DamagedChunkError as error:
                            damaged.append((part.chunk, error))
                    # Before the first page goes out, with the headers that name what it lacks.
                    stretches.tell(damaged)
                    damaged.clear()
                    if columns is not None:
                        yield columns
                stretches.tell(damaged)


def _columns_of(rows: Sequence[Row], keys: Sequence[tuple[str, ...]]) -> MeasuredColumns:
    times, fingerprints, texts = zip(*[row[:3] for row in rows], strict=True)
    documents = _decode(f"[{','.join(texts)}]")
    values = [values_at(documents, each) for each in keys]
    return MeasuredColumns(times, values, (times[-1], fingerprints[-1]))


def _columns_of_packed(part: Part, packed: PackedRows, names: Sequence[str]) -> MeasuredColumns:
    within = part.first, part.last
    values = [packed.column(name, *within) for name in names]
    return MeasuredColumns(packed.times_between(*within), values, part.through())
