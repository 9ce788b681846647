"""MQTT's way in and out: what devices publish enters here, what they may see comes from here."""

import functools
from collections.abc import AsyncIterator, Iterator, Sequence

from heliograph.access.authenticator import Authenticator
from heliograph.access.policy import (
    Action,
    UnknownSensor,
    may,
    may_receive,
    may_send,
    names_another,
    networks_of,
)
from heliograph.access.registry import Registry
from heliograph.errors import RejectionReason
from heliograph.ingest.batch import MESSAGE_BYTES, ROW_BYTES, IngestIds, Message, Origin
from heliograph.ingest.clock import Clock
from heliograph.ingest.decode import decode_status, payload_of
from heliograph.ingest.identity import enter, identify
from heliograph.ingest.packet_ingest import PacketIngest
from heliograph.ingest.packets import InvalidPacketError, read_packet
from heliograph.ingest.pipeline import Pipeline
from heliograph.ingest.routes import Route, Router
from heliograph.ingest.strict_json import Fault, Rejected
from heliograph.model.event import Committed
from heliograph.model.identifiers import INGEST_ID_STEP
from heliograph.model.principal import Principal
from heliograph.model.records import Kind
from heliograph.mqtt.codec.reasons import Reason
from heliograph.mqtt.codec.topics import match
from heliograph.mqtt.host import NO_SENSOR, Outgoing, TopicMessage
from heliograph.mqtt.topics import LONGEST_OF_A_SENSOR, TopicKind, parse_device_topic
from heliograph.nearest import did_you_mean
from heliograph.store import Store
from heliograph.store.configurations import RetainedOfSensor

KINDS = {
    TopicKind.MEASUREMENTS: Kind.MEASUREMENT,
    TopicKind.LOGS: Kind.LOG,
    TopicKind.HEARTBEATS: Kind.HEARTBEAT,
    TopicKind.STATUS: Kind.STATUS,
}
TOPICS = {kind: topic for topic, kind in KINDS.items()}
# The kinds of topics of which something is retained.
RETAINED = (TopicKind.CONFIGURATIONS, TopicKind.STATUS)
PAGE = 1_000
# Of configurations that are read at once, in characters, if there is more than one.
PIECE_SIZE = 1 << 20

_NOT_AUTHORIZED = frozenset(
    {
        RejectionReason.UNKNOWN_SENSOR,
        RejectionReason.DEACTIVATED_SENSOR,
        RejectionReason.FORBIDDEN_TOPIC,
    }
)

OFFLINE = "offline"
NOBODY = Principal("broker", "broker")


