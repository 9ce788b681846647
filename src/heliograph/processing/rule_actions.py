"""What a rule does when it raises, clears, or for each message: events, messages, calls, scripts.

What an action says is made of its templates at once, in the transaction in which the rule moves,
and kept in the outbox as JSON; the dispatchers run it from there, at least once. Packets that are
to be published go the same way.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from heliograph.access.policy import may_rule_send
from heliograph.access.registry import KnownSensor, Registry
from heliograph.errors import DeliveryError, HeliographError
from heliograph.live.frames import notice
from heliograph.live.streams import Streams
from heliograph.model.actions import BROKER, LISTENER, PacketPublication
from heliograph.model.alert import Escalation, NewAlert
from heliograph.model.attributes import MISSING, keys_of, value_at
from heliograph.model.canonical import canonical
from heliograph.model.records import Kind
from heliograph.model.time import to_rfc3339
from heliograph.mqtt.link import Link
from heliograph.mqtt.listener import Listener
from heliograph.mqtt.publications import PublicationRefusedError, PublicationUnsettledError
from heliograph.mqtt.topics import TopicKind, parse_device_topic
from heliograph.processing.channels import WebhookTarget
from heliograph.processing.conditions import OF_THE_CLOCK, Condition, leaves
from heliograph.processing.dispatcher import ActionFailedError, NotNowError, Run
from heliograph.processing.members import microseconds
from heliograph.processing.notifications import Notifications
from heliograph.processing.outbound import Webhooks
from heliograph.processing.rule_index import IndexedRule
from heliograph.processing.rules import RuleAction
from heliograph.processing.scripts import Scripts
from heliograph.processing.state import Transition
from heliograph.processing.templates import TemplateError, render_json, render_text, render_topic
from heliograph.store.actions import DueAction

SSE: Final = "sse"
MQTT: Final = "mqtt"
WEBHOOK: Final = "webhook"
SCRIPT: Final = "script"

RULE_EVENT: Final = "rule"
LONGEST_SUMMARY = 500
_SHOWN = ("rule", "kind", "value", "timestamp", "idempotency_key")
_SAID = {"no_data": "no data", "offline": "offline"}
_KINDS = {
    TopicKind.MEASUREMENTS: Kind.MEASUREMENT,
    TopicKind.LOGS: Kind.LOG,
    TopicKind.HEARTBEATS: Kind.HEARTBEAT,
}

# Stores what is sent as a sensor: kind, sensor, payload, topic, and a key that tells repeats.
Send: TypeAlias = Callable[[Kind, KnownSensor, bytes, str, str], Awaitable[None]]


class SensorEvent(msgspec.Struct, frozen=True):
    """An event of a network's streams, about a sensor."""

    sensor: int
    identifier: str
    device_id: str | None
    members: dict[str, Any]


class RulePublication(msgspec.Struct, frozen=True):
    """What is to be published on a topic."""

    topic: str
    payload: str


class Post(msgspec.Struct, frozen=True):
    """What is to be posted: to a URL, or to the webhook channel of this name."""

    payload: str
    url: str | None = None
    channel: str | None = None


class ScriptCall(msgspec.Struct, frozen=True):
    """What a script is to be given."""

    script: str
    payload: str


def variables_of(
    rule: IndexedRule,
    sensor: KnownSensor,
    network: str | None,
    transition: Transition,
    kind: Kind,
    value: Any,
) -> dict[str, Any]:
    """Return what the templates of a rule's actions speak of; `network` is its name."""
    compiled = rule.compiled.rule
    return {
        "rule": {
            "identifier": rule.identifier,
            "name": compiled.name,
            "severity": compiled.severity.value,
            "occasion": transition.occasion.value,
        },
        "sensor": {"identifier": sensor.identifier, "device_id": sensor.device_id},
        "network": {"identifier": rule.stored.network_identifier, "name": network},
        "kind": kind.value,
        "value": value,
        "timestamp": to_rfc3339(transition.at),
        "alert": {"severity": compiled.severity.value, "raised_at": to_rfc3339(transition.at)},
    }


