"""A minimal MQTT client of our own for tests: it sends exactly the bytes it is told to."""

import asyncio
import contextlib
import socket
import struct
from typing import NamedTuple, Self

import mqtt5


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack(">H", len(data)) + data


def variable(number: int) -> bytes:
    out = bytearray()
    while True:
        number, byte = divmod(number, 128)
        out.append(byte | (128 if number else 0))
        if not number:
            return bytes(out)


def packet(first: int, body: bytes = b"") -> bytes:
    return bytes([first]) + variable(len(body)) + body


def connect(
    client_id: str = "test",
    username: str | None = None,
    password: str | bytes | None = None,
    *,
    version: int = 4,
    clean: bool = True,
    keepalive: int = 60,
    will: tuple[str, bytes, int, bool] | None = None,
    properties: bytes = b"",
    will_properties: bytes = b"",
) -> bytes:
    flags = clean << 1
    body = string(client_id)
    if will is not None:
        topic, payload, qos, retain = will
        flags |= 0x04 | qos << 3 | retain << 5
        if version == 5:
            body += variable(len(will_properties)) + will_properties
        body += string(topic) + string(payload)
    if username is not None:
        flags |= 0x80
        body += string(username)
    if password is not None:
        flags |= 0x40
        body += string(password)
    head = string("MQTT") + bytes([version, flags]) + struct.pack(">H", keepalive)
    if version == 5:
        head += variable(len(properties)) + properties
    return packet(0x10, head + body)


def publish(
    topic: str | bytes,
    payload: bytes,
    *,
    qos: int = 1,
    packet_id: int = 1,
    dup: bool = False,
    retain: bool = False,
    version: int = 4,
    properties: bytes = b"",
) -> bytes:
    body = string(topic)
    if qos:
        body += struct.pack(">H", packet_id)
    if version == 5:
        body += variable(len(properties)) + properties
    return packet(0x30 | dup << 3 | qos << 1 | retain, body + payload)


def subscribe(topic_filter: str, *, qos: int = 1, packet_id: int = 1, version: int = 4) -> bytes:
    head = struct.pack(">H", packet_id) + (b"\0" if version == 5 else b"")
    return packet(0x82, head + string(topic_filter) + bytes([qos]))


class Client:
    """A connection on which whole packets are read and raw bytes are written."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int = 4
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.version = version

    @classmethod
    async def open(cls, port: int, version: int = 4, host: str = "127.0.0.1") -> Self:
        reader, writer = await asyncio.open_connection(host, port)
        return cls(reader, writer, version)

    @classmethod
    async def narrow(cls, port: int, version: int = 4) -> Self:
        """Connect so that the kernel holds a few KiB, instead of megabytes, for who reads not."""
        taking = socket.socket()
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        taking.setblocking(False)
        await asyncio.get_running_loop().sock_connect(taking, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=taking)
        return cls(reader, writer, version)

    @classmethod
    async def connected(cls, port: int, *args: object, version: int = 4, **options: object) -> Self:
        """Connect, log in, and check that the server agrees."""
        client = await cls.open(port, version)
        client.send(connect(*args, version=version, **options))  # type: ignore[arg-type]  # handed on
        answer = await client.packet()
        assert answer[0] == 0x20, answer
        assert answer[2] == 0, f"refused with {answer[2]:#x}"
        client.session_present = bool(answer[1])
        return client

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def packet(self, seconds: float = 60) -> bytes:
        """Return the next packet: its first byte, then its body; b"" at the connection's end."""
        try:
            async with asyncio.timeout(seconds):
                first = await self.reader.readexactly(1)
                size = shift = 0
                while True:
                    byte = (await self.reader.readexactly(1))[0]
                    size |= (byte & 127) << shift
                    shift += 7
                    if not byte & 128:
                        break
                return first + await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.writer.close()
            return b""

    async def parsed(self, seconds: float = 60) -> object:
        """Return the next packet of MQTT 5 as the mqtt5 package understands it."""
        raw = await self.packet(seconds)
        return mqtt5.read(packet(raw[0], raw[1:]))[0] if raw else None

    async def quiet(self, seconds: float = 0.3) -> None:
        """Check that the server says nothing more: it answers a PINGREQ with nothing before."""
        self.send(b"\xc0\x00")
        answer = await self.packet(seconds * 30)
        assert answer == b"\xd0", answer

    async def close(self) -> None:
        """Go without a word."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def abort(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()
        await asyncio.sleep(0)


class Published(NamedTuple):
    """A PUBLISH that the server has sent."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int


def published(raw: bytes, version: int = 4) -> Published:
    """Return what a PUBLISH says."""
    assert raw, "the connection has ended"
    assert raw[0] >> 4 == 3, f"not a PUBLISH: {raw!r}"
    qos = raw[0] >> 1 & 3
    at = 3 + (raw[1] << 8 | raw[2])
    topic, packet_id = raw[3:at].decode(), 0
    if qos:
        packet_id = raw[at] << 8 | raw[at + 1]
        at += 2
    if version == 5:
        at += 1 + raw[at]
    return Published(topic, raw[at:], qos, bool(raw[0] & 1), bool(raw[0] & 8), packet_id)


def subscriptions(
    *filters: tuple[str, int], packet_id: int = 1, version: int = 4, properties: bytes = b""
) -> bytes:
    """Return a SUBSCRIBE of several filters, each with its options."""
    head = struct.pack(">H", packet_id)
    if version == 5:
        head += variable(len(properties)) + properties
    return packet(0x82, head + b"".join(string(name) + bytes([o]) for name, o in filters))


def unsubscribe(*filters: str, packet_id: int = 1, version: int = 4) -> bytes:
    head = struct.pack(">H", packet_id) + (b"\0" if version == 5 else b"")
    return packet(0xA2, head + b"".join(string(name) for name in filters))


def numbered(first: int, packet_id: int, rest: bytes = b"") -> bytes:
    """Return a PUBACK, PUBREC, PUBREL or PUBCOMP, by its first byte."""
    return packet(first, struct.pack(">H", packet_id) + rest)


def disconnect(reason: int | None = None, properties: bytes = b"") -> bytes:
    if reason is None:
        return b"\xe0\x00"
    return packet(0xE0, bytes([reason]) + variable(len(properties)) + properties)


PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70
PINGREQ = b"\xc0\x00"


def session_expiry(seconds: int) -> bytes:
    """Return the property."""
    return b"\x11" + struct.pack(">I", seconds)


def kept(version: int, seconds: int = 3_600) -> dict[str, object]:
    """Return the options of a CONNECT whose session outlives its connection."""
    if version == 4:
        return {"clean": False}
    return {"clean": False, "properties": session_expiry(seconds)}
