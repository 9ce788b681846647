"""The data representation of MQTT (1.5): integers, strings and binary data, read and written."""

import struct

from heliograph.mqtt.codec.reasons import malformed

LONGEST_STRING = 0xFFFF
LARGEST_VARIABLE = 0x0FFF_FFFF

MAXIMUM_PACKET_ID = 0xFFFF
# The longest body, with a first byte and four of its length before it.
MAXIMUM_PACKET_SIZE = LARGEST_VARIABLE + 5


class Cursor:
    """Reads fields of a body one behind the other, and never beyond `stop`.

    Each method raises ProtocolError where the body ends too early or holds what the field
    may not.
    """

    __slots__ = ("at", "body", "stop")

    def __init__(self, body: bytes, at: int = 0, stop: int | None = None) -> None:
        self.body = body
        self.at = at
        self.stop = len(body) if stop is None else stop

    @property
    def ended(self) -> bool:
        """Whether nothing is left to read."""
        return self.at >= self.stop

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        start = self.at
        end = start + length
        if end > self.stop:
            raise malformed("the packet ends within a field")
        self.at = end
        return self.body[start:end]

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def two_bytes(self) -> int:
        """Return a two byte integer."""
        return int.from_bytes(self.take(2), "big")

    def four_bytes(self) -> int:
        """Return a four byte integer."""
        return int.from_bytes(self.take(4), "big")

    def variable(self) -> int:
        """Return a variable byte integer, which has to be as short as can be [MQTT-1.5.5-1]."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if not byte and shift:
                    raise malformed("a variable byte integer is longer than it need be")
                return value
        raise malformed("a variable byte integer has more than four bytes")

    def binary(self) -> bytes:
        """Return binary data."""
        return self.take(self.two_bytes())

    def string(self) -> str:
        """Return a UTF-8 encoded string."""
        return decode(self.binary())

    def pair(self) -> tuple[str, str]:
        """Return a UTF-8 string pair."""
        return self.string(), self.string()

    def finish(self) -> None:
        """Raise ProtocolError if anything is left."""
        if self.at != self.stop:
            raise malformed("the packet goes on after its last field")


def decode(text: bytes) -> str:
    """Return the string; surrogates and U+0000 are malformed [MQTT-1.5.4-1] [MQTT-1.5.4-2]."""
    if 0 in text:
        raise malformed("a string holds U+0000")
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError as error:
        raise malformed("a string is not UTF-8") from error


write_byte = struct.Struct(">B").pack
write_two_bytes = struct.Struct(">H").pack
write_four_bytes = struct.Struct(">I").pack


def write_variable(value: int) -> bytes:
    """Return a variable byte integer.

    Raises:
        ValueError: beyond 268,435,455.
    """
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value > LARGEST_VARIABLE:
        raise ValueError(f"too large for a variable byte integer: {value}")
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def write_binary(value: bytes) -> bytes:
    """Return binary data with its length before it.

    Raises:
        ValueError: longer than 65,535 bytes.
    """
    if len(value) > LONGEST_STRING:
        raise ValueError(f"too long for MQTT: {len(value)} bytes")
    return len(value).to_bytes(2, "big") + value


def write_string(value: str) -> bytes:
    """Return a UTF-8 encoded string.

    Raises:
        ValueError: longer than 65,535 bytes, or with a surrogate or U+0000.
    """
    if "\0" in value:
        raise ValueError("a string of MQTT can't hold U+0000")
    return write_binary(value.encode())


def write_pair(value: tuple[str, str]) -> bytes:
    """Return a UTF-8 string pair."""
    return write_string(value[0]) + write_string(value[1])
