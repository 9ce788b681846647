"""Choosing the rows of a series that show its shape: Largest Triangle Three Buckets.

Sveinn Steinarsson: Downsampling Time Series for Visual Representation, 2013.
"""

from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

from heliograph.model.aggregation import Number, as_float

# Points that are held, of 32 bytes each. Of a longer series those are dropped that are neither
# the least nor the greatest among their neighbours: of 5,000 points that are chosen each then
# comes from at least 26 that are left.
HELD = 1 << 18

# What a number was: whatever it may have been, or what a double tells exactly.
_UNKNOWN: Final = 0
_KIND: Final[dict[type, int]] = {float: 1, int: 2, bool: 3}
_MADE: Final[dict[int, type]] = {kind: made for made, kind in _KIND.items()}
_EXACT: Final = 1 << 53


class Point(NamedTuple):
    """A point that was chosen.

    A row's, by its fingerprint; or that of a row in a chunk (its id), by its position, with its
    number as it was stored, if that is known without looking.
    """

    timestamp: int
    fingerprint: int
    chunk: int = 0
    number: Number | None = None


class Curve:
    """A series of numbers, of which a bounded part is held."""

    def __init__(self) -> None:
        self._timestamps = array("q")
        self._fingerprints = array("q")
        self._values = array("d")
        self._chunks = array("q")
        self._kinds = bytearray()
        # Of so many points two are kept.
        self._among = 1

    def add(
        self,
        timestamps: Sequence[int],
        fingerprints: Sequence[int],
        values: Sequence[Number | None],
        chunk: int = 0,
        *,
        is_exact: bool = True,
    ) -> None:
        """Add points that are all later than those before; None is left out.

        Of those in a chunk, which is told by its id, there are the positions for fingerprints, and
        values are what was stored, or equal to it unless `is_exact`.
        """
        kept = [at for at, value in enumerate(values) if value is not None]
        known = [value for value in values if value is not None]
        if self._among > 1:
            among = _least_and_greatest(known, self._among)
            kept, known = [kept[at] for at in among], [known[at] for at in among]
        if set(map(type, known)) == {float}:
            kinds = bytes((_KIND[float],)) * len(known)
        else:
            kinds = bytes(map(_kind, known) if is_exact else len(known))
            known = list(map(as_float, known))
        self._timestamps.extend([timestamps[at] for at in kept])
        self._fingerprints.extend([fingerprints[at] for at in kept])
        self._values.extend(known)
        self._chunks.extend([chunk] * len(known))
        self._kinds += kinds
        if len(self._values) > HELD:
            self._thin()

    def _thin(self) -> None:
        kept = _least_and_greatest(self._values, 4)
        self._timestamps = array("q", [self._timestamps[at] for at in kept])
        self._fingerprints = array("q", [self._fingerprints[at] for at in kept])
        self._values = array("d", [self._values[at] for at in kept])
        self._chunks = array("q", [self._chunks[at] for at in kept])
        self._kinds = bytearray([self._kinds[at] for at in kept])
        self._among = max(4, 2 * self._among)

    def __len__(self) -> int:
        """Return how many points are held."""
        return len(self._values)

    @property
    def last(self) -> int:
        """The time of the last point; there is one."""
        return self._timestamps[-1]

    def pick(self, count: int) -> list[Point]:
        """Return so many points, ascending; at least 3."""
        chosen: Sequence[int] = range(len(self._values))
        if len(self._values) > count:
            chosen = _largest_triangles(self._timestamps, self._values, count)
        return list(map(self._point, chosen))

    def _point(self, at: int) -> Point:
        timestamp, fingerprint, chunk = (
            self._timestamps[at],
            self._fingerprints[at],
            self._chunks[at],
        )
        kind = self._kinds[at]
        if not chunk or kind == _UNKNOWN:
            return Point(timestamp, fingerprint, chunk)
        return Point(timestamp, fingerprint, chunk, _MADE[kind](self._values[at]))


def _kind(number: Number) -> int:
    is_exact = type(number) is not int or -_EXACT <= number <= _EXACT
    return _KIND[type(number)] if is_exact else _UNKNOWN


def _largest_triangles(timestamps: Sequence[int], values: Sequence[float], count: int) -> list[int]:
    """Return where so many are that make the largest triangles with their neighbours."""
    # Areas of the greatest numbers there are would be beyond a float.
    scale = max(map(abs, values)) or 1.0
    values = array("d", [value / scale for value in values])
    size = (len(values) - 2) / (count - 2)
    edges = [int(size * number) + 1 for number in range(count - 1)] + [len(values)]
    chosen = [0]
    for first, last, after in zip(edges, edges[1:], edges[2:], strict=False):
        x, y = timestamps[chosen[-1]], values[chosen[-1]]
        run = (sum(timestamps[last:after]) - x * (after - last)) / (after - last)
        rise = sum(values[last:after]) / (after - last) - y
        # Twice the area of the triangle with the point before and the mean of those after.
        areas = [
            abs(rise * (time - x) - run * (value - y))
            for time, value in zip(timestamps[first:last], values[first:last], strict=True)
        ]
        chosen.append(first + areas.index(max(areas)))
    return [*chosen, len(values) - 1]


def _least_and_greatest(values: Sequence[float], among: int) -> list[int]:
    """Return where of so many in a row the least and the greatest are, and the first and last."""
    found = [0] if values else []
    for start in range(0, len(values), among):
        part = values[start : start + among]
        least, greatest = part.index(min(part)), part.index(max(part))
        for at in sorted((least, greatest)):
            if start + at > found[-1]:
                found.append(start + at)
    if values and found[-1] < len(values) - 1:
        found.append(len(values) - 1)
    return found
