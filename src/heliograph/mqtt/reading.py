"""Reading packets, on and off: what a device's connection and the link to a broker share.

Beside the protocol itself these are packets too large to be held, and where topics lead.
"""

import abc
import asyncio
import dataclasses
from collections import deque
from collections.abc import Coroutine
from dataclasses import field
from typing import Any
from weakref import WeakValueDictionary

from heliograph.errors import StoreUnavailableError
from heliograph.model.principal import Principal
from heliograph.model.records import MAXIMUM_PAYLOAD_BYTES
from heliograph.mqtt.codec import packets
from heliograph.mqtt.codec.reasons import PacketType, ProtocolError, Reason
from heliograph.mqtt.host import Host

PUBLISH = int(PacketType.PUBLISH)
RETAIN = 1  # of a PUBLISH's first byte
DUPLICATE = 8

# Why reading is paused; several reasons may hold at once.
FULL = 1  # the pipeline has no room
BUSY = 2  # a packet is being answered that needs the database
CONGESTED = 4  # the other end does not take its answers
OWN = 8  # the connection's own share of what is in flight is used up
UNTAKEN = 16  # nothing is taken now: the server can't tell the time, or has no room
CLOSING = 32  # the connection is being closed
TURN = 64  # a large piece was read, or many packets: others first
SHARE = 128  # who sends has had its share, and others send as much as there is room for
DOUBT = 256  # the server stood still: the session may be another one's by now
# What has been read stays where it is.
WAITING = BUSY | CONGESTED | UNTAKEN | CLOSING | TURN | SHARE | DOUBT

# From so many bytes on there is likely to be more. libuv would read on, up to 32 times, before
# anything else is done: the database's answer to the last batch would wait for tens of
# milliseconds of decoding.
LARGE_READ = 64 << 10
# A read of 256 KiB may hold 37,000 packets of QoS 0: so many are processed in one go.
TURN_PACKETS = 500

# A payload that is rejected is read all the same; the packet around it adds topic and properties.
MAXIMUM_PACKET_BYTES = MAXIMUM_PAYLOAD_BYTES + (128 << 10)
# Of a payload over the limit.
KEPT_BYTES = 64 << 10
# What is kept of a packet over the limit: before the payload come the topic and the properties.
HEAD_BYTES = 2 * KEPT_BYTES + 4
# Of messages of one connection that are not committed yet.
IN_FLIGHT_BYTES = 24 << 20

MAXIMUM_ROUTES = 50_000
# Of topics that lead nowhere, which a client may invent without end; none of ours is as long.
MAXIMUM_REFUSED_ROUTES = 100
LONGEST_KEPT_TOPIC = 256
RETRY_SECONDS = 1.0


