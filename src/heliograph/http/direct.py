"""What our protocols offer an application past ASGI: the client's connection itself.

Through `send` an event takes, for each viewer, a turn of their task, four coroutines and a frame
around bytes that are the same for all: twice what the system's own call takes. So our protocols
offer the connection in the ASGI scope, and whoever watches is written to at once
while their task has nothing to write and their client keeps up. In every other case, and under a
server that does not offer it, an event takes the way through the queue and `send`, which waits
for the client.

A small answer goes the same way, head and body in one call of the system: `send` makes one for
each, checks headers that are our own, and takes as long as all else that an answer takes.

What is written is what `send` would have written, byte for byte. A file of its own, since what
offers it and what uses it know nothing of each other.
"""

import asyncio
from contextlib import suppress
from typing import Final, Protocol

from starlette.types import Receive, Scope

from heliograph.live.viewer import Outlet

# In the ASGI scope of a request that is not answered yet, and of a socket: its connection.
CONNECTION: Final = "heliograph.connection"
ABORT_SECONDS = 1.0


class ClientConnection(Protocol):
    """A protocol of ours. It keeps its outlet's `ready` as the transport and the client are."""

    def body(self) -> bytes | None:
        """Return the body of the request if all of it has come; None: it has to be received."""
        ...

    def answer(self, status: int, head: bytes, body: bytes, /) -> bool:
        """Send a whole answer; False: it has to go by `send`.

        `head` is the lines of its headers, Content-Length among them.
        """
        ...

    def open_outlet(self) -> Outlet | None:
        """Return where what has been begun can be written on; None: only to `send`."""
        ...

    def abort(self) -> None:
        """End it at once, whatever waits to be written."""
        ...

    def rest(self) -> None:
        """Take no further request for a moment."""
        ...


def outlet_of(scope: Scope) -> Outlet | None:
    """Return where a stream or socket that has begun can be written to; None: only to `send`."""
    connection: ClientConnection | None = scope.get(CONNECTION)
    return connection.open_outlet() if connection is not None else None


async def cut_off(scope: Scope, receive: Receive) -> None:
    """End a connection whose client takes nothing; return when the server knows.

    Closed in order, it would stay as long as the client does, with all that waits for them.
    """
    connection: ClientConnection | None = scope.get(CONNECTION)
    if connection is None:
        return
    connection.abort()
    with suppress(TimeoutError):
        async with asyncio.timeout(ABORT_SECONDS):
            await disconnected(receive)


async def disconnected(receive: Receive) -> None:
    """Return when the client of a request or a socket has gone."""
    while not (await receive())["type"].endswith(".disconnect"):
        pass
