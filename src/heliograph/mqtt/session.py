"""Sessions: what is kept of a client between its connections."""

from collections import deque
from typing import TYPE_CHECKING

from heliograph.mqtt.exchanges import Exchanges
from heliograph.mqtt.fields import MAXIMUM_PACKET_ID
from heliograph.mqtt.limits import OUTGOING_BYTES, OUTGOING_MESSAGES, OUTGOING_WINDOW

if TYPE_CHECKING:
    from heliograph.model.principal import Principal
    from heliograph.mqtt.connection import Connection
    from heliograph.mqtt.counts import Counts
    from heliograph.mqtt.fanout import Audience, Entry

# Kind and name of a principal, and the number of his sensor.
Owner = tuple[str, str, int | None]


class Outgoing:
    """A message on its way to subscribers, from a sensor that was in this network then.

    `identifiers` are those of the subscriptions that select it.
    """

    __slots__ = (
        "identifiers",
        "network_identifier",
        "packet",
        "payload",
        "qos",
        "retain",
        "sensor",
        "topic",
        "version",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        sensor: int,
        network_identifier: str,
        identifiers: tuple[int, ...] = (),
        *,
        retain: bool = False,
    ) -> None:
        self.identifiers = identifiers
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.sensor = sensor
        self.network_identifier = network_identifier
        self.retain = retain
        # At QoS 0 the packet is the same for all clients of a version of MQTT.
        self.version = 0
        self.packet = b""


class Session:
    """A client's subscriptions, what it is owed, and which QoS 2 packets it has under way.

    Sessions live in memory: after a restart of the server clients are told that none is
    present. `received` are the QoS 2 packets of the client's that it has not released.
    What a client does not take in time is bounded, and what is over the bound is dropped,
    oldest first, and counted in `dropped`. What waited is sent only if the client may still see
    it: rights end while a client is away.
    """

    __slots__ = (
        "audience",
        "client_id",
        "connection",
        "counts",
        "dropped",
        "expiry",
        "filter_bytes",
        "ledger_name",
        "next_id",
        "owner",
        "principal",
        "queue",
        "queued_bytes",
        "received",
        "repeats",
        "subscriptions",
        "unacknowledged",
        "unacknowledged_bytes",
    )

    def __init__(self, principal: "Principal", client_id: str, counts: "Counts") -> None:
        self.principal = principal
        self.owner = owner_of(principal)
        self.client_id = client_id
        self.counts = counts
        self.ledger_name = f"{principal.kind} {principal.name}/{client_id}".encode(
            "utf-8", "replace"
        )
        self.connection: Connection | None = None
        self.expiry = 0
        self.subscriptions: dict[str, Entry] = {}
        self.filter_bytes = 0
        self.audience: Audience | None = None
        self.received = Exchanges()
        self.unacknowledged: dict[int, Outgoing] = {}
        self.unacknowledged_bytes = 0
        self.repeats: deque[int] | None = None
        self.queue: deque[Outgoing] | None = None
        self.queued_bytes = 0
        self.next_id = 0
        self.dropped = 0

    def deliver(self, message: Outgoing) -> None:
        """Send the message now, later, or, where the bounds say so, never."""
        connection = self.connection
        if message.qos == 0:
            if connection is None:
                return
            if connection.congested:
                self._drop()
            else:
                connection.send_publish(message, 0)
            return
        if connection is None and not self.expiry:
            return
        if connection is None or self.queue or self.repeats or not self._may_send(connection):
            self._enqueue(message)
        else:
            self._send(connection, message)

    def acknowledged(self, packet_id: int) -> None:
        """Take a PUBACK, and send what has waited for it."""
        if packet_id in self.unacknowledged:
            self._settle(packet_id)
            self.send_waiting()
            if self.connection is not None and self.connection.retained is not None:
                self.connection.retained.wake()

    def send_waiting(self) -> None:
        """Send what waits, as far as the client's window reaches."""
        connection = self.connection
        if connection is None:
            return
        connection.recheck()
        while self.repeats and self._may_send(connection):
            packet_id = self.repeats.popleft()
            known = self.unacknowledged.get(packet_id)
            if known is not None and not (
                self._may_still_see(connection, known)
                and connection.send_publish(known, packet_id, dup=True)
            ):
                self._settle(packet_id)
        while self.queue and self._may_send(connection):
            message = self._dequeue(self.queue)
            if self._may_still_see(connection, message):
                self._send(connection, message)

    def resume(self) -> None:
        """Repeat on a new connection what its predecessor did not acknowledge."""
        if self.unacknowledged:
            self.repeats = deque(self.unacknowledged)
        self.send_waiting()

    def _may_still_see(self, connection: "Connection", message: Outgoing) -> bool:
        host = connection.listener.host
        if host.may_see(self.principal, message.sensor, message.network_identifier):
            return True
        self.counts.withheld += 1
        return False

    def _drop(self) -> None:
        self.dropped += 1
        self.counts.dropped += 1

    def _may_send(self, connection: "Connection") -> bool:
        if connection.congested:
            return False
        if self.repeats:
            # The new connection's window is narrower, or not all of it was sent at once.
            sent = len(self.unacknowledged) - len(self.repeats)
            return sent < connection.client_receive_maximum
        window = min(OUTGOING_WINDOW, connection.client_receive_maximum)
        return len(self.unacknowledged) < window and self.unacknowledged_bytes < OUTGOING_BYTES

    def _send(self, connection: "Connection", message: Outgoing) -> None:
        while True:
            self.next_id = self.next_id % MAXIMUM_PACKET_ID + 1
            if self.next_id not in self.unacknowledged:
                break
        if connection.send_publish(message, self.next_id):
            self.unacknowledged[self.next_id] = message
            self.unacknowledged_bytes += len(message.payload)
            self._count(len(message.payload))

    def _settle(self, packet_id: int) -> None:
        size = len(self.unacknowledged.pop(packet_id).payload)
        self.unacknowledged_bytes -= size
        self._count(-size)

    def _enqueue(self, message: Outgoing) -> None:
        if self.queue is None:
            self.queue = deque()
        self.queue.append(message)
        self.queued_bytes += len(message.payload)
        self._count(len(message.payload))
        while len(self.queue) > OUTGOING_MESSAGES or self.queued_bytes > OUTGOING_BYTES:
            self._dequeue(self.queue)
            self._drop()
        if self.audience is not None:
            self.audience.bound()

    def _dequeue(self, queue: deque[Outgoing]) -> Outgoing:
        message = queue.popleft()
        self.queued_bytes -= len(message.payload)
        self._count(-len(message.payload))
        return message

    def _count(self, size: int) -> None:
        if self.audience is not None:
            self.audience.count_owed(size)

    @property
    def droppable_bytes(self) -> int:
        """How many bytes `drop_oldest` could let go of, one message after the other."""
        return self.queued_bytes + (0 if self.connection else self.unacknowledged_bytes)

    def drop_oldest(self) -> None:
        """Drop the oldest message that is not on its way to the client; there has to be one."""
        if self.connection is None and self.unacknowledged:
            self._settle(next(iter(self.unacknowledged)))
        elif self.queue:
            self._dequeue(self.queue)
        self._drop()


def owner_of(principal: "Principal") -> Owner:
    """Return by what the principal's sessions are found again, whatever he logs in by."""
    # A device may be called "admin", and its name may have been another device's before.
    return principal.kind, principal.name, principal.sensor
