"""Rules: what to do when messages fulfil a condition, and what one would have done."""

import re
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from fastapi import Query, Request
from pydantic import ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.access.registry import KnownSensor
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.access import forbidden, is_machine, not_found
from heliograph.http.answers import SVG_HEADERS, Answer
from heliograph.http.csv_answers import prefers
from heliograph.http.errors import validation_error
from heliograph.http.lists import listed
from heliograph.http.members import Body
from heliograph.http.ranges import AskedRange, TheRange
from heliograph.http.records import Representation, ok
from heliograph.http.resources import (
    KnownCall,
    Refusals,
    Resource,
    TheCall,
    answered,
    found,
    refusals,
)
from heliograph.http.schemas import InNetwork, ListLimit, NewIdentifier, Offset, OfNetwork, Text
from heliograph.libraries import load
from heliograph.model.time import SECOND, now, to_rfc3339
from heliograph.processing.cel import CelError
from heliograph.processing.channels import shown_url
from heliograph.processing.chart import chart
from heliograph.processing.dry_run import DryRun, NoHistoryError, RaisedSpan, try_rule
from heliograph.processing.members import InvalidMemberError
from heliograph.processing.outbound import URLS
from heliograph.processing.rules import (
    CompiledRule,
    channels_of,
    check_topics,
    parse,
    written,
)
from heliograph.store.rules import MAXIMUM_RULES, StoredRule, TooManyRulesError

router = Resource("rules", "/rules")

SVG = "image/svg+xml"
_REFUSALS: Refusals = {
    "identifier": (ErrorCode.RULE_ALREADY_REGISTERED, "The id is already registered"),
    "name": (
        ErrorCode.RULE_NAME_ALREADY_REGISTERED,
        "The network has another rule of this name",
    ),
    TooManyRulesError: (
        ErrorCode.TOO_MANY_RULES,
        f"The network has {MAXIMUM_RULES:,} rules, and takes no more",
    ),
}
_PART = re.compile(r"[^.\[\]]+")

_NAME = "What people call it, unique in its network"
_ENABLED = "Whether it is in use"
_KINDS = (
    "What it looks at: `measurement`, `log`, `heartbeat`, `packet`; `presence` with `offline` alone"
)
_MATCH = "On which sensors of its network it falls: `sensors` and `tags`; without any on all"
_SENSORS = "UUIDs and `device_id`s"
_TAGS = "Every sensor with one of these tags"
_CONDITION = (
    "An object of one operator. Of an `attribute`: `above` (with `clear_below`), `below` (with"
    " `clear_above`), `outside`, `inside`, `equals`, `not_equals`, `one_of`, `change`, `rate`. Of"
    " a log message: `severity_at_least`, `subject`. By the clock: `no_data`, `offline`. Of several"
    " conditions: `all`, `any`. Of anything: `cel`, an expression"
)
_FOR = "Seconds for which the condition has to hold before the rule raises"
_CLEAR_FOR = "Seconds for which it has to hold no more before the rule clears"
_COOLDOWN = "Seconds from one raise to the next, at least"
_LATE = "Whether data that is older than the newest raises too"
_SEVERITY = "How bad it is: `info`, `warning` or `critical`"
_ACTIONS = (
    "What is done, each with a `type`: `alert`, `sse`, `mqtt`, `webhook` or, for administrators,"
    " `script`; and with `on`: `raised` (the default), `cleared`, or `message` for each message"
    " that fulfils the condition while the rule is raised. Who may not edit the rule sees no path"
    " and query of a webhook's `url`"
)


class MatchRepresentation(Representation):
    """On which sensors a rule falls."""

    sensors: Annotated[list[str], _SENSORS]
    tags: Annotated[list[str], _TAGS]


