"""A few connections for reading, shared by whoever reads."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from heliograph.errors import StoreUnavailableError

C = TypeVar("C")


class Pool(Generic[C]):
    """Hands out connections, the last one used first; opens them when they are needed.

    asyncpg's own pool resets a connection after each use and wraps it in tasks and proxies:
    that costs three times as much as reading a row.
    """

    def __init__(
        self,
        size: int,
        connect: Callable[[], Awaitable[C]],
        disconnect: Callable[[C], Awaitable[None]],
        *,
        seconds: float,
    ) -> None:
        """Hold up to `size` connections; wait `seconds` for one."""
        self._size = size
        self._connect = connect
        self._disconnect = disconnect
        self._seconds = seconds
        self._idle: deque[C] = deque()
        self._generations: dict[int, int] = {}
        self._generation = 0
        self._free = asyncio.BoundedSemaphore(size)
        self._closed = False

    async def take(self) -> C:
        """Return a connection that nobody else uses; give it back by `give` or `drop`.

        Raises:
            StoreUnavailableError: all were in use for too long, or the pool is closed.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError as error:
            raise StoreUnavailableError("all connections for reading are in use") from error
        if self._closed:  # while it was waited for
            self._free.release()
            raise StoreUnavailableError("the store is closed")
        try:
            while self._idle:
                connection = self._idle.pop()
                if self._generations[id(connection)] == self._generation:
                    return connection
                await self._forget(connection)
            connection = await self._connect()
        except BaseException:
            self._free.release()
            raise
        self._generations[id(connection)] = self._generation
        return connection

    def give(self, connection: C) -> None:
        """Give back a connection that may be used again."""
        self._idle.append(connection)
        self._free.release()

    async def drop(self, connection: C) -> None:
        """Give back a connection that failed."""
        try:
            await self._forget(connection)
        finally:
            self._free.release()

    def renew(self) -> None:
        """Have each connection opened anew before its next use."""
        self._generation += 1

    async def close(self) -> None:
        """Wait until nobody reads, then close all connections."""
        self._closed = True
        for _ in range(self._size):
            await self._free.acquire()
        while self._idle:
            await self._forget(self._idle.pop())
        for _ in range(self._size):
            self._free.release()

    async def _forget(self, connection: C) -> None:
        del self._generations[id(connection)]
        await self._disconnect(connection)
