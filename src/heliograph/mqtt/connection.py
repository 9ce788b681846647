"""One client's connection: packets read, and answered in the order of receipt.

    CONNECT ─▶ log in, check the will, find the session ─▶ CONNACK
    PUBLISH ─▶ route ─▶ received ─▶ committed ─▶ settled: PUBACK or PUBREC
    SUBSCRIBE ─▶ granted by filter ─▶ SUBACK ─▶ what is retained

What is written to a client beside its answers is in `session.py`.
"""

import asyncio
import dataclasses
import secrets
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, cast

import structlog

from heliograph.access.policy import credential_of, is_current
from heliograph.address import network_of
from heliograph.errors import ErrorCode, HeliographError, StoreUnavailableError
from heliograph.hourly import Hourly
from heliograph.line_rate import LineRate
from heliograph.model.principal import Principal
from heliograph.model.records import MAXIMUM_PAYLOAD_BYTES
from heliograph.model.time import now
from heliograph.mqtt.codec import packets
from heliograph.mqtt.codec.packets import Connect, Disconnect, Subscribe, Subscription, Unsubscribe
from heliograph.mqtt.codec.properties import Properties
from heliograph.mqtt.codec.reasons import MQTT_3_1_1, MQTT_5, PacketType, ProtocolError, Reason
from heliograph.mqtt.counts import Counts
from heliograph.mqtt.fanout import Fanout
from heliograph.mqtt.host import Host, Settled
from heliograph.mqtt.keeping import Keeper
from heliograph.mqtt.reading import (
    CLOSING,
    CONGESTED,
    DOUBT,
    DUPLICATE,
    FULL,
    HEAD_BYTES,
    IN_FLIGHT_BYTES,
    KEPT_BYTES,
    LONGEST_KEPT_TOPIC,
    NO_ROUTES,
    OWN,
    RETAIN,
    UNTAKEN,
    WAITING,
    Oversize,
    ReadingTurns,
    RoutesOfAll,
    ask,
)
from heliograph.mqtt.session import (
    LONGEST_SESSION_SECONDS,
    Client,
    LastWill,
    Retained,
    Session,
    Sessions,
)
from heliograph.mqtt.shares import FILTER_COST, MESSAGE_BYTES, PACKET_COST, Share, Shares
from heliograph.mqtt.topics import is_longer_than
from heliograph.per_address import PerAddress

log = structlog.get_logger()
_of_connected, _of_disconnected = LineRate(), LineRate()

# Every packet but PUBLISH.
MAXIMUM_CONTROL_BYTES = 128 << 10
# A SUBSCRIBE of so many bytes is work enough for one turn.
LARGE_CONTROL_BYTES = 8 << 10
# Of who is not known yet: CONNECT, and what a client sends behind it before it is answered.
MAXIMUM_CONNECT_BYTES = 8 << 10
# Of packets whose end has not come: what each connection may hold of them uncounted, and what
# all of them together may hold beyond that.
UNCOUNTED_BYTES = 64 << 10
MAXIMUM_UNFINISHED_BYTES = 32 << 20
UNFINISHED_SECONDS = 60.0
WRITE_BUFFER_BYTES = 256 << 10
MAXIMUM_TOPIC_ALIASES = 64
MAXIMUM_FILTER_LEVELS = 16
LOGIN_SECONDS = 10.0

QOS_1 = 1
QOS_2 = 2
PACKET_ID = 0xFFFF


def token_of(packet_id: int, qos: int) -> int:
    """Return what a message carries through the pipeline to find its way back; 0 for QoS 0."""
    return packet_id | qos << 16


class TopicAliases:
    """The aliases that a client has set on its connection; they end with it [MQTT-3.3.2-7]."""

    __slots__ = ("_topics",)

    def __init__(self, maximum: int = MAXIMUM_TOPIC_ALIASES) -> None:
        self._topics: list[bytes] = [b""] * (maximum + 1)

    def resolve(self, topic: bytes, properties: Properties) -> bytes:
        """Return the topic that a PUBLISH means, and keep its alias.

        Raises:
            ProtocolError: an alias out of range [MQTT-3.3.2-9], one that was never set, or one
                for a topic that is longer than any there is: 64 of them would be 4 MiB.
        """
        alias = properties.topic_alias
        if alias is None:
            return topic
        if not 0 < alias < len(self._topics):
            raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, "the topic alias is out of range")
        if len(topic) > LONGEST_KEPT_TOPIC:
            raise ProtocolError(Reason.TOPIC_NAME_INVALID, "an alias for a topic that is too long")
        if topic:
            self._topics[alias] = topic
        elif not self._topics[alias]:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "an unknown topic alias")
        return self._topics[alias]


