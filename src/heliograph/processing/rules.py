"""Rules: what to do when the messages of some sensors fulfil a condition.

A rule is JSON, the same over HTTP and in the store: `parse` reads it and names what is wrong,
`document_of` writes it again, and `CompiledRule` is what runs.
"""

import enum
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec

from heliograph.model.attributes import keys_of
from heliograph.model.canonical import canonical
from heliograph.model.identifiers import is_device_id, is_uuid
from heliograph.model.records import Kind
from heliograph.mqtt.topics import SENT, parse_device_topic
from heliograph.processing import conditions, templates
from heliograph.processing.channels import webhook_url
from heliograph.processing.conditions import Condition
from heliograph.processing.members import (
    InvalidMemberError,
    Members,
    boolean,
    each,
    microseconds,
    one_of,
    positive_seconds,
    seconds,
    shown,
    text,
)
from heliograph.processing.scripts import check_name

MAXIMUM_ACTIONS = 16
MAXIMUM_SENSORS = 1_000
MAXIMUM_TAGS = 64
MAXIMUM_CHANNELS = 16
MAXIMUM_ESCALATIONS = 4
LONGEST_NAME = 255
# From one reminder to the next, in seconds: each is stored, of each alert.
SHORTEST_INTERVAL = 60
# Of all that is written, as JSON, in bytes.
LARGEST_RULE = 65_536

# What rules may be about; `offline` is about presence alone.
KINDS: Final = (Kind.MEASUREMENT, Kind.LOG, Kind.HEARTBEAT, Kind.PACKET)


class AlertSeverity(enum.StrEnum):
    """How bad it is when a rule's condition holds."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Occasion(enum.StrEnum):
    """When an action runs: once when the rule raises, when it clears, or for each message.

    Of the messages those count that fulfil the condition while the rule is raised.
    """

    RAISED = "raised"
    CLEARED = "cleared"
    MESSAGE = "message"


class Match(msgspec.Struct, frozen=True):
    """Which sensors a rule falls upon: those named and those with one of the tags; none: all."""

    sensors: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()


class RuleAction(msgspec.Struct, frozen=True):
    """What a rule does: the type says how `members` are read (`sse`, `mqtt`, `webhook`, …)."""

    type: str
    on: Occasion
    members: dict[str, Any]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as a person writes it. Durations are seconds.

    `hold` (in JSON `for`) is how long the condition holds before the rule raises, `clear_for` how
    long it does not before it clears, `cooldown` how long at least from one raise to the next.
    With `late`, data that is older than the newest raises too.
    """

    name: str
    condition: Condition
    kinds: tuple[Kind, ...]
    actions: tuple[RuleAction, ...] = ()
    match: Match = Match()
    enabled: bool = True
    hold: float = 0
    clear_for: float = 0
    cooldown: float = 0
    late: bool = False
    severity: AlertSeverity = AlertSeverity.WARNING


class CompiledRule:
    """A rule as it runs. Durations are microseconds; `alert` is the action that raises one."""

    __slots__ = (
        "alert",
        "by_clock",
        "changing",
        "clear_for",
        "cooldown",
        "evaluate",
        "forwards",
        "hold",
        "operator",
        "rule",
    )

    def __init__(self, rule: Rule) -> None:
        """Compile the condition.

        Raises:
            CelError: its expression is refused, or the extra `cel` is not installed any more.
        """
        condition = rule.condition
        self.rule = rule
        self.operator = condition.operator
        self.evaluate = conditions.compile_condition(condition)
        self.by_clock = condition.operator in conditions.OF_THE_CLOCK
        self.hold = microseconds(condition.operand if self.by_clock else rule.hold)
        self.clear_for = microseconds(rule.clear_for)
        self.cooldown = microseconds(rule.cooldown)
        self.alert = next((action for action in rule.actions if action.type == "alert"), None)
        self.forwards = any(action.on is Occasion.MESSAGE for action in rule.actions)
        # The attributes whose previous number it needs, and the keys that lead there.
        self.changing = tuple(
            (leaf.attribute, keys_of(leaf.attribute))
            for leaf in conditions.leaves(condition)
            if leaf.operator in conditions.OF_CHANGES and leaf.attribute
        )

    @property
    def needs_each(self) -> bool:
        """Whether it needs each message, not only those that fulfil its condition."""
        return bool(self.changing) or self.by_clock


