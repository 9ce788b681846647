"""The MQTT endpoint for devices: accepts connections, keeps sessions, fans out what is seen.

It is an endpoint for telemetry, not a broker: only the project's own topics exist, nothing is
acknowledged before its commit, and nothing retained lives in memory only.
"""

import asyncio
import contextlib
import ssl
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog

from heliograph.address import network_of
from heliograph.errors import ErrorCode, HeliographError, StoreUnavailableError
from heliograph.hourly import Hourly
from heliograph.model.principal import Principal
from heliograph.model.time import now
from heliograph.mqtt import packets
from heliograph.mqtt.aliases import TopicAliases
from heliograph.mqtt.connection import Connection
from heliograph.mqtt.counts import Counts
from heliograph.mqtt.fanout import Fanout, Seen
from heliograph.mqtt.host import Host
from heliograph.mqtt.limits import (
    MAXIMUM_CONNECT_BYTES,
    MAXIMUM_FILTER_LEVELS,
    MAXIMUM_TOPIC_ALIASES,
    MAXIMUM_UNFINISHED_BYTES,
    UNCOUNTED_BYTES,
    ListenerLimits,
)
from heliograph.mqtt.oversize import HEAD_BYTES
from heliograph.mqtt.packets import MQTT_5, Connect, Properties, ProtocolError, Reason
from heliograph.mqtt.pausing import CLOSING, FULL, UNTAKEN, ReadingTurns
from heliograph.mqtt.routing import RoutesOfAll
from heliograph.mqtt.session import Session, Sessions
from heliograph.mqtt.settlement import token_of
from heliograph.mqtt.shares import Shares
from heliograph.mqtt.topics import TopicKind, is_longer_than
from heliograph.mqtt.wills import LastWill

if TYPE_CHECKING:
    from heliograph.model.event import Committed

log = structlog.get_logger()

SWEEP_SECONDS = 1.0
DRAIN_SECONDS = 10.0
# At the end clients get this long to take their last acknowledgments and go.
LINGER_SECONDS = 1.0
# A client that takes nothing of what it is sent for so long is taken for gone.
CONGESTED_SECONDS = 60.0
# A walk over all connections; many devices that register themselves must not cause one each.
RECHECK_SECONDS = 0.1
LOGIN_SECONDS = 10.0
UNFINISHED_SECONDS = 60.0

# Of a client that is not known yet: a CONNECT, with its first byte and its length.
_HELD: Final = MAXIMUM_CONNECT_BYTES + 5
# One for all: what is read is copied out of it at once.
_READ: Final = memoryview(bytearray(_HELD))


