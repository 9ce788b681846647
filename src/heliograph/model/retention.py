"""How long what devices sent is kept, and from when on it is due."""

from typing import NamedTuple

import msgspec

from heliograph.model.time import DAY, HOUR

FOR_EVER = 0
LONGEST_DAYS = 36_500
# By how much the clock may be ahead of the time that has passed, and for how long what is due by
# it waits if it is more.
LEAP = DAY
WAIT = DAY


class Retention(msgspec.Struct, frozen=True):
    """For how many days what is kept: measurements, their rollups, logs (and heartbeats).

    None: what is said further up counts; 0: for ever.
    """

    raw_days: int | None = None
    rollup_days: int | None = None
    log_days: int | None = None


class Cutoffs(NamedTuple):
    """What is older is due, in microseconds; 0: nothing is."""

    raw: int
    rollups: int
    logs: int


def effective(*levels: Retention) -> Retention:
    """Return what counts: of each member the first level's that says something."""
    return Retention(
        *(
            next((days for level in levels if (days := getattr(level, name)) is not None), FOR_EVER)
            for name in Retention.__struct_fields__
        )
    )


def cutoffs(retention: Retention, moment: int) -> Cutoffs:
    """Return the cutoffs at a moment (microseconds).

    They lie on whole hours; those of rollups on whole days, which are their largest pieces.
    Rollups are kept at least as long as what they were made of: an hour that is only counted
    from its rollup must not be without one.
    """
    raw = _cutoff(retention.raw_days, moment, HOUR)
    rollups = _cutoff(retention.rollup_days, moment, DAY)
    rollups = min(rollups, raw // DAY * DAY) if raw and rollups else 0
    return Cutoffs(raw, rollups, _cutoff(retention.log_days, moment, HOUR))


def _cutoff(days: int | None, moment: int, step: int) -> int:
    # Of more than half a century it lies before 1970, and is negative.
    return (moment - days * DAY) // step * step if days else 0


class Horizon(NamedTuple):
    """By which time what is due is removed, in microseconds.

    `clock` is what the clock showed at that; `waited` for how long the rest of the way to it
    has been waiting, by uptime.
    """

    moment: int
    clock: int
    waited: int

    @property
    def waits(self) -> bool:
        """Whether the clock has leapt further than is followed at once."""
        return self.moment != self.clock


def advance(last: Horizon | None, clock: int, elapsed: int) -> Horizon:
    """Return the horizon after so much monotonic time, by a clock that may have leapt.

    It moves by as much and a day at most. Of a larger leap it waits for the rest, until that
    has stayed for a day of uptime. What has been removed can't be brought back.
    """
    if last is None or clock <= last.moment + elapsed + LEAP:
        return Horizon(clock, clock, 0)
    is_another = clock > last.clock + elapsed + LEAP
    waited = 0 if is_another else last.waited + elapsed
    if waited >= WAIT:
        return Horizon(clock, clock, 0)
    return Horizon(last.moment + elapsed, clock, waited)


class Needed(NamedTuple):
    """What a sensor's rollups need of its raw rows, in microseconds.

    Rows older than `floor` are counted no more. Of the others there is a rollup of each hour
    before `frontier`, but from `mark` and `backlog` on, if not None, one may be missing or wrong.
    """

    frontier: int
    floor: int
    mark: int | None
    backlog: int | None


def raw_cutoff(due: Cutoffs, needed: Needed) -> int:
    """Return before which hour raw rows are due and not needed for rollups any more."""
    if not due.raw or (due.rollups and due.rollups >= due.raw // DAY * DAY):
        return due.raw  # nothing is due, or rollups are not kept longer
    rolled_up = [needed.frontier // HOUR * HOUR]
    if needed.mark is not None:
        rolled_up.append(needed.mark)
    if needed.backlog is not None:
        rolled_up.append(max(needed.backlog, needed.floor))
    return min(due.raw, *rolled_up)
