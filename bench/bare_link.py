"""The bare way from a broker to the database: one MQTT 5 session by the `mqtt5` codec.

Acknowledges after the commit, in order. No registry, no access checks, no validation beyond
decoding, no deduplication. Whoever asks its port is told the rows committed, as the server's
metrics tell them.
"""

import asyncio
import time
from typing import Any, Self

import mqtt5
import uvloop

from bench.bare_listener import decode
from bench.bare_store import BareWriter, open_bare, options

CONNECT_TIMEOUT = 10.0
ROWS = "heliograph_ingest_rows_total"


class Session(asyncio.Protocol):
    """The session with the broker: takes what comes under one of the topics."""

    topic = "measurements/+"

    def __init__(self, writer: BareWriter) -> None:
        self.writer, self.rest = writer, b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def opened(cls, writer: BareWriter, port: int) -> Self:
        """Return a session that is subscribed."""
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, session = await asyncio.get_running_loop().create_connection(
                lambda: cls(writer), "127.0.0.1", port
            )
            await session.ready
        return session

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        packet = mqtt5.ConnectPacket("bare", clean_start=True, receive_max=65_535)
        transport.write(packet.write())

    def data_received(self, data: bytes) -> None:
        buffer = self.rest + data if self.rest else data
        view, at, end, receipt = memoryview(buffer), 0, len(buffer), int(time.time() * 1e6)
        writer = self.writer
        while at < end:
            try:
                packet, size = mqtt5.read(view[at:])
            except IndexError:  # the packet's end has not arrived yet
                break
            at += size
            if type(packet) is mqtt5.PublishPacket:
                self.take(int(packet.topic[-12:]), packet.payload, receipt)
                if packet.packet_id:
                    writer.due.append(packet.packet_id)
            elif type(packet) is mqtt5.ConnAckPacket:
                wanted = mqtt5.TopicFilter(
                    self.topic,
                    max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                    retain_as_published=False,
                    retain_handling=mqtt5.RetainHandling.SEND_NEVER,
                )
                self.transport.write(mqtt5.SubscribePacket(1, [wanted]).write())
            elif type(packet) is mqtt5.SubAckPacket:
                self.ready.set_result(None)
        self.rest = buffer[at:]
        if writer.rows:
            writer.wake()

    def take(self, sensor: int, payload: bytes, receipt: int) -> None:
        """Have the rows of a message written."""
        writer = self.writer
        for item in decode(payload).measurements:
            writer.number += 1
            stamp, text = int(item.timestamp * 1e6), bytes(item.value).decode()
            writer.rows.append((sensor, stamp, writer.number, receipt, item.revision, text))

    def acknowledge(self, due: list[int]) -> None:
        self.transport.write(b"".join([mqtt5.PubAckPacket(number).write() for number in due]))


async def main() -> None:
    given = options("broker")
    writer = BareWriter(await open_bare(given.url))
    session = await Session.opened(writer, given.broker)

    async def tell(reader: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"%b %d\n" % (ROWS.encode(), writer.committed)
        answer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        answer.close()

    async with await asyncio.start_server(tell, "127.0.0.1", given.port):
        await writer.run(session.acknowledge)


if __name__ == "__main__":
    uvloop.run(main())
