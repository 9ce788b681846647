"""How long what is kept: pure arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.retention import (
    LONGEST_DAYS,
    Cutoffs,
    Needed,
    Retention,
    cutoffs,
    effective,
    raw_cutoff,
)
from heliograph.model.time import DAY, HOUR

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
        assert cutoff == 0 if not days else cutoff <= max(moment - days * DAY, 0)
    assert found.rollups <= found.raw
    if retention.log_days and moment > retention.log_days * DAY:
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
