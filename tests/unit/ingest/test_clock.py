import pytest

from heliograph.errors import ErrorCode, HeliographError
from heliograph.ingest import clock as module
from heliograph.ingest.clock import ASSIGNED_AHEAD, BRIDGED, RELEASED, Clock
from heliograph.model.time import SECOND

START = RELEASED + 1_000 * SECOND


@pytest.fixture
def wall(monkeypatch):
    """A wall clock to set, in microseconds."""

    class Wall:
        now = START

        def time_ns(self):
            return self.now * 1_000

    wall = Wall()
    monkeypatch.setattr(module, "time", wall)
    return wall


def test_it_tells_the_wall_clocks_time(wall):
    clock = Clock()
    assert clock.now() == START
    wall.now += 5
    assert clock.now() == START + 5
    assert not clock.behind


def test_it_stands_still_through_small_steps_back(wall):
    clock = Clock()
    clock.now()
    wall.now -= BRIDGED
    assert clock.now() == START
    assert not clock.behind
    wall.now = START + 7
    assert clock.now() == START + 7


def test_it_tells_nothing_after_a_large_step_back(wall):
    clock = Clock()
    clock.now()
    wall.now -= BRIDGED + 1
    assert clock.behind
    with pytest.raises(HeliographError) as caught:
        clock.now()
    assert caught.value.code is ErrorCode.CLOCK_BEHIND
    assert caught.value.retry_after
    wall.now = START
    assert clock.now() == START


def test_it_tells_nothing_before_the_release(wall):
    wall.now = RELEASED - BRIDGED - 1
    assert Clock().behind
    wall.now += 1
    assert Clock().now() == RELEASED


def test_it_starts_behind_every_time_that_was_given_out(wall):
    # 10,000 untimed elements of the newest message lie up to as many microseconds ahead.
    clock = Clock(START)
    assert clock.now() == START + ASSIGNED_AHEAD > START + 10_000
    wall.now = START + 2 * ASSIGNED_AHEAD
    assert clock.now() == wall.now