class RuleRepresentation(Representation, rename={"hold": "for"}):
    """A rule of a network."""

    id: Annotated[str, "Its UUID"]
    network_identifier: Annotated[str, "The UUID of its network"]
    name: Annotated[str, _NAME]
    enabled: Annotated[bool, _ENABLED]
    kinds: Annotated[list[str], _KINDS]
    match: Annotated[MatchRepresentation, _MATCH]
    condition: Annotated[dict[str, Any], _CONDITION]
    hold: Annotated[float, _FOR]
    clear_for: Annotated[float, _CLEAR_FOR]
    cooldown: Annotated[float, _COOLDOWN]
    late: Annotated[bool, _LATE]
    severity: Annotated[str, _SEVERITY]
    actions: Annotated[list[dict[str, Any]], _ACTIONS]
    created_at: Annotated[str, "When it was made (RFC 3339, UTC)"]
    changed_at: Annotated[str, "When it was changed last (RFC 3339, UTC)"]
    author: Annotated[str | None, "Who made it, as in the audit log; null: that is not known"]
    unknown_sensors: Annotated[
        list[str], "Those of `match` that its network does not have: nothing comes of them"
    ]
    unknown_channels: Annotated[
        list[str], "Channels that its actions name and its network does not have: nobody is told"
    ]

    @classmethod
    def of(
        cls,
        rule: StoredRule,
        sensors: set[tuple[str, str]],
        channels: set[tuple[str, str]],
        *,
        hides_urls: bool,
    ) -> Self:
        """Return the rule as it is shown; `sensors` and `channels` are known, by network.

        `hides_urls`: of those of webhooks it shows as much as a channel does.
        """
        document = msgspec.json.decode(rule.definition)
        network = rule.network_identifier
        return cls(
            id=rule.identifier,
            network_identifier=network,
            name=document["name"],
            enabled=document["enabled"],
            kinds=document["kinds"],
            match=MatchRepresentation(**document["match"]),
            condition=document["condition"],
            hold=document["for"],
            clear_for=document["clear_for"],
            cooldown=document["cooldown"],
            late=document["late"],
            severity=document["severity"],
            actions=[
                {**action, "url": shown_url(action["url"])}
                if hides_urls and "url" in action
                else action
                for action in document["actions"]
            ],
            created_at=to_rfc3339(rule.created_at),
            changed_at=to_rfc3339(rule.changed_at),
            author=rule.author,
            unknown_sensors=[
                name for name in document["match"]["sensors"] if (network, name) not in sensors
            ],
            unknown_channels=sorted(
                name for name in channels_of(document) if (network, name) not in channels
            ),
        )


class SpanRepresentation(Representation):
    """A time for which a rule would have been raised."""

    raised_at: Annotated[str, "From when (RFC 3339, UTC), by the data's own time"]
    cleared_at: Annotated[str | None, "Up to when (RFC 3339, UTC); null: it still is at the end"]

    @classmethod
    def of(cls, span: RaisedSpan) -> Self:
        """Return the times as they are shown."""
        cleared = None if span.cleared_at is None else to_rfc3339(span.cleared_at)
        return cls(to_rfc3339(span.raised_at), cleared)


class RuleTest(Representation):
    """What a rule would have done with what is stored of a sensor."""

    sensor_identifier: Annotated[str, "The sensor's UUID"]
    start: Annotated[str, "From when on (RFC 3339, UTC)"]
    end: Annotated[str, "Up to when (RFC 3339, UTC)"]
    complete: Annotated[
        bool, "Whether that is all that was asked for: it ends after 100,000 messages or 10 seconds"
    ]
    messages: Annotated[int, "Number of messages looked at"]
    absent: Annotated[int, "Number of messages without what the condition is about"]
    failed: Annotated[int, "Number of messages on which its expression was wrong"]
    raises: Annotated[int, "Number of times that it would have raised"]
    raised_seconds: Annotated[float, "Seconds for which it would have been raised, in all"]
    naive_raises: Annotated[
        int, "Number of times that it would have without hysteresis, durations and cooldown"
    ]
    spans: Annotated[list[SpanRepresentation], "When it would have been raised: the first 1,000"]

    @classmethod
    def of(cls, sensor: KnownSensor, run: DryRun) -> Self:
        """Return the dry run as it is shown."""
        return cls(
            sensor_identifier=sensor.identifier,
            start=to_rfc3339(run.start),
            end=to_rfc3339(run.end),
            complete=run.complete,
            messages=run.messages,
            absent=run.absent,
            failed=run.failed,
            raises=run.raises,
            raised_seconds=run.raised_for / SECOND,
            naive_raises=run.naive_raises,
            spans=[SpanRepresentation.of(span) for span in run.spans],
        )


def _duration(description: str) -> dict[str, Any]:
    return {"type": "number", "minimum": 0, "description": description}


def _texts(description: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "description": description}


def _objects(description: str) -> dict[str, Any]:
    items = {"type": "object", "additionalProperties": True}
    return {"type": "array", "items": items, "description": description}


_RULE_SCHEMA = {
    "name": {"type": "string", "minLength": 1, "maxLength": 255, "description": _NAME},
    "enabled": {"type": "boolean", "default": True, "description": _ENABLED},
    "kinds": _texts(_KINDS),
    "match": {
        "type": "object",
        "properties": {"sensors": _texts(_SENSORS), "tags": _texts(_TAGS)},
        "additionalProperties": False,
        "description": _MATCH,
    },
    "condition": {"type": "object", "additionalProperties": True, "description": _CONDITION},
    "for": _duration(_FOR),
    "clear_for": _duration(_CLEAR_FOR),
    "cooldown": _duration(_COOLDOWN),
    "late": {"type": "boolean", "default": False, "description": _LATE},
    "severity": {
        "type": "string",
        "enum": ["info", "warning", "critical"],
        "default": "warning",
        "description": _SEVERITY,
    },
    "actions": _objects(_ACTIONS),
}


