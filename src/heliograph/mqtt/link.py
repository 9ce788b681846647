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
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, cast

import mqtt5
import structlog

from heliograph.errors import HeliographError, StoreUnavailableError
from heliograph.model.principal import Principal
from heliograph.model.records import MAXIMUM_PAYLOAD_BYTES
from heliograph.mqtt import dropped, link_packets, packets
from heliograph.mqtt.confirmed import Confirmed
from heliograph.mqtt.dropped import Dropped
from heliograph.mqtt.limits import (
    IN_FLIGHT_BYTES,
    KEPT_BYTES,
    MAXIMUM_PACKET_BYTES,
)
from heliograph.mqtt.oversize import Oversize
from heliograph.mqtt.packets import PacketType, ProtocolError
from heliograph.mqtt.pausing import (
    BUSY,
    CLOSING,
    FULL,
    OWN,
    TURN_PACKETS,
    UNTAKEN,
    WAITING,
    PausableProtocol,
    ReadingTurns,
)
from heliograph.mqtt.publications import REFUSED, Publications
from heliograph.mqtt.routing import RETRY_SECONDS, Routes, ask

if TYPE_CHECKING:
    from heliograph.broker_url import BrokerUrl
    from heliograph.mqtt.host import Host, Taken

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
WATCH = [dropped.TOPIC, dropped.UPTIME]
SUBSCRIBING, UNSUBSCRIBING = 1, 2  # packet ids
STATUS = "status/"
BROKERS_OWN = "$SYS/"
LONGEST_NAME = 64
PUBLISH = int(PacketType.PUBLISH)
_PANIC = "PanicException"

AnswerT = TypeVar("AnswerT")


@dataclasses.dataclass(frozen=True, slots=True)
class LinkOptions:
    """How to log in, and how much to ask for."""

    client_id: str = "heliograph"
    username: str | None = None
    password: str | None = None
    shared: bool = False
    keepalive: int = 30
    receive_maximum: int = 65_535
    tls: ssl.SSLContext | None = None
    server_name: str | None = None


class LinkError(Exception):
    """Why there is no connection, in plain words."""


