"""Rollups: the aggregates of many minutes or hours of a sensor in one row.

Packed, a rollup is MessagePack in columns: what an hour by the minute takes decodes in a few
microseconds, and of many attributes only those that are asked for. A column that follows from
another (one row a minute is its own minimum, maximum and total) is left out.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from itertools import chain
from typing import TypeAlias

import msgspec

from heliograph.model.aggregation import Aggregate, as_float, total_of
from heliograph.model.time import DAY, HOUR, MINUTE

# The levels, by the seconds of a slot: rows of an hour by the minute, of a day by the hour.
MINUTES = 60
HOURS = 3_600
# What a row of the level covers, and a slot of it, in microseconds.
SPAN = {MINUTES: HOUR, HOURS: DAY}
SLOT = {MINUTES: MINUTE, HOURS: HOUR}

# A row with more attributes keeps the first by name, and is incomplete.
MAXIMUM_ATTRIBUTES = 1_000

_Numbers: TypeAlias = list[int | float]


class Columns(msgspec.Struct, gc=False):
    """An attribute's aggregates by slot; only slots with numbers, ascending."""

    slots: list[int]
    counts: list[int]
    totals: list[float]
    minima: _Numbers
    maxima: _Numbers
    lasts: _Numbers

    def append(self, slot: int, known: Aggregate) -> None:
        """Add a slot behind the others, or count later numbers into the last one."""
        if self.slots and self.slots[-1] == slot:
            self.counts[-1] += known.count
            self.totals[-1] += known.total
            self.minima[-1] = min(self.minima[-1], known.minimum)
            self.maxima[-1] = max(self.maxima[-1], known.maximum)
            self.lasts[-1] = known.last
            return
        self.slots.append(slot)
        self.counts.append(known.count)
        self.totals.append(known.total)
        self.minima.append(known.minimum)
        self.maxima.append(known.maximum)
        self.lasts.append(known.last)

    def extend(self, more: "Columns", slots: Sequence[int]) -> None:
        """Add what stands in other columns, as these slots."""
        self.slots += slots
        self.counts += more.counts
        self.totals += more.totals
        self.minima += more.minima
        self.maxima += more.maxima
        self.lasts += more.lasts

    def part(self, first: int, last: int) -> "Columns":
        """Return what stands at positions from `first` to before `last`."""
        at = slice(first, last)
        return Columns(
            self.slots[at],
            self.counts[at],
            self.totals[at],
            self.minima[at],
            self.maxima[at],
            self.lasts[at],
        )

    def fold(self, first: int, last: int) -> Aggregate:
        """Return what is known of all numbers at positions from `first` to before `last`.

        They are of the time of the last slot.
        """
        if last - first == 1:
            return Aggregate(
                self.counts[first],
                self.totals[first],
                self.minima[first],
                self.maxima[first],
                self.lasts[first],
                self.slots[first],
            )
        return Aggregate(
            sum(self.counts[first:last]),
            total_of(self.totals[first:last]),
            min(self.minima[first:last]),
            max(self.maxima[first:last]),
            self.lasts[last - 1],
            self.slots[last - 1],
        )


class Rollup(msgspec.Struct, gc=False):
    """Slots of a level: how many rows each has (no slot without any), and their attributes.

    If it isn't complete, there are numbers that it doesn't hold.
    """

    slots: list[int]
    counts: list[int]
    attributes: dict[str, Columns]
    complete: bool = True

    def count(self, slot: int, rows: int) -> None:
        """Count rows into the last slot, or one behind it."""
        if self.slots and self.slots[-1] == slot:
            self.counts[-1] += rows
        else:
            self.slots.append(slot)
            self.counts.append(rows)

    def append(self, slot: int, name: str, known: Aggregate) -> None:
        """Count an attribute's numbers into its last slot, or one behind it."""
        columns = self.attributes.get(name)
        if columns is None:
            columns = self.attributes[name] = empty_columns()
        columns.append(slot, known)


def empty() -> Rollup:
    """Return a rollup of nothing."""
    return Rollup([], [], {})


def empty_columns() -> Columns:
    """Return columns of nothing."""
    return Columns([], [], [], [], [], [])


def chained(parts: Sequence[tuple[Sequence[int], Columns]]) -> Columns:
    """Return columns of which each has other slots than its own as one, in their order."""
    return Columns(
        list(chain.from_iterable([slots for slots, _ in parts])),
        list(chain.from_iterable([columns.counts for _, columns in parts])),
        list(chain.from_iterable([columns.totals for _, columns in parts])),
        list(chain.from_iterable([columns.minima for _, columns in parts])),
        list(chain.from_iterable([columns.maxima for _, columns in parts])),
        list(chain.from_iterable([columns.lasts for _, columns in parts])),
    )