class RuleDefinition(Body):
    """A rule, which `processing/rules.py` reads: what pydantic would say of it is less."""

    model_config = ConfigDict(extra="allow")

    others = _RULE_SCHEMA
    needed: ClassVar[Sequence[str]] = ("name", "condition")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the members of a rule, too."""
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        described = handler.resolve_ref_schema(schema)
        described["properties"] = {**_RULE_SCHEMA, **described.get("properties", {})}
        described["additionalProperties"] = False
        if cls.needed:
            described["required"] = list(cls.needed)
        return schema

    @property
    def definition(self) -> dict[str, Any]:
        """The members of the rule that are given."""
        return self.model_extra or {}


class NewRule(RuleDefinition):
    """A rule, and where it is to be."""

    network_identifier: InNetwork = None
    id: NewIdentifier = None


class RuleChange(RuleDefinition):
    """What is to change; members that are not present stay as they are."""

    representation = RuleRepresentation
    is_change = True
    needed = ()
    fixed = frozenset({"id", "network_identifier", "created_at", "author"})


Tried = Annotated[
    Text, Query(description="On what is stored of which sensor: its UUID or `device_id`")
]
Form = Annotated[
    Literal["json", "svg"] | None,
    Query(
        alias="format", description="What the answer is; otherwise `Accept` decides: JSON or SVG"
    ),
]
_DRAWN = {SVG: {"schema": {"type": "string", "description": "A chart"}}}


@router.route("", "POST", faults=[404, 409])
async def create_rule(rule: NewRule, call: TheCall) -> RuleRepresentation:
    """Make a rule, which is in use from now on. One with `script` takes an administrator."""
    network = await call.target_network(rule.network_identifier)
    await _load_libraries(rule.definition)
    document = _written(rule.definition, call)
    _require_scripts(call, document)
    with refusals(_REFUSALS):
        created = await call.store.rules.create(
            identifier=str(rule.id or uuid.uuid4()),
            network_identifier=network,
            document=document,
            created_at=now(),
            author=call.caller.name,
            actor=call.actor,
        )
    made = found(created, ErrorCode.NETWORK_NOT_FOUND)
    await call.registry.changed()
    # What is sent after the answer is looked at.
    await call.services.processor.refresh()
    return await _shown(call, made)


@router.route("", "GET", shown=list[RuleRepresentation])
async def list_rules(
    call: TheCall,
    name: Annotated[Text | None, Query(description="Only those of this name")] = None,
    enabled: Annotated[
        bool | None, Query(description="Only those in use; false: only those that are not")
    ] = None,
    network_identifier: OfNetwork = None,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List rules in the order of their creation; `X-Total-Count` says how many."""
    visible = await call.visible(network_identifier)

    async def read(offset: int, limit: int) -> tuple[Sequence[RuleRepresentation], int]:
        rules, total = await call.store.rules.page(
            networks=visible, offset=offset, limit=limit, name=name, enabled=enabled
        )
        return await _representations(call, rules), total

    return await listed(call, offset, limit, read)


@router.route("/{rule_id}", "GET")
async def read_rule(rule_id: str, call: TheCall) -> RuleRepresentation:
    """Read a rule."""
    return await _shown(call, await find_rule(call, rule_id))


@router.route("/{rule_id}", "PATCH", "PUT", faults=[409])
async def change_rule(rule_id: str, change: RuleChange, call: TheCall) -> RuleRepresentation:
    """Change a rule: the members that are present, each as a whole.

    One with `script`, before or after, takes an administrator.
    """
    rule = await find_rule(call, rule_id, Action.EDIT)
    if change.has_read_only:
        change.check_read_only(await _shown(call, rule))

    def decide(document: dict[str, Any]) -> dict[str, Any]:
        _require_scripts(call, document)
        # Topics that were right when they were given keep nobody from changing something else.
        has_actions = "actions" in change.definition
        changed = _written({**document, **change.definition}, call if has_actions else None)
        _require_scripts(call, changed)
        return changed

    with refusals(_REFUSALS):
        changed = await call.store.rules.change(
            rule.identifier, decide, changed_at=now(), actor=call.actor
        )
    made = found(changed, ErrorCode.RULE_NOT_FOUND)
    await call.registry.changed()
    await call.services.processor.refresh()
    return await _shown(call, made)


@router.route("/{rule_id}", "DELETE")
async def delete_rule(rule_id: str, call: TheCall) -> None:
    """Delete a rule, and what it remembers of sensors."""
    rule = await find_rule(call, rule_id, Action.MANAGE)
    if not await call.store.rules.delete(rule.identifier, actor=call.actor):
        raise not_found(ErrorCode.RULE_NOT_FOUND)
    await call.registry.changed()