class Link:
    """Keeps a session with a broker; its messages come back as acknowledgments."""

    def __init__(self, host: "Host", broker: "BrokerUrl", options: LinkOptions) -> None:
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
    def dropped_count(self) -> int:
        """How many messages the broker has dropped since the link was made, and while away."""
        return self.dropped.count

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
        """Say goodbye; the session stays at the broker."""
        self._stopping.set()
        connection = self._connection
        if connection is None or connection.transport is None:
            return
        connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await asyncio.shield(connection.lost)
        connection.abort()

    async def _session(self) -> str:
        """Hold one connection; return why it was lost.

        Raises:
            LinkError: there is none.
        """
        connection = await self._open()
        self._connection = connection
        if self._full:
            connection.pause(FULL)
        keepalive: float = self._options.keepalive
        try:
            accepted = await self._log_in(connection)
            if accepted.server_keep_alive is not None:
                keepalive = accepted.server_keep_alive
            await self._subscribe(connection, accepted)
            self.publications.connected(
                connection,
                session_present=accepted.session_present,
                receive_maximum=accepted.receive_max,
                largest=accepted.max_packet_size or 0,
                retains=accepted.retain_available,
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

    async def _open(self) -> "LinkConnection":
        broker, options = self.broker, self._options
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: LinkConnection(self),
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
            raise LinkError(f"TLS with {broker} failed: {link_packets.plain(error)}") from None
        except (socket.gaierror, ValueError):  # no name at all is a UnicodeError
            raise LinkError(f"there is no host {broker.host!r}") from None
        except ConnectionRefusedError:
            raise LinkError(f"nothing listens at {broker}") from None
        except OSError as error:
            # Who knows no TLS hangs up on its first words.
            doubt = "; does it speak TLS there?" if options.tls else ""
            raise LinkError(
                f"{broker} can't be reached: {link_packets.plain(error)}{doubt}"
            ) from None
        return connection

    async def _log_in(self, connection: "LinkConnection") -> mqtt5.ConnAckPacket:
        options = self._options
        connection.write(
            link_packets.connect(
                options.client_id,
                options.username if options.username is not None else self.broker.username,
                options.password if options.password is not None else self.broker.password,
                keepalive=options.keepalive,
                receive_maximum=options.receive_maximum,
            )
        )
        answer = await self._answer(connection, mqtt5.ConnAckPacket, "CONNECT")
        if answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            detail = f" ({answer.reason_str})" if answer.reason_str else ""
            raise LinkError(f"refused: {link_packets.refusal(answer.reason_code)}{detail}")
        if options.shared and not answer.shared_subscription_available:
            raise LinkError("MQTT_SHARED: the broker has no shared subscriptions")
        if answer.max_qos == mqtt5.QoS.AT_MOST_ONCE:
            raise LinkError("the broker has QoS 0 only: nothing would be safe")
        return answer

    async def _subscribe(self, connection: "LinkConnection", accepted: mqtt5.ConnAckPacket) -> None:
        shared = [f"$share/{GROUP}/{name}" for name in DATA]
        wanted, unwanted = (shared, list(DATA)) if self._options.shared else (list(DATA), shared)
        if accepted.session_present and accepted.shared_subscription_available:
            # What this session may have asked for before would come twice.
            connection.write(link_packets.unsubscribe(UNSUBSCRIBING, unwanted))
            await self._answer(connection, mqtt5.UnsubAckPacket, "UNSUBSCRIBE")
        connection.write(link_packets.subscribe(SUBSCRIBING, wanted, list(STATE), WATCH))
        answer = await self._answer(connection, mqtt5.SubAckPacket, "SUBSCRIBE")
        for name, code in zip([*wanted, *STATE], answer.reason_codes, strict=False):
            if int(code) >= REFUSED:
                raise LinkError(
                    f"the broker refuses the subscription {name}: {link_packets.words(code)}"
                )
            if code == mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE:
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
                raise LinkError(f"the broker answers {question} with {type(answer).__name__}")
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        if connection.lost.done():
            raise LinkError(connection.lost.result())
        raise LinkError(f"no answer to {question} within {CONNECT_SECONDS:.0f} s; is it MQTT 5?")


class LinkConnection(PausableProtocol):
    """One connection: parses whole socket reads; acknowledges in their order, after the commit."""

    def __init__(self, link: Link) -> None:
        self.loop = asyncio.get_running_loop()
        super().__init__(ReadingTurns(self.loop))
        self.link = link
        self.lost: asyncio.Future[str] = self.loop.create_future()
        self.answers: asyncio.Queue[mqtt5.Packet] = asyncio.Queue(16)
        self.last_received = self.loop.time()
        self.in_flight = 0
        self.in_flight_bytes = 0
        self.confirmed = Confirmed()
        # Deliveries that the ledger need not know any more.
        self.over: list[tuple[bytes, int]] = []
        # Whether it has answered CONNECT.
        self.greeted = False
        # When something waiting was last acknowledged, or began to wait.
        self.progress_at = 0.0
        self._oversize: Oversize | None = None
        self._routes = Routes()
        self._task: asyncio.Task[None] | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak first, as MQTT has it."""
        # asyncio's promise; uvloop's transports keep it without being instances of the class.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for that."""
        self.transport = None
        if self._task is not None:
            self._task.cancel()
        if not self.lost.done():
            cause = link_packets.plain(exc) if exc is not None else "closed by the broker"
            if not self.greeted:
                tls = "with" if self.link.broker.tls else "without"
                cause += f" instead of an answer to CONNECT; is it MQTT 5 there, {tls} TLS?"
            elif exc is None:
                # Mosquitto says no more, whichever it was.
                cause += ", which was stopped, or knows another client of this MQTT_CLIENT_ID"
            self.lost.set_result(f"the connection was lost: {cause}")

    def data_received(self, data: bytes) -> None:
        """Take what one read of the socket gave."""
        self.last_received = self.loop.time()
        if self.pauses & CLOSING:
            return
        if self._oversize is not None:
            rest = self._oversize.take(data)
            if rest is None:
                return
            packet, self._oversize = self._oversize, None
            data = rest
            self._run(self._refuse_oversize(packet), "oversize")
        buffer = self.rest + data if self.rest else data
        self._take(buffer)

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

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.pause(BUSY)
        self._task = asyncio.create_task(self._busy(work), name=f"mqtt-link {name}")

    async def _busy(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ProtocolError as error:
            self.end(error.detail)
        except Exception as error:
            log.exception("a packet of the broker could not be handled")
            self.end(f"the server failed: {error}")
        finally:
            self._task = None
        self.resume(BUSY)

    # Packets

    def _process(self, buffer: bytes) -> None:
        try:
            at = self._process_packets(buffer)
            self.rest = buffer[at:] if at < len(buffer) else b""
        except ProtocolError as error:
            stranger = "" if self.greeted else "what answers there does not speak MQTT 5: "
            self.end(stranger + error.detail)
            return
        if self.in_flight_bytes > IN_FLIGHT_BYTES:
            self.pause(OWN)

    def _process_packets(self, buffer: bytes) -> int:
        """Process what is whole in a buffer that is not empty; return where the rest begins."""
        self._routes.renew(self.link.host.generation)
        view, at, end = memoryview(buffer), 0, len(buffer)
        for _ in range(TURN_PACKETS):
            size = self._take_packet(buffer, view, at)
            at += size
            if not size or at >= end or self.pauses & WAITING:
                break
        else:
            self.wait_for_turn()
        return end if self._oversize is not None else at

    def _take_packet(self, buffer: bytes, view: memoryview, at: int) -> int:
        """Take the packet that begins there; return its size, 0 if it waits or is not all there."""
        if buffer[at] >> 4 == PUBLISH and not link_packets.has_text(buffer, at):
            whole = self._is_whole(buffer, at)
            return self._refuse_unreadable(buffer, at, "its topic is not UTF-8") if whole else 0
        try:
            packet, size = mqtt5.read(view[at:])
        except IndexError:
            if self._is_whole(buffer, at):
                raise ProtocolError(
                    packets.Reason.MALFORMED_PACKET, "a packet ends early"
                ) from None
            return 0
        except BaseException as error:
            # The codec is Rust: of a text that is not UTF-8 it makes a PanicException, which is no
            # Exception. What it reads after that may be wrong, so that it is not given any such
            # topic.
            if not isinstance(error, ValueError) and type(error).__name__ != _PANIC:
                raise
            return self._refuse_unreadable(buffer, at, error)
        if type(packet) is not mqtt5.PublishPacket:
            self._control(packet)
        elif not self._publish(packet):
            return 0
        return size

    def _is_whole(self, buffer: bytes, at: int) -> bool:
        """Tell whether the packet is all there; begin to stream past one that is too large."""
        body = packets.frame(buffer, at, packets.MQTT_5)
        if body is None:
            return False
        start, stop = body
        if stop <= len(buffer):
            return True
        if stop - start > MAXIMUM_PACKET_BYTES:
            if buffer[at] >> 4 != PacketType.PUBLISH:
                raise ProtocolError(
                    packets.Reason.PACKET_TOO_LARGE, f"a packet of {stop - start} bytes"
                )
            self._oversize = Oversize(buffer[at], stop - start, buffer[start:])
        return False

    def _control(self, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.PubAckPacket):
            self.link.publications.acknowledged(packet.packet_id, packet.reason_code)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self.end(f"the broker ended the connection: {link_packets.words(packet.reason_code)}")
        elif isinstance(packet, mqtt5.PingRespPacket):
            self.over += self.confirmed.answered()
        else:
            self.greeted = self.greeted or isinstance(packet, mqtt5.ConnAckPacket)
            try:
                self.answers.put_nowait(packet)
            except asyncio.QueueFull:
                self.end("the broker sent more answers than it was asked for")

    def _publish(self, packet: mqtt5.PublishPacket) -> bool:
        """Take a PUBLISH; False: it has to wait, and stays in the buffer."""
        topic, payload = packet.topic, packet.payload
        token = packet.packet_id or 0
        if topic.startswith(BROKERS_OWN):
            self.link.dropped.heard(topic, payload)
            return True
        host = self.link.host
        try:
            retain = packet.retain
            if retain and not topic.startswith(STATUS):
                # Old news, which a broker that knows no retain handling sends at each connect.
                size = host.ignore(self, token)
            else:
                route = self._routes.get(topic) or self._known_route(topic)
                if route is None:
                    self._run(self._find_route(topic), "route")
                    return False
                delivery = self.link.ledger_name if token else None
                if len(payload) > MAXIMUM_PAYLOAD_BYTES:
                    size = host.receive_oversize(
                        self, token, route, payload[:KEPT_BYTES], len(payload)
                    )
                elif not payload and topic.startswith(STATUS):
                    # Handed on live it has no RETAIN, though it has ended what the broker kept.
                    size = host.receive_empty(self, token, route, delivery, packet.duplicate)
                else:
                    receive = host.receive_retained if retain else host.receive
                    size = receive(self, token, route, payload, delivery, packet.duplicate)
        except HeliographError:
            self.pause(UNTAKEN)
            return False
        self._count(size)
        return True

    def _count(self, size: int) -> None:
        if not self.in_flight:
            self.progress_at = self.loop.time()
        self.in_flight += 1
        self.in_flight_bytes += size

    def _known_route(self, topic: str) -> Any:
        host = self.link.host
        route = host.known_route(principal_of(topic), topic)
        if route is not None:
            self._routes.keep(topic, route, accepted=host.accepts(route))
        return route

    async def _find_route(self, topic: str) -> None:
        host = self.link.host
        route = await ask(host, principal_of(topic), topic)
        self._routes.renew(host.generation)
        self._routes.keep(topic, route, accepted=host.accepts(route))

    # What can't be taken

    def _refuse_unreadable(self, buffer: bytes, at: int, error: BaseException | str) -> int:
        """Keep a PUBLISH that the codec can't read as a rejected message; return its size."""
        body = packets.frame(buffer, at, packets.MQTT_5)
        if body is None or buffer[at] >> 4 != PacketType.PUBLISH:
            detail = f"the broker sent a packet that is none: {error}"
            raise ProtocolError(packets.Reason.MALFORMED_PACKET, detail) from None
        start, stop = body
        topic, packet_id, payload_at = link_packets.read_publish(buffer, at, start, stop)
        name = topic.decode("utf-8", "backslashreplace")
        payload = buffer[payload_at:stop]
        try:
            size = self.link.host.receive_unreadable(self, packet_id, name, payload)
        except HeliographError:
            self.pause(UNTAKEN)
            return 0
        self._count(size)
        return stop - at

    async def _refuse_oversize(self, packet: Oversize) -> None:
        head, host = packet.head, self.link.host
        topic, packet_id, payload_at = link_packets.read_publish(head, 0, 1, len(head))
        name = topic.decode("utf-8", "backslashreplace")
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

    def settled(self, messages: "list[Taken]") -> None:
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
        self.write(link_packets.PING)

    def write(self, data: bytes) -> None:
        """Write, unless the connection is gone."""
        if data and self.transport is not None:
            self.transport.write(data)

    def end(self, reason: str) -> None:
        """End the connection for a reason that is told."""
        if not self.lost.done():
            self.lost.set_result(reason)
        self.abort()

    def close(self) -> None:
        """Say goodbye; the session stays. What still comes is thrown away."""
        self.write(link_packets.DISCONNECT)
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
