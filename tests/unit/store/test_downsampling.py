"""The rows that a chart needs, compared with Largest Triangle Three Buckets in plain Python."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.store import downsampling
from heliograph.store.downsampling import Curve

finite = st.floats(allow_nan=False, allow_infinity=False)
series = st.lists(st.none() | finite, max_size=120)


def curve_of(values, *, chunk=1_000_000, step=1_000_000):
    """Return a curve over the values; a point's fingerprint is its place among them."""
    curve = Curve()
    for start in range(0, len(values), chunk):
        part = values[start : start + chunk]
        places = range(start, start + len(part))
        curve.add([place * step for place in places], list(places), part)
    return curve


def largest_triangles(values, count):
    """Return the places that LTTB takes, after its author's thesis."""
    size = (len(values) - 2) / (count - 2)
    edges = [int(size * number) + 1 for number in range(count - 1)]
    chosen = [0]
    for number in range(count - 2):
        after = range(edges[number + 1], min(int(size * (number + 2)) + 1, len(values)))
        at_x = sum(after) / len(after)
        at_y = sum(values[place] for place in after) / len(after)
        x, y = chosen[-1], values[chosen[-1]]

        def area(place, x=x, y=y, at_x=at_x, at_y=at_y):
            return abs((x - at_x) * (values[place] - y) - (x - place) * (at_y - y))

        chosen.append(max(range(edges[number], edges[number + 1]), key=area))
    return [*chosen, len(values) - 1]


@given(series, st.integers(3, 40), st.integers(1, 50))
@settings(deadline=None)
def test_picks_are_points_of_the_series_with_both_its_ends(values, count, chunk):
    known = [place for place, value in enumerate(values) if value is not None]
    picked = curve_of(values, chunk=chunk).pick(count)
    places = [point.fingerprint for point in picked]
    assert picked == [(place * 1_000_000, place, 0, None) for place in places]
    assert places == sorted(set(places))
    assert set(places) <= set(known)
    assert len(places) == min(count, len(known))
    assert places[:1] + places[-1:] == known[:1] + known[-1:]


@given(st.lists(st.integers(-1_000, 1_000), min_size=20, max_size=90), st.integers(3, 19))
@settings(deadline=None)
def test_picks_are_those_of_largest_triangle_three_buckets(values, count):
    # What is between them makes no two triangles equal, whatever the rounding.
    values = [value + place**1.5 / 7 for place, value in enumerate(values)]
    places = [point.fingerprint for point in curve_of(values).pick(count)]
    assert places == largest_triangles(values, count)


def test_picks_do_not_depend_on_where_a_series_begins_in_time():
    values = [float(place * 7 % 11) for place in range(500)]
    curve, late = curve_of(values), Curve()
    late.add([1 << 61 | place * 1_000_000 for place in range(500)], list(range(500)), values)
    assert [key[1] for key in late.pick(30)] == [key[1] for key in curve.pick(30)]


@pytest.mark.parametrize("constant", [True, False])
def test_of_a_long_series_a_part_is_held_that_keeps_ends_and_extremes(monkeypatch, constant):
    monkeypatch.setattr(downsampling, "HELD", 4_000)
    values = [0.0] * 300_000
    if not constant:
        chance = random.Random(1)
        values = [chance.gauss(0, 1) for _ in values]
        values[123_456], values[234_567] = 99.0, -99.0
    curve = curve_of(values, chunk=700)
    held = {key[1] for key in curve.pick(1_000_000)}
    assert {0, 299_999} <= held
    assert len(held) <= 4_000
    if not constant:
        assert len(held) > 1_500
        assert {123_456, 234_567} <= held
        assert {123_456, 234_567} <= {key[1] for key in curve.pick(100)}
        # As dense at the beginning as at the end.
        halves = [sum(place // 150_000 == half for place in held) for half in (0, 1)]
        assert max(halves) < 1.5 * min(halves)


@pytest.mark.parametrize("greatest", [1.7e308, 5e-324, 0.0])
def test_extreme_numbers_are_picked_too(greatest):
    values = [greatest if place == 77 else -greatest for place in range(200)]
    places = [point.fingerprint for point in curve_of(values).pick(10)]
    assert len(places) == 10
    if greatest:
        assert 77 in places


def test_no_points_make_no_picks():
    assert Curve().pick(3) == []
    assert curve_of([None, None]).pick(3) == []


def test_rows_of_one_time_are_all_points():
    curve = Curve()
    curve.add(list(itertools.repeat(5, 8)), list(range(8)), [1.0, 2.0] * 4)
    assert curve.pick(8) == [(5, place, 0, None) for place in range(8)]
    assert len(curve.pick(4)) == 4
