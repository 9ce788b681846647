"""The numbers of chunks that a curve needs: all of them, a few of each, or what its head tells."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from heliograph.packed.chunk import PackedRows
from heliograph.packed.head import DOCUMENTS, AttributeHead, ChunkHead, DamagedChunkError
from heliograph.store.downsampling import HELD, Curve
from heliograph.store.engine import Row
from heliograph.store.stretches import Damaged, HeadedChunk, Part, Stretch

# Of so many of the least and the greatest each point is chosen, at least. Four are enough for the
# shape: Van Der Donckt et al.: MinMaxLTTB, 2023.
_FOR_A_POINT: Final = 8

AddRows: TypeAlias = Callable[[Curve, Sequence[Row]], None]


class PackedPoints:
    """Adds the numbers of an attribute to a curve, stretch by stretch."""

    def __init__(self, curve: Curve, name: str, add_rows: AddRows) -> None:
        """Add to the curve; rows that are not packed are handed to `add_rows`."""
        self._curve = curve
        self._name = name
        self._add_rows = add_rows
        # Of so many numbers in a row the least and the greatest are taken; None: as heads tell.
        self._among: int | None = 1
        # The chunk that came last, if its last number is not known from its head.
        self.unread: int | None = None

    def thin(self, chunks: int, rows: int, count: int) -> None:
        """Take as many of the numbers of so many rows as `count` points need."""
        if rows <= HELD:
            self._among = 1
            return
        among = 2 * rows // (_FOR_A_POINT * count)
        self._among = among if among < rows // chunks else None

    def needed(self, stretch: Stretch, chunk: HeadedChunk) -> int:
        """Return how much of the chunk's body is needed, in bytes."""
        if not stretch.is_whole(chunk):
            # Fingerprints tell which of its rows come first.
            return chunk.head.length
        return 0 if self._is_headed(stretch, chunk) else chunk.head.needed([self._name])

    def _is_headed(self, stretch: Stretch, chunk: HeadedChunk) -> bool:
        """Return whether the head is enough. The first number of all is not in it."""
        if self._known(chunk.head) is None or self._among is not None:
            return self._known(chunk.head) is None and DOCUMENTS not in chunk.head.columns
        if not stretch.is_whole(chunk):
            return False
        before = itertools.takewhile(lambda each: each.id != chunk.id, stretch.chunks)
        return len(self._curve) > 0 or any(
            self._known(each.head) and stretch.is_whole(each) for each in before
        )

    def _known(self, head: ChunkHead) -> AttributeHead | None:
        known = head.attributes.get(self._name)
        return known if known is not None and known.minimum_at is not None else None

    def add(self, stretch: Stretch, opened: Mapping[int, PackedRows]) -> Damaged:
        """Add what a stretch has, in its order; return chunks that are damaged."""
        damaged: Damaged = []
        headed = {chunk.id for chunk in stretch.chunks if self._is_headed(stretch, chunk)}
        for part in stretch.parts(opened, damaged):
            if part.chunk is None:
                self._add_rows(self._curve, part.rows)
                self.unread = None
            elif part.chunk.id in headed:
                self._add_head(part.chunk)
            else:
                try:
                    self._add_packed(part)
                except DamagedChunkError as error:
                    damaged.append((part.chunk, error))
        return damaged

    def _add_head(self, chunk: HeadedChunk) -> None:
        known = self._known(chunk.head)
        if known is None or known.minimum_at is None or known.maximum_at is None:
            return
        numbers = {known.minimum_at: known.minimum, known.maximum_at: known.maximum}
        places = sorted(numbers)
        self._curve.add(
            [chunk.head.first + later for _, later in places],
            [position for position, _ in places],
            [number for place in places if (number := numbers[place]) is not None],
            chunk.id,
            # A head has 1 where a row has true.
            is_exact={0, 1}.isdisjoint(numbers.values()),
        )
        self.unread = chunk.id

    def _add_packed(self, part: Part) -> None:
        packed, chunk = part.packed, part.chunk
        if packed is None or chunk is None:
            return
        among = self._among or 1
        positions: Sequence[int]
        if among == 1 or part.last - part.first < len(packed):
            positions = range(part.first, part.last)
            numbers = packed.numbers(self._name, part.first, part.last)
        else:
            found = packed.extremes(self._name, among)
            positions, numbers = list(found), [*found.values()]
        self._curve.add(packed.times_at(positions), positions, numbers, chunk.id)
        self.unread = None

    def add_last(self, chunk: int, packed: PackedRows) -> None:
        """Add the last number of a chunk of which the head alone was read."""
        numbers = packed.numbers(self._name)
        last = max(at for at, number in enumerate(numbers) if number is not None)
        if packed.times[last] > self._curve.last:
            self._curve.add([packed.times[last]], [last], [numbers[last]], chunk)
        self.unread = None