# Of clients of MQTT 3.1.1, and until an opened connection gets its own.
NO_ALIASES: Final = TopicAliases(0)


@dataclasses.dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What an installation may set. A bound of 0 is none."""

    connections: int = 20_000
    connections_per_address: int = 0
    connections_per_principal: int = 0
    receive_maximum: int = 65_535
    connect_seconds: float = 10.0
    messages_per_minute: int = 0


class Clients:
    """What the connections of all clients share; the listener adds how they come and go."""

    def __init__(self, host: Host, limits: ListenerLimits) -> None:
        self.host = host
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.counts = Counts()
        self.turns = ReadingTurns(self.loop)
        self.shares = Shares(self.loop, host, self.counts, limits.messages_per_minute)
        self.fanout = Fanout(host, self.counts, self.tasks)
        self.sessions = Sessions(self.loop, host, self._ended)
        # Where other servers share the database.
        self.keeper: Keeper | None = None
        self.unfinished = Unfinished()
        self.routes = RoutesOfAll()
        self._refused_logins = Hourly()
        self._connections: set[Connection] = set()
        self._addresses = PerAddress()
        self._full = False
        self._closing = False
        self._left = asyncio.Event()  # when closing: all of them

    def _ended(self, session: Session) -> None:
        self.fanout.remove(session)
        if self.keeper is not None:
            self.keeper.ended(session)

    def admit(self, connection: "Connection") -> bool:
        """Count a new connection; False: there are too many of them."""
        peer, limits = connection.peer, self.limits
        most, in_all = limits.connections_per_address, limits.connections
        is_full = most > 0 and self._addresses.is_full(peer, most, in_all)
        self._connections.add(connection)
        self._addresses.enter(peer)
        if self._full:
            connection.pause(FULL)
        return not (self._closing or is_full) and len(self._connections) <= in_all

    def lost(self, connection: "Connection") -> None:
        """Forget a connection, leave its session, and publish its will if one is due."""
        self._connections.discard(connection)
        if self._closing and not self._connections:
            self._left.set()
        self._addresses.leave(connection.peer)
        if connection.share is not None:
            self.shares.leave(connection.share, connection)
        session = connection.session
        if session is None or session.connection is not connection:
            if session is not None and connection.will is not None:
                self._publish_will(connection.will)
            return
        session.connection = None
        if self.keeper is not None:
            self.keeper.left(session, None if self._closing else connection.will)
            return
        if connection.will is not None and not self._closing:
            will = connection.will
            delay = min(will.message.delay, session.expiry)
            self.sessions.call_later(session, delay, lambda: self._publish_will(will))
        if session.expiry:
            self.fanout.detach(session)
        self.sessions.leave(session)

    def _publish_will(self, will: LastWill) -> None:
        self._receive_will(will, will.route, self)

    async def publish_will(self, will: LastWill) -> None:
        """Publish a will, and return once that is committed; another server may do so too."""
        route = will.route or await ask(self.host, will.principal, will.message.topic)
        published = _Published(self.loop)
        if self._receive_will(will, route, published):
            await published.committed

    def _receive_will(self, will: LastWill, route: Any, origin: Any) -> bool:
        """Return whether it is on its way to its commit."""
        try:
            # Who may send no more do not do so by their will either.
            if not will.may_be_published(self.host):
                self.counts.withheld_wills += 1
                log.warning(
                    "last will withheld: client without the right to publish",
                    name=will.principal.name,
                    topic=will.message.topic,
                )
                return False
            message, route = will.message, self.host.renewed(route)
            token, name = token_of(0, message.qos), b"will " + will.name if will.name else None
            if message.retain and not message.payload:
                self.host.receive_empty(origin, token, route, name, True)
            else:
                self.host.receive(origin, token, route, message.payload, name, True)
        except Exception:
            log.warning("last will not accepted", exc_info=True)
            return False
        return True

    def settled(self, messages: Sequence[Any]) -> None:
        """Wills need no acknowledgment."""

    def warn_of_refused_login(self, peer: str, username: str | None) -> None:
        """Warn of a refused log-in: a device with an old key tries again every few seconds."""
        network = network_of(peer)
        left_out = self._refused_logins.due((network, username or ""), network, now())
        if left_out is not None:
            more = {"not_logged_before": left_out} if left_out else {}
            log.warning("log-in refused", peer=peer, username=username, **more)
        if self._refused_logins.has_left_out():
            log.warning("further refused log-ins not logged within this hour")


class _Published:
    """Where a will comes from that somebody waits for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.committed: asyncio.Future[None] = loop.create_future()

    def settled(self, messages: Sequence[Any]) -> None:
        """Tell that it is committed."""
        del messages
        if not self.committed.done():
            self.committed.set_result(None)