def parse(document: Any) -> Rule:
    """Return the rule that a decoded JSON object describes.

    Raises:
        InvalidMemberError: it describes none.
    """
    members = Members(document)
    name = members.take("name", _name)
    condition = members.take("condition", conditions.parse)
    rule = Rule(
        name=name,
        condition=condition,
        kinds=_kinds(members, condition),
        actions=members.take("actions", each(_action, most=MAXIMUM_ACTIONS), ()),
        match=members.take("match", _match, Match()),
        enabled=members.take("enabled", boolean, default=True),
        hold=members.take("for", seconds, 0),
        clear_for=members.take("clear_for", seconds, 0),
        cooldown=members.take("cooldown", seconds, 0),
        late=members.take("late", boolean, default=False),
        severity=AlertSeverity(
            members.take("severity", one_of(tuple(AlertSeverity)), AlertSeverity.WARNING)
        ),
    )
    members.end()
    if sum(action.type == "alert" for action in rule.actions) > 1:
        raise members.error("actions", "has more than one `alert`: a sensor has one of a rule")
    if condition.operator in conditions.OF_THE_CLOCK:
        useless = {"for": rule.hold, "late": rule.late}
        if condition.operator == "no_data":
            useless["clear_for"] = rule.clear_for
        for member, value in useless.items():
            if value:
                raise members.error(member, f"means nothing with `{condition.operator}`")
    return rule


def document_of(rule: Rule) -> dict[str, Any]:
    """Return what `parse` makes the same rule of, with all members."""
    return {
        "name": rule.name,
        "enabled": rule.enabled,
        "kinds": [kind.value for kind in rule.kinds],
        "match": {"sensors": sorted(rule.match.sensors), "tags": sorted(rule.match.tags)},
        "condition": conditions.document_of(rule.condition),
        "for": rule.hold,
        "clear_for": rule.clear_for,
        "cooldown": rule.cooldown,
        "late": rule.late,
        "severity": rule.severity.value,
        "actions": [_action_document(action) for action in rule.actions],
    }


def written(document: Any) -> dict[str, Any]:
    """Return the document of the rule that a decoded JSON object describes, as it is stored.

    Raises:
        InvalidMemberError: it describes none, or more than `LARGEST_RULE` bytes.
    """
    complete = document_of(parse(document))
    if (size := len(canonical(complete))) > LARGEST_RULE:
        raise InvalidMemberError("", f"the rule has {size} bytes, more than {LARGEST_RULE}")
    return complete


def check_topics(document: dict[str, Any], publish_topic: str) -> None:
    """Check the topics of a document's `mqtt` actions, as far as templates leave them open.

    Raises:
        InvalidMemberError: a rule may not publish there, or what it publishes would be rejected.
    """
    for position, action in enumerate(document["actions"]):
        if action["type"] != "mqtt":
            continue
        place, topic = f"actions.{position}", action["topic"]
        begin = topic.partition("{{")[0]
        of_sensors = tuple(f"{name}/" for name in SENT)
        if begin.startswith(of_sensors):
            if begin == topic and parse_device_topic(topic) is None:
                raise InvalidMemberError(f"{place}.topic", f"{shown(topic)} is no sensor's topic")
            if "payload" not in action:
                problem = "is missing: what is sent as a sensor has the form of its messages"
                raise InvalidMemberError(f"{place}.payload", problem)
        elif topic != publish_topic and (
            begin == topic
            or not any(each.startswith(begin) for each in (publish_topic, *of_sensors))
        ):
            problem = (
                f"{shown(topic)} is neither MQTT_PUBLISH_TOPIC ({publish_topic}) nor where a sensor"
                " sends, such as measurements/NAME"
            )
            raise InvalidMemberError(f"{place}.topic", problem)


def channels_of(document: dict[str, Any]) -> set[str]:
    """Return the names of the channels that a rule's document has."""
    found: set[str] = set()
    for action in document["actions"]:
        found.update(action.get("channels", ()))
        if "channel" in action:
            found.add(action["channel"])
        for step in action.get("escalate", ()):
            found.update(step.get("channels", ()))
    return found


def falls_upon(
    match: Match, *, identifier: str, device_id: str | None, tags: Collection[str]
) -> bool:
    """Return whether a rule with the match falls upon a sensor of the rule's network."""
    if not match.sensors and not match.tags:
        return True
    is_named = identifier in match.sensors or device_id in match.sensors
    return is_named or not match.tags.isdisjoint(tags)


def _name(value: Any, place: str) -> str:
    name = text(value, place)
    if len(name) > LONGEST_NAME:
        raise InvalidMemberError(place, f"is longer than {LONGEST_NAME} characters")
    return name


