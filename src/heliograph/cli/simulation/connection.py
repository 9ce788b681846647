"""An MQTT connection of the simulator: paho-mqtt, driven by an asyncio loop.

All connections share one thread. Nothing is queued without a bound: a message is taken only
while fewer than `window` are unacknowledged, and paho sends those again after a reconnect.
"""

import asyncio
import contextlib
import dataclasses
import random
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from heliograph.cli.simulation.sensor import SimulatedMessage
from heliograph.cli.simulation.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

KEEP_ALIVE_SECONDS = 30
CONNECT_SECONDS = 10.0
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 5.0
# So long a session outlives its connection; QoS 2 needs it to be exactly once.
SESSION_SECONDS = 3_600

_PACKET_IDENTIFIER_NOT_FOUND = 0x92
_FINAL_REFUSALS = frozenset({"Bad user name or password", "Not authorized", "Banned"})


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectOptions:
    """Where to connect, and how."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    protocol: MQTTProtocolVersion
    qos: int
    window: int


class SimulatedConnection:
    """One connection, for one sensor or, as a gateway, for many.

    `run` keeps it up until `close`. `on_online` is called after each login, `on_message` with
    topic and payload of what arrives.
    """

    def __init__(
        self,
        endpoint: ConnectOptions,
        tally: Tally,
        *,
        client_id: str,
        username: str,
        password: str,
        will: SimulatedMessage | None = None,
    ) -> None:
        self.is_online = False
        self.refusal: str | None = None
        self.on_online: Callable[[], None] = lambda: None
        self.on_message: Callable[[str, bytes], None] = lambda _topic, _payload: None
        self._loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._tally = tally
        self._window = endpoint.window
        self._outstanding: dict[int, SimulatedMessage] = {}
        self._changed = asyncio.Event()
        self._is_connecting = False
        self._is_closing = False
        self._is_out_of_reach = False
        self._was_online = False
        self._client = self._make_client(client_id, username, password, will)

    def _make_client(
        self, client_id: str, username: str, password: str, will: SimulatedMessage | None
    ) -> mqtt.Client:
        endpoint = self._endpoint
        is_version_5 = endpoint.protocol is MQTTProtocolVersion.MQTTv5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=endpoint.protocol,
            clean_session=None if is_version_5 else endpoint.qos < 2,
        )
        client.username_pw_set(username, password)
        client.max_inflight_messages_set(endpoint.window)
        client.max_queued_messages_set(endpoint.window)
        client.connect_timeout = CONNECT_SECONDS
        if endpoint.tls is not None:
            client.tls_set_context(endpoint.tls)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=min(1, endpoint.qos), retain=will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = lambda _c, _u, message: self.on_message(
            message.topic, bytes(message.payload)
        )
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        return client

    @property
    def outstanding(self) -> int:
        """Messages of which nothing has been heard yet."""
        return len(self._outstanding)

    def has_room(self) -> bool:
        """Tell whether a message would be taken now."""
        return self.is_online and len(self._outstanding) < self._window

    def publish(self, message: SimulatedMessage) -> bool:
        """Hand a message over; False: not now, and it is not counted."""
        if not self.has_room():
            return False
        info = self._client.publish(
            message.topic, message.payload, qos=self._endpoint.qos, retain=message.retain
        )
        if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        self._outstanding[info.mid] = message
        self._tally.sent[message.kind].add(message.rows)
        return True

    def subscribe(self, topic: str) -> None:
        """Subscribe at QoS 1; what arrives goes to `on_message`."""
        self._client.subscribe(topic, qos=1)

    async def online(self, seconds: float, *, patient: bool = True) -> bool:
        """Wait so long for the login; tell whether it succeeded.

        Without patience the first failure to reach the server is enough.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.is_online and self.refusal is None:
                    if self._is_out_of_reach and not patient:
                        break
                    self._changed.clear()
                    await self._changed.wait()
        return self.is_online

    async def close(self) -> None:
        """Disconnect; the will is not sent."""
        self._is_closing = True
        if self.is_online:
            self._client.disconnect()
            self._client.loop_write()
        self._notify()

    async def run(self) -> None:
        """Connect, and reconnect with growing delays, until closed or refused."""
        delay = FIRST_DELAY_SECONDS
        while not self._is_closing and self.refusal is None:
            if await self._connect():
                delay = FIRST_DELAY_SECONDS if await self._stay() else delay
            if self._is_closing or self.refusal is not None:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter, no secret
                    while not self._is_closing:
                        self._changed.clear()
                        await self._changed.wait()
            delay = min(LONGEST_DELAY_SECONDS, delay * 2)
        self._drop()

    async def _connect(self) -> bool:
        """Open the socket and send CONNECT, in a thread since paho waits for both."""
        self._is_connecting = True
        try:
            await asyncio.to_thread(self._open)
        except (OSError, ValueError) as error:
            self._tally.note_error(f"connect: {getattr(error, 'strerror', None) or error}")
            self._is_out_of_reach = True
            return False
        finally:
            self._is_connecting = False
            self._notify()
        transport = self._client.socket()
        if transport is None:
            return False
        self._loop.add_reader(transport, self._read)
        if self._client.want_write():
            self._on_register_write(self._client, None, transport)
        return True

    def _open(self) -> None:
        if self._was_online:
            self._client.reconnect()
            return
        properties = None
        if self._endpoint.protocol is MQTTProtocolVersion.MQTTv5 and self._endpoint.qos == 2:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
            properties.SessionExpiryInterval = SESSION_SECONDS
        self._client.connect(
            self._endpoint.host, self._endpoint.port, KEEP_ALIVE_SECONDS, properties=properties
        )

    async def _stay(self) -> bool:
        """Return when the connection is gone; tell whether there was a login."""
        deadline = time.monotonic() + CONNECT_SECONDS
        was_online = False
        while self._client.socket() is not None:
            was_online = was_online or self.is_online
            if not was_online and time.monotonic() > deadline:
                self._tally.note_error("connect: no answer")
                self._drop()
                break
            self._client.loop_misc()
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._changed.wait()
        return was_online

    def _read(self) -> None:
        self._client.loop_read()
        transport = self._client.socket()
        # TLS may hold decrypted packets back that no selector reports.
        while isinstance(transport, ssl.SSLSocket) and transport.pending():
            self._client.loop_read()
            transport = self._client.socket()

    def _drop(self) -> None:
        """Close the socket as if it had been cut."""
        transport: Any = self._client.socket()
        if transport is not None:
            self._loop.remove_reader(transport)
            self._loop.remove_writer(transport)
            with contextlib.suppress(OSError):
                transport.shutdown(socket.SHUT_RDWR)
            self._client.loop_read()

    def _on_connect(
        self, _client: Any, _data: Any, _flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            self._tally.note_error(f"login refused: {reason}")
            if not self._was_online and str(reason) in _FINAL_REFUSALS:
                self.refusal = str(reason)
        else:
            # paho does not look at the server's Receive Maximum by itself.
            allowed = getattr(properties, "ReceiveMaximum", None) or 65_535
            self._window = min(self._endpoint.window, allowed)
            self.is_online = self._was_online = True
            self.on_online()
        self._notify()

    def _on_disconnect(
        self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if self.is_online and not self._is_closing:
            self._tally.disconnections += 1
            self._tally.note_error(f"disconnected: {reason}")
        self.is_online = False
        if self._endpoint.qos == 0:
            for message in self._outstanding.values():
                self._tally.lost[message.kind].add(message.rows)
            self._outstanding.clear()
        self._notify()

    def _on_publish(
        self, _client: Any, _data: Any, packet_id: int, reason: Any, _properties: Any
    ) -> None:
        message = self._outstanding.pop(packet_id, None)
        if message is None:
            return
        # At QoS 2 the server took it over with PUBREC; when the end of the exchange is lost,
        # the repeated PUBREL finds nothing left to release.
        if reason.is_failure and reason.value != _PACKET_IDENTIFIER_NOT_FOUND:
            self._tally.refused[message.kind].add(message.rows)
            self._tally.note_error(f"refused: {reason} on {message.topic}")
        else:
            self._tally.acknowledged[message.kind].add(message.rows)

    def _on_register_write(self, _client: Any, _data: Any, transport: Any) -> None:
        if not self._is_connecting:
            self._loop.add_writer(transport, self._client.loop_write)

    def _on_unregister_write(self, _client: Any, _data: Any, transport: Any) -> None:
        if not self._is_connecting:
            self._loop.remove_writer(transport)

    def _on_socket_close(self, _client: Any, _data: Any, transport: Any) -> None:
        if not self._is_connecting:
            self._loop.remove_reader(transport)
        self._notify()

    def _notify(self) -> None:
        if not self._is_connecting:
            self._changed.set()
