"""The count of messages that a broker has dropped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.records import BrokerDrops
from heliograph.model.time import SECOND, now
from heliograph.mqtt.link import DROPPED as TOPIC
from heliograph.mqtt.link import UPTIME, Dropped


def hear(*totals):
    dropped = Dropped()
    for total in totals:
        dropped.report(TOPIC, total if isinstance(total, bytes) else b"%d" % total)
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


def known(total, uptime, ago):
    """Return a watch that knows what a server before it noted, so many seconds ago."""
    dropped = Dropped()
    dropped.known = BrokerDrops(total, uptime, now() - ago * SECOND)
    return dropped


@pytest.mark.parametrize(
    ("uptime", "total", "count"),
    [
        (b"4600 seconds", 70, 20),  # the same run of the broker
        (b"4600 seconds", 50, 0),
        (b"500 seconds", 70, 70),  # another: it counts from 0
        (b"500 seconds", 20, 20),
        (b"500 seconds", 0, 0),
        (b"", 70, 20),  # it does not say
        (b"", 20, 20),
        (b"9" * 30 + b" seconds", 70, 20),
    ],
)
@pytest.mark.parametrize("uptime_first", [True, False])
def test_what_was_dropped_while_no_server_was_there(uptime, total, count, uptime_first):
    dropped = known(50, 1_000, ago=3_600)
    said = [(UPTIME, uptime), (TOPIC, b"%d" % total)]
    for topic, payload in said if uptime_first else reversed(said):
        dropped.report(topic, payload)
    dropped.settle()
    assert dropped.count == count
    assert dropped.reported().total == total
    dropped.report(TOPIC, b"%d" % (total + 1))
    assert dropped.count == count + 1


def test_what_nobody_has_heard_before_is_no_news():
    dropped = Dropped()
    dropped.report(TOPIC, b"7")
    assert (dropped.count, dropped.reported().total) == (0, 7)
    assert dropped.changed.is_set()
