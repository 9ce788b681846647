"""Cutting time into pieces: none crosses a month, and few have less than a thousand rows."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.time import DAY, HOUR
from heliograph.packed.chunk import MAXIMUM_ROWS
from heliograph.packed.pieces import Piece, chunk_sizes, next_piece


def at(*moment):
    return round(datetime(*moment, tzinfo=UTC).timestamp()) * 1_000_000


JULY, AUGUST = at(2026, 7, 1), at(2026, 8, 1)


def even(rows_an_hour):
    return dict.fromkeys(range(JULY, AUGUST, HOUR), rows_an_hour)


def counting(hours):
    async def count(start, end):
        return sum(hours.get(hour, 0) for hour in range(start, end, HOUR))

    return count


async def pieces(hours, until=AUGUST):
    found = []
    start = JULY
    while (piece := await next_piece(counting(hours), start, until)) is not None:
        found.append(piece)
        start = piece.end
        if start >= AUGUST:
            break
    return found


@pytest.mark.parametrize(
    ("rows_an_hour", "ends"),
    [
        (3_600, [*range(JULY + HOUR, AUGUST + HOUR, HOUR)]),
        (1_000, [*range(JULY + HOUR, AUGUST + HOUR, HOUR)]),
        (60, [*range(JULY + DAY, AUGUST + DAY, DAY)]),
        (6, [at(2026, 7, 8), at(2026, 7, 15), at(2026, 7, 22), AUGUST]),
        (2, [AUGUST]),
        (0, [AUGUST]),
    ],
)
async def test_a_piece_ends_with_the_shortest_period_that_has_a_thousand_rows(rows_an_hour, ends):
    found = await pieces(even(rows_an_hour))
    assert [piece.end for piece in found] == ends
    assert [piece.start for piece in found] == [JULY, *ends[:-1]]


async def test_of_what_has_not_ended_whole_hours_are_packed_early():
    count, until = counting(even(6)), JULY + 12 * HOUR + 1
    assert await next_piece(count, JULY + HOUR, until) is None
    early = await next_piece(count, JULY + HOUR, until, early=True)
    assert early == Piece(JULY + HOUR, JULY + 12 * HOUR)
    # Sixty are too few; and what has ended ends as ever.
    assert await next_piece(count, JULY + 2 * HOUR, until, early=True) is None
    assert await next_piece(count, JULY + 12 * HOUR, until, early=True) is None
    assert await next_piece(count, JULY + HOUR, AUGUST, early=True) == Piece(
        JULY + HOUR, JULY + 7 * DAY
    )


async def test_a_quiet_hour_of_a_busy_day_ends_with_the_day():
    hours = even(3_600) | {JULY + 10 * HOUR: 200}
    assert (await pieces(hours))[9:12] == [
        Piece(JULY + 9 * HOUR, JULY + 10 * HOUR),
        Piece(JULY + 10 * HOUR, JULY + DAY),
        Piece(JULY + DAY, JULY + DAY + HOUR),
    ]


async def test_a_piece_waits_for_its_end():
    each_minute = counting(even(60))
    assert await next_piece(each_minute, JULY, JULY + DAY - HOUR) is None
    assert await next_piece(each_minute, JULY, JULY + DAY) == Piece(JULY, JULY + DAY)
    december, january = at(2026, 12, 25), at(2027, 1, 1)
    few = counting({december: 5})
    assert await next_piece(few, december, january) == Piece(december, january)
    before_1970 = at(1969, 12, 31, 23)
    many = counting({before_1970: 1_000})
    assert await next_piece(many, before_1970, 0) == Piece(before_1970, 0)


@given(st.integers(0, 50_000))
def test_chunks_of_a_piece_are_few_and_of_one_size(rows):
    sizes = chunk_sizes(rows)
    assert sum(sizes) == rows
    assert len(sizes) == -(-rows // MAXIMUM_ROWS)
    if sizes:
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= MAXIMUM_ROWS