def _kinds(members: Members, condition: Condition) -> tuple[Kind, ...]:
    """Return the kinds of message, of which a condition may leave no choice."""
    of_logs = {leaf.operator for leaf in conditions.leaves(condition)} & conditions.OF_LOGS
    if condition.operator == "offline":
        possible: tuple[Kind, ...] = (Kind.PRESENCE,)
    else:
        possible = (Kind.LOG,) if of_logs else KINDS
    given = members.take("kinds", each(one_of(possible), least=1, most=len(possible)), None)
    if given is None:
        return possible[:1]
    return tuple(kind for kind in possible if kind in given)


def _match(value: Any, place: str) -> Match:
    members = Members(value, place)
    sensors = members.take("sensors", each(_sensor, most=MAXIMUM_SENSORS), ())
    tags = members.take("tags", each(_name, most=MAXIMUM_TAGS), ())
    members.end()
    return Match(frozenset(sensors), frozenset(tags))


def _sensor(value: Any, place: str) -> str:
    if isinstance(value, str):
        if is_uuid(value):
            return value.lower()
        if is_device_id(value):
            return value
    raise InvalidMemberError(place, f"{shown(value)} is neither a UUID nor a device_id")


def _action(value: Any, place: str) -> RuleAction:
    members = Members(value, place)
    kind = members.take("type", one_of(_ACTIONS))
    needed, possible = _ACTIONS[kind]
    taken: dict[str, Any] = {name: members.take(name, read) for name, read in needed.items()}
    for name, read in possible.items():
        if members.has(name):
            taken[name] = members.take(name, read)
    for name in ("qos", "retain") if kind == "mqtt" else ():
        if members.has(name):
            # QoS 0 would be lost with a connection, and what is retained is sent as new for ever.
            raise members.error(name, "can't be chosen: it is QoS 1, not retained")
    if kind == "webhook" and ("url" in taken) == ("channel" in taken):
        raise members.error("", "has either a `url` or the name of a `channel`")
    # An alert is raised and cleared by itself.
    on = Occasion.RAISED
    if kind != "alert":
        on = Occasion(members.take("on", one_of(tuple(Occasion)), Occasion.RAISED))
    members.end()
    return RuleAction(kind, on, taken)


def _action_document(action: RuleAction) -> dict[str, Any]:
    document = {"type": action.type, **action.members}
    return document if action.type == "alert" else document | {"on": action.on.value}


def _script(value: Any, place: str) -> str:
    name = text(value, place)
    try:
        check_name(name)
    except ValueError as error:
        raise InvalidMemberError(place, str(error)) from None
    return name


def _escalation(value: Any, place: str) -> dict[str, Any]:
    members = Members(value, place)
    taken: dict[str, Any] = {
        "after": members.take("after", positive_seconds),
        "severity": members.take("severity", one_of(tuple(AlertSeverity))),
    }
    if members.has("channels"):
        taken["channels"] = members.take("channels", _channels)
    members.end()
    return taken


def _interval(value: Any, place: str) -> float:
    if positive_seconds(value, place) < SHORTEST_INTERVAL:
        raise InvalidMemberError(place, f"{shown(value)} is less than {SHORTEST_INTERVAL} seconds")
    return seconds(value, place)


def _channels(value: Any, place: str) -> list[str]:
    return list(each(_name, most=MAXIMUM_CHANNELS)(value, place))


def _escalations(value: Any, place: str) -> list[dict[str, Any]]:
    steps = each(_escalation, least=1, most=MAXIMUM_ESCALATIONS)(value, place)
    # A step that is due would wait for the one that is written before it.
    return sorted(steps, key=lambda step: step["after"])


_Read = Callable[[Any, str], Any]
# By the type of an action the members that it needs, and those that it may have.
_ACTIONS: Final[dict[str, tuple[dict[str, _Read], dict[str, _Read]]]] = {
    "sse": ({}, {"template": templates.check}),
    "mqtt": (
        {"topic": templates.check_topic},
        {"payload": templates.check},
    ),
    # What it is signed with is a channel's: a rule is shown to whoever may read the network.
    "webhook": ({}, {"url": webhook_url, "channel": _name, "payload": templates.check}),
    "script": ({"script": _script}, {"payload": templates.check}),
    "alert": (
        {},
        {
            "text": templates.check_text,
            "channels": _channels,
            "remind_every": _interval,
            "escalate": _escalations,
        },
    ),
}
