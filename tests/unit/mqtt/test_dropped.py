"""The count of messages that a broker has dropped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.mqtt.dropped import TOPIC, Dropped


def hear(*totals):
    dropped = Dropped()
    for total in totals:
        dropped.heard(total if isinstance(total, bytes) else b"%d" % total)
    return dropped.count


def test_the_topic_is_mosquittos():
    assert TOPIC == "$SYS/broker/publish/messages/dropped"


@pytest.mark.parametrize(
    ("totals", "count"),
    [
        ((), 0),
        ((5,), 0),
        ((5, 5, 5), 0),
        ((0, 3), 3),
        ((5, 7, 10), 5),
        ((5, 0), 0),
        ((5, 0, 0, 2), 2),
        ((5, 8, 1), 4),
        ((5, b"", b"x", b"-3", b"1e9", b"9" * 19, b"\xb2", 6), 1),
    ],
)
def test_what_came_since_the_first(totals, count):
    assert hear(*totals) == count


@given(st.lists(st.lists(st.integers(0, 1_000), max_size=10), max_size=4))
def test_of_any_number_of_runs_each_is_counted_from_0(runs):
    """As long as each run is first heard of below the last one's end, all of it is counted."""
    totals, dropped = [0], 0
    for run in runs:
        total = 0
        totals.append(0)
        for more in run:
            total += more
            totals.append(total)
        dropped += total
    assert hear(*totals) == dropped


@given(st.lists(st.binary(max_size=24)))
def test_nothing_that_is_sent_there_does_harm(payloads):
    assert hear(*payloads) >= 0