def body_of(action: RuleAction, sensor: KnownSensor, variables: Mapping[str, Any]) -> str:
    """Return what the outbox keeps of an action: all that it takes to run it, as JSON.

    Raises:
        TemplateError: what its templates make of the message can't be used.
    """
    members = action.members
    body: msgspec.Struct
    if action.type == SSE:
        shown = {name: variables[name] for name in _SHOWN}
        if "template" in members:
            shown = {
                "rule": variables["rule"],
                "idempotency_key": variables["idempotency_key"],
                "event": render_json(members["template"], variables),
            }
        body = SensorEvent(sensor.number, sensor.identifier, sensor.device_id, shown)
    elif action.type == MQTT:
        # Who may publish there is asked when it is published.
        topic = render_topic(members["topic"], variables, lambda _topic: True)
        body = RulePublication(topic, _payload(members, variables))
    elif action.type == WEBHOOK:
        payload = _payload(members, variables)
        body = Post(payload, members.get("url"), members.get("channel"))
    else:
        body = ScriptCall(members["script"], _payload(members, variables))
    return msgspec.json.encode(body).decode()


def alert_of(
    rule: IndexedRule,
    sensor: KnownSensor,
    transition: Transition,
    action: RuleAction,
    variables: Mapping[str, Any],
) -> NewAlert:
    """Return the alert that a rule raises; a text that can't be made is the rule's own."""
    members, compiled = action.members, rule.compiled.rule
    summary = summary_of(compiled.condition, variables["value"])
    if "text" in members:
        with contextlib.suppress(TemplateError):
            summary = render_text(members["text"], variables)
    channels, remind_every = members.get("channels"), members.get("remind_every")
    return NewAlert(
        rule=rule.identifier,
        sensor=sensor.number,
        network_identifier=rule.stored.network_identifier,
        name=compiled.name,
        severity=compiled.severity.value,
        summary=summary[:LONGEST_SUMMARY],
        raised_at=transition.at,
        channels=None if channels is None else tuple(channels),
        remind_every=None if remind_every is None else microseconds(remind_every),
        escalate=tuple(
            Escalation(
                microseconds(each["after"]),
                each["severity"],
                tuple(each["channels"]) if "channels" in each else None,
            )
            for each in members.get("escalate", ())
        ),
    )


def summary_of(condition: Condition, value: Any) -> str:
    """Return in a sentence what a condition finds in a value."""
    if condition.operator in OF_THE_CLOCK:
        return f"{_SAID[condition.operator]} for {condition.operand:g} s"
    said = [
        f"{leaf.attribute or leaf.operator} is {_told(found)}"
        for leaf in leaves(condition)
        if leaf.attribute and (found := value_at(value, keys_of(leaf.attribute))) is not MISSING
    ]
    if condition.attribute and said:
        return f"{said[0]}: {condition.operator.replace('_', ' ')} {_told(condition.operand)}"
    return ", ".join(said) or _told(value)


def _told(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value).decode()


