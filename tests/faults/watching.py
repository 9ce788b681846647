"""Clients that watch over all three ways, and count what they are shown."""

import asyncio
import collections
import contextlib
import re
from collections.abc import Iterable

import httpx
import websockets

from faults.process import ADMIN, ADMIN_KEY, ServerProcess
from mqtt_client import (
    PUBACK,
    Client,
    Published,
    numbered,
    published,
    subscribe,
)
from no_tls import NO_TLS

# A server says something each 15 seconds. A client that hears nothing for longer comes again.
SILENT_SECONDS = 20.0
RECONNECT_SECONDS = 0.05
_EVENT_ID = re.compile(rb"^id: ?(\S+)$", re.MULTILINE)
_NAME = re.compile(rb"^event: ?(\S+)$", re.MULTILINE)
_DEVICE = re.compile(rb'"device_id":"([^"]+)"')
_VALUE = re.compile(rb'"n": ?(\d+)')

Shown = tuple[str, int]


class Viewer:
    """What one client was shown: by device and number how often, and of how much it was told that
    it was lost.
    """

    def __init__(self, server: ServerProcess, name: str, listening: int | None = None) -> None:
        """Connect to another port than the one of HTTP."""
        self.server = server
        self.name = name
        self.listening = server.port if listening is None else listening
        self.shown: collections.Counter[Shown] = collections.Counter()
        self.lost: list[str] = []
        self.connections = 0
        # The port of the connection as it is.
        self.port = 0
        self.opened = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Watch from now on."""
        self.task = asyncio.create_task(self.run(), name=type(self).__name__)
        async with asyncio.timeout(60):
            await self.opened.wait()

    async def close(self) -> None:
        """Watch no more."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def run(self) -> None:
        """Watch until the connection ends."""
        raise NotImplementedError

    @property
    def described(self) -> str:
        """What a failure says of it."""
        return f"{type(self).__name__}, {self.connections} connections, lost: {self.lost[:3]}"

    def twice(self) -> list[Shown]:
        """Return what was shown more than once."""
        return [each for each, count in self.shown.items() if count > 1]

    def missing(self, expected: Iterable[Shown]) -> list[Shown]:
        """Return what was not shown."""
        return [each for each in expected if each not in self.shown]


class StreamViewer(Viewer):
    """A stream that comes again with `Last-Event-ID`, as a browser does."""

    def __init__(self, server: ServerProcess, name: str) -> None:
        super().__init__(server, name)
        self.last = ""

    async def run(self) -> None:
        """Watch for ever."""
        silent = httpx.Timeout(30, read=SILENT_SECONDS)
        while True:
            headers = ADMIN | ({"Last-Event-ID": self.last} if self.last else {})
            try:
                async with (
                    httpx.AsyncClient(
                        base_url=self.server.url, timeout=silent, verify=NO_TLS
                    ) as client,
                    client.stream("GET", "/events?kind=measurement", headers=headers) as response,
                ):
                    if response.status_code == 200:
                        stream = response.extensions["network_stream"]
                        self.port = stream.get_extra_info("client_addr")[1]
                        self.connections += 1
                        self.opened.set()
                        await self._read(response)
            except httpx.TransportError:
                pass
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _read(self, response: httpx.Response) -> None:
        rest = b""
        async for data in response.aiter_raw():
            *events, rest = (rest + data).split(b"\n\n")
            for event in events:
                self._take(event)

    def _take(self, event: bytes) -> None:
        name = _NAME.search(event)
        if name is None:
            return  # a sign of life
        if name[1] != b"measurement":
            self.lost.append(event.decode())
            return
        device, number = _DEVICE.search(event), _VALUE.search(event)
        row_id = _EVENT_ID.search(event)
        assert device is not None, event
        assert number is not None, event
        assert row_id is not None, event
        self.shown[device[1].decode(), int(number[1])] += 1
        self.last = row_id[1].decode()


class SocketViewer(Viewer):
    """A WebSocket, which has no way to resume."""

    async def run(self) -> None:
        """Watch until the connection ends."""
        url = f"{self.server.url.replace('http', 'ws')}/realtime/all"
        try:
            async with websockets.connect(
                url, additional_headers=ADMIN, compression=None, ping_interval=None
            ) as socket:
                self.port = socket.local_address[1]
                async for message in socket:
                    data = message if isinstance(message, bytes) else message.encode()
                    if data == b'{"type":"ack"}':
                        self.connections += 1
                        self.opened.set()
                        continue
                    device, number = _DEVICE.search(data), _VALUE.search(data)
                    if device and number:
                        self.shown[device[1].decode(), int(number[1])] += 1
                    else:
                        self.lost.append(data.decode())
        except (OSError, websockets.ConnectionClosed):
            return


class Subscriber(Viewer):
    """An administrator's subscription, without a session that outlives its connection."""

    filter = "measurements/#"
    qos = 0

    def __init__(self, server: ServerProcess, name: str, port: int | None = None) -> None:
        super().__init__(server, name, port or server.mqtt_port)

    async def run(self) -> None:
        """Watch until the connection ends."""
        client = await Client.connected(self.listening, self.name, "admin", ADMIN_KEY, keepalive=0)
        self.port = client.writer.get_extra_info("sockname")[1]
        client.send(subscribe(self.filter, qos=self.qos))
        assert (await client.packet())[0] == 0x90
        self.connections += 1
        self.opened.set()
        while raw := await client.packet(600):
            self.see(published(raw))

    def see(self, message: Published) -> None:
        """Count a message."""
        self.take(message.topic, message.payload)

    def take(self, topic: str, payload: bytes) -> None:
        """Count what a message shows."""
        device = topic.partition("/")[2]
        numbers = _VALUE.findall(payload)
        assert numbers, payload
        for number in numbers:
            self.shown[device, int(number)] += 1


class SubscriptionViewer(Subscriber):
    """A subscription at QoS 1 of a session that goes on, to whichever server its client comes.

    What was sent in the last second before a kill may come twice.
    """

    qos = 1

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            with contextlib.suppress(OSError, AssertionError):
                await self._watch()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _watch(self) -> None:
        # Without time-outs: it waits for a server that stands still.
        client = await self._connected(clean=False)
        try:
            self.port = client.writer.get_extra_info("sockname")[1]
            if not client.session_present:
                if self.connections:
                    self.lost.append("the session")
                client.send(subscribe(self.filter, qos=1))
                assert (await client.packet())[0] == 0x90
            self.connections += 1
            self.opened.set()
            while raw := await client.packet(600):
                message = published(raw)
                self.see(message)
                client.send(numbered(PUBACK, message.packet_id))
        finally:
            client.writer.transport.abort()

    async def close(self) -> None:
        """Watch no more, and end the session."""
        await super().close()
        client = await self._connected(clean=True)
        await client.close()

    async def _connected(self, *, clean: bool) -> Client:
        options = {"keepalive": 0, "clean": clean}
        return await Client.connected(self.listening, self.name, "admin", ADMIN_KEY, **options)


class ConfigurationViewer(Subscriber):
    """A subscription to configurations: the revisions in the order in which they came."""

    filter = "configurations/configured"

    def __init__(self, server: ServerProcess, name: str, port: int | None = None) -> None:
        super().__init__(server, name, port)
        self.revisions: list[int] = []

    def take(self, topic: str, payload: bytes) -> None:
        """Note a revision."""
        found = re.match(rb'\{"revision":(\d+)', payload)
        assert found, (topic, payload)
        self.revisions.append(int(found[1]))
