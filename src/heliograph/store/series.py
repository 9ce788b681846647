"""Aggregates by bucket, counted together from raw rows and from rollups."""

import importlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from heliograph.model.aggregation import Aggregate, aggregate
from heliograph.model.rollup import SLOT, SPAN
from heliograph.model.rollup_plan import Span
from heliograph.store.attributes import column, columns, keys_of
from heliograph.store.engine import Row
from heliograph.store.pages import LEAST

if TYPE_CHECKING:
    from heliograph.store.rollup_folding import PackedRollups

MAXIMUM_VALUES = 100_000
# Imported when it is needed: that takes some tenths of a second.
FOLDING = "heliograph.store.rollup_folding"

_decode = msgspec.json.decode


class RangeTooLargeError(Exception):
    """What was asked for is more than one answer may take; the message says of what."""


class Series:
    """Aggregates by attribute and bucket, and how many rows each bucket has.

    Parts of the range may be counted in any order, as long as none lies within another.
    """

    def __init__(self, starts: Sequence[int], names: Sequence[str] | None) -> None:
        """Count into buckets from `starts`, whose last is an end; without names all attributes."""
        self.rows = [0] * max(len(starts) - 1, 0)
        self.attributes: dict[str, dict[int, Aggregate]] = {name: {} for name in names or ()}
        self.values = 0
        self._starts = starts
        self._keys = None if names is None else {name: keys_of(name) for name in names}

    def count(self, rows: Sequence[Row], spans: Sequence[Span]) -> None:
        """Count in rows of (timestamp, fingerprint, value), in their order, of these spans.

        Raises:
            RangeTooLargeError: there are more than `MAXIMUM_VALUES`.
        """
        times = [row[0] for row in rows]
        documents = _decode("[" + ",".join([row[2] for row in rows]) + "]")
        # Span by span: what lies between two of them is of neither's time.
        for first, last, bucket in self._cut(times, spans):
            self._count(bucket, documents[first:last], times[last - 1])

    def count_rollups(
        self,
        level: int,
        rollups: Sequence[tuple[int, bytes]],
        spans: Sequence[Span],
        raw_from: int = LEAST,
    ) -> list[Span]:
        """Count in what rollups (start, packed) of the level hold of these spans.

        Both ascend. Returns the parts of the spans whose rollups do not hold all that was asked
        for: of those nothing is counted, but for what is before `raw_from`, where there is
        nothing else.

        Raises:
            RangeTooLargeError: there are more than `MAXIMUM_VALUES`.
        """
        folding = importlib.import_module(FOLDING)
        found: PackedRollups = folding.PackedRollups(SLOT[level], rollups, self._keys, raw_from)
        lacking = [
            span
            for start in found.incomplete
            for span in _common(spans, (start, start + SPAN[level]))
        ]
        times = found.times
        if times:
            # Of many spans those alone that these rollups are of.
            spans = [span for span in spans if span[1] > times[0] and span[0] <= times[-1]]
        cut = self._cut(times, spans)
        if not cut:
            return lacking
        segments = folding.Segments(cut)
        for bucket, rows in zip(segments.buckets, found.rows(segments), strict=True):
            self.rows[bucket] += rows
        for name, known in found.attributes(segments, lambda own: self._cut(own, spans)):
            self._add(name, known)
        return lacking

    def finish(self) -> None:
        """Put the buckets in order."""
        for name, buckets in self.attributes.items():
            order = list(buckets)
            if any(map(int.__gt__, order, order[1:])):
                self.attributes[name] = {bucket: buckets[bucket] for bucket in sorted(order)}

    def _cut(self, times: Sequence[int], spans: Sequence[Span]) -> list[tuple[int, int, int]]:
        """Return which positions of `times` within the spans are of which bucket."""
        starts = self._starts
        cut: list[tuple[int, int, int]] = []
        first = 0
        for start, end in spans:
            first = bisect_left(times, start, first)
            after = bisect_left(times, end, first)
            while first < after:
                bucket = bisect_right(starts, times[first]) - 1
                last = bisect_left(times, starts[bucket + 1], first, after)
                cut.append((first, last, bucket))
                first = last
        return cut

    def _count(self, bucket: int, documents: Sequence[object], at: int) -> None:
        self.rows[bucket] += len(documents)
        if self._keys is None:
            found = columns(documents)
        else:
            found = {name: column(documents, keys) for name, keys in self._keys.items()}
        for name, values in found.items():
            more = aggregate(values)
            if more is not None:
                more.at = at
                self._add(name, [(bucket, more)])

    def _add(self, name: str, found: Iterable[tuple[int, Aggregate]]) -> None:
        """Count in what is known of buckets."""
        buckets = self.attributes.setdefault(name, {})
        before = len(buckets)
        for bucket, more in found:
            known = buckets.get(bucket)
            if known is None:
                buckets[bucket] = more
            else:
                known.add(more)
        self.values += len(buckets) - before
        if self.values > MAXIMUM_VALUES:
            raise RangeTooLargeError(
                f"more than {MAXIMUM_VALUES:,} buckets of all attributes together:"
                " name fewer attributes, or take longer buckets"
            )


def _common(spans: Sequence[Span], other: Span) -> list[Span]:
    """Return what of the spans, apart, is in another."""
    return [
        (max(start, other[0]), min(end, other[1]))
        for start, end in spans
        if start < other[1] and other[0] < end
    ]
