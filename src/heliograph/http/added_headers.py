"""Headers that a layer adds to answers, by whichever way they are sent."""

from collections.abc import Sequence

from starlette.types import Message, Scope, Send

from heliograph.http.answers import lines_of
from heliograph.http.direct import CONNECTION, ClientConnection
from heliograph.live.viewer import Outlet

Headers = Sequence[tuple[bytes, bytes]]


class _Connection:
    """A client's connection on which answers have further headers. Implements ClientConnection."""

    def __init__(self, connection: ClientConnection, lines: bytes) -> None:
        self._connection = connection
        self._lines = lines

    def body(self) -> bytes | None:
        return self._connection.body()

    def answer(self, status: int, head: bytes, body: bytes, /) -> bool:
        return self._connection.answer(status, head + self._lines, body)

    def open_outlet(self) -> Outlet | None:
        return self._connection.open_outlet()

    def abort(self) -> None:
        self._connection.abort()

    def rest(self) -> None:
        self._connection.rest()


def adding(scope: Scope, send: Send, headers: Headers) -> tuple[Scope, Send]:
    """Return the scope and `send` of an HTTP request whose answer has these headers, too."""
    connection: ClientConnection | None = scope.get(CONNECTION)
    if connection is not None:
        scope = {**scope, CONNECTION: _Connection(connection, lines_of(headers))}

    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return scope, send_with
