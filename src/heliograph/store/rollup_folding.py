"""Counting many rollups by bucket, a column of all of them at once.

Nothing imports this before it is needed: numpy takes 25 MiB and a tenth of a second.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from msgspec.msgpack import Ext
from numpy.typing import NDArray

from heliograph.model.aggregation import Aggregate
from heliograph.model.rollup_packing import (
    FLOATS,
    WIDTH,
    Numbers,
    Packed,
    PackedColumns,
    decode,
    decode_columns,
)

_Array: TypeAlias = NDArray[Any]
# First position, position behind the last, and bucket.
Cut: TypeAlias = Sequence[tuple[int, int, int]]

_TYPES = {
    code: np.dtype(f"<{'f' if code == FLOATS else 'i'}{width}") for code, width in WIDTH.items()
}


class _Part(NamedTuple):
    """An attribute in one rollup, which begins at `start`."""

    start: int
    rollup: Packed
    columns: PackedColumns


class Rollups:
    """Rollups that ascend, of which none that isn't complete is counted."""

    def __init__(
        self, length: int, found: Iterable[tuple[int, bytes]], names: Collection[str] | None
    ) -> None:
        """Take rollups (start, packed) whose slots are of this length, with these attributes.

        Without names, all.
        """
        self._length = length
        self._known: list[tuple[int, Packed]] = []
        self.incomplete: list[int] = []
        self._parts: dict[str, list[_Part]] = {}
        for start, packed in found:
            rollup = decode(packed)
            if not rollup.complete:
                self.incomplete.append(start)
                continue
            self._known.append((start, rollup))
            for name, raw in rollup.attributes.items():
                if names is None or name in names:
                    part = _Part(start, rollup, decode_columns(raw))
                    self._parts.setdefault(name, []).append(part)
        self.times = self._times([(start, rollup.slots) for start, rollup in self._known])

    def rows(self, cut: Cut) -> list[int]:
        """Return how many rows each bucket of the cut has."""
        if not cut:
            return []
        counts = _joined([rollup.counts for _, rollup in self._known]).astype(np.int64)
        found: list[int] = _over(np.add.reduceat, counts, _edges(cut)).tolist()
        return found

    def attributes(
        self, cut: Cut, cutting: Callable[[list[int]], Cut]
    ) -> Iterator[tuple[str, list[tuple[int, Aggregate]]]]:
        """Yield the attributes, and what is known of each bucket of the cut of `times`.

        `cutting` cuts the times of those that aren't in all slots.
        """
        for name, parts in self._parts.items():
            times, own = self.times, cut
            if len(parts) < len(self._known) or any(part.columns.slots for part in parts):
                times = self._times(
                    [(part.start, part.columns.slots or part.rollup.slots) for part in parts]
                )
                own = cutting(times)
            yield name, _folded(parts, times, own) if own else []

    def _times(self, slots: Sequence[tuple[int, Numbers]]) -> list[int]:
        """Return when the slots of rollups begin."""
        if not slots:
            return []
        starts = np.array([start for start, _ in slots], dtype=np.int64)
        into = _joined([each for _, each in slots]).astype(np.int64)
        lengths = [_length(each) for _, each in slots]
        found: list[int] = (np.repeat(starts, lengths) + into * self._length).tolist()
        return found


def _folded(parts: Sequence[_Part], times: Sequence[int], cut: Cut) -> list[tuple[int, Aggregate]]:
    found = [part.columns for part in parts]
    # What is left out of a rollup follows from its other columns.
    counts = _joined([part.columns.counts or part.rollup.counts for part in parts])
    totals = _joined([each.totals or each.lasts for each in found]).astype(np.float64)
    minima = _joined([each.minima or each.lasts for each in found])
    maxima = _joined([each.maxima or each.lasts for each in found])
    lasts = _joined([each.lasts for each in found])
    edges = _edges(cut)
    # A sum beyond a float is infinite, or no number: shown as null.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = _over(np.add.reduceat, totals, edges)
    known = map(
        Aggregate,
        _over(np.add.reduceat, counts.astype(np.int64), edges).tolist(),
        sums.tolist(),
        _over(np.minimum.reduceat, minima, edges).tolist(),
        _over(np.maximum.reduceat, maxima, edges).tolist(),
        lasts[[last - 1 for _, last, _ in cut]].tolist(),
        [times[last - 1] for _, last, _ in cut],
    )
    return [(bucket, each) for (_, _, bucket), each in zip(cut, known, strict=True)]


def _edges(cut: Cut) -> NDArray[np.int64]:
    """Return first and last positions in turn."""
    return np.array([each[:2] for each in cut], dtype=np.int64).ravel()


def _over(
    reduce: Callable[[_Array, NDArray[np.int64]], _Array],
    numbers: _Array,
    edges: NDArray[np.int64],
) -> _Array:
    """Return what the function makes of the numbers between each two edges."""
    # An edge behind all numbers stands for no position, and isn't needed: they end there.
    return reduce(numbers, edges[:-1] if edges[-1] == len(numbers) else edges)[::2]


def _joined(parts: Sequence[Numbers]) -> _Array:
    """Return the numbers of the parts, each as it is."""
    first = parts[0]
    if isinstance(first, Ext):
        alike = [part for part in parts if isinstance(part, Ext) and part.code == first.code]
        if len(alike) == len(parts):
            return _numbers(b"".join([part.data for part in alike]), first.code)
    mixed = [_array(part) for part in parts]
    if len({each.dtype.kind for each in mixed}) > 1:
        # Whole numbers of 64 bits are more exact than a float.
        mixed = [each.astype(object) for each in mixed]
    return np.concatenate(mixed)


def _length(numbers: Numbers) -> int:
    if isinstance(numbers, Ext):
        return len(bytes(numbers.data)) // WIDTH[numbers.code]
    return len(numbers)


def _array(numbers: Numbers) -> _Array:
    if isinstance(numbers, Ext):
        return _numbers(bytes(numbers.data), numbers.code)
    return np.array(numbers, dtype=object)


def _numbers(data: bytes, code: int) -> _Array:
    return np.frombuffer(data, dtype=_TYPES[code])
