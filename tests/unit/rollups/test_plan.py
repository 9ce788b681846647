"""Where a range is read from: each moment from one place, and from one that knows it."""

import itertools
from datetime import UTC
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.buckets import bucket_starts, parse_bucket
from heliograph.model.time import DAY, HOUR, MINUTE, SECOND
from heliograph.rollups.plan import Standing, joined, plan

# 2026-03-28T00:00:00Z: in Berlin a day before one of 23 hours.
MIDNIGHT = 1_774_656_000 * SECOND

moments = st.integers(0, 4 * DAY // SECOND).map(lambda second: MIDNIGHT + second * SECOND)
hours = st.integers(0, 96).map(lambda hour: MIDNIGHT + hour * HOUR)
zones = st.sampled_from([UTC, *map(ZoneInfo, ["Asia/Kolkata", "Europe/Berlin"])])
lengths = st.sampled_from(["100s", "1m", "150s", "7m", "15m", "1h", "90m", "9h", "1d", "1w", "1mo"])
spans = st.tuples(hours, st.integers(1, 5)).map(lambda made: (made[0], made[0] + made[1] * HOUR))


@given(
    bucket=lengths,
    zone=zones,
    ends=st.tuples(moments, moments).map(sorted),
    frontier=st.integers(0, 4 * 144).map(lambda step: MIDNIGHT + step * 10 * MINUTE),
    dirty=st.lists(spans, max_size=5).map(joined),
    floor=st.none() | hours,
)
def test_each_moment_is_read_once_from_where_it_is_known(
    bucket, zone, ends, frontier, dirty, floor
):
    start, end = ends
    if start == end:
        return
    if floor is not None:
        floor = min(floor, frontier - frontier % HOUR)
    starts = bucket_starts(parse_bucket(bucket), zone, start, end)
    made = plan(starts, start, end, Standing(frontier, dirty, floor))
    pieces = sorted([*made.raw, *made.minutes, *made.hours])
    for (_, last), (first, _) in itertools.pairwise(pieces):
        assert last <= first
    # With raw rows the pieces cover the range; without, whole minutes that begin in it.
    raw_from = start if floor is None else min(max(floor, start), end)
    covered = sum(
        min(last, end) - max(first, raw_from) for first, last in pieces if last > raw_from
    )
    assert covered == end - raw_from
    if start < raw_from and pieces:
        assert pieces[0][0] == start + -start % MINUTE
    for first, last in made.raw:
        assert first >= raw_from
        assert first < last
    # The last minute before the floor may reach beyond the range's end.
    exact_from = start if floor is None else max(floor, start)
    for length, found in ((MINUTE, made.minutes), (HOUR, made.hours)):
        for first, last in found:
            assert first % length == last % length == 0
            assert last <= max(frontier, exact_from)
            for moment in starts:
                if max(first, exact_from) < moment < last:
                    assert moment % length == 0
            for dirty_first, dirty_last in dirty:
                assert max(first, dirty_first, exact_from) >= min(last, dirty_last)


def test_hours_are_taken_where_no_bucket_cuts_them():
    starts = list(range(MIDNIGHT, MIDNIGHT + 3 * DAY, 9 * HOUR))
    made = plan(starts, starts[0], starts[-1], Standing(MIDNIGHT + 9 * DAY))
    assert (made.raw, made.minutes, made.hours) == ([], [], [(starts[0], starts[-1])])


def test_a_bucket_boundary_within_a_minute_leaves_its_minute_to_raw_rows():
    starts = [MIDNIGHT, MIDNIGHT + HOUR + 90 * SECOND, MIDNIGHT + 3 * HOUR]
    made = plan(starts, starts[0], starts[-1], Standing(MIDNIGHT + DAY))
    assert made.raw == [(MIDNIGHT + HOUR + MINUTE, MIDNIGHT + HOUR + 2 * MINUTE)]
    assert made.minutes == [
        (MIDNIGHT + HOUR, MIDNIGHT + HOUR + MINUTE),
        (MIDNIGHT + HOUR + 2 * MINUTE, MIDNIGHT + 2 * HOUR),
    ]
    assert made.hours == [
        (MIDNIGHT, MIDNIGHT + HOUR),
        (MIDNIGHT + 2 * HOUR, MIDNIGHT + 3 * HOUR),
    ]


def test_buckets_of_a_minute_are_taken_from_minutes_and_shorter_ones_from_raw_rows():
    end = MIDNIGHT + 2 * HOUR
    standing = Standing(end - 10 * MINUTE)
    minutes = list(range(MIDNIGHT, end + 1, MINUTE))
    # The range begins within a minute.
    made = plan(minutes, MIDNIGHT + 20 * SECOND, end, standing)
    assert made.minutes == [(MIDNIGHT + MINUTE, standing.frontier)]
    assert made.raw == [(MIDNIGHT + 20 * SECOND, MIDNIGHT + MINUTE), (standing.frontier, end)]
    for first, width in ((MIDNIGHT, 30), (MIDNIGHT, 61), (MIDNIGHT + SECOND, 60)):
        starts = list(range(first, end, width * SECOND))
        made = plan(starts, first, starts[-1], standing)
        assert (made.raw, made.minutes) == ([(first, starts[-1])], [])


def test_short_buckets_of_packed_rows_are_counted_from_chunks_alone():
    packed = (MIDNIGHT + 5, MIDNIGHT + 5 * HOUR + 7)
    standing = Standing(MIDNIGHT + DAY, packed=packed)
    end = MIDNIGHT + 8 * HOUR
    for width, counted in ((605, True), (600, False), (2 * HOUR // SECOND + 5, False)):
        starts = list(range(MIDNIGHT, end, width * SECOND))
        made = plan(starts, MIDNIGHT, starts[-1], standing)
        at = MIDNIGHT + 3 * HOUR + 20 * MINUTE
        assert any(first <= at < last for first, last in made.raw) == counted
        # What comes after them is taken from rollups either way.
        at = MIDNIGHT + 6 * HOUR + 30 * MINUTE
        assert not any(first <= at < last for first, last in made.raw)
