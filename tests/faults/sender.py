"""A device that does not give up: what is not acknowledged, it sends again until it is."""

import asyncio
import dataclasses
import random
from typing import TYPE_CHECKING

from mqtt_client import connect, publish

if TYPE_CHECKING:
    from collections.abc import Callable

RECONNECT_SECONDS = 0.03
ANSWER_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Publication:
    """A message to send, and the canonical text under which its value is stored."""

    topic: str
    payload: bytes
    value: str


class Sender:
    """An MQTT 3.1.1 client with QoS 1, a window and, unless it is `clean`, a persistent session.

    On a new connection it repeats what was not acknowledged, in order: under the same packet
    id and flagged DUP, or, as some poor clients do, with `renumber` as if it were new. With a
    `pace` it takes so many seconds before it sends more. Who answers nothing for `patience` seconds
    is given up for another connection.
    """

    def __init__(
        self,
        port: int,
        device_id: str,
        key: str,
        publications: list[Publication],
        *,
        window: int = 500,
        renumber: bool = False,
        clean: bool = False,
        pace: float = 0,
        patience: float = ANSWER_SECONDS,
    ) -> None:
        self.device_id = device_id
        self.publications = publications
        self.acknowledged: set[int] = set()
        self.repeated: set[int] = set()
        self.connections = 0
        self.on_progress: Callable[[int], None] = lambda _count: None
        self._port = port
        self._key = key
        self._window = window
        self._renumber = renumber
        self._clean = clean
        self._pace = pace
        self._patience = patience
        self._under_way: dict[int, int] = {}
        self._next = 0
        self._packet_id = random.randrange(1, 60_000)
        self._rest = b""
        self._writer: asyncio.StreamWriter | None = None

    @property
    def done(self) -> bool:
        return len(self.acknowledged) == len(self.publications)

    @property
    def values(self) -> list[str]:
        return [publication.value for publication in self.publications]

    @property
    def acknowledged_values(self) -> list[str]:
        return [self.publications[at].value for at in self.acknowledged]

    async def run(self) -> None:
        """Send until everything is acknowledged."""
        while not self.done:
            try:
                await self.connection()
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(RECONNECT_SECONDS)

    def cut(self) -> None:
        """End the connection here and now: what the server has answered is lost on its way."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def connection(self) -> None:
        """Send on one connection, until everything is acknowledged or it ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer = writer
        try:
            writer.write(connect(self.device_id, self.device_id, self._key, clean=self._clean))
            async with asyncio.timeout(self._patience):
                answer = await reader.readexactly(4)
            if answer[3] == 3:  # the server can't tell yet who we are: later
                raise ConnectionRefusedError
            assert answer[3] == 0, f"refused: {answer!r}"
            self.connections += 1
            self._rest = b""
            writer.write(self._repetitions())
            while not self.done:
                writer.write(self._fresh())
                async with asyncio.timeout(self._patience):
                    data = await reader.read(1 << 16)
                if not data or writer.transport.is_closing():
                    raise ConnectionResetError
                self._take(data)
                if self._pace:
                    await asyncio.sleep(self._pace)
        finally:
            writer.transport.abort()

    def _repetitions(self) -> bytes:
        self.repeated.update(self._under_way.values())
        if not self._renumber:
            return b"".join(
                self._packet(at, packet_id, dup=True) for packet_id, at in self._under_way.items()
            )
        again, self._under_way = list(self._under_way.values()), {}
        return b"".join(self._numbered(at) for at in again)

    def _fresh(self) -> bytes:
        packets = []
        while self._next < len(self.publications) and len(self._under_way) < self._window:
            packets.append(self._numbered(self._next))
            self._next += 1
        return b"".join(packets)

    def _numbered(self, at: int) -> bytes:
        while True:
            self._packet_id = self._packet_id % 65_535 + 1
            if self._packet_id not in self._under_way:
                break
        self._under_way[self._packet_id] = at
        return self._packet(at, self._packet_id)

    def _packet(self, at: int, packet_id: int, *, dup: bool = False) -> bytes:
        publication = self.publications[at]
        return publish(publication.topic, publication.payload, packet_id=packet_id, dup=dup)

    def _take(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) // 4 * 4
        self._rest = data[whole:]
        for at in range(0, whole, 4):
            assert data[at : at + 2] == b"\x40\x02", data[at : at + 4]
            packet_id = data[at + 2] << 8 | data[at + 3]
            assert packet_id in self._under_way, "acknowledged what was not sent here"
            self.acknowledged.add(self._under_way.pop(packet_id))
        self.on_progress(len(self.acknowledged))


def timed(device_id: str, count: int, start: float) -> list[Publication]:
    """Return messages with device timestamps, many of them the same one."""
    return [
        Publication(
            f"measurements/{device_id}",
            b'{"timestamp":%.3f,"value":{"n":%d}}' % (start + n // 10 / 1_000, n),
            f'{{"n":{n}}}',
        )
        for n in range(count)
    ]


def identified(device_id: str, count: int) -> list[Publication]:
    """Return messages without a timestamp whose elements carry an id."""
    return [
        Publication(
            f"measurements/{device_id}",
            b'[{"id":"%d","value":{"n":%d}}]' % (n, n),
            f'{{"n":{n}}}',
        )
        for n in range(count)
    ]


def untimed(device_id: str, count: int) -> list[Publication]:
    """Return messages with neither timestamp nor id."""
    return [
        Publication(f"measurements/{device_id}", b'{"value":{"n":%d}}' % n, f'{{"n":{n}}}')
        for n in range(count)
    ]
