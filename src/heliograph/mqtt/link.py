"""The link to an external broker: one session, for as long as the server runs.

    connect ─▶ CONNACK ─▶ (UNSUBSCRIBE) ─▶ SUBSCRIBE ─▶ up ─▶ lost ─▶ wait ─▶ connect …

The session is persistent: what is published while the server is away waits at the broker.

A message belongs to the connection that it came by. When that is gone, what became of the
message concerns nobody: the broker sends it again on the next one.
"""

import asyncio
import contextlib
import dataclasses
import random
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import structlog

from heliograph.errors import HeliographError, StoreUnavailableError
from heliograph.model.principal import Principal
from heliograph.model.records import MAXIMUM_PAYLOAD_BYTES, BrokerDrops
from heliograph.model.time import SECOND, now
from heliograph.mqtt.codec import packets
from heliograph.mqtt.codec.packets import Connack, Suback, Unsuback
from heliograph.mqtt.codec.reasons import MQTT_3_1_1, MQTT_5, PacketType, ProtocolError, Reason
from heliograph.mqtt.host import Host, Settled
from heliograph.mqtt.publications import Publications
from heliograph.mqtt.reading import (
    CLOSING,
    DUPLICATE,
    FULL,
    IN_FLIGHT_BYTES,
    KEPT_BYTES,
    MAXIMUM_PACKET_BYTES,
    OWN,
    RETAIN,
    RETRY_SECONDS,
    UNTAKEN,
    Oversize,
    PacketProtocol,
    ReadingTurns,
    Routes,
    ask,
)

if TYPE_CHECKING:
    from heliograph.broker_url import BrokerUrl

log = structlog.get_logger()

CONNECT_SECONDS = 10.0
CHECK_SECONDS = 1.0
STUCK_SECONDS = 60.0
FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 5.0
# A connection that lasted so long was a good one: the next attempt comes soon.
GOOD_SECONDS = 10.0
LINGER_SECONDS = 2.0
GROUP = "heliograph"
DATA = ("measurements/+", "log-messages/+", "logs/+", "heartbeats/+", "acknowledgments/+")
STATE = ("status/+",)
# What the broker says of itself: how many messages it has dropped, and for how long it has run,
# which distinguishes the counts of one run from those of the next.
DROPPED = "$SYS/broker/publish/messages/dropped"
UPTIME = "$SYS/broker/uptime"
WATCH = (DROPPED, UPTIME)
# It says the uptime each `sys_interval`, by its clock, and we note it later by ours.
SLACK_SECONDS = 60
LONGEST_NUMBER = 18
SUBSCRIBING, UNSUBSCRIBING = 1, 2  # packet ids
STATUS = b"status/"
BROKERS_OWN = "$SYS/"
LONGEST_NAME = 64
# Deliveries that a broker may not know yet to be acknowledged.
MOST_UNCONFIRMED = 100_000

# Of a CONNACK, where the name of the reason leaves a person with a question.
_REFUSALS = {
    Reason.UNSUPPORTED_PROTOCOL_VERSION: "the broker does not speak MQTT 5",
    Reason.CLIENT_IDENTIFIER_NOT_VALID: "the broker does not take MQTT_CLIENT_ID",
    Reason.BAD_USER_NAME_OR_PASSWORD: "wrong user name or password",
    Reason.NOT_AUTHORIZED: "not authorized: wrong user name or password, or not allowed",
    Reason.SERVER_UNAVAILABLE: "the broker is not available",
    Reason.SERVER_BUSY: "the broker is busy",
}

Delivery = tuple[bytes, int]

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)
AnswerT = TypeVar("AnswerT", Connack, Suback, Unsuback)


@dataclasses.dataclass(frozen=True, slots=True)
class LinkOptions:
    """How to log in, and how much to ask for."""

    client_id: str = "heliograph"
    # Where packets come; None: nowhere.
    packets: str | None = None
    username: str | None = None
    password: str | None = None
    shared: bool = False
    keepalive: int = 30
    receive_maximum: int = 65_535
    tls: ssl.SSLContext | None = None
    server_name: str | None = None


class LinkError(Exception):
    """Why there is no connection, in plain words."""


