"""Columns of JSON values: numbers as narrow whole numbers, everything else as compressed lines.

Most numbers that devices send are decimals: 20.25 is 2025 hundredths. They are kept so if dividing
gives every one of them back to the bit, else as doubles.
"""

import functools
import math
from array import array
from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate, repeat
from operator import truediv
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from heliograph.model.aggregation import NUMERIC, Aggregate, Number, aggregate, total_of
from heliograph.model.canonical import canonical
from heliograph.packed.integers import (
    Integers,
    StoredIntegers,
    deflate,
    from_narrow,
    from_planes,
    inflate,
    pack_integers,
    to_narrow,
    to_planes,
)

# What a value is. A whole number that has no place among the column's numbers is a line.
INTEGER: Final = 0
FLOAT: Final = 1
BOOLEAN: Final = 2
LINE: Final = 3
NUMBER_LINE: Final = 4
_KIND: Final[dict[type, int]] = {int: INTEGER, float: FLOAT, bool: BOOLEAN}

# Up to here each whole number is a double, and dividing two of them is rounded right.
_EXACT: Final = 1 << 53
_MOST_DECIMALS: Final = 15
# A few numbers tell how many decimals there may be; whether all have no more is tried.
_SAMPLE: Final = 8
_TRIES: Final = 3

# Numbers of which least, greatest and sum are kept. Fewer blocks than those of a thousand rows take
# more room than they save time: most charts have few chunks that are so small.
BLOCK: Final = 64
_FEWEST_BLOCKS: Final = 16
# Segments that have fewer numbers than this are counted number by number.
_SHORT: Final = 4 * BLOCK

_FEW_VALUES: Final = 256

Segments: TypeAlias = Sequence[tuple[int, int]]


