"""The MQTT endpoint's host: what devices publish enters here, what they may see comes from here."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from heliograph.errors import RejectionReason
from heliograph.ingest.authentication import Authenticator
from heliograph.ingest.encode import payload_of
from heliograph.ingest.intake import Intake
from heliograph.ingest.message import Message
from heliograph.ingest.registry import Registry
from heliograph.ingest.routes import Route, Router
from heliograph.model.event import Committed
from heliograph.model.principal import Principal, Role
from heliograph.model.records import Kind
from heliograph.mqtt.fanout import Seen
from heliograph.mqtt.reasons import Reason
from heliograph.mqtt.topics import TopicKind, match, parse_device_topic
from heliograph.store import Store

KINDS = {
    TopicKind.MEASUREMENTS: Kind.MEASUREMENT,
    TopicKind.LOGS: Kind.LOG,
    TopicKind.HEARTBEATS: Kind.HEARTBEAT,
    TopicKind.STATUS: Kind.STATUS,
}
TOPICS = {kind: topic for topic, kind in KINDS.items()}
PAGE = 1_000

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
        self._registry = registry
        self._router = router
        self._publish_topic = publish_topic
        self._intake = intake
        self.receive = intake.receive
        self.receive_retained = intake.receive_retained
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

    def credential(self, principal: Principal) -> bytes | None:
        """Return the hash of what a client is connected by, a key or password; None: no more."""
        if principal.account is not None:
            return self._credential_of_user(principal, principal.account)
        sensor = None if principal.sensor is None else self._registry.number(principal.sensor)
        return sensor.key_hash if sensor is not None and sensor.is_active else None

    def is_current(self, principal: Principal, credential: bytes | None) -> bool:
        """Tell whether a device connected by the key of this hash may still be so.

        A change brings its sensor into memory, so whose sensor has left it has not changed.
        """
        if principal.account is not None:
            return credential is not None and self.credential(principal) == credential
        if principal.sensor is None or self._registry.number(principal.sensor) is None:
            return True
        return self.credential(principal) == credential

    def _credential_of_user(self, principal: Principal, identifier: str) -> bytes | None:
        account = self._registry.account(identifier)
        if account is None or account.is_admin != principal.is_admin:
            return None
        if principal.session is None:
            return account.password_hash.encode()
        return principal.session if self._registry.holds_session(principal.session) else None

    async def route(self, principal: Principal, topic: str) -> Route:
        """Return where a topic leads for this principal, be it to rejection."""
        parsed = parse_device_topic(topic)
        if parsed is None:
            detail = "There is no such topic to publish on"
            return self._router.refused(principal, topic, RejectionReason.UNKNOWN_TOPIC, detail)
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
        if principal.is_admin:
            return True
        if principal.kind in ("anonymous", "user"):
            return principal.kind == "user" or principal.role >= Role.VIEWER
        if topic_filter == self._publish_topic:
            return True
        parsed = parse_device_topic(topic_filter)
        if parsed is None or "+" in topic_filter or "#" in topic_filter:
            return False
        sensor = await self._registry.find(parsed[1])
        return sensor is not None and self._router.may_write(principal, sensor)

    def may_see(self, principal: Principal, sensor: int, network_identifier: str) -> bool:
        """Tell whether the principal may see what this sensor sends."""
        if principal.kind == "shared":
            known = self._registry.number(sensor)
            return known is not None and self._router.may_write(principal, known)
        if principal.sensor is not None:
            return principal.sensor == sensor
        return self._registry.role(principal, network_identifier) >= Role.VIEWER

    async def retained(
        self, principal: Principal, topic_filter: str
    ) -> AsyncIterator[tuple[str, bytes]]:
        """Yield topic and payload of each configuration and status that the filter matches."""
        parsed = parse_device_topic(topic_filter)
        if parsed is not None and parsed[1] not in ("+", "#"):
            sensor = await self._registry.find(parsed[1])
            if sensor is None or not self.may_see(
                principal, sensor.number, sensor.network_identifier
            ):
                return
            if not sensor.is_active:
                record = await self._store.sensors.find_number(sensor.number)
                if record is None or record.deleted_at is not None:
                    return
            if parsed[0] is TopicKind.CONFIGURATIONS:
                current = await self._store.configurations.current(sensor.number)
                if current is not None:
                    yield topic_filter, _configuration(current.revision, current.configuration)
            elif parsed[0] is TopicKind.STATUS:
                found = await self._store.sensors.find_number(sensor.number)
                if found is not None and found.status is not None:
                    yield topic_filter, found.status.encode()
            return
        async for item in self._all_retained(principal, topic_filter):
            yield item

    async def _all_retained(
        self, principal: Principal, topic_filter: str
    ) -> AsyncIterator[tuple[str, bytes]]:
        wanted = [
            kind
            for kind in (TopicKind.CONFIGURATIONS, TopicKind.STATUS)
            if _may_match(topic_filter, kind.value)
        ]
        after = 0
        while wanted:
            sensors = await self._store.sensors.load(after, PAGE)
            if not sensors:
                return
            configurations = {}
            if TopicKind.CONFIGURATIONS in wanted:
                page = await self._store.configurations.current_of_all(after, PAGE)
                configurations = dict(page)
            for sensor in sensors:
                if sensor.deleted_at is not None or not self.may_see(
                    principal, sensor.number, sensor.network_identifier
                ):
                    continue
                names = (sensor.device_id or sensor.identifier, sensor.identifier)
                current = configurations.get(sensor.number)
                topic = _matching(topic_filter, "configurations", names)
                if current is not None and topic is not None:
                    yield topic, _configuration(current.revision, current.configuration)
                topic = _matching(topic_filter, "status", names)
                if sensor.status is not None and topic is not None:
                    yield topic, sensor.status.encode()
            after = sensors[-1].number

    def shown(self, events: Sequence[Committed]) -> list[Seen]:
        """Return committed events as messages under their sensors' topics."""
        return [
            Seen(
                _topics(event),
                event.payload if event.payload is not None else payload_of(event),
                event.number,
                event.network_identifier,
                event.origin,
            )
            for event in events
            if event.kind in TOPICS
        ]


def _topics(event: Committed) -> tuple[str, ...]:
    prefix = TOPICS[event.kind].value
    if event.device_id is None:
        return (f"{prefix}/{event.identifier}",)
    return (f"{prefix}/{event.device_id}", f"{prefix}/{event.identifier}")


def _may_match(topic_filter: str, first: str) -> bool:
    """Tell whether the filter may match a topic `<first>/<something>`."""
    level = topic_filter.split("/", 1)[0]
    return level in ("#", "+", first)


def _matching(topic_filter: str, prefix: str, names: tuple[str, ...]) -> str | None:
    """Return the topic of the first of a sensor's names that the filter matches."""
    topics = (f"{prefix}/{name}" for name in names)
    return next((topic for topic in topics if match(topic_filter, topic)), None)


def _configuration(revision: int, configuration: Any) -> bytes:
    return b'{"revision":%d,"configuration":%b}' % (revision, bytes(configuration))
