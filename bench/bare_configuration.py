"""The bare way from a request to the devices and back: one MQTT 5 session by the `mqtt5` codec.

A POST adds a row for each device in one commit, is answered, and then each device's retained
QoS 1 message goes out. Each heartbeat that comes back updates its row, whatever has come in
whenever the writer is idle in one commit, and is acknowledged after that. No registry, no access
checks, no outbox, no record of what was published, no heartbeats kept.
"""

import argparse
import asyncio
import concurrent.futures
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

import asyncpg
import mqtt5
import msgspec
import uvloop

from bench.bare_link import CONNECT_TIMEOUT
from bench.bare_store import WRITE_TIMEOUT, Row, sqlite_connection
from bench.bare_writer import BareWriter
from bench.packets import identifier

SCHEMA = (
    "CREATE TABLE configuration (sensor int8, revision int8, configuration text, created_at int8,"
    " timestamp int8, receipt int8, success boolean, answers int8 NOT NULL DEFAULT 0,"
    " PRIMARY KEY (sensor, revision))"
)
PACKET_IDS = 65_000
TOPIC = mqtt5.TopicFilter(
    "heartbeats/+",
    max_qos=mqtt5.QoS.AT_LEAST_ONCE,
    retain_as_published=False,
    retain_handling=mqtt5.RetainHandling.SEND_NEVER,
)


class Heartbeat(msgspec.Struct):
    revision: int
    timestamp: float
    success: bool


class Heartbeats(msgspec.Struct):
    heartbeats: list[Heartbeat]


class Requested(msgspec.Struct):
    configuration: msgspec.Raw


decode = msgspec.json.Decoder(Heartbeats).decode
decode_request = msgspec.json.Decoder(Requested).decode
encode = msgspec.json.Encoder().encode


class Store(Protocol):
    """`add` takes (sensor, revision, configuration, created_at); `write` rows of heartbeats.

    Those are (sensor, revision, timestamp, receipt, success).
    """

    async def add(self, rows: Sequence[Row]) -> None: ...

    async def write(self, rows: list[Row]) -> None: ...

    async def close(self) -> None: ...


class Sqlite:
    """One statement a commit, in a thread."""

    def __init__(self, path: str) -> None:
        self._database = sqlite_connection(path)
        self._database.execute(SCHEMA)
        self._thread = concurrent.futures.ThreadPoolExecutor(1)

    async def _run(self, statement: str, rows: Sequence[Row]) -> None:
        await asyncio.get_running_loop().run_in_executor(
            self._thread, self._database.execute, statement, (encode(rows).decode(),)
        )

    async def add(self, rows: Sequence[Row]) -> None:
        await self._run(
            "INSERT INTO configuration (sensor, revision, configuration, created_at)"
            " SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?)",
            rows,
        )

    async def write(self, rows: list[Row]) -> None:
        await self._run(
            "UPDATE configuration SET timestamp = said.value->>2, receipt = said.value->>3,"
            " success = said.value->>4, answers = answers + 1 FROM json_each(?) AS said"
            " WHERE sensor = said.value->>0 AND revision = said.value->>1",
            rows,
        )

    async def close(self) -> None:
        self._thread.shutdown()
        self._database.close()


class Postgresql:
    """One `COPY` or one `UPDATE` a commit."""

    def __init__(self, adding: asyncpg.Connection, updating: asyncpg.Connection) -> None:
        self._adding, self._updating = adding, updating

    @classmethod
    async def opened(cls, url: str) -> "Postgresql":
        adding, updating = [await asyncpg.connect(url, timeout=10) for _ in range(2)]
        await adding.execute(SCHEMA, timeout=WRITE_TIMEOUT)
        return cls(adding, updating)

    async def add(self, rows: Sequence[Row]) -> None:
        await self._adding.copy_records_to_table(
            "configuration",
            records=rows,
            columns=("sensor", "revision", "configuration", "created_at"),
            timeout=WRITE_TIMEOUT,
        )

    async def write(self, rows: list[Row]) -> None:
        await self._updating.execute(
            "UPDATE configuration SET timestamp = said.timestamp, receipt = said.receipt,"
            " success = said.success, answers = answers + 1"
            " FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[], $5::boolean[])"
            " AS said (sensor, revision, timestamp, receipt, success)"
            " WHERE configuration.sensor = said.sensor AND configuration.revision = said.revision",
            *map(list, zip(*rows, strict=True)),
            timeout=WRITE_TIMEOUT,
        )

    async def close(self) -> None:
        await self._adding.close()
        await self._updating.close()


