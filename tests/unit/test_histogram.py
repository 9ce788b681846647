from bisect import bisect_left

from hypothesis import given
from hypothesis.strategies import floats, lists

from heliograph.model.histogram import BOUNDS_SECONDS, Durations, together


@given(lists(floats(0, 100), max_size=30))
def test_each_bucket_counts_what_took_no_longer(taken):
    parts = [Durations(), Durations()]
    for number, seconds in enumerate(taken):
        part = parts[number % 2]
        part.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        part.seconds += seconds
    whole = together(parts)
    assert whole.count == len(taken)
    for bound, count in whole.buckets:
        assert count == sum(seconds <= float(bound) for seconds in taken)
