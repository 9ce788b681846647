"""A client's first packet, before anybody knows who it is: of its bytes few are read at once."""

import asyncio
from typing import TYPE_CHECKING, Final

from heliograph.mqtt.limits import MAXIMUM_CONNECT_BYTES

if TYPE_CHECKING:
    from heliograph.mqtt.connection import Connection

# With the first byte of CONNECT and its length.
_HELD: Final = MAXIMUM_CONNECT_BYTES + 5
# One for all: what is read is copied out of it at once.
_READ: Final = memoryview(bytearray(_HELD))


class Greeting(asyncio.BufferedProtocol):
    """Stands before a connection until its client is known.

    What is over 8 KiB stays in the kernel: an ordinary protocol is handed up to 256 KiB by a
    read, which would be kept for each connection while its password is being checked.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the transport on."""
        self._connection.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand it on."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand it on."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on."""
        self._connection.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return room for what the connection may still hold, for a byte at least."""
        del sizehint
        return _READ[: max(_HELD - len(self._connection.rest), 1)]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what was read."""
        self._connection.data_received(bytes(_READ[:nbytes]))
