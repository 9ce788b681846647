"""How long what is kept: pure arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.retention import (
    LEAP,
    LONGEST_DAYS,
    WAIT,
    Cutoffs,
    Horizon,
    Needed,
    Retention,
    advance,
    cutoffs,
    effective,
    raw_cutoff,
)
from heliograph.model.time import DAY, HOUR, SECOND

days = st.integers(0, LONGEST_DAYS)
said = st.builds(Retention, *[days | st.none()] * 3)
everything = st.builds(Retention, days, days, days)
moments = st.integers(0, 253_402_300_799_999_999)
hours = st.integers(0, 2_000_000).map(lambda hour: hour * HOUR)


@given(st.lists(said, max_size=3))
def test_what_is_said_first_counts(levels: list[Retention]) -> None:
    found = effective(*levels)
    for name in Retention.__struct_fields__:
        given = [days for level in levels if (days := getattr(level, name)) is not None]
        assert getattr(found, name) == (given[0] if given else 0)


@given(everything, moments)
def test_cutoffs_lie_on_hours_and_days_and_never_early(retention: Retention, moment: int) -> None:
    found = cutoffs(retention, moment)
    for days, cutoff, step in zip(
        (retention.raw_days, retention.rollup_days, retention.log_days),
        found,
        (HOUR, DAY, HOUR),
        strict=True,
    ):
        assert cutoff % step == 0
        assert cutoff == 0 if not days else cutoff <= moment - days * DAY or cutoff == 0
    assert found.rollups <= found.raw or found.rollups == 0
    if retention.log_days:
        assert found.logs > moment - retention.log_days * DAY - HOUR


@given(everything, moments, moments)
def test_cutoffs_never_move_back(retention: Retention, one: int, other: int) -> None:
    earlier, later = (cutoffs(retention, moment) for moment in sorted((one, other)))
    assert all(a <= b for a, b in zip(earlier, later, strict=True))


@given(everything, moments, hours, hours, st.none() | hours, st.none() | hours)
def test_no_raw_row_goes_that_a_rollup_needs(
    retention: Retention,
    moment: int,
    frontier: int,
    floor: int,
    mark: int | None,
    backlog: int | None,
) -> None:
    due = cutoffs(retention, moment)
    mark = None if mark is None else mark + floor
    found = raw_cutoff(due, Needed(frontier, floor, mark, backlog))
    assert found % HOUR == 0
    assert found <= due.raw
    if due.rollups < due.raw // DAY * DAY:
        assert found <= frontier
        assert mark is None or found <= mark
        assert backlog is None or found <= max(backlog, floor)
    else:
        assert found == due.raw


def test_a_frontier_within_an_hour_keeps_the_hour() -> None:
    needed = Needed(10 * HOUR + 10, 0, None, None)
    assert raw_cutoff(Cutoffs(100 * DAY, 0, 0), needed) == 10 * HOUR


NOW = 20_000 * DAY
horizons = st.none() | st.builds(Horizon, moments, moments, st.integers(0, WAIT - 1))


@given(horizons, moments, st.integers(0, 100 * DAY))
def test_the_horizon_moves_by_the_time_that_passed_and_a_day_at_most(
    last: Horizon | None, clock: int, elapsed: int
) -> None:
    following = advance(last, clock, elapsed)
    assert following.moment <= following.clock == clock
    if last is not None and last.waited + elapsed < WAIT:
        assert following.moment <= last.moment + elapsed + LEAP
    if last is not None and clock - last.moment <= elapsed + LEAP:
        assert not following.waits


def test_a_leap_waits_for_a_day_of_uptime() -> None:
    horizon = advance(None, NOW, 0)
    assert horizon == Horizon(NOW, NOW, 0)
    leap = 90 * DAY
    for hour in range(1, 25):
        horizon = advance(horizon, NOW + leap + hour * HOUR, HOUR)
        assert horizon.waits
        assert horizon.moment == NOW + hour * HOUR
    horizon = advance(horizon, NOW + leap + 25 * HOUR, HOUR)
    assert horizon == Horizon(NOW + leap + 25 * HOUR, NOW + leap + 25 * HOUR, 0)


def test_many_looks_do_not_make_a_leap_go_faster() -> None:
    horizon = advance(None, NOW, 0)
    for second in range(1, 10_000):
        horizon = advance(horizon, NOW + 90 * DAY + second * SECOND, SECOND)
    assert horizon.moment == NOW + 9_999 * SECOND


def test_another_leap_waits_anew() -> None:
    horizon = advance(advance(None, NOW, 0), NOW + 3 * DAY, 0)
    horizon = advance(horizon, NOW + 3 * DAY + 23 * HOUR, 23 * HOUR)
    assert (horizon.moment, horizon.waited) == (NOW + 23 * HOUR, 23 * HOUR)
    horizon = advance(horizon, NOW + 93 * DAY + 25 * HOUR, 2 * HOUR)
    assert (horizon.moment, horizon.waited) == (NOW + 25 * HOUR, 0)


def test_uptime_counts_over_restarts() -> None:
    # Eight hours a day from Monday on: each night is followed, a weekend is waited for.
    horizon, clock = advance(None, NOW, 0), NOW
    for _ in range(3):
        horizon = advance(horizon, clock := clock + 16 * HOUR, 0)
        assert not horizon.waits
        horizon = advance(horizon, clock := clock + 8 * HOUR, 8 * HOUR)
    clock += 64 * HOUR
    for _ in range(3):
        horizon = advance(horizon, clock, 0)
        assert horizon.waits
        horizon = advance(horizon, clock := clock + 8 * HOUR, 8 * HOUR)
        clock += 16 * HOUR
    assert not horizon.waits


def test_a_clock_that_was_put_back_is_followed_at_once() -> None:
    assert advance(Horizon(NOW, NOW, 0), NOW - 90 * DAY, HOUR) == Horizon(
        NOW - 90 * DAY, NOW - 90 * DAY, 0
    )
    waiting = advance(Horizon(NOW, NOW, 0), NOW + 90 * DAY, HOUR)
    assert advance(waiting, NOW + 2 * HOUR, HOUR) == Horizon(NOW + 2 * HOUR, NOW + 2 * HOUR, 0)
