"""Events and small answers straight to a client's connection, past ASGI.

Through `send` an event takes, for each viewer, a turn of his task, four coroutines and a frame
around bytes that are the same for all: twice what the system's own call takes. So our protocols
offer the connection in the ASGI scope, as an extension, and whoever watches is written to at once
while his task has nothing to write and his client keeps up. In every other case, and under a
server that does not offer it, an event takes the way through the queue and `send`, which waits
for the client.

A small answer goes the same way, head and body in one call of the system: `send` makes one for
each, checks headers that are our own, and takes as long as all else that an answer takes.

What is written is what `send` would have written, byte for byte.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

from heliograph.live.viewer import Chunk, Outlet

EXTENSION = "heliograph.connection"
ABORT_SECONDS = 1.0


class ClientConnection(Protocol):
    """A protocol of ours. It keeps its outlet's `ready` as the transport and the client are."""

    outlet: Outlet | None

    @property
    def takes_bytes(self) -> bool:
        """Whether the client keeps up, and is there."""
        ...

    def abort(self) -> None:
        """End it at once, whatever waits to be written."""
        ...

    def rest(self) -> None:
        """Take no further request for a moment."""
        ...


def offer(scope: Any, connection: ClientConnection, serving: object) -> None:
    """Let the application write past `send`.

    Called by the protocol that made the scope; `serving` is what `send` belongs to.
    """
    scope.setdefault("extensions", {})[EXTENSION] = (connection, serving)


def withdraw(scope: Any) -> None:
    """Offer it no more: what was made for the request would keep itself in memory by it."""
    scope.get("extensions", {}).pop(EXTENSION, None)


def http_outlet(scope: Scope) -> Outlet | None:
    """Return where an answer that has been started can be written to; None: only to `send`."""
    connection, cycle = _offered(scope)
    if not isinstance(cycle, RequestResponseCycle) or not cycle.chunked_encoding:
        return None
    return _opened(connection, Outlet(cycle.transport.write, http_frame))


def websocket_outlet(scope: Scope) -> Outlet | None:
    """Return where messages to an accepted socket can be written to; None: only to `send`.

    A socket that compresses has a state that goes from message to message.
    """
    connection, protocol = _offered(scope)
    if not isinstance(protocol, WebSocketsSansIOProtocol) or protocol.conn.extensions:
        return None
    return _opened(connection, Outlet(protocol.transport.write, websocket_frames))


def connection_of(scope: Scope) -> ClientConnection | None:
    """Return the connection of a request; None: the server does not offer it."""
    return _offered(scope)[0]


def answer(scope: Scope, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
    """Send a whole answer; False: it has to go by `send`.

    `headers` are our own, in small letters, with a Content-Length.
    """
    _, cycle = _offered(scope)
    if (
        not isinstance(cycle, RequestResponseCycle)
        or cycle.response_started
        or cycle.disconnected
        or cycle.access_log
        or cycle.flow.write_paused
        or scope["method"] == "HEAD"
    ):
        return False
    lines = [STATUS_LINE[status]]
    for name, value in (*cycle.default_headers, *headers):
        lines += (name, b": ", value, b"\r\n")
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    lines += (b"\r\n", body)
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join(lines))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


async def cut_off(scope: Scope, receive: Receive) -> None:
    """End a connection whose client takes nothing; return when the server knows.

    Closed in order, it would stay as long as the client does, with all that waits for him.
    """
    connection, _ = _offered(scope)
    if connection is None:
        return
    connection.abort()
    with suppress(TimeoutError):
        async with asyncio.timeout(ABORT_SECONDS):
            while not (await receive())["type"].endswith(".disconnect"):
                pass


def http_frame(chunk: Chunk) -> bytes:
    """Return what is shown as a chunk of an HTTP/1.1 answer."""
    framed = b"%x\r\n%b\r\n" % (chunk.size, chunk.data)
    if chunk.count:  # a sign of life goes to viewers of both protocols
        chunk.framed = framed
    return framed


def websocket_frames(chunk: Chunk) -> bytes:
    """Return what is shown as messages of a WebSocket; it has signs of life of its own."""
    if not chunk.count:
        return b""
    chunk.framed = b"".join(
        [Frame(Opcode.TEXT, part).serialize(mask=False) for part in chunk.parts]
    )
    return chunk.framed


def _offered(scope: Scope) -> tuple[ClientConnection | None, object]:
    offered: tuple[ClientConnection | None, object]
    offered = (scope.get("extensions") or {}).get(EXTENSION, (None, None))
    return offered


def _opened(connection: ClientConnection | None, outlet: Outlet) -> Outlet | None:
    if connection is None:
        return None
    outlet.ready = connection.takes_bytes
    connection.outlet = outlet
    return outlet
