"""The bare way from a broker to the database: one MQTT 5 session by the `mqtt5` codec.

Acknowledges after the commit, in order. No registry, no access checks, no validation beyond
decoding, no deduplication. Whoever asks its port is told the rows committed, as the server's
metrics tell them.
"""

import argparse
import asyncio
import sys
import time
from typing import Any

import mqtt5
import uvloop

from bench.bare_listener import decode
from bench.bare_store import INSERTS, open_bare
from bench.bare_writer import BareWriter

TOPIC = mqtt5.TopicFilter(
    "measurements/+",
    max_qos=mqtt5.QoS.AT_LEAST_ONCE,
    retain_as_published=False,
    retain_handling=mqtt5.RetainHandling.SEND_NEVER,
)
CONNECT_TIMEOUT = 10.0
ROWS = "heliograph_ingest_rows_total"


class Session(asyncio.Protocol):
    def __init__(self, writer: BareWriter) -> None:
        self.writer, self.rest = writer, b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        packet = mqtt5.ConnectPacket("bare", clean_start=True, receive_max=65_535)
        transport.write(packet.write())

    def data_received(self, data: bytes) -> None:
        buffer = self.rest + data if self.rest else data
        view, at, end, now = memoryview(buffer), 0, len(buffer), time.time()
        writer, rows, due = self.writer, self.writer.rows, self.writer.due
        while at < end:
            try:
                packet, size = mqtt5.read(view[at:])
            except IndexError:  # the packet's end has not arrived yet
                break
            at += size
            if type(packet) is mqtt5.PublishPacket:
                sensor = int(packet.topic[-12:])
                for item in decode(packet.payload).measurements:
                    writer.number += 1
                    stamp, receipt = int(item.timestamp * 1e6), int(now * 1e6)
                    text = bytes(item.value).decode()
                    rows.append((sensor, stamp, writer.number, receipt, item.revision, text))
                if packet.packet_id:
                    due.append(packet.packet_id)
            elif type(packet) is mqtt5.ConnAckPacket:
                self.transport.write(mqtt5.SubscribePacket(1, [TOPIC]).write())
            elif type(packet) is mqtt5.SubAckPacket:
                self.ready.set_result(None)
        self.rest = buffer[at:]
        if rows:
            writer.wake()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--broker", type=int, required=True, help="the broker's port")
    parser.add_argument("--insert", choices=INSERTS, default="json")
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)
    writer = BareWriter(await open_bare(options.url, options.insert))
    async with asyncio.timeout(CONNECT_TIMEOUT):
        transport, session = await asyncio.get_running_loop().create_connection(
            lambda: Session(writer), "127.0.0.1", options.broker
        )
        await session.ready

    def acknowledge(due: list[int]) -> None:
        transport.write(b"".join([mqtt5.PubAckPacket(number).write() for number in due]))

    async def tell(reader: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"%b %d\n" % (ROWS.encode(), writer.committed)
        answer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        answer.close()

    async with await asyncio.start_server(tell, "127.0.0.1", options.port):
        await writer.run(acknowledge)


if __name__ == "__main__":
    uvloop.run(main())