def replaced(old: Rollup, first: int, last: int, new: Rollup) -> Rollup:
    """Return the rollup with the slots from `first` to before `last` being those of `new`.

    `new` has no others.
    """
    low, high = bisect_left(old.slots, first), bisect_left(old.slots, last)
    joined = Rollup(
        old.slots[:low] + new.slots + old.slots[high:],
        old.counts[:low] + new.counts + old.counts[high:],
        {},
        old.complete and new.complete,
    )
    for name in {**old.attributes, **new.attributes}:
        columns = empty_columns()
        known = old.attributes.get(name)
        if known is not None:
            low, high = bisect_left(known.slots, first), bisect_left(known.slots, last)
            columns = known.part(0, low)
        if name in new.attributes:
            columns.extend(new.attributes[name], new.attributes[name].slots)
        if known is not None:
            after = known.part(high, len(known.slots))
            columns.extend(after, after.slots)
        if columns.slots:
            joined.attributes[name] = columns
    return joined


def folded(rollup: Rollup, slot: int) -> Rollup:
    """Return the whole rollup as one slot of the level above; of nothing, nothing."""
    whole = Rollup([], [], {}, rollup.complete)
    if rollup.slots:
        whole.count(slot, sum(rollup.counts))
    for name, columns in rollup.attributes.items():
        whole.append(slot, name, columns.fold(0, len(columns.slots)))
    return whole


class _PackedColumns(msgspec.Struct, array_like=True, gc=False):
    """What is None is as the rollup's own (slots, counts) or as `lasts` (the others)."""

    slots: list[int] | None
    counts: list[int] | None
    totals: list[float] | None
    minima: _Numbers | None
    maxima: _Numbers | None
    lasts: _Numbers


class _Packed(msgspec.Struct, array_like=True, gc=False):
    slots: list[int]
    counts: list[int]
    complete: bool
    attributes: dict[str, msgspec.Raw]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode
_decode_columns = msgspec.msgpack.Decoder(_PackedColumns).decode


def pack(rollup: Rollup) -> bytes:
    """Return the rollup as it is stored."""
    complete, attributes = rollup.complete, rollup.attributes
    if len(attributes) > MAXIMUM_ATTRIBUTES:
        complete = False
        attributes = {name: attributes[name] for name in sorted(attributes)[:MAXIMUM_ATTRIBUTES]}
    packed: dict[str, msgspec.Raw] = {}
    for name, columns in attributes.items():
        try:
            packed[name] = msgspec.Raw(_encode(_column(rollup, columns)))
        except OverflowError:
            # Whole numbers beyond 64 bits, which MessagePack has no place for.
            complete = False
            packed[name] = msgspec.Raw(_encode(_column(rollup, _as_floats(columns))))
    return _encode(_Packed(rollup.slots, rollup.counts, complete, packed))


def unpack(packed: bytes, names: Collection[str] | None = None) -> Rollup:
    """Return the rollup, with these attributes alone (None: all)."""
    found = _decode(packed)
    attributes = {
        name: _unpacked(found, _decode_columns(raw))
        for name, raw in found.attributes.items()
        if names is None or name in names
    }
    return Rollup(found.slots, found.counts, attributes, found.complete)


def _column(rollup: Rollup, columns: Columns) -> _PackedColumns:
    slots = None if columns.slots == rollup.slots else columns.slots
    single = len(columns.counts) == sum(columns.counts)
    return _PackedColumns(
        slots,
        None if slots is None and columns.counts == rollup.counts else columns.counts,
        None if single else columns.totals,
        None if single else columns.minima,
        None if single else columns.maxima,
        columns.lasts,
    )


def _unpacked(rollup: _Packed, packed: _PackedColumns) -> Columns:
    slots = rollup.slots if packed.slots is None else packed.slots
    lasts = packed.lasts
    return Columns(
        slots,
        rollup.counts if packed.counts is None else packed.counts,
        list(map(as_float, lasts)) if packed.totals is None else packed.totals,
        lasts if packed.minima is None else packed.minima,
        lasts if packed.maxima is None else packed.maxima,
        lasts,
    )


def _as_floats(columns: Columns) -> Columns:
    minima, maxima, lasts = (
        [as_float(number) for number in numbers]
        for numbers in (columns.minima, columns.maxima, columns.lasts)
    )
    return Columns(columns.slots, columns.counts, columns.totals, minima, maxima, lasts)