def _payload(members: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    template = members.get("payload")
    if isinstance(template, str):
        return render_text(template, variables)
    made = variables if template is None else render_json(template, variables)
    return canonical(made).decode()


class RuleActions:
    """Runs what rules have entered into the outbox."""

    def __init__(
        self,
        registry: Registry,
        streams: Streams,
        listener: Listener | None,
        link: Link | None,
        *,
        send: Send,
        publish_topic: str,
        webhooks: Webhooks,
        notifications: Notifications,
        scripts: Scripts,
    ) -> None:
        self._registry = registry
        self._streams = streams
        self._listener = listener
        self._link = link
        self._send = send
        self.publish_topic = publish_topic
        self._webhooks = webhooks
        self._notifications = notifications
        self._scripts = scripts

    @property
    def quick(self) -> dict[str, Run]:
        """What does not wait for others, by type."""
        return {SSE: self.show, MQTT: self.publish}

    @property
    def calls(self) -> dict[str, Run]:
        """What waits for others' machines, by type."""
        return {WEBHOOK: self.post}

    @property
    def scripts(self) -> dict[str, Run]:
        """What takes this machine's time, by type."""
        return {SCRIPT: self.run_script}

    async def show(self, due: DueAction) -> None:
        """Show an event to who watches the network."""
        event = msgspec.json.decode(due.body, type=SensorEvent)
        names = event.sensor, event.identifier, event.device_id, due.network_identifier or ""
        self._streams.show([notice(RULE_EVENT, names, event.members)])

    async def publish(self, due: DueAction) -> None:
        """Publish a message where the network's editors may: to its devices, or as a sensor.

        Raises:
            ActionFailedError: the rule may not publish there, or it was not taken.
            NotNowError: the broker is away, or the server can't store anything.
        """
        publication = msgspec.json.decode(due.body, type=RulePublication)
        topic, payload = publication.topic, publication.payload.encode()
        if topic != self.publish_topic:
            await self._send_as_sensor(due, topic, payload)
            return
        if self._link is not None:
            await publish_through(self._link, topic, payload)
        if self._listener is not None:
            self._listener.publish(topic, payload, due.network_identifier)
        if self._link is None and self._listener is None:
            raise ActionFailedError("there is neither a listener nor a broker", is_final=True)

    async def _send_as_sensor(self, due: DueAction, topic: str, payload: bytes) -> None:
        place = parse_device_topic(topic)
        sensor = None if place is None else await self._registry.find(place[1])
        if (
            place is None
            or place[0] not in _KINDS
            or sensor is None
            or not may_rule_send(due.network_identifier or "", sensor)
        ):
            raise ActionFailedError(f"the rule may not publish on {topic!r}", is_final=True)
        if sensor.number == due.sensor:
            detail = f"{topic!r} is of the sensor that the rule is about: it would go on for ever"
            raise ActionFailedError(detail, is_final=True)
        if self._link is not None:
            # From where it comes to us too, like all that the broker takes of sensors.
            await publish_through(self._link, topic, payload)
            return
        try:
            await self._send(_KINDS[place[0]], sensor, payload, topic, f"action-{due.id}")
        except HeliographError as error:
            raise NotNowError(error.detail) from error
        except ValueError as error:
            raise ActionFailedError(str(error), is_final=True) from error

    async def post(self, due: DueAction) -> None:
        """Post to a webhook.

        Raises:
            ActionFailedError: it was not delivered.
        """
        post = msgspec.json.decode(due.body, type=Post)
        try:
            if post.url is None:
                found = await self._notifications.webhook(
                    due.network_identifier, post.channel or ""
                )
            else:
                found = WebhookTarget(post.url)
            await self._webhooks.post(
                found.url,
                post.payload.encode(),
                secret=found.secret,
                headers=found.headers,
                key=due.idempotency_key,
            )
        except DeliveryError as error:
            raise ActionFailedError(str(error), is_final=error.is_final) from error

    async def run_script(self, due: DueAction) -> None:
        """Run a script with the message as its input.

        Raises:
            ActionFailedError: it must not be run, or failed.
        """
        call = msgspec.json.decode(due.body, type=ScriptCall)
        try:
            await self._scripts.run(call.script, call.payload.encode())
        except DeliveryError as error:
            raise ActionFailedError(str(error), is_final=error.is_final) from error


class PacketActions:
    """Publishes packets by the way that each names: to the listener, or through the broker."""

    def __init__(self, listener: Listener | None, link: Link | None) -> None:
        self._listener = listener
        self._link = link

    async def run(self, due: DueAction) -> None:
        """Publish the packet.

        Raises:
            ActionFailedError: it was not taken.
            NotNowError: the broker is away, or has enough to do.
        """
        publication = msgspec.json.decode(due.body, type=PacketPublication)
        topic, payload = publication.topic, publication.payload.encode()
        if publication.through == LISTENER and self._listener is not None:
            self._listener.publish(topic, payload, due.network_identifier)
        elif publication.through == BROKER and self._link is not None:
            await publish_through(self._link, topic, payload)
        else:
            detail = f"there is no {publication.through} any more"
            raise ActionFailedError(detail, is_final=True)


async def publish_through(link: Link, topic: str, payload: bytes) -> None:
    """Publish through the broker.

    Raises:
        ActionFailedError: it was not taken.
        NotNowError: the broker is away, or has enough to do.
    """
    if not link.connected:
        raise NotNowError("the broker is not connected")
    try:
        await link.publish(topic, payload)
    except (PublicationRefusedError, PublicationUnsettledError) as error:
        raise ActionFailedError(str(error)) from error
    except HeliographError as error:
        raise NotNowError(error.detail) from error
    except ValueError as error:
        raise ActionFailedError(str(error), is_final=True) from error