async def reach(
    broker: "BrokerUrl", options: LinkOptions, protocol: Callable[[], ProtocolT]
) -> ProtocolT:
    """Return a connection to the broker, which nobody has logged in by yet.

    Raises:
        LinkError: there is none.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                protocol,
                broker.host,
                broker.port,
                ssl=options.tls,
                server_hostname=(options.server_name or broker.host) if options.tls else None,
            )
    except TimeoutError:
        raise LinkError(f"{broker} does not answer within {CONNECT_SECONDS:.0f} s") from None
    except ssl.SSLCertVerificationError as error:
        raise LinkError(f"the broker's certificate: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise LinkError(f"TLS with {broker} failed: {_plain(error)}") from None
    except (socket.gaierror, ValueError):  # no name at all is a UnicodeError
        raise LinkError(f"there is no host {broker.host!r}") from None
    except ConnectionRefusedError:
        raise LinkError(f"nothing listens at {broker}") from None
    except OSError as error:
        # Who knows no TLS hangs up on its first words.
        doubt = "; does it speak TLS there?" if options.tls else ""
        raise LinkError(f"{broker} can't be reached: {_plain(error)}{doubt}") from None
    return connection


class Link:
    """Keeps a session with a broker; its messages come back as acknowledgments."""

    def __init__(self, host: Host, broker: "BrokerUrl", options: LinkOptions) -> None:
        self.host = host
        self.broker = broker
        self.publications = Publications()
        self.dropped = Dropped()
        # What the ledger of deliveries calls the session.
        self.ledger_name = f"link {broker.host}:{broker.port} {options.client_id}".encode()
        # Why there is no connection; None while there is one.
        self.problem: str | None = "not connected yet"
        self.connects = 0
        self._options = options
        self._connection: LinkConnection | None = None
        self._full = False
        self._stopping = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether messages arrive."""
        return self.problem is None

    @property
    def waiting(self) -> int:
        """How many messages the broker has not taken from us yet."""
        return len(self.publications)

    @property
    def address(self) -> tuple[str, int]:
        """Where the broker is."""
        return self.broker.host, self.broker.port

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return when the broker has taken the message; see `Publications.publish`."""
        await self.publications.publish(topic, payload, retain=retain)

    # The pipeline's side

    def pause(self) -> None:
        """Read nothing until `resume`: the pipeline is full."""
        self._full = True
        if self._connection is not None:
            self._connection.pause(FULL)

    def resume(self) -> None:
        """Read again."""
        if self._stopping.is_set():
            return
        self._full = False
        if self._connection is not None:
            self._connection.resume(FULL)

    def forget(self) -> None:
        """Connect anew: what was read was not stored, and comes again."""
        if self._connection is not None:
            self._connection.end("the database was put back")

    # Its life

    async def run(self) -> None:
        """Connect, and again whenever the connection is lost, until `close_sources`."""
        loop = asyncio.get_running_loop()
        delay = FIRST_RETRY_SECONDS
        while not self._stopping.is_set():
            started = loop.time()
            try:
                reason = await self._session()
            except LinkError as error:
                reason = str(error)
            self.publications.disconnected()
            if self._stopping.is_set():
                break
            if reason != self.problem:
                log.error(
                    "no connection to the MQTT broker", broker=str(self.broker), reason=reason
                )
            self.problem = reason
            if loop.time() - started > GOOD_SECONDS:
                delay = FIRST_RETRY_SECONDS
            with contextlib.suppress(TimeoutError):
                # Not all of a broker's clients at the same moment.
                async with asyncio.timeout(delay * random.uniform(0.5, 1.0)):  # noqa: S311 - no secret
                    await self._stopping.wait()
            delay = min(delay * 2, LONGEST_RETRY_SECONDS)
        await asyncio.Event().wait()  # until whoever stops it is through with it

    def stop_taking(self) -> None:
        """Read nothing more; what has been read is still acknowledged."""
        self._stopping.set()
        self.pause()

    async def close_sources(self) -> None:
        """Take nothing more: nobody waits for the broker."""
        self.stop_taking()

    async def close(self) -> None:
        """Disconnect; the session stays at the broker."""
        self._stopping.set()
        connection = self._connection
        if connection is None or connection.transport is None:
            return
        connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await asyncio.shield(connection.lost)
        connection.abort()

    def options_of(self, client_id: str) -> LinkOptions:
        """Return how to log in with another client id."""
        return dataclasses.replace(self._options, client_id=client_id)

    async def open(self) -> "LinkConnection":
        """Return a connection, which nobody has logged in by yet.

        Raises:
            LinkError: there is none.
        """
        connection = await reach(self.broker, self._options, lambda: LinkConnection(self))
        self._connection = connection
        if self._full:
            connection.pause(FULL)
        return connection

    async def _session(self) -> str:
        """Hold one connection; return why it was lost.

        Raises:
            LinkError: there is none.
        """
        connection = await self.open()
        keepalive: float = self._options.keepalive
        try:
            accepted = await self._log_in(connection)
            properties = accepted.properties
            if properties.server_keep_alive is not None:
                keepalive = properties.server_keep_alive
            await self._subscribe(connection, accepted)
            self.publications.connected(
                connection,
                session_present=accepted.session_present,
                receive_maximum=properties.receive_maximum or 0xFFFF,
                largest=properties.maximum_packet_size or 0,
                retains=properties.retain_available != 0,
            )
            self.problem = None
            self.connects += 1
            log.info(
                "connected to the MQTT broker",
                broker=str(self.broker),
                client_id=self._options.client_id,
                session_present=accepted.session_present,
            )
            await self._watch(connection, keepalive)
        finally:
            if not self._stopping.is_set():
                connection.abort()
        return connection.lost.result()

    async def _watch(self, connection: "LinkConnection", keepalive: float) -> None:
        """Return when the connection is lost, or is good for nothing any more."""
        loop = asyncio.get_running_loop()
        pinged = loop.time()
        while not connection.lost.done():
            await asyncio.wait([connection.lost], timeout=CHECK_SECONDS)
            now, silence = loop.time(), connection.listen()
            if connection.confirmed.is_due or (keepalive and now - pinged > keepalive / 2):
                pinged = now
                connection.ping()
            self.dropped.settle()
            if connection.over:
                over, connection.over = connection.over, []
                with contextlib.suppress(StoreUnavailableError):
                    await self.host.forget(over)
            if keepalive and silence > keepalive * 1.5:
                connection.end("the broker has fallen silent")
            elif not self.host.commits:
                connection.progress_at = now  # the broker can do nothing about it
            elif connection.is_stuck and now - connection.progress_at > STUCK_SECONDS:
                connection.end(f"nothing was acknowledged for {STUCK_SECONDS:.0f} seconds")

    async def _log_in(self, connection: "LinkConnection") -> Connack:
        options, broker = self._options, self.broker
        password = options.password if options.password is not None else broker.password
        connect = packets.Connect(
            version=MQTT_5,
            client_id=options.client_id,
            clean_start=False,
            session_expiry=packets.NEVER,
            username=options.username if options.username is not None else broker.username,
            password=password.encode() if password is not None else None,
            keepalive=options.keepalive,
            receive_maximum=options.receive_maximum,
        )
        connection.write(packets.connect(connect))
        answer = await self._answer(connection, Connack, "CONNECT")
        reason, properties = answer.reason, answer.properties
        if reason != Reason.SUCCESS:
            detail = f" ({properties.reason_string})" if properties.reason_string else ""
            raise LinkError(f"refused: {_REFUSALS.get(reason, reason.words)}{detail}")
        if options.shared and properties.shared_subscription_available == 0:
            raise LinkError("MQTT_SHARED: the broker has no shared subscriptions")
        if properties.maximum_qos == 0:
            raise LinkError("the broker has QoS 0 only: nothing would be safe")
        return answer

    @property
    def _data(self) -> tuple[list[str], list[str]]:
        """Filters of what devices send, for one server alone and for those that share it."""
        packets_at = self._options.packets
        data = [*DATA, packets_at] if packets_at else list(DATA)
        return data, [f"$share/{GROUP}/{name}" for name in data]

    async def _unsubscribe(self, connection: "LinkConnection", accepted: Connack) -> None:
        """Subscribe to nothing any more; what waits is sent all the same."""
        data, shared = self._data
        names = [*data, *STATE, *WATCH]
        if accepted.properties.shared_subscription_available != 0:
            names += shared
        unsubscribe = packets.Unsubscribe(UNSUBSCRIBING, names)
        connection.write(packets.unsubscribe(MQTT_5, unsubscribe))
        await self._answer(connection, Unsuback, "UNSUBSCRIBE")

    async def _subscribe(self, connection: "LinkConnection", accepted: Connack) -> None:
        options, (data, shared) = self._options, self._data
        wanted, unwanted = (shared, data) if options.shared else (data, shared)
        if accepted.session_present and accepted.properties.shared_subscription_available != 0:
            # What this session may have asked for before would come twice.
            unsubscribe = packets.Unsubscribe(UNSUBSCRIBING, unwanted)
            connection.write(packets.unsubscribe(MQTT_5, unsubscribe))
            await self._answer(connection, Unsuback, "UNSUBSCRIBE")
        # Of data nothing retained is wanted, which would come back as if measured at each connect;
        # of statuses all of it. A live message has no RETAIN flag, however it was published.
        filters = [
            *(packets.Subscription(name, 1, retain_handling=2) for name in wanted),
            *(packets.Subscription(name, 1) for name in STATE),
            *(packets.Subscription(name, 0) for name in WATCH),
        ]
        connection.write(packets.subscribe(MQTT_5, packets.Subscribe(SUBSCRIBING, filters)))
        answer = await self._answer(connection, Suback, "SUBSCRIBE")
        for name, reason in zip([*wanted, *STATE], answer.reasons, strict=False):
            if reason >= Reason.UNSPECIFIED_ERROR and name == wanted[-1] and options.packets:
                # Its access rules may be older than packets: devices are heard all the same.
                log.warning("packet subscription refused by the broker", reason=reason.words)
            elif reason >= Reason.UNSPECIFIED_ERROR:
                raise LinkError(f"the broker refuses the subscription {name}: {reason.words}")
            if reason == Reason.GRANTED_QOS_0:
                raise LinkError(f"the broker grants only QoS 0 to the subscription {name}")

    async def _answer(
        self, connection: "LinkConnection", kind: type[AnswerT], question: str
    ) -> AnswerT:
        waiting = asyncio.create_task(connection.answers.get(), name="mqtt-link answer")
        either: set[asyncio.Future[Any]] = {waiting, connection.lost}
        try:
            # What waits for this session may come before the answer, and more than we can store
            # at once: only a broker that says nothing at all has not understood.
            while connection.listen() < CONNECT_SECONDS:
                await asyncio.wait(
                    either, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if waiting.done() or connection.lost.done():
                    break
            if waiting.done():
                answer = waiting.result()
                if isinstance(answer, kind):
                    return answer
                raise LinkError(
                    f"the broker answers {question} with {type(answer).__name__.upper()}"
                )
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        if connection.lost.done():
            raise LinkError(connection.lost.result())
        raise LinkError(f"no answer to {question} within {CONNECT_SECONDS:.0f} s; is it MQTT 5?")


class LinkConnection(PacketProtocol):
    """One connection: parses whole socket reads; acknowledges in their order, after the commit."""

    def __init__(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop, ReadingTurns(loop), MQTT_5)
        self.link = link
        self.lost: asyncio.Future[str] = loop.create_future()
        self.answers: asyncio.Queue[Connack | Suback | Unsuback] = asyncio.Queue(16)
        self.last_received = loop.time()
        self.confirmed = Confirmed()
        # Deliveries that the ledger need not know any more.
        self.over: list[Delivery] = []
        # Whether it has answered CONNECT.
        self.greeted = False
        # When something waiting was last acknowledged, or began to wait.
        self.progress_at = 0.0
        # How many messages have come.
        self.taken = self.taken_before = 0
        self._routes = Routes()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak first, as MQTT has it."""
        # asyncio's promise; uvloop's transports keep it without being instances of the class.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the reason to the caller that waits."""
        self.transport = None
        if self.task is not None:
            self.task.cancel()
        if not self.lost.done():
            cause = _plain(exc) if exc is not None else "closed by the broker"
            if not self.greeted:
                tls = "with" if self.link.broker.tls else "without"
                cause += f" instead of an answer to CONNECT; is it MQTT 5 there, {tls} TLS?"
            elif exc is None:
                # Mosquitto says no more, whichever it was.
                cause += ", which was stopped, or knows another client of this MQTT_CLIENT_ID"
            self.lost.set_result(f"the connection was lost: {cause}")

    # Reading on and off

    def listen(self) -> float:
        """Try to read on; return for how long the broker has said nothing, in seconds."""
        now = self.loop.time()
        if self.pauses:
            # We do not listen, so that the silence is ours.
            self.last_received = now
            self.resume(UNTAKEN)
        return now - self.last_received

    @property
    def is_stuck(self) -> bool:
        """Whether nothing has been heard or acknowledged for too long, though it could be."""
        return self.in_flight > 0 and not self.pauses & (FULL | UNTAKEN)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ProtocolError):
            stranger = "" if self.greeted else "what answers there does not speak MQTT 5: "
            self.end(stranger + error.detail)
        else:
            log.error("packet from the broker not handled", exc_info=error)
            self.end(f"the server failed: {error}")

    # Packets

    def _process(self, buffer: bytes) -> None:
        self._routes.renew(self.link.host.generation)
        super()._process(buffer)

    def _control(self, buffer: bytes, at: int, start: int, stop: int) -> None:
        kind = packets.check_flags(buffer[at], by_server=True)
        body = buffer[start:stop]
        match kind:
            case PacketType.PUBACK:
                self.link.publications.acknowledged(*packets.read_puback(body, MQTT_5, kind))
            case PacketType.PINGRESP:
                packets.read_ping(body)
                self.over += self.confirmed.answered()
            case PacketType.DISCONNECT:
                reason = packets.read_disconnect(body, MQTT_5, by_server=True).reason
                self.end(f"the broker ended the connection: {reason.words}")
            case PacketType.CONNACK:
                self._answered(packets.read_connack(body, MQTT_5))
                self.greeted = True
            case PacketType.SUBACK:
                self._answered(packets.read_suback(body, MQTT_5))
            case PacketType.UNSUBACK:
                self._answered(packets.read_unsuback(body, MQTT_5))
            # All that goes either way is in QoS 1 at most. But the session may have been another
            # client's, and a broker repeats what it left open with every connection.
            case PacketType.PUBREL | PacketType.PUBREC | PacketType.PUBCOMP:
                self._answer_unknown(kind, body)
            case _:
                raise ProtocolError(Reason.PROTOCOL_ERROR, f"{kind.name} to nothing")

    def _answered(self, answer: Connack | Suback | Unsuback) -> None:
        try:
            self.answers.put_nowait(answer)
        except asyncio.QueueFull:
            self.end("the broker sent more answers than it was asked for")

    def _publish(self, buffer: bytes, at: int, start: int, stop: int) -> bool:
        host, name = self.link.host, ""
        try:
            topic, token, payload_at, _ = packets.read_publish(
                buffer, at, start, stop, MQTT_5, by_server=True
            )
            route = self._routes.get(topic)
            if route is None:
                name = topic.decode()  # one with wildcards leads nowhere, like any unknown topic
        except (ProtocolError, UnicodeDecodeError):
            return self._take_unreadable(buffer, at, start, stop)
        payload, first = buffer[payload_at:stop], buffer[at]
        retain, again = first & RETAIN, first & DUPLICATE != 0
        if name.startswith(BROKERS_OWN):
            self.link.dropped.report(name, payload)
            return True
        is_status = topic.startswith(STATUS)
        try:
            if retain and not is_status:
                # Old news, which a broker that knows no retain handling sends at each connect.
                size = host.ignore(self, token)
            else:
                route = route or self._known_route(topic, name)
                if route is None:
                    self.run(self._find_route(topic, name), "route")
                    return False
                delivery = self.link.ledger_name if token else None
                if len(payload) > MAXIMUM_PAYLOAD_BYTES:
                    size = host.receive_oversize(
                        self, token, route, payload[:KEPT_BYTES], len(payload)
                    )
                elif not payload and is_status:
                    # Handed on live it has no RETAIN, though it has ended what the broker kept.
                    size = host.receive_empty(self, token, route, delivery, again)
                elif retain:
                    size = host.receive_status(
                        self, token, route, payload, delivery, again, retained=True
                    )
                else:
                    size = host.receive(self, token, route, payload, delivery, again)
        except HeliographError:
            self.pause(UNTAKEN)
            return False
        self._count(size)
        return True

    def _count(self, size: int) -> None:
        if not self.in_flight:
            self.progress_at = self.loop.time()
        self.in_flight += 1
        self.taken += 1
        self.in_flight_bytes += size

    def _known_route(self, topic: bytes, name: str) -> Any:
        host = self.link.host
        route = host.known_route(principal_of(name), name)
        if route is not None:
            self._routes.keep(topic, route, accepted=host.accepts(route))
        return route

    async def _find_route(self, topic: bytes, name: str) -> None:
        host = self.link.host
        route = await ask(host, principal_of(name), name)
        self._routes.renew(host.generation)
        self._routes.keep(topic, route, accepted=host.accepts(route))

    # What can't be taken

    def _check_unfinished(self, kind: int, size: int, buffer: bytes, start: int) -> None:
        del buffer, start
        if kind != PacketType.PUBLISH and size > MAXIMUM_PACKET_BYTES:
            raise ProtocolError(Reason.PACKET_TOO_LARGE, f"a packet of {size} bytes")

    def _take_unreadable(self, buffer: bytes, at: int, start: int, stop: int) -> bool:
        """Keep a PUBLISH that can't be read as a rejected message; False: it has to wait."""
        name, packet_id, payload_at = read_unreadable(buffer, at, start, stop)
        payload = buffer[payload_at:stop]
        try:
            size = self.link.host.receive_unreadable(self, packet_id, name, payload)
        except HeliographError:
            self.pause(UNTAKEN)
            return False
        self._count(size)
        return True

    async def _refuse_oversize(self, packet: Oversize) -> None:
        head, host = packet.head, self.link.host
        name, packet_id, payload_at = read_unreadable(head, 0, 1, len(head))
        kept, whole = head[payload_at:][:KEPT_BYTES], packet.size - (payload_at - 1)
        while True:
            try:
                route = await host.route(principal_of(name), name)
                size = host.receive_oversize(self, packet_id, route, kept, whole)
                break
            except (StoreUnavailableError, HeliographError):
                await asyncio.sleep(RETRY_SECONDS)
        self._count(size)

    # Answers

    def settled(self, messages: list[Settled]) -> None:
        """Acknowledge what has been committed, in one write, if the broker is still there."""
        acknowledged: list[int] = []
        for message in messages:
            self.in_flight_bytes -= message.size
            self.in_flight -= len(message.tokens)
            self.confirmed.acknowledge(message)
            acknowledged += [token for token in message.tokens if token]
        self.progress_at = self.loop.time()
        self.write(packets.pubacks(acknowledged))
        if self.pauses & OWN and self.in_flight_bytes < IN_FLIGHT_BYTES // 2:
            self.resume(OWN)

    def ping(self) -> None:
        """Ask for an answer."""
        self.confirmed.pinged()
        self.write(packets.PINGREQ)

    def write(self, data: bytes) -> None:
        """Write, unless the connection is gone."""
        if data and self.transport is not None:
            self.transport.write(data)

    def end(self, reason: str) -> None:
        """End the connection, for a reason that is reported."""
        if not self.lost.done():
            self.lost.set_result(reason)
        self.abort()

    def close(self) -> None:
        """Disconnect; the session stays. What still arrives is dropped."""
        self.write(packets.DISCONNECT)
        self.pauses |= CLOSING
        if self.transport is not None:
            # With something unread a close would take the last acknowledgments back.
            self.transport.resume_reading()
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def abort(self) -> None:
        """Drop the connection at once."""
        self.pauses |= CLOSING
        if self.transport is not None:
            self.transport.abort()