class ReadingTurns:
    """Lets connections that have much to say go on one after the other, others between them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[PacketProtocol] = deque()

    def wait(self, protocol: "PacketProtocol") -> None:
        """Have it go on in its turn."""
        self._waiting.append(protocol)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        has_processed = False
        while self._waiting and not has_processed:
            # Stays the first meanwhile, so that none is called for in between.
            has_processed = self._waiting[0].end_turn()
            self._waiting.popleft()
        if self._waiting:
            self._loop.call_soon(self._next)


class Oversize:
    """A PUBLISH that is too large to be held; `head` begins with its first byte, not its length."""

    __slots__ = ("head", "left", "qos", "size")

    def __init__(self, first: int, size: int, body: bytes) -> None:
        self.size = size
        self.qos = first >> 1 & 3
        self.left = size - len(body)
        self.head = bytes([first]) + body[:HEAD_BYTES]

    def take(self, data: bytes) -> bytes | None:
        """Take the packet's next bytes; return what follows its end, None before that."""
        room = HEAD_BYTES - len(self.head)
        if room > 0:
            self.head += data[: min(self.left, room)]
        self.left -= len(data)
        if self.left > 0:
            return None
        return data[len(data) + self.left :]


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class PacketProtocol(asyncio.Protocol):
    """Reads packets while nothing speaks against it; `rest` is what is read and not processed."""

    loop: asyncio.AbstractEventLoop
    turns: ReadingTurns
    version: int
    transport: asyncio.Transport | None = field(default=None, init=False)
    pauses: int = field(default=0, init=False)
    rest: bytes = field(default=b"", init=False)
    last_received: float = field(default=0.0, init=False)
    oversize: Oversize | None = field(default=None, init=False)
    # What is answered now, and what follows it waits for.
    task: "asyncio.Task[None] | None" = field(default=None, init=False)
    # Messages that are not committed yet.
    in_flight: int = field(default=0, init=False)
    in_flight_bytes: int = field(default=0, init=False)

    def data_received(self, data: bytes) -> None:
        """Take what one read of the socket gave."""
        self.last_received = self.loop.time()
        if self.pauses & CLOSING:
            return
        if self.oversize is not None:
            data = self._stream_past(self.oversize, data)
        buffer = self.rest + data if self.rest else data
        if self.pauses & WAITING:
            self.rest = buffer
        elif buffer:
            self._process(buffer)
            if len(buffer) >= LARGE_READ and not self.pauses and self._is_open():
                self.wait_for_turn()

    # What the two sides do with a packet

    @abc.abstractmethod
    def _publish(self, buffer: bytes, at: int, start: int, stop: int) -> bool:
        """Take a PUBLISH; False: it has to wait, and stays in the buffer."""

    @abc.abstractmethod
    def _control(self, buffer: bytes, at: int, start: int, stop: int) -> None:
        """Answer any other packet."""

    @abc.abstractmethod
    def _check_unfinished(self, kind: int, size: int, buffer: bytes, start: int) -> None:
        """Raise ProtocolError if the end of a packet is not worth waiting for."""

    @abc.abstractmethod
    async def _refuse_oversize(self, packet: Oversize) -> None:
        """Keep the head of a PUBLISH that has been let go of as a rejected message."""

    @abc.abstractmethod
    def _failed(self, error: Exception) -> None:
        """End the connection: a packet could not be answered."""

    @abc.abstractmethod
    def write(self, data: bytes) -> None:
        """Write, unless the connection is gone."""

    def _answer_unknown(self, kind: PacketType, body: bytes) -> None:
        """Answer a step of a delivery at QoS 2 of which this side does not know (any more)."""
        packet_id, reason = packets.read_puback(body, self.version, kind)
        unknown = Reason.PACKET_IDENTIFIER_NOT_FOUND
        if kind is PacketType.PUBREL:
            self.write(packets.pubcomp(self.version, packet_id, unknown))
        elif kind is PacketType.PUBREC and reason < Reason.UNSPECIFIED_ERROR:
            # After an error there is nothing to release.
            self.write(packets.pubrel(self.version, packet_id, unknown))

    def _process(self, buffer: bytes) -> None:
        """Process what is whole in a buffer that is not empty, and keep the rest."""
        try:
            at = self._process_packets(buffer)
        except ProtocolError as error:
            self._failed(error)
            return
        self.rest = buffer[at:] if at < len(buffer) else b""
        if self.in_flight_bytes > IN_FLIGHT_BYTES:
            self.pause(OWN)

    def _process_packets(self, buffer: bytes) -> int:
        """Process what is whole in a buffer that is not empty; return where the rest begins."""
        at, end = 0, len(buffer)
        publish, frame, version = self._publish, packets.frame, self.version
        for _ in range(TURN_PACKETS):
            body = frame(buffer, at, version)
            if body is None:
                break
            start, stop = body
            is_publish = buffer[at] >> 4 == PUBLISH
            if stop > end:
                self._check_unfinished(buffer[at] >> 4, stop - start, buffer, start)
                if is_publish and stop - start > MAXIMUM_PACKET_BYTES:
                    self.oversize = Oversize(buffer[at], stop - start, buffer[start:])
                    at = end
                break
            if not is_publish:
                self._control(buffer, at, start, stop)
            elif not publish(buffer, at, start, stop):
                break
            at = stop
            if at >= end or self.pauses & WAITING:
                break
        else:
            self.give_way()
        return at

    def _stream_past(self, packet: Oversize, data: bytes) -> bytes:
        """Let go of an oversize packet's bytes; return what follows it."""
        rest = packet.take(data)
        if rest is None:
            return b""
        self.oversize = None
        self.run(self._refuse_oversize(packet), "oversize")
        return rest

    def run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Answer a packet that needs the database; what follows it waits, in order."""
        self.pause(BUSY)
        self.task = asyncio.create_task(self._busy(work), name=f"mqtt {name}")
        return self.task

    async def _busy(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the connection
            self._failed(error)
        finally:
            self.task = None
        self.resume(BUSY)

    # On and off

    def pause(self, reason: int) -> None:
        """Stop reading."""
        if not self.pauses and self.transport is not None:
            self.transport.pause_reading()
        self.pauses |= reason

    def resume(self, reason: int) -> None:
        """Read again, unless another reason holds."""
        if not self.pauses & reason or self.pauses & CLOSING:
            return
        self.pauses &= ~reason
        if not self.pauses & WAITING and self.rest and self.transport is not None:
            buffer, self.rest = self.rest, b""
            self._process(buffer)
        if not self.pauses and self.transport is not None:
            self.transport.resume_reading()

    def give_way(self) -> None:
        """Let others go first: this side has been heard for a while."""
        self.wait_for_turn()

    def wait_for_turn(self) -> None:
        """Let others go first."""
        self.pause(TURN)
        self.turns.wait(self)

    def end_turn(self) -> bool:
        """Go on; return whether anything was processed."""
        if not self._is_open():
            return False
        waited = bool(self.rest)
        self.resume(TURN)
        return waited

    def _is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()


class Routes(dict[Any, Any]):
    """Topics and where they lead, as of a generation of the registry.

    Those that lead nowhere, which a client may invent without end, are counted apart: they
    never cost the others their place.
    """

    __slots__ = ("__weakref__", "_refused", "generation")

    def __init__(self) -> None:
        super().__init__()
        self.generation = -1
        self._refused: list[Any] = []

    def renew(self, generation: int) -> None:
        """Forget what is of another generation."""
        if self.generation != generation:
            self._forget()
            self.generation = generation

    def keep(self, topic: bytes | str, route: Any, *, accepted: bool) -> None:
        """Keep a route; `accepted` is whether it leads to a sensor."""
        if len(self) >= MAXIMUM_ROUTES:
            self._forget()
        if not accepted:
            if len(self._refused) >= MAXIMUM_REFUSED_ROUTES or len(topic) > LONGEST_KEPT_TOPIC:
                for refused in self._refused:
                    self.pop(refused, None)
                self._refused.clear()
            self._refused.append(topic)
        self[topic] = route

    def _forget(self) -> None:
        self.clear()
        self._refused.clear()


NO_ROUTES = Routes()


class RoutesOfAll:
    """Each principal's routes for as long as they have a connection, shared by all that they have.

    Ten gateways with one key and 10,000 topics each would otherwise hold 33 MiB.
    """

    def __init__(self) -> None:
        self._routes: WeakValueDictionary[Principal, Routes] = WeakValueDictionary()

    def of(self, principal: Principal, generation: int) -> Routes:
        """Return the principal's routes, without those of another generation."""
        routes = self._routes.get(principal)
        if routes is None:
            routes = self._routes[principal] = Routes()
        routes.renew(generation)
        return routes


async def ask(host: Host, principal: Principal, topic: str) -> Any:
    """Return where a topic leads, once the database answers."""
    while True:
        generation = host.generation
        try:
            route = await host.route(principal, topic)
            if generation == host.generation:
                return route  # else the answer may be older than what is known by now
        except StoreUnavailableError:
            # What has been read waits, like what is in the pipeline.
            await asyncio.sleep(RETRY_SECONDS)
