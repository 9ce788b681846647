"""Sessions: what is kept of a client between its connections, and what it is sent.

Session    what a client subscribes to, is owed, and has under way
Client     its connection, as far as it is written to; `connection.py` reads from it
Retained   what is sent after a SUBSCRIBE
Sessions   all of them, by principal and client id
"""

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from operator import attrgetter
from typing import Any, NamedTuple

import structlog

from heliograph.access.policy import is_current
from heliograph.errors import StoreUnavailableError
from heliograph.line_rate import LineRate
from heliograph.model.principal import Principal
from heliograph.model.time import now
from heliograph.mqtt.codec import packets
from heliograph.mqtt.codec.fields import MAXIMUM_PACKET_ID, MAXIMUM_PACKET_SIZE
from heliograph.mqtt.codec.packets import Will
from heliograph.mqtt.codec.properties import Properties
from heliograph.mqtt.codec.reasons import MQTT_5, Reason
from heliograph.mqtt.counts import Counts
from heliograph.mqtt.host import Host, Outgoing
from heliograph.mqtt.reading import CLOSING, PacketProtocol

log = structlog.get_logger()
_of_faults = LineRate()

OUTGOING_MESSAGES = 1_000
OUTGOING_BYTES = 1 << 20
OUTGOING_WINDOW = 64
# Of what a session is owed that comes from another server, until its client has taken it: all that
# was committed while that server stood still or was gone is owed at once.
RECOVERED_MESSAGES = 16_000
RECOVERED_BYTES = 8 << 20
# Whoever has no more than this in the queue has room for a page of what others have committed.
ROOM_MESSAGES = OUTGOING_MESSAGES // 4
ROOM_BYTES = OUTGOING_BYTES // 4
# Of all sessions of a principal together: it may keep a hundred.
MAXIMUM_BACKLOG_BYTES_OF_PRINCIPAL = 8 << 20
# Of all principals together, administrators included.
MAXIMUM_BACKLOG_BYTES_IN_ALL = 96 << 20
# Of messages to a subscriber that are written together.
OUTBOX_BYTES = 32 << 10
MAXIMUM_SESSIONS = 100_000
MAXIMUM_SESSIONS_OF_PRINCIPAL = 100
LONGEST_SESSION_SECONDS = 7 * 86_400
CLOSING_SECONDS = 1.0

# Kind and name of a principal, and the number of their sensor.
Owner = tuple[str, str, int | None]


def owner_of(principal: Principal) -> Owner:
    """Return by what the principal's sessions are found again, whatever they log in by."""
    # A device may be called "admin", and its name may have been another device's before.
    return principal.kind, principal.name, principal.sensor


_PAGE = 256
_UNDER_WAY = 1
_COMMITTED = 2


