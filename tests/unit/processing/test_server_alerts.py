"""When the server's own conditions are alerts."""

from heliograph.model.time import MINUTE, SECOND
from heliograph.processing.server_alerts import (
    ErrorRate,
    RejectedSensors,
    ServerCondition,
    Sign,
    WatchedCondition,
    between,
)

SLOW = ServerCondition("slow", "Slow", "warning", hold=10 * SECOND, clear_for=20 * SECOND)


def turns(signs, condition=SLOW):
    """Return what a condition does, and when, if it holds so every 5 seconds."""
    watch = WatchedCondition(condition)
    found = []
    for number, holds in enumerate(signs):
        turn = watch.advance(Sign(holds), number * 5 * SECOND)
        if turn is not None:
            found.append((number, turn))
    return found


def test_a_condition_is_raised_once_and_cleared_once():
    yes, no = [True], [False]
    assert turns(yes * 9) == [(2, True)]
    # A blip is none.
    assert turns(yes + no * 9) == [(5, False)]
    assert turns(yes * 3 + no * 3 + yes + no * 9) == [(2, True), (11, False)]
    # Between the thresholds it stays what it is.
    assert turns(yes * 3 + [None] * 9 + no * 5) == [(2, True), (16, False)]
    at_once = ServerCondition("full", "Full", "critical", hold=0, clear_for=0)
    assert turns([False, True, True, False, True], at_once) == [
        (0, False),
        (1, True),
        (3, False),
        (4, True),
    ]


def test_a_clock_that_was_put_back_delays_no_alert():
    watch = WatchedCondition(SLOW)
    turns = [watch.advance(Sign(holds=True), at) for at in (60 * MINUTE, 0, SLOW.hold)]
    assert turns == [None, None, True]


def test_between_two_thresholds_nothing_changes():
    assert [between(value, 8, 5) for value in (8, 7.9, 5, 4.9)] == [True, None, None, False]


def test_the_error_rate_is_that_of_the_last_minute():
    rate = ErrorRate("elements")
    assert rate.look(0, 0, 0).holds is None
    assert rate.look(900, 900, MINUTE - 1).holds is None
    assert rate.look(1_000, 120, MINUTE) == (True, "12% of 1,000 elements within a minute")
    assert rate.look(2_000, 190, 2 * MINUTE).holds is None
    assert rate.look(3_000, 190, 3 * MINUTE).holds is False
    # Of few it is none.
    assert rate.look(3_010, 200, 4 * MINUTE).holds is False


def test_a_sensor_is_told_of_once_and_cleared_when_it_is_quiet():
    sensors = RejectedSensors()
    assert sensors.look({1: 9, 2: 4}, 0) == ([], [])
    assert sensors.look({1: 1}, MINUTE) == ([(1, 10)], [])
    assert sensors.look({1: 50}, 2 * MINUTE) == ([], [])
    # Spread over more than five minutes they are no alert.
    assert sensors.look({2: 6}, 6 * MINUTE) == ([], [])
    assert sensors.look({}, 12 * MINUTE - 1) == ([], [])
    assert sensors.look({}, 12 * MINUTE) == ([], [1])
    assert sensors.look({1: 10}, 13 * MINUTE) == ([(1, 10)], [])
    # One whose alert was open before a start.
    sensors.raised(3, 0)
    assert sensors.look({3: 99}, 0) == ([], [])
