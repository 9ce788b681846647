"""Counting many rollups by bucket, a column of all of them at once.

Nothing imports this before it is needed: numpy takes 25 MiB and a tenth of a second.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from msgspec.msgpack import Ext
from numpy.typing import NDArray

from heliograph.model.aggregation import Aggregate, total_of
from heliograph.rollups.packing import (
    FLOATS,
    WIDTH,
    Numbers,
    Packed,
    PackedColumns,
    decode,
    decode_columns,
    totals_of,
)
from heliograph.store.engine import Row

_Array: TypeAlias = NDArray[Any]
# First position, position behind the last, and bucket.
Cut: TypeAlias = Sequence[tuple[int, int, int]]

_TYPES = {
    code: np.dtype(f"<{'f' if code == FLOATS else 'i'}{width}") for code, width in WIDTH.items()
}


# Larger numbers are added up one by one: their sum may be beyond a float.
_LARGE = 2.0**900

# An attribute in one rollup, which begins then.
_Part: TypeAlias = tuple[int, Packed, PackedColumns]


class Segments:
    """The parts of columns that are of one bucket each; there is at least one."""

    def __init__(self, cut: Cut) -> None:
        firsts, lasts, self.buckets = zip(*cut, strict=True)
        self._lasts = np.array(lasts) - 1
        # In turn; an edge behind all numbers is no position.
        self._edges = np.empty(2 * len(cut), dtype=np.int64)
        self._edges[::2], self._edges[1::2] = firsts, lasts

    def last(self, numbers: _Array) -> list[Any]:
        """Return the last number of each part."""
        found: list[Any] = numbers[self._lasts].tolist()
        return found

    def each(self, function: Callable[[Sequence[Any]], Any], numbers: _Array) -> list[Any]:
        """Return what the function makes of the numbers of each part, as Python's own."""
        known = numbers.tolist()
        firsts, lasts = self._edges[::2].tolist(), self._edges[1::2].tolist()
        return [function(known[at:end]) for at, end in zip(firsts, lasts, strict=True)]

    def over(self, function: np.ufunc, numbers: _Array) -> list[Any]:
        """Return what the function makes of the numbers of each part."""
        edges = self._edges
        if edges[-1] == len(numbers):
            # Without the last edge the last part ends there too.
            edges = edges[:-1]
        found: list[Any] = function.reduceat(numbers, edges)[::2].tolist()
        return found


class PackedRollups:
    """Rollups that ascend, of which those that aren't complete are left out."""

    def __init__(
        self,
        length: int,
        found: Iterable[Row],
        names: Collection[str] | None,
        raw_from: int,
    ) -> None:
        """Take rollups (start, packed) whose slots are of this length, with these attributes.

        Without names, all. What begins before `raw_from` is taken as it is.
        """
        self._length = length
        self._known: list[tuple[int, Packed]] = []
        self.incomplete: list[int] = []
        self._parts: dict[str, list[_Part]] = {}
        for start, packed, *_ in found:
            rollup = decode(packed)
            if not rollup.complete and start >= raw_from:
                self.incomplete.append(start)
                continue
            self._known.append((start, rollup))
            for name, raw in rollup.attributes.items():
                if names is None or name in names:
                    part = (start, rollup, decode_columns(raw))
                    self._parts.setdefault(name, []).append(part)
        self._moments = self._times([(start, rollup.slots) for start, rollup in self._known])
        # When the slots begin.
        self.times: list[int] = self._moments.tolist()

    def rows(self, segments: Segments) -> list[int]:
        """Return how many rows each segment of `times` has."""
        counts = _joined([rollup.counts for _, rollup in self._known])
        return segments.over(np.add, counts.astype(np.int64))

    def attributes(
        self, segments: Segments, cutting: Callable[[list[int]], Cut]
    ) -> Iterator[tuple[str, Iterable[tuple[int, Aggregate]]]]:
        """Yield the attributes, and what is known of each of their buckets.

        `segments` are those of `times`; `cutting` cuts those of attributes not in all slots.
        """
        for name, parts in self._parts.items():
            if len(parts) == len(self._known) and all(part[2].slots is None for part in parts):
                yield name, _folded(parts, self._moments, segments)
                continue
            times = self._times([(at, own.slots or rollup.slots) for at, rollup, own in parts])
            if cut := cutting(times.tolist()):
                yield name, _folded(parts, times, Segments(cut))

    def _times(self, slots: Sequence[tuple[int, Numbers]]) -> NDArray[np.int64]:
        """Return when the slots of rollups begin."""
        starts = np.array([start for start, _ in slots], dtype=np.int64)
        into = _joined([each for _, each in slots]).astype(np.int64)
        return np.repeat(starts, [_length(each) for _, each in slots]) + into * self._length


def _folded(
    parts: Sequence[_Part], times: NDArray[np.int64], segments: Segments
) -> Iterable[tuple[int, Aggregate]]:
    columns = [part[2] for part in parts]
    # What is left out of a rollup follows from its other columns.
    counts = _joined([own.counts or rollup.counts for _, rollup, own in parts])
    totals = _joined([totals_of(each) for each in columns])
    sums = _sums(segments, totals)
    lasts = _joined([each.lasts for each in columns])
    known = map(
        Aggregate,
        segments.over(np.add, counts.astype(np.int64)),
        sums,
        segments.over(np.minimum, _joined([each.minima or each.lasts for each in columns])),
        segments.over(np.maximum, _joined([each.maxima or each.lasts for each in columns])),
        segments.last(lasts),
        segments.last(times),
    )
    return zip(segments.buckets, known, strict=True)


def _sums(segments: Segments, totals: _Array) -> list[Any]:
    """Return the sum of each part, as exact as one number's last digits."""
    try:
        numbers = totals.astype(np.float64)
    except OverflowError:
        return segments.each(total_of, totals)
    largest = np.abs(numbers).max()
    if not largest < _LARGE:
        return segments.each(total_of, totals)
    # What numbers of all sizes have above a bound is added up without any rounding, and what is
    # left below is so little that its own does not matter: by columns what Neumaier does number by
    # number, at a tenth of the price of fsum (Rump, Ogita and Oishi: Accurate Floating-Point
    # Summation, 2008).
    bound = math.ldexp(1.0, math.frexp(largest)[1] + len(numbers).bit_length())
    above = (numbers + bound) - bound
    sums = zip(segments.over(np.add, above), segments.over(np.add, numbers - above), strict=True)
    return [high + low for high, low in sums]


def _joined(parts: Sequence[Numbers]) -> _Array:
    """Return the numbers of the parts, each as it is."""
    if not parts:
        return np.empty(0, dtype=np.int64)
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
