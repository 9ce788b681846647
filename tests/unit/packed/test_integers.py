"""Columns of whole numbers come back, whatever they are, and are narrow where they can be."""

import random
from bisect import bisect_left
from itertools import accumulate

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.packed.integers import Integers, pack_integers

whole = st.integers(-(1 << 63), (1 << 63) - 1)
near = st.integers(-300, 300)
series = st.one_of(
    st.lists(whole, min_size=1, max_size=20),
    st.lists(near, min_size=1, max_size=20),
    st.lists(near, min_size=1, max_size=20).map(lambda found: list(accumulate(found))),
    st.lists(near | whole, min_size=1, max_size=20),
    st.tuples(whole, st.integers(0, 50)).map(
        lambda given: [min(given[0] + 1_000 * at, (1 << 63) - 1) for at in range(given[1] + 1)]
    ),
)


@given(series, st.integers(0, 20), st.integers(0, 20))
def test_numbers_come_back(numbers, first, last):
    stored = pack_integers(numbers)
    assert len(Integers(stored)) == len(numbers)
    assert Integers(stored).all == numbers
    assert Integers(stored).part(first, last) == numbers[first:last]
    if first < len(numbers):
        known = numbers[first]
        last = min(last, len(numbers))
        assert Integers(stored).resumed(first, last, known) == numbers[first:last]


@given(
    st.lists(st.integers(-50, 5_000), min_size=1, max_size=80),
    st.lists(st.integers(-100, 9_000), max_size=20),
    st.booleans(),
)
def test_the_places_of_numbers_are_found(numbers, wanted, are_steady):
    numbers = sorted(numbers)
    if are_steady:
        numbers = [at * 100 + each % 7 for at, each in enumerate(numbers)]
    expected = [bisect_left(numbers, number) for number in wanted]
    stored = pack_integers(numbers)
    assert Integers(stored).places(wanted) == expected
    # As an earlier version has stored it.
    stored = msgspec.structs.replace(stored, among=None)
    assert Integers(stored).places(wanted) == expected


def steady(made):
    return 1_000_000


def jitter(made):
    return 1_000_000 + made.randint(-50, 50)


def walk(made):
    return round(made.gauss(0, 5))


def level(made):
    return 0 if made.random() < 0.999 else 700


# Bytes that 4,000 of them may take: their noise, and little else.
@pytest.mark.parametrize(
    ("step", "most"), [(steady, 0), (jitter, 3_900), (walk, 2_500), (level, 150)]
)
def test_numbers_take_what_their_noise_takes(step, most):
    made = random.Random(1)
    numbers = list(accumulate([step(made) for _ in range(4_000)], initial=1_760_000_000_000_000))
    stored = pack_integers(numbers)
    assert Integers(stored).all == numbers
    assert len(stored.planes) <= most


def test_noise_of_two_bytes_takes_what_it_takes():
    made = random.Random(1)
    numbers = [made.randint(-700, 700) for _ in range(4_000)]
    # 10.5 bits each, and little else.
    assert len(pack_integers(numbers).planes) < 5_500


def test_one_outlier_widens_no_other():
    made = random.Random(1)
    numbers = [made.randint(-20, 20) for _ in range(4_000)]
    before = len(pack_integers(numbers).planes)
    numbers[2_000] = 1 << 40
    assert len(pack_integers(numbers).planes) < before + 200


@pytest.mark.parametrize("seed", range(8))
def test_what_is_a_step_apart_is_told_by_its_step_whatever_the_noise_of_its_ends(seed):
    made = random.Random(seed)
    numbers = [at * 1_000_000 + made.randint(0, 2_500) for at in range(3_600)]
    stored = pack_integers(numbers)
    assert (stored.step, stored.is_cumulative, stored.width) == (1_000_000, False, 2)


def test_places_far_from_every_number_are_found_without_their_differences():
    numbers = [at * 1_000_000 + at * at % 2_500 for at in range(3_600)]
    stored = msgspec.structs.replace(pack_integers(numbers), planes=b"unread")
    wanted = [-5_500_000, 500_000, 1_234_500_000, 3_599_500_000, 9_000_500_000]
    assert Integers(stored).places(wanted) == [0, 1, 1_235, 3_600, 3_600]


def test_places_where_the_noise_of_a_number_begins_are_found_without_the_differences():
    """Buckets begin at whole seconds, and what a device measures each second is a little later."""
    numbers = [at * 1_000_000 + at * at % 2_500 for at in range(3_600)]
    stored = msgspec.structs.replace(pack_integers(numbers), planes=b"unread")
    wanted = [0, 1_000_000, 90_000_000, 1_234_000_000, 1_235_002_500, 3_600_000_000]
    assert Integers(stored).places(wanted) == [0, 1, 90, 1_234, 1_236, 3_600]
