"""Keyset pages: the same for measurements, logs and heartbeats."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from heliograph.store.engine import Engine, Row

Direction: TypeAlias = Literal["next", "previous"]
Cursor: TypeAlias = tuple[int, int]

# What a page may hold beyond its limit, so as not to end between two rows of one timestamp; and
# how many rows one that leaves out some looks at.
MAXIMUM_ROWS = 10_000
# Rows read at a time while some are left out.
LOOKED_AT_ONCE = 1_000

LEAST = -(1 << 63)
GREATEST = (1 << 63) - 1


class Keyed(Protocol):
    """What is read in pages."""

    @property
    def timestamp(self) -> int:
        """When it was made, in microseconds."""
        ...

    @property
    def fingerprint(self) -> int:
        """What tells rows of one time apart."""
        ...


T = TypeVar("T", bound=Keyed)
# What a row becomes on a page; None: it is left out.
Selection: TypeAlias = Callable[[T], T | None]


class Page(list[T]):
    """Rows, ascending unless told otherwise, and how their reading ended.

    `more` tells whether rows may follow in the direction of the reading, and `reached` is then
    the last position that was looked at.
    """

    def __init__(
        self, rows: Iterable[T] = (), *, more: bool = False, reached: Cursor | None = None
    ) -> None:
        super().__init__(rows)
        self.more = more
        self.reached = reached


class Pages(Generic[T]):
    """A table's rows by (timestamp, fingerprint)."""

    def __init__(
        self, engine: Engine, subject: str, records: Callable[[Sequence[Row]], list[T]]
    ) -> None:
        """Read with the queries named after the subject; `records` makes the structs."""
        self._engine = engine
        self._after = f"{subject}_after"
        self._before = f"{subject}_before"
        self._records = records

    async def page(
        self,
        sensor: int,
        *,
        key: int | None,
        direction: Direction | None,
        limit: int,
        select: Selection[T] | None = None,
    ) -> Page[T]:
        """Return the page next to a timestamp, exclusive; without one the newest or oldest.

        A page doesn't end between two rows of one timestamp: it rather exceeds the limit, up
        to `MAXIMUM_ROWS`. With `select` it has the rows that this takes, of as many.
        """
        if key is None:
            forward = direction == "next"
            cursor = (LEAST, LEAST) if forward else (GREATEST, GREATEST)
        else:
            forward = direction != "previous"
            cursor = (key, GREATEST) if forward else (key, LEAST)
        page = await self._gather(
            sensor, cursor, limit, forward=forward, most=MAXIMUM_ROWS, select=select
        )
        if not forward:
            page.reverse()
        return page

    async def page_after(
        self,
        sensor: int,
        cursor: Cursor,
        direction: Direction,
        limit: int,
        select: Selection[T] | None = None,
    ) -> Page[T]:
        """Return the page beyond an exact position, exclusive, that ends as any other does."""
        forward = direction == "next"
        page = await self._gather(
            sensor, cursor, limit, forward=forward, most=MAXIMUM_ROWS, select=select
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
            sensor, at, limit, forward=forward, most=0, bound=bound, select=select
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
    ) -> Page[T]:
        """Return rows in the order of reading: `limit`, and up to `most` to end its last time."""
        read = self.after if forward else self.before
        if bound is None:
            bound = GREATEST if forward else LEAST
        if select is not None:
            return await self._selected(sensor, cursor, limit, forward, most, bound, select)
        # One row more than wanted tells whether the page's end divides a timestamp.
        rows = await read(sensor, cursor, limit=limit + 1, bound=bound)
        more = len(rows) > limit
        if more:
            extra = rows.pop()
            last = rows[-1]
            wanted = max(most - limit, 0)
            if last.timestamp == extra.timestamp and wanted:
                rows += await read(sensor, position(last), limit=wanted, bound=last.timestamp)
        return Page(rows, more=more, reached=position(rows[-1]) if rows else None)

    async def _selected(
        self,
        sensor: int,
        cursor: Cursor,
        limit: int,
        forward: bool,
        most: int,
        bound: int,
        select: Selection[T],
    ) -> Page[T]:
        read = self.after if forward else self.before
        page: Page[T] = Page(more=True)
        looked_at = 0
        while looked_at < MAXIMUM_ROWS:
            rows = await read(sensor, cursor, limit=LOOKED_AT_ONCE, bound=bound)
            for row in rows:
                if len(page) >= max(limit, most if _of_one_time(page, row) else 0):
                    page.reached = cursor
                    return page
                kept = select(row)
                if kept is not None:
                    page.append(kept)
                cursor = position(row)
            looked_at += len(rows)
            if len(rows) < LOOKED_AT_ONCE:
                page.more = False
                break
        page.reached = cursor
        return page

    async def after(
        self, sensor: int, cursor: Cursor, *, limit: int, bound: int = GREATEST
    ) -> list[T]:
        """Return rows after the cursor, ascending, up to the timestamp `bound`."""
        return self._records(
            await self._engine.fetch(
                self._after,
                sensor=sensor,
                timestamp=cursor[0],
                fingerprint=cursor[1],
                until=bound,
                limit=limit,
            )
        )

    async def before(
        self, sensor: int, cursor: Cursor, *, limit: int, bound: int = LEAST
    ) -> list[T]:
        """Return rows before the cursor, descending, down to the timestamp `bound`."""
        return self._records(
            await self._engine.fetch(
                self._before,
                sensor=sensor,
                timestamp=cursor[0],
                fingerprint=cursor[1],
                since=bound,
                limit=limit,
            )
        )


def position(row: Keyed) -> Cursor:
    """Return what a cursor says of the row."""
    return row.timestamp, row.fingerprint


def _of_one_time(page: Sequence[Keyed], row: Keyed) -> bool:
    return bool(page) and page[-1].timestamp == row.timestamp
