"""One client's connection: bytes in, packets understood, answers out."""

import asyncio
from typing import TYPE_CHECKING, Any, cast

import structlog

from heliograph.errors import HeliographError, StoreUnavailableError
from heliograph.model.records import MAXIMUM_PAYLOAD_BYTES
from heliograph.model.time import now
from heliograph.mqtt import fields, packets
from heliograph.mqtt.aliases import NO_ALIASES
from heliograph.mqtt.control import control
from heliograph.mqtt.limits import (
    IN_FLIGHT_BYTES,
    KEPT_BYTES,
    OUTBOX_BYTES,
    UNCOUNTED_BYTES,
    WRITE_BUFFER_BYTES,
)
from heliograph.mqtt.packets import MQTT_5, PacketType, Properties, ProtocolError, Reason
from heliograph.mqtt.pausing import (
    BUSY,
    CLOSING,
    CONGESTED,
    OWN,
    TURN_PACKETS,
    UNTAKEN,
    WAITING,
    PausableProtocol,
)
from heliograph.mqtt.receiving import (
    abandon_delivery,
    begin_delivery,
    oversize,
    refuse_oversize,
)
from heliograph.mqtt.retained import Retained
from heliograph.mqtt.routing import NO_ROUTES, find_route, known_route
from heliograph.mqtt.session import Outgoing, Session
from heliograph.mqtt.settlement import QOS_1, settle

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from heliograph.model.principal import Principal
    from heliograph.mqtt.host import Taken
    from heliograph.mqtt.listener import Listener
    from heliograph.mqtt.oversize import Oversize
    from heliograph.mqtt.shares import Share
    from heliograph.mqtt.wills import LastWill

log = structlog.get_logger()

PUBLISH = int(PacketType.PUBLISH)
RETAIN = 1
CLOSING_SECONDS = 1.0


