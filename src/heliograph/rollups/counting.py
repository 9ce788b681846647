"""From raw rows to rollups: pure work, to be done beside the event loop."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from heliograph.model.aggregation import aggregate
from heliograph.model.attributes import columns
from heliograph.model.number_text import is_number_text
from heliograph.model.time import DAY, HOUR, MINUTE
from heliograph.packed.chunk import PackedRows
from heliograph.packed.head import DamagedChunkError
from heliograph.rollups.packing import MAXIMUM_ATTRIBUTES_OF_ROLLUP, pack, unpack
from heliograph.rollups.rollup import HOURS, MINUTES, Rollup, folded, replaced
from heliograph.store.engine import Row
from heliograph.store.stretches import Damaged, Stretch

# Held until somebody takes them.
MOST_TEXTS = 1_000

_decode = msgspec.json.decode


class Key(NamedTuple):
    """What a rollup is found by."""

    sensor: int
    level: int
    start: int


class Work(NamedTuple):
    """A sensor's time from `start` to before `end`, in whole minutes, to be rolled up anew.

    What a rollup holds of later times of its hour is dropped: it never held.
    """

    sensor: int
    start: int
    end: int

    @property
    def first_hour(self) -> int:
        """Where the hour begins that it begins in."""
        return self.start - self.start % HOUR


class Assembled(NamedTuple):
    """Sensor, level, start and packed of each rollup, None for those to be deleted.

    And how many hours have more attributes than a rollup keeps.
    """

    rollups: list[tuple[int, int, int, bytes | None]]
    wide: int


# By sensor and hour.
Counted = dict[tuple[int, int], Rollup]


class NumberTexts:
    """Texts that say numbers, as they are met while rows are counted: one of each attribute."""

    def __init__(self, is_news: Callable[[int, str], bool]) -> None:
        """Take those of sensors and attributes that are news."""
        self._is_news = is_news
        self._found: dict[tuple[int, str], str] = {}

    def look(self, sensor: int, name: str, values: Sequence[Any]) -> None:
        """Take note of the newest of an attribute's values, if it is such a text."""
        if (
            is_number_text(values[-1])
            and len(self._found) < MOST_TEXTS
            and self._is_news(sensor, name)
        ):
            self._found[sensor, name] = values[-1]

    def take(self) -> dict[tuple[int, str], str]:
        """Return what was found since the last call, by sensor and attribute."""
        found, self._found = self._found, {}
        return found


def count_stretch(
    sensor: int,
    stretch: Stretch,
    opened: Mapping[int, PackedRows],
    counted: Counted,
    texts: NumberTexts | None = None,
) -> tuple[int, Damaged]:
    """Count in a stretch that is later than those before.

    Return how many rows it has, and chunks that are damaged, of which nothing is counted.
    """
    damaged: Damaged = []
    count = 0
    for part in stretch.parts(opened, damaged):
        if part.packed is None or part.chunk is None:
            count_minutes(sensor, part.rows, counted, texts)
            count += len(part.rows)
            continue
        try:
            _count_packed(sensor, part.packed, part.first, part.last, counted, texts)
            count += part.last - part.first
        except DamagedChunkError as error:
            damaged.append((part.chunk, error))
    return count, damaged


def _count_packed(
    sensor: int,
    packed: PackedRows,
    first: int,
    last: int,
    counted: Counted,
    texts: NumberTexts | None,
) -> None:
    """Count in the rows of a chunk from one position to before another."""
    cut = list(_minutes(packed.times, first, last))
    segments = [(start, end) for start, end, _, _ in cut]
    found = packed.aggregates(segments, ats=[slot for _, _, _, slot in cut])
    if texts is not None:
        for name, known in found.items():
            for segment, each in zip(segments, known, strict=True):
                if each is None and (values := packed.values(name, *segment)):
                    texts.look(sensor, name, values)
    rollups = [_rollup(counted, sensor, hour) for _, _, hour, _ in cut]
    for rollup, (start, end, _, slot) in zip(rollups, cut, strict=True):
        rollup.count(slot, end - start)
    for name, known in found.items():
        for rollup, (_, _, _, slot), each in zip(rollups, cut, known, strict=True):
            if each is not None:
                rollup.append(slot, name, each)


