"""When the frontier moves, and how far."""

from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.time import DAY, HOUR, MINUTE, SECOND
from heliograph.rollups.task import FAR, STEP, VERY_FAR, RollupState, due
from heliograph.store.engine import LAG

NOON = 1_768_478_400 * SECOND


@given(st.integers(0, 10 * DAY), st.integers(0, 10 * DAY))
def test_it_moves_by_whole_steps_and_stays_behind_the_clock(behind, later):
    frontier = (NOON - behind) // STEP * STEP
    moment = NOON + later
    target = due(frontier, moment)
    assert target % STEP == 0
    assert target <= moment - LAG
    assert (target > frontier) == (moment - LAG >= frontier + STEP)
    assert target - frontier <= max(FAR, DAY)


def test_the_further_behind_the_longer_the_steps():
    frontier = NOON + 10 * MINUTE
    assert due(frontier, frontier + LAG + STEP - 1) <= frontier
    assert due(frontier, frontier + LAG + STEP) == frontier + STEP
    assert due(frontier, frontier + FAR + HOUR) == NOON + HOUR
    assert due(frontier, frontier + VERY_FAR + HOUR) == NOON // DAY * DAY + DAY


def test_the_lag_is_told_once_it_is_known():
    state = RollupState()
    assert state.lag_seconds(NOON) == 0
    state.frontier = NOON
    assert state.lag_seconds(NOON + MINUTE) == 60