class Unfinished:
    """Counts what connections hold beyond what each of them may hold uncounted."""

    def __init__(self) -> None:
        self.bytes = 0

    def count(self, connection: "Connection", *, waiting: bool) -> None:
        """Count anew what the connection holds.

        What waits for the server is whole packets mostly, and not the client's fault: it may
        become less here, never more.

        Raises:
            ProtocolError: all connections together would hold too much.
        """
        held = HEAD_BYTES if connection.oversize is not None else len(connection.rest)
        held = max(held - UNCOUNTED_BYTES, 0)
        if waiting:
            held = min(held, connection.held)
        total = self.bytes - connection.held + held
        if held > connection.held and total > MAXIMUM_UNFINISHED_BYTES:
            raise ProtocolError(Reason.QUOTA_EXCEEDED, "too many unfinished packets in all")
        self.bytes, connection.held = total, held

    def release(self, connection: "Connection") -> None:
        """Let go of what the connection holds."""
        connection.rest = b""
        connection.oversize = None
        self.bytes -= connection.held
        connection.held = 0

    @staticmethod
    def is_overdue(connection: "Connection", now: float) -> bool:
        """Return whether a packet has been unfinished for too long; to be asked now and then."""
        if connection.oversize is not None:
            # Of any length, so it may take any time, as long as it goes on.
            return now - connection.last_received > UNFINISHED_SECONDS
        if not connection.rest:
            connection.unfinished_since = 0.0
        elif not connection.unfinished_since:
            connection.unfinished_since = now
        return bool(connection.rest) and now - connection.unfinished_since > UNFINISHED_SECONDS