class Listener:
    """Serves MQTT 3.1.1 and 5 over TCP and TLS."""

    def __init__(self, host: Host, limits: ListenerLimits) -> None:
        self.host = host
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.counts = Counts()
        self.turns = ReadingTurns(self.loop)
        self.shares = Shares(
            self.loop,
            self.counts,
            lambda: host.committed,
            lambda: host.in_flight,
            limits.messages_per_minute,
        )
        self.sessions = Sessions(self.loop)
        self.fanout = Fanout(host, self.counts, self.tasks)
        self.sessions.forgotten = self.fanout.remove
        self.sessions.entered, self.sessions.left = host.entered, host.left
        self.unfinished = Unfinished()
        self.routes = RoutesOfAll()
        self._opening = Opening(self)
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._addresses: dict[str, int] = {}
        self._unflushed: list[Connection] = []
        self._full = False
        self._closing = False
        self._recheck_timer: asyncio.TimerHandle | None = None
        self._recheck_again = False
        self._left = asyncio.Event()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses that accept connections now."""
        return [
            socket.getsockname()[:2] for server in self._servers for socket in server.sockets or ()
        ]

    @property
    def connections(self) -> int:
        """The number of connections that are open."""
        return len(self._connections)

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on this address.

        Raises:
            OSError: the address can't be bound.
        """
        server = await self.loop.create_server(
            lambda: Greeting(Connection(self)),
            host or None,
            port,
            ssl=tls,
            ssl_handshake_timeout=self.limits.connect_seconds if tls is not None else None,
            backlog=4_096,
            reuse_address=True,
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
        for server in self._servers:
            server.close()
        for connection in self._connections:
            connection.pause(FULL)
        for connection in self._connections:
            connection.stop_retained()

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
            if connection.session is not None and connection.version == 5:
                connection.write(packets.disconnect(5, Reason.SERVER_SHUTTING_DOWN))
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

    # Connections come and go

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; False: there are too many of them."""
        count = self._addresses.get(connection.peer, 0)
        per_address = self.limits.connections_per_address
        self._connections.add(connection)
        self._addresses[connection.peer] = count + 1
        if self._full:
            connection.pause(FULL)
        if self._closing or (per_address and count >= per_address):
            return False
        return len(self._connections) <= self.limits.connections

    def lost(self, connection: Connection) -> None:
        """Forget a connection, leave its session, and publish its will if one is due."""
        self._connections.discard(connection)
        if self._closing and not self._connections:
            self._left.set()
        count = self._addresses.get(connection.peer, 0) - 1
        if count > 0:
            self._addresses[connection.peer] = count
        else:
            self._addresses.pop(connection.peer, None)
        if connection.share is not None:
            self.shares.leave(connection.share, connection)
        session = connection.session
        if session is None or session.connection is not connection:
            if session is not None and connection.will is not None:
                self._publish_will(connection.will)
            return
        session.connection = None
        if connection.will is not None and not self._closing:
            will = connection.will
            delay = min(will.message.delay, session.expiry)
            self.sessions.call_later(session, delay, lambda: self._publish_will(will))
        if session.expiry:
            self.fanout.detach(session)
        self.sessions.leave(session)

    def refused(self, connection: Connection, reason: Reason, detail: str) -> None:
        """Count and note that a connection was ended for a fault of the client's."""
        self.counts.refusals[reason.name] += 1
        name = connection.principal.name if connection.principal else None
        log.debug(
            "connection ended", reason=reason.name, detail=detail, peer=connection.peer, name=name
        )

    def _publish_will(self, will: "LastWill") -> None:
        try:
            # Who may send no more does not do so by his will either.
            if not will.may_be_published(self.host):
                self.counts.withheld_wills += 1
                log.warning(
                    "a last will is not published: what it was set with is no longer valid",
                    name=will.principal.name,
                    topic=will.message.topic,
                )
                return
            message, route = will.message, self.host.renewed(will.route)
            token = token_of(0, message.qos)
            if message.retain and not message.payload:
                self.host.receive_empty(self, token, route, None, False)
            else:
                self.host.receive(self, token, route, message.payload, None, False)
        except Exception:
            log.warning("a last will could not be taken", exc_info=True)

    def settled(self, messages: Sequence[Any]) -> None:
        """Wills need no acknowledgment."""

    def flush_soon(self, connection: Connection) -> None:
        """Have it write what it has to send, before the loop's next turn."""
        if not self._unflushed:
            self.loop.call_soon(self._flush)
        self._unflushed.append(connection)

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, []
        for connection in unflushed:
            connection.flush()

    # Packets that need more than their connection

    def connect(self, connection: Connection, body: bytes) -> None:
        """Answer a CONNECT."""
        try:
            connect = packets.read_connect(body)
        except ProtocolError as error:
            self.refused(connection, error.reason, error.detail)
            connection.write(packets.refusal(body, error))
            connection.close()
            return
        connection.heed(connect)
        connection.run(self._opening.open(connection, connect), "connect")

    def of_principal(self, principal: Principal) -> int:
        """Return how many connections the principal has."""
        return self.sessions.of_principal(principal)

    def longest_session(self, seconds: int) -> int:
        """Return how long a session that asks for so many seconds is kept."""
        return self.sessions.longest(seconds)

    async def subscribe(self, connection: Connection, subscribe: packets.Subscribe) -> None:
        """Answer a SUBSCRIBE, then send what is retained for it."""
        session = connection.session
        if session is None:
            return
        connection.check_answer(len(subscribe.filters) + subscribe.unread)
        reasons: list[int] = []
        retained: list[tuple[packets.Subscription, int]] = []
        for subscription in subscribe.filters:
            reason = await self._subscribe(connection, session, subscription)
            if session.connection is not connection:
                return  # taken over meanwhile, or ended: nobody would ever unsubscribe
            if reason < Reason.UNSPECIFIED_ERROR:
                fresh = self.fanout.add(session, subscription, reason, subscribe.identifier)
                if subscription.retain_handling == 0 or (
                    subscription.retain_handling == 1 and fresh
                ):
                    retained.append((subscription, reason))
            reasons.append(reason)
        self.host.watch()
        reasons += [Reason.QUOTA_EXCEEDED] * subscribe.unread
        self._count_refused(reasons)
        connection.write(packets.suback(connection.version, subscribe.packet_id, reasons))
        for subscription, qos in retained:
            connection.send_retained(subscription.filter, qos, subscribe.identifier)

    async def _subscribe(
        self, connection: Connection, session: Session, subscription: packets.Subscription
    ) -> int:
        """Return the granted QoS, or why the subscription is refused."""
        topic_filter, principal = subscription.filter, connection.principal
        if topic_filter.startswith("$share/"):
            return Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if topic_filter.count("/") >= MAXIMUM_FILTER_LEVELS or is_longer_than(
            topic_filter, self.host.longest_topic
        ):
            return Reason.TOPIC_FILTER_INVALID
        if self.fanout.is_full(session, topic_filter):
            return Reason.QUOTA_EXCEEDED
        if principal is None or not await self.host.may_subscribe(principal, topic_filter):
            return Reason.NOT_AUTHORIZED
        return min(subscription.qos, 1)

    def _count_refused(self, reasons: Sequence[int]) -> None:
        for reason in reasons:
            if reason >= Reason.UNSPECIFIED_ERROR:
                self.counts.refused_filters[Reason(reason).name] += 1

    def unsubscribe(self, connection: Connection, unsubscribe: packets.Unsubscribe) -> None:
        """Answer an UNSUBSCRIBE."""
        session = connection.session
        if session is None:
            return
        connection.check_answer(len(unsubscribe.filters))
        reasons = []
        for topic_filter in unsubscribe.filters:
            found = self.fanout.discard(session, topic_filter)
            if connection.retained is not None:
                connection.retained.discard(topic_filter)
            reasons.append(Reason.SUCCESS if found else Reason.NO_SUBSCRIPTION_EXISTED)
        connection.write(packets.unsuback(connection.version, unsubscribe.packet_id, reasons))

    # What the rest of the server tells

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
            if connection.session is not None and connection.version == 5:
                connection.write(packets.disconnect(5, Reason.ADMINISTRATIVE_ACTION))
            connection.abort()

    def watched(self) -> bool:
        """Tell whether anybody subscribes to anything now."""
        return self.fanout.has_subscribers

    def show(self, events: "Sequence[Committed]") -> None:
        """Send what has been committed to those who subscribe to it."""
        self.fanout.show(events)

    async def configure(
        self, sensor: int, network_identifier: str, names: Sequence[str], payload: bytes
    ) -> None:
        """Send a configuration to those who subscribe to it now; the others ask for it later."""
        topics = tuple(f"{TopicKind.CONFIGURATIONS}/{name}" for name in names)
        await self.fanout.configure(Seen(topics, sensor, network_identifier, payload))


class Opening:
    """Answers CONNECT. Nothing of any session is touched before the client is known."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._refusals = Hourly()

    async def open(self, connection: Connection, connect: Connect) -> None:
        """Authenticate, check the will, find or make the session, and answer."""
        principal = await self._authenticate(connection, connect)
        if principal is None:
            return
        limit = self._listener.limits.connections_per_principal
        if (
            limit
            and not principal.is_admin
            and self._listener.sessions.of_principal(principal) >= limit
            and not self._takes_over(principal, connect.client_id)
        ):
            connection.refuse(Reason.QUOTA_EXCEEDED, "too many connections")
            return
        connection.principal = principal
        connection.credential = self._listener.host.credential(principal)
        if not self._listener.host.is_current(principal, connection.credential):
            connection.refuse(Reason.NOT_AUTHORIZED, "the credential has just ended")
            return
        if connect.will is not None:
            route = await self._listener.host.route(principal, connect.will.topic)
            if not self._listener.host.accepts(route):
                connection.refuse(Reason.NOT_AUTHORIZED, "the will's topic is not allowed")
                return
            connection.will = LastWill(connect.will, route, principal, connection.credential)
        if not connection.closing:
            self._enter(connection, connect, principal)

    def _takes_over(self, principal: Principal, client_id: str) -> bool:
        session = self._listener.sessions.find(principal, client_id)
        return session is not None and session.connection is not None

    async def _authenticate(self, connection: Connection, connect: Connect) -> Principal | None:
        listener = self._listener
        if connect.authentication_method is not None:
            connection.refuse(Reason.BAD_AUTHENTICATION_METHOD, "no such method")
            return None
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                if connect.username is None and connect.password is None:
                    principal = listener.host.anonymous()
                else:
                    principal = await listener.host.login(
                        connect.username or "", connect.password or b"", connection.peer
                    )
        except StoreUnavailableError:
            connection.refuse(Reason.SERVER_UNAVAILABLE, "the database is not available")
            return None
        except TimeoutError:
            detail = (
                f"the log-in took more than {LOGIN_SECONDS:.0f} s: many log in at the same time"
            )
            connection.refuse(Reason.SERVER_BUSY, detail)
            return None
        except HeliographError as error:
            limited = error.code is ErrorCode.RATE_LIMITED
            reason = Reason.CONNECTION_RATE_EXCEEDED if limited else Reason.SERVER_BUSY
            connection.refuse(reason, error.detail)
            return None
        if principal is None:
            self._refuse_login(connection, connect)
        return principal

    def _refuse_login(self, connection: Connection, connect: Connect) -> None:
        self._tell(connection.peer, connect.username)
        reason = (
            Reason.NOT_AUTHORIZED if connect.username is None else Reason.BAD_USER_NAME_OR_PASSWORD
        )
        connection.refuse(reason, "unknown user name or wrong key")

    def _tell(self, peer: str, username: str | None) -> None:
        """Warn of a refused log-in: a device with an old key tries again every few seconds."""
        network = network_of(peer)
        untold = self._refusals.due((network, username or ""), network, now())
        if untold is not None:
            more = {"not_told_before": untold} if untold else {}
            log.warning("log-in refused", peer=peer, username=username, **more)
        if self._refusals.has_left_out():
            log.warning("more log-ins are refused: they are not named within this hour")

    def _enter(self, connection: Connection, connect: Connect, principal: Principal) -> None:
        sessions = self._listener.sessions
        client_id = connect.client_id or f"heliograph-{uuid.uuid4().hex}"
        properties = self._properties(connect, client_id)
        largest = connection.client_maximum_packet_size
        if len(packets.connack(connection.version, properties=properties)) > largest:
            connection.refuse(Reason.PACKET_TOO_LARGE, "CONNACK is larger than the client takes")
            return
        session = sessions.find(principal, client_id)
        if session is not None and session.connection is not None:
            previous, session.connection = session.connection, None
            if session.expiry and not connect.clean_start and previous.delays_will:
                previous.will = None  # its session goes on in time [MQTT-3.1.3-9]
            previous.fail(Reason.SESSION_TAKEN_OVER, "the client has connected again")
            sessions.leave(session)
            session = sessions.find(principal, client_id)
        if session is not None and connect.clean_start:
            sessions.end(session)
            session = None
        present = session is not None
        if session is None:
            session = Session(principal, client_id, self._listener.counts)
        session.principal = principal
        session.expiry = self._expiry(connect)
        session.connection = connection
        connection.share = self._listener.shares.enter(session.owner, principal)
        sessions.enter(session)
        self._listener.fanout.attach(session)
        connection.session = session
        connection.is_known()
        connection.keepalive = connect.keepalive * 1.5
        if connect.version == MQTT_5:
            connection.aliases = TopicAliases()
        connection.write(
            packets.connack(connection.version, session_present=present, properties=properties)
        )
        session.resume()

    def _expiry(self, connect: Connect) -> int:
        return self._listener.longest_session(connect.session_expiry)

    def _properties(self, connect: Connect, client_id: str) -> Properties:
        expiry = self._expiry(connect)
        return Properties(
            receive_maximum=self._listener.limits.receive_maximum,
            assigned_client_identifier=None if connect.client_id else client_id,
            session_expiry_interval=expiry if expiry != connect.session_expiry else None,
            topic_alias_maximum=MAXIMUM_TOPIC_ALIASES,
            shared_subscription_available=0,
        )


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


class Unfinished:
    """Counts what connections hold beyond what each of them may hold uncounted."""

    def __init__(self) -> None:
        self.bytes = 0

    def count(self, connection: Connection, *, waiting: bool) -> None:
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

    def release(self, connection: Connection) -> None:
        """Let go of what the connection holds."""
        connection.rest = b""
        connection.oversize = None
        self.bytes -= connection.held
        connection.held = 0

    @staticmethod
    def is_overdue(connection: Connection, now: float) -> bool:
        """Tell, if asked every now and then, whether a packet has been unfinished for too long."""
        if connection.oversize is not None:
            # Of any length, so it may take any time, as long as it goes on.
            return now - connection.last_received > UNFINISHED_SECONDS
        if not connection.rest:
            connection.unfinished_since = 0.0
        elif not connection.unfinished_since:
            connection.unfinished_since = now
        return bool(connection.rest) and now - connection.unfinished_since > UNFINISHED_SECONDS
