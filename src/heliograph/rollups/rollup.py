"""Rollups: the aggregates of many minutes or hours of a sensor in one row."""

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

from heliograph.model.aggregation import Aggregate, Number, total_of
from heliograph.model.time import DAY, HOUR, MINUTE

# The levels, by the seconds of a slot: rows of an hour by the minute, of a day by the hour.
MINUTES = 60
HOURS = 3_600
# What a row of the level covers, and a slot of it, in microseconds.
SPAN = {MINUTES: HOUR, HOURS: DAY}
SLOT = {MINUTES: MINUTE, HOURS: HOUR}


class RollupColumns(msgspec.Struct, gc=False):
    """An attribute's aggregates by slot; only slots with numbers, ascending."""

    slots: list[int]
    counts: list[int]
    totals: list[Number]
    minima: list[Number]
    maxima: list[Number]
    lasts: list[Number]

    def append(self, slot: int, known: Aggregate) -> None:
        """Add a slot behind the others, or count later numbers into the last one."""
        if self.slots and self.slots[-1] == slot:
            self.counts[-1] += known.count
            self.totals[-1] = total_of((self.totals[-1], known.total))
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

    def extend(self, more: "RollupColumns", slots: Sequence[int]) -> None:
        """Add what stands in other columns, as these slots."""
        self.slots += slots
        self.counts += more.counts
        self.totals += more.totals
        self.minima += more.minima
        self.maxima += more.maxima
        self.lasts += more.lasts

    def part(self, first: int, last: int) -> "RollupColumns":
        """Return what stands at positions from `first` to before `last`."""
        at = slice(first, last)
        return RollupColumns(
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
    attributes: dict[str, RollupColumns]
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


def empty_columns() -> RollupColumns:
    """Return columns of nothing."""
    return RollupColumns([], [], [], [], [], [])


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
