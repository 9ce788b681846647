"""Columns of whole numbers: differences, as narrow as they are, byte by byte, deflated.

A number is its column's start, a step for each position before it, and what its position has
besides: a difference of its own or, if they are cumulative, the sum of all up to it. Differences
have one width; the first bytes of all of them come first, then the second ones. Each such plane is
a block of its own to deflate, since what is noise in one is nearly constant in the next.
"""

import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import add, sub
from typing import Any, Final

import msgspec

_TYPES: Final = {1: "b", 2: "h", 4: "i", 8: "q"}
_SWAPPED = sys.byteorder == "big"
# Numbers further apart are kept as they are: differences would be of more than 64 bits.
_FARTHEST: Final = 1 << 61
# No zlib header: each column has a checksum, which is verified before.
_RAW: Final = -zlib.MAX_WBITS
_SAMPLE: Final = 256
# So many numbers are put together at once rather than one by one.
_OFTEN: Final = 24
# Of a cumulative column so many numbers take less time to add up than to be made with all others.
_FEW_SUMS: Final = 3


class StoredIntegers(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A column of whole numbers of 64 bits, as it is stored; `width` is in bytes.

    Without a width all differences are 0. `among` are the least and the greatest of those that are
    besides a step, so that a number's place is told without them.
    """

    count: int
    start: int
    step: int
    is_cumulative: bool
    width: int
    planes: bytes
    among: tuple[int, int] | None = None


class Integers:
    """A column's whole numbers, by position."""

    __slots__ = ("_all", "_differences", "_planes", "_stored")

    def __init__(self, stored: StoredIntegers) -> None:
        """Take what `pack_integers` returned."""
        self._stored = stored
        self._all: list[int] | None = None
        self._planes: bytes | None = None
        self._differences: array[int] | None = None

    def __len__(self) -> int:
        """Return how many there are."""
        return self._stored.count

    @property
    def all(self) -> list[int]:
        """The numbers."""
        if self._all is None:
            self._all = self._made()
        return self._all

    def above(self, number: int) -> list[int]:
        """Return by how much each of the numbers is more than this one.

        Where that is little Python has these numbers already, and it takes half of the time.
        """
        return self._made(number)

    def _made(self, less: int = 0) -> list[int]:
        stored = self._stored
        count, start, step = stored.count, stored.start - less, stored.step
        steps = range(start, start + count * step, step) if step else ()
        if not stored.width:
            return list(steps) or [start] * count
        found: Iterable[int] = self._every_difference()
        if stored.is_cumulative:
            found = accumulate(found, initial=0 if step else start)
        elif not step:
            return [start + each for each in found]
        return list(map(add, found, steps)) if step else list(found)

    def part(self, first: int, last: int) -> list[int]:
        """Return the numbers from the position `first` to before `last`."""
        stored = self._stored
        first, last, _ = slice(first, last).indices(stored.count)
        if first >= last:
            return []
        if first == 0 and stored.width and stored.is_cumulative and self._all is None:
            return self.resumed(0, last, stored.start)
        if not self.is_direct:
            return self.all[first:last]
        if not stored.width:
            return [stored.start + at * stored.step for at in range(first, last)]
        start, step = stored.start + first * stored.step, stored.step
        found = self._some_differences(first, last)
        if not step:
            return [start + each for each in found]
        return [start + at * step + each for at, each in enumerate(found)]

    def chosen(self, positions: Sequence[int]) -> list[int]:
        """Return the numbers at these positions."""
        stored = self._stored
        if not self.is_direct:
            if self._all is None and len(positions) <= _FEW_SUMS:
                return list(map(self._summed, positions))
            return list(map(self.all.__getitem__, positions))
        start, step = stored.start, stored.step
        if not stored.width:
            return [start + at * step for at in positions]
        found = self._looked_up(len(positions))
        return [start + at * step + found[at] for at in positions]

    def among(self, numbers: Sequence[int]) -> set[int]:
        """Return those of these numbers that the column has; its own ascend."""
        count = self._stored.count
        places = [at for at in self.places(numbers) if at < count]
        return {*numbers}.intersection(self.chosen(places)) if places else set()

    def _summed(self, at: int) -> int:
        """Return a number of a cumulative column."""
        stored = self._stored
        found = sum(self._every_difference()[:at]) if stored.width else 0
        return stored.start + at * stored.step + found

    def places(self, numbers: Sequence[int]) -> list[int]:
        """Return how many are less than each of these; the column's own ascend.

        Most of them are not looked at where they are about a step apart.
        """
        stored = self._stored
        count, start, step = stored.count, stored.start, stored.step
        if not self.is_direct or not step:
            own = self.all
            return [bisect_left(own, number) for number in numbers]
        if not stored.width:
            return [min(max(-((start - number) // step), 0), count) for number in numbers]
        # All that may be a step apart are less by then, whatever their differences are, or are not
        # before so much of the next step is over.
        farthest = 1 << 8 * stored.width - 1
        least, greatest = stored.among or (-farthest, farthest - 1)
        latest, room = start + greatest + 1, step - 1 - (greatest - least)
        found: array[int] | _Planes | None = None
        places = []
        for number in numbers:
            steps, over = divmod(number - latest, step)
            if over <= room:
                places.append(min(max(steps + 1, 0), count))
                continue
            if found is None:
                found = self._looked_up(2 * len(numbers))
            # From where it would be with ever longer steps to behind it, and back.
            at, reach = min(max((number - start) // step, 0), count - 1), 1
            if start + at * step + found[at] < number:
                while (
                    at + reach < count and start + (at + reach) * step + found[at + reach] < number
                ):
                    at += reach
                    reach *= 2
                first, last = at + 1, min(at + reach, count)
            else:
                while at >= reach and start + (at - reach) * step + found[at - reach] >= number:
                    at -= reach
                    reach *= 2
                first, last = max(at - reach + 1, 0), at
            while first < last:
                middle = (first + last) // 2
                if start + middle * step + found[middle] < number:
                    first = middle + 1
                else:
                    last = middle
            places.append(first)
        return places

    @property
    def is_direct(self) -> bool:
        """Whether a few numbers are found without the others."""
        return not self._stored.is_cumulative and self._all is None

    def resumed(self, first: int, last: int, number: int, less: int = 0) -> list[int]:
        """Return the same, each so much less, where `number` is known to be the one at `first`."""
        stored = self._stored
        if not stored.width or not stored.is_cumulative or self._all is not None or first >= last:
            numbers = self.part(first, last)
            return [each - less for each in numbers] if less else numbers
        step = stored.step
        found = self._some_differences(first, last - 1)
        return list(accumulate([step + each for each in found] if step else found, initial=number))

    def _whole(self) -> bytes:
        if self._planes is None:
            self._planes = inflate(self._stored.planes)
        return self._planes

    def _every_difference(self) -> "array[int]":
        if self._differences is None:
            self._differences = merged(self._whole(), _TYPES[self._stored.width])
        return self._differences

    def _some_differences(self, first: int, last: int) -> "array[int]":
        """Return differences from one position to before another; there are so many."""
        width = self._stored.width
        if self._differences is not None or width == 1:
            return self._every_difference()[first:last]
        whole = self._whole()
        count = len(whole) // width
        if 2 * (last - first) > count:
            return self._every_difference()[first:last]
        planes = range(0, len(whole), count)
        parts = [whole[plane + first : plane + last] for plane in planes]
        return merged(b"".join(parts), _TYPES[width])

    def _looked_up(self, times: int) -> "array[int] | _Planes":
        """Return what has the differences by their positions, to look so often."""
        if self._differences is None and times < _OFTEN and self._stored.width > 1:
            return _Planes(self._whole(), self._stored.width)
        return self._every_difference()


class _Planes:
    """Numbers that are put together when they are looked up."""

    __slots__ = ("_count", "_whole")

    def __init__(self, whole: bytes, width: int) -> None:
        self._whole = whole
        self._count = len(whole) // width

    def __getitem__(self, at: int) -> int:
        return int.from_bytes(self._whole[at :: self._count], "little", signed=True)


def pack_integers(numbers: Sequence[int]) -> StoredIntegers:
    """Return the numbers as a column; there is at least one."""
    count, start, rise = len(numbers), numbers[0], numbers[-1] - numbers[0]
    spread = max(numbers) - min(numbers)
    if not spread:
        return StoredIntegers(count, start, 0, False, 0, b"")
    if spread >= _FARTHEST:
        return StoredIntegers(count, 0, 0, False, 8, to_planes(array("q", numbers)))
    step = 0
    if 2 * abs(rise) > spread:
        # From one half to the other: that of the ends has their noise, which would make numbers
        # that are a step apart drift away from it.
        half = count // 2
        apart = sum(numbers[-half:]) - sum(numbers[:half])
        step = round(apart / (half * (count - half)))
    # A sample tells which differences are smaller.
    sample = range(0, count - 1, count // _SAMPLE + 1)
    besides = [numbers[at] - at * step for at in sample]
    if _scatter(besides) <= _scatter([numbers[at + 1] - numbers[at] for at in sample]):
        if step:
            found = list(map(sub, numbers, range(start, start + count * step, step)))
        else:
            found = [each - start for each in numbers]
        shift, width, planes = _narrow(found)
        among = (min(found) - shift, max(found) - shift) if step > 0 and width else None
        return StoredIntegers(count, start + shift, step, False, width, planes, among)
    shift, width, planes = _narrow(list(map(sub, numbers[1:], numbers)))
    return StoredIntegers(count, start, shift, True, width, planes)


def _scatter(numbers: list[int]) -> int:
    """Return how far the numbers are from the one in the middle, all together."""
    middle = _middle(numbers)
    return sum([abs(each - middle) for each in numbers])


def _middle(numbers: list[int]) -> int:
    """Return about the median."""
    sample = sorted(numbers[:: len(numbers) // _SAMPLE + 1])
    return sample[len(sample) // 2] if sample else 0


def _narrow(numbers: list[int]) -> tuple[int, int, bytes]:
    """Return what to add to the differences, their width, and their planes."""
    least, greatest = min(numbers), max(numbers)
    if least == greatest:
        return least, 0, b""
    shift = 0
    if least < -128 or greatest > 127:
        # Most of them shall have nothing but zeros in all planes but the first.
        fits = greatest - least < 256
        shift = (least + greatest + 1) // 2 if fits else _middle(numbers) - 128
        numbers = [each - shift for each in numbers]
    return shift, *to_narrow(numbers)


def to_narrow(numbers: Sequence[int]) -> tuple[int, bytes]:
    """Return the width that the numbers, of 64 bits at most, need, and their planes."""
    bits = max(max(numbers).bit_length(), (~min(numbers)).bit_length()) + 1
    width = next(each for each in _TYPES if bits <= 8 * each)
    return width, to_planes(array(_TYPES[width], numbers))


def from_narrow(width: int, planes: bytes) -> list[int]:
    """Return the numbers."""
    return from_planes(planes, _TYPES[width]).tolist()


def to_planes(numbers: "array[Any]") -> bytes:
    """Return the bytes of the numbers, the first of each, the second of each, …, deflated."""
    if _SWAPPED:
        numbers.byteswap()
    whole, width = numbers.tobytes(), numbers.itemsize
    stream = zlib.compressobj(6, zlib.DEFLATED, _RAW, 9, zlib.Z_FILTERED)
    found = []
    for plane in range(width):
        found += [stream.compress(whole[plane::width]), stream.flush(zlib.Z_BLOCK)]
    return b"".join([*found, stream.flush()])


def from_planes(planes: bytes, code: str) -> "array[Any]":
    """Return the numbers, of the type that has this code in `array`."""
    return merged(inflate(planes), code)


def merged(whole: bytes, code: str) -> "array[Any]":
    """Return the numbers whose first bytes come first, then their second ones, and so on."""
    found = array(code)
    width = found.itemsize
    if width == 1:
        found.frombytes(whole)
        return found
    count = len(whole) // width
    made = bytearray(len(whole))
    for plane in range(width):
        made[plane::width] = whole[plane * count : (plane + 1) * count]
    found.frombytes(made)
    if _SWAPPED:
        found.byteswap()
    return found


def deflate(whole: bytes) -> bytes:
    """Return the bytes, deflated as text is."""
    return zlib.compress(whole, 6, _RAW)


def inflate(deflated: bytes) -> bytes:
    """Return the bytes that were deflated."""
    return zlib.decompress(deflated, _RAW)
