"""Turns at the one connection that writes: who may use it next."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# So many others go before a batch. Each of its messages waits for it, and whoever sent them; and
# where many change something at once, it would wait for all of them.
AHEAD_OF_A_BATCH = 4


class WriterTurns:
    """Gives turns in the order in which they are asked for, but a batch waits for few others."""

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self, *, batch: bool = False) -> AsyncIterator[None]:
        """Wait for a turn, and have it for as long as the block lasts."""
        if self._is_taken:
            await self._wait(min(len(self._waiting), AHEAD_OF_A_BATCH) if batch else None)
        self._is_taken = True
        try:
            yield
        finally:
            self._next()

    async def _wait(self, place: int | None) -> None:
        mine = asyncio.get_running_loop().create_future()
        self._waiting.insert(len(self._waiting) if place is None else place, mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._next()  # it was given before
            elif mine in self._waiting:  # else it was passed over meanwhile
                self._waiting.remove(mine)
            raise

    def _next(self) -> None:
        """Give the turn to who is next; it stays taken on the way, so that nobody else gets it."""
        while self._waiting:
            following = self._waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        self._is_taken = False