class Connection(PausableProtocol):
    """Parses whole socket reads, and answers each packet in the order of receipt."""

    __slots__ = (
        "aliases",
        "checked",
        "client_maximum_packet_size",
        "client_receive_maximum",
        "congested",
        "credential",
        "held",
        "in_flight",
        "in_flight_bytes",
        "keepalive",
        "last_received",
        "listener",
        "opened",
        "outbox",
        "outbox_bytes",
        "oversize",
        "peer",
        "principal",
        "retained",
        "routes",
        "session",
        "share",
        "task",
        "tells_reasons",
        "told_too_large",
        "unfinished_since",
        "version",
        "will",
    )

    def __init__(self, listener: "Listener") -> None:
        super().__init__(listener.turns)
        self.listener = listener
        self.peer = ""
        self.held = 0
        self.unfinished_since = 0.0
        self.version = 4
        self.session: Session | None = None
        # What its principal may have taken; None: everything.
        self.share: Share | None = None
        self.principal: Principal | None = None
        self.credential: bytes | None = None
        # As of which generation of the registry the credential is known to hold.
        self.checked = -1
        self.will: LastWill | None = None
        self.tells_reasons = True
        self.keepalive = 0.0
        self.opened = 0.0
        self.last_received = 0.0
        self.client_receive_maximum = 65_535
        self.client_maximum_packet_size = fields.MAXIMUM_PACKET_SIZE
        self.told_too_large = False
        self.routes = NO_ROUTES
        self.aliases = NO_ALIASES
        self.oversize: Oversize | None = None
        self.congested = 0.0  # since when
        # Messages that are written together before the loop's next turn.
        self.outbox: list[bytes] = []
        self.outbox_bytes = 0
        self.retained: Retained | None = None
        self.in_flight = 0
        self.in_flight_bytes = 0
        self.task: asyncio.Task[None] | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet nobody: a client speaks first."""
        # asyncio's promise; uvloop's transports keep it without being instances of the class.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.opened = self.last_received = self.listener.loop.time()
        peer = self.transport.get_extra_info("peername")
        self.peer = peer[0] if peer else ""
        if not self.listener.admit(self):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the session behind, and publish the will if the client did not say goodbye."""
        del exc
        self.transport = None
        self.listener.unfinished.release(self)
        if self.task is not None:
            self.task.cancel()
        self.stop_retained()
        self.listener.lost(self)

    def pause_writing(self) -> None:
        """Read no more from a client that does not take its answers."""
        self.congested = self.listener.loop.time()
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

    def data_received(self, data: bytes) -> None:
        """Take what one read of the socket gave."""
        if self.pauses & CLOSING:
            return
        self.last_received = self.listener.loop.time()
        if self.oversize is not None:
            data = self._stream_past(self.oversize, data)
        buffer = self.rest + data if self.rest else data
        self._take(buffer)

    def run(self, work: "Coroutine[Any, Any, None]", name: str) -> None:
        """Answer a packet that needs the database; what follows it waits, in order."""
        self.pause(BUSY)
        self.task = asyncio.create_task(self._busy(work), name=f"mqtt {name}")
        self.listener.tasks.add(self.task)
        self.task.add_done_callback(self.listener.tasks.discard)

    async def _busy(self, work: "Coroutine[Any, Any, None]") -> None:
        try:
            await work
        except ProtocolError as error:
            self.fail(error.reason, error.detail)
        except StoreUnavailableError:
            self.fail(Reason.SERVER_BUSY, "the database is not available")
        except HeliographError as error:
            self.fail(Reason.SERVER_BUSY, error.detail)
        except Exception:
            log.exception("a packet could not be answered", peer=self.peer)
            self.fail(Reason.UNSPECIFIED_ERROR, "the server failed")
        finally:
            self.task = None
        self.resume(BUSY)

    # Packets

    def _process(self, buffer: bytes) -> None:
        before, share = self.in_flight_bytes, self.share
        credit = share.credit if share is not None else 0.0
        try:
            at = self._process_packets(buffer)
            self.rest = buffer[at:] if at < len(buffer) else b""
            if at:
                self.unfinished_since = 0.0
            if self.held or len(self.rest) > UNCOUNTED_BYTES or self.oversize is not None:
                self.listener.unfinished.count(self, waiting=self.pauses & WAITING != 0)
        except ProtocolError as error:
            self.fail(error.reason, error.detail)
            return
        if self.in_flight_bytes > IN_FLIGHT_BYTES:
            self.pause(OWN)
        if share is not None:
            share.credit -= self.in_flight_bytes - before
            # Who did no more than acknowledge what he was sent is heard all the same.
            if share.credit < 0 and share.credit < credit:
                self.listener.shares.overdraw(share, self)

    def _process_packets(self, buffer: bytes) -> int:
        """Process what is whole in a buffer that is not empty; return where the rest begins."""
        # Nothing is awaited before the end of the buffer, so that rights can't change meanwhile.
        generation = self.listener.host.generation
        if self.checked != generation:
            self.recheck()
            if self.pauses & CLOSING:
                return len(buffer)
        if self.routes.generation != generation:
            self.routes = NO_ROUTES  # until the first topic is asked for
        at, end = 0, len(buffer)
        publish, frame, version = self._publish, packets.frame, self.version
        for _ in range(TURN_PACKETS):
            body = frame(buffer, at, version)
            if body is None:
                break
            start, stop = body
            if stop > end:
                self.oversize = oversize(self, buffer, at, start, stop)
                if self.oversize is not None:
                    at = end
                break
            if buffer[at] >> 4 == PUBLISH and self.session is not None:
                if not publish(buffer, at, start, stop):
                    break
            else:
                control(self, buffer, at, start, stop)
            at = stop
            if at >= end or self.pauses & WAITING:
                break
        else:
            self.give_way()
        return at

    def give_way(self) -> None:
        """Let others go first: the client has said much."""
        self.listener.counts.turns += 1
        self.wait_for_turn()

    def _publish(self, buffer: bytes, at: int, start: int, stop: int) -> bool:
        """Take a PUBLISH; False: it has to wait, and stays in the buffer."""
        topic, packet_id, payload_at, properties = packets.read_publish(
            buffer, at, start, stop, self.version
        )
        if properties is not None:
            topic = self.aliases.resolve(topic, properties)
        route = self.routes.get(topic)
        if route is None:
            route = known_route(self, topic)
        if route is None:
            self.run(find_route(self, topic), "route")
            return False
        first, session = buffer[at], self.session
        assert session is not None  # noqa: S101 - a PUBLISH comes here with a session only
        if packet_id:
            qos = first >> 1 & 3
            if qos == QOS_1 and self.in_flight < self.listener.limits.receive_maximum:
                self.in_flight += 1  # all that `begin_delivery` has to do
            elif not begin_delivery(self, session, packet_id, qos):
                return True
            token = packet_id | qos << 16  # `token_of`
            delivery = session.ledger_name
        else:
            token, delivery = 0, None
        payload = buffer[payload_at:stop]
        try:
            if len(payload) > MAXIMUM_PAYLOAD_BYTES:
                size = self.listener.host.receive_oversize(
                    self, token, route, payload[:KEPT_BYTES], len(payload)
                )
            elif not payload and first & RETAIN:
                size = self.listener.host.receive_empty(
                    self, token, route, delivery, first & 8 != 0
                )
            else:
                size = self.listener.host.receive(
                    self, token, route, payload, delivery, first & 8 != 0
                )
        except HeliographError:
            abandon_delivery(self, session, token)
            self.pause(UNTAKEN)
            return False
        self.in_flight_bytes += size
        return True

    def _stream_past(self, packet: "Oversize", data: bytes) -> bytes:
        """Let go of an oversize packet's bytes; return what follows it."""
        if self.share is not None:
            self.share.credit -= len(data)
        rest = packet.take(data)
        if rest is None:
            return b""
        self.listener.unfinished.release(self)
        self.run(refuse_oversize(self, packet), "oversize")
        return rest

    # Answers

    def settled(self, messages: "list[Taken]") -> None:
        """Acknowledge what has been committed, in one write."""
        settle(self, messages)

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
            self.listener.flush_soon(self)

    def flush(self) -> None:
        """Write the messages that wait to be written together."""
        if self.outbox:
            data = b"".join(self.outbox)
            self.outbox.clear()
            self.outbox_bytes = 0
            if self.transport is not None and not self.pauses & CLOSING:
                self.transport.write(data)

    def _drop_too_large(self, topic: str, size: int) -> None:
        self.listener.counts.too_large += 1
        if not self.told_too_large:
            self.told_too_large = True
            log.warning(
                "a subscriber gets no messages that are larger than it takes",
                name=self.principal.name if self.principal else None,
                peer=self.peer,
                topic=topic,
                bytes=size,
                maximum=self.client_maximum_packet_size,
            )

    def send_retained(self, topic_filter: str, qos: int, identifier: int | None) -> None:
        """Send what is retained under a subscription's filter, as fast as the client takes it."""
        if self.retained is None:
            self.retained = Retained(self)
        self.retained.send(topic_filter, qos, identifier)

    def stop_retained(self) -> None:
        """Send nothing more of what is retained."""
        if self.retained is not None:
            self.retained.close()

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
        self.listener.refused(self, reason, detail)
        if self.session is not None:
            whole = packets.disconnect(self.version, reason, detail)
            self.write(self.explained(whole, packets.disconnect(self.version, reason)))
        self.close()

    def refuse(self, reason: Reason, detail: str) -> None:
        """Answer CONNECT with the reason why there is no session, and end the connection."""
        self.listener.refused(self, reason, detail)
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

    def heed(self, connect: packets.Connect) -> None:
        """Keep from now on to what the client says that it takes."""
        self.version = connect.version
        self.tells_reasons = connect.request_problem_information
        self.client_receive_maximum = connect.receive_maximum
        if connect.maximum_packet_size is not None:
            self.client_maximum_packet_size = connect.maximum_packet_size

    def check_answer(self, filters: int) -> None:
        """Refuse a packet of so many filters if its answer, a byte for each, is too large.

        Raises:
            ProtocolError: it is, for this client.
        """
        if self.version == MQTT_5:
            size = len(packets.suback(MQTT_5, 1, bytes(filters)))
            if size > self.client_maximum_packet_size:
                detail = f"the answer of {size} bytes is larger than the client takes"
                raise ProtocolError(Reason.PACKET_TOO_LARGE, detail)

    def recheck(self) -> None:
        """End the connection if what the client logged in with is no longer valid."""
        generation = self.listener.host.generation
        if self.checked == generation or self.principal is None:
            return
        self.checked = generation
        if not self.listener.host.is_current(self.principal, self.credential):
            self.fail(Reason.NOT_AUTHORIZED, "the credential is no longer valid")

    def is_known(self) -> None:
        """Take the transport over from who has read CONNECT; reading is paused meanwhile."""
        if self.transport is not None:
            self.transport.set_protocol(self)

    @property
    def closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self.transport is None or self.pauses & CLOSING != 0

    @property
    def has_expired(self) -> bool:
        """Whether the session of a user, by whose token the client logged in, is over."""
        return self.principal is not None and self.principal.has_expired(now())

    @property
    def delays_will(self) -> bool:
        """Whether the client's will waits for some time after the connection's end."""
        return self.will is not None and self.will.message.delay > 0

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
        self.listener.unfinished.release(self)
        if transport.can_write_eof():
            transport.write_eof()
            transport.resume_reading()
        else:
            transport.close()
        self.listener.loop.call_later(CLOSING_SECONDS, self.abort)

    def drop(self, reason: Reason, detail: str) -> None:
        """End the connection at once, for the client's fault: what it was told would not arrive."""
        if self._is_open():
            self.listener.refused(self, reason, detail)
            self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self.transport is not None:
            self.transport.abort()
