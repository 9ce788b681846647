"""The load's own end of an MQTT connection: prebuilt bytes out, PUBACKs compared."""

import socket
from collections.abc import Iterable

from bench.packets import PUBACK_BYTES, chunks, connect
from bench.starting_line import LoadError

SOCKET_TIMEOUT = 30.0
READ_SIZE = 1 << 18


def opened(port: int, client_id: str, username: str, password: str) -> socket.socket:
    """Return a connected socket whose CONNECT was accepted."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=SOCKET_TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(connect(client_id, username, password))
    answer = exactly(connection, 4)
    if answer[0] != 0x20 or answer[3] != 0:
        raise LoadError(f"CONNECT of {username} was answered {answer.hex()}")
    return connection


def exactly(connection: socket.socket, size: int) -> bytes:
    """Return the next `size` bytes."""
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise LoadError("the server closed the connection")
        found += piece
    return found


class Sender:
    """Publishes prebuilt messages, never more than `window` of them unacknowledged.

    The PUBACKs have to come in the order of the messages, each once: the bytes received are
    compared with those that are due.
    """

    def __init__(self, connection: socket.socket, window: int) -> None:
        connection.setblocking(False)
        self.connection, self.window = connection, window
        self.acknowledged = self.sent = 0
        self._chunks: list[tuple[bytes, int]] = []
        self._due = b""
        self._received = 0
        self._rest = memoryview(b"")

    def load(self, packets: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the messages to send next; those before have to be acknowledged."""
        published, acknowledgments = zip(*packets, strict=True)
        self._due = b"".join(acknowledgments)
        self._chunks = chunks(published, max(1, min(500, self.window // 4)))[::-1]
        self.acknowledged = self.sent = self._received = 0

    @property
    def is_open(self) -> bool:
        """Whether there is something to send now."""
        if self._rest:
            return True
        return bool(self._chunks) and self.sent - self.acknowledged < self.window

    @property
    def is_done(self) -> bool:
        """Whether all is sent and acknowledged."""
        return not self._chunks and not self._rest and self.acknowledged == self.sent

    def stop(self) -> None:
        """Send no more than the chunk that is under way."""
        self._chunks.clear()

    def send(self) -> None:
        """Send what the socket takes of one chunk."""
        if not self._rest:
            data, count = self._next()
            self._rest = memoryview(data)
            self.sent += count
        try:
            self._rest = self._rest[self.connection.send(self._rest) :]
        except BlockingIOError:
            return

    def _next(self) -> tuple[bytes | bytearray, int]:
        """Take the next chunk, and how many messages it has."""
        return self._chunks.pop()

    def receive(self) -> None:
        """Compare what has come with the PUBACKs that are due."""
        try:
            data = self.connection.recv(READ_SIZE)
        except ConnectionError:
            data = b""
        if not data:
            raise LoadError(f"the server closed the connection after {self.acknowledged} messages")
        end = self._received + len(data)
        if data != self._expected(self._received, end) or end > self.sent * PUBACK_BYTES:
            raise LoadError(f"not the PUBACKs that are due: {data[:32].hex()}…")
        self._received = end
        self.acknowledged = end // PUBACK_BYTES

    def _expected(self, start: int, end: int) -> bytes:
        """Return the PUBACKs that are due, from one byte to another."""
        return self._due[start:end]
