"""Counting many rollups by bucket, a column of all of them at once."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeAlias

from msgspec.msgpack import Ext

from heliograph.model.aggregation import Aggregate, total_of
from heliograph.rollups.packing import (
    Numbers,
    Packed,
    PackedColumns,
    decode,
    decode_columns,
    totals_of,
    unpacked,
)
from heliograph.store.engine import Row

# First position, position behind the last, and bucket.
Cut: TypeAlias = Sequence[tuple[int, int, int]]

# An attribute in one rollup, which begins then.
_Part: TypeAlias = tuple[int, Packed, PackedColumns]


class Segments:
    """The parts of columns that are of one bucket each; there is at least one."""

    def __init__(self, cut: Cut) -> None:
        self.buckets = [bucket for _, _, bucket in cut]
        self._slices = [slice(first, last) for first, last, _ in cut]
        self._lasts = [last - 1 for _, last, _ in cut]
        # As many parts as there are numbers from the first of them to the last: one each.
        self._are_single = cut[-1][1] - cut[0][0] == len(cut)

    def last(self, numbers: Sequence[Any]) -> Sequence[Any]:
        """Return the last number of each part."""
        if self._are_single:
            return numbers[self._slices[0].start : self._slices[-1].stop]
        return [numbers[last] for last in self._lasts]

    def over(
        self, function: Callable[[Sequence[Any]], Any], numbers: Sequence[Any]
    ) -> Sequence[Any]:
        """Return what the function makes of the numbers of each part; of a single one, itself."""
        if self._are_single:
            return self.last(numbers)
        return list(map(function, map(numbers.__getitem__, self._slices)))


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
        # When the slots begin.
        self.times = self._times([(start, rollup.slots) for start, rollup in self._known])

    def rows(self, segments: Segments) -> Sequence[int]:
        """Return how many rows each segment of `times` has."""
        return segments.over(sum, _joined([rollup.counts for _, rollup in self._known]))

    def attributes(
        self, segments: Segments, cutting: Callable[[list[int]], Cut]
    ) -> Iterator[tuple[str, Iterable[tuple[int, Aggregate]]]]:
        """Yield the attributes, and what is known of each of their buckets.

        `segments` are those of `times`; `cutting` cuts those of attributes not in all slots.
        """
        for name, parts in self._parts.items():
            if len(parts) == len(self._known) and all(part[2].slots is None for part in parts):
                yield name, _folded(parts, self.times, segments)
                continue
            times = self._times([(at, own.slots or rollup.slots) for at, rollup, own in parts])
            if cut := cutting(times):
                yield name, _folded(parts, times, Segments(cut))

    def _times(self, slots: Sequence[tuple[int, Numbers]]) -> list[int]:
        """Return when the slots of rollups begin."""
        length = self._length
        return [start + slot * length for start, each in slots for slot in unpacked(each)]


def _folded(
    parts: Sequence[_Part], times: Sequence[int], segments: Segments
) -> Iterable[tuple[int, Aggregate]]:
    # What is left out of a rollup follows from its other columns.
    lasts = _joined([own.lasts for _, _, own in parts])
    counts = _joined([own.counts or rollup.counts for _, rollup, own in parts])
    totals = segments.over(total_of, _joined([totals_of(own) for _, _, own in parts]))
    minima = maxima = lasts
    if any(own.minima is not None or own.maxima is not None for _, _, own in parts):
        minima = _joined([own.minima or own.lasts for _, _, own in parts])
        maxima = _joined([own.maxima or own.lasts for _, _, own in parts])
    known = map(
        Aggregate,
        segments.over(sum, counts),
        [total if type(total) is float else total_of((total,)) for total in totals],
        segments.over(min, minima),
        segments.over(max, maxima),
        segments.last(lasts),
        segments.last(times),
    )
    return zip(segments.buckets, known, strict=True)


def _joined(parts: Sequence[Numbers]) -> list[Any]:
    """Return the numbers of the parts, each as it is."""
    arrays = [part for part in parts if isinstance(part, Ext)]
    if len(arrays) == len(parts) and len({part.code for part in arrays}) == 1:
        data = b"".join([part.data for part in arrays])
        return unpacked(Ext(arrays[0].code, data))
    return list(chain.from_iterable(map(unpacked, parts)))
