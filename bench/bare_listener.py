"""The bare way from a device to the database: an MQTT listener without a broker.

Takes QoS 1 measurements of MQTT 3.1.1 and acknowledges them after their commit. No registry,
no access checks, no validation beyond decoding, no deduplication. Whoever subscribes gets
every message after its commit.
"""

import asyncio
import time
from typing import Any

import msgspec
import uvloop

from bench.bare_store import BareWriter, open_bare, options
from bench.starting_line import raise_open_files

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 12, 14


class Measurement(msgspec.Struct):
    timestamp: float
    value: msgspec.Raw
    revision: int | None = None


class Payload(msgspec.Struct):
    measurements: list[Measurement]


decode = msgspec.json.Decoder(Payload).decode


def packet(buffer: bytes, at: int, end: int) -> tuple[int, int] | None:
    """Return where the body of the packet at `at` starts and stops; None: not all there."""
    size, shift, position = 0, 0, at + 1
    while position < end:
        byte = buffer[position]
        size |= (byte & 127) << shift
        position += 1
        if not byte & 128:
            return (position, position + size) if position + size <= end else None
        shift += 7
    return None


class Connection(asyncio.Protocol):
    def __init__(self, writer: BareWriter, viewers: list["Connection"]) -> None:
        self.writer, self.viewers, self.rest = writer, viewers, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self in self.viewers:
            self.viewers.remove(self)

    def data_received(self, data: bytes) -> None:
        buffer = self.rest + data if self.rest else data
        at, end, now = 0, len(buffer), time.time()
        while (body := packet(buffer, at, end)) is not None:
            start, stop = body
            kind = buffer[at] >> 4
            if kind == PUBLISH:
                self.publish(buffer, at, start, stop, now)
            elif kind == CONNECT:
                self.transport.write(b"\x20\x02\x00\x00")
            elif kind == SUBSCRIBE:
                self.viewers.append(self)
                self.transport.write(b"\x90\x03" + buffer[start : start + 2] + b"\x00")
            elif kind == PINGREQ:
                self.transport.write(b"\xd0\x00")
            elif kind == DISCONNECT:
                self.transport.close()
            at = stop
        self.rest = buffer[at:]
        if self.writer.rows:
            self.writer.wake()

    def publish(self, buffer: bytes, at: int, start: int, stop: int, now: float) -> None:
        writer = self.writer
        position = start + 2 + int.from_bytes(buffer[start : start + 2], "big")
        sensor = int(buffer[position - 12 : position])
        packet_id = buffer[position : position + 2]
        for item in decode(buffer[position + 2 : stop]).measurements:
            writer.number += 1
            stamp, receipt = int(item.timestamp * 1e6), int(now * 1e6)
            text = bytes(item.value).decode()
            writer.rows.append((sensor, stamp, writer.number, receipt, item.revision, text))
        seen = buffer[at:stop] if self.viewers else b""
        writer.due.append((self, packet_id, seen))


def acknowledge(due: list[tuple[Connection, bytes, bytes]]) -> None:
    """Write each connection's PUBACKs at once, and each viewer's messages."""
    answers: dict[Connection, bytearray] = {}
    for connection, packet_id, seen in due:
        answers.setdefault(connection, bytearray()).extend(b"\x40\x02" + packet_id)
        if seen:
            for viewer in connection.viewers:
                viewer.transport.write(seen)
    for connection, answer in answers.items():
        connection.transport.write(bytes(answer))


async def main() -> None:
    given = options()
    raise_open_files(12_000)
    writer = BareWriter(await open_bare(given.url))
    viewers: list[Connection] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(writer, viewers), "127.0.0.1", given.port, backlog=1_024
    )
    async with server:
        await writer.run(acknowledge)


if __name__ == "__main__":
    uvloop.run(main())
