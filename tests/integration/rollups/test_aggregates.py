"""Aggregates from the rows themselves, on both engines, compared with plain Python."""

import itertools
import sys
from bisect import bisect_right
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregating import aggregates_of
from heliograph.model.aggregation import value_of
from heliograph.model.time import MINUTE, SECOND
from heliograph.rollups import aggregates as aggregates_module
from heliograph.store import measurements as measurements_module
from heliograph.store import stretches as stretches_module
from heliograph.store.engine import Batch
from heliograph.store.measurements import RangeTooLargeError
from rows import NOON, measurement

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

_sensors = itertools.count(1_000_000)

leaves = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.7e308, -1.7e308, 0.1]),
    st.booleans(),
    st.none(),
    st.text("ab", max_size=2),
    st.lists(st.integers(), max_size=1),
)
KEYS = ["t", "air", "value", 'qu"ote', "dot.ted", "back\\slash", "", "ü"]
values = st.recursive(
    leaves, lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=4), max_leaves=6
)
readings = st.tuples(st.integers(0, 12 * MINUTE), values)


def flat(value, prefix=""):
    """Yield the names and numbers of a value's attributes, written anew."""
    if not isinstance(value, dict):
        yield "value", value
        return
    for key, member in value.items():
        name = prefix + key.replace("\\", "\\\\").replace(".", "\\.")
        if isinstance(member, dict):
            yield from flat(member, name + ".") if member else ()
        else:
            yield name, member


def expected(rows, starts, start, end):
    """Return numbers by attribute and bucket, from (timestamp, fingerprint, value)."""
    found, counts = {}, [0] * (len(starts) - 1)
    for timestamp, _, value in sorted(rows, key=lambda row: row[:2]):
        if not start <= timestamp < end:
            continue
        bucket = bisect_right(starts, timestamp) - 1
        counts[bucket] += 1
        for name, member in flat(value):
            if isinstance(member, int | float):
                found.setdefault(name, {}).setdefault(bucket, []).append(member)
    return found, counts


def check(series, found, counts):
    assert series.rows == counts
    have = {name: buckets for name, buckets in series.attributes.items() if buckets}
    assert have.keys() == found.keys()
    for name, buckets in found.items():
        assert list(have[name]) == sorted(buckets)
        for bucket, numbers in buckets.items():
            known = have[name][bucket]
            assert known.count == len(numbers)
            assert (known.minimum, known.maximum) == (min(numbers), max(numbers))
            assert known.last == numbers[-1]
            exact = sum(map(Fraction, numbers))
            bound = sum(abs(Fraction(number)) for number in numbers) / 10**9
            total, average = value_of(known, "sum"), value_of(known, "avg")
            if total is None:
                assert abs(exact) + bound > sys.float_info.max
            else:
                assert abs(Fraction(total) - exact) <= bound
            assert min(numbers) <= average <= max(numbers)
            assert abs(Fraction(average) - exact / len(numbers)) <= bound


async def test_aggregates_equal_the_recomputation(store, monkeypatch):
    monkeypatch.setattr(stretches_module, "ROWS", 7)
    monkeypatch.setattr(aggregates_module, "_AT_ONCE", 3)
    cases = []

    # Examples are drawn first: Hypothesis calls no coroutines.
    @settings(database=None, suppress_health_check=list(HealthCheck))
    @given(
        batches=st.lists(st.lists(readings, max_size=12), max_size=4),
        start=st.integers(-MINUTE, 13 * MINUTE),
        length=st.integers(1, 14 * MINUTE),
        width=st.sampled_from([10 * SECOND, MINUTE, 3 * MINUTE]),
    )
    def draw(batches, start, length, width):
        cases.append((batches, start, length, width))

    draw()
    for batches, offset, length, width in cases:
        await check_case(store, batches, NOON + offset, length, width)


async def check_case(store, batches, start, length, width):
    sensor = next(_sensors)
    rows = {}
    for batch in batches:
        # Each batch comes twice: late rows and duplicates in any order.
        made = [measurement(sensor, NOON + at, value) for at, value in batch]
        for _ in range(2):
            again = [measurement(sensor, NOON + at, value) for at, value in batch]
            sent = Batch(measurements=[*made, *again])
            sent.sort()
            await store.write(sent)
        rows |= {
            row[2:4]: (row[2], row[3], value) for row, (_, value) in zip(made, batch, strict=True)
        }
    end = start + length
    first = start - start % width
    starts = list(range(first, end + width, width))
    found, counts = expected(rows.values(), starts, start, end)
    series = await aggregates_of(store).read(sensor, starts, None, start=start, end=end)
    check(series, found, counts)
    names = [*found, "not there"]
    series = await aggregates_of(store).read(sensor, starts, names, start=start, end=end)
    assert "not there" in series.attributes
    check(series, found, counts)


async def test_too_many_rows_or_values_are_refused(store, sensor, monkeypatch):
    monkeypatch.setattr(stretches_module, "ROWS", 2)
    monkeypatch.setattr(measurements_module, "LARGE_READ", 4)
    monkeypatch.setattr(measurements_module, "MAXIMUM_RAW_ROWS", 9)
    rows = [measurement(sensor, NOON + at, {"a": at, "b": at}) for at in range(10)]
    await store.write(Batch(measurements=rows))

    async def read(end, *, names=None, width=5):
        starts = list(range(NOON, NOON + 15, width))
        return await aggregates_of(store).read(sensor, starts, names, start=NOON, end=NOON + end)

    assert (await read(9)).rows == [5, 4]
    with pytest.raises(RangeTooLargeError, match="shorter range"):
        await read(10)
    monkeypatch.setattr(aggregates_module, "MAXIMUM_VALUES", 9)
    assert len((await read(9, names=["a"], width=1)).attributes["a"]) == 9
    with pytest.raises(RangeTooLargeError, match="fewer attributes"):
        await read(9, width=1)


async def test_an_empty_range(store, sensor):
    for starts in ([], [NOON, NOON + 1]):
        series = await aggregates_of(store).read(sensor, starts, ["a"], start=NOON, end=NOON + 1)
        assert series.attributes == {"a": {}}
        assert not any(series.rows)
