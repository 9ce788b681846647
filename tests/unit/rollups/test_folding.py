"""Counting packed rollups by bucket, compared with the rows that they were made of."""

import itertools
import math

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from heliograph.model.aggregation import aggregate
from heliograph.model.time import DAY, HOUR
from heliograph.rollups.aggregates import Series
from heliograph.rollups.packing import MAXIMUM_ATTRIBUTES_OF_ROLLUP, pack
from heliograph.rollups.rollup import HOURS, SLOT, SPAN, Rollup

NAMES = ("a", "b")
SLOTS = SPAN[HOURS] // SLOT[HOURS]

# Numbers of one type or of several, so that columns are arrays of each width, and lists.
kinds = st.sampled_from(
    [
        st.integers(-128, 127),
        st.integers(-(1 << 15), 1 << 16),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.integers((1 << 63) - 1, (1 << 64) - 1),
        st.floats(-1e6, 1e6),
        st.floats(allow_nan=False, allow_infinity=False),
        st.one_of(st.integers(-9, 9), st.floats(-9, 9)),
        st.booleans(),
    ]
)


@st.composite
def days(draw):
    """Draw rows, (hour, value), of a few days; in some hours there are none."""
    rows = []
    for day in range(draw(st.integers(1, 3))):
        numbers = draw(kinds)
        value = st.dictionaries(st.sampled_from(NAMES), numbers)
        for hour in sorted(draw(st.sets(st.integers(0, SLOTS - 1), max_size=5))):
            rows += [
                (day * SLOTS + hour, each) for each in draw(st.lists(value, min_size=1, max_size=3))
            ]
    return rows


def packed(rows, as_lists=False):
    """Return the rollups of days, (start, packed), of rows by the hour, (hour, value)."""
    found: dict[int, Rollup] = {}
    for hour in sorted({hour for hour, _ in rows}):
        day, slot = divmod(hour, SLOTS)
        rollup = found.setdefault(day, Rollup())
        values = [value for at, value in rows if at == hour]
        rollup.count(slot, len(values))
        for name in NAMES:
            known = aggregate([value[name] for value in values if name in value])
            if known is not None:
                rollup.append(slot, name, known)
    if as_lists:
        return [(day * DAY, before_arrays(rollup)) for day, rollup in found.items()]
    return [(day * DAY, pack(rollup)) for day, rollup in found.items()]


def before_arrays(rollup):
    """Return the rollup as it was stored before numbers of one type were arrays."""
    members = ("at", "count", "total", "minimum", "maximum", "last")
    attributes = {
        name: [[getattr(each, member) for each in found] for member in members]
        for name, found in rollup.attributes.items()
    }
    rows = rollup.rows
    # A whole number of more than 64 bits could not be stored so.
    totals = [total for _, _, each, *_ in attributes.values() for total in each]
    assume(not any(isinstance(total, int) and abs(total) >= 1 << 63 for total in totals))
    return msgspec.msgpack.encode((list(rows), list(rows.values()), True, attributes))


def counted(rollups, starts, spans, names=None):
    series = Series(starts, names)
    assert series.count_rollups(HOURS, rollups, spans) == []
    series.finish()
    return series


def check(series, rows, starts, spans, names):
    """Compare the series with what the rows say."""
    within = [
        (hour, value)
        for hour, value in rows
        if any(start <= hour * HOUR < end for start, end in spans)
    ]
    buckets = [
        [value for hour, value in within if start <= hour * HOUR < end]
        for start, end in itertools.pairwise(starts)
    ]
    assert series.rows == [len(values) for values in buckets]
    for name in names:
        found = series.attributes.get(name, {})
        for bucket, values in enumerate(buckets):
            numbers = [value[name] for value in values if name in value]
            expected = aggregate(numbers)
            known = found.get(bucket)
            assert (known is None) == (expected is None)
            if known is None:
                continue
            assert known.count == expected.count
            # Not only equal: whole numbers of 64 bits are no floats.
            for member in ("minimum", "maximum", "last"):
                ours, theirs = getattr(known, member), getattr(expected, member)
                assert ours == theirs
                assert type(ours) in (int, float)
            magnitude = sum(abs(float(number)) for number in numbers)
            # A sum whose magnitudes are beyond a float may be infinite, or no number.
            near = abs(known.total - expected.total) <= 1e-9 * magnitude
            assert near or not math.isfinite(magnitude)


@given(days(), st.integers(1, 30), st.booleans())
def test_buckets_of_rollups_say_what_their_rows_do(rows, length, as_lists):
    starts = list(range(-2 * HOUR, 3 * DAY + length * HOUR, length * HOUR))
    spans = [(starts[0], starts[-1])]
    series = counted(packed(rows, as_lists), starts, spans)
    check(series, rows, starts, spans, NAMES)


@given(days(), st.lists(st.integers(0, 3 * SLOTS), min_size=2, max_size=8, unique=True))
def test_only_what_lies_in_the_spans_is_counted(rows, edges):
    edges = [edge * HOUR for edge in sorted(edges)]
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    starts = list(range(0, 3 * DAY + 1, 8 * HOUR))
    check(counted(packed(rows), starts, spans), rows, starts, spans, NAMES)


@given(days())
def test_only_attributes_that_are_asked_for_are_counted(rows):
    starts = [0, DAY, 3 * DAY]
    spans = [(0, 3 * DAY)]
    series = counted(packed(rows), starts, spans, ["b", "missing"])
    assert series.attributes.keys() == {"b", "missing"}
    check(series, rows, starts, spans, ["b", "missing"])


def test_whole_numbers_beside_floats_stay_exact():
    high = (1 << 53) + 1
    within = [(0, {"a": 0.5}), (1, {"a": high + 2}), (SLOTS, {"a": high})]
    between = [(0, {"a": 0.5}), (SLOTS, {"a": high + 2}), (SLOTS + 1, {"a": high})]
    for rows in (within, between):
        series = counted(packed(rows), [0, 2 * DAY], [(0, 2 * DAY)])
        found = series.attributes["a"][0]
        assert (found.minimum, found.maximum, found.last) == (0.5, high + 2, high)


def test_what_a_rollup_does_not_hold_is_left_to_be_counted():
    wide = {f"{number:05}": 1 for number in range(MAXIMUM_ATTRIBUTES_OF_ROLLUP + 1)}
    rollup = Rollup()
    rollup.count(3, 1)
    for name in wide:
        rollup.append(3, name, aggregate([1]))
    rollups = [(0, pack(rollup)), *packed([(SLOTS + 1, {"a": 2})])]
    series = Series([0, DAY, 2 * DAY], None)
    assert series.count_rollups(HOURS, rollups, [(HOUR, 2 * DAY)]) == [(HOUR, DAY)]
    assert series.rows == [0, 1]
    assert series.attributes.keys() == {"a"}
