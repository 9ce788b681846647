"""Rollups: the aggregates of many minutes or hours of a sensor in one row."""

import msgspec

from heliograph.model.aggregation import Aggregate, total_of
from heliograph.model.time import DAY, HOUR, MINUTE

# The levels, by the seconds of a slot: rows of an hour by the minute, of a day by the hour.
MINUTES = 60
HOURS = 3_600
# What a row of the level covers, and a slot of it, in microseconds.
SPAN = {MINUTES: HOUR, HOURS: DAY}
SLOT = {MINUTES: MINUTE, HOURS: HOUR}


class Rollup(msgspec.Struct, gc=False):
    """Slots of a level: how many rows each has (no slot without any), and their attributes.

    Both ascend. `at` of an aggregate is its slot; only slots with numbers have one. If it isn't
    complete, there are numbers that it doesn't hold.
    """

    rows: dict[int, int] = {}
    attributes: dict[str, list[Aggregate]] = {}
    complete: bool = True

    def count(self, slot: int, rows: int) -> None:
        """Count rows into the last slot, or one behind it."""
        self.rows[slot] = self.rows.get(slot, 0) + rows

    def append(self, slot: int, name: str, known: Aggregate) -> None:
        """Count an attribute's numbers into its last slot, or one behind it."""
        known.at = slot
        found = self.attributes.setdefault(name, [])
        if found and found[-1].at == slot:
            found[-1].add(known)
        else:
            found.append(known)


def replaced(old: Rollup, first: int, last: int, new: Rollup) -> Rollup:
    """Return the rollup with the slots from `first` to before `last` being those of `new`.

    `new` has no others.
    """
    rows = {slot: count for slot, count in old.rows.items() if not first <= slot < last}
    made = Rollup(dict(sorted({**rows, **new.rows}.items())), {}, old.complete and new.complete)
    for name in {**old.attributes, **new.attributes}:
        known = old.attributes.get(name, [])
        found = [each for each in known if each.at < first]
        found += new.attributes.get(name, [])
        found += [each for each in known if each.at >= last]
        if found:
            made.attributes[name] = found
    return made


def folded(rollup: Rollup, slot: int) -> Rollup:
    """Return the whole rollup as one slot of the level above; of nothing, nothing."""
    whole = Rollup(complete=rollup.complete)
    if rollup.rows:
        whole.count(slot, sum(rollup.rows.values()))
    for name, found in rollup.attributes.items():
        all_of_it = Aggregate(
            sum([each.count for each in found]),
            total_of([each.total for each in found]),
            min([each.minimum for each in found]),
            max([each.maximum for each in found]),
            found[-1].last,
        )
        whole.append(slot, name, all_of_it)
    return whole
