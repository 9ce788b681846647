"""Aggregates by bucket, counted together from raw rows and from rollups."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import msgspec

from heliograph.model.aggregation import Aggregate, aggregate
from heliograph.model.rollup import SLOT, SPAN, Columns, empty_columns, unpack
from heliograph.model.rollup_plan import Span
from heliograph.store.attributes import column, columns, keys_of
from heliograph.store.engine import Row

MAXIMUM_VALUES = 100_000

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

    def count(self, rows: Sequence[Row]) -> None:
        """Count in rows of (timestamp, fingerprint, value), in their order.

        Raises:
            RangeTooLargeError: there are more than `MAXIMUM_VALUES`.
        """
        times = [row[0] for row in rows]
        documents = _decode("[" + ",".join([row[2] for row in rows]) + "]")
        first = 0
        while first < len(times):
            bucket = bisect_right(self._starts, times[first]) - 1
            last = bisect_left(times, self._starts[bucket + 1], first)
            self._count(bucket, documents[first:last], times[last - 1])
            first = last

    def count_rollups(
        self, level: int, rollups: Sequence[tuple[int, bytes]], spans: Sequence[Span]
    ) -> list[Span]:
        """Count in what rollups (start, packed) of the level hold of these spans.

        Both ascend. Returns the parts of the spans whose rollups do not hold all that was asked
        for: of those nothing is counted.

        Raises:
            RangeTooLargeError: there are more than `MAXIMUM_VALUES`.
        """
        length = SLOT[level]
        times: list[int] = []
        rows: list[int] = []
        found: dict[str, Columns] = {}
        lacking: list[Span] = []
        for start, packed in rollups:
            rollup = unpack(packed, self._keys)
            if not rollup.complete:
                lacking.append((start, start + SPAN[level]))
                continue
            moments = [start + slot * length for slot in rollup.slots]
            times += moments
            rows += rollup.counts
            for name, known in rollup.attributes.items():
                flat = found.get(name)
                if flat is None:
                    flat = found[name] = empty_columns()
                same = known.slots is rollup.slots
                flat.extend(
                    known, moments if same else [start + slot * length for slot in known.slots]
                )
        for first, last, bucket in self._cut(times, spans):
            self.rows[bucket] += sum(rows[first:last])
        for name, flat in found.items():
            for first, last, bucket in self._cut(flat.slots, spans):
                known_there = flat.fold(first, last)
                known_there.at = flat.slots[last - 1]
                self._add(name, bucket, known_there)
        return _common(spans, lacking)

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
                self._add(name, bucket, more)

    def _add(self, name: str, bucket: int, more: Aggregate) -> None:
        buckets = self.attributes.setdefault(name, {})
        known = buckets.get(bucket)
        if known is not None:
            known.add(more)
            return
        buckets[bucket] = more
        self.values += 1
        if self.values > MAXIMUM_VALUES:
            raise RangeTooLargeError(
                f"more than {MAXIMUM_VALUES:,} buckets of all attributes together:"
                " name fewer attributes, or take longer buckets"
            )


def _common(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """Return what is in both; of each the spans are apart."""
    return [
        (max(start, other_start), min(end, other_end))
        for other_start, other_end in others
        for start, end in spans
        if max(start, other_start) < min(end, other_end)
    ]
