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
from collections import deque
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from heliograph.simulator.sensor import SimulatedMessage, SimulatedSensor
from heliograph.simulator.tally import Tally

KEEP_ALIVE_SECONDS = 30
CONNECT_SECONDS = 10.0
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 5.0
# So long a session outlives its connection; QoS 2 needs it to be exactly once.
SESSION_SECONDS = 3_600
# Messages that wait for room; the oldest give way.
MOST_WAITING = 100

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
    """One connection, for many sensors as a gateway or, as a device, for its own.

    `run` keeps it up until `close`. A device says that it is online after each login, and takes
    its configurations.
    """

    def __init__(
        self,
        options: ConnectOptions,
        tally: Tally,
        sensors: list[SimulatedSensor],
        *,
        client_id: str,
        username: str,
        password: str,
        is_gateway: bool,
    ) -> None:
        self.sensors = sensors
        self.is_online = False
        self.refusal: str | None = None
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._tally = tally
        self._window = options.window
        self._own = None if is_gateway else sensors[0]
        self._waiting: deque[SimulatedMessage] = deque(maxlen=MOST_WAITING)
        self._outstanding: dict[int, SimulatedMessage] = {}
        self._changed = asyncio.Event()
        self._is_connecting = False
        self._is_closing = False
        self._is_out_of_reach = False
        self._was_online = False
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=options.protocol,
            clean_session=None if self._is_version_5 else options.qos < 2,
        )
        client.username_pw_set(username, password)
        client.max_inflight_messages_set(options.window)
        client.max_queued_messages_set(options.window)
        client.connect_timeout = CONNECT_SECONDS
        if options.tls is not None:
            client.tls_set_context(options.tls)
        if self._own is not None:
            will = self._own.status("offline")
            client.will_set(will.topic, will.payload, qos=min(1, options.qos), retain=will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write

    @property
    def _is_version_5(self) -> bool:
        return self._options.protocol is MQTTProtocolVersion.MQTTv5

    @property
    def has_unsettled(self) -> bool:
        """Whether something waits, or nothing has been heard yet of what was sent."""
        return bool(self._waiting or self._outstanding)

    @property
    def is_free(self) -> bool:
        """Whether a new message would go out at once."""
        return self.is_online and not self._waiting and len(self._outstanding) < self._window

    def send(self, message: SimulatedMessage) -> None:
        """Send a message, or let it wait for room."""
        if not self.publish(message):
            self._waiting.append(message)

    def publish(self, message: SimulatedMessage) -> bool:
        """Send a message behind those that wait; return false if there is no room for it."""
        self.flush()
        return not self._waiting and self._publish(message)

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        while self._waiting and self._publish(self._waiting[0]):
            self._waiting.popleft()

    def _publish(self, message: SimulatedMessage) -> bool:
        if not self.is_online or len(self._outstanding) >= self._window:
            return False
        info = self._client.publish(
            message.topic, message.payload, qos=self._options.qos, retain=message.retain
        )
        if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        self._outstanding[info.mid] = message
        self._tally.sent[message.kind].add(message.rows)
        return True

    async def online(self, seconds: float, *, patient: bool = True) -> bool:
        """Wait so long for the login; return whether it succeeded.

        Without patience the first failure to reach the server is enough.
        """
        deadline = time.monotonic() + seconds
        while not self.is_online and self.refusal is None:
            left = deadline - time.monotonic()
            if left < 0 or (self._is_out_of_reach and not patient):
                break
            await self._change(left)
        return self.is_online

    def say_goodbye(self) -> None:
        """Publish that the device is offline, if it is one."""
        if self._own is not None:
            self.send(self._own.status("offline"))

    def close(self) -> None:
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
            if await self._connect() and await self._stay():
                delay = FIRST_DELAY_SECONDS
            until = time.monotonic() + delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
            while not self._is_closing and self.refusal is None:
                if (left := until - time.monotonic()) < 0:
                    break
                await self._change(left)
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
        if self._is_version_5 and self._options.qos == 2:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
            properties.SessionExpiryInterval = SESSION_SECONDS
        self._client.connect(
            self._options.host, self._options.port, KEEP_ALIVE_SECONDS, properties=properties
        )

    async def _stay(self) -> bool:
        """Return when the connection is gone: whether there was a login."""
        deadline = time.monotonic() + CONNECT_SECONDS
        was_online = False
        while self._client.socket() is not None:
            was_online = was_online or self.is_online
            if not was_online and time.monotonic() > deadline:
                self._tally.note_error("connect: no answer")
                self._drop()
                break
            self._client.loop_misc()
            await self._change(1.0)
        return was_online

    async def _change(self, seconds: float) -> None:
        """Wait so long for anything to change."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

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

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, given: Any) -> None:
        if reason.is_failure:
            self._tally.note_error(f"login refused: {reason}")
            if not self._was_online and str(reason) in _FINAL_REFUSALS:
                self.refusal = str(reason)
        else:
            # paho does not look at the server's Receive Maximum by itself.
            allowed = getattr(given, "ReceiveMaximum", None) or 65_535
            self._window = min(self._options.window, allowed)
            self.is_online = self._was_online = True
            if self._own is not None:
                self._client.subscribe(f"configurations/{self._own.device_id}", qos=1)
                self.send(self._own.status("online"))
        self._notify()

    def _on_message(self, _client: Any, _data: Any, received: mqtt.MQTTMessage) -> None:
        """Take a configuration over and say so, as a device does."""
        own = self._own
        if own is None:
            return
        try:
            message: Any = msgspec.json.decode(received.payload)
            own.revision = int(message["revision"])
        except (msgspec.MsgspecError, TypeError, KeyError, ValueError):
            text = repr(received.payload[:100])
            own.log("error", "configuration not understood", text, time.time())
            return
        self.send(own.heartbeat(time.time()))

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _: Any) -> None:
        if self.is_online and not self._is_closing:
            self._tally.disconnections += 1
            self._tally.note_error(f"disconnected: {reason}")
        self.is_online = False
        if self._options.qos == 0:
            for message in self._outstanding.values():
                self._tally.lost[message.kind].add(message.rows)
            self._outstanding.clear()
        self._notify()

    def _on_publish(self, _client: Any, _data: Any, packet_id: int, reason: Any, _: Any) -> None:
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
