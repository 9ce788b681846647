"""Keyset pages: the same for measurements, logs and heartbeats.

A page is bounded in rows and in bytes. Where it would be too large it ends early, at the last
timestamp of which it has all rows; only where one timestamp alone is too large, inside that.

A row may be a thousand times as large as most are. So rows are read a bounded number of bytes at a
time: the database leaves out the texts of what would be too much with all others of its chunk, and
reading goes on from there with fewer. Those few are reserved before they are read.
"""

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from operator import itemgetter
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from heliograph.long_work import LongWork
from heliograph.store.engine import Engine, Row, Subject

P = TypeVar("P")
# Returns rows beyond a position, up to so many, without the texts of those whose texts are longer
# than so many characters together. The last column of each is how long they are.
Fetch: TypeAlias = Callable[[P, int, int], Awaitable[Sequence[Row]]]

# So many rows are read whatever their size, which is 1 MiB at most.
FEW = 8
ANY_SIZE = (1 << 31) - 1
# Is told how many bytes what has been read of a page comes to, together with what is to be read
# next where that is large; what it raises ends the reading.
Hold: TypeAlias = Callable[[int], None]


def hold_any(_size: int) -> None:
    """Let anything be read."""


async def row_chunks(
    fetch: Fetch[P],
    at: P,
    position: Callable[[Row], P],
    *,
    size: int,
    most: int,
    first: int | None = None,
    total: int | None = None,
    reserve: Hold = hold_any,
) -> AsyncGenerator[Sequence[Row], None]:
    """Yield the rows beyond a position, up to `total`; `position` tells each row's own.

    Up to `most` at a time (`first` at first) and never none, whose texts have up to `size`
    characters together, or `FEW`. `reserve` is told before large ones are read how many
    characters they have.
    """
    left, limit, growth = total, first or most, most
    expected = 0
    while left is None or left > 0:
        if left is not None:
            limit = min(limit, left)
        if expected:
            reserve(expected)
        longest = longest_of(limit, size)
        rows = await fetch(at, limit, longest)
        ends = len(rows) < limit
        lengths = [row[-1] for row in rows]
        if max(lengths, default=0) > longest:
            place = next(place for place, each in enumerate(lengths) if each > longest)
            rows = rows[:place]
            ends, limit, growth = False, FEW, 4
            expected = sum(lengths[place : place + FEW])
        elif limit < most and rows:
            # As large ones are to take a part of it only: the next may be larger.
            average = sum(lengths) // len(rows) + 1
            limit = min(most, growth * limit, max(FEW, size // 8 // average))
            expected = average * FEW if limit == FEW else 0
        if rows:
            at = position(rows[-1])
            if left is not None:
                left -= len(rows)
            yield rows
        if ends:
            return


def longest_of(limit: int, size: int) -> int:
    """Return how long the texts of so many rows may be, each row's, to come to `size` at most."""
    return size // limit if limit > FEW else ANY_SIZE


Direction: TypeAlias = Literal["next", "previous"]
Cursor: TypeAlias = tuple[int, int]

# What a page may hold beyond its limit, so as not to end between two rows of one timestamp; and
# how many rows one that leaves out some looks at.
MAXIMUM_ROWS = 10_000
# What a page may come to as JSON, in bytes, and how much one that leaves out some looks at.
LARGEST_PAGE = 16 << 20
# What an entry may take beside its texts.
ENTRY_BYTES = 200
# Rows read at a time, at first and at most, and the characters of their texts: on SQLite a
# large value is read as a whole to learn its length, so that the first are few.
ROWS_AT_FIRST = 128
ROWS_AT_ONCE = 1_024
CHUNK_SIZE = 4 << 20
LEAST = -(1 << 63)
GREATEST = (1 << 63) - 1


class Keyed(Protocol):
    """What is read in pages."""

    @property
    def timestamp(self) -> int:
        """When it was made, in microseconds."""

    @property
    def fingerprint(self) -> int:
        """What tells rows of one time apart."""


R = TypeVar("R")
T = TypeVar("T", bound=Keyed)
# What a row becomes on a page; None: it is left out.
Selection: TypeAlias = Callable[[T], T | None]


class Page(list[R]):
    """Rows, ascending unless told otherwise, and how their reading ended.

    `more` tells whether rows may follow in the direction of the reading, and `reached` is then
    the last position that was looked at. `truncated`: there are more of the last one's timestamp.
    `size` is what the page comes to as JSON, in bytes.
    """

    def __init__(
        self,
        rows: Iterable[R] = (),
        *,
        more: bool = False,
        reached: Cursor | None = None,
        truncated: bool = False,
        size: int = 0,
    ) -> None:
        super().__init__(rows)
        self.more = more
        self.reached = reached
        self.truncated = truncated
        self.size = size


class Pages(Subject, Generic[T]):
    """A table's rows by (timestamp, fingerprint)."""

    def __init__(
        self,
        engine: Engine,
        subject: str,
        records: Callable[[Sequence[Row]], list[T]],
        sizes: Callable[[Sequence[Row]], list[int]],
    ) -> None:
        """Read with the queries named after the subject.

        `records` makes the structs of rows, `sizes` tells what their texts come to as JSON.
        """
        super().__init__(engine)
        self._after = f"{subject}_after"
        self._before = f"{subject}_before"
        self._records = records
        self._sizes = sizes

    async def page(
        self,
        sensor: int,
        *,
        key: int | None = None,
        cursor: Cursor | None = None,
        direction: Direction | None = None,
        limit: int,
        select: Selection[T] | None = None,
        hold: Hold = hold_any,
    ) -> Page[T]:
        """Return the page beyond a cursor or next to a timestamp, exclusive, in ascending order.

        Without either the newest, or, where the direction is `next`, the oldest. A page doesn't
        end between two rows of one timestamp: it rather exceeds the limit, up to `MAXIMUM_ROWS`,
        or ends early, before it exceeds `LARGEST_PAGE`. With `select` it has the rows that this
        takes, of as many.
        """
        from_somewhere = not (cursor is None and key is None)
        forward = direction == "next" or (direction is None and from_somewhere)
        if cursor is None and key is not None:
            cursor = (key, GREATEST if forward else LEAST)
        start = cursor or ((LEAST, LEAST) if forward else (GREATEST, GREATEST))
        page = await self._gather(
            sensor, start, limit, forward=forward, most=MAXIMUM_ROWS, select=select, hold=hold
        )
        if not forward:
            page.reverse()
        return page

    async def between(
        self,
        sensor: int,
        *,
        start: int,
        end: int,
        cursor: Cursor | None,
        forward: bool,
        limit: int,
        select: Selection[T] | None = None,
        hold: Hold = hold_any,
    ) -> Page[T]:
        """Return at most `limit` rows from `start` to before `end`, in the order of reading.

        From the oldest (`forward`) or the newest on, or from beyond the cursor.
        """
        if end <= start:
            return Page()
        first, last = (start - 1, GREATEST), (end, LEAST)
        if forward:
            at, bound = max(cursor or first, first), end - 1
        else:
            at, bound = min(cursor or last, last), start
        return await self._gather(
            sensor, at, limit, forward=forward, most=0, bound=bound, select=select, hold=hold
        )

    async def rows(
        self,
        sensor: int,
        cursor: Cursor,
        *,
        forward: bool,
        limit: int,
        bound: int | None = None,
        first: int | None = None,
        reserve: Hold = hold_any,
    ) -> AsyncGenerator[tuple[list[T], list[int]], None]:
        """Yield up to `limit` rows beyond the cursor, and what their texts come to, in chunks.

        In the order of reading, as far as the timestamp `bound`. The `first` chunk has up to so
        many rows, by default as many as a small page. `reserve` as in `row_chunks`.
        """
        if bound is None:
            bound = GREATEST if forward else LEAST
        fetch = functools.partial(self._fetch, sensor, forward, bound)
        chunks = page_chunks(fetch, cursor, row_position, limit, first, reserve=reserve)
        async with aclosing(chunks):
            async for rows in chunks:
                yield self._records(rows), self._sizes(rows)

    async def _fetch(
        self, sensor: int, forward: bool, bound: int, at: Cursor, limit: int, longest: int
    ) -> Sequence[Row]:
        return await self._engine.fetch(
            self._after if forward else self._before,
            sensor=sensor,
            timestamp=at[0],
            fingerprint=at[1],
            limit=limit,
            longest=longest,
            **{"until" if forward else "since": bound},
        )

    async def _gather(
        self,
        sensor: int,
        cursor: Cursor,
        limit: int,
        *,
        forward: bool,
        most: int,
        bound: int | None = None,
        select: Selection[T] | None,
        hold: Hold,
    ) -> Page[T]:
        """Return rows in the order of reading: `limit`, and up to `most` to end its last time."""
        read = functools.partial(self.rows, sensor, forward=forward)
        if select is not None:
            page: Page[T] = Page(more=True)
            chunks = read(
                cursor, limit=MAXIMUM_ROWS + 1, bound=bound, reserve=reserving(page, hold)
            )
            await _look_through(page, chunks, cursor, limit, most, select, hold)
            return page
        if limit < ROWS_AT_FIRST:
            bound = (GREATEST if forward else LEAST) if bound is None else bound
            small = await self._small(sensor, cursor, limit, forward, most, bound)
            if small is not None:
                hold(small.size)
                return small
        filling = _Filling[T](hold)
        read = functools.partial(read, reserve=reserving(filling, hold))
        # One row more than wanted tells whether the page's end divides a timestamp.
        await filling.fill(read(cursor, limit=limit + 1, bound=bound), limit)
        more, truncated = filling.following is not None, False
        if filling.is_full:
            truncated = filling.end_early()
        elif more and most > limit and filling.is_divided:
            last = filling.rows[-1]
            filling.following = None
            rest = read(position(last), limit=most - limit + 1, bound=last.timestamp)
            await filling.fill(rest, most)
            truncated = filling.end_early() if filling.is_full else filling.is_divided
        rows = filling.rows
        return Page(
            rows,
            more=more,
            reached=position(rows[-1]) if rows else None,
            truncated=truncated,
            size=filling.size,
        )

    async def _small(
        self, sensor: int, cursor: Cursor, limit: int, forward: bool, most: int, bound: int
    ) -> Page[T] | None:
        """Return the page if it is what most are; None: it is large, or divides a timestamp.

        It takes a third less than to gather it.
        """
        longest = longest_of(limit + 1, CHUNK_SIZE)
        rows = await self._fetch(sensor, forward, bound, cursor, limit + 1, longest)
        lengths = list(map(itemgetter(-1), rows))
        length = sum(lengths)
        # As JSON a character has six bytes at most.
        if max(lengths, default=0) > longest or 6 * length + len(rows) * ENTRY_BYTES > LARGEST_PAGE:
            return None
        found = self._records(rows)
        more = len(rows) > limit
        if more:
            extra = found.pop()
            if most > limit and found[-1].timestamp == extra.timestamp:
                return None
        size = length + len(found) * ENTRY_BYTES
        return Page(found, more=more, reached=position(found[-1]) if found else None, size=size)


class Sized(Protocol):
    """What is as large as it says, in bytes."""

    size: int


def reserving(page: Sized, hold: Hold) -> Hold:
    """Return what reserves for a page what is read next; more than the largest it won't keep."""
    return lambda more: hold(min(page.size + more, LARGEST_PAGE))


class _Filling(Generic[T]):
    """The rows of a page, in the order of reading.

    `following` is the timestamp of the first row that was read and has no place on it; the page
    `is_full` if that would make it too large.
    """

    def __init__(self, hold: Hold) -> None:
        self.rows: list[T] = []
        self.size = 0
        self.following: int | None = None
        self.is_full = False
        self._hold = hold

    @property
    def is_divided(self) -> bool:
        """Whether there are more rows of the last one's timestamp."""
        return self.rows[-1].timestamp == self.following

    async def fill(
        self, chunks: AsyncGenerator[tuple[list[T], list[int]], None], limit: int
    ) -> None:
        """Take rows until the page has so many, or would be too large."""
        async with aclosing(chunks):
            async for rows, sizes in chunks:
                room = limit - len(self.rows)
                taken = rows[:room]
                size = self.size + sum(sizes[:room]) + len(taken) * ENTRY_BYTES
                if size > LARGEST_PAGE:
                    taken, size = self._fitting(taken, sizes)
                self.rows += taken
                self.size = size
                self._hold(size)
                if len(taken) < len(rows):
                    self.following = rows[len(taken)].timestamp
                    self.is_full = len(taken) < room
                    return

    def end_early(self) -> bool:
        """Leave out the last timestamp if it is divided; True: there is no other, so it stays."""
        rows, whole = self.rows, len(self.rows)
        while whole and rows[whole - 1].timestamp == self.following:
            whole -= 1
        if not whole:
            return True
        del rows[whole:]
        return False

    def _fitting(self, rows: list[T], sizes: list[int]) -> tuple[list[T], int]:
        """Return those of the rows that fit, but one at least, and the size with them."""
        size = self.size
        for place, more in enumerate(sizes[: len(rows)]):
            if size + more + ENTRY_BYTES > LARGEST_PAGE and (place or self.rows):
                return rows[:place], size
            size += more + ENTRY_BYTES
        return rows, size


async def _look_through(
    page: Page[T],
    chunks: AsyncGenerator[tuple[list[T], list[int]], None],
    start: Cursor,
    limit: int,
    most: int,
    select: Selection[T],
    hold: Hold,
) -> None:
    """Put on the page what is taken of the rows, in their order."""
    # The last position looked at; where its timestamp begins, and how many rows are before.
    at = whole_at = start
    whole = looked_at = size = 0
    work = LongWork()
    async with aclosing(chunks):
        async for rows, sizes in chunks:
            for row, more in zip(rows, sizes, strict=True):
                if row.timestamp != at[0]:
                    whole, whole_at = len(page), at
                divided = _of_one_time(page, row)
                if len(page) >= max(limit, most if divided else 0):
                    page.reached = at
                    page.truncated = divided and most > 0
                    hold(page.size)
                    return
                size += more + ENTRY_BYTES
                if looked_at >= MAXIMUM_ROWS or (looked_at and size > LARGEST_PAGE):
                    page.truncated = divided
                    if whole_at != start:
                        del page[whole:]
                        at, page.truncated = whole_at, False
                    page.reached = at
                    hold(page.size)
                    return
                kept = select(row)
                if kept is not None:
                    page.append(kept)
                    page.size += more + ENTRY_BYTES
                looked_at += 1
                at = position(row)
                await work.pause()
            hold(page.size)
    page.more, page.reached = False, at


def position(row: Keyed) -> Cursor:
    """Return what a cursor says of the row."""
    return row.timestamp, row.fingerprint


def row_position(row: Row) -> Cursor:
    """Return the same of a row as the database returns it."""
    return row[1], row[2]


def _of_one_time(page: Sequence[Keyed], row: Keyed) -> bool:
    return bool(page) and page[-1].timestamp == row.timestamp


def page_chunks(
    fetch: Fetch[P],
    at: P,
    position: Callable[[Row], P],
    total: int,
    first: int | None = None,
    *,
    reserve: Hold,
) -> AsyncGenerator[Sequence[Row], None]:
    """Yield up to so many rows beyond a position as a page takes them, in chunks."""
    return row_chunks(
        fetch,
        at,
        position,
        size=CHUNK_SIZE,
        most=ROWS_AT_ONCE,
        first=first or ROWS_AT_FIRST,
        total=total,
        reserve=reserve,
    )


def text_size(text: str | None) -> int:
    """Return how many bytes a JSON text takes."""
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())
