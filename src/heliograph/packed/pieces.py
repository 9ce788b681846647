"""Which rows become a chunk: cutting a sensor's time into pieces of 1,000 rows or more."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from heliograph.model.time import DAY, HOUR
from heliograph.packed.chunk import MAXIMUM_ROWS

FEWEST_ROWS: Final = 1_000
# Of a piece that has not ended. A row of so few takes 20 bytes.
FEWEST_EARLY_ROWS: Final = 64

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_WEEKS: Final = (1, 8, 15, 22)


class Piece(NamedTuple):
    """A time from `start` to before `end` (microseconds) whose rows are packed at once.

    More rows than a chunk holds are cut into chunks of about as many each.
    """

    start: int
    end: int


async def next_piece(
    count: Callable[[int, int], Awaitable[int]], start: int, until: int, *, early: bool = False
) -> Piece | None:
    """Return the piece that begins at `start`; None: it has not ended by `until`.

    `early`: of one that has not ended, what there is by the last whole hour, if it has
    `FEWEST_EARLY_ROWS`.

    All are microseconds. `count` tells how many rows there are between two times, packed ones
    included; up to `FEWEST_ROWS` exactly. A piece ends with the shortest of hour, day, week and
    month around `start` that has `FEWEST_ROWS`, else with the month. Weeks begin on a month's 1st,
    8th, 15th and 22nd, so that none crosses it. It may have no rows.
    """
    for first, end in _periods(start):
        if end > until:
            whole = until - until % HOUR
            is_enough = early and start < whole and await count(start, whole) >= FEWEST_EARLY_ROWS
            return Piece(start, whole) if is_enough else None
        if await count(first, end) >= FEWEST_ROWS:
            break
    return Piece(start, end)


def _periods(moment: int) -> Iterator[tuple[int, int]]:
    """Yield where hour, day, week and month around the moment begin and end."""
    hour = moment - moment % HOUR
    yield hour, hour + HOUR
    day = moment - moment % DAY
    yield day, day + DAY
    date = _EPOCH + day * _MICROSECOND
    month = day - (date.day - 1) * DAY
    after = datetime(date.year + date.month // 12, date.month % 12 + 1, 1, tzinfo=UTC)
    end = (after - _EPOCH) // _MICROSECOND
    week = max(number for number in _WEEKS if number <= date.day)
    yield month + (week - 1) * DAY, end if week == _WEEKS[-1] else month + (week + 6) * DAY
    yield month, end


def month_end(moment: int) -> int:
    """Return where the month around the moment ends, which no piece crosses."""
    *_, (_, end) = _periods(moment)
    return end


def chunk_sizes(rows: int) -> list[int]:
    """Return how many rows the chunks of a piece have: as few chunks as can be, of one size."""
    chunks = -(-rows // MAXIMUM_ROWS)
    return [rows * (at + 1) // chunks - rows * at // chunks for at in range(chunks)]
