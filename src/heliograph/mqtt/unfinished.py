"""What is held of packets whose end has not come, bounded over all connections."""

from typing import TYPE_CHECKING

from heliograph.mqtt.limits import MAXIMUM_UNFINISHED_BYTES, UNCOUNTED_BYTES
from heliograph.mqtt.oversize import HEAD_BYTES
from heliograph.mqtt.reasons import ProtocolError, Reason

if TYPE_CHECKING:
    from heliograph.mqtt.connection import Connection

UNFINISHED_SECONDS = 60.0


class Unfinished:
    """Counts what connections hold beyond what each of them may hold uncounted."""

    def __init__(self) -> None:
        self.bytes = 0

    def count(self, connection: "Connection", *, waiting: bool) -> None:
        """Count anew what the connection holds.

        What waits for the server is whole packets mostly, and not the client's fault: it may
        become less here, never more.

        Raises:
            ProtocolError: all connections together would hold too much.
        """
        held = HEAD_BYTES if connection.oversize is not None else len(connection.rest)
        held = max(held - UNCOUNTED_BYTES, 0)
        if waiting:
            held = min(held, connection.held)
        total = self.bytes - connection.held + held
        if held > connection.held and total > MAXIMUM_UNFINISHED_BYTES:
            raise ProtocolError(Reason.QUOTA_EXCEEDED, "too many unfinished packets in all")
        self.bytes, connection.held = total, held

    def release(self, connection: "Connection") -> None:
        """Let go of what the connection holds."""
        connection.rest = b""
        connection.oversize = None
        self.bytes -= connection.held
        connection.held = 0

    @staticmethod
    def is_overdue(connection: "Connection", now: float) -> bool:
        """Tell, if asked every now and then, whether a packet has been unfinished for too long."""
        if connection.oversize is not None:
            # Of any length, so it may take any time, as long as it goes on.
            return now - connection.last_received > UNFINISHED_SECONDS
        if not connection.rest:
            connection.unfinished_since = 0.0
        elif not connection.unfinished_since:
            connection.unfinished_since = now
        return bool(connection.rest) and now - connection.unfinished_since > UNFINISHED_SECONDS