class MqttIngest:
    """Takes what clients publish, and says who may do what: the host of the listener and the link.

    What is published is taken at once; its origin is told after the commit.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        router: Router,
        authenticator: Authenticator,
        pipeline: Pipeline,
        clock: Clock,
        ids: IngestIds,
        *,
        packets: PacketIngest,
        publish_topic: str,
        subscribe_topic: str,
    ) -> None:
        self._store = store
        self._registry = registry
        self.grants = registry.grants
        self._router = router
        self._pipeline = pipeline
        self._state = pipeline.state
        self._rejections = pipeline.rejections
        self._attributes = pipeline.attributes
        self._clock = clock
        self._ids = ids
        self._packets = packets
        self.lead(publish_topic, subscribe_topic)
        self.watch = pipeline.watch
        self.forget = store.deliveries.forget
        self.payload_of = payload_of
        self.login = authenticator.login
        self.anonymous = authenticator.anonymous

    def lead(self, publish_topic: str, subscribe_topic: str) -> None:
        """Have these be MQTT_PUBLISH_TOPIC and MQTT_SUBSCRIBE_TOPIC from now on."""
        self.publish_topic = publish_topic
        self._subscribe_topic = subscribe_topic
        self.longest_topic = max(LONGEST_OF_A_SENSOR, len(publish_topic.encode()))

    @property
    def generation(self) -> int:
        """The registry's generation: routes given out before a change are asked for again."""
        return self._registry.generation

    def receive(  # noqa: PLR0912 - the hottest method of all: what is quick is in it
        self,
        origin: Origin,
        token: int,
        route: Route,
        payload: bytes,
        delivery: bytes | None,
        redelivered: bool,
    ) -> int:
        """Take a published message; `origin` is told when it is committed.

        `token` comes back with it; its low 16 bits are the packet id. `delivery` is the ledger's
        name of the session (None: the message is not acknowledged, and so never comes again).

        Returns:
            What it counts as in flight, in bytes.

        Raises:
            HeliographError: CLOCK_BEHIND, DISK_BUDGET_USED_UP; the message was not taken.
        """
        clock = self._clock
        now = clock.wall_ns() // 1_000
        if clock.floor <= now <= clock.ceiling:
            clock.floor = now
        else:
            now = clock.now()
        sensor, decode, pipeline, ids = route.sensor, route.decode, self._pipeline, self._ids
        if sensor is None or decode is None:
            return self.receive_status(origin, token, route, payload, delivery, redelivered)
        if pipeline.refusal is not None:
            raise pipeline.refusal()
        first = (now // 1_000 << 21) | ids.instance  # inlined: `next` here, `advance` below
        if first <= ids.last:
            first = ids.last + INGEST_ID_STEP
        untimed_from = now if now > sensor.newest_assigned else sensor.newest_assigned + 1
        rows, faults, untimed, identities, _, attributes = decoded = decode(
            payload, sensor.number, first, now, untimed_from, sensor
        )
        count = len(rows)
        ids.last = first + (count - 1) * INGEST_ID_STEP if count else ids.last
        size = len(payload) + MESSAGE_BYTES + ROW_BYTES * count
        sensor.seen_at = now
        self._registry.touched.add(sensor)
        plain = not (faults or untimed or identities or pipeline.watched)
        if attributes:
            sensor.measured_at = now
            for names in attributes:
                if not names <= sensor.attributes:
                    plain = False
        if plain and pipeline.join(origin, token, route.kind, rows, size):
            return size
        message = Message(origin, [token], route.kind, sensor, rows, size)
        if plain:
            message.merged = True
        else:
            message.complete(sensor, decoded, untimed_from, self._attributes)
            if identities:
                identify(message, sensor, identities)
            message.payload = payload
            if untimed or faults:
                self._note(message, route, payload, now, delivery, redelivered)
        pipeline.enqueue(message)
        return size

    def entered(self, principal: Principal) -> None:
        """Take note of a connection: only a sensor's own tells that it is connected."""
        if principal.kind != "device" or principal.sensor is None:
            return
        moment = self._clock.moment()
        self._registry.connected.enter(principal.sensor, moment)
        if sensor := self._registry.number(principal.sensor):
            self._registry.note_seen(sensor, moment, measured=False)

    def left(self, principal: Principal) -> None:
        """Take note of the end of a connection that has entered."""
        if principal.kind == "device" and principal.sensor is not None:
            # Never before what was said on the connection.
            self._registry.connected.leave(principal.sensor, self._clock.moment())

    def handed_over(self, principal: Principal) -> None:
        """Take note of the end of a connection whose client is at another server by now."""
        if principal.kind == "device" and principal.sensor is not None:
            self._registry.connected.hand_over(principal.sensor)

    @property
    def commits(self) -> bool:
        """Whether the database is there, as far as the last commit told."""
        return self._state.database_available

    @property
    def in_flight(self) -> int:
        """How many bytes wait to be committed."""
        return self._state.bytes_in_flight

    @property
    def committed(self) -> tuple[int, int]:
        """How many bytes were committed since the start, as in flight, and in how many commits."""
        return self._state.bytes_total, self._state.commits_total

    def _note(
        self,
        message: Message,
        route: Route,
        payload: bytes,
        now: int,
        delivery: bytes | None,
        redelivered: bool,
    ) -> None:
        """Keep what was wrong, and note what a repeat of the message is told by."""
        if message.faults:
            self._rejections.refuse(
                message, route.principal, route.source, payload, len(payload), now
            )
        if delivery is not None:
            enter(message, delivery, route, payload, now, redelivered=redelivered)

    def receive_oversize(
        self, origin: Origin, token: int, route: Route, head: bytes, size: int
    ) -> int:
        """Take note of a message over the limit, of which only the head was kept.

        Returns:
            What it counts as in flight, in bytes.

        Raises:
            HeliographError: CLOCK_BEHIND, DISK_BUDGET_USED_UP; the message was not taken.
        """
        detail = f"The payload of {size} bytes is over the limit of 1 MiB"
        fault = Fault(None, RejectionReason.TOO_LARGE, detail)
        return self._reject(origin, token, fault, route.principal, route.source, head, size)

    def receive_unreadable(self, origin: Origin, token: int, topic: str, payload: bytes) -> int:
        """Take note of a message whose topic is no text, and so nobody's.

        Returns:
            What it counts as in flight, in bytes.

        Raises:
            HeliographError: CLOCK_BEHIND, DISK_BUDGET_USED_UP; the message was not taken.
        """
        fault = Fault(None, RejectionReason.INVALID_UTF8, "The topic is not UTF-8")
        return self._reject(origin, token, fault, NOBODY, topic, payload, len(payload))

    def _reject(
        self,
        origin: Origin,
        token: int,
        fault: Fault,
        principal: Principal,
        source: str,
        kept: bytes,
        size: int,
    ) -> int:
        if self._pipeline.refusal is not None:
            raise self._pipeline.refusal()
        now = self._clock.now()
        message = Message(origin, [token], Kind.REJECTED, None, [], len(kept) + MESSAGE_BYTES)
        message.faults = [fault]
        self._rejections.refuse(message, principal, source, kept, size, now)
        self._pipeline.enqueue(message)
        return message.size

    def ignore(self, origin: Origin, token: int) -> int:
        """Let a message pass that says nothing new: its origin is told in its turn.

        Returns:
            What it counts as in flight, in bytes.
        """
        message = Message(origin, [token], Kind.REJECTED, None, [], MESSAGE_BYTES)
        self._pipeline.enqueue(message)
        return message.size

    def receive_empty(
        self,
        origin: Origin,
        token: int,
        route: Route,
        delivery: bytes | None,
        redelivered: bool,
    ) -> int:
        """Take an empty message with RETAIN: of a status nothing is kept from now on.

        Returns:
            What it counts as in flight, in bytes.

        Raises:
            HeliographError: CLOCK_BEHIND, DISK_BUDGET_USED_UP; the message was not taken.
        """
        if route.kind is not Kind.STATUS or route.sensor is None:
            return self.receive(origin, token, route, b"", delivery, redelivered)
        message = Message(origin, [token], route.kind, route.sensor, [], MESSAGE_BYTES)
        by_broker = route.principal.kind == "broker"
        message.status = (route.sensor.number, self._clock.now(), None, by_broker)
        message.payload = b""
        message.extras = True
        self._pipeline.enqueue(message)
        return message.size

    def receive_status(
        self,
        origin: Origin,
        token: int,
        route: Route,
        payload: bytes,
        delivery: bytes | None,
        redelivered: bool,
        *,
        retained: bool = False,
    ) -> int:
        """Take a status, or what is rejected; one that a broker has `retained` was not sent now.

        Returns:
            What it counts as in flight, in bytes.

        Raises:
            HeliographError: CLOCK_BEHIND, DISK_BUDGET_USED_UP; the message was not taken.
        """
        now = self._clock.now()
        if route.kind is Kind.PACKET:
            return self._receive_packet(origin, token, route, payload, delivery, redelivered, now)
        message = Message(
            origin, [token], route.kind, route.sensor, [], len(payload) + MESSAGE_BYTES
        )
        fault = route.fault
        sensor = route.sensor
        if fault is None and sensor is not None:
            try:
                status = decode_status(payload)
            except Rejected as rejected:
                fault = rejected.fault
            else:
                by_broker = route.principal.kind == "broker"
                message.status = (sensor.number, now, status, by_broker)
                # `offline` is a last will as a rule: not the sensor has sent it.
                if status != OFFLINE and not retained:
                    self._registry.note_seen(sensor, now, measured=False)
                message.payload = payload
                message.extras = True
        if fault is not None:
            # A status takes no room: the sensor's record has it.
            if self._pipeline.refusal is not None:
                raise self._pipeline.refusal()
            message.faults = [fault]
            self._note(message, route, payload, now, delivery, redelivered)
        self._pipeline.enqueue(message)
        return message.size

    def _receive_packet(
        self,
        origin: Origin,
        token: int,
        route: Route,
        payload: bytes,
        delivery: bytes | None,
        redelivered: bool,
        now: int,
    ) -> int:
        """Take what was published on MQTT_SUBSCRIBE_TOPIC; like `receive`."""
        if self._pipeline.refusal is not None:
            raise self._pipeline.refusal()
        principal, source = route.principal, route.source
        size = len(payload) + MESSAGE_BYTES + 2 * ROW_BYTES
        message = Message(origin, [token], Kind.PACKET, None, [], size)
        try:
            packet = read_packet(payload, now)
        except (Rejected, InvalidPacketError) as rejected:
            message.faults = [rejected.fault]
        else:
            own = None if principal.sensor is None else self._registry.number(principal.sensor)
            if names_another(principal, own, packet.device_id):
                detail = "device_id is not the publisher's own"
                message.faults = [Fault(None, RejectionReason.UNKNOWN_SENSOR, detail)]
            else:
                sensor = own or self._registry.cached(packet.device_id)
                entry = message, packet, sensor, principal, source, payload, now
                if sensor is not None:
                    self._packets.admit(*entry)
                else:
                    message.resolve = functools.partial(
                        self._packets.resolve, message, packet, principal, source, payload, now
                    )
                    message.extras = True
        if message.faults and message.rejected is None:
            self._rejections.refuse(message, principal, source, payload, len(payload), now)
        if delivery is not None and (message.untimed or message.faults or message.resolve):
            enter(message, delivery, route, payload, now, redelivered=redelivered)
        self._pipeline.enqueue(message)
        return size

    def _is_for_packets(self, topic: str) -> bool:
        return match(self._subscribe_topic, topic)

    async def route(self, principal: Principal, topic: str) -> Route:
        """Return where a topic leads for this principal, be it to rejection."""
        parsed = parse_device_topic(topic)
        if parsed is None and self._is_for_packets(topic):
            return Route(topic, principal, Kind.PACKET)
        if parsed is None:
            reason = RejectionReason.UNKNOWN_TOPIC
            return self._router.refused(
                principal, topic, reason, _no_topic(topic, self._subscribe_topic)
            )
        kind = KINDS.get(parsed[0])
        if kind is None:
            detail = "Only the server publishes configurations"
            return self._router.refused(principal, topic, RejectionReason.FORBIDDEN_TOPIC, detail)
        return await self._router.route(principal, topic, kind, parsed[1])

    def known_route(self, principal: Principal, topic: str) -> Route | None:
        """Return where a topic leads if the database need not be asked; None says nothing."""
        parsed = parse_device_topic(topic)
        if parsed is None and self._is_for_packets(topic):
            return Route(topic, principal, Kind.PACKET)
        kind = KINDS.get(parsed[0]) if parsed is not None else None
        if parsed is None or kind is None:
            return None
        return self._router.known(principal, topic, kind, parsed[1])

    def renewed(self, route: Route) -> Route:
        """Return where a route that was given out before a change leads now."""
        known = self.known_route(route.principal, route.source)
        if known is None and route.principal.account is not None:
            detail = "The user may not send any more"
            return self._router.refused(
                route.principal, route.source, RejectionReason.FORBIDDEN_TOPIC, detail
            )
        return known or route

    def accepts(self, route: Route) -> bool:
        """Return whether the route leads to a sensor."""
        return route.sensor is not None

    def takes(self, route: Route) -> bool:
        """Return whether what is published there is taken, be it a packet of whichever device."""
        return route.fault is None

    def puback_reason(self, message: Message) -> int:
        """Return the MQTT 5 reason code of a message that was rejected whole."""
        reason = message.faults[0].reason
        if reason in _NOT_AUTHORIZED:
            return Reason.NOT_AUTHORIZED
        if reason is RejectionReason.UNKNOWN_TOPIC:
            return Reason.TOPIC_NAME_INVALID
        return Reason.PAYLOAD_FORMAT_INVALID

    async def may_subscribe(self, principal: Principal, topic_filter: str) -> bool:
        """Return whether the principal may subscribe to this filter.

        Devices subscribe to topics of their own and to MQTT_PUBLISH_TOPIC, without wildcards;
        who reads a whole network may use any filter, and gets what he may see.
        """
        if may(principal, Action.SUBSCRIBE, None, self.grants):
            return True
        return await self.is_own_topic(principal, topic_filter)

    async def is_own_topic(self, principal: Principal, topic: str) -> bool:
        """Return whether it is MQTT_PUBLISH_TOPIC, or a topic of a sensor that a device may be."""
        if topic == self.publish_topic:
            return may(principal, Action.RECEIVE_COMMANDS, None, self.grants)
        parsed = parse_device_topic(topic)
        if parsed is None or "+" in topic or "#" in topic:
            return False
        sensor = await self._registry.find(parsed[1])
        return sensor is not None and may_send(principal, sensor, self.grants)

    @property
    def rights(self) -> int:
        """A number that changes whenever anybody's right to see something may have changed."""
        return self._registry.rights

    def may_see(self, principal: Principal, sensor: int, network_identifier: str) -> bool:
        """Return whether the principal may see what this sensor sends, or has sent.

        A sensor that has left memory has not changed: it is still in the network given. Number 0
        stands for the server: what it publishes on MQTT_PUBLISH_TOPIC for this network, or for all.
        """
        grants = self.grants
        if sensor == NO_SENSOR:
            return may(principal, Action.RECEIVE_COMMANDS, network_identifier or None, grants)
        known = grants.sensors.get(sensor) or UnknownSensor(sensor, network_identifier)
        return may_receive(principal, known, grants)

    async def retained(self, principal: Principal, topic_filter: str) -> AsyncIterator[Outgoing]:
        """Yield each configuration and status that the filter matches and the principal may see."""
        first, *rest = topic_filter.removesuffix("/#").split("/")
        kinds = {kind for kind in RETAINED if first in ("#", "+", kind.value)}
        if not kinds or len(rest) > 1:
            return
        if rest and rest[0] not in ("+", "#"):
            retained = self._retained_of(principal, rest[0], kinds)
        else:
            retained = self._all_retained(principal, topic_filter, kinds)
        async for message in retained:
            yield message

    async def _retained_of(
        self, principal: Principal, name: str, kinds: set[TopicKind]
    ) -> AsyncIterator[Outgoing]:
        sensor = await self._registry.find(name)
        if sensor is None or not self.may_see(principal, sensor.number, sensor.network_identifier):
            return
        record = None
        if TopicKind.STATUS in kinds or not sensor.is_active:
            record = await self._store.sensors.find_number(sensor.number)
            if record is None or record.deleted_at is not None:
                return
        place = sensor.number, sensor.network_identifier
        if TopicKind.CONFIGURATIONS in kinds:
            current = await self._store.configurations.current(sensor.number)
            if current is not None:
                payload = _configuration(current.revision, bytes(current.configuration))
                yield _retained(TopicKind.CONFIGURATIONS, name, payload, *place)
        if TopicKind.STATUS in kinds and record is not None and record.status is not None:
            yield _retained(TopicKind.STATUS, name, record.status.encode(), *place)

    async def _all_retained(
        self, principal: Principal, topic_filter: str, kinds: set[TopicKind]
    ) -> AsyncIterator[Outgoing]:
        """Yield what is retained in the networks that the principal sees, a piece at a time."""
        after, grants = 0, self.grants
        while (networks := networks_of(principal, Action.RECEIVE, grants)) is None or networks:
            page = await self._store.configurations.retained(networks, after, PAGE)
            if not page:
                return
            after = page[-1].number
            for piece in _pieces(page, PIECE_SIZE):
                wanted = [(e.number, e.revision) for e in piece if e.revision is not None]
                texts = {}
                if wanted and TopicKind.CONFIGURATIONS in kinds:
                    texts = await self._store.publications.texts(wanted)
                for each in piece:
                    for message in _retained_messages(each, texts, kinds):
                        if match(topic_filter, message.topic):
                            yield message

    def message_of(self, event: Committed) -> TopicMessage | None:
        """Return a committed event as subscribers see it; None: it has no topic."""
        if event.kind not in TOPICS:
            return None
        return TopicMessage(
            _topics(event), event.number, event.network_identifier, event.payload, event
        )


def _no_topic(topic: str, packets: str) -> str:
    """Return what is wrong with a topic that there is not, and which may be meant.

    `packets` is the filter of those on which packets come.
    """
    detail = "There is no such topic to publish on"
    published = [kind.value for kind in KINDS]
    first, _, rest = topic.partition("/")
    begins = packets.partition("/")[0]
    if rest and first not in published and (meant := did_you_mean(first, [*published, begins])):
        return detail + meant
    return f"{detail}: there are {', '.join(f'{each}/<sensor>' for each in published)}, {packets}"


def _topics(event: Committed) -> tuple[str, ...]:
    prefix = TOPICS[event.kind].value
    if event.device_id is None:
        return (f"{prefix}/{event.identifier}",)
    return (f"{prefix}/{event.device_id}", f"{prefix}/{event.identifier}")


def _pieces(page: Sequence[RetainedOfSensor], size: int) -> Iterator[Sequence[RetainedOfSensor]]:
    """Yield a page in pieces whose configurations may be read at once."""
    begin = held = 0
    for position, each in enumerate(page):
        more = each.size or 0
        if held and held + more > size:
            yield page[begin:position]
            begin, held = position, 0
        held += more
    yield page[begin:]


def _retained_messages(
    sensor: RetainedOfSensor, texts: dict[tuple[int, int], str], kinds: set[TopicKind]
) -> Iterator[Outgoing]:
    name, place = sensor.device_id or sensor.identifier, (sensor.number, sensor.network_identifier)
    if sensor.revision is not None:
        text = texts.get((sensor.number, sensor.revision))
        if text is not None:
            payload = _configuration(sensor.revision, text.encode())
            yield _retained(TopicKind.CONFIGURATIONS, name, payload, *place)
    if TopicKind.STATUS in kinds and sensor.status is not None:
        yield _retained(TopicKind.STATUS, name, sensor.status.encode(), *place)


def _retained(
    kind: TopicKind, name: str, payload: bytes, sensor: int, network_identifier: str
) -> Outgoing:
    return Outgoing(f"{kind.value}/{name}", payload, 0, sensor, network_identifier, retain=True)


def _configuration(revision: int, configuration: bytes) -> bytes:
    return b'{"revision":%d,"configuration":%b}' % (revision, configuration)