class _StoredBlocks(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of blocks: of a width, in planes.

    First the number that each begins with; of each whole one, after all of these, its least, its
    greatest, and its sum, less the number that it begins with 64 times. All but the sums less
    `least`, the least of the column. They are one vector, since to inflate four takes most of the
    time of a few coarse buckets, and are no differences, so that nothing has to be added up.
    """

    least: int
    width: int
    planes: bytes


class _Stored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A column as it is stored.

    `kinds` is the one kind of all values, or a deflated byte for each. Numbers are whole ones to be
    divided by ten to the power of `decimals`, or deflated planes of doubles. Lines are deflated;
    where few are told apart, `codes` has a deflated byte for each value that is one.
    """

    count: int
    kinds: int | bytes
    decimals: int
    numbers: StoredIntegers | bytes | None
    blocks: _StoredBlocks | None
    lines: bytes | None
    codes: bytes | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode
_decode_line = msgspec.json.decode


def pack_values(values: Sequence[Any]) -> bytes:
    """Return the values as a column; there is at least one."""
    values = list(values)
    types = set(map(type, values))
    if len(types) == 1 and (kind := _KIND.get(next(iter(types)))) is not None:
        found = _pack_numbers(values)
        if found is not None:
            return _encode(_Stored(len(values), kind, *found, None, None))
    kinds = bytearray([_KIND.get(type(each), LINE) for each in values])
    found = None
    if min(kinds) < LINE:
        numbers = [each for each, kind in zip(values, kinds, strict=True) if kind < LINE]
        found = _pack_numbers(numbers)
        if found is None:
            for at, each in enumerate(values):
                if kinds[at] == INTEGER and not -_EXACT <= each <= _EXACT:
                    kinds[at] = NUMBER_LINE
            numbers = [each for each, kind in zip(values, kinds, strict=True) if kind < LINE]
            found = _pack_doubles(numbers) if numbers else None
    lines = [canonical(each) for each, kind in zip(values, kinds, strict=True) if kind >= LINE]
    stored = kinds[0] if kinds.count(kinds[0]) == len(kinds) else deflate(bytes(kinds))
    decimals, packed, blocks = found or (0, None, None)
    return _encode(_Stored(len(values), stored, decimals, packed, blocks, *_pack_lines(lines)))


def _pack_lines(lines: list[bytes]) -> tuple[bytes | None, bytes | None]:
    if not lines:
        return None, None
    distinct = {line: code for code, line in enumerate(dict.fromkeys(lines))}
    if len(distinct) > _FEW_VALUES or 2 * len(distinct) > len(lines):
        return deflate(b"\n".join(lines)), None
    return deflate(b"\n".join(distinct)), deflate(bytes([distinct[line] for line in lines]))


_Numbers: TypeAlias = tuple[int, StoredIntegers | bytes, _StoredBlocks | None]


def _pack_numbers(numbers: list[Any]) -> _Numbers | None:
    """Return numbers as they are stored; None: they have no place beside one another."""
    types = set(map(type, numbers))
    if float not in types:
        if min(numbers) < -(1 << 63) or max(numbers) >= 1 << 63:
            return None
        return _pack_scaled(0, list(map(int, numbers)))
    found = _scaled(numbers)
    if found is not None:
        return _pack_scaled(*found)
    if int in types and not all(-_EXACT <= each <= _EXACT for each in numbers if type(each) is int):
        return None
    return _pack_doubles(numbers)


def _pack_doubles(numbers: list[Any]) -> _Numbers:
    return 0, to_planes(array("d", numbers)), None


def _scaled(numbers: list[Any]) -> tuple[int, list[int]] | None:
    """Return how many decimals there are at most, and the numbers without the point."""
    decimals = max(map(_decimals, numbers[:: len(numbers) // _SAMPLE + 1]))
    for _ in range(_TRIES):
        if decimals > _MOST_DECIMALS:
            return None
        scale = 10.0**decimals
        try:
            found = list(map(round, [each * scale for each in numbers]))
        except OverflowError:
            return None
        if min(found) <= -_EXACT or max(found) >= _EXACT:
            return None
        given = list(map(truediv, found, repeat(scale)))
        if given == numbers:
            # Of two zeros that are equal only one is a whole number.
            has_minus = 0 in found and any(
                each == 0 and math.copysign(1, each) < 0 for each in numbers
            )
            return None if has_minus else (decimals, found)
        wrong = next(at for at, each in enumerate(numbers) if given[at] != each)
        if (more := _decimals(numbers[wrong])) <= decimals:
            return None
        decimals = more
    return None


def _decimals(number: Number) -> int:
    exponent = Decimal(repr(float(number))).as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def _pack_scaled(decimals: int, numbers: list[int]) -> _Numbers:
    return decimals, pack_integers(numbers), _pack_blocks(numbers)


def _pack_blocks(numbers: list[int]) -> _StoredBlocks | None:
    if len(numbers) < _FEWEST_BLOCKS * BLOCK:
        return None
    whole = range(0, len(numbers) - BLOCK + 1, BLOCK)
    blocks = [numbers[at : at + BLOCK] for at in whole]
    least = min(numbers)
    found = [number - least for number in numbers[::BLOCK]]
    found += [min(block) - least for block in blocks]
    found += [max(block) - least for block in blocks]
    found += [sum(block) - BLOCK * block[0] for block in blocks]
    if min(found) < -(1 << 63) or max(found) >= 1 << 63:
        return None
    return _StoredBlocks(least, *to_narrow(found))


class _Blocks(NamedTuple):
    """What blocks begin with; of each whole one its least and its greatest number, and its sum.

    Less the least number of the column; the sum is that of what they are more than the first.
    """

    starts: list[int]
    minima: list[int]
    maxima: list[int]
    totals: list[int]


class Values:
    """A column's values, by position."""

    def __init__(self, stored: bytes) -> None:
        """Take what `pack_values` returned."""
        self._stored = _decode(stored)
        numbers, blocks, kinds = self._stored.numbers, self._stored.blocks, self._stored.kinds
        self._scaled = Integers(numbers) if isinstance(numbers, StoredIntegers) else None
        # By which they are divided: it is exact as either.
        self._scale = 10**self._stored.decimals
        self._has_blocks = blocks is not None
        # What the numbers of blocks are counted from.
        self._least = 0 if blocks is None else blocks.least
        self._known: _Blocks | None = None
        # What comes before and behind the segments that are counted, by the blocks' numbers.
        self._opened: dict[int, list[int]] = {}
        # The kinds of all that are among the numbers, where values are of several kinds; and what
        # all numbers are, if they are one kind.
        self._kinds = kinds if isinstance(kinds, int) else inflate(kinds)
        self._number_kinds = b""
        self._kind = kinds if isinstance(kinds, int) else None
        if isinstance(self._kinds, bytes):
            found = self._kinds.translate(None, bytes((LINE, NUMBER_LINE)))
            self._number_kinds = found
            if found and found.count(found[0]) == len(found):
                self._kind = found[0]

    def __len__(self) -> int:
        """Return how many values there are."""
        return self._stored.count

    @property
    def _blocks(self) -> _Blocks:
        # No cached property: up to Python 3.11 one takes a lock, here as long as all else.
        known = self._known
        if known is None:
            known = self._known = self._read_blocks()
        return known

    def _read_blocks(self) -> _Blocks:
        scaled, stored = self._scaled, self._stored.blocks
        if stored is None or scaled is None:
            return _Blocks([], [], [], [])
        found = from_narrow(stored.width, stored.planes)
        whole = len(scaled) // BLOCK
        minima = len(found) - 3 * whole
        maxima, totals = minima + whole, minima + 2 * whole
        return _Blocks(found[:minima], found[minima:maxima], found[maxima:totals], found[totals:])

    def _block(self, number: int) -> list[int]:
        """Return the column's own numbers of a block, less its least one."""
        found = self._opened.get(number)
        if found is None:
            scaled, first = self._scaled, number * BLOCK
            if scaled is None or first >= len(scaled):
                return []
            start, last = self._blocks.starts[number], min(first + BLOCK, len(scaled))
            found = self._opened[number] = scaled.resumed(first, last, start, self._least)
        return found

    @functools.cached_property
    def _ranks(self) -> list[int] | None:
        """How many numbers are before each position, and in all; None: as many as positions."""
        if isinstance(self._kinds, int) or len(self._number_kinds) == len(self):
            return None
        return list(accumulate([kind < LINE for kind in self._kinds], initial=0))

    @property
    def _has_numbers_alone(self) -> bool:
        kinds = self._kinds
        return kinds < LINE if isinstance(kinds, int) else self._ranks is None

    @functools.cached_property
    def _doubles(self) -> list[float]:
        numbers = self._stored.numbers
        return from_planes(numbers, "d").tolist() if isinstance(numbers, bytes) else []

    @functools.cached_property
    def _lines(self) -> list[Any]:
        stored = self._stored
        if stored.lines is None:
            return []
        # A line of JSON has no line feed within.
        found: list[Any] = _decode_line(b"[" + inflate(stored.lines).replace(b"\n", b",") + b"]")
        if stored.codes is None:
            return found
        return list(map(found.__getitem__, inflate(stored.codes)))

    def part(self, first: int, last: int) -> list[Any]:
        """Return the values from the position `first` to before `last`."""
        kinds = self._kinds
        if isinstance(kinds, int):
            return self._lines[first:last] if kinds >= LINE else self._numbers(first, last)
        if self._has_numbers_alone:
            return self._numbers(first, last)
        number, numbers_end = self._ranked(first, last)
        numbers = iter(self._numbers(number, numbers_end))
        lines = iter(self._lines[first - number :])
        return [next(numbers if kind < LINE else lines) for kind in kinds[first:last]]

    def texts(self, first: int, last: int) -> list[bytes]:
        """Return the canonical texts of the same values."""
        values = self.part(first, last)
        kinds = self._kinds
        has_lines = kinds >= LINE if isinstance(kinds, int) else self._ranks is not None
        if has_lines or not values:
            return list(map(canonical, values))
        # Texts of numbers have no comma: all at once is a sixth of the time.
        return canonical(values)[1:-1].split(b",")

    def numbers(self, first: int, last: int) -> list[Number | None]:
        """Return the numbers among the same values; None stands for all else."""
        if self._has_numbers_alone:
            return self._numbers(first, last)
        return [each if type(each) in NUMERIC else None for each in self.part(first, last)]

    def _numbers(self, first: int, last: int) -> list[Any]:
        """Return so many of the numbers, as what they were."""
        found = self._part(first, last)
        if self._kind is None:
            kinds = self._number_kinds[first:last]
            return [self._made(kind, each) for kind, each in zip(kinds, found, strict=True)]
        if self._kind == FLOAT:
            if self._scaled is None:
                return found
            return list(map(truediv, found, repeat(self._scale)))
        if self._kind == INTEGER and self._scaled is not None:
            return found
        return [self._made(self._kind, each) for each in found]

    def _part(self, first: int, last: int) -> list[Any]:
        """Return so many of the column's own numbers."""
        scaled = self._scaled
        if scaled is None:
            return self._doubles[first:last]
        if not self._has_blocks or first >= last or 4 * (last - first) > len(scaled):
            return scaled.part(first, last)
        at = first - first % BLOCK
        start = self._blocks.starts[at // BLOCK] + self._least
        return scaled.resumed(at, last, start)[first - at :]

    def _made(self, kind: int, number: Number) -> Any:
        """Return the number, of the column's own, as it was."""
        if kind == FLOAT:
            return number if self._scaled is None else number / self._scale
        whole = int(number) if self._scaled is None else int(number) // self._scale
        return whole if kind == INTEGER else bool(whole)

    def aggregates(self, segments: Segments) -> list[Aggregate | None]:
        """Return what is known of the numbers in each segment, in any order; None: there is none.

        `at` is left 0.
        """
        kinds = self._kinds if isinstance(self._kinds, bytes) else bytes((self._kinds,))
        if NUMBER_LINE in kinds:
            return [aggregate(self.part(first, last)) for first, last in segments]
        if min(kinds) == LINE:
            return [None] * len(segments)
        parts = segments
        if self._ranks is not None:
            parts = [self._ranked(first, last) for first, last in segments]
        found = iter(self._aggregates([(first, last) for first, last in parts if first < last]))
        return [next(found) if first < last else None for first, last in parts]

    def _ranked(self, first: int, last: int) -> tuple[int, int]:
        return (first, last) if self._ranks is None else (self._ranks[first], self._ranks[last])

    def _aggregates(self, parts: Segments) -> list[Aggregate]:
        """Return what is known of parts of the numbers, none of them empty."""
        if self._scaled is None or self._kind is None:
            return [self._of(self._part(first, last), first) for first, last in parts]
        if self._has_blocks and sum([last - first for first, last in parts]) >= _SHORT * len(parts):
            return self._of_blocks(parts)
        # Many short ones: a column of all of them at once.
        origin, scale = self._least, self._scale
        above = self._scaled.above(origin)
        numbers = [above[first:last] for first, last in parts]
        found = [
            (len(each), sum(each), origin + min(each), origin + max(each), origin + each[-1])
            for each in numbers
        ]
        if self._kind == FLOAT:
            return [
                Aggregate(
                    count,
                    (origin * count + total) / scale,
                    least / scale,
                    greatest / scale,
                    last / scale,
                )
                for count, total, least, greatest, last in found
            ]
        return [
            Aggregate(count, (origin * count + total) / scale, *extremes)
            for count, total, *extremes in found
        ]

    def _of(self, numbers: list[Any], first: int) -> Aggregate:
        """Return what is known of these, the first of which is at the position `first`."""
        least, greatest, last = min(numbers), max(numbers), numbers[-1]
        total = total_of(numbers) if self._scaled is None else sum(numbers) / self._scale
        if self._kind is not None:
            kinds = bytes((self._kind,)) * 3
        else:
            # Of equal ones the first decides.
            known = self._number_kinds
            places = (numbers.index(least), numbers.index(greatest), len(numbers) - 1)
            kinds = bytes([known[first + place] for place in places])
        found = [+self._made(*each) for each in zip(kinds, (least, greatest, last), strict=True)]
        return Aggregate(len(numbers), total, *found)

    def _of_blocks(self, parts: Segments) -> list[Aggregate]:
        """Return the same from whole blocks, and from single numbers before and behind them."""
        starts, minima, maxima, totals = self._blocks
        block, origin, scale = self._block, self._least, self._scale
        is_float = self._kind == FLOAT
        known = []
        for first, last in parts:
            begin, end = -(-first // BLOCK), last // BLOCK
            if begin >= end:
                known.append(self._of(self._part(first, last), first))
                continue
            edges = block(begin - 1)[first % BLOCK - BLOCK :] if first % BLOCK else []
            if last % BLOCK:
                edges = edges + block(end)[: last % BLOCK]
                newest: Number = origin + edges[-1]
            else:
                newest = origin + block(end - 1)[-1]
            least: Number = origin + min(minima[begin:end] + edges)
            greatest: Number = origin + max(maxima[begin:end] + edges)
            count = last - first
            total: Number = BLOCK * sum(starts[begin:end]) + sum(totals[begin:end]) + sum(edges)
            total = (origin * count + total) / scale
            if is_float:
                least, greatest, newest = least / scale, greatest / scale, newest / scale
            known.append(Aggregate(count, total, least, greatest, newest))
        return known

    def extremes(self, among: int) -> dict[int, Number] | None:
        """Return the least and the greatest of each so many numbers in a row.

        By their positions, and the first and the last number. None: there is something that is no
        number.
        """
        if not self._has_numbers_alone:
            return None
        count = len(self)
        found = {}
        if self._has_blocks and among >= _SHORT:
            found = {
                at: self._least + number
                for at, number in self._extremes_of_blocks(among // BLOCK).items()
            }
        else:
            numbers = self._part(0, count)
            for first in range(0, count, among):
                part = numbers[first : first + among]
                for extreme in (min(part), max(part)):
                    found[first + part.index(extreme)] = extreme
            found[0], found[count - 1] = numbers[0], numbers[-1]
        kinds = self._number_kinds
        return {
            at: self._made(kinds[at] if self._kind is None else self._kind, number)
            for at, number in found.items()
        }

    def _extremes_of_blocks(self, among: int) -> dict[int, int]:
        """Return the same of so many blocks each, as `_block` has the numbers."""
        count = len(self)
        starts, minima, maxima, _ = self._blocks
        found = {}
        for first in range(0, len(minima), among):
            for blocks, choose in ((minima, min), (maxima, max)):
                within = blocks[first : first + among]
                extreme = choose(within)
                # The first of those that are equal.
                at = first + within.index(extreme)
                found[at * BLOCK + self._block(at).index(extreme)] = extreme
        rest = self._block(len(minima))
        for extreme in (min(rest), max(rest)) if rest else ():
            found[len(minima) * BLOCK + rest.index(extreme)] = extreme
        found[0], found[count - 1] = starts[0], self._block((count - 1) // BLOCK)[-1]
        return found
