"""Reading many raw rows of a sensor: how many at most, and who at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from heliograph.store.engine import Engine

MAXIMUM_ROWS = 3_000_000
# From so many rows on a read is large: it waits for its turn, and those to come are counted, which
# takes about as long as reading so many.
LARGE = 40_000
# Large reads that run at the same time: others need the connections too.
AT_ONCE = 2


class RangeTooLargeError(Exception):
    """What was asked for is more than one answer may take; the message says of what."""


class RawReads:
    """The reads of a database's raw rows; whatever they are for, the large ones take turns."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turns = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def begin(self, sensor: int) -> AsyncIterator["RawRead"]:
        """Begin to read rows of the sensor; a turn that was taken is given back at the end."""
        async with AsyncExitStack() as turn:
            yield RawRead(self._engine, sensor, self._turns, turn)


class RawRead:
    """One read: of one span of time or several, one after the other."""

    def __init__(
        self, engine: Engine, sensor: int, turns: asyncio.Semaphore, turn: AsyncExitStack
    ) -> None:
        self.sensor = sensor
        self._engine = engine
        self._turns = turns
        self._turn = turn
        self._rows = 0
        self._is_large = False
        # The end of the span whose rest was counted.
        self._counted: int | None = None

    async def note(self, rows: int) -> None:
        """Note that so many more were read; return when it is this read's turn to go on.

        Raises:
            RangeTooLargeError: more than `MAXIMUM_ROWS`.
        """
        self._rows += rows
        if self._rows > MAXIMUM_ROWS:
            raise _too_many()
        if self._rows >= LARGE and not self._is_large:
            await self._turn.enter_async_context(self._turns)
            self._is_large = True

    async def check(self, start: int, end: int) -> None:
        """See, once the read is large, that the rest of a span is not too much.

        Raises:
            RangeTooLargeError: it would come to more than `MAXIMUM_ROWS`.
        """
        if not self._is_large or self._counted == end:
            return
        # Those at `start` itself may have been read; at one time there are few.
        if await self._engine.fetch(
            "measurements_reach",
            sensor=self.sensor,
            start=start + 1,
            end=end,
            rows=MAXIMUM_ROWS - self._rows,
        ):
            raise _too_many()
        self._counted = end


def _too_many() -> RangeTooLargeError:
    return RangeTooLargeError(f"more than {MAXIMUM_ROWS:,} measurements: take a shorter range")