def principal_of(topic: str) -> Principal:
    """Return in whose name the broker hands a message on: its sensor's, as far as we know.

    So what is rejected of one sensor leaves room for the others'.
    """
    return Principal("broker", f"broker:{topic.rpartition('/')[2][:LONGEST_NAME]}")


def read_unreadable(buffer: bytes, at: int, start: int, stop: int) -> tuple[str, int, int]:
    """Return topic, packet id and where the payload starts of a PUBLISH that can't be taken.

    Properties that can't be read count as payload: refused for them, the packet would come
    again with every connection. `start` and `stop` are those of `packets.frame`.

    Raises:
        ProtocolError: it ends before its payload.
    """
    try:
        topic, packet_id, payload_at, _ = packets.read_publish(
            buffer, at, start, stop, MQTT_5, by_server=True
        )
    except ProtocolError:  # read like one of MQTT 3.1.1 it has no properties
        topic, packet_id, payload_at, _ = packets.read_publish(buffer, at, start, stop, MQTT_3_1_1)
    return topic.decode("utf-8", "backslashreplace"), packet_id, payload_at


def _plain(error: Exception) -> str:
    """Return in plain words what is wrong with a socket or with TLS."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return (isinstance(error, OSError) and error.strerror) or str(error)


class Confirmed:
    """Tells when a delivery can't come again: its PUBACK went out before a ping that was answered.

    Until then the ledger has to know it. Longer it must not: packet ids are used again, and a
    new message in the words of an old one would be taken for that.
    """

    def __init__(self) -> None:
        self._acknowledged: list[Delivery] = []
        self._asked: deque[list[Delivery]] = deque()

    @property
    def is_due(self) -> bool:
        """Whether a ping would confirm something."""
        return bool(self._acknowledged)

    def acknowledge(self, message: Settled) -> None:
        """Note that a message is acknowledged, if the ledger has it."""
        if message.delivery is None:
            return
        if len(self._acknowledged) >= MOST_UNCONFIRMED:
            self._acknowledged.clear()  # they expire by themselves, only later
        if message.dropped is None:
            self._acknowledged.append((message.delivery, message.first_id))
        elif message.duplicates:
            first = next(iter(message.duplicates.values()))
            self._acknowledged.append((message.delivery, first))

    def pinged(self) -> None:
        """Note that the broker is asked for an answer after all that was acknowledged."""
        self._asked.append(self._acknowledged)
        self._acknowledged = []

    def answered(self) -> list[Delivery]:
        """Return the deliveries that are over with this answer."""
        return self._asked.popleft() if self._asked else []


class Dropped:
    """How many messages the broker has dropped since the link was made, and before that.

    Mosquitto counts them in `$SYS`, for all clients together: whoever does not keep up, a full
    queue or a QoS 0 message may be the cause. Other brokers say nothing there. What it dropped
    while no server was there is what it says at first, less what was `known` of it then.
    """

    def __init__(self) -> None:
        self.count = 0
        # What it had said when that was last noted, by this server or by one before.
        self.known: BrokerDrops | None = None
        # Set whenever there is something new to note.
        self.changed = asyncio.Event()
        self._last: int | None = None
        self._uptime: int | None = None
        # The first count, until it is clear of which run of the broker it is.
        self._first: int | None = None

    def reported(self) -> BrokerDrops | None:
        """Return what it has said last; None: nothing yet."""
        return None if self._last is None else BrokerDrops(self._last, self._uptime, now())

    def report(self, topic: str, payload: bytes) -> None:
        """Take one of the broker's own figures."""
        if topic == UPTIME:
            number = payload.removesuffix(b" seconds")
            if number.isdigit() and len(number) <= LONGEST_NUMBER:
                self._uptime = int(number)
                self.settle()
        elif payload.isdigit() and len(payload) <= LONGEST_NUMBER:
            self._count(int(payload))

    def settle(self) -> None:
        """Wait no longer for the broker to say for how long it has run."""
        first, self._first = self._first, None
        if first is not None:
            self._begin(first)

    def _count(self, total: int) -> None:
        last = self._last
        if last is None and self.known is not None and self._uptime is None:
            self._first = total
            return
        if last is None:
            self._begin(total)
        elif total != last:
            self._last = total
            # Less than before: it was restarted meanwhile, and counts from 0 again.
            self._add(total - last if total > last else total, while_away=False)

    def _begin(self, total: int) -> None:
        self._last = total
        if self.known is None:
            self.changed.set()  # what was dropped before anybody listened is no news
        elif self._is_another_run(self.known, total):
            self._add(total, while_away=True)
        else:
            self._add(total - self.known.total, while_away=True)

    def _is_another_run(self, known: BrokerDrops, total: int) -> bool:
        if total < known.total:
            return True
        if self._uptime is None or known.uptime is None:
            return False
        elapsed = (now() - known.noted_at) // SECOND
        return self._uptime < known.uptime + elapsed - SLACK_SECONDS

    def _add(self, more: int, *, while_away: bool) -> None:
        self.changed.set()
        if not more:
            return
        self.count += more
        log.warning(
            "accepted messages dropped by the broker",
            dropped=more,
            in_all=self.count,
            while_away=while_away,
        )
