"""A connection by which servers on one PostgreSQL tell each other what is new: LISTEN and NOTIFY.

It has transactions of its own, which hold nothing but what is sent: a transaction that notifies
commits under a lock of the whole database server, and would have all others wait for the disk.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from heliograph.errors import StoreUnavailableError
from heliograph.store.queries import Query

CHANNEL = "heliograph"

# What the driver raises of a connection that is lost; the last where it is closed in the middle of
# a statement.
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class PostgresqlSignals:
    """The connection. Implements `Signals`."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        disconnect: Callable[[Any], Awaitable[None]],
        notify: Query,
    ) -> None:
        """Use connections that `connect` makes."""
        self._connect = connect
        self._disconnect = disconnect
        self._notify = notify.sql
        self._connection: Any = None
        # Of this connection alone: one that was given up may end long after the next has begun.
        self._lost = asyncio.Event()
        # One statement at a time: what greets on a new connection, and what has come meanwhile.
        self._turn = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as is known."""
        return self._connection is not None and not self._connection.is_closed()

    async def open(self, heard: Callable[[int, str], None]) -> None:
        """Connect, and call `heard` with each text that another server sends, and its sender.

        Raises:
            StoreUnavailableError: not now.
        """

        def told(connection: Any, sender: int, _channel: str, text: str) -> None:
            if sender != connection.get_server_pid():
                heard(sender, text)

        await self.close()
        lost = asyncio.Event()
        try:
            connection = await self._connect()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, told)
        except _AWAY as error:
            raise _unavailable(error) from error
        self._connection, self._lost = connection, lost

    async def lost(self) -> None:
        """Return when there is no connection any more."""
        await self._lost.wait()

    async def send(self, texts: Sequence[str]) -> None:
        """Send texts of less than 8,000 bytes, no two of which may be alike.

        Raises:
            StoreUnavailableError: nobody knows whether they were sent; the connection is lost.
        """
        async with self._turn:
            if self._connection is None:
                raise StoreUnavailableError("PostgreSQL: the connection for signals is closed")
            try:
                await self._connection.execute(self._notify, CHANNEL, list(texts))
            except _AWAY as error:
                await self.close()
                raise _unavailable(error) from error

    async def close(self) -> None:
        """Close it."""
        connection, self._connection = self._connection, None
        self._lost.set()
        if connection is not None:
            await self._disconnect(connection)


def _unavailable(error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(f"PostgreSQL: {str(error) or type(error).__name__}")
