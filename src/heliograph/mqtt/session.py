"""Sessions: what is kept of a client between its connections."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from heliograph.model.principal import Principal
from heliograph.mqtt.exchanges import Exchanges
from heliograph.mqtt.fields import MAXIMUM_PACKET_ID
from heliograph.mqtt.limits import (
    LONGEST_SESSION_SECONDS,
    MAXIMUM_SESSIONS,
    MAXIMUM_SESSIONS_OF_PRINCIPAL,
    OUTGOING_BYTES,
    OUTGOING_MESSAGES,
    OUTGOING_WINDOW,
)

if TYPE_CHECKING:
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

    def __init__(self, principal: Principal, client_id: str, counts: "Counts") -> None:
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

    def acknowledged(self, packet_id: int) -> bool:
        """Take a PUBACK, and send what has waited for it; False: there was nothing to."""
        if packet_id not in self.unacknowledged:
            return False
        self._settle(packet_id)
        self.send_waiting()
        if self.connection is not None and self.connection.retained is not None:
            self.connection.retained.wake()
        return True

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
            if self.audience is not None:
                self.audience.all_owed.bound()

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


def owner_of(principal: Principal) -> Owner:
    """Return by what the principal's sessions are found again, whatever he logs in by."""
    # A device may be called "admin", and its name may have been another device's before.
    return principal.kind, principal.name, principal.sensor


class Sessions:
    """Sessions by principal and client id, so that nobody can take over a stranger's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.forgotten: Callable[[Session], None] = lambda _session: None
        self.entered: Callable[[Principal], None] = lambda _principal: None
        self.left: Callable[[Principal], None] = lambda _principal: None
        self._loop = loop
        self._sessions: dict[tuple[Owner, str], Session] = {}
        self._left: dict[Session, float] = {}
        self._left_of: dict[Owner, dict[Session, None]] = {}
        self._due: dict[Session, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}
        self._connected: dict[Owner, int] = {}

    def __len__(self) -> int:
        """Return the number of sessions, connected or not."""
        return len(self._sessions)

    def find(self, principal: Principal, client_id: str) -> Session | None:
        """Return the session of this client, connected or not."""
        return self._sessions.get((owner_of(principal), client_id))

    def enter(self, session: Session) -> None:
        """Keep a session that has a connection now."""
        owner = session.owner
        self._sessions[owner, session.client_id] = session
        self._forget_leaving(session)
        self._connected[owner] = self._connected.get(owner, 0) + 1
        self.entered(session.principal)
        handle = self._due.pop(session, None)
        if handle is not None:
            handle[0].cancel()

    def leave(self, session: Session) -> None:
        """Note that the session's connection is gone; it ends now or after its expiry."""
        owner = session.owner
        count = self._connected.get(owner, 0) - 1
        if count > 0:
            self._connected[owner] = count
        else:
            self._connected.pop(owner, None)
        self.left(session.principal)
        if not session.expiry:
            self.end(session)
            return
        self._left[session] = self._loop.time() + session.expiry
        left = self._left_of.setdefault(owner, {})
        left[session] = None
        if len(left) > MAXIMUM_SESSIONS_OF_PRINCIPAL:
            self.end(next(iter(left)))
        if len(self._left) > MAXIMUM_SESSIONS:
            self.end(next(iter(self._left)))

    def end(self, session: Session) -> None:
        """Forget a session; a will that was to come later comes now [MQTT-3.1.3-9]."""
        key = (session.owner, session.client_id)
        if self._sessions.get(key) is session:
            del self._sessions[key]
        self._forget_leaving(session)
        due = self._due.pop(session, None)
        if due is not None:
            due[0].cancel()
            due[1]()
        self.forgotten(session)

    def call_later(self, session: Session, delay: float, action: Callable[[], None]) -> None:
        """Do something after a delay, unless the session gets a connection before."""
        if delay <= 0:
            action()
            return

        def due() -> None:
            self._due.pop(session, None)
            action()

        self._due[session] = (self._loop.call_later(delay, due), action)

    def sweep(self, now: float) -> None:
        """End the sessions whose time is over."""
        for session in [session for session, end in self._left.items() if end <= now]:
            self.end(session)

    def forget(self) -> None:
        """End every session, those that are connected with their connection."""
        for session in self._sessions.values():
            session.expiry = 0
        for session in list(self._left):
            self.end(session)

    def of_principal(self, principal: Principal) -> int:
        """Return how many connected sessions the principal has."""
        return self._connected.get(owner_of(principal), 0)

    @staticmethod
    def longest(seconds: int) -> int:
        """Return how long a session that asks for so many seconds is kept."""
        return min(seconds, LONGEST_SESSION_SECONDS)

    def close(self) -> None:
        """Let go of what was to happen later."""
        for handle, _ in self._due.values():
            handle.cancel()
        self._due.clear()

    def _forget_leaving(self, session: Session) -> None:
        if self._left.pop(session, None) is None:
            return
        owner = session.owner
        left = self._left_of[owner]
        del left[session]
        if not left:
            del self._left_of[owner]