class Connection(Client):
    """Parses whole socket reads, and answers each packet in the order of receipt."""

    __slots__ = (
        "aliases",
        "clients",
        "held",
        "keepalive",
        "opened",
        "routes",
        "share",
        "unfinished_since",
    )

    def __init__(self, clients: Clients) -> None:
        super().__init__(
            clients.loop, clients.turns, MQTT_3_1_1, clients.host, clients.counts, clients.tasks
        )
        self.clients = clients
        # What it holds of unfinished packets beyond what it may hold uncounted.
        self.held = 0
        self.unfinished_since = 0.0
        # What its principal may have taken; None: everything.
        self.share: Share | None = None
        self.keepalive = 0.0
        self.opened = 0.0
        self.routes = NO_ROUTES
        self.aliases = NO_ALIASES

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet nobody: a client speaks first."""
        # asyncio's promise; uvloop's transports keep it without being instances of the class.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.opened = self.last_received = self.loop.time()
        peer = self.transport.get_extra_info("peername")
        self.peer = peer[0] if peer else ""
        if not self.clients.admit(self):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the session behind, and publish the will if the client did not say goodbye."""
        del exc
        self.transport = None
        self.clients.unfinished.release(self)
        if self.task is not None:
            self.task.cancel()
        if self.retained is not None:
            self.retained.close()
        if self.principal is not None and (more := _of_disconnected.due()) is not None:
            log.info("client disconnected", name=self.principal.name, peer=self.peer, **more)
        self.clients.lost(self)

    def pause_writing(self) -> None:
        """Read no more from a client that does not take its answers."""
        self.congested = self.loop.time()
        if self.session is not None:
            self.session.wait()
        self.pause(CONGESTED)

    def resume_writing(self) -> None:
        """Go on with a client that takes its answers again."""
        self.congested = 0.0
        if self.session is not None:
            self.session.send_waiting()
        if self.retained is not None:
            self.retained.wake()
        if not self.congested:  # what was sent just now may be too much again
            self.resume(CONGESTED)

    def close(self) -> None:
        """Close after what has been written is sent; what is unfinished is let go of."""
        super().close()
        if self.closing:
            self.clients.unfinished.release(self)

    def run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Answer a packet that needs the database; what follows it waits, in order."""
        task = super().run(work, name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ProtocolError):
            self.fail(error.reason, error.detail)
        elif isinstance(error, StoreUnavailableError):
            self.fail(Reason.SERVER_BUSY, "the database is not available")
        elif isinstance(error, HeliographError):
            self.fail(Reason.SERVER_BUSY, error.detail)
        else:
            log.error("packet not answered", peer=self.peer, exc_info=error)
            self.fail(Reason.UNSPECIFIED_ERROR, "the server failed")

    # Packets

    def _process(self, buffer: bytes) -> None:
        keeper = self.clients.keeper
        if keeper is not None and not keeper.is_sure(self):
            self.rest = buffer
            self.pause(DOUBT)
            return
        before, share = self.in_flight_bytes, self.share
        credit = share.credit if share is not None else 0.0
        # Nothing is awaited before the end of the buffer, so that rights can't change meanwhile.
        generation = self.host.generation
        if self.checked != generation:
            self.recheck()
            if self.pauses & CLOSING:
                return
        if self.routes.generation != generation:
            self.routes = NO_ROUTES  # until the first topic is asked for
        super()._process(buffer)
        if len(self.rest) < len(buffer):
            self.unfinished_since = 0.0
        is_open = not self.pauses & CLOSING
        if is_open and (self.held or len(self.rest) > UNCOUNTED_BYTES or self.oversize is not None):
            try:
                self.clients.unfinished.count(self, waiting=self.pauses & WAITING != 0)
            except ProtocolError as error:
                self._failed(error)
        # Of one who has said goodbye too: their next connection has the same share.
        if share is not None:
            share.credit -= self.in_flight_bytes - before
            # Who did no more than acknowledge what they were sent is heard all the same.
            if share.credit < 0 and share.credit < credit:
                self.clients.shares.overdraw(share, self)

    def give_way(self) -> None:
        """Let others go first: the client has said much."""
        self.counts.turns += 1
        super().give_way()

    def _check_unfinished(self, kind: int, size: int, buffer: bytes, start: int) -> None:
        if self.session is None and kind != PacketType.CONNECT:
            raise _not_connected()
        if kind != PacketType.PUBLISH:
            self._check_size(size, buffer[start:])

    def _check_size(self, size: int, body: bytes) -> None:
        """Refuse a packet that is too large and no PUBLISH, be it whole or only begun.

        Raises:
            ProtocolError: it is; a client that has just connected is answered already.
        """
        if self.session is not None:
            # Of a SUBSCRIBE of a megabyte each filter would have to be read in one go.
            if size > MAXIMUM_CONTROL_BYTES:
                raise ProtocolError(Reason.PACKET_TOO_LARGE, f"a packet of {size} bytes")
        elif size > MAXIMUM_CONNECT_BYTES:
            error = ProtocolError(Reason.PACKET_TOO_LARGE, f"a CONNECT of {size} bytes")
            self.write(packets.refusal(body, error))
            raise error

    def _control(self, buffer: bytes, at: int, start: int, stop: int) -> None:
        """Answer a packet that is not a PUBLISH.

        Raises:
            ProtocolError: the connection can't go on.
        """
        kind = packets.check_flags(buffer[at])
        session = self.session
        if session is None and kind is not PacketType.CONNECT:
            raise _not_connected()
        body = buffer[start:stop]
        self._check_size(len(body), body)
        if len(body) > LARGE_CONTROL_BYTES:
            self.give_way()
        if session is None:
            self._connect(body)
            return
        self._charge(0 if kind is PacketType.PUBACK else PACKET_COST)
        self._answer(session, kind, body)

    def _answer(self, session: Session, kind: PacketType, body: bytes) -> None:
        version = self.version
        match kind:
            case PacketType.PINGREQ:
                packets.read_ping(body)
                self.write(packets.PINGRESP)
            case PacketType.PUBACK:
                # There are as many that are due as messages that we have sent.
                if not session.acknowledged(packets.read_puback(body, version, kind)[0]):
                    self._charge(PACKET_COST)
            case PacketType.PUBREL:
                self._release(session, packets.read_puback(body, version, kind)[0])
            case PacketType.PUBREC | PacketType.PUBCOMP:
                self._answer_unknown(kind, body)  # nothing is sent at QoS 2
            case PacketType.SUBSCRIBE:
                subscribe = packets.read_subscribe(body, version)
                self._charge(FILTER_COST * len(subscribe.filters))
                self.run(self._subscribe(session, subscribe), "subscribe")
            case PacketType.UNSUBSCRIBE:
                unsubscribe = packets.read_unsubscribe(body, version)
                self._charge(FILTER_COST * len(unsubscribe.filters))
                self._unsubscribe(session, unsubscribe)
            case PacketType.DISCONNECT:
                self._disconnect(session, packets.read_disconnect(body, version))
            case _:
                raise ProtocolError(Reason.PROTOCOL_ERROR, f"{kind.name} after CONNECT")

    def _charge(self, messages: float) -> None:
        """Count the packet as so many messages of the principal's share."""
        if self.share is not None:
            self.share.credit -= messages * MESSAGE_BYTES

    # CONNECT and DISCONNECT

    def _connect(self, body: bytes) -> None:
        try:
            connect = packets.read_connect(body)
        except ProtocolError as error:
            self._refused(error.reason, error.detail)
            self.write(packets.refusal(body, error))
            self.close()
            return
        self.accept_limits(connect)
        self.run(self._log_in(connect), "connect")

    async def _log_in(self, connect: Connect) -> None:
        """Authenticate, check the will, and only then touch any session."""
        principal = await self._authenticate(connect)
        if principal is None:
            return
        limit, sessions = self.clients.limits.connections_per_principal, self.clients.sessions
        if limit and not principal.is_admin and sessions.of_principal(principal) >= limit:
            taken_over = sessions.find(principal, connect.client_id)
            if taken_over is None or taken_over.connection is None:
                self.refuse(Reason.QUOTA_EXCEEDED, "too many connections")
                return
        self.principal = principal
        self.credential = credential_of(principal, self.host.grants)
        if not is_current(principal, self.credential, self.host.grants):
            self.refuse(Reason.NOT_AUTHORIZED, "the credential has just ended")
            return
        if connect.will is not None:
            route = await self.host.route(principal, connect.will.topic)
            if not self.host.takes(route):
                self.refuse(Reason.NOT_AUTHORIZED, "the will's topic is not allowed")
                return
            name = secrets.token_bytes(8) if self.clients.keeper is not None else b""
            self.will = LastWill(connect.will, route, principal, self.credential, name)
        client_id = connect.client_id or f"heliograph-{uuid.uuid4().hex}"
        connack = packets.connack(self.version, properties=self._properties(connect, client_id))
        if len(connack) > self.client_maximum_packet_size:
            self.refuse(Reason.PACKET_TOO_LARGE, "CONNACK is larger than the client takes")
        elif self.clients.keeper is None:
            if not self.closing:
                self.enter(connect, principal, client_id)
        else:
            await self._claim(self.clients.keeper, connect, principal, client_id)

    async def _claim(
        self, keeper: Keeper, connect: Connect, principal: Principal, client_id: str
    ) -> None:
        def enter() -> Session:
            return self.enter(connect, principal, client_id)

        if keeper.enter_alone(self, connect, client_id, enter):
            return
        try:
            # It ends in its own time: what it has claimed by then has to be let go of.
            await asyncio.shield(keeper.enter(self, connect, client_id, enter))
        except StoreUnavailableError:
            self.refuse(Reason.SERVER_UNAVAILABLE, "the database is not available")

    async def _authenticate(self, connect: Connect) -> Principal | None:
        if connect.authentication_method is not None:
            self.refuse(Reason.BAD_AUTHENTICATION_METHOD, "no such method")
            return None
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                if connect.username is None and connect.password is None:
                    principal = self.host.anonymous()
                else:
                    principal = await self.host.login(
                        connect.username or "", connect.password or b"", self.peer
                    )
        except StoreUnavailableError:
            self.refuse(Reason.SERVER_UNAVAILABLE, "the database is not available")
            return None
        except TimeoutError:
            detail = (
                f"the log-in took more than {LOGIN_SECONDS:.0f} s: many log in at the same time"
            )
            self.refuse(Reason.SERVER_BUSY, detail)
            return None
        except HeliographError as error:
            limited = error.code is ErrorCode.RATE_LIMITED
            reason = Reason.CONNECTION_RATE_EXCEEDED if limited else Reason.SERVER_BUSY
            self.refuse(reason, error.detail)
            return None
        if principal is None:
            self.clients.warn_of_refused_login(self.peer, connect.username)
            named = connect.username is not None
            reason = Reason.BAD_USER_NAME_OR_PASSWORD if named else Reason.NOT_AUTHORIZED
            self.refuse(reason, "unknown user name or wrong key")
        return principal

    def enter(self, connect: Connect, principal: Principal, client_id: str) -> Session:
        """Give the client its session, the one that it has or a new one, and return that."""
        sessions = self.clients.sessions
        session = sessions.find(principal, client_id)
        if session is not None and session.connection is not None:
            previous, session.connection = session.connection, None
            # The client is back before its old connection has ended [MQTT-3.1.2-8].
            previous.will = session.will = None
            previous.fail(Reason.SESSION_TAKEN_OVER, "the client has connected again")
            sessions.leave(session)
            session = sessions.find(principal, client_id)
        if session is not None and connect.clean_start:
            sessions.end(session)
            session = None
        present = session is not None
        if session is None:
            session = Session(principal, client_id, self.counts)
        session.principal = principal
        session.expiry = min(connect.session_expiry, LONGEST_SESSION_SECONDS)
        session.connection = self
        self.share = self.clients.shares.enter(session.owner, principal)
        sessions.enter(session)
        self.clients.fanout.attach(session)
        self.session = session
        # Reading is paused meanwhile.
        if self.transport is not None:
            self.transport.set_protocol(self)
        self.keepalive = connect.keepalive * 1.5
        if connect.version == MQTT_5:
            self.aliases = TopicAliases()
        properties = self._properties(connect, client_id)
        self.write(packets.connack(self.version, session_present=present, properties=properties))
        if (more := _of_connected.due()) is not None:
            who = {"name": principal.name, "peer": self.peer, "client_id": client_id}
            log.info("client connected", **who, session_present=present, **more)
        session.resume()
        return session

    def _properties(self, connect: Connect, client_id: str) -> Properties:
        expiry = min(connect.session_expiry, LONGEST_SESSION_SECONDS)
        return Properties(
            receive_maximum=self.clients.limits.receive_maximum,
            assigned_client_identifier=None if connect.client_id else client_id,
            session_expiry_interval=expiry if expiry != connect.session_expiry else None,
            topic_alias_maximum=MAXIMUM_TOPIC_ALIASES,
            shared_subscription_available=0,
        )

    def _disconnect(self, session: Session, disconnect: Disconnect) -> None:
        expiry = disconnect.session_expiry
        if expiry is not None:
            if expiry and not session.expiry:
                raise ProtocolError(Reason.PROTOCOL_ERROR, "a session expiry from nothing")
            session.expiry = min(expiry, LONGEST_SESSION_SECONDS)
        if disconnect.reason != Reason.DISCONNECT_WITH_WILL_MESSAGE:
            self.will = None  # [MQTT-3.14.4-3]
        self.close()

    # PUBLISH

    def _publish(self, buffer: bytes, at: int, start: int, stop: int) -> bool:
        """Take a PUBLISH; False: it has to wait, and stays in the buffer."""
        session, first = self.session, buffer[at]
        if session is None:
            raise _not_connected()
        topic, packet_id, payload_at, properties = packets.read_publish(
            buffer, at, start, stop, self.version
        )
        if properties is not None:
            topic = self.aliases.resolve(topic, properties)
        route = self.routes.get(topic)
        if route is None:
            route = self._known_route(session.principal, topic)
            if route is None:
                self.run(self._find_route(session.principal, topic), "route")
                return False
        if packet_id:
            qos = first >> 1 & 3
            if qos == QOS_1 and self.in_flight < self.clients.limits.receive_maximum:
                self.in_flight += 1  # all that `_begin_delivery` has to do
            elif not self._begin_delivery(session, packet_id, qos):
                return True
            token = packet_id | qos << 16  # `token_of`
            delivery = session.ledger_name
        else:
            token, delivery = 0, None
        payload = buffer[payload_at:stop]
        host = self.host
        try:
            if len(payload) > MAXIMUM_PAYLOAD_BYTES:
                size = host.receive_oversize(self, token, route, payload[:KEPT_BYTES], len(payload))
            elif not payload and first & RETAIN:
                size = host.receive_empty(self, token, route, delivery, first & DUPLICATE != 0)
            else:
                size = host.receive(self, token, route, payload, delivery, first & DUPLICATE != 0)
        except HeliographError:
            self._abandon_delivery(session, token)
            self.pause(UNTAKEN)
            return False
        self.in_flight_bytes += size
        return True

    def _known_route(self, principal: Principal, topic: bytes) -> Any:
        """Return and keep the route of a topic that is new here; None: ask the database.

        A task would cost a turn of the event loop, and a gateway has thousands of topics.
        """
        route = self.host.known_route(principal, packets.decode_topic(topic))
        if route is not None:
            self._keep_route(principal, topic, route)
        return route

    async def _find_route(self, principal: Principal, topic: bytes) -> None:
        """Ask for the route of a topic, until the database answers, and keep it."""
        name = packets.decode_topic(topic)
        self._keep_route(principal, topic, await ask(self.host, principal, name))

    def _keep_route(self, principal: Principal, topic: bytes, route: Any) -> None:
        routes = self.clients.routes.of(principal, self.host.generation)
        routes.keep(topic, route, accepted=self.host.accepts(route))
        self.routes = routes

    def _begin_delivery(self, session: Session, packet_id: int, qos: int) -> bool:
        """Count a QoS 1 or 2 delivery; False: it is known, and needs no more than its answer.

        Raises:
            ProtocolError: more are under way than the receive maximum [MQTT-3.3.4-7].
        """
        if qos == QOS_2:
            committed = session.received.is_committed(packet_id)
            if committed is not None:
                if committed:
                    self.write(packets.pubrec(self.version, packet_id))
                return False
        maximum = self.clients.limits.receive_maximum
        if self.version == MQTT_5 and self.in_flight >= maximum:
            raise ProtocolError(Reason.RECEIVE_MAXIMUM_EXCEEDED, "too many messages in flight")
        if qos == QOS_2:
            # Those of earlier connections count, and in MQTT 3.1.1 too: they are kept.
            if len(session.received) >= maximum:
                raise ProtocolError(
                    Reason.RECEIVE_MAXIMUM_EXCEEDED, "too many messages not released"
                )
            session.received.begin(packet_id)
        self.in_flight += 1
        return True

    def _abandon_delivery(self, session: Session, token: int) -> None:
        """Undo `_begin_delivery` for a message that was not taken."""
        if token:
            self.in_flight -= 1
            if token >> 16 == QOS_2:
                session.received.end(token & PACKET_ID)

    def _stream_past(self, packet: Oversize, data: bytes) -> bytes:
        if self.share is not None:
            self.share.credit -= len(data)
        rest = super()._stream_past(packet, data)
        if self.oversize is None:
            self.clients.unfinished.release(self)
        return rest

    async def _refuse_oversize(self, packet: Oversize) -> None:
        """Keep the head of a packet that has been let go of as a rejected message.

        Raises:
            ProtocolError, StoreUnavailableError, HeliographError: it has to be sent again.
        """
        head = packet.head
        topic, packet_id, payload_at, properties = packets.read_publish(
            head, 0, 1, len(head), self.version
        )
        if properties is not None:
            topic = self.aliases.resolve(topic, properties)
        session, principal = self.session, self.principal
        if session is None or principal is None:
            return
        route = await self.host.route(principal, packets.decode_topic(topic))
        token = token_of(packet_id, packet.qos)
        if packet_id and not self._begin_delivery(session, packet_id, packet.qos):
            return
        payload, size = head[payload_at:][:KEPT_BYTES], packet.size - (payload_at - 1)
        try:
            self.in_flight_bytes += self.host.receive_oversize(self, token, route, payload, size)
        except HeliographError:
            self._abandon_delivery(session, token)
            raise

    def settled(self, messages: list[Settled]) -> None:
        """Acknowledge what has been committed, in the order of receipt and in one write.

        A PUBACK goes to the connection that the message came by, or nowhere: on another one the
        client repeats the message, and is answered there. The state of QoS 2 is the session's.
        """
        answers: list[bytes] = []
        plain: list[int] = []
        before = self.in_flight_bytes
        for message in messages:
            self.in_flight_bytes -= message.size
            refused = bool(message.faults) and not message.rows and self.version == MQTT_5
            for token in message.tokens:
                qos = token >> 16
                if qos == QOS_1:
                    self.in_flight -= 1
                    if not refused:
                        plain.append(token & PACKET_ID)
                        continue
                elif qos == 0:
                    continue
                answers.append(packets.pubacks(plain))
                plain = []
                if qos == QOS_1:
                    answers.append(self._refusal(self, packets.puback, message, token))
                else:
                    self._settle_received(message, token, answers)
        answers.append(packets.pubacks(plain))
        self.write(b"".join(answers))
        share = self.share
        if share is not None and share.is_over:
            share.committed += before - self.in_flight_bytes
        if self.pauses & OWN and self.in_flight_bytes < IN_FLIGHT_BYTES // 2:
            self.resume(OWN)

    def _refusal(
        self, client: Client, write: Callable[..., bytes], message: Settled, token: int
    ) -> bytes:
        reason = Reason(self.host.puback_reason(message))
        packet_id, detail = token & PACKET_ID, message.faults[0].detail
        whole = write(MQTT_5, packet_id, reason, detail)
        return client.explained(whole, write(MQTT_5, packet_id, reason))

    def _settle_received(self, message: Settled, token: int, answers: list[bytes]) -> None:
        """Answer a QoS 2 message on whatever connection its session has by now."""
        packet_id, session = token & PACKET_ID, self.session
        if session is None or session.received.is_committed(packet_id) is None:
            return
        connection = session.connection
        if connection is None:
            session.received.commit(packet_id)
            return
        if connection.version == MQTT_5 and message.faults and not message.rows:
            # A PUBREC with an error ends the exchange: no PUBREL follows [MQTT-4.3.3-4].
            session.received.end(packet_id)
            connection.in_flight = max(connection.in_flight - 1, 0)
            answer = self._refusal(connection, packets.pubrec, message, token)
        else:
            session.received.commit(packet_id)
            answer = packets.pubrec(connection.version, packet_id)
        if connection is self:
            answers.append(answer)
        else:
            connection.write(answer)

    def _release(self, session: Session, packet_id: int) -> None:
        if session.received.is_committed(packet_id) is False:
            # Not committed, so no PUBREC has been sent that it could be the answer to.
            raise ProtocolError(Reason.PROTOCOL_ERROR, "PUBREL before PUBREC")
        known = session.received.end(packet_id)
        if known and self.in_flight:
            self.in_flight -= 1
        reason = Reason.SUCCESS if known else Reason.PACKET_IDENTIFIER_NOT_FOUND
        self.write(packets.pubcomp(self.version, packet_id, reason))

    # SUBSCRIBE and UNSUBSCRIBE

    async def _subscribe(self, session: Session, subscribe: Subscribe) -> None:
        """Answer a SUBSCRIBE, then send what is retained for it."""
        fanout, identifier = self.clients.fanout, subscribe.identifier
        keeper = self.clients.keeper
        # A session's first subscriptions select nothing that came before them.
        stand = keeper.stand if keeper is not None and not session.subscriptions else None
        self._check_answer(len(subscribe.filters) + subscribe.unread)
        reasons: list[int] = []
        retained: list[tuple[Subscription, int]] = []
        for subscription in subscribe.filters:
            reason = await self._grant(session, subscription)
            if session.connection is not self:
                return  # taken over meanwhile, or ended: nobody would ever unsubscribe
            if reason < Reason.UNSPECIFIED_ERROR:
                fresh = fanout.add(session, subscription, reason, identifier)
                handling = subscription.retain_handling
                if handling == 0 or (handling == 1 and fresh):
                    retained.append((subscription, reason))
            reasons.append(reason)
        reasons += [Reason.QUOTA_EXCEEDED] * subscribe.unread
        for reason in reasons:
            if reason >= Reason.UNSPECIFIED_ERROR:
                self.counts.refused_filters[Reason(reason).name] += 1
        if keeper is not None and not await keeper.subscribed(session, stand):
            return
        self.write(packets.suback(self.version, subscribe.packet_id, reasons))
        for subscription, qos in retained:
            self.retained = self.retained or Retained(self)
            self.retained.send(subscription.filter, qos, identifier)

    async def _grant(self, session: Session, subscription: Subscription) -> int:
        """Return the granted QoS, or why the subscription is refused."""
        topic_filter, principal = subscription.filter, self.principal
        if topic_filter.startswith("$share/"):
            return Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if topic_filter.count("/") >= MAXIMUM_FILTER_LEVELS or is_longer_than(
            topic_filter, self.host.longest_topic
        ):
            return Reason.TOPIC_FILTER_INVALID
        if self.clients.fanout.is_full(session, topic_filter):
            return Reason.QUOTA_EXCEEDED
        if principal is None or not await self.host.may_subscribe(principal, topic_filter):
            return Reason.NOT_AUTHORIZED
        return min(subscription.qos, 1)

    def _unsubscribe(self, session: Session, unsubscribe: Unsubscribe) -> None:
        self._check_answer(len(unsubscribe.filters))
        reasons = []
        for topic_filter in unsubscribe.filters:
            found = self.clients.fanout.discard(session, topic_filter)
            if self.retained is not None:
                self.retained.discard(topic_filter)
            reasons.append(Reason.SUCCESS if found else Reason.NO_SUBSCRIPTION_EXISTED)
        answer = packets.unsuback(self.version, unsubscribe.packet_id, reasons)
        keeper = self.clients.keeper
        if keeper is None or not session.expiry:
            self.write(answer)
        else:
            self.run(self._answer_when_stored(keeper, session, answer), "unsubscribe")

    async def _answer_when_stored(self, keeper: Keeper, session: Session, answer: bytes) -> None:
        if await keeper.subscribed(session, None):
            self.write(answer)

    def _check_answer(self, filters: int) -> None:
        """Refuse a packet of so many filters if its answer, a byte for each, is too large.

        Raises:
            ProtocolError: it is, for this client.
        """
        if self.version == MQTT_5:
            size = len(packets.suback(MQTT_5, 1, bytes(filters)))
            if size > self.client_maximum_packet_size:
                detail = f"the answer of {size} bytes is larger than the client takes"
                raise ProtocolError(Reason.PACKET_TOO_LARGE, detail)


def _not_connected() -> ProtocolError:
    return ProtocolError(Reason.PROTOCOL_ERROR, "the first packet is not CONNECT")  # [MQTT-3.1.0-1]
