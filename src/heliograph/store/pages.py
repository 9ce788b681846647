"""Keyset pages: the same for measurements, logs and heartbeats."""

from collections.abc import Callable, Sequence
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from heliograph.store.engine import Engine, Row

Direction: TypeAlias = Literal["next", "previous"]
Cursor: TypeAlias = tuple[int, int]

# What a page may hold beyond its limit, so as not to end between two rows of one timestamp.
MAXIMUM_ROWS = 10_000

LEAST = -(1 << 63)
GREATEST = (1 << 63) - 1


class _Keyed(Protocol):
    @property
    def timestamp(self) -> int: ...

    @property
    def fingerprint(self) -> int: ...


T = TypeVar("T", bound=_Keyed)


class Pages(Generic[T]):
    """A table's rows by (timestamp, fingerprint), always ascending."""

    def __init__(
        self, engine: Engine, subject: str, records: Callable[[Sequence[Row]], list[T]]
    ) -> None:
        """Read with the queries named after the subject; `records` makes the structs."""
        self._engine = engine
        self._after = f"{subject}_after"
        self._before = f"{subject}_before"
        self._records = records

    async def page(
        self, sensor: int, *, key: int | None, direction: Direction | None, limit: int
    ) -> list[T]:
        """Return the page next to a timestamp, exclusive; without one the newest or oldest.

        A page doesn't end between two rows of one timestamp: it rather exceeds the limit, up
        to `MAXIMUM_ROWS`.
        """
        if key is None:
            forward = direction == "next"
            cursor = (LEAST, LEAST) if forward else (GREATEST, GREATEST)
        else:
            forward = direction != "previous"
            cursor = (key, GREATEST) if forward else (key, LEAST)
        # One row more than wanted tells whether the page's end divides a timestamp.
        read = self.after if forward else self.before
        rows = await read(sensor, cursor, limit=limit + 1)
        if len(rows) > limit:
            extra = rows.pop()
            last = rows[-1]
            if last.timestamp == extra.timestamp:
                rows += await read(
                    sensor,
                    (last.timestamp, last.fingerprint),
                    limit=max(MAXIMUM_ROWS - limit, 0),
                    bound=last.timestamp,
                )
        if not forward:
            rows.reverse()
        return rows

    async def page_after(
        self, sensor: int, cursor: Cursor, direction: Direction, limit: int
    ) -> list[T]:
        """Return at most `limit` rows beyond an exact position, exclusive."""
        if direction == "next":
            return await self.after(sensor, cursor, limit=limit)
        rows = await self.before(sensor, cursor, limit=limit)
        rows.reverse()
        return rows

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
