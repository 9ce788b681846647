"""Packets over the limit: streamed past, of which only the head is kept."""

from heliograph.mqtt.limits import KEPT_BYTES

# The payload's first 64 KiB, and before them the topic and the properties.
HEAD_BYTES = 2 * KEPT_BYTES + 4


class Oversize:
    """A PUBLISH that is too large to be held; `head` begins with its first byte, not its length."""

    __slots__ = ("head", "left", "qos", "size")

    def __init__(self, first: int, size: int, body: bytes) -> None:
        self.size = size
        self.qos = first >> 1 & 3
        self.left = size - len(body)
        self.head = bytes([first]) + body[:HEAD_BYTES]

    def take(self, data: bytes) -> bytes | None:
        """Take the packet's next bytes; return what follows its end, None before that."""
        room = HEAD_BYTES - len(self.head)
        if room > 0:
            self.head += data[: min(self.left, room)]
        self.left -= len(data)
        if self.left > 0:
            return None
        return data[len(data) + self.left :]
