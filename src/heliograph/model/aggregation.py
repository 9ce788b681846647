"""Aggregates of an attribute's numbers: count, sum, minimum, maximum and last."""

import math
import sys
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from operator import attrgetter
from typing import Any, Literal, TypeAlias, get_args

import msgspec

Number: TypeAlias = int | float
Function: TypeAlias = Literal["avg", "min", "max", "sum", "count", "last"]
Fill: TypeAlias = Literal["null", "previous", "linear", "0"]

FUNCTIONS: tuple[Function, ...] = get_args(Function)

# More than the numbers that there can be in a sum.
_SCALE = 1 << 64

# Booleans count as 0 and 1; other types are kept and shown, not aggregated.
NUMERIC = frozenset((int, float, bool))


class Aggregate(msgspec.Struct, gc=False):
    """What is known of an attribute's numbers in a bucket; there is at least one.

    Count, minimum, maximum and last are exact, the sum within 1e-9 of the sum of magnitudes. The
    sum is a float, or, beyond those, a whole number.
    `at` orders aggregates of times that do not overlap; the last number is of the latest.
    """

    count: int
    total: Number
    minimum: Number
    maximum: Number
    last: Number
    at: int = 0

    def add(self, other: "Aggregate") -> None:
        """Count in what is known of other numbers; of two with one `at` they are the later."""
        self.count += other.count
        self.total = total_of((self.total, other.total))
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        if other.at >= self.at:
            self.last, self.at = other.last, other.at


def aggregate(values: Sequence[Any]) -> Aggregate | None:
    """Return what is known of the numbers among the values, oldest first; None: there is none."""
    numbers = [value for value in values if type(value) in NUMERIC]
    if not numbers:
        return None
    return Aggregate(len(numbers), total_of(numbers), +min(numbers), +max(numbers), +numbers[-1])


def total_of(numbers: Sequence[Number]) -> Number:
    """Return the sum, rounded once: a float, or a whole number where it is beyond one.

    So what others take away from it again leaves what it should.
    """
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):
        return _large_total(numbers)


def _large_total(numbers: Sequence[Number]) -> Number:
    # Some sum on the way is beyond a float: of so much smaller numbers it is not.
    try:
        small = math.fsum(map(_scaled, numbers))
    except ValueError:
        return math.nan  # stored by an earlier version, which gave up: infinite, of both signs
    if abs(small) <= sys.float_info.max / _SCALE:
        return small * _SCALE
    return int(small) * _SCALE if math.isfinite(small) else small


def _scaled(number: Number) -> float:
    try:
        return number / _SCALE
    except OverflowError:
        return as_float(number)


def as_float(number: Number) -> float:
    """Return the nearest float, infinite beyond them all."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


_MEMBER_OF: dict[Function, Callable[[Aggregate], Number]] = {
    "min": attrgetter("minimum"),
    "max": attrgetter("maximum"),
    "sum": attrgetter("total"),
    "count": attrgetter("count"),
    "last": attrgetter("last"),
}


def average_of(found: Aggregate) -> Number:
    """Return the average, which is nowhere but between the minimum and the maximum."""
    try:
        average = found.total / found.count
    except OverflowError:
        average = math.copysign(sys.float_info.max, found.total)
    if found.minimum <= average <= found.maximum or not math.isfinite(average):
        # It is no number, or infinite, where an earlier version has given up on the sum.
        return average
    # Three times 0.1 are added up to more than three times 0.1.
    return found.minimum if average < found.minimum else found.maximum


def values_of(found: Collection[Aggregate], function: Function) -> list[Number]:
    """Return the function's value of each; infinite where a sum is beyond a 64-bit float."""
    if function == "avg":
        try:
            # Nearly all are as they are: asked here, that takes a third of the time.
            return [
                average
                if each.minimum <= (average := each.total / each.count) <= each.maximum
                else average_of(each)
                for each in found
            ]
        except OverflowError:
            return list(map(average_of, found))
    values = list(map(_MEMBER_OF[function], found))
    if function == "sum" and int in set(map(type, values)):
        return list(map(as_float, values))
    return values


def value_of(found: Aggregate, function: Function) -> Number | None:
    """Return the function's value; None where a sum is beyond what a 64-bit float holds."""
    (value,) = values_of((found,), function)
    return value if type(value) is int or math.isfinite(value) else None


def fill_gaps(
    values: Sequence[Number | None], known: Sequence[bool], starts: Sequence[int], fill: Fill
) -> list[Number | None]:
    """Return the values of one function with those of empty buckets filled.

    `known` tells which buckets are not empty; `starts` is where each begins. Before the first
    value there is none to go on with, and after the last none to go towards: null.
    """
    filled = list(values)
    at = -1
    for index, is_known in enumerate([*known, True]):
        if not is_known:
            continue
        for gap in range(at + 1, index):
            if fill == "0":
                filled[gap] = 0
            elif fill == "previous" and at >= 0:
                filled[gap] = values[at]
            elif fill == "linear" and at >= 0 and index < len(values):
                into, whole = starts[gap] - starts[at], starts[index] - starts[at]
                filled[gap] = _between(values[at], values[index], into, whole)
        at = index
    return filled


def _between(first: Number | None, second: Number | None, into: int, whole: int) -> float | None:
    """Return what is so far on the way from the first to the second."""
    if first is None or second is None:
        return None
    found = float(first + (second - first) * (into / whole))
    if math.isfinite(found):
        return found
    # The difference is beyond a float's range, where neither of the two is. Exactly is 20 times
    # as slow.
    return float(first + (Fraction(second) - Fraction(first)) * Fraction(into, whole))
