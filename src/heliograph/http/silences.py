"""Silences: whose alerts nobody is told of for a time."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Self

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.access import forbidden, is_machine, not_found
from heliograph.http.alerts import Comment, may_in, visible_alerts
from heliograph.http.lists import listed
from heliograph.http.members import Body
from heliograph.http.records import Representation
from heliograph.http.resources import KnownCall, Resource, TheCall, found
from heliograph.http.rules import find_rule
from heliograph.http.schemas import ListLimit, Offset, OfNetwork, Tag, Text, Time
from heliograph.model.alert import LONGEST_SILENCE, Silence
from heliograph.model.time import DAY, now, to_rfc3339
from heliograph.processing.server_alerts import CONDITION_NAMES, REJECTED
from heliograph.store.alerts import MAXIMUM_SILENCES

router = Resource("silences", "/silences")


class SilenceRepresentation(Representation):
    """A silence. What is null does not narrow whose alerts it is about."""

    id: Annotated[str, "Its UUID"]
    network_identifier: Annotated[
        str | None, "The UUID of the network; null: all, and the server's own alerts"
    ]
    sensor_identifier: Annotated[str | None, "The UUID of the sensor"]
    device_id: Annotated[str | None, "The sensor's `device_id`"]
    sensor_name: Annotated[str | None, "What people call the sensor; null: it has no name"]
    tag: Annotated[str | None, "A tag of sensors"]
    rule: Annotated[str | None, "The UUID of a rule, or the name of a condition of the server's"]
    starts_at: Annotated[str, "When it starts (RFC 3339, UTC)"]
    ends_at: Annotated[str, "When it ends (RFC 3339, UTC): then people are told what holds"]
    comment: Annotated[str | None, "Why"]
    author: Annotated[str | None, "Who made it, as in the audit log"]
    created_at: Annotated[str, "When it was made (RFC 3339, UTC)"]

    @classmethod
    def of(cls, silence: Silence) -> Self:
        """Return the silence as it is shown."""
        return cls(
            silence.identifier,
            silence.network_identifier,
            silence.sensor_identifier,
            silence.device_id,
            silence.sensor_name,
            silence.tag,
            silence.rule,
            to_rfc3339(silence.starts_at),
            to_rfc3339(silence.ends_at),
            silence.comment,
            silence.author,
            to_rfc3339(silence.created_at),
        )


class NewSilence(Body):
    """Whose alerts nobody is told of, and for how long."""

    representation = SilenceRepresentation

    network_identifier: Text | None = Field(
        default=None,
        description="The UUID of the network; without this member that of the sensor or the"
        " rule, or the network `default`; null: all, and the server's own alerts (for"
        " administrators)",
    )
    sensor: Text | None = Field(default=None, description="A sensor's UUID or `device_id`")
    tag: Tag | None = None
    rule: Text | None = Field(
        default=None, description="A rule's UUID, or the name of a condition of the server's"
    )
    starts_at: Time | None = Field(
        default=None, description="When it starts (epoch seconds or RFC 3339); by default now"
    )
    ends_at: Time
    comment: Comment | None = None


class SilenceChange(Body):
    """What is to change; members that are not present stay as they are."""

    representation = SilenceRepresentation
    is_change = True

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    starts_at: Time = Field(default_factory=int)
    ends_at: Time = Field(default_factory=int)
    comment: Comment | None = None


@router.route("", "POST", faults=[404, 409])
async def create_silence(new: NewSilence, call: TheCall) -> SilenceRepresentation:
    """Silence alerts for a time, at once or later; they are listed all the same."""
    moment = now()
    sensor = None if new.sensor is None else await call.readable(new.sensor)
    # The name of a condition of the server's own, of which one is of networks.
    is_condition = new.rule in CONDITION_NAMES
    rule = None if new.rule is None or is_condition else await find_rule(call, new.rule)
    network = new.network_identifier
    if network is None and "network_identifier" in new.model_fields_set:
        call.require(Action.ADMINISTER)
    else:
        if network is None and sensor is not None:
            network = sensor.network_identifier
        if network is None and rule is not None:
            network = rule.network_identifier
        network = await call.target_network(network)
        if sensor is not None and sensor.network_identifier != network:
            raise not_found(ErrorCode.SENSOR_NOT_FOUND)
        is_foreign = rule is not None and rule.network_identifier != network
        if is_foreign or (is_condition and new.rule != REJECTED):
            raise not_found(ErrorCode.RULE_NOT_FOUND)
    starts_at = moment if new.starts_at is None else new.starts_at
    _check(starts_at, new.ends_at, moment)
    silence = Silence(
        str(uuid.uuid4()),
        network,
        None if sensor is None else sensor.number,
        new.tag,
        new.rule if rule is None else rule.identifier,
        starts_at,
        new.ends_at,
        new.comment,
        call.actor.name,
        moment,
    )
    made = await call.store.silences.create(silence, moment, actor=call.actor)
    if made is None:
        detail = f"There are {MAXIMUM_SILENCES:,} silences already: end some"
        raise HeliographError(ErrorCode.TOO_MANY_SILENCES, detail)
    return SilenceRepresentation.of(made)


@router.route("", "GET", shown=list[SilenceRepresentation])
async def list_silences(
    call: TheCall,
    network_identifier: OfNetwork = None,
    ended: Annotated[bool, Query(description="Those that have ended too")] = False,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List the silences that have not ended, by when they start; `X-Total-Count` says how many."""
    networks = await visible_alerts(call, network_identifier)
    since = 0 if ended else now()

    async def read(offset: int, limit: int) -> tuple[Sequence[SilenceRepresentation], int]:
        page, total = await call.store.silences.page(
            networks, since=since, offset=offset, limit=limit
        )
        return [SilenceRepresentation.of(silence) for silence in page], total

    return await listed(call, offset, limit, read)