def _minutes(times: Sequence[int], first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield between which positions there is a minute, when its hour begins, and which it is."""
    while first < last:
        into = times[first] % HOUR
        hour, slot = times[first] - into, into // MINUTE
        end = bisect_left(times, hour + (slot + 1) * MINUTE, first, last)
        yield first, end, hour, slot
        first = end


def _rollup(counted: Counted, sensor: int, hour: int) -> Rollup:
    found = counted.get((sensor, hour))
    if found is None:
        found = counted[sensor, hour] = Rollup()
    return found


def count_minutes(
    sensor: int, rows: Sequence[Row], counted: Counted, texts: NumberTexts | None = None
) -> None:
    """Count in rows of (timestamp, fingerprint, value), all later than those before."""
    times = [row[0] for row in rows]
    documents = _decode("[" + ",".join([row[2] for row in rows]) + "]")
    for first, last, hour, slot in _minutes(times, 0, len(times)):
        rollup = _rollup(counted, sensor, hour)
        rollup.count(slot, last - first)
        for name, values in columns(documents[first:last]).items():
            known = aggregate(values)
            if known is not None:
                rollup.append(slot, name, known)
            elif texts is not None:
                texts.look(sensor, name, values)


def count_groups(rows: Sequence[Row], counted: Counted, texts: NumberTexts | None = None) -> None:
    """Count in rows of (timestamp, fingerprint, value, sensor), whole spans of several sensors."""
    ordered = sorted(rows, key=lambda row: (row[3], row[0], row[1]))
    first = 0
    for at in range(1, len(ordered) + 1):
        if at == len(ordered) or ordered[at][3] != ordered[first][3]:
            count_minutes(ordered[first][3], ordered[first:at], counted, texts)
            first = at


def needed(works: Iterable[Work], counted: Counted, until: int, *, clear: bool) -> list[Key]:
    """Return the stored rollups that `assemble` has to know."""
    keys: set[Key] = set()
    for sensor, start, end in works:
        for hour in range(start - start % HOUR, end, HOUR):
            ends = hour + HOUR <= until
            if (sensor, hour) not in counted and not (clear or (hour < start and ends)):
                continue
            if hour < start:
                keys.add(Key(sensor, MINUTES, hour))
            if ends:
                keys.add(Key(sensor, HOURS, hour - hour % DAY))
    return sorted(keys)


def assemble(
    works: Iterable[Work],
    counted: Counted,
    stored: Mapping[Key, bytes],
    until: int,
    *,
    clear: bool,
) -> Assembled:
    """Return the rollups to store.

    Hours that end by `until` are folded into their days. Whole hours without rows are left
    alone unless `clear` says that there may be rollups of them.
    """
    changed: dict[Key, Rollup] = {}
    for work in works:
        sensor = work.sensor
        for hour in range(work.first_hour, work.end, HOUR):
            new = counted.get((sensor, hour))
            first = max(work.start - hour, 0) // MINUTE
            if first:
                old = stored.get(Key(sensor, MINUTES, hour))
                if new is None and old is None:
                    continue  # nor was it to be known, unless the hour ends
                new = replaced(_known(old), first, HOUR // MINUTE, new or Rollup())
            elif new is None:
                if not clear:
                    continue
                new = Rollup()
            changed[Key(sensor, MINUTES, hour)] = new
            if hour + HOUR <= until:
                day = Key(sensor, HOURS, hour - hour % DAY)
                slot = hour % DAY // HOUR
                known = changed.get(day) or _known(stored.get(day))
                changed[day] = replaced(known, slot, slot + 1, folded(new, slot))
    wide = sum(
        key.level == MINUTES and len(rollup.attributes) > MAXIMUM_ATTRIBUTES_OF_ROLLUP
        for key, rollup in changed.items()
    )
    rows = [
        (*key, pack(rollup, text=key.level == HOURS) if rollup.rows else None)
        for key, rollup in changed.items()
    ]
    return Assembled(rows, wide)


def _known(packed: bytes | None) -> Rollup:
    return Rollup() if packed is None else unpack(packed)
