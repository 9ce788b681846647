"""Aggregates, and what stands for buckets that have none."""

import itertools
import math
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.aggregation import (
    FUNCTIONS,
    Aggregate,
    aggregate,
    fill_gaps,
    value_of,
    values_of,
)

numbers = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.7e308, -1.7e308, 0.1]),
    st.booleans(),
)
others = st.one_of(st.none(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
pieces = st.lists(st.lists(st.one_of(numbers, others), max_size=20), min_size=1, max_size=5)


@given(pieces)
def test_pieces_add_up_to_what_the_whole_is(values):
    whole = [value for piece in values for value in piece if isinstance(value, int | float)]
    found = None
    for piece in values:
        more = aggregate(piece)
        if found is None:
            found = more
        elif more is not None:
            found.add(more)
    if not whole:
        assert found is None
        return
    assert value_of(found, "count") == len(whole)
    assert value_of(found, "min") == min(whole)
    assert value_of(found, "max") == max(whole)
    assert value_of(found, "last") == whole[-1]
    exact, magnitudes = sum(map(Fraction, whole)), sum(abs(Fraction(each)) for each in whole)
    total, average = value_of(found, "sum"), value_of(found, "avg")
    if total is None:
        assert abs(exact) + magnitudes / 10**9 > sys.float_info.max
    else:
        assert abs(Fraction(total) - exact) <= magnitudes / 10**9
    assert min(whole) <= average <= max(whole)
    assert abs(Fraction(average) - exact / len(whole)) <= magnitudes / 10**9


def test_booleans_are_numbers_and_nothing_else_is():
    found = aggregate([None, True, "7", [8], False])
    assert [value_of(found, each) for each in FUNCTIONS] == [0.5, 0, 1, 1, 2, 0]
    assert not any(isinstance(value_of(found, each), bool) for each in FUNCTIONS)
    assert aggregate([None, "1", [2], {"a": 3}]) is None
    assert aggregate([]) is None


def test_whole_numbers_of_64_bits_stay_whole():
    found = aggregate([(1 << 63) - 1, 1 << 53, -(1 << 63) + 1, (1 << 53) + 1])
    assert value_of(found, "max") == (1 << 63) - 1
    assert value_of(found, "min") == -(1 << 63) + 1
    assert value_of(found, "last") == (1 << 53) + 1


def test_a_sum_beyond_64_bits_is_null_and_the_average_is_not():
    found = aggregate([1.7e308, 1.7e308])
    assert value_of(found, "sum") is None
    assert values_of([found], "sum") == [math.inf]
    assert value_of(found, "avg") == 1.7e308
    assert value_of(found, "max") == 1.7e308
    found.add(aggregate([-1.7e308, -1.7e308]))
    assert value_of(found, "sum") == 0
    assert value_of(found, "avg") == 0


@pytest.mark.parametrize("order", list(itertools.permutations([1e308, 1e308, -1e308])))
def test_the_sum_of_1e308_twice_and_its_negative_is_1e308(order):
    assert value_of(aggregate(order), "sum") == 1e308
    found = aggregate(order[:1])
    for number in order[1:]:
        found.add(aggregate([number]))
    assert value_of(found, "sum") == 1e308
    assert value_of(found, "avg") == pytest.approx(1e308 / 3)


@pytest.mark.parametrize(
    "values",
    [[0.1] * 3, [-0.1] * 3, [5e-324] * 3, [sys.float_info.max] * 3, [(1 << 63) - 1] * 3, [0.1, 1]],
)
def test_an_average_lies_between_the_minimum_and_the_maximum(values):
    found = aggregate(values)
    assert min(values) <= value_of(found, "avg") <= max(values)
    assert values_of([found, found], "avg") == [value_of(found, "avg")] * 2


def test_what_an_earlier_version_gave_up_is_null():
    # It stored sums that it could not add up.
    for total in (math.inf, -math.inf, math.nan):
        found = Aggregate(2, total, 1, 2, 2)
        assert value_of(found, "sum") is None
        assert value_of(found, "avg") is None
        found.add(Aggregate(2, -total, 1, 2, 2))
        assert math.isnan(found.total)


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        ("null", [None, 1, None, None, 7, None]),
        ("0", [0, 1, 0, 0, 7, 0]),
        ("previous", [None, 1, 1, 1, 7, 7]),
        ("linear", [None, 1, 3, 5, 7, None]),
    ],
)
def test_gaps(fill, expected):
    values = [None, 1, None, None, 7, None]
    known = [value is not None for value in values]
    assert fill_gaps(values, known, [0, 10, 20, 30, 40, 50], fill) == expected


def test_gaps_between_buckets_of_several_lengths_are_filled_by_time():
    known = [True, False, True]
    assert fill_gaps([0, None, 10], known, [0, 1, 10], "linear") == [0, 1, 10]


@given(
    st.one_of(
        st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False, allow_infinity=False)
    ),
    st.one_of(
        st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False, allow_infinity=False)
    ),
    st.integers(1, 1 << 60),
    st.integers(1, 1 << 60),
)
def test_a_gap_lies_between_its_neighbours(first, last, before, after):
    starts = [0, before, before + after]
    filled = fill_gaps([first, None, last], [True, False, True], starts, "linear")[1]
    low, high = Fraction(first), Fraction(last)
    exact = low + (high - low) * Fraction(before, before + after)
    assert abs(Fraction(filled) - exact) <= max(abs(low), abs(high)) / 10**15 + Fraction(5e-324)
    assert fill_gaps([first, None, first], [True, False, True], starts, "linear")[1] == float(first)


@pytest.mark.parametrize("fill", ["null", "0", "previous", "linear"])
def test_what_is_known_is_not_filled(fill):
    # A sum that is too large is null, and known.
    assert fill_gaps([None, 2], [True, True], [0, 1], fill) == [None, 2]
    middle = fill_gaps([None, None, 2], [True, False, True], [0, 1, 2], fill)[1]
    assert middle == (0 if fill == "0" else None)
    assert fill_gaps([None] * 3, [False] * 3, [0, 1, 2], fill) == (
        [0] * 3 if fill == "0" else [None] * 3
    )
    assert fill_gaps([], [], [], fill) == []


def test_filling_between_the_largest_numbers():
    filled = fill_gaps([1.7e308, None, -1.7e308], [True, False, True], [0, 1, 2], "linear")
    assert filled[1] == 0