@router.route(
    "/test",
    "POST",
    status=200,
    shown=RuleTest,
    faults=[404, 503],
    responses=ok(RuleTest, media=_DRAWN),
)
async def try_definition(
    rule: RuleDefinition,
    call: TheCall,
    asked: TheRange,
    request: Request,
    sensor: Tried,
    form: Form = None,
) -> Response:
    """Tell what a rule that is not stored would have done: when, how often and for how long.

    By default within the last 24 hours. Nothing is stored, sent or raised by it.
    """
    known = await call.readable(sensor)
    return await _tried(call, _written(rule.definition), known, asked, request, form)


@router.route(
    "/{rule_id}/test", "GET", shown=RuleTest, faults=[503], responses=ok(RuleTest, media=_DRAWN)
)
async def try_stored_rule(
    rule_id: str,
    call: TheCall,
    asked: TheRange,
    request: Request,
    sensor: Tried,
    form: Form = None,
) -> Response:
    """Tell what a rule would have done with what is stored: when, how often and for how long.

    By default within the last 24 hours. Nothing is stored, sent or raised by it.
    """
    rule = await find_rule(call, rule_id)
    known = await call.readable(sensor)
    document = msgspec.json.decode(rule.definition)
    return await _tried(call, document, known, asked, request, form)


async def find_rule(call: KnownCall, identifier: str, action: Action = Action.VIEW) -> StoredRule:
    """Return the rule if the caller may do this with what is in its network.

    Raises:
        HeliographError: RULE_NOT_FOUND, none for this caller; FORBIDDEN.
    """
    rule = await call.store.rules.find(identifier)
    if rule is None or not call.may(Action.VIEW, rule.network_identifier):
        raise forbidden() if is_machine(call.caller) else not_found(ErrorCode.RULE_NOT_FOUND)
    call.require(action, rule.network_identifier)
    return rule


async def _load_libraries(definition: dict[str, Any]) -> None:
    """Load what a rule with these actions is read with, whatever they are."""
    if "webhook" in str(definition.get("actions")):
        await load(URLS)


def _written(document: dict[str, Any], call: KnownCall | None = None) -> dict[str, Any]:
    """Return the complete document of the rule that is described.

    With a call the topics of its actions are checked too.

    Raises:
        RequestValidationError: none is.
    """
    try:
        complete = written(document)
        if call is not None:
            check_topics(complete, call.services.settings.mqtt_publish_topic)
    except InvalidMemberError as error:
        parts = (int(part) if part.isdecimal() else part for part in _PART.findall(error.place))
        raise validation_error(("body", *parts), "value_error", error.problem) from None
    return complete


def _require_scripts(call: KnownCall, document: dict[str, Any]) -> None:
    """Allow a rule that runs a script on this machine to the administrator alone."""
    if any(action["type"] == "script" for action in document["actions"]):
        call.require(Action.ADMINISTER)


async def _shown(call: KnownCall, rule: StoredRule) -> RuleRepresentation:
    return (await _representations(call, [rule]))[0]


async def _representations(
    call: KnownCall, rules: Sequence[StoredRule]
) -> list[RuleRepresentation]:
    documents = [msgspec.json.decode(rule.definition) for rule in rules]
    for document in documents:
        await _load_libraries(document)
    sensors = {name for document in documents for name in document["match"]["sensors"]}
    channels = {name for document in documents for name in channels_of(document)}
    known_sensors = await call.store.rules.sensors_named(sensors)
    known_channels = await call.store.rules.channels_named(channels)
    return [
        RuleRepresentation.of(
            rule,
            known_sensors,
            known_channels,
            hides_urls=not call.may(Action.EDIT, rule.network_identifier),
        )
        for rule in rules
    ]


async def _tried(
    call: KnownCall,
    document: dict[str, Any],
    sensor: KnownSensor,
    asked: AskedRange,
    request: Request,
    form: str | None,
) -> Response:
    try:
        rule = CompiledRule(parse(document))
        run = await try_rule(
            call.store, rule, sensor.number, asked.start, asked.end, hold=call.held.hold
        )
    except NoHistoryError:
        message = "Whether sensors were connected is not kept: the rule has nothing to be tried on"
        raise HeliographError(ErrorCode.VALIDATION_FAILED, message) from None
    except CelError as error:
        raise HeliographError(ErrorCode.VALIDATION_FAILED, str(error)) from None
    if form == "svg" or (form is None and prefers(SVG, request.headers.get("accept", ""))):
        drawn = chart(run, f"{document['name']} · {sensor.device_id or sensor.identifier}")
        return Answer(200, drawn.encode(), common=SVG_HEADERS)
    return answered(RuleTest.of(sensor, run))
