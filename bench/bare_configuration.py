"""The bare way from a request to the devices and back, through the bare link's session.

A POST adds a row for each device in one commit, is answered, and then each device's retained
QoS 1 message goes out. Each heartbeat that comes back updates its row, whatever has come in
whenever the writer is idle in one commit, and is acknowledged after that. No registry, no access
checks, no outbox, no record of what was published, no heartbeats kept.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

import asyncpg
import mqtt5
import msgspec
import uvloop

from bench import bare_link, bare_store
from bench.bare_store import WRITE_TIMEOUT, BareStore, BareWriter, Row, encode, options
from bench.packets import identifier

SCHEMA = (
    "CREATE TABLE configuration (sensor int8, revision int8, configuration text, created_at int8,"
    " timestamp int8, receipt int8, success boolean, answers int8 NOT NULL DEFAULT 0,"
    " PRIMARY KEY (sensor, revision))"
)
PACKET_IDS = 65_000


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


class Revisions(BareStore, Protocol):
    """Writes rows of heartbeats (sensor, revision, timestamp, receipt, success).

    `add` takes rows of revisions (sensor, revision, configuration, created_at).
    """

    async def add(self, rows: Sequence[Row]) -> None: ...


class Sqlite(bare_store.Sqlite):
    """One statement a commit, in a thread."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.database.execute(SCHEMA)

    async def add(self, rows: Sequence[Row]) -> None:
        await self.execute(
            "INSERT INTO configuration (sensor, revision, configuration, created_at)"
            " SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?)",
            rows,
        )

    async def write(self, rows: list[Row]) -> None:
        await self.execute(
            "UPDATE configuration SET timestamp = said.value->>2, receipt = said.value->>3,"
            " success = said.value->>4, answers = answers + 1 FROM json_each(?) AS said"
            " WHERE sensor = said.value->>0 AND revision = said.value->>1",
            rows,
        )


class Postgresql(bare_store.Postgresql):
    """One `COPY` or one `UPDATE` a commit, on a connection each."""

    def __init__(self, adding: asyncpg.Connection, updating: asyncpg.Connection) -> None:
        super().__init__(updating)
        self._adding = adding

    async def add(self, rows: Sequence[Row]) -> None:
        await self._adding.copy_records_to_table(
            "configuration",
            records=rows,
            columns=("sensor", "revision", "configuration", "created_at"),
            timeout=WRITE_TIMEOUT,
        )

    async def write(self, rows: list[Row]) -> None:
        await self.connection.execute(
            "UPDATE configuration SET timestamp = said.timestamp, receipt = said.receipt,"
            " success = said.success, answers = answers + 1"
            " FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[], $5::boolean[])"
            " AS said (sensor, revision, timestamp, receipt, success)"
            " WHERE configuration.sensor = said.sensor AND configuration.revision = said.revision",
            *map(list, zip(*rows, strict=True)),
            timeout=WRITE_TIMEOUT,
        )


async def opened(url: str) -> Revisions:
    """Return the store for a PostgreSQL URL or the path of a SQLite file."""
    if not url.startswith("postgresql://"):
        return Sqlite(url)
    adding, updating = [await asyncpg.connect(url, timeout=10) for _ in range(2)]
    await adding.execute(SCHEMA, timeout=WRITE_TIMEOUT)
    return Postgresql(adding, updating)


class Session(bare_link.Session):
    """Takes heartbeats, and publishes revisions."""

    topic = "heartbeats/+"

    def take(self, sensor: int, payload: bytes, receipt: int) -> None:
        self.writer.rows.extend(
            (sensor, item.revision, int(item.timestamp * 1e6), receipt, item.success)
            for item in decode(payload).heartbeats
        )

    def publish(self, sensor: int, payload: bytes) -> None:
        self.writer.number = self.writer.number % PACKET_IDS + 1
        self.transport.write(
            mqtt5.PublishPacket(
                f"configurations/{identifier(sensor)}",
                payload,
                qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain=True,
                packet_id=self.writer.number,
            ).write()
        )


class Requests:
    """Answers the two requests: one for all devices, and one for one of them."""

    def __init__(self, store: Revisions, session: Session, sensors: int) -> None:
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
    given = options("broker", "sensors")
    store = await opened(given.url)
    writer = BareWriter(store)
    session = await Session.opened(writer, given.broker)
    requests = Requests(store, session, given.sensors)
    async with await asyncio.start_server(requests.answer, "127.0.0.1", given.port):
        await writer.run(session.acknowledge)


if __name__ == "__main__":
    uvloop.run(main())