class Exchanges:
    """Packet ids from PUBLISH to PUBREL, and whether their messages are committed.

    A client that never sends PUBREL has all 65,535 under way. A byte each, in pages that exist
    while one of their ids is in use, they take 84 KiB; in a dictionary it would be megabytes.
    """

    __slots__ = ("_count", "_pages")

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    def is_committed(self, packet_id: int) -> bool | None:
        """Return whether the message is committed; None: there is no such exchange."""
        page = self._pages.get(packet_id // _PAGE)
        state = page[packet_id % _PAGE] if page is not None else 0
        return state == _COMMITTED if state else None

    def committed(self) -> list[int]:
        """Return the packet ids of those whose messages are committed."""
        return [
            number * _PAGE + at
            for number, page in self._pages.items()
            for at, state in enumerate(page)
            if state == _COMMITTED
        ]

    def begin(self, packet_id: int) -> None:
        """Note an exchange that is not under way yet."""
        page = self._pages.get(packet_id // _PAGE)
        if page is None:
            page = self._pages[packet_id // _PAGE] = bytearray(_PAGE)
        page[packet_id % _PAGE] = _UNDER_WAY
        self._count += 1

    def commit(self, packet_id: int) -> None:
        """Note that the message of an exchange that is under way is committed."""
        self._pages[packet_id // _PAGE][packet_id % _PAGE] = _COMMITTED

    def end(self, packet_id: int) -> bool:
        """End an exchange; return whether there was one."""
        page = self._pages.get(packet_id // _PAGE)
        if page is None or not page[packet_id % _PAGE]:
            return False
        page[packet_id % _PAGE] = 0
        self._count -= 1
        if not any(page):
            del self._pages[packet_id // _PAGE]
        return True


class Entry(NamedTuple):
    """A subscription of a session, with the number that the client has given it, if any."""

    session: "Session"
    filter: str
    qos: int
    no_local: bool
    identifier: int | None


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class Backlog:
    """What the sessions of one principal are owed: bytes of payloads, unacknowledged or unsent."""

    principal: Principal
    total: "TotalBacklog"
    sessions: "set[Session]" = field(default_factory=set)
    bytes: int = 0

    def count(self, size: int) -> None:
        """Count so many bytes more, or fewer."""
        self.bytes += size
        self.total.bytes += size

    def bound(self) -> None:
        """Drop what is over the bounds, of the session that is owed most."""
        if not self.principal.is_admin:
            self.drop_to(MAXIMUM_BACKLOG_BYTES_OF_PRINCIPAL)
        self.total.bound()

    def drop_to(self, size: int) -> None:
        """Drop the oldest of the session that is owed most until there are so many bytes."""
        while self.bytes > size:
            session = max(self.sessions, key=attrgetter("droppable_bytes"))
            if not session.droppable_bytes:
                return
            session.drop_oldest()

    def end_slowest(self) -> None:
        """End the connection that has not acknowledged most: then it can be dropped."""
        session = max(self.sessions, key=_unacknowledged)
        if session.connection is not None:
            session.connection.drop(
                Reason.QUOTA_EXCEEDED, "acknowledges too little of what it is sent"
            )


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class TotalBacklog:
    """What the sessions of all principals are owed; `waited` are those for which anything waited.

    Of these, whoever has room again is forgotten when it is looked for.
    """

    principals: Mapping[Owner, Backlog]
    bytes: int = 0
    waited: "set[Session]" = field(default_factory=set)

    def behind(self) -> "set[Session]":
        """Return the sessions whose clients have to take something before they have room."""
        self.waited = {session for session in self.waited if not session.has_room}
        return self.waited

    def bound(self) -> None:
        """Drop a part of what the principal is owed that is owed most, if it is too much."""
        if self.bytes <= MAXIMUM_BACKLOG_BYTES_IN_ALL:
            return
        most = max(self.principals.values(), key=attrgetter("bytes"))
        # Not just what is too much: to look for the one takes as long as there are principals.
        size = most.bytes * 7 // 8
        most.drop_to(size)
        if most.bytes > size:
            most.end_slowest()


def _unacknowledged(session: "Session") -> int:
    return session.unacknowledged_bytes if session.connection is not None else -1


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class Session:
    """A client's subscriptions, what it is owed, and which QoS 2 packets it has under way.

    Sessions live in memory; on a database that several servers share, `keeping.py` sees to it that
    each is one server's, and can be another's: `key` and `epoch` are by what it is this one's, and
    `unsaved` collects those of which something is not stored. On a file a restart ends them:
    clients are told that none is present. `received` are the QoS 2 packets of the client's that
    it has not released.
    What a client does not take in time is bounded, and what is over the bound is dropped,
    oldest first, and counted in `dropped`. What waited is sent only if the client may still see
    it: rights end while a client is away.
    """

    principal: Principal
    client_id: str
    counts: Counts
    owner: Owner = field(init=False)
    ledger_name: bytes = field(init=False)
    connection: "Client | None" = None
    expiry: int = 0
    subscriptions: dict[str, Entry] = field(default_factory=dict)
    filter_bytes: int = 0
    # Since it has first subscribed.
    backlog: Backlog | None = None
    received: Exchanges = field(default_factory=Exchanges)
    unacknowledged: dict[int, Outgoing] = field(default_factory=dict)
    unacknowledged_bytes: int = 0
    repeats: deque[int] | None = None
    queue: deque[Outgoing] | None = None
    queued_bytes: int = 0
    next_id: int = 0
    dropped: int = 0
    key: bytes = b""
    epoch: int = 0
    unsaved: "set[Session] | None" = None
    # Where another server's session stood up to which this one goes on; None: where all here are.
    since: str | None = None
    # What comes while what came before is still being read.
    held: deque[Outgoing] | None = None
    # What was read is not taken yet.
    recovered: bool = False
    # What is to be published when it has been gone for long enough, and when, in microseconds.
    will: "LastWill | None" = None
    will_at: int = 0

    def __post_init__(self) -> None:
        self.owner = owner_of(self.principal)
        name = f"{self.principal.kind} {self.principal.name}/{self.client_id}"
        self.ledger_name = name.encode("utf-8", "replace")

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
        if connection is None:
            if self.held is not None:
                if len(self.held) == self.held.maxlen:
                    self._drop()
                self.held.append(message)
            elif self.expiry:
                self._enqueue(message)
        elif self.queue or self.repeats or not self._may_send(connection):
            self._enqueue(message)
        else:
            self._send(connection, message)

    def restore(
        self, unacknowledged: Iterable[tuple[int, Outgoing]], queue: Iterable[Outgoing], last: int
    ) -> None:
        """Take over what another server owed, and the last packet id that it has used."""
        self.next_id = last
        self.recovered = True
        for packet_id, message in unacknowledged:
            self._await(packet_id, message)
        for message in queue:
            self._enqueue(message)

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

    def _may_still_see(self, connection: "Client", message: Outgoing) -> bool:
        host = connection.host
        if host.may_see(self.principal, message.sensor, message.network_identifier):
            return True
        self.counts.withheld += 1
        return False

    def _drop(self) -> None:
        self.dropped += 1
        self.counts.dropped += 1

    def _may_send(self, connection: "Client") -> bool:
        if connection.congested:
            return False
        if self.repeats:
            # The new connection's window is narrower, or not all of it was sent at once.
            sent = len(self.unacknowledged) - len(self.repeats)
            return sent < connection.client_receive_maximum
        window = min(OUTGOING_WINDOW, connection.client_receive_maximum)
        return len(self.unacknowledged) < window and self.unacknowledged_bytes < OUTGOING_BYTES

    def _send(self, connection: "Client", message: Outgoing) -> None:
        while True:
            self.next_id = self.next_id % MAXIMUM_PACKET_ID + 1
            if self.next_id not in self.unacknowledged:
                break
        if connection.send_publish(message, self.next_id):
            self._await(self.next_id, message)
            if self.backlog is not None:
                self.backlog.total.bound()

    def _await(self, packet_id: int, message: Outgoing) -> None:
        self.unacknowledged[packet_id] = message
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
        messages, size = (
            (RECOVERED_MESSAGES, RECOVERED_BYTES)
            if self.recovered
            else (OUTGOING_MESSAGES, OUTGOING_BYTES)
        )
        while len(self.queue) > messages or self.queued_bytes > size:
            self._dequeue(self.queue)
            self._drop()
        if self.backlog is not None:
            self.wait()
            self.backlog.bound()

    def wait(self) -> None:
        """Have it be noticed whether the client has room."""
        if self.backlog is not None:
            self.backlog.total.waited.add(self)

    @property
    def has_room(self) -> bool:
        """Whether the client takes about a page of messages more; also if there is none."""
        connection = self.connection
        return connection is None or (
            not connection.congested
            and len(self.queue or ()) <= ROOM_MESSAGES
            and self.queued_bytes <= ROOM_BYTES
        )

    def _dequeue(self, queue: deque[Outgoing]) -> Outgoing:
        message = queue.popleft()
        self.queued_bytes -= len(message.payload)
        self._count(-len(message.payload))
        self.recovered = self.recovered and bool(queue)
        return message

    def _count(self, size: int) -> None:
        if self.backlog is not None:
            self.backlog.count(size)
        if self.unsaved is not None:
            self.unsaved.add(self)

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


class LastWill(NamedTuple):
    """What a client wants published when it goes without a word, and who it was by which key."""

    message: Will
    # None: it is yet to be asked for.
    route: Any
    principal: Principal
    credential: bytes | None
    # By which it is the same wherever it is published.
    name: bytes = b""

    def may_be_published(self, host: Host) -> bool:
        """Return whether whoever set it might still connect by what they did connect by."""
        return not self.principal.has_expired(now()) and is_current(
            self.principal, self.credential, host.grants
        )


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class Client(PacketProtocol):
    """The connection of a client, as far as it is written to and ended."""

    host: Host
    counts: Counts
    tasks: "set[asyncio.Task[None]]"
    peer: str = ""
    session: Session | None = None
    principal: Principal | None = None
    credential: bytes | None = None
    # As of which generation of the registry the credential is known to hold.
    checked: int = -1
    will: LastWill | None = None
    tells_reasons: bool = True
    client_receive_maximum: int = 65_535
    client_maximum_packet_size: int = MAXIMUM_PACKET_SIZE
    warned_too_large: bool = False
    congested: float = 0.0  # since when
    # Messages that are written together before the loop's next turn.
    outbox: list[bytes] = field(default_factory=list)
    outbox_bytes: int = 0
    retained: "Retained | None" = None

    def send_publish(self, message: Outgoing, packet_id: int, *, dup: bool = False) -> bool:
        """Send a message to the client; False: it is larger than that takes [MQTT-3.1.2-25]."""
        if message.version == self.version:
            packet = message.packet
        else:
            identifiers = message.identifiers
            packet = packets.publish(
                self.version,
                message.topic,
                message.payload,
                qos=message.qos,
                retain=message.retain,
                duplicate=dup,
                packet_id=packet_id,
                properties=(
                    Properties(subscription_identifiers=identifiers) if identifiers else None
                ),
            )
            if not message.qos:
                message.version, message.packet = self.version, packet
        if len(packet) > self.client_maximum_packet_size:
            self._drop_too_large(message.topic, len(packet))
            return False
        self._post(packet)
        return True

    def _post(self, packet: bytes) -> None:
        """Write a message with those that come right after it: a call of the system is dear."""
        if self.transport is None or self.pauses & CLOSING:
            return
        self.outbox.append(packet)
        self.outbox_bytes += len(packet)
        if self.outbox_bytes >= OUTBOX_BYTES:
            self.flush()
        elif len(self.outbox) == 1:
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write the messages that wait to be written together."""
        if self.outbox:
            data = b"".join(self.outbox)
            self.outbox.clear()
            self.outbox_bytes = 0
            if self.transport is not None and not self.pauses & CLOSING:
                self.transport.write(data)

    def _drop_too_large(self, topic: str, size: int) -> None:
        self.counts.too_large += 1
        if not self.warned_too_large:
            self.warned_too_large = True
            log.warning(
                "message larger than the subscriber's maximum packet size not delivered",
                name=self.principal.name if self.principal else None,
                peer=self.peer,
                topic=topic,
                bytes=size,
                maximum=self.client_maximum_packet_size,
            )

    def write(self, data: bytes) -> None:
        """Write, unless the connection is gone."""
        if data and self.transport is not None and not self.pauses & CLOSING:
            if self.outbox:
                self.flush()
            self.transport.write(data)

    def fail(self, reason: Reason, detail: str) -> None:
        """End the connection for a fault of the client's, telling it why where MQTT can."""
        if self.closing:
            return
        if self.session is None and self.version == MQTT_5:
            self.refuse(reason, detail)
            return
        self._refused(reason, detail)
        if self.session is not None:
            whole = packets.disconnect(self.version, reason, detail)
            self.write(self.explained(whole, packets.disconnect(self.version, reason)))
        self.close()

    def refuse(self, reason: Reason, detail: str) -> None:
        """Answer CONNECT with the reason why there is no session, and end the connection."""
        self._refused(reason, detail)
        properties = Properties(reason_string=detail)
        whole = packets.connack(self.version, reason, properties=properties)
        self.write(self.explained(whole, packets.connack(self.version, reason)))
        self.close()

    def explained(self, whole: bytes, bare: bytes) -> bytes:
        """Return the packet with its reason text, or without where the client wants none of that.

        Where it takes no packet as large as either, nothing.
        """
        largest = self.client_maximum_packet_size
        if self.tells_reasons and len(whole) <= largest:
            return whole
        return bare if len(bare) <= largest else b""

    def accept_limits(self, connect: packets.Connect) -> None:
        """Keep from now on to what the client says that it takes."""
        self.version = connect.version
        self.tells_reasons = connect.request_problem_information
        self.client_receive_maximum = connect.receive_maximum
        if connect.maximum_packet_size is not None:
            self.client_maximum_packet_size = connect.maximum_packet_size

    def _refused(self, reason: Reason, detail: str) -> None:
        """Count and note that the connection is ended for a fault of the client's."""
        self.counts.refusals[reason.name] += 1
        name = self.principal.name if self.principal else None
        if (more := _of_faults.due()) is not None:
            why = {"reason": reason.name, "detail": detail}
            log.info("connection ended", **why, peer=self.peer, name=name, **more)

    def recheck(self) -> None:
        """End the connection if what the client logged in with is no longer valid."""
        generation = self.host.generation
        if self.checked == generation or self.principal is None:
            return
        self.checked = generation
        if not is_current(self.principal, self.credential, self.host.grants):
            self.fail(Reason.NOT_AUTHORIZED, "the credential is no longer valid")

    @property
    def closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self.transport is None or self.pauses & CLOSING != 0

    @property
    def has_expired(self) -> bool:
        """Whether the session of a user, by whose token the client logged in, is over."""
        return self.principal is not None and self.principal.has_expired(now())

    def close(self) -> None:
        """Close after what has been written is sent; what still comes is thrown away.

        To close with something unread would reset the connection, and take from the client
        what it has not read yet: its acknowledgments, and the reason.
        """
        transport = self.transport
        if transport is None or self.closing:
            return
        self.flush()
        self.pauses |= CLOSING
        if transport.can_write_eof():
            transport.write_eof()
            transport.resume_reading()
        else:
            transport.close()
        self.loop.call_later(CLOSING_SECONDS, self.abort)

    def drop(self, reason: Reason, detail: str) -> None:
        """End the connection at once, for the client's fault: what it is sent would not arrive."""
        if self._is_open():
            self._refused(reason, detail)
            self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self.transport is not None:
            self.transport.abort()


class _Wanted(NamedTuple):
    qos: int
    identifiers: tuple[int, ...]


class Retained:
    """Sends a connection what is retained under its filters, one filter after the other.

    It waits for acknowledgments, so that the bounds of what waits for a client can't cut it
    short; meanwhile the connection goes on with whatever else there is.
    """

    __slots__ = ("_connection", "_room", "_superseded", "_task", "_wanted")

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._wanted: dict[str, _Wanted] = {}
        self._room = asyncio.Event()
        # Topics that got something newer while older contents were being read.
        self._superseded: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def send(self, topic_filter: str, qos: int, identifier: int | None) -> None:
        """Send what is retained under a subscription's filter, after what is being sent.

        What is being sent of this very filter begins anew [MQTT-3.8.4-3].
        """
        self._wanted.pop(topic_filter, None)
        self._wanted[topic_filter] = _Wanted(qos, () if identifier is None else (identifier,))
        if self._task is None:
            tasks = self._connection.tasks
            self._task = asyncio.create_task(self._run(), name="mqtt retained")
            tasks.add(self._task)
            self._task.add_done_callback(tasks.discard)

    def discard(self, topic_filter: str) -> None:
        """Do not send what was still to be sent under this filter."""
        self._wanted.pop(topic_filter, None)

    def supersede(self, topics: Iterable[str]) -> None:
        """Do not send what has been read under these topics: the client gets something newer."""
        if self._task is not None:
            self._superseded.update(topics)

    def wake(self) -> None:
        """Look again whether the client takes more."""
        self._room.set()

    def close(self) -> None:
        """Send nothing more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        connection = self._connection
        try:
            while self._wanted:
                topic_filter, wanted = next(iter(self._wanted.items()))
                await self._send(topic_filter, wanted)
                if self._wanted.get(topic_filter) is wanted:
                    del self._wanted[topic_filter]
        except StoreUnavailableError:
            # On its next connection the client subscribes again.
            connection.fail(Reason.SERVER_BUSY, "the database is not available")
        except Exception:
            log.exception("retained messages not sent", peer=connection.peer)
            connection.fail(Reason.UNSPECIFIED_ERROR, "the server failed")
        finally:
            self._task = None
            self._superseded.clear()

    async def _send(self, topic_filter: str, wanted: _Wanted) -> None:
        connection = self._connection
        session, principal = connection.session, connection.principal
        if session is None or principal is None:
            return
        # Whatever was newer before this is read is read now.
        self._superseded.clear()
        host = connection.host
        async for message in host.retained(principal, topic_filter):
            while connection.congested or session.queue:
                self._room.clear()
                await self._room.wait()
            connection.recheck()
            if session.connection is not connection or self._wanted.get(topic_filter) is not wanted:
                return
            if message.topic in self._superseded:
                continue
            # The right may have ended while the client took what came before.
            if host.may_see(principal, message.sensor, message.network_identifier):
                message.qos, message.identifiers = wanted
                session.deliver(message)
            else:
                session.counts.withheld += 1


class Sessions:
    """Sessions by principal and client id, so that nobody can take over a stranger's."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: Host, ended: Callable[[Session], None]
    ) -> None:
        """Keep sessions; `ended` is called with each that has ended."""
        self._loop = loop
        self._host = host
        self._ended = ended
        self._sessions: dict[tuple[Owner, str], Session] = {}
        self._left: dict[Session, float] = {}
        self._left_of: dict[Owner, dict[Session, None]] = {}
        self._due: dict[Session, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}
        self._connected: dict[Owner, int] = {}

    def __len__(self) -> int:
        """Return the number of sessions, connected or not."""
        return len(self._sessions)

    def __contains__(self, session: Session) -> bool:
        """Return whether a session goes on here, connected or not."""
        return self._sessions.get((session.owner, session.client_id)) is session

    def find(self, principal: Principal, client_id: str) -> Session | None:
        """Return the session of this client, connected or not."""
        return self._sessions.get((owner_of(principal), client_id))

    def enter(self, session: Session) -> None:
        """Keep a session that has a connection now."""
        owner = session.owner
        self._sessions[owner, session.client_id] = session
        self._forget_leaving(session)
        self._connected[owner] = self._connected.get(owner, 0) + 1
        self._host.entered(session.principal)
        handle = self._due.pop(session, None)
        if handle is not None:
            handle[0].cancel()

    def leave(self, session: Session) -> None:
        """Note that the session's connection is gone; it ends now or after its expiry."""
        self._disconnected(session)
        self._host.left(session.principal)
        if session.expiry:
            self.keep(session, session.expiry)
        else:
            self.end(session)

    def keep(self, session: Session, seconds: float) -> None:
        """Keep a session that has no connection for so long."""
        owner = session.owner
        self._sessions[owner, session.client_id] = session
        self._left[session] = self._loop.time() + seconds
        left = self._left_of.setdefault(owner, {})
        left[session] = None
        if len(left) > MAXIMUM_SESSIONS_OF_PRINCIPAL:
            self.end(next(iter(left)))
        if len(self._left) > MAXIMUM_SESSIONS:
            self.end(next(iter(self._left)))

    def hand_over(self, session: Session, *, connected: bool) -> None:
        """Forget a session that goes on at another server, and nothing of it ends."""
        if connected:
            self._disconnected(session)
            self._host.handed_over(session.principal)
        self._forget(session)
        due = self._due.pop(session, None)
        if due is not None:
            due[0].cancel()

    def _disconnected(self, session: Session) -> None:
        count = self._connected.get(session.owner, 0) - 1
        if count > 0:
            self._connected[session.owner] = count
        else:
            self._connected.pop(session.owner, None)

    def _forget(self, session: Session) -> None:
        key = (session.owner, session.client_id)
        if self._sessions.get(key) is session:
            del self._sessions[key]
        self._forget_leaving(session)

    def end(self, session: Session) -> None:
        """Forget a session; a will that was to come later comes now [MQTT-3.1.3-9]."""
        self._forget(session)
        due = self._due.pop(session, None)
        if due is not None:
            due[0].cancel()
            due[1]()
        self._ended(session)

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

    def left_for(self, session: Session) -> float:
        """Return for how many seconds a session goes on without a connection."""
        moment = self._loop.time()
        return max(self._left.get(session, moment) - moment, 0.0)

    def of_principal(self, principal: Principal) -> int:
        """Return how many connected sessions the principal has."""
        return self._connected.get(owner_of(principal), 0)

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