class Session(asyncio.Protocol):
    """The session with the broker."""

    def __init__(self, writer: BareWriter) -> None:
        self.writer, self.rest, self.last_id = writer, b"", 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        packet = mqtt5.ConnectPacket("bare", clean_start=True, receive_max=65_535)
        transport.write(packet.write())

    def publish(self, sensor: int, payload: bytes) -> None:
        self.last_id = self.last_id % PACKET_IDS + 1
        self.transport.write(
            mqtt5.PublishPacket(
                f"configurations/{identifier(sensor)}",
                payload,
                qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain=True,
                packet_id=self.last_id,
            ).write()
        )

    def acknowledge(self, due: list[int]) -> None:
        self.transport.write(b"".join([mqtt5.PubAckPacket(number).write() for number in due]))

    def data_received(self, data: bytes) -> None:
        buffer = self.rest + data if self.rest else data
        view, at, end, receipt = memoryview(buffer), 0, len(buffer), int(time.time() * 1e6)
        rows, due = self.writer.rows, self.writer.due
        while at < end:
            try:
                packet, size = mqtt5.read(view[at:])
            except IndexError:  # the packet's end has not arrived yet
                break
            at += size
            if type(packet) is mqtt5.PublishPacket:
                sensor = int(packet.topic[-12:])
                rows.extend(
                    (sensor, item.revision, int(item.timestamp * 1e6), receipt, item.success)
                    for item in decode(packet.payload).heartbeats
                )
                due.append(packet.packet_id)
            elif type(packet) is mqtt5.ConnAckPacket:
                self.transport.write(mqtt5.SubscribePacket(1, [TOPIC]).write())
            elif type(packet) is mqtt5.SubAckPacket:
                self.ready.set_result(None)
        self.rest = buffer[at:]
        if rows:
            self.writer.wake()


class Requests:
    """Answers the two requests: one for all devices, and one for one of them."""

    def __init__(self, store: Store, session: Session, sensors: int) -> None:
        self._store, self._session = store, session
        self._revisions = dict.fromkeys(range(1, sensors + 1), -1)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        while head := await reader.readuntil(b"\r\n\r\n"):
            size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            text = bytes(decode_request(await reader.readexactly(size)).configuration).decode()
            path = head.split(b" ", 2)[1].decode()
            one = path.startswith("/sensors/")
            chosen = [int(path.split("/")[2][-12:])] if one else list(self._revisions)
            rows, created_at = [], int(time.time() * 1e6)
            for sensor in chosen:
                self._revisions[sensor] += 1
                rows.append((sensor, self._revisions[sensor], text, created_at))
            await self._store.add(rows)
            told = [{"sensor": row[0], "revision": row[1]} for row in rows]
            body = encode(told[0] if one else told)
            writer.write(
                b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            for sensor, revision, configuration, _ in rows:
                self._session.publish(
                    sensor,
                    b'{"revision":%d,"configuration":%b}' % (revision, configuration.encode()),
                )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--broker", type=int, required=True, help="the broker's port")
    parser.add_argument("--sensors", type=int, required=True)
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)
    store: Store
    if options.url.startswith("postgresql://"):
        store = await Postgresql.opened(options.url)
    else:
        store = Sqlite(options.url)
    writer = BareWriter(store)
    async with asyncio.timeout(CONNECT_TIMEOUT):
        _, session = await asyncio.get_running_loop().create_connection(
            lambda: Session(writer), "127.0.0.1", options.broker
        )
        await session.ready
    requests = Requests(store, session, options.sensors)
    async with await asyncio.start_server(requests.answer, "127.0.0.1", options.port):
        await writer.run(session.acknowledge)


if __name__ == "__main__":
    uvloop.run(main())
