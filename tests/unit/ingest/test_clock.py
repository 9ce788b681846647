import pytest

from heliograph.errors import ErrorCode, HeliographError
from heliograph.ingest import clock as module
from heliograph.ingest.clock import (
    ASSIGNED_AHEAD,
    BELIEVED_AFTER,
    BRIDGED,
    PLAUSIBLE,
    RELEASED,
    Clock,
    elapsed_ns,
)
from heliograph.model.time import DAY, HOUR, MINUTE, SECOND

START = RELEASED + 1_000 * SECOND


class Wall:
    """A wall clock to set, and a monotonic one, in microseconds."""

    def __init__(self):
        self.now = START
        self.elapsed = 0

    def clock(self, newest_receipt=0):
        return Clock(
            newest_receipt,
            wall_ns=lambda: self.now * 1_000,
            elapsed_ns=lambda: self.elapsed * 1_000,
        )

    def pass_by(self, microseconds):
        """Let time pass, by both."""
        self.now += microseconds
        self.elapsed += microseconds


@pytest.fixture
def wall():
    return Wall()


def test_it_tells_the_wall_clocks_time(wall):
    clock = wall.clock()
    assert clock.now() == START
    wall.now += 5
    assert clock.now() == START + 5
    assert not clock.behind


def test_it_stands_still_through_small_steps_back(wall):
    clock = wall.clock()
    clock.now()
    wall.now -= BRIDGED
    assert clock.now() == START
    assert not clock.behind
    wall.now = START + 7
    assert clock.now() == START + 7


def test_it_tells_nothing_after_a_large_step_back(wall):
    clock = wall.clock()
    clock.now()
    wall.now -= BRIDGED + 1
    assert clock.behind
    with pytest.raises(HeliographError) as caught:
        clock.now()
    assert caught.value.code is ErrorCode.CLOCK_BEHIND
    assert caught.value.retry_after
    assert "heliograph clock accept" in caught.value.detail
    assert clock.moment() == START
    wall.now = START
    assert clock.now() == START


def test_it_tells_nothing_before_the_release(wall):
    wall.now = RELEASED - BRIDGED - 1
    assert wall.clock().behind
    wall.now += 1
    assert wall.clock().now() == RELEASED


def test_it_starts_behind_every_time_that_was_given_out(wall):
    # 10,000 untimed elements of the newest message lie up to as many microseconds ahead.
    clock = wall.clock(START)
    assert clock.now() == START + ASSIGNED_AHEAD > START + 10_000
    wall.now = START + 2 * ASSIGNED_AHEAD
    assert clock.now() == wall.now


@pytest.mark.parametrize("step", [PLAUSIBLE + 1, 2 * DAY, 4_000 * DAY])
def test_a_clock_that_was_ahead_for_seconds_holds_nothing_up(wall, step):
    clock = wall.clock()
    clock.now()
    wall.now += step
    for second in range(1, 50):
        wall.pass_by(SECOND)
        assert clock.now() == START + second * SECOND
        assert clock.ahead == step
        assert not clock.behind
    wall.now -= step
    assert clock.now() == wall.now
    wall.pass_by(SECOND)
    assert clock.now() == wall.now
    assert clock.ahead == 0


def test_small_steps_ahead_are_followed_and_do_not_add_up(wall):
    clock = wall.clock()
    for _ in range(100):
        wall.pass_by(MINUTE)
        wall.now += PLAUSIBLE
        assert clock.now() == wall.now
        assert clock.ahead == 0


def test_a_clock_that_was_put_right_forwards_is_believed_after_a_minute(wall):
    clock = wall.clock()
    clock.now()
    wall.now += 3 * DAY
    wall.pass_by(SECOND)
    assert clock.now() == START + SECOND
    wall.pass_by(BELIEVED_AFTER - SECOND)
    assert clock.now() == START + BELIEVED_AFTER
    wall.pass_by(SECOND)
    assert clock.now() == wall.now == START + 3 * DAY + BELIEVED_AFTER + SECOND
    assert clock.ahead == 0


def test_a_clock_that_jumps_about_is_not_believed(wall):
    clock = wall.clock()
    clock.now()
    for minutes in range(1, 20):
        wall.pass_by(MINUTE)
        wall.now += HOUR
        assert clock.now() == START + minutes * MINUTE


def test_a_clock_that_started_behind_what_is_stored_is_believed_at_once_when_put_right(wall):
    clock = wall.clock(START + 3 * DAY)
    assert clock.behind
    wall.pass_by(20 * SECOND)
    wall.now += 4 * DAY
    assert clock.now() == wall.now


def test_a_machine_that_slept_goes_on_by_its_wall_clock(wall):
    # The monotonic clock that is used counts on while the machine is suspended.
    clock = wall.clock()
    clock.now()
    wall.pass_by(9 * HOUR)
    assert clock.now() == wall.now
    first = elapsed_ns()
    assert elapsed_ns() >= first > 0
    assert module._MONOTONIC is not None or not hasattr(module.time, "CLOCK_BOOTTIME")


def test_once_accepted_it_goes_on_from_the_time_that_it_tells(wall):
    clock = wall.clock(START + 400 * DAY)
    assert clock.behind
    assert clock.accept() == wall.now
    assert not clock.behind
    wall.pass_by(SECOND)
    assert clock.now() == wall.now == START + SECOND


def test_a_time_before_the_release_cannot_be_accepted(wall):
    wall.now = RELEASED - DAY
    clock = wall.clock()
    clock.accept()
    assert clock.behind
