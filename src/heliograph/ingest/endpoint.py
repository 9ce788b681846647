"""The MQTT endpoint's host: what devices publish enters here, what they may see comes from here."""

from collections.abc import AsyncIterator, Iterator, Sequence

from heliograph.access import policy
from heliograph.access.authenticator import Authenticator
from heliograph.access.policy import (
    EVERYBODY,
    Action,
    UnknownSensor,
    may,
    may_receive,
    may_send,
    networks_of,
)
from heliograph.access.registry import Registry
from heliograph.errors import RejectionReason
from heliograph.ingest.encode import payload_of
from heliograph.ingest.intake import Intake
from heliograph.ingest.message import Message
from heliograph.ingest.routes import Route, Router
from heliograph.model.event import Committed
from heliograph.model.principal import Principal
from heliograph.model.records import Kind
from heliograph.mqtt.codec.reasons import Reason
from heliograph.mqtt.codec.topics import match
from heliograph.mqtt.host import Outgoing, Seen
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


class Endpoint:
    """Says to the MQTT listener who may do what, and takes what it receives."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        router: Router,
        authenticator: Authenticator,
        intake: Intake,
        *,
        publish_topic: str,
    ) -> None:
        self._store = store
        self.forget = store.deliveries.forget
        self.payload_of = payload_of
        self._registry = registry
        self._grants = registry.grants
        self._router = router
        self._publish_topic = publish_topic
        self._longest_topic = max(LONGEST_OF_A_SENSOR, len(publish_topic.encode()))
        self._intake = intake
        self.receive = intake.receive
        self.receive_retained = intake.receive_retained
        self.receive_empty = intake.receive_empty
        self.receive_oversize = intake.receive_oversize
        self.receive_unreadable = intake.receive_unreadable
        self.ignore = intake.ignore
        self.watch = intake.watch
        self.entered = intake.entered
        self.left = intake.left
        self.login = authenticator.login
        self.anonymous = authenticator.anonymous

    @property
    def generation(self) -> int:
        """The registry's generation: routes given out before a change are asked for again."""
        return self._registry.generation

    @property
    def commits(self) -> bool:
        """Whether the database is there."""
        return self._intake.commits

    @property
    def in_flight(self) -> int:
        """How many bytes wait to be committed."""
        return self._intake.in_flight

    @property
    def committed(self) -> tuple[int, int]:
        """How many bytes were committed since the start, as in flight, and in how many commits."""
        return self._intake.committed

    def credential(self, principal: Principal) -> bytes | None:
        """Return the hash of what a client is connected by, a key or password; None: no more."""
        return policy.credential_of(principal, self._grants)

    def is_current(self, principal: Principal, credential: bytes | None) -> bool:
        """Return whether a client that was connected by this credential may still be so."""
        return policy.is_current(principal, credential, self._grants)

    async def route(self, principal: Principal, topic: str) -> Route:
        """Return where a topic leads for this principal, be it to rejection."""
        parsed = parse_device_topic(topic)
        if parsed is None:
            reason = RejectionReason.UNKNOWN_TOPIC
            return self._router.refused(principal, topic, reason, _no_topic(topic))
        kind = KINDS.get(parsed[0])
        if kind is None:
            detail = "Only the server publishes configurations"
            return self._router.refused(principal, topic, RejectionReason.FORBIDDEN_TOPIC, detail)
        return await self._router.route(principal, topic, kind, parsed[1])

    def known_route(self, principal: Principal, topic: str) -> Route | None:
        """Return where a topic leads if the database need not be asked; None says nothing."""
        parsed = parse_device_topic(topic)
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
        """Tell whether the route leads to a sensor."""
        return route.sensor is not None

    def puback_reason(self, message: Message) -> int:
        """Return the MQTT 5 reason code of a message that was rejected whole."""
        reason = message.faults[0].reason
        if reason in _NOT_AUTHORIZED:
            return Reason.NOT_AUTHORIZED
        if reason is RejectionReason.UNKNOWN_TOPIC:
            return Reason.TOPIC_NAME_INVALID
        return Reason.PAYLOAD_FORMAT_INVALID

    async def may_subscribe(self, principal: Principal, topic_filter: str) -> bool:
        """Tell whether the principal may subscribe to this filter.

        Devices subscribe to topics of their own and to MQTT_PUBLISH_TOPIC, without wildcards;
        who reads a whole network may use any filter, and gets what he may see.
        """
        if may(principal, Action.SUBSCRIBE, None, self._grants):
            return True
        return await self.is_own_topic(principal, topic_filter)

    async def is_own_topic(self, principal: Principal, topic: str) -> bool:
        """Tell whether this is MQTT_PUBLISH_TOPIC, or a topic of a sensor that a device may be."""
        if topic == self._publish_topic:
            return may(principal, Action.RECEIVE_COMMANDS, None, self._grants)
        parsed = parse_device_topic(topic)
        if parsed is None or "+" in topic or "#" in topic:
            return False
        sensor = await self._registry.find(parsed[1])
        return sensor is not None and may_send(principal, sensor, self._grants)

    @property
    def longest_topic(self) -> int:
        """The length of the longest topic that there may be, in bytes."""
        return self._longest_topic

    @property
    def rights(self) -> int:
        """A number that changes whenever anybody's right to see something may have changed."""
        return self._registry.rights

    def sees_network(self, principal: Principal, network_identifier: str) -> bool:
        """Tell whether the principal may see what all sensors of a network send."""
        return may(principal, Action.VIEW, network_identifier, self._grants)

    @property
    def has_guests(self) -> bool:
        """Whether there may be a network of which everybody sees everything."""
        return bool(self._grants.everybody)

    def everybody_sees(self, network_identifier: str) -> bool:
        """Tell whether everybody may see all that a network's sensors send."""
        return may(EVERYBODY, Action.VIEW, network_identifier, self._grants)

    def may_see(self, principal: Principal, sensor: int, network_identifier: str) -> bool:
        """Tell whether the principal may see what this sensor sends, or has sent.

        A sensor that has left memory has not changed: it is still in the network given.
        """
        grants = self._grants
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
        after, grants = 0, self._grants
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

    def seen(self, event: Committed) -> Seen | None:
        """Return a committed event as subscribers see it; None: it has no topic."""
        if event.kind not in TOPICS:
            return None
        return Seen(_topics(event), event.number, event.network_identifier, event.payload, event)


def _no_topic(topic: str) -> str:
    """Return what is wrong with a topic that there is not, and which may be meant."""
    detail = "There is no such topic to publish on"
    published = [kind.value for kind in KINDS]
    first, _, sensor = topic.partition("/")
    if sensor and first not in published and (meant := did_you_mean(first, published)):
        return detail + meant
    return f"{detail}: there are {', '.join(f'{each}/<sensor>' for each in published)}"


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