@router.route("/{silence_id}", "GET")
async def read_silence(silence_id: str, call: TheCall) -> SilenceRepresentation:
    """Read a silence."""
    return SilenceRepresentation.of(await _found(call, silence_id, Action.VIEW))


@router.route("/{silence_id}", "PUT")
async def change_silence(
    silence_id: str, change: SilenceChange, call: TheCall
) -> SilenceRepresentation:
    """Change when a silence is, or its comment; members that are absent stay as they are."""
    silence = await _found(call, silence_id, Action.EDIT)
    change.check_read_only(SilenceRepresentation.of(silence))
    members = change.model_dump(include=change.model_fields_set)
    starts_at = members.get("starts_at", silence.starts_at)
    ends_at = members.get("ends_at", silence.ends_at)
    moment = now()
    if (starts_at, ends_at) != (silence.starts_at, silence.ends_at):
        _check(starts_at, ends_at, moment)
    changed = await call.store.silences.change(
        silence.identifier,
        moment,
        starts_at=starts_at,
        ends_at=ends_at,
        comment=members.get("comment", silence.comment),
        actor=call.actor,
    )
    return SilenceRepresentation.of(found(changed, ErrorCode.SILENCE_NOT_FOUND))


@router.route("/{silence_id}", "DELETE")
async def end_silence(silence_id: str, call: TheCall) -> None:
    """End a silence: people are told at once what holds."""
    silence = await _found(call, silence_id, Action.EDIT)
    if not await call.store.silences.end(silence.identifier, now(), actor=call.actor):
        raise not_found(ErrorCode.SILENCE_NOT_FOUND)


def _check(starts_at: int, ends_at: int, moment: int) -> None:
    """Check when a silence is to be.

    Raises:
        HeliographError: VALIDATION_FAILED.
    """
    if ends_at <= max(starts_at, moment):
        detail = "ends_at should be in the future, and after starts_at"
        raise HeliographError(ErrorCode.VALIDATION_FAILED, detail)
    if ends_at - starts_at > LONGEST_SILENCE:
        detail = f"A silence is {LONGEST_SILENCE // DAY} days long at most"
        raise HeliographError(ErrorCode.VALIDATION_FAILED, detail)


async def _found(call: KnownCall, identifier: str, action: Action) -> Silence:
    """Return the silence if the caller may do this with what is in its network.

    Raises:
        HeliographError: SILENCE_NOT_FOUND, none for this caller; FORBIDDEN.
    """
    silence = await call.store.silences.find(identifier)
    if silence is None or not may_in(call, Action.VIEW, silence.network_identifier):
        raise forbidden() if is_machine(call.caller) else not_found(ErrorCode.SILENCE_NOT_FOUND)
    if not may_in(call, action, silence.network_identifier):
        raise forbidden()
    return silence
