"""The MQTT endpoint for devices: accepts connections, ends them, and shows what is committed.

It is an endpoint for telemetry, not a broker: only the project's own topics exist, nothing is
acknowledged before its commit, and nothing retained lives in memory only.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final

from heliograph.mqtt.codec import packets
from heliograph.mqtt.codec.reasons import MQTT_5, Reason
from heliograph.mqtt.connection import MAXIMUM_CONNECT_BYTES, Clients, Connection, ListenerLimits
from heliograph.mqtt.host import NO_SENSOR, Host, TopicMessage
from heliograph.mqtt.keeping import Keeper, Others, Shelf
from heliograph.mqtt.reading import CLOSING, FULL, UNTAKEN, RoutesOfAll
from heliograph.mqtt.topics import TopicKind

SWEEP_SECONDS = 1.0
DRAIN_SECONDS = 10.0
# At the end clients get this long to take their last acknowledgments and go.
LINGER_SECONDS = 1.0
# A client that takes nothing of what it is sent for so long is taken for gone.
CONGESTED_SECONDS = 60.0
# A walk over all connections; many devices that register themselves must not cause one each.
RECHECK_SECONDS = 0.1

# Of a client that is not known yet: a CONNECT, with its first byte and its length.
_HELD: Final = MAXIMUM_CONNECT_BYTES + 5
# One for all: what is read is copied out of it at once.
_READ: Final = memoryview(bytearray(_HELD))


class Listener(Clients):
    """Serves MQTT 3.1.1 and 5 over TCP and TLS."""

    def __init__(self, host: Host, limits: ListenerLimits) -> None:
        super().__init__(host, limits)
        self._servers: list[asyncio.Server] = []
        self._recheck_timer: asyncio.TimerHandle | None = None
        self._recheck_again = False
        # Told what is published here, for subscribers elsewhere: topic, payload, network.
        self.published: Callable[[str, bytes, str | None], None] | None = None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses that accept connections now."""
        return [bound.getsockname()[:2] for each in self._servers for bound in each.sockets or ()]

    @property
    def connections(self) -> int:
        """The number of connections that are open."""
        return len(self._connections)

    async def listen(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        *,
        bound: socket.socket | None = None,
        shared: bool = False,
    ) -> None:
        """Accept connections on this address; where it is `bound` already, by this socket.

        `shared`: other processes of the same user may listen there too.

        Raises:
            OSError: the address can't be bound.
        """
        where: dict[str, Any] = {"host": host or None, "port": port, "reuse_address": True}
        where["reuse_port"] = shared
        server = await self.loop.create_server(
            lambda: Greeting(Connection(self)),
            **(where if bound is None else {"sock": bound}),
            ssl=tls,
            ssl_handshake_timeout=self.limits.connect_seconds if tls is not None else None,
            backlog=4_096,
        )
        self._servers.append(server)

    async def sweep(self) -> None:
        """Each second, end what has been silent for too long, for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.loop.time()
            for connection in list(self._connections):
                self._sweep(connection, now)
            self.sessions.sweep(now)

    def _sweep(self, connection: Connection, now: float) -> None:
        if connection.pauses & CLOSING:
            return
        if connection.congested and now - connection.congested > CONGESTED_SECONDS:
            connection.drop(Reason.KEEP_ALIVE_TIMEOUT, "takes nothing of what it is sent")
        elif connection.has_expired:
            connection.fail(Reason.NOT_AUTHORIZED, "the session has expired")
        elif connection.pauses:
            # We do not listen, so that silence is ours.
            connection.last_received = connection.opened = now
            connection.unfinished_since = 0.0
            connection.resume(UNTAKEN)
        elif connection.session is None:
            if now - connection.opened > self.limits.connect_seconds:
                connection.fail(Reason.KEEP_ALIVE_TIMEOUT, "no CONNECT in time")
        elif connection.keepalive and now - connection.last_received > connection.keepalive:
            connection.fail(Reason.KEEP_ALIVE_TIMEOUT, "silent for longer than the keepalive")
        elif self.unfinished.is_overdue(connection, now):
            connection.fail(Reason.KEEP_ALIVE_TIMEOUT, "a packet does not come to its end")

    def stop_taking(self) -> None:
        """Accept and read nothing more; what has been read is still acknowledged."""
        self._closing = True
        if self.keeper is not None:
            self.keeper.stop()
        for server in self._servers:
            server.close()
        for connection in self._connections:
            connection.pause(FULL)
        for connection in self._connections:
            if connection.retained is not None:
                connection.retained.close()

    async def close_sources(self) -> None:
        """Take nothing more, and wait for the packets that are being answered."""
        self.stop_taking()
        deadline = self.loop.time() + DRAIN_SECONDS
        while self.tasks and self.loop.time() < deadline:
            await asyncio.wait(list(self.tasks), timeout=deadline - self.loop.time())

    async def close(self) -> None:
        """End every connection, telling those that speak MQTT 5 why."""
        self._servers.clear()
        self.sessions.close()
        self.shares.close()
        if self._recheck_timer is not None:
            self._recheck_timer.cancel()
        for connection in list(self._connections):
            if connection.session is not None and connection.version == MQTT_5:
                connection.write(packets.disconnect(MQTT_5, Reason.SERVER_SHUTTING_DOWN))
            connection.will = None
            connection.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self._connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    await self._left.wait()
        for connection in list(self._connections):
            connection.abort()
        if self.keeper is not None:
            await self.keeper.close()

    def keep(self, shelf: Shelf, others: Others, token: str) -> Keeper:
        """Keep sessions where other servers find them, in the name of this token."""
        keeper = self.keeper = Keeper(
            shelf,
            others,
            token,
            host=self.host,
            counts=self.counts,
            sessions=self.sessions,
            fanout=self.fanout,
            tasks=self.tasks,
            publish=self.publish_will,
        )
        self.fanout.recent = keeper.published
        return keeper

    # What the rest of the server calls for

    def pause(self) -> None:
        """Read from nobody: the pipeline is full."""
        self._full = True
        for connection in self._connections:
            connection.pause(FULL)

    def resume(self) -> None:
        """Read again."""
        self._full = False
        if not self._closing:
            for connection in list(self._connections):
                connection.resume(FULL)

    def recheck(self) -> None:
        """End the connections of those who may not be connected any more, at once or soon.

        Until then nothing is taken from them, and nothing sent to them.
        """
        if self._recheck_timer is not None:
            self._recheck_again = True
            return
        self._recheck_timer = self.loop.call_later(RECHECK_SECONDS, self._recheck_later)
        for connection in list(self._connections):
            connection.recheck()

    def _recheck_later(self) -> None:
        self._recheck_timer = None
        if self._recheck_again:
            self._recheck_again = False
            self.recheck()

    def forget(self) -> None:
        """End every connection and session: who they were is known from another database."""
        self.routes = RoutesOfAll()
        for connection in self._connections:
            connection.will = None
        self.sessions.forget()
        for connection in list(self._connections):
            if connection.session is not None and connection.version == MQTT_5:
                connection.write(packets.disconnect(MQTT_5, Reason.ADMINISTRATIVE_ACTION))
            connection.abort()

    async def configure(
        self, sensor: int, network_identifier: str, names: Sequence[str], payload: bytes
    ) -> None:
        """Send a configuration to those who subscribe to it now; the others ask for it later."""
        topics = tuple(f"{TopicKind.CONFIGURATIONS}/{name}" for name in names)
        await self.fanout.configure(TopicMessage(topics, sensor, network_identifier, payload))

    def publish(self, topic: str, payload: bytes, network_identifier: str | None) -> None:
        """Send to those who subscribe now: of the network, or without one to all who may log in."""
        if self.published is not None:
            self.published(topic, payload, network_identifier)
        self.publish_here(topic, payload, network_identifier)

    def publish_here(self, topic: str, payload: bytes, network_identifier: str | None) -> None:
        """Send what another server publishes."""
        self.fanout.announce(TopicMessage((topic,), NO_SENSOR, network_identifier or "", payload))


class Greeting(asyncio.BufferedProtocol):
    """Stands before a connection until its client is known.

    What is over 8 KiB stays in the kernel: an ordinary protocol is handed up to 256 KiB by a
    read, which would be kept for each connection while its password is being checked.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the transport on."""
        self._connection.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand it on."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand it on."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on."""
        self._connection.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return room for what the connection may still hold, for a byte at least."""
        del sizehint
        return _READ[: max(_HELD - len(self._connection.rest), 1)]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what was read."""
        self._connection.data_received(bytes(_READ[:nbytes]))
