"""Events straight to a viewer's connection, past ASGI.

Through `send` an event takes, for each viewer, a turn of his task, four coroutines and a frame
around bytes that are the same for all: about 30 µs, where the system's own call takes 6. So our
protocols offer the connection in the ASGI scope, as an extension, and whoever watches is written
to at once while his task has nothing to write and his client keeps up. In every other case, and
under a server that does not offer it, an event takes the way through the queue and `send`, which
waits for the client.

What is written is what `send` would have written, byte for byte.
"""

from collections.abc import Callable
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from heliograph.live.viewer import Chunk

# The request's RequestResponseCycle, or the socket's WebSocketsSansIOProtocol.
EXTENSION = "heliograph.connection"

Write = Callable[[Chunk], bool]


def offer(scope: Any, connection: RequestResponseCycle | WebSocketsSansIOProtocol) -> None:
    """Let the application write past `send`; called by the protocol that made the scope."""
    scope.setdefault("extensions", {})[EXTENSION] = connection


def http_writer(scope: Scope) -> Write | None:
    """Return what writes a part of the answer that has been started, or says that it can't now.

    None: it never can.
    """
    cycle = (scope.get("extensions") or {}).get(EXTENSION)
    if not isinstance(cycle, RequestResponseCycle) or not cycle.chunked_encoding:
        return None
    flow, transport_write = cycle.flow, cycle.transport.write

    def write(chunk: Chunk) -> bool:
        if flow.write_paused or cycle.disconnected or cycle.response_complete:
            return False
        framed = chunk.framed
        if framed is None:
            framed = chunk.framed = b"%x\r\n%b\r\n" % (chunk.size, chunk.data)
        transport_write(framed)
        return True

    return write


def websocket_writer(scope: Scope) -> Write | None:
    """Return what writes messages to an accepted socket, or says that it can't now.

    None: it never can; a socket that compresses has a state that goes from message to message.
    """
    protocol = (scope.get("extensions") or {}).get(EXTENSION)
    if not isinstance(protocol, WebSocketsSansIOProtocol) or protocol.conn.extensions:
        return None
    connection, writable = protocol.conn, protocol.writable
    transport_write = protocol.transport.write

    def write(chunk: Chunk) -> bool:
        if not chunk.count:
            return True  # a sign of life: the protocol has its own
        if not writable.is_set() or protocol.disconnected or connection.state is not State.OPEN:
            return False
        framed = chunk.framed
        if framed is None:
            framed = chunk.framed = b"".join(
                [Frame(Opcode.TEXT, part).serialize(mask=False) for part in chunk.parts]
            )
        transport_write(framed)
        return True

    return write
